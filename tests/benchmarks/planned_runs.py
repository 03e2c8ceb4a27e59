"""What the planner promised of runs on GPUs, beside what they brought.

    python -m tests.benchmarks.planned_runs

`lawfit plan next` was asked, of the fit of data/proxy_sweep.csv, which runs of at most 51M parameters on at most 120M
tokens would help 100M parameters on 2B tokens for 7e17 FLOPs. It named 134 (data/proxy_planned_grid.json, committed
before they were trained), and all were trained (data/proxy_planned.csv). Promised is what the planner says today of the
same question, whatever runs it names today; got is what the fit of both tables knows.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd

import lawfit
from lawfit.ask import Target
from lawfit.planner.choose import Asked, State
from lawfit.planner.information import Valley
from lawfit.planner.knowledge import of_fit
from lawfit.planner.means import read_means
from lawfit.planner.next_runs import Limits, next_runs
from lawfit.records import Fit

DATA = Path(__file__).parents[2] / "data"
TARGET = Target(params=1e8, tokens=2e9)
BUDGET = "7e17flops"
LIMITS = Limits(max_params=5.1e7, max_tokens=1.2e8)


def main() -> None:
    fits = [fit_of("proxy_sweep"), fit_of("proxy_sweep", "proxy_planned")]
    plan = next_runs(fits[0], TARGET, read_means(BUDGET), limits=LIMITS)
    print(f"{TARGET.params:.3g} parameters on {TARGET.tokens:.3g} tokens; lr and batch: 90 % intervals")
    for name, fit in zip(("before", "got"), fits, strict=True):
        model = fit.payload["model"]
        asked = Asked(target=TARGET, valley=Valley.of_fit(model), means=read_means(BUDGET))
        at = asked.outlook(State(knowledge=of_fit(model)))
        show(name, at.lr_factor, at.batch_factor, at.regret)
    after = plan["after"]
    runs = plan["budget"]["runs"]
    show(f"promised today of {runs} runs", after["lr_factor"], after["batch_factor"], after["expected_regret"])


def fit_of(*tables: str) -> Fit:
    frame = pd.concat([pd.read_csv(DATA / f"{table}.csv") for table in tables], ignore_index=True)
    return lawfit.fit(lawfit.observe(frame), backtest=False).fit


def show(name: str, lr_factor: float, batch_factor: float, regret: float) -> None:
    print(f"  {name:<28s}lr within x{lr_factor:.2f}, batch within x{batch_factor:.2f}, regret {100 * regret:.3f} %")


if __name__ == "__main__":
    main()
