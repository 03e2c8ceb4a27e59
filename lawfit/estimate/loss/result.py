"""A fitted loss law as a result: what it predicts, what follows from it, and its form in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from lawfit.errors import FitError
from lawfit.estimate.loss.forms_further import EVERY_FORM
from lawfit.estimate.numerics.certificate import Certificate
from lawfit.estimate.numerics.kept import once_for_each
from lawfit.estimate.numerics.newton import Floats
from lawfit.estimate.numerics.quantiles import normal_quantile
from lawfit.estimate.numerics.resample import interval, tail
from lawfit.findings import finding
from lawfit.laws.loss import AdditiveLaw
from lawfit.units import decades_beyond

FARTHEST: Final = 30.0  # ln of a loss, either way, at which a form that runs away ends: still a number
MIXED: Final = 4000  # draws, each resample several times, with which noise is mixed


@dataclass(frozen=True, kw_only=True)
class AsymptotePrior:
    """What is known about the asymptote: ln E is normal around ln `mean` with sd `log_sd`."""

    mean: float  # nats per token
    log_sd: float

    def __post_init__(self) -> None:
        if not (self.mean > 0 and self.log_sd > 0 and np.isfinite(self.mean + self.log_sd)):
            raise ValueError(f"a prior on the asymptote needs a positive mean and width, got {self}")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with the bounds of its interval; None where there are too few clusters for one."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class AsymptoteCase:
    """The fit with the asymptote held at one value."""

    asymptote: float
    doubt: float  # rise of the objective over the fit's, in squared standard errors; below 0: the data prefer this
    parameters: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class LossPrediction:
    """Loss at one scale."""

    expected: Interval  # of the law
    run: Interval  # of one more run, its own noise included
    extrapolation_decades: Mapping[str, float]  # beyond the fitted runs, per input; 0 inside


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """Where a training budget is best spent."""

    flops: float
    params: Interval
    tokens: Interval
    loss: Interval
    extrapolation_decades: float  # of flops, beyond the dearest run that was fitted


@dataclass(frozen=True, kw_only=True)
class FormDraws:
    """One form with its estimate and resamples: enough to say what it expects at a scale."""

    form: str  # name in `EVERY_FORM`
    centre: tuple[float, float]  # mean ln params, mean ln tokens
    theta: Floats  # (k,)
    draws: Floats  # (resamples, k)
    delta: float
    noise: float  # robust sd of log residuals

    def loss(self, params: ArrayLike, tokens: ArrayLike, third: ArrayLike = 1.0) -> Floats:
        """Central estimate, nats per token, at scales that broadcast.

        `third` is for forms that have one: tokens per unique token, or the share of active experts.
        """
        logs = np.broadcast_arrays(np.log(params), np.log(tokens), np.log(third))
        return np.asarray(np.exp(self._log_loss(self.theta[None, :], *logs)[0]).reshape(logs[0].shape), dtype=float)

    def log_draws(self, params: ArrayLike, tokens: ArrayLike, third: ArrayLike = 1.0) -> Floats:
        """(resamples, scales) log loss at scales, by each resample's law."""
        return self._log_loss(self.draws, *np.broadcast_arrays(np.log(params), np.log(tokens), np.log(third)))

    def _log_loss(self, theta: Floats, n: Floats, d: Floats, third: Floats | float = 0.0) -> Floats:
        logs = np.stack([np.ravel(n), np.ravel(d)], axis=1) - self.centre
        if EVERY_FORM[self.form].third:
            logs = np.column_stack([logs, np.broadcast_to(np.ravel(third), len(logs))])
        with np.errstate(over="ignore", invalid="ignore"):  # a form may run away far from its runs
            found = EVERY_FORM[self.form].problem(np.ones(len(logs)), logs, self.delta).log_model(theta)
        return np.clip(found, -FARTHEST, FARTHEST)


