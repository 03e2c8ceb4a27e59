"""Train a folder of packs on one GPU with several processes: while one compiles, others train.

    python -m lawfit.train.queue PACKS --logs RUNS --workers 5 --deadline UNIX_TIME

Each pack is a process of its own, started in the order of the names. One that fails leaves its error in
`<pack name>.err` beside the logs, and the queue goes on. Run it again after an interruption: what has ended is skipped,
what was begun resumes.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

GRACE_SECONDS = 10.0  # after the deadline, for the checkpoints of what is running


def run_queue(
    packs: Sequence[Path], logs: Path, *, workers: int, deadline: float = math.inf, arguments: Sequence[str] = ()
) -> dict[str, int]:
    """Exit code by pack, for the packs that were started.

    Parameters
    ----------
    deadline : float
        Unix time at which every pack stops with a checkpoint; one that has not stopped soon after is terminated.
    arguments : texts
        Passed on to `python -m lawfit.train`.
    """
    logs.mkdir(parents=True, exist_ok=True)
    waiting, codes = list(packs), {}
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while running or (waiting and time.time() < deadline):
            for name, process in list(running.items()):
                if (code := process.poll()) is not None:
                    codes[name] = code
                    del running[name]
            while waiting and len(running) < workers and time.time() < deadline:
                pack = waiting.pop(0)
                command = [sys.executable, "-m", "lawfit.train", str(pack), "--logs", str(logs), *arguments]
                if deadline < math.inf:
                    command += ["--deadline", str(deadline)]
                with (logs / f"{pack.stem}.err").open("wb") as errors:
                    running[pack.stem] = subprocess.Popen(command, stderr=errors)
            if time.time() > deadline + GRACE_SECONDS:
                for process in running.values():
                    process.terminate()
            time.sleep(0.1)
    finally:
        for process in running.values():  # left early: by an error or Ctrl-C
            process.terminate()
    return codes


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lawfit.train.queue", description="Train a folder of packs.")
    parser.add_argument("packs", type=Path, help="folder with pack.json files")
    parser.add_argument("--logs", type=Path, default=Path("runs"))
    parser.add_argument("--workers", type=int, default=4, help="processes at a time (default: 4)")
    parser.add_argument("--deadline", type=float, default=math.inf, help="Unix time at which everything stops")
    parser.add_argument("--cpu", action="store_true", help="use the CPU although a GPU is there")
    parser.add_argument("--wait", type=float, default=0, help="seconds to wait for a corpus that is being built")
    options = parser.parse_args(arguments)
    packs = sorted(options.packs.glob("*.json"))
    if not packs:
        print(f"error: no pack in {options.packs}", file=sys.stderr)
        return 1
    passed_on = ["--wait", str(options.wait), *(["--cpu"] if options.cpu else [])]
    codes = run_queue(packs, options.logs, workers=options.workers, deadline=options.deadline, arguments=passed_on)
    failed = sorted(name for name, code in codes.items() if code)
    for name in failed:
        print(f"error: pack {name} failed, see {options.logs / name}.err", file=sys.stderr)
    print(f"{len(codes) - len(failed)} packs done, {len(failed)} failed, {len(packs) - len(codes)} not started")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
