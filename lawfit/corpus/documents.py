"""Sources -> documents: files, folders and JSON lines are read once, copies are dropped, what is no text is listed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import sysconfig
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, cast

from lawfit.corpus.files import CorpusError
from lawfit.corpus.making import Progress

LINES = (".jsonl", ".ndjson")
GZIP = ".gz"
PACKED = (".zst", ".zip", ".bz2", ".xz", ".parquet", ".tar", ".tgz")  # often met, and not read
REPORT_EVERY = 200  # documents
SUFFIXES_SHOWN = 5

# Reasons that tell of broken input, not of files that merely are no documents.
BROKEN = ("unreadable", "not JSON", "no text")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is read of the sources, and what of it is a document."""

    suffixes: tuple[str, ...] = (".py",)  # of the files taken from folders
    text_field: str = "text"  # of JSON lines
    max_bytes: int = 1_000_000  # larger sources are generated tables
    cut: bool = False  # cut larger texts into pieces instead of leaving them out
    ignore_space: bool = False  # texts that differ in white space alone are copies


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Something that is no document, and why."""

    source: str
    line: int | None
    reason: str  # one of a few, for counting
    detail: str


@dataclass(frozen=True, kw_only=True)
class Documents:
    """Texts in one file, found by the hash of each."""

    file: Path
    places: dict[bytes, tuple[int, int]]  # SHA-256 of a text -> first byte and length
    duplicates: int
    rejected: dict[str, int]  # by reason
    first: Rejection | None  # of those

    def texts(self, digests: Iterable[bytes]) -> Iterator[str]:
        with self.file.open("rb") as file:
            for digest in digests:
                yield read_text(file, self.places[digest])

    def size(self, digests: Iterable[bytes]) -> int:
        """Bytes of text."""
        return sum(self.places[digest][1] for digest in digests)


def read_text(file: IO[bytes], place: tuple[int, int]) -> str:
    """One text from the file of `Documents`."""
    file.seek(place[0])
    return file.read(place[1]).decode()


def python_sources() -> list[Path]:
    """Folders with the Python sources of this interpreter: standard library and installed packages."""
    paths = sysconfig.get_paths()
    folders = {Path(paths[name]).resolve() for name in ("stdlib", "purelib", "platlib")}
    return sorted(folder for folder in folders if folders.isdisjoint(folder.parents))


def gather(
    sources: Sequence[Path],
    reading: Reading,
    *,
    file: Path,
    rejections: Path,
    leave_out: Path | None,
    progress: Progress,
) -> Documents:
    """Read every document once into one file; only their hashes stay in memory.

    Parameters
    ----------
    file, rejections : paths
        Written: the texts one after another, and a JSON line for each rejected one.
    leave_out : path
        A folder not to look into.

    Raises
    ------
    CorpusError
        A source that is not there, or no document in any.
    """
    places: dict[bytes, tuple[int, int]] = {}
    kept: dict[bytes, bytes] = {}  # hash without white space -> hash
    duplicates, rejected, end = 0, Counter[str](), 0
    first: Rejection | None = None
    with file.open("wb") as texts, rejections.open("w", encoding="utf-8") as log:
        for number, item in enumerate(_candidates(sources, reading, leave_out)):
            if number % REPORT_EVERY == 0:
                progress(f"{len(places):,} documents read", 0.0)
            if isinstance(item, Rejection):
                rejected[item.reason] += 1
                first = first or item
                log.write(json.dumps(asdict(item)) + "\n")
                continue
            digest = hashlib.sha256(item).digest()
            if digest in places:
                duplicates += 1
                continue
            if reading.ignore_space:
                words = hashlib.sha256(b" ".join(item.split())).digest()
                rival = kept.get(words, digest)
                duplicates += rival != digest
                if rival < digest:
                    continue
                kept[words] = digest  # the smaller hash stays, in whatever order the files come
                places.pop(rival, None)
            places[digest] = (end, len(item))
            end += texts.write(item)
    if not places:
        raise CorpusError(_nothing_found(sources, reading, rejected, first))
    return Documents(
        file=file, places=places, duplicates=duplicates, rejected=dict(sorted(rejected.items())), first=first
    )


def left_out(rejected: Mapping[str, int], first: Rejection) -> str:
    """How much was no document and why, with the first of it: ``2 not JSON (web.jsonl, line 3: ...)``."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(rejected.items()))
    place = first.source if first.line is None else f"{first.source}, line {first.line}"
    return f"{reasons} ({place}: {first.detail})"


def _nothing_found(sources: Sequence[Path], reading: Reading, rejected: Counter[str], first: Rejection | None) -> str:
    where = ", ".join(map(str, sources))
    if first is not None:
        advice = "; --cut makes pieces of large texts" if "too large" in rejected else ""
        return f"no document found in {where}: {left_out(rejected, first)}{advice}"
    if not any(source.is_dir() for source in sources):
        return f"no document found in {where}: nothing but empty lines"
    found: Counter[str] = Counter()
    for source in sources:
        found.update(path.suffix for path in _files_below(source, ("",), None, []) if path.suffix)
    told = f"no file in {where} ends in {' or '.join(reading.suffixes)}"
    if not found:
        return told
    shown = ", ".join(f"{count:,} in {suffix}" for suffix, count in found.most_common(SUFFIXES_SHOWN))
    return f"{told}; there are {shown}: name what to read with --suffix"


