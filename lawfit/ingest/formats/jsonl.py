"""JSON lines, or one JSON document: an object per run; nested objects become columns ``outer.inner``."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawfit.errors import LogFormatError
from lawfit.ingest.source import TextLines, open_bytes, read_head, require_text
from lawfit.ingest.table import Table, table_of_objects
from lawfit.records import Rejection


@dataclass(frozen=True)
class JsonLines:
    """One JSON object per line. `NaN` and `Infinity`, which Python writes, are read as such."""

    name: str = "jsonl"

    def sniff(self, path: Path, head: bytes) -> bool:
        suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
        if suffixes and suffixes[-1] in (".jsonl", ".ndjson", ".json"):
            return True
        return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")

    def read(self, path: Path) -> Table:
        head = read_head(path)
        require_text(path, head)
        found = _of_document(path) if _is_document(head) else _of_one_line(path, head)
        if found is not None:
            return table_of_objects(path.name, self.name, enumerate(found, start=1), [])
        lines = TextLines(path)
        table = table_of_objects(path.name, self.name, _objects(lines, path), lines.rejections)
        return dataclasses.replace(table, notes=tuple(lines.notes()))


def _is_document(head: bytes) -> bool:
    """Whether the first line is no object of its own: an array, or an object over several lines."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        return True
    first, more, _ = text.partition(b"\n")
    return bool(more) and text.startswith(b"{") and first.rstrip().endswith((b",", b"{", b"[", b":"))


def _of_document(path: Path) -> list[dict[str, Any]]:
    """The runs of one document: its array, the only array of objects in it, or itself as one run.

    Raises
    ------
    LogFormatError
        It is not JSON, or holds no objects.
    """
    try:
        with open_bytes(path) as file:
            document = json.loads(file.read().decode("utf-8-sig"), object_pairs_hook=_distinct)
    except (ValueError, RecursionError, OSError, EOFError, zlib.error) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise LogFormatError(f"{path} is no JSON document and no JSON lines: {reason}") from None
    if isinstance(document, dict):
        arrays = [value for value in document.values() if _is_array_of_objects(value)]
        if len(arrays) == 1 and "log_history" not in document:
            document = arrays[0]
        else:
            document = _of_object(document) or [document]
    if not _is_array_of_objects(document):
        raise LogFormatError(f"{path} holds no array of JSON objects; write one object per run")
    return list(document)


def _of_one_line(path: Path, head: bytes) -> list[dict[str, Any]] | None:
    """The runs of an object that is the only line of its file and more than a run; None of any other file."""
    if b"\n" in head.strip() or {".jsonl", ".ndjson"}.intersection(map(str.lower, path.suffixes)):
        return None
    try:
        with open_bytes(path) as file:
            document = json.loads(file.read().decode("utf-8-sig"), object_pairs_hook=_distinct)
    except (ValueError, RecursionError, OSError, EOFError, zlib.error):
        return None  # several lines, the first of them long; or said of its line
    return _of_object(document) if isinstance(document, dict) else None


def _of_object(document: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Runs by their names, or a data frame as pandas writes it (orient "columns", "list", "index", ...)."""
    columns, data = document.get("columns"), document.get("data")
    if isinstance(columns, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        if len({len(row) for row in data} | {len(columns)}) == 1:
            return [_distinct([(str(name), cell) for name, cell in zip(columns, row, strict=True)]) for row in data]
        return None
    if isinstance(document.get("schema"), dict) and _is_array_of_objects(data):
        return [{name: cell for name, cell in row.items() if name != "index"} for row in document["data"]]
    inner = list(document.values())
    if len(inner) > 1 and all(isinstance(value, list) and len(value) > 1 for value in inner):
        if len({len(value) for value in inner}) == 1:
            return [dict(zip(document, cells, strict=True)) for cells in zip(*inner, strict=True)]
        return None
    within = [value for value in inner if isinstance(value, dict) and len(value) > 2]
    if len(within) == 1 and all(isinstance(value, dict) and value for value in within[0].values()):
        return _of_object(within[0])
    if len(inner) < 2 or not all(isinstance(value, dict) and value for value in inner):
        return None
    rows = list(inner[0])
    if all(name.isdecimal() for name in rows) and all(list(value) == rows for value in inner):
        return [{name: value[row] for name, value in document.items()} for row in rows]
    if _alike(inner):
        return [{"run_id": name, **value} for name, value in document.items()]
    return None


def _alike(objects: list[dict[str, Any]]) -> bool:
    """Whether objects are runs: parts of one run (its model, its optimizer) have few keys in common."""
    keys = [set(item) for item in objects]
    return 2 * len(set.intersection(*keys)) >= len(set.union(*keys))


def _is_array_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _objects(lines: TextLines, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, text in lines:
        if not text.strip():
            continue
        try:
            item = json.loads(text, object_pairs_hook=_distinct)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else f"not JSON: {error}"
            lines.rejections.append(Rejection(file=path.name, line=number, column=None, reason=reason))
            continue
        if isinstance(item, dict):
            yield number, item
        else:
            reason = f"a JSON object is wanted, this is a {type(item).__name__}"
            lines.rejections.append(Rejection(file=path.name, line=number, column=None, reason=reason))


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    item = dict(pairs)
    if len(item) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"'{twice}' is given twice")
    return item


JSONL = JsonLines()
