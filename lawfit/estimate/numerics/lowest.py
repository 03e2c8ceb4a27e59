"""The lowest point along a line of values on a grid."""

from __future__ import annotations

from typing import Final

import numpy as np

from lawfit.estimate.numerics.newton import Floats

STEEPEST: Final = 0.05  # rise of ln loss over one step; a steeper one is a cliff of the form, and no parabola is


def lowest_along(x: Floats, losses: Floats) -> tuple[Floats, Floats]:
    """Place and height of the lowest point of each row, by a parabola through the best three; ends stay ends."""
    rows = np.arange(len(losses))
    best = losses.argmin(axis=1) if losses.size else np.zeros(0, dtype=int)
    inside = np.clip(best, 1, len(x) - 2)
    left, middle, right = (losses[rows, inside + k] for k in (-1, 0, 1))
    left, right = np.minimum(left, middle + STEEPEST), np.minimum(right, middle + STEEPEST)
    bend = left - 2 * middle + right
    shift = np.where(bend > 0, 0.5 * (left - right) / np.where(bend > 0, bend, 1.0), 0.0)
    shift = np.where(best == inside, np.clip(shift, -1, 1), 0.0)
    place = np.where(best == inside, x[inside] + shift * (x[1] - x[0]), x[best])
    height = np.where(best == inside, middle - 0.25 * (left - right) * shift, losses[rows, best])
    return place, height
