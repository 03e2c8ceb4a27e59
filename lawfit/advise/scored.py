"""What one published law answers at the scales of a recipe, and the facts about it that stand in every table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.counted import SAME, Counts
from lawfit.errors import LawfitError
from lawfit.findings import finding
from lawfit.laws.published import PublishedLaw

Floats = NDArray[np.float64]


class Unanswered(LawfitError):
    """A law has no answer at these scales."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Where laws are asked, in ascending order of compute: a law of exponents alone is carried from the first."""

    params: Floats  # (n,) as the recipe counts them
    tokens: Floats
    given: Mapping[str, Floats] = field(default_factory=dict)  # further inputs, each (n,)
    anchors: Mapping[str, Floats] = field(
        default_factory=dict
    )  # target -> what is known of it; the first is the anchor

    def at(self, **given: Floats) -> Scale:
        return replace(self, given={**self.given, **given})


def answers(law: PublishedLaw, target: str, counts: Counts, scale: Scale) -> Floats:
    """(n,) what a law says of a target; exponents alone carry the anchor of the first scale to the others.

    Raises
    ------
    Unanswered
        With what it needs.
    """
    formula = law.formulas[target]
    params = counts.of(law, scale.params).params
    inputs: dict[str, Floats] = {"params": params, "tokens": scale.tokens, **scale.given}
    inputs["flops"] = 6.0 * params * scale.tokens
    if "width" in formula.inputs and (widths := counts.widths(scale.params)) is not None:
        inputs["width"] = widths
    more = law.missing(target, has_batch=True)
    lacking = [name for name in more if name != "anchor" and name not in inputs]
    if lacking:
        raise Unanswered(finding("compare.needs", inputs=lacking))
    if formula.needs_anchor:
        if target not in scale.anchors or formula.law.name != "power_product":
            raise Unanswered(finding("compare.not_carried"))
        taken = {name: inputs[name] / inputs[name][0] for name in formula.exponents}
        found = scale.anchors[target][0] * np.broadcast_to(law.factor(target, **taken), scale.params.shape)
    else:
        given = {name: inputs[name] for name in formula.inputs}
        found = np.broadcast_to(law.evaluate(target, **given), scale.params.shape)
    if not np.isfinite(found).all():
        raise Unanswered(finding("compare.no_answer", params=scale.params[~np.isfinite(found)][0]))
    return np.asarray(found, dtype=float)


def about(law: PublishedLaw, counts: Counts, scale: Scale) -> dict[str, Any]:
    """Its name, source and standing, and how its count of parameters compares with the recipe's."""
    counted = counts.of(law, scale.params)
    return {
        "law": law.id,
        "label": law.label,
        "params_convention": law.params_convention,
        "same_params_convention": counted.how == SAME,
        "counts": counted.how,
        "counts_words": counted.words,
        "cite": law.cite,
        "checked": law.checked,
        "verified": law.verified,
    }
