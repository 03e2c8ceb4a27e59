"""Forms of a loss law, as objects in one table: what is fitted, in which parameters, and where a search begins.

Every form works in ``theta``: logs of coefficients at the centre of the runs (the mean log of each input), exponents as
they are. Centred, coefficients and exponents are nearly independent; A at one parameter is an extrapolation over
eighteen e-folds and means little by itself. `natural` gives the published names back.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from lawfit.errors import FitError
from lawfit.estimate.numerics.newton import MAX_STEPS, Bools, Floats, Minima, Penalty, System, minimise
from lawfit.estimate.numerics.varpro import PowerSum, Term, global_minima, resampled_minima, same_minimum
from lawfit.findings import finding

# theta (r, k), centred logs (n, inputs) -> log loss (r, n), and its derivatives (r, k, n)
Formula = Callable[[Floats, Floats], tuple[Floats, Floats]]

EXPONENT_RANGE: Final = (0.01, 3.0)
_STAGES: Final = (0.1, 0.01)  # of delta, as in varpro
QUICK: Final = 30  # steps, where a start or a backtest needs a minimum to a tenth of its standard error and no proof
_ROUGH_POINTS: Final = 4  # of a grid, per exponent
_BLOCK: Final = 8192
SAME_INPUT: Final = 0.05  # of ln of an input: runs that differ by less do not vary it
_SOME_EXPONENT: Final = 0.3  # where a search begins that nothing informs
_LARGEST: Final = 700.0  # log of what a float holds


class Smooth:
    """The problem of fitting any smooth formula, with Gauss-Newton in place of the exact Hessian."""

    patience = MAX_STEPS

    def __init__(self, log_y: Floats, logs: Floats, formula: Formula, low: Floats, high: Floats, delta: float) -> None:
        self.log_y, self.logs, self.formula, self.delta = log_y, logs, formula, delta
        self.low, self.high = low, high
        self.size = len(low)

    def with_delta(self, delta: float) -> Smooth:
        other = copy(self)
        other.delta = delta
        return other

    def log_model(self, theta: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            return self.formula(theta, self.logs)[0]

    def jacobian(self, theta: Floats) -> Floats:
        """(n, k) derivative of log y at one theta (k,)."""
        return np.asarray(self.formula(theta[None, :], self.logs)[1][0].T, dtype=float)

    def same_law(self, one: Minima, other: Minima, close: float) -> Bools:
        """Whether two searches ended at one minimum, or at laws that differ by no more than `close` at any run."""
        same = same_minimum(one.objective, other.objective)
        if close:
            same |= np.abs(self.log_model(one.theta) - self.log_model(other.theta)).max(axis=1) <= close
        return same

    def system(self, theta: Floats, weights: Floats, blend: Floats) -> System:
        rows = len(theta)
        total = System(
            np.zeros(rows), np.zeros((rows, self.size)), np.zeros((rows, self.size, self.size)), *np.zeros((2, rows))
        )
        height = max(1, _BLOCK // len(self.log_y))
        for top in range(0, rows, height):
            self._add(total, theta, weights, blend, slice(top, top + height))
        return total

    def _add(self, total: System, theta: Floats, weights: Floats, blend: Floats, r: slice) -> None:
        w = weights[r]
        with np.errstate(invalid="ignore", over="ignore"):
            model, jacobian = self.formula(theta[r], self.logs)
            residual = self.log_y - model
            clipped = np.clip(residual, -self.delta, self.delta)
            inside = clipped == residual
            score = w * clipped
            total.objective[r] = (score * (residual - 0.5 * clipped)).sum(axis=1)
            total.score[r] = (score * clipped).sum(axis=1)
            total.inside[r] = (w * inside).sum(axis=1)
            ratio = np.where(inside, w, score / np.where(inside, 1.0, residual))
            curvature = (1 - blend[r, None]) * w * inside + blend[r, None] * ratio
            total.gradient[r] = -(jacobian @ score[:, :, None])[:, :, 0]
            total.hessian[r] = (jacobian * curvature[:, None, :]) @ jacobian.transpose(0, 2, 1)


@dataclass(frozen=True, kw_only=True)
class LossForm:
    """One form of a loss law in params and tokens."""

    name: str
    formula: str  # for people
    cite: str
    names: tuple[str, ...]  # in theta's order
    exponents: frozenset[str]  # names that are exponents; the others are coefficients, logs in theta
    asymptote: bool  # theta[0] is the log of a loss that nothing removes
    problem: Callable[[Floats, Floats, float], PowerSum | Smooth]  # (log loss, centred logs, delta)
    natural: Callable[[Floats, Floats], Mapping[str, Floats]]  # theta (r, k) and centre (2,) -> published parameters
    starts: Callable[[PowerSum | Smooth], Floats] | None = None  # None: a grid with variable projection
    third: str = ""  # what a third column holds, as a log that is 0 for an ordinary run
    terms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # input -> what goes where no run varies it

    def search(
        self,
        problem: PowerSum | Smooth,
        weights: Floats,
        *,
        log_first: float | None,
        frozen: Bools,
        penalty: Penalty | None,
    ) -> Minima:
        """Minima of all starts, for one row of weights (1, n)."""
        if isinstance(problem, PowerSum):
            return global_minima(problem, weights, log_first=log_first, frozen=frozen, penalty=penalty)
        assert self.starts is not None
        theta = self.starts(problem)
        if log_first is not None and self.asymptote:
            theta[:, 0] = log_first
        for delta in (d for d in _STAGES if d > problem.delta):
            theta = minimise(problem.with_delta(delta), theta, weights, frozen=frozen, penalty=penalty).theta
        found = minimise(problem, theta, weights, frozen=frozen, penalty=penalty)
        if not np.isfinite(found.objective).any():
            raise FitError(finding("loss.no_start", form=self.name))
        return found

    def search_resamples(
        self,
        problem: PowerSum | Smooth,
        weights: Floats,
        estimate: Floats,
        *,
        log_first: float | None,
        frozen: Bools,
        penalty: Penalty | None,
        close: float = 0.0,
    ) -> tuple[Minima, Bools]:
        """The minimum of each row of weights, and whether two searches for it agree.

        `close` is a difference of log loss, at whatever run, that stands for no difference of two laws.
        """
        if isinstance(problem, PowerSum):
            return resampled_minima(problem, weights, estimate, log_first=log_first, frozen=frozen, penalty=penalty)
        rows = len(weights)
        warm = minimise(problem, np.tile(estimate, (rows, 1)), weights, frozen=frozen, penalty=penalty)
        wide = minimise(problem.with_delta(_STAGES[0]), warm.theta, weights, frozen=frozen, penalty=penalty)
        cold = minimise(problem, wide.theta, weights, frozen=frozen, penalty=penalty)
        found, agree = cold.best_of(warm), problem.same_law(cold, warm, close)
        apart = np.flatnonzero(~agree)
        if not close or not len(apart):
            return found, agree
        own, mine = weights[apart], None if penalty is None else penalty.take(apart)
        start = found.theta[apart]
        for delta in (_STAGES[-1], problem.delta):
            third = minimise(problem.with_delta(delta), start, own, frozen=frozen, penalty=mine)
            start = third.theta
        agree[apart] = problem.same_law(third, found.take(apart), close)
        return found.with_rows(apart, found.take(apart).best_of(third)), agree


def _additive_problem(log_y: Floats, logs: Floats, delta: float) -> PowerSum:
    low, high = ((bound,) for bound in EXPONENT_RANGE)
    constant = Term(logs=np.empty((len(log_y), 0)), low=(), high=())
    return PowerSum(log_y, [constant, *(Term(logs=logs[:, [j]], low=low, high=high) for j in range(2))], delta)


def _one_term(column: int) -> Callable[[Floats, Floats, float], PowerSum]:
    def problem(log_y: Floats, logs: Floats, delta: float) -> PowerSum:
        low, high = ((bound,) for bound in EXPONENT_RANGE)
        constant = Term(logs=np.empty((len(log_y), 0)), low=(), high=())
        return PowerSum(log_y, [constant, Term(logs=logs[:, [column]], low=low, high=high)], delta)

    return problem


def _one_natural(column: int) -> Callable[[Floats, Floats], Mapping[str, Floats]]:
    names = (("A", "alpha"), ("B", "beta"))[column]

    def natural(theta: Floats, centre: Floats) -> Mapping[str, Floats]:
        e, scale, exponent = theta.T
        return {"E": np.exp(e), names[0]: np.exp(scale + exponent * centre[column]), names[1]: exponent}

    return natural


def _power_problem(log_y: Floats, logs: Floats, delta: float) -> PowerSum:
    low, high = ((bound,) for bound in EXPONENT_RANGE)
    return PowerSum(log_y, [Term(logs=logs[:, [j]], low=low, high=high) for j in range(2)], delta)


def _power_natural(theta: Floats, centre: Floats) -> Mapping[str, Floats]:
    a, alpha, b, beta = theta.T
    return {"A": np.exp(a + alpha * centre[0]), "alpha": alpha, "B": np.exp(b + beta * centre[1]), "beta": beta}


def additive_natural(theta: Floats, centre: Floats) -> Mapping[str, Floats]:
    e, a, alpha, b, beta = theta.T
    return {
        "E": np.exp(e),
        "A": np.exp(a + alpha * centre[0]),
        "alpha": alpha,
        "B": np.exp(b + beta * centre[1]),
        "beta": beta,
    }


def _kaplan(theta: Floats, logs: Floats) -> tuple[Floats, Floats]:
    u, ratio, v, beta = theta.T[:, :, None]
    by_params, by_tokens = u - ratio * logs[:, 0], v - logs[:, 1]
    total = np.logaddexp(by_params, by_tokens)
    share = np.exp(by_params - total)
    slopes = [beta * share, -beta * share * logs[:, 0], beta * (1 - share), total]
    return beta * total, np.stack(slopes, axis=1)


def _kaplan_natural(theta: Floats, centre: Floats) -> Mapping[str, Floats]:
    u, ratio, v, beta = theta.T
    return {
        "params_scale": np.exp(np.minimum(u / ratio + centre[0], _LARGEST)),
        "alpha": ratio * beta,
        "tokens_scale": np.exp(np.minimum(v + centre[1], _LARGEST)),
        "beta": beta,
    }


def _kaplan_starts(problem: PowerSum | Smooth) -> Floats:
    level = float(problem.log_y.mean())
    grid = itertools.product((0.3, 0.7, 1.5), (0.03, 0.06, 0.12, 0.25, 0.5))
    return np.array([(level / beta - np.log(2), ratio, level / beta - np.log(2), beta) for ratio, beta in grid])


def _coupled(theta: Floats, logs: Floats) -> tuple[Floats, Floats]:
    e, a, alpha, b, beta, outer = theta.T[:, :, None]
    by_params, by_tokens = a - alpha * logs[:, 0], b - beta * logs[:, 1]
    inner = np.logaddexp(by_params, by_tokens)
    total = np.logaddexp(e, outer * inner)
    reducible = np.exp(outer * inner - total)
    params = reducible * outer * np.exp(by_params - inner)
    tokens = reducible * outer * np.exp(by_tokens - inner)
    slopes = [1 - reducible, params, -params * logs[:, 0], tokens, -tokens * logs[:, 1], reducible * inner]
    return total, np.stack(slopes, axis=1)


def _coupled_natural(theta: Floats, centre: Floats) -> Mapping[str, Floats]:
    return {**additive_natural(theta[:, :5], centre), "outer": theta[:, 5]}


def additive_minimum(problem: PowerSum | Smooth) -> Floats:
    """The additive law's best theta: where searches for its generalisations begin, so roughly will do.

    Of an input that no run varies the term cannot be told from the asymptote: half the loss there, and an exponent.
    """
    assert isinstance(problem, Smooth)
    varied = [j for j in range(2) if np.ptp(problem.logs[:, j]) > SAME_INPUT]
    delta = max(problem.delta, _STAGES[-1])
    if not varied:
        level = float(problem.log_y.mean()) - np.log(2)
        return np.array([level, level - 1, _SOME_EXPONENT, level - 1, _SOME_EXPONENT])
    make = _additive_problem if len(varied) == 2 else _one_term(varied[0])
    simple = make(problem.log_y, problem.logs[:, :2], delta)
    simple.patience = QUICK
    found = global_minima(simple, np.ones((1, len(problem.log_y))), points=_ROUGH_POINTS)
    best: Floats = found.theta[found.objective.argmin()]
    if len(varied) == 2:
        return best
    level = max(best[0], float(problem.log_y.mean()) - 3) - np.log(2)
    missing = [level, _SOME_EXPONENT]
    return np.array([level, *([*best[1:], *missing] if varied == [0] else [*missing, *best[1:]])])


def _coupled_starts(problem: PowerSum | Smooth) -> Floats:
    """The additive law with its reducible part taken to powers that cancel at the centre."""
    e, *rest = additive_minimum(problem)
    levels = [e, e - 0.2, e - 0.5]
    return np.array([[level, *(r / outer for r in rest), outer] for outer in (0.3, 0.5, 1.0, 2.0) for level in levels])


def _bend(scale: Floats, power: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
    """``scale (exp(power x) - 1) / power``, Farseer's ``a N^power`` up to a constant, and both derivatives."""
    safe = np.where(np.abs(power) < 1e-6, 1e-6, power)
    by_scale = np.expm1(safe * x) / safe
    by_power = scale * (x * np.exp(safe * x) - by_scale) / safe
    return scale * by_scale, by_scale, by_power


