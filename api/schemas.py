"""Response models: what OpenAPI tells a client. Later versions add keys, so models allow more.

Those of answers, plans and transfer views are made from the types of the documents themselves (`lawfit.documents`):
what stands below a key there is its description.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from lawfit.documents import Answer, Config, Plan, SettingCost

ANSWER, CONFIG, COST, PLAN = (TypeAdapter(document) for document in (Answer, Config, SettingCost, Plan))


class Document(BaseModel):
    """A JSON document whose named keys are promised."""

    model_config = ConfigDict(extra="allow")


class RecipeOut(Document):
    """Everything that was held fixed in a sweep; empty means unknown."""

    name: str
    key: str = Field(description="Hash of all that is held fixed; the name is not part of it")
    optimizer: str = ""
    schedule: str = ""
    data: str = ""
    tokenizer: str = ""
    seq_len: int | None = Field(default=None, description="Tokens per sequence")
    parametrization: str = ""
    params_convention: str = ""
    loss_kind: str = ""
    loss_column: str = ""


class RecipeListed(RecipeOut):
    """A recipe, and what the store holds for it."""

    runs: int
    diverged: int
    excluded: int
    fits: int


class RecipesOut(Document):
    """All recipes of the store."""

    recipes: list[RecipeListed]


class FitOut(Document):
    """A stored fit; it never changes."""

    id: str
    recipe_key: str
    recipe_name: str
    kind: str
    status: str
    data_hash: str
    code_version: str
    created_at: str
    options: dict[str, Any]
    exclusions: dict[str, str] = Field(description="run -> reason it was left out")
    payload: dict[str, Any] = Field(description="Parameters, cells, backtest, diagnostics")


class HealthOut(Document):
    """Whether the process, or the service, is well."""

    status: str
    version: str


def _printable(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("takes characters that print")
    return text


def _storable(text: str) -> str:
    if "\x00" in text or text != text.encode("utf-8", "replace").decode():
        raise ValueError("holds characters that no text has")
    return text


Text = Annotated[str, AfterValidator(_storable)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]


class RunRow(Document):
    """A stored run."""

    run_key: str
    params: float
    tokens: float
    batch_tokens: float = Field(description="Tokens per step")
    lr: float = Field(description="Peak")
    status: str = Field(description="finished or diverged")
    loss: float | None = Field(description="In the recipe's unit, mostly nats per token; null exactly when diverged")
    weight_decay: float | None
    steps: int | None
    seed: int | None
    extra: dict[str, Any] = Field(description="Columns that were not recognised")
    source: str = Field(description="File and line it came from")
    excluded: str | None = Field(description="Why a person took it out of the fits")


class CurveListed(Document):
    """A metric along a run."""

    metric: str
    points: int
    first_step: int
    last_step: int


class RunOut(RunRow):
    """A stored run with what was logged along it."""

    recipe: str
    curves: list[CurveListed]


class RunsOut(Document):
    """A page of the runs of a recipe."""

    recipe: str
    total: int = Field(description="Runs that meet what was asked, on all pages")
    runs: list[RunRow]
    next: str | None = Field(description="`cursor` of the next page; null: this was the last")


class CurvesOut(Document):
    """The metrics of a run."""

    recipe: str
    run_key: str
    curves: list[CurveListed]


class CurveOut(Document):
    """One metric of a run."""

    recipe: str
    run_key: str
    metric: str
    points: int = Field(description="That are stored; fewer may be shown")
    steps: list[int]
    values: list[float]


class RunsExcluded(BaseModel):
    """Which runs to take out of later fits, and why."""

    model_config = ConfigDict(extra="forbid")

    recipe: Text | None = Field(default=None, description="Name or key; needed when the store has several")
    run_keys: list[Text] = Field(min_length=1, max_length=10_000, description="Keys; * and ? match any text")
    reason: Text = Field(
        min_length=1, max_length=1000, pattern=r"\S", description="Shown beside every fit without them"
    )


class RunsRestored(BaseModel):
    """Which runs to put back."""

    model_config = ConfigDict(extra="forbid")

    recipe: Text | None = Field(default=None, description="Name or key; needed when the store has several")
    run_keys: list[Text] | None = Field(
        default=None, min_length=1, max_length=10_000, description="Keys; left out: all that are excluded"
    )


class Marked(Document):
    """Which runs were meant, and how many were not so already."""

    recipe: str
    matched: list[str]
    changed: int


class FitListed(Document):
    """A stored fit, without its numbers."""

    id: str
    recipe_name: str
    recipe_key: str
    kind: str
    status: str
    data_hash: str
    code_version: str
    created_at: str
    made_at: str = Field(description="Last; the same data, options and code give the same fit again")
    runs: int | None = Field(description="That it rests on, where its kind says so")


class FitsOut(Document):
    """A page of stored fits."""

    fits: list[FitListed]
    next: str | None = Field(description="`cursor` of the next page; null: this was the last")


class FitsComparedOut(Document):
    """Two fits side by side."""

    a: dict[str, Any]
    b: dict[str, Any]
    numbers: list[dict[str, Any]] = Field(description="name, a, b: exponents, levels and their intervals")
    certificate: dict[str, Any]
    further_laws: list[dict[str, Any]] = Field(description="Those that are not the same")
    data: dict[str, Any] = Field(description="runs, scales, exclusions and options that are not the same")


class OptimumOut(Document):
    """The best setting of one scale, as one estimator sees it."""

    params: float
    tokens: float
    estimator: str
    status: str
    lr: float | None
    batch_tokens: float | None
    loss: float | None
    detail: dict[str, Any]


class OptimaOut(Document):
    """The optima that a fit used."""

    fit: str
    optima: list[OptimumOut]


class LawOut(Document):
    """A published law."""

    id: str
    label: str
    cite: str
    kind: str
    verified: bool = Field(description="False: from memory or an abstract alone; shown, and lends nothing")
    at_batch: str
    needs: list[str]
    caveats: list[str]
    context: dict[str, str] = Field(description="What was held fixed where it was measured")
    inputs: dict[str, Any] = Field(description="What each counts, and where it was measured")
    formulas: dict[str, Any]


class LawsOut(Document):
    """The catalogue."""

    laws: list[LawOut]


class LawAtOut(LawOut):
    """A published law at a target."""

    at: dict[str, float]
    values: dict[str, Any] = Field(description="quantity -> value in plain units, and what it needs that was not given")
    ranges: dict[str, Any] = Field(description="input -> where it was measured, and how many decades beyond it is")


class FitAsked(BaseModel):
    """What to fit, and how: the options of `lawfit fit`."""

    model_config = ConfigDict(extra="forbid")

    recipe: Text | None = Field(default=None, description="Name or key; needed when the store has several")
    at: list[Text] = Field(default=[], max_length=100, description="Levels of settings that vary, each NAME=VALUE")
    without_law: list[Text] = Field(
        default=[], max_length=100, description="Published laws that must lend nothing: they were fitted on these runs"
    )
    critical_definition: Text = Field(
        default="zhang", max_length=200, description="A critical batch is also stated by it"
    )
    three_term: bool = Field(default=False, description="Also fit the loss in parameters, batch and steps (seconds)")


class RehearsalAsked(BaseModel):
    """How to play a plan."""

    model_config = ConfigDict(extra="forbid")

    worlds: int | None = Field(default=None, ge=2, le=1000, description="Left out: 100, or 20 with refit")
    refit: bool = Field(default=False, strict=True, description="Fit all runs anew in each world: seconds each")


class JobOut(Document):
    """Work in the background."""

    id: str
    kind: str
    state: str = Field(description="queued, running, cancelling, done, failed or cancelled")
    asked: dict[str, Any]
    result: dict[str, Any] | None = Field(
        description="Of a fit: fit, kind, status, further_fits (ids). Of a plan: its id. Of a rehearsal: promised, ... "
        "Of a launch: recipes, new, known, finished, diverged, failures, ..."
    )
    problem: str | None = Field(description="Why it failed")
    progress: float = Field(description="Share that is done")
    doing: str = Field(description="What it is doing, or what a launch waits for")
    attempts: int = Field(description="Workers that took it; more than one where a process was killed")
    who: str = Field(description="Name of the token that asked for it")
    created_at: str
    started_at: str | None
    finished_at: str | None


class JobsOut(Document):
    """Jobs."""

    jobs: list[JobOut]


class LaunchAsked(BaseModel):
    """What to train, and with what: a template of the service, and a grid or a plan that has one."""

    model_config = ConfigDict(extra="forbid")

    template: Name = Field(description="Name of a template of the service: a command line, or its own trainer")
    recipe: Name | None = Field(
        default=None, description="What to call the sweep where it is a new one; left out: as the template"
    )
    grid: dict[str, Any] | None = Field(
        default=None, description="What to train: `grid_file` of a plan, or a grid as `lawfit launch` takes it"
    )
    plan: Text | None = Field(default=None, description="Instead of grid: id of a plan of /v1/plans/next that was kept")


class LaunchBegunOut(Document):
    """A launch that was begun, or goes on."""

    job: JobOut = Field(description="Of the service; its result counts what came of the runs")
    runs: list[str] = Field(description="Ids of all runs that were asked for")
    known: list[str] = Field(description="Of these, those that are there already: they are not trained again")
    caveats: list[str] = Field(description="What will not go as the grid says")


class AttemptOut(Document):
    """One time that a job of a launch was started."""

    launch_id: str
    host: str
    place: str = Field(description="gpu 0, cpu, ...")
    began_at: str
    ended_at: str | None = Field(description="Null: it runs, or nobody saw its end")
    reason: str = Field(
        description="done, out_of_memory, preempted, killed, bad_node, walltime, hung, own_error, died, stopped, "
        "cancelled or launcher_lost; empty while it runs"
    )
    said: str = Field(description="The same in words")
    seconds: float = Field(description="Wall time")
    gpus: float = Field(description="How many it had, or which share of one")
    kwh: float | None = Field(description="Energy of its GPUs; null where they do not tell it")


class TrainingJobOut(Document):
    """What a launch trains as one job: a pack of runs, or one run of a trainer of the user's own."""

    id: str
    name: str
    launch_id: str
    backend: str
    host: str = Field(description="Of the launch")
    runs: list[str] = Field(description="Ids")
    state: str = Field(
        description="queued, running, cancelling, lost (its launch was killed: the same command goes on), ended, "
        "stopped, split, failed, given_up or cancelled"
    )
    place: str
    attempts: list[AttemptOut]
    tokens: float = Field(description="Trained")
    tokens_total: float
    problem: str | None = Field(description="Why it failed")
    tail: str = Field(description="What it said last")
    gpu_hours: float
    dollars_per_gpu_hour: float | None
    dollars: float | None
    kwh: float | None
    created_at: str
    started_at: str | None
    finished_at: str | None


