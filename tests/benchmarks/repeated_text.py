"""Our own runs on repeated text: what passes cost, where the best rate goes, how well a law of repetition foretells.

    python -m tests.benchmarks.repeated_text [--resamples 100]

The runs are those of data/proxy_repeated.csv, and those of data/proxy_sweep.csv with the same size, horizon and batch,
which read no sequence twice. A cell is a size, a horizon and a number of different tokens; its loss is the lowest over
the learning rates, each the mean of its seeds, at weight decay 0.1. The law of arXiv 2305.16264 (data-constrained)
stands against the additive law told the tokens read, which is blind to repetition, and told the different ones alone.
Each is fitted without one size (horizon, number of passes) and scored on the repeated cells left out. So is what
`lawfit predict` answers: the average of the forms of the law of fresh runs, those of the whole sweep that are not left
out, times what the data-constrained law says that the passes do.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from lawfit.estimate.loss.ensemble import fit_ensemble
from lawfit.estimate.loss.fit import fit_loss
from lawfit.estimate.loss.result import Interval, LossFit

DATA = Path(__file__).parents[2] / "data"
WEIGHT_DECAY = 0.1  # of the sweep
PLACE = ["n_params", "million_tokens", "batch_size_tokens"]
CELL = [*PLACE, "passes"]
FORMS = ("data-constrained", "blind: tokens read", "blind: different tokens")
ANSWER = "average x its effect"
MOST_PASSES = (4, 8)  # of what is fitted; one is foretold without them


def measured() -> pd.DataFrame:
    """Runs on repeated text, and those of the sweep beside them."""
    runs = pd.concat([pd.read_csv(DATA / f"proxy_{name}.csv") for name in ("repeated", "sweep")])
    runs["million_tokens"] = runs["n_tokens"].div(1e6).round().astype(int)
    exact = runs["n_tokens"] / runs["unique_tokens"]
    runs["passes"] = exact.round(1).where(exact < 4.5, exact.round())  # 1, 2, 3.7, 4, 7 (7.4998), 8, 15, 16, 30, 32
    return runs.merge(runs.loc[runs["passes"] > 1, PLACE].drop_duplicates())


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """The lowest loss of each cell, its rate and whether that is the highest tried, and both over those of one pass."""
    runs = runs[runs["weight_decay"] == WEIGHT_DECAY]
    rates = runs.groupby([*CELL, "learning_rate"], as_index=False).agg(
        loss=("final_loss", "mean"), tokens=("n_tokens", "mean"), unique=("unique_tokens", "mean")
    )
    rates["tried"] = rates.groupby(CELL)["learning_rate"].transform("count")
    rates["at_highest"] = rates["learning_rate"] == rates.groupby(CELL)["learning_rate"].transform("max")
    found = rates.loc[rates.groupby(CELL)["loss"].idxmin()].reset_index(drop=True)
    once = found.loc[found["passes"] == 1, [*PLACE, "loss", "learning_rate"]]
    found = found.merge(once, on=PLACE, suffixes=("", "_once"))
    found["excess_pct"] = 100 * (found["loss"] / found["loss_once"] - 1)
    return found


def seed_noise(runs: pd.DataFrame) -> dict[float, float]:
    """Standard deviation of the loss between seeds at one setting, %, pooled, by passes."""
    groups = np.log(runs["final_loss"]).groupby([runs[name] for name in (*CELL, "weight_decay", "learning_rate")])
    spread = pd.DataFrame({"variance": groups.var(), "more": groups.count() - 1}).query("more > 0").reset_index()
    squares = spread["variance"] * spread["more"]
    pooled = squares.groupby(spread["passes"]).sum() / spread.groupby("passes")["more"].sum()
    return {float(passes): round(100 * float(np.sqrt(value)), 2) for passes, value in pooled.items()}


def fitted(rows: pd.DataFrame, form: str, resamples: int = 0) -> LossFit:
    rng = np.random.default_rng(0)
    if form == FORMS[0]:
        return fit_loss(
            rows["n_params"], rows["tokens"], rows["loss"],
            form="data_constrained", third=rows["tokens"] / rows["unique"], rng=rng, resamples=resamples,
        )  # fmt: skip
    tokens = rows["tokens" if form == FORMS[1] else "unique"]
    return fit_loss(rows["n_params"], tokens, rows["loss"], rng=rng, resamples=resamples)


def errors(fit: LossFit, rows: pd.DataFrame, form: str) -> pd.Series:
    """ln measured - ln foretold of the cells that repeat."""
    rows = rows[rows["passes"] > 1]
    tokens = rows["unique" if form == FORMS[2] else "tokens"]
    return np.log(rows["loss"] / fit.loss(rows["n_params"], tokens, rows["tokens"] / rows["unique"]))


def fresh_scales() -> pd.DataFrame:
    """The lowest loss of each size and horizon of the sweep, over batches and rates, each the mean of its seeds."""
    runs = pd.read_csv(DATA / "proxy_sweep.csv").query(f"diverged == 0 and weight_decay == {WEIGHT_DECAY}")
    runs["million_tokens"] = runs["n_tokens"].div(1e6).round().astype(int)
    places = [*PLACE, "learning_rate"]
    means = runs.groupby(places, as_index=False).agg(loss=("final_loss", "mean"), tokens=("n_tokens", "mean"))
    return means.loc[means.groupby(["n_params", "million_tokens"])["loss"].idxmin()]


def answer_errors(fit: LossFit, rows: pd.DataFrame, fresh: pd.DataFrame) -> pd.Series:
    """ln measured - ln foretold of the cells that repeat, by the average of fresh scales moved by the form."""
    rows = rows[rows["passes"] > 1]
    columns = (fresh[name] for name in ("n_params", "tokens", "loss"))
    average = fit_ensemble(*columns, rng=np.random.default_rng(0), resamples=0)
    there, once = (fit.loss(rows["n_params"], rows["tokens"], x) for x in (rows["tokens"] / rows["unique"], 1.0))
    return np.log(rows["loss"] * once / there) - average.log_loss(rows["n_params"], rows["tokens"])


def left_out(rows: pd.DataFrame, by: str, form: str, fresh: pd.DataFrame) -> pd.Series:
    """Errors at repeated cells, each foretold without all cells of its kind."""
    found = []
    for kind in rows.loc[rows["passes"] > 1, by].unique():
        fit, out = fitted(rows[rows[by] != kind], FORMS[0] if form == ANSWER else form), rows[rows[by] == kind]
        kept = fresh[fresh[by] != kind] if by in fresh else fresh
        found.append(answer_errors(fit, out, kept) if form == ANSWER else errors(fit, out, form))
    return pd.concat(found)


def rms_pct(found: pd.Series) -> str:
    return f"{100 * float(np.sqrt(np.square(found).mean())):8.2f}"


def show(value: Interval) -> str:
    if value.low is None or value.high is None:
        return f"{value.value:.3g}"
    return f"{value.value:.3g} ({value.low:.3g} to {value.high:.3g})"


def show_cells(found: pd.DataFrame) -> None:
    words = found["excess_pct"].map("{:.1f}".format)
    words += np.select([found["tried"] == 1, found["at_highest"]], ["?", "+"], " ")
    print(
        "Lowest loss, % above one pass over the same number of tokens (+ at the highest rate tried, ? one rate tried)"
    )
    table = found.assign(words=words, passes=found["passes"].replace({3.7: 4, 7: 8}).astype(int))
    print(table.pivot(index=["n_params", "million_tokens"], columns="passes", values="words").fillna("").to_string())
    print("\nLowest loss by millions of different tokens: passes, tokens per parameter of them")
    table = found[(found["passes"] > 1) & (found["tried"] > 1)]
    for (size, unique), part in table.groupby(["n_params", table["unique"].div(1e6).round().astype(int)]):
        losses = ", ".join(f"{row.loss:.3f} at {row.passes:g}{'+' * row.at_highest}" for row in part.itertuples())
        print(f"  {size:8,} parameters, {unique:2}M ({1e6 * unique / size:4.1f}): {losses}")
    print("\nBest rate tried over that of one pass (geometric mean), and at how many cells it is the highest tried")
    for passes, part in table.assign(passes=table["passes"].replace({3.7: 4, 7: 8})).groupby("passes"):
        ratio = np.exp(np.log(part["learning_rate"] / part["learning_rate_once"]).mean())
        print(f"  {passes:2.0f} passes: {ratio:.2f}, {part['at_highest'].sum()} of {len(part)}")


def show_harm(runs: pd.DataFrame) -> None:
    """Pairs of runs that differ in how often they read the same tokens, and that in a factor of about two."""
    print("\nSame tokens read about twice as often, at the same size and rate: how many of the pairs lose by it")
    runs = runs[(runs["weight_decay"] == WEIGHT_DECAY) & (runs["passes"] > 1)]
    same = ["n_params", "learning_rate", "seed"]
    pairs = runs.merge(runs, on=same, suffixes=("", "_longer"))
    ratio = pairs["unique_tokens"] / pairs["unique_tokens_longer"]
    twice = pairs["million_tokens_longer"] / pairs["million_tokens"]
    pairs = pairs[ratio.between(0.99, 1.01) & twice.between(1.5, 2.1)]
    for (passes, size), part in pairs.groupby(["passes", "n_params"]):
        lose = (part["final_loss_longer"] > part["final_loss"]).sum()
        print(f"  {passes:g} to {part['passes_longer'].iloc[0]:g} passes, {size:,} parameters: {lose} of {len(part)}")


def show_laws(found: pd.DataFrame, resamples: int) -> None:
    fresh = fresh_scales()
    for most in MOST_PASSES:
        rows, beyond = found[found["passes"] <= most], found[found["passes"] > most]
        fit = fitted(rows, FORMS[0], resamples)
        numbers = ", ".join(f"{name} {show(value)}" for name, value in fit.parameters.items())
        print(f"\nUp to {most} passes: {len(rows)} cells, {(rows['passes'] > 1).sum()} repeat; data-constrained:")
        print(f"  {numbers}; open: {', '.join(fit.certificate.weak) or 'nothing'}")
        print("  rms error, %                in it    size   horizon  passes  more passes")
        for form in (*FORMS, ANSWER):
            own = fitted(rows, FORMS[0] if form == ANSWER else form)
            inside, more = (
                answer_errors(own, part, fresh) if form == ANSWER else errors(own, part, form)
                for part in (rows, beyond)
            )
            scores = [inside, *(left_out(rows, by, form, fresh) for by in (*PLACE[:2], "passes")), more]
            print(f"  {form:24}", "".join(map(rms_pct, scores)), flush=True)


def show_decay(runs: pd.DataFrame) -> None:
    print("\nDifferent weight decays: lowest loss over rates, and that rate (seed 0)")
    others = runs.loc[runs["weight_decay"] != WEIGHT_DECAY, CELL].drop_duplicates()
    runs = runs[(runs["seed"] == 0) & (runs["unique_tokens"] < runs["n_tokens"])].merge(others)
    for (size, _, _, passes, decay), part in runs.groupby([*CELL, "weight_decay"]):
        best = part.loc[part["final_loss"].idxmin()]
        print(f"  {size:,}, {passes:g} passes, decay {decay}: {best['final_loss']:.4f} at {best['learning_rate']}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Our own runs on repeated text.")
    parser.add_argument("--resamples", type=int, default=100, help="for the intervals of the data-constrained law")
    options = parser.parse_args()
    runs = measured()
    found = cells(runs)
    show_cells(found)
    print("\nSeeds differ, sd in %, by passes:", seed_noise(runs))
    show_harm(runs)
    show_decay(runs)
    show_laws(found, options.resamples)


if __name__ == "__main__":
    main()
