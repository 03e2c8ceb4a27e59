"""Levels of a setting beside each other: where each was run, which can carry a fit, and whose losses are lower."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.numerics.snapping import Places, distinct, indexed

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

# A level can carry a fit where it was run over half of what the level run most widely was: of a scale's learning rates
# and batches, and of the scales. Less would trade a small difference between levels for a fit that nothing holds.
ENOUGH: Final = 0.5
ENOUGH_SETTINGS: Final = 0.25  # of the settings, at a scale and in all: a grid may have holes


def count_tried(level: Ints, places: Places, *columns: Floats) -> Ints:
    """(scales, levels) distinct values of some columns, or combinations of them."""
    scales, count = int(places.scale.max()) + 1, int(level.max()) + 1
    seen = distinct(places.scale, level, indexed(*columns))
    found = np.bincount((seen[:, 0] * count + seen[:, 1]).astype(np.intp), minlength=scales * count)
    return found.reshape(scales, count)


def with_runs_enough(level: Ints, places: Places) -> Ints:
    """The levels that can carry a fit. A scale counts by its settings: lone runs hold no law of learning rates."""
    settings = count_tried(level, places, places.log_lr, places.log_batch)
    covered = settings.max(axis=1) @ run_widely(level, places)
    tried = settings.sum(axis=0)
    return np.flatnonzero((covered >= ENOUGH * covered.max()) & (tried >= ENOUGH_SETTINGS * tried.max()))


def run_widely(level: Ints, places: Places) -> Bools:
    """(scales, levels) whether a level was run over enough of what was tried at a scale."""

    def share(*columns: Floats) -> Floats:
        """Of what the level that was run most widely at a scale has."""
        found = count_tried(level, places, *columns)
        return np.asarray(found / found.max(axis=1, keepdims=True))

    of_lr, of_batch = share(places.log_lr), share(places.log_batch)
    of_settings = share(places.log_lr, places.log_batch)
    return np.asarray((of_lr >= ENOUGH) & (of_batch >= ENOUGH) & (of_settings >= ENOUGH_SETTINGS))


def effects_on_loss(level: Ints, places: Places, log_loss: Floats, able: Ints) -> tuple[Floats, Ints, int]:
    """How much lower or higher each level's best log loss is: a two-way table of scales and levels, by least squares.

    At a scale the best is taken over the settings that all levels present there share, so that a level of which more
    was tried has no better luck; where they share none, over each level's own.

    Returns
    -------
    effect : (levels,) of log loss; infinite where a level has no finished run
    lowest : (levels,) scales at which it is the lowest
    compared : scales with two levels or more
    """
    setting = indexed(places.scale, places.log_lr, places.log_batch)
    rows: list[tuple[int, int, float]] = []
    lowest, compared = np.zeros(len(able), dtype=np.intp), 0
    for scale in range(int(places.scale.max()) + 1):
        here = (places.scale == scale) & np.isfinite(log_loss)
        mean = {
            k: _mean_by(setting[at], log_loss[at])
            for k, name in enumerate(able)
            if (at := here & (level == name)).any()
        }
        if len(mean) < 2:
            continue
        shared = set.intersection(*(set(found) for found in mean.values()))
        best = {k: min(found[s] for s in (shared or found)) for k, found in mean.items()}
        rows += [(scale, k, value) for k, value in best.items()]
        lowest[min(best, key=lambda k: best[k])] += 1
        compared += 1
    if not rows:
        return np.zeros(len(able)), lowest, 0
    scale_of, level_of, best_loss = (np.array(column) for column in zip(*rows, strict=True))
    design = np.zeros((len(rows), int(places.scale.max()) + 1 + len(able)))
    design[np.arange(len(rows)), scale_of] = 1.0
    design[np.arange(len(rows)), design.shape[1] - len(able) + level_of] = 1.0
    effect = np.linalg.lstsq(design, best_loss, rcond=None)[0][-len(able) :]
    effect[np.bincount(level_of, minlength=len(able)) == 0] = np.inf
    return np.asarray(effect), lowest, compared


def _mean_by(setting: Ints, log_loss: Floats) -> dict[int, float]:
    keys, index = np.unique(setting, return_inverse=True)
    mean = np.bincount(index, weights=log_loss) / np.bincount(index)
    return dict(zip(keys.tolist(), mean.tolist(), strict=True))
