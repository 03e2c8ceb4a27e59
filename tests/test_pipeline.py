"""The main path on both databases: ingest, refit, recommend; what makes a fit the same fit; what is missing is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from lawfit import pipeline
from lawfit.ask import Target
from lawfit.errors import NoFit, NoRecipe, NotEnoughData
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.findings import code_of
from lawfit.pipeline import asked, changes
from lawfit.pipeline.fitting import code_version
from lawfit.records import FitStatus, Recipe, Sweep
from lawfit.simulate import Truth, write_csv
from lawfit.storage import Store
from tests.estimate.simulated import NINE, run, sweep

QUICK = FitOptions(backtest=False)
TARGET = Target(params=1e9, tokens=3e10, seq_len=2048)
SMALL = sweep(NINE[::2], lr_steps=5, batch_steps=4)


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    """A store that has taken in a simulated sweep of five scales."""
    path = tmp_path / "sweep.csv"
    write_csv(SMALL.runs, path)
    assert pipeline.ingest(store, path).inserted == len(SMALL.runs)
    return store


def test_from_a_file_to_a_recommendation(filled: Store) -> None:
    fit = pipeline.refit(filled)
    assert fit.status is FitStatus.OK
    assert fit.payload["runs_used"] == len(SMALL.runs)
    answer = pipeline.recommend(filled, None, TARGET)
    assert answer["evidence"]["fit_id"] == fit.id
    true = Truth().optimum(TARGET.params, TARGET.tokens)
    for name, value in zip(("lr", "batch_tokens"), true, strict=True):
        found = answer["recommendation"][name]
        assert found["low"] / 1.3 < value < found["high"] * 1.3  # one draw of a 90 % interval, with slack
        assert abs(np.log(found["value"] / value)) < 0.7


@pytest.mark.usefixtures("fits_anew")
def test_the_same_runs_are_one_fit(filled: Store) -> None:
    one, other = pipeline.refit(filled, options=QUICK), pipeline.refit(filled, options=QUICK)
    assert one.id == other.id
    assert one.created_at == other.created_at  # the first is kept
    assert [f.id for f in filled.fits()] == [one.id]
    surface = [optimum for optimum in filled.optima(one.id) if optimum.estimator == "surface"]
    assert len(surface) == len(NINE[::2])


def test_options_make_another_fit(filled: Store) -> None:
    one = pipeline.refit(filled, options=QUICK)
    other = pipeline.refit(filled, options=FitOptions(backtest=False, without_laws=("step_law",)))
    assert one.id != other.id
    assert pipeline.recommend(filled, None, TARGET)["evidence"]["fit_id"] == other.id  # made last


def test_a_prediction_comes_back_from_its_fit(filled: Store) -> None:
    first = pipeline.refit(filled, options=QUICK)
    answer = pipeline.recommend(filled, None, TARGET)
    recipe = filled.recipe(None)
    filled.exclude(recipe.key, [SMALL.runs[0].run_key, SMALL.runs[7].run_key], "node failure")
    second = pipeline.refit(filled, options=QUICK)
    assert second.id != first.id
    assert set(second.exclusions) >= {SMALL.runs[0].run_key, SMALL.runs[7].run_key}
    then = pipeline.recommend(filled, None, TARGET, fit_id=first.id)
    assert (then["evidence"].pop("runs_changed"), code_of(then["warnings"].pop(0))) == (2, "pipeline.runs_changed")
    assert answer["evidence"].pop("runs_changed") == 0
    assert then == answer
    again = pipeline.recommend(filled, None, TARGET, fit_id=second.id)
    assert again["id"] != answer["id"]
    assert again["evidence"]["runs_rejected"] == 2


def test_a_prediction_comes_back_from_its_id(filled: Store) -> None:
    pipeline.refit(filled, options=QUICK)
    answer = pipeline.recommend(filled, None, TARGET)
    kept = filled.prediction(answer["id"])
    assert kept.answer == answer
    assert kept.fit_id == answer["evidence"]["fit_id"]


def test_restoring_runs_gives_the_first_fit_again(filled: Store) -> None:
    first = pipeline.refit(filled, options=QUICK)
    recipe = filled.recipe(None)
    filled.exclude(recipe.key, [SMALL.runs[0].run_key], "suspicious")
    pipeline.refit(filled, options=QUICK)
    filled.restore(recipe.key)
    assert pipeline.refit(filled, options=QUICK).id == first.id


def test_compare_laws(filled: Store) -> None:
    table = pipeline.compare_laws(filled)
    assert table["recipe"] == filled.recipe(None).name
    assert {"law", "label", "mean_regret", "worst_regret", "cells_scored", "cells_outside", "cite", "checked"} <= set(
        table["laws"][0]
    )


class TestMissing:
    def test_no_recipe(self, store: Store) -> None:
        with pytest.raises(NoRecipe):
            pipeline.refit(store)

    def test_two_recipes_and_no_name(self, store: Store) -> None:
        for name in ("gpt-c4", "gpt-pile"):
            recipe = Recipe(name=name, data=name)
            store.put_sweeps([Sweep(recipe=recipe, runs=(run("a", 1e-3, 1e5, 3.0),))])
        for ask in (pipeline.refit, pipeline.compare_laws):
            with pytest.raises(NoRecipe, match=r"gpt-c4.*gpt-pile"):
                ask(store)
        with pytest.raises(NoRecipe, match=r"gpt-c4.*gpt-pile"):
            pipeline.recommend(store, None, TARGET)

    def test_a_name_that_is_not_there(self, filled: Store) -> None:
        with pytest.raises(NoRecipe, match="nonsense"):
            pipeline.refit(filled, "nonsense")

    def test_no_fit_yet(self, filled: Store) -> None:
        with pytest.raises(NoFit, match="run lawfit fit"):
            pipeline.recommend(filled, None, TARGET)

    def test_no_fit_of_that_id(self, filled: Store) -> None:
        with pytest.raises(NoFit, match="0123abcd"):
            pipeline.recommend(filled, None, TARGET, fit_id="0123abcd")

    def test_fit_of_another_recipe(self, filled: Store) -> None:
        fit = pipeline.refit(filled, options=QUICK)
        store_recipe = Recipe(name="other", data="other")
        filled.put_sweeps([Sweep(recipe=store_recipe, runs=(run("a", 1e-3, 1e5, 3.0),))])
        with pytest.raises(NoFit, match="belongs to recipe"):
            pipeline.recommend(filled, "other", TARGET, fit_id=fit.id)

    def test_every_run_diverged(self, store: Store) -> None:
        runs = tuple(run(f"{i}", 1e-3 * 2**i, 1e5, None) for i in range(3))
        store.put_sweeps([Sweep(recipe=Recipe(name="lost"), runs=runs)])
        with pytest.raises(NotEnoughData, match="all 3 runs diverged"):
            pipeline.refit(store)
        assert store.fits() == []


class TestAskedAgain:
    def test_one_look_at_the_database(self, filled: Store) -> None:
        pipeline.refit(filled, options=QUICK)
        first = pipeline.recommend(filled, None, TARGET, keep=False)
        statements: list[str] = []
        sa.event.listen(filled._engine, "before_cursor_execute", lambda *at: statements.append(at[2]))
        other = pipeline.recommend(filled, None, replace(TARGET, params=2e9), keep=False)
        assert other["evidence"]["fit_id"] == first["evidence"]["fit_id"]
        assert len([said for said in statements if said.startswith("SELECT")]) == 1

    def test_a_new_fit_answers_at_once(self, filled: Store) -> None:
        before = pipeline.refit(filled, options=QUICK)
        assert pipeline.recommend(filled, None, TARGET)["evidence"]["fit_id"] == before.id
        filled.exclude(before.recipe_key, [filled.runs(before.recipe_key)[0].run_key], "bad node")
        now = pipeline.refit(filled, options=QUICK)
        assert pipeline.recommend(filled, None, TARGET)["evidence"]["fit_id"] == now.id != before.id

    def test_no_more_questions_are_kept_than_stated(self, filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(asked, "KEPT", 1)
        fit = pipeline.refit(filled, options=QUICK)
        for question in ({}, {"fit_id": fit.id}, {}):
            assert asked.asked_fit(filled, None, **question).fit.id == fit.id
            (kept,) = asked._found[filled][1].values()
            assert kept.by_id is bool(question)


def test_code_version_names_the_version() -> None:
    from lawfit import __version__

    assert code_version().startswith(f"{__version__}+")


@pytest.mark.parametrize("hashed", [0, 5000])
def test_changed_runs_are_noticed(filled: Store, hashed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their hash, or beyond so many runs by their number."""
    monkeypatch.setattr(changes, "HASHED_RUNS", hashed)
    fit = pipeline.refit(filled, options=QUICK)
    said = pipeline.recommend(filled, None, TARGET, fit_id=fit.id)
    assert said["evidence"]["runs_changed"] == pipeline.runs_changed_since(filled, fit.id) == 0
    runs = filled.runs(fit.recipe_key)
    filled.put_runs(filled.recipe(None), [replace(runs[0], run_key=f"{number} more") for number in range(12)])
    assert pipeline.runs_changed_since(filled, fit.id) == 12
    filled.exclude(fit.recipe_key, [runs[0].run_key, "1 more"], "bad node")
    now = pipeline.recommend(filled, None, TARGET, fit_id=fit.id)
    assert now["evidence"]["runs_changed"] == 12
    assert code_of(now["warnings"][0]) == "pipeline.runs_changed"
    assert now["recommendation"] == said["recommendation"]


