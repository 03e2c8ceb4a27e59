"""Forms of a loss law judged by extrapolation: fitted on the smaller runs, scored on the observed losses of the larger.

The runs are cut at several budgets. At each, every form is fitted on what lies below and predicts what lies above;
nothing above has a say. A form whose error is much larger than the best form's is rejected. The others are averaged
by weight, and what their average got wrong above the cuts is the `drift`: the error of slope that no choice among these
forms mends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.loss_fit import quick_fit
from lawfit.estimate.loss_forms import FORMS
from lawfit.estimate.loss_result import AsymptotePrior, FormDraws
from lawfit.estimate.newton import Bools, Floats

TOLERATED: Final = 2.0  # times the error of the best form
CUTS: Final = (0.5, 2 / 3, 0.8)  # quantiles of compute
FEWEST_BELOW: Final = 8  # runs (clusters) that a cut must leave to learn from
FEWEST_ABOVE: Final = 3  # runs to score on
BEYOND: Final = 0.05  # decades of compute that the largest run lies above a cut


@dataclass(frozen=True, kw_only=True)
class FormBacktest:
    """How one form, fitted below each cut, predicted the runs above."""

    form: str
    error: float  # mean absolute error of log loss, averaged over cuts; inf without a prediction
    bias: float  # mean of log observed - log predicted
    weight: float  # in the average; 0 where rejected
    rejected: bool
    reason: str  # why, or ""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Error of slope of the average of forms: log loss per decade of compute."""

    sd: float
    freedom: float  # degrees of freedom of Student's t: how well the sd is known


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Runs below a budget, and those above."""

    inner: Bools
    beyond: Floats  # decades of compute of each run above the cut, beyond the largest below


def cuts(log_flops: Floats, clusters: NDArray[np.intp]) -> list[Cut]:
    """Where the runs can be parted, most runs held back first.

    Raises
    ------
    NotEnoughData
        Nowhere.
    """
    found: list[Cut] = []
    for quantile in CUTS:
        inner = log_flops <= np.quantile(log_flops, quantile) + 1e-9
        if any(np.array_equal(inner, other.inner) for other in found) or inner.all():
            continue
        beyond = (log_flops[~inner] - log_flops[inner].max()) / np.log(10)
        if (
            len(np.unique(clusters[inner])) >= FEWEST_BELOW
            and (~inner).sum() >= FEWEST_ABOVE
            and beyond.max() >= BEYOND
        ):
            found.append(Cut(inner=inner, beyond=beyond))
    if not found:
        budgets = len(np.unique(np.round(log_flops / np.log(10), 1)))
        raise NotEnoughData(
            f"{len(log_flops)} scales at {budgets} budgets are too few to hold the larger ones back: it takes "
            f"{FEWEST_BELOW} smaller ones and {FEWEST_ABOVE} larger, the largest {10**BEYOND:.2g} times beyond"
        )
    return found


def trial_fit(
    form: str,
    columns: Sequence[Floats],
    labels: NDArray[np.intp],
    cut: Cut,
    asymptote: AsymptotePrior | float | None,
) -> FormDraws | str:
    """The fit below a cut, or why there is none."""
    try:
        return quick_fit(
            [x[cut.inner] for x in columns],
            clusters=labels[cut.inner],
            form=form,
            asymptote=asymptote if FORMS[form].asymptote else None,
        )
    except (FitError, ValueError) as error:
        return str(error)


def errors_above(found: FormDraws | str, columns: Sequence[Floats], cut: Cut) -> Floats:
    """log observed - log predicted of the runs above a cut; inf where the form has no prediction."""
    held = ~cut.inner
    if isinstance(found, str):
        return np.full(int(held.sum()), np.inf)
    with np.errstate(all="ignore"):
        error = np.log(columns[2][held]) - np.log(found.loss(columns[0][held], columns[1][held]))
    return np.where(np.isfinite(error), error, np.inf)


def judge(errors: Mapping[str, Sequence[Floats]], why: Mapping[str, str]) -> tuple[FormBacktest, ...]:
    """Every form, best first.

    Parameters
    ----------
    errors : form -> errors above each cut
    why : form -> why it has no prediction

    Raises
    ------
    FitError
        No form has one.
    """
    size = {form: float(np.mean([np.abs(e).mean() for e in found])) for form, found in errors.items()}
    best = min(size.values())
    if not np.isfinite(best):
        raise FitError("no form of a loss law predicts the larger of these runs from the smaller")
    kept = {form: size[form] <= TOLERATED * best for form in size}
    vote = {form: (best / max(size[form], 1e-12)) ** 2 if kept[form] else 0.0 for form in size}
    total = sum(vote.values())

    def reason(form: str) -> str:
        if kept[form]:
            return ""
        if not np.isfinite(size[form]):
            return why.get(form) or "no prediction for the larger runs"
        return f"{size[form]:.2%} of loss off on the larger runs, {size[form] / best:.1f} times the best form's error"

    return tuple(
        FormBacktest(
            form=form,
            error=size[form],
            bias=float(np.mean([e.mean() for e in errors[form]])),
            weight=vote[form] / total,
            rejected=not kept[form],
            reason=reason(form),
        )
        for form in sorted(size, key=lambda name: size[name])
    )
