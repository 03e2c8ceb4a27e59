"""What was found, as data: a code and the numbers that belong to it. Sentences are made where they are shown (`words`).

A code is ``room.what``, such as ``loss.few_scales``: the room names the module of `lawfit.words` that has its sentence.
Codes and names of numbers are the contract: programs and tests compare them, never the words. In JSON a finding is
``{"code": ..., "data": {...}}``. Fits and answers of before hold sentences in those places, which show as they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from typing import Any, Final

_KEYS: Final = {"code", "data"}


@dataclass(frozen=True)
class Finding:
    """One thing that was found. `data` holds JSON values, and findings that this one is about as JSON, too."""

    code: str
    data: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"code": self.code, "data": dict(self.data)}

    def __str__(self) -> str:
        told: str = import_module("lawfit.words").tell(self)  # in a traceback, say: by name, as words stand on findings
        return told

    def __hash__(self) -> int:
        return hash((self.code, json.dumps(self.data, sort_keys=True)))


Found = Finding | str  # a sentence: of a fit of before findings, or of an error of another library


def finding(code: str, /, **data: Any) -> Finding:
    """A finding; numpy numbers, enums, errors and findings among its data become JSON values."""
    return Finding(code, {name: as_json(value) for name, value in data.items()})


def joined(findings: Sequence[Found]) -> Found:
    """Several as one: their sentences after one another, with semicolons between."""
    return findings[0] if len(findings) == 1 else finding("general.several", findings=list(findings))


def found_of(value: Any) -> Found:
    """A finding from its JSON; a sentence of before stays."""
    return Finding(**value) if is_finding(value) else value


def is_finding(value: object) -> bool:
    """Whether a JSON value is a finding."""
    return isinstance(value, Mapping) and value.keys() == _KEYS


def code_of(found: Finding | Mapping[str, Any] | str) -> str:
    """The code of a finding or of its JSON; empty for a sentence."""
    if isinstance(found, Finding):
        return found.code
    return str(found["code"]) if isinstance(found, Mapping) else ""


_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


def as_json(value: Any) -> Any:
    """The same value as JSON has it: findings, errors, enums and numpy numbers wherever they stand in it."""
    if type(value) in _PLAIN:
        return value
    if type(value) is dict:  # nearly all that is not plain: told without asking for more
        return {str(key): inner if type(inner) in _PLAIN else as_json(inner) for key, inner in value.items()}
    if isinstance(value, Finding):
        return value.to_json()
    if isinstance(value, Exception):
        return as_json(getattr(value, "finding", str(value)))
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    return value.tolist() if hasattr(value, "tolist") else value


def finite(value: Any) -> Any:
    """The value as JSON has it, findings too, with null in place of what is not finite."""
    value = as_json(value)
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
