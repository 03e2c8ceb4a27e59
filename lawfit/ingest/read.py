"""A table of runs -> sweeps by recipe, with every rejected row and every guess written down."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from lawfit.errors import LogFormatError
from lawfit.factors import is_setting, same_level
from lawfit.findings import Found, finding
from lawfit.ingest.cells import made_plain
from lawfit.ingest.column_map import CONVENTION_BY_ROW, ColumnMap, Recognised
from lawfit.ingest.columns import recognise_all
from lawfit.ingest.doubts import doubts
from lawfit.ingest.formats import read_table
from lawfit.ingest.lists import SEVERAL
from lawfit.ingest.losses import as_losses, with_stand_ins
from lawfit.ingest.notes import RARELY_SAID, RECIPE_TEXTS, notes_on, on_unread, partly_said, reruns, unread
from lawfit.ingest.numbers import is_number
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.points import last_of_each
from lawfit.ingest.progress import UNFINISHED
from lawfit.ingest.questions import Question, doubted, with_safe_answers
from lawfit.ingest.rows import SPLIT, Readings, RowReader, place_said, rejection, unfinished
from lawfit.ingest.settings import setting_questions
from lawfit.ingest.shapes import shape
from lawfit.ingest.stated import place_of
from lawfit.ingest.table import Table
from lawfit.ingest.view import View
from lawfit.packed import Column, Places, groups, members, repeated
from lawfit.records import Curve, LossSweep, Recipe, Rejection, RunColumns, Sweep, content_hash, diverged


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """What a file holds, before any store has seen it."""

    file: str
    format: str
    rows: int
    sweeps: tuple[Sweep, ...]
    rejections: tuple[Rejection, ...]
    columns: Mapping[str, str]
    notes: tuple[str, ...]
    named: bool  # the recipe name was given by a person
    curves: tuple[Curve, ...] = ()
    losses: tuple[LossSweep, ...] = ()  # of a table that logged no learning rate

    @property
    def diverged(self) -> int:
        return sum(diverged(sweep.runs) for sweep in self.sweeps)


def read_file(path: str | Path, options: IngestOptions | None = None) -> Ingested:
    """Read and interpret a file.

    Raises
    ------
    LogFormatError
        The file as a whole cannot be taken. Rows that cannot be taken are in `rejections`.
    """
    options = options or IngestOptions()
    return interpret(read_table(path, options.format), options)


def interpret(table: Table, options: IngestOptions | None = None, *, whole_steps: bool = True) -> Ingested:
    """Interpret a table that was read, or made from a DataFrame (`Table.from_frame`).

    Parameters
    ----------
    whole_steps : a run has a whole number of steps; steps to a target, read between two evaluations, need not be

    Raises
    ------
    Doubted
        Something is open that a guess could get wrong: a field without a column, a unit, a setting that may be a seed.
    LogFormatError
        The table as a whole cannot be taken.
    """
    options, given = options or IngestOptions(), table
    if not table.rows and table.rejections:
        first = table.rejections[0]
        if first.file != table.name:
            raise LogFormatError(f"{table.name}: no run can be taken; {first.file}, line {first.line}: {first.reason}")
        raise LogFormatError(f"{table.name}: no row can be read; line {first.line}: {first.reason}")
    if (waiting := unfinished(table)) is not None:
        return _nothing_yet(table, waiting, options)
    table, shaped, asked = (table, [], []) if table.exact else shape(table, options)
    found, options, notes = _settled(table, options, asked, doubting=whole_steps and not table.exact)
    table, columns = found.table, found.columns
    plain, read_as = made_plain(table, columns)
    if columns.kind == "losses":
        plain, columns = with_stand_ins(plain, columns)
    of_columns, others = ([], []) if table.exact else (partly_said(table, columns), unread(table, columns, options))
    reader = RowReader(plain, columns, options, whole_steps=whole_steps)
    for each in (given, table, plain):
        each.forget()
    readings, refused = reader.read()
    rejections = [*table.rejections, *refused]
    named_by = table.columns[columns.places["run_id"]] if "run_id" in columns.places else ""
    readings, points = last_of_each(readings, named_by)
    readings, keys = _with_keys(readings, plain, columns, rejections)
    sweeps = _sweeps(keys, readings, plain, columns, options)
    rejections.sort(key=lambda rejection: (rejection.file, rejection.line or 0))
    said = [
        *table.notes,
        *shaped,
        *notes,
        *columns.notes,
        *read_as,
        *points,
        *notes_on(readings, sweeps, columns),
        *reruns(keys, readings),
        *of_columns,
        *([] if table.exact else on_unread(others, rejections, options)),
    ]
    if columns.kind == "losses":
        said.append(finding("ingest.losses_alone"))
    return Ingested(
        file=table.name,
        format=table.format,
        rows=len(table.rows) + len(table.rejections),
        sweeps=() if columns.kind == "losses" else sweeps,
        losses=as_losses(sweeps) if columns.kind == "losses" else (),
        rejections=tuple(rejections),
        columns=_shown(columns, sweeps),
        notes=tuple(str(note) for note in said),
        named=options.recipe is not None,
        curves=table.curves,
    )


def _settled(
    table: Table, options: IngestOptions, asked: Sequence[Question], *, doubting: bool
) -> tuple[Recognised, IngestOptions, list[Found]]:
    """The columns once nothing is open any more, the options with the safe answers, and of which rows alone they speak.

    Parameters
    ----------
    asked : what is open before any column is looked at

    Raises
    ------
    Doubted
        All that only a person can answer, at once.
    """
    while True:
        narrowed, notes = _only(table, options)  # the safe answer may be one level
        found = recognise_all(narrowed, options)
        unread = [column for column in found.table.columns if column != found.columns.loss_column]
        of_lists = [each for each in asked if each.found.code == SEVERAL and each.columns[0] in unread]
        questions = [each for each in (*asked, *found.questions) if each not in of_lists]
        if doubting:
            questions += doubts(View(found.table), found.columns, options)
            questions += _settings(found, options, questions)
        open_ones = [question for question in questions if not question.assumed]
        if not open_ones:
            return found, options, notes
        answered = with_safe_answers(options, open_ones) if options.yes else None
        if answered is None or answered == options:
            raise doubted(table.name, questions)
        options = answered


def _settings(found: Recognised, options: IngestOptions, asked: Sequence[Question]) -> list[Question]:
    """Asked of settings, but not of a column of which is asked whether it is one or says that runs stopped."""
    of_endings = {each.columns for each in asked if each.found.code == UNFINISHED}
    return [
        each for each in setting_questions(found.table, found.columns, options) if each.columns[:1] not in of_endings
    ]


def _nothing_yet(table: Table, waiting: Sequence[Rejection], options: IngestOptions) -> Ingested:
    """Of a table in which no run has ended: there is nothing to recognise columns by, and nothing to ask."""
    return Ingested(
        file=table.name,
        format=table.format,
        rows=len(table.rows) + len(table.rejections),
        sweeps=(),
        rejections=(*table.rejections, *waiting),
        columns={},
        notes=table.notes,
        named=options.recipe is not None,
    )


def _only(table: Table, options: IngestOptions) -> tuple[Table, list[Found]]:
    """The rows that a person asked for."""
    notes: list[Found] = []
    for column, level in options.only.items():
        place = place_of(table, column)
        cells = table.cells(place)
        rows = table.packed.take(
            np.flatnonzero(cells.spread([same_level(str(cell).strip(), level) for cell in cells.levels], bool))
        )
        if not rows:
            raise LogFormatError(finding("ingest.no_such_level", file=table.name, column=column, level=level))
        notes.append(finding("ingest.only", column=column, level=level, left_out=len(table.rows) - len(rows)))
        table = dataclasses.replace(table, rows=rows)
    return table, notes


def _with_keys(
    readings: Readings, table: Table, columns: ColumnMap, rejections: list[Rejection]
) -> tuple[Readings, Sequence[str]]:
    """Runs with their keys: the log's own id, or a hash of the settings with a number for each replicate."""
    ids, lines = readings.run_ids, readings.lines
    again = {at: before for at, before in repeated([readings.facts, ids], len(ids)).items() if ids[at]}
    for at, before in again.items():
        where = place_said(table, int(lines[before]))
        reason = f"run '{ids[at]}' stands in {where} already, with other values; ids must differ"
        rejections.append(rejection(table, int(lines[at]), table.columns[columns.places["run_id"]], reason))
    if again:
        readings = readings.take(np.delete(np.arange(len(ids)), list(again)))
        ids = readings.run_ids
    return readings, ids if all(ids.levels) else _hashed(readings)


