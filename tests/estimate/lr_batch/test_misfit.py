"""By what share the valley is off far from the optimum: made by hand, and read off again."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from lawfit.estimate.lr_batch.borrowed import law_prior
from lawfit.estimate.lr_batch.ensemble import left_out_groups
from lawfit.estimate.lr_batch.misfit import UNTOLD, valley_misfit
from lawfit.estimate.lr_batch.surface import SurfaceFit, fit_surface
from lawfit.estimate.lr_batch.valley import excess
from lawfit.estimate.numerics.shapes import SHAPES
from lawfit.estimate.observe.observations import Observations
from tests.estimate.simulated import nine_scales

WIDE = 0.3  # window of log loss that holds every run of these sweeps


@cache
def valley() -> SurfaceFit:
    observed = nine_scales()
    centre = (float(np.log(observed.params).mean()), float(np.log(observed.tokens).mean()))
    return fit_surface(
        observed, SHAPES["exponentials"], WIDE, law_prior("published", centre), None, left_out_groups(observed)
    )


def off_by(share: float, noise: float, rng: np.random.Generator) -> Observations:
    """The runs of `nine_scales`, with losses that the fitted valley says but for a share of the cost, and noise."""
    observed, fit = nine_scales(), valley()
    a, b = fit.optima(observed).T
    u, v = observed.log_lr - a[observed.cell], observed.log_batch - b[observed.cell]
    cost = fit.steep(observed)[observed.cell] * excess(u, v, fit.shape)
    losses = fit.floor[observed.cell] + cost * (1 + share * rng.standard_normal(len(cost)))
    return replace(observed, log_loss=losses + noise * rng.standard_normal(len(cost)))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_reads_off_the_share_by_which_costs_are_off(share: float, rng: np.random.Generator) -> None:
    quiet = replace(valley(), noise_of_cells=np.full(nine_scales().n_cells, 1e-5))
    # a 90 % quantile of some 250 draws: standard error 8 % of it, three times
    assert valley_misfit(off_by(share, 1e-5, rng), quiet) == pytest.approx(share, rel=0.25)


def test_noise_alone_is_no_misfit(rng: np.random.Generator) -> None:
    noise = 1e-3
    noisy = replace(valley(), noise_of_cells=np.full(nine_scales().n_cells, noise))
    assert valley_misfit(off_by(0.0, noise, rng), noisy) < 0.1
    blind = replace(valley(), noise_of_cells=np.full(nine_scales().n_cells, noise / 10))
    assert valley_misfit(off_by(0.0, noise, rng), blind) > 0.1  # taken for misfit where the fit knows of no noise


def test_one_run_next_to_divergence_does_not_make_the_share(rng: np.random.Generator) -> None:
    quiet = replace(valley(), noise_of_cells=np.full(nine_scales().n_cells, 1e-5))
    observed = off_by(0.1, 1e-5, rng)
    without = valley_misfit(observed, quiet)
    losses = observed.log_loss.copy()
    losses[int(np.argmax(losses))] += 1.0
    assert valley_misfit(replace(observed, log_loss=losses), quiet) == pytest.approx(without, rel=0.1)


def test_runs_that_are_all_near_leave_it_untold() -> None:
    loud = replace(valley(), noise_of_cells=np.full(nine_scales().n_cells, 1.0))
    assert valley_misfit(nine_scales(), loud) == UNTOLD
