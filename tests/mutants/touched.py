"""Which test files run which lines: a fault is shown to those that reach it, the quickest first.

Whole files, each in a process of its own: within one, tests share fits that are made once, so that the line of a fault
may run in a test other than the one that notices it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Touched:
    """What was seen, file by file; kept in a JSON file from one campaign to the next."""

    seconds: dict[str, float] = field(default_factory=dict)  # test file -> wall time, traced
    lines: dict[str, dict[str, list[int]]] = field(default_factory=dict)  # test file -> source -> lines that ran
    digests: dict[str, dict[str, str]] = field(default_factory=dict)  # test file -> it and its sources, as they were

    @classmethod
    def kept(cls, path: Path) -> Touched:
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else cls()

    def keep(self, path: Path) -> None:
        path.write_text(json.dumps(vars(self)), encoding="utf-8")

    def see(self, tests: Iterable[str], tree: Path, environment: dict[str, str], workers: int, file: Path) -> None:
        """Trace the test files that are new, or have changed, or reach a source that has; keep each when it is done."""
        now = {name: _digest(tree / name) for seen in self.digests.values() for name in seen}
        asked = [
            test
            for test in tests
            if any(now[n] != d for n, d in self.digests.get(test, {}).items()) or test not in self.lines
        ]
        with ThreadPoolExecutor(workers) as pool:
            for test, (seconds, lines) in zip(
                asked, pool.map(lambda test: _trace(test, tree, environment), asked), strict=True
            ):
                self.seconds[test], self.lines[test] = seconds, lines
                self.digests[test] = {name: _digest(tree / name) for name in (test, *lines)}
                self.keep(file)

    def reaching(self, path: str, line: int) -> list[str]:
        """Test files that run a line, the quickest first."""
        found = [test for test, sources in self.lines.items() if line in sources.get(path, ())]
        return sorted(found, key=lambda test: self.seconds[test])


def _trace(test: str, tree: Path, environment: dict[str, str]) -> tuple[float, dict[str, list[int]]]:
    data = tree / f".coverage.{hashlib.sha256(test.encode()).hexdigest()[:16]}"
    start = time.monotonic()
    command = [sys.executable, "-m", "coverage", "run", f"--data-file={data}", "--source=lawfit,api", "-m", "pytest"]
    done = subprocess.run(
        [*command, "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", test],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, 5):
        raise SystemExit(f"{test} fails without any fault:\n{done.stdout[-2000:]}{done.stderr[-500:]}")
    from coverage import CoverageData

    seen = CoverageData(basename=os.fspath(data))
    seen.read()
    found = {}
    for name in seen.measured_files():
        path = Path(name).resolve()
        lines = seen.lines(name)
        if lines and path.is_relative_to(tree.resolve()):
            found[path.relative_to(tree.resolve()).as_posix()] = sorted(lines)
    data.unlink(missing_ok=True)
    return time.monotonic() - start, found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
