"""Our own runs of learning rate x weight decay at several batches: does the best decay follow the AdamW timescale?

    python -m tests.benchmarks.decay_and_batch [--resamples 300]

The runs are those of data/proxy_weight_decay.csv, and those of data/proxy_sweep.csv at the same sizes and horizons. The
timescale tau = batch / (rate x decay x tokens) (arXiv 2405.13698, 2505.13738) is that of `estimate.weight_decay`: at
one scale its best value should be the same at any batch and rate. A cell is a scale and a batch. The lowest of noisy
losses favours what was tried more often, so costs are read off a surface in ln tau and ln rate: level and slopes are of
each cell, the bends are those of all. Resamples redraw what the surface leaves over. Last, decay is chosen for the
largest size, at each batch and rate, by the law of the smaller ones and by simpler rules.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lawfit.estimate.weight_decay.sweep import DecayRuns, locate_weight_decay
from lawfit.estimate.weight_decay.timescale import RATIO, fit_timescale
from lawfit.records import OptimumStatus
from lawfit.words import tell
from tests.benchmarks.decay_rules import score_largest_size
from tests.benchmarks.weight_decay import LENDERS, POWER_LINES

DATA = Path(__file__).parents[2] / "data"
COLUMNS = ["n_params", "n_tokens", "batch_size_tokens", "learning_rate", "weight_decay", "final_loss"]
SCALE = ["n_params", "million_tokens"]
CELL = [*SCALE, "batch_size_tokens"]
SETTING = [*CELL, "learning_rate", "weight_decay"]
USUAL = 0.1  # decay of the sweep
WINDOW = 0.04  # of log loss above the lowest of a scale: the surface is a cubic at most
STEPS = 81  # of a search along ln tau or ln rate
REACH = 1.2  # of a search along ln tau, to each side of the cell's mean: beyond it a cubic may turn down again

Floats = NDArray[np.float64]


def measured() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs of the study with those of the sweep at its scales; and with the whole sweep."""
    study, sweep = (pd.read_csv(DATA / f"proxy_{name}.csv") for name in ("weight_decay", "sweep"))
    for runs in (study, sweep):
        runs["million_tokens"] = runs["n_tokens"].div(1e6).round().astype(int)
    beside = sweep.merge(study[SCALE].drop_duplicates())
    return pd.concat([study, beside], ignore_index=True), pd.concat([study, sweep], ignore_index=True)


