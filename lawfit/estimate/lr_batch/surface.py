"""The joint surface: one valley shape, one law for where it lies, fitted to all cells at once.

Log loss of run i in cell c: ``y_i = floor_c + k_c h(log lr_i - a_c, log batch_i - b_c; q_c) + noise``, where the
optimum moves as a power law with deviations that the cells of a size share and small ones of a cell's own: ``a_c =
x_c . law_lr + s_size(c) + e_c`` and likewise ``b_c`` for the batch. ``x_c = (1, n, d, z^2, f)``, ``n = ln params``,
``d = ln tokens`` (centred), ``z = (n + d) / 2`` for curvature, f for a bend where there are few tokens per parameter.
The valley may get steeper or flatter along the horizon, ``k_c = exp(steepness d)``, and is every cell's own: ``q_c = q
+ w_c``. A valley held to be the same everywhere moves optima along its soft direction to make up for what differs.

The estimate is the posterior mode under Gaussian priors on law and shape (weak where the data speak) and a robust
(pseudo-Huber) loss, found by Levenberg-Marquardt; floors and deviations are eliminated cell by cell and size by size
(`elimination`), so a step costs milliseconds and the pieces give every leave-one-size-out estimate for free. The
variances of the deviations are averaged over (`spread`). Everything is plain numpy: a backtest makes hundreds of these
fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError
from lawfit.estimate.numerics import spread
from lawfit.estimate.numerics.elimination import (
    Deviations,
    Eliminated,
    Frame,
    LawPrior,
    OwnValleys,
    ScaleTerms,
    Variances,
    left_out,
    log_marginals,
)
from lawfit.estimate.numerics.law_terms import N_LAW, TERMS, law_design
from lawfit.estimate.numerics.scoring import median
from lawfit.estimate.numerics.shapes import Shape
from lawfit.estimate.observe.observations import Observations
from lawfit.findings import finding

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Valley = tuple[Floats, Floats, Floats, Floats]  # a shape at every row: value, derivatives by u, by v and by q

STEEPNESS_SD: Final = 0.1  # of d ln(steepness) / d ln(tokens)
NOISE_START: Final = 1e-3
NOISE_WEIGHT: Final = 4.0
NOISE_FLOOR: Final = 1e-5
CELL_NOISE_WEIGHT: Final = 10.0  # runs that the typical noise counts for against a cell's own residuals
# A window reaches so many standard deviations of a seed above the lowest run of its cell, which is lucky: of thirty
# runs near the best one lies two below the floor. Of 4 to 12, 8 and more cost least on our own sweep.
WINDOW_PER_SEED_SD: Final = 8.0
_ROBUST: Final = 1.0  # residuals beyond one noise sd count less than squared
_MAX_STEPS: Final = 400  # few are needed, but along the valley of a noisy sweep of one batch size
_ROUNDS: Final = 2  # of the variances
_GAIN: Final = 1e-4  # of the objective, which is in units of squared standard errors: far below any interval
_ROUGH_GAIN: Final = 1e-2  # while the noise is not yet known
_NEAR: Final = 0.02  # standard errors from the mode within which a search has arrived


@dataclass(frozen=True, kw_only=True)
class SurfaceFit:
    """A fitted joint surface. Coefficients are (law of lr, law of batch, shape, steepness)."""

    centre: tuple[float, float]
    scales: tuple[tuple[float, float], ...]  # (params, tokens) of the cells
    law: Floats  # (10,) mean over the plausible spreads
    shape: Floats  # (len q,)
    steepness: float  # d ln(steepness of the valley) / d ln(tokens)
    mode: Floats  # (10 + len q + 1,) for the mean spreads, where the search ended
    shift: Floats  # (cells, 2) of each cell's (ln lr*, ln batch*) from the law: its size's and its own
    size_shift: Floats  # (sizes, 2) the part that all cells of a size share
    floor: Floats  # (cells,) fitted log loss at each cell's optimum
    scatter_var: Floats  # (2,) of a cell's own shift
    size_var: Floats  # (2,) of a size's
    valley_var: float  # of a cell's own valley, in units of `Shape.apart_sd` squared
    own_valley: Floats  # (cells, len q) how each cell's valley differs from the shared one
    freedom: float  # of a Student t that allows for how badly the two are known
    noise: float  # sd of log loss of the typical cell
    noise_of_cells: Floats  # (cells,)
    cov: Floats  # (10 + len q + 1,) squared: inverse information, prior included, averaged over the spreads
    size_cross: Floats  # (sizes, 10, 2) covariance of the law with each size's shift
    size_cov: Floats  # (sizes, 2, 2) of each size's shift
    cell_cov: Floats  # (cells, 2, 2) of each cell's own optimum
    without_group: Floats  # (groups, 10 + len q + 1): the estimate with each group of cells left out
    foretold: tuple[Floats, ...]  # of each group: (its cells, 2) optima foretold from the others
    rows: int
    converged: bool
    gradient_norm: float  # of the objective in units of the coefficients' standard errors
    steps: int

    def optimum(self, params: Floats, tokens: Floats, coefficients: Floats | None = None) -> tuple[Floats, Floats]:
        """(ln lr*, ln batch*) by the law, at arrays of scales; by other `coefficients` (..., >= 10) where given."""
        theta = self.law if coefficients is None else coefficients
        x = law_design(params, tokens, self.centre)
        return theta[..., :TERMS] @ x.T, theta[..., TERMS:N_LAW] @ x.T

    def optima(self, observed: Observations) -> Floats:
        """(cells, 2) fitted (ln lr*, ln batch*) of the cells themselves, their shifts included."""
        return np.column_stack(self.optimum(observed.params, observed.tokens)) + self.shift

    def steep(self, observed: Observations) -> Floats:
        """(cells,) steepness of the valley, 1 at the centre."""
        return np.exp(self.steepness * (np.log(observed.tokens) - self.centre[1]))


def fit_surface(
    observed: Observations,
    shape: Shape,
    window: float,
    prior: LawPrior,
    start: SurfaceFit | None = None,
    groups: Sequence[Ints] = (),
    *,
    same_runs: bool = False,
) -> SurfaceFit:
    """Fit one joint surface to the runs within `window` (in log loss) of their cell's lowest loss.

    `groups` are sets of cells for which the estimate without them is wanted too. `same_runs`: the start is a fit of
    the same shape to the same runs under another prior of the law, whose noise and spread of valleys hold here too.

    Raises
    ------
    FitError
        No run lies inside the window, or the information is singular (a prior without width everywhere).
    """
    problem = _Problem(observed, inside_window(observed, window), shape, prior)
    if start is None or start.law.shape != (N_LAW,) or start.shape.shape != shape.prior_mean.shape:
        theta = problem.frame.mean.copy()
        theta[[0, TERMS]] = problem.start_level(theta)
        var = spread.START
    else:
        theta = np.concatenate([start.law, start.shape, [start.steepness]])
        var = Variances(scatter=start.scatter_var.copy(), size=start.size_var.copy(), valley=start.valley_var)
    noise = NOISE_START if start is None else start.noise
    at = problem.place(theta)
    if start is not None and start.scales == problem.scales:
        own = start.own_valley if start.shape.shape == shape.prior_mean.shape else None
        at = problem.place(theta, (start.size_shift, start.shift), own)
    if start is not None and same_runs:
        return problem.finish(at, problem.valley(at), var, noise, start.noise_of_cells, groups)
    return problem.solve(at, var, noise, groups, known_spread=start is not None)


def inside_window(observed: Observations, window: float) -> NDArray[np.bool_]:
    """(n,) settings that a fit uses: within `window` (in log loss) of their cell's lowest loss.

    A cell so noisy that its lowest run is luck shows its valley only over a wider one.
    """
    widened = np.fmax(window, WINDOW_PER_SEED_SD * observed.seed_sd_of_cells())
    return np.asarray(observed.log_loss <= (observed.lowest_log_loss() + widened)[observed.cell])


# Starts lie this far (ln lr, ln batch) from the fitted level, with exponents off by as much as published laws disagree.
STARTS: Final = ((0.7, 1.0), (-0.7, -1.0), (-0.7, 1.0), (0.7, -1.0))
EXPONENTS_OFF: Final = 0.2


def starts_apart(fit: SurfaceFit, shape: Shape) -> list[Floats]:
    """Law and shape of places far from a fit on all sides, to search from again."""
    starts = []
    for by_lr, by_batch in STARTS:
        law = fit.law.copy()
        law[[0, TERMS]] += by_lr, by_batch
        law[[1, 2, TERMS + 1, TERMS + 2]] += EXPONENTS_OFF * np.sign(by_lr) * np.array([1, -1, -1, 1])
        starts.append(np.concatenate([law, shape.prior_mean]))
    return starts


@dataclass(frozen=True, kw_only=True)
class Ending:
    """Where a search from another place ended, in the objective of a fit (its variances held)."""

    law: Floats  # (10,)
    shape: Floats
    objective: float  # in squared standard errors
    converged: bool


def search_again(
    observed: Observations,
    shape: Shape,
    window: float,
    prior: LawPrior,
    fit: SurfaceFit,
    starts: Sequence[Floats],
    *,
    roughly: bool = False,
) -> list[Ending]:
    """Minimise the objective of a fit once more, first from where it ended, then from `starts` (law and shape each).

    Noise and variances are the fit's, so that all endings belong to one and the same objective. `roughly` ends a
    search a few hundredths of a squared standard error above its minimum, which tells basins apart.
    """
    problem = _Problem(observed, inside_window(observed, window), shape, prior)
    var = Variances(scatter=fit.scatter_var, size=fit.size_var, valley=fit.valley_var)
    enough = _ROUGH_GAIN if roughly else _GAIN / 10
    found = []
    for own, theta in ((True, fit.mode), *((False, np.append(start, 0.0)) for start in starts)):
        at = problem.place(theta, (fit.size_shift, fit.shift) if own else None, fit.own_valley if own else None)
        try:
            at, valley, converged, _ = problem.descend(at, problem.valley(at), var, fit.noise_of_cells, enough)
        except (FitError, np.linalg.LinAlgError):  # from there no step can be computed
            law, q = at.theta[:N_LAW], at.theta[N_LAW:-1]
            found.append(Ending(law=law, shape=q, objective=np.inf, converged=False))
            continue
        value = problem.objective(valley, at, var, fit.noise_of_cells)
        found.append(Ending(law=at.theta[:N_LAW], shape=at.theta[N_LAW:-1], objective=value, converged=converged))
    return found


@dataclass(frozen=True, kw_only=True)
class UnderPrior:
    """A fit had the prior on the spread of sizes been another."""

    prior_scale: float  # times the median of the prior
    law: Floats  # (10,)
    cov: Floats  # (10, 10)
    size_var: Floats  # (2,)
    scatter_var: Floats  # (2,)


def under_other_priors(
    observed: Observations, shape: Shape, window: float, prior: LawPrior, fit: SurfaceFit
) -> list[UnderPrior]:
    """How a fit moves with the prior of the spread of sizes, for each of `spread.PRIOR_SCALES`."""
    problem = _Problem(observed, inside_window(observed, window), shape, prior)
    at = problem.place(fit.mode, (fit.size_shift, fit.shift), fit.own_valley)
    system = _System(problem, problem.valley(at), at, fit.noise_of_cells)
    start = Variances(scatter=fit.scatter_var, size=fit.size_var, valley=fit.valley_var)
    found = []
    for scale in spread.PRIOR_SCALES:
        plausible = problem.weigh(system, start, scale)
        average = _average(system, plausible)
        found.append(
            UnderPrior(
                prior_scale=scale,
                law=(at.theta + average.theta)[:N_LAW],
                cov=average.cov[:N_LAW, :N_LAW],
                size_var=plausible.mean.size,
                scatter_var=plausible.mean.scatter,
            )
        )
    return found


@dataclass(frozen=True, kw_only=True)
class _Place:
    """One point of the search."""

    theta: Floats  # (10 + len q + 1,) law, shape and steepness
    shifts: Deviations
    floor: Floats  # (cells,)
    own: Floats  # (cells, len q) how each cell's valley differs from the shared one

    def moved(self, theta: Floats, shifts: Deviations, own: Floats, floor: Floats, share: float) -> _Place:
        """A share of a step further."""
        scatter, size = self.shifts.scatter + share * shifts.scatter, self.shifts.size + share * shifts.size
        return _Place(
            theta=self.theta + share * theta,
            shifts=Deviations(scatter=scatter, size=size),
            floor=self.floor + share * floor,
            own=self.own + share * own,
        )


class _Problem:
    """The arrays of one fit, and its Levenberg-Marquardt iteration."""

    def __init__(self, observed: Observations, inside: NDArray[np.bool_], shape: Shape, prior: LawPrior) -> None:
        if not inside.any():
            raise FitError(finding("lr_batch.empty_window"))
        self.shape = shape
        self.cell = observed.cell[inside]
        self.x, self.z, self.y = (a[inside] for a in (observed.log_lr, observed.log_batch, observed.log_loss))
        self.seeds = observed.seeds[inside]
        self.first = np.flatnonzero(np.concatenate([[True], np.diff(self.cell) > 0]))
        self.rows_of_cell = [
            slice(int(a), int(b)) for a, b in zip(self.first, [*self.first[1:], len(self.cell)], strict=True)
        ]
        self.n_cells = observed.n_cells
        self.counts = np.bincount(self.cell, minlength=self.n_cells)  # rows, which are sorted by cell
        self.centre = prior.centre
        self.scales = tuple(zip(observed.params.tolist(), observed.tokens.tolist(), strict=True))
        self.columns = np.empty((5 + len(shape.prior_mean), len(self.y)))  # of one system after another
        self.log_tokens = np.log(observed.tokens) - prior.centre[1]
        self.size_prior = spread.ONE_FAMILY if observed.one_family else spread.ANY_SHAPE
        self.frame = _frame(observed, shape, prior)

    def start_level(self, theta: Floats) -> Floats:
        """Constants that put the law through the middle of the better half of each cell's runs."""
        cut = self.medians(self.y)
        good = self.y <= cut[self.cell]
        weight = np.bincount(self.cell[good], minlength=self.n_cells)
        slopes = theta[:TERMS].copy(), theta[TERMS:N_LAW].copy()
        levels = []
        for values, slope in ((self.x, slopes[0]), (self.z, slopes[1])):
            slope[0] = 0.0
            middle = np.bincount(self.cell[good], weights=values[good], minlength=self.n_cells) / weight
            levels.append(float(np.median(middle - self.frame.design @ slope)))
        return np.array(levels)

    def each_row(self, of_cells: Floats) -> Floats:
        return np.repeat(of_cells, self.counts, axis=-1)

    def medians(self, of_rows: Floats) -> Floats:
        """(cells with rows,) medians."""
        return np.array([median(of_rows[rows]) for rows in self.rows_of_cell])

    def place(self, theta: Floats, shifts: tuple[Floats, Floats] | None = None, own: Floats | None = None) -> _Place:
        """The point with these coefficients (and shifts of sizes and of cells), floors through the middle."""
        sizes = int(self.frame.size_of_scale[-1]) + 1
        size, total = shifts if shifts is not None else (np.zeros((sizes, 2)), np.zeros((self.n_cells, 2)))
        deviations = Deviations(scatter=total - size[self.frame.size_of_scale], size=size)
        own = np.zeros((self.n_cells, len(self.shape.prior_mean))) if own is None else own
        at = _Place(theta=theta, shifts=deviations, floor=np.zeros(self.n_cells), own=own)
        return replace(at, floor=self.medians(self.y - self.valley(at)[0]))

    def optima(self, at: _Place) -> tuple[Floats, Floats]:
        """(ln lr*, ln batch*) of every cell."""
        total = at.shifts.scatter + at.shifts.size[self.frame.size_of_scale]
        x = self.frame.design
        return x @ at.theta[:TERMS] + total[:, 0], x @ at.theta[TERMS:N_LAW] + total[:, 1]

    def valley(self, at: _Place) -> Valley:
        """The valley at every row, with its derivatives; the last one is by the steepness."""
        a, b = self.optima(at)
        u, v = self.x - self.each_row(a), self.z - self.each_row(b)
        q = at.theta[N_LAW:-1]
        h, by_u, by_v, by_q = self.shape(u, v, self.each_row(q[:, None] + at.own.T))
        log_tokens = self.each_row(self.log_tokens)
        steep = np.exp(at.theta[-1] * log_tokens)
        h = h * steep
        return h, by_u * steep, by_v * steep, np.concatenate([by_q * steep, (log_tokens * h)[None]])

    def objective(self, valley: Valley, at: _Place, var: Variances, noise: Floats) -> float:
        r = (self.y - valley[0] - self.each_row(at.floor)) / self.each_row(noise)
        robust = 2 * _ROBUST**2 * (np.sqrt(1 + (r / _ROBUST) ** 2) - 1)
        off = at.theta - self.frame.mean
        shifts = (at.shifts.scatter**2 / var.scatter).sum() + (at.shifts.size**2 / var.size).sum()
        valleys = ((at.own / self.shape.apart_sd) ** 2).sum() / var.valley
        return float(self.seeds @ robust + off @ self.frame.precision @ off + shifts + valleys)

    def solve(
        self, at: _Place, var: Variances, typical: float, groups: Sequence[Ints], *, known_spread: bool
    ) -> SurfaceFit:
        """Search, with the variances of a neighbouring fit where there is one, and average over those of this one."""
        noise = np.full(self.n_cells, typical)
        valley = self.valley(at)
        steps = 0
        for round_ in range(_ROUNDS):
            at, valley, _, taken = self.descend(at, valley, var, noise, _ROUGH_GAIN)
            steps += taken
            system = _System(self, valley, at, noise)
            if round_ and not known_spread:  # once the noise is known
                var = self.weigh_all(system, var)
            typical, noise = self._updated_noise(valley, at.floor, system.given(var))
        var = self.weigh_all(_System(self, valley, at, noise), var)
        found = self.finish(at, valley, var, typical, noise, groups)
        return replace(found, steps=found.steps + steps)

    def finish(
        self, at: _Place, valley: Valley, var: Variances, typical: float, noise: Floats, groups: Sequence[Ints]
    ) -> SurfaceFit:
        """Search with noise and spread of valleys known, and average over that of places, of which `var` is near."""
        steps = 0
        for enough in (_GAIN, _GAIN / 100, _GAIN / 10_000):
            at, valley, converged, taken = self.descend(at, valley, var, noise, enough)
            steps += taken
            system = _System(self, valley, at, noise)
            if system.given(var).gradient_norm() < _NEAR:
                converged = True
                break  # else small gains of damped steps, as along a valley that hardly slopes
        plausible = self.weigh(system, var)
        without, foretold = left_out(system.given(var), groups)
        average = _average(system, plausible)
        size_shift = at.shifts.size + average.shifts.size
        law = at.theta + average.theta
        return SurfaceFit(
            centre=self.centre,
            scales=self.scales,
            law=law[:N_LAW],
            shape=law[N_LAW:-1],
            steepness=float(law[-1]),
            mode=at.theta,
            shift=at.shifts.scatter + average.shifts.scatter + size_shift[self.frame.size_of_scale],
            size_shift=size_shift,
            floor=at.floor,
            scatter_var=plausible.mean.scatter,
            size_var=plausible.mean.size,
            valley_var=plausible.mean.valley,
            own_valley=at.own,
            freedom=plausible.freedom(),
            noise=typical,
            noise_of_cells=noise,
            cov=average.cov,
            size_cross=average.size_cross,
            size_cov=average.size_cov,
            cell_cov=average.cell_cov,
            without_group=without,
            foretold=foretold,
            rows=len(self.y),
            converged=converged,
            gradient_norm=system.given(var).gradient_norm(),
            steps=steps,
        )

    def weigh(self, system: _System, var: Variances, prior_scale: float = 1.0) -> spread.Spread:
        """The posterior of the variances of places at a point, those of `var` being the first guess."""

        def log_marginals(scatter_vars: Floats, size_vars: Floats) -> Floats:
            return system.log_marginals(scatter_vars, size_vars, var.valley)

        return spread.weigh_spreads(log_marginals, var, self.size_prior, prior_scale=prior_scale)

    def weigh_all(self, system: _System, var: Variances) -> Variances:
        """The mean variances of valleys and places at a point."""
        valley = spread.weigh_valleys(lambda valley: system.log_density(replace(var, valley=valley)))
        return self.weigh(system, replace(var, valley=valley)).mean

    def descend(
        self, at: _Place, valley: Valley, var: Variances, noise: Floats, enough: float
    ) -> tuple[_Place, Valley, bool, int]:
        """Levenberg-Marquardt with the variances held, until a step gains no more than `enough`.

        Returns the place, the valley there, whether it converged, and the steps taken.
        """
        current, damping = self.objective(valley, at, var, noise), 1e-3
        for taken in range(_MAX_STEPS):
            system = _System(self, valley, at, noise)
            given = system.given(var)
            for _ in range(10):
                step, shifts = given.step(damping)
                own = system.own_step(step, shifts, var)
                # deviations and floors are not damped: where they lead uphill, less of the whole step goes down
                trial = at.moved(step, shifts, own, system.floor_step(step, shifts, own), 1 / (1 + damping))
                there = self.valley(trial)
                value = self.objective(there, trial, var, noise)
                if np.isfinite(value) and value <= current + 1e-10:
                    break
                damping = max(damping * 8, 1e-6)
            else:
                # no downhill step is left; whether that is the minimum is for the gradient to say
                return at, valley, given.gradient_norm() < 1e-2, taken
            gain = current - value
            at, valley, current = trial, there, value
            damping = max(damping / 10, 1e-9)
            if gain < enough:
                return at, valley, True, taken + 1
        return at, valley, False, _MAX_STEPS

    def _updated_noise(self, valley: Valley, floor: Floats, given: Eliminated) -> tuple[float, Floats]:
        """The typical noise, and each cell's own, pulled towards it."""
        r = np.abs(self.y - valley[0] - self.each_row(floor)) * np.sqrt(self.seeds)
        used = self.n_cells + float(np.trace(given.covariance @ given.runs_information))
        dof = max(len(r) - used, 0.2 * len(r))
        spread_ = (1.4826 * median(r)) ** 2 * len(r) / dof
        variance = (NOISE_WEIGHT * NOISE_START**2 + dof * spread_) / (NOISE_WEIGHT + dof)
        squares = self.medians(r) ** 2 * 1.4826**2
        own = (CELL_NOISE_WEIGHT * variance + self.counts * squares * len(r) / dof) / (CELL_NOISE_WEIGHT + self.counts)
        return max(float(np.sqrt(variance)), NOISE_FLOOR), np.maximum(np.sqrt(own), NOISE_FLOOR)


