"""What changed on disk since it was looked at last: files are known by their time and size, and not read twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

from lawfit.ingest.companions import NAMES
from lawfit.ingest.source import has_ended

OneStamp = tuple[int, int, bool] | None  # time (ns), size, and whether its last line has ended; None: not there
Stamp = tuple[OneStamp, ...]  # of a file and of those that belong to it
Found = TypeVar("Found")

_OWN_SETTINGS: Final = (".json", ".yaml")
_WRITE_AHEAD: Final = "-wal"  # where SQLite keeps what was written last


class Kept:
    """What was found out about files, for as long as they stay as they are."""

    def __init__(self, quiet_seconds: float = 0.0) -> None:
        self.quiet_seconds = quiet_seconds  # after which a last line without an end is no longer being written
        self._found: dict[tuple[str, Path], tuple[Stamp, Any]] = {}
        self._settings: dict[Path, Stamp] = {}  # of folders, since `look_again`

    def look_again(self) -> None:
        """Files may have changed."""
        self._settings.clear()

    def stamp(self, path: Path, parts: Iterable[Path] = ()) -> Stamp:
        """Of a log, of the files of settings beside and above it, and of further files that hold a part of it."""
        own = (path, path.with_name(path.name + _WRITE_AHEAD), *(path.with_suffix(end) for end in _OWN_SETTINGS))
        settings = (*self._settings_in(path.parent), *self._settings_in(path.parent.parent))
        return (*map(self._one, own), *settings, *map(self._one, parts))

    def of(self, what: str, path: Path, find: Callable[[], Found], parts: Iterable[Path] = ()) -> Found:
        """What was found out about a file, anew where it has changed."""
        now = self.stamp(path, parts)
        before = self._found.get((what, path))
        if before is not None and before[0] == now:
            found: Found = before[1]
            return found
        found = find()
        self._found[what, path] = now, found
        return found

    def _settings_in(self, folder: Path) -> Stamp:
        if folder not in self._settings:
            self._settings[folder] = tuple(self._one(folder / name) for name in NAMES)
        return self._settings[folder]

    def _one(self, path: Path) -> OneStamp:
        try:
            found = path.stat()
            return found.st_mtime_ns, found.st_size, has_ended(path, self.quiet_seconds)
        except OSError:
            return None