def _hashed(readings: Readings) -> list[str]:
    """Keys of runs of which some have no id."""
    fields = ("params", "tokens", "batch_tokens", "lr", "weight_decay", "seed")
    settings = [name for name in readings.extra if is_setting(name)]
    columns = [getattr(readings, name) for name in fields]
    numbers = zip(*(column if isinstance(column, Column) else column.tolist() for column in columns), strict=True)
    said = zip(*(readings.extra[name] for name in settings), strict=True) if settings else repeat(())
    replicates: dict[tuple[Any, str], int] = {}
    keys: list[str] = []
    for run_id, facts, own, levels in zip(readings.run_ids, readings.facts, numbers, said, strict=False):
        if run_id:
            keys.append(run_id)
            continue
        stated = {name: str(level) for name, level in zip(settings, levels, strict=True) if level is not None}
        key = content_hash({**dict(zip(fields, own, strict=True)), "settings": stated})
        count = replicates[facts, key] = replicates.get((facts, key), 0) + 1
        keys.append(key if count == 1 else f"{key}-{count}")
    return keys


def _sweeps(
    keys: Sequence[str], readings: Readings, table: Table, columns: ColumnMap, options: IngestOptions
) -> tuple[Sweep, ...]:
    groups_of = members(groups([readings.facts], len(keys))[0]) if len(keys) else []
    facts = [readings.facts[rows[0]] for rows in groups_of]
    base = options.recipe.strip() if options.recipe else slug(_stem(table.name))
    names = _names(base, facts)
    return tuple(
        Sweep(
            recipe=_recipe(name, dict(own), columns, options),
            runs=_runs(*((keys, readings) if len(rows) == len(keys) else _some(keys, readings, rows)), table),
            exact=table.exact,
        )
        for name, own, rows in zip(names, facts, groups_of, strict=True)
    )


