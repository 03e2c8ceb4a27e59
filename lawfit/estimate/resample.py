"""Resampling: weights for whole clusters of rows, and intervals that allow for how few clusters there are.

Rows that share their noise (checkpoints of one run, runs of one cell) are drawn together. A cluster's weight is
exponential with mean 1 (Rubin's Bayesian bootstrap): no cluster ever vanishes, so that a resample cannot lose the only
runs that identify an exponent.

A percentile interval of few clusters is too narrow, for the same reasons that a normal interval with the plug-in
variance is. Expanded percentiles (Hesterberg, arXiv 1411.5279) take further tails, those at which a normal law has the
quantiles that Student's t would ask for; like percentiles, they follow any monotone change of what is estimated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.estimate.quantiles import normal_cdf, student_quantile

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


def cluster_index(clusters: ArrayLike | None, rows: int) -> Ints:
    """0-based cluster of each row; every row is its own where none are given.

    Raises
    ------
    ValueError
        Not one label per row.
    """
    if clusters is None:
        return np.arange(rows)
    labels = np.asarray(clusters)
    if labels.shape != (rows,):
        raise ValueError(f"clusters must have one label for each of {rows} rows, got shape {labels.shape}")
    return np.unique(labels, return_inverse=True)[1].ravel()


def cluster_weights(index: Ints, resamples: int, *, rng: np.random.Generator) -> Floats:
    """(resamples, rows) weights, the same for all rows of a cluster, with mean 1."""
    groups = int(index.max()) + 1
    weights = rng.standard_exponential((resamples, groups))
    return weights if groups == len(index) and np.array_equal(index, np.arange(groups)) else weights[:, index]


def without_each(index: Ints) -> Floats:
    """(groups, rows) weights that leave out one group of rows each."""
    return np.asarray(index[None, :] != np.arange(int(index.max()) + 1)[:, None], dtype=float)


def tail(level: float, clusters: int, parameters: int) -> float:
    """Probability in each tail of an expanded percentile interval.

    The factor sqrt(G / (G - k)) undoes that residuals of a fit with k parameters are too small, and Student's t with
    G - k degrees of freedom stands for a variance that G clusters estimate.

    Raises
    ------
    ValueError
        No more clusters than parameters: there is no such interval.
    """
    if clusters <= parameters:
        raise ValueError(f"{clusters} clusters give no interval for a fit with {parameters} parameters")
    spare = clusters - parameters
    quantile = np.sqrt(clusters / spare) * student_quantile(0.5 + level / 2, spare)
    return float(normal_cdf(-quantile))


def interval(draws: Floats, level: float, clusters: int, parameters: int) -> tuple[Floats, Floats]:
    """Expanded percentile interval of each column of (resamples, ...) draws.

    Where the tail that is asked for holds less than one draw, the outermost draw stands in: with so few clusters ask
    for more resamples.
    """
    outer = tail(level, clusters, parameters)
    # a draw and not a mean of two: some may be infinite (a loss that is never reached)
    low = np.quantile(draws, outer, axis=0, method="lower")
    high = np.quantile(draws, 1 - outer, axis=0, method="higher")
    return np.asarray(low, dtype=float), np.asarray(high, dtype=float)
