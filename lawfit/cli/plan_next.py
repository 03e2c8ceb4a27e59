"""`lawfit plan next`: which small runs would settle the question at a target, for a budget."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from lawfit.ask import NextQuestion
from lawfit.cli.gathered import Options, gathers
from lawfit.cli.options import (
    DatabaseOption,
    JsonOption,
    PlanFitOption,
    RecipeOption,
    ReportOption,
    as_usage,
    asks,
    open_store,
)
from lawfit.cli.output import heading, note, pairs, plain, print_json, progress, show, table, warning_list
from lawfit.documents.next_runs import NextRuns
from lawfit.errors import LawfitError, NotEnoughData
from lawfit.findings import found_of
from lawfit.units import format_lr, format_quantity, format_scale
from lawfit.words import told
from lawfit.words.plan_next import budget_words, expected_words, scale_words, spent_words

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, kw_only=True)
class Besides(Options):
    """What is written and played besides the plan."""

    grid: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the grid file that lawfit launch takes.", show_default=False),
    ] = None
    runs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the runs as a CSV, one row each.", show_default=False),
    ] = None
    rehearse: Annotated[
        bool,
        typer.Option(
            "--rehearse",
            help="Also play the plan in 100 worlds drawn from what is known, each run's loss made: what it would bring "
            "there, beside what it promises.",
        ),
    ] = False
    rehearse_fits: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="K",
            help="The same in K worlds, with all runs fitted anew in each: nearer to the truth, and seconds a world.",
            show_default=False,
        ),
    ] = None
    report: ReportOption = None


@asks(NextQuestion)
@gathers
def plan_next(
    ctx: typer.Context,
    asked: NextQuestion,
    besides: Besides,
    fit: PlanFitOption = None,
    recipe: RecipeOption = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Which small runs would tell most about a target, for a budget, and what they are expected to bring.

    From the newest usable fit; without one, the first sweep by what published laws say. Each grid is chosen to cut the
    expected regret at the target most for what it costs, as if those before it had been made. Exit code 4: the budget
    buys no grid that helps, or nothing is left to learn.

    Example: lawfit plan next --params 1B --tokens 20B --budget 1e19flops
    """
    from lawfit import pipeline

    store = open_store(ctx, database, dry_run=True)  # without a database a first sweep is planned, and none is made
    with as_usage():
        document = pipeline.plan_next(store, recipe, asked, fit_id=fit)
    if besides.grid is not None and document["grid_file"] is None:
        raise NotEnoughData(found_of(document["missing"]["grid_file"]))
    if besides.runs is not None:
        note(f"runs: {_write(besides.runs, _table(pipeline.run_rows(document)))}")
    if besides.grid is not None:
        written = _write(besides.grid, json.dumps(document["grid_file"], indent=1))
        note(f"grid: {written}; next: lawfit launch {quote(str(besides.grid))}{_beside(document)}")
    worlds = besides.rehearse_fits
    if besides.rehearse or worlds is not None:
        with progress("rehearsing", quiet=as_json) as advance:
            document["rehearsal"] = pipeline.rehearse(
                store, document, worlds=worlds, refit=worlds is not None, progress=advance
            )
    if besides.report is not None:
        from lawfit.report.page import write_next_report

        note(f"report: {write_next_report(besides.report, document)}")
    if as_json:
        print_json(document)
    else:
        show(*_card(document))


def _table(rows: Sequence[Mapping[str, float]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _beside(document: NextRuns) -> str:
    """As many packs at a time as the GPU-hours of a plan are counted by."""
    pace = document["budget"]["pace"]
    workers = 1 if pace is None else round(pace["at_a_time"])
    return f" --workers-per-gpu {workers}" if workers > 1 else ""


def _write(path: Path, content: str) -> Path:
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(content, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise LawfitError(f"the plan cannot be written to {path}: {error.strerror or error}") from None
    return path


def _card(document: NextRuns) -> list[RenderableType]:
    document = told(document)
    target, budget = document["target"], document["budget"]
    rows = [
        ("Target", format_scale(target["params"], target["tokens"])),
        ("Budget", f"{budget_words(budget['amount'], budget['unit'])}; spent: {spent_words(document)}"),
        *([("Under way", f"{len(document['under_way'])} runs, which count as made")] if document["under_way"] else []),
        ("Now", expected_words(document["now"])),
        ("With these", f"{expected_words(document['after'])} (expected)"),
        *([("Kept as", document["id"])] if document["kept"] else []),
    ]
    grids = [
        [
            scale_words(grid["params"], grid["tokens"]),
            " ".join(format_lr(lr) for lr in grid["lr"]),
            " ".join(format_quantity(batch) for batch in grid["batch_tokens"]),
            str(len(grid["seeds"])),
            str(grid["runs"]),
            f"{100 * grid['after']['expected_regret']:.3f} %",
            grid["why"],
        ]
        for grid in document["grids"]
    ]
    parts: list[RenderableType] = [pairs(rows), plain(""), heading("The runs, in the order in which to make them")]
    parts.append(table(["size, tokens", "lr", "batch (tokens)", "seeds", "runs", "regret after", "why"], grids))
    if (decay := document.get("weight_decay")) is not None:
        words = decay["words"]
        parts += [plain(""), heading("Weight decay"), plain(f"{words[:1].upper()}{words[1:]}.")]
    if (rehearsal := document.get("rehearsal")) is not None:
        words = rehearsal["words"]
        parts += [plain(""), heading("Rehearsed"), plain(f"{words[:1].upper()}{words[1:]}.")]
    if document["warnings"]:
        parts += [plain(""), warning_list(document["warnings"])]
    return parts
