"""What a stored fit of the loss believes at any scale: its centre and its resamples, whatever forms it averages.

Plans ask for losses only through this. A form counts by the weight that its backtest gave it; one that knows of no
split (loss by compute alone) has nothing to say here and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.advise.third_input import Asked, LossAtThird, loss_at_third
from lawfit.estimate.loss_ensemble import LossEnsemble
from lawfit.estimate.loss_forms_further import EVERY_FORM
from lawfit.estimate.loss_result import Interval, LossFit
from lawfit.estimate.resample import tail
from lawfit.records import Fit

Floats = NDArray[np.float64]

WORLDS: Final = 400  # shared by the forms as they count
NO_SPLIT: Final = ("compute_only",)
REACH: Final = np.log(100.0)  # ln of how far beyond the losses of the runs a law is believed, either way
_TAILS: Final = np.concatenate([[1e-5, 1e-4, 3e-4], np.geomspace(1e-3, 0.5, 60)])


@dataclass(frozen=True, kw_only=True)
class LossBelief:
    """Losses by the centre of a fit and by each of its resamples."""

    fits: tuple[LossFit, ...]
    weights: tuple[float, ...]  # of the fits, adding up to 1
    counts: tuple[int, ...]  # worlds of each
    points: Floats  # (n, 2) params and tokens of the scales that were fitted
    source: LossFit | LossEnsemble | LossAtThird  # answers for one scale as `lawfit predict` does
    level: float
    third: Asked | None = None  # further input of every run

    @classmethod
    def of(cls, fit: Fit, level: float, third: Asked | None = None) -> LossBelief:
        """Of a stored fit, with intervals of `level`; with a further input given, the form that has it alone.

        Raises
        ------
        NotEnoughData
            No form has that input.
        """
        points = [(point["params"], point["tokens"]) for point in fit.payload["points"]]
        additive = replace(LossFit.from_json(fit.payload["fit"]), level=level)
        source: LossFit | LossEnsemble | LossAtThird = additive
        fits: tuple[LossFit, ...] = (additive,)
        weights = np.ones(1)
        if third is not None:
            source = loss_at_third(fit, third, level)
            fits = (source.fit,)
        elif fit.payload.get("forms") is not None:
            found = LossEnsemble.from_json(fit.payload["forms"]).at_level(level)
            split = [(f, w) for f, w in zip(found.fits, found.weights, strict=True) if f.form not in NO_SPLIT]
            if split:
                source, fits = found, tuple(f for f, _ in split)
                weights = np.array([w for _, w in split]) / sum(w for _, w in split)
        most = WORLDS if len(fits) > 1 else len(fits[0].draws)
        counts = [
            round(most * w) if len(f.draws) and _clusters(f) > f.fitted else 0
            for f, w in zip(fits, weights, strict=True)
        ]
        return cls(
            fits=fits,
            weights=tuple(float(w) for w in weights),
            counts=tuple(counts),
            points=np.array(points, dtype=float).reshape(-1, 2),
            source=source,
            level=level,
            third=third,
        )

    @property
    def scales(self) -> Mapping[str, tuple[float, float]]:
        """Smallest and largest params, tokens and flops that were fitted."""
        return self.source.scales

    @property
    def forms(self) -> dict[str, float]:
        """Form -> share in the answer."""
        found: dict[str, float] = {}
        for fit, weight in zip(self.fits, self.weights, strict=True):
            found[fit.form] = found.get(fit.form, 0.0) + weight
        return found

    @property
    def worlds(self) -> int:
        return sum(self.counts)

    @property
    def noise(self) -> float:
        """Sd of ln loss of one run around the law."""
        return float(np.dot(self.weights, [fit.noise for fit in self.fits]))

    def centre(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """(points,) ln loss by the central estimate: the mean over forms."""
        logs = np.log(params), np.log(tokens)
        each = [self._log_loss(fit, fit.theta[None, :], *logs)[0] for fit in self.fits]
        return np.asarray(np.tensordot(self.weights, each, axes=1), dtype=float)

    def each(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """(worlds, points) ln loss by each resample, each form as often as it counts."""
        logs = np.log(params), np.log(tokens)
        rows = [
            self._log_loss(fit, np.resize(fit.draws, (count, fit.draws.shape[1])), *logs)
            for fit, count in zip(self.fits, self.counts, strict=True)
            if count
        ]
        return np.concatenate(rows) if rows else np.empty((0, len(np.atleast_1d(logs[0]))))

    @cached_property
    def _ends(self) -> tuple[float, float]:
        """ln of the smallest and the largest loss that is believed anywhere."""
        losses = np.log(self.fits[0].loss(*self.points.T))
        return float(losses.min() - REACH), float(losses.max() + REACH)

    def _log_loss(self, fit: LossFit, theta: Floats, log_params: ArrayLike, log_tokens: ArrayLike) -> Floats:
        """Far from the runs a form, or one draw of it, may run to 0, to infinity or to none: it ends at `REACH`."""
        logs = np.column_stack(np.broadcast_arrays(log_params, log_tokens)) - fit.centre
        if self.third is not None:
            logs = np.column_stack([logs, np.log(self.third.third(np.exp(logs[:, 1] + fit.centre[1])))])
        with np.errstate(over="ignore", invalid="ignore"):
            losses = EVERY_FORM[fit.form].problem(np.ones(len(logs)), logs, fit.delta).log_model(theta)
        low, high = self._ends
        return np.asarray(np.clip(np.nan_to_num(losses, nan=high, posinf=high, neginf=low), low, high), dtype=float)

    def predict(self, params: float, tokens: float) -> Interval:
        """Expected loss at one scale, as `lawfit predict` says it."""
        return self.source.predict(params, tokens).expected

    def bounds(self, draws: Floats) -> tuple[float, float] | None:
        """Interval of a quantity from its value in each world; None with too few scales for one.

        Percentiles of the mixture of forms, each form's expanded for how few clusters it rests on
        (`estimate.resample`). Infinite where worlds are.
        """
        if not self.worlds or len(draws) != self.worlds:
            return None
        outer = 0.5 - self.level / 2
        return self._lower(draws, outer), -self._lower(-draws, outer)

    def _lower(self, draws: Floats, outer: float) -> float:
        """The largest draw below which the mixture holds no more than `outer`."""
        pooled = np.sort(draws)
        below = np.zeros(len(pooled))
        total, start = 0.0, 0
        for fit, weight, count in zip(self.fits, self.weights, self.counts, strict=True):
            if count:
                mine = np.sort(draws[start : start + count])
                rank = np.searchsorted(mine, pooled, side="left") / max(count - 1, 1)
                below += weight * _nominal(rank, _clusters(fit), fit.fitted)
                total, start = total + weight, start + count
        return float(pooled[np.flatnonzero(below <= outer * total + 1e-12)[-1]])

    def decades(self, name: str, value: float) -> float:
        """Powers of ten by which `value` lies beyond the fitted runs; 0 inside."""
        low, high = self.scales[name]
        return max(0.0, float(np.log10(low / value)), float(np.log10(value / high)))


def _clusters(fit: LossFit) -> int:
    return fit.certificate.clusters


def _nominal(share: Floats, clusters: int, fitted: int) -> Floats:
    """Probability that a share of the draws stands for, below their middle: more than their number, as they are few."""
    drawn = np.array([tail(1 - 2 * outer, clusters, fitted) for outer in _TAILS])
    return np.where(share >= 0.5, share, np.interp(share, np.append(0.0, drawn), np.append(0.0, _TAILS)))


def finite(value: Any) -> float | None:
    """A number with six digits, more would pretend to be known; None for one that is none."""
    return None if value is None or not np.isfinite(value) else float(f"{float(value):.6g}")
