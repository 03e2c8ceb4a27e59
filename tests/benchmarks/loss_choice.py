"""Do 90 % intervals of the averaged loss laws hold the true loss beyond the runs, whatever the true form?

    python -m tests.benchmarks.loss_choice [STUDIES] [FIRST_SEED] [RESAMPLES]

Each study draws a true law, a design, noise (0.1 to 1 %), and a target 3, 10 or 30 times dearer than the dearest run.
True laws: the additive form, its reducible part to a power (0.35 to 1), a data exponent that moves with the size,
Kaplan's, no asymptote at all; half of them with a slow drift on top that no form has (a smooth random function of
log compute of 0.1 to 0.6 % in sd, as settings that become less well tuned with scale would give). Designs: 14 to 40
scales of a grid, isoflop profiles at five to nine budgets, 80 free runs, checkpoints of 12 to 24 runs that share an
offset of each run (clusters).

Printed for the average of forms, for the additive form alone, and for an oracle that knows which form is true (not
its numbers): share of intervals that hold the true loss at the target, error and width in % of loss.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from lawfit.errors import FitError
from lawfit.estimate.loss.ensemble import fit_ensemble
from lawfit.estimate.loss.fit import Interval, fit_loss

Floats = NDArray[np.float64]
LEVEL = 0.9
FALSE_ALARM = 1e-2
RESAMPLES = 100
REACH = (3.0, 10.0, 30.0)
TRUTHS = ("additive", "coupled", "moving exponent", "kaplan", "power")
DESIGNS = ("grid", "isoflop", "free", "checkpoints")
ORACLE = {"additive": "additive", "coupled": "coupled", "kaplan": "kaplan", "power": "power"}
LogLaw = Callable[[Floats, Floats], Floats]  # ln params, ln tokens -> log loss


@dataclass(frozen=True)
class Study:
    truth: str
    drifting: bool
    design: str
    law: LogLaw
    params: Floats
    tokens: Floats
    loss: Floats
    clusters: NDArray[np.intp] | None
    target: tuple[float, float]
    reach: float


def draw_law(truth: str, drift: float, rng: np.random.Generator) -> LogLaw:
    """Both reducible parts are worth 0.15 to 0.6 nats at 1e9 parameters and 2e10 tokens."""
    alpha, beta = rng.uniform(0.25, 0.45, 2)
    a, b = rng.uniform(0.15, 0.6, 2)
    e = rng.uniform(1.2, 2.2)
    outer = rng.uniform(0.35, 1.0)
    turn = rng.uniform(-0.06, 0.06)  # of the data exponent, per e-fold of parameters
    phases, waves = rng.uniform(0, 2 * np.pi, 6), rng.uniform(0.2, 0.9, 6)  # per decade of compute

    def log_loss(log_n: Floats, log_d: Floats) -> Floats:
        n, d = log_n - np.log(1e9), log_d - np.log(2e10)
        if truth == "coupled":
            value = e + (a + b) * ((a * np.exp(-alpha * n / outer) + b * np.exp(-beta * d / outer)) / (a + b)) ** outer
        elif truth == "moving exponent":
            value = e + a * np.exp(-alpha * n) + b * np.exp(-beta * np.exp(np.clip(turn * n, -1, 1)) * d)
        elif truth == "kaplan":
            value = (e + a + b) * (a * np.exp(-n) / (a + b) + b * np.exp(-d) / (a + b)) ** (0.3 * beta)
        elif truth == "power":
            value = (e + a + b) * (a * np.exp(-0.3 * alpha * n) + b * np.exp(-0.3 * beta * d)) / (a + b)
        else:
            value = e + a * np.exp(-alpha * n) + b * np.exp(-beta * d)
        decades = (n + d) / np.log(10)
        slow = np.cos(waves[:, None] * np.ravel(decades) + phases[:, None]).sum(axis=0).reshape(np.shape(decades))
        return np.asarray(np.log(value) + drift * slow / np.sqrt(3), dtype=float)

    return log_loss


def draw_design(design: str, rng: np.random.Generator) -> tuple[Floats, Floats, NDArray[np.intp] | None]:
    if design == "grid":
        sizes, horizons = int(rng.integers(4, 8)), int(rng.integers(3, 6))
        params = np.repeat(np.geomspace(2e7, 2e7 * rng.uniform(5, 50), sizes), horizons)
        tokens = params * np.tile(np.geomspace(5, 5 * rng.uniform(8, 60), horizons), sizes)
        keep = rng.permutation(len(params))[: max(14, int(0.9 * len(params)))]
        return params[keep], tokens[keep], None
    if design == "isoflop":
        budgets = np.geomspace(6e17, 6e17 * 10 ** rng.uniform(1, 2.5), int(rng.integers(5, 10)))
        each = int(rng.integers(6, 13))
        flops = np.repeat(budgets, each)
        ratio = np.exp(np.tile(np.linspace(np.log(4), np.log(200), each), len(budgets)))
        return np.sqrt(flops / 6 / ratio), np.sqrt(flops / 6 * ratio), None
    if design == "free":
        params = np.exp(rng.uniform(np.log(1e7), np.log(1e9), 80))
        return params, params * np.exp(rng.uniform(np.log(2), np.log(300), 80)), None
    runs, checkpoints = int(rng.integers(12, 25)), 12
    params = np.repeat(np.exp(rng.uniform(np.log(2e7), np.log(2e9), runs)), checkpoints)
    tokens = params * np.tile(np.geomspace(4, 200, checkpoints), runs)
    return params, tokens, np.repeat(np.arange(runs), checkpoints)


def draw_study(seed: int) -> Study:
    rng = np.random.default_rng(seed)
    truth, design = TRUTHS[seed % len(TRUTHS)], DESIGNS[seed // len(TRUTHS) % len(DESIGNS)]
    drifting = bool(seed // (len(TRUTHS) * len(DESIGNS)) % 2)
    law = draw_law(truth, rng.uniform(0.001, 0.006) if drifting else 0.0, rng)
    params, tokens, clusters = draw_design(design, rng)
    sd = float(np.exp(rng.uniform(np.log(0.001), np.log(0.01))))
    error = sd * rng.standard_normal(len(params))
    if clusters is not None:
        error = sd * rng.standard_normal(int(clusters.max()) + 1)[clusters] + error / 4
    reach = float(rng.choice(REACH))
    flops = 6 * reach * float((params * tokens).max())
    ratio = float(np.exp(rng.uniform(np.log(10), np.log(100))))
    return Study(
        truth=truth,
        drifting=drifting,
        design=design,
        law=law,
        params=params,
        tokens=tokens,
        loss=np.exp(law(np.log(params), np.log(tokens)) + error),
        clusters=clusters,
        target=(float(np.sqrt(flops / 6 / ratio)), float(np.sqrt(flops / 6 * ratio))),
        reach=reach,
    )


def score(said: Interval, truth: float) -> tuple[bool, float, float]:
    """(held, error, width) in logs."""
    if said.low is None or said.high is None:
        return False, float(np.log(said.value) - truth), np.nan
    held = bool(np.log(said.low) <= truth <= np.log(said.high))
    return held, float(np.log(said.value) - truth), float(np.log(said.high / said.low))


def one(seed: int, resamples: int) -> tuple[Study, dict[str, tuple[bool, float, float]]]:
    study = draw_study(seed)
    truth = float(study.law(*(np.log([x]) for x in study.target))[0])
    found = {}
    runs = study.params, study.tokens, study.loss
    try:
        ensemble = fit_ensemble(
            *runs, rng=np.random.default_rng(seed), clusters=study.clusters, resamples=resamples, level=LEVEL
        )
        found["averaged"] = score(ensemble.predict(*study.target).expected, truth)
    except FitError:
        pass
    for label, form in (("additive", "additive"), ("oracle", ORACLE.get(study.truth, "farseer"))):
        try:
            fit = fit_loss(
                *runs,
                rng=np.random.default_rng(seed),
                clusters=study.clusters,
                form=form,
                resamples=resamples,
                level=LEVEL,
            )
        except FitError:
            continue
        found[label] = score(fit.predict(*study.target).expected, truth)
    return study, found


def main() -> None:
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    resamples = int(sys.argv[3]) if len(sys.argv) > 3 else RESAMPLES
    results = [one(first + i, resamples) for i in range(studies)]
    groups: dict[str, Callable[[Study], bool]] = {"all": lambda _: True}
    groups |= {f"truth {t}": (lambda s, t=t: s.truth == t) for t in TRUTHS}  # type: ignore[misc]
    groups |= {"with a drift": lambda s: s.drifting, "without": lambda s: not s.drifting}
    groups |= {f"design {d}": (lambda s, d=d: s.design == d) for d in DESIGNS}  # type: ignore[misc]
    groups |= {f"{r:g} times beyond": (lambda s, r=r: s.reach == r) for r in REACH}  # type: ignore[misc]
    print(f"{studies} studies from seed {first}, {resamples} resamples; held: share of {LEVEL:.0%} intervals that hold")
    print("the true loss at the target; error (median) and width (median) in % of loss")
    print(f"{'':<24s}" + "".join(f"{label:^30s}" for label in ("averaged", "additive", "oracle")))
    print(f"{'':<24s}" + f"{'answers':>9s}{'held':>6s}{'error':>7s}{'width':>8s}" * 3)
    for name, inside in groups.items():
        line = f"{name:<24s}"
        for label in ("averaged", "additive", "oracle"):
            rows = np.array([found[label] for study, found in results if inside(study) and label in found], dtype=float)
            with_width = rows[np.isfinite(rows[:, 2])]
            line += f"{len(with_width):>9d}{with_width[:, 0].mean():>6.2f}"
            line += f"{100 * np.median(np.abs(with_width[:, 1])):>7.2f}{100 * np.median(with_width[:, 2]):>8.2f}"
        print(line)
    held = np.array([found["averaged"][0] for _, found in results if "averaged" in found])
    high = binomtest(int(held.sum()), len(held)).proportion_ci(1 - 2 * FALSE_ALARM, method="exact").high
    verdict = "not below" if high >= LEVEL else "BELOW"
    print(f"averaged loss laws: {held.mean():.3f} of {len(held)} intervals hold, {verdict} {LEVEL} (bound {high:.3f})")


if __name__ == "__main__":
    main()
