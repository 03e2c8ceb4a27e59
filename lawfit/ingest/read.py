"""A table of runs -> sweeps by recipe, with every rejected row and every guess written down."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawfit.errors import LogFormatError
from lawfit.factors import is_setting, same_level
from lawfit.findings import Found, finding
from lawfit.ingest.cells import made_plain
from lawfit.ingest.column_map import CONVENTION_BY_ROW, ColumnMap, Recognised
from lawfit.ingest.columns import recognise_all
from lawfit.ingest.doubts import doubts
from lawfit.ingest.formats import read_table
from lawfit.ingest.losses import as_losses, with_stand_ins
from lawfit.ingest.notes import RARELY_SAID, RECIPE_TEXTS, notes_on, partly_said, reruns, unread
from lawfit.ingest.numbers import is_number
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.points import last_of_each
from lawfit.ingest.questions import Question, doubted, with_safe_answers
from lawfit.ingest.rows import SPLIT, Reading, RowError, RowReader, unfinished
from lawfit.ingest.settings import setting_questions
from lawfit.ingest.shapes import shape
from lawfit.ingest.stated import place_of
from lawfit.ingest.table import Table
from lawfit.ingest.view import View
from lawfit.records import Curve, LossSweep, Recipe, Rejection, Run, RunStatus, Sweep, content_hash


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
        return sum(run.status is RunStatus.DIVERGED for sweep in self.sweeps for run in sweep.runs)


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
    table, notes = _only(table, options)
    found, options = _settled(table, options, asked, doubting=whole_steps and not table.exact)
    table, columns = found.table, found.columns
    plain, read_as = made_plain(table, columns)
    if columns.kind == "losses":
        plain, columns = with_stand_ins(plain, columns)
    of_columns = [] if table.exact else [*partly_said(table, columns), *unread(table, columns, options)]
    reader = RowReader(plain, columns, options, whole_steps=whole_steps)
    for each in (given, table, plain):
        each.forget()  # from here on it goes row by row
    rejections = list(table.rejections)
    readings = _readings(reader, plain, rejections)
    readings, points = last_of_each(
        readings, table.columns[columns.places["run_id"]] if "run_id" in columns.places else ""
    )
    keyed = _with_keys(readings, plain, columns, rejections)
    sweeps = _sweeps(keyed, plain, columns, options)
    rejections.sort(key=lambda rejection: (rejection.file, rejection.line or 0))
    said = [
        *table.notes,
        *shaped,
        *notes,
        *columns.notes,
        *read_as,
        *points,
        *notes_on([reading for _, reading in keyed], sweeps, columns),
        *reruns(keyed),
        *of_columns,
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
) -> tuple[Recognised, IngestOptions]:
    """The columns once nothing is open any more, and the options with the safe answers where those were asked for.

    Parameters
    ----------
    asked : what is open before any column is looked at

    Raises
    ------
    Doubted
        All that only a person can answer, at once.
    """
    while True:
        found = recognise_all(table, options)
        questions = [*asked, *found.questions]
        if doubting:
            questions += doubts(View(found.table), found.columns, options)
            questions += setting_questions(found.table, found.columns.places, options)
        open_ones = [question for question in questions if not question.assumed]
        if not open_ones:
            return found, options
        answered = with_safe_answers(options, open_ones) if options.yes else None
        if answered is None or answered == options:
            raise doubted(table.name, questions)
        options = answered


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
        rows = tuple(row for row in table.rows if same_level(str(row[1][place]).strip(), level))
        if not rows:
            raise LogFormatError(finding("ingest.no_such_level", file=table.name, column=column, level=level))
        notes.append(finding("ingest.only", column=column, level=level, left_out=len(table.rows) - len(rows)))
        table = dataclasses.replace(table, rows=rows)
    return table, notes


def _readings(reader: RowReader, table: Table, rejections: list[Rejection]) -> list[Reading]:
    readings: list[Reading] = []
    first_line: dict[tuple[Any, ...], int] = {}
    for line, cells in table.rows:
        if (before := first_line.setdefault(cells, line)) != line:
            reason = f"the same row as {_at(table, before)}"
            rejections.append(_rejection(table, line, None, reason))
            continue
        try:
            readings.append(reader.read(line, cells))
        except RowError as error:
            rejections.append(_rejection(table, line, error.column, error.reason))
    return readings


def _rejection(table: Table, line: int, column: str | None, reason: str) -> Rejection:
    file, number = table.place(line)
    return Rejection(file=file, line=number, column=column, reason=reason)


def _at(table: Table, line: int) -> str:
    file, number = table.place(line)
    return file if line in table.places else f"line {number}"


def _with_keys(
    readings: Iterable[Reading], table: Table, columns: ColumnMap, rejections: list[Rejection]
) -> list[tuple[str, Reading]]:
    """Runs with their keys: the log's own id, or a hash of the settings with a number for each replicate."""
    settings = [name for name in table.columns if is_setting(name)]
    keyed: list[tuple[str, Reading]] = []
    line_of: dict[tuple[Any, str], int] = {}
    replicates: dict[tuple[Any, str], int] = {}
    for reading in readings:
        if reading.run_id:
            before = line_of.setdefault((reading.facts, reading.run_id), reading.line)
            if before != reading.line:
                place = columns.places["run_id"]
                where = _at(table, before)
                reason = f"run '{reading.run_id}' stands in {where} already, with other values; ids must differ"
                rejections.append(_rejection(table, reading.line, table.columns[place], reason))
                continue
            keyed.append((reading.run_id, reading))
            continue
        key = content_hash(
            {
                "params": reading.params,
                "tokens": reading.tokens,
                "batch_tokens": reading.batch_tokens,
                "lr": reading.lr,
                "weight_decay": reading.weight_decay,
                "seed": reading.seed,
                "settings": {name: str(reading.extra[name]) for name in settings if name in reading.extra},
            }
        )
        count = replicates[reading.facts, key] = replicates.get((reading.facts, key), 0) + 1
        keyed.append((key if count == 1 else f"{key}-{count}", reading))
    return keyed


def _sweeps(
    keyed: Sequence[tuple[str, Reading]], table: Table, columns: ColumnMap, options: IngestOptions
) -> tuple[Sweep, ...]:
    groups: dict[tuple[tuple[str, Any], ...], list[Run]] = {}
    for key, reading in keyed:
        groups.setdefault(reading.facts, []).append(_run(key, reading, table))
    base = options.recipe.strip() if options.recipe else slug(_stem(table.name))
    names = _names(base, list(groups))
    return tuple(
        Sweep(recipe=_recipe(name, dict(facts), columns, options), runs=tuple(runs), exact=table.exact)
        for name, (facts, runs) in zip(names, groups.items(), strict=True)
    )


def _run(key: str, reading: Reading, table: Table) -> Run:
    file, line = table.place(reading.line)
    return Run(
        run_key=key,
        params=reading.params,
        tokens=reading.tokens,
        batch_tokens=reading.batch_tokens,
        lr=reading.lr,
        status=reading.status,
        loss=reading.loss,
        weight_decay=reading.weight_decay,
        steps=None if reading.steps is None or reading.steps % 1 else int(reading.steps),
        seed=reading.seed,
        extra=reading.extra,
        source=f"{file}:{line}",
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
