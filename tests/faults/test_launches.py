"""Launches whose parts die: no run lost, none done twice. A trainer of a user's own writes down what it did."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lawfit import pipeline
from lawfit.launch import LaunchError, LaunchOptions, Progress, read_template
from lawfit.storage import Store
from lawfit.storage.training_jobs import list_training_jobs
from tests.launch.own_trainer import OwnTrainer

WAIT_SECONDS = 120.0


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[OwnTrainer]:
    made = OwnTrainer.written(tmp_path)
    yield made
    if (tmp_path / "journal").exists():
        for process in made.running():
            os.kill(process, signal.SIGKILL)


def begin(trainer: OwnTrainer, grid: Path, *, logs: str = "runs", sleep: float = 0.2, url: str = "lawfit.db") -> Any:
    """`lawfit launch` as a process of its own."""
    words = ["launch", str(grid), "--cpu", "--workers-per-gpu", "2", "--logs", logs, "--database", url, "--json"]
    words += ["--template", trainer.template(sleep=sleep)]
    command = [sys.executable, "-m", "lawfit", *words]
    return subprocess.Popen(command, cwd=trainer.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Any, what: str) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


def ended(trainer: OwnTrainer) -> int:
    return len(trainer.counts("end"))


def lost_and_doubled(trainer: OwnTrainer, store: Store, runs: int) -> tuple[int, int]:
    """Runs that are not stored, and runs that came to an end more than once."""
    stored = {run.run_key for summary in store.recipes() for run in store.runs(summary.recipe.key)}
    return runs - len(stored), sum(count - 1 for count in trainer.counts("end").values())


def kill_launchers(trainer: OwnTrainer, kills: int, rates: int) -> None:
    """Launchers that are killed at some moment, and the same command until all is done."""
    rng, sleep = random.Random(kills), 0.2 if kills == 1 else 1.5
    grid, runs = trainer.grid(lr=[0.001 * (n + 1) for n in range(rates)]), 2 * rates
    for number in range(kills):
        with begin(trainer, grid, sleep=sleep) as process:
            wait_for(lambda n=number: ended(trainer) > n or process.poll() is not None, "a run to end")
            time.sleep(rng.random() * 2 * sleep)
            process.kill()
            process.communicate()
    with Store.open(trainer.folder / "lawfit.db") as store:
        assert all(job.lost or job.state == "ended" for job in list_training_jobs(store))
        with begin(trainer, grid, sleep=sleep) as process:
            document = json.loads(process.communicate(timeout=WAIT_SECONDS)[0])
        assert (process.returncode, document["failures"], document["not_stored"]) == (0, [], "")
        jobs = list_training_jobs(store, limit=1000)
        assert {job.state for job in jobs} == {"ended"}
        assert lost_and_doubled(trainer, store, runs) == (0, 0)
        reasons = [attempt.reason for job in jobs for attempt in job.attempts]
        lost = reasons.count("launcher_lost")
        print(f"\n{kills} launchers killed, {runs} runs: {lost} attempts ended with them, lost 0, done twice 0")
        assert lost or kills == 1


def test_a_launcher_that_is_killed(trainer: OwnTrainer) -> None:
    kill_launchers(trainer, kills=1, rates=3)


@pytest.mark.soak
def test_a_launcher_that_is_killed_ten_times(trainer: OwnTrainer) -> None:
    kill_launchers(trainer, kills=10, rates=20)


def two_launchers(trainer: OwnTrainer, url: str, rates: int, *, killing: bool) -> None:
    """On one grid and one store, with logs in folders of their own; the first may be killed on the way."""
    grid, runs = trainer.grid(lr=[0.001 * (n + 1) for n in range(rates)]), 2 * rates
    first = begin(trainer, grid, logs="runs-1", url=url)
    wait_for(lambda: trainer.counts("start") or first.poll() is not None, "the first run to start")
    second = begin(trainer, grid, logs="runs-2", url=url)
    with first, second:
        if killing:
            wait_for(lambda: ended(trainer) > 1, "two runs to end")
            first.kill()
        said = first.communicate(timeout=WAIT_SECONDS), second.communicate(timeout=WAIT_SECONDS)
    assert second.returncode == 0, said[1]
    document = json.loads(said[1][0])
    with Store.open(url) as store:
        lost, doubled = lost_and_doubled(trainer, store, runs)
        assert (lost, doubled) == (0, 0), said[1]
    if not killing:
        assert first.returncode == 0
        done = len(json.loads(said[0][0])["finished"]), len(document["finished"]), len(document["elsewhere"])
        assert done == (runs, 0, runs - document["known"])


@pytest.mark.soak
def test_two_launchers_on_one_grid(trainer: OwnTrainer) -> None:
    two_launchers(trainer, str(trainer.folder / "lawfit.db"), 5, killing=False)


@pytest.mark.soak
def test_two_launchers_on_one_grid_of_which_one_is_killed(trainer: OwnTrainer, database_url: str) -> None:
    """A run that the dead one had ended and not stored is trained again; at most as many as it trained at a time."""
    two_launchers(trainer, database_url, 10, killing=True)


def test_a_command_that_is_killed_is_tried_again(trainer: OwnTrainer) -> None:
    killed: list[int] = []

    def kill(_: Progress) -> None:
        if not killed and trainer.counts("start"):
            killed.extend(trainer.running()[:1])
            for process in killed:
                os.kill(process, signal.SIGKILL)

    options = LaunchOptions(
        cpu=True, workers=2, logs=trainer.folder / "runs", template=read_template(trainer.template(sleep=0.5))
    )
    with Store.open(trainer.folder / "lawfit.db") as store:
        report = pipeline.launch(store, [trainer.grid(lr=[0.001, 0.01])], options, progress=kill)
        assert killed
        assert report.new == 4
        assert lost_and_doubled(trainer, store, 4) == (0, 0)
        tried = [[attempt.reason for attempt in job.attempts] for job in list_training_jobs(store)]
        assert sorted(tried) == [["done"]] * 3 + [["killed", "done"]]


def test_a_folder_of_logs_that_vanishes_is_a_sentence(trainer: OwnTrainer) -> None:
    gone: list[bool] = []

    def vanish(_: Progress) -> None:
        if not gone and trainer.counts("start"):
            shutil.rmtree(trainer.folder / "runs", ignore_errors=True)
            gone.append(True)

    grid = trainer.grid(lr=[0.001, 0.01])
    options = LaunchOptions(
        cpu=True, workers=2, logs=trainer.folder / "runs", template=read_template(trainer.template(sleep=0.5))
    )
    with Store.open(trainer.folder / "lawfit.db") as store:
        with pytest.raises(LaunchError, match=r"runs cannot be written"):
            pipeline.launch(store, [grid], options, progress=vanish)
        assert {job.state for job in list_training_jobs(store)} == {"stopped"}
        report = pipeline.launch(store, [grid], options)
        assert report.result is not None
        assert (report.new, len(report.result.finished)) == (4, 4)


class Gate:
    """A port before a server: while it is shut, connections are refused and those that there are end."""

    def __init__(self, host: str, port: int) -> None:
        self._behind = host, port
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._listening: socket.socket | None = None
        self._open: list[socket.socket] = []
        self.open()

    def open(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=[self._listening], daemon=True).start()

    def shut(self) -> None:
        if self._listening is not None:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._listening = None
        for each in self._open:
            with closing(each):
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
        self._open.clear()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                near, _ = listening.accept()
            except OSError:
                return
            far = socket.create_connection(self._behind)
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=[one, other], daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            return


@contextmanager
def gated(url: str) -> Iterator[tuple[Gate, str]]:
    """A gate before a PostgreSQL server, and the URL through it."""
    plain = sa.make_url(url)
    gate = Gate(plain.host or "127.0.0.1", plain.port or 5432)
    try:
        yield gate, plain.set(host="127.0.0.1", port=gate.port).render_as_string(hide_password=False)
    finally:
        gate.shut()


def unreachable(trainer: OwnTrainer, url: str, seconds: float, rates: int) -> None:
    grid, runs = trainer.grid(lr=[0.001 * (n + 1) for n in range(rates)]), 2 * rates
    with gated(url) as (gate, through), begin(trainer, grid, url=through, sleep=0.5) as process:
        wait_for(lambda: ended(trainer) > 1 or process.poll() is not None, "two runs to end")
        before = ended(trainer)
        gate.shut()
        time.sleep(seconds)
        meanwhile = ended(trainer) - before
        gate.open()
        out, err = process.communicate(timeout=WAIT_SECONDS)
    document = json.loads(out)
    assert (process.returncode, document["not_stored"]) == (0, ""), err
    assert meanwhile >= min(2, runs - before)  # it went on
    with Store.open(url) as store:
        assert lost_and_doubled(trainer, store, runs) == (0, 0)
        jobs = list_training_jobs(store, limit=1000)
        assert len(jobs) == runs
        assert {(job.state, len(job.attempts)) for job in jobs} == {("ended", 1)}
    print(f"\nunreachable for {seconds:g} s, in which {meanwhile} of {runs} runs ended: lost 0, done twice 0")


@pytest.mark.soak
def test_a_store_that_is_unreachable_for_some_seconds(trainer: OwnTrainer, postgres_url: str) -> None:
    unreachable(trainer, postgres_url, 2.0, 4)


@pytest.mark.soak
def test_a_store_that_is_unreachable_for_a_minute(trainer: OwnTrainer, postgres_url: str) -> None:
    unreachable(trainer, postgres_url, 60.0, 30)


@pytest.mark.soak
def test_a_store_that_is_away_when_a_launch_ends(
    trainer: OwnTrainer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives up; another launch with logs elsewhere takes its runs at once and from its logs, and trains none."""
    monkeypatch.setattr("lawfit.pipeline.launching.PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr("lawfit.pipeline.launching.AGAIN_SECONDS", 0.5)
    grid = trainer.grid(lr=[0.001, 0.01])
    template = read_template(trainer.template(sleep=0.5))
    options = LaunchOptions(cpu=True, workers=2, logs=trainer.folder / "runs", template=template)
    with gated(postgres_url) as (gate, through):

        def shut(_: Progress) -> None:
            if trainer.counts("start"):
                gate.shut()

        with Store.open(through) as store:
            report = pipeline.launch(store, [grid], options, progress=shut)
        assert report.not_stored
        assert ended(trainer) == 4
        gate.open()
        began = time.monotonic()
        with begin(trainer, grid, logs="runs-2", url=through, sleep=0.5) as process:
            out, err = process.communicate(timeout=WAIT_SECONDS)
        assert process.returncode == 0, err
        assert time.monotonic() - began < 60  # not the two minutes until it is not heard of
    with Store.open(postgres_url) as store:
        assert lost_and_doubled(trainer, store, 4) == (0, 0), json.loads(out)
    assert set(trainer.counts("start").values()) == {1}
