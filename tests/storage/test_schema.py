"""Opening: a new database, one at head, an older one, a newer one, one of another program, two processes at once."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from lawfit.errors import SchemaOutOfDate, StoreError
from lawfit.settings import migrations_folder
from lawfit.storage import Store, schema
from lawfit.storage.database import Location, create_engine
from tests.storage.builders import recipe, run

pytestmark = pytest.mark.usefixtures("schemas_anew")

HEAD = schema.REVISIONS[-1]
NEXT_REVISION = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "9999_test", {head!r}
def upgrade():
    with op.batch_alter_table("recipes") as batch:
        batch.add_column(sa.Column("colour", sa.Text(), server_default="grey", nullable=False))
"""


def alembic_config(**attributes: object) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    config.attributes.update(attributes)
    return config


def test_the_written_down_revisions_are_alembics() -> None:
    scripts = ScriptDirectory.from_config(alembic_config())
    assert tuple(reversed([s.revision for s in scripts.walk_revisions()])) == schema.REVISIONS
    assert scripts.get_current_head() == schema.REVISIONS[-1]


def test_alembic_check_finds_nothing_to_do(database_url: str) -> None:
    with Store.open(database_url) as store, store.reading() as connection:
        command.check(alembic_config(connection=connection))


def test_the_migration_makes_what_the_tables_say(database_url: str) -> None:
    """Alembic does not compare CHECK constraints, and the guards of `runs` are such."""
    with Store.open(database_url) as store, store.reading() as connection:
        inspector = sa.inspect(connection)
        for table in schema.tables.metadata.sorted_tables:
            wanted = {c.name for c in table.constraints if isinstance(c, sa.CheckConstraint)}
            assert {c["name"] for c in inspector.get_check_constraints(table.name)} == wanted


def test_down_and_up_again(database_url: str) -> None:
    with Store.open(database_url) as store:
        with store.writing() as connection:
            command.downgrade(alembic_config(connection=connection), "base")
            assert MigrationContext.configure(connection).get_current_revision() is None
        with store.writing() as connection:
            command.upgrade(alembic_config(connection=connection), "head")
        store.put_runs(recipe(), [run()])


