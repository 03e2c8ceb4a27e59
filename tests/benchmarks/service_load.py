"""The service under what a team does to it: `python -m tests.benchmarks.service_load --seconds 60 [--database URL]`.

Real processes on loopback. So many clients log points, others ask questions that were not asked before, and fits run
one after the other: errors, points that were acknowledged and are not there (counted), the 99th percentile of the
questions, and how the memory of the server grows after its first quarter. With `--seconds 600` it is the soak.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from lawfit import pipeline
from lawfit.settings import data_folder
from lawfit.storage.live import list_live_runs
from tests.api.serving import Served, serving

POINTS: Final = 20  # in a request
PAUSE_SECONDS: Final = 0.5  # of a client that logs: a step of training takes time


class Load:
    """What came of all requests."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.over = threading.Event()
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.kept: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.memory_mb: list[tuple[float, float]] = []

    def send(self, kind: str, path: str, body: Any = None) -> dict[str, Any] | None:
        """The answer, None where there is none; its status is counted, 0 for a connection that broke."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.served.address + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                self.statuses[kind, answer.status] += 1
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            self.statuses[kind, error.code] += 1
        except OSError:
            self.statuses[kind, 0] += 1
        return None

    def log(self, number: int) -> None:
        key, step = f"r{number}", 0
        self.send("begin", "/v1/live/runs", {"project": "load", "run_key": key, "config": {"lr": 1e-3}})
        while not self.over.is_set():
            points = [["loss", step + place, 3.0] for place in range(POINTS)]
            said = {"runs": [{"project": "load", "run_key": key, "points": points}]}
            if self.send("points", "/v1/live/points", said) is not None:
                self.kept[key] += POINTS
            step += POINTS
            self.over.wait(PAUSE_SECONDS)

    def ask(self, number: int) -> None:
        count = 0
        while not self.over.is_set():
            params = 1_000_000_000 + 10_000_000 * number + 1009 * count
            began = time.perf_counter()
            self.send("questions", f"/v1/predictions?params={params}&tokens=2e11&recipe=proxy_sweep")
            self.seconds.append(time.perf_counter() - began)
            count += 1

    def fit(self, _number: int) -> None:
        laws = [law["id"] for law in pipeline.list_laws()]
        for law in laws * 100:  # each another question, so that each is worked out
            if self.over.is_set():
                return
            job = self.send("fits", "/v1/fits", {"recipe": "proxy_sweep", "without_law": [law]})
            while job is not None and job["state"] in ("queued", "running") and not self.over.wait(0.5):
                job = self.send("jobs", f"/v1/jobs/{job['id']}")

    def watch(self, _number: int) -> None:
        began = time.monotonic()
        while not self.over.wait(1):
            with suppress(OSError):
                self.memory_mb.append((time.monotonic() - began, _resident_mb(self.served.process.pid)))


def measure(folder: Path, database: str, seconds: float, logging: int, asking: int) -> None:
    with pipeline.open_store(database if "://" in database else folder / database) as store:
        pipeline.ingest(store, data_folder() / "proxy_sweep.csv")
        pipeline.refit(store)
    with serving(folder, database=database) as served:
        served.http.get("/readyz")
        load = Load(served)
        work: list[tuple[Callable[[int], None], int]] = [(load.log, logging), (load.ask, asking), (load.fit, 1)]
        threads = [
            threading.Thread(target=kind, args=(number,))
            for kind, count in (*work, (load.watch, 1))
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        load.over.set()
        for thread in threads:
            thread.join()
    with pipeline.open_store(database if "://" in database else folder / database) as store:
        there = {run.run_key: run.points for run in list_live_runs(store, limit=1000)}
    for (kind, status), count in sorted(load.statuses.items()):
        print(f"{kind:10} {status}: {count:,}")
    lost = sum(max(0, count - there.get(key, 0)) for key, count in load.kept.items())
    print(f"points acknowledged {sum(load.kept.values()):,}, lost {lost}")
    median, slowest = 1e3 * np.quantile(load.seconds, (0.5, 0.99))
    rate = len(load.seconds) / seconds
    print(f"questions: {rate:.1f} a second, median {median:.0f} ms, 99 % {slowest:.0f} ms")
    warm = [mb for at, mb in load.memory_mb if at > seconds / 4]
    if warm:
        print(
            f"memory after the first quarter: {warm[0]:.0f} MB, at the end {warm[-1]:.0f} MB, most {max(warm):.0f} MB"
        )


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--logging", type=int, default=50, help="clients that log points")
    parser.add_argument("--asking", type=int, default=20, help="clients that ask")
    parser.add_argument("--database", default="load.db", help="or the URL of an empty PostgreSQL database")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), asked.database, asked.seconds, asked.logging, asked.asking)


if __name__ == "__main__":
    main()
