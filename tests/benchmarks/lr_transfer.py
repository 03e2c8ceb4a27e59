"""Does the interval of the transfer view hold the truth? Exponents of width (and of tokens), and each sweep's optimum.

    python -m tests.benchmarks.lr_transfer [--simulations 1000]

Simulated sweeps with a known optimum: valleys that are none of ours (their stiffness and skew differ between sizes),
noise that differs from sweep to sweep, scales that lie off their law, learning rates that diverge. Two designs: four
widths at one horizon and batch, six learning rates a factor two apart (as data/proxy_mup.csv), and five widths by three
horizons by two batches. Beside the width of our intervals stands that of an oracle, which knows every valley, the noise
and the scatter, and has only the optima left to find.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from lawfit.errors import LawfitError
from lawfit.estimate.transfer.lr import Transfer, fit_transfer
from lawfit.records import Recipe, Run, RunStatus

Floats = NDArray[np.float64]

LEVEL = 0.9
SLOPES = (0.0, -0.3, -0.8)
DESIGNS = {
    "4 widths": ((64.0, 128.0, 256.0, 352.0), (32e6,), (8192.0,)),
    "5 widths x 3 horizons x 2 batches": ((64.0, 96.0, 128.0, 192.0, 256.0), (16e6, 32e6, 64e6), (8192.0, 32768.0)),
}
SCATTER = 0.06  # sd of ln lr* of a scale around its law


@dataclass(frozen=True)
class World:
    runs: list[Run]
    optima: dict[tuple[float, float, float], float]  # (params, tokens, batch) -> ln lr*
    size_exponent: float
    tokens_exponent: float
    oracle_sd: float  # of the size exponent


def simulate(design: str, rng: np.random.Generator) -> World:
    """One sweep with a known truth."""
    widths, horizons, batches = DESIGNS[design]
    slope, along = float(rng.choice(SLOPES)), float(rng.choice((0.0, -0.4)))
    level = np.log(0.02) + rng.normal(0, 0.3)
    typical = float(np.exp(rng.uniform(np.log(5e-4), np.log(8e-3))))
    left, right, quartic = np.exp(rng.normal(np.log([0.02, 0.035, 0.002]), 0.5))
    runs: list[Run] = []
    optima: dict[tuple[float, float, float], float] = {}
    rows, weights = [], []
    for width in widths:
        for tokens in horizons:
            own = rng.normal(0, SCATTER)
            for batch in batches:
                params = 12 * 4 * width**2
                mean = slope * np.log(width / 128) + along * np.log(tokens / 32e6) + 0.4 * np.log(batch / 8192)
                best = level + mean + own
                optima[params, tokens, batch] = best
                noise = typical * np.exp(rng.normal(0, 0.4))
                stiffness = np.exp(rng.normal(0, 0.2) + rng.normal(0, 0.15, 2)) * (left, right)
                # a grid of factors of two that somebody placed without knowing the optimum
                centre = np.round((best + rng.normal(0, 0.3)) / np.log(2)) * np.log(2)
                x = centre + np.log(2) * np.arange(-3, 3)
                u = x - best
                # stiffer on one side, bending over far out, with a wall: none of our shapes
                side = 1 / (1 + np.exp(-u / 0.4))
                h = ((1 - side) * stiffness[0] + side * stiffness[1]) * u**2 / (1 + 0.15 * np.abs(u)) + quartic * u**4
                loss = (
                    2.5 * (width / 128) ** -0.15 * (tokens / 32e6) ** -0.05 * np.exp(h + rng.normal(0, noise, len(x)))
                )
                gone = u > 2.2
                slopes = np.gradient(h, u)[~gone]
                rows.append((1.0, np.log(width), np.log(tokens), np.log(batch)))
                weights.append(1 / (SCATTER**2 + noise**2 / (slopes @ slopes - slopes.sum() ** 2 / len(slopes))))
                runs += [
                    Run(
                        run_key=f"{len(runs) + k}",
                        params=params,
                        tokens=tokens,
                        batch_tokens=batch,
                        lr=float(np.exp(x[k])),
                        status=RunStatus.DIVERGED if gone[k] else RunStatus.FINISHED,
                        loss=None if gone[k] else float(loss[k]),
                        extra={"width": width},
                    )
                    for k in range(len(x))
                ]
    design_matrix = np.array(rows)[:, [0] + [k for k in range(1, 4) if np.ptp(np.array(rows)[:, k]) > 0]]
    information = design_matrix.T @ (np.array(weights)[:, None] * design_matrix)
    return World(
        runs=runs,
        optima=optima,
        size_exponent=slope,
        tokens_exponent=along,
        oracle_sd=float(np.sqrt(np.linalg.inv(information)[1, 1])),
    )


def judge(world: World, found: Transfer) -> tuple[dict[str, bool], dict[str, float], list[bool]]:
    """Which intervals hold their truth; how wide they are; and for each sweep that shows its optimum."""
    truth = {"size": world.size_exponent, "tokens": world.tokens_exponent}
    held = {name: axis.low <= truth[name] <= axis.high for name, axis in found.axes.items()}
    widths = {name: axis.high - axis.low for name, axis in found.axes.items()}
    sweeps = [
        row["low"] <= np.exp(world.optima[row["params"], row["tokens"], round(row["batch_tokens"])]) <= row["high"]
        for row in found.to_json()["sweeps"]
        if row["status"] == "inside"
    ]
    return held, widths, sweeps


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=20261122)
    asked = parser.parse_args()
    recipe = Recipe(name="simulated", parametrization="mup")
    for design in DESIGNS:
        rng = np.random.default_rng(asked.seed)
        held: dict[str, list[float]] = {"size": [], "tokens": [], "sweeps": []}
        ratios, refused, flat = [], 0, []
        for _ in range(asked.simulations):
            world = simulate(design, rng)
            try:
                found = fit_transfer(recipe, world.runs, level=LEVEL)
            except LawfitError:
                refused += 1
                continue
            ok, widths, sweeps = judge(world, found)
            for name, value in ok.items():
                held[name].append(value)
            held["sweeps"].append(float(np.mean(sweeps)) if sweeps else np.nan)
            if "size" in widths:
                ratios.append(widths["size"] / (2 * 1.645 * world.oracle_sd))
                flat.append((world.size_exponent, found.axes["size"].verdict))
        print(f"{design}: {asked.simulations} simulated sweeps, {refused} refused")
        for name in ("size", "tokens"):
            if held[name]:
                count = binomtest(int(np.sum(held[name])), len(held[name]))
                low, high = count.proportion_ci(0.98, method="exact")
                words = f"{np.mean(held[name]):.1%} hold the truth ({low:.1%} to {high:.1%})"
                print(f"  {LEVEL:.0%} interval of the exponent of {name:6}: {words}, {len(held[name])} intervals")
        print(f"  {LEVEL:.0%} interval of one sweep's optimum     : {np.nanmean(held['sweeps']):.1%} hold the truth")
        print(f"  width of the size interval over an oracle's: median {np.median(ratios):.2f}")
        for slope in SLOPES:
            said = [verdict for true, verdict in flat if true == slope]
            print(
                f"  true exponent {slope:+.1f}: "
                + ", ".join(f"{v} {said.count(v) / len(said):.0%}" for v in ("flat", "moves", "open"))
            )


if __name__ == "__main__":
    main()
