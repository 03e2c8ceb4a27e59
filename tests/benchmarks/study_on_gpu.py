"""A study on a GPU, from an empty database to an answer, and what that answer was worth at the size it was for.

    python -m tests.benchmarks.study_on_gpu [--resamples 2000] [--seed 0]

`lawfit study run` was asked for 12M parameters on 200M tokens (data/proxy_study.json has all that it kept); the runs
that it had made are data/proxy_study.csv. Then nine settings around its answer, a factor of two apart, were trained at
that size, three of them with two seeds: data/proxy_study_target.csv. Printed are the rounds (what each was planned to
cost and did, what it promised and got), and what the answer of a fit of the study's runs costs at the target, by a
quadratic in (ln lr, ln batch) through ln loss of all runs there, beside other rules on the same runs.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import pandas as pd

import lawfit
from lawfit.estimate.lr_batch.backtest import ARGMIN, E1, columns_of
from lawfit.estimate.numerics.regression import fit_argmin_ols, fit_e1
from lawfit.estimate.observe.observations import observe
from tests.benchmarks.own_unseen import DATA, choices
from tests.benchmarks.shared import Floats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    show_rounds()
    study = lawfit.observe(pd.read_csv(DATA / "proxy_study.csv"))
    fit, columns = lawfit.fit(study), columns_of(observe(study.runs))
    laws = {ARGMIN: fit_argmin_ols(columns), E1: fit_e1(columns)}
    runs = pd.read_csv(DATA / "proxy_study_target.csv")
    params, tokens = float(runs["n_params"].iloc[0]), float(runs["n_tokens"].median())
    answer = lawfit.predict(fit, params=params, tokens=tokens)
    optima, bends = quadratics(runs, np.random.default_rng(options.seed), options.resamples)
    low, high = np.exp(np.quantile(optima, [0.05, 0.95], axis=0))
    best = np.exp(optima[0])
    print(f"\nBest at the target by {len(runs)} runs: lr {best[0]:.3g} ({low[0]:.3g} to {high[0]:.3g}),", end=" ")
    print(f"batch {best[1]:,.0f} ({low[1]:,.0f} to {high[1]:,.0f}); {len(optima) - 1} refits have a minimum")
    (lr_low, lr_high), (batch_low, batch_high) = answer.lr_interval, answer.batch_interval
    print(f"Said: lr {answer.lr:.3g} ({lr_low:.3g} to {lr_high:.3g}),", end=" ")
    print(f"batch {answer.batch_tokens:,.0f} ({batch_low:,.0f} to {batch_high:,.0f});", end=" ")
    print(f"stated cost {100 * answer.document['expected_regret']['loss_fraction']:.2f} %")
    for name, setting in choices(answer, laws, params, tokens).items():
        u, v = (np.log(setting) - optima).T
        costs = 100 * np.expm1(bends[:, 0] * u**2 + bends[:, 1] * u * v + bends[:, 2] * v**2)
        low, high = np.quantile(costs, [0.05, 0.95])
        print(f"  {name[:51]:<52s}{setting[0]:>9.2g}{setting[1]:>10,.0f}{costs[0]:>8.2f} % ({low:.2f} to {high:.2f})")


def quadratics(runs: pd.DataFrame, rng: np.random.Generator, resamples: int) -> tuple[Floats, Floats]:
    """Optima (1 + refits, 2) and bends (1 + refits, 3) of quadratics through ln loss.

    Of refits in which what is left over changes its sign run by run, those that have a minimum.
    """
    log = np.log(runs[["learning_rate", "batch_size_tokens"]].to_numpy(float))
    centre = log.mean(0)
    u, v = (log - centre).T
    x = np.column_stack([np.ones_like(u), u, v, u**2, u * v, v**2])
    y, solve = np.log(runs["final_loss"].to_numpy(float)), np.linalg.pinv(x)
    rest = (y - x @ solve @ y) * np.sqrt(len(y) / (len(y) - x.shape[1]))
    found = np.vstack([y, x @ solve @ y + rng.choice([-1.0, 1.0], (resamples, len(y))) * rest]) @ solve.T
    a, b, c = found[:, 3:].T
    bend = np.stack([np.stack([2 * a, b], 1), np.stack([b, 2 * c], 1)], 1)
    good = np.linalg.eigvalsh(bend)[:, 0] > 0
    assert good[0]
    return -np.linalg.solve(bend[good], found[good, 1:3, None])[..., 0] + centre, found[good, 3:]


def show_rounds() -> None:
    study = json.loads((DATA / "proxy_study.json").read_text(encoding="utf-8"))
    print("round  runs  GPU-hours planned, took   lr within before, promised, got   regret before, promised, got, %")
    for each in study["rounds"]:
        at = [each[name] for name in ("before", "promised", "got")]
        lr = ", ".join(f"x{there['lr_factor']:.2f}" for there in at)
        regret = ", ".join(f"{100 * there['expected_regret']:.2f}" for there in at)
        plan, made = each["plan"]["cost"], each["made"]
        print(f"{each['number']:>5d}{made['runs']:>6d}{plan:>13.4f}, {made['gpu_hours']:.4f}{'':>13s}{lr:<32s}{regret}")


if __name__ == "__main__":
    main()
