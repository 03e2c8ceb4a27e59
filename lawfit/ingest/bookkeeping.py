"""Which columns are results or bookkeeping, by names and by what they hold: runs that differ there may be seeds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lawfit.factors import is_further_input, is_record, normal, spellings
from lawfit.ingest.metrics import data_of, kind_of
from lawfit.ingest.names import NAMES, section
from lawfit.ingest.numbers import is_number

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?|\d\d:\d\d(:\d\d)?|\d+[hms]")
_HASH: Final = re.compile(r"[0-9a-f]{7,64}|[0-9a-f-]{32,40}", re.IGNORECASE)
_PLACE: Final = re.compile(r"(s3|gs|https?|file|wandb)://|/.*/|[A-Za-z]:\\\\")
# Words of bookkeeping that are as often names of designs: their values decide.
_AMBIGUOUS: Final = frozenset(
    {
        *("accumulation", "campaign", "changed", "group", "label", "name", "number", "source", "sweep", "tag"),
        *("tags", "title", "version", "task", "train", "test", "log", "trunk", "parameters", "params", "compute"),
        *("device", "devices", "index", "idx"),
    }
)
_RECORDS: Final = frozenset(
    {
        *("seed", "seeds", "created", "updated", "heartbeat", "timestamp", "pid", "memory", "power", "throughput"),
        *(
            "epochs",
            "epoch",
            "unique",
            "repeats",
            "repeat",
            "best",
            "grad",
            "gradient",
            "finish",
            "begin",
            "start",
            "end",
        ),
    }
)
# Of those, the words that settings are named by, too, where no other word of a record stands beside them.
_OF_SETTINGS_TOO: Final = frozenset(
    {
        *("memory", "power", "unique", "repeats", "repeat", "best", "grad", "gradient", "finish", "begin", "start"),
        *("end", "tokens", "noise"),
    }
)
# Of who made a run, where, when and how often: that may be the same for all seeds.
_OF_WORK: Final = frozenset(
    {
        *(
            "seed",
            "seeds",
            "repeat",
            "repeats",
            "replica",
            "replicate",
            "rerun",
            "attempt",
            "trial",
            "restarts",
            "fold",
        ),
        *("host", "hostname", "gpu", "gpus", "node", "nodes", "machine", "worker", "job", "cluster", "region", "zone"),
        *("device", "devices", "slurm", "launcher", "container", "id", "uid", "uuid", "hash", "sha", "commit", "git"),
        *("author", "user", "owner", "entity", "project", "campaign", "sweep", "group", "name", "label", "tag", "tags"),
        *("dir", "folder", "file", "filename", "path", "log", "link", "url", "uri", "comment", "note", "notes"),
        *("description", "title", "date", "time", "timestamp", "created", "updated", "update", "started", "ended"),
        *("heartbeat", "duration", "runtime", "hours", "minutes", "seconds", "secs", "wall", "cost", "watts", "mfu"),
        *("throughput", "memory", "mem", "power", "pid", "gb", "diverged", "finished", "completed", "preempted"),
        *("resumed", "skipped", "reported", "nan", "nans", "spike", "spikes", "status", "result", "index", "idx"),
        *("number", "epoch", "epochs", "flop", "flops", "params", "parameters", "compute", "accumulation"),
    }
)
_OF_ONE_RUN: Final = ("seed", "run_id", "status", "completed")
_OF_MACHINES: Final = frozenset({"accumulation", "accumulate", "accum", "acc", "norm", "norms"})
_COUNTS: Final = frozenset({"rank", "repeat", "repeats", "n", "num", "no"})
_FEWEST_VARIED: Final = 3  # groups of equal runs
_MOST: Final = 0.75  # of them: a design is crossed, and what happened to some runs is not


def names_field(column: str, fields: Sequence[str]) -> bool:
    """Whether a column has a name of one of some fields."""
    return any(form in NAMES[name] for name in fields for form in spellings(column))


def is_known_record(column: str) -> bool:
    """Whether a column is a result or bookkeeping by its name, whatever it holds."""
    words = set(normal(column).split("_"))
    if section(column) == "result" or kind_of(column):
        return True
    if not words.isdisjoint(_RECORDS):
        return True
    if names_field(column, ("seed", "run_id", "status", "completed")):
        return True
    return is_record(column) and not _only_ambiguous(column)


def is_grid(column: str, levels: Sequence[set[str]]) -> bool:
    """Whether levels under a word of results or bookkeeping are the same in each group of equal runs.

    As measured ones never are: so are `bits`, `loss_mask`, `grad_noise` where they were varied; 1, 2, 3 counts repeats.
    """
    words = set(normal(column).split("_"))
    if is_further_input(column) or section(column) == "result" or names_field(column, _OF_ONE_RUN):
        return False
    varied = [each for each in levels if len(each) > 1]
    every = set().union(*varied)
    if len(varied) < _FEWEST_VARIED or any(each != every for each in varied):
        return False
    if len(varied) < _MOST * len(levels):
        return False  # of two runs each, all that differ have the same two levels
    numeric = all(map(is_number, every - {""}))
    too = numeric and not (_OF_SETTINGS_TOO.isdisjoint(words) or any(map(_says_record, words - _OF_SETTINGS_TOO)))
    if not too and not words.isdisjoint(_OF_WORK):
        return False
    if numeric and ((data_of(column) and not too) or not words.isdisjoint(_OF_MACHINES)):
        return False
    counted = {str(first + at) for first in (0, 1) for at in range(len(every))}
    return not (every <= counted and (words <= _COUNTS or (not too and len(every) > 2)))


def _says_record(word: str) -> bool:
    return word in _RECORDS or is_record(word)


def _only_ambiguous(column: str) -> bool:
    """Whether the words that make a column a record are those that designs are named by, too."""
    return not any(is_record(word) for word in normal(column).split("_") if word not in _AMBIGUOUS)


def is_mark(text: str) -> bool:
    """Whether a cell is a time, a hash, or where something lies."""
    return bool(_TIME.fullmatch(text) or _PLACE.match(text)) or (
        bool(_HASH.fullmatch(text)) and any(c.isdigit() for c in text) and not text.isdigit()
    )
