"""Sweeps with a known truth: for rehearsals, the demo and the tests.

The valley is asymmetric like measured ones (twice the best learning rate costs more than half of it), its floor bends
with the batch as saturating learning-rate laws say, too large a learning rate diverges, and each scale's optimum may
sit a little off the power law, by a deviation of its own and one that all scales of its size share (sizes differ in
shape). None of it is of the form that `lawfit.estimate` fits.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lawfit.records import Recipe, Run, RunStatus, StepsToTarget

Floats = NDArray[np.float64]

REFERENCE_PARAMS = 1e8
REFERENCE_TOKENS = 2e9
_LARGEST_EXCESS = 5.0  # of log loss: a loss 150 times the lowest is as bad as one can be


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A world in which the best learning rate and batch size are known exactly.

    With ``n = ln(params / 1e8)`` and ``d = ln(tokens / 2e9)``:
    ``ln lr* = ln lr + lr_params n + lr_tokens d + lr_curvature (n + d)^2 / 4 + lr_few_tokens s`` and the same for the
    batch, where ``s = ln(1 + few_tokens params / tokens)``: 0 at many tokens per parameter, straight in their log at
    few.
    """

    lr: float = 3e-3  # optimum at the reference scale, 1e8 params x 2e9 tokens
    lr_params: float = -0.6
    lr_tokens: float = 0.2
    lr_curvature: float = 0.0
    batch_tokens: float = 2.6e5  # tokens per step at the reference scale
    batch_params: float = -0.1
    batch_tokens_exponent: float = 0.55
    batch_curvature: float = 0.0
    few_tokens: float = 5.0  # per parameter: about where the laws begin to bend
    lr_few_tokens: float = 0.0  # ln lr* per nat of tokens per parameter below that
    batch_few_tokens: float = 0.0
    lr_stiffness: float = 0.006  # excess of log loss is about stiffness x (ln lr/lr*)^2 near the optimum
    batch_stiffness: float = 0.0045
    lr_skew: float = 1.4  # > 0: too large costs more than too small
    batch_skew: float = 0.7
    ridge: float = 0.8  # d ln lr / d ln batch along the valley floor far below the best batch
    ridge_bend: float = 1.0  # per nat of batch; the floor's slope at the optimum is ridge / 2, and tends to 0 above
    shape_drift: float = 0.0  # stiffness changes as (tokens / reference)^drift
    scatter_lr: float = 0.0  # sd of each scale's own ln lr* around the law
    scatter_batch: float = 0.0
    size_scatter_lr: float = 0.0  # sd of what all scales of one size share of it
    size_scatter_batch: float = 0.0
    diverges_above: float = 1.5  # ln(lr / best lr at that batch) beyond which half of the runs diverge
    noise: float = 0.0008  # sd of log loss between seeds
    loss_floor: float = 1.69
    loss_params: tuple[float, float] = (406.4, 0.34)  # Chinchilla's rounded form, arXiv 2203.15556
    loss_tokens: tuple[float, float] = (410.7, 0.28)

    def optimum(self, params: float, tokens: float) -> tuple[float, float]:
        """Best learning rate and batch (tokens per step) by the law, without scatter of scales and sizes."""
        n, d = math.log(params / REFERENCE_PARAMS), math.log(tokens / REFERENCE_TOKENS)
        bend, few = (n + d) ** 2 / 4, math.log1p(self.few_tokens * params / tokens)
        log_lr = math.log(self.lr) + self.lr_params * n + self.lr_tokens * d
        log_batch = math.log(self.batch_tokens) + self.batch_params * n + self.batch_tokens_exponent * d
        log_lr += self.lr_curvature * bend + self.lr_few_tokens * few
        log_batch += self.batch_curvature * bend + self.batch_few_tokens * few
        return math.exp(log_lr), math.exp(log_batch)

    def size_deviation(self, rng: np.random.Generator) -> tuple[float, float]:
        """A draw of what all scales of one size share: their (ln lr*, ln batch*) over the law."""
        if not (self.size_scatter_lr or self.size_scatter_batch):
            return 0.0, 0.0  # takes no draw, so that sweeps without stay what they were
        return self.size_scatter_lr * rng.standard_normal(), self.size_scatter_batch * rng.standard_normal()

    def lowest_loss(self, params: float, tokens: float) -> float:
        """Loss in nats per token at the optimum."""
        (a, alpha), (b, beta) = self.loss_params, self.loss_tokens
        return float(self.loss_floor + a / params**alpha + b / tokens**beta)

    def excess(self, u: Floats, v: Floats, tokens: float = REFERENCE_TOKENS) -> Floats:
        """Excess of log loss at ``u = ln lr/lr*``, ``v = ln batch/batch*``; zero and smallest at the origin."""
        drift = float((tokens / REFERENCE_TOKENS) ** self.shape_drift)
        across = self.lr_stiffness * _linex(u - self.best_lr_shift(v), self.lr_skew)
        total: Floats = drift * (across + self.batch_stiffness * _linex(v, self.batch_skew))
        return total

    def best_lr_shift(self, v: Floats) -> Floats:
        """``ln lr`` that is best at ``v = ln batch/batch*``, relative to the optimum: saturating above it."""
        if self.ridge_bend == 0:
            return self.ridge / 2 * v
        return self.ridge / self.ridge_bend * (math.log(2.0) - np.logaddexp(0.0, -self.ridge_bend * v))


