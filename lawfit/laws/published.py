"""Published laws, read from ``data/laws.toml``, whose header explains every field."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from functools import cache
from typing import Any

from lawfit.errors import LawfitError, UnknownLaw
from lawfit.findings import finding
from lawfit.laws.critical_batch import Definition
from lawfit.laws.entry import (
    AT_BATCH,
    CHECKED,
    OTHER_TARGETS,
    PRIOR_TARGETS,
    TARGETS,
    UNVERIFIED,
    VOTES,
    ExponentEvidence,
    Formula,
    LawInput,
    LawPrediction,
    PublishedLaw,
)
from lawfit.laws.named import NAMED_FORMS
from lawfit.laws.power import INPUTS, LAWS
from lawfit.settings import data_folder

__all__ = [
    "ExponentEvidence",
    "Formula",
    "LawInput",
    "LawPrediction",
    "PublishedLaw",
    "published_law",
    "published_laws",
]


@cache
def published_laws() -> Mapping[str, PublishedLaw]:
    """All laws of ``data/laws.toml`` by id, in the order of the file; read once.

    Raises
    ------
    LawfitError
        The file is missing or an entry is malformed; the message names the entry.
    """
    path = data_folder() / "laws.toml"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))["law"]
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise LawfitError(finding("published.unreadable", path=str(path), why=error)) from None
    laws: dict[str, PublishedLaw] = {}
    for table in tables:
        try:
            law = _read_law(dict(table))
        except (KeyError, TypeError, ValueError) as error:
            malformed = finding("published.malformed", path=str(path), law=table.get("id", "?"), why=error)
            raise LawfitError(malformed) from None
        if law.id in laws:
            raise LawfitError(finding("published.same_id", path=str(path), law=law.id))
        laws[law.id] = law
    return laws


def published_law(law_id: str) -> PublishedLaw:
    """One law by id.

    Raises
    ------
    UnknownLaw
        With the ids that exist.
    """
    laws = published_laws()
    if law_id not in laws:
        raise UnknownLaw(finding("published.no_such_law", law=law_id, laws=list(laws)))
    return laws[law_id]


def _read_law(table: dict[str, Any]) -> PublishedLaw:
    law_id = table.pop("id")
    checks = {name: _one_of(table.pop(name), CHECKED) for name in ("form_checked", "coefficients_checked")}
    exponents_checked = _one_of(table.pop("exponents_checked", checks["coefficients_checked"]), CHECKED)
    inputs = {name: _read_input(name, dict(spec)) for name, spec in table.pop("inputs").items()}
    formulas = {
        target: _read_formula(target, dict(table.pop(target)))
        for target in (*TARGETS, *OTHER_TARGETS)
        if target in table
    }
    evidence = tuple(_read_evidence(law_id, exponents_checked, dict(e)) for e in table.pop("exponents", []))
    law = PublishedLaw(
        id=law_id,
        label=table.pop("label"),
        cite=table["cite"],
        evidence=table.pop("evidence", table.pop("cite")),
        at_batch=_one_of(table.pop("at_batch"), AT_BATCH),
        fixed_batch_tokens=table.pop("fixed_batch_tokens", None),
        votes=tuple(_one_of(target, VOTES) for target in table.pop("votes", ())),
        needs=tuple(table.pop("needs", ())),
        caveats=tuple(table.pop("caveats")),
        context={name: str(value) for name, value in table.pop("context").items()},
        inputs=inputs,
        formulas=formulas,
        exponents=evidence,
        **checks,
    )
    _nothing_left(table)
    if not formulas:
        raise ValueError(f"gives none of {', '.join((*TARGETS, *OTHER_TARGETS))}")
    _lends_nothing_unverified(law)
    for formula in formulas.values():
        if undeclared := sorted(set(formula.inputs) - set(inputs)):
            raise ValueError(f"{formula.target} depends on {', '.join(undeclared)}, which `inputs` does not declare")
    return law


def _lends_nothing_unverified(law: PublishedLaw) -> None:
    """What rests on memory, or on an abstract alone, is shown and never lent, whoever asks for it."""
    if law.votes and not law.verified:
        raise ValueError(f"votes on {', '.join(law.votes)}, though not verified ({law.checked})")
    if unread := sorted({row.of for row in law.exponents if row.checked in UNVERIFIED}):
        raise ValueError(f"gives exponents ({', '.join(unread)}) as evidence that were not verified")


def _read_input(name: str, spec: dict[str, Any]) -> LawInput:
    if name not in INPUTS and name != "tokens_per_param":
        raise ValueError(f"unknown input '{name}'")
    low, high = (None if bound == "unknown" else float(bound) for bound in spec.pop("range"))
    result = LawInput(
        name=name, convention=spec.pop("convention"), unit=float(spec.pop("unit", 1.0)), low=low, high=high
    )
    _nothing_left(spec)
    return result


def _read_formula(target: str, spec: dict[str, Any]) -> Formula:
    const = spec.pop("const", None)
    if (log_const := spec.pop("log_const", None)) is not None:
        const = math.exp(log_const)
    name = spec.pop("form")
    formula = Formula(
        target=target,
        law=NAMED_FORMS[name] if name in NAMED_FORMS else LAWS[name],
        const=None if const is None else float(const),
        exponents={name: float(value) for name, value in spec.pop("exponents", {}).items()},
        coefficients={name: float(value) for name, value in spec.pop("coefficients", {}).items()},
        sd={name: float(value) for name, value in spec.pop("sd", {}).items()},
        output_unit=_one_of(spec.pop("output_unit", "1"), ("1", "tokens", "sequences")),
        seq_len=spec.pop("seq_len", None),
        floor=spec.pop("floor", None),
        cap=spec.pop("cap", None),
        rounding=_one_of(spec.pop("rounding", ""), ("", "power_of_two")),
        definition={name: float(value) for name, value in spec.pop("definition", {}).items()},
    )
    _nothing_left(spec)
    named = set(NAMED_FORMS[name].coefficients) if name in NAMED_FORMS else set()
    if strange := sorted(set(formula.coefficients) - named):
        raise ValueError(f"{target}: the form '{name}' has no coefficient {', '.join(strange)}")
    if named and (formula.exponents or formula.const is not None or not formula.coefficients):
        raise ValueError(f"{target}: the form '{name}' takes `coefficients`: {', '.join(sorted(named))}")
    if (formula.output_unit == "sequences") != (formula.seq_len is not None):
        raise ValueError(f"{target}: a seq_len goes with an output in sequences, and only with that")
    if (target == "critical_batch_tokens") != bool(formula.definition):
        raise ValueError(f"{target}: a definition goes with a critical batch, and only with that")
    if formula.definition:
        Definition.from_json(formula.definition)
    return formula


def _read_evidence(law_id: str, checked: str, spec: dict[str, Any]) -> ExponentEvidence:
    evidence = ExponentEvidence(
        law=law_id,
        of=_one_of(spec.pop("of"), PRIOR_TARGETS),
        along={name: float(weight) for name, weight in spec.pop("along").items()},
        value=float(spec.pop("value")),
        sd=spec.pop("sd", None),
        checked=_one_of(spec.pop("checked", checked), CHECKED),
        note=spec.pop("note", ""),
    )
    _nothing_left(spec)
    return evidence


def _one_of(value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"'{value}' is not one of {', '.join(repr(a) for a in allowed)}")
    return value


def _nothing_left(table: dict[str, Any]) -> None:
    if table:
        raise ValueError(f"unknown field(s) {', '.join(sorted(table))}")
