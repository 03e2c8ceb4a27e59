"""What being wrong costs: expected regret over plausible worlds, the settings that minimise it, and cheap zones.

Regret is the share of loss given up: ``exp(h(ln lr - a, ln batch - b)) - 1``, close to h itself, and in no world more
than `CAP`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.draws import Worlds
from lawfit.estimate.lr_batch.valley import FAR_SHARE, along_floor, best_lr_shift, excess, excess_of, law_share
from lawfit.estimate.numerics.shapes import STRAIGHT_BEYOND

Floats = NDArray[np.float64]

CHEAP: Final = (0.001, 0.0025)  # shares of loss that bound the cheap zones
CAP: Final = 0.05  # of log loss: a run that goes worse than this is noticed early and started again
_SEARCH_WORLDS: Final = 400  # the search needs the shape of the mean, the reported number uses every world
_GRID: Final = 21
_STRIDE: Final = 4  # of the places on a grid that are looked at first
_REFINE: Final = np.linspace(-1.0, 1.0, _GRID)
PLAUSIBLE: Final = (0.05, 0.95)
_PARTS: Final = np.arange(1, 65) / 64  # of a span that holds the end of a zone
_ZONE_ROUNDS: Final = 9
_KEPT: Final = 16  # of an answer's worlds, which are asked the same several times while it is made
_ZONE_LIMIT: Final = 12.0  # ln units: a zone wider than e^12 is unbounded for every purpose


@lru_cache(maxsize=_KEPT)
def expected_regret(worlds: Worlds, log_lr: float, log_batch: float) -> float:
    """Mean share of loss given up over the worlds at one setting."""
    return float(np.mean(_excess_at(worlds, np.array(log_lr), np.array(log_batch))))


def expected_regrets(worlds: Worlds, log_lr: Floats, log_batch: Floats) -> Floats:
    """(rates, batches) the same for every pair of them, each batch by its own best learning rate as in `at_batch`."""
    columns = [_mean_excess(at_batch(worlds, float(at)), log_lr, np.array([at])) for at in log_batch]
    return np.concatenate(columns, axis=1)


def split_regret(worlds: Worlds, log_lr: float, log_batch: float) -> tuple[float, float]:
    """The part of the expected regret that the best learning rate at this batch would save, and the batch's part."""
    total = expected_regret(worlds, log_lr, log_batch)
    of_batch = float(np.mean(np.expm1(np.minimum(excess_of_batch(worlds, log_batch), CAP))))
    return max(total - of_batch, 0.0), of_batch


def excess_at(worlds: Worlds, log_lr: float, log_batch: float) -> Floats:
    """(worlds,) log loss of a setting over that of each world's best one, without a cap."""
    return excess(log_lr - worlds.log_lr, log_batch - worlds.log_batch, worlds.valley)


def excess_of_batch(worlds: Worlds, log_batch: float) -> Floats:
    """(worlds,) the same of a batch with its own best learning rate."""
    return excess(_shift(worlds, log_batch), log_batch - worlds.log_batch, worlds.valley)


def regret_of(excess_log_loss: Floats) -> float:
    """Expected share of loss given up, from draws of it in log loss: `CAP` in no world more, as everywhere here.

    A setting that costs more than that in most worlds is told by the middle one instead.
    """
    capped = float(np.mean(np.expm1(np.minimum(excess_log_loss, CAP))))
    return max(capped, float(np.expm1(np.median(excess_log_loss))))


def best_setting(worlds: Worlds, log_batch: float | None = None, max_log_batch: float = np.inf) -> tuple[float, float]:
    """The (ln lr, ln batch) with the smallest expected regret; with the batch given, the learning rate alone.

    The learning rate is the one that `log_batch` would get if it were imposed, whether it is or was chosen here: one
    batch has one best learning rate.
    """
    at = best_batch(worlds, max_log_batch) if log_batch is None else log_batch
    return _best_lr(worlds, at), at


def best_batch(worlds: Worlds, max_log_batch: float = np.inf) -> float:
    """The ln batch with the smallest expected regret, where the learning rate follows.

    Searched where the optimum plausibly is (the middle 90 % of the worlds), first coarsely, then twice more finely
    around the best point. Doubt may shade the setting away from the central optimum, but never by more than costs
    the smallest of `CHEAP` in the central world: with thin evidence the shape of far worlds would rule it otherwise.
    """
    rates = _plausible(worlds.log_lr)
    batches = np.unique(np.minimum(_plausible(worlds.log_batch), max_log_batch))
    _, at = _lowest(_thin(worlds), rates, batches)
    return min(float(np.clip(at, *cheap_batch_zone(worlds, CHEAP[0]))), max_log_batch)


