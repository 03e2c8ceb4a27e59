"""The best timescale of each scale from all slices at once: one valley over ln tau, fitted jointly.

In x = ln tau the log loss of slice i is ``floor_i + k h(x - mu_i; s)``: one valley, of one stiffness k and skew s,
about an optimum ``mu_i = mu(scale) + a (ln lr - mean) + b (ln batch - mean)``. Were the timescale all that counts
(Wang and Aitchison, arXiv 2405.13698), a and b would be zero; they are fitted with a prior there, so that grids over
learning rate or batch show by how much it is not. Floors are linear and projected out. Scales differ much in noise, so
each has its own.

Which runs enter (how far above the lowest loss of their slice) is a choice that moves the answer: the fit is made for
each of `WINDOWS`, averaged, and their disagreement is part of the uncertainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.numerics.certificate import Search
from lawfit.estimate.weight_decay.sweep import DecayRuns, DecaySlice

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

WINDOWS: Final = (0.02, 0.04, 0.08)  # of log loss above the lowest of the slice
SLICE_WINDOW: Final = 0.03  # slices whose lowest lies further above the scale's own are at hopeless learning rates
MIN_POSITIVE: Final = 3  # finished positive values in a slice that can show a valley
# Slopes of ln tau* along ln lr and ln batch; ln stiffness (a factor e off the best timescale costs some 0.4 % of
# loss); skew (too much weight decay, small tau, costs more than too little).
_PRIOR_MEANS: Final = np.array([0.0, 0.0, np.log(0.004), -0.6])
_PRIOR_SDS: Final = np.array([0.4, 0.4, 1.5, 0.6])
_PRIOR_CENTRE_SD: Final = 3.0  # nats around the middle of what a scale tried: a scale without a valley stays near
_NOISE_PRIOR: Final = (0.002, 3.0)  # sd of log loss, and as how many points it counts
_REWEIGHTINGS: Final = 5
_MOST_STEPS: Final = 300
CONVERGED: Final = 0.01  # standard errors between the end of a search and where its gradient points
_SETTLED: Final = 1e-10  # promised gain, as a share of the objective: far below what any interval could show


@dataclass(frozen=True, kw_only=True)
class Valley:
    """What the joint fit found."""

    scales: tuple[tuple[float, float], ...]
    centre: Floats  # (scales,) ln tau at the scale's mean learning rate and batch
    sd: Floats
    noise: Floats
    lr_slope: tuple[float, float] | None
    batch_slope: tuple[float, float] | None
    skew: float
    stiffness: float
    log_stiffness_sd: float
    tried: tuple[float, float]  # ln tau of runs over the optimum of their scale: lowest and highest
    search: Search
    shared_sd: float = 0.0  # by which the choice of a window moves all scales together


@dataclass(frozen=True, kw_only=True)
class _Points:
    """One row per finished run of a usable slice, within a window."""

    x: Floats  # ln tau
    y: Floats  # log loss
    slice: Ints
    scale: Ints
    lr: Floats  # ln lr, centred by scale
    batch: Floats
    scales: tuple[tuple[float, float], ...]
    middle: Floats  # (scales,) of x

    @property
    def varies(self) -> tuple[bool, bool]:
        return bool(np.ptp(self.lr) > 0.1), bool(np.ptp(self.batch) > 0.1)


def usable_slices(runs: DecayRuns) -> list[DecaySlice]:
    """Slices with three or more positive weight decays, near the best of their scale: where a choice has a price."""
    return with_valley(list(runs.slices()))


def with_valley(slices: Sequence[DecaySlice]) -> list[DecaySlice]:
    """Slices with a valley to see, near the best of their scale."""
    lowest: dict[tuple[float, float], float] = {}
    for part in slices:
        if len(part.log_loss):
            lowest[part.scale] = min(lowest.get(part.scale, np.inf), float(part.log_loss.min()))
    return [
        part
        for part in slices
        if (part.weight_decay > 0).sum() >= MIN_POSITIVE
        and float(part.log_loss.min()) <= lowest[part.scale] + SLICE_WINDOW
    ]


def _points(slices: Sequence[DecaySlice], window: float) -> _Points:
    scales = tuple(sorted({part.scale for part in slices}))
    columns: list[tuple[float, ...]] = []
    for index, part in enumerate(slices):
        positive = part.weight_decay > 0
        tau, loss = np.log(part.timescale(part.weight_decay[positive])), part.log_loss[positive]
        near = loss <= loss.min() + window
        if near.sum() < MIN_POSITIVE:  # the nearest ones still bracket the lowest
            near = np.argsort(np.argsort(np.abs(np.arange(len(loss)) - int(loss.argmin())))) < MIN_POSITIVE
        columns += [
            (float(x), float(y), index, scales.index(part.scale), np.log(part.lr), np.log(part.batch_tokens))
            for x, y in zip(tau[near], loss[near], strict=True)
        ]
    x, y, which, scale, lr, batch = np.array(columns).T
    scale_index = scale.astype(np.intp)
    return _Points(
        x=x,
        y=y,
        slice=which.astype(np.intp),
        scale=scale_index,
        lr=_centred(lr, scale_index),
        batch=_centred(batch, scale_index),
        scales=scales,
        middle=np.bincount(scale_index, weights=x) / np.bincount(scale_index),
    )


def fit_windows(slices: Sequence[DecaySlice]) -> Valley:
    fits = [_fit_valley(_points(slices, window)) for window in WINDOWS]
    centres = np.array([fit.centre for fit in fits])
    first, log_stiffness = fits[0], [np.log(fit.stiffness) for fit in fits]
    return Valley(
        scales=first.scales,
        centre=centres.mean(axis=0),
        sd=np.sqrt(np.mean([fit.sd**2 for fit in fits], axis=0) + centres.var(axis=0, ddof=1)),
        noise=np.mean([fit.noise for fit in fits], axis=0),
        lr_slope=_pooled([fit.lr_slope for fit in fits]),
        batch_slope=_pooled([fit.batch_slope for fit in fits]),
        skew=float(np.mean([fit.skew for fit in fits])),
        stiffness=float(np.exp(np.mean(log_stiffness))),
        log_stiffness_sd=float(
            np.sqrt(np.mean([fit.log_stiffness_sd**2 for fit in fits]) + np.var(log_stiffness, ddof=1))
        ),
        tried=(min(fit.tried[0] for fit in fits), max(fit.tried[1] for fit in fits)),
        search=_joined([fit.search for fit in fits]),
        shared_sd=float(centres.mean(axis=1).std(ddof=1)),
    )


def _fit_valley(points: _Points) -> Valley:
    """Iteratively reweighted: a minimum, then each scale's own noise, until both stand; then from other starts too."""
    from scipy.stats import t

    count = len(points.scales)
    noise = np.full(count, _NOISE_PRIOR[0])
    theta, _, _ = _minimum(_start(points, 0.0), points, noise)
    for _ in range(_REWEIGHTINGS):
        noise = _noise(points, theta)
        first = _minimum(theta, points, noise)
        theta = first[0]
    ends = [first, *(_minimum(_start(points, shift), points, noise) for shift in (-1.0, 1.0))]
    theta, cost, _ = min(ends, key=lambda found: found[1])
    # minima that differ by less than a tenth of a likelihood unit are one for every purpose
    same = np.array([converged and height - cost < 0.1 + 1e-7 * cost for _, height, converged in ends])
    system = _system(theta, points, noise)
    variance, shared_variance = system.variances()
    remaining = system.remaining()
    dof = max(1.0, len(points.x) - (points.slice.max() + 1) - count - 2 + _NOISE_PRIOR[1])
    widen = float(t.ppf(0.95, dof) / t.ppf(0.95, 1e9))
    sd = widen * np.sqrt(np.concatenate([variance, shared_variance]))
    by_lr, by_batch = points.varies
    return Valley(
        scales=points.scales,
        centre=theta[:count],
        sd=sd[:count],
        noise=noise,
        lr_slope=(float(theta[count]), float(sd[count])) if by_lr else None,
        batch_slope=(float(theta[count + 1]), float(sd[count + 1])) if by_batch else None,
        skew=float(theta[count + 3]),
        stiffness=float(np.exp(theta[count + 2])),
        log_stiffness_sd=float(sd[count + 2]),
        tried=_ends(points.x - theta[points.scale]),
        search=Search(
            starts=len(ends),
            agreeing=int(same.sum()),
            spread=float((np.abs(np.array([at for at, _, _ in ends]) - theta)[same] / sd).max(initial=0.0)),
            gradient_norm=remaining,
            converged=remaining < CONVERGED and all(converged for _, _, converged in ends),
        ),
    )


