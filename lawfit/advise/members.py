"""The choices of analysis that a stored fit averages over, as arrays, and the chance that worlds are drawn with.

All of it follows from the fit alone, whatever the target: made once for each fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.lr_batch.valley import horizon_of, steepened_by
from lawfit.estimate.numerics.kept import once_for_each

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

WORLDS: Final = 2000
CHOICES: Final = ("window", "shape", "prior")
SEED: Final = 20250304  # fixed: the same fit and target give the same answer, digit for digit
_HORIZONS: Final = 16  # that valleys are kept of: beyond the runs all horizons have one


@dataclass(frozen=True, kw_only=True)
class Chance:
    """Standard draws, the same for every target."""

    of_member: tuple[slice, ...]  # the worlds of each choice: every one gets its exact share
    counts: NDArray[np.intp]  # (members,) of worlds
    heavy: Floats  # (worlds, 1) by how much the few sizes of its choice widen a world
    optimum: Floats  # (worlds, 2) standard normal
    valley: Floats  # (worlds, 9) the same


@dataclass(frozen=True, kw_only=True)
class SpreadPrior:
    """What one choice says under a prior on the spread of sizes."""

    name: str  # its scale, over that of the prior that is used
    law: Floats  # (terms of ln lr, then those of ln batch,)
    cov: Floats
    own: Floats  # (2, 2) of the deviations of a new size and its scale


@dataclass(frozen=True, kw_only=True, eq=False)
class Members:
    """A row for each choice."""

    stored: Mapping[str, Any]  # ``Fit.payload["model"]``
    stored_weights: Floats  # (members,) adding up to one but for rounding
    weights: Floats  # (members,) the same, rounded once more
    law: Floats  # (members, terms of ln lr, then those of ln batch)
    cov: Floats  # (members, the same, the same)
    scatter_var: Floats  # (members, 2) of a scale around its size
    size_var: Floats  # (members, 2) of a size around the law
    floor: Floats  # (members, len FLOOR_AT)

    @cached_property
    def scale_optima(self) -> tuple[Floats, Floats]:
        """(scales, members, 2) the optimum of each scale with runs, and (scales, members, 2, 2) its covariance."""
        return self._of_each("scales", "at"), self._of_each("scales", "cov")

    @cached_property
    def size_deviations(self) -> tuple[Floats, Floats, Floats]:
        """Of each size with runs, for each member: its deviation (2,), the law's covariance with it (all terms, 2), and
        its own (2, 2)."""
        return self._of_each("sizes", "shift"), self._of_each("sizes", "cross"), self._of_each("sizes", "cov")

    def _of_each(self, part: str, name: str) -> Floats:
        """What each member stores in a list, the list's axis first."""
        return np.array([member[part][name] for member in self.stored["members"]], dtype=float).swapaxes(0, 1)

    @cached_property
    def groups(self) -> Mapping[str, Sequence[tuple[Any, Bools]]]:
        """Each choice of the analyst -> its levels, and which (members,) took each."""
        choices = [member["choice"] for member in self.stored["members"]]
        levels = {name: sorted({choice[name] for choice in choices}) for name in CHOICES}
        return {
            name: [(level, np.array([choice[name] == level for choice in choices])) for level in found]
            for name, found in levels.items()
        }

    @cached_property
    def spread_priors(self) -> Sequence[SpreadPrior]:
        """The leading choice under narrower and wider priors on the spread of sizes."""
        return [
            SpreadPrior(
                name=f"{under['prior_scale']:g}",
                law=np.array(under["law"]),
                cov=np.array(under["cov"]),
                own=np.diag(np.add(under["size_var"], under["scatter_var"])),
            )
            for under in self.stored["spread_priors"]
        ]

    @cached_property
    def chance(self) -> Chance:
        rng = np.random.default_rng(SEED)
        bounds = np.round(np.concatenate([[0.0], np.cumsum(self.weights)]) * WORLDS).astype(int).tolist()
        heavy, optimum = np.empty((WORLDS, 1)), np.empty((WORLDS, 2))
        for member, start, stop in zip(self.stored["members"], bounds[:-1], bounds[1:], strict=True):
            freedom, count = float(member["freedom"]), stop - start
            pairs = np.sqrt((freedom - 2) / rng.chisquare(freedom, (count + 1) // 2))
            heavy[start:stop, 0] = np.repeat(pairs, 2)[:count]
            optimum[start:stop] = mirrored(rng, count, 2)
        return Chance(
            of_member=tuple(map(slice, bounds[:-1], bounds[1:])),
            counts=np.diff(bounds),
            heavy=heavy,
            optimum=optimum,
            valley=mirrored(rng, WORLDS, len(self.stored["valley"]["q"])),
        )

    @cached_property
    def floors(self) -> Floats:
        """(worlds, len FLOOR_AT) `floor` of each world's choice."""
        return self.of_worlds(self.floor)

    def of_worlds(self, values: Floats) -> Floats:
        """(worlds, ...) of (members, ...)"""
        return np.repeat(values, self.chance.counts, axis=0)


@once_for_each
def members_of(model: Mapping[str, Any]) -> Members:
    """The choices of ``Fit.payload["model"]``."""
    stored = model["members"]
    weights = np.array([member["weight"] for member in stored])
    return Members(
        stored=model,
        stored_weights=weights,
        weights=weights / weights.sum(),
        law=np.array([member["law"] for member in stored]),
        cov=np.array([member["cov"] for member in stored]),
        scatter_var=np.array([member["scatter_var"] for member in stored]),
        size_var=np.array([member["size_var"] for member in stored]),
        floor=np.array([member["floor"] for member in stored]),
    )


def valleys_at(members: Members, tokens: float) -> tuple[Floats, Floats]:
    """((9,), (worlds, 9)) coefficients of the valley at a horizon: in the middle, and of each world."""
    return _valleys(members, horizon_of(members.stored["valley"], tokens))


@lru_cache(maxsize=_HORIZONS)
def _valleys(members: Members, horizon: float) -> tuple[Floats, Floats]:
    q, cov = steepened_by(members.stored["valley"], horizon)
    valley = q + members.chance.valley @ root_of(cov).T
    return q, np.ascontiguousarray(valley.T).T  # each coefficient in one piece, as the worlds are gone through


def mirrored(rng: np.random.Generator, count: int, size: int) -> Floats:
    """Normal draws in pairs of opposite sign: their mean is exact, so a few hundred worlds place a minimum well."""
    half = rng.standard_normal(((count + 1) // 2, size))
    return np.stack([half, -half], axis=1).reshape(-1, size)[:count]


def root_of(cov: Floats) -> Floats:
    """(..., n, n) the symmetric square roots of covariances that may be singular to rounding.

    That one is unique and moves little with the covariance; eigenvectors alone have the signs that a processor gives.
    """
    value, vector = np.linalg.eigh((cov + cov.swapaxes(-1, -2)) / 2)
    return np.asarray((vector * np.sqrt(np.maximum(value, 0.0))[..., None, :]) @ vector.swapaxes(-1, -2))
