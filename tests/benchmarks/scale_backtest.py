"""Regret at scales that were left out, on the 1,627 real runs of the Step Law grid.

    python -m tests.benchmarks.scale_backtest

Every choice (windows, shapes, how much is borrowed) is made inside the scales that are learned from; nothing of Step
Law lends to the fit. Scored on observed runs by linear interpolation (triangles in the file's row order), beside argmin
+ OLS and every published law. A second table uses bilinear interpolation, which does not depend on the order of rows.
"""

from __future__ import annotations

import numpy as np

from lawfit.estimate.lr_batch.backtest import (
    ARGMIN,
    E1,
    OURS,
    columns_of,
    published_predictions,
)
from lawfit.estimate.numerics.regression import fit_argmin_ols, fit_e1
from lawfit.estimate.observe.observations import observe
from tests.benchmarks.shared import STEP_LAW, answer_at, fitted_model, step_law_runs, step_law_splits, yardstick


def main() -> None:
    runs = step_law_runs()
    observed = observe(runs)
    everything = np.arange(observed.n_cells)
    splits = step_law_splits(observed)
    predictions = {}
    for name, rounds in splits.items():
        for kept in rounds:
            left = np.setdiff1d(everything, kept)
            part = observed.subset(kept)
            # the setting that `lawfit predict` recommends: smallest expected regret
            model = fitted_model(part, STEP_LAW)
            best = np.exp([answer_at(model, observed.params[c], observed.tokens[c]).setting for c in left])
            at = {OURS: (best[:, 0], best[:, 1])}
            for method, fit in ((ARGMIN, fit_argmin_ols), (E1, fit_e1)):
                laws = fit(columns_of(part))
                pairs = [laws.predict(observed.params[c], observed.tokens[c]) for c in left]
                at[method] = (np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs]))
            for label, predict in published_predictions().items():
                at[label] = predict(observed.params[left], observed.tokens[left])
            for method, (lr, batch) in at.items():
                predictions.setdefault((name, method), []).append((left, lr, batch))
    methods = list(dict.fromkeys(method for _, method in predictions))
    figures = {}
    for rule in ("bilinear", "triangles"):
        scored = yardstick(runs, observed, rule)
        print(f"\nregret in % of loss, mean / worst cell, {rule}")
        print(f"{'method':<60.60s}" + "".join(f"{name:>24s}" for name in splits))
        for method in methods:
            line = f"{method:<60.60s}"
            for name in splits:
                regret = np.concatenate(
                    [
                        [float(scored[int(c)].regret(lr[i], batch[i]).regret) for i, c in enumerate(left)]
                        for left, lr, batch in predictions[name, method]
                    ]
                )
                figures[rule, name, method] = regret
                line += f"{100 * regret.mean():>15.4f} / {100 * regret.max():.3f}"
            print(line)
    print("\nratio of the mean regret to argmin + OLS (target: at most 0.75)")
    for rule in ("bilinear", "triangles"):
        ratios = [figures[rule, name, OURS].mean() / figures[rule, name, ARGMIN].mean() for name in splits]
        print(f"{rule}: " + ", ".join(f"{name} {ratio:.3f}" for name, ratio in zip(splits, ratios, strict=True)))
    ours = [figures["triangles", name, OURS] for name in splits]
    print(
        "scale backtest, mean (worst) regret in %: "
        + ", ".join(f"{name} {100 * r.mean():.4f} ({100 * r.max():.3f})" for name, r in zip(splits, ours, strict=True))
    )


if __name__ == "__main__":
    main()
