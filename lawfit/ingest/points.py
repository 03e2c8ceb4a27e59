"""Tables with several rows a run: points on its way, of which the last is what the run came to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from lawfit.factors import is_factor, is_setting, normal
from lawfit.findings import Found, finding
from lawfit.ingest.cell_texts import is_name_of_runs
from lawfit.ingest.progress import SEEN, says_steps_done
from lawfit.ingest.questions import Question
from lawfit.ingest.rows import Readings
from lawfit.ingest.view import View
from lawfit.packed import Column, groups, members, repeated

_SETTINGS: Final = ("params", "lr", "batch_tokens", "batch_sequences", "batch_unstated", "weight_decay", "seed")
_FEWEST_NAMES: Final = 5  # of which some repeat, for the others to be names of runs
_PROGRESS: Final = ("tokens", "steps")
_FEWEST_POINTS: Final = 4  # in equal steps, where no column names the runs
_AT_STEP: Final = re.compile(r"(?:^|[^a-z])(?:step|iter|ckpt|checkpoint)[-_ ]?([0-9]+)", re.IGNORECASE)
_NAMES_OF_RUNS: Final = frozenset({"exp", "experiment", "job", "run", "trial", "id", "checkpoint", "ckpt"})


def points_question(view: View, places: Mapping[str, int], place: int) -> Question | None:
    """Asked of a column of names that repeat, where rows of one name differ in nothing but how far they are."""
    far = next((places[name] for name in _PROGRESS if name in places), None)
    if far is None or "lr" not in places:
        return None
    settings = [view.cells(places[name]) for name in _SETTINGS if name in places]
    groups: dict[object, list[int]] = {}
    for row, name in enumerate(view.cells(place)):
        groups.setdefault(name, []).append(row)
    several = [rows for rows in groups.values() if len(rows) > 1]
    if not several or (len(groups) < _FEWEST_NAMES and len(several) < len(groups)):
        return None
    progress = view.numbers(far)
    for rows in several:
        if any(len({cells[row] for row in rows}) > 1 for cells in settings):
            return None
        if len({progress[row] for row in rows}) < len(rows):
            return None
    column = view.table.columns[place]
    asked = finding("ingest.points_or_runs", column=column, by=view.table.columns[far], names=len(groups))
    choices = ((("map", f"{column}=run_id"),), (("map", f"{column}=extra"),))
    return Question(found=asked, columns=(column,), choices=choices)


def unnamed_points(view: View, places: Mapping[str, int], mapped: Mapping[str, str]) -> Question | None:
    """Asked where no column names the runs, and rows of equal settings differ in how far they were at that row.

    A column that says how far (`step`, `tokens_seen`) is of points on the way; a plan (`max_steps`) is of runs.

    Parameters
    ----------
    mapped : what a person says that columns are; names that are no ids (extra) say that rows are runs
    """
    if "extra" in mapped.values():
        return None
    if named := _named_otherwise(view, places, mapped):
        return named
    columns = view.table.columns
    said = [name for name in ("steps", "tokens") if name in places and _says_how_far(columns[places[name]], name)]
    far = said or [name for name in _PROGRESS if name in places][:1]
    if not far or not {"lr", "params"} <= places.keys() or view.table.exact or columns[places[far[0]]] in mapped:
        return None
    place = places[far[0]]
    known = {at for name, at in places.items() if name not in (*_PROGRESS, "loss")}
    known |= {at for at, column in enumerate(columns) if is_factor(column)}
    progress = view.numbers(place)
    runs, count = groups([view.cells(at) for at in sorted(known)], len(progress))
    made = [[progress[at] for at in rows] for rows in members(runs, 2)]
    several = [each for each in made if len(set(each)) > 1]
    if 2 * len(several) <= count or any(len(set(each)) < len(each) for each in several):
        return None
    if not said and _is_told_otherwise(view, places, place):
        return None
    even = all(len(made) >= _FEWEST_POINTS and _in_equal_steps(made) for made in several)
    if not (said or even or any(_is_at_steps(view, places, at) for at in range(len(columns)))):
        return None
    column = columns[place]
    asked = finding("ingest.unnamed_points", column=column, runs=count, rows=len(progress))
    choices = ((("map", "COLUMN=run_id"),), (("map", f"{column}={far[0]}"),))
    return Question(found=asked, columns=(column,), choices=choices)


def _is_told_otherwise(view: View, places: Mapping[str, int], far: int) -> bool:
    """Whether each row has a name of its own, or a column says which horizon a run has, as multiples of its size do."""
    rows, taken = len(view.table.rows), set(places.values())
    for place, column in enumerate(view.table.columns):
        if _AT_STEP.search(str(view.cells(place)[0])):
            continue
        names_runs = not _NAMES_OF_RUNS.isdisjoint(normal(column).split("_")) or is_name_of_runs(column)
        if names_runs and len(view.table.levels(place)) == rows:
            return True
        if place in taken or len(view.table.levels(place)) < 2:
            continue
        for of in ([], [view.cells(places["params"])]):
            each = ([view.cells(place), *of], [view.cells(far), *of], [view.cells(place), view.cells(far), *of])
            if len({groups(columns, rows)[1] for columns in each}) == 1:
                return True
    return False


def _is_at_steps(view: View, places: Mapping[str, int], place: int) -> bool:
    """Whether all cells of a column name a step, that goes with the tokens at each size."""
    if len(view.table.levels(place)) < 2 or not all(_AT_STEP.search(str(cell)) for cell in view.table.levels(place)):
        return False
    steps = view.cells(place).made(lambda cell: _AT_STEP.findall(str(cell))[-1])
    size, tokens = view.cells(places["params"]), view.cells(places.get("tokens", place))
    each = ([size, steps], [size, tokens], [size, steps, tokens])
    return len({groups(columns, len(view.table.rows))[1] for columns in each}) == 1


def _named_otherwise(view: View, places: Mapping[str, int], mapped: Mapping[str, str]) -> Question | None:
    """As `points_question` of a column of any name that has one level for each setting, and so names the runs."""
    columns = view.table.columns
    if view.table.exact or not {"lr", "params", "tokens"} <= places.keys() or columns[places["tokens"]] in mapped:
        return None
    settings = [view.cells(places[name]) for name in _SETTINGS if name in places]
    settings += [view.cells(at) for at, column in enumerate(columns) if is_factor(column)]
    rows = len(view.table.rows)
    of, runs = groups(settings, rows)
    if runs == len(view.table.levels(places["params"])) or 2 * runs > rows:
        return None  # a name for each setting would be one for each size, or there are few points
    tokens = view.numbers(places["tokens"])
    for place, column in enumerate(columns):
        if place in places.values() or column in mapped or is_factor(column):
            continue
        if len(view.table.levels(place)) != runs or groups([view.cells(place), of], rows)[1] != runs:
            continue
        said = not _NAMES_OF_RUNS.isdisjoint(normal(column).split("_"))
        if said or all(_in_equal_steps([tokens[at] for at in each]) for each in members(of)):
            return points_question(view, places, place)
    return None


def _in_equal_steps(made: Sequence[float | None]) -> bool:
    """Whether three points or more lie as far from each other as the first from the start: 1x, 2x, 3x."""
    points = sorted(each for each in made if each is not None)
    if len(points) < len(made) or len(set(points)) < 3 or points[0] <= 0:
        return False
    return all(abs(point / (points[0] * at) - 1) < 0.02 for at, point in enumerate(points, start=1))


def _says_how_far(column: str, field: str) -> bool:
    words = normal(column).split("_")
    return says_steps_done(column) if field == "steps" else not SEEN.isdisjoint(words)


def last_of_each(readings: Readings, column: str) -> tuple[Readings, list[Found]]:
    """Of rows under one id that differ in nothing but how far they are, the farthest; others stay as they are."""
    if not repeated([readings.run_ids], len(readings)):
        return readings, []
    named = np.array(readings.run_ids.rows(bool), dtype=np.intp)
    if len(set(readings.run_ids.take(named))) == len(named):
        return readings, []
    of, _ = groups([readings.facts, readings.run_ids], len(readings))
    found = members(of[named])
    firsts = [readings.extra_of(named[rows[0]]) for rows in found]
    own = {name for extra in firsts for name in extra if is_setting(name)}
    settings = [Column(list(each)) for each in (readings.params, readings.lr, readings.batch_tokens)]
    settings += [readings.weight_decay, readings.seed, *(readings.extra[name].made(str) for name in own)]
    keep = np.ones(len(readings), dtype=bool)
    runs = 0
    for rows in (named[each] for each in found if len(each) > 1):
        tokens = readings.tokens[rows]
        if len(set(tokens.tolist())) < len(rows) or any(len({each[at] for at in rows}) > 1 for each in settings):
            continue
        keep[rows] = False
        keep[rows[np.argmax(tokens)]] = True
        runs += 1
    if not runs:
        return readings, []
    note = finding("ingest.points_of_runs", column=column, runs=runs, left_out=int(np.count_nonzero(~keep)))
    return readings.take(np.flatnonzero(keep)), [note]
