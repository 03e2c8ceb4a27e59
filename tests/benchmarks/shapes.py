"""Whether a size's shape says how far its best settings lie off the laws; and where few tokens per parameter bend them.

    python -m tests.benchmarks.shapes [--draws 1000] [--seed 0] [--json FILE]

Our own sweep, the sizes of other shapes and the runs of few tokens per parameter, at weight decay 0.1 and 32M tokens or
more (before, runs end in the noisy phase that `data/README.md` speaks of).

1. Smooth optima: runs within `WINDOW` of their scale's lowest loss, one cubic valley for all scales, an optimum in
   (ln lr, ln batch) and a floor for each, Huber weights, noise of each scale. Scales with fewer than `FEWEST_RUNS` runs
   in the window, or fewer than three batches there, are left out. The optima's covariance is kept.
2. Laws: ln optimum = 1, ln N, ln D, few tokens (the product's own term), and one covariate of the size: nothing, ln
   width, ln layers, ln (width / layers), or random numbers, one a size, drawn many times. A deviation of the size and
   one of the scale lie beside the optima's covariance; their standard deviations (half-normal priors of 0.3 and 0.15)
   are averaged over by restricted likelihood, by generalised least squares at each.
3. Each size is left out in turn and its optima are foretold. Scored: squared error in ln lr and in ln batch, and what
   the valley says that the foretold setting costs; mean over a size's scales, then over sizes, and the differences to
   the law without a covariate with standard errors paired over sizes, and again without the size that moves the
   difference most. The optima that are foretold are known to 0.1 to 0.3 only, which all laws pay alike.

The coefficient of few tokens is printed with its standard error (sizes are clusters), with nothing, with ln layers, and
with a curvature in ln N beside it: the sizes of few tokens are the largest ones, so these two are hard to tell apart.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from lawfit.estimate.numerics.law_terms import few_tokens
from lawfit.estimate.numerics.shapes import SHAPES
from tests.benchmarks.shared import Floats, Ints, mean_and_error

DATA = Path(__file__).parents[2] / "data"
FILES = ("proxy_sweep.csv", "proxy_shapes.csv", "proxy_few_tokens.csv")
FEWEST_TOKENS = 31e6
WEIGHT_DECAY = 0.1
WINDOW = 0.03  # of ln loss above the scale's lowest
FEWEST_RUNS, FEWEST_BATCHES = 8, 3
NOISE, NOISE_WORTH = 0.006, 4.0  # of ln loss, and as many runs as this guess is worth
HUBER = 1.5  # standard deviations
ROUNDS = 25  # of weights and noise
VALLEY = SHAPES["cubic"]
SIZE_PRIOR, SCALE_PRIOR = 0.3, 0.15  # half-normal, of the standard deviations in ln
SPREADS = np.array([(a, b) for a in np.geomspace(0.01, 0.8, 16) for b in np.geomspace(0.01, 0.5, 12)])
AXES = ("ln lr", "ln batch")


@dataclass(frozen=True, kw_only=True)
class Optima:
    """Smooth optima of the scales; `log` holds ln lr of all scales, then ln batch of all."""

    params: Floats  # (scales,)
    tokens: Floats  # (scales,)
    layers: Floats  # (scales,)
    width: Floats  # (scales,)
    size: Ints  # (scales,) index of the size: parameters and shape
    log: Floats  # (2 scales,)
    cov: Floats  # (2 scales, 2 scales)
    floor: Floats  # (scales,) ln loss at the optimum
    valley: Floats  # coefficients of the shared valley

    def axis(self, axis: int) -> tuple[Floats, Floats]:
        """ln optimum of each scale along one axis, and its covariance."""
        part = slice(axis * len(self.size), (axis + 1) * len(self.size))
        return self.log[part], self.cov[part, part]

    def at_a_batch(self) -> tuple[Floats, Floats]:
        """ln of the best learning rate at one given batch: the optimum, moved along the valley's floor."""
        tilt = -self.valley[1] / (2 * self.valley[0])
        move = np.hstack([np.eye(len(self.size)), -tilt * np.eye(len(self.size))])
        return move @ self.log, move @ self.cov @ move.T

    def laws(self) -> Floats:
        """(scales, 4): 1, ln N, ln D and few tokens."""
        n, d = np.log(self.params), np.log(self.tokens)
        return np.column_stack([np.ones_like(n), n - n.mean(), d - d.mean(), few_tokens(d - n)])


