"""Time against compute at the planned loss: tokens, steps and hours of larger batches."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from lawfit.advise.budget.plan import plan
from lawfit.advise.budget.time import doubling_law
from lawfit.ask import PlanQuestion, Target
from lawfit.estimate.evidence import Evidence
from lawfit.findings import finding
from lawfit.kinds import CRITICAL_BATCH
from lawfit.kinds.fitting import fit_all_laws
from lawfit.laws.loss import CHINCHILLA
from lawfit.records import Fit
from lawfit.simulate import FurtherTruth, Truth, simulate_targets
from tests.advise.planning_samples import RECIPE, chinchilla, settings

RECOMMENDED = 2.0**19  # by `settings`


@cache
def critical() -> Fit:
    """The critical batch of simulated steps to targets, as the store keeps it."""
    scales = [(n, 20 * n) for n in (2e7, 5e7, 1e8, 2e8, 4e8)]
    targets = simulate_targets(Truth(noise=0.0005), FurtherTruth(), scales, rng=np.random.default_rng(5))
    (law,) = fit_all_laws(Evidence(runs=(), targets=targets)).fitted
    return replace(chinchilla(), kind=law.kind, status=law.status, payload=law.payload)


def asked(**question: Any) -> dict[str, Any]:
    def with_critical(target: Target) -> dict[str, Any]:
        return {**settings(target), "critical_batch": CRITICAL_BATCH.answer(critical(), target)}

    laws = {"loss": chinchilla(), "critical_batch": critical()}
    return plan(PlanQuestion(**question), RECIPE, laws, {}, with_critical)


def test_without_a_critical_batch_there_is_no_time_and_the_reason_is_said() -> None:
    document = plan(
        PlanQuestion(flops=1e21), RECIPE, {"loss": chinchilla()}, {"critical_batch": "three batch sizes"}, settings
    )
    assert document["time"] is None
    assert document["missing"]["time"] == finding("plan.no_critical_batch", why="three batch sizes").to_json()


def test_batches_follow_the_hyperbola_through_the_plan() -> None:
    document = asked(flops=1e21)
    time, plan_tokens = document["time"], document["plan"]["tokens"]
    critical_tokens = time["definition"]["critical_batch_tokens"]
    first, *rest = time["batches"]
    assert (first["batch_tokens"], first["compute_ratio"], first["time_ratio"]) == (RECOMMENDED, 1, 1)
    assert first["tokens"] == pytest.approx(plan_tokens, rel=1e-5)
    assert len(rest) > 3
    for row in rest:
        tokens = time["least_tokens"] * (1 + row["batch_tokens"] / critical_tokens)
        assert row["tokens"] == pytest.approx(tokens, rel=1e-4)
        assert row["steps"] == pytest.approx(tokens / row["batch_tokens"], rel=1e-4)
        assert row["compute_ratio"] == pytest.approx(tokens / plan_tokens, rel=1e-4)
        assert row["compute_ratio_low"] <= row["compute_ratio"] <= row["compute_ratio_high"]
    twice = next(row for row in rest if row["of_critical"] == pytest.approx(1))
    assert twice["tokens"] == pytest.approx(2 * time["least_tokens"], rel=1e-4)  # what "critical" says


def test_the_frontier_reaches_the_loss_and_beats_larger_batches_alone() -> None:
    document = asked(flops=1e21)
    time = document["time"]
    rows = time["frontier"]
    assert len(rows) > 4
    assert [row["compute_ratio"] for row in rows] == sorted(row["compute_ratio"] for row in rows)
    assert [row["time_ratio"] for row in rows] == sorted((row["time_ratio"] for row in rows), reverse=True)
    assert rows[-1]["params"] < rows[0]["params"]  # haste makes models smaller (arXiv 2505.13738)
    alone = [(row["time_ratio"], row["compute_ratio"]) for row in time["batches"]]
    times, computes = np.log(sorted(alone)).T
    on = np.exp(np.interp(np.log([row["time_ratio"] for row in rows]), times, computes))
    assert all(row["compute_ratio"] < 1.02 * limit for row, limit in zip(rows, on, strict=True))
    doubling = doubling_law(critical())
    share = 1 + RECOMMENDED / time["definition"]["critical_batch_tokens"]
    reference = float(CHINCHILLA.loss(document["plan"]["params"], document["plan"]["tokens"]))
    for row in rows:
        least = float(CHINCHILLA.tokens_for(reference, row["params"])) / share
        tokens = least * (1 + row["batch_tokens"] / float(doubling(np.array(least), np.array(row["params"]))))
        assert row["tokens"] == pytest.approx(tokens, rel=0.25)  # the truth, beside a law fitted to noisy runs


class TestMachines:
    def test_steps_that_take_a_time_of_their_own(self) -> None:
        rows = asked(flops=1e21, step_seconds=0.5)["time"]["batches"]
        for row in rows:
            assert row["seconds"] == pytest.approx(0.5 * row["steps"], rel=1e-4)

    def test_a_fixed_speed_makes_larger_batches_slower(self) -> None:
        document = asked(flops=1e21, tokens_per_second=1e6)
        seconds = [row["seconds"] for row in document["time"]["batches"]]
        assert seconds == sorted(seconds)
        assert seconds[0] == pytest.approx(document["plan"]["tokens"] / 1e6, rel=1e-4)
        assert document["time"]["fastest"] is None

    def test_the_fastest_batch_is_where_speed_and_quickest_step_meet(self) -> None:
        document = asked(flops=1e21, gpus=64, flops_per_second=4e14, step_seconds=1.0)
        time = document["time"]
        speed = 64 * 4e14 / (6 * document["plan"]["params"])
        assert time["tokens_per_second"] == pytest.approx(speed, rel=1e-4)
        assert time["fastest"]["batch_tokens"] == pytest.approx(speed * 1.0, rel=1e-4)
        batches = np.geomspace(RECOMMENDED, 20 * speed, 4000)
        tokens = time["least_tokens"] * (1 + batches / time["definition"]["critical_batch_tokens"])
        seconds = tokens / batches * np.maximum(1.0, batches / speed)
        assert time["fastest"]["seconds"] == pytest.approx(seconds.min(), rel=1e-3)

    def test_no_batch_beyond_the_largest_allowed(self) -> None:
        document = asked(flops=1e21, max_batch_tokens=4 * RECOMMENDED)
        rows = [*document["time"]["batches"], *document["time"]["frontier"]]
        assert max(row["batch_tokens"] for row in rows) <= 4 * RECOMMENDED * 1.0001
