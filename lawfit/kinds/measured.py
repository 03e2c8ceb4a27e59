"""A kind of law that is one number measured at several scales, and a power law through it.

All that is its own is what it measures, and what it is measured along. Fit, certificate, the test at the largest
group left out, answer, chart and words come with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lawfit.ask import Target
from lawfit.documents import Answer, given, part_of
from lawfit.errors import FitError
from lawfit.estimate.evidence import Prepared
from lawfit.estimate.numerics.optimum_certificate import certify_law
from lawfit.estimate.numerics.optimum_law import MeasuredOptima, OptimumLaw, along, fit_optimum_law
from lawfit.findings import finding, finite
from lawfit.kinds.kind import Dot, FittedLaw, LawChart, LawKind, Outcome, Setting, axis, standing
from lawfit.records import Fit, FitStatus
from lawfit.units import format_quantity, six_digits

Rows = NDArray[np.bool_]
_NORMAL_90 = 1.645  # sd of a normal law to the ends of its 90 % interval


@dataclass(frozen=True, kw_only=True)
class MeasuredLaw(LawKind):
    """``number = c * prod inputs^e`` through what `measure` finds."""

    inputs: tuple[str, ...]  # params, tokens, tokens_per_param; lr and batch_tokens where it `needs_setting`
    measure: Callable[[Prepared], MeasuredOptima]  # raises FitError with what the runs do not show

    def fit(self, prepared: Prepared) -> Outcome:
        optima = self.measure(prepared)
        law = fit_optimum_law(optima, self.inputs)
        report = certify_law(optima, law, of=self.label.lower())
        left_out = self._largest_left_out(optima)
        exponents = {name: [law.exponents[name], *law.exponent_interval(name)] for name in self.inputs}
        payload = {
            "law": law.to_json(),
            "measured": [
                {
                    **{name: float(column[k]) for name, column in optima.inputs.items()},
                    "value": float(np.exp(optima.log_value[k])),
                    "low": float(np.exp(optima.log_value[k] - _NORMAL_90 * optima.log_sd[k])),
                    "high": float(np.exp(optima.log_value[k] + _NORMAL_90 * optima.log_sd[k])),
                }
                for k in range(len(optima))
            ],
            "certificate": report.to_json(),
            "left_out": left_out,
            "words": finding("laws.measured", exponents=exponents, points=law.points, groups=law.groups),
            "lines": [] if left_out is None else [finding("laws.measured_left_out", **left_out)],
            "reasons": list(report.reasons),
            "sentences": list(report.warnings),
            "lent_by": None,
        }
        status = FitStatus.UNCERTIFIED if report.reasons else FitStatus.OK
        return Outcome(
            law=FittedLaw(kind=self.id, status=status, payload=finite(payload)),
            missing=finding("laws.not_certified", why=report.reasons[0]) if report.reasons else "",
        )

    def _largest_left_out(self, optima: MeasuredOptima) -> dict[str, Any] | None:
        """The law fitted without the group that lies farthest out along its first input, against what is measured
        there; None where the rest carry no law."""
        first = optima.inputs[self.inputs[0]]
        out: Rows = optima.group == optima.group[int(np.argmax(first))]
        row = int(np.flatnonzero(out)[np.argmax(first[out])])
        try:
            law = fit_optimum_law(optima.take(~out), self.inputs)
        except FitError:
            return None
        at = {name: float(optima.inputs[name][row]) for name in self.inputs}
        said, measured = law.predict(**at), float(np.exp(optima.log_value[row]))
        reach = _NORMAL_90 * float(optima.log_sd[row])  # what was measured there has its own error
        down, up = (float(np.hypot(np.log(said.value / end), reach)) for end in (said.low, said.high))
        return {
            "at": at,
            "measured": measured,
            "predicted": said.value,
            "error": said.value / measured - 1,
            "inside": said.value * np.exp(-down) <= measured <= said.value * np.exp(up),
        }

    def answer(self, fit: Fit, target: Target, setting: Setting | None = None) -> dict[str, Any]:
        law = OptimumLaw.from_json(fit.payload["law"])
        said = law.predict(target.level, **self._at(vars(target), vars(setting) if setting else {}))
        return {
            "value": six_digits(said.value),
            "low": six_digits(said.low),
            "high": six_digits(said.high),
            "level": target.level,
            "law": {
                "exponents": {name: six_digits(exponent) for name, exponent in law.exponents.items()},
                "measured": law.points,
                "groups": law.groups,
            },
            "left_out": fit.payload["left_out"],
            **standing(fit, said.decades),
        }

    def chart(self, fit: Fit, document: Answer) -> LawChart:
        said, first, recommended = given(part_of(document, self.part)), self.inputs[0], document["recommendation"]
        parts = {"lr": recommended["lr"], "batch_tokens": recommended["batch_tokens"]}
        setting = {name: part["value"] for name, part in parts.items() if part is not None}
        at = self._at(document["target"], setting)
        dots = [
            Dot(
                x=row[first],
                value=row["value"],
                low=row["low"],
                high=row["high"],
                words=", ".join(f"{_input(name)} {format_quantity(row[name])}" for name in self.inputs),
            )
            for row in fit.payload["measured"]
        ]
        x = axis([at[first], *(dot.x for dot in dots)])
        held = {name: np.full_like(x, at[name]) for name in self.inputs[1:]}
        value, low, high = along(OptimumLaw.from_json(fit.payload["law"]), said["level"], **{first: x}, **held)
        others = f" Line: at the target's {' and '.join(map(_input, held))}." if held else ""
        return LawChart(
            name=self.part,
            title=f"{self.label} against {_input(first)}",
            x_label=_input(first).capitalize(),
            y_label=f"{self.label} ({self.unit})" if self.unit else self.label,
            caption=f"Dots: what your runs show, with intervals of their own.{others}",
            measured=tuple(dots),
            x=x,
            value=value,
            low=low,
            high=high,
            level=said["level"],
            target=Dot.of_answer(at[first], said, document["target"]),
            write=lambda v: f"{v:.4g}",
        )

    def _at(self, target: Mapping[str, Any], setting: Mapping[str, Any]) -> dict[str, float]:
        """Its inputs at a target, with the setting that is recommended there."""
        known = {**target, "tokens_per_param": target["tokens"] / target["params"], **setting}
        return {name: float(known[name]) for name in self.inputs}


def _input(name: str) -> str:
    """As axes call it."""
    return {"params": "parameters", "lr": "learning rate"}.get(name, name.replace("_", " "))
