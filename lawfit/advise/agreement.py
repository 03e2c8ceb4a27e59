"""Whether a fit answers what its own runs show: asked at a scale and batch that was swept, what would its answer cost?

A prior that was measured on other recipes can outvote a sweep whose batch was not varied: the law then explains the
runs by a batch far from the best one, and its learning rate is one that these very runs show to be bad. How well the
search for that law converged says nothing about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from lawfit.advise.prediction import recommend
from lawfit.ask import Target
from lawfit.documents import given
from lawfit.estimate.lr_batch.lacking import (
    Bearing,
    Lack,
    LackCode,
    SweptScale,
    batches_at,
    digits,
    noise_and_trend,
    rates_at,
    scales_of,
)
from lawfit.estimate.numerics.law_terms import law_design
from lawfit.estimate.numerics.sweeps import sweep_parabola
from lawfit.estimate.observe.observations import Observations
from lawfit.records import Fit, OptimumStatus, Recipe

TOO_DEAR: Final = 0.02  # of log loss: ten times what the law's scatter between scales costs
CLEAR: Final = 4.0  # noise sd that the lowest of a few runs may lie below what it is of
MOST_ASKED: Final = 3  # scales
_OTHER_SIZE: Final = 2.0  # times the parameters of the scale that was swept
_STEPS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)  # times the best learning rate


def contradiction(fit: Fit, recipe: Recipe, observed: Observations) -> Lack | None:
    """The scale where the fit's answer is dearest, where it is too dear at most of the scales that show their best."""
    found = []
    scales = scales_of(observed)
    # of two estimates that are both too large where their form does not fit the sweep
    noise = min(noise_and_trend(scales, observed)[0], float(fit.payload["model"]["valley"]["noise"]))
    for scale, batch, own in _shown(scales):
        try:
            target = Target(params=scale.params, tokens=scale.tokens, batch_tokens=batch)
            said = given(recommend(fit, recipe, target)["recommendation"]["lr"])["value"]
        except ValueError:  # a batch that no target may have, say below one token
            continue
        found.append((_cost(scale, batch, said), scale, batch, own, said))
    if not found or sorted(row[0] for row in found)[len(found) // 2] < TOO_DEAR + CLEAR * noise:
        return None
    cost, scale, batch, own, said = max(found, key=lambda row: row[0])
    lent, sds = _lent(fit.payload["model"], scale, own)
    return Lack(
        code=LackCode.CONTRADICTS_RUNS,
        bearing=Bearing.REFUSES,
        numbers={
            "params": scale.params,
            "tokens": scale.tokens,
            "batch_tokens": batch,
            "lr": digits(own),
            "fitted_lr": digits(said),
            "cost": digits(np.expm1(cost)),
            "published_lr": digits(lent),
            "sds": digits(sds),
        },
        runs=(batches_at(scale), _second_sweep(scales, scale, own)),
    )


def _shown(scales: Sequence[SweptScale]) -> list[tuple[SweptScale, float, float]]:
    """Scales that show a best learning rate inside their sweep at the batch of their lowest loss; batch, and the rate.

    Those with the most settings, where there are many.
    """
    found = []
    for scale in sorted(scales, key=lambda scale: -len(scale.log_lr)):
        batch = scale.best[1]
        rows = _at(scale, batch)
        own = sweep_parabola(np.exp(scale.log_lr[rows]), scale.log_loss[rows], window=1)
        if own.status is OptimumStatus.INSIDE:
            found.append((scale, batch, own.value))
        if len(found) == MOST_ASKED:
            break
    return found


def _second_sweep(scales: Sequence[SweptScale], swept: SweptScale, lr: float) -> dict[str, Any]:
    """Learning rates at another size: one that has no sweep yet, or of twice the parameters."""
    bare = [scale for scale in scales if not scale.compares]
    if bare:
        return rates_at(min(bare, key=lambda scale: scale.params * scale.tokens), [lr * step for step in _STEPS])
    rates = [digits(lr * step) for step in _STEPS]
    larger = _OTHER_SIZE * swept.params
    return {"params": larger, "tokens": swept.tokens, "lr": rates, "batch_tokens": [swept.best[1]]}


def _at(scale: SweptScale, batch: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.isclose(scale.log_batch, np.log(batch), atol=1e-3)


def _cost(scale: SweptScale, batch: float, lr: float) -> float:
    """Log loss at a learning rate above the lowest at that batch, read between runs.

    Nothing next to the lowest run, where the sweep leaves open how it runs. Beyond all runs as on the chord from the
    lowest to the end: a valley that is convex costs no less.
    """
    rows = _at(scale, batch)
    order = np.argsort(scale.log_lr[rows])
    x, loss = scale.log_lr[rows][order], scale.log_loss[rows][order] - scale.log_loss[rows].min()
    best = int(np.argmin(loss))
    if x[max(best - 1, 0)] <= np.log(lr) <= x[min(best + 1, len(x) - 1)]:
        return 0.0
    lowest, end = x[best], -1 if np.log(lr) > x[-1] else 0
    if x[0] <= np.log(lr) <= x[-1] or x[end] == lowest:
        return float(np.interp(np.log(lr), x, loss))
    return float(loss[end] * (np.log(lr) - lowest) / (x[end] - lowest))


def _lent(model: Mapping[str, Any], scale: SweptScale, lr: float) -> tuple[float, float]:
    """Learning rate that published laws lend at a scale, and how many of their standard deviations another is off."""
    mean, cov = (np.asarray(model["published_prior"][name]) for name in ("mean", "cov"))
    x = law_design(np.array([scale.params]), np.array([scale.tokens]), tuple(model["centre"]))[0]
    lent, sd = float(x @ mean[: len(x)]), float(np.sqrt(x @ cov[: len(x), : len(x)] @ x))
    return float(np.exp(lent)), abs(float(np.log(lr)) - lent) / sd
