"""What a grid of runs tells of the optimum of its scale, before they are made.

Near an optimum the loss is flat and tells little; on the walls of the valley it tells much, until it leaves the shape
that the fits trust. The information is Fisher's for the place of a known valley under the noise of runs, the level of
the scale free, averaged over where the optimum may lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.lr_batch.valley import steepened
from lawfit.estimate.numerics.shapes import Exponentials, bent_exponential

Floats = NDArray[np.float64]

PLACES: Final = 32  # where the optimum may lie: mirrored pairs
FAR: Final = 0.15  # of log loss above the lowest: beyond it no window of a fit reaches
NOISE: Final = 0.006  # of log loss, of one run: our own sweep's (data/README.md)
MISFIT: Final = 0.4  # by how much (ln) the true excess differs from the valley's: likewise


APART: Final = (0.3, 0.1, 0.1)  # sd between scales of ln steepness, and of how the valley leans to each side


@dataclass(frozen=True, kw_only=True)
class Valley:
    """The shape of a valley, and how runs scatter about it."""

    shape: Mapping[str, Any] | None  # of a fit; None: the prior of the fits
    noise: float = NOISE
    misfit: float = MISFIT

    @classmethod
    def of_fit(cls, model: Mapping[str, Any]) -> Valley:
        valley = model["valley"]
        return cls(shape=valley, noise=float(valley["noise"]), misfit=float(valley["misfit"]))

    def at(self, tokens: float) -> Floats:
        """(9,) coefficients at a horizon."""
        return Exponentials().prior_mean if self.shape is None else steepened(self.shape, tokens)[0]


@dataclass(frozen=True, kw_only=True)
class Design:
    """Learning rates crossed with batches around the optimum that is foretold, in equal steps of their logs."""

    rates: int
    batches: int
    lr_step: float  # a factor
    batch_step: float
    seeds: int = 1

    @property
    def runs(self) -> int:
        return self.rates * self.batches * self.seeds

    def offsets(self) -> tuple[Floats, Floats]:
        """(rates,), (batches,) ln of each over the centre."""
        rates, batches = (
            np.log(step) * (np.arange(count) - (count - 1) / 2)
            for count, step in ((self.rates, self.lr_step), (self.batches, self.batch_step))
        )
        return rates, batches


def information(
    valley: Floats, design: Design, spread: Floats, *, noise: float = NOISE, misfit: float = MISFIT
) -> Floats:
    """(scales, 2, 2) precision of (ln lr*, ln batch*) that a design is expected to bring to each of some scales.

    Parameters
    ----------
    valley : (scales, 9)
        Coefficients of `Exponentials`.
    spread : (scales, 2, 2)
        Covariance of where each optimum lies about the design's centre.
    noise, misfit : of a run's log loss; share (ln) of its excess
    """
    u, v = (axis.ravel() for axis in np.meshgrid(*design.offsets(), indexing="ij"))
    return information_of(valley, u, v, spread, seeds=design.seeds, noise=noise, misfit=misfit)


def information_of(
    valley: Floats,
    u: Floats,
    v: Floats,
    spread: Floats,
    *,
    seeds: int = 1,
    noise: float = NOISE,
    misfit: float = MISFIT,
) -> Floats:
    """As `information`, of any settings.

    Parameters
    ----------
    u, v : (runs,)
        ln of learning rates and of batches over where the optimum is foretold.
    """
    places = _places() @ symmetric_root(spread)  # (scales, places, 2)
    away = u - places[..., :1], v - places[..., 1:]
    excess, slopes = _excess(valley, *away)
    excess = excess - excess.min(axis=-1, keepdims=True)
    weight = np.where(excess < FAR, seeds / (noise**2 + (misfit * excess) ** 2), 0.0)
    # what is not known beside the place: the level, how steep this scale's valley is, and how it leans
    beside = np.stack([np.ones_like(excess), excess, excess * away[0], excess * away[1]], axis=-1)
    weighted = weight[..., None] * beside
    known = np.swapaxes(weighted, -1, -2) @ beside + np.diag([0.0, *(1 / np.square(APART))])
    across = np.swapaxes(weighted, -1, -2) @ slopes
    square = np.swapaxes(weight[..., None] * slopes, -1, -2) @ slopes
    told = square - np.swapaxes(across, -1, -2) @ np.linalg.solve(known, across)
    return np.asarray(told.mean(axis=1))


def seen_through(information: Floats, own_var: Floats) -> Floats:
    """(..., 2, 2) precision of law and size at a scale, where the scale deviates from them by `own_var` itself."""
    return np.asarray(np.linalg.solve(np.eye(2) + information @ own_var, information))


def _excess(q: Floats, u: Floats, v: Floats) -> tuple[Floats, Floats]:
    """(scales, places, runs) excess of log loss, and (scales, places, runs, 2) its slopes; q is (scales, 9)."""
    total, slopes = np.zeros(u.shape), np.zeros((*u.shape, 2))
    for amplitude, p, r in np.moveaxis(q.reshape(len(q), 3, 3), 0, 2)[..., None, None]:
        height, grown = bent_exponential(p * u + r * v)
        total += np.exp(amplitude) * height
        slopes[..., 0] += np.exp(amplitude) * grown * p
        slopes[..., 1] += np.exp(amplitude) * grown * r
    return total, slopes


@lru_cache(maxsize=1)
def _places() -> Floats:
    half = np.random.default_rng(0).standard_normal((PLACES // 2, 2))
    both = np.concatenate([half, -half])
    return np.asarray(both / both.std(axis=0))


def symmetric_root(cov: Floats) -> Floats:
    """(..., 2, 2) of covariances."""
    value, vector = np.linalg.eigh((cov + np.swapaxes(cov, -1, -2)) / 2)
    return np.asarray((vector * np.sqrt(np.maximum(value, 0.0))[..., None, :]) @ np.swapaxes(vector, -1, -2))