@dataclass(frozen=True, kw_only=True)
class LossFit(FormDraws):
    """A fitted loss law. Everything asked of it later follows from these numbers."""

    level: float
    asymptote: str  # "free", "fixed" or "prior"
    parameters: Mapping[str, Interval]
    sensitivity: tuple[AsymptoteCase, ...]
    residuals: Floats  # up to 1000 quantiles of log residuals, as they are for one run
    scales: Mapping[str, tuple[float, float]]  # smallest and largest params, tokens, flops that were fitted
    fitted: int  # parameters that were free
    certificate: Certificate

    @property
    def law(self) -> AdditiveLaw:
        """The central estimate as a formula; only of the additive form."""
        return self._laws(self.theta[None, :], scalar=True)

    def predict(self, params: float, tokens: float) -> LossPrediction:
        """Loss at one scale: of the law, and of one more run."""
        n, d = np.log([params]), np.log([tokens])
        value = float(self._log_loss(self.theta[None, :], n, d)[0, 0])
        log_draws = self.log_draws(params, tokens)[:, 0]
        many = np.resize(log_draws, max(MIXED, len(log_draws)) if len(log_draws) else 0)
        noisy = many + np.random.default_rng(0).choice(self.residuals, len(many))
        at = {"params": params, "tokens": tokens, "flops": 6.0 * params * tokens}
        return LossPrediction(
            expected=self._interval(float(np.exp(value)), np.exp(log_draws)),
            run=self._interval(float(np.exp(value)), np.exp(noisy)),
            extrapolation_decades={name: decades_beyond(at[name], *self.scales[name]) for name in at},
        )

    def widened_log_draws(self, params: ArrayLike, tokens: ArrayLike, third: ArrayLike = 1.0) -> Floats:
        """(resamples,) finite log losses of the law at one scale, widened for how few clusters they rest on.

        Empty without resamples, and where there are about as many parameters as clusters.
        """
        if not len(self.draws):
            return np.empty(0)
        return self.widened(self.log_draws(params, tokens, third)[:, 0])

    def widened(self, draws: Floats) -> Floats:
        """A quantity's value by each resample, those that are finite, widened for how few clusters they rest on."""
        if not len(draws) or self.certificate.clusters <= self.fitted:
            return np.empty(0)
        draws = draws[np.isfinite(draws)]
        middle = np.median(draws)
        return np.asarray(middle + self._wider * (draws - middle), dtype=float)

    @cached_property
    def _wider(self) -> float:
        """By what draws are widened for the few clusters."""
        few = tail(self.level, self.certificate.clusters, self.fitted)
        return normal_quantile(few) / normal_quantile(0.5 - self.level / 2)

    def mixed_log_draws(self, params: float, tokens: float) -> tuple[Floats, Floats]:
        """(draws,) log losses of the law at one scale, and of one more run there; empty without an interval."""
        law = self.widened_log_draws(params, tokens)
        law = np.resize(law, MIXED if len(law) else 0)
        return law, law + np.random.default_rng(0).choice(self.residuals, len(law))

    def log_loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Central estimate, as `LossEnsemble` has it."""
        return np.log(self.loss(params, tokens))

    def optimum(self, flops: float) -> Allocation:
        """Compute-optimal params and tokens of a budget, by the additive law."""
        law, laws = self.law, self._laws(self.draws)
        best, all_best = law.optimum(flops), laws.optimum(flops)
        return Allocation(
            flops=flops,
            params=self._interval(float(best[0]), all_best[0]),
            tokens=self._interval(float(best[1]), all_best[1]),
            loss=self._interval(float(law.loss(*best)), laws.loss(*all_best)),
            extrapolation_decades=decades_beyond(flops, *self.scales["flops"]),
        )

    def tokens_for(self, loss: float, params: float) -> Interval:
        """Tokens at which a size reaches a loss; an infinite bound says that it may never."""
        return self._interval(float(self.law.tokens_for(loss, params)), self._laws(self.draws).tokens_for(loss, params))

    def params_for(self, loss: float, tokens: float) -> Interval:
        """Parameters that reach a loss on so many tokens."""
        return self._interval(float(self.law.params_for(loss, tokens)), self._laws(self.draws).params_for(loss, tokens))

    def to_json(self) -> dict[str, Any]:
        """JSON values; `from_json` brings the same fit back."""
        found = {name: getattr(self, name) for name in ("form", "level", "delta", "asymptote", "noise", "fitted")}
        return {
            **found,
            "centre": list(self.centre),
            "theta": self.theta.tolist(),
            "draws": np.round(self.draws, 9).tolist(),
            "parameters": {name: asdict(value) for name, value in self.parameters.items()},
            "sensitivity": [asdict(case) for case in self.sensitivity],
            "residuals": np.round(self.residuals, 9).tolist(),
            "scales": {name: list(bounds) for name, bounds in self.scales.items()},
            "certificate": self.certificate.to_json(),
        }

    @staticmethod
    @once_for_each
    def from_json(content: Mapping[str, Any]) -> LossFit:
        """The fit that `to_json` wrote, also after a trip through JSON text."""
        centre = content["centre"]
        return LossFit(
            **{
                **content,
                "centre": (float(centre[0]), float(centre[1])),
                "theta": np.array(content["theta"], dtype=float),
                "draws": np.array(content["draws"], dtype=float).reshape(-1, len(content["theta"])),
                "parameters": {name: Interval(**value) for name, value in content["parameters"].items()},
                "sensitivity": tuple(AsymptoteCase(**case) for case in content["sensitivity"]),
                "residuals": np.array(content["residuals"], dtype=float),
                "scales": {name: (float(low), float(high)) for name, (low, high) in content["scales"].items()},
                "certificate": Certificate.from_json(content["certificate"]),
            }
        )

    def _laws(self, theta: Floats, *, scalar: bool = False) -> AdditiveLaw:
        if not scalar and (weak := self.certificate.weak):
            raise FitError(finding("loss.no_inversion", parameters=weak))
        if self.form != "additive":
            raise FitError(finding("loss.additive_alone", form=self.form))
        natural = EVERY_FORM[self.form].natural(theta, np.array(self.centre))
        return AdditiveLaw(**{name: float(value[0]) if scalar else value for name, value in natural.items()})

    def _interval(self, value: float, draws: Floats) -> Interval:
        return expanded_interval(value, draws, self.level, self.certificate.clusters, self.fitted)


def expanded_interval(value: float, draws: Floats, level: float, clusters: int, fitted: int) -> Interval:
    if not len(draws) or clusters <= fitted:
        return Interval(value=value, low=None, high=None)
    low, high = interval(draws, level, clusters, fitted)
    return Interval(value=value, low=float(low), high=float(high))
