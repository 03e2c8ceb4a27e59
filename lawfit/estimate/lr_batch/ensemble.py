"""Several joint surfaces that differ in what an analyst might choose, weighted by how they predict cells left out.

The choices are the valley's shape, the window of loss that counts, and how much is borrowed from published laws. None
is fixed in a constant: each is scored by predicting every cell (and every model size) without it, on observed runs,
and answers are averaged with weights that fall quickly with that score. A backtest repeats all of this inside the
smaller scales, so a reported score never chose itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError
from lawfit.estimate.lr_batch.borrowed import PRIOR_FORMS, law_prior
from lawfit.estimate.lr_batch.surface import (
    NOISE_START,
    WINDOW_PER_SEED_SD,
    SurfaceFit,
    fit_surface,
    search_again,
    starts_apart,
)
from lawfit.estimate.numerics.elimination import LawPrior
from lawfit.estimate.numerics.law_terms import N_LAW, TERMS, law_design
from lawfit.estimate.numerics.scoring import ObservedSurface
from lawfit.estimate.numerics.shapes import SHAPES
from lawfit.estimate.numerics.spread import START
from lawfit.estimate.observe.observations import Observations
from lawfit.findings import Finding, finding

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

WINDOWS: Final = (0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08, 0.15, 0.3)
WINDOWS_TRIED: Final = 3
WINDOW_PER_RESIDUAL_SD: Final = 7.0
WIDEST_CUBIC: Final = 0.08  # of loss: a polynomial over more of it counts only where cells left out can judge it
TRIED_SHAPES: Final = ("cubic", "exponentials")
ROWS_PER_CELL: Final = 8.0  # a window holds so many runs of the typical cell, or it is too narrow to show a valley
SWEEP: Final = 4  # settings of a cell from which it counts as a sweep
SWEPT: Final = 3  # values of an axis within a cell
CLEARLY_LOWER: Final = 1.0  # squared standard errors
MIN_CELLS_TO_CHOOSE: Final = 5  # below that the choice cannot be scored, and all choices count alike
# A choice whose score is 10 % worse than the best counts e^-1 where four sizes say so, and e^-4 where sixteen do: what
# is left out are sizes, and few of them tell two choices apart by luck. On simulated studies and on our own sweep 40
# for any number of sizes does no better.
SHARPNESS_PER_SIZE: Final = 2.5
# The posterior knows noise, scatter of the scales, curvature and the spread between choices; not that no shape tried is
# the true one. Chosen on simulated sweeps with other shapes so that 90 % intervals hold in no less than 90 % of them,
# with a little to spare (tests/benchmarks/interval_coverage.py, seeds apart from the ones reported there).
INFLATION: Final = 1.08


@dataclass(frozen=True)
class Choice:
    shape: str
    window: float
    prior: str


@dataclass(frozen=True, kw_only=True)
class Member:
    choice: Choice
    fit: SurfaceFit
    weight: float
    score: float | None  # mean regret of the cells left out; None where it could not be scored


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Weighted joint surfaces of one set of observations."""

    members: tuple[Member, ...]
    centre: tuple[float, float]
    conflict: tuple[float, float]  # ln (lr, batch) of the runs themselves over the published level

    @property
    def weights(self) -> Floats:
        return np.array([m.weight for m in self.members])

    def optimum(self, params: Floats, tokens: Floats) -> tuple[Floats, Floats]:
        """Weighted mean of (ln lr*, ln batch*) at arrays of scales."""
        each = np.array([m.fit.optimum(params, tokens) for m in self.members])
        mean = np.tensordot(self.weights, each, axes=1)
        return mean[0], mean[1]

    def optima(self, observed: Observations) -> Floats:
        """(cells, 2) weighted mean of the fitted (ln lr*, ln batch*) of the cells themselves."""
        return np.tensordot(self.weights, np.array([m.fit.optima(observed) for m in self.members]), axes=1)

    def cell_cov(self) -> Floats:
        """(cells, 2, 2) covariance of these, the spread between choices left out."""
        return np.tensordot(self.weights, np.array([m.fit.cell_cov for m in self.members]), axes=1)

    def foretell(self, params: float, tokens: float) -> tuple[Floats, Floats]:
        """Mean (2,) and covariance (2, 2) of (ln lr*, ln batch*) at a scale of a size that has no runs.

        Over choices, coefficients, and the deviations of the size and of the scale.
        """
        means, covs = [], []
        for member in self.members:
            fit = member.fit
            x = law_design(np.array([params]), np.array([tokens]), fit.centre)[0]
            rows = np.kron(np.eye(2), x)
            means.append(rows @ fit.law)
            cov = rows @ fit.cov[:N_LAW, :N_LAW] @ rows.T + np.diag(fit.size_var + fit.scatter_var)
            covs.append(INFLATION**2 * cov)  # as the worlds of an answer are drawn
        mean = self.weights @ np.array(means)
        apart = np.array(means) - mean
        cov = np.tensordot(self.weights, np.array(covs), axes=1) + (self.weights[:, None] * apart).T @ apart
        return mean, cov

    def freedom(self) -> float:
        """Degrees of freedom of that."""
        return float(self.weights @ np.array([m.fit.freedom for m in self.members]))


