"""A small database of each schema revision that was ever released, opened, upgraded and used."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from lawfit.records import (
    Attempt,
    Launch,
    LossSweep,
    Optimum,
    OptimumStatus,
    SizedLoss,
    StepsToTarget,
    TargetSweep,
    TrainingJob,
)
from lawfit.settings import migrations_folder
from lawfit.storage import Store, schema, tables
from lawfit.storage.database import Location, create_engine
from lawfit.storage.next_plans import keep_plan, read_plan
from lawfit.storage.studies import begin_round, read_study, unstored
from lawfit.storage.training_jobs import beat, claim_runs, training_job
from tests.storage.builders import diverged, fit, recipe, run

TARGET = StepsToTarget(
    run_key="t", params=1.5e8, batch_tokens=524288.0, steps=4000, target_loss=3.2, lr=0.003, extra={"ema": 0.99}
)
LOSS = SizedLoss(run_key="n", params=1.5e8, tokens=3e9, loss=3.1, extra={"width": 512})
LAUNCH = Launch(
    id="l1", backend="local", host="node7", process="", logs="/runs", command="", began_at="2026-11-21T10:00:00+00:00"
)
JOB = TrainingJob(
    id="j1", launch=LAUNCH, name="000-tiny", runs=("x", "y"), state="running", created_at=LAUNCH.began_at,
    place="gpu 0", attempts=(Attempt(launch_id="l1", host="node7", place="gpu 0", began_at=LAUNCH.began_at, gpus=0.5),),
    tokens=1e6, tokens_total=2e6, dollars_per_gpu_hour=2.5, started_at=LAUNCH.began_at, lost=True,
)  # fmt: skip
GOLDEN = Path(__file__).parent.parent / "golden"


def write(path: Path) -> None:
    path.unlink(missing_ok=True)
    with Store.open(path) as store:
        store.put_runs(
            recipe("gpt-c4", extra={"beta2": "0.95"}), [run("a"), run("b", lr=0.004), diverged("c", lr=0.03)]
        )
        key = store.recipe().key
        store.exclude(key, ["b"], "node failure")
        optimum = Optimum(params=1.5e8, tokens=3e9, estimator="e1", status=OptimumStatus.AT_EDGE, lr=0.00276)
        store.put_fit(fit(key), [optimum])
        store.put_prediction("p1", "f1", {"params": 7e9}, {"lr": 0.0005})
        keep_plan(store, {"id": "n1", "fit_id": "f1", "grids": []})
        claim_runs(store, LAUNCH, [JOB.runs])
        beat(store, LAUNCH, [JOB])
        with store.writing() as connection:
            connection.execute(sa.update(tables.launches).values(beat_at=1.7e9))
        begin_round(store, unstored("s1", "gpt-c4", {"params": 7e9}, {}), 1, document={"run_ids": []}, grid={})
        store.append_curve(key, "a", "loss", [1, 2, 3], [10.5, 9.25, float("inf")])
        store.put_targets([TargetSweep(recipe=store.recipe(), rows=(TARGET,))], named=True)
        store.put_losses([LossSweep(recipe=store.recipe(), rows=(LOSS,))], named=True)
        store.correct(key, ["a"], {"lr": lambda _: 0.1}, "a typo")
        store.undo()


def on_postgres(golden: Path, revision: str, url: str) -> None:
    """The golden database of a revision, row by row, in the schema that its own migrations make on PostgreSQL."""
    engine = create_engine(Location.parse(url))
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    with engine.connect() as connection, connection.begin(), closing(sqlite3.connect(golden)) as old:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        there = sa.MetaData()
        there.reflect(connection)
        old.row_factory = sqlite3.Row
        for table in there.sorted_tables:
            rows = [dict(row) for row in old.execute(f"SELECT * FROM {table.name}")]
            names = [] if table.name == "alembic_version" else [column.name for column in table.c]
            if rows and names:
                marks = [f"CAST(%s AS {table.c[name].type.compile(engine.dialect)})" for name in names]
                statement = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join(marks)})"
                for row in rows:
                    connection.exec_driver_sql(statement, tuple(row[name] for name in names))
            if "id" in table.c and rows and isinstance(rows[0]["id"], int):
                last = max(row["id"] for row in rows)
                connection.exec_driver_sql(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), {last})")
    engine.dispose()


@pytest.mark.parametrize("revision", schema.REVISIONS)
def test_a_database_of_every_revision_is_upgraded_and_used(
    revision: str, database_url: str, update_golden: bool
) -> None:
    golden = GOLDEN / f"store_{revision}.sqlite"
    if update_golden and revision == schema.REVISIONS[-1]:  # older ones were written by older versions
        write(golden)
    assert golden.is_file(), f"{golden} is missing; pytest --update-golden writes the one of the newest revision"
    if database_url.startswith("postgresql"):
        on_postgres(golden, revision, database_url)
    else:
        shutil.copy(golden, database_url)
    with Store.open(database_url) as store:
        key = store.recipe("gpt-c4").key
        assert key == recipe(extra={"beta2": "0.95"}).key
        assert store.runs(key) == [run("a"), run("b", lr=0.004, excluded="node failure"), diverged("c", lr=0.03)]
        assert store.latest_fit(key, "lr_batch") == fit(key)
        assert store.optima("f1")[0].status is OptimumStatus.AT_EDGE
        assert store.prediction("p1").answer == {"lr": 0.0005}
        assert store.curve(key, "a", "loss")[1].tolist() == [10.5, 9.25, float("inf")]
        assert store.targets(key) == ([TARGET] if revision >= "0002" else [])
        reasons = ["a typo", "node failure"] if revision >= "0007" else ["a typo"] if revision >= "0005" else []
        assert [each.reason for each in store.history()] == reasons  # exclusions are among them since then
        if revision >= "0007":
            assert read_plan(store, "n1") == {"id": "n1", "fit_id": "f1", "grids": []}
        if revision >= "0008":
            assert training_job(store, "j1") == JOB
        if revision >= "0009":
            assert [each.phase for each in read_study(store, "s1").rounds] == ["planned"]
        assert store.losses(key) == ([LOSS] if revision >= "0004" else [])
        assert store.put_runs(recipe("gpt-c4", extra={"beta2": "0.95"}), [run("d")]) == (1, 0, 0)
