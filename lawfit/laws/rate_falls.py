"""Where the learning rate of a schedule falls, as far as its name says: never, at the end of a run, or throughout.

Names are those of logs: ``constant_with_warmup``, ``wsd to 0``, ``WSD (20 % cooldown)``, ``cosine to 1e-5``. While the
rate holds, a loss curve half-way is a shorter run; once it falls, the loss falls with it and no longer says how far
the run has come.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class Falls(StrEnum):
    """When the learning rate leaves its peak."""

    NEVER = "never"
    AT_END = "at the end"  # warmup, stable, decay: trapezoidal, with a cooldown
    THROUGHOUT = "throughout"
    UNSAID = "unsaid"  # no name, or one that says nothing


# A warmup rises, whatever its shape; "no decay" is none, and decays of other things are of no rate.
_ASIDE: Final = re.compile(
    r"(linear|cosine|exponential|polynomial)?[\s_-]*warm[\s_-]*up|(no|without)[\s_-]+(decay|cool\w*)"
    r"|(weight|ema|wd)[\s_-]*decay[\s_=:]*[\d.]*"
)
_COOLED: Final = re.compile(r"wsd|stable|trapez|cool[\s_-]*down|warm[\s_-]*down")
_HELD: Final = re.compile(r"const|fixed|flat|hold")
_FALLING: Final = re.compile(
    r"cos|linear|decay|anneal|sqrt|poly|expo|power|rex|uba|step|stage|piecewise|noam|cycle|restart|sgdr|refined|drop"
    r"|\bto\s*[\d.]"
)
_NAMES: Final = r"(?:cool[\s_-]*down|warm[\s_-]*down|decay|anneal\w*)"
_SHARES: Final = (
    re.compile(
        _NAMES + r"(?:[\s_]*(?:fraction|frac|share|over|in|the|last|final))*[\s=:(]*"
        r"(\d*\.?\d+)\s*(%|percent)?(?![\d.\s-]*sqrt)"
    ),
    re.compile(r"(?:last|final)\s+(\d*\.?\d+)\s*(%|percent)"),
    re.compile(r"(\d*\.?\d+)\s*(%|percent)\s*(?:\w[\w-]*\s+)?" + _NAMES),
)

_SEVERAL: Final = re.compile(r"wsd[\s_-]?s(?![a-z])")
_FIRST_END: Final = re.compile(r"ends=(\d*\.?\d+)")
_OF_EACH: Final = re.compile(r"cooldown=(\d*\.?\d+)")


def falls(schedule: str) -> Falls:
    """When the rate of a schedule falls; where its name leaves that open, the earlier of the possible times."""
    words = _ASIDE.sub(" ", schedule.lower())
    if _COOLED.search(words):
        return Falls.AT_END
    if _HELD.search(words):
        return Falls.AT_END if _FALLING.search(words) else Falls.NEVER
    return Falls.THROUGHOUT if _FALLING.search(words) else Falls.UNSAID


def holds_the_rate(schedule: str) -> bool:
    """Whether the learning rate stays at its peak for most of a run."""
    return falls(schedule) in (Falls.NEVER, Falls.AT_END)


def cooldown_share(schedule: str) -> float | None:
    """The last share of a run in which the rate falls, where the name of the schedule has it: ``wsd:cooldown=0.2``.

    Of several decays in one run (WSD-S) all that comes after the first one has begun: from there on no loss is that of
    a shorter run.
    """
    if _SEVERAL.search(schedule.lower()):
        return _before_the_first(schedule.lower())
    words, said = _ASIDE.sub(" ", schedule.lower()), set()
    for pattern in _SHARES:
        for number, percent in pattern.findall(words):
            share = float(number) / 100 if percent else float(number)
            if 0 < share < 1:
                said.add(share)
    return said.pop() if len(said) == 1 else None


def _before_the_first(words: str) -> float | None:
    """``wsd_s:ends=0.25/0.5/1,cooldown=0.1``: the first decay takes the last tenth of the first quarter."""
    end, share = _FIRST_END.search(words), _OF_EACH.search(words)
    if end is None or share is None:
        return None
    held = float(end[1]) * (1 - float(share[1]))
    return 1 - held if 0 < held < 1 else None
