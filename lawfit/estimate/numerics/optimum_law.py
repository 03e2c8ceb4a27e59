"""Power laws through a few measured optima that carry their own uncertainty.

A critical batch or a best timescale is itself an estimate, with its own standard deviation, and each scale's true
optimum lies a little off any power law. So ``ln y_i = x_i b + u_i + e_i``: e_i with the sd that the measurement came
with, u_i the scatter of scales around the law, whose size the few scales at hand hardly show. It is integrated over
(restricted likelihood times a prior), not plugged in: with three scales a plugged-in scatter is often zero, and the
interval far too narrow. `tests/benchmarks/critical_batch.py` and `weight_decay.py` count how often the intervals hold.

Optima that come from the same runs (one model size read at many target losses) form a group. They share the scatter,
and their measurement variances are multiplied by their number: together they count once, not many times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import FitError
from lawfit.estimate.numerics.kept import once_for_each
from lawfit.estimate.numerics.quantiles import normal_cdf, normal_quantile
from lawfit.findings import Found, finding
from lawfit.units import decades_beyond

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

# Half-normal prior of the scatter (sd of ln y): optima of neighbouring scales lie some 5 to 15 % off their power laws
# where grids were dense enough to see it (Zhang et al. 5 %, our reading of the Step Law grid 3 to 12 %).
SCATTER_PRIOR: Final = 0.12
_SCATTERS: Final = np.concatenate([[1e-4], np.geomspace(0.005, 1.5, 40)])
COLLINEAR: Final = 1e-6  # standardised singular values below this share say "not identified"
CURVED_MIN_POINTS: Final = 5


@dataclass(frozen=True, kw_only=True)
class MeasuredOptima:
    """Optima in natural logs, one row per measurement."""

    log_value: Floats  # (n,)
    log_sd: Floats  # (n,) of the measurement itself, as if normal
    inputs: Mapping[str, Floats]  # name -> (n,) positive
    group: Ints  # (n,) rows of one group come from the same runs
    shared_log_sd: float = 0.0  # an error that all of them have in common: it moves the level and no exponent

    @classmethod
    def of(
        cls,
        value: ArrayLike,
        log_sd: ArrayLike,
        inputs: Mapping[str, ArrayLike],
        group: ArrayLike | None = None,
        *,
        shared_log_sd: float = 0.0,
    ) -> MeasuredOptima:
        """From plain columns; without `group` each row stands for itself.

        Raises
        ------
        ValueError
            Columns of different length, or values that are not positive and finite.
        """
        columns = {"value": value, "log_sd": log_sd, **inputs}
        arrays = {name: np.asarray(column, dtype=float).ravel() for name, column in columns.items()}
        if len({len(a) for a in arrays.values()}) != 1:
            raise ValueError(f"columns differ in length: { {name: len(a) for name, a in arrays.items()} }")
        for name, array in arrays.items():
            if not np.all((array > 0) & np.isfinite(array)):
                raise ValueError(f"{name} must be positive and finite in every row")
        n = len(arrays["value"])
        _, index = np.unique(np.arange(n) if group is None else np.asarray(group), return_inverse=True)
        return cls(
            log_value=np.log(arrays["value"]),
            log_sd=arrays["log_sd"],
            inputs={name: arrays[name] for name in inputs},
            group=np.asarray(index, dtype=np.intp).ravel(),
            shared_log_sd=shared_log_sd,
        )

    def __len__(self) -> int:
        return len(self.log_value)

    @property
    def groups(self) -> int:
        return int(self.group.max(initial=-1)) + 1

    def take(self, rows: NDArray[np.bool_]) -> MeasuredOptima:
        return MeasuredOptima(
            log_value=self.log_value[rows],
            log_sd=self.log_sd[rows],
            inputs={name: column[rows] for name, column in self.inputs.items()},
            group=np.unique(self.group[rows], return_inverse=True)[1].ravel(),
            shared_log_sd=self.shared_log_sd,
        )


@dataclass(frozen=True, kw_only=True)
class PredictedOptimum:
    """The law's answer at one scale."""

    value: float
    low: float  # of a `level` interval for that scale's own optimum, its scatter included
    high: float
    level: float
    decades: Mapping[str, float]  # per input, beyond the measured scales; 0 inside


class Predicts(Protocol):
    """A law of one number in some inputs."""

    @property
    def inputs(self) -> tuple[str, ...]: ...

    def predict(self, level: float = 0.9, **inputs: float) -> PredictedOptimum: ...


