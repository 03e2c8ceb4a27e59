"""Columns that are added to a table: constants that a person states, batches and tokens multiplied from parts."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from lawfit.errors import LogFormatError
from lawfit.factors import normal, spellings
from lawfit.findings import finding
from lawfit.ingest.batch_column import FACTORS
from lawfit.ingest.cell_texts import rates_in_names, sizes_in_names
from lawfit.ingest.headers import Unit, bare_names, multiple_of_size
from lawfit.ingest.names import is_logged_step, rank_of, says_whole
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.sizes import counted_params
from lawfit.ingest.table import Cell, Table
from lawfit.ingest.view import View
from lawfit.packed import Column
from lawfit.units import parse_quantity

_CONSTANTS: Final = (
    "lr",
    "params",
    "tokens",
    "batch_tokens",
    "batch_sequences",
    "seq_len",
    "steps",
    "weight_decay",
    *FACTORS,
)
_OF_DATA: Final = frozenset(
    {
        *("dataset_tokens", "dataset_size_tokens", "n_dataset_tokens", "tokens_in_dataset", "unique_tokens"),
        *("corpus_tokens", "train_set_tokens", "training_set_tokens", "tokens_in_train_set", "tokens_in_training_set"),
    }
)
_UNIQUE: Final = frozenset({"unique", "uniq", "distinct"})
_TOKENS: Final = frozenset({"tokens", "token", "toks", "tok"})
_BESIDE: Final = frozenset({"n", "num", "number", "of", "train", "training", "data", "dataset", "total", "count"})
_PASSES: Final = frozenset(
    {"epochs", "n_epochs", "num_epochs", "num_train_epochs", "epoch", "max_epochs", "train_epochs"}
)
_RATIOS: Final = frozenset(
    {
        *("tokens_per_param", "tokens_per_parameter", "tokens_per_params", "token_per_param", "tok_per_param"),
        *("toks_per_param", "tokens_param_ratio", "tokens_to_params", "token_to_param_ratio", "d_n", "d_over_n"),
        *("d_n_ratio", "tokens_per_n", "tokens_params", "tpp", "token_param_ratio", "chinchilla_ratio"),
    }
)
_SEQUENCES: Final = re.compile(r"(^|_)(samples|examples|sequences|seqs)(_|$)")
_NODES: Final = frozenset({"nodes", "num_nodes", "n_nodes", "nnodes", "node_count", "hosts", "num_hosts"})
_MODEL_PARALLEL: Final = re.compile(
    r"(tp|pp|cp|tensor|pipeline|context|sequence|model|tensor_model|pipeline_model|tensor_parallel|pipeline_parallel)"
    r"(_parallel)?(_size|_degree)?|(tensor|pipeline|context)_(model_)?parallel(_size|_degree)?"
)
_LEAST_SEQUENCE: Final = 64  # tokens, of which a batch is a multiple
_LENGTH: Final = ("tokens", "steps")
IN_NAMES: Final = "size in "  # before the name of a column of names
RATE_IN_NAMES: Final = "rate in "
_WHOLE: Final = ("batch_tokens", "batch_sequences")

Stated = Mapping[str, tuple[int, str]]  # field -> place, and where it comes from


def with_stated(table: Table, options: IngestOptions) -> tuple[Table, Stated]:
    """The table with columns for constants, and for a batch of which all three parts are there.

    Raises
    ------
    LogFormatError
        No such field, or no shape of that family of models among the columns.
    """
    added: list[tuple[str, str, str, Sequence[Cell]]] = []  # field, name, evidence, cells
    for name, text in options.constants.items():
        if name not in _CONSTANTS:
            close = difflib.get_close_matches(name, _CONSTANTS, n=1)
            raise LogFormatError(finding("ingest.no_constant", name=name, close=close, fields=list(_CONSTANTS)))
        if name not in FACTORS:
            added.append((name, f"{name} = {text}", "as you said", Column.same(parse_quantity(text), len(table.rows))))
    if options.size_from is not None:
        named, cells = counted_params(table, options.size_from)
        added.append(("params", named, f"counted from the shape, as of {options.size_from}", cells))
    for column, name in options.column_map.items():
        if name == "params" and column in table.columns and (sizes := sizes_in_names(table, column)) is not None:
            added.append(("params", IN_NAMES + column, "as you said", sizes))
        if name == "lr" and column in table.columns and (rates := rates_in_names(table, column)) is not None:
            added.append(("lr", RATE_IN_NAMES + column, "as you said", rates))
    taken = {name for name, *_ in added} | set(options.column_map.values())
    if not taken & {*_WHOLE, "batch_unstated"} and (product := _product(table, options)):
        added.append(("batch_sequences", product[0], "multiplied", product[1]))
    elif not taken & {*_WHOLE, "batch_unstated", *_LENGTH} and (quotient := _quotient(table, options)):
        added.append(("batch_tokens", quotient[0], "divided", quotient[1]))
    if not taken & {"tokens", "steps"} and (whole := _of_sequences(table, options)):
        added.append(("tokens", whole[0], "multiplied", whole[1]))
    elif not taken & {"tokens", "steps"} and (passes := _passes(table, options)):
        added.append(("tokens", passes[0], "multiplied", passes[1]))
    elif ratio := _ratio(table, options, [cells for name, _, _, cells in added if name == "params"]):
        added.append(("tokens", ratio[0], "multiplied", ratio[1]))
    if not added:
        return table, {}
    places = {name: (len(table.columns) + k, evidence) for k, (name, _, evidence, _) in enumerate(added)}
    return table.with_columns({}, [(name, Column.of(cells)) for _, name, _, cells in added]), places


def _product(table: Table, options: IngestOptions) -> tuple[str, list[Cell]] | None:
    """Micro-batch x accumulation x devices; None where one is not there, or the whole batch is."""
    if any(rank_of(column, name) is not None for column in table.columns for name in _WHOLE):
        return None
    names: list[str] = []
    stated = {name: float(parse_quantity(text)) for name, text in options.constants.items() if name in FACTORS}
    for name in FACTORS:
        if name in stated:
            continue
        found = [column for column, given in options.column_map.items() if given == name]
        found += [column for column in table.columns if rank_of(column, name) is not None]
        if not found:
            return None
        if name == "devices" and found[0] not in options.column_map and not_all_devices(table, found[0]):
            return None
        names.append(found[0])
    bare = [column for column in table.columns if options.column_map.get(column) != "micro_batch"]
    if any(rank_of(column, "batch_unstated") is not None and says_whole(column) for column in bare):
        return None  # a global, total or effective batch is there
    view = View(table)
    columns: list[Sequence[float | None]] = [view.numbers(table.columns.index(name)) for name in names]
    columns += [[value] * len(table.rows) for value in stated.values()]
    names += [f"{value:g}" for value in stated.values()]
    cells: list[Cell] = [
        None if any(value is None for value in values) else math.prod(value for value in values if value is not None)
        for values in zip(*columns, strict=True)
    ]
    return " x ".join(names), cells


def _quotient(table: Table, options: IngestOptions) -> tuple[str, list[Cell]] | None:
    """Tokens of a run by its steps, where no column has a batch and each row makes whole sequences of them."""
    ranked: dict[str, list[tuple[tuple[int, int], str, Unit]]] = {name: [] for name in _LENGTH}
    for column in table.columns:
        for bare, unit in bare_names(column):
            if any(rank_of(bare, name) is not None for name in (*_WHOLE, "batch_unstated", *FACTORS)):
                return None
            for name, found in ranked.items():
                if (rank := rank_of(bare, name)) is not None and not is_logged_step(column):
                    found.append((rank, column, options.unit(column) or unit))
    if not all(ranked.values()) or set(options.constants) & set(FACTORS):
        return None
    (_, tokens, unit), (_, steps, of_steps) = (min(found, key=lambda each: each[0]) for found in ranked.values())
    view = View(table)
    total, made = view.numbers(table.columns.index(tokens), unit), view.numbers(table.columns.index(steps), of_steps)
    cells: list[Cell] = [d / s if d and s else None for d, s in zip(total, made, strict=True)]
    whole = all(isinstance(cell, float) and cell % _LEAST_SEQUENCE == 0 for cell in cells)
    return (f"{tokens} / {steps}", cells) if whole and len(cells) > 1 else None


def _of_sequences(table: Table, options: IngestOptions) -> tuple[str, list[Cell]] | None:
    """Samples x sequence length, where the samples of a run are sequences of tokens; None where tokens are there."""
    ranked = [(rank, column) for column in table.columns if (rank := rank_of(column, "tokens")) is not None]
    if not ranked or not all(_SEQUENCES.search(normal(column)) for _, column in ranked):
        return None
    samples = min(ranked)[1]
    lengths = [column for column, name in options.column_map.items() if name == "seq_len" and column in table.columns]
    lengths += [column for column in table.columns if rank_of(column, "seq_len") is not None]
    if samples in options.column_map or (not lengths and options.seq_len is None):
        return None
    view = View(table)
    length = view.numbers(table.columns.index(lengths[0])) if lengths else [options.seq_len] * len(table.rows)
    both = zip(view.numbers(table.columns.index(samples)), length, strict=True)
    name = f"{samples} x {lengths[0] if lengths else options.seq_len}"
    return name, [None if a is None or b is None else a * b for a, b in both]


def not_all_devices(table: Table, column: str) -> str:
    """A column beside one of devices that says that a step's batch is spread over fewer, or more, of them; "" if none.

    Devices of one node have to be multiplied by the nodes, and those that share one copy of the model divided out.
    """
    if normal(column).startswith(("dp", "data_parallel")):
        return ""
    view, of_all = View(table), "world" in normal(column) or "total" in normal(column)
    for place, other in enumerate(table.columns):
        shared = bool(_MODEL_PARALLEL.fullmatch(spellings(other)[-1]))
        nodes = spellings(other)[-1] in _NODES and not of_all
        if (shared or nodes) and (values := view.values(place)) and values[-1] > 1:
            return other
    return ""


def _passes(table: Table, options: IngestOptions) -> tuple[str, list[Cell]] | None:
    """Tokens of the data x passes over them; None where one is not there, or the tokens of the run are."""
    data: list[tuple[str, Unit]] = []
    passes: list[str] = []
    for column in table.columns:
        if column in options.column_map:
            continue
        for bare, unit in bare_names(column):
            if not _OF_DATA.isdisjoint(spellings(bare)) or counts_unique(bare):
                data.append((column, options.unit(column) or unit))
                break
        else:
            if not _PASSES.isdisjoint(spellings(column)):
                passes.append(column)
            elif rank_of(column, "tokens") is not None:
                return None
    if len(data) != 1 or len(passes) != 1:
        return None
    (column, unit), view = data[0], View(table)
    both = zip(view.numbers(place_of(table, column), unit), view.numbers(place_of(table, passes[0])), strict=True)
    return f"{column} x {passes[0]}", [None if a is None or b is None else a * b for a, b in both]


def _ratio(table: Table, options: IngestOptions, counted: Sequence[Sequence[Cell]]) -> tuple[str, list[Cell]] | None:
    """Tokens per parameter x parameters; None where there is no such column, or the tokens of the run are there.

    Parameters
    ----------
    counted : parameters that stand in no column
    """
    ratios = [column for column in table.columns if is_ratio(column) and _may_be_length(column, options)]
    mapped = any(options.column_map.get(column) == "tokens" for column in ratios)
    others = {name for column, name in options.column_map.items() if column not in ratios} | set(options.constants)
    told = any(rank_of(bare, name) is not None for c in table.columns for bare, _ in bare_names(c) for name in _LENGTH)
    if len(ratios) != 1 or others & set(_LENGTH) or (told and not mapped):
        return None
    view, name = View(table), "params"
    shapes = counted[0] if counted else []
    sizes: Sequence[float | None] = [cell if isinstance(cell, float) else None for cell in shapes]
    if not sizes and (column := _size_column(table, options)):
        units = [unit for bare, unit in bare_names(column) if rank_of(bare, "params") is not None]
        sizes = view.numbers(place_of(table, column), options.unit(column) or next(iter(units), None))
        name = column
    if not sizes:
        return None
    _, factor = multiple_of_size(ratios[0]) or ("", 1.0)
    unit = options.unit(ratios[0]) or Unit(factor=factor)
    both = zip(view.numbers(place_of(table, ratios[0]), unit), sizes, strict=True)
    return f"{ratios[0]} x {name}", [None if a is None or b is None else a * b for a, b in both]


def counts_unique(column: str) -> bool:
    """Whether a column counts the tokens of the data, each once."""
    words = set(normal(column).split("_"))
    return bool(words & _UNIQUE and words & _TOKENS) and words <= _UNIQUE | _TOKENS | _BESIDE


def is_ratio(column: str) -> bool:
    """Whether a column counts tokens per parameter."""
    of_size = multiple_of_size(column)
    return not _RATIOS.isdisjoint(spellings(column)) or (
        of_size is not None and rank_of(of_size[0], "tokens") is not None
    )


def _may_be_length(column: str, options: IngestOptions) -> bool:
    return options.column_map.get(column, "tokens") == "tokens"


def _size_column(table: Table, options: IngestOptions) -> str:
    """The column of parameters; "" where there is none."""
    mapped = [column for column, name in options.column_map.items() if name == "params"]
    ranked = [
        (rank, column)
        for column in table.columns
        for bare, _ in bare_names(column)
        if column not in options.column_map and (rank := rank_of(bare, "params")) is not None
    ]
    return next(iter(mapped or [column for _, column in sorted(ranked)]), "")


def place_of(table: Table, column: str) -> int:
    """Where a column stands.

    Raises
    ------
    LogFormatError
        There is none of that name.
    """
    if column in table.columns:
        return table.columns.index(column)
    close = difflib.get_close_matches(column, table.columns, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    seen = ", ".join(table.columns[:40])
    raise LogFormatError(f"{table.name} has no column '{column}'; {hint}its columns are {seen}")
