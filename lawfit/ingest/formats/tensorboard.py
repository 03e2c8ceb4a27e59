"""TensorBoard's event files (`events.out.tfevents.*`), a folder for each run, with their settings from beside them.

All points of all scalars are read, stored as `simple_value` (torch) or as tensors (TF2, JAX). Settings come from the
HParams plugin, from a text that is JSON (the `args` of the Hugging Face Trainer), or from a file beside.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lawfit.errors import LogFormatError
from lawfit.ingest.companions import beside
from lawfit.ingest.events import Damaged, Events, ends, hparams, read_events
from lawfit.ingest.run_log import LoggedRun, RunLogs, place
from lawfit.ingest.wire import WireError

_MARK: Final = "tfevents"
_PARTS: Final = frozenset({"train", "training", "val", "valid", "validation", "eval", "test"})  # folders of one run
_UNVERIFIED: Final = "its checksums were not verified, as asked: a damaged number passes unseen"


@dataclass
class TensorBoard(RunLogs):
    """Event files; the checksum of every record is verified unless asked not to."""

    name: str = "tensorboard"
    verify: bool = True

    def sniff(self, path: Path, head: bytes) -> bool:  # noqa: ARG002 - known by its name, as TensorBoard does it
        return _MARK in path.name

    def title(self, path: Path) -> str:
        return path.parent.resolve().name

    def runs(self, path: Path, root: Path) -> Iterable[LoggedRun]:
        try:
            events = read_events(path, verify=self.verify)
            settings = _settings(events)
        except (Damaged, WireError) as error:
            raise LogFormatError(
                f"{path}: {error}; the file is damaged, copy it again from where it was made"
            ) from None
        except OSError as error:
            raise LogFormatError(f"{path} cannot be read: {error.strerror or error}") from None
        folder, prefix = _home(path.parent)
        stored, said = beside(folder)
        run = LoggedRun(
            run_id=_identity(folder), name=_title(folder, root), file=place(path, root), config=stored | settings,
            points={prefix + tag: points for tag, points in events.scalars.items()}, notes=said,
        )  # fmt: skip
        if events.cut:
            run.notes.append("it ends in the middle of a record: in writing, or cut off; what stands before is taken")
        if not self.verify:
            run.notes.append(_UNVERIFIED)
        return [run]

    def ends(self, path: Path) -> bytes | None:
        try:
            return ends(path)
        except Damaged:
            return None


def _event_files(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if _MARK in entry.name)
    except OSError:
        return []


def _home(folder: Path) -> tuple[Path, str]:
    """The folder of the run, and what its metrics are prefixed with.

    Keras writes `train/` and `validation/` below a run; `add_scalars` and the HParams plugin make folders of their own
    below the run's event file.
    """
    above = folder.parent
    if folder.name.lower() in _PARTS:
        return above, f"{folder.name}/"
    if folder.name and _event_files(above):
        return above, f"{folder.name}/"
    return folder, ""


def _identity(folder: Path) -> str:
    """Time, host and process of the first event file: it stays the same when the folder is moved."""
    names = _event_files(folder) or [name for part in sorted(_PARTS) for name in _event_files(folder / part)]
    first = min(names, default=folder.name)
    return first.partition(f"{_MARK}.")[2] or first


def _title(folder: Path, root: Path) -> str:
    return folder.name if folder == root else place(folder, root)


def _settings(events: Events) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for tag, content in events.texts.items():
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            continue  # prose
        if isinstance(found, dict):
            name = tag.partition("/")[0]
            settings |= found if name in ("args", "config", "hparams") else {name: found}
    for plugin in events.plugins.values():
        settings |= hparams(plugin)
    return settings


TENSORBOARD: Final = TensorBoard()
UNVERIFIED: Final = TensorBoard(name="tensorboard-unverified", verify=False)  # by `--format` only
