"""What a training program's settings are: a language, and lines made from the set-up of a run.

What the set-up does not know is left out, or a comment; the program's own default then holds, and the comment says it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from lawfit import __version__
from lawfit.documents import Training
from lawfit.units import counted, format_lr, format_percent, format_quantity, format_scale

Value = str | float | int | None

ADAM: Final = ("adam", "adamw")  # optimizers that these settings are of; a recipe may leave its own unsaid


@dataclass(frozen=True, kw_only=True)
class Program:
    """One training program."""

    name: str  # as it is asked for
    title: str
    language: str
    body: Callable[[Training], Iterator[str]]  # lines; of a set-up whose findings are told

    def lines(self, training: Training) -> Iterator[str]:
        """The whole text, line by line: what it rests on as comments, then the settings."""
        yield from (f"# {words}" for words in _head(training))
        yield ""
        yield from self.body(training)


def _head(training: Training) -> Iterator[str]:
    lr = training["lr"]
    yield (
        f"lawfit {__version__}: {format_scale(training['params'], training['tokens'])}, recipe "
        f"{_one_line(training['recipe']['name'])}, prediction {training['prediction_id']}"
    )
    yield (
        f"peak learning rate {format_lr(lr['value'])} ({100 * lr['level']:g} %: {format_lr(lr['low'])} to "
        f"{format_lr(lr['high'])}); not knowing better costs {format_percent(training['expected_regret'])} of the loss"
    )
    yield (
        f"batch {training['batch_tokens']:,.0f} tokens = {training['sequences']:,} sequences of "
        f"{training['seq_len']:,} = {training['per_device_batch']} a device x "
        f"{counted(training['accumulation'], 'pass', 'passes')} x {counted(training['world_size'], 'device')}"
    )
    yield (
        f"{training['steps']:,} steps of it are "
        f"{format_quantity(training['steps'] * training['batch_tokens'], 4)} tokens"
    )
    optimizer = training["recipe"].get("optimizer", "")
    if optimizer and optimizer.lower() not in ADAM:
        yield f"CAREFUL: the runs were trained with {_one_line(optimizer)}; these are settings of AdamW"
    yield from (_one_line(note) for note in training["notes"])
    yield from (f"doubt: {_one_line(warning)}" for warning in training["warnings"])


def _one_line(text: str) -> str:
    """What a comment can hold: names in somebody's data must not end it."""
    return "".join(c if c.isprintable() else " " for c in text)


def number(value: float) -> str:
    """As Python, TOML, YAML and shells all read it as a number: ``1.0e-05``, since YAML takes 1e-05 for a word."""
    if isinstance(value, int):
        return str(value)
    text = repr(float(f"{value:.6g}"))
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa if '.' in mantissa else f'{mantissa}.0'}e{exponent}" if e else text


def pairs(values: Mapping[str, Value], between: str) -> Iterator[str]:
    """``name = value`` of what is known."""
    for name, value in values.items():
        if value is not None:
            yield f"{name}{between}{value if isinstance(value, str) else number(value)}"


def floor(training: Training) -> float | None:
    """The learning rate that the schedule ends at; None where the recipe does not say."""
    end = training["schedule"]["end"]
    return None if end is None else end * training["lr"]["value"]


def not_here(training: Training, what: str) -> str:
    """A comment in place of a schedule that the program does not have."""
    return f"# the recipe's schedule ({_one_line(training['schedule']['said'])}) is not set here: {what}"