def _joined(searches: Sequence[Search]) -> Search:
    """Of all windows: every start counts, and the worst of each figure."""
    return Search(
        starts=sum(search.starts for search in searches),
        agreeing=sum(search.agreeing for search in searches),
        spread=max(search.spread for search in searches),
        gradient_norm=max(search.gradient_norm for search in searches),
        converged=all(search.converged for search in searches),
    )


def _minimum(start: Floats, points: _Points, noise: Floats) -> tuple[Floats, float, bool]:
    """(theta, half the summed squares, converged) of the nearest minimum: Levenberg and Marquardt.

    Each scale has a centre of its own and all share four parameters, so the normal equations are an arrow: a step
    takes time in proportion to the number of runs.
    """
    theta = start
    system = _system(theta, points, noise)
    damping = 1e-3
    for _ in range(_MOST_STEPS):
        step, promised = system.step(damping)
        if promised <= _SETTLED * (1 + system.cost):
            return theta, system.cost, True
        tried = _system(theta + step, points, noise)
        if np.isfinite(tried.cost) and tried.cost < system.cost:
            theta, system, damping = theta + step, tried, max(damping / 5, 1e-9)
        else:
            damping *= 4
            if damping > 1e12:
                break  # no downhill step is left; whether that is the minimum is for the gradient to say
    return theta, system.cost, system.remaining() < CONVERGED


