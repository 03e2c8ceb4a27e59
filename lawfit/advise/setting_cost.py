"""What a setting of somebody's own costs at a target: the loss given up over the best one, and the loss itself.

Worlds, caps and parts are those of the recommendation (`regret`), so that at the advised setting both say the same.
Beyond what runs tried, counted from the best setting of their own scale, no run shows a cost: it is at least that of
the last setting that runs tried, and has no upper end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.batch_choice import in_sequences
from lawfit.advise.draws import Worlds, draw_worlds
from lawfit.advise.further import positive
from lawfit.advise.loss_at_setting import loss_with, off_by_a_share
from lawfit.advise.members import WORLDS
from lawfit.advise.prediction import ChosenSetting, chosen_setting, extra_compute, recommend, with_id
from lawfit.advise.regret import CAP, at_batch, excess_at, excess_of_batch, regret_of
from lawfit.ask import SettingQuestion
from lawfit.documents import Answer, SettingCost, given
from lawfit.errors import NoFit
from lawfit.estimate.lr_batch.valley import best_lr_shift
from lawfit.estimate.numerics.optimum_law import OptimumLaw
from lawfit.estimate.weight_decay.timescale import RATIO
from lawfit.estimate.weight_decay.valley import cost_of_timescale
from lawfit.factors import WEIGHT_DECAY
from lawfit.findings import Finding, Found, finding
from lawfit.kinds import LOSS, TIMESCALE
from lawfit.kinds.expected_loss import stored_law
from lawfit.kinds.kind import FAR_DECADES
from lawfit.kinds.third_input import asked_for
from lawfit.laws.timescale import DecayConvention, timescale, weight_decay_of
from lawfit.records import Fit, Recipe
from lawfit.units import six_digits

Floats = NDArray[np.float64]

SCHEMA: Final = "lawfit.cost/1"
_SEED: Final = 20261130


def cost_of(fit: Fit, recipe: Recipe, asked: SettingQuestion, laws: Mapping[str, Fit]) -> SettingCost:
    """What a setting costs at a target.

    Parameters
    ----------
    fit : of learning rate and batch
    laws : kind -> the further fits that `fit` names in its payload

    Raises
    ------
    NoFit
        The fit was stored by a version of lawfit whose numbers this one cannot read, or that did not keep what runs
        tried.
    NotEnoughData
        A further input of the loss is asked for, and there is no law that knows it.
    ValueError
        The batch contradicts the run.
    """
    answer = recommend(fit, recipe, asked, laws)
    model, seq_len = fit.payload["model"], asked.seq_len or recipe.seq_len
    if "tried" not in model["valley"]:
        raise NoFit(finding("advice.before_costs", fit_id=fit.id, recipe=fit.recipe_name))
    free = chosen_setting(fit.payload, replace(asked, batch_tokens=None), seq_len)
    there = free if asked.batch_tokens is None else chosen_setting(fit.payload, asked, seq_len)
    place = _Place.of(model, asked, there.log_batch)
    decay, no_decay = _decay_at(asked, there.batch_tokens, answer, recipe, laws)
    absent = dict(answer.get("missing", {}))
    loss_law = None if answer.get("expected_loss") is None else laws[LOSS.id]
    document: SettingCost = with_id(
        {
            "schema": SCHEMA,
            "id": "",
            "recipe": answer["recipe"],
            "target": answer["target"],
            "settings": answer.get("settings", []),
            "setting": {
                "lr": asked.lr,
                "batch_tokens": there.batch_tokens,
                "sequences": None if seq_len is None else in_sequences(there.batch_tokens, seq_len),
                "weight_decay": asked.weight_decay,
                "batch_given": asked.batch_tokens is not None,
            },
            "advised": _advised(free, there, asked, answer),
            "regret": _regret(model, asked, place, decay, answer),
            "expected_loss": None if loss_law is None else _loss(model, loss_law, asked, place, decay, answer),
            "missing": {
                **({"expected_loss": absent.get("expected_loss", "")} if loss_law is None else {}),
                **({WEIGHT_DECAY: no_decay} if asked.weight_decay is not None and decay is None else {}),
            },
            "evidence": answer["evidence"],
            "warnings": [*place.doubts, *(() if decay is None else decay.doubts), *answer["warnings"]],
        }
    )
    return document


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a setting lies in each world, and among what runs tried."""

    total: Floats  # (worlds,) excess of log loss; beyond what runs tried, of the last setting on the way that they did
    of_batch: Floats  # (worlds,) of it that the best learning rate at this batch would leave
    beyond: Mapping[str, bool]  # what runs tried, by quantity
    diverges: bool  # half of the runs this far above the best rate did, or more
    doubts: tuple[Finding, ...]

    @classmethod
    def of(cls, model: Mapping[str, Any], asked: SettingQuestion, log_batch: float) -> _Place:
        worlds = draw_worlds(model, asked.params, asked.tokens)
        tried = {
            name: model["valley"]["tried"][f"log_{name.removesuffix('_tokens')}"] for name in ("lr", "batch_tokens")
        }
        diverges = model["valley"]["tried"]["diverges"]
        off = {
            "lr": math.log(asked.lr) - _best_log_lr(worlds, log_batch),
            "batch_tokens": log_batch - worlds.centre_log_batch,
        }
        beyond = {name: _is_beyond(at, tried[name]) for name, at in off.items()}
        last = {name: float(np.clip(at, *tried[name])) if beyond[name] else at for name, at in off.items()}
        last_batch = worlds.centre_log_batch + last["batch_tokens"]
        there = at_batch(worlds, last_batch)
        doubts = [_untried(name, off[name], *tried[name]) for name in off if beyond[name]]
        too_high = diverges is not None and off["lr"] >= diverges
        if too_high:
            doubts.append(finding("advice.diverges", times=math.exp(off["lr"]), above=math.exp(diverges)))
        return cls(
            total=excess_at(there, _best_log_lr(worlds, last_batch) + last["lr"], last_batch),
            of_batch=excess_of_batch(there, last_batch),
            beyond=beyond,
            diverges=too_high,
            doubts=tuple(doubts),
        )

    @property
    def is_beyond(self) -> bool:
        return any(self.beyond.values())