def _candidates(sources: Sequence[Path], reading: Reading, leave_out: Path | None) -> Iterator[bytes | Rejection]:
    for source in sources:
        if source.is_dir():
            errors: list[OSError] = []
            for path in _files_below(source, reading.suffixes, leave_out, errors):
                yield from _documents_in(path, reading, named=False)
            for error in errors:
                yield Rejection(source=str(error.filename), line=None, reason="unreadable", detail=str(error.strerror))
        elif source.name.endswith(PACKED):
            raise CorpusError(f"{source} cannot be read; unpack it first ({', '.join(LINES)}, .gz and text are read)")
        else:
            try:
                source.stat()
            except OSError as error:
                raise CorpusError(f"{source} cannot be read: {error.strerror or error}") from None
            yield from _documents_in(source, reading, named=True)


def _files_below(
    folder: Path, suffixes: tuple[str, ...], leave_out: Path | None, errors: list[OSError]
) -> Iterator[Path]:
    """Links to folders are not followed; folders that cannot be listed go to `errors`."""
    for root, folders, names in os.walk(folder, onerror=errors.append):
        folders[:] = [name for name in folders if Path(root, name).resolve() != leave_out]
        yield from (Path(root, name) for name in names if name.endswith(suffixes))


def _documents_in(path: Path, reading: Reading, *, named: bool) -> Iterator[bytes | Rejection]:
    """The documents of one file; a file that cannot be read (to its end) is a rejection."""

    def reject(reason: str, detail: str) -> Rejection:
        return Rejection(source=str(path), line=None, reason=reason, detail=detail)

    if not named and not path.is_file():
        yield reject("not a file", "a dangling link, a pipe or a device")
        return
    try:
        with _opened(path) as stream:
            if path.name.removesuffix(GZIP).endswith(LINES):
                yield from _lines(stream, str(path), reading)
                return
            for text in _pieces(stream, reading.max_bytes) if reading.cut else [stream.read(reading.max_bytes + 1)]:
                problem = _problem(text, reading)
                # A folder's files were chosen by suffix. (Checking those too would change existing corpora.)
                if problem is None and named and b"\0" in text:
                    problem = ("binary", "it holds NUL bytes")
                yield text if problem is None else reject(*problem)
    except (OSError, EOFError, zlib.error) as error:
        yield reject("unreadable", str(error))


def _opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == GZIP else path.open("rb")


def _lines(stream: IO[bytes], source: str, reading: Reading) -> Iterator[bytes | Rejection]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        for item in _line(line, reading):
            if isinstance(item, bytes):
                yield item
            else:
                yield Rejection(source=source, line=number, reason=item[0], detail=item[1])


def _line(line: bytes, reading: Reading) -> Iterator[bytes | tuple[str, str]]:
    """The text of one JSON line, in pieces if asked; or why there is none."""
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError:
        yield "not UTF-8", "the line is not UTF-8"
        return
    except (ValueError, RecursionError) as error:
        yield "not JSON", str(error)
        return
    text = value.get(reading.text_field) if isinstance(value, dict) else None
    if not isinstance(text, str):
        yield "no text", _instead_of_text(value, reading.text_field)
        return
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        yield "not UTF-8", "the text holds half of a surrogate pair"
        return
    for piece in _pieces(io.BytesIO(raw), reading.max_bytes) if reading.cut else [raw]:
        yield _problem(piece, reading) or piece


def _instead_of_text(value: object, field: str) -> str:
    if not isinstance(value, dict):
        return f'not an object with a text "{field}", but {_kind(value)}'
    if field in value:
        return f'its "{field}" is {_kind(value[field])}, not a text'
    return f'not an object with a text "{field}", but {", ".join(value) or "an empty one"}'


def _kind(value: object) -> str:
    """What JSON calls a value."""
    if value is None:
        return "null"
    kinds = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return kinds[type(value)]


def _problem(text: bytes, reading: Reading) -> tuple[str, str] | None:
    """Why this is no document, if it is none."""
    if len(text) > reading.max_bytes:
        return "too large", f"more than {reading.max_bytes:,} bytes"
    try:
        empty = not text.decode().strip()
    except UnicodeDecodeError as error:
        return "not UTF-8", f"byte {error.start} is not UTF-8"
    return ("empty", "nothing but white space") if empty else None


def _pieces(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """Pieces of at most `size` bytes, cut at the last empty line, else at a line's end, else between characters."""
    left = b""
    while block := stream.read(size - len(left)):
        left += block
        if len(left) < size:
            continue
        cut = left.rfind(b"\n\n") + 2
        if cut < 2:
            cut = left.rfind(b"\n") + 1
        if cut < 1:
            cut = size
            while cut > size - 4 and left[cut - 1] & 0xC0 == 0x80:  # inside a character of several bytes
                cut -= 1
            cut -= left[cut - 1] >= 0xC0
        yield left[:cut]
        left = left[cut:]
    if left:
        yield left
