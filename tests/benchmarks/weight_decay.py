"""Weight decay: do intervals of the best timescale hold the truth, and what does the law cost on measured runs?

    nice python -m tests.benchmarks.weight_decay [SWEEPS] [FIRST_SEED]

1. Simulated sweeps of weight decay over three to six scales with known truth. Each world draws its own law, scatter of
   every scale around it, noise (0.05 to 1 %), valley (its skew and stiffness, and a plateau towards no weight decay
   that the fitted form does not have), slopes of the best timescale along learning rate and batch, grids that are off
   by the researcher's luck, and missing runs. Estimands: the best timescale of each scale, and that of a larger one,
   its own scatter included.
2. Our own sweep: fitted on the smaller sizes, priced on the runs of the largest, beside simpler rules and Power Lines,
   which lends nothing to the law that it is compared with.
3. The one-factor sweeps of the Marin optimizer study: what they can say alone, optimizer by optimizer. Nothing is lent:
   the AdamW timescale is not another optimizer's.

The constants of `lawfit.estimate.weight_decay.timescale` were set on seeds below 2000; the seeds here start at 10000.
"""

from __future__ import annotations

import csv
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.stats import binomtest

from lawfit.errors import FitError, LawfitError
from lawfit.estimate.weight_decay.sweep import DecayRuns, locate_weight_decay
from lawfit.estimate.weight_decay.timescale import RATIO, fit_timescale
from lawfit.laws.timescale import TimescaleLaw
from tests.benchmarks.decay_rules import score_largest_size
from tests.benchmarks.shared import shared_file

LEVEL = 0.9
FALSE_ALARM = 1e-2
POWER_LINES = TimescaleLaw(const=1.084, exponent=-0.527)
LENDERS = ("power_lines_timescale",)
OURS = Path(__file__).parents[2] / "data" / "proxy_sweep.csv"


@dataclass(frozen=True)
class World:
    law: TimescaleLaw
    scatter: float
    noise: float
    stiffness: float
    skew: float
    plateau: float
    lr_slope: float
    batch_slope: float

    def excess(self, u: np.ndarray) -> np.ndarray:
        """Log loss above the lowest at u = ln(tau / best tau); a plateau towards no weight decay (large u)."""
        z = self.skew * u
        h = self.stiffness * 2 * (np.expm1(np.clip(z, -30, 12)) - z) / self.skew**2
        return np.where(u > 0, self.plateau * -np.expm1(-h / self.plateau), np.minimum(h, 3.0))


@dataclass(frozen=True)
class Outcome:
    scales: tuple[bool, ...]  # covered
    target: bool | None
    scale_width: float
    target_width: float
    oracle: tuple[float, float]  # widths for whoever knows valley, noise and scatter: of a scale, of the larger one
    sparse: bool
    open_scales: int


def draw_world(rng: np.random.Generator) -> World:
    return World(
        law=TimescaleLaw(const=float(np.exp(rng.normal(0.1, 0.5))), exponent=float(rng.normal(-0.5, 0.2))),
        scatter=float(rng.uniform(0.02, 0.15)),
        noise=float(rng.choice([0.0005, 0.001, 0.003, 0.01])),
        stiffness=0.004 * float(np.exp(rng.normal(0, 0.5))),
        skew=float(rng.uniform(-1.3, -0.1)),
        plateau=float(rng.uniform(0.01, 0.1)),
        lr_slope=float(rng.normal(0, 0.2)),
        batch_slope=float(rng.normal(0, 0.2)),
    )


def simulate(world: World, rng: np.random.Generator) -> tuple[DecayRuns, dict[tuple[float, float], float]]:
    """Runs, and the true best timescale of each scale at its reference learning rate and batch."""
    sizes = [1e8, 3e8, 1e9][: int(rng.integers(2, 4))]
    ratios = [(20, 80), (10, 40, 160), (20,)][int(rng.integers(3))]
    scales = [(n, n * r * float(np.exp(0.2 * rng.standard_normal()))) for n in sizes for r in ratios]
    rates = [(1.0,), (0.5, 1.0, 2.0)][int(rng.integers(2))]
    batches = [(1.0,), (0.5, 2.0)][int(rng.integers(2))]
    ratio, count = [(2.0, 6), (10**0.5, 5)][int(rng.integers(2))]
    rows, truth = [], {}
    for params, tokens in scales:
        best = float(world.law.tau(params, tokens)) * float(np.exp(world.scatter * rng.standard_normal()))
        truth[params, tokens] = best
        lr, batch = 3e-3 * (params / 1e8) ** -0.3, 1e-4 * tokens
        middle = np.log(batch / (lr * tokens * best)) + 0.5 * rng.standard_normal()
        decays = [0.0, *np.exp(middle + np.log(ratio) * (np.arange(count) - (count - 1) / 2))]
        for x, b in ((x, b) for x in rates for b in batches):
            shift = world.lr_slope * _centred(rates, x) + world.batch_slope * _centred(batches, b)
            off = 0.02 * (np.log(x) ** 2 + 0.5 * np.log(b) ** 2)
            for decay in decays:
                if rng.random() < 0.05:
                    continue
                u = 12.0 if decay == 0 else np.log(batch * b / (lr * x * decay * tokens) / best) - shift
                loss = 3.0 * np.exp(off + float(world.excess(np.array(u))) + world.noise * rng.standard_normal())
                rows.append((params, tokens, batch * b, lr * x, decay, loss))
    return DecayRuns.of(*np.array(rows).T), truth


