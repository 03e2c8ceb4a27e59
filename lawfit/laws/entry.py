"""One published law: its formulas with their conventions, range and provenance, and what it says at a scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.findings import Found, as_json, finding
from lawfit.laws.critical_batch import Definition
from lawfit.laws.named import NamedForm
from lawfit.laws.power import POWER_PRODUCT, Law

Floats = NDArray[np.float64]

TARGETS: Final[tuple[str, ...]] = ("lr", "batch_tokens")
# What a law is about, and the targets that make it so; a law belongs to the first kind that it has a target of.
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "lr_batch": TARGETS,
    "critical_batch": ("critical_batch_tokens",),
    "weight_decay": ("timescale", "weight_decay"),
    "optimizer": ("beta2",),
    "loss": ("loss",),
    "allocation": (
        *("optimal_params", "optimal_tokens", "optimal_flops_per_token", "optimal_batch_tokens", "optimal_steps"),
        "least_tokens",
    ),
}
# What else a law may give, through `PublishedLaw.evaluate`: no part of a recommendation of lr and batch.
OTHER_TARGETS: Final[tuple[str, ...]] = tuple(
    target for kind, targets in KINDS.items() if kind != "lr_batch" for target in targets
)
AT_BATCH: Final = ("jointly_optimal", "fixed", "input", "none")
CHECKED: Final = ("V1", "V2", "CALC", "ABS", "MEM")
UNVERIFIED: Final = ("ABS", "MEM")
# What exponents are measured of, as evidence for what is lent; and what a level (or asymptote) is lent of.
PRIOR_TARGETS: Final[tuple[str, ...]] = (
    *("lr_joint", "lr_given_batch", "batch"),
    *("timescale", "critical_batch", "least_tokens_batch"),
)
VOTES: Final[tuple[str, ...]] = (*TARGETS, "loss")
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

    target: str  # one of TARGETS or OTHER_TARGETS
    law: Law | NamedForm
    const: float | None  # None: only exponents are published, so the law scales an anchor; or the form has names
    exponents: Mapping[str, float]
    coefficients: Mapping[str, float] = field(default_factory=dict)  # of a `NamedForm`, those that were published
    sd: Mapping[str, float] = field(default_factory=dict)  # of exponents or coefficients, where the source gives it
    output_unit: str = "1"  # "1", "tokens" or "sequences"
    seq_len: float | None = None  # tokens per sequence, when the output is in sequences
    floor: float | None = None
    cap: float | None = None
    rounding: str = ""  # "power_of_two" or nothing
    definition: Mapping[str, float] = field(default_factory=dict)  # of a critical batch: critical_batch.Definition

    @property
    def needs_anchor(self) -> bool:
        """Whether too little is published to give a number: it carries a tuned one from one setting to another."""
        if isinstance(self.law, NamedForm):
            return not set(self.law.coefficients) <= set(self.coefficients)
        return self.const is None

    @property
    def inputs(self) -> tuple[str, ...]:
        """What it takes, in order."""
        return self.law.inputs if isinstance(self.law, NamedForm) else tuple(self.exponents)

    def of(self, scaled: Mapping[str, ArrayLike]) -> Floats:
        """The formula at inputs in its own units, before unit, floor, cap and rounding."""
        if isinstance(self.law, NamedForm):
            return self.law(self.coefficients, scaled)
        assert self.const is not None
        return self.law(self.const, self.exponents, scaled)

    def expression(self, inputs: Mapping[str, LawInput]) -> Found:
        """The formula for people: ``lr = 1.79 * params^-0.713 * tokens^0.307``."""
        if isinstance(self.law, NamedForm):
            return f"{self.target} = {self.law.words(self.coefficients)}"
        const = "c" if self.const is None else f"{self.const:.6g}"
        terms = []
        for name, exponent in self.exponents.items():
            unit = inputs[name].unit
            x = name if unit == 1 else f"({name} / {unit:.10g})"
            sloped = f"{exponent:+.6g} * ln {x}" if self.law.name == "affine_log" else f"{x}^{exponent:.6g}"
            terms.append(x if exponent == 1 and self.law.name != "affine_log" else sloped)
        if self.law.name == "affine_log":
            text = " ".join([const, *terms])
        elif self.law.name == "exponential":
            text = f"{const}^{' * '.join(terms)}"
        else:
            text = " * ".join(terms if self.const == 1 and terms else [const, *terms])
        text = f"{self.target} = {text}"
        if self.output_unit == "sequences":
            text += f" sequences of {self.seq_len:g} tokens"
        if self.floor is not None:
            text += f", at least {self.floor:g}"
        if self.cap is not None:
            text += f", at most {self.cap:g}"
        if self.rounding:
            text += f", rounded to a {self.rounding.replace('_', ' ')}"
        if self.definition:
            return finding("rules.formula", formula=text, definition=Definition.from_json(self.definition).words())
        return text


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
    evidence: str  # the source whose runs it was fitted on: `cite`, or another one; laws of one body lend one vote
    form_checked: str
    coefficients_checked: str
    at_batch: str
    fixed_batch_tokens: float | None
    votes: tuple[str, ...]  # targets whose level counts in `priors.level_prior`; "loss": its asymptote, in `lent`
    needs: tuple[str, ...]
    caveats: tuple[str, ...]
    context: Mapping[str, str]
    inputs: Mapping[str, LawInput]
    formulas: Mapping[str, Formula]
    exponents: tuple[ExponentEvidence, ...]

    @property
    def verified(self) -> bool:
        """False where a form or coefficient is from memory, or from an abstract alone: shown, no default, no prior."""
        return not {self.form_checked, self.coefficients_checked} & set(UNVERIFIED)

    @property
    def checked(self) -> str:
        return f"form {self.form_checked}, coefficients {self.coefficients_checked}"

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(self.formulas)

    @cached_property
    def kind(self) -> str:
        """What it is about: one of KINDS."""
        return next(kind for kind, targets in KINDS.items() if set(targets) & set(self.formulas))

    @property
    def params_convention(self) -> str:
        """What its params count; "" where no formula takes params, "unknown" where the source does not say."""
        return self.inputs["params"].convention if "params" in self.inputs else ""

    def to_json(self) -> dict[str, Any]:
        """Everything about it as JSON values, with each formula's expression spelled out."""
        return {
            **{
                name: getattr(self, name)
                for name in ("id", "label", "cite", "evidence", "form_checked", "coefficients_checked")
            },
            "kind": self.kind,
            "checked": self.checked,
            "verified": self.verified,
            "at_batch": self.at_batch,
            "fixed_batch_tokens": self.fixed_batch_tokens,
            "needs": list(self.needs),
            "caveats": list(self.caveats),
            "context": dict(self.context),
            "inputs": {name: asdict(spec) for name, spec in self.inputs.items()},
            "formulas": {target: self._formula_json(formula) for target, formula in self.formulas.items()},
            "exponents": [asdict(evidence) for evidence in self.exponents],
        }

    def _formula_json(self, formula: Formula) -> dict[str, Any]:
        values = {
            name: getattr(formula, name) for name in ("const", "output_unit", "seq_len", "floor", "cap", "rounding")
        }
        return {
            "expression": as_json(formula.expression(self.inputs)),
            "form": formula.law.name,
            "inputs": list(formula.inputs),
            "exponents": dict(formula.exponents),
            "coefficients": dict(formula.coefficients),
            "needs_anchor": formula.needs_anchor,
            "sd": dict(formula.sd),
            "definition": dict(formula.definition),
            **values,
        }

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
        if formula.needs_anchor:
            raise ValueError(f"{self.id} publishes exponents of {target} only; it needs a tuned value to scale from")
        if "flops" in formula.inputs and "flops" not in inputs and {"params", "tokens"} <= set(inputs):
            inputs["flops"] = (
                6.0 * np.asarray(inputs["params"], dtype=float) * np.asarray(inputs["tokens"], dtype=float)
            )
        scaled = {
            name: np.asarray(value, dtype=float) / (self.inputs[name].unit if name in self.inputs else 1.0)
            for name, value in inputs.items()
            if name in formula.inputs
        }
        try:
            with np.errstate(over="ignore"):  # far beyond all runs: infinite, which is no answer either
                value = formula.of(scaled)
        except ValueError as error:
            raise ValueError(f"{self.id}, {target}: {error}") from None
        if formula.output_unit == "sequences":
            value = value * (formula.seq_len or math.nan)
        if formula.floor is not None:
            value = np.maximum(value, formula.floor)
        if formula.cap is not None:
            value = np.minimum(value, formula.cap)
        if formula.rounding == "power_of_two":
            value = np.exp2(np.round(np.log2(value)))
        return np.where(value > 0, value, np.nan)

    def factor(self, target: str, **ratios: ArrayLike) -> Floats:
        """By what one target is multiplied when its inputs are, by these factors: what exponents alone can tell.

        ``law.factor("lr", tokens=4)`` is the learning rate at four times the tokens over the one before.

        Raises
        ------
        ValueError
            The law is no product of powers, or a factor is missing, not positive, or of what the law does not take.
        """
        formula = self.formulas.get(target)
        if formula is None or formula.law.name != "power_product":
            raise ValueError(f"{self.id} gives no {target} as a product of powers")
        if strange := sorted(set(ratios) - set(formula.exponents)):
            raise ValueError(f"{self.id}: {target} does not depend on {', '.join(strange)}")
        given = {name: ratios.get(name, 1.0) for name in formula.exponents}
        return POWER_PRODUCT(1.0, formula.exponents, given)

    def missing(self, target: str, *, has_batch: bool) -> tuple[str, ...]:
        """Inputs without which (params, tokens[, batch_tokens]) do not suffice for one target; empty if they do."""
        if target not in self.formulas:
            return ()
        formula = self.formulas[target]
        given = _GIVEN if has_batch else _GIVEN - {"batch_tokens"}
        more = formula.law.needs if isinstance(formula.law, NamedForm) else ()
        lacking = (*(name for name in formula.inputs if name not in given), *more)
        return ("anchor", *lacking) if formula.needs_anchor else lacking

    @cached_property
    def _lacking(self) -> Mapping[bool, Mapping[str, tuple[str, ...]]]:
        """Whether a batch is given -> target -> what is `missing`."""
        return {given: {each: self.missing(each, has_batch=given) for each in self.formulas} for given in (False, True)}

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
        for target, lacking in self._lacking[batch_tokens is not None].items():
            if lacking:
                needs += [name for name in lacking if name not in needs]
            elif target in values:
                found = self.evaluate(target, **inputs)
                values[target] = found if found.shape == shape else np.broadcast_to(found, shape).copy()
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
