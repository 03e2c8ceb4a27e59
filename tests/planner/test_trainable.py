"""Recipes whose further runs lawfit's trainer can make, and those that it cannot."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from lawfit import pipeline
from lawfit.ask import NextQuestion
from lawfit.errors import NotEnoughData
from lawfit.pipeline.trainable import grid_of, shapes_of
from lawfit.records import Recipe, Run, RunStatus
from lawfit.storage import Store
from lawfit.words import tell

SHAPE = {"layers": 4, "width": 64, "heads": 2, "hidden": 176, "qk_norm": 1, "embedding_std": 1.0, "init_std": 0.125}
PARAMS = 201536.0
RECIPE = Recipe(name="mine", optimizer="adamw", schedule="cosine to 0.1", seq_len=128, parametrization="standard")


def run(params: float = PARAMS, **extra: Any) -> Run:
    return Run(
        run_key="a", params=params, tokens=8e6, batch_tokens=2048, lr=1e-3, status=RunStatus.FINISHED, loss=3.0,
        weight_decay=0.1, extra={**SHAPE, **extra},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "runs", "words"),
    [
        (Recipe(name="lion", optimizer="lion"), [run()], "trained with lion, and lawfit's trainer has adamw, muon"),
        (RECIPE, [run(heads=None)], "no run of recipe 'mine' states these"),
        (RECIPE, [run(heads=3)], "heads must be a number that cuts width 64 into even parts"),
        (RECIPE, [run(params=2 * PARAMS)], "for 403,072 parameters has 201,536 as lawfit's trainer counts"),
    ],
    ids=["optimizer", "shapes", "no model", "count"],
)
def test_other_trainers_recipes_are_told_apart(recipe: Recipe, runs: list[Run], words: str) -> None:
    with pytest.raises(NotEnoughData, match=words):
        shapes_of(recipe, runs)


def test_the_grid_holds_what_the_runs_held() -> None:
    runs = [run(beta2=0.99, precision="fp32", weight_decay_kind="independent", warmup_fraction=0.02)]
    shapes = shapes_of(RECIPE, runs)
    size = shapes.params(1e6)
    wanted = {"params": size, "tokens": 2e7, "lr": [1e-3], "batch_tokens": [1000.0], "shape": shapes.shape(size)}
    grid = grid_of(RECIPE, runs, [{**wanted, "seeds": [2]}], 128)
    assert grid["base"] == {"corpus": "corpus", "seq_len": 128, "precision": "fp32", "decay": "independent"}
    assert grid["run"] == {"schedule": "cosine", "final_fraction": 0.1, "beta2": 0.99}
    assert grid["warmup_fraction"] == 0.02
    (block,) = grid["blocks"]
    assert (block["batch_tokens"], block["weight_decay"], block["seeds"]) == ([1024], 0.1, [2])
    assert grid["shapes"][block["shape"]] == shapes.shape(size)


@pytest.mark.parametrize(("levels", "said"), [((0.1,), True), ((0.03, 0.1), False), ((None,), False)])
def test_one_weight_decay_in_all_runs_is_said(levels: tuple[float | None, ...], said: bool) -> None:
    with Store.open("sqlite://") as store:
        made = [
            replace(run(2e7 * 2 ** (n % 4)), run_key=str(n), lr=1e-3 * 2 ** (n // 4), weight_decay=decay)
            for n, decay in zip(range(16), itertools.cycle(levels), strict=False)
        ]
        store.put_runs(RECIPE, made)
        asked = NextQuestion(params=1e9, tokens=2e10, budget="1e18flops")
        found = pipeline.plan_next(store, None, asked, keep=False)["warnings"]
    words = [text for text in map(tell, found) if "weight decay" in text]
    assert len(words) == said
    assert all("all your runs have weight decay 0.1" in text for text in words)
