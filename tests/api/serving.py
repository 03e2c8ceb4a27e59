"""A real `lawfit serve` in a process of its own, which a test may end as it likes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx


@dataclass
class Served:
    """A service and somebody who asks it."""

    process: subprocess.Popen[str]
    address: str
    http: httpx.Client


@contextmanager
def serving(folder: Path, *options: str, port: int = 0, database: str = "lawfit.db") -> Iterator[Served]:
    """``lawfit serve`` over a database of a folder; it is killed at the end where it still runs."""
    words = [sys.executable, "-m", "lawfit", "--database", database, "serve", "--port", str(port), *options]
    log = (folder / "serve.log").open("a+")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LAWFIT_")}
    process = subprocess.Popen(
        words, cwd=folder, stdout=log, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"http://(?:127\.0\.0\.1|0\.0\.0\.0):(\d+)", line)
        assert found, line
        address = f"http://127.0.0.1:{found[1]}"
        with httpx.Client(base_url=address, timeout=60) as client:
            yield Served(process=process, address=address, http=client)
    finally:
        with suppress(ProcessLookupError):  # its workers, too
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        log.close()
