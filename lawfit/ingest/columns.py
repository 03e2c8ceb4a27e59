"""Which column holds which field: recognised by name, shown with its evidence, overridden by the user."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lawfit.errors import LogFormatError
from lawfit.factors import normal, spellings
from lawfit.ingest.names import (
    LOSSES,
    NAMES,
    PER_DEVICE,
    is_score,
    is_smoothed_loss,
    is_training_loss,
)
from lawfit.ingest.numbers import CellError, flag, is_missing, is_number, number
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.table import Table

# What a column can be mapped to. "extra" keeps it beside the run without a meaning.
FIELDS: Final = (*(name for name in NAMES if name != "batch_unstated"), "loss")
EXTRA: Final = "extra"
_SHOWN_FIRST: Final = ("lr", "batch_tokens", "batch_sequences", "params", "tokens", "loss")
CONVENTION_BY_ROW: Final = "as each row says"

_TAIL_FIELDS: Final = frozenset(NAMES) - {
    "batch_unstated",
    "batch_sequences",
    "run_id",
    "run_name",
    "status",
    "completed",
}
_SMOOTHED_ENOUGH: Final = 0.9  # share of the rows with a raw loss that must have the smoothed one


@dataclass(frozen=True, kw_only=True)
class ColumnMap:
    """Fields and the places of their columns."""

    names: tuple[str, ...]  # of all columns
    places: Mapping[str, int]  # field -> index in Table.columns
    shown: Mapping[str, str]  # field -> column and what is known about it, for the user
    notes: tuple[str, ...]
    params_convention: str  # as the column's name tells it; "" unknown
    loss_column: str


def recognise(table: Table, options: IngestOptions) -> ColumnMap:
    """Find the columns.

    Raises
    ------
    LogFormatError
        A field that every run needs has no column, or one whose unit is not known.
    """
    return _Recogniser(table, options).run()


class _Recogniser:
    """One table's columns while they are being given out."""

    def __init__(self, table: Table, options: IngestOptions) -> None:
        self.table = table
        self.options = options
        self._counts: dict[int, int] = {}
        self.places: dict[str, int] = {}
        self.evidence: dict[str, str] = {}
        self.notes: list[str] = []
        self.kept_out: set[int] = set()  # given away, or to be left alone

    def run(self) -> ColumnMap:
        self._take_mapped()
        for field in NAMES:
            if field not in self.places:
                self._take_by_name(field)
        self._settle_batch()
        self._take_loss()
        self._settle_run_id()
        self._require()
        convention = self._convention()
        order = (*_SHOWN_FIRST, *(field for field in self.places if field not in _SHOWN_FIRST))
        shown = {field: self._show(field, convention) for field in order if field in self.places}
        if "tokens" not in self.places:
            shown["tokens"] = "steps x batch size (the file has no column of tokens)"
            self.notes.append("tokens are steps x batch size: the file has no column for them")
        if "batch_tokens" not in self.places and self.options.seq_len and "seq_len" not in self.places:
            shown["seq_len"] = f"{self.options.seq_len}, as you said"
        return ColumnMap(
            names=self.table.columns,
            places=self.places,
            shown=shown,
            notes=tuple(self.notes),
            params_convention=convention,
            loss_column=self.table.columns[self.places["loss"]],
        )

    def _has_values(self, place: int) -> bool:
        return any(not is_missing(cells[place]) for _, cells in self.table.rows)

    def _filled(self, place: int) -> int:
        """How many rows say something in this column."""
        if place not in self._counts:
            self._counts[place] = sum(not is_missing(cells[place]) for _, cells in self.table.rows)
        return self._counts[place]

    def _take_mapped(self) -> None:
        for column, field in self.options.column_map.items():
            place = self._place_of(column)
            if field == EXTRA:
                self.kept_out.add(place)
                continue
            if field not in FIELDS:
                close = difflib.get_close_matches(field, FIELDS, n=1)
                hint = f"did you mean '{close[0]}'? The" if close else "the"
                raise LogFormatError(
                    f"'{field}' is no field; {hint} fields are {', '.join(FIELDS)}, and 'extra' for none"
                )
            if field in self.places:
                other = self.table.columns[self.places[field]]
                raise LogFormatError(f"both '{other}' and '{column}' are mapped to {field}; map one of them")
            self._take(field, place, "as you said")

    def _place_of(self, column: str) -> int:
        if column in self.table.columns:
            return self.table.columns.index(column)
        close = difflib.get_close_matches(column, self.table.columns, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise LogFormatError(f"{self.table.name} has no column '{column}'; {hint}{self._columns_seen()}")

    def _take_by_name(self, field: str) -> None:
        candidates: list[tuple[int, int, int]] = []  # rank of the name, how literal, place
        for place, column in enumerate(self.table.columns):
            if place in self.kept_out or place in self.places.values():
                continue
            forms = spellings(column)
            for literal, form in enumerate(forms):
                last_part_only = literal == len(forms) - 1 and literal > 0
                if form in NAMES[field] and not (last_part_only and field not in _TAIL_FIELDS):
                    candidates.append((NAMES[field].index(form), literal, place))
                    break
        with_values = sorted(c for c in candidates if self._has_values(c[2]))
        if field == "completed":
            with_values = [c for c in with_values if self._is_flag(c[2])]  # "finished" is as often a time
        if not with_values:
            return
        first = with_values[0]
        if len(with_values) > 1 and with_values[1][:2] == first[:2]:
            names = f"'{self.table.columns[first[2]]}' and '{self.table.columns[with_values[1][2]]}'"
            raise LogFormatError(
                f"{self.table.name}: both {names} can be the {field}; say which with --map COLUMN={field}"
            )
        self._take(field, first[2], "")
        for _, _, place in with_values[1:]:
            if self._differs(first[2], place):
                self.notes.append(
                    f"{field} is '{self.table.columns[first[2]]}'; '{self.table.columns[place]}' could be it too and "
                    f"holds other values (--map '{self.table.columns[place]}={field}' to take that)"
                )

    def _is_flag(self, place: int) -> bool:
        try:
            return all(
                flag(cells[place]) in (True, False) for _, cells in self.table.rows if not is_missing(cells[place])
            )
        except CellError:
            return False

    def _take(self, field: str, place: int, evidence: str) -> None:
        self.places[field] = place
        self.evidence[field] = evidence
        self.kept_out.add(place)

    def _differs(self, one: int, other: int) -> bool:
        """Whether two columns hold different things; numbers within 1 % (nominal and counted) are the same."""
        for _, cells in self.table.rows:
            if is_number(cells[one]) and is_number(cells[other]):
                if not math.isclose(number(cells[one]), number(cells[other]), rel_tol=0.01):
                    return True
            elif cells[one] != cells[other]:
                return True
        return False

    def _settle_batch(self) -> None:
        """Turn a column that only says "batch size" into tokens or sequences, or leave it for `_require` to refuse."""
        place = self.places.pop("batch_unstated", None)
        if place is None:
            return
        self.evidence.pop("batch_unstated", None)
        unit = self.options.batch_unit
        if "batch_tokens" in self.places or "batch_sequences" in self.places:
            self.kept_out.discard(place)
            return
        if unit is None:
            self.places["_batch_unstated"] = place
            return
        self._take("batch_tokens" if unit == "tokens" else "batch_sequences", place, f"counted in {unit}, as you said")

    def _take_loss(self) -> None:
        if "loss" in self.places:
            self._refuse_score(self.table.columns[self.places["loss"]])
            return
        free = [
            place
            for place, column in enumerate(self.table.columns)
            if place not in self.kept_out
            and self._may_be_loss(column)
            and (self.table.exact or self._has_values(place))  # all of the runs may have diverged
        ]
        ranked = sorted(
            (LOSSES.index(form), place)
            for place in free
            for form in spellings(self.table.columns[place])[:2]
            if form in LOSSES
        )
        raw = ranked[0][1] if ranked else None
        smoothed = [place for place in free if is_smoothed_loss(self.table.columns[place])]
        if raw is not None and not is_training_loss(self.table.columns[raw]):
            # A smoothed loss on training data does not outrank one on validation data.
            smoothed = [place for place in smoothed if not is_training_loss(self.table.columns[place])]
        if not smoothed:
            if raw is not None:
                self._take("loss", raw, "")
                self._note_other_losses(ranked)
            return
        best = max(smoothed, key=self._filled)
        if raw is None or self._filled(best) >= _SMOOTHED_ENOUGH * self._filled(raw):
            self._take("loss", best, "smoothed, so less noisy than a last value")
            if raw is not None:
                name = self.table.columns[raw]
                self.notes.append(
                    f"the loss is '{self.table.columns[best]}': smoothed, so less noisy than '{name}' "
                    f"(--map '{name}=loss' to take that)"
                )
            return
        self._take("loss", raw, "")
        self.notes.append(
            f"the loss is '{self.table.columns[raw]}': the smoothed '{self.table.columns[best]}' stands in only "
            f"{self._filled(best)} of {len(self.table.rows)} rows"
        )

    def _refuse_score(self, column: str) -> None:
        """A column that was mapped to the loss is not minimised where its name says that higher is better."""
        if is_score(column):
            raise LogFormatError(
                f"{self.table.name}: '{column}' is a score by its name, of which higher is better, and a law is fitted "
                f"to where the loss is lowest; {_turned(column)} (if lower is better, rename the column)"
            )

    @staticmethod
    def _may_be_loss(column: str) -> bool:
        return is_smoothed_loss(column) or not set(LOSSES).isdisjoint(spellings(column)[:2])

    def _note_other_losses(self, ranked: list[tuple[int, int]]) -> None:
        taken = self.table.columns[self.places["loss"]]
        others = [self.table.columns[place] for _, place in ranked[1:]]
        if others:
            named = ", ".join(f"'{name}'" for name in others)
            self.notes.append(f"the loss is '{taken}'; the file also has {named} (--map COLUMN=loss to take another)")

    def _settle_run_id(self) -> None:
        """A name serves as run id only where it tells the runs apart."""
        place = self.places.pop("run_name", None)
        if place is None:
            return
        mapped = self.evidence.pop("run_name") == "as you said"
        names = [cells[place] for cells in {cells for _, cells in self.table.rows}]  # a repeated row is another matter
        unique = len(set(names)) == len(names) and not any(is_missing(name) for name in names)
        if "run_id" not in self.places and (mapped or unique):
            self._take("run_id", place, "as you said" if mapped else "taken as run id: it differs in every row")
        else:
            self.kept_out.discard(place)

    def _require(self) -> None:
        """Every run needs these; say all that is missing at once."""
        missing: list[str] = []
        if "lr" not in self.places:
            missing.append("learning rate (lr)")
        if "_batch_unstated" not in self.places and not {"batch_tokens", "batch_sequences"} & set(self.places):
            missing.append("batch size (batch_tokens or batch_sequences)")
        if "params" not in self.places:
            missing.append("parameter count (params)")
        if "tokens" not in self.places and "steps" not in self.places:
            missing.append("training tokens (tokens, or steps)")
        if "loss" not in self.places:
            missing.append("loss")
        if not any(is_number(cell) for _, cells in self.table.rows for cell in cells) and self.table.rows:
            raise LogFormatError(f"{self.table.name}: no column holds numbers; this is not a table of runs")
        if missing:
            raise LogFormatError(
                f"{self.table.name} has no column for: {', '.join(missing)}; {self._columns_seen()}. "
                f"Say which it is with --map COLUMN=FIELD{self._hints()}"
            )
        unstated = self.places.pop("_batch_unstated", None)
        if unstated is not None:
            name = self.table.columns[unstated]
            raise LogFormatError(
                f"{self.table.name}: '{name}' does not say whether it counts tokens or sequences; "
                "say --batch-unit tokens, or --batch-unit sequences with --seq-len (or a column of sequence lengths)"
            )
        in_sequences_only = "batch_tokens" not in self.places
        if in_sequences_only and "seq_len" not in self.places and self.options.seq_len is None:
            name = self.table.columns[self.places["batch_sequences"]]
            raise LogFormatError(
                f"{self.table.name}: the batch size '{name}' is in sequences, and no column says how many tokens "
                "a sequence has; say it with --seq-len"
            )

    def _hints(self) -> str:
        hints = []
        normals = {normal(column): place for place, column in enumerate(self.table.columns)}
        for name, place in normals.items():
            column = self.table.columns[place]
            if name in PER_DEVICE:
                hints.append(f"'{column}' is one device's share: add a column with the whole batch")
        empty = [
            column
            for place, column in enumerate(self.table.columns)
            if not self._has_values(place) and (is_smoothed_loss(column) or self._is_known(column))
        ]
        if empty:
            hints.append(f"empty in every row: {', '.join(empty)}")
        if "loss" not in self.places:
            scores = [column for column in self.table.columns if is_score(column)]
            hints += [f"'{column}' is a score, of which higher is better: {_turned(column)}" for column in scores[:1]]
        if "step" in normals:
            hints.append("a column 'step' suggests a training curve: lawfit ingest wants one row per run, not per step")
        return "".join(f"; {hint}" for hint in hints)

    @staticmethod
    def _is_known(column: str) -> bool:
        needed = ("lr", "params", "tokens", "batch_tokens", "batch_sequences")
        return any(form in NAMES[field] for field in needed for form in spellings(column)) or normal(column) in LOSSES

    def _columns_seen(self, most: int = 40) -> str:
        names = [name if len(name) <= 60 else name[:57] + "..." for name in self.table.columns]
        more = f" and {len(names) - most} more" if len(names) > most else ""
        return f"its columns are {', '.join(names[:most])}{more}"

    def _convention(self) -> str:
        if stated := self.options.recipe_fields.get("params_convention"):
            return stated
        words = set(normal(self.table.columns[self.places["params"]]).split("_"))
        if not words.isdisjoint({"embedding", "embed", "nonembedding"}):
            return "non_embedding"
        return next((word for word in ("active", "total") if word in words), "")

    def _show(self, field: str, convention: str) -> str:
        known = [self.evidence[field]] if self.evidence[field] else []
        if field == "lr":
            known.insert(0, "peak")
        elif field == "batch_tokens":
            known.insert(0, "tokens per step")
        elif field == "batch_sequences":
            length = (
                f"x column '{self.table.columns[self.places['seq_len']]}'"
                if "seq_len" in self.places
                else f"x {self.options.seq_len} tokens, as you said"
                if self.options.seq_len
                else "no sequence length known"
            )
            known.insert(0, f"sequences per step, {length}")
        elif field == "params":
            by_row = "params_convention" in self.places
            known.insert(0, convention or (CONVENTION_BY_ROW if by_row else "which parameters it counts is not said"))
        column = self.table.columns[self.places[field]]
        return f"{column} ({'; '.join(known)})" if known else column


def _turned(score: str) -> str:
    """What to do with a score."""
    return f"add a column of errors, such as 1 - {score} (100 - it, in percent), and take that with --map COLUMN=loss"
