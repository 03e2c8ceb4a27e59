"""A whole analysis: what it says of rich, thin and hopeless evidence. Payloads go through JSON without nan or inf."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.lr_batch.analysis import Analysis, FitOptions, analyse
from lawfit.estimate.numerics.law_terms import law_design
from lawfit.estimate.observe.observations import observe
from lawfit.findings import code_of, finding
from lawfit.records import Fit, FitStatus, OptimumStatus, Run
from lawfit.simulate import Truth
from tests.estimate.simulated import COMPUTE_PATH, NINE, fit_of, nine_fit, nine_scales, run, sweep

QUICK = FitOptions(backtest=False)


@cache
def nine_analysis() -> Analysis:
    return analyse(nine_scales(), QUICK)


KEYS = {
    "model", "law", "curvature", "choices", "cells", "backtest", "published", "borrowed", "next_grid", "runs_used",
    "runs_rejected", "rejected", "diverged", "seed_sd", "warnings",
}  # fmt: skip


def numbers_in(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [x for each in value.values() for x in numbers_in(each)]
    if isinstance(value, list):
        return [x for each in value for x in numbers_in(each)]
    return [float(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


def said(fit: Fit, code: str) -> dict[str, Any] | None:
    """The numbers of the warning with a code; None where there is none."""
    return next((warning["data"] for warning in fit.payload["warnings"] if code_of(warning) == code), None)


class TestFullGrid:
    def test_payload_holds_what_the_edge_relies_on(self) -> None:
        payload = nine_fit().payload
        assert payload.keys() >= KEYS
        assert all(math.isfinite(x) for x in numbers_in(payload))
        assert nine_fit().status is FitStatus.OK
        assert len(payload["cells"]) == 9
        assert payload["runs_used"] == len(sweep().runs)

    def test_the_constant_of_a_law_is_its_answer_at_the_centre(self) -> None:
        """At few tokens per parameter the bend there has begun, of which exponents alone know nothing."""
        payload = fit_of(sweep([(n, 4 * n) for n in (2e7, 1e8, 5e8)]).runs, QUICK).payload
        model, law = payload["model"], payload["law"]
        assert np.log([law["params_at_centre"], law["tokens_at_centre"]]) == pytest.approx(model["centre"])
        row = law_design(*np.exp(np.array(model["centre"]))[:, None], tuple(model["centre"]))[0]
        assert row[4] > 0.5
        for name, at in (("lr", 0), ("batch_tokens", len(row))):
            stated = sum(member["weight"] * (row @ member["law"][at : at + len(row)]) for member in model["members"])
            assert law[name]["const"] == pytest.approx(math.exp(stated), rel=2e-3)

    def test_law_table_brackets_the_truth(self) -> None:
        law, truth = nine_fit().payload["law"], Truth()
        expected = {
            ("lr", "params"): truth.lr_params,
            ("lr", "tokens"): truth.lr_tokens,
            ("batch_tokens", "params"): truth.batch_params,
            ("batch_tokens", "tokens"): truth.batch_tokens_exponent,
        }
        for (of, term), value in expected.items():
            low, middle, high = (law[of][f"{term}{end}"] for end in ("_low", "", "_high"))
            assert low < middle < high
            assert low - 0.02 <= value <= high + 0.02, (of, term)  # one sweep, four 90 % intervals: a little slack

    def test_a_straight_truth_is_not_called_bent(self) -> None:
        assert not any(of["detected"] for of in nine_fit().payload["curvature"].values())

    @pytest.mark.parametrize("bend", [0.06, 0.12])
    def test_a_bent_truth_is(self, bend: float) -> None:
        truth = Truth(lr_curvature=-bend, batch_curvature=bend)
        fit = fit_of(sweep(truth=truth, lr_steps=8, batch_steps=7).runs, QUICK)
        assert fit.payload["curvature"]["lr"]["detected"]
        assert fit.payload["curvature"]["lr"]["value"] < 0
        assert said(fit, "lr_batch.bends") == {"quantity": "lr"}

    def test_optima_are_those_of_the_cells(self) -> None:
        analysis = nine_analysis()
        ours = [optimum for optimum in analysis.optima if optimum.estimator == "surface"]
        assert len(ours) == 9
        for optimum, cell in zip(ours, analysis.payload["cells"], strict=True):
            assert (optimum.params, optimum.lr) == (cell["params"], cell["optimum"]["lr"])

    @pytest.mark.parametrize("name", ["argmin", "near_optimal", "akima", "parabola"])
    def test_other_estimators_are_kept_beside_it(self, name: str) -> None:
        analysis = nine_analysis()
        assert sum(optimum.estimator == name for optimum in analysis.optima) == 9
        found = analysis.payload["estimators"][name]
        assert found["lr"]["params"] == pytest.approx(analysis.payload["law"]["lr"]["params"], abs=0.4)

    def test_the_same_runs_give_the_same_payload(self) -> None:
        runs = list(sweep().runs)
        one, other = fit_of(runs, QUICK).payload, fit_of(runs[::-1], QUICK).payload
        np.testing.assert_allclose(numbers_in(one["model"]), numbers_in(other["model"]), rtol=1e-6, atol=1e-9)

    def test_progress_rises_to_one(self) -> None:
        seen: list[float] = []
        analyse(nine_scales(), QUICK, progress=lambda _stage, share: seen.append(share))
        assert seen == sorted(seen)
        assert seen[-1] == 1.0

    def test_loss_falls_with_compute(self) -> None:
        slope = nine_fit().payload["model"]["loss_slope_per_log_compute"]
        truth = Truth()
        # d ln L / d ln C along both inputs together, by differences at the middle of the grid
        losses = [math.log(truth.lowest_loss(6e7 * s, 1.8e9 * s)) for s in (0.5, 2.0)]
        assert slope == pytest.approx((losses[1] - losses[0]) / math.log(16), rel=0.15)


class TestThinEvidence:
    @pytest.mark.parametrize(
        "design",
        [
            pytest.param({"scales": NINE[:1]}, id="one scale"),
            pytest.param({"scales": NINE[:2]}, id="two scales"),
            pytest.param({"scales": NINE[:1], "batch_steps": 1}, id="one sweep"),
            pytest.param({"scales": NINE[::4], "batch_steps": 1}, id="three sweeps"),
        ],
    )
    def test_says_so(self, design: dict[str, Any]) -> None:
        fit = fit_of(sweep(**design).runs, QUICK)
        assert fit.status is FitStatus.SPARSE
        thin = said(fit, "lr_batch.thin_evidence")
        assert thin is not None
        assert thin["scales"] == len(fit.payload["cells"])
        assert code_of(thin["beside"]) == "lr_batch.rest_lent"
        assert fit.payload["borrowed"]

    def test_one_batch_at_every_scale_is_thin_too(self) -> None:
        assert fit_of(sweep(batch_steps=1, lr_steps=9).runs, QUICK).status is FitStatus.SPARSE

    def test_random_search_of_nine_scales_is_not(self) -> None:
        fit = fit_of(sweep(random=True).runs)
        assert fit.status is FitStatus.OK
        assert fit.payload["backtest"]["splits"]


class TestComputePath:
    def test_says_what_cannot_be_told_apart_and_what_would_settle_it(self) -> None:
        fit = fit_of(sweep(COMPUTE_PATH).runs, QUICK)
        assert fit.status is FitStatus.SPARSE
        one = said(fit, "lr_batch.one_ratio")
        assert one is not None
        assert one["ratio"] == pytest.approx(20, rel=0.01)
        assert one["tokens"] / one["params"] == pytest.approx(80, rel=0.01)  # the sweep that would settle it

    def test_exponents_stay_as_wide_as_their_prior_across_the_path(self) -> None:
        """Along n + d the runs speak; along n - d nobody does, and the interval must not pretend."""
        on_path = fit_of(sweep(COMPUTE_PATH).runs, QUICK).payload["law"]["lr"]
        off_path = nine_fit().payload["law"]["lr"]
        width = {name: law["tokens_high"] - law["tokens_low"] for name, law in (("on", on_path), ("off", off_path))}
        assert width["on"] > 2 * width["off"]  # horizons of one size tell it, whatever that size's own deviation

    def test_one_more_scale_off_the_path_settles_it(self) -> None:
        runs = sweep((*COMPUTE_PATH, (1e7, 8e8), (1.6e8, 8e8))).runs
        assert said(fit_of(runs, QUICK), "lr_batch.one_ratio") is None


class TestAtTheEdge:
    def test_every_optimum_is_said_to_be_a_bound(self) -> None:
        truth = Truth()
        runs = [
            r for r in sweep(lr_steps=9, misplacement=0.0).runs if r.lr < 0.6 * truth.optimum(r.params, r.tokens)[0]
        ]
        fit = fit_of(runs, QUICK)
        assert {c["optimum"]["status"] for c in fit.payload["cells"]} == {OptimumStatus.AT_EDGE.value}
        assert said(fit, "lr_batch.scales_at_edge") == {"count": 9, "scales": 9}
        assert said(fit, "lr_batch.none_inside") == {}
        for cell, grid in zip(fit.payload["cells"], fit.payload["next_grid"], strict=True):
            tried = [r.lr for r in runs if r.params == cell["params"] and r.tokens == cell["tokens"]]
            assert min(grid["lr"]) > max(tried)
            assert grid["lr"][-1] > truth.optimum(cell["params"], cell["tokens"])[0]  # three steps reach past the best


class TestNothingToSee:
    def test_flat_scales_are_said_and_prove_nothing(self) -> None:
        flat = [replace(r, loss=None if r.loss is None else 3.0) for r in sweep().runs]
        fit = fit_of(flat, QUICK)
        assert fit.status is FitStatus.SPARSE
        assert said(fit, "lr_batch.scales_flat") == {"count": 9, "scales": 9}
        assert fit.payload["model"]["loss_slope_per_log_compute"] is None  # no exchange rate between loss and compute

    def test_too_few_settings_are_said(self) -> None:
        fit = fit_of(sweep(lr_steps=3, batch_steps=1).runs, QUICK)
        assert fit.status is FitStatus.SPARSE
        assert said(fit, "lr_batch.scales_too_few") is not None


class TestRejections:
    def test_are_counted_by_reason(self) -> None:
        runs = [replace(r, excluded="node failure") if i % 7 == 0 else r for i, r in enumerate(sweep(NINE[:2]).runs)]
        payload = fit_of(runs, QUICK).payload
        why = finding("observe.excluded", why="node failure").to_json()
        assert payload["rejected"] == [{"reason": why, "count": payload["runs_rejected"]}]
        assert payload["runs_used"] + payload["runs_rejected"] == len(runs)

    def test_a_minority_of_diverged_seeds_is_a_warning(self) -> None:
        runs = [*sweep(NINE[:2], seeds=3).runs]
        first = runs[0]
        runs[0] = replace(first, loss=None, status=run("x", 1, 1, None).status)
        partly = said(fit_of(runs, QUICK), "observe.partly_diverged")
        assert partly is not None
        assert partly["settings"] >= 1


def one_sweep(losses: list[float], **changes: Any) -> list[Run]:
    return [run(f"{i}", 1e-3 * 2**i, 1e5, loss, **changes) for i, loss in enumerate(losses)]


WEIRD: dict[str, Callable[[], list[Run] | tuple[Run, ...]]] = {
    "one run": lambda: one_sweep([3.0]),
    "two runs": lambda: one_sweep([3.0, 3.1]),
    "three cells of one run": lambda: [
        run(f"{i}", 1e-3, 1e5, 3.0 - 0.1 * i, params=1e8 * 2**i, tokens=2e9 * 2**i) for i in range(3)
    ],
    "losses all equal": lambda: [
        run(f"{i}{j}{k}", 1e-3 * 2**i, 1e5 * 2**j, 3.0, params=1e8 * 3**k)
        for i in range(4)
        for j in range(3)
        for k in range(2)
    ],
    "one learning rate": lambda: [run(f"{j}", 1e-3, 1e5 * 2**j, 3.0 + 0.01 * (j - 2) ** 2) for j in range(5)],
    "one setting, many seeds": lambda: [run(f"{i}", 1e-3, 1e5, 3.0 + 0.001 * i, seed=i) for i in range(6)],
    "falling all the way": lambda: one_sweep([3.0 - 0.1 * i for i in range(6)]),
    "rising all the way": lambda: one_sweep([3.0 + 0.1 * i for i in range(6)]),
    "a hill": lambda: one_sweep([3.0, 3.1, 3.15, 3.1, 3.0]),
    "losses of a thousandth": lambda: one_sweep([1e-3 * (1 + 0.01 * (i - 2) ** 2) for i in range(5)]),
    "losses of a thousand": lambda: one_sweep([1e3 * (1 + 0.01 * (i - 2) ** 2) for i in range(5)]),
    "losses over six decades": lambda: one_sweep([10.0**i for i in (0, -3, -6, -2, 3)]),
    "sizes 0.1 % apart": lambda: [
        replace(r, run_key=f"{r.run_key}{q}", params=r.params * (1 + 1e-3 * q))
        for r in sweep(NINE[:3]).runs
        for q in range(3)
    ],
    "sizes 2 % apart": lambda: sweep(((1e8, 2e9), (1.02e8, 2e9))).runs,
    "learning rate tied to batch": lambda: [
        run(f"{i}{k}", 1e-3 * 2**i, 1e5 * 2**i, 3.0 + 0.02 * (i - 2) ** 2, params=1e8 * 2**k)
        for i in range(5)
        for k in range(2)
    ],
    "very noisy": lambda: sweep(truth=Truth(noise=0.05), lr_steps=5, batch_steps=4).runs,
    "tiny models": lambda: one_sweep([3.0, 2.9, 3.0, 3.3], params=10.0, tokens=1e5),
    "all but one diverged": lambda: [
        run("a", 1e-4, 1e5, 3.0),
        *[run(f"{i}", 1e-3 * 2**i, 1e5, None) for i in range(5)],
    ],
}


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in WEIRD.items()])
def test_weird_but_legal_runs_end_in_a_finite_answer_with_a_warning(make: Callable[[], list[Run]]) -> None:
    fit = fit_of(make(), QUICK)
    assert all(math.isfinite(x) for x in numbers_in(fit.payload))
    assert fit.payload["warnings"] or fit.status is FitStatus.OK


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_noise_that_drowns_everything_ends_in_a_sentence_or_a_wide_answer(noise: float) -> None:
    runs = sweep(truth=Truth(noise=noise)).runs
    try:
        fit = fit_of(runs, QUICK)
    except FitError:
        with pytest.raises(FitError) as caught:
            fit_of(runs, QUICK)
        assert code_of(caught.value.finding) == "lr_batch.no_surface"
        return
    assert all(math.isfinite(x) for x in numbers_in(fit.payload))


def test_many_runs_of_one_scale() -> None:
    """5,000 runs: 100 settings with fifty seeds each."""
    fit = fit_of(sweep(NINE[:1], lr_steps=10, batch_steps=10, seeds=50).runs, QUICK)
    assert fit.payload["runs_used"] == 5000
    assert fit.payload["seed_sd"] == pytest.approx(Truth().noise, rel=0.05)


def test_every_run_diverged() -> None:
    gone = [replace(r, loss=None, status=run("x", 1, 1, None).status) for r in sweep(NINE[:2]).runs]
    with pytest.raises(NotEnoughData) as caught:
        observe(gone)
    assert caught.value.finding == finding("observe.all_diverged", diverged=len(gone))
