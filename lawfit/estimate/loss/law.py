"""The loss law of one recipe: through the best run of each scale, which forms it averages, and on what it rests.

Forms with an asymptote get one lent by published laws where the runs alone do not carry the additive law; how much that
matters at a target is said beside the number (`asymptote_cases`). Where no law may lend one, the runs stand alone, and
a law that they do not carry is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.loss.ensemble import LossEnsemble, fit_ensemble
from lawfit.estimate.loss.fit import AsymptotePrior, LossFit, fit_loss, quick_fit
from lawfit.estimate.loss.forms import FORMS, SAME_INPUT
from lawfit.estimate.loss.forms_further import EVERY_FORM
from lawfit.estimate.loss.result import FormDraws
from lawfit.estimate.loss.third import Measured, fit_further_forms, ordinary_runs, usual_inputs
from lawfit.estimate.numerics.certificate import Certificate, search_is_sound
from lawfit.estimate.numerics.newton import Floats
from lawfit.estimate.numerics.snapping import PARAMS_TOLERANCE, indexed, snap
from lawfit.estimate.observe.observations import observe
from lawfit.findings import Finding, Found, code_of, finding
from lawfit.laws.lent import log_asymptote
from lawfit.laws.loss import AdditiveLaw
from lawfit.laws.loss_units import LENT_IN
from lawfit.records import FitStatus, Run, SizedLoss

LOSS_SCALES: Final = 6  # one more than the parameters of the additive law
LOSS_RESAMPLES: Final = 300
HELD_ASIDE: Final = 0.1  # share by which the asymptote is moved when it is held


@dataclass(frozen=True, kw_only=True)
class LossLaw:
    """What a recipe's runs say about the loss, as it is stored; and what is open where it is not certified."""

    status: FitStatus
    payload: Mapping[str, Any]
    missing: Found  # empty where it is certified


def lent_asymptote(without_laws: Sequence[str] = ()) -> AsymptotePrior | None:
    """What published laws say about the asymptote of another recipe; None where none may lend one."""
    lent = log_asymptote(without_laws)
    return None if lent is None else AsymptotePrior(mean=float(np.exp(lent.mean)), log_sd=lent.sd)


def loss_law(
    runs: Sequence[Run],
    rng: np.random.Generator,
    without_laws: Sequence[str] = (),
    *,
    losses: Sequence[SizedLoss] = (),
    held: Sequence[Run] = (),
) -> LossLaw:
    """L(N, D) through the lowest loss of each scale.

    `without_laws` are published laws that must not lend their asymptote (`laws.lenders`); `losses` come from tables
    that say no learning rate and no batch; `held` are the runs that other laws are fitted to, where these are more
    (`loss_third.ordinary_runs`).

    Raises
    ------
    NotEnoughData
        Fewer than `LOSS_SCALES` scales; or an asymptote has to be lent, and the losses are in another unit.
    FitError
        The losses do not fall with the inputs.
    """
    points, sentences = _best_of_scales(runs, losses, held)
    if len(points[0]) < LOSS_SCALES:
        raise NotEnoughData(finding("loss.few_scales", scales=len(points[0]), needed=LOSS_SCALES))
    form, same = _form_of(points)
    sentences += [same] if same else []
    asymptote = lent_asymptote(without_laws)
    carried = _alone_or_lent_to(points, form, rng, without_laws)
    sentences += carried.sentences
    fit, found, status = carried.fit, carried.fit.certificate, carried.status
    ensemble, alone = (None, finding("loss.needs_both")) if same else _forms(points, fit, rng, asymptote)
    further, lacking = fit_further_forms(
        [*runs, *losses], rng, held=held, asymptote=asymptote, without_laws=without_laws
    )
    payload = {
        "fit": fit.to_json(),
        "forms": None if ensemble is None else ensemble.to_json(),
        "forms_missing": alone,
        "asymptote": [] if same else asymptotes(fit, carried.free, carried.lent),
        "same_input": same_input(points),
        "further_forms": further,
        "usual": usual_inputs([*runs, *losses], held),
        "not_fitted": lacking,
        "points": _rows(points),
        "words": finding("loss.law", law=_formula(fit, ensemble), scales=len(points[0])),
        "lines": [
            _forms_tried(ensemble, alone),
            *(form["words"] for form in further.values()),
            *([finding("loss.not_fitted", forms=[*lacking.values()])] if lacking else []),
        ],
        "reasons": list(found.reasons),
        "sentences": [*sentences, *found.warnings],
        "lent_by": carried.lent_by,
    }
    if status is not FitStatus.UNCERTIFIED:
        return LossLaw(status=status, payload=payload, missing="")
    why = doubt(found)
    missing = finding("loss.not_lent_to", why=why) if asymptote is None else finding("laws.not_certified", why=why)
    return LossLaw(status=status, payload=payload, missing=missing)


