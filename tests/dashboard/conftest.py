"""A fitted database with a client of the application over it; one server and one browser for all tests of pages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from lawfit import pipeline
from lawfit.records import Sweep
from lawfit.settings import Settings, data_folder
from lawfit.simulate import Design, Truth, simulate_sweep
from lawfit.storage import Store
from lawfit_api.app import create_app
from tests.browser import chromium
from tests.cli.serving import served
from tests.client import TestClient
from tests.dashboard.views import fill
from tests.plots.samples import sample, sweep

if TYPE_CHECKING:
    from playwright.sync_api import Browser


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


@pytest.fixture(scope="package")  # not the session: while it is open, no other test could have an event loop
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def site(folder: Path) -> Iterator[str]:
    """Address of a server over `folder`."""
    with served([sys.executable, "-m", "lawfit"], folder) as url:
        yield url


@pytest.fixture(scope="session")
def shipped_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds lawfit.db: the shipped sweep with its curves, fitted."""
    path = tmp_path_factory.mktemp("shipped")
    fill(path, data_folder() / "proxy_sweep.csv", data_folder() / "proxy_curves.csv")
    return path


@pytest.fixture
def shipped(shipped_folder: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(database_url=str(shipped_folder / "lawfit.db")))) as opened:
        yield opened


@pytest.fixture(scope="session")
def shipped_site(shipped_folder: Path) -> Iterator[str]:
    """Address of a server over `shipped_folder`."""
    with served([sys.executable, "-m", "lawfit"], shipped_folder) as url:
        yield url


@pytest.fixture(scope="session")
def step_law_site(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[str]:
    """Address of a server over the Step Law grid, fitted."""
    path = tmp_path_factory.mktemp("step_law")
    fill(path, next(shared_data.rglob("step_law_dense.csv")))
    with served([sys.executable, "-m", "lawfit"], path) as url:
        yield url


@pytest.fixture(scope="session")
def own_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server over a small sweep, fitted, for tests that change what is stored."""
    path = tmp_path_factory.mktemp("own")
    design = Design(scales=[(n, n * ratio) for n in (2e7, 8e7) for ratio in (10, 40)], lr_steps=5, batch_steps=3)
    small = simulate_sweep(Truth(), design, rng=np.random.default_rng(5))
    with Store.open(str(path / "lawfit.db")) as store:
        store.put_sweeps([Sweep(recipe=small.recipe, runs=small.runs)])
        pipeline.refit(store)
    with served([sys.executable, "-m", "lawfit"], path) as url:
        yield url
