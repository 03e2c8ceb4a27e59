"""The loss to expect at a target: averaged over the forms of the law that the runs do not reject, and which choice of
analysis moves it most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.ask import Target
from lawfit.estimate.loss.ensemble import LossEnsemble
from lawfit.estimate.loss.fit import LossFit
from lawfit.estimate.loss.law import asymptote_cases
from lawfit.estimate.loss.result import LossPrediction
from lawfit.findings import Found, finding
from lawfit.kinds.third_input import (
    Asked,
    LossAtThird,
    as_ordinary,
    asked_for,
    loss_at_third,
    ordinary_law,
    ordinary_notes,
    require_scale,
    third_notes,
    third_part,
    usable_form,
)
from lawfit.records import Fit
from lawfit.units import six_digits

Floats = NDArray[np.float64]

_OTHER: Final[Mapping[str, Callable[[float], float]]] = {  # a value to set beside the usual one
    "data_constrained": lambda _usual: 4.0,
    "moe_sparsity": lambda usual: usual / 2,
    "experts": lambda usual: 2 * usual,
}


def stored_law(fit: Fit, level: float, third: Asked | None = None) -> LossEnsemble | LossFit | LossAtThird:
    """What answers; with a further input asked for, with what the form that has it says that it does."""
    if third is not None:
        return loss_at_third(fit, third, level)
    return ordinary_law(fit, level)


def expected_loss(fit: Fit, target: Target) -> tuple[dict[str, Any], Mapping[str, float]]:
    """The answer at the target, and how far beyond the runs that is, in decades per input.

    Raises
    ------
    NotEnoughData
        The law does not know the further input that is asked for, or no run varies an input of the target.
    """
    third = asked_for(fit.payload, target, target.tokens)
    require_scale(fit.payload, third, target.params, target.tokens)
    law = stored_law(fit, target.level, third)
    said = law.predict(target.params, target.tokens)
    ordinary = law.ordinary if isinstance(law, LossAtThird) else law
    # what the further input does, it does to every form of the law of ordinary runs
    moved = float(np.exp(law.effect(target.params, target.tokens))) if isinstance(law, LossAtThird) else 1.0
    forms = forms_at(ordinary, target, moved) if isinstance(ordinary, LossEnsemble) else []
    cases = [] if ordinary is None else asymptote_cases(
        fit.payload.get("asymptote") or [], target.params, target.tokens
    )  # fmt: skip
    cases = [{**case, "value": moved * case["value"]} for case in cases]
    alone = law.fit if isinstance(law, LossAtThird) and ordinary is None else LossFit.from_json(fit.payload["fit"])
    answer = {
        "value": six_digits(said.expected.value),
        "low": None if said.expected.low is None else six_digits(said.expected.low),
        "high": None if said.expected.high is None else six_digits(said.expected.high),
        "level": target.level,
        "run_low": None if said.run.low is None else six_digits(said.run.low),
        "run_high": None if said.run.high is None else six_digits(said.run.high),
        "law": {
            "form": "average" if forms else alone.form,
            "scales": alone.certificate.rows if ordinary is None else len(fit.payload["points"]),
            "parameters": {
                name: {"value": p.value, "low": p.low, "high": p.high} for name, p in alone.parameters.items()
            },
        },
        "third": third_part(law, target.params, target.tokens) if isinstance(law, LossAtThird) else None,
        "forms": forms,
        "forms_missing": fit.payload.get("forms_missing", ""),
        "asymptote": [
            {**case, "value": six_digits(case["value"]), "asymptote": six_digits(case["asymptote"])} for case in cases
        ],
        "choice": choice(said.expected.value, forms, cases),
        "further_forms": []
        if third is not None
        else further_forms(fit.payload.get("further_forms") or {}, target, said.expected.value),
        "given": third_notes(law, target.params, target.tokens)
        if isinstance(law, LossAtThird)
        else [*as_ordinary(fit.payload, target, target.tokens), *ordinary_notes(fit.payload)],
    }
    return answer, said.extrapolation_decades


def forms_at(law: LossEnsemble, target: Target, moved: float = 1.0) -> list[dict[str, Any]]:
    """Each form that was tried: its share, how it fared, and what it alone expects where it was kept.

    `moved` is by how many times a further input changes the loss.
    """
    values = law.each(target.params, target.tokens)
    return [
        {
            "form": b.form,
            "share": round(b.weight, 4),
            "error": six_digits(b.error) if np.isfinite(b.error) else None,
            "rejected": b.rejected,
            "reason": b.reason,
            "value": six_digits(moved * values[b.form]) if b.form in values else None,
        }
        for b in law.by_form()
    ]


def further_forms(stored: Mapping[str, Any], target: Target, value: float) -> list[dict[str, Any]]:
    """What repeated tokens, or fewer active experts, would do to the loss at the target, by forms that know it."""
    found = []
    for form, content in stored.items():
        fit = LossFit.from_json(content["fit"])
        usable = (
            not fit.certificate.reasons if "status" not in content else usable_form({"further_forms": stored}, form)
        )
        if not usable or content.get("same_input"):
            continue
        usual, other = content["usual"], _OTHER[form](content["usual"])
        near, far = (float(fit.loss(target.params, target.tokens, third)) for third in (usual, other))
        values = [six_digits(value), six_digits(value * far / near)]
        found.append({"form": form, "third": [usual, other], "value": values})
    return found


def choice(value: float, forms: list[dict[str, Any]], cases: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Which choice moves the expected loss most, as a share of it from the lowest to the highest answer.

    The asymptote counts where the additive form, whose it is, takes part. None without any choice.
    """
    kept = {form["form"]: form["value"] for form in forms if form["value"] is not None}
    spans = {"form": list(kept.values())}
    if not forms or "additive" in kept:
        spans["asymptote"] = [case["value"] for case in cases]
    moved = {name: (max(found) - min(found)) / value for name, found in spans.items() if len(found) > 1}
    if not moved:
        return None
    return {"most": max(moved, key=lambda name: moved[name]), "moves": {k: six_digits(v) for k, v in moved.items()}}


