"""The compute-optimal split: do the averaged routes find it, on simulated studies and on what others published?

    python -m tests.benchmarks.split [STUDIES] [FIRST_SEED] [WORKERS]
    python -m tests.benchmarks.split public SHARED_DATA

Simulated studies draw a true law, a design and noise of 0.1 to 0.8 % (checkpoints share an offset of each run), and ask
for the best size at 1 to 100 times the dearest compute. True laws: additive; its reducible part to a power; a data
exponent that moves with the size; Kaplan's; small runs that are badly tuned, so that small budgets have other best
sizes than their law; and valleys whose width and skew have nothing to do with how the loss falls along compute, their
minima on a line that may bend. Designs: IsoFLOP profiles of four to nine budgets (half of the studies), grids, free
runs. Printed for the plan (forms and profiles averaged by how they foretell the split), for the same forms
averaged by how they foretell the loss, for the additive form alone, and for profiles alone where there are some: error
of ln params* (root mean square with errors cut at 1.5, median), share of 90 % intervals that hold the truth, and their
median width. Below, the same of the plan's other answers: the exponent of the best size around the budget, the loss at
the planned split, and the budget, size and tokens of a plan that is asked for the best loss of the true law there.

The second way scores Chinchilla's digitised points (the compute of Gopher; arXiv 2203.15556 says 70B, exponent 0.49)
and the settings of Porian et al. (arXiv 2406.19146), whose published exponents are given where they are known here.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.budget.belief import LossBelief
from lawfit.advise.budget.optimum import best_split, optimal_path
from lawfit.errors import FitError
from lawfit.estimate.loss.isoflop import ProfileLaw
from lawfit.estimate.loss.law import loss_law
from lawfit.records import Fit, SizedLoss

Floats = NDArray[np.float64]
LogLaw = Callable[[Floats, Floats], Floats]
Answer = tuple[float, float, tuple[float, float] | None]
LEVEL = 0.9
WORST = 1.5  # e-folds of params
TRUTHS = ("additive", "coupled", "moving exponent", "kaplan", "small runs", "own valley")
DESIGNS = ("isoflop", "grid", "isoflop", "free")
REACH = (1.0, 3.0, 10.0, 30.0, 100.0)
ROUTES = ("plan", "loss weights", "additive", "profiles")
ANSWERS = ("exponent", "loss", "budget of a loss", "its size", "its tokens")
CHINCHILLA = (5.76e23, 70e9, 0.49)
PORIAN = {  # settings whose published exponent stands in the paper's title figures, as far as they are known here
    "base/long/kaplan/kaplan": 0.88,
    "tuned/short/const/standard": 0.50,
    "tuned/short/const/attention": 0.50,
}


@dataclass(frozen=True)
class Study:
    truth: str
    design: str
    law: LogLaw
    params: Floats
    tokens: Floats
    loss: Floats
    reach: float

    @property
    def flops(self) -> float:
        return 6 * self.reach * float((self.params * self.tokens).max())


def draw_law(truth: str, rng: np.random.Generator) -> LogLaw:
    """Both reducible parts are worth 0.15 to 0.6 nats at 1e9 parameters and 2e10 tokens."""
    alpha, beta = rng.uniform(0.25, 0.45, 2)
    a, b = rng.uniform(0.15, 0.6, 2)
    e, outer, turn = rng.uniform(1.2, 2.2), rng.uniform(0.35, 1.0), rng.uniform(-0.06, 0.06)
    off, slope, bend = rng.uniform(-1, 1), rng.uniform(0.4, 0.85), rng.uniform(-0.015, 0.015)
    fall, width, skew = rng.uniform(0.1, 0.22), rng.uniform(0.05, 0.16), rng.uniform(-0.35, 0.35)
    badly, steep = rng.uniform(0.05, 0.3), rng.uniform(0.7, 1.2)

    def log_loss(log_n: Floats, log_d: Floats) -> Floats:
        n, d = log_n - np.log(1e9), log_d - np.log(2e10)
        value = e + a * np.exp(-alpha * n) + b * np.exp(-beta * d)
        if truth == "coupled":
            value = e + (a + b) * ((a * np.exp(-alpha * n / outer) + b * np.exp(-beta * d / outer)) / (a + b)) ** outer
        elif truth == "moving exponent":
            value = e + a * np.exp(-alpha * n) + b * np.exp(-beta * np.exp(np.clip(turn * n, -1, 1)) * d)
        elif truth == "kaplan":
            value = (e + a + b) * (a * np.exp(-n) / (a + b) + b * np.exp(-d) / (a + b)) ** (0.3 * beta)
        elif truth == "small runs":
            value = value + badly * np.exp(-steep * (d + 3))
        elif truth == "own valley":
            c = n + d
            z = n - (off + slope * c + bend * c**2)
            valley = np.exp(skew * z) * np.cosh(0.7 * z) - 1 - skew * z
            value = e + (a + b) * np.exp(-fall * c) + width * np.exp(-0.7 * fall * c) * valley
        return np.asarray(np.log(value), dtype=float)

    return log_loss


def best_size(law: LogLaw, flops: float) -> float:
    """ln params of the lowest loss; NaN where it lies beyond any model or corpus."""
    log_params = np.linspace(np.log(1e4), np.log(flops / 6e4), 40001)
    i = int(law(log_params, np.log(flops / 6) - log_params).argmin())
    return float(log_params[i]) if 0 < i < len(log_params) - 1 else np.nan


def draw_design(design: str, law: LogLaw, rng: np.random.Generator) -> tuple[Floats, Floats]:
    if design == "grid":
        sizes, horizons = int(rng.integers(4, 8)), int(rng.integers(3, 6))
        params = np.repeat(np.geomspace(2e7, 2e7 * rng.uniform(5, 50), sizes), horizons)
        return params, params * np.tile(np.geomspace(5, 5 * rng.uniform(8, 60), horizons), sizes)
    if design == "free":
        runs = int(rng.integers(25, 90))
        params = np.exp(rng.uniform(np.log(1e7), np.log(1e9), runs))
        return params, params * np.exp(rng.uniform(np.log(2), np.log(300), runs))
    budgets = np.geomspace(6e17, 6e17 * 10 ** rng.uniform(0.9, 2.5), int(rng.integers(4, 10)))
    each, half = int(rng.integers(5, 13)), float(np.exp(rng.uniform(np.log(3), np.log(12))))
    off, tilt, read_off = rng.normal(0, 0.4), rng.uniform(-0.15, 0.15), rng.choice([0.0, 0.01])
    sizes_of, flops_of = [], []
    for flops in budgets:  # around where the best sizes were thought to be
        middle = np.exp(best_size(law, flops) + off + tilt * np.log(flops / budgets[0]))
        sizes_of.append(middle * np.geomspace(1 / half, half, each) * np.exp(0.05 * rng.standard_normal(each)))
        flops_of.append(flops * np.exp(read_off * rng.standard_normal(each)))
    params = np.concatenate(sizes_of)
    return params, np.concatenate(flops_of) / 6 / params


def draw_study(seed: int) -> Study:
    rng = np.random.default_rng(seed)
    truth, design = TRUTHS[seed % len(TRUTHS)], DESIGNS[seed // len(TRUTHS) % len(DESIGNS)]
    law = draw_law(truth, rng)
    params, tokens = draw_design(design, law, rng)
    noise = float(np.exp(rng.uniform(np.log(0.001), np.log(0.008)))) * rng.standard_normal(len(params))
    loss = np.exp(law(np.log(params), np.log(tokens)) + noise)
    return Study(truth, design, law, params, tokens, loss, float(rng.choice(REACH)))


def stored(params: Floats, tokens: Floats, loss: Floats) -> Fit:
    """The law of the loss as `lawfit fit` stores it."""
    rows = [
        SizedLoss(run_key=str(i), params=float(n), tokens=float(d), loss=float(y))
        for i, (n, d, y) in enumerate(zip(params, tokens, loss, strict=True))
    ]
    law = loss_law([], np.random.default_rng(0), losses=rows)
    return Fit(
        id="", recipe_key="", recipe_name="", kind="loss", status=law.status, data_hash="", code_version="",
        created_at="", options={}, exclusions={}, payload=law.payload,
    )  # fmt: skip


def routes(belief: LossBelief) -> dict[str, LossBelief]:
    """The plan's belief, and others made of the same fits."""
    forms = belief.without_profiles
    counts = tuple(round(400 * w) if len(f.draws) else 0 for f, w in zip(forms.fits, forms.loss_weights, strict=True))
    found = {"plan": belief, "loss weights": replace(forms, weights=forms.loss_weights, counts=counts)}
    first = min(fit.scales["flops"][0] for fit in forms.fits if not isinstance(fit, ProfileLaw))
    for i, fit in enumerate(belief.fits):
        if isinstance(fit, ProfileLaw) or (fit.form == "additive" and fit.scales["flops"][0] <= first):  # on all runs
            name = "profiles" if isinstance(fit, ProfileLaw) else fit.form
            found[name] = replace(belief.alone[i], counts=(len(fit.draws),))
    return found


