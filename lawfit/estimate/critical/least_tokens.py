"""The batch that reaches a loss with the fewest tokens, its law in that loss, and which shape the cost of batches has.

The hyperbola knows no such batch: the smaller the cheaper. Where small batches waste tokens too (weight decay or beta2
held fixed, as many do) there is one, and MiniCPM made it the rule, ``batch = c / loss^p`` (arXiv 2404.06395). The cost
of a stochastic first-order oracle, ``b^2 / (b - b_min)``, has an optimum inside as well (arXiv 2201.11989). Which of
the two shapes a table follows is told by the batches that are left out of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError
from lawfit.estimate.critical.hyperbola import best_curve, fewest_steps
from lawfit.estimate.critical.steps_to_target import StepsTable
from lawfit.estimate.lr_batch.along_batch import fit_stochastic_oracle, stochastic_oracle_interval
from lawfit.estimate.numerics.optimum_law import MeasuredOptima, OptimumLaw, fit_optimum_law
from lawfit.estimate.numerics.sweeps import sweep_parabola
from lawfit.findings import Found, finding, joined
from lawfit.laws.lent import least_tokens_exponent
from lawfit.records import OptimumStatus

Floats = NDArray[np.float64]

HYPERBOLA: Final = "hyperbola"
ORACLE: Final = "stochastic oracle"
LEAST_SD: Final = 0.03  # of ln tokens to a loss, from reading a crossing off a curve
_WORST: Final = 2.3  # a left-out batch that a shape says never reaches the loss counts as a factor of ten
_MIN_BATCHES: Final = 5  # to leave one out of
_WINDOW: Final = 2


@dataclass(frozen=True, kw_only=True)
class LeastTokens:
    """The batch of least tokens to one loss, at one size."""

    params: float
    loss: float  # nats per token
    batch_tokens: float
    log_sd: float  # infinite where it is a bound
    tokens: float  # that it takes there
    status: OptimumStatus


@dataclass(frozen=True, kw_only=True)
class OracleNumbers:
    """The stochastic oracle's own numbers at one loss and size (arXiv 2201.11989); batches in tokens per step."""

    params: float
    loss: float  # nats per token
    steps_min: float  # S_min, at a very large batch
    batch_min: float  # at and below it the loss is never reached
    best_batch: float  # b*, twice that
    best_batch_low: float  # of a 90 % profile interval; 0 where open
    best_batch_high: float  # infinite where open
    cost: float  # SFO complexity at b*: tokens, 4 S_min batch_min
    residual_sd: float  # of ln steps


@dataclass(frozen=True, kw_only=True)
class LeastTokensFit:
    """All of one recipe."""

    oracle: tuple[OracleNumbers, ...]  # of the lowest loss of each size, where its curve has such a batch
    measured: tuple[LeastTokens, ...]
    law: OptimumLaw | None  # batch = c loss^e; None: no batch of least tokens lies inside what was tried
    lent_by: tuple[str, ...] | None  # laws that lend the exponent in part; empty: a vague prior; None: its own
    errors: Mapping[str, float]  # shape -> root mean square of ln steps at batches left out; empty: too few batches

    @property
    def shape(self) -> str | None:
        """The shape that finds batches left out better."""
        return min(self.errors, key=lambda name: self.errors[name], default=None)

    def words(self) -> Found:
        """One line; empty where there is nothing to say."""
        inside = [each.batch_tokens for each in self.measured if each.status is OptimumStatus.INSIDE]
        parts: list[Found] = []
        if self.law is not None:
            low, high = self.law.exponent_interval("loss")
            parts.append(
                finding(
                    "critical.least_tokens",
                    losses=len(inside),
                    least_batch_tokens=min(inside),
                    most_batch_tokens=max(inside),
                    exponent=self.law.exponents["loss"],
                    low=low,
                    high=high,
                    lent_by=self.lent_by,
                )
            )
        elif self.measured:
            parts.append(finding("critical.smallest_cheapest"))
        if self.errors:
            parts.append(finding("critical.shapes", errors=dict(sorted(self.errors.items(), key=lambda e: e[1]))))
        return joined(parts) if parts else ""

    def lines(self) -> list[Found]:
        """What `lawfit fit` prints: the batch of least tokens, and the stochastic oracle's own numbers of each size."""
        said: list[Found] = [finding("critical.least_tokens_line", found=words)] if (words := self.words()) else []
        if self.oracle:
            numbers = [asdict(each) for each in self.oracle]
            said.append(finding("critical.oracle", followed=self.shape == ORACLE, numbers=numbers))
        return said

    def to_json(self) -> dict[str, Any]:
        return {
            "measured": [
                {
                    **vars(each),
                    "status": each.status.value,
                    "log_sd": each.log_sd if np.isfinite(each.log_sd) else None,
                }
                for each in self.measured
            ],
            "law": None if self.law is None else self.law.to_json(),
            "lent": self.lent_by is not None,
            "lent_by": None if self.lent_by is None else list(self.lent_by),
            "oracle": [
                {name: value if np.isfinite(value) else None for name, value in vars(each).items()}
                for each in self.oracle
            ],
            "errors": dict(self.errors),
            "shape": self.shape,
            "words": self.words(),
        }