def one(seed: int) -> Outcome:
    rng = np.random.default_rng(seed)
    world = draw_world(rng)
    runs, truth = simulate(world, rng)
    params = 3e9
    tokens = params * float(rng.choice([20, 60]))
    there = float(world.law.tau(params, tokens)) * float(np.exp(world.scatter * rng.standard_normal()))
    fit = fit_timescale(runs)
    known = [s for s in fit.scales if np.isfinite(s.log_sd)]
    best = [
        truth[min(truth, key=lambda at, s=s: abs(np.log(at[0] / s.params)) + abs(np.log(at[1] / s.tokens)))]
        for s in known
    ]
    covered = tuple(abs(np.log(s.timescale / b)) <= 1.6449 * s.log_sd for s, b in zip(known, best, strict=True))
    target, width = None, np.nan
    if fit.law is not None:
        said = fit.law.predict(LEVEL, **{RATIO: tokens / params})
        target, width = bool(said.low <= there <= said.high), float(np.log(said.high / said.low))
    oracle_sd = np.array([oracle(world, runs, s.params, s.tokens, b) for s, b in zip(known, best, strict=True)])
    widths = [2 * 1.6449 * s.log_sd for s in known]
    return Outcome(
        scales=covered,
        target=target,
        scale_width=float(np.median(widths)) if widths else np.nan,
        target_width=width,
        oracle=(
            2 * 1.6449 * float(np.median(oracle_sd)) if len(known) else np.nan,
            oracle_width(np.array([s.tokens / s.params for s in known]), oracle_sd, world.scatter, tokens / params),
        ),
        sparse=fit.status.value == "sparse",
        open_scales=len(fit.scales) - len(known),
    )


def oracle(world: World, runs: DecayRuns, params: float, tokens: float, best: float) -> float:
    """sd of ln tau* from one scale's runs when the valley is known, its place and the floors are not (Cramer-Rao)."""
    information = 0.0
    near = np.abs(np.log(runs.params / params)) + np.abs(np.log(runs.tokens / tokens)) < 0.05
    for lr in np.unique(runs.lr[near]):
        for batch in np.unique(runs.batch_tokens[near & (runs.lr == lr)]):
            rows = near & (runs.lr == lr) & (runs.batch_tokens == batch) & (runs.weight_decay > 0)
            if rows.sum() > 1:
                u = np.log(batch / (lr * runs.weight_decay[rows] * runs.tokens[rows]) / best)
                slope = (world.excess(u + 1e-4) - world.excess(u - 1e-4)) / 2e-4
                information += float(((slope - slope.mean()) ** 2).sum()) / world.noise**2
    return information**-0.5


def oracle_width(ratios: np.ndarray, sd: np.ndarray, scatter: float, at: float) -> float:
    """Width at another scale when the sizes of all errors are known; only level and exponent are not."""
    if len(ratios) < 2 or np.ptp(np.log(ratios)) < 0.1:
        return np.nan
    design = np.column_stack([np.ones(len(ratios)), np.log(ratios)])
    covariance = np.linalg.inv(design.T @ (design / (sd**2 + scatter**2)[:, None]))
    row = np.array([1.0, np.log(at)])
    return 2 * 1.6449 * float(np.sqrt(row @ covariance @ row + scatter**2))


