"""Our own WSD runs with shared trunks: do the best rate and batch move with the horizon as under linear-to-zero?

    python -m tests.benchmarks.wsd_horizons [--resamples 300] [--seed 0]

The WSD runs are those of data/proxy_wsd_sweep.csv: four sizes, three horizons from each trunk. Beside them stand the
runs of data/proxy_sweep.csv and data/proxy_weight_decay.csv of the same sizes and horizons at weight decay 0.1, whose
rate falls linearly to zero. A trunk's horizons share most of their text and steps, so their noise is shared, too.

1. Smooth optima as in `shapes`: one cubic valley for all scales of a schedule, through runs near the lowest of their
   scale; how they move with tokens, each size with a level of its own. Standard errors: fits to what the valley says
   plus what it leaves over, with signs drawn anew for each trunk (linear: for each run).
2. Slices: the best rate at one size, horizon and batch, by a parabola whose bend all slices of a batch share. No valley
   joins the batches here, so a warmup that hurts large batches alone would show; early training losses beside them.
3. What WSD costs against linear: floors of the valleys; and lowest losses at the same size, horizon and batch.
4. What one setting for all horizons of a trunk costs, and what the best settings of the linear runs cost under WSD.
5. What `lawfit fit` says of the same two sets of runs.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import lawfit
from tests.benchmarks.shapes import VALLEY, WINDOW, Optima, smooth_optima
from tests.benchmarks.shared import Floats, Ints, mean_and_error

Bools = NDArray[np.bool_]

DATA = Path(__file__).parents[2] / "data"
WEIGHT_DECAY = 0.1
SCALE = ["n_params", "million_tokens"]
SLICE = [*SCALE, "batch_size_tokens"]
SETTING = [*SLICE, "learning_rate"]
SCALE_SD = 0.05  # of a scale off its law, ln, beside what its runs leave open
FEWEST_RATES = 3  # of a slice within the window
STEPS = 81  # of a search along ln lr or ln batch
GIVEN_BATCH = 16_384  # at which rates of the two schedules are compared
LONG_WARMUP = 16_384  # largest batch at which the WSD runs have a warmup of 39 steps or more
WARMUP, SHORTEST = 0.02, 32e6  # of the WSD runs: share, and horizon that it is a share of, tokens
EARLY, EARLY_OF = 1e7, 64  # tokens at which training losses are compared, and horizon in millions
HIGH_RATE = 0.01
CURVES = {"WSD": ("proxy_wsd_sweep_curves",), "linear": ("proxy_curves", "proxy_weight_decay_curves")}
AXES = ("best rate", "best batch", "best rate at a given batch")


def measured() -> dict[str, pd.DataFrame]:
    """Finished runs by schedule, with `cluster`: runs whose noise is shared."""
    read = {name: pd.read_csv(DATA / f"proxy_{name}.csv") for name in ("wsd_sweep", "sweep", "weight_decay")}
    for runs in read.values():
        runs["million_tokens"] = runs["n_tokens"].div(1e6).round().astype(int)
    wsd = read["wsd_sweep"]
    linear = pd.concat([read["sweep"], read["weight_decay"]], ignore_index=True)
    linear = linear[linear["weight_decay"] == WEIGHT_DECAY].merge(wsd[SCALE].drop_duplicates())
    trunk = ["n_params", "batch_size_tokens", "learning_rate", "seed"]
    wsd = wsd.assign(cluster=wsd.groupby(trunk).ngroup())
    linear = linear.assign(cluster=np.arange(len(linear)))
    found = {}
    for name, runs in (("WSD", wsd), ("linear", linear)):
        runs = runs[runs["final_loss"].notna()]
        found[name] = runs.assign(log_loss=np.log(runs["final_loss"]))
    return found


def show_counts() -> None:
    """Tokens and FLOPs; those of a trunk that its branches share count once."""
    runs = pd.read_csv(DATA / "proxy_wsd_sweep.csv")
    own = (runs["steps_done"] - runs["trunk_steps"].fillna(0)).clip(lower=0)
    tokens, alone = (steps * runs["batch_size_tokens"] for steps in (own, runs["steps_done"]))
    flops = runs["training_flops"] * own / runs["steps_done"]
    print(
        f"{len(runs)} runs of WSD, {runs['diverged'].sum()} diverged; {tokens.sum() / 1e9:.1f} billion tokens, "
        f"{flops.sum():.2e} FLOPs (each run alone: {alone.sum() / 1e9:.1f}, {runs['training_flops'].sum():.2e})"
    )


def near(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs near the lowest of their scale, with scale and size as indices."""
    lowest = runs.groupby(SCALE)["log_loss"].transform("min")
    rows = runs[runs["log_loss"] < lowest + WINDOW].sort_values(SCALE).reset_index(drop=True)
    return rows.assign(scale=rows.groupby(SCALE).ngroup(), size=rows.groupby("n_params").ngroup())


