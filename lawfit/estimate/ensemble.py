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
from lawfit.estimate.borrowed import PRIOR_FORMS, law_prior
from lawfit.estimate.observations import Observations
from lawfit.estimate.scoring import ObservedSurface
from lawfit.estimate.shapes import SHAPES
from lawfit.estimate.surface import (
    NOISE_START,
    SCATTER_START,
    WINDOW_PER_SEED_SD,
    LawPrior,
    SurfaceFit,
    fit_surface,
    law_design,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

WINDOWS: Final = (0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08, 0.15, 0.3)
WINDOWS_TRIED: Final = 3
WINDOW_PER_RESIDUAL_SD: Final = 7.0
TRIED_SHAPES: Final = ("cubic", "exponentials")
ROWS_PER_CELL: Final = (
    8.0  # a window holds at least so many runs of the typical cell, or it is too narrow to show a valley
)
MIN_CELLS_TO_CHOOSE: Final = 5  # below that the choice cannot be scored, and all choices count alike
SHARPNESS: Final = 40.0  # a choice whose score is 10 % worse than the best counts e^-4; 20 to 50 give much the same


@dataclass(frozen=True)
class Choice:
    shape: str
    window: float
    prior: str

    @property
    def label(self) -> str:
        return f"{self.shape}, window {self.window:.2%}, {self.prior.replace('_', ' ')}"


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

    @property
    def weights(self) -> Floats:
        return np.array([m.weight for m in self.members])

    def optimum(self, params: Floats, tokens: Floats) -> tuple[Floats, Floats]:
        """Weighted mean of (ln lr*, ln batch*) at arrays of scales."""
        each = np.array([m.fit.optimum(params, tokens) for m in self.members])
        mean = np.tensordot(self.weights, each, axes=1)
        return mean[0], mean[1]


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
    priors = {form: law_prior(form, centre, without_laws) for form in PRIOR_FORMS}
    groups = left_out_groups(observed)
    can_choose = observed.n_cells >= MIN_CELLS_TO_CHOOSE and _spans(observed)
    if choices is None:
        choices = candidate_choices(observed, narrowest_window(observed, priors), can_choose=can_choose)
    fits: dict[Choice, SurfaceFit] = {}
    problems: list[str] = []
    neighbour: dict[str, SurfaceFit] = {}
    for choice in choices:
        elsewhere, here = (starts or {}).get(choice), neighbour.get(choice.shape)
        shape = SHAPES[choice.shape]
        # a start from other cells may lead a cubic to its saddle; the neighbouring choice is then asked again
        for start in (_start(elsewhere, here), here) if elsewhere is not None else (here,):
            try:
                fit = fit_surface(observed, shape, choice.window, priors[choice.prior], _shifted(start, centre), groups)
            except (FitError, np.linalg.LinAlgError) as error:
                problem = str(error)
                continue
            if not (fit.converged and np.isfinite(fit.law).all()):
                problem = "did not converge"
            elif not shape.curves_up(fit.shape):
                problem = "found no valley: the losses do not curve upwards around the optimum"
            else:
                fits[choice] = neighbour[choice.shape] = fit
                break
        else:
            problems.append(f"{choice.label}: {problem}")
    if not fits:
        raise FitError(f"no joint surface could be fitted ({'; '.join(problems[:3])})")
    scores = _scores(observed, surfaces, groups, fits) if can_choose else None
    if scores is None:
        weights = np.full(len(fits), 1.0 / len(fits))
    else:
        weights = np.exp(-SHARPNESS * (scores / scores.min() - 1.0))
        weights /= weights.sum()
    members = tuple(
        Member(choice=c, fit=f, weight=float(w), score=None if scores is None else float(scores[i]))
        for i, ((c, f), w) in enumerate(zip(fits.items(), weights, strict=True))
    )
    return Ensemble(members=members, centre=centre)


def candidate_choices(observed: Observations, narrowest: float, *, can_choose: bool) -> list[Choice]:
    """The choices that make sense for these runs: windows that hold enough of them, none below `narrowest`."""
    windows = [w for w in usable_windows(observed) if w >= narrowest] or [WINDOWS[-1]]
    forms = PRIOR_FORMS if can_choose else ("published",)
    # widest window first: the easiest start for the narrower ones
    return [
        Choice(shape, w, form) for shape in TRIED_SHAPES for w in reversed(windows[:WINDOWS_TRIED]) for form in forms
    ]


def usable_windows(observed: Observations) -> list[float]:
    """Windows that hold a valley's worth of runs in the typical cell, narrowest first."""
    above = observed.log_loss - observed.lowest_log_loss()[observed.cell]
    wanted = min(ROWS_PER_CELL, float(np.median(np.bincount(observed.cell, minlength=observed.n_cells))))
    held = {w: np.median(np.bincount(observed.cell[above <= w], minlength=observed.n_cells)) for w in WINDOWS}
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
    """Every cell, and every model size with more than one cell, as sets to leave out."""
    groups = [np.array([c], dtype=np.intp) for c in range(observed.n_cells)]
    sizes = np.unique(observed.params)
    if len(sizes) > 2:
        groups += [np.flatnonzero(observed.params == size) for size in sizes]
    return groups


def _scores(
    observed: Observations,
    surfaces: Mapping[int, ObservedSurface],
    groups: Sequence[Ints],
    fits: Mapping[Choice, SurfaceFit],
) -> Floats | None:
    """(choices,) mean regret on the observed runs of the cells left out, cells and sizes counting alike."""
    predicted = []
    for fit in fits.values():
        x = law_design(observed.params, observed.tokens, fit.centre)
        predicted.append(
            [(x[g] @ law[:4], x[g] @ law[4:8]) for g, law in zip(groups, fit.without_group[:, :8], strict=True)]
        )
    regrets: list[Floats] = []
    for at, group in enumerate(groups):
        for place, cell in enumerate(group):
            if int(cell) in surfaces:
                lr = np.exp([np.clip(p[at][0][place], -40, 40) for p in predicted])
                batch = np.exp([np.clip(p[at][1][place], -40, 60) for p in predicted])
                regrets.append(surfaces[int(cell)].regret(lr, batch).regret)
    if not regrets:
        return None
    mean: Floats = np.maximum(np.mean(regrets, axis=0), 1e-6)
    return mean


def _start(elsewhere: SurfaceFit | None, here: SurfaceFit | None) -> SurfaceFit | None:
    """Where to begin: coefficients may come from a fit of other cells, the noise and scatter only from these.

    Coefficients go to the mode wherever they begin; the variances get a fixed number of updates and would remember.
    """
    if elsewhere is None:
        return here
    noise = NOISE_START if here is None else here.noise
    scatter_var = np.array(SCATTER_START) ** 2 if here is None else here.scatter_var
    return replace(elsewhere, noise=noise, scatter_var=scatter_var)


def _shifted(start: SurfaceFit | None, centre: tuple[float, float]) -> SurfaceFit | None:
    """A start whose constants hold at another centre."""
    if start is None or start.centre == centre:
        return start
    step_n, step_d = centre[0] - start.centre[0], centre[1] - start.centre[1]
    law = start.law.copy()
    for at in (0, 4):
        # curvature is small; its shift is left to the iteration
        law[at] += law[at + 1] * step_n + law[at + 2] * step_d
    return replace(start, law=law, centre=centre)
