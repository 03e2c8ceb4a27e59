"""How long packs take: known truths are found again, and what cannot be told is not made up."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import pytest

from lawfit import pipeline
from lawfit.ask import NextQuestion
from lawfit.cli.main import run as cli
from lawfit.pipeline.pacing import measured_packs, study_pace
from lawfit.planner.means import read_means
from lawfit.planner.pace import FASTEST, LEAST_PACKS, MeasuredPack, Pace, Packs, measured_pace
from lawfit.records import Attempt, Launch, Recipe, Run, RunStatus, TrainingJob
from lawfit.storage import Store
from lawfit.storage.training_jobs import beat
from lawfit.words.plan_next import spent_words

TRUTH = Pace(flops_per_second=2.8e14, start_seconds=14.0, step_seconds=1.1e-3, token_seconds=5e-8, packs=40)


def made(pace: Pace, rng: np.random.Generator, count: int, scatter: float) -> list[MeasuredPack]:
    """Packs of 3 to 9 runs of 0.2M to 12M parameters."""
    found = []
    for _ in range(count):
        params, runs = math.exp(rng.uniform(math.log(2e5), math.log(1.2e7))), int(rng.integers(3, 10))
        tokens, batch = params * math.exp(rng.uniform(1.5, 4.5)), math.exp(rng.uniform(7, 10.5))
        packs = Packs(params=params, tokens=tokens, batches=(batch,), runs=runs)
        seconds = pace.seconds(packs) * math.exp(scatter * rng.standard_normal())
        took = {"seconds": 3 * seconds, "gpu_seconds": seconds}  # three at a time
        found.append(MeasuredPack(params=params, runs=runs, steps=tokens / batch, tokens=runs * tokens, **took))
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
    assert (found.packs, found.alone, found.at_a_time) == (60, False, pytest.approx(3.0))
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
    far = Packs(params=1e10, tokens=2e11, batches=(4e6,), runs=1)  # whose arithmetic no pack showed
    assert still.seconds(far) > far.flops / FASTEST
    assert still.step_seconds == pytest.approx(0.0, abs=1e-4)


def job(name: str, runs: tuple[str, ...], began: int, seconds: float, **given: object) -> TrainingJob:
    own = {"place": "gpu 0", "gpus": 0.5, "reason": "done", "host": "a", **given}
    moment = f"2026-11-30T10:00:{began:02d}+00:00"
    attempt = Attempt(launch_id="x", began_at=moment, ended_at=moment, seconds=seconds, **own)  # type: ignore[arg-type]
    launch = Launch(id="x", backend="local", host="a", process="", logs="", command="", began_at=moment)
    return TrainingJob(
        id=name, launch=launch, name=name, runs=runs, state="ended", created_at=moment, attempts=(attempt,),
        tokens=2e6 * len(runs), tokens_total=2e6 * len(runs),
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


def test_two_gpus_that_jobs_share_are_two() -> None:
    jobs = [job("1", ("a",), 0, 10.0, place="gpu 0,1", gpus=1.0), job("2", ("b",), 0, 10.0, place="gpu 0,1", gpus=1.0)]
    found = list(measured_packs(jobs, [run("a"), run("b")]))
    assert [pack.gpu_seconds for pack in found] == pytest.approx([10.0, 10.0])  # two GPUs for ten seconds


def test_a_diverged_run_counts_as_far_as_it_was_trained() -> None:
    left = replace(run("a"), status=RunStatus.DIVERGED, loss=None, steps=200, extra={"steps_done": 50})
    (both,) = measured_packs([job("1", ("a", "b"), 0, 10.0)], [left, run("b")])
    assert (both.steps, both.tokens) == (200, 0.25 * 2e6 + 2e6)
    (alone,) = measured_packs([job("1", ("a",), 0, 10.0)], [left])
    assert (alone.steps, alone.tokens) == (50, 0.25 * 2e6)


def test_trainers_that_make_each_run_alone_start_each_run(rng: np.random.Generator) -> None:
    packs = Packs(params=1e6, tokens=2e7, batches=(1e4, 4e4), runs=3)
    each = replace(packs, runs=1)
    alone = replace(TRUTH, alone=True)
    assert alone.seconds(packs) == pytest.approx(3 * TRUTH.seconds(each), rel=1e-12)
    found = measured_pace([replace(pack, runs=1) for pack in made(TRUTH, rng, 20, 0.0)])
    assert found is not None
    assert found.alone


class TestInAStore:
    """Eight packs of three runs each, trained one by one on a GPU; a run of each is excluded since."""

    RECIPE: Final = Recipe(name="measured", seq_len=256)

    @pytest.fixture
    def measured(self, store: Store) -> Store:
        jobs, runs = list[TrainingJob](), list[Run]()
        for k in range(8):
            own = [
                replace(run(f"{k}-{i}", 4e5 * 1.6**k), batch_tokens=1e4 * 1.2**k, lr=1e-3 * (i + 1)) for i in range(3)
            ]
            packs = Packs(params=own[0].params, tokens=2e6, batches=(own[0].batch_tokens,), runs=3)
            jobs.append(job(str(k), tuple(each.run_key for each in own), 0, TRUTH.seconds(packs), gpus=1.0))
            runs += own
        store.put_runs(self.RECIPE, runs)
        beat(store, jobs[0].launch, jobs)
        store.exclude(self.RECIPE.key, [each.run_key for each in runs[::3]], "a whim")
        return store

    def test_plans_count_hours_by_them(self, measured: Store) -> None:
        asked = {"params": 1e8, "tokens": 2e9, "budget": "0.2gpu-hours", "max_params": 1e7}
        plan = pipeline.plan_next(measured, None, NextQuestion(**asked))
        budget, pace = plan["budget"], plan["budget"]["pace"]
        assert pace is not None
        assert (pace["packs"], pace["at_a_time"], pace["alone"]) == (8, 1.0, False)
        assert pace["start_seconds"] == pytest.approx(TRUTH.start_seconds, rel=0.2)
        grids = [
            Packs(
                params=g["params"], tokens=g["tokens"], batches=tuple(g["batch_tokens"]),
                runs=len(g["lr"]) * len(g["seeds"]),
            )
            for g in plan["grids"]
        ]  # fmt: skip
        assert budget["gpu_hours"] == pytest.approx(sum(map(Pace(**pace).seconds, grids)) / 3600, rel=0.01)
        assert budget["spent"] == budget["gpu_hours"] <= 0.2
        assert "(at the pace of 8 packs of runs trained here)" in spent_words(plan)
        pipeline.require_plannable(measured, None, NextQuestion(**asked))
        said = pipeline.plan_next(measured, None, NextQuestion(**asked, flops_per_second=1e14))
        assert said["budget"]["pace"] == {**pace, "packs": 0, **SAID}
        assert "at the pace" not in spent_words(said)

    @pytest.mark.parametrize(("sharing", "behind"), [(1, ""), (4, " --workers-per-gpu 4")])
    def test_the_launch_that_is_named_trains_as_many_at_a_time(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], sharing: int, behind: str
    ) -> None:
        shape = {"layers": 3, "width": 160, "heads": 5, "hidden": 432}
        with Store.open(tmp_path / "beside.db") as store:
            runs = [replace(run(f"{k}", 930_592), batch_tokens=1e4 * 1.2**k, extra=shape) for k in range(8)]
            gpus = 1 / sharing
            jobs = [job(each.run_key, (each.run_key,), 0, 60.0, gpus=gpus) for each in runs]
            if sharing > 1:  # in two fours, one after the other
                jobs = [
                    job(each.run_key, (each.run_key,), 30 * (k // 4), 30.0, gpus=gpus) for k, each in enumerate(runs)
                ]
            store.put_runs(self.RECIPE, runs)
            beat(store, jobs[0].launch, jobs)
        words = ["plan", "next", "--params", "1e8", "--tokens", "2e9", "--budget", "30runs", "--max-params", "1e7"]
        grid = tmp_path / "next.json"
        assert cli([*words, "--grid", str(grid), "--database", str(tmp_path / "beside.db")]) == 0
        assert f"next: lawfit launch {grid}{behind}\n" in capsys.readouterr().err

    def test_without_them_hours_cannot_be_counted(self, store: Store) -> None:
        store.put_runs(self.RECIPE, [run("a")])
        asked = NextQuestion(params=1e8, tokens=2e9, budget="0.2gpu-hours")
        for ask in (pipeline.plan_next, pipeline.require_plannable):
            with pytest.raises(ValueError, match="six packs of the recipe's runs that were trained on GPUs"):
                ask(store, None, asked)  # type: ignore[operator]

    def test_rounds_of_a_study_took_what_they_took(self, measured: Store) -> None:
        """GPUs that wait between packs are paid for: further packs are counted so that those made come to the hours."""
        runs = measured.runs(self.RECIPE.key)
        rounds: Any = [SimpleNamespace(document={"run_ids": [each.run_key for each in runs]})]
        packs = [Packs(params=r.params, tokens=2e6, batches=(r.batch_tokens,), runs=3) for r in runs[::3]]
        took = sum(map(TRUTH.seconds, packs))
        budget: Any = {"flops_per_second": 1e12, "gpu_hours": 1.3 * took / 3600}
        study: Any = SimpleNamespace(rounds=rounds)
        found = study_pace(measured, study, budget, self.RECIPE)
        assert found is not None
        assert found.packs == 8
        assert sum(map(found.seconds, packs)) == pytest.approx(1.3 * took, rel=1e-6)
        assert study_pace(measured, study, {**budget, "flops_per_second": None}, self.RECIPE) is None
        few: Any = SimpleNamespace(rounds=[SimpleNamespace(document={"run_ids": [runs[0].run_key]})])
        assert study_pace(measured, few, budget, self.RECIPE) == Pace(flops_per_second=1e12, start_seconds=0.0)


SAID = {"flops_per_second": 1e14, "start_seconds": 10.0, "step_seconds": 0.0, "token_seconds": 0.0}
