"""Ctrl-C and SIGKILL while an ingest writes: nothing is half-written, and the next one works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lawfit import pipeline
from lawfit.storage import Store
from tests.ingest.tables import rows, write_csv

pytestmark = pytest.mark.slow

ROWS = 8_000  # with long notes: what a transaction writes is seen from its second megabyte on
CODE = """
import sys
from lawfit import pipeline
with pipeline.open_store(sys.argv[1]) as store:
    pipeline.ingest(store, sys.argv[2])
"""


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    note = "x" * 1200
    table = rows(*({"learning_rate": f"{n % 97 + 1}e-4", "note": f"{note}{n}"} for n in range(ROWS)))
    return write_csv(tmp_path_factory.mktemp("big") / "big.csv", table)


@contextmanager
def writer_seen(url: str) -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether another process has runs in the database that are not committed."""
    if "://" not in url:
        # The page cache holds 2 MB; what a transaction writes beyond that stands in the log before the commit.
        log = Path(f"{url}-wal")
        yield lambda: log.exists() and log.stat().st_size > 1_000_000
        return
    import psycopg

    query = """
        SELECT count(*) FROM pg_locks JOIN pg_class ON relation = pg_class.oid
        WHERE relname = 'runs' AND relnamespace = current_schema()::regnamespace
        AND mode = 'RowExclusiveLock' AND pid <> pg_backend_pid()
    """
    plain = url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(plain, autocommit=True) as connection:
        yield lambda: bool((connection.execute(query).fetchone() or (0,))[0])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM], ids=lambda s: s.name)
def test_nothing_is_half_written(database_url: str, big: Path, tmp_path: Path, how: signal.Signals) -> None:
    small = write_csv(tmp_path / "small.csv", rows({}, {"learning_rate": "0.004"}))
    with pipeline.open_store(database_url) as store:
        pipeline.ingest(store, small)
    process = subprocess.Popen([sys.executable, "-c", CODE, database_url, str(big)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    with writer_seen(database_url) as writing:
        while not writing():
            assert process.poll() is None, "the ingest ended before it was seen to write"
            assert time.monotonic() < deadline, "the ingest was never seen to write"
            time.sleep(0.001)
    os.kill(process.pid, how)
    assert process.wait(timeout=60) != 0, "the ingest was done before the signal came"
    with Store.open(database_url) as store:
        assert [(summary.recipe.name, summary.runs) for summary in store.recipes()] == [("small", 2)]
        report = pipeline.ingest(store, big)
        assert report.inserted == ROWS


def test_ctrl_c_while_reading_leaves_the_store_usable(store: Store, big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process, as in a notebook: the interrupt falls between the rows of a write."""
    from lawfit.storage import sweeps

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sweeps, "_insert_runs", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pipeline.ingest(store, big)
    assert store.recipes() == []  # the recipe had been inserted in that transaction
    assert pipeline.ingest(store, big).inserted == ROWS
