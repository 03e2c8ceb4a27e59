"""All numbers of the fits of made recipes, of sweeps that lack something, and of what no recipe's fit holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lawfit.estimate.critical.data_laws import fit_data_laws
from lawfit.estimate.critical.noise_scale import fit_noise_scale
from lawfit.estimate.loss.isoflop import isoflop
from lawfit.estimate.lr_batch import lacking
from lawfit.estimate.lr_batch.across_scales import fit_across_scales, fit_power_across_scales
from lawfit.estimate.lr_batch.analysis import FitOptions, analyse
from lawfit.estimate.lr_batch.backtest import columns_of
from lawfit.estimate.numerics import optima
from lawfit.estimate.observe.held import hold_settings
from lawfit.estimate.observe.observations import observe
from lawfit.estimate.other_laws import lr_batch_forms, power_scheduler
from lawfit.estimate.schedules.annealing import fit_annealing
from lawfit.estimate.schedules.multi_power import fit_multi_power
from lawfit.estimate.schedules.refined import refine
from lawfit.estimate.transfer import lr as lr_transfer
from lawfit.estimate.transfer import token_ratio
from lawfit.laws.loss import CHINCHILLA
from lawfit.laws.lr_batch import BENDS
from tests import steps
from tests.estimate.critical import test_batch_routes
from tests.estimate.loss.test_isoflop import study
from tests.estimate.lr_batch import test_across_scales as test_lr_across_scales
from tests.estimate.made_levels import DECAYS, Level, made
from tests.estimate.observe import test_held
from tests.estimate.schedules import test_multi_power
from tests.estimate.simulated import sweep
from tests.estimate.sparse_sweeps import MADE, measured, rates
from tests.estimate.transfer import test_lr as test_lr_transfer
from tests.estimate.transfer import test_token_ratio
from tests.golden_numbers import check
from tests.golden_stores import STORES, fitted
from tests.watched import steps_of


@pytest.mark.parametrize("name", STORES)
def test_no_number_moves(name: str, update_golden: bool) -> None:
    with fitted(name) as store:
        found = {fit.kind: {"status": fit.status.value, **fit.payload} for fit in store.fits()}
    # of two sizes, two runs would determine the law equally well: which one is named is rounding
    without = frozenset({"needed_runs", "warnings"} if name == "two_sizes" else ())
    check(f"fits_{name}", found, update=update_golden, without=without)


def _profiles() -> Any:
    return isoflop(*study(CHINCHILLA, np.random.default_rng(6), off=1.4))


def _transfer() -> Any:
    rng = np.random.default_rng(4)
    moves = [*(r for d in (1e9, 4e9) for r in test_lr_transfer.sweep(-0.6, tokens=d, along=0.2, noise=2e-3, rng=rng))]
    flat = test_lr_transfer.sweep(0.0, noise=2e-3, rng=rng)
    both = [
        lr_transfer.fit_transfer(test_lr_transfer.RECIPE, moves),
        lr_transfer.fit_transfer(test_lr_transfer.RECIPE, flat, level=0.8),
    ]
    return [both, lr_transfer.compare_parametrizations(both)]


def _curves() -> Any:
    """Losses along three schedules by a known law, with noise."""
    rng = np.random.default_rng(2)
    courses = [test_multi_power.COSINE, test_multi_power.CONSTANT, test_multi_power.TWO_STAGES]
    losses = [test_multi_power.LAW.loss(c) * np.exp(1e-3 * rng.normal(size=c.steps.size)) for c in courses]
    return {
        "multi_power": fit_multi_power(courses, losses).law.loss(test_multi_power.WSD),
        "annealing": fit_annealing(courses, losses),
    }


def _lacking() -> Any:
    """What sweeps of rates at one batch, of too few rates and at their edge are said to lack."""
    some = {
        "one batch": measured(rates(0.25, 0.5, 1.0, 2.0, 4.0)),
        "edge": measured(rates(0.1, 0.2, 0.4, batches=(3e4, 1.2e5, 4.8e5))),
        "few": measured(rates(0.5, 2.0, batches=(6e4, 2.4e5))),
    }
    return {name: lacking.diagnose(observe(runs)) for name, runs in some.items()}


def _optima() -> Any:
    """Each scale's optimum by every estimator, and the best rate at each batch with the laws along it."""
    made = sweep(seed=5, lr_steps=7, batch_steps=6)
    columns = columns_of(observe(made.runs))
    along = optima.locate_lr_per_batch(columns)
    return {
        **{find.__name__: find(columns) for find in (
            optima.locate_argmin, optima.locate_near_optimal, optima.locate_akima, optima.locate_parabola
        )},
        "per batch": along,
        "forms": lr_batch_forms(along),
        "power scheduler": power_scheduler(along),
    }  # fmt: skip


