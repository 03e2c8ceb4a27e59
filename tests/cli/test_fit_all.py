"""`lawfit fit --all`: every recipe of a store in turn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lawfit.cli.main import ExitCode
from lawfit.records import Recipe, Run, RunStatus, Sweep
from lawfit.storage import Store
from tests.cli.conftest import Call
from tests.estimate.simulated import NINE, sweep

LOST = Run(run_key="x", params=1e8, tokens=2e9, batch_tokens=1e5, lr=1, status=RunStatus.DIVERGED, loss=None)


def filled(path: Path, *names: str) -> None:
    runs = sweep(NINE[:2], lr_steps=4, batch_steps=3).runs
    with Store.open(path / "lawfit.db") as store:
        store.put_sweeps([Sweep(recipe=Recipe(name=name, data=name), runs=runs) for name in names])
        store.put_sweeps([Sweep(recipe=Recipe(name="lost", data="lost"), runs=(LOST,))])


def test_each_recipe_is_fitted_and_the_others_say_why(away: Path, call: Call, text: Call) -> None:
    filled(away, "gpt-c4", "gpt-pile")
    document = call("fit", "--all")
    assert document["schema"] == "lawfit.fits/1"
    assert [fit["recipe_name"] for fit in document["fits"]] == ["gpt-c4", "gpt-pile"]
    assert "diverged" in document["failed"]["lost"]
    out, err = text("fit", "--all")
    assert out.count("Recipe ") == 2
    assert "lost: nothing to fit" in err
    assert "2 recipes fitted" in err


def test_nothing_that_can_be_fitted_is_an_error(away: Path, call: Call) -> None:
    filled(away)
    assert "lost: nothing to fit" in call("fit", "--all", code=ExitCode.NOT_ENOUGH)["error"]["message"]


def test_an_empty_store_says_where_to_begin(away: Path, call: Call) -> None:
    with Store.open(away / "lawfit.db"):
        pass
    assert "lawfit ingest" in call("fit", "--all", code=ExitCode.NOT_ENOUGH)["error"]["message"]


def test_one_recipe_and_all_of_them_is_a_contradiction(away: Path, call: Call) -> None:
    filled(away, "gpt-c4")
    call("fit", "--all", "--recipe", "gpt-c4", code=ExitCode.USAGE)


def test_a_definition_that_is_none_is_refused_before_anything_is_fitted(call: Call) -> None:
    said = call("fit", "--critical-definition", "0.2@many", code=ExitCode.USAGE)
    assert "'many'" in said["error"]["message"]


def test_constant_rates_come_first(away: Path, call: Call) -> None:
    """Their critical batch serves a sister recipe that is fitted after them."""
    runs = sweep(NINE[:2], lr_steps=4, batch_steps=3).runs
    with Store.open(away / "lawfit.db") as store:
        recipe = Recipe(name="a", data="c4", schedule="cosine")
        for each in (recipe, replace(recipe, name="z", schedule="constant")):
            store.put_sweeps([Sweep(recipe=each, runs=runs)])
    assert [fit["recipe_name"] for fit in call("fit", "--all")["fits"]] == ["z", "a"]