def numbered(rows: pd.DataFrame, by: list[str]) -> Ints:
    """(rows,) number of the group of each row."""
    return np.asarray(rows.groupby(by).ngroup(), dtype=np.intp)


def fitted(optima: Optima, scale: Ints, log_lr: Floats, log_batch: Floats) -> Floats:
    """ln loss that the valley says at these settings of these scales."""
    count = len(optima.size)
    u, v = log_lr - optima.log[:count][scale], log_batch - optima.log[count:][scale]
    return optima.floor[scale] + VALLEY(u, v, optima.valley)[0]


def drawn(rows: pd.DataFrame, optima: Optima, rng: np.random.Generator, resamples: int) -> list[Optima]:
    """The optima of resamples: what is left over changes its sign cluster by cluster."""
    log_lr, log_batch = (np.log(rows[name].to_numpy(float)) for name in ("learning_rate", "batch_size_tokens"))
    says = fitted(optima, rows["scale"].to_numpy(), log_lr, log_batch)
    freedom = len(rows) - 3 * len(optima.size) - len(optima.valley)
    rest = (rows["log_loss"].to_numpy() - says) * np.sqrt(len(rows) / freedom)
    cluster = numbered(rows, ["cluster"])
    signs = rng.choice([-1.0, 1.0], (resamples, cluster.max() + 1))[:, cluster]
    return [smooth_optima(rows.assign(log_loss=says + sign * rest)) for sign in signs]


def moves(optima: Optima) -> Floats:
    """(3,) exponents of tokens at fixed size: of the best rate, the best batch, the best rate at a given batch."""
    count = len(optima.size)
    x = np.column_stack([np.eye(optima.size.max() + 1)[optima.size], np.log(optima.tokens)])
    found = []
    for y, cov in (optima.axis(0), optima.axis(1), optima.at_a_batch()):
        root = np.linalg.cholesky(cov + SCALE_SD**2 * np.eye(count))
        found.append(np.linalg.lstsq(np.linalg.solve(root, x), np.linalg.solve(root, y), rcond=None)[0][-1])
    return np.array(found)


def rate_at(optima: Optima, batch: float) -> Floats:
    """(scales,) ln of the best rate at one batch, along the floor of the valley's quadratic part."""
    count = len(optima.size)
    tilt = -optima.valley[1] / (2 * optima.valley[0])
    return np.asarray(optima.log[:count] + tilt * (np.log(batch) - optima.log[count:]))


def lowest_settings(runs: pd.DataFrame) -> pd.DataFrame:
    """Of each scale, the setting of the lowest loss, seeds averaged."""
    mean = runs.groupby(SETTING, as_index=False).agg(log_loss=("log_loss", "mean"))
    return mean.loc[mean.groupby(SCALE)["log_loss"].idxmin()].set_index(SCALE)


