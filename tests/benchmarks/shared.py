"""What the benchmark scripts share: public sweeps as runs, what a fit of some scales answers, and how it is scored."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from lawfit.advise.draws import Worlds, draw_worlds
from lawfit.advise.regret import at_batch, best_setting, expected_regret, lr_given_batch, split_regret
from lawfit.estimate.evidence import Evidence
from lawfit.estimate.lr_batch.analysis import FitOptions, analyse
from lawfit.estimate.numerics.scoring import ObservedSurface, Rule
from lawfit.estimate.observe.observations import Observations
from lawfit.pipeline.fitting import FittedRecipe, fit_evidence
from lawfit.records import Recipe, Run, RunStatus

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

# Step Law was fitted on this very sweep (and more): nothing of it may lend to a fit that is scored here.
STEP_LAW = ("step_law", "step_law_bootstrap", "step_law_given_batch")
STEP_LAW_DENSE = ("step_law_dense.csv",)  # 14 scales of 4 sizes
STEP_LAW_ALL = ("step_law_dense.csv", "step_law_more_scales.csv")  # 23 scales of 5 sizes
LEVEL = 0.9  # of every interval that is judged


def shared_file(name: str) -> Path:
    """A file of the shared public data; exits with a sentence on a machine without it."""
    root = Path(os.environ.get("LAWFIT_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = root / "public" / name
    if not path.is_file():
        sys.exit(f"{path} is not there; set LAWFIT_SHARED_DATA to the folder that holds public/{name}")
    return path


def step_law_runs(files: Sequence[str] = STEP_LAW_DENSE) -> list[Run]:
    """The runs of the study's files in their order; the loss is the smoothed one."""
    runs = []
    for name in files:
        with shared_file(name).open(newline="") as file:
            for row in csv.DictReader(file):
                diverged = row["diverged"] == "1"
                runs.append(
                    Run(
                        run_key=row["run_id"],
                        params=float(row["n_params"]),
                        tokens=float(row["n_tokens"]),
                        batch_tokens=float(row["batch_size_tokens"]),
                        lr=float(row["learning_rate"]),
                        status=RunStatus.DIVERGED if diverged else RunStatus.FINISHED,
                        loss=None if diverged else float(row["smooth_loss"]),
                    )
                )
    return runs


def step_law_splits(observed: Observations) -> dict[str, list[Ints]]:
    """Of the dense grid: which cells each round learns from; the others are scored."""
    order = np.argsort(observed.params * observed.tokens)
    return {
        "leave one N out": [np.flatnonzero(observed.params != size) for size in np.unique(observed.params)],
        "9 cells -> 5 larger": [np.sort(order[:9])],
        "7 cells -> 7 larger": [np.sort(order[:7])],
    }


def yardstick(runs: list[Run], observed: Observations, rule: Rule = "triangles") -> dict[int, ObservedSurface]:
    """Observed surfaces of the cells, rows in the file's order (on which the triangles depend)."""
    columns = np.array(
        [(r.params, r.tokens, r.lr, r.batch_tokens, np.nan if r.loss is None else r.loss) for r in runs], dtype=float
    )
    found = {}
    for cell in range(observed.n_cells):
        near = np.abs(np.log(columns[:, :2] / [observed.params[cell], observed.tokens[cell]])).max(axis=1) < 0.01
        rows = columns[near]
        found[cell] = ObservedSurface(rows[:, 2], rows[:, 3], rows[:, 4], rule=rule)
    return found


def fitted_model(observed: Observations, without_laws: Sequence[str] = ()) -> Mapping[str, Any]:
    """What a stored fit predicts learning rate and batch from; every choice is made inside these observations."""
    return analyse(observed, FitOptions(without_laws=tuple(without_laws), backtest=False)).payload["model"]


def fitted_recipe(runs: Sequence[Run], without_laws: Sequence[str] = ()) -> FittedRecipe:
    """Every law of the runs, as they are stored; without a backtest, which answers nothing."""
    options = FitOptions(without_laws=tuple(without_laws), backtest=False)
    return fit_evidence(Recipe(name="benchmark"), Evidence(runs=runs), options=options)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What `lawfit predict` says at one scale with the batch left free; logs are natural, of (lr, tokens per step)."""

    setting: tuple[float, float]  # recommended: the smallest expected cost
    centre: tuple[float, float]  # the central optimum, not shaded for risk
    low: tuple[float, float]  # `LEVEL` interval of the optimum
    high: tuple[float, float]
    stated: float  # expected share of loss given up at `setting`
    worlds: Worlds

    @property
    def width(self) -> tuple[float, float]:
        return self.high[0] - self.low[0], self.high[1] - self.low[1]

    def holds(self, log_lr: float, log_batch: float) -> tuple[bool, bool]:
        optimum = (log_lr, log_batch)
        return self.low[0] <= optimum[0] <= self.high[0], self.low[1] <= optimum[1] <= self.high[1]


def answer_at(model: Mapping[str, Any], params: float, tokens: float) -> Answer:
    """The answer of a fitted model at one scale."""
    worlds = draw_worlds(model, params, tokens)
    setting = best_setting(worlds)
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    (lr_low, lr_high), (batch_low, batch_high) = (np.quantile(x, tails) for x in (worlds.log_lr, worlds.log_batch))
    return Answer(
        setting=setting,
        centre=(worlds.centre_log_lr, worlds.centre_log_batch),
        low=(float(lr_low), float(batch_low)),
        high=(float(lr_high), float(batch_high)),
        stated=expected_regret(worlds, *setting),
        worlds=worlds,
    )


@dataclass(frozen=True, kw_only=True)
class AnswerAtBatch:
    """What `lawfit predict --batch-tokens` says of the learning rate."""

    log_lr: float  # recommended
    low: float  # `LEVEL` interval of ln of the best learning rate at the batch
    high: float
    stated: float  # expected share of loss that the best learning rate at this batch would save


def answer_at_batch(model: Mapping[str, Any], params: float, tokens: float, batch_tokens: float) -> AnswerAtBatch:
    """The answer of a fitted model at one scale with the batch given."""
    worlds, log_batch = draw_worlds(model, params, tokens), float(np.log(batch_tokens))
    low, high = np.quantile(lr_given_batch(worlds, log_batch), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    worlds = at_batch(worlds, log_batch)
    log_lr = best_setting(worlds, log_batch)[0]
    stated, _ = split_regret(worlds, log_lr, log_batch)
    return AnswerAtBatch(log_lr=log_lr, low=float(low), high=float(high), stated=stated)


def interval_score(low: float, high: float, value: float) -> float:
    """Width and, where the value lies outside, 2 / (1 - level) times the miss (Gneiting and Raftery 2007, eq. 43)."""
    return high - low + 2 / (1 - LEVEL) * max(low - value, value - high, 0.0)


def mean_and_error(values: Sequence[float] | Floats) -> tuple[float, float]:
    """Mean and its standard error; NaN for the error of a single value."""
    each = np.asarray(values, dtype=float)
    return float(each.mean()), float(each.std(ddof=1) / len(each) ** 0.5) if len(each) > 1 else float("nan")


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Bounds of a share at 95 % (Wilson 1927)."""
    found = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)