def fit_ensemble(
    observed: Observations,
    surfaces: Mapping[int, ObservedSurface],
    *,
    without_laws: Sequence[str] = (),
    starts: Mapping[Choice, SurfaceFit] | None = None,
    choices: Sequence[Choice] | None = None,
) -> Ensemble:
    """Fit every choice to the observations and weigh them.

    Parameters
    ----------
    surfaces : index of a cell -> its observed surface
        For the scores; cells that are not in it are not scored.
    starts : choice -> a fit of more (or other) cells to begin from
        Only speed depends on it.

    Raises
    ------
    FitError
        No choice could be fitted.
    """
    centre = (float(np.log(observed.params).mean()), float(np.log(observed.tokens).mean()))
    conflict = _conflict(observed, law_prior("published", centre, without_laws))
    priors = {form: law_prior(form, centre, without_laws, conflict) for form in PRIOR_FORMS}
    groups = left_out_groups(observed)
    can_choose = observed.n_cells >= MIN_CELLS_TO_CHOOSE and _spans(observed)
    if choices is None:
        choices = candidate_choices(observed, narrowest_window(observed, priors), can_choose=can_choose)
    fits: dict[Choice, SurfaceFit] = {}
    unfinished: dict[Choice, SurfaceFit] = {}
    problems: list[Finding] = []
    neighbour: dict[str, tuple[float, SurfaceFit]] = {}
    searched: set[tuple[str, float]] = set()
    for choice in choices:
        elsewhere, (window, here) = (starts or {}).get(choice), neighbour.get(choice.shape, (0.0, None))
        shape, prior = SHAPES[choice.shape], priors[choice.prior]
        same_runs = window == choice.window
        # a start from other cells may lead a cubic to its saddle; the neighbouring choice is then asked again
        for start in (_start(elsewhere, here), here) if elsewhere is not None and not same_runs else (here,):
            try:
                begin = _shifted(start, centre)
                fit = fit_surface(observed, shape, choice.window, prior, begin, groups, same_runs=same_runs)
                if fit.converged and not starts and (choice.shape, choice.window) not in searched:
                    searched.add((choice.shape, choice.window))
                    fit = _from_the_lowest(observed, choice, prior, fit, groups)
            except (FitError, np.linalg.LinAlgError) as error:
                problem: Finding | Exception = error
                continue
            if not np.isfinite(fit.law).all():
                problem = finding("lr_batch.not_converged")
            elif not shape.curves_up(fit.shape):
                problem = finding("lr_batch.no_valley")
            elif not fit.converged:
                problem = finding("lr_batch.not_converged")
                unfinished.setdefault(choice, fit)
            else:
                fits[choice] = fit
                neighbour[choice.shape] = choice.window, fit
                break
        else:
            problems.append(finding("lr_batch.choice_failed", **vars(choice), why=problem))
    fits = fits or unfinished  # kept for inspection: its certificate says that the search did not end
    if not can_choose:  # a wide polynomial is trusted on its word only where nothing else fits
        fits = {c: f for c, f in fits.items() if c.shape == "exponentials" or c.window <= WIDEST_CUBIC} or fits
    if not fits:
        raise FitError(finding("lr_batch.no_surface", choices=problems[:3]))
    scores = _scores(observed, surfaces, groups, fits) if can_choose else None
    if scores is None:
        weights = np.full(len(fits), 1.0 / len(fits))
    else:
        sharpness = SHARPNESS_PER_SIZE * len(np.unique(observed.params))
        weights = np.exp(-sharpness * (scores / scores.min() - 1.0))
        weights /= weights.sum()
    members = tuple(
        Member(choice=c, fit=f, weight=float(w), score=None if scores is None else float(scores[i]))
        for i, ((c, f), w) in enumerate(zip(fits.items(), weights, strict=True))
    )
    return Ensemble(members=members, centre=centre, conflict=conflict)


