"""What a stored fit of the loss believes at any scale: its centre and its resamples, whatever forms it averages.

Plans ask for losses only through this. Across sizes at one compute a form counts by how it foretold the split
(`estimate.loss.split_backtest`), and the law of IsoFLOP profiles with it; how low the best splits come is what `lawfit
predict` says there. A form that knows of no split (loss by compute alone) has nothing to say across sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import NotEnoughData
from lawfit.estimate.loss.backtest import Drift
from lawfit.estimate.loss.ensemble import LossEnsemble
from lawfit.estimate.loss.forms_further import EVERY_FORM
from lawfit.estimate.loss.isoflop import ISOFLOP, IsoFlop, ProfileLaw, isoflop
from lawfit.estimate.loss.result import Interval, LossFit
from lawfit.estimate.loss.split_backtest import NO_SPLIT, RATIOS, SplitBacktest
from lawfit.estimate.numerics.lowest import lowest_along
from lawfit.estimate.numerics.resample import tail
from lawfit.findings import Found, finding
from lawfit.kinds.third_input import Asked, LossAtThird, loss_at_third, ordinary_law
from lawfit.laws.loss import FLOPS_PER_PARAM_TOKEN
from lawfit.records import Fit
from lawfit.units import six_digits

Floats = NDArray[np.float64]

WORLDS: Final = 400  # shared by the forms as they count
LEVELS: Final = 97  # computes, and ratios at each, at which the best splits of members are compared
REACH: Final = np.log(100.0)  # ln of how far beyond the losses of the runs a law is believed, either way
_KEPT: Final = 16
_TAILS: Final = np.concatenate([[1e-5, 1e-4, 3e-4], np.geomspace(1e-3, 0.5, 60)])


@dataclass(frozen=True, kw_only=True, eq=False)  # two are the same where they are one
class LossBelief:
    """Losses by the centre of a fit and by each of its resamples."""

    fits: tuple[LossFit | ProfileLaw, ...]
    weights: tuple[float, ...]  # of the fits by the split, adding up to 1
    loss_weights: tuple[float, ...]  # by the loss
    errors: tuple[float, ...]  # rms of ln params* foretold inside the runs; NaN where it was not asked
    counts: tuple[int, ...]  # worlds of each
    points: Floats  # (n, 2) params and tokens of the scales that were fitted
    source: LossFit | LossEnsemble | LossAtThird  # answers for one scale as `lawfit predict` does
    level: float
    third: LossAtThird | None = None  # what a further input of every run does

    @staticmethod
    @lru_cache(maxsize=_KEPT)
    def of(fit: Fit, level: float, third: Asked | None = None) -> LossBelief:
        """Of a stored fit, with intervals of `level`; with a further input given, moved by the form that has it.

        Raises
        ------
        NotEnoughData
            No form has that input.
        """
        scales = fit.payload["points"]
        additive = replace(LossFit.from_json(fit.payload["fit"]), level=level)
        source: LossFit | LossEnsemble | LossAtThird = additive
        members: list[tuple[LossFit | ProfileLaw, float, float, float]] = [(additive, 1.0, 1.0, np.nan)]
        if third is not None:
            source = loss_at_third(fit, third, level)
            own = source.stored.get("points", scales)  # a fit of before does not keep those of the form
            if source.ordinary is not None:
                return LossBelief.of(fit, level).moved(source, own)
            members, scales = [(source.fit, 1.0, 1.0, np.nan)], own
        elif fit.payload.get("forms") is not None:
            found = ordinary_law(fit, level)
            if isinstance(found, LossEnsemble) and (several := _members(found, additive, profiles(fit))):
                source, members = found, several
        fits, weights, loss_weights, errors = (tuple(column) for column in zip(*members, strict=True))
        most = WORLDS if len(fits) > 1 else len(fits[0].draws)
        return LossBelief(
            fits=fits,
            weights=_shares(weights),
            loss_weights=_shares(loss_weights),
            errors=errors,
            counts=tuple(round(most * w) if _has_draws(f) else 0 for f, w in zip(fits, _shares(weights), strict=True)),
            points=_pairs(scales),
            source=source,
            level=level,
            third=source if isinstance(source, LossAtThird) else None,
        )

    def moved(self, third: LossAtThird, scales: Sequence[Mapping[str, float]]) -> LossBelief:
        """With what a further input does to the loss; `scales` are those of the form that says it."""
        points = np.unique(np.concatenate([self.points, _pairs(scales)]), axis=0)
        counts = self.counts if _has_draws(third.fit) else (0,) * len(self.counts)
        return replace(self, source=third, third=third, points=points, counts=counts)

    @cached_property
    def alone(self) -> tuple[LossBelief, ...]:
        """Each member by itself, without doubt."""
        return tuple(
            replace(self, fits=(fit,), weights=(1.0,), loss_weights=(1.0,), errors=(error,), counts=(0,))
            for fit, error in zip(self.fits, self.errors, strict=True)
        )

    def at(self, value: float) -> LossBelief:
        """With another value of the further input."""
        assert self.third is not None
        third = replace(self.third, asked=replace(self.third.asked, value=value))
        return replace(self, source=third, third=third)

    @cached_property
    def without_profiles(self) -> LossBelief:
        """The forms alone."""
        kept = [i for i, fit in enumerate(self.fits) if not isinstance(fit, ProfileLaw)]
        if len(kept) == len(self.fits):
            return self
        return replace(
            self,
            fits=tuple(self.fits[i] for i in kept),
            weights=_shares([self.weights[i] for i in kept]),
            loss_weights=_shares([self.loss_weights[i] for i in kept]),
            errors=tuple(self.errors[i] for i in kept),
            counts=tuple(self.counts[i] for i in kept),
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
    def drift(self) -> Drift | None:
        """Of ln loss beyond the runs, as its interval has it; None where the runs showed none."""
        if isinstance(self.source, LossFit):
            return None
        if isinstance(self.source, LossEnsemble):
            return self.source.drift
        return Drift(sd=self.source.drift_sd, freedom=self.source.drift_freedom)

    @property
    def noise(self) -> float:
        """Sd of ln loss of one run around the law."""
        return float(np.dot(self.weights, [fit.noise for fit in self.fits]))

    def centre(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """(points,) ln loss by the central estimate: the mean over forms."""
        logs = np.log(params), np.log(tokens)
        return np.asarray(self._mean(*logs) + self._raised(*logs), dtype=float)

    def each(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """(worlds, points) ln loss by each resample, each form as often as it counts."""
        logs = np.log(params), np.log(tokens)
        rows = [
            self._log_loss(fit, np.resize(fit.draws, (count, fit.draws.shape[1])), *logs)
            for fit, count in zip(self.fits, self.counts, strict=True)
            if count
        ]
        if not rows:
            return np.empty((0, len(np.atleast_1d(logs[0]))))
        losses = np.concatenate(rows)
        if self.third is not None and self.third.ordinary is not None:
            losses = losses + np.resize(self.third.effect_draws(params, tokens), losses.shape)
        return np.asarray(losses + self._raised(*logs), dtype=float)

    def _mean(self, log_params: ArrayLike, log_tokens: ArrayLike) -> Floats:
        """(points,) of the members, by the weights of splits; with what a further input does."""
        each = [self._log_loss(fit, fit.theta[None, :], log_params, log_tokens)[0] for fit in self.fits]
        mean = np.tensordot(self.weights, each, axes=1)
        if self.third is not None and self.third.ordinary is not None:
            mean = mean + self.third.effect(np.exp(log_params), np.exp(log_tokens))
        return np.asarray(mean, dtype=float)

    def log_loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Central ln loss at scales as `lawfit predict` says it: the level of every plan."""
        return np.asarray(np.clip(np.nan_to_num(self.source.log_loss(params, tokens), nan=np.inf), *self._ends))

    def _raised(self, log_params: ArrayLike, log_tokens: ArrayLike) -> Floats:
        """By how much `lawfit predict` says more of the best split of a compute than the mean by the weights of splits.

        Added everywhere along a line of equal compute, so that no split is better for it.
        """
        if isinstance(self.source, LossFit):  # that alone is both
            return np.zeros(1)
        return np.interp(np.add(log_params, log_tokens), *self._levels)

    @cached_property
    def _levels(self) -> tuple[Floats, Floats]:
        """ln(params x tokens), and what `_raised` says there."""
        low, high = (np.log(flops / FLOPS_PER_PARAM_TOKEN) for flops in self.scales["flops"])
        compute = np.linspace(low - np.log(1e4), high + np.log(1e8), LEVELS)
        ratio = np.linspace(np.log(RATIOS[0]), np.log(RATIOS[1]), LEVELS)
        logs = [x.ravel() for x in ((compute[:, None] - ratio) / 2, (compute[:, None] + ratio) / 2)]
        place, lowest = lowest_along(ratio, self._mean(*logs).reshape(LEVELS, LEVELS))
        best = np.exp((compute - place) / 2), np.exp((compute + place) / 2)
        return compute, self.log_loss(*best) - lowest

    @cached_property
    def _ends(self) -> tuple[float, float]:
        """ln of the smallest and the largest loss that is believed anywhere."""
        losses = self.source.log_loss(*self.points.T)
        return float(losses.min() - REACH), float(losses.max() + REACH)

    def _log_loss(
        self, fit: LossFit | ProfileLaw, theta: Floats, log_params: ArrayLike, log_tokens: ArrayLike
    ) -> Floats:
        """Far from the runs a form, or one draw of it, may run to 0, to infinity or to none: it ends at `REACH`."""
        logs = np.column_stack(np.broadcast_arrays(log_params, log_tokens))
        with np.errstate(over="ignore", invalid="ignore"):
            if isinstance(fit, ProfileLaw):
                losses = fit.log_loss(theta, *logs.T)
            else:
                inputs = logs - fit.centre
                if self.third is not None and self.third.ordinary is None:
                    inputs = np.column_stack([inputs, np.log(self.third.asked.third(np.exp(logs[:, 1])))])
                losses = EVERY_FORM[fit.form].problem(np.ones(len(logs)), inputs, fit.delta).log_model(theta)
        low, high = self._ends
        return np.asarray(np.clip(np.nan_to_num(losses, nan=high, posinf=high, neginf=low), low, high), dtype=float)

    def predict(self, params: float, tokens: float) -> Interval:
        """Expected loss at one scale, as `lawfit predict` says it."""
        return self.source.predict(params, tokens).expected

    def bounds(self, draws: Floats) -> tuple[float, float] | None:
        """Interval of a quantity from its value in each world; None with too few scales for one.

        Percentiles of the mixture of members, each one's expanded for how few clusters it rests on
        (`numerics.resample`). Infinite where so many worlds are. Quantiles averaged over members, as the interval of
        the loss has them, are narrower and hold as often in simulations; on published splits they held none of four.
        """
        if not self.worlds or len(draws) != self.worlds:
            return None
        outer = 0.5 - self.level / 2
        return self._lower(draws, outer), -self._lower(-draws, outer)

    def positive_bounds(self, draws: Floats) -> tuple[float, float] | None:
        """`bounds` of a positive quantity, whose ratios count; it may be infinite."""
        with np.errstate(divide="ignore"):
            ends = self.bounds(np.log(draws))
        return None if ends is None else (float(np.exp(ends[0])), float(np.exp(ends[1])))

    def _own(self, draws: Floats) -> list[tuple[LossFit | ProfileLaw, float, Floats]]:
        """Each member that has worlds, with its weight and their values."""
        ends = np.cumsum(self.counts)
        return [
            (fit, weight, draws[end - count : end])
            for fit, weight, count, end in zip(self.fits, self.weights, self.counts, ends, strict=True)
            if count
        ]

    def _lower(self, draws: Floats, outer: float) -> float:
        """The largest draw below which the mixture holds no more than `outer`."""
        pooled = np.sort(draws)
        below = np.zeros(len(pooled))
        total = 0.0
        for fit, weight, mine in self._own(draws):
            rank = np.searchsorted(np.sort(mine), pooled, side="left") / max(len(mine) - 1, 1)
            below += weight * (rank if isinstance(fit, ProfileLaw) else _nominal(rank, _clusters(fit), fit.fitted))
            total += weight
        return float(pooled[np.flatnonzero(below <= outer * total + 1e-12)[-1]])

    def decades(self, name: str, value: float) -> float:
        """Powers of ten by which `value` lies beyond the fitted runs; 0 inside."""
        low, high = self.scales[name]
        return max(0.0, float(np.log10(low / value)), float(np.log10(value / high)))


