"""An idea that is not in lawfit: pulling answers towards where published laws have the optimum at the target.

    python -m tests.benchmarks.level_at_target [--pool own|step_law]

A fit hears the level that published laws lend where its runs lie, not what they say at the target itself. Here the
answer is pulled towards that, as a second measurement would: by the fit's covariance of the optimum over that plus the
laws' own spread, which is widened by how far the runs lie off these laws (conflict, once or twice). Cost over the
lowest run, mean over the scales left out, and its difference to the answer as it is, paired.

Pool `own`: data/proxy_sweep.csv, each size left out, and upward from the smaller half, two thirds and third of its
scales; `step_law`: the public scales of `unseen_scales`, that study's law withheld.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

import lawfit
from lawfit.estimate.numerics.scoring import ObservedSurface
from lawfit.estimate.observe.observations import Observations, observe
from lawfit.laws.priors import level_prior
from tests.benchmarks.own_unseen import DATA, WEIGHT_DECAY
from tests.benchmarks.shared import (
    STEP_LAW,
    STEP_LAW_ALL,
    Floats,
    Ints,
    answer_at,
    fitted_model,
    mean_and_error,
    step_law_runs,
    yardstick,
)

WAYS = {"as it is": None, "pulled": 0.0, "conflict once": 1.0, "conflict twice": 2.0}


def laws_at(params: float, tokens: float, without: Sequence[str]) -> tuple[Floats, Floats]:
    """(2,) ln of the learning rate and batch that published laws give, and their variances."""
    levels = [level_prior(name, params, tokens, without=without) for name in ("lr", "batch_tokens")]
    return np.array([level.log_mean for level in levels]), np.array([level.log_sd**2 for level in levels])


def pulled(
    model: Mapping[str, Any], params: float, tokens: float, times: float | None, without: Sequence[str]
) -> Floats:
    """(2,) ln of the setting to use."""
    answer = answer_at(model, params, tokens)
    if times is None:
        return np.array(answer.setting)
    middle = np.exp(model["centre"])
    conflict = np.array(answer_at(model, *middle).centre) - laws_at(*middle, without)[0]
    known = np.cov([answer.worlds.log_lr, answer.worlds.log_batch])
    mean, variance = laws_at(params, tokens, without)
    toward = known @ np.linalg.inv(known + np.diag(variance + (times * conflict) ** 2))
    return np.array(answer.setting) + toward @ (mean - np.array(answer.centre))


def score(
    observed: Observations, surfaces: Mapping[int, ObservedSurface], rounds: Sequence[Ints], without: Sequence[str]
) -> Floats:
    """(scales left out, ways) cost, %."""
    rows = []
    for kept in rounds:
        model = fitted_model(observed.subset(kept), without)
        for cell in np.setdiff1d(np.arange(observed.n_cells), kept):
            at = float(observed.params[cell]), float(observed.tokens[cell])
            settings = [np.exp(pulled(model, *at, times, without)) for times in WAYS.values()]
            rows.append([100 * surfaces[int(cell)].regret(*setting).regret for setting in settings])
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", choices=["own", "step_law"], default="own")
    pool = parser.parse_args().pool
    if pool == "own":
        sweep = pd.read_csv(DATA / "proxy_sweep.csv")
        runs, without = list(lawfit.observe(sweep[sweep["weight_decay"] == WEIGHT_DECAY]).runs), ()
    else:
        runs, without = step_law_runs(STEP_LAW_ALL), STEP_LAW
    observed = observe(runs)
    order, count = np.argsort(observed.params * observed.tokens), observed.n_cells
    splits = {"each size left out": [np.flatnonzero(observed.params != size) for size in np.unique(observed.params)]}
    if pool == "own":
        shares = {"smaller half": 1 / 2, "smaller two thirds": 2 / 3, "smaller third": 1 / 3}
        splits |= {name: [np.sort(order[: int(count * share)])] for name, share in shares.items()}
    else:
        known = {(run.params, run.tokens) for run in step_law_runs()}
        here = [(n, d) in known for n, d in zip(observed.params, observed.tokens, strict=True)]
        splits["14 scales -> nine"] = [np.flatnonzero(here)]
        splits |= {f"below {most / 1e6:.0f}M": [np.flatnonzero(observed.params < most)] for most in (3e8, 1.5e8)}
    surfaces = yardstick(runs, observed)
    print(f"{'mean cost, %':<22s}{'scales':>7s}" + "".join(f"{name:>26s}" for name in WAYS))
    for name, rounds in splits.items():
        costs = score(observed, surfaces, rounds, without)
        told = [f"{costs[:, 0].mean():.3f}"]
        for way in range(1, len(WAYS)):
            mean, error = mean_and_error(costs[:, way] - costs[:, 0])
            told.append(f"{costs[:, way].mean():.3f} ({mean:+.3f} +- {error:.3f})")
        print(f"{name:<22s}{len(costs):>7d}" + "".join(f"{each:>26s}" for each in told), flush=True)


if __name__ == "__main__":
    main()
