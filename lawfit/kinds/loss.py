"""The loss of the best run at a scale, and with a further input (epochs, experts) where one is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from lawfit.ask import THIRD_INPUTS, Target, ThirdInputs
from lawfit.documents import Answer, given
from lawfit.estimate.evidence import Prepared
from lawfit.estimate.loss.law import loss_law
from lawfit.estimate.observe.held import hold_settings
from lawfit.estimate.observe.observations import usable
from lawfit.factors import asked_levels, is_further_input
from lawfit.findings import finite
from lawfit.kinds.expected_loss import choice_lines, expected_loss, loss_along, loss_line, stored_law
from lawfit.kinds.kind import Dot, FittedLaw, LawChart, LawKind, Outcome, Setting, SizeLine, axis, standing
from lawfit.kinds.third_input import asked_for, loss_at_third
from lawfit.records import Fit, Run
from lawfit.units import format_quantity, format_scale


@dataclass(frozen=True, kw_only=True)
class _Loss(LawKind):
    def fit(self, prepared: Prepared) -> Outcome:
        losses, level = prepared.evidence.losses, prepared.held.runs
        law = loss_law(at_any_third(prepared), prepared.rng, prepared.without_laws, losses=losses, held=level)
        made = FittedLaw(kind=self.id, status=law.status, payload=finite(law.payload))
        return Outcome(law=made, missing=law.missing)

    def answer(self, fit: Fit, target: Target, setting: Setting | None = None) -> dict[str, Any]:
        """The loss of the best run at the target: of the law, and of one more run with its own noise.

        Raises
        ------
        NotEnoughData
            As `expected_loss.expected_loss`.
        """
        answer, decades = expected_loss(fit, target)
        third = asked_for(fit.payload, target, target.tokens)
        if third is None:
            known = standing(fit, decades)
        else:  # the form that answers says how well it is known, beside the law of ordinary runs
            law = loss_at_third(fit, third, target.level)
            known = {**standing(replace(fit, status=law.status), decades), "notes": law.doubts}
        return {**answer, "lines": choice_lines(answer), **known}

    def chart(self, fit: Fit, document: Answer) -> LawChart | None:
        if fit.payload.get("same_input"):
            return None  # it says nothing along that axis
        said, target = given(document["expected_loss"]), document["target"]
        asked = ThirdInputs(**{name: target[name] for name in THIRD_INPUTS if name in target})
        third = asked_for(fit.payload, asked, target["tokens"])
        law, ordinary = stored_law(fit, said["level"], third), stored_law(fit, said["level"])
        sizes = []
        for params in sorted({point["params"] for point in fit.payload["points"]}):
            dots = tuple(
                Dot(
                    x=point["tokens"],
                    value=point["loss"],
                    low=None,
                    high=None,
                    words=format_scale(params, point["tokens"]),
                )
                for point in fit.payload["points"]
                if point["params"] == params
            )
            along = axis([dot.x / 1.25 for dot in dots] + [dot.x * 1.25 for dot in dots])
            line = loss_line(ordinary, params, along)
            sizes.append(SizeLine(label=f"{format_quantity(params)} parameters", x=along, value=line, measured=dots))
        x = axis([target["tokens"], *(dot.x for size in sizes for dot in size.measured)])
        value, low, high = loss_along(law, target["params"], x)
        size = format_quantity(target["params"])
        return LawChart(
            name=self.part,
            title="Expected loss against training tokens",
            x_label="Training tokens",
            y_label="Loss (nats per token)",
            caption="Dots: the best run of each of your scales; thin lines: the law at their sizes. Thick line: the "
            f"law at the target's {size} parameters.",
            measured=tuple(dot for size in sizes for dot in size.measured),
            x=x,
            value=value,
            low=low,
            high=high,
            level=said["level"],
            target=Dot.of_answer(target["tokens"], said, target),
            write=lambda v: f"{v:.4g}",
            logarithmic=False,  # it moves by less than a factor
            line=f"law at {size}",
            sizes=tuple(sizes),
        )


def at_any_third(prepared: Prepared) -> Sequence[Run]:
    """The runs at the level that is held, at any number of epochs and of experts: a law of the loss has forms for them.

    Columns that go with such a number vary with it. Where such a level was asked for, the runs at that one.
    """
    held, evidence = prepared.held, prepared.evidence
    asked = [name for name, _ in asked_levels(prepared.at)]
    third = [each for each in held.settings if any(map(is_further_input, (each.name, *each.also)))]
    if any(map(is_further_input, asked)) or not third:
        return held.runs
    others = [f"{each.name}={each.level}" for each in held.settings if each.level and each not in third]
    runs, _ = usable(evidence.runs)
    free = {column for run in runs for column in run.extra if is_further_input(column)}
    free.update(name for each in third for name in (each.name, *each.also))
    kind, law = evidence.weight_decay_kind, prepared.decay.fit
    return hold_settings(runs, others, free=free, decay_kind=kind, decay_law=law).runs


LOSS: Final = _Loss(id="loss", label="Loss", unit="nats per token", part="expected_loss", part_label="Expected loss")
