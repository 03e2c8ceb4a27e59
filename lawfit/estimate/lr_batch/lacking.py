"""What the runs of a sweep lack for a law of the best learning rate and batch, and which runs would mend it.

Each is a code, numbers and runs to add. They are looked for in the runs
themselves, not in how a search for a law went: a search that fails on runs without a minimum says "1 of 5 starts", and
what helps is another learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.numerics.sweeps import FLAT_BAND, MIN_SWEEP
from lawfit.estimate.observe.observations import Observations
from lawfit.findings import Finding

Floats = NDArray[np.float64]

FEW_SETTINGS: Final = 4  # of a scale: fewer leave nothing over to judge a parabola by
CLIP: Final = 0.3  # of log loss above a scale's lowest: beyond, a run is lost, by how much says nothing of a valley
UNTOLD: Final = 0.05  # p-value of "the learning rate makes no difference" above which the runs do not tell
SMALL_SPREAD: Final = 0.01  # of log loss: losses that differ by more are more than seeds of one setting differ by
TESTABLE: Final = 3  # degrees of freedom left over
CLEAR: Final = 4.0  # noise sd by which the middle of a sweep is above both of its ends
TIED: Final = 0.03  # spread of ln lr across a line through ln batch, relative to that along it
LONELY_AMONG: Final = 8  # runs of a scale, for one far below the rest to be suspicious
LONELY_BY: Final = 0.05  # of log loss
STEPS: Final = (0.25, 0.5, 2.0, 4.0)  # times a learning rate that lacks its neighbours
BEYOND: Final = (2.0, 4.0, 8.0)  # times an end of those tried: the next best may be the end again
MOST_SCALES: Final = 2  # to ask for more runs at; of two sizes where there are two


class Bearing(StrEnum):
    """What a finding means for an answer."""

    REFUSES = "refuses"  # the runs say nothing about the best learning rate: there is no answer, however a search ends
    EXPLAINS = "explains"  # why a search for the law did not end; where it did, its own status speaks
    NOTED = "noted"  # an answer is given and says this


class LackCode(StrEnum):
    """What is missing."""

    ONE_RUN = "one_run"
    ONE_RATE = "one_rate"
    RATE_BY_RULE = "rate_by_rule"
    TWO_RATES = "two_rates"
    FLAT = "flat"
    HILL = "hill"
    AT_EDGE = "at_edge"
    FEW_SETTINGS = "few_settings"
    CONTRADICTS_RUNS = "contradicts_runs"
    LONELY_RUN = "lonely_run"
    RATE_TIED_TO_BATCH = "rate_tied_to_batch"
    ONE_BATCH = "one_batch"


@dataclass(frozen=True, kw_only=True)
class Lack:
    """One thing that the runs lack."""

    code: LackCode
    bearing: Bearing
    numbers: Mapping[str, float]
    runs: tuple[Mapping[str, Any], ...] = ()  # to add: params, tokens, and lists of lr and batch_tokens to cross

    @property
    def finding(self) -> Finding:
        return Finding(f"lr_batch.{self.code.value}", self.numbers)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "code": self.code.value, "bearing": self.bearing.value, "runs": list(self.runs)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Lack:
        return cls(
            code=LackCode(content["code"]),
            bearing=Bearing(content["bearing"]),
            numbers=content["numbers"],
            runs=tuple(content["runs"]),
        )


@dataclass(frozen=True, kw_only=True)
class SweptScale:
    """The settings of one scale, and the lowest loss at each learning rate that finished."""

    params: float
    tokens: float
    log_lr: Floats
    log_batch: Floats
    log_loss: Floats
    seeds: Floats
    diverged: Floats  # ln lr
    rates: Floats  # distinct ln lr that finished, ascending
    profile: Floats  # lowest log loss at each, over batches

    @property
    def best(self) -> tuple[float, float]:
        """Learning rate and batch of the lowest loss."""
        at = int(np.argmin(self.log_loss))
        return digits(np.exp(self.log_lr[at])), float(f"{np.exp(self.log_batch[at]):.12g}")

    @property
    def compares(self) -> bool:
        """Whether learning rates can be told from each other: three were tried, and two or more finished."""
        tried = np.union1d(self.rates, self.diverged)
        return len(self.rates) >= 2 and len(tried) >= MIN_SWEEP

    @property
    def edge(self) -> str:
        """The end of the learning rates at which the loss is lowest: low, high, or empty."""
        lowest = int(np.argmin(self.profile))
        if lowest == 0:
            return "low"
        open_above = self.diverged.max(initial=-np.inf) <= self.rates[-1]
        return "high" if lowest == len(self.rates) - 1 and open_above else ""


def diagnose(observed: Observations) -> tuple[Lack, ...]:
    """What these runs lack, the gravest first; empty where nothing was found."""
    scales = scales_of(observed)
    if (uncompared := _uncompared(scales)) is not None:
        return (uncompared,)
    swept = [scale for scale in scales if scale.compares]
    noise, p_value = noise_and_trend(scales, observed)
    found = (
        _flat(swept, noise, p_value, observed.seed_sd),
        _hill(swept, noise),
        _at_edge(swept),
        _few_settings(scales),
        _lonely(scales),
        _rate_tied_to_batch(swept),
        _one_batch(scales),
    )
    order = list(Bearing)
    return tuple(sorted((lack for lack in found if lack is not None), key=lambda lack: order.index(lack.bearing)))


def scales_of(observed: Observations) -> list[SweptScale]:
    """Every scale with its settings."""
    found = []
    for cell in range(observed.n_cells):
        rows = observed.rows_of(cell)
        rates, which = np.unique(observed.log_lr[rows], return_inverse=True)
        profile = np.full(len(rates), np.inf)
        np.minimum.at(profile, which, observed.log_loss[rows])
        found.append(
            SweptScale(
                params=float(observed.params[cell]),
                tokens=float(observed.tokens[cell]),
                log_lr=observed.log_lr[rows],
                log_batch=observed.log_batch[rows],
                log_loss=observed.log_loss[rows],
                seeds=observed.seeds[rows],
                diverged=observed.diverged_log_lr[observed.diverged_cell == cell],
                rates=rates,
                profile=profile,
            )
        )
    return found


def _uncompared(scales: Sequence[SweptScale]) -> Lack | None:
    """No scale compares learning rates: whatever is said about the best one would be other people's."""
    if any(scale.compares for scale in scales):
        return None
    rates = np.concatenate([scale.rates for scale in scales])
    usual = float(np.median([len(scale.rates) for scale in scales]))
    settings = sum(len(scale.log_lr) for scale in scales)
    of_sizes: dict[float, set[float]] = {}
    for scale in scales:
        of_sizes.setdefault(scale.params, set()).update(scale.rates.tolist())
    if settings == 1:
        code = LackCode.ONE_RUN
    elif usual == 1:
        code = LackCode.ONE_RATE if np.ptp(rates) == 0 else LackCode.RATE_BY_RULE
    else:
        code = LackCode.TWO_RATES
    lr, batch = scales[0].best
    return Lack(
        code=code,
        bearing=Bearing.REFUSES,
        numbers={
            "settings": settings,
            "diverged": sum(len(scale.diverged) for scale in scales),
            "scales": len(scales),
            "per_size": int(all(len(of_size) == 1 for of_size in of_sizes.values())),
            "lr_low": digits(np.exp(rates.min())),
            "lr_high": digits(np.exp(rates.max())),
            "lr": digits(lr),
            "batch_tokens": batch,
        },
        runs=_around(scales),
    )


