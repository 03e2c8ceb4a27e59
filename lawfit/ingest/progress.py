"""How far runs came of what was planned for them: shares, and steps, passes or tokens that were done beside a plan."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from lawfit.factors import is_further_input, normal, spellings
from lawfit.findings import finding
from lawfit.ingest.column_map import ColumnMap
from lawfit.ingest.headers import PLAIN, Unit, bare_names
from lawfit.ingest.metrics import is_percent
from lawfit.ingest.names import rank_of
from lawfit.ingest.numbers import is_missing, is_number, number
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.questions import Question
from lawfit.ingest.table import Cell, Table
from lawfit.ingest.view import View, pairs, same
from lawfit.packed import Column, groups, members

UNFINISHED: Final = "ingest.unfinished_or_setting"
STOPPED: Final = 0.98  # share of its steps or tokens that a run must have come to
SEEN: Final = frozenset({"seen", "trained", "consumed", "processed", "actual", "counted", "done"})
_BUDGET: Final = frozenset({"budget", "target", "max", "planned", "plan", "goal", "scheduled", "requested"})
_DONE: Final = SEEN | {
    *("last", "final", "current", "completed", "complete", "finished", "reached", "run", "ran", "executed", "end"),
    *("stopped", "crashed", "failed", "died", "killed", "aborted", "far", "elapsed"),
}
_BESIDE: Final = frozenset(
    {
        *("global", "train", "trainer", "training", "optimizer", "at", "of", "the", "n", "num", "so", "in"),
        *("checkpoint", "ckpt", "eval"),
    }
)
_STEP: Final = frozenset({"step", "iter", "iteration", "update"})
_STEPS: Final = _STEP | {f"{word}s" for word in _STEP}
_PASS: Final = frozenset({"epoch", "pass"})
_PASSES: Final = frozenset({"epochs", "passes"})
_SHARES: Final = frozenset({"percent", "percentage", "pct", "frac", "fraction", "share", "ratio", "perc"})
_OF_A_RUN: Final = frozenset({"done", "complete", "completed", "finished", "progress", "progression", "completion"})
_OF_A_PLAN: Final = frozenset({"elapsed", "reached", "run", "schedule", "plan", "planned", "budget", "training"})
_BARE_SHARES: Final = frozenset({"frac", "fraction", "share", "part", "portion"})  # of what, only a person knows
_BARE_PERCENT: Final = frozenset({"percent", "pct", "trained"})  # where most runs came to all of it
_LEFT: Final = frozenset({"remaining", "left"})
_LENGTHS: Final = _STEPS | _PASSES | _PASS | {"tokens", "toks"}
_STOPPED_AT: Final = frozenset({"stopped", "crashed", "failed", "died", "killed", "aborted"})
_ENDS: Final = frozenset(
    {
        *("end_time", "ended", "ended_at", "finished_at", "completed_at", "finish_time", "datetime_complete"),
        *("end_date", "finished_on", "end"),
    }
)
_OF: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(?:/|of|von|de)\s*([0-9]+(?:\.[0-9]+)?)\s*")
Reasons = dict[int, str]  # why rows are left out


def behind(view: View, columns: ColumnMap, place: int) -> Reasons:
    """Rows of runs that a column shows to have stopped before their end; numbers of fields are plain already."""
    name = view.table.columns[place]
    if _is_progress(name):
        return progressed(view.table, place, most=set(normal(name).split("_")).isdisjoint(_OF_A_RUN))
    if normal(name) in _BARE_PERCENT:
        return progressed(view.table, place, most=True)
    words = set(normal(name).split("_"))
    if words & _LEFT and words & _LENGTHS and words <= _LEFT | _LENGTHS | _BESIDE | {"to", "go", "total"}:
        return _with_a_rest(view, place)
    if normal(name) in _ENDS:
        return _without_an_end(view, place)
    if says_steps_done(name):
        return _short_of_steps(view, columns, place)
    if _counts(name, _PASSES | _PASS, _PASS):
        return _short_of_passes(view, columns, place)
    field = any(rank_of(bare, "tokens") is not None for bare, _ in bare_names(name))
    if "tokens" in columns.places and (field or words & {"token", "tokens", "tok", "toks"}):
        made = view.numbers(columns.places["tokens"])
        if words & _BUDGET or (field and not words & SEEN):
            return _short_of_budget(view, columns, place, made)
        if words & SEEN:
            for unit in _units(columns, name):
                if found := _stopped(view.numbers(place, unit), made, "token"):
                    return found
    return {}


def progressed(table: Table, place: int, *, most: bool = False) -> Reasons:
    """Shares of one or of 100, where some runs (`most` of them) came to all of it; none need where a name says it."""
    shares = {cell: share for cell in table.levels(place) if (share := _share(cell)) is not None}
    whole = _whole(table.columns[place], shares, most=most)
    if whole is None or (most and not _are_most(table, place, shares, whole)):
        return {}

    def reason(cell: Cell) -> str:
        share = shares.get(cell)
        stopped = share is not None and share < STOPPED * whole
        return f"the run stands at {cell}, so its loss is not that of its token count" if stopped else ""

    return where(table.cells(place), reason)


def unfinished_or_settings(view: View, columns: ColumnMap, options: IngestOptions) -> list[Question]:
    """Asked of shares of nobody knows what, and of whole passes, that most rows have all of and some have less of."""
    found: list[Question] = []
    told = {*options.column_map, *options.split, *options.pool, *options.only}
    for place, name in enumerate(view.table.columns):
        if place in columns.places.values() or name in told:
            continue
        whole = None
        if spellings(name)[-1] in _BARE_SHARES:
            shares = {cell: share for cell in view.table.levels(place) if (share := _share(cell)) is not None}
            top = _whole(name, shares, most=True)
            if top is not None and _are_most(view.table, place, shares, top):
                whole = max(shares, key=shares.__getitem__)
        elif _counts(name, _PASSES | _PASS, _PASS) and not is_further_input(name):
            whole = _of_most_passes(view, columns, place)
        if whole is not None and len(view.table.levels(place)) > 1:
            values = view.values(place)
            asked = finding("ingest.unfinished_or_setting", column=name, low=values[0] if values else 0.0, top=whole)
            choices = ((("only", f"{name}={whole}"),), (("map", f"{name}=extra"),), (("split", name),))
            found.append(Question(found=asked, columns=(name,), choices=choices, safe=0))
    return found


def says_steps_done(name: str) -> bool:
    """Whether a name counts steps that were done, not planned."""
    return _counts(name, _STEPS, _STEP)


def where(cells: Column, reason: Callable[[Cell], str]) -> Reasons:
    """The rows of a column of which the cell is a reason."""
    found = cells.made(reason)
    return {at: found[at] for at in np.flatnonzero(found.spread([bool(said) for said in found.levels], bool)).tolist()}


def _is_progress(name: str) -> bool:
    """Whether a name says that it is how much of a run was done."""
    words = set(normal(name).split("_"))
    shares = bool(words & _SHARES) or is_percent(name)
    if not words & _OF_A_RUN or words & {"loss", "tokens", "token", "steps", "step"}:
        return shares and bool(words & _OF_A_PLAN) and words <= _SHARES | _OF_A_PLAN | {"of", "the"}
    bare = bool(words & {"progress", "progression", "completion"})
    return words <= _OF_A_RUN | _SHARES | _BESIDE | {"run", "job"} and (bare or shares)


def _counts(name: str, nouns: frozenset[str], singular: frozenset[str]) -> bool:
    """Whether a name counts steps or passes that were done: `last_step`, `iters_done`, and the noun in the singular."""
    words = set(spellings(name)[-1].split("_")) - {""}
    if not words & nouns or not words <= nouns | _DONE | _BESIDE:
        return False
    return bool(words & _DONE) or bool(words & singular)


def _whole(name: str, shares: dict[Cell, float], *, most: bool) -> float | None:
    """What all of a run is among its shares: nearly 1, or nearly 100; None where they are none."""
    top = max(shares.values(), default=0.0)
    if not shares or min(shares.values()) < 0:
        return None
    for whole in (1.0, 100.0):
        if STOPPED * whole <= top <= whole * (1 + 1e-9):
            return whole
    if most or not 0 < top < 100 or not _is_progress(name):
        return None
    in_percent = is_percent(name) or all(str(cell).strip().endswith("%") for cell in shares)
    return 1.0 if top < 1 else 100.0 if in_percent else None


def _are_most(table: Table, place: int, shares: dict[Cell, float], whole: float) -> bool:
    """Whether most rows have come to the end, by their shares."""
    ended = sum(table.levels(place)[cell] for cell, share in shares.items() if share >= STOPPED * whole)
    return 2 * ended >= len(table.rows)


def _share(cell: Cell) -> float | None:
    text = str(cell).strip()
    if isinstance(cell, bool) or is_missing(cell):
        return None
    if (parts := _OF.fullmatch(text)) and float(parts[2]) > 0:
        return float(parts[1]) / float(parts[2])
    text = text.rstrip("%").strip()
    return number(text) if is_number(text) else None


def _units(columns: ColumnMap, name: str) -> list[Unit]:
    """In which a column that is no field may be: its own, plain, or as the tokens of the runs."""
    own = [unit for _, unit in bare_names(name) if not unit.plain]
    return [*own[:1], PLAIN, columns.units.get("tokens", PLAIN)]


def _short_of_budget(view: View, columns: ColumnMap, planned: int, made: Column) -> Reasons:
    """Tokens beside those that were planned, where most runs came to their end and others stopped anywhere."""
    for unit in _units(columns, view.table.columns[planned]):
        goals = view.numbers(planned, unit)
        both = pairs(made, goals)
        short = [done for done, goal in both if done < STOPPED * goal]
        if not short or 2 * len(short) > len(both) or any(done > goal * (2 - STOPPED) for done, goal in both):
            continue
        if len({goal for _, goal in both}) == 1 and len(set(short)) < len(short):
            continue  # horizons below the longest one
        return {
            at: f"the run stands at token {done:g} of {goal:g}: its schedule did not end"
            for at, (done, goal) in enumerate(zip(made, goals, strict=True))
            if done is not None and goal is not None and done < STOPPED * goal
        }
    return {}


def _short_of_steps(view: View, columns: ColumnMap, place: int) -> Reasons:
    """Steps beside those that were planned, or that tokens and batch make."""
    places = columns.places
    early = not _STOPPED_AT.isdisjoint(normal(view.table.columns[place]).split("_"))
    if "steps" in places:
        return _stopped(view.numbers(place), view.numbers(places["steps"]), "step", early=early)
    batch = view.numbers(places["batch_tokens"]).floats() if "batch_tokens" in places else None
    if batch is None and "batch_sequences" in places:
        length = view.numbers(places["seq_len"]).floats() if "seq_len" in places else (columns.seq_len or math.nan)
        batch = view.numbers(places["batch_sequences"]).floats() * length
    if batch is None or "tokens" not in places:
        return {}
    with np.errstate(all="ignore"):
        planned = view.numbers(places["tokens"]).floats() / batch
    return _stopped(
        view.numbers(place), [value if math.isfinite(value) else None for value in planned], "step", early=early
    )


def _short_of_passes(view: View, columns: ColumnMap, place: int) -> Reasons:
    """Passes beside those that were planned; without a plan, a fraction of one where most runs made whole ones."""
    names = view.table.columns
    plans = [at for at, name in enumerate(names) if at != place and _is_plan_of_passes(name) and view.values(at)]
    done: Sequence[float | None] = view.numbers(place)
    if plans:
        planned = view.numbers(plans[0])
        both = pairs(done, planned)
        if both and all(not a % 1 and a <= b - 1 for a, b in both) and any(a == b - 1 for a, b in both):
            done = [None if value is None else value + 1 for value in done]  # counted from zero
        return _stopped(done, planned, "pass")
    length = next((columns.places[name] for name in ("tokens", "steps") if name in columns.places), None)
    if length is None or _goes_with(view, place, length):
        return {}
    if 0 in done and not any(value is not None and value % 1 for value in done):
        return {}  # counted from zero
    whole = [value is not None and round(value) >= 1 and same(value, round(value), 1 - STOPPED) for value in done]
    short = {at for at, value in enumerate(done) if value is not None and not whole[at]}
    if not short or 2 * sum(whole) <= len(whole):
        return {}
    return {at: f"the run stands at pass {done[at]:g}, so its loss is not that of its token count" for at in short}


def _is_plan_of_passes(name: str) -> bool:
    words = set(spellings(name)[-1].split("_"))
    return bool(words & _PASSES) and not words & _DONE and words <= _PASSES | _BESIDE | _BUDGET | {"total"}


def _goes_with(view: View, passes: int, length: int) -> bool:
    """Whether longer runs made more passes, by as much: the tokens are those that were seen."""
    each = [b / a for a, b in pairs(view.numbers(passes), view.numbers(length)) if a > 0]
    return not each or same(min(each), max(each), 0.05)


def _of_most_passes(view: View, columns: ColumnMap, place: int) -> Cell:
    """The whole passes of most rows, where some of the same size and length say fewer; None of any other column."""
    length = next((columns.places[name] for name in ("tokens", "steps") if name in columns.places), None)
    values = view.numbers(place)
    if length is None or "params" not in columns.places or any(value is None or value % 1 for value in values.levels):
        return None
    if any(_is_plan_of_passes(name) for at, name in enumerate(view.table.columns) if at != place):
        return None
    cells = [view.cells(columns.places["params"]), view.cells(length)]
    of = members(groups(cells, len(values))[0])
    most = max(value for value in values if value is not None)
    top = sum(value == most for value in values)
    apart = any(len({values[at] for at in rows}) > 1 for rows in of)
    shown = next(cell for cell, value in zip(view.cells(place), values, strict=True) if value == most)
    return shown if apart and top < len(values) <= 2 * top else None


def _with_a_rest(view: View, place: int) -> Reasons:
    """Rows with steps or tokens left to do, where most have none."""
    rest = view.numbers(place)
    if 2 * sum(value == 0 for value in rest) <= len(rest):
        return {}
    said = f"'{view.table.columns[place]}' is {{:g}}, so its loss is not that of its token count"
    return {at: said.format(value) for at, value in enumerate(rest) if value is not None and value > 0}


def _without_an_end(view: View, place: int) -> Reasons:
    """Rows without a time at which the run ended, where most have one."""
    filled, rows = view.filled(place), len(view.table.rows)
    if filled == rows or 2 * filled < rows or any(map(is_number, view.cells(place).levels)):
        return {}
    reason = f"'{view.table.columns[place]}' is empty: the run has not ended"
    return where(view.cells(place), lambda cell: reason if is_missing(cell) else "")


def _stopped(
    done: Sequence[float | None], planned: Sequence[float | None], what: str, *, early: bool = False
) -> Reasons:
    """What was done beside what was planned, where some runs came to their end and none went far beyond.

    Parameters
    ----------
    early : the name says where runs stopped that came to none
    """
    both = pairs(done, planned)
    if not both or not all(a <= b * (2 - STOPPED) for a, b in both):
        return {}
    if not early and not any(a >= b * STOPPED for a, b in both):
        return {}
    every = math.gcd(*(int(a) for a, _ in both)) if all(a == int(a) for a, _ in both) else 0  # how often it was logged
    said = "the run stands at {} {:g} of {:g}, so its loss is not that of its token count"
    return {
        at: said.format(what, a, b)
        for at, (a, b) in enumerate(zip(done, planned, strict=True))
        if a is not None and b is not None and a < STOPPED * b and a + every <= b
    }
