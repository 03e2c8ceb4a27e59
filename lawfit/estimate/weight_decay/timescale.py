"""The best AdamW timescale of each scale, its law in tokens per parameter, and weight decay from it.

The best timescale of each scale comes from one joint fit of all slices (`valley`). A law of those scales
says how it moves with tokens per parameter; where the scales do not determine its exponent, it is lent in part by a
published law (or, where none lends, by a vague prior), and the certificate names the sweep that would settle it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.numerics.certificate import Certificate
from lawfit.estimate.numerics.optimum_law import MeasuredOptima, OptimumLaw, fit_optimum_law
from lawfit.estimate.weight_decay.certificate import NAMES, USUAL_EXPONENT, certify_timescale
from lawfit.estimate.weight_decay.sweep import AS_LARGE, AS_SMALL, DecayOptimum, DecayRuns, DecaySlice, locate_in_slices
from lawfit.estimate.weight_decay.valley import Valley, fit_windows, usable_slices, with_valley
from lawfit.laws.lent import Lent, published_timescale, timescale_exponent
from lawfit.laws.timescale import DecayConvention, weight_decay_of
from lawfit.records import FitStatus, OptimumStatus
from lawfit.units import counted, format_quantity

__all__ = ["RATIO", "PredictedDecay", "ScaleTimescale", "TimescaleFit", "fit_timescale", "usable_slices"]

RATIO: Final = "tokens_per_param"
# Timescale x root of the tokens per parameter, about 1 in what was published; in a wrong unit 1 / seq_len of that.
PLAUSIBLE: Final = (0.03, 30.0)
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
    sentence: str  # what to know before using it; "" when nothing

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
    certificate: Certificate | None  # None without a law
    sentences: tuple[str, ...]
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
            raise FitError("; ".join(self.sentences) or "these runs show no best weight decay")
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
            sentence="; ".join(self.sentences),
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
            "certificate": None if self.certificate is None else self.certificate.to_json(),
            "sentences": list(self.sentences),
            "lent_by": None if self.lent_by is None else list(self.lent_by),
        }


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
        raise NotEnoughData(
            "weight decay never varies at one scale, batch and learning rate; run three or more values of it at one "
            "of your settings, for example a third, one and three times the one in use"
        )
    usable = with_valley(slices)
    valley = fit_windows(usable) if usable else None
    scales = _scales(optima, usable, valley)
    lent = timescale_exponent(without_laws)
    law, status, report, sentences, borrowed = _law(scales, valley, lent)
    if law is None and (said := bracket_sentence(optima, without_laws)):
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
) -> tuple[OptimumLaw | None, FitStatus, Certificate | None, tuple[str, ...], bool]:
    """The law of the scales that show their optimum, its status, its certificate, and what to know before using it;
    and whether its exponent is in part lent."""
    known = [s for s in scales if np.isfinite(s.log_sd)]
    sentences = _open_scales([s for s in scales if not np.isfinite(s.log_sd)])
    if not known or valley is None:
        return None, FitStatus.UNCERTIFIED, None, ("no scale shows its best weight decay", *sentences), False
    implied = np.exp(np.mean([np.log(s.timescale) + USUAL_EXPONENT * np.log(s.tokens / s.params) for s in known]))
    if not PLAUSIBLE[0] < implied < PLAUSIBLE[1]:
        low, high = min(s.timescale for s in known), max(s.timescale for s in known)
        sentences.append(
            f"timescales of {low:.2g} to {high:.2g} are far from all that was published (0.02 to 0.5); "
            f"is the batch in tokens?"
        )
    optima = MeasuredOptima.of(
        [s.timescale for s in known],
        [s.log_sd for s in known],
        {RATIO: [s.tokens / s.params for s in known]},
        shared_log_sd=valley.shared_sd,
    )
    places, rows = [(s.params, s.tokens) for s in known], sum(s.runs for s in known)
    status, why = FitStatus.OK, ""
    try:
        law = fit_optimum_law(optima, (RATIO,))
        report = certify_timescale(optima, law, places, valley.search, rows=rows)
        if NAMES[1] in report.weak:
            why = f"these scales leave it open by {report.standard_errors[NAMES[1]] * USUAL_EXPONENT:.2f} (sd)"
    except FitError as error:
        why = str(error)
    if why:
        status, law = FitStatus.SPARSE, fit_optimum_law(optima, (RATIO,), prior={RATIO: lent.gaussian})
        report = certify_timescale(optima, law, places, valley.search, rows=rows)
        sentences.insert(0, f"its exponent {lent.words()}, since {why}")
        if report.needed_runs:
            at = report.needed_runs[0].inputs
            sentences.insert(
                1,
                f"a sweep of weight decay at {format_quantity(at['params'])} parameters on "
                f"{format_quantity(at['tokens'])} tokens would determine it best",
            )
    if not valley.search.converged or valley.search.agreeing < valley.search.starts:
        status = FitStatus.UNCERTIFIED
        sentences.append("starts of the joint fit ended in different minima, or did not arrive at one")
    return law, status, report, (*sentences, *map(str, report.warnings)), bool(why)


def bracket_sentence(optima: Sequence[DecayOptimum], without_laws: Sequence[str] = ()) -> str:
    """What sweeps of few values do say: between which timescales the best lies, and whether a published law agrees."""
    shown = [o for o in optima if o.status is OptimumStatus.INSIDE and np.isfinite(o.weight_decay)]
    if not shown:
        return ""
    brackets = np.array([o.timescale_bracket for o in shown])
    closed = int(np.isfinite(brackets[:, 1]).sum())
    low = f"above {brackets[:, 0].min():.2g} to {brackets[:, 0].max():.2g} of the run"
    high = f" (in {closed} also below a bound)" if closed else ""
    count = counted(len(shown), "sweep")
    said = f"{count} with worse neighbours on both sides say only that the best timescale lies {low}{high}"
    lines = np.array(published_timescale([o.params for o in shown], [o.tokens for o in shown], without_laws))
    if not len(lines):
        return said
    held = int(((brackets[:, 0] < lines) & (lines < brackets[:, 1])).sum())
    return f"{said}, with which Power Lines' law agrees in {held}"


_OPEN_WORDS: Final = {
    OptimumStatus.FLAT: "the weight decays tried differ by no more than noise",
    OptimumStatus.TOO_FEW: "too few weight decays were tried",
    OptimumStatus.INSIDE: "the best weight decay lies between those tried, but fewer than three positive ones do not "
    "say where",
}


def _open_scales(scales: Sequence[ScaleTimescale]) -> list[str]:
    """One sentence per reason, with the scales that it holds for."""
    places: dict[str, list[str]] = {}
    for scale in scales:
        edge = scale.status is OptimumStatus.AT_EDGE
        reason = f"the best weight decay is {scale.bound}" if edge else _OPEN_WORDS[scale.status]
        where = f"{format_quantity(scale.params)} params on {format_quantity(scale.tokens)} tokens"
        places.setdefault(reason, []).append(where)
    return [f"{reason} ({', '.join(where)})" for reason, where in places.items()]
