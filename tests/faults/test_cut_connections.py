"""Connections to PostgreSQL that the server ends in the middle of a write: it is begun anew, or a sentence says so."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from lawfit.errors import Disconnected
from lawfit.storage import Store
from lawfit.storage import database as database_module
from tests.faults import children
from tests.faults.cuts import cut_while_writing, end_all, named
from tests.faults.material import emptied, held, logs, table
from tests.storage.builders import recipe, run


def test_cut_while_it_writes(postgres_url: str, tmp_path: Path) -> None:
    cuts(postgres_url, tmp_path, 3)


@pytest.mark.soak
def test_cut_twenty_times_while_it_writes(postgres_url: str, tmp_path: Path) -> None:
    cuts(postgres_url, tmp_path, 20)


def cuts(url: str, folder: Path, count: int) -> None:
    """Ingests of six parts, each of which is cut up to three times in a row, until so many cuts fell into a write.

    A cut that reaches the server while it commits is noticed after the commit, and nothing is begun anew: what the
    ingest says counts, and most cuts must be such.
    """
    parts = [table(folder / f"t{n}.csv", 300, first=1 + n * 300, note="x" * 1000) for n in range(4)]
    parts += [logs(folder / "logs", 10, steps=300), table(folder / "t9.csv", 300, first=9000, note="y" * 1000)]
    rng = random.Random(count)
    sent = done = lost = doubled = 0
    began = time.perf_counter()
    while done < count:
        emptied(url)
        process = children.ingest(url, [part.path for part in parts], folder / "out")
        mine = 0
        while process.is_alive() and mine < 3 and done + mine < count:
            mine += cut_while_writing(url, rng, process)
        process.join(120)
        said = (folder / "out").read_text()
        assert process.exitcode == 0, said
        assert said.count("was lost") == said.count("trying again") <= mine, said
        sent, done = sent + mine, done + said.count("was lost")
        assert sent <= 2 * count, f"{done} of {sent} cuts fell into a write"
        found = held(url, parts)
        assert found.halves == ()
        lost, doubled = lost + found.lost, doubled + found.doubled
    print(
        f"\n{done} connections ended while it wrote: lost {lost}, doubled {doubled}; "
        f"{time.perf_counter() - began:.0f} s"
    )
    assert (lost, doubled) == (0, 0)


def test_dead_between_two_writes(postgres_url: str) -> None:
    postgres_url = named(postgres_url)
    with Store.open(postgres_url) as store:
        store.put_runs(recipe(), [run("a")])
        assert end_all(postgres_url) >= 1
        store.put_runs(recipe(), [run("b")])
        assert end_all(postgres_url) >= 1
        assert [each.run_key for each in store.runs(recipe().key)] == ["a", "b"]


def test_cut_each_time_it_says_so_and_stops(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first file is stored, the second is cut whenever it is begun, the third is not tried."""
    postgres_url = named(postgres_url)
    from lawfit.cli.main import run as command
    from lawfit.storage import store as store_module

    parts = [table(tmp_path / f"t{n}.csv", 20, first=1 + n * 20) for n in range(3)]
    really, tries = store_module.write_sweeps, []

    def cut(connection: object, sweeps: object, **options: object) -> object:
        changes = really(connection, sweeps, **options)  # type: ignore[arg-type]
        if changes.recipes[0].name == "t1":
            tries.append(end_all(postgres_url))
        return changes

    monkeypatch.setattr(store_module, "write_sweeps", cut)
    monkeypatch.setattr(database_module, "PAUSES_SECONDS", (0.01, 0.02))
    words = ["ingest", *(str(part.path) for part in parts), "--database", postgres_url]
    assert command(words) == 1
    said = capsys.readouterr()
    assert len(tries) == 3
    assert "was lost, and 2 tries to go on failed: " in said.err
    assert "nothing is stored twice" in said.err
    assert "1 further file was not tried" in said.err
    assert held(postgres_url, parts[:1]) == held(postgres_url, [parts[0]])
    assert (held(postgres_url, parts[:1]).lost, held(postgres_url, parts[:1]).doubled) == (0, 0)
    assert command([*words, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [report["file"] for report in document["files"]] == [str(parts[0].path)]
    assert [(Path(each["file"]).name, each["type"]) for each in document["failed"]] == [
        ("t1.csv", "Disconnected"),
        ("t2.csv", "Disconnected"),
    ]
    assert document["error"]["exit_code"] == 1
    monkeypatch.setattr(store_module, "write_sweeps", really)
    assert command(words) == 0
    assert (held(postgres_url, parts).lost, held(postgres_url, parts).doubled) == (0, 0)


def test_a_server_that_is_gone_and_comes_back(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting fails while it restarts: a pause later it is there again."""
    import psycopg

    postgres_url = named(postgres_url)
    really, refused = psycopg.connect, []
    with Store.open(postgres_url) as store:
        store.put_runs(recipe(), [run("a")])
        monkeypatch.setattr(database_module, "PAUSES_SECONDS", (0.01, 0.01, 0.01))

        def connect(*words: object, **options: object) -> object:
            if len(refused) < 2:
                refused.append(1)
                raise psycopg.OperationalError("connection failed: Connection refused")
            return really(*words, **options)  # type: ignore[call-overload]

        end_all(postgres_url)
        monkeypatch.setattr(psycopg, "connect", connect)
        assert store.put_runs(recipe(), [run("b")]) == (1, 0, 0)
        assert len(refused) == 2


def test_reading_is_not_begun_anew(postgres_url: str) -> None:
    """What a person waits for says at once that the server is gone; `lawfit ingest` alone is patient."""
    postgres_url = named(postgres_url)
    with Store.open(postgres_url) as store:

        def write() -> None:
            with store.writing() as connection:
                end_all(postgres_url)
                connection.exec_driver_sql("SELECT 1")

        with pytest.raises(Disconnected, match=r"was lost: .*whole or not at all"):
            write()
