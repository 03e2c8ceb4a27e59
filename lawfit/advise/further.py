"""From stored fits to what else one asks about a run: weight decay, critical batch size, and the loss to expect.

Each answer is a part of the document of a recommendation, with its interval, how far it extrapolates and what to know
before using it. Nothing is fitted here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.expected_loss import choice_lines, digits, expected_loss
from lawfit.advise.third_input import Asked, asked_for, loss_at_third
from lawfit.ask import Target
from lawfit.errors import NotEnoughData
from lawfit.estimate.critical.laws import AveragedLaw
from lawfit.estimate.numerics.optimum_law import OptimumLaw, PredictedOptimum
from lawfit.estimate.weight_decay.timescale import RATIO
from lawfit.factors import WEIGHT_DECAY
from lawfit.findings import Found, finding
from lawfit.laws.timescale import DecayConvention, weight_decay_of
from lawfit.records import Fit, FitStatus

Floats = NDArray[np.float64]

FAR_DECADES: Final = 0.05  # beyond the runs by more than this is an extrapolation
# kind of fit -> what it answers, as the document calls it
ANSWERS: Final[Mapping[str, str]] = {
    "timescale": "weight_decay",
    "critical_batch": "critical_batch",
    "loss": "expected_loss",
}


def further_answers(
    laws: Mapping[str, Fit],
    missing: Mapping[str, Found],
    target: Target,
    *,
    recipe_key: str,
    lr: float,
    batch_tokens: float,
) -> dict[str, Any]:
    """Parts of the document: an answer or null for each of `ANSWERS`, and under ``missing`` why it is null.

    Parameters
    ----------
    laws : kind -> fit; one that is not certified does not answer
    missing : kind -> what the data lack
    recipe_key : of the recipe that is asked about; a law of another one says so
    lr, batch_tokens : those that are recommended; weight decay goes with them

    Raises
    ------
    NotEnoughData
        A further input of the loss is asked for, and there is no law that knows it.
    """
    found: dict[str, Any] = dict.fromkeys(ANSWERS.values())
    for kind, fit in laws.items():
        if fit.status is FitStatus.UNCERTIFIED or kind not in ANSWERS:
            continue
        if kind == "timescale":
            answer = weight_decay_answer(fit, target, lr=lr, batch_tokens=batch_tokens)
        elif kind == "critical_batch":
            answer = critical_batch_answer(fit, target)
        else:
            try:
                answer = loss_answer(fit, target)
            except NotEnoughData as error:
                if Asked.of(target) is not None:  # it was asked for
                    raise
                missing = {**missing, kind: error.finding}
                continue
        if fit.recipe_key != recipe_key:
            answer["from_recipe"] = fit.recipe_name
            answer["notes"].insert(0, finding("advice.of_sister", recipe=fit.recipe_name))
        found[ANSWERS[kind]] = answer
    if (third := Asked.of(target)) is not None and found["expected_loss"] is None:
        raise no_law_for(third, missing.get("loss", ""))
    lacking = {name: missing.get(kind, "") for kind, name in ANSWERS.items() if found[name] is None}
    return {**found, "missing": lacking}


def no_law_for(third: Asked, why: Found) -> NotEnoughData:
    """The error of a further input that is asked for where there is no law of the loss."""
    return NotEnoughData(finding("advice.third_without_law", third=third.found, why=why or finding("advice.none")))


def weight_decay_answer(fit: Fit, target: Target, *, lr: float, batch_tokens: float) -> dict[str, Any]:
    """Weight decay in both conventions, from the timescale that is best at the target's tokens per parameter."""
    law = OptimumLaw.from_json(fit.payload["law"])
    said = law.predict(target.level, **{RATIO: target.tokens / target.params})

    standing = _standing(fit, said.decades)

    def decay(timescale: float, convention: DecayConvention = DecayConvention.COUPLED) -> float:
        return digits(float(weight_decay_of(timescale, batch_tokens, lr, target.tokens, convention)))

    return {
        "value": decay(said.value),
        "low": decay(said.high),  # a long memory is a small weight decay
        "high": decay(said.low),
        "level": target.level,
        "independent": decay(said.value, DecayConvention.INDEPENDENT),
        "at": {"lr": lr, "batch_tokens": batch_tokens},
        "timescale": {
            "value": digits(said.value),
            "low": digits(said.low),
            "high": digits(said.high),
            "exponent": digits(law.exponents[RATIO]),
            "scales": law.points,
        },
        **standing,
        "notes": [*standing["notes"], *(fit.payload.get("lines") or [])[-1:]],  # the last line is its certificate
    }


