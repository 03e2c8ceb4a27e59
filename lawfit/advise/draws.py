"""Plausible worlds of a stored fit at one scale: where the optimum may lie, given everything that is not known.

Each world draws a choice of analysis (by its weight), coefficients from that choice's posterior (Student t: few sizes
tell the spread), the deviations of the target's size and of the scale itself from the law, and a valley shape. A size
that has runs brings the deviation that they show, a scale that has runs its own optimum. Plain numpy: a stored fit
predicts in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.members import SEED, WORLDS, Members, members_of, mirrored, root_of, valleys_at
from lawfit.estimate.numerics.law_terms import law_design
from lawfit.laws.lr_batch import BENDS, SATURATING

Floats = NDArray[np.float64]

SAME_SIZE: Final = 0.01  # of ln params: sizes of one shape differ by no more (a norm layer, an embedding counted)
SAME_HORIZON: Final = 0.02  # of ln tokens
NEAR: Final = 2.5  # factor: from the middle between neighbours of a grid in steps of 4, and a little more


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
    # of `best_lr_shift`, by ln batch: what was asked for is kept, also for the same worlds moved along ln lr
    shifts: dict[float, Floats] = field(default_factory=dict)


def draw_worlds(model: Mapping[str, Any], params: float, tokens: float) -> Worlds:
    """Draws of (ln lr*, ln batch*, valley) at a scale from ``Fit.payload["model"]``."""
    members = members_of(model)
    weights, chance = members.weights, members.chance
    x = law_row(model, params, tokens)
    known, place = known_of(model, params, tokens)
    # promises are checked on sizes without runs: what those ask for widens no other answer
    inflation = float(model["inflation"]) * (np.ones(2) if known else np.array(model["calibration"]))
    each, of_law, own = moments(members, x, known, place)
    turned = np.empty_like(chance.optimum)
    for root, some in zip(root_of(of_law + own), chance.of_member, strict=True):
        np.matmul(chance.optimum[some], root.T, out=turned[some])
    drawn = members.of_worlds(each) + inflation * chance.heavy * turned
    q, valley = valleys_at(members, tokens)
    centre = weights @ each
    apart = each - centre
    both = np.kron(np.eye(2), x)  # a row for the learning rate, one for the batch
    return Worlds(
        log_lr=drawn[:, 0].copy(),
        log_batch=drawn[:, 1].copy(),
        valley=valley,
        floor=members.floors,
        centre_log_lr=float(centre[0]),
        centre_log_batch=float(centre[1]),
        centre_valley=q,
        centre_floor=weights @ members.floor,
        prior_cov=both @ np.array(model["published_prior"]["cov"]) @ both.T,
        posterior_cov=np.tensordot(weights, of_law, axes=1) + (apart.T * weights) @ apart,
        known=known,
        bends=_draw_bends(model.get("lr_at_batch"), params, tokens),
    )


def moments(members: Members, x: Floats, known: str = "", place: int = -1) -> tuple[Floats, Floats, Floats]:
    """(members, 2) the optimum at a scale by each choice, (members, 2, 2) the covariance of what its law says, and that
    of the deviations from it.

    Parameters
    ----------
    x : row of `law_row`
    known, place : what of the target has runs, and where it stands among the fit's sizes or scales; left out: nothing
    """
    if known == "scale":
        at, cov = (found[place] for found in members.scale_optima)
        return at, cov, np.zeros_like(cov)
    rows = np.kron(np.eye(2), x)
    centre = (rows @ members.law[:, :, None])[:, :, 0]
    of_law, own = rows @ members.cov @ rows.T, _diagonal(members.scatter_var)
    if known == "size":
        shift, cross, cov = (found[place] for found in members.size_deviations)
        along = rows @ cross
        return centre + shift, of_law + along + along.swapaxes(1, 2) + cov, own
    return centre, of_law, own + _diagonal(members.size_var)


def _diagonal(values: Floats) -> Floats:
    """(rows, 2) -> (rows, 2, 2)"""
    return np.asarray(values[:, :, None] * np.eye(2))


def centres(model: Mapping[str, Any], params: float, tokens: float) -> Floats:
    """(members, 2) the optimum (ln lr*, ln batch*) by each choice."""
    return moments(members_of(model), law_row(model, params, tokens), *known_of(model, params, tokens))[0]


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
    rng = np.random.default_rng(SEED + 1)  # of its own, so that the other draws stay what they were
    n, d = np.log(params) - law["centre"][0], np.log(tokens) - law["centre"][1]
    rows = np.array([[1.0, n, d, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, d]])  # ln ceiling, ln noise batch
    centre = rows @ np.array(law["theta"]) + np.array([0.0, law["centre"][2]])
    spread = rows @ np.array(law["cov"]) @ rows.T
    dof = float(law["dof"])
    heavy = np.repeat(np.sqrt(dof / rng.chisquare(dof, WORLDS // 2)), 2)[:, None]
    drawn = centre + heavy * (mirrored(rng, WORLDS, 2) @ root_of(spread).T)
    own = law["miss_sd"] * mirrored(rng, WORLDS, 1)[:, 0]
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
