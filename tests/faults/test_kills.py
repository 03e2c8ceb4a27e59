"""SIGKILL at random moments of an ingest, each while it writes: whole files or none, and nothing lost or doubled.

The process is stopped (SIGSTOP) at a moment drawn by chance, and looked at while it stands still: only where it is in
the middle of a transaction, as the database itself says, is it killed and counted; otherwise it goes on to another.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from lawfit import pipeline
from lawfit.storage import Store
from tests.faults import children
from tests.faults.cuts import writers
from tests.faults.material import Part, emptied, held, logs, table

QUICK, SOAK = 2, 50


def test_killed_while_it_writes(database_url: str, tmp_path: Path) -> None:
    kills(database_url, tmp_path, QUICK)


@pytest.mark.soak
def test_killed_many_times_while_it_writes(database_url: str, tmp_path: Path) -> None:
    """Fifty times on SQLite; each on PostgreSQL takes six times as long."""
    kills(database_url, tmp_path, SOAK // 2 if "://" in database_url else SOAK)


def kills(url: str, folder: Path, count: int) -> None:
    parts = [
        table(folder / "one.csv", 200, note="x" * 1000),
        logs(folder / "logs", 6, steps=200),
        table(folder / "two.csv", 200, first=1000, note="y" * 1000),
    ]
    rng = random.Random(f"{url.partition(':')[0]} {count}")
    began = time.perf_counter()
    whole(url, parts, folder)  # the first process imports what the others are forked with
    emptied(url)
    seconds = whole(url, parts, folder)
    done = landed = in_part = lost = doubled = 0
    while done < count:
        emptied(url)
        if not killed(url, parts, folder, rng, seconds):
            continue
        after = held(url, parts)
        assert after.halves == (), f"kill {done + 1}"
        if not after.lost:  # it held the lock, and the commit of the last file had just landed
            landed += 1
            continue
        done += 1
        in_part += after.lost < sum(len(part.runs) + sum(part.points.values()) for part in parts)
        for part in parts:
            with Store.open(url) as store:
                pipeline.ingest(store, part.path)
        again = held(url, parts)
        lost += again.lost
        doubled += again.doubled
    print(
        f"\n{done} kills while it wrote, {in_part} of them with files before it stored (and {landed} as the last "
        f"commit had landed); lost {lost}, doubled {doubled}, half files 0; {time.perf_counter() - began:.0f} s"
    )
    assert (lost, doubled) == (0, 0)


def whole(url: str, parts: Sequence[Part], folder: Path) -> float:
    """Seconds that it takes where nobody kills it."""
    Store.open(url).close()  # made
    began = time.perf_counter()
    process = children.ingest(url, [part.path for part in parts], folder / "out")
    process.join(60)
    assert process.exitcode == 0, (folder / "out").read_text()
    assert held(url, parts).lost == 0
    return time.perf_counter() - began


def killed(url: str, parts: Sequence[Part], folder: Path, rng: random.Random, seconds: float) -> bool:
    """Whether it could be killed within a transaction: it may have ended before."""
    process = children.ingest(url, [part.path for part in parts], folder / "out")
    assert process.pid is not None
    time.sleep(rng.uniform(0.2, 0.9) * seconds)
    writing = False
    try:
        while not writing and not ended(process):
            send(process.pid, signal.SIGSTOP)
            writing = stands_still(process) and is_writing(url, process.pid)
            if not writing:
                send(process.pid, signal.SIGCONT)
                time.sleep(rng.uniform(0, 0.05) * seconds)
    finally:
        if not ended(process):
            send(process.pid, signal.SIGKILL)
        process.join(30)
    assert not writing or process.exitcode == -signal.SIGKILL
    return writing


def send(pid: int, what: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(pid, what)


def ended(process: BaseProcess) -> bool:
    return not process.is_alive()


def stands_still(process: BaseProcess) -> bool:
    """Waits until it does; False where it ended."""
    while not ended(process):
        with suppress(FileNotFoundError, ProcessLookupError):  # it may end while it is read
            if Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                return True
        time.sleep(0.0005)
    return False


def is_writing(url: str, pid: int) -> bool:
    """Whether the process is in the middle of a transaction that writes, as the database has it.

    On SQLite: it holds the lock of the one writer, byte 120 of the shared index. Asking SQLite itself could take ten
    seconds, as the process may stand still where others must wait for it. On PostgreSQL: the server says so.
    """
    if "://" in url:
        return bool(writers(url))
    index = Path(f"{url}-shm")
    if not index.exists():
        return False
    locks = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    mine = [words for words in locks if words[1:2] == ["POSIX"] and words[3:5] == ["WRITE", str(pid)]]
    inode = str(index.stat().st_ino)
    return any(w[5].endswith(f":{inode}") and int(w[6]) <= 120 <= int(w[7].replace("EOF", "120")) for w in mine)
