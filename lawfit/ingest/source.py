"""Files as lines of text, read with bounds: whatever a file holds, no more than a line of it is in memory."""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import time
import zlib
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from lawfit.errors import LogFormatError, Unreadable
from lawfit.records import Rejection

MAX_LINE_BYTES: Final = 1 << 20  # a row of a table of runs has some hundred bytes
HEAD_BYTES: Final = 1 << 16
_LIVE_SECONDS: Final = 86_400.0  # a file that was written to since may be in writing
_GZIP: Final = b"\x1f\x8b"
_MARK: Final = b"\xef\xbb\xbf"  # of the order of bytes


def without_password(uri: str) -> str:
    """A URI as it may be shown; any other text as it is."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", uri)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where tables are read from: a file, the logs of one kind in a folder tree, or a database by its URI."""

    format: str
    root: Path  # from which files are named
    paths: tuple[Path, ...] = ()
    uri: str = ""
    tree: bool = False  # found in a folder, not named as a file
    notes: tuple[str, ...] = ()  # about how it was found
    skipped: tuple[Rejection, ...] = ()  # what could not be read where it was found
    known: Mapping[str, int] = field(default_factory=dict)  # runs of a server that are stored, and their last step

    @property
    def name(self) -> str:
        """For messages; also what its recipe is called, where a project has no name."""
        if self.uri:
            return re.split(r"[/?]", self.uri.partition("://")[2] + "/")[1] or "database"
        return self.paths[0].name if len(self.paths) == 1 and not self.tree else self.root.resolve().name or "logs"

    def __str__(self) -> str:
        if self.uri:
            return without_password(self.uri)
        return str(self.paths[0]) if len(self.paths) == 1 else f"{len(self.paths):,} logs in {self.root}"


def read_head(path: Path) -> bytes:
    """The first bytes of a file, unpacked when it is gzipped.

    Raises
    ------
    LogFormatError
        Missing, a folder, empty, unreadable (`Unreadable`), or plainly not a table.
    """
    if not path.exists():
        raise LogFormatError(f"{path}: there is no such file")
    if path.is_dir():
        raise LogFormatError(f"{path} is a folder; name the files in it, e.g. {path / '*.csv'}")
    if not path.is_file():
        raise LogFormatError(f"{path} is not a regular file; write the table to a file first")
    try:
        with open_bytes(path) as file:
            head = file.read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not head.strip(b"\xef\xbb\xbf \t\r\n"):
        raise LogFormatError(f"{path} is empty")
    return head


def open_bytes(path: Path) -> IO[bytes]:
    """Open for reading, through gzip where the content is gzipped."""
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    return gzip.open(path) if packed else path.open("rb")  # type: ignore[return-value]


def require_text(path: Path, head: bytes) -> None:
    """Refuse what is not lines of text.

    Raises
    ------
    LogFormatError
        UTF-16, binary, or line ends that only old Macs write.
    """
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise LogFormatError(f"{path} is UTF-16 text; save it as UTF-8 (in Excel: 'CSV UTF-8')")
    if b"\x00" in head:
        raise LogFormatError(f"{path} is a binary file, not a table of text")
    if b"\r" in head and b"\n" not in head and len(head) < HEAD_BYTES:
        raise LogFormatError(f"{path} ends its lines with CR alone; save it with LF or CRLF line ends")


def has_ended(path: Path, quiet_seconds: float) -> bool:
    """Whether the last line of a file has ended, or nobody has written to it for a while.

    One that is being written may say another thing: 0.00 of 0.002.

    Raises
    ------
    OSError
        It cannot be read.
    """
    if time.time() - path.stat().st_mtime >= quiet_seconds:
        return True
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


_LIVE: Final[ContextVar[float | None]] = ContextVar("_LIVE", default=None)


@contextmanager
def live(quiet_seconds: float) -> Iterator[None]:
    """While logs are read that may be in writing: a last line that has not ended is not there yet."""
    before = _LIVE.set(quiet_seconds)
    try:
        yield
    finally:
        _LIVE.reset(before)


