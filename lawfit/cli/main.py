"""The entry point: runs one command and turns what happened into an exit code and one clear sentence.

Only the standard library is imported before `run` guards everything, so that an early Ctrl-C ends in a sentence too.
"""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Sequence
from enum import IntEnum
from typing import NoReturn


class ExitCode(IntEnum):
    """What the shell sees."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REJECTED = 3  # some input was rejected, the rest landed
    NOT_ENOUGH = 4  # not enough data for an answer
    UNFINISHED = 5  # the time was up before the work was done; the same command goes on
    INTERRUPTED = 130  # 128 + SIGINT


def main() -> NoReturn:
    """`lawfit`, as installed."""
    # Imports make a few 100,000 objects that stay: looking through them for garbage again and again would be a fifth of
    # a quick command. `options.open_at` turns the collector on when they are all there.
    gc.disable()
    code = run(sys.argv[1:])
    gc.freeze()
    sys.exit(code)


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit code; every failure is reported before this returns.

    Parameters
    ----------
    args : sequence of str
        The words after ``lawfit``.
    """
    options = args[: list(args).index("--")] if "--" in args else args
    as_json = "--json" in options
    try:
        from lawfit.cli import output
        from lawfit.cli.app import command

        output.begin()
        result = command()(list(args), prog_name="lawfit", standalone_mode=False)
        code = result if isinstance(result, int) else ExitCode.OK
        if code == ExitCode.INTERRUPTED:  # typer turns a Ctrl-C inside a command into this code
            _report_interrupt(as_json)
    except KeyboardInterrupt:
        _report_interrupt(as_json)
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the edge: whatever it was becomes a sentence and a code
        return _report(error, as_json)
    return code


def exit_code_of(error: Exception) -> ExitCode:
    """The one table from failures to exit codes."""
    import typer

    from lawfit.errors import LawfitError, NoFit, NoRuns, NotEnoughData

    if isinstance(error, typer.TyperException):
        return ExitCode.USAGE
    if isinstance(error, NotEnoughData | NoFit | NoRuns):
        return ExitCode.NOT_ENOUGH
    if isinstance(error, LawfitError) and isinstance(error, ValueError):  # a setting that no input could suit
        return ExitCode.USAGE
    return ExitCode.FAILED


def _report(error: Exception, as_json: bool) -> int:
    import typer

    from lawfit.cli.output import print_error
    from lawfit.errors import LawfitError

    code = exit_code_of(error)
    kind = type(error).__name__
    if isinstance(error, typer.TyperException):
        message, hint = _usage_message(error)
        if kind == "NoArgsIsHelpError":  # `lawfit` or `lawfit laws` alone: the message is the help
            sys.stderr.write(f"{message}\n")
        else:
            print_error(kind, message, code, as_json, hint)
    elif isinstance(error, LawfitError) and not os.environ.get("LAWFIT_DEBUG"):
        print_error(kind, str(error), code, as_json, lacking=getattr(error, "lacking", ()))
    elif os.environ.get("LAWFIT_DEBUG"):
        import traceback

        traceback.print_exception(error)
        print_error(kind, str(error), code, as_json)
    else:
        hint = "set LAWFIT_DEBUG=1 and run it again to see where; that output belongs in a bug report"
        print_error(kind, f"unexpected {kind}: {error}" if str(error) else f"unexpected {kind}", code, as_json, hint)
    return code


def _usage_message(error: Exception) -> tuple[str, str | None]:
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    if re.fullmatch(r"-[\d.]", getattr(error, "option_name", "")):  # the parser takes -0.1 for the option -0
        message = "a number that begins with - was taken for an option; sizes, rates and decays are above 0"
    context = getattr(error, "ctx", None)
    return message, f"see {context.command_path} --help" if context is not None else None


def _report_interrupt(as_json: bool) -> None:
    from lawfit.cli.output import print_error

    message = (
        "interrupted; each file and each fit is stored whole or not at all, so the command can simply be run again"
    )
    print_error("Interrupted", message, ExitCode.INTERRUPTED, as_json)