def _best_log_lr(worlds: Worlds, log_batch: float) -> float:
    """ln of the best learning rate at a batch in the central world."""
    there = at_batch(worlds, log_batch)
    shift = best_lr_shift(np.array(log_batch - there.centre_log_batch), there.centre_valley)
    return there.centre_log_lr + float(shift)


def _is_beyond(off: float, tried: Sequence[float]) -> bool:
    low, high = tried
    return max(low - off, off - high) > FAR_DECADES * math.log(10)


def _untried(name: str, off: float, low: float, high: float) -> Finding:
    return finding("advice.untried", input=name, times=math.exp(off), low=math.exp(low), high=math.exp(high))


@dataclass(frozen=True, kw_only=True)
class _Decay:
    """What a weight decay costs at its learning rate and batch."""

    cost: Floats  # (worlds,) excess of log loss over the best one; beyond what runs tried, of the last that they did
    over_held: Floats  # (worlds,) the same over the level that the runs of the loss law hold, where they hold one
    beyond: bool
    doubts: tuple[Finding, ...]


def _decay_at(
    asked: SettingQuestion, batch_tokens: float, answer: Answer, recipe: Recipe, laws: Mapping[str, Fit]
) -> tuple[_Decay | None, Found]:
    """What the weight decay costs; without a law of it, why that is not known."""
    if asked.weight_decay is None:
        return None, ""
    if answer.get("weight_decay") is None:
        return None, answer.get("missing", {}).get("weight_decay", "")
    fit = laws[TIMESCALE.id]
    if "tried" not in fit.payload:
        return None, finding("advice.before_costs", fit_id=fit.id, recipe=fit.recipe_name)
    # a long memory is a small weight decay
    tried = [-end for end in reversed(fit.payload["tried"])]
    rng = np.random.default_rng(_SEED)
    law, ratio = OptimumLaw.from_json(fit.payload["law"]), {RATIO: asked.tokens / asked.params}
    best = law.log_draws(WORLDS, rng=rng, **ratio)
    stiffness = fit.payload["stiffness"] * np.exp(fit.payload["log_stiffness_sd"] * rng.standard_normal(WORLDS))

    def log_tau(weight_decay: float) -> float:
        return math.log(float(timescale(batch_tokens, asked.lr, weight_decay, asked.tokens)))

    def cost(at: float) -> Floats:
        return cost_of_timescale(at - best, stiffness, fit.payload["skew"])

    centre = math.log(law.predict(**ratio).value)
    off = centre - log_tau(asked.weight_decay)
    beyond = _is_beyond(off, tried)
    there = cost(centre - (float(np.clip(off, *tried)) if beyond else off))
    held = _held(answer, recipe, asked.lr)
    decay = _Decay(
        cost=there,
        over_held=there if held is None else there - cost(log_tau(held)),
        beyond=beyond,
        doubts=(_untried(WEIGHT_DECAY, off, *tried),) if beyond else (),
    )
    return decay, ""


