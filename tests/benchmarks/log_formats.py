"""How fast logs are read: `python -m tests.benchmarks.log_formats [--small]`, all figures in one run.

Beside the readers of the trackers themselves, where LAWFIT_TEST_WRITERS names a Python that has them: TensorBoard's
EventAccumulator, and the protocol-buffer classes of wandb 0.24 to 0.29 with their `DataStore`, the last Python reader.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lawfit.ingest.crc32c import masked_crcs
from lawfit.ingest.formats import find_sources, read_source_tables
from lawfit.ingest.formats.wandb import WANDB
from tests.ingest.formats.logs import GOLDEN
from tests.ingest.formats.wires import EXIT, event, framed, history, run_record, simple

TAGS: Final = ("train/loss", "train/lr", "train/grad_norm", "perf/tokens_per_second")
_THEIRS: Final = {
    "tensorboard": """
import sys, time
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
began = time.perf_counter()
read = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0}).Reload()
points = sum(len(read.Scalars(tag)) for tag in read.Tags()["scalars"])
print(time.perf_counter() - began, points)
""",
    "wandb.sdk.internal.datastore": """
import json, sys, time
from wandb.proto import wandb_internal_pb2
from wandb.sdk.internal.datastore import DataStore
began = time.perf_counter()
store, points = DataStore(), 0
store.open_for_scan(sys.argv[1])
while (data := store.scan_data()) is not None:
    record = wandb_internal_pb2.Record()
    record.ParseFromString(data)
    if record.WhichOneof("record_type") == "history":
        row = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        points += len(row)