def profiles(fit: Fit) -> IsoFlop | Found:
    """The law of the minima of IsoFLOP profiles among the scales of a stored fit, or why there is none."""
    points = fit.payload["points"]
    if not all("loss" in point for point in points):
        return finding("plan.losses_not_kept")
    columns = np.array([(p["params"], p["tokens"], p["loss"]) for p in points], dtype=float).reshape(-1, 3).T
    try:
        return isoflop(*columns)
    except NotEnoughData as error:
        return error.finding


def _members(
    found: LossEnsemble, additive: LossFit, by_profile: IsoFlop | Found
) -> list[tuple[LossFit | ProfileLaw, float, float, float]]:
    """Each member with its weight by the split, by the loss, and how far off it was; none where no form has a split."""
    split: list[SplitBacktest | None] = [*found.split[: len(found.fits)]] or [None] * len(found.fits)
    members: list[tuple[LossFit | ProfileLaw, float, float, float]] = [
        (fit, weight if own is None else own.weight, weight, np.nan if own is None else own.error)
        for fit, weight, own in zip(found.fits, found.weights, split, strict=True)
        if fit.form not in NO_SPLIT
    ]
    if members and found.split and found.split[-1].form == ISOFLOP and isinstance(by_profile, IsoFlop):
        law = ProfileLaw.of(by_profile, additive, WORLDS)
        members.append((law, found.split[-1].weight, 0.0, found.split[-1].error))
    return members


