"""A sweep of weight decay beside a plan: when it pays, and that it then does in worlds that it is fitted in."""

from __future__ import annotations

import numpy as np
import pytest

from lawfit.ask import Target
from lawfit.laws.lent import published_timescale
from lawfit.laws.timescale import timescale
from lawfit.planner.choose import Asked, State, choose, scales_in_reach
from lawfit.planner.decay import LEAST, MOST_OF_BUDGET, Decay, decay_beside, decay_values
from lawfit.planner.information import Valley
from lawfit.planner.means import read_means
from lawfit.planner.next_runs import what_is_known
from lawfit.records import Fit
from tests.benchmarks.decay_sweeps import TRUTHS, world
from tests.golden_stores import fitted

TARGET = Target(params=2e9, tokens=6e10)


@pytest.fixture(scope="module")
def fit() -> Fit:
    with fitted("five_sizes") as store:
        return next(each for each in store.fits() if each.kind == "lr_batch")


def planned(fit: Fit, target: Target, decay: float = 0.1, known: float = 1.0) -> tuple[Asked, State, Decay]:
    """With what the sweep decides on; `known` multiplies all that is not known of the laws."""
    state, valley = what_is_known(fit, target)
    knowledge = state.knowledge
    knowledge = type(knowledge)(**{**vars(knowledge), "cov": knowledge.cov * known})
    state = State(knowledge=knowledge, told=state.told, found=state.found)
    asked = Asked(target=target, valley=Valley(shape=valley.shape), means=read_means("3e19flops"))
    sizes = state.knowledge.sizes
    scales = scales_in_reach(asked, state, 2 * max(sizes), min(sizes), target.tokens)
    grids = choose(asked, state, scales)
    settings = [(scale, *np.exp(best).tolist()) for scale, best in state.found.items()]
    found = decay_beside(asked, state, scales, grids, decay, settings)
    assert found is not None
    return asked, grids[-1].then, found


def test_a_sweep_that_is_planned_pays_in_worlds_it_is_fitted_in(fit: Fit, rng: np.random.Generator) -> None:
    """Against the held decay, with what is left of the budget for the grids, in the same worlds."""
    asked, before, found = planned(fit, TARGET)
    assert found.pays
    one, other = found.sweeps
    assert one.scale[0] != other.scale[0]
    assert one.cost + other.cost <= MOST_OF_BUDGET * asked.means.amount
    ends = [before, found.grids[-1].then]
    pairs = np.array([world(asked, ends, found.sweeps, TRUTHS[0], rng=rng) for _ in range(60)])
    gain = pairs[:, 0] - pairs[:, 1]
    assert gain.mean() > 2 * gain.std(ddof=1) / np.sqrt(len(gain))
    assert pairs[:, 2].mean() < 0.2  # a law of the timescale is what the sweep is for


def test_where_learning_rate_and_batch_are_known_a_sweep_does_not_pay(fit: Fit) -> None:
    """What a known timescale would mend is their errors; scales differ by as much as is left to mend."""
    _, _, unknown = planned(fit, TARGET)
    _, _, known = planned(fit, TARGET, known=0.02)
    assert known.there.errors < unknown.there.errors / 2
    assert known.there.held < unknown.there.held
    assert not known.pays
    assert known.least >= LEAST


def test_a_decay_far_off_the_published_best_costs_more_and_is_swept_towards_it(fit: Fit) -> None:
    _, then, usual = planned(fit, TARGET, 0.1)
    _, _, small = planned(fit, TARGET, 0.002)
    log_lr, log_batch = then.optimum((TARGET.params, TARGET.tokens))
    lent = timescale(np.exp(log_batch), np.exp(log_lr), usual.there.published_decay, TARGET.tokens)
    assert lent == pytest.approx(published_timescale([TARGET.params], [TARGET.tokens])[0])
    assert small.there.published_decay == pytest.approx(usual.there.published_decay)
    assert small.there.held > 3 * usual.there.held
    assert small.there.published == pytest.approx(usual.there.published)
    off = float(small.there.off[:, 0].mean())
    values = decay_values(0.002, off)
    assert 0.002 not in values
    assert np.log(values).mean() == pytest.approx(np.log(0.002) + off, abs=np.log(3) / 2 + 0.02)  # on the ladder
    assert decay_values(0.1, 0.2) == pytest.approx((0.011, 0.033, 0.3, 0.9))  # 0.1 itself has its run
