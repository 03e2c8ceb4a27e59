"""What the law of the timescale, and simpler rules, would have cost at the largest size that was swept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.weight_decay.sweep import DecayRuns, DecaySlice
from lawfit.estimate.weight_decay.timescale import fit_timescale
from lawfit.estimate.weight_decay.valley import MIN_POSITIVE, usable_slices
from lawfit.findings import joined
from lawfit.laws.timescale import TimescaleLaw, weight_decay_of


@dataclass(frozen=True, kw_only=True)
class MethodCost:
    """What one way of choosing weight decay would have cost at the held-out scales."""

    method: str
    mean: float  # of log loss above the lowest observed in the slice, mean over slices
    worst: float
    slices: int
    outside: int  # slices where the choice lies beyond what was tried: its cost there is a lower bound


OURS: Final = "law fitted on the smaller sizes"


def score_largest_size(
    runs: DecayRuns, published: Mapping[str, TimescaleLaw] | None = None, without_laws: Sequence[str] = ()
) -> tuple[MethodCost, ...]:
    """Fit on all sizes below the largest one swept, choose a weight decay for each of its slices, price it on its runs.

    Slices count whose best run is within `SLICE_WINDOW` of the largest size's own best at that horizon. Beside the
    law: a constant timescale and a constant weight decay (means over the smaller scales' best), no weight decay,
    0.1, and published laws. `without_laws` lend nothing to the law, as those that it is compared with must not.

    Raises
    ------
    NotEnoughData
        Fewer than two sizes have a slice with three positive values.
    FitError
        The smaller sizes carry no law.
    """
    usable = usable_slices(runs)
    top = max((part.params for part in usable), default=0.0) * 0.95
    held_out = [part for part in usable if part.params > top]
    if len(held_out) == len(usable):
        raise NotEnoughData(
            f"a backtest by size needs two sizes with {MIN_POSITIVE} finished positive weight decays in a slice; "
            f"{'one has' if usable else 'none has'}"
        )
    fit = fit_timescale(runs.take(runs.params <= top), without_laws)
    if fit.law is None:
        raise FitError(joined(fit.sentences))
    known = [s for s in fit.scales if np.isfinite(s.log_sd)]
    flat = float(np.exp(np.mean([np.log(s.timescale) for s in known])))
    seen = {(s.params, s.tokens) for s in known}
    decays = [o.weight_decay for o in fit.optima if (o.params, o.tokens) in seen and o.weight_decay > 0]
    usual = float(np.exp(np.mean(np.log(decays)))) if decays else 0.1
    choices: dict[str, Callable[[DecaySlice], float]] = {
        OURS: lambda s: fit.predict(s.params, s.tokens, s.batch_tokens, s.lr).weight_decay,
        "constant timescale": lambda s: float(weight_decay_of(flat, s.batch_tokens, s.lr, s.tokens)),
        "constant weight decay": lambda _: usual,
        "weight decay 0.1": lambda _: 0.1,
        "no weight decay": lambda _: 0.0,
        **{name: _by(law) for name, law in (published or {}).items()},
    }
    rows = []
    for method, choose in choices.items():
        costs = [part.cost(choose(part)) for part in held_out]
        rows.append(
            MethodCost(
                method=method,
                mean=float(np.mean([cost for cost, _ in costs])),
                worst=float(np.max([cost for cost, _ in costs])),
                slices=len(costs),
                outside=sum(out for _, out in costs),
            )
        )
    return tuple(rows)


def _by(law: TimescaleLaw) -> Callable[[DecaySlice], float]:
    return lambda s: float(law.weight_decay(s.params, s.tokens, s.batch_tokens, s.lr))
