"""Which recipe the runs of a file go to: never pooled unasked, never split from themselves."""

from __future__ import annotations

import dataclasses

import pytest

from lawfit.errors import RecipeConflict
from lawfit.records import Changes, Json, Recipe, Run, Sweep
from lawfit.storage import Store, identity
from lawfit.storage.identity import recipe_of
from tests.storage.builders import recipe, run


def put(store: Store, of: Recipe, *runs: Run, named: bool = False, dry_run: bool = False) -> Changes:
    return store.put_sweeps([Sweep(recipe=of, runs=runs)], named=named, dry_run=dry_run)


def names(store: Store) -> list[str]:
    return [summary.recipe.name for summary in store.recipes()]


def test_the_same_name_and_settings_pool(store: Store) -> None:
    put(store, recipe(), run("a"))
    put(store, recipe(), run("b"))
    assert [(s.recipe.name, s.runs) for s in store.recipes()] == [("sweep", 2)]


def test_unknown_settings_under_two_names_stay_apart(store: Store) -> None:
    put(store, recipe("c4"), run("a"))
    changes = put(store, recipe("pile"), run("b"))
    assert names(store) == ["c4", "pile"]
    assert "kept apart" in changes.notes[0]
    assert "--recipe" not in changes.notes[0]  # joining them may pool runs that were held back on purpose
    assert put(store, recipe("pile"), run("b")).unchanged == 1  # and the same file again finds its own
    assert len({s.recipe.key for s in store.recipes()}) == 2


