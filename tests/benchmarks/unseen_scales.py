"""Scales that a fit has not seen: cost of the answer, whether its interval holds, and whether its stated cost does.

    python -m tests.benchmarks.unseen_scales [--scales] [--json FILE]

The 23 public scales of the Step Law study (five sizes). Nothing that was fitted on this study lends to a fit, and every
choice (windows, shapes, how much is borrowed) is made inside the scales that are learned from. Splits: the 14 scales of
step_law_dense.csv -> the nine of step_law_more_scales.csv; all 23, each size left out; the sizes up to 268M -> the
larger ones; and of the 14 alone each size left out, the 9 smaller by params x tokens -> 5, and 7 -> 7.

Costs are read off the observed runs (`ObservedSurface`, triangles in the files' row order), for the setting that
`lawfit predict` recommends and for its central optimum. Beside them: lines through the best run of each scale, through
the near-optimal runs, and through the smooth optima (`smooth_optimum.py` of the shared tools defines them, and
step_law_smooth_optima.csv has them for every scale); Step Law, which saw the scales; and each scale's own smooth
optimum, the floor. Differences to argmin + OLS carry standard errors paired over scales; scales of one size share their
deviation, so read these errors as lower bounds.

Intervals are judged by the smooth optimum of the scale left out: share inside, mean width in ln, and the interval score
in ln (width + 20 x miss). The stated expected cost is held against the realised excess: the cost of the recommended
setting over that of the smooth optimum.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from lawfit.estimate.lr_batch.backtest import ARGMIN, E1, OURS, columns_of
from lawfit.estimate.numerics.regression import fit_argmin_ols, fit_e1, fit_power_law
from lawfit.estimate.numerics.scoring import ObservedSurface
from lawfit.estimate.observe.observations import Observations, observe
from lawfit.laws.published import published_laws
from tests.benchmarks.shared import (
    STEP_LAW,
    STEP_LAW_ALL,
    Ints,
    answer_at,
    fitted_model,
    interval_score,
    mean_and_error,
    shared_file,
    step_law_runs,
    step_law_splits,
    yardstick,
)

CENTRE, SMOOTH = "lawfit, central optimum", "smooth optima + OLS"
STUDY, FLOOR = "Step Law (saw them)", "own smooth optimum (floor)"
METHODS = (OURS, CENTRE, ARGMIN, E1, SMOOTH, STUDY, FLOOR)
UPWARD = 3e8  # sizes up to 268M are learned from
Setting = tuple[float, float]  # learning rate, tokens per step


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One scale that was left out; pairs are (learning rate, batch), intervals and optima in ln."""

    params: float
    tokens: float
    cost: Mapping[str, float]  # method -> share of loss above the lowest run
    stated: float
    low: Setting
    high: Setting
    optimum: Setting

    @property
    def excess(self) -> float:
        return self.cost[OURS] - self.cost[FLOOR]

    @property
    def inside(self) -> tuple[bool, bool]:
        return tuple(a <= x <= b for a, x, b in zip(self.low, self.optimum, self.high, strict=True))

    @property
    def width(self) -> Setting:
        return self.high[0] - self.low[0], self.high[1] - self.low[1]

    @property
    def score(self) -> Setting:
        return tuple(interval_score(a, b, x) for a, b, x in zip(self.low, self.high, self.optimum, strict=True))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--scales", action="store_true", help="a line for every scale too")
    options.add_argument("--json", type=Path, metavar="FILE", help="write every scale of every split as JSON")
    asked = options.parse_args()
    results = dict(all_splits())
    for name, scored in results.items():
        show(name, scored, each=asked.scales)
    if asked.json:
        document = {name: [asdict(scale) for scale in scored] for name, scored in results.items()}
        asked.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print("\nunseen scales, mean cost in % (argmin + OLS): " + "; ".join(in_short(n, s) for n, s in results.items()))


def all_splits() -> list[tuple[str, list[Scored]]]:
    runs, home = step_law_runs(STEP_LAW_ALL), step_law_runs()
    everything = observe(runs)
    known = {(run.params, run.tokens) for run in home}
    dense = np.array([(n, d) in known for n, d in zip(everything.params, everything.tokens, strict=True)])
    surfaces = yardstick(runs, everything)
    at_home = everything.subset(np.flatnonzero(dense))
    home_surfaces = {i: surfaces[int(c)] for i, c in enumerate(np.flatnonzero(dense))}
    splits = {
        "14 scales -> the nine further ones": [np.flatnonzero(dense)],
        "all 23, each size left out": [np.flatnonzero(everything.params != n) for n in np.unique(everything.params)],
        "sizes up to 268M -> larger ones": [np.flatnonzero(everything.params < UPWARD)],
    }
    return [
        *((name, score(everything, surfaces, rounds)) for name, rounds in splits.items()),
        *(
            (f"the 14 alone: {name}", score(at_home, home_surfaces, rounds))
            for name, rounds in step_law_splits(at_home).items()
        ),
    ]


