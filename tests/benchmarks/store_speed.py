"""How quick the store is beside bare SQL of the same rows, in one run: `python -m tests.benchmarks.store_speed`.

Runs into an empty store, points of curves (acknowledged: committed), a list of the first runs by a new process, and a
recipe for fitting. PostgreSQL is measured too where LAWFIT_TEST_POSTGRES_URL names a server.
"""

from __future__ import annotations

import argparse
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from lawfit.records import Curve, Recipe, Run, RunStatus
from lawfit.storage import Store
from tests.conftest import own_postgres_schema

RECIPE = Recipe(name="many")
METRICS = ("train_loss", "validation_loss", "grad_norm")
STEPS = tuple(range(10, 20_010, 10))
FIELDS = (
    "run_key",
    "params",
    "tokens",
    "batch_tokens",
    "lr",
    "status",
    "loss",
    "weight_decay",
    "steps",
    "seed",
    "extra",
)


def many_runs(count: int) -> list[Run]:
    """Runs as a sweep has them, none like another."""
    rng = np.random.default_rng(1)
    rates, losses = rng.uniform(1e-4, 1e-2, count).tolist(), rng.uniform(2, 4, count).tolist()
    return [
        Run(
            run_key=f"run-{n:07d}", params=1e8 * (1 + n % 7), tokens=2e9, batch_tokens=524288.0, lr=rates[n],
            status=RunStatus.FINISHED, loss=losses[n], weight_decay=0.1, steps=3815, seed=n % 3,
            extra={"beta2": 0.95, "width": 512 + n % 5}, source=f"many.csv:{n + 2}",
        )
        for n in range(count)
    ]  # fmt: skip


def many_curves(runs: int) -> list[Curve]:
    """Noisy curves, which compress as measured ones do."""
    rng = np.random.default_rng(2)
    shape = 2 + 8 / np.sqrt(np.arange(1, len(STEPS) + 1))
    return [
        Curve(run_key=f"run-{n:07d}", metric=metric, steps=STEPS, numbers=tuple(noisy))
        for n in range(runs)
        for metric in METRICS
        for noisy in [(shape * (1 + 0.01 * rng.standard_normal(len(STEPS)))).tolist()]
    ]


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bare_runs(path: Path, runs: list[Run]) -> float:
    import json

    rows = [tuple(json.dumps(dict(run.extra)) if n == "extra" else getattr(run, n) for n in FIELDS) for run in runs]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"CREATE TABLE runs ({', '.join(FIELDS)})")

        def put() -> None:
            connection.executemany(f"INSERT INTO runs VALUES ({','.join('?' * len(FIELDS))})", rows)
            connection.commit()

        return timed(put)


def points_of(curves: list[Curve], keys: dict[str, int]) -> Iterator[tuple[int, str, int, float]]:
    for curve in curves:
        run_id, metric = keys[curve.run_key], curve.metric
        for step, number in zip(curve.steps, curve.numbers, strict=True):
            yield run_id, metric, step, number


def bare_points(path: Path, curves: list[Curve], keys: dict[str, int]) -> float:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE points (run_id INTEGER, metric TEXT, step INTEGER, value REAL)")

        def put() -> None:
            connection.executemany("INSERT INTO points VALUES (?, ?, ?, ?)", points_of(curves, keys))
            connection.commit()

        return timed(put)


def copied_points(url: str, curves: list[Curve], keys: dict[str, int]) -> float:
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE points (run_id INTEGER, metric TEXT, step BIGINT, value DOUBLE PRECISION)")

        def put() -> None:
            with connection.cursor() as cursor, cursor.copy("COPY points FROM STDIN") as copy:
                for row in points_of(curves, keys):
                    copy.write_row(row)
            connection.commit()

        return timed(put)


def curves_into(url: str | Path, runs: list[Run], curves: list[Curve]) -> float:
    with Store.open(url) as store:
        store.put_runs(RECIPE, runs)
        return timed(lambda: store.put_curves(RECIPE.key, curves))


def report(name: str, ours: float, bare: float, count: int) -> None:
    said = f"{count / ours:>12,.0f} per second, bare {count / bare:>12,.0f}: {bare / ours:.2f} times as quick"
    print(f"{name:42} {ours:7.2f} s, bare {bare:7.2f} s; {said}", flush=True)


def measure(runs: int, curve_runs: int, folder: Path) -> None:
    given = many_runs(runs)
    bare = bare_runs(folder / "bare.db", given)
    with Store.open(folder / "runs.db") as store:
        ours = timed(lambda: store.put_runs(RECIPE, given))
        again = timed(lambda: store.put_runs(RECIPE, given))
    report(f"{runs:,} runs, SQLite", ours, bare, runs)
    print(f"{'the same runs again':42} {again:7.2f} s", flush=True)
    curves, some = many_curves(curve_runs), given[:curve_runs]
    keys = {run.run_key: n for n, run in enumerate(some)}
    points = sum(len(curve.steps) for curve in curves)
    bare = bare_points(folder / "points.db", curves, keys)
    report(f"{points:,} points, SQLite", curves_into(folder / "curves.db", some, curves), bare, points)
    if os.environ.get("LAWFIT_TEST_POSTGRES_URL"):
        for url in own_postgres_schema():
            bare = copied_points(url, curves, keys)
            report(f"{points:,} points, PostgreSQL", curves_into(url, some, curves), bare, points)
    del curves
    with Store.open(folder / "list.db") as store:
        store.put_runs(RECIPE, given[:100_000])
        store.put_runs(Recipe(name="ten", seq_len=1), given[:10_000])
    words = [sys.executable, "-m", "lawfit", "--database", str(folder / "list.db"), "runs", "list", "--limit", "50"]
    cold = timed(lambda: subprocess.run(words, check=True, capture_output=True))
    print(f"{'runs list --limit 50 of 110,000, new process':42} {cold:7.2f} s", flush=True)
    with Store.open(folder / "list.db") as store:
        key = store.recipe("ten").key
        print(f"{'a recipe of 10,000 for fitting':42} {timed(lambda: store.runs(key)):7.2f} s", flush=True)
    print(f"{'peak memory of all this':42} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:7.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--curve-runs", type=int, default=1_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(asked.runs, asked.curve_runs, Path(folder))


if __name__ == "__main__":
    main()
