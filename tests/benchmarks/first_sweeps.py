"""What a first sweep promises, beside what fits of it know, in worlds drawn from what is believed before any run.

    python -m tests.benchmarks.first_sweeps [--worlds 24] [--seed 3]

Without a fit `lawfit plan next` plans around what published laws say. In each drawn world every planned run gets a
loss, all of them are fitted as a fit of a database is, and the setting advised at the target is charged with what it
costs there. Intervals are compared by the ln of their half-widths, regrets by their means.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from lawfit import pipeline
from lawfit.ask import NextQuestion
from lawfit.storage import Store

CASES = (  # target, budget, largest size of the runs
    (1.2e7, 2e8, "27runs", 3.5e6),
    (1.2e7, 2e8, "90runs", 3.5e6),
    (1e8, 2e9, "64runs", 1e7),
    (1e9, 2e10, "45runs", 5e7),
    (1e9, 2e10, "200runs", 1e8),
    (7e9, 1.4e11, "5e19flops", 2e8),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=24)
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    rows = []
    print("target, budget, largest: runs; lr within promised, got; batch likewise; regret promised, got (+-), %; held")
    with Store.open("sqlite://") as store:
        for params, tokens, budget, largest in CASES:
            question = NextQuestion(params=params, tokens=tokens, budget=budget, max_params=largest)
            plan = pipeline.plan_next(store, None, question)
            played = pipeline.rehearse(store, plan, worlds=options.worlds, refit=True, seed=options.seed)
            after, held = plan["after"], played["held"]
            print(
                f"{params:.3g} on {tokens:.3g}, {budget}, {largest:.3g}: {plan['budget']['runs']};"
                f" x{after['lr_factor']:.2f}, x{played['lr_factor']:.2f};"
                f" x{after['batch_factor']:.2f}, x{played['batch_factor']:.2f};"
                f" {100 * played['promised']:.2f}, {100 * played['realised']:.2f}"
                f" +- {100 * played['standard_error']:.2f};"
                f" {held['lr']:.2f}, {held['batch_tokens']:.2f}",
                flush=True,
            )
            widths = [np.log(played[name]) / np.log(after[name]) for name in ("lr_factor", "batch_factor")]
            rows.append([*np.log(widths), played["promised"], played["realised"], held["lr"], held["batch_tokens"]])
    lr, batch, promised, realised, held_lr, held_batch = np.mean(rows, axis=0)
    print(
        f"got over promised: lr {np.exp(lr):.2f}, batch {np.exp(batch):.2f}, regret {realised / promised:.2f}; "
        f"90 % intervals held {held_lr:.0%} (lr), {held_batch:.0%} (batch)"
    )


if __name__ == "__main__":
    main()