def _pairs(scales: Sequence[Mapping[str, float]]) -> Floats:
    return np.array([(each["params"], each["tokens"]) for each in scales], dtype=float).reshape(-1, 2)


def _shares(weights: Sequence[float]) -> tuple[float, ...]:
    """Adding up to one; alike where none counts."""
    total = sum(weights)
    return tuple(float(w / total) if total > 0 else 1 / len(weights) for w in weights)


def _has_draws(fit: LossFit | ProfileLaw) -> bool:
    return len(fit.draws) > 0 and (isinstance(fit, ProfileLaw) or _clusters(fit) > fit.fitted)


def _clusters(fit: LossFit) -> int:
    return fit.certificate.clusters


def _nominal(share: Floats, clusters: int, fitted: int) -> Floats:
    """Probability that a share of the draws stands for, below their middle: more than their number, as they are few."""
    return np.where(share >= 0.5, share, np.interp(share, _drawn(clusters, fitted), np.append(0.0, _TAILS)))


@lru_cache(maxsize=256)
def _drawn(clusters: int, fitted: int) -> Floats:
    """Shares of the draws that stand for `_TAILS`, after a 0."""
    return np.array([0.0, *(tail(1 - 2 * outer, clusters, fitted) for outer in _TAILS)])


def finite(value: Any) -> float | None:
    """A number with six digits, more would pretend to be known; None for one that is none."""
    return None if value is None or not np.isfinite(value) else six_digits(value)
