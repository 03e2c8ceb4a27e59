"""Thin evidence: one learning-rate sweep at each of the two smallest sizes, one batch size each.

    python -m tests.benchmarks.thin_evidence

Every such pair of sweeps in the Step Law grid (same rank of tokens, same batch) is fitted alone, with exponents
borrowed from published laws; the recommendation is scored on the observed runs of the 12 other cells, beside every
published law. Twice: with nothing of Step Law (it was fitted on these runs), and as a user has it, Step Law included.
"""

from __future__ import annotations

import numpy as np

from lawfit.advise.draws import draw_worlds
from lawfit.advise.regret import best_setting
from lawfit.estimate.lr_batch.analysis import FitOptions, analyse
from lawfit.estimate.lr_batch.backtest import published_predictions
from lawfit.estimate.observe.observations import observe
from tests.benchmarks.shared import STEP_LAW, step_law_runs, yardstick

SEQ_LEN = 2048
BATCHES = (64, 128, 256, 512, 1024)  # sequences


def main() -> None:
    runs = step_law_runs()
    everything = observe(runs)
    scored = yardstick(runs, everything)
    small, second = np.unique(everything.params)[:2]
    ranks = list(
        zip(np.flatnonzero(everything.params == small), np.flatnonzero(everything.params == second), strict=True)
    )
    published = {}
    for label, predict in published_predictions().items():
        lr, batch = predict(everything.params, everything.tokens)
        each = np.array([float(scored[c].regret(lr[c], batch[c]).regret) for c in range(len(lr))])
        # on the same cells as ours: for each pair of sweeps, all but that pair
        published[label] = np.array([np.delete(each, pair).mean() for pair in ranks])
    results = {}
    for name, without in (("Step Law left out", STEP_LAW), ("Step Law lends too", ())):
        print(f"\n{name}: regret in % at the 12 other cells, and the 90 % interval of lr at the largest (high / low)")
        print(f"{'tokens of the sweeps':>24s}" + "".join(f"{b:>6d} seq    " for b in BATCHES))
        for pair in ranks:
            line = f"{everything.tokens[pair[0]]:>11.3g}, {everything.tokens[pair[1]]:>11.3g}"
            for batch in BATCHES:
                chosen = [
                    run
                    for run in runs
                    if abs(np.log(run.batch_tokens / (batch * SEQ_LEN))) < 0.01
                    and any(
                        abs(np.log(run.params / everything.params[c])) < 0.01
                        and abs(np.log(run.tokens / everything.tokens[c])) < 0.01
                        for c in pair
                    )
                ]
                observed = observe(chosen)
                if observed.n_cells < 2:
                    line += f"{'-':>14s}"
                    continue
                model = analyse(observed, FitOptions(without_laws=without, backtest=False)).payload["model"]
                regrets = []
                for cell in range(everything.n_cells):
                    if cell in pair:
                        continue
                    worlds = draw_worlds(model, everything.params[cell], everything.tokens[cell])
                    lr, tokens = np.exp(best_setting(worlds))
                    regrets.append(float(scored[cell].regret(lr, tokens).regret))
                    spread = float(np.exp(np.subtract(*np.quantile(worlds.log_lr, [0.95, 0.05]))))
                results.setdefault(name, []).append(np.mean(regrets))
                line += f"{100 * np.mean(regrets):>7.3f} ({spread:.1f}x)"
            print(line)
        values = 100 * np.array(results[name])
        print(f"mean {values.mean():.3f}, median {np.median(values):.3f}, worst {values.max():.3f}")
    print("\npublished laws on the same cells, mean regret in %:")
    for label, regret in sorted(published.items(), key=lambda item: item[1].mean()):
        print(f"{100 * regret.mean():>8.3f}  {label}")
    others = [
        r.mean() for label, r in published.items() if not label.startswith("Step Law, mean") and label != "Step Law"
    ]
    print(
        f"thin evidence: mean regret {100 * np.mean(results['Step Law left out']):.3f} % without Step Law "
        f"({100 * np.mean(results['Step Law lends too']):.3f} % with it); "
        f"best other published law {100 * min(others):.3f} %, one chosen blindly {100 * np.mean(others):.3f} %"
    )


if __name__ == "__main__":
    main()
