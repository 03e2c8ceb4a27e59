"""Which form the best learning rate follows along the batch, at one size and horizon.

Each form is linear in logs but for its noise batch, which is searched over a grid from far below to far above the
batches and then polished: the best fit is the global one. Forms are compared by what they say about a batch that they
did not see; those that are about as good as the best stay in the answer as its spread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import FitError, NotEnoughData
from lawfit.findings import finding
from lawfit.laws.lr_batch import Form, Power, PowerScheduler, Saturating, StochasticOracle, Surge

Floats = NDArray[np.float64]

MIN_BATCHES: Final = 5  # leaving one out of four would fit the three numbers of a form to three points
_REACH: Final = np.log(1e3)  # the noise batch is looked for this far beyond the batches
_GRID: Final = 401
_ZOOMS: Final = 5  # each 20 times finer: 1e-8 in the log of the noise batch
_ORACLE_SHARES: Final = np.linspace(np.log(1e-6), np.log1p(-1e-9), _GRID)  # of batch_min in the smallest batch
_SAME: Final = 1e-6  # squared errors of ln lr that differ by less are equal: 0.1 % of a learning rate
SHARPNESS: Final = (0.5, 1.0)  # of the saturating form under Adam: arXiv 1812.06162, appendix


@dataclass(frozen=True, kw_only=True)
class FormFit:
    """One form on one set of optima."""

    form: Form
    numbers: int  # parameters
    residual_sd: float  # of ln lr, with n - numbers degrees of freedom
    noise_batch_low: float  # tokens per step, profile interval; 0 and inf: open, nan: the form has none
    noise_batch_high: float

    def to_json(self) -> dict[str, float | None]:
        """The form's own numbers, under the names that it has them by, and how well it fits; an open end is None."""
        ends = {"noise_batch_low": self.noise_batch_low, "noise_batch_high": self.noise_batch_high}
        return {
            **{name: float(value) for name, value in vars(self.form).items()},
            **{name: end if 0 < end < np.inf else None for name, end in ends.items() if not np.isnan(end)},
            "residual_sd": self.residual_sd,
        }


@dataclass(frozen=True, kw_only=True)
class LrBatchFit:
    """All forms, compared by what each says of a batch that it did not see."""

    forms: Mapping[str, FormFit]  # the best on batches left out first
    left_out: Mapping[str, Floats]  # (n,) ln lr of each batch, ascending, minus what the form says without it
    standing: tuple[str, ...]  # forms that the batches left out do not reject, the best first

    @property
    def best(self) -> str:
        return self.standing[0]

    def error(self, name: str) -> float:
        """Root mean square over the batches left out, of ln lr."""
        return float(np.sqrt(np.mean(self.left_out[name] ** 2)))

    def lr(self, batch_tokens: float) -> tuple[float, float, float]:
        """(best form's, lowest, highest among the standing forms) at a batch."""
        said = [float(self.forms[name].form(batch_tokens)) for name in self.standing]
        return said[0], min(said), max(said)


def fit_lr_batch(batch_tokens: ArrayLike, lr: ArrayLike, *, level: float = 0.9) -> LrBatchFit:
    """Fit every form to the best learning rates of several batches of one size and horizon.

    Parameters
    ----------
    batch_tokens, lr : (n,) positive floats
        One optimum per batch, for instance of `locate_lr_per_batch`, those at an edge of their sweep left out.
    level : float in (0, 1)
        Of the interval of the noise batch.

    Raises
    ------
    NotEnoughData
        Fewer than `MIN_BATCHES` different batches.
    """
    log_batch, log_lr = _columns(batch_tokens, lr)
    left_out = {name: _left_out(name, log_batch, log_lr) for name in FORMS}

    ordered = ranked({name: float(np.sqrt(np.mean(errors**2))) for name, errors in left_out.items()})
    standing = []
    for name in ordered:
        worse = left_out[name] ** 2 - left_out[ordered[0]] ** 2
        spread = float(np.std(worse, ddof=1) / np.sqrt(len(worse)))
        if float(np.mean(worse)) <= max(spread, _SAME):  # within one standard error of the best
            standing.append(name)
    return LrBatchFit(
        forms=MappingProxyType({name: fit_form(name, batch_tokens, lr, level=level) for name in ordered}),
        left_out=MappingProxyType(left_out),
        standing=tuple(standing),
    )


