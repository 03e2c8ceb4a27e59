"""Several stores of one process and other processes on one file: nobody pulls the write-ahead log away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lawfit.errors import StoreError
from lawfit.records import Recipe, Run, RunStatus
from lawfit.storage import Store, maintenance


def run(number: int) -> Run:
    return Run(
        run_key=f"r{number}",
        params=1e8,
        tokens=2e9,
        batch_tokens=2**17,
        lr=1e-3 * number,
        status=RunStatus.FINISHED,
        loss=3.0,
    )


def test_another_process_closing_does_not_take_the_log_of_a_process_with_two_stores(tmp_path: Path) -> None:
    # POSIX drops all locks of a process on a file when any descriptor of it is closed: a store that opened the file
    # besides SQLite would unlock the other one, and the next process to leave would delete the log that is in use.
    path = tmp_path / "shared.db"
    recipe = Recipe(name="r")
    with Store.open(path) as first:
        first.put_runs(recipe, [run(1)])
        with Store.open(path) as second:
            second.recipes()
            code = f"from lawfit.storage import Store\nwith Store.open({str(path)!r}) as store: store.recipes()"
            subprocess.run([sys.executable, "-c", code], check=True)
            assert path.with_name("shared.db-shm").exists()
            first.put_runs(recipe, [run(2)])
            second.put_runs(recipe, [run(3)])
            assert [r.run_key for r in first.runs(recipe.key)] == ["r1", "r2", "r3"]
    assert maintenance.check(path).problems == ()


@pytest.mark.parametrize("content", [b"x", b"not a database", b"a,b\n1,2\n" * 1000], ids=["byte", "text", "table"])
def test_a_file_of_another_kind_is_refused_and_kept(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="not a SQLite file"):
        Store.open(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
