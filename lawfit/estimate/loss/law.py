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
from lawfit.laws.lent import log_asymptote
from lawfit.laws.loss import AdditiveLaw
from lawfit.laws.loss_units import LENT_IN
from lawfit.records import FitStatus, Run, SizedLoss
from lawfit.units import counted, format_percent, format_quantity

LOSS_SCALES: Final = 6  # one more than the parameters of the additive law
LOSS_RESAMPLES: Final = 300
_NEED_BOTH: Final = "they need runs that vary both parameters and tokens"
HELD_ASIDE: Final = 0.1  # share by which the asymptote is moved when it is held


@dataclass(frozen=True, kw_only=True)
class LossLaw:
    """What a recipe's runs say about the loss, as it is stored; and what is open where it is not certified."""

    status: FitStatus
    payload: Mapping[str, Any]
    missing: str


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
        raise NotEnoughData(
            f"a law of the loss takes {LOSS_SCALES} scales (pairs of parameters and tokens) or more, better 20; these "
            f"runs have {len(points[0])}"
        )
    status = FitStatus.OK
    form, same = _form_of(points)
    sentences += [same] if same else []
    lent: FormDraws | None = None
    lender, asymptote = log_asymptote(without_laws), lent_asymptote(without_laws)
    lent_by: list[str] | None = None
    free = fit_loss(*points, form=form, rng=rng, resamples=0)
    if free.certificate.certified or asymptote is None:
        free = fit_loss(*points, form=form, rng=rng, resamples=LOSS_RESAMPLES)  # the resamples are examined too
    fit = free
    if free.certificate.certified:
        lent = None if asymptote is None or same else _lent(points, asymptote)
    elif lender is None or asymptote is None:
        status = FitStatus.UNCERTIFIED
        sentences.append("no published law lends an asymptote to it, and the runs alone do not carry it")
    elif points[2].max() <= asymptote.mean:
        raise NotEnoughData(
            f"the runs alone do not carry a law of the loss ({doubt(free.certificate)}), and published laws lend "
            f"nothing: their asymptote is about {asymptote.mean:.2g} nats per token, and every loss here is below it"
        )
    else:
        lent_by = list(lender.laws)
        sentences.append(
            f"the runs alone do not carry it ({doubt(free.certificate)}); its asymptote is lent by published laws "
            f"(about {asymptote.mean:.2g} {LENT_IN}, a factor {np.exp(asymptote.log_sd):.2f} either way: "
            f"{', '.join(lent_by)})"
        )
        fit = lent = fit_loss(*points, form=form, rng=rng, resamples=LOSS_RESAMPLES, asymptote=asymptote)
        sound = search_is_sound(fit.certificate.search) and not fit.certificate.at_bound
        status = FitStatus.SPARSE if sound else FitStatus.UNCERTIFIED
    found = fit.certificate
    if status is FitStatus.SPARSE and found.weak:
        sentences.append(f"{', '.join(found.weak)}: not determined one by one; the loss is, as its interval says")
    ensemble, alone = (None, _NEED_BOTH) if same else _forms(points, fit, rng, asymptote)
    further, lacking = fit_further_forms(
        [*runs, *losses], rng, held=held, asymptote=asymptote, without_laws=without_laws
    )
    payload = {
        "fit": fit.to_json(),
        "forms": None if ensemble is None else ensemble.to_json(),
        "forms_missing": alone,
        "asymptote": [] if same else asymptotes(fit, free, lent),
        "same_input": same_input(points),
        "further_forms": further,
        "usual": usual_inputs([*runs, *losses], held),
        "not_fitted": lacking,
        "points": [
            {"params": n, "tokens": d, "loss": y}
            for n, d, y in zip(*(column.tolist() for column in points), strict=True)
        ],
        "words": f"{formula_words(fit, ensemble)}; through the best run of {counted(len(points[0]), 'scale')}",
        "lines": [forms_words(ensemble, alone), *(found["words"] for found in further.values()), *_not_fitted(lacking)],
        "reasons": list(found.reasons),
        "sentences": [*sentences, *found.warnings],
        "lent_by": lent_by,
    }
    nobody = "" if lender else ", and no published law lends an asymptote"
    missing = f"fitted, but not certified: {doubt(found)}{nobody}" if status is FitStatus.UNCERTIFIED else ""
    return LossLaw(status=status, payload=payload, missing=missing)


