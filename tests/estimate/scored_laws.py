"""What a law costs on observed cells: laws of others, as tests and yardsticks score them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lawfit.errors import NotEnoughData
from lawfit.estimate.numerics.scoring import Bools, Floats, ObservedRegret, ObservedSurface, Rule

CellKey = tuple[float, float]  # params, tokens


@dataclass(frozen=True, kw_only=True)
class LawScore:
    """A law's regret over the cells it has an answer for."""

    cells: tuple[CellKey, ...]
    regret: Floats  # (cells,), aligned with `cells`
    outside: Bools  # (cells,)
    unanswered: tuple[CellKey, ...] = ()  # cells where the law gave no positive number

    @property
    def mean(self) -> float:
        return float(self.regret.mean())

    @property
    def worst(self) -> float:
        return float(self.regret.max())


def observed_regret(
    lr: ArrayLike,
    batch_tokens: ArrayLike,
    loss: ArrayLike,
    *,
    at_lr: ArrayLike,
    at_batch: ArrayLike,
    rule: Rule = "triangles",
) -> ObservedRegret:
    """Regret of one or many points (`at_lr`, `at_batch`, broadcast) on the runs of one cell; see `ObservedSurface`."""
    return ObservedSurface(lr, batch_tokens, loss, rule=rule).regret(at_lr, at_batch)


def observed_surfaces(
    params: ArrayLike,
    tokens: ArrayLike,
    batch_tokens: ArrayLike,
    lr: ArrayLike,
    loss: ArrayLike,
    *,
    rule: Rule = "triangles",
) -> dict[CellKey, ObservedSurface]:
    """One `ObservedSurface` per (params, tokens) cell with a finished run, in ascending order of (params, tokens)."""
    n, d, b, x, z = (np.asarray(a, dtype=float) for a in (params, tokens, batch_tokens, lr, loss))
    surfaces = {}
    for cell_params, cell_tokens in np.unique(np.column_stack([n, d]), axis=0):
        rows = (n == cell_params) & (d == cell_tokens)
        if np.isfinite(z[rows]).any():
            surfaces[float(cell_params), float(cell_tokens)] = ObservedSurface(x[rows], b[rows], z[rows], rule=rule)
    return surfaces


def score_law(
    surfaces: Mapping[CellKey, ObservedSurface], predict: Callable[[float, float], tuple[float, float]]
) -> LawScore:
    """Score ``predict(params, tokens) -> (lr, batch_tokens)`` on every cell.

    A cell where either is not a positive number (a law beyond its zero) is `unanswered`, and in no mean.

    Raises
    ------
    NotEnoughData
        There is no cell to score on, or the law answers on none.
    """
    scored: dict[CellKey, ObservedRegret] = {}
    unanswered = []
    for cell, surface in surfaces.items():
        at_lr, at_batch = (float(value) for value in predict(*cell))
        if 0 < at_lr < np.inf and 0 < at_batch < np.inf:
            scored[cell] = surface.regret(at_lr, at_batch)
        else:
            unanswered.append(cell)
    if not scored:
        raise NotEnoughData(f"no cell to score this law on ({len(unanswered)} without an answer from it)")
    return LawScore(
        cells=tuple(scored),
        regret=np.array([float(s.regret) for s in scored.values()]),
        outside=np.array([bool(s.outside) for s in scored.values()]),
        unanswered=tuple(unanswered),
    )
