"""`lawfit jobs`: lists, one job, cancelling, watching; with rows as launches leave them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lawfit.cli import jobs as command
from lawfit.cli.main import run
from lawfit.records import Attempt
from lawfit.storage import Store
from lawfit.storage.training_jobs import beat, claim_runs, end_launch, training_job
from tests.storage.test_training_jobs import BEGAN, a_job, a_launch


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("LAWFIT_DATABASE_URL", str(tmp_path / "lawfit.db"))
    with Store.open(tmp_path / "lawfit.db") as opened:
        yield opened


def some(store: Store) -> None:
    """One that runs for the second time, one that failed."""
    killed = Attempt(
        launch_id="l0", host="node6", place="gpu 1", began_at=BEGAN, ended_at=BEGAN, reason="out_of_memory",
        said="CUDA out of memory", seconds=600.0, gpus=1.0, kwh=0.05,
    )  # fmt: skip
    now = Attempt(launch_id="l1", host="node7", place="gpu 0", began_at=BEGAN, seconds=4800.0, gpus=1.0)
    claim_runs(store, a_launch(), [["a", "b"]])
    running = a_job(
        "aa11", attempts=(killed, now), place="gpu 0", tokens=5e6, tokens_total=2e7, dollars_per_gpu_hour=2.0
    )
    failed = a_job("bb22", name="bad", runs=("c",), state="given_up", problem="Boom, 3 times", tail="Traceback\nBoom")
    beat(store, a_launch(), [running, failed])


def test_without_any_it_says_so(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["jobs"]) == 0
    assert "there are no jobs; lawfit launch makes some" in capsys.readouterr().err
    assert run(["jobs", "--state", "asleep"]) == 2
    assert "there is no state 'asleep'; there are queued, running" in capsys.readouterr().err
    assert run(["jobs", "--watch", "--json"]) == 2


def test_they_are_listed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    some(store)
    assert run(["jobs"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == [
        *("id", "job", "state", "where", "runs", "done", "attempts", "time", "GPU-hours", "dollars", "kWh"),
    ]  # fmt: skip
    assert first.split() == [
        *("aa11", "pack", "running", "gpu", "0", "of", "node7", "2", "25%", "2", "1:30:00", "1.50", "3.00", "0.050"),
    ]  # fmt: skip
    assert second.split()[:4] == ["bb22", "bad", "given", "up"]
    assert run(["jobs", "--state", "given_up", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "lawfit.jobs/1"
    assert [(job["id"], job["problem"]) for job in document["jobs"]] == [("bb22", "Boom, 3 times")]
    assert run(["jobs", "--limit", "1"]) == 0
    assert "there are more; --limit K shows more of them" in capsys.readouterr().err


def test_one_is_shown_with_its_attempts(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    some(store)
    assert run(["jobs", "show", "aa"]) == 0
    shown = capsys.readouterr().out
    assert "1.500 GPU-hours, 3.00 dollars, 0.050 kWh" in shown
    assert "out of memory: CUDA out of memory" in shown
    assert "(runs)" in shown
    assert run(["jobs", "show", "bb22"]) == 0
    shown = capsys.readouterr().out
    assert "given up: Boom, 3 times" in shown
    assert shown.splitlines()[-2:] == ["Traceback", "Boom"]
    assert run(["jobs", "show", "zz"]) == 1
    assert "no job of a launch is called 'zz'; lawfit jobs lists them" in capsys.readouterr().err


def test_one_is_cancelled(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    some(store)
    assert run(["jobs", "cancel", "aa11"]) == 0
    assert "job aa11 (pack): its launch ends it within seconds" in capsys.readouterr().err
    assert training_job(store, "aa11").state == "cancelling"
    assert run(["jobs", "cancel", "bb22"]) == 0
    assert "nothing to end, it is given up" in capsys.readouterr().err


def test_they_are_watched_to_their_end(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "LOOK_SECONDS", 0.05)
    some(store)

    def end() -> None:
        time.sleep(0.3)
        end_launch(store, a_launch(), [a_job("aa11", state="ended", tokens=2e7, tokens_total=2e7)])

    thread = threading.Thread(target=end)
    thread.start()
    assert run(["jobs", "--watch"]) == 0
    thread.join()
    said = capsys.readouterr()
    assert said.err.splitlines()[:2] == ["0 of 2 jobs done, 1 running", "1 of 2 jobs done, 0 running"]
    assert said.out.strip() == "2 jobs: 1 ended, 1 given up"
    assert "lawfit jobs show bb22 says why bad failed" in said.err
