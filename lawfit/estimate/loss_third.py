"""Forms of the loss law for runs that say more than params and tokens: how often tokens repeat, how many experts work.

The additive law is for ordinary runs, so runs that repeat their tokens, or have another share of active experts than
most, do not enter it; here they do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np

from lawfit.errors import FitError
from lawfit.estimate.loss_fit import LossFit, fit_loss
from lawfit.estimate.loss_forms_further import EVERY_FORM
from lawfit.estimate.loss_result import Interval
from lawfit.records import Run, RunStatus, SizedLoss

Measured = Run | SizedLoss
AnyRun = TypeVar("AnyRun", bound=Run | SizedLoss)

REPEATED: Final = 1.05  # tokens per unique token, from which a run repeats
FEWEST: Final = 3  # scales that are not ordinary
FURTHER_RESAMPLES: Final = 100


def _repeats(run: Measured) -> float | None:
    """Tokens per unique token, at least 1."""
    unique, epochs = _number(run, "unique_tokens"), _number(run, "epochs")
    if unique is not None and unique > 0:
        return max(run.tokens / unique, 1.0)
    return None if epochs is None or epochs <= 0 else max(epochs, 1.0)


def _active(run: Measured) -> float | None:
    """Share of experts (or parameters) that work on a token."""
    share, sparsity = _number(run, "active_fraction"), _number(run, "sparsity")
    if share is None and sparsity is not None:
        share = 1 - sparsity
    return share if share is not None and 0 < share <= 1 else None


def _number(run: Measured, name: str) -> float | None:
    try:
        value = float(run.extra[name])
    except (KeyError, TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


@dataclass(frozen=True, kw_only=True)
class Third:
    """One further input: where it is read, and what people call it."""

    of: Callable[[Measured], float | None]
    columns: str
    what: str  # that the runs do not say
    alike: str  # that all runs have in common where the form has nothing to fit
    label: str


THIRDS: Final[Mapping[str, Third]] = {
    "data_constrained": Third(
        of=_repeats,
        columns="unique_tokens or epochs",
        what="how many different tokens they saw",
        alike=f"fewer than {FEWEST} scales have runs that repeat their tokens",
        label="data-constrained",
    ),
    "moe_sparsity": Third(
        of=_active,
        columns="active_fraction or sparsity",
        what="which share of their experts is active",
        alike=f"fewer than {FEWEST} scales have another share of active experts than most runs",
        label="sparsity of experts",
    ),
}


def ordinary_runs(runs: Sequence[AnyRun]) -> tuple[list[AnyRun], list[str]]:
    """Runs that the additive law is for, and a sentence on each kind of others."""
    kept, notes = list(runs), []
    fresh = [run for run in kept if (_repeats(run) or 1.0) < REPEATED]
    if len(fresh) < len(kept):
        notes.append(f"{len(kept) - len(fresh)} runs that repeat their tokens do not enter the additive law")
        kept = fresh
    shares = Counter(round(share, 4) for run in kept if (share := _active(run)) is not None)
    if len(shares) > 1:
        usual = shares.most_common(1)[0][0]
        same = [run for run in kept if (share := _active(run)) is not None and round(share, 4) == usual]
        notes.append(
            f"{len(kept) - len(same)} runs with another share of active experts than {usual:g} do not enter the "
            "additive law"
        )
        kept = same
    return kept, notes


def fit_further_forms(runs: Sequence[Measured], rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, str]]:
    """Payload of each form that these runs allow, and for each other one a sentence on what it lacks."""
    fitted: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for form, third in THIRDS.items():
        points = _points(runs, third)
        usual = float(np.median(points[3])) if form == "moe_sparsity" and points.size else 1.0
        apart = np.abs(np.log(points[3] / usual)) > np.log(REPEATED)
        if not points.size:
            missing[form] = f"{third.label}: the runs do not say {third.what} (column {third.columns})"
        elif apart.sum() < FEWEST:
            missing[form] = f"{third.label}: {third.alike}"
        else:
            try:
                fit = fit_loss(*points[:3], form=form, third=points[3], rng=rng, resamples=FURTHER_RESAMPLES)
            except FitError as error:
                missing[form] = f"{third.label}: {error}"
                continue
            fitted[form] = {"fit": fit.to_json(), "usual": usual, "words": _words(fit, int(apart.sum()))}
    return fitted, missing


def _points(runs: Sequence[Measured], third: Third) -> np.ndarray:
    """(4, n): params, tokens, lowest loss and the third input of each scale."""
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
    return np.array(list(best.values()), dtype=float).reshape(-1, 4).T


def _words(fit: LossFit, apart: int) -> str:
    scales = f"{fit.certificate.rows} scales, {apart} of them not ordinary"
    if fit.form == "data_constrained":
        worth = fit.parameters["tokens_scale"]
        span = "" if worth.low is None else f" ({worth.low:.3g} to {worth.high:.3g})"
        if "tokens_scale" in fit.certificate.weak:
            return f"data-constrained form through {scales}: they do not say how fast repeated tokens lose their worth"
        falls = f"what a repeated token is worth falls by e in {worth.value:.3g} passes{span}"
        return f"data-constrained form: {falls}; {scales}"
    numbers = ", ".join(
        _number_words(name, value, name in fit.certificate.weak) for name, value in fit.parameters.items()
    )
    return f"form with sparse experts through {scales}: {EVERY_FORM[fit.form].formula}, with {numbers}"


def _number_words(name: str, value: Interval, is_open: bool) -> str:
    """``lambda -0.12 (-0.2 to -0.05)``; open: the scales do not determine it."""
    ends = "no interval" if value.low is None or value.high is None else f"{value.low:.3g} to {value.high:.3g}"
    return f"{name.rstrip('_')} {value.value:.3g} ({ends}{', open' if is_open else ''})"
