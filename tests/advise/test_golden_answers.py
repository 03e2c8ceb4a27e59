"""All numbers of answers from made recipes, of plans from some, and of refusals: none moves unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lawfit import pipeline
from lawfit.advise.loss_at_setting import loss_at_settings
from lawfit.advise.transfer import transfer_view
from lawfit.ask import PlanQuestion, Target
from lawfit.errors import LawfitError
from lawfit.kinds.expected_loss import stored_law
from lawfit.records import Recipe, Sweep
from lawfit.storage import Store
from tests import steps
from tests.estimate.sparse_sweeps import MADE
from tests.estimate.transfer import test_lr as test_lr_transfer
from tests.golden_numbers import check
from tests.golden_stores import QUICK, STORES, fitted
from tests.watched import watched_answers

TARGETS = {
    "a scale of the runs": Target(params=6e7, tokens=1.8e9),
    "a size of the runs": Target(params=6e7, tokens=4e9, level=0.8),
    "beyond": Target(params=2e9, tokens=6e10, seq_len=2048, batch_multiple=8, max_batch_tokens=4e5),
    "a batch given": Target(params=4e8, tokens=2e10, batch_tokens=3e5),
}
PLANS = {
    "a budget": PlanQuestion(flops=1e21, seq_len=2048),
    "GPUs and days": PlanQuestion(gpus=64, days=3, flops_per_second=4e14, level=0.8, max_batch_tokens=2e6),
    "a size": PlanQuestion(flops=1e21, params=1e9),
    "served": PlanQuestion(flops=1e21, inference_tokens=1e12, tokens_per_second=1e6),
    "a loss": PlanQuestion(loss=2.6, gpus=8, flops_per_second=2e14, step_seconds=0.1),
    "tokens and a loss": PlanQuestion(tokens=4e10, loss=2.7),
}
THIRDS: dict[str, dict[str, dict[str, float]]] = {
    "repeated": {"tokens": {"unique_tokens": 2e10}, "epochs": {"epochs": 4}},
    "sparse": {"share": {"active_share": 0.2}, "dense": {"active_share": 1.0}},
    "dense_and_sparse": {"epochs": {"epochs": 8}, "experts": {"experts": 64}},
}


def said(ask: Callable[[], Any]) -> Any:
    """The document, or the sentence that refuses it."""
    try:
        return ask()
    except LawfitError as error:
        return f"{type(error).__name__}: {error}"


def answers(store: Store, name: str) -> dict[str, Any]:
    (recipe,) = (each.recipe.name for each in store.recipes())
    found = {words: said(lambda t=target: pipeline.recommend(store, recipe, t)) for words, target in TARGETS.items()}
    for words, third in THIRDS.get(name, {}).items():
        found[words] = said(lambda t=third: pipeline.recommend(store, recipe, Target(params=1e9, tokens=4e10, **t)))
    return found


@pytest.mark.parametrize("name", STORES)
def test_no_number_of_an_answer_moves(name: str, update_golden: bool) -> None:
    found, _ = watched_answers(name)
    without = frozenset({"warnings"} if name == "two_sizes" else ())  # which of two runs would help as much: rounding
    check(f"answers_{name}", found, update=update_golden, without=without)


@steps.only_asked
@pytest.mark.parametrize("name", STORES)
def test_no_step_of_an_answer_moves(name: str, update_golden: bool) -> None:
    steps.check(f"answers_{name}", watched_answers(name)[1], update=update_golden)


@pytest.mark.parametrize("name", ["every_law", "profiles", "repeated", "sparse", "dense_and_sparse"])
def test_no_number_of_a_plan_moves(name: str, update_golden: bool) -> None:
    with fitted(name) as store:
        (recipe,) = (each.recipe.name for each in store.recipes())
        asked = dict(PLANS)
        for words, third in THIRDS.get(name, {}).items():
            asked[words] = PlanQuestion(flops=1e21, **third)
        found = {words: said(lambda q=question: pipeline.plan(store, recipe, q)) for words, question in asked.items()}
    check(f"plans_{name}", found, update=update_golden)


# of three runs the directions that are open are open alike: which is drawn along first is rounding
@pytest.mark.parametrize("name", [name for name in list(MADE)[::2] if name != "three runs at one scale"])
def test_no_word_of_a_refusal_moves(name: str, update_golden: bool, tmp_path: Path) -> None:
    """Sweeps that lack something: what is said in place of an answer, and of a plan, or the answer with its doubts."""
    with Store.open(str(tmp_path / "made.db")) as store:
        store.put_sweeps([Sweep(recipe=Recipe(name="made"), runs=MADE[name]())])
        said(lambda: pipeline.refit(store, options=QUICK))
        found = [said(lambda t=target: pipeline.recommend(store, None, t)) for target in list(TARGETS.values())[1:3]]
        found.append(said(lambda: pipeline.plan(store, None, PlanQuestion(flops=1e19))))
    check(f"refused_{name.replace(' ', '_')}", found, update=update_golden, without=frozenset({"warnings"}))


def test_no_number_of_a_comparison_of_widths_moves(update_golden: bool) -> None:
    rng = np.random.default_rng(6)
    sweeps = [
        (Recipe(name="standard", parametrization="standard"), test_lr_transfer.sweep(-0.6, noise=2e-3, rng=rng)),
        (Recipe(name="muP", parametrization="mup"), test_lr_transfer.sweep(0.0, noise=2e-3, rng=rng)),
        (Recipe(name="one width"), test_lr_transfer.sweep(0.0, widths=(64,))),
    ]
    check("transfer", transfer_view(sweeps, level=0.8), update=update_golden)


def test_no_number_of_the_comparison_with_published_laws_moves(update_golden: bool) -> None:
    with fitted("every_law") as store:
        check("compared_every_law", pipeline.compare_laws(store), update=update_golden)


def test_no_number_of_a_loss_at_given_settings_moves(update_golden: bool) -> None:
    with fitted("every_law") as store:
        fits = {fit.kind: fit for fit in store.fits()}
    law = stored_law(fits["loss"], 0.8)
    found = [
        loss_at_settings(fits["lr_batch"].payload["model"], law, n, d, lr=[3e-4, 2e-3, 9e-3], batch_tokens=2e5)
        for n, d in ((6e7, 1.8e9), (4e8, 1.2e10))
    ]
    check("loss_at_settings", found, update=update_golden)
