"""Which form of a loss law to extrapolate with: those that a backtest inside the runs does not reject, averaged.

Forms that fit the same runs equally well part company beyond them, and the intervals of each know nothing of it. The
interval of the average holds three things: what the forms' resamples leave open (averaged as the forms are), where the
forms part, and a drift (`loss_backtest`) that grows with the distance from the runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import FitError
from lawfit.estimate.loss.backtest import (
    Candidate,
    Cut,
    Drift,
    FormBacktest,
    candidates,
    cuts,
    errors_above,
    judge,
    trial_fit,
    window,
)
from lawfit.estimate.loss.fit import LEVEL, RESAMPLES, fit_loss
from lawfit.estimate.loss.forms import FORMS
from lawfit.estimate.loss.result import (
    MIXED,
    AsymptotePrior,
    FormDraws,
    Interval,
    LossFit,
    LossPrediction,
)
from lawfit.estimate.loss.split_backtest import SplitBacktest, among, judge_split
from lawfit.estimate.numerics.newton import Floats
from lawfit.estimate.numerics.resample import cluster_index
from lawfit.findings import Found, finding, found_of
from lawfit.units import decades_beyond

# What the drift is before the runs have spoken, as a share of the slope of log loss along compute, and how many
# extrapolations that opinion and the runs' own are worth. Settled on simulated laws outside every form, and checked by
# leaving out one family of public sources after another (docs/decisions.md; tests/benchmarks/loss_choice.py).
PRIOR_SHARE: Final = 0.02
PRIOR_FREEDOM: Final = 2.0
# How far members lie from their average counts by this: the average errs less than they do, and the drift has heard of
# it. Settled on 116 simulated laws (seeds 30000 on of tests/benchmarks/loss_choice.py): 95 % of 90 % intervals hold, no
# kind of law, design or distance below 88 %; with members drawn whole, one at a time, it was 98 %, and the mean score
# of an interval 31 % larger.
APART: Final = 0.5
FEWEST_RESAMPLES: Final = 50
SAME_COMPUTE: Final = 1e-6  # in logs
SEEN_FREEDOM: Final = 2.0  # the cuts of one study are one or two extrapolations: their errors share their cause


@dataclass(frozen=True, kw_only=True)
class _Chance:
    """What the draws of an average need of chance, the same at all scales where the members count alike."""

    order: NDArray[np.intp]  # (draws,)
    member: NDArray[np.intp]  # (draws,) which of those that have draws
    drift: Floats  # (draws,) Student's t
    noise: Floats  # (draws,) of one more run


@dataclass(frozen=True, kw_only=True, eq=False)  # two are the same where they are one: what is asked of it is kept
class LossEnsemble:
    """Fits of the candidates that were not rejected."""

    fits: tuple[LossFit, ...]
    backtests: tuple[FormBacktest, ...]  # of all candidates, best first; those kept in the order of `fits`
    drift: Drift
    level: float
    # how each of `fits`, and the law of profiles where there is one, foretold the split; empty where nothing says it
    split: tuple[SplitBacktest, ...] = ()

    @cached_property
    def weights(self) -> Floats:
        """(fits,) of the average at the largest runs and beyond, summing to one."""
        found = np.array([backtest.weight for backtest in self.backtests if not backtest.rejected])
        return np.asarray(found / found.sum(), dtype=float)

    def weights_at(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """(fits, ...) of the average at scales: a fit that was made without the smallest runs counts less among them.

        Its weight falls from where its own runs begin, in log compute, to nothing at the smallest run.
        """
        log_flops = np.log(params) + np.log(tokens) + np.log(6.0)
        begins = self._log_flops_begin
        span = begins - begins.min()
        ramp = [
            np.clip((log_flops - begins.min()) / s, 0.0, 1.0) if s > SAME_COMPUTE else np.ones_like(log_flops)
            for s in span
        ]
        found = np.stack([w * r for w, r in zip(self.weights, ramp, strict=True)])
        total = found.sum(axis=0)
        equal = self.weights.reshape(-1, *[1] * log_flops.ndim) * np.ones_like(found)
        return np.asarray(np.where(total > 0, found / np.where(total > 0, total, 1.0), equal), dtype=float)

    @cached_property
    def _log_flops_begin(self) -> Floats:
        """(fits,) of the smallest run that each was made with."""
        return np.log([fit.scales["flops"][0] for fit in self.fits])

    def log_loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Weighted mean of the log losses of those that have one."""
        return self._mean_of(self._logs(params, tokens), params, tokens)

    def _logs(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """(fits, ...) log losses, not finite where a form has none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.stack([np.log(fit.loss(params, tokens)) for fit in self.fits])

    def _logs_at(self, params: float, tokens: float) -> Floats:
        """The same at one scale."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(_losses(self, params, tokens))

    def _mean_of(self, logs: Floats, params: ArrayLike, tokens: ArrayLike) -> Floats:
        weights = np.where(np.isfinite(logs), self.weights_at(params, tokens), 0.0)
        total = weights.sum(axis=0)
        mean = (weights * np.where(np.isfinite(logs), logs, 0.0)).sum(axis=0) / np.where(total > 0, total, 1.0)
        return np.asarray(np.where(total > 0, mean, np.nan), dtype=float)

    def each(self, params: float, tokens: float) -> dict[str, float]:
        """Loss that each kept form expects at one scale, its windows averaged."""
        found: dict[str, list[tuple[float, float]]] = {}
        for fit, loss, weight in zip(
            self.fits, _losses(self, params, tokens), self.weights_at(params, tokens), strict=True
        ):
            found.setdefault(fit.form, []).append((loss, float(weight)))
        return {
            form: float(np.exp(_mean(np.log([v for v, _ in own]), [w for _, w in own]))) for form, own in found.items()
        }

    def by_form(self) -> tuple[FormBacktest, ...]:
        """One entry for each form: its weights added up, and the better of its windows for the rest, best first."""
        forms: dict[str, FormBacktest] = {}
        for each in self.backtests:  # the best first
            if each.form in forms:
                first = forms[each.form]
                forms[each.form] = replace(first, weight=first.weight + each.weight)
            else:
                forms[each.form] = each
        return tuple(forms.values())

    @cached_property
    def scales(self) -> Mapping[str, tuple[float, float]]:
        """Smallest and largest params, tokens and flops that were fitted, by any."""
        return {
            name: (min(fit.scales[name][0] for fit in self.fits), max(fit.scales[name][1] for fit in self.fits))
            for name in self.fits[0].scales
        }

    def predict(self, params: float, tokens: float) -> LossPrediction:
        """Loss at one scale, with an interval that knows of the choice of form and of how it fared before."""
        return self._predicted(self._logs_at(params, tokens), self._draws(params, tokens), params, tokens)

    def predictions(self, params: Floats, tokens: Floats) -> list[LossPrediction]:
        """`predict` at many scales (n,), of which each form is asked once."""
        logs, draws = self._logs(params, tokens), self._draws(params, tokens)
        return [
            self._predicted(logs[:, k], [each[:, [k]] for each in draws], float(n), float(d))
            for k, (n, d) in enumerate(zip(params, tokens, strict=True))
        ]

    def _predicted(self, logs: Floats, draws: Sequence[Floats], params: float, tokens: float) -> LossPrediction:
        value = float(self._mean_of(logs, params, tokens))
        law, run = self._mixed(logs, draws, value, params, tokens)
        none = Interval(value=float(np.exp(value)), low=None, high=None)
        return LossPrediction(
            expected=self._interval(value, law) if len(law) else none,
            run=self._interval(value, run) if len(law) else none,
            extrapolation_decades=self._beyond(params, tokens),
        )

    def _draws(self, params: ArrayLike, tokens: ArrayLike) -> list[Floats]:
        """(resamples, scales) log losses by the resamples of each fit."""
        none = np.empty((0, np.size(params)))
        return [fit.log_draws(params, tokens) if len(fit.draws) else none for fit in self.fits]

    def _beyond(self, params: float, tokens: float) -> dict[str, float]:
        at = {"params": params, "tokens": tokens, "flops": 6.0 * params * tokens}
        return {name: decades_beyond(at[name], *self.scales[name]) for name in at}

    def mixed_log_draws(self, params: float, tokens: float) -> tuple[Floats, Floats]:
        """(draws,) log losses of the law at one scale, drift included, and of one more run; empty without an interval.

        Errors of the members go together, as they share their runs: the average's quantile is that of their quantiles.
        """
        logs = self._logs_at(params, tokens)
        draws = self._draws(params, tokens)
        return self._mixed(logs, draws, float(self._mean_of(logs, params, tokens)), params, tokens)

    def _mixed(
        self, logs: Floats, each: Sequence[Floats], value: float, params: float, tokens: float
    ) -> tuple[Floats, Floats]:
        """See `mixed_log_draws`; `each` are the (resamples, 1) log losses by each fit."""
        weights = self.weights_at(params, tokens)
        shares = (np.arange(MIXED) + 0.5) / MIXED
        within, apart, counts = np.zeros(MIXED), [], []
        for fit, weight, own, of_fit in zip(self.fits, weights, logs.tolist(), each, strict=True):
            draws = fit.widened(of_fit[:, 0])
            if len(draws) and weight > 0 and np.isfinite(own):
                within += weight * np.interp(shares * (len(draws) - 1), np.arange(len(draws)), np.sort(draws - own))
                apart.append(own - value)
                counts.append(weight)
        if not counts:
            return np.empty(0), np.empty(0)
        chance = _chance(self, tuple(counts), tuple(weights.tolist()))
        law = value + within[chance.order] / sum(counts) + APART * np.array(apart)[chance.member]
        law = law + self.drift.sd * self._beyond(params, tokens)["flops"] * chance.drift
        return law, law + chance.noise

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
            "split": [asdict(found) for found in self.split],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> LossEnsemble:
        """The ensemble that `to_json` wrote, also after a trip through JSON text that has null for infinity."""
        return cls(
            fits=tuple(LossFit.from_json(fit) for fit in content["fits"]),
            backtests=tuple(
                FormBacktest(
                    **{**found, **{k: np.inf for k in ("error", "bias") if found[k] is None}, "reason": reason}
                )
                for found in content["backtests"]
                for reason in [found_of(found["reason"])]
            ),
            drift=Drift(**content["drift"]),
            level=content["level"],
            split=tuple(
                SplitBacktest(**{**found, "error": np.inf if found["error"] is None else found["error"]})
                for found in content.get("split", ())  # fits of before were not judged by it
            ),
        )


@lru_cache(maxsize=16)
def _losses(law: LossEnsemble, params: float, tokens: float) -> tuple[float, ...]:
    """Loss that each fit expects at one scale, which an answer asks for several times."""
    return tuple(float(fit.loss(params, tokens)) for fit in law.fits)


@lru_cache(maxsize=16)
def _chance(law: LossEnsemble, counts: tuple[float, ...], weights: tuple[float, ...]) -> _Chance:
    """The draws of `LossEnsemble._mixed`.

    Parameters
    ----------
    counts : weights of those members that have draws
    weights : of all
    """
    rng = np.random.default_rng(0)
    order = rng.permutation(MIXED)
    member = rng.choice(len(counts), MIXED, p=np.array(counts) / sum(counts))
    drift = rng.standard_t(law.drift.freedom, MIXED)
    pick, noise = rng.choice(len(law.fits), MIXED, p=np.array(weights)), np.empty(MIXED)
    for i, fit in enumerate(law.fits):
        noise[pick == i] = rng.choice(fit.residuals, int((pick == i).sum()))
    return _Chance(order=order, member=member, drift=drift, noise=noise)


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
    """Backtest every candidate inside the runs, and fit those that are not rejected to all runs of their windows.

    Parameters are those of `fit_loss`; `asymptote` is for the forms that have one, `made` are fits of all these runs
    that need not be made again: of those that are certified, none is rejected.

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
    tried = candidates(forms, columns, index)
    trials = {
        each: [few or trial_fit(each, columns, index, cut, asymptote) for cut in parted] for each, few in tried.items()
    }
    errors = {
        each: [errors_above(found, columns, cut) for found, cut in zip(trials[each], parted, strict=True)]
        for each in tried
    }
    why = {each: found for each in tried for found in trials[each] if not isinstance(found, FormDraws)}
    ready = {Candidate(fit.form, 0.0): fit for fit in made}
    backtests = judge(errors, why, [each for each, fit in ready.items() if fit.certificate.certified])
    kept = {Candidate(b.form, b.without): b for b in backtests if not b.rejected}
    base = trials.get(Candidate("additive", 0.0), [""] * len(parted))
    split = judge_split({each: trials[each] for each in kept}, base, columns, parted, index)
    counts = {Candidate(each.form, each.without): each.weight for each in split}
    fits: list[LossFit] = []
    lost: dict[Candidate, Found] = {}
    for candidate, each in kept.items():
        rows = window(columns, each.without)
        try:
            fits.append(
                ready.get(candidate)
                or fit_loss(
                    *(x[rows] for x in columns),
                    rng=rng,
                    clusters=None if clusters is None else index[rows],
                    form=each.form,
                    asymptote=asymptote if FORMS[each.form].asymptote else None,
                    resamples=_resamples(resamples, max(each.weight, counts.get(candidate, 0.0))),
                    level=level,
                )
            )
        except FitError as error:
            lost[candidate] = error.finding
    if not fits:
        raise FitError(finding("loss.no_form_fits"))
    backtests = tuple(_without(b, lost.get(Candidate(b.form, b.without))) for b in backtests)
    split = among([each not in lost for each in kept], split)
    whole = LossEnsemble(
        fits=tuple(fits), backtests=backtests, drift=Drift(sd=0.0, freedom=1.0), level=level, split=split
    )
    ready_trials = [trials[each] for each in kept if each not in lost]
    seen = [_missed([trial[i] for trial in ready_trials], whole, columns, cut) for i, cut in enumerate(parted)]
    return replace(whole, drift=_drift(seen, _slope(whole, columns, log_flops)))


def _resamples(asked: int, weight: float) -> int:
    """As many as a member of the average is drawn from: few of one that counts little."""
    return min(asked, max(FEWEST_RESAMPLES, round(2 * weight * asked)))


def _without(backtest: FormBacktest, lost: Found | None) -> FormBacktest:
    return backtest if lost is None else replace(backtest, rejected=True, weight=0.0, reason=lost)


def _mean(values: Sequence[float] | Floats, weights: Sequence[float]) -> float:
    """Weighted; plain where all weights are 0."""
    return float(np.average(values, weights=weights if sum(weights) > 0 else None))


def _missed(below: Sequence[FormDraws | Found], whole: LossEnsemble, columns: Sequence[Floats], cut: Cut) -> float:
    """Squared error of slope above a cut (log loss per decade of compute) of the members, less what noise would do.

    The weighted mean over members, not the error of their average: above one cut errors of both signs cancel by luck.
    What the members' own intervals announced is not taken off: they are wide below a cut, and often right only for
    that.
    """
    params, tokens, loss = (x[~cut.inner] for x in columns)
    lever = cut.beyond / (cut.beyond**2).sum()
    laws = [found for found in below if isinstance(found, FormDraws)]
    slopes = np.array([np.log(law.loss(params, tokens)) @ lever for law in laws])
    noise = float(np.mean([law.noise for law in laws])) ** 2 * float(lever @ lever)
    return float(whole.weights @ (np.log(loss) @ lever - slopes) ** 2) - noise


def _slope(whole: LossEnsemble, columns: Sequence[Floats], log_flops: Floats) -> float:
    """How fast the loss falls where the runs end: log loss per decade of compute, at the largest run's ratio."""
    top = int(log_flops.argmax())
    ten = 10**0.25
    near, far = (whole.log_loss(columns[0][top] * f, columns[1][top] * f) for f in (1 / ten, ten))
    return abs(float(far - near))


def _drift(seen: Sequence[float], slope: float) -> Drift:
    """What the runs showed, together with the opinion before them."""
    if not np.isfinite(slope):
        raise FitError(finding("loss.no_value"))
    mine = max(float(np.mean(seen)), 0.0)
    freedom = PRIOR_FREEDOM + SEEN_FREEDOM
    variance = (PRIOR_FREEDOM * (PRIOR_SHARE * slope) ** 2 + SEEN_FREEDOM * mine) / freedom
    return Drift(sd=float(np.sqrt(variance)), freedom=freedom)