@dataclass(frozen=True, kw_only=True)
class OptimumLaw:
    """A fitted power law: normal posteriors of (ln y at the centre, exponents), mixed over sizes of the scatter."""

    inputs: tuple[str, ...]
    centre: Floats  # (k,) mean log inputs, at which the first coefficient stands
    weights: Floats  # (scatters,) posterior of each scatter, adding up to 1
    scatters: Floats
    means: Floats  # (scatters, 1 + k)
    covariances: Floats  # (scatters, 1 + k, 1 + k)
    ranges: Mapping[str, tuple[float, float]]
    points: int
    groups: int
    log_evidence: float  # of the form on these data, for comparisons with the same rows
    shared_log_sd: float  # of the level, beyond what the scales' differences show

    @property
    def coefficients(self) -> Floats:
        """ln y at the centre, then the exponents."""
        return np.asarray(self.weights @ self.means)

    @property
    def exponents(self) -> dict[str, float]:
        return dict(zip(self.inputs, (float(e) for e in self.coefficients[1:]), strict=True))

    @property
    def const(self) -> float:
        return float(np.exp(self.coefficients[0] - self.coefficients[1:] @ self.centre))

    @property
    def scatter(self) -> float:
        """Posterior mean of the sd of scales around the law."""
        return float(self.weights @ self.scatters)

    def exponent_interval(self, name: str, level: float = 0.9) -> tuple[float, float]:
        """Central interval of one exponent."""
        at = 1 + self.inputs.index(name)
        spread = np.sqrt(self.covariances[:, at, at])
        low, high = (mixture_quantile(self.weights, self.means[:, at], spread, q) for q in _tails(level))
        return low, high

    @property
    def exponent_covariance(self) -> Floats:
        """(k, k) of the exponents, over all sizes of the scatter."""
        apart = self.means - self.coefficients
        whole = np.einsum("s,sij->ij", self.weights, self.covariances)
        whole = whole + np.einsum("s,si,sj->ij", self.weights, apart, apart)
        return np.asarray(whole[1:, 1:])

    def predict(self, level: float = 0.9, **inputs: float) -> PredictedOptimum:
        """The optimum at a scale that was not measured."""
        means, spread = self._mixture(inputs)
        low, high = (float(np.exp(mixture_quantile(self.weights, means, spread, q))) for q in _tails(level))
        return PredictedOptimum(
            value=float(np.exp(self.weights @ means)),
            low=low,
            high=high,
            level=level,
            decades=self.decades(**inputs),
        )

    def decades(self, **inputs: float) -> dict[str, float]:
        """How far beyond the fitted scales each of its inputs lies, in powers of ten; 0 inside."""
        return {name: decades_beyond(inputs[name], *self.ranges[name]) for name in self.inputs}

    def log_draws(self, count: int, *, rng: np.random.Generator, **inputs: float) -> Floats:
        """(count,) draws of ln of that optimum."""
        means, spread = self._mixture(inputs)
        which = rng.choice(len(self.weights), count, p=self.weights)
        return np.asarray(means[which] + spread[which] * rng.standard_normal(count))

    def _mixture(self, inputs: Mapping[str, float]) -> tuple[Floats, Floats]:
        """(scatters,) mean and sd of ln of the optimum at a scale that was not measured, by each scatter."""
        missing = sorted(set(self.inputs) - set(inputs))
        if missing:
            raise ValueError(f"this law also needs {', '.join(missing)}")
        row = np.array([1.0, *(np.log(inputs[name]) - c for name, c in zip(self.inputs, self.centre, strict=True))])
        spread = np.sqrt(np.einsum("i,sij,j->s", row, self.covariances, row) + self.scatters**2 + self.shared_log_sd**2)
        return self.means @ row, spread

    def to_json(self, level: float = 0.9) -> dict[str, Any]:
        """What a stored fit keeps: enough for `from_json` to predict the same."""
        return {
            "form": "power_product",
            "const": self.const,
            "exponents": self.exponents,
            "exponent_intervals": {name: list(self.exponent_interval(name, level)) for name in self.inputs},
            "level": level,
            "scatter": self.scatter,
            "points": self.points,
            "groups": self.groups,
            "ranges": {name: list(bounds) for name, bounds in self.ranges.items()},
            "log_evidence": self.log_evidence,
            "shared_log_sd": self.shared_log_sd,
            "posterior": {
                "inputs": list(self.inputs),
                **{
                    name: getattr(self, name).tolist()
                    for name in ("centre", "weights", "scatters", "means", "covariances")
                },
            },
        }

    @staticmethod
    @once_for_each
    def from_json(document: Mapping[str, Any]) -> OptimumLaw:
        posterior = document["posterior"]
        arrays = {
            name: np.asarray(posterior[name], dtype=float)
            for name in ("centre", "weights", "scatters", "means", "covariances")
        }
        return OptimumLaw(
            inputs=tuple(posterior["inputs"]),
            ranges={name: (float(low), float(high)) for name, (low, high) in document["ranges"].items()},
            points=int(document["points"]),
            groups=int(document["groups"]),
            log_evidence=float(document["log_evidence"]),
            shared_log_sd=float(document["shared_log_sd"]),
            **arrays,
        )


