"""Runs on W&B's server. The server here is a local stand-in (wandb_server.py), asked by wandb's real client where that
is installed, and by a client of our own making otherwise: the real server cannot be asked from a test."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final

import pytest

from lawfit.cli.main import run
from lawfit.errors import LogFormatError
from lawfit.ingest import IngestOptions, wandb_online
from lawfit.pipeline.ingesting import read_source, sources_at, store_source, tables_of
from lawfit.pipeline.watching import Watch
from lawfit.records import IngestReport
from lawfit.storage import Store
from tests.ingest.wandb_server import ServedRun, Server, serving

pytestmark = pytest.mark.one_database

URI: Final = "wandb://team/proj"
CONFIG: Final = {"n_params": 10**6, "batch_size_tokens": 8192, "optimizer": "adamw", "model": {"width": 64}}


def served(run_id: str, state: str = "finished", steps: int = 4, last: Any = None, **config: Any) -> ServedRun:
    rows = [{"_step": at, "_runtime": 1.0, "train/loss": 4.0 - at / 10} for at in range(steps)]
    if rows:
        rows[-1]["eval/loss"] = 3.5 if last is None else last
    return ServedRun(run_id, f"name-{run_id}", state, {**CONFIG, "max_steps": max(steps - 1, 3), **config}, rows)


SWEEP: Final = (
    lambda: served("a", lr=1e-3),
    lambda: served("b", lr=2e-3),
    lambda: served("c", "running", lr=4e-3),
    lambda: served("d", "failed", lr=6e-3),
    lambda: served("e", "killed", lr=7e-3),
    lambda: served("f", "crashed", lr=8e-3, last="NaN"),
    lambda: served("g", "running", steps=0, lr=9e-3),
)


class FakeRun:
    """What is used of `wandb.apis.public.Run`."""

    def __init__(self, server: Server, of: ServedRun) -> None:
        self.id, self.name, self.state, self.config = of.run_id, of.name, of.state, dict(of.config)
        self.summary = dict(of.history[-1]) if of.history else {}
        self._server, self._history = server, of.history

    def scan_history(self, keys: Any = None, page_size: int = 1000, min_step: int = 0, max_step: Any = None) -> Any:
        _fail(self._server)
        self._server.asked.append(f"HistoryPage {self.id}")
        return iter(self._history)


class FakeRuns:
    """What is used of `wandb.apis.public.Runs`: an iterator whose next step may fail, and can be taken again."""

    def __init__(self, server: Server) -> None:
        self._server, self._at = server, 0

    def __iter__(self) -> FakeRuns:
        return self

    def __next__(self) -> FakeRun:
        if self._at % 2 == 0:
            _fail(self._server)
            self._server.asked.append("Runs")
        if self._at == len(self._server.runs):
            raise StopIteration
        self._at += 1
        return FakeRun(self._server, self._server.runs[self._at - 1])


def _fail(server: Server) -> None:
    if server.failures:
        server.failures -= 1
        raise RuntimeError(f"HTTP {server.status}: {'rate limit exceeded' if server.status == 429 else 'no'}")


def fake_wandb(server: Server) -> ModuleType:
    class Api:
        def __init__(self, overrides: Any = None, timeout: int | None = None, api_key: str | None = None) -> None:
            pass

        def runs(self, path: Any = None, filters: Any = None, order: str = "+created_at", per_page: int = 50) -> Any:
            if path != "team/proj":
                raise ValueError(f"Could not find project {path}")
            return FakeRuns(server)

    made: Any = ModuleType("wandb")
    made.Api, made.__spec__ = Api, SimpleNamespace()
    return made


@pytest.fixture(scope="module")
def real_server() -> Iterator[Server]:
    """One for all tests of a process: wandb's client remembers where its server is."""
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_BASE_URL", server.url)
        patch.setenv("WANDB_API_KEY", 40 * "a")
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        yield server
        if "wandb" in sys.modules:
            sys.modules["wandb"].teardown()


