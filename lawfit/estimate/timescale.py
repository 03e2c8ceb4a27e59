"""The best AdamW timescale of each scale, its law in tokens per parameter, and weight decay from it.

All slices of all scales are fitted at once. In x = ln tau the log loss of slice i is
``floor_i + k h(x - mu_i; s)``: one valley, of one stiffness k and skew s, about an optimum
``mu_i = mu(scale) + a (ln lr - mean) + b (ln batch - mean)``. Were the timescale all that counts (Wang and Aitchison,
arXiv 2405.13698), a and b would be zero; they are fitted with a prior there, so that grids over learning rate or batch
show by how much it is not. Floors are linear and projected out. Scales differ much in noise, so each has its own.

Which runs enter (how far above the lowest loss of their slice) is a choice that moves the answer: the fit is made for
each of `WINDOWS`, averaged, and their disagreement is part of the uncertainty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.optimum_law import MeasuredOptima, OptimumLaw, fit_optimum_law
from lawfit.estimate.weight_decay import AS_LARGE, AS_SMALL, DecayOptimum, DecayRuns, DecaySlice, locate_in_slices
from lawfit.laws.timescale import DecayConvention, TimescaleLaw, weight_decay_of
from lawfit.records import FitStatus, OptimumStatus
from lawfit.units import format_quantity

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

WINDOWS: Final = (0.02, 0.04, 0.08)  # of log loss above the lowest of the slice
SLICE_WINDOW: Final = 0.03  # slices whose lowest lies further above the scale's own are at hopeless learning rates
MIN_POSITIVE: Final = 3  # finished positive values in a slice that can show a valley
RATIO: Final = "tokens_per_param"
# Lent where there are fewer than three scales: Power Lines' exponent (2505.13738, V2) and, since it is one recipe's,
# a wide sd that spans a constant timescale (0, arXiv 2405.13698) within two of them.
LENT: Final[Mapping[str, tuple[float, float]]] = {RATIO: (-0.527, 0.3)}
PLAUSIBLE: Final = (
    0.03,
    30.0,
)  # level of the law at the lent exponent; Power Lines has 1.084, a wrong unit 1 / seq_len
RESOLVED_SD: Final = 1.2  # nats of tau: a scale known no better than this does not show its optimum
# Slopes of ln tau* along ln lr and ln batch; ln stiffness (a factor e off the best timescale costs some 0.4 % of
# loss); skew (too much weight decay, small tau, costs more than too little).
_PRIOR_MEANS: Final = np.array([0.0, 0.0, np.log(0.004), -0.6])
_PRIOR_SDS: Final = np.array([0.4, 0.4, 1.5, 0.6])
_PRIOR_CENTRE_SD: Final = 3.0  # nats around the middle of what a scale tried: a scale without a valley stays near
_NOISE_PRIOR: Final = (0.002, 3.0)  # sd of log loss, and as how many points it counts
_REWEIGHTINGS: Final = 5
_MOST_STEPS: Final = 300
_SETTLED: Final = 1e-10  # promised gain, as a share of the objective: far below what any interval could show


@dataclass(frozen=True, kw_only=True)
class ScaleTimescale:
    """The best timescale of one scale."""

    params: float
    tokens: float
    timescale: float  # NaN where no slice shows a valley
    log_sd: float  # infinite where the scale does not show it
    status: OptimumStatus
    bound: str  # of the weight decay, when AT_EDGE
    slices: int  # that entered the fit
    runs: int
    noise_sd: float  # of log loss

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            name: (value if np.isfinite(value := float(getattr(self, name))) else None)
            for name in ("params", "tokens", "timescale", "log_sd", "noise_sd")
        }
        return document | {
            "status": self.status.value,
            "bound": self.bound,
            "slices": self.slices,
            "runs": self.runs,
        }


@dataclass(frozen=True, kw_only=True)
class PredictedDecay:
    """Weight decay for a scale, batch and learning rate."""

    weight_decay: float  # coupled to the learning rate, as torch.optim.AdamW takes it
    low: float  # of a `level` interval
    high: float
    level: float
    independent: float  # the same shrinking per step in the independent convention
    timescale: float
    decades: Mapping[str, float]  # of tokens per parameter, beyond the fitted scales; 0 inside
    sentence: str  # what to know before using it; "" when nothing

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "decades": dict(self.decades)}


@dataclass(frozen=True, kw_only=True)
class TimescaleFit:
    """Everything the runs say about weight decay."""

    status: FitStatus
    scales: tuple[ScaleTimescale, ...]
    optima: tuple[DecayOptimum, ...]  # slice by slice, whatever they show
    law: OptimumLaw | None  # of tau in tokens per parameter; None: see `sentences`
    lr_slope: tuple[float, float] | None  # of ln tau* along ln lr: estimate and sd; None where no grid shows it
    batch_slope: tuple[float, float] | None
    skew: float
    stiffness: float
    agree: bool  # every start of every window ended in the same minimum
    sentences: tuple[str, ...]

    def predict(
        self, params: float, tokens: float, batch_tokens: float, lr: float, *, level: float = 0.9
    ) -> PredictedDecay:
        """The best weight decay at a scale, for the batch and peak learning rate that will be used.

        Raises
        ------
        FitError
            The runs carry no law; the message says what is missing.
        """
        if self.law is None:
            raise FitError("; ".join(self.sentences) or "these runs show no best weight decay")
        tau = self.law.predict(level, **{RATIO: tokens / params})
        value, high, low = (float(weight_decay_of(t, batch_tokens, lr, tokens)) for t in (tau.value, tau.low, tau.high))
        return PredictedDecay(
            weight_decay=value,
            low=low,
            high=high,
            level=level,
            independent=float(
                weight_decay_of(tau.value, batch_tokens, lr, tokens, convention=DecayConvention.INDEPENDENT)
            ),
            timescale=tau.value,
            decades=tau.decades,
            sentence="; ".join(self.sentences),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "status": self.status.value,
            "scales": [scale.to_json() for scale in self.scales],
            "optima": [optimum.to_json() for optimum in self.optima],
            "law": None if self.law is None else self.law.to_json(),
            "lr_slope": None if self.lr_slope is None else list(self.lr_slope),
            "batch_slope": None if self.batch_slope is None else list(self.batch_slope),
            "skew": self.skew,
            "stiffness": self.stiffness,
            "agree": self.agree,
            "sentences": list(self.sentences),
        }


def fit_timescale(runs: DecayRuns) -> TimescaleFit:
    """The best timescale of every scale, and its law where the scales carry one.

    Raises
    ------
    NotEnoughData
        Weight decay never varies at fixed scale, batch and learning rate.
    """
    slices = list(runs.slices())
    optima = locate_in_slices(slices)
    if not optima:
        raise NotEnoughData(
            "weight decay never varies at one scale, batch and learning rate; run three or more values of it at one "
            "of your settings, for example a third, one and three times the one in use"
        )
    usable = _usable(slices)
    valley = _fit_windows(usable) if usable else None
    scales = _scales(optima, usable, valley)
    law, status, sentences = _law(scales, 0.0 if valley is None else valley.shared_sd)
    if valley is not None and not valley.agree:
        status = FitStatus.UNCERTIFIED
        sentences = (*sentences, "starts of the joint fit ended in different minima")
    return TimescaleFit(
        status=status,
        scales=scales,
        optima=optima,
        law=law,
        lr_slope=None if valley is None else valley.lr_slope,
        batch_slope=None if valley is None else valley.batch_slope,
        skew=float("nan") if valley is None else valley.skew,
        stiffness=float("nan") if valley is None else valley.stiffness,
        agree=valley is None or valley.agree,
        sentences=(*sentences, *runs.notes),
    )


@dataclass(frozen=True, kw_only=True)
class MethodCost:
    """What one way of choosing weight decay would have cost at the held-out scales."""

    method: str
    mean: float  # of log loss above the lowest observed in the slice, mean over slices
    worst: float
    slices: int
    outside: int  # slices where the choice lies beyond what was tried: its cost there is a lower bound


OURS: Final = "law fitted on the smaller sizes"


def score_largest_size(runs: DecayRuns, published: Mapping[str, TimescaleLaw] | None = None) -> tuple[MethodCost, ...]:
    """Fit on all sizes below the largest one swept, choose a weight decay for each of its slices, price it on its runs.

    Slices count whose best run is within `SLICE_WINDOW` of the largest size's own best at that horizon. Beside the
    law: a constant timescale and a constant weight decay (means over the smaller scales' best), no weight decay,
    0.1, and published laws.

    Raises
    ------
    NotEnoughData
        Fewer than two sizes have a slice with three positive values.
    FitError
        The smaller sizes carry no law.
    """
    usable = _usable(list(runs.slices()))
    top = max((part.params for part in usable), default=0.0) * 0.95
    held_out = [part for part in usable if part.params > top]
    if len(held_out) == len(usable):
        raise NotEnoughData(
            f"a backtest by size needs two sizes with {MIN_POSITIVE} finished positive weight decays in a slice; "
            f"{'one has' if usable else 'none has'}"
        )
    fit = fit_timescale(runs.take(runs.params <= top))
    if fit.law is None:
        raise FitError("; ".join(fit.sentences))
    known = [s for s in fit.scales if np.isfinite(s.log_sd)]
    flat = float(np.exp(np.mean([np.log(s.timescale) for s in known])))
    seen = {(s.params, s.tokens) for s in known}
    decays = [o.weight_decay for o in fit.optima if (o.params, o.tokens) in seen and o.weight_decay > 0]
    usual = float(np.exp(np.mean(np.log(decays)))) if decays else 0.1
    choices: dict[str, Callable[[DecaySlice], float]] = {
        OURS: lambda s: fit.predict(s.params, s.tokens, s.batch_tokens, s.lr).weight_decay,
        "constant timescale": lambda s: float(weight_decay_of(flat, s.batch_tokens, s.lr, s.tokens)),
        "constant weight decay": lambda _: usual,
        "weight decay 0.1": lambda _: 0.1,
        "no weight decay": lambda _: 0.0,
        **{name: _by(law) for name, law in (published or {}).items()},
    }
    rows = []
    for method, choose in choices.items():
        costs = [part.cost(choose(part)) for part in held_out]
        rows.append(
            MethodCost(
                method=method,
                mean=float(np.mean([cost for cost, _ in costs])),
                worst=float(np.max([cost for cost, _ in costs])),
                slices=len(costs),
                outside=sum(out for _, out in costs),
            )
        )
    return tuple(rows)


def _by(law: TimescaleLaw) -> Callable[[DecaySlice], float]:
    return lambda s: float(law.weight_decay(s.params, s.tokens, s.batch_tokens, s.lr))


@dataclass(frozen=True, kw_only=True)
class _Valley:
    scales: tuple[tuple[float, float], ...]
    centre: Floats  # (scales,) ln tau at the scale's mean learning rate and batch
    sd: Floats
    noise: Floats
    lr_slope: tuple[float, float] | None
    batch_slope: tuple[float, float] | None
    skew: float
    stiffness: float
    agree: bool
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
    return _usable(list(runs.slices()))


def _usable(slices: Sequence[DecaySlice]) -> list[DecaySlice]:
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


def _fit_windows(slices: Sequence[DecaySlice]) -> _Valley:
    fits = [_fit_valley(_points(slices, window)) for window in WINDOWS]
    centres = np.array([fit.centre for fit in fits])
    first = fits[0]
    return _Valley(
        scales=first.scales,
        centre=centres.mean(axis=0),
        sd=np.sqrt(np.mean([fit.sd**2 for fit in fits], axis=0) + centres.var(axis=0, ddof=1)),
        noise=np.mean([fit.noise for fit in fits], axis=0),
        lr_slope=_pooled([fit.lr_slope for fit in fits]),
        batch_slope=_pooled([fit.batch_slope for fit in fits]),
        skew=float(np.mean([fit.skew for fit in fits])),
        stiffness=float(np.exp(np.mean([np.log(fit.stiffness) for fit in fits]))),
        agree=all(fit.agree for fit in fits),
        shared_sd=float(centres.mean(axis=1).std(ddof=1)),
    )


def _fit_valley(points: _Points) -> _Valley:
    """Iteratively reweighted: a minimum, then each scale's own noise, until both stand; then from other starts too."""
    from scipy.stats import t

    count = len(points.scales)
    noise = np.full(count, _NOISE_PRIOR[0])
    theta, cost, _ = _minimum(_start(points, 0.0), points, noise)
    for _ in range(_REWEIGHTINGS):
        noise = _noise(points, theta)
        theta, cost, _ = _minimum(theta, points, noise)
    others = [_minimum(_start(points, shift), points, noise) for shift in (-1.0, 1.0)]
    theta, cost = min([(theta, cost), *((at, height) for at, height, _ in others)], key=lambda found: found[1])
    variance, shared_variance = _system(theta, points, noise).variances()
    dof = max(1.0, len(points.x) - (points.slice.max() + 1) - count - 2 + _NOISE_PRIOR[1])
    widen = float(t.ppf(0.95, dof) / t.ppf(0.95, 1e9))
    sd = widen * np.sqrt(np.concatenate([variance, shared_variance]))
    by_lr, by_batch = points.varies
    return _Valley(
        scales=points.scales,
        centre=theta[:count],
        sd=sd[:count],
        noise=noise,
        lr_slope=(float(theta[count]), float(sd[count])) if by_lr else None,
        batch_slope=(float(theta[count + 1]), float(sd[count + 1])) if by_batch else None,
        skew=float(theta[count + 3]),
        stiffness=float(np.exp(theta[count + 2])),
        # minima that differ by less than a tenth of a likelihood unit are one for every purpose
        agree=all(converged and height - cost < 0.1 + 1e-7 * cost for _, height, converged in others),
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
                return theta, system.cost, False
    return theta, system.cost, False


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
    z = np.clip(skew * u, -30.0, 8.0)
    if abs(skew) > 1e-3:
        grown = np.expm1(z)
        h, by_u = 2 * (grown - z) / skew**2, 2 * grown / skew
        by_skew = by_u * u / skew - 2 * h / skew
    else:  # its series: the formula divides small differences by s^2
        h, by_u, by_skew = u**2 * (1 + z / 3 + z**2 / 12), u * (2 + z + z**2 / 3), u**3 * (1 / 3 + z / 6)
    by_shared = np.column_stack(
        [-k * by_u * by_lr * points.lr, -k * by_u * by_batch * points.batch, k * h, k * by_skew]
    )
    return k * h, -k * by_u, by_shared


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


def _scales(
    optima: Sequence[DecayOptimum], usable: Sequence[DecaySlice], valley: _Valley | None
) -> tuple[ScaleTimescale, ...]:
    found = []
    for scale in sorted({(o.params, o.tokens) for o in optima}):
        mine = [o for o in optima if (o.params, o.tokens) == scale]
        parts = [part for part in usable if part.scale == scale]
        runs = sum(o.runs for o in mine)
        if valley is None or scale not in valley.scales:
            status, bound = _vote(mine)
            found.append(_scale(scale, np.nan, np.inf, status, bound, 0, runs, np.nan))
            continue
        at = valley.scales.index(scale)
        near = [o for o in mine if any(o.lr == p.lr and o.batch_tokens == p.batch_tokens for p in parts)]
        status, bound = _vote(near)
        tau, sd = float(np.exp(valley.centre[at])), float(valley.sd[at])
        tried = np.concatenate([p.timescale(p.weight_decay[p.weight_decay > 0]) for p in parts])
        if status is OptimumStatus.INSIDE and not tried.min() <= tau <= tried.max():
            status, bound = OptimumStatus.AT_EDGE, AS_LARGE if tau < tried.min() else AS_SMALL
        if status in (OptimumStatus.AT_EDGE, OptimumStatus.TOO_FEW):
            sd = np.inf
        elif sd > RESOLVED_SD:
            status, sd = OptimumStatus.FLAT, np.inf
        found.append(_scale(scale, tau, sd, status, bound, len(parts), runs, float(valley.noise[at])))
    return tuple(found)


def _scale(
    scale: tuple[float, float],
    tau: float,
    sd: float,
    status: OptimumStatus,
    bound: str,
    slices: int,
    runs: int,
    noise: float,
) -> ScaleTimescale:
    return ScaleTimescale(
        params=scale[0],
        tokens=scale[1],
        timescale=tau,
        log_sd=sd,
        status=status,
        bound=bound,
        slices=slices,
        runs=runs,
        noise_sd=noise,
    )


def _vote(optima: Sequence[DecayOptimum]) -> tuple[OptimumStatus, str]:
    """What most slices of a scale show; an edge only where more lie at that edge than inside."""
    inside = sum(o.status is OptimumStatus.INSIDE for o in optima)
    for bound in (AS_SMALL, AS_LARGE):
        if sum(o.bound == bound for o in optima) > inside:
            return OptimumStatus.AT_EDGE, bound
    if inside:
        return OptimumStatus.INSIDE, ""
    if any(o.status is OptimumStatus.FLAT for o in optima):
        return OptimumStatus.FLAT, ""
    return OptimumStatus.TOO_FEW, ""


def _law(scales: Sequence[ScaleTimescale], shared_sd: float) -> tuple[OptimumLaw | None, FitStatus, tuple[str, ...]]:
    known = [s for s in scales if np.isfinite(s.log_sd)]
    sentences = _open_scales([s for s in scales if not np.isfinite(s.log_sd)])
    if not known:
        return None, FitStatus.UNCERTIFIED, ("no scale shows its best weight decay", *sentences)
    implied = np.exp(np.mean([np.log(s.timescale) - LENT[RATIO][0] * np.log(s.tokens / s.params) for s in known]))
    if not PLAUSIBLE[0] < implied < PLAUSIBLE[1]:
        low, high = min(s.timescale for s in known), max(s.timescale for s in known)
        sentences.append(
            f"timescales of {low:.2g} to {high:.2g} are far from all that was published (0.02 to 0.5); "
            f"is the batch in tokens?"
        )
    optima = MeasuredOptima.of(
        [s.timescale for s in known],
        [s.log_sd for s in known],
        {RATIO: [s.tokens / s.params for s in known]},
        shared_log_sd=shared_sd,
    )
    try:
        return fit_optimum_law(optima, (RATIO,)), FitStatus.OK, tuple(sentences)
    except FitError as error:
        mean, sd = LENT[RATIO]
        lent = f"its exponent is lent by Power Lines ({mean} with an sd of {sd}), since {error}"
        return fit_optimum_law(optima, (RATIO,), prior=LENT), FitStatus.SPARSE, (lent, *sentences)


_OPEN_WORDS: Final = {
    OptimumStatus.FLAT: "the weight decays tried differ by no more than noise",
    OptimumStatus.TOO_FEW: "too few weight decays were tried",
    OptimumStatus.INSIDE: "the best weight decay lies between those tried, but fewer than three positive ones do not "
    "say where",
}


def _open_scales(scales: Sequence[ScaleTimescale]) -> list[str]:
    """One sentence per reason, with the scales that it holds for."""
    places: dict[str, list[str]] = {}
    for scale in scales:
        edge = scale.status is OptimumStatus.AT_EDGE
        reason = f"the best weight decay is {scale.bound}" if edge else _OPEN_WORDS[scale.status]
        where = f"{format_quantity(scale.params)} params on {format_quantity(scale.tokens)} tokens"
        places.setdefault(reason, []).append(where)
    return [f"{reason} ({', '.join(where)})" for reason, where in places.items()]
