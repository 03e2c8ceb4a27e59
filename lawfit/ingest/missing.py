"""What a table lacks, all of it in one question, with what its columns suggest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from lawfit.errors import LogFormatError
from lawfit.factors import is_shape, normal, spellings
from lawfit.findings import Finding, finding
from lawfit.ingest.cell_texts import columns_of_sizes
from lawfit.ingest.metrics import is_altered, kind_of
from lawfit.ingest.names import LOSSES, NAMES, PER_DEVICE, is_smoothed_loss, rank_of
from lawfit.ingest.numbers import is_missing
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.questions import Choice, Question
from lawfit.ingest.sizes import families_of
from lawfit.ingest.stated import not_all_devices
from lawfit.ingest.view import View

MOST_COLUMNS: Final = 40
_LONGEST: Final = 60
_MOST_LIKELY: Final = 4
_WORDS_OF: Final = {
    "params": {"params", "param", "parameters", "parameter", "nparams"},
    "tokens": {"tokens", "token", "toks", "ntokens"},
    "batch": {"batch", "batchsize", "bs", "bsz"},
    "loss": {"loss", "nll", "entropy"},
}
_LARGE: Final = 1e5  # a count of parameters or tokens


def require_numbers(view: View) -> None:
    """Refuse what holds no number at all.

    Raises
    ------
    LogFormatError
        It does not.
    """
    table = view.table
    places = sorted(
        range(len(table.columns)), key=lambda place: len(table.cells(place).levels)
    )  # the soonest looked at
    if table.rows and not any(view.holds_numbers(place) for place in places):
        raise LogFormatError(f"{table.name}: no column holds numbers; this is not a table of runs")


def missing_question(view: View, places: Mapping[str, int], kind: str, options: IngestOptions) -> Question | None:
    """What every run needs and no column says.

    Raises
    ------
    LogFormatError
        Neither the size of a model nor the length of a run is there: nothing can be fitted.
    """
    batches = {"batch_tokens", "batch_sequences", "batch_unstated"} & set(places)
    lengths = {"tokens", "steps"} & set(places)
    missing: list[str] = []
    if kind == "runs":
        missing += [] if "lr" in places else ["lr"]
        missing += [] if batches else ["batch"]
    missing += [] if "params" in places else ["params"]
    missing += [] if ("tokens" in places if kind == "losses" else lengths) else ["tokens"]
    missing += [] if "loss" in places else ["loss"]
    columns = [name if len(name) <= _LONGEST else name[: _LONGEST - 3] + "..." for name in view.table.columns]
    named = "params" in missing and bool(columns_of_sizes(view.table))
    if {"params", "tokens"} <= set(missing) and not (lengths or named or _suggests(view, places)):
        hints = _hints(view, places)
        shown = {"columns": columns[:MOST_COLUMNS], "more": max(0, len(columns) - MOST_COLUMNS)}
        raise LogFormatError(
            finding("ingest.nothing_to_fit", file=view.table.name, missing=missing, hints=hints, **shown)
        )
    if missing:
        shown = {"columns": columns[:MOST_COLUMNS], "more": max(0, len(columns) - MOST_COLUMNS)}
        hints = _hints(view, places)
        found = finding("ingest.missing_columns", file=view.table.name, missing=missing, hints=hints, **shown)
        choices: list[Choice] = [(("map", f"{column}={name}"),) for name, column in _likely(view, places, missing)]
        if "params" in missing:
            choices += [(("map", f"{column}=params"),) for column, _ in columns_of_sizes(view.table)]
        choices += [(("map", "COLUMN=FIELD"),), (("set", "FIELD=VALUE"),)]
        if "params" in missing:
            choices += [(("size-from", family),) for family in families_of(view.table)]
        if set(missing) <= {"lr", "batch"}:
            choices.append((("kind", "losses"),))
        return Question(found=found, choices=tuple(choices))
    if kind == "runs" and "batch_sequences" in places and "batch_tokens" not in places:
        known = "seq_len" in places or options.seq_len is not None
        if not known:
            column = view.table.columns[places["batch_sequences"]]
            found = finding("ingest.no_sequence_length", file=view.table.name, column=column)
            return Question(found=found, columns=(column,), choices=((("seq-len", "T"),),))
    return None


def _lacking(places: Mapping[str, int]) -> set[str]:
    return set() if {"batch_tokens", "batch_sequences"} & set(places) else {"batch"}


def _suggests(view: View, places: Mapping[str, int]) -> bool:
    """Whether some column could be the size or the length under a name that is not known: a large number."""
    free = [place for place in range(len(view.table.columns)) if place not in places.values()]
    return any((values := view.values(place)) and values[-1] >= _LARGE for place in free)


def _shape_of(view: View) -> list[str]:
    return [column for column in view.table.columns if is_shape(column)]


def _hints(view: View, places: Mapping[str, int]) -> list[Finding]:
    columns = view.table.columns
    normals = {normal(column): column for column in columns}
    hints = []
    shares = [column for name, column in normals.items() if name in PER_DEVICE]
    if shares and not {"batch_tokens", "batch_sequences"} & set(places):
        hints.append(finding("ingest.one_devices_share", column=shares[0]))
    for column in columns:
        devices = rank_of(column, "devices") is not None
        if devices and "batch" in _lacking(places) and (other := not_all_devices(view.table, column)):
            hints.append(finding("ingest.devices_unclear", column=column, other=other))
            break
    empty = [c for place, c in enumerate(columns) if not view.filled(place) and (is_smoothed_loss(c) or _is_known(c))]
    if empty:
        hints.append(finding("ingest.empty_columns", columns=empty))
    if "params" not in places:
        plain = _sizes_in(view, places)[:1]
        hints += [finding("ingest.sizes_in", column=column, size=size) for column, size in plain]
        in_names = [] if plain else columns_of_sizes(view.table)[:1]
        hints += [finding("ingest.sizes_in_names", column=column, text=text) for column, text in in_names]
    if "params" not in places and (shape := _shape_of(view)):
        hints.append(finding("ingest.shape_is_no_count", columns=shape))
    if "loss" not in places and (scores := [column for column in columns if kind_of(column) in ("score", "unbounded")]):
        hints.append(finding("ingest.score_column", column=scores[0]))
    if "loss" not in places and (altered := [column for column in columns if is_altered(column)]):
        hints.append(finding("ingest.altered_loss", column=altered[0]))
    if "step" in normals:
        hints.append(finding("ingest.looks_like_a_curve"))
    return hints


def _likely(view: View, places: Mapping[str, int], missing: Sequence[str]) -> list[tuple[str, str]]:
    """Field and column, for columns whose words are those of a field that lacks."""
    found = []
    for place, column in enumerate(view.table.columns):
        if place in places.values() or normal(column) in PER_DEVICE or not view.holds_numbers(place):
            continue
        words = set(normal(column).split("_"))
        fields = [name for name in missing if not words.isdisjoint(_WORDS_OF.get(name, ()))]
        found += [(each, column) for name in fields for each in _fields_of(name, words)]
    return found[:_MOST_LIKELY]


def _fields_of(name: str, words: set[str]) -> tuple[str, ...]:
    """What a column may be mapped to: of a batch, nothing but a word says in which unit it is."""
    if name != "batch":
        return (name,)
    return ("batch_tokens",) if words & _WORDS_OF["tokens"] else ("batch_sequences", "batch_tokens")


def _sizes_in(view: View, places: Mapping[str, int]) -> list[tuple[str, str]]:
    """Columns of which every cell is such as 20M, and the first of them."""
    found = []
    for place, column in enumerate(view.table.columns):
        texts = [str(cell).strip() for cell in view.cells(place).levels if not is_missing(cell)]
        if texts and place not in places.values() and all(re.fullmatch(r"[0-9.]+\s?[kKmMbB]", text) for text in texts):
            found.append((column, texts[0]))
    return found


def _is_known(column: str) -> bool:
    needed = ("lr", "params", "tokens", "batch_tokens", "batch_sequences")
    return any(form in NAMES[name] for name in needed for form in spellings(column)) or normal(column) in LOSSES
