"""How far a curve may be read: up to where the learning rate of its run begins to fall, however the runs say that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lawfit import pipeline
from lawfit.estimate.critical.noise_by_size import COLUMN, noise_by_size
from lawfit.estimate.critical.routes import CURVES, STEPS_TABLE
from lawfit.estimate.evidence import Evidence, prepare
from lawfit.estimate.observe.steady_rate import is_rate, steady_parts
from lawfit.findings import code_of, finding, found_of
from lawfit.ingest.options import IngestOptions
from lawfit.kinds.critical_batch import critical_laws
from lawfit.records import Json, Run, RunStatus, StepsToTarget
from lawfit.storage import Store
from tests.benchmarks.falling_rates import CRITICAL, Study, laws_of, read_off, study

DATA = Path(__file__).parents[3] / "data"


def a_run(key: str = "a", steps: int | None = 1000, **extra: Json) -> Run:
    return Run(
        run_key=key,
        params=1e8,
        tokens=1e6,
        batch_tokens=1e3,
        lr=1e-3,
        steps=steps,
        status=RunStatus.FINISHED,
        loss=3.0,
        extra=extra,
    )


COLUMNS: dict[str, tuple[Json, float]] = {
    "cooldown_fraction": (0.2, 800),
    "config.cooldownFraction": ("0.2", 800),
    "lr_decay_fraction": (0.1, 900),
    "wsd_decay_frac": (0.1, 900),
    "warmdown_ratio": (0.4, 600),
    "decay_percent": (20, 800),
    "cooldown": (0.25, 750),
    "Cooldown": (250, 750),
    "cooldown_steps": (300, 700),
    "num_decay_steps": (300, 700),
    "lr_wsd_decay_iters": (300, 700),
    "decay_tokens": (2e5, 800),
    "decay_start_step": (640, 640),
    "cooldown_start": (0.7, 700),
    "num_stable_steps": (640, 640),
    "trunk_steps": (640, 640),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_says_where_the_rate_begins_to_fall(name: str) -> None:
    cell, end = COLUMNS[name]
    run = replace(a_run(), extra={name: cell, "trunk_run_id": "b", "weight_decay_fraction": 0.9, "decay_ratio": 0.01})
    assert steady_parts([run], "wsd to 0").until["a"] == pytest.approx(end)
    without_steps = replace(run, steps=None)
    assert steady_parts([without_steps], "wsd to 0").until["a"] == pytest.approx(end)


def test_what_the_recipe_holds_fixed_counts_as_a_column() -> None:
    runs = [a_run("a"), a_run("b", cooldown_fraction=0.5)]
    assert steady_parts(runs, "wsd to 0", held={"cooldown_fraction": "0.2"}).until == {"a": 800, "b": 500}


def test_the_earliest_of_several_columns_counts() -> None:
    run = a_run(cooldown_fraction=0.1, decay_start_step=500)
    found = steady_parts([run], "wsd")
    assert (found.until["a"], found.told_by["a"]) == (
        500,
        finding("observe.by_column", column="decay_start_step"),
    )


def test_megatron_counts_the_whole_schedule_as_its_decay() -> None:
    assert steady_parts([a_run(lr_decay_iters=1000, lr_wsd_decay_iters=200)], "WSD").until["a"] == 800


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        ({"cooldown_fraction": 20}, "observe.beyond_the_run"),
        ({"cooldown_steps": 5000}, "observe.beyond_the_run"),
        ({"cooldown_fraction": "a fifth"}, "observe.no_place"),
        ({"cooldown_fraction": -0.2}, "observe.no_place"),
        ({"cooldown_fraction": 0.9}, "observe.rate_falls_early"),
        ({}, "observe.cooldown_unknown"),
    ],
)
def test_a_column_that_cannot_be_right_refuses_the_run(cells: dict[str, Json], code: str) -> None:
    found = steady_parts([a_run(**cells)], "wsd to 0")
    assert not found.until
    why = found.unknown["a"]
    assert code_of(why) == code
    for name, value in cells.items():
        said = why.data["told_by"]["data"] if code == "observe.rate_falls_early" else why.data
        assert said == {"column": name} if "told_by" in why.data else {"column": name, "value": value}


def test_a_logged_rate_counts_before_everything_else() -> None:
    steps = np.arange(10.0, 1001.0, 10.0)
    rate = 1e-3 * np.interp(steps, [0, 100, 600, 1000], [0, 1, 1, 0])
    for schedule in ("", "wsd", "constant", "custom"):
        found = steady_parts([a_run(cooldown_fraction=0.1)], schedule, {"a": (steps, rate)})
        assert found.until["a"] == 600
        assert found.told_by["a"] == finding("observe.by_logged_rate")
    held = steps, np.full(len(steps), 1e-3)
    assert np.isinf(steady_parts([a_run()], "constant", {"a": held}).until["a"])
    assert steady_parts([a_run()], "", {"a": held}).until["a"] == 1000
    cosine = steps, 1e-3 * 0.5 * (1 + np.cos(np.pi * steps / 1000))
    early = finding("observe.rate_falls_early", share=0.25, told_by=finding("observe.by_logged_rate"))
    assert steady_parts([a_run()], "", {"a": cosine}).unknown["a"] == early
    assert steady_parts([a_run()], "wsd 10 % decay", {"a": (steps, np.full(len(steps), np.nan))}).until["a"] == 900


@pytest.mark.parametrize("name", ["lr", "learning_rate", "train/lr", "optim.learning_rate", "lr_0", "lr-group_0"])
def test_metrics_that_are_the_rate(name: str) -> None:
    assert is_rate(name)


@pytest.mark.parametrize("name", ["peak_lr", "max_lr", "train_loss", "lr_mult_loss", "min_learning_rate"])
def test_metrics_that_are_not(name: str) -> None:
    assert not is_rate(name)


def test_a_trunk_holds_its_rate_up_to_its_last_branch() -> None:
    runs = [
        a_run("trunk"),
        a_run("early", trunk_run_id="trunk", trunk_steps=400),
        a_run("late", trunk_run_id="trunk", trunk_steps=800),
        a_run("alone"),
    ]
    found = steady_parts(runs, "wsd to 0")
    assert found.until == {"trunk": 800, "early": 400, "late": 800}
    assert found.unknown["alone"] == finding("observe.cooldown_unknown", schedule="wsd to 0")
    assert set(steady_parts(runs, "constant").until.values()) == {np.inf}


def test_curves_of_our_own_wsd_runs_end_at_their_cooldown(tmp_path: Path) -> None:
    """Their losses fall by 0.26 to 0.65 nats in it."""
    with Store.open(tmp_path / "wsd.db") as store:
        pipeline.ingest(store, DATA / "proxy_wsd.csv")
        pipeline.ingest(store, DATA / "proxy_wsd_curves.csv")
        evidence = pipeline.fitting.evidence_of(store, store.recipe())
    found = steady_parts(evidence.runs, evidence.schedule)
    cut = found.cut(evidence.curves)
    assert len(cut) == 12
    for run in evidence.runs:
        assert cut[run.run_key][0].max() <= 0.8 * (run.steps or 0)
        steps, loss = evidence.curves[run.run_key]
        fallen = loss[steps <= found.until[run.run_key]].min() - loss.min()
        assert fallen > 0.15


def test_a_rate_in_the_log_reaches_the_fit(tmp_path: Path) -> None:
    """Ingested as a column along the curves, of runs whose schedule nobody states."""
    made = study(1, drop=0.3, said="log", points=60)
    (tmp_path / "runs.csv").write_text(
        "run_id,params,tokens,batch_tokens,lr,steps,loss\n"
        + "".join(f"{r.run_key},{r.params},{r.tokens},{r.batch_tokens},{r.lr},{r.steps},{r.loss}\n" for r in made.runs)
    )
    lines = [
        f"{key},{step:.0f},{loss},{rate}\n"
        for key, (steps, losses) in made.curves.items()
        for step, loss, rate in zip(steps, losses, made.rates[key][1], strict=True)
    ]
    (tmp_path / "curves.csv").write_text("run_id,step,train_loss,learning_rate\n" + "".join(lines))
    with Store.open(tmp_path / "runs.db") as store:
        pipeline.ingest(store, tmp_path / "runs.csv", IngestOptions(recipe="told"))
        pipeline.ingest(store, tmp_path / "curves.csv")
        evidence = pipeline.fitting.evidence_of(store, store.recipe())
    assert evidence.schedule == ""
    found = steady_parts(evidence.runs, evidence.schedule, evidence.rates)
    assert len(found.until) == len(made.runs)
    for run in evidence.runs:
        assert 0.75 * (run.steps or 0) < found.until[run.run_key] <= 0.8 * (run.steps or 0)


@pytest.mark.parametrize("said", ["column", "log", "name"])
def test_a_cooldown_does_not_move_the_critical_batch(said: str) -> None:
    """Read to the ends of the curves these are off by a factor of three and more."""
    answer = read_off(laws_of(study(10_003, drop=0.3, said=said)))
    assert answer.ratio == pytest.approx(1, abs=0.1)
    assert answer.holds
    assert abs(answer.exponent) < 0.05


def test_the_same_curves_taken_for_constant_ones_are_far_off() -> None:
    made = study(10_003, drop=0.3, said="nothing")
    assert read_off(laws_of(replace(made, schedule="constant"))).ratio > 3


@pytest.mark.parametrize(
    ("schedule", "code"),
    [
        ("", "observe.schedule_unknown"),
        ("custom", "observe.schedule_unknown"),
        ("wsd to 0", "observe.cooldown_unknown"),
        ("cosine", "observe.rate_falls_throughout"),
        ("linear to 0", "observe.rate_falls_throughout"),
    ],
)
def test_what_is_not_known_is_refused_with_what_to_give(schedule: str, code: str) -> None:
    found = laws_of(replace(study(1, drop=0.06, said="nothing", points=20), schedule=schedule))
    assert CURVES not in found.routes
    assert found.least_tokens is None
    why = found.missing[CURVES]
    if code_of(why) == "observe.curves_unread":
        why = found_of(why.data["why"])
    assert (code_of(why), why.data) == (code, {"schedule": schedule})


def test_cut_and_refused_curves_are_counted() -> None:
    made = study(2, drop=0.12, said="log", points=60)
    some = {run.run_key: made.rates[run.run_key] for run in made.runs if run.lr < 1.5e-3}
    found = laws_of(Study(runs=made.runs, curves=made.curves, rates=some, schedule="wsd to 0"))
    said = {code_of(each): each.data for each in found.routes[CURVES].sentences}
    assert said["observe.curves_cut"]["runs"] == 48
    assert said["observe.curves_unread"]["runs"] == 24
    assert code_of(said["observe.curves_unread"]["why"]) == "observe.cooldown_unknown"


def test_least_tokens_come_from_the_cut_curves_too() -> None:
    """With a cooldown at the end of each, as without one."""
    fallen, held = (laws_of(study(10_003, drop=drop)).least_tokens for drop in (0.6, 0.0))
    assert fallen is not None
    assert held is not None
    assert len(fallen.measured) == len(held.measured) > 0
    for one, other in zip(fallen.measured, held.measured, strict=True):
        assert (one.loss, one.tokens) == pytest.approx((other.loss, other.tokens))


def test_noise_scales_of_a_falling_rate_are_not_used() -> None:
    runs = [replace(a_run(str(k), **{COLUMN: 5e3}), batch_tokens=1e3 * 2**k) for k in range(4)]
    assert noise_by_size(runs, {}, steady_parts(runs, "constant").until)
    assert not noise_by_size(runs, {}, steady_parts(runs, "cosine").until)
    cooled = [replace(run, extra={**run.extra, "cooldown_fraction": 0.2}) for run in runs]
    assert not noise_by_size(cooled, {}, steady_parts(cooled, "wsd").until)


def test_squared_norms_are_taken_before_the_rate_falls(rng: np.random.Generator) -> None:
    """In the cooldown the gradient is ten times smaller here, so its noise scale is a hundred times larger."""
    steps = np.arange(1.0, 1001.0)
    size = np.where(steps > 800, 0.01, 1.0)
    squares = tuple((size + 5e3 / batch) * (1 + 0.01 * rng.standard_normal(1000)) for batch in (1e3, 2e3))
    runs = [a_run("a", cooldown_fraction=0.2)]
    (found,) = noise_by_size(runs, {"a": (steps, *squares)}, steady_parts(runs, "wsd").until)
    assert found.value_tokens == pytest.approx(5e3, rel=0.05)
    (spoilt,) = noise_by_size(runs, {"a": (steps, *squares)})
    assert spoilt.value_tokens > 6e3


def test_a_table_of_steps_under_a_falling_rate_says_what_it_takes(rng: np.random.Generator) -> None:
    rows = [
        StepsToTarget(run_key=str(k), params=1e8, batch_tokens=b, steps=round(1000 * (1 + CRITICAL / b)), target_loss=3)
        for k, b in enumerate(CRITICAL * 2.0 ** np.arange(-3, 4))
    ]
    for schedule, warned in (("constant", False), ("", False), ("wsd to 0", True), ("cosine", True)):
        evidence = Evidence(runs=(), targets=rows, schedule=schedule)
        found = critical_laws(prepare(evidence)).routes[STEPS_TABLE]
        assert ("laws.steps_while_falling" in map(code_of, found.sentences)) == warned
