"""Which rows are no runs that came to their end: stopped on the way, failed by a flag or a code, or sums of others."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from statistics import fmean
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from lawfit.factors import is_factor, normal, spellings
from lawfit.ingest.column_map import ColumnMap
from lawfit.ingest.names import NAMES
from lawfit.ingest.numbers import CellError, flag, is_missing, is_number
from lawfit.ingest.progress import Reasons, behind, progressed, where
from lawfit.ingest.table import Cell, Table
from lawfit.ingest.view import View, are_words
from lawfit.packed import Column

_STOPPED_BY: Final = frozenset(
    {
        *("crashed", "failed", "is_crashed", "has_failed", "interrupted", "aborted", "killed", "early_stopped"),
        *("stopped_early", "early_stop", "is_early_stopped", "truncated", "timed_out", "is_partial", "partial"),
        *("oom", "incomplete", "is_incomplete", "unfinished", "exclude", "excluded", "outlier", "discard", "invalid"),
    }
)
_GOOD: Final = frozenset(
    {
        *("valid", "is_valid", "ok", "use", "usable", "keep", "include", "included"),
        *("converged", "is_converged", "has_converged", "stable", "is_stable"),
    }
)
# Words that say the same in a longer name, and those that may stand beside them: `was_cut_short`, `run ok?`.
_STOPPED_WORDS: Final = frozenset(
    {
        *("crashed", "failed", "failure", "interrupted", "aborted", "killed", "truncated", "terminated", "cut", "oom"),
        *("timeout", "incomplete", "unfinished", "exclude", "excluded", "ignore", "ignored", "discard", "discarded"),
        *("invalid", "corrupt", "corrupted", "broken", "exception", "traceback"),
    }
)
_GOOD_WORDS: Final = frozenset({"valid", "ok", "good", "usable", "keep", "include", "included", "converged", "stable"})
_BESIDE: Final = frozenset(
    {
        *("is", "was", "has", "did", "be", "to", "the", "run", "job", "early", "short", "out", "limit", "time", "hit"),
        *("walltime", "wall", "by", "reason", "why", "of", "error", "message"),
    }
)
_EXIT: Final = frozenset(
    {"status_code", "exit", "rc", "exit_code", "exitcode", "exit_status", "return_code", "returncode"}
)
_WELL: Final = frozenset({"0", "0.0", "ok", "success", "succeeded", "finished", "completed", "done", "none", ""})
_SUMMARY: Final = frozenset(
    {
        *(
            "mean",
            "average",
            "avg",
            "total",
            "sum",
            "median",
            "std",
            "stdev",
            "min",
            "max",
            "best",
            "overall",
            "all",
            "σ",
            "winner",
        ),
        *("mittelwert", "durchschnitt", "summe", "gesamt", "bester", "moyenne", "somme", "meilleur", "media", "mejor"),
        *("平均", "合计", "总计", "最佳"),
    }
)
FINISHED: Final = frozenset(
    {
        *("finished", "completed", "complete", "success", "succeeded", "ok", "done", "fertig", "beendet"),
        *("abgeschlossen", "terminé", "terminée", "fini", "terminado", "完成"),
    }
)
_NOT_FINISHED: Final = frozenset(
    {
        *(
            "failed",
            "fail",
            "failure",
            "crashed",
            "killed",
            "running",
            "timeout",
            "timed out",
            "preempted",
            "cancelled",
        ),
        *("canceled", "aborted", "interrupted", "pending", "queued", "pruned", "error", "out_of_memory", "node_fail"),
        *("oom", "stopped", "incomplete", "abgebrochen", "läuft", "interrompu", "en cours"),
    }
)
_NOTES: Final = frozenset(
    {
        *("note", "notes", "comment", "comments", "remark", "remarks", "bemerkung", "kommentar"),
        *("result", "results", "outcome", "verdict", "observation", "observations"),
    }
)
_TOLD: Final = re.compile(
    r"\b(crash(ed|es)?|killed|aborted|interrupted|incomplete|unfinished|oom|still running"
    r"|(stopped|preempted|ended) (early|at)|died|only \d+\s?%|\d+\s?% done"
    r"|abgebrochen)\b",
    re.IGNORECASE,
)
_NOT_DONE: Final = re.compile(r"\b(did(n't| not) (finish|complete)|(not|never) (finished|completed))\b", re.IGNORECASE)
_TAKEN_UP: Final = re.compile(r"\b(resum\w+|restart\w+|rerun)\b", re.IGNORECASE)
_TOLD_DIVERGED: Final = re.compile(r"\b(diverged|divergence|blew up|exploded|divergiert|went to nan)\b", re.IGNORECASE)
_DID_NOT: Final = re.compile(
    r"\b(no|not|never|recover\w*|restart\w*|resum\w*|rerun|fixed|if|until|before)\b", re.IGNORECASE
)
_DISOWNED: Final = re.compile(
    r"\b(do(n't| not) use|not to be used|ignore (this|it|run|me)|discard|invalid|unusable|broken|wrong \w+)\b",
    re.IGNORECASE,
)
_WENT_ON: Final = re.compile(r"\b(resum\w+|restart\w+|finish\w+|complet\w+|fixed|no|not|rerun)\b", re.IGNORECASE)
_OF_ONE_SEED: Final = frozenset({"seed", "loss", "run_id", "status", "completed", "diverged"})
_FEWEST_ROWS: Final = 4  # for the last one to be the mean of the others
_ROUNDED: Final = 1e-3
_COPIED: Final = 1e-9
_LONGEST_BLOCK: Final = 200  # rows of which one below is the mean
Numbers = npt.NDArray[np.float64]
_MADE_OF_OTHERS: Final[Mapping[str, tuple[Callable[[Numbers], Any], float]]] = {
    "mean": (np.mean, _ROUNDED),
    "sum": (np.sum, _ROUNDED),
    "median": (np.median, _COPIED),
    "lowest": (np.min, _COPIED),
}
_TICKS: Final = frozenset("✓✔✅☑√")
_CROSSES: Final = frozenset("✗✘❌✖☒×")


class Endings:
    """What the columns of one table say of how its runs ended."""

    def __init__(self, table: Table, columns: ColumnMap, left: Collection[str] = ()) -> None:
        # `left` are columns that say nothing, as a person says
        self._table, self._columns, self._view = table, columns, View(table)
        self.of_finished: list[tuple[str, Reasons]] = []  # why a loss is not that of its token count, by column
        self.of_any: list[tuple[str, Reasons]] = []  # why a row is no run at all
        self.diverged: list[int] = []  # rows of which a note says that they did
        if table.exact:
            return
        taken = {*columns.places.values(), *(at for at, name in enumerate(table.columns) if name in left)}
        for place, name in enumerate(table.columns):
            if place not in taken and (reasons := self._reasons_of(place, name)):
                self.of_finished.append((name, reasons))
        for place, name in enumerate(table.columns):
            if place not in taken and spellings(name)[-1] in _NOTES:
                self.diverged += where(table.cells(place), _told_diverged)
        for place in self._name_places():
            self.of_any.append((table.columns[place], _summaries(table, place)))
        ends = [(at, said) for at in sorted({0, len(table.rows) - 1}) if (said := self._sums_up(at)) is not None]
        for at, said in [(at, "mean") for at in self._means_of_blocks()] or ends:
            reason = f"the row is the {said} of those {'above' if at else 'below'} it, in every column, and no run"
            self.of_any.append((table.columns[columns.places["loss"]], {at: reason}))
        if means := self._means_of_seeds():
            reason = "the row has no seed and the mean loss of those with one that equal it in all else: it is no run"
            self.of_any.append((table.columns[columns.places["seed"]], dict.fromkeys(means, reason)))

    def _means_of_blocks(self) -> list[int]:
        """Rows without a name that are each the mean of those above, back to the one before: all rows in such blocks.

        Below the last block may stand one row more, the mean of everything.
        """
        found: list[int] = []
        sums: list[float] = []
        block: list[tuple[float, ...]] = []
        for at, own in enumerate(zip(*self._numbers(), strict=True)):
            if None in own:
                return []
            made = cast("tuple[float, ...]", own)
            varying = [k for k in range(len(made)) if any(row[k] != block[0][k] for row in block)]
            if len(varying) >= 2 and varying[-1] == len(made) - 1:  # the loss among them
                means = [each / len(block) for each in sums]
                if all(math.isclose(a, b, rel_tol=_ROUNDED) for a, b in zip(made, means, strict=True)):
                    found.append(at)
                    sums, block = [], []
                    continue
            block.append(made)
            sums = [a + b for a, b in zip(sums or [0.0] * len(made), made, strict=True)]
            if len(block) > _LONGEST_BLOCK:
                return []
        if len(found) < 2 or len(block) > 1:
            return []
        return [*found, *([len(self._table.rows) - 1] if block else [])]

    def _means_of_seeds(self) -> list[int]:
        """Rows without a seed, where each has the mean loss of those with one that equal it in all else."""
        places, table = self._columns.places, self._table
        if not {"seed", "loss"} <= places.keys() or not any(map(is_missing, table.levels(places["seed"]))):
            return []
        same = [at for name, at in places.items() if name not in _OF_ONE_SEED]
        same += [at for at, name in enumerate(table.columns) if is_factor(name) and at not in same]
        losses = self._view.numbers(places["loss"])
        unseeded: dict[tuple[Cell, ...], int] = {}
        seeded: dict[tuple[Cell, ...], list[float]] = {}
        for at, key in enumerate(zip(*map(table.cells, same), strict=True)):
            loss = losses[at]
            if not is_missing(table.cells(places["seed"])[at]):
                seeded.setdefault(key, []).extend([] if loss is None else [loss])
            elif unseeded.setdefault(key, at) != at:
                return []
        written = [str(table.cells(places["loss"])[at]) for at in unseeded.values()]
        digits = max((len(text.partition(".")[2]) for text in written), default=0)
        for key, at in unseeded.items():
            loss, of = losses[at], seeded.get(key, [])
            if loss is None or len(set(of)) < 2 or abs(loss - fmean(of)) > max(0.5001 * 10.0**-digits, _COPIED * loss):
                return []
        return list(unseeded.values())

    def _numbers(self) -> list[Column]:
        """Columns of settings, and of the loss as the last; none where no column is one of losses."""
        names = [name for name in ("lr", "params", "tokens", "batch_tokens", "loss") if name in self._columns.places]
        if "loss" not in names:
            return []
        return [self._view.numbers(self._columns.places[name]) for name in names]

    def _sums_up(self, at: int) -> str | None:
        """What a row without a name has of the others in each column that varies: their mean, sum, ..., or nothing."""
        if len(self._table.rows) <= _FEWEST_ROWS:
            return None
        if not (columns := self._numbers()):
            return None
        own = [column[at] for column in columns]
        rest = [np.delete(column.floats(), at) for column in columns]
        varying: list[tuple[float, Numbers]] = []
        for value, column in zip(own, rest, strict=True):
            others = column[~np.isnan(column)]
            if value is None or not len(others):
                return None
            if (others != others[0]).any():
                varying.append((value, others))
        loss = own[-1]
        if len(varying) < 2 or (rest[-1] == rest[-1][0]).all():
            return None
        if np.all([column == value for value, column in zip(own, rest, strict=True)], axis=0).any():
            return None  # the same run again is another matter
        for said, (made, tolerance) in _MADE_OF_OTHERS.items():
            if tolerance == _COPIED and loss == round(loss, 2):
                continue  # of so few digits, the losses of two runs are one by chance
            if all(math.isclose(value, made(others), rel_tol=tolerance) for value, others in varying):
                return said
        return None

    def _reasons_of(self, place: int, name: str) -> Reasons:
        plain = spellings(name)[-1]
        words = set(plain.split("_"))
        limit = {"limit", "hit"} <= words or {"time", "out"} <= words
        stopped = (words & _STOPPED_WORDS or limit) and words <= _STOPPED_WORDS | _BESIDE
        if plain in _STOPPED_BY or stopped:
            return _flagged(self._table, place, name, stops=True)
        if plain in NAMES["completed"] and "completed" not in self._columns.places:
            return _flagged(self._table, place, name, stops=False) or progressed(self._table, place)
        if plain in _GOOD or (words & _GOOD_WORDS and words <= _GOOD_WORDS | _BESIDE):
            return _flagged(self._table, place, name, stops=False)
        if plain in _EXIT:
            return where(self._table.cells(place), _exited)
        if plain in _NOTES:
            return where(self._table.cells(place), _noted)
        return behind(self._view, self._columns, place) or _stated(self._table, place)

    def _name_places(self) -> list[int]:
        named = [at for at, name in enumerate(self._table.columns) if normal(name) in ("name", "run", "run_name", "id")]
        return sorted({*named, *(at for at in [0] if self._table.columns)})


def _flagged(table: Table, place: int, name: str, *, stops: bool) -> Reasons:
    """What `stops` a run, or that it did not end, in a column where some rows say the contrary."""
    said = _flags(table, place, stops=stops)
    if set(said.values()) != {True, False}:
        return {}

    def reason(cell: Cell) -> str:
        shown = "empty" if is_missing(cell) else cell
        return f"'{name}' is {shown}, so its loss is not that of its token count" if said.get(cell) is stops else ""

    return where(table.cells(place), reason)


def _flags(table: Table, place: int, *, stops: bool) -> dict[Cell, bool]:
    """What each cell answers: yes, no or marks; a row without the mark that others have is of the other kind."""
    said = {cell: str(cell).strip().lower() for cell in table.levels(place) if not is_missing(cell)}
    marks = set(said.values())
    if marks and marks <= _TICKS | _CROSSES | {"x"}:
        ticked = _TICKS if marks & (_TICKS | _CROSSES) else {"x"}
        found = {cell: text in ticked for cell, text in said.items()}
        if len(set(found.values())) == 1 and (True in found.values() or not stops):
            found |= {cell: not next(iter(found.values())) for cell in table.levels(place) if is_missing(cell)}
        return found
    try:
        return {cell: flag(cell) for cell in said}
    except CellError:
        if stops and len(said) < len(table.levels(place)) and not any(map(is_number, said)):
            return {cell: cell in said for cell in table.levels(place)}  # why, where it was stopped
        return {}


def _stated(table: Table, place: int) -> Reasons:
    """A column of nothing but words of how runs ended, whatever its name."""
    levels: set[str] = set()
    for cell in table.cells(place).levels:
        if not is_missing(cell):
            levels.add(str(cell).strip().lower())
            if len(levels) > len(FINISHED | _NOT_FINISHED):
                return {}
    if not levels <= FINISHED | _NOT_FINISHED or levels.isdisjoint(FINISHED) or levels.isdisjoint(_NOT_FINISHED):
        return {}

    def reason(cell: Cell) -> str:
        said = "" if is_missing(cell) else str(cell).strip()
        return f"it says '{said}', not finished" if said.lower() in _NOT_FINISHED else ""

    return where(table.cells(place), reason)


def _noted(cell: Cell) -> str:
    """A note that the run was stopped, and none that it went on."""
    said = cell if isinstance(cell, str) else ""
    if _DISOWNED.search(said):
        return f"'{said.strip()[:60]}' says that the run is not to be used"
    stopped = _TOLD.search(said) and not _WENT_ON.search(said)
    if stopped or (_NOT_DONE.search(said) and not _TAKEN_UP.search(said)):
        return f"'{said.strip()[:60]}' says that the run was stopped: its loss is not that of its token count"
    return ""


def _told_diverged(cell: Cell) -> str:
    said = str(cell)
    return said if _TOLD_DIVERGED.search(said) and not _DID_NOT.search(said) else ""


def _exited(cell: Cell) -> str:
    said = "" if is_missing(cell) else str(cell).strip()
    return "" if said.lower() in _WELL else f"the run ended with {said}, not with success"


def _summaries(table: Table, place: int) -> Reasons:
    """Rows that are named after what was done to the others."""
    if len(table.rows) <= 2:
        return {}
    cells = table.cells(place)
    if are_words(table, place) and _SUMMARY.isdisjoint(map(str.lower, cells.levels)):
        return {}
    found = [c for c in cells.levels if isinstance(c, str) and c.strip().strip(":").lower() in _SUMMARY]
    once = {cell for cell in found if table.levels(place)[cell] == 1}
    return where(cells, lambda c: f"'{c}' sums up other rows and is no run" if c in once else "") if once else {}
