"""Tables with several rows a run: points on its way, of which the last is what the run came to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from lawfit.factors import is_factor, is_setting, normal, spellings
from lawfit.findings import Found, finding
from lawfit.ingest.endings import SEEN, STEPS_DONE
from lawfit.ingest.questions import Question
from lawfit.ingest.rows import Reading
from lawfit.ingest.view import View

_SETTINGS: Final = ("params", "lr", "batch_tokens", "batch_sequences", "batch_unstated", "weight_decay", "seed")
_FEWEST_NAMES: Final = 5  # of which some repeat, for the others to be names of runs
_PROGRESS: Final = ("tokens", "steps")
_FEWEST_POINTS: Final = 4  # in equal steps, where no column names the runs
_AT_STEP: Final = re.compile(r"(^|[^a-z])(step|iter|ckpt|checkpoint)[-_ ]?[0-9]+", re.IGNORECASE)
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
    at_steps = any(all(_AT_STEP.search(str(cell)) for cell in view.table.levels(at)) for at in range(len(columns)))
    if not far or not {"lr", "params"} <= places.keys() or view.table.exact or columns[places[far[0]]] in mapped:
        return None
    place = places[far[0]]
    known = {at for name, at in places.items() if name not in (*_PROGRESS, "loss")}
    known |= {at for at, column in enumerate(columns) if is_factor(column)}
    progress = view.numbers(place)
    groups: dict[tuple[object, ...], list[float | None]] = {}
    for (_, cells), made in zip(view.table.rows, progress, strict=True):
        groups.setdefault(tuple(cells[at] for at in sorted(known)), []).append(made)
    several = [made for made in groups.values() if len(set(made)) > 1]
    if 2 * len(several) <= len(groups) or any(len(set(made)) < len(made) for made in several):
        return None
    if not (said or at_steps) and not all(len(made) >= _FEWEST_POINTS and _in_equal_steps(made) for made in several):
        return None
    column = columns[place]
    asked = finding("ingest.unnamed_points", column=column, runs=len(groups), rows=len(progress))
    choices = ((("map", "COLUMN=run_id"),), (("map", f"{column}={far[0]}"),))
    return Question(found=asked, columns=(column,), choices=choices)


def _named_otherwise(view: View, places: Mapping[str, int], mapped: Mapping[str, str]) -> Question | None:
    """As `points_question` of a column of any name that has one level for each setting, and so names the runs."""
    columns = view.table.columns
    if view.table.exact or not {"lr", "params", "tokens"} <= places.keys() or columns[places["tokens"]] in mapped:
        return None
    settings = [view.cells(places[name]) for name in _SETTINGS if name in places]
    settings += [view.cells(at) for at, column in enumerate(columns) if is_factor(column)]
    of_rows = list(zip(*settings, strict=True))
    combinations, sizes = set(of_rows), view.table.levels(places["params"])
    if len(combinations) == len(sizes) or 2 * len(combinations) > len(of_rows):
        return None  # a name for each setting would be one for each size, or there are few points
    for place, column in enumerate(columns):
        if place in places.values() or column in mapped or len(view.table.levels(place)) != len(combinations):
            continue
        if len(set(zip(view.cells(place), of_rows, strict=True))) != len(combinations) or is_factor(column):
            continue
        made: dict[object, list[float | None]] = {}
        for name, tokens in zip(view.cells(place), view.numbers(places["tokens"]), strict=True):
            made.setdefault(name, []).append(tokens)
        if not _NAMES_OF_RUNS.isdisjoint(normal(column).split("_")) or all(map(_in_equal_steps, made.values())):
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
    return spellings(column)[-1] in STEPS_DONE if field == "steps" else not SEEN.isdisjoint(words)


def last_of_each(readings: Sequence[Reading], column: str) -> tuple[list[Reading], list[Found]]:
    """Of rows under one id that differ in nothing but how far they are, the farthest; others stay as they are."""
    ids = [reading.run_id for reading in readings if reading.run_id]
    if len(set(ids)) == len(ids):
        return list(readings), []
    groups: dict[tuple[object, str], list[Reading]] = {}
    for reading in readings:
        if reading.run_id:
            groups.setdefault((reading.facts, reading.run_id), []).append(reading)
    own = sorted({name for group in groups.values() for name in group[0].extra if is_setting(name)})
    dropped: set[int] = set()
    runs = 0
    for group in groups.values():
        settings = {
            (
                each.params,
                each.lr,
                each.batch_tokens,
                each.weight_decay,
                each.seed,
                *(str(each.extra.get(n)) for n in own),
            )
            for each in group
        }
        if len(group) == 1 or len(settings) > 1 or len({each.tokens for each in group}) < len(group):
            continue
        last = max(group, key=lambda each: each.tokens)
        dropped.update(each.line for each in group if each is not last)
        runs += 1
    if not dropped:
        return list(readings), []
    note = finding("ingest.points_of_runs", column=column, runs=runs, left_out=len(dropped))
    return [reading for reading in readings if reading.line not in dropped], [note]
