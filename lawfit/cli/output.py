"""How commands print: one JSON document, or tables that are rich on a terminal and plain aligned text in a pipe."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lawfit.units import format_percent, format_quantity
from lawfit.words import told
from lawfit.words.answers import BACKTEST_METHODS
from lawfit.words.glossary import terms_in

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from lawfit.records import Json

MAX_WIDTH = 104  # wider lines are harder to read, however wide the terminal
METHODS_SHOWN = 6  # of a backtest
OURS, PLAIN = BACKTEST_METHODS  # rows there
PIPE_WIDTH = 1000  # in a pipe nothing is wrapped

_printed_document = False  # by this command: --json promises exactly one


def begin() -> None:
    """Start a command: no document has been printed for it."""
    global _printed_document
    _printed_document = False


def print_json(document: Json) -> None:
    """Print the one JSON document of a `--json` run, findings as sentences.

    Raises
    ------
    ValueError
        The document holds NaN or infinity, which JSON does not have.
    """
    global _printed_document
    text = json.dumps(told(document), indent=2, ensure_ascii=False, allow_nan=False)
    _write(text.encode("utf-8", "backslashreplace").decode() + "\n")  # of a file's name that is no text: JSON's escape
    _printed_document = True


def print_error(
    kind: str,
    message: str,
    code: int,
    as_json: bool,
    hint: str | None = None,
    *,
    lacking: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Say what failed: to people on stderr, and under `--json` also as the document on stdout.

    `lacking` is what the runs lack for an answer, as data.
    """
    if as_json and not _printed_document:
        error = {"type": kind, "message": message, "exit_code": int(code)}
        more = {"hint": hint, "lacking": list(lacking)}
        print_json({"error": {**error, **{name: value for name, value in more.items() if value}}})
    sys.stderr.write(f"lawfit: {_printable(message)}\n" + (f"        {hint}\n" if hint else ""))


def is_terminal() -> bool:
    """Whether a person is looking at stdout."""
    return sys.stdout.isatty()


def explained(parts: Sequence[RenderableType]) -> list[RenderableType]:
    """The same, and what the words of the craft in it mean."""
    console = _console()
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    terms = terms_in(capture.get())
    return [*parts, plain(""), heading("What the words mean"), pairs(terms)] if terms else [*parts]


def show(*parts: RenderableType) -> None:
    """Print to stdout: as rich draws it on a terminal, as plain text without trailing blanks in a pipe."""
    from rich.text import Text

    console = _console()
    if is_terminal():
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, Text))  # a path that is broken in two cannot be copied
        return
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    _write("\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n")


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, for instance `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python reports it again at exit


def _console() -> Console:
    from rich.console import Console

    if is_terminal():
        console = Console(highlight=False)
        console.width = min(console.width, MAX_WIDTH)
        return console
    return Console(highlight=False, no_color=True, width=PIPE_WIDTH, force_terminal=False)


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    wrap: Mapping[str, int] = MappingProxyType({}),
) -> Table:
    """A table of texts; columns named in `right` are numbers and align right, those in `wrap` are at most so wide."""
    from rich.table import Table

    result = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim" if is_terminal() else "")
    for column in columns:
        number = column in right
        result.add_column(
            column,
            justify="right" if number else "left",
            overflow="fold",
            no_wrap=number,
            max_width=wrap.get(column),
        )
    for row in rows:
        result.add_row(*(plain(cell) for cell in row))
    return result


def heading(text: str) -> RenderableType:
    """The line above a table."""
    from rich.text import Text

    return Text(text, style="bold")


def pairs(rows: Sequence[tuple[str, str]]) -> Table:
    """Labels and what belongs to them, one per line."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(style="dim" if is_terminal() else "", no_wrap=True, min_width=11)
    grid.add_column(overflow="fold")
    for label, words in rows:
        grid.add_row(plain(label), plain(words))
    return grid


def warning_list(warnings: Sequence[str]) -> Table:
    """What makes the numbers worth doubting, a line each."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for warning in warnings:
        grid.add_row(Text("!", style="bold yellow"), plain(warning))
    return grid


def backtest_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """How the best methods did on scales they had not seen, the cheapest first; ours and the plain one always shown."""
    from rich.console import Group

    ordered = sorted(rows, key=lambda row: (row["mean_regret"] is None, row["mean_regret"], row["method"] != OURS))
    always = [row for row in ordered if row["method"] in (OURS, PLAIN)]
    others = [row for row in ordered if row not in always][: METHODS_SHOWN - len(always)]
    shown = [row for row in ordered if row in always or row in others]
    texts = [
        (str(row["method"]), format_percent(row["mean_regret"]), format_percent(row["worst_regret"]), str(row["cells"]))
        for row in shown
    ]
    columns = ("method", "mean cost", "worst cost", "scales")
    result = table(columns, texts, right=columns[1:])
    left = len(rows) - len(shown)
    return Group(result, plain(f"{left} more with --json")) if left > 0 else result


def plain(text: str) -> Any:
    """Text that rich prints as it is: what comes from files must not be read as markup."""
    from rich.text import Text

    return Text(_printable(text))


def _printable(text: str) -> str:
    # A name in somebody's file could otherwise move the cursor or rename the terminal.
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def note(text: str) -> None:
    """A sentence for people, on stderr, so that stdout stays what was asked for."""
    sys.stderr.write(text + "\n")


@contextlib.contextmanager
def progress(label: str, *, quiet: bool = False) -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr while a terminal watches; yields the callback that moves it: ``advance(step, share)``."""
    if quiet or not sys.stderr.isatty():
        yield lambda _step, _share: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=1.0)
        yield lambda step, share: bar.update(task, description=f"{label}: {step}", completed=share)


def format_count(value: float | None) -> str:
    """Parameters, tokens or a batch: ``4.9e6`` -> ``4.9M``; a dash where there is none."""
    return "-" if value is None else format_quantity(value)
