"""Runs that read their text more than once: their loss and best learning rate are not those of as many fresh tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from lawfit.factors import EPOCHS, UNIQUE, spellings
from lawfit.records import Run, SizedLoss
from lawfit.units import parse_quantity

REPEATED: Final = 1.05  # tokens per unique token, from which a run repeats
BLANK: Final = ("", "nan", "none", "null", "<na>")


def repeats(run: Run | SizedLoss) -> float | None:
    """Tokens per unique token, at least 1; None where the run does not say."""
    unique, epochs = number(run, UNIQUE), number(run, EPOCHS)
    if unique is not None and unique > 0:
        return max(run.tokens / unique, 1.0)
    return None if epochs is None or epochs <= 0 else max(epochs, 1.0)


def is_repeated(run: Run | SizedLoss) -> bool:
    return (repeats(run) or 1.0) >= REPEATED


def says_no_number(run: Run | SizedLoss) -> bool:
    """Whether a run fills a column of how often text is read with what is no positive number (a blank says nothing)."""
    said = [text for name, text in run.extra.items() if is_repetition(name)]
    return repeats(run) is None and any(str(text).strip().lower() not in BLANK for text in said)


def is_repetition(name: str) -> bool:
    """Whether a column says how often text is read."""
    return not _forms(name).isdisjoint((*UNIQUE, *EPOCHS))


@lru_cache(maxsize=4096)
def _forms(name: str) -> frozenset[str]:
    """A table of 100,000 runs has a few columns, which are asked of every run."""
    return frozenset(spellings(name))


def number(run: Run | SizedLoss, names: Sequence[str]) -> float | None:
    """Of the first further column with one of these names that holds one."""
    for key, text in run.extra.items():
        if not _forms(key).isdisjoint(names):
            try:
                value = parse_quantity(text) if isinstance(text, str) else float(text)
            except (TypeError, ValueError):
                continue
            if np.isfinite(value):
                return value
    return None
