"""What a recipe's weight decay says, in lines for people: law, its scales, what moves it at one scale, certificate."""

from __future__ import annotations

import numpy as np

from lawfit.estimate.numerics.certificate import Certificate
from lawfit.estimate.weight_decay.timescale import RATIO, TimescaleFit
from lawfit.records import FitStatus
from lawfit.units import counted, format_quantity

_SHOWN = 6  # scales


def headline(fit: TimescaleFit) -> str:
    """The law in one line."""
    if fit.law is None:
        raise ValueError("there is no law to put into words")
    low, high = fit.law.exponent_interval(RATIO)
    count = counted(fit.law.points, "scale")
    return (
        f"timescale {float(np.exp(fit.law.coefficients[0])):.2g} at {float(np.exp(fit.law.centre[0])):.3g} tokens per "
        f"parameter, moves as their ratio^{fit.law.exponents[RATIO]:+.2f} ({low:+.2f} to {high:+.2f}); {count} of its "
        f"own"
    )


def lines(fit: TimescaleFit) -> list[str]:
    """What `lawfit fit` prints below the headline, each line with what it is about."""
    said = [("scales", _scales(fit)), ("at one scale", _slopes(fit)), ("certificate", certificate_words(fit))]
    return [f"{label}: {words}" for label, words in said if words]


def certificate_words(fit: TimescaleFit) -> str:
    """Standing, search, condition, and who moves the law most; empty without a law."""
    report = fit.certificate
    if report is None:
        return ""
    standing = {
        FitStatus.OK: "certified",
        FitStatus.SPARSE: f"exponent in part {'lent' if fit.lent_by else 'on a vague prior'}, level certified",
        FitStatus.UNCERTIFIED: "NOT certified",
    }[fit.status]
    # of a lent exponent the reasons are known already
    reasons = report.reasons if fit.status is FitStatus.UNCERTIFIED else ()
    return "; ".join([standing, *map(str, reasons), *_examined(report)])


def _examined(report: Certificate) -> list[str]:
    parts = [f"{report.search.agreeing} of {report.search.starts} starts end in one minimum"]
    if np.isfinite(report.condition_number):
        parts.append(f"condition number {report.condition_number:.3g}")
    if report.influence:
        top = report.influence[0]
        parts.append(f"without {top.group} the {top.parameter} moves {top.value:.3g} to {top.value_without:.3g}")
    return parts


def _scales(fit: TimescaleFit) -> str:
    known = [s for s in fit.scales if np.isfinite(s.log_sd)]
    shown = [
        f"{s.timescale:.2g} ({s.timescale * np.exp(-1.645 * s.log_sd):.2g} to "
        f"{s.timescale * np.exp(1.645 * s.log_sd):.2g}) at {format_quantity(s.params)} params, "
        f"{s.tokens / s.params:.3g} tokens each"
        for s in known[:_SHOWN]
    ]
    more = f"; {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return "; ".join(shown) + more


def _slopes(fit: TimescaleFit) -> str:
    said = [
        f"{name}^{slope[0]:+.2f} (sd {slope[1]:.2f})"
        for name, slope in (("learning rate", fit.lr_slope), ("batch", fit.batch_slope))
        if slope is not None
    ]
    return f"the best timescale moves as {' and '.join(said)}; 0 where it alone counts" if said else ""