def show_scales(
    runs: Mapping[str, pd.DataFrame], best: Mapping[str, Optima], again: Mapping[str, list[Optima]]
) -> None:
    lowest = {name: lowest_settings(part) for name, part in runs.items()}
    print("Lowest loss tried (batch, rate, loss) under WSD and linear; smooth optima (batch, rate); WSD costs, %")
    for at, place in enumerate(lowest["WSD"].index):
        tried, smooth = [], []
        for name, optima in best.items():
            row, count = lowest[name].loc[place], len(optima.size)
            tried.append(f"{row.batch_size_tokens:6,.0f} {row.learning_rate:<6g} {np.exp(row.log_loss):.3f}")
            sd = np.std([[each.log[at], each.log[count + at]] for each in again[name]], axis=0)
            lr, batch = np.exp(optima.log[[at, count + at]])
            smooth.append(f"{batch:6,.0f} ({sd[1]:.2f}) {lr:.4f} ({sd[0]:.2f})")
        cost = best["WSD"].floor[at] - best["linear"].floor[at]
        pairs = zip(again["WSD"], again["linear"], strict=True)
        error = np.std([wsd.floor[at] - linear.floor[at] for wsd, linear in pairs])
        print(
            f"  {place[0]:9,} {place[1]:4}M: {'; '.join(tried)} | {'; '.join(smooth)} | "
            f"{100 * cost:.2f} +- {100 * error:.2f}"
        )
    costs = np.array([w.floor - li.floor for w, li in zip(again["WSD"], again["linear"], strict=True)])
    mean = best["WSD"].floor - best["linear"].floor
    tokens = best["WSD"].tokens
    for million in (32, 64, 120):
        chosen = np.round(tokens / 1e6) == million
        error = costs[:, chosen].mean(1).std()
        print(f"  WSD costs at {million}M: {100 * mean[chosen].mean():.2f} +- {100 * error:.2f} %")
    print(f"  at all: {100 * mean.mean():.2f} +- {100 * costs.mean(1).std():.2f} %")


def show_moves(best: Mapping[str, Optima], again: Mapping[str, list[Optima]]) -> None:
    found = {name: moves(optima) for name, optima in best.items()}
    each = {name: np.array([moves(optima) for optima in others]) for name, others in again.items()}
    print("Exponents of tokens at fixed size, of the smooth optima:")
    for axis, words in enumerate(AXES):
        said = [f"{name} {found[name][axis]:+.2f} +- {each[name][:, axis].std():.2f}" for name in found]
        apart = found["WSD"][axis] - found["linear"][axis]
        error = (each["WSD"][:, axis] - each["linear"][:, axis]).std()
        print(f"  {words}: {', '.join(said)}; apart {apart:+.2f} +- {error:.2f}")
    print(f"Best rate of WSD over that of linear, both at a batch of {GIVEN_BATCH:,}:")
    ratio = rate_at(best["WSD"], GIVEN_BATCH) - rate_at(best["linear"], GIVEN_BATCH)
    spread = [
        rate_at(wsd, GIVEN_BATCH) - rate_at(linear, GIVEN_BATCH)
        for wsd, linear in zip(again["WSD"], again["linear"], strict=True)
    ]
    for million in (32, 64, 120):
        chosen = np.round(best["WSD"].tokens / 1e6) == million
        mean, error = ratio[chosen].mean(), np.std([each[chosen].mean() for each in spread])
        sizes = ", ".join(f"{x:.2f}" for x in np.exp(ratio[chosen]))
        print(f"  {million}M: {np.exp(mean):.2f} (factor {np.exp(error):.2f}); sizes {sizes}")


