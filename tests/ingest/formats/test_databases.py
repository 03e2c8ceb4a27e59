"""Databases of trackers: read only, older schemas, what tables cannot hold, PostgreSQL."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from lawfit.cli.main import run
from lawfit.errors import LogFormatError
from lawfit.ingest import read_table
from lawfit.ingest.source import Source
from tests.conftest import DEFAULT_POSTGRES
from tests.ingest.formats.logs import GOLDEN, copied, curves, one_table, rows


def change(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()
    return path


@pytest.mark.parametrize("name", ["mlflow/mlflow.db", "trackio/tiny-lm.db", "optuna/study.db"])
class TestAnyDatabase:
    def test_nothing_is_written(self, name: str, tmp_path: Path) -> None:
        path = copied(name, tmp_path)
        before = path.read_bytes(), path.stat().st_mtime_ns
        one_table(path)
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before
        assert [each.name for each in tmp_path.iterdir()] == [path.name]

    def test_one_that_is_being_written(self, name: str, tmp_path: Path) -> None:
        path = copied(name, tmp_path)
        with closing(sqlite3.connect(path)) as writer:
            writer.execute("pragma journal_mode = wal")
            writer.execute("begin immediate")
            assert len(one_table(path).rows) >= 4

    def test_an_odd_name(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / "50% ?mode=rw #1.db"
        shutil.copy(GOLDEN / name, path)
        assert len(one_table(path).rows) >= 4

    def test_a_page_of_zeros_is_damage(self, name: str, tmp_path: Path) -> None:
        path = copied(name, tmp_path)
        data = bytearray(path.read_bytes())
        for page in range(len(data) // 1024, len(data) // 512):
            data[page * 512 : page * 512 + 8] = bytes(8)
        path.write_bytes(data)
        with pytest.raises(LogFormatError, match=r"damaged|cannot be read|in none of the formats|no run|binary"):
            read_table(path)


def test_a_view_is_no_table(tmp_path: Path) -> None:
    """A view could run for ever."""
    path = tmp_path / "mlflow.db"
    change(
        path,
        *(f"create table {name} (x)" for name in ("experiments", "runs", "params", "latest_metrics")),
        "create view metrics as with recursive r(n) as (select 1 union all select n + 1 from r) select n from r",
    )
    with pytest.raises(LogFormatError):
        read_table(path)
    with pytest.raises(LogFormatError, match="has no table metrics; it is no database of mlflow"):
        read_table(path, "mlflow")


class TestMlflow:
    def test_deleted_runs_are_gone(self, tmp_path: Path) -> None:
        path = copied("mlflow/mlflow.db", tmp_path)
        change(path, "update runs set lifecycle_stage = 'deleted' where name = 'low'")
        assert sorted(rows(one_table(path))) == ["killed", "middle", "too-high"]

    def test_infinity_is_the_largest_number(self, tmp_path: Path) -> None:
        path = copied("mlflow/mlflow.db", tmp_path)
        change(path, "update metrics set value = 1.7976931348623157e308 where key = 'train.loss' and step = 40")
        assert rows(one_table(path))["low"]["status"] == "diverged"

    def test_experiments_are_projects(self, tmp_path: Path) -> None:
        from lawfit.ingest.formats import find_sources, read_source_tables

        path = copied("mlflow/mlflow.db", tmp_path)
        change(path, "update runs set experiment_id = 0 where name = 'low'")
        (source,) = find_sources(path)
        assert {table.name: len(table.rows) for table in read_source_tables(source)} == {"Default": 1, "tiny-lm": 3}
        joined = read_table(path)
        assert len(joined.rows) == 4
        assert joined.columns[0] == "project"

    def test_the_file_store_says_the_line(self, tmp_path: Path) -> None:
        made = copied("mlflow_files", tmp_path)
        path = next(made.rglob("train.loss"))
        path.write_text(path.read_text().replace(" 5\n", " five\n"))
        with pytest.raises(LogFormatError, match=r"train\.loss, line 5 is not 'timestamp value step'"):
            read_table(path.parent.parent)


class TestTrackio:
    def test_databases_from_before_run_ids(self, tmp_path: Path) -> None:
        """As Trackio had them until 0.24: a run is its name."""
        path = copied("trackio/tiny-lm.db", tmp_path)
        wanted = {name: row["status"] for name, row in rows(one_table(path)).items()}
        for table in ("metrics", "configs"):
            columns = "run_name, timestamp, step, metrics" if table == "metrics" else "run_name, config, created_at"
            change(
                path,
                f"create table old as select {columns} from {table}",
                f"drop table {table}",
                f"alter table old rename to {table}",
            )
        found = rows(one_table(path))
        assert {name: row["status"] for name, row in found.items()} == wanted
        assert found["low"]["run_id"] == "low"

    def test_an_upgrade_that_was_broken_off(self, tmp_path: Path) -> None:
        path = copied("trackio/tiny-lm.db", tmp_path)
        before = curves(one_table(path), "low")
        change(
            path,
            "create table trackio_legacy_metrics as select * from metrics where run_name = 'low'",
            "delete from metrics where run_name = 'low'",
        )
        assert curves(one_table(path), "low") == before


class TestOptuna:
    def test_a_score_is_not_called_a_value(self, tmp_path: Path) -> None:
        path = copied("optuna/study.db", tmp_path)
        change(path, "update study_directions set direction = 'MAXIMIZE'")
        names = one_table(path).columns
        assert "score" in names
        assert "value" not in names

    def test_values_that_are_not_finite(self, tmp_path: Path) -> None:
        path = copied("optuna/study.db", tmp_path)
        change(path, "update trial_values set value = null, value_type = 'INF_POS'")
        assert {str(row.get("value")) for row in rows(one_table(path)).values()} == {"inf", "None"}

    def test_a_journal_in_writing(self, tmp_path: Path) -> None:
        path = copied("optuna/journal.log", tmp_path)
        whole = path.read_text()
        path.write_text(whole[:-30])
        assert len(one_table(path).rows) == 8
        lines = whole.splitlines()
        path.write_text("\n".join([*lines[:5], lines[5][:20], *lines[6:]]))
        with pytest.raises(LogFormatError, match="line 6 is no operation of a journal"):
            read_table(path)


@pytest.fixture
def postgres() -> Iterator[str]:
    """A schema of its own in the tests' database, holding what the SQLite file of MLflow holds."""
    url = os.environ.get("LAWFIT_TEST_POSTGRES", DEFAULT_POSTGRES)
    engine = sa.create_engine(url)
    try:
        connection = engine.connect()
    except sa.exc.OperationalError as error:
        pytest.skip(f"no PostgreSQL at {url}: {error}")
    schema = f"mlflow_{os.getpid()}"
    with connection:
        connection.execute(sa.text(f"create schema {schema}"))
        connection.execute(sa.text(f"set search_path to {schema}"))
        with closing(sqlite3.connect(GOLDEN / "mlflow" / "mlflow.db")) as source:
            for table in ("experiments", "runs", "params", "metrics", "latest_metrics"):
                described = source.execute(f"pragma table_info({table})").fetchall()
                kinds = {"INTEGER": "integer", "BIGINT": "bigint", "FLOAT": "double precision", "BOOLEAN": "boolean"}
                columns = ", ".join(f"{row[1]} {kinds.get(row[2], 'text')}" for row in described)
                connection.execute(sa.text(f"create table {table} ({columns})"))
                names = [row[1] for row in described]
                marks = ", ".join(f":{name}" for name in names)
                for row in source.execute(f"select {', '.join(names)} from {table}"):
                    given = dict(zip(names, row, strict=True))
                    given |= {"is_nan": bool(given["is_nan"])} if "is_nan" in given else {}
                    connection.execute(sa.text(f"insert into {table} values ({marks})"), given)
        connection.commit()
        yield url.replace("+psycopg", "") + f"?options=-csearch_path%3D{schema}"
        connection.execute(sa.text(f"drop schema {schema} cascade"))
        connection.commit()
    engine.dispose()


