"""How far scales and sizes lie from their law: the variances of the deviations, averaged over and not plugged in.

Few sizes tell the spread of sizes badly, and the likeliest value of a spread that few sizes tell is often nought: four
sizes that happen to lie on one line say little of the fifth. So spreads get priors that few sizes cannot silence and
are integrated over on a grid by the marginal likelihood of the runs, for learning rate and batch in turn. Answers are
averages over `DRAWS` plausible pairs of spreads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.numerics.elimination import Variances

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SizePrior:
    """Log-normal prior on the standard deviation of sizes, in ln lr and ln batch."""

    median: tuple[float, float]
    log_sd: float


# Sizes of other shapes than our sweep's lie 0.14 to 0.17 (lr) off its law and 0.2 or more off one through themselves,
# 0.08 to 0.35 in batch (data/README.md, "Other shapes"); those of Marin's optimizers 0.11 to 0.16 (lr), of three 0.35
# to 0.43 (arXiv:2509.02046).
ANY_SHAPE: Final = SizePrior(median=(0.15, 0.15), log_sd=0.5)
# The sweep's own six, of one family: 0.02 to 0.06, and 0.11 in its narrowest window. Which of the two a table is, its
# columns tell where they have the shapes.
ONE_FAMILY: Final = SizePrior(median=(0.05, 0.05), log_sd=0.8)
SCATTER_SD: Final = (0.1, 0.16)  # of half-normal priors on that of scales beside their size
SIZE_GRID: Final = np.geomspace(0.012, 0.9, 12)
SCATTER_GRID: Final = np.geomspace(0.012, 0.4, 6)
# Valleys of two scales are alike and not the same; by how much, in units of `Shape.apart_sd`. Of half-normal priors
# with 0.1 and 0.2 (and none) the first foretells our own sweep best.
VALLEY_GRID: Final = (0.01, 0.04, 0.1, 0.2, 0.4, 0.8)
VALLEY_SD: Final = 0.1
DRAWS: Final = 9  # of the spreads, in equal steps of probability
START: Final = Variances(scatter=np.array([0.05, 0.08]) ** 2, size=np.array([0.1, 0.1]) ** 2, valley=0.01)
PRIOR_SCALES: Final = (0.5, 1.0, 2.0)  # of the prior on the spread of sizes, for the answer to be shown under each
_ORDER: Final = (3, 7, 1, 5, 8, 0, 6, 2, 4)  # which batch draw goes with which draw of the learning rate: no pattern
MOST_FREEDOM: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Plausible variances of the deviations."""

    draws: tuple[Variances, ...]  # equally likely

    @property
    def mean(self) -> Variances:
        return Variances(
            scatter=np.mean([draw.scatter for draw in self.draws], axis=0),
            size=np.mean([draw.size for draw in self.draws], axis=0),
            valley=self.draws[0].valley,
        )

    def freedom(self) -> float:
        """Degrees of freedom of a Student t as heavy-tailed as a normal whose variance is one of the draws."""
        total = np.array([draw.size + draw.scatter for draw in self.draws])
        relative = float(np.max(total.var(axis=0) / total.mean(axis=0) ** 2))  # 2 / (freedom - 4)
        return float(min(4.0 + 2.0 / max(relative, 1e-9), MOST_FREEDOM))


def weigh_spreads(
    log_marginals: Callable[[Floats, Floats], Floats],
    start: Variances,
    size_prior: SizePrior,
    *,
    prior_scale: float = 1.0,
) -> Spread:
    """The posterior of the variances, one axis at a time with the other's at its mean.

    Parameters
    ----------
    log_marginals : `elimination.log_marginals` at one point, of variances of scales (s, 2) and of sizes (m, 2)
    start : variances of the axis that is not looked at, and that of valleys, which is held
    size_prior : `ANY_SHAPE` or `ONE_FAMILY`
    prior_scale : factor on its median
    """
    mean = Variances(scatter=start.scatter.copy(), size=start.size.copy(), valley=start.valley)
    log_size_prior = [
        -0.5 * (np.log(SIZE_GRID / (prior_scale * median)) / size_prior.log_sd) ** 2 for median in size_prior.median
    ]
    log_scatter_prior = np.array([_half_normal(SCATTER_GRID, sd) for sd in SCATTER_SD])
    chosen: list[tuple[Floats, Floats]] = []
    for axis in (0, 1):
        size_vars = np.tile(mean.size, (len(SIZE_GRID), 1))
        size_vars[:, axis] = SIZE_GRID**2
        scatter_vars = np.tile(mean.scatter, (len(SCATTER_GRID), 1))
        scatter_vars[:, axis] = SCATTER_GRID**2
        log_weight = log_marginals(scatter_vars, size_vars).T
        log_weight += log_size_prior[axis][:, None] + log_scatter_prior[axis]
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        # in equal steps of probability, ordered by the spread of sizes
        places = np.searchsorted(np.cumsum(weight.ravel()), (np.arange(DRAWS) + 0.5) / DRAWS)
        i, j = np.unravel_index(np.minimum(places, weight.size - 1), weight.shape)
        chosen.append((SIZE_GRID[i] ** 2, SCATTER_GRID[j] ** 2))
        mean.size[axis], mean.scatter[axis] = chosen[axis][0].mean(), chosen[axis][1].mean()
    order = np.array(_ORDER)
    draws = tuple(
        Variances(
            valley=start.valley,
            scatter=np.array([chosen[0][1][k], chosen[1][1][order[k]]]),
            size=np.array([chosen[0][0][k], chosen[1][0][order[k]]]),
        )
        for k in range(DRAWS)
    )
    return Spread(draws=draws)


def weigh_valleys(log_density: Callable[[float], float]) -> float:
    """Posterior mean of the variance of the valleys of scales, by the log density of the runs for such a variance."""
    grid = np.array(VALLEY_GRID)
    logs = np.array([log_density(sd**2) for sd in VALLEY_GRID]) + _half_normal(grid, VALLEY_SD)
    weight = np.exp(logs - logs.max())
    return float(weight @ grid**2 / weight.sum())


def _half_normal(grid: Floats, scale: float) -> Floats:
    """ln prior mass of each point of a grid: density times its share of the axis."""
    return np.asarray(-0.5 * (grid / scale) ** 2 + np.log(grid * np.gradient(np.log(grid))))