def _rows(points: Sequence[Floats]) -> list[dict[str, float]]:
    columns = (column.tolist() for column in points)
    return [{"params": n, "tokens": d, "loss": y} for n, d, y in zip(*columns, strict=True)]


@dataclass(frozen=True, kw_only=True)
class _Carried:
    """The law as the runs carry it, alone or with an asymptote that is lent."""

    status: FitStatus
    fit: LossFit
    free: LossFit  # of the runs alone
    lent: FormDraws | None  # with a lent asymptote, whether or not it is needed
    lent_by: list[str] | None = None
    sentences: tuple[Found, ...] = ()


def _alone_or_lent_to(
    points: Sequence[Floats], form: str, rng: np.random.Generator, without_laws: Sequence[str]
) -> _Carried:
    """The law of the runs alone where they carry it; otherwise the one whose asymptote is lent by published laws."""
    lender, asymptote = log_asymptote(without_laws), lent_asymptote(without_laws)
    free = fit_loss(*points, form=form, rng=rng, resamples=0)
    if free.certificate.certified or asymptote is None:
        free = fit_loss(*points, form=form, rng=rng, resamples=LOSS_RESAMPLES)  # the resamples are examined too
    if free.certificate.certified:
        lent = None if asymptote is None or form != "additive" else _lent(points, asymptote)
        return _Carried(status=FitStatus.OK, fit=free, free=free, lent=lent)
    if lender is None or asymptote is None:
        alone = (finding("loss.nobody_lends"),)
        return _Carried(status=FitStatus.UNCERTIFIED, fit=free, free=free, lent=None, sentences=alone)
    if points[2].max() <= asymptote.mean:
        why = doubt(free.certificate)
        raise NotEnoughData(finding("loss.below_asymptote", why=why, asymptote=asymptote.mean))
    lent_by = list(lender.laws)
    about = {"asymptote": asymptote.mean, "unit": LENT_IN, "factor": np.exp(asymptote.log_sd), "laws": lent_by}
    sentences = [finding("loss.asymptote_lent", why=doubt(free.certificate), **about)]
    fit = fit_loss(*points, form=form, rng=rng, resamples=LOSS_RESAMPLES, asymptote=asymptote)
    sound = search_is_sound(fit.certificate.search) and not fit.certificate.at_bound
    status = FitStatus.SPARSE if sound else FitStatus.UNCERTIFIED
    if sound and fit.certificate.weak:
        sentences.append(finding("loss.one_by_one", parameters=fit.certificate.weak))
    return _Carried(status=status, fit=fit, free=free, lent=fit, lent_by=lent_by, sentences=tuple(sentences))


def same_input(points: Sequence[Floats]) -> dict[str, float] | None:
    """The input that no run varies, with its value; None where runs vary both."""
    for name, column in zip(("params", "tokens"), points, strict=False):
        if np.ptp(np.log(column)) <= SAME_INPUT:
            return {name: float(np.exp(np.log(column).mean()))}
    return None


def _form_of(points: Sequence[Floats]) -> tuple[str, Finding | None]:
    """The form that is fitted first, and why where it is less than the additive law."""
    same = same_input(points)
    if same is None:
        return "additive", None
    ((name, value),) = same.items()
    other = "params" if name == "tokens" else "tokens"
    return f"{other}_alone", finding("loss.one_amount", input=name, value=value, other=other)


def _best_of_scales(
    runs: Sequence[Run], losses: Sequence[SizedLoss], held: Sequence[Run] = ()
) -> tuple[tuple[Floats, Floats, Floats], list[Found]]:
    """Params, tokens and lowest loss of each scale, and a note on each kind of run that is left out."""
    every: list[Measured] = [*runs, *losses]
    ordinary, notes = ordinary_runs(every, held)
    if every and not ordinary:
        raise NotEnoughData(finding("loss.none_ordinary", left_out=notes))
    swept = [run for run in ordinary if isinstance(run, Run)]
    stated = [row for row in ordinary if isinstance(row, SizedLoss)]
    columns = np.empty((3, 0))
    if swept or not stated:
        observed = observe(swept)
        columns = np.stack([observed.params, observed.tokens, np.exp(observed.lowest_log_loss())])
    more = np.array([(row.params, row.tokens, row.loss) for row in stated], dtype=float).reshape(-1, 3).T
    columns = np.hstack([columns, more])
    scale = indexed(*(snap(np.log(column), PARAMS_TOLERANCE) for column in columns[:2]))
    order = np.lexsort([columns[2], scale])
    first = order[np.flatnonzero(np.diff(scale[order], prepend=-1))] if stated else np.arange(columns.shape[1])
    return (columns[0, first], columns[1, first], columns[2, first]), list(notes)


