"""Forms of a loss law judged by the split: how far beside the runs above a cut lies the valley that each foretells?

A plan asks for differences of losses across sizes at one compute, never for their level, and forms that foretell the
level equally well part company over the best size. So each form, fitted below a cut as in `loss_backtest`, is held
against the losses above it with a level and a trend along compute taken out of both: its valley is moved along lines of
equal compute until it meets them best. Where the valley lies above the cut is then told by the forms whose shape,
moved, fits best there; how far from it, in ln params, a form had put it is its error. That needs no profiles. Where
there are some, the law through their minima (`isoflop`) is judged beside the forms and counts with them.

How far a form had to be moved is not its error: a valley of the wrong shape meets the losses best somewhere else. Over
the cuts of 36 simulated studies of profiles the shift was 0.40 off the true error (rms; of profiles where laws are
of Kaplan's form 0.46, where they were 0.09 off), the distance from the valley so told 0.13 (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import NotEnoughData
from lawfit.estimate.loss.backtest import SHARPNESS, Candidate, Cut
from lawfit.estimate.loss.isoflop import ISOFLOP, ProfileLaw, isoflop
from lawfit.estimate.loss.result import FormDraws
from lawfit.estimate.numerics.lowest import lowest_along
from lawfit.estimate.numerics.newton import Floats
from lawfit.findings import Found

# Chosen on 168 simulated studies (six kinds of true law, one with a valley of a width of its own, one with small runs
# badly tuned): docs/decisions.md. Sharpness 1.5 and 2 are alike, so that of the loss is kept; profiles count as one
# route and the forms together as the other, before either is judged.
NO_SPLIT: Final = ("compute_only",)  # forms that know of none
PROFILES_SHARE: Final = 0.5
WIDEST: Final = 2.5  # e-folds of params that a valley is moved, either way
STEPS: Final = 101
EDGE: Final = 2.4  # a valley moved as far as this has met nothing
SHAPE_FREEDOM: Final = 8  # what forms leave above a cut says this sharply, at most, whose shape is right
SHAPE_NOISE: Final = 0.1  # of the noise below the cut, in variance: shapes that leave less are alike
RATIOS: Final = (1e-4, 1e8)  # tokens per parameter among which a best split is looked for, and
GRID: Final = 1001  # at how many
HIGHEST: Final = 1e3  # ln loss where a form has none
PLACES: Final = 3  # computes above a cut at which a valley is looked at
NOISE_FREEDOM: Final = 2.0  # runs above a cut that the noise below it is worth, in how noisy those above are
TREND: Final = 0.2  # ln compute that runs above a cut span, and
FEWEST_FOR_TREND: Final = 4  # how many they are, for a trend along compute to be told from the split

PROFILES: Final = Candidate(ISOFLOP, 0.0)

LogLaw = Callable[[Floats, Floats], Floats]  # ln params, ln tokens -> log loss


@dataclass(frozen=True, kw_only=True)
class SplitBacktest:
    """How one form, or the law of profiles, foretold the best sizes above the cuts."""

    form: str
    without: float  # as in `Candidate`
    error: float  # rms over the cuts at which it foretold anything, in ln params
    weight: float


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A valley held against losses that it did not see."""

    shift: float  # of ln params, at which it meets them best
    reach: float  # sd of the shift for noise of sd 1 in log loss
    rest: float  # sum of squares that stays
    spare: int  # degrees of freedom of the rest


def displacement(log_law: LogLaw, log_params: Floats, log_tokens: Floats, log_loss: Floats) -> Moved:
    """How far a valley must be moved along lines of equal compute to meet losses best.

    Parameters
    ----------
    log_params, log_tokens, log_loss : (n,) floats
        The level of the losses, and a trend along compute where they span one, are not asked for.
    """
    compute = log_params + log_tokens
    nuisance = [np.ones_like(compute)]
    if np.ptp(compute) > TREND and len(compute) >= FEWEST_FOR_TREND:
        nuisance.append(compute - compute.mean())
    basis, _ = np.linalg.qr(np.stack(nuisance, axis=1))

    def left(shift: Floats) -> Floats:
        """(shifts, n) what the moved law leaves, but for level and trend."""
        n, d = (np.add.outer(sign * shift, x) for sign, x in ((-1, log_params), (1, log_tokens)))
        off = log_loss - log_law(n.ravel(), d.ravel()).reshape(n.shape)
        return np.asarray(off - (off @ basis) @ basis.T, dtype=float)

    shifts = np.linspace(-WIDEST, WIDEST, STEPS)
    squares = (left(shifts) ** 2).sum(axis=1)
    squares = np.where(np.isfinite(squares), squares, np.inf)
    i = int(np.clip(squares.argmin(), 1, STEPS - 2))
    low, middle, high = squares[i - 1 : i + 2]
    step = shifts[1] - shifts[0]
    with np.errstate(invalid="ignore"):
        bend = low - 2 * middle + high
        inside = 0.5 * (low - high) / bend if 0 < bend < np.inf else 0.0
    shift = float(shifts[i] + np.clip(inside, -1, 1) * step)
    before, at, after = left(np.array([shift - step / 2, shift, shift + step / 2]))
    slope = (after - before) / step
    return Moved(
        shift=shift,
        reach=1 / float(np.sqrt(max(slope @ slope, 1e-12))),
        rest=float(at @ at),
        spare=max(len(compute) - len(nuisance) - 1, 0),
    )


