"""The surface of the loss in parameters, batch and steps; it answers nothing and is fitted where it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lawfit.estimate.critical.three_term import BatchRuns, fit_three_term_or_lend
from lawfit.estimate.evidence import Prepared
from lawfit.estimate.loss.law import doubt, lent_asymptote
from lawfit.estimate.numerics.certificate import search_is_sound
from lawfit.findings import Found, finding, finite
from lawfit.kinds.kind import FittedLaw, LawKind, Outcome
from lawfit.laws.lent import log_asymptote
from lawfit.records import FitStatus


@dataclass(frozen=True, kw_only=True)
class _ThreeTerm(LawKind):
    def fit(self, prepared: Prepared) -> Outcome:
        without = prepared.without_laws
        runs = BatchRuns.of_runs(prepared.level)
        fit = fit_three_term_or_lend(runs, lent_asymptote(without), rng=prepared.rng)
        law, report = fit.law, fit.certificate
        best = fit.optimal_batch(fit.ranges["tokens"][1])
        reasons: list[Found] = []
        if report.certified and not fit.floor_lent:
            status = FitStatus.OK
        elif search_is_sound(report.search):
            status = FitStatus.SPARSE  # single parameters are open, the best batch is not
        else:
            status, reasons = FitStatus.UNCERTIFIED, list(report.reasons)
        payload = {
            "fit": fit.to_json(),
            "words": finding(
                "laws.three_term",
                batch_tokens=best.value_tokens,
                low_tokens=best.low_tokens,
                high_tokens=best.high_tokens,
                tokens=fit.ranges["tokens"][1],
                exponent=law.steps_exponent / (law.batch_exponent + law.steps_exponent),
            ),
            "lines": [finding("laws.three_term_certificate", reasons=report.reasons)]
            if report.reasons and not reasons
            else [],
            "reasons": reasons,
            "sentences": list(report.warnings),
            "lent_by": list(lent.laws) if fit.floor_lent and (lent := log_asymptote(without)) else None,
        }
        return Outcome(
            law=FittedLaw(kind=self.id, status=status, payload=finite(payload)),
            missing=finding("laws.not_certified", why=doubt(report)) if reasons else "",
        )


THREE_TERM: Final = _ThreeTerm(id="three_term", label="Batch x steps", on_request=True)
