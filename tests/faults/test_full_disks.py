"""A disk that fills up, for real: a sentence and a code, what was there stays, and with space it goes on."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lawfit.cli.main import run as command
from tests.faults import children
from tests.faults.material import Part, held, logs, table


def sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def large(folder: Path) -> list[Part]:
    """More than the disk has, and what comes after it."""
    return [
        table(folder / "large.csv", 1500, first=1000, note="x" * 3000),
        table(folder / "later.csv", 5, first=9000, note="y"),
    ]


def test_it_says_so_and_goes_on_with_more_space(
    small_disk: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = small_disk("2m")
    database, url = disk / "lawfit.db", str(disk / "lawfit.db")
    before, parts = logs(tmp_path / "before", 4, steps=50), large(tmp_path)
    assert command(["ingest", str(before.path), "--database", url]) == 0
    words = ["ingest", *(str(part.path) for part in parts), "--database", url]
    capsys.readouterr()
    assert command(words) == 1
    said = capsys.readouterr().err
    assert f"the disk of {url} is full; nothing was written. Free some space and run it again" in said
    assert "1 further file was not tried" in said
    assert sound(database)
    assert (held(url, [before]).lost, held(url, [before]).doubled) == (0, 0)
    assert command([*words, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["files"] == []
    assert [each["type"] for each in document["failed"]] == ["Unavailable", "Unavailable"]
    assert "is full" in document["error"]["message"]
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    assert command(words) == 0
    assert sound(database)
    assert (held(url, [before, *parts]).lost, held(url, [before, *parts]).doubled) == (0, 0)


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """The same by a limit on the size of files, which needs no rights: the system refuses the write in its middle."""
    url = str(tmp_path / "lawfit.db")
    before, parts = logs(tmp_path / "before", 4, steps=50), large(tmp_path)
    out = tmp_path / "out"
    paths = [part.path for part in parts]
    assert children.ended(children.ingest(url, [before.path], out)) == 0
    assert children.ended(children.ingest(url, paths, out, most_bytes=2_000_000)) == 1, out.read_text()
    said = out.read_text()
    assert "Nothing was written" in said or "nothing was written" in said
    assert "full" in said
    assert "1 further file was not tried" in said
    assert sound(Path(url))
    assert (held(url, [before]).lost, held(url, [before]).doubled) == (0, 0)
    assert children.ended(children.ingest(url, paths, out)) == 0
    assert (held(url, [before, *parts]).lost, held(url, [before, *parts]).doubled) == (0, 0)
