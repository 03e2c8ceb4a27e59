"""Queries of routes that take many parameters: what OpenAPI tells a client of each."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lawfit.ask import LARGEST_TARGET
from lawfit.records import RunStatus

from .deps import AS_TYPED, Quantity

# As far as `lawfit.ask` goes: beyond it, products and ratios of them leave the range of floats.
Count = Annotated[float, Field(ge=1, le=LARGEST_TARGET), AS_TYPED]
Least = Annotated[Quantity | None, Field(description="The least of it")]
Most = Annotated[Quantity | None, Field(description="The most of it")]
Texts = Annotated[list[str], Field(max_length=1000)]


class RunsQuery(BaseModel):
    """Which runs, in which order, and which page of them."""

    recipe: str | None = Field(default=None, description="Name or key; needed when the store has several")
    status: RunStatus | None = Field(default=None, description="finished, or diverged (without a loss)")
    excluded: bool | None = Field(default=None, description="Whether a person took it out of the fits")
    run_key: str | None = Field(default=None, description="Key; * and ? stand for any text and any character")
    params_from: Least = None
    params_to: Most = None
    tokens_from: Least = None
    tokens_to: Most = None
    batch_tokens_from: Least = None
    batch_tokens_to: Most = None
    lr_from: Least = None
    lr_to: Most = None
    loss_from: Least = None
    loss_to: Most = None
    sort: Literal["params", "tokens", "batch_tokens", "lr", "loss", "weight_decay", "steps", "seed"] | None = Field(
        default=None, description="Number to sort by; runs without it come last. Left out: as they were stored"
    )
    descending: bool = Field(default=False, description="The largest first")
    limit: int = Field(default=100, ge=1, le=1000, description="Runs on a page")
    cursor: str | None = Field(default=None, description="`next` of the page before; all else as it was asked then")

    @property
    def ranges(self) -> dict[str, tuple[float | None, float | None]]:
        """The least and the most of each number."""
        names = ("params", "tokens", "batch_tokens", "lr", "loss")
        return {name: (getattr(self, f"{name}_from"), getattr(self, f"{name}_to")) for name in names}


class LawTarget(BaseModel):
    """Where a published law is asked."""

    params: Count | None = Field(default=None, description="Parameters, counted as the law counts them")
    tokens: Count | None = Field(default=None, description="Training tokens")
    batch_tokens: Count | None = Field(default=None, description="Tokens per step")
    flops: Annotated[float, Field(ge=1, le=6 * LARGEST_TARGET**2), AS_TYPED] | None = Field(
        default=None, description="Training FLOPs; left out: 6 x params x tokens"
    )
    width: Count | None = Field(default=None, description="Hidden width")
    loss: Annotated[float, Field(ge=1e-9, le=1e6), AS_TYPED] | None = Field(
        default=None, description="Nats per token, at the end of the run"
    )
    steps: Count | None = Field(default=None, description="Optimizer steps")
    unique_tokens: Count | None = Field(default=None, description="Different tokens among those of the run")
    active_fraction: Annotated[float, Field(ge=1e-9, le=1), AS_TYPED] | None = Field(
        default=None, description="Share of experts that a token meets"
    )


class UploadQuery(BaseModel):
    """What may be said about a file that is sent: the options of `lawfit ingest`."""

    model_config = ConfigDict(populate_by_name=True)

    name: str | None = Field(default=None, description="What the file is called; a form says it itself")
    recipe: str | None = Field(default=None, description="What to call the recipe; left out: the file's name")
    columns: Texts = Field(
        default=[], alias="map", description="COLUMN=FIELD: read params, lr, loss, ... from a column"
    )
    units: Texts = Field(default=[], alias="unit", description="COLUMN=UNIT: K, M, B, T, 1e-3, log10, ln, 1")
    constants: Texts = Field(default=[], alias="set", description="FIELD=VALUE: a constant that no column says")
    split: Texts = Field(default=[], description="COLUMN: a setting, whose levels are recipes of their own")
    pool: Texts = Field(default=[], description="COLUMN: runs that differ in it are seeds of each other")
    only: Texts = Field(default=[], description="COLUMN=VALUE: read these rows alone")
    metric: str | None = Field(default=None, description="What the loss measures: nats, bits_per_byte, ...")
    kind: str | None = Field(default=None, description="What a row is: runs, curves, targets or losses")
    size_from: str | None = Field(default=None, description="Count parameters from the shape: gpt, llama, mixtral")
    batch_unit: str | None = Field(default=None, description="What the batch counts: tokens or sequences")
    seq_len: str | None = Field(default=None, description="Tokens per sequence")
    optimizer: str | None = Field(default=None, description="Recipe: adamw, muon, ...")
    schedule: str | None = Field(default=None, description="Recipe: learning-rate schedule")
    data: str | None = Field(default=None, description="Recipe: training corpus")
    tokenizer: str | None = Field(default=None, description="Recipe: tokenizer")
    parametrization: str | None = Field(default=None, description="Recipe: standard, mup, ...")
    params_convention: str | None = Field(default=None, description="Recipe: what the parameter count counts")
    held: Texts = Field(default=[], description="Recipe: anything else held fixed, NAME=VALUE")
    format_name: str | None = Field(default=None, alias="format", description="Where neither name nor content tell")
    yes: bool = Field(default=False, description="Take the safe answer to each question that has one")
    dry_run: bool = Field(default=False, description="Say what would happen, and store nothing")

    @model_validator(mode="after")
    def _storable(self) -> Self:
        for name, value in self.model_dump(by_alias=True).items():
            texts = value if isinstance(value, list) else [value]
            if any(isinstance(text, str) and "\x00" in text for text in texts):
                raise ValueError(f"{name} holds NUL, which no text has")
        return self

    @property
    def answers(self) -> list[tuple[str, str]]:
        """Options of an ingest that answer questions, with their values."""
        said = self.model_dump(by_alias=True, exclude_none=True)
        several = [(name, value) for name in ("map", "unit", "set", "split", "pool", "only") for value in said[name]]
        single = [name for name in ("metric", "kind", "size_from", "batch_unit", "seq_len") if name in said]
        return [*several, *((name.replace("_", "-"), said[name]) for name in single)]

    @property
    def stated(self) -> dict[str, Any]:
        """The other options of an ingest.

        Raises
        ------
        ValueError
            A setting that is held fixed is not written as NAME=VALUE.
        """
        names = ("optimizer", "schedule", "data", "tokenizer", "parametrization", "params_convention")
        fields = {name: value for name in names if (value := getattr(self, name)) is not None}
        for pair in self.held:
            name, sign, value = (part.strip() for part in pair.rpartition("="))
            if not (name and sign and value):
                raise ValueError(f"held takes NAME=VALUE, got '{pair}'")
            fields[name] = value
        return {
            "recipe": self.recipe, "format": self.format_name, "yes": self.yes, "dry_run": self.dry_run,
            "recipe_fields": fields,
        }  # fmt: skip
