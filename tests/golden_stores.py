"""Small made recipes with all their fits, each in a store of its own: what golden numbers are taken of."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final
from unittest import mock

import numpy as np

from lawfit import pipeline
from lawfit.estimate import loss_law, loss_third
from lawfit.estimate.all_laws import Evidence
from lawfit.estimate.analysis import FitOptions
from lawfit.laws.loss import CHINCHILLA
from lawfit.pipeline.fitting import fit_evidence
from lawfit.records import Recipe, SizedLoss, Sweep
from lawfit.simulate import Truth
from lawfit.storage import Store
from tests.estimate import test_isoflop, test_loss_law
from tests.estimate.made_levels import DECAYS, made
from tests.estimate.simulated import sweep
from tests.test_critical_answer import constant_runs
from tests.test_every_law import filled
from tests.test_third_input import dense_and_sparse, experts, repeated, sized

FOLDER: Final = tempfile.TemporaryDirectory()
QUICK: Final = FitOptions(backtest=False)
RECIPE: Final = Recipe(name="made", loss_kind="cross entropy, nats per token", data="text")


def _sweep(store: Store, options: FitOptions | None = None, **design: object) -> None:
    made_up = sweep(**design)  # type: ignore[arg-type]
    store.put_sweeps([Sweep(recipe=made_up.recipe, runs=made_up.runs)])
    pipeline.refit(store, options=options)


def _every_law(store: Store) -> None:
    pipeline.refit(filled(store), options=QUICK, three_term=True)


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


def _curves(store: Store) -> None:
    constant_runs(store, table=False)


def _losses(rows: list[SizedLoss]) -> Callable[[Store], None]:
    def put(store: Store) -> None:
        with mock.patch.object(loss_law, "LOSS_RESAMPLES", 40), mock.patch.object(loss_third, "FURTHER_RESAMPLES", 40):
            found = fit_evidence(RECIPE, Evidence(runs=(), losses=rows))
        store.put_sweeps([Sweep(recipe=RECIPE, runs=())], named=True)
        for law in found.laws:
            store.put_fit(law)

    return put


def _of_grid() -> list[SizedLoss]:
    runs = test_loss_law.grid(np.random.default_rng(5))
    return [SizedLoss(run_key=f"{i}", params=r.params, tokens=r.tokens, loss=r.loss or 0.0) for i, r in enumerate(runs)]


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
    "curves": _curves,
    "losses": _losses(_of_grid()),
    "profiles": _losses(_of_profiles()),
    "repeated": _losses(sized(repeated(1), unique_tokens=lambda row: row["unique_tokens"])),
    "experts": _losses(experts(2)),
    "dense_and_sparse": _losses(dense_and_sparse(3)),
}


@cache
def _path(name: str) -> Path:
    path = Path(FOLDER.name) / f"{name}.db"
    with Store.open(str(path)) as store:
        STORES[name](store)
    return path


@contextmanager
def fitted(name: str) -> Iterator[Store]:
    """The store of a recipe; fitted once in a process."""
    with Store.open(str(_path(name))) as store:
        yield store
