"""A fitted three-term surface: its optimal and critical batch with intervals, and what a stored fit keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lawfit.estimate.critical.batch import CriticalBatch, CriticalStatus
from lawfit.estimate.numerics.certificate import Certificate
from lawfit.estimate.numerics.newton import Floats
from lawfit.estimate.numerics.quantiles import normal_quantile
from lawfit.estimate.numerics.resample import interval
from lawfit.laws.critical_batch import Definition, ThreeTerm


@dataclass(frozen=True, kw_only=True)
class BatchInterval:
    """A batch size with its interval; None where too few scales give one."""

    value_tokens: float
    low_tokens: float | None
    high_tokens: float | None
    level: float
    decades: float  # of tokens, beyond the fitted scales; 0 inside


@dataclass(frozen=True, kw_only=True)
class FloorCase:
    """The fit with the floor held at one value."""

    floor: float  # nats per token
    doubt: float  # rise of the objective in squared standard errors, over the fit with the floor free
    law: ThreeTerm


@dataclass(frozen=True, kw_only=True)
class ThreeTermFit:
    """A fitted three-term surface."""

    law: ThreeTerm
    draws: tuple[ThreeTerm, ...]
    floors: tuple[FloorCase, ...]  # how far the answer hangs on the floor
    level: float
    fitted: int  # free parameters
    floor_lent: bool  # by published laws, since the runs do not show it
    ranges: Mapping[str, tuple[float, float]]
    noise: float  # robust sd of log residuals
    certificate: Certificate

    def optimal_batch(self, tokens: float) -> BatchInterval:
        """Batch of the lowest loss at a horizon. It does not depend on params: that is an assumption of the form."""
        value = float(self.law.optimal_batch_tokens(tokens))
        low, high = self._interval(np.array([float(law.optimal_batch_tokens(tokens)) for law in self.draws]))
        smallest, largest = self.ranges["tokens"]
        decades = max(0.0, float(np.log10(smallest / tokens)), float(np.log10(tokens / largest)))
        return BatchInterval(value_tokens=value, low_tokens=low, high_tokens=high, level=self.level, decades=decades)

    def critical(self, params: float, tokens: float, fraction: float) -> CriticalBatch:
        """The batch above the optimal one at which the optimal loss of this horizon costs `fraction` more tokens.

        Its definition names the optimal batch as the reference, from which the extra tokens count: unlike the
        hyperbola's, and not convertible to it exactly.
        """
        reference, value = _critical_of(self.law, params, tokens, fraction)
        found = np.array([_critical_of(law, params, tokens, fraction)[1] for law in self.draws])
        low, high = self._interval(found)
        tried = self.ranges["batch_tokens"]
        inside = tried[0] <= value <= tried[1]
        edge = CriticalStatus.ABOVE_TRIED if value > tried[1] else CriticalStatus.BELOW_TRIED
        known = low is not None and high is not None and np.isfinite(high)
        sds = normal_quantile(0.5 + self.level / 2)
        return CriticalBatch(
            definition=Definition(fraction=fraction, reference_batch_tokens=reference),
            value_tokens=value,
            low_tokens=0.0 if low is None else low,
            high_tokens=np.inf if high is None else high,
            level=self.level,
            status=CriticalStatus.INSIDE if inside else edge,
            estimator="three_term",
            params=params,
            tokens=tokens,
            loss=float(self.law(params, reference, tokens / reference)),
            log_sd=float(np.log(high / low)) / (2 * sds) if known and low and high else np.inf,
            form_log_sd=0.0,
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values; `from_json` brings the same fit back."""
        return {
            "form": "three_term",
            "law": vars(self.law).copy(),
            "draws": [list(vars(law).values()) for law in self.draws],
            "floors": [{"floor": c.floor, "doubt": c.doubt, "law": vars(c.law).copy()} for c in self.floors],
            "level": self.level,
            "fitted": self.fitted,
            "floor_lent": self.floor_lent,
            "ranges": {name: list(bounds) for name, bounds in self.ranges.items()},
            "noise": self.noise,
            "certificate": self.certificate.to_json(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ThreeTermFit:
        names = tuple(document["law"])
        return cls(
            law=ThreeTerm(**document["law"]),
            draws=tuple(ThreeTerm(**dict(zip(names, row, strict=True))) for row in document["draws"]),
            floors=tuple(
                FloorCase(floor=c["floor"], doubt=c["doubt"], law=ThreeTerm(**c["law"])) for c in document["floors"]
            ),
            level=float(document["level"]),
            fitted=int(document["fitted"]),
            floor_lent=bool(document.get("floor_lent", False)),
            ranges={name: (float(low), float(high)) for name, (low, high) in document["ranges"].items()},
            noise=float(document["noise"]),
            certificate=Certificate.from_json(document["certificate"]),
        )

    def _interval(self, found: Floats) -> tuple[float | None, float | None]:
        """Individual parameters may be open; what follows from all of them together need not be."""
        if self.certificate.clusters <= self.fitted or not len(found):
            return None, None
        low, high = interval(found, self.level, self.certificate.clusters, self.fitted)
        return float(low), float(high)


def _critical_of(law: ThreeTerm, params: float, tokens: float, fraction: float) -> tuple[float, float]:
    """(optimal batch, batch above it that needs `fraction` more tokens to the same loss), by bisection in logs."""
    reference = float(law.optimal_batch_tokens(tokens))
    loss = float(law(params, reference, tokens / reference))
    low, high = np.log(reference), np.log(reference) + 30.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        batch = float(np.exp(middle))
        if batch * float(law.steps_to(loss, params, batch)) > (1 + fraction) * tokens:
            high = middle
        else:
            low = middle
    return reference, float(np.exp(0.5 * (low + high)))
