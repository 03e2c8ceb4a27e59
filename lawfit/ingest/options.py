"""What a person may state about a file, where its columns do not: flags of a command, answers to questions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lawfit.errors import LogFormatError
from lawfit.findings import finding
from lawfit.ingest.headers import Unit, unit_of
from lawfit.ingest.metrics import METRICS
from lawfit.units import PARAMS_CONVENTIONS, parse_quantity

BATCH_UNITS: Final = ("tokens", "sequences")
KINDS: Final = ("runs", "curves", "targets", "losses")
FILLS: Final = ("down", "no")
LONGEST_SEQUENCE: Final = 10**12  # tokens: beyond any; a database has no number for it
MAPPING_SCHEMA: Final = "lawfit.mapping/1"
# Options that an answer may set, and the fields that hold them.
_PAIRS: Final = {"map": "column_map", "unit": "units", "only": "only", "set": "constants", "fill": "fill"}
_COLUMNS: Final = {"split": "split", "pool": "pool"}
_WORDS: Final = {"batch-unit": "batch_unit", "metric": "metric", "kind": "kind", "size-from": "size_from"}


@dataclass(frozen=True, kw_only=True)
class IngestOptions:
    """Everything has a default: a file with clear column names needs none of this."""

    recipe: str | None = None  # name for the sweep; default: the file's name
    column_map: Mapping[str, str] = field(default_factory=dict)  # column -> field (columns.FIELDS, or "extra")
    batch_unit: str | None = None  # "tokens" or "sequences", for a column that only says "batch_size"
    seq_len: int | None = None  # tokens per sequence, for a file without such a column
    recipe_fields: Mapping[str, str] = field(
        default_factory=dict
    )  # "optimizer": "adamw", ... ; other keys: Recipe.extra
    format: str | None = None  # name of a format, when neither file name nor content tell
    dry_run: bool = False  # report what would happen, write nothing
    units: Mapping[str, str] = field(default_factory=dict)  # column -> unit of its numbers (headers.unit_of)
    constants: Mapping[str, str] = field(default_factory=dict)  # field -> value in all rows
    split: tuple[str, ...] = ()  # columns whose levels are recipes of their own
    pool: tuple[str, ...] = ()  # columns in which runs may differ and still be seeds of each other
    only: Mapping[str, str] = field(default_factory=dict)  # column -> the level whose rows are read
    fill: Mapping[str, str] = field(default_factory=dict)  # column -> "down": empty cells are as the row above; or "no"
    metric: str | None = None  # what the loss column measures: a kind of metrics.METRICS
    kind: str | None = None  # what a row is: one of KINDS
    size_from: str | None = None  # family whose parameters are counted from the columns of its shape
    yes: bool = False  # take the safe choice where a question has one

    def __post_init__(self) -> None:
        if self.recipe is not None and not self.recipe.strip():
            raise ValueError("the recipe name is empty")
        if self.batch_unit is not None and self.batch_unit not in BATCH_UNITS:
            raise ValueError(f"the batch unit is 'tokens' or 'sequences', got '{self.batch_unit}'")
        if self.seq_len is not None and not 0 < self.seq_len <= LONGEST_SEQUENCE:
            raise ValueError(f"the sequence length must be from 1 to {LONGEST_SEQUENCE:,} tokens, got {self.seq_len:g}")
        convention = self.recipe_fields.get("params_convention")
        if convention and convention not in PARAMS_CONVENTIONS:
            raise ValueError(f"params_convention is one of {', '.join(PARAMS_CONVENTIONS)}, got '{convention}'")
        if "seq_len" in self.recipe_fields:
            raise ValueError("state the sequence length as seq_len, not as a recipe field")
        for taken in ("name", "extra", "loss_column"):
            if taken in self.recipe_fields:
                raise ValueError(f"'{taken}' cannot be set as a recipe field")
        if self.metric is not None and self.metric not in METRICS:
            raise ValueError(f"the metric is one of {', '.join(METRICS)}, got '{self.metric}'")
        if self.kind is not None and self.kind not in KINDS:
            raise ValueError(f"the kind of table is one of {', '.join(KINDS)}, got '{self.kind}'")
        for column, how in self.fill.items():
            if how not in FILLS:
                raise ValueError(f"--fill takes {' or '.join(f'{column}={each}' for each in FILLS)}, got '{how}'")
        for unit in self.units.values():
            unit_of(unit)
        for name, value in self.constants.items():
            try:
                parse_quantity(value)
            except ValueError as error:
                raise ValueError(f"{name} is set to no number: {error}") from None

    @property
    def held(self) -> tuple[str, ...]:
        """Columns whose level a recipe holds: those that split, and those of which one level is read."""
        return tuple(dict.fromkeys((*self.split, *self.only)))

    def unit(self, column: str) -> Unit | None:
        """The unit that was stated for a column."""
        return unit_of(self.units[column]) if column in self.units else None

    def answered(self, option: str, value: str) -> IngestOptions:
        """The same with one more answer.

        Raises
        ------
        ValueError
            No such option, or a value that it does not take.
        """
        if option in _PAIRS:
            name, sign, given = value.rpartition("=")
            if not (name.strip() and sign and given.strip()):
                raise ValueError(str(finding("ingest.no_pair", option=option, value=value)))
            held: dict[str, str] = {**getattr(self, _PAIRS[option]), name.strip(): given.strip()}
            return self._with(_PAIRS[option], held)
        if option in _COLUMNS:
            columns: tuple[str, ...] = getattr(self, option)
            return self if value in columns else self._with(option, (*columns, value))
        if option == "seq-len":
            return self._with("seq_len", int(parse_quantity(value)))
        if option in _WORDS:
            return self._with(_WORDS[option], value)
        raise ValueError(f"'{option}' answers no question of an ingest")

    def _with(self, name: str, value: Any) -> IngestOptions:
        return dataclasses.replace(self, **{name: value})

    def answers(self) -> list[tuple[str, str]]:
        """All that was stated, as options and values; `answered` takes them again."""
        pairs = [(o, f"{name}={value}") for o, f in _PAIRS.items() for name, value in getattr(self, f).items()]
        columns = [(option, column) for option in _COLUMNS for column in getattr(self, option)]
        words = [(option, str(getattr(self, f))) for option, f in _WORDS.items() if getattr(self, f) is not None]
        return [*pairs, *columns, *words, *([("seq-len", str(self.seq_len))] if self.seq_len else [])]


def read_mapping(path: Path, options: IngestOptions) -> IngestOptions:
    """The options with the answers of a mapping file; what `options` state themselves stays.

    Raises
    ------
    LogFormatError
        It cannot be read, or is no mapping file.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        given = [*document["answers"], *(answer for q in document.get("questions", []) for answer in q["answer"] or [])]
        if document["schema"] != MAPPING_SCHEMA:
            raise ValueError(f"its schema is {document['schema']}, not {MAPPING_SCHEMA}")
        stated, found = options.answers(), options
        for answer in given:
            found = found.answered(answer["option"], answer["value"])
        for option, value in stated:
            found = found.answered(option, value)
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise LogFormatError(finding("ingest.bad_mapping", path=str(path), why=said)) from None
    return found


def write_mapping(path: Path, options: IngestOptions, questions: Sequence[Mapping[str, Any]]) -> None:
    """Answers, and what is still open with room for an answer, to be used again."""
    document = {
        "schema": MAPPING_SCHEMA,
        "answers": [{"option": option, "value": value} for option, value in options.answers()],
        "questions": [{**question, "answer": None} for question in questions],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
