"""`lawfit db upgrade`, `backup`, `check`."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from lawfit.errors import StoreError
from lawfit.storage import Store, maintenance, schema
from tests.storage.builders import fit, recipe, run


def filled(url: str) -> None:
    with Store.open(url) as store:
        store.put_runs(recipe(), [run("a"), run("b")])
        store.put_fit(fit(recipe().key))
        store.append_curve(recipe().key, "a", "loss", [1, 2], [3.0, 2.5])


def test_check_counts_and_finds_nothing_wrong(database_url: str) -> None:
    filled(database_url)
    report = maintenance.check(database_url)
    assert report.problems == ()
    assert report.schema == schema.REVISIONS[-1]
    assert {name: report.rows[name] for name in ("recipes", "runs", "fits", "curves", "optima")} == {
        "recipes": 1, "runs": 2, "fits": 1, "curves": 1, "optima": 0,
    }  # fmt: skip


def test_check_finds_a_recipe_changed_by_hand(database_url: str) -> None:
    filled(database_url)
    with Store.open(database_url) as store, store.writing() as connection:
        connection.execute(sa.text("UPDATE recipes SET optimizer = 'muon'"))
    assert maintenance.check(database_url).problems == ("recipe 'sweep' was changed by hand: its key does not fit",)


def test_check_finds_damage(tmp_path: Path) -> None:
    path = tmp_path / "lawfit.db"
    with Store.open(path) as store:
        store.put_runs(recipe(), [run(f"r{n}", extra={"x": "y" * 300}) for n in range(500)])
    content = bytearray(path.read_bytes())
    for page in range(20, 40):
        content[page * 4096 : page * 4096 + 200] = b"\xaa" * 200
    path.write_bytes(content)
    assert maintenance.check(path).problems


def test_check_makes_nothing(tmp_path: Path) -> None:
    report = maintenance.check(tmp_path / "lawfit.db")
    assert report.problems == (f"there is no database {tmp_path / 'lawfit.db'}; lawfit ingest creates it",)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["lawfit.db", "50%25 #1?.db"], ids=["plain", "not a URL as it stands"])
def test_backup_of_a_database_in_use(name: str, tmp_path: Path) -> None:
    with Store.open(tmp_path / name) as store:
        store.put_runs(recipe(), [run("a")])
        maintenance.backup(tmp_path / name, tmp_path / "copy.db")
        store.put_runs(recipe(), [run("b")])
    with Store.open(tmp_path / "copy.db") as copy:
        assert copy.runs(recipe().key) == [run("a")]
    assert {path.name for path in tmp_path.iterdir()} == {"copy.db", name}


@pytest.mark.parametrize("case", ["exists", "no-folder", "no-source", "postgres"])
def test_backups_that_cannot_be_made(tmp_path: Path, case: str) -> None:
    source, target = tmp_path / "lawfit.db", tmp_path / "copy.db"
    if case != "no-source":
        filled(str(source))
    if case == "exists":
        target.write_text("precious")
    url = "postgresql://root@127.0.0.1:5432/x" if case == "postgres" else source
    folder = tmp_path / "nowhere" if case == "no-folder" else tmp_path
    sentences = {
        "exists": "exists already",
        "no-folder": "does not exist; create it first",
        "no-source": "there is no database",
        "postgres": "pg_dump",
    }
    with pytest.raises(StoreError, match=sentences[case]):
        maintenance.backup(url, folder / "copy.db")
    if case == "exists":
        assert target.read_text() == "precious"


def test_upgrade_says_when_there_is_nothing_to_do(database_url: str) -> None:
    filled(database_url)
    assert f"has the schema {schema.REVISIONS[-1]} already" in maintenance.upgrade(database_url)
