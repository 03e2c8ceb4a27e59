"""One row of a table -> one run and what its recipe holds fixed, or the reason why not."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Final

from lawfit.factors import normal
from lawfit.ingest.column_map import ColumnMap
from lawfit.ingest.endings import FINISHED, STEPS_DONE, STOPPED, Endings
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
from lawfit.ingest.table import Cell, Table
from lawfit.ingest.view import View, median, pairs
from lawfit.records import Json, Rejection, RunStatus
from lawfit.units import PARAMS_CONVENTIONS, sequences_to_tokens

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
_SIZES: Final = ("steps", "seq_len", "params", "lr", "batch_tokens", "batch_sequences", "tokens")
_MOST_KNOWN: Final = 10_000  # different cells (or sizes) of which it is kept what they are read as
_DIGITS: Final = re.compile(r"[-+.e0-9]+")
_FINAL_LOSSES: Final = frozenset({"final_val_loss", "final_train_loss"})  # of `curve_facts`


class RowError(ValueError):
    """A row is not taken: column (None: the row as a whole) and reason."""

    def __init__(self, column: str | None, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason


@dataclass(slots=True)  # one for each row of a file
class Reading:
    """What one row says."""

    line: int
    run_id: str  # "" when the file has none
    params: float
    tokens: float
    batch_tokens: float
    lr: float
    status: RunStatus
    loss: float | None
    weight_decay: float | None
    steps: float | None  # whole, but for steps to a target
    seed: int | None
    facts: tuple[tuple[str, Any], ...]  # of the recipe: field and value, in a fixed order
    extra: dict[str, Json]
    flagged: bool  # diverged because a column says so, not because of its loss
    steps_disagree: bool  # tokens is not steps x batch


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sizes:
    """What a row says of size, learning rate and length."""

    params: float
    tokens: float
    batch_tokens: float
    lr: float
    steps: float | None
    seq_len: int | None
    steps_disagree: bool


class RowReader:
    """Reads the rows of one table."""

    def __init__(self, table: Table, columns: ColumnMap, options: IngestOptions, *, whole_steps: bool) -> None:
        self._steps: Callable[[Cell], float] = positive_whole if whole_steps else positive_steps
        self._columns = columns
        self._names = table.columns
        self._options = options
        self._seq_len = options.seq_len or columns.seq_len
        self._split = [(name, table.columns.index(name)) for name in options.held]
        self._endings = Endings(table, columns)
        steps_name = normal(table.columns[columns.places["steps"]]) if "steps" in columns.places else ""
        self._steps_are_done = not table.exact and steps_name in STEPS_DONE
        self._usual = None if table.exact else _usual(table, columns)
        self._highest = math.inf if table.exact else _highest_loss(table, columns)
        self._stated = {k: v.strip() for k, v in options.recipe_fields.items() if v.strip()}
        self._caches: dict[str, dict[Cell, Any]] = {field: {} for field in columns.places}
        consumed = set(columns.places.values())
        consumed |= {table.columns.index(name) for name in options.pool}  # noise, as a person says, is no setting
        self._rest = [(place, name) for place, name in enumerate(table.columns) if place not in consumed]
        places = columns.places
        self._fact_places = [
            places[field] for field in (*_FACT_TEXTS, "params_convention", "weight_decay_kind") if field in places
        ]
        self._fact_places += [place for _, place in self._split]
        self._size_places = [places[field] for field in _SIZES if field in places]
        self._sizes_cache: dict[tuple[Cell, ...], _Sizes] = {}
        # Yes is no 1, but the cache would find one for the other.
        self._caches_sizes = not any(bool in set(map(type, table.cells(place))) for place in self._size_places)
        self._facts_cache: dict[tuple[Any, ...], tuple[tuple[str, Any], ...]] = {}
        self._extra_cache: dict[Cell, Json] = {}

    def read(self, line: int, cells: tuple[Cell, ...]) -> Reading:
        """Interpret one row.

        Raises
        ------
        RowError
            It cannot be taken.
        """
        if summed := self._endings.of_any(cells):
            raise RowError(*summed)
        self._require_finished(cells)
        sizes = self._sizes(cells)
        status, loss, flagged = self._outcome(cells)
        if status is RunStatus.FINISHED:
            self._require_whole(cells, sizes)
        extra = self._extra(cells)
        if status is RunStatus.DIVERGED and not is_missing(raw := cells[self._columns.places["loss"]]):
            extra[self._columns.loss_column] = self._extra_value(raw)  # what the log says is kept, unused
        return Reading(
            line=line,
            run_id=self._text("run_id", cells),
            params=sizes.params,
            tokens=sizes.tokens,
            batch_tokens=sizes.batch_tokens,
            lr=sizes.lr,
            status=status,
            loss=loss,
            weight_decay=self._get("weight_decay", cells, not_negative),
            steps=sizes.steps,
            seed=self._get("seed", cells, whole),
            facts=self._facts(cells, sizes.seq_len),
            extra=extra,
            flagged=flagged,
            steps_disagree=sizes.steps_disagree,
        )

    def _sizes(self, cells: tuple[Cell, ...]) -> _Sizes:
        """Sizes, learning rate and length, which many rows have in common."""
        if not self._caches_sizes:
            return self._read_sizes(cells)
        key = tuple([cells[place] for place in self._size_places])
        if (sizes := self._sizes_cache.get(key)) is None:
            sizes = self._read_sizes(cells)
            if len(self._sizes_cache) < _MOST_KNOWN:
                self._sizes_cache[key] = sizes
        return sizes

    def _read_sizes(self, cells: tuple[Cell, ...]) -> _Sizes:
        steps = self._get("steps", cells, self._steps)
        seq_len = self._get("seq_len", cells, positive_whole)
        if seq_len is None:
            seq_len = self._seq_len
        params = self._need("params", cells, at_least_one)
        lr = self._need("lr", cells, positive)
        batch_tokens = self._batch(cells, seq_len)
        tokens = self._get("tokens", cells, at_least_one)
        steps_disagree = False
        if tokens is None:
            if steps is None:
                raise RowError(self._name("tokens"), "no number of training tokens")
            tokens = steps * batch_tokens
        elif steps is not None:
            steps_disagree = abs(steps * batch_tokens / tokens - 1) > STEPS_TOLERANCE
        if tokens < batch_tokens * (1 - BATCH_TOLERANCE):
            shown = f"{tokens:g} tokens are less than one batch of {batch_tokens:g}"
            raise RowError(self._name("tokens"), f"{shown}; write both as plain token counts (not in billions)")
        self._require_usual(params, tokens)
        return _Sizes(
            params=params,
            tokens=tokens,
            batch_tokens=batch_tokens,
            lr=lr,
            steps=steps,
            seq_len=seq_len,
            steps_disagree=steps_disagree,
        )

    def _require_usual(self, params: float, tokens: float) -> None:
        """Refuse a row of another unit than the others.

        Raises
        ------
        RowError
            So many tokens for each parameter as no run has, and sizes far from those of rows with a usual number.
        """
        if self._usual is None or _LEAST_EACH < tokens / params < _MOST_EACH or self._usual.holds(params, tokens):
            return
        reason = f"{tokens:g} tokens for {params:g} parameters are {tokens / params:.3g} for each, and other rows have "
        raise RowError(None, f"{reason}about {self._usual.each:.3g}; is the row in another unit?")

    def _name(self, field: str) -> str | None:
        place = self._columns.places.get(field)
        return None if place is None else self._names[place]

    def _get(self, field: str, cells: tuple[Cell, ...], parse: Callable[[Cell], Any]) -> Any:
        """The parsed cell, None when it says nothing."""
        place = self._columns.places.get(field)
        if place is None:
            return None
        cell = cells[place]
        cache = self._caches[field]
        if not isinstance(cell, bool) and cell in cache:  # True would find what 1 left
            return cache[cell]
        if is_missing(cell):
            value = None
        else:
            try:
                value = parse(cell)
            except CellError as error:
                raise RowError(self._names[place], str(error)) from None
        if not isinstance(cell, bool) and len(cache) < _MOST_KNOWN:
            cache[cell] = value
        return value

    def _need(self, field: str, cells: tuple[Cell, ...], parse: Callable[[Cell], float]) -> float:
        value: float | None = self._get(field, cells, parse)
        if value is None:
            raise RowError(self._name(field), "the cell is empty")
        return value

    def _text(self, field: str, cells: tuple[Cell, ...]) -> str:
        place = self._columns.places.get(field)
        if place is None or is_missing(cells[place]):
            return ""
        text = str(cells[place]).strip()
        if "\x00" in text or not _encodable(text):
            raise RowError(self._names[place], "the text holds characters that cannot be stored")
        return "" if text.lower() == "nan" else text

    def _batch(self, cells: tuple[Cell, ...], seq_len: int | None) -> float:
        in_tokens = self._get("batch_tokens", cells, positive)
        sequences = self._get("batch_sequences", cells, positive)
        if sequences is None or seq_len is None:
            if in_tokens is not None:
                return float(in_tokens)
            if sequences is None:
                raise RowError(self._name("batch_tokens") or self._name("batch_sequences"), "no batch size")
            raise RowError(self._name("seq_len"), "the batch is in sequences, and the sequence length is not known")
        product = sequences_to_tokens(sequences, seq_len)
        if in_tokens is None:
            return product
        if abs(in_tokens / product - 1) > BATCH_TOLERANCE:
            reason = (
                f"{in_tokens:.10g} tokens per batch, but {sequences:g} sequences x {seq_len} tokens are {product:.10g}"
            )
            raise RowError(self._name("batch_tokens"), reason)
        return float(in_tokens)

    def _require_whole(self, cells: tuple[Cell, ...], sizes: _Sizes) -> None:
        """Refuse a run that stopped on its way."""
        if stopped := self._endings.of_finished(cells):
            raise RowError(*stopped)
        if sizes.steps is None or not self._steps_are_done:
            return
        made = sizes.steps * sizes.batch_tokens / sizes.tokens  # tokens of its steps, as a share of what its row says
        if made < STOPPED:
            said = f"the run stands at step {sizes.steps:g}, which are {made:.2g} of its tokens: its loss is not theirs"
            raise RowError(self._name("steps"), said)

    def _require_finished(self, cells: tuple[Cell, ...]) -> None:
        if self._get("completed", cells, flag) is False:
            raise RowError(
                self._name("completed"), "the run did not complete, so its loss is not that of its token count"
            )

    def _outcome(self, cells: tuple[Cell, ...]) -> tuple[RunStatus, float | None, bool]:
        flagged = bool(self._get("diverged", cells, flag)) or self._endings.diverged(cells)
        said = self._text("status", cells).lower()
        if said in _DIVERGED:
            flagged = True
        elif said and said not in FINISHED:
            raise RowError(self._name("status"), _NOT_FINISHED.format(said))
        if flagged:  # whatever stands there for its loss: >10, blew up
            return RunStatus.DIVERGED, None, True
        cell = cells[self._columns.places["loss"]]
        if (loss := plain_number(cell)) is None:
            if _says_diverged(cell):
                return RunStatus.DIVERGED, None, False
            if is_missing(cell):
                raise RowError(self._columns.loss_column, "no loss (and nothing says that the run diverged)")
            try:
                loss = number(cell)
            except CellError as error:
                raise RowError(self._name("loss"), str(error)) from None
        if not math.isfinite(loss) or abs(loss) >= 1e300:
            return RunStatus.DIVERGED, None, False
        if loss > self._highest:
            return RunStatus.DIVERGED, None, False
        if loss <= 0:
            raise RowError(self._columns.loss_column, f"the loss is {loss:g}; a loss in nats per token is above zero")
        return RunStatus.FINISHED, loss, False

    def _facts(self, cells: tuple[Cell, ...], seq_len: int | None) -> tuple[tuple[str, Any], ...]:
        key = (seq_len, *[(cells[place].__class__ is bool, cells[place]) for place in self._fact_places])  # True == 1
        if (known_facts := self._facts_cache.get(key)) is not None:
            return known_facts
        facts: dict[str, Any] = {}
        for field in _FACT_TEXTS:
            value = self._text(field, cells)
            if field == "optimizer":
                value = value.lower()
            if field == "parametrization":  # a column such as use_mup answers with yes or no
                value = _MUP_FLAGS.get(value.lower(), value)
            facts[field] = self._agree(field, value)
        kind = self._text("params_convention", cells)
        known = _CONVENTION_NAMES.get(kind.lower().replace(" ", "_"), "")
        facts["params_convention"] = self._agree("params_convention", known) or self._columns.params_convention
        # A kind that lawfit does not know still must not be pooled with another one.
        facts["n_params_kind"] = kind if kind and not known else ""
        # Multiplied by the learning rate or not, it is another quantity of the same name. Unsaid, it is as in torch's
        # AdamW: tables that began without the column go on with it.
        decay = self._agree("weight_decay_kind", self._text("weight_decay_kind", cells)).lower()
        facts["weight_decay_kind"] = "" if decay == "coupled" else decay
        facts["seq_len"] = seq_len
        for name, place in self._split:
            facts[SPLIT + name] = "" if is_missing(cells[place]) else str(cells[place]).strip()
        self._facts_cache[key] = tuple(facts.items())
        return self._facts_cache[key]

    def _agree(self, field: str, value: str) -> str:
        stated = self._stated.get(field, "")
        if stated and value and value != stated and value.lower() != stated.lower():
            raise RowError(self._name(field), f"the row says {field} '{value}', you said '{stated}'")
        return stated or value

    def _extra(self, cells: tuple[Cell, ...]) -> dict[str, Json]:
        extra: dict[str, Json] = {}
        known = self._extra_cache  # of texts alone: a number is not looked up, as yes would be found for 1
        for place, name in self._rest:
            cell = cells[place]
            value = known[cell] if isinstance(cell, str) and cell in known else self._extra_value(cell)
            if value is not None:
                extra[name] = value
        return extra

    def _extra_value(self, cell: Cell) -> Json:
        """Numbers as numbers where that loses nothing of the text; JSON has no nan, so that stays a word."""
        if isinstance(cell, float) and not math.isfinite(cell):
            return str(cell)
        if not isinstance(cell, str):
            return cell
        if cell in self._extra_cache:
            return self._extra_cache[cell]
        value = None if is_missing(cell) else _as_number(cell)
        if len(self._extra_cache) < _MOST_KNOWN:
            self._extra_cache[cell] = value
        return value


def _says_diverged(cell: Cell) -> bool:
    said = cell.strip().lower() if isinstance(cell, str) else ""
    return (said != (bare := said.strip("*!.() ")) and bare in ("nan", "inf")) or bare in _IN_PLACE_OF_LOSS


@dataclass(frozen=True, kw_only=True)
class _Usual:
    """The sizes of rows that have a usual number of tokens for each parameter."""

    each: float  # in the median row
    params: tuple[float, float]  # lowest and highest
    tokens: tuple[float, float]

    def holds(self, params: float, tokens: float) -> bool:
        """Whether sizes are not much beyond those of the other rows."""
        sizes = ((params, self.params), (tokens, self.tokens))
        return all(low / _FAR < value < high * _FAR for value, (low, high) in sizes)


def _usual(table: Table, columns: ColumnMap) -> _Usual | None:
    """Of a table in which most rows have a usual number of tokens for each parameter."""
    if not {"params", "tokens"} <= columns.places.keys():
        return None
    both = pairs(*(View(table).numbers(columns.places[name]) for name in ("params", "tokens")))
    sizes = {(n, d): count for (n, d), count in Counter(both).items() if n > 0 and _LEAST_EACH < d / n < _MOST_EACH}
    if 2 * sum(sizes.values()) <= len(both):
        return None
    params, tokens = [n for n, _ in sizes], [d for _, d in sizes]
    each = median(sorted(chain.from_iterable(repeat(d / n, count) for (n, d), count in sizes.items())))
    return _Usual(each=each, params=(min(params), max(params)), tokens=(min(tokens), max(tokens)))


def _highest_loss(table: Table, columns: ColumnMap) -> float:
    """More than guessing costs: beyond it stand runs that blew up, and what some write in their place, 999 or 1e9."""
    if columns.metric.kind not in ("nats", "bits") or "loss" not in columns.places:
        return math.inf
    losses = View(table).values(columns.places["loss"])
    if not losses or median(losses) > HIGH_LOSS:
        return math.inf
    below = [value for value in losses if value < losses[-1]]
    if len(losses) - len(below) > 1 and len(below) > 1 and losses[-1] > _TIMES_NEXT * below[-1]:
        return below[-1]  # the same number several times, far above all others
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
        if str(value) == text and math.isfinite(value):
            return value
    return text


def _encodable(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
