"""Plausible worlds of a stored fit at one scale: where the optimum may lie, given everything that is not known.

Each world draws a choice of analysis (by its weight), coefficients from that choice's posterior (Student t: few sizes
tell the spread), the deviations of the target's size and of the scale itself from the law, and a valley shape. A size
that has runs brings the deviation that they show, a scale that has runs its own optimum. Plain numpy: a stored fit
predicts in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.lr_batch.valley import FLOOR_AT, steepened
from lawfit.estimate.numerics.law_terms import law_design
from lawfit.laws.lr_batch import BENDS, SATURATING

Floats = NDArray[np.float64]

WORLDS: Final = 2000
SAME_SIZE: Final = 0.01  # of ln params: sizes of one shape differ by no more (a norm layer, an embedding counted)
SAME_HORIZON: Final = 0.02  # of ln tokens
NEAR: Final = 2.5  # factor: from the middle between neighbours of a grid in steps of 4, and a little more
_SEED: Final = 20250304  # fixed: the same fit and target give the same answer, digit for digit


@dataclass(frozen=True, kw_only=True)
class Bends:
    """Draws of a law of the learning rate along the batch: a second form away from the best batch."""

    law: str  # of `laws.lr_batch.BENDS`
    log_ceiling: Floats  # (worlds,) largest ln lr of any batch, its miss at scales it did not see included
    log_noise: Floats  # (worlds,) ln of the noise batch
    inflation: float  # of the draws of both forms around their centres
    centre: tuple[float, float]  # of log_ceiling and log_noise, no draw

    def log_lr(self, log_batch: float) -> Floats:
        """(worlds,) ln of the best learning rate at a batch."""
        return np.asarray(self.log_ceiling + BENDS[self.law].log(self.log_noise - log_batch))

    def centre_log_lr(self, log_batch: float) -> float:
        return float(self.centre[0] + BENDS[self.law].log(np.array(self.centre[1] - log_batch)))


@dataclass(frozen=True, kw_only=True, eq=False)  # two are the same where they are one: what is asked of it is kept
class Worlds:
    """Draws of the optimum and of the valley at one scale."""

    log_lr: Floats  # (worlds,)
    log_batch: Floats  # (worlds,) natural log of tokens per step
    valley: Floats  # (worlds, 9)
    # (worlds, len FLOOR_AT) how ln lr follows ln batch near the best one, by each world's own analysis; None: as the
    # valley does (worlds that were moved to one batch)
    floor: Floats | None
    centre_log_lr: float  # weighted mean over the choices, no draw
    centre_log_batch: float
    centre_valley: Floats  # (9,)
    centre_floor: Floats | None  # (len FLOOR_AT,)
    prior_cov: Floats  # (2, 2) of (ln lr*, ln batch*) by published laws alone
    posterior_cov: Floats  # (2, 2) of the law's mean, deviations of a new size and scale left out
    known: str  # "scale", "size" or "": what of the target has runs
    bends: Bends | None = None


def draw_worlds(model: Mapping[str, Any], params: float, tokens: float) -> Worlds:
    """Draws of (ln lr*, ln batch*, valley) at a scale from ``Fit.payload["model"]``."""
    rng = np.random.default_rng(_SEED)
    x = law_row(model, params, tokens)
    weights = np.array([member["weight"] for member in model["members"]])
    weights = weights / weights.sum()
    known, place = known_of(model, params, tokens)
    # promises are checked on sizes without runs: what those ask for widens no other answer
    inflation = float(model["inflation"]) * (np.ones(2) if known else np.array(model["calibration"]))
    # stratified: every choice gets its exact share of the worlds
    bounds = np.round(np.concatenate([[0.0], np.cumsum(weights)]) * WORLDS).astype(int)
    log_lr, log_batch = np.empty(WORLDS), np.empty(WORLDS)
    floor = np.empty((WORLDS, len(FLOOR_AT)))
    centres, covariances = [], []
    for member, start, stop in zip(model["members"], bounds[:-1], bounds[1:], strict=True):
        centre, of_law, own = moments(member, x, known, place)
        centres.append(centre)
        covariances.append(of_law)
        count = stop - start
        freedom = float(member["freedom"])
        heavy = np.repeat(np.sqrt((freedom - 2) / rng.chisquare(freedom, (count + 1) // 2)), 2)[:count, None]
        drawn = centre + inflation * heavy * (_mirrored(rng, count, 2) @ _root(of_law + own).T)
        log_lr[start:stop], log_batch[start:stop] = drawn[:, 0], drawn[:, 1]
        floor[start:stop] = member["floor"]
    q, cov = steepened(model["valley"], tokens)
    valley = q + _mirrored(rng, WORLDS, len(q)) @ _root(cov).T
    centre = weights @ np.array(centres)
    apart = np.array(centres) - centre
    both = np.kron(np.eye(2), x)  # a row for the learning rate, one for the batch
    return Worlds(
        log_lr=log_lr,
        log_batch=log_batch,
        valley=valley,
        floor=floor,
        centre_log_lr=float(centre[0]),
        centre_log_batch=float(centre[1]),
        centre_valley=q,
        centre_floor=weights @ np.array([member["floor"] for member in model["members"]]),
        prior_cov=both @ np.array(model["published_prior"]["cov"]) @ both.T,
        posterior_cov=np.tensordot(weights, np.array(covariances), axes=1) + (apart.T * weights) @ apart,
        known=known,
        bends=_draw_bends(model.get("lr_at_batch"), params, tokens),
    )


def moments(member: Mapping[str, Any], x: Floats, known: str, place: int) -> tuple[Floats, Floats, Floats]:
    """(centre (2,), covariance of what the law says, covariance of the deviations from it) of one choice at a scale.

    Parameters
    ----------
    x : row of `law_row`
    known, place : what of the target has runs, and where it stands among the fit's sizes or scales
    """
    if known == "scale":
        return np.array(member["scales"]["at"][place]), np.array(member["scales"]["cov"][place]), np.zeros((2, 2))
    law, cov, half = np.array(member["law"]), np.array(member["cov"]), len(x)
    rows = np.zeros((2, 2 * half))
    rows[0, :half] = rows[1, half:] = x
    centre, of_law, own = rows @ law, rows @ cov @ rows.T, np.diag(member["scatter_var"])
    if known == "size":
        sizes = member["sizes"]
        cross = rows @ np.array(sizes["cross"][place])
        return centre + sizes["shift"][place], of_law + cross + cross.T + np.array(sizes["cov"][place]), own
    return centre, of_law, own + np.diag(member["size_var"])


def centres(model: Mapping[str, Any], params: float, tokens: float) -> Floats:
    """(members, 2) the optimum (ln lr*, ln batch*) by each choice."""
    x = law_row(model, params, tokens)
    known, place = known_of(model, params, tokens)
    return np.array([moments(member, x, known, place)[0] for member in model["members"]])


def known_of(model: Mapping[str, Any], params: float, tokens: float) -> tuple[str, int]:
    """Whether the target is a scale of the runs, or of the size of some, and which.

    Where sizes of several shapes are that close, the target is a new one: nothing says which shape it has.
    """
    near = np.flatnonzero(np.abs(np.log(np.array(model["sizes"])) - np.log(params)) < SAME_SIZE)
    if len(near) != 1:
        return "", -1
    scales = np.log(np.array(model["scales"]))
    apart = np.abs(scales - np.log([params, tokens]))
    here = np.flatnonzero((apart[:, 0] < SAME_SIZE) & (apart[:, 1] < SAME_HORIZON))
    if len(here):
        return "scale", int(here[np.argmin(apart[here].sum(axis=1))])
    return "size", int(near[0])


def runs_near(model: Mapping[str, Any], params: float, tokens: float) -> bool:
    """Whether a scale with runs lies within a factor `NEAR` in parameters and in tokens at once.

    The ranges of each alone also hold a large model on few tokens where only small ones saw few.
    """
    away = np.abs(np.log(np.array(model["scales"])) - np.log([params, tokens]))
    return bool((away <= np.log(NEAR)).all(axis=1).any())


def _draw_bends(law: Mapping[str, Any] | None, params: float, tokens: float) -> Bends | None:
    """`lr_batch.across_scales` at one scale: heavy-tailed, as few cells told its covariance."""
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
    return Bends(
        law=law.get("law", SATURATING),  # fits of before 2026-11-29 knew no other
        log_ceiling=drawn[:, 0] + own,
        log_noise=drawn[:, 1],
        inflation=float(law["inflation"]),
        centre=(float(centre[0]), float(centre[1])),
    )


def law_row(model: Mapping[str, Any], params: float, tokens: float) -> Floats:
    """The row of `estimate.lr_batch.surface.law_design` at one scale."""
    log_params, log_tokens = model["centre"]
    return np.asarray(law_design(np.array([params]), np.array([tokens]), (log_params, log_tokens))[0])


def _mirrored(rng: np.random.Generator, count: int, size: int) -> Floats:
    """Normal draws in pairs of opposite sign: their mean is exact, so a few hundred worlds place a minimum well."""
    half = rng.standard_normal(((count + 1) // 2, size))
    return np.stack([half, -half], axis=1).reshape(-1, size)[:count]


def _root(cov: Floats) -> Floats:
    """The symmetric square root of a covariance that may be singular to rounding.

    That one is unique and moves little with the covariance; eigenvectors alone have the signs that a processor gives.
    """
    value, vector = np.linalg.eigh((cov + cov.T) / 2)
    root: Floats = (vector * np.sqrt(np.maximum(value, 0.0))) @ vector.T
    return root
