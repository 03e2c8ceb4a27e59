"""Dataclasses whose fields say what they are and what they may hold: one place for the checks and the JSON schema."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from lawfit.errors import LawfitError
from lawfit.records import Json


class PackError(LawfitError):
    """A pack says something that cannot be trained: which field, what it holds, what it may hold."""


@dataclass(frozen=True)
class About:
    """Stands in the annotation of a field: `lr: Annotated[float, About("Peak learning rate.", above=0)]`."""

    text: str
    minimum: float | None = None
    above: float | None = None  # the bound itself is not allowed
    maximum: float | None = None
    below: float | None = None  # the bound itself is not allowed
    choices: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()  # names that may have numbers behind a colon

    def allows(self, value: Any) -> bool:
        if isinstance(value, str):
            return (not self.choices or value in self.choices) and (
                not self.begins or value.partition(":")[0] in self.begins
            )
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return True  # no bound applies to it
        return (
            _is_finite(value)
            and (self.minimum is None or value >= self.minimum)
            and (self.above is None or value > self.above)
            and (self.maximum is None or value <= self.maximum)
            and (self.below is None or value < self.below)
        )

    @property
    def allowed(self) -> str:
        """In words."""
        if self.choices or self.begins:
            return "one of " + ", ".join(self.choices or self.begins)
        if self.minimum is None and self.above is None:
            return "a finite number"
        low = f"{self.minimum:g} or more" if self.minimum is not None else f"above {self.above:g}"
        if self.maximum is None and self.below is None:
            return low
        left = f"[{self.minimum:g}" if self.minimum is not None else f"({self.above:g}"
        return f"in {left}, {self.maximum:g}]" if self.maximum is not None else f"in {left}, {self.below:g})"

    @property
    def schema(self) -> dict[str, Json]:
        names = {"minimum": "minimum", "above": "exclusiveMinimum", "maximum": "maximum", "below": "exclusiveMaximum"}
        bounds = {key: getattr(self, name) for name, key in names.items() if getattr(self, name) is not None}
        words: dict[str, Json] = {"enum": list(self.choices)} if self.choices else {}
        if self.begins:
            words = {"pattern": f"^({'|'.join(self.begins)})(:.+)?$"}
        return {"description": self.text, **words, **bounds}


@dataclass(frozen=True)
class Field:
    name: str
    hint: Any  # its type
    about: About
    default: Any  # dataclasses.MISSING where there is none

    @property
    def real(self) -> bool:
        """Whether it holds numbers that need not be whole: a file may say 1 for 1.0."""
        return float in (self.hint, *get_args(self.hint))


_fields: dict[type, tuple[Field, ...]] = {}  # reading annotations takes longer than all checks


def fields_of(kind: type) -> tuple[Field, ...]:
    if kind not in _fields:
        _fields[kind] = tuple(_read_fields(kind))
    return _fields[kind]


def _read_fields(kind: type) -> Iterator[Field]:
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint, about = hints[field.name], About("")
        if get_origin(hint) is Annotated:
            hint, about = get_args(hint)
        yield Field(name=field.name, hint=hint, about=about, default=field.default)


def demand(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise PackError(f"{name} must be {allowed}, got {value}")


def check(instance: Any, prefix: str = "") -> None:
    """Every field within its bounds."""
    for field in fields_of(type(instance)):
        value = getattr(instance, field.name)
        if not field.about.allows(value):
            finite = not isinstance(value, (int, float)) or _is_finite(value)
            demand(False, prefix + field.name, value, field.about.allowed if finite else "a finite number")


T = TypeVar("T")


def build(kind: type[T], content: Json, where: str) -> T:
    """Dataclass from a JSON object; every complaint names the field."""
    dot = f"{where}." if where else ""
    if not isinstance(content, Mapping):
        raise PackError(f"{where} must be an object")
    declared = fields_of(kind)
    if unknown := sorted(set(content) - {field.name for field in declared}):
        names = ", ".join(field.name for field in declared)
        raise PackError(f"unknown field {dot}{unknown[0]}; the fields are {names}")
    for field in declared:
        if field.name not in content:
            if field.default is dataclasses.MISSING:
                raise PackError(f"{dot}{field.name} is missing")
        elif not _fits(content[field.name], field.hint):
            raise PackError(f"{dot}{field.name} must be {_kind_name(field.hint)}, got {content[field.name]!r}")
    try:
        return kind(**content)
    except PackError as error:
        raise PackError(f"{where}: {error}" if where and where != "model" else str(error)) from None


def object_schema(kind: type, **nested: Json) -> dict[str, Json]:
    """JSON schema (draft 2020-12) of a dataclass; `nested` has those of fields that are no plain values."""
    properties = {}
    for field in fields_of(kind):
        default = {} if field.default is dataclasses.MISSING else {"default": field.default}
        own = nested.get(field.name) or {"type": _json_type(field.hint)}
        properties[field.name] = own | field.about.schema | default
    required = [field.name for field in fields_of(kind) if field.default is dataclasses.MISSING]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _is_finite(value: float) -> bool:
    """Also of whole numbers that no float can hold."""
    return abs(value) <= sys.float_info.max


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if hint is NoneType or value is None:
        return value is None and hint is NoneType
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and _is_finite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, get_origin(hint) or hint)


def _kind_name(hint: Any) -> str:
    names = {int: "a whole number", float: "a finite number", str: "a text", bool: "true or false", NoneType: "null"}
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_kind_name(option) for option in get_args(hint))
    return names.get(hint, str(hint))


def _json_type(hint: Any) -> str | list[str]:
    names = {int: "integer", float: "number", str: "string", bool: "boolean", NoneType: "null"}
    if get_origin(hint) in (Union, UnionType):
        return [names[option] for option in get_args(hint)]
    return names[hint]
