"""Logs and tables that are read while they grow: never a crash, never half a line taken for a whole one."""

from __future__ import annotations

import contextlib
import math
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from lawfit.cli.main import run as command
from lawfit.ingest.source import TextLines
from lawfit.records import Run
from lawfit.storage import Store
from tests.faults.material import table
from tests.ingest.formats.logs import copied
from tests.ingest.tables import rows, write_jsonl

QUICK, SOAK = 9, 40
LIVE: Final = ("wandb", "tensorboard", "lightning", "step-lines", "nanogpt", "csv", "jsonl")
# A log of each format that grows line by line or record by record, and what lies beside it.
FILES: Final = {
    "wandb": "wandb-0.31.0/wandb/*low/*.wandb",
    "tensorboard": "tensorboard/low/events*",
    "lightning": "lightning/tiny-lm/low/metrics.csv",
    "step-lines": "jsonl/low.jsonl",
    "nanogpt": "text/nanogpt/low.log",
    "megatron": "text/megatron/low.log",
    "torchtitan": "text/torchtitan/low.log",
    "litgpt": "text/litgpt/low.log",
}
TABLES: Final = ("csv", "jsonl")
WORDS: Final = ("--yes", "--set", "params=1200000", "--set", "batch_tokens=8192", "--set", "lr=0.001")

WRITER: Final = """
import random, sys, time
whole, place, seed = sys.argv[1:]
rng, data = random.Random(seed), open(whole, "rb").read()
with open(place, "ab", buffering=0) as file:
    at = pieces = 0
    while at < len(data):
        size = rng.randrange(1, max(2, len(data) // 25))
        file.write(data[at : at + size])
        at, pieces = at + size, pieces + 1
        if pieces in (4, 9, 14, 19):  # somebody has read it since
            sys.stdin.readline()
        time.sleep(rng.uniform(0, 0.05))
"""


def material(name: str, folder: Path) -> Path:
    """A whole log or table, in a folder with what belongs to it."""
    folder.mkdir(exist_ok=True)
    if name == "csv":
        return table(folder / "table.csv", 40, note="").path
    if name == "jsonl":
        changes = ({"learning_rate": f"{number + 1}e-4"} for number in range(40))
        return write_jsonl(folder / "table.jsonl", rows(*changes))
    top, _, rest = FILES[name].partition("/")
    copied(top, folder)
    (place,) = (folder / top).glob(rest)
    for other in sorted((folder / top).rglob("*")):
        beside = other.is_file() and other.parent == place.parent and other.suffix != place.suffix
        if other.is_file() and other != place and not beside:
            other.unlink()
    return place


def stored(url: str) -> tuple[dict[str, Run], dict[tuple[str, str], dict[int, float]]]:
    """Runs by their keys, and the points of their curves."""
    runs, curves = {}, {}
    if Path(url).exists():
        with Store.open(url) as store:
            for summary in store.recipes():
                key = summary.recipe.key
                runs |= {run.run_key: replace(run, source="") for run in store.runs(key)}
                for metric in store.curve_counts(key):
                    for run_key, (steps, numbers) in store.curves(key, metric).items():
                        curves[run_key, metric] = dict(zip(steps.tolist(), numbers.tolist(), strict=True))
    return runs, curves


def ingested(place: Path, url: str, capsys: pytest.CaptureFixture[str]) -> int:
    """The exit code of the command, which says what it did in words of its own."""
    words = WORDS if place.suffix == ".log" or place.name == "metrics.csv" else ()
    code = command(["ingest", str(place), "--database", url, *words])
    said = "".join(capsys.readouterr())
    assert code in (0, 1, 3), said
    assert "unexpected" not in said
    assert "Traceback" not in said
    return code


