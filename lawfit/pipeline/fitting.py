"""From the evidence of one recipe to its fits, in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lawfit.errors import FitError, NoFit, NotEnoughData
from lawfit.factors import asked_levels
from lawfit.findings import Found, as_json, finding, finite, joined
from lawfit.records import (
    Fit,
    FitStatus,
    Json,
    Optimum,
    Recipe,
    Run,
    content_hash,
)
from lawfit.settings import data_folder

if TYPE_CHECKING:
    from lawfit.estimate.evidence import Evidence, Squares
    from lawfit.estimate.lr_batch.analysis import Analysis, FitOptions
    from lawfit.estimate.observe.held import Held
    from lawfit.estimate.observe.steady_rate import Curves
    from lawfit.kinds import FittedLaw
    from lawfit.kinds.fitting import AllLaws
    from lawfit.laws.lenders import Lending
    from lawfit.storage import Store

LR_BATCH: Final = "lr_batch"  # kind of fit: the best learning rate and batch size
CRITICAL_BATCH: Final = "critical_batch"
LOSS: Final = "loss"
STEPS_TABLE: Final = "steps_to_target"  # the route to a critical batch that takes no run


@dataclass(frozen=True, kw_only=True)
class FittedRecipe:
    """Every fit of one recipe, in memory; `fit` names the others in its payload."""

    fit: Fit | None  # of learning rate and batch; None: the runs give none, yet there are `laws`
    optima: tuple[Optimum, ...]  # each scale's own
    laws: tuple[Fit, ...]  # of the loss, critical batch, weight decay


def refit(
    store: Store,
    recipe: str | None = None,
    *,
    options: FitOptions | None = None,
    without_laws: Sequence[str] = (),
    at: Sequence[str] = (),
    critical_definition: str = "",
    on_request: Sequence[str] = (),
    progress: Callable[[str, float], None] | None = None,
) -> Fit:
    """Fit every law that a recipe's data support, and store each. The same data, options and code give the same fits.

    Returns the fit of learning rate and batch, which names the others (`laws` and `missing` of its payload); of a
    recipe without a finished run, the first of the laws that it has. `on_request` names kinds of law that
    take seconds and are fitted only when asked for: ``three_term``, the surface L(N, batch, steps).

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
        on_request=on_request,
        sister=critical_batch_of_a_sister(store, chosen),
        progress=progress,
    )
    store.put_refit(fitted.laws, fitted.fit, fitted.optima)
    return store.fit((fitted.fit or fitted.laws[0]).id)


def require_askable(at: Sequence[str], without_laws: Sequence[str], critical_definition: str) -> None:
    """Refuse what no `refit` could be asked, whatever its runs.

    Raises
    ------
    UnknownLaw
        `without_laws` names a law that is not in the catalogue.
    ValueError
        `at` contradicts itself, or `critical_definition` is none.
    """
    from lawfit.laws.critical_batch import Definition
    from lawfit.laws.published import published_law

    asked_levels(at)
    if critical_definition:
        Definition.parse(critical_definition)
    for law in without_laws:
        published_law(law)


def evidence_of(store: Store, recipe: Recipe) -> Evidence:
    """All that the store holds of one recipe."""
    from lawfit.estimate.evidence import CURVE_METRICS, Evidence
    from lawfit.estimate.observe.steady_rate import is_rate
    from lawfit.laws.rate_falls import Falls, falls

    counts = store.curve_counts(recipe.key) if falls(recipe.schedule) is not Falls.THROUGHOUT else {}  # not read off
    rate = max(filter(is_rate, counts), key=lambda name: counts[name], default="")
    most = max(counts.values(), default=0)
    metric = next((name for name in CURVE_METRICS if 2 * counts.get(name, 0) > most), "")
    runs = store.runs(recipe.key)
    return Evidence(
        runs=runs,
        targets=store.targets(recipe.key),
        losses=store.losses(recipe.key),
        curves=_numbers(store, recipe, metric) if metric else {},
        squares=_squares(store, recipe, runs) if metric else {},
        rates=_numbers(store, recipe, rate) if metric and rate else {},
        metric=metric,
        schedule=recipe.schedule,
        stated=recipe.extra,
        weight_decay_kind=recipe.extra.get("weight_decay_kind", ""),
    )


def _numbers(store: Store, recipe: Recipe, metric: str) -> Curves:
    """run_key -> (steps, numbers) of one metric."""
    curves = store.curves(recipe.key, metric)
    return {key: (steps.astype(float), numbers) for key, (steps, numbers) in curves.items()}


