"""Processes that ingest, forked from one that has imported everything: ready to be killed after some milliseconds."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

# ruff: noqa: F401 - imported before they are forked
import lawfit.cli.ingest
import lawfit.ingest.formats
import lawfit.pipeline
import lawfit.pipeline.ingesting
import lawfit.storage
import lawfit.storage.schema
from lawfit.cli.main import run
from tests.faults.material import table

_CONTEXT: ForkServerContext = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


def ingest(
    url: str, paths: Sequence[Path], out: Path, *, words: Sequence[str] = (), most_bytes: int = -1, user: int = 0
) -> BaseProcess:
    """Start `lawfit ingest`; what it prints goes to `out`, its exit code is the process's.

    Parameters
    ----------
    most_bytes : of any file that it writes; -1: no limit
    user : 0: as who we are
    """
    line = ["ingest", *map(str, paths), "--database", url, *words]
    process = _CONTEXT.Process(target=_command, args=(line, str(out), most_bytes, user))
    process.start()
    return process


def ended(process: BaseProcess, seconds: float = 120.0) -> int | None:
    """Its exit code, once it has one."""
    process.join(seconds)
    return process.exitcode


def _command(words: list[str], out: str, most_bytes: int, user: int) -> None:
    with open(out, "w", encoding="utf-8") as file:  # noqa: PTH123
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if most_bytes >= 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    if user:
        warm = table(Path(out).with_name("warm.csv"), 1).path  # the interpreter may lie where only root may read
        run(["ingest", str(warm), "--database", f"{warm}.db"])
        os.ftruncate(1, 0)
        os.lseek(1, 0, os.SEEK_SET)
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    code = run(words)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sys.stdout.flush()
    sys.stderr.flush()
    print(f"peak memory {peak} MiB", flush=True)
    os._exit(code)