def _conflict(observed: Observations, prior: LawPrior) -> tuple[float, float]:
    """How far the better half of each sweep lies, on the median, from where the prior's centre has the optimum.

    Of an axis that was swept: where a batch was only chosen, it says what was chosen.
    """
    design = law_design(observed.params, observed.tokens, prior.centre)
    found = []
    for column, law in ((observed.log_lr, prior.mean[:TERMS]), (observed.log_batch, prior.mean[TERMS:])):
        apart = []
        for cell in range(observed.n_cells):
            rows = observed.rows_of(cell)
            if len(np.unique(column[rows])) >= SWEPT:
                good = observed.log_loss[rows] <= np.median(observed.log_loss[rows])
                apart.append(float(column[rows][good].mean() - design[cell] @ law))
        found.append(float(np.median(apart)) if apart else 0.0)
    return found[0], found[1]


def _from_the_lowest(
    observed: Observations, choice: Choice, prior: LawPrior, fit: SurfaceFit, groups: Sequence[Ints]
) -> SurfaceFit:
    """The first fit of a shape and window, from which others start: from the lowest minimum that starts apart find."""
    shape = SHAPES[choice.shape]
    ends = [
        end
        for end in search_again(observed, shape, choice.window, prior, fit, starts_apart(fit, shape), roughly=True)
        if end.converged and shape.curves_up(end.shape)
    ]
    lowest = min(ends, key=lambda end: end.objective, default=None)
    if lowest is None or lowest.objective > ends[0].objective - CLEARLY_LOWER:
        return fit
    return fit_surface(observed, shape, choice.window, prior, replace(fit, law=lowest.law, shape=lowest.shape), groups)


def candidate_choices(observed: Observations, narrowest: float, *, can_choose: bool) -> list[Choice]:
    """The choices that make sense for these runs: windows that hold enough of them, none below `narrowest`."""
    windows = [w for w in usable_windows(observed) if w >= narrowest] or [WINDOWS[-1]]
    forms = PRIOR_FORMS if can_choose else ("published",)
    # widest window first: the easiest start for the narrower ones
    return [
        Choice(shape, w, form) for shape in TRIED_SHAPES for w in reversed(windows[:WINDOWS_TRIED]) for form in forms
    ]


def usable_windows(observed: Observations) -> list[float]:
    """Windows that hold a valley's worth of runs in the typical cell that holds a sweep, narrowest first.

    A single run beside the sweeps (one at each larger size, say) tells nothing about windows.
    """
    counts = np.bincount(observed.cell, minlength=observed.n_cells)
    swept = counts >= min(SWEEP, counts.max())
    above = observed.log_loss - observed.lowest_log_loss()[observed.cell]
    wanted = min(ROWS_PER_CELL, float(np.median(counts[swept])))
    held = {w: np.median(np.bincount(observed.cell[above <= w], minlength=observed.n_cells)[swept]) for w in WINDOWS}
    return [w for w in WINDOWS if held[w] >= wanted] or [WINDOWS[-1]]


