"""Do intervals hold where sizes deviate? Simulated studies whose sizes, not only their scales, lie off the law.

    python -m tests.benchmarks.size_effects_coverage [--studies N] [--seed S] [--workers W] [--json FILE]

A study sweeps four to seven sizes (a factor 1.2 to 2.5 apart) at two to six horizons each. All scales of one size share
a deviation of their optimum from the law, of sd 0, 0.08, 0.16 or 0.25 in ln lr and, drawn apart, in ln batch: sizes x
sd are the 16 strata, which studies go through in turn. On top of it every scale has its own scatter (sd 0.02 to 0.1 and
0.04 to 0.15), laws bend with compute, in half of the studies at few tokens per parameter too, exponents and levels are
drawn widely, valleys are of shapes that nothing here fits, their floors bend and their steepness drifts; noise of a
seed 0.05 to 0.2 %, one or two seeds, grids and random search, missing and diverged runs; in 30 % of the studies one or
two larger sizes with a single run each. No spread here is a draw from a prior of the fit.

The target is the true optimum at a new size, 1 to 10 times the largest one swept, with that size's own deviation and
that scale's own scatter. Reported: share of 90 % intervals that hold it (Wilson bounds of 95 %), for lr, batch and both
at once; mean width against an oracle's; stated expected cost against the true cost of the recommended setting.

The oracle is a Gaussian generalised least squares through each scale's optimum, measured as well as its runs allow a
reader who knows the valley and the noise; it knows the spreads of sizes, scales and bends, and has the product's prior
on exponents. Fits that are refused are counted, and in no other figure.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from lawfit.advise.regret import CAP
from lawfit.errors import LawfitError
from lawfit.estimate.observe.observations import Observations, observe
from lawfit.laws.priors import exponent_prior
from lawfit.simulate import Design, Truth, simulate_sweep
from tests.benchmarks.shared import Floats, answer_at, fitted_model, wilson

SIZES = (4, 5, 6, 7)
SPREADS = (0.0, 0.08, 0.16, 0.25)  # sd of a size's deviation, ln lr and ln batch
STRATA = tuple(itertools.product(SIZES, SPREADS))
BEND_SD = 0.015  # per nat^2 of compute
FEW_TOKENS_SD = 0.15  # per nat of tokens per parameter, where the laws bend there
LOWEST_POOLED, LOWEST_STRATUM, WIDEST = 0.90, 0.82, 1.6  # what is promised
VAGUE = 1e4  # variance of a level that nothing is known of
WITHIN_LEVEL = 1.6449  # normal quantile of `LEVEL`, both sides


@dataclass(frozen=True, kw_only=True)
class Study:
    truth: Truth
    design: Design
    target: tuple[float, float]  # params, tokens


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Pairs are of (learning rate, batch), in ln units."""

    sizes: int
    spread: float
    lone: int
    bent: bool  # at few tokens per parameter
    scales: int
    covered: tuple[bool, bool]
    width: tuple[float, float]
    oracle: tuple[float, float]
    error: tuple[float, float]  # of the recommended setting
    stated: float
    realised: float
    seconds: float  # of one core, for fit and answer


