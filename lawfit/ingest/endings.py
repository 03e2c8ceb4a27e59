"""Which rows are no runs that came to their end: stopped on the way, failed by a flag or a code, or sums of others."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import Final, cast

from lawfit.factors import is_factor, normal, spellings
from lawfit.ingest.column_map import ColumnMap
from lawfit.ingest.headers import PLAIN, Unit
from lawfit.ingest.names import NAMES
from lawfit.ingest.numbers import CellError, flag, is_missing, is_number, number
from lawfit.ingest.table import Cell, Table
from lawfit.ingest.view import View, pairs

STOPPED: Final = 0.98  # share of its steps or tokens that a run must have come to
STEPS_DONE: Final = frozenset(
    {"step", "global_step", "current_step", "last_step", "steps_done", "completed_steps", "iteration"}
)
SEEN: Final = frozenset({"seen", "trained", "consumed", "processed", "actual", "counted", "done"})
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
_PROGRESS: Final = re.compile(
    r"(.*_)?(progress|completion|(done|completed?|finished|trained)(?=_(pct|percent))|(percent|pct|fraction|share)_(done|complete|completed|trained))(_(pct|percent|fraction))?"
)
_BARE_PROGRESS: Final = frozenset({"percent", "pct", "trained"})  # where most runs came to all of it
_BUDGET: Final = frozenset({"budget", "target", "max", "planned", "plan", "goal", "scheduled", "requested"})
_EXIT: Final = frozenset({"exit_code", "exitcode", "exit_status", "return_code", "returncode"})
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
    r"\b(crash(ed|es)?|killed|aborted|interrupted|incomplete|unfinished|oom|still running|stopped (early|at)"
    r"|died|only \d+\s?%|\d+\s?% done"
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
_MADE_OF_OTHERS: Final[Mapping[str, tuple[Callable[[list[float]], float], float]]] = {
    "mean": (fmean, _ROUNDED),
    "sum": (math.fsum, _ROUNDED),
    "median": (median, _COPIED),
    "lowest": (min, _COPIED),
}
_TICKS: Final = frozenset("✓✔✅☑√")
_CROSSES: Final = frozenset("✗✘❌✖☒×")
Check = Callable[[tuple[Cell, ...]], str]  # the reason why a row is left out; "" where there is none


class Endings:
    """What the columns of one table say of how its runs ended."""

    def __init__(self, table: Table, columns: ColumnMap) -> None:
        self._table, self._columns, self._view = table, columns, View(table)
        self._checks: list[tuple[str, Check]] = []
        self._summaries: list[tuple[str, Check]] = []
        self._notes: list[int] = []
        if table.exact:
            return
        taken = set(columns.places.values())
        for place, name in enumerate(table.columns):
            if place not in taken and (check := self._check_of(place, name)):
                self._checks.append((name, check))
        for place, name in enumerate(table.columns):
            if place not in taken and spellings(name)[-1] in _NOTES:
                self._notes += [place] if any(map(_TOLD_DIVERGED.search, map(str, table.levels(place)))) else []
        for place in self._name_places():
            self._summaries.append((table.columns[place], _summary(table, place)))
        ends = [(at, said) for at in sorted({0, len(table.rows) - 1}) if (said := self._sums_up(at)) is not None]
        for at, said in [(at, "mean") for at in self._means_of_blocks()] or ends:
            check = _this(table.rows[at][1], said, "above" if at else "below")
            self._summaries.append((table.columns[columns.places["loss"]], check))

        if means := self._means_of_seeds():
            self._summaries.append((table.columns[columns.places["seed"]], _each_mean(means)))

    def of_finished(self, cells: tuple[Cell, ...]) -> tuple[str, str] | None:
        """Column and reason why the loss of a row is not that of its token count."""
        return _first(self._checks, cells)

    def diverged(self, cells: tuple[Cell, ...]) -> bool:
        """Whether a note says that the run diverged."""
        said = [str(cells[place]) for place in self._notes]
        return any(_TOLD_DIVERGED.search(text) and not _DID_NOT.search(text) for text in said)

    def of_any(self, cells: tuple[Cell, ...]) -> tuple[str, str] | None:
        """Column and reason why a row is no run at all."""
        return _first(self._summaries, cells)

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

    def _means_of_seeds(self) -> frozenset[tuple[Cell, ...]]:
        """Rows without a seed, where each has the mean loss of those with one that equal it in all else."""
        places, table = self._columns.places, self._table
        if not {"seed", "loss"} <= places.keys() or not any(map(is_missing, table.levels(places["seed"]))):
            return frozenset()
        same = [at for name, at in places.items() if name not in _OF_ONE_SEED]
        same += [at for at, name in enumerate(table.columns) if is_factor(name) and at not in same]
        losses = self._view.numbers(places["loss"])
        unseeded: dict[tuple[Cell, ...], tuple[tuple[Cell, ...], float | None]] = {}
        seeded: dict[tuple[Cell, ...], list[float]] = {}
        for (_, cells), loss in zip(table.rows, losses, strict=True):
            key = tuple(cells[at] for at in same)
            if not is_missing(cells[places["seed"]]):
                seeded.setdefault(key, []).extend([] if loss is None else [loss])
            elif unseeded.setdefault(key, (cells, loss))[0] is not cells:
                return frozenset()
        digits = max((len(str(cells[places["loss"]]).partition(".")[2]) for cells, _ in unseeded.values()), default=0)
        for key, (_, loss) in unseeded.items():
            of = seeded.get(key, [])
            if loss is None or len(set(of)) < 2 or abs(loss - fmean(of)) > 0.5001 * 10.0**-digits:
                return frozenset()
        return frozenset(cells for cells, _ in unseeded.values())

    def _numbers(self) -> list[Sequence[float | None]]:
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
        own = tuple(column[at] for column in columns)
        rest = [[*column[:at], *column[at + 1 :]] for column in columns]
        varying: list[tuple[float, list[float]]] = []
        for value, column in zip(own, rest, strict=True):
            others = [each for each in column if each is not None]
            if value is None or not others:
                return None
            if any(each != others[0] for each in others):
                varying.append((value, others))
        loss = own[-1]
        if len(varying) < 2 or loss is None or all(each == rest[-1][0] for each in rest[-1]):
            return None
        if own in zip(*rest, strict=True):
            return None  # the same run again is another matter
        for said, (made, tolerance) in _MADE_OF_OTHERS.items():
            if tolerance == _COPIED and loss == round(loss, 2):
                continue  # of so few digits, the losses of two runs are one by chance
            if all(math.isclose(value, made(others), rel_tol=tolerance) for value, others in varying):
                return said
        return None

    def _check_of(self, place: int, name: str) -> Check | None:
        plain = spellings(name)[-1]
        if plain in _STOPPED_BY:
            return _flagged(self._table, place, name, stops=True)
        if plain in NAMES["completed"] and "completed" not in self._columns.places:
            return _flagged(self._table, place, name, stops=False) or _progressed(self._table, place)
        if plain in _GOOD:
            return _flagged(self._table, place, name, stops=False)
        if plain in _EXIT:
            return _exited(place)
        if plain in _NOTES:
            return _noted(place)
        if _PROGRESS.fullmatch(normal(name)):
            return _progressed(self._table, place)
        if normal(name) in _BARE_PROGRESS:
            return _progressed(self._table, place, most=True)
        if plain in STEPS_DONE and "steps" in self._columns.places:
            return self._behind(place, "steps", "step")
        if (check := _stated(self._table, place)) is not None:
            return check
        words = set(normal(name).split("_"))
        if "tokens" in self._columns.places and words & {"token", "tokens", "tok", "toks"}:
            if words & _BUDGET:
                return self._short_of(place)
            if words & SEEN:
                return self._behind(place, "tokens", "token")
        return None

    def _short_of(self, planned: int) -> Check | None:
        """Tokens beside those that were planned, where most runs came to their end and others stopped anywhere."""
        place = self._columns.places["tokens"]
        for unit in {PLAIN, self._columns.units.get("tokens", PLAIN)}:
            both = pairs(self._view.numbers(place), self._view.numbers(planned, unit))
            short = [made for made, goal in both if made < STOPPED * goal]
            if not short or 2 * len(short) > len(both) or any(made > goal * (2 - STOPPED) for made, goal in both):
                continue
            if len({goal for _, goal in both}) == 1 and len(set(short)) < len(short):
                continue  # horizons below the longest one

            def check(cells: tuple[Cell, ...], unit: Unit = unit) -> str:
                if not (is_number(cells[place]) and is_number(cells[planned])):
                    return ""
                made, goal = number(cells[place]), unit.of(number(cells[planned]))
                stopped = made < STOPPED * goal
                return f"the run stands at token {made:g} of {goal:g}: its schedule did not end" if stopped else ""

            return check
        return None

    def _behind(self, place: int, field: str, what: str) -> Check | None:
        """What was done beside what was planned, where most runs came to their end."""
        planned = self._columns.places[field]
        unit = self._columns.units.get(field, PLAIN)
        both = pairs(self._view.numbers(place), self._view.numbers(planned, unit))
        if not both or not all(a <= b * (2 - STOPPED) for a, b in both) or not any(a >= b * STOPPED for a, b in both):
            return None

        def check(cells: tuple[Cell, ...]) -> str:
            if not (is_number(cells[place]) and is_number(cells[planned])):
                return ""
            done, goal = number(cells[place]), number(cells[planned])
            if done >= STOPPED * goal:
                return ""
            return f"the run stands at {what} {done:g} of {goal:g}, so its loss is not that of its token count"

        return check

    def _name_places(self) -> list[int]:
        named = [at for at, name in enumerate(self._table.columns) if normal(name) in ("name", "run", "run_name", "id")]
        return sorted({*named, *(at for at in [0] if self._table.columns)})


def _this(row: tuple[Cell, ...], said: str, others: str) -> Check:
    reason = f"the row is the {said} of those {others} it, in every column, and no run"
    return lambda cells: reason if cells is row else ""


def _each_mean(rows: frozenset[tuple[Cell, ...]]) -> Check:
    reason = "the row has no seed and the mean loss of those with one that equal it in all else: it is no run"
    return lambda cells: reason if cells in rows else ""


def _first(checks: list[tuple[str, Check]], cells: tuple[Cell, ...]) -> tuple[str, str] | None:
    for name, check in checks:
        if reason := check(cells):
            return name, reason
    return None


def _flagged(table: Table, place: int, name: str, *, stops: bool) -> Check | None:
    """What `stops` a run, or that it did not end, in a column where some rows say the contrary."""
    said = _flags(table, place, stops=stops)
    if set(said.values()) != {True, False}:
        return None

    def check(cells: tuple[Cell, ...]) -> str:
        stopped = said.get(cells[place]) is stops
        shown = "empty" if is_missing(cells[place]) else cells[place]
        return f"'{name}' is {shown}, so its loss is not that of its token count" if stopped else ""

    return check


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
        return {}


def _stated(table: Table, place: int) -> Check | None:
    """A column of nothing but words of how runs ended, whatever its name."""
    levels = {str(cell).strip().lower() for cell in table.levels(place) if not is_missing(cell)}
    if not levels <= FINISHED | _NOT_FINISHED or levels.isdisjoint(FINISHED) or levels.isdisjoint(_NOT_FINISHED):
        return None

    def check(cells: tuple[Cell, ...]) -> str:
        said = "" if is_missing(cells[place]) else str(cells[place]).strip()
        return f"it says '{said}', not finished" if said.lower() in _NOT_FINISHED else ""

    return check


def _noted(place: int) -> Check:
    """A note that the run was stopped, and none that it went on."""

    def check(cells: tuple[Cell, ...]) -> str:
        said = cells[place] if isinstance(cells[place], str) else ""
        if _DISOWNED.search(str(said)):
            return f"'{str(said).strip()[:60]}' says that the run is not to be used"
        stopped = _TOLD.search(str(said)) and not _WENT_ON.search(str(said))
        stopped = stopped or (_NOT_DONE.search(str(said)) and not _TAKEN_UP.search(str(said)))
        return (
            f"'{str(said).strip()[:60]}' says that the run was stopped: its loss is not that of its token count"
            if stopped
            else ""
        )

    return check


def _exited(place: int) -> Check | None:
    def check(cells: tuple[Cell, ...]) -> str:
        said = "" if is_missing(cells[place]) else str(cells[place]).strip()
        return "" if said.lower() in _WELL else f"the run ended with {said}, not with success"

    return check


def _progressed(table: Table, place: int, *, most: bool = False) -> Check | None:
    """Shares of one or of 100, where some runs (`most` of them) came to all of it."""
    shares = {cell: share for cell in table.levels(place) if (share := _share(cell)) is not None}
    whole = max(shares.values(), default=0.0)
    if whole not in (1.0, 100.0):
        return None
    if most and 2 * sum(table.levels(place)[cell] for cell, share in shares.items() if share == whole) < len(
        table.rows
    ):
        return None

    def check(cells: tuple[Cell, ...]) -> str:
        share = shares.get(cells[place])
        stopped = share is not None and share < STOPPED * whole
        return f"the run stands at {cells[place]}, so its loss is not that of its token count" if stopped else ""

    return check


def _share(cell: Cell) -> float | None:
    text = str(cell).strip().rstrip("%").strip()
    return None if isinstance(cell, bool) or not is_number(text) else number(text)


def _summary(table: Table, place: int) -> Check:
    """A row that is named after what was done to the others."""

    def check(cells: tuple[Cell, ...]) -> str:
        cell = cells[place]
        said = str(cell).strip().strip(":").lower() if isinstance(cell, str) else ""
        once = said in _SUMMARY and table.levels(place)[cell] == 1 and len(table.rows) > 2
        return f"'{cell}' sums up other rows and is no run" if once else ""

    return check
