"""THE MAIN PATH: ingest -> refit -> recommend -> launch. Start reading here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lawfit.errors import LogFormatError, NoFit, NotEnoughData, StoreError
from lawfit.records import (
    Changes,
    CurveChange,
    Fit,
    FitStatus,
    IngestReport,
    Json,
    Optimum,
    PlanQuestion,
    Recipe,
    Rejection,
    Run,
    ScheduleQuestion,
    Sweep,
    Target,
    content_hash,
)
from lawfit.settings import data_folder
from lawfit.units import counted

if TYPE_CHECKING:
    from lawfit.estimate.all_laws import Evidence, Squares
    from lawfit.estimate.analysis import FitOptions
    from lawfit.ingest import Ingested
    from lawfit.ingest.curves import CurveColumns
    from lawfit.ingest.options import IngestOptions
    from lawfit.ingest.table import Table
    from lawfit.launch import LaunchOptions, LaunchReport, Pack, Plan, Progress
    from lawfit.storage import Store

HASHED_RUNS: Final = 5000
LR_BATCH: Final = "lr_batch"  # kind of fit: the best learning rate and batch size
CRITICAL_BATCH: Final = "critical_batch"
STEPS_TABLE: Final = "steps_to_target"  # the route to a critical batch that takes no run


def open_store(url: str | Path, *, create: bool = True, dry_run: bool = False) -> Store:
    """Open the database, created and migrated on first use.

    Parameters
    ----------
    url : a file name ("lawfit.db"), or a SQLAlchemy URL
    create : a file that does not exist is made; otherwise it is an error
    dry_run : a file that does not exist is not created; an empty store in memory stands in for it

    Raises
    ------
    StoreError
        It cannot be opened; `SchemaOutOfDate` when a newer version of lawfit wrote it.
    """
    from lawfit.storage import Store
    from lawfit.storage.database import Location, check_file

    location = Location.parse(url)
    if dry_run and location.path is not None and not location.path.exists():
        check_file(location.path)
        return Store.open(":memory:")
    return Store.open(url, create=create)


def ingest(store: Store, path: str | Path, options: IngestOptions | None = None) -> IngestReport:
    """Read a table of runs, the trainer's logs, or a table of curves, and put it into the store, in one transaction.

    Curves of logs follow in a transaction of their own: where that fails, the same ingest again adds what is missing.

    Raises
    ------
    LogFormatError
        The file as a whole cannot be taken.
    RecipeConflict
        The recipe name that was asked for holds other settings in the store.
    """
    from lawfit.ingest import IngestOptions, interpret, read_table
    from lawfit.ingest.curves import curve_columns
    from lawfit.ingest.targets import is_target_table

    options = options or IngestOptions()
    table = read_table(path, options.format)
    if columns := curve_columns(table):
        return _ingest_curves(store, table, columns, options, str(path))
    if is_target_table(table):
        return _ingest_targets(store, table, options, str(path))
    found = interpret(table, options)
    changes = store.put_sweeps(found.sweeps, named=found.named, dry_run=options.dry_run)
    put = [] if options.dry_run else _put_curves(store, found, changes)
    return IngestReport(
        file=str(path),
        format=found.format,
        rows=found.rows,
        inserted=changes.inserted,
        updated=changes.updated,
        unchanged=changes.unchanged,
        diverged=found.diverged,
        rejections=found.rejections,
        columns=found.columns,
        recipes=tuple(recipe.name for recipe in changes.recipes),
        notes=(*found.notes, *changes.notes, *_curve_notes(put)),
        dry_run=options.dry_run,
        curve_points=sum(len(change.new_steps) for change in put),
    )


def _ingest_targets(store: Store, table: Table, options: IngestOptions, file: str) -> IngestReport:
    """Steps to a target loss, a row per batch size."""
    from lawfit.ingest.targets import read_targets

    read = read_targets(table, options)
    found = read.found
    changes = store.put_targets(read.sweeps, named=found.named, dry_run=options.dry_run)
    return IngestReport(
        file=file,
        format=found.format,
        rows=found.rows,
        inserted=changes.inserted,
        updated=changes.updated,
        unchanged=changes.unchanged,
        diverged=0,
        rejections=found.rejections,
        columns=found.columns,
        recipes=tuple(recipe.name for recipe in changes.recipes),
        notes=(*found.notes, *changes.notes),
        dry_run=options.dry_run,
        of="targets",
    )


def _put_curves(store: Store, found: Ingested, changes: Changes) -> list[CurveChange]:
    put: list[CurveChange] = []
    for recipe, sweep in zip(changes.recipes, found.sweeps, strict=True):
        keys = {run.run_key for run in sweep.runs}
        if curves := [curve for curve in found.curves if curve.run_key in keys]:
            put += store.put_curves(recipe.key, curves)
    return put


def _curve_notes(put: Sequence[CurveChange]) -> list[str]:
    """Which stored curves were replaced by fuller logs, and which stayed though the file says otherwise."""
    said = []
    if replaced := [change for change in put if change.replaced]:
        runs, points = len({change.run_key for change in replaced}), sum(change.replaced for change in replaced)
        new = sum(len(change.new_steps) for change in replaced)
        said.append(
            f"thinned curves of {counted(runs, 'run')} ({points:,} points) were replaced by the fuller "
            f"ones of this file, which have {new:,} more"
        )
    if differing := [change for change in put if change.differs]:
        first = differing[0]
        said.append(
            f"{counted(len(differing), 'curve has', 'curves have')} other numbers than those stored at "
            f"the same steps ('{first.metric}' of run '{first.run_key}'); what was stored stays"
        )
    return said


def _ingest_curves(
    store: Store, table: Table, columns: CurveColumns, options: IngestOptions, file: str
) -> IngestReport:
    """Curves for runs that are stored, in the recipe that was named or the only one that has them."""
    from lawfit.ingest.curves import read_curves

    keys = {str(cells[columns.run]).strip() for _, cells in table.rows}
    homes = _homes(store, keys, options.recipe, table.name)
    found = read_curves(table, columns, {key: batch_tokens for key, (_, batch_tokens) in homes.items()})
    recipes = {homes[curve.run_key][0].name: homes[curve.run_key][0] for curve in found.curves}
    new: set[tuple[str, int]] = set()  # places (run, step): a row is new when one of its metrics is
    put: list[CurveChange] = []
    for recipe in recipes.values():
        curves = [curve for curve in found.curves if homes[curve.run_key][0] == recipe]
        put += store.put_curves(recipe.key, curves, dry_run=options.dry_run)
    for change in put:
        new.update((change.run_key, step) for step in change.new_steps)
    known = counted(len(found.rows), "run")
    return IngestReport(
        file=file,
        format=table.format,
        rows=len(table.rows) + len(table.rejections),
        inserted=len(new),
        updated=0,
        unchanged=sum(found.rows.values()) - len(new),
        diverged=0,
        rejections=found.rejections,
        columns=columns.shown(table),
        recipes=tuple(recipes),
        notes=(*table.notes, f"a table of curves: points of {known} in the store", *_curve_notes(put)),
        dry_run=options.dry_run,
        curve_points=0 if options.dry_run else sum(len(change.new_steps) for change in put),
        of="curves",
    )


def _homes(store: Store, keys: Set[str], recipe: str | None, file: str) -> dict[str, tuple[Recipe, float]]:
    """Recipe and batch (tokens per step) of the runs of these keys that are stored.

    Raises
    ------
    LogFormatError
        A run is in several recipes, and none was named.
    """
    homes: dict[str, tuple[Recipe, float]] = {}
    for candidate in [store.recipe(recipe)] if recipe else [found.recipe for found in store.recipes()]:
        stored = store.run_columns(candidate.key)
        for key, batch_tokens in zip(stored["run_key"], stored["batch_tokens"].tolist(), strict=True):
            if key in homes and key in keys:
                both = f"{homes[key][0].name}, {candidate.name}"
                raise LogFormatError(f"{file}: run '{key}' is in the recipes {both}; say which with --recipe")
            homes[key] = (candidate, batch_tokens)
    return homes


def refit(
    store: Store,
    recipe: str | None = None,
    *,
    options: FitOptions | None = None,
    without_laws: Sequence[str] = (),
    three_term: bool = False,
    progress: Callable[[str, float], None] | None = None,
) -> Fit:
    """Fit every law that a recipe's data support, and store each. The same data, options and code give the same fits.

    Returns the fit of learning rate and batch, which names the others (`laws` and `missing` of its payload); of a
    recipe without a finished run, the first of the laws that it has. `three_term` adds the surface L(N, batch, steps).

    `without_laws` names published laws that must not lend anything, beside those of the options.

    Raises
    ------
    NoRecipe
        There is none of that name, or several to choose from.
    UnknownLaw
        `without_laws` names a law that is not in the catalogue.
    NotEnoughData
        No run finished, and nothing else could be fitted either.
    """
    if without_laws:
        from lawfit.estimate.analysis import FitOptions
        from lawfit.laws.published import published_law

        named = tuple(published_law(law_id).id for law_id in without_laws)
        options = options or FitOptions()
        options = replace(options, without_laws=tuple(dict.fromkeys((*options.without_laws, *named))))
    chosen = store.recipe(recipe)
    fitted = fit_evidence(
        chosen,
        evidence_of(store, chosen),
        options=options,
        three_term=three_term,
        sister=_critical_batch_of_a_sister(store, chosen),
        progress=progress,
    )
    for law in fitted.laws:
        store.put_fit(law)
    if fitted.fit is not None:
        store.put_fit(fitted.fit, fitted.optima)
    return store.fit((fitted.fit or fitted.laws[0]).id)


def _critical_batch_of_a_sister(store: Store, recipe: Recipe) -> Fit | None:
    """A stored critical batch of a recipe that is known to differ from this one in the learning rate's schedule alone.

    That is how critical batches are measured: at constant rates, for recipes that decay (arXiv 2410.21676).
    """
    if not (recipe.optimizer and recipe.data and recipe.schedule):
        return None  # unknown equals only unknown
    for found in store.recipes():
        other = found.recipe
        if other.schedule and other.key != recipe.key and replace(other, schedule=recipe.schedule).key == recipe.key:
            with suppress(NoFit):
                return store.latest_fit(other.key, CRITICAL_BATCH)
    return None


@dataclass(frozen=True, kw_only=True)
class FittedRecipe:
    """Every fit of one recipe, in memory; `fit` names the others in its payload."""

    fit: Fit | None  # of learning rate and batch; None: no run with a loss, yet there are `laws`
    optima: tuple[Optimum, ...]  # each scale's own
    laws: tuple[Fit, ...]  # of the loss, critical batch, weight decay


def evidence_of(store: Store, recipe: Recipe) -> Evidence:
    """All that the store holds of one recipe."""
    from lawfit.estimate.all_laws import CURVE_METRICS, Evidence
    from lawfit.estimate.recipe_laws import holds_the_rate

    counts = store.curve_counts(recipe.key) if holds_the_rate(recipe.schedule) else {}  # others are not read off
    most = max(counts.values(), default=0)
    metric = next((name for name in CURVE_METRICS if 2 * counts.get(name, 0) > most), "")
    curves = store.curves(recipe.key, metric) if metric else {}
    runs = store.runs(recipe.key)
    return Evidence(
        runs=runs,
        targets=store.targets(recipe.key),
        curves={key: (steps.astype(float), numbers) for key, (steps, numbers) in curves.items()},
        squares=_squares(store, recipe, runs) if metric else {},
        metric=metric,
        schedule=recipe.schedule,
        weight_decay_kind=recipe.extra.get("weight_decay_kind", ""),
    )


def _squares(store: Store, recipe: Recipe, runs: Sequence[Run]) -> Squares:
    """Squared gradient norms at one batch and at two along each run, where no table of the runs has a noise scale."""
    from lawfit.estimate.noise_by_size import COLUMN, SQUARES

    if any(run.extra.get(COLUMN) for run in runs):
        return {}
    small, large = (store.curves(recipe.key, metric) for metric in SQUARES)
    return {
        key: (small[key][0].astype(float), small[key][1], large[key][1])
        for key in small.keys() & large.keys()
        if small[key][0].tolist() == large[key][0].tolist()
    }


def fit_evidence(
    recipe: Recipe,
    evidence: Evidence,
    *,
    options: FitOptions | None = None,
    three_term: bool = False,
    sister: Fit | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> FittedRecipe:
    """Fit every law that the evidence of one recipe supports, in memory.

    Parameters
    ----------
    sister : a critical batch of another recipe, that stands in where this one has none

    Raises
    ------
    NotEnoughData
        No run finished, and nothing else could be fitted either.
    """
    from lawfit.estimate.all_laws import evidence_hash, fit_all_laws
    from lawfit.estimate.analysis import FitOptions

    options, report = options or FitOptions(), progress or (lambda _step, _share: None)
    report("further laws", 0.0)
    found = fit_all_laws(evidence, three_term=three_term)
    data, code = evidence_hash(evidence), code_version()
    laws = tuple(
        Fit(
            id=content_hash({"recipe": recipe.key, "data": data, "code": code, "kind": law.kind}),
            recipe_key=recipe.key,
            recipe_name=recipe.name,
            kind=law.kind,
            status=law.status,
            data_hash=data,
            code_version=code,
            created_at=_now(),
            options={},
            exclusions={run.run_key: run.excluded for run in evidence.runs if run.excluded is not None},
            payload=law.payload,
        )
        for law in found.fitted
    )
    try:
        fit, optima = fit_runs(
            recipe, evidence.runs, options=options, progress=lambda step, share: report(step, 0.2 + 0.8 * share)
        )
    except NotEnoughData:
        if not laws and evidence.targets and not evidence.runs:
            why = found.details.get(STEPS_TABLE) or found.missing[CRITICAL_BATCH]
            raise NotEnoughData(f"steps to a target are all that this recipe has, and {why}") from None
        if not laws:
            raise
        return FittedRecipe(fit=None, optima=(), laws=laws)
    named: dict[str, Json] = {
        "evidence_hash": data,
        "laws": {
            law.kind: {
                "fit_id": law.id,
                "status": law.status.value,
                "words": law.payload["words"],
                "lines": law.payload.get("lines", []),
            }
            for law in laws
        },
        "missing": {kind: words for kind, words in found.missing.items() if sister is None or kind != sister.kind},
        "missing_details": dict(found.details),
        "other_laws": dict(found.other),
    }
    if sister is not None and sister.kind in found.missing:
        words = (
            f"{sister.payload['words']}; measured in recipe {sister.recipe_name}, which differs in its schedule alone"
        )
        lines = sister.payload.get("lines", [])
        named["laws"][sister.kind] = {
            "fit_id": sister.id,
            "status": sister.status.value,
            "words": words,
            "lines": lines,
        }
    fit = replace(fit, id=content_hash({"fit": fit.id, **named}), payload={**fit.payload, **named})
    return FittedRecipe(fit=fit, optima=optima, laws=laws)


def fit_runs(
    recipe: Recipe,
    runs: Sequence[Run],
    *,
    options: FitOptions | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> tuple[Fit, tuple[Optimum, ...]]:
    """Fit learning rate and batch to the runs of one recipe, in memory: the fit, and each scale's own optimum.

    Raises
    ------
    NotEnoughData
        No run finished.
    """
    from lawfit.estimate.analysis import FitOptions, analyse
    from lawfit.estimate.observations import data_hash, observe

    options = options or FitOptions()
    observed = observe(runs)
    data, code = data_hash(runs), code_version()
    analysis = analyse(observed, options, seq_len=recipe.seq_len, progress=progress)
    fit = Fit(
        id=content_hash({"recipe": recipe.key, "data": data, "code": code, "options": asdict(options)}),
        recipe_key=recipe.key,
        recipe_name=recipe.name,
        kind=LR_BATCH,
        status=analysis.status,
        data_hash=data,
        code_version=code,
        created_at=_now(),
        options=asdict(options),
        exclusions=dict(observed.rejected),
        payload=analysis.payload,
    )
    return fit, analysis.optima


def recommend(store: Store, recipe: str | None, target: Target, *, fit_id: str | None = None) -> dict[str, Json]:
    """The recommendation for one target, from the newest fit of the recipe or from the one named.

    The answer is kept under its id where the database can be written, so that it can be shown again.

    Raises
    ------
    NoRecipe, NoFit
        With what to type.
    """
    from lawfit.advise.prediction import recommend as advise
    from lawfit.advise.prediction import recommend_without_runs

    if fit_id is None:
        chosen = store.recipe(recipe)
        fit = _latest_answering(store, chosen)
    else:
        fit = store.fit(fit_id)
        chosen = store.recipe(fit.recipe_name)
        if recipe is not None and store.recipe(recipe).key != fit.recipe_key:
            raise NoFit(f"fit {fit_id} belongs to recipe '{fit.recipe_name}', not to '{recipe}'")
    if fit.kind == LR_BATCH:
        answer = advise(fit, chosen, target, laws_of(store, fit))
        if fit_id is None:
            answer["warnings"] = [*_newer_doubtful(store, chosen, fit), *answer["warnings"]]
    elif fit.kind == CRITICAL_BATCH:
        answer = recommend_without_runs(fit, chosen, target)
    else:
        raise NoFit(f"fit {fit_id} is one of the {fit.kind} law alone; name the fit of learning rate and batch")
    with suppress(StoreError):  # a read-only database still answers; only the record of the answer is missing
        store.put_prediction(answer["id"], fit.id, answer["target"], answer)
    return answer


def plan(store: Store, recipe: str | None, question: PlanQuestion, *, fit_id: str | None = None) -> dict[str, Json]:
    """How to spend a budget, from the newest fit of the recipe or from the one named: size, tokens, settings, time.

    Raises
    ------
    NoRecipe, NoFit
        With what to type.
    NotEnoughData
        The runs carry no law of the loss, or one that leaves the optimum open; with the runs that would help.
    ValueError
        The question contradicts itself.
    """
    from lawfit.advise.planning import plan as advise

    chosen = store.recipe(recipe)
    fit = _latest_certified(store, chosen) if fit_id is None else store.fit(fit_id)
    if fit.kind != LR_BATCH:
        raise NoFit(f"fit {fit_id} is one of the {fit.kind} law alone; name the fit of learning rate and batch")
    return advise(
        question,
        store.recipe(fit.recipe_name),
        laws_of(store, fit),
        fit.payload.get("missing", {}),
        lambda target: recommend(store, recipe, target, fit_id=fit.id),
    )


def _latest_answering(store: Store, recipe: Recipe) -> Fit:
    """The newest certified fit of learning rate and batch; of a recipe that never had one, its critical batch size."""
    try:
        return _latest_certified(store, recipe)
    except NoFit:
        if _newest(store, recipe) is None:
            with suppress(NoFit):
                return store.latest_fit(recipe.key, CRITICAL_BATCH)
        raise


def _latest_certified(store: Store, recipe: Recipe) -> Fit:
    """The newest fit of learning rate and batch that may be used; where there is none, why."""
    try:
        return store.latest_fit(recipe.key, LR_BATCH)
    except NoFit:
        doubtful = _newest(store, recipe)
        if doubtful is None:
            raise
        raise NoFit(
            f"the fit of recipe '{recipe.name}' is not certified, so it is not used: {_doubts(doubtful)}; add runs and "
            f"fit again, or look at what it says with lawfit predict --fit {doubtful.id}"
        ) from None


def _newest(store: Store, recipe: Recipe) -> Fit | None:
    """The newest fit of learning rate and batch, certified or not."""
    with suppress(NoFit):
        return store.latest_fit(recipe.key, LR_BATCH, usable_only=False)
    return None


def _doubts(fit: Fit) -> str:
    return "; ".join((fit.payload.get("certificate") or {}).get("reasons", [])) or "it did not converge"


def _newer_doubtful(store: Store, recipe: Recipe, fit: Fit) -> list[str]:
    """A sentence where a newer fit than the one that answers was refused."""
    newest = _newest(store, recipe)
    if newest is None or newest.id == fit.id or newest.status is not FitStatus.UNCERTIFIED:
        return []
    return [
        f"this answer is of an older fit: the newest, {newest.id}, is not certified ({_doubts(newest)}) and is not used"
    ]


def laws_of(store: Store, fit: Fit) -> dict[str, Fit]:
    """The further fits that a fit names: kind -> fit."""
    if fit.kind != LR_BATCH:
        return {fit.kind: fit}
    return {kind: store.fit(law["fit_id"]) for kind, law in fit.payload.get("laws", {}).items()}


def runs_changed_since(store: Store, fit_id: str) -> bool:
    """Whether a recipe's runs are no longer those that a fit saw: ingested, corrected, excluded or restored since.

    Steps to targets count as well, and curves where they are read. Beyond `HASHED_RUNS` runs only their number is
    compared, so that a quick answer stays quick; a correction is then missed.
    """
    from lawfit.estimate.all_laws import evidence_hash
    from lawfit.estimate.observations import data_hash

    fit = store.fit(fit_id)
    if fit.kind != LR_BATCH:
        return evidence_hash(evidence_of(store, store.recipe(fit.recipe_key))) != fit.data_hash
    summary = next(found for found in store.recipes() if found.recipe.key == fit.recipe_key)
    if summary.runs > HASHED_RUNS:
        return summary.runs != int(fit.payload["runs_used"]) + int(fit.payload["runs_rejected"])
    if "evidence_hash" not in fit.payload:  # stored by a version that did not keep it
        return data_hash(store.runs(fit.recipe_key)) != fit.data_hash
    return evidence_hash(evidence_of(store, summary.recipe)) != str(fit.payload["evidence_hash"])


def compare_laws(store: Store, recipe: str | None = None) -> dict[str, Json]:
    """What following each published law would have cost on a recipe's runs, or how far off it is; best first.

    Laws of the critical batch are held against the newest stored fit of it, the others against the runs.

    Raises
    ------
    NoRecipe, NotEnoughData
        Nothing to compare on.
    """
    from lawfit.advise.compare import compare_published
    from lawfit.estimate.observations import observe

    chosen = store.recipe(recipe)
    runs = store.runs(chosen.key)
    critical, observed, problem = None, None, None
    with suppress(NoFit):
        critical = store.latest_fit(chosen.key, CRITICAL_BATCH).payload
    try:
        observed = observe(runs)
    except NotEnoughData as error:
        problem = error
    try:
        return {"recipe": chosen.name, **compare_published(observed, chosen, runs=runs, critical=critical)}
    except NotEnoughData as error:
        raise (problem or error) from None


def transfer(store: Store, recipes: Sequence[str] = (), *, level: float = 0.9) -> dict[str, Json]:
    """How the best learning rate moves with width and horizon: of the recipes named, or of all. Nothing is stored.

    Raises
    ------
    NoRecipe
        There is none of a name.
    NotEnoughData
        No recipe has sweeps that show it.
    """
    from lawfit.advise.transfer import transfer_view

    chosen = [store.recipe(name) for name in recipes] or [found.recipe for found in store.recipes()]
    if not chosen:
        store.recipe(None)  # says that there is nothing, and what to type
    return transfer_view(((recipe, store.runs(recipe.key)) for recipe in chosen), level=level)


def token_ratio(store: Store, recipe: str, other: str) -> dict[str, Json]:
    """Tokens that one recipe needs over those of another, to the same loss at the same size. Nothing is stored.

    Raises
    ------
    NoRecipe
        There is none of a name.
    NotEnoughData
        They have no losses that can be set against each other.
    """
    from lawfit.estimate.token_ratio import token_ratios

    one, two = store.recipe(recipe), store.recipe(other)
    differ = [name for name in ("data", "tokenizer", "loss_kind", "params_convention", "seq_len") if
              getattr(one, name) != getattr(two, name)]  # fmt: skip
    notes = [f"the recipes differ in {', '.join(differ)} too, so their losses may not be comparable"] if differ else []
    found = token_ratios(store.runs(one.key), store.runs(two.key))
    return {"recipe": one.name, "other": two.name, **found, "notes": notes}


def study_schedules(
    path: str | Path, question: ScheduleQuestion, *, progress: Callable[[str, float], None] = lambda _step, _share: None
) -> dict[str, Json]:
    """What other learning-rate schedules would reach, from a table of loss curves with their rates. Nothing is stored.

    Raises
    ------
    LogFormatError
        The file cannot be read, lacks a column, or no curve has the name that was asked for.
    NotEnoughData
        Fewer than two curves, or none whose learning rate falls.
    """
    from fnmatch import fnmatchcase

    from lawfit.estimate import schedule_study
    from lawfit.ingest import read_table
    from lawfit.ingest.curves import read_rated_curves

    read = read_rated_curves(read_table(path))
    chosen = {name: rows for name, rows in read.runs.items() if fnmatchcase(name, question.runs)}
    if not chosen:
        if not read.runs:
            why = f"; line {read.rejections[0].line}: {read.rejections[0].reason}" if read.rejections else ""
            raise LogFormatError(f"no row of {path} can be used, of {len(read.rejections):,} with a loss{why}")
        others = f" and {len(read.runs) - 5:,} others" if len(read.runs) > 5 else ""
        raise LogFormatError(
            f"no curve of {path} is called '{question.runs}'; it has {', '.join(list(read.runs)[:5])}{others}"
        )
    curves, left = [], []
    for name, rows in chosen.items():
        try:
            curves.append(schedule_study.loss_curve(name, *rows, warmup_steps=question.warmup_steps))
        except ValueError as error:
            left.append(str(error))
    if len(curves) < 2:
        more = [f"and {len(left) - 2:,} more like these"] if len(left) > 2 else []
        words = [f"it takes two curves or more, and {len(curves)} of {len(chosen):,} can be used", *left[:2], *more]
        raise NotEnoughData("; ".join(words))
    found = schedule_study.study_schedules(
        curves,
        schedules=question.schedules or schedule_study.USUAL,
        lr=question.lr,
        steps=question.steps,
        progress=progress,
    )
    rejected = [asdict(rejection) for rejection in read.rejections]
    return {"file": str(path), "loss_column": read.loss_column, **found, "left": left, "rejected": rejected}


def launch(
    store: Store,
    sources: Sequence[str | Path | Pack],
    options: LaunchOptions | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> LaunchReport:
    """Train packs (or the packs of grid files) on this machine, and store each run as it ends.

    Runs that the store has are left out, packs that were begun go on: after any interruption, the same call again.

    Parameters
    ----------
    sources : grid files, pack files or packs
    progress : called several times a second

    Raises
    ------
    PackError, LaunchError
        Nothing was begun: a file that cannot be trained, no corpus or another one than the sweep has, no GPU.
    """
    from lawfit.launch import LaunchOptions, LaunchReport, execute, make_plan

    options = options or LaunchOptions()
    paths = [Path(source) if isinstance(source, str) else source for source in sources]
    known = {key for found in store.recipes() for key in store.run_columns(found.recipe.key)["run_key"]}
    plan = make_plan(paths, known, options)
    _require_same_data(store, plan)
    arrivals = _Arrivals(store, plan)
    result = None
    if not options.dry_run:
        result = execute(plan, ended=arrivals.take, report=progress or (lambda _: None))
        arrivals.take([])  # those that could not be stored when they came
    return LaunchReport(
        plan=plan,
        result=result,
        recipes=tuple(arrivals.recipes),
        new=arrivals.new,
        rejections=tuple(arrivals.rejections),
        notes=tuple(arrivals.notes),
        not_stored=arrivals.error,
    )


def _require_same_data(store: Store, plan: Plan) -> None:
    """Recipes of the names that new ones would get, if there are any, were measured on this corpus."""
    from lawfit.launch import LaunchError

    wanted = set(plan.names.values())
    for found in store.recipes():
        name, data = found.recipe.name, found.recipe.data
        if name in wanted and data and not data.endswith(plan.corpus.hash):
            raise LaunchError(
                f"recipe '{name}' in the store was measured on '{data}', and these packs train on {plan.corpus.hash}; "
                "losses on different corpora cannot be compared. Begin a new sweep with --recipe NAME"
            )


class _Arrivals:
    """Puts logs into the store as their runs end; what a busy database refuses is kept for the next time."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store, self._names, self._folder = store, plan.names, plan.options.logs
        self._waiting: list[Path] = []
        self.recipes: dict[str, None] = {}
        self.new = 0
        self.rejections: list[Rejection] = []
        self.notes: dict[str, None] = {}
        self.error = ""

    def take(self, logs: Sequence[Path]) -> None:
        from lawfit.ingest import interpret
        from lawfit.ingest.trainer_log import TRAINER

        self._waiting += logs
        if not self._waiting:
            return
        table, _ = TRAINER.read_logs("logs", self._folder, self._waiting)
        try:
            found = interpret(table)
            changes = self._store.put_sweeps([self._named(sweep) for sweep in found.sweeps])
            _put_curves(self._store, found, changes)
        except (LogFormatError, StoreError) as error:
            self.error = str(error)
            return
        self._waiting, self.error = [], ""
        self.recipes.update((recipe.name, None) for recipe in changes.recipes)
        self.new += changes.inserted
        self.rejections += found.rejections
        self.notes.update(dict.fromkeys(changes.notes))

    def _named(self, sweep: Sweep) -> Sweep:
        return replace(sweep, recipe=replace(sweep.recipe, name=self._names[sweep.runs[0].run_key]))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def code_version() -> str:
    """Version of lawfit and a hash of the code that estimates: another analysis is another fit."""
    from lawfit import __version__

    here = Path(__file__).parent
    content = b"".join(
        path.read_bytes() for room in ("estimate", "laws") for path in sorted((here / room).glob("*.py"))
    )
    return f"{__version__}+{hashlib.sha256(content + (data_folder() / 'laws.toml').read_bytes()).hexdigest()[:8]}"


def list_laws() -> list[dict[str, Json]]:
    """Every published law of the catalogue, as `show_law` gives one."""
    from lawfit.laws.published import published_laws

    return [show_law(law_id) for law_id in published_laws()]


def show_law(law_id: str) -> dict[str, Json]:
    """One published law: formulas, what its inputs count and where they were measured, caveats, source.

    Raises
    ------
    UnknownLaw
        With the ids that exist.
    """
    from lawfit.laws.published import published_law

    return published_law(law_id).to_json()
