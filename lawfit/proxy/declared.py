"""Packs and grids from JSON: every complaint names the field, what it holds and what it may hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin

from lawfit.declared import fields_of, is_finite
from lawfit.errors import LawfitError
from lawfit.records import Json


class PackError(LawfitError):
    """A pack says something that cannot be trained: which field, what it holds, what it may hold."""


QUOTED: Final = 100  # characters of a name or a value, where it is told what is wrong with it


def shortened(text: str) -> str:
    """What somebody sent, as far as a sentence says it again."""
    return text if len(text) <= QUOTED else f"{text[:QUOTED]}..."


def demand(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise PackError(f"{name} must be {allowed}, got {shortened(str(value))}")


def check(instance: Any, prefix: str = "") -> None:
    """Every field within its bounds."""
    for field in fields_of(type(instance)):
        value = getattr(instance, field.name)
        if not field.about.allows(value):
            finite = not isinstance(value, (int, float)) or is_finite(value)
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
        raise PackError(f"unknown field {dot}{shortened(unknown[0])}; the fields are {names}")
    for field in declared:
        if field.name not in content:
            if field.default is dataclasses.MISSING:
                raise PackError(f"{dot}{field.name} is missing")
        elif not _fits(content[field.name], field.hint):
            got = shortened(repr(content[field.name]))
            raise PackError(f"{dot}{field.name} must be {_kind_name(field.hint)}, got {got}")
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


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if hint is NoneType or value is None:
        return value is None and hint is NoneType
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and is_finite(value)
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
