"""Schedules as people write them: ``cosine:floor=0.1``, ``wsd_s:ends=0.25/0.5/1,cooldown=0.1,floor=0.1``.

One spelling for conversions, for what is told from loss curves, and for the trainer's packs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from lawfit.findings import Finding, finding
from lawfit.laws import schedules
from lawfit.laws.schedules import Fall, Floats, Shape

SHAPES: Final[Mapping[str, Callable[..., Floats]]] = MappingProxyType(
    {
        name: getattr(schedules, name)
        for name in ("cosine", "linear", "wsd", "wsd_s", "power", "rex", "uba", "constant", "table")
    }
)
# How well each formula was checked, as in data/laws.toml.
CHECKED: Final[Mapping[str, str]] = MappingProxyType(dict.fromkeys(SHAPES, "V1") | {
    "rex": "V2",
    "uba": "MEM",
    "wsd_s": "MEM",
})  # fmt: skip
# Progress through these counts from the first step: warmup is a part of it, not something that stands before.
FROM_FIRST_STEP: Final = ("power", "wsd_s", "table")
ENDS: Final = "/"  # between the shares in ends=0.25/0.5/1
MOST_CHARACTERS: Final = 200  # of a schedule: it becomes a word of command lines
_SAID: Final = re.compile(r"[a-z_]+(:[a-z_]+=[A-Za-z0-9.+/-]+(,[a-z_]+=[A-Za-z0-9.+/-]+)*)?")
_NUMBER: Final = re.compile(r"-?([0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)([eE][+-]?[0-9]+)?")


def named_shape(text: str, **more: float) -> Shape:
    """A shape from its name and its numbers.

    Parameters
    ----------
    more : numbers beside those in the text

    Raises
    ------
    ValueError
        No such shape, a number that it does not have, or one that it needs and that is not there.
    """
    name, words = split(text)
    function = SHAPES[name]
    given = {key: _read(key, value, text) for key, value in words.items()} | more
    if missing := [key for key, p in parameters(name).items() if p.default is p.empty and key not in given]:
        raise ValueError(f"{name} also needs {', '.join(missing)}: {name}:{missing[0]}={_EXAMPLES[missing[0]]}")
    if name == "table":
        return schedules.table(*_read_table(Path(words["file"])))
    shape = partial(function, **given)
    shape(0.5)  # numbers out of range speak up here
    return shape


def split(text: str) -> tuple[str, dict[str, str]]:
    """The name of a schedule, and its numbers as they were written.

    Raises
    ------
    ValueError
        It is not said as a schedule is, no such shape, or a number that it does not have or has twice.
    """
    name, _, words = text.partition(":")
    if name != "table" and (len(text) > MOST_CHARACTERS or not _SAID.fullmatch(text)):
        raise ValueError(
            f"{text[:_QUOTED]!r} is not how a schedule is said: a name, or a name and its numbers as in "
            f"rex:beta=0.9 or {_LONGEST}, without spaces, at most {MOST_CHARACTERS} characters"
        )
    if name not in SHAPES:
        raise ValueError(f"no schedule '{name}'; there are {', '.join(SHAPES)}")
    wanted = parameters(name)
    pieces = [words] if name == "table" else words.split(",")  # a file's name may hold commas
    given: dict[str, str] = {}
    for word in filter(None, pieces):
        key, _, value = word.partition("=")
        if key not in wanted:
            raise ValueError(f"{name} has no '{key}'; it takes {', '.join(wanted) or 'nothing'}")
        if key in given:
            raise ValueError(f"the schedule {text} says {key} twice")
        given[key] = value
    return name, given


def parameters(name: str) -> dict[str, inspect.Parameter]:
    """What a schedule may be given."""
    if name == "table":
        return {"file": inspect.Parameter("file", inspect.Parameter.KEYWORD_ONLY)}
    return {key: p for key, p in inspect.signature(SHAPES[name]).parameters.items() if key != "progress"}


def of_run(text: str, progress: ArrayLike, *, warmup: float) -> Floats:
    """The multiplier along a whole run, its warmup included: a linear rise to where the shape stands after it.

    Parameters
    ----------
    progress : shares of the run, from its first step
    warmup : share of the run in [0, 1)
    """
    shape = named_shape(text)
    if text.partition(":")[0] not in FROM_FIRST_STEP:
        return schedules.warmed_up(shape, progress, warmup=warmup)
    x = np.asarray(progress, dtype=float)
    return np.asarray(np.where(x < warmup, float(shape(warmup)) * x / (warmup or 1.0), shape(x)))


def unverified(*texts: str) -> list[Finding]:
    """A note on each schedule whose formula nobody read in a source."""
    names = dict.fromkeys(text.partition(":")[0] for text in texts)
    return [finding("rules.from_memory", schedule=name) for name in names if CHECKED[name] == "MEM"]


_EXAMPLES: Final = {
    "cooldown": "0.2", "phi": "0.5", "ends": "0.25/0.5/1", "floor": "0.1", "capped": "0.1", "file": "refined.csv",
}  # fmt: skip


_QUOTED: Final = 100  # characters of what is no schedule
_LONGEST: Final = "wsd_s:ends=0.25/0.5/1,cooldown=0.1"


def _read(key: str, value: str, text: str) -> Any:
    try:
        if key == "fall":
            return Fall(value)
        if key == "ends":
            return tuple(_number(part) for part in value.split(ENDS))
        return value if key == "file" else _number(value)
    except ValueError:
        kinds = {"fall": ", ".join(Fall), "ends": "shares of the run such as 0.25/0.5/1"}.get(
            key, "a number such as 0.1"
        )
        raise ValueError(f"'{key}={value}' in the schedule {text}: {key} is {kinds}") from None


def _number(text: str) -> float:
    """Of ASCII digits: `float` also takes 1_000, nan and the digits of other scripts."""
    if not _NUMBER.fullmatch(text):
        raise ValueError
    return float(text)


def _read_table(path: Path) -> tuple[Floats, Floats]:
    """(steps, multipliers) of a table with these two columns, as `lawfit schedules refine --out` writes it."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the schedule {path} cannot be read: {error}") from None
    if not lines or [cell.strip() for cell in lines[0].split(",")] != ["step", "multiplier"]:
        raise ValueError(f"the schedule {path} must begin with the line step,multiplier")
    try:
        rows = np.array([[float(cell) for cell in line.split(",")] for line in lines[1:] if line.strip()])
    except ValueError as error:
        raise ValueError(f"the schedule {path}: {error}") from None
    if rows.ndim != 2 or rows.shape[1:] != (2,):
        raise ValueError(f"the schedule {path} must hold two numbers a line, of two steps or more")
    return rows[:, 0], rows[:, 1]
