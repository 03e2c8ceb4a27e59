"""The loss at any setting of a scale left out: learning rate, batch, parameters and tokens.

    python -m tests.benchmarks.loss_anywhere [--json FILE]

The 23 public scales of the Step Law study, nothing that was fitted on it lending to the fits. Learned from the scales
below 500M parameters, scored on 537M; from those below 400M, scored on the rest; from the smaller two thirds by params
x tokens, scored on the rest. Scored is every finished run left out (loss below 5), by log loss: R^2 around their mean,
the same with the worst row aside (one run at 537M lies 47 % above its scale's best and drags the first two), and the
share inside the 90 % interval of a single run. Beside it: the law of the loss alone, which knows no setting. By the
distance above the scale's best run it is told where the misses lie. Of that distance itself the share inside the 90 %
interval of the loss given up (`advise.setting_cost`), the noise of a run added: it is part of what is observed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from lawfit.advise.draws import draw_worlds
from lawfit.advise.loss_at_setting import loss_at_settings, off_by_a_share
from lawfit.advise.regret import at_batch, excess_at
from lawfit.estimate.observe.observations import observe
from lawfit.kinds import LOSS
from lawfit.kinds.expected_loss import stored_law
from lawfit.records import Run, RunStatus
from tests.benchmarks.shared import LEVEL, STEP_LAW, STEP_LAW_ALL, Floats, fitted_recipe, step_law_runs, wilson

SMALLER = 2 / 3
DISTANCES = (0.0, 0.005, 0.02, 0.05, np.inf)  # log loss above the scale's best run


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run left out; losses are natural logs of nats per token."""

    params: float
    tokens: float
    lr: float
    batch_tokens: float
    observed: float
    above_best: float
    said: float
    law: float
    low: float
    high: float
    cost_low: float  # of the log loss given up, with the noise of a run
    cost_high: float

    @property
    def inside_cost(self) -> bool:
        return self.cost_low <= self.above_best <= self.cost_high

    @property
    def inside(self) -> bool:
        return self.low <= self.observed <= self.high


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", type=Path, metavar="FILE", help="write every run left out as JSON")
    asked = options.parse_args()
    runs = step_law_runs(STEP_LAW_ALL)
    compute = np.unique([run.params * run.tokens for run in runs])
    largest = compute[round(SMALLER * len(compute)) - 1]
    splits: dict[str, Callable[[Run], bool]] = {
        "below 500M to 537M": lambda run: run.params < 5e8,
        "below 400M to the rest": lambda run: run.params < 4e8,
        "smaller two thirds to the rest": lambda run: run.params * run.tokens <= largest,
    }
    results = {name: score(runs, learned) for name, learned in splits.items()}
    for name, rows in results.items():
        show(name, rows)
    if asked.json:
        document = {name: [asdict(row) for row in rows] for name, rows in results.items()}
        asked.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(
        "\nloss at any setting, R^2, share inside 90 %, and of the loss given up: "
        + "; ".join(
            f"{name} {r_squared(rows, 'said'):.3f}, {np.mean([row.inside for row in rows]):.3f}, "
            f"{np.mean([row.inside_cost for row in rows]):.3f}"
            for name, rows in results.items()
        )
    )


def score(runs: list[Run], learned: Callable[[Run], bool]) -> list[Row]:
    fitted = fitted_recipe([run for run in runs if learned(run)], STEP_LAW)
    law = stored_law(next(fit for fit in fitted.laws if fit.kind == LOSS.id), LEVEL)
    rest = observe([run for run in runs if not learned(run) and run.status is RunStatus.FINISHED])
    found = []
    for cell in range(rest.n_cells):
        params, tokens, rows = float(rest.params[cell]), float(rest.tokens[cell]), rest.rows_of(cell)
        lr, batch = np.exp(rest.log_lr[rows]), np.exp(rest.log_batch[rows])
        said = loss_at_settings(fitted.fit.payload["model"], law, params, tokens, lr=lr, batch_tokens=batch)
        columns = (
            *(lr, batch, rest.log_loss[rows], *np.log([said.value, said.low, said.high])),
            *cost_ends(fitted.fit.payload["model"], params, tokens, rest.log_lr[rows], rest.log_batch[rows]),
        )
        for at_lr, batch_tokens, observed, value, low, high, least, most in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            found.append(
                Row(
                    params=params,
                    tokens=tokens,
                    lr=at_lr,
                    batch_tokens=batch_tokens,
                    observed=observed,
                    above_best=float(observed - rest.lowest_log_loss()[cell]),
                    said=value,
                    law=float(law.log_loss(params, tokens)),
                    low=low,
                    high=high,
                    cost_low=least,
                    cost_high=most,
                )
            )
    return found


def cost_ends(
    model: Mapping[str, Any], params: float, tokens: float, log_lr: Floats, log_batch: Floats
) -> tuple[Floats, Floats]:
    """(runs,) ends of the interval of the log loss given up by each, as a run shows it."""
    worlds = draw_worlds(model, params, tokens)
    cost = np.array(
        [excess_at(at_batch(worlds, b), a, b) for a, b in zip(log_lr.tolist(), log_batch.tolist(), strict=True)]
    )
    noise = model["valley"]["noise"] * np.random.default_rng(0).standard_normal(cost.shape[1])
    low, high = np.quantile(off_by_a_share(model, cost) + noise, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=1)
    return low, high


def r_squared(rows: list[Row], by: str, *, aside: int = 0) -> float:
    """Share of the spread of log loss that is foretold; the errors of the worst rows may be put aside."""
    observed = np.array([row.observed for row in rows])
    squares = np.sort((np.array([getattr(row, by) for row in rows]) - observed) ** 2)
    return float(1 - squares[: len(squares) - aside].sum() / ((observed - observed.mean()) ** 2).sum())


def show(name: str, rows: list[Row]) -> None:
    held = sum(row.inside for row in rows)
    low, high = wilson(held, len(rows))
    print(
        f"\n{name}: {len(rows)} runs at {len({(r.params, r.tokens) for r in rows})} scales\n"
        f"  R^2 of log loss {r_squared(rows, 'said'):.3f} ({r_squared(rows, 'said', aside=1):.3f} with the worst row "
        f"aside); law of the loss alone {r_squared(rows, 'law'):.3f}\n"
        f"  inside the 90 % interval {held / len(rows):.3f} ({low:.3f} to {high:.3f}, were the runs independent), "
        f"median width {np.median([r.high - r.low for r in rows]):.2%} of the loss"
    )
    print(f"  loss given up over the best run: inside {np.mean([row.inside_cost for row in rows]):.3f}")
    for near, far in itertools.pairwise(DISTANCES):
        some = [row for row in rows if near <= row.above_best < far]
        if some:
            error = np.array([row.said - row.observed for row in some])
            inside, given_up = (np.mean([getattr(row, what) for row in some]) for what in ("inside", "inside_cost"))
            print(
                f"    {near:.1%} to {far:.1%} above the best run: {len(some):>4d} runs, inside {inside:.2f} (given up "
                f"{given_up:.2f}), error {error.mean():+.2%} (rms {np.sqrt((error**2).mean()):.2%})"
            )


if __name__ == "__main__":
    main()