def near_runs() -> pd.DataFrame:
    """The runs of the three tables inside the window of their scale, with `size` and `scale` as indices."""
    runs = pd.concat([pd.read_csv(DATA / name) for name in FILES])
    runs = runs[(runs["weight_decay"] == WEIGHT_DECAY) & (runs["n_tokens"] > FEWEST_TOKENS)]
    runs = runs.assign(horizon=(4 * np.log2(runs["n_tokens"] / 1e6)).round(), log_loss=np.log(runs["final_loss"]))
    scale = ["n_params", "layers", "width", "horizon"]
    near = runs[runs["log_loss"] < runs.groupby(scale)["log_loss"].transform("min") + WINDOW]
    enough = near.groupby(scale)["log_loss"].transform("size") >= FEWEST_RUNS
    enough &= near.groupby(scale)["batch_size_tokens"].transform("nunique") >= FEWEST_BATCHES
    near = near[enough].sort_values(scale)
    return near.assign(scale=near.groupby(scale).ngroup(), size=near.groupby(scale[:3]).ngroup())


def smooth_optima(runs: pd.DataFrame) -> Optima:
    """The optimum of each scale on one valley that all share."""
    scale = runs["scale"].to_numpy()
    lr, batch = np.log(runs["learning_rate"].to_numpy()), np.log(runs["batch_size_tokens"].to_numpy())
    loss, count = runs["log_loss"].to_numpy(), int(scale.max()) + 1
    member = (scale[:, None] == np.arange(count)).astype(float)
    lowest = np.array([loss[scale == c].min() for c in range(count)])
    weight = member * np.exp(-(loss - lowest[scale]) / 0.004)[:, None]
    start = np.concatenate([lr @ weight / weight.sum(0), batch @ weight / weight.sum(0)])
    guess = np.concatenate([start, lowest, VALLEY.prior_mean])
    prior_sd = np.concatenate([np.full(2 * count, 1.5), np.full(count, 1.0), VALLEY.prior_sd])
    noise, robust = np.full(count, NOISE), np.ones(len(loss))

    def residuals(theta: Floats) -> tuple[Floats, Floats]:
        a, b, floor = theta[: 3 * count].reshape(3, count)
        h, by_u, by_v, by_q = VALLEY(lr - a[scale], batch - b[scale], theta[3 * count :])
        slope = np.column_stack([-by_u[:, None] * member, -by_v[:, None] * member, member, by_q.T])
        return loss - floor[scale] - h, -slope

    def objective(theta: Floats) -> Floats:
        return np.concatenate([np.sqrt(robust) / noise[scale] * residuals(theta)[0], (theta - guess) / prior_sd])

    def jacobian(theta: Floats) -> Floats:
        return np.vstack([(np.sqrt(robust) / noise[scale])[:, None] * residuals(theta)[1], np.diag(1 / prior_sd)])

    theta = guess
    for _ in range(ROUNDS):
        theta = least_squares(objective, theta, jac=jacobian, method="lm").x
        rest = residuals(theta)[0]
        freedom = np.maximum(member.sum(0) - 3, 0) + NOISE_WORTH
        noise = np.sqrt((member.T @ (robust * rest**2) + NOISE_WORTH * NOISE**2) / freedom)
        robust = 1 / np.maximum(1, np.abs(rest) / (HUBER * noise[scale]))
    slope = jacobian(theta)
    of_scale = runs.groupby("scale")
    params, layers, width = (of_scale[name].first().to_numpy(float) for name in ("n_params", "layers", "width"))
    return Optima(
        params=params,
        tokens=of_scale["n_tokens"].mean().to_numpy(),
        layers=layers,
        width=width,
        size=of_scale["size"].first().to_numpy(),
        log=theta[: 2 * count],
        cov=np.linalg.inv(slope.T @ slope)[: 2 * count, : 2 * count],
        floor=theta[2 * count : 3 * count],
        valley=theta[3 * count :],
    )


