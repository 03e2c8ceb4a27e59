"""Simulated sweeps: the same every time, their optimum is one, and they come back from a file as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lawfit import pipeline
from lawfit.records import RunStatus
from lawfit.simulate import (
    Design,
    FurtherTruth,
    Truth,
    demo_sweep,
    simulate_sweep,
    simulate_targets,
    simulate_weight_decay,
    write_csv,
)
from lawfit.storage import Store

SCALES = ((2e7, 4e8), (1e8, 2e9))
WORLDS = [
    pytest.param(Truth(), id="default"),
    pytest.param(Truth(ridge_bend=0.0), id="straight ridge"),
    pytest.param(Truth(lr_skew=0.0, batch_skew=0.0), id="symmetric"),
    pytest.param(Truth(ridge=1.5, ridge_bend=2.0, shape_drift=0.2), id="bent, drifting"),
]


def test_the_same_seed_gives_the_same_sweep() -> None:
    one, other = (
        simulate_sweep(Truth(), Design(scales=SCALES, seeds=2, missing=0.1), rng=np.random.default_rng(3))
        for _ in range(2)
    )
    assert one.runs == other.runs
    assert demo_sweep().runs == demo_sweep().runs


def test_another_seed_gives_another() -> None:
    one, other = (simulate_sweep(Truth(), Design(scales=SCALES), rng=np.random.default_rng(s)) for s in (3, 4))
    assert one.runs != other.runs


@pytest.mark.parametrize("truth", WORLDS)
@pytest.mark.parametrize("tokens", [4e8, 1e11])
def test_the_optimum_minimises_the_excess(truth: Truth, tokens: float) -> None:
    grid = np.linspace(-2.0, 2.0, 401)
    u, v = np.meshgrid(grid, grid, indexing="ij")
    cost = truth.excess(u, v, tokens)
    assert cost.min() == pytest.approx(0.0, abs=1e-12)
    at = np.unravel_index(int(cost.argmin()), cost.shape)
    assert (u[at], v[at]) == pytest.approx((0.0, 0.0), abs=1e-9)


@pytest.mark.parametrize("truth", WORLDS)
def test_the_best_lr_of_a_batch_minimises_along_it(truth: Truth) -> None:
    u = np.linspace(-4, 4, 8001)
    for v in (-2.0, -0.5, 0.0, 1.5):
        best = u[int(np.argmin(truth.excess(u, np.full_like(u, v))))]
        assert best == pytest.approx(float(truth.best_lr_shift(np.array(v))), abs=1e-3)  # the grid's step


def test_twice_the_best_lr_costs_more_than_half() -> None:
    far = np.log(2.0)
    assert Truth().excess(np.array(far), np.array(0.0)) > 1.5 * Truth().excess(np.array(-far), np.array(0.0))


def test_noise_has_the_stated_size() -> None:
    truth = Truth(noise=0.01, diverges_above=50.0)
    found = simulate_sweep(
        truth, Design(scales=SCALES[:1], lr_steps=2, batch_steps=2, seeds=500), rng=np.random.default_rng(1)
    )
    settings = {(r.lr, r.batch_tokens) for r in found.runs}
    spread = [np.std([np.log(r.loss) for r in found.runs if (r.lr, r.batch_tokens) == s]) for s in settings]
    assert np.sqrt(np.mean(np.square(spread))) == pytest.approx(0.01, rel=0.1)  # sd / sqrt(2 x 2000) = 1.6 %, six times


def test_too_large_learning_rates_diverge() -> None:
    truth = Truth(diverges_above=0.5)
    runs = simulate_sweep(truth, Design(scales=SCALES, lr_steps=12), rng=np.random.default_rng(1)).runs
    lost = [r for r in runs if r.status is RunStatus.DIVERGED]
    assert 0 < len(lost) < len(runs)
    assert all(r.loss is None for r in lost)
    assert np.median([r.lr for r in lost]) > np.median([r.lr for r in runs])


def test_absurd_settings_do_not_overflow() -> None:
    runs = simulate_sweep(
        Truth(), Design(scales=SCALES[:1], lr_steps=60, batch_steps=3), rng=np.random.default_rng(1)
    ).runs
    assert all(r.loss is None or np.isfinite(r.loss) for r in runs)


def test_scatter_moves_the_optima_and_says_where() -> None:
    quiet = simulate_sweep(Truth(), Design(scales=SCALES), rng=np.random.default_rng(1))
    loud = simulate_sweep(Truth(scatter_lr=0.3), Design(scales=SCALES), rng=np.random.default_rng(1))
    for scale in SCALES:
        assert quiet.optima[scale] == pytest.approx(Truth().optimum(*scale))
        assert loud.optima[scale][0] != pytest.approx(Truth().optimum(*scale)[0], rel=1e-3)


def test_scales_of_one_size_share_a_deviation() -> None:
    scales = [(n, n * ratio) for n in (2e7, 1e8, 5e8) for ratio in (10, 40)]
    truth = Truth(size_scatter_lr=0.3, size_scatter_batch=0.2)
    optima = simulate_sweep(truth, Design(scales=scales), rng=np.random.default_rng(1)).optima
    apart = {scale: np.log(optima[scale]) - np.log(truth.optimum(*scale)) for scale in scales}
    for n in (2e7, 1e8, 5e8):
        assert apart[n, 10 * n] == pytest.approx(apart[n, 40 * n], abs=1e-12)
    firsts = np.array([apart[n, 10 * n] for n in (2e7, 1e8, 5e8)])
    assert (np.ptp(firsts, axis=0) > 0.01).all()  # three draws of sd 0.2 and more: closer in one of a few thousand


def test_deviations_of_sizes_have_the_stated_spread() -> None:
    truth, rng = Truth(size_scatter_lr=0.25, size_scatter_batch=0.1), np.random.default_rng(1)
    drawn = np.array([truth.size_deviation(rng) for _ in range(2000)])
    assert drawn.std(axis=0) == pytest.approx([0.25, 0.1], rel=0.1)  # sd / sqrt(2 x 2000) = 1.6 %, six times
    assert abs(drawn.mean(axis=0)).max() < 6 * 0.25 / 2000**0.5


def test_few_tokens_bend_the_laws_and_many_do_not() -> None:
    straight, bent = Truth(), Truth(lr_few_tokens=-0.3, batch_few_tokens=0.2, few_tokens=5)
    apart = {
        ratio: np.log(bent.optimum(1e8, 1e8 * ratio)) - np.log(straight.optimum(1e8, 1e8 * ratio))
        for ratio in (0.05, 0.5, 5, 500)
    }
    assert apart[500] == pytest.approx([-0.003, 0.002], abs=1e-4)  # ln(1.01)
    assert apart[5] == pytest.approx(np.log(2) * np.array([-0.3, 0.2]))
    assert apart[0.05] - apart[0.5] == pytest.approx(np.log(10) * np.array([-0.3, 0.2]), rel=0.05)  # ln(101 / 11)


def test_lone_scales_hold_one_setting_near_their_optimum() -> None:
    truth = Truth(diverges_above=50.0)
    design = Design(scales=SCALES, lone_scales=[(4e8, 8e9), (8e8, 1.6e10)], seeds=2, misplacement=0.2)
    sweep = simulate_sweep(truth, design, rng=np.random.default_rng(1))
    for scale in design.lone_scales:
        runs = [run for run in sweep.runs if (run.params, run.tokens) == scale]
        assert len(runs) == 2
        assert len({(run.lr, run.batch_tokens) for run in runs}) == 1
        assert abs(np.log(runs[0].lr / sweep.optima[scale][0])) < 6 * 0.2
    full = simulate_sweep(truth, Design(scales=SCALES, seeds=2, misplacement=0.2), rng=np.random.default_rng(1))
    assert sweep.runs[: len(full.runs)] == full.runs


def test_comes_back_from_a_file_as_it_was(tmp_path: Path) -> None:
    sweep = simulate_sweep(Truth(diverges_above=0.5), Design(scales=SCALES, seeds=2), rng=np.random.default_rng(5))
    path = tmp_path / "sweep.csv"
    assert write_csv(sweep.runs, path) == len(sweep.runs)
    with Store.open(":memory:") as store:
        report = pipeline.ingest(store, path)
        assert (report.inserted, report.rejections) == (len(sweep.runs), ())
        recipe = store.recipe(None)
        assert (recipe.optimizer, recipe.data, recipe.params_convention) == ("simulated", "simulated", "non_embedding")
        kept = {r.run_key: r for r in store.runs(recipe.key)}
    for run in sweep.runs:
        back = kept[run.run_key]
        for name in ("params", "tokens", "batch_tokens", "lr", "status", "loss", "seed", "steps"):
            assert getattr(back, name) == getattr(run, name), name


class TestFurtherWorlds:
    def test_the_best_weight_decay_is_the_true_one(self, rng: np.random.Generator) -> None:
        truth, further = Truth(noise=0.0), FurtherTruth()
        sweep = simulate_sweep(truth, Design(scales=[(1e8, 2e9)], lr_steps=3, batch_steps=3), rng=rng)
        runs = simulate_weight_decay(sweep, further, (0.25, 0.5, 1.0, 2.0, 4.0), rng=rng)
        best = min(runs, key=lambda run: run.loss or np.inf)
        assert best.weight_decay is not None
        tau = best.batch_tokens / (best.lr * best.weight_decay * best.tokens)
        assert tau == pytest.approx(further.best_timescale(1e8, 2e9))
        assert best.loss == pytest.approx(truth.lowest_loss(1e8, 2e9))
        assert (runs[4].loss or 0) > (runs[0].loss or 0)  # too much costs more than too little

    def test_the_doubling_batch_needs_twice_the_tokens(self, rng: np.random.Generator) -> None:
        further = FurtherTruth()
        rows = simulate_targets(Truth(), further, [(1e8, 2e9)], rng=rng, noise=0.0)
        (there,) = (row for row in rows if row.batch_tokens == further.doubling_batch_tokens(2e9))
        assert there.steps * there.batch_tokens == pytest.approx(4e9, rel=1e-3)  # whole steps
