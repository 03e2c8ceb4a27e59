"""Dataclasses whose fields say what they are and may hold: one place for checks, schemas, options and forms."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

Json = Any


@dataclass(frozen=True)
class About:
    """Stands in the annotation of a field: `lr: Annotated[float, About("Peak learning rate.", above=0)]`."""

    text: str
    letter: str = ""  # that stands for its value in help texts
    option: str = ""  # what the command line calls it, where that is not the field's name
    label: str = ""  # on a form; empty: not there
    example: str = ""  # likewise
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
            is_finite(value)
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
        if not self._ends():
            return "a finite number"
        ends = {name: f"{value:g}".replace("e+", "e") for name, value in self._ends().items()}
        if {"minimum", "maximum"} <= ends.keys():
            return f"between {ends['minimum']} and {ends['maximum']}"
        words = {"minimum": "{} or more", "above": "above {}", "maximum": "at most {}", "below": "below {}"}
        return " and ".join(words[name].format(end) for name, end in ends.items())

    def _ends(self) -> dict[str, float]:
        found = {name: getattr(self, name) for name in ("minimum", "above", "maximum", "below")}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def bounds(self) -> dict[str, float]:
        """As JSON schema has them."""
        names = {"above": "exclusiveMinimum", "below": "exclusiveMaximum"}
        return {names.get(name, name): value for name, value in self._ends().items()}

    @property
    def schema(self) -> dict[str, Json]:
        words: dict[str, Json] = {"enum": list(self.choices)} if self.choices else {}
        if self.begins:
            words = {"pattern": f"^({'|'.join(self.begins)})(:.+)?$"}
        return {"description": self.text, **words, **self.bounds}


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

    @property
    def text(self) -> bool:
        """Words or ids, not a number."""
        return str in (self.hint, *get_args(self.hint))

    @property
    def needed(self) -> bool:
        return self.default is dataclasses.MISSING


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


def is_finite(value: float) -> bool:
    """Also of whole numbers that no float can hold."""
    return abs(value) <= sys.float_info.max
