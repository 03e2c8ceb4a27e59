"""Windows rest on scales that hold a sweep and on the noise of a seed: lone runs and lucky ones do not move them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lawfit
from lawfit.advise.draws import draw_worlds
from lawfit.estimate.lr_batch.ensemble import usable_windows
from lawfit.estimate.lr_batch.surface import WINDOW_PER_SEED_SD, inside_window
from lawfit.estimate.observe.observations import observe
from lawfit.records import Run
from lawfit.simulate import Truth
from tests.estimate.simulated import NINE, fit_of, nine_scales, sweep

LONE = tuple((size, 20 * size) for size in (4e7, 8e7, 1.6e8, 3.2e8))


def beside_single_runs() -> tuple[list[Run], list[Run]]:
    """A sweep at one size, and with it one run at each larger size, at the best setting or off it."""
    truth = Truth(noise=1e-3)
    swept = list(sweep(((2e7, 4e8),), truth=truth, lr_steps=7, batch_steps=1, lr_ratio=3.0).runs)
    single = [
        replace(swept[0], run_key=f"lone {n:g}", params=n, tokens=d, lr=1e-3, batch_tokens=2e5, loss=3.0)
        for n, d in LONE
    ]
    return swept, [*swept, *single]


def test_lone_runs_leave_the_windows_as_they_were() -> None:
    swept, both = (observe(runs) for runs in beside_single_runs())
    assert usable_windows(both) == usable_windows(swept)


def test_a_sweep_beside_single_runs_is_answered_by_the_sweep() -> None:
    swept, both = beside_single_runs()
    best = min(swept, key=lambda run: run.loss or math.inf)
    at = [draw_worlds(fit_of(runs).payload["model"], 2e7, 4e8).centre_log_lr for runs in (swept, both)]
    assert abs(at[1] - at[0]) < 0.15
    assert abs(at[1] - math.log(best.lr)) < math.log(3.0)  # within a step of the sweep's best


def test_a_lucky_run_is_not_the_floor() -> None:
    """Eight sd of a seed above the lowest: a run three sd below all others leaves most near the best inside."""
    observed = observe(sweep(NINE, truth=Truth(noise=0.004), seeds=2, seed=7).runs)
    sd = observed.seed_sd_of_cells()
    assert np.isfinite(sd).all()
    best = int(np.argmin(observed.log_loss[observed.rows_of(0)]))
    moved = observed.log_loss.copy()
    moved[best] -= 3 * sd[0]
    lucky = replace(observed, log_loss=moved)
    rows = observed.cell == 0
    before, after = (inside_window(o, 0.0)[rows].sum() for o in (observed, lucky))
    assert after >= 0.6 * before > 0
    assert WINDOW_PER_SEED_SD >= 8


@pytest.mark.parametrize(
    ("parametrization", "low", "high"), [("mup", 0.018, 0.035), ("sp", 0.010, 0.019)], ids=["muP", "standard"]
)
def test_a_sweep_and_single_runs_as_people_have_them(
    shared_data: Path, parametrization: str, low: float, high: float
) -> None:
    """c04c: seven rates a factor 3 apart at the smallest size, one run at each larger; 6e-3 would give up 14 %."""
    rows = [json.loads(line) for line in (shared_data / "cases" / "c04c_runs_joined.jsonl").read_text().splitlines()]
    mine = [row for row in rows if row["parameterization"] == parametrization and row["block_size"] == 512]
    smallest = min(row["n_params"] for row in mine)
    found = lawfit.fit(lawfit.observe(pd.DataFrame(mine)), backtest=False)
    answer = lawfit.predict(found, params=smallest, tokens=mine[0]["train_tokens"])
    assert low < answer.lr < high


def test_dense_grids_without_seeds_keep_their_windows() -> None:
    observed = nine_scales()
    assert not np.isfinite(observed.seed_sd_of_cells()).any()
    above = observed.log_loss - observed.lowest_log_loss()[observed.cell]
    np.testing.assert_array_equal(inside_window(observed, 0.02), above <= 0.02)
