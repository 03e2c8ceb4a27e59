"""How many threads a process on the CPU may take."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from lawfit.launch import Job, JobStatus, LocalLauncher, cpu
from lawfit.launch.cpu import Cores
from tests.launch.conftest import wait_for


@pytest.mark.parametrize(
    ("count", "busy", "processes", "threads", "words"),
    [
        (2, 0.0, 1, 2, "2 threads"),
        (2, 0.0, 2, 1, "1 thread"),
        (2, 2.0, 1, 1, "1 thread, as 2.0 of 2 cores are busy"),
        (8, 2.1, 1, 6, "6 threads, as 2.1 of 8 cores are busy"),
        (8, 2.1, 4, 1, "1 thread, as 2.1 of 8 cores are busy"),
        (1.5, 0.0, 1, 1, "1 thread"),
        (64, 0.1, 1, 64, "64 threads"),
    ],
)
def test_idle_cores_are_shared_out(count: float, busy: float, processes: int, threads: int, words: str) -> None:
    cores = Cores(count=count, busy=busy)
    assert (cores.threads(processes), cores.words(processes)) == (threads, words)


@pytest.mark.parametrize(
    ("text", "count"), [("max 100000", 4.0), ("150000 100000", 1.5), ("800000 100000", 4.0), ("50000 100000", 1.0)]
)
def test_a_container_has_its_share(text: str, count: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(cpu, "_QUOTAS", (tmp_path / "cpu.max", tmp_path / "none"))
    monkeypatch.setattr(cpu, "_own_cores", lambda: frozenset(range(4)))
    monkeypatch.setattr(cpu, "_times", lambda own: (0.0, time.monotonic()))
    assert cpu.look(0.01).count == count


def test_work_of_its_own_cores_alone_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  1 0 0 9 0 0 0 0 0 0\ncpu0 10 0 5 80 5 0 0 0 7 0\ncpu1 90 0 0 10 0 0 0 0 0 0\nintr 5\n")
    monkeypatch.setattr(cpu, "_STAT", stat)
    assert cpu._times(frozenset({0})) == (15.0, 100.0)
    assert cpu._times(frozenset({0, 1})) == (105.0, 200.0)
    monkeypatch.setattr(cpu, "_STAT", tmp_path / "none")
    monkeypatch.setattr(cpu.os, "getloadavg", lambda: (1.5, 0.0, 0.0))
    assert cpu._times(frozenset({0})) is None
    assert cpu._busy(frozenset({0}), 0.01) == 1.5


@pytest.mark.parametrize(("busy", "said"), [(2.0, "1"), (0.0, "2")])
def test_a_job_is_told_and_so_is_whoever_launched_it(
    busy: float, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(cpu, "look", lambda: Cores(count=2, busy=busy))
    launcher = LocalLauncher()
    try:
        code = "import os, sys; sys.stderr.write(os.environ['OMP_NUM_THREADS'])"
        launcher.submit(Job(name="a", command=(sys.executable, "-IS", "-c", code), folder=tmp_path))
        wait_for(lambda: launcher.state("a").status is JobStatus.ENDED, "its end", 30)
        assert launcher.logs("a") == said
        assert launcher.state("a").place.startswith(f"cpu ({said} thread")
    finally:
        launcher.close()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    again = LocalLauncher()
    try:
        again.submit(Job(name="b", command=(sys.executable, "-IS", "-c", code), folder=tmp_path))
        wait_for(lambda: again.state("b").status is JobStatus.ENDED, "its end", 30)
        assert (again.logs("b"), again.state("b").place) == ("3", "cpu")  # whoever says it is obeyed
    finally:
        again.close()
