"""Questions that are typed into a form: its inputs, and how a number that was typed can be wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from lawfit.ask import Misasked, questions_fields, read, value_of
from lawfit.ask import Question as Asked
from lawfit.declared import Field as Declared
from lawfit.factors import asked_levels, levels_typed
from lawfit.units import format_quantity, parse_quantity

Question = TypeVar("Question", bound=Asked)
LONGEST: Final = 60  # characters of a number that is typed


@dataclass(frozen=True, kw_only=True)
class Field:
    """One input of the form as it is shown again."""

    name: str
    label: str
    value: str
    placeholder: str
    needed: bool
    problem: str


def typed(kind: type[Asked], query: Mapping[str, str]) -> dict[str, str]:
    """What was typed into each input of a form, and the levels of settings."""
    names = [field.name for field in form_fields(kind)]
    return {name: query.get(name, "").strip() for name in [*names, "at"]}


def form_fields(kind: type[Asked]) -> list[Declared]:
    """Of a question: those that its form has."""
    return [field for field in questions_fields(kind) if field.about.label]


def inputs(kind: type[Asked], said: Mapping[str, str], problems: Mapping[str, str]) -> list[Field]:
    """The inputs of the form of a question as they are shown again, levels of settings last."""
    return [*own_inputs(kind, said, problems), level_field(said.get("at", ""), problems.get("at", ""))]


def own_inputs(kind: type[Asked], said: Mapping[str, str], problems: Mapping[str, str]) -> list[Field]:
    """Those of the question's own fields."""
    return [
        Field(
            name=field.name,
            label=field.about.label,
            value=said.get(field.name, ""),
            placeholder=field.about.example,
            needed=field.needed,
            problem=problems.get(field.name, ""),
        )
        for field in form_fields(kind)
    ]


def folded(fields: Sequence[Field], first: Collection[str]) -> dict[str, Any]:
    """What a form shows: the inputs that a question is asked with, and the others, folded away unless used."""
    options = [field for field in fields if field.name not in first]
    return {
        "fields": [field for field in fields if field.name in first],
        "options": options,
        "options_open": any(field.value or field.problem for field in options),
    }


def problems_of(kind: type[Asked], said: Mapping[str, str]) -> dict[str, str]:
    """Input -> what is wrong with it, as a sentence; empty when all is well."""
    problem = level_problem(said["at"])
    return own_problems(kind, said) | ({"at": problem} if problem else {})


def own_problems(kind: type[Asked], said: Mapping[str, str]) -> dict[str, str]:
    """The same of the question's own fields."""
    found = {}
    for field in form_fields(kind):
        if problem := _problem(field, said[field.name]):
            found[field.name] = f"{field.about.label}: {problem}."
    return found


def _problem(field: Declared, text: str) -> str:
    if not text:
        what = "an amount" if field.text else "a number"
        return f"{what} is needed, for instance {field.about.example}" if field.needed else ""
    if len(text) > LONGEST:
        return f"longer than {LONGEST} characters"
    try:
        value = value_of(field, text)
    except Misasked as error:
        return error.problem
    return "" if field.about.allows(value) else f"{text} is not {field.about.allowed}"


def asked(kind: type[Question], said: Mapping[str, str]) -> Question:
    """The question that was typed.

    Raises
    ------
    ValueError
        It contradicts itself.
    """
    return read(kind, {name: text for name, text in said.items() if name != "at"})


def typed_number(value: float) -> str:
    """A number as a person types it, 200M, where that says it whole."""
    short = format_quantity(value)
    return short if parse_quantity(short) == value else f"{value:.17g}"


AT_LABEL, AT_EXAMPLE = "Level of a setting", "beta2=0.95"


def in_labels(kind: type[Asked], message: str) -> str:
    """A message about fields of a question with the labels of their inputs in place of their names."""
    for field in form_fields(kind):
        if "_" in field.name:
            message = message.replace(field.name, f"'{field.about.label}'")
    return message


def level_problem(text: str) -> str:
    """What is wrong with the levels that were typed, as a sentence; empty when nothing is."""
    try:
        asked_levels(levels_typed(text))
    except ValueError as error:
        return f"{AT_LABEL}: {error}."
    return ""


def level_field(value: str, problem: str) -> Field:
    """The input for levels of settings that vary in the runs, on every form."""
    return Field(name="at", label=AT_LABEL, value=value, placeholder=AT_EXAMPLE, needed=False, problem=problem)