@dataclass(frozen=True, kw_only=True)
class _Valley:
    """A law's valley above a cut below which it was fitted."""

    foretold: Floats  # (places,) ln params of its lowest losses
    within: bool  # not at an end of `RATIOS`, where a law without a valley is lowest
    moved: Moved


def _valleys(
    trials: Mapping[Candidate, Sequence[FormDraws | Found]],
    base: Sequence[FormDraws | Found],
    columns: Sequence[Floats],
    cuts: Sequence[Cut],
) -> dict[Candidate, list[_Valley | None]]:
    """Of each candidate, and of the law of profiles, above each cut; empty where no form has a split."""
    laws: dict[Candidate, list[LogLaw | None]] = {
        each: [form_law(trial) if isinstance(trial, FormDraws) else None for trial in found]
        for each, found in trials.items()
        if each.form not in NO_SPLIT
    }
    if not laws:
        return {}
    laws[PROFILES] = [_profiles(columns, cut, law) for cut, law in zip(cuts, base, strict=True)]
    above = [[np.log(x[~cut.inner]) for x in columns] for cut in cuts]
    return {
        each: [None if law is None else _valley(law, logs) for law, logs in zip(mine, above, strict=True)]
        for each, mine in laws.items()
    }


def _valley(law: LogLaw, logs: Sequence[Floats]) -> _Valley:
    compute = _places(*logs[:2])
    foretold = _lowest(law, compute)
    ratio = compute - 2 * foretold
    within = bool(((np.log(RATIOS[0]) + 1e-6 < ratio) & (ratio < np.log(RATIOS[1]) - 1e-6)).all())
    return _Valley(foretold=foretold, within=within, moved=displacement(law, *logs))


def _places(log_params: Floats, log_tokens: Floats) -> Floats:
    """ln (params x tokens) from the cheapest to the dearest of these runs."""
    compute = log_params + log_tokens
    return np.linspace(compute.min(), compute.max(), PLACES)


def _lowest(law: LogLaw, compute: Floats) -> Floats:
    """(places,) ln params of the lowest loss along each line of equal compute."""
    ratio = np.linspace(np.log(RATIOS[0]), np.log(RATIOS[1]), GRID)
    n, d = (compute[:, None] - ratio) / 2, (compute[:, None] + ratio) / 2
    with np.errstate(all="ignore"):
        losses = law(n.ravel(), d.ravel()).reshape(n.shape)
    best, _ = lowest_along(ratio, np.where(np.isfinite(losses), losses, HIGHEST))
    return np.asarray((compute - best) / 2, dtype=float)


def _told(valleys: Sequence[_Valley], noise: float) -> tuple[Floats, float]:
    """(places,) ln params of the lowest losses above a cut: where shapes that fit them best were moved to.

    Beside it their variance around it, in ln params: where shapes that fit alike disagree, nothing is told.

    Parameters
    ----------
    noise : sd of log loss below the cut
    """
    moved = [each.moved for each in valleys]
    spare = max(moved[0].spare, 1)
    left = np.array([each.rest / spare for each in moved]) + SHAPE_NOISE * noise**2
    votes = -0.5 * min(spare, SHAPE_FREEDOM) * np.log(left)
    votes[[not each.within or abs(each.moved.shift) > EDGE for each in valleys]] = -np.inf
    share = np.exp(votes - votes.max()) if np.isfinite(votes).any() else np.ones(len(votes))
    places = np.array([each.foretold + each.moved.shift for each in valleys])
    told = np.average(places, axis=0, weights=share)
    return told, float(np.average(((places - told) ** 2).mean(axis=1), weights=share))


