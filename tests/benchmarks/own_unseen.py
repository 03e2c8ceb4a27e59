"""Our own sweep against whole grids at sizes that no fit has seen: what its advice costs, and what its intervals hold.

    python -m tests.benchmarks.own_unseen [--window 0.03] [--resamples 2000] [--seed 0] [--fit RUNS] [--json FILE]

The fit sees data/proxy_sweep.csv alone: all of it, or with `--fit 32m` what reads 32M tokens or more, with `--fit 0.8m`
sizes of 0.8M parameters or more; with `--fit both-32m` also data/proxy_sweep_more.csv from 32M tokens.
The runs of data/proxy_unseen.csv are 10M and 16M parameters on 64M and 120M tokens, learning rate x batch, and four
learning rates at one batch of 13M; where they were put was decided once the fit had spoken (data/README.md).

1. The optimum of each scale: a quadratic in (ln lr, ln batch) through ln loss of the settings within the window of the
   lowest of their scale, whose bend all scales share; each has an optimum and a floor of its own. Cost of a choice:
   what the quadratic says there above its minimum, so that a lucky run is no yardstick. Errors: refits in which what is
   left over changes its sign run by run, widened for what was fitted. Second opinion, of optima and costs: the cubic
   valley of `shapes`, in which too high a rate may cost more than too low a one. Beside both, costs on interpolated
   runs, whose noise is that of single runs.
2. Whether the 90 % intervals of learning rate and batch hold these optima, and the expected loss its floor.
3. The learning rate at each batch that was tried: parabolas in ln lr (one bend for all slices), against what
   `lawfit predict --batch-tokens` says there. A slice whose best lies outside the rates tried is not judged.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

import lawfit
from lawfit.estimate.lr_batch.backtest import ARGMIN, E1, OURS, columns_of, published_predictions
from lawfit.estimate.numerics.regression import fit_argmin_ols, fit_e1
from lawfit.estimate.numerics.scoring import ObservedSurface
from lawfit.estimate.observe.observations import observe
from tests.benchmarks.shapes import VALLEY, Optima, smooth_optima
from tests.benchmarks.shared import Floats, mean_and_error

DATA = Path(__file__).parents[2] / "data"
WEIGHT_DECAY = 0.1
FEWEST_TOKENS = 31e6  # before, runs end in the noisy phase of data/README.md
FEWEST_PARAMS = 7e5
FEWEST_RUNS = 10  # of a scale with an optimum of its own
SCALE = ["n_params", "n_tokens"]
SLICE = [*SCALE, "batch_size_tokens"]
SETTING = [*SLICE, "learning_rate"]
Setting = tuple[float, float]  # learning rate, tokens per step


@dataclass(frozen=True, kw_only=True)
class Bowls:
    """Quadratics of one bend; the first of each array is the fit, the others are refits."""

    optimum: Floats  # (1 + resamples, scales, 2) ln lr and ln batch
    bend: Floats  # (1 + resamples, 3) of u^2, u v and v^2 about the optimum
    floor: Floats  # (scales,) loss at the optimum, nats per token
    scatter: float  # standard deviation of what is left over, ln loss

    def cost(self, scale: int, setting: Setting) -> Floats:
        """(1 + resamples,) share of loss above the floor."""
        u, v = (np.log(setting) - self.optimum[:, scale]).T
        return self.bend[:, 0] * u**2 + self.bend[:, 1] * u * v + self.bend[:, 2] * v**2


def near(runs: pd.DataFrame, window: float) -> pd.DataFrame:
    """The runs of settings within the window, seeds averaged for that; with `log_loss`, `scale` and `size`."""
    runs = runs.assign(log_loss=np.log(runs["final_loss"]))
    mean = runs.groupby(SETTING)["log_loss"].transform("mean")
    rows = runs[mean < mean.groupby([runs[name] for name in SCALE]).transform("min") + window].sort_values(SCALE)
    return rows.assign(scale=rows.groupby(SCALE).ngroup(), size=rows.groupby("n_params").ngroup())


def fit_bowls(rows: pd.DataFrame, rng: np.random.Generator, resamples: int) -> Bowls:
    member = (rows["scale"].to_numpy()[:, None] == np.arange(rows["scale"].max() + 1)).astype(float)
    log = np.log(rows[["learning_rate", "batch_size_tokens"]].to_numpy(float))
    centre = log.mean(0)
    u, v = (log - centre).T
    x = np.column_stack([member, member * u[:, None], member * v[:, None], u**2, u * v, v**2])
    y, solve = rows["log_loss"].to_numpy(), np.linalg.pinv(x)
    says = x @ solve @ y
    rest = (y - says) * np.sqrt(len(y) / (len(y) - x.shape[1]))
    signs = rng.choice([-1.0, 1.0], (resamples, len(y)))
    found = np.vstack([y, says + signs * rest]) @ solve.T
    count = member.shape[1]
    flat, slope = found[:, :count], np.stack([found[:, count : 2 * count], found[:, 2 * count : 3 * count]], axis=2)
    a, b, c = found[:, -3:].T
    bend = np.stack([np.stack([2 * a, b], 1), np.stack([b, 2 * c], 1)], 1)
    if (np.linalg.eigvalsh(bend)[:, 0] <= 0).any():
        raise SystemExit("a refit has no minimum: the runs in this window show none; widen it")
    optimum = -np.linalg.solve(bend[:, None], slope[..., None])[..., 0]
    floor = flat[0] + (slope[0] * optimum[0]).sum(1) / 2
    return Bowls(optimum=optimum + centre, bend=found[:, -3:], floor=np.exp(floor), scatter=float(np.std(rest)))


def slices(runs: pd.DataFrame, window: float) -> pd.DataFrame:
    """Best learning rate of each batch with its standard error, ln; `inside` where rates were tried on both sides."""
    rows = runs.assign(log_loss=np.log(runs["final_loss"]), log_lr=np.log(runs["learning_rate"]))
    rows = rows[rows["log_loss"] < rows.groupby(SLICE)["log_loss"].transform("min") + window]
    member = (rows.groupby(SLICE).ngroup().to_numpy()[:, None] == np.arange(rows.groupby(SLICE).ngroups)).astype(float)
    u = (rows["log_lr"] - rows.groupby(SLICE)["log_lr"].transform("mean")).to_numpy()
    x = np.column_stack([member, member * u[:, None], u**2])
    solve = np.linalg.pinv(x)
    found = solve @ rows["log_loss"].to_numpy()
    rest = rows["log_loss"].to_numpy() - x @ found
    cov = solve @ solve.T * (rest @ rest) / (len(rows) - x.shape[1])
    count, bend = member.shape[1], found[-1]
    move = -found[count : 2 * count] / (2 * bend)
    by = np.zeros((count, x.shape[1]))
    by[np.arange(count), count + np.arange(count)] = -1 / (2 * bend)
    by[:, -1] = -move / bend
    table = rows.groupby(SLICE).agg(log_lr=("log_lr", "mean")).reset_index()
    table["best"] = np.exp(table["log_lr"] + move)
    table["error"] = np.sqrt(np.einsum("ij,jk,ik->i", by, cov, by))
    tried = runs.groupby(SLICE)["learning_rate"].agg(["min", "max"]).reset_index()
    return table.assign(inside=(table["best"] > tried["min"]) & (table["best"] < tried["max"]))


def evidence(which: str) -> pd.DataFrame:
    """Runs to fit; beyond the whole sweep those of the weight decay that its grids have."""
    sweep = pd.read_csv(DATA / "proxy_sweep.csv")
    if which == "sweep":
        return sweep
    if which == "both-32m":
        sweep = pd.concat([sweep, pd.read_csv(DATA / "proxy_sweep_more.csv")], ignore_index=True)
    large = sweep["n_params"] > FEWEST_PARAMS if which == "0.8m" else sweep["n_tokens"] > FEWEST_TOKENS
    return sweep[large & (sweep["weight_decay"] == WEIGHT_DECAY)]


def choices(answer: Any, laws: Mapping[str, Any], params: float, tokens: float) -> dict[str, Setting]:
    found = {OURS: (float(answer.lr), float(answer.batch_tokens))}
    for name, law in laws.items():
        found[name] = tuple(float(x.predict(params=params, tokens=tokens)) for x in (law.lr, law.batch_tokens))
    for name, predict in published_predictions().items():
        found[name] = tuple(float(x[0]) for x in predict(np.array([params]), np.array([tokens])))
    return {name: setting for name, setting in found.items() if np.isfinite(setting).all()}


def show_scale(
    at: int, runs: pd.DataFrame, answer: Any, bowls: Bowls, valley: Optima, laws: Mapping[str, Any]
) -> dict[str, Any]:
    """One scale with a whole grid: prints it, and gives its row."""
    params, tokens = (float(runs[name].iloc[0]) for name in SCALE)
    error, of_valley = np.std(bowls.optimum[1:, at], axis=0), valley.log.reshape(2, -1)[:, at]
    error_of_valley = np.sqrt(np.diag(valley.cov)).reshape(2, -1)[:, at]
    stated = answer.document["expected_regret"]["loss_fraction"]
    row: dict[str, Any] = {"params": params, "tokens": tokens, "stated": stated, "costs": {}}
    loss = answer.document["expected_loss"]
    row["loss"] = {"floor": float(bowls.floor[at]), **{name: loss[name] for name in ("value", "low", "high")}}
    print(
        f"\n{params / 1e6:.1f}M parameters on {tokens / 1e6:.0f}M tokens, {len(runs)} runs, the lowest "
        f"{runs['final_loss'].min():.4f}; floor {bowls.floor[at]:.4f} (valley {np.exp(valley.floor[at]):.4f}), "
        f"said {loss['value']:.4f}, {loss['low']:.4f} to {loss['high']:.4f}"
    )
    said = (("lr", answer.lr, answer.lr_interval), ("batch", answer.batch_tokens, answer.batch_interval))
    for axis, (name, value, (low, high)) in enumerate(said):
        both = float(np.exp(bowls.optimum[0, at, axis])), float(np.exp(of_valley[axis]))
        held = tuple(bool(low <= x <= high) for x in both)
        row[name] = {"best": both, "said": float(value), "low": low, "high": high, "holds": held}
        print(
            f"  {name:<5s} said {value:.4g}, {low:.4g} to {high:.4g}; best {both[0]:.4g} (ln +- {error[axis]:.2f}), "
            f"valley {both[1]:.4g} (+- {error_of_valley[axis]:.2f}); holds {held[0]}, {held[1]}"
        )
    surface = ObservedSurface(runs["learning_rate"], runs["batch_size_tokens"], runs["final_loss"])
    print(f"  {'cost, %, of':<52s}{'lr':>9s}{'batch':>10s}{'quadratic':>14s}{'valley':>8s}{'on runs':>9s}")
    for name, setting in choices(answer, laws, params, tokens).items():
        cost, score = bowls.cost(at, setting), surface.regret(*setting)
        u, v = np.log(setting) - of_valley
        by_valley = float(VALLEY(np.array([u]), np.array([v]), valley.valley)[0][0])
        row["costs"][name] = (float(cost[0]), by_valley, float(score.regret))
        print(
            f"  {name[:51]:<52s}{setting[0]:>9.2g}{setting[1]:>10,.0f}{100 * cost[0]:>7.2f} "
            f"+- {100 * cost[1:].std():.2f}{100 * by_valley:>7.2f}{100 * score.regret:>9.2f}"
            f"{' at least' if score.outside else ''}"
        )
    return row


def show_means(rows: list[dict[str, Any]]) -> None:
    print(f"\nMean cost over {len(rows)} scales, %: quadratic (+- over scales), valley, on runs")
    for name in rows[0]["costs"]:
        costs = 100 * np.array([row["costs"][name] for row in rows])
        mean, error = mean_and_error(costs[:, 0])
        print(f"  {name[:51]:<52s}{mean:.2f} +- {error:.2f}{costs[:, 1].mean():>7.2f}{costs[:, 2].mean():>7.2f}")
    held = {axis: np.sum([row[axis]["holds"] for row in rows], axis=0) for axis in ("lr", "batch")}
    print(f"  stated {100 * np.mean([row['stated'] for row in rows]):.2f}")
    print("  90 % intervals hold the optimum of (quadratic, valley):", end=" ")
    print(", ".join(f"{axis} {a} and {b}" for axis, (a, b) in held.items()), f"of {len(rows)}")


def show_slices(fit: Any, runs: pd.DataFrame, window: float) -> list[dict[str, Any]]:
    """The best rate at each batch, against the answer with that batch given."""
    print("\nLearning rate at a given batch: best (ln +- error); said, 90 % interval")
    rows = []
    for at in slices(runs, window).itertuples():
        given = lawfit.predict(fit, params=at.n_params, tokens=at.n_tokens, batch_tokens=at.batch_size_tokens)
        low, high = given.lr_interval
        held = bool(low <= at.best <= high)
        rows.append({name: float(getattr(at, name)) for name in (*SLICE, "best", "error")})
        rows[-1] |= {"said": float(given.lr), "low": low, "high": high, "inside": bool(at.inside), "holds": held}
        note = ("holds" if held else "misses") if at.inside else "best lies beyond the rates tried"
        print(
            f"  {at.n_params / 1e6:5.1f}M {at.n_tokens / 1e6:4.0f}M {at.batch_size_tokens:>7,}: {at.best:.2e} "
            f"(+- {at.error:.2f}); {given.lr:.2e}, {low:.2e} to {high:.2e}: {note}"
        )
    judged = [row for row in rows if row["inside"]]
    off = np.array([np.log(row["said"] / row["best"]) for row in judged])
    print(
        f"  holds {sum(row['holds'] for row in judged)} of {len(judged)}, {len(rows) - len(judged)} not judged; "
        f"ln said / best: mean {off.mean():+.2f}, root mean square {np.sqrt(np.mean(off**2)):.2f}"
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--window", type=float, default=0.03, help="of ln loss above the lowest setting of a scale")
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fit", choices=["sweep", "32m", "0.8m", "both-32m"], default="sweep", help="which runs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    sweep = lawfit.observe(evidence(options.fit))
    fit, columns = lawfit.fit(sweep), columns_of(observe(sweep.runs))
    laws = {ARGMIN: fit_argmin_ols(columns), E1: fit_e1(columns)}
    unseen = pd.read_csv(DATA / "proxy_unseen.csv")
    grids = unseen[unseen.groupby(SCALE)["final_loss"].transform("size") >= FEWEST_RUNS]
    rows = near(grids, options.window)
    bowls = fit_bowls(rows, np.random.default_rng(options.seed), options.resamples)
    valley = smooth_optima(rows)
    print(f"{len(unseen)} runs; {len(rows)} of the grids within {options.window:.0%}, which leave {bowls.scatter:.2%}")
    found = []
    for at, ((params, tokens), runs) in enumerate(grids.groupby(SCALE)):
        answer = lawfit.predict(fit, params=float(params), tokens=float(tokens))
        found.append(show_scale(at, runs, answer, bowls, valley, laws))
    show_means(found)
    given = show_slices(fit, unseen, options.window)
    if options.json:
        options.json.write_text(json.dumps({"scales": found, "slices": given}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
