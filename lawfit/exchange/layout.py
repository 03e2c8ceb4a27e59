"""The columns of a file of our own, and the rows between them and records.

The first column, `lawfit`, says what a row is: a run, a target (steps to a target loss), a loss of a size, a point
of a curve, or a recipe that has none of these. Each row of a run holds the settings of its recipe too, so that a table
of runs is complete for whoever reads it without lawfit. What has no column of its own stands under ``extra.NAME``.
"""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import chain
from typing import Any, Final

from lawfit.errors import LogFormatError
from lawfit.records import Json, Recipe, Run, RunStatus, SizedLoss, StepsToTarget

MARK: Final = "lawfit"
RUN, TARGET, LOSS, POINT, RECIPE = "run/1", "target/1", "loss/1", "point/1", "recipe/1"
Item = Run | StepsToTarget | SizedLoss  # what has a row of its own
EXTRA: Final = "extra."
POINT_COLUMNS: Final = (MARK, "recipe", "run_key", "metric", "step", "value")

_RECIPE: Final = tuple(f.name for f in dataclasses.fields(Recipe) if f.name not in ("name", "extra"))
RECIPE_COLUMNS: Final = ("recipe", *_RECIPE, "recipe_extra")
_OF: Final[dict[str, type[Item]]] = {RUN: Run, TARGET: StepsToTarget, LOSS: SizedLoss}
# Kind -> column -> field. Steps to a target may be fractions and those of a run may not: two columns.
_FIELDS: Final = {
    kind: {
        "steps_to_target" if (kind, f.name) == (TARGET, "steps") else f.name: f
        for f in dataclasses.fields(of)
        if f.name != "extra"
    }
    for kind, of in _OF.items()
}
COLUMNS: Final = tuple(dict.fromkeys((MARK, "recipe", *chain(*_FIELDS.values()), *RECIPE_COLUMNS)))

WHOLE_COLUMNS: Final = frozenset({"steps", "seed", "seq_len", "step"})
REAL_COLUMNS: Final = frozenset(
    {"params", "tokens", "batch_tokens", "lr", "loss", "weight_decay", "target_loss", "steps_to_target", "value"}
)
_ANY_SIGN: Final = frozenset({"weight_decay", "seed", "step", "value"})

Row = dict[str, Any]  # column -> plain value; extras as they are, under "extra.NAME"


def row_of(part: Row, item: Item) -> Row:
    """A row with its recipe's settings (`recipe_part`)."""
    kind = next(kind for kind, of in _OF.items() if isinstance(item, of))
    values = {column: getattr(item, f.name) for column, f in _FIELDS[kind].items()}
    return {MARK: kind, **part, **values, **{EXTRA + name: v for name, v in item.extra.items()}}


def recipe_row(part: Row) -> Row:
    """A recipe of which there is nothing else."""
    return {MARK: RECIPE, **part}


def recipe_of(row: Row) -> Recipe:
    """The recipe that a row names."""
    values = {name: row.get(name) for name in _RECIPE}
    texts: dict[str, Any] = {name: value if name == "seq_len" else value or "" for name, value in values.items()}
    extra = row.get("recipe_extra") or "{}"
    return Recipe(name=_needed(row, "recipe"), extra=json.loads(extra), **texts)


def item_of(row: Row) -> Item | None:
    """The run (or what else) of a row; None where it is of a recipe alone.

    Raises
    ------
    LogFormatError
        A column is empty or holds what it cannot, or the row is of a kind that this version does not know.
    """
    kind = row[MARK]
    if kind == RECIPE:
        return None
    if kind not in _OF:
        raise LogFormatError(f"'{kind}' is no row that this version of lawfit knows; upgrade lawfit")
    values: Row = {}
    for column, field in _FIELDS[kind].items():
        needed = field.default is dataclasses.MISSING and field.type != "float | None"
        values[field.name] = _needed(row, column) if needed else row.get(column)
    values["source"] = values["source"] or ""
    values["extra"] = {name[len(EXTRA) :]: value for name, value in row.items() if name.startswith(EXTRA)}
    if kind == RUN:
        if values["status"] not in list(RunStatus):
            raise LogFormatError(f"status '{values['status']}' is neither finished nor diverged")
        values["status"] = RunStatus(values["status"])
    return _OF[kind](**values)


def number_of(column: str, cell: Any) -> Any:
    """The number of a cell that was written as text (or, in Parquet, as another kind of number).

    Raises
    ------
    LogFormatError
        It is none, or one that the column cannot hold.
    """
    if cell is None or cell == "":
        return None
    if type(cell) is float and column in REAL_COLUMNS and 0 < cell < math.inf:  # as Parquet and JSON give it
        return cell
    try:
        value = int(cell) if column in WHOLE_COLUMNS and not _has_fraction(cell) else float(cell)
    except (ValueError, TypeError, OverflowError):
        raise LogFormatError(f"{column} '{cell}' is not a number") from None
    if column in WHOLE_COLUMNS and isinstance(value, float):
        raise LogFormatError(f"{column} '{cell}' is not a whole number")
    if column != "value" and not math.isfinite(value):
        raise LogFormatError(f"{column} '{cell}' is not finite")
    if column not in _ANY_SIGN and value <= 0:
        raise LogFormatError(f"{column} '{cell}' is not above zero")
    return value


def text_of_extra(value: Json) -> str:
    """A value of `extra` as a cell: plain text where that reads back as the same text, else JSON."""
    if type(value) in (int, float):
        return repr(value)
    if isinstance(value, str) and value and not _is_json(value) and not value.startswith('"'):
        return value
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def extra_of_text(cell: str) -> Json:
    """What `text_of_extra` wrote."""
    try:
        return _DECODER.decode(cell)
    except (ValueError, RecursionError):
        return cell


def _is_json(text: str) -> bool:
    if text[0] not in '"[{-0123456789ntf \t\r\n':  # quick: most texts are words
        return False
    return extra_of_text(text) is not text


def _refuse(constant: str) -> float:
    raise ValueError(constant)  # NaN and Infinity are words here


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)


def _has_fraction(cell: Any) -> bool:
    if isinstance(cell, str):
        return not cell.lstrip("+-").isdigit()
    return isinstance(cell, float) and cell != int(cell)


def recipe_part(recipe: Recipe) -> Row:
    """The cells of a recipe, which all of its rows have."""
    extra = json.dumps(dict(recipe.extra), ensure_ascii=False, sort_keys=True) if recipe.extra else None
    return {"recipe": recipe.name, **{name: getattr(recipe, name) for name in _RECIPE}, "recipe_extra": extra}


def _needed(row: Row, name: str) -> Any:
    if row.get(name) in (None, ""):
        raise LogFormatError(f"{name} is empty")
    return row[name]