def _squares(store: Store, recipe: Recipe, runs: Sequence[Run]) -> Squares:
    """Squared gradient norms at one batch and at two along each run, where no table of the runs has a noise scale."""
    from lawfit.estimate.critical.noise_by_size import COLUMN, SQUARES

    if any(run.extra.get(COLUMN) for run in runs):
        return {}
    small, large = (store.curves(recipe.key, metric) for metric in SQUARES)
    return {
        key: (small[key][0].astype(float), small[key][1], large[key][1])
        for key in small.keys() & large.keys()
        if small[key][0].tolist() == large[key][0].tolist()
    }


def critical_batch_of_a_sister(store: Store, recipe: Recipe) -> Fit | None:
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


def fit_evidence(
    recipe: Recipe,
    evidence: Evidence,
    *,
    options: FitOptions | None = None,
    on_request: Sequence[str] = (),
    sister: Fit | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> FittedRecipe:
    """Fit every law that the evidence of one recipe supports, in memory.

    Parameters
    ----------
    on_request : kinds of law that take seconds, such as ``three_term``
    sister : a critical batch of another recipe, that stands in where this one has none

    Raises
    ------
    NotEnoughData
        No run finished, and nothing else could be fitted either; `UnknownLevel` where none has a level asked for.
    FitError
        No law could be fitted to the runs, neither of the learning rate nor any other.
    """
    from lawfit.estimate.evidence import evidence_hash
    from lawfit.estimate.lr_batch.analysis import FitOptions
    from lawfit.kinds.fitting import fit_all_laws
    from lawfit.laws.critical_batch import ZHANG, Definition
    from lawfit.laws.lenders import lending_to

    options, report = options or FitOptions(), progress or (lambda _step, _share: None)
    report("further laws", 0.0)
    lending = lending_to(recipe, options.without_laws)
    also = Definition.parse(options.critical_definition)
    found = fit_all_laws(evidence, at=options.at, also=also, on_request=on_request, without_laws=lending.without)
    data = evidence_hash(evidence)
    stated = _stated(options, zhang=also == ZHANG)
    laws = tuple(_stored(law, recipe, evidence, data, stated, lending) for law in found.fitted)
    try:
        fit, optima = fit_runs(
            recipe,
            evidence.runs,
            options=options,
            held=found.held,
            progress=lambda step, share: report(step, 0.2 + 0.8 * share),
        )
    except FitError as error:
        if not laws and evidence.targets and not evidence.runs:
            why = found.details.get(STEPS_TABLE) or found.missing[CRITICAL_BATCH]
            raise NotEnoughData(finding("pipeline.only_targets", why=why)) from None
        if not laws:
            raise
        return _laws_alone(laws, found.missing, error.finding if evidence.runs else None)
    fit = _with_laws(fit, data, found, laws, sister)
    return FittedRecipe(fit=fit, optima=optima, laws=laws)


def _stated(options: FitOptions, *, zhang: bool) -> dict[str, Json]:
    """What was asked of a further law, as far as it was: part of its identity."""
    stated: dict[str, Json] = {"without_laws": list(options.without_laws)}
    stated |= {"at": list(options.at)} if options.at else {}
    return stated | ({} if zhang else {"critical_definition": options.critical_definition})


def _laws_alone(laws: Sequence[Fit], missing: Mapping[str, Found], why: Found | None) -> FittedRecipe:
    """Runs that carry no law of the learning rate may carry others; without runs there is nothing to explain."""
    said: dict[str, Json] = {} if why is None else {"no_settings": why}
    said["missing"] = dict(missing)
    return FittedRecipe(
        fit=None, optima=(), laws=tuple(replace(law, payload=finite({**law.payload, **said})) for law in laws)
    )


def _stored(
    law: FittedLaw, recipe: Recipe, evidence: Evidence, data: str, stated: Mapping[str, Json], lending: Lending
) -> Fit:
    """A further law as a fit of its own."""
    code = code_version()
    return Fit(
        id=content_hash({"recipe": recipe.key, "data": data, "code": code, "kind": law.kind, "options": stated}),
        recipe_key=recipe.key,
        recipe_name=recipe.name,
        kind=law.kind,
        status=law.status,
        data_hash=data,
        code_version=code,
        created_at=_now(),
        options=stated,
        exclusions={run.run_key: run.excluded for run in evidence.runs if run.excluded is not None},
        payload=_with_assumptions(law, lending),
    )


def _named(law: Fit) -> dict[str, Json]:
    """What the fit of learning rate and batch says of a further law."""
    said = {name: law.payload.get(name) for name in ("words", "lent_by")}
    return {"fit_id": law.id, "status": law.status.value, **said, "lines": law.payload.get("lines", [])}


def _with_laws(fit: Fit, data: str, found: AllLaws, laws: Sequence[Fit], sister: Fit | None) -> Fit:
    """The fit of learning rate and batch, with what it says of the further laws; they are part of its identity."""
    named = finite(
        {
            "evidence_hash": data,
            "laws": {law.kind: _named(law) for law in laws} | _of_sister(sister, found.missing),
            "missing": {kind: words for kind, words in found.missing.items() if sister is None or kind != sister.kind},
            "missing_details": dict(found.details),
            "other_laws": dict(found.other),
        }
    )
    return replace(fit, id=content_hash({"fit": fit.id, **named}), payload={**fit.payload, **named})


def _of_sister(sister: Fit | None, missing: Mapping[str, Found]) -> dict[str, dict[str, Json]]:
    """What it says of a law that stands in for one that is missing."""
    if sister is None or sister.kind not in missing:
        return {}
    words = joined([sister.payload["words"], finding("advice.of_sister", recipe=sister.recipe_name)])
    return {sister.kind: {**_named(sister), "words": words}}


def _with_assumptions(law: FittedLaw, lending: Lending) -> Mapping[str, Json]:
    """The payload of a further law, with what was taken for granted about the recipe for laws to lend to it."""
    said = lending.assumed.get(law.kind, ()) if law.payload["lent_by"] else ()
    return {**law.payload, "sentences": as_json([*law.payload["sentences"], *said])}


def fit_runs(
    recipe: Recipe,
    runs: Sequence[Run],
    *,
    options: FitOptions | None = None,
    held: Held | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> tuple[Fit, tuple[Optimum, ...]]:
    """Fit learning rate and batch to the runs of one recipe, in memory: the fit, and each scale's own optimum.

    What the runs lack is kept beside the fit, which is not certified where they carry no answer. Published laws lend to
    it as far as they are of its kind (`laws.lenders`); ``lending`` of the payload says which do.

    Parameters
    ----------
    held : the level of settings that vary, where it was chosen already

    Raises
    ------
    NotEnoughData
        No run finished.
    FitError
        No law could be fitted to them; with what they lack.
    """
    from lawfit.advise.agreement import contradiction
    from lawfit.estimate.lr_batch.analysis import FitOptions, analyse
    from lawfit.estimate.lr_batch.lacking import Bearing, diagnose
    from lawfit.estimate.observe.observations import data_hash, observe
    from lawfit.laws.lenders import lending_to

    options = options or FitOptions()
    observed = observe(runs, at=options.at, decay_kind=recipe.extra.get("weight_decay_kind", ""), held=held)
    data, code = data_hash(runs), code_version()
    lacking = diagnose(observed)
    lending = lending_to(recipe, options.without_laws)
    narrowed = replace(options, without_laws=lending.without)
    try:
        analysis = analyse(observed, narrowed, seq_len=recipe.seq_len, progress=progress)
    except FitError as error:
        why = [lack.finding for lack in lacking if lack.bearing is not Bearing.NOTED]
        raise type(error)(joined([*why, error.finding])) from None
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
        exclusions=as_json(dict(observed.rejected)),
        payload=as_json(_with_lending(analysis, lending)),
    )
    if (against := contradiction(fit, recipe, observed)) is not None:
        lacking = (against, *lacking)
    status = FitStatus.UNCERTIFIED if any(lack.bearing is Bearing.REFUSES for lack in lacking) else fit.status
    payload = {**fit.payload, "lacking": [lack.to_json() for lack in lacking]}
    return replace(fit, status=status, payload=payload), analysis.optima


def _with_lending(analysis: Analysis, lending: Lending) -> dict[str, Any]:
    """What was found, with who lent to it and what was taken for granted for that."""
    assumed = lending.assumed.get("lr_joint", ()) if analysis.status is FitStatus.SPARSE else ()
    return {
        **analysis.payload,
        "lending": lending.to_json(),
        "not_lent": lending.not_lent(),
        "warnings": [*analysis.payload["warnings"], *assumed],
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def code_version() -> str:
    """Version of lawfit and a hash of the code that estimates: another analysis is another fit."""
    from lawfit import __version__

    here = Path(__file__).parent.parent
    content = b"".join(
        path.read_bytes() for room in ("estimate", "kinds", "laws") for path in sorted((here / room).rglob("*.py"))
    )
    return f"{__version__}+{hashlib.sha256(content + (data_folder() / 'laws.toml').read_bytes()).hexdigest()[:8]}"
