"""Made runs with a further input: text that is read again, numbers of experts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lawfit.laws.loss import DATA_CONSTRAINED
from lawfit.records import SizedLoss

NOISE = 0.001


def repeated(seed: int, ratio: float = 40.0, passes_of: Sequence[float] = (3.0, 10.0, 30.0, 60.0)) -> pd.DataFrame:
    """Fresh runs and runs of several passes of the data-constrained law."""
    rng, sizes = np.random.default_rng(seed), np.geomspace(1e8, 2e9, 5)
    rows = [(n, n * r, 1.0) for n in sizes for r in (ratio / 4, ratio, 2 * ratio)]
    rows += [(n, ratio * n, passes) for n in sizes for passes in passes_of]
    losses = [float(DATA_CONSTRAINED.loss(n, d, d / p) * np.exp(NOISE * rng.standard_normal())) for n, d, p in rows]
    return pd.DataFrame(
        {"params": n, "tokens": d, "batch_tokens": 65536, "lr": 1e-3, "loss": y, "unique_tokens": d / p}
        for (n, d, p), y in zip(rows, losses, strict=True)
    )


def sized(frame: pd.DataFrame, **columns: Callable[[pd.Series], Any]) -> list[SizedLoss]:
    """Rows with further columns made from them."""
    return [
        SizedLoss(
            run_key=str(at),
            params=float(row["params"]),
            tokens=float(row["tokens"]),
            loss=float(row["loss"]),
            extra={name: of(row) for name, of in columns.items()},
        )
        for at, row in frame.iterrows()
    ]


def dense_and_sparse(seed: int) -> list[SizedLoss]:
    """Fresh and repeated runs of a dense model, and of one with 64 experts."""
    rng, rows = np.random.default_rng(seed), []
    sizes, every = np.geomspace(1e8, 1e10, 5), (1.0, 4.0, 16.0)
    for n, ratio, passes, count in itertools.product(sizes, (10.0, 40.0, 160.0), every, (1, 8, 64)):
        if passes > 1 and count == 8:
            continue
        loss = float(DATA_CONSTRAINED.loss(n, n * ratio, n * ratio / passes)) - 0.05 * np.log(count)
        extra = {"num_experts": count, "epochs": passes}
        noisy = loss * float(np.exp(NOISE * rng.standard_normal()))
        rows.append(SizedLoss(run_key=f"{len(rows)}", params=n, tokens=n * ratio, loss=noisy, extra=extra))
    return rows


def experts(seed: int, name: str = "num_experts", *, tokens: float | None = None) -> list[SizedLoss]:
    rng = np.random.default_rng(seed)
    rows = []
    for n, ratio, count in itertools.product(np.geomspace(1e8, 1e10, 6), (10.0, 40.0, 160.0), (1, 4, 16, 64)):
        if tokens and ratio > 10:
            continue
        d = tokens or n * ratio
        loss = 1.8 + 300 * n**-0.33 * count**-0.12 + 400 * d**-0.3
        noisy = float(loss * np.exp(NOISE * rng.standard_normal()))
        rows.append(SizedLoss(run_key=f"{n}{d}{count}", params=n, tokens=d, loss=noisy, extra={name: count}))
    return rows


def same_input(same: str) -> list[SizedLoss]:
    """Runs that all have the same tokens, or the same params."""
    rng = np.random.default_rng(3)
    found = []
    for x in np.geomspace(1e8, 1e10, 12):
        n, d = (x, 2e10) if same == "tokens" else (1e9, 20 * x)
        loss = 1.8 + (400 * n**-0.34 + 0.5 if same == "tokens" else 0.3 + 400 * d**-0.28)
        noisy = float(loss * np.exp(NOISE * rng.standard_normal()))
        found.append(SizedLoss(run_key=f"{x:.4g}", params=n, tokens=d, loss=noisy))
    return found
