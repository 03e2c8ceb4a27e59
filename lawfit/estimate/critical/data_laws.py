"""E5: a data law per batch size, inverted at equal loss, for runs that each completed their own decay (2505.13738)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import FitError
from lawfit.estimate.critical.hyperbola import MIN_BATCHES, HyperbolaFit, fit_hyperbola, share_bends
from lawfit.estimate.numerics.sweeps import same_value
from lawfit.findings import finding

Floats = NDArray[np.float64]


def fit_data_laws(
    params: float,
    tokens: ArrayLike,
    batch_tokens: ArrayLike,
    loss: ArrayLike,
    *,
    targets: ArrayLike | None = None,
    floor: float | None = None,
    level: float = 0.9,
) -> tuple[HyperbolaFit, ...]:
    """E5: per batch a data law from runs that each completed their own decay, inverted at equal loss (2505.13738).

    ``L_B(D) = E + exp(p_B - q_B ln D)`` with one floor E for all batches: three free parameters per batch cannot be
    had from a few horizons. Inversion stays inside the losses that each batch's runs span; nothing is extrapolated.

    Parameters
    ----------
    params : float
        The model size: one for all runs.
    tokens, batch_tokens, loss : (n,) positive floats
        Finished runs at their best learning rate; NaN for a diverged one. Two or more horizons per batch.
    targets : (k,) losses, or None for 3 inside the range that most batches share
    floor : nats per token, or None to choose it by least squares

    Raises
    ------
    FitError
        Fewer than 3 batches with two horizons, a loss that is not above zero, no loss that 3 of them reach, or fewer
        than two larger than the best.
    """
    laws = _data_laws(tokens, batch_tokens, loss, floor)
    goals = _shared_losses(laws) if targets is None else np.atleast_1d(np.asarray(targets, dtype=float))
    fits = []
    for goal in goals:
        reach = [law for law in laws if law.low <= goal <= law.high]
        if len(reach) < MIN_BATCHES:
            few = {"batches": len(reach), "needed": MIN_BATCHES}
            raise FitError(finding("critical.loss_inside_few", loss=goal, **few))
        batch = np.array([law.batch_tokens for law in reach])
        needed = np.array([law.tokens_to(float(goal)) for law in reach])
        fits.append(
            fit_hyperbola(batch, needed / batch, level=level, params=params, target_loss=float(goal), from_best=True)
        )
    return share_bends(fits)


@dataclass(frozen=True, kw_only=True)
class _DataLaw:
    batch_tokens: float
    floor: float
    level: float  # p
    slope: float  # q
    low: float  # losses that its runs span
    high: float

    def tokens_to(self, loss: float) -> float:
        return float(np.exp((self.level - np.log(loss - self.floor)) / self.slope))


def _data_laws(tokens: ArrayLike, batch_tokens: ArrayLike, loss: ArrayLike, floor: float | None) -> list[_DataLaw]:
    d, b, y = (np.asarray(x, dtype=float).ravel() for x in (tokens, batch_tokens, loss))
    fine = np.isfinite(y)
    d, b, y = d[fine], b[fine], y[fine]
    index = same_value(b) if len(b) else np.empty(0, dtype=np.intp)
    groups = [np.flatnonzero(index == i) for i in range(index.max(initial=-1) + 1)]
    groups = [rows for rows in groups if np.ptp(np.log(d[rows])) > 0.1]
    if len(groups) < MIN_BATCHES:
        raise FitError(finding("critical.few_horizons", batches=len(groups), needed=MIN_BATCHES))
    if y.min() <= 0:  # at the best rate, where a valley through runs that do not lie in one is read
        raise FitError(finding("critical.no_loss", low=float(y.min())))
    if floor is None:
        # More horizons than two are needed to see a floor at all; without them the power law has none.
        can_tell = any(len(np.unique(d[rows])) > 2 for rows in groups)
        tried = np.linspace(0.0, 0.98 * float(y.min()), 99) if can_tell else np.zeros(1)
    else:
        tried = np.array([floor])
    if not np.all(tried < y.min()):
        raise ValueError(f"a floor of {tried.max():g} is not below every loss; the lowest is {y.min():g}")
    fits = [[_line(d[rows], y[rows], e) for rows in groups] for e in tried]
    best = int(np.argmin([sum(misfit for _, _, misfit in each) for each in fits]))
    laws = [
        _DataLaw(
            batch_tokens=float(np.exp(np.log(b[rows]).mean())),
            floor=float(tried[best]),
            level=level,
            slope=slope,
            low=float(y[rows].min()),
            high=float(y[rows].max()),
        )
        for rows, (level, slope, _) in zip(groups, fits[best], strict=True)
        if slope > 0 and np.ptp(y[rows]) > 0  # a loss that does not fall with data cannot be inverted
    ]
    if len(laws) < MIN_BATCHES:
        raise FitError(finding("critical.few_falling", batches=len(laws), needed=MIN_BATCHES))
    return laws


def _shared_losses(laws: Sequence[_DataLaw]) -> Floats:
    """Three losses inside the range that the most batches reach."""
    low, high = np.array([law.low for law in laws]), np.array([law.high for law in laws])
    ends = np.unique(np.concatenate([low, high]))
    middles = 0.5 * (ends[:-1] + ends[1:])
    reached = ((low[:, None] <= middles) & (middles <= high[:, None])).sum(axis=0)
    if (most := int(reached.max())) < MIN_BATCHES:
        raise FitError(finding("critical.no_shared_loss", batches=most, needed=MIN_BATCHES))
    at = np.flatnonzero(reached == most)
    return np.asarray(np.geomspace(ends[at[0]], ends[at[-1] + 1], 5)[1:-1])


def _line(tokens: Floats, loss: Floats, floor: float) -> tuple[float, float, float]:
    """(p, q, squared misfit of the log loss) of ``ln(L - E) = p - q ln D``."""
    log_d, log_y = np.log(tokens), np.log(loss - floor)
    centred = log_d - log_d.mean()
    slope = -float(centred @ log_y / (centred @ centred))
    level = float(log_y.mean() + slope * log_d.mean())
    fitted = floor + np.exp(level - slope * log_d)
    return level, slope, float(((np.log(loss) - np.log(fitted)) ** 2).sum())
