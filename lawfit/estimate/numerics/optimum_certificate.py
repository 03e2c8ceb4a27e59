"""The certificate of a power law through measured optima.

Such a law is solved exactly for each size of the scatter, so there is nothing to search; what can be wrong with it is
that the optima do not determine it, that one group of them bends it, or that the scatter runs out of its range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError
from lawfit.estimate.numerics.certificate import (
    WEAK,
    Certificate,
    Precision,
    Search,
    certificate,
    influences,
    lack_of_fit,
    needed_runs,
)
from lawfit.estimate.numerics.optimum_law import MeasuredOptima, OptimumLaw, fit_optimum_law
from lawfit.units import format_quantity

Floats = NDArray[np.float64]

SETTLED: Final = 1e-5  # a remaining Newton step this many standard errors long is nothing
# An exponent is scaled by itself, but by no less than this: one near zero is known when its error is small beside the
# usual exponents of a batch. At `WEAK` that leaves an sd of 0.15, what published laws tell anyway (`laws.lent`).
LEAST_EXPONENT: Final = 0.3
LEVEL: Final = "level"
_FACTORS: Final = (0.25, 0.5, 2.0, 4.0, 8.0)  # of a size or horizon that one might add
_SCATTER_END: Final = 1e-3  # posterior of the largest scatter tried


def certify_law(
    optima: MeasuredOptima, law: OptimumLaw, prior: Mapping[str, tuple[float, float]] | None = None, *, of: str
) -> Certificate:
    """Examine one law of a quantity `of` this name; clusters are groups of optima, which come from the same runs.

    `prior` is what the law was fitted with: a lent exponent.
    """
    names = (LEVEL, *(f"exponent of {name}" for name in law.inputs))
    mean = law.coefficients
    apart = law.means - mean
    covariance = np.einsum("s,sij->ij", law.weights, law.covariances) + (law.weights[:, None] * apart).T @ apart
    information = np.linalg.inv(covariance)
    sd = np.sqrt(np.diag(covariance))
    scale = np.array([1.0, *np.maximum(np.abs(mean[1:]), LEAST_EXPONENT)])
    relative = sd / scale
    lent = np.array([False, *(name in (prior or {}) for name in law.inputs)])
    weak = tuple(n for n, r, known in zip(names, relative, lent, strict=True) if r > WEAK and not known)
    design = _rows(law, np.column_stack([optima.inputs[name] for name in law.inputs]))
    size = np.bincount(optima.group)[optima.group]
    noise = float(np.sqrt(np.median(optima.log_sd**2 * size) + law.scatter**2))
    candidates = _further_scales(optima, law.inputs)
    there = _rows(law, np.array([[c[name] for name in law.inputs] for c in candidates]))
    residual = optima.log_value - design @ mean
    remaining = _normal_equations(optima, law, design, prior)
    in_range = float(law.weights[-1]) < _SCATTER_END
    squares = {f"ln {name} squared": (design[:, 1 + k]) ** 2 for k, name in enumerate(law.inputs)}
    return certificate(
        search=Search(
            starts=1,  # solved exactly, scatter by scatter
            agreeing=1,
            spread=0.0,
            gradient_norm=remaining,
            converged=remaining < SETTLED and in_range,
        ),
        precision=Precision(
            names=names,
            information=information,
            relative_sd=relative,
            at_bound=np.zeros(len(names), dtype=bool),
            weak=weak,
            runs=needed_runs(names, weak, information, scale, candidates, there / noise),
        ),
        structure=lack_of_fit(residual, 1.0, design, squares, optima.group),
        influence=influences(names, mean, sd, _without_each(optima, law, prior), np.arange(len(names)) == 0),
        rows=len(optima),
        clusters=optima.groups,
        of=of,
    )


def _rows(law: OptimumLaw, inputs: Floats) -> Floats:
    return np.column_stack([np.ones(len(inputs)), np.log(inputs) - law.centre])


def _normal_equations(
    optima: MeasuredOptima, law: OptimumLaw, design: Floats, prior: Mapping[str, tuple[float, float]] | None
) -> float:
    """How far, in standard errors, the worst solution of the weighted equations is from solving them."""
    size = np.bincount(optima.group)[optima.group]
    same = (optima.group[:, None] == optima.group[None, :]).astype(float)
    certainty = np.array([0.0, *((prior or {}).get(name, (0.0, np.inf))[1] ** -2.0 for name in law.inputs)])
    expected = np.array([0.0, *((prior or {}).get(name, (0.0, np.inf))[0] for name in law.inputs)])
    worst = 0.0
    for scatter, mean, covariance in zip(law.scatters, law.means, law.covariances, strict=True):
        total = np.diag(optima.log_sd**2 * size) + scatter**2 * same
        score = design.T @ np.linalg.solve(total, optima.log_value - design @ mean) - certainty * (mean - expected)
        worst = max(worst, float(np.abs(covariance @ score / np.sqrt(np.diag(covariance))).max()))
    return worst


def _further_scales(optima: MeasuredOptima, inputs: Sequence[str]) -> list[dict[str, float]]:
    """Scales that one might add, smaller and larger; with two inputs also off the line on which the others lie."""
    ends = {name: (float(optima.inputs[name].min()), float(optima.inputs[name].max())) for name in inputs}
    single = [{name: (low if f < 1 else high) * f for name, (low, high) in ends.items()} for f in _FACTORS]
    if len(inputs) < 2 or "loss" in inputs:
        return single
    off = [{**ends_at, inputs[k]: ends_at[inputs[k]] * f} for ends_at in single for k in range(2) for f in (0.25, 4.0)]
    return [*single, *off]


def _without_each(
    optima: MeasuredOptima, law: OptimumLaw, prior: Mapping[str, tuple[float, float]] | None
) -> dict[str, tuple[int, Floats]]:
    """The coefficients, at the law's own centre, without each size; two sizes left determine an exponent as well."""
    vague = {name: (exponent, 1.0) for name, exponent in law.exponents.items()}
    found = {}
    for group in range(optima.groups if optima.groups > 1 else 0):
        rows = optima.group == group
        try:
            rest = fit_optimum_law(optima.take(~rows), law.inputs, prior=vague | dict(prior or {}))
        except FitError:
            continue
        coefficients = rest.coefficients.copy()
        coefficients[0] += coefficients[1:] @ (law.centre - rest.centre)
        unit = next(name for name in ("params", "tokens", *optima.inputs) if name in optima.inputs)
        where = optima.inputs[unit][rows][0]
        found[f"{format_quantity(float(where))} {unit}"] = (int(rows.sum()), coefficients)
    return found
