"""Databases that cannot be opened, read or written: a sentence, and nothing half-written."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from lawfit.errors import StoreError
from lawfit.records import Run
from lawfit.storage import Store
from tests.storage.builders import recipe, run


def many(count: int) -> list[Run]:
    big = run(extra={"config": "x" * 400})
    return [dataclasses.replace(big, run_key=f"r{number}") for number in range(count)]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("sweep.csv", b"lr,loss\n0.001,2.5\n", "is not a lawfit database"),
        ("noise.db", bytes(range(256)) * 8, "is not a lawfit database"),
        ("cut.db", b"SQLite format 3\x00" + b"\xff" * 4000, r"damaged|not a database|malformed"),
    ],
    ids=["table", "noise", "header-only"],
)
def test_a_file_that_is_no_database(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StoreError, match=sentence):
        Store.open(tmp_path / name)
    assert (tmp_path / name).read_bytes() == content


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder; name a file in it"):
        Store.open(tmp_path)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist; create it first"):
        Store.open(tmp_path / "nowhere" / "lawfit.db")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "no database given"),
        ("mysql://root@localhost/x", "'mysql' databases are not supported"),
        ("postgresql://:::/", "cannot be read"),
        ("postgresql://root:secret@127.0.0.1:1/x", "no connection to .*127.0.0.1:1/x.*Is the server running"),
    ],
    ids=["empty", "mysql", "garbled", "no-server"],
)
def test_urls_that_lead_nowhere(url: str, sentence: str) -> None:
    with pytest.raises(StoreError, match=sentence) as caught:
        Store.open(url)
    assert "secret" not in str(caught.value)


def test_a_missing_postgres_database(postgres_url: str) -> None:
    server, _, rest = postgres_url.rpartition("/")
    with pytest.raises(StoreError, match=r"no_such_db.*(does not exist|createdb)"):
        Store.open(f"{server}/no_such_db?{rest.partition('?')[2]}")


class TestReadOnly:
    @pytest.fixture
    def path(self, tmp_path: Path, read_only: Callable[[Path], None]) -> Path:
        """A database in a read-only place."""
        folder = tmp_path / "archive"
        folder.mkdir()
        with Store.open(folder / "lawfit.db") as store:
            store.put_runs(recipe(), [run("a")])
        read_only(folder)
        return folder / "lawfit.db"

    def test_can_be_read(self, path: Path) -> None:
        with Store.open(path) as store:
            assert store.runs(store.recipe().key) == [run("a")]

    def test_cannot_be_written(self, path: Path) -> None:
        with Store.open(path) as store:
            with pytest.raises(StoreError, match="is read-only"):
                store.put_runs(recipe(), [run("b")])
            assert store.runs(recipe().key) == [run("a")]

    def test_a_new_one_cannot_be_made(self, path: Path) -> None:
        with pytest.raises(StoreError, match=r"cannot be opened|read-only"):
            Store.open(path.with_name("new.db"))

    def test_an_unfinished_log_is_not_ignored(self, tmp_path: Path, read_only: Callable[[Path], None]) -> None:
        """Its changes stand beside the file; without them an older state would be read."""
        folder = tmp_path / "archive"
        folder.mkdir()
        with Store.open(tmp_path / "live.db") as store:
            store.put_runs(recipe(), [run("a")])
            for suffix in ("", "-wal"):
                (folder / f"lawfit.db{suffix}").write_bytes((tmp_path / f"live.db{suffix}").read_bytes())
        read_only(folder)
        with pytest.raises(StoreError, match="was not closed cleanly"):
            Store.open(folder / "lawfit.db")

    def test_postgres(self, postgres_url: str) -> None:
        with Store.open(postgres_url) as store:
            store.put_runs(recipe(), [run("a")])
        with Store.open(postgres_url + "%20-cdefault_transaction_read_only%3Don") as store:
            assert store.runs(recipe().key) == [run("a")]
            with pytest.raises(StoreError, match="is read-only; nothing was written"):
                store.put_runs(recipe(), [run("b")])


class TestFullDisk:
    def test_a_write_that_does_not_fit_leaves_what_was_there(self, small_disk: Callable[[str], Path]) -> None:
        path = small_disk("2m") / "lawfit.db"
        with Store.open(path) as store:
            store.put_runs(recipe(), many(50))
            with pytest.raises(StoreError, match="is full"):
                store.put_runs(recipe("big", optimizer="lion"), many(20_000))
            assert [(s.recipe.name, s.runs) for s in store.recipes()] == [("sweep", 50)]
        with Store.open(path) as store:
            assert len(store.runs(recipe().key)) == 50
            assert store.put_runs(recipe(), [run("one more")]) == (1, 0, 0)

    def test_no_room_to_begin_with(self, small_disk: Callable[[str], Path]) -> None:
        folder = small_disk("1m")
        with (folder / "ballast").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        with pytest.raises(StoreError, match="full"):
            Store.open(folder / "lawfit.db")
        (folder / "ballast").unlink()
        with Store.open(folder / "lawfit.db") as store:
            assert store.recipes() == []


class TestLocked:
    def test_a_writer_waits_its_turn_then_says_so(self, tmp_path: Path) -> None:
        path = tmp_path / "lawfit.db"
        Store.open(path).close()
        with (
            closing(sqlite3.connect(path, isolation_level=None)) as other,
            Store.open(path, lock_wait_seconds=0.2) as store,
        ):
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked by another process; nothing was written"):
                store.put_runs(recipe(), [run()])
            assert store.recipes() == []  # reading goes on meanwhile
            other.execute("ROLLBACK")
            assert store.put_runs(recipe(), [run()]) == (1, 0, 0)

    def test_a_new_one_that_is_locked(self, tmp_path: Path) -> None:
        path = tmp_path / "lawfit.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreError, match="locked by another process"):
                Store.open(path, lock_wait_seconds=0.2)


def test_a_driver_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'lawfit\[postgres\]'"):
        Store.open("postgresql://nobody@127.0.0.1:1/x")
