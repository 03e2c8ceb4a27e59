"""Critical batches from curves of runs whose learning rate falls: how far off the truth, or refused.

    nice python -m tests.benchmarks.falling_rates [STUDIES] [FIRST_SEED]

1. Simulated studies of 4 sizes x 6 batches x 3 learning rates, noise 0.2 % of loss at each of 200 points. The critical
   batch is the same at every size (2e5 tokens: truth 1, exponent 0). Over the last part of each run the rate falls and
   the loss with it, by 0 to 0.6 nats. Varied: the drop, where the fall begins, its shape, and how the runs say so
   (column cooldown_fraction, the rate in the log, the name of the schedule, nothing). Scored at 1e8 parameters on 2e9
   tokens: the critical batch over the truth, and whether the 90 % intervals hold it and the exponent. Beside them the
   same studies with the curves read to their ends, as was done until 2026-11-28. Schedules that fall throughout
   (cosine, linear) must be refused.
2. Our own runs: the WSD curves of data/proxy_wsd.csv, and the constant-rate ones of data/proxy_critical_batch.csv as if
   their schedule were not known.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from lawfit import pipeline
from lawfit.estimate.critical.routes import CURVES, CriticalLaws
from lawfit.estimate.evidence import Evidence, prepare
from lawfit.kinds.critical_batch import critical_laws
from lawfit.records import FitStatus, Run, RunStatus
from lawfit.storage import Store
from lawfit.words import tell

Floats = NDArray[np.float64]

DATA = Path(__file__).parents[2] / "data"
CRITICAL = 2e5
DROPS = (0.0, 0.06, 0.12, 0.3, 0.6)  # nats; those of our own WSD runs are 0.26 to 0.65
FALLS: Mapping[str, Callable[[Floats], Floats]] = {  # rate over its peak, of progress through the cooldown
    "linear": lambda u: 1 - u,
    "1-sqrt": lambda u: 1 - np.sqrt(u),
    "half cosine": lambda u: 0.5 * (1 + np.cos(np.pi * u)),
    "exponential": lambda u: 0.05**u,
}
SAID = ("column", "log", "name")


@dataclass(frozen=True, kw_only=True)
class Study:
    """One simulated recipe."""

    runs: tuple[Run, ...]
    curves: Mapping[str, tuple[Floats, Floats]]
    rates: Mapping[str, tuple[Floats, Floats]]
    schedule: str


def study(
    seed: int, *, drop: float, fall: str = "linear", cooldown: float = 0.2, said: str = "column", points: int = 200
) -> Study:
    """Runs at a rate that holds and then falls, and what they say about that."""
    rng = np.random.default_rng(seed)
    runs, curves, rates = [], {}, {}
    for params in (2e7, 4e7, 8e7, 1.6e8):
        tokens = 20 * params
        for batch in CRITICAL * 2.0 ** np.arange(-4, 2):
            for factor in (0.5, 1.0, 2.0):
                length = round(tokens / batch)
                steps = np.unique(np.round(np.linspace(length / points, length, points)))
                useful = steps * batch / (1 + batch / CRITICAL)  # tokens that a small batch would need
                loss = 1.7 + 400 * params**-0.34 + 0.35 * (useful / 1e9) ** -0.2 + 0.01 * np.log(factor) ** 2
                rate = FALLS[fall](np.clip((steps / length - 1 + cooldown) / cooldown, 0, 1))
                loss = (loss - drop * (1 - rate)) * np.exp(0.002 * rng.standard_normal(len(steps)))
                key = str(len(runs))
                runs.append(
                    Run(
                        run_key=key,
                        params=params,
                        tokens=tokens,
                        batch_tokens=float(batch),
                        lr=1e-3 * factor,
                        steps=length,
                        status=RunStatus.FINISHED,
                        loss=float(loss[-1]),
                        extra={"cooldown_fraction": cooldown} if said == "column" else {},
                    )
                )
                curves[key] = steps, loss
                if said == "log":
                    rates[key] = steps, 1e-3 * factor * rate
    named = {"name": f"wsd:cooldown={cooldown}", "nothing": "", "log": ""}
    return Study(runs=tuple(runs), curves=curves, rates=rates, schedule=named.get(said, "wsd to 0"))


def laws_of(made: Study) -> CriticalLaws:
    evidence = Evidence(runs=made.runs, curves=made.curves, rates=made.rates, schedule=made.schedule)
    return critical_laws(prepare(evidence))


@dataclass(frozen=True)
class Read:
    """What one study says of the critical batch; all NaN where it was refused."""

    ratio: float
    holds: bool
    exponent: float
    exponent_holds: bool
    status: str


def read_off(found: CriticalLaws) -> Read:
    if CURVES not in found.routes:
        return Read(np.nan, True, np.nan, True, "refused")
    route = found.routes[CURVES]
    said = route.predict(2e9, 1e8)
    low, high = route.laws["tokens"].exponent_interval("tokens")
    return Read(
        said.value_tokens / CRITICAL,
        said.low_tokens <= CRITICAL <= said.high_tokens,
        route.laws["tokens"].exponents["tokens"],
        low <= 0 <= high,
        route.status.value,
    )


def row(name: str, found: list[Read]) -> list[Read]:
    answers = [each for each in found if each.status not in ("refused", FitStatus.UNCERTIFIED.value)]
    refused = f"{len(found) - len(answers)} of {len(found)} refused"
    if not answers:
        print(f"{name}: {refused}")
        return answers
    ratio, exponent = (np.array([getattr(each, of) for each in answers]) for of in ("ratio", "exponent"))
    print(
        f"{name}: {ratio.min():.2f} to {ratio.max():.2f} times the truth, exponent {exponent.min():+.2f} to "
        f"{exponent.max():+.2f}, intervals hold {np.mean([e.holds for e in answers]):.2f} and "
        f"{np.mean([e.exponent_holds for e in answers]):.2f}; {refused}"
    )
    return answers


def simulated(count: int, first: int) -> str:
    answered: list[Read] = []
    before = []
    for index, drop in enumerate(DROPS):
        seeds = range(first + index * count, first + (index + 1) * count)
        rng = np.random.default_rng(first)
        varied = [
            study(
                seed,
                drop=drop,
                fall=list(FALLS)[k % len(FALLS)],
                cooldown=float(rng.choice([0.1, 0.2, 0.3, 0.4])) if k else 0.2,
                said=SAID[k % len(SAID)],
            )
            for k, seed in enumerate(seeds)
        ]
        answered += row(f"drop {drop:g} nats, cut", [read_off(laws_of(made)) for made in varied])
        if drop:
            to_the_end = [replace(made, schedule="constant", rates={}) for made in varied[:2]]
            plain = [replace(m, runs=tuple(replace(r, extra={}) for r in m.runs)) for m in to_the_end]
            before += row(f"drop {drop:g} nats, read to the end", [read_off(laws_of(made)) for made in plain])
        silent = row(f"drop {drop:g} nats, nothing said", [read_off(laws_of(study(first, drop=drop, said="nothing")))])
        assert not silent
    for schedule in ("cosine", "linear to 0", "wsd"):
        made = replace(study(first, drop=0.3, said="nothing"), schedule=schedule)
        assert not row(f"schedule '{schedule}', no more said", [read_off(laws_of(made))])
    ratios = np.array([each.ratio for each in answered])
    inside = float(np.mean((ratios >= 0.9) & (ratios <= 1.1)))
    worst = float(np.exp(np.abs(np.log(ratios)).max()))
    late = max(each.ratio for each in before)
    return (
        f"{len(ratios)} studies cut: {ratios.min():.2f} to {ratios.max():.2f} times the truth (median "
        f"{np.median(ratios):.2f}; {inside:.0%} within 0.9 to 1.1, worst a factor {worst:.2f}), intervals hold "
        f"{np.mean([e.holds for e in answered]):.2f}; read to the end up to {late:.0f} times"
    )


def own_runs() -> str:
    said = []
    with TemporaryDirectory() as folder, Store.open(Path(folder) / "own.db") as store:
        for name in ("proxy_wsd", "proxy_critical_batch"):
            pipeline.ingest(store, DATA / f"{name}.csv")
            pipeline.ingest(store, DATA / f"{name}_curves.csv")
        for found in store.recipes():
            evidence = pipeline.fitting.evidence_of(store, found.recipe)
            for schedule in dict.fromkeys((found.recipe.schedule, "")):
                made = Study(runs=tuple(evidence.runs), curves=evidence.curves, rates=evidence.rates, schedule=schedule)
                laws = laws_of(made)
                what = f"{found.recipe.name} as schedule '{schedule}'"
                if CURVES in laws.critical:
                    answer = laws.critical[CURVES].predict(2e7)
                    notes = map(tell, laws.critical[CURVES].sentences)
                    told = [note for note in notes if "learning rate begins" in note]
                    said.append(f"{what}: {answer.value_tokens:.3g} tokens at 2e7 {told}")
                else:
                    said.append(f"{what}: {laws.missing[CURVES]}")
    print("\n".join(said))
    return (
        f"{sum('not read' in line for line in said)} of {len(said)} readings of our own curves refused in part or whole"
    )


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    print("falling rates: " + "; ".join([simulated(count, first), own_runs()]))


if __name__ == "__main__":
    main()