@pytest.mark.parametrize("data", ["", "c4-{}"], ids=["alike", "of other data"])
def test_a_table_is_looked_up_among_many_recipes_without_reading_them(
    store: Store, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of tables with a recipe each grew with the square of the recipes: each was compared with all."""
    for n in range(40):
        put(store, recipe(f"s{n}", data=data.format(n)), run(f"r{n}"))
    read: list[Recipe] = []
    monkeypatch.setattr(identity, "recipe_of", lambda row: read.append(recipe_of(row)) or read[-1])
    assert put(store, recipe("s40", data=data.format(40)), run("r40")).inserted == 1
    assert put(store, recipe("s39", data=data.format(39)), run("r39")).unchanged == 1
    assert put(store, recipe("again", data=data.format(7)), run("r7")).recipes[0].name == "s7"
    assert len(read) < 10


def test_a_grid_tried_on_other_data_stays_apart(store: Store) -> None:
    """Keys made from settings coincide; the losses tell that these are other runs."""
    put(store, recipe("c4"), *(run(f"k{n}", loss=2.5 + n) for n in range(4)))
    put(store, recipe("pile"), *(run(f"k{n}", loss=3.1 + n) for n in range(4)))
    assert names(store) == ["c4", "pile"]


def test_a_renamed_file_with_a_correction_is_the_same_sweep(store: Store) -> None:
    put(store, recipe("sweep"), run("a"), run("b"), run("c"))
    changes = put(store, recipe("sweep_fixed"), run("a"), run("b"), run("c", loss=2.9))
    assert names(store) == ["sweep"]
    assert (changes.inserted, changes.updated, changes.unchanged) == (0, 1, 2)
    assert changes.notes[0] == "taken as the same sweep as recipe 'sweep', whose runs it repeats"
    assert any("run 'c' of 'sweep': loss 2.75 -> 2.9" in note for note in changes.notes)


def hashed(loss: float, count: int = 5) -> list[Run]:
    """Runs of a log without ids: the keys are made from the settings."""
    return [run(f"{number:016x}", loss=loss + number) for number in range(count)]


def test_the_same_file_name_and_grid_with_other_results_is_another_sweep(store: Store) -> None:
    """Two folders with a runs.csv each: the second must not overwrite the first."""
    put(store, recipe("runs"), *hashed(2.5))
    changes = put(store, recipe("runs"), *hashed(3.1))
    assert (changes.inserted, changes.updated) == (5, 0)
    assert names(store) == ["runs", "runs-2"]
    assert "taken as another sweep, 'runs-2'; to correct 'runs' instead, ingest with --recipe runs" in changes.notes[0]
    for loss, home in ((2.5, "runs"), (3.1, "runs-2")):  # each finds its own again
        again = put(store, recipe("runs"), *hashed(loss))
        assert (again.unchanged, again.recipes[0].name) == (5, home)
    assert put(store, recipe("runs"), *hashed(9.0), named=True).updated == 5


def test_a_few_corrections_without_ids_update(store: Store) -> None:
    put(store, recipe("runs"), *hashed(2.5))
    given = [dataclasses.replace(r, loss=9.0) if n < 2 else r for n, r in enumerate(hashed(2.5))]
    assert put(store, recipe("runs"), *given).updated == 2
    put(store, recipe("few"), *hashed(2.5, count=3), named=True)
    assert put(store, recipe("few"), *hashed(2.6, count=3)).updated == 3


def test_ids_of_the_log_are_believed(store: Store) -> None:
    put(store, recipe("runs"), *(run(f"id{n}", loss=2.5) for n in range(6)))
    assert put(store, recipe("runs"), *(run(f"id{n}", loss=2.6) for n in range(6))).updated == 6


def test_new_runs_that_join_unasked_are_said(store: Store) -> None:
    put(store, recipe("runs"), run("a"))
    (note,) = put(store, recipe("runs"), run("b")).notes
    assert note.startswith("these runs joined the 1 that recipe 'runs' has")
    assert put(store, recipe("runs"), run("b"), run("c")).notes == ()


def test_runs_that_leave_nothing_unstated_join_the_sweep_with_their_settings(store: Store) -> None:
    put(store, recipe("coarse"), run("a"))
    exact = Sweep(recipe=recipe("fine"), runs=(run("b"),), exact=True)
    assert [r.name for r in store.put_sweeps([exact]).recipes] == ["coarse"]
    assert [r.name for r in store.put_sweeps([exact], named=True).recipes] == ["fine"]  # unless a person says so
    other = dataclasses.replace(exact, recipe=recipe("fine", data="pile"), runs=(run("c"),))
    assert [r.name for r in store.put_sweeps([other]).recipes] == ["fine-2"]


def test_exact_runs_unlike_those_they_join_are_said(store: Store) -> None:
    def notes(key: str, **extra: Json) -> tuple[str, ...]:
        usual = {"precision": "bf16", "beta2": 0.95, "warmup_fraction": 0.1}
        given = run(key, extra={**usual, **extra})
        return store.put_sweeps([Sweep(recipe=recipe("fine"), runs=(given,), exact=True)]).notes

    assert notes("a") == ()
    assert notes("b", warmup_fraction=0.2) == ()  # it follows the number of steps
    assert notes("c", beta2=0.9, beta2_half_life_tokens=1e6) == ()
    (note,) = notes("d", precision="fp32", clip=0.5)
    assert "are unlike all that it had: precision is fp32, not bf16, clip is 0.5, not unsaid; to keep" in note
    assert notes("e", precision="fp32") == ()  # said once


def test_a_chosen_name_is_honoured(store: Store) -> None:
    put(store, recipe("sweep"), run("a"))
    put(store, recipe("mine"), run("a"), named=True)
    assert names(store) == ["mine", "sweep"]


def test_a_chosen_name_with_other_settings_is_an_error(store: Store) -> None:
    put(store, recipe("mine"), run("a"))
    with pytest.raises(RecipeConflict, match="optimizer is 'adamw' there and 'muon' here"):
        put(store, recipe("mine", optimizer="muon"), run("b"), named=True)
    with pytest.raises(RecipeConflict, match="optimizer is 'adamw' there and unknown here"):
        put(store, recipe("mine", optimizer=""), run("b"), named=True)
    assert [s.runs for s in store.recipes()] == [1]


def test_a_file_name_with_other_settings_gets_a_new_name(store: Store) -> None:
    put(store, recipe("runs"), run("a"))
    changes = put(store, recipe("runs", optimizer="muon"), run("a"))
    assert names(store) == ["runs", "runs-2"]
    assert "these runs went to 'runs-2'" in changes.notes[0]
    again = put(store, recipe("runs", optimizer="muon"), run("a"))
    assert (again.inserted, again.unchanged) == (0, 1)
    assert names(store) == ["runs", "runs-2"]


def test_several_recipes_land_together_or_not_at_all(store: Store) -> None:
    put(store, recipe("b", optimizer="lion"), run("x"))
    sweeps = [
        Sweep(recipe=recipe("a"), runs=(run("x"),)),
        Sweep(recipe=recipe("b"), runs=(run("x"),)),  # conflicts with the stored b
    ]
    with pytest.raises(RecipeConflict):
        store.put_sweeps(sweeps, named=True)
    assert names(store) == ["b"]
    store.put_sweeps(sweeps)
    assert names(store) == ["a", "b", "b-2"]


def test_a_dry_run_tells_and_does_not_do(store: Store) -> None:
    put(store, recipe(), run("a"), run("b"))
    changes = put(store, recipe(), run("a"), run("b", loss=3.0), run("c"), dry_run=True)
    assert (changes.inserted, changes.updated, changes.unchanged) == (1, 1, 1)
    put(store, recipe("new", optimizer="lion"), run("a"), dry_run=True)
    assert store.runs(recipe().key) == [run("a"), run("b")]
    assert names(store) == ["sweep"]


def test_a_run_that_only_moved_in_its_file_is_no_correction(store: Store) -> None:
    put(store, recipe(), run("a", source="sweep.csv:2"))
    assert put(store, recipe(), run("a", source="sweep.csv:7")).unchanged == 1
    assert store.runs(recipe().key)[0].source == "sweep.csv:7"


def test_many_updates_are_counted_and_some_shown(store: Store) -> None:
    given = [run(f"r{n:02}") for n in range(30)]
    put(store, recipe(), *given)
    changes = put(store, recipe(), *(dataclasses.replace(r, loss=3.0) for r in given))
    assert changes.updated == 30
    assert changes.notes[0] == "updated 30 runs whose row in the file has changed:"
    assert changes.notes[-1] == "  and 20 more"
    assert len(changes.notes) == 12
