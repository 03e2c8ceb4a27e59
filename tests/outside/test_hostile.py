"""Those who mean harm, and what fails in the middle: against a real server process, where one is needed."""

from __future__ import annotations

import http.client
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from lawfit import pipeline
from lawfit.settings import data_folder
from lawfit.storage import Store
from lawfit.storage.jobs import list_jobs
from lawfit.storage.live import list_live_runs
from tests.api.serving import Served, serving

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, and sets limits of a process"),
]
GIGABYTE: Final = 1 << 30


class TestBodies:
    @pytest.fixture
    def served(self, tmp_path: Path) -> Iterator[Served]:
        with serving(tmp_path) as found:
            found.http.get("/readyz")
            yield found

    @pytest.mark.parametrize("path", ["/v1/uploads?name=x.csv", "/v1/live/points", "/v1/predictions/bulk"])
    def test_a_gigabyte_that_says_so_is_refused_before_it_is_sent(self, served: Served, path: str) -> None:
        with socket.create_connection(_place(served)) as connection:
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
            connection.sendall(f"{head}{GIGABYTE}\r\n\r\n".encode())
            connection.settimeout(5)
            assert connection.recv(4096).startswith(b"HTTP/1.1 413")

    @pytest.mark.parametrize(
        ("path", "most_mb"), [("/v1/uploads?name=x.csv", 256), ("/v1/live/points", 32), ("/v1/predictions/bulk", 1)]
    )
    def test_one_that_does_not_say_so_is_refused_on_the_way(self, served: Served, path: str, most_mb: int) -> None:
        before, piece, sent = _resident_mb(served.process.pid), b"x" * (1 << 20), 0
        connection = http.client.HTTPConnection(*_place(served), timeout=30)
        connection.putrequest("POST", path)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        with suppress(BrokenPipeError, ConnectionResetError):
            while sent < GIGABYTE:
                connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                sent += len(piece)
        assert sent < GIGABYTE
        assert sent < (most_mb + 64) << 20  # what the system holds underway
        with suppress(ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected):  # told, where it can be
            assert connection.getresponse().status == 413
        assert _resident_mb(served.process.pid) - before < min(most_mb, 64) + 32
        assert served.http.get("/healthz").status_code == 200


def test_half_requests_by_the_thousand_leave_room_for_others(tmp_path: Path) -> None:
    """More than a process may open by default: the service takes what the machine allows, and closes them in time."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("this machine allows a process too few connections to try it")
    words = [sys.executable, "-m", "lawfit", "--database", str(tmp_path / "x.db"), "serve", "--port", "0"]
    # 256 files, as a shell may have it; this process needs as many as it opens.
    process = subprocess.Popen(
        ["prlimit", "--nofile=256:4096", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard > 0 else 4096, hard))
    halves = []
    try:
        address = process.stderr.readline().split()[2]
        urllib.request.urlopen(f"{address}/readyz", timeout=20).close()
        before = _resident_mb(process.pid)
        place = (urlsplit(address).hostname, urlsplit(address).port)
        for number in range(1500):
            halves.append(socket.create_connection(place, timeout=40))
            halves[-1].sendall((b"", b"GET /hea", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ")[number % 3])
        seconds = []
        for _ in range(20):
            began = time.perf_counter()
            urllib.request.urlopen(f"{address}/healthz", timeout=10).close()
            seconds.append(time.perf_counter() - began)
        assert max(seconds) < 2
        assert _resident_mb(process.pid) - before < 100
        began = time.monotonic()
        assert not any(_open(each) for each in halves)
        assert time.monotonic() - began < 40
    finally:
        process.kill()
        process.communicate()
        for each in halves:
            each.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_change_from_many_at_once_is_done_once(database_url: str, tmp_path: Path, workers: int) -> None:
    """Whichever process each of them meets; 409 says that it is being worked on."""
    with pipeline.open_store(database_url) as store:
        pipeline.ingest(store, data_folder() / "proxy_held_back.csv")
    with serving(tmp_path, "--workers", str(workers), database=database_url) as served:

        def begin(number: int) -> tuple[int, str]:
            headers = {"Idempotency-Key": f"k{number % 5}"}
            asked = {"without_law": ["step_law"] if number % 5 else []}
            while True:
                answer = served.http.post("/v1/fits", json=asked, headers=headers)
                if answer.status_code != 409:
                    return number % 5, answer.json()["id"]
                time.sleep(0.05)

        with ThreadPoolExecutor(16) as threads:
            told = set(threads.map(begin, range(80)))
        assert len(told) == 5  # one answer for each key
    with Store.open(database_url) as store:
        assert {job.id for job in list_jobs(store, None, limit=100)} == {job for _, job in told}


def test_killed_in_the_middle_of_a_thousand_writes_nothing_acknowledged_is_lost(
    database_url: str, tmp_path: Path
) -> None:
    """Eight that log, one that uploads; after the kill the same is sent again, and is there once."""
    writes = [(f"r{number % 8}", number // 8) for number in range(1000)]
    kept: set[tuple[str, int]] = set()
    killed = threading.Event()
    with serving(tmp_path, database=database_url) as served:
        _begin_runs(served)

        def log(write: tuple[str, int]) -> None:
            if killed.is_set():
                return
            with suppress(httpx.TransportError):
                if _log(served, *write):
                    kept.add(write)
            if len(kept) > 500:
                killed.set()
                served.process.send_signal(signal.SIGKILL)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(log, writes))
        assert killed.is_set()
        assert 500 < len(kept) < 1000
    with serving(tmp_path, database=database_url) as served:
        there = {run["run_key"]: run["points"] for run in served.http.get("/v1/live/runs").json()["runs"]}
        assert sum(there.values()) >= len(kept)
        for key in there:
            assert there[key] >= sum(run == key for run, _ in kept)
        for write in writes:
            assert _log(served, *write)
    with Store.open(database_url) as store:
        points = {run.run_key: run.points for run in list_live_runs(store, limit=100)}
    assert points == {f"r{number}": 125 for number in range(8)}


def _begin_runs(served: Served) -> None:
    for number in range(8):
        begun = {"project": "p", "run_key": f"r{number}", "config": {"lr": 1e-3}}
        assert served.http.post("/v1/live/runs", json=begun).status_code == 200


def _log(served: Served, key: str, step: int) -> bool:
    """Whether a point was acknowledged."""
    said: dict[str, Any] = {"runs": [{"project": "p", "run_key": key, "points": [["loss", step, 1.0]]}]}
    answer = served.http.post("/v1/live/points", json=said)
    return answer.status_code == 200 and answer.json() == {"kept": 1}


def _place(served: Served) -> tuple[str, int]:
    parts = urlsplit(served.address)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def _open(connection: socket.socket) -> bool:
    """Whether the server keeps it."""
    try:
        return connection.recv(1) != b""
    except ConnectionResetError:
        return False
    except TimeoutError:
        return True
