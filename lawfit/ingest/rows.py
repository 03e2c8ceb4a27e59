"""One row of a table -> one run and what its recipe holds fixed, or the reason why not."""

from __future__ import annotations

import dataclasses
import math
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lawfit.ingest.column_map import EXTRA, ColumnMap
from lawfit.ingest.endings import FINISHED, Endings
from lawfit.ingest.numbers import (
    CellError,
    at_least_one,
    flag,
    is_missing,
    not_negative,
    number,
    plain_number,
    positive,
    positive_steps,
    positive_whole,
    whole,
)
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.progress import STOPPED, says_steps_done
from lawfit.ingest.table import Cell, Table
from lawfit.ingest.view import View, are_words, median, plain_numbers
from lawfit.packed import Column, groups, repeated
from lawfit.records import Json, Rejection
from lawfit.units import PARAMS_CONVENTIONS

SPLIT: Final = "split by "  # before the name of a column whose levels are recipes of their own
BATCH_TOLERANCE: Final = 5e-3  # tokens and sequences x length: 1.05e6 may be printed for 1048576
STEPS_TOLERANCE: Final = 0.05  # tokens and steps x batch: beyond, one of the units is probably wrong

_CONVENTION_NAMES: Final = {
    **{name: name for name in PARAMS_CONVENTIONS},
    "non_embedding_plus_output_head": "body_plus_head",
    "non_embedding_plus_head": "body_plus_head",
    "nonembedding": "non_embedding",
    "no_embedding": "non_embedding",
    "non-embedding": "non_embedding",
    "all": "total",
}
_FACT_TEXTS: Final = ("optimizer", "schedule", "data", "tokenizer", "parametrization", "loss_kind", "family")
_MUP_FLAGS: Final = {
    **dict.fromkeys(("true", "yes", "1", "1.0"), "mup"),
    **dict.fromkeys(("false", "no", "0", "0.0"), "standard"),
}
_DIVERGED: Final = frozenset({"diverged", "nan", "exploded", "divergence", "inf"})
_IN_PLACE_OF_LOSS: Final = {
    *(
        "diverged",
        "divergence",
        "exploded",
        "diverge",
        "divergent",
        "div",
        "blew up",
        "blow up",
        "blown up",
        "unstable",
        "✗",
        "×",
        "∞",
        "+∞",
        "overflow",
    ),
    *("divergiert", "divergé", "发散", "nan (diverged", "diverged at start"),
}
HIGH_LOSS: Final = 15.0  # nats: guessing among three million tokens costs as much
_LEAST_EACH: Final = 1e-3  # tokens for a parameter
_MOST_EACH: Final = 1e5
_FAR: Final = 30.0
_TIMES_USUAL: Final = 4.0
_TIMES_NEXT: Final = 1.5
_NOT_FINISHED: Final = "the status is '{}', not finished (or diverged)"
_NOT_TEXT: Final = "the text holds characters that cannot be stored"
_DIGITS: Final = re.compile(r"[-+.e0-9]+")
_FINAL_LOSSES: Final = frozenset({"final_val_loss", "final_train_loss"})  # of `curve_facts`


Numbers = npt.NDArray[np.float64]


class RowError(ValueError):
    """A row is not taken: column (None: the row as a whole) and reason."""

    def __init__(self, column: str | None, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Readings:
    """What the rows of a table say, column by column; those that were refused are not among them."""

    lines: npt.NDArray[np.int64]
    run_ids: Column  # "" where the file has none
    params: Numbers
    tokens: Numbers
    batch_tokens: Numbers
    lr: Numbers
    loss: Numbers  # nan: diverged
    weight_decay: Column
    steps: Column  # whole, but for steps to a target
    seed: Column
    facts: Column  # of the recipe: field and value, in a fixed order
    extra: Mapping[str, Column]  # None: nothing is said
    flagged: npt.NDArray[np.bool_]  # diverged because a column says so, not because of its loss
    steps_disagree: npt.NDArray[np.bool_]  # tokens is not steps x batch

    def __len__(self) -> int:
        return len(self.lines)

    def take(self, rows: npt.NDArray[Any]) -> Readings:
        """Some of them."""
        columns = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "extra"}
        made: dict[str, Any] = {n: of.take(rows) if isinstance(of, Column) else of[rows] for n, of in columns.items()}
        return Readings(**made, extra={name: column.take(rows) for name, column in self.extra.items()})

    def extra_of(self, at: int) -> dict[str, Json]:
        """What one row says that was not recognised."""
        return {name: value for name, column in self.extra.items() if (value := column[at]) is not None}


