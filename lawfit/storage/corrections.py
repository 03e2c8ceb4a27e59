"""Fields of runs that a person changed: made, kept with the reason, undone, and not overwritten by the log.

That a run was excluded from fits, or restored, is kept among them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from lawfit.errors import LawfitError, NoRun
from lawfit.findings import finding
from lawfit.records import Correction, Json, RunStatus
from lawfit.storage.bulk import json_text
from lawfit.storage.database import now
from lawfit.storage.tables import corrections, recipes, runs

EXTRA: Final = "extra."
FIELDS: Final = ("params", "tokens", "batch_tokens", "lr", "loss", "weight_decay", "steps", "seed", "status")
EXCLUDED: Final = "excluded"  # no field that a log has: the reason why a person took the run out of the fits
RESTORED: Final = "restored"  # the reason that is kept of a run that was put back
_OPTIONAL: Final = ("loss", "weight_decay", "steps", "seed")

Change = Callable[[Json], Json]  # from what is stored to what is right


class WrongCorrection(LawfitError, ValueError):
    """A correction that no run can take: an unknown field, or a value outside its bounds."""


def correct(
    connection: sa.Connection, recipe_id: int, run_keys: Sequence[str], changes: Mapping[str, Change], reason: str
) -> tuple[int, int]:
    """Number of the change, and how many runs it changed; see `Store.correct`."""
    stored = _rows(connection, runs.c.recipe_id == recipe_id)
    by_key = {row["run_key"]: row for row in stored}
    number, made_at = _next_change(connection), now()
    history: list[dict[str, Any]] = []
    changed: list[Mapping[str, Any]] = []
    for key in run_keys:
        if key not in by_key:
            raise NoRun(finding("store.no_run", run=key))
        old = by_key[key]
        new = _changed(old, changes)
        if differing := [field for field in _fields(old, new) if _value(old, field) != _value(new, field)]:
            changed.append(new)
            about = {"change": number, "run_id": old["id"], "reason": reason, "made_at": made_at}
            texts = [(f, json_text(_value(old, f)), json_text(_value(new, f))) for f in differing]
            history += [about | {"field": f, "before": before, "after": after} for f, before, after in texts]
    if history:
        _update(connection, changed)
        connection.execute(sa.insert(corrections), history)
    return number, len(changed)


def mark(connection: sa.Connection, recipe_id: int, run_keys: Sequence[str], reason: str | None) -> int:
    """Exclude runs for a reason, or put them back (None); how many were not so already."""
    query = sa.select(runs.c.run_key, runs.c.id, runs.c.excluded).where(runs.c.recipe_id == recipe_id)
    known = {row["run_key"]: row for row in connection.execute(query).mappings()}
    if missing := [key for key in run_keys if key not in known]:
        raise NoRun(finding("store.no_run", run=missing[0]))
    changed = [known[key] for key in dict.fromkeys(run_keys) if known[key][EXCLUDED] != reason]
    if changed:
        about = {"change": _next_change(connection), "reason": reason or RESTORED, "made_at": now(), "field": EXCLUDED}
        rows = [
            about | {"run_id": row["id"], "before": json_text(row[EXCLUDED]), "after": json_text(reason)}
            for row in changed
        ]
        connection.execute(sa.insert(corrections), rows)
        statement = sa.update(runs).where(runs.c.id == sa.bindparam("row_id")).values(excluded=reason)
        connection.execute(statement, [{"row_id": row["id"]} for row in changed])
    return len(changed)


def _next_change(connection: sa.Connection) -> int:
    last = connection.execute(sa.select(sa.func.max(corrections.c.change))).scalar()
    return int(last or 0) + 1


def undo(connection: sa.Connection, number: int | None) -> tuple[int, list[Correction]]:
    """Number of the change that was undone, and what it had changed; see `Store.undo`."""
    column = corrections.c
    if number is None:
        number = connection.execute(sa.select(sa.func.max(column.change)).where(column.undone_at.is_(None))).scalar()
        if number is None:
            raise NoRun("no run was corrected, so there is nothing to undo")
    mine = connection.execute(sa.select(corrections).where(column.change == number)).mappings().all()
    if not mine:
        raise NoRun(f"there is no change {number}; lawfit runs history lists them")
    if mine[0]["undone_at"] is not None:
        raise NoRun(f"change {number} was undone at {mine[0]['undone_at']} already")
    later = sa.select(column.change, column.run_id, column.field)
    later = later.where(column.change > number, column.undone_at.is_(None)).order_by(column.change.desc())
    touched = {(row["run_id"], row["field"]) for row in mine}
    for change, run_id, field in connection.execute(later):
        if (run_id, field) in touched:
            raise WrongCorrection(f"change {change} changed the same {field} later; undo that first")
    ids = sorted({row["run_id"] for row in mine})
    changed = {row["id"]: row for row in _rows(connection, runs.c.id.in_(ids))}
    for row in mine:
        _set(changed[row["run_id"]], row["field"], json.loads(row["before"]))
    _update(connection, list(changed.values()))
    connection.execute(sa.update(corrections).where(column.change == number).values(undone_at=now()))
    return number, history(connection, column.change == number)


def history(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[Correction]:
    """Corrections, the latest first."""
    column = corrections.c
    query = sa.select(corrections, runs.c.run_key, recipes.c.name.label("recipe")).select_from(
        corrections.join(runs, column.run_id == runs.c.id).join(recipes, runs.c.recipe_id == recipes.c.id)
    )
    query = query.where(*conditions).order_by(column.change.desc(), column.id)
    found = []
    for row in connection.execute(query).mappings():
        values = {name: value for name, value in row.items() if name not in ("id", "run_id")}
        values |= {name: json.loads(row[name]) for name in ("before", "after")}
        found.append(Correction(**values))
    return found


def corrected_fields(connection: sa.Connection, recipe_id: int) -> dict[int, set[str]]:
    """Row id of a run -> fields that a person changed, which its log does not change back."""
    query = sa.select(corrections.c.run_id, corrections.c.field).join(runs, corrections.c.run_id == runs.c.id)
    found: dict[int, set[str]] = {}
    for run_id, field in connection.execute(
        query.where(runs.c.recipe_id == recipe_id, corrections.c.undone_at.is_(None), corrections.c.field != EXCLUDED)
    ):
        found.setdefault(run_id, set()).add(field)
    return found


def keep(row: dict[str, Any], stored: Mapping[str, Any], fields: Iterable[str]) -> bool:
    """Put what was corrected into a row that a log gives; whether the log says otherwise."""
    otherwise = False
    for field in fields:
        otherwise |= _value(row, field) != _value(stored, field)
        _set(row, field, _value(stored, field))
    return otherwise


def _rows(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
    columns = (runs.c.id, runs.c.run_key, runs.c.extra, *(runs.c[name] for name in (*FIELDS, EXCLUDED)))
    return [dict(row) for row in connection.execute(sa.select(*columns).where(condition)).mappings()]


def _changed(old: Mapping[str, Any], changes: Mapping[str, Change]) -> dict[str, Any]:
    new = dict(old)
    for field, change in changes.items():
        if field == "status" or (field not in FIELDS and not field.startswith(EXTRA)):
            raise WrongCorrection(f"runs have no field '{field}'; it is one of {', '.join(FIELDS[:-1])}, or extra.NAME")
        value = change(_value(old, field))
        if field == "loss":  # a run has diverged exactly when it has no loss
            new["status"] = (RunStatus.DIVERGED if value is None else RunStatus.FINISHED).value
        _require(old["run_key"], field, value)
        _set(new, field, value)
    return new


def _require(run_key: str, field: str, value: Json) -> None:
    if field.startswith(EXTRA) or (value is None and field in _OPTIONAL):
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or abs(value) >= 1e300:
        raise WrongCorrection(f"{field} of run '{run_key}' would be '{value}', which is not a finite number")
    if field in ("steps", "seed") and (value != int(value) or abs(value) >= 2**63):
        raise WrongCorrection(f"{field} of run '{run_key}' would be {value:g}; it must be a whole number")
    if value < 0 if field == "weight_decay" else value <= 0 and field != "seed":
        raise WrongCorrection(f"{field} of run '{run_key}' would be {value:g}; it must be above zero")


def _fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [*FIELDS, *(EXTRA + name for name in sorted({*old["extra"], *new["extra"]}))]


def _value(row: Mapping[str, Any], field: str) -> Json:
    return row["extra"].get(field[len(EXTRA) :]) if field.startswith(EXTRA) else row[field]


def _set(row: dict[str, Any], field: str, value: Json) -> None:
    if not field.startswith(EXTRA):
        row[field] = int(value) if field in ("steps", "seed") and value is not None else value
        return
    extra = {name: kept for name, kept in row["extra"].items() if name != field[len(EXTRA) :]}
    row["extra"] = extra if value is None else {**extra, field[len(EXTRA) :]: value}


def _update(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    names = ("extra", EXCLUDED, *FIELDS)
    statement = sa.update(runs).where(runs.c.id == sa.bindparam("row_id"))
    statement = statement.values({name: sa.bindparam(name) for name in names})
    connection.execute(statement, [{"row_id": row["id"]} | {name: row[name] for name in names} for row in rows])
