"""The learning rate at a given batch: the floor of the joint surface's valley, alone or averaged with a law of its own.

Two ways lead there. The joint surface uses every run, and its valley has one shape at all scales; near the best batch
each analysis follows the tilt of its own. A law along the batch (`across_scales`: one that saturates, or one that
surges and falls again) goes through the best rate of every sweep, and its noise batch may grow otherwise than the best
batch does. At the best batch the surface answers, so that one batch has one rate whether it was chosen or given; away
from it the law may take a share that grows with the distance. All predict the sweeps of each scale (and of each size)
without it, and are priced there on observed runs: where the average with the better of the two laws is clearly better
than the surface it answers; with few scales, or no clear difference, the surface alone does.

On the Step Law grid the average costs a quarter less at sizes left out; in simulated sweeps of other shapes a weight
that follows the scores more closely did worse than the surface (docs/decisions.md, 2026-11-22).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import LawfitError
from lawfit.estimate.lr_batch.across_scales import AcrossScalesFit, fit_across_scales, fitted_without, log_lr_of
from lawfit.estimate.lr_batch.ensemble import Ensemble, Member, left_out_groups
from lawfit.estimate.lr_batch.surface import SurfaceFit
from lawfit.estimate.lr_batch.valley import FLOOR_AT, along_floor, best_lr_shift, law_share
from lawfit.estimate.numerics.law_terms import N_LAW
from lawfit.estimate.numerics.optima import SweepOptima
from lawfit.estimate.numerics.quantiles import normal_cdf, student_quantile
from lawfit.estimate.numerics.shapes import SHAPES, Shape
from lawfit.estimate.observe.observations import Observations
from lawfit.findings import Found, finding
from lawfit.laws.lr_batch import BENDS

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

SURFACE: Final = "surface"
AVERAGE: Final = "average"
# Where the average is clearly better, the valley is known not to have one shape: draws of both forms are widened. Set
# on simulated sweeps (seeds 2000 to 3199 of tests/benchmarks/lr_at_a_batch.py, which reports on others).
INFLATION: Final = 1.2
CLEAR: Final = 1.5  # standard errors over sizes, as a normal law counts them, by which the average must be better
MIN_BATCHES: Final = 3  # with the best learning rate inside their sweep, at each of ...
MIN_CURVES: Final = 3  # ... so many scales: batches that only differ between scales could be the scales' doing
MIN_SCORED: Final = 4  # groups left out with a sweep to score on
_SAME_SCALE: Final = 1e-6  # of the logs: the optima carry the scales of the observations
_REACH: Final = np.linspace(-1.0, 1.0, 41)  # ln lr around the floor of the convex valley
STEEPEST: Final = 3.0  # |exponent| of the noise batch beyond which the optima do not show it


@dataclass(frozen=True, kw_only=True)
class LrAtBatch:
    """Which form answers, and why."""

    form: str  # SURFACE or AVERAGE
    why: Found
    fit: AcrossScalesFit | None  # of the better law along the batch
    regret: Mapping[str, float]  # mean over sweeps left out, by form; empty where nothing could be scored
    miss_sd: float | None  # ln lr, of that law at a scale left out against that scale's own optimum
    sweeps: int  # distinct ones, scored; each with its scale left out, and with its size
    groups: int  # scales and sizes left out

    def model(self) -> dict[str, Any] | None:
        """What a prediction needs of the law along the batch; None where the surface answers alone."""
        if self.fit is None or self.form != AVERAGE:
            return None
        return {
            "law": self.fit.law.form,
            "centre": list(self.fit.centre),
            "theta": self.fit.theta.tolist(),
            "cov": self.fit.covariance.tolist(),
            "miss_sd": self.miss_sd,
            "inflation": INFLATION,
            "dof": self.fit.clusters - 1,
        }

    def to_json(self) -> dict[str, Any]:
        """JSON values; the numbers of the law stand under its own name."""
        fit = self.fit
        return {
            "form": self.form,
            "why": self.why,
            "regret": dict(self.regret),
            "sweeps": self.sweeps,
            "groups": self.groups,
            "law": None if fit is None else fit.law.form,
            "laws": {}
            if fit is None
            else {
                fit.law.form: {
                    **{name: float(getattr(fit.law, name)) for name in _SHOWN},
                    **{
                        f"{name}_{end}": bound
                        for name, ends in fit.intervals.items()
                        for end, bound in zip(("low", "high"), ends, strict=True)
                    },
                    "noise_batch_tokens": float(np.exp(fit.centre[2] + fit.theta[3])),
                    "at_tokens": float(np.exp(fit.centre[1])),
                    "level": fit.level,
                    "residual_sd": fit.residual_sd,
                    "miss_sd": self.miss_sd,
                    "clusters": fit.clusters,
                    "starts_agree": fit.starts_agree,
                }
            },
        }


_SHOWN: Final = ("params_exponent", "tokens_exponent", "noise_tokens_exponent")


@dataclass(frozen=True, kw_only=True)
class _Score:
    """One sweep left out."""

    group: int  # of `left_out_groups` with which it was
    size: int
    regrets: Floats  # (3,) of the surface, the average and the law along the batch


def choose_lr_at_batch(
    observed: Observations, ensemble: Ensemble, valley: SurfaceFit, sweeps: SweepOptima, *, level: float
) -> LrAtBatch:
    """Fit the laws along the batch and weigh the better one against the joint surface on the sweeps of scales left out.

    Parameters
    ----------
    valley : the fit of `Exponentials` that prices mistakes, made with `left_out_groups` of the same observations
    sweeps : best learning rate of every scale and batch
    """

    def surface(why: Found, fit: AcrossScalesFit | None = None) -> LrAtBatch:
        return LrAtBatch(form=SURFACE, why=why, fit=fit, regret={}, miss_sd=None, sweeps=0, groups=0)

    inside = sweeps.inside
    optima = sweeps.params[inside], sweeps.tokens[inside], sweeps.batch_tokens[inside], sweeps.lr[inside]
    scales = np.unique(np.column_stack(optima[:2]), axis=0, return_counts=True)[1] if inside.any() else np.zeros(0)
    curves = int((scales >= MIN_BATCHES).sum())
    if curves < MIN_CURVES:
        return surface(finding("lr_batch.few_curves", curves=curves, needed=MIN_CURVES, batches=MIN_BATCHES))
    try:
        fits = [fit_across_scales(*optima, form=form, level=level) for form in BENDS]
    except LawfitError as error:
        return surface(finding("lr_batch.no_law_along", why=error))
    fits = [fit for fit in fits if _shows_its_bend(fit)]
    if not fits:
        return surface(finding("lr_batch.no_bend"))
    groups = left_out_groups(observed)
    if len(valley.without_group) != len(groups):
        raise ValueError(f"the valley was left-out-fitted for {len(valley.without_group)} groups, not {len(groups)}")
    scored = [(fit, *_scored(observed, ensemble, valley, fit, optima, groups)) for fit in fits]
    fit, rows, misses = min(scored, key=lambda each: _cost_of_law(each[1]))
    if (left_out := len({score.group for score in rows})) < MIN_SCORED:
        return surface(finding("lr_batch.few_left_out", groups=left_out, needed=MIN_SCORED), fit)
    # the laws' own miss at scales they did not see: their scatter, and that a parabola through a skewed sweep lies low
    miss_sd = float(np.sqrt(np.mean(np.square(misses))))
    return _judged(
        rows, fit, miss_sd, distinct=sum(1 for cell in range(observed.n_cells) for _ in _sweeps(observed, cell))
    )


def _shows_its_bend(fit: AcrossScalesFit) -> bool:
    return fit.starts_agree and abs(fit.theta[4]) <= STEEPEST and bool(np.isfinite(fit.covariance).all())


def _cost_of_law(scored: Sequence[_Score]) -> float:
    """Mean regret of the law alone over the sweeps left out; one that could be scored nowhere costs most.

    Its average with the surface would tell the two laws less well apart.
    """
    return float(np.mean([score.regrets[2] for score in scored])) if scored else float("inf")


def floor_of(member: Member, valley: SurfaceFit) -> Floats:
    """(len FLOOR_AT,) how the best ln lr moves with ln batch by one analysis's own valley."""
    return _floor(SHAPES[member.choice.shape], member.fit.shape, valley.shape)