def settings(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per setting, its seeds averaged in log loss, at batches where the decay varies."""
    varied = runs.groupby(CELL)["weight_decay"].transform("nunique") > 1
    runs = runs[varied].assign(log_loss=np.log(runs["final_loss"]))
    found = runs.groupby([*SETTING, "n_tokens"], as_index=False).agg(log_loss=("log_loss", "mean"))
    per_run = found["learning_rate"] * found["weight_decay"] * found["n_tokens"] / found["batch_size_tokens"]
    return found.assign(log_tau=-np.log(per_run.where(per_run > 0)), log_lr=np.log(found["learning_rate"]))


@dataclass(frozen=True, kw_only=True)
class Surface:
    """ln loss = level + a u + b v + bends . (u^2, u^3, v^2, u v) of each cell; u of ln tau, v of ln rate, centred."""

    cells: Floats  # (cells, 3): level, a, b
    bends: Floats  # (4,)

    def log_loss(self, cell: int, u: Floats, v: Floats) -> Floats:
        level, a, b = self.cells[cell]
        return level + a * u + b * v + _bends(u, v) @ self.bends


def _bends(u: Floats, v: Floats) -> Floats:
    return np.stack([u**2, u**3, v**2, u * v], axis=-1)


def fit_surface(u: Floats, v: Floats, cell: NDArray[np.intp], log_loss: Floats) -> Surface:
    own = np.eye(cell.max() + 1)[cell]
    features = np.column_stack([own, own * u[:, None], own * v[:, None], _bends(u, v)])
    weights = np.linalg.lstsq(features, log_loss, rcond=None)[0]
    return Surface(cells=weights[:-4].reshape(3, -1).T, bends=weights[-4:])


def best_settings(surface: Surface, rows: pd.DataFrame) -> pd.DataFrame:
    """Of each cell, within the rates and timescales tried there: the best timescale, rate, decay, and what the usual
    decay costs with the best rate for it, %.
    """
    found = []
    for number, cell in rows.groupby("cell"):
        log_span = np.log(cell["n_tokens"].iloc[0] / cell["batch_size_tokens"].iloc[0])  # of the steps
        u = np.linspace(max(cell["u"].min(), -REACH), min(cell["u"].max(), REACH), STEPS)
        v = np.linspace(cell["v"].min(), cell["v"].max(), STEPS)
        shift_u, shift_v = cell["log_tau"].iloc[0] - cell["u"].iloc[0], cell["log_lr"].iloc[0] - cell["v"].iloc[0]
        grid_u, grid_v = (part.ravel() for part in np.meshgrid(u, v))
        says = surface.log_loss(int(number), grid_u, grid_v)
        usual_u = -np.log(USUAL) - (v + shift_v) - log_span - shift_u
        inside = (usual_u >= u[0]) & (usual_u <= u[-1])
        says_usual = np.where(inside, surface.log_loss(int(number), usual_u, v), np.inf)
        log_tau, log_lr = grid_u[says.argmin()] + shift_u, grid_v[says.argmin()] + shift_v
        found.append(
            {
                "tau": np.exp(log_tau), "lr": np.exp(log_lr), "decay": np.exp(-log_tau - log_lr - log_span),
                "cost_pct": 100 * max(says_usual.min() - says.min(), 0.0),
            }
        )  # fmt: skip
    return pd.DataFrame(found)


def near(found: pd.DataFrame) -> pd.DataFrame:
    """Settings near the lowest of their scale, with coordinates for the surface."""
    rows = found[found["log_tau"].notna()].copy()
    rows = rows[rows["log_loss"] < rows.groupby(SCALE)["log_loss"].transform("min") + WINDOW]
    rows["cell"] = rows.groupby(CELL).ngroup()
    for name, log in (("u", "log_tau"), ("v", "log_lr")):
        rows[name] = rows[log] - rows.groupby("cell")[log].transform("mean")
    return rows.reset_index(drop=True)


def show_cells(found: pd.DataFrame, resamples: int) -> None:
    rows = near(found)
    u, v, cell, y = (rows[name].to_numpy() for name in ("u", "v", "cell", "log_loss"))
    surface = fit_surface(u, v, cell, y)
    fitted = np.array([surface.log_loss(c, a, b) for c, a, b in zip(cell, u, v, strict=True)])
    freedom = len(y) - surface.cells.size - 4
    left_over = (y - fitted) * np.sqrt(len(y) / freedom)
    best, rng = best_settings(surface, rows), np.random.default_rng(0)
    again = [fit_surface(u, v, cell, fitted + rng.choice(left_over, len(y))) for _ in range(resamples)]
    others = [best_settings(each, rows) for each in again]
    print(f"{len(rows)} settings within {WINDOW:.0%} of their scale's lowest; surface leaves {np.std(left_over):.2%}")
    print("Lowest at decay 0.1 (rate, loss), at any (rate, decay, loss); surface: tau, rate, decay, what 0.1 costs, %")
    low, high = (pd.concat(others).groupby(level=0).quantile(q) for q in (0.05, 0.95))
    for number, (place, part) in enumerate(found.groupby(CELL)):
        usual, free = (x.loc[x["log_loss"].idxmin()] for x in (part[part["weight_decay"] == USUAL], part))
        b, lo, hi = best.iloc[number], low.iloc[number], high.iloc[number]
        print(
            f"  {place[0]:9,} {place[1]:4}M {place[2]:6,}: {usual.learning_rate:<6g} {np.exp(usual.log_loss):.3f}; "
            f"{free.learning_rate:<6g} {free.weight_decay:<4g} {np.exp(free.log_loss):.3f}; "
            f"{b.tau:.3f} ({lo.tau:.3f} to {hi.tau:.3f}) {b.lr:.4f} {b.decay:.2f} "
            f"{b.cost_pct:.2f} ({lo.cost_pct:.2f} to {hi.cost_pct:.2f})"
        )
    lowest, highest = np.quantile([each["cost_pct"].mean() for each in others], [0.05, 0.95])
    print(f"  mean cost {best['cost_pct'].mean():.2f} % ({lowest:.2f} to {highest:.2f})")
    show_factor_two([surface, *again])


def show_factor_two(surfaces: list[Surface]) -> None:
    """What a rate off by 2 costs: rate x decay kept, and decay kept."""
    kept = np.array([surface.bends[2] for surface in surfaces]) * np.log(2) ** 2
    fixed = np.array([s.bends[0] + s.bends[2] - s.bends[3] for s in surfaces]) * np.log(2) ** 2
    for words, values in (("rate x decay", kept), ("decay", fixed)):
        low, high = 100 * np.quantile(values[1:], [0.05, 0.95])
        print(f"  a rate twice or half the best, {words} kept: {100 * values[0]:.2f} % ({low:.2f} to {high:.2f})")


def show_seeds(runs: pd.DataFrame) -> None:
    """Standard deviation between seeds at one setting, pooled over the settings of a scale that have several."""
    spread = np.log(runs["final_loss"]).groupby([runs[name] for name in SETTING]).agg(["var", "count"]).dropna()
    spread = spread.assign(more=spread["count"] - 1, squares=spread["var"] * (spread["count"] - 1))
    pooled = spread.groupby(SCALE).agg(squares=("squares", "sum"), more=("more", "sum"), settings=("var", "size"))
    print("Seeds differ (sd, settings with several):")
    for place, row in pooled.iterrows():
        print(f"  {place[0]:9,} {place[1]:4}M: {np.sqrt(row.squares / row.more):.2%}, {row.settings:.0f}")


def show_law(name: str, runs: pd.DataFrame) -> None:
    fit = fit_timescale(DecayRuns.of(*runs[COLUMNS].to_numpy().T))
    print(f"{name}, {len(runs)} runs")
    for line in fit.lines():
        print(f"  {tell(line)}")
    if fit.law is not None:
        low, high = fit.law.exponent_interval(RATIO)
        print(f"  tau moves as (tokens / parameters)^{fit.law.exponents[RATIO]:.2f} ({low:.2f} to {high:.2f})")


def show_slices(runs: pd.DataFrame) -> None:
    """How the best decay of slices (scale, batch, rate) that bracket it moves; tau alone says batch^1 and rate^-1."""
    optima = locate_weight_decay(DecayRuns.of(*runs[COLUMNS].to_numpy().T))
    found = pd.DataFrame([optimum.to_json() for optimum in optima])
    inside = found[found["status"] == OptimumStatus.INSIDE.value]
    scale = inside.groupby([inside["params"].round(), inside["tokens"].div(1e6).round()]).ngroup().to_numpy()
    features = np.column_stack([np.eye(scale.max() + 1)[scale], np.log(inside[["batch_tokens", "lr"]])])
    y = np.log(inside["weight_decay"].to_numpy(dtype=float))
    slopes, squares = np.linalg.lstsq(features, y, rcond=None)[:2]
    sd = np.sqrt(np.diag(squares[0] / (len(y) - features.shape[1]) * np.linalg.inv(features.T @ features)))
    print(
        f"Slice by slice ({len(inside)} of {len(found)} bracket it): best decay moves as "
        f"batch^{slopes[-2]:.2f} (sd {sd[-2]:.2f}) and rate^{slopes[-1]:.2f} (sd {sd[-1]:.2f})"
    )


def show_costs(name: str, runs: pd.DataFrame) -> None:
    rules = score_largest_size(DecayRuns.of(*runs[COLUMNS].to_numpy().T), {"Power Lines": POWER_LINES}, LENDERS)
    print(f"{name}: cost at the largest size, mean over {rules[0].slices} batches and rates (worst), %")
    for rule in rules:
        print(f"  {rule.method}: {100 * rule.mean:.2f} ({100 * rule.worst:.2f}), {rule.outside} beyond what was tried")


def main() -> None:
    parser = argparse.ArgumentParser(description="Our own runs of weight decay at several batches.")
    parser.add_argument("--resamples", type=int, default=300)
    options = parser.parse_args()
    runs, everything = measured()
    show_cells(settings(runs), options.resamples)
    show_seeds(runs)
    show_slices(runs)
    for name, part in (("The sweep alone", pd.read_csv(DATA / "proxy_sweep.csv")), ("With the study", everything)):
        show_law(name, part)
        show_costs(name, part)


if __name__ == "__main__":
    main()
