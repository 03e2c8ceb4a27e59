"""Which form of a loss law to extrapolate with: those that a backtest inside the runs does not reject, averaged.

Forms that fit the same runs equally well part company beyond them, and the intervals of each know nothing of it. So
every form is fitted on the smaller part of the compute and scored on the rest: forms that extrapolate much worse than
the best are rejected, the others are averaged, and the error that the average made there, per decade of compute,
widens the interval at a scale further out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.loss_fit import LEVEL, RESAMPLES, Interval, LossFit, LossPrediction, fit_loss
from lawfit.estimate.loss_forms import FORMS
from lawfit.estimate.loss_result import MIXED
from lawfit.estimate.newton import Floats
from lawfit.estimate.resample import interval

TOLERATED: Final = 1.5  # times the error of the best form
SPLIT: Final = 0.5  # quantile of compute below which the backtest learns
DRIFT_FREEDOM: Final = 3  # the backtest is one extrapolation, whose errors share their cause: a handful at most


@dataclass(frozen=True, kw_only=True)
class FormBacktest:
    """How one form, fitted on the smaller part of the compute, predicted the rest."""

    form: str
    error: float  # mean absolute error of log loss; inf without a prediction
    bias: float  # mean of log observed - log predicted
    rejected: bool
    reason: str  # why, or ""


@dataclass(frozen=True, kw_only=True)
class LossEnsemble:
    """Fits of the forms that were not rejected."""

    fits: tuple[LossFit, ...]
    backtests: tuple[FormBacktest, ...]  # of all forms, best first
    drift: float  # root mean square error of the average in the backtest, in log loss per decade of compute
    level: float

    def log_loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Mean of the forms' log losses."""
        return np.asarray(np.mean([np.log(f.loss(params, tokens)) for f in self.fits], axis=0), dtype=float)

    def predict(self, params: float, tokens: float) -> LossPrediction:
        """Loss at one scale, with an interval that knows of the choice of form and of how it fared before."""
        rng = np.random.default_rng(0)
        each = [f.predict(params, tokens) for f in self.fits]
        draws = np.concatenate([f.log_draws(params, tokens) for f in self.fits])
        draws = np.resize(draws, max(MIXED, len(draws)) if len(draws) else 0)
        decades = each[0].extrapolation_decades["flops"]
        draws = draws + self.drift * decades * student.rvs(DRIFT_FREEDOM, size=len(draws), random_state=rng)
        noise = rng.choice(np.concatenate([f.residuals for f in self.fits]), len(draws))
        value = float(np.exp(self.log_loss(params, tokens)))
        first = max(self.fits, key=lambda fit: fit.fitted)  # most parameters: the widest tails
        return LossPrediction(
            expected=_interval(value, np.exp(draws), self.level, first),
            run=_interval(value, np.exp(draws + noise), self.level, first),
            extrapolation_decades=each[0].extrapolation_decades,
        )


def fit_ensemble(
    params: ArrayLike,
    tokens: ArrayLike,
    loss: ArrayLike,
    *,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
    forms: Sequence[str] = tuple(FORMS),
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> LossEnsemble:
    """Backtest every form inside the runs, and fit those that are not rejected to all of them.

    Parameters are those of `fit_loss`; the backtest learns from the runs below the `SPLIT` quantile of compute.

    Raises
    ------
    NotEnoughData
        Too few runs, or too few different budgets, to hold any back.
    FitError
        No form predicts the runs that were held back.
    """
    columns = [np.asarray(x, dtype=float).ravel() for x in (params, tokens, loss)]
    labels = None if clusters is None else np.asarray(clusters)
    log_flops = np.log(columns[0]) + np.log(columns[1]) + np.log(6.0)
    inner = log_flops <= np.quantile(log_flops, SPLIT)
    if inner.all() or inner.sum() < 8:
        raise NotEnoughData(
            f"{len(log_flops)} runs at {len(np.unique(np.round(log_flops, 3)))} budgets are too few to hold the larger "
            "ones back; fit one form with fit_loss, or add runs"
        )
    errors = {form: _held_back(form, columns, labels, inner) for form in forms}
    size = {form: float(np.abs(error).mean()) for form, error in errors.items()}
    best = min(size.values())
    if not np.isfinite(best):
        raise FitError("no form of a loss law predicts the larger half of these runs from the smaller")
    kept = [form for form in forms if size[form] <= TOLERATED * best]
    mean = np.mean([errors[form] for form in kept], axis=0)
    beyond = (log_flops[~inner] - log_flops[inner].max()) / np.log(10)
    return LossEnsemble(
        fits=tuple(
            fit_loss(*columns, rng=rng, clusters=labels, form=form, resamples=resamples, level=level) for form in kept
        ),
        backtests=_backtests(errors, size, best),
        drift=float(np.sqrt((mean**2).mean() / (beyond**2).mean())),
        level=level,
    )


def _held_back(form: str, columns: Sequence[Floats], labels: np.ndarray | None, inner: np.ndarray) -> Floats:
    """log observed - log predicted of the larger runs; inf where the form has no prediction."""
    held = ~inner
    try:
        found = fit_loss(
            *(x[inner] for x in columns),
            rng=np.random.default_rng(0),
            clusters=None if labels is None else labels[inner],
            form=form,
            resamples=0,
        )
    except FitError:
        return np.full(int(held.sum()), np.inf)
    error = np.log(columns[2][held]) - np.log(found.loss(columns[0][held], columns[1][held]))
    return np.where(np.isfinite(error), error, np.inf)


def _backtests(errors: Mapping[str, Floats], size: Mapping[str, float], best: float) -> tuple[FormBacktest, ...]:
    found = []
    for form in sorted(size, key=lambda name: size[name]):
        rejected = not size[form] <= TOLERATED * best
        reason = ""
        if rejected:
            reason = (
                f"error {size[form]:.2%} of loss on the larger half, {size[form] / best:.1f} times the best form's"
                if np.isfinite(size[form])
                else "no prediction for the larger half"
            )
        found.append(
            FormBacktest(
                form=form, error=size[form], bias=float(np.mean(errors[form])), rejected=rejected, reason=reason
            )
        )
    return tuple(found)


def _interval(value: float, draws: Floats, level: float, fit: LossFit) -> Interval:
    if not len(draws) or fit.certificate.clusters <= fit.fitted:
        return Interval(value=value, low=None, high=None)
    low, high = interval(draws, level, fit.certificate.clusters, fit.fitted)
    return Interval(value=value, low=float(low), high=float(high))