def _floor(shape: Shape, q: Floats, valley_q: Floats) -> Floats:
    """Where the slope along ln lr changes sign at each batch, nearest to where the convex valley has its floor; that
    itself where the shape has no minimum there.
    """
    r = np.array(FLOOR_AT)
    common = best_lr_shift(r, valley_q)
    u = common[:, None] + _REACH
    slope = shape(u.ravel(), np.repeat(r, len(_REACH)), q)[1].reshape(u.shape)
    turns = (slope[:, :-1] < 0) & (slope[:, 1:] >= 0)
    at = np.argmin(np.where(turns, np.abs(_REACH[:-1] + _REACH[1:]), np.inf), axis=1)
    rows = np.arange(len(r))
    low, high = slope[rows, at], slope[rows, at + 1]
    step = _REACH[1] - _REACH[0]
    crossing = u[rows, at] - low * step / np.where(high > low, high - low, 1.0)
    return np.where(turns.any(axis=1), crossing, common)


def _judged(scored: Sequence[_Score], fit: AcrossScalesFit, miss_sd: float, distinct: int) -> LrAtBatch:
    """Decide on what surface, average and law along the batch cost at every sweep that was left out.

    A sweep is left out with its scale, with its size and with all larger sizes, and sizes share their deviation: each
    size is one observation of the gain.
    """
    keys, index = np.unique([(score.group, score.size) for score in scored], axis=0, return_inverse=True)
    table = np.array([score.regrets for score in scored])
    means = np.array([table[index.ravel() == k].mean(axis=0) for k in range(len(keys))])
    # relative to the group's own level: one noisy scale must not decide for all
    gain = (means[:, 0] - means[:, 1]) / np.maximum(means.mean(axis=1), 1e-9)
    of_sizes = np.array([gain[keys[:, 1] == size].mean() for size in np.unique(keys[:, 1])])
    clear = False
    if len(of_sizes) > 1:
        error = float(of_sizes.std(ddof=1) / np.sqrt(len(of_sizes)))
        wanted = student_quantile(float(normal_cdf(np.array(CLEAR))), len(of_sizes) - 1)
        clear = bool(of_sizes.mean() > wanted * error)
    overall = table.mean(axis=0)
    costs = dict(zip((SURFACE, AVERAGE), overall, strict=False))
    return LrAtBatch(
        form=AVERAGE if clear else SURFACE,
        why=finding("lr_batch.average", better=clear, law=fit.law.form, sweeps=distinct, **costs),
        fit=fit,
        regret=dict(zip((SURFACE, AVERAGE, fit.law.form), overall.tolist(), strict=True)),
        miss_sd=miss_sd,
        sweeps=distinct,
        groups=len(np.unique(keys[:, 0])),
    )