def _farseer(theta: Floats, logs: Floats) -> tuple[Floats, Floats]:
    e, e1, e2, b, b1, b2, g, g1, g2 = theta.T[:, :, None]
    n, d = logs[:, 0], logs[:, 1]
    level, level_1, level_2 = _bend(e1, e2, n)
    data, data_1, data_2 = _bend(b1, b2, n)
    steep, steep_1, steep_2 = _bend(g1, g2, n)
    slope = np.exp(g + steep)
    first, second = e + level, b + data - slope * d
    total = np.logaddexp(first, second)
    share, other = np.exp(first - total), np.exp(second - total)
    turn = -other * slope * d
    slopes = [share, share * level_1, share * level_2, other, other * data_1, other * data_2]
    return total, np.stack([*slopes, turn, turn * steep_1, turn * steep_2], axis=1)


def _farseer_starts(problem: PowerSum | Smooth) -> Floats:
    e, a, alpha, b, beta = additive_minimum(problem)
    level = np.logaddexp(e, a)
    slope = -alpha * np.exp(a - level)
    powers = itertools.product((-0.3, 0.3), (-0.3, 0.3), (-0.3, 0.3))
    return np.array([(level, slope, p, b, 0.0, q, np.log(beta), 0.0, r) for p, q, r in powers])


