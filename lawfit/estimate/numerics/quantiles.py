"""Quantiles averaged; and without scipy, whose import would take longer than all else that answers from a fit."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MUCH_FREEDOM = 1000

_NORMAL = NormalDist()


def normal_cdf(z: ArrayLike) -> Floats:
    """P(Z <= z) of a standard normal Z."""
    at = -np.asarray(z, dtype=float) / math.sqrt(2)
    return np.asarray(0.5 * np.array(list(map(math.erfc, at.ravel().tolist()))).reshape(at.shape))


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


@lru_cache(maxsize=256)
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
