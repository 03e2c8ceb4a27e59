"""How long packs take: known truths are found again, and what cannot be told is not made up."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lawfit.pipeline.pacing import measured_packs, study_pace
from lawfit.planner.means import read_means
from lawfit.planner.pace import FASTEST, LEAST_PACKS, MeasuredPack, Pace, Packs, measured_pace
from lawfit.records import Attempt, Launch, Run, RunStatus, TrainingJob

TRUTH = Pace(flops_per_second=2.8e14, start_seconds=14.0, step_seconds=1.1e-3, token_seconds=5e-8, packs=40)


def made(pace: Pace, rng: np.random.Generator, count: int, scatter: float) -> list[MeasuredPack]:
    """Packs of 3 to 9 runs of 0.2M to 12M parameters."""
    found = []
    for _ in range(count):
        params, runs = math.exp(rng.uniform(math.log(2e5), math.log(1.2e7))), int(rng.integers(3, 10))
        tokens, batch = params * math.exp(rng.uniform(1.5, 4.5)), math.exp(rng.uniform(7, 10.5))
        packs = Packs(params=params, tokens=tokens, batches=(batch,), runs=runs)
        seconds = pace.seconds(packs) * math.exp(scatter * rng.standard_normal())
        found.append(MeasuredPack(params=params, steps=tokens / batch, tokens=runs * tokens, gpu_seconds=seconds))
    return found


def test_seconds_add_up() -> None:
    packs = Packs(params=1e6, tokens=2e7, batches=(1e4, 4e4), runs=3)
    steps, tokens = 2e7 / 1e4 + 2e7 / 4e4, 6 * 2e7
    expected = 2 * 14.0 + steps * 1.1e-3 + tokens * 5e-8 + 6 * 6 * 1e6 * 2e7 / 2.8e14
    assert TRUTH.seconds(packs) == pytest.approx(expected, rel=1e-12)
    assert TRUTH.times(2.5).seconds(packs) == pytest.approx(2.5 * expected, rel=1e-12)
    assert (packs.all_runs, packs.flops) == (6, 6 * 6 * 1e6 * 2e7)
    hours = read_means("3gpu-hours", pace=TRUTH)
    assert hours.cost(packs) == hours.gpu_hours(packs) == pytest.approx(expected / 3600, rel=1e-12)
    dollars = read_means("$10", None, 2.5, TRUTH)
    assert dollars.cost(packs) == pytest.approx(2.5 * expected / 3600, rel=1e-12)
    said = read_means("3gpu-hours", 1e14, None, TRUTH).pace  # what somebody says goes before what was measured
    assert said is not None
    assert (said.flops_per_second, said.packs) == (1e14, 0)


@pytest.mark.parametrize("scatter", [0.0, 0.1])
def test_a_known_pace_is_found_again(rng: np.random.Generator, scatter: float) -> None:
    found = measured_pace(made(TRUTH, rng, 60, scatter))
    assert found is not None
    assert found.packs == 60
    assert found.start_seconds == pytest.approx(14.0, rel=0.01 + scatter)
    assert found.token_seconds == pytest.approx(5e-8, rel=0.06 + 2 * scatter)  # belief is as much as a pack
    for params, tokens in ((3e5, 3e6), (3e6, 6e7), (2.5e7, 5e8)):  # the last beyond what was measured
        packs = Packs(params=params, tokens=tokens, batches=(16384.0,), runs=9)
        assert found.seconds(packs) == pytest.approx(TRUTH.seconds(packs), rel=0.02 + 1.5 * scatter)


def test_foretold_seconds_are_off_as_packs_scatter(rng: np.random.Generator) -> None:
    """From twelve packs, the error of further ones of the same kind, the packs' own scatter of 10 % left out."""
    off = []
    for _ in range(60):
        found = measured_pace(made(TRUTH, rng, 12, 0.1))
        assert found is not None
        for pack in made(TRUTH, rng, 5, 0.0):
            own = Packs(params=pack.params, tokens=pack.tokens, batches=(pack.tokens / pack.steps,), runs=1)
            off.append(math.log(found.seconds(own) / TRUTH.seconds(own)))
    assert np.sqrt(np.mean(np.square(off))) < 0.1
    assert abs(np.mean(off)) < 0.03


def test_few_packs_tell_nothing(rng: np.random.Generator) -> None:
    packs = made(TRUTH, rng, LEAST_PACKS, 0.0)
    assert measured_pace(packs) is not None
    assert measured_pace(packs[1:]) is None
    assert measured_pace([*packs[1:], replace(packs[0], gpu_seconds=0.0)]) is None


