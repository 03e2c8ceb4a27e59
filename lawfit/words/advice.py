"""Sentences of answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lawfit.words import Sentence

WORDS: Final[Mapping[str, Sentence]] = {
    "nearer_size": "a size nearer to the target shows how far sizes lie off the law",
    "nearer_horizon": "a horizon nearer to the target shows whether the law bends",
    "open_exponent": "it would tell an exponent that is open",
}
