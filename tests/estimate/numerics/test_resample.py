"""Cluster weights and expanded percentile intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from lawfit.estimate.numerics.resample import cluster_index, cluster_weights, interval, tail, without_each


def test_rows_of_a_cluster_share_their_weight(rng: np.random.Generator) -> None:
    index = cluster_index(["b", "a", "b", "c"], 4)
    weights = cluster_weights(index, 50, rng=rng)
    assert weights.shape == (50, 4)
    assert np.array_equal(weights[:, 0], weights[:, 2])
    assert not np.array_equal(weights[:, 0], weights[:, 1])


def test_without_clusters_every_row_is_its_own(rng: np.random.Generator) -> None:
    weights = cluster_weights(cluster_index(None, 3), 4000, rng=rng)
    assert np.corrcoef(weights.T)[0, 1] == pytest.approx(0, abs=5 / np.sqrt(4000))
    assert weights.mean() == pytest.approx(1, abs=5 / np.sqrt(12_000))  # exponential: sd 1
    assert weights.min() > 0  # no run vanishes


def test_labels_must_fit() -> None:
    with pytest.raises(ValueError, match="each of 3 rows"):
        cluster_index([1, 2], 3)


def test_leaving_out_each() -> None:
    assert without_each(np.array([0, 1, 0])).tolist() == [[0, 1, 0], [1, 0, 1]]


def test_tail_of_many_clusters_is_that_of_a_percentile() -> None:
    assert tail(0.9, 10**6, 5) == pytest.approx(0.05, rel=1e-4)


def test_tail_of_few_clusters_is_further_out() -> None:
    # 10 clusters, 5 parameters: sqrt(2) times the t quantile 2.015 with 5 degrees of freedom
    assert tail(0.9, 10, 5) == pytest.approx(norm.sf(np.sqrt(2) * 2.015048), rel=1e-5)


def test_no_interval_from_as_many_clusters_as_parameters() -> None:
    with pytest.raises(ValueError, match="5 clusters"):
        tail(0.9, 5, 5)


def test_interval_follows_monotone_changes(rng: np.random.Generator) -> None:
    draws = rng.standard_normal(999)
    low, high = interval(draws, 0.9, 20, 5)
    exp_low, exp_high = interval(np.exp(draws), 0.9, 20, 5)
    assert (exp_low, exp_high) == pytest.approx((np.exp(low), np.exp(high)), rel=1e-12)


def test_an_infinite_draw_is_a_bound(rng: np.random.Generator) -> None:
    draws = np.concatenate([rng.standard_normal(90), np.full(30, np.inf)])
    low, high = interval(draws, 0.9, 1000, 5)
    assert np.isfinite(low)
    assert np.isinf(high)
