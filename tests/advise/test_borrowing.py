"""What published laws lend to whole recipes: muP sweeps, other optimizers, recipes that do not say what they are."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import lawfit
from lawfit.findings import code_of, finding
from lawfit.laws.published import published_laws
from lawfit.notebook import FittedSweep, ObservedSweep
from lawfit.records import FitStatus
from lawfit.settings import data_folder
from lawfit.words import tell, told

STANDARD = {
    name
    for law in published_laws().values()
    if law.context.get("parametrization") == "standard"
    for name in (law.id, law.label)
}


@cache
def proxy_mup() -> ObservedSweep:
    """Our own sweep in muP: learning rates at five sizes, one batch and horizon each."""
    return lawfit.observe(pd.read_csv(data_folder() / "proxy_mup.csv"))


@cache
def fitted(**held: str) -> FittedSweep:
    sweep = proxy_mup()
    return lawfit.fit(replace(sweep, recipe=replace(sweep.recipe, **held)), backtest=False)


def borrowed(fit: FittedSweep, **target: float) -> list[str]:
    evidence = lawfit.predict(fit, **{"params": 6e6, "tokens": 6.4e7, **target}).document["evidence"]
    return [*told(evidence["borrowed"]), *told(fit.fit.payload["borrowed"])]


class TestMuP:
    def test_nothing_of_standard_parametrization_is_borrowed(self) -> None:
        said = borrowed(fitted())
        assert not [
            (name, sentence) for name in STANDARD for sentence in said if name in sentence.replace(",", " ").split()
        ]
        assert any(
            "no published law lends its exponents" in sentence and "learning rate" in sentence for sentence in said
        )
        assert any("power_lines" in sentence for sentence in said)  # the batch, measured under muP

    def test_what_is_not_lent_is_said_with_the_reason(self) -> None:
        reason = finding("published.standard", recipe="mup from width 64").to_json()
        (said,) = [each for each in fitted().fit.payload["not_lent"] if each["data"]["reason"] == reason]
        assert "lr_joint" in {quantity for part in said["data"]["parts"] for quantity in part["quantities"]}
        assert "step_law" in {law for part in said["data"]["parts"] for law in part["laws"]}
        answer = lawfit.predict(fitted(), params=6e6, tokens=6.4e7)
        assert tell(said) in answer.document["evidence"]["not_lent"]
        assert any("rests on a vague prior for the learning rate" in warning for warning in answer.warnings)

    def test_the_best_rate_stays_where_the_runs_have_it(self) -> None:
        """Five sizes over a factor of 120, each lowest at 0.02; standard laws would move it by a factor of 3 to 11."""
        law = fitted().fit.payload["law"]["lr"]
        assert abs(law["params"]) < 0.1
        assert law["params_low"] < 0 < law["params_high"]

    def test_the_same_runs_called_standard_borrow_from_standard_laws(self) -> None:
        said = borrowed(fitted(parametrization="standard"))
        assert any("step_law" in sentence for sentence in said)
        standard, mup = (
            fit.fit.payload["law"]["lr"]["tokens"] for fit in (fitted(parametrization="standard"), fitted())
        )
        assert standard > mup + 0.1  # one horizon: all that is said of tokens is borrowed
        assert fitted().fit.id != fitted(parametrization="standard").fit.id

    def test_unknown_parametrization_counts_as_standard_and_that_is_a_warning(self) -> None:
        unknown = fitted(parametrization="")
        assert unknown.fit.status is FitStatus.SPARSE
        (said,) = [w for w in unknown.fit.payload["warnings"] if code_of(w) == "published.assumed"]
        assert "parametrization" in said["data"]["taken"]
        assert lawfit.predict(unknown, params=6e6, tokens=6.4e7).warnings.count(tell(said)) == 1
        assert not any(code_of(warning) == "published.assumed" for warning in fitted().fit.payload["warnings"])


@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
def test_another_optimizer_borrows_nothing_about_its_learning_rate(optimizer: str) -> None:
    fit = fitted(parametrization="standard", optimizer=optimizer)
    lending = fit.fit.payload["lending"]["lenders"]
    assert lending["lr"] == lending["lr_joint"] == []
    assert lending["batch"]
    reason = finding("published.other_optimizer", law="Adam", recipe=optimizer).to_json()
    assert any(each["data"]["reason"] == reason for each in fit.fit.payload["not_lent"])


class TestRealCase:
    """A seven-point sweep at the smallest size, in standard parametrization and in muP (c04c)."""

    @pytest.fixture
    def runs(self, shared_data: Path) -> pd.DataFrame:
        frame = pd.read_json(shared_data / "cases" / "c04c_runs_joined.jsonl", lines=True)
        return frame[frame["block_size"] == 512]

    def answer(self, runs: pd.DataFrame, parametrization: str) -> tuple[FittedSweep, Any]:
        mine = runs[runs["parameterization"] == parametrization]
        size = mine.groupby("n_params").size().idxmax()
        fit = lawfit.fit(lawfit.observe(mine[mine["n_params"] == size]), backtest=False)
        return fit, lawfit.predict(fit, params=float(size), tokens=103255934.0, batch_tokens=32768.0)

    def test_mup_answers_from_its_sweep(self, runs: pd.DataFrame) -> None:
        fit, answer = self.answer(runs, "mup")
        assert 0.02 < answer.lr < 0.036  # lowest between 0.022 and 0.03 by its runs, 0.1 costs a quarter
        assert fit.fit.payload["lending"]["lenders"]["lr_joint"] == []
        assert not [
            name for name in STANDARD for s in told(fit.fit.payload["borrowed"]) if name in s.replace(",", " ").split()
        ]

    def test_standard_answers_from_its_sweep_and_borrows_exponents(self, runs: pd.DataFrame) -> None:
        fit, answer = self.answer(runs, "sp")
        assert 0.01 < answer.lr < 0.02  # lowest near 0.014 by its runs
        assert "step_law" in fit.fit.payload["lending"]["lenders"]["lr_joint"]