@dataclass(frozen=True, kw_only=True)
class Design:
    """Which runs a simulated sweep has: at each scale a grid around the true optimum, off by the researcher's luck."""

    scales: Sequence[tuple[float, float]]  # (params, tokens)
    lr_steps: int = 9
    lr_ratio: float = math.sqrt(2)
    batch_steps: int = 7
    batch_ratio: float = math.sqrt(2)
    seeds: int = 1
    missing: float = 0.0  # share of the runs that are not there
    random: bool = False  # random search in the same box instead of a grid
    misplacement: float = 0.5  # sd, in nats, of the grid's centre around the true optimum
    lone_scales: Sequence[
        tuple[float, float]
    ] = ()  # further ones with a single setting, misplaced as a grid's centre is


@dataclass(frozen=True, kw_only=True)
class SimulatedSweep:
    runs: tuple[Run, ...]
    truth: Truth
    recipe: Recipe
    optima: dict[tuple[float, float], tuple[float, float]] = field(default_factory=dict)  # true, scatter included


def simulate_sweep(truth: Truth, design: Design, *, rng: np.random.Generator) -> SimulatedSweep:
    """Runs of one sweep; diverged runs have no loss. The same generator state gives the same sweep."""
    runs: list[Run] = []
    optima: dict[tuple[float, float], tuple[float, float]] = {}
    of_size: dict[float, tuple[float, float]] = {}
    lone = replace(design, lr_steps=1, batch_steps=1, random=True)  # at the centre, on no grid
    designs = [*((scale, design) for scale in design.scales), *((scale, lone) for scale in design.lone_scales)]
    for (params, tokens), here in designs:
        law_lr, law_batch = truth.optimum(params, tokens)
        if params not in of_size:
            of_size[params] = truth.size_deviation(rng)
        log_lr = math.log(law_lr) + of_size[params][0] + truth.scatter_lr * rng.standard_normal()
        log_batch = math.log(law_batch) + of_size[params][1] + truth.scatter_batch * rng.standard_normal()
        optima[params, tokens] = math.exp(log_lr), math.exp(log_batch)
        for lr, batch in _settings(here, log_lr, log_batch, rng):
            u, v = np.array([math.log(lr) - log_lr]), np.array([math.log(batch) - log_batch])
            over = float(u[0] - truth.best_lr_shift(v)[0]) - truth.diverges_above
            excess = float(truth.excess(u, v, tokens)[0])
            for seed in range(design.seeds):
                if rng.random() < design.missing:
                    continue
                diverged = rng.random() < 1 / (1 + math.exp(-np.clip(8 * over, -50, 50)))
                noise = truth.noise * rng.standard_normal()
                loss = truth.lowest_loss(params, tokens) * math.exp(min(excess + noise, _LARGEST_EXCESS))
                runs.append(
                    Run(
                        run_key=f"sim-{len(runs):05d}",
                        params=params,
                        tokens=tokens,
                        batch_tokens=batch,
                        lr=lr,
                        status=RunStatus.DIVERGED if diverged else RunStatus.FINISHED,
                        loss=None if diverged else loss,
                        seed=seed,
                        steps=max(1, round(tokens / batch)),
                        source="simulated",
                    )
                )
    recipe = Recipe(name="simulated", optimizer="simulated", params_convention="non_embedding", data="simulated")
    return SimulatedSweep(runs=tuple(runs), truth=truth, recipe=recipe, optima=optima)


@dataclass(frozen=True, kw_only=True)
class FurtherTruth:
    """What is true of weight decay and critical batch size: power laws of published size."""

    timescale: float = 1.1  # the best AdamW timescale is timescale (tokens / params)^timescale_exponent
    timescale_exponent: float = -0.5  # Power Lines has 1.084 and -0.527, arXiv 2505.13738
    timescale_stiffness: float = 0.004  # excess of log loss is about stiffness x (ln tau/tau*)^2
    timescale_skew: float = -0.6  # < 0: too much weight decay costs more than too little
    doubling_batch: float = 3e5  # tokens per step at 2e9 tokens: there a run needs twice a tiny batch's tokens
    doubling_exponent: float = 0.47  # in tokens, arXiv 2410.21676 and 2505.13738

    def best_timescale(self, params: float, tokens: float) -> float:
        return float(self.timescale * (tokens / params) ** self.timescale_exponent)

    def excess(self, shift: float) -> float:
        """Excess of log loss at ``shift = ln tau/tau*``."""
        return self.timescale_stiffness * float(_linex(np.array([shift]), self.timescale_skew)[0])

    def doubling_batch_tokens(self, tokens: float) -> float:
        """`tokens` are those that a tiny batch needs."""
        return float(self.doubling_batch * (tokens / REFERENCE_TOKENS) ** self.doubling_exponent)