_FARSEER_NAMES: Final = ("E", "E_slope", "E_bend", "B", "B_slope", "B_bend", "beta", "beta_slope", "beta_bend")


def _farseer_natural(theta: Floats, _: Floats) -> Mapping[str, Floats]:
    """Values and slopes at the centre: the constants of the published form are differences of huge numbers."""
    values = {name: theta[:, i] for i, name in enumerate(_FARSEER_NAMES)}
    return {**values, "E": np.exp(theta[:, 0]), "B": np.exp(theta[:, 3]), "beta": np.exp(theta[:, 6])}


def _compute_only(theta: Floats, logs: Floats) -> tuple[Floats, Floats]:
    level, slope = theta.T[:, :, None]
    x = logs[:, 0] + logs[:, 1]
    left = 1 - slope * x
    left = np.where(left > 0, left, np.nan)  # no loss there
    return level + np.log(left), np.stack([np.ones_like(left), -x / left], axis=1)


def _compute_only_natural(theta: Floats, centre: Floats) -> Mapping[str, Floats]:
    level, slope = np.exp(theta[:, 0]), theta[:, 1]
    per_log10 = -level * slope * np.log(10)
    return {"level": level - per_log10 * (centre.sum() + np.log(6)) / np.log(10), "per_decade": per_log10}


