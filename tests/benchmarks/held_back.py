"""Our own sweep against a size it does not hold: predicted from 0.2M to 6.0M parameters, measured at 24M.

    python -m tests.benchmarks.held_back

The fit sees data/proxy_sweep.csv only. The runs of data/proxy_held_back.csv (24M parameters, 120M tokens) were trained
after its prediction was known, at it and around it; every method's choice is scored on them by interpolation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

import lawfit
from lawfit.estimate.backtest import ARGMIN, E1, columns_of, published_predictions
from lawfit.estimate.observations import observe
from lawfit.estimate.regression import fit_argmin_ols, fit_e1
from lawfit.estimate.scoring import ObservedSurface

DATA = Path(__file__).parents[2] / "data"


def main() -> None:
    held_back = pd.read_csv(DATA / "proxy_held_back.csv")
    params, tokens = float(held_back["n_params"].iloc[0]), 120e6
    sweep = lawfit.observe(pd.read_csv(DATA / "proxy_sweep.csv"))
    answer = lawfit.predict(lawfit.fit(sweep), params=params, tokens=tokens)
    surface = ObservedSurface(held_back["learning_rate"], held_back["batch_size_tokens"], held_back["final_loss"])
    print(f"{params / 1e6:.1f}M parameters, {tokens / 1e6:.0f}M tokens; measured, nats per token:")
    for row in held_back.sort_values(["batch_size_tokens", "learning_rate"]).itertuples():
        cost = row.final_loss / surface.lowest_loss - 1
        print(
            f"  lr {row.learning_rate:<7g} batch {row.batch_size_tokens:>7,d}  loss {row.final_loss:.4f}  +{cost:.2%}"
        )
    low, high = answer.lr_interval
    print(f"predicted: {answer}")
    print(f"best measured lr inside the interval {low:.2g} to {high:.2g}: {low <= surface.best_lr <= high}\n")

    columns = columns_of(observe(sweep.runs))
    choices = {"lawfit": (answer.lr, answer.batch_tokens)}
    for name, laws in ((ARGMIN, fit_argmin_ols(columns)), (E1, fit_e1(columns))):
        choices[name] = tuple(float(law.predict(params=params, tokens=tokens)) for law in (laws.lr, laws.batch_tokens))
    for name, predict in published_predictions().items():
        lr, batch = predict(np.array([params]), np.array([tokens]))
        choices[name] = float(lr[0]), float(batch[0])
    scored = {name: surface.regret(*choice) for name, choice in choices.items() if np.isfinite(choice).all()}
    print(f"{'cost on the measured runs':<58s}{'lr':>9s}{'batch':>11s}{'cost':>9s}")
    for name, score in sorted(scored.items(), key=lambda item: float(item[1].regret)):
        lr, batch = choices[name]
        note = "  at least: beyond the runs" if bool(score.outside) else ""
        print(f"{name:<58s}{lr:>9.2g}{batch:>11,.0f}{float(score.regret):>9.2%}{note}")


if __name__ == "__main__":
    main()
