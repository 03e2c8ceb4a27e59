"""Trainers of a user's own, from a grid to the store: real processes, their logs in several formats."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lawfit import pipeline
from lawfit.cli.main import run
from lawfit.findings import code_of
from lawfit.ingest.one_run import logged_step
from lawfit.launch import LaunchError, LaunchOptions, LaunchReport, Progress, read_template
from lawfit.records import RunStatus
from lawfit.storage import Store
from lawfit.storage.training_jobs import list_training_jobs
from tests.ingest.formats.logs import GOLDEN
from tests.launch.own_trainer import OwnTrainer


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "lawfit.db") as opened:
        yield opened


@pytest.fixture
def trainer(tmp_path: Path) -> OwnTrainer:
    return OwnTrainer.written(tmp_path)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lawfit.launch.campaign.POLL_SECONDS", 0.02)


def launch(store: Store, trainer: OwnTrainer, grid: Path | None = None, **own: Any) -> LaunchReport:
    template = read_template(
        own.pop("command", None) or trainer.template(how=own.pop("how", "csv")), own.pop("form", None)
    )
    said = {"cpu": True, "workers": 3, "logs": trainer.folder / "runs", "template": template, **own}
    return pipeline.launch(store, [grid or trainer.grid()], LaunchOptions(**said))


def test_from_a_grid_to_the_store(store: Store, trainer: OwnTrainer) -> None:
    report = launch(store, trainer)
    assert report.result is not None
    assert (len(report.result.finished), len(report.result.diverged), report.result.failures) == (4, 2, ())
    assert (report.new, report.recipes, report.rejections) == (6, ("grid",), ())
    recipe = store.recipe("grid")
    runs = store.runs(recipe.key)
    assert {(run.params, run.tokens, run.batch_tokens, run.steps, run.lr) for run in runs} == {
        (472, 640, batch, 640 // batch, lr) for batch in (16, 32) for lr in (0.001, 0.01, 10.0)
    }
    assert {run.lr for run in runs if run.status is RunStatus.DIVERGED} == {10.0}
    assert {run.weight_decay for run in runs} == {None}  # the template does not name it: nobody knows
    assert (recipe.loss_kind, recipe.seq_len, recipe.params_convention) == ("training loss", 8, "non_embedding")
    assert recipe.extra["command"].endswith("--lr {lr} --batch {batch_sequences} --steps {steps} --out {folder}")
    steps, losses = store.curve(
        recipe.key, next(r.run_key for r in runs if r.lr == 0.01 and r.steps == 20), "train_loss"
    )
    assert (len(steps), losses[0]) == (20, pytest.approx(5.01))
    assert {job.state for job in list_training_jobs(store)} == {"ended"}

    again = launch(store, trainer)
    assert (again.plan.tasks, again.new) == ((), 0)
    with Store.open(trainer.folder / "other.db") as other:  # logs that have ended are stored without training
        assert launch(other, trainer).new == 6
    assert set(trainer.counts("start").values()) == {1}


@pytest.mark.parametrize(
    ("how", "kind", "loss"), [("json", "validation loss", 3.15), ("prints", "training loss", 2.15)]
)
def test_logs_are_read_in_any_format(store: Store, trainer: OwnTrainer, how: str, kind: str, loss: float) -> None:
    grid = trainer.grid(lr=[0.001], batch_tokens=[32])
    assert launch(store, trainer, grid, how=how).new == 1
    recipe = store.recipe("grid")
    (run,) = store.runs(recipe.key)
    assert (recipe.loss_kind, run.loss) == (kind, pytest.approx(loss, rel=1e-2))


def test_facts_of_the_template_are_of_the_recipe(store: Store, trainer: OwnTrainer) -> None:
    command = trainer.template() + " --schedule {schedule} --wd {weight_decay} --beta2 {beta2}"
    path = trainer.folder / "t.toml"
    path.write_text(f"command = '''{command}'''\nformat = 'csv'\n[recipe]\noptimizer = 'lion'\n")
    launch(store, trainer, trainer.grid(lr=[0.001], schedule="cosine"), command=str(path), recipe="mine")
    recipe = store.recipe("mine")
    run = store.runs(recipe.key)[0]
    assert (recipe.optimizer, recipe.schedule, run.weight_decay, run.extra["beta2"]) == ("lion", "cosine", 0.1, 0.95)


def test_another_command_does_not_join_a_sweep(store: Store, trainer: OwnTrainer) -> None:
    launch(store, trainer, trainer.grid(lr=[0.001]))
    with pytest.raises(
        LaunchError, match=r"recipe 'grid' in the store was trained by another command, .*--recipe NAME"
    ):
        launch(store, trainer, how="json")
    assert launch(store, trainer, trainer.grid(lr=[0.001]), how="json", recipe="second").new == 2


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("fails", r"the trial, cut to 20 steps failed with exit code 1; nothing was submitted\nno such option: --how"),
        ("silent", r"ended well, but .*holds no log: the command wrote none there, and printed nothing"),
        ("no loss", r"ended well, but no loss was found in the logs in"),
    ],
)
def test_a_trial_that_goes_wrong_is_a_sentence(store: Store, trainer: OwnTrainer, how: str, said: str) -> None:
    with pytest.raises(LaunchError, match=said):
        launch(store, trainer, trainer.grid(tokens=[1280, 2560], lr=[0.001]), how=how, trial=True)
    assert sum(trainer.counts("start").values()) == 1
    assert list_training_jobs(store) == []


def test_a_trial_whose_loss_is_no_number_is_a_sentence(store: Store, trainer: OwnTrainer) -> None:
    with pytest.raises(LaunchError, match=r"ended with a loss that is no number \(log.csv in "):
        launch(store, trainer, trainer.grid(lr=[10.0]), trial=True)


def test_a_trial_that_goes_well_is_short_and_comes_first(store: Store, trainer: OwnTrainer) -> None:
    news: list[str] = []
    options = LaunchOptions(
        cpu=True, logs=trainer.folder / "runs", template=read_template(trainer.template()), trial=True
    )
    grid = trainer.grid(tokens=[6400], lr=[0.001], batch_tokens=[32])
    report = pipeline.launch(store, [grid], options, progress=lambda each: news.extend(each.news))
    assert news[0].startswith("the trial, cut to 20 steps took ")
    assert "its training loss is 2.151 (csv)" in news[0]
    assert (report.new, set(trainer.counts("end").values())) == (1, {1})
    assert launch(store, trainer, grid, trial=True).new == 0  # nothing to train: no trial
    assert trainer.counts("start")["trial"] == 1


def test_a_command_that_fails_at_once_stops_the_launch(store: Store, trainer: OwnTrainer) -> None:
    many = trainer.grid(lr=[0.001 + n / 1e6 for n in range(30)])
    report = launch(store, trainer, many, how="fails")
    assert report.result is not None
    assert (report.result.stopped_by, report.result.finished) == ("failing", ())
    assert report.result.failures[0].reason == "no such option: --how"
    assert (
        3 <= sum(trainer.counts("start").values()) <= 40
    )  # of 60: those that were begun before the third was seen to fail
    states = {job.state for job in list_training_jobs(store, limit=1000)}
    assert states == {"failed", "stopped"}


def test_logs_without_a_loss_stop_the_launch(store: Store, trainer: OwnTrainer) -> None:
    many = trainer.grid(lr=[0.001 + n / 1e6 for n in range(30)])
    report = launch(store, trainer, many, how="short")
    assert report.result is not None
    assert report.result.stopped_by == "failing"
    assert sum(trainer.counts("start").values()) <= 40
    assert "ends at step 2 of 20, although the command ended well" in report.rejections[0].reason


def test_garbage_in_a_log_costs_that_run_alone(store: Store, trainer: OwnTrainer) -> None:
    report = launch(store, trainer, trainer.grid(lr=[0.01, 0.001], batch_tokens=[32]), how="garbage")
    assert (report.new, len(report.rejections)) == (1, 1)
    (rejection,) = report.rejections
    assert "no loss was found" in rejection.reason
    assert "binary" in rejection.reason
    assert "to train it again, delete that folder" in rejection.reason
    folder = trainer.folder / "runs" / rejection.file
    (folder / "log.csv").write_text("step,loss\n" + "".join(f"{step},2.5\n" for step in range(1, 21)))  # by hand
    grid = trainer.folder / "grid.json"
    assert launch(store, trainer, grid, how="garbage").new == 1
    assert set(trainer.counts("start").values()) == {1}


def test_a_folder_that_is_deleted_is_trained_again(store: Store, trainer: OwnTrainer) -> None:
    grid = trainer.grid(lr=[0.001], batch_tokens=[32])
    report = launch(store, trainer, grid, how="short")
    folder = trainer.folder / "runs" / report.rejections[0].file
    shutil.rmtree(folder)
    assert len(launch(store, trainer, grid, how="short").rejections) == 1
    assert trainer.counts("start")[folder.name] == 2


TRACKED = {
    "tensorboard": "tensorboard/low/events.out.tfevents.1795980620.vm.14759.0",
    "wandb": "wandb-0.31.0/wandb/offline-run-20261129_192941-idlow/run-idlow.wandb",
    "trainer-state": "huggingface/low/trainer_state.json",
}


def tracked(trainer: OwnTrainer, folder: Path, kind: str) -> None:
    """What a real writer logged of 40 steps, and the beginning of it with 20, for the trainer to copy."""
    source = GOLDEN / TRACKED[kind]
    whole = source.read_bytes()
    half = source.with_name("checkpoint-20") / source.name
    content = half.read_bytes() if half.exists() else whole
    path = folder / "half" / source.name
    path.parent.mkdir()
    path.write_bytes(content)
    while logged_step(path.parent) > 20:
        content = content[:-40]
        path.write_bytes(content)
    for part, said in (("name", source.name.encode()), ("half", content), ("whole", whole)):
        (trainer.folder / f"journal.{part}").write_bytes(said)


@pytest.mark.parametrize("kind", ["csv", *TRACKED])
def test_how_far_a_run_is_is_read_from_its_log(
    store: Store, trainer: OwnTrainer, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("LOOK", 0.1), ("TELL", 0.1)):
        monkeypatch.setattr(f"lawfit.launch.campaign.{name}_SECONDS", seconds)
    monkeypatch.setattr("lawfit.pipeline.book.BEAT_SECONDS", 0.05)
    told: list[float] = []

    def watch(progress: Progress) -> None:
        found = [job.tokens for job in list_training_jobs(store) if job.state == "running"]
        if sorted(found) == [320.0, 320.0] and progress.tokens == 640:
            told.append(progress.tokens)
            (trainer.folder / "journal.seen").touch()

    if kind in TRACKED:
        tracked(trainer, tmp_path, kind)
    template = read_template(trainer.template(how="copies" if kind in TRACKED else "grows"))
    options = LaunchOptions(cpu=True, workers=2, logs=trainer.folder / "runs", template=template)
    report = pipeline.launch(store, [trainer.grid(lr=[0.001, 0.01], batch_tokens=[16])], options, progress=watch)
    assert (report.new, report.result is not None and report.result.tokens) == (2, 1280)
    assert told
    assert {(job.tokens, job.tokens_total) for job in list_training_jobs(store)} == {(640.0, 640.0)}


def test_runs_that_are_left_out_for_another_recipe_are_said(
    store: Store, trainer: OwnTrainer, capsys: pytest.CaptureFixture[str]
) -> None:
    launch(store, trainer, trainer.grid(lr=[0.001, 0.01]), recipe="first")
    grid = trainer.grid(lr=[0.001, 0.01, 0.02])
    said = (
        "left out, as the database has them under another recipe than 'second': 4 runs under 'first'; what is trained "
        "now with the same settings joins them there"
    )
    words = ["launch", str(grid), "--cpu", "--dry-run", "--logs", str(trainer.folder / "runs"), "--template"]
    words += [trainer.template(), "--database", str(trainer.folder / "lawfit.db"), "--recipe"]
    assert run([*words, "second"]) == 0
    assert f"! {said}\n" in capsys.readouterr().err
    assert run([*words, "second", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["caveats"], document["other_recipes"]) == ([said], {"first": 4})
    report = launch(store, trainer, grid, recipe="second")
    (caveat,) = report.plan.caveats
    assert code_of(caveat) == "launch.other_recipes"
    assert (report.new, report.recipes) == (2, ("first",))
    for same in ("first", "first-lion"):  # what tells recipes of one file apart is named as it comes up
        assert run([*words, same, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["other_recipes"] == {}


def test_a_format_that_there_is_not_is_refused(store: Store, trainer: OwnTrainer) -> None:
    with pytest.raises(LaunchError, match=r"there is no log format 'csw'; there are auto, "):
        launch(store, trainer, form="csw")