def test_one_size_puts_all_into_arithmetic_and_nothing_is_below_zero(rng: np.random.Generator) -> None:
    """Tokens and their arithmetic cannot be told apart: a larger model is not promised for nothing."""
    packs = [replace(pack, params=1e6) for pack in made(TRUTH, rng, 30, 0.0)]
    took = [replace(pack, gpu_seconds=2.0 + pack.tokens * 6e6 / 5e13) for pack in packs]
    found = measured_pace(took)
    assert found is not None
    larger = Packs(params=1e7, tokens=1e8, batches=(16384.0,), runs=4)
    assert found.seconds(larger) == pytest.approx(2.0 + 4 * 1e8 * 6e7 / 5e13, rel=0.1)
    still = measured_pace([replace(pack, gpu_seconds=8.0 + 1e-7 * pack.tokens) for pack in made(TRUTH, rng, 30, 0.0)])
    assert still is not None
    assert still.flops_per_second <= FASTEST * (1 + 1e-9)
    assert min(still.start_seconds, still.step_seconds, still.token_seconds) >= 0


def job(name: str, runs: tuple[str, ...], began: int, seconds: float, **given: object) -> TrainingJob:
    own = {"place": "gpu 0", "gpus": 0.5, "reason": "done", "host": "a", **given}
    moment = f"2026-11-30T10:00:{began:02d}+00:00"
    attempt = Attempt(launch_id="x", began_at=moment, ended_at=moment, seconds=seconds, **own)  # type: ignore[arg-type]
    launch = Launch(id="x", backend="local", host="a", process="", logs="", command="", began_at=moment)
    return TrainingJob(
        id=name, launch=launch, name=name, runs=runs, state="ended", created_at=moment, attempts=(attempt,),
        tokens=2e6 * len(runs),
    )  # fmt: skip


def run(key: str, params: float = 1e6) -> Run:
    return Run(
        run_key=key, params=params, tokens=2e6, batch_tokens=1e4, lr=1e-3, loss=3.0, status=RunStatus.FINISHED
    )  # fmt: skip


def test_packs_beside_each_other_share_the_gpu() -> None:
    runs = [run(key) for key in "abcdef"]
    jobs = [
        job("1", ("a",), 0, 10.0),
        job("2", ("b", "c"), 4, 10.0),  # both from 4 to 10, alone till 14
        job("3", ("d",), 30, 5.0, gpus=1.0),  # a GPU of its own
        job("4", ("e",), 40, 6.0, gpus=2.0),
        job("5", ("f",), 0, 10.0, place="gpu 1"),
    ]
    found = list(measured_packs(jobs, runs))
    assert [pack.gpu_seconds for pack in found] == pytest.approx([7.0, 7.0, 5.0, 12.0, 10.0])
    assert [(pack.steps, pack.tokens) for pack in found][:2] == [(200.0, 2e6), (200.0, 4e6)]


def test_what_does_not_tell_how_long_a_pack_takes_is_left_out() -> None:
    runs = [run("a"), run("b"), run("c", 2e6)]
    again = job("2", ("b",), 0, 5.0)
    jobs = [
        job("1", ("elsewhere",), 0, 5.0),  # another recipe's
        replace(again, attempts=(replace(again.attempts[0], reason="preempted"), *again.attempts)),
        job("3", ("a", "c"), 0, 5.0),  # of two sizes
        job("4", ("a",), 0, 5.0, gpus=0.0, place="cpu"),
        job("5", ("a",), 0, 5.0, reason="stopped"),
    ]
    assert not list(measured_packs(jobs, runs))


def test_rounds_of_a_study_took_what_they_took(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """GPUs that wait between packs are paid for: further packs are counted so that those made come to the hours."""
    jobs, runs = [], []
    for k in range(8):
        batch = 1e4 * 1.2**k
        own = [replace(run(f"{k}-{i}", params=4e5 * 1.6**k), batch_tokens=batch) for i in range(3)]
        packs = Packs(params=own[0].params, tokens=2e6, batches=(batch,), runs=3)
        seconds = TRUTH.seconds(packs) * math.exp(0.02 * rng.standard_normal())
        jobs.append(job(str(k), tuple(each.run_key for each in own), 0, seconds, gpus=1.0))
        runs += own
    monkeypatch.setattr("lawfit.storage.training_jobs.list_training_jobs", lambda *_, **__: jobs)
    took = sum(each.attempts[0].seconds for each in jobs)
    rounds: Any = [SimpleNamespace(document={"run_ids": [each.run_key for each in runs]})]
    budget: Any = {"flops_per_second": 1e12, "gpu_hours": 1.3 * took / 3600}
    found = study_pace(None, SimpleNamespace(rounds=rounds), budget, runs)  # type: ignore[arg-type]
    assert found is not None
    assert found.packs == 8
    packs = [Packs(params=r.params, tokens=2e6, batches=(r.batch_tokens,), runs=3) for r in runs[::3]]
    assert sum(found.seconds(each) for each in packs) == pytest.approx(1.3 * took, rel=1e-6)
    assert study_pace(None, SimpleNamespace(rounds=rounds), {**budget, "flops_per_second": None}, runs) is None  # type: ignore[arg-type]