def test_mlflow_in_postgresql(postgres: str) -> None:
    table = read_table(postgres)
    reference = one_table(GOLDEN / "mlflow")
    assert rows(table) == rows(reference)
    assert {(c.run_key, c.metric): list(c.numbers) for c in table.curves} == {
        (c.run_key, c.metric): list(c.numbers) for c in reference.curves
    }


def test_by_its_address_on_the_command_line(postgres: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = postgres.replace("root@", "root:secret@")
    assert run(["ingest", address, "--json", "--database", str(tmp_path / "lawfit.db")]) == 3  # one is running
    (report,) = json.loads(capsys.readouterr().out)["files"]
    assert (report["format"], report["inserted"], len(report["rejections"])) == ("mlflow", 3, 1)
    assert "secret" not in json.dumps(report)
    assert run(["ingest", address.replace("5432", "1"), "--json", "--database", str(tmp_path / "lawfit.db")]) == 1
    assert "secret" not in capsys.readouterr().out


def test_without_psycopg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LogFormatError, match=r"pip install 'lawfit\[postgres\]'"):
        read_table("postgresql://me@127.0.0.1:1/db")


def test_a_database_that_is_not_there() -> None:
    with pytest.raises(LogFormatError, match=r"postgresql://me:\*\*\*@127\.0\.0\.1:1/db.* cannot be read") as error:
        read_table("postgresql://me:secret@127.0.0.1:1/db?connect_timeout=1")
    assert "secret" not in str(error.value)
    source = Source(format="mlflow", root=Path(), uri="postgresql://me:secret@host:1/db?x=1")
    assert (str(source), source.name) == ("postgresql://me:***@host:1/db?x=1", "db")