def draw_study(rng: np.random.Generator, sizes: int, spread: float) -> Study:
    """Everything about a study but its runs."""
    bent = rng.random() < 0.5
    truth = Truth(
        lr=float(np.exp(rng.normal(np.log(3e-3), 0.5))),
        lr_params=rng.normal(-0.5, 0.25),
        lr_tokens=rng.normal(0.15, 0.2),
        lr_curvature=rng.normal(0, BEND_SD),
        batch_tokens=float(np.exp(rng.normal(np.log(2.6e5), 0.5))),
        batch_params=rng.normal(-0.1, 0.2),
        batch_tokens_exponent=rng.normal(0.5, 0.2),
        batch_curvature=rng.normal(0, BEND_SD),
        few_tokens=float(rng.uniform(5, 20)),
        lr_few_tokens=rng.normal(-0.1, FEW_TOKENS_SD) if bent else 0.0,
        batch_few_tokens=rng.normal(0, FEW_TOKENS_SD) if bent else 0.0,
        lr_stiffness=0.006 * float(np.exp(rng.normal(0, 0.4))),
        batch_stiffness=0.0045 * float(np.exp(rng.normal(0, 0.4))),
        lr_skew=rng.uniform(0.3, 2.2),
        batch_skew=rng.uniform(-0.5, 1.3),
        ridge=rng.uniform(0.2, 1.1),
        ridge_bend=float(rng.choice([0.0, 0.5, 1.0, 1.5])),
        shape_drift=rng.normal(0, 0.08) if rng.random() < 0.5 else 0.0,
        scatter_lr=rng.uniform(0.02, 0.1),
        scatter_batch=rng.uniform(0.04, 0.15),
        size_scatter_lr=spread,
        size_scatter_batch=spread,
        noise=float(rng.choice([0.0005, 0.001, 0.002])),
    )
    params = float(np.exp(rng.uniform(np.log(1e7), np.log(6e7)))) * np.exp(
        np.cumsum([0.0, *rng.uniform(np.log(1.2), np.log(2.5), sizes - 1)])
    )
    shortest, apart = float(np.exp(rng.uniform(np.log(4), np.log(20)))), float(rng.uniform(1.5, 2.5))
    scales = [
        (float(n), float(n * shortest * apart ** (first + i)))
        for n in params
        for first in [rng.integers(3)]
        for i in range(rng.integers(2, 7))
    ]
    lone_sizes = params[-1] * np.exp(np.cumsum(rng.uniform(np.log(1.3), np.log(2.5), rng.integers(1, 3))))
    seeds = int(rng.choice([1, 1, 1, 2]))
    design = Design(
        scales=scales,
        lone_scales=[(float(n), float(20 * n)) for n in lone_sizes] if rng.random() < 0.3 else [],
        lr_steps=int(rng.choice([6, 8, 10])),
        batch_steps=int(rng.choice([4, 6, 8] if seeds == 1 else [4, 5])),
        batch_ratio=float(rng.choice([2**0.5, 2])),
        random=bool(rng.random() < 0.15),
        seeds=seeds,
        missing=0.1,
    )
    size = float(params[-1] * np.exp(rng.uniform(0, np.log(10))))
    return Study(truth=truth, design=design, target=(size, size * float(np.exp(rng.uniform(np.log(10), np.log(100))))))


def one(seed: int) -> Outcome | str:
    """The outcome of one study, or why it was refused."""
    rng = np.random.default_rng(seed)
    sizes, spread = STRATA[seed % len(STRATA)]
    study = draw_study(rng, sizes, spread)
    truth = study.truth
    sweep = simulate_sweep(truth, study.design, rng=rng)
    own = truth.size_deviation(rng)
    there = np.log(truth.optimum(*study.target)) + own
    there = there + [truth.scatter_lr, truth.scatter_batch] * rng.standard_normal(2)
    start = time.process_time()
    try:
        observed = observe(sweep.runs)
        answer = answer_at(fitted_model(observed), *study.target)
    except LawfitError as error:
        return str(error)
    seconds = time.process_time() - start
    error = np.array(answer.setting) - there
    realised = float(truth.excess(error[:1], error[1:], study.target[1])[0])
    return Outcome(
        sizes=sizes,
        spread=spread,
        lone=len(study.design.lone_scales),
        bent=bool(truth.lr_few_tokens),
        scales=observed.n_cells,
        covered=tuple(bool(x) for x in answer.holds(*there)),
        width=answer.width,
        oracle=tuple(float(x) for x in 2 * WITHIN_LEVEL * oracle_sd(study, observed)),
        error=tuple(float(x) for x in error),
        stated=answer.stated,
        realised=float(np.expm1(min(realised, CAP))),  # as much as any world's cost counts in the stated one
        seconds=seconds,
    )


