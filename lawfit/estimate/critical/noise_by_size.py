"""E6 beside E4: the gradient noise scale of each model size, and how many times it the measured critical batch is.

The noise scale falls with the learning rate and moves along a run, so one number per size needs a rule: at each batch
the run of the lowest loss, the second half of it, and the geometric mean over batches. It says how noisy the gradient
is, not how batches pay: under Adam it was found orders of magnitude off (arXiv 2505.23971). So it never answers; the
factor between the two is measured and said, and whether it is the same at every size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError
from lawfit.estimate.critical.batch import CriticalBatch
from lawfit.estimate.critical.noise_scale import fit_noise_scale
from lawfit.estimate.numerics.optimum_law import SCATTER_PRIOR
from lawfit.estimate.numerics.sweeps import same_value
from lawfit.findings import Finding, Found, finding
from lawfit.laws.lent import critical_exponents
from lawfit.records import Run

Floats = NDArray[np.float64]

LEVEL: Final = 0.9
COLUMN: Final = "noise_scale_tokens"  # of a table of runs: what the trainer computes over the second half of a run
SQUARES: Final = ("grad_sq", "grad_sq_double")  # curves: squared gradient norms at one batch and at two
_WIDENING: Final = 2.0  # of the exponent that is lent: along one size it may be another one than across sizes
_BLOCKS: Final = 4  # thinned curves hold few points
_ALONE_SD: Final = 0.3  # of ln noise scale, where one batch alone tells it: what batches of our own sizes differ by


@dataclass(frozen=True, kw_only=True)
class NoiseOfSize:
    """The noise scale of one model size, near the best learning rate of each batch."""

    params: float
    tokens: float  # horizon of its runs; the second half of them was looked at
    value_tokens: float
    log_sd: float  # of the mean over batches
    batches: int


@dataclass(frozen=True, kw_only=True)
class NoiseFactor:
    """Measured critical batch over noise scale."""

    sizes: tuple[NoiseOfSize, ...]  # those that have a critical batch too
    factors: tuple[float, ...]  # of each
    value: float  # geometric mean
    low: float  # of a 90 % interval for a further size
    high: float
    growth: tuple[float, float, float] | None  # ln factor per ln params: estimate and ends; None: one size

    @property
    def steady(self) -> bool:
        """Whether the sizes leave room for one factor at all of them."""
        return self.growth is None or self.growth[1] <= 0 <= self.growth[2]

    def words(self) -> Finding:
        """The noise scale of the sizes, and how many times it the critical batch is."""
        return finding("critical.noise", steady=self.steady, **asdict(self))

    def to_json(self) -> dict[str, Any]:
        return {
            "sizes": [vars(size).copy() for size in self.sizes],
            "factors": list(self.factors),
            "factor": {"value": self.value, "low": self.low, "high": self.high, "level": LEVEL},
            "growth": None if self.growth is None else list(self.growth),
            "steady": self.steady,
            "words": self.words(),
        }


def noise_by_size(
    runs: Sequence[Run],
    squares: Mapping[str, tuple[Floats, Floats, Floats]] | None = None,
    until: Mapping[str, float] | None = None,
) -> tuple[NoiseOfSize, ...]:
    """Noise scales of the sizes whose runs have one, ascending.

    Parameters
    ----------
    runs : with `COLUMN` among their further columns, or
    squares : run_key -> (steps, squared norms at one batch, at two); used where a run's table has no noise scale
    until : run_key -> steps up to which its learning rate is at the peak (infinite: to the end); runs that it lacks
        have no noise scale. None: all runs to their ends
    """
    found = []
    ends = {run.run_key: float("inf") for run in runs} if until is None else until
    scored = [
        (run, value)
        for run in runs
        if run.loss is not None and run.run_key in ends
        if (value := _of_run(run, squares or {}, ends[run.run_key])) is not None
    ]
    sizes = np.array([run.params for run, _ in scored])
    for index in range(same_value(sizes).max(initial=-1) + 1 if len(sizes) else 0):
        mine = [pair for pair, i in zip(scored, same_value(sizes), strict=True) if i == index]
        batches: dict[int, tuple[float, float]] = {}
        of_batch = same_value(np.array([run.batch_tokens for run, _ in mine]))
        for (run, value), batch in zip(mine, of_batch.tolist(), strict=True):
            loss = float(run.loss or np.inf)
            if batch not in batches or loss < batches[batch][0]:
                batches[batch] = (loss, float(np.log(value)))
        logs = np.array([value for _, value in batches.values()])
        found.append(
            NoiseOfSize(
                params=float(np.median([run.params for run, _ in mine])),
                tokens=float(np.median([run.tokens for run, _ in mine])),
                value_tokens=float(np.exp(logs.mean())),
                log_sd=float(logs.std(ddof=1) / np.sqrt(len(logs))) if len(logs) > 2 else _ALONE_SD,
                batches=len(logs),
            )
        )
    return tuple(sorted(found, key=lambda size: size.params))


def unsteady_noise(
    runs: Sequence[Run],
    until: Mapping[str, float],
    squares: Mapping[str, tuple[Floats, Floats, Floats]] | None = None,
) -> list[Found]:
    """A note where noise scales of a table cannot be used: they are means over a falling learning rate."""
    left = [
        run
        for run in runs
        if run.extra.get(COLUMN) and np.isfinite(until.get(run.run_key, 0.0)) and run.run_key not in (squares or {})
    ]
    return [finding("critical.unsteady_noise", column=COLUMN, runs=len(left))] if left else []


def noise_factor(
    sizes: Sequence[NoiseOfSize], measured: Sequence[CriticalBatch], without_laws: Sequence[str] = ()
) -> NoiseFactor | None:
    """How many times the noise scale the critical batch is; None where no size has both.

    A size's critical batches are carried to the most tokens among them, next to the half of the runs over which the
    noise scale is averaged. `without_laws` lend no exponent for that (`laws.lenders`).
    """
    from scipy.stats import t

    log_ratio, sd, both = [], [], []
    for size in sizes:
        here = [
            c for c in measured if c.params and abs(np.log(c.params / size.params)) < 0.01 and np.isfinite(c.log_sd)
        ]
        if here:
            log_value, log_sd = _at_most_tokens(here, without_laws)
            log_ratio.append(log_value - np.log(size.value_tokens))
            sd.append(np.hypot(log_sd, size.log_sd))
            both.append(size)
    if not both:
        return None
    y, s, x = np.array(log_ratio), np.array(sd), np.log([size.params for size in both])
    mean = float(y.mean())
    spread = float(np.sqrt((s**2).mean() + (y.var(ddof=1) if len(y) > 1 else 0.0)))
    reach = float(t.ppf(0.5 + LEVEL / 2, max(len(y) - 1, 2))) * spread * float(np.sqrt(1 + 1 / len(y)))
    growth = None
    if len(y) > 1:
        apart = x - x.mean()
        slope = float(apart @ y / (apart @ apart))
        variance = s**2 + SCATTER_PRIOR**2  # sizes do not lie exactly on one line either
        chi = float(((y - mean - slope * apart) ** 2 / variance).sum()) / (len(y) - 2) if len(y) > 2 else 1.0
        error = float(np.sqrt((apart**2) @ variance * max(chi, 1.0)) / (apart @ apart)) * 1.645
        growth = (slope, slope - error, slope + error)
    return NoiseFactor(
        sizes=tuple(both),
        factors=tuple(float(f) for f in np.exp(y)),
        value=float(np.exp(mean)),
        low=float(np.exp(mean - reach)),
        high=float(np.exp(mean + reach)),
        growth=growth,
    )


def _at_most_tokens(measured: Sequence[CriticalBatch], without_laws: Sequence[str]) -> tuple[float, float]:
    """Log of a size's critical batch at the most tokens among its measurements, and its standard error.

    A line in log tokens through all of them, its exponent held near that of published laws; read off the same runs,
    they count as one.
    """
    tokens, values, sd = np.array([(c.tokens, c.value_tokens, c.log_sd) for c in measured]).T
    design = np.column_stack([np.ones(len(sd)), np.log(tokens / tokens.max())])
    weight = 1 / (len(sd) * np.maximum(sd, 1e-6) ** 2)
    exponent, doubt = critical_exponents(("tokens",), without_laws, widening=_WIDENING)["tokens"].gaussian
    covariance = np.linalg.inv(design.T @ (design * weight[:, None]) + np.diag([0.0, doubt**-2]))
    line = covariance @ (design.T @ (weight * np.log(values)) + [0.0, exponent / doubt**2])
    return float(line[0]), float(np.sqrt(covariance[0, 0]))


def _of_run(run: Run, squares: Mapping[str, tuple[Floats, Floats, Floats]], end: float) -> float | None:
    """Over the second half of the steps up to `end`."""
    try:
        stated = float(run.extra.get(COLUMN) or "nan")
    except (TypeError, ValueError):
        stated = float("nan")
    if np.isfinite(stated) and stated > 0 and np.isinf(end):  # it is of the run's second half, fallen rate or not
        return stated
    if run.run_key not in squares:
        return None
    steps, small, large = squares[run.run_key]
    steady = steps <= end
    half = steady & (steps > 0.5 * steps[steady].max(initial=0.0))
    try:
        return fit_noise_scale(
            small[half], large[half], run.batch_tokens, 2 * run.batch_tokens, blocks=_BLOCKS
        ).value_tokens
    except FitError:
        return None