def one(seed: int) -> dict[str, tuple[float, bool, float]] | None:
    """Error of ln params*, whether the interval holds it, and its width, by route."""
    study = draw_study(seed)
    truth = best_size(study.law, study.flops)
    try:
        belief = LossBelief.of(stored(study.params, study.tokens, study.loss), LEVEL)
    except FitError:
        return None
    if not np.isfinite(truth):
        return None
    found = {}
    for name, own in routes(belief).items():
        best = best_split(own, study.flops)
        low, high = own.bounds(best.opened(best.log_params_each)) or (np.nan, np.nan)
        found[name] = (best.chosen - truth, bool(low <= truth <= high), high - low)
    for name, (true, value, ends) in answers(study, truth, belief).items():
        low, high = ends or (np.nan, np.nan)
        found[name] = (value - true, bool(low <= true <= high), high - low)
    return found


def answers(study: Study, best: float, belief: LossBelief) -> dict[str, Answer]:
    """Truth, value and interval of what a plan says beside its size, in logs; no entry where it says nothing."""
    around = np.array([study.flops / np.e, study.flops * np.e])
    path = optimal_path(belief, budgets=around)
    slopes = np.diff(path.log_params, axis=1)[:, 0] / 2
    true = (best_size(study.law, float(around[1])) - best_size(study.law, float(around[0]))) / 2
    found: dict[str, Answer] = {"exponent": (true, float(slopes[0]), belief.bounds(slopes[1:]))}
    chosen = np.exp(best_split(belief, study.flops).chosen)
    log_tokens = np.log(study.flops / 6) - best
    loss = float(study.law(np.array([best]), np.array([log_tokens]))[0])
    said = belief.predict(float(chosen), float(study.flops / 6 / chosen))
    planned = float(study.law(np.log([chosen]), np.log([study.flops / 6 / chosen]))[0])
    ends = None if said.low is None or said.high is None else (float(np.log(said.low)), float(np.log(said.high)))
    found["loss"] = (planned, float(np.log(said.value)), ends)
    path = optimal_path(belief).drifted(belief)
    flops = path.at("loss", float(np.exp(loss)))
    if np.isfinite(flops[0]):
        sizes = path.read("params", flops)
        reached = np.isfinite(flops)
        tokens = np.where(reached, np.where(reached, flops, 0.0) - np.log(6) - np.where(reached, sizes, 0.0), np.inf)
        for name, true, each in zip(
            ANSWERS[2:], (np.log(study.flops), best, log_tokens), (flops, sizes, tokens), strict=True
        ):
            found[name] = (float(true), float(each[0]), belief.bounds(each[1:]))
    return found