def _smooth(formula: Formula, low: tuple[float, ...], high: tuple[float, ...]) -> Callable[..., Smooth]:
    def problem(log_y: Floats, logs: Floats, delta: float) -> Smooth:
        return Smooth(log_y, logs, formula, np.array(low), np.array(high), delta)

    return problem


ADDITIVE: Final = LossForm(
    name="additive",
    formula="E + A params^-alpha + B tokens^-beta",
    cite="arXiv:2203.15556",
    names=("E", "A", "alpha", "B", "beta"),
    exponents=frozenset({"alpha", "beta"}),
    asymptote=True,
    problem=_additive_problem,
    natural=additive_natural,
)
POWER: Final = LossForm(
    name="power",
    formula="A params^-alpha + B tokens^-beta",
    cite="arXiv:1712.00409",
    names=("A", "alpha", "B", "beta"),
    exponents=frozenset({"alpha", "beta"}),
    asymptote=False,
    problem=_power_problem,
    natural=_power_natural,
)
KAPLAN: Final = LossForm(
    name="kaplan",
    formula="[(params_scale / params)^(alpha / beta) + tokens_scale / tokens]^beta",
    cite="arXiv:2001.08361",
    names=("params_scale", "alpha", "tokens_scale", "beta"),
    exponents=frozenset({"alpha", "beta"}),
    asymptote=False,
    problem=_smooth(_kaplan, (-500.0, 0.02, -500.0, 0.003), (500.0, 20.0, 500.0, 3.0)),
    natural=_kaplan_natural,
    starts=_kaplan_starts,
)
COUPLED: Final = LossForm(
    name="coupled",
    formula="E + (A params^-alpha + B tokens^-beta)^outer",
    cite="arXiv:2608.07222",
    names=("E", "A", "alpha", "B", "beta", "outer"),
    exponents=frozenset({"alpha", "beta", "outer"}),
    asymptote=True,
    problem=_smooth(_coupled, (-9.0, -60.0, 0.01, -60.0, 0.01, 0.05), (4.0, 60.0, 10.0, 60.0, 10.0, 5.0)),
    natural=_coupled_natural,
    starts=_coupled_starts,
)
FARSEER: Final = LossForm(
    name="farseer",
    formula="exp(e(params)) + exp(b(params)) tokens^-exp(g(params)), each a constant plus a power of params",
    cite="arXiv:2506.10972",
    names=_FARSEER_NAMES,
    exponents=frozenset(_FARSEER_NAMES) - {"E", "B", "beta"},
    asymptote=False,
    problem=_smooth(
        _farseer,
        (-9.0, -1.0, -1.0, -30.0, -2.0, -1.0, -5.0, -1.0, -1.0),
        (4.0, 0.5, 1.0, 6.0, 2.0, 1.0, 1.5, 1.0, 1.0),
    ),
    natural=_farseer_natural,
    starts=_farseer_starts,
)
COMPUTE_ONLY: Final = LossForm(
    name="compute_only",
    formula="level + per_decade log10(6 params tokens)",
    cite="arXiv:2404.19484",
    names=("level", "per_decade"),
    exponents=frozenset({"per_decade"}),
    asymptote=False,
    problem=_smooth(_compute_only, (-5.0, -0.5), (5.0, 0.5)),
    natural=_compute_only_natural,
    starts=lambda problem: np.array([[float(problem.log_y.mean()), s] for s in (0.01, 0.03, 0.1)]),
)

# Where all runs have the same tokens, or the same parameters, that term cannot be told from the asymptote.
PARAMS_ALONE: Final = LossForm(
    name="params_alone",
    formula="E + A params^-alpha",
    cite="arXiv:2001.08361",
    names=("E", "A", "alpha"),
    exponents=frozenset({"alpha"}),
    asymptote=True,
    problem=_one_term(0),
    natural=_one_natural(0),
)
TOKENS_ALONE: Final = LossForm(
    name="tokens_alone",
    formula="E + B tokens^-beta",
    cite="arXiv:2001.08361",
    names=("E", "B", "beta"),
    exponents=frozenset({"beta"}),
    asymptote=True,
    problem=_one_term(1),
    natural=_one_natural(1),
)

FORMS: Final[Mapping[str, LossForm]] = {f.name: f for f in (ADDITIVE, POWER, KAPLAN, COUPLED, FARSEER, COMPUTE_ONLY)}