def ranked(error: Mapping[str, float]) -> list[str]:
    """Forms by their error at batches left out, the best first; of two that are equal the simpler one."""
    return sorted(error, key=lambda name: (round(error[name], 4), FORMS[name][1]))


def fit_form(name: str, batch_tokens: ArrayLike, lr: ArrayLike, *, level: float = 0.9) -> FormFit:
    """Fit one form of `FORMS`; arguments and failures as of `fit_lr_batch`."""
    log_batch, log_lr = _columns(batch_tokens, lr)
    solve, numbers = FORMS[name]
    solved = solve(log_batch, log_lr)
    freedom = len(log_lr) - numbers
    low, high = _noise_interval(solved, freedom, level)
    return FormFit(
        form=solved.form,
        numbers=numbers,
        residual_sd=float(np.sqrt(solved.squares / freedom)),
        noise_batch_low=low,
        noise_batch_high=high,
    )


@dataclass(frozen=True, kw_only=True)
class _Solved:
    """Best fit of a form, and of the form at each noise batch of the grid."""

    form: Form
    squares: float
    log_noise: Floats  # the grid and the best; empty where the form has no noise batch
    grid_squares: Floats


def _power(log_batch: Floats, log_lr: Floats) -> _Solved:
    (slope, offset), squares = _line(log_batch, log_lr)
    form = Power(const=float(np.exp(offset)), exponent=slope)
    return _Solved(form=form, squares=squares, log_noise=np.zeros(0), grid_squares=np.zeros(0))


def _saturating(log_batch: Floats, log_lr: Floats, sharpness: tuple[float, float]) -> _Solved:
    def form(log_noise: float, offset: float, slope: float) -> Saturating:
        return Saturating(lr_max=np.exp(offset), noise_batch_tokens=np.exp(log_noise), sharpness=slope)

    return _search(lambda ahead: -np.logaddexp(0, ahead), sharpness, form, log_batch, log_lr)


def _surge(log_batch: Floats, log_lr: Floats) -> _Solved:
    def form(log_noise: float, offset: float, _: float) -> Surge:
        return Surge(lr_max=np.exp(offset), noise_batch_tokens=np.exp(log_noise))

    return _search(lambda ahead: -np.log(np.cosh(ahead / 2)), (1.0, 1.0), form, log_batch, log_lr)


def _search(
    shape: Callable[[Floats], Floats],
    slopes: tuple[float, float],
    form: Callable[[float, float, float], Form],
    log_batch: Floats,
    log_lr: Floats,
) -> _Solved:
    """Least squares of ``ln lr = offset + slope * shape(ln noise - ln batch)``, with the slope in a range."""

    def at(log_noise: Floats) -> tuple[Floats, Floats, Floats]:
        """(offset, slope, squares) at each noise batch: closed form, and exact where the slope is at its bound."""
        x = shape(log_noise[:, None] - log_batch)
        centred = x - x.mean(1, keepdims=True)
        spread = (centred**2).sum(1)
        free = (centred @ log_lr) / np.where(spread > 0, spread, np.inf)
        slope = np.clip(free, *slopes)
        offset = log_lr.mean() - slope * x.mean(1)
        return offset, slope, ((log_lr - offset[:, None] - slope[:, None] * x) ** 2).sum(1)

    grid = np.linspace(log_batch.min() - _REACH, log_batch.max() + _REACH, _GRID)
    grid_squares = at(grid)[2]
    best, step = float(grid[int(np.argmin(grid_squares))]), grid[1] - grid[0]
    for _ in range(_ZOOMS):
        near = np.linspace(best - step, best + step, 41)
        near = near[(near >= grid[0]) & (near <= grid[-1])]
        best, step = float(near[int(np.argmin(at(near)[2]))]), step / 20
    (offset,), (slope,), (squares,) = at(np.array([best]))
    at_best = int(np.searchsorted(grid, best))
    return _Solved(
        form=form(best, float(offset), float(slope)),
        squares=float(squares),
        log_noise=np.insert(grid, at_best, best),
        grid_squares=np.insert(grid_squares, at_best, squares),
    )


