"""Does the best learning rate transfer? Known truths, our own sweeps, and what is refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lawfit.errors import NotEnoughData
from lawfit.estimate.lr_batch import slices as lr_slices
from lawfit.estimate.lr_batch.slices import cost_of_shift, fit_lr_slices
from lawfit.estimate.observe.observations import observe
from lawfit.estimate.transfer.lr import compare_parametrizations, fit_transfer
from lawfit.findings import as_json, code_of, finding
from lawfit.records import OptimumStatus, Recipe, Run, RunStatus
from lawfit.words import tell
from tests.benchmarks.lr_transfer import judge, simulate

RECIPE = Recipe(name="sweep", optimizer="adamw", parametrization="standard")
DATA = Path(__file__).parents[3] / "data"


def sweep(
    slope: float = 0.0,
    *,
    widths: tuple[float, ...] = (64, 128, 256, 512),
    tokens: float = 1e9,
    along: float = 0.0,
    noise: float = 0.0,
    best: float = 0.01,
    grid: np.ndarray | None = None,
    rng: np.random.Generator | None = None,
) -> list[Run]:
    """Runs with their best learning rate at ``best * (width / 128)^slope * (tokens / 1e9)^along``."""
    runs = []
    for width in widths:
        optimum = best * (width / 128) ** slope * (tokens / 1e9) ** along
        for lr in grid if grid is not None else 0.01 * 2.0 ** np.arange(-4, 5):
            u = float(np.log(lr / optimum))
            excess = 0.01 * (np.exp(u) - 1 - u) + 0.006 * (np.exp(-u) - 1 + u)
            shaken = 0.0 if rng is None else rng.normal(0, noise)
            runs.append(
                Run(
                    run_key=f"{width}-{tokens}-{lr}",
                    params=48 * width**2,
                    tokens=tokens,
                    batch_tokens=65536,
                    lr=float(lr),
                    status=RunStatus.FINISHED,
                    loss=float(3 * (width / 64) ** -0.1 * np.exp(excess + shaken)),
                    extra={"width": width, "layers": 4},
                )
            )
    return runs


class TestKnownTruth:
    @pytest.mark.parametrize(("slope", "verdict"), [(0.0, "flat"), (-0.4, "moves"), (-1.0, "moves")])
    def test_exponent_and_verdict(self, slope: float, verdict: str, rng: np.random.Generator) -> None:
        axis = fit_transfer(RECIPE, sweep(slope, noise=1e-3, rng=rng)).axes["size"]
        assert axis.name == "width"
        assert axis.verdict == verdict
        assert axis.low <= slope <= axis.high

    def test_optima_of_runs_without_noise(self) -> None:
        found = fit_lr_slices(observe(sweep(-0.5)))
        assert found.converged
        truth = np.log(0.01) - 0.5 * np.log(np.array([64, 128, 256, 512]) / 128)
        assert found.log_lr == pytest.approx(truth, abs=0.02)  # the prior of the valley: half of its interval is 0.08

    def test_one_learning_rate_for_all_sizes_costs_what_the_valley_says(self) -> None:
        found = fit_transfer(RECIPE, sweep(-0.5))
        u = 0.5 * np.log(512 / 64)  # the learning rate of the narrowest lies so far above the best one of the widest
        expected = np.expm1(0.01 * (np.exp(u) - 1 - u) + 0.006 * (np.exp(-u) - 1 + u))
        assert found.axes["size"].cost_of_keeping == pytest.approx(expected, rel=0.1)

    def test_width_and_horizon_apart(self, rng: np.random.Generator) -> None:
        runs = [r for d in (5e8, 1e9, 4e9) for r in sweep(-0.7, tokens=d, along=-0.3, noise=1e-3, rng=rng)]
        axes = fit_transfer(RECIPE, runs).axes
        for name, truth in (("size", -0.7), ("tokens", -0.3)):
            assert axes[name].low <= truth <= axes[name].high
            assert axes[name].verdict == "moves"

    def test_line_goes_through_the_optima(self) -> None:
        line = fit_transfer(RECIPE, sweep(-0.5)).axes["size"].line
        assert [line[0]["x"], line[-1]["x"]] == pytest.approx([64, 512])
        assert line[-1]["lr"] / line[0]["lr"] == pytest.approx(8**-0.5, rel=0.02)
        assert all(point["low"] < point["lr"] < point["high"] for point in line)

    def test_intervals_hold_the_truth(self) -> None:
        """A glimpse; `python -m tests.benchmarks.lr_transfer` counts them over 1,000 worlds and two designs."""
        rng = np.random.default_rng(7)
        held = []
        for _ in range(40):
            world = simulate("4 widths", rng)
            held.append(judge(world, fit_transfer(RECIPE, world.runs))[0]["size"])
        assert sum(held) >= 32  # of 40 at 90 %: fewer has a chance of 4 in 1,000


class TestWhatIsNotUsed:
    def test_an_optimum_at_the_edge_is_a_bound(self) -> None:
        runs = sweep(-1.0, grid=0.01 * 2.0 ** np.arange(-2, 4))  # the best one of width 512 is the smallest of these
        found = fit_transfer(RECIPE, runs)
        assert found.slices.status[-1] is OptimumStatus.AT_EDGE
        assert found.slices.edge[-1] == "low"
        (said,) = (note for note in found.notes if code_of(note) == "transfer.not_used")
        assert said.data == {"sweeps": 1, "of": len(found.slices), "status": "at_edge"}
        assert found.axes["size"].last < 512

    def test_a_diverged_run_brackets(self) -> None:
        runs = sweep(grid=0.01 * 2.0 ** np.arange(-3, 1))  # the best is the largest that finished
        lost = [replace(r, run_key=r.run_key + "x", lr=0.02, loss=None, status=RunStatus.DIVERGED) for r in runs[::4]]
        assert set(fit_lr_slices(observe(runs)).status) == {OptimumStatus.AT_EDGE}
        assert set(fit_lr_slices(observe([*runs, *lost])).status) == {OptimumStatus.INSIDE}

    def test_two_widths_have_no_interval(self) -> None:
        found = fit_transfer(RECIPE, sweep(widths=(64, 128)))
        assert "size" not in found.axes
        assert found.missing["size"] == finding("numerics.few_groups", groups=2, exponents=1, needed=3)

    def test_one_horizon_says_nothing_about_horizons(self) -> None:
        assert fit_transfer(RECIPE, sweep()).missing["tokens"] == finding("transfer.same", axis="tokens")

    def test_no_sweep_at_all(self) -> None:
        with pytest.raises(NotEnoughData, match="3 or more learning rates"):
            fit_transfer(RECIPE, sweep(grid=np.array([0.01, 0.02])))

    def test_without_widths_parameters_stand_in_and_it_is_said(self) -> None:
        found = fit_transfer(RECIPE, [replace(run, extra={}) for run in sweep(-0.5)])
        assert found.axes["size"].name == "params"
        assert found.axes["size"].exponent == pytest.approx(-0.25, abs=0.02)  # parameters grow as width^2
        assert finding("transfer.no_width") in found.notes

    def test_few_noisy_sizes_settle_nothing(self) -> None:
        rng = np.random.default_rng(3)
        axis = fit_transfer(RECIPE, sweep(widths=(64, 96, 128), noise=0.01, rng=rng)).axes["size"]
        assert axis.verdict == "open"
        assert "not settled" in tell(axis.words)


def test_costs_are_zero_at_the_best_and_grow_on_both_sides() -> None:
    valley = fit_lr_slices(observe(sweep())).valley
    assert cost_of_shift(valley, 0.0) == 0
    assert 0 < cost_of_shift(valley, 0.5) < cost_of_shift(valley, 1.0)
    assert 0 < cost_of_shift(valley, -0.5) < cost_of_shift(valley, -1.0)


def test_what_windows_disagree_on_is_in_the_variances() -> None:
    """Shared by all slices: mean variance of the windows, of their common shift, and of a valley of another shape."""
    observed = observe(sweep())
    points = lr_slices._Points.of(observed)
    fits = [lr_slices._fit(points, window) for window in points.windows()]
    assert len(fits) > 1
    apart = np.array([fit.centre for fit in fits]) - np.mean([fit.centre for fit in fits], axis=0)
    together = apart.mean(axis=1)
    assert together.std() > 1e-4  # the windows do disagree
    found = fit_lr_slices(observed)
    shared = np.mean([fit.shared for fit in fits]) + together.var() + lr_slices._MISSHAPEN_TOGETHER**2
    assert found.shared_log_sd**2 == pytest.approx(shared, rel=1e-9)
    own = np.mean([fit.own for fit in fits], axis=0) + (apart - together[:, None]).var(axis=0)
    np.testing.assert_allclose(found.log_sd**2, own + lr_slices._MISSHAPEN**2, rtol=1e-9)


class TestOurOwnSweeps:
    """data/proxy_mup.csv against data/proxy_sweep.csv: both from this project's trainer, same text and horizon."""

    @staticmethod
    def read(name: str, parametrization: str) -> tuple[Recipe, list[Run]]:
        with (DATA / name).open(newline="") as file:
            rows = list(csv.DictReader(file))
        runs = [
            Run(
                run_key=row["run_id"],
                params=float(row["n_params"]),
                tokens=float(row["n_tokens"]),
                batch_tokens=float(row["batch_size_tokens"]),
                lr=float(row["learning_rate"]),
                status=RunStatus.FINISHED,
                loss=float(row["final_loss"]),
                weight_decay=float(row["weight_decay"]),
                extra={"width": row["width"], "layers": row["layers"]},
            )
            for row in rows
            if row["final_loss"]
        ]
        return Recipe(name=name, optimizer="adamw", data="text", parametrization=parametrization), runs

    def test_mup_is_flat_and_standard_is_not(self) -> None:
        mup = fit_transfer(*self.read("proxy_mup.csv", "mup"))
        standard = fit_transfer(*self.read("proxy_sweep.csv", "standard"))
        assert mup.axes["size"].verdict == "flat"
        assert standard.axes["size"].verdict == "moves"
        assert standard.axes["size"].high < -0.3
        (row,) = compare_parametrizations([standard, mup])
        assert row["recipe"] == "proxy_mup.csv"
        assert row["told_apart"]
        flat, steep = mup.axes["size"], standard.axes["size"]
        half = np.sqrt(((flat.high - flat.low) / 2) ** 2 + ((steep.high - steep.low) / 2) ** 2)  # independent runs
        assert row["difference"] == pytest.approx(flat.exponent - steep.exponent)
        assert (row["low"], row["high"]) == pytest.approx((row["difference"] - half, row["difference"] + half))
        document = as_json(mup.to_json())
        assert json.loads(json.dumps(document)) == document

    def test_different_data_are_not_compared(self) -> None:
        recipe, runs = self.read("proxy_mup.csv", "mup")
        mup = fit_transfer(recipe, runs)
        other = fit_transfer(replace(recipe, data="other text", parametrization="standard"), runs)
        assert compare_parametrizations([mup, other]) == []
