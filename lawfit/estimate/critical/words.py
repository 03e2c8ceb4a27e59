"""What a recipe's critical batch says, in lines for people: law, what it follows, its test, certificate, noise."""

from __future__ import annotations

import numpy as np

from lawfit.estimate.critical.analysis import CriticalAnalysis
from lawfit.estimate.critical.laws import BOTH
from lawfit.estimate.critical.least_tokens import LeastTokensFit
from lawfit.estimate.critical.noise_by_size import NoiseFactor
from lawfit.laws.critical_batch import ZHANG, Definition
from lawfit.records import FitStatus
from lawfit.units import counted, format_quantity

_INPUT = {"tokens": "tokens", "params": "parameters", "loss": "loss", BOTH: "both"}


def headline(found: CriticalAnalysis, source: str) -> str:
    """The law in one line, with where its numbers come from."""
    law = found.laws[found.answering]
    low, high = law.exponent_interval(found.answering)
    sizes = counted(law.groups, "model size")
    return (
        f"moves as {_INPUT[found.answering]}^{law.exponents[found.answering]:+.2f} ({low:+.2f} to {high:+.2f}); "
        f"{law.points} measured at {sizes}, {source}"
    )


def lines(found: CriticalAnalysis, noise: NoiseFactor | None, least: LeastTokensFit | None = None) -> list[str]:
    """What `lawfit fit` prints below the headline, each line with what it is about."""
    said = [
        ("follows", _follows(found)),
        ("left out", _tested(found)),
        ("in the loss", _in_loss(found)),
        ("fewest tokens", "" if least is None else least.words()),
        ("stochastic oracle", "" if least is None else least.oracle_words()),
        ("noise scale", "" if noise is None else noise.words()),
        ("certificate", _certificate(found)),
    ]
    return [f"{label}: {words}" for label, words in said if words]


def restated(also: Definition, found: CriticalAnalysis | None, why_not: str) -> str:
    """The law in a further definition: exponent, where its numbers lie, and what they mean."""
    name = "Zhang's definition" if also == ZHANG else "the definition that was asked for"
    if found is None:
        return f"by {name}: not stated: {why_not}"
    law = found.laws[found.answering]
    low, high = law.exponent_interval(found.answering)
    ends = sorted(c.value_tokens for c in found.measured)
    lent = "" if found.lent_by is None else f", in part from {', '.join(found.lent_by) or 'a vague prior'}"
    return (
        f"by {name}: {format_quantity(ends[0])} to {format_quantity(ends[-1])} tokens, moving as "
        f"{_INPUT[found.answering]}^{law.exponents[found.answering]:+.2f} ({low:+.2f} to {high:+.2f}{lent}); "
        f"{found.definition.words()}"
    )


def _follows(found: CriticalAnalysis) -> str:
    shares = ", ".join(f"{_INPUT[name]} {share:.0%}" for name, share in found.shares.items())
    if found.separation is None:
        return ""
    if len(found.shares) == 1:
        return f"{shares.split()[0]}: other laws do not find the sizes left out"
    together = f"the two grew together (correlation {found.separation.correlation:.2f})"
    told = together if found.separation.verdict == "not_separable" else "the sizes do not settle it"
    return f"{shares}: {told}, so these laws are averaged and the interval spans them"


def _tested(found: CriticalAnalysis) -> str:
    if "answer" not in found.left_out:
        return ""
    out = found.left_out["answer"]
    where = f"{format_quantity(out.params)} parameters" if out.params else f"{format_quantity(out.tokens)} tokens"
    others = ", ".join(
        f"by {_INPUT[name]} alone {each.error:+.0%}"
        for name, each in found.left_out.items()
        if name in ("tokens", "params") and len(found.shares) > 1
    )
    inside = "inside" if out.inside else "OUTSIDE"
    return (
        f"the largest size, {where}: {format_quantity(out.predicted_tokens)} predicted, "
        f"{format_quantity(out.measured_tokens)} measured ({out.error:+.0%}, {inside} its interval)"
        + (f"; {others}" if others else "")
    )


def _in_loss(found: CriticalAnalysis) -> str:
    if "loss" not in found.laws:
        return ""
    law = found.laws["loss"]
    low, high = law.exponent_interval("loss")
    best = max((name for name in found.shares), key=lambda name: found.scores.get(name, -np.inf))
    apart = found.scores.get("loss", np.nan) - found.scores.get(best, np.nan)
    told = "as well as" if abs(apart) < 1 else "worse than" if apart < 0 else "better than"
    finds = f"; finds a size left out {told} {_INPUT[best]} do" if np.isfinite(apart) else ""
    return f"moves as loss^{law.exponents['loss']:+.1f} ({low:+.1f} to {high:+.1f}){finds}"


def _certificate(found: CriticalAnalysis) -> str:
    report = found.certificates[found.answering]
    curves = [c.certificate for c in found.measured if c.certificate is not None]
    standing = {
        FitStatus.OK: "certified",
        FitStatus.SPARSE: f"exponent in part {'lent' if found.lent_by else 'on a vague prior'}, level certified",
        FitStatus.UNCERTIFIED: "NOT certified",
    }[found.status]
    parts = [f"{standing}: {'; '.join(map(str, found.reasons))}" if found.reasons else standing]
    if curves:
        sound = sum(each.certified for each in curves)
        agree = min(each.search.agreeing / each.search.starts for each in curves)
        parts.append(f"{sound} of {len(curves)} curves certified, {agree:.0%} of starts agree")
        if bent := sum(each.lack_of_fit is not None and each.lack_of_fit.p_value < 0.01 for each in curves):
            parts.append(f"{bent} bend{'s' if bent == 1 else ''} otherwise than a hyperbola (allowed for)")
    if np.isfinite(report.condition_number):
        parts.append(f"condition number {report.condition_number:.3g}")
    if report.influence:
        top = report.influence[0]
        parts.append(f"without {top.group} {top.parameter} moves {top.value:.3g} to {top.value_without:.3g}")
    return "; ".join(parts)