class RowReader:
    """Reads the rows of one table, column by column. A row is refused for the first reason that is found."""

    def __init__(self, table: Table, columns: ColumnMap, options: IngestOptions, *, whole_steps: bool) -> None:
        self._steps: Callable[[Cell], float] = positive_whole if whole_steps else positive_steps
        self._table, self._columns, self._options = table, columns, options
        self._stated = {k: v.strip() for k, v in options.recipe_fields.items() if v.strip()}
        self._taken = np.ones(len(table.rows), dtype=bool)
        self._refused: dict[int, tuple[str | None, str]] = {}

    def read(self) -> tuple[Readings, list[Rejection]]:
        """The rows that can be taken, and why others cannot."""
        with np.errstate(all="ignore"):
            readings = self._read()
        lines = self._table.packed.lines
        rejections = [rejection(self._table, int(lines[at]), *self._refused[at]) for at in sorted(self._refused)]
        return (readings if self._taken.all() else readings.take(np.flatnonzero(self._taken))), rejections

    def _read(self) -> Readings:
        table, lines, endings = self._table, self._table.packed.lines, self._endings()
        for at, before in repeated(table.packed.columns, len(lines)).items():
            self._refuse([at], None, f"the same row as {place_said(table, int(lines[before]))}")
        for name, reasons in endings.of_any:
            self._refuse(reasons, name, reasons.__getitem__)
        done = self._parsed("completed", flag)
        unfinished = "the run did not complete, so its loss is not that of its token count"
        self._refuse(done.rows(lambda said: said is False), self._name("completed"), unfinished)
        steps = self._parsed("steps", self._steps)
        seq_len = self._parsed("seq_len", positive_whole)
        if (usual_length := self._options.seq_len or self._columns.seq_len) is not None:
            seq_len = seq_len.made(lambda length: usual_length if length is None else length)
        params, lr = self._needed("params", at_least_one), self._needed("lr", positive)
        batch_tokens = self._batch(seq_len)
        tokens, made = self._tokens(params, batch_tokens, steps)
        loss, flagged = self._outcome(endings.diverged)
        finished = ~np.isnan(loss)
        for name, reasons in endings.of_finished:
            self._refuse([at for at in reasons if finished[at]], name, reasons.__getitem__)
        self._require_done(finished, steps, made / tokens)
        run_ids = self._texts("run_id")
        weight_decay, seed = self._parsed("weight_decay", not_negative), self._parsed("seed", whole)
        facts = self._facts(seq_len)
        return Readings(
            lines=lines,
            run_ids=run_ids,
            params=params,
            tokens=tokens,
            batch_tokens=batch_tokens,
            lr=lr,
            loss=loss,
            weight_decay=weight_decay,
            steps=steps,
            seed=seed,
            facts=facts,
            extra=self._extra(~finished),
            flagged=flagged,
            steps_disagree=np.abs(made / tokens - 1) > STEPS_TOLERANCE,
        )

    def _endings(self) -> Endings:
        mapped = self._options.column_map.items()
        said = (*self._options.held, *self._options.pool)  # settings, as a person says
        return Endings(self._table, self._columns, [*said, *(column for column, field in mapped if field == EXTRA)])

    def _refuse(self, rows: Iterable[int], column: str | None, reason: str | Callable[[int], str]) -> None:
        """Leave rows out that nothing was found against before."""
        for at in rows:
            if self._taken[at]:
                self._taken[at] = False
                self._refused[at] = (column, reason if isinstance(reason, str) else reason(at))

    def _name(self, field: str) -> str | None:
        place = self._columns.places.get(field)
        return None if place is None else self._table.columns[place]

    def _cells(self, field: str) -> Column:
        place = self._columns.places.get(field)
        return Column.same(None, len(self._taken)) if place is None else self._table.cells(place)

    def _parsed(self, field: str, parse: Callable[[Cell], Any]) -> Column:
        """A column parsed; None where a cell says nothing."""
        reasons: dict[int, str] = {}
        levels = list[Any]()
        for cell in (cells := self._cells(field)).levels:
            try:
                levels.append(None if is_missing(cell) else parse(cell))
            except CellError as error:
                reasons[len(levels)] = str(error)
                levels.append(None)
        self._refuse_levels(cells, self._name(field), reasons)
        return Column(levels, cells.codes)

    def _refuse_levels(self, cells: Column, column: str | None, reasons: Mapping[int, str]) -> None:
        if reasons:
            said = Column([reasons.get(level) for level in range(len(cells.levels))], cells.codes)
            self._refuse(said.rows(lambda reason: reason is not None), column, said.__getitem__)

    def _needed(self, field: str, parse: Callable[[Cell], float]) -> Numbers:
        numbers = self._parsed(field, parse).floats()
        self._refuse(_where(np.isnan(numbers)), self._name(field), "the cell is empty")
        return numbers

    def _texts(self, field: str) -> Column:
        """A column of words as they can be stored; "" where it says nothing."""
        cells = self._cells(field)
        if field in self._columns.places and are_words(self._table, self._columns.places[field]):
            return cells  # as they are
        self._refuse(cells.rows(lambda cell: _text(cell) is None), self._name(field), _NOT_TEXT)
        return cells.made(lambda cell: _text(cell) or "")

    def _batch(self, seq_len: Column) -> Numbers:
        in_tokens = self._parsed("batch_tokens", positive).floats()
        sequences = self._parsed("batch_sequences", positive).floats()
        product = sequences * seq_len.floats()
        nothing = np.isnan(in_tokens) & np.isnan(product)
        name = self._name("batch_tokens") or self._name("batch_sequences")
        self._refuse(_where(nothing & np.isnan(sequences)), name, "no batch size")
        unknown = "the batch is in sequences, and the sequence length is not known"
        self._refuse(_where(nothing), self._name("seq_len"), unknown)
        differing = _where(np.abs(in_tokens / product - 1) > BATCH_TOLERANCE)
        said = "{:.10g} tokens per batch, but {:g} sequences x {} tokens are {:.10g}"
        self._refuse(
            differing,
            self._name("batch_tokens"),
            lambda at: said.format(in_tokens[at], sequences[at], seq_len[at], product[at]),
        )
        return np.where(np.isnan(in_tokens), product, in_tokens)

    def _tokens(self, params: Numbers, batch_tokens: Numbers, steps: Column) -> tuple[Numbers, Numbers]:
        """Tokens, and those that steps and batch make."""
        stated, made = self._parsed("tokens", at_least_one).floats(), steps.floats() * batch_tokens
        tokens = np.where(np.isnan(stated), made, stated)
        none = np.isnan(stated) & np.isnan(steps.floats())
        self._refuse(_where(none), self._name("tokens"), "no number of training tokens")
        few = "{:g} tokens are less than one batch of {:g}; write both as plain token counts (not in billions)"
        self._refuse(
            _where(tokens < batch_tokens * (1 - BATCH_TOLERANCE)),
            self._name("tokens"),
            lambda at: few.format(tokens[at], batch_tokens[at]),
        )
        usual = None if self._table.exact else _usual(self._table, self._columns)
        if usual is not None:  # so many tokens for each parameter as no run has, and sizes far from the others
            each = tokens / params
            odd = ~((each > _LEAST_EACH) & (each < _MOST_EACH)) & ~usual.hold(params, tokens)
            reason = "{:g} tokens for {:g} parameters are {:.3g} for each, and other rows have about {:.3g}; "
            self._refuse(
                _where(odd),
                None,
                lambda at: reason.format(tokens[at], params[at], each[at], usual.each) + "is the row in another unit?",
            )
        return tokens, made

    def _require_done(self, finished: npt.NDArray[np.bool_], steps: Column, made: Numbers) -> None:
        """Refuse runs that stopped on their way: steps that make less than the tokens of their rows."""
        name = self._name("steps")
        if self._table.exact or name is None or not says_steps_done(name):
            return
        said = "the run stands at step {:g}, which are {:.2g} of its tokens: its loss is not theirs"
        self._refuse(_where(finished & (made < STOPPED)), name, lambda at: said.format(steps[at], made[at]))

    def _outcome(self, noted: Sequence[int]) -> tuple[Numbers, npt.NDArray[np.bool_]]:
        """Losses, nan where runs diverged; and which did because a column says so, whatever stands for their loss.

        `noted` are rows of which a note says it.
        """
        marked = self._parsed("diverged", flag)
        said = self._texts("status").made(str.lower)
        other = said.rows(lambda word: bool(word) and word not in _DIVERGED and word not in FINISHED)
        self._refuse(other, self._name("status"), lambda at: _NOT_FINISHED.format(said[at]))
        flagged = marked.spread([bool(mark) for mark in marked.levels], bool)
        flagged |= said.spread([word in _DIVERGED for word in said.levels], bool)
        flagged[list(noted)] = True
        place = self._columns.places["loss"]
        cells, plain = self._table.cells(place), plain_numbers(self._table, place)
        reasons: dict[int, str] = {}
        levels = np.array(
            [_loss(cell, at, reasons) for at, cell in enumerate(cells.levels)] if plain is None else plain.levels
        )
        highest = math.inf if self._table.exact else _highest_loss(self._table, self._columns)
        levels[~(np.abs(levels) < 1e300) | (levels > highest)] = math.nan
        for at in _where(levels <= 0):
            reasons[at] = f"the loss is {levels[at]:g}; a loss in nats per token is above zero"
        taken = self._taken
        self._taken = taken & ~flagged
        self._refuse_levels(cells, self._name("loss"), reasons)
        self._taken |= taken & flagged
        loss = cells.spread(levels)
        loss[flagged] = math.nan
        return loss, flagged

    def _facts(self, seq_len: Column) -> Column:
        """What the recipe of each row holds fixed, which many rows have in common."""
        places = self._columns.places
        fields = [field for field in (*_FACT_TEXTS, "params_convention", "weight_decay_kind") if field in places]
        cells = {field: self._table.cells(places[field]) for field in fields}
        cells |= {SPLIT + name: self._table.cells(self._table.columns.index(name)) for name in self._options.held}
        apart = [column.made(lambda cell: (isinstance(cell, bool), cell)) for column in cells.values()]  # yes is no 1
        numbers, count = groups([seq_len, *apart], len(self._taken))
        rows = np.flatnonzero(self._taken)
        levels: list[tuple[tuple[str, Any], ...]] = [()] * count
        for group, first in zip(*np.unique(numbers[rows], return_index=True), strict=True):
            at = int(rows[first])
            try:
                levels[group] = self._facts_of({name: column[at] for name, column in cells.items()}, seq_len[at])
            except RowError as error:
                self._refuse(_where(numbers == group), error.column, error.reason)
        return Column(levels, numbers.astype(np.min_scalar_type(count)))

    def _facts_of(self, cells: Mapping[str, Cell], seq_len: int | None) -> tuple[tuple[str, Any], ...]:
        facts: dict[str, Any] = {}
        for field in _FACT_TEXTS:
            value = self._said(field, cells)
            if field == "optimizer":
                value = value.lower()
            if field == "parametrization":  # a column such as use_mup answers with yes or no
                value = _MUP_FLAGS.get(value.lower(), value)
            facts[field] = self._agree(field, value)
        kind = self._said("params_convention", cells)
        known = _CONVENTION_NAMES.get(kind.lower().replace(" ", "_"), "")
        facts["params_convention"] = self._agree("params_convention", known) or self._columns.params_convention
        # A kind that lawfit does not know still must not be pooled with another one.
        facts["n_params_kind"] = kind if kind and not known else ""
        # Multiplied by the learning rate or not, it is another quantity of the same name. Unsaid, it is as in torch's
        # AdamW: tables that began without the column go on with it.
        decay = self._agree("weight_decay_kind", self._said("weight_decay_kind", cells)).lower()
        facts["weight_decay_kind"] = "" if decay == "coupled" else decay
        facts["seq_len"] = seq_len
        facts |= {name: "" if is_missing(c) else str(c).strip() for name, c in cells.items() if name.startswith(SPLIT)}
        return tuple(facts.items())

    def _said(self, field: str, cells: Mapping[str, Cell]) -> str:
        if (text := _text(cells.get(field))) is None:
            raise RowError(self._name(field), _NOT_TEXT)
        return text

    def _agree(self, field: str, value: str) -> str:
        stated = self._stated.get(field, "")
        if stated and value and value != stated and value.lower() != stated.lower():
            raise RowError(self._name(field), f"the row says {field} '{value}', you said '{stated}'")
        return stated or value

    def _extra(self, diverged: npt.NDArray[np.bool_]) -> dict[str, Column]:
        """What stands in columns that were not recognised."""
        table, consumed = self._table, set(self._columns.places.values())
        consumed |= {table.columns.index(name) for name in self._options.pool}  # noise, as a person says, is no setting
        rest = {name: at for at, name in enumerate(table.columns) if at not in consumed}
        extra = {name: table.cells(place).made(_json_value) for name, place in rest.items()}
        if rows := _where(diverged):  # what the log says for a loss is kept, unused
            kept: list[Json] = [None] * len(diverged)
            for at in rows:
                kept[at] = _json_value(table.cells(self._columns.places["loss"])[at])
            extra[self._columns.loss_column] = Column.of(kept)
        return extra


