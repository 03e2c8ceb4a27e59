"""`lawfit schedules`: from loss curves under a few learning-rate schedules, the loss that others would end at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lawfit.cli.main import ExitCode
from lawfit.cli.options import JsonOption
from lawfit.cli.output import heading, note, pairs, plain, print_json, progress, show, table, warning_list
from lawfit.records import ScheduleQuestion
from lawfit.units import format_lr, format_percent

if TYPE_CHECKING:
    from rich.console import RenderableType

LAWS = {"multi_power": "Multi-Power Law (arXiv 2503.12811)", "annealing": "annealing law (arXiv 2408.11029)"}
_REJECTIONS_SHOWN = 5


def schedules(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Loss curves: a row per logged step with run_id, step, learning_rate and loss (CSV, TSV, JSON lines, "
            "Parquet).",
        ),
    ],
    runs: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            help="The curves that belong together (one model, batch and data), such as '100M/*'.",
        ),
    ] = "*",
    schedule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHAPE",
            help="A schedule to tell: constant, cosine:floor=0.1, linear, wsd:cooldown=0.2,fall=1-sqrt, ...; "
            "repeatable. [default: the usual ones]",
            show_default=False,
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(min=1e-12, help="Peak. [default: the curves' own]", show_default=False)
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=2, help="Length of the run. [default: the longest curve's]", show_default=False),
    ] = None,
    warmup_steps: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Length of the warmup where the log begins after it; else it is read off the learning rates.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say at which loss other learning-rate schedules would end, from loss curves of a few.

    Fits the Multi-Power Law and the annealing law to all curves, leaves each curve out once, and answers by the law
    that tells those better; the interval is made of its misses there. No database is needed and nothing is stored.
    Exit code 3: some rows were rejected; 4: too few curves.
    """
    from lawfit import pipeline

    question = ScheduleQuestion(
        runs=runs, schedules=tuple(schedule or ()), lr=lr, steps=steps, warmup_steps=warmup_steps
    )
    try:
        with progress("fitting curves", quiet=as_json) as advance:
            document = pipeline.study_schedules(file, question, progress=advance)
    except ValueError as error:  # a schedule that does not exist, a run shorter than its warmup
        raise typer.BadParameter(str(error)) from None
    if as_json:
        print_json(document)
    else:
        show(*_answer(document))
    rejected = document["rejected"]
    assert isinstance(rejected, list)
    if rejected:
        if not as_json:
            for row in rejected[:_REJECTIONS_SHOWN]:
                column = "" if row["column"] is None else f", {row['column']}"
                note(f"rejected: line {row['line']}{column}: {row['reason']}")
            if len(rejected) > _REJECTIONS_SHOWN:
                note(f"and {len(rejected) - _REJECTIONS_SHOWN:,} more rows; --json lists them all")
        raise typer.Exit(int(ExitCode.REJECTED))


def _answer(document: Mapping[str, Any]) -> list[RenderableType]:
    law, other = document["law"], next((name for name in LAWS if name != document["law"]), "")
    scored = document["left_out"]
    head = [("Law", LAWS[law])]
    if scored.get(law) is not None:
        against = f"; the {LAWS[other].split(' (')[0]} {format_percent(scored[other])}" if scored.get(other) else ""
        head.append(("Left out", f"misses a curve it did not see by {format_percent(scored[law])} on average{against}"))
    head.append(
        ("Fitted", f"{len(document['curves'])} curves, {format_percent(document['mean_error'])} off on average")
    )
    curves = [
        (
            row["run"],
            f"{row['steps']:,}",
            f"{format_lr(row['peak_lr'])} to {format_lr(row['final_lr'])}",
            f"{row['final_loss']:.4f}",
            "" if row["left_out_error"] is None else format_percent(row["left_out_error"]),
        )
        for row in document["curves"]
    ]
    told = [
        (
            row["schedule"],
            f"{row['loss']:.4f}",
            "" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}",
            f"{row['by_law'][other]:.4f}" if other in row["by_law"] else "",
        )
        for row in document["schedules"]
    ]
    level = f"{100 * document['level']:g} % interval"
    parts: list[RenderableType] = [
        pairs(head),
        plain(""),
        heading(f"Loss at the end of {document['steps']:,} steps with a peak of {format_lr(document['lr'])}"),
        table(("schedule", "loss", level, "by the other law"), told, right=("loss", level, "by the other law")),
        plain(""),
        heading("The curves, and how far each is missed by the law that did not see it"),
        table(
            ("run", "steps", "learning rate", "final loss", "missed by"),
            curves,
            right=("steps", "final loss", "missed by"),
        ),
    ]
    if notes := [*document["notes"], *(f"not used: {words}" for words in document["left"])]:
        parts += [plain(""), warning_list(notes)]
    return parts
