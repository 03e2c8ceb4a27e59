"""How far a run is, from its log as it grows: a look costs the same however long the log has become."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from lawfit.errors import LogFormatError
from lawfit.ingest.one_run import read_one_run

_HEAD: Final = 1 << 13  # bytes from the beginning of a file: what its columns are called
_TAIL: Final = 1 << 15  # and from its end
_MOST_FILES: Final = 3  # that were written to last
_MOST_SEEN: Final = 200  # entries of a folder
_DEPTH: Final = 3

_Seen = tuple[tuple[str, int], ...]  # files and their sizes


@dataclass
class _Look:
    seen: _Seen
    step: int | None


class LastSteps:
    """The last step that each run logged. Text that has a line for each is read; what else there is says nothing.

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
            logs = [path for path in files if path.name != self._output][:_MOST_FILES]
            files = [*logs, *(path for path in files if path == folder / self._output)]
            seen = tuple((str(path), path.stat().st_size) for path in files)
            before = self._looks.get(folder)
            if before is None or before.seen != seen:
                before = self._looks[folder] = _Look(seen, self._read(folder, files))
        except OSError:  # removed, or begun anew, meanwhile
            return None
        return before.step

    def _read(self, folder: Path, files: list[Path]) -> int | None:
        with TemporaryDirectory(prefix="lawfit-", ignore_cleanup_errors=True) as name:
            for path in files:
                if (text := _ends(path)) is not None:
                    copy = Path(name) / path.relative_to(folder)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_bytes(text)
            try:
                found = read_one_run(Path(name), "run", format_name=self._format, output=self._output)
            except LogFormatError:
                return None
        return found.last_step or None


def _files(folder: Path, depth: int) -> Iterator[Path]:
    for _, path in zip(range(_MOST_SEEN), folder.iterdir(), strict=False):
        if path.is_symlink():
            continue
        if path.is_file():
            yield path
        elif depth > 1 and path.is_dir():
            yield from _files(path, depth - 1)


def _ends(path: Path) -> bytes | None:
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
