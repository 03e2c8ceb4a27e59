"""Everything that measured critical batches say together: laws, which input they follow, how far they can be trusted.

One call for a recipe's critical batches, whatever route they came by (`steps_to_target`, `data_laws`). Laws in tokens,
in params and in both answer together, each with the share that `laws` gives it. Where the sizes determine an
exponent no better than published laws do, theirs is lent (or, where none lends, a vague prior stands in) and the sizes
set the level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from lawfit.errors import NotEnoughData
from lawfit.estimate.critical.batch import CriticalBatch, measured_optima
from lawfit.estimate.critical.laws import (
    BOTH,
    INPUTS_OF,
    PRIOR_SHARES,
    AveragedLaw,
    fit_candidates,
    score_left_out,
    weigh,
)
from lawfit.estimate.numerics.certificate import DOUBTFUL, Certificate
from lawfit.estimate.numerics.optimum_certificate import LEVEL, certify_law
from lawfit.estimate.numerics.optimum_law import (
    MeasuredOptima,
    OptimumLaw,
    Separation,
    curvature_interval,
    fit_optimum_law,
    separate_params_from_tokens,
)
from lawfit.findings import Finding, Found, code_of, finding
from lawfit.laws.critical_batch import ZHANG, Definition
from lawfit.laws.lent import Lent, critical_exponents
from lawfit.records import FitStatus

OF: Final = "the critical batch"
UNLIKE: Final = 3.0  # standard deviations from what is lent: worth a sentence


@dataclass(frozen=True, kw_only=True)
class LargestLeftOut:
    """The law fitted without the largest measured size, against what was measured there."""

    law: str  # "answer" for the average that would have answered
    params: float | None
    tokens: float
    measured_tokens: float  # tokens per step
    predicted_tokens: float
    low_tokens: float  # of a 90 % interval for what would be measured
    high_tokens: float
    error: float  # predicted / measured - 1

    @property
    def inside(self) -> bool:
        return self.low_tokens <= self.measured_tokens <= self.high_tokens

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "inside": self.inside}


@dataclass(frozen=True, kw_only=True)
class CriticalPrediction:
    """A critical batch at a scale, with its definition."""

    definition: Definition
    value_tokens: float  # tokens per step
    low_tokens: float
    high_tokens: float
    level: float
    shares: Mapping[str, float]  # of the laws that answered
    decades: Mapping[str, float]  # beyond the measured sizes; 0 inside

    def to_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "definition": self.definition.to_json(),
            "shares": dict(self.shares),
            "decades": dict(self.decades),
        }


@dataclass(frozen=True, kw_only=True)
class CriticalAnalysis:
    """Critical batches of one recipe, by one definition."""

    definition: Definition
    status: FitStatus
    measured: tuple[CriticalBatch, ...]
    laws: Mapping[str, OptimumLaw]  # by input: "tokens", "params", "loss", "params and tokens"
    shares: Mapping[str, float]  # of those that answer, the largest first
    scores: Mapping[str, float]  # log density of the sizes left out; empty with fewer than three
    certificates: Mapping[str, Certificate]  # of each law
    reasons: tuple[Found, ...]  # against using the answer; empty unless it is uncertified
    separation: Separation | None  # None where there is no law in both to ask
    curvature: tuple[float, float] | None  # of ln batch in the answering law's input; None: too few sizes to say
    left_out: Mapping[str, LargestLeftOut]  # by law, and "answer"; empty with one size
    sentences: tuple[Found, ...]
    lent_by: tuple[str, ...] | None = None  # who lends the answering exponent in part; empty: a vague prior; None: none

    @property
    def answering(self) -> str:
        """The law in one input with the largest share in the answer."""
        return next((name for name in self.shares if name != BOTH), "tokens")

    @property
    def answer(self) -> AveragedLaw:
        return AveragedLaw(shares=self.shares, laws=self.laws)

    def predict(self, tokens: float, params: float | None = None, *, level: float = 0.9) -> CriticalPrediction:
        """The critical batch at a scale; `tokens` are those that reach the loss at the definition's reference batch.

        Raises
        ------
        ValueError
            A law that answers takes params, and none were given.
        """
        given = {"tokens": tokens} | ({} if params is None else {"params": params})
        said = self.answer.predict(level, **given)
        return CriticalPrediction(
            definition=self.definition,
            value_tokens=said.value,
            low_tokens=said.low,
            high_tokens=said.high,
            level=level,
            shares=dict(self.shares),
            decades=said.decades,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "definition": self.definition.to_json(),
            "status": self.status.value,
            "measured": [c.to_json() for c in self.measured],
            "laws": {name: law.to_json() for name, law in self.laws.items()},
            "answering": self.answering,
            "shares": dict(self.shares),
            "scores": dict(self.scores),
            "certificates": {name: found.to_json() for name, found in self.certificates.items()},
            "reasons": list(self.reasons),
            "separation": None
            if self.separation is None
            else {
                "verdict": self.separation.verdict,
                "sentence": self.separation.sentence,
                "intervals": {name: list(ends) for name, ends in self.separation.intervals.items()},
                "correlation": self.separation.correlation if np.isfinite(self.separation.correlation) else None,
            },
            "curvature": None if self.curvature is None else list(self.curvature),
            "left_out": {name: found.to_json() for name, found in self.left_out.items()},
            "sentences": list(self.sentences),
            "lent_by": None if self.lent_by is None else list(self.lent_by),
        }

    def headline(self, route: str) -> Finding:
        """The law in one line, with the route that its numbers come by."""
        law = self.laws[self.answering]
        return finding("critical.headline", measured=law.points, sizes=law.groups, route=route, **self.moves())

    def lines(self) -> list[Finding]:
        """What it follows, how it found the largest size, and the law in the loss."""
        said = []
        if self.separation is not None:
            together = self.separation.correlation if self.separation.verdict == "not_separable" else None
            said.append(finding("critical.follows", shares=self.shares, correlation=together))
        if "answer" in self.left_out:
            single = ("tokens", "params") if len(self.shares) > 1 else ()
            alone = {name: each.error for name, each in self.left_out.items() if name in single}
            said.append(finding("critical.left_out", alone=alone, **self.left_out["answer"].to_json()))
        if "loss" in self.laws:
            best = max(self.shares, key=lambda name: self.scores.get(name, -np.inf))
            apart = self.scores["loss"] - self.scores[best] if self.scores.keys() >= {"loss", best} else None
            said.append(finding("critical.in_loss", best=best, score_apart=apart, **self.moves("loss")))
        return said

    def certificate_line(self) -> Finding:
        """Standing, curves, condition, and who moves the law most."""
        report = self.certificates[self.answering]
        curves = [c.certificate for c in self.measured if c.certificate is not None]
        bent = [c.lack_of_fit is not None and c.lack_of_fit.p_value < DOUBTFUL for c in curves]
        return finding(
            "critical.certificate",
            status=self.status,
            lent_by=self.lent_by,
            reasons=self.reasons,
            curves=None
            if not curves
            else {
                "count": len(curves),
                "certified": sum(each.certified for each in curves),
                "agreeing": min(each.search.agreeing / each.search.starts for each in curves),
                "bent": sum(bent),
            },
            condition_number=report.condition_number,
            influence=asdict(report.influence[0]) if report.influence else None,
        )

    def moves(self, name: str = "") -> dict[str, Any]:
        """The exponent of a law, the one that answers if none is named, with its interval."""
        name = name or self.answering
        low, high = self.laws[name].exponent_interval(name)
        return {"input": name, "exponent": self.laws[name].exponents[name], "low": low, "high": high}


def analyse_critical(
    found: Sequence[CriticalBatch], notes: Sequence[Found] = (), without_laws: Sequence[str] = ()
) -> CriticalAnalysis:
    """Laws through measured critical batches, which of them the data support, and a test at the largest size.

    Parameters
    ----------
    found : critical batches of one recipe, by one definition
    notes : what was left out on the way here; kept in the result
    without_laws : published laws that must lend nothing (`laws.lenders`)

    Raises
    ------
    NotEnoughData
        None was measured.
    ValueError
        They have different definitions.
    FitError
        None of them is closed on both sides.
    """
    if not found:
        raise NotEnoughData(finding("critical.none_measured"))
    optima, refused = measured_optima(found)
    sentences = [*notes, *refused]
    laws, certificates, lent = _laws(optima, sentences, without_laws)
    averaged, scores = weigh(optima, laws, without_laws)
    if scores and "loss" in laws:  # it cannot answer for a scale, but it can be compared
        scores["loss"] = score_left_out(optima, "loss", without_laws)
    separation = _separation(optima, laws)
    sentences += _which(averaged, separation)
    leading = averaged.leading
    curvature = curvature_interval(optima, leading) if leading in optima.inputs else None
    if curvature is not None and (curvature[0] > 0 or curvature[1] < 0):
        sentences.append(finding("critical.curved", input=leading))
    report = certificates[leading]
    sentences += [w for w in report.warnings if code_of(w) == "numerics.bends"]
    left_out = _largest_left_out(optima, without_laws)
    if left_out and not left_out["answer"].inside:
        sentences.append(finding("critical.missed_largest", error=left_out["answer"].error))
    reasons = _level_reasons(report) if leading in lent else report.reasons
    return CriticalAnalysis(
        definition=found[0].definition,
        status=FitStatus.UNCERTIFIED if reasons else FitStatus.SPARSE if leading in lent else FitStatus.OK,
        measured=tuple(found),
        laws=laws,
        shares=averaged.shares,
        scores=scores,
        certificates=certificates,
        reasons=reasons,
        separation=separation,
        curvature=curvature,
        left_out=left_out,
        sentences=tuple(sentences),
        lent_by=tuple(dict.fromkeys(law for each in lent[leading].values() for law in each.laws))
        if leading in lent
        else None,
    )


def restated(also: Definition, found: CriticalAnalysis | None, why_not: Found) -> Finding:
    """The law in a further definition: exponent, where its numbers lie, and what they mean."""
    if found is None:
        return finding("critical.not_restated", zhang=also == ZHANG, why=why_not)
    ends = [c.value_tokens for c in found.measured]
    return finding(
        "critical.restated",
        zhang=also == ZHANG,
        least_tokens=min(ends),
        most_tokens=max(ends),
        definition=found.definition.words(),
        lent_by=found.lent_by,
        **found.moves(),
    )


def _laws(
    optima: MeasuredOptima, sentences: list[Found], without_laws: Sequence[str]
) -> tuple[dict[str, OptimumLaw], dict[str, Certificate], dict[str, dict[str, Lent]]]:
    """Each law that can be had, its certificate, and what was lent to those whose sizes leave an exponent open."""
    laws, missing = fit_candidates(optima, tuple(INPUTS_OF))
    certificates = {name: certify_law(optima, law, of=OF) for name, law in laws.items()}
    weak = {name for name, found in certificates.items() if any(each != LEVEL for each in found.weak)}
    lent = {
        name: critical_exponents(INPUTS_OF[name], without_laws)
        for name in PRIOR_SHARES
        if name in weak or (name == "tokens" and name not in laws)
    }
    if "tokens" in lent:
        why = missing.get("tokens") or _open_exponent(certificates["tokens"])
        sentences.append(finding("critical.lent_exponent", lent=lent["tokens"]["tokens"].words(), why=why))
    else:
        sentences += _unlike(laws["tokens"], critical_exponents(("tokens",), without_laws)["tokens"])
    for name, given in lent.items():
        prior = {x: each.gaussian for x, each in given.items()}
        laws[name] = fit_optimum_law(optima, INPUTS_OF[name], prior=prior)
        certificates[name] = certify_law(optima, laws[name], prior, of=OF)
    return laws, certificates, lent


def _open_exponent(report: Certificate) -> Finding:
    error = max(value for name, value in report.standard_errors.items() if name != LEVEL)
    at = report.needed_runs[0].inputs if report.needed_runs else None
    return finding("critical.exponent_open", sizes=report.clusters, relative_error=error, at=at)


def _unlike(law: OptimumLaw, lent: Lent) -> list[Found]:
    low, high = law.exponent_interval("tokens")
    apart = abs(law.exponents["tokens"] - lent.mean) / float(np.hypot(lent.sd, (high - low) / 3.29))
    if not lent.laws or apart < UNLIKE:
        return []
    return [finding("critical.unlike_published", exponent=law.exponents["tokens"], published=lent.mean)]


def _level_reasons(report: Certificate) -> tuple[Found, ...]:
    """What forbids a law whose exponent is lent: not its few sizes, but a level that they do not show."""
    wrong = [] if report.search.converged else [report.reasons[0]]
    if LEVEL in report.weak:
        wrong.append(finding("critical.level_open", log_sd=report.standard_errors[LEVEL]))
    return tuple(wrong)


def _separation(optima: MeasuredOptima, laws: Mapping[str, OptimumLaw]) -> Separation | None:
    return separate_params_from_tokens(optima) if optima.groups > 2 and "params" in laws else None


def _which(averaged: AveragedLaw, separation: Separation | None) -> list[Found]:
    """Which input the answer follows, and what told it."""
    if separation is None or (len(averaged.shares) == 1 and averaged.leading == "tokens"):
        return []
    return [finding("critical.by_left_out", shares=averaged.shares, separation=separation.sentence)]


def _largest_left_out(optima: MeasuredOptima, without_laws: Sequence[str]) -> dict[str, LargestLeftOut]:
    """Empty with fewer than two sizes. Fewer than three left to learn from: with lent exponents."""
    if optima.groups < 2:
        return {}
    size = optima.inputs.get("params", optima.inputs["tokens"])
    largest = size > size.max() * 0.95
    row = int(np.flatnonzero(largest)[np.argmax(optima.inputs["tokens"][largest])])
    rest = optima.take(~largest)
    laws, _, _ = _laws(rest, [], without_laws)
    laws = {name: law for name, law in laws.items() if name in PRIOR_SHARES}
    averaged, _ = weigh(rest, laws, without_laws)
    at = {name: float(column[row]) for name, column in optima.inputs.items()}
    measured = float(np.exp(optima.log_value[row]))
    reach = 1.645 * float(optima.log_sd[row])  # what was measured there has its own error
    found = {}
    everyone: dict[str, AveragedLaw | OptimumLaw] = {"answer": averaged, **laws}
    for name, law in everyone.items():
        said = law.predict(**{x: at[x] for x in law.inputs})
        down, up = (float(np.hypot(np.log(said.value / end), reach)) for end in (said.low, said.high))
        found[name] = LargestLeftOut(
            law=name,
            params=at.get("params"),
            tokens=at["tokens"],
            measured_tokens=measured,
            predicted_tokens=said.value,
            low_tokens=said.value * float(np.exp(-down)),
            high_tokens=said.value * float(np.exp(up)),
            error=said.value / measured - 1,
        )
    return found
