"""What the exact rules say: why a setting moves as it does, and what a definition means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lawfit.words import Sentence


def _for_the_lr(data: Mapping[str, Any]) -> str:
    return ", for the learning rate of this table" if data["convention"] == "coupled" else ""


def _timescale_stays(data: Mapping[str, Any]) -> str:
    per_step = "lr * weight_decay" if data["convention"] == "coupled" else "weight_decay"
    return f"timescale batch / ({per_step} * tokens) stays{_for_the_lr(data)}"


def _critical_batch(data: Mapping[str, Any]) -> str:
    percent, reference = f"{100 * data['fraction']:.4g} % more", data["reference_batch_tokens"]
    if reference:
        return f"{percent} steps than linear scaling from a batch of {reference:,.0f} tokens"
    return f"{percent} tokens than with a very small batch"


WORDS: Final[Mapping[str, Sentence]] = {
    "same_average": "decay^(batch ratio): the same averaging time in tokens",
    "same_memory": "1 - beta times the batch ratio: the same averaging time in tokens",
    "measured_horizon": "(tokens ratio)^-{exponent:.4g}: measured at equal batch, schedules that decay within the "
    "horizon",
    "given_horizon": "(tokens ratio)^-{exponent:.4g}: at equal batch, the exponent you gave",
    "timescale_moves": lambda data: f"timescale moves as (tokens / params)^{data['exponent']}{_for_the_lr(data)}",
    "timescale_stays": _timescale_stays,
    "timescale_kept": "with the AdamW timescale kept instead (arXiv:2405.13698), weight decay would be times "
    "{factor:.4g}; for language models that was measured to hold along the batch, not along the horizon",
    "large_models": "0.32 was measured at 760M parameters and more; smaller models lose more: give the size",
    "adam_batch": "(batch ratio)^0.5: Adam-type optimizers, while gradient noise dominates",
    "sgd_batch": "(batch ratio)^1: SGD, while gradient noise dominates",
    "given_batch": "(batch ratio)^{exponent:.4g}: the exponent you gave",
    "eps_as_noise": "(batch ratio)^-0.5: as the gradient's noise",
    "eps_stays": "stays: only the rules of the Adam SDE move it",
    "stays": "stays",
    "half_life": "beta2^(batch ratio): the half-life stays at {half_life_tokens:,.0f} tokens",
    "measured_slopes": "measured slopes run from 0.25 to 1, so the learning rate lies between times {low:.3g} and "
    "{high:.3g}; they flatten near the critical batch, where larger batches stop paying",
    "stretched_average": "the rule for the weight average is stretched: one step enters it {gap:.0%} off the steps it "
    "stands for",
    "short_half_life": "beta2's half-life is less than one step at this batch: Adam's second moment hardly remembers",
    "from_memory": "the formula of {schedule} is from memory, unverified",
    "critical_batch": _critical_batch,
    "too_small": "a critical batch of {batch_tokens:g} tokens cannot be {definition}: by that definition it is above "
    "{least_tokens:g} tokens; is the number in sequences?",
    "formula": "{formula} ({definition})",
}
