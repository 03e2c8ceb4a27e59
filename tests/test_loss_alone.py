"""A law of the loss on its own feet: without a usable learning rate, and for a recipe that has none at all."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lawfit import pipeline
from lawfit.errors import NotEnoughData, Unanswerable
from lawfit.estimate import loss_law
from lawfit.estimate.all_laws import Evidence, evidence_hash
from lawfit.estimate.analysis import FitOptions
from lawfit.laws.loss import CHINCHILLA
from lawfit.pipeline.fitting import LOSS, FittedRecipe, fit_evidence
from lawfit.records import FitStatus, PlanQuestion, Recipe, SizedLoss, Sweep, Target
from lawfit.storage import Store
from tests.estimate.test_loss_law import grid, run

RECIPE = Recipe(name="table", loss_kind="cross entropy, nats per token", data="text")
TARGET = Target(params=1e10, tokens=2e11)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_law, "LOSS_RESAMPLES", 40)


def table(seed: int, **changes: float) -> list[SizedLoss]:
    """Parameters, tokens and losses of the rounded Chinchilla law, and nothing else, in a shuffled order."""
    rng = np.random.default_rng(seed)
    rows = [
        SizedLoss(run_key=f"row {i}", params=one.params, tokens=one.tokens, loss=one.loss or 0.0)
        for i, one in enumerate(grid(rng))
    ]
    return [replace(rows[i], **changes) for i in rng.permutation(len(rows))]


def stored(store: Store, fitted: FittedRecipe) -> None:
    store.put_sweeps([Sweep(recipe=RECIPE, runs=())], named=True)
    for law in fitted.laws:
        store.put_fit(law)


def test_a_recipe_without_learning_rates_has_a_loss_a_plan_and_no_settings(store: Store) -> None:
    fitted = fit_evidence(RECIPE, Evidence(runs=(), losses=table(5)))
    assert fitted.fit is None
    (law,) = fitted.laws
    assert (law.kind, law.status, len(law.payload["points"])) == (LOSS, FitStatus.OK, 24)
    stored(store, fitted)
    plan = pipeline.plan(store, RECIPE.name, PlanQuestion(flops=1e22))
    low, high = (plan["optimum"]["params"][end] for end in ("low", "high"))
    assert low < float(CHINCHILLA.optimum(1e22)[0]) < high
    assert plan["settings"]["recommendation"] == {"lr": None, "batch_tokens": None}
    assert any("say their learning rate" in words for words in plan["warnings"])
    answer = pipeline.recommend(store, RECIPE.name, TARGET)
    json.dumps([plan, answer], allow_nan=False)
    said = answer["expected_loss"]
    assert said["low"] < float(CHINCHILLA.loss(1e10, 2e11)) < said["high"]
    assert set(answer["missing"]) == {"lr", "batch_tokens", "weight_decay", "critical_batch"}


def test_a_scale_counts_once_with_its_lowest_loss_whoever_measured_it() -> None:
    rows = table(6)
    again = [
        replace(row, run_key=f"{row.run_key} again", params=row.params * 1.0001, loss=1.1 * row.loss) for row in rows
    ]
    alone, _ = loss_law._best_of_scales((), rows)
    both, _ = loss_law._best_of_scales([run(r.params, r.tokens, r.loss) for r in rows], again)
    assert len(alone[2]) == len(both[2]) == 24
    assert sorted(both[2]) == pytest.approx(sorted(alone[2]), rel=1e-9)


def test_losses_are_part_of_the_evidence() -> None:
    rows = table(7)
    one, same, other = (
        evidence_hash(Evidence(runs=(), losses=losses)) for losses in (rows, rows[::-1], [*rows[:-1], table(8)[-1]])
    )
    assert one == same != other


def test_too_few_sizes_are_refused_with_their_number() -> None:
    with pytest.raises(NotEnoughData, match="these runs have 5"):
        loss_law.loss_law((), np.random.default_rng(0), losses=table(1)[:5])


@pytest.mark.parametrize("factor", [0.2, 0.6, 0.9], ids=["all far below", "below, as bits per byte", "around"])
def test_losses_around_and_below_a_lent_asymptote_give_a_law_or_a_sentence(factor: float) -> None:
    """What published laws would lend (1.8) may lie above some of the losses, or above all of them."""
    rng = np.random.default_rng(3)
    rows = [replace(row, loss=factor * row.loss * float(np.exp(0.003 * rng.standard_normal()))) for row in table(2)[:9]]
    with suppress(NotEnoughData):  # a sentence: any other error fails here
        assert loss_law.loss_law((), rng, losses=rows).payload["words"]


def test_without_a_usable_learning_rate_the_loss_still_plans(store: Store, tmp_path: Path) -> None:
    """Tables of sizes with one made learning rate and batch in every row: nothing was swept."""
    recipe = replace(RECIPE, name="one rate", optimizer="adamw")
    store.put_runs(recipe, grid(np.random.default_rng(5)))
    fit = pipeline.refit(store, recipe.name, options=FitOptions(backtest=False))
    assert fit.status is FitStatus.UNCERTIFIED
    with pytest.raises(Unanswerable):
        pipeline.recommend(store, recipe.name, TARGET)
    plan = pipeline.plan(store, recipe.name, PlanQuestion(flops=1e22))
    assert plan["optimum"]["params"]["low"] < float(CHINCHILLA.optimum(1e22)[0]) < plan["optimum"]["params"]["high"]
    assert plan["settings"]["recommendation"]["lr"] is None
    assert any("no learning rate and no batch size" in words for words in plan["warnings"])
    again = pipeline.plan(store, recipe.name, PlanQuestion(flops=1e22), fit_id=fit.payload["laws"][LOSS]["fit_id"])
    assert again["optimum"] == plan["optimum"]
