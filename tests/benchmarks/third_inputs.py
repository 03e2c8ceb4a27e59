"""The loss with a further input: how far off, and do 90 % intervals hold the truth, inside the runs and beyond?

    python -m tests.benchmarks.third_inputs [STUDIES [KIND]]

Simulated studies of 30 runs on repeated text (15 of them fresh) or of 45 with one, four or sixteen experts; the noise
is 0.3 %. Asked for are a value inside those of the runs and one beyond, at the largest compute and at ten times it.
Printed for the answer (the average of the forms of ordinary runs, moved by what the one form with the input says that
it does) and for that form alone; where that form is the truth, and where the reducible loss is its to a power of 0.7 to
1.4, so that no form is.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np

from lawfit.errors import NotEnoughData
from lawfit.estimate.loss import law as loss_law_module
from lawfit.estimate.loss.law import loss_law
from lawfit.kinds.third_input import Asked, loss_at_third
from lawfit.laws.loss import DATA_CONSTRAINED
from lawfit.records import Fit, SizedLoss

NOISE: Final = 0.003
LEVEL: Final = 0.9
RESAMPLES: Final = 100
OUTSIDE: Final = 1000  # added to the seed that draws the power
FLOORS: Final = {"repeated tokens": DATA_CONSTRAINED.law.E, "experts": 1.8}
SIZES: Final = tuple(np.geomspace(1e8, 2e9, 5))


def repeated(rng: np.random.Generator) -> Iterator[tuple[float, float, float]]:
    """Params, tokens and passes: fresh runs, and runs that repeat their tokens 3 to 30 times."""
    yield from ((n, n * ratio, 1.0) for n in SIZES for ratio in (10.0, 40.0, 90.0))
    yield from ((n, 40 * n, passes) for n in SIZES for passes in (3.0, 10.0, 30.0))


def experts(rng: np.random.Generator) -> Iterator[tuple[float, float, float]]:
    """Params, tokens and number of experts."""
    yield from ((n, n * ratio, x) for n, ratio, x in itertools.product(SIZES, (10.0, 40.0, 160.0), (1.0, 4.0, 16.0)))


KINDS: Final[dict[str, tuple[Callable[..., Any], str, str, Callable[..., float], tuple[float, float]]]] = {
    # runs, column, what is asked for, truth, values asked: inside and beyond
    "repeated tokens": (
        repeated,
        "epochs",
        "epochs",
        lambda n, d, x: float(DATA_CONSTRAINED.loss(n, d, d / x)),
        (8.0, 60.0),
    ),
    "experts": (
        experts,
        "num_experts",
        "experts",
        lambda n, d, x: 1.8 + 300 * n**-0.33 * x**-0.12 + 400 * d**-0.3,
        (8.0, 64.0),
    ),
}


def truth_of(kind: str, seed: int, *, outside: bool) -> Callable[..., float]:
    """Of a study: the form that is fitted, or one outside all forms."""
    truth, outer = KINDS[kind][3], np.random.default_rng(seed + OUTSIDE).uniform(np.log(0.7), np.log(1.4))
    floor, power = FLOORS[kind], float(np.exp(outer)) if outside else 1.0
    return lambda n, d, x: floor + (truth(n, d, x) - floor) ** power


def fitted(kind: str, seed: int, *, outside: bool) -> Fit:
    """The law of the loss of one study, as `lawfit fit` stores it."""
    runs, column, *_ = KINDS[kind]
    truth, rng = truth_of(kind, seed, outside=outside), np.random.default_rng(seed)
    rows = [
        SizedLoss(
            run_key=f"{n} {d} {x}",
            params=n,
            tokens=d,
            loss=truth(n, d, x) * float(np.exp(NOISE * rng.standard_normal())),
            extra={column: x},
        )
        for n, d, x in runs(rng)
    ]
    law = loss_law([], rng, losses=rows)
    return Fit(
        id="", recipe_key="", recipe_name="", kind="loss", status=law.status, data_hash="", code_version="",
        created_at="", options={}, exclusions={}, payload=law.payload,
    )  # fmt: skip


def main(studies: int, only: str = "") -> None:
    loss_law_module.LOSS_RESAMPLES = RESAMPLES
    for (kind, (_, _, asked, _, values)), outside in itertools.product(KINDS.items(), (False, True)):
        if not kind.startswith(only):
            continue
        seen: dict[tuple[str, float, float], list[tuple[float, bool, float]]] = {}
        silent = 0
        for seed in range(studies):
            fit, truth = fitted(kind, seed, outside=outside), truth_of(kind, seed, outside=outside)
            for value, far in itertools.product(values, (1.0, 10.0)):
                try:
                    law = loss_at_third(fit, Asked(name=asked, value=value), LEVEL)
                except NotEnoughData:
                    silent += 1
                    continue
                at = 2e9 * far**0.5, 8e10 * far**0.5
                true = truth(*at, value)
                for way, answers in (("answer", law), ("form alone", replace(law, ordinary=None))):
                    said = answers.predict(*at).expected
                    if said.low is not None and said.high is not None:
                        row = (abs(np.log(said.value / true)), said.low < true < said.high, said.high / said.low - 1)
                        seen.setdefault((way, value, far), []).append(row)
        law_words = "no form is the truth" if outside else "the form is the truth"
        print(f"{kind}, {law_words}: {studies} studies, {silent // 4} without an answer", flush=True)
        for (way, value, far), found in sorted(seen.items()):
            error, held, width = np.array(found, dtype=float).T
            print(
                f"  {way:<11s}{asked} {value:>3g} at {far:>2g}x the largest compute: off by {np.median(error):.2%} "
                f"(median), {np.sqrt((error**2).mean()):.2%} (rms), held {int(held.sum())} of {len(held)}, wide "
                f"{np.median(width):.2%}"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, *sys.argv[2:3])
