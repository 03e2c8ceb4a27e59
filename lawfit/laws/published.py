"""Published laws from ``data/laws.toml``: each with its conventions, range, source and how well it was checked."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import LawfitError, UnknownLaw
from lawfit.laws.power import INPUTS, LAWS, Law
from lawfit.settings import data_folder

Floats = NDArray[np.float64]

TARGETS: Final[tuple[str, ...]] = ("lr", "batch_tokens")
AT_BATCH: Final = ("jointly_optimal", "fixed", "input", "none")
CHECKED: Final = ("V1", "V2", "CALC", "MEM")
PRIOR_TARGETS: Final[tuple[str, ...]] = ("lr_joint", "lr_given_batch", "batch")
_GIVEN: Final = frozenset({"params", "tokens", "batch_tokens", "flops", "tokens_per_param"})


@dataclass(frozen=True, kw_only=True)
class LawInput:
    """One input of a law: what it counts, in which unit, and where it was measured."""

    name: str
    convention: str  # "non_embedding", "tokens per step", ...; "unknown" where the source does not say
    unit: float  # the input is divided by this before it enters the formula
    low: float | None  # plain units; None: the source does not say
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Formula:
    """One target of a law, in its own coefficients."""

    target: str  # one of TARGETS
    law: Law
    const: float | None  # None: only exponents are published, so the law scales an anchor
    exponents: Mapping[str, float]
    sd: Mapping[str, float] = field(default_factory=dict)  # of the exponents, where the source gives it
    output_unit: str = "1"  # "1", "tokens" or "sequences"
    seq_len: float | None = None  # tokens per sequence, when the output is in sequences
    cap: float | None = None
    rounding: str = ""  # "power_of_two" or nothing


@dataclass(frozen=True, kw_only=True)
class ExponentEvidence:
    """What one law says about exponents e: ``sum along_i * e_i = value``."""

    law: str  # id
    of: str  # one of PRIOR_TARGETS
    along: Mapping[str, float]
    value: float
    sd: float | None
    checked: str
    note: str


@dataclass(frozen=True, kw_only=True)
class LawPrediction:
    """What a law says at a scale; None for a target that it does not give, or not without what `needs` names."""

    lr: Floats | None
    batch_tokens: Floats | None
    needs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PublishedLaw:
    """A fit that others made."""

    id: str
    label: str
    cite: str
    form_checked: str
    coefficients_checked: str
    at_batch: str
    fixed_batch_tokens: float | None
    needs: tuple[str, ...]
    caveats: tuple[str, ...]
    context: Mapping[str, str]
    inputs: Mapping[str, LawInput]
    formulas: Mapping[str, Formula]
    exponents: tuple[ExponentEvidence, ...]

    @property
    def verified(self) -> bool:
        """False where a form or coefficient is from memory: such a law is shown, never a default nor a prior."""
        return "MEM" not in (self.form_checked, self.coefficients_checked)

    @property
    def checked(self) -> str:
        return f"form {self.form_checked}, coefficients {self.coefficients_checked}"

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(self.formulas)

    @property
    def params_convention(self) -> str:
        """What its params count; "" where no formula takes params, "unknown" where the source does not say."""
        return self.inputs["params"].convention if "params" in self.inputs else ""

    def evaluate(self, target: str, **inputs: ArrayLike) -> Floats:
        """One target from its own inputs, in plain units; batch sizes in tokens per step.

        ``flops`` is made from params and tokens (6 * params * tokens) when it is not given. A value that is not
        positive (Kaplan's line beyond 1.2e10 parameters) comes back as NaN: the law has no answer there.

        Raises
        ------
        ValueError
            The law does not give the target, an input is missing, or only its exponents are published.
        """
        if target not in self.formulas:
            raise ValueError(f"{self.id} gives {', '.join(self.targets)}, not {target}")
        formula = self.formulas[target]
        if formula.const is None:
            raise ValueError(f"{self.id} publishes exponents of {target} only; it needs a tuned value to scale from")
        if "flops" in formula.exponents and "flops" not in inputs and {"params", "tokens"} <= set(inputs):
            inputs["flops"] = (
                6.0 * np.asarray(inputs["params"], dtype=float) * np.asarray(inputs["tokens"], dtype=float)
            )
        scaled = {
            name: np.asarray(value, dtype=float) / (self.inputs[name].unit if name in self.inputs else 1.0)
            for name, value in inputs.items()
        }
        try:
            value = formula.law(formula.const, formula.exponents, scaled)
        except ValueError as error:
            raise ValueError(f"{self.id}, {target}: {error}") from None
        if formula.output_unit == "sequences":
            value = value * (formula.seq_len or math.nan)
        if formula.cap is not None:
            value = np.minimum(value, formula.cap)
        if formula.rounding == "power_of_two":
            value = np.exp2(np.round(np.log2(value)))
        return np.where(value > 0, value, np.nan)

    def missing(self, target: str, *, has_batch: bool) -> tuple[str, ...]:
        """Inputs without which (params, tokens[, batch_tokens]) do not suffice for one target; empty if they do."""
        if target not in self.formulas:
            return ()
        formula = self.formulas[target]
        given = _GIVEN if has_batch else _GIVEN - {"batch_tokens"}
        lacking = tuple(name for name in formula.exponents if name not in given)
        return ("anchor", *lacking) if formula.const is None else lacking

    def predict(self, params: ArrayLike, tokens: ArrayLike, batch_tokens: ArrayLike | None = None) -> LawPrediction:
        """Learning rate and batch (tokens per step) at a scale, vectorised over arrays that broadcast.

        The law's own convention of params is assumed; nothing is converted. A law that needs more than a scale
        (its batch, a width, a loss, an anchor) answers None for that target and names it in `needs`.
        """
        inputs: dict[str, ArrayLike] = {"params": params, "tokens": tokens}
        if batch_tokens is not None:
            inputs["batch_tokens"] = batch_tokens
        shape = np.broadcast_shapes(*(np.shape(value) for value in inputs.values()))
        values: dict[str, Floats | None] = dict.fromkeys(TARGETS)
        needs: list[str] = []
        for target in self.formulas:
            if lacking := self.missing(target, has_batch=batch_tokens is not None):
                needs += [name for name in lacking if name not in needs]
                continue
            values[target] = np.broadcast_to(self.evaluate(target, **inputs), shape).copy()
        return LawPrediction(lr=values["lr"], batch_tokens=values["batch_tokens"], needs=tuple(needs))

    def outside_range(self, params: float, tokens: float, batch_tokens: float | None = None) -> dict[str, float]:
        """Decades beyond the range where the law was measured, per input with a known range; 0 inside.

        Inputs whose range the source does not give are absent: unknown is not the same as inside.
        """
        at = {"params": params, "tokens": tokens, "flops": 6.0 * params * tokens, "tokens_per_param": tokens / params}
        if batch_tokens is not None:
            at["batch_tokens"] = batch_tokens
        return {
            name: _decades_outside(at[name], spec.low, spec.high)
            for name, spec in self.inputs.items()
            if name in at and (spec.low is not None or spec.high is not None)
        }

    def in_range(self, params: float, tokens: float, batch_tokens: float | None = None) -> bool:
        """Whether the scale lies where the law was measured, as far as the source says (one part in a thousand)."""
        return all(decades < 5e-4 for decades in self.outside_range(params, tokens, batch_tokens).values())


def _decades_outside(value: float, low: float | None, high: float | None) -> float:
    below = math.log10(low / value) if low is not None else 0.0
    above = math.log10(value / high) if high is not None else 0.0
    return max(0.0, below, above)


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
        raise LawfitError(f"the catalogue of published laws {path} cannot be read: {error}") from None
    laws: dict[str, PublishedLaw] = {}
    for table in tables:
        try:
            law = _read_law(dict(table))
        except (KeyError, TypeError, ValueError) as error:
            raise LawfitError(f"{path}, law '{table.get('id', '?')}': {error!s}") from None
        if law.id in laws:
            raise LawfitError(f"{path}: two laws have the id '{law.id}'")
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
        raise UnknownLaw(f"no published law '{law_id}'; there are {', '.join(laws)}")
    return laws[law_id]


def _read_law(table: dict[str, Any]) -> PublishedLaw:
    law_id = table.pop("id")
    checks = {name: _one_of(table.pop(name), CHECKED) for name in ("form_checked", "coefficients_checked")}
    exponents_checked = _one_of(table.pop("exponents_checked", checks["coefficients_checked"]), CHECKED)
    inputs = {name: _read_input(name, dict(spec)) for name, spec in table.pop("inputs").items()}
    formulas = {target: _read_formula(target, dict(table.pop(target))) for target in TARGETS if target in table}
    evidence = tuple(_read_evidence(law_id, exponents_checked, dict(e)) for e in table.pop("exponents", []))
    law = PublishedLaw(
        id=law_id,
        label=table.pop("label"),
        cite=table.pop("cite"),
        at_batch=_one_of(table.pop("at_batch"), AT_BATCH),
        fixed_batch_tokens=table.pop("fixed_batch_tokens", None),
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
        raise ValueError(f"gives neither of {', '.join(TARGETS)}")
    for formula in formulas.values():
        if undeclared := sorted(set(formula.exponents) - set(inputs)):
            raise ValueError(f"{formula.target} depends on {', '.join(undeclared)}, which `inputs` does not declare")
    return law


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
    formula = Formula(
        target=target,
        law=LAWS[spec.pop("form")],
        const=None if const is None else float(const),
        exponents={name: float(value) for name, value in spec.pop("exponents").items()},
        sd={name: float(value) for name, value in spec.pop("sd", {}).items()},
        output_unit=_one_of(spec.pop("output_unit", "1"), ("1", "tokens", "sequences")),
        seq_len=spec.pop("seq_len", None),
        cap=spec.pop("cap", None),
        rounding=_one_of(spec.pop("rounding", ""), ("", "power_of_two")),
    )
    _nothing_left(spec)
    if (formula.output_unit == "sequences") != (formula.seq_len is not None):
        raise ValueError(f"{target}: a seq_len goes with an output in sequences, and only with that")
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
