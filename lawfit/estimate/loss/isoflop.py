"""The IsoFLOP route to the compute-optimal size: a profile per budget, its minimum, and a line through the minima.

It needs no global form of the loss (approach 2 of arXiv 2203.15556): at one budget ln loss is close to a parabola in
ln params, whose lowest point is the best size of that budget. So it stands beside what the forms of a loss law say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import NotEnoughData
from lawfit.estimate.loss.result import FormDraws
from lawfit.estimate.numerics.quantiles import student_quantile
from lawfit.findings import finding

Floats = NDArray[np.float64]

ONE_BUDGET: Final = 0.02  # decades of compute between neighbours that still are one budget
WIDEST: Final = 0.12  # decades that a budget may span altogether: those read off a figure scatter
CONTRAST: Final = 2.0  # times as many runs as the mean density of runs along compute would put there
FEWEST_SIZES: Final = 5
SPAN: Final = 2.0  # ln of loss is a parabola within this many e-folds of the best size, hardly beyond (cubics part)
FEWEST_BUDGETS: Final = 3
# What a parabola and a straight law leave out, as sds around nought. The third derivative of an additive law along a
# budget, over its second, is beta - alpha; and exponents that move with size or settings that get better bend the line.
SKEW: Final = 0.25
BEND: Final = 0.003  # of ln params per squared ln of compute
ISOFLOP: Final = "isoflop"  # the route among forms


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One budget."""

    flops: float
    sizes: int
    params: float  # of the lowest loss
    log_sd: float  # of ln params
    freedom: int  # of the noise that the sd rests on

    def interval(self, level: float) -> tuple[float, float]:
        factor = float(np.exp(student_quantile(0.5 + level / 2, self.freedom) * self.log_sd))
        return self.params / factor, self.params * factor


@dataclass(frozen=True, kw_only=True)
class IsoFlop:
    """``ln params* = log_params + exponent x + bend x^2``, ``x = ln(flops / flops_centre)``, through the minima."""

    profiles: tuple[Profile, ...]
    left_out: int  # budgets whose profile has no minimum inside its sizes
    log_flops: float  # centre
    theta: tuple[float, float, float]  # level, exponent, bend
    covariance: tuple[tuple[float, float, float], ...]
    freedom: int

    def at(self, flops: float, level: float) -> tuple[float, float, float]:
        """Best size of a budget, with the ends of its interval."""
        x = np.log(flops) - self.log_flops
        middle, low, high = self._interval(np.array([1.0, x, x**2]), level)
        return float(np.exp(middle)), float(np.exp(low)), float(np.exp(high))

    def exponent(self, flops: float, level: float) -> tuple[float, float, float]:
        """How the best size moves with compute around a budget, with the ends of its interval."""
        return self._interval(np.array([0.0, 1.0, 2 * (np.log(flops) - self.log_flops)]), level)

    def _interval(self, x: Floats, level: float) -> tuple[float, float, float]:
        middle = float(x @ np.array(self.theta))
        half = student_quantile(0.5 + level / 2, self.freedom) * float(np.sqrt(x @ np.array(self.covariance) @ x))
        return middle, middle - half, middle + half

    def draws(self, count: int, rng: np.random.Generator) -> Floats:
        """(count, 3) levels, exponents and bends that the profiles leave open, as Student's t has them."""
        freely = np.sqrt(self.freedom / rng.chisquare(self.freedom, count))
        apart = rng.multivariate_normal(np.zeros(3), np.array(self.covariance), count)
        return np.asarray(self.theta + freely[:, None] * apart, dtype=float)


@dataclass(frozen=True, kw_only=True)
class ProfileLaw:
    """The additive law, its valley moved along each budget to where the profiles have their minima.

    So that profiles, which say nothing of losses, can be averaged with laws of the loss.
    """

    found: IsoFlop
    base: FormDraws  # of the additive form
    theta: Floats  # (3,) level, exponent and bend of ln params*
    draws: Floats  # (draws, 3)

    form = ISOFLOP

    @classmethod
    def of(cls, found: IsoFlop, base: FormDraws, draws: int = 0) -> ProfileLaw:
        return cls(
            found=found, base=base, theta=np.array(found.theta), draws=found.draws(draws, np.random.default_rng(0))
        )

    @property
    def noise(self) -> float:
        return self.base.noise

    def central(self, log_params: Floats, log_tokens: Floats) -> Floats:
        """(points,) log loss by the estimate."""
        return np.asarray(self.log_loss(self.theta[None, :], log_params, log_tokens)[0], dtype=float)

    def log_loss(self, theta: Floats, log_params: Floats, log_tokens: Floats) -> Floats:
        """(rows, points) log loss by each law through the minima."""
        compute = log_params + log_tokens
        _, a, alpha, b, beta = self.base.theta
        middle = sum(self.base.centre)
        # where alpha A N^-alpha = beta B D^-beta, in logs at the centre
        lowest = (np.log(alpha / beta) + a - b + beta * (compute - middle)) / (alpha + beta) + self.base.centre[0]
        x = compute + np.log(6.0) - self.found.log_flops
        wanted = theta @ np.stack([np.ones_like(x), x, x**2])
        n = log_params - (wanted - lowest)
        losses = self.base.loss(np.exp(n), np.exp(compute - n))
        return np.asarray(np.log(losses), dtype=float)


