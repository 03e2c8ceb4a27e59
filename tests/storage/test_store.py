"""`Store` on both databases: what goes in comes out, nothing that must not be stored is."""

from __future__ import annotations

import dataclasses
import math
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from lawfit.errors import NoFit, NoRecipe, NoRun, StoreError, Unavailable
from lawfit.records import FitStatus, Optimum, OptimumStatus, Run, StepsToTarget, TargetSweep
from lawfit.storage import Store
from lawfit.storage.fits import KEPT
from tests.storage.builders import diverged, fit, recipe, run


class TestRecipes:
    def test_the_only_one_needs_no_name(self, store: Store) -> None:
        store.put_runs(recipe(extra={"beta2": "0.95"}), [run()])
        assert store.recipe() == recipe(extra={"beta2": "0.95"})
        assert store.recipe("sweep") == store.recipe(recipe(extra={"beta2": "0.95"}).key) == store.recipe()

    def test_an_empty_store_says_how_to_start(self, store: Store) -> None:
        with pytest.raises(NoRecipe, match="holds no runs yet; start with lawfit ingest FILE"):
            store.recipe()

    def test_several_must_be_told_apart(self, store: Store) -> None:
        store.put_runs(recipe("one"), [run()])
        store.put_runs(recipe("two", optimizer="muon"), [run()])
        with pytest.raises(
            NoRecipe, match=r"2 recipes; say which one to use \(--recipe NAME; recipe=NAME in a URL\): one, two"
        ):
            store.recipe()

    def test_an_unknown_name_names_the_known(self, store: Store) -> None:
        store.put_runs(recipe("gpt-c4"), [run()])
        with pytest.raises(NoRecipe, match=r"no recipe 'gpt-c5'.*did you mean 'gpt-c4'"):
            store.recipe("gpt-c5")

    def test_counts(self, store: Store) -> None:
        store.put_runs(recipe("b"), [run("a"), run("b"), diverged("c")])
        store.put_runs(recipe("a", optimizer="muon"), [run("a")])
        store.exclude(recipe("b").key, ["a"], "wrong data")
        store.put_fit(fit(recipe("b").key))
        counted = [(s.recipe.name, s.runs, s.diverged, s.excluded, s.fits) for s in store.recipes()]
        assert counted == [("a", 1, 0, 0, 0), ("b", 3, 1, 1, 1)]


