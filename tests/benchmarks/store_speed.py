"""How quick store and ingest are beside bare SQL of the same rows: `python -m tests.benchmarks.store_speed`.

Runs into an empty store, points of curves (acknowledged: committed), a list of the first runs by a new process, and a
recipe for fitting. PostgreSQL is measured too where LAWFIT_TEST_POSTGRES_URL names a server.

Then `lawfit ingest`, cold, of a table of many rows, and of many tables of a few rows with one recipe or one each:
`--runs 0 --rows 1000000 --tables 3000` measures that alone. Seconds of ingest are those of the processor.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from lawfit.records import Curve, Recipe, Run, RunStatus
from lawfit.storage import Store
from tests.benchmarks.main_path import LAWFIT, run
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


COLUMNS = (
    *("run_id", "n_params", "n_tokens", "batch_size_tokens", "learning_rate", "weight_decay", "seed", "final_loss"),
    *("optimizer", "dataset", "schedule", "beta2", "width", "warmup_steps", "dropout", "created_at"),
)
Line = tuple[str | int | float, ...]


def many_lines(count: int) -> Iterator[Line]:
    """Rows of a table as trackers export it: settings that come back, and ids, losses and times that do not."""
    noise = np.random.default_rng(3).normal(0, 0.01, count).tolist()
    return (
        (
            f"run-{n:07d}", params := round(1e7 * 2 ** (n % 8 / 2)), params * (10, 20, 40, 80, 160)[n // 8 % 5],
            2 ** (15 + n // 40 % 6), float(f"{1e-4 * 2 ** (n // 240 % 16 / 2):.6g}"), 0.1, n // 3840,
            float(f"{2 + 300 * params**-0.25 + 0.02 * (n // 240 % 16 - 8) ** 2 + noise[n]:.6f}"),
            "adamw", "c4", "cosine", 0.95, 512 * (n % 8 + 1), 2000, 0.0,
            f"2025-11-{1 + n % 28:02d}T{n // 7 % 24:02d}:{n % 60:02d}:{n * 7 % 60:02d}Z",
        )
        for n in range(count)
    )  # fmt: skip


def write_table(path: Path, columns: tuple[str, ...], lines: Iterable[Line]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(chain([columns], lines))


def bare_lines(path: Path, count: int) -> float:
    """Seconds of the processor."""
    lines = list(many_lines(count))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"CREATE TABLE runs ({', '.join(COLUMNS)})")
        before = time.process_time()
        connection.executemany(f"INSERT INTO runs VALUES ({','.join('?' * len(COLUMNS))})", lines)
        connection.commit()
        return time.process_time() - before


def measure_ingest(rows: int, tables: int, folder: Path) -> None:
    write_table(folder / "sweep.csv", COLUMNS, many_lines(rows))
    # In a process of its own: what this one holds counts as the peak of those it starts.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        bare = pool.submit(bare_lines, folder / "lines.db", rows).result()
    _, cpu, peak = run([*LAWFIT, "ingest", "sweep.csv"], folder)
    report(f"{rows:,} rows of a CSV, peak {peak:,.0f} MB", cpu, bare, rows)
    for name, data in (("one recipe each", "c4-{}"), ("the same settings", "c4")) if tables else ():
        own = folder / name.replace(" ", "-")
        own.mkdir()
        for n in range(tables):
            some = [(f"r{n}-{k}", 10**8, 2 * 10**9, 2**19, 1e-4 * 2**k, 3 + k / 10, data.format(n)) for k in range(6)]
            columns = (*COLUMNS[:5], "final_loss", "dataset")
            write_table(own / f"sweep{n:05d}.csv", columns, some)
        _, cpu, _ = run([*LAWFIT, "--database", f"{own.name}.db", "ingest", own.name], folder)
        print(f"{f'{tables:,} tables of 6 rows, {name}':42} {cpu:7.2f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--curve-runs", type=int, default=1_000)
    parser.add_argument("--rows", type=int, default=100_000, help="of a table; 0 leaves ingest out")
    parser.add_argument("--tables", type=int, default=1_500)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.runs:
            measure(asked.runs, asked.curve_runs, Path(folder))
        if asked.rows:
            measure_ingest(asked.rows, asked.tables, Path(folder))


if __name__ == "__main__":
    main()
