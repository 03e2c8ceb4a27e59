"""How far runs are, from their logs, read as they grow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lawfit.launch.folder import log_of


@dataclass
class RunProgress:
    """What the log of a run said last."""

    tokens: int = 0  # trained
    status: str = ""  # "finished" or "diverged" once it has ended


class Follower:
    """Reads what was added to the logs of runs since it last looked."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._positions: dict[str, int] = {}  # bytes read of each log
        self.runs: dict[str, RunProgress] = {}

    def look(self, run_ids: Iterable[str]) -> list[str]:
        """Read on; the runs that have ended since the last look."""
        ended = []
        for run_id in run_ids:
            run = self.runs.setdefault(run_id, RunProgress())
            if not run.status and self._read_on(run_id, run):
                ended.append(run_id)
        return ended

    def look_anew(self, run_ids: Iterable[str]) -> list[str]:
        """Read the logs of runs that are not known to have ended from their start: they may have been cut meanwhile."""
        run_ids = list(run_ids)
        for run_id in run_ids:
            self._positions.pop(run_id, None)
        return self.look(run_ids)

    def _read_on(self, run_id: str, run: RunProgress) -> bool:
        try:
            with log_of(run_id, self._logs).open("rb") as file:
                position = self._positions.get(run_id, 0)
                if file.seek(0, 2) < position:  # begun again, or cut back to its checkpoint
                    position, run.tokens = 0, 0
                file.seek(position)
                chunk = file.read()
        except OSError:
            return False
        whole = chunk[: chunk.rfind(b"\n") + 1]
        self._positions[run_id] = position + len(whole)
        for line in whole.splitlines():
            _take(line, run)
        return bool(run.status)


def ended_runs(run_ids: Iterable[str], logs: Path) -> dict[str, str]:
    """Status of the runs whose logs have an end."""
    follower = Follower(logs)
    return {run_id: follower.runs[run_id].status for run_id in follower.look(run_ids)}


def _take(line: bytes, run: RunProgress) -> None:
    try:
        event = json.loads(line)
    except ValueError:
        return
    if not isinstance(event, Mapping):
        return
    if event.get("event") in ("train", "eval", "diverged", "end") and isinstance(event.get("tokens"), int):
        run.tokens = event["tokens"]
    if event.get("event") == "end" and event.get("status") in ("finished", "diverged"):
        run.status = event["status"]
