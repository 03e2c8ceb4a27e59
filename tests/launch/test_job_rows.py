"""What becomes of jobs, as rows of the store: states, attempts with their reasons, costs, cancelling, two launches."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lawfit.errors import Disconnected
from lawfit.launch import LocalLauncher, Result
from lawfit.launch.book import Rows, job_id
from lawfit.launch.campaign import Campaign
from lawfit.launch.energy import EnergyMeter
from lawfit.launch.folder import Task, checkpoint_of, log_of, task_of
from lawfit.pipeline import book as book_module
from lawfit.pipeline.book import StoreBook
from lawfit.records import TrainingJob
from lawfit.storage import Store
from lawfit.storage.training_jobs import cancel_training_job, list_training_jobs, training_job
from tests.launch.conftest import calls, fake_trainer, make_pack, wait_for
from tests.storage.builders import recipe, run

pytestmark = pytest.mark.one_database


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr("lawfit.launch.campaign.POLL_SECONDS", 0.02)
    monkeypatch.setattr("lawfit.launch.campaign.ASK_SECONDS", 0.1)
    monkeypatch.setattr("lawfit.launch.campaign.TELL_SECONDS", 0.1)


def task(*, lrs: tuple[float, ...] = (0.1, 0.2), **own: Any) -> Task:
    return task_of(dataclasses.replace(make_pack(lrs=lrs, **own), corpus_hash="made-up"))


class Meter(EnergyMeter):
    """A GPU that takes a kilowatt hour between two looks."""

    def __init__(self) -> None:
        self._joules = 0.0

    def joules(self, place: str) -> float | None:
        self._joules += 3.6e6
        return self._joules


def train(store: Store, folder: Path, made: Task, command: Any, **own: Any) -> tuple[Result, list[str]]:
    """One launch into a folder; the result, and what was said."""
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    news: list[str] = []
    book = StoreBook(store, backend="local", logs=folder / "runs")
    rows = Rows(
        book, gpus=own.pop("gpus", 0.0), dollars_per_gpu_hour=own.pop("dollars", None), meter=own.pop("meter", None)
    )
    campaign = Campaign(
        [made], LocalLauncher(), folder / "runs", command=command, ended=own.pop("ended", lambda _: None),
        report=lambda progress: news.extend(progress.news), rows=rows, **own,
    )  # fmt: skip
    try:
        return campaign.run(), news
    finally:
        assert book.close() == ""


def reasons(job: TrainingJob) -> list[str]:
    return [attempt.reason for attempt in job.attempts]


def test_a_job_that_goes_well_is_a_row_with_its_cost(store: Store, tmp_path: Path) -> None:
    made = task()
    command = fake_trainer(tmp_path, made.pack, made.ids)
    train(store, tmp_path, made, command, gpus=0.5, dollars=36.0, meter=Meter())
    (job,) = list_training_jobs(store)
    assert (job.id, job.name, job.runs, job.state) == (job_id(made), "pack", made.ids, "ended")
    assert (job.place, job.tokens, job.tokens_total, job.lost) == ("cpu", 20, sum(made.tokens.values()), False)
    (attempt,) = job.attempts
    assert (attempt.reason, attempt.gpus, attempt.kwh) == ("done", 0.5, 0.5)
    assert attempt.seconds > 0
    assert job.dollars == pytest.approx(attempt.seconds * 0.5 / 3600 * 36)
    assert job.launch.ended_at is not None


def test_out_of_memory_goes_on_in_halves_and_says_so(store: Store, tmp_path: Path) -> None:
    made = task(lrs=(0.1, 0.2, 0.3, 0.4))
    said = "Traceback ...\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    result, _ = train(store, tmp_path, made, fake_trainer(tmp_path, made.pack, made.ids, say=said, survives=1))
    assert set(result.finished) == set(made.ids)
    jobs = {len(job.runs): job for job in list_training_jobs(store)}
    assert (jobs[4].state, reasons(jobs[4])) == ("split", ["out_of_memory"])
    assert "CUDA out of memory" in jobs[4].tail
    assert jobs[2].state == "split"
    assert (jobs[1].state, reasons(jobs[1])) == ("ended", ["done"])
    assert sorted(map(len, calls(tmp_path))) == [1, 1, 1, 1, 2, 2, 4]  # each run ended once


def test_what_was_preempted_goes_on_whole_and_often(store: Store, tmp_path: Path) -> None:
    made = task()
    left = str(checkpoint_of(made, tmp_path / "runs"))
    command = fake_trainer(tmp_path, made.pack, made.ids, say="x", signal=signal.SIGTERM, survives=0, leaves=left)

    def until_the_fifth(path: Path) -> list[str]:
        if len(calls(tmp_path) if (tmp_path / "behaviour.json.calls").exists() else []) == 5:
            fake_trainer(tmp_path, made.pack, made.ids)
        return command(path)

    result, _ = train(store, tmp_path, made, until_the_fifth)
    assert set(result.finished) == set(made.ids)
    (job,) = list_training_jobs(store)
    assert reasons(job) == ["preempted"] * 5 + ["done"]
    assert [len(each) for each in calls(tmp_path)] == [2] * 6


@pytest.mark.parametrize(
    ("said", "state", "tries", "problem"),
    [
        ("error: the corpus is too small\n", "failed", 1, "the corpus is too small"),
        ("Boom\n", "given_up", 3, "Boom, 3 times"),
    ],
)
def test_a_job_that_fails_keeps_why(
    store: Store, tmp_path: Path, said: str, state: str, tries: int, problem: str
) -> None:
    made = task(lrs=(0.1,))
    train(store, tmp_path, made, fake_trainer(tmp_path, made.pack, made.ids, say=said))
    (job,) = list_training_jobs(store)
    assert (job.state, job.problem, job.tail, len(job.attempts)) == (state, problem, said.strip(), tries)
    again, _ = train(store, tmp_path, made, fake_trainer(tmp_path, made.pack, made.ids))  # the same command again
    assert set(again.finished) == set(made.ids)
    (job,) = list_training_jobs(store)
    assert (job.state, len(job.attempts), job.problem) == ("ended", tries + 1, None)


SLEEPER = ["sleep", "60"]


def test_a_job_is_cancelled_from_elsewhere(store: Store, tmp_path: Path) -> None:
    made = task()
    found: list[TrainingJob] = []

    def cancel() -> None:
        wait_for(lambda: any(job.state == "running" for job in list_training_jobs(store)), "the job to run")
        found.append(cancel_training_job(store, job_id(made)[:6]))

    thread = threading.Thread(target=cancel)
    thread.start()
    result, _ = train(store, tmp_path, made, lambda _: SLEEPER)
    thread.join()
    assert found[0].state == "cancelling"
    assert (set(result.unfinished), result.failures, result.stopped_by) == (set(made.ids), (), "")
    job = training_job(store, job_id(made))
    assert (job.state, reasons(job)) == ("cancelled", ["cancelled"])


def test_what_stops_with_its_launch_is_queued_by_the_next(store: Store, tmp_path: Path) -> None:
    made = task()
    began = time.monotonic()
    train(store, tmp_path, made, lambda _: SLEEPER, stop=lambda: "signal" if time.monotonic() > began + 0.5 else "")
    (job,) = list_training_jobs(store)
    assert (job.state, reasons(job)) == ("stopped", ["stopped"])
    train(store, tmp_path, made, fake_trainer(tmp_path, made.pack, made.ids))
    (job,) = list_training_jobs(store)
    assert (job.state, reasons(job)) == ("ended", ["stopped", "done"])


def test_of_two_launches_with_logs_of_their_own_one_trains_a_run(store: Store, tmp_path: Path) -> None:
    """The second waits; what the first has stored meanwhile is left out, the rest it trains itself."""
    ours, theirs = task(lrs=(0.1, 0.2, 0.3)), task(lrs=(0.2, 0.4), name="theirs")
    other = StoreBook(store, backend="local", logs=tmp_path / "others")
    assert other.claim([theirs.ids])[0].held_by == ""
    news: list[str] = []

    def report(progress: Any) -> None:
        news.extend(progress.news)
        if news and not store.stored_of(theirs.ids):
            store.put_runs(recipe(), [run(theirs.ids[0])])
            other.release(theirs.ids)

    (tmp_path / "runs").mkdir()
    book = StoreBook(store, backend="local", logs=tmp_path / "runs")
    command = fake_trainer(tmp_path, ours.pack, ours.ids)
    result = Campaign(
        [ours], LocalLauncher(), tmp_path / "runs", command=command, ended=lambda _: None, report=report,
        rows=Rows(book),
    ).run()  # fmt: skip
    assert book.close() == other.close() == ""
    assert set(result.finished) == {ours.ids[0], ours.ids[2]}
    assert (result.elsewhere, result.unfinished) == ((ours.ids[1],), ())
    assert calls(tmp_path) == [[0.1, 0.3]]
    assert news[0].startswith(f"pack waits: its runs are being trained by launch {other.launch.id} on ")
    assert news[1] == "pack: 1 run trained by another launch, left out"


@pytest.mark.parametrize("still_written", [False, True])
def test_what_a_killed_launch_had_ended_is_taken_from_its_logs(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, still_written: bool
) -> None:
    """It had ended one run and stored none; a job that it left behind is waited for."""
    monkeypatch.setattr(book_module, "QUIET_SECONDS", 1.0)
    made, theirs = task(), tmp_path / "others"
    theirs.mkdir()
    dead = StoreBook(store, backend="local", logs=theirs)
    dead.claim([made.ids])
    events: tuple[dict[str, Any], ...] = ({"event": "begun"}, {"event": "end", "status": "finished", "tokens": 10})
    log_of(made.ids[0], theirs).write_text("".join(json.dumps(event) + "\n" for event in events))
    log_of(made.ids[1], theirs).write_text(json.dumps(events[0]) + "\n")
    if not still_written:
        os.utime(log_of(made.ids[1], theirs), (0, 0))
    dead._ending.set()  # it is killed: nobody says that it has ended
    monkeypatch.setattr("lawfit.storage.training_jobs.is_gone", lambda process: process == dead.launch.process)
    monkeypatch.setattr(book_module, "this_process", lambda: "another")
    ended: list[Path] = []
    result, news = train(store, tmp_path, made, fake_trainer(tmp_path, made.pack, made.ids), ended=ended.extend)
    assert set(result.finished) == set(made.ids)
    assert calls(tmp_path) == [[0.2]]
    assert sorted(path.stem for path in ended) == sorted(made.ids)
    assert any(sentence == "pack: 1 run had ended in a launch that was killed" for sentence in news)
    assert any(" left behind " in sentence for sentence in news) is still_written


def test_a_launch_whose_runs_were_taken_over_ends_them(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = task()
    monkeypatch.setattr("lawfit.storage.training_jobs.LOST_SECONDS", 0.0)  # as after a long silence
    taken: list[str] = []

    def take() -> None:
        wait_for(lambda: any(job.state == "running" for job in list_training_jobs(store)), "the job to run")
        other = StoreBook(store, backend="local", logs=tmp_path / "others")
        claimed = other.claim([made.ids])[0]
        taken.append(claimed.held_by)
        other.put(dataclasses.replace(training_job(store, job_id(made)), launch=other.launch, state="running"))
        time.sleep(0.5)
        other.tell()

    thread = threading.Thread(target=take)
    thread.start()
    result, news = train(store, tmp_path, made, lambda _: SLEEPER)
    thread.join()
    assert taken == [""]
    assert news[-1] == "pack is ended here: another launch took over its runs"
    assert result.failures == ()
    job = training_job(store, job_id(made))
    assert (job.state, job.launch.logs) == ("running", str(tmp_path / "others"))  # not written over


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """`unreachable(True)`: no transaction of any store begins."""
    really, away = Store.writing, [False]

    def writing(self: Store) -> Any:
        if away[0]:
            raise Disconnected("connection refused")
        return really(self)

    monkeypatch.setattr(Store, "writing", writing)
    yield lambda yes: away.__setitem__(0, yes)
    away[0] = False


def test_a_store_that_is_away_for_a_while_loses_nothing(
    store: Store, tmp_path: Path, unreachable: Callable[[bool], None]
) -> None:
    made = task(lrs=(0.1, 0.2, 0.3, 0.4))
    command = fake_trainer(tmp_path, made.pack, made.ids, say="Killed by somebody", survives=1)

    def away(path: Path) -> list[str]:
        unreachable(len(json.loads(path.read_text())["runs"]) > 1)  # back with the first single run
        return command(path)

    result, _ = train(store, tmp_path, made, away)
    assert set(result.finished) == set(made.ids)
    assert sorted(map(len, calls(tmp_path))) == [1, 1, 1, 1, 2, 2, 4]
    jobs = list_training_jobs(store)
    assert sorted((len(job.runs), job.state) for job in jobs) == [
        (1, "ended"), (1, "ended"), (1, "ended"), (1, "ended"), (2, "split"), (2, "split"), (4, "split"),
    ]  # fmt: skip
    assert all(job.attempts for job in jobs)


def test_a_run_that_could_not_be_stored_yet_is_not_let_go_of(store: Store, tmp_path: Path) -> None:
    waiting = {"a"}
    mine = StoreBook(store, backend="local", logs=tmp_path, waiting=lambda: waiting)
    mine.claim([["a"], ["b"]])
    mine.release(["a", "b"])
    other = StoreBook(store, backend="local", logs=tmp_path / "others")
    wait_for(lambda: not other.claim([["b"]])[0].held_by, "b to be free")
    assert other.claim([["a"]])[0].held_by
    waiting.clear()
    wait_for(lambda: not other.claim([["a"]])[0].held_by, "a to be free")
    assert mine.close() == other.close() == ""


def test_a_launch_that_ends_while_the_store_is_away_lets_go_of_its_runs(
    store: Store, tmp_path: Path, unreachable: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process lives on, as a notebook does: nobody is to wait until it has not been heard of for long."""
    monkeypatch.setattr(book_module, "AGAIN_SECONDS", 0.05)
    waiting: set[str] = set()
    made = task()
    mine = StoreBook(store, backend="local", logs=tmp_path / "runs", waiting=lambda: waiting)
    rows = Rows(mine)
    assert mine.claim([made.ids])[0].held_by == ""
    rows.begin([made])
    wait_for(lambda: list_training_jobs(store), "the job to be there")
    unreachable(True)
    waiting.add(made.ids[1])  # it has ended, and is nowhere but in the logs
    log_of(made.ids[1], tmp_path / "runs").parent.mkdir()
    log_of(made.ids[1], tmp_path / "runs").write_text('{"event": "end", "status": "finished", "tokens": 10}\n')
    rows.close([made])
    assert mine.close(patience=0.2) == "connection refused"
    unreachable(False)
    other = StoreBook(store, backend="local", logs=tmp_path / "others")
    found: list[Any] = []

    def taken() -> bool:
        found[:] = other.claim([made.ids])
        return not found[0].held_by

    wait_for(taken, "its runs to be free", seconds=20)
    assert found[0].adopted == {made.ids[1]}
    assert training_job(store, job_id(made)).state == "stopped"
    assert other.close() == ""
