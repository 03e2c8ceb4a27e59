"""What is borrowed from published laws: the prior on where the optimum lies and how it moves with scale.

With much evidence of one's own the borrowed part fades (and is widened threefold on top, and the backtest chooses);
with a single learning-rate sweep it carries the exponents, and the runs anchor the level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import UnknownLaw
from lawfit.estimate.surface import N_LAW, LawPrior
from lawfit.laws.priors import exponent_prior
from lawfit.laws.published import published_laws

Floats = NDArray[np.float64]

CURVATURE_SD: Final = 0.015  # exponents drift by about .1 over a factor 400 in scale (laws.md, section 12); per nat^2
LEVEL_SD: Final = 0.6  # recipes differ by a factor of two in the best learning rate, at the least
OUTSIDE_SD: Final = 0.5  # ln units per decade beyond a law's range
OWN_WIDENING: Final = 3.0
PRIOR_FORMS: Final = ("published", "own", "tokens_only")


@dataclass(frozen=True, kw_only=True)
class Level:
    """Where published laws put the optimum at one scale: centre and spread of the logs."""

    log_lr: float
    log_lr_sd: float
    log_batch: float
    log_batch_sd: float
    laws: tuple[str, ...]


def published_level(params: float, tokens: float, without: Sequence[str] = ()) -> Level:
    """Weighted median over sources of the verified laws' answers at a scale, and their spread.

    A law counts less the further the scale lies outside the range it was measured on: its answer there carries an
    error of `OUTSIDE_SD` per decade beyond the spread between recipes, `LEVEL_SD`. Versions of one law are one source.
    """
    by_source: dict[str, dict[str, list[tuple[float, float]]]] = {"lr": {}, "batch_tokens": {}}
    used: list[str] = []
    for law_id, law in published_laws().items():
        if law_id in without or not law.verified:
            continue
        said = law.predict(params, tokens)
        beyond = sum(float(decades) for decades in law.outside_range(params=params, tokens=tokens).values())
        for target, value in (("lr", said.lr), ("batch_tokens", said.batch_tokens)):
            if value is not None and np.isfinite(value) and value > 0:
                weight = 1 / (LEVEL_SD**2 + (OUTSIDE_SD * beyond) ** 2)
                by_source[target].setdefault(law.cite, []).append((float(np.log(value)), weight))
                used.append(law_id)
    centre, spread = {}, {}
    for target, sources in by_source.items():
        if not sources:
            raise UnknownLaw(f"no verified published law is left that gives {target}")
        answers = np.array([np.mean([log for log, _ in said], axis=0) for said in sources.values()])
        weights = np.array([np.mean([weight for _, weight in said]) for said in sources.values()])
        centre[target] = _weighted_median(answers, weights)
        spread[target] = max(LEVEL_SD, 1.4826 * _weighted_median(np.abs(answers - centre[target]), weights))
    return Level(
        log_lr=centre["lr"],
        log_lr_sd=spread["lr"],
        log_batch=centre["batch_tokens"],
        log_batch_sd=spread["batch_tokens"],
        laws=tuple(dict.fromkeys(used)),
    )


def law_prior(form: str, centre: tuple[float, float], without: Sequence[str] = ()) -> LawPrior:
    """Prior on the eight law coefficients.

    Parameters
    ----------
    form : {"published", "own", "tokens_only"}
        Published exponents with the spread between laws; the same three times as wide; the latter with a batch law
        that does not depend on params.
    centre : (ln params, ln tokens)
    without : ids of laws whose evidence must not enter
    """
    if form not in PRIOR_FORMS:
        raise ValueError(f"no prior form '{form}'; there are {', '.join(PRIOR_FORMS)}")
    level = published_level(float(np.exp(centre[0])), float(np.exp(centre[1])), without)
    lr = exponent_prior("lr_joint", without=without)
    batch = exponent_prior("batch", without=without)
    widening = 1.0 if form == "published" else OWN_WIDENING
    mean = np.zeros(N_LAW)
    precision = np.zeros((N_LAW, N_LAW))
    for at, exponents, centre_log, sd in (
        (0, lr, level.log_lr, level.log_lr_sd),
        (4, batch, level.log_batch, level.log_batch_sd),
    ):
        mean[at], mean[at + 1 : at + 3] = centre_log, exponents.mean
        precision[at, at] = 1 / (widening * sd) ** 2
        precision[at + 1 : at + 3, at + 1 : at + 3] = np.linalg.inv(exponents.cov) / widening**2
        precision[at + 3, at + 3] = 1 / CURVATURE_SD**2
    if form == "tokens_only":
        mean[5] = 0.0
        precision[5, :] = precision[:, 5] = 0.0
        precision[5, 5] = 1 / 0.02**2
    return LawPrior(mean=mean, precision=precision, centre=centre)


def _weighted_median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values)
    share = np.cumsum(weights[order]) - weights[order] / 2
    return float(np.interp(weights.sum() / 2, share, values[order]))