def _where(rows: npt.NDArray[np.bool_]) -> list[int]:
    found: list[int] = np.flatnonzero(rows).tolist()
    return found


def _text(cell: Cell) -> str | None:
    """As it can be stored, "" where nothing is said; None where it cannot."""
    text = "" if is_missing(cell) else str(cell).strip()
    if "\x00" in text or not _encodable(text):
        return None
    return "" if text.lower() == "nan" else text


def _loss(cell: Cell, level: int, reasons: dict[int, str]) -> float:
    """The number of a cell, nan where the run diverged; or a reason under its level."""
    if (loss := plain_number(cell)) is not None:
        return loss
    if _says_diverged(cell):
        return math.nan
    try:
        if not is_missing(cell):
            return number(cell)
        reasons[level] = "no loss (and nothing says that the run diverged)"
    except CellError as error:
        reasons[level] = str(error)
    return math.nan


def _json_value(cell: Cell) -> Json:
    """Numbers as numbers where that loses nothing of the text; JSON has no nan, so that stays a word."""
    if isinstance(cell, float) and not math.isfinite(cell):
        return str(cell)
    if not isinstance(cell, str):
        return cell
    return None if is_missing(cell) else _as_number(cell)


def rejection(table: Table, line: int, column: str | None, reason: str) -> Rejection:
    """Of a row by its line."""
    file, number = table.place(line)
    return Rejection(file=file, line=number, column=column, reason=reason)


