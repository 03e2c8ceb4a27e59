"""How far from their scale's optimum runs were tried, and from which learning rate on most of them diverged.

Inside, the valley and its misfit say what a setting costs; beyond, no run shows it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lawfit.estimate.lr_batch.surface import SurfaceFit
from lawfit.estimate.lr_batch.valley import best_lr_shift
from lawfit.estimate.observe.observations import Observations


def tried(observed: Observations, fit: SurfaceFit) -> dict[str, Any]:
    """Ends of what finished runs tried, in natural logs from their own scale's optimum.

    Parameters
    ----------
    fit : of the shape that prices mistakes (three exponentials), to these observations

    Returns
    -------
    dict
        ``log_lr`` and ``log_batch``: lowest and highest, the learning rate over the best one at its batch;
        ``diverges``: such a ln of the learning rate, from which on at least half of the runs diverged; None where none
        is like that.
    """
    a, b = fit.optima(observed).T

    def over_best(cell: Any, log_lr: Any, log_batch: Any) -> tuple[Any, Any]:
        v = log_batch - b[cell]
        return log_lr - a[cell] - best_lr_shift(v, fit.shape), v

    u, v = over_best(observed.cell, observed.log_lr, observed.log_batch)
    gone, _ = over_best(observed.diverged_cell, observed.diverged_log_lr, observed.diverged_log_batch)
    every = np.sort(gone)
    above = [float(at) for at in every if 2 * (gone >= at).sum() >= (gone >= at).sum() + (u >= at).sum()]
    return {
        "log_lr": [float(u.min()), float(u.max())],
        "log_batch": [float(v.min()), float(v.max())],
        "diverges": min(above, default=None),
    }