@dataclass(frozen=True)
class _System:
    """Half the sum of squares at theta, its gradient, and the Gauss-Newton Hessian as an arrow."""

    cost: float
    gradient: Floats  # (scales + 4,)
    own: Floats  # (scales,) diagonal
    across: Floats  # (scales, 4)
    shared: Floats  # (4, 4)

    def step(self, damping: float) -> tuple[Floats, float]:
        """The damped step down, and what it promises to gain at least."""
        count = len(self.own)
        own = self.own * (1 + damping)
        shared = self.shared + damping * np.diag(np.diag(self.shared))
        top, bottom = -self.gradient[:count], -self.gradient[count:]
        ratio = self.across / own[:, None]
        last = np.linalg.solve(shared - self.across.T @ ratio, bottom - ratio.T @ top)
        step = np.concatenate([top / own - ratio @ last, last])
        return step, float(-0.5 * self.gradient @ step)

    def remaining(self) -> float:
        """Length of the Newton step, in standard errors."""
        return float(np.sqrt(2 * max(self.step(0.0)[1], 0.0)))

    def variances(self) -> tuple[Floats, Floats]:
        """Of the centres and of the shared parameters: the diagonal of the inverse."""
        ratio = self.across / self.own[:, None]
        inner = np.linalg.inv(self.shared - self.across.T @ ratio)
        return 1 / self.own + np.einsum("ci,ij,cj->c", ratio, inner, ratio), np.diag(inner)


def _system(theta: Floats, points: _Points, noise: Floats) -> _System:
    count = len(points.scales)
    excess, by_centre, by_shared = _excess(theta, points)
    sd = noise[points.scale]
    z = _without_floors(points.y - excess, points) / sd
    q = np.sqrt(1 + z**2 / 4)
    robust = np.sign(z) * np.sqrt(8 * (q - 1))  # pseudo-Huber: straight beyond 2 sd
    slope = -np.sqrt(0.5 * (q + 1)) / q / sd  # d robust / d excess
    own = slope * _without_floors(by_centre, points)
    four = slope[:, None] * np.column_stack([_without_floors(column, points) for column in by_shared.T])
    lost = (theta[:count] - points.middle) / _PRIOR_CENTRE_SD
    apart = (theta[count:] - _PRIOR_MEANS) / _PRIOR_SDS

    def by_scale(values: Floats) -> Floats:
        return np.asarray(np.bincount(points.scale, weights=values, minlength=count), dtype=float)

    return _System(
        cost=0.5 * float(robust @ robust + lost @ lost + apart @ apart),
        gradient=np.concatenate(
            [by_scale(own * robust) + lost / _PRIOR_CENTRE_SD, four.T @ robust + apart / _PRIOR_SDS]
        ),
        own=by_scale(own**2) + _PRIOR_CENTRE_SD**-2,
        across=np.column_stack([by_scale(own * column) for column in four.T]),
        shared=four.T @ four + np.diag(_PRIOR_SDS**-2),
    )