def _frame(observed: Observations, shape: Shape, prior: LawPrior) -> Frame:
    q_prior = np.append(1.0 / shape.prior_sd**2, 1.0 / STEEPNESS_SD**2)
    size = N_LAW + len(q_prior)
    precision = np.zeros((size, size))
    precision[:N_LAW, :N_LAW] = prior.precision
    precision[np.arange(N_LAW, size), np.arange(N_LAW, size)] = q_prior
    doubt = precision.copy()
    doubt[:N_LAW, :N_LAW] = prior.doubt
    return Frame(
        design=law_design(observed.params, observed.tokens, prior.centre),
        size_of_scale=observed.size_of_cell(),
        mean=np.concatenate([prior.mean, shape.prior_mean, [0.0]]),
        precision=precision,
        doubt=doubt,
    )


class _System:
    """What the runs say around one point, cell by cell, floors averaged over."""

    def __init__(self, problem: _Problem, valley: Valley, at: _Place, noise: Floats) -> None:
        self.problem, self.at = problem, at
        self._own_valleys: dict[float, OwnValleys] = {}
        h, by_u, by_v, by_q = valley
        e = problem.y - h - problem.each_row(at.floor)
        sd = problem.each_row(noise)
        root = np.sqrt(problem.seeds / np.sqrt(1 + (e / sd / _ROBUST) ** 2)) / sd  # of the weight
        columns = problem.columns
        columns[0] = root
        np.multiply(by_u, -root, out=columns[1])
        np.multiply(by_v, -root, out=columns[2])
        np.multiply(by_q, root, out=columns[3:-1])
        np.multiply(e, root, out=columns[-1])
        gram = np.stack([columns[:, rows] @ columns[:, rows].T for rows in problem.rows_of_cell])
        self.by_floor = gram[:, 0, :] / gram[:, 0, :1]  # what floors do to make up for the rest
        free = gram[:, 1:, 1:] - gram[:, 0, 1:, None] * self.by_floor[:, None, 1:]
        self.terms = ScaleTerms(information=free[:, :-1, :-1], gradient=free[:, :-1, -1])

    def own_valleys(self, valley_var: float) -> OwnValleys:
        if valley_var not in self._own_valleys:
            var = valley_var * self.problem.shape.apart_sd**2
            self._own_valleys[valley_var] = OwnValleys(self.terms, self.at.own, var)
        return self._own_valleys[valley_var]

    def given(self, var: Variances) -> Eliminated:
        terms = self.own_valleys(var.valley).averaged
        return Eliminated(self.problem.frame, terms, self.at.theta, self.at.shifts, var)

    def log_marginals(self, scatter_vars: Floats, size_vars: Floats, valley_var: float) -> Floats:
        frame, at = self.problem.frame, self.at
        terms = self.own_valleys(valley_var).averaged
        return log_marginals(frame, terms, at.theta, at.shifts, scatter_vars, size_vars)

    def log_density(self, var: Variances) -> float:
        """Of the runs, up to a constant, all deviations averaged over."""
        of_valleys = -0.5 * self.own_valleys(var.valley).misfit
        return float(self.log_marginals(var.scatter[None], var.size[None], var.valley)[0, 0]) + of_valleys

    def place_step(self, step: Floats, shifts: Deviations) -> Floats:
        """(cells, 2) by which optima move."""
        frame = self.problem.frame
        total = shifts.scatter + shifts.size[frame.size_of_scale]
        return total + np.column_stack([frame.design @ step[:TERMS], frame.design @ step[TERMS:N_LAW]])

    def own_step(self, step: Floats, shifts: Deviations, var: Variances) -> Floats:
        """(cells, len q) by which each cell's valley follows a step."""
        place = self.place_step(step, shifts)
        moved = np.column_stack([place, np.tile(step[N_LAW:], (len(place), 1))])
        return self.own_valleys(var.valley).step(moved)

    def floor_step(self, step: Floats, shifts: Deviations, own: Floats) -> Floats:
        """Floors that follow a step."""
        place = self.place_step(step, shifts)
        moved = (self.by_floor[:, 1:3] * place).sum(axis=1) + self.by_floor[:, 3:-1] @ step[N_LAW:]
        moved += (self.by_floor[:, 3:-2] * own).sum(axis=1)
        return np.asarray(self.by_floor[:, -1] - moved)


