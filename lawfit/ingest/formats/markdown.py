"""Tables in Markdown: of a file, the first one that has the columns of runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lawfit.errors import LogFormatError
from lawfit.findings import finding
from lawfit.ingest.metrics import kind_of
from lawfit.ingest.names import rank_of
from lawfit.ingest.source import TextLines, read_head, require_text
from lawfit.ingest.table import Row, Table, require_distinct
from lawfit.records import Rejection

_SUFFIXES: Final = (".md", ".markdown", ".mdx", ".qmd", ".rmd")
_OTHERS: Final = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".parquet", ".xlsx")
_RULE: Final = re.compile(r"\s*\|?(\s*:?-+:?\s*\|)+(\s*:?-+:?\s*)?")  # between a header and its rows
_BAR: Final = re.compile(r"(?<!\\)\|")
_MARKS: Final = re.compile(r"\*\*|__|`")
_SETTINGS: Final = ("lr", "params", "tokens", "steps", "batch_tokens", "batch_sequences", "batch_unstated")

Numbered = tuple[int, str]


class Markdown:
    """Cells between bars, below a header with a rule of dashes."""

    name = "markdown"

    def sniff(self, path: Path, head: bytes) -> bool:
        return path.suffix.lower() not in _OTHERS and bool(_tables(_numbered(head)))

    def sniff_in_tree(self, path: Path, head: bytes) -> bool:
        """Most Markdown in a tree is prose: a table must have a loss and what it was trained with."""
        return path.suffix.lower() in _SUFFIXES and any(_is_of_runs(table) for table in _tables(_numbered(head)))

    def read(self, path: Path) -> Table:
        require_text(path, read_head(path))
        lines = TextLines(path)
        tables = _tables(list(lines))
        if not tables:
            raise LogFormatError(finding("ingest.no_markdown_table", file=str(path)))
        at, chosen = next((k, table) for k, table in enumerate(tables) if _is_of_runs(table) or table is tables[-1])
        columns = tuple(cell or f"column {place}" for place, cell in enumerate(_cells(chosen[0][1]), start=1))
        require_distinct(columns, path.name)
        rows: list[Row] = []
        for number, text in chosen[1:]:
            cells = _cells(text)
            if len(cells) != len(columns):
                reason = f"the row has {len(cells)} cells, the header has {len(columns)} columns"
                lines.rejections.append(Rejection(file=path.name, line=number, column=None, reason=reason))
            elif any(cells):
                rows.append((number, tuple(cells)))
        if not rows and not lines.rejections:
            raise LogFormatError(f"{path} has a header and no rows")
        others = [table[0][0] for k, table in enumerate(tables) if k != at]
        said = (str(finding("ingest.one_of_tables", line=chosen[0][0], others=others)),) if others else ()
        return Table(
            name=path.name,
            format=self.name,
            columns=columns,
            rows=tuple(rows),
            rejections=tuple(lines.rejections),
            notes=(*lines.notes(), *said),
        )


def _numbered(head: bytes) -> list[Numbered]:
    return list(enumerate(head.decode("utf-8-sig", "replace").splitlines(), start=1))


def _tables(lines: Sequence[Numbered]) -> list[list[Numbered]]:
    """Header and rows of each table, with their line numbers; the rules are left out."""
    found: list[list[Numbered]] = []
    inside = False
    for (number, text), (_, before) in zip(lines[1:], lines, strict=False):
        if _RULE.fullmatch(text) and len(_cells(before)) == len(_cells(text)) > 1 and not inside:
            found.append([(number - 1, before)])
            inside = True
        elif inside and "|" in text:
            found[-1].append((number, text))
        else:
            inside = False
    return found


def _is_of_runs(table: Sequence[Numbered]) -> bool:
    columns = _cells(table[0][1])
    told = {name for name in _SETTINGS for column in columns if rank_of(column, name) is not None}
    return len(told) > 1 and any(kind_of(column) for column in columns)


def _cells(text: str) -> list[str]:
    bare = text.strip().removeprefix("|")
    if bare.endswith("|") and not bare.endswith("\\|"):
        bare = bare[:-1]
    return [_MARKS.sub("", cell).replace("\\|", "|").strip() for cell in _BAR.split(bare)]


MARKDOWN: Final = Markdown()
