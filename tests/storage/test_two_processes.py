"""Several stores of one process and other processes on one file: nobody pulls the write-ahead log away."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lawfit.errors import StoreError
from lawfit.records import Curve, Recipe, Run, RunStatus, StepsToTarget, TargetSweep
from lawfit.storage import Store, maintenance
from lawfit.storage import store as store_module

RECIPE = Recipe(name="shared")


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


def steps(number: int) -> StepsToTarget:
    return StepsToTarget(
        run_key=f"s{number}", params=1e8, batch_tokens=2**17, lr=1e-3, steps=100 * number, target_loss=3.2
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


WRITES: dict[str, tuple[str, Callable[[Store], Any]]] = {
    "runs": ("write_sweeps", lambda store: store.put_runs(RECIPE, [run(1), run(2)])),
    "steps to a target": (
        "write_targets",
        lambda store: store.put_targets([TargetSweep(recipe=RECIPE, rows=(steps(1), steps(2)))], named=True).inserted,
    ),
    "curves": (
        "write_curves",
        lambda store: store.put_curves(
            RECIPE.key, [Curve(run_key="r9", metric="loss", steps=(1, 2), numbers=(3.0, 2.9))]
        ),
    ),
}


@pytest.mark.parametrize("what", WRITES)
def test_a_second_ingest_on_postgresql_waits_for_the_first(
    what: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held inside its transaction, the first one is all that is being written; the second then finds everything."""
    name, write = WRITES[what]
    inner = getattr(store_module, name)
    inside, go_on, entered = threading.Event(), threading.Event(), []

    def held(*args: Any, **kwargs: Any) -> Any:
        entered.append(threading.get_ident())
        inside.set()
        found = inner(*args, **kwargs)
        assert go_on.wait(20)
        return found

    with Store.open(postgres_url) as first, Store.open(postgres_url) as second, ThreadPoolExecutor(2) as pool:
        first.put_runs(RECIPE, [run(9)])
        monkeypatch.setattr(store_module, name, held)
        one = pool.submit(write, first)
        assert inside.wait(20)
        other = pool.submit(write, second)
        time.sleep(0.5)
        waited = len(entered) == 1
        go_on.set()
        found, again = one.result(20), other.result(20)
    assert waited
    assert found != again  # the first inserts, the second finds it all there
    assert len(set(entered)) == 2


@pytest.mark.parametrize("content", [b"x", b"not a database", b"a,b\n1,2\n" * 1000], ids=["byte", "text", "table"])
def test_a_file_of_another_kind_is_refused_and_kept(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="not a SQLite file"):
        Store.open(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