def isoflop(params: ArrayLike, tokens: ArrayLike, loss: ArrayLike) -> IsoFlop:
    """Profiles at the budgets that several sizes share, and the law of their minima.

    Parameters
    ----------
    params, tokens, loss : (n,) positive floats
        One row per scale; rows of budgets with fewer than five sizes are not used.

    Raises
    ------
    NotEnoughData
        Fewer than three budgets whose lowest loss lies inside their sizes.
    """
    n, y = np.log(np.asarray(params, dtype=float)), np.log(np.asarray(loss, dtype=float))
    c = n + np.log(np.asarray(tokens, dtype=float)) + np.log(6.0)
    found, left_out = [], 0
    for rows in _budgets(c):
        if len(np.unique(np.round(n[rows], 2))) < FEWEST_SIZES:
            continue
        profile = _profile(c[rows], n[rows], y[rows])
        if profile is None:
            left_out += 1
        else:
            found.append(profile)
    if len(found) < FEWEST_BUDGETS:
        few = {"budgets": len(found), "sizes": FEWEST_SIZES, "needed": FEWEST_BUDGETS}
        raise NotEnoughData(finding("loss.few_profiles", **few))
    return _law(found, left_out)


def _budgets(log_flops: Floats) -> list[NDArray[np.intp]]:
    """Rows of each budget: neighbours in compute, in the order of compute."""
    decades = log_flops / np.log(10)
    order = np.argsort(decades, kind="stable")
    breaks = np.flatnonzero(np.diff(decades[order]) > ONE_BUDGET) + 1
    groups = np.split(order, breaks)
    dense = len(order) / max(float(np.ptp(decades)), ONE_BUDGET)
    spans = [float(np.ptp(decades[rows])) for rows in groups]
    # budgets stand out among the computes; checkpoints along runs, and free runs, have every compute
    return [
        rows
        for rows, span in zip(groups, spans, strict=True)
        if span <= WIDEST and len(rows) >= CONTRAST * dense * (span + 2 * ONE_BUDGET)
    ]


def _profile(c: Floats, n: Floats, y: Floats) -> Profile | None:
    """The vertex of a parabola near the lowest losses; None where it lies at or beyond the ends."""
    centre = n[y.argmin()]
    for _ in range(5):
        near = np.abs(n - centre) <= SPAN
        if len(np.unique(np.round(n[near], 2))) < FEWEST_SIZES:
            near = np.argsort(np.abs(n - centre))[:FEWEST_SIZES]
        x = n[near] - centre
        # budgets that were read off a figure differ a little: the trend along compute is taken out with the parabola
        columns = [np.ones_like(x), x, x**2, x**3]
        if np.ptp(c[near]) > 1e-6 and len(x) > FEWEST_SIZES:
            columns.append(c[near] - c[near].mean())
        design = np.column_stack(columns)
        fitted = _with_skew(design, y[near])
        if fitted is None:
            return None
        coefficients, cov, spare = fitted
        shift = -coefficients[1] / (2 * coefficients[2])
        if abs(shift) < 1e-3:
            break
        centre = float(np.clip(centre + shift, n.min(), n.max()))
    vertex = centre + shift
    if not n.min() < vertex < n.max():
        return None
    slope = np.zeros(design.shape[1])
    slope[1], slope[2] = -1 / (2 * coefficients[2]), coefficients[1] / (2 * coefficients[2] ** 2)
    return Profile(
        flops=float(np.exp(c.mean())),
        sizes=len(x),
        params=float(np.exp(vertex)),
        log_sd=float(np.sqrt(slope @ cov @ slope)),
        freedom=spare,
    )


def _with_skew(design: Floats, y: Floats) -> tuple[Floats, Floats, int] | None:
    """Least squares with a cubic that is nought but for `SKEW` times the curvature; None where it does not curve up."""
    plain = np.delete(design, 3, axis=1)
    coefficients, *_ = np.linalg.lstsq(plain, y, rcond=None)
    spare = max(len(y) - plain.shape[1], 1)
    left = y - plain @ coefficients
    noise = max(float(left @ left) / spare, 1e-12)
    if coefficients[2] <= 0:
        return None
    prior = np.zeros(design.shape[1])
    prior[3] = noise / (SKEW / 3 * coefficients[2]) ** 2
    inverse = np.linalg.pinv(design.T @ design + np.diag(prior), hermitian=True)
    coefficients = inverse @ design.T @ y
    return None if coefficients[2] <= 0 else (coefficients, noise * inverse, spare)


def _law(found: list[Profile], left_out: int) -> IsoFlop:
    """Weighted least squares in logs; minima scatter beyond their own errors, by what the residuals say.

    The line may bend as far as `BEND` lets it.
    """
    x = np.log([p.flops for p in found])
    z = np.log([p.params for p in found])
    own = np.maximum(np.array([p.log_sd for p in found]), 1e-3) ** 2
    extra = 0.0
    for _ in range(30):
        weight = 1 / (own + extra)
        centre = float(np.average(x, weights=weight))
        design = np.column_stack([np.ones_like(x), x - centre, (x - centre) ** 2])
        information = design.T @ (weight[:, None] * design) + np.diag([0.0, 0.0, BEND**-2])
        beta = np.linalg.solve(information, design.T @ (weight * z))
        left = z - design @ beta
        freedom = len(x) - 2
        # method of moments for the scatter (DerSimonian and Laird)
        excess = float(weight @ left**2) - freedom
        if extra == 0.0 and excess <= 0:
            break
        extra = max(0.0, extra + excess / float(weight.sum()))
    scale = max(1.0, float(weight @ left**2) / max(freedom, 1))
    cov = np.linalg.inv(information) * scale
    return IsoFlop(
        profiles=tuple(found),
        left_out=left_out,
        log_flops=centre,
        theta=(float(beta[0]), float(beta[1]), float(beta[2])),
        covariance=tuple((float(a), float(b), float(c)) for a, b, c in cov),
        freedom=max(freedom, 1),
    )
