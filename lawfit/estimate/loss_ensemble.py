"""Which form of a loss law to extrapolate with: those that a backtest inside the runs does not reject, averaged.

Forms that fit the same runs equally well part company beyond them, and the intervals of each know nothing of it. The
interval of the average holds three things: what each form's own resamples leave open, where the forms part, and a
drift (`loss_backtest`) that grows with the distance from the runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from lawfit.errors import FitError
from lawfit.estimate.loss_backtest import (
    Cut,
    Drift,
    FormBacktest,
    cuts,
    errors_above,
    judge,
    trial_fit,
)
from lawfit.estimate.loss_fit import LEVEL, RESAMPLES, fit_loss
from lawfit.estimate.loss_forms import FORMS
from lawfit.estimate.loss_result import MIXED, AsymptotePrior, FormDraws, Interval, LossFit, LossPrediction
from lawfit.estimate.newton import Floats
from lawfit.estimate.resample import cluster_index

# What the drift is before the runs have spoken, as a share of the slope of log loss along compute, and how many
# extrapolations that opinion and the runs' own are worth. Settled on simulated laws outside every form, and checked by
# leaving out one family of public sources after another (CHANGELOG, Decisions; tests/benchmarks/loss_choice.py).
PRIOR_SHARE: Final = 0.05
PRIOR_FREEDOM: Final = 2.0
SEEN_FREEDOM: Final = 2.0  # the cuts of one study are one or two extrapolations: their errors share their cause


@dataclass(frozen=True, kw_only=True)
class LossEnsemble:
    """Fits of the forms that were not rejected."""

    fits: tuple[LossFit, ...]
    backtests: tuple[FormBacktest, ...]  # of all forms, best first
    drift: Drift
    level: float

    @property
    def weights(self) -> Floats:
        """(fits,) of the average, summing to one."""
        weight = {backtest.form: backtest.weight for backtest in self.backtests}
        found = np.array([weight[fit.form] for fit in self.fits])
        return np.asarray(found / found.sum(), dtype=float)

    def log_loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Weighted mean of the forms' log losses."""
        logs = np.stack([np.log(f.loss(params, tokens)) for f in self.fits])
        return np.asarray(np.tensordot(self.weights, logs, axes=1), dtype=float)

    def each(self, params: float, tokens: float) -> dict[str, float]:
        """Loss that each kept form expects at one scale."""
        return {fit.form: float(fit.loss(params, tokens)) for fit in self.fits}

    def predict(self, params: float, tokens: float) -> LossPrediction:
        """Loss at one scale, with an interval that knows of the choice of form and of how it fared before."""
        value = float(self.log_loss(params, tokens))
        law, run = self.mixed_log_draws(params, tokens)
        none = Interval(value=float(np.exp(value)), low=None, high=None)
        return LossPrediction(
            expected=self._interval(value, law) if len(law) else none,
            run=self._interval(value, run) if len(law) else none,
            extrapolation_decades=self.fits[0].predict(params, tokens).extrapolation_decades,
        )

    def mixed_log_draws(self, params: float, tokens: float) -> tuple[Floats, Floats]:
        """(draws,) log losses of the law at one scale, drift included, and of one more run; empty without an interval.

        Each form by its weight.
        """
        rng = np.random.default_rng(0)
        found = []
        for fit, weight in zip(self.fits, self.weights, strict=True):
            draws = fit.widened_log_draws(params, tokens)
            if len(draws):
                found.append(rng.choice(draws, max(1, round(MIXED * weight))))
        if not found:
            return np.empty(0), np.empty(0)
        law = np.concatenate(found)
        beyond = self.fits[0].predict(params, tokens).extrapolation_decades["flops"]
        law = law + self.drift.sd * beyond * rng.standard_t(self.drift.freedom, len(law))
        pick = rng.choice(len(self.fits), len(law), p=self.weights)
        noise = np.empty(len(law))
        for i, fit in enumerate(self.fits):
            noise[pick == i] = rng.choice(fit.residuals, int((pick == i).sum()))
        return law, law + noise

    def _interval(self, value: float, draws: Floats) -> Interval:
        low, high = np.exp(np.quantile(draws, [0.5 - self.level / 2, 0.5 + self.level / 2]))
        return Interval(value=float(np.exp(value)), low=float(low), high=float(high))

    def at_level(self, level: float) -> LossEnsemble:
        """The same with intervals of another level."""
        return replace(self, level=level, fits=tuple(replace(fit, level=level) for fit in self.fits))

    def to_json(self) -> dict[str, Any]:
        """JSON values; `from_json` brings the same ensemble back."""
        return {
            "fits": [fit.to_json() for fit in self.fits],
            "backtests": [asdict(backtest) for backtest in self.backtests],
            "drift": asdict(self.drift),
            "level": self.level,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> LossEnsemble:
        """The ensemble that `to_json` wrote, also after a trip through JSON text that has null for infinity."""
        return cls(
            fits=tuple(LossFit.from_json(fit) for fit in content["fits"]),
            backtests=tuple(
                FormBacktest(**{**found, **{k: np.inf for k in ("error", "bias") if found[k] is None}})
                for found in content["backtests"]
            ),
            drift=Drift(**content["drift"]),
            level=content["level"],
        )


def fit_ensemble(
    params: ArrayLike,
    tokens: ArrayLike,
    loss: ArrayLike,
    *,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
    forms: Sequence[str] = tuple(FORMS),
    asymptote: AsymptotePrior | float | None = None,
    made: Sequence[LossFit] = (),
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> LossEnsemble:
    """Backtest every form inside the runs, and fit those that are not rejected to all of them.

    Parameters are those of `fit_loss`; `asymptote` is for the forms that have one, `made` are fits of these very runs
    that need not be made again.

    Raises
    ------
    NotEnoughData
        Too few runs, or too few different budgets, to hold any back.
    FitError
        No form predicts the runs that were held back.
    """
    columns = [np.asarray(x, dtype=float).ravel() for x in (params, tokens, loss)]
    index = cluster_index(clusters, len(columns[0]))
    log_flops = np.log(columns[0]) + np.log(columns[1]) + np.log(6.0)
    parted = cuts(log_flops, index)
    trials = {form: [trial_fit(form, columns, index, cut, asymptote) for cut in parted] for form in forms}
    errors = {
        form: [errors_above(found, columns, cut) for found, cut in zip(trials[form], parted, strict=True)]
        for form in forms
    }
    why = {form: found for form in forms for found in trials[form] if isinstance(found, str)}
    backtests = judge(errors, why)
    kept = [backtest for backtest in backtests if not backtest.rejected]
    ready = {fit.form: fit for fit in made}
    fits = tuple(
        ready.get(backtest.form)
        or fit_loss(
            *columns,
            rng=rng,
            clusters=None if clusters is None else index,
            form=backtest.form,
            asymptote=asymptote if FORMS[backtest.form].asymptote else None,
            resamples=resamples,
            level=level,
        )
        for backtest in kept
    )
    whole = LossEnsemble(fits=fits, backtests=backtests, drift=Drift(sd=0.0, freedom=1.0), level=level)
    seen = [_missed([trials[fit.form][i] for fit in fits], whole, columns, cut) for i, cut in enumerate(parted)]
    return replace(whole, drift=_drift(seen, _slope(whole, columns, log_flops)))


def _missed(below: Sequence[FormDraws | str], whole: LossEnsemble, columns: Sequence[Floats], cut: Cut) -> float:
    """Squared error of slope of the average above a cut (log loss per decade of compute), less what noise would do.

    What the members' own intervals announced is not taken off: they are wide below a cut, and often right only for
    that.
    """
    params, tokens, loss = (x[~cut.inner] for x in columns)
    lever = cut.beyond / (cut.beyond**2).sum()
    laws = [found for found in below if isinstance(found, FormDraws)]
    average = float(whole.weights @ [np.log(law.loss(params, tokens)) @ lever for law in laws])
    noise = float(np.mean([law.noise for law in laws])) ** 2 * float(lever @ lever)
    return (float(np.log(loss) @ lever) - average) ** 2 - noise


def _slope(whole: LossEnsemble, columns: Sequence[Floats], log_flops: Floats) -> float:
    """How fast the loss falls where the runs end: log loss per decade of compute, at the largest run's ratio."""
    top = int(log_flops.argmax())
    ten = 10**0.25
    near, far = (whole.log_loss(columns[0][top] * f, columns[1][top] * f) for f in (1 / ten, ten))
    return abs(float(far - near))


def _drift(seen: Sequence[float], slope: float) -> Drift:
    """What the runs showed, together with the opinion before them."""
    if not np.isfinite(slope):
        raise FitError("the loss laws that these runs support have no value at their largest scale")
    mine = max(float(np.mean(seen)), 0.0)
    freedom = PRIOR_FREEDOM + SEEN_FREEDOM
    variance = (PRIOR_FREEDOM * (PRIOR_SHARE * slope) ** 2 + SEEN_FREEDOM * mine) / freedom
    return Drift(sd=float(np.sqrt(variance)), freedom=freedom)
