"""From stored fits to what else one asks about a run: an answer of each kind of law that has one (`kinds`).

Each is a part of the document of a recommendation, with its interval, how far it extrapolates and what to know before
using it. Nothing is fitted here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lawfit.ask import Target
from lawfit.errors import NotEnoughData
from lawfit.factors import WEIGHT_DECAY
from lawfit.findings import Found, finding
from lawfit.kinds import LawKind, Setting, answering
from lawfit.kinds.third_input import Asked
from lawfit.laws.timescale import DecayConvention
from lawfit.records import Fit, FitStatus
from lawfit.units import six_digits


def further_answers(
    laws: Mapping[str, Fit], missing: Mapping[str, Found], target: Target, *, recipe_key: str, setting: Setting
) -> dict[str, Any]:
    """Parts of the document: an answer or null of each kind that answers, and under ``missing`` why it is null.

    Parameters
    ----------
    laws : kind -> fit; one that is not certified does not answer
    missing : kind -> what the data lack
    recipe_key : of the recipe that is asked about; a law of another one says so
    setting : that is recommended

    Raises
    ------
    NotEnoughData
        A further input of the loss is asked for, and there is no law that knows it.
    """
    third = Asked.of(target)
    found: dict[str, Any] = {}
    lacking: dict[str, Found] = {}
    for kind in answering():
        fit = laws.get(kind.id)
        found[kind.part], why = None, missing.get(kind.id, "")
        if fit is not None and fit.status is not FitStatus.UNCERTIFIED:
            try:
                found[kind.part] = answer_of(kind, fit, target, setting, recipe_key)
            except NotEnoughData as error:
                if third is not None:  # it was asked for
                    raise
                why = error.finding
        if found[kind.part] is None:
            lacking[kind.part] = why
    if third is not None and found["expected_loss"] is None:
        raise no_law_for(third, lacking["expected_loss"])
    return {**found, "missing": lacking}


def answer_of(kind: LawKind, fit: Fit, target: Target, setting: Setting | None, recipe_key: str) -> dict[str, Any]:
    """What one law says; a law of another recipe says so."""
    answer = kind.answer(fit, target, setting)
    if fit.recipe_key != recipe_key:
        answer["from_recipe"] = fit.recipe_name
        answer["notes"].insert(0, finding("advice.of_sister", recipe=fit.recipe_name))
    return answer


def no_law_for(third: Asked, why: Found) -> NotEnoughData:
    """The error of a further input that is asked for where there is no law of the loss."""
    return NotEnoughData(finding("advice.third_without_law", third=third.found, why=why or finding("advice.none")))


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
    apart = {level: abs(np.log(value / advised)) for level in held["levels"] if (value := positive(level))}
    nearest = min(apart, key=lambda level: apart[level], default="")
    if not nearest or nearest == held["level"]:
        return []
    return [finding("advice.nearer_decay", held=held["level"], weight_decay=six_digits(advised), nearest=nearest)]


def positive(level: str) -> float | None:
    """The weight decay of a level; None for none at all, and for runs that do not say."""
    try:
        return max(0.0, float(level)) or None
    except ValueError:
        return None