def simulated(studies: int, first: int, workers: int) -> None:
    seeds = range(first, first + studies)
    with ProcessPoolExecutor(workers) as pool:
        answers = list(pool.map(one, seeds))
    results = [(draw_study(seed), found) for seed, found in zip(seeds, answers, strict=True) if found is not None]
    groups: dict[str, Callable[[Study], bool]] = {"all": lambda _: True}
    groups |= {f"truth {t}": (lambda s, t=t: s.truth == t) for t in TRUTHS}  # type: ignore[misc]
    groups |= {f"design {d}": (lambda s, d=d: s.design == d) for d in sorted(set(DESIGNS))}  # type: ignore[misc]
    groups |= {
        "within 3 times": lambda s: s.reach <= 3,
        "10 times and more": lambda s: s.reach >= 10,
    }
    print(f"{len(results)} of {studies} studies from seed {first} have a law and an optimum")
    print(f"{'':<24s}" + "".join(f"{route:^31s}" for route in ROUTES))
    print(f"{'':<24s}" + f"{'n':>5s}{'rms':>7s}{'median':>7s}{'held':>6s}{'wide':>6s}" * len(ROUTES))
    for name, inside in groups.items():
        line = f"{name:<24s}"
        for route in ROUTES:
            rows = np.array([found[route] for study, found in results if inside(study) and route in found], dtype=float)
            if not len(rows):
                line += f"{0:>5d}{'':>26s}"
                continue
            error = np.minimum(np.abs(rows[:, 0]), WORST)
            known = rows[np.isfinite(rows[:, 2])]
            line += f"{len(rows):>5d}{np.sqrt((error**2).mean()):>7.3f}{np.median(error):>7.3f}"
            line += f"{known[:, 1].mean():>6.2f}{np.median(known[:, 2]):>6.2f}" if len(known) else f"{'':>12s}"
        print(line)
    for name in ANSWERS:
        rows = np.array([found[name] for _, found in results if name in found], dtype=float)
        known = rows[~np.isnan(rows[:, 2])]
        print(
            f"{name:<24s}{len(rows):>5d}, median error {np.median(np.abs(rows[:, 0])):.3f}, held "
            f"{int(known[:, 1].sum())} of {len(known)}, wide {np.median(known[:, 2]):.2f}"
        )