def _start(points: _Points, shift: float) -> Floats:
    """Each scale's optimum at the mean of its slices' best values, moved by `shift` nats."""
    centre = np.empty(len(points.scales))
    for scale in range(len(points.scales)):
        lowest = []
        for index in np.unique(points.slice[points.scale == scale]):
            rows = np.flatnonzero(points.slice == index)
            lowest.append(points.x[rows[np.argmin(points.y[rows])]])
        centre[scale] = np.mean(lowest)
    return np.concatenate([centre + shift, _PRIOR_MEANS])


def _excess(theta: Floats, points: _Points) -> tuple[Floats, Floats, Floats]:
    """``k h(x - mu; s)``, its derivative by the own centre and (n, 4) by what is shared.

    ``h = 2 (e^(s u) - s u - 1) / s^2`` is u^2 near zero, exponential on one side and straight on the other. What never
    varies has no slope.
    """
    count = len(points.scales)
    lr_slope, batch_slope, log_stiffness, skew = theta[count:]
    by_lr, by_batch = points.varies
    u = points.x - theta[points.scale] - by_lr * lr_slope * points.lr - by_batch * batch_slope * points.batch
    k = float(np.exp(np.clip(log_stiffness, -20.0, 5.0)))
    h, by_u, by_skew = _shape(u, skew)
    by_shared = np.column_stack(
        [-k * by_u * by_lr * points.lr, -k * by_u * by_batch * points.batch, k * h, k * by_skew]
    )
    return k * h, -k * by_u, by_shared


def cost_of_timescale(u: Floats, stiffness: Floats | float, skew: float) -> Floats:
    """Excess of log loss at ``u = ln tau/tau*``."""
    return np.asarray(stiffness * _shape(u, skew)[0])


def _shape(u: Floats, skew: float) -> tuple[Floats, Floats, Floats]:
    """h and its derivatives by u and by the skew."""
    z = np.clip(skew * u, -30.0, 8.0)
    if abs(skew) > 1e-3:
        grown = np.expm1(z)
        h, by_u = 2 * (grown - z) / skew**2, 2 * grown / skew
        return h, by_u, by_u * u / skew - 2 * h / skew
    # its series: the formula divides small differences by s^2
    return u**2 * (1 + z / 3 + z**2 / 12), u * (2 + z + z**2 / 3), u**3 * (1 / 3 + z / 6)


def _ends(values: Floats) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _without_floors(values: Floats, points: _Points) -> Floats:
    """Values less their slice's mean: floors are linear."""
    size = np.maximum(np.bincount(points.slice), 1)
    return np.asarray(values - (np.bincount(points.slice, weights=values) / size)[points.slice])


def _noise(points: _Points, theta: Floats) -> Floats:
    """sd of each scale's log loss around the valley, drawn a little towards a common small value."""
    square = _without_floors(points.y - _excess(theta, points)[0], points) ** 2
    count = len(points.scales)
    total = np.bincount(points.scale, weights=square, minlength=count)
    slices = np.array([len(np.unique(points.slice[points.scale == c])) for c in range(count)])
    dof = np.maximum(np.bincount(points.scale, minlength=count) - slices - 1, 0)
    usual, weight = _NOISE_PRIOR
    return np.asarray(np.sqrt((total + weight * usual**2) / (dof + weight)))


def _pooled(found: Sequence[tuple[float, float] | None]) -> tuple[float, float] | None:
    pairs = [pair for pair in found if pair is not None]
    if not pairs:
        return None
    value, sd = np.array(pairs).T
    return float(value.mean()), float(np.sqrt((sd**2).mean() + (value.var(ddof=1) if len(value) > 1 else 0.0)))


def _centred(values: Floats, group: Ints) -> Floats:
    return np.asarray(values - (np.bincount(group, weights=values) / np.bincount(group))[group])
