"""Real processes on the CPU: grids to the store, and interruptions of every kind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the trainer needs lawfit[train]")
pytest.importorskip("tokenizers", reason="the trainer needs lawfit[train]")

import torch

from lawfit import pipeline
from lawfit.corpus import open_corpus
from lawfit.errors import LawfitError, StoreError
from lawfit.launch import LaunchError, LaunchOptions, Progress, devices
from lawfit.records import RunStatus
from lawfit.storage import Store
from lawfit.train.loop import train
from lawfit.train.trainer import Trainer
from tests.launch.conftest import make_pack, needs_proc, trainers, wait_for, write_corpus

pytestmark = pytest.mark.usefixtures("no_orphans", "one_thread")


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "lawfit.db") as opened:
        yield opened


def options(folder: Path, **own: Any) -> LaunchOptions:
    return LaunchOptions(**{"cpu": True, "logs": folder / "runs", "checkpoint_seconds": 0.1, **own})


def lines(logs: Path) -> dict[str, list[tuple[str, int]]]:
    """Event and step of every line of every log."""
    return {
        path.stem: [(event["event"], event.get("step", 0)) for event in map(json.loads, path.read_text().splitlines())]
        for path in logs.glob("*.jsonl")
    }


def uninterrupted(steps: int) -> list[tuple[str, int]]:
    """The lines of a finished run of `steps` steps, 60 of which are logged."""
    every = steps // 60
    return [("start", 0), *(("train", step) for step in range(every, steps + 1, every)), ("end", steps)]


def test_from_a_grid_to_the_store(store: Store, grid: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    report = pipeline.launch(store, [grid], options(tmp_path, workers=2), progress=seen.append)
    assert report.result is not None
    assert (len(report.result.finished), len(report.result.diverged), report.result.failures) == (8, 4, ())
    assert (report.new, report.recipes, report.not_stored) == (12, ("coarse",), "")
    stored = {run.run_key: run for run in store.runs(store.recipe("coarse").key)}
    assert set(stored) == {*report.result.finished, *report.result.diverged}
    assert {run.lr for run in stored.values() if run.status is RunStatus.DIVERGED} == {1e30}
    assert set(store.curve_metrics(store.recipe().key, report.result.finished[0])) >= {"train_loss", "validation_loss"}
    assert (seen[-1].finished, seen[-1].diverged, seen[-1].tokens) == (8, 4, 12 * 640)
    assert seen[-1].tokens_total == 12 * 640
    assert max(len(progress.running) for progress in seen) == 2

    again = pipeline.launch(store, [grid], options(tmp_path))  # nothing is trained, not even from the logs
    assert (again.new, len(again.plan.known), again.plan.tasks) == (0, 12, ())
    with Store.open(tmp_path / "other.db") as empty:  # logs that have ended are stored without training
        report = pipeline.launch(empty, [grid], options(tmp_path))
        assert (report.new, report.plan.tasks) == (12, ())

    write_corpus(tmp_path / "corpus", content_hash="another")
    with pytest.raises(LaunchError, match=r"holds runs on corpus made-up .* Name another folder with --logs"):
        pipeline.launch(store, [grid], options(tmp_path))
    with pytest.raises(LaunchError, match=r"recipe 'coarse' in the store was measured on .*--recipe NAME"):
        pipeline.launch(store, [grid], options(tmp_path, logs=tmp_path / "others"))
    new = options(tmp_path, logs=tmp_path / "others", recipe="second", dry_run=True)
    assert len(pipeline.launch(store, [grid], new).plan.tasks) == 2


def test_steps_that_horizons_share_are_counted_once(store: Store, corpus: Path, tmp_path: Path) -> None:
    pack = make_pack(corpus, runs=[{"lr": 0.01, "steps": steps, "schedule": "wsd"} for steps in (40, 80, 160)])
    seen: list[Progress] = []
    report = pipeline.launch(store, [pack], options(tmp_path), progress=seen.append)
    assert report.result is not None
    assert len(report.result.finished) == 3
    (planned,) = report.plan.packs
    assert 160 < planned.tokens / pack.batch_tokens < 40 + 80 + 160
    assert (report.result.tokens, seen[-1].tokens, seen[-1].tokens_total) == (planned.tokens,) * 3


def test_runs_that_join_a_sweep_and_are_unlike_it_are_said(store: Store, corpus: Path, tmp_path: Path) -> None:
    usual = make_pack(corpus, steps=5)
    half, other = (make_pack(corpus, steps=5, **own) for own in ({"precision": "bf16"}, {"decay": "independent"}))
    for pack in (usual, half, other):
        train(pack, open_corpus(corpus), tmp_path / "runs", trainer=Trainer(pack, torch.device("cpu"), compiled=False))
    assert pipeline.launch(store, [usual], options(tmp_path)).notes == ()  # its logs are there
    report = pipeline.launch(store, [half, other], options(tmp_path))
    assert [note.split(";")[0] for note in report.notes] == [
        "runs that joined recipe 'launch' are unlike all that it had: precision is bf16, not fp32"
    ]
    kinds = {found.recipe.name: (found.runs, found.recipe.extra.get("weight_decay_kind")) for found in store.recipes()}
    assert kinds == {"launch": (4, None), "launch-independent": (2, "independent")}


@needs_proc
@pytest.mark.soak
def test_a_trainer_that_is_killed_goes_on(store: Store, corpus: Path, tmp_path: Path) -> None:
    killed: list[int] = []
    logs, steps = tmp_path / "runs", 600

    def kill(progress: Progress) -> None:
        if not killed and progress.tokens and list(logs.glob("*.checkpoint")):
            killed.extend(trainers(logs))
            for process in killed:
                os.kill(process, signal.SIGKILL)

    report = pipeline.launch(store, [make_pack(corpus, steps=steps)], options(tmp_path), progress=kill)
    assert killed
    assert report.result is not None
    assert (len(report.result.finished), report.result.failures, report.new) == (2, (), 2)
    assert list(lines(logs).values()) == [uninterrupted(steps)] * 2


@needs_proc
@pytest.mark.soak
def test_a_launcher_that_is_killed_or_stopped_goes_on(store: Store, corpus: Path, tmp_path: Path) -> None:
    logs, steps = tmp_path / "runs", 600
    (tmp_path / "pack.json").write_text(json.dumps(make_pack(corpus, lrs=(0.01, 1e30), steps=steps).to_json()))
    words = [sys.executable, "-m", "lawfit", "launch", "pack.json", "--cpu", "--json", "--checkpoint-seconds", "0.1"]

    def launch_until_it_trains() -> subprocess.Popen[str]:
        before = sum(map(len, lines(logs).values()))
        process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        wait_for(lambda: sum(map(len, lines(logs).values())) > before + 3, "some lines in the logs")
        return process

    with launch_until_it_trains() as process:
        wait_for(lambda: bool(list(logs.glob("*.checkpoint"))), "a checkpoint")  # lines come sooner than the first
        process.kill()
    wait_for(lambda: not trainers(logs), "the end of the trainer whose launcher was killed")
    assert list(logs.glob("*.checkpoint"))

    with launch_until_it_trains() as process:
        process.terminate()
        document = json.loads(process.communicate(timeout=60)[0])
        assert (process.returncode, document["stopped_by"], len(document["unfinished"])) == (130, "signal", 1)
    assert not trainers(logs)
    assert [run.status for run in store.runs(store.recipe().key)] == [RunStatus.DIVERGED]  # it had ended before

    report = pipeline.launch(store, [tmp_path / "pack.json"], options(tmp_path))
    assert report.result is not None
    assert (len(report.result.finished), report.new) == (1, 1), report.result
    (run_id,) = report.result.finished
    assert lines(logs)[run_id] == uninterrupted(steps)
    assert sum(event == "end" for log in lines(logs).values() for event, _ in log) == 2


def test_neither_a_pack_that_cannot_be_trained_nor_a_busy_database_stops_the_rest(
    store: Store, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = store.put_sweeps

    def busy_once(*_: Any) -> Any:
        monkeypatch.setattr(store, "put_sweeps", put)
        raise StoreError("the database is locked")

    monkeypatch.setattr(store, "put_sweeps", busy_once)
    packs = [make_pack(corpus, eval_sequences=10_000, name="greedy"), make_pack(corpus)]
    report = pipeline.launch(store, packs, options(tmp_path, workers=2))
    assert report.result is not None
    (failure,) = report.result.failures
    assert (failure.pack, len(failure.runs), len(report.result.finished)) == ("greedy", 2, 2)
    assert "sequences" in failure.reason
    assert (report.new, report.not_stored) == (2, "")


def test_a_gpu_that_torch_cannot_use_is_not_replaced_by_the_cpu(
    store: Store, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("here torch finds the GPU")
    monkeypatch.setattr(devices, "_installed", lambda: ("0",))
    report = pipeline.launch(store, [make_pack(corpus)], options(tmp_path, cpu=False))
    assert report.result is not None
    assert [failure.reason for failure in report.result.failures] == [
        "torch finds no GPU, and CUDA_VISIBLE_DEVICES names 0; --cpu trains on the CPU"
    ]


def test_without_torch_it_says_so(store: Store, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lawfit.launch import run

    monkeypatch.setattr(run, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(LawfitError, match=r"training needs torch, .*: pip install 'lawfit\[train\]'"):
        pipeline.launch(store, [make_pack(corpus)], options(tmp_path))
    with contextlib.suppress(FileNotFoundError):
        assert not list((tmp_path / "runs").iterdir())
