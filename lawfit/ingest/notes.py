"""What a reader of the report should know about the rows of a file, beside those that were refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from lawfit.factors import is_factor
from lawfit.findings import Found, finding
from lawfit.ingest.cell_texts import WORDS_OF
from lawfit.ingest.column_map import ColumnMap
from lawfit.ingest.lists import SEED_IN
from lawfit.ingest.numbers import is_missing, is_number, number
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.rows import Readings
from lawfit.ingest.stated import IN_NAMES, RATE_IN_NAMES
from lawfit.ingest.table import Table
from lawfit.ingest.view import View
from lawfit.packed import groups
from lawfit.records import Json, Rejection, RunColumns, Sweep
from lawfit.units import counted

RECIPE_TEXTS: Final = (
    "optimizer",
    "schedule",
    "data",
    "tokenizer",
    "parametrization",
    "params_convention",
    "loss_kind",
)
_STATED: Final = ("optimizer", "schedule", "data", "tokenizer", "parametrization", "params_convention")
_FINITE: Final = 1e300
RARELY_SAID: Final = ("n_params_kind", "weight_decay_kind")  # empty is the usual, not the unknown


def notes_on(readings: Readings, sweeps: Sequence[Sweep], columns: ColumnMap) -> list[str]:
    """Runs that diverged, units that disagree, recipes and what is not said of them, settings that vary."""
    notes: list[str] = []
    diverged = np.isnan(readings.loss)
    flagged = int(np.count_nonzero(readings.flagged))
    not_finite = int(np.count_nonzero(diverged)) - flagged
    if flagged or not_finite:
        ways = [f"{flagged} marked so in {_marks(columns)}"] if flagged else []
        raw = readings.extra[columns.loss_column]
        high = sum(_is_high(raw[at]) for at in np.flatnonzero(diverged & ~readings.flagged).tolist())
        ways += [f"{not_finite - high} with a loss that is not finite"] if not_finite > high else []
        ways += [f"{high} with a loss far higher than guessing costs"] if high else []
        notes.append(
            f"{counted(flagged + not_finite, 'run')} diverged ({', '.join(ways)}): counted as such; what "
            f"'{columns.loss_column}' says there is kept, but not used as a loss"
        )
    if len(disagree := np.flatnonzero(readings.steps_disagree)):
        first = int(disagree[0])
        steps, batch, tokens = readings.steps[first], readings.batch_tokens[first], readings.tokens[first]
        notes.append(
            f"in {counted(len(disagree), 'row')} steps x batch is not tokens within 5 % (line {readings.lines[first]}: "
            f"{steps} x {batch:g} = {steps * batch:.4g}, tokens {tokens:.4g}); is the unit of the batch right?"
        )
    if len(sweeps) > 1:
        notes.append(f"the file holds {len(sweeps)} recipes, which are kept apart: a fit is made for each")
    kinds = {s.recipe.extra["n_params_kind"] for s in sweeps if "n_params_kind" in s.recipe.extra}
    if kinds:
        notes.append(
            f"which parameters '{', '.join(sorted(kinds))}' counts is no convention that lawfit knows: taken as unknown"
        )
    silent = [f for f in (*RECIPE_TEXTS, "seq_len") if not any(getattr(s.recipe, f) for s in sweeps)]
    if sweeps and silent:
        notes.append(f"the file does not say: {', '.join(silent)} (allowed; but sweeps that differ there look alike)")
    varying = _varying(sweeps)
    if varying:
        notes.append(str(finding("ingest.varies_inside", names=varying)))
    return notes


def _is_high(raw: Json) -> bool:
    """Whether a run that counts as diverged has a finite loss, which says that it is no loss."""
    return is_number(raw) and abs(number(raw)) < _FINITE if isinstance(raw, (str, int, float)) else False


def reruns(keys: Sequence[str], readings: Readings) -> list[Found]:
    """Rows without an id of which all settings are those of another: they count as seeds of each other."""
    if all(readings.run_ids.levels):
        return []
    found: dict[tuple[object, ...], int] = {}
    for key, run_id, seed, facts in zip(keys, readings.run_ids, readings.seed, readings.facts, strict=True):
        if not run_id and seed is None:
            bare = re.sub(r"-[0-9]+$", "", key)
            found[bare, facts] = found.get((bare, facts), 0) + 1
    several = [count for count in found.values() if count > 1]
    return [finding("ingest.reruns", runs=sum(several), settings=len(several))] if several else []


def _marks(columns: ColumnMap) -> str:
    return " or ".join(f"'{columns.names[columns.places[f]]}'" for f in ("diverged", "status") if f in columns.places)


def _varying(sweeps: Sequence[Sweep]) -> list[str]:
    """Choices other than learning rate, batch and shape that are not the same in all runs of one scale."""
    varying: dict[str, None] = {}
    shape = re.compile(
        r"hidden_(size|dim)|d_model|d_ff|width|depth|n_?(layers?|heads?|embd|embed)|num_(layers|heads)|ffn_(size|dim)"
    )
    for sweep in sweeps:
        runs = sweep.runs
        assert isinstance(runs, RunColumns)
        named = {name: column for name, column in runs.extra.items() if is_factor(name) and not shape.fullmatch(name)}
        said = {
            name: column.spread([level is not None for level in column.levels], bool) for name, column in named.items()
        }
        first = {name: int(np.argmax(rows)) for name, rows in said.items() if rows.any()}  # in the order of the rows
        columns = {name: named[name].made(str) for name in sorted(first, key=first.__getitem__)}
        columns["weight_decay"] = runs.others["weight_decay"].made(str)
        levels = {name: groups([column], len(runs)) for name, column in columns.items()}
        columns = {name: column for name, column in columns.items() if levels[name][1] > 1}
        if not columns:
            continue
        scales, _ = groups([runs.numbers["params"], runs.numbers["tokens"]], len(runs))
        seen: dict[tuple[int, str], set[tuple[str, float]]] = {}
        kinds, _ = groups([scales, runs.numbers["lr"], *(levels[name][0] for name in columns)], len(runs))
        for at in np.sort(np.unique(kinds, return_index=True)[1]).tolist():
            for name, column in columns.items():
                seen.setdefault((scales[at], name), set()).add((column[at], runs.numbers["lr"][at]))
        varying.update({name: None for (_, name), values in seen.items() if _varies(values)})
    return list(varying)


def _varies(values: set[tuple[str, float]]) -> bool:
    """Whether a setting has several values at one scale, and does not just go with the rate, as its floor does."""
    levels, rates = ({each[at] for each in values} for at in (0, 1))
    return len(levels) > 1 and not len(levels) == len(rates) == len(values)


def partly_said(table: Table, columns: ColumnMap) -> list[Found]:
    """Columns of a recipe that are empty in some rows and say one thing in all others: those rows are kept apart."""
    found: list[Found] = []
    for name in _STATED:
        if name not in columns.places:
            continue
        place = columns.places[name]
        empty = sum(count for cell, count in table.levels(place).items() if is_missing(cell))
        levels = {str(cell).strip() for cell in table.levels(place) if not is_missing(cell)} if empty else set()
        if len(levels) == 1:
            column = table.columns[columns.places[name]]
            option = name.replace("_", "-")
            found.append(finding("ingest.partly_said", column=column, empty=empty, level=levels.pop(), option=option))
    return found


def unread(table: Table, columns: ColumnMap, options: IngestOptions) -> list[str]:
    """Every column that nothing was read from as the table was taken apart."""
    taken = {place for place in columns.places.values() if place < len(table.columns)}
    parts = {part for place in taken for part in table.columns[place].split(" x ")}  # of a batch that was multiplied
    parts |= {part.removeprefix(IN_NAMES).removeprefix(RATE_IN_NAMES).removeprefix(WORDS_OF) for part in parts}
    taken |= {place for place, name in enumerate(table.columns) if name in parts}
    names = [name for place, name in enumerate(table.columns) if place not in taken and name not in options.held]
    view = View(table)
    names = [name for name in names if not (options.pool and name.startswith(SEED_IN))]
    names = [name for name in names if name not in options.pool and not is_factor(name)]  # settings go with the run
    return [name for name in names if view.filled(table.columns.index(name))]


def on_unread(names: Sequence[str], rejections: Sequence[Rejection], options: IngestOptions) -> list[Found]:
    """Said of them once; one that rows were left out for was read."""
    heard = {rejection.column for rejection in rejections}
    kept = [name for name in names if name not in heard]
    found: list[Found] = [finding("ingest.unread", columns=kept)] if kept else []
    if options.pool:
        found.append(finding("ingest.pooled", columns=list(options.pool)))
    return found