def judge_split(
    trials: Mapping[Candidate, Sequence[FormDraws | Found]],
    base: Sequence[FormDraws | Found],
    columns: Sequence[Floats],
    cuts: Sequence[Cut],
    labels: NDArray[np.intp],
) -> tuple[SplitBacktest, ...]:
    """The split by every candidate, in the order given, and by the law of profiles (last, where there is one).

    A weight is one over the rms error, noise included, to the power `SHARPNESS`. Empty where runs lie on both sides of
    a cut, as checkpoints do: what a run has of its own is then known below the cut, and nothing is foretold.

    Parameters
    ----------
    trials : candidate -> its fit below each cut; one without a fit does not count
    base : the additive law below each cut, whose valley the law of profiles moves
    labels : (n,) of clusters
    """
    if any(np.intersect1d(labels[cut.inner], labels[~cut.inner]).size for cut in cuts):
        return ()
    valleys = _valleys(trials, base, columns, cuts)
    if not valleys:
        return ()
    below = [[t.noise for t in cut if isinstance(t, FormDraws)] for cut in zip(*trials.values(), strict=True)]
    at_cuts = list(zip(*valleys.values(), strict=True))
    judged = [_misses(found, noises) for found, noises in zip(at_cuts, below, strict=True) if any(found) and noises]
    if len(judged) < len(cuts):
        return ()
    squares = dict(zip(valleys, np.stack([misses for misses, _ in judged], axis=1), strict=True))
    noise = float(np.mean([unknown for _, unknown in judged]))
    if not np.isfinite(noise):
        return ()
    forms = np.array([found for each, found in squares.items() if each != PROFILES])
    seen = np.isfinite(squares[PROFILES])
    # at a cut below which too few budgets are left, profiles are taken to be as far off as forms are
    own = squares[PROFILES][seen]
    squares[PROFILES] = np.where(seen, squares[PROFILES], forms.mean(axis=0))
    vote = {each: float(found.mean() + noise) ** (-SHARPNESS / 2) for each, found in squares.items()}
    share = PROFILES_SHARE if seen.any() else 0.0
    prior = {each: share if each == PROFILES else (1 - share) / len(forms) for each in vote}
    total = sum(prior[each] * vote[each] for each in vote)
    found = []
    for each in [*trials, *([PROFILES] if seen.any() else [])]:
        counts = each in squares
        shown = own if each == PROFILES else squares.get(each, np.array([np.inf]))
        found.append(
            SplitBacktest(
                form=each.form,
                without=each.without,
                error=float(np.sqrt(shown.mean())),
                weight=prior[each] * vote[each] / total if counts else 0.0,
            )
        )
    return tuple(found)


def among(kept: Sequence[bool], split: Sequence[SplitBacktest]) -> tuple[SplitBacktest, ...]:
    """Those that could also be fitted to all runs, weights adding up to one; profiles stay."""
    left = [each for each, keep in zip(split, [*kept, True], strict=False) if keep]
    total = sum(each.weight for each in left)
    return tuple(replace(each, weight=each.weight / total) for each in left) if total > 0 else ()


def form_law(trial: FormDraws) -> LogLaw:
    def law(log_params: Floats, log_tokens: Floats) -> Floats:
        return np.log(trial.loss(np.exp(log_params), np.exp(log_tokens)))

    return law


def _profiles(columns: Sequence[Floats], cut: Cut, base: FormDraws | Found) -> LogLaw | None:
    if not isinstance(base, FormDraws):
        return None
    try:
        found = isoflop(*(x[cut.inner] for x in columns))
    except NotEnoughData:
        return None
    return ProfileLaw.of(found, base).central


def _misses(found: Sequence[_Valley | None], below: Sequence[float]) -> tuple[Floats, float]:
    """(candidates,) mean squares of how far, in ln params, each put the valley above one cut from where it is told.

    Beside it the variance that is left of where it lies: by noise, and by shapes that disagree.
    """
    known = [each for each in found if each is not None]
    told, apart = _told(known, float(np.median(below)))
    misses = np.array(
        [
            np.inf if each is None else float((np.clip(told - each.foretold, -WIDEST, WIDEST) ** 2).mean())
            for each in found
        ]
    )
    return misses, min(_noise([each.moved for each in known], below) + apart, WIDEST**2)


def _noise(there: Sequence[Moved], below: Sequence[float]) -> float:
    """Variance that noise alone gives a shift above one cut: what no law meets there, with what laws left below."""
    rest, spare = min(each.rest for each in there), there[0].spare
    variance = (NOISE_FREEDOM * float(np.median(below)) ** 2 + rest) / (NOISE_FREEDOM + spare)
    return variance * float(np.median([each.reach for each in there])) ** 2
