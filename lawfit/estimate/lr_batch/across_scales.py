"""The learning rate against size, horizon and batch at once: a product of powers, or a curve that saturates or surges.

These laws are linear in logs but for the two numbers of its noise batch. These are searched over a grid, with
the rest solved in closed form, and the best few points are polished together: the answer says whether they agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import NotEnoughData
from lawfit.estimate.numerics.regression import PowerLaw
from lawfit.estimate.numerics.resample import jackknife_covariance, size_clusters
from lawfit.findings import finding
from lawfit.laws.lr_batch import BENDS, SATURATING, AcrossScales

Floats = NDArray[np.float64]

_STARTS: Final = 5  # best points of the grid that are polished
_AGREE: Final = 1e-6  # starts whose sums of squares differ by less, relatively, found one optimum
_NAMES: Final = ("log_const", "params_exponent", "tokens_exponent", "log_noise", "noise_tokens_exponent")


@dataclass(frozen=True, kw_only=True)
class AcrossScalesFit:
    """A law over scales that saturates or surges with the batch, with its uncertainty."""

    law: AcrossScales
    residual_sd: float  # of ln lr
    intervals: Mapping[str, tuple[float, float]]  # of the exponents
    level: float
    clusters: int
    starts_agree: bool
    centre: tuple[float, float, float]  # mean ln params, ln tokens, ln batch of the optima
    theta: (
        Floats  # (5,) ln lr far above the noise batch, its exponents, ln noise batch over the mean batch, its exponent
    )
    covariance: Floats  # (5, 5) of theta, CR3


@dataclass(frozen=True, kw_only=True)
class _Logs:
    params: Floats
    tokens: Floats
    batch: Floats
    lr: Floats

    def take(self, rows: NDArray[np.bool_]) -> _Logs:
        return _Logs(params=self.params[rows], tokens=self.tokens[rows], batch=self.batch[rows], lr=self.lr[rows])


def fit_across_scales(
    params: ArrayLike,
    tokens: ArrayLike,
    batch_tokens: ArrayLike,
    lr: ArrayLike,
    *,
    form: str = SATURATING,
    level: float = 0.9,
) -> AcrossScalesFit:
    """Fit `AcrossScales` of one form by least squares in ln lr.

    Parameters
    ----------
    params, tokens, batch_tokens, lr : (n,) positive floats
        One optimum per (params, tokens, batch), for instance of `locate_lr_per_batch`, those inside their sweep.
    form : of `BENDS`
    level : float in (0, 1)
        Of the intervals: a jackknife over `resample.size_clusters` with Student's t.

    Raises
    ------
    NotEnoughData
        Fewer than two sizes, two horizons or three batches, or fewer than six cells: an exponent is not identified.
    FitError
        Nor is one without some size (or scale, of two sizes).
    """
    logs = _logs(params, tokens, batch_tokens, lr)
    theta, squares, agree = _solve(logs, form)
    cluster = size_clusters(params, tokens)
    clusters = int(cluster.max()) + 1
    sd = float(np.sqrt(squares / (len(logs.lr) - len(theta))))
    centred = _centred(logs)
    residual = logs.lr - _predict(theta, centred, form)
    covariance = jackknife_covariance(_jacobian(theta, centred, form), residual, cluster)
    return AcrossScalesFit(
        law=_law(theta, logs, form),
        residual_sd=sd,
        intervals=MappingProxyType(_intervals(theta, covariance, clusters, level)),
        level=level,
        clusters=clusters,
        starts_agree=agree,
        centre=_centre(logs),
        theta=theta,
        covariance=covariance,
    )


def fitted_without(
    fit: AcrossScalesFit,
    params: ArrayLike,
    tokens: ArrayLike,
    batch_tokens: ArrayLike,
    lr: ArrayLike,
    left_out: NDArray[np.bool_],
) -> Floats | None:
    """`AcrossScalesFit.theta` of the optima that are not left out, about the centre of all; None: they carry no law.

    Sought from where `fit` of all of them ended.

    Parameters
    ----------
    left_out : (n,) rows of the optima that `fit` was made from
    """
    from scipy.optimize import least_squares

    logs = _logs(params, tokens, batch_tokens, lr)
    kept = logs.take(~left_out)
    try:
        _check(kept)
    except NotEnoughData:
        return None
    centred = _less(kept, fit.centre)

    def residuals(theta: Floats) -> Floats:
        return np.asarray(_predict(theta, centred, fit.law.form) - kept.lr)

    def jacobian(theta: Floats) -> Floats:
        return _jacobian(theta, centred, fit.law.form)

    found = least_squares(residuals, fit.theta, jac=jacobian, method="lm")
    return np.asarray(found.x) if np.isfinite(found.x).all() else None


def log_lr_of(
    theta: Floats,
    centre: tuple[float, float, float],
    params: ArrayLike,
    tokens: ArrayLike,
    batch_tokens: ArrayLike,
    form: str = SATURATING,
) -> Floats:
    """ln lr by a law's `theta`: as the law itself, and free of overflow where the noise batch grows steeply."""
    n, d, b = (
        np.log(np.asarray(x, dtype=float)) - c for x, c in zip((params, tokens, batch_tokens), centre, strict=True)
    )
    const, a, by_tokens, noise, r = theta
    return np.asarray(const + a * n + by_tokens * d + BENDS[form].log(noise + r * d - b))


def fit_power_across_scales(params: ArrayLike, tokens: ArrayLike, batch_tokens: ArrayLike, lr: ArrayLike) -> PowerLaw:
    """``lr = c params^a tokens^b batch^g`` by least squares in logs, the form it is compared with."""
    return _power(_logs(params, tokens, batch_tokens, lr))