def _held(answer: Answer, recipe: Recipe, lr: float) -> float | None:
    """The weight decay, coupled to the learning rate, that the runs hold; None where each scale has its own."""
    held = next((each for each in answer.get("settings", []) if each["name"] == WEIGHT_DECAY), None)
    level = None if held is None else positive(held["level"])
    independent = recipe.extra.get("weight_decay_kind") == DecayConvention.INDEPENDENT.value
    return level / lr if level and independent else level


def _advised(
    free: ChosenSetting, there: ChosenSetting, asked: SettingQuestion, answer: Answer
) -> dict[str, float | None]:
    said = answer.get("weight_decay")
    decay = None
    if said is not None:
        best = weight_decay_of(said["timescale"]["value"], free.batch_tokens, free.lr, asked.tokens)
        decay = six_digits(float(best))
    return {"lr": free.lr, "batch_tokens": free.batch_tokens, "lr_at_batch": there.lr, "weight_decay": decay}


def _regret(
    model: Mapping[str, Any], asked: SettingQuestion, place: _Place, decay: _Decay | None, answer: Answer
) -> dict[str, Any]:
    """Loss given up over the best setting, whole and by what it comes from."""
    tails = [0.5 - asked.level / 2, 0.5 + asked.level / 2]

    def share(expected: float, cost: Floats, *, beyond: bool, diverges: bool = False) -> dict[str, float | None]:
        low, high = np.expm1(np.quantile(cost, tails))
        return {
            "loss_fraction": None if beyond else six_digits(expected),
            "low": six_digits(float(low)),
            "high": None if beyond or diverges else six_digits(float(high)),
        }

    total, of_batch = (off_by_a_share(model, cost) for cost in (place.total, place.of_batch))
    by_batch = regret_of(place.of_batch)
    by_lr = max(regret_of(place.total) - by_batch, 0.0)
    by_decay, of_decay = (0.0, np.zeros(WORLDS)) if decay is None else (regret_of(decay.cost), decay.cost)
    untold = place.is_beyond or (decay is not None and decay.beyond)
    expected = by_lr + by_batch + by_decay
    whole = share(expected, total + of_decay, beyond=untold, diverges=place.diverges)
    best, slope = answer.get("expected_loss"), model.get("loss_slope_per_log_compute")
    nats = dict(zip(("value", "low", "high"), whole.values(), strict=True))
    return {
        **whole,
        "level": asked.level,
        "nats": None if best is None else {k: v and six_digits(best["value"] * v) for k, v in nats.items()},
        "cap_per_world": math.expm1(CAP),
        "extra_compute_fraction": None if untold else extra_compute(expected, slope),
        "parts": {
            # at a batch that was not tried, the best learning rate is not known either
            "lr": share(by_lr, total - of_batch, beyond=place.is_beyond, diverges=place.diverges),
            "batch_tokens": share(by_batch, of_batch, beyond=place.beyond["batch_tokens"]),
            WEIGHT_DECAY: None if decay is None else share(by_decay, of_decay, beyond=decay.beyond),
        },
        "status": _status(answer, untold=untold, diverges=place.diverges),
    }


def _status(answer: Answer, *, untold: bool, diverges: bool) -> str:
    if untold:
        return "beyond_runs"
    return "diverges" if diverges else given(answer["recommendation"]["lr"])["status"]


def _loss(
    model: Mapping[str, Any], fit: Fit, asked: SettingQuestion, place: _Place, decay: _Decay | None, answer: Answer
) -> dict[str, float | None]:
    """Loss of one run with the setting, in nats per token."""
    law = stored_law(fit, asked.level, asked_for(fit.payload, asked, asked.tokens))
    further = 0.0 if decay is None else decay.over_held
    said = loss_with(model, law, asked.params, asked.tokens, place.total[None], further)
    untold = place.is_beyond or (decay is not None and decay.beyond)
    return {
        "value": None if untold else six_digits(float(said.value[0])),
        "low": None if said.low is None else six_digits(float(said.low[0])),
        "high": None if said.high is None or untold or place.diverges else six_digits(float(said.high[0])),
        "level": asked.level,
        "best": given(answer.get("expected_loss"))["value"],
    }
