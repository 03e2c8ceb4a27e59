"""Answers to the questions of an ingest in words, for a page where one is picked; `words.ingest.flags` has the flags.

What a person has to fill in stands in braces: ``sequences of {T} tokens``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from lawfit.words import PLACEHOLDERS

FILL_IN: Final[Mapping[str, str]] = {  # what is asked of whoever fills one in
    "T": "tokens per sequence",
    "COLUMN": "name of a column",
    "FIELD": "what it is: lr, loss, params, tokens, batch_tokens, ...",
    "VALUE": "a number",
    "RATE": "a number, for instance 1e-3",
    "FACTOR": "a number",
}
FIELD_WORDS: Final[Mapping[str, str]] = {
    "lr": "the learning rate",
    "loss": "the loss",
    "params": "the number of parameters",
    "tokens": "the training tokens",
    "batch_tokens": "the batch in tokens",
    "batch_sequences": "the batch in sequences",
    "micro_batch": "the batch of one device",
    "seq_len": "the tokens per sequence",
    "steps": "the steps",
    "weight_decay": "the weight decay",
    "extra": "none of what is needed",
}
_UNITS: Final[Mapping[str, str]] = {
    "K": "counts thousands",
    "M": "counts millions",
    "B": "counts billions",
    "T": "counts trillions",
    "1": "is as written",
    "log10": "is a power of ten",
    "ln": "is a natural logarithm",
}
_KINDS: Final[Mapping[str, str]] = {
    "runs": "a row is a run",
    "curves": "a row is a point of a loss curve",
    "targets": "a row says how many steps a run took to a loss",
    "losses": "a row is the loss of a size, without a learning rate",
}


def choice_words(choice: Sequence[Mapping[str, str]]) -> str:
    """All answers of one choice as one phrase."""
    return ", ".join(
        _WORDS.get(each["option"].replace("-", "_"), _plain)(each["option"], each["value"]) for each in choice
    )


def _blank(value: str) -> str:
    return f"{{{value}}}" if value in PLACEHOLDERS else value


def _pair(value: str) -> tuple[str, str]:
    """What stands on both sides of the last "="."""
    name, _, rest = value.rpartition("=")
    return _blank(name), rest


def _read_as(_: str, value: str) -> str:
    column, field = _pair(value)
    shown = column if column.startswith("{") else f"'{column}'"
    return f"{shown} is {FIELD_WORDS.get(field, _blank(field))}"


def _unit(_: str, value: str) -> str:
    column, unit = _pair(value)
    return f"'{column}' {_UNITS.get(unit) or f'is to be multiplied by {_blank(unit)}'}"


def _constant(_: str, value: str) -> str:
    field, rest = _pair(value)
    return f"{FIELD_WORDS.get(field, field)} is {_blank(rest)} in every run"


def _plain(option: str, value: str) -> str:
    return f"{option.replace('-', ' ').replace('_', ' ')}: {_blank(value)}"


_WORDS: Final[Mapping[str, Callable[[str, str], str]]] = {
    "map": _read_as,
    "unit": _unit,
    "set": _constant,
    "batch_unit": lambda _, value: f"the batch counts {value}",
    "seq_len": lambda _, value: f"of {_blank(value)} tokens each",
    "metric": lambda _, value: (
        f"the loss is in {value.replace('_', ' ')}" if value != "nats" else "the loss is in nats"
    ),
    "kind": lambda _, value: _KINDS.get(value, value),
    "size_from": lambda _, value: f"count the parameters from the shape, as in {value}",
    "split": lambda _, value: f"each level of '{value}' is a recipe of its own",
    "pool": lambda _, value: f"runs that differ in '{value}' are seeds of each other",
    "only": lambda _, value: f"only the rows where {value}",
}
