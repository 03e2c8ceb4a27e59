"""What one sweep of weight decay, or two, would have said of larger scales: our own runs, each sweep fitted alone.

    python -m tests.benchmarks.decay_sweeps_own

Sweeps: learning rate x weight decay of data/proxy_sweep.csv and proxy_weight_decay.csv, at a learning rate and batch
whose run of decay 0.1 is within 0.4 % of the lowest of its scale. Judged at every sweep of a size 1.5 times as large or
more, within a factor 2.2 in tokens per parameter, whose run of decay 0.1 is within 3 % of the lowest there: the loss at
decay 0.1 over that at the decay that is advised, read between runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from lawfit.errors import LawfitError
from lawfit.estimate.weight_decay.sweep import DecayRuns
from lawfit.estimate.weight_decay.timescale import TimescaleFit, fit_timescale
from lawfit.records import FitStatus

DATA: Final = Path(__file__).parents[2] / "data"
HELD: Final = 0.1
COLUMNS: Final = ["n_params", "n_tokens", "batch_size_tokens", "learning_rate"]
Slice = tuple[float, ...]  # params, tokens, batch_tokens, lr


def main() -> None:
    frame = pd.concat([pd.read_csv(DATA / f"{name}.csv") for name in ("proxy_sweep", "proxy_weight_decay")])
    frame = frame[frame["final_loss"].notna() & (frame["weight_decay"] > 0)]
    frame["n_tokens"] = frame["n_tokens"].map(lambda tokens: float(f"{tokens:.2g}"))  # cut to whole steps
    lowest = frame[frame["weight_decay"] == HELD].groupby(COLUMNS[:2])["final_loss"].min().to_dict()
    sweeps = {tuple(map(float, key)): rows for key, rows in frame.groupby(COLUMNS)}

    def near(key: Slice, share: float, values: int) -> bool:
        rows = sweeps[key]
        held = rows[rows["weight_decay"] == HELD]["final_loss"].min()
        return bool(rows["weight_decay"].nunique() >= values and held <= lowest[key[:2]] * (1 + share))

    judged = [key for key in sweeps if key[:2] in lowest and near(key, 0.03, 3)]
    made = [key for key in sweeps if key[:2] in lowest and key[0] < 4e6 and near(key, 0.004, 4)]
    for name, sets in (("one sweep", [(key,) for key in made]), ("two scales", itertools.combinations(made, 2))):
        found = []
        for keys in sets:
            if len({key[:2] for key in keys}) < len(keys) or (law := _fitted(sweeps, keys)) is None:
                continue
            gains = [_gain(law, sweeps[key], key) for key in judged if _beyond(key, keys)]
            if gains:
                found.append(100 * float(np.mean(gains)))
                where = " and ".join(f"{n:.3g} on {d:.3g} (batch {b:.3g}, lr {lr:g})" for n, d, b, lr in keys)
                print(f"  {found[-1]:6.3f} % at {len(gains):2d} sweeps, by {where}")
        print(f"{name}: {np.mean(found):.3f} % on average of {len(found)}, at worst {min(found):.3f} %")


def _fitted(sweeps: dict[Slice, pd.DataFrame], keys: Sequence[Slice]) -> TimescaleFit | None:
    rows = pd.concat([sweeps[key] for key in keys])
    try:
        found = fit_timescale(DecayRuns.of(*(rows[name] for name in (*COLUMNS, "weight_decay", "final_loss"))))
    except LawfitError:
        return None
    return None if found.law is None or found.status is FitStatus.UNCERTIFIED else found


def _beyond(key: Slice, keys: Sequence[Slice]) -> bool:
    ratios = [abs(np.log(key[1] / key[0] / (tokens / params))) for params, tokens, *_ in keys]
    return bool(key[0] > 1.5 * max(params for params, *_ in keys) and max(ratios) < np.log(2.2))


def _gain(law: TimescaleFit, rows: pd.DataFrame, key: Slice) -> float:
    params, tokens, batch, lr = key
    log_loss = np.log(rows.groupby("weight_decay")["final_loss"].mean())
    advised = law.predict(params, tokens, batch, lr).weight_decay
    held, there = np.interp(np.log([HELD, advised]), np.log(log_loss.index), log_loss)  # beyond the ends: the end
    return float(held - there)


if __name__ == "__main__":
    main()
