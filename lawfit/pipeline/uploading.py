"""A file that came over HTTP -> the store: the questions and rejections of `ingest`, and no name of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawfit.errors import Doubted, LogFormatError, NoRun, RecipeConflict
from lawfit.pipeline.exporting import is_export
from lawfit.pipeline.ingesting import read_source, store_source
from lawfit.records import Json

if TYPE_CHECKING:
    from lawfit.ingest.options import IngestOptions
    from lawfit.storage import Store


def ingest_upload(store: Store, path: Path, name: str, options: IngestOptions) -> list[dict[str, Json]]:
    """Store a file that was sent: the report of each of its tables, which are stored once all of them can be.

    Parameters
    ----------
    path : where it lies for the moment
    name : what its sender calls it

    Raises
    ------
    Doubted
        It leaves something open that a guess could get wrong; nothing was stored.
    LogFormatError
        The file as a whole cannot be taken.
    RecipeConflict
        The recipe name that was asked for holds other settings in the store.
    NoRun
        Curves of runs that the store does not have.
    """
    from lawfit.ingest.uploaded import shown_name, uploaded_tables

    shown = shown_name(name)
    with _called(path, shown):
        if is_export(path):
            read = [read_source(path, options)]
        else:
            read = [read_source(shown, options, table) for table in uploaded_tables(path, shown, options.format)]
        reports = [store_source(store, each).to_json() for each in read]
    return [dict(_renamed(report, path, shown)) for report in reports]


@contextmanager
def _called(path: Path, name: str) -> Iterator[None]:
    """What fails inside speaks of the file as its sender calls it."""
    try:
        yield
    except Doubted as error:
        questions = tuple(_renamed(question, path, name) for question in error.questions)
        raise Doubted(_renamed(str(error), path, name), questions=questions) from None
    except (LogFormatError, RecipeConflict, NoRun) as error:
        raise type(error)(_renamed(str(error), path, name)) from None


def _renamed(value: Any, path: Path, name: str) -> Any:
    if isinstance(value, str):
        return value.replace(str(path), name).replace(path.name, name).replace(path.stem, name)
    if isinstance(value, Mapping):
        return {key: _renamed(inner, path, name) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(inner, path, name) for inner in value]
    return value