def simulate_weight_decay(
    sweep: SimulatedSweep, further: FurtherTruth, ratios: Sequence[float], *, rng: np.random.Generator
) -> tuple[Run, ...]:
    """Runs at each scale's best learning rate and batch, at these ratios to its best weight decay (coupled)."""
    runs: list[Run] = []
    for (params, tokens), (lr, batch) in sweep.optima.items():
        best = further.best_timescale(params, tokens)
        lowest = sweep.truth.lowest_loss(params, tokens)
        for ratio in ratios:
            excess = further.excess(-math.log(ratio))  # more weight decay is a shorter memory
            runs.append(
                Run(
                    run_key=f"sim-wd-{len(runs):05d}",
                    params=params,
                    tokens=tokens,
                    batch_tokens=batch,
                    lr=lr,
                    weight_decay=ratio * batch / (lr * best * tokens),
                    status=RunStatus.FINISHED,
                    loss=lowest * math.exp(excess + sweep.truth.noise * rng.standard_normal()),
                    steps=max(1, round(tokens / batch)),
                    source="simulated",
                )
            )
    return tuple(runs)


def simulate_targets(
    truth: Truth,
    further: FurtherTruth,
    scales: Iterable[tuple[float, float]],
    *,
    rng: np.random.Generator,
    noise: float = 0.01,
) -> tuple[StepsToTarget, ...]:
    """Steps to the loss that each scale reaches, at batches from an eighth to eight times its doubling batch.

    `noise` is the sd of log steps.
    """
    rows: list[StepsToTarget] = []
    for params, tokens in scales:
        doubling = further.doubling_batch_tokens(tokens)
        for power in range(-3, 4):
            batch = doubling * 2.0**power
            steps = tokens / doubling * (1 + doubling / batch)  # arXiv 1812.06162: S = S_min (1 + B_c / B)
            rows.append(
                StepsToTarget(
                    run_key=f"sim-to-{len(rows):05d}",
                    params=params,
                    batch_tokens=batch,
                    steps=max(1, round(steps * math.exp(noise * rng.standard_normal()))),
                    target_loss=truth.lowest_loss(params, tokens),
                    source="simulated",
                )
            )
    return tuple(rows)


def demo_sweep() -> SimulatedSweep:
    """The sweep that the demo uses until a measured one is shipped: nine scales, one seed each, always the same."""
    sizes = (2e7, 6e7, 1.8e8)
    scales = [(n, n * ratio) for n in sizes for ratio in (10, 30, 90)]
    return simulate_sweep(
        Truth(scatter_lr=0.05, scatter_batch=0.08), Design(scales=scales), rng=np.random.default_rng(7)
    )


def write_csv(runs: Iterable[Run], path: Path) -> int:
    """Write runs as a table that `lawfit ingest` reads; returns the number of rows."""
    columns = (
        "run_id", "optimizer", "dataset", "n_params", "n_params_kind", "n_tokens", "batch_size_tokens",
        "learning_rate", "seed", "steps", "final_loss", "diverged",
    )  # fmt: skip
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for run in runs:
            writer.writerow(
                [
                    run.run_key, "simulated", "simulated", f"{run.params:.17g}", "non_embedding", f"{run.tokens:.17g}",
                    f"{run.batch_tokens:.17g}", f"{run.lr:.17g}", run.seed, run.steps,
                    "" if run.loss is None else f"{run.loss:.17g}", int(run.status is RunStatus.DIVERGED),
                ]
            )  # fmt: skip
            count += 1
    return count


def _linex(x: Floats, skew: float) -> Floats:
    """``2 (e^(skew x) - skew x - 1) / skew^2``: x^2 near zero, exponential on one side, straight on the other."""
    if abs(skew) < 1e-6:
        return x**2
    z = np.clip(skew * x, -50.0, 20.0)
    return 2 * (np.expm1(z) - z) / skew**2


def _settings(design: Design, log_lr: float, log_batch: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Learning rates on powers of the ratio (as people write grids), batches on powers of theirs."""
    centre_lr = log_lr + design.misplacement * rng.standard_normal()
    centre_batch = log_batch + design.misplacement * rng.standard_normal()
    step_lr, step_batch = math.log(design.lr_ratio), math.log(design.batch_ratio)
    if design.random:
        half_lr, half_batch = step_lr * (design.lr_steps - 1) / 2, step_batch * (design.batch_steps - 1) / 2
        count = design.lr_steps * design.batch_steps
        return [
            (math.exp(centre_lr + half_lr * a), math.exp(centre_batch + half_batch * b))
            for a, b in rng.uniform(-1, 1, size=(count, 2))
        ]
    first_lr = round(centre_lr / step_lr) - (design.lr_steps - 1) // 2
    first_batch = round(centre_batch / step_batch) - (design.batch_steps - 1) // 2
    return [
        (math.exp(step_lr * (first_lr + i)), math.exp(step_batch * (first_batch + j)))
        for i in range(design.lr_steps)
        for j in range(design.batch_steps)
    ]