@lru_cache(maxsize=_KEPT)
def _best_lr(worlds: Worlds, log_batch: float) -> float:
    rates, there = _plausible(lr_given_batch(worlds, log_batch)), at_batch(worlds, log_batch)
    log_lr, _ = _lowest(_thin(there), rates, np.array([log_batch]))
    return float(np.clip(log_lr, *cheap_lr_zone(there, log_batch, CHEAP[0])))


def _lowest(worlds: Worlds, rates: Floats, batches: Floats) -> tuple[float, float]:
    """Where the expected regret is lowest on a grid, and on two finer ones around the best point of it."""
    lr_step, batch_step = float(rates[1] - rates[0]), float(batches[1] - batches[0]) if len(batches) > 1 else 0.0
    bounds = (rates[0], rates[-1]), (batches[0], batches[-1])
    best = float(rates[0]), float(batches[0])
    for _ in range(3):
        i, j = _lowest_place(worlds, rates, batches)
        best = float(rates[i]), float(batches[j])
        rates = np.clip(best[0] + 1.5 * lr_step * _REFINE, *bounds[0])
        if batch_step:
            batches = np.unique(np.clip(best[1] + 1.5 * batch_step * _REFINE, *bounds[1]))
        lr_step, batch_step = lr_step * 3 / (_GRID - 1), batch_step * 3 / (_GRID - 1)
    return best


def _lowest_place(worlds: Worlds, rates: Floats, batches: Floats) -> tuple[int, int]:
    """Where on a grid the expected regret is lowest: among some places first, then around the best of them for as long
    as it falls further. The mean over hundreds of worlds is smooth at the step of such a grid."""
    if len(batches) == 1:
        return _argmin(worlds, rates, batches, range(len(rates)), range(1))
    i, j = _argmin(worlds, rates, batches, range(0, len(rates), _STRIDE), range(0, len(batches), _STRIDE))
    while True:
        around = [
            range(max(at - _STRIDE, 0), min(at + _STRIDE + 1, count))
            for at, count in ((i, len(rates)), (j, len(batches)))
        ]
        before, (i, j) = (i, j), _argmin(worlds, rates, batches, *around)
        if max(abs(i - before[0]), abs(j - before[1])) < _STRIDE:
            return i, j


def _argmin(worlds: Worlds, rates: Floats, batches: Floats, some: range, others: range) -> tuple[int, int]:
    mean = _mean_excess(worlds, rates[some], batches[others])
    i, j = np.unravel_index(int(np.argmin(mean)), mean.shape)
    return some[i], others[j]


@lru_cache(maxsize=_KEPT)
def lr_given_batch(worlds: Worlds, log_batch: float) -> Floats:
    """(worlds,) ln of the learning rate that is best at this batch: the floor of the surface's valley near the best
    batch; away from it, in a share of the worlds that grows with the distance, the law along the batch.
    """
    floor, bends = _along_floor(worlds, log_batch), worlds.bends
    if bends is None:
        return floor
    weight = bends_share(worlds, log_batch)
    # every other mirrored pair, at most: an even share of each choice's worlds
    pair = np.arange(len(floor)) // 2
    share = np.floor((pair + 1) * weight) > np.floor(pair * weight)
    centre = np.where(share, bends.centre_log_lr(log_batch), floor_log_lr(worlds, log_batch))
    widened = 1.0 + (bends.inflation - 1.0) * weight / FAR_SHARE
    return np.asarray(centre + widened * (np.where(share, bends.log_lr(log_batch), floor) - centre))


def bends_share(worlds: Worlds, log_batch: float) -> float:
    """Share of the law along the batch (saturating, surge): none at the best batch, half of it one nat away."""
    if worlds.bends is None:
        return 0.0
    return float(law_share(np.array(log_batch - worlds.centre_log_batch)))


