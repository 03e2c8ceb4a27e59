"""A client that openapi-python-client writes from the description, in an environment without lawfit."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
import venv
from pathlib import Path

import pytest

from tests.outside.campaign import swept_service

SCRIPT = """
import sys
from lawfit_client import Client
from lawfit_client.api.jobs import read_job
from lawfit_client.api.live import begin_run, finish_run, log_points
from lawfit_client.api.predictions import predict_many, read_prediction
from lawfit_client.api.runs import read_run
from lawfit_client.api.uploads import upload
from lawfit_client import models
from lawfit_client.types import File

client = Client(base_url=sys.argv[1], raise_on_unexpected_status=True)
# Its functions cannot send a query parameter called `params`, which is a variable of theirs; models can.
asked = [{"params": 50e6, "tokens": 500e6}, {"params": 50e6, "tokens": -1}]
said = predict_many.sync(client=client, body=models.BulkAsked.from_dict({"targets": asked, "keep": True}))
assert isinstance(said, models.BulkAnswers), said
answer, refused = said.answers[0].answer, said.answers[1].problem
assert isinstance(answer, models.Answer) and isinstance(refused, models.Problem) and refused.status == 422
lr = answer.recommendation.lr.value
assert 1e-4 < lr < 1e-1
assert read_prediction.sync(answer.id, client=client).recommendation.lr.value == lr
assert isinstance(read_job.sync("none", client=client), models.Problem)

config = {"params": 5e7, "tokens": 5e8, "batch_tokens": 65536, "lr": lr, "seq_len": 1024, "schedule": "constant"}
begun = models.LiveRunBegun.from_dict({"project": "outside", "run_key": "a", "config": config})
assert begin_run.sync(client=client, body=begun).state == "running"
points = [["loss", step, 3 + 1 / step] for step in range(1, 7630, 100)]
said = models.LivePoints.from_dict({"runs": [{"project": "outside", "run_key": "a", "points": points}]})
assert log_points.sync(client=client, body=said).kept == len(points)
ended = finish_run.sync(client=client, body=models.LiveRunFinished.from_dict({"project": "outside", "run_key": "a"}))
assert isinstance(ended, models.LiveRunEnded) and ended.stored, ended
assert read_run.sync("outside", "a", client=client).lr == lr

table = b"params,tokens,batch_tokens,lr,loss\\n1e8,2e9,65536,1e-3,3.1\\n"
sent = upload.sync(client=client, name="x.csv", body=File(payload=__import__("io").BytesIO(table)))
assert isinstance(sent, models.UploadedOut) and sent.files[0].inserted == 1, sent
print("done")
"""


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own: it takes other versions of what lawfit uses."""
    folder = tmp_path_factory.mktemp("generator")
    venv.create(folder, with_pip=True)
    words = [
        folder / "bin" / "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "openapi-python-client",
        "ruff",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        if os.environ.get("CI"):
            pytest.fail(done.stderr)
        pytest.skip(f"openapi-python-client cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return folder / "bin"


@pytest.mark.soak
def test_it_has_every_operation_and_asks_and_logs(generator: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LAWFIT_"))}
    environment["PATH"] = f"{generator}:{environment['PATH']}"
    with swept_service(tmp_path) as (address, _):
        with urllib.request.urlopen(f"{address}/openapi.json") as answer:
            paths = json.load(answer)["paths"]
        words = ["generate", "--url", f"{address}/openapi.json", "--meta", "none", "--output-path", "lawfit_client"]
        said = subprocess.run(
            [generator / "openapi-python-client", *words, "--fail-on-warning"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (said.returncode, said.stderr) == (0, ""), said
        assert "WARNING" not in said.stdout
        assert "ERROR" not in said.stdout
        operations = {operation["operationId"] for verbs in paths.values() for operation in verbs.values()}
        written = {path.stem for path in (tmp_path / "lawfit_client" / "api").glob("*/[a-z]*.py")}
        assert written == operations
        words = [str(generator / "python"), "-W", "error", "-c", SCRIPT, address]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
