"""The critical batch size, by the best of the routes that a recipe's data support, in two definitions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lawfit.ask import Target
from lawfit.documents import Answer, given
from lawfit.estimate.critical.analysis import restated
from lawfit.estimate.critical.laws import AveragedLaw
from lawfit.estimate.critical.routes import CURVES, CriticalData, CriticalLaws, fit_critical
from lawfit.estimate.evidence import Prepared
from lawfit.estimate.numerics.optimum_law import OptimumLaw, PredictedOptimum, along
from lawfit.findings import finding, finite, joined
from lawfit.kinds.kind import Dot, FittedLaw, LawChart, LawKind, Outcome, Setting, axis, standing
from lawfit.laws.critical_batch import DOUBLING, Definition
from lawfit.records import Fit, FitStatus
from lawfit.units import format_quantity, six_digits


def critical_laws(prepared: Prepared, definition: Definition = DOUBLING) -> CriticalLaws:
    """What the evidence of one recipe says about its critical batch, route by route."""
    evidence = prepared.evidence
    data = CriticalData(
        runs=prepared.runs,
        at_any_decay=prepared.decay.held.runs,
        level=prepared.level,
        targets=evidence.targets,
        curves=evidence.curves,
        squares=evidence.squares,
        rates=evidence.rates,
        schedule=evidence.schedule,
        stated=evidence.stated,
        notes=prepared.decay.held.notes,
    )
    return fit_critical(data, definition=definition, also=prepared.also, without_laws=prepared.without_laws)


@dataclass(frozen=True, kw_only=True)
class _CriticalBatch(LawKind):
    def fit(self, prepared: Prepared) -> Outcome:
        found = critical_laws(prepared)
        route = found.answering
        if route is None:
            return Outcome(missing=joined([finding("laws.critical_takes"), *found.unread]), details=found.missing)
        analysis, noise, least = found.routes[route], found.noise_factor, found.least_tokens
        payload = {
            "route": route,
            "metric": prepared.evidence.metric if route == CURVES else "",
            "routes": {name: other.to_json() for name, other in found.routes.items()},
            "noise_scale": None if noise is None else noise.to_json(),
            "words": analysis.headline(route),
            "least_tokens": None if least is None else least.to_json(),
            "restated": None if route not in found.restated else found.restated[route].to_json(),
            "unstated": found.unstated.get(route, ""),
            "lines": [
                *analysis.lines(),
                *([] if least is None else least.lines()),
                *([] if noise is None else [finding("critical.noise_line", found=noise.words())]),
                analysis.certificate_line(),
                restated(found.also, found.restated.get(route), found.unstated.get(route, "")),
            ],
            "reasons": list(analysis.reasons),
            "sentences": list(analysis.sentences),
            "lent_by": None if analysis.lent_by is None else list(analysis.lent_by),
        }
        return Outcome(
            law=FittedLaw(kind=self.id, status=analysis.status, payload=finite(payload)),
            missing=finding("laws.not_certified", why=analysis.reasons[0]) if analysis.reasons else "",
            details=found.missing,
        )

    def answer(self, fit: Fit, target: Target, setting: Setting | None = None) -> dict[str, Any]:
        """The critical batch size at the target, with its definition."""
        route = fit.payload["routes"][fit.payload["route"]]
        name, average, law, said = _by_route(route, target)
        noise = fit.payload.get("noise_scale")
        return {
            **_value(route, said, target),
            "route": fit.payload["route"],
            "metric": fit.payload.get("metric") or None,
            "law": {
                "input": name,
                "exponent": six_digits(law.exponents[name]),
                "measured": law.points,
                "sizes": law.groups,
            },
            "shares": {each: round(share, 4) for each, share in average.shares.items()},
            "left_out": (route["left_out"] or {}).get("answer"),
            "noise_scale": None if noise is None else {name: noise[name] for name in ("factor", "steady", "words")},
            "restated": _restated(fit, target),
            "certified": not fit.payload["reasons"],
            **standing(fit, said.decades),
        }

    def chart(self, fit: Fit, document: Answer) -> LawChart:
        said, target = given(document["critical_batch"]), document["target"]
        route, name = fit.payload["routes"][said["route"]], said["law"]["input"]
        dots = [
            Dot(
                x=found[name],
                value=found["value_tokens"],
                low=found["low_tokens"] or None,
                high=found["high_tokens"],
                words=f"{format_quantity(found['params'])} parameters to a loss of {found['loss']:.4g}"
                if found["params"] and found["loss"]
                else f"{format_quantity(found['tokens'])} tokens",
            )
            for found in route["measured"]
            if found[name] is not None and found["log_sd"] is not None
        ]
        here = target["tokens"] if name == "tokens" else target["params"]
        x = axis([here, *(dot.x for dot in dots)])
        ratio = target["tokens"] / target["params"]  # where laws in params answer too: along the target's ratio
        tokens, params = (x, x / ratio) if name == "tokens" else (x * ratio, x)
        value, low, high = along(AveragedLaw.from_json(route), said["level"], tokens=tokens, params=params)
        label = "Training tokens" if name == "tokens" else "Parameters"
        return LawChart(
            name=self.part,
            title=f"Critical batch against {label.lower()}",
            x_label=label,
            y_label="Critical batch size (tokens per step)",
            caption="Dots: critical batch sizes measured on your runs, with their own intervals.",
            measured=tuple(dots),
            x=x,
            value=value,
            low=low,
            high=high,
            level=said["level"],
            target=Dot.of_answer(here, said, target),
        )


def _by_route(route: Mapping[str, Any], target: Target) -> tuple[str, AveragedLaw, OptimumLaw, PredictedOptimum]:
    """The input that answers, the average of laws, the law in that input, and what the average says at the target."""
    name, average = route["answering"], AveragedLaw.from_json(route)
    said = average.predict(target.level, **{x: getattr(target, x) for x in average.inputs})
    return name, average, OptimumLaw.from_json(route["laws"][name]), said


def _value(route: Mapping[str, Any], said: PredictedOptimum, target: Target) -> dict[str, Any]:
    return {
        "value": six_digits(said.value),
        "low": six_digits(said.low),
        "high": six_digits(said.high),
        "level": target.level,
        "definition": route["definition"],
    }


def _restated(fit: Fit, target: Target) -> dict[str, Any] | None:
    """The critical batch at the target in the further definition, and its law; None where the fit has none."""
    route = fit.payload.get("restated")
    if route is None or route["status"] == FitStatus.UNCERTIFIED.value:
        return None
    name, _, law, said = _by_route(route, target)
    low, high = law.exponent_interval(name, target.level)
    return {
        **_value(route, said, target),
        "law": {
            "input": name,
            "const": six_digits(law.const),
            "exponent": six_digits(law.exponents[name]),
            "exponent_low": six_digits(low),
            "exponent_high": six_digits(high),
        },
        "lent_by": route["lent_by"],
    }


CRITICAL_BATCH: Final = _CriticalBatch(
    id="critical_batch", label="Critical batch", unit="tokens per step", part="critical_batch"
)
