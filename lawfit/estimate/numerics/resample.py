"""Resampling: weights for whole clusters of rows, and intervals that allow for how few clusters there are.

Rows that share their noise (checkpoints of one run, runs of one cell) are drawn together. A cluster's weight is
exponential with mean 1 (Rubin's Bayesian bootstrap): no cluster ever vanishes, so that a resample cannot lose the only
runs that identify an exponent.

A percentile interval of few clusters is too narrow, for the same reasons that a normal interval with the plug-in
variance is. Expanded percentiles (Hesterberg, arXiv 1411.5279) take further tails, those at which a normal law has the
quantiles that Student's t would ask for; like percentiles, they follow any monotone change of what is estimated.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import FitError
from lawfit.estimate.numerics.quantiles import normal_cdf, student_quantile
from lawfit.findings import finding

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

FEWEST_SIZES: Final = 3  # that can be clusters
_OPEN: Final = 1e-8  # share of a direction that other clusters measure, below which they do not


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


def size_clusters(params: ArrayLike, tokens: ArrayLike) -> Ints:
    """(n,) what counts as one observation of a law over scales: a size, and a scale where there are fewer than three.

    Scales of one size share how far it lies off the law (its width and depth, which a law in its parameters cannot
    know), so fourteen scales of four sizes are four observations. Two sizes cannot show it: without either of them no
    exponent of parameters is left.

    Parameters
    ----------
    params, tokens : (n,) of each optimum; sizes are equal where their logs are, to 1e-6
    """
    size = np.round(np.log(np.asarray(params, dtype=float)), 6)
    if len(np.unique(size)) >= FEWEST_SIZES:
        return np.asarray(np.unique(size, return_inverse=True)[1], dtype=np.intp).ravel()
    scales = np.column_stack([size, np.round(np.log(np.asarray(tokens, dtype=float)), 6)])
    return np.asarray(np.unique(scales, axis=0, return_inverse=True)[1], dtype=np.intp).ravel()


def jackknife_covariance(jacobian: Floats, residuals: Floats, cluster: Ints) -> Floats:
    """(k, k) covariance of a least-squares estimate, each cluster's residuals as if the fit had not seen it (CR3).

    For a linear model these are the refits without each cluster: ``(G - 1) / G`` times the sum of squares of their
    steps from the estimate. The plain sandwich covers 86 % for 90 on 16 scales, and far less on as few clusters as
    coefficients: those at the ends of the range pull the fit towards themselves.

    Parameters
    ----------
    jacobian : (n, k)
    cluster : (n,) from 0 to G - 1

    Raises
    ------
    FitError
        A coefficient is open, or would be without one of the clusters.
    """
    try:
        bread = np.linalg.inv(jacobian.T @ jacobian)
    except np.linalg.LinAlgError:
        raise FitError(finding("numerics.coefficient_open")) from None
    clusters = int(cluster.max()) + 1
    scores = np.empty((clusters, jacobian.shape[1]))
    for k in range(clusters):
        rows = jacobian[cluster == k]
        kept = np.eye(len(rows)) - rows @ bread @ rows.T
        if np.linalg.eigvalsh(kept)[0] < _OPEN:
            raise FitError(finding("numerics.one_cluster_alone", clusters=clusters))
        scores[k] = rows.T @ np.linalg.solve(kept, residuals[cluster == k])
    return np.asarray((clusters - 1) / clusters * bread @ scores.T @ scores @ bread)


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
