"""Do 90 % intervals of a fitted loss law hold the truth in 90 % of simulated studies, and how wide are they?

    python -m tests.benchmarks.loss_coverage [STUDIES] [FIRST_SEED]

Each study draws its own law, noise (0.2 to 1 %) and design. Half have independent runs (40 to 300, some with 3 % of
losses 10 % high); half have checkpoints of 12 to 40 runs, whose offset all checkpoints of a run share: resampling rows
would fail there, and is shown to. Widths are beside those of an oracle that knows form, noise and correlation and sees
no outlier (Cramer-Rao). The estimands: all parameters, the exponent of the compute-optimal size, that size and its loss
at ten times the dearest run.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm

from lawfit.estimate.loss.fit import Interval, fit_loss
from lawfit.laws.loss import AdditiveLaw

Floats = NDArray[np.float64]
LEVEL = 0.9
FALSE_ALARM = 1e-2
RESAMPLES = 500
NAMES = ("E", "alpha", "beta", "params_exponent", "params*", "loss*")


@dataclass(frozen=True)
class Study:
    law: AdditiveLaw
    params: Floats
    tokens: Floats
    loss: Floats
    clusters: NDArray[np.intp] | None
    noise: tuple[float, float]  # sd of log loss: shared by a cluster, and of each row


def draw_study(rng: np.random.Generator, *, clustered: bool) -> Study:
    law = AdditiveLaw(
        E=rng.uniform(1.4, 2.2),
        alpha=rng.uniform(0.25, 0.45),
        beta=rng.uniform(0.25, 0.45),
        A=1.0,
        B=1.0,
    )
    at = rng.uniform(0.2, 0.5, size=2)  # nats that each term is worth at 1e9 parameters, 2e10 tokens
    law = AdditiveLaw(E=law.E, alpha=law.alpha, beta=law.beta, A=at[0] * 1e9**law.alpha, B=at[1] * 2e10**law.beta)
    sd = float(np.exp(rng.uniform(np.log(0.002), np.log(0.01))))
    if clustered:
        runs, checkpoints = int(rng.integers(12, 41)), 20
        size = np.exp(rng.uniform(np.log(2e7), np.log(3e9), runs))
        params = np.repeat(size, checkpoints)
        tokens = params * np.tile(np.geomspace(4, 300, checkpoints), runs)
        index = np.repeat(np.arange(runs), checkpoints)
        noise = (sd, sd / 4)
        error = noise[0] * rng.standard_normal(runs)[index] + noise[1] * rng.standard_normal(len(index))
        return Study(law, params, tokens, law.loss(params, tokens) * np.exp(error), index, noise)
    rows = int(rng.choice([40, 100, 300]))
    params = np.exp(rng.uniform(np.log(1e7), np.log(3e9), rows))
    tokens = params * np.exp(rng.uniform(np.log(2), np.log(316), rows))
    error = sd * rng.standard_normal(rows)
    if rng.random() < 0.5:
        error[rng.random(rows) < 0.03] += np.log(1.1)
    return Study(law, params, tokens, law.loss(params, tokens) * np.exp(error), None, (0.0, sd))


def estimands(law: AdditiveLaw, flops: float) -> Floats:
    """In logs where positive by nature."""
    best = law.optimum(flops)
    return np.array(
        [
            np.log(law.E),
            np.log(law.alpha),
            np.log(law.beta),
            float(law.params_exponent),
            np.log(best[0]),
            np.log(law.loss(*best)),
        ],
        dtype=float,
    )


def oracle_widths(study: Study, flops: float) -> Floats:
    """Full width of the interval of an efficient estimator, in the units of `estimands`."""
    theta = np.log([study.law.E, study.law.A, study.law.alpha, study.law.B, study.law.beta])

    def log_loss(values: Floats) -> Floats:
        e, a, alpha, b, beta = np.exp(values)
        return np.log(AdditiveLaw(E=e, A=a, alpha=alpha, B=b, beta=beta).loss(study.params, study.tokens))

    def answer(values: Floats) -> Floats:
        e, a, alpha, b, beta = np.exp(values)
        return estimands(AdditiveLaw(E=e, A=a, alpha=alpha, B=b, beta=beta), flops)

    steps = 1e-5 * np.eye(5)
    design = np.stack([(log_loss(theta + s) - log_loss(theta - s)) / 2e-5 for s in steps], axis=1)
    slope = np.stack([(answer(theta + s) - answer(theta - s)) / 2e-5 for s in steps], axis=1)
    shared, own = study.noise
    information = design.T @ design / own**2
    if study.clusters is not None:
        for cluster in range(int(study.clusters.max()) + 1):
            rows = design[study.clusters == cluster]
            total = rows.sum(axis=0) / own**2
            information -= np.outer(total, total) / (1 / shared**2 + len(rows) / own**2)
    variance = np.diag(slope @ np.linalg.inv(information) @ slope.T)
    return np.asarray(2 * norm.ppf(0.5 + LEVEL / 2) * np.sqrt(variance))


def one(job: tuple[int, bool, bool]) -> tuple[bool, bool, NDArray[np.bool_], Floats, Floats]:
    """(clustered, certified, covered, width over oracle's, log error) of one study."""
    seed, clustered, by_cluster = job
    rng = np.random.default_rng(seed)
    study = draw_study(rng, clustered=clustered)
    flops = 60 * float((study.params * study.tokens).max())
    fit = fit_loss(
        study.params,
        study.tokens,
        study.loss,
        clusters=study.clusters if by_cluster else None,
        resamples=RESAMPLES,
        level=LEVEL,
        rng=rng,
    )
    if not fit.certificate.certified:
        return clustered, False, np.zeros(len(NAMES), dtype=bool), np.full(len(NAMES), np.nan), np.zeros(len(NAMES))
    best = fit.optimum(flops)
    found: list[Interval] = [fit.parameters[name] for name in NAMES[:4]] + [best.params, best.loss]
    bounds = np.array([(i.low, i.high, i.value) for i in found], dtype=float)
    logged = np.array([True, True, True, False, True, True])
    bounds[logged] = np.log(bounds[logged])
    truth = estimands(study.law, flops)
    covered = (bounds[:, 0] <= truth) & (truth <= bounds[:, 1])
    return clustered, True, covered, (bounds[:, 1] - bounds[:, 0]) / oracle_widths(study, flops), bounds[:, 2] - truth


def main() -> None:
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    kinds = {
        "independent runs": (False, True),
        "checkpoints, resampled by run": (True, True),
        "checkpoints, resampled by row (wrong)": (True, False),
    }
    worst = {}
    for label, (clustered, by_cluster) in kinds.items():
        jobs = [
            (first + i, clustered, by_cluster) for i in range(studies if by_cluster or not clustered else studies // 5)
        ]
        with ProcessPoolExecutor(2) as pool:
            results = list(pool.map(one, jobs, chunksize=10))
        certified = np.array([r[1] for r in results])
        covered = np.array([r[2] for r in results])[certified]
        width = np.array([r[3] for r in results])[certified]
        print(f"\n{label}: {studies} studies from seed {first}, {certified.sum()} certified")
        print(f"{'estimand':<18s}{'covered':>9s}{'upper bound':>13s}{'width / oracle, median':>25s}")
        for k, name in enumerate(NAMES):
            count = binomtest(int(covered[:, k].sum()), len(covered))
            high = count.proportion_ci(1 - 2 * FALSE_ALARM, method="exact").high
            print(f"{name:<18s}{covered[:, k].mean():>9.3f}{high:>13.3f}{np.median(width[:, k]):>25.2f}")
            worst[label] = min(worst.get(label, 1.0), high)
    for label, high in worst.items():
        verdict = "not below" if high >= LEVEL else "BELOW"
        print(f"{label}: coverage {verdict} {LEVEL} (lowest exact upper bound {high:.3f} at {FALSE_ALARM:g})")


if __name__ == "__main__":
    main()
