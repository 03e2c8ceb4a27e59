"""Few sizes, sizes next to each other, sizes with one horizon: an answer as unsure as they make it."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest

from lawfit.advise.draws import Worlds, draw_worlds
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.findings import code_of
from lawfit.simulate import Truth
from tests.estimate.simulated import fit_of, sweep

QUICK = FitOptions(backtest=False)
TRUTH = Truth(noise=3e-4)
RATIOS = (10, 30, 90)
EDGES: dict[str, tuple[tuple[float, float], ...]] = {
    "one size": tuple((6e7, 6e7 * ratio) for ratio in RATIOS),
    "two sizes": tuple((size, size * ratio) for size in (2e7, 6e7) for ratio in RATIOS),
    "sizes a factor 1.05 apart": tuple((size, 2e9 * step) for size in (6e7, 6.3e7, 6.615e7) for step in (1, 3, 9)),
    "sizes of one horizon": tuple((size, 20 * size) for size in (2e7, 6e7, 1.8e8))
    + tuple((5.4e8, 5.4e8 * ratio) for ratio in RATIOS),
    "three sizes": tuple((size, size * ratio) for size in (2e7, 6e7, 1.8e8) for ratio in RATIOS),
}
FAR = (6e8, 1.8e10)


@cache
def payload(edge: str) -> Any:
    return fit_of(sweep(EDGES[edge], truth=TRUTH, lr_steps=7, seed=5).runs, QUICK).payload


def far(edge: str) -> Worlds:
    return draw_worlds(payload(edge)["model"], *FAR)


def width(edge: str) -> float:
    return float(np.ptp(np.quantile(far(edge).log_lr, [0.05, 0.95])))


@pytest.mark.parametrize("edge", EDGES)
def test_the_interval_holds_the_truth(edge: str) -> None:
    lr, batch = TRUTH.optimum(*FAR)
    worlds = far(edge)
    for true, drawn in ((lr, worlds.log_lr), (batch, worlds.log_batch)):
        low, high = np.quantile(drawn, [0.05, 0.95])
        assert low - 0.1 < math.log(true) < high + 0.1  # one sweep of each kind: a little slack
    assert payload(edge)["spread"]["sizes"] == len({size for size, _ in EDGES[edge]})


@pytest.mark.parametrize("edge", ["one size", "two sizes", "sizes a factor 1.05 apart"])
def test_sizes_that_cannot_tell_an_exponent_leave_it_open(edge: str) -> None:
    assert width(edge) > 1.15 * width("three sizes")
    said = payload(edge)["law"]["lr"]
    assert said["params_high"] - said["params_low"] > 0.3  # two sizes next to each other are not a law


def test_at_its_own_size_one_size_is_sure() -> None:
    worlds = draw_worlds(payload("one size")["model"], *EDGES["one size"][1])
    assert worlds.known == "scale"
    lr, _ = TRUTH.optimum(*EDGES["one size"][1])
    assert worlds.centre_log_lr == pytest.approx(math.log(lr), abs=0.15)
    assert np.ptp(np.quantile(worlds.log_lr, [0.05, 0.95])) < 0.4 * width("one size")


def test_a_certificate_of_few_sizes_says_so() -> None:
    for edge, count in (("one size", 1), ("two sizes", 2), ("three sizes", 3)):
        certificate = payload(edge)["certificate"]
        assert certificate["words"]["data"]["sizes"] == count
        (few,) = (each["data"] for each in certificate["warnings"] if code_of(each) == "lr_batch.few_sizes")
        assert few["sizes"] == count