def fit_least_tokens(table: StepsTable, without_laws: Sequence[str] = ()) -> LeastTokensFit:
    """Batches of least tokens, their law in the loss, and the shapes of the cost compared.

    Targets of one size are one group: they are read off the same runs. Where the sizes are too few, a published law
    lends its exponent, unless `without_laws` names it (`laws.lenders`).
    """
    measured: list[LeastTokens] = []
    oracle: list[OracleNumbers] = []
    wrong: dict[str, list[Floats]] = {HYPERBOLA: [], ORACLE: []}
    for params, loss in np.unique(np.column_stack([table.params, table.target_loss]), axis=0):
        rows = (table.params == params) & (table.target_loss == loss)
        batch, steps = fewest_steps(table.batch_tokens[rows], table.steps[rows])
        if len(batch) < 3:
            continue
        measured.append(_least(float(params), float(loss), batch, np.log(batch * steps)))
        if loss > table.target_loss[table.params == params].min():
            continue
        oracle += _oracle(float(params), float(loss), batch, steps)
        if len(batch) >= _MIN_BATCHES:
            for name, errors in _left_out(batch, np.log(steps)).items():
                wrong[name].append(errors)
    law, lent_by = _law([each for each in measured if np.isfinite(each.log_sd)], without_laws)
    return LeastTokensFit(
        measured=tuple(measured),
        oracle=tuple(oracle),
        law=law,
        lent_by=lent_by,
        errors={name: float(np.sqrt(np.mean(np.concatenate(errors) ** 2))) for name, errors in wrong.items() if errors},
    )


def _least(params: float, loss: float, batch: Floats, log_tokens: Floats) -> LeastTokens:
    found = sweep_parabola(batch, log_tokens, window=_WINDOW, flat=LEAST_SD)  # ln tokens are no loss
    best = int(np.argmin(log_tokens))
    sd = float("inf")
    if found.status is OptimumStatus.INSIDE:
        rows = slice(max(0, best - _WINDOW), best + _WINDOW + 1)
        x = np.log(batch[rows])
        x = x - x.mean()
        curvature, slope, _ = np.polyfit(x, log_tokens[rows], deg=2)
        design = np.vander(x, 3)
        left = log_tokens[rows] - design @ np.polyfit(x, log_tokens[rows], deg=2)
        noise = max(LEAST_SD**2, float(left @ left) / max(len(x) - 3, 1))
        covariance = np.linalg.pinv(design.T @ design) * noise
        gradient = np.array([slope / (2 * curvature**2), -1 / (2 * curvature), 0.0])
        sd = float(np.sqrt(gradient @ covariance @ gradient))
    return LeastTokens(
        params=params,
        loss=loss,
        batch_tokens=found.value,
        log_sd=sd,
        tokens=float(np.exp(found.loss)),
        status=found.status,
    )


def _oracle(params: float, loss: float, batch: Floats, steps: Floats) -> list[OracleNumbers]:
    """Empty where steps do not fall with the batch as such a curve does."""
    try:
        found, (low, high), sd = stochastic_oracle_interval(batch, steps)
    except FitError:
        return []
    return [
        OracleNumbers(
            params=params,
            loss=loss,
            steps_min=found.steps_min,
            batch_min=found.batch_min,
            best_batch=found.best_batch,
            best_batch_low=2 * low,
            best_batch_high=2 * high,
            cost=float(found.cost(found.best_batch)),
            residual_sd=sd,
        )
    ]


def _law(
    inside: Sequence[LeastTokens], without_laws: Sequence[str]
) -> tuple[OptimumLaw | None, tuple[str, ...] | None]:
    if not inside:
        return None, None
    optima = MeasuredOptima.of(
        [each.batch_tokens for each in inside],
        [each.log_sd for each in inside],
        {"loss": [each.loss for each in inside]},
        group=[each.params for each in inside],
    )
    try:
        return fit_optimum_law(optima, ("loss",)), None
    except FitError:
        lent = least_tokens_exponent(without_laws)
        return fit_optimum_law(optima, ("loss",), prior={"loss": lent.gaussian}), lent.laws


def _left_out(batch: Floats, log_steps: Floats) -> dict[str, Floats]:
    """Errors of ln steps of each shape at each batch that is left out of it."""
    errors: dict[str, list[float]] = {HYPERBOLA: [], ORACLE: []}
    for k in range(len(batch)):
        rest, known = np.delete(batch, k), np.delete(log_steps, k)
        log_doubling, log_steps_min = best_curve(rest, known)
        errors[HYPERBOLA].append(log_steps_min + float(np.log1p(np.exp(log_doubling) / batch[k])) - log_steps[k])
        try:
            said = float(fit_stochastic_oracle(rest, np.exp(known)).steps(batch[k]))
        except FitError:
            said = float("inf")
        errors[ORACLE].append(float(np.log(said)) - log_steps[k])
    return {name: np.clip(np.array(values), -_WORST, _WORST) for name, values in errors.items()}