def floor_log_lr(worlds: Worlds, log_batch: float) -> float:
    """ln of the learning rate that is best at this batch along the valley's floor, in the central world."""
    r, q = np.array([log_batch - worlds.centre_log_batch]), worlds.centre_valley[None]
    if worlds.floor is None or worlds.centre_floor is None:
        return worlds.centre_log_lr + float(best_lr_shift(r[0], worlds.centre_valley))
    return worlds.centre_log_lr + float(along_floor(r, worlds.centre_floor[None], q, worlds.centre_valley)[0])


def shares_of_runs(worlds: Worlds, log_batch: float | None) -> tuple[float, float]:
    """Share of what is known of (learning rate, batch) that the runs bring: one less posterior over prior variance.

    Parameters
    ----------
    log_batch : where one is imposed: the learning rate that is asked for is then the best one at it, which the runs may
        fix where the best batch is open (a rate swept at one batch per scale)
    """
    tilt = 0.0
    if log_batch is not None:
        step = 0.05  # ln batch: far less than a valley takes to turn
        tilt = (floor_log_lr(worlds, log_batch + step) - floor_log_lr(worlds, log_batch - step)) / (2 * step)
    rows = np.array([[1.0, -tilt], [0.0, 1.0]])
    after, before = (np.diag(rows @ cov @ rows.T) for cov in (worlds.posterior_cov, worlds.prior_cov))
    of_lr, of_batch = np.maximum(0.0, 1 - after / before)
    return float(of_lr), float(of_batch)


@lru_cache(maxsize=_KEPT)
def at_batch(worlds: Worlds, log_batch: float) -> Worlds:
    """The worlds at one batch: optima moved along ln lr so that the valley's floor there is `lr_given_batch`.

    What the batch costs does not change.
    """
    if worlds.floor is None:
        return worlds
    moved = lr_given_batch(worlds, log_batch) - _shift(worlds, log_batch)
    centre, weight = floor_log_lr(worlds, log_batch), bends_share(worlds, log_batch)
    if worlds.bends is not None:
        centre += weight * (worlds.bends.centre_log_lr(log_batch) - centre)
    centre -= float(best_lr_shift(np.array(log_batch - worlds.centre_log_batch), worlds.centre_valley))
    return replace(worlds, log_lr=moved, centre_log_lr=centre, floor=None, centre_floor=None, bends=None)


def _shift(worlds: Worlds, log_batch: float) -> Floats:
    """(worlds,) ln of the learning rate that is best at this batch by each valley, less that of its optimum."""
    found = worlds.shifts.get(log_batch)
    if found is None:
        if len(worlds.shifts) >= _KEPT:
            worlds.shifts.clear()
        found = worlds.shifts[log_batch] = best_lr_shift(log_batch - worlds.log_batch, worlds.valley)
    return found


def _along_floor(worlds: Worlds, log_batch: float) -> Floats:
    r, shift = log_batch - worlds.log_batch, _shift(worlds, log_batch)
    if worlds.floor is None:
        return np.asarray(worlds.log_lr + shift)
    return worlds.log_lr + along_floor(r, worlds.floor, worlds.valley, worlds.centre_valley, shift)


@lru_cache(maxsize=_KEPT)
def cheap_lr_zone(worlds: Worlds, log_batch: float, share: float) -> tuple[float, float]:
    """ln lr between which the loss stays within `share` of the best at this batch, in the central world."""
    q, v = worlds.centre_valley, np.array(log_batch - worlds.centre_log_batch)
    middle = float(best_lr_shift(v, q))
    least, at = float(excess(np.array(middle), v, q)), excess_of(q, 2)
    low, high = _zone(lambda u: at(u, v) - least, middle, float(np.log1p(share)))
    return worlds.centre_log_lr + low, worlds.centre_log_lr + high


def cheap_batch_zone(worlds: Worlds, share: float) -> tuple[float, float]:
    """ln batch between which the loss stays within `share` of the best when the learning rate follows the batch."""
    low, high = _batch_zone(worlds.centre_valley.tobytes(), share)
    return worlds.centre_log_batch + low, worlds.centre_log_batch + high


@lru_cache(maxsize=64)  # an answer asks for the same zones several times
def _batch_zone(valley: bytes, share: float) -> tuple[float, float]:
    """ln batch less the best one, of a valley's coefficients."""
    q = np.frombuffer(valley)
    return _zone(lambda v: excess(best_lr_shift(v, q), v, q), 0.0, float(np.log1p(share)))


def _excess_at(worlds: Worlds, log_lr: Floats, log_batch: Floats) -> Floats:
    return np.expm1(np.minimum(excess(log_lr - worlds.log_lr, log_batch - worlds.log_batch, worlds.valley), CAP))


