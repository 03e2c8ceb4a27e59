"""Weight decay for the batch and learning rate of a run, from the law of the AdamW timescale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from lawfit.ask import Target
from lawfit.documents import Answer, given
from lawfit.estimate.evidence import Prepared
from lawfit.estimate.numerics.optimum_law import OptimumLaw, along
from lawfit.estimate.weight_decay.timescale import RATIO, brackets
from lawfit.findings import finding, finite, joined
from lawfit.kinds.kind import Dot, FittedLaw, LawChart, LawKind, Outcome, Setting, axis, standing
from lawfit.laws.timescale import DecayConvention, weight_decay_of
from lawfit.records import Fit, FitStatus
from lawfit.units import format_scale, six_digits

_NORMAL_90: Final = 1.645  # sd of a normal law to the ends of its 90 % interval


@dataclass(frozen=True, kw_only=True)
class _WeightDecay(LawKind):
    def fit(self, prepared: Prepared) -> Outcome:
        decay = prepared.decay
        details = {self.id: decay.missing} if decay.missing else {}
        fit = decay.fit
        if fit is None:
            return Outcome(missing=decay.missing, details=details)
        if fit.law is None:
            said = brackets(fit.optima, prepared.without_laws)
            takes = finding("laws.timescale_takes", scales=len(fit.scales))
            return Outcome(missing=joined([takes, *([said] if said else [])]), details=details)
        payload = {
            **fit.to_json(),
            "words": fit.headline(),
            "lines": fit.lines(),
            "reasons": [] if fit.certificate is None else list(fit.certificate.reasons),
            "sentences": [*prepared.converted, *fit.sentences],
        }
        uncertified = fit.status is FitStatus.UNCERTIFIED
        return Outcome(
            law=FittedLaw(kind=self.id, status=fit.status, payload=finite(payload)),
            missing=finding("laws.not_certified", why=fit.sentences[-1]) if uncertified else "",
            details=details,
        )

    def answer(self, fit: Fit, target: Target, setting: Setting | None = None) -> dict[str, Any]:
        """Weight decay in both conventions, from the timescale that is best at the target's tokens per parameter."""
        if setting is None:
            raise ValueError("a weight decay goes with a learning rate and a batch")
        law = OptimumLaw.from_json(fit.payload["law"])
        said = law.predict(target.level, **{RATIO: target.tokens / target.params})
        known = standing(fit, said.decades)

        def decay(timescale: float, convention: DecayConvention = DecayConvention.COUPLED) -> float:
            return six_digits(
                float(weight_decay_of(timescale, setting.batch_tokens, setting.lr, target.tokens, convention))
            )

        return {
            "value": decay(said.value),
            "low": decay(said.high),  # a long memory is a small weight decay
            "high": decay(said.low),
            "level": target.level,
            "independent": decay(said.value, DecayConvention.INDEPENDENT),
            "at": {"lr": setting.lr, "batch_tokens": setting.batch_tokens},
            "timescale": {
                "value": six_digits(said.value),
                "low": six_digits(said.low),
                "high": six_digits(said.high),
                "exponent": six_digits(law.exponents[RATIO]),
                "scales": law.points,
            },
            **known,
            "notes": [*known["notes"], *(fit.payload.get("lines") or [])[-1:]],  # the last line is its certificate
        }

    def chart(self, fit: Fit, document: Answer) -> LawChart:
        said, target = given(document["weight_decay"]), document["target"]
        dots = [
            Dot(
                x=scale["tokens"] / scale["params"],
                value=scale["timescale"],
                low=scale["timescale"] * math.exp(-_NORMAL_90 * scale["log_sd"]),
                high=scale["timescale"] * math.exp(_NORMAL_90 * scale["log_sd"]),
                words=format_scale(scale["params"], scale["tokens"]),
            )
            for scale in fit.payload["scales"]
            if scale["timescale"] is not None and scale["log_sd"] is not None
        ]
        at = target["tokens"] / target["params"]
        x = axis([at, *(dot.x for dot in dots)])
        value, low, high = along(OptimumLaw.from_json(fit.payload["law"]), said["level"], **{RATIO: x})
        return LawChart(
            name=self.part,
            title="Best timescale of weight decay against tokens per parameter",
            x_label="Tokens per parameter",
            y_label="Best timescale (share of the run)",
            caption="Dots: the best timescale of each of your scales that shows one. Weight decay follows from it, "
            "with batch, learning rate and tokens.",
            measured=tuple(dots),
            x=x,
            value=value,
            low=low,
            high=high,
            level=said["level"],
            target=Dot.of_answer(at, said["timescale"], target),
            write=lambda v: f"{v:.3g}",
        )


TIMESCALE: Final = _WeightDecay(id="timescale", label="Weight decay", part="weight_decay", needs_setting=True)
