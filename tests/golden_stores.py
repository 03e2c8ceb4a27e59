"""Small made recipes with all their fits, each in a store of its own: what golden numbers are taken of."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Final
from unittest import mock

import numpy as np

from lawfit import pipeline
from lawfit.estimate.evidence import Evidence
from lawfit.estimate.loss import law as loss_law
from lawfit.estimate.loss import third as loss_third
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.findings import as_json
from lawfit.laws.loss import CHINCHILLA
from lawfit.laws.lr_batch import AcrossScales
from lawfit.laws.published import published_law, published_laws
from lawfit.pipeline.fitting import fit_evidence
from lawfit.records import LossSweep, Recipe, Run, RunStatus, SizedLoss, Sweep
from lawfit.settings import data_folder
from lawfit.simulate import Truth
from lawfit.storage import Store
from tests.advise.test_critical_answer import constant_runs
from tests.advise.test_every_law import filled
from tests.estimate.further_runs import dense_and_sparse, repeated, same_input, sized
from tests.estimate.loss import test_isoflop
from tests.estimate.made_levels import DECAYS, Level, made
from tests.estimate.simulated import sweep
from tests.made_once import made_once
from tests.steps import ASKED, Steps, watched

QUICK: Final = FitOptions(backtest=False)
RECIPE: Final = Recipe(name="made", loss_kind="cross entropy, nats per token", data="text")


def _sweep(store: Store, options: FitOptions | None = None, **design: object) -> None:
    made_up = sweep(**design)  # type: ignore[arg-type]
    store.put_sweeps([Sweep(recipe=made_up.recipe, runs=made_up.runs)])
    pipeline.refit(store, options=options)


def _every_law(store: Store) -> None:
    pipeline.refit(filled(store), options=QUICK, on_request=("three_term",))


def _backtested(store: Store) -> None:
    """Nine scales of three sizes, with what they promised of each size left out."""
    _sweep(store)


def _five_sizes(store: Store) -> None:
    """Sizes that deviate, two seeds each, noise of 0.3 %, few settings."""
    truth = Truth(noise=0.003, size_scatter_lr=0.15, size_scatter_batch=0.2)
    scales = tuple((size, size * ratio) for size in (1e7, 2e7, 4e7, 8e7, 1.6e8) for ratio in (5, 40))
    _sweep(store, scales=scales, truth=truth, seeds=2, lr_steps=5, batch_steps=3, seed=3)


def _two_sizes(store: Store) -> None:
    """Little more than what published laws lend."""
    _sweep(store, QUICK, scales=((1e8, 2e9), (3e8, 6e9)), batch_steps=2)


def _levels(store: Store) -> None:
    """Three weight decays, full grids."""
    store.put_sweeps([Sweep(recipe=RECIPE, runs=tuple(made(DECAYS)))])
    pipeline.refit(store, options=QUICK)


def _bent(store: Store) -> None:
    """Rates that saturate along the batch: the noise batch goes with the horizon, the best batch does not."""
    truth = AcrossScales(
        const=3.0, params_exponent=-0.7, tokens_exponent=0.3, noise_const=7e-4, noise_tokens_exponent=0.83
    )
    rng, runs = np.random.default_rng(11), []
    for size, ratio, batch, step in product(np.geomspace(2e7, 1.6e8, 4), (20, 60, 180), range(6), range(-3, 4)):
        tokens, best = size * ratio, 6e4
        at = best * 2.0 ** (batch - 2)
        off, beside = 0.4 * step + 0.1, np.log(at / best)
        excess = 0.02 * (np.exp(off) - 1 - off) + 0.004 * beside**2 + 5e-4 * rng.standard_normal()
        loss = Truth().lowest_loss(size, tokens) * np.exp(excess)
        lr = float(truth(size, tokens, at)) * np.exp(off)
        key = {"params": float(size), "tokens": float(tokens), "batch_tokens": float(at), "lr": float(lr)}
        runs.append(Run(run_key=f"{len(runs)}", status=RunStatus.FINISHED, loss=float(loss), **key))
    store.put_sweeps([Sweep(recipe=RECIPE, runs=tuple(runs))])
    pipeline.refit(store, options=QUICK)


def _one_factor_at_a_time(store: Store) -> None:
    """beta2 and attention varied around another base at each scale, widths and depths, some rates that diverge."""
    runs = []
    for k, (size, horizon) in enumerate(product((2e7, 6e7, 1.8e8), (20, 60))):
        here = made([Level(value=0.95)], column="beta2", scales=[(size, size * horizon)], seed=k)
        base = {"beta2": (0.95, 0.9)[k % 2], "attention": ("gqa", "mla")[k % 3 == 0]}
        shape = {"width": 64.0 * 2 ** (k // 2), "layers": 4 + 2 * (k // 2)}
        runs += [replace(run, run_key=f"{k}-{run.run_key}", extra={**base, **shape}) for run in here]
        best = min(here, key=lambda run: run.loss or 9.0)
        for beta2 in (0.8, 0.9, 0.95, 0.99):
            loss = (best.loss or 0.0) * (1 + 0.01 * abs(beta2 - 0.95))
            runs.append(
                replace(best, run_key=f"{k}-{beta2}", loss=loss, extra={**base, **shape, "beta2": beta2}, seed=7)
            )
        for factor in (4.0, 8.0):
            hot = replace(best, run_key=f"{k}-hot{factor}", lr=max(run.lr for run in here) * factor / 2**k)
            runs.append(replace(hot, status=RunStatus.DIVERGED, loss=None, extra={**base, **shape}))
    store.put_sweeps([Sweep(recipe=RECIPE, runs=tuple(runs))])
    pipeline.refit(store, options=QUICK)


def _without_laws(store: Store) -> None:
    """No law is lent, and a level is asked for."""
    runs = made([Level(value=0.9, lr_factor=0.7, excess=0.01), Level(value=0.95)], column="beta2", seed=3)
    store.put_sweeps([Sweep(recipe=RECIPE, runs=tuple(runs))])
    options = FitOptions(backtest=False, without_laws=tuple(published_laws()), at=("beta2=0.9",))
    pipeline.refit(store, options=options)


def _shipped(*names: str) -> Callable[[Store], None]:
    """Tables of our own, as they are shipped: real runs, with what real runs have of their own."""

    def put(store: Store) -> None:
        for name in names:
            pipeline.ingest(store, data_folder() / name)
        pipeline.refit(store, options=QUICK)

    return put


def _curves(store: Store) -> None:
    constant_runs(store, table=False)


def _losses(made_up: list[SizedLoss]) -> Callable[[Store], None]:
    # as a file gives them: plain numbers
    rows = [replace(row, extra={name: as_json(value) for name, value in row.extra.items()}) for row in made_up]

    def put(store: Store) -> None:
        with mock.patch.object(loss_law, "LOSS_RESAMPLES", 40), mock.patch.object(loss_third, "FURTHER_RESAMPLES", 40):
            found = fit_evidence(RECIPE, Evidence(runs=(), losses=rows))
        store.put_losses([LossSweep(recipe=RECIPE, rows=tuple(rows))], named=True)
        for law in found.laws:
            store.put_fit(law)

    return put


def _sparse() -> list[SizedLoss]:
    """Dense runs and sparse ones of a published law."""
    law, rng, rows = published_law("moe_sparsity"), np.random.default_rng(7), []
    for n, ratio, share in product(np.geomspace(1e8, 1e10, 6), (10.0, 40.0, 160.0), (1.0, 0.5, 0.25, 0.1)):
        loss = float(law.evaluate("loss", params=n, tokens=n * ratio, active_fraction=share))
        noisy = loss * float(np.exp(1e-3 * rng.standard_normal()))
        extra = {"sparsity": 1 - share} if share < 0.4 else {"active_fraction": share}
        rows.append(SizedLoss(run_key=f"{len(rows)}", params=n, tokens=n * ratio, loss=noisy, extra=extra))
    return rows


def _of_profiles() -> list[SizedLoss]:
    columns = test_isoflop.study(CHINCHILLA, np.random.default_rng(6))
    return [
        SizedLoss(run_key=f"{i}", params=float(n), tokens=float(d), loss=float(y))
        for i, (n, d, y) in enumerate(zip(*columns, strict=True))
    ]


STORES: Final[dict[str, Callable[[Store], None]]] = {
    "every_law": _every_law,
    "backtested": _backtested,
    "five_sizes": _five_sizes,
    "two_sizes": _two_sizes,
    "levels": _levels,
    "bent": _bent,
    "one_factor": _one_factor_at_a_time,
    "without_laws": _without_laws,
    "curves": _curves,
    "profiles": _losses(_of_profiles()),
    "repeated": _losses(sized(repeated(1), unique_tokens=lambda row: row["unique_tokens"])),
    "sparse": _losses(_sparse()),
    "shipped_decays": _shipped("proxy_weight_decay.csv"),
    "shipped_batches": _shipped("proxy_critical_batch.csv", "proxy_critical_batch_curves.csv"),
    "one_horizon": _losses(same_input("tokens")),
    "one_size": _losses(same_input("params")),
    "dense_and_sparse": _losses(dense_and_sparse(3)),
}


@cache
def watched_fit(name: str) -> tuple[Path, Steps]:
    """The file of a recipe, and what every function gave while it was fitted."""
    steps = Steps()

    def make(path: Path) -> None:
        nonlocal steps
        with Store.open(str(path)) as store, watched() as steps:
            STORES[name](store)

    # watched fits are made by each process, as what is watched goes with the process
    return made_once(f"{name}{os.getpid() if ASKED else ''}.db", make), steps


@contextmanager
def fitted(name: str) -> Iterator[Store]:
    """The store of a recipe; fitted once in a run of the tests."""
    with Store.open(str(watched_fit(name)[0])) as store:
        yield store
