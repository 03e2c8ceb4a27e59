"""The answer of `lawfit plan next`: which runs to make, and what they are expected to bring."""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict


class NextTarget(TypedDict):
    """What the runs are for."""

    params: float
    tokens: float
    level: float
    lr: float
    """Best peak learning rate there as far as is known now: the middle of its interval."""
    batch_tokens: float
    """Likewise, in tokens per step."""


class KnownScale(TypedDict):
    """A size and horizon with runs."""

    params: float
    tokens: float
    runs: int


class NextPace(TypedDict):
    """GPU-seconds of a pack (runs of one size, horizon and batch): to start, of a step, a token, and arithmetic."""

    flops_per_second: float
    """That is left where start, steps and tokens are counted apart; otherwise what somebody said."""
    start_seconds: float
    step_seconds: float
    token_seconds: float
    packs: int
    """That were measured, trained here earlier; 0: FLOP/s alone are known, said or what a study's rounds came to."""
    at_a_time: float
    """Packs that trained beside each other on one GPU, on average: so many at a time cost what is said."""
    alone: bool
    """Each run is a pack of its own, as other trainers make them."""


class NextBudget(TypedDict):
    """What there is to spend, and what is spent."""

    amount: float
    unit: str
    """flops, gpu-hours, runs or $"""
    spent: float
    runs: int
    flops: float
    gpu_hours: float | None
    dollars: float | None
    pace: NextPace | None
    """What turns runs into GPU-hours; null: nothing does."""


class ExpectedThere(TypedDict):
    """What is expected of the setting advised at the target."""

    expected_regret: float
    """Share of the loss given up."""
    floor: float
    """Of it, what no run at other scales takes away: the target's own deviation."""
    lr_factor: float
    """The interval of the learning rate is its value over, and times, this."""
    batch_factor: float


class NextGrid(TypedDict):
    """Learning rates crossed with batches at one scale."""

    params: float
    tokens: float
    lr: list[float]
    batch_tokens: list[float]
    """Tokens per step."""
    seeds: list[int]
    runs: int
    shape: dict[str, Any] | None
    """Layers, width, heads and inner width, as lawfit's trainer takes them; null: it trains no such models"""
    flops: float
    why: str
    after: ExpectedThere
    """With these runs and those of the grids before it."""


class DecaySweepOut(TypedDict):
    """Runs of several weight decays at the learning rate and batch of one that is there."""

    params: float
    tokens: float
    lr: list[float]
    batch_tokens: list[float]
    weight_decay: list[float]
    """Coupled to the learning rate, as torch.optim.AdamW takes it; the held value has its run already."""
    seeds: list[int]
    runs: int
    shape: dict[str, Any] | None
    flops: float
    cost: float
    """Of the budget, in its unit; part of what is spent."""


class NextDecay(TypedDict):
    """Weight decay at the target, where the runs leave it open; regrets are shares of the loss.

    What errors of learning rate and batch cost at a held decay is part of `now` and `after`; what it is itself off is
    not.
    """

    held: float
    expected_regret: float
    """Given up by the held value, with the learning rate and batch advised after the grids."""
    published: float
    """Weight decay by a published timescale, at the learning rate and batch advised after the grids."""
    published_regret: float
    """Given up by it."""
    gain: float | None
    """What the best sweeps, at two sizes, are expected to bring over the better of the two, counting of the held value
    only what is known to be off; null: none bring anything."""
    lost: float
    """What the grids lose by what these take of the budget."""
    least: float
    """What they must bring over that to be planned."""
    sweeps: list[DecaySweepOut]
    """Empty: not worth their runs."""
    words: str


class Rehearsal(TypedDict):
    """A plan played in worlds drawn from what is known, and what became of it; regrets are shares of the loss."""

    worlds: int
    seed: int
    refitted: bool
    """In each world all runs were fitted anew, as lawfit fit does; false: each scale's optimum was worked out from its
    runs, and the laws updated by them"""
    before: float
    """Mean regret of the setting that is advised without the runs."""
    promised: float
    realised: float
    """Mean regret of the setting that is advised after them."""
    standard_error: float
    """Of that mean, by the number of worlds."""
    level: float
    held: dict[str, float]
    """lr, batch_tokens: share of worlds in which the interval held the drawn optimum."""
    lr_factor: float
    """Geometric mean over the worlds, as `after` of the plan has it."""
    batch_factor: float
    failed: int
    """Worlds in which no fit could be made."""
    words: str


class NextRuns(TypedDict):
    """The whole of it."""

    schema: str
    id: str
    """Hash of all of it: the same fit, target and budget give the same again."""
    kept: bool
    """Under its id, which brings it back; no part of what the id is of."""
    recipe: str | None
    """Null: published laws alone were asked."""
    fit_id: str | None
    asked: dict[str, Any]
    """The question, with what was left out left out."""
    target: NextTarget
    budget: NextBudget
    now: ExpectedThere
    after: ExpectedThere
    known: list[KnownScale]
    """Scales of the fit."""
    under_way: list[dict[str, float]]
    """Runs of earlier plans that were asked to count as made: params, tokens, lr, batch_tokens, seed."""
    grids: list[NextGrid]
    weight_decay: NotRequired[NextDecay]
    """Where the runs leave weight decay open: whether it is swept, and by what numbers."""
    grid_file: dict[str, Any] | None
    """What `lawfit launch` takes: all of these runs, in this order."""
    missing: dict[str, str]
    """What is null, and why."""
    warnings: list[str]
    rehearsal: NotRequired[Rehearsal]
    """Where it was asked for; no part of what the id is of."""
