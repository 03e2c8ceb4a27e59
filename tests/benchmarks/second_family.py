"""A second family of runs: the optimizers of Marin's sweep, at sizes that were left out.

    python -m tests.benchmarks.second_family [--scales] [--json FILE]

marin_optimizer_sweep.csv (arXiv:2509.02046): a dozen optimizers, each a recipe of its own; 134M to 1.2B parameters at 1
to 16 times 20 tokens per parameter. Its authors varied one hyperparameter at a time around a tuned centre, so no grid
exists. Of each optimizer and scale, the runs taken are those in which every setting but learning rate and batch has its
modal value, the combination under which most learning rates were run: a sweep of learning rates (a factor 2 apart) at
one batch, and a few other batches at one rate. Weight decay is part of that centre, tuned per scale, and is not told to
the fit. For Muon, Scion and MuDAM the learning rate is that of the matrices.

Each size is left out, where two or more sizes and five or more scales remain. Scored are the sweeps of the size left
out that hold three or more finished learning rates: cost of the rate that a method says at the sweep's batch, by linear
interpolation of the observed loss in ln lr (at the sweep's end beyond it), against the lowest loss of the sweep. Beside
ours: power laws in parameters and tokens by OLS, through the best run of each sweep, and through the vertex of a
parabola in ln lr where a sweep brackets one (else its best run). Differences to argmin + OLS carry standard errors
paired over sweeps. The 90 % interval at the batch is judged by the parabola's vertex where the sweep left out brackets
one: steps of a factor 2 place it to some 0.2 in ln, so a miss by less is no miss of the interval alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from lawfit.errors import LawfitError
from lawfit.estimate.lr_batch.backtest import ARGMIN, OURS
from lawfit.estimate.numerics.regression import fit_power_law
from lawfit.estimate.numerics.sweeps import sweep_parabola
from lawfit.estimate.observe.observations import observe
from lawfit.records import OptimumStatus, Run, RunStatus
from tests.benchmarks.shared import (
    Floats,
    answer_at_batch,
    fitted_model,
    interval_score,
    mean_and_error,
    shared_file,
)

PARABOLA = "parabola + OLS"
METHODS = (OURS, ARGMIN, PARABOLA)
CENTRE = (
    "weight_decay", "beta1", "beta2", "epsilon", "max_grad_norm", "warmup_steps", "min_lr_ratio", "other_hparams",
)  # fmt: skip
FEWEST_RATES = 3  # of a sweep that is scored
FEWEST_SIZES, FEWEST_SCALES = 2, 5  # that a fit learns from


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Runs of one optimizer at one scale, and its sweep of learning rates at one batch."""

    params: float
    tokens: float
    runs: tuple[Run, ...]
    batch_tokens: float  # of the sweep
    lr: Floats  # (rates,) finished ones, ascending
    loss: Floats
    tried: Floats  # with the diverged ones
    tried_loss: Floats  # NaN where diverged

    def cost(self, lr: float) -> float:
        return float(np.interp(np.log(lr), np.log(self.lr), self.loss) / self.loss.min() - 1)

    @property
    def best(self) -> float:
        return float(self.lr[int(np.argmin(self.loss))])

    @property
    def vertex(self) -> float | None:
        """Learning rate at the lowest point of a parabola; None where the sweep brackets none."""
        found = sweep_parabola(self.tried, self.tried_loss)
        return found.value if found.status is OptimumStatus.INSIDE else None


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One sweep that was left out; interval and vertex in ln lr."""

    optimizer: str
    params: float
    tokens: float
    cost: dict[str, float]
    low: float
    high: float
    vertex: float | None
    stated: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--scales", action="store_true", help="a line for every sweep too")
    options.add_argument("--json", type=Path, metavar="FILE", help="write every sweep that was scored as JSON")
    asked = options.parse_args()
    found: list[Scored] = []
    for optimizer, scales in read().items():
        found += leave_sizes_out(optimizer, scales)
    for optimizer in sorted({each.optimizer for each in found}):
        show(optimizer, [each for each in found if each.optimizer == optimizer], each=asked.scales)
    show("all optimizers", found, each=False)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n", encoding="utf-8")
    means = ", ".join(f"{method} {100 * np.mean([s.cost[method] for s in found]):.3f}" for method in METHODS)
    judged = [s for s in found if s.vertex is not None]
    held = sum(s.low <= s.vertex <= s.high for s in judged)
    print(f"second family, mean cost in %: {means}; 90 % intervals hold {held} of {len(judged)}")


def read() -> dict[str, list[Scale]]:
    """optimizer -> its scales."""
    cells = defaultdict(list)
    with shared_file("marin_optimizer_sweep.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["has_result"] == "1":
                cells[row["optimizer"], float(row["n_params"]), row["chinchilla_ratio"]].append(row)
    found = defaultdict(list)
    for (optimizer, params, _), rows in sorted(cells.items()):
        by_centre = defaultdict(list)
        for row in rows:
            by_centre[tuple(row[name] for name in CENTRE)].append(row)
        most = max(by_centre.values(), key=lambda group: max(map(len, _rates_by_batch(group).values())))
        by_batch = _rates_by_batch(most)
        batch = max(by_batch, key=lambda key: len(by_batch[key]))
        tried = np.array(sorted(by_batch[batch]))
        losses = np.array([by_batch[batch][lr] for lr in tried])
        done = np.isfinite(losses)
        if done.any():
            found[optimizer].append(
                Scale(
                    params=params,
                    tokens=float(np.median([float(row["n_tokens"]) for row in most])),
                    runs=tuple(_run(row) for row in most),
                    batch_tokens=batch,
                    lr=tried[done],
                    loss=losses[done],
                    tried=tried,
                    tried_loss=losses,
                )
            )
    return found


def _rates_by_batch(rows: Sequence[dict[str, str]]) -> dict[float, dict[float, float]]:
    """batch -> learning rate -> loss, NaN where it diverged."""
    found: dict[float, dict[float, float]] = defaultdict(dict)
    for row in rows:
        loss = np.nan if row["diverged"] == "1" else float(row["final_loss"])
        found[float(row["batch_size_tokens"])][float(row["learning_rate"])] = loss
    return found


def _run(row: dict[str, str]) -> Run:
    diverged = row["diverged"] == "1"
    return Run(
        run_key=row["run_id"],
        params=float(row["n_params"]),
        tokens=float(row["n_tokens"]),
        batch_tokens=float(row["batch_size_tokens"]),
        lr=float(row["learning_rate"]),
        status=RunStatus.DIVERGED if diverged else RunStatus.FINISHED,
        loss=None if diverged else float(row["final_loss"]),
    )


def leave_sizes_out(optimizer: str, scales: Sequence[Scale]) -> list[Scored]:
    found = []
    for size in sorted({scale.params for scale in scales}):
        kept = [scale for scale in scales if scale.params != size]
        left = [scale for scale in scales if scale.params == size and len(scale.lr) >= FEWEST_RATES]
        if not left or len({scale.params for scale in kept}) < FEWEST_SIZES or len(kept) < FEWEST_SCALES:
            continue
        inputs = {"params": [s.params for s in kept], "tokens": [s.tokens for s in kept]}
        lines = {
            ARGMIN: fit_power_law([s.best for s in kept], inputs),
            PARABOLA: fit_power_law([s.vertex or s.best for s in kept], inputs),
        }
        try:
            model = fitted_model(observe([run for scale in kept for run in scale.runs]))
        except LawfitError as error:
            print(f"{optimizer} without {size / 1e6:.0f}M is refused: {error}")
            continue
        for scale in left:
            answer = answer_at_batch(model, scale.params, scale.tokens, scale.batch_tokens)
            said = {name: float(law.predict(params=size, tokens=scale.tokens)) for name, law in lines.items()}
            said[OURS] = float(np.exp(answer.log_lr))
            found.append(
                Scored(
                    optimizer=optimizer,
                    params=size,
                    tokens=scale.tokens,
                    cost={name: scale.cost(lr) for name, lr in said.items()},
                    low=answer.low,
                    high=answer.high,
                    vertex=None if scale.vertex is None else float(np.log(scale.vertex)),
                    stated=answer.stated,
                )
            )
    return found


def show(name: str, found: Sequence[Scored], *, each: bool) -> None:
    print(f"\n{name} ({len(found)} sweeps, {len({s.params for s in found})} sizes left out)")
    base = np.array([scored.cost[ARGMIN] for scored in found])
    for method in METHODS:
        cost = np.array([scored.cost[method] for scored in found])
        mean, error = mean_and_error(cost - base)
        apart = "" if method == ARGMIN else f", over {ARGMIN} {100 * mean:+.3f} +- {100 * error:.3f}"
        print(f"  {method:<16s}mean {100 * cost.mean():.3f} %, worst {100 * cost.max():.3f} %{apart}")
    judged = [scored for scored in found if scored.vertex is not None]
    if judged:
        held = sum(scored.low <= scored.vertex <= scored.high for scored in judged)
        points = np.mean([interval_score(scored.low, scored.high, scored.vertex) for scored in judged])
        print(
            f"  90 % interval holds {held} of {len(judged)} vertices, mean width "
            f"{np.mean([s.high - s.low for s in judged]):.2f}, mean interval score {points:.2f} (ln); stated cost "
            f"{100 * np.mean([s.stated for s in found]):.3f} %"
        )
    for scored in found if each else ():
        vertex = "no vertex" if scored.vertex is None else f"vertex {np.exp(scored.vertex):.2g}"
        print(
            f"    {scored.params / 1e6:>4.0f}M on {scored.tokens / 1e9:>4.1f}B  "
            + ", ".join(f"{method} {100 * scored.cost[method]:.3f}" for method in METHODS)
            + f"; {vertex}, interval {np.exp(scored.low):.2g} to {np.exp(scored.high):.2g}"
        )


if __name__ == "__main__":
    main()