@dataclass(frozen=True, kw_only=True)
class Slices:
    """Parabolas of ln loss in ln rate, one a slice (scale and batch), whose bend the slices of a batch share."""

    places: pd.DataFrame  # (slices,) scale, batch, lowest and highest rate
    middle: Floats  # (slices,) mean ln rate, from which each parabola counts
    of_row: Ints  # (rows,) slice of each run
    of_batch: Ints  # (slices,) batch of each slice
    u: Floats  # (rows,) ln rate from the middle
    log_loss: Floats  # (rows,)
    cluster: Ints  # (rows,)

    @staticmethod
    def of(runs: pd.DataFrame) -> Slices:
        """Slices with enough rates near their lowest loss."""
        rows = runs[runs["log_loss"] < runs.groupby(SLICE)["log_loss"].transform("min") + WINDOW]
        rows = rows[rows.groupby(SLICE)["learning_rate"].transform("nunique") >= FEWEST_RATES]
        log_lr = np.log(rows["learning_rate"])
        places = rows.groupby(SLICE, as_index=False).agg(low=("learning_rate", "min"), high=("learning_rate", "max"))
        return Slices(
            places=places,
            middle=log_lr.groupby([rows[name] for name in SLICE]).mean().to_numpy(),
            of_row=numbered(rows, SLICE),
            of_batch=numbered(places, ["batch_size_tokens"]),
            u=(log_lr - log_lr.groupby([rows[name] for name in SLICE]).transform("mean")).to_numpy(),
            log_loss=rows["log_loss"].to_numpy(),
            cluster=numbered(rows, ["cluster"]),
        )

    @property
    def features(self) -> Floats:
        own = np.eye(len(self.places))[self.of_row]
        bends = np.eye(self.of_batch.max() + 1)[self.of_batch[self.of_row]]
        return np.column_stack([own, own * self.u[:, None], bends * self.u[:, None] ** 2])

    def optima(self, log_loss: Floats) -> tuple[Floats, Floats, Floats]:
        """(slices,) ln of the best rate and of the lowest loss, and (rows,) what the parabolas say."""
        weights = np.linalg.lstsq(self.features, log_loss, rcond=None)[0]
        level, slope = weights[: 2 * len(self.places)].reshape(2, -1)
        bend = weights[2 * len(self.places) :][self.of_batch]
        lowest = np.asarray(level - slope**2 / (4 * bend))
        return self.middle - slope / (2 * bend), lowest, np.asarray(self.features @ weights)

    def draw(self, rng: np.random.Generator, resamples: int) -> Floats:
        """(resamples, slices) ln of the best rates where what is left over changes its sign cluster by cluster."""
        says = self.optima(self.log_loss)[2]
        rest = (self.log_loss - says) * np.sqrt(len(says) / (len(says) - self.features.shape[1]))
        signs = rng.choice([-1.0, 1.0], (resamples, self.cluster.max() + 1))[:, self.cluster]
        return np.array([self.optima(says + sign * rest)[0] for sign in signs])

    def inside(self) -> Bools:
        """(slices,) whether the best rate lies between those tried."""
        best = self.optima(self.log_loss)[0]
        return np.asarray((best > np.log(self.places["low"])) & (best < np.log(self.places["high"])))


def slope_of_tokens(places: pd.DataFrame, log_lr: Floats) -> Floats:
    """Exponents of tokens of best rates (draws, slices), each size and batch with a level of its own."""
    level = numbered(places, ["n_params", "batch_size_tokens"])
    x = np.column_stack([np.eye(level.max() + 1)[level], np.log(places["million_tokens"])])
    return np.asarray(np.linalg.lstsq(x, log_lr.T, rcond=None)[0][-1])


def show_slices(runs: Mapping[str, pd.DataFrame], rng: np.random.Generator, resamples: int) -> None:
    made = {name: Slices.of(every) for name, every in runs.items()}
    draws = {name: each.draw(rng, resamples) for name, each in made.items()}
    batches = sorted(runs["WSD"]["batch_size_tokens"].unique())
    groups = {f"{batch:,}": [batch] for batch in batches}
    groups[f"up to {LONG_WARMUP:,}"] = [batch for batch in batches if batch <= LONG_WARMUP]
    print("At one size and batch the best rate moves with tokens as (slices whose best lies inside):")
    for words, chosen in groups.items():
        said = []
        for name, each in made.items():
            which = each.inside() & each.places["batch_size_tokens"].isin(chosen).to_numpy()
            best = each.optima(each.log_loss)[0][None, which]
            slope, others = (slope_of_tokens(each.places[which], of) for of in (best, draws[name][:, which]))
            said.append(f"{name} {slope[0]:+.2f} +- {others.std():.2f} ({which.sum()})")
        print(f"  {words}: {', '.join(said)}")
    for name, each in made.items():
        which = each.inside() & (each.places["batch_size_tokens"] <= LONG_WARMUP).to_numpy()
        best, slopes = each.optima(each.log_loss)[0], []
        for params in sorted(each.places["n_params"].unique()):
            own = which & (each.places["n_params"] == params).to_numpy()
            slopes.append(float(slope_of_tokens(each.places[own], best[None, own])[0]))
        mean, error = mean_and_error(np.array(slopes))
        words = ", ".join(f"{slope:+.2f}" for slope in slopes)
        print(f"  up to {LONG_WARMUP:,}, {name}, each size alone: {words}; mean {mean:+.2f} +- {error:.2f}")
    paired = _paired(made)
    print("WSD against linear at the same size, horizon and batch: cost, %, and best rate over that of linear")
    for words, part in (
        *((f"{batch:,}", part) for batch, part in paired.groupby("batch_size_tokens")),
        *(
            (f"{million}M, up to {LONG_WARMUP:,}", part)
            for million, part in paired[paired["batch_size_tokens"] <= LONG_WARMUP].groupby("million_tokens")
        ),
    ):
        cost, error = mean_and_error(part["cost"].to_numpy())
        ratio, ratio_error = mean_and_error(part["ratio"].to_numpy())
        print(
            f"  {words}: {cost:.2f} +- {error:.2f} %, {np.exp(ratio):.2f} times (factor {np.exp(ratio_error):.2f}), "
            f"{len(part)} pairs"
        )


