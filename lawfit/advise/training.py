"""From a recommendation to how the run is set up: sequences, steps, passes of a device, the recipe's schedule.

Only what the answer or the runs say: what all runs of the recipe have in common is the recipe's, and the rest is null.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from lawfit.ask import SetUp, Target
from lawfit.documents import Answer, Training, TrainingSchedule, given, part_of
from lawfit.errors import Unanswerable
from lawfit.factors import WEIGHT_DECAY
from lawfit.findings import Found, as_json, finding
from lawfit.laws.timescale import DecayConvention
from lawfit.records import Run
from lawfit.units import format_percent

SCHEMA: Final = "lawfit.training/1"
# What runs may have in common, by the names that trainers give it; all lower case, as `extra` of a run has them.
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "beta1": ("beta1", "adam_beta1", "b1"),
    "beta2": ("beta2", "adam_beta2", "b2"),
    "epsilon": ("eps", "epsilon", "adam_eps", "adam_epsilon"),
    "max_grad_norm": ("max_grad_norm", "grad_clip", "clip_grad", "clip_grad_norm", "gradient_clip_val"),
    "warmup_steps": ("warmup_steps", "num_warmup_steps"),
    "warmup_share": ("warmup_fraction", "warmup_ratio"),
}
_SCHEDULE: Final = re.compile(r"(constant|linear|cosine|wsd)(?:(?: to |:floor=)([\d.]+)( ?%)?)?")


def in_common(runs: Sequence[Run]) -> dict[str, float]:
    """What all runs of a recipe state alike: betas, epsilon, clipping, warmup, weight decay."""
    used = [run for run in runs if run.excluded is None]
    found: dict[str, float] = {}
    for name, spellings in _NAMES.items():
        stated = {_number(next((run.extra[each] for each in spellings if each in run.extra), None)) for run in used}
        if len(stated) == 1 and (value := stated.pop()) is not None:
            found[name] = value
    decays = {run.weight_decay for run in used}
    kinds = {run.extra.get("weight_decay_kind") or DecayConvention.COUPLED.value for run in used}
    if len(decays) == 1 and kinds == {DecayConvention.COUPLED.value} and (decay := decays.pop()) is not None:
        found[WEIGHT_DECAY] = decay
    return found


def that_fits(target: Target, asked: SetUp) -> Target:
    """The target with a free batch held to what the devices take together, unless a multiple is asked for."""
    if target.batch_tokens is not None or target.batch_multiple is not None:
        return target
    return replace(target, batch_multiple=asked.world_size * (asked.per_device_batch or 1))


def training_of(
    answer: Answer, asked: SetUp, common: Mapping[str, float], answer_at: Callable[[float], Answer]
) -> Training:
    """How the run of an answer is set up.

    Parameters
    ----------
    common : of `in_common`
    answer_at : the answer at another batch, in tokens per step: what it costs is said where this one does not fit

    Raises
    ------
    Unanswerable
        The answer has no learning rate: why.
    ValueError
        The batch is no whole number of sequences, or of what the devices take together; with the nearest that is.
    """
    lr, batch = answer["recommendation"]["lr"], answer["recommendation"]["batch_tokens"]
    if lr is None or batch is None:
        raise Unanswerable(answer["missing"]["lr"], lacking=tuple(answer.get("lacking", ())))
    seq_len = answer["target"].get("seq_len")
    if seq_len is None:
        raise ValueError("seq_len is needed: training programs count batches in sequences, and the recipe does not say")
    sequences = _sequences(answer, asked, batch["value"], seq_len, answer_at)
    per_device = asked.per_device_batch or sequences // asked.world_size
    steps = max(1, round(answer["target"]["tokens"] / batch["value"]))
    regret = given(answer["expected_regret"])["loss_fraction"]
    notes: list[Found] = []
    if asked.per_device_batch is None:
        notes.append(finding("training.whole_share", sequences=per_device))
    document = {
        "schema": SCHEMA,
        "prediction_id": answer["id"],
        "recipe": answer["recipe"],
        "params": answer["target"]["params"],
        "tokens": answer["target"]["tokens"],
        "lr": lr,
        "batch_tokens": batch["value"],
        "seq_len": seq_len,
        "sequences": sequences,
        "steps": steps,
        "world_size": asked.world_size,
        "per_device_batch": per_device,
        "accumulation": sequences // (per_device * asked.world_size),
        "weight_decay": _weight_decay(answer, common, notes),
        "warmup_steps": _warmup(asked, common, steps, notes),
        "schedule": _schedule(answer["recipe"].get("schedule", ""), notes),
        **{name: common.get(name, _held(answer, name)) for name in ("beta1", "beta2", "epsilon", "max_grad_norm")},
        "expected_regret": regret,
        "notes": notes,
        "warnings": answer["warnings"],
    }
    found: Training = as_json(document)
    return found


def _sequences(
    answer: Answer, asked: SetUp, batch_tokens: float, seq_len: int, answer_at: Callable[[float], Answer]
) -> int:
    """The batch in sequences; a refusal where the devices cannot share it."""
    unit = asked.world_size * (asked.per_device_batch or 1)
    count = batch_tokens / (seq_len * unit)
    if abs(count - round(count)) < 1e-9 and count >= 1:
        return round(count) * unit

    def cost(batch: float) -> float:
        return given(given(answer_at(batch)["expected_regret"])["loss_fraction"])

    fits = {float(n * unit * seq_len) for n in (max(1, math.floor(count)), max(1, math.ceil(count)))}
    fits = {batch for batch in fits if batch <= answer["target"]["tokens"]}
    per_device = f"{asked.per_device_batch} sequences a device x " if asked.per_device_batch else ""
    problem = (
        f"the batch of {batch_tokens:,.0f} tokens is {batch_tokens / seq_len:,.6g} sequences of {seq_len:,}, which "
        f"{per_device}{asked.world_size} device{'s' * (asked.world_size > 1)} cannot share in whole passes"
    )
    if not fits:
        raise ValueError(f"{problem}, nor any other that the run has tokens for")
    best = min(fits, key=cost)
    here = given(answer["expected_regret"])["loss_fraction"]
    raise ValueError(
        f"{problem}; the nearest that fits is {best:,.0f} tokens ({best / seq_len:,.0f} sequences), expected to cost "
        f"{format_percent(cost(best))} of the loss where this one costs {format_percent(here)}: ask with batch_tokens "
        f"{best:.0f}"
    )


def _weight_decay(answer: Answer, common: Mapping[str, float], notes: list[Found]) -> float | None:
    """The advised one; else the one that all runs have, or that the answer holds."""
    if (part := part_of(answer, "weight_decay")) is not None:
        return float(part["value"])
    held = common.get(WEIGHT_DECAY, _held(answer, WEIGHT_DECAY))
    if held is None:
        notes.append(finding("training.no_weight_decay", why=answer.get("missing", {}).get(WEIGHT_DECAY, "")))
    else:
        notes.append(finding("training.held_weight_decay", weight_decay=held))
    return held


def _held(answer: Answer, name: str) -> float | None:
    """The level that the answer holds at of a setting that varies in the runs, or that its recipe states."""
    names, extra = _NAMES.get(name, (name,)), answer["recipe"].get("extra", {})
    if name == WEIGHT_DECAY and extra.get("weight_decay_kind") == DecayConvention.INDEPENDENT.value:
        return None  # in these settings it is multiplied by the learning rate
    levels = {each["name"]: each["level"] for each in answer.get("settings", [])}
    return _number(next(((levels | extra)[each] for each in names if each in levels | extra), None))


def _warmup(asked: SetUp, common: Mapping[str, float], steps: int, notes: list[Found]) -> int | None:
    """In steps: as asked for, else as in all runs."""
    if asked.warmup is not None:
        return round(asked.warmup * steps) if asked.warmup < 1 else round(asked.warmup)
    if (share := common.get("warmup_share")) is not None:
        notes.append(finding("training.warmup_share", share=share))
        return round(share * steps)
    if (count := common.get("warmup_steps")) is not None:
        notes.append(finding("training.warmup_steps", steps=count))
        return round(count)
    notes.append(finding("training.no_warmup"))
    return None


def _schedule(said: str, notes: list[Found]) -> TrainingSchedule:
    match = _SCHEDULE.fullmatch(said.strip().lower())
    if match is None:
        notes.append(finding("training.schedule_unknown", schedule=said))
        return {"said": said, "shape": None, "end": None}
    end = None if match[2] is None else float(match[2]) / (100 if match[3] else 1)
    if match[1] == "constant":
        end = 1.0
    if end is None:
        notes.append(finding("training.no_end", schedule=said))
    return {"said": said, "shape": match[1], "end": end}


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
