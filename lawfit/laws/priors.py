"""What verified published laws say about exponents, as a Gaussian prior for a recipe that nobody has measured yet.

A sweep at one or two scales cannot tell how the best learning rate moves with parameters, tokens and batch size. Other
people's sweeps can, in part: every law of ``data/laws.toml`` lists the exponents (or combinations along a path, as of
compute) that it measured. They differ between recipes by far more than their own errors, and *that* spread is the
width of the prior.

Model (multivariate random effects, as in a meta-analysis): the exponents of law i are ``e_i ~ N(mu, S)``; it reports
``y_i = H_i e_i`` with its own error ``V_i``. ``mu`` has the vague start N(0, 1) per exponent, and ``S`` an
inverse-Wishart one that stands for `PSEUDO_LAWS` laws spread by `PSEUDO_SPREAD`; both are updated by EM on the exact
linear-Gaussian posteriors. The prior of a new recipe is ``N(mu, S + Cov(mu))``: the spread between laws, plus how badly
their centre is known. A law that constrains only one combination moves only that one.

Which laws may lend to a recipe is for `lenders` to say; callers hand in those that may not. Where none is left, the
prior is vague: exponents of N(0, `VAGUE_SD`), a level `VAGUE_LEVEL` known to `VAGUE_LOG_SD`. No law had a part in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.laws.entry import ExponentEvidence
from lawfit.laws.lenders import check_withheld, lenders, may_lend
from lawfit.laws.published import published_laws

Floats = NDArray[np.float64]

PRIOR_INPUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "lr_joint": ("params", "tokens"),
    "lr_given_batch": ("params", "tokens", "batch_tokens"),
    "batch": ("params", "tokens"),
}
START_SD: Final = 1.0  # of every exponent before any law is read: |exponent| > 2 has not been seen
PSEUDO_LAWS: Final = 2.0
PSEUDO_SPREAD: Final = 0.2  # measured exponents of one quantity differ by .15 to .3 between recipes
DEFAULT_SD: Final = 0.05  # a source that gives no error: two digits, a handful of scales
LEVEL_SPREAD: Final = 0.5  # of ln y between recipes at one scale: a factor 1.6, what published batch laws differ by
EXPONENT_DRIFT: Final = 0.2  # a law's exponent may be off by this much outside its range
# Where no law lends. Published exponents lie between -0.8 and 0.95, within two of these; tuned learning rates of
# neural networks between 1e-5 and 1, batches between a few thousand tokens and some ten million, within two of those.
VAGUE_SD: Final = 0.5
VAGUE_LEVEL: Final[Mapping[str, float]] = {"lr": 1e-3, "batch_tokens": 2e5}
VAGUE_LOG_SD: Final = 3.0
_EM_STEPS: Final = 500
_EM_TOLERANCE: Final = 1e-10
_LEVEL_STEPS: Final = 50


@dataclass(frozen=True, kw_only=True)
class ExponentPrior:
    """Gaussian prior over the exponents of one quantity in a recipe not seen before."""

    of: str  # "lr_joint", "lr_given_batch" or "batch"
    inputs: tuple[str, ...]  # order of the exponents
    mean: Floats  # (k,)
    cov: Floats  # (k, k), spread between laws plus uncertainty of their centre
    laws: tuple[str, ...]  # ids of the laws used
    without: tuple[str, ...]  # ids left out on request
    sources: tuple[str, ...]  # plain sentences

    @property
    def sd(self) -> Floats:
        return np.sqrt(np.diag(self.cov))


def exponent_prior(of: str, *, without: Sequence[str] = ()) -> ExponentPrior:
    """The prior of one quantity's exponents, in the order of `PRIOR_INPUTS`.

    Parameters
    ----------
    of : str
        ``lr_joint``: learning rate at the jointly optimal batch. ``lr_given_batch``: learning rate with the batch as an
        input. ``batch``: the optimal batch size in tokens per step.
    without : law ids, or "id.quantity"
        Laws whose evidence must not enter: they were fitted on these very runs, or are of another kind of recipe.
        With none left the prior is vague.

    Raises
    ------
    ValueError
        `of` is none of the three.
    UnknownLaw
        `without` names a law that is not in the catalogue.
    """
    if of not in PRIOR_INPUTS:
        raise ValueError(f"no prior for '{of}'; there are {', '.join(PRIOR_INPUTS)}")
    return _exponent_prior(of, tuple(sorted(set(without))))


@cache
def _exponent_prior(of: str, without: tuple[str, ...]) -> ExponentPrior:
    check_withheld(without)
    laws = published_laws()
    inputs = PRIOR_INPUTS[of]
    used = {
        law.id: rows
        for law in laws.values()
        if may_lend(law.id, of, without) and (rows := [e for e in law.exponents if e.of == of])
    }
    if not used:
        return _vague_exponents(of, without)
    observations = [_observation(rows, inputs) for rows in used.values()]
    mean, between, mean_cov = _random_effects(observations, len(inputs))
    mean.flags.writeable = False
    cov = between + mean_cov
    cov = (cov + cov.T) / 2
    cov.flags.writeable = False
    return ExponentPrior(
        of=of,
        inputs=inputs,
        mean=mean,
        cov=cov,
        laws=tuple(used),
        without=without,
        sources=(
            *(_sentence(laws[law_id].label, laws[law_id].cite, rows) for law_id, rows in used.items()),
            f"width: the spread between these {len(used)} laws, and how badly their centre is known",
        ),
    )


def _vague_exponents(of: str, without: tuple[str, ...]) -> ExponentPrior:
    inputs = PRIOR_INPUTS[of]
    mean, cov = np.zeros(len(inputs)), VAGUE_SD**2 * np.eye(len(inputs))
    mean.flags.writeable = cov.flags.writeable = False
    said = f"no published law lends these exponents: vague, 0 with an sd of {VAGUE_SD:g} each"
    return ExponentPrior(of=of, inputs=inputs, mean=mean, cov=cov, laws=(), without=without, sources=(said,))


@dataclass(frozen=True, kw_only=True)
class LevelPrior:
    """Where the optimum of an unmeasured recipe lies at one scale, by laws that publish a level: ln y ~ N(mean, sd)."""

    target: str  # "lr" (at the jointly optimal batch) or "batch_tokens"
    log_mean: float
    log_sd: float
    laws: tuple[str, ...]
    sources: tuple[str, ...]


def level_prior(target: str, params: float, tokens: float, *, without: Sequence[str] = ()) -> LevelPrior:
    """The level that verified laws give at a scale, and how far they lie apart.

    A law counts with the precision that is left at this scale: its variance is the spread between laws, plus
    ``EXPONENT_DRIFT * ln 10`` squared per decade squared that the scale lies outside the law's own range (a law along
    one path is outside when off the path). The prior's width is the spread between laws plus the uncertainty of their
    centre, with the spread never taken below `LEVEL_SPREAD`: a handful of laws may agree by chance. With no law left
    it is `VAGUE_LEVEL`, for the runs to move.

    Raises
    ------
    ValueError
        Unknown target.
    UnknownLaw
        `without` names a law that is not in the catalogue.
    """
    if target not in VAGUE_LEVEL:
        raise ValueError(f"no level of '{target}' is lent; there are {', '.join(VAGUE_LEVEL)}")
    voters = lenders(target, without)
    if not voters:
        level = VAGUE_LEVEL[target]
        said = f"no published law lends this level: vague, {level:g} known to a factor of {np.exp(VAGUE_LOG_SD):.0f}"
        return LevelPrior(target=target, log_mean=float(np.log(level)), log_sd=VAGUE_LOG_SD, laws=(), sources=(said,))
    log_level = np.log([float(law.evaluate(target, params=params, tokens=tokens)) for law in voters])
    decades = np.array([max(law.outside_range(params, tokens).values(), default=0.0) for law in voters])
    drift = (EXPONENT_DRIFT * np.log(10) * decades) ** 2
    spread = LEVEL_SPREAD**2
    for _ in range(_LEVEL_STEPS):  # the spread sets the weights, and the weighted scatter the spread
        weight = 1 / (spread + drift)
        mean = float(weight @ log_level / weight.sum())
        scatter = float(weight @ ((log_level - mean) ** 2 - drift) / weight.sum())
        spread = max(LEVEL_SPREAD**2, scatter * len(voters) / max(1, len(voters) - 1))
    variance = spread + 1 / float((1 / (spread + drift)).sum())
    return LevelPrior(
        target=target,
        log_mean=mean,
        log_sd=float(np.sqrt(variance)),
        laws=tuple(law.id for law in voters),
        sources=tuple(
            f"{law.label} ({law.cite}): {np.exp(level):.3g}" + (f", {far:.1f} decades outside its range" if far else "")
            for law, level, far in zip(voters, log_level, decades, strict=True)
        ),
    )


Observation = tuple[Floats, Floats, Floats]  # H (m, k), y (m,), V (m, m)


def _observation(rows: Sequence[ExponentEvidence], inputs: tuple[str, ...]) -> Observation:
    design = np.array([[row.along.get(name, 0.0) for name in inputs] for row in rows])
    error = np.diag([(DEFAULT_SD if row.sd is None else row.sd) ** 2 for row in rows])
    return design, np.array([row.value for row in rows]), error


def _random_effects(observations: Sequence[Observation], k: int) -> tuple[Floats, Floats, Floats]:
    """Centre mu (k,), spread between laws S (k, k) and Cov(mu) (k, k) by EM; with no observation, the start."""
    start_precision = np.eye(k) / START_SD**2
    scale = PSEUDO_LAWS * PSEUDO_SPREAD**2 * np.eye(k)
    between = PSEUDO_SPREAD**2 * np.eye(k)
    for _ in range(_EM_STEPS):
        mean, mean_cov = _centre(observations, between, start_precision)
        moment = scale.copy()
        for design, y, error in observations:
            gain = between @ design.T @ np.linalg.inv(design @ between @ design.T + error)
            known = gain @ design
            shift = gain @ (y - design @ mean)  # E(e_i - mu), and its covariance given mu, and that from mu
            moment += np.outer(shift, shift) + (np.eye(k) - known) @ between + known @ mean_cov @ known.T
        update = moment / (PSEUDO_LAWS + len(observations))
        change = float(np.abs(update - between).max())
        between = (update + update.T) / 2
        if change < _EM_TOLERANCE:
            break
    mean, mean_cov = _centre(observations, between, start_precision)
    return mean, between, mean_cov


def _centre(observations: Sequence[Observation], between: Floats, start_precision: Floats) -> tuple[Floats, Floats]:
    """Posterior of mu for a given spread between laws: each law weighs in with ``H S H' + V``."""
    precision = start_precision.copy()
    pull = np.zeros(len(precision))
    for design, y, error in observations:
        weight = design.T @ np.linalg.inv(design @ between @ design.T + error)
        precision += weight @ design
        pull += weight @ y
    mean_cov: Floats = np.asarray(np.linalg.inv(precision), dtype=float)
    return mean_cov @ pull, mean_cov


def _sentence(label: str, cite: str, rows: Sequence[ExponentEvidence]) -> str:
    """One law's evidence in plain words."""
    parts = []
    for row in rows:
        path = " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in row.along.items())
        part = f"exponent of {path}: {row.value:+.3g}" + (f" (sd {row.sd:g})" if row.sd is not None else "")
        parts.append(part + (f", {row.note}" if row.note else ""))
    return f"{label} ({cite}): {'; '.join(parts)}"
