"""Promises of sizes left out: what was stated against what is there, and what follows for the widths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from lawfit.estimate.lr_batch.analysis import fit_valley
from lawfit.estimate.lr_batch.backtest import observed_surfaces_of
from lawfit.estimate.lr_batch.ensemble import Ensemble, fit_ensemble
from lawfit.estimate.lr_batch.promises import LEVEL, Kept, check_promises
from lawfit.estimate.numerics.quantiles import student_quantile
from lawfit.estimate.observe.observations import Observations
from tests.estimate.simulated import nine_fit, nine_scales

SD = 0.1


@dataclass(frozen=True)
class Foreteller:
    """Stands for a fit without some scales: foretells the optima of the fit of all, off by so many stated sd."""

    full: Ensemble
    observed: Observations
    off: float

    def foretell(self, params: float, tokens: float) -> tuple[np.ndarray, np.ndarray]:
        cell = np.flatnonzero((self.observed.params == params) & (self.observed.tokens == tokens))[0]
        own = self.full.optima(self.observed)[cell]
        stated = np.sqrt(SD**2 + np.diag(self.full.cell_cov()[cell]))
        return own + self.off * stated, np.diag([SD**2, SD**2])

    def freedom(self) -> float:
        return 8.0


def kept(off: tuple[float, float, float]) -> Kept:
    """Three sizes left out in turn, each foretold so many stated standard deviations off."""
    observed = nine_scales()
    surfaces = observed_surfaces_of(observed)
    full = fit_ensemble(observed, surfaces)
    rounds: Any = [
        (np.flatnonzero(observed.size_of_cell() == k), Foreteller(full=full, observed=observed, off=off[k]))
        for k in range(3)
    ]
    found = check_promises(observed, full, fit_valley(observed, full, ()), surfaces, rounds)
    assert found is not None
    return found


def test_misses_are_counted_by_size_in_stated_standard_deviations() -> None:
    found = kept((0.0, 2.0, -2.0))
    said = found.to_json()
    assert said["miss_in_sd"]["lr"] == pytest.approx(np.sqrt(8 / 3), rel=1e-9)
    # 1 counts as often as there are sizes: (1 + 8/3) / 2
    assert found.factors == pytest.approx((np.sqrt((1 + 8 / 3) / 2),) * 2, rel=1e-9)
    half = student_quantile(0.5 + LEVEL / 2, 8) * np.sqrt(6 / 8) * SD
    assert said["mean_width"]["batch_tokens"] == pytest.approx(2 * half, rel=1e-9)
    # the own optimum is known to about 0.03: two stated sd lie outside the interval
    assert said["inside"] == {"lr": 3, "batch_tokens": 3}
    outside = [p for p in found.promises if not p.inside[0]]
    for p in outside:
        assert p.score[0] == pytest.approx(2 * half + 20 * (abs(p.miss[0]) - half), rel=1e-9)


def test_kept_promises_narrow_nothing() -> None:
    """Few sizes that happen to agree say little of the next one: the factor widens, it never narrows."""
    assert kept((0.0, 0.0, 0.0)).factors == (1.0, 1.0)
    assert kept((1.0, -1.0, 1.0)).factors == pytest.approx((1.0, 1.0))


def test_a_miss_costs_more_the_wider_it_is_and_stated_costs_follow_the_widths() -> None:
    near, far = kept((0.5, 0.5, 0.5)), kept((4.0, 4.0, 4.0))
    assert near.to_json()["stated_cost"] == far.to_json()["stated_cost"] > 0
    assert far.to_json()["realised_cost"] > 4 * max(near.to_json()["realised_cost"], 1e-5)


def test_every_fit_of_three_sizes_reports_them_and_answers_by_them() -> None:
    payload = nine_fit().payload
    said = payload["backtest"]["promises"]
    assert (said["sizes"], said["scales"]) == (3, 9)
    assert payload["model"]["calibration"] == [said["factor"]["lr"], said["factor"]["batch_tokens"]]
