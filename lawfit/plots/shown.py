"""What is shown, as data: tables of texts, and figures with what they say in words and in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True, kw_only=True)
class Table:
    """Texts in columns; `numbers` names the columns that align right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[str, ...] = ()
    strong: int | None = None  # row to stand out


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One figure with what it says in words and in numbers."""

    id: str
    title: str
    caption: str
    figure: Figure
    table: Table
    option: str = ""  # its name where one of several charts is shown at a time


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Several charts of one kind, of which a reader looks at one at a time; the first is shown."""

    id: str
    label: str
    charts: tuple[Chart, ...]
