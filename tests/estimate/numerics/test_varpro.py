"""Batched robust minimisation of sums of powers: derivatives, the grid, and agreement with scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import approx_fprime, least_squares, nnls

from lawfit.errors import FitError
from lawfit.estimate.loss.forms import FORMS
from lawfit.estimate.numerics import newton, varpro
from lawfit.estimate.numerics.newton import Minima, Penalty, minimise
from lawfit.estimate.numerics.varpro import Grid, PowerSum, Term, best_start, global_minima, resampled_minima
from lawfit.findings import code_of
from lawfit.laws.loss import CHINCHILLA

Floats = NDArray[np.float64]


def problem(rng: np.random.Generator, rows: int = 60, *, noise: float = 0.005, delta: float = 1e-3) -> PowerSum:
    """Simulated runs of the Chinchilla law."""
    params = np.exp(rng.uniform(np.log(1e7), np.log(3e9), rows))
    tokens = params * np.exp(rng.uniform(np.log(2), np.log(316), rows))
    loss = CHINCHILLA.loss(params, tokens) * np.exp(noise * rng.standard_normal(rows))
    logs = np.log(np.column_stack([params, tokens]))
    found = FORMS["additive"].problem(np.log(loss), logs - logs.mean(axis=0), delta)
    assert isinstance(found, PowerSum)
    return found


class TestDerivatives:
    """Against finite differences."""

    theta = np.array([[0.4, -0.6, 0.4, -0.3, 0.25], [0.6, -0.3, 0.2, -0.8, 0.4]])

    @pytest.mark.parametrize("delta", [pytest.param(1e-2, id="mostly clipped"), pytest.param(10.0, id="squares")])
    def test_gradient(self, rng: np.random.Generator, delta: float) -> None:
        p = problem(rng, delta=delta)
        weights = rng.standard_exponential((2, 60))
        system = p.system(self.theta, weights, np.zeros(2))
        for row in range(2):
            numeric = approx_fprime(
                self.theta[row], lambda t, row=row: float(p.system(t[None], weights[[row]], np.zeros(1)).objective[0])
            )
            # forward differences: sqrt(eps) times the second derivative
            assert system.gradient[row] == pytest.approx(numeric, rel=1e-4, abs=1e-5)

    def test_hessian_is_exact_without_blend(self, rng: np.random.Generator) -> None:
        p = problem(rng, delta=10.0)  # no kink
        weights = rng.standard_exponential((1, 60))
        system = p.system(self.theta[:1], weights, np.zeros(1))
        steps = 1e-6 * np.eye(5)
        numeric = [
            (
                p.system(self.theta[:1] + s, weights, np.zeros(1)).gradient[0]
                - p.system(self.theta[:1] - s, weights, np.zeros(1)).gradient[0]
            )
            / 2e-6
            for s in steps
        ]
        assert system.hessian[0] == pytest.approx(np.array(numeric), rel=1e-6, abs=1e-6)

    def test_blended_hessian_is_positive(self, rng: np.random.Generator) -> None:
        p = problem(rng)
        system = p.system(self.theta, np.ones((2, 60)), np.ones(2))
        assert np.linalg.eigvalsh(system.hessian).min() > 0

    def test_jacobian(self, rng: np.random.Generator) -> None:
        p = problem(rng)
        numeric = approx_fprime(self.theta[0], lambda t: p.log_model(t[None])[0])
        assert p.jacobian(self.theta[0]) == pytest.approx(numeric, abs=1e-6)

    @pytest.mark.parametrize("rows", [pytest.param(7, id="few"), pytest.param(9000, id="more than one block")])
    def test_blocks_do_not_matter(self, rng: np.random.Generator, rows: int) -> None:
        p = problem(rng, rows)
        weights = rng.standard_exponential((3, rows))
        theta = np.tile(self.theta[0], (3, 1))
        together = p.system(theta, weights, np.full(3, 0.5))
        residual = p.log_y - p.log_model(theta[:1])[0]
        clipped = np.clip(residual, -p.delta, p.delta)
        assert together.objective == pytest.approx(weights @ (clipped * (residual - clipped / 2)), rel=1e-12)
        alone = p.system(theta[1:2], weights[1:2], np.full(1, 0.5))
        assert together.hessian[1] == pytest.approx(alone.hessian[0], rel=1e-10)


class TestGrid:
    """Variable projection on a grid of exponents."""

    def test_best_point_is_that_of_brute_force(self, rng: np.random.Generator) -> None:
        p = problem(rng, 40)
        grid = Grid(p, 6)
        weights = rng.standard_exponential((5, 40))
        found = grid.best(weights)
        axis = np.geomspace(0.03, 3.0, 6)
        for row in range(5):
            best: tuple[float, float, float] = (np.inf, 0.0, 0.0)
            for alpha, beta in itertools.product(axis, axis):
                columns = np.column_stack(
                    [np.ones(40), np.exp(-alpha * p.terms[1].logs[:, 0]), np.exp(-beta * p.terms[2].logs[:, 0])]
                )
                scaled = columns / np.exp(p.log_y)[:, None] * np.sqrt(weights[row])[:, None]
                solution, cost = nnls(scaled, np.sqrt(weights[row]))
                if solution[1:].min() > 0:
                    best = min(best, (cost, alpha, beta))
            assert found[row, [2, 4]] == pytest.approx(best[1:], rel=1e-9)

    def test_a_given_first_coefficient_is_kept(self, rng: np.random.Generator) -> None:
        p = problem(rng, 40)
        assert Grid(p, 6, log_first=0.3).all(np.ones((1, 40)))[:, 0] == pytest.approx(0.3)

    def test_losses_that_rise_have_no_start(self, rng: np.random.Generator) -> None:
        p = problem(rng, 40)
        rising = PowerSum(-p.log_y + 3, p.terms, 1e-3)
        with pytest.raises(FitError) as caught:
            global_minima(rising, np.ones((1, 40)))
        assert code_of(caught.value.finding) == "numerics.nothing_falls"


class TestMinimum:
    """Where the search ends."""

    def test_noise_free_runs_give_the_truth(self, rng: np.random.Generator) -> None:
        found = global_minima(problem(rng, 30, noise=0.0), np.ones((1, 30)))
        best = found.theta[found.objective.argmin()]
        assert best[[2, 4]] == pytest.approx([0.34, 0.28], rel=1e-6)  # residuals down to 1e-11
        assert np.exp(best[0]) == pytest.approx(1.69, rel=1e-6)

    @pytest.mark.parametrize("delta", [pytest.param(1e-3, id="published"), pytest.param(5e-3, id="noise")])
    def test_agrees_with_scipy(self, rng: np.random.Generator, delta: float) -> None:
        p = problem(rng, 200, delta=delta)
        found = global_minima(p, np.ones((1, 200)))
        best = int(found.objective.argmin())
        start = found.theta[best] + 0.01
        scipy = least_squares(
            lambda t: p.log_y - p.log_model(t[None])[0],
            start,
            jac=lambda t: -p.jacobian(t),
            loss="huber",
            f_scale=delta,
            xtol=1e-15,
            ftol=1e-15,
            gtol=1e-15,
            max_nfev=20_000,
        )
        assert found.objective[best] <= scipy.cost * (1 + 1e-12)
        # scipy's steps shorten before the kinked valley's floor: its own tolerance, not ours
        assert found.objective[best] == pytest.approx(scipy.cost, rel=1e-6)
        assert found.theta[best] == pytest.approx(scipy.x, abs=1e-3)

    def test_every_start_agrees(self, rng: np.random.Generator) -> None:
        found = global_minima(problem(rng, 200), np.ones((1, 200)))
        assert len(found.objective) > 40
        assert np.ptp(found.objective) < 1e-9 * found.objective.min()
        assert found.converged.all()

    def test_resamples_are_what_single_fits_give(self, rng: np.random.Generator) -> None:
        p = problem(rng, 80)
        estimate = global_minima(p, np.ones((1, 80)))
        weights = rng.standard_exponential((4, 80))
        together, agree = resampled_minima(p, weights, estimate.theta[0])
        assert agree.all()
        for row in range(4):
            alone = global_minima(p, weights[[row]])
            assert together.theta[row] == pytest.approx(alone.theta[alone.objective.argmin()], abs=1e-6)

    def test_gradient_vanishes(self, rng: np.random.Generator) -> None:
        p = problem(rng, 100)
        found = global_minima(p, np.ones((1, 100)))
        at = p.system(found.theta[:1], np.ones((1, 100)), np.zeros(1))
        # in units of its own standard error, the square root of the summed squared scores
        assert np.abs(at.gradient).max() < newton.DISTANCE * np.sqrt(float(at.score[0]))

    def test_running_out_of_passes_is_not_convergence(self, rng: np.random.Generator) -> None:
        p = problem(rng, 100)
        p.patience = 2
        found = minimise(p, np.array([[0.1, 0.1, 1.0, 0.1, 1.0]]), np.ones((1, 100)))
        assert not found.converged.any()

    def test_a_frozen_parameter_stays(self, rng: np.random.Generator) -> None:
        p = problem(rng, 100)
        frozen = np.array([True, False, False, False, False])
        found = global_minima(p, np.ones((1, 100)), log_first=np.log(1.5), frozen=frozen)
        assert found.theta[:, 0] == pytest.approx(np.log(1.5))
        assert found.converged.all()

    def test_an_overwhelming_penalty_is_a_frozen_parameter(self, rng: np.random.Generator) -> None:
        p = problem(rng, 100)
        frozen = np.array([True, False, False, False, False])
        held = global_minima(p, np.ones((1, 100)), log_first=np.log(1.6), frozen=frozen)
        centre = np.array([np.log(1.6), 0, 0, 0, 0])
        pulled = global_minima(
            p,
            np.ones((1, 100)),
            log_first=np.log(1.6),
            penalty=Penalty(precision=np.array([1e9, 0, 0, 0, 0]), centre=centre),
        )
        assert pulled.theta[pulled.objective.argmin()] == pytest.approx(held.theta[held.objective.argmin()], abs=1e-4)

    def test_a_sample_of_many_rows_leads_to_the_minimum_of_all(
        self, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        p = problem(rng, 600)
        whole = global_minima(p, np.ones((1, 600)))
        monkeypatch.setattr(varpro, "_MANY", 500)
        monkeypatch.setattr(varpro, "_SAMPLE", 200)
        sampled = global_minima(p, np.ones((1, 600)))
        assert len(sampled.objective) > 40  # starts, not distinct ends
        assert sampled.converged.all()
        assert sampled.objective.min() == pytest.approx(whole.objective.min(), rel=1e-9)

    def test_three_terms(self, rng: np.random.Generator) -> None:
        """The batch law of arXiv 2607.01487: params, batch and steps."""
        logs = rng.uniform(-2, 2, size=(120, 3))
        y = 1.8 + 0.3 * np.exp(-0.35 * logs[:, 0]) + 0.2 * np.exp(-0.5 * logs[:, 1]) + 0.25 * np.exp(-0.3 * logs[:, 2])
        constant = Term(logs=np.empty((120, 0)), low=(), high=())
        terms = [constant, *(Term(logs=logs[:, [j]], low=(0.01,), high=(3.0,)) for j in range(3))]
        p = PowerSum(np.log(y) + 1e-3 * rng.standard_normal(120), terms, 1e-3)
        found = global_minima(p, np.ones((1, 120)), points=5)
        best = found.theta[found.objective.argmin()]
        # 5 standard errors: sd 1e-3 of log loss over sqrt(120) rows, and the terms' correlation
        assert best[[2, 4, 6]] == pytest.approx([0.35, 0.5, 0.3], abs=0.03)
        assert found.converged[found.objective.argmin()]


def test_rounding_does_not_choose_a_start_that_did_not_converge() -> None:
    """Of starts in one minimum, the one whose search ended cleanly stands for it."""
    ends = {
        "theta": np.array([[1.0], [1.0 + 1e-9], [5.0]]),
        "objective": np.array([1.0 - 1e-13, 1.0, 2.0]),
        "distance": np.array([np.inf, 0.0, 0.0]),
        "converged": np.array([False, True, True]),
        "at_bound": np.zeros((3, 1), dtype=bool),
        "steps": np.zeros(3, dtype=np.intp),
    }
    assert best_start(Minima(**ends)) == 1
    assert best_start(Minima(**{**ends, "converged": np.zeros(3, dtype=bool)})) == 0