def choice_lines(answer: Mapping[str, Any]) -> list[Found]:
    """What the expected loss holds for and averages, and how much each choice moves it, one by one."""
    found: list[Found] = list(answer.get("given", ()))
    kept = [form for form in answer["forms"] if not form["rejected"]]
    if kept:
        forms = {"forms": [_told(form, "form") for form in kept], "left_out": len(answer["forms"]) - len(kept)}
        found.append(finding("advice.average", **forms))
    if answer["asymptote"]:
        left_out = bool(kept) and "additive" not in {form["form"] for form in kept}
        cases = [_told(case, "case") for case in answer["asymptote"]]
        found.append(finding("advice.asymptotes", cases=cases, left_out=left_out))
    if moved := answer["choice"]:
        found.append(finding("advice.moves_loss", choice=moved["most"], share=moved["moves"][moved["most"]]))
    for form in answer["further_forms"]:
        (usual, other), (near, far) = form["third"], form["value"]
        found.append(finding("advice.by_third", form=form["form"], third=[usual, other], loss=[near, far]))
    return found


def _told(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {name: row[name], "loss": row["value"]}


def loss_line(law: LossEnsemble | LossFit | LossAtThird, params: float, tokens: Floats) -> Floats:
    """Expected loss at one size along tokens, without intervals."""
    if isinstance(law, LossEnsemble):
        return np.asarray(np.exp(law.log_loss(params, tokens)), dtype=float)
    return law.loss(params, tokens)


def loss_along(
    law: LossEnsemble | LossFit | LossAtThird, params: float, tokens: Floats
) -> tuple[Floats, Floats, Floats]:
    """Expected loss at one size along tokens, with its interval; NaN where it has none."""
    said = [each.expected for each in predictions(law, np.full(len(tokens), params), tokens)]
    value, low, high = np.array([(each.value, each.low, each.high) for each in said], dtype=float).T
    return value, low, high


def predictions(law: LossEnsemble | LossFit | LossAtThird, params: Floats, tokens: Floats) -> Sequence[LossPrediction]:
    """What a law says at each of many scales."""
    if isinstance(law, LossEnsemble):
        return law.predictions(params, tokens)
    return [law.predict(float(n), float(d)) for n, d in zip(params, tokens, strict=True)]
