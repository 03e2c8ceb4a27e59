"""A folder with a fitted database, and a client of the application over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lawfit import pipeline
from lawfit.records import Sweep
from lawfit.settings import Settings
from lawfit.storage import Store
from lawfit_api.app import create_app
from tests.client import TestClient
from tests.plots.samples import sample, sweep


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds lawfit.db: one simulated recipe, fitted."""
    path = tmp_path_factory.mktemp("dashboard")
    with Store.open(str(path / "lawfit.db")) as store:
        store.put_sweeps([Sweep(recipe=sweep().recipe, runs=sweep().runs)])
        fit = pipeline.refit(store)
        assert fit.payload == sample().fit.payload
    return path


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(database_url=str(folder / "lawfit.db")))) as opened:
        yield opened


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(database_url=str(tmp_path / "empty.db")))) as opened:
        yield opened
