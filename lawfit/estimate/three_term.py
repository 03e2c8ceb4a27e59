"""The three-term surface ``L = E + A / params^alpha + B / batch^beta + C / steps^gamma`` (Schaipp, arXiv 2607.01487).

It takes every batch that was run, good or bad, and has an optimal batch inside: at given tokens a smaller batch buys
steps. Learning rate is no input: each (params, tokens, batch) enters with the lowest loss over the rates tried there.
Search, resamples and certificate are those of `varpro` and `certificate`; resamples draw whole scales, since the
batches of one (params, tokens) share what is particular to it.

Seldom do runs determine the floor E, and with it most parameters; the optimal batch hardly depends on them. So the
draws behind its interval come from fits with the floor free and held at several values, each as often as its misfit
allows, and how far the answer moves from floor to floor is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.certificate import (
    Certificate,
    Search,
    certificate,
    influences,
    lack_of_fit,
    vague_covariance,
    wandering,
    weak_parameters,
)
from lawfit.estimate.critical_batch import CriticalBatch, CriticalStatus
from lawfit.estimate.newton import Floats, Minima
from lawfit.estimate.observations import PARAMS_TOLERANCE, SETTING_TOLERANCE, TOKENS_TOLERANCE
from lawfit.estimate.resample import cluster_index, cluster_weights, interval, without_each
from lawfit.estimate.scoring import group_starts
from lawfit.estimate.sweeps import sweep_parabola
from lawfit.estimate.varpro import PowerSum, Term, best_start, global_minima, resampled_minima, same_minimum
from lawfit.laws.critical_batch import Definition, ThreeTerm
from lawfit.records import OptimumStatus

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
        raise NotEnoughData("no run finished, so there is no loss to fit")
    out_n, out_d, out_b, out_y, edge = np.array(rows).T
    return BatchRuns(params=out_n, tokens=out_d, batch_tokens=out_b, loss=out_y, edge=edge > 0)


@dataclass(frozen=True, kw_only=True)
class BatchInterval:
    """A batch size with its interval; None where too few scales give one."""

    value_tokens: float
    low_tokens: float | None
    high_tokens: float | None
    level: float
    decades: float  # of tokens, beyond the fitted scales; 0 inside


@dataclass(frozen=True, kw_only=True)
class FloorCase:
    """The fit with the floor held at one value."""

    floor: float  # nats per token
    doubt: float  # rise of the objective in squared standard errors, over the fit with the floor free
    law: ThreeTerm


@dataclass(frozen=True, kw_only=True)
class ThreeTermFit:
    """A fitted three-term surface."""

    law: ThreeTerm
    draws: tuple[ThreeTerm, ...]
    floors: tuple[FloorCase, ...]  # how far the answer hangs on the floor
    level: float
    fitted: int  # free parameters
    ranges: Mapping[str, tuple[float, float]]
    noise: float  # robust sd of log residuals
    certificate: Certificate

    def optimal_batch(self, tokens: float) -> BatchInterval:
        """Batch of the lowest loss at a horizon. It does not depend on params: that is an assumption of the form."""
        value = float(self.law.optimal_batch_tokens(tokens))
        low, high = self._interval(np.array([float(law.optimal_batch_tokens(tokens)) for law in self.draws]))
        smallest, largest = self.ranges["tokens"]
        decades = max(0.0, float(np.log10(smallest / tokens)), float(np.log10(tokens / largest)))
        return BatchInterval(value_tokens=value, low_tokens=low, high_tokens=high, level=self.level, decades=decades)

    def critical(self, params: float, tokens: float, fraction: float) -> CriticalBatch:
        """The batch above the optimal one at which the optimal loss of this horizon costs `fraction` more tokens.

        Its definition names the optimal batch as the reference, from which the extra tokens count: unlike the
        hyperbola's, and not convertible to it exactly.
        """
        reference, value = _critical_of(self.law, params, tokens, fraction)
        found = np.array([_critical_of(law, params, tokens, fraction)[1] for law in self.draws])
        low, high = self._interval(found)
        tried = self.ranges["batch_tokens"]
        inside = tried[0] <= value <= tried[1]
        edge = CriticalStatus.ABOVE_TRIED if value > tried[1] else CriticalStatus.BELOW_TRIED
        known = low is not None and high is not None and np.isfinite(high)
        return CriticalBatch(
            definition=Definition(fraction=fraction, reference_batch_tokens=reference),
            value_tokens=value,
            low_tokens=0.0 if low is None else low,
            high_tokens=np.inf if high is None else high,
            level=self.level,
            status=CriticalStatus.INSIDE if inside else edge,
            estimator="three_term",
            params=params,
            tokens=tokens,
            loss=float(self.law(params, reference, tokens / reference)),
            log_sd=float(np.log(high / low) / 3.29) if known and low and high else np.inf,
            form_log_sd=0.0,
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values; `from_json` brings the same fit back."""
        return {
            "form": "three_term",
            "law": vars(self.law).copy(),
            "draws": [list(vars(law).values()) for law in self.draws],
            "floors": [{"floor": c.floor, "doubt": c.doubt, "law": vars(c.law).copy()} for c in self.floors],
            "level": self.level,
            "fitted": self.fitted,
            "ranges": {name: list(bounds) for name, bounds in self.ranges.items()},
            "noise": self.noise,
            "certificate": self.certificate.to_json(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ThreeTermFit:
        names = tuple(document["law"])
        return cls(
            law=ThreeTerm(**document["law"]),
            draws=tuple(ThreeTerm(**dict(zip(names, row, strict=True))) for row in document["draws"]),
            floors=tuple(
                FloorCase(floor=c["floor"], doubt=c["doubt"], law=ThreeTerm(**c["law"])) for c in document["floors"]
            ),
            level=float(document["level"]),
            fitted=int(document["fitted"]),
            ranges={name: (float(low), float(high)) for name, (low, high) in document["ranges"].items()},
            noise=float(document["noise"]),
            certificate=Certificate.from_json(document["certificate"]),
        )

    def _interval(self, found: Floats) -> tuple[float | None, float | None]:
        """Individual parameters may be open; what follows from all of them together need not be."""
        if self.certificate.clusters <= self.fitted or not len(found):
            return None, None
        low, high = interval(found, self.level, self.certificate.clusters, self.fitted)
        return float(low), float(high)


def fit_three_term(
    runs: BatchRuns,
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = 0.9,
) -> ThreeTermFit:
    """Fit the surface to the best runs of every batch.

    Raises
    ------
    NotEnoughData
        Not more rows than parameters, or no scale with three batches.
    FitError
        The losses do not fall with batch and steps.
    """
    steps = runs.tokens / runs.batch_tokens
    scales = np.unique(np.column_stack([runs.params, runs.tokens]), axis=0, return_inverse=True)[1].ravel()
    if np.bincount(scales).max(initial=0) < 3:
        raise NotEnoughData("no scale has three batch sizes; a trade-off between batch and steps needs them")
    columns = {"params": runs.params, "batch": runs.batch_tokens, "steps": steps}
    if np.ptp(np.log(runs.params)) < 0.1:
        del columns["params"]  # one size: its term is part of the floor
    names = tuple(n for n in _NAMES if "params" in columns or n not in ("A", "alpha"))
    if len(runs) <= len(names):
        raise NotEnoughData(f"{len(runs)} batches cannot give {len(names)} parameters; {2 * len(names)} are a start")
    logs = {name: np.log(column) for name, column in columns.items()}
    centres = {name: float(x.mean()) for name, x in logs.items()}
    problem = PowerSum(
        np.log(runs.loss),
        [
            Term(logs=np.empty((len(runs), 0)), low=(), high=()),
            *(
                Term(logs=(x - centres[name])[:, None], low=_EXPONENTS[:1], high=_EXPONENTS[1:])
                for name, x in logs.items()
            ),
        ],
        DELTA,
    )
    index = cluster_index(scales, len(runs))
    found = global_minima(problem, np.ones((1, len(runs))), points=_START_POINTS)
    best = best_start(found)
    theta = found.theta[best]
    leave_out = without_each(index) if int(index.max()) > 0 else np.empty((0, len(runs)))
    weights = np.concatenate([cluster_weights(index, resamples, rng=rng), leave_out])
    again, agree = resampled_minima(problem, weights, theta, points=_RESAMPLE_POINTS)
    report, unit = _certificate(problem, found, best, again, agree, resamples, index, runs, names)
    floors, draws = _held_floors(
        problem, float(found.objective[best]), unit, weights[:resamples], again.theta[:resamples]
    )
    residual = problem.log_y - problem.log_model(theta[None, :])[0]
    return ThreeTermFit(
        law=_law(theta, centres),
        draws=tuple(_law(row, centres) for row in draws),
        floors=tuple(FloorCase(floor=case.floor, doubt=case.doubt, law=_law(case.theta, centres)) for case in floors),
        level=level,
        fitted=len(names),
        ranges={
            name: (float(column.min()), float(column.max()))
            for name, column in (("params", runs.params), ("tokens", runs.tokens), ("batch_tokens", runs.batch_tokens))
        },
        noise=1.4826 * float(np.median(np.abs(residual))),
        certificate=report,
    )


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


def _critical_of(law: ThreeTerm, params: float, tokens: float, fraction: float) -> tuple[float, float]:
    """(optimal batch, batch above it that needs `fraction` more tokens to the same loss), by bisection in logs."""
    reference = float(law.optimal_batch_tokens(tokens))
    loss = float(law(params, reference, tokens / reference))
    low, high = np.log(reference), np.log(reference) + 30.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        batch = float(np.exp(middle))
        if batch * float(law.steps_to(loss, params, batch)) > (1 + fraction) * tokens:
            high = middle
        else:
            low = middle
    return reference, float(np.exp(0.5 * (low + high)))


def _certificate(
    problem: PowerSum,
    found: Minima,
    best: int,
    again: Minima,
    agree: NDArray[np.bool_],
    resamples: int,
    index: Ints,
    runs: BatchRuns,
    names: tuple[str, ...],
) -> tuple[Certificate, float]:
    """The examination, and the squared standard error in units of the objective."""
    theta = found.theta[best]
    residual = problem.log_y - problem.log_model(theta[None, :])[0]
    clipped = np.clip(residual, -DELTA, DELTA)
    clusters = int(index.max()) + 1
    spare = np.sqrt(clusters / max(clusters - len(names), 1))
    width = max(DELTA, 1.4826 * float(np.median(np.abs(residual))) * spare)
    inside = min(1.0, DELTA / width) * float((np.abs(residual) <= width).mean())
    jacobian = problem.jacobian(theta)
    gram = jacobian.T @ jacobian
    variance = (float((clipped**2).mean()) * spare**2 + 1e-22) / max(inside, 1e-9) ** 2
    effect = _design_effect(clipped, jacobian, index)
    information = gram / (variance * effect)
    exponent = np.array([name in ("alpha", "beta", "gamma") for name in names])
    scale = np.where(exponent, np.maximum(np.abs(theta), 1e-3), 1.0)
    sd = np.sqrt(np.diag(vague_covariance(information)))
    unit = effect * variance * inside
    doubt = 2 * np.nan_to_num(found.objective - found.objective[best], nan=np.inf) / unit
    loose = wandering(found.theta, doubt, best, scale)
    same = same_minimum(found.objective, found.objective[best]) & found.converged
    apart = found.theta[same] - theta
    search = Search(
        starts=len(same),
        agreeing=int(same.sum()),
        spread=float(np.sqrt(np.einsum("sk,kl,sl->s", apart, information, apart)).max(initial=0.0)),
        gradient_norm=float(found.distance[best]),
        converged=bool(found.converged[best]),
        resamples=resamples,
        resamples_converged=int(again.converged[:resamples].sum()),
        resamples_agreeing=int(agree[:resamples].sum()),
    )
    b, k = (np.log10(x) - np.log10(x).mean() for x in (runs.batch_tokens, runs.tokens / runs.batch_tokens))
    left = {
        f"{runs.params[index == c][0]:.3g} params, {runs.tokens[index == c][0]:.3g} tokens": (
            int((index == c).sum()),
            again.theta[resamples + c],
        )
        for c in range(len(again.theta) - resamples)
    }
    report = certificate(
        search=search,
        names=names,
        information=information,
        relative_sd=sd / scale,
        at_bound=found.at_bound[best],
        weak=weak_parameters(names, np.where(loose, np.inf, sd / scale), found.at_bound[best]),
        runs=(),
        structure=lack_of_fit(
            clipped, inside, jacobian, {"batch^2": b**2, "batch * steps": b * k, "steps^2": k**2}, index
        ),
        influence=influences(names, theta, sd, left, ~exponent),
        rows=len(runs),
        clusters=clusters,
    )
    return report, unit


def _design_effect(clipped: Floats, jacobian: Floats, index: Ints) -> float:
    """By how much less rows tell than independent ones would, since those of a scale err together.

    Along orthogonal directions of the prediction, so that parameters which hardly matter do not matter here.
    """
    scores = np.linalg.svd(jacobian, full_matrices=False)[0] * clipped[:, None]
    summed = np.zeros((int(index.max()) + 1, scores.shape[1]))
    np.add.at(summed, index, scores)
    return max(1.0, float(((summed**2).sum(axis=0) / ((scores**2).sum(axis=0) + 1e-300)).mean()))


@dataclass(frozen=True, kw_only=True)
class _HeldFloor:
    floor: float
    doubt: float
    theta: Floats


def _held_floors(
    problem: PowerSum, objective: float, unit: float, weights: Floats, free: Floats
) -> tuple[list[_HeldFloor], Floats]:
    """Fits with the floor held, and draws of all fits, each as often as ``exp(-doubt / 2)`` allows."""
    frozen = np.zeros(problem.size, dtype=bool)
    frozen[0] = True
    cases: list[_HeldFloor] = []
    draws, shares = [free], [1.0]
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
        cases.append(_HeldFloor(floor=float(np.exp(log_floor)), doubt=doubt, theta=found.theta[best]))
        again, _ = resampled_minima(
            problem, weights, found.theta[best], points=_RESAMPLE_POINTS, log_first=log_floor, frozen=frozen
        )
        draws.append(again.theta)
        shares.append(float(np.exp(-0.5 * doubt)))
    counts = np.round(len(free) * np.array(shares) / sum(shares)).astype(int)
    return cases, np.concatenate([rows[:count] for rows, count in zip(draws, counts, strict=True)])


def _same(values: Floats, tolerance: float) -> Floats:
    """Values, each replaced by the lowest of those within the tolerance of it."""
    order = np.argsort(values, kind="stable")
    starts = group_starts(np.log(values[order]), tolerance)
    lowest = np.empty(len(values))
    lowest[order] = np.repeat(values[order][starts], np.diff([*starts, len(values)]))
    return lowest
