"""Tables with several rows a run: points on its way, of which the last is what the run came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from lawfit.factors import is_setting
from lawfit.findings import Found, finding
from lawfit.ingest.questions import Question
from lawfit.ingest.rows import Reading
from lawfit.ingest.view import View

_SETTINGS: Final = ("params", "lr", "batch_tokens", "batch_sequences", "batch_unstated", "weight_decay", "seed")
_PROGRESS: Final = ("tokens", "steps")


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
    if len(several) < 2 or 2 * sum(map(len, several)) < len(view.table.rows):
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


def last_of_each(readings: Sequence[Reading], column: str) -> tuple[list[Reading], list[Found]]:
    """Of rows under one id that differ in nothing but how far they are, the farthest; others stay as they are."""
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
