"""Every law of one recipe beside that of learning rate and batch: what its data support, what others miss.

Each law comes with its status and, where a search found it, its certificate. Payloads are JSON values: null stands
where there is no finite number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.critical.analysis import restated
from lawfit.estimate.loss.law import doubt, loss_law
from lawfit.estimate.loss.third import is_third
from lawfit.estimate.numerics.certificate import search_is_sound
from lawfit.estimate.observe.held import Held, hold_settings
from lawfit.estimate.observe.observations import data_hash, observe, usable
from lawfit.estimate.observe.steady_rate import Curves
from lawfit.estimate.other_laws import fit_other_laws
from lawfit.estimate.recipe_laws import CURVES, RecipeLaws, fit_decay, fit_recipe_laws
from lawfit.estimate.recipe_laws import THREE_TERM as THREE_TERM_ROUTE
from lawfit.estimate.recipe_laws import TIMESCALE as TIMESCALE_ROUTE
from lawfit.estimate.weight_decay.sweep import COUPLED, in_one_convention
from lawfit.estimate.weight_decay.timescale import TimescaleFit, brackets
from lawfit.factors import asked_levels
from lawfit.findings import Found, as_json, finding, joined
from lawfit.laws.critical_batch import ZHANG, Definition
from lawfit.laws.lent import log_asymptote
from lawfit.records import FitStatus, Run, SizedLoss, StepsToTarget, content_hash

Floats = NDArray[np.float64]
Squares = Mapping[str, tuple[Floats, Floats, Floats]]  # run_key -> steps, squared gradient norms at one batch, at two

# Kinds of fit, as the store knows them.
LOSS: Final = "loss"
CRITICAL_BATCH: Final = "critical_batch"
TIMESCALE: Final = "timescale"
THREE_TERM: Final = "three_term"
KINDS: Final = (LOSS, CRITICAL_BATCH, TIMESCALE, THREE_TERM)

# Curves that steps to a loss are read from, best first: averaged weights stand for a finished decay (arXiv 2405.18392).
CURVE_METRICS: Final = ("average_loss", "validation_loss", "eval_loss", "loss", "train_loss")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that a store holds of one recipe."""

    runs: Sequence[Run]
    targets: Sequence[StepsToTarget] = ()
    losses: Sequence[SizedLoss] = ()  # of runs whose learning rate and batch nobody says
    curves: Curves = field(default_factory=dict)  # run_key -> (steps, losses)
    squares: Squares = field(default_factory=dict)
    rates: Curves = field(default_factory=dict)  # run_key -> (steps, learning rates)
    metric: str = ""  # which of `CURVE_METRICS` the curves are
    schedule: str = ""  # of the learning rate, as the recipe says it
    stated: Mapping[str, str] = field(default_factory=dict)  # further columns that the recipe holds fixed
    weight_decay_kind: str = ""  # of runs that do not say it themselves; empty is coupled


@dataclass(frozen=True, kw_only=True)
class FittedLaw:
    """One law as it is stored. Its payload has ``words`` (what it says), ``reasons`` against its use, ``sentences``."""

    kind: str
    status: FitStatus
    payload: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class AllLaws:
    """What could be fitted, and what is missing for each law that could not (or is not certified)."""

    fitted: tuple[FittedLaw, ...]
    missing: Mapping[str, Found]  # kind -> why
    details: Mapping[str, Found]  # kind or route -> all that was found to be in the way
    held: Held  # the runs that all laws but that of weight decay rest on
    other: Mapping[str, Any]  # forms of the field that answer nothing here, on these runs: `other_laws`