def _around(scales: Sequence[SweptScale]) -> tuple[dict[str, Any], ...]:
    """Learning rates on both sides of the best one, at two sizes; with one size, at another of twice its parameters."""
    chosen = _cheapest_of_sizes(scales)
    rows = [rates_at(scale, [scale.best[0] * step for step in STEPS]) for scale in chosen]
    if len({scale.params for scale in scales}) == 1:
        lr, batch = chosen[0].best
        larger = {"params": 2 * chosen[0].params, "tokens": chosen[0].tokens}
        rates = sorted(digits(lr * step) for step in (*STEPS, 1.0))
        rows.append({**larger, "lr": rates, "batch_tokens": [batch]})
    return tuple(rows)


def _cheapest_of_sizes(scales: Sequence[SweptScale]) -> list[SweptScale]:
    """The scale with the fewest tokens of the smallest size, and of the middle one where there are several."""
    sizes = sorted({scale.params for scale in scales})
    wanted = dict.fromkeys([sizes[0], sizes[len(sizes) // 2]])
    return [min((s for s in scales if s.params == size), key=lambda s: s.tokens) for size in wanted][:MOST_SCALES]


def rates_at(scale: SweptScale, rates: Sequence[float]) -> dict[str, Any]:
    """Learning rates that were not tried, at the scale's best batch."""
    tried = np.exp(np.concatenate([scale.rates, scale.diverged]))
    new = sorted(digits(lr) for lr in rates if not np.any(np.isclose(lr, tried, rtol=0.02)))
    return {"params": scale.params, "tokens": scale.tokens, "lr": new, "batch_tokens": [scale.best[1]]}


def _beyond(scale: SweptScale, ends: Sequence[str]) -> dict[str, Any]:
    """Learning rates past the named ends of those that were tried."""
    low, high = float(np.exp(scale.rates[0])), float(np.exp(scale.rates[-1]))
    rates = [low / step for step in BEYOND if "low" in ends]
    return rates_at(scale, rates + [high * step for step in BEYOND if "high" in ends])


def noise_and_trend(scales: Sequence[SweptScale], observed: Observations) -> tuple[float, float | None]:
    """Noise sd of log loss, and the p-value of "the learning rate makes no difference"; None: cannot be tested.

    F test of a slope of each scale and one curvature of all (and one tilt, where batches vary) against floors and
    slopes in the batch alone. Seeds add their pure error.
    """
    from scipy.special import fdtrc

    small, large = [], []  # (y, shared columns) of each scale, less what its own columns explain
    own_small = own_large = 0
    for scale in scales:
        x, z = scale.log_lr - scale.log_lr.mean(), scale.log_batch - scale.log_batch.mean()
        y = np.minimum(scale.log_loss - scale.log_loss.min(), CLIP)
        root = np.sqrt(scale.seeds)
        one = np.ones_like(x)
        by_batch = [z] if np.ptp(z) > 0 and not _on_a_line(x, z) else []
        nuisance = [z**2 if by_batch else 0 * x]
        wanted = [x**2, x * z if by_batch else 0 * x]
        rest, rank = _less([y, *nuisance], [one, *by_batch], root)
        small.append(rest)
        own_small += rank
        rest, rank = _less([y, *nuisance, *wanted], [one, *by_batch, x], root)
        large.append(rest)
        own_large += rank
    count = sum(len(scale.log_lr) for scale in scales)
    squares_small, rank_small = _squares(np.concatenate(small))
    squares_large, rank_large = _squares(np.concatenate(large))
    repeats = float((observed.seeds - 1).sum())
    pure = float(observed.seed_squares.sum())
    left = count - own_large - rank_large + repeats
    more = own_large + rank_large - own_small - rank_small
    if left < TESTABLE or more < 1:
        return FLAT_BAND, None
    variance = (squares_large + pure) / left
    if variance <= 0:  # exactly a parabola, or all alike
        return FLAT_BAND, 0.0 if squares_small > 0 else 1.0
    gain = max(squares_small - squares_large, 0.0) / more
    return float(np.sqrt(variance)), float(fdtrc(more, left, gain / variance))


def _less(columns: Sequence[Floats], own: Sequence[Floats], root: Floats) -> tuple[Floats, int]:
    """Weighted columns (n, k) without what a scale's own columns explain, and the rank of those."""
    matrix, base = np.column_stack(columns) * root[:, None], np.column_stack(own) * root[:, None]
    fitted, _, rank, _ = np.linalg.lstsq(base, matrix, rcond=1e-9)
    return matrix - base @ fitted, int(rank)


def _squares(rest: Floats) -> tuple[float, int]:
    """Sum of squares of the first column that the others leave, and their rank."""
    size = np.sqrt((rest**2).sum(axis=0))
    used = rest[:, 1:][:, size[1:] > 1e-9]
    if not used.shape[1]:
        return float(size[0] ** 2), 0
    fitted, _, rank, _ = np.linalg.lstsq(used, rest[:, 0], rcond=1e-9)
    return float(((rest[:, 0] - used @ fitted) ** 2).sum()), int(rank)


def _on_a_line(x: Floats, z: Floats) -> bool:
    """Whether centred ln lr and ln batch move together, as where one was set from the other."""
    sizes = np.linalg.svd(np.column_stack([x, z]), compute_uv=False)
    return bool(np.ptp(x) > 0 and np.ptp(z) > 0 and sizes[-1] < TIED * sizes[0])


def _flat(
    swept: Sequence[SweptScale],
    noise: float,
    p_value: float | None,
    seed_sd: float | None,
) -> Lack | None:
    """The losses do not tell learning rates apart."""
    spread = max(_spread(scale) for scale in swept)
    within_noise = p_value is not None and p_value > UNTOLD and spread < max(SMALL_SPREAD, 4 * (seed_sd or 0.0))
    if spread >= FLAT_BAND and not within_noise:
        return None
    return Lack(
        code=LackCode.FLAT,
        bearing=Bearing.REFUSES,
        numbers={"spread": digits(spread), "noise": digits(noise), "scales": len(swept)},
        runs=tuple(_beyond(scale, ("low", "high")) for scale in _cheapest_of_sizes(swept)),
    )


def _spread(scale: SweptScale) -> float:
    """Largest range of log loss over learning rates at one batch; over all settings where no batch has two."""
    ranges = [
        float(np.ptp(scale.log_loss[rows]))
        for batch in np.unique(scale.log_batch)
        if (rows := scale.log_batch == batch).sum() > 1
    ]
    return max(ranges) if ranges else float(np.ptp(scale.log_loss))


def _hill(swept: Sequence[SweptScale], noise: float) -> Lack | None:
    """Most sweeps are highest in the middle and lowest at an end, as an accuracy is when it is taken for a loss."""
    told = [scale for scale in swept if len(scale.rates) >= 5]
    hills = []
    for scale in told:
        ends = max(scale.profile[0], scale.profile[-1])
        above = int((np.minimum(scale.profile, scale.profile.min() + CLIP)[1:-1] > ends + CLEAR * noise).sum())
        if above >= 2 and int(np.argmin(scale.profile)) in (0, len(scale.rates) - 1):
            hills.append(scale)
    if 2 * len(hills) <= len(told):
        return None
    return Lack(
        code=LackCode.HILL,
        bearing=Bearing.REFUSES,
        numbers={"hills": len(hills), "scales": len(told)},
        runs=tuple(_beyond(scale, ("low", "high")) for scale in _cheapest_of_sizes(hills)),
    )


def _at_edge(swept: Sequence[SweptScale]) -> Lack | None:
    """Most sweeps fall all the way to one of their ends."""
    edges = [scale.edge for scale in swept]
    open_ = [scale for scale, edge in zip(swept, edges, strict=True) if edge]
    if 2 * len(open_) <= len(swept):
        return None
    return Lack(
        code=LackCode.AT_EDGE,
        bearing=Bearing.EXPLAINS,
        numbers={"low": edges.count("low"), "high": edges.count("high"), "scales": len(swept)},
        runs=tuple(_beyond(scale, (scale.edge,)) for scale in _cheapest_of_sizes(open_)),
    )


def _few_settings(scales: Sequence[SweptScale]) -> Lack | None:
    few = [scale for scale in scales if len(scale.log_lr) < FEW_SETTINGS]
    if 2 * len(few) <= len(scales):
        return None
    return Lack(
        code=LackCode.FEW_SETTINGS,
        bearing=Bearing.EXPLAINS,
        numbers={"few": len(few), "scales": len(scales), "enough": FEW_SETTINGS},
        runs=_around(few),
    )


def batches_at(scale: SweptScale) -> dict[str, Any]:
    """Batches on both sides of the best one, each with learning rates around the best."""
    lr, batch = scale.best
    return {
        "params": scale.params,
        "tokens": scale.tokens,
        "lr": sorted(digits(lr * step) for step in (0.5, 1.0, 2.0)),
        "batch_tokens": sorted(round(batch * step) for step in STEPS if 1 <= batch * step <= scale.tokens),
    }


def _lonely(scales: Sequence[SweptScale]) -> Lack | None:
    """A run so far below all others of its scale that it looks like a mistake: everything hangs on it."""
    found = []
    for scale in scales:
        if len(scale.log_loss) >= LONELY_AMONG:
            lowest, second = np.sort(scale.log_loss)[:2]
            found.append((float(second - lowest), scale))
    gap, scale = max(found, key=lambda row: row[0], default=(0.0, scales[0]))
    if gap <= LONELY_BY:
        return None
    lr, batch = scale.best
    numbers = {"params": scale.params, "tokens": scale.tokens, "lr": digits(lr), "batch_tokens": batch}
    return Lack(
        code=LackCode.LONELY_RUN,
        bearing=Bearing.EXPLAINS,
        numbers={**numbers, "below": digits(np.expm1(gap))},
    )


def _rate_tied_to_batch(swept: Sequence[SweptScale]) -> Lack | None:
    """Every learning rate has its own batch: what one does cannot be told from what the other does."""
    if not all(_on_a_line(s.log_lr - s.log_lr.mean(), s.log_batch - s.log_batch.mean()) for s in swept):
        return None
    return Lack(
        code=LackCode.RATE_TIED_TO_BATCH,
        bearing=Bearing.NOTED,
        numbers={"scales": len(swept)},
        runs=tuple(rates_at(scale, [scale.best[0] * step for step in STEPS]) for scale in _cheapest_of_sizes(swept)),
    )


def _one_batch(scales: Sequence[SweptScale]) -> Lack | None:
    """No scale compares batch sizes."""
    if any(np.ptp(scale.log_batch) > 0 for scale in scales):
        return None
    return Lack(
        code=LackCode.ONE_BATCH,
        bearing=Bearing.NOTED,
        numbers={"scales": len(scales), "batches": len({float(scale.log_batch[0]) for scale in scales})},
        runs=tuple(batches_at(scale) for scale in _cheapest_of_sizes(scales)),
    )


def digits(value: float) -> float:
    """Four digits, as people write settings."""
    return float(f"{value:.4g}")
