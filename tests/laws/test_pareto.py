"""The frontier of time against compute at one loss."""

from __future__ import annotations

import numpy as np
import pytest

from lawfit.laws.loss import CHINCHILLA
from lawfit.laws.pareto import Frontier, time_compute_frontier

BATCHES = np.geomspace(1e5, 1e8, 40)
LOSS = 2.2
BEST = float(CHINCHILLA.optimum(CHINCHILLA.flops_for(LOSS))[0])


def critical(tokens: float) -> float:
    """Power Lines: 0.0471 D_min^0.462 sequences of 2,048 tokens."""
    return 2048 * 0.0471 * tokens**0.462


def plan(loss: float = LOSS) -> Frontier:
    params = BEST * np.geomspace(1 / 30, 30, 120)
    least = CHINCHILLA.tokens_for(loss, params)
    return time_compute_frontier(params, least, critical(least), batch_tokens=BATCHES)


def test_no_plan_beats_another() -> None:
    found = plan()
    assert np.all(np.diff(found.flops) > 0)
    assert np.all(np.diff(found.time) < 0)
    assert found.time[0] == 1


def test_every_plan_reaches_the_loss() -> None:
    found = plan()
    least = CHINCHILLA.tokens_for(LOSS, found.params)
    assert found.tokens == pytest.approx(least * (1 + found.batch_tokens / critical(least)), rel=1e-9)
    assert found.flops == pytest.approx(6 * found.params * found.tokens)
    assert found.serial == pytest.approx(found.params * found.steps)


def test_the_cheapest_plan_is_near_compute_optimal_and_haste_makes_models_smaller() -> None:
    found = plan()
    assert found.flops[0] >= CHINCHILLA.flops_for(LOSS)
    assert found.params[-1] < found.params[0]  # the critical batch grows with tokens (arXiv 2505.13738)
    assert found.batch_tokens[0] == pytest.approx(1e5)


def test_nothing_off_the_frontier_is_better() -> None:
    found, rng = plan(), np.random.default_rng(0)
    params = BEST * np.exp(rng.uniform(-3, 3, 300))
    batch = np.exp(rng.uniform(np.log(BATCHES[0]), np.log(BATCHES[-1]), 300))
    least = CHINCHILLA.tokens_for(LOSS, params)
    reached = np.isfinite(least)
    tokens = least[reached] * (1 + batch[reached] / critical(least[reached]))
    flops, serial = 6 * params[reached] * tokens, params[reached] * tokens / batch[reached]
    on = np.interp(np.log(flops), np.log(found.flops), np.log(found.serial))
    inside = (flops > found.flops[0]) & (flops < found.flops[-1])
    assert inside.sum() > 50
    assert np.all(np.log(serial[inside]) > on[inside] - 0.02)  # between two plans of the grid


def test_a_loss_that_is_out_of_reach_is_refused() -> None:
    with pytest.raises(ValueError, match="none of these sizes ever reaches the loss"):
        plan(1.5)


@pytest.mark.parametrize("batch", [0.0, -1.0, np.inf, np.nan])
def test_a_batch_that_cannot_be_is_refused(batch: float) -> None:
    with pytest.raises(ValueError, match="batch_tokens must be positive and finite"):
        time_compute_frontier([1e9], [1e10], [1e6], batch_tokens=[batch])