class TextLines:
    """The lines of a file with their numbers, less line ends and byte-order mark.

    A line that is too long or holds NUL is skipped and stands in `rejections`. A line that is not UTF-8 is read as
    latin-1, which never fails and leaves all numbers and column names in ASCII as they are; `notes` says so.

    Where a line that is cut off looks like a whole one (`cuttable`: 3.2 of 3.25), a last line without an end is left
    out while the file is in writing; `cut` is its number. `ended` says whether the last line that was given has an end.
    """

    def __init__(self, path: Path, *, cuttable: bool = False) -> None:
        self._path, self._cuttable = path, cuttable
        self.cut: int | None = None
        self.ended = True
        self._waiting: deque[tuple[int, str]] = deque()
        self._latin: list[int] = []
        self.rejections: list[Rejection] = []
        self._lines = self._read()

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return self

    def __next__(self) -> tuple[int, str]:
        return self._waiting.popleft() if self._waiting else next(self._lines)

    def put_back(self, lines: list[tuple[int, str]]) -> None:
        """Give lines again, before all others."""
        self._waiting.extendleft(reversed(lines))

    def notes(self) -> list[str]:
        """What a reader of the report should know about the text."""
        if not self._latin:
            return []
        where = ", ".join(map(str, self._latin[:5])) + (", ..." if len(self._latin) > 5 else "")
        return [f"not UTF-8, so read as latin-1: line {where} ({len(self._latin)} in all); check the names there"]

    def _read(self) -> Iterator[tuple[int, str]]:
        try:
            with open_bytes(self._path) as file:
                yield from self._decoded(file)
        except (OSError, EOFError, zlib.error) as error:
            raise LogFormatError(f"{self._path} cannot be read to its end: {error}") from None

    def _decoded(self, file: IO[bytes]) -> Iterator[tuple[int, str]]:
        number, begun = 0, self._path.stat()
        while block := file.read(MAX_LINE_BYTES):
            block += b"" if block.endswith(b"\n") else file.readline(MAX_LINE_BYTES + 1)
            if (texts := _plain_lines(block)) is not None and (number or not block.startswith(_MARK)):
                self.ended = True
                yield from enumerate(texts, number + 1)
                number += len(texts)
            else:
                last = yield from self._with_care(block, file, number, begun)
                if last is None:
                    return
                number = last

    def _with_care(
        self, block: bytes, file: IO[bytes], number: int, begun: os.stat_result
    ) -> Generator[tuple[int, str], None, int | None]:
        """Lines of a block one by one; the number of the last, None where those after it are in writing."""
        for raw in io.BytesIO(block):
            number += 1
            self.ended = raw.endswith(b"\n")
            if not self.ended and (quiet := _LIVE.get()) is not None and not has_ended(self._path, quiet):
                return None
            if self._cuttable and not self.ended and _in_writing(self._path, begun):
                self.cut = number
                return None
            if len(raw) > MAX_LINE_BYTES:
                while raw and not raw.endswith(b"\n"):
                    raw = file.readline(MAX_LINE_BYTES)
                if number == 1:
                    raise LogFormatError(
                        f"{self._path}: the first line is longer than {MAX_LINE_BYTES >> 20} MiB; "
                        "this is not a table of runs"
                    )
                self._reject(number, f"the line is longer than {MAX_LINE_BYTES >> 20} MiB")
                continue
            if b"\x00" in raw:
                self._reject(number, "the line holds NUL bytes")
                continue
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                self._latin.append(number)
                text = raw.removeprefix(_MARK).decode("latin-1")
            yield number, text.rstrip("\r\n")
        return number

    def _reject(self, line: int, reason: str) -> None:
        self.rejections.append(Rejection(file=self._path.name, line=line, column=None, reason=reason))


def _plain_lines(block: bytes) -> list[str] | None:
    """Lines that have ended, in UTF-8 and none too long; None where some have to be looked at."""
    lines = block.split(b"\n")
    if b"\x00" in block or lines.pop() or max(map(len, lines)) >= MAX_LINE_BYTES:
        return None
    try:
        texts = block.decode().split("\n")
    except UnicodeDecodeError:
        return None
    del texts[-1]
    return [text.rstrip("\r") for text in texts] if b"\r" in block else texts


def _in_writing(path: Path, begun: os.stat_result) -> bool:
    """Whether a process has a file open to write, or has changed it since `begun`; where Linux does not say, no."""
    if time.time() - begun.st_mtime > _LIVE_SECONDS:
        return False
    for process in Path("/proc").glob("[0-9]*"):
        try:
            with os.scandir(process / "fd") as descriptors:
                writing = [each for each in descriptors if each.stat(follow_symlinks=False).st_mode & stat.S_IWUSR]
            if any(os.path.samestat(each.stat(), begun) for each in writing):
                return True
        except OSError:  # it has just ended, or is another user's
            continue
    now = path.stat()
    return (now.st_size, now.st_mtime_ns) != (begun.st_size, begun.st_mtime_ns)


def whole_lines(path: Path, *, cuttable: bool = False) -> Iterator[tuple[int, str, bool]]:
    """Number and text of each line, and whether it is the last, which may be in writing; `cuttable` as of `TextLines`.

    Raises
    ------
    LogFormatError
        A line that no text has: too long, or with NUL, as a disk leaves where data was lost.
    """
    lines = TextLines(path, cuttable=cuttable)
    waiting: tuple[int, str] | None = None
    for number, text in lines:
        if waiting is not None:
            yield *waiting, False
        _require_all(lines, path)
        waiting = number, text
    _require_all(lines, path)
    if waiting is not None:
        yield *waiting, True


def _require_all(lines: TextLines, path: Path) -> None:
    for refused in lines.rejections:
        raise LogFormatError(f"{path}: line {refused.line}: {refused.reason}; the log is damaged")
