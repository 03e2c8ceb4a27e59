"""What a stored fit of the loss believes at any scale: its centre and its resamples, whatever form they have.

Plans ask for losses only through this, so that a fit with other forms inside plans as well as one of the additive law.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.estimate.loss_forms import FORMS
from lawfit.estimate.loss_result import LossFit
from lawfit.estimate.resample import interval
from lawfit.records import Fit

Floats = NDArray[np.float64]

OPEN: Final = 1e-12  # share of an end of what was searched: a bound there is no bound


@dataclass(frozen=True, kw_only=True)
class LossBelief:
    """Losses by the centre of a fit and by each of its resamples."""

    fits: tuple[LossFit, ...]  # forms that count alike
    points: Floats  # (n, 2) params and tokens of the scales that were fitted

    @classmethod
    def of(cls, fit: Fit, level: float) -> LossBelief:
        """Of a stored fit, with intervals of `level`."""
        points = [(point["params"], point["tokens"]) for point in fit.payload["points"]]
        return cls(
            fits=(replace(LossFit.from_json(fit.payload["fit"]), level=level),),
            points=np.array(points, dtype=float).reshape(-1, 2),
        )

    @property
    def scales(self) -> Mapping[str, tuple[float, float]]:
        """Smallest and largest params, tokens and flops that were fitted."""
        return self.fits[0].scales

    @property
    def worlds(self) -> int:
        """How many resamples there are."""
        return sum(len(fit.draws) for fit in self.fits)

    @property
    def noise(self) -> float:
        """Sd of ln loss of one run around the law."""
        return float(np.mean([fit.noise for fit in self.fits]))

    def centre(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """(points,) ln loss by the central estimate: the mean over forms."""
        logs = np.log(params), np.log(tokens)
        return np.asarray(np.mean([_log_loss(fit, fit.theta[None, :], *logs)[0] for fit in self.fits], axis=0))

    def each(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """(worlds, points) ln loss by each resample."""
        logs = np.log(params), np.log(tokens)
        return np.concatenate([_log_loss(fit, fit.draws, *logs) for fit in self.fits])

    def bounds(self, draws: Floats) -> tuple[float, float] | None:
        """Interval of a quantity from its value in each world; None with too few scales for one.

        Percentiles, expanded for how few clusters there are (`estimate.resample`). Infinite where worlds are.
        """
        widest = max(self.fits, key=lambda fit: fit.fitted)
        clusters = min(fit.certificate.clusters for fit in self.fits)
        if not len(draws) or clusters <= widest.fitted:
            return None
        low, high = interval(draws, widest.level, clusters, widest.fitted)
        return float(low), float(high)

    def decades(self, name: str, value: float) -> float:
        """Powers of ten by which `value` lies beyond the fitted runs; 0 inside."""
        low, high = self.scales[name]
        return max(0.0, float(np.log10(low / value)), float(np.log10(value / high)))


def _log_loss(fit: LossFit, theta: Floats, log_params: ArrayLike, log_tokens: ArrayLike) -> Floats:
    logs = np.column_stack(np.broadcast_arrays(log_params, log_tokens)) - fit.centre
    with np.errstate(over="ignore"):
        return FORMS[fit.form].problem(np.ones(len(logs)), logs, fit.delta).log_model(theta)


def finite(value: Any) -> float | None:
    """A number with six digits, more would pretend to be known; None for one that is none."""
    return None if value is None or not np.isfinite(value) else float(f"{float(value):.6g}")
