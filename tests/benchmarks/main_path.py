"""Time and peak memory of the main path in cold processes.

    python -m tests.benchmarks.main_path [REPEATS]

ingest + fit + predict of the 1,627-run Step Law grid, each command a process of its own on a fresh database, full
uncertainty and backtest; then `lawfit predict` against the stored fit, and `import lawfit` (less an empty interpreter).
Medians over the repeats; CPU seconds beside the wall clock, which a busy machine stretches.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.shared import shared_file

LAWFIT = [sys.executable, "-m", "lawfit"]


def run(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds, peak MB of one process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed: {error.decode()}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    sweep = str(shared_file("step_law_dense.csv"))
    target = ["--params", "7e9", "--tokens", "1.4e12"]
    steps = {
        "ingest": [*LAWFIT, "ingest", sweep],
        "fit": [*LAWFIT, "fit"],
        "predict": [*LAWFIT, "predict", *target],
        "empty python": [sys.executable, "-c", "pass"],
        "import lawfit": [sys.executable, "-c", "import lawfit"],
    }
    figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in steps}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            for name, command in steps.items():
                figures[name].append(run(command, Path(folder)))
    print(f"{'step':16s}{'wall s':>9s}{'CPU s':>9s}{'peak MB':>9s}   (median of {repeats})")
    middle = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in figures.items()}
    for name, (wall, cpu, peak) in middle.items():
        print(f"{name:16s}{wall:>9.2f}{cpu:>9.2f}{peak:>9.0f}")
    whole = sum(middle[name][0] for name in ("ingest", "fit", "predict"))
    peak = max(row[2] for row in middle.values())
    imported = middle["import lawfit"][0] - middle["empty python"][0]
    print(
        f"main path: ingest + fit + predict {whole:.1f} s, peak {peak:.0f} MB; "
        f"predict {middle['predict'][0]:.2f} s; import lawfit {imported:.3f} s"
    )


if __name__ == "__main__":
    main()
