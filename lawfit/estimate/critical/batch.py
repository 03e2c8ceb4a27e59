"""Measured critical batches, each with the definition that its number belongs to, and what a law is fitted to.

Where they come from: steps to a target loss (`steps_to_target`, E4) and data laws per batch (`data_laws`, E5), both
through the curve of `hyperbola`; beside them stand `noise_scale` (E6) and `three_term`. Formulas and definitions are
in `lawfit.laws.critical_batch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from lawfit.errors import FitError
from lawfit.estimate.numerics.certificate import Certificate
from lawfit.estimate.numerics.optimum_law import MeasuredOptima
from lawfit.findings import Found, finding
from lawfit.laws.critical_batch import Definition


class CriticalStatus(StrEnum):
    """Whether the batches tried show where the critical batch lies."""

    INSIDE = "inside"  # both ends of the interval are closed, and the doubling batch lies among the batches tried
    ABOVE_TRIED = "above_tried"  # steps still fall nearly as 1 / batch at the largest batch: a lower bound
    BELOW_TRIED = "below_tried"  # steps hardly fall from the smallest batch on: an upper bound
    TOO_FEW = "too_few"  # too few batches to say


@dataclass(frozen=True, kw_only=True)
class CriticalBatch:
    """One measured critical batch, with the definition that the number belongs to."""

    definition: Definition
    value_tokens: float
    low_tokens: float  # of a `level` interval; the reference's part alone where the lower end is open
    high_tokens: float  # infinite where the upper end is open
    level: float
    status: CriticalStatus
    estimator: str  # "E4", "E5", "E6", "three_term"
    params: float | None
    tokens: float  # that the target takes at the definition's reference (a very small batch where there is none)
    loss: float | None  # the target, nats per token
    log_sd: float  # of ln value, measurement only; infinite where an end is open
    form_log_sd: float  # of ln value, from how the curve may bend: shared by all sizes of a recipe
    certificate: Certificate | None = None  # of the curve that it comes from

    def to_json(self) -> dict[str, Any]:
        """JSON values; an open end is null."""
        return {
            "definition": self.definition.to_json(),
            "value_tokens": self.value_tokens,
            "low_tokens": self.low_tokens,
            "high_tokens": _finite(self.high_tokens),
            "level": self.level,
            "status": self.status.value,
            "estimator": self.estimator,
            "params": self.params,
            "tokens": self.tokens,
            "loss": self.loss,
            "log_sd": _finite(self.log_sd),
            "form_log_sd": self.form_log_sd,
            "certificate": None if self.certificate is None else self.certificate.to_json(),
        }


def measured_optima(found: Sequence[CriticalBatch]) -> tuple[MeasuredOptima, tuple[Found, ...]]:
    """Critical batches as the input of `fit_optimum_law`, and a finding on each that cannot be used.

    Several targets of one model size are one group: they are read off the same runs. Inputs: ``tokens``, and
    ``params`` and ``loss`` where every critical batch has them.

    Raises
    ------
    ValueError
        Critical batches by different definitions: convert them first.
    FitError
        None of them is closed on both sides.
    """
    if len({c.definition for c in found}) > 1:
        raise ValueError("critical batches by different definitions cannot be pooled; convert them to one first")
    usable = [c for c in found if np.isfinite(c.log_sd)]
    refused = tuple(
        finding("critical.refused", status=c.status, params=c.params, loss=c.loss, tokens=c.tokens)
        for c in found
        if not np.isfinite(c.log_sd)
    )
    if not usable:
        raise FitError(finding("critical.none_closed", refused=refused))
    inputs: dict[str, list[float]] = {"tokens": [c.tokens for c in usable]}
    for name in ("params", "loss"):
        if all(getattr(c, name) is not None for c in usable):
            inputs[name] = [float(getattr(c, name)) for c in usable]
    return (
        MeasuredOptima.of(
            [c.value_tokens for c in usable],
            [c.log_sd for c in usable],
            inputs,
            group=inputs.get("params"),
            shared_log_sd=float(np.sqrt(np.mean([c.form_log_sd**2 for c in usable]))),
        ),
        refused,
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
