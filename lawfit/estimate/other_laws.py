"""Further laws of the field on one recipe's own runs: each with its numbers, or with what is missing for it.

None of them answers `lawfit predict`; they show what the runs say about forms that others use, in those forms' own
conventions. How the best learning rate goes with the batch at one scale (saturating, surge, power), rate over batch
against the horizon (power scheduler), rate and batch against compute alone (as DeepSeek states its laws), and the
largest learning rate that still trains against depth x width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.lr_batch.along_batch import (
    MIN_BATCHES,
    fit_lr_batch,
    fit_max_initial_lr,
    fit_power_scheduler,
    ranked,
)
from lawfit.estimate.lr_batch.backtest import columns_of
from lawfit.estimate.numerics.optima import Columns, SweepOptima, locate_argmin, locate_lr_per_batch
from lawfit.estimate.numerics.regression import fit_power_law_clustered
from lawfit.estimate.numerics.resample import size_clusters
from lawfit.estimate.observe.observations import Observations
from lawfit.findings import as_json, finding
from lawfit.records import OptimumStatus, Run, RunStatus

Floats = NDArray[np.float64]

BEST_BATCHES: Final = 3  # of each horizon, as the power scheduler's source takes them (arXiv 2408.13359)
LEVEL: Final = 0.9
MIN_COMPUTE_SCALES: Final = 4
# Columns in which logs keep the shape of a model.
DEPTHS: Final = ("layers", "n_layers", "num_layers", "depth")
WIDTHS: Final = ("width", "hidden_size", "d_model", "n_embd", "hidden_dim")
FORMS: Final = ("saturating_sgd", "saturating", "surge", "power")


def fit_other_laws(observed: Observations, runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """name -> its numbers and ``words``, or ``missing``: what it would take.

    Parameters
    ----------
    observed : of the same runs
    """
    columns = columns_of(observed)
    sweeps = locate_lr_per_batch(columns)
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "lr_batch_forms": lambda: lr_batch_forms(sweeps),
        "power_scheduler": lambda: power_scheduler(sweeps),
        "compute_laws": lambda: compute_laws(columns),
        "max_lr": lambda: max_lr(runs),
    }
    found: dict[str, dict[str, Any]] = {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except (FitError, ValueError) as error:
            found[name] = {"missing": as_json(error)}
    return found


def lr_batch_forms(sweeps: SweepOptima) -> dict[str, Any]:
    """Which form the best learning rate follows along the batch, scale by scale, judged by batches left out.

    Raises
    ------
    NotEnoughData
        No scale shows the best learning rate at `MIN_BATCHES` batches.
    """
    cells: list[dict[str, Any]] = []
    most = 0
    for rows in _cells(sweeps):
        most = max(most, len(np.unique(sweeps.batch_tokens[rows])))
        if len(np.unique(sweeps.batch_tokens[rows])) < MIN_BATCHES:
            continue
        fit = fit_lr_batch(sweeps.batch_tokens[rows], sweeps.lr[rows], level=LEVEL)
        cells.append(
            {
                "params": float(sweeps.params[rows][0]),
                "tokens": float(sweeps.tokens[rows][0]),
                "batches": len(fit.left_out["power"]),
                "best": fit.best,
                "standing": list(fit.standing),
                "error": {name: fit.error(name) for name in FORMS},
                "forms": {name: form.to_json() for name, form in fit.forms.items()},  # each with its own numbers
                "squares": {name: float((fit.left_out[name] ** 2).sum()) for name in FORMS},
            }
        )
    if not cells:
        raise NotEnoughData(finding("laws.few_batches_inside", needed=MIN_BATCHES, most=most))
    batches = sum(cell["batches"] for cell in cells)
    error = {name: float(np.sqrt(sum(cell["squares"][name] for cell in cells) / batches)) for name in FORMS}
    stands = {name: sum(name in cell["standing"] for cell in cells) for name in FORMS}
    best = ranked(error)[0]
    number = "exponent" if best == "power" else "noise_batch_tokens"
    own = [cell["forms"][best][number] for cell in cells]
    return {
        "cells": [{key: value for key, value in cell.items() if key != "squares"} for cell in cells],
        "error": error,
        "stands": stands,
        "best": best,
        "words": finding("laws.lr_batch_forms", best=best, error=error, stands=stands[best], own=own),
    }


def power_scheduler(sweeps: SweepOptima) -> dict[str, Any]:
    """``lr / batch`` against the horizon at the three best batches, each size at its own level (arXiv 2408.13359).

    Raises
    ------
    NotEnoughData
        No size has two horizons whose best batches show their best learning rate.
    """
    loss = np.array([optimum.loss for optimum in sweeps.optima])
    chosen = [rows[np.argsort(loss[rows], kind="stable")[:BEST_BATCHES]] for rows in _cells(sweeps)]
    picked = np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.intp)
    params, tokens = sweeps.params[picked], sweeps.tokens[picked]
    sizes = [size for size in np.unique(params) if np.ptp(np.log(tokens[params == size])) > np.log(1.5)]
    if not sizes:
        raise NotEnoughData(finding("laws.one_horizon"))
    keep = np.isin(params, sizes)
    picked, params, tokens = picked[keep], params[keep], tokens[keep]
    ratio = sweeps.lr[picked] / sweeps.batch_tokens[picked]
    by_size = {
        f"{size:.12g}": vars(
            fit_power_scheduler(
                sweeps.batch_tokens[picked][params == size], tokens[params == size], sweeps.lr[picked][params == size]
            )
        )
        for size in sizes
    }
    exponent, low, high, cells = _within(np.log(tokens), np.log(ratio), params, tokens)
    slope = {"exponent": exponent, "low": low, "high": high}
    return {
        **slope,
        "level": LEVEL,
        "cells": cells,
        "by_params": by_size,
        "words": finding("laws.power_scheduler", batches=BEST_BATCHES, scales=cells, **slope),
    }


def compute_laws(columns: Columns) -> dict[str, Any]:
    """Best learning rate and batch against compute alone, C = 6 params tokens, from the best run of each scale.

    As DeepSeek states its laws (arXiv 2401.02954), whose C has the FLOPs of attention in it and counts no embedding.
    Such a law holds along the path of sizes and horizons that it was measured on.

    Raises
    ------
    NotEnoughData
        Fewer than four scales, or scales of one compute.
    """
    cells = [
        cell for cell in locate_argmin(columns) if np.isfinite(cell.lr) and cell.status is not OptimumStatus.TOO_FEW
    ]
    compute = np.array([6 * cell.params * cell.tokens for cell in cells])
    if len(cells) < MIN_COMPUTE_SCALES:
        raise NotEnoughData(finding("laws.few_compute_scales", needed=MIN_COMPUTE_SCALES, scales=len(cells)))
    if np.ptp(np.log(compute)) < np.log(2):
        raise NotEnoughData(finding("laws.one_compute", scales=len(cells)))
    laws = {}
    cluster = size_clusters([cell.params for cell in cells], [cell.tokens for cell in cells])
    for name in ("lr", "batch_tokens"):
        fit = fit_power_law_clustered(
            [getattr(cell, name) for cell in cells], {"compute": compute}, cluster, level=LEVEL
        )
        laws[name] = {
            "const": fit.law.const,
            "compute": fit.law.exponents["compute"],
            "low": float(fit.low[1]),
            "high": float(fit.high[1]),
            "residual_sd": fit.residual_sd,
        }
    ratio = [cell.tokens / cell.params for cell in cells]
    path = [min(ratio), max(ratio)]
    return {
        **laws,
        "convention": "C = 6 x params x tokens, params as this recipe counts them",
        "tokens_per_param": path,
        "cells": len(cells),
        "words": finding("laws.compute_laws", tokens_per_param=path, **laws),
    }


def max_lr(runs: Sequence[Run]) -> dict[str, Any]:
    """The largest peak learning rate that still trains, against depth x width (arXiv 2212.07295, fitted per setting).

    Each (scale, batch) with a diverged run above its largest finished one brackets it; sizes are medians of those, in
    logs. The source measures constant rates from a fresh network; here they are peaks after a warmup.

    Raises
    ------
    NotEnoughData
        No run diverged above a finished one, or no two shapes that are known.
    """
    brackets: dict[tuple[float, float], list[float]] = {}
    groups: dict[tuple[float, ...], list[Run]] = {}
    known = 0
    for run in runs:
        shape = _shape(run)
        if shape is None or run.excluded is not None:
            continue
        known += 1
        groups.setdefault((*shape, run.params, run.tokens, run.batch_tokens), []).append(run)
    if not known:
        raise NotEnoughData(finding("laws.no_shape", depth=DEPTHS[0], width=WIDTHS[0]))
    for key, mine in groups.items():
        finished = max((r.lr for r in mine if r.status is not RunStatus.DIVERGED), default=0.0)
        above = [r.lr for r in mine if r.status is RunStatus.DIVERGED and r.lr > finished]
        if finished and above:
            brackets.setdefault((key[0], key[1]), []).append(0.5 * float(np.log(finished) + np.log(min(above))))
    if len({depth * width for depth, width in brackets}) < 2:
        diverged = sum(run.status is RunStatus.DIVERGED for run in runs)
        raise NotEnoughData(finding("laws.few_diverged", diverged=diverged, shapes=len(brackets)))
    shapes = sorted(brackets, key=lambda shape: shape[0] * shape[1])
    medians = np.array([float(np.exp(np.median(brackets[shape]))) for shape in shapes])
    const, exponent = fit_max_initial_lr([s[0] for s in shapes], [s[1] for s in shapes], medians)
    count = sum(len(found) for found in brackets.values())
    return {
        "const": const,
        "exponent": exponent,
        "shapes": [
            {"depth": depth, "width": width, "lr": float(lr), "brackets": len(brackets[depth, width])}
            for (depth, width), lr in zip(shapes, medians, strict=True)
        ],
        "words": finding("laws.max_lr", const=const, power=-exponent, sweeps=count, shapes=len(shapes)),
    }


def _shape(run: Run) -> tuple[float, float] | None:
    depth = next((run.extra[name] for name in DEPTHS if run.extra.get(name)), None)
    width = next((run.extra[name] for name in WIDTHS if run.extra.get(name)), None)
    try:
        return (float(depth), float(width)) if depth and width else None
    except (TypeError, ValueError):
        return None


def _cells(sweeps: SweepOptima) -> list[NDArray[np.intp]]:
    """Rows of each scale whose best learning rate lies inside its sweep."""
    scales, index = np.unique(np.column_stack([sweeps.params, sweeps.tokens]), axis=0, return_inverse=True)
    inside = sweeps.inside if len(sweeps.optima) else np.zeros(0, dtype=bool)
    return [rows for k in range(len(scales)) if len(rows := np.flatnonzero((index.ravel() == k) & inside))]


def _within(x: Floats, y: Floats, size: Floats, tokens: Floats) -> tuple[float, float | None, float | None, int]:
    """Slope of y on x with a level per size, and its interval by scales as clusters; None with too few of them."""
    from scipy.special import stdtrit

    levels = np.unique(size, return_inverse=True)[1]
    _, cell = np.unique(np.column_stack([size, tokens]), axis=0, return_inverse=True)
    cell, cells = cell.ravel(), int(cell.max()) + 1
    design = np.column_stack([x, np.eye(int(levels.max()) + 1)[levels]])
    coefficients = np.linalg.lstsq(design, y, rcond=None)[0]
    freedom = cells - design.shape[1]
    if freedom < 1:
        return float(coefficients[0]), None, None, cells
    residual = y - design @ coefficients
    scores = np.zeros((cells, design.shape[1]))
    np.add.at(scores, cell, design * residual[:, None])
    bread = np.linalg.pinv(design.T @ design)
    sd = float(np.sqrt((bread @ scores.T @ scores @ bread)[0, 0] * cells / freedom))
    half = float(stdtrit(freedom, 0.5 + LEVEL / 2)) * sd
    return float(coefficients[0]), float(coefficients[0]) - half, float(coefficients[0]) + half, cells