def grows(name: str, folder: Path, sizes: Iterator[int], capsys: pytest.CaptureFixture[str]) -> tuple[int, int]:
    """Read at these sizes and then whole; how many readings there were, and how many found runs."""
    place = material(name, folder / "logs")
    whole = place.read_bytes()
    ingested(place, str(folder / "whole.db"), capsys)
    final_runs, final_curves = stored(str(folder / "whole.db"))
    assert final_runs
    numbers = {number for points in final_curves.values() for number in points.values()}
    numbers |= {float(text) for text in re.findall(rb"\d+\.\d+", whole)}
    url = str(folder / "grown.db")
    readings = found = 0
    for size in sizes:
        with place.open("wb", buffering=0) as writer:  # as one that has not ended has it
            writer.write(whole[:size])
            ingested(place, url, capsys)
        readings += 1
        now_runs, now_curves = stored(url)
        found += bool(now_runs)
        for key, run in now_runs.items():
            if name in TABLES:
                assert run == final_runs[key], f"at {size} of {len(whole)} bytes: {whole[:size][-60:]!r}"
            else:  # at its last step, with its last evaluation still to come
                assert run.loss in numbers, f"at {size} of {len(whole)} bytes: {whole[:size][-60:]!r}"
        for place_of, points in now_curves.items():
            assert is_part(points, final_curves[place_of], rounded=name == "litgpt"), (place_of, size)
    place.write_bytes(whole)
    ingested(place, url, capsys)
    last_runs, last_curves = stored(url)
    assert last_runs == final_runs
    assert last_curves.keys() == final_curves.keys()
    for place_of, points in final_curves.items():
        assert is_part(points, last_curves[place_of], rounded=name == "litgpt"), place_of
    return readings, found


def is_part(points: dict[int, float], whole: dict[int, float], *, rounded: bool) -> bool:
    """Whether points are among those of the whole; litgpt prints the last number twice, once rounded further."""
    close = 1e-3 if rounded else 0.0
    return all(step in whole and math.isclose(number, whole[step], rel_tol=close) for step, number in points.items())


def drawn(name: str, folder: Path, count: int) -> Iterator[int]:
    """Sizes in ascending order, the last cells of lines among them: there a number looks whole and is not."""
    length = material(name, folder / "measured").stat().st_size
    rng = random.Random(f"{name} {count}")
    sizes = [rng.randrange(1, length) for _ in range(count - count // 3)]
    sizes += [length - back for back in range(1, count // 3 + 1)]
    yield from sorted(sizes)


@pytest.mark.one_database
@pytest.mark.parametrize("name", [*FILES, *TABLES])
@pytest.mark.soak
def test_cut_at_any_byte(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grows(name, tmp_path, drawn(name, tmp_path, QUICK), capsys)


@pytest.mark.soak
@pytest.mark.parametrize("name", [*FILES, *TABLES])
def test_cut_at_many_bytes(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grows(name, tmp_path, drawn(name, tmp_path, SOAK), capsys)


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.soak
def test_another_process_writes_it_meanwhile(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Read again and again while it comes in pieces that end anywhere; at the end all of it is there."""
    place = material(name, tmp_path / "logs")
    aside = tmp_path / "aside"
    aside.write_bytes(place.read_bytes())
    ingested(place, str(tmp_path / "whole.db"), capsys)
    final = stored(str(tmp_path / "whole.db"))
    place.write_bytes(b"")
    words = [sys.executable, "-c", WRITER, str(aside), str(place), name]
    writer = subprocess.Popen(words, stdin=subprocess.PIPE, bufsize=0)
    assert writer.stdin is not None
    url, readings = str(tmp_path / "grown.db"), 0
    deadline = time.monotonic() + 60
    while writer.poll() is None:
        assert time.monotonic() < deadline
        ingested(place, url, capsys)
        readings += 1
        with contextlib.suppress(BrokenPipeError):  # it has just ended
            writer.stdin.write(b"\n")
        runs, curves = stored(url)
        assert name not in TABLES or runs.items() <= final[0].items()
        assert all(points.items() <= final[1][key].items() for key, points in curves.items())
    assert writer.returncode == 0
    writer.stdin.close()
    assert readings > 3
    ingested(place, url, capsys)
    assert stored(url) == final


def test_a_last_line_without_an_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a table that nobody writes it is a line as any other; of one in writing it has to wait."""
    place = table(tmp_path / "table.csv", 4, note="").path
    place.write_text(place.read_text().rstrip("\n"))
    url = str(tmp_path / "lawfit.db")
    with place.open("ab"):
        assert command(["ingest", str(place), "--database", url]) == 3
        assert "has the file open to write" in capsys.readouterr().out
        assert len(stored(url)[0]) == 3
    assert command(["ingest", str(place), "--database", url]) == 0
    assert "no line end" in capsys.readouterr().out
    assert len(stored(url)[0]) == 4


def test_a_writer_that_ends_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is done when it is looked for; what was read of its last line is half of it all the same."""
    place = table(tmp_path / "table.csv", 4, note="").path
    whole = place.read_text()
    place.write_text(whole[:-4])

    def ending(*_: object) -> Iterator[Path]:
        place.write_text(whole)
        return iter(())

    monkeypatch.setattr(Path, "glob", ending)
    lines = TextLines(place, cuttable=True)
    assert [number for number, _ in lines] == [1, 2, 3, 4]
    assert lines.cut == 5
