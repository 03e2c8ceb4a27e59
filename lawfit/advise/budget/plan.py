"""From a budget to a plan: how large a model on how many tokens, at which settings, to which loss, in what time.

One JSON document, the same from the command line, over HTTP and in a notebook. Where the runs do not say how a budget
is best split, that part is refused with its reason and with the runs that would say it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.budget.belief import LossBelief, finite, profiles
from lawfit.advise.budget.choice import Choice
from lawfit.advise.budget.optimum import optimal_path, tokens_for
from lawfit.advise.budget.routes import disagreement, each_form, forms_alone, profile_part
from lawfit.advise.budget.runs import run_at
from lawfit.advise.budget.third import asked_part, best_share
from lawfit.advise.budget.time import time_answer, tokens_per_second
from lawfit.ask import LARGEST_TARGET, PlanQuestion, Target
from lawfit.documents import Answer, Plan
from lawfit.errors import NotEnoughData
from lawfit.estimate.loss.isoflop import IsoFlop
from lawfit.findings import Found, as_json, finding, joined
from lawfit.kinds import answering
from lawfit.kinds.kind import FAR_DECADES
from lawfit.kinds.third_input import LossAtThird, asked_for, beyond_note, require_both
from lawfit.laws.loss import FLOPS_PER_PARAM_TOKEN
from lawfit.records import Fit, FitStatus, Recipe

Floats = NDArray[np.float64]

SCHEMA: Final = "lawfit.plan/1"
SIZES: Final = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0)  # of the alternatives, in units of the planned size
VERY_FAR_DECADES: Final = 2.0
WIDE: Final = 10.0  # ratio of the ends of an interval that deserves a word

Settings = Callable[[Target], Answer]  # the document of `lawfit predict` at a scale


def plan(
    question: PlanQuestion, recipe: Recipe, laws: Mapping[str, Fit], missing: Mapping[str, Found], settings: Settings
) -> Plan:
    """The plan for one question.

    Parameters
    ----------
    laws : kind -> fit; ``loss`` answers, ``critical_batch`` adds time against compute
    missing : kind -> what the data lack for it
    settings : answers as `advise.prediction.recommend` does, at the planned scale

    Returns
    -------
    Plan
        The document of ``lawfit plan --json`` (schema `SCHEMA`); costs are shares of loss, losses nats per token.

    Raises
    ------
    NotEnoughData
        There is no law of the loss to plan with, or it leaves the optimum that was asked for open.
    FitError
        A loss that no training reaches.
    """
    fit = laws.get("loss")
    if fit is None or fit.status is FitStatus.UNCERTIFIED:
        why = missing.get("loss") or finding("plan.fit_has_none")
        raise NotEnoughData(finding("plan.no_loss_law", why=why))
    third = asked_for(fit.payload, question, question.tokens)
    require_both(fit.payload, third)
    belief = LossBelief.of(fit, question.level, third)
    choice = Choice(belief, question)
    said = settings(_target(question, choice.params, choice.tokens))
    advised = said["recommendation"]["batch_tokens"]
    batch = None if advised is None else advised["value"]
    time, lacking = _time(laws, missing, belief, choice, said, question, batch)
    optimum = None if choice.refused else _optimum(belief, choice)
    by_profile = _by_profile(fit, choice, ordinary=third is None)
    part = profile_part(by_profile, choice.total, question.level) if isinstance(by_profile, IsoFlop) else None
    apart = disagreement(part, optimum["params_by_forms"]) if part and optimum else []
    document = {
        "schema": SCHEMA,
        "recipe": said["recipe"],
        "asked": {name: value for name, value in asdict(question).items() if value is not None},
        "budget": _budget(belief, choice, recipe, question),
        "plan": _scale(belief, choice, batch),
        "optimum": optimum,
        "third": None if third is None else asked_part(belief, choice, third),
        "best_share": best_share(fit, recipe, question, choice.flops),
        "isoflop": part,
        "alternatives": _alternatives(belief, choice),
        "settings": {name: said.get(name) for name in ("recommendation", *(kind.part for kind in answering()))}
        | {"missing": said.get("missing", {}), "prediction_id": said["id"]},
        "time": time,
        "missing": _missing(choice, lacking, by_profile),
        "runs_that_would_help": list(choice.verdict.runs),
        "evidence": {"prediction_fit_id": said["evidence"]["fit_id"], **_evidence(belief, fit)},
        "warnings": [*_warnings(belief, choice, recipe), *apart, *said["warnings"]],
    }
    made: Plan = as_json(document)
    return made


def _by_profile(fit: Fit, choice: Choice, *, ordinary: bool) -> IsoFlop | Found:
    """The split through the minima of profiles, or why they do not say it."""
    if choice.served:
        return finding("plan.profiles_of_training")
    return profiles(fit) if ordinary else finding("plan.profiles_of_ordinary_runs")


def _missing(choice: Choice, time: Found, by_profile: IsoFlop | Found) -> dict[str, Found]:
    """Why parts of the plan are not there."""
    isoflop = "" if isinstance(by_profile, IsoFlop) else by_profile
    return {"optimum": choice.verdict.refusal or "", "time": time, "isoflop": isoflop}


def _budget(belief: LossBelief, choice: Choice, recipe: Recipe, question: PlanQuestion) -> dict[str, Any]:
    """The compute that is planned with, and what it is in time."""
    return {
        "flops": finite(choice.total),
        "training_flops": finite(choice.flops),
        "inference_flops": finite(choice.total - choice.flops) if question.inference_tokens else 0.0,
        "convention": _convention(recipe, question),
        "extrapolation_decades": finite(belief.decades("flops", choice.flops)),
        **_duration(question, choice),
    }


def _scale(belief: LossBelief, choice: Choice, batch: float | None) -> dict[str, Any]:
    """The run that is planned."""
    return {
        "params": finite(choice.params),
        "tokens": finite(choice.tokens),
        "tokens_per_param": finite(choice.tokens / choice.params),
        "steps": None if not batch else finite(choice.tokens / batch),
        "why": choice.why,
        "cost": finite(choice.cost),
        "extrapolation_decades": {
            name: finite(belief.decades(name, value))
            for name, value in (("params", choice.params), ("tokens", choice.tokens))
        },
    }


def _evidence(belief: LossBelief, fit: Fit) -> dict[str, Any]:
    """What the loss rests on; with a further input the form that answers says how well it is known."""
    source = belief.source
    third = source if isinstance(source, LossAtThird) else None
    alone = third.fit if third is not None and third.ordinary is None else None
    status = fit.status if third is None else third.status
    return {
        "loss_fit_id": fit.id,
        "scales": len(fit.payload["points"]) if alone is None else alone.certificate.rows,
        "status": "borrowed" if status is FitStatus.SPARSE else "ok",
        "forms": {form: finite(share) for form, share in belief.forms.items()},
        "notes": list(fit.payload["sentences"]) if third is None else third.doubts,
    }


def _target(question: PlanQuestion, params: float, tokens: float) -> Target:
    return Target(
        params=params,
        tokens=tokens,
        seq_len=question.seq_len,
        batch_multiple=question.batch_multiple,
        max_batch_tokens=question.max_batch_tokens,
        level=question.level,
        **question.given(),
    )


def _optimum(belief: LossBelief, choice: Choice) -> dict[str, Any]:
    best, level = choice.best, choice.question.level
    tokens = choice.left(choice.total, math.exp(best.chosen))
    sizes = best.opened(best.log_params_each)
    tokens_each, ratios = (
        best.opened(x, falls=True) for x in (best.log_tokens_each, best.log_tokens_each - best.log_params_each)
    )
    exponent, exponent_each = _exponent(belief, choice)
    slopes = belief.bounds(exponent_each)
    found: dict[str, Any] = {
        "flops": finite(choice.total),
        "params": _part(belief, math.exp(best.chosen), np.exp(sizes), level),
        "tokens": _part(belief, tokens, np.exp(tokens_each), level),
        "tokens_per_param": _part(belief, tokens / math.exp(best.chosen), np.exp(ratios), level),
        "loss": _loss(belief, math.exp(best.chosen), tokens, level),
        "central_params": finite(math.exp(best.log_params)),
        "params_exponent": {"value": finite(exponent), **_finite_ends(exponent, slopes), "level": level},
        "cheap_zone": {f"{share:g}": [finite(end) for end in zone] for share, zone in best.zones.items()},
        "expected_regret": finite(best.regret),
        "params_by_forms": forms_alone(belief, best, choice.served),
        "forms": each_form(belief, choice.total, choice.served),
    }
    if choice.own_budget is not None:  # the budget is part of the answer: each world has its own
        flops, params, tokens_of = choice.own_budget
        found["budget"] = _part(belief, choice.total, flops, level)
        found["params"] = _part(belief, choice.params, params, level)
        found["tokens"] = _part(belief, choice.tokens, tokens_of, level)
        found["tokens_per_param"] = _part(belief, choice.tokens / choice.params, _over(tokens_of, params), level)
    return found


def _exponent(belief: LossBelief, choice: Choice) -> tuple[float, Floats]:
    """a of ``params* ~ flops^a`` around the budget."""
    path = optimal_path(belief, served=choice.served, budgets=np.array([choice.total / math.e, choice.total * math.e]))
    slopes = np.diff(path.log_params, axis=1)[:, 0] / 2
    return float(slopes[0]), slopes[1:]


def _part(belief: LossBelief, value: float, draws: Floats, level: float) -> dict[str, Any]:
    """A positive quantity with its interval."""
    return {"value": finite(value), **_finite_ends(value, belief.positive_bounds(draws)), "level": level}


def _loss(belief: LossBelief, params: float, tokens: float, level: float) -> dict[str, Any]:
    said = belief.predict(params, tokens)
    return {"value": finite(said.value), "low": finite(said.low), "high": finite(said.high), "level": level}


def _over(above: Floats, below: Floats) -> Floats:
    """A ratio, infinite where both are."""
    known = np.isfinite(above) & np.isfinite(below)
    return np.where(known, np.where(known, above, 1.0) / np.where(known, below, 1.0), np.inf)


def _finite_ends(value: float, bounds: tuple[float, float] | None) -> dict[str, float | None]:
    """An interval holds its own value, also one of least regret that lies off the middle of the forms."""
    if bounds is None:
        return {"low": None, "high": None}
    return {"low": finite(min(bounds[0], value)), "high": finite(max(bounds[1], value))}


def _alternatives(belief: LossBelief, choice: Choice) -> list[dict[str, Any]]:
    """Other sizes for the same budget, and what each would need to be as good as the plan."""
    middle = choice.params
    sizes = [middle * factor for factor in SIZES]
    reach = tokens_for(belief.centre, belief.scales, math.exp(choice.log_loss), np.array(sizes))
    # the plan's own loss is that of `lawfit predict`; what other sizes cost beside it is told by how forms foretell it
    level = math.log(belief.predict(choice.params, choice.tokens).value)
    rows = []
    for params, needed in zip(sizes, reach, strict=True):
        tokens = (choice.total / params - 2 * choice.served) / FLOPS_PER_PARAM_TOKEN
        if tokens < 1 or not 1 <= params <= LARGEST_TARGET:
            continue
        needed = choice.tokens if params == middle else needed
        total = params * (FLOPS_PER_PARAM_TOKEN * needed + 2 * choice.served)
        log_loss = float(belief.centre([params], [tokens])[0])
        rows.append(
            {
                "params": finite(params),
                "tokens": finite(tokens),
                "tokens_per_param": finite(tokens / params),
                "loss": finite(math.exp(level + log_loss - choice.log_loss)),
                "cost": finite(math.expm1(log_loss - choice.log_loss)),
                **_cost_ends(belief, choice, params),
                "planned": params == middle,
                "same_loss": {
                    "tokens": finite(needed),
                    "flops": finite(total),
                    "compute_ratio": finite(total / choice.total),
                },
            }
        )
    return rows


def _cost_ends(belief: LossBelief, choice: Choice, params: float) -> dict[str, float | None]:
    if params == choice.params:
        return {"cost_low": 0.0, "cost_high": 0.0}
    tokens = (choice.total / params - 2 * choice.served) / FLOPS_PER_PARAM_TOKEN
    each = belief.each([params, choice.params], [tokens, choice.tokens])
    ends = belief.bounds(each[:, 0] - each[:, 1])
    return {
        "cost_low": None if ends is None else finite(math.expm1(ends[0])),
        "cost_high": None if ends is None else finite(math.expm1(ends[1])),
    }


def _time(
    laws: Mapping[str, Fit],
    missing: Mapping[str, Found],
    belief: LossBelief,
    choice: Choice,
    said: Mapping[str, Any],
    question: PlanQuestion,
    batch: float | None,
) -> tuple[dict[str, Any] | None, Found]:
    fit, critical = laws.get("critical_batch"), said.get("critical_batch")
    if fit is None or critical is None or fit.status is FitStatus.UNCERTIFIED:
        why = missing.get("critical_batch") or said.get("missing", {}).get("critical_batch") or finding("plan.none")
        return None, finding("plan.no_critical_batch", why=why)
    if not batch:
        return None, finding("plan.no_batch")
    found = time_answer(
        belief,
        fit,
        critical,
        question,
        params=choice.params,
        tokens=choice.tokens,
        log_loss=choice.log_loss,
        batch_tokens=float(batch),
    )
    return found, ""


def _convention(recipe: Recipe, question: PlanQuestion) -> dict[str, Any]:
    counted = recipe.params_convention
    return {
        "words": finding("plan.flops", params_convention=counted, served=bool(question.inference_tokens)),
        "left_out": finding("plan.left_out", params_convention=counted),
        "params_convention": counted,
    }


def _duration(question: PlanQuestion, choice: Choice) -> dict[str, Any]:
    """GPU-hours and wall-clock of the training, where the speed is known."""
    rate, speed = question.flops_per_second, tokens_per_second(question, choice.params)
    return {
        "gpu_hours": None if rate is None else finite(choice.flops / rate / 3600),
        "seconds": None if speed is None else finite(choice.tokens / speed),
    }


def _warnings(belief: LossBelief, choice: Choice, recipe: Recipe) -> list[Found]:
    said: list[Found] = []
    beyond = belief.decades("flops", choice.flops)
    if beyond > FAR_DECADES:
        low, high = belief.scales["flops"]
        edge = {"edge_flops": high if choice.flops > high else low, "very_far": beyond > VERY_FAR_DECADES}
        said.append(finding("plan.beyond_runs", flops=choice.flops, factor=10**beyond, **edge))
    if isinstance(belief.source, LossAtThird):
        said += beyond_note(belief.source, choice.tokens)
    if choice.refused:
        said.append(finding("plan.no_optimum", why=choice.verdict.refusal))
    else:
        said += _optimum_warnings(belief, choice)
    if not recipe.params_convention:
        said.append(finding("plan.params_unsaid"))
    return said


def _optimum_warnings(belief: LossBelief, choice: Choice) -> list[Found]:
    said: list[Found] = []
    ratio = float(choice.best.valley.tokens(np.array(choice.best.chosen))) - choice.best.chosen
    tried = np.log(belief.points[:, 1] / belief.points[:, 0])
    if not tried.min() - 0.05 <= ratio <= tried.max() + 0.05:
        low, high = np.exp(tried.min()), np.exp(tried.max())
        said.append(finding("plan.ratio_outside", tokens_per_param=math.exp(ratio), low=low, high=high))
    bounds = belief.bounds(choice.best.opened(choice.best.log_params_each))
    if bounds is not None and bounds[1] - bounds[0] > math.log(WIDE):
        wide: list[Found] = [finding("plan.wide", factor=math.exp(0.5 * (bounds[1] - bounds[0])))]
        if choice.verdict.runs:
            run = choice.verdict.runs[0]
            wide.append(finding("plan.would_narrow", run=run_at(run), factor=run["known"]))
        said.append(joined(wide))
    return said
