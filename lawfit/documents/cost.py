"""The answer of `lawfit predict --lr`: what a setting costs."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from lawfit.documents.answer import AskedTarget, EvidenceUsed, HeldLevel, RecipeFields


class AskedSetting(TypedDict):
    """The setting that is asked about."""

    lr: float
    batch_tokens: float
    """Tokens per step."""
    sequences: float | None
    """The same in sequences, where their length is known."""
    weight_decay: float | None
    """As torch.optim.AdamW takes it; null where it was not asked about."""
    batch_given: bool
    """False: the batch was left out, and is the one advised here."""


class AdvisedSetting(TypedDict):
    """The setting of least expected cost at the target."""

    lr: float
    batch_tokens: float
    weight_decay: float | None
    """For this learning rate and batch; null where the runs carry none."""
    lr_at_batch: float
    """The best learning rate at the batch that is asked about."""


class Share(TypedDict):
    """A share of the loss given up."""

    loss_fraction: float | None
    """Expected: the mean over what the runs leave open. Null beyond what runs tried."""
    low: float
    """Bounds of a `level` interval of the true one; beyond what runs tried, those of the last setting that they did."""
    high: float | None
    """Null beyond what runs tried, and where runs diverge: nothing shows how much it may be."""


class Nats(TypedDict):
    """The same in nats per token."""

    value: float | None
    low: float
    high: float | None


class CostParts(TypedDict):
    """What the cost comes from; the expected shares add up to the whole."""

    lr: Share
    """What the best learning rate at this batch would save."""
    batch_tokens: Share
    """What the batch costs with its own best learning rate."""
    weight_decay: Share | None
    """What the weight decay costs at this learning rate and batch; null where it is not asked about, or not known."""


class SettingRegret(Share):
    """Loss given up over the best setting at the target."""

    level: float
    nats: Nats | None
    """Null without a law of the loss."""
    cap_per_world: float
    """Share of the loss that one world counts at most in what is expected, unless most worlds cost more."""
    extra_compute_fraction: float | None
    """The compute that would be lost as well."""
    parts: CostParts
    status: str
    """ok, between, extrapolated, at_edge, borrowed or undetermined as the advised learning rate; beyond_runs: no
    finished run lies so far from the best setting, and only a lower bound rests on runs; diverges: half of the runs
    with so high a rate did, or more, and what is expected is of a run that does not."""


class LossThere(TypedDict):
    """Loss of one run with this setting, in nats per token."""

    value: float | None
    """Null beyond what runs tried."""
    low: float | None
    """Bounds of a `level` interval for one run, its own noise included; null where no law says them."""
    high: float | None
    """Null beyond what runs tried, and where runs diverge, too."""
    level: float
    best: float
    """Expected loss at the best settings."""


class SettingCost(TypedDict):
    """What a setting costs: the document that `lawfit predict --lr --json` prints."""

    schema: str
    id: str
    recipe: RecipeFields
    target: AskedTarget
    settings: NotRequired[list[HeldLevel]]
    setting: AskedSetting
    advised: AdvisedSetting
    regret: SettingRegret
    expected_loss: LossThere | None
    missing: dict[str, str]
    """Why expected_loss, or the part of the weight decay, is null."""
    evidence: EvidenceUsed
    warnings: list[str]
