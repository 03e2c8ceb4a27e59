"""Logs in a folder tree: which files are logs, of which format, and which belong together."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from lawfit.errors import LogFormatError, Unreadable
from lawfit.findings import Finding, finding
from lawfit.ingest.changes import Kept
from lawfit.ingest.run_log import RunLogs, place
from lawfit.ingest.source import Source, read_head
from lawfit.ingest.table import LogFormat
from lawfit.records import Rejection

_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages"})
# A table among other files is one by its suffix only: any text could be a table of one column.
_TABLES: Final = frozenset({".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".parquet", ".pq"})
_GENERIC: Final = frozenset({"csv", "tsv", "jsonl", "parquet"})
_MOST_NAMED: Final = 5  # where nothing else is found
WEIGHTS: Final = frozenset({".pt", ".pth", ".bin", ".safetensors", ".ckpt", ".npy", ".npz", ".pkl", ".png", ".zip"})


@dataclass
class _Walk:
    """A tree while it is walked."""

    formats: Sequence[LogFormat]
    kept: Kept
    found: dict[str, list[Path]] = field(default_factory=dict)
    skipped: list[Rejection] = field(default_factory=list)
    nowhere: list[str] = field(default_factory=list)  # links
    _seen: set[tuple[int, int]] = field(default_factory=set)

    def below(self, root: Path) -> None:
        """Depth first, without recursion: a tree may be deeper than a stack."""
        waiting = [root]
        while waiting:
            folder = waiting.pop()
            try:
                stat = folder.stat()
                with os.scandir(folder) as entries:
                    listed = sorted(entries, key=lambda entry: (entry.is_symlink(), _natural(entry.name)))
            except OSError as error:
                why = finding("ingest.unreadable_folder", reason=error.strerror or str(error))
                self.skipped.append(_rejected(folder, root, why))
                continue
            if (stat.st_dev, stat.st_ino) in self._seen:
                continue  # a link to where we were
            self._seen.add((stat.st_dev, stat.st_ino))
            inner = self._folder(listed, root)
            waiting.extend(reversed(inner))

    def _folder(self, entries: Sequence[os.DirEntry[str]], root: Path) -> list[Path]:
        """Take the logs of a folder; the folders in it that are to be walked."""
        inner, whole = list[Path](), False
        for entry in entries:
            path = Path(entry.path)
            if _is(entry, folder=True):
                if not entry.name.startswith(".") and entry.name not in _SKIPPED:
                    inner.append(path)
            elif _is(entry, folder=False) and not (entry.is_symlink() and _inside(path, root)):
                log_format = self.kept.of("format", path, partial(self._format, path, root))
                if log_format is not None:
                    self.found.setdefault(log_format.name, []).append(path)
                    whole = whole or getattr(log_format, "whole_folder", False)
            elif entry.is_symlink() and not path.exists():
                self.nowhere.append(place(path, root))
        return [] if whole else inner

    def _format(self, path: Path, root: Path) -> LogFormat | None:
        suffix = path.suffix.lower()
        if suffix in WEIGHTS:
            return None
        try:
            head = read_head(path)
        except Unreadable as error:
            cause = error.__cause__
            why = finding("ingest.unreadable", reason=getattr(cause, "strerror", None) or str(cause))
            self.skipped.append(_rejected(path, root, why))
            return None
        except LogFormatError:
            return None  # empty
        for log_format in self.formats:
            if log_format.name in _GENERIC and Path(path.name.lower().removesuffix(".gz")).suffix not in _TABLES:
                continue
            if getattr(log_format, "sniff_in_tree", log_format.sniff)(path, head):
                return log_format
        return None


def sources_below(root: Path, formats: Sequence[LogFormat], kept: Kept) -> list[Source]:
    """The sources in a folder and below it: tables one by one, the runs of a tracker together.

    Links that lead back are followed once, folders that cannot be read are said, and of a run that was logged in two
    ways into one folder the first of the formats is taken.

    Raises
    ------
    LogFormatError
        There is none.
    """
    walk = _Walk(formats, kept)
    walk.below(root)
    if "trainer" in walk.found:  # what else lies among its logs is told by it, as it may be one that is damaged
        walk.found["trainer"] = sorted([*walk.found["trainer"], *walk.found.pop("jsonl", [])])
    sources, homes = list[Source](), set[Path]()
    for log_format in formats:
        paths = [path for path in walk.found.get(log_format.name, []) if homes.isdisjoint(path.parents)]
        if hasattr(log_format, "read_files") and paths:
            home = _common(paths, root) if isinstance(log_format, RunLogs) else root
            sources.append(Source(format=log_format.name, root=home, paths=tuple(paths), tree=True))
        else:
            sources += [Source(format=log_format.name, root=root, paths=(path,)) for path in paths]
        if isinstance(log_format, RunLogs):
            homes.update(own for path in paths if (own := log_format.home(path)) is not None)
    if not sources:
        unread = "".join(f"; {item.file}: {item.reason}" for item in walk.skipped[:_MOST_NAMED])
        raise LogFormatError(
            f"{root} is a folder without logs that lawfit reads{unread}; name the files in it, e.g. {root / '*.csv'}"
        )
    # Said once, with the first: what was passed over belongs to none of them.
    sources[0] = dataclasses.replace(sources[0], notes=_of_links(walk.nowhere), skipped=tuple(walk.skipped))
    return sources


def _common(paths: Sequence[Path], root: Path) -> Path:
    """The folder that all are in: a name for them that does not depend on where the walk began."""
    common = Path(os.path.commonpath([path.parent for path in paths]))
    return common if root in (common, *common.parents) else root


def _rejected(path: Path, root: Path, why: Finding) -> Rejection:
    return Rejection(file=place(path, root), line=None, column=None, reason=str(why))


def _of_links(nowhere: Sequence[str]) -> tuple[str, ...]:
    if not nowhere:
        return ()
    return (str(finding("ingest.links_to_nowhere", links=len(nowhere), names=list(nowhere))),)


def _is(entry: os.DirEntry[str], *, folder: bool) -> bool:
    """Whether it is a folder, or a regular file: a pipe would wait for its writer for ever."""
    try:
        return entry.is_dir() if folder else entry.is_file()
    except OSError:
        return False


def _inside(link: Path, root: Path) -> bool:
    """Whether the file of a link is in the tree itself, and so found without it."""
    try:
        return root.resolve() in link.resolve().parents
    except (OSError, RuntimeError):
        return True  # a loop


def _natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """Order in which checkpoint-20 comes before checkpoint-100."""
    return tuple(_pieces(name))


def _pieces(name: str) -> Iterator[tuple[int, int | str]]:
    for piece in re.split(r"(\d+)", name):
        yield (0, int(piece)) if piece.isdigit() and piece.isascii() else (1, piece)
