"""The convex valley of a stored fit, evaluated for many plausible worlds at once (plain numpy, no fitting).

One world is one draw: an optimum (a, b) in (ln lr, ln batch) and the nine coefficients of a sum of three exponentials
(`estimate.shapes.Exponentials`). Beyond e^`LINEAR_BEYOND` a term goes on as a straight line, so it stays convex.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LINEAR_BEYOND: Final = 4.0
_NEWTON_STEPS: Final = 40


def excess(u: Floats, v: Floats, q: Floats) -> Floats:
    """Excess of log loss at displacement (u, v); q is (..., 9), broadcast against u and v."""
    total = np.zeros(np.broadcast_shapes(np.shape(u), np.shape(v), q.shape[:-1]))
    for k in range(3):
        amplitude, e = np.exp(q[..., 3 * k]), q[..., 3 * k + 1] * u + q[..., 3 * k + 2] * v
        near = np.minimum(e, LINEAR_BEYOND)
        grown = np.expm1(near)
        total = total + amplitude * (grown - near + grown * (e - near))
    return total


def best_lr_shift(v: Floats, q: Floats) -> Floats:
    """``ln lr`` that is best at ``v = ln batch - b``, relative to a. Newton on a convex function, with halved steps."""
    v, shape = np.asarray(v, dtype=float), np.broadcast_shapes(np.shape(v), q.shape[:-1])
    u = np.zeros(shape)
    for _ in range(_NEWTON_STEPS):
        slope, bend = np.zeros(shape), np.full(shape, 1e-9)
        for k in range(3):
            amplitude, p = np.exp(q[..., 3 * k]), q[..., 3 * k + 1]
            e = np.minimum(p * u + q[..., 3 * k + 2] * v, LINEAR_BEYOND)
            slope = slope + amplitude * p * np.expm1(e)
            bend = bend + amplitude * p**2 * np.exp(e)
        step = np.clip(-slope / bend, -0.5, 0.5)
        u = u + step
        if float(np.max(np.abs(step), initial=0.0)) < 1e-6:
            break
    return u
