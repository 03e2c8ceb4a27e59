"""Many processes on one database: they wait for each other, nothing is lost or doubled, and Ctrl-C is heard."""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lawfit.storage import Store, maintenance, schema
from lawfit.storage import store as store_module
from lawfit.storage.database import network_file_system
from tests.storage.builders import recipe, run
from tests.storage.test_golden import GOLDEN, on_postgres

WRITER = """
import sys
from lawfit.records import Curve
from lawfit.storage import Store
from tests.storage.builders import recipe, run
url, me, overlap = sys.argv[1], int(sys.argv[2]), 5
with Store.open(url) as store:
    for batch in range(8):
        first = 10 * (me * 8 + batch)
        runs = [run(f"r{n}", seed=n) for n in range(max(0, first - overlap), first + 10)]
        store.put_runs(recipe(), runs)
        curves = [Curve(run_key=r.run_key, metric="loss", steps=(1, 2), numbers=(3.0, 2.0)) for r in runs]
        store.put_curves(recipe().key, curves)
"""
UPGRADER = """
import sys
from lawfit.storage import Store
with Store.open(sys.argv[1]) as store:
    print(len(store.runs(store.recipe().key)))
"""


def started(code: str, url: str, count: int) -> list[subprocess.Popen[str]]:
    words = [sys.executable, "-c", code, url]
    pipe = subprocess.PIPE
    return [subprocess.Popen([*words, str(n)], stdout=pipe, stderr=pipe, text=True) for n in range(count)]


@pytest.mark.soak
def test_overlapping_writers_lose_and_double_nothing(database_url: str) -> None:
    """Four processes that open a database which is not there yet, and write runs of which others write some too."""
    processes = started(WRITER, database_url, 4)
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors
    with Store.open(database_url) as store:
        runs = store.runs(recipe().key)
        assert sorted(int(each.run_key[1:]) for each in runs) == list(range(320))
        curves = store.curves(recipe().key, "loss")
        assert {key: steps.tolist() for key, (steps, _) in curves.items()} == {each.run_key: [1, 2] for each in runs}
    assert maintenance.check(database_url).problems == ()


@pytest.mark.soak
@pytest.mark.parametrize("revision", ["0001", "0003"])
def test_processes_that_upgrade_an_old_database_at_once(database_url: str, revision: str) -> None:
    golden = GOLDEN / f"store_{revision}.sqlite"
    if database_url.startswith("postgresql"):
        on_postgres(golden, revision, database_url)
    else:
        shutil.copy(golden, database_url)
    processes = started(UPGRADER, database_url, 4)
    done = [process.communicate(timeout=120) for process in processes]
    assert [(process.returncode, out) for process, (out, _) in zip(processes, done, strict=True)] == [(0, "3\n")] * 4, (
        done
    )
    assert maintenance.check(database_url).schema == schema.REVISIONS[-1]


def test_ctrl_c_is_heard_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "lawfit.db"
    code = f"print('go', flush=True)\n{WRITER}"
    with Store.open(path) as store:
        store.put_runs(recipe(), [run()])
        with store.writing():
            (process,) = started(code, str(path), 1)
            assert process.stdout is not None
            assert process.stdout.readline() == "go\n"
            time.sleep(2.5)  # imports, then the lock
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            begun = time.monotonic()
            _, error = process.communicate(timeout=60)
            assert time.monotonic() - begun < 5
            assert "KeyboardInterrupt" in error


class TestNetwork:
    MOUNTS = (
        "/dev/sda1 / ext4 rw 0 0\nserver:/home /home nfs4 rw 0 0\ntmpfs /home/me/scratch tmpfs rw 0 0\n"
        "//nas/x /mnt/my\\040share cifs rw 0 0\nbroken\n"
    )

    @pytest.mark.parametrize(
        ("path", "found"),
        [
            ("/var/lawfit.db", None),
            ("/home/me/lawfit.db", "nfs4"),
            ("/home/me/scratch/lawfit.db", None),
            ("/homework/lawfit.db", None),
            ("/mnt/my share/lawfit.db", "cifs"),
        ],
    )
    def test_which_place_is_one(self, path: str, found: str | None, tmp_path: Path) -> None:
        (tmp_path / "mounts").write_text(self.MOUNTS)
        assert network_file_system(Path(path), tmp_path / "mounts") == found
        assert network_file_system(Path(path), tmp_path / "nowhere") is None

    def test_a_database_there_is_warned_about_and_keeps_no_shared_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(store_module, "network_file_system", lambda _: "nfs4")
        with caplog.at_level(logging.WARNING, "lawfit"), Store.open(tmp_path / "lawfit.db") as store:
            store.put_runs(recipe(), [run()])
            assert [path.name for path in tmp_path.iterdir()] == ["lawfit.db"]
        assert "lies on a network file system (nfs4)" in caplog.text
        assert "use PostgreSQL (lawfit db copy" in caplog.text
