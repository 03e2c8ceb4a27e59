"""Everything that measured critical batches say together: laws, which input they need, how far they can be trusted.

One call for a recipe's critical batches, whatever route they came by (`steps_to_target`, `data_laws`). The law in
tokens answers unless the data demand one in params: tokens are what the studies that could tell the two apart found
(arXiv 2410.21676, 2505.13738).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.critical_batch import CriticalBatch, measured_optima
from lawfit.estimate.optimum_law import (
    MeasuredOptima,
    OptimumLaw,
    Separation,
    curvature_interval,
    fit_optimum_law,
    separate_params_from_tokens,
)
from lawfit.laws.critical_batch import Definition
from lawfit.records import FitStatus

# Lent where fewer than three sizes were measured: the exponent of both published laws (0.47 and 0.462, V1 and V2).
LENT: Final[Mapping[str, tuple[float, float]]] = {"tokens": (0.465, 0.15)}
_INPUTS: Final = ("tokens", "params", "loss")


@dataclass(frozen=True, kw_only=True)
class LargestLeftOut:
    """The law fitted without the largest measured size, against what was measured there."""

    law: str
    params: float | None
    tokens: float
    measured_tokens: float  # tokens per step
    predicted_tokens: float
    low_tokens: float  # of a 90 % interval for what would be measured
    high_tokens: float
    error: float  # predicted / measured - 1

    @property
    def inside(self) -> bool:
        return self.low_tokens <= self.measured_tokens <= self.high_tokens


@dataclass(frozen=True, kw_only=True)
class CriticalPrediction:
    """A critical batch at a scale, with its definition."""

    definition: Definition
    value_tokens: float  # tokens per step
    low_tokens: float
    high_tokens: float
    level: float
    law: str  # which input answered
    decades: Mapping[str, float]  # beyond the measured sizes; 0 inside

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "definition": self.definition.to_json(), "decades": dict(self.decades)}


@dataclass(frozen=True, kw_only=True)
class CriticalAnalysis:
    """Critical batches of one recipe, by one definition."""

    definition: Definition
    status: FitStatus
    measured: tuple[CriticalBatch, ...]
    laws: Mapping[str, OptimumLaw]  # by input: "tokens", "params", "loss"
    answering: str  # which of them answers
    separation: Separation | None  # None where there is no law in both to ask
    curvature: tuple[float, float] | None  # of ln batch in the answering law's input; None: too few sizes to say
    left_out: LargestLeftOut | None
    sentences: tuple[str, ...]

    def predict(self, tokens: float, params: float | None = None, *, level: float = 0.9) -> CriticalPrediction:
        """The critical batch at a scale; `tokens` are those that reach the loss at the definition's reference batch.

        Raises
        ------
        ValueError
            The law that answers is one in params, and none were given.
        """
        given = {"tokens": tokens} | ({} if params is None else {"params": params})
        said = self.laws[self.answering].predict(level, **given)
        return CriticalPrediction(
            definition=self.definition,
            value_tokens=said.value,
            low_tokens=said.low,
            high_tokens=said.high,
            level=level,
            law=self.answering,
            decades=said.decades,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "definition": self.definition.to_json(),
            "status": self.status.value,
            "measured": [c.to_json() for c in self.measured],
            "laws": {name: law.to_json() for name, law in self.laws.items()},
            "answering": self.answering,
            "separation": None
            if self.separation is None
            else {
                "verdict": self.separation.verdict,
                "sentence": self.separation.sentence,
                "intervals": {name: list(ends) for name, ends in self.separation.intervals.items()},
                "correlation": self.separation.correlation if np.isfinite(self.separation.correlation) else None,
            },
            "curvature": None if self.curvature is None else list(self.curvature),
            "left_out": None if self.left_out is None else {**vars(self.left_out), "inside": self.left_out.inside},
            "sentences": list(self.sentences),
        }


def analyse_critical(found: Sequence[CriticalBatch], notes: Sequence[str] = ()) -> CriticalAnalysis:
    """Laws through measured critical batches, which of them the data support, and a test at the largest size.

    Parameters
    ----------
    found : critical batches of one recipe, by one definition
    notes : what was left out on the way here; kept in the result

    Raises
    ------
    NotEnoughData
        None was measured.
    ValueError
        They have different definitions.
    FitError
        None of them is closed on both sides.
    """
    if not found:
        raise NotEnoughData(
            "no critical batch was measured: it takes steps to a target loss (or loss curves, or finished runs at two "
            "horizons) at three or more batch sizes of one model size"
        )
    optima, refused = measured_optima(found)
    sentences = [*notes, *refused]
    laws: dict[str, OptimumLaw] = {}
    for name in _INPUTS:
        if name in optima.inputs:
            try:
                laws[name] = fit_optimum_law(optima, (name,))
            except FitError as error:
                if name == "tokens":
                    mean, sd = LENT[name]
                    sentences.append(
                        f"the exponent in tokens is lent by published laws ({mean}, sd {sd}), since {error}"
                    )
    sparse = "tokens" not in laws
    if sparse:
        laws["tokens"] = fit_optimum_law(optima, ("tokens",), prior=LENT)
    separation = None if sparse or "params" not in optima.inputs else separate_params_from_tokens(optima)
    if separation is not None and separation.verdict != "tokens":
        sentences.append(separation.sentence)
    answering = "params" if separation is not None and separation.verdict == "params" else "tokens"
    curvature = curvature_interval(optima, answering)
    if curvature is not None and (curvature[0] > 0 or curvature[1] < 0):
        sentences.append(f"the critical batch does not follow one power of {answering}: its logs curve; do not go far")
    return CriticalAnalysis(
        definition=found[0].definition,
        status=FitStatus.SPARSE if sparse else FitStatus.OK,
        measured=tuple(found),
        laws=laws,
        answering=answering,
        separation=separation,
        curvature=curvature,
        left_out=_largest_left_out(optima, answering),
        sentences=tuple(sentences),
    )


def _largest_left_out(optima: MeasuredOptima, name: str) -> LargestLeftOut | None:
    """None with fewer than two sizes. Fewer than three left to learn from: with the lent exponent."""
    if optima.groups < 2:
        return None
    size = optima.inputs.get("params", optima.inputs["tokens"])
    largest = size > size.max() * 0.95
    row = int(np.flatnonzero(largest)[np.argmax(optima.inputs["tokens"][largest])])
    rest = optima.take(~largest)
    try:
        law = fit_optimum_law(rest, (name,))
    except FitError:
        if name != "tokens":
            return None
        law = fit_optimum_law(rest, (name,), prior=LENT)
    said = law.predict(**{name: float(optima.inputs[name][row])})
    measured = float(np.exp(optima.log_value[row]))
    reach = 1.645 * float(optima.log_sd[row])  # what was measured there has its own error
    down, up = (float(np.hypot(np.log(said.value / end), reach)) for end in (said.low, said.high))
    return LargestLeftOut(
        law=name,
        params=float(optima.inputs["params"][row]) if "params" in optima.inputs else None,
        tokens=float(optima.inputs["tokens"][row]),
        measured_tokens=measured,
        predicted_tokens=said.value,
        low_tokens=said.value * float(np.exp(-down)),
        high_tokens=said.value * float(np.exp(up)),
        error=said.value / measured - 1,
    )