class TestRuns:
    def test_come_back_as_they_were(self, store: Store) -> None:
        given = [
            run("smallest", params=5e-324 * 2**60, lr=1e-300),
            run("third", lr=1 / 3, loss=math.nextafter(2.75, 3)),
            run("bare", weight_decay=None, steps=None, seed=None, extra={}, source=""),
            run("large", seed=-(2**63), steps=2**63 - 1, tokens=1.4e12),
            diverged("gone", extra={"final_loss": "nan"}),
        ]
        store.put_runs(recipe(), given)
        assert sorted(store.runs(recipe().key), key=lambda r: r.run_key) == sorted(given, key=lambda r: r.run_key)

    def test_order_does_not_depend_on_arrival(self, store: Store, rng: np.random.Generator) -> None:
        given = [run(f"{case}{n}", lr=lr) for n in range(4) for case in "aBä_" for lr in (0.001 * (n % 2 + 1),)]
        shuffled = [given[i] for i in rng.permutation(len(given))]
        store.put_runs(recipe(), shuffled)
        wanted = sorted(given, key=lambda r: (r.params, r.tokens, r.batch_tokens, r.lr, r.run_key))
        assert [r.run_key for r in store.runs(recipe().key)] == [r.run_key for r in wanted]

    def test_the_same_again_changes_nothing(self, store: Store) -> None:
        assert store.put_runs(recipe(), [run("a"), diverged("b")]) == (2, 0, 0)
        assert store.put_runs(recipe(), [run("a"), diverged("b")]) == (0, 0, 2)

    @pytest.mark.parametrize(
        "change",
        [
            {"loss": 2.76},
            {"lr": 0.0028},
            {"weight_decay": None},
            {"extra": {"beta2": 0.99}},
            {"seed": 4},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_a_corrected_run_is_updated(self, store: Store, change: dict[str, object]) -> None:
        store.put_runs(recipe(), [run("a"), run("b")])
        assert store.put_runs(recipe(), [run("a", **change), run("b")]) == (0, 1, 1)
        assert store.runs(recipe().key).count(run("a", **change)) == 1

    def test_a_run_may_turn_out_diverged(self, store: Store) -> None:
        store.put_runs(recipe(), [run("a")])
        assert store.put_runs(recipe(), [diverged("a")]) == (0, 1, 0)
        assert store.runs(recipe().key) == [diverged("a")]

    def test_runs_that_are_not_given_again_stay(self, store: Store) -> None:
        store.put_runs(recipe(), [run("a"), run("b")])
        store.put_runs(recipe(), [run("c")])
        assert [r.run_key for r in store.runs(recipe().key)] == ["a", "b", "c"]

    def test_a_key_given_twice_is_refused(self, store: Store) -> None:
        with pytest.raises(ValueError, match="run 'a' is given twice"):
            store.put_runs(recipe(), [run("a"), run("a", loss=3)])
        assert store.recipes() == []

    @pytest.mark.parametrize(
        "change",
        [
            {"lr": math.inf},
            {"lr": 0.0},
            {"lr": -0.001},
            {"params": math.nan},
            {"loss": math.nan},
            {"loss": math.inf},
            {"loss": -1.0},
            {"tokens": math.nan},
            {"weight_decay": -0.1},
            {"weight_decay": math.inf},
            {"steps": 0},
            {"extra": {"x": math.nan}},
            {"extra": {"x": [math.inf]}},
        ],
        ids=lambda change: "-".join(f"{k}={v}" for k, v in change.items()),
    )
    def test_what_is_no_number_never_gets_in(self, store: Store, change: dict[str, object]) -> None:
        with pytest.raises(StoreError, match=r"(nothing was written|Nothing was written)"):
            store.put_runs(recipe(), [run("good"), run("bad", **change)])
        assert store.recipes() == []  # nor does the good run of the same call, nor the recipe

    def test_loss_is_null_exactly_when_diverged(self, store: Store) -> None:
        store.put_runs(recipe(), [run("a"), diverged("b")])
        for statement in (
            "UPDATE runs SET loss = NULL WHERE run_key = 'a'",
            "UPDATE runs SET loss = 3 WHERE run_key = 'b'",
            "UPDATE runs SET status = 'running' WHERE run_key = 'a'",
        ):
            with pytest.raises(StoreError), store.writing() as connection:
                connection.execute(sa.text(statement))
        assert len(store.runs(recipe().key)) == 2

    def test_columns_agree_with_records(self, store: Store) -> None:
        store.put_runs(recipe(), [run("b"), diverged("a", lr=0.01, weight_decay=None), run("c", params=1e8)])
        store.exclude(recipe().key, ["b"], "why not")
        columns, records = store.run_columns(recipe().key), store.runs(recipe().key)
        assert list(columns["run_key"]) == [r.run_key for r in records] == ["c", "b", "a"]
        assert list(columns["lr"]) == [r.lr for r in records]
        assert list(columns["diverged"]) == [False, False, True]
        assert list(columns["excluded"]) == [False, True, False]
        assert np.isnan(columns["loss"]).tolist() == np.isnan(columns["weight_decay"]).tolist() == [False, False, True]


class TestExclusions:
    def test_exclude_and_restore(self, store: Store) -> None:
        store.put_runs(recipe(), [run("a"), run("b"), run("c")])
        key = recipe().key
        assert store.exclude(key, ["a", "b"], " node failure ") == 2
        assert store.exclude(key, ["a"], "node failure") == 0
        assert {r.run_key: r.excluded for r in store.runs(key)} == {"a": "node failure", "b": "node failure", "c": None}
        assert [r.run_key for r in store.runs(key, excluded=False)] == ["c"]
        assert store.restore(key, ["a"]) == 1
        assert store.restore(key) == 1
        assert all(r.excluded is None for r in store.runs(key))

    def test_outlive_a_second_ingest(self, store: Store) -> None:
        store.put_runs(recipe(), [run("a"), run("b")])
        store.exclude(recipe().key, ["a", "b"], "node failure")
        assert store.put_runs(recipe(), [run("a"), run("b", loss=2.8)]) == (0, 1, 1)
        assert [r.excluded for r in store.runs(recipe().key)] == ["node failure"] * 2

    def test_need_a_reason(self, store: Store) -> None:
        store.put_runs(recipe(), [run("a")])
        with pytest.raises(ValueError, match="needs a reason"):
            store.exclude(recipe().key, ["a"], "  ")

    def test_one_unknown_run_excludes_none(self, store: Store) -> None:
        store.put_runs(recipe(), [run("a")])
        with pytest.raises(NoRun, match="no run 'zz'"):
            store.exclude(recipe().key, ["a", "zz"], "why")
        assert store.runs(recipe().key) == [run("a")]

    def test_patterns(self, store: Store) -> None:
        store.put_runs(recipe(), [run("h960/lr1e-3"), run("h960/lr2e-3"), run("h512/lr1e-3"), run("odd[1]*")])
        key = recipe().key
        assert store.match_runs(key, ["h960/*"]) == ["h960/lr1e-3", "h960/lr2e-3"]
        assert store.match_runs(key, ["*lr1e-3", "h960/lr1e-3"]) == ["h512/lr1e-3", "h960/lr1e-3"]
        assert store.match_runs(key, ["odd[1]*"]) == ["odd[1]*"]  # an exact key is no pattern
        with pytest.raises(NoRun, match="did you mean 'h512/lr1e-3'"):
            store.match_runs(key, ["h512/lr1e-4"])


class TestFits:
    @pytest.fixture
    def key(self, store: Store) -> str:
        store.put_runs(recipe(), [run()])
        return recipe().key

    def test_come_back_as_they_were(self, store: Store, key: str) -> None:
        assert store.put_fit(fit(key))
        assert store.fit("f1") == fit(key)

    def test_are_never_changed(self, store: Store, key: str) -> None:
        store.put_fit(fit(key))
        assert not store.put_fit(fit(key, payload={"other": 1}))
        assert store.fit("f1") == fit(key)
        with pytest.raises(StoreError, match="a stored fit is never changed"), store.writing() as connection:
            connection.execute(sa.text("UPDATE fits SET status = 'uncertified'"))
        assert store.fit("f1") == fit(key)

    def test_the_latest_is_the_one_made_last(self, store: Store, key: str) -> None:
        store.put_fit(fit(key, "f1"))
        store.put_fit(fit(key, "f2"))
        assert store.latest_fit(key, "lr_batch").id == "f2"
        store.put_fit(fit(key, "f1"))  # the data changed back: the same fit again
        assert store.latest_fit(key, "lr_batch").id == "f1"
        assert [f.id for f in store.fits(key)] == [f.id for f in store.fits()] == ["f1", "f2"]

    def test_uncertified_ones_are_not_used_unasked(self, store: Store, key: str) -> None:
        store.put_fit(fit(key, "f1", status=FitStatus.SPARSE))
        store.put_fit(fit(key, "f2", status=FitStatus.UNCERTIFIED))
        assert store.latest_fit(key, "lr_batch").id == "f1"
        assert store.latest_fit(key, "lr_batch", usable_only=False).id == "f2"

    def test_of_another_kind_or_recipe_do_not_count(self, store: Store, key: str) -> None:
        other = recipe("other", optimizer="muon")
        store.put_runs(other, [run()])
        store.put_fit(fit(other.key, "f1"))
        store.put_fit(fit(key, "f2", kind="weight_decay"))
        with pytest.raises(NoFit, match="no stored usable fit for recipe 'sweep'; run lawfit fit --recipe sweep"):
            store.latest_fit(key, "lr_batch")

    def test_need_their_recipe(self, store: Store) -> None:
        with pytest.raises(NoRecipe, match="ingest its runs first"):
            store.put_fit(fit("nowhere"))

    @pytest.mark.parametrize("name", ["x", "a\x00b", "\x00"], ids=["plain", "NUL inside", "NUL alone"])
    def test_an_unknown_id(self, name: str, store: Store, key: str) -> None:
        """PostgreSQL's driver refuses to ask for a NUL; it is a name that is not there, as on SQLite."""
        with pytest.raises(NoFit, match=f"no fit '{name}'"):
            store.fit(name)
        with pytest.raises(NoFit, match=f"no prediction '{name}'"):
            store.prediction(name)
        with pytest.raises(NoRun, match=f"no run '{name}'"):
            store.curve(key, name, "loss")

    def test_a_nul_that_cannot_be_stored_is_not_called_a_lost_connection(self, postgres_url: str) -> None:
        with Store.open(postgres_url) as opened, pytest.raises(StoreError, match="cannot hold a text with a NUL"):
            opened.put_runs(recipe(), [run("a\x00b")])

    def test_a_refit_lands_whole_or_not_at_all(self, store: Store, key: str) -> None:
        laws = [fit(key, "law1", kind="loss"), fit(key, "law2", kind="weight_decay")]
        broken = fit(key, "f1", payload={"loss": math.nan})
        with pytest.raises(StoreError, match="nothing was written"):
            store.put_refit(laws, broken)
        assert store.fits() == []
        optimum = Optimum(params=1e8, tokens=2e9, estimator="e3", status=OptimumStatus.INSIDE, lr=0.002)
        store.put_refit(laws, fit(key), [optimum])
        assert [f.id for f in store.fits()] == ["f1", "law2", "law1"]
        assert store.optima("f1") == [optimum]
        store.put_refit(laws)  # of a recipe without a finished run
        assert store.fits()[0].id == "law2"

    def test_nan_in_a_payload_is_refused(self, store: Store, key: str) -> None:
        with pytest.raises(StoreError, match="nothing was written"):
            store.put_fit(fit(key, payload={"loss": math.nan}))
        assert store.fits() == []

    def test_optima_go_with_their_fit(self, store: Store, key: str) -> None:
        optima = [
            Optimum(params=1e8, tokens=2e9, estimator="e3", status=OptimumStatus.INSIDE, lr=0.002, loss=2.9),
            Optimum(params=2e8, tokens=2e9, estimator="e3", status=OptimumStatus.TOO_FEW, detail={"runs": 2}),
        ]
        store.put_fit(fit(key), optima)
        store.put_fit(fit(key), optima)
        assert store.optima("f1") == optima

    def test_a_prediction_comes_back_from_its_id(self, store: Store, key: str) -> None:
        store.put_fit(fit(key))
        answer = {"recommendation": {"lr": {"value": 1 / 3, "low": 1e-4}}, "warnings": ["weit außerhalb"]}
        assert store.put_prediction("p1", "f1", {"params": 7e9}, answer)
        assert not store.put_prediction("p1", "f1", {"params": 7e9}, {"other": True})
        found = store.prediction("p1")
        assert (found.fit_id, found.target, found.answer) == ("f1", {"params": 7e9}, answer)
        with pytest.raises(NoFit, match="no prediction 'p2'"):
            store.prediction("p2")
        with pytest.raises(NoFit, match="no fit 'nowhere'"):
            store.put_prediction("p3", "nowhere", {}, {})


def test_threads_share_a_store(store: Store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    store.put_runs(recipe(), [])

    def work(number: int) -> list[Run]:
        store.put_runs(recipe(), [run(f"r{number}")])
        return store.runs(recipe().key)

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(work, range(24)))
    assert all(seen)
    assert len(store.runs(recipe().key)) == 24


def test_every_field_of_a_run_is_stored() -> None:
    from lawfit.storage.tables import runs

    assert {field.name for field in dataclasses.fields(Run)} <= set(runs.c.keys())


def test_steps_to_a_target_given_again_are_counted_as_what_they_are(store: Store) -> None:
    def row(key: str, **changes: Any) -> StepsToTarget:
        return StepsToTarget(
            **{"run_key": key, "params": 1e8, "batch_tokens": 65536.0, "steps": 900.0, "target_loss": 3.2, **changes}
        )

    def put(*rows: StepsToTarget) -> tuple[int, int, int]:
        found = store.put_targets([TargetSweep(recipe=recipe(), rows=rows)], named=True)
        return found.inserted, found.updated, found.unchanged

    assert put(row("a"), row("b", lr=1e-3)) == (2, 0, 0)
    assert put(row("a"), row("b", lr=1e-3)) == (0, 0, 2)
    assert put(row("a"), row("b", lr=2e-3), row("c")) == (1, 1, 1)
    assert {t.run_key: t.lr for t in store.targets(recipe().key)} == {"a": None, "b": 2e-3, "c": None}


class TestWhatIsAskedOften:
    def test_of_keys_those_that_are_stored(self, store: Store) -> None:
        store.put_runs(recipe(), [run(f"r{k}") for k in range(1201)])
        store.put_runs(replace(recipe(), name="other", optimizer="lion"), [run("elsewhere")])
        asked = [f"r{k}" for k in range(0, 2400, 2)]
        right = {**dict.fromkeys(asked[:601], (recipe().name,)), "elsewhere": ("other",)}
        assert store.stored_of([*asked, "elsewhere"]) == right
        store.put_runs(replace(recipe(), name="twice", optimizer="muon"), [run("elsewhere")])
        assert store.stored_of(["elsewhere"]) == {"elsewhere": ("other", "twice")}
        assert store.stored_of([]) == {}

    def test_a_fit_is_read_once(self, store: Store) -> None:
        store.put_runs(recipe(), [run("a")])
        made = [replace(fit(recipe().key), id=f"f{k}") for k in range(3)]
        for each in made:
            store.put_fit(each, [])
        payloads: list[str] = []
        sa.event.listen(store._engine, "before_cursor_execute", lambda *at: payloads.append(at[2]))
        for _ in range(3):
            assert store.fit("f1") == made[1]
            assert store.latest_fit(recipe().key, made[0].kind) == made[2]
            assert store.fits(recipe().key) == made[::-1]
        assert sum("payload" in statement for statement in payloads) == 3
        store.put_fit(made[0], [])  # made again: now the latest
        assert store.latest_fit(recipe().key, made[0].kind) == made[0]

    def test_many_fits_are_not_all_kept(self, store: Store) -> None:
        store.put_runs(recipe(), [run("a")])
        for k in range(KEPT + 5):
            store.put_fit(replace(fit(recipe().key), id=f"f{k:03}"), [])
        assert [each.id for each in store.fits()] == [f"f{k:03}" for k in reversed(range(KEPT + 5))]
        assert len(store._fits._kept) == KEPT


def test_connections_are_kept(store: Store) -> None:
    """Opening one costs a server more than most queries do."""
    opened: list[object] = []
    sa.event.listen(store._engine, "connect", lambda connection, _: opened.append(connection))
    for _ in range(3):
        with ExitStack() as stack:
            for _ in range(12):
                stack.enter_context(store.reading())
    assert len(opened) <= 12


def test_connections_that_are_all_in_use_are_a_sentence(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store._engine.pool, "_timeout", 0.05)
    with ExitStack() as stack:
        for _ in range(15):
            stack.enter_context(store.reading())
        with pytest.raises(Unavailable, match=r"all 15 connections .* were in use .*; try again later"):
            stack.enter_context(store.reading())
    assert store.recipes() == []
