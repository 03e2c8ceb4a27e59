"""Curves come back bit for bit, chunk by chunk."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lawfit.errors import NoRun, StoreError
from lawfit.storage import Store
from lawfit.storage.curves import CHUNK_POINTS, pack, unpack
from tests.storage.builders import recipe, run


@given(
    steps=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=50, unique=True).map(sorted),
    data=st.data(),
)
def test_any_curve_comes_back_bit_for_bit(steps: list[int], data: st.DataObject) -> None:
    numbers = data.draw(npst.arrays(np.float64, len(steps), elements=st.floats(allow_nan=True, allow_infinity=True)))
    (chunk,) = pack(steps, numbers)
    got_steps, got_numbers = unpack(chunk.codec, chunk.points, chunk.steps, chunk.numbers)
    assert got_steps.tolist() == steps
    assert got_numbers.tobytes() == numbers.tobytes()  # nan and -0.0 included


def test_a_live_run_appends(store: Store) -> None:
    store.put_runs(recipe(), [run("a"), run("b")])
    key = recipe().key
    steps = np.arange(0, 3 * (CHUNK_POINTS + 500), 3)
    loss = 11 * np.exp(-steps / 5000.0)
    loss[-1] = np.nan
    assert (
        store.append_curve(key, "a", "loss", steps[: CHUNK_POINTS + 10], loss[: CHUNK_POINTS + 10]) == CHUNK_POINTS + 10
    )
    assert store.append_curve(key, "a", "loss", steps[CHUNK_POINTS + 10 :], loss[CHUNK_POINTS + 10 :]) == len(steps)
    store.append_curve(key, "a", "grad_norm", [5], [0.5])
    got_steps, got_loss = store.curve(key, "a", "loss")
    assert np.array_equal(got_steps, steps)
    assert got_loss.tobytes() == loss.tobytes()
    assert store.curve_metrics(key, "a") == ["grad_norm", "loss"]
    assert store.curve_metrics(key, "b") == []
    assert [len(part) for part in store.curve(key, "b", "loss")] == [0, 0]


def test_steps_go_forward(store: Store) -> None:
    store.put_runs(recipe(), [run("a")])
    key = recipe().key
    store.append_curve(key, "a", "loss", [10, 20], [3.0, 2.9])
    with pytest.raises(ValueError, match="reaches step 20; got step 20"):
        store.append_curve(key, "a", "loss", [20, 30], [2.9, 2.8])
    with pytest.raises(ValueError, match="steps must ascend, got 5 after 7"):
        store.append_curve(key, "a", "loss", [7, 5], [2.9, 2.8])
    assert store.curve(key, "a", "loss")[0].tolist() == [10, 20]


@pytest.mark.parametrize(
    ("steps", "numbers", "reason"),
    [([1, 2], [1.0], "2 steps and 1 numbers"), ([], [], "at least one point")],
    ids=["lengths", "empty"],
)
def test_what_is_no_curve(steps: list[int], numbers: list[float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        pack(steps, numbers)


def test_a_curve_needs_its_run(store: Store) -> None:
    store.put_runs(recipe(), [run("a")])
    with pytest.raises(NoRun, match="no run 'x'"):
        store.append_curve(recipe().key, "x", "loss", [1], [1.0])


@pytest.mark.parametrize("damage", ["codec", "blob", "points"])
def test_damage_is_named(damage: str) -> None:
    (chunk,) = pack([1, 2, 3], [1.0, 2.0, 3.0])
    codec = "zstd/float32" if damage == "codec" else chunk.codec
    blob = chunk.numbers[:-3] if damage == "blob" else chunk.numbers
    points = 4 if damage == "points" else chunk.points
    with pytest.raises(StoreError, match=r"upgrade lawfit|lawfit db check"):
        unpack(codec, points, chunk.steps, blob)


def test_all_curves_of_a_recipe_at_once(store: Store) -> None:
    store.put_runs(recipe(), [run("a"), run("b"), run("c")])
    store.put_runs(recipe("other", data="other"), [run("a")])
    key = recipe().key
    for name in ("a", "b"):
        store.append_curve(key, name, "loss", [1, 2], [3.0, float("nan")])
        store.append_curve(key, name, "loss", [5], [2.5])
    store.append_curve(key, "c", "grad_norm", [1], [0.5])
    store.append_curve(recipe("other", data="other").key, "a", "loss", [9], [9.0])
    found = store.curves(key, "loss")
    assert set(found) == {"a", "b"}
    for name, curve in found.items():
        one = store.curve(key, name, "loss")
        assert [part.tobytes() for part in curve] == [part.tobytes() for part in one]
    assert store.curve_counts(key) == {"loss": 2, "grad_norm": 1}
    assert store.curves(key, "nothing") == {}
