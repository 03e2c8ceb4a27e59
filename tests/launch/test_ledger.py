"""Which launch has given what to a cluster, where launches die and machines differ."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from lawfit.launch.backends import ledger as module
from lawfit.launch.backends.ledger import Ledger

JOBS = [{"name": "a", "command": ["true"], "claims": ["x"], "watched": []}]


def test_batches_are_seen_by_the_others_alone(tmp_path: Path) -> None:
    first, second = Ledger(tmp_path), Ledger(tmp_path)
    batch = first.new({"cwd": "/"}, JOBS)
    assert first.others() == []
    (seen,) = second.others()
    assert (seen.token, seen.jobs, seen.launcher, seen.process) == (batch.token, JOBS, first.launcher, os.getpid())
    first.forget(batch)
    assert second.others() == []
    first.close()
    second.close()


def test_a_launch_lives_until_it_lets_go_or_on_another_machine_falls_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Ledger(tmp_path), Ledger(tmp_path)
    first.new({}, JOBS)
    (batch,) = second.others()
    assert second.lives(batch)
    first._alive.close()  # as when its process is killed: the lock is gone, the file stays
    assert not second.lives(batch)
    batch.host = "elsewhere"  # whose locks may not be seen here
    assert second.lives(batch)
    old = time.time() - module.STALE_SECONDS - 1
    os.utime(tmp_path / f"{first.launcher}.alive", (old, old))
    assert not second.lives(batch)
    (tmp_path / f"{first.launcher}.alive").unlink()
    assert not second.lives(batch)
    second.close()


def test_a_dead_launchs_batch_is_taken_over_by_one(tmp_path: Path) -> None:
    dead, second, third = (Ledger(tmp_path) for _ in range(3))
    dead.new({}, JOBS)
    dead._alive.close()
    (for_second,), (for_third,) = second.others(), third.others()
    assert second.take_over(for_second)
    assert not third.take_over(for_third)
    assert [batch.launcher for batch in third.others()] == [second.launcher]
    assert third.lives(third.others()[0])
    second.close()
    third.close()


def test_one_at_a_time_is_alone(tmp_path: Path) -> None:
    ledgers = [Ledger(tmp_path) for _ in range(4)]
    inside, most = 0, 0
    guard = threading.Lock()

    def work(ledger: Ledger) -> None:
        nonlocal inside, most
        for _ in range(10):
            with ledger.alone():
                with guard:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.001)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=work, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    for ledger in ledgers:
        ledger.close()


def test_a_lock_that_a_launch_died_with_is_broken(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    lock = tmp_path / "ledger.lock"
    lock.touch()
    old = time.time() - module.LOCK_SECONDS - 1
    os.utime(lock, (old, old))
    with ledger.alone():
        assert lock.exists()
    assert not lock.exists()
    ledger.close()
