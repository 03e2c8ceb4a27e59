"""THE MAIN PATH: ingest -> refit -> recommend -> plan -> launch. Start reading here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lawfit.ask import PlanQuestion, RefineQuestion, ScheduleQuestion, Target
from lawfit.errors import LogFormatError, NoFit, NotEnoughData, StoreError
from lawfit.factors import asked_levels
from lawfit.findings import Found, as_json, finding, joined
from lawfit.pipeline.answering import (
    ALONE,
    answer,
    latest_answering,
    latest_at,
    laws_beside,
    newer_doubtful,
    require_at,
)
from lawfit.pipeline.arrivals import Arrivals, require_same_data
from lawfit.pipeline.fitting import (
    CRITICAL_BATCH,
    LOSS,
    LR_BATCH,
    critical_batch_of_a_sister,
    evidence_of,
    fit_evidence,
)
from lawfit.pipeline.ingesting import read_source, store_source
from lawfit.records import Fit, FitStatus, IngestReport, Json, Recipe, Rejection, StoredPrediction

if TYPE_CHECKING:
    from lawfit.estimate.lr_batch.analysis import FitOptions
    from lawfit.ingest.options import IngestOptions
    from lawfit.launch import LaunchOptions, LaunchReport, Pack, Progress
    from lawfit.storage import Store

HASHED_RUNS: Final = 5000


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
    from lawfit.ingest import IngestOptions

    return store_source(store, read_source(path, options or IngestOptions()))


def refit(
    store: Store,
    recipe: str | None = None,
    *,
    options: FitOptions | None = None,
    without_laws: Sequence[str] = (),
    at: Sequence[str] = (),
    critical_definition: str = "",
    three_term: bool = False,
    progress: Callable[[str, float], None] | None = None,
) -> Fit:
    """Fit every law that a recipe's data support, and store each. The same data, options and code give the same fits.

    Returns the fit of learning rate and batch, which names the others (`laws` and `missing` of its payload); of a
    recipe without a finished run, the first of the laws that it has. `three_term` adds the surface L(N, batch, steps).

    `without_laws` names published laws that must lend nothing to any of them, beside those of the options; all that was
    fitted on the same runs is withheld with them. `at` asks for levels of settings that vary inside the recipe, each as
    ``NAME=VALUE``; of the others one is chosen (`estimate.observe.held`). `critical_definition` is what a critical
    batch is also stated by (`laws.critical_batch.Definition.parse`); Zhang's where nothing is said.

    Raises
    ------
    NoRecipe
        There is none of that name, or several to choose from.
    UnknownLaw
        `without_laws` names a law that is not in the catalogue.
    NotEnoughData
        No run finished, and nothing else could be fitted either; `UnknownLevel` where none has a level asked for.
    ValueError
        `at` contradicts itself, or `critical_definition` is none.
    """
    if critical_definition:
        from lawfit.estimate.lr_batch.analysis import FitOptions

        options = replace(options or FitOptions(), critical_definition=critical_definition)
    if at:
        from lawfit.estimate.lr_batch.analysis import FitOptions

        asked = tuple(f"{name}={value}" for name, value in asked_levels(at))
        options = replace(options or FitOptions(), at=asked)
    if without_laws:
        from lawfit.estimate.lr_batch.analysis import FitOptions

        options = options or FitOptions()
        options = replace(options, without_laws=tuple(dict.fromkeys((*options.without_laws, *without_laws))))
    chosen = store.recipe(recipe)
    fitted = fit_evidence(
        chosen,
        evidence_of(store, chosen),
        options=options,
        three_term=three_term,
        sister=critical_batch_of_a_sister(store, chosen),
        progress=progress,
    )
    store.put_refit(fitted.laws, fitted.fit, fitted.optima)
    return store.fit((fitted.fit or fitted.laws[0]).id)


def recommend(
    store: Store,
    recipe: str | None,
    target: Target,
    *,
    fit_id: str | None = None,
    at: Sequence[str] = (),
    keep: bool = True,
) -> dict[str, Json]:
    """The recommendation for one target, from the newest fit of the recipe or from the one named.

    The answer is kept under its id, to be shown again, where `keep` says so and the database can be written. Where no
    learning rate may be given, the law of the loss (and the critical batch) still answers, and the document says what
    is missing.

    Parameters
    ----------
    at : levels of settings that vary inside the recipe, each as ``NAME=VALUE``: the newest fit that holds there answers

    Raises
    ------
    Unanswerable
        The fit may not be used: what the runs lack, and which runs would mend it. One named by its id answers.
    NoRecipe, NoFit
        With what to type.
    UnknownLevel
        No run of the recipe has a level that was asked for; with the levels there are.
    """
    if fit_id is None:
        chosen = store.recipe(recipe)
        fit = latest_at(store, chosen, at) if at else latest_answering(store, chosen)
    else:
        fit = store.fit(fit_id)
        chosen = store.recipe(fit.recipe_name)
        if recipe is not None and store.recipe(recipe).key != fit.recipe_key:
            raise NoFit(finding("pipeline.other_recipe", fit_id=fit_id, recipe=fit.recipe_name, asked=recipe))
        require_at(store, fit, at)
    document = _answer_of(store, fit, chosen, target, by_id=fit_id is not None)
    if fit_id is None and not at and fit.kind == LR_BATCH:
        document["warnings"] = as_json([*newer_doubtful(store, chosen, fit), *document["warnings"]])
    if keep:
        with suppress(StoreError):  # a read-only database still answers; only the record of the answer is missing
            store.put_prediction(document["id"], fit.id, document["target"], document)
    return document


def comes_out_the_same(store: Store, prediction: StoredPrediction) -> bool:
    """Whether an answer that was given comes out the same from its fit today, asked for by its id or without."""
    level = next(part["level"] for part in _parts_with_level(prediction.answer))
    asked = {name: value for name, value in prediction.target.items() if name in Target.__dataclass_fields__}
    target = Target(**{**asked, "level": level})
    fit = store.fit(prediction.fit_id)
    chosen = store.recipe(fit.recipe_name)
    for by_id in (True, False):
        with suppress(NoFit):
            if _answer_of(store, fit, chosen, target, by_id=by_id)["id"] == prediction.answer["id"]:
                return True
    return False


def _parts_with_level(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for part in (answer["recommendation"]["lr"], *(answer.get(name) for name in ("expected_loss", "critical_batch"))):
        if part is not None and "level" in part:
            yield part


def _answer_of(store: Store, fit: Fit, recipe: Recipe, target: Target, *, by_id: bool) -> dict[str, Json]:
    laws = laws_beside(store, fit) if fit.kind in ALONE and not by_id else laws_of(store, fit)
    return answer(fit, recipe, target, laws, asked_by_id=by_id)


def plan(
    store: Store,
    recipe: str | None,
    question: PlanQuestion,
    *,
    fit_id: str | None = None,
    at: Sequence[str] = (),
    keep: bool = True,
) -> dict[str, Json]:
    """How to spend a budget, from the newest fit of the recipe or from the one named: size, tokens, settings, time.

    The law of the loss stands on its own feet: where no learning rate may be used, size and tokens are planned all the
    same, and the settings are refused with the reason.

    Parameters
    ----------
    at : levels of settings that vary inside the recipe, as in `recommend`: the newest fit that holds there answers

    Raises
    ------
    NoRecipe, NoFit
        With what to type.
    UnknownLevel
        No run of the recipe has a level that was asked for; with the levels there are.
    NotEnoughData
        The runs carry no law of the loss, or one that leaves the optimum open; with the runs that would help.
    ValueError
        The question contradicts itself.
    """
    from lawfit.advise.planning import plan as advise

    chosen = store.recipe(recipe)
    if fit_id is not None:
        fit = store.fit(fit_id)
        require_at(store, fit, at)
        if fit.kind not in (LR_BATCH, LOSS):
            raise NoFit(finding("pipeline.one_law", fit_id=fit_id, kind=fit.kind))
    else:
        fit = latest_at(store, chosen, at) if at else latest_answering(store, chosen)
    # settings of the very fit that is planned with; one that may not be used answers as it does unasked
    usable = fit.kind == LR_BATCH and fit.status is not FitStatus.UNCERTIFIED
    settings_of = fit.id if usable else fit_id
    return advise(
        question,
        store.recipe(fit.recipe_name),
        laws_beside(store, fit) if fit.kind in ALONE and fit_id is None else laws_of(store, fit),
        fit.payload.get("missing", {}),
        lambda target: recommend(store, recipe, target, fit_id=settings_of, at=at, keep=keep),
    )


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
    from lawfit.estimate.observe.observations import data_hash

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
    from lawfit.estimate.observe.observations import observe

    chosen = store.recipe(recipe)
    runs = store.runs(chosen.key)
    critical, observed, problem = None, None, None
    with suppress(NoFit):
        critical = store.latest_fit(chosen.key, CRITICAL_BATCH).payload
    try:
        observed = observe(runs, decay_kind=chosen.extra.get("weight_decay_kind", ""))
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
    from lawfit.estimate.transfer.token_ratio import token_ratios

    one, two = store.recipe(recipe), store.recipe(other)
    differ = [name for name in ("data", "tokenizer", "loss_kind", "params_convention", "seq_len") if
              getattr(one, name) != getattr(two, name)]  # fmt: skip
    notes = [finding("pipeline.recipes_differ", fields=differ)] if differ else []
    found = token_ratios(store.runs(one.key), store.runs(two.key))
    return dict(as_json({"recipe": one.name, "other": two.name, **found, "notes": notes}))


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

    from lawfit.estimate.schedules import study as schedule_study
    from lawfit.ingest import read_table
    from lawfit.ingest.curves import read_rated_curves

    read = read_rated_curves(read_table(path))
    chosen = {name: rows for name, rows in read.runs.items() if fnmatchcase(name, question.runs)}
    if not chosen:
        if not read.runs:
            nothing = finding("pipeline.no_usable_row", path=str(path), rows=len(read.rejections))
            raise LogFormatError(joined([nothing, *_first_line(read.rejections)]))
        raise LogFormatError(finding("pipeline.no_such_curve", path=str(path), asked=question.runs, **_five(read.runs)))
    curves, left = [], list[str]()
    for name, rows in chosen.items():
        try:
            curves.append(schedule_study.loss_curve(name, *rows, warmup_steps=question.warmup_steps))
        except ValueError as error:
            left.append(str(error))
    if len(curves) < 2:
        more = [finding("pipeline.more_alike", more=len(left) - 2)] if len(left) > 2 else []
        few = finding("pipeline.few_curves", usable=len(curves), curves=len(chosen))
        raise NotEnoughData(joined([few, *left[:2], *more]))
    found = schedule_study.study_schedules(
        curves,
        schedules=question.schedules or schedule_study.USUAL,
        lr=question.lr,
        steps=question.steps,
        progress=progress,
    )
    rejected = [asdict(rejection) for rejection in read.rejections]
    return {"file": str(path), "loss_column": read.loss_column, **found, "left": left, "rejected": rejected}


def refine_schedule(path: str | Path, question: RefineQuestion) -> dict[str, Json]:
    """The schedule that the gradients of a past run ask for, from a log of the trainer or a table. Nothing is stored.

    Raises
    ------
    LogFormatError
        The file cannot be read, lacks a column, or holds no such run, or several and none is named.
    NotEnoughData
        Too few gradient norms to tell a shape by.
    ValueError
        A smoothing or a length that cannot be.
    """
    from lawfit.estimate.schedules.refined import refine
    from lawfit.ingest import read_table
    from lawfit.ingest.gradient_norms import read_gradient_norms

    read = read_gradient_norms(read_table(path), question.column)
    name = _one_run(read.runs, question.run, path, read.rejections)
    steps, norms = read.runs[name]
    found = refine(steps, norms, adaptive=question.adaptive, smoothing=question.smoothing, length=question.steps)
    rejected = [asdict(rejection) for rejection in read.rejections]
    return {"file": str(path), "run": name, "column": read.column, **found, "rejected": rejected}


def _one_run(runs: Iterable[str], pattern: str | None, path: str | Path, rejections: Sequence[Rejection]) -> str:
    from fnmatch import fnmatchcase

    known = list(runs)
    if not known:
        nothing = finding("pipeline.no_gradient_norm", path=str(path))
        raise LogFormatError(joined([nothing, *_first_line(rejections)]))
    chosen = [name for name in known if pattern is None or name == pattern or fnmatchcase(name, pattern)]
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        raise LogFormatError(finding("pipeline.no_such_run", path=str(path), asked=pattern, **_five(known)))
    raise LogFormatError(finding("pipeline.several_runs", path=str(path), runs=len(chosen), **_five(chosen)))


def _five(names: Collection[str]) -> dict[str, Json]:
    """The first names, and how many more there are."""
    return {"names": list(names)[:5], "more": max(0, len(names) - 5)}


def _first_line(rejections: Sequence[Rejection]) -> list[Found]:
    return [finding("pipeline.at_line", line=each.line, reason=each.reason) for each in rejections[:1]]


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
    require_same_data(store, plan)
    arrivals = Arrivals(store, plan)
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
    from lawfit.laws.lenders import lent_by
    from lawfit.laws.published import published_law

    law = published_law(law_id)
    return {**law.to_json(), "lends": as_json(lent_by(law))}
