"""`lawfit serve` as a process."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lawfit import __version__
from lawfit.cli.main import ExitCode
from tests.cli.conftest import Call
from tests.cli.serving import served

LAWFIT = [sys.executable, "-m", "lawfit"]


def test_serves_until_ctrl_c(away: Path) -> None:
    with served([*LAWFIT, "--database", "here.db"], away) as address:
        with urllib.request.urlopen(f"{address}/healthz", timeout=20) as answer:
            assert json.load(answer) == {"status": "ok", "version": __version__}
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{address}/v1/predictions?params=7e9&tokens=1e12", timeout=20)
        with caught.value as response:
            assert json.load(response)["type"] == "NoRuns"
            assert response.status == 404
    assert [path.name for path in away.glob("*.db*")] == ["here.db"]


def test_commands_and_many_requests_at_once(away: Path, call: Call) -> None:
    call("simulate", "sweep.csv", "--lr-steps", "4", "--batch-steps", "3")
    call("ingest", "sweep.csv")

    def ask(address: str) -> int:
        with urllib.request.urlopen(f"{address}/v1/recipes", timeout=20) as answer:
            return int(json.load(answer)["recipes"][0]["runs"])

    with served(LAWFIT, away) as address, ThreadPoolExecutor(8) as threads:
        for round_number in range(3):
            counts = threads.map(ask, [address] * 20)
            words = ["simulate", f"{round_number}.csv", "--seed", str(round_number + 1), "--lr-steps", "4"]
            for command in (words, ["ingest", f"{round_number}.csv", "--recipe", "sweep"], ["db", "check"]):
                subprocess.run([*LAWFIT, *command], cwd=away, check=True, capture_output=True)
            assert all(count >= 108 for count in counts)
        assert ask(address) == call("db", "check")["rows"]["runs"]
    assert call("db", "check")["problems"] == []


def test_a_taken_port_is_said(away: Path, text: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        _, err = text("serve", "--port", port, code=ExitCode.FAILED)
    assert f"cannot listen on 127.0.0.1:{port}" in err
    assert "--port" in err


def test_a_database_that_cannot_be_used_is_said_before_serving(away: Path, text: Call) -> None:
    (away / "x.db").write_bytes(b"not a database at all")
    _, err = text("--database", "x.db", "serve", "--port", "0", code=ExitCode.FAILED)
    assert "not a SQLite file" in err


def test_templates_that_cannot_be_used_are_said(away: Path, text: Call) -> None:
    (away / "t.toml").write_text('[mine]\ncommand = "true --lr {rl}"\n')
    _, err = text("serve", "--port", 0, "--training-templates", "t.toml", code=ExitCode.FAILED)
    assert "t.toml: template 'mine': the template names {rl}, which is no field of a run" in err
    _, err = text("serve", "--port", 0, "--training-templates", "none.toml", code=ExitCode.FAILED)
    assert "there is no file of training templates none.toml" in err
    assert list(away.glob("*.db")) == []


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no arenas")
def test_threads_share_their_memory() -> None:
    """Eight that hold memory at once have two arenas between them."""
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    words = [sys.executable, "-c", _HOLDING]
    said = subprocess.run(words, check=True, capture_output=True, text=True, env=environment).stdout
    assert said.count("<heap nr=") == 2


_HOLDING = """
import ctypes, threading
from lawfit.cli.serve import _share_memory
_share_memory()
libc, together = ctypes.CDLL(None), threading.Barrier(8)
libc.malloc.restype = ctypes.c_void_p
def hold():
    together.wait()
    libc.malloc(ctypes.c_size_t(10_000))
    together.wait()
threads = [threading.Thread(target=hold) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""
