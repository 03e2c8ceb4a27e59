"""Questions that are typed into a form: its inputs, and how a number that was typed can be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from lawfit.ask import Misasked, ThirdInputs, number, questions_fields, read
from lawfit.declared import Field as Declared
from lawfit.factors import asked_levels, levels_typed

Question = TypeVar("Question", bound=ThirdInputs)
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


def typed(kind: type[ThirdInputs], query: Mapping[str, str]) -> dict[str, str]:
    """What was typed into each input of a form, and the levels of settings."""
    names = [field.name for field in form_fields(kind)]
    return {name: query.get(name, "").strip() for name in [*names, "at"]}


def form_fields(kind: type[ThirdInputs]) -> list[Declared]:
    """Of a question: those that its form has."""
    return [field for field in questions_fields(kind) if field.about.label]


def inputs(kind: type[ThirdInputs], said: Mapping[str, str], problems: Mapping[str, str]) -> list[Field]:
    """The inputs of the form of a question as they are shown again, levels of settings last."""
    numbers = [
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
    return [*numbers, level_field(said.get("at", ""), problems.get("at", ""))]


def problems_of(kind: type[ThirdInputs], said: Mapping[str, str]) -> dict[str, str]:
    """Input -> what is wrong with it, as a sentence; empty when all is well."""
    found = {}
    for field in form_fields(kind):
        if problem := _problem(field, said[field.name]):
            found[field.name] = f"{field.about.label}: {problem}."
    if problem := level_problem(said["at"]):
        found["at"] = problem
    return found


def _problem(field: Declared, text: str) -> str:
    if not text:
        return f"a number is needed, for instance {field.about.example}" if field.needed else ""
    if len(text) > LONGEST:
        return f"longer than {LONGEST} characters"
    try:
        value = number(field, text)
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


AT_LABEL, AT_EXAMPLE = "Level of a setting", "beta2=0.95"


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
