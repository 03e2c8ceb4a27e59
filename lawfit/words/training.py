"""Where the numbers of a run's set-up come from, and which are missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lawfit.words import Sentence, named

WORDS: Final[Mapping[str, Sentence]] = {
    "whole_share": "no batch of a device was given: each takes its whole share, {sequences:count sequence}, at once",
    "no_weight_decay": named(
        "weight decay is left out: {why}", why=lambda data: "{why}" if data["why"] else "the runs do not say one"
    ),
    "held_weight_decay": "weight decay {weight_decay:.4g} is that of the runs: none is advised from them",
    "warmup_share": "the warmup is that of the runs, {share:share} of the steps",
    "warmup_steps": "the warmup is that of the runs, {steps:.0f} steps",
    "no_warmup": "the warmup is left out: the runs do not say one (give one as warmup)",
    "schedule_unknown": named(
        "the schedule is left out: {said}",
        said=lambda data: "the recipe says '{schedule}'" if data["schedule"] else "the recipe does not say one",
    ),
    "no_end": "the recipe says '{schedule}' and not where the rate ends, which is left out",
}
