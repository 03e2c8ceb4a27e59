"""What was recognised: fields and their columns, with units, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from lawfit.factors import normal, spellings
from lawfit.findings import Found
from lawfit.ingest.batch_column import FACTORS
from lawfit.ingest.headers import Unit
from lawfit.ingest.metrics import METRICS, Metric
from lawfit.ingest.names import NAMES
from lawfit.ingest.questions import Question
from lawfit.ingest.table import Table

# What a column can be mapped to. "extra" keeps it beside the run without a meaning.
FIELDS: Final = (*(name for name in NAMES if name != "batch_unstated"), "loss")
EXTRA: Final = "extra"
SHOWN_FIRST: Final = ("lr", "batch_tokens", "batch_sequences", "params", "tokens", "loss")
CONVENTION_BY_ROW: Final = "as each row says"

COUNTS: Final = frozenset(
    {
        *("params", "tokens", "batch_tokens", "batch_sequences", "batch_unstated", "seq_len", "steps"),
        *FACTORS,
    }
)
NUMERIC: Final = COUNTS | {"lr", "weight_decay", "loss"}


@dataclass(frozen=True, kw_only=True)
class ColumnMap:
    """Fields and the places of their columns."""

    names: tuple[str, ...]  # of all columns
    places: Mapping[str, int]  # field -> index in Table.columns
    shown: Mapping[str, str]  # field -> column and what is known about it, for the user
    notes: tuple[Found, ...]
    params_convention: str  # as the column's name tells it; "" unknown
    loss_column: str
    units: Mapping[str, Unit] = field(default_factory=dict)  # field -> unit of its column, where it is no plain number
    metric: Metric = METRICS["nats"]  # what the loss column holds
    kind: str = "runs"  # or "losses": no learning rate was logged
    data_unit: str = ""  # "samples", where tokens are none
    seq_len: int | None = None  # where the numbers tell it


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """What could be told of the columns, and what has to be asked. With questions, fields may lack."""

    columns: ColumnMap
    questions: tuple[Question, ...]
    table: Table  # with the columns that were stated or multiplied


_EMBEDDINGS: Final = frozenset(
    f"{less}{word}" for less in ("", "non") for word in ("embedding", "embeddings", "embed", "emb")
)


def convention_of(column: str) -> str:
    """Which parameters a count counts, as far as the name of its column says."""
    name = normal(column)
    words = set(name.split("_"))
    if not words.isdisjoint(_EMBEDDINGS):
        told = words & {"with", "incl", "including", "plus"} or ("w" in words and "o" not in words)  # w/o is without
        return "total" if told else "non_embedding"
    if not words.isdisjoint({"active", "activated", "act"}) or spellings(column)[-1] in ("na", "n_a"):
        return "active"
    return "total" if "total" in words else ""
