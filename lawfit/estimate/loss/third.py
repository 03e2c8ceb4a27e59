"""Forms of the loss law for runs that say more than params and tokens: how often tokens repeat, how many experts work.

The additive law is for ordinary runs, so runs that repeat their tokens, or have another share of active experts or
another number of experts than most, do not enter it; here they do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

import numpy as np

from lawfit.errors import FitError
from lawfit.estimate.loss.fit import AsymptotePrior, LossFit, fit_loss
from lawfit.estimate.loss.forms import SAME_INPUT
from lawfit.estimate.loss.forms_further import EVERY_FORM, form_varying
from lawfit.estimate.numerics.certificate import search_is_sound
from lawfit.estimate.observe.repeated import REPEATED, is_repeated, number, repeats
from lawfit.factors import EPOCHS, EXPERTS, SHARE, SPARSITY, UNIQUE
from lawfit.findings import Finding, Found, finding
from lawfit.laws.lent import excess_params_scale
from lawfit.records import FitStatus, Run, RunStatus, SizedLoss

Measured = Run | SizedLoss
AnyRun = TypeVar("AnyRun", bound=Run | SizedLoss)

FEWEST: Final = 3  # scales that are not ordinary
FURTHER_RESAMPLES: Final = 100


def _active(run: Measured) -> float | None:
    """Share of experts (or parameters) that work on a token."""
    share, sparsity = number(run, SHARE), number(run, SPARSITY)
    if share is None and sparsity is not None:
        share = 1 - sparsity
    return share if share is not None and 0 < share <= 1 else None


def _experts(run: Measured) -> float | None:
    """Number of experts, 1 of a dense model, which some logs write as 0."""
    count = number(run, EXPERTS)
    return None if count is None or count < 0 else max(count, 1.0)


@dataclass(frozen=True, kw_only=True)
class Third:
    """One further input: how it is read, and from which columns."""

    of: Callable[[Measured], float | None]
    columns: tuple[str, ...]


REPEATS: Final = "data_constrained"
THIRDS: Final[Mapping[str, Third]] = {
    REPEATS: Third(of=repeats, columns=(UNIQUE[0], EPOCHS[0])),
    "moe_sparsity": Third(of=_active, columns=(SHARE[0], SPARSITY[0])),
    "experts": Third(of=_experts, columns=(EXPERTS[0],)),
}
_OTHERS: Final = tuple(name for name in THIRDS if name != REPEATS)


def ordinary_runs(runs: Sequence[AnyRun], held: Sequence[Run] = ()) -> tuple[list[AnyRun], list[Found]]:
    """Runs that the additive law is for, and a note on each kind of others.

    `held` are the runs that the laws of other quantities are fitted to, where those hold at a level: the usual one.
    """
    kept, notes = list(runs), list[Found]()
    fresh = [run for run in kept if not is_repeated(run)]
    if len(fresh) < len(kept):
        notes.append(finding("loss.repeats_left_out", runs=len(kept) - len(fresh)))
        kept = fresh
    for name in _OTHERS:
        same, usual = _at_usual(kept, THIRDS[name], held)
        if len(same) < len(kept):
            notes.append(finding("loss.others_left_out", runs=len(kept) - len(same), form=name, usual=usual))
            kept = same
    return kept, notes


def _at_usual(runs: Sequence[AnyRun], third: Third, held: Sequence[Run]) -> tuple[list[AnyRun], float]:
    """The runs whose third input is the usual one, and that; all of them where they have one or do not say."""
    values = [value for run in runs if (value := third.of(run)) is not None]
    if len({round(value, 4) for value in values}) < 2:
        return list(runs), 1.0
    fresh = [run for run in runs if not is_repeated(run)]
    first = ([value for run in some if (value := third.of(run)) is not None] for some in (held, fresh))
    usual = _usual(next(filter(None, first), values))
    return [run for run in runs if (value := third.of(run)) is not None and round(value, 4) == usual], usual


def _ordinary_otherwise(runs: Sequence[Measured], name: str, held: Sequence[Run]) -> list[Measured]:
    """The runs that are ordinary in all further inputs but that of a form: it would take their effect for its own.

    The number of experts and the share that is active go together in most tables, so the forms of these two take runs
    with any value of the other.
    """
    if name != REPEATS:
        return [run for run in runs if not is_repeated(run)]
    kept = list(runs)
    for other in _OTHERS:
        kept, _ = _at_usual(kept, THIRDS[other], held)
    return kept


def usual_inputs(runs: Sequence[Measured], held: Sequence[Run] = ()) -> dict[str, float]:
    """Third input of ordinary runs by form: tokens read once, and a dense model where they do not say."""
    ordinary, _ = ordinary_runs(runs, held)
    said = {name: [v for run in ordinary if (v := third.of(run)) is not None] for name, third in THIRDS.items()}
    return {name: 1.0 if name == REPEATS or not said[name] else _usual(said[name]) for name in said}


def fit_further_forms(
    runs: Sequence[Measured],
    rng: np.random.Generator,
    *,
    held: Sequence[Run] = (),
    asymptote: AsymptotePrior | None = None,
    without_laws: Sequence[str] = (),
) -> tuple[dict[str, Any], dict[str, Found]]:
    """Payload of each form that these runs allow, and for each other one what it lacks.

    Each form is fitted to the runs that are ordinary in the inputs of the other forms.

    Parameters
    ----------
    held : as in `ordinary_runs`
    asymptote : that published laws lend to a form whose runs leave it open
    without_laws : published laws that must lend nothing
    """
    fitted: dict[str, Any] = {}
    missing: dict[str, Found] = {}
    # of the runs whose law the effect of a further input is held against
    usual_of = usual_inputs(runs, held) if runs else {}
    for name, third in THIRDS.items():
        others = _ordinary_otherwise(runs, name, held)
        points = _points(others, third)
        usual = usual_of.get(name, 1.0)
        apart = np.abs(np.log(points[3] / usual)) > np.log(REPEATED)
        if all(third.of(run) is None for run in runs):
            missing[name] = finding("loss.third_unsaid", form=name, columns=third.columns)
        elif apart.sum() < FEWEST and len(others) < len(runs):
            missing[name] = finding("loss.third_alike_otherwise", form=name, needed=FEWEST)
        elif apart.sum() < FEWEST:
            missing[name] = finding("loss.third_alike", form=name, needed=FEWEST)
        else:
            try:
                fitted[name] = _fitted(name, points, rng, asymptote, without_laws)
            except FitError as error:
                missing[name] = error.finding
                continue
            fitted[name] |= {"usual": usual, "words": _said(fitted[name], int(apart.sum()))}
    return fitted, {name: finding("loss.no_third", form=name, why=why) for name, why in missing.items()}


def _fitted(
    name: str,
    points: np.ndarray,
    rng: np.random.Generator,
    asymptote: AsymptotePrior | None,
    without_laws: Sequence[str],
) -> dict[str, Any]:
    """The form by the runs alone; where they leave open what published laws lend, with that lent."""
    form, without = form_varying(name, *(bool(np.ptp(np.log(column)) > SAME_INPUT) for column in points[:2]))

    def fit_with(**known: Any) -> LossFit:
        return fit_loss(*points[:3], form=form.name, third=points[3], rng=rng, resamples=FURTHER_RESAMPLES, **known)

    fit = fit_with()
    known: dict[str, Any] = {}
    laws: list[str] = []
    if "params_scale" in fit.certificate.weak and (lent := excess_params_scale(without_laws)) is not None:
        known["lent"] = {"params_scale": lent.gaussian}
        laws += lent.laws
    # with sparse experts the asymptote and a term that does not fall with size stand for each other: lending is no help
    if (
        name != "moe_sparsity"
        and "E" in fit.certificate.weak
        and asymptote is not None
        and asymptote.mean < points[2].max()
    ):
        known["asymptote"] = asymptote
    if known:
        fit = fit_with(**known)
    found = fit.certificate
    # as the additive law: single parameters may be open, the loss is as its interval says
    sound = search_is_sound(found.search) and not found.at_bound
    status = FitStatus.OK if found.certified and not known else FitStatus.SPARSE if sound else FitStatus.UNCERTIFIED
    return {
        "fit": fit.to_json(),
        "status": status.value,
        "lent": [*known.get("lent", {}), *(["E"] if "asymptote" in known else [])],
        "lent_by": laws,
        "points": [  # each once, whatever its third input
            {"params": n, "tokens": d} for n, d in sorted({(n, d) for n, d in points[:2].T.tolist()})
        ],
        "covered": [float(points[3].min()), float(points[3].max())],
        "same_input": {
            key: float(np.median(x)) for key, x in zip(("params", "tokens"), points, strict=False) if key in without
        },
    }


def _usual(values: Sequence[float] | np.ndarray) -> float:
    """What most have; of several, the nearest to a dense model."""
    counts = Counter(np.round(values, 4).tolist())
    return float(max(counts, key=lambda value: (counts[value], -abs(np.log(value)))))


def _points(runs: Sequence[Measured], third: Third) -> np.ndarray:
    """(4, n): params, tokens, lowest loss and the third input of each scale, in an order that is that of no table."""
    best: dict[tuple[float, ...], tuple[float, ...]] = {}
    for run in runs:
        value = third.of(run)
        if value is None or run.loss is None:
            continue
        if isinstance(run, Run) and (run.status is not RunStatus.FINISHED or run.excluded is not None):
            continue
        key = tuple(round(float(np.log(x)), 2) for x in (run.params, run.tokens, value))
        if key not in best or run.loss < best[key][2]:
            best[key] = (run.params, run.tokens, run.loss, value)
    return np.array(sorted(best.values()), dtype=float).reshape(-1, 4).T


def _said(stored: Mapping[str, Any], apart: int) -> Finding:
    fit = LossFit.from_json(stored["fit"])
    return finding(
        "loss.further_form",
        form=fit.form,
        formula=EVERY_FORM[fit.form].formula,
        scales=fit.certificate.rows,
        apart=apart,
        parameters=[
            {"name": name, **asdict(value), "open": name in fit.certificate.weak}
            for name, value in fit.parameters.items()
        ],
        same=[{"input": name, "value": value} for name, value in stored["same_input"].items()],
        lent=[name for name in stored["lent"] if name != "E"],
        lent_by=stored["lent_by"],
        asymptote_lent="E" in stored["lent"],
    )
