"""How far off the valley is where it costs much: losses of settings that lie well away from the optimum.

One shape for all scales follows what small mistakes cost to within the noise of a run. Far from the optimum it is off
by a share of the cost instead: steepness differs from scale to scale, and runs beyond the fitted window are foretold by
a shape that never saw such losses. Whoever says a loss there needs that share.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lawfit.estimate.lr_batch.surface import SurfaceFit
from lawfit.estimate.lr_batch.valley import excess
from lawfit.estimate.numerics.quantiles import normal_quantile
from lawfit.estimate.observe.observations import Observations

FAR: Final = 3.0  # times the noise of a run: below that, noise hides what the shape misses
FEWEST: Final = 10  # far runs that can tell the share
UNTOLD: Final = 0.2  # the share where they cannot; the public grids of Step Law show 0.16, our own noisy sweep 0.7
LEVEL: Final = 0.9  # at which the share is read off: intervals are asked at about this level


def valley_misfit(observed: Observations, fit: SurfaceFit) -> float:
    """Sd of ln of what a far setting really costs over what the valley says.

    Over every finished run whose cost is more than `FAR` times the noise, each measured from its own scale's optimum
    and floor: with this share, and the noise of a run beside it, normal intervals of `LEVEL` hold so many of them. Not
    a plain sd: a few runs next to divergence cost many times what any valley says.

    Parameters
    ----------
    fit : of the shape that prices mistakes (three exponentials), to these observations
    """
    a, b = fit.optima(observed).T
    u, v = observed.log_lr - a[observed.cell], observed.log_batch - b[observed.cell]
    said = fit.steep(observed)[observed.cell] * excess(u, v, fit.shape)
    noise = fit.noise_of_cells[observed.cell]
    far = said > FAR * noise
    if far.sum() < FEWEST:
        return UNTOLD
    miss = (observed.log_loss - fit.floor[observed.cell] - said) / normal_quantile(0.5 + LEVEL / 2)
    share = np.sqrt(np.maximum(miss**2 - noise**2, 0.0)) / said
    return float(np.quantile(share[far], LEVEL))