def oracle_sd(study: Study, observed: Observations) -> Floats:
    """sd of (ln lr*, ln batch*) at the target for whoever knows the valley, the noise and every spread."""
    truth = study.truth
    swept = {(f"{n:.6g}", f"{d:.6g}") for n, d in study.design.scales}
    cells = [c for c in range(observed.n_cells) if (f"{observed.params[c]:.6g}", f"{observed.tokens[c]:.6g}") in swept]
    scatter = np.array([truth.scatter_lr, truth.scatter_batch]) ** 2
    of_size = np.array([truth.size_scatter_lr, truth.size_scatter_batch]) ** 2
    known, information = [], []
    for cell in cells:  # a lone run says nothing of its optimum: its floor is free
        found = _information(truth, observed, cell)
        if np.linalg.eigvalsh(found)[0] > 0:
            known.append(cell)
            information.append(found)
    count = len(known)
    covariance = np.zeros((2 * count, 2 * count))  # of (lr, batch) of the first scale, of the second, ...
    for i, each in enumerate(information):
        covariance[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = np.linalg.inv(each) + np.diag(scatter)
    alike = observed.params[known][:, None] == observed.params[known]
    covariance += np.kron(alike, np.diag(of_size))
    rows = [_terms(truth, observed.params[c], observed.tokens[c]) for c in known]
    design = np.concatenate([np.kron(np.eye(2), row) for row in rows])
    precision = np.linalg.inv(_prior(truth)) + design.T @ np.linalg.solve(covariance, design)
    at = np.kron(np.eye(2), _terms(truth, *study.target))
    return np.sqrt(np.diag(at @ np.linalg.solve(precision, at.T)) + of_size + scatter)


def _information(truth: Truth, observed: Observations, cell: int) -> Floats:
    """(2, 2) what the finished runs of a scale say of its (ln lr*, ln batch*), its floor being free."""
    rows, tokens = observed.rows_of(cell), float(observed.tokens[cell])
    lr, batch = np.log(truth.optimum(observed.params[cell], tokens))
    u, v = observed.log_lr[rows] - lr, observed.log_batch[rows] - batch
    step = 1e-4
    slopes = np.column_stack(
        [
            (truth.excess(u + step, v, tokens) - truth.excess(u - step, v, tokens)) / (2 * step),
            (truth.excess(u, v + step, tokens) - truth.excess(u, v - step, tokens)) / (2 * step),
        ]
    )
    weight = observed.seeds[rows, None] / truth.noise**2
    slopes = slopes - (weight * slopes).sum(axis=0) / weight.sum()
    return slopes.T @ (weight * slopes)


def _terms(truth: Truth, params: float, tokens: float) -> Floats:
    """(1, 5) terms of both laws at a scale."""
    n, d = np.log(params / 1e8), np.log(tokens / 2e9)
    return np.array([[1.0, n, d, (n + d) ** 2 / 4, np.log1p(truth.few_tokens * params / tokens)]])


def _prior(truth: Truth) -> Floats:
    """(10, 10) covariance of the coefficients: level, two exponents, both bends; of lr, then of batch."""
    whole = np.zeros((10, 10))
    for at, of, few in ((0, "lr_joint", truth.lr_few_tokens), (5, "batch", truth.batch_few_tokens)):
        whole[at, at] = VAGUE
        whole[at + 1 : at + 3, at + 1 : at + 3] = exponent_prior(of).cov
        whole[at + 3, at + 3] = BEND_SD**2
        whole[at + 4, at + 4] = FEW_TOKENS_SD**2 if few else 1e-12
    return whole


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--studies", type=int, default=1000)
    options.add_argument("--seed", type=int, default=20_000, help="of the first study; the others follow")
    options.add_argument("--workers", type=int, default=os.cpu_count())
    options.add_argument("--json", type=Path, metavar="FILE", help="write the outcome of every study as JSON")
    asked = options.parse_args()
    with ProcessPoolExecutor(asked.workers) as pool:
        found = list(pool.map(one, range(asked.seed, asked.seed + asked.studies), chunksize=4))
    refused = [each for each in found if isinstance(each, str)]
    outcomes = [each for each in found if isinstance(each, Outcome)]
    if asked.json:
        asked.json.write_text(json.dumps([asdict(each) for each in outcomes], indent=1) + "\n", encoding="utf-8")
    print(f"{len(outcomes)} studies, {len(refused)} refused ({'; '.join(sorted(set(refused))[:3]) or 'none'})")
    print(f"fit and answer: {np.mean([o.seconds for o in outcomes]):.2f} s of one core a study on average")
    print("share of 90 % intervals that hold the target (Wilson bounds), mean width over the oracle's, costs in %")
    print(
        f"{'':26s}{'studies':>8s}  {'lr':^22s}{'batch':^22s}{'both':^22s}{'width lr':>9s}{'batch':>7s}"
        f"{'stated':>9s}{'realised':>9s}"
    )
    line("pooled", outcomes)
    for spread in SPREADS:
        line(f"sd of sizes {spread:g}", [o for o in outcomes if o.spread == spread])
    for sizes in SIZES:
        line(f"{sizes} sizes", [o for o in outcomes if o.sizes == sizes])
    line("lone larger runs", [o for o in outcomes if o.lone])
    line("no lone runs", [o for o in outcomes if not o.lone])
    line("bent at few tokens", [o for o in outcomes if o.bent])
    line("not bent there", [o for o in outcomes if not o.bent])
    for sizes, spread in STRATA:
        line(f"{sizes} sizes, sd {spread:g}", [o for o in outcomes if (o.sizes, o.spread) == (sizes, spread)])
    print(verdict(outcomes))


def line(name: str, some: Sequence[Outcome]) -> None:
    if not some:
        return
    shares = [held(some, which) for which in ("lr", "batch", "both")]
    ratio = np.mean([o.width for o in some], axis=0) / np.mean([o.oracle for o in some], axis=0)
    print(
        f"{name:<26s}{len(some):>8d}  "
        + "".join(f"{hits / len(some):>8.3f} ({low:.3f}-{high:.3f})" for hits, low, high in shares)
        + f"{ratio[0]:>9.2f}{ratio[1]:>7.2f}{100 * np.mean([o.stated for o in some]):>9.3f}"
        + f"{100 * np.mean([o.realised for o in some]):>9.3f}"
    )


def held(some: Sequence[Outcome], which: str) -> tuple[int, float, float]:
    """How many intervals hold the target, and the bounds of their share."""
    inside = np.array([o.covered for o in some])
    hits = int({"lr": inside[:, 0], "batch": inside[:, 1], "both": inside.all(axis=1)}[which].sum())
    return hits, *wilson(hits, len(some))


def verdict(outcomes: Sequence[Outcome]) -> str:
    said = []
    for axis, which in ((0, "lr"), (1, "batch")):
        hits, low, high = held(outcomes, which)
        strata = {
            key: np.mean([o.covered[axis] for o in outcomes if (o.sizes, o.spread) == key])
            for key in STRATA
            if any((o.sizes, o.spread) == key for o in outcomes)
        }
        worst = min(strata, key=lambda key: strata[key])
        ratio = np.mean([o.width[axis] for o in outcomes]) / np.mean([o.oracle[axis] for o in outcomes])
        share = hits / len(outcomes)
        said.append(
            f"{which} {share:.3f} ({low:.3f} to {high:.3f}; {'reaches' if share >= LOWEST_POOLED else 'BELOW'} "
            f"{LOWEST_POOLED:g}), lowest stratum {strata[worst]:.3f} ({worst[0]} sizes, sd {worst[1]:g}; "
            f"{'reaches' if strata[worst] >= LOWEST_STRATUM else 'BELOW'} {LOWEST_STRATUM:g}), width {ratio:.2f}x the "
            f"oracle's ({'within' if ratio <= WIDEST else 'ABOVE'} {WIDEST:g})"
        )
    both = held(outcomes, "both")[0] / len(outcomes)
    stated, realised = np.mean([o.stated for o in outcomes]), np.mean([o.realised for o in outcomes])
    return (
        f"size effects: {'; '.join(said)}; both held {both:.3f}; stated cost {stated:.3%}, realised {realised:.3%} "
        f"(1 : {realised / stated:.2f})"
    )


if __name__ == "__main__":
    main()
