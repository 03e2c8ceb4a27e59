"""The best AdamW timescale of each scale, its law in tokens per parameter, and weight decay from it.

The best timescale of each scale comes from one joint fit of all slices (`valley`). A law of those scales
says how it moves with tokens per parameter; where the scales do not determine its exponent, it is lent in part by a
published law (or, where none lends, by a vague prior), and the certificate names the sweep that would settle it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.numerics.certificate import Certificate
from lawfit.estimate.numerics.optimum_law import MeasuredOptima, OptimumLaw, fit_optimum_law
from lawfit.estimate.weight_decay.certificate import NAMES, USUAL_EXPONENT, certify_timescale
from lawfit.estimate.weight_decay.sweep import AS_LARGE, AS_SMALL, DecayOptimum, DecayRuns, DecaySlice, locate_in_slices
from lawfit.estimate.weight_decay.valley import Valley, fit_windows, usable_slices, with_valley
from lawfit.findings import Finding, Found, finding, joined
from lawfit.laws.lent import Lent, published_timescale, timescale_exponent
from lawfit.laws.timescale import DecayConvention, weight_decay_of
from lawfit.records import FitStatus, OptimumStatus

__all__ = ["RATIO", "PredictedDecay", "ScaleTimescale", "TimescaleFit", "fit_timescale", "usable_slices"]

RATIO: Final = "tokens_per_param"
# Timescale x root of the tokens per parameter, about 1 in what was published; in a wrong unit 1 / seq_len of that.
PLAUSIBLE: Final = (0.03, 30.0)
SHOWN: Final = 6  # scales
RESOLVED_SD: Final = 1.2  # nats of tau: a scale known no better than this does not show its optimum


@dataclass(frozen=True, kw_only=True)
class ScaleTimescale:
    """The best timescale of one scale."""

    params: float
    tokens: float
    timescale: float  # NaN where no slice shows a valley
    log_sd: float  # infinite where the scale does not show it
    status: OptimumStatus
    bound: str  # of the weight decay, when AT_EDGE
    slices: int  # that entered the fit
    runs: int
    noise_sd: float  # of log loss

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            name: (value if np.isfinite(value := float(getattr(self, name))) else None)
            for name in ("params", "tokens", "timescale", "log_sd", "noise_sd")
        }
        return document | {
            "status": self.status.value,
            "bound": self.bound,
            "slices": self.slices,
            "runs": self.runs,
        }


@dataclass(frozen=True, kw_only=True)
class PredictedDecay:
    """Weight decay for a scale, batch and learning rate."""

    weight_decay: float  # coupled to the learning rate, as torch.optim.AdamW takes it
    low: float  # of a `level` interval
    high: float
    level: float
    independent: float  # the same shrinking per step in the independent convention
    timescale: float
    decades: Mapping[str, float]  # of tokens per parameter, beyond the fitted scales; 0 inside
    sentence: Found  # what to know before using it; "" when nothing

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "decades": dict(self.decades)}


@dataclass(frozen=True, kw_only=True)
class TimescaleFit:
    """Everything the runs say about weight decay."""

    status: FitStatus
    scales: tuple[ScaleTimescale, ...]
    optima: tuple[DecayOptimum, ...]  # slice by slice, whatever they show
    law: OptimumLaw | None  # of tau in tokens per parameter; None: see `sentences`
    lr_slope: tuple[float, float] | None  # of ln tau* along ln lr: estimate and sd; None where no grid shows it
    batch_slope: tuple[float, float] | None
    skew: float
    stiffness: float
    log_stiffness_sd: float
    tried: tuple[float, float] | None  # ln tau over the optimum of its scale: lowest and highest of the runs
    certificate: Certificate | None  # None without a law
    sentences: tuple[Found, ...]
    lent_by: tuple[str, ...] | None = None  # laws that lend the exponent in part; empty: a vague prior; None: its own

    @property
    def agree(self) -> bool:
        """Every start of every window ended in the same minimum."""
        return self.certificate is None or self.certificate.search.agreeing == self.certificate.search.starts

    def predict(
        self, params: float, tokens: float, batch_tokens: float, lr: float, *, level: float = 0.9
    ) -> PredictedDecay:
        """The best weight decay at a scale, for the batch and peak learning rate that will be used.

        Raises
        ------
        FitError
            The runs carry no law; the message says what is missing.
        """
        if self.law is None:
            raise FitError(joined(self.sentences))
        tau = self.law.predict(level, **{RATIO: tokens / params})
        value, high, low = (float(weight_decay_of(t, batch_tokens, lr, tokens)) for t in (tau.value, tau.low, tau.high))
        return PredictedDecay(
            weight_decay=value,
            low=low,
            high=high,
            level=level,
            independent=float(
                weight_decay_of(tau.value, batch_tokens, lr, tokens, convention=DecayConvention.INDEPENDENT)
            ),
            timescale=tau.value,
            decades=tau.decades,
            sentence=joined(self.sentences) if self.sentences else "",
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "status": self.status.value,
            "scales": [scale.to_json() for scale in self.scales],
            "optima": [optimum.to_json() for optimum in self.optima],
            "law": None if self.law is None else self.law.to_json(),
            "lr_slope": None if self.lr_slope is None else list(self.lr_slope),
            "batch_slope": None if self.batch_slope is None else list(self.batch_slope),
            "skew": self.skew,
            "stiffness": self.stiffness,
            "log_stiffness_sd": self.log_stiffness_sd,
            "tried": None if self.tried is None else list(self.tried),
            "certificate": None if self.certificate is None else self.certificate.to_json(),
            "sentences": list(self.sentences),
            "lent_by": None if self.lent_by is None else list(self.lent_by),
        }

    def headline(self) -> Finding:
        """The law in one line."""
        if self.law is None:
            raise ValueError("there is no law to put into words")
        low, high = self.law.exponent_interval(RATIO)
        return finding(
            "weight_decay.headline",
            timescale=np.exp(self.law.coefficients[0]),
            tokens_per_param=np.exp(self.law.centre[0]),
            exponent=self.law.exponents[RATIO],
            low=low,
            high=high,
            scales=self.law.points,
        )

    def lines(self) -> list[Finding]:
        """What `lawfit fit` prints below the headline: scales, what moves it at one scale, and its certificate."""
        known = [s for s in self.scales if np.isfinite(s.log_sd)]
        shown = [
            {
                "params": s.params,
                "tokens": s.tokens,
                "timescale": s.timescale,
                "low": s.timescale * np.exp(-1.645 * s.log_sd),
                "high": s.timescale * np.exp(1.645 * s.log_sd),
            }
            for s in known[:SHOWN]
        ]
        said = [finding("weight_decay.scales", scales=shown, more=len(known) - len(shown))] if shown else []
        if self.lr_slope or self.batch_slope:
            said.append(finding("weight_decay.slopes", lr=self.lr_slope, batch_tokens=self.batch_slope))
        if (report := self.certificate) is not None:
            said.append(
                finding(
                    "weight_decay.certificate",
                    status=self.status,
                    lent_by=self.lent_by,
                    # of a lent exponent the reasons are known already
                    reasons=report.reasons if self.status is FitStatus.UNCERTIFIED else (),
                    agreeing=report.search.agreeing,
                    starts=report.search.starts,
                    condition_number=report.condition_number,
                    influence=asdict(report.influence[0]) if report.influence else None,
                )
            )
        return said


def fit_timescale(runs: DecayRuns, without_laws: Sequence[str] = ()) -> TimescaleFit:
    """The best timescale of every scale, and its law where the scales carry one.

    `without_laws` are published laws that must not lend their exponent (`laws.lenders`).

    Raises
    ------
    NotEnoughData
        Weight decay never varies at fixed scale, batch and learning rate.
    """
    slices = list(runs.slices())
    optima = locate_in_slices(slices)
    if not optima:
        raise NotEnoughData(finding("weight_decay.never_varies"))
    usable = with_valley(slices)
    valley = fit_windows(usable) if usable else None
    scales = _scales(optima, usable, valley)
    lent = timescale_exponent(without_laws)
    law, status, report, sentences, borrowed = _law(scales, valley, lent)
    if law is None and (said := brackets(optima, without_laws)):
        sentences = (*sentences, said)
    return TimescaleFit(
        status=status,
        scales=scales,
        optima=optima,
        law=law,
        lr_slope=None if valley is None else valley.lr_slope,
        batch_slope=None if valley is None else valley.batch_slope,
        skew=float("nan") if valley is None else valley.skew,
        stiffness=float("nan") if valley is None else valley.stiffness,
        log_stiffness_sd=float("nan") if valley is None else valley.log_stiffness_sd,
        tried=None if valley is None else valley.tried,
        certificate=report,
        sentences=(*sentences, *runs.notes),
        lent_by=lent.laws if borrowed else None,
    )


def _scales(
    optima: Sequence[DecayOptimum], usable: Sequence[DecaySlice], valley: Valley | None
) -> tuple[ScaleTimescale, ...]:
    found = []
    for scale in sorted({(o.params, o.tokens) for o in optima}):
        mine = [o for o in optima if (o.params, o.tokens) == scale]
        parts = [part for part in usable if part.scale == scale]
        runs = sum(o.runs for o in mine)
        if valley is None or scale not in valley.scales:
            status, bound = _vote(mine)
            found.append(_scale(scale, np.nan, np.inf, status, bound, 0, runs, np.nan))
            continue
        at = valley.scales.index(scale)
        near = [o for o in mine if any(o.lr == p.lr and o.batch_tokens == p.batch_tokens for p in parts)]
        status, bound = _vote(near)
        tau, sd = float(np.exp(valley.centre[at])), float(valley.sd[at])
        tried = np.concatenate([p.timescale(p.weight_decay[p.weight_decay > 0]) for p in parts])
        if status is OptimumStatus.INSIDE and not tried.min() <= tau <= tried.max():
            status, bound = OptimumStatus.AT_EDGE, AS_LARGE if tau < tried.min() else AS_SMALL
        if status in (OptimumStatus.AT_EDGE, OptimumStatus.TOO_FEW):
            sd = np.inf
        elif sd > RESOLVED_SD:
            status, sd = OptimumStatus.FLAT, np.inf
        found.append(_scale(scale, tau, sd, status, bound, len(parts), runs, float(valley.noise[at])))
    return tuple(found)


def _scale(
    scale: tuple[float, float],
    tau: float,
    sd: float,
    status: OptimumStatus,
    bound: str,
    slices: int,
    runs: int,
    noise: float,
) -> ScaleTimescale:
    return ScaleTimescale(
        params=scale[0],
        tokens=scale[1],
        timescale=tau,
        log_sd=sd,
        status=status,
        bound=bound,
        slices=slices,
        runs=runs,
        noise_sd=noise,
    )


def _vote(optima: Sequence[DecayOptimum]) -> tuple[OptimumStatus, str]:
    """What most slices of a scale show; an edge only where more lie at that edge than inside."""
    inside = sum(o.status is OptimumStatus.INSIDE for o in optima)
    for bound in (AS_SMALL, AS_LARGE):
        if sum(o.bound == bound for o in optima) > inside:
            return OptimumStatus.AT_EDGE, bound
    if inside:
        return OptimumStatus.INSIDE, ""
    if any(o.status is OptimumStatus.FLAT for o in optima):
        return OptimumStatus.FLAT, ""
    return OptimumStatus.TOO_FEW, ""


def _law(
    scales: Sequence[ScaleTimescale], valley: Valley | None, lent: Lent
) -> tuple[OptimumLaw | None, FitStatus, Certificate | None, tuple[Found, ...], bool]:
    """The law of the scales that show their optimum, its status, its certificate, and what to know before using it;
    and whether its exponent is in part lent."""
    known = [s for s in scales if np.isfinite(s.log_sd)]
    sentences = _open_scales([s for s in scales if not np.isfinite(s.log_sd)])
    if not known or valley is None:
        return None, FitStatus.UNCERTIFIED, None, (finding("weight_decay.no_scale"), *sentences), False
    implied = np.exp(np.mean([np.log(s.timescale) + USUAL_EXPONENT * np.log(s.tokens / s.params) for s in known]))
    if not PLAUSIBLE[0] < implied < PLAUSIBLE[1]:
        low, high = min(s.timescale for s in known), max(s.timescale for s in known)
        sentences.append(finding("weight_decay.implausible", low=low, high=high))
    optima = MeasuredOptima.of(
        [s.timescale for s in known],
        [s.log_sd for s in known],
        {RATIO: [s.tokens / s.params for s in known]},
        shared_log_sd=valley.shared_sd,
    )
    places, rows = [(s.params, s.tokens) for s in known], sum(s.runs for s in known)
    status = FitStatus.OK
    why: Found | None = None
    try:
        law = fit_optimum_law(optima, (RATIO,))
        report = certify_timescale(optima, law, places, valley.search, rows=rows)
        if NAMES[1] in report.weak:
            why = finding("weight_decay.exponent_open", sd=report.standard_errors[NAMES[1]] * USUAL_EXPONENT)
    except FitError as error:
        why = error.finding
    if why is not None:
        status, law = FitStatus.SPARSE, fit_optimum_law(optima, (RATIO,), prior={RATIO: lent.gaussian})
        report = certify_timescale(optima, law, places, valley.search, rows=rows)
        needed = [finding("weight_decay.sweep_needed", **run.inputs) for run in report.needed_runs[:1]]
        sentences = [finding("weight_decay.lent_exponent", lent=lent.words(), why=why), *needed, *sentences]
    if not valley.search.converged or valley.search.agreeing < valley.search.starts:
        status = FitStatus.UNCERTIFIED
        sentences.append(finding("weight_decay.starts_apart"))
    return law, status, report, (*sentences, *report.warnings), why is not None


def brackets(optima: Sequence[DecayOptimum], without_laws: Sequence[str] = ()) -> Finding | None:
    """What sweeps of few values do say: between which timescales the best lies, and whether a published law agrees."""
    shown = [o for o in optima if o.status is OptimumStatus.INSIDE and np.isfinite(o.weight_decay)]
    if not shown:
        return None
    low, high = np.array([o.timescale_bracket for o in shown]).T
    lines = np.array(published_timescale([o.params for o in shown], [o.tokens for o in shown], without_laws))
    return finding(
        "weight_decay.brackets",
        sweeps=len(shown),
        least=low.min(),
        most=low.max(),
        closed=int(np.isfinite(high).sum()),
        agree=int(((low < lines) & (lines < high)).sum()) if len(lines) else None,
    )


def _open_scales(scales: Sequence[ScaleTimescale]) -> list[Found]:
    """One finding per reason, with the scales that it holds for."""
    places: dict[tuple[OptimumStatus, str], list[tuple[float, float]]] = {}
    for scale in scales:
        bound = scale.bound if scale.status is OptimumStatus.AT_EDGE else ""
        places.setdefault((scale.status, bound), []).append((scale.params, scale.tokens))
    return [
        finding("weight_decay.open", status=status, bound=bound, scales=where)
        for (status, bound), where in places.items()
    ]