print(time.perf_counter() - began, points)
""",
}


def events_file(path: Path, size: int) -> int:
    """Scalars as torch writes them, a tag to an event, in blocks that numpy makes; the number of points."""
    path.parent.mkdir(parents=True)
    points, step = 0, 1 << 14  # steps of three bytes, so that all records of a tag are alike
    with path.open("wb") as file:
        while file.tell() < size:
            steps = np.arange(step, step + 20_000)
            # Beside each other, so that steps ascend over all tags: EventAccumulator takes any other for a restart.
            written = np.concatenate([_records(tag, steps) for tag in TAGS], axis=1)
            file.write(written.tobytes())
            points += len(steps) * len(TAGS)
            step += len(steps)
            if step + len(steps) >= 1 << 21:
                step = 1 << 14
    return points


def _records(tag: str, steps: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """(step, byte): a framed event for each step."""
    one = event(1 << 14, simple(tag, 1.0))
    rows = np.tile(np.frombuffer(one, np.uint8), (len(steps), 1))
    rows[:, 1:9] = (1.7e9 + steps).astype("<f8")[:, None].view(np.uint8)
    for place in range(3):
        rows[:, 10 + place] = (steps >> 7 * place) & 0x7F | (0x80 if place < 2 else 0)
    rows[:, -4:] = (3 + 1 / steps).astype("<f4")[:, None].view(np.uint8)
    length = np.frombuffer(struct.pack("<Q", len(one)), np.uint8)[None]
    head = np.concatenate([length, masked_crcs(length)[:, None].view(np.uint8)], axis=1)
    return np.concatenate([np.tile(head, (len(steps), 1)), rows, masked_crcs(rows)[:, None].view(np.uint8)], axis=1)


def wandb_runs(folder: Path, runs: int, rows: int) -> int:
    """Offline runs of `rows` rows with five metrics."""
    body = [
        history(_step=n, _timestamp=1.7e9, _runtime=n, train__loss=3 + 1 / n, lr=1e-3, grad_norm=1 + 1 / n,
                tokens=8192 * n, train__global_step=n)
        for n in range(1, rows + 1)
    ]  # fmt: skip
    for number in range(runs):
        run_id = f"r{number:05}"
        config = {
            "learning_rate": 1e-3 * (1 + number),
            "n_params": 1_200_000,
            "batch_size_tokens": 8192,
            "max_steps": rows,
        }
        place = folder / "wandb" / f"offline-run-20260101_000000-{run_id}"
        place.mkdir(parents=True)
        (place / f"run-{run_id}.wandb").write_bytes(framed(run_record(run_id, config), *body, EXIT))
    return runs * rows * 4


def mlflow_database(path: Path, points: int) -> int:
    """The tables that MLflow made, with so many points of a thousand runs."""
    shutil.copy(GOLDEN / "mlflow" / "mlflow.db", path)
    with closing(sqlite3.connect(path)) as database:
        (columns,) = (list(row) for row in database.execute("select * from runs where name = 'low'"))
        marks = ",".join("?" * len(columns))
        each = points // 1000
        for number in range(1000):
            run = f"{number:032}"
            database.execute(f"insert into runs values ({marks})", [run, f"r{number}", *columns[2:]])
            database.executemany(
                "insert into metrics values (?, ?, ?, ?, ?, ?)",
                (("train.loss", 3 + 1 / step, 1_700_000_000_000 + step, run, step, 0) for step in range(1, each + 1)),
            )
        database.commit()
    return points


def timed(what: Callable[[], object], *, times: int = 1) -> float:
    best = float("inf")
    for _ in range(times):
        began = time.perf_counter()
        what()
        best = min(best, time.perf_counter() - began)
    return best


def ingested(place: Path) -> Callable[[], object]:
    """Found, read, checked and laid out as a table with its curves; not stored."""
    return lambda: [read_source_tables(source) for source in find_sources(place)]


def theirs(module: str, place: Path) -> float | None:
    """Seconds that the tracker's own reader takes, imports left out; None where it is not installed."""
    for python in filter(None, os.environ.get("LAWFIT_TEST_WRITERS", "").split(":")):
        done = subprocess.run([python, "-c", _THEIRS[module], str(place)], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return float(done.stdout.split()[0])
    return None


def beside(what: str, ours: float, other: float | None, target: str) -> None:
    shown = "not installed" if other is None else f"{other:.2f} s, {other / ours:.1f} times ours"
    print(f"{what}: {ours:.2f} s; theirs: {shown} (target {target})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a hundredth of everything")
    share = 100 if parser.parse_args().small else 1
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        points = events_file(root / "few" / "events.out.tfevents.1.h.1.0", (1 << 24) // share)
        path = root / "few"
        beside(
            f"TensorBoard, {points:,} points", timed(ingested(path), times=3), theirs("tensorboard", path), "3 times"
        )
        wandb_runs(root / "one", 1, 20_000 // share)
        (path,) = (root / "one").rglob("*.wandb")
        ours = timed(lambda: list(WANDB.runs(path, path.parent)), times=3)
        beside(f"W&B, a run of {20_000 // share:,} rows", ours, theirs("wandb.sdk.internal.datastore", path), "once")
        points = events_file(root / "large" / "events.out.tfevents.1.h.1.0", (1 << 30) // share)
        print(f"TensorBoard, {(1 << 30) // share >> 20:,} MiB, {points:,} points: ", end="", flush=True)
        print(f"{timed(ingested(root / 'large')):.1f} s (target {30 / share:g} s)")
        shutil.rmtree(root / "large")
        points = wandb_runs(root / "many", 5000 // share, 200)
        print(f"W&B, {5000 // share:,} runs, {points:,} points: ", end="", flush=True)
        print(f"{timed(ingested(root / 'many')):.1f} s (target {60 / share:g} s)")
        points = mlflow_database(root / "mlflow.db", 1_000_000 // share)
        print(f"MLflow, {points:,} points: {timed(ingested(root / 'mlflow.db')):.1f} s (target {10 / share:g} s)")
        _peak()


def _peak() -> None:
    """The largest memory of this process, where /proc tells it."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        print(json.dumps({"peak_mib": int(line.split()[1]) >> 10}))


if __name__ == "__main__":
    main()