def test_of_few_fits_it_is_kept_whether_runs_changed(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "_KEPT", 3)
    monkeypatch.setattr(changes, "_count", lambda *_: 0)
    monkeypatch.setattr(Store, "fit", lambda _store, fit_id: fit_id)
    for number in range(10):
        assert pipeline.runs_changed_since(filled, f"f{number}") == 0
    assert 1 <= len(changes._found[filled]) <= 3


def test_exclusions_are_noticed_however_many_runs_there_are(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "HASHED_RUNS", 0)
    key = filled.recipe(None).key
    first, second, *_ = (run.run_key for run in filled.runs(key))
    filled.exclude(key, [first], "bad node")
    fit = pipeline.refit(filled, options=QUICK)
    assert pipeline.runs_changed_since(filled, fit.id) == 0
    filled.exclude(key, [second], "bad node")
    filled.restore(key, [first])
    assert pipeline.runs_changed_since(filled, fit.id) == 2


def test_a_run_that_its_file_changed_is_noticed(filled: Store) -> None:
    fit = pipeline.refit(filled, options=QUICK)
    runs = filled.runs(fit.recipe_key)
    filled.put_runs(filled.recipe(None), [replace(runs[0], loss=(runs[0].loss or 3) + 0.1)])
    assert pipeline.runs_changed_since(filled, fit.id) == 1