def public(folder: Path) -> None:
    with next(folder.rglob("chinchilla_digitised.csv")).open(newline="") as opened:
        rows = [row for row in csv.DictReader(opened) if row["final_loss"]]
    print("Chinchilla, digitised: published 70B at 5.76e23 FLOPs, exponent 0.49")
    _say(rows, CHINCHILLA[0], (CHINCHILLA[0] / np.e, CHINCHILLA[0] * np.e))
    with next(folder.rglob("porian_isoflop_refinedweb.csv")).open(newline="") as opened:
        runs = [row for row in csv.DictReader(opened) if row["final_loss"]]
    names = ("hparams", "warmup", "decay", "flop_accounting")
    for setting in sorted({"/".join(row[name] for name in names) for row in runs}):
        own = [row for row in runs if "/".join(row[name] for name in names) == setting]
        told = f", published {PORIAN[setting]:.2f}" if setting in PORIAN else ""
        flops = [6 * float(row["n_params"]) * float(row["n_tokens"]) for row in own]
        print(f"\nPorian {setting}{told}: at its dearest budget, exponent from its cheapest to its dearest")
        _say(own, max(flops), (min(flops), max(flops)))


def _say(rows: list[dict[str, str]], flops: float, span: tuple[float, float]) -> None:
    columns = (np.array([float(row[name]) for row in rows]) for name in ("n_params", "n_tokens", "final_loss"))
    belief = LossBelief.of(stored(*columns), LEVEL)
    for name, own in routes(belief).items():
        best = best_split(own, flops)
        low, high = np.exp(own.bounds(best.opened(best.log_params_each)) or (np.nan, np.nan)) / 1e9
        path = optimal_path(own, budgets=np.array(span))
        slope = np.diff(path.log_params, axis=1)[:, 0] / np.log(span[1] / span[0])
        ends = own.bounds(slope[1:]) or (np.nan, np.nan)
        print(
            f"  {name:<14s}{np.exp(best.chosen) / 1e9:9.3g}B ({low:.3g} to {high:.3g}), exponent {slope[0]:.3f} "
            f"({ends[0]:.3f} to {ends[1]:.3f})"
        )
    each = ", ".join(
        f"{fit.form} {weight:.0%} (off by {np.exp(error):.2f})"
        for fit, weight, error in zip(belief.fits, belief.weights, belief.errors, strict=True)
    )
    print(f"  weights: {each}")


def main() -> None:
    if sys.argv[1:2] == ["public"]:
        public(Path(sys.argv[2]))
        return
    numbers = [int(word) for word in sys.argv[1:]]
    simulated(*numbers, *(240, 60_000, 2)[len(numbers) :])


if __name__ == "__main__":
    main()
