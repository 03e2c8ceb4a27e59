"""Questions of an ingest on a terminal, and the file that keeps the answers."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from lawfit.errors import Doubted
from lawfit.findings import Finding
from lawfit.words import PLACEHOLDERS, tell
from lawfit.words.ingest import flags

if TYPE_CHECKING:
    from lawfit.ingest.options import IngestOptions

Found = TypeVar("Found")


class Doubts:
    """Asks where somebody can answer, and writes the mapping file."""

    def __init__(self, mapping: Path | None, *, as_json: bool) -> None:
        self._mapping = mapping
        self._ask = not as_json and sys.stdin.isatty() and sys.stderr.isatty()
        self._options: IngestOptions | None = None
        self._open: list[Mapping[str, Any]] = []

    def settle(self, read: Callable[[IngestOptions], Found], options: IngestOptions) -> Found:
        """What reading gives, after the questions that it raises were answered.

        Raises
        ------
        Doubted
            Nobody is there to answer, or an answer was refused.
        """
        while True:
            self._options = options
            try:
                return read(options)
            except Doubted as doubted:
                answered = self._answered(doubted, options) if self._ask else None
                if answered is None or answered == options:
                    self._open += doubted.questions
                    raise
                options = answered

    def _answered(self, doubted: Doubted, options: IngestOptions) -> IngestOptions | None:
        """The options with an answer to each question; None where one was left open."""
        for question in doubted.questions:
            typer.echo(f"\n{tell(Finding(question['code'], question['data']))}", err=True)
            for number, choice in enumerate(question["choices"], start=1):
                safe = "  (safe)" if question["safe"] == number - 1 else ""
                typer.echo(f"  {number}. {flags(choice)}{safe}", err=True)
            text = typer.prompt("number, or --option VALUE", default=_default(question), err=True)
            try:
                for option, value in _given(text, question["choices"]):
                    options = options.answered(option, value)
            except ValueError as error:
                typer.echo(str(error), err=True)
                return None
        return options

    def write(self) -> None:
        """Keep answers and open questions in the mapping file, if one was named."""
        from lawfit.ingest.options import write_mapping

        if self._mapping is not None and self._options is not None:
            write_mapping(self._mapping, self._options, self._open)


def _given(text: str, choices: Sequence[Sequence[Mapping[str, str]]]) -> list[tuple[str, str]]:
    """The options that a number stands for, or that were typed.

    Raises
    ------
    ValueError
        Neither.
    """
    if text.strip().isdecimal() and 0 < int(text) <= len(choices):
        chosen = [(each["option"], each["value"]) for each in choices[int(text) - 1]]
        if not any(part in PLACEHOLDERS for _, value in chosen for part in value.split("=")):
            return chosen
        text = typer.prompt("with values in place of the capitals", err=True)
    words = shlex.split(text)
    if len(words) % 2 or not words:
        raise ValueError(f"'{text}' is neither the number of a choice nor --option VALUE")
    return [(option.removeprefix("--"), value) for option, value in zip(words[::2], words[1::2], strict=True)]


def _default(question: Mapping[str, Any]) -> str:
    return str(question["safe"] + 1) if question["safe"] is not None else ""