def critical_batch_answer(fit: Fit, target: Target) -> dict[str, Any]:
    """The critical batch size at the target, with its definition."""
    route = fit.payload["routes"][fit.payload["route"]]
    name, average, law, said = _by_route(route, target)
    noise = fit.payload.get("noise_scale")
    return {
        **_critical_value(route, said, target),
        "route": fit.payload["route"],
        "metric": fit.payload.get("metric") or None,
        "law": {"input": name, "exponent": digits(law.exponents[name]), "measured": law.points, "sizes": law.groups},
        "shares": {each: round(share, 4) for each, share in average.shares.items()},
        "left_out": (route["left_out"] or {}).get("answer"),
        "noise_scale": None if noise is None else {name: noise[name] for name in ("factor", "steady", "words")},
        "restated": _restated(fit, target),
        "certified": not fit.payload["reasons"],
        **_standing(fit, said.decades),
    }


def _by_route(route: Mapping[str, Any], target: Target) -> tuple[str, AveragedLaw, OptimumLaw, PredictedOptimum]:
    """The input that answers, the average of laws, the law in that input, and what the average says at the target."""
    name, average = route["answering"], AveragedLaw.from_json(route)
    said = average.predict(target.level, **{x: getattr(target, x) for x in average.inputs})
    return name, average, OptimumLaw.from_json(route["laws"][name]), said


def _critical_value(route: Mapping[str, Any], said: PredictedOptimum, target: Target) -> dict[str, Any]:
    return {
        "value": digits(said.value),
        "low": digits(said.low),
        "high": digits(said.high),
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
        **_critical_value(route, said, target),
        "law": {
            "input": name,
            "const": digits(law.const),
            "exponent": digits(law.exponents[name]),
            "exponent_low": digits(low),
            "exponent_high": digits(high),
        },
        "lent_by": route["lent_by"],
    }


def loss_answer(fit: Fit, target: Target) -> dict[str, Any]:
    """The loss of the best run at the target: of the law, and of one more run with its own noise.

    Raises
    ------
    NotEnoughData
        As `expected_loss.expected_loss`.
    """
    answer, decades = expected_loss(fit, target)
    third = asked_for(fit.payload, target, target.tokens)
    if third is None:
        standing = _standing(fit, decades)
    else:  # the form that answers says how well it is known, beside the law of ordinary runs
        law = loss_at_third(fit, third, target.level)
        standing = {**_standing(replace(fit, status=law.status), decades), "notes": law.doubts}
    return {**answer, "lines": choice_lines(answer), **standing}


def level_notes(
    settings: Sequence[Mapping[str, Any]], answer: Mapping[str, Any] | None, decay_kind: str
) -> list[Found]:
    """A note where another weight decay of the runs lies nearer to the advised one than the level that is held.

    Parameters
    ----------
    settings : that vary in the runs, with the level that learning rate and batch hold at
    answer : the advised weight decay, or None
    decay_kind : convention of the levels; empty is coupled
    """
    held = next((setting for setting in settings if setting["name"] == WEIGHT_DECAY), None)
    if answer is None or held is None or not held["level"]:
        return []
    advised = float(answer["independent"] if decay_kind == DecayConvention.INDEPENDENT.value else answer["value"])
    apart = {level: abs(np.log(value / advised)) for level in held["levels"] if (value := _positive(level))}
    nearest = min(apart, key=lambda level: apart[level], default="")
    if not nearest or nearest == held["level"]:
        return []
    return [finding("advice.nearer_decay", held=held["level"], weight_decay=digits(advised), nearest=nearest)]


def _positive(level: str) -> float | None:
    """The weight decay of a level; None for none at all, and for runs that do not say."""
    try:
        return max(0.0, float(level)) or None
    except ValueError:
        return None


def interval_along(law: Mapping[str, Any], x: Floats, level: float) -> tuple[Floats, Floats, Floats]:
    """Value and ends of the interval of a stored law in one input, at several places."""
    found = OptimumLaw.from_json(law)
    said = [found.predict(level, **{found.inputs[0]: float(at)}) for at in x]
    value, low, high = np.array([(each.value, each.low, each.high) for each in said], dtype=float).T
    return value, low, high


def critical_along(route: Mapping[str, Any], x: Floats, params: Floats, level: float) -> tuple[Floats, Floats, Floats]:
    """Critical batch and ends of its interval along tokens x, at the sizes that go with them."""
    average = AveragedLaw.from_json(route)
    said = []
    for tokens, size in zip(x, params, strict=True):
        at = {"tokens": float(tokens), "params": float(size)}
        said.append(average.predict(level, **{name: at[name] for name in average.inputs}))
    value, low, high = np.array([(each.value, each.low, each.high) for each in said], dtype=float).T
    return value, low, high


def _standing(fit: Fit, decades: Mapping[str, float]) -> dict[str, Any]:
    beyond = max(decades.values(), default=0.0) > FAR_DECADES
    borrowed = fit.status is FitStatus.SPARSE
    return {
        "extrapolation_decades": {name: round(value, 4) for name, value in decades.items()},
        "status": "borrowed" if borrowed else "extrapolated" if beyond else "ok",
        "fit_id": fit.id,
        "notes": list(fit.payload["sentences"]),
    }