def _some(keys: Sequence[str], readings: Readings, rows: Places) -> tuple[Sequence[str], Readings]:
    return [keys[at] for at in rows.tolist()], readings.take(rows)


def _runs(keys: Sequence[str], readings: Readings, table: Table) -> RunColumns:
    return RunColumns(
        run_keys=keys,
        numbers={name: getattr(readings, name) for name in ("params", "tokens", "batch_tokens", "lr", "loss")},
        others={
            "weight_decay": readings.weight_decay,
            "steps": readings.steps.made(lambda steps: None if steps is None or steps % 1 else int(steps)),
            "seed": readings.seed,
        },
        extra=readings.extra,
        lines=readings.lines,
        sources=table.sources,
    )


def _recipe(name: str, facts: Mapping[str, Any], columns: ColumnMap, options: IngestOptions) -> Recipe:
    extra = {key: facts[key] for key in ("family", *RARELY_SAID) if facts[key]}
    extra |= {key.removeprefix(SPLIT): facts[key] for key in facts if key.startswith(SPLIT) and facts[key]}
    if columns.data_unit:
        extra["data_unit"] = columns.data_unit
    facts = {**facts, "loss_kind": facts["loss_kind"] or columns.metric.loss_kind}
    stated = {
        k: v.strip() for k, v in options.recipe_fields.items() if k not in (*RECIPE_TEXTS, "family", *RARELY_SAID)
    }
    return Recipe(
        name=name,
        seq_len=facts["seq_len"],
        loss_column=columns.loss_column,
        extra={**extra, **{key: value for key, value in stated.items() if value}},
        **{field: facts[field] for field in RECIPE_TEXTS},
    )


def _names(base: str, groups: Sequence[tuple[tuple[str, Any], ...]]) -> list[str]:
    """The base name, and behind it whatever tells the recipes of the file apart."""
    if len(groups) <= 1:  # none where every row was rejected
        return [base] * len(groups)
    tables = [dict(group) for group in groups]
    differing = [field for field in tables[0] if len({facts[field] for facts in tables}) > 1]
    names: list[str] = []
    for facts in tables:
        parts = [_part(field, facts[field]) for field in differing if facts[field] or field not in RARELY_SAID]
        name = "-".join([base, *parts])
        copies = sum(known == name or known.startswith(f"{name}~") for known in names)
        names.append(f"{name}~{copies + 1}" if copies else name)
    return names


def _part(field: str, value: Any) -> str:
    if value in ("", None):
        return f"unknown_{field.removeprefix(SPLIT)}"
    if field.startswith(SPLIT) and is_number(value):
        return slug(f"{field.removeprefix(SPLIT)}-{value}")
    return f"seq{value}" if field == "seq_len" else slug(str(value))


def slug(text: str) -> str:
    """A name that needs no quotes in a shell or a URL."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.") or "sweep"


def _stem(name: str) -> str:
    suffixes = (
        ".gz",
        ".md",
        ".markdown",
        ".csv",
        ".tsv",
        ".tab",
        ".jsonl",
        ".ndjson",
        ".json",
        ".parquet",
        ".pq",
        ".txt",
    )
    for suffix in suffixes:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            name = name[: -len(suffix)]
    return name


def _shown(columns: ColumnMap, sweeps: Sequence[Sweep]) -> dict[str, str]:
    """The guesses, with the parameter convention that the rows turned out to state."""
    shown = dict(columns.shown)
    if "params_convention" in columns.places and "params" in shown:
        said = sorted({sweep.recipe.params_convention for sweep in sweeps})
        if said and all(said):
            shown["params"] = shown["params"].replace(CONVENTION_BY_ROW, " or ".join(said))
    return shown


__all__ = ["Ingested", "interpret", "read_file", "slug"]
