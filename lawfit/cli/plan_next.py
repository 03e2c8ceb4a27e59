"""`lawfit plan next`: which small runs would settle the question at a target, for a budget."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lawfit.ask import Target
from lawfit.cli.options import DatabaseOption, JsonOption, RecipeOption, as_usage, open_store, quantity
from lawfit.cli.output import heading, note, pairs, plain, print_json, show, table, warning_list
from lawfit.documents.next_runs import ExpectedThere, NextRuns
from lawfit.errors import LawfitError
from lawfit.units import counted, format_flops, format_lr, format_percent, format_quantity, format_scale
from lawfit.words import told
from lawfit.words.plan_next import budget_words, scale_words

if TYPE_CHECKING:
    from rich.console import RenderableType


def plan_next(
    ctx: typer.Context,
    params: Annotated[
        float,
        typer.Option(parser=quantity, metavar="N", help="Parameters of the target, counted as in the recipe; 7B."),
    ],
    tokens: Annotated[float, typer.Option(parser=quantity, metavar="D", help="Training tokens of the target; 1.4T.")],
    budget: Annotated[
        str, typer.Option(metavar="AMOUNT", help="What the runs may cost: 1e19flops, 20gpu-hours, 64runs or $200.")
    ],
    flops_per_second: Annotated[
        float | None,
        typer.Option(parser=quantity, metavar="F", help="What one GPU sustains in training; 4e14.", show_default=False),
    ] = None,
    price: Annotated[
        float | None,
        typer.Option(parser=quantity, metavar="USD", help="Dollars for a GPU-hour.", show_default=False),
    ] = None,
    max_params: Annotated[
        float | None,
        typer.Option(
            parser=quantity,
            metavar="N",
            help="The largest size that can be trained; otherwise sixteen times the largest of the runs.",
            show_default=False,
        ),
    ] = None,
    level: Annotated[float, typer.Option(metavar="P", help="Probability that an interval holds the optimum.")] = 0.9,
    runs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the runs as a CSV, one row each.", show_default=False),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Plan from this stored fit instead of the newest one.", show_default=False),
    ] = None,
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

    with as_usage():
        means = pipeline.read_means(budget, flops_per_second, price)
        target = Target(params=params, tokens=tokens, level=level)
    store = open_store(ctx, database, dry_run=True)  # without a database a first sweep is planned, and none is made
    document = pipeline.plan_next(store, recipe, target, means, fit_id=fit, max_params=max_params)
    if runs is not None:
        note(f"runs: {_write(runs, document)}")
    if as_json:
        print_json(document)
    else:
        show(*_card(document))


def _write(path: Path, document: NextRuns) -> Path:
    from lawfit import pipeline

    rows, part = pipeline.run_rows(document), path.with_name(f".{path.name}.part")
    try:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        part.replace(path)
    except OSError as error:
        raise LawfitError(f"the runs cannot be written to {path}: {error.strerror or error}") from None
    return path


def _card(document: NextRuns) -> list[RenderableType]:
    document = told(document)
    target, budget = document["target"], document["budget"]
    spent = [counted(budget["runs"], "run"), f"{format_flops(budget['flops'])} FLOPs"]
    if budget["gpu_hours"] is not None:
        spent.append(f"{budget['gpu_hours']:.3g} GPU-hours")
    if budget["dollars"] is not None:
        spent.append(f"${budget['dollars']:,.2f}")
    rows = [
        ("Target", format_scale(target["params"], target["tokens"])),
        ("Budget", f"{budget_words(budget['amount'], budget['unit'])}; spent: {', '.join(spent)}"),
        ("Now", _expected(document["now"])),
        ("With these", f"{_expected(document['after'])} (expected)"),
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
    if document["warnings"]:
        parts += [plain(""), warning_list(document["warnings"])]
    return parts


def _expected(there: ExpectedThere) -> str:
    return (
        f"lr within x{there['lr_factor']:.2f}, batch within x{there['batch_factor']:.2f}, "
        f"expected regret {format_percent(there['expected_regret'])}"
    )
