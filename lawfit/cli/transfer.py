"""`lawfit transfer`: does the best learning rate stay where it is as models get wider, or runs longer?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lawfit.cli.options import DatabaseOption, JsonOption, ReportOption, open_store
from lawfit.cli.output import heading, note, pairs, plain, print_json, progress, show, table
from lawfit.plots.transfer import answers_of, sweeps_shown, sweeps_title
from lawfit.units import format_lr, format_quantity
from lawfit.words import told
from lawfit.words.answers import OPTIMUM_WORDS

if TYPE_CHECKING:
    from rich.console import RenderableType


def transfer(
    ctx: typer.Context,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe",
            metavar="NAME",
            help="A recipe, by name or key; repeatable. Left out: every recipe of the database that has an answer.",
            show_default=False,
        ),
    ] = None,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Level of the intervals.")] = 0.9,
    report: ReportOption = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Say how the best learning rate moves with width and with horizon: flat within noise, or as which power.

    Takes sweeps of the learning rate at three or more widths (a column width, hidden_size or d_model; else parameter
    counts), all at once and with nothing borrowed from published laws. Recipes that differ in their parametrization
    alone (muP against standard) are compared. Nothing is stored. Exit code 4: no recipe has such sweeps.
    """
    from lawfit import pipeline

    store = open_store(ctx, database)
    with progress("fitting sweeps", quiet=as_json):
        document = pipeline.transfer(store, recipe or (), level=level)
    if report is not None:
        from lawfit.report.page import write_transfer_report

        note(f"report: {write_transfer_report(report, document)}")
    if as_json:
        print_json(document)
    else:
        show(*_answer(told(document)))


def _answer(document: Mapping[str, Any]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for found in document["recipes"]:
        if parts:
            parts.append(plain(""))
        parts.append(_head(found))
        for axis in ("size", "tokens"):
            if axis in found["axes"] and len(sweeps_shown(found, axis)) > 1:
                parts += [plain(""), heading(sweeps_title(found, axis)), _sweeps(found, axis)]
    if document["comparisons"]:
        parts += [plain(""), heading("Parametrizations compared, all else being equal")]
        parts += [plain(row["words"]) for row in document["comparisons"]]
    if document["without"]:
        parts += [plain(""), heading("Recipes without an answer")]
        parts.append(table(("recipe", "what it would take"), list(document["without"].items())))
    return parts


def _head(found: Mapping[str, Any]) -> RenderableType:
    rows = [("Recipe", found["recipe"] + (f" ({found['parametrization']})" if found["parametrization"] else ""))]
    for label, words, cost in answers_of(found):
        rows += [(label, words), *([("", f"kept all along, {cost}")] if cost else [])]
    rows += [("Note" if at == 0 else "", words) for at, words in enumerate(found["notes"])]
    return pairs(rows)


def _sweeps(found: Mapping[str, Any], axis: str) -> RenderableType:
    rows: Sequence[Mapping[str, Any]] = sweeps_shown(found, axis)
    level = f"{100 * found['level']:g} % interval"
    name = found["size"] if axis == "size" else "tokens"
    written = [
        (
            f"{row[name]:g}" if name == "width" else format_quantity(row[name]),
            str(row["runs"]),
            format_lr(row["lr"]),
            f"{format_lr(row['low'])} to {format_lr(row['high'])}",
            format_lr(row["best_tried_lr"]),
            f"{row['lowest_loss']:.4f}",
            "" if row["status"] == "inside" else OPTIMUM_WORDS.get(row["status"], row["status"]),
        )
        for row in rows
    ]
    columns = (name, "lrs", "best lr", level, "best tried", "its loss", "")
    return table(columns, written, right=columns[:-1])
