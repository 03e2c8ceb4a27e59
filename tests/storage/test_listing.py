"""What pages ask of a store: values among runs, and the answers that were kept last."""

from __future__ import annotations

from lawfit.storage import Store
from lawfit.storage.listing import latest_predictions, values_among_runs
from tests.storage.builders import diverged, fit, recipe, run


def test_values_are_of_one_recipe_each_once_from_small_to_large(store: Store) -> None:
    store.put_runs(
        recipe(), [run("a", params=2e8), run("b", params=1e7), run("c", params=2e8), diverged("d", params=3e6)]
    )
    store.put_runs(recipe("other", optimizer="muon"), [run("e", params=5e9)])
    assert values_among_runs(store, store.recipe("sweep").key, "params") == [3e6, 1e7, 2e8]
    assert values_among_runs(store, "nothing", "params") == []


def test_answers_are_listed_newest_first(store: Store) -> None:
    store.put_runs(recipe(), [run("a")])
    key = store.recipe("sweep").key
    store.put_fit(fit(key))
    for number in range(4):
        answer = {"recommendation": {"lr": {"value": float(number)}}, "more": "x" * 100}
        store.put_prediction(f"p{number}", "f1", {"params": 1e9, "tokens": number}, answer)
    listed = latest_predictions(store, limit=3)
    assert len(listed) == 3
    moments = [each.created_at for each in listed]
    assert moments == sorted(moments, reverse=True)
    one = next(each for each in latest_predictions(store, limit=10) if each.id == "p2")
    assert (one.recipe_name, one.target["tokens"], one.recommendation["lr"]["value"]) == ("sweep", 2, 2.0)
