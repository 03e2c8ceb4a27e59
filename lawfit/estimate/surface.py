"""The joint surface: one valley shape, one law for where it lies, fitted to all cells at once.

Log loss of run i in cell c: ``y_i = floor_c + h(log lr_i - a_c, log batch_i - b_c; q) + noise``, where the optimum
moves as a power law with a small scatter of its own per cell: ``a_c = x_c . law_lr + s_c``, ``b_c = x_c . law_batch +
t_c``, ``x_c = (1, n, d, z^2)``, ``n = ln params``, ``d = ln tokens`` (centred), ``z = (n + d) / 2`` for curvature.

The estimate is the posterior mode under Gaussian priors on law and shape (weak where the data speak) and a robust
(pseudo-Huber) loss, found by Levenberg-Marquardt; floors and scatter are eliminated cell by cell (Schur complement),
so a step costs milliseconds and the per-cell pieces give every leave-one-cell-out estimate for free. Scatter variances
are updated by EM. Everything is plain numpy: a backtest makes hundreds of these fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError
from lawfit.estimate.observations import Observations
from lawfit.estimate.scoring import median
from lawfit.estimate.shapes import Shape

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Valley = tuple[Floats, Floats, Floats, Floats]  # a shape at every row: value, derivatives by u, by v and by q

LAW_TERMS: Final = ("const", "params", "tokens", "curvature")
N_LAW: Final = 2 * len(LAW_TERMS)
# Scatter of a scale's own optimum around the law before the data speak, in ln lr and ln batch; worth two cells.
SCATTER_START: Final = (0.05, 0.08)
SCATTER_WEIGHT: Final = 2.0
NOISE_START: Final = 1e-3
NOISE_WEIGHT: Final = 4.0
NOISE_FLOOR: Final = 1e-5
CELL_NOISE_WEIGHT: Final = 10.0  # runs that the typical noise counts for against a cell's own residuals
WINDOW_PER_SEED_SD: Final = 4.0
_ROBUST: Final = 1.0  # residuals beyond one noise sd count less than squared
_MAX_STEPS: Final = 60
_EM_ROUNDS: Final = 3
_GAIN: Final = 1e-4  # of the objective, which is in units of squared standard errors: far below any interval
_NEAR: Final = 0.02  # standard errors from the mode within which a search has arrived


@dataclass(frozen=True, kw_only=True)
class LawPrior:
    """Gaussian prior on the eight law coefficients: (lr, batch) x (const, params, tokens, curvature)."""

    mean: Floats  # (8,)
    precision: Floats  # (8, 8) that the estimate feels
    doubt: (
        Floats  # (8, 8) that the covariance is computed with: a straight law may be estimated and a bend still feared
    )
    centre: tuple[float, float]  # (ln params, ln tokens) at which the constants hold


@dataclass(frozen=True, kw_only=True)
class SurfaceFit:
    """A fitted joint surface."""

    centre: tuple[float, float]
    law: Floats  # (8,)
    shape: Floats  # (len q,)
    scatter: Floats  # (cells, 2) each cell's own shift of (ln lr*, ln batch*)
    floor: Floats  # (cells,) fitted log loss at each cell's optimum
    scatter_var: Floats  # (2,)
    noise: float  # sd of log loss of the typical cell
    noise_of_cells: Floats  # (cells,)
    cov: Floats  # (8 + len q,) squared: inverse information, prior included
    without_group: Floats  # (groups, 8 + len q): the estimate with each group of cells left out
    rows: int
    converged: bool
    gradient_norm: float  # of the objective in units of the coefficients' standard errors
    steps: int

    def optimum(self, params: Floats, tokens: Floats, coefficients: Floats | None = None) -> tuple[Floats, Floats]:
        """(ln lr*, ln batch*) by the law, at arrays of scales; by other `coefficients` (..., >= 8) where given."""
        theta = self.law if coefficients is None else coefficients
        x = law_design(params, tokens, self.centre)
        half = len(LAW_TERMS)
        return theta[..., :half] @ x.T, theta[..., half:N_LAW] @ x.T


def law_design(params: Floats, tokens: Floats, centre: tuple[float, float]) -> Floats:
    """(scales, 4): 1, n, d and z^2 of each scale."""
    n = np.log(np.atleast_1d(params)) - centre[0]
    d = np.log(np.atleast_1d(tokens)) - centre[1]
    return np.column_stack([np.ones_like(n), n, d, ((n + d) / 2) ** 2])


def fit_surface(
    observed: Observations,
    shape: Shape,
    window: float,
    prior: LawPrior,
    start: SurfaceFit | None = None,
    groups: Sequence[Ints] = (),
) -> SurfaceFit:
    """Fit one joint surface to the runs within `window` (in log loss) of their cell's lowest loss.

    `groups` are sets of cells for which the estimate without them is wanted too.

    Raises
    ------
    FitError
        No run lies inside the window, or the information is singular (a prior without width everywhere).
    """
    problem = _Problem(observed, inside_window(observed, window), shape, prior)
    if start is None or start.law.shape != (N_LAW,) or start.shape.shape != shape.prior_mean.shape:
        theta = np.concatenate([prior.mean, shape.prior_mean])
        theta[[0, 4]] = problem.start_level(theta)
        scatter_var = np.array(SCATTER_START) ** 2
    else:
        theta = np.concatenate([start.law, start.shape])
        scatter_var = start.scatter_var.copy()
    noise = NOISE_START if start is None else start.noise
    return problem.solve(theta, scatter_var, noise, groups)


def inside_window(observed: Observations, window: float) -> NDArray[np.bool_]:
    """(n,) settings that a fit uses: within `window` (in log loss) of their cell's lowest loss.

    A cell so noisy that its lowest run is luck shows its valley only over a wider one.
    """
    widened = np.fmax(window, WINDOW_PER_SEED_SD * observed.seed_sd_of_cells())
    return np.asarray(observed.log_loss <= (observed.lowest_log_loss() + widened)[observed.cell])


@dataclass(frozen=True, kw_only=True)
class Ending:
    """Where a search from another place ended, in the objective of a fit (its variances held)."""

    law: Floats  # (8,)
    shape: Floats
    objective: float  # in squared standard errors
    converged: bool


def search_again(
    observed: Observations, shape: Shape, window: float, prior: LawPrior, fit: SurfaceFit, starts: Sequence[Floats]
) -> list[Ending]:
    """Minimise the objective of a fit once more, first from where it ended, then from `starts` (law and shape each).

    Noise and scatter variances are the fit's, so that all endings belong to one and the same objective.
    """
    problem = _Problem(observed, inside_window(observed, window), shape, prior)
    own = np.concatenate([fit.law, fit.shape])
    found = []
    for theta in (own, *starts):
        scatter = fit.scatter if theta is own else np.zeros_like(fit.scatter)
        valley = problem.valley(theta, scatter)
        floor = fit.floor if theta is own else problem.medians(problem.y - valley[0])
        at = _Place(theta=theta, scatter=scatter, floor=floor)
        try:
            at, valley, converged, _, _ = problem.descend(at, valley, fit.scatter_var, fit.noise_of_cells, _GAIN / 10)
        except (FitError, np.linalg.LinAlgError):  # from there no step can be computed
            found.append(Ending(law=at.theta[:N_LAW], shape=at.theta[N_LAW:], objective=np.inf, converged=False))
            continue
        value = problem.objective(valley, at.theta, at.scatter, at.floor, fit.scatter_var, fit.noise_of_cells)
        found.append(Ending(law=at.theta[:N_LAW], shape=at.theta[N_LAW:], objective=value, converged=converged))
    return found


@dataclass(frozen=True, kw_only=True)
class _Place:
    """One point of the search."""

    theta: Floats  # (8 + len q,) law and shape
    scatter: Floats  # (cells, 2)
    floor: Floats  # (cells,)


class _Problem:
    """The arrays of one fit, and its Levenberg-Marquardt iteration."""

    def __init__(self, observed: Observations, inside: NDArray[np.bool_], shape: Shape, prior: LawPrior) -> None:
        if not inside.any():
            raise FitError("no run lies inside the window of the fit")
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
        self.design = law_design(observed.params, observed.tokens, prior.centre)
        self.columns = np.empty((4 + len(shape.prior_mean), len(self.y)))  # of one system after another
        q_prior = 1.0 / shape.prior_sd**2
        self.size = N_LAW + len(q_prior)
        self.precision = np.zeros((self.size, self.size))
        self.precision[:N_LAW, :N_LAW] = prior.precision
        self.precision[np.arange(N_LAW, self.size), np.arange(N_LAW, self.size)] = q_prior
        self.doubt = self.precision.copy()
        self.doubt[:N_LAW, :N_LAW] = prior.doubt
        self.mean = np.concatenate([prior.mean, shape.prior_mean])

    def start_level(self, theta: Floats) -> Floats:
        """Constants that put the law through the middle of the better half of each cell's runs."""
        cut = self.medians(self.y)
        good = self.y <= cut[self.cell]
        weight = np.bincount(self.cell[good], minlength=self.n_cells)
        half = len(LAW_TERMS)
        slopes = theta[:half].copy(), theta[half:N_LAW].copy()
        levels = []
        for values, slope in ((self.x, slopes[0]), (self.z, slopes[1])):
            slope[0] = 0.0
            middle = np.bincount(self.cell[good], weights=values[good], minlength=self.n_cells) / weight
            levels.append(float(np.median(middle - self.design @ slope)))
        return np.array(levels)

    def each_row(self, of_cells: Floats) -> Floats:
        return np.repeat(of_cells, self.counts)

    def medians(self, of_rows: Floats) -> Floats:
        """(cells with rows,) medians."""
        return np.array([median(of_rows[rows]) for rows in self.rows_of_cell])

    def displacements(self, theta: Floats, scatter: Floats) -> tuple[Floats, Floats]:
        """(u, v) of every row from its cell's optimum."""
        half = len(LAW_TERMS)
        a = self.design @ theta[:half] + scatter[:, 0]
        b = self.design @ theta[half:N_LAW] + scatter[:, 1]
        return self.x - self.each_row(a), self.z - self.each_row(b)

    def valley(self, theta: Floats, scatter: Floats) -> Valley:
        """The shape at every row, with its derivatives."""
        return self.shape(*self.displacements(theta, scatter), theta[N_LAW:])

    def objective(
        self, valley: Valley, theta: Floats, scatter: Floats, floor: Floats, var: Floats, noise: Floats
    ) -> float:
        r = (self.y - valley[0] - self.each_row(floor)) / self.each_row(noise)
        robust = 2 * _ROBUST**2 * (np.sqrt(1 + (r / _ROBUST) ** 2) - 1)
        off = theta - self.mean
        return float(self.seeds @ robust + off @ self.precision @ off + (scatter**2 / var).sum())

    def solve(self, theta: Floats, scatter_var: Floats, typical: float, groups: Sequence[Ints]) -> SurfaceFit:
        noise = np.full(self.n_cells, typical)
        scatter = np.zeros((self.n_cells, 2))
        valley = self.valley(theta, scatter)
        floor = self.medians(self.y - valley[0])
        at = _Place(theta=theta, scatter=scatter, floor=floor)
        steps, damping, converged = 0, 1e-3, False
        for round_ in range(_EM_ROUNDS):
            enough = _GAIN if round_ == _EM_ROUNDS - 1 else 10 * _GAIN
            at, valley, converged, taken, damping = self.descend(at, valley, scatter_var, noise, enough, damping)
            theta, scatter, floor = at.theta, at.scatter, at.floor
            steps += taken
            if round_ < _EM_ROUNDS - 1:
                system = _System(self, valley, theta, scatter, floor, scatter_var, noise)
                scatter_var = system.updated_scatter_var()
                typical, noise = self._updated_noise(valley, floor, system)
        system = _System(self, valley, theta, scatter, floor, scatter_var, noise)
        if system.gradient_norm() > _NEAR:  # small gains of damped steps, as along a valley that hardly slopes
            at, valley, converged, taken, _ = self.descend(at, valley, scatter_var, noise, _GAIN / 100, damping)
            theta, scatter, floor = at.theta, at.scatter, at.floor
            steps += taken
            system = _System(self, valley, theta, scatter, floor, scatter_var, noise)
        return SurfaceFit(
            centre=self.centre,
            law=theta[:N_LAW],
            shape=theta[N_LAW:],
            scatter=scatter,
            floor=floor,
            scatter_var=scatter_var,
            noise=typical,
            noise_of_cells=noise,
            cov=system.doubtful_covariance(),
            without_group=system.leave_out(groups),
            rows=len(self.y),
            converged=converged,
            gradient_norm=system.gradient_norm(),
            steps=steps,
        )

    def descend(
        self, at: _Place, valley: Valley, var: Floats, noise: Floats, enough: float, damping: float = 1e-3
    ) -> tuple[_Place, Valley, bool, int, float]:
        """Levenberg-Marquardt with the variances held, until a step gains no more than `enough`.

        Returns the place, the valley there, whether it converged, the steps taken, and the last damping.
        """
        current = self.objective(valley, at.theta, at.scatter, at.floor, var, noise)
        for taken in range(_MAX_STEPS):
            system = _System(self, valley, at.theta, at.scatter, at.floor, var, noise)
            for _ in range(10):
                step, local = system.step(damping)
                trial = _Place(theta=at.theta + step, scatter=at.scatter + local[:, 1:], floor=at.floor + local[:, 0])
                there = self.valley(trial.theta, trial.scatter)
                value = self.objective(there, trial.theta, trial.scatter, trial.floor, var, noise)
                if np.isfinite(value) and value <= current + 1e-10:
                    break
                damping = max(damping * 8, 1e-6)
            else:
                # no downhill step is left; whether that is the minimum is for the gradient to say
                return at, valley, system.gradient_norm() < 1e-2, taken, damping
            gain = current - value
            at, valley, current = trial, there, value
            damping = max(damping / 10, 1e-9)
            if gain < enough:
                return at, valley, True, taken + 1, damping
        return at, valley, False, _MAX_STEPS, damping

    def _updated_noise(self, valley: Valley, floor: Floats, system: _System) -> tuple[float, Floats]:
        """The typical noise, and each cell's own, pulled towards it."""
        r = np.abs(self.y - valley[0] - self.each_row(floor)) * np.sqrt(self.seeds)
        used = self.n_cells + float(np.trace(system.covariance() @ (system.information - self.precision)))
        dof = max(len(r) - used, 0.2 * len(r))
        spread = (1.4826 * median(r)) ** 2 * len(r) / dof
        variance = (NOISE_WEIGHT * NOISE_START**2 + dof * spread) / (NOISE_WEIGHT + dof)
        squares = self.medians(r) ** 2 * 1.4826**2
        own = (CELL_NOISE_WEIGHT * variance + self.counts * squares * len(r) / dof) / (CELL_NOISE_WEIGHT + self.counts)
        return max(float(np.sqrt(variance)), NOISE_FLOOR), np.maximum(np.sqrt(own), NOISE_FLOOR)


