"""A study in rounds: what a round may spend of a budget, and when a target is known well enough."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

ROUNDS: Final = 4  # at most, where nobody says it
_REGRET: Final = re.compile(r"regret\s*=\s*(?P<number>\d*\.?\d+(?:e-?\d+)?)\s*(?P<percent>%?)", re.IGNORECASE)
_LR: Final = re.compile(r"lr\s*=\s*x?(?P<number>\d*\.?\d+)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Until:
    """When to stop before the budget is spent."""

    regret: float | None = None  # expected share of the loss given up by the advised setting
    lr_factor: float | None = None  # the interval of the learning rate is its value over and times this

    def reached(self, answer: Mapping[str, Any]) -> bool:
        """Whether an answer (`expected_regret`, `lr_factor`) is that good."""
        if self.regret is not None:
            return bool(answer["expected_regret"] <= self.regret)
        return self.lr_factor is not None and bool(answer["lr_factor"] <= self.lr_factor)


def read_until(text: str | None) -> Until:
    """``regret=0.1%``, ``regret=0.001`` or ``lr=x1.3``; nothing is never reached.

    Raises
    ------
    ValueError
        It is none of these: what to write.
    """
    if text is None:
        return Until()
    if found := _REGRET.fullmatch(text.strip()):
        share = float(found["number"]) / (100 if found["percent"] else 1)
        if 0 < share < 1:
            return Until(regret=share)
    elif (found := _LR.fullmatch(text.strip())) and float(found["number"]) > 1:
        return Until(lr_factor=float(found["number"]))
    raise ValueError(f"until '{text[:60]}' is no end: write regret=0.1% or lr=x1.3")


def shares(left: float, rounds_left: int) -> Iterator[float]:
    """What the next round may spend: first its even part of what is left, then, where that buys nothing, all of it.

    Even parts: before the first round published laws alone are known, and little should hang on them; the last parts
    are spent by who knows most. What a round leaves, as grids are whole, is spread over those after it.

    Parameters
    ----------
    left : of the budget
    rounds_left : with this one
    """
    yield left / rounds_left
    if rounds_left > 1:
        yield left