@dataclass(frozen=True, kw_only=True)
class _Average:
    """Moments over plausible spreads, as steps from the point where the system was made."""

    theta: Floats
    shifts: Deviations
    cov: Floats
    size_cross: Floats
    size_cov: Floats
    cell_cov: Floats


def _average(system: _System, plausible: spread.Spread) -> _Average:
    each = [system.given(var) for var in plausible.draws]
    steps = [given.step() for given in each]
    thetas = np.array([theta for theta, _ in steps])
    sizes = np.array([shifts.size for _, shifts in steps])
    own = np.array([shifts.scatter for _, shifts in steps])
    index = system.problem.frame.size_of_scale
    x = system.problem.frame.design
    law = np.stack([thetas[:, :TERMS] @ x.T, thetas[:, TERMS:N_LAW] @ x.T], axis=2)
    places = law + sizes[:, index] + own
    covs = [given.doubtful_covariance for given in each]
    of_sizes = [given.of_sizes(cov) for given, cov in zip(each, covs, strict=True)]
    of_cells = [given.of_scales(cov) for given, cov in zip(each, covs, strict=True)]
    apart, size_apart, place_apart = thetas - thetas.mean(0), sizes - sizes.mean(0), places - places.mean(0)
    count = len(each)
    return _Average(
        theta=thetas.mean(0),
        shifts=Deviations(scatter=own.mean(0), size=sizes.mean(0)),
        cov=np.mean(covs, axis=0) + apart.T @ apart / count,
        size_cross=np.mean([cross for cross, _ in of_sizes], axis=0)
        + np.einsum("mi,mkj->kij", apart[:, :N_LAW], size_apart) / count,
        size_cov=np.mean([cov for _, cov in of_sizes], axis=0)
        + np.einsum("mki,mkj->kij", size_apart, size_apart) / count,
        cell_cov=np.mean(of_cells, axis=0) + np.einsum("mci,mcj->cij", place_apart, place_apart) / count,
    )
