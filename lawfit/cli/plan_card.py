"""The printed plan: from the JSON document of `lawfit plan` to something one can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lawfit.cli.output import format_count, heading, pairs, plain, table, warning_list
from lawfit.documents import Plan
from lawfit.plots.plan_routes import members_table, profiles_table, shares_words
from lawfit.plots.shown import Table
from lawfit.report.plan_tables import (
    alternatives_table,
    batches_table,
    budget_words,
    cost_words,
    fastest_words,
    frontier_table,
    scale_table,
    third_rows,
)
from lawfit.units import counted, format_lr
from lawfit.words import told
from lawfit.words.answers import batch_range, is_simulated, recipe_words
from lawfit.words.parts import part_labels, part_words

if TYPE_CHECKING:
    from rich.console import RenderableType


def plan_card(document: Plan) -> list[RenderableType]:
    """What `lawfit plan` shows: the plan, its settings, what else the budget buys, and what saving time costs."""
    document = told(document)
    recipe = document["recipe"]
    held = recipe_words(recipe)
    head = [("Budget" if i == 0 else "", words) for i, words in enumerate(budget_words(document))]
    head.append(("Recipe", recipe["name"] + (f" ({held})" if held else "")))
    parts: list[RenderableType] = []
    if is_simulated(recipe):
        parts += [heading("SIMULATED runs: the numbers show the path, not a measurement"), plain("")]
    parts += [pairs(head), plain(""), _scale(document), plain(""), pairs(_settings(document))]
    if document["warnings"]:
        parts += [plain(""), warning_list(document["warnings"])]
    parts += [plain(""), heading("The same budget on other sizes, and what each needs for the plan's loss")]
    parts += [_table(alternatives_table(document)), *_routes(document)]
    parts += [plain(""), *_time(document), plain(""), pairs(_evidence(document))]
    return parts


def _scale(document: Plan) -> RenderableType:
    found = scale_table(document)
    return table(found.columns, found.rows)


def _settings(document: Plan) -> list[tuple[str, str]]:
    said = document["settings"]
    lr, batch = said["recommendation"]["lr"], said["recommendation"]["batch_tokens"]
    rows = [("Expected cost", cost_words(document)), *third_rows(document)]
    if lr is not None:
        rows.append(
            ("Learning rate", f"{format_lr(lr['value'])} peak ({format_lr(lr['low'])} to {format_lr(lr['high'])})")
        )
    if batch is not None:
        sequences = f" = {batch['sequences']:,.0f} sequences" if batch.get("sequences") else ""
        steps = document["plan"]["steps"]
        ends = batch_range(batch, f"{format_count(batch['low'])} to {format_count(batch['high'])}")
        rows.append(("Batch size", f"{batch['value']:,.0f} tokens per step{sequences} ({ends}), so {steps:,.0f} steps"))
    return rows + [(label, words) for name, label in part_labels().items() if (words := part_words(said, name))]


def _routes(document: Plan) -> list[RenderableType]:
    if document["optimum"] is None:
        return []
    parts: list[RenderableType] = [
        plain(""),
        heading(f"The best size by each route; shares by {shares_words(document)}"),
        _table(members_table(document)),
    ]
    if document["isoflop"]:
        parts += [plain(""), heading("IsoFLOP profiles"), _table(profiles_table(document))]
        return [*parts, plain(wide)] if (wide := document["isoflop"]["wide"]) else parts
    return [*parts, plain(f"no route by IsoFLOP profiles: {document['missing']['isoflop']}")]


def _time(document: Plan) -> list[RenderableType]:
    time = document["time"]
    if time is None:
        return [pairs([("In less time", f"not from these runs: {document['missing']['time']}")])]
    parts: list[RenderableType] = [
        heading("The same loss in less time: a larger batch takes fewer steps and more tokens"),
        _table(batches_table(time)),
    ]
    if words := fastest_words(document):
        parts.append(plain(words))
    if time["frontier"]:
        parts += [
            plain(""),
            heading("Size and batch together: no other pair is better in both compute and serial time"),
            _table(frontier_table(time)),
            plain("serial time: as if every step took time in proportion to the size, however large its batch"),
        ]
    return parts


def _evidence(document: Plan) -> list[tuple[str, str]]:
    evidence = document["evidence"]
    rows = [("Rests on", f"a loss law through the best run of {counted(evidence['scales'], 'scale')}")]
    if document["optimum"] is not None:
        exponent = document["optimum"]["params_exponent"]
        ends = "" if exponent["low"] is None else f" ({exponent['low']:.2f} to {exponent['high']:.2f})"
        rows.append(("", f"best parameters grow here as compute^{exponent['value']:.2f}{ends}"))
    rows += [("", words) for words in evidence["notes"]]
    rows.append(("Fit", f"{evidence['loss_fit_id']} (loss), {evidence['prediction_fit_id']} (learning rate and batch)"))
    rows.append(("Settings", f"in full: lawfit predictions show {document['settings']['prediction_id']}"))
    return rows


def _table(found: Table) -> RenderableType:
    return table(found.columns, found.rows, right=found.numbers)
