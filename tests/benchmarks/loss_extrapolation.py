"""Loss laws fitted on the smaller half of compute, scored on the observed losses of the larger half.

    python -m tests.benchmarks.loss_extrapolation [RESAMPLES] [averaged]

Sources: every setting of porian_isoflop_refinedweb.csv (rows of one size are readings of one training curve: clusters),
both phases of gemstones_checkpoints.csv (clusters by trunk run; every fifth checkpoint of the constant phase),
xlstm_scaling_runs.csv by file, isoflop_collection.csv by study. Settings are recipes and are never pooled. Left out and
counted: rows whose loss is above 5 (the files' own flag) or missing, and those with fewer than 2 tokens per parameter,
where no law is claimed (the range of the simulated yardstick). Halves: at the median of 6 N D.

Per form: mean absolute error of log loss in %, mean error (positive: predicted too low), and the share of observed
losses inside the 90 % interval of one more run. `averaged` is `fit_ensemble`: the forms that backtests inside the
smaller half do not reject, with intervals that its error there widens; it sees nothing of the larger half. The larger
half of one source is one extrapolation, whose errors share their cause: shares vary a lot from source to source. With
`averaged` as second word the single forms are left out. `simple-scaling-laws` and `chinchilla` are asked on the same
halves (`loss_peers`), and compared over the sources that all answer for.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import csv
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError
from lawfit.estimate.loss.ensemble import LossEnsemble, fit_ensemble
from lawfit.estimate.loss.fit import LossFit, fit_loss
from lawfit.estimate.loss.forms import FORMS
from tests.benchmarks.loss_peers import answers
from tests.benchmarks.shared import shared_file

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
RESAMPLES = 100
FEWEST = 2.0  # tokens per parameter
AVERAGED = "averaged"


@dataclass(frozen=True)
class Source:
    """Runs of one recipe."""

    name: str
    params: Floats
    tokens: Floats
    loss: Floats
    clusters: NDArray[np.str_] | None
    left_out: int

    @property
    def flops(self) -> Floats:
        return 6 * self.params * self.tokens

    def take(self, rows: Bools) -> Source:
        clusters = None if self.clusters is None else self.clusters[rows]
        return Source(self.name, self.params[rows], self.tokens[rows], self.loss[rows], clusters, 0)


@dataclass(frozen=True)
class Score:
    error: float  # mean |log predicted - log observed|
    bias: float  # mean log observed - log predicted
    covered: float
    rejected: bool
    certified: bool


def sources() -> Iterator[Source]:
    yield from _read(
        "porian_isoflop_refinedweb.csv",
        lambda r: "porian " + "/".join(r[name] for name in ("hparams", "warmup", "decay", "flop_accounting")),
        cluster=lambda r: r["n_params"],
    )
    thinned = {}
    for source in _read(
        "gemstones_checkpoints.csv", lambda r: f"gemstones {r['phase']}", cluster=lambda r: r["trunk_run"]
    ):
        thinned[source.name] = source
    constant = thinned["gemstones constant"]
    keep = np.arange(len(constant.loss)) % 5 == 0
    thinned["gemstones constant"] = constant.take(keep)
    yield from thinned.values()
    yield from _read("xlstm_scaling_runs.csv", lambda r: f"xlstm {r['file'].removeprefix('isoflop_')}")
    yield from _read("isoflop_collection.csv", lambda r: f"isoflop {r['experiment']}")


def _read(
    file: str, name: Callable[[dict[str, str]], str], cluster: Callable[[dict[str, str]], str] | None = None
) -> Iterator[Source]:
    with shared_file(file).open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(name(row), []).append(row)
    for label, found in groups.items():
        usable = [
            r
            for r in found
            if r["final_loss"] and r["diverged"] == "0" and float(r["n_tokens"]) >= FEWEST * float(r["n_params"])
        ]
        columns = [np.array([float(r[c]) for r in usable]) for c in ("n_params", "n_tokens", "final_loss")]
        labels = None if cluster is None else np.array([cluster(r) for r in usable])
        yield Source(label, *columns, labels, len(found) - len(usable))


def fit(source: Source, form: str, resamples: int) -> LossFit | None:
    """None where the form has no answer for these runs."""
    try:
        return fit_loss(
            source.params,
            source.tokens,
            source.loss,
            clusters=source.clusters,
            form=form,
            resamples=resamples,
            rng=np.random.default_rng(0),
        )
    except FitError:
        return None


def average(source: Source, resamples: int) -> LossEnsemble | None:
    """None where the runs are too few to hold any back."""
    try:
        return fit_ensemble(
            source.params,
            source.tokens,
            source.loss,
            clusters=source.clusters,
            resamples=resamples,
            rng=np.random.default_rng(0),
        )
    except FitError:
        return None


def log_error(fitted: LossFit | None, source: Source) -> Floats:
    """log observed - log predicted; inf where there is no prediction."""
    if fitted is None:
        return np.full(len(source.loss), np.inf)
    error = np.log(source.loss) - np.log(fitted.loss(source.params, source.tokens))
    return np.where(np.isfinite(error), error, np.inf)


def covered(fitted: LossFit | LossEnsemble, source: Source) -> Bools:
    found = [fitted.predict(n, d).run for n, d in zip(source.params, source.tokens, strict=True)]
    return np.array(
        [
            i.low is not None and i.high is not None and i.low <= loss <= i.high
            for i, loss in zip(found, source.loss, strict=True)
        ]
    )


def family(name: str) -> str:
    """Sources that share their runs, their authors or their figure count once."""
    kind, rest = name.split(" ", 1)
    study = rest.split("__")[0]
    return kind if kind != "isoflop" else "chinchilla" if "chinchilla" in rest else study


def halves(source: Source) -> tuple[Source, Source]:
    small = source.flops <= np.median(source.flops)
    return source.take(small), source.take(~small)


def score(job: tuple[Source, int]) -> tuple[str, int, int, int, Mapping[str, Score]]:
    """(name, fitted rows, scored rows, left out, score per form)."""
    source, resamples = job
    small, large = halves(source)
    ensemble = average(small, resamples)
    rejected = {} if ensemble is None else {backtest.form: backtest.rejected for backtest in ensemble.by_form()}
    found = {}
    for form in () if "averaged" in sys.argv[2:] else FORMS:
        fitted = fit(small, form, resamples)
        error = log_error(fitted, large)
        found[form] = Score(
            error=float(np.abs(error).mean()),
            bias=float(error.mean()),
            covered=float(covered(fitted, large).mean()) if fitted is not None else 0.0,
            rejected=rejected.get(form, False),
            certified=fitted is not None and fitted.certificate.certified,
        )
    if ensemble is None:
        found[AVERAGED] = Score(error=np.inf, bias=np.inf, covered=np.nan, rejected=False, certified=False)
    else:
        mean = np.log(large.loss) - ensemble.log_loss(large.params, large.tokens)
        found[AVERAGED] = Score(
            error=float(np.abs(mean).mean()),
            bias=float(mean.mean()),
            covered=float(covered(ensemble, large).mean()),
            rejected=False,
            certified=True,
        )
    return source.name, len(small.loss), len(large.loss), source.left_out, found


def peers(every: list[Source], ours: Mapping[str, float], inside: list[float]) -> None:
    """Other packages on the same halves, over the sources that all of them and the average answer for."""
    parted = {source.name: halves(source) for source in every}
    found = answers(
        {name: ((a.params, a.tokens, a.loss), (b.params, b.tokens, b.loss)) for name, (a, b) in parted.items()}
    )
    errors = {AVERAGED: dict(ours)}
    shares = {AVERAGED: dict(zip(ours, inside, strict=True))}
    for form, said in found.items():
        loss = {name: parted[name][1].loss for name in said}
        errors[form] = {n: float(np.abs(np.log(a.loss) - np.log(loss[n])).mean()) for n, a in said.items()}
        shares[form] = {
            n: float(((a.low <= loss[n]) & (loss[n] <= a.high)).mean())
            for n, a in said.items()
            if a.low is not None and a.high is not None
        }
    common = [n for n in ours if all(np.isfinite(each.get(n, np.inf)) for each in errors.values())]
    if not found or not common:
        return
    print(
        f"\nside by side, over {len(common)} sources that all answer for: median and mean error in %, share inside 90 %"
    )
    for form, each in errors.items():
        values = 100 * np.array([each[n] for n in common])
        share = [shares[form][n] for n in common if n in shares[form]]
        print(f"{form:<22s}{np.median(values):>7.2f}{values.mean():>7.2f}{np.mean(share) if share else np.nan:>7.2f}")


def main() -> None:
    resamples = int(sys.argv[1]) if len(sys.argv) > 1 else RESAMPLES
    forms = [AVERAGED] if "averaged" in sys.argv[2:] else [*FORMS, AVERAGED]
    every = list(sources())
    print("error in % of loss (mean error) share inside the 90 % interval; r: rejected inside, u: not certified")
    print(f"{'source':<46s}{'fitted':>7s}{'scored':>7s}{'out':>5s}" + "".join(f"{form:>22s}" for form in forms))
    families: dict[str, list[float]] = {}
    errors: dict[str, list[float]] = {form: [] for form in forms}
    inside: dict[str, list[float]] = {form: [] for form in forms}
    with ProcessPoolExecutor(int(os.environ.get("LAWFIT_BENCH_WORKERS", "2"))) as pool:
        for name, fitted, scored, out, found in pool.map(score, [(source, resamples) for source in every]):
            line = f"{name:<46.46s}{fitted:>7d}{scored:>7d}{out:>5d}"
            if np.isfinite(found[AVERAGED].covered):
                families.setdefault(family(name), []).append(found[AVERAGED].covered)
            for form in forms:
                s = found[form]
                errors[form].append(s.error)
                inside[form].append(s.covered)
                mark = ("r" if s.rejected else "") + ("" if s.certified else "u")
                share = f" {s.covered:4.2f}"
                text = f"{100 * s.error:.2f} ({100 * s.bias:+.2f}){share}" if np.isfinite(s.error) else "no answer"
                line += f"{text + ' ' + mark:>22s}"
            print(line, flush=True)
    print("\nover sources with an answer: their number, median error in %, worst, and mean share inside the interval")
    for form in forms:
        values = np.array(errors[form])
        values = values[np.isfinite(values)]
        line = f"{form:<14s}{len(values):>4d}{100 * np.median(values):>8.2f}{100 * values.max():>9.2f}"
        print(f"{line}{np.nanmean(inside[form]):>8.2f}")
    by_family = {name: float(np.mean(shares)) for name, shares in families.items()}
    told = ", ".join(f"{name} {share:.2f}" for name, share in by_family.items())
    peers(every, dict(zip((source.name for source in every), errors[AVERAGED], strict=True)), inside[AVERAGED])
    print(f"averaged, share inside by family of sources: {told}; mean {np.mean(list(by_family.values())):.2f}")
    print(
        "loss extrapolation, median error in %: "
        + ", ".join(f"{form} {100 * np.median(errors[form]):.2f}" for form in forms)
    )


if __name__ == "__main__":
    main()
