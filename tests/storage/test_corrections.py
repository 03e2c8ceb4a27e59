"""Fields of runs changed by a person: kept with the reason, taken back, not overwritten by the log, seen by fits."""

from __future__ import annotations

import pytest

from lawfit.errors import NoRun
from lawfit.pipeline import correct
from lawfit.pipeline.correcting import NotUnderstood
from lawfit.records import Recipe, Run, Sweep
from lawfit.storage import Store, corrections
from lawfit.storage.corrections import WrongCorrection
from tests.storage.builders import diverged, recipe, run

WHY = "logged in units of 1e-3"


@pytest.fixture
def key(store: Store) -> str:
    store.put_runs(recipe(), [run("a1", lr=1.0), run("a2", lr=2.0), run("b", lr=0.004), diverged("d")])
    return recipe().key


def stored(store: Store, key: str) -> dict[str, Run]:
    return {run.run_key: run for run in store.runs(key)}


def test_a_pattern_is_corrected_and_undone(store: Store, key: str) -> None:
    before = stored(store, key)
    done = correct(store, ["a*"], values={}, factors={"lr": "0.001"}, reason=WHY)
    assert (done.change, done.matched, done.changed) == (1, 2, 2)
    assert {name: run.lr for name, run in stored(store, key).items()} == {
        "a1": 1e-3,
        "a2": 2e-3,
        "b": 4e-3,
        "d": 0.00276,
    }
    assert [(c.run_key, c.field, c.before, c.after, c.reason) for c in store.history()] == [
        ("a1", "lr", 1.0, 1e-3, WHY),
        ("a2", "lr", 2.0, 2e-3, WHY),
    ]
    number, restored = store.undo()
    assert (number, len(restored)) == (1, 2)
    assert stored(store, key) == before
    assert all(each.undone_at for each in store.history(key))
    with pytest.raises(NoRun, match="nothing to undo"):
        store.undo()
    with pytest.raises(NoRun, match=r"change 1 was undone at .* already"):
        store.undo(1)


def test_every_field_and_back(store: Store, key: str) -> None:
    extra = {"beta2": 1.0, "note": "ümlaut", "flags": [1, None, "x"]}
    store.put_runs(recipe(), [run("a1", lr=1.0, extra=extra), diverged("d", extra=extra)])
    before = stored(store, key)
    assert isinstance(before["a1"].extra["beta2"], float)
    values = {
        "params": "7B", "tokens": "1e12", "batch_tokens": "2k", "lr": "3e-4", "loss": "2.5", "weight_decay": "none",
        "steps": "10", "seed": "-3", "beta2": "0.99", "extra.new": '"0.5"', "note": "none",
    }  # fmt: skip
    correct(store, ["*"], values=values, factors={}, reason="all of it")
    for each in store.runs(key):
        assert (each.params, each.tokens, each.batch_tokens, each.lr, each.loss) == (7e9, 1e12, 2000, 3e-4, 2.5)
        assert (each.weight_decay, each.steps, each.seed, each.status.value) == (None, 10, -3, "finished")
        assert each.extra == {"beta2": 0.99, "new": "0.5", "flags": [1, None, "x"]}
    store.undo()
    assert stored(store, key) == before
    assert isinstance(stored(store, key)["a1"].extra["beta2"], float)  # 1.0, not 1


def test_a_run_turns_out_to_have_diverged(store: Store, key: str) -> None:
    correct(store, ["b"], values={"loss": "diverged"}, factors={}, reason="loss of another run")
    assert (stored(store, key)["b"].loss, stored(store, key)["b"].status.value) == (None, "diverged")
    store.undo()
    assert stored(store, key)["b"].loss == 2.75


class TestExclusions:
    def test_are_kept_with_what_was_before_and_undone(self, store: Store, key: str) -> None:
        store.exclude(key, ["a1", "b"], "node failure")
        store.exclude(key, ["a1"], "loss spike")
        store.restore(key, ["b"])
        kept = [(c.change, c.run_key, c.field, c.before, c.after, c.reason) for c in store.history(key)]
        assert kept == [
            (3, "b", "excluded", "node failure", None, "restored"),
            (2, "a1", "excluded", "node failure", "loss spike", "loss spike"),
            (1, "a1", "excluded", None, "node failure", "node failure"),
            (1, "b", "excluded", None, "node failure", "node failure"),
        ]
        with pytest.raises(WrongCorrection, match="change 3 changed the same excluded later"):
            store.undo(1)
        assert store.undo()[0] == 3
        assert stored(store, key)["b"].excluded == "node failure"
        store.undo(2)
        store.undo(1)
        assert all(run.excluded is None for run in store.runs(key))

    def test_what_changes_nothing_is_not_kept(self, store: Store, key: str) -> None:
        assert store.restore(key) == 0
        store.exclude(key, ["b"], "node failure")
        assert store.exclude(key, ["b"], "node failure") == 0
        assert len(store.history(key)) == 1

    def test_the_log_of_an_excluded_run_still_changes_its_numbers(self, store: Store, key: str) -> None:
        store.exclude(key, ["b"], "node failure")
        store.put_runs(recipe(), [run("b", lr=0.008)])
        assert (stored(store, key)["b"].lr, stored(store, key)["b"].excluded) == (0.008, "node failure")

    def test_a_corrected_run_that_is_excluded_keeps_both(self, store: Store, key: str) -> None:
        store.exclude(key, ["b"], "node failure")
        correct(store, ["b"], values={"lr": "0.5"}, factors={}, reason=WHY)
        assert (stored(store, key)["b"].lr, stored(store, key)["b"].excluded) == (0.5, "node failure")
        store.undo()
        assert (stored(store, key)["b"].lr, stored(store, key)["b"].excluded) == (0.004, "node failure")