def _power(logs: _Logs) -> PowerLaw:
    design = np.column_stack([np.ones_like(logs.lr), logs.params, logs.tokens, logs.batch])
    const, *exponents = (float(c) for c in np.linalg.lstsq(design, logs.lr, rcond=None)[0])
    return PowerLaw(log_const=const, exponents=dict(zip(("params", "tokens", "batch_tokens"), exponents, strict=True)))


def _solve(logs: _Logs, form: str) -> tuple[Floats, float, bool]:
    """(theta, sum of squares, whether the polished starts agree); theta belongs to logs centred on their means."""
    from scipy.optimize import least_squares

    centred = _centred(logs)

    def residuals(theta: Floats) -> Floats:
        return np.asarray(_predict(theta, centred, form) - logs.lr)

    def jacobian(theta: Floats) -> Floats:
        return _jacobian(theta, centred, form)

    solved = [least_squares(residuals, start, jac=jacobian, method="lm") for start in _grid(centred, form)]
    squares = np.array([2 * found.cost for found in solved])
    best = int(np.argmin(squares))
    agree = bool(np.all(squares <= squares[best] * (1 + _AGREE) + 1e-20))
    return np.asarray(solved[best].x), float(squares[best]), agree


def _grid(logs: _Logs, form: str) -> list[Floats]:
    """The best points over noise batch and its exponent, the rest by least squares."""
    reach = np.log(30.0)  # beyond the batches there is no bend to see
    noise = np.linspace(logs.batch.min() - reach, logs.batch.max() + reach, 25)
    exponent = np.linspace(-1.0, 2.0, 25)
    points = [(a, r) for a in noise for r in exponent]
    design = np.column_stack([np.ones_like(logs.lr), logs.params, logs.tokens])
    bends = np.stack([BENDS[form].log(a + r * logs.tokens - logs.batch) for a, r in points], axis=1)
    wanted = logs.lr[:, None] - bends
    linear = np.linalg.lstsq(design, wanted, rcond=None)[0]
    squares = ((wanted - design @ linear) ** 2).sum(0)
    best = np.argsort(squares)[:_STARTS]
    return [np.array([*linear[:, k], *points[k]]) for k in best]


def _predict(theta: Floats, logs: _Logs, form: str) -> Floats:
    const, a, b, noise, r = theta
    bend = BENDS[form].log(noise + r * logs.tokens - logs.batch)
    return np.asarray(const + a * logs.params + b * logs.tokens + bend)


def _jacobian(theta: Floats, logs: _Logs, form: str) -> Floats:
    slope = BENDS[form].slope(theta[3] + theta[4] * logs.tokens - logs.batch)
    return np.column_stack([np.ones_like(logs.lr), logs.params, logs.tokens, slope, slope * logs.tokens])


def _intervals(theta: Floats, covariance: Floats, clusters: int, level: float) -> dict[str, tuple[float, float]]:
    """Of the exponents: t with G-1 degrees of freedom."""
    from scipy.stats import t

    sd = np.sqrt(np.maximum(np.diag(covariance), 0.0))  # of runs without noise rounding may leave less than nothing
    half = float(t.ppf(0.5 + level / 2, clusters - 1)) * sd
    return {
        name: (float(theta[k] - half[k]), float(theta[k] + half[k]))
        for k, name in enumerate(_NAMES)
        if name.endswith("exponent")  # the constants belong to centred logs
    }


def _law(theta: Floats, logs: _Logs, form: str) -> AcrossScales:
    const, a, b, noise, r = (float(x) for x in theta)
    params, tokens, batch = _centre(logs)
    return AcrossScales(
        form=form,
        const=float(np.exp(const - a * params - b * tokens)),
        params_exponent=a,
        tokens_exponent=b,
        noise_const=float(np.exp(noise + batch - r * tokens)),
        noise_tokens_exponent=r,
    )


def _centre(logs: _Logs) -> tuple[float, float, float]:
    return float(logs.params.mean()), float(logs.tokens.mean()), float(logs.batch.mean())


def _centred(logs: _Logs) -> _Logs:
    return _less(logs, _centre(logs))


def _less(logs: _Logs, centre: tuple[float, float, float]) -> _Logs:
    params, tokens, batch = centre
    return _Logs(params=logs.params - params, tokens=logs.tokens - tokens, batch=logs.batch - batch, lr=logs.lr)


def _logs(params: ArrayLike, tokens: ArrayLike, batch_tokens: ArrayLike, lr: ArrayLike) -> _Logs:
    columns = {}
    for name, value in (("params", params), ("tokens", tokens), ("batch", batch_tokens), ("lr", lr)):
        array = np.asarray(value, dtype=float)
        if not np.all((array > 0) & np.isfinite(array)):
            raise ValueError(f"{name} must be positive and finite, got {array}")
        columns[name] = np.log(array)
    if len({column.shape for column in columns.values()}) != 1 or columns["lr"].ndim != 1:
        raise ValueError("params, tokens, batch_tokens and lr must be columns of one length")
    logs = _Logs(**columns)
    _check(logs)
    return logs


def _check(logs: _Logs) -> None:
    found = {
        "sizes": (len(np.unique(logs.params)), 2),
        "horizons": (len(np.unique(logs.tokens)), 2),
        "batches": (len(np.unique(logs.batch)), 3),
        "scales": (len(np.unique(np.column_stack([logs.params, logs.tokens]), axis=0)), 6),
    }
    for what, (count, needed) in found.items():
        if count < needed:
            raise NotEnoughData(finding("lr_batch.few_optima", of=what, count=count, needed=needed))
