"""Loss curves of schedules that a fit did not see, on the public runs of the Multi-Power Law (arXiv 2503.12811).

    python -m tests.benchmarks.schedule_curves

Fitted on three schedules of a size (cosine, constant, two stages, 24,000 steps at most), scored on the six others:
mean absolute error of the whole logged curve, in % of the loss. Target: under 0.3 %. Beside it the annealing law
(arXiv 2408.11029), which has two numbers less.
"""

from __future__ import annotations

import time

import numpy as np

from lawfit.estimate.schedules.annealing import fit_annealing
from lawfit.estimate.schedules.multi_power import fit_multi_power
from tests.benchmarks.shared import shared_file
from tests.estimate.schedules.test_multi_power import LEARNED, read_curves


def main() -> None:
    folder = shared_file("multi_power_law_curves.csv").parent
    means, annealing = {}, {}
    for size in ("25M", "100M", "400M"):
        runs = read_curves(folder, size)
        begun = time.perf_counter()
        found = fit_multi_power(*zip(*(runs[name] for name in LEARNED), strict=True))
        seconds = time.perf_counter() - begun
        errors = {
            name: 100 * float(np.mean(np.abs(found.law.loss(course) / loss - 1)))
            for name, (course, loss) in runs.items()
            if name not in LEARNED
        }
        means[size] = float(np.mean(list(errors.values())))
        print(size, f"{seconds:.1f} s", "starts agree" if found.starts_agree else "starts differ", found.law)
        simpler = fit_annealing(*zip(*(runs[name] for name in LEARNED), strict=True))
        others = [
            float(np.mean(np.abs(simpler.law.loss(course) / loss - 1)))
            for name, (course, loss) in runs.items()
            if name not in LEARNED
        ]
        annealing[size] = 100 * float(np.mean(others))
        print("    " + ", ".join(f"{name} {error:.3f} %" for name, error in errors.items()))
    print("annealing law, mean error over the same: " + ", ".join(f"{k} {v:.3f} %" for k, v in annealing.items()))
    print("schedule curves, mean error over six schedules: " + ", ".join(f"{k} {v:.3f} %" for k, v in means.items()))


if __name__ == "__main__":
    main()
