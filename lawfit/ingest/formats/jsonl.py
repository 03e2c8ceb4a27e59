"""JSON lines: one object per run and line; nested objects become columns ``outer.inner``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawfit.errors import LogFormatError
from lawfit.ingest.source import TextLines, read_head, require_text
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
        if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
            raise LogFormatError(f"{path} is one JSON array; write one object per line (jq -c '.[]' {path.name})")
        lines = TextLines(path)
        table = table_of_objects(path.name, self.name, _objects(lines, path), lines.rejections)
        return dataclasses.replace(table, notes=tuple(lines.notes()))


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
