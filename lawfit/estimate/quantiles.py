"""Quantiles averaged; and without scipy, whose import would take longer than all else that answers from a fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MUCH_FREEDOM = 1000

_NORMAL = NormalDist()
_erfc = np.vectorize(math.erfc, otypes=[float])


def normal_cdf(z: ArrayLike) -> Floats:
    """P(Z <= z) of a standard normal Z."""
    return np.asarray(0.5 * _erfc(-np.asarray(z, dtype=float) / math.sqrt(2)), dtype=float)


def normal_quantile(probability: float) -> float:
    """z with P(Z <= z) = probability."""
    return _NORMAL.inv_cdf(probability)


def student_cdf(t: float, freedom: int) -> float:
    """P(T <= t) of Student's T with a whole number of degrees of freedom: a finite sum (Abramowitz and Stegun 26.7)."""
    theta = math.atan2(t, math.sqrt(freedom))
    cosine, sine = math.cos(theta), math.sin(theta)
    term, total = (cosine, cosine) if freedom % 2 else (1.0, 1.0)
    for k in range(3 if freedom % 2 else 2, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    if freedom % 2 == 0:
        inside = sine * total
    else:
        inside = 2 / math.pi * (theta + (sine * total if freedom > 1 else 0.0))
    return 0.5 + 0.5 * inside


def student_quantile(probability: float, freedom: int) -> float:
    """t with P(T <= t) = probability: by bisection, or with much freedom by its expansion around the normal's."""
    if freedom > MUCH_FREEDOM:  # (Abramowitz and Stegun 26.7.5); what is left out is of the order of freedom^-3
        z = normal_quantile(probability)
        return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    if probability < 0.5:
        return -student_quantile(1 - probability, freedom)
    low, high = 0.0, 1.0
    while student_cdf(high, freedom) < probability:
        high *= 2
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if student_cdf(middle, freedom) < probability else (low, middle)
    return 0.5 * (low + high)


def averaged_ends(
    quantiles: Sequence[Floats], centres: Sequence[float], weights: Sequence[float], outer: float, apart: float
) -> tuple[float, float]:
    """Ends of the interval of an average, of which each member knows its own distribution.

    The members' errors go together, so the average's quantiles are theirs averaged; how far the members lie from their
    average counts by `apart`, independently. NaN or infinite where a member's tails are.

    Parameters
    ----------
    quantiles : of each member, at shares (j + 1/2) / n
    weights : of the members, adding up to one
    outer : probability beyond each end
    """
    share = np.asarray(weights, dtype=float)
    with np.errstate(invalid="ignore"):
        within = share @ np.array(quantiles)
        off = apart * (np.asarray(centres, dtype=float) - share @ np.asarray(centres, dtype=float))
        values = np.add.outer(off, within).ravel()
    if np.isnan(values).any():  # members that are open at opposite ends
        return math.nan, math.nan
    order = np.argsort(values)
    mass = np.repeat(share / len(within), len(within))[order]
    low, high = np.interp([outer, 1 - outer], np.cumsum(mass) - mass / 2, values[order])
    return float(low), float(high)