@dataclass(frozen=True, kw_only=True)
class Law:
    """A law with one covariate more, for each of many covariates, averaged over the spreads."""

    coefficient: Floats  # (covariates,) of the covariate
    error: Floats  # (covariates,) its standard error
    size_sd: Floats  # (covariates,) mean over the spreads
    foretold: Floats  # (targets, covariates)

    def of(self, covariate: int) -> tuple[float, float, float]:
        """Coefficient, standard error and sd of sizes."""
        return float(self.coefficient[covariate]), float(self.error[covariate]), float(self.size_sd[covariate])


def fit_law(
    x: Floats, extra: Floats, y: Floats, cov: Floats, size: Ints, target: tuple[Floats, Floats] | None = None
) -> Law:
    """Generalised least squares of y on x and one column of `extra` at a time (0 in all rows: none).

    Parameters
    ----------
    x, extra : (scales, terms), (scales, covariates)
    y, cov : (scales,) and its covariance (scales, scales)
    target : x and extra of the scales to foretell
    """
    x_new, extra_new = target if target is not None else (x[:0], extra[:0])
    same = (size[:, None] == size).astype(float)
    cost, mean, variance, foretold = [], [], [], []
    for size_sd, scale_sd in SPREADS:
        root = np.linalg.cholesky(cov + size_sd**2 * same + scale_sd**2 * np.eye(len(y)))
        white = np.linalg.solve(root, np.column_stack([x, y, extra]))
        a, rest = white[:, : x.shape[1]], white[:, x.shape[1] :]
        on_x = np.linalg.lstsq(a, rest, rcond=None)[0]  # Frisch and Waugh: what x explains of y and of the covariates
        rest = rest - a @ on_x
        square = np.sum(rest[:, 1:] ** 2, axis=0)
        there = square > 1e-9
        square = np.where(there, square, 1.0)
        slope = np.where(there, rest[:, 0] @ rest[:, 1:] / square, 0.0)
        left = rest[:, 0] @ rest[:, 0] - slope**2 * square
        prior = 0.5 * (size_sd / SIZE_PRIOR) ** 2 + 0.5 * (scale_sd / SCALE_PRIOR) ** 2 - np.log(size_sd * scale_sd)
        fixed = np.log(np.diag(root)).sum() + 0.5 * np.linalg.slogdet(a.T @ a)[1] + prior
        cost.append(fixed + 0.5 * left + 0.5 * np.log(square))
        mean.append(slope)
        variance.append(1 / square)
        foretold.append((x_new @ on_x[:, 0])[:, None] + slope * (extra_new - x_new @ on_x[:, 1:]))
    weight = np.exp(np.min(cost, axis=0) - np.array(cost))
    weight /= weight.sum(axis=0)
    coefficient = np.sum(weight * mean, axis=0)
    return Law(
        coefficient=coefficient,
        error=np.sqrt(np.sum(weight * (np.array(variance) + np.array(mean) ** 2), axis=0) - coefficient**2),
        size_sd=SPREADS[:, 0] @ weight,
        foretold=np.einsum("sc,stc->tc", weight, np.array(foretold)),
    )


def leave_sizes_out(optima: Optima, extra: Floats) -> Floats:
    """(sizes, 3, covariates): squared errors in ln lr and ln batch, and what the foretold setting costs (share)."""
    x, scores = optima.laws(), []
    for size in np.unique(optima.size):
        out = optima.size == size
        errors = []
        for axis in range(2):
            y, cov = optima.axis(axis)
            kept = ~out
            target = (x[out], extra[out])
            law = fit_law(x[kept], extra[kept], y[kept], cov[np.ix_(kept, kept)], optima.size[kept], target)
            errors.append(law.foretold - y[out][:, None])
        u, v = errors
        q = optima.valley  # its quadratic part: the cubic one is not to be trusted far from the optimum
        scores.append([np.mean(s, axis=0) for s in (u**2, v**2, q[0] * u**2 + q[1] * u * v + q[2] * v**2)])
    return np.array(scores)


def covariates(optima: Optima) -> dict[str, Floats]:
    """(scales,) of each named covariate; nought is none."""
    width, layers = np.log(optima.width), np.log(optima.layers)
    return {"nothing": 0 * width, "ln width": width, "ln layers": layers, "ln (width / layers)": width - layers}


