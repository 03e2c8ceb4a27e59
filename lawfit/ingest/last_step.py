"""How far a run is, from its log as it grows: a look costs the same however long the log has become."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from lawfit.errors import LogFormatError
from lawfit.ingest.formats import FORMATS
from lawfit.ingest.one_run import logged_step
from lawfit.ingest.table import GrowingFormat
from lawfit.ingest.tree import WEIGHTS

_HEAD: Final = 1 << 13  # bytes from the beginning of a file: what its columns are called
_TAIL: Final = 1 << 15  # and from its end
_MOST_FILES: Final = 3  # that were written to last
_MOST_SEEN: Final = 200  # entries of a folder
_DEPTH: Final = 3

_GROWING: Final = [each for each in FORMATS if isinstance(each, GrowingFormat)]

_Seen = tuple[tuple[str, int, int], ...]  # files, their sizes, when they were written


@dataclass
class _Look:
    seen: _Seen
    step: int


class LastSteps:
    """The last step that each run logged.

    Read are text that has a line for each, and the logs of a `GrowingFormat`; what else there is says nothing.

    Parameters
    ----------
    format_name : of the logs; None: told from them
    output : name of the file with what a run printed, looked at where nothing else is a log
    """

    def __init__(self, format_name: str | None = None, *, output: str = "") -> None:
        self._format, self._output = format_name, output
        self._looks: dict[Path, _Look] = {}

    def of(self, folder: Path) -> int | None:
        """The last step in the folder of a run; None where its log does not tell, or not yet."""
        try:
            files = sorted(_files(folder, _DEPTH), key=lambda path: -path.stat().st_mtime)
            logs = [path for path in files if path.name != self._output and path.suffix not in WEIGHTS][:_MOST_FILES]
            printed = [path for path in files if path == folder / self._output]
            seen = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in [*logs, *printed])
            before = self._looks.get(folder)
            if before is None or before.seen != seen:
                step = max((self._read(folder, path) for path in logs), default=0)
                step = step or max((self._read(folder, path) for path in printed), default=0)
                if not step and before is not None:  # written anew at the moment, or its end is a long image
                    step = before.step
                before = self._looks[folder] = _Look(seen, step)
        except OSError:  # removed, or begun anew, meanwhile
            return None
        return before.step or None

    def _read(self, folder: Path, path: Path) -> int:
        """The last step of one log, 0 where it does not tell: a run may be logged in several ways at once."""
        if not (text := _ends(path)):
            return 0
        with TemporaryDirectory(prefix="lawfit-", ignore_cleanup_errors=True) as name:
            copy = Path(name) / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(text)
            try:
                return logged_step(Path(name), format_name=self._format)
            except LogFormatError:
                return 0


def _files(folder: Path, depth: int) -> Iterator[Path]:
    for _, path in zip(range(_MOST_SEEN), folder.iterdir(), strict=False):
        if path.is_symlink():
            continue
        if path.is_file():
            yield path
        elif depth > 1 and path.is_dir():
            yield from _files(path, depth - 1)


def _ends(path: Path) -> bytes | None:
    """A short log of the same kind; None of a file that tells nothing."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    format_ = next((each for each in _GROWING if each.sniff(path, head)), None)
    return _lines(path) if format_ is None else format_.ends(path)


def _lines(path: Path) -> bytes | None:
    """Whole lines from the beginning and the end of a file; None of one that is no text."""
    with path.open("rb") as file:
        head = file.read(_HEAD + _TAIL)
        size = file.seek(0, 2)
        text = head[: head.rfind(b"\n") + 1]
        if size > len(head):
            file.seek(size - _TAIL)
            tail = file.read(_TAIL)
            head = head[:_HEAD]
            text = head[: head.rfind(b"\n") + 1] + tail[tail.find(b"\n") + 1 : tail.rfind(b"\n") + 1]
    return None if b"\x00" in text or not text else text
