"""How long a page of GET /v1/runs takes where a recipe has 100,000: python -m tests.benchmarks.run_pages [URL]"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from lawfit.records import Recipe, Run, RunStatus
from lawfit.settings import Settings
from lawfit.storage import Store
from lawfit_api.app import create_app
from tests.client import TestClient

COUNT = 100_000
QUERIES = (
    "", "limit=1000", "sort=loss", "sort=loss&limit=1000", "sort=lr&descending=true&params_from=1e8&params_to=2e8",
    "run_key=run-0123*",
)  # fmt: skip


def made(number: int, rng: random.Random) -> Run:
    return Run(
        run_key=f"run-{number:06}", params=1e7 * rng.randint(1, 50), tokens=1e9 * rng.randint(1, 50),
        batch_tokens=2.0 ** rng.randint(14, 20), lr=10 ** rng.uniform(-4, -2), status=RunStatus.FINISHED,
        loss=rng.uniform(2, 4), steps=number + 1, extra={"host": f"node{number % 97}", "git": "0123456789abcdef" * 2},
    )  # fmt: skip


def main(url: str) -> None:
    rng = random.Random(1)
    with Store.open(url) as store:
        store.put_runs(Recipe(name="big"), [made(number, rng) for number in range(COUNT)])
    with TestClient(create_app(Settings(database_url=url))) as client:
        for query in QUERIES:
            seconds = []
            for _ in range(5):
                began = time.perf_counter()
                page = client.get(f"/v1/runs?{query}").json()
                seconds.append(time.perf_counter() - began)
            print(f"{query:60} {1e3 * statistics.median(seconds):7.1f} ms, {page['total']} runs")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(sys.argv[1] if len(sys.argv) > 1 else str(Path(folder) / "big.db"))
