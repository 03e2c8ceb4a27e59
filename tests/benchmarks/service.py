"""The service beside a bare FastAPI of the same document, on loopback: `python -m tests.benchmarks.service`.

Real processes; `wrk` (from the distribution's packages) asks. Ours checks a token, gives an id to each request and
writes a line for each. A repeated question, all-new questions, and /healthz while new questions are asked.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lawfit import pipeline
from lawfit.settings import data_folder
from lawfit.storage.tokens import create_token

CONNECTIONS: Final = 64
ASKED: Final = "/v1/predictions?params=7e9&tokens=1.4e12"
# Each thread of wrk asks for sizes of its own, none twice.
NEW: Final = """
local thread, count = 0, 0
function setup(t) thread = thread + 1; t:set("number", thread) end
function request()
  count = count + 1
  local params = string.format("%d", 1000000000 + number * 100000000 + count * 1009)
  return wrk.format("GET", "/v1/predictions?params=" .. params .. "&tokens=2e11")
end
"""
BARE: Final = """
import json, pathlib
from fastapi import FastAPI
from fastapi.responses import JSONResponse
document = json.loads(pathlib.Path({path!r}).read_text())
app = FastAPI()
@app.get("/v1/predictions")
def answer(params: float, tokens: float) -> JSONResponse:
    return JSONResponse(document)
"""


@contextmanager
def running(words: Sequence[str], port: int, folder: Path, **more: str) -> Iterator[str]:
    """A server's address, once it answers."""
    with (folder / "out.log").open("wb") as out:
        process = subprocess.Popen(words, cwd=folder, env={**os.environ, **more}, stdout=out, stderr=out)
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(200):
                try:
                    urllib.request.urlopen(f"{address}/openapi.json", timeout=5).close()
                except urllib.error.HTTPError:
                    break
                except OSError:
                    time.sleep(0.1)
                else:
                    break
            yield address
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def wrk(
    address: str, seconds: int, *, token: str = "", script: Path | None = None, connections: int
) -> dict[str, float]:
    """Requests a second, and milliseconds of the median and of the slowest percent."""
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "60s"]
    words += ["-H", f"Authorization: Bearer {token}"] if token else []
    words += ["-s", str(script)] if script else []
    said = subprocess.run([*words, address], check=True, capture_output=True, text=True).stdout
    units = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
    found = {"rps": float(re.search(r"Requests/sec:\s+([0-9.]+)", said)[1])}  # type: ignore[index]
    for percent in ("50%", "99%"):
        number, unit = re.search(rf"{percent}\s+([0-9.]+)(us|ms|s|m)", said).groups()  # type: ignore[union-attr]
        found[percent] = float(number) * units[unit]
    if failed := re.search(r"Non-2xx or 3xx responses: (\d+)", said):
        raise SystemExit(f"{failed[1]} requests failed: {said}")
    return found


def measure(seconds: int, workers: int, folder: Path) -> None:
    database = folder / "b.db"
    with pipeline.open_store(database) as store:
        pipeline.ingest(store, data_folder() / "proxy_sweep.csv")
        pipeline.refit(store)
        token = create_token(store, "bench", ["read"])
    lawfit = [sys.executable, "-m", "lawfit", "--database", str(database), "serve", "--access-log"]
    ours = [*lawfit, "--port", "8791", "--workers", str(workers)]
    began = time.perf_counter()
    with running(ours, 8791, folder, LAWFIT_REQUIRE_TOKENS="always") as address:
        request = urllib.request.Request(address + ASKED, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            document = json.load(answer)
        print(
            f"cold start to the first answer: {time.perf_counter() - began:.2f} s; {len(json.dumps(document)):,} bytes"
        )
        same = wrk(address + ASKED, seconds, token=token, connections=CONNECTIONS)
        script = folder / "new.lua"
        script.write_text(NEW)
        new = wrk(address, seconds, token=token, script=script, connections=CONNECTIONS)
        words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds + 2}s", "--timeout", "60s", "-s", str(script)]
        loaded = subprocess.Popen([*words, "-H", f"Authorization: Bearer {token}", address], stdout=subprocess.DEVNULL)
        time.sleep(1)
        health = wrk(f"{address}/healthz", seconds, connections=1)
        loaded.wait()
    (folder / "document.json").write_text(json.dumps(document))
    (folder / "bare.py").write_text(BARE.format(path=str(folder / "document.json")))
    words = [
        sys.executable,
        "-m",
        "uvicorn",
        "bare:app",
        "--port",
        "8792",
        "--no-access-log",
        "--workers",
        str(workers),
    ]
    with running(words, 8792, folder) as address:
        bare = wrk(address + ASKED, seconds, connections=CONNECTIONS)
    for name, said in (
        ("bare", bare),
        ("the same question", same),
        ("new questions", new),
        ("/healthz beside them", health),
    ):
        print(f"{name:22} {said['rps']:8.1f} a second, median {said['50%']:8.2f} ms, 99 % {said['99%']:8.2f} ms")
    print(
        f"the same question: {same['rps'] / bare['rps']:.2f} of bare, 99 % at {same['99%'] / same['50%']:.1f} medians"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("this takes wrk: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        measure(asked.seconds, asked.workers, Path(folder))


if __name__ == "__main__":
    main()