def same_input(points: Sequence[Floats]) -> dict[str, float] | None:
    """The input that no run varies, with its value; None where runs vary both."""
    for name, column in zip(("params", "tokens"), points, strict=False):
        if np.ptp(np.log(column)) <= SAME_INPUT:
            return {name: float(np.exp(np.log(column).mean()))}
    return None


def _form_of(points: Sequence[Floats]) -> tuple[str, str]:
    """The form that is fitted first, and a sentence where it is less than the additive law."""
    same = same_input(points)
    if same is None:
        return "additive", ""
    ((name, value),) = same.items()
    words, form = ("tokens", "params_alone") if name == "tokens" else ("parameters", "tokens_alone")
    other = "parameters" if name == "tokens" else "tokens"
    return form, (
        f"all runs have about {format_quantity(value)} {words}, so nothing shows how the loss moves with {words}: the "
        f"law is one in {other} alone, and holds there"
    )


def _best_of_scales(
    runs: Sequence[Run], losses: Sequence[SizedLoss], held: Sequence[Run] = ()
) -> tuple[tuple[Floats, Floats, Floats], list[str]]:
    """Params, tokens and lowest loss of each scale, and a sentence on each kind of run that is left out."""
    every: list[Measured] = [*runs, *losses]
    ordinary, notes = ordinary_runs(every, held)
    if every and not ordinary:
        raise NotEnoughData(f"no run is left for a law of the loss: {'; '.join(notes)}")
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
) -> tuple[LossEnsemble | None, str]:
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
        return None, str(error)
    return ensemble, ""


def formula_words(fit: LossFit, ensemble: LossEnsemble | None = None) -> str:
    """The additive law with its numbers; without them where the runs leave some open or a backtest rejects it."""
    if ensemble is not None and "additive" not in {each.form for each in ensemble.fits}:
        return (
            "loss at a scale, with its interval; not by the additive law, which tells larger runs worse than others do"
        )
    if fit.form != "additive":
        numbers = ", ".join(f"{name} {value.value:.3g}" for name, value in fit.parameters.items())
        return f"loss = {EVERY_FORM[fit.form].formula}, with {numbers}"
    if weak := fit.certificate.weak:  # a formula would say more than is known
        return f"loss at a scale, with its interval; not {', '.join(weak)}, which the runs do not determine"
    natural = {name: f"{interval.value:.3g}" for name, interval in fit.parameters.items()}
    return "loss = {E} + {A} / parameters^{alpha} + {B} / tokens^{beta}".format(**natural)


def forms_words(ensemble: LossEnsemble | None, alone: str) -> str:
    """Which forms of the law were kept, which not, and why, in one line."""
    if ensemble is None:
        return f"one form of the law{'' if alone == _NEED_BOTH else ' (additive)'}, others not compared: {alone}"
    kept = [b for b in ensemble.by_form() if not b.rejected]
    out = [b for b in ensemble.by_form() if b.rejected]
    shares = ", ".join(f"{form_name(b.form)} {b.weight:.0%}" for b in kept)
    first = f"average of {shares}" if len(kept) > 1 else form_name(kept[0].form)
    words = f"form of the law: {first} (fitted on smaller runs, {format_percent(kept[0].error)} off on larger ones)"
    if out:
        words += "; rejected: " + ", ".join(f"{form_name(b.form)} ({_off(b.error)})" for b in out)
    return words


def _not_fitted(lacking: Mapping[str, str]) -> list[str]:
    return [f"not fitted: {'; '.join(lacking.values())}"] if lacking else []


def form_name(form: str) -> str:
    """As people call it."""
    return {"compute_only": "compute alone", "power": "no asymptote", "kaplan": "Kaplan", "farseer": "Farseer"}.get(
        form, form
    )


def _off(error: float) -> str:
    return f"{format_percent(error)} off" if np.isfinite(error) else "too few runs"


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


def doubt(report: Certificate) -> str:
    """Why a fit is not certified, and the run that would help most, in one sentence."""
    if not report.weak:
        return str(report.reasons[0])
    said = f"they do not determine {', '.join(report.weak)}"
    if report.needed_runs:
        at = report.needed_runs[0].inputs
        where = f"{format_quantity(at['params'], 2)} parameters on {format_quantity(at['tokens'], 2)} tokens"
        said += f"; one run of {where} would help most"
    return said
