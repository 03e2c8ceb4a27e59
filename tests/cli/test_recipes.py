"""`lawfit recipes` and `lawfit runs correct | history | undo`, as a person types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lawfit import pipeline
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.storage import Store
from tests.cli.conftest import Call

HEAD = "run_id,params,tokens,batch_tokens,lr,loss,attention,optimizer\n"


@pytest.fixture
def two(call: Call, away: Path) -> None:
    for name, optimizer in (("adamw", "adamw"), ("muon", "muon")):
        rows = [f"{name}{n},1e8,2e9,5e5,{0.001 * n},{3 + n / 9},{('gqa', 'mla')[n % 2]},{optimizer}" for n in (1, 2, 3)]
        (away / f"{name}.csv").write_text(HEAD + "\n".join(rows))
    call("ingest", "adamw.csv", "--recipe", "adamw")
    call("ingest", "muon.csv", "--recipe", "muon")


@pytest.mark.usefixtures("two")
def test_recipes_are_listed_merged_and_split(call: Call, text: Call) -> None:
    listed = call("recipes")
    assert [(row["recipe"]["name"], row["runs"]) for row in listed["recipes"]] == [("adamw", 3), ("muon", 3)]
    assert [*listed["parted_by"]] == ["optimizer"]
    out, _ = text("recipes")
    assert "What parts them" in out
    merged = call("recipes", "merge", "adamw", "muon")
    assert (merged["moved"], merged["said"]) == (3, ["optimizer"])
    assert call("ingest", "muon.csv", "--recipe", "muon")["files"][0]["unchanged"] == 3
    parts = call("recipes", "split", "adamw", "--by", "optimizer")["parts"]
    assert [(part["recipe"], part["moved"]) for part in parts] == [
        ("muon", 3)
    ]  # the recipe that was merged is there again
    assert call("ingest", "muon.csv", "--recipe", "muon")["files"][0]["inserted"] == 0
    assert [row["runs"] for row in call("recipes")["recipes"]] == [3, 3]
    out, err = text("recipes", "split", "adamw", "--by", "attention")
    assert "adamw-attention-gqa" in out
    assert "lawfit fit makes one that sees this" in err
    _, err = text("recipes", "split", "adamw", "--by", "attention", code=1)
    assert "no run says it" in err


@pytest.mark.usefixtures("two")
def test_runs_are_corrected_with_history_and_undo(call: Call, text: Call) -> None:
    words = ("runs", "correct", "adamw*", "--recipe", "adamw", "--times", "lr=0.001", "--reason", "units")
    assert call(*words) == {"schema": "lawfit.runs/1", "change": 1, "recipe": "adamw", "matched": 3, "changed": 3}
    out, _ = text("runs", "history")
    assert "0.001 ... 0.003" in out
    assert "units" in out
    assert call("ingest", "adamw.csv", "--recipe", "adamw")["files"][0]["unchanged"] == 3
    assert call("runs", "undo")["undone"] == 3
    assert all(each["undone_at"] for each in call("runs", "history")["corrections"])
    _, err = text("runs", "correct", "adamw1", "--recipe", "adamw", "--set", "lr=x", "--reason", "y", code=2)
    assert "lr: " in err
    _, err = text("runs", "correct", "adamw1", "--recipe", "adamw", "--reason", "y", code=2)
    assert "say what is right: --set FIELD=VALUE, or --times FIELD=FACTOR" in err
    _, err = text("runs", "undo", "7", code=1)
    assert "there is no change 7" in err


def test_fits_say_that_runs_were_corrected(call: Call, away: Path) -> None:
    call("simulate", "sweep.csv", "--params", "20M", "--params", "60M", "--lr-steps", "5", "--batch-steps", "3")
    call("ingest", "sweep.csv")
    with Store.open(away / "lawfit.db") as store:
        fit_id = pipeline.refit(store, options=FitOptions(backtest=False)).id
        key = store.runs(store.recipe().key)[0].run_key
    assert not changed(away, fit_id)
    call("runs", "correct", key, "--times", "loss=1.01", "--reason", "a typo")
    assert changed(away, fit_id)
    call("runs", "undo")
    assert not changed(away, fit_id)


def changed(away: Path, fit_id: str) -> bool:
    with Store.open(away / "lawfit.db") as store:
        return pipeline.runs_changed_since(store, fit_id)