def fit_optimum_law(
    optima: MeasuredOptima, inputs: Sequence[str], *, prior: Mapping[str, tuple[float, float]] | None = None
) -> OptimumLaw:
    """``y = c * prod inputs^e`` through measured optima.

    Parameters
    ----------
    prior : name of an input -> (mean, sd) of its exponent
        Lent by published laws where there are too few scales; without it the optima alone decide.

    Raises
    ------
    FitError
        Fewer groups than coefficients + 1, or inputs that do not vary enough to tell their exponents apart; the
        message names the combination that is open and what would close it.
    """
    names = tuple(inputs)
    lent = prior or {}
    design, centre = _design(optima, names, lent)
    expected = np.array([0.0, *(lent.get(name, (0.0, np.inf))[0] for name in names)])
    certainty = np.array([0.0, *(lent.get(name, (0.0, np.inf))[1] ** -2.0 for name in names)])
    means, covariances, log_evidence = _given_scatter(optima, design, expected, certainty)
    log_prior = -0.5 * (_SCATTERS / SCATTER_PRIOR) ** 2 + np.log(np.gradient(_SCATTERS))
    weights = np.exp(log_prior - log_prior.max())
    weights /= weights.sum()
    top = log_evidence.max()
    posterior = weights * np.exp(log_evidence - top)
    return OptimumLaw(
        inputs=names,
        centre=centre,
        weights=posterior / posterior.sum(),
        scatters=_SCATTERS,
        means=means,
        covariances=covariances,
        ranges={name: (float(optima.inputs[name].min()), float(optima.inputs[name].max())) for name in names},
        points=len(optima),
        groups=optima.groups,
        log_evidence=float(top + np.log(posterior.sum())),
        shared_log_sd=optima.shared_log_sd,
    )


@dataclass(frozen=True, kw_only=True)
class Separation:
    """Whether the optima can tell a law in params from one in tokens."""

    verdict: str  # "tokens", "params", "both", "neither", "not_separable"
    sentence: Found
    intervals: Mapping[str, tuple[float, float]]  # exponents of the law in both; empty where it cannot be fitted
    correlation: float  # of ln params and ln tokens over the optima


def separate_params_from_tokens(optima: MeasuredOptima, level: float = 0.9) -> Separation:
    """Fit the law in params and tokens together and see which exponents the data need, both decided at once.

    The pairs of exponents that the optima allow at `level` fill an ellipse. Both exponents are needed where it crosses
    neither axis, one where it crosses the other's, none where it holds the origin. Where it crosses both axes and not
    the origin, sizes and horizons grew together: one of the two is needed, and the data cannot say which.
    """
    params, tokens = np.log(optima.inputs["params"]), np.log(optima.inputs["tokens"])
    varies = min(params.std(), tokens.std()) > 1e-9
    correlation = float(np.corrcoef(params, tokens)[0, 1]) if varies and len(optima) > 1 else float("nan")
    try:
        both = fit_optimum_law(optima, ("params", "tokens"))
    except FitError as error:
        return Separation(verdict="not_separable", sentence=error.finding, intervals={}, correlation=correlation)
    intervals = {name: both.exponent_interval(name, level) for name in ("params", "tokens")}
    told: dict[str, Any] = {"level": level, "exponents": intervals}
    exponents, covariance = both.coefficients[1:], both.exponent_covariance
    reach = -2 * np.log1p(-level)  # of a chi-square of two degrees
    away = exponents**2 / np.diag(covariance)  # least distance of the ellipse's centre to where each exponent is 0
    needed = [name for name, distance in zip(("params", "tokens"), away, strict=True) if distance > reach]
    if float(exponents @ np.linalg.solve(covariance, exponents)) <= reach:
        verdict, sentence = "neither", finding("numerics.neither", **told)
    elif len(needed) == 2:
        verdict, sentence = "both", finding("numerics.both", **told)
    elif needed:
        verdict, sentence = needed[0], finding("numerics.one_of_both", **told)
    else:
        verdict, sentence = "not_separable", finding("numerics.grew_together", correlation=correlation, **told)
    return Separation(verdict=verdict, sentence=sentence, intervals=intervals, correlation=correlation)


def curvature_interval(optima: MeasuredOptima, name: str, level: float = 0.9) -> tuple[float, float] | None:
    """Interval of the quadratic coefficient of ln y in ln x; None with fewer than `CURVED_MIN_POINTS` groups.

    It excludes zero: the law bends in log-log, and a straight one must not be carried far.
    """
    if optima.groups < CURVED_MIN_POINTS:
        return None
    log_x = np.log(optima.inputs[name])
    bent = np.exp((log_x - log_x.mean()) ** 2)
    try:
        law = fit_optimum_law(
            MeasuredOptima(
                log_value=optima.log_value,
                log_sd=optima.log_sd,
                inputs={name: optima.inputs[name], "square": bent},
                group=optima.group,
            ),
            (name, "square"),
        )
    except FitError:
        return None
    return law.exponent_interval("square", level)