# name -> (fit, number of parameters)
FORMS: Final[Mapping[str, tuple[Callable[[Floats, Floats], _Solved], int]]] = MappingProxyType(
    {
        "power": (_power, 2),
        "saturating": (lambda b, lr: _saturating(b, lr, SHARPNESS), 3),
        "saturating_sgd": (lambda b, lr: _saturating(b, lr, (1.0, 1.0)), 2),
        "surge": (_surge, 2),
    }
)


def _left_out(name: str, log_batch: Floats, log_lr: Floats) -> Floats:
    solve = FORMS[name][0]
    rows = range(len(log_lr))
    forms = [solve(np.delete(log_batch, i), np.delete(log_lr, i)).form for i in rows]
    return np.array([log_lr[i] - np.log(forms[i](np.exp(log_batch[i]))) for i in rows])


def _noise_interval(solved: _Solved, freedom: int, level: float) -> tuple[float, float]:
    """Noise batches whose best fit is not significantly worse than the best of all (F test of one parameter)."""
    from scipy.special import fdtri

    if not solved.log_noise.size:
        return float("nan"), float("nan")
    limit = solved.squares * (1 + float(fdtri(1, freedom, level)) / freedom)
    inside = np.flatnonzero(solved.grid_squares <= limit)  # holds the best noise batch, so it is never empty
    low, high = int(inside[0]), int(inside[-1])
    last = len(solved.log_noise) - 1
    return (
        0.0 if low == 0 else _crossing(solved, limit, low, low - 1),
        float("inf") if high == last else _crossing(solved, limit, high, high + 1),
    )


def _crossing(solved: _Solved, limit: float, inside: int, outside: int) -> float:
    """Noise batch where the sum of squares passes the limit between two points of the grid.

    Its root above the least one is straight near there; the sum itself is not, and a line through it falls short.
    """
    ends = [inside, outside]
    above = np.sqrt(np.maximum(solved.grid_squares[ends] - solved.squares, 0.0))
    return float(np.exp(np.interp(np.sqrt(limit - solved.squares), above, solved.log_noise[ends])))


def fit_power_scheduler(batch_tokens: ArrayLike, tokens: ArrayLike, lr: ArrayLike) -> PowerScheduler:
    """``lr / batch = factor * tokens^exponent`` by least squares in logs, over horizons (arXiv 2408.13359).

    As in the source, pass the best learning rates at the three best batches of each horizon: away from them the rate is
    not proportional to the batch.

    Raises
    ------
    NotEnoughData
        Fewer than two horizons.
    """
    log_tokens, log_lr = np.log(_positive("tokens", tokens)), np.log(_positive("lr", lr))
    log_batch = np.log(_positive("batch_tokens", batch_tokens))
    if np.ptp(log_tokens) < np.log(1.01):
        raise NotEnoughData(finding("lr_batch.one_horizon"))
    (exponent, offset), _ = _line(log_tokens, log_lr - log_batch)
    per_sequence = PowerScheduler(factor=1.0, exponent=0.0)(1.0, 1.0)  # rate of one token per step at factor 1
    return PowerScheduler(factor=float(np.exp(offset) / per_sequence), exponent=exponent)


def fit_max_initial_lr(depth: ArrayLike, width: ArrayLike, lr: ArrayLike) -> tuple[float, float]:
    """(const, exponent) of ``const (depth width)^-exponent`` by least squares in logs (arXiv 2212.07295).

    Raises
    ------
    NotEnoughData
        All networks have one depth * width.
    """
    log_size = np.log(_positive("depth", depth)) + np.log(_positive("width", width))
    if log_size.size < 2 or np.ptp(log_size) < np.log(1.01):
        raise NotEnoughData(finding("lr_batch.one_shape"))
    (slope, offset), _ = _line(log_size, np.log(_positive("lr", lr)))
    return float(np.exp(offset)), -slope


