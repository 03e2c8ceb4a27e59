"""Every form along the batch, simulated: is it named, and are the numbers stored under its name its own?

    nice python -m tests.benchmarks.own_numbers [STUDIES] [FIRST_SEED]

1. The best learning rates of one scale at ten batches, 2 % noise, drawn from each form with noise batches of 2e5, 8e5
   and 3.2e6 tokens: how often the form is named, how far its stored noise batch (or exponent) is from the truth, and
   how often its stored interval holds it.
2. Whole sweeps of nine scales whose rate surges, or saturates, with a noise batch that grows with the horizon: which
   law has a share of the answer at a given batch, its stored noise batch over the truth, and the error of that answer
   beside the joint surface's alone.
"""

from __future__ import annotations

import itertools
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from lawfit.advise.prediction import recommend
from lawfit.ask import Target
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.estimate.numerics.optima import SweepOptima
from lawfit.estimate.numerics.sweeps import SweepOptimum
from lawfit.estimate.other_laws import lr_batch_forms
from lawfit.laws.lr_batch import SATURATING, SURGE, Form, Power, Saturating, Surge
from lawfit.records import OptimumStatus
from lawfit.simulate import REFERENCE_TOKENS
from tests.estimate.noise_batch import NoiseBatchTruth, SurgeBatchTruth
from tests.estimate.simulated import NINE, RECIPE, fit_of, sweep

NOISE_BATCHES = (2e5, 8e5, 3.2e6)
BATCHES = np.geomspace(2**14, 2**24, 10)
SD = 0.02


def forms() -> dict[str, tuple[str, Form]]:
    made: dict[str, tuple[str, Form]] = {f"power {e:g}": ("power", Power(const=3e-5, exponent=e)) for e in (0.25, 0.5)}
    for noise in NOISE_BATCHES:
        made |= {
            f"saturating, {noise:.2g}": ("saturating_sgd", Saturating(lr_max=0.01, noise_batch_tokens=noise)),
            f"saturating^0.7, {noise:.2g}": (
                "saturating",
                Saturating(lr_max=0.01, noise_batch_tokens=noise, sharpness=0.7),
            ),
            f"surge, {noise:.2g}": ("surge", Surge(lr_max=0.01, noise_batch_tokens=noise)),
        }
    return made


def along_one_scale(count: int, first: int) -> str:
    named, held, worst = 0, [], 0.0
    for words, (name, form) in forms().items():
        ratios, times, inside = [], 0, []
        for seed in range(first + 1000 * len(words), first + 1000 * len(words) + count):
            noise = SD * np.random.default_rng(seed).standard_normal(len(BATCHES))
            lr = np.asarray(form(BATCHES)) * np.exp(noise)
            n = len(BATCHES)
            optima = tuple(SweepOptimum(value=float(x), loss=3.0, status=OptimumStatus.INSIDE) for x in lr)
            found = lr_batch_forms(
                SweepOptima(params=np.full(n, 1e8), tokens=np.full(n, 2e9), batch_tokens=BATCHES, optima=optima)
            )
            times += found["best"] == name
            own = found["cells"][0]["forms"][name]
            if isinstance(form, Power):
                ratios.append(own["exponent"] / form.exponent)
                continue
            ratios.append(own["noise_batch_tokens"] / form.noise_batch_tokens)
            low, high = own["noise_batch_low"] or 0.0, own["noise_batch_high"] or np.inf
            inside.append(low <= form.noise_batch_tokens <= high)
        off = np.exp(np.median(np.abs(np.log(ratios))))
        worst, named, held = max(worst, off), named + times, held + inside
        print(
            f"{words}: named {times} of {count}, stored number {np.median(ratios):.3f} times the truth "
            f"({min(ratios):.2f} to {max(ratios):.2f})" + (f", intervals hold {np.mean(inside):.2f}" if inside else "")
        )
    return (
        f"named {named / (count * len(forms())):.0%}, stored numbers off by a factor of {worst:.2f} at most (medians), "
        f"90 % intervals of noise batches hold {np.mean(held):.3f} of {len(held)}"
    )


def over_scales(seeds: tuple[int, ...] = (7, 8, 9)) -> str:
    said, errors = [], []
    kinds = ((SURGE, SurgeBatchTruth), (SATURATING, NoiseBatchTruth))
    for (law, kind), noise, seed in itertools.product(kinds, NOISE_BATCHES[:2], seeds):
        truth = kind(batch_params=0.0, noise_batch_tokens=noise, noise_exponent=1.0, batch_tokens_exponent=0.35)
        made = sweep(NINE, truth=truth, lr_steps=9, batch_steps=8, batch_ratio=2.0, misplacement=0.0, seed=seed)
        fit = fit_of(made.runs, FitOptions(backtest=False))
        chosen = fit.payload["lr_at_batch"]
        lr, best = truth.optimum(4e8, 1.2e10)
        off = []
        for share in (0.2, 3.0):
            target = Target(params=4e8, tokens=1.2e10, batch_tokens=share * best)
            answer = recommend(fit, RECIPE, target)["recommendation"]["lr"]
            wanted = np.log(lr) + float(truth.floor(np.array(np.log(share)), 1.2e10))
            off.append([abs(np.log(x) - wanted) for x in (answer["value"], answer["at_batch"]["surface"])])
        ours, surface = np.mean(off, axis=0)
        stored = chosen["laws"][chosen["law"]]
        ratio = stored["noise_batch_tokens"] / (noise * (stored["at_tokens"] / REFERENCE_TOKENS))
        errors.append((ours, surface))
        said.append(chosen["law"] == law and chosen["form"] == "average")
        print(
            f"{law} over scales, {noise:.2g}: {chosen['law']}, {chosen['form']}; noise batch {ratio:.2f} times the "
            f"truth; ln lr off by {ours:.3f} (surface alone {surface:.3f})"
        )
    ours, surface = np.mean(errors, axis=0)
    told = f"the true law answers in {sum(said)} of {len(said)}"
    return f"over scales {told}, ln lr off by {ours:.3f} (surface alone {surface:.3f})"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    print("own numbers: " + "; ".join([along_one_scale(count, first), over_scales()]))


if __name__ == "__main__":
    main()
