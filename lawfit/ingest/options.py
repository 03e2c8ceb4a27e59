"""What a person may state about a file, where its columns do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from lawfit.units import PARAMS_CONVENTIONS

BATCH_UNITS: Final = ("tokens", "sequences")


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

    def __post_init__(self) -> None:
        if self.recipe is not None and not self.recipe.strip():
            raise ValueError("the recipe name is empty")
        if self.batch_unit is not None and self.batch_unit not in BATCH_UNITS:
            raise ValueError(f"the batch unit is 'tokens' or 'sequences', got '{self.batch_unit}'")
        if self.seq_len is not None and self.seq_len <= 0:
            raise ValueError(f"the sequence length must be positive, got {self.seq_len}")
        convention = self.recipe_fields.get("params_convention")
        if convention and convention not in PARAMS_CONVENTIONS:
            raise ValueError(f"params_convention is one of {', '.join(PARAMS_CONVENTIONS)}, got '{convention}'")
        if "seq_len" in self.recipe_fields:
            raise ValueError("state the sequence length as seq_len, not as a recipe field")
        for taken in ("name", "extra", "loss_column"):
            if taken in self.recipe_fields:
                raise ValueError(f"'{taken}' cannot be set as a recipe field")