def evidence_hash(evidence: Evidence) -> str:
    """Hash of everything that the laws see, whatever the order of the rows."""
    curves = hashlib.sha256()
    for key in sorted(evidence.curves):
        steps, numbers = evidence.curves[key]
        curves.update(key.encode() + steps.tobytes() + numbers.tobytes())
    for key in sorted(evidence.squares):
        curves.update(key.encode() + b"".join(column.tobytes() for column in evidence.squares[key]))
    for key in sorted(evidence.rates):
        curves.update(key.encode() + b"".join(column.tobytes() for column in evidence.rates[key]))
    targets = sorted(
        (row.run_key, row.params, row.batch_tokens, row.steps, row.target_loss) for row in evidence.targets
    )
    losses = sorted(
        (row.run_key, row.params, row.tokens, row.loss, repr(sorted(row.extra.items()))) for row in evidence.losses
    )
    settings = sorted((run.run_key, repr(sorted(run.extra.items()))) for run in evidence.runs)  # one-factor sweeps
    held = [evidence.metric, evidence.schedule, evidence.weight_decay_kind, sorted(evidence.stated.items())]
    parts = [data_hash(evidence.runs), settings, targets, held, curves.hexdigest()]
    return content_hash([*parts, losses] if losses else parts)


def fit_all_laws(
    evidence: Evidence,
    *,
    at: Sequence[str] = (),
    also: Definition = ZHANG,
    three_term: bool = False,
    without_laws: Sequence[str] = (),
) -> AllLaws:
    """Fit every law that the evidence supports; the three-term surface, which takes seconds, only when asked.

    All but that of weight decay hold at one level of each setting that varies: `at`, or what `held` chooses.
    `without_laws` are published laws that must lend nothing to any of them (`laws.lenders`). A critical batch is also
    stated by the definition `also`.

    Raises
    ------
    UnknownLevel
        No run has a level that was asked for.
    """
    rng = np.random.default_rng(0)  # the same evidence gives the same fits
    fitted: list[FittedLaw] = []
    missing: dict[str, Found] = {}
    details: dict[str, Found] = {}
    runs, notes = in_one_convention(evidence.runs, evidence.weight_decay_kind or COUPLED)
    decay = fit_decay(runs, at, without_laws)
    held = hold_settings(usable(evidence.runs)[0], at, decay_kind=evidence.weight_decay_kind, decay_law=decay.fit)
    level = held.runs
    try:
        seen = _at_any_third(evidence, held, at, decay.fit)
        loss = loss_law(seen, rng, without_laws, losses=evidence.losses, held=level)
        fitted.append(FittedLaw(kind=LOSS, status=loss.status, payload=finite(loss.payload)))
        missing |= {LOSS: loss.missing} if loss.missing else {}
    except FitError as error:
        missing[LOSS] = error.finding
    found = fit_recipe_laws(
        runs,
        evidence.targets,
        evidence.curves,
        evidence.squares,
        rates=evidence.rates,
        schedule=evidence.schedule,
        stated=evidence.stated,
        decay=decay,
        level={run.run_key for run in level},
        also=also,
        rng=rng,
        surface=three_term,
        without_laws=without_laws,
    )
    details |= found.missing
    for kind, (made, lacking) in {
        CRITICAL_BATCH: _critical_law(found, evidence.metric),
        TIMESCALE: _timescale_law(found, notes, without_laws),
        **({THREE_TERM: _three_term_law(found)} if three_term else {}),
    }.items():
        fitted += [] if made is None else [made]
        missing |= {kind: lacking} if lacking else {}
    try:
        other = fit_other_laws(observe(level), level)
    except NotEnoughData:
        other = {}  # no finished run
    return AllLaws(fitted=tuple(fitted), missing=missing, details=details, held=held, other=finite(other))


def _at_any_third(evidence: Evidence, held: Held, at: Sequence[str], decay_law: TimescaleFit | None) -> Sequence[Run]:
    """The runs at the level that is held, at any number of epochs and of experts: a law of the loss has forms for them.

    Columns that go with such a number vary with it. Where such a level was asked for, the runs at that one.
    """
    asked = [name for name, _ in asked_levels(at)]
    third = [each for each in held.settings if any(map(is_third, (each.name, *each.also)))]
    if any(map(is_third, asked)) or not third:
        return held.runs
    others = [f"{each.name}={each.level}" for each in held.settings if each.level and each not in third]
    runs, _ = usable(evidence.runs)
    free = {column for run in runs for column in run.extra if is_third(column)}
    free.update(name for each in third for name in (each.name, *each.also))
    return hold_settings(runs, others, free=free, decay_kind=evidence.weight_decay_kind, decay_law=decay_law).runs


