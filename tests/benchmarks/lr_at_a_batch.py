"""The learning rate at a given batch, at sizes and horizons that were left out, on the real runs of the Step Law grid.

    python -m tests.benchmarks.lr_at_a_batch

For each batch of each cell left out: the learning rate that a method says, scored by linear interpolation of the
observed loss over ln lr in that sweep, against the lowest observed there. Methods: a product of powers of size, horizon
and batch; the saturating law; and what `lawfit predict --batch-tokens` would answer. Rates outside the sweep are scored
at its end, for every method alike.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lawfit.advise.draws import draw_worlds
from lawfit.advise.regret import best_setting
from lawfit.estimate.analysis import FitOptions, analyse
from lawfit.estimate.backtest import columns_of
from lawfit.estimate.lr_across_scales import fit_power_across_scales, fit_saturating_across_scales
from lawfit.estimate.observations import Observations, observe
from lawfit.estimate.optima import Columns, locate_lr_per_batch
from tests.benchmarks.shared import STEP_LAW, step_law_runs

LrAt = Callable[[float, float, float], float]  # (params, tokens, batch_tokens) -> lr


def main() -> None:
    observed = observe(step_law_runs())
    everything = columns_of(observed)
    splits = {
        "each size left out": [np.flatnonzero(observed.params != size) for size in np.unique(observed.params)],
        "horizons of 4e10 and more left out": [np.flatnonzero(observed.tokens < 4e10)],
    }
    figures: dict[tuple[str, str], list[float]] = {}
    for split, rounds in splits.items():
        for kept in rounds:
            left = np.setdiff1d(np.arange(observed.n_cells), kept)
            for method, lr_at in methods(observed, kept).items():
                for cell in left:
                    regrets = score(everything, float(observed.params[cell]), float(observed.tokens[cell]), lr_at)
                    figures.setdefault((split, method), []).extend(regrets)
    for (split, method), regrets in figures.items():
        print(f"{split:<36s}{method:<28s}mean {100 * np.mean(regrets):.3f} %, worst {100 * np.max(regrets):.2f} %")
    means = {key: 100 * float(np.mean(regrets)) for key, regrets in figures.items()}
    print(
        "lr at a batch, mean regret in %: "
        + "; ".join(
            f"{split}: saturating {means[split, 'saturating']:.3f}, power {means[split, 'product of powers']:.3f}, "
            f"lawfit predict {means[split, 'lawfit predict']:.3f}"
            for split in splits
        )
    )


def methods(observed: Observations, kept: np.ndarray) -> dict[str, LrAt]:
    part = observed.subset(kept)
    sweeps = locate_lr_per_batch(columns_of(part))
    rows = sweeps.inside
    optima = sweeps.params[rows], sweeps.tokens[rows], sweeps.batch_tokens[rows], sweeps.lr[rows]
    power, saturating = fit_power_across_scales(*optima), fit_saturating_across_scales(*optima).law
    model = analyse(part, FitOptions(without_laws=STEP_LAW, backtest=False)).payload["model"]

    def ours(params: float, tokens: float, batch: float) -> float:
        return float(np.exp(best_setting(draw_worlds(model, params, tokens), float(np.log(batch)))[0]))

    return {
        "product of powers": lambda n, d, b: float(power.predict(params=n, tokens=d, batch_tokens=b)),
        "saturating": lambda n, d, b: float(saturating(n, d, b)),
        "lawfit predict": ours,
    }


def score(runs: Columns, params: float, tokens: float, lr_at: LrAt) -> list[float]:
    """Regret at each batch whose best run lies inside its sweep."""
    near = (np.abs(np.log(runs.params / params)) < 0.01) & (np.abs(np.log(runs.tokens / tokens)) < 0.01) & runs.finite
    found = []
    for batch in np.unique(runs.batch_tokens[near]):
        rows = near & (runs.batch_tokens == batch)
        order = np.argsort(runs.lr[rows])
        log_lr, loss = np.log(runs.lr[rows][order]), runs.loss[rows][order]
        if 0 < int(np.argmin(loss)) < len(loss) - 1:
            at = np.log(lr_at(params, tokens, float(batch)))
            found.append(float(np.interp(at, log_lr, loss) / loss.min() - 1))
    return found


if __name__ == "__main__":
    main()
