"""Which choice of the analysis moves the answer most."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lawfit.advise.choices import SAME, choices_at
from lawfit.estimate.lr_batch.valley import FLOOR_AT, best_lr_shift
from lawfit.findings import finding
from lawfit.words import tell

VALLEY = np.array([-5.5, -1.0, 0.6, -5.5, 1.3, -0.9, -6.2, 1.2, 0.8])


def model(*members: tuple[float, str, float, str, float, float]) -> dict[str, Any]:
    """Members (weight, shape, window, prior, lr, batch) whose answers are the same at every scale."""
    return {
        "centre": [0.0, 0.0],
        "sizes": [1.0],
        "scales": [[1.0, 1.0]],
        "spread_priors": [],
        "valley": {
            "q": VALLEY.tolist(),
            "cov": np.zeros((10, 10)).tolist(),
            "steepness": 0.0,
            "log_tokens": [0.0, 1.0],
            "centre_log_tokens": 0.0,
        },
        "members": [
            {
                "weight": weight,
                "choice": {"shape": shape, "window": window, "prior": prior},
                "law": [float(np.log(lr)), *[0.0] * 4, float(np.log(batch)), *[0.0] * 4],
                "cov": np.zeros((10, 10)).tolist(),
                "scatter_var": [0.0, 0.0],
                "size_var": [0.0, 0.0],
                "floor": best_lr_shift(np.array(FLOOR_AT), VALLEY).tolist(),
            }
            for weight, shape, window, prior, lr, batch in members
        ],
    }


def test_other_priors_on_the_spread_of_sizes_are_told_of_sizes_without_runs_alone() -> None:
    """A size with runs has the deviation that they show, which a law through all sizes knows nothing of."""
    fitted = model((1.0, "cubic", 0.01, "own", 2e-4, 1e6))
    law, var = fitted["members"][0]["law"], {"size_var": [0.01, 0.01], "scatter_var": [0.0, 0.0]}
    fitted["spread_priors"] = [
        {"prior_scale": scale, "law": law, "cov": np.zeros((10, 10)).tolist(), **var} for scale in (0.5, 1.0, 2.0)
    ]
    fitted["members"][0]["sizes"] = {"shift": [[0.5, 0.0]], "cross": np.zeros((1, 10, 2)), "cov": np.zeros((1, 2, 2))}
    for params, is_told in ((1.0, False), (1e9, True)):
        found = choices_at(fitted, params, 2e10)
        assert found is not None
        assert [any(row["name"] == "spread" for row in found[name]) for name in ("lr", "batch_tokens")] == [is_told] * 2


def test_the_one_that_moves_most_comes_first_with_its_answers() -> None:
    found = choices_at(model((0.5, "cubic", 0.01, "own", 2e-4, 1e6), (0.5, "cubic", 0.03, "own", 4e-4, 1e6)), 1e9, 2e10)
    assert found is not None
    assert found["lr"][0]["name"] == "window"
    assert found["lr"][0]["factor"] == pytest.approx(2)
    assert [a["value"] for a in found["lr"][0]["answers"]] == pytest.approx([2e-4, 4e-4])
    lr, batch = found["words"]
    assert "2.00e-4 (within 1 % of the lowest loss) to 4.00e-4 (within 3 % of the lowest loss)" in tell(lr)
    assert batch == finding("advice.nothing_moves", quantity="batch_tokens", share=SAME)


def test_all_else_is_averaged_as_in_the_answer() -> None:
    found = choices_at(
        model(
            (0.3, "cubic", 0.01, "own", 1e-4, 1e6),
            (0.1, "cubic", 0.01, "bent", 2e-4, 1e6),
            (0.6, "exponentials", 0.01, "own", 3e-4, 1e6),
        ),
        1e9,
        2e10,
    )
    assert found is not None
    shape = next(row for row in found["lr"] if row["name"] == "shape")
    cubic = next(a for a in shape["answers"] if a["choice"] == "cubic")
    assert cubic["value"] == pytest.approx(np.exp(0.75 * np.log(1e-4) + 0.25 * np.log(2e-4)), rel=1e-5)
    assert cubic["weight"] == pytest.approx(0.4)


def test_a_choice_that_the_backtest_rejected_does_not_count() -> None:
    found = choices_at(
        model((0.99, "cubic", 0.01, "own", 2e-4, 1e6), (0.01, "cubic", 0.03, "own", 9e-4, 1e6)), 1e9, 2e10
    )
    assert found is not None
    assert found["lr"][0]["factor"] == 1


def test_at_an_imposed_batch_the_learning_rate_follows_and_the_forms_count() -> None:
    two = model((0.5, "cubic", 0.01, "own", 2e-4, 1e6), (0.5, "cubic", 0.03, "own", 2e-4, 4e6))
    found = choices_at(
        two, 1e9, 2e10, imposed_log_batch=float(np.log(1e6)), forms={"surface": 2e-4, "saturating": 9e-4}
    )
    assert found is not None
    assert "batch_tokens" not in found
    assert found["lr"][0]["name"] == "form"
    window = next(row for row in found["lr"] if row["name"] == "window")
    assert window["factor"] > 1.1  # a quarter of its best batch takes another learning rate
    (said,) = found["words"]
    ends = [{"choice": "surface", "value": 2e-4}, {"choice": "saturating", "value": 9e-4}]
    assert said == finding("advice.choice_moves", quantity="lr", choice="form", answers=ends)
    assert tell(said) == (
        "learning rate: the form of the law at this batch, 2.00e-4 (the joint surface) to 9.00e-4 (the saturating law)"
    )


def test_a_fit_of_before_choices_were_kept_says_nothing() -> None:
    old = model((1.0, "cubic", 0.01, "own", 2e-4, 1e6))
    del old["members"][0]["choice"]
    assert choices_at(old, 1e9, 2e10) is None
