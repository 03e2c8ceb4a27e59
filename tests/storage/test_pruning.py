"""Answers that were kept long ago are forgotten; fits stay, and give them again."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from lawfit.cli.main import run
from lawfit.errors import NoFit
from lawfit.records import Fit, FitStatus, Recipe
from lawfit.storage import Store, maintenance, tables
from lawfit.storage.next_plans import keep_plan, read_plan
from tests.cli.samples import PREDICTION


@pytest.fixture
def kept(database_url: str) -> str:
    """A database with an answer of today, and two and a plan of last year."""
    recipe = Recipe(name="r")
    fit = Fit(
        id="f", recipe_key=recipe.key, recipe_name="r", kind="lr_batch", status=FitStatus.OK, data_hash="d",
        code_version="1", created_at="2026-11-22T00:00:00+00:00", options={}, exclusions={}, payload={},
    )  # fmt: skip
    with Store.open(database_url) as store:
        store.put_runs(recipe, [])
        store.put_fit(fit)
        for name in ("new", "old", "older"):
            store.put_prediction(name, "f", {"params": 7e9}, PREDICTION)
        keep_plan(store, {"id": "old plan", "fit_id": None})
        with store.writing() as connection:
            column = tables.predictions.c
            aged = sa.update(tables.predictions).where(column.id != "new")
            connection.execute(aged.values(created_at="2025-01-01T00:00:00+00:00"))
            connection.execute(sa.update(tables.next_plans).values(created_at="2025-01-01T00:00:00+00:00"))
    return database_url


def names(url: str) -> set[str]:
    with Store.open(url) as store, store.reading() as connection:
        return set(connection.execute(sa.select(tables.predictions.c.id)).scalars())


def test_old_answers_go_and_fits_stay(kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--database", kept, "db", "prune", "--days", "90", "--dry-run"]) == 0
    assert capsys.readouterr().out == "would forget 3 answers older than 90 days\n"
    assert names(kept) == {"new", "old", "older"}
    assert run(["--database", kept, "db", "prune", "--days", "90", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema": "lawfit.db/1", "answers": 3, "dry_run": False}
    assert names(kept) == {"new"}
    with Store.open(kept) as store:
        assert store.fit("f").id == "f"
        with pytest.raises(NoFit, match="no plan 'old plan'"):
            read_plan(store, "old plan")
    assert maintenance.prune(kept, older_than_days=90) == 0


@pytest.mark.one_database
def test_days_are_a_number(kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    for days in ("-1", "nan", "1e9"):
        assert run(["--database", kept, "db", "prune", "--days", days]) == 2
    assert names(kept) == {"new", "old", "older"}
