"""`trainer_state.json` of the Hugging Face Trainer, with the settings that lie beside it as JSON or YAML.

The state has the logged numbers and the steps, and neither peak learning rate, weight decay nor accumulation. Those are
in `training_args.bin`, a pickle, which could run any code and is never loaded: write `training_args.json` beside it
(`Path(folder, "training_args.json").write_text(args.to_json_string())`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from lawfit.errors import LogFormatError
from lawfit.ingest.companions import beside
from lawfit.ingest.run_log import FINISHED, RUNNING, LoggedRun, RunLogs, place, whole_step

NAME: Final = "trainer_state.json"
CHECKPOINT: Final = re.compile(r"checkpoint-\d+")
_MOST_BYTES: Final = 1 << 28
_WHOLE: Final = 1 << 20  # bytes that are read as they are
_TAIL: Final = 1 << 16
_FLAT: Final = re.compile(r"\{[^{}]*\}")
_NOT_MEASURED: Final = frozenset({"step", "epoch", "total_flos"})
_STOPPED: Final = "stopped"  # training ended, at another step than planned
_PICKLE: Final = (
    "its settings are in training_args.bin only, a pickle, which is never loaded as it could run any code; write them "
    "beside it as JSON: Path('training_args.json').write_text(args.to_json_string())"
)


class TrainerState(RunLogs):
    """A run is the folder that the Trainer writes to; the states in its checkpoints are earlier parts of it."""

    name = "trainer-state"

    def sniff(self, path: Path, head: bytes) -> bool:
        return path.name == NAME or (path.suffix == ".json" and b'"log_history"' in head)

    def home(self, path: Path) -> Path | None:
        """The Trainer's other loggers write below its folder."""
        return _folder(path) if path.name == NAME else None

    def runs(self, path: Path, root: Path) -> Iterable[LoggedRun]:
        state = _state(path)
        folder = _folder(path)
        inner, unread = beside(path.parent)
        outer, more = beside(folder) if folder != path.parent else ({}, [])
        run = LoggedRun(
            file=place(path, root), name=folder.name if path.name == NAME else path.name.removesuffix(".json"),
            config=outer | inner, notes=[*unread, *more], state=_ended(state), reached=_steps(state),
        )  # fmt: skip
        told = {"max_steps": state.get("max_steps"), "per_device_train_batch_size": state.get("train_batch_size")}
        for key, value in told.items():
            if value and run.config.get(key) in (None, -1):
                run.config[key] = value
        seen = state.get("num_input_tokens_seen")
        run.summary = {"num_input_tokens_seen": seen} if seen else {}
        if not (outer or inner) and any((place_ / "training_args.bin").is_file() for place_ in (folder, path.parent)):
            run.notes.append(_PICKLE)
        for row in state["log_history"]:
            _log(run, row)
        return [run]

    def ends(self, path: Path) -> bytes | None:
        """It is written anew each time. Of a long one the last rows: it ends in settings of some kilobytes."""
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL) if size > _WHOLE else 0)
            text = file.read()
        if size <= _WHOLE:
            return text
        rows = [json.loads(found) for found in _FLAT.findall(text.decode("ascii", "replace")) if '"step"' in found]
        return json.dumps({"log_history": rows}).encode() if rows else None


def _folder(path: Path) -> Path:
    return path.parent.parent if CHECKPOINT.fullmatch(path.parent.name) else path.parent


def _state(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise LogFormatError(f"{path} is longer than {_MOST_BYTES >> 20} MiB: no state of a trainer")
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise LogFormatError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise LogFormatError(f"{path} is not JSON ({error}); it was cut off or damaged") from None
    if not isinstance(found, dict) or not isinstance(found.get("log_history"), list):
        raise LogFormatError(f"{path} has no list 'log_history'; it is no state of a trainer")
    return found


def _steps(state: Mapping[str, Any]) -> int:
    done = state.get("global_step")
    return done if isinstance(done, int) else 0


def _ended(state: Mapping[str, Any]) -> str:
    """Finished at its planned steps; training that ended before has a last row with its runtime."""
    planned = state.get("max_steps")
    if isinstance(planned, int) and planned > 0:
        if _steps(state) >= planned:
            return FINISHED
        rows = state["log_history"]
        ended = bool(rows) and isinstance(rows[-1], Mapping) and "train_runtime" in rows[-1]
        return _STOPPED if ended else RUNNING
    return RUNNING


def _log(run: LoggedRun, row: Any) -> None:
    if not isinstance(row, Mapping):
        return
    step = row.get("step")
    at = whole_step(step) if isinstance(step, (int, float)) else None
    if at is None:
        return
    for metric, value in row.items():
        if metric not in _NOT_MEASURED and isinstance(value, (int, float)) and not isinstance(value, bool):
            run.log(metric, at, float(value))


TRAINER_STATE: Final = TrainerState()
