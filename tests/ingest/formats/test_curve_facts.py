"""What curves say about their runs: which metric is what, final losses, peak, schedule and warmup, and ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lawfit.ingest import curve_facts
from lawfit.ingest.run_log import LoggedRun, Points, tables_of
from lawfit.ingest.table import Table
from tests.ingest.formats.logs import rows

STEPS = 200


def logged(metrics: dict[str, Callable[[int], float]], **given: Any) -> LoggedRun:
    run = LoggedRun(run_id="a", file="a.log", name="a", **given)
    for metric, value in metrics.items():
        for step in range(1, STEPS + 1):
            if not math.isinf(number := value(step)) or number > 0:
                run.log(metric, step, number)
    return run


def table(*runs: LoggedRun) -> Table:
    (made,) = tables_of("test", runs, [], "test")
    return made


def row(*runs: LoggedRun) -> dict[str, Any]:
    return rows(table(*runs))["a"]


def seldom(every: int, value: float) -> Callable[[int], float]:
    """A metric of few steps; minus infinity stands for none."""
    return lambda step: value if step % every == 0 else -math.inf


@pytest.mark.parametrize(
    ("names", "validation", "training"),
    [
        (("train/loss", "eval/loss"), "eval/loss", "train/loss"),
        (("validation_metrics/loss", "loss_metrics/global_avg_loss", "loss_metrics/global_max_loss"),
         "validation_metrics/loss", "loss_metrics/global_avg_loss"),
        (("lm loss", "lm loss validation", "lm loss validation ppl"), "lm loss validation", "lm loss"),
        (("loss", "val_loss", "test_loss"), "val_loss", "loss"),
        (("train/loss", "train/aux_loss", "train/z_loss", "eval/loss_std"), None, "train/loss"),
        (("train_nll", "val_nll", "val_ppl"), "val_nll", "train_nll"),
        (("train/lm_cross_entropy",), None, "train/lm_cross_entropy"),
        (("loss_scale", "grad_norm", "accuracy", "eval/runtime"), None, None),
        (("eval/c4/loss", "eval/loss"), "eval/loss", None),
    ],
)  # fmt: skip
def test_which_metric_is_the_loss(names: tuple[str, ...], validation: str | None, training: str | None) -> None:
    curve = np.array([1, 2]), np.array([3.0, 2.0])
    for order in (names, names[::-1]):
        chosen = curve_facts.choose([dict.fromkeys(order, curve)])
        assert (chosen.validation, chosen.training) == (validation, training)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("lr", True), ("train/learning_rate", True), ("lr-AdamW/pg1", True), ("optim/lr", True), ("lr_mult", False),
     ("learning_rate_scale", False), ("clr_loss", False), ("weight_decay_lr_ratio", False)],
)  # fmt: skip
def test_which_metric_is_the_rate(name: str, is_one: bool) -> None:
    assert curve_facts.is_rate(name) is is_one


def test_all_runs_of_a_table_have_the_same_loss() -> None:
    """The one that most runs have: a run that lacks it has no loss, rather than another measurement."""
    usual = [logged({"eval/loss": seldom(50, 3.0)}) for _ in range(3)]
    other = logged({"eval/wiki/loss": seldom(50, 2.0)})
    for number, run in enumerate((*usual, other)):
        run.run_id = run.name = f"r{number}"
    found = rows(table(*usual, other))
    assert [found[f"r{n}"].get("final_val_loss") for n in range(4)] == [3.0, 3.0, 3.0, None]
    assert found["r3"]["summary.eval/wiki/loss"] == 2.0
    assert any("summary.eval/wiki/loss=loss" in note for note in table(*usual, other).notes)


def test_the_training_loss_is_a_mean_over_the_last_steps() -> None:
    found = row(logged({"loss": lambda step: 3.0 if step <= 190 else 2.0 + (step % 2)}))
    assert found["final_train_loss"] == 2.5
    assert "final_val_loss" not in found


def test_a_validation_that_was_long_before_the_end_is_said() -> None:
    early = logged({"loss": lambda _: 3.0, "val_loss": lambda step: 3.0 if step == 100 else -math.inf})
    assert any("in 1 run the last validation was before the last 5%" in note for note in table(early).notes)
    assert any("at 100 of 200" in note for note in table(early).notes)
    late = logged({"loss": lambda _: 3.0, "val_loss": seldom(50, 3.0)})
    assert not any("last validation" in note for note in table(late).notes)
    assert not any(name.startswith("_") for name in table(early).columns)


def test_the_mean_of_a_whole_run_is_no_final_loss() -> None:
    """The Trainer logs `train_loss` once, at the end."""
    run = logged({"loss": lambda _: 2.0})
    run.log("train_loss", STEPS, 5.0)
    assert row(run)["final_train_loss"] == 2.0


def cosine(step: int, peak: float = 1e-3, floor: float = 0.1, warmup: int = 10) -> float:
    if step <= warmup:
        return peak * step / warmup
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (STEPS - warmup))))


@pytest.mark.parametrize(
    ("rate", "schedule", "warmup"),
    [
        (cosine, "cosine to 0.1", 10),
        (lambda s: cosine(s, floor=0, warmup=1), "cosine to 0", None),
        (lambda _: 1e-3, "constant", None),
        (lambda s: 1e-3 * min(1, s / 20), "constant", 20),
        (lambda s: 1e-3 * (1 - 0.9 * (s - 1) / (STEPS - 1)), "linear to 0.1", None),
        (lambda s: 1e-3 * (s / 20 if s < 20 else min(1, (STEPS - s) / 40)), "wsd to 0", 20),
        (lambda s: 1e-3 * min(s / 20, math.sqrt(20 / s)), "inverse_sqrt", 20),
        (lambda s: 1e-3 * (0.1 if s > 150 else 0.5 if s > 20 else 1), "other", None),
    ],
    ids=["cosine", "no warmup", "constant", "warmup only", "linear", "wsd", "inverse root", "steps"],
)
def test_shapes_of_schedules(rate: Callable[[int], float], schedule: str, warmup: int | None) -> None:
    found = row(logged({"lr": rate, "loss": lambda _: 3.0}))
    assert found["peak_lr"] == pytest.approx(1e-3)
    assert (found["schedule"], found.get("warmup_steps")) == (schedule, warmup)


def test_what_is_configured_is_not_said_again() -> None:
    config = {"lr": 1e-3, "lr_scheduler_type": "cosine", "warmup_steps": 12, "max_steps": STEPS}
    found = row(logged({"lr": cosine, "loss": lambda _: 3.0}, config=config))
    assert {"peak_lr", "schedule", "warmup_steps", "steps"}.isdisjoint(found)
    assert found["logged_peak_lr"] == pytest.approx(1e-3)


def test_another_peak_than_the_configured_one_is_said() -> None:
    run = logged({"lr": lambda s: cosine(s, peak=2e-3), "loss": lambda _: 3.0}, config={"lr": 1e-3})
    assert any("the largest logged rate is not the configured one" in note for note in table(run).notes)
    same = logged({"lr": cosine, "loss": lambda _: 3.0}, config={"lr": 1e-3})
    assert not any("largest logged rate" in note for note in table(same).notes)


def test_a_run_that_stopped_early_has_the_schedule_of_its_like() -> None:
    whole, short = logged({"lr": cosine, "loss": lambda _: 3.0}), LoggedRun(run_id="b", file="b", name="b")
    for step in range(1, 60):
        short.log("lr", step, cosine(step, peak=1e-1))
        short.log("loss", step, math.nan if step > 50 else 3.0)
    assert rows(table(whole, short))["b"]["schedule"] == "cosine to 0.1"
    assert "schedule" not in rows(table(short))["b"], "a part of a schedule is none"


@pytest.mark.parametrize(
    ("given", "last", "status"),
    [
        ({"state": "crashed"}, 3.0, "crashed"),
        ({"state": "crashed"}, math.nan, "diverged"),
        ({"state": "finished"}, math.inf, "diverged"),
        ({"config": {"max_steps": STEPS}}, 3.0, "finished"),
        ({"config": {"max_steps": STEPS + 1}}, 3.0, "finished"),
        ({"config": {"max_steps": 10 * STEPS}}, 3.0, "running"),
        ({"config": {"train": {"max_steps": "400"}}}, 3.0, "running"),
        ({"config": {"max_steps": STEPS, "save": {"steps": 5000}, "a_save": {"steps": 5000}}}, 3.0, "finished"),
        ({"config": {"max_steps": "many"}}, 3.0, "finished"),
        ({}, 3.0, "finished"),
    ],
)
def test_how_a_run_ended(given: dict[str, Any], last: float, status: str) -> None:
    run = logged({"loss": lambda step: last if step == STEPS else 3.0}, **given)
    assert row(run)["status"] == status
    assert ("final_train_loss" in row(run)) == (status == "finished")
    unsaid = any("nothing says how 1 run ended: taken as finished" in note for note in table(run).notes)
    assert unsaid == (status == "finished" and given in ({}, {"config": {"max_steps": "many"}}))


def test_a_run_that_finished_before_its_planned_steps_is_asked_about() -> None:
    short = logged({"loss": lambda _: 3.0}, state="finished", config={"max_steps": 1000})
    assert row(short)["status"] == "finished"
    assert any("1 run finished before the planned steps (the first at 200 of 1000)" in n for n in table(short).notes)
    whole = logged({"loss": lambda _: 3.0}, state="finished", config={"max_steps": STEPS})
    assert not any("planned steps" in note for note in table(whole).notes)
    assert not any(name.startswith("_") for name in table(short).columns)


def test_a_spike_that_passed_is_no_divergence() -> None:
    assert row(logged({"loss": lambda step: math.nan if step == 50 else 3.0}))["status"] == "finished"


def test_steps_that_were_logged_twice_and_out_of_order() -> None:
    points = Points()
    for step, number in ((1, 1.0), (2, 2.0), (3, 3.0), (2, 20.0), (3, 30.0), (4, 40.0)):
        points.add(step, number)
    steps, numbers = points.ascending()
    assert (steps.tolist(), numbers.tolist()) == ([1, 2, 3, 4], [1.0, 20.0, 30.0, 40.0])


def test_runs_of_one_initialisation_are_told_apart(tmp_path: Any) -> None:
    """`lr-1e-3/seed-1` and `lr-3e-3/seed-1` begin with the same loss under the same name."""
    ids = set()
    for rate in ("lr-1e-3", "lr-3e-3"):
        run = LoggedRun(file="x", name="seed-1")
        run.log("loss", 1, 11.0)
        run.identify(tmp_path / rate / "seed-1")
        ids.add(run.run_id)
        run.log("loss", 2, 10.0)
        run.config["lr"] = 1
        grown = run.run_id
        run.identify(tmp_path / rate / "seed-1")
        assert run.run_id == grown, "it stays while the log grows"
    assert len(ids) == 2


def test_metrics_under_the_stores_words() -> None:
    run = logged({"train/loss": lambda _: 3.0, "lr": lambda _: 1.0, "train_loss": seldom(STEPS, 9.0)})
    run.points["other/grad_norm"] = run.points["lr"]
    names = {curve.metric for curve in table(run).curves}
    assert names == {"train_loss", "lr", "logged.train_loss", "grad_norm"}
