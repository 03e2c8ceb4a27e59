"""Our own sweep against sizes it does not hold: predicted from 0.2M to 6.0M parameters, measured at 13M and 24M.

    python -m tests.benchmarks.held_back

The fit sees data/proxy_sweep.csv only. The runs of data/proxy_held_back.csv were trained once the prediction of the
sweep as it was then was known, at it and around it. Every method's choice is scored on them by interpolation, with the
seed that all of them share; second seeds are listed. Where one batch alone was measured, choices near it are scored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

import lawfit
from lawfit.estimate.lr_batch.backtest import ARGMIN, E1, columns_of, published_predictions
from lawfit.estimate.numerics.regression import fit_argmin_ols, fit_e1
from lawfit.estimate.numerics.scoring import ObservedSurface
from lawfit.estimate.observe.observations import observe

DATA = Path(__file__).parents[2] / "data"
SAME_BATCH = 1.25  # batches within this factor count as one where a single batch was measured


def costs(runs: pd.DataFrame, choices: dict[str, tuple[float, float]]) -> dict[str, tuple[float, bool]]:
    """Share of loss above the lowest measured one, and whether the choice lies beyond the runs (then at least that)."""
    batches = runs["batch_size_tokens"].unique()
    if len(batches) > 1:
        surface = ObservedSurface(runs["learning_rate"], runs["batch_size_tokens"], runs["final_loss"])
        scores = {name: surface.regret(*choice) for name, choice in choices.items()}
        return {name: (float(score.regret), bool(score.outside)) for name, score in scores.items()}
    line = runs.sort_values("learning_rate")
    rates, losses = np.log(line["learning_rate"]), line["final_loss"] / line["final_loss"].min() - 1
    return {
        name: (float(np.interp(np.log(lr), rates, losses)), not rates.min() <= np.log(lr) <= rates.max())
        for name, (lr, batch) in choices.items()
        if abs(np.log(batch / batches[0])) < np.log(SAME_BATCH)
    }


def lowest_between(line: pd.DataFrame) -> float:
    """Learning rate at the vertex of a parabola in log lr through the best run of one batch and its two neighbours."""
    line = line.sort_values("learning_rate")
    best = int(np.argmin(line["final_loss"]))
    first = min(max(best - 1, 0), len(line) - 3)
    at = slice(first, first + 3)
    a, b, _ = np.polyfit(np.log(line["learning_rate"][at]), line["final_loss"][at], 2)
    return float(np.exp(-b / (2 * a)))


def main() -> None:
    held_back = pd.read_csv(DATA / "proxy_held_back.csv")
    sweep = lawfit.observe(pd.read_csv(DATA / "proxy_sweep.csv"))
    fit = lawfit.fit(sweep)
    columns = columns_of(observe(sweep.runs))
    held_back["million_tokens"] = held_back["n_tokens"].div(1e6).round()
    for _, runs in held_back.groupby(["n_params", "million_tokens"]):
        params, tokens = float(runs["n_params"].iloc[0]), 1e6 * float(runs["million_tokens"].iloc[0])
        answer = lawfit.predict(fit, params=params, tokens=tokens)
        scored = runs[runs["seed"] == 0]
        best = scored.sort_values("final_loss").iloc[0]
        print(f"{params / 1e6:.1f}M parameters, {tokens / 1e6:.0f}M tokens; measured, nats per token:")
        for row in runs.sort_values(["batch_size_tokens", "learning_rate", "seed"]).itertuples():
            note = f"+{row.final_loss / best['final_loss'] - 1:.2%}" if row.seed == 0 else f"seed {row.seed}"
            print(f"  lr {row.learning_rate:<7g} batch {row.batch_size_tokens:>7,d}  loss {row.final_loss:.4f}  {note}")
        low, high = answer.lr_interval
        print(f"predicted: {answer}")
        valley = lowest_between(scored[scored["batch_size_tokens"] == best["batch_size_tokens"]])
        print(f"lowest at lr {valley:.2g} (parabola through the best run and its neighbours); ", end="")
        print(f"inside {low:.2g} to {high:.2g}: {low <= valley <= high}")

        choices = {"lawfit": (answer.lr, answer.batch_tokens)}
        for name, laws in ((ARGMIN, fit_argmin_ols(columns)), (E1, fit_e1(columns))):
            choices[name] = (
                float(laws.lr.predict(params=params, tokens=tokens)),
                float(laws.batch_tokens.predict(params=params, tokens=tokens)),
            )
        for name, predict in published_predictions().items():
            rates, batches = predict(np.array([params]), np.array([tokens]))
            choices[name] = float(rates[0]), float(batches[0])
        usable = {name: choice for name, choice in choices.items() if np.isfinite(choice).all()}
        print(f"{'cost on the measured runs':<58s}{'lr':>9s}{'batch':>11s}{'cost':>9s}")
        for name, (cost, outside) in sorted(costs(scored, usable).items(), key=lambda item: item[1][0]):
            chosen_lr, chosen_batch = usable[name]
            note = "  at least: beyond the runs" if outside else ""
            print(f"{name:<58s}{chosen_lr:>9.2g}{chosen_batch:>11,.0f}{cost:>9.2%}{note}")
        print()


if __name__ == "__main__":
    main()
