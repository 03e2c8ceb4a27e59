"""From a stored fit, a target and a budget to the runs to make next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from lawfit.ask import NextQuestion
from lawfit.documents.next_runs import NextRuns
from lawfit.errors import NoFit, NotEnoughData, StoreError, Unanswerable
from lawfit.factors import WEIGHT_DECAY
from lawfit.findings import Finding, Found, as_json, finding
from lawfit.pipeline.answering import latest_certified
from lawfit.pipeline.changes import runs_changed_since
from lawfit.pipeline.fitting import LR_BATCH
from lawfit.pipeline.pacing import pace_of
from lawfit.pipeline.trainable import FIRST_SEQ_LEN, grid_of, shapes_of
from lawfit.records import Fit, FitStatus, Recipe, Run, content_hash
from lawfit.storage.next_plans import keep_plan, read_plan

COUPLED: Final = "coupled"
TIMESCALE: Final = "timescale"

if TYPE_CHECKING:
    from lawfit.planner.means import Means
    from lawfit.planner.next_runs import HeldDecay, Limits
    from lawfit.planner.pace import Pace
    from lawfit.proxy.shapes import Shapes
    from lawfit.storage import Store


def run_rows(document: NextRuns) -> list[dict[str, float]]:
    """The runs of a plan, one row each; see `lawfit.planner.planned.rows_of`.

    With a sweep of weight decay each says its own.
    """
    from lawfit.planner.planned import rows_of

    rows = rows_of(document["grids"])
    decay = document.get("weight_decay")
    if decay is None or not decay["sweeps"]:
        return rows
    swept = [
        {**row, "weight_decay": value}
        for sweep in decay["sweeps"]
        for value in sweep["weight_decay"]
        for row in rows_of([sweep])
    ]
    return [*({**row, "weight_decay": decay["held"]} for row in rows), *swept]


def plan_next(
    store: Store,
    recipe: str | None,
    question: NextQuestion,
    *,
    fit_id: str | None = None,
    keep: bool = True,
    anew: bool = False,
    sweep_decay: bool = True,
    pace: Pace | None = None,
) -> NextRuns:
    """Which runs would help a target most for a budget; without a usable fit, the first sweep by published laws.

    Sizes are those of models that lawfit's trainer can make along the recipe's line of shapes; where the recipe is
    another trainer's, they are any, and `missing` says why there is no grid file.

    Parameters
    ----------
    keep : under its id, which brings it back
    anew : the first sweep of a recipe that is not there yet, whatever others are
    sweep_decay : also sweep weight decay, where all runs have one value and it pays
    pace : of a GPU, where the question does not say its FLOP/s; otherwise by the packs of the recipe that were trained
        from this store

    Raises
    ------
    NoRecipe, NoFit
        A recipe, or a fit, was named and is not there.
    NotEnoughData
        No run is worth making: why.
    ValueError
        The budget is none, or lacks what turns FLOPs into it.
    """
    from lawfit.planner.next_runs import next_runs

    fit, held, warnings = (None, None, []) if anew else _begin(store, recipe, fit_id)
    runs = [] if held is None else store.runs(held.key, excluded=False)
    means = _means(question, pace or pace_of(store, held))
    shapes, no_grid = _shapes(held, runs)
    seq_len = question.seq_len or (None if held is None else held.seq_len) or (FIRST_SEQ_LEN if shapes else None)
    limits = _limits(question, seq_len, shapes)
    begun = _under_way(store, question.under_way, held, runs)
    swept = begun and _sweeps_decay(store, question.under_way)
    held_decay = _held_decay(held, fit, runs) if sweep_decay and not swept else None
    document = next_runs(fit, question.target, means, limits=limits, under_way=begun, there=runs, held_decay=held_decay)
    document["recipe"] = None if held is None else held.name
    document["asked"] = {name: value for name, value in vars(question).items() if value is not None}
    document["warnings"] += as_json([*warnings, *([] if swept or "weight_decay" in document else _one_decay(runs))])
    document["missing"] = as_json(no_grid)
    if shapes is not None:
        blocks = _shaped(document, shapes)
        document["grid_file"] = grid_of(held, runs, blocks, seq_len or FIRST_SEQ_LEN)
    document["id"] = content_hash(document)
    document["kept"] = keep and _keep(store, document)
    if fit is not None and (changed := runs_changed_since(store, fit.id)):  # of now, and no part of the plan
        document["warnings"] = as_json([finding("pipeline.runs_changed", runs=changed), *document["warnings"]])
    return document


def _limits(question: NextQuestion, seq_len: int | None, shapes: Shapes | None) -> Limits:
    from lawfit.planner.next_runs import Limits

    return Limits(
        max_params=question.max_params,
        max_tokens=question.max_tokens,
        seq_len=seq_len,
        as_made=None if shapes is None else shapes.params,
    )


def _shaped(document: NextRuns, shapes: Shapes) -> list[Any]:
    """Grids and sweeps of a plan, each with the shape of its models."""
    blocks = [*document["grids"], *(document["weight_decay"]["sweeps"] if "weight_decay" in document else [])]
    for block in blocks:
        block["shape"] = dict(shapes.shape(block["params"]))
    return blocks


def _keep(store: Store, document: NextRuns) -> bool:
    """Whether it is kept: in memory it would be gone at once, and a read-only database plans without a record."""
    if store.location.is_sqlite and store.location.path is None:
        return False
    try:
        keep_plan(store, {**document, "kept": True})
    except StoreError:
        return False
    return True


def _plan_ids(ids: str | None) -> list[str]:
    return list(dict.fromkeys(each.strip() for each in (ids or "").split(",") if each.strip()))


def _sweeps_decay(store: Store, ids: str | None) -> bool:
    """Whether plans under way sweep weight decay already."""
    return any(kept_plan(store, plan_id).get("weight_decay", {}).get("sweeps") for plan_id in _plan_ids(ids))


def _under_way(store: Store, ids: str | None, held: Recipe | None, runs: Sequence[Run]) -> list[dict[str, float]]:
    """Runs of earlier plans that are not among those of the recipe yet."""
    from lawfit.planner.planned import not_there, row_of, rows_of

    rows: list[dict[str, float]] = []
    for plan_id in _plan_ids(ids):
        plan = kept_plan(store, plan_id)
        if plan["recipe"] is not None and (held is None or plan["recipe"] != held.name):
            raise NoFit(finding("plan_next.other_plan", plan_id=plan_id, recipe=plan["recipe"]))
        rows += rows_of(plan["grids"])
    return not_there(rows, [row_of(run) for run in runs])


def require_plannable(store: Store, recipe: str | None, question: NextQuestion, fit_id: str | None = None) -> None:
    """Raise what `plan_next` would at once: of a budget that is none, and of a recipe or a fit that is not there."""
    _, held, _ = _begin(store, recipe, fit_id)
    _means(question, pace_of(store, held))


def _means(question: NextQuestion, pace: Pace | None) -> Means:
    from lawfit.planner.means import read_means

    try:
        return read_means(question.budget, question.flops_per_second, question.price, pace)
    except ValueError as error:
        raise ValueError(str(error).replace("dollars_per_gpu_hour", "price")) from None


def kept_plan(store: Store, plan_id: str) -> NextRuns:
    """A plan as it was given, whatever was ingested or fitted since.

    Raises
    ------
    NoFit
        There is none of that id.
    """
    found: NextRuns = read_plan(store, plan_id)
    return found


def _held_decay(held: Recipe | None, fit: Fit | None, runs: Sequence[Run]) -> HeldDecay | None:
    """The weight decay that a fit holds, where no law says which is best; None without one, and where runs have it
    independent of the learning rate."""
    from lawfit.advise.further import positive
    from lawfit.laws.lenders import lending_to
    from lawfit.planner.next_runs import HeldDecay

    levels = {run.weight_decay for run in runs}
    kinds = {run.extra.get("weight_decay_kind") or COUPLED for run in runs}
    if held is None or fit is None or {*kinds, held.extra.get("weight_decay_kind") or COUPLED} != {COUPLED}:
        return None
    law = fit.payload.get("laws", {}).get(TIMESCALE)
    if law is not None and law["status"] != FitStatus.UNCERTIFIED.value:
        return None
    said = [each["level"] for each in fit.payload["settings"] if each["name"] == WEIGHT_DECAY]
    value = levels.pop() if len(levels) == 1 else positive(said[0]) if said else None
    if not value:
        return None
    without = lending_to(held, fit.options.get("without_laws", ())).without
    return HeldDecay(value=value, without_laws=without)


def _one_decay(runs: Sequence[Run]) -> list[Finding]:
    """Where all runs have one weight decay, so have the planned ones, and which is best stays open."""
    levels = {run.weight_decay for run in runs if run.weight_decay is not None}
    return [finding("plan_next.one_weight_decay", weight_decay=levels.pop())] if len(levels) == 1 else []


def _shapes(held: Recipe | None, runs: list[Run]) -> tuple[Shapes | None, dict[str, Found]]:
    """What models look like, or why there is no grid file."""
    try:
        return shapes_of(held, runs), {}
    except NotEnoughData as error:
        return None, {"grid_file": error.finding}


def _begin(store: Store, recipe: str | None, fit_id: str | None) -> tuple[Fit | None, Recipe | None, list[Finding]]:
    """The fit to plan from, the recipe of further runs, and why there is no fit, where there are runs."""
    if fit_id is not None:
        fit = store.fit(fit_id)
        if recipe is not None and store.recipe(recipe).key != fit.recipe_key:
            raise NoFit(finding("pipeline.other_recipe", fit_id=fit_id, recipe=fit.recipe_name, asked=recipe))
        if fit.kind != LR_BATCH:
            raise NoFit(finding("plan_next.other_kind", fit_id=fit_id, kind=fit.kind))
        return fit, store.recipe(fit.recipe_name), []
    if recipe is None and not store.recipes():
        return None, None, []
    held = store.recipe(recipe)
    try:
        return latest_certified(store, held), held, []
    except (NoFit, Unanswerable) as error:
        return None, held, [finding("plan_next.no_usable_fit", recipe=held.name, why=error)]