class _System:
    """Normal equations at one point: per-cell blocks (floor, scatter) eliminated, law and shape left."""

    def __init__(
        self,
        problem: _Problem,
        valley: Valley,
        theta: Floats,
        scatter: Floats,
        floor: Floats,
        var: Floats,
        noise: Floats,
    ) -> None:
        self.problem, self.theta, self.scatter, self.var = problem, theta, scatter, var
        h, by_u, by_v, by_q = valley
        e = problem.y - h - problem.each_row(floor)
        sd = problem.each_row(noise)
        root = np.sqrt(problem.seeds / np.sqrt(1 + (e / sd / _ROBUST) ** 2)) / sd  # of the weight
        columns = problem.columns
        columns[0] = root
        np.multiply(by_u, -root, out=columns[1])
        np.multiply(by_v, -root, out=columns[2])
        np.multiply(by_q, root, out=columns[3:-1])
        np.multiply(e, root, out=columns[-1])
        gram = np.stack([columns[:, rows] @ columns[:, rows].T for rows in problem.rows_of_cell])
        x = problem.design
        # columns of the law are the columns of scatter times the design row: da_c/dlaw = x_c
        local = gram[:, :3, :3].copy()
        local[:, [1, 2], [1, 2]] += 1 / var
        local_gradient = gram[:, :3, -1].copy()
        local_gradient[:, 1:] -= scatter / var
        spread = np.concatenate([gram[:, 1:2, :] * x[:, :, None], gram[:, 2:3, :] * x[:, :, None], gram[:, 3:-1, :]], 1)
        self.spread = spread
        cross = spread[:, :, :3].transpose(0, 2, 1)  # (cells, 3, size)
        self.local_inverse = np.linalg.inv(local)
        self.eliminate = self.local_inverse @ cross  # (cells, 3, size)
        self.local_step = np.einsum("cij,cj->ci", self.local_inverse, local_gradient)
        # sums over cells as products of matrices: a step needs no cell's own part
        half = [spread[:, :, 1].T @ x, spread[:, :, 2].T @ x, spread[:, :, 3:-1].sum(axis=0)]
        flat = cross.reshape(-1, problem.size)
        eliminated = flat.T @ self.eliminate.reshape(-1, problem.size)
        self.information = np.concatenate(half, axis=1) - eliminated + problem.precision
        reduced = spread[:, :, -1].sum(axis=0) - flat.T @ self.local_step.ravel()
        self.gradient = reduced - problem.precision @ (theta - problem.mean)
        self._covariance: Floats | None = None

    def step(self, damping: float) -> tuple[Floats, Floats]:
        damped = self.information + damping * np.diag(np.diag(self.information))
        step = np.asarray(np.linalg.solve(damped, self.gradient))
        return step, self.local_step - np.einsum("cik,k->ci", self.eliminate, step)

    def covariance(self) -> Floats:
        if self._covariance is None:
            try:
                self._covariance = np.linalg.inv(self.information)
            except np.linalg.LinAlgError:
                raise FitError("the runs and the prior leave a coefficient without any width") from None
        return self._covariance

    def doubtful_covariance(self) -> Floats:
        """Inverse information with the precision of doubt in place of the one that the estimate felt."""
        covariance: Floats = np.linalg.inv(self.information - self.problem.precision + self.problem.doubt)
        return covariance

    def gradient_norm(self) -> float:
        """Length of the Newton step in standard errors: 0 at the mode."""
        return float(np.sqrt(max(self.gradient @ self.covariance() @ self.gradient, 0.0)))

    def updated_scatter_var(self) -> Floats:
        start = np.array(SCATTER_START) ** 2
        width = self.local_inverse + self.eliminate @ self.covariance() @ self.eliminate.transpose(0, 2, 1)
        moments = (self.scatter**2 + width[:, [1, 2], [1, 2]]).sum(axis=0)
        updated: Floats = (SCATTER_WEIGHT * start + moments) / (SCATTER_WEIGHT + self.problem.n_cells)
        return updated

    def leave_out(self, groups: Sequence[Ints]) -> Floats:
        """One Newton step from the mode without each group of cells: exact where the objective is quadratic."""
        if not groups:
            return np.empty((0, self.problem.size))
        spread, x = self.spread, self.problem.design[:, None, :]
        block = np.concatenate([spread[:, :, 1:2] * x, spread[:, :, 2:3] * x, spread[:, :, 3:-1]], axis=2)
        of_cells = block - spread[:, :, :3] @ self.eliminate
        reduced = spread[:, :, -1] - np.einsum("cki,ci->ck", spread[:, :, :3], self.local_step)
        information = np.stack([of_cells[g].sum(axis=0) for g in groups])
        gradient = np.stack([reduced[g].sum(axis=0) for g in groups])
        step = np.linalg.solve(self.information - information, (self.gradient - gradient)[:, :, None])[:, :, 0]
        left: Floats = self.theta + step
        return left
