"""Forms of a loss law judged by extrapolation: fitted on the smaller runs, scored on the observed losses of the larger.

The runs are cut at several budgets. At each, every candidate is fitted on what lies below and predicts what lies above;
nothing above has a say. A candidate is a form with a window: all runs, or the larger half of them by compute, for laws
of loss hold better where runs are large, and small runs are the worst tuned and warmed up. One whose error is much
larger than the best one's is rejected. The others are averaged by weight, and what their average got wrong above the
cuts is the `drift`: the error of slope that no choice among these forms mends.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.loss.fit import quick_fit
from lawfit.estimate.loss.forms import FORMS
from lawfit.estimate.loss.result import AsymptotePrior, FormDraws
from lawfit.estimate.numerics.newton import Bools, Floats
from lawfit.findings import Found, finding

# The four below: compared on simulated laws (those of tests/benchmarks/loss_choice.py), with the public sources already
# seen. Chosen by leaving out one family of them after another they come out alike, but for a tolerance of 8. Simulated
# laws alone would take a sharpness of 4; on public sources it is worse in five families of seven: real runs miss every
# form by more than these simulations do.
TOLERATED: Final = 4.0  # times the error of the best candidate
SHARPNESS: Final = 1.5
WINDOWS: Final = (0.0, 0.5)  # shares of the runs, the smallest by compute, that candidates are fitted without
PER_PARAMETER: Final = 2  # runs (clusters) that a form needs for each of its parameters, beyond the simplest two
SIMPLEST: Final = ("additive", "power")
CUTS: Final = (0.5, 2 / 3, 0.8)  # quantiles of compute
FEWEST_BELOW: Final = 8  # runs (clusters) that a cut, or a window, must leave to learn from
FEWEST_ABOVE: Final = 3  # runs to score on
BEYOND: Final = 0.05  # decades of compute that the largest run lies above a cut


class Candidate(NamedTuple):
    """A form, and the share of the runs, the smallest by compute, that it is fitted without."""

    form: str
    without: float


@dataclass(frozen=True, kw_only=True)
class FormBacktest:
    """How one form, fitted below each cut, predicted the runs above."""

    form: str
    without: float = 0.0  # as in `Candidate`
    error: float  # mean absolute error of log loss, averaged over cuts; inf without a prediction
    bias: float  # mean of log observed - log predicted
    weight: float  # in the average; 0 where rejected
    rejected: bool
    reason: Found  # why, or ""


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
        needed = {"smaller": FEWEST_BELOW, "larger": FEWEST_ABOVE, "beyond": 10**BEYOND}
        raise NotEnoughData(finding("loss.few_budgets", scales=len(log_flops), budgets=budgets, **needed))
    return found


def candidates(forms: Sequence[str], columns: Sequence[Floats], labels: NDArray[np.intp]) -> dict[Candidate, Found]:
    """What is tried on these runs, each with why it has too few of them, or an empty string."""
    found: dict[Candidate, Found] = {}
    for without in WINDOWS:
        clusters = len(np.unique(labels[window(columns, without)]))
        if without and clusters < FEWEST_BELOW:
            continue
        for form in forms:
            parameters = len(FORMS[form].names)
            needed = PER_PARAMETER * parameters
            few = finding("loss.few_for_form", parameters=parameters, needed=needed, runs=clusters)
            found[Candidate(form, without)] = few if form not in SIMPLEST and clusters < needed else ""
    return found


def window(columns: Sequence[Floats], without: float) -> Bools:
    """Which runs a candidate is fitted on."""
    log_flops = np.log(columns[0]) + np.log(columns[1])
    return np.asarray(log_flops >= np.quantile(log_flops, without) - 1e-9, dtype=bool)


def trial_fit(
    candidate: Candidate,
    columns: Sequence[Floats],
    labels: NDArray[np.intp],
    cut: Cut,
    asymptote: AsymptotePrior | float | None,
) -> FormDraws | Found:
    """The fit below a cut, or why there is none."""
    below, index = [x[cut.inner] for x in columns], labels[cut.inner]
    rows = window(below, candidate.without)
    try:
        return quick_fit(
            [x[rows] for x in below],
            clusters=index[rows],
            form=candidate.form,
            asymptote=asymptote if FORMS[candidate.form].asymptote else None,
        )
    except FitError as error:
        return error.finding
    except ValueError as error:
        return str(error)


def errors_above(found: FormDraws | Found, columns: Sequence[Floats], cut: Cut) -> Floats:
    """log observed - log predicted of the runs above a cut; inf where the form has no prediction."""
    held = ~cut.inner
    if not isinstance(found, FormDraws):
        return np.full(int(held.sum()), np.inf)
    with np.errstate(all="ignore"):
        error = np.log(columns[2][held]) - np.log(found.loss(columns[0][held], columns[1][held]))
    return np.where(np.isfinite(error), error, np.inf)


def judge(
    errors: Mapping[Candidate, Sequence[Floats]],
    why: Mapping[Candidate, Found],
    kept_always: Collection[Candidate] = (),
) -> tuple[FormBacktest, ...]:
    """Every candidate, best first.

    A weight is one over the error to the power `SHARPNESS`: the cuts of one study are one or two extrapolations, which
    tell candidates apart less sharply than the inverse squares of independent errors would.

    Parameters
    ----------
    errors : candidate -> errors above each cut
    why : candidate -> why it has no prediction
    kept_always : a law that all runs together certify keeps a say, however it fared on part of them

    Raises
    ------
    FitError
        No candidate has a prediction.
    """
    size = {each: float(np.mean([np.abs(e).mean() for e in found])) for each, found in errors.items()}
    best = min(size.values())
    if not np.isfinite(best):
        raise FitError(finding("loss.no_form_predicts"))
    kept = {each: size[each] <= TOLERATED * best or (each in kept_always and np.isfinite(size[each])) for each in size}
    vote = {each: (best / max(size[each], 1e-12)) ** SHARPNESS if kept[each] else 0.0 for each in size}
    total = sum(vote.values())

    def reason(each: Candidate) -> Found:
        if kept[each]:
            return ""
        if not np.isfinite(size[each]):
            return why.get(each) or finding("loss.no_prediction")
        return finding("loss.worse_form", loss_fraction=size[each], times=size[each] / best)

    return tuple(
        FormBacktest(
            form=each.form,
            without=each.without,
            error=size[each],
            bias=float(np.mean([e.mean() for e in errors[each]])),
            weight=vote[each] / total,
            rejected=not kept[each],
            reason=reason(each),
        )
        for each in sorted(size, key=lambda one: size[one])
    )