def _mean_excess(worlds: Worlds, rates: Floats, batches: Floats) -> Floats:
    """(rates, batches) mean over the worlds of `_excess_at`."""
    q = worlds.valley.T.reshape(3, 3, -1)  # terms x (ln amplitude, by u, by v) x worlds
    far = (_reach(q[:, 1], rates, worlds.log_lr) + _reach(q[:, 2], batches, worlds.log_batch)).max(axis=0)
    near, total = far <= STRAIGHT_BEYOND, np.zeros((len(rates), len(batches)))
    if not near.all():
        total += _excess_at(_some(worlds, ~near), rates[:, None, None], batches[None, :, None]).sum(axis=-1)
        worlds = _some(worlds, near)
        q = worlds.valley.T.reshape(3, 3, -1)
    by_u, by_v = q[:, 1, None] * (rates[:, None] - worlds.log_lr), q[:, 2, None] * (batches[:, None] - worlds.log_batch)
    return (total + _sum_near(np.exp(q[:, :1]), by_u, by_v)) / len(far)


def _reach(slope: Floats, places: Floats, best: Floats) -> Floats:
    """(terms, worlds) the largest part of an exponent at any of some places: it is at an end of them."""
    return np.asarray(np.maximum(slope * (places.min() - best), slope * (places.max() - best)))


def _sum_near(amplitude: Floats, by_u: Floats, by_v: Floats) -> Floats:
    """(rates, batches) sum over worlds whose exponentials are nowhere straight.

    An exponential of a sum is a product of two, of which there are far fewer than places on the grid.
    """
    of_rates, of_batches = amplitude * np.exp(by_u), np.exp(by_v)
    first, second, third = amplitude * (1 + by_u)
    level = first + second + third
    first, second, third = amplitude * by_v
    tilt = first + second + third
    total = of_rates[0, :, None] * of_batches[0]  # (rates, batches, worlds)
    grown = np.empty_like(total)
    for k in (1, 2):
        total += np.multiply(of_rates[k, :, None], of_batches[k], out=grown)
    total -= level[:, None]
    total -= tilt
    np.minimum(total, CAP, out=total)
    np.divide(total, 120, out=grown)  # expm1 of at most `CAP`, to ten digits
    for share in (1 / 24, 1 / 6, 1 / 2, 1.0):
        grown += share
        grown *= total
    return np.asarray(grown.sum(axis=-1))


def _plausible(logs: Floats) -> Floats:
    low, high = np.quantile(logs, PLAUSIBLE)
    return np.linspace(low, max(high, low + 1e-9), _GRID)


def _thin(worlds: Worlds) -> Worlds:
    """Some of the worlds, mirrored pairs kept together."""
    return _some(worlds, _pairs(len(worlds.log_lr)))


@lru_cache(maxsize=_KEPT)
def _pairs(count: int) -> NDArray[np.intp]:
    """Places of some of so many worlds."""
    step = max(1, count // _SEARCH_WORLDS)
    return np.flatnonzero((np.arange(count) // 2) % step == 0)


def _some(worlds: Worlds, some: NDArray[np.bool_] | NDArray[np.intp]) -> Worlds:
    floor = None if worlds.floor is None else worlds.floor[some]
    return replace(
        worlds,
        log_lr=worlds.log_lr[some],
        log_batch=worlds.log_batch[some],
        valley=worlds.valley.T[:, some].T,
        floor=floor,
        shifts={},
    )


def _zone(cost: Callable[[Floats], Floats], middle: float, limit: float) -> tuple[float, float]:
    """Where a convex cost crosses the limit on both sides of its minimum: the span that holds the crossing is cut into
    many parts at once, which takes far fewer calls than halving it."""
    side = np.array([[-1.0], [1.0]])
    inner, width = np.zeros((2, 1)), np.full((2, 1), _ZONE_LIMIT)
    for _ in range(_ZONE_ROUNDS):
        below = cost(middle + side * (inner + width * _PARTS)) < limit  # (2, parts), true up to the crossing
        passed = np.minimum(below.sum(axis=1, keepdims=True), len(_PARTS) - 1)
        width = width / len(_PARTS)
        inner = inner + width * passed
    low, high = middle + side[:, 0] * (inner + width)[:, 0]
    return float(low), float(high)
