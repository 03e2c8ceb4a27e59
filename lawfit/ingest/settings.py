"""Settings are not seeds: columns in which runs of equal scale, rate, batch and decay differ are asked about.

A column that is known as a setting moves on with the run, and a fit holds one level of it. One that is known as a
result or as bookkeeping may differ between seeds. Any other must be asked about: runs that differ in it are averaged
as seeds only where a person says so.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from itertools import islice, pairwise
from statistics import fmean, stdev
from typing import Final

import numpy as np
import numpy.typing as npt

from lawfit.factors import is_factor, is_further_input, is_record, normal
from lawfit.findings import finding
from lawfit.ingest.bookkeeping import is_grid, is_known_record, is_mark, names_field
from lawfit.ingest.cell_texts import OPTIMIZERS, WORDS_OF, is_name_of_runs, with_words
from lawfit.ingest.cells import made_plain
from lawfit.ingest.column_map import ColumnMap
from lawfit.ingest.endings import Endings
from lawfit.ingest.metrics import data_of, kind_of
from lawfit.ingest.names import NAMES, section
from lawfit.ingest.names_with_values import VALUE_OF, differing, with_values, word_of
from lawfit.ingest.numbers import is_missing, is_number, number
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.questions import MOST_LEVELS, Choice, Question
from lawfit.ingest.table import Cell, Table
from lawfit.ingest.view import View
from lawfit.packed import Column, Places, groups, members, repeated

_KEY: Final = ("params", "tokens", "batch_tokens", "batch_sequences", "batch_unstated", "seq_len", "lr", "weight_decay")
_FACTS: Final = (
    "optimizer",
    "schedule",
    "data",
    "tokenizer",
    "parametrization",
    "family",
    "loss_kind",
    "params_convention",
)
_ENDED: Final = frozenset({"", "finished", "completed", "complete", "success", "succeeded", "ok", "done"})
# Columns of these words name sizes, parts of a study or places of work.
_OF_SIZES: Final = frozenset(
    {
        *("model", "config", "preset", "size", "scale", "tier", "horizon", "budget", "duration", "length", "token"),
        *("operator", "owner", "priority", "storage", "os", "disk", "filesystem", "batch", "bs", "bsz", "phase"),
        *("stage", "round", "purpose", "study", "hardware", "accelerator", "partition", "queue", "instance", "site"),
        *("team", "who", "person", "month", "day", "week", "regime", "flops", "chinchilla"),
    }
)
_WORDS_OF_SIZE: Final = frozenset(
    {
        *("xs", "s", "m", "l", "xl", "xxl", "nano", "pico", "micro", "mini", "tiny", "little", "small", "smaller"),
        *("base", "medium", "mid", "middle", "big", "bigger", "large", "larger", "huge", "giant", "short", "shorter"),
        *("long", "longer", "low", "high", "half", "full", "double", "quarter", "single", "few", "many", "less"),
        *("more", "under", "over", "undertrained", "overtrained", "optimal", "chinchilla", "narrow", "wide"),
        *("shallow", "deep", "default", "klein", "mittel", "gross", "groß", "kurz", "lang", "petit"),
        *("moyen", "grand", "pilot", "main", "first", "second", "third", "initial", "followup", "extra", "prod"),
    }
)
_OF_ANYTHING: Final = frozenset({"source", "version", "label", "tag", "tags", "title", "task", "data", "changed"})
# Words that say of what a run is made.
_OF_RUNS: Final = OPTIMIZERS | {
    *("c4", "pile", "the pile", "fineweb", "fineweb-edu", "slimpajama", "redpajama", "openwebtext", "dolma", "dclm"),
    *("wikitext", "wikipedia", "starcoder", "refinedweb", "commoncrawl", "mc4", "oscar", "tinystories", "climbmix"),
    *("transformer", "mamba", "mamba2", "ssm", "attn", "attention", "rwkv", "moe", "dense", "gqa", "mha", "mla"),
}
_OF_WEIGHTS: Final = frozenset({"best", "last", "final", "latest", "ema", "raw", "swa", "averaged", "avg", "min"})
_EVEN: Final = 1.2  # between the steps of one grid
_SCALES: Final = ("params", "batch_tokens", "batch_sequences", "batch_unstated", "tokens", "steps")
_MANY_DIGITS: Final = 4
_MOST_OF_A_KIND: Final = 20  # levels of a choice
_FEWEST_PAIRS: Final = 4  # settings, to tell chance from a choice
_TIMES_ERROR: Final = 4.0
_MOST_BETWEEN_SEEDS: Final = 0.03  # of the loss; seeds of a language model differ by less than one percent
_A_SWEEP: Final = 3  # learning rates


def setting_questions(table: Table, columns: ColumnMap, options: IngestOptions) -> list[Question]:
    """Columns of unknown meaning in which runs of equal settings differ, each with its levels.

    Not those by which rows of stopped runs are left out, nor for the sake of such rows.
    """
    found = _questions(table, columns.places, options)
    ended = Endings(made_plain(table, columns)[0], columns, _answered(table, options)).of_finished if found else []
    ended = [(name, reasons) for name, reasons in ended if not _is_crossed(table, name, columns.places, options)]
    if not ended:
        return found
    stopped = np.array(sorted(set().union(*(reasons for _, reasons in ended))), dtype=np.intp)
    rest = dataclasses.replace(table, rows=table.packed.take(np.delete(np.arange(len(table.rows)), stopped)))
    known = dict.fromkeys((name for name, _ in ended), "extra")
    return _questions(rest, columns.places, dataclasses.replace(options, column_map={**options.column_map, **known}))


def _is_crossed(table: Table, column: str, places: Mapping[str, int], options: IngestOptions) -> bool:
    """Whether all groups of equal runs have the same several levels of a column, as no runs that stop anywhere have."""
    rows, several = _equal_rows(table, places, options)
    texts = rows.texts(table.columns.index(column))
    levels = [texts.different(group) for group in several]
    return len(levels) >= _FEWEST_PAIRS - 1 and len(levels[0]) > 1 and all(each == levels[0] for each in levels)


def _questions(table: Table, places: Mapping[str, int], options: IngestOptions) -> list[Question]:
    table = with_words(table, lambda column: is_name_of_runs(column) and column not in options.pool)
    rows, several = _equal_rows(table, places, options)
    own = partial(names_field, fields=[name for name in places if name in NAMES])
    if several and (stated := differing(table, [rows.places(group) for group in several], own)):
        missing = [name for name in ("lr", "params", "tokens", "steps") if name not in places]  # asked for themselves
        made = [name for name in stated if not names_field(word_of(name), missing)]
        table = with_values(table, made, seed=places.get("seed"))
        rows, several = _equal_rows(table, places, options)
    free, known = _free(table, places, options)
    answered = set(map(table.columns.index, _answered(table, options)))
    losses = rows.cells(places["loss"]).made(_loss).floats() if "loss" in places else np.empty(0)
    unknown = [place for place in free if place not in known]
    found = [place for place in unknown if _may_be_setting(table.columns[place], rows, place, several)]
    found += [place for place in unknown if place not in found and _has_own_rates(table, place, rows, places)]
    of_data = {places[name] for name in ("data",) if name in places} - answered
    found += [at for at in (*free, *of_data) if at not in (*found, *known) and _says_which_data(table, at)]
    rest = [place for place in free if place not in found and place not in known]
    found += [
        place for place in rest if "loss" in places and _moves_loss(table.columns[place], rows, place, several, losses)
    ]
    questions: list[Question] = []
    alike = not (found or options.kind or options.pool or any(map(is_further_input, table.columns)))
    if alike and "loss" in places and (asked := _unlike_seeds(table, places, several, losses)):
        questions.append(asked)
    tied = {
        place: to for place in free if place not in (*found, *known) and (to := _tied_to(table, place, rows, places))
    }
    while found:
        first, rest = found[0], found[1:]
        also = [place for place in rest if _goes_with(rows, first, place)]
        found = [place for place in rest if place not in also]
        questions.append(_question(table, first, also, rows, several))
    return questions + [_question(table, place, (), rows, several, tied=to) for place, to in tied.items()]


def _free(table: Table, places: Mapping[str, int], options: IngestOptions) -> tuple[list[int], list[int]]:
    """Columns that are neither fields nor answered, and those of them that are known as settings."""
    taken = {*places.values(), *map(table.columns.index, _answered(table, options))}
    free = [place for place in range(len(table.columns)) if place not in taken]
    return free, [place for place in free if _is_known_setting(table.columns[place])]


def _equal_rows(table: Table, places: Mapping[str, int], options: IngestOptions) -> tuple[_Finished, Several]:
    """Rows that may become runs, and the groups of several among them of which all known settings are equal."""
    rows = _Finished(table, places)
    key = [places[name] for name in (*_KEY, *_FACTS) if name in places] + _free(table, places, options)[1]
    key += [table.columns.index(column) for column in options.split]
    if "tokens" not in places and "steps" in places:
        key.append(places["steps"])
    return rows, members(groups([rows.texts(place) for place in key], len(rows))[0], 2)


def _answered(table: Table, options: IngestOptions) -> list[str]:
    given = [*options.split, *options.pool, *options.only]
    given += [column for column, name in options.column_map.items() if name == "extra"]
    return [column for column in given if column in table.columns]


def _is_known_setting(column: str) -> bool:
    return is_factor(column) and not column.startswith(VALUE_OF)  # those are not stored before a person names them


class _Finished:
    """Rows that may become runs, each once."""

    def __init__(self, table: Table, places: Mapping[str, int]) -> None:
        self._table, self._texts = table, dict[int, Column]()
        once = np.ones(len(table.rows), dtype=bool)
        once[list(repeated(table.packed.columns, len(table.rows)))] = False
        if "status" in places:
            status = table.cells(places["status"]).made(_text)
            once &= status.spread([text.lower() in _ENDED for text in status.levels], bool)
        self._rows = None if once.all() else np.flatnonzero(once)

    def __len__(self) -> int:
        return len(self._table.rows) if self._rows is None else len(self._rows)

    def places(self, rows: Places) -> Places:
        """Where some of them stand in the table."""
        return rows if self._rows is None else self._rows[rows]

    def cells(self, place: int) -> Column:
        cells = self._table.cells(place)
        return cells if self._rows is None else Column.of(cells.take(self._rows))

    def texts(self, place: int) -> Column:
        """One column as texts that are equal where cells mean the same."""
        if place not in self._texts:
            self._texts[place] = self.cells(place).made(_text)
        return self._texts[place]


Several = Sequence[Places]  # rows of equal settings
Numbers = npt.NDArray[np.float64]


def _may_be_setting(column: str, rows: _Finished, place: int, several: Several) -> bool:
    """Whether a column differs among equal runs as a choice does, and neither name nor values say a record."""
    column, texts = word_of(column), rows.texts(place)
    levels = [texts.different(group) for group in several]
    most = max(map(len, levels), default=0)
    if most < 2 or (is_known_record(column) and not is_grid(column, levels)):
        return False
    filled = set(texts.levels) - {""}
    if all(is_mark(text) for text in filled):
        return False
    numeric = all(is_number(text) for text in filled)
    if len(filled) >= len(texts) > 1 and (not numeric or len(several) > 1):
        # Different in every row: a name or a measurement, unless all of the rows are one comparison.
        return len(several) == 1 and len(several[0]) == len(texts) and not is_record(column) and not numeric
    if numeric and _measured(filled, most, levels):
        return False
    if len(filled) > 2 * most and len(several) > 1 and not _come_back(levels):
        return False
    return not is_record(column) or _come_back(levels)


def _has_own_rates(table: Table, place: int, rows: _Finished, places: Mapping[str, int]) -> bool:
    """Whether each level of a column was swept over learning rates of its own at scales that several levels share.

    As a second optimizer is, whose best rate is another: its runs are nobody's seeds, and no rate of the other's sweep.
    """
    if "lr" not in places or is_known_record(table.columns[place]):
        return False
    levels = set(rows.texts(place).levels)
    if not 2 <= len(levels) <= _MOST_OF_A_KIND:
        return False
    if all(is_mark(text) for text in levels - {""}):
        return False
    scale = [places[name] for name in ("params", "tokens", "steps") if name in places]
    columns = [rows.texts(at) for at in (*scale, place, places["lr"])]
    swept: dict[tuple[str, ...], dict[str, set[str]]] = {}
    for first in np.unique(groups(columns, len(rows))[0], return_index=True)[1].tolist():
        *of, level, rate = (texts[first] for texts in columns)
        swept.setdefault(tuple(of), {}).setdefault(level, set()).add(rate)
    shared = [rates for rates in swept.values() if len(rates) > 1]
    apart = all(len(set().union(*rates.values())) == sum(map(len, rates.values())) for rates in shared)
    if not shared or not apart:
        return False
    fewest = min(len(each) for rates in shared for each in rates.values())
    return fewest >= _A_SWEEP or (
        fewest >= 2 and len(shared) >= 2 and _are_two_grids(shared, _rates(table, places["lr"]))
    )


def _rates(table: Table, place: int) -> dict[str, float]:
    """The numbers of a column by their texts, however they are written: `1/1000`, `0,001`."""
    view = View(table)
    both = zip(view.cells(place), view.numbers(place), strict=True)
    return {_text(cell): value for cell, value in both if value is not None}


def _are_two_grids(swept: Sequence[Mapping[str, set[str]]], numbers: Mapping[str, float]) -> bool:
    """Whether each level has the same rates at all scales, and they are not the lower and the upper part of one grid.

    Of two rates each: one sweep has two such halves by any column that goes with the rate.
    """
    first = swept[0]
    if any(rates != first for rates in swept[1:]):
        return False
    rates = sorted((numbers[rate], level) for level, own in first.items() for rate in own if rate in numbers)
    steps = [b / a for (a, _), (b, _) in pairwise(rates) if a > 0]
    changes = sum(one != other for (_, one), (_, other) in pairwise(rates))
    return bool(steps) and (changes >= len(first) or max(steps) > _EVEN * min(steps))


def _tied_to(table: Table, place: int, rows: _Finished, places: Mapping[str, int]) -> str:
    """The column of batch, tokens or size of which each value has a level of its own of this column of words, or "".

    As an architecture has that was trained with a batch of its own; not where the words only spell the number.
    """
    column = table.columns[place]
    words = set(normal(column).split("_"))
    if column.startswith(WORDS_OF) or is_name_of_runs(column) or section(column) == "result" or kind_of(column):
        return ""
    if not 2 <= len(table.levels(place)) <= MOST_LEVELS:
        return ""
    known = any(str(cell).strip().lower() in _OF_RUNS for cell in table.levels(place))  # whatever the column is called
    record = is_record(column) or is_known_record(column)
    if not known and (not words.isdisjoint(_OF_SIZES) or (record and not words <= _OF_ANYTHING)):
        return ""
    texts = rows.texts(place)
    counts = Counter[str]()
    for text, count in zip(texts.levels, texts.counts(), strict=True):
        counts[text] += count
    if len(counts) < 2 or "" in counts or min(counts.values()) < 2 or (not known and _spell_sizes(list(counts))):
        return ""
    size = places.get("params")
    for at in (places[name] for name in _SCALES if name in places):
        if size not in (None, at) and _is_tied(rows, size, at, None):
            continue  # it follows the size, of which was asked
        of = [None] if size in (None, at) else [None, size]
        if any(_is_tied(rows, place, at, each, several=True) for each in of):
            return table.columns[at]
    return ""


def _is_tied(rows: _Finished, place: int, to: int, size: int | None, *, several: bool = False) -> bool:
    """Whether each level of a column has a value of another to itself, or `several`: in all rows, or at each size.

    Each of several in several rows: a column that tells one run from the next goes with anything.
    """
    columns = [rows.texts(place), rows.texts(to), *([] if size is None else [rows.texts(size)])]
    of, count = groups(columns, len(rows))
    values: dict[str, dict[str, set[str]]] = {}
    for first in np.unique(of, return_index=True)[1].tolist():
        level, value, *scale = (texts[first] for texts in columns)
        values.setdefault("".join(scale), {}).setdefault(level, set()).add(value)
    one = all(len(each) == 1 for here in values.values() for each in here.values())
    apart = all(len(set().union(*here.values())) == sum(map(len, here.values())) for here in values.values())
    return (one or (several and 2 * count <= len(rows))) and apart and any(len(here) > 1 for here in values.values())


def _spell_sizes(levels: Sequence[str]) -> bool:
    """Whether levels are numbers, words with a number or words of size, or marks of time and place."""
    if all(any(map(str.isdigit, level)) or is_number(level) or is_mark(level) for level in levels):
        return True
    return all(not _WORDS_OF_SIZE.isdisjoint(re.split(r"[^a-z]+", level.lower())) for level in levels)


def _says_which_data(table: Table, place: int) -> bool:
    """Whether a column says of each row of which data, or of which weights, its loss is, and has several."""
    levels = [
        *islice(dict.fromkeys(cell for cell in table.cells(place).levels if not is_missing(cell)), MOST_LEVELS + 1)
    ]
    if not 2 <= len(levels) <= MOST_LEVELS:
        return False
    weights = all(str(cell).strip().lower() in _OF_WEIGHTS for cell in levels)
    return weights or {data_of(str(cell)) for cell in levels} == {"training", "validation"}


def _moves_loss(column: str, rows: _Finished, place: int, several: Several, loss: Numbers) -> bool:
    """Whether a column of words parts equal runs into better and worse ones, everywhere: then it is no record.

    As a branch, a project or a note does that names what was changed.
    """
    if section(column) == "result" or kind_of(column) or names_field(column, ("seed", "status", "completed")):
        return False
    texts, levels = rows.texts(place) if several else Column([]), set[str]()
    for group in several:
        levels |= texts.different(group)
        if len(levels) > MOST_LEVELS:
            return False
    if len(levels) < 2 or all(is_number(level) for level in levels if level):
        return False
    one, other = sorted(levels)[:2]
    steps: list[float] = []
    for group in several:
        sides = [[float(loss[at]) for at in group if texts[at] == level] for level in (one, other)]
        if all(sides) and all(math.isfinite(value) for side in sides for value in side):
            steps.append(fmean(sides[1]) - fmean(sides[0]))
    if len(steps) < _FEWEST_PAIRS or not (all(step > 0 for step in steps) or all(step < 0 for step in steps)):
        return False
    return abs(fmean(steps)) > _TIMES_ERROR * stdev(steps) / math.sqrt(len(steps))


def _unlike_seeds(table: Table, places: Mapping[str, int], several: Several, loss: Numbers) -> Question | None:
    """Asked where runs of which all settings are equal differ far more in loss than seeds do."""
    column = table.columns[places["loss"]]
    if kind_of(column) not in ("nats", "bits", "bits_per_byte") or "seed" in places:
        return None
    spreads = []
    for group in several:
        losses = sorted(value for value in loss[group].tolist() if 0 < value < math.inf)
        if len(losses) > 1:
            spreads.append(losses[-1] / losses[0] - 1)
    if len(spreads) < _FEWEST_PAIRS - 1 or (middle := sorted(spreads)[len(spreads) // 2]) < _MOST_BETWEEN_SEEDS:
        return None
    kind = "runs" if "lr" in places else "losses"
    found = finding("ingest.unlike_seeds", column=column, settings=len(spreads), percent=100 * middle)
    choices: tuple[Choice, ...] = ((("map", "COLUMN=FIELD"),), (("split", "COLUMN"),), (("kind", kind),))
    return Question(found=found, columns=(column,), choices=choices)


def _loss(cell: Cell) -> float:
    return number(cell) if is_number(cell) else math.nan


def _measured(distinct: set[str], most: int, levels: Sequence[set[str]]) -> bool:
    """Whether numbers are as results are: they do not come back, and have more digits than people choose."""
    if len(distinct) > 2 * most and len(levels) > 1:
        return True
    digits = sorted(len(re.sub(r"[eE].*$|[^0-9]", "", text).strip("0")) for text in distinct)
    several = len(levels) > 1 and _come_back(levels) and len(distinct) <= most
    return digits[len(digits) // 2] > _MANY_DIGITS and not several


def _come_back(levels: Sequence[set[str]]) -> bool:
    """Whether the same levels stand in more than one group of equal runs, or there is one group alone."""
    if len(levels) == 1:
        return True
    seen: dict[str, int] = {}
    for each in levels:
        for level in each:
            seen[level] = seen.get(level, 0) + 1
    return sum(count > 1 for count in seen.values()) >= 2


def _goes_with(rows: _Finished, one: int, other: int) -> bool:
    alone, both = ([rows.texts(at) for at in places] for places in ((one,), (one, other)))
    return groups(alone, len(rows))[1] == groups(both, len(rows))[1]


def _question(
    table: Table, place: int, also: Sequence[int], rows: _Finished, several: Several, *, tied: str = ""
) -> Question:
    column = table.columns[place]
    texts = rows.texts(place)
    levels = sorted(set(texts.levels))
    apart = sum(len(texts.different(group)) > 1 for group in several)
    names = [column, *(table.columns[other] for other in also)]
    shown = [level or "empty" for level in levels]
    found = finding("ingest.settings_or_seeds", columns=names, levels=shown, groups=apart)
    if tied:
        found = finding("ingest.setting_tied", column=column, levels=shown, to=tied)
    choices: list[Choice] = [(("split", column),), tuple(("pool", name) for name in names)]
    if column.startswith(WORDS_OF) and OPTIMIZERS.issuperset(levels):
        choices[0] = (("map", f"{column}=optimizer"),)
    choices += [(("only", f"{column}={level}"),) for level in levels[:MOST_LEVELS] if level]
    return Question(found=found, columns=tuple(names), choices=tuple(choices), safe=0)


@lru_cache(maxsize=1 << 16, typed=True)
def _text(cell: Cell) -> str:
    if is_missing(cell):
        return ""
    text = str(cell).strip()
    if is_number(cell):
        value = float(text)
        return f"{value:.12g}" if math.isfinite(value) else ""
    return "" if text.lower().lstrip("+-") in ("nan", "inf", "infinity") else text