def _critical_law(found: RecipeLaws, metric: str) -> tuple[FittedLaw | None, Found]:
    route = found.answering
    if route is None:
        return None, joined([finding("laws.critical_takes"), *found.unread])
    analysis, noise, least = found.critical[route], found.noise_factor, found.least_tokens
    payload = {
        "route": route,
        "metric": metric if route == CURVES else "",
        "routes": {name: other.to_json() for name, other in found.critical.items()},
        "noise_scale": None if noise is None else noise.to_json(),
        "words": analysis.headline(route),
        "least_tokens": None if least is None else least.to_json(),
        "restated": None if route not in found.restated else found.restated[route].to_json(),
        "unstated": found.unstated.get(route, ""),
        "lines": [
            *analysis.lines(),
            *([] if least is None else least.lines()),
            *([] if noise is None else [finding("critical.noise_line", found=noise.words())]),
            analysis.certificate_line(),
            restated(found.also, found.restated.get(route), found.unstated.get(route, "")),
        ],
        "reasons": list(analysis.reasons),
        "sentences": list(analysis.sentences),
        "lent_by": None if analysis.lent_by is None else list(analysis.lent_by),
    }
    made = FittedLaw(kind=CRITICAL_BATCH, status=analysis.status, payload=finite(payload))
    return made, finding("laws.not_certified", why=analysis.reasons[0]) if analysis.reasons else ""


def _timescale_law(
    found: RecipeLaws, notes: Sequence[Found], without_laws: Sequence[str]
) -> tuple[FittedLaw | None, Found]:
    fit = found.timescale
    if fit is None:
        return None, found.missing[TIMESCALE_ROUTE]
    if fit.law is None:
        said = brackets(fit.optima, without_laws)
        return None, joined([finding("laws.timescale_takes", scales=len(fit.scales)), *([said] if said else [])])
    payload = {
        **fit.to_json(),
        "words": fit.headline(),
        "lines": fit.lines(),
        "reasons": [] if fit.certificate is None else list(fit.certificate.reasons),
        "sentences": [*notes, *fit.sentences],
    }
    law = FittedLaw(kind=TIMESCALE, status=fit.status, payload=finite(payload))
    return law, finding("laws.not_certified", why=fit.sentences[-1]) if fit.status is FitStatus.UNCERTIFIED else ""


def _three_term_law(found: RecipeLaws) -> tuple[FittedLaw | None, Found]:
    fit = found.three_term
    if fit is None:
        return None, found.missing[THREE_TERM_ROUTE]
    law, report = fit.law, fit.certificate
    best = fit.optimal_batch(fit.ranges["tokens"][1])
    reasons: list[Found] = []
    if report.certified and not fit.floor_lent:
        status = FitStatus.OK
    elif search_is_sound(report.search):
        status = FitStatus.SPARSE  # single parameters are open, the best batch is not
    else:
        status, reasons = FitStatus.UNCERTIFIED, list(report.reasons)
    payload = {
        "fit": fit.to_json(),
        "words": finding(
            "laws.three_term",
            batch_tokens=best.value_tokens,
            low_tokens=best.low_tokens,
            high_tokens=best.high_tokens,
            tokens=fit.ranges["tokens"][1],
            exponent=law.steps_exponent / (law.batch_exponent + law.steps_exponent),
        ),
        "lines": [finding("laws.three_term_certificate", reasons=report.reasons)]
        if report.reasons and not reasons
        else [],
        "reasons": reasons,
        "sentences": list(report.warnings),
        "lent_by": list(lent.laws) if fit.floor_lent and (lent := log_asymptote(found.without_laws)) else None,
    }
    made = FittedLaw(kind=THREE_TERM, status=status, payload=finite(payload))
    return made, finding("laws.not_certified", why=doubt(report)) if reasons else ""


def finite(value: Any) -> Any:
    """The value as JSON has it, findings too, with null in place of what is not finite."""
    value = as_json(value)
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value
