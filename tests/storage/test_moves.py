"""Recipes merged and split: nothing is lost, keys never collide, and logs that are read again find their runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lawfit.errors import NoRecipe, RecipeConflict
from lawfit.records import Curve, LossSweep, SizedLoss, StepsToTarget, Sweep, TargetSweep
from lawfit.storage import Store
from lawfit.storage.version import answers_version
from tests.storage.builders import diverged, fit, recipe, run

A = recipe("a", optimizer="adamw", extra={"beta2": "0.95"})
B = recipe("b", optimizer="muon")
TARGET = StepsToTarget(run_key="t", params=1e8, batch_tokens=5e5, steps=400, target_loss=3.0, extra={"beta2": 0.9})
LOSS = SizedLoss(run_key="n", params=1e8, tokens=1e9, loss=3.0)
A_RUNS = (run("1", extra={}), run("2", excluded="bad", extra={}))
B_RUNS = (run("3", extra={"width": 64}), diverged("4", extra={}))
SWEEPS = (Sweep(recipe=A, runs=A_RUNS), Sweep(recipe=B, runs=B_RUNS))


@pytest.fixture
def two(store: Store) -> Store:
    store.put_sweeps(SWEEPS, named=True)
    store.put_curves(B.key, [Curve(run_key="3", metric="loss", steps=(1, 2), numbers=(3.0, 2.0))])
    store.put_targets([TargetSweep(recipe=B, rows=(TARGET,))], named=True)
    store.put_losses([LossSweep(recipe=B, rows=(LOSS,))], named=True)
    return store


def extras(store: Store, key: str) -> dict[str, Any]:
    return {each.run_key: each.extra for each in store.runs(key)}


class TestMerge:
    def test_nothing_is_lost_and_each_run_says_what_parted_them(self, two: Store) -> None:
        assert two.merge_recipes(A.key, B.key) == 4
        runs = {each.run_key: replace(each, extra={}) for each in two.runs(A.key)}
        assert runs == {each.run_key: replace(each, extra={}) for each in (*A_RUNS, *B_RUNS)}
        assert extras(two, A.key) == {
            "1": {"optimizer": "adamw", "beta2": "0.95"},
            "2": {"optimizer": "adamw", "beta2": "0.95"},
            "3": {"optimizer": "muon", "beta2": "unknown", "width": 64},
            "4": {"optimizer": "muon", "beta2": "unknown"},
        }
        assert two.curve(A.key, "3", "loss")[1].tolist() == [3.0, 2.0]
        assert two.targets(A.key) == [replace(TARGET, extra={"optimizer": "muon", "beta2": 0.9})]
        assert two.losses(A.key)[0].extra == {"optimizer": "muon", "beta2": "unknown"}
        assert [summary.recipe for summary in two.recipes()] == [A]
        assert two.recipe() == A

    def test_the_same_logs_again_change_nothing(self, two: Store) -> None:
        two.merge_recipes(A.key, B.key)
        for named in (True, False):
            changes = two.put_sweeps(SWEEPS, named=named)
            assert (changes.inserted, changes.updated, changes.unchanged) == (0, 0, 4)
        two.put_targets([TargetSweep(recipe=B, rows=(TARGET,))], named=True)
        assert len(two.targets(A.key)) == 1
        (change,) = two.put_curves(B.key, [Curve(run_key="3", metric="loss", steps=(1, 2, 3), numbers=(3.0, 2.0, 1.5))])
        assert change.new_steps == (3,)

    def test_a_new_run_of_the_merged_recipe_goes_along(self, two: Store) -> None:
        two.merge_recipes(A.key, B.key)
        two.put_sweeps([Sweep(recipe=B, runs=(run("5", extra={}),))], named=True)
        assert extras(two, A.key)["5"] == {"optimizer": "muon", "beta2": "unknown"}
        assert two.runs(B.key) == []

    def test_three_in_a_row(self, two: Store) -> None:
        """C into B, B into A: each run still says its own settings, also when its log is read again."""
        c = recipe("c", optimizer="sgd", schedule="wsd")
        sweep = Sweep(recipe=c, runs=(run("6", extra={}),))
        two.put_sweeps([sweep], named=True)
        two.merge_recipes(B.key, c.key)
        two.merge_recipes(A.key, B.key)
        said = extras(two, A.key)
        assert said["6"] == {"optimizer": "sgd", "schedule": "wsd", "beta2": "unknown"}
        assert (said["3"]["optimizer"], said["3"]["schedule"]) == ("muon", "unknown")
        changes = two.put_sweeps([*SWEEPS, sweep], named=True)
        assert (changes.inserted, changes.updated, changes.unchanged) == (0, 0, 5)

    def test_fits_of_the_merged_recipe_stay(self, two: Store) -> None:
        two.put_fit(fit(B.key, recipe_name="b"))
        two.merge_recipes(A.key, B.key)
        assert two.fit("f1").recipe_name == "b"
        assert [(s.recipe.name, s.runs, s.fits) for s in two.recipes()] == [("a", 4, 0), ("b", 0, 1)]

    @pytest.mark.parametrize(
        ("changes", "keys", "sentence"),
        [
            pytest.param(
                {}, ("2", "9"), r"1 runs .* keys that recipe 'a' has already \(2\); nothing was moved", id="keys"
            ),
            pytest.param({"loss_kind": "bits"}, ("9",), "loss_kind is 'nats' .* not comparable", id="losses"),
            pytest.param({"params_convention": "total"}, ("9",), "params_convention is 'active'", id="sizes"),
        ],
    )
    def test_refused(self, store: Store, changes: dict[str, str], keys: tuple[str, ...], sentence: str) -> None:
        a = replace(A, loss_kind="nats", params_convention="active")
        b = replace(B, **{"loss_kind": "nats", "params_convention": "active", **changes})
        store.put_runs(a, A_RUNS)
        store.put_runs(b, [run(key) for key in keys])
        before = {key: store.runs(key) for key in (a.key, b.key)}
        with pytest.raises(RecipeConflict, match=sentence):
            store.merge_recipes(a.key, b.key)
        assert {key: store.runs(key) for key in (a.key, b.key)} == before
        assert len(store.recipes()) == 2

    def test_in_a_circle(self, two: Store) -> None:
        with pytest.raises(RecipeConflict, match="with itself"):
            two.merge_recipes(A.key, A.key)
        two.merge_recipes(A.key, B.key)
        for one, other in ((A, B), (B, A)):
            with pytest.raises(RecipeConflict, match="'b' was merged into another already"):
                two.merge_recipes(one.key, other.key)
        assert len(two.runs(A.key)) == 4

    def test_what_was_split_is_not_merged(self, store: Store) -> None:
        store.put_runs(A, TestSplit.RUNS)
        store.put_runs(B, B_RUNS)
        store.split_recipe(A.key, "attention")
        with pytest.raises(RecipeConflict, match="'a' was split by attention; merge its parts instead"):
            store.merge_recipes(A.key, B.key)


def test_recipes_that_part_again_are_another_version_of_answers(store: Store) -> None:
    """The row of the merge is deleted, and where a database gives its id again, another one has it."""
    one, other = recipe("one", optimizer="adamw"), recipe("other", optimizer="muon")
    store.put_runs(one, [run("1", extra={})])
    store.put_runs(other, [run("2", extra={})])
    store.merge_recipes(one.key, other.key)
    merged = answers_version(store)
    assert answers_version(store) == merged
    store.split_recipe(one.key, "optimizer")
    assert [each.run_key for each in store.runs(other.key)] == ["2"]
    assert answers_version(store) != merged


class TestSplit:
    RUNS = tuple(run(f"{name}{n}", extra={"attention": name}) for name in ("gqa", "mla") for n in range(3))
    SAYS_NOT = run("plain", extra={})

    @pytest.fixture
    def one(self, store: Store) -> Store:
        store.put_runs(A, [*self.RUNS, self.SAYS_NOT])
        store.put_curves(A.key, [Curve(run_key="mla1", metric="loss", steps=(1,), numbers=(3.0,))])
        return store

    def test_nothing_is_lost(self, one: Store) -> None:
        parts = one.split_recipe(A.key, "attention")
        assert [(part.name, part.extra, count) for part, count in parts] == [
            ("a-attention-gqa", {"beta2": "0.95", "attention": "gqa"}, 3),
            ("a-attention-mla", {"beta2": "0.95", "attention": "mla"}, 3),
        ]
        (gqa, _), (mla, _) = parts
        assert one.runs(gqa.key) == list(self.RUNS[:3])
        assert one.runs(mla.key) == list(self.RUNS[3:])
        assert one.runs(A.key) == [self.SAYS_NOT]
        assert one.curve(mla.key, "mla1", "loss")[1].tolist() == [3.0]

    def test_the_same_log_again_goes_the_same_way(self, one: Store) -> None:
        one.split_recipe(A.key, "attention")
        again = Sweep(recipe=A, runs=(*self.RUNS, self.SAYS_NOT, run("new", extra={"attention": "mha"})))
        rehearsal = one.put_sweeps([again], named=True, dry_run=True)
        changes = one.put_sweeps([again], named=True)
        assert (changes.inserted, changes.updated, changes.unchanged) == (1, 0, 7)
        assert (rehearsal.inserted, rehearsal.unchanged) == (1, 7)
        assert [r.run_key for r in one.runs(one.recipe("a-attention-mha").key)] == ["new"]
        (change,) = one.put_curves(A.key, [Curve(run_key="mla1", metric="loss", steps=(1, 2), numbers=(3.0, 2.0))])
        assert change.new_steps == (2,)

    def test_parts_merged_again_hold_the_same_runs(self, one: Store) -> None:
        (gqa, _), (mla, _) = one.split_recipe(A.key, "attention")
        one.merge_recipes(gqa.key, mla.key)
        assert {r.run_key: r for r in one.runs(gqa.key)} == {r.run_key: r for r in self.RUNS}
        changes = one.put_sweeps([Sweep(recipe=A, runs=self.RUNS)], named=True)
        assert (changes.inserted, changes.updated, changes.unchanged) == (0, 0, 6)

    def test_a_merge_is_taken_apart_by_what_parted_them(self, two: Store) -> None:
        two.merge_recipes(A.key, B.key)
        parts = two.split_recipe(A.key, "optimizer")
        assert [(part.optimizer, count) for part, count in parts] == [("muon", 4)]
        assert sorted(each.run_key for each in two.runs(A.key)) == ["1", "2"]
        assert sorted(each.run_key for each in two.runs(parts[0][0].key)) == ["3", "4"]

    @pytest.mark.parametrize(
        ("column", "sentence"),
        [("nonesuch", "no run says it"), ("seq", "all that say it have 1")],
    )
    def test_a_column_that_parts_nothing(self, store: Store, column: str, sentence: str) -> None:
        store.put_runs(A, [run("1", extra={"seq": 1}), run("2", extra={"seq": 1})])
        with pytest.raises(RecipeConflict, match=sentence):
            store.split_recipe(A.key, column)
        assert len(store.recipes()) == 1

    def test_a_part_that_has_such_runs_already(self, one: Store) -> None:
        there = replace(A, name="mine", extra={**A.extra, "attention": "mla"})
        one.put_runs(there, [run("mla2")])
        with pytest.raises(RecipeConflict, match=r"recipe 'mine' has already \(mla2\); nothing was moved"):
            one.split_recipe(A.key, "attention")
        assert len(one.runs(A.key)) == 7
        with pytest.raises(NoRecipe):
            one.recipe("a-attention-gqa")


def test_what_parts_recipes(two: Store) -> None:
    assert two.parting() == {
        "optimizer": {A.key: "adamw", B.key: "muon"},
        "beta2": {A.key: "0.95", B.key: ""},
    }