def _paired(made: Mapping[str, Slices]) -> pd.DataFrame:
    """Slices of both schedules whose best rate lies inside."""
    found = []
    for each in made.values():
        log_lr, log_loss, _ = each.optima(each.log_loss)
        found.append(each.places.assign(log_lr=log_lr, log_loss=log_loss)[each.inside()])
    paired = found[0].merge(found[1], on=SLICE, suffixes=("", "_linear"))
    return paired.assign(
        cost=100 * (paired["log_loss"] - paired["log_loss_linear"]), ratio=paired["log_lr"] - paired["log_lr_linear"]
    )


def show_starts(runs: Mapping[str, pd.DataFrame]) -> None:
    """Training loss early on: the warmup is 2 % of the shortest horizon under WSD, 10 % of its own under linear."""
    curves = {
        name: pd.concat([pd.read_csv(DATA / f"{file}.csv") for file in files]).dropna(subset="train_loss")
        for name, files in CURVES.items()
    }
    at = {}
    for name, every in runs.items():
        part = every[(every["million_tokens"] == EARLY_OF) & (every["seed"] == 0)]
        at[name] = part.assign(early=[_loss_at(curves[name], run_id) for run_id in part["run_id"]])
    both = at["WSD"].merge(at["linear"], on=SETTING, suffixes=("", "_linear"))
    both["apart"] = both["early"] - both["early_linear"]
    steps = (both["steps"] * both["warmup_fraction_linear"]).round()
    print(f"Training loss at {EARLY / 1e6:g}M tokens, WSD less linear, runs of {EARLY_OF}M alike in all else, nats:")
    both = both.assign(linear_steps=steps)
    for batch in sorted(both["batch_size_tokens"].unique()):
        part = both[both["batch_size_tokens"] == batch]
        high = part["learning_rate"] > HIGH_RATE
        said = []
        for words, apart in ((f"rates to {HIGH_RATE:g}", part["apart"][~high]), ("above", part["apart"][high])):
            if len(apart):
                said.append(f"{words} {apart.mean():+.2f} ({apart.min():+.2f} to {apart.max():+.2f}, {len(apart)})")
        warmup = round(WARMUP * round(SHORTEST / batch))
        print(f"  {batch:6,} (warmup {warmup} steps, {part['linear_steps'].iloc[0]:.0f} in linear): {', '.join(said)}")


def _loss_at(curves: pd.DataFrame, run_id: str) -> float:
    curve = curves[curves["run_id"] == run_id]
    return float(np.interp(EARLY, curve["tokens"], curve["train_loss"]))


def show_seeds(runs: Mapping[str, pd.DataFrame]) -> None:
    """Standard deviation between seeds at one setting, pooled, of settings within 3 % of their scale's lowest."""
    for name, every in runs.items():
        rows = every[every["log_loss"] < every.groupby(SCALE)["log_loss"].transform("min") + WINDOW]
        spread = rows.groupby(SETTING)["log_loss"].agg(["var", "count"]).dropna()
        spread = spread.assign(more=spread["count"] - 1, squares=spread["var"] * (spread["count"] - 1))
        pooled = spread.groupby(SCALE)[["squares", "more"]].sum()
        said = [
            f"{params / 1e6:.1f}M {million}M {np.sqrt(squares / more):.2%} ({more:.0f})"
            for params, million, squares, more in pooled.reset_index().itertuples(index=False)
        ]
        print(f"Seeds differ under {name} (sd, pairs): {', '.join(said)}")


