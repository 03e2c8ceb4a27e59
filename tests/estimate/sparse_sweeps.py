"""Sweeps that lack something for a law of learning rate and batch, made in a world whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from lawfit.records import Run, RunStatus
from lawfit.simulate import Truth

TRUTH: Final = Truth()
SIZES: Final = (1e7, 3e7, 9e7)
PER_PARAM: Final = 20  # tokens

Setting = tuple[float, float, float, float]  # params, tokens, lr, batch_tokens


def measured(
    settings: Iterable[Setting], *, seed: int = 3, name: str = "made", truth: Truth = TRUTH
) -> tuple[Run, ...]:
    """What training at these settings would have given."""
    rng = np.random.default_rng(seed)
    return tuple(
        Run(
            run_key=f"{name}-{i}",
            params=params,
            tokens=tokens,
            batch_tokens=batch,
            lr=lr,
            status=RunStatus.FINISHED,
            loss=_loss(truth, params, tokens, lr, batch) * math.exp(truth.noise * rng.standard_normal()),
        )
        for i, (params, tokens, lr, batch) in enumerate(settings)
    )


def added(rows: Iterable[Mapping[str, Any]], truth: Truth = TRUTH) -> tuple[Run, ...]:
    """The runs that a refusal proposes, trained."""
    crossed = [(r["params"], r["tokens"], lr, batch) for r in rows for lr in r["lr"] for batch in r["batch_tokens"]]
    return measured(crossed, seed=4, name="added", truth=truth)


def _loss(truth: Truth, params: float, tokens: float, lr: float, batch: float) -> float:
    best_lr, best_batch = truth.optimum(params, tokens)
    u, v = np.array([math.log(lr / best_lr)]), np.array([math.log(batch / best_batch)])
    return truth.lowest_loss(params, tokens) * math.exp(min(float(truth.excess(u, v, tokens)[0]), 5.0))


def best_lr(params: float) -> float:
    return TRUTH.optimum(params, PER_PARAM * params)[0]


def rates(*factors: float, batches: tuple[float, ...] = (1.2e5,), sizes: tuple[float, ...] = SIZES) -> list[Setting]:
    """Learning rates at these ratios to the best one of each size."""
    return [(n, PER_PARAM * n, best_lr(n) * f, b) for n in sizes for f in factors for b in batches]


def with_losses(runs: Iterable[Run], of: Callable[[Run], float]) -> tuple[Run, ...]:
    return tuple(replace(run, loss=of(run)) for run in runs)


def _noise(scale: float = 1e-3) -> Callable[[Run], float]:
    rng = np.random.default_rng(8)
    return lambda _run: 3.0 * math.exp(scale * rng.standard_normal())


def _hill(run: Run) -> float:
    return 3.0 * math.exp(-0.05 * math.log(run.lr / best_lr(run.params)) ** 2)


def _lucky(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    """One run a tenth below all others."""
    at = len(runs) // 2
    return tuple(replace(run, loss=0.9 * run.loss) if i == at and run.loss else run for i, run in enumerate(runs))


GRID: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
THREE_BATCHES: Final = (6e4, 1.2e5, 2.4e5)
MADE: Final[Mapping[str, Callable[[], tuple[Run, ...]]]] = {
    "one run": lambda: measured(rates(1.3, sizes=SIZES[:1])),
    "one run of each of two sizes, one rate": lambda: measured([(n, 20 * n, 3e-3, 1.2e5) for n in SIZES[:2]]),
    "every size with one run, by a rule": lambda: measured(rates(1.3)),
    "all runs at one rate": lambda: measured([(n, 20 * n, 3e-3, b) for n in SIZES for b in THREE_BATCHES]),
    "a rule of size, batches swept": lambda: measured(rates(1.5, batches=THREE_BATCHES)),
    "two rates at each size": lambda: measured(rates(1.0, 2.0)),
    "all diverged but one": lambda: tuple(
        replace(run, loss=None, status=RunStatus.DIVERGED) if i else run
        for i, run in enumerate(measured(rates(*GRID, sizes=SIZES[:1])))
    ),
    "no difference but noise": lambda: with_losses(measured(rates(*GRID)), _noise()),
    "no difference at all": lambda: with_losses(measured(rates(*GRID)), lambda _run: 3.0),
    "rates too close to differ": lambda: measured(rates(0.94, 0.98, 1.0, 1.02, 1.06)),
    "highest in the middle": lambda: with_losses(measured(rates(*GRID)), _hill),
    "best at the smallest rate": lambda: measured(rates(4.0, 8.0, 16.0, 32.0)),
    "best at the largest rate": lambda: measured(rates(1 / 32, 1 / 16, 1 / 8, 1 / 4)),
    "three runs at one scale": lambda: measured(rates(0.3, 1.0, 3.0, sizes=SIZES[:1])),
    "a sweep at one batch": lambda: measured(rates(*GRID)),
    "a batch for each size": lambda: measured(
        [(n, 20 * n, best_lr(n) * f, 2.0 ** round(math.log2(n / 100))) for n in SIZES for f in GRID]
    ),
    "a batch for each rate": lambda: measured([(n, 20 * n, best_lr(n) * f, 1.2e5 * f) for n in SIZES for f in GRID]),
    "one run far below the others": lambda: _lucky(measured(rates(*GRID, batches=THREE_BATCHES))),
    "a grid": lambda: measured(rates(*GRID, batches=THREE_BATCHES)),
}