def score(observed: Observations, surfaces: Mapping[int, ObservedSurface], rounds: Sequence[Ints]) -> list[Scored]:
    """Every scale that some round leaves out, by the fit of the others."""
    optima = smooth_optima(observed)
    study = published_laws()["step_law"]
    found = []
    for kept in rounds:
        part = observed.subset(kept)
        model = fitted_model(part, STEP_LAW)
        best, near = fit_argmin_ols(columns_of(part)), fit_e1(columns_of(part))
        through = [fit_power_law(optima[kept, axis], {"params": part.params, "tokens": part.tokens}) for axis in (0, 1)]
        for cell in np.setdiff1d(np.arange(observed.n_cells), kept):
            params, tokens = float(observed.params[cell]), float(observed.tokens[cell])
            answer = answer_at(model, params, tokens)
            said = study.predict(params, tokens)
            settings: dict[str, Setting] = {
                OURS: tuple(np.exp(answer.setting)),
                CENTRE: tuple(np.exp(answer.centre)),
                ARGMIN: best.predict(params, tokens),
                E1: near.predict(params, tokens),
                SMOOTH: tuple(float(law.predict(params=params, tokens=tokens)) for law in through),
                STUDY: (float(said.lr), float(said.batch_tokens)),
                FLOOR: tuple(optima[cell]),
            }
            found.append(
                Scored(
                    params=params,
                    tokens=tokens,
                    cost={name: float(surfaces[int(cell)].regret(*at).regret) for name, at in settings.items()},
                    stated=answer.stated,
                    low=answer.low,
                    high=answer.high,
                    optimum=tuple(float(x) for x in np.log(optima[cell])),
                )
            )
    return found


def smooth_optima(observed: Observations) -> np.ndarray:
    """(cells, 2) learning rate and batch of each cell's own smooth optimum."""
    with shared_file("step_law_smooth_optima.csv").open(newline="") as file:
        rows = {
            (float(row["n_params"]), float(row["n_tokens"])): (float(row["lr"]), float(row["batch_tokens"]))
            for row in csv.DictReader(file)
        }
    return np.array([rows[n, d] for n, d in zip(observed.params, observed.tokens, strict=True)])


def show(name: str, scored: Sequence[Scored], *, each: bool) -> None:
    print(f"\n{name} ({len(scored)} scales)\n  {'cost in % of loss':<30s}{'mean':>8s}{'worst':>8s}   over {ARGMIN}")
    base = np.array([scale.cost[ARGMIN] for scale in scored])
    for method in METHODS:
        cost = np.array([scale.cost[method] for scale in scored])
        mean, error = mean_and_error(cost - base)
        apart = "" if method == ARGMIN else f"{100 * mean:+.3f} +- {100 * error:.3f}"
        print(f"  {method:<30s}{100 * cost.mean():>8.3f}{100 * cost.max():>8.3f}   {apart}")
    inside, width, points = (np.array([getattr(s, what) for s in scored]) for what in ("inside", "width", "score"))
    for axis, of in ((0, "lr"), (1, "batch")):
        print(
            f"  90 % interval of {of:<6s} holds {inside[:, axis].sum()} of {len(scored)}, mean width "
            f"{width[:, axis].mean():.3f}, mean interval score {points[:, axis].mean():.2f} (ln)"
        )
    stated, excess = np.mean([s.stated for s in scored]), np.mean([s.excess for s in scored])
    print(
        f"  both hold {inside.all(axis=1).sum()} of {len(scored)}; stated cost {100 * stated:.3f} %, realised excess "
        f"{100 * excess:.3f} %: 1 : {excess / stated:.1f}"
    )
    for scale in scored if each else ():
        print(
            f"    {scale.params / 1e6:>4.0f}M on {scale.tokens / 1e9:>5.1f}B  "
            f"ours {100 * scale.cost[OURS]:.3f}, centre {100 * scale.cost[CENTRE]:.3f}, "
            f"argmin {100 * scale.cost[ARGMIN]:.3f}, floor {100 * scale.cost[FLOOR]:.3f}, "
            f"stated {100 * scale.stated:.3f}, excess {100 * scale.excess:+.3f}; inside "
            + ", ".join(
                f"{of} {'yes' if scale.inside[axis] else 'no'} (width {scale.width[axis]:.2f}, "
                f"score {scale.score[axis]:.2f})"
                for axis, of in ((0, "lr"), (1, "batch"))
            )
        )


def in_short(name: str, scored: Sequence[Scored]) -> str:
    ours, argmin = (100 * np.mean([s.cost[method] for s in scored]) for method in (OURS, ARGMIN))
    lr, batch = np.array([s.inside for s in scored]).sum(axis=0)
    return f"{name} {ours:.3f} ({argmin:.3f}), intervals hold {lr} and {batch} of {len(scored)}"


if __name__ == "__main__":
    main()