def _lent(points: Sequence[Floats], asymptote: AsymptotePrior) -> FormDraws | None:
    """None where every loss lies below the published asymptotes: bits per byte, or another unit."""
    try:
        return quick_fit(points, clusters=np.arange(len(points[0])), form="additive", asymptote=asymptote)
    except ValueError:
        return None


def _forms(
    points: Sequence[Floats], fit: LossFit, rng: np.random.Generator, asymptote: AsymptotePrior | None
) -> tuple[LossEnsemble | None, Found]:
    """The forms that a backtest keeps, or why there is none."""
    try:
        ensemble = fit_ensemble(
            *points,
            rng=rng,
            asymptote=asymptote if fit.asymptote == "prior" else None,
            made=(fit,),
            resamples=LOSS_RESAMPLES,
            level=fit.level,
        )
    except FitError as error:
        return None, error.finding
    return ensemble, ""


def _formula(fit: LossFit, ensemble: LossEnsemble | None = None) -> Finding:
    """The additive law with its numbers; without them where the runs leave some open or a backtest rejects it."""
    if ensemble is not None and "additive" not in {each.form for each in ensemble.fits}:
        return finding("loss.not_by_additive")
    values = {name: interval.value for name, interval in fit.parameters.items()}
    if fit.form != "additive":
        numbers = [finding("loss.number", name=name, value=value) for name, value in values.items()]
        return finding("loss.form_with", formula=EVERY_FORM[fit.form].formula, numbers=numbers)
    if weak := fit.certificate.weak:  # a formula would say more than is known
        return finding("loss.open_numbers", parameters=weak)
    return finding("loss.additive", **values)


def _forms_tried(ensemble: LossEnsemble | None, alone: Found) -> Finding:
    """Which forms of the law were kept and which not, or why there is one alone."""
    if ensemble is None:
        both = code_of(alone) != "loss.needs_both"
        return finding("loss.additive_form", why=alone) if both else finding("loss.one_form", why=alone)
    kept = [b for b in ensemble.by_form() if not b.rejected]
    out = [b for b in ensemble.by_form() if b.rejected]
    return finding(
        "loss.forms",
        kept=[{"form": b.form, "weight": b.weight} for b in kept],
        error=kept[0].error,
        rejected=[{"form": b.form, "error": b.error if np.isfinite(b.error) else None} for b in out],
    )


def asymptotes(fit: LossFit, free: FormDraws | None, lent: FormDraws | None) -> list[dict[str, Any]]:
    """The additive law with its asymptote free, lent, and held lower and higher: its parameters in each case."""
    found: list[dict[str, Any]] = []
    for name, used, each in (("free", "free", free), ("lent", "prior", lent)):
        if each is not None:
            natural = FORMS["additive"].natural(each.theta[None, :], np.array(each.centre))
            values = {parameter: float(value[0]) for parameter, value in natural.items()}
            found.append({"case": name, "used": used == fit.asymptote, "parameters": values})
    for name, factor in (("lower", 1 - HELD_ASIDE), ("higher", 1 + HELD_ASIDE)):
        wanted = factor * fit.parameters["E"].value
        near = [case for case in fit.sensitivity if abs(case.asymptote / wanted - 1) < 1e-3]
        if near:
            found.append({"case": name, "used": False, "parameters": dict(near[0].parameters), "doubt": near[0].doubt})
    return found


def asymptote_cases(stored: Sequence[Mapping[str, Any]], params: float, tokens: float) -> list[dict[str, Any]]:
    """Expected loss at one scale for each of `asymptotes`."""
    found = []
    for case in stored:
        values = {name: case["parameters"][name] for name in ("E", "A", "alpha", "B", "beta")}
        if any(value is None for value in values.values()):
            continue
        loss = float(AdditiveLaw(**values).loss(params, tokens))
        if np.isfinite(loss):
            found.append({"case": case["case"], "used": case["used"], "asymptote": values["E"], "value": loss})
    return found


def doubt(report: Certificate) -> Found:
    """Why a fit is not certified, and the run that would help most."""
    if not report.weak:
        return report.reasons[0]
    return finding(
        "loss.open", parameters=report.weak, run=report.needed_runs[0].inputs if report.needed_runs else None
    )
