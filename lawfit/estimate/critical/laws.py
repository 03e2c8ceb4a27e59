"""Which quantity a critical batch follows: laws in tokens, in params and in both, weighed against each other.

Sizes and horizons mostly grow together, and then measured critical batches cannot tell a law in tokens from one in
params, though the two part ways at another ratio of tokens to params. So each law is scored by how likely it finds
every size that is left out of it (their joint density, all targets of a size together), and answers count by that
score and by what studies that varied the two separately found: tokens (arXiv 2410.21676, 2505.13738). The interval of
the average spans the laws that are left standing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import FitError
from lawfit.estimate.numerics.optimum_law import (
    MeasuredOptima,
    OptimumLaw,
    PredictedOptimum,
    fit_optimum_law,
    mixture_quantile,
)
from lawfit.findings import Found
from lawfit.laws.lent import critical_exponents

Floats = NDArray[np.float64]

BOTH: Final = "params and tokens"
INPUTS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "tokens": ("tokens",),
    "params": ("params",),
    "loss": ("loss",),
    BOTH: ("params", "tokens"),
}
# Before the data speak. Where D and N were varied separately the exponent was 0.47 in tokens and 0.09 in params
# (`zhang_tokens`, `zhang_fixed_tokens`); where neither may lend, the laws start alike.
PRIOR_SHARES: Final[Mapping[str, float]] = {"tokens": 0.7, "params": 0.15, BOTH: 0.15}
NEGLIGIBLE: Final = 0.05  # a law with a smaller share does not answer
# For the scores alone: what is left of few sizes does not determine an exponent by itself. Centred on what published
# laws say, with twice the width that they lend to an answer.
_SCORING_WIDENING: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class AveragedLaw:
    """Laws of the same optimum, each with its share in the answer."""

    shares: Mapping[str, float]  # name -> adding up to 1, the largest first
    laws: Mapping[str, OptimumLaw]

    @property
    def leading(self) -> str:
        return next(iter(self.shares))

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> AveragedLaw:
        """From a route of a stored critical batch; one of before there were shares has one law that answers."""
        shares = {name: float(share) for name, share in (document.get("shares") or {document["answering"]: 1}).items()}
        return cls(shares=shares, laws={name: OptimumLaw.from_json(document["laws"][name]) for name in shares})

    @property
    def inputs(self) -> tuple[str, ...]:
        """What `predict` needs."""
        return tuple(dict.fromkeys(name for law in self.shares for name in self.laws[law].inputs))

    def value(self, **inputs: ArrayLike) -> Floats:
        """The centre of `predict`, at many places at once."""
        logs = {name: np.log(np.asarray(column, dtype=float)) for name, column in inputs.items()}
        total = np.zeros(())
        for name, share in self.shares.items():
            law = self.laws[name]
            total = total + share * (np.log(law.const) + sum(e * logs[x] for x, e in law.exponents.items()))
        return np.asarray(np.exp(total))

    def predict(self, level: float = 0.9, **inputs: float) -> PredictedOptimum:
        """The weighted geometric mean; the interval is of the mixture, so it holds what the laws disagree about."""
        missing = sorted(set(self.inputs) - set(inputs))
        if missing:
            raise ValueError(f"this law also needs {', '.join(missing)}")
        weights, means, sds = [], [], []
        decades: dict[str, float] = {}
        for name, share in self.shares.items():
            law = self.laws[name]
            row = np.array([1.0, *(np.log(inputs[x]) - c for x, c in zip(law.inputs, law.centre, strict=True))])
            weights.append(share * law.weights)
            means.append(law.means @ row)
            spread = np.einsum("i,sij,j->s", row, law.covariances, row)
            sds.append(np.sqrt(spread + law.scatters**2 + law.shared_log_sd**2))
            decades |= law.decades(**inputs)
        w, m, s = (np.concatenate(parts) for parts in (weights, means, sds))
        low, high = (float(np.exp(mixture_quantile(w, m, s, q))) for q in (0.5 - level / 2, 0.5 + level / 2))
        return PredictedOptimum(value=float(np.exp(w @ m)), low=low, high=high, level=level, decades=decades)


def weigh(
    optima: MeasuredOptima, laws: Mapping[str, OptimumLaw], without_laws: Sequence[str] = ()
) -> tuple[AveragedLaw, dict[str, float]]:
    """Average the laws in tokens, in params and in both, as far as there are any; and the score of each.

    A score is the summed log density of each size's critical batches under the law fitted to the other sizes. With
    fewer than three sizes nothing can be scored, and the law in tokens answers alone. `without_laws` lend neither
    exponents to the scores nor what is believed before them.
    """
    names = [name for name in PRIOR_SHARES if name in laws]
    scores = {name: score_left_out(optima, name, without_laws) for name in names} if optima.groups > 2 else {}
    if not scores:
        return AveragedLaw(shares={"tokens": 1.0}, laws=laws), {}
    told = any(each.laws for each in critical_exponents(INPUTS_OF[BOTH], without_laws).values())
    log_share = np.array([(np.log(PRIOR_SHARES[name]) if told else 0.0) + scores[name] for name in names])
    shares = np.exp(log_share - log_share.max())
    shares /= shares.sum()
    shares = np.where(shares < NEGLIGIBLE, 0.0, shares)
    shares /= shares.sum()
    order = [k for k in np.argsort(-shares, kind="stable") if shares[k] > 0]
    return AveragedLaw(shares={names[k]: float(shares[k]) for k in order}, laws=laws), scores


def score_left_out(optima: MeasuredOptima, name: str, without_laws: Sequence[str] = ()) -> float:
    """Sum over sizes of the log density of what was measured there, by the law fitted to the others."""
    inputs = INPUTS_OF[name]
    lent = critical_exponents(inputs, without_laws, widening=_SCORING_WIDENING)
    prior = {x: each.gaussian for x, each in lent.items()}
    return sum(
        log_density(fit_optimum_law(optima.take(optima.group != g), inputs, prior=prior), optima, g)
        for g in range(optima.groups)
    )


def log_density(law: OptimumLaw, optima: MeasuredOptima, group: int) -> float:
    """Log density of the optima of one group that the law has not seen: they share coefficients and scatter."""
    rows = optima.group == group
    logs = np.column_stack([np.log(optima.inputs[name][rows]) for name in law.inputs])
    design = np.column_stack([np.ones(len(logs)), logs - law.centre])
    own = np.diag(optima.log_sd[rows] ** 2 * rows.sum())
    cov = np.einsum("ni,sij,mj->snm", design, law.covariances, design) + law.scatters[:, None, None] ** 2 + own
    left = optima.log_value[rows] - law.means @ design.T
    misfit = np.einsum("sn,snm,sm->s", left, np.linalg.inv(cov), left)
    logs_of = np.log(law.weights + 1e-300) - 0.5 * (misfit + np.linalg.slogdet(2 * np.pi * cov)[1])
    top = logs_of.max()
    return float(top + np.log(np.exp(logs_of - top).sum()))


def fit_candidates(optima: MeasuredOptima, names: Sequence[str]) -> tuple[dict[str, OptimumLaw], dict[str, Found]]:
    """A law by each of the names (keys of `INPUTS_OF`) that the optima have inputs for; why others are not had."""
    laws: dict[str, OptimumLaw] = {}
    missing: dict[str, Found] = {}
    for name in names:
        if set(INPUTS_OF[name]) <= set(optima.inputs):
            try:
                laws[name] = fit_optimum_law(optima, INPUTS_OF[name])
            except FitError as error:
                missing[name] = error.finding
    return laws, missing