def _design(
    optima: MeasuredOptima, names: tuple[str, ...], lent: Mapping[str, tuple[float, float]]
) -> tuple[Floats, Floats]:
    logs = np.log(np.column_stack([optima.inputs[name] for name in names]))
    centre = logs.mean(axis=0)
    if set(names) <= set(lent) and len(optima):
        return np.column_stack([np.ones(len(logs)), logs - centre]), centre
    if optima.groups < len(names) + 2:
        few = {"groups": optima.groups, "exponents": len(names), "needed": len(names) + 2}
        raise FitError(finding("numerics.few_groups", **few))
    spread = logs.std(axis=0)
    if fixed := [name for name, sd in zip(names, spread, strict=True) if sd < 1e-6]:
        raise FitError(finding("numerics.same_input", inputs=fixed))
    singular = np.linalg.svd((logs - centre) / spread, compute_uv=False)
    if singular[-1] < COLLINEAR * singular[0]:
        raise FitError(finding("numerics.scales_on_a_line", inputs=names))
    return np.column_stack([np.ones(len(logs)), logs - centre]), centre


def _given_scatter(
    optima: MeasuredOptima, design: Floats, expected: Floats, certainty: Floats
) -> tuple[Floats, Floats, Floats]:
    """Generalised least squares and its restricted log likelihood, for each size of the scatter.

    Rows of one group share a scatter s, so ``diag(m) + s^2`` of a group with weights w = 1 / m splits into deviations
    from the group's mean, which s does not reach, and the mean itself with variance ``s^2 + 1 / sum w``: no matrix of
    the size of the optima is inverted.
    """
    group, groups = optima.group, int(optima.group.max(initial=-1)) + 1
    weight = 1 / (optima.log_sd**2 * np.bincount(group)[group])
    total = np.bincount(group, weights=weight, minlength=groups)
    columns = np.column_stack([design, optima.log_value])
    means_of = np.stack([np.bincount(group, weights=weight * c, minlength=groups) / total for c in columns.T], axis=1)
    inner = columns - means_of[group]
    within = (inner * weight[:, None]).T @ inner
    between = 1 / (_SCATTERS[:, None] ** 2 + 1 / total)  # (scatters, groups)
    products = within + np.einsum("sg,gi,gj->sij", between, means_of, means_of, optimize=True)
    information = products[:, :-1, :-1] + np.diag(certainty)
    covariances = np.linalg.inv(information)
    means = np.einsum("sij,sj->si", covariances, products[:, :-1, -1] + certainty * expected)
    off = inner[:, -1] - means @ inner[:, :-1].T
    off_means = means_of[:, -1] - means @ means_of[:, :-1].T
    misfit = off**2 @ weight + (between * off_means**2).sum(axis=1) + (means - expected) ** 2 @ certainty
    log_det = -np.log(weight).sum() + np.log1p(_SCATTERS[:, None] ** 2 * total).sum(axis=1)
    log_evidence = -0.5 * (misfit + log_det + np.linalg.slogdet(information)[1])
    return means, covariances, np.asarray(log_evidence)


def mixture_quantile(weights: Floats, means: Floats, sds: Floats, share: float) -> float:
    """Quantile of a mixture of normals: Newton's steps between the extreme quantiles of its parts, or halves."""
    ends = means + sds * normal_quantile(share)
    low, high = float(ends.min()), float(ends.max())
    middle = float(weights @ means)
    spread = math.sqrt(float(weights @ (sds**2 + (means - middle) ** 2)))
    at = min(max(middle + spread * normal_quantile(share), low), high)
    for _ in range(60):
        z = (at - means) / sds
        off = float(weights @ normal_cdf(z)) - share
        low, high = (at, high) if off < 0 else (low, at)
        density = float(weights @ (np.exp(-0.5 * z**2) / sds)) / math.sqrt(2 * math.pi)
        step = off / density if density > 0 else math.inf
        last, at = at, at - step if low < at - step < high else 0.5 * (low + high)
        if abs(at - last) <= 1e-13 * max(abs(at), 1.0):
            break
    return at


def _tails(level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    return 0.5 - level / 2, 0.5 + level / 2


def along(law: Predicts, level: float, **columns: Floats) -> tuple[Floats, Floats, Floats]:
    """Value and ends of the interval of a law at several places; columns that it does not take are left out."""
    rows = zip(*(columns[name] for name in law.inputs), strict=True)
    said = [law.predict(level, **dict(zip(law.inputs, map(float, row), strict=True))) for row in rows]
    value, low, high = np.array([(each.value, each.low, each.high) for each in said], dtype=float).T
    return value, low, high