def coverage(sweeps: int, first: int) -> str:
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        outcomes = list(pool.map(one, range(first, first + sweeps), chunksize=10))
    scales = np.concatenate([o.scales for o in outcomes]).astype(bool)
    answered = [o for o in outcomes if o.target is not None]
    said = []
    print(f"{sweeps} simulated sweeps, {LEVEL:.0%} intervals; {sweeps - len(answered)} without a law, ", end="")
    print(f"{sum(o.open_scales for o in outcomes)} scales whose sweep does not show its optimum")
    groups = {
        "own law": np.array([o.target for o in answered if not o.sparse], dtype=bool),
        "lent exponent": np.array([o.target for o in answered if o.sparse], dtype=bool),
        "law at a larger scale": np.array([o.target for o in answered], dtype=bool),
    }
    print(f"each scale's own: {scales.mean():.3f} of {scales.size} covered (rows of one sweep are not independent)")
    for name, covered in groups.items():
        bound = binomtest(int(covered.sum()), covered.size).proportion_ci(1 - FALSE_ALARM, method="exact")
        print(f"{name}: {covered.mean():.3f} of {covered.size}, exact bounds {bound.low:.3f} to {bound.high:.3f}")
        said = [f"{covered.mean():.3f} ({'not below' if bound.high >= LEVEL else 'BELOW'} {LEVEL})"]
    # one scale per sweep, so that the exact bound holds
    single = np.array([o.scales[0] for o in outcomes if o.scales], dtype=bool)
    bound = binomtest(int(single.sum()), single.size).proportion_ci(1 - FALSE_ALARM, method="exact")
    print(f"one scale per sweep: {single.mean():.3f} of {single.size}, bounds {bound.low:.3f} to {bound.high:.3f}")
    fine = "not below" if bound.high >= LEVEL else "BELOW"
    widths = np.nanmedian([o.scale_width for o in outcomes]), np.nanmedian([o.target_width for o in outcomes])
    ratios = [
        float(np.nanmedian([w / o.oracle[k] for o in outcomes if (w := (o.scale_width, o.target_width)[k])]))
        for k in (0, 1)
    ]
    print(
        f"median widths: e^{widths[0]:.2f} at a measured scale ({ratios[0]:.2f}x an oracle's), e^{widths[1]:.2f} at a "
        f"larger one ({ratios[1]:.2f}x)"
    )
    return f"scale {single.mean():.3f} ({fine} {LEVEL}), larger scale {said[0]}"


def _centred(values: tuple[float, ...], x: float) -> float:
    return float(np.log(x) - np.mean(np.log(values)))


def own_sweep() -> str:
    with OURS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("n_params", "n_tokens", "batch_size_tokens", "learning_rate", "weight_decay", "final_loss")
    runs = DecayRuns.of(*np.array([[float(row[name] or "nan") for name in names] for row in rows]).T)
    try:
        fit = fit_timescale(runs, LENDERS)
        for scale in fit.scales:
            print(
                f"  {scale.params:.3g} params, {scale.tokens:.3g} tokens: tau {scale.timescale:.3f} "
                f"(Power Lines {float(POWER_LINES.tau(scale.params, scale.tokens)):.3f}), sd of ln {scale.log_sd:.2f}, "
                f"noise {scale.noise_sd:.2%}, {scale.status.value} {scale.bound}, {scale.slices} slices"
            )
        if fit.law is not None:
            low, high = fit.law.exponent_interval(RATIO)
            print(f"  tau ~ (D/N)^{fit.law.exponents[RATIO]:.2f} ({low:.2f} to {high:.2f}), {fit.law.groups} scales")
        found = score_largest_size(runs, {"Power Lines": POWER_LINES}, LENDERS)
    except LawfitError as error:
        return f"our own sweep cannot be scored: {error}"
    for row in found:
        print(f"  {row.method:32s} mean {row.mean:.3%}, worst {row.worst:.3%} of {row.slices}, {row.outside} outside")
    return f"regret at the largest size {found[0].mean:.3%} (worst {found[0].worst:.3%})"


def marin() -> str:
    kept: dict[str, list[tuple[float, ...]]] = {}
    with shared_file("marin_optimizer_sweep.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["has_result"] != "1" or row["changed_param"] not in ("baseline", "weight_decay"):
                continue
            names = ("n_params", "n_tokens", "batch_size_tokens", "learning_rate", "weight_decay")
            loss = float("nan") if row["diverged"] == "1" else float(row["final_loss"])
            kept.setdefault(row["optimizer"], []).append((*(float(row[name]) for name in names), loss))
    laws = 0
    for optimizer, rows in kept.items():
        runs = DecayRuns.of(*np.array(rows).T)
        try:
            counts = Counter(f"{o.status.value} {o.bound}".strip() for o in locate_weight_decay(runs))
            law = fit_timescale(runs, LENDERS).law
        except FitError as error:
            print(f"  {optimizer}: {error}")
            continue
        laws += law is not None
        words = "no law" if law is None else f"tau ~ (D/N)^{law.exponents[RATIO]:.2f}, {law.groups} scales"
        if law is not None:
            low, high = law.exponent_interval(RATIO) if law.groups > 2 else (np.nan, np.nan)
            words += f", {low:.2f} to {high:.2f}"
        print(f"  {optimizer}: {dict(counts)}; {words}")
    return f"{laws} of {len(kept)} optimizers carry a law"


def main() -> None:
    sweeps = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    print("our own sweep")
    ours = own_sweep()
    print("one-factor sweeps of the Marin study")
    others = marin()
    print("weight decay: " + "; ".join([coverage(sweeps, first), ours, others]))


if __name__ == "__main__":
    main()
