"""How often 90 % intervals of the loss with a further input hold the truth: simulated studies, inside runs and beyond.

python -m tests.benchmarks.third_inputs [studies [kind]]
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from lawfit.advise.third_input import Asked, loss_at_third
from lawfit.errors import NotEnoughData
from lawfit.estimate.loss_third import fit_further_forms
from lawfit.laws.loss import DATA_CONSTRAINED
from lawfit.records import Fit, FitStatus, SizedLoss

NOISE: Final = 0.003
LEVEL: Final = 0.9
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


def main(studies: int, only: str = "") -> None:
    for kind, (runs, column, asked, truth, values) in KINDS.items():
        if not kind.startswith(only):
            continue
        held = {(value, far): [] for value in values for far in (1.0, 10.0)}
        widths, silent = [], 0
        for seed in range(studies):
            rng = np.random.default_rng(seed)
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
            found, missing = fit_further_forms(rows, rng)
            fit = Fit(
                id="", recipe_key="", recipe_name="", kind="loss", status=FitStatus.OK, data_hash="", code_version="",
                created_at="", options={}, exclusions={}, payload={"further_forms": found, "not_fitted": missing},
            )  # fmt: skip
            for (value, far), seen in held.items():
                try:
                    law = loss_at_third(fit, Asked(name=asked, value=value), LEVEL)
                except NotEnoughData:
                    silent += 1
                    continue
                at = 2e9 * far**0.5, 8e10 * far**0.5
                said = law.predict(*at).expected
                assert said.low is not None
                assert said.high is not None
                seen.append(said.low < truth(*at, value) < said.high)
                widths.append(said.high / said.low - 1)
        told = "; ".join(
            f"{asked} {value:g} at {far:g}x the largest compute {np.mean(seen):.2f}"
            for (value, far), seen in held.items()
            if seen
        )
        print(f"{kind}: {studies} studies, {silent // len(held)} without an answer; inside 90 % intervals: {told}; "
              f"median width {np.median(widths):.2%}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, *sys.argv[2:3])
