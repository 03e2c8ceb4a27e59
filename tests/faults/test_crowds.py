"""Many ingests at once over folders that overlap: no error reaches anyone, nothing is lost or doubled."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.faults import children
from tests.faults.material import held, logs, table


def test_three_at_once(database_url: str, tmp_path: Path) -> None:
    crowd(database_url, tmp_path, processes=3, tables=6, rows=20)


@pytest.mark.soak
def test_eight_at_once(database_url: str, tmp_path: Path) -> None:
    crowd(database_url, tmp_path, processes=8, tables=24, rows=100)


def crowd(url: str, folder: Path, *, processes: int, tables: int, rows: int) -> None:
    """A tree of folders with two tables each and one of logs: some are given all of it, others parts in their order.

    There is no database yet: making it is part of the crowd's work.
    """
    rng, tree = random.Random(processes), folder / "tree"
    parts = [table(tree / f"part{n // 2}" / f"t{n}.csv", rows, first=1 + n * rows, note="x") for n in range(tables)]
    parts.append(logs(tree / "logs", 10, steps=100))
    inner = sorted(tree.iterdir())
    given = [[tree] if number % 3 == 0 else rng.sample(inner, len(inner) // 2 + 1) for number in range(processes)]
    given[1] = [path for path in inner if path not in given[2]] + given[1][:2]
    began = time.perf_counter()
    crowded = [children.ingest(url, mine, folder / f"out{number}") for number, mine in enumerate(given)]
    for process in crowded:
        process.join(240)
    said = [(folder / f"out{number}").read_text() for number in range(processes)]
    assert [process.exitcode for process in crowded] == [0] * processes, said
    assert not any(word in text for text in said for word in ("Traceback", "locked", "lawfit:", "lost")), said
    found = held(url, parts)
    wanted = sum(len(part.runs) for part in parts)
    print(
        f"\n{processes} processes at once, {wanted:,} runs: lost {found.lost}, doubled {found.doubled}; "
        f"{time.perf_counter() - began:.0f} s"
    )
    assert (found.lost, found.doubled) == (0, 0)