def search(optima: Optima, rows: pd.DataFrame, size: int) -> tuple[Floats, Floats, Floats]:
    """The setting that is best for all horizons of a size on average: ln rate, ln batch, what it costs at each."""
    scales = np.flatnonzero(optima.size == size)
    part = rows[rows["size"] == size]
    lr, batch = (
        np.linspace(np.log(part[name].min()), np.log(part[name].max()), STEPS)
        for name in ("learning_rate", "batch_size_tokens")
    )
    u, v = (grid.ravel() for grid in np.meshgrid(lr, batch))
    costs = np.array([fitted(optima, np.full(len(u), scale), u, v) - optima.floor[scale] for scale in scales])
    at = costs.mean(0).argmin()
    return u[at], v[at], costs[:, at]


def show_one_setting(best: Mapping[str, Optima], rows: pd.DataFrame) -> None:
    wsd, linear = best["WSD"], best["linear"]
    count = len(wsd.size)
    print("One setting for all horizons under WSD: rate, batch, what it costs at each horizon, %")
    every = []
    for size in range(wsd.size.max() + 1):
        lr, batch, costs = search(wsd, rows, size)
        every.append(costs)
        words = ", ".join(f"{100 * cost:.2f}" for cost in costs)
        print(f"  {wsd.params[wsd.size == size][0]:9,.0f}: {np.exp(lr):.4f} {np.exp(batch):6,.0f}: {words}")
    print(f"  mean {100 * np.mean(every):.2f} %")
    scales = np.arange(count)
    print("The best settings of linear, or of another horizon, used under WSD cost, % (mean over sizes, worst):")
    asked = [("linear, same scale", linear.log[:count], linear.log[count:])]
    asked += [("linear, half its rate", linear.log[:count] - np.log(2), linear.log[count:])]
    for million in (32, 120):
        source = np.array(
            [np.flatnonzero((wsd.size == s) & (np.round(wsd.tokens / 1e6) == million))[0] for s in wsd.size]
        )
        asked.append((f"WSD at {million}M", wsd.log[:count][source], wsd.log[count:][source]))
    for words, lr, batch in asked:
        cost = 100 * (fitted(wsd, scales, lr, batch) - wsd.floor)
        by = [f"{m}M {cost[np.round(wsd.tokens / 1e6) == m].mean():.2f}" for m in (32, 64, 120)]
        print(f"  {words}: {', '.join(by)} (worst {cost.max():.2f})")


def show_laws(runs: Mapping[str, pd.DataFrame]) -> None:
    print("lawfit fit on the same runs:")
    for name, every in runs.items():
        frame = every.drop(columns=["million_tokens", "cluster", "log_loss"])
        law = lawfit.fit(lawfit.observe(frame.dropna(axis=1, how="all"))).fit.payload["law"]
        for key, words in zip(("lr", "batch_tokens", "lr_given_batch"), AXES, strict=True):
            row = law[key]
            said = [
                f"{of}^{row[of]:+.2f} ({row[f'{of}_low']:+.2f} to {row[f'{of}_high']:+.2f})"
                for of in ("params", "tokens", "batch_tokens")
                if row.get(of) is not None
            ]
            print(f"  {name}, {words}: {', '.join(said)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--resamples", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    show_counts()
    runs = measured()
    rows = {name: near(every) for name, every in runs.items()}
    best = {name: smooth_optima(part) for name, part in rows.items()}
    again = {name: drawn(rows[name], best[name], rng, options.resamples) for name in rows}
    for name, every in runs.items():
        rest = rows[name]
        says = fitted(
            best[name], rest["scale"].to_numpy(),
            np.log(rest["learning_rate"].to_numpy()), np.log(rest["batch_size_tokens"].to_numpy()),
        )  # fmt: skip
        left = np.std(rest["log_loss"].to_numpy() - says)
        print(
            f"{name}: {len(every)} finished runs, {len(rest)} within {WINDOW:.0%} of the lowest, {left:.2%} left over"
        )
    show_scales(runs, best, again)
    show_moves(best, again)
    show_slices(runs, rng, options.resamples)
    show_starts(runs)
    show_one_setting(best, rows["WSD"])
    show_seeds(runs)
    show_laws(runs)


if __name__ == "__main__":
    main()
