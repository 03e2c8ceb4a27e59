"""Shared by all tests: chance with a seed, golden files, both kinds of database, the public data."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from lawfit.storage import Store
from tests import fits_once as shared_fits
from tests import schemas_once as shared_schemas
from tests.made_once import FOLDER
from tests.turns import scheduler, sorted_by_turn

DEFAULT_POSTGRES = "postgresql+psycopg://root@127.0.0.1:5432/test"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=20261121, help="seed of the `rng` fixture")
    parser.addoption("--shuffle", type=int, metavar="SEED", help="files, and the tests of each, in an order by chance")
    parser.addoption("--damages", type=int, default=2000, help="how often a log of each format is damaged (-m soak)")
    parser.addoption("--update-golden", action="store_true", help="rewrite the files in tests/golden")


def pytest_configure(config: pytest.Config) -> None:
    """No test reads or writes what a user's environment names: a database, a server, a folder of packs.

    Started with `&` or nohup, a command ignores Ctrl-C or the hangup, and so do its children; tests send both.
    """
    for name in [name for name in os.environ if name.startswith("LAWFIT_")]:
        if not name.startswith("LAWFIT_TEST_") and name != "LAWFIT_SHARED_DATA":
            del os.environ[name]
    if not hasattr(config, "workerinput"):  # not one of its workers: the run itself, also inside another's test
        made = tempfile.TemporaryDirectory(prefix="lawfit-tests-")
        os.environ[FOLDER] = made.name
        config.add_cleanup(made.cleanup)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return scheduler(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if (seed := config.getoption("--shuffle")) is not None:
        order = random.Random(seed)
        place = {path: order.random() for path in sorted({item.path for item in items})}
        order.shuffle(items)
        items.sort(key=lambda item: place[item.path])  # files stay together: what a module makes is made once
    elif hasattr(config, "workerinput"):
        items[:] = sorted_by_turn(items)
    if "soak" not in config.option.markexpr:
        items[:] = [item for item in items if not item.get_closest_marker("soak")]
    if any(item.get_closest_marker("gpu") for item in items) and not _has_cuda():
        skip = pytest.mark.skip(reason="needs a CUDA device")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Chance that is the same in every run; `--seed` varies it."""
    return np.random.default_rng(request.config.getoption("--seed"))


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(scope="session", autouse=True)
def fits_once() -> Iterator[None]:
    """The same fit is computed once in a run."""
    with shared_fits.fits_once():
        yield


@pytest.fixture(scope="session", autouse=True)
def schemas_once() -> Iterator[None]:
    """What makes a new database is worked out once in a process."""
    with shared_schemas.schemas_once():
        yield


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_disks() -> Iterator[None]:
    """Databases that this process writes need not outlive a power cut: most of a commit is waiting for the disk."""

    def hurry(connection: Any, _: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")
        else:
            connection.execute("SET synchronous_commit TO off")
            connection.commit()

    sa.event.listen(sa.Engine, "connect", hurry)
    yield
    sa.event.remove(sa.Engine, "connect", hurry)


@pytest.fixture
def schemas_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Migrations are run in this test."""
    monkeypatch.setattr(shared_schemas, "KEEPS", False)


@pytest.fixture
def fits_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits are computed in this test."""
    monkeypatch.setattr(shared_fits, "KEEPS", False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the published runs: LAWFIT_SHARED_DATA, or shared/data beside the checkout."""
    beside = Path(__file__).parent.parent.parent / "shared" / "data"
    folder = Path(os.environ.get("LAWFIT_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no published runs at {folder}; set LAWFIT_SHARED_DATA to the folder that holds them")
    return folder


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Both kinds of database, unless a test says that what it looks at is computed before anything is stored."""
    if "database_url" in metafunc.fixturenames:
        kinds = ["sqlite"] if metafunc.definition.get_closest_marker("one_database") else ["sqlite", "postgres"]
        metafunc.parametrize("database_url", kinds, indirect=True)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of its own, empty, of each kind."""
    if request.param == "sqlite":
        yield str(tmp_path / "test.db")
        return
    yield from own_postgres_schema()


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """An empty PostgreSQL database."""
    yield from own_postgres_schema()


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """An open, empty store, on each kind of database."""
    with Store.open(database_url) as opened:
        yield opened


def own_postgres_schema() -> Iterator[str]:
    """URL of a new schema, dropped afterwards."""
    url = os.environ.get("LAWFIT_TEST_POSTGRES_URL") or DEFAULT_POSTGRES  # empty is not set
    if reason := _unreachable(url):
        message = f"PostgreSQL is not there: {reason}. Start one, or name it in LAWFIT_TEST_POSTGRES_URL"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    import psycopg

    schema = f"lawfit_test_{uuid.uuid4().hex[:12]}"
    plain = url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(plain, autocommit=True, options="-c synchronous_commit=off") as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        try:
            yield f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}"
        finally:
            connection.execute("SET lock_timeout = '60s'")  # a connection that a test left in a transaction is said
            connection.execute(f"DROP SCHEMA {schema} CASCADE")


@cache
def _unreachable(url: str) -> str:
    try:
        import psycopg
    except ImportError:
        return "the driver psycopg is not installed (pip install 'lawfit[postgres]')"
    try:
        psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://"), connect_timeout=5).close()
    except psycopg.OperationalError as error:
        return str(error).strip().splitlines()[0]
    return ""


@cache
def _has_cuda() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


@pytest.fixture
def one_voice() -> Iterator[None]:
    """All surfaces tell what they tell clients of the service, which hear of no commands: then they say the same."""
    from lawfit.words import over_http

    with over_http():
        yield
