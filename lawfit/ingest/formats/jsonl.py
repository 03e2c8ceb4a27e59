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
        if _is_document(head):
            return table_of_objects(path.name, self.name, enumerate(_of_document(path), start=1), [])
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
        elif document and all(isinstance(value, dict) for value in document.values()) and len(document) > 1:
            document = [{"run_id": name, **value} for name, value in document.items()]
        else:
            document = [document]
    if not _is_array_of_objects(document):
        raise LogFormatError(f"{path} holds no array of JSON objects; write one object per run")
    return list(document)


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
