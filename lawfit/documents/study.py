"""The answer of `lawfit study`: what was asked, what each round cost and taught, and what is known now."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from lawfit.documents.next_runs import ExpectedThere


class StudyTarget(TypedDict):
    """What the study is for."""

    params: float
    tokens: float
    level: float
    """Probability of the intervals."""


class StudyBudget(TypedDict):
    """What there was to spend, and what was spent: by the runs that were stored, and the time of all launches."""

    amount: float
    unit: str
    """flops, gpu-hours, runs or $"""
    spent: float
    left: float
    runs: int
    flops: float
    seconds: float
    """Of launches, on the wall."""
    gpu_hours: float
    """Wall time times the GPUs that were used; the CPU counts as one."""
    dollars: float | None
    flops_per_second: float | None
    """Of one GPU, measured over all launches with starts and evaluations; null before there is a run."""


class RoundScale(TypedDict):
    """A size and horizon of a round."""

    params: float
    tokens: float
    runs: int
    lr: list[float]
    batch_tokens: list[float]
    """Tokens per step."""
    seeds: list[int]


class RoundPlan(TypedDict):
    """What a round was to make."""

    runs: int
    flops: float
    cost: float
    """Of the budget, in its unit."""
    share: float
    """What the round was allowed to spend, in the unit of the budget."""


class RoundMade(TypedDict):
    """What was really run."""

    runs: int
    """Stored: those that finished, and those that diverged."""
    finished: int
    diverged: int
    missing: int
    """Planned and not stored: failed, or not done yet."""
    flops: float
    """6 N D of what was trained; a run that diverged counts up to its last step."""
    seconds: float
    gpu_hours: float
    cost: float
    """Of the budget, in its unit."""
    failures: list[str]
    """Why runs failed."""


class StudyAnswer(TypedDict):
    """The setting advised at the target, as `lawfit predict` has it."""

    prediction_id: str
    """Under which the whole answer is kept."""
    fit_id: str
    lr: float
    lr_low: float
    lr_high: float
    lr_factor: float
    """The interval is the middle over and times this."""
    lr_status: str
    batch_tokens: float
    batch_low: float
    batch_high: float
    batch_factor: float
    batch_status: str
    expected_regret: float
    """Share of the loss given up on average: what `until` looks at."""


class StudyRound(TypedDict):
    """One round: plan, launch, fit."""

    number: int
    phase: str
    """planned: its runs are being made; trained: they are stored; fitted: it is over."""
    kind: str
    """planned: by what would tell most; asked: what a fit that may not be used lacks; lowered: as every run before it
    diverged, the same at lower learning rates."""
    plan_id: str | None
    """Of the plan that is kept (`lawfit plan next`); null where a fit asked for the runs."""
    plan: RoundPlan
    scales: list[RoundScale]
    run_ids: list[str]
    made: RoundMade
    before: ExpectedThere | None
    """What was known at the target when the round was planned; null without a plan."""
    promised: ExpectedThere | None
    """What its runs were expected to bring."""
    got: ExpectedThere | None
    """The same of the fit after it; null where no fit may be used, or it is not over."""
    answer: StudyAnswer | None
    """Of that fit."""
    refused: str
    """Why there is no answer; beside an answer, why it is of an older fit."""


class Study(TypedDict):
    """The whole of it."""

    schema: str
    id: str
    """Hash of what was asked: the same question goes on with it."""
    state: str
    """open: it can go on; ended"""
    stopped: str
    """Why it ended, or why this call did; empty while it runs."""
    recipe: str
    """Of its runs."""
    asked: dict[str, Any]
    """The question, with what was left out left out."""
    launch: dict[str, Any]
    """How runs are made: backend, folder of logs, corpus, and so on, as said last."""
    target: StudyTarget
    budget: StudyBudget
    rounds: list[StudyRound]
    most_rounds: int
    answer: StudyAnswer | None
    """Of the last round that has one."""
    created_at: str
    updated_at: str


class StudySummary(TypedDict):
    """One line of a list of studies."""

    id: str
    state: str
    recipe: str
    params: float
    tokens: float
    budget: str
    until: str | None
    rounds: int
    """That are over."""
    expected_regret: float | None
    created_at: str
    updated_at: str


class Studies(TypedDict):
    """All studies of a database, the newest first."""

    schema: str
    studies: list[StudySummary]
