"""A plan played in drawn worlds: without runs as promised; with runs, intervals hold as often as they say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from lawfit import pipeline
from lawfit.ask import NextQuestion, Target
from lawfit.documents import NextRuns
from lawfit.planner import rehearse
from lawfit.planner.choose import Asked, State
from lawfit.planner.information import Valley
from lawfit.planner.means import read_means
from lawfit.planner.next_runs import what_is_known
from lawfit.planner.planned import Planned, planned_of, rows_of
from lawfit.planner.rehearsal import _as_most
from lawfit.planner.rehearse import draw_worlds, play
from lawfit.records import Run, RunStatus
from lawfit.storage import Store
from tests.golden_stores import fitted

TARGET = Target(params=2e9, tokens=6e10)
SCALE = (2e9, 6e10)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with fitted("five_sizes") as opened:
        yield opened


@pytest.fixture(scope="module")
def document(store: Store) -> NextRuns:
    asked = NextQuestion(params=2e9, tokens=6e10, budget="3e19flops", max_params=3e8)
    return pipeline.plan_next(store, None, asked, keep=False)


def known(store: Store, *, of_fit: bool) -> tuple[State, Valley]:
    fit = next(each for each in store.fits() if each.kind == "lr_batch") if of_fit else None
    return what_is_known(fit, TARGET)


@pytest.mark.parametrize("of_fit", [True, False])
def test_without_runs_a_plan_gives_up_what_is_expected_now(
    store: Store, rng: np.random.Generator, *, of_fit: bool
) -> None:
    state, valley = known(store, of_fit=of_fit)
    expected = Asked(target=TARGET, valley=valley, means=read_means("64runs")).outlook(state)
    played = play(state, valley, SCALE, [], draw_worlds(state, valley, SCALE, [], 2000, rng=rng), level=0.9)
    error = played.regrets.std() / np.sqrt(2000)
    # the planner averages over 64 mirrored pairs, the same always: good to about a sixth
    assert played.regrets.mean() == pytest.approx(expected.regret, abs=4 * error + expected.regret / 6)
    assert np.unique(played.lr_factor) == pytest.approx([expected.lr_factor])
    for held in (played.held_lr, played.held_batch):
        low, high = binomtest(int(held.sum()), 2000).proportion_ci(0.99)
        assert low <= 0.9 <= high


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("of_fit", [True, False])
def test_intervals_hold_after_runs_whose_valley_is_known(
    store: Store, document: NextRuns, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, *, of_fit: bool
) -> None:
    """Scales with runs and without, sizes new and old: what runs tell is counted once."""
    monkeypatch.setattr(rehearse, "APART", (1e-6, 1e-6, 1e-6))
    state, valley = known(store, of_fit=of_fit)
    valley = replace(valley, misfit=0.0)
    if of_fit:
        old = next(iter(state.told))
        log_lr, log_batch = state.knowledge.optimum(*old)
        grid = np.array([(log_lr + u, log_batch + v) for u in (-0.7, 0.0, 0.7) for v in (-0.7, 0.0, 0.7)])
        planned = [
            *planned_of(rows_of(document["grids"]))[:2],
            Planned(scale=old, log_lr=grid[:, 0], log_batch=grid[:, 1]),
        ]
    else:
        asked = NextQuestion(params=2e9, tokens=6e10, budget="3e18flops")
        with Store.open(":memory:") as empty:
            planned = planned_of(rows_of(pipeline.plan_next(empty, None, asked, keep=False)["grids"]))[:4]
    played = play(state, valley, SCALE, planned, draw_worlds(state, valley, SCALE, planned, 1000, rng=rng), level=0.9)
    for held in (played.held_lr, played.held_batch):
        low, high = binomtest(int(held.sum()), 1000).proportion_ci(0.99)
        assert low <= 0.9 <= high
    assert played.regrets.mean() < played.before.mean()


def test_more_runs_give_up_less(store: Store, document: NextRuns, rng: np.random.Generator) -> None:
    state, valley = known(store, of_fit=True)
    planned = planned_of(rows_of(document["grids"]))
    assert sum(len(each.log_lr) for each in planned) == document["budget"]["runs"]
    worlds = draw_worlds(state, valley, SCALE, planned, 100, rng=rng)
    few, all_ = (
        play(
            state, valley, SCALE, planned[:n], [replace(w, losses=w.losses[:n]) for w in worlds], level=0.9
        )
        for n in (1, len(planned))
    )  # fmt: skip
    assert all_.lr_factor.mean() < few.lr_factor.mean()
    assert all_.regrets.mean() < few.before.mean()


def test_a_rehearsal_is_the_same_again_and_says_how(store: Store, document: NextRuns) -> None:
    seen: list[float] = []
    one = pipeline.rehearse(store, document, worlds=10, progress=lambda _doing, share: seen.append(share))
    assert one == pipeline.rehearse(store, document, worlds=10)
    assert one != pipeline.rehearse(store, document, worlds=10, seed=1)
    assert (seen[-1], one["worlds"], one["promised"]) == (1.0, 10, document["after"]["expected_regret"])
    words: Any = one["words"]
    assert words["code"] == "plan_next.rehearsed"


def test_with_fits_every_world_is_fitted(store: Store, document: NextRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    from lawfit.pipeline import rehearsing

    seen = []
    fit_runs = rehearsing.fit_runs
    monkeypatch.setattr(
        rehearsing, "fit_runs", lambda recipe, runs, **more: seen.append(runs) or fit_runs(recipe, runs, **more)
    )
    found = pipeline.rehearse(store, document, worlds=2, refit=True)
    there = store.runs(store.recipe().key)
    assert [len(runs) for runs in seen] == 2 * [len(there) + document["budget"]["runs"]]
    made = [run for run in seen[0] if run.run_key.startswith("made-")]
    assert {(run.params, run.tokens) for run in made} == {(g["params"], g["tokens"]) for g in document["grids"]}
    assert all(run.weight_decay == there[0].weight_decay for run in made)
    assert (found["refitted"], found["failed"]) == (True, 0)
    assert 0 < found["realised"] < 0.06
    assert 1 < found["lr_factor"] < 2 * document["now"]["lr_factor"]


def test_made_runs_have_the_settings_of_the_others_and_nothing_of_theirs_alone() -> None:
    """Tokens that a run read belong to it: with those of another one, a made run would count as repeated text."""
    runs = [
        Run(
            run_key=f"{k}", params=1e6, tokens=1e8 * (k + 1), batch_tokens=2**14, lr=1e-3, status=RunStatus.FINISHED,
            loss=3.0, weight_decay=0.1 if k else 0.3, extra={"unique_tokens": 1e8 * (k + 1), "beta2": 0.95},
        )
        for k in range(10)
    ]  # fmt: skip
    like = _as_most(runs)
    assert (like.weight_decay, dict(like.extra)) == (0.1, {"beta2": 0.95})
    assert dict(_as_most([]).extra) == {}