def fit_stochastic_oracle(batch: ArrayLike, steps: ArrayLike) -> StochasticOracle:
    """Steps to a target against the batch, by least squares in ln steps (arXiv 2201.11989).

    Raises
    ------
    NotEnoughData
        Fewer than three batches.
    FitError
        Steps do not fall with the batch: no smallest batch shows, so no best one.
    """
    from scipy.optimize import minimize_scalar

    size, _, squares = _oracle_misfit(batch, steps)
    grid = _ORACLE_SHARES
    k = int(np.argmin([squares(share)[0] for share in grid]))
    if k == 0:
        raise FitError(finding("lr_batch.steps_do_not_fall"))
    around = grid[k - 1], grid[min(k + 1, _GRID - 1)]
    share = float(minimize_scalar(lambda s: squares(s)[0], bounds=around, method="bounded", options={"xatol": 1e-12}).x)
    return StochasticOracle(steps_min=float(np.exp(squares(share)[1])), batch_min=float(np.exp(share) * size.min()))


def stochastic_oracle_interval(
    batch: ArrayLike, steps: ArrayLike, *, level: float = 0.9
) -> tuple[StochasticOracle, tuple[float, float], float]:
    """`fit_stochastic_oracle`, a profile interval of its ``batch_min`` (0: open below), and the sd of ln steps.

    The smallest batch that reached the target bounds it from above. Failures as of `fit_stochastic_oracle`.
    """
    from scipy.special import fdtri

    found = fit_stochastic_oracle(batch, steps)
    size, count, squares = _oracle_misfit(batch, steps)
    freedom = len(count) - 2
    best = float(np.log(found.batch_min / size.min()))
    least = squares(best)[0]
    limit = least + max(least / freedom, _SAME) * float(fdtri(1, freedom, level))
    ends = []
    for way in (_ORACLE_SHARES[::-1], _ORACLE_SHARES):
        inside = best
        outside = next((s for s in way if (s - best) * (way[-1] - way[0]) > 0 and squares(s)[0] > limit), None)
        for _ in range(60 if outside is not None else 0):
            middle = 0.5 * (inside + float(outside or 0.0))
            inside, outside = (inside, middle) if squares(middle)[0] > limit else (middle, outside)
        ends.append(way[-1] if outside is None else inside)
    low = 0.0 if ends[0] == _ORACLE_SHARES[0] else float(np.exp(ends[0]) * size.min())
    return found, (low, float(np.exp(ends[1]) * size.min())), float(np.sqrt(least / freedom))


def _oracle_misfit(batch: ArrayLike, steps: ArrayLike) -> tuple[Floats, Floats, Callable[[float], tuple[float, float]]]:
    """(batches, steps, (squares, ln steps_min) at a ln share that batch_min has of the smallest batch)."""
    size, count = _positive("batch", batch), _positive("steps", steps)
    if (different := len(np.unique(size))) < 3:
        raise NotEnoughData(finding("lr_batch.no_curve", batches=different, needed=3))

    def squares(log_share: float) -> tuple[float, float]:
        x = -np.log1p(-np.exp(log_share) * size.min() / size)  # ln steps = ln steps_min + x
        offset = float(np.mean(np.log(count) - x))
        return float(np.sum((np.log(count) - offset - x) ** 2)), offset

    return size, count, squares


def _line(x: Floats, y: Floats) -> tuple[tuple[float, float], float]:
    """(slope, offset) of least squares, and its sum of squares; slope 0 where x does not vary."""
    centred = x - x.mean()
    spread = float(centred @ centred)
    slope = float(centred @ y) / spread if spread > 0 else 0.0
    offset = float(y.mean() - slope * x.mean())
    return (slope, offset), float(np.sum((y - offset - slope * x) ** 2))


def _columns(batch_tokens: ArrayLike, lr: ArrayLike) -> tuple[Floats, Floats]:
    batch, rate = _positive("batch_tokens", batch_tokens), _positive("lr", lr)
    if batch.ndim != 1 or batch.shape != rate.shape:
        raise ValueError(f"one learning rate per batch is needed, got shapes {batch.shape} and {rate.shape}")
    different = len(np.unique(batch))
    if different < MIN_BATCHES:
        raise NotEnoughData(finding("lr_batch.few_batches", batches=different, needed=MIN_BATCHES))
    order = np.argsort(batch)
    return np.log(batch)[order], np.log(rate)[order]


def _positive(name: str, value: ArrayLike) -> Floats:
    array = np.asarray(value, dtype=float)
    if not np.all((array > 0) & np.isfinite(array)):
        raise ValueError(f"{name} must be positive and finite, got {array}")
    return array