class TrainingJobsOut(Document):
    """Jobs of launches."""

    jobs: list[TrainingJobOut]


class AnswerGiven(BaseModel):
    """An answer to a question, as its choices have it."""

    model_config = ConfigDict(extra="forbid")

    option: Text = Field(max_length=100)
    value: Text = Field(max_length=1000)


class LiveRunBegun(BaseModel):
    """A run that a training loop begins to log."""

    model_config = ConfigDict(extra="forbid")

    project: Name = Field(description="Runs of one sweep have one; it is the recipe's name")
    run_key: Name = Field(description="Its name within the project")
    config: dict[str, Any] = Field(
        default={}, description="Settings: params, tokens, batch_tokens, lr, weight_decay, optimizer, seq_len, ..."
    )


class LivePointsOfRun(BaseModel):
    """Points of one run."""

    model_config = ConfigDict(extra="forbid")

    project: Name
    run_key: Name
    points: list[tuple[Name, Annotated[int, Field(ge=0, lt=2**63)], float]] = Field(
        max_length=100_000, description='[metric, step, value]; "NaN", "Infinity" and "-Infinity" are values, too'
    )


class LivePoints(BaseModel):
    """Points of runs, as many as fit into a request."""

    model_config = ConfigDict(extra="forbid")

    runs: list[LivePointsOfRun] = Field(min_length=1, max_length=1000)


