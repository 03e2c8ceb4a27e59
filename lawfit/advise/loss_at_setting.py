"""The loss at any setting: what the law of the loss says of the best run of a scale, and what this setting costs there.

Log loss = law of the loss (its draws, with a scale's own deviation) + excess of the valley (over the worlds of where
the optimum lies) + the setting's own: the noise of a run, and by what share the valley is off where it costs much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.advise.draws import draw_worlds
from lawfit.estimate.loss.ensemble import LossEnsemble
from lawfit.estimate.loss.fit import LossFit
from lawfit.estimate.lr_batch.valley import excess

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
    law: LossEnsemble | LossFit,
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
    at_lr, at_batch = (
        np.atleast_1d(a) for a in np.broadcast_arrays(np.asarray(lr, float), np.asarray(batch_tokens, float))
    )
    for name, values in (("params", params), ("tokens", tokens), ("lr", at_lr), ("batch_tokens", at_batch)):
        if not np.all((np.asarray(values) > 0) & np.isfinite(values)):
            raise ValueError(f"{name} must be positive and finite to say a loss there, got {values}")
    worlds = draw_worlds(model, params, tokens)
    u, v = np.log(at_lr)[:, None] - worlds.log_lr, np.log(at_batch)[:, None] - worlds.log_batch
    cost = excess(u, v, worlds.valley)  # (settings, worlds)
    expected = cost.mean(axis=1)
    centre = np.exp(float(law.log_loss(params, tokens)) + expected)
    _, best = law.mixed_log_draws(params, tokens)
    if not len(best):
        return LossAtSettings(value=centre, low=None, high=None, level=law.level, excess=expected)
    rng = np.random.default_rng(_SEED)
    best = rng.choice(best, cost.shape[1])
    off, noise = (rng.standard_normal(cost.shape[1]) for _ in range(2))
    runs = best + cost * np.exp(model["valley"]["misfit"] * off) + model["valley"]["noise"] * noise
    low, high = np.exp(np.quantile(runs, [0.5 - law.level / 2, 0.5 + law.level / 2], axis=1))
    # where a few worlds put a setting next to divergence, they carry the mean out of the interval
    return LossAtSettings(value=np.clip(centre, low, high), low=low, high=high, level=law.level, excess=expected)
