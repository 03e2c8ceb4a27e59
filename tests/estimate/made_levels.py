"""Full grids of learning rate and batch at several levels of a setting that moves both the optimum and the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lawfit.records import Run, RunStatus
from lawfit.simulate import Truth

SCALES = tuple((size, size * ratio) for size in (2e7, 6e7, 1.8e8) for ratio in (20, 60))
TRUTH = Truth(noise=0.0005)


@dataclass(frozen=True, kw_only=True)
class Level:
    """What one level of a setting does."""

    value: Any  # of the column; None: the row does not say
    lr_factor: float = 1.0  # its best learning rate over that of the truth
    excess: float = 0.0  # of log loss
    drift: float = 0.0  # of that excess, per nat of tokens per parameter over 20: which level is best may move
    share: float = 1.0  # of the grid that was run
    rates: Sequence[int] | None = None  # of the grid's learning rates, those that were run
    batches: Sequence[int] | None = None


# Weight decay as in the sweep of the issue: no decay costs most and wants the smallest learning rate.
DECAYS = (
    Level(value=0.0, lr_factor=0.5, excess=0.012),
    Level(value=0.1),
    Level(value=0.3, lr_factor=1.5, excess=0.006),
)


def made(
    levels: Sequence[Level],
    *,
    column: str = "weight_decay",
    scales: Sequence[tuple[float, float]] = SCALES,
    truth: Truth = TRUTH,
    seeds: int = 1,
    seed: int = 0,
) -> list[Run]:
    """Runs of 8 learning rates by 5 batches around each scale's true optimum, at each level."""
    rng = np.random.default_rng(seed)
    runs: list[Run] = []
    for params, tokens in scales:
        best_lr, best_batch = truth.optimum(params, tokens)
        for level in levels:
            excess = level.excess + level.drift * math.log(tokens / params / 20)
            for i, j, repeat in [(i, j, r) for i in range(8) for j in range(5) for r in range(seeds)]:
                left_out = (level.rates is not None and i not in level.rates) or (
                    level.batches is not None and j not in level.batches
                )
                if left_out or rng.random() >= level.share:
                    continue
                lr, batch = best_lr * math.sqrt(2) ** (i - 4), best_batch * 2.0 ** (j - 2)
                shape = truth.excess(
                    np.array([math.log(lr / (best_lr * level.lr_factor))]), np.array([math.log(batch / best_batch)])
                )
                log_excess = float(shape[0]) + excess + truth.noise * rng.standard_normal()
                run = Run(
                    run_key=f"{len(runs):05d}",
                    params=params,
                    tokens=tokens,
                    batch_tokens=batch,
                    lr=lr,
                    status=RunStatus.FINISHED,
                    loss=truth.lowest_loss(params, tokens) * math.exp(log_excess),
                    seed=repeat,
                )
                runs.append(with_level(run, column, level.value))
    return runs


def with_level(run: Run, column: str, value: Any) -> Run:
    """The run at one level of a column."""
    if column == "weight_decay":
        return replace(run, weight_decay=value)
    extra: Mapping[str, Any] = {} if value is None else {column: value}
    return replace(run, extra={**run.extra, **extra})
