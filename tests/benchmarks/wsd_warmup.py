"""WSD with a long warmup at large batches: what of the WSD sweep was the schedule, and what its short warmup?

    python -m tests.benchmarks.wsd_warmup [--resamples 300] [--seed 0]

The runs of data/proxy_wsd_sweep.csv warm up over 2 % of 32M tokens, which are 39 steps at a batch of 16k, 20 at 32k and
10 at 65k; those of data/proxy_wsd_warmup.csv are the same trunks with 10 % of it (195, 98 and 49 steps), at 65k with
20 %, too. Linear: as in `wsd_horizons`, and data/proxy_sweep_more.csv.

1. Slices as in `wsd_horizons`: at one size, horizon and batch, what the long warmup changes; what WSD costs against
   linear, and how the best rate moves with the horizon, with either warmup.
2. Smooth optima of WSD with the long warmup at 32k and 65k (and, in the last of three sets, at 16k) against linear.
3. Training losses early on.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from tests.benchmarks.shapes import WINDOW, smooth_optima
from tests.benchmarks.shared import mean_and_error
from tests.benchmarks.wsd_horizons import (
    DATA,
    EARLY,
    EARLY_OF,
    HIGH_RATE,
    LONG_WARMUP,
    SCALE,
    SETTING,
    SLICE,
    WEIGHT_DECAY,
    Slices,
    drawn,
    measured,
    near,
    show_laws,
    show_moves,
    show_scales,
    slope_of_tokens,
)

LONG, LONGER = "10 %", "20 %"  # warmup as a share of the shortest horizon of a trunk, 32M tokens
BETWEEN = 4.8e6  # tokens of warmup that tell the two apart: the table rounds the fraction, these are 3.2M and 6.4M
SIZES = 4
# Largest batch at which runs of 2 % are taken.
SETS = (("2 % throughout", 65_536), ("2 % up to 16k, else 10 %", LONG_WARMUP), ("2 % up to 8k, else 10 %", 8_192))


def finished(name: str) -> pd.DataFrame:
    """Finished runs of a table."""
    runs = pd.read_csv(DATA / f"proxy_{name}.csv")
    runs = runs[runs["final_loss"].notna()]
    million = runs["n_tokens"].div(1e6).round().astype(int)
    return runs.assign(million_tokens=million, log_loss=np.log(runs["final_loss"]))


def every_warmup() -> dict[str, pd.DataFrame]:
    """Runs of WSD by warmup, and those of linear: before the runs that were added, and with them."""
    before = measured()
    warm = finished("wsd_warmup")
    trunk = ["n_params", "batch_size_tokens", "learning_rate", "seed", "longer"]
    warm["longer"] = warm["warmup_fraction"] * warm["n_tokens"] > BETWEEN
    warm["cluster"] = before["WSD"]["cluster"].max() + 1 + warm.groupby(trunk).ngroup()
    more = finished("sweep_more")
    more = more[more["weight_decay"] == WEIGHT_DECAY].merge(before["WSD"][SCALE].drop_duplicates())
    linear = pd.concat([before["linear"], more], ignore_index=True)
    return {
        "2 %": before["WSD"],
        LONG: warm[~warm["longer"]],
        LONGER: warm[warm["longer"]],
        "linear before": before["linear"],
        "linear": linear.assign(cluster=np.arange(len(linear))),
    }


def show_counts() -> None:
    for name in ("wsd_warmup", "sweep_more"):
        runs = pd.read_csv(DATA / f"proxy_{name}.csv")
        shared = runs["trunk_steps"].fillna(0) if "trunk_steps" in runs else 0
        own = (runs["steps_done"] - shared).clip(lower=0)
        flops = runs["training_flops"] * own / runs["steps_done"]
        print(
            f"{name}: {len(runs)} runs, {runs['diverged'].sum()} diverged; "
            f"{(own * runs['batch_size_tokens']).sum() / 1e9:.2f} billion tokens, {flops.sum():.3g} FLOPs"
        )


def optima_of(each: Slices) -> pd.DataFrame:
    """Slices whose best rate lies between those tried: its ln, and that of the lowest loss."""
    log_lr, log_loss, _ = each.optima(each.log_loss)
    return each.places.assign(log_lr=log_lr, log_loss=log_loss)[each.inside()]


def show_against(made: Mapping[str, pd.DataFrame], name: str, other: str) -> None:
    """Slices of two sets at the same size, horizon and batch."""
    both = made[name].merge(made[other], on=SLICE, suffixes=("", "_other"))
    both["cost"] = 100 * (both["log_loss"] - both["log_loss_other"])
    both["ratio"] = both["log_lr"] - both["log_lr_other"]
    print(f"{name} against {other}: lowest loss, %, and best rate, times")
    groups = [(f"{batch:,}", part) for batch, part in both.groupby("batch_size_tokens")]
    for million in (32, 64, 120):
        for batch in sorted(both["batch_size_tokens"].unique()):
            part = both[(both["million_tokens"] == million) & (both["batch_size_tokens"] == batch)]
            groups.append((f"{million}M at {batch:,}", part))
    for words, part in groups:
        if len(part) > 1:
            cost, error = mean_and_error(part["cost"].to_numpy())
            ratio, ratio_error = mean_and_error(part["ratio"].to_numpy())
            print(
                f"  {words}: {cost:+.2f} +- {error:.2f} %, {np.exp(ratio):.2f} (factor {np.exp(ratio_error):.2f}), "
                f"{len(part)} pairs"
            )


def show_best(made: Mapping[str, pd.DataFrame]) -> None:
    """Best rate and lowest loss, geometric means over sizes, where it lies between those tried at all of them."""
    print("Best rate (lowest loss) at one batch, geometric means over the four sizes:")
    for million in (32, 64, 120):
        for batch in sorted(made["linear"]["batch_size_tokens"].unique()):
            said = []
            for name, places in made.items():
                part = places[(places["million_tokens"] == million) & (places["batch_size_tokens"] == batch)]
                if len(part) == SIZES:
                    said.append(f"{name} {np.exp(part['log_lr'].mean()):.4f} ({np.exp(part['log_loss'].mean()):.3f})")
            if said:
                print(f"  {million:3}M, {batch:6,}: {', '.join(said)}")


def show_slopes(made: Mapping[str, Slices], rng: np.random.Generator, resamples: int) -> None:
    print("At one size and batch the best rate moves with tokens as (slices whose best lies inside):")
    for name, each in made.items():
        draws, best = each.draw(rng, resamples), each.optima(each.log_loss)[0]
        said = []
        for batch in sorted(each.places["batch_size_tokens"].unique()):
            which = each.inside() & (each.places["batch_size_tokens"] == batch).to_numpy()
            if each.places[which]["million_tokens"].nunique() > 1:
                slope = slope_of_tokens(each.places[which], best[None, which])[0]
                error = slope_of_tokens(each.places[which], draws[:, which]).std()
                said.append(f"{batch:,}: {slope:+.2f} +- {error:.2f} ({which.sum()})")
        print(f"  {name}: {', '.join(said)}")


def show_same_settings(runs: Mapping[str, pd.DataFrame]) -> None:
    """Losses of the same run with another warmup; errors are those of a mean over sizes."""
    print("Loss of the same size, horizon, batch, rate and seed with another warmup, %:")
    for name, other in ((LONG, "2 %"), (LONGER, LONG)):
        both = runs[name].merge(runs[other], on=[*SETTING, "seed"], suffixes=("", "_other"))
        both["apart"] = 100 * (both["log_loss"] - both["log_loss_other"])
        for (batch, million), part in both.groupby(["batch_size_tokens", "million_tokens"]):
            said = []
            for lr, own in part.groupby("learning_rate"):
                sizes = own.groupby("n_params")["apart"].mean().to_numpy()
                if len(sizes) > 1:
                    mean, error = mean_and_error(sizes)
                    said.append(f"{lr:g} {mean:+.2f} +- {error:.2f}")
            print(f"  {name} against {other}, {batch:6,}, {million:3}M: {', '.join(said)}")


def curves_of(*names: str) -> pd.DataFrame:
    parts = [pd.read_csv(DATA / f"proxy_{name}curves.csv") for name in names]
    return pd.concat(parts).dropna(subset="train_loss")


def show_starts(runs: Mapping[str, pd.DataFrame]) -> None:
    files = {"2 %": ("wsd_sweep_",), LONG: ("wsd_warmup_",), LONGER: ("wsd_warmup_",)}
    curves = {name: curves_of(*parts) for name, parts in files.items()}
    curves["linear"] = curves_of("", "weight_decay_", "sweep_more_")
    early = {}
    for name, points in curves.items():
        part = runs[name][(runs[name]["million_tokens"] == EARLY_OF) & (runs[name]["seed"] == 0)]
        losses = {
            run_id: float(np.interp(EARLY, own["tokens"], own["train_loss"]))
            for run_id, own in points[points["run_id"].isin(part["run_id"])].groupby("run_id")
        }
        early[name] = part.assign(early=part["run_id"].map(losses))
    print(f"Training loss at {EARLY / 1e6:g}M tokens less that of linear, runs of {EARLY_OF}M alike in all else, nats:")
    for name in files:
        both = early[name].merge(early["linear"], on=SETTING, suffixes=("", "_linear"))
        both["apart"] = both["early"] - both["early_linear"]
        for batch, part in both.groupby("batch_size_tokens"):
            high = part["learning_rate"] > HIGH_RATE
            said = [
                f"{words} {apart.mean():+.2f} ({apart.min():+.2f} to {apart.max():+.2f}, {len(apart)})"
                for words, apart in ((f"to {HIGH_RATE:g}", part["apart"][~high]), ("above", part["apart"][high]))
                if len(apart)
            ]
            print(f"  {name}, {batch:6,}: {', '.join(said)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--resamples", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    show_counts()
    runs = every_warmup()
    for name, part in runs.items():
        batches = part["batch_size_tokens"].value_counts().sort_index()
        print(f"{name}: {', '.join(f'{count} at {batch:,}' for batch, count in batches.items())}")
    show_same_settings(runs)
    slices = {name: Slices.of(part) for name, part in runs.items()}
    made = {name: optima_of(each) for name, each in slices.items()}
    show_best(made)
    show_against(made, LONG, "2 %")
    show_against(made, LONGER, LONG)
    for name in ("2 %", LONG, LONGER):
        show_against(made, name, "linear")
    show_slopes(slices, rng, options.resamples)
    show_starts(runs)
    short = runs["2 %"]
    for words, longest in SETS:
        long = runs[LONG][runs[LONG]["batch_size_tokens"] > longest]
        wsd = pd.concat([short[short["batch_size_tokens"] <= longest], long], ignore_index=True)
        pair = {"WSD": wsd, "linear": runs["linear"]}
        rows = {name: near(part) for name, part in pair.items()}
        best = {name: smooth_optima(part) for name, part in rows.items()}
        again = {name: drawn(rows[name], best[name], rng, options.resamples) for name in rows}
        counts = ", ".join(f"{name} {len(part)} within {WINDOW:.0%}" for name, part in rows.items())
        print(f"== WSD of a warmup of {words}; {counts}")
        show_scales(pair, best, again)
        show_moves(best, again)
        if longest == LONG_WARMUP:
            columns = runs["2 %"].columns
            show_laws({name: part[[each for each in part.columns if each in columns]] for name, part in pair.items()})


if __name__ == "__main__":
    main()