def _batches() -> Any:
    rng = np.random.default_rng(9)
    tokens, batch, loss = test_batch_routes.finished_runs()
    noisy = loss * np.exp(1e-3 * rng.standard_normal(len(loss)))
    squares = test_batch_routes.simulated_squares(rng, steps=240, truth=1000.0, batches=(100, 1600))
    return {
        "data laws": fit_data_laws(1e8, tokens, batch, noisy),
        "noise scale": fit_noise_scale(*squares, 100, 1600),
    }


def _tokens() -> Any:
    return token_ratio.token_ratios(test_token_ratio.runs(1.0), test_token_ratio.runs(1.3, grows=0.05))


def _refined() -> Any:
    norms = np.random.default_rng(3).lognormal(0, 0.2, 400) * np.linspace(1, 0.4, 400)
    steps = np.arange(1, 401) * 10.0
    found = [refine(steps, norms, adaptive=adaptive, length=2000) for adaptive in (False, True)]
    found += [refine(steps[:few], norms[:few], adaptive=True, length=few * 10) for few in (49, 50)]
    names = list(found[0]["schedule"][0])
    return [{**each, "schedule": [[row[name] for row in each["schedule"]] for name in names]} for each in found]


def _held() -> Any:
    """Which level is held of settings of every kind, and why the other runs are not used."""
    decays, betas = made(DECAYS, seed=1), made(test_held.BETAS, column="beta2", seed=2)
    few = made([Level(value="gqa"), Level(value="mla", excess=-0.01, rates=(3,))], column="attention")
    again = [replace(run, extra={"epochs": 1 + k % 3}) for k, run in enumerate(decays)]
    half = made([Level(value=0.9), test_held.HALF], column="beta2")
    cases = {
        "decays": (decays, ()),
        "betas": (betas, ()),
        "crossed": (test_held.crossed(), ()),
        "few": (few, ()),
        "again": (again, ()),
        "asked": (betas, ("beta2=0.99",)),
        "half": (half, ()),
        "long": (made([Level(value=f"{'x' * 36}{k}" * (1 + k)) for k in range(2)], column="text"), ()),
    }
    found = {name: hold_settings(runs, at) for name, (runs, at) in cases.items()}
    return {
        name: {
            **vars(held),
            "runs": [run.lr for run in held.runs],
            "rejected": Counter(why for _, why in held.rejected),
        }
        for name, held in found.items()
    }


def _across() -> Any:
    """The learning rate over size, horizon and batch, by each form, with noise."""
    rng, columns = np.random.default_rng(8), test_lr_across_scales.grid()
    truth = np.log(test_lr_across_scales.TRUTH(*columns)) + 0.05 * rng.normal(size=columns[0].size)
    found = [vars(fit_across_scales(*columns, np.exp(truth), form=form)) for form in BENDS]
    return [*found, fit_power_across_scales(*columns, np.exp(truth))]


@pytest.mark.parametrize("name", MADE)
def test_no_number_of_a_sweep_that_lacks_something_moves(name: str, update_golden: bool) -> None:
    options = FitOptions(backtest=False)
    found = analyse(observe(MADE[name]()), options)
    # what is open altogether is open along several numbers alike: which of them is named is rounding
    without = frozenset({"needed_runs", "warnings", "influence"})
    document = [found.status.value, found.payload]
    check(f"lacking_{name.replace(' ', '_')}", document, update=update_golden, without=without)


PARTS = (_profiles, _transfer, _curves, _lacking, _optima, _batches, _tokens, _refined, _held, _across)


@pytest.mark.parametrize("part", PARTS)
def test_no_number_of_a_part_moves(part: Callable[[], Any], update_golden: bool) -> None:
    check(f"part{part.__name__}", part(), update=update_golden)


@steps.only_asked
@pytest.mark.parametrize("name", [*(f"fits_{name}" for name in STORES), *(f"part{part.__name__}" for part in PARTS)])
def test_no_step_on_the_way_moves(name: str, update_golden: bool) -> None:
    steps.check(name, steps_of(name), update=update_golden)
