"""What the law of the best timescale may be trusted with: its search, what the scales determine, who bends it.

The search is that of the joint valley (`valley`); the law through what it gives is solved exactly. The
information is that of the scales alone, whatever was lent to the law: so a lent exponent shows as undetermined, with
the sweep of weight decay that would settle it.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    vague_covariance,
)
from lawfit.estimate.numerics.optimum_law import MeasuredOptima, OptimumLaw, fit_optimum_law
from lawfit.units import format_quantity

Floats = NDArray[np.float64]

NAMES: Final = ("level", "exponent")
# The exponent is scaled by that of a square root: a timescale that hardly moves with the ratio may be known well though
# its exponent is near zero. At `WEAK` that leaves an sd of 0.25, a little less than what is lent without any data.
USUAL_EXPONENT: Final = 0.5
_SAME_RATIO: Final = 1e-6
_FACTORS: Final = (1 / 8, 1 / 4, 1 / 2, 2.0, 4.0, 8.0)  # of the ratios measured, for a sweep that one might add


def certify_timescale(
    optima: MeasuredOptima, law: OptimumLaw, scales: Sequence[tuple[float, float]], search: Search, *, rows: int
) -> Certificate:
    """Examine a law in one input, tokens per parameter.

    Parameters
    ----------
    scales : (params, tokens) of each optimum
    rows : runs behind them
    """
    (ratio,) = law.inputs
    x = np.log(optima.inputs[ratio]) - law.centre[0]
    x = x if np.ptp(x) > _SAME_RATIO else np.zeros_like(x)  # rounding is no information
    design = np.column_stack([np.ones(len(x)), x])
    variance = optima.log_sd**2 + law.scatter**2
    information = (design.T / variance) @ design
    sd = np.sqrt(np.diag(vague_covariance(information)))
    scale = np.array([1.0, max(abs(law.exponents[ratio]), USUAL_EXPONENT)])
    few = np.array([False, optima.groups <= len(NAMES)])  # through two points a line always goes
    weak = tuple(n for n, relative, open_ in zip(NAMES, sd / scale, few, strict=True) if relative > WEAK or open_)
    smallest = min(params for params, _ in scales)
    low, high = float(optima.inputs[ratio].min()), float(optima.inputs[ratio].max())
    wanted = [(low if factor < 1 else high) * factor for factor in _FACTORS]
    there = np.column_stack([np.ones(len(wanted)), np.log(wanted) - law.centre[0]])
    columns = {"ln tokens per parameter squared": x**2, "ln params": np.log([params for params, _ in scales])}
    return certificate(
        search=search,
        precision=Precision(
            names=NAMES,
            information=information,
            relative_sd=sd / scale,
            at_bound=np.zeros(2, dtype=bool),
            weak=weak,
            runs=needed_runs(
                NAMES,
                weak,
                information,
                scale,
                [{"params": smallest, "tokens": smallest * at} for at in wanted],
                there / float(np.sqrt(np.median(variance))),
            ),
        ),
        structure=lack_of_fit(
            optima.log_value - design @ law.coefficients, 1.0, design, columns, np.arange(len(optima))
        ),
        influence=influences(NAMES, law.coefficients, sd, _without_each(optima, law, scales), np.array([True, False])),
        rows=rows,
        clusters=optima.groups,
        of="the best timescale",
    )


def _without_each(
    optima: MeasuredOptima, law: OptimumLaw, scales: Sequence[tuple[float, float]]
) -> dict[str, tuple[int, Floats]]:
    """Level (at the law's own centre) and exponent without each scale; an exponent left open stays the law's."""
    (ratio,) = law.inputs
    vague = {ratio: (law.exponents[ratio], 1.0)}
    found = {}
    for k in range(len(optima) if len(optima) > 1 else 0):
        try:
            rest = fit_optimum_law(optima.take(np.arange(len(optima)) != k), law.inputs, prior=vague)
        except FitError:
            continue
        level, exponent = rest.coefficients
        params, tokens = scales[k]
        name = f"{format_quantity(params)} params on {format_quantity(tokens)} tokens"
        found[name] = (1, np.array([level + exponent * (law.centre[0] - rest.centre[0]), exponent]))
    return found