def narrowest_window(observed: Observations, priors: Mapping[str, LawPrior]) -> float:
    """A window that noise does not fill: a few sd of log loss between equal runs.

    Seeds tell that sd; without them, the residuals in the narrowest window do, which are too small (a window keeps the
    lucky runs), so they count for more.
    """
    by_cell = observed.seed_sd_of_cells()
    if np.isfinite(by_cell).any():
        return WINDOW_PER_SEED_SD * float(np.nanmedian(by_cell))
    try:
        fit = fit_surface(observed, SHAPES["cubic"], usable_windows(observed)[0], priors["own"])
    except (FitError, np.linalg.LinAlgError):
        return 0.0
    return WINDOW_PER_RESIDUAL_SD * fit.noise if fit.converged else 0.0


def _spans(observed: Observations) -> bool:
    """Whether the scales span the plane of (params, tokens) well enough to fit two exponents."""
    x = law_design(observed.params, observed.tokens, (0.0, 0.0))[:, :3]
    centred = x[:, 1:] - x[:, 1:].mean(axis=0)
    return bool(np.linalg.svd(centred, compute_uv=False)[-1] / np.sqrt(len(x)) > 0.15)


def left_out_groups(observed: Observations) -> list[Ints]:
    """Sets of cells to leave out: every cell, every model size with others beside it, and the larger sizes.

    The last kind is what extrapolation is: from each size but the two smallest on upwards.
    """
    groups = [np.array([c], dtype=np.intp) for c in range(observed.n_cells)]
    size = observed.size_of_cell()
    count = int(size[-1]) + 1
    if count > 2:
        groups += [np.flatnonzero(size == k) for k in range(count)]
        groups += [np.flatnonzero(size >= k) for k in range(2, count - 1)]  # the largest alone is there already
    return groups


def _scores(
    observed: Observations,
    surfaces: Mapping[int, ObservedSurface],
    groups: Sequence[Ints],
    fits: Mapping[Choice, SurfaceFit],
) -> Floats | None:
    """(choices,) mean regret on the observed runs of the cells left out.

    A cell counts once left out alone, once with its size, and once (shared out) with all larger sizes.
    """
    size = observed.size_of_cell()
    upward = np.maximum(np.minimum(size, size[-1] - 1) - 1, 1)  # groups of larger sizes that hold the cell
    foretold: dict[int, list[Floats]] = {}  # cell -> (choices, 2) each time that it was left out
    weights: dict[int, list[float]] = {}
    for at, group in enumerate(groups):
        several = len(np.unique(size[group])) > 1
        for place, cell in enumerate(group.tolist()):
            if cell in surfaces:
                foretold.setdefault(cell, []).append(np.array([fit.foretold[at][place] for fit in fits.values()]))
                weights.setdefault(cell, []).append(1 / upward[cell] if several else 1.0)
    if not foretold:
        return None
    total = np.zeros(len(fits))
    for cell, each in foretold.items():
        lr, batch = np.exp(np.clip(np.array(each), (-40, -40), (40, 60))).transpose(2, 0, 1)
        total += weights[cell] @ surfaces[cell].regret(lr, batch).regret
    mean: Floats = np.maximum(total / sum(sum(w) for w in weights.values()), 1e-6)
    return mean


def _start(elsewhere: SurfaceFit | None, here: SurfaceFit | None) -> SurfaceFit | None:
    """Where to begin: coefficients may come from a fit of other cells, the noise and scatter only from these.

    Coefficients go to the mode wherever they begin; the variances get a fixed number of updates and would remember.
    """
    if elsewhere is None:
        return here
    noise = NOISE_START if here is None else here.noise
    scatter = START.scatter if here is None else here.scatter_var
    size = START.size if here is None else here.size_var
    valley = START.valley if here is None else here.valley_var
    return replace(elsewhere, noise=noise, scatter_var=scatter, size_var=size, valley_var=valley)


def _shifted(start: SurfaceFit | None, centre: tuple[float, float]) -> SurfaceFit | None:
    """A start whose constants hold at another centre."""
    if start is None or start.centre == centre:
        return start
    step_n, step_d = centre[0] - start.centre[0], centre[1] - start.centre[1]
    law = start.law.copy()
    for at in (0, TERMS):
        # curvature is small; its shift is left to the iteration
        law[at] += law[at + 1] * step_n + law[at + 2] * step_d
    return replace(start, law=law, centre=centre)
