"""The loss at any setting: what the law of the loss says of the best run of a scale, and what this setting costs there.

Log loss = law of the loss (its draws, with a scale's own deviation) + excess of the valley (over the worlds of where
the optimum lies, the best learning rate at each batch being that of `regret.lr_given_batch`) + the setting's own: the
noise of a run, and by what share the valley is off where it costs much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.advise.draws import draw_worlds
from lawfit.advise.regret import at_batch, excess_at
from lawfit.estimate.loss.ensemble import LossEnsemble
from lawfit.estimate.loss.fit import LossFit
from lawfit.kinds.third_input import LossAtThird

Floats = NDArray[np.float64]

_SEED: Final = 20261129  # fixed: the same fits and settings give the same answer


@dataclass(frozen=True, kw_only=True)
class LossAtSettings:
    """Loss of single runs at one scale, by setting."""

    value: Floats  # (settings,) nats per token
    low: Floats | None  # bounds of a `level` interval; None where the law of the loss has too few scales for one
    high: Floats | None
    level: float
    excess: Floats  # (settings,) expected log loss over that of the best setting


def loss_at_settings(
    model: Mapping[str, Any],
    law: LossEnsemble | LossFit | LossAtThird,
    params: float,
    tokens: float,
    *,
    lr: ArrayLike,
    batch_tokens: ArrayLike,
) -> LossAtSettings:
    """What runs with these settings would reach at one scale.

    Parameters
    ----------
    model : ``Fit.payload["model"]`` of learning rate and batch
    law : of the loss, through the best runs of the same recipe (`expected_loss.stored_law`); intervals are of its level
    lr, batch_tokens : (settings,) positive floats, or numbers

    Raises
    ------
    ValueError
        A scale or setting that is not positive.
    """
    at_lr, at_batch_tokens = (
        np.atleast_1d(a) for a in np.broadcast_arrays(np.asarray(lr, float), np.asarray(batch_tokens, float))
    )
    for name, values in (("params", params), ("tokens", tokens), ("lr", at_lr), ("batch_tokens", at_batch_tokens)):
        if not np.all((np.asarray(values) > 0) & np.isfinite(values)):
            raise ValueError(f"{name} must be positive and finite to say a loss there, got {values}")
    worlds = draw_worlds(model, params, tokens)
    by_batch = {batch: at_batch(worlds, float(np.log(batch))) for batch in np.unique(at_batch_tokens).tolist()}
    cost = np.array(
        [excess_at(by_batch[b], np.log(a), np.log(b)) for a, b in zip(at_lr, at_batch_tokens.tolist(), strict=True)]
    )
    return loss_with(model, law, params, tokens, cost)


def loss_with(
    model: Mapping[str, Any],
    law: LossEnsemble | LossFit | LossAtThird,
    params: float,
    tokens: float,
    cost: Floats,
    further: Floats | float = 0.0,
) -> LossAtSettings:
    """The same from what settings cost in each world.

    Parameters
    ----------
    cost : (settings, worlds) excess of log loss by learning rate and batch
    further : (worlds,) the same by what else is set
    """
    expected = cost.mean(axis=1) + np.mean(further)
    centre = np.exp(float(law.log_loss(params, tokens)) + expected)
    _, best = law.mixed_log_draws(params, tokens)
    if not len(best):
        return LossAtSettings(value=centre, low=None, high=None, level=law.level, excess=expected)
    rng = np.random.default_rng(_SEED)
    best = rng.choice(best, cost.shape[1])
    noise = rng.standard_normal(cost.shape[1])
    runs = best + off_by_a_share(model, cost) + further + model["valley"]["noise"] * noise
    low, high = np.exp(np.quantile(runs, [0.5 - law.level / 2, 0.5 + law.level / 2], axis=1))
    # where a few worlds put a setting next to divergence, they carry the mean out of the interval
    return LossAtSettings(value=np.clip(centre, low, high), low=low, high=high, level=law.level, excess=expected)


def off_by_a_share(model: Mapping[str, Any], cost: Floats) -> Floats:
    """(..., worlds) draws of what settings really cost, where the valley says `cost` (`estimate.lr_batch.misfit`)."""
    off = np.random.default_rng(_SEED + 1).standard_normal(cost.shape[-1])
    return np.asarray(cost * np.exp(model["valley"]["misfit"] * off))
