"""What is borrowed from published laws: the prior on where the optimum lies and how it moves with scale.

With much evidence of one's own the borrowed part fades (it is offered half as wide again too, and cells left out
choose); with a single learning-rate sweep it carries the exponents, and the runs anchor the level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.numerics.elimination import LawPrior
from lawfit.estimate.numerics.law_terms import N_LAW, TERMS
from lawfit.findings import Finding, Found, finding
from lawfit.laws.lenders import lenders
from lawfit.laws.priors import exponent_prior, level_prior

Floats = NDArray[np.float64]

CURVATURE_SD: Final = 0.02  # per nat^2: published exponents drift by .1 to .3 over a factor of 100 in scale
OWN_WIDENING: Final = 1.5  # of what is lent, where cells left out prefer it: 1 to 3 do about as well on our own sweep
FIXED_SD: Final = 0.02  # of an exponent that is taken to be zero
BENT_SD: Final = 0.03  # where the laws are let bend
STRAIGHT_SD: Final = 0.003  # curvature of a law that is taken to be straight
# Of ln lr and ln batch per nat of tokens per parameter below `FEW_TOKENS_PER_PARAM`. Our own runs on 1.6 to 10 tokens
# per parameter say -0.62 +- 0.19 and -0.35 +- 0.15 (data/README.md, "Few tokens per parameter"). How far studies differ
# one study cannot say, so half of it is expected and as much doubted.
FEW_MEAN: Final = (-0.3, -0.2)
FEW_SD: Final = (0.3, 0.25)
PRIOR_FORMS: Final = ("published", "own", "tokens_only", "bent")


def law_prior(
    form: str,
    centre: tuple[float, float],
    without: Sequence[str] = (),
    conflict: tuple[float, float] = (0.0, 0.0),
) -> LawPrior:
    """Prior on the coefficients of both laws.

    Parameters
    ----------
    form : {"published", "own", "tokens_only", "bent"}
        Published level and exponents with the spread between laws; the same half as wide again; the latter with a
        batch law that does not depend on params; or with laws that may bend with compute. The first three estimate
        laws that are straight but for few tokens per parameter, and their covariance still carries the doubt.
    centre : (ln params, ln tokens)
    without : ids of laws whose evidence must not enter
    conflict : how far (ln lr, ln batch) the runs themselves lie from the published level
        The level is lent with that much more doubt, twice over: runs far from where published laws would be set their
        own level, and do not have to call the distance a deviation of their sizes.
    """
    if form not in PRIOR_FORMS:
        raise ValueError(f"no prior form '{form}'; there are {', '.join(PRIOR_FORMS)}")
    params, tokens = float(np.exp(centre[0])), float(np.exp(centre[1]))
    widening = 1.0 if form == "published" else OWN_WIDENING
    mean = np.zeros(N_LAW)
    precision = np.zeros((N_LAW, N_LAW))
    for axis, (exponents_of, level_of) in enumerate((("lr_joint", "lr"), ("batch", "batch_tokens"))):
        at, apart = axis * TERMS, conflict[axis]
        exponents = exponent_prior(exponents_of, without=without)
        level = level_prior(level_of, params, tokens, without=without)
        mean[at], mean[at + 1 : at + 3] = level.log_mean, exponents.mean
        precision[at, at] = 1 / ((widening * level.log_sd) ** 2 + (2 * apart) ** 2)
        precision[at + 1 : at + 3, at + 1 : at + 3] = np.linalg.inv(exponents.cov) / widening**2
        precision[at + 3, at + 3] = 1 / (BENT_SD if form == "bent" else STRAIGHT_SD) ** 2
        mean[at + 4], precision[at + 4, at + 4] = FEW_MEAN[axis], 1 / FEW_SD[axis] ** 2
    if form == "tokens_only":
        at = TERMS + 1
        mean[at] = 0.0
        precision[at, :] = precision[:, at] = 0.0
        precision[at, at] = 1 / FIXED_SD**2
    doubt = precision.copy()
    for at in (0, TERMS):
        doubt[at + 3, at + 3] = 1 / (BENT_SD if form == "bent" else CURVATURE_SD) ** 2
    return LawPrior(mean=mean, precision=precision, doubt=doubt, centre=centre)


_EXPONENTS_OF: Final = {"lr": "lr_joint", "batch_tokens": "batch"}


def borrowed(without: Sequence[str] = ()) -> list[Found]:
    """Where borrowed exponents and levels come from; or that nobody lends, and what stands instead."""
    said: list[Found] = []
    for quantity, of in _EXPONENTS_OF.items():
        prior = exponent_prior(of, without=without)
        voters = [law.id for law in lenders(quantity, without)]
        exponents = [
            finding("lr_batch.exponent", input=name, value=value, sd=sd)
            for name, value, sd in zip(prior.inputs, prior.mean, prior.sd, strict=True)
        ]
        said += [
            finding("lr_batch.exponents_lent", quantity=quantity, exponents=exponents, laws=prior.laws)
            if prior.laws
            else finding("lr_batch.exponents_vague", quantity=quantity, exponents=exponents),
            finding("lr_batch.level_lent", quantity=quantity, laws=voters)
            if voters
            else finding("lr_batch.level_own", quantity=quantity),
        ]
    return said


def beside_the_runs(without: Sequence[str] = ()) -> Finding:
    """What the runs leave open about how the optimum moves, in words that follow "it": who lends, or a vague prior."""
    lent = {quantity: bool(lenders(of, without)) for quantity, of in _EXPONENTS_OF.items()}
    if all(lent.values()):
        return finding("lr_batch.rest_lent")
    if not any(lent.values()):
        return finding("lr_batch.rest_vague")
    from_laws, vague = sorted(lent, key=lambda quantity: not lent[quantity])
    return finding("lr_batch.rest_divided", lent=from_laws, vague=vague)
