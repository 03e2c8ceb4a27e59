"""How a run is set up in a training program: the answer of a recommendation in the program's units."""

from __future__ import annotations

from typing_extensions import TypedDict

from lawfit.documents.answer import LrPart, RecipeFields


class TrainingSchedule(TypedDict):
    """How the learning rate goes on from its peak."""

    said: str
    """As the recipe says it; empty where it does not."""
    shape: str | None
    """constant, linear, cosine or wsd; null where the recipe says none of these."""
    end: float | None
    """Share of the peak that it ends at; null where the recipe does not say."""


class Training(TypedDict):
    """A run, set up: sequences = per_device_batch x accumulation x world_size. Null is what the runs do not say."""

    schema: str
    prediction_id: str
    """Of the answer that it comes from."""
    recipe: RecipeFields
    params: float
    tokens: float
    lr: LrPart
    """Peak, with its interval."""
    batch_tokens: float
    """Tokens per step."""
    seq_len: int
    sequences: int
    """The batch, in sequences per step."""
    steps: int
    """Of all tokens, to the nearest."""
    world_size: int
    """Devices that share a batch."""
    per_device_batch: int
    """Sequences that a device takes at once."""
    accumulation: int
    """Such passes before each step."""
    weight_decay: float | None
    """As torch.optim.AdamW takes it."""
    warmup_steps: int | None
    schedule: TrainingSchedule
    beta1: float | None
    beta2: float | None
    epsilon: float | None
    max_grad_norm: float | None
    expected_regret: float
    """Share of the loss that not knowing better costs on average."""
    notes: list[str]
    """Where the numbers come from, and which are missing."""
    warnings: list[str]


class Config(TypedDict):
    """The same as text, to be pasted into the configuration of a training program."""

    program: str
    title: str
    language: str
    """python, toml, yaml or bash."""
    text: str
    training: Training