def test_an_open_database_needs_no_alembic(tmp_path: Path) -> None:
    path = tmp_path / "lawfit.db"
    Store.open(path).close()
    code = f"""
import sys
from lawfit.storage import Store
with Store.open({str(path)!r}) as store:
    store.recipes()
heavy = {{"alembic", "pandas", "scipy", "statsmodels", "psycopg", "sqlalchemy.orm"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_file_is_left_behind(tmp_path: Path) -> None:
    with Store.open(tmp_path / "lawfit.db") as store:
        store.put_runs(recipe(), [run()])
    assert [path.name for path in tmp_path.iterdir()] == ["lawfit.db"]


def test_sqlite_is_set_up_for_several_users(tmp_path: Path) -> None:
    with Store.open(tmp_path / "lawfit.db") as store, store.reading() as connection:
        read = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "foreign_keys")
        }
    assert read == {"journal_mode": "wal", "foreign_keys": 1}


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    (tmp_path / "lawfit.db").touch()
    with Store.open(tmp_path / "lawfit.db") as store:
        assert store.recipes() == []


def test_a_database_in_memory() -> None:
    with Store.open(":memory:") as store:
        assert store.put_runs(recipe(), [run()]) == (1, 0, 0)
        assert store.runs(recipe().key) == [run()]


def test_a_newer_database_is_refused_and_left_alone(database_url: str) -> None:
    with Store.open(database_url) as store, store.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0999'"))
    for _ in range(2):
        with pytest.raises(SchemaOutOfDate, match=r"newer version of lawfit \(schema '0999'.*upgrade lawfit"):
            Store.open(database_url)


class TestOlder:
    @pytest.fixture
    def newer_lawfit(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        """A lawfit with one migration more."""
        folder = tmp_path_factory.mktemp("migrations") / "scripts"
        shutil.copytree(migrations_folder(), folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "versions" / "9999_test.py").write_text(NEXT_REVISION.format(head=schema.REVISIONS[-1]))
        monkeypatch.setattr(schema, "migrations_folder", lambda: folder)
        monkeypatch.setattr(schema, "REVISIONS", (*schema.REVISIONS, "9999_test"))

    def test_sqlite_is_upgraded_in_place_beside_a_copy(
        self, tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "lawfit.db"
        with Store.open(path) as store:
            store.put_runs(recipe(), [run("a"), run("b")])
        request.getfixturevalue("newer_lawfit")
        with pytest.raises(SchemaOutOfDate, match="run lawfit db upgrade"):
            Store.open(path, migrate=False)
        with Store.open(path) as store:
            assert [r.run_key for r in store.runs(recipe().key)] == ["a", "b"]
            with store.reading() as connection:
                assert connection.exec_driver_sql("SELECT colour FROM recipes").scalar() == "grey"
            (note,) = store.notes
        copy = tmp_path / f"lawfit.db.before-{HEAD}-upgrade"
        assert note == f"upgraded {path} from schema {HEAD} to 9999_test; a copy of the old one is {copy}"
        assert note in caplog.text
        with closing(sqlite3.connect(copy)) as old:
            assert old.execute("SELECT version_num FROM alembic_version").fetchone() == (HEAD,)
            assert old.execute("SELECT count(*) FROM runs").fetchone() == (2,)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["lawfit.db", copy.name]
        with Store.open(path) as store:
            assert store.notes == ()

    def test_postgres_is_upgraded(self, postgres_url: str, request: pytest.FixtureRequest) -> None:
        with Store.open(postgres_url) as store:
            store.put_runs(recipe(), [run("a")])
        request.getfixturevalue("newer_lawfit")
        with Store.open(postgres_url) as store:
            assert store.runs(recipe().key) == [run("a")]
            assert "lawfit made no copy of it" in store.notes[0]

    def test_a_migration_that_fails_leaves_the_old_one(
        self, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "lawfit.db"
        with Store.open(path) as store:
            store.put_runs(recipe(), [run("a")])
        with monkeypatch.context():
            request.getfixturevalue("newer_lawfit")
            script = schema.migrations_folder() / "versions" / "9999_test.py"
            script.write_text(script.read_text() + '    op.execute("INSERT INTO nowhere VALUES (1)")\n')
            with pytest.raises(StoreError, match="nowhere"):
                Store.open(path)
        with closing(sqlite3.connect(path)) as connection:
            columns = [row[1] for row in connection.execute("PRAGMA table_info(recipes)")]
            assert "colour" not in columns
            assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (HEAD,)


class TestForeign:
    def test_a_sqlite_file_of_another_program(self, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
            connection.execute("CREATE TABLE songs (id INTEGER)")
        with pytest.raises(StoreError, match=r"database of another program \(tables songs\)"):
            Store.open(tmp_path / "other.db")

    def test_another_programs_alembic(self, database_url: str) -> None:
        engine = create_engine(Location.parse(database_url))
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
            connection.execute(sa.text("INSERT INTO alembic_version VALUES ('abc')"))
        engine.dispose()
        with pytest.raises(StoreError, match="another program keeps its schema there"):
            Store.open(database_url)

    def test_tables_of_our_names(self, database_url: str) -> None:
        engine = create_engine(Location.parse(database_url))
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE runs (id INTEGER)"))
        engine.dispose()
        with pytest.raises(StoreError, match="tables called runs that lawfit did not make"):
            Store.open(database_url)


def test_processes_that_open_a_new_database_at_once(database_url: str) -> None:
    code = f"""
import sys, time
from lawfit.records import Recipe, Run, RunStatus
from lawfit.storage import Store
time.sleep(max(0, float(sys.argv[1]) - time.time()))
with Store.open({database_url!r}) as store:
    numbers = dict(params=1e8, tokens=1e9, batch_tokens=1e5, lr=1e-3, loss=3.0)
    run = Run(run_key=sys.argv[2], status=RunStatus.FINISHED, **numbers)
    store.put_runs(Recipe(name="shared"), [run])
"""
    import time

    start = str(time.time() + 2)
    processes = [
        subprocess.Popen([sys.executable, "-c", code, start, str(n)], stderr=subprocess.PIPE, text=True)
        for n in range(4)
    ]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors
    with Store.open(database_url) as store:
        assert [r.run_key for r in store.runs(store.recipe().key)] == ["0", "1", "2", "3"]
