"""What is known of the best learning rate and batch at any scale, as one Gaussian, and what runs would add to it.

The state is that of the joint law (`estimate.lr_batch.surface`): the coefficients of both laws and, for each size, how
far it lies off them. A scale's optimum is a row of it plus a deviation of the scale's own. Runs at a scale tell the
optimum there to some information; what that changes at the target is linear algebra, and takes no fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.lr_batch.borrowed import law_prior
from lawfit.estimate.lr_batch.ensemble import INFLATION
from lawfit.estimate.numerics.law_terms import law_design
from lawfit.estimate.numerics.spread import ANY_SHAPE, SCATTER_SD

Floats = NDArray[np.float64]

TERMS: Final = 5  # coefficients of one law, in the order of `PARTS`
PARTS: Final = ("level", "params", "tokens", "bend", "few_tokens")
SAME: Final = 0.02  # ln: sizes, or horizons, that close are one


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """A Gaussian over both laws and the deviations of sizes."""

    centre: tuple[float, float]  # ln params, ln tokens
    mean: Floats  # (dim,) the law of ln lr, that of ln batch, then two for each of `sizes`
    cov: Floats  # (dim, dim)
    sizes: tuple[float, ...]  # params
    size_var: Floats  # (2,) of a size nobody has run
    scatter_var: Floats  # (2,) of a scale beside its size
    inflation: float  # by what standard deviations are wider than the Gaussian says, where promises were checked

    def row(self, params: float, tokens: float) -> Floats:
        """(2, dim) what of the state makes the optimum of a scale; the size's own part where it is one of `sizes`."""
        x = law_design(np.array([params]), np.array([tokens]), self.centre)[0]
        found = np.zeros((2, len(self.cov)))
        found[0, :TERMS] = found[1, TERMS : 2 * TERMS] = x
        if (place := self.place(params)) is not None:
            at = 2 * TERMS + 2 * place
            found[0, at] = found[1, at + 1] = 1.0
        return found

    def place(self, params: float) -> int | None:
        """Which of `sizes` that is."""
        near = [k for k, size in enumerate(self.sizes) if abs(np.log(size / params)) < SAME]
        return near[0] if near else None

    def optimum(self, params: float, tokens: float) -> Floats:
        """(2,) ln lr and ln batch that are foretold."""
        return np.asarray(self.row(params, tokens) @ self.mean)

    def own_var(self, params: float) -> Floats:
        """(2, 2) of what no other size's runs tell of a scale."""
        return np.diag(self.scatter_var + (0 if self.place(params) is not None else self.size_var))

    def with_sizes(self, sizes: Sequence[float]) -> Knowledge:
        """With places for sizes that nobody has run."""
        more = tuple(size for size in sizes if self.place(size) is None)
        cov = np.zeros((len(self.cov) + 2 * len(more),) * 2)
        cov[: len(self.cov), : len(self.cov)] = self.cov
        own = np.arange(len(self.cov), len(cov))
        cov[own, own] = np.tile(self.size_var, len(more))
        mean = np.concatenate([self.mean, np.zeros(len(cov) - len(self.cov))])
        return replace(self, mean=mean, cov=cov, sizes=(*self.sizes, *more))

    def told(self, row: Floats, information: Floats) -> Knowledge:
        """After a measurement of ``row @ state`` with a precision (2, 2) that may be singular."""
        gain = self.cov @ row.T
        less = gain @ np.linalg.solve(np.eye(2) + information @ row @ gain, information) @ gain.T
        return replace(self, cov=self.cov - (less + less.T) / 2)

    def parts(self, params: float, tokens: float) -> dict[str, Floats]:
        """Part of the laws -> (2,) its variance at a scale, of ln lr and ln batch, the others held."""
        row = self.row(params, tokens)
        variance = np.diag(self.cov) * row**2
        found = {part: variance[:, [k, k + TERMS]].sum(axis=1) for k, part in enumerate(PARTS)}
        return {**found, "size": variance[:, 2 * TERMS :].sum(axis=1)}


def of_fit(model: Mapping[str, Any]) -> Knowledge:
    """What a fit of learning rate and batch knows: its choices averaged, what they disagree in counted as doubt.

    Parameters
    ----------
    model : ``Fit.payload["model"]``
    """
    weights = np.array([member["weight"] for member in model["members"]])
    weights = weights / weights.sum()
    states, covariances = zip(*map(_joint, model["members"]), strict=True)
    mean = weights @ np.array(states)
    apart = np.array(states) - mean
    cov = np.tensordot(weights, np.array(covariances), axes=1) + (apart.T * weights) @ apart
    scatter, size = (
        weights @ np.array([member[name] for member in model["members"]]) for name in ("scatter_var", "size_var")
    )
    return Knowledge(
        centre=(model["centre"][0], model["centre"][1]),
        mean=mean,
        cov=cov,
        sizes=tuple(model["sizes"]),
        size_var=size,
        scatter_var=scatter,
        inflation=float(model["inflation"]) * float(np.mean(model["calibration"])),
    )


def of_nothing(params: float, tokens: float, without: Sequence[str] = ()) -> Knowledge:
    """What published laws alone say, at a scale: the prior of a first sweep; laws `without` these ids."""
    prior = law_prior("published", (float(np.log(params)), float(np.log(tokens))), without)
    return Knowledge(
        centre=prior.centre,
        mean=prior.mean,
        cov=np.asarray(np.linalg.inv(prior.doubt), dtype=float),
        sizes=(),
        size_var=np.square(ANY_SHAPE.median) * np.exp(2 * ANY_SHAPE.log_sd**2),
        scatter_var=np.square(SCATTER_SD),
        inflation=INFLATION,
    )


def _joint(member: Mapping[str, Any]) -> tuple[Floats, Floats]:
    """Mean and covariance of laws and deviations of sizes, by one choice; sizes go together through the laws alone."""
    cov, cross = np.array(member["cov"]), np.array(member["sizes"]["cross"])  # (2 TERMS,) * 2, (sizes, 2 TERMS, 2)
    count = len(cross)
    beside = np.hstack(list(cross)) if count else np.zeros((len(cov), 0))
    sizes = beside.T @ np.linalg.solve(cov, beside)
    for k, own in enumerate(member["sizes"]["cov"]):
        sizes[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = own
    state = np.concatenate([member["law"], np.ravel(member["sizes"]["shift"])])
    return state, np.block([[cov, beside], [beside.T, sizes]])
