"""The three-term surface ``L = E + A / params^alpha + B / batch^beta + C / steps^gamma`` (Schaipp, arXiv 2607.01487).

It takes every batch that was run, good or bad, and has an optimal batch inside: at given tokens a smaller batch buys
steps. Learning rate is no input: each (params, tokens, batch) enters with the lowest loss over the rates tried there.
Search, resamples and certificate are those of `varpro` and `certificate`; resamples draw whole scales, since the
batches of one (params, tokens) share what is particular to it.

Seldom do runs determine the floor E, and with it most parameters; the optimal batch hardly depends on them. Then the
floor is lent by published laws, each resample with one of its own, and how far the answer moves from floor to floor is
reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.critical.three_term_result import FloorCase, ThreeTermFit
from lawfit.estimate.loss.result import AsymptotePrior
from lawfit.estimate.numerics.certificate import (
    Certificate,
    Precision,
    Search,
    certificate,
    influences,
    lack_of_fit,
    vague_covariance,
    wandering,
    weak_parameters,
)
from lawfit.estimate.numerics.newton import Floats, Minima, Penalty, minimise
from lawfit.estimate.numerics.resample import cluster_index, cluster_weights, without_each
from lawfit.estimate.numerics.scoring import group_starts
from lawfit.estimate.numerics.snapping import PARAMS_TOLERANCE, SETTING_TOLERANCE, TOKENS_TOLERANCE
from lawfit.estimate.numerics.sweeps import sweep_parabola
from lawfit.estimate.numerics.varpro import PowerSum, Term, best_start, global_minima, resampled_minima, same_minimum
from lawfit.findings import finding
from lawfit.laws.critical_batch import ThreeTerm
from lawfit.records import OptimumStatus, Run

Ints = NDArray[np.intp]

DELTA: Final = 1e-3  # Huber's threshold in log loss, as for the other loss laws
RESAMPLES: Final = 200
FLOORS: Final = (0.3, 0.5, 0.7, 0.85)  # shares of the lowest loss at which the floor is held
_EXPONENTS: Final = (0.03, 3.0)
_START_POINTS: Final = 5  # per exponent
_HELD_POINTS: Final = 3  # where the floor is held nearly all starts agree
_RESAMPLE_POINTS: Final = 8
_NAMES: Final = ("E", "A", "alpha", "B", "beta", "C", "gamma")


@dataclass(frozen=True, kw_only=True)
class BatchRuns:
    """The lowest loss over learning rates at each (params, tokens, batch)."""

    params: Floats
    tokens: Floats
    batch_tokens: Floats
    loss: Floats  # nats per token
    edge: NDArray[np.bool_]  # the best learning rate lies at the edge of its sweep, or was the only one

    def __len__(self) -> int:
        return len(self.loss)

    @classmethod
    def of_runs(cls, runs: Sequence[Run]) -> BatchRuns:
        """Each batch of each scale at its best learning rate.

        Raises
        ------
        NotEnoughData
            No run, or none that finished.
        """
        if not runs:
            raise NotEnoughData(finding("laws.no_run"))
        columns = [(r.params, r.tokens, r.batch_tokens, r.lr, np.nan if r.loss is None else r.loss) for r in runs]
        return best_over_lr(*np.array(columns, dtype=float).T)


def best_over_lr(
    params: ArrayLike, tokens: ArrayLike, batch_tokens: ArrayLike, lr: ArrayLike, loss: ArrayLike
) -> BatchRuns:
    """Each batch of each scale at its best learning rate; a loss that is not finite diverged.

    Where a sweep brackets its optimum the loss is that of the parabola through it: the plain minimum of many noisy
    runs is too low, the more so the more were run.
    """
    n, d, b, x, y = (np.asarray(a, dtype=float).ravel() for a in (params, tokens, batch_tokens, lr, loss))
    n, d = _same(n, PARAMS_TOLERANCE), _same(d, TOKENS_TOLERANCE)
    keys, group = np.unique(np.column_stack([n, d, _same(b, SETTING_TOLERANCE)]), axis=0, return_inverse=True)
    rows = []
    order = np.argsort(group.ravel(), kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(group.ravel()))[:-1])
    for (size, length, batch), mine in zip(keys, parts, strict=True):
        if not np.isfinite(y[mine]).any():
            continue
        best = sweep_parabola(x[mine], y[mine])
        inside = best.status in (OptimumStatus.INSIDE, OptimumStatus.FLAT)
        rows.append((size, length, batch, best.loss, 0.0 if inside else 1.0))
    if not rows:
        raise NotEnoughData(finding("critical.nothing_finished"))
    out_n, out_d, out_b, out_y, edge = np.array(rows).T
    return BatchRuns(params=out_n, tokens=out_d, batch_tokens=out_b, loss=out_y, edge=edge > 0)


def fit_three_term(
    runs: BatchRuns,
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = 0.9,
    asymptote: AsymptotePrior | None = None,
) -> ThreeTermFit:
    """Fit the surface to the best runs of every batch.

    Parameters
    ----------
    asymptote : lends the floor, for runs that do not show it; None leaves it free

    Raises
    ------
    NotEnoughData
        Not more rows than parameters, or no scale with three batches.
    FitError
        The losses do not fall with batch and steps.
    """
    scales = np.unique(np.column_stack([runs.params, runs.tokens]), axis=0, return_inverse=True)[1].ravel()
    if np.bincount(scales).max(initial=0) < 3:
        raise NotEnoughData(finding("critical.few_batches_of_scale"))
    problem, names, centres = _problem(runs)
    index = cluster_index(scales, len(runs))
    found, penalty = _search(problem, index, asymptote)
    estimate = _Estimate(problem=problem, index=index, found=found, best=best_start(found), penalty=penalty)
    theta = estimate.theta
    leave_out = without_each(index) if int(index.max()) > 0 else np.empty((0, len(runs)))
    weights = np.concatenate([cluster_weights(index, resamples, rng=rng), leave_out])
    again, agree = resampled_minima(
        problem,
        weights,
        theta,
        points=_RESAMPLE_POINTS,
        penalty=_drawn(penalty, asymptote, len(weights), resamples, rng),
    )
    resampled = _Resampled(again=again, agree=agree, count=resamples)
    report, unit = _certificate(estimate, resampled, runs, names)
    residual = problem.log_y - problem.log_model(theta[None, :])[0]
    return ThreeTermFit(
        law=_law(theta, centres),
        draws=tuple(_law(row, centres) for row in again.theta[:resamples]),
        floors=tuple(
            FloorCase(floor=floor, doubt=doubt, law=_law(held, centres))
            for floor, doubt, held in _held_floors(problem, float(found.objective[estimate.best]), unit)
        ),
        level=level,
        fitted=len(names),
        floor_lent=asymptote is not None,
        ranges={
            name: (float(column.min()), float(column.max()))
            for name, column in (("params", runs.params), ("tokens", runs.tokens), ("batch_tokens", runs.batch_tokens))
        },
        noise=1.4826 * float(np.median(np.abs(residual))),
        certificate=report,
    )


@dataclass(frozen=True, kw_only=True)
class _Estimate:
    """The lowest minimum of a search, and what was searched."""

    problem: PowerSum
    index: Ints  # of the scale of each row
    found: Minima
    best: int
    penalty: Penalty | None

    @property
    def theta(self) -> Floats:
        theta: Floats = self.found.theta[self.best]
        return theta


@dataclass(frozen=True, kw_only=True)
class _Resampled:
    """Minima of the resamples, and after them those without each scale."""

    again: Minima
    agree: NDArray[np.bool_]
    count: int  # of resamples


def _problem(runs: BatchRuns) -> tuple[PowerSum, tuple[str, ...], dict[str, float]]:
    """The surface of these runs, the names of what is fitted, and the centre of each input on its log."""
    columns = {"params": runs.params, "batch": runs.batch_tokens, "steps": runs.tokens / runs.batch_tokens}
    if np.ptp(np.log(runs.params)) < 0.1:
        del columns["params"]  # one size: its term is part of the floor
    names = tuple(n for n in _NAMES if "params" in columns or n not in ("A", "alpha"))
    if len(runs) <= len(names):
        few = {"batches": len(runs), "parameters": len(names), "needed": 2 * len(names)}
        raise NotEnoughData(finding("critical.few_rows", **few))
    logs = {name: np.log(column) for name, column in columns.items()}
    centres = {name: float(x.mean()) for name, x in logs.items()}
    terms = [
        Term(logs=np.empty((len(runs), 0)), low=(), high=()),
        *(Term(logs=(x - centres[name])[:, None], low=_EXPONENTS[:1], high=_EXPONENTS[1:]) for name, x in logs.items()),
    ]
    return PowerSum(np.log(runs.loss), terms, DELTA), names, centres


def fit_three_term_or_lend(
    runs: BatchRuns, asymptote: AsymptotePrior | None, *, rng: np.random.Generator, resamples: int = RESAMPLES
) -> ThreeTermFit:
    """The surface of the runs alone where they carry it; otherwise the one whose floor is lent by published laws.

    Without an `asymptote` nobody lends: the runs stand alone, whatever their certificate says.

    Raises
    ------
    NotEnoughData, FitError
        As of `fit_three_term`.
    """
    if asymptote is None:
        return fit_three_term(runs, rng=rng, resamples=resamples)
    lent = fit_three_term(runs, rng=rng, resamples=resamples, asymptote=asymptote)
    if lent.certificate.weak:  # with the floor known they are open: without it the search would wander in a valley
        return lent
    alone = fit_three_term(runs, rng=rng, resamples=resamples)
    return alone if alone.certificate.certified else lent


def _search(problem: PowerSum, index: Ints, asymptote: AsymptotePrior | None) -> tuple[Minima, Penalty | None]:
    """All starts. A lent floor weighs in units that the residuals set, so it takes two rounds: held, then lent."""
    ones = np.ones((1, len(problem.log_y)))
    if asymptote is None:
        return global_minima(problem, ones, points=_START_POINTS), None
    log_floor = float(min(np.log(asymptote.mean), problem.log_y.min() + np.log(FLOORS[-1])))
    frozen = np.zeros(problem.size, dtype=bool)
    frozen[0] = True
    found = global_minima(problem, ones, points=_HELD_POINTS, log_first=log_floor, frozen=frozen)
    centre, precision = np.zeros(problem.size), np.zeros(problem.size)
    centre[0] = np.log(asymptote.mean)
    penalty = None
    for _ in range(2):
        best = best_start(found)
        clipped, inside, variance = _noise_of(problem, found.theta[best], index)
        effect = _design_effect(clipped, problem.jacobian(found.theta[best]), index)
        precision[0] = effect * variance * inside / asymptote.log_sd**2
        penalty = Penalty(precision=precision.copy(), centre=centre)
        start = np.unique(np.round(found.theta[np.isfinite(found.objective)], 6), axis=0)
        found = minimise(problem, start, ones, penalty=penalty)
    return found, penalty


def _drawn(
    penalty: Penalty | None, asymptote: AsymptotePrior | None, rows: int, resamples: int, rng: np.random.Generator
) -> Penalty | None:
    """Each resample with a floor of its own: without that what is lent would seem to be known."""
    if penalty is None or asymptote is None:
        return None
    centre = np.tile(penalty.centre, (rows, 1))
    centre[:resamples, 0] += asymptote.log_sd * rng.standard_normal(resamples)
    return Penalty(precision=penalty.precision, centre=centre)


def _law(theta: Floats, centres: Mapping[str, float]) -> ThreeTerm:
    """Coefficients at the centre of the runs -> natural ones."""
    values = {"params": (0.0, 1.0)}
    for place, (name, centre) in enumerate(centres.items()):
        log_scale, exponent = theta[1 + 2 * place], theta[2 + 2 * place]
        values[name] = (float(np.exp(log_scale + exponent * centre)), float(exponent))
    return ThreeTerm(
        floor=float(np.exp(theta[0])),
        params_scale=values["params"][0],
        params_exponent=values["params"][1],
        batch_scale=values["batch"][0],
        batch_exponent=values["batch"][1],
        steps_scale=values["steps"][0],
        steps_exponent=values["steps"][1],
    )


def _certificate(
    estimate: _Estimate, resampled: _Resampled, runs: BatchRuns, names: tuple[str, ...]
) -> tuple[Certificate, float]:
    """The examination, and the squared standard error in units of the objective."""
    problem, index, found, best = estimate.problem, estimate.index, estimate.found, estimate.best
    theta = estimate.theta
    clipped, inside, variance = _noise_of(problem, theta, index)
    jacobian = problem.jacobian(theta)
    gram = jacobian.T @ jacobian
    effect = _design_effect(clipped, jacobian, index)
    unit = effect * variance * inside
    information = gram / (variance * effect)
    if estimate.penalty is not None:
        information = information + np.diag(estimate.penalty.precision) / unit
    exponent = np.array([name in ("alpha", "beta", "gamma") for name in names])
    scale = np.where(exponent, np.maximum(np.abs(theta), 1e-3), 1.0)
    sd = np.sqrt(np.diag(vague_covariance(information)))
    doubt = 2 * np.nan_to_num(found.objective - found.objective[best], nan=np.inf) / unit
    loose = wandering(found.theta, doubt, best, scale)
    b, k = (np.log10(x) - np.log10(x).mean() for x in (runs.batch_tokens, runs.tokens / runs.batch_tokens))
    left = {
        f"{runs.params[index == c][0]:.3g} params, {runs.tokens[index == c][0]:.3g} tokens": (
            int((index == c).sum()),
            resampled.again.theta[resampled.count + c],
        )
        for c in range(len(resampled.again.theta) - resampled.count)
    }
    report = certificate(
        search=_searched(estimate, resampled, information),
        precision=Precision(
            names=names,
            information=information,
            relative_sd=sd / scale,
            at_bound=found.at_bound[best],
            weak=weak_parameters(names, np.where(loose, np.inf, sd / scale), found.at_bound[best]),
            runs=(),
        ),
        structure=lack_of_fit(
            clipped, inside, jacobian, {"batch^2": b**2, "batch * steps": b * k, "steps^2": k**2}, index
        ),
        influence=influences(names, theta, sd, left, ~exponent),
        rows=len(runs),
        clusters=int(index.max()) + 1,
    )
    return report, unit


def _searched(estimate: _Estimate, resampled: _Resampled, information: Floats) -> Search:
    """How the search went, from its starts and from the resamples."""
    found, best, resamples = estimate.found, estimate.best, resampled.count
    same = same_minimum(found.objective, found.objective[best]) & found.converged
    apart = found.theta[same] - estimate.theta
    return Search(
        starts=len(same),
        agreeing=int(same.sum()),
        spread=float(np.sqrt(np.einsum("sk,kl,sl->s", apart, information, apart)).max(initial=0.0)),
        gradient_norm=float(found.distance[best]),
        converged=bool(found.converged[best]),
        resamples=resamples,
        resamples_converged=int(resampled.again.converged[:resamples].sum()),
        resamples_agreeing=int(resampled.agree[:resamples].sum()),
    )


def _noise_of(problem: PowerSum, theta: Floats, index: Ints) -> tuple[Floats, float, float]:
    """Clipped residuals, the share not clipped, and the variance of one run as the estimate feels it."""
    residual = problem.log_y - problem.log_model(theta[None, :])[0]
    clipped = np.clip(residual, -DELTA, DELTA)
    clusters = int(index.max()) + 1
    spare = np.sqrt(clusters / max(clusters - len(theta), 1))
    width = max(DELTA, 1.4826 * float(np.median(np.abs(residual))) * spare)
    inside = min(1.0, DELTA / width) * float((np.abs(residual) <= width).mean())
    return clipped, inside, (float((clipped**2).mean()) * spare**2 + 1e-22) / max(inside, 1e-9) ** 2


def _design_effect(clipped: Floats, jacobian: Floats, index: Ints) -> float:
    """By how much less rows tell than independent ones would, since those of a scale err together.

    Along orthogonal directions of the prediction, so that parameters which hardly matter do not matter here.
    """
    scores = np.linalg.svd(jacobian, full_matrices=False)[0] * clipped[:, None]
    summed = np.zeros((int(index.max()) + 1, scores.shape[1]))
    np.add.at(summed, index, scores)
    return max(1.0, float(((summed**2).sum(axis=0) / ((scores**2).sum(axis=0) + 1e-300)).mean()))


def _held_floors(problem: PowerSum, objective: float, unit: float) -> list[tuple[float, float, Floats]]:
    """(floor, doubt, theta) of fits with the floor held at several values: how far the answer hangs on it."""
    frozen = np.zeros(problem.size, dtype=bool)
    frozen[0] = True
    cases = []
    for share in FLOORS:
        log_floor = float(problem.log_y.min() + np.log(share))
        try:
            found = global_minima(
                problem, np.ones((1, len(problem.log_y))), points=_HELD_POINTS, log_first=log_floor, frozen=frozen
            )
        except FitError:
            continue  # above this floor nothing falls as a power: it is not one of the possible ones
        best = best_start(found)
        doubt = float(2 * (found.objective[best] - objective) / unit)
        cases.append((float(np.exp(log_floor)), doubt, found.theta[best]))
    return cases


def _same(values: Floats, tolerance: float) -> Floats:
    """Values, each replaced by the lowest of those within the tolerance of it."""
    order = np.argsort(values, kind="stable")
    starts = group_starts(np.log(values[order]), tolerance)
    lowest = np.empty(len(values))
    lowest[order] = np.repeat(values[order][starts], np.diff([*starts, len(values)]))
    return lowest