def place_said(table: Table, line: int) -> str:
    """Where a row stands, for people."""
    file, number = table.place(line)
    return file if line in table.places else f"line {number}"


def _says_diverged(cell: Cell) -> bool:
    said = cell.strip().lower() if isinstance(cell, str) else ""
    return (said != (bare := said.strip("*!.() ")) and bare in ("nan", "inf")) or bare in _IN_PLACE_OF_LOSS


@dataclass(frozen=True, kw_only=True)
class _Usual:
    """The sizes of rows that have a usual number of tokens for each parameter."""

    each: float  # in the median row
    params: tuple[float, float]  # lowest and highest
    tokens: tuple[float, float]

    def hold(self, params: Numbers, tokens: Numbers) -> npt.NDArray[np.bool_]:
        """Which sizes are not much beyond those of the other rows."""
        (few, most), (short, long) = self.params, self.tokens
        near = (few / _FAR < params) & (params < most * _FAR)
        return near & (short / _FAR < tokens) & (tokens < long * _FAR)


def _usual(table: Table, columns: ColumnMap) -> _Usual | None:
    """Of a table in which most rows have a usual number of tokens for each parameter."""
    if not {"params", "tokens"} <= columns.places.keys():
        return None
    params, tokens = (View(table).numbers(columns.places[name]).floats() for name in ("params", "tokens"))
    held = ~np.isnan(params) & ~np.isnan(tokens)
    params, tokens = params[held], tokens[held]
    with np.errstate(all="ignore"):
        each = tokens / params
    usual = (params > 0) & (each > _LEAST_EACH) & (each < _MOST_EACH)
    if 2 * np.count_nonzero(usual) <= len(each):
        return None
    params, tokens, each = params[usual], tokens[usual], np.sort(each[usual])
    sizes = (params.min(), params.max()), (tokens.min(), tokens.max())
    return _Usual(each=each[len(each) // 2], params=sizes[0], tokens=sizes[1])


def _highest_loss(table: Table, columns: ColumnMap) -> float:
    """More than guessing costs: beyond it stand runs that blew up, and what some write in their place, 999 or 1e9."""
    if columns.metric.kind not in ("nats", "bits") or "loss" not in columns.places:
        return math.inf
    losses = View(table).values(columns.places["loss"])
    if not losses or median(losses) > HIGH_LOSS:
        return math.inf
    below = bisect_left(losses, losses[-1])
    if len(losses) - below > 1 and below > 1 and losses[-1] > _TIMES_NEXT * losses[below - 1]:
        return losses[below - 1]  # the same number several times, far above all others
    return max(2 * HIGH_LOSS, _TIMES_USUAL * median(losses))


def unfinished(table: Table) -> list[Rejection] | None:
    """A rejection for each run of a table in which none has come to a loss; None of any other table."""
    if not table.rows:
        return []
    if "status" not in table.columns:
        return None
    reasons = {said: _NOT_FINISHED.format(said) for said in ("running", "crashed")}  # the words of `run_log`
    if table.places and _FINAL_LOSSES.isdisjoint(table.columns):
        reasons["diverged"] = "the run diverged, and none of its sweep has a loss yet"
    place = table.columns.index("status")
    if any(cells[place] not in reasons for _, cells in table.rows):
        return None
    spots = [(*table.place(line), reasons[str(cells[place])]) for line, cells in table.rows]
    return [Rejection(file=file, line=line, column="status", reason=reason) for file, line, reason in spots]


def _as_number(text: str) -> Json:
    text = text.strip().replace("\x00", "")
    if not _encodable(text):
        return text.encode("ascii", "backslashreplace").decode()
    if not _DIGITS.fullmatch(text):
        return text
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if str(value) == text and (isinstance(value, int) or math.isfinite(value)):
            return value
    return text


def _encodable(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
