"""Forms of a loss law judged by the split: how far beside the runs above a cut lies the valley that each foretells?

A plan asks for differences of losses across sizes at one compute, never for their level, and forms that foretell the
level equally well part company over the best size. So each form, fitted below a cut as in `loss_backtest`, is held
against the losses above it with a level and a trend along compute taken out of both: its valley is moved along lines of
equal compute until it meets them best, and how far it had to be moved, in ln params, is its error there. That needs no
profiles. Where there are some, the law through their minima (`isoflop`) is judged beside the forms and counts with
them.
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
from lawfit.estimate.numerics.newton import Floats
from lawfit.findings import Found

# Chosen on 100 simulated studies (six kinds of true law, one with a valley of a width of its own, one with small runs
# badly tuned), before any public source was scored (docs/decisions.md): sharpness 1 to 3 are alike, so that of the
# loss is kept; profiles count as one route and the forms together as the other, before either is judged.
NO_SPLIT: Final = ("compute_only",)  # forms that know of none
PROFILES_SHARE: Final = 0.5
WIDEST: Final = 2.5  # e-folds of params that a valley is moved, either way
STEPS: Final = 101
NOISE_FREEDOM: Final = 2.0  # runs above a cut that the noise below it is worth, in how noisy those above are
TREND: Final = 0.2  # ln compute that runs above a cut span, and
FEWEST_FOR_TREND: Final = 4  # how many they are, for a trend along compute to be told from the split

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


def _displacements(
    trials: Mapping[Candidate, Sequence[FormDraws | Found]],
    base: Mapping[Candidate, Sequence[FormDraws | Found]],
    columns: Sequence[Floats],
    cuts: Sequence[Cut],
) -> dict[Candidate, list[Moved | None]]:
    """By how much the laws of each candidate below a cut miss the split above it; empty where no form has a split."""
    laws: dict[Candidate, list[LogLaw | None]] = {
        each: [form_law(trial) if isinstance(trial, FormDraws) else None for trial in found]
        for each, found in trials.items()
        if each.form not in NO_SPLIT
    }
    if not laws:
        return {}
    for each, found in base.items():
        laws[each] = [_profiles(columns, cut, law) for cut, law in zip(cuts, found, strict=True)]
    logs = [np.log(x) for x in columns]
    return {
        each: [
            None if law is None else displacement(law, *(x[~cut.inner] for x in logs))
            for law, cut in zip(mine, cuts, strict=True)
        ]
        for each, mine in laws.items()
    }


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
    profiles = Candidate(ISOFLOP, 0.0)
    moved = _displacements(trials, {profiles: base}, columns, cuts)
    if not moved:
        return ()
    below = [[t.noise for t in cut if isinstance(t, FormDraws)] for cut in zip(*trials.values(), strict=True)]
    noise = np.array([_noise([each[k] for each in moved.values()], below[k]) for k in range(len(cuts))])
    if not np.isfinite(noise).all():
        return ()
    squares = {each: _squares(found) for each, found in moved.items()}
    forms = np.array([found for each, found in squares.items() if each != profiles])
    seen = np.isfinite(squares[profiles])
    # at a cut below which too few budgets are left, profiles are taken to be as far off as forms are
    own = squares[profiles][seen]
    squares[profiles] = np.where(seen, squares[profiles], forms.mean(axis=0))
    vote = {each: float(found.mean() + noise.mean()) ** (-SHARPNESS / 2) for each, found in squares.items()}
    share = PROFILES_SHARE if seen.any() else 0.0
    prior = {each: share if each == profiles else (1 - share) / len(forms) for each in vote}
    total = sum(prior[each] * vote[each] for each in vote)
    found = []
    for each in [*trials, *([profiles] if seen.any() else [])]:
        counts = each in squares
        shown = own if each == profiles else squares.get(each, np.array([np.inf]))
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


def _squares(found: Sequence[Moved | None]) -> Floats:
    return np.array([np.inf if each is None else each.shift**2 for each in found])


def _noise(found: Sequence[Moved | None], below: Sequence[float]) -> float:
    """Variance that noise alone gives a shift above one cut: what no law meets there, with what laws left below."""
    there = [each for each in found if each is not None]
    if not there or not below:
        return np.inf
    rest, spare = min(each.rest for each in there), there[0].spare
    variance = (NOISE_FREEDOM * float(np.median(below)) ** 2 + rest) / (NOISE_FREEDOM + spare)
    return min(variance * float(np.median([each.reach for each in there])) ** 2, WIDEST**2)
