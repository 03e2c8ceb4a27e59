"""docs/service.md works as it stands: its lines against a real service, and the script that it points at."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lawfit import pipeline
from lawfit.settings import data_folder
from tests.api.serving import serving

DOCS = Path(__file__).parents[2] / "docs"
ADDRESS = "http://127.0.0.1:8765"


@pytest.mark.slow
def test_the_lines_of_the_page_work(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    shutil.copy(data_folder() / "proxy_held_back.csv", tmp_path / "sweep.csv")
    blocks = re.findall(r"```sh\n(.*?)```", (DOCS / "service.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 6
    with serving(tmp_path) as served:
        for block in blocks:
            lines = "set -euo pipefail\n" + block.replace(ADDRESS, served.address)
            done = subprocess.run(["bash", "-c", lines], cwd=tmp_path, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, (block, done.stdout[-3000:], done.stderr)
        assert served.http.get("/v1/runs/mine/a").json()["batch_tokens"] == 65536
        assert len(served.http.get("/v1/fits?recipe=sweep").json()["fits"]) >= 1
        assert served.http.get("/v1/runs?recipe=sweep&excluded=true").json()["total"] == 0


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("fitted", [False, True])
def test_the_script_asks_and_logs_itself(tmp_path: Path, fitted: bool) -> None:
    pytest.importorskip("torch")
    script = (DOCS / "train_and_log.py").read_text(encoding="utf-8")
    assert len(script.splitlines()) <= 45
    if fitted:
        with pipeline.open_store(tmp_path / "lawfit.db") as store:
            pipeline.ingest(store, data_folder() / "proxy_held_back.csv")
            pipeline.refit(store)
    with serving(tmp_path) as served:
        environment = {**os.environ, "LAWFIT_URL": served.address, "LAWFIT_SPOOL": str(tmp_path / "spool")}
        command = [sys.executable, str(DOCS / "train_and_log.py")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        assert ("settings of our own" in done.stdout) != fitted, done.stdout
        (run,) = served.http.get("/v1/runs?recipe=tiny").json()["runs"]
        assert (run["lr"] == 3e-3) != fitted
        assert 0 < run["loss"] < 4
        curve = served.http.get(f"/v1/curves/tiny/{run['run_key']}?metric=train_loss").json()
        assert curve["points"] == 300


@pytest.mark.soak
def test_after_ten_runs_it_gets_a_better_answer(database_url: str, tmp_path: Path) -> None:
    """With rates of its own it trains ten times; then the service has a fit, and the next one is told its rate."""
    pytest.importorskip("torch")
    with serving(tmp_path, "--workers", "2", database=database_url) as served:
        environment = {**os.environ, "LAWFIT_URL": served.address, "LAWFIT_SPOOL": str(tmp_path / "spool")}

        def train(*said: object) -> str:
            command = [sys.executable, str(DOCS / "train_and_log.py"), *map(str, said)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
            assert done.stderr == ""
            return done.stdout

        for width in (16, 32):
            for lr in (5e-3, 1e-2, 2e-2, 4e-2, 8e-2):
                assert "settings of our own" in train(width, lr)
        own = {run["run_key"]: run for run in served.http.get("/v1/runs?recipe=tiny").json()["runs"]}
        job = served.http.post("/v1/fits", json={"recipe": "tiny"}).json()
        while job["state"] in ("queued", "running"):
            time.sleep(0.2)
            job = served.http.get(f"/v1/jobs/{job['id']}").json()
        assert job["state"] == "done", job
        assert train(32) == ""  # it had an answer
        runs = served.http.get("/v1/runs?recipe=tiny").json()["runs"]
        (advised,) = [run for run in runs if run["run_key"] not in own]
        losses = sorted(run["loss"] for run in own.values() if run["params"] == advised["params"])
        assert advised["loss"] < losses[2]  # better than most of its own tries
        assert advised["loss"] < 1.01 * losses[0]