def test_what_is_so_already_makes_no_change(store: Store, key: str) -> None:
    done = correct(store, ["b"], values={"lr": "0.004"}, factors={}, reason=WHY)
    assert (done.matched, done.changed, store.history(key)) == (1, 0, [])


def test_a_later_ingest_keeps_the_correction(store: Store, key: str) -> None:
    """The log still says what it said: the corrected field stays, another field is updated, and both are told."""
    correct(store, ["a1"], values={"lr": "0.001", "beta2": "0.9"}, factors={}, reason=WHY)
    changes = store.put_sweeps([Sweep(recipe=recipe(), runs=(run("a1", lr=1.0, loss=2.0), run("a2", lr=2.0)))])
    now = stored(store, key)["a1"]
    assert (now.lr, now.extra["beta2"], now.loss) == (0.001, 0.9, 2.0)
    assert (changes.inserted, changes.updated, changes.unchanged) == (0, 1, 1)
    assert any("1 run of 'sweep' keeps what a person corrected" in note for note in changes.notes)
    store.undo()
    assert stored(store, key)["a1"].lr == 1.0
    assert store.put_runs(recipe(), [run("a1", lr=1.0, loss=2.0)]) == (0, 0, 1)


def test_a_recipe_that_was_corrected_throughout_is_still_the_same_sweep(store: Store) -> None:
    """Keys made from settings, of which every run was corrected: the file again is no other experiment."""
    runs = tuple(run(f"{n:016x}", lr=float(n)) for n in range(1, 9))
    store.put_sweeps([Sweep(recipe=Recipe(name="table"), runs=runs)])
    correct(store, ["*"], values={}, factors={"lr": "0.001"}, reason=WHY)
    changes = store.put_sweeps([Sweep(recipe=Recipe(name="table"), runs=runs)])
    assert (changes.inserted, changes.unchanged, [found.name for found in changes.recipes]) == (0, 8, ["table"])


def test_changes_of_one_field_are_undone_from_the_last(store: Store, key: str) -> None:
    for value in ("0.1", "0.2"):
        correct(store, ["a1"], values={"lr": value}, factors={}, reason=WHY)
    correct(store, ["a1"], values={"seed": "9"}, factors={}, reason=WHY)
    with pytest.raises(WrongCorrection, match="change 2 changed the same lr later; undo that first"):
        store.undo(1)
    store.undo(2)
    assert (stored(store, key)["a1"].lr, stored(store, key)["a1"].seed) == (0.1, 9)
    store.undo(1)
    assert (stored(store, key)["a1"].lr, stored(store, key)["a1"].seed) == (1.0, 9)


@pytest.mark.parametrize(
    ("values", "factors", "sentence"),
    [
        pytest.param({"lr": "-1"}, {}, "lr of run 'a1' would be -1; it must be above zero", id="negative"),
        pytest.param({"lr": "none"}, {}, "would be 'None', which is not a finite number", id="needed"),
        pytest.param({"lr": "inf"}, {}, "not a finite number", id="infinite"),
        pytest.param({"steps": "1.5"}, {}, "must be a whole number", id="fraction"),
        pytest.param({"lr": "fast"}, {}, "lr: ", id="no number"),
        pytest.param({"lrr": "1"}, {}, "no field 'lrr'; it is one of params, .*beta2", id="no field"),
        pytest.param({"status": "diverged"}, {}, "no field 'status'|status", id="status by hand"),
        pytest.param({"lr": "1"}, {"lr": "2"}, "a value and a factor", id="both"),
        pytest.param({}, {"note": "2"}, "cannot be multiplied", id="factor of a text"),
    ],
)
def test_refused_whole(store: Store, key: str, values: dict[str, str], factors: dict[str, str], sentence: str) -> None:
    before = stored(store, key)
    with pytest.raises((WrongCorrection, NotUnderstood), match=sentence):
        correct(store, ["*"], values=values, factors=factors, reason=WHY)
    assert (stored(store, key), store.history()) == (before, [])


def test_a_reason_is_needed(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        store.correct(key, ["b"], {"lr": lambda _: 1.0}, " ")
    with pytest.raises(NoRun, match="no run 'zz'"):
        correct(store, ["zz"], values={"lr": "1"}, factors={}, reason=WHY)


def test_whether_corrections_changed_runs_since(store: Store, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def at(hour: int) -> str:
        return f"2026-11-29T{hour:02d}:00:00+00:00"

    monkeypatch.setattr(corrections, "now", lambda: at(10))
    correct(store, ["b"], values={"lr": "0.1"}, factors={}, reason=WHY)
    assert [store.corrected_since(key, at(hour)) for hour in (9, 11)] == [True, False]
    monkeypatch.setattr(corrections, "now", lambda: at(12))
    store.undo()
    assert [store.corrected_since(key, at(hour)) for hour in (9, 11, 13)] == [False, True, False]