def bends(optima: Optima) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Coefficient of few tokens, its standard error and the sd of sizes: for each answer, by what stands beside."""
    x, log_params = optima.laws(), np.log(optima.params)
    curved = (log_params - log_params.mean())[:, None] ** 2
    beside = {"nothing": x[:, :0], "ln layers": np.log(optima.layers)[:, None], "(ln N)^2": curved}
    found = {}
    for name, (y, cov) in {
        AXES[0]: optima.axis(0), AXES[1]: optima.axis(1), "ln lr at a batch": optima.at_a_batch(),
    }.items():  # fmt: skip
        laws = {
            other: fit_law(np.column_stack([x[:, :3], column]), x[:, 3:], y, cov, optima.size)
            for other, column in beside.items()
        }
        found[name] = {other: law.of(0) for other, law in laws.items()}
    return found


def exponents(optima: Optima, named: dict[str, Floats]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Coefficient, standard error and sd of sizes of each named covariate, for both axes."""
    extra = np.column_stack(list(named.values()))
    laws = {axis: fit_law(optima.laws(), extra, *optima.axis(at), optima.size) for at, axis in enumerate(AXES)}
    return {name: {axis: law.of(at) for axis, law in laws.items()} for at, name in enumerate(named) if at}


def judged(scores: Floats, at: int, named: int) -> dict[str, dict[str, float]]:
    """What covariate `at` scored, against none (the first) and against the random ones (from `named` on)."""
    found = {}
    for what, (unit, times) in enumerate(zip((*AXES, "cost %"), (1.0, 1.0, 100.0), strict=True)):
        each, random = times * scores[:, what, at], times * scores[:, what, named:].mean(axis=0)
        paired = each - times * scores[:, what, 0]
        difference, error = mean_and_error(paired)
        others, others_error = mean_and_error(np.delete(paired, np.abs(paired).argmax()))
        found[unit] = {
            "mean": float(each.mean()), "random": float(np.median(random)),
            "as_good": float(np.mean(random <= each.mean())), "difference": difference, "error": error,
            "others": others, "others_error": others_error,
        }  # fmt: skip
    return found


def words(unit: str, row: dict[str, float]) -> str:
    if row["difference"] == 0:
        return f"{unit} {row['mean']:.3f} (random covariates, median: {row['random']:.3f})"
    return (
        f"{unit} {row['mean']:.3f} ({row['difference']:+.3f} +- {row['error']:.3f}, without one size "
        f"{row['others']:+.3f} +- {row['others_error']:.3f}; {row['as_good']:.1%} of random ones as good)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=1000, help="random covariates")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args()
    optima = smooth_optima(near_runs())
    named, sizes = covariates(optima), len(np.unique(optima.size))
    drawn = np.random.default_rng(options.seed).normal(size=(sizes, options.draws))[optima.size]
    scores = leave_sizes_out(optima, np.column_stack([*named.values(), drawn]))
    known = np.sqrt(np.diag(optima.cov))
    print(
        f"{len(optima.size)} scales of {sizes} sizes; optima known to {known.min():.2f} to {known.max():.2f} (ln). "
        "Each size left out: squared error in ln lr and in ln batch, and cost by the valley; "
        "differences to nothing, paired over sizes"
    )
    said = {name: judged(scores, at, len(named)) for at, name in enumerate(named)}
    for name, of in said.items():
        print(f"  {name:20} {', '.join(words(unit, row) for unit, row in of.items())}")
    moved = exponents(optima, named)
    print("exponents of the covariates, all sizes fitted (sd of sizes beside it):")
    for name, of_axes in moved.items():
        each = (f"{axis} {slope:+.2f} +- {error:.2f} ({sd:.2f})" for axis, (slope, error, sd) in of_axes.items())
        print(f"  {name:20} {', '.join(each)}")
    bent = bends(optima)
    print("few tokens per parameter, change per nat below 10 (sd of sizes), by what else the law has:")
    for name, laws in bent.items():
        each = (f"{beside} {slope:+.2f} +- {error:.2f} ({sd:.2f})" for beside, (slope, error, sd) in laws.items())
        print(f"  {name:20} {', '.join(each)}")
    if options.json:
        options.json.write_text(json.dumps({"covariates": said, "exponents": moved, "few_tokens": bent}, indent=1))


if __name__ == "__main__":
    main()
