"""What a fit promised about scales it did not see, against what the runs there show.

Each model size is left out, everything is fitted again, and the optimum of every scale of that size is foretold with
its interval and its price. The outcome is the scale's own optimum as the fit of all scales has it. Scales of a size
share most of their miss, so a size counts once.

Where misses are larger than the intervals said, a factor on their width is estimated: its square is the mean of 1,
counted as many times as there are sizes, and of the squared misses of the sizes, in units of what was stated. So few
sizes move it little. It never narrows: a handful of sizes that happen to agree must not silence the prior on how far
the next one may lie off (four sizes of the Step Law study do agree, and the fifth lies where they did not point).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.lr_batch.ensemble import Ensemble
from lawfit.estimate.lr_batch.surface import SurfaceFit
from lawfit.estimate.lr_batch.valley import excess
from lawfit.estimate.numerics.quantiles import student_quantile
from lawfit.estimate.numerics.scoring import ObservedSurface
from lawfit.estimate.observe.observations import Observations

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

LEVEL: Final = 0.9
_POINTS: Final = 15  # of Gauss-Hermite quadrature, along each axis


@dataclass(frozen=True, kw_only=True)
class Promise:
    """One scale of a size left out; pairs are of (ln lr, ln batch)."""

    params: float
    tokens: float
    miss: tuple[float, float]  # foretold minus own optimum
    sd: tuple[float, float]  # stated, with what is not known of the scale's own optimum
    inside: tuple[bool, bool]  # the interval
    score: tuple[float, float]  # width + 20 x miss outside (Gneiting and Raftery 2007, eq. 43), ln units
    width: tuple[float, float]
    stated_cost: float  # expected share of loss given up
    realised_cost: float  # on the runs there, above what the scale's own optimum costs; NaN where nothing is scored


@dataclass(frozen=True, kw_only=True)
class Kept:
    """All promises of one fit."""

    promises: tuple[Promise, ...]
    sizes: int
    factors: tuple[float, float]  # on the widths of intervals of lr and batch

    def to_json(self) -> dict[str, Any]:
        each = self.promises
        costs = np.array([(p.stated_cost, p.realised_cost) for p in each if np.isfinite(p.realised_cost)])
        return {
            "scales": len(each),
            "sizes": self.sizes,
            "level": LEVEL,
            "inside": {name: int(sum(p.inside[axis] for p in each)) for axis, name in _AXES},
            "miss_in_sd": {
                name: float(np.sqrt(np.mean([(p.miss[axis] / p.sd[axis]) ** 2 for p in each]))) for axis, name in _AXES
            },
            "mean_width": {name: float(np.mean([p.width[axis] for p in each])) for axis, name in _AXES},
            "mean_score": {name: float(np.mean([p.score[axis] for p in each])) for axis, name in _AXES},
            "stated_cost": float(costs[:, 0].mean()) if len(costs) else None,
            "realised_cost": float(costs[:, 1].mean()) if len(costs) else None,
            "factor": {name: self.factors[axis] for axis, name in _AXES},
            "each": [_of_scale(promise) for promise in each],
        }


_AXES: Final = ((0, "lr"), (1, "batch_tokens"))


def _of_scale(promise: Promise) -> dict[str, Any]:
    realised = promise.realised_cost
    return {
        "params": promise.params,
        "tokens": promise.tokens,
        "inside": {name: promise.inside[axis] for axis, name in _AXES},
        "miss_in_sd": {name: promise.miss[axis] / promise.sd[axis] for axis, name in _AXES},
        "stated_cost": promise.stated_cost,
        "realised_cost": realised if np.isfinite(realised) else None,
    }


def check_promises(
    observed: Observations,
    full: Ensemble,
    valley: SurfaceFit,
    surfaces: Mapping[int, ObservedSurface],
    rounds: Sequence[tuple[Ints, Ensemble]],
) -> Kept | None:
    """Compare what was foretold with what is there.

    Parameters
    ----------
    valley : prices a miss; of the fit of all scales
    rounds : (cells left out, the fit without them)
    """
    promises: list[Promise] = []
    squares: list[Floats] = []
    own, own_cov = full.optima(observed), full.cell_cov()
    for left, ensemble in rounds:
        each = [_promise(observed, int(cell), ensemble, own[cell], own_cov[cell], valley, surfaces) for cell in left]
        promises += each
        squares.append(np.mean([np.square(np.array(p.miss) / np.array(p.sd)) for p in each], axis=0))
    if len(squares) < 2:
        return None
    lr, batch = np.maximum(np.sqrt((1.0 + np.mean(squares, axis=0)) / 2), 1.0)
    return Kept(promises=tuple(promises), sizes=len(squares), factors=(float(lr), float(batch)))


def _promise(
    observed: Observations,
    cell: int,
    ensemble: Ensemble,
    own: Floats,
    own_cov: Floats,
    valley: SurfaceFit,
    surfaces: Mapping[int, ObservedSurface],
) -> Promise:
    params, tokens = float(observed.params[cell]), float(observed.tokens[cell])
    centre, cov = ensemble.foretell(params, tokens)
    sd = np.sqrt(np.diag(cov))
    freedom = max(3, round(ensemble.freedom()))
    half = student_quantile(0.5 + LEVEL / 2, freedom) * np.sqrt((freedom - 2) / freedom) * sd
    outside = np.maximum(np.abs(centre - own) - half, 0.0)
    realised = float("nan")
    if cell in surfaces:
        lr, batch = np.exp(np.array([centre, own])).T
        chosen, best = surfaces[cell].regret(lr, batch).regret
        realised = float(chosen - best)
    return Promise(
        params=params,
        tokens=tokens,
        miss=_pair(centre - own),
        sd=_pair(np.sqrt(np.diag(cov) + np.diag(own_cov))),
        inside=(bool(outside[0] == 0), bool(outside[1] == 0)),
        score=_pair(2 * half + 2 / (1 - LEVEL) * outside),
        width=_pair(2 * half),
        stated_cost=_expected_cost(cov, valley, tokens),
        realised_cost=realised,
    )


def _pair(values: Floats) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _expected_cost(cov: Floats, valley: SurfaceFit, tokens: float) -> float:
    """Mean excess of the valley at the centre when the optimum is normal around it."""
    points, weights = np.polynomial.hermite_e.hermegauss(_POINTS)
    x, y = np.meshgrid(points, points)
    w = np.outer(weights, weights).ravel() / weights.sum() ** 2
    value, vector = np.linalg.eigh(cov)
    at = (vector * np.sqrt(np.maximum(value, 0.0))) @ np.stack([x.ravel(), y.ravel()])
    q = valley.shape.copy()
    q[::3] += valley.steepness * (np.log(tokens) - valley.centre[1])  # ln amplitudes
    return float(w @ np.expm1(np.minimum(excess(at[0], at[1], q), 0.05)))
