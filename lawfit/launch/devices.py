"""Which GPUs this machine has, without torch, which would take seconds and memory on each of them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from lawfit.launch.plan import LaunchError


def visible_gpus(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none without a driver."""
    environ = os.environ if environ is None else environ
    installed = _installed()
    if (allowed := environ.get("CUDA_VISIBLE_DEVICES")) is None:
        return installed
    named = [word.strip() for word in allowed.split(",") if word.strip()]
    if "-1" in named:
        named = named[: named.index("-1")]
    return tuple(named) if installed else ()


def _installed() -> tuple[str, ...]:
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip()) if done.returncode == 0 else ()


def choose_gpus(asked: Sequence[str] | None) -> tuple[str, ...]:
    """Those that were asked for, or all.

    Raises
    ------
    LaunchError
        There is none, or not the one that was asked for.
    """
    there = visible_gpus()
    if not there:
        raise LaunchError(
            "no GPU found (nvidia-smi lists none that this process may use); --cpu trains on the CPU, for tiny models"
        )
    if not asked:
        return there
    for gpu in asked:
        if gpu not in there and not gpu.startswith(("GPU-", "MIG-")):
            raise LaunchError(f"there is no GPU {gpu}; this process may use {', '.join(there)}")
    return tuple(dict.fromkeys(asked))