@pytest.fixture(params=["stand-in", pytest.param("wandb", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    monkeypatch.setattr(wandb_online, "WAITS", (0.01, 0.01, 0.01))
    if request.param == "stand-in":
        made = Server()
        monkeypatch.setitem(sys.modules, "wandb", fake_wandb(made))
        monkeypatch.setenv("WANDB_API_KEY", 40 * "a")
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    else:
        pytest.importorskip("wandb")
        made = request.getfixturevalue("real_server")
        monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path))
    made.runs, made.asked, made.failures, made.status = [each() for each in SWEEP], [], 0, 429
    return made


def ingest(store: Store) -> IngestReport:
    (source,) = sources_at(URI, IngestOptions())
    (table,) = tables_of(source, store)
    return store_source(store, read_source(URI, IngestOptions(), table))


def test_runs_with_their_settings_states_and_curves(server: Server, store: Store) -> None:
    report = ingest(store)
    (summary,) = store.recipes()
    assert (summary.recipe.name, summary.recipe.optimizer, report.format) == ("proj", "adamw", "wandb-online")
    key = summary.recipe.key
    found = {each.run_key: each for each in store.runs(key)}
    assert {name: (each.lr, each.loss, each.status.value) for name, each in found.items()} == {
        "a": (1e-3, 3.5, "finished"),
        "b": (2e-3, 3.5, "finished"),
        "f": (8e-3, None, "diverged"),
    }
    assert found["a"].extra["config.model.width"] == 64
    assert found["a"].extra["run_name"] == "name-a"
    steps, numbers = store.curve(key, "a", "train_loss")
    assert (steps.tolist(), numbers.tolist()) == ([1, 2, 3], [3.9, 3.8, 3.7])
    said = {(each.file.rpartition("/")[2], each.reason.partition(",")[0]) for each in report.rejections}
    assert said == {
        *(("c", "the status is 'running'"), ("g", "the status is 'running'")),
        *(("d", "the status is 'crashed'"), ("e", "the status is 'crashed'")),
    }
    assert {each for each in server.asked if each != "Runs"} == {f"HistoryPage {name}" for name in "abf"}


def test_what_is_stored_is_not_fetched_again(server: Server, store: Store) -> None:
    ingest(store)
    server.asked.clear()
    server.runs[2] = served("c", lr=4e-3)  # has finished since
    server.runs[1] = served("b", steps=6, lr=2e-3)  # was taken up again
    report = ingest(store)
    assert {each for each in server.asked if each != "Runs"} == {"HistoryPage b", "HistoryPage c"}
    assert (report.inserted, report.updated) == (1, 1)
    assert any("were not fetched again: 2" in note for note in report.notes)
    server.runs = [each for each in server.runs if each.run_id in "abcf"]
    server.asked.clear()
    report = ingest(store)
    assert [each for each in server.asked if each != "Runs"] == []
    assert (report.rows, report.inserted, report.rejections) == (0, 0, ())


@pytest.mark.parametrize("status", [429, 502])
def test_a_busy_server_is_waited_for(server: Server, store: Store, status: int) -> None:
    server.failures, server.status = 3, status
    assert ingest(store).inserted == 3


def test_the_command(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = str(tmp_path / "a.db")
    assert run(["--database", database, "ingest", URI]) == 3  # runs that go on
    assert run(["--database", database, "ingest", "wandb://team/other"]) == 1
    assert "ould not find project" in capsys.readouterr().err


def test_a_project_is_watched(server: Server, store: Store) -> None:
    watch = Watch(store, [URI], IngestOptions(), 0.0)
    list(watch.look())
    assert watch.so_far.inserted == 3
    assert list(watch.look()) == []
    server.runs[2] = served("c", lr=4e-3)
    (found,) = watch.look()
    assert (found.data["inserted"], [each["name"] for each in found.data["runs"]]) == (1, ["name-c"])


class TestOfTheStandIn:
    """What the real client takes too long to say, or says in ways of its own."""

    @pytest.fixture
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Server:
        made = Server(runs=[served(f"r{n}", lr=n * 1e-3) for n in range(1, 8)])
        monkeypatch.setattr(wandb_online, "WAITS", (0.0, 0.0))
        monkeypatch.setitem(sys.modules, "wandb", fake_wandb(made))
        monkeypatch.setenv("WANDB_API_KEY", 40 * "a")
        return made

    def test_what_was_fetched_before_it_fell_silent_is_stored(
        self, server: Server, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = FakeRun.scan_history

        def silent_from_the_fourth(self: FakeRun, *args: Any, **named: Any) -> Any:
            server.failures = 9 if self.id in ("r4", "r5", "r6", "r7") else 0
            return asked(self, *args, **named)

        with monkeypatch.context() as patch:
            patch.setattr(FakeRun, "scan_history", silent_from_the_fourth)
            report = ingest(store)
        assert report.inserted == 3
        (rejection,) = report.rejections
        assert "goes on where this one ended" in rejection.reason
        server.failures = 0
        server.asked.clear()
        assert ingest(store).inserted == 4
        assert [each for each in server.asked if each != "Runs"] == [f"HistoryPage r{n}" for n in range(4, 8)]

    def test_a_server_that_is_not_there(self, server: Server, store: Store) -> None:
        server.failures = 10**6
        with pytest.raises(LogFormatError, match=r"gave no answer: HTTP 429: rate limit exceeded"):
            ingest(store)

    @pytest.mark.parametrize("status", [401, 403, 404])
    def test_a_refusal_is_not_asked_for_again(self, server: Server, store: Store, status: int) -> None:
        server.failures, server.status = 10**6, status
        with pytest.raises(LogFormatError, match=f"refuses: HTTP {status}"):
            ingest(store)
        assert server.failures == 10**6 - 1

    def test_no_key(self, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("WANDB_API_KEY")
        monkeypatch.delenv("WANDB_IDENTITY_TOKEN_FILE", raising=False)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
        with pytest.raises(LogFormatError, match=r"no key for https://wandb.example.org; say wandb login"):
            tables_of_uri(URI)
        (tmp_path / "netrc").write_text("machine wandb.example.org login user password x\n")
        os.chmod(tmp_path / "netrc", 0o600)  # noqa: PTH101
        assert tables_of_uri(URI)

    def test_no_project(self, server: Server) -> None:
        server.runs.clear()
        with pytest.raises(LogFormatError, match="holds no run"):
            tables_of_uri(URI)

    @pytest.mark.parametrize("uri", ["wandb://proj", "wandb://", "wandb://a/b/c", "wandb://a/b?x=1"])
    def test_an_address_that_names_no_project(self, server: Server, uri: str) -> None:
        with pytest.raises(LogFormatError, match="wandb://ENTITY/PROJECT"):
            tables_of_uri(uri)


def tables_of_uri(uri: str) -> Any:
    from lawfit.ingest.formats import find_sources, read_source_tables

    return read_source_tables(find_sources(uri)[0])


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(LogFormatError, match=r"pip install 'lawfit\[wandb\]'"):
        tables_of_uri(URI)


def test_the_stand_in_has_the_names_of_the_real_client() -> None:
    wandb = pytest.importorskip("wandb")
    from wandb.apis.public import Run

    def names(function: Callable[..., Any]) -> list[str]:
        return [*inspect.signature(function).parameters]

    fake = fake_wandb(Server()).Api
    assert set(names(fake)) <= set(names(wandb.Api))
    assert set(names(fake.runs)) <= set(names(wandb.Api.runs))
    assert set(names(FakeRun.scan_history)) <= set(names(Run.scan_history))
    for name in ("id", "name", "state", "config", "summary"):
        assert isinstance(inspect.getattr_static(Run, name), property)
