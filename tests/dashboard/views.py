"""Stores of real sweeps for the pages that show runs and fits, and what is asked of every such page."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from lawfit import pipeline
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.storage import Store

MOST_BYTES = 300_000  # of a page of its own, compressed
MOST_NODES = 1500  # before its figures


def fill(folder: Path, *files: Path) -> None:
    """lawfit.db with the runs of some files, fitted.

    Without backtests, which take most of the time and are looked at in the simulated store.
    """
    with Store.open(str(folder / "lawfit.db")) as store:
        for file in files:
            pipeline.ingest(store, file)
        pipeline.refit(store, options=FitOptions(backtest=False))


def is_light(content: bytes, nodes: int) -> bool:
    """Whether a page is as small as pages are to be."""
    return len(gzip.compress(content, 5)) < MOST_BYTES and nodes < MOST_NODES


def nodes_of(page: str) -> int:
    """Elements of a page as it is sent."""
    return len(re.findall(r"<[a-z][^>]*>", page))


def sources_of(page: str) -> list[str]:
    """Addresses of the figures that are fetched when they are seen."""
    return [source.replace("&amp;", "&") for source in re.findall(r'data-source="([^"]+)"', page)]
