"""`lawfit db copy`, `restore`, `compact`: equal to the last row, or refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from lawfit.errors import StoreError
from lawfit.storage import Store, copying, maintenance
from lawfit.storage.copying import table_hashes
from tests.exchange.test_round_trip import content, fill
from tests.storage.builders import fit, recipe, run


def filled(url: str | Path) -> None:
    with Store.open(url) as store:
        fill(store)
        store.put_fit(fit(store.recipe("second").key, payload={"ü": [1e-310, 2**60]}))
        store.put_prediction("p", "f1", {"params": 7e9}, {"lr": 0.1 + 0.2})


def hashes(url: str | Path) -> dict[str, str]:
    with Store.open(url) as store, store.reading() as connection:
        return table_hashes(connection)


def test_there_and_back(database_url: str, postgres_url: str, tmp_path: Path) -> None:
    """From either kind to a server and from there to a file: every table gives the same hash, and ids go on."""
    filled(database_url)
    there = copying.copy(database_url, postgres_url)
    back = copying.copy(postgres_url, tmp_path / "back.db")
    assert there.hashes == back.hashes == hashes(database_url) == hashes(tmp_path / "back.db")
    assert there.rows["runs"] == 21
    assert there.rows["predictions"] == 1
    for url in (postgres_url, tmp_path / "back.db"):
        with Store.open(database_url) as old, Store.open(url) as new:
            assert content(new) == content(old)
            assert new.fit("f1") == old.fit("f1")
            assert new.put_runs(recipe("new"), [run("x")]) == (1, 0, 0)
            new.put_fit(fit(recipe("new").key, "f2"))


def test_file_to_file_leaves_one_file(tmp_path: Path) -> None:
    filled(tmp_path / "a.db")
    copying.copy(tmp_path / "a.db", tmp_path / "b.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db", "b.db"]
    assert hashes(tmp_path / "a.db") == hashes(tmp_path / "b.db")


def test_the_hash_sees_any_change_but_no_order(tmp_path: Path) -> None:
    for name, keys in (("a.db", "abc"), ("b.db", "abc")):
        with Store.open(tmp_path / name) as store:
            store.put_runs(recipe(), [run(key) for key in keys])
    with closing(sqlite3.connect(tmp_path / "b.db")) as connection:  # the same rows, stored in another order
        rows = connection.execute("SELECT * FROM runs ORDER BY id").fetchall()
        connection.execute("DELETE FROM runs")
        connection.executemany(f"INSERT INTO runs VALUES ({','.join('?' * len(rows[0]))})", rows[::-1])
        connection.commit()
        assert hashes(tmp_path / "a.db")["runs"] == hashes(tmp_path / "b.db")["runs"]
        connection.execute("UPDATE runs SET loss = ? WHERE run_key = 'b'", (float(np.nextafter(2.75, 3)),))
        connection.commit()
    assert hashes(tmp_path / "a.db")["runs"] != hashes(tmp_path / "b.db")["runs"]


def test_a_target_that_holds_something_is_refused(database_url: str, tmp_path: Path) -> None:
    filled(tmp_path / "a.db")
    with Store.open(database_url) as store:
        store.put_runs(recipe("mine"), [run()])
    before = hashes(database_url)
    with pytest.raises(StoreError, match="holds recipes already; a copy goes into an empty database"):
        copying.copy(tmp_path / "a.db", database_url)
    assert hashes(database_url) == before


def test_a_copy_that_is_not_equal_is_not_kept(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "a.db")
    lossy = copying.insert_many
    monkeypatch.setattr(
        copying, "insert_many", lambda c, t, n, rows: lossy(c, t, n, list(rows)[: -1 if t.name == "curves" else None])
    )
    for target in (database_url, tmp_path / "new.db"):
        with pytest.raises(StoreError, match="gives back other rows of curves than were written; nothing was kept"):
            copying.copy(tmp_path / "a.db", target)
    with Store.open(database_url) as store:
        assert store.recipes() == []
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize("case", ["itself", "no source", "no folder", "older"])
def test_copies_that_cannot_be_made(case: str, tmp_path: Path) -> None:
    source, target = tmp_path / "a.db", tmp_path / "b.db"
    if case != "no source":
        filled(source)
    if case == "older":
        with closing(sqlite3.connect(source)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '0001'")
            connection.commit()
    target = {"itself": source, "no folder": tmp_path / "nowhere" / "b.db"}.get(case, target)
    sentence = {
        "itself": "cannot be copied onto itself",
        "no source": "there is no database",
        "no folder": "does not exist; create it first",
        "older": "run lawfit db upgrade",
    }
    with pytest.raises(StoreError, match=sentence[case]):
        copying.copy(source, target)
    assert case == "itself" or not target.exists()


class TestRestore:
    def test_a_backup_takes_the_place(self, tmp_path: Path) -> None:
        path, saved = tmp_path / "lawfit.db", tmp_path / "saved.db"
        filled(path)
        maintenance.backup(path, saved)
        before = hashes(path)
        with Store.open(path) as store:
            store.put_runs(recipe("later"), [run("z")])
        later = hashes(path)
        with pytest.raises(StoreError, match="is there already; --replace moves it aside"):
            maintenance.restore(saved, path)
        assert hashes(path) == later
        aside = maintenance.restore(saved, path, replace=True)
        assert aside == tmp_path / "lawfit.db.before-restore"
        assert (hashes(path), hashes(aside)) == (before, later)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["lawfit.db", aside.name, "saved.db"]

    def test_where_there_is_none(self, tmp_path: Path) -> None:
        filled(tmp_path / "lawfit.db")
        maintenance.backup(tmp_path / "lawfit.db", tmp_path / "saved.db")
        assert maintenance.restore(tmp_path / "saved.db", tmp_path / "new.db") is None
        assert hashes(tmp_path / "new.db") == hashes(tmp_path / "lawfit.db")

    def test_a_damaged_backup_changes_nothing(self, tmp_path: Path) -> None:
        filled(tmp_path / "lawfit.db")
        maintenance.backup(tmp_path / "lawfit.db", tmp_path / "saved.db")
        content = bytearray((tmp_path / "saved.db").read_bytes())
        content[8192:20000] = b"\xaa" * (20000 - 8192)
        (tmp_path / "saved.db").write_bytes(content)
        before = hashes(tmp_path / "lawfit.db")
        with pytest.raises(StoreError):
            maintenance.restore(tmp_path / "saved.db", tmp_path / "lawfit.db", replace=True)
        assert hashes(tmp_path / "lawfit.db") == before
        assert sorted(p.name for p in tmp_path.iterdir()) == ["lawfit.db", "saved.db"]

    def test_a_database_in_use_is_left(self, tmp_path: Path) -> None:
        filled(tmp_path / "lawfit.db")
        maintenance.backup(tmp_path / "lawfit.db", tmp_path / "saved.db")
        with Store.open(tmp_path / "lawfit.db") as store, store.reading() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM runs").scalar()
            with pytest.raises(StoreError, match="in use by another process"):
                maintenance.restore(tmp_path / "saved.db", tmp_path / "lawfit.db", replace=True)
            assert store.recipe("second")


def test_compacting_joins_chunks_and_frees_space(database_url: str) -> None:
    with Store.open(database_url) as store:
        store.put_runs(recipe(), [run("a"), run("b")])
        key = recipe().key
        for step in range(0, 9000, 100):
            store.append_curve(key, "a", "loss", range(step, step + 100), np.arange(100) / (step + 1))
        store.append_curve(key, "b", "loss", [1], [float("nan")])
        before = [column.tobytes() for run_key in "ab" for column in store.curve(key, run_key, "loss")]
    done = maintenance.compact(database_url)
    assert (done.chunks_before, done.chunks_after) == (91, 4)
    assert done.bytes_after < done.bytes_before
    with Store.open(database_url) as store:
        assert [column.tobytes() for run_key in "ab" for column in store.curve(key, run_key, "loss")] == before
        assert store.append_curve(key, "a", "loss", [9000], [0.5]) == 9001
    assert maintenance.check(database_url).problems == ()