def _scored(
    observed: Observations,
    ensemble: Ensemble,
    valley: SurfaceFit,
    fit: AcrossScalesFit,
    optima: tuple[Floats, Floats, Floats, Floats],
    groups: Sequence[Ints],
) -> tuple[list[_Score], list[float]]:
    """The score of each sweep with its minimum inside, left out.

    And by how much (ln lr) that law without a scale misses that scale's own optimum.
    """
    swept = {cell: list(_sweeps(observed, cell)) for cell in range(observed.n_cells)}
    log_scales = np.log(np.column_stack(optima[:2]))
    own_lr, own_batch = ensemble.optima(observed).T
    found: list[_Score] = []
    size = observed.size_of_cell()
    misses: list[float] = []
    for at, group in enumerate(groups):
        asked = [(place, *sweep) for place, cell in enumerate(group) for sweep in swept[int(cell)]]
        if not asked:
            continue
        here = np.log(np.column_stack([observed.params[group], observed.tokens[group]]))
        near = np.abs(log_scales[:, None, :] - here[None, :, :]).max(axis=2) < _SAME_SCALE
        theta = fitted_without(fit, *optima, left_out=near.any(axis=1))
        if theta is None:
            continue
        if len(group) == 1:
            scale = float(observed.params[group[0]]), float(observed.tokens[group[0]])
            said = float(log_lr_of(theta, fit.centre, *scale, np.exp(own_batch[group[0]]), fit.law.form))
            misses.append(said - float(own_lr[group[0]]))
        place, log_batch = np.array([each[0] for each in asked]), np.array([each[1] for each in asked])
        params, tokens = observed.params[group][place], observed.tokens[group][place]
        q = valley.without_group[at, N_LAW:-1]
        foretold = np.array([m.fit.foretold[at][place] for m in ensemble.members])  # (members, asked, 2)
        floors = [_floor(SHAPES[m.choice.shape], m.fit.without_group[at, N_LAW:-1], q) for m in ensemble.members]
        r = (log_batch - foretold[:, :, 1]).ravel()
        shift = along_floor(r, np.repeat(floors, len(place), axis=0), np.tile(q, (len(r), 1)), q)
        by_surface = ensemble.weights @ (foretold[:, :, 0] + shift.reshape(foretold.shape[:2]))
        best_batch = ensemble.weights @ foretold[:, :, 1]
        share = law_share(log_batch - best_batch)
        by_law = log_lr_of(theta, fit.centre, params, tokens, np.exp(log_batch), fit.law.form)
        for (which, _, log_lr, log_loss), surface, law_rate, far in zip(asked, by_surface, by_law, share, strict=True):
            rates = surface + np.array([0.0, far, 1.0]) * (law_rate - surface)
            regrets = np.expm1(np.interp(rates, log_lr, log_loss) - log_loss.min())
            if np.isfinite(regrets).all():
                found.append(_Score(group=at, size=int(size[group[which]]), regrets=regrets))
    return found, misses


def _sweeps(observed: Observations, cell: int) -> Iterator[tuple[float, Floats, Floats]]:
    """(ln batch, ln lr ascending, log loss) of each batch of a cell whose best finished run is not at an end."""
    rows = observed.rows_of(cell)
    batch = observed.log_batch[rows]
    for value in np.unique(batch):
        mine = np.flatnonzero(batch == value) + rows.start
        mine = mine[np.argsort(observed.log_lr[mine])]
        loss = observed.log_loss[mine]
        if len(mine) > 2 and 0 < int(loss.argmin()) < len(mine) - 1:
            yield float(value), observed.log_lr[mine], loss