class LiveRunFinished(BaseModel):
    """The end of a run."""

    model_config = ConfigDict(extra="forbid")

    project: Name
    run_key: Name
    state: Literal["finished", "diverged", "crashed"] = Field(
        default="finished", description="A crashed run is not stored, and may go on"
    )
    summary: dict[str, Any] = Field(default={}, description="Of the run as a whole, such as its final loss")
    answers: list[AnswerGiven] = Field(
        default=[], max_length=100, description="To questions that were open; kept for later runs of the project"
    )


class LiveRunOut(Document):
    """A run that is, or was, logged."""

    project: str
    run_key: str
    state: str = Field(description="running, finished, crashed or diverged")
    config: dict[str, Any]
    began_at: str
    beat_at: str = Field(description="When it was last heard of")
    stored_at: str | None = Field(description="When it became a stored run, which /v1/runs lists")
    points: int = Field(description="That wait to be stored")
    last_step: int | None = Field(description="Of those")


class LiveRunsOut(Document):
    """Runs that are, or were, logged."""

    runs: list[LiveRunOut]


class LivePointsKept(Document):
    """What was committed."""

    kept: int


class IngestedOut(Document):
    """What one file, or the runs of a project, did to the store."""

    file: str
    format: str
    rows: int
    inserted: int
    updated: int
    unchanged: int
    diverged: int
    rejections: list[dict[str, Any]] = Field(description="file, line, column and reason of each row not taken")
    columns: dict[str, str] = Field(description="field -> column it was read from")
    recipes: list[str]
    notes: list[str]
    dry_run: bool
    curve_points: int
    of: str = Field(description="What a row is: runs, curves, targets or losses")


class UploadedOut(Document):
    """What an upload did, table by table."""

    files: list[IngestedOut]


class LiveRunEnded(Document):
    """How a run ended, and what storing it did."""

    state: str
    stored: bool
    report: IngestedOut | None = Field(description="null where nothing was stored")
