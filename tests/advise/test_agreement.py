"""What an answer would cost at a scale that was swept, read off its runs; and whether dear answers are refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from lawfit.advise.agreement import _cost, contradiction
from lawfit.estimate.lr_batch.lacking import Bearing, scales_of
from lawfit.estimate.observe.observations import observe
from tests.estimate.simulated import RECIPE, nine_fit, run, sweep

# ln loss over the lowest at six rates a factor of 2 apart, lowest at 2e-3
RATES = 5e-4 * 2.0 ** np.arange(6)
ABOVE = np.array([0.2, 0.05, 0.0, 0.03, 0.1, 0.3])


@pytest.mark.parametrize(
    ("lr", "cost"),
    [
        *((rate, above) for rate, above in zip(RATES, ABOVE, strict=True)),
        (1.2e-3, 0.0),  # next to the lowest a sweep leaves open how it runs
        (3.9e-3, 0.0),
        (5e-4 * 2**3.5, (0.03 + 0.1) / 2),  # on the line between two runs, in ln lr
        (5e-4 * 2**0.5, (0.2 + 0.05) / 2),
        (5e-4 * 2**7, 0.3 * 5 / 3),  # beyond the runs on the chord from the lowest to the end
        (5e-4 / 2, 0.2 * 3 / 2),
    ],
)
def test_the_cost_of_a_rate_is_read_off_the_sweep(lr: float, cost: float) -> None:
    at_its_batch = [
        run(f"a{i}", rate, 1e5, 3 * math.exp(up)) for i, (rate, up) in enumerate(zip(RATES, ABOVE, strict=True))
    ]
    at_another = [run(f"b{i}", rate, 2e5, 3.1 + 0.01 * i) for i, rate in enumerate(RATES)]
    (scale,) = scales_of(observe([*at_its_batch, *at_another]))
    near = lr in RATES[[1, 3]]  # a run of its own, beside the lowest: open all the same
    assert _cost(scale, 1e5, lr) == pytest.approx(0.0 if near else cost, abs=1e-9)


@pytest.mark.parametrize("turned", [1.0, 30.0, 1 / 1000])
def test_a_fit_that_answers_dearly_at_its_own_scales_is_refused(turned: float) -> None:
    """Law and scales moved together, up or down; what is told are the scale, its best rate and what was fitted."""
    fit, observed = nine_fit(), observe(sweep().runs)
    payload = json.loads(json.dumps(fit.payload))
    for member in payload["model"]["members"]:
        member["law"][0] += math.log(turned)
        member["scales"]["at"] = [[lr + math.log(turned), batch] for lr, batch in member["scales"]["at"]]
    found = contradiction(replace(fit, payload=payload), RECIPE, observed)
    if turned == 1.0:
        assert found is None
        return
    assert found is not None
    assert found.bearing is Bearing.REFUSES
    assert found.numbers["fitted_lr"] / found.numbers["lr"] == pytest.approx(turned, rel=0.25)
    (scale,) = (
        s for s in scales_of(observed) if (s.params, s.tokens) == (found.numbers["params"], found.numbers["tokens"])
    )
    cost = _cost(scale, found.numbers["batch_tokens"], found.numbers["fitted_lr"])
    assert found.numbers["cost"] == pytest.approx(math.expm1(cost), rel=1e-3)
    again, second = found.runs
    assert (again["params"], again["tokens"]) == (scale.params, scale.tokens)
    assert (second["params"], second["tokens"]) == (2 * scale.params, scale.tokens)
    assert second["lr"] == pytest.approx([found.numbers["lr"] * step for step in (0.25, 0.5, 1, 2, 4)], rel=0.01)
