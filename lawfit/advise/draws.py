"""Plausible worlds of a stored fit at one scale: where the optimum may lie, given everything that is not known.

Each world draws a choice of analysis (by its weight), coefficients from that choice's posterior (Student t: few scales
tell the scatter), the scale's own scatter around the law, and a valley shape. Plain numpy: a stored fit predicts in
milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WORLDS: Final = 2000
_SEED: Final = 20250304  # fixed: the same fit and target give the same answer, digit for digit
_LAW_TERMS: Final = 4


@dataclass(frozen=True, kw_only=True)
class Bends:
    """Draws of a law of the learning rate that saturates with the batch: the second form of an average at a batch."""

    share: NDArray[np.bool_]  # (worlds,) those in which it holds, and not the floor of the valley
    log_ceiling: Floats  # (worlds,) ln lr at very large batches, its miss at scales it did not see included
    log_noise: Floats  # (worlds,) ln of the batch at which the rate is half of that
    weight: float
    inflation: float  # of the draws of both forms around their centres
    centre: tuple[float, float]  # of log_ceiling and log_noise, no draw

    def log_lr(self, log_batch: float) -> Floats:
        """(worlds,) ln of the best learning rate at a batch."""
        return np.asarray(self.log_ceiling - np.logaddexp(0.0, self.log_noise - log_batch))

    def centre_log_lr(self, log_batch: float) -> float:
        return float(self.centre[0] - np.logaddexp(0.0, self.centre[1] - log_batch))


@dataclass(frozen=True, kw_only=True)
class Worlds:
    """Draws of the optimum and of the valley at one scale."""

    log_lr: Floats  # (worlds,)
    log_batch: Floats  # (worlds,) natural log of tokens per step
    valley: Floats  # (worlds, 9)
    centre_log_lr: float  # weighted mean over the choices, no draw
    centre_log_batch: float
    centre_valley: Floats  # (9,)
    prior_sd: tuple[float, float]  # of (ln lr*, ln batch*) by published laws alone
    posterior_sd: tuple[float, float]  # of the law's mean, scatter left out
    bends: Bends | None = None  # at a given batch half of the worlds may follow another form


def draw_worlds(model: Mapping[str, Any], params: float, tokens: float) -> Worlds:
    """Draws of (ln lr*, ln batch*, valley) at a scale from ``Fit.payload["model"]``."""
    rng = np.random.default_rng(_SEED)
    x = law_row(model, params, tokens)
    weights = np.array([member["weight"] for member in model["members"]])
    weights = weights / weights.sum()
    dof, inflation = float(model["dof"]), float(model["inflation"])
    # stratified: every choice gets its exact share of the worlds
    bounds = np.round(np.concatenate([[0.0], np.cumsum(weights)]) * WORLDS).astype(int)
    log_lr, log_batch = np.empty(WORLDS), np.empty(WORLDS)
    centres, variances = [], []
    for member, start, stop in zip(model["members"], bounds[:-1], bounds[1:], strict=True):
        law, cov = np.array(member["law"]), np.array(member["cov"])
        # mean and covariance of (ln lr*, ln batch*) at this scale
        rows = np.zeros((2, 2 * _LAW_TERMS))
        rows[0, :_LAW_TERMS] = rows[1, _LAW_TERMS:] = x
        centre = rows @ law
        spread = inflation**2 * (rows @ cov @ rows.T)
        centres.append(centre)
        variances.append(np.diag(spread) / inflation**2)  # like for like with the prior, which is not widened
        count = stop - start
        heavy = np.repeat(np.sqrt(dof / rng.chisquare(dof, (count + 1) // 2)), 2)[:count, None]
        total = _root(spread + inflation**2 * np.diag(member["scatter_var"]))
        drawn = centre + heavy * (_mirrored(rng, count, 2) @ total.T)
        log_lr[start:stop], log_batch[start:stop] = drawn[:, 0], drawn[:, 1]
    q = np.array(model["valley"]["q"])
    valley = q + _mirrored(rng, WORLDS, len(q)) @ _root(np.array(model["valley"]["cov"])).T
    centre = weights @ np.array(centres)
    between = weights @ (np.array(centres) - centre) ** 2
    posterior = np.sqrt(weights @ np.array(variances) + between)
    prior_cov = np.array(model["published_prior"]["cov"])
    prior = [float(np.sqrt(x @ prior_cov[at : at + _LAW_TERMS, at : at + _LAW_TERMS] @ x)) for at in (0, _LAW_TERMS)]
    return Worlds(
        log_lr=log_lr,
        log_batch=log_batch,
        valley=valley,
        centre_log_lr=float(centre[0]),
        centre_log_batch=float(centre[1]),
        centre_valley=q,
        prior_sd=(prior[0], prior[1]),
        posterior_sd=(float(posterior[0]), float(posterior[1])),
        bends=_draw_bends(model.get("lr_at_batch"), params, tokens),
    )


def _draw_bends(law: Mapping[str, Any] | None, params: float, tokens: float) -> Bends | None:
    """`estimate.lr_across_scales` at one scale: heavy-tailed, as few cells told its covariance."""
    if law is None:
        return None
    rng = np.random.default_rng(_SEED + 1)  # of its own, so that the other draws stay what they were
    n, d = np.log(params) - law["centre"][0], np.log(tokens) - law["centre"][1]
    rows = np.array([[1.0, n, d, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, d]])  # ln ceiling, ln noise batch
    centre = rows @ np.array(law["theta"]) + np.array([0.0, law["centre"][2]])
    spread = rows @ np.array(law["cov"]) @ rows.T
    dof = float(law["dof"])
    heavy = np.repeat(np.sqrt(dof / rng.chisquare(dof, WORLDS // 2)), 2)[:, None]
    drawn = centre + heavy * (_mirrored(rng, WORLDS, 2) @ _root(spread).T)
    own = law["miss_sd"] * _mirrored(rng, WORLDS, 1)[:, 0]
    # every other mirrored pair: an even share of each choice's worlds
    pair = np.arange(WORLDS) // 2
    share = np.floor((pair + 1) * law["weight"]) > np.floor(pair * law["weight"])
    return Bends(
        share=share,
        log_ceiling=drawn[:, 0] + own,
        log_noise=drawn[:, 1],
        weight=float(law["weight"]),
        inflation=float(law["inflation"]),
        centre=(float(centre[0]), float(centre[1])),
    )


def law_row(model: Mapping[str, Any], params: float, tokens: float) -> Floats:
    """The row (1, n, d, z^2) of `estimate.surface.law_design` at one scale."""
    n, d = np.log(params) - model["centre"][0], np.log(tokens) - model["centre"][1]
    return np.array([1.0, n, d, ((n + d) / 2) ** 2])


def _mirrored(rng: np.random.Generator, count: int, size: int) -> Floats:
    """Normal draws in pairs of opposite sign: their mean is exact, so a few hundred worlds place a minimum well."""
    half = rng.standard_normal(((count + 1) // 2, size))
    return np.stack([half, -half], axis=1).reshape(-1, size)[:count]


def _root(cov: Floats) -> Floats:
    """A square root of a covariance that may be singular to rounding."""
    value, vector = np.linalg.eigh((cov + cov.T) / 2)
    root: Floats = vector * np.sqrt(np.maximum(value, 0.0))
    return root
