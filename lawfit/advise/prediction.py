"""A stored fit and a target -> the recommendation with its risk, as one JSON document.

No fitting and no scipy here: answering from a stored fit has to be quick.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lawfit.advise.batch_choice import check_batch, choose_batch, in_sequences
from lawfit.advise.cautions import borrowed, nothing_of_ones_own, status_of, status_warning, target_warnings
from lawfit.advise.choices import choices_at
from lawfit.advise.draws import Worlds, draw_worlds, known_of, runs_near
from lawfit.advise.further import further_answers, level_notes, no_law_for
from lawfit.advise.helpful import runs_that_would_help
from lawfit.advise.refusal import doubts, noted
from lawfit.advise.regret import (
    CAP,
    CHEAP,
    PLAUSIBLE,
    at_batch,
    bends_share,
    best_setting,
    cheap_batch_zone,
    cheap_lr_zone,
    expected_regret,
    floor_log_lr,
    lr_given_batch,
    shares_of_runs,
    split_regret,
)
from lawfit.advise.sizes import sizes_of
from lawfit.ask import Target
from lawfit.documents import Answer
from lawfit.errors import NoFit
from lawfit.findings import Finding, Found, as_json, finding
from lawfit.kinds import Setting, answering
from lawfit.kinds.third_input import Asked
from lawfit.laws.published import published_laws
from lawfit.records import MODEL_VERSION, Fit, FitStatus, Recipe, content_hash
from lawfit.units import decades_beyond, six_digits

SCHEMA: Final = "lawfit.prediction/1"


def recommend(fit: Fit, recipe: Recipe, target: Target, laws: Mapping[str, Fit] | None = None) -> Answer:
    """The recommendation for one target.

    Parameters
    ----------
    laws : kind -> the further fits that `fit` names in its payload

    Returns
    -------
    Answer
        The document of ``lawfit predict --json`` (schema `SCHEMA`); regrets are shares of loss.

    Raises
    ------
    NoFit
        The fit was stored by a version of lawfit whose numbers this one cannot read.
    ValueError
        The batch constraints contradict each other or the target.
    """
    payload, model = fit.payload, _model(fit)
    seq_len = target.seq_len or recipe.seq_len
    chosen = chosen_setting(payload, target, seq_len)
    choices = choices_at(
        model,
        target.params,
        target.tokens,
        imposed_log_batch=chosen.log_batch if chosen.imposed else None,
        forms=_forms(chosen.form),
    )
    recommendation = _recommendation(chosen, payload, target, seq_len)
    document = {
        "schema": SCHEMA,
        "id": "",
        "recipe": {"name": recipe.name, "key": recipe.key, **_recipe_fields(recipe)},
        "target": _asked(target, seq_len),
        "settings": payload.get("settings", []),
        "recommendation": recommendation,
        "expected_regret": _regret(chosen, model.get("loss_slope_per_log_compute")),
        "choices": choices,
        "sizes": sizes_of(payload, choices, chosen.worlds.known),
        "published": _published(payload, target, recommendation["batch_tokens"]["value"]),
        "evidence": _evidence(fit, chosen.yours, batch_given=target.batch_tokens is not None),
        "runs_that_would_help": runs_that_would_help(payload, target),
        "backtest": (payload["backtest"]["splits"][0]["rows"] if payload["backtest"]["splits"] else []),
        "warnings": [
            *nothing_of_ones_own(payload, chosen.yours[:1] if target.batch_tokens is not None else chosen.yours),
            *target_warnings(payload, target, chosen.decades, chosen.yours, recommendation, recipe),
            *chosen.notes,
            *payload["warnings"],
            *noted(payload),
            *status_warning(fit),
        ],
    }
    if "laws" in payload:  # a fit of before there were further laws answers as it did
        document |= _further(document, laws or {}, payload.get("missing", {}), target, recipe)
    answer: Answer = with_id(document)
    return answer


def _further(
    document: Mapping[str, Any], laws: Mapping[str, Fit], missing: Mapping[str, Found], target: Target, recipe: Recipe
) -> dict[str, Any]:
    """What further laws add at the setting that is recommended: parts of the answer, and warnings."""
    setting = Setting(**{name: document["recommendation"][name]["value"] for name in ("lr", "batch_tokens")})
    parts = further_answers(laws, missing, target, recipe_key=recipe.key, setting=setting)
    kind = recipe.extra.get("weight_decay_kind", "")
    notes = level_notes(document["settings"], parts["weight_decay"], kind)
    return {**parts, "warnings": [*document["warnings"], *notes]}


def _model(fit: Fit) -> Mapping[str, Any]:
    """What the worlds of an answer are drawn from."""
    model: Mapping[str, Any] = fit.payload.get("model", {})  # of the first versions there is none
    if model.get("version") != MODEL_VERSION:
        made = {"fit_id": fit.id, "code_version": fit.code_version, "recipe": fit.recipe_name}
        raise NoFit(finding("advice.other_version", **made))
    return model


@dataclass(frozen=True, kw_only=True)
class ChosenSetting:
    """The setting to use, and the worlds that it was chosen in."""

    worlds: Worlds  # moved to the batch
    log_lr: float
    log_batch: float
    imposed: bool  # the batch was given, or is the largest allowed
    rates: np.ndarray[Any, np.dtype[np.float64]]  # (worlds,) ln of what an interval of the learning rate is about
    form: dict[str, Any] | None  # which form the learning rate at an imposed batch comes from
    yours: tuple[float, float]  # share of what is known of learning rate and batch that the runs bring
    decades: Mapping[str, float]  # beyond the runs, by input
    notes: Sequence[Finding]  # on the batch

    @property
    def lr(self) -> float:
        return six_digits(math.exp(self.log_lr))

    @property
    def batch_tokens(self) -> float:
        """Tokens per step."""
        exact = math.exp(self.log_batch)
        return float(round(exact)) if exact >= 1 else exact


def chosen_setting(payload: Mapping[str, Any], target: Target, seq_len: int | None) -> ChosenSetting:
    """The setting of least expected cost at the target, as far as the batch is free.

    Raises
    ------
    ValueError
        The batch constraints contradict each other or the target.
    """
    check_batch(target, seq_len)
    worlds = draw_worlds(payload["model"], target.params, target.tokens)
    log_batch, imposed, notes = choose_batch(worlds, target, seq_len)
    # the estimand: the optimum itself where the batch is free, the best learning rate at the batch where it is imposed
    rates_there = lr_given_batch(worlds, log_batch)
    there = at_batch(worlds, log_batch)
    # never outside the interval that is printed beside it, however narrow a level was asked for
    tail = max((1 - target.level) / 2, PLAUSIBLE[0])
    return ChosenSetting(
        worlds=there,
        log_lr=float(np.clip(best_setting(there, log_batch)[0], *np.quantile(rates_there, [tail, 1 - tail]))),
        log_batch=log_batch,
        imposed=imposed,
        rates=rates_there if imposed else worlds.log_lr,
        form=_form_at_batch(payload, worlds, log_batch) if imposed else None,
        yours=shares_of_runs(worlds, log_batch if imposed else None),
        decades=_decades(payload["model"]["ranges"], target, math.exp(log_batch)),
        notes=notes,
    )


def _recommendation(
    chosen: ChosenSetting, payload: Mapping[str, Any], target: Target, seq_len: int | None
) -> dict[str, dict[str, Any]]:
    """Learning rate and batch, each with its interval, cheap zones, cost and standing."""
    worlds, decades, yours = chosen.worlds, chosen.decades, chosen.yours
    known, place = known_of(payload["model"], target.params, target.tokens)
    edge = _at_edge([payload["cells"][place]] if known == "scale" else payload["cells"])
    of_lr, of_batch = split_regret(worlds, chosen.log_lr, chosen.log_batch)
    of_scale = {name: beyond for name, beyond in decades.items() if name != "batch_tokens"}
    near = runs_near(payload["model"], target.params, target.tokens)
    lr_status = status_of(edge["lr"], yours[0], decades if chosen.imposed else of_scale, near=near)
    return {
        "lr": {
            "value": chosen.lr,
            **_interval(chosen.rates, target.level),
            "cheap_zone": {f"{c:g}": _zone(cheap_lr_zone(worlds, chosen.log_batch, c)) for c in CHEAP},
            "expected_regret": of_lr,
            "extrapolation_decades": decades,
            "status": "undetermined" if "lr" in payload.get("undetermined", {}) else lr_status,
            "yours": yours[0],
            "at_batch": chosen.form,
        },
        "batch_tokens": {
            "value": chosen.batch_tokens,
            **_interval(worlds.log_batch, target.level),
            "cheap_zone": {f"{c:g}": _zone(cheap_batch_zone(worlds, c)) for c in CHEAP},
            "expected_regret": of_batch,
            "extrapolation_decades": of_scale,
            "status": "given"
            if target.batch_tokens is not None
            else status_of(edge["batch"], yours[1], of_scale, near=near),
            "yours": yours[1],
            "sequences": None if seq_len is None else in_sequences(chosen.batch_tokens, seq_len),
            "imposed": chosen.imposed,  # interval and zones are those of the best batch all the same
        },
    }


def _regret(chosen: ChosenSetting, slope: float | None) -> dict[str, Any]:
    """What not knowing better costs on average; `slope` of log loss along log compute tells it in compute."""
    total = expected_regret(chosen.worlds, chosen.log_lr, chosen.log_batch)
    return {
        "loss_fraction": total,
        "cap_per_world": math.expm1(CAP),
        "extra_compute_fraction": extra_compute(total, slope),
    }


def extra_compute(regret: float, slope: float | None) -> float | None:
    """A share of the loss as the share of compute that it takes to win it; `slope` of log loss along log compute."""
    return None if not slope else math.expm1(min(regret / -slope, 50.0))


def _made(fit: Fit) -> dict[str, Any]:
    """Which fit it is, of which runs, by which code."""
    return {name: getattr(fit, name) for name in ("data_hash", "code_version", "created_at")} | {"fit_id": fit.id}


def _evidence(fit: Fit, yours: Sequence[float], *, batch_given: bool) -> dict[str, Any]:
    """What the answer rests on."""
    payload = fit.payload
    return {
        **_made(fit),
        "runs_used": payload["runs_used"],
        "runs_rejected": payload["runs_rejected"],
        "rejected": payload["rejected"],
        "diverged": payload["diverged"],
        "cells": len(payload["cells"]),
        "sizes": len(payload["model"]["sizes"]),
        "certificate": _certificate(fit),
        "borrowed": borrowed(payload, yours, batch_given=batch_given),
        "not_lent": list(payload.get("not_lent", [])),
    }


def recommend_without_settings(
    laws: Mapping[str, Fit],
    recipe: Recipe,
    target: Target,
    lacking: Found,
    *,
    missing: Mapping[str, Found],
    findings: Sequence[Mapping[str, Any]] = (),
) -> Answer:
    """The document where neither a learning rate nor a batch size may be given: loss and critical batch size alone.

    Parameters
    ----------
    laws : kind -> fit, the first of which is the one that was asked
    lacking : why there is no learning rate
    missing : kind -> what the data lack for a further law
    findings : what the runs lack for a learning rate, where a fit of it may not be used

    Raises
    ------
    NotEnoughData
        A further input of the loss is asked for that no law knows, or an input of the target is one that no run varies.
    """
    if "loss" not in laws and (third := Asked.of(target)) is not None:
        raise no_law_for(third, missing.get("loss", ""))
    fit = next(iter(laws.values()))
    able = [kind for kind in answering() if kind.id in laws and not kind.needs_setting]
    told = {kind.part: kind.answer(laws[kind.id], target, None) for kind in able}
    not_told = {
        kind.part: missing.get(kind.id) or (finding("advice.decay_goes_with") if kind.needs_setting else lacking)
        for kind in answering()
        if kind not in able
    }
    as_set = [finding("advice.rates_as_set")] if findings and "expected_loss" in told else []
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "id": "",
        "recipe": {"name": recipe.name, "key": recipe.key, **_recipe_fields(recipe)},
        "target": _asked(target, target.seq_len or recipe.seq_len),
        "recommendation": {"lr": None, "batch_tokens": None},
        "expected_regret": None,
        **dict.fromkeys(kind.part for kind in answering()),
        **told,
        "missing": {"lr": lacking, "batch_tokens": lacking, **not_told},
        "lacking": [dict(finding) for finding in findings],
        "published": [],
        "evidence": {
            **_made(fit),
            **dict.fromkeys(("runs_used", "runs_rejected"), 0),
            "rejected": [],
            **dict.fromkeys(("diverged", "cells"), 0),
            **{name: [] for name in ("borrowed", "not_lent")},
        },
        "backtest": [],
        "warnings": [finding("advice.no_settings", why=lacking), *as_set, *status_warning(fit)],
    }
    answer: Answer = with_id(document)
    return answer


def with_id(document: Mapping[str, Any]) -> Any:
    """The document as JSON has it, with a hash of the whole of it: the same fit asked the same by other code may answer
    otherwise, and is another prediction."""
    found = as_json(document)
    found["id"] = content_hash(found)
    return found


def _asked(target: Target, seq_len: int | None) -> dict[str, Any]:
    return {
        "params": target.params,
        "tokens": target.tokens,
        "batch_tokens": target.batch_tokens,
        "seq_len": seq_len,
        "batch_multiple": target.batch_multiple,
        "max_batch_tokens": target.max_batch_tokens,
        **target.given(),
    }


def _form_at_batch(payload: Mapping[str, Any], worlds: Worlds, log_batch: float) -> dict[str, Any]:
    """Which form the learning rate at an imposed batch comes from and why, and what each says."""
    chosen = payload.get("lr_at_batch")
    bends = worlds.bends
    return {
        "form": "surface" if bends is None else "average",
        "law": None if bends is None else bends.law,
        "law_share": bends_share(worlds, log_batch),
        "why": chosen["why"] if chosen else finding("advice.forms_not_compared"),
        "surface": six_digits(math.exp(floor_log_lr(worlds, log_batch))),
        "by_law": None if bends is None else six_digits(math.exp(bends.centre_log_lr(log_batch))),
    }


def _forms(form: Mapping[str, Any] | None) -> dict[str, float]:
    """What each form of the learning rate at an imposed batch says."""
    if not form or form["law"] is None:
        return {}
    return {"surface": form["surface"], form["law"]: form["by_law"]}


def _interval(logs: np.ndarray[Any, np.dtype[np.float64]], level: float) -> dict[str, float]:
    low, high = np.quantile(logs, [(1 - level) / 2, (1 + level) / 2])
    return {"low": six_digits(math.exp(low)), "high": six_digits(math.exp(high)), "level": level}


def _zone(logs: tuple[float, float]) -> list[float]:
    return [six_digits(math.exp(logs[0])), six_digits(math.exp(logs[1]))]


def _decades(ranges: Mapping[str, Sequence[float]], target: Target, batch_tokens: float) -> dict[str, float]:
    """How far each input lies beyond the runs, in powers of ten; 0 inside."""
    at = {"params": target.params, "tokens": target.tokens, "batch_tokens": batch_tokens}
    return {name: round(decades_beyond(value, *ranges[name]), 4) for name, value in at.items()}


def _at_edge(cells: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    """Whether most cells fail to bracket the optimum, for the learning rate and for the batch.

    A cell with too few settings to show one (a lone run) has no edge worth the name, unless all are like that.
    """
    swept = [cell for cell in cells if cell["optimum"]["status"] != "too_few"] or cells
    edges = [cell["optimum"]["edges"] for cell in swept]
    return {
        name: sum(any(e.startswith(name) for e in cell) for cell in edges) * 2 > len(swept) for name in ("lr", "batch")
    }


def _recipe_fields(recipe: Recipe) -> dict[str, Any]:
    names = (
        "optimizer",
        "schedule",
        "data",
        "tokenizer",
        "seq_len",
        "parametrization",
        "params_convention",
        "loss_kind",
        "loss_column",
    )
    return {**{name: getattr(recipe, name) for name in names}, "extra": dict(recipe.extra)}


def _published(payload: Mapping[str, Any], target: Target, batch_tokens: float) -> list[dict[str, Any]]:
    """Every published law that answers here, cheapest on these runs first."""
    rows = []
    for law in published_laws().values():
        if law.kind != "lr_batch":
            continue
        said = law.predict(target.params, target.tokens, batch_tokens if "batch_tokens" in law.inputs else None)
        lr = _finite(said.lr)
        batch = _finite(said.batch_tokens)
        if lr is None and batch is None:
            continue
        cost = payload["published"].get(law.label)
        rows.append(
            {
                "law": law.id,
                "label": law.label,
                "lr": lr,
                "batch_tokens": batch,
                "regret_on_your_runs": None if cost is None else cost["mean_regret"],
                "worst_regret_on_your_runs": None if cost is None else cost["worst_regret"],
                "cells_scored": 0 if cost is None else cost["cells_scored"],
                "in_range": law.in_range(target.params, target.tokens),
                "params_convention": law.params_convention,
                "verified": law.verified,
                "cite": law.cite,
            }
        )
    return sorted(rows, key=lambda row: (row["regret_on_your_runs"] is None, row["regret_on_your_runs"] or 0.0))


def _finite(value: Any) -> float | None:
    if value is None or not np.isfinite(value):
        return None
    return six_digits(float(value))


def _certificate(fit: Fit) -> dict[str, Any] | None:
    """The examination of the fit in short; None for one of before there was any."""
    found = fit.payload.get("certificate")
    if found is None:
        return None
    used = fit.status is not FitStatus.UNCERTIFIED
    reasons = [] if used else doubts(fit.payload)
    warnings = list(found["warnings"])  # a tuple until the fit was stored
    return {"certified": used, "words": found["words"], "reasons": reasons, "warnings": warnings}
