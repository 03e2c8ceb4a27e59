"""Which column holds which field: recognised by name and numbers, shown with its evidence, overridden by the user."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from typing import Final

from lawfit.errors import LogFormatError
from lawfit.factors import normal, spellings
from lawfit.findings import Found, finding
from lawfit.ingest import batch_column, loss_column, lr_column
from lawfit.ingest.cell_texts import columns_of_rates, rates_in_names
from lawfit.ingest.column_map import (
    CONVENTION_BY_ROW,
    COUNTS,
    EXTRA,
    FIELDS,
    NUMERIC,
    SHOWN_FIRST,
    ColumnMap,
    Recognised,
    convention_of,
)
from lawfit.ingest.headers import PLAIN, Unit, bare_names, for_rates
from lawfit.ingest.metrics import METRICS, UNBOUNDED, data_of, is_percent, is_score, kind_of
from lawfit.ingest.missing import missing_question, require_numbers
from lawfit.ingest.names import MULTIPLIERS, NAMES, is_logged_step, rank_of
from lawfit.ingest.numbers import CellError, flag, is_missing, is_number, number
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.points import points_question, unnamed_points
from lawfit.ingest.progress import SEEN
from lawfit.ingest.questions import Question, doubted
from lawfit.ingest.stated import IN_NAMES, RATE_IN_NAMES, is_ratio, place_of, with_stated
from lawfit.ingest.table import Table
from lawfit.ingest.view import View, differs, median, pairs, ratios
from lawfit.packed import Column, repeated


def recognise(table: Table, options: IngestOptions) -> ColumnMap:
    """Find the columns.

    Raises
    ------
    Doubted
        A field that every run needs has no column, or one whose unit is not known.
    """
    found = recognise_all(table, options)
    if any(not question.assumed for question in found.questions):
        raise doubted(table.name, found.questions)
    return found.columns


def recognise_all(table: Table, options: IngestOptions) -> Recognised:
    """Find what columns there are, and all questions that they leave open.

    Raises
    ------
    LogFormatError
        A mapping names no column or no field, or no column holds numbers.
    """
    return _Recogniser(table, options).run()


class _Recogniser:
    """One table's columns while they are being given out."""

    def __init__(self, table: Table, options: IngestOptions) -> None:
        self.table, self._stated = with_stated(table, options)
        self.options = options
        self.view = View(self.table)
        self.places: dict[str, int] = {}
        self.units: dict[str, Unit] = {}
        self.evidence: dict[str, str] = {}
        self.notes: list[Found] = []
        self.questions: list[Question] = []
        self.kept_out: set[int] = set()  # given away, or to be left alone
        self.batch = batch_column.BatchUnit(unit=None)
        self.metric = METRICS[options.metric or "nats"]

    def run(self) -> Recognised:
        self._take_mapped()
        for name in NAMES:
            if name not in self.places:
                self._take_by_name(name)
        self._settle_batch()
        self._take_loss()
        self._settle_run_id()
        require_numbers(self.view)
        kind = self._kind()
        self._ask_of_points()
        if kind == "runs" and (lr := self.places.get("lr")) is not None and self.evidence["lr"] != "as you said":
            candidate = lr_column.Candidate(place=lr, rank=(0, 0), unit=self.units.get("lr", PLAIN))
            texts = [
                (column, rates_in_names(self.table, column) or Column([])) for column, _ in columns_of_rates(self.table)
            ]
            asked = (
                lr_column.base_rate(self.view, candidate)
                or lr_column.looks_decayed(self.view, candidate)
                or lr_column.texts_disagree(self.view, candidate, texts)
            )
            if asked is None and (decay := self.places.get("weight_decay")) is not None:
                asked = lr_column.swapped(self.view, candidate, decay, self.places.get("optimizer"))
            clear = self._codes().isdisjoint(("ingest.which_lr", "ingest.lr_by_its_words"))
            self.questions += [asked] if asked and clear else []
        unbounded = "ingest.unbounded_score" in self._codes()
        known = {**self.places, **({"loss": -1} if unbounded else {})}
        self.questions += [ask for ask in [missing_question(self.view, known, kind, self.options)] if ask]
        if kind == "losses" and self.options.kind is None:
            self._ask_rate_elsewhere()
        if kind == "losses":
            for name in ("lr", "batch_tokens", "batch_sequences", "batch_unstated"):
                self.places.pop(name, None)
            self.questions = [ask for ask in self.questions if ask.found.code not in _OF_BATCH]
        self._ask_of_copies()
        self._ask_units()
        columns = self._columns(kind)
        return Recognised(columns=columns, questions=tuple(self.questions), table=self.table)

    def _codes(self) -> set[str]:
        return {question.found.code for question in self.questions}

    def _kind(self) -> str:
        """Whether rows are runs with settings, or sizes and losses alone."""
        if self.options.kind is not None:
            return "losses" if self.options.kind == "losses" else "runs"
        known = {"params", "tokens", "loss"} <= self.places.keys()
        return "losses" if known and "lr" not in self.places else "runs"

    def _columns(self, kind: str) -> ColumnMap:
        convention = self._convention()
        order = (*SHOWN_FIRST, *(field for field in self.places if field not in SHOWN_FIRST))
        hidden = set(batch_column.FACTORS)
        shown = {name: self._show(name, convention) for name in order if name in self.places and name not in hidden}
        if "tokens" not in self.places and kind == "runs":
            shown["tokens"] = "steps x batch size (the file has no column of tokens)"
            self.notes.append(finding("ingest.tokens_of_steps"))
        if "batch_tokens" not in self.places and self.options.seq_len and "seq_len" not in self.places:
            shown["seq_len"] = f"{self.options.seq_len}, as you said"
        return ColumnMap(
            names=self.table.columns,
            places=self.places,
            shown=shown,
            notes=(*self.notes, *self._assumptions()),
            params_convention=convention,
            loss_column=self.table.columns[self.places["loss"]] if "loss" in self.places else "",
            units={name: unit for name, unit in self.units.items() if name in self.places and not unit.plain},
            metric=self.metric,
            kind=kind,
            data_unit=self.batch.data_unit,
            seq_len=self.batch.seq_len,
        )

    def _assumptions(self) -> list[Found]:
        """What is taken though a person could say otherwise."""
        return [question.taken for question in self.questions if question.assumed]

    def _take_mapped(self) -> None:
        for name, (place, evidence) in self._stated.items():
            self._take(name, place, evidence)
        for column, name in self.options.column_map.items():
            place = place_of(self.table, column)
            if {IN_NAMES + column, RATE_IN_NAMES + column} & set(self.table.columns) and name in ("params", "lr"):
                continue  # its names stay names
            if name == EXTRA or (name == "tokens" and is_ratio(column)):  # a ratio was multiplied
                self.kept_out.add(place)
                continue
            if name not in FIELDS:
                close = difflib.get_close_matches(name, FIELDS, n=1)
                hint = f"did you mean '{close[0]}'? The" if close else "the"
                raise LogFormatError(
                    f"'{name}' is no field; {hint} fields are {', '.join(FIELDS)}, and 'extra' for none"
                )
            if name in self.places:
                other = self.table.columns[self.places[name]]
                raise LogFormatError(f"both '{other}' and '{column}' are mapped to {name}; map one of them")
            self._take(name, place, "as you said")
            self.units[name] = self._unit(name, column)
        for column in (*self.options.units, *self.options.split, *self.options.pool, *self.options.only):
            place_of(self.table, column)

    def _unit(self, name: str, column: str) -> Unit:
        """Of a column that a person mapped: as stated, else as its own name says for sure."""
        if (stated := self.options.unit(column)) is not None:
            return stated
        units = [unit for _, unit in bare_names(column) if not unit.plain and unit.sure]
        return for_rates(units[0]) if units and name in _SMALL else units[0] if units and name in COUNTS else PLAIN

    def _candidates(self, name: str) -> list[lr_column.Candidate]:
        """Columns whose name can stand for a field, best first."""
        found: list[tuple[tuple[int, int], bool, int, Unit]] = []
        for place, column in enumerate(self.table.columns):
            if place in self.kept_out or place in self.places.values() or not self.view.filled(place):
                continue
            if name == "steps" and is_logged_step(column) and "tokens" in self.places:
                continue  # how often something was logged
            ranks = [
                (rank, not unit.plain, self.options.unit(column) or (for_rates(unit) if name in _SMALL else unit))
                for bare, unit in bare_names(column)
                if (unit.plain or name in COUNTS or name in _SMALL) and (rank := rank_of(bare, name)) is not None
            ]
            if ranks:
                rank, united, unit = min(ranks, key=lambda each: each[:2])
                found.append((rank, united, place, unit))
        found.sort(key=lambda each: each[:3])
        if name in NUMERIC and any(self.view.holds_numbers(place) for _, _, place, _ in found):
            found = [each for each in found if self.view.holds_numbers(each[2])]
        return [lr_column.Candidate(place=place, rank=rank, unit=unit) for rank, _, place, unit in found]

    def _take_by_name(self, name: str) -> None:
        found = self._candidates(name)
        if name == "completed":
            found = [c for c in found if self._is_flag(c.place)]  # "finished" is as often a time
        if not found:
            if name == "lr":
                self._take_multiples()
                self._take_loose_rate()
            return
        if name == "lr":
            best, notes, questions = lr_column.choose(self.view, found)
            self.notes += notes
            self.questions += questions
            self._take("lr", best.place, "")
            self.units["lr"] = best.unit
            self._doubt_multiplied_rate()
            others = lr_column.rivals(self.view, best, self._free())
            if others and not questions:
                self._ask_which("lr", [self.table.columns[best.place], *others])
            return
        if name == "params":
            found = self._active_first(found)
        if name == "tokens":
            found = self._seen_first(found)
        first = found[0]
        columns = self.table.columns
        stated = "batch_sequences" if name == "batch_unstated" else name  # as --map has it
        alike = [c for c in found[1:] if c.rank == first.rank and c.unit == first.unit]
        if alike and name not in batch_column.FACTORS:
            names = [columns[first.place], columns[alike[0].place]]
            choices = tuple((("map", f"{column}={stated}"),) for column in names)
            asked = finding("ingest.two_columns", columns=names, field=stated)
            self.questions.append(Question(found=asked, columns=tuple(names), choices=choices))
        self._take(name, first.place, "")
        self.units[name] = first.unit
        for other in found[1:]:
            if other not in alike and self._differs(name, first, other):
                pair = {"column": columns[first.place], "other": columns[other.place]}
                self.notes.append(finding("ingest.could_be_too", field=stated, **pair))

    def _free(self) -> list[int]:
        return [place for place in range(len(self.table.columns)) if place not in self.kept_out]

    def _ask_which(self, name: str, columns: list[str]) -> None:
        asked = finding("ingest.two_columns", columns=columns, field=name)
        choices = tuple((("map", f"{column}={name}"),) for column in columns)
        self.questions.append(Question(found=asked, columns=tuple(columns), choices=choices))

    def _take_multiples(self) -> None:
        """Where there is no learning rate, multiples of one."""
        for place, column in enumerate(self.table.columns):
            if MULTIPLIERS.isdisjoint(spellings(column)) or place in self.kept_out:
                continue
            self._take("lr", place, "")
            self.units["lr"] = self.options.unit(column) or PLAIN
            if values := self.view.values(place):
                asked = finding("ingest.rate_multiples", column=column, low=values[0], high=values[-1])
                choices = ((("map", f"{column}=lr"), ("unit", f"{column}=RATE")),)
                self.questions.append(Question(found=asked, columns=(column,), choices=choices))
            return

    def _doubt_multiplied_rate(self) -> None:
        """A rate with multiples of one beside it: multiplied already, unless its rows say that it is a base."""
        column = self.table.columns[self.places["lr"]]
        for place, other in enumerate(self.table.columns):
            if MULTIPLIERS.isdisjoint(spellings(other)) or place in self.kept_out:
                continue
            both = pairs(self.view.numbers(self.places["lr"], self.units["lr"]), self.view.numbers(place))
            multiples = {multiple for _, multiple in both}
            if (
                multiples <= {1.0}
                or (len(multiples) == 1 and normal(other).endswith("ratio"))
                or len({f"{lr / multiple:.3g}" for lr, multiple in both if multiple}) == 1
            ):
                continue
            asked = finding("ingest.multiplied_rate", column=column, other=other)
            choices = ((("map", f"{column}=lr"),),)
            self.questions.append(Question(found=asked, columns=(column, other), choices=choices))
            return

    def _take_loose_rate(self) -> None:
        """A column that has the words of a learning rate: somebody logged one, so there is one."""
        if "lr" in self.places:
            return
        free = [place for place in range(len(self.table.columns)) if place not in self.kept_out]
        loose = [p for p in free if lr_column.may_be_rate(self.table.columns[p]) and self.view.holds_numbers(p)]
        if loose and self.options.kind is None:
            names = [self.table.columns[place] for place in loose]
            self._take("lr", loose[0], "")
            asked = finding("ingest.lr_by_its_words", columns=names)
            choices = (*((("map", f"{name}=lr"),) for name in names), (("kind", "losses"),))
            self.questions.append(Question(found=asked, columns=tuple(names), choices=choices))

    def _ask_rate_elsewhere(self) -> None:
        """Rows without a learning rate, where another column shows that it was varied."""
        near = lr_column.schedule_rates(self.view, self._free())
        named = [] if near else columns_of_rates(self.table)
        if near or named:
            column = near[0] if near else named[0][0]
            asked = finding("ingest.rate_elsewhere", column=column, text="" if near else named[0][1])
            choices = ((("map", f"{column}=lr"),), (("set", "lr=RATE"),), (("kind", "losses"),))
            self.questions.append(Question(found=asked, columns=(column,), choices=choices))

    def _active_first(self, found: list[lr_column.Candidate]) -> list[lr_column.Candidate]:
        """Experts that do not work on a token cost nothing: of two counts that differ, the active one sizes a run."""
        active = [c for c in found if convention_of(self.table.columns[c.place]) == "active"]
        if not active or found[0] in active:
            return found
        one, other = (self.view.numbers(c.place, c.unit) for c in (found[0], active[0]))
        if not differs(one, other):
            return found
        columns = self.table.columns
        pair = {"column": columns[active[0].place], "other": columns[found[0].place]}
        self.notes.append(finding("ingest.active_params", **pair))
        return [active[0]]

    def _seen_first(self, found: list[lr_column.Candidate]) -> list[lr_column.Candidate]:
        """Tokens that were trained on before those that there were, but where most runs came to their plan's end."""
        columns = self.table.columns
        seen = [c for c in found if not SEEN.isdisjoint(normal(columns[c.place]).split("_"))]
        if not seen or found[0] in seen:
            return found
        both = pairs(*(self.view.numbers(c.place, c.unit) for c in (seen[0], found[0])))
        if not both or any(math.isclose(a, b, rel_tol=0.02) for a, b in both):
            return found  # a row that fell short of its plan is left out: `endings`
        return [seen[0], *(c for c in found if c is not seen[0])]

    def _is_flag(self, place: int) -> bool:
        try:
            return all(flag(cell) in (True, False) for cell in self.view.cells(place).levels if not is_missing(cell))
        except CellError:
            return False

    def _take(self, name: str, place: int, evidence: str) -> None:
        self.places[name] = place
        self.evidence[name] = evidence
        self.kept_out.add(place)

    def _differs(self, name: str, one: lr_column.Candidate, other: lr_column.Candidate) -> bool:
        """Whether two columns hold different things; numbers within 1 % (nominal and counted) are the same."""
        if name in NUMERIC:
            return differs(self.view.numbers(one.place, one.unit), self.view.numbers(other.place, other.unit))
        for _, cells in self.table.rows:
            if is_number(cells[one.place]) and is_number(cells[other.place]):
                if not math.isclose(number(cells[one.place]), number(cells[other.place]), rel_tol=0.01):
                    return True
            elif cells[one.place] != cells[other.place]:
                return True
        return False

    def _settle_batch(self) -> None:
        """Turn a column that only says "batch size" into tokens or sequences, or ask."""
        self._settle_bare_batch()
        for name in batch_column.FACTORS:  # multiplied, where all are there: `with_stated`
            self.places.pop(name, None)

    def _settle_bare_batch(self) -> None:
        if "batch_unstated" not in self.places:
            return
        if "batch_tokens" in self.places or "batch_sequences" in self.places:
            self.kept_out.discard(self.places.pop("batch_unstated"))
            return
        if asked := batch_column.accumulated(self.view, self.places, self.units, self.options):
            self.questions.append(asked)
            return
        if self.options.batch_unit is None:
            self.batch = batch_column.unit_of_batch(self.view, self.places, self.units, self.options)
            self.notes += self.batch.notes
            self.questions += [self.batch.question] if self.batch.question else []
            said = f"counted in {self.batch.data_unit or self.batch.unit}, as the numbers say"
        else:
            self.batch = dataclasses.replace(self.batch, unit=self.options.batch_unit)
            said = f"counted in {self.batch.unit}, as you said"
        if self.batch.unit is None:
            return
        place = self.places.pop("batch_unstated")
        name = "batch_tokens" if self.batch.unit == "tokens" else "batch_sequences"
        self._take(name, place, said)
        self.units[name] = self.units.pop("batch_unstated", PLAIN)

    def _doubt_training_loss(self, free: list[int]) -> None:
        """A loss on training data is asked about where another column has the words of validation data."""
        column, others = self.table.columns[self.places["loss"]], []
        if data_of(column) != "training":
            return
        for place in free:
            name = self.table.columns[place]
            if place != self.places["loss"] and data_of(name) == "validation" and self.view.holds_numbers(place):
                others.append(name)
        if not others or self._codes() & {"ingest.two_columns"}:
            self.notes.append(finding("ingest.training_loss", column=column))
            return
        asked = finding("ingest.two_columns", columns=[*others, column], field="loss")
        choices = tuple((("map", f"{name}=loss"),) for name in (*others, column))
        self.questions.append(Question(found=asked, columns=(*others, column), choices=choices))

    def _take_loss(self) -> None:
        if "loss" not in self.places:
            free = [place for place in range(len(self.table.columns)) if place not in self.kept_out]
            found = loss_column.choose(self.view, free, self.options.metric)
            self.notes += found.notes
            self.questions += found.questions
            if found.place is None:
                return
            self._take("loss", found.place, found.evidence)
            self._doubt_training_loss(free)
        self._settle_metric()

    def _settle_metric(self) -> None:
        """What the loss column measures, as a person or its name says."""
        column, values = self.table.columns[self.places["loss"]], self.view.values(self.places["loss"])
        highest = max(values, default=0.0)
        if self.options.metric is not None:
            percent = self.options.metric == "score" and highest > 1
            self.metric = METRICS["percent_score" if percent else self.options.metric]
            return
        kind = kind_of(column)
        if kind == UNBOUNDED or (is_score(column) and not self._bounded()):
            self.questions.append(loss_column.unbounded(self.view, self.places["loss"]))
            return
        self.metric = METRICS["percent_score" if kind == "score" and highest > 1 else kind or "nats"]
        if is_percent(column) and column not in self.options.units and kind in ("score", "error"):
            if highest <= 1:
                self.questions.append(loss_column.percent_or_share(column, values, kind))
            elif kind == "error":
                self.units["loss"] = Unit(factor=0.01, as_written="as a share of 1")

    def _bounded(self) -> bool:
        values = self.view.values(self.places["loss"])
        return bool(values) and values[0] >= 0 and values[-1] <= 100

    def _settle_run_id(self) -> None:
        """A name serves as run id only where it tells the runs apart."""
        place = self.places.pop("run_name", None)
        if place is None:
            return
        mapped = self.evidence.pop("run_name") == "as you said"
        again = repeated(self.table.packed.columns, len(self.table.rows))  # a repeated row is another matter
        names = [name for at, name in enumerate(self.table.cells(place)) if at not in again]
        unique = len(set(names)) == len(names) and not any(is_missing(name) for name in names)
        if "run_id" not in self.places and (mapped or unique):
            self._take("run_id", place, "as you said" if mapped else "taken as run id: it differs in every row")
        else:
            self.kept_out.discard(place)
            if "run_id" not in self.places and (asked := points_question(self.view, self.places, place)):
                self.questions.append(asked)

    def _ask_of_points(self) -> None:
        if "run_id" not in self.places and "ingest.points_or_runs" not in self._codes():
            asked = unnamed_points(self.view, self.places, self.options.column_map)
            self.questions += [asked] if asked else []

    def _ask_of_copies(self) -> None:
        """A header that stood there twice, as pandas tells the second from the first: `loss` and `loss.1`."""
        for name, place in self.places.items():
            if name not in NUMERIC or self.evidence[name] or place >= len(self.table.columns):
                continue
            column = self.table.columns[place]
            bare = _COPY.sub("", column)
            copies = [at for at, other in enumerate(self.table.columns) if at != place and _COPY.sub("", other) == bare]
            alike = [at for at in copies if not differs(self.view.numbers(place), self.view.numbers(at))]
            if len(alike) < len(copies):
                self._ask_which(name, [column, *(self.table.columns[at] for at in copies)])

    def _ask_units(self) -> None:
        """A unit that a name hints at and does not say."""
        for name, unit in list(self.units.items()):
            column = self.table.columns[self.places[name]] if name in self.places else ""
            if not column or unit.plain or column in self.options.units:
                continue
            if unit.sure:
                self.notes.append(finding("ingest.unit_is", column=column, unit=unit.as_written, field=name))
                continue
            words = ("log10", "ln") if unit.power_of else (unit.word, "1")
            values = self.view.values(self.places[name])
            low, high = (values[0], values[-1]) if values else (None, None)
            shown = {"column": column, "low": low, "high": high, "unit": unit.as_written, "field": name}
            asked = finding("ingest.unit_hinted", **shown, each=self._tokens_each(name))
            choices = tuple((("unit", f"{column}={word}"),) for word in words)
            self.questions.append(Question(found=asked, columns=(column,), choices=choices, safe=0))

    def _tokens_each(self, plain: str) -> float | None:
        """Tokens per parameter in the median row, were the numbers of one field plain."""
        if plain not in ("params", "tokens") or not {"params", "tokens"} <= self.places.keys():
            return None
        units = {name: PLAIN if name == plain else self.units.get(name, PLAIN) for name in ("params", "tokens")}
        params, tokens = (self.view.numbers(self.places[name], unit) for name, unit in units.items())
        each = ratios(params, tokens)
        return median(each) if each else None

    def _convention(self) -> str:
        if stated := self.options.recipe_fields.get("params_convention"):
            return stated
        return convention_of(self.table.columns[self.places["params"]]) if "params" in self.places else ""

    def _show(self, name: str, convention: str) -> str:
        known = [self.evidence[name]] if self.evidence[name] else []
        if name == "lr":
            known.insert(0, "peak")
        elif name == "batch_tokens":
            known.insert(0, f"{self.batch.data_unit or 'tokens'} per step")
        elif name == "batch_sequences":
            length = (
                f"x column '{self.table.columns[self.places['seq_len']]}'"
                if "seq_len" in self.places
                else f"x {self.options.seq_len} tokens, as you said"
                if self.options.seq_len
                else f"x {self.batch.seq_len} tokens, as the numbers say"
                if self.batch.seq_len
                else "no sequence length known"
            )
            known.insert(0, f"sequences per step, {length}")
        elif name == "params":
            by_row = "params_convention" in self.places
            known.insert(0, convention or (CONVENTION_BY_ROW if by_row else "which parameters it counts is not said"))
        elif name == "loss" and self.metric.said:
            known.append(self.metric.said)
        if not self.units.get(name, PLAIN).plain:
            known.append(self.units[name].as_written)
        column = self.table.columns[self.places[name]]
        return f"{column} ({'; '.join(known)})" if known else column


_SMALL: Final = frozenset({"lr", "weight_decay"})  # far below one
_COPY: Final = re.compile(r"\.\d{1,2}$")
_OF_BATCH: Final = frozenset({f"ingest.{code}" for code in ("batch_unit", "batch_below_sequence", "batch_too_many")})
