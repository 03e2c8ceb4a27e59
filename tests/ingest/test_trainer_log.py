"""Logs of the trainer: the same runs as from the run table, whole curves, and damage in a sentence."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from lawfit import pipeline
from lawfit.cli.main import run
from lawfit.errors import LogFormatError
from lawfit.ingest import read_table
from lawfit.proxy.table import run_row
from lawfit.storage import Store
from tests.ingest.tables import read, runs

GOLDEN = Path(__file__).parent.parent / "golden" / "log_trainer.jsonl"  # finished, diverged, unfinished, finished


def sections() -> list[list[str]]:
    """The lines of each log in the golden file."""
    made: list[list[str]] = []
    for line in GOLDEN.read_text().splitlines():
        if json.loads(line)["event"] == "start":
            made.append([])
        made[-1].append(line)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One file per run, as the trainer writes them."""
    logs = tmp_path / "runs"
    logs.mkdir()
    for lines in sections():
        (logs / f"{json.loads(lines[0])['run_id']}.jsonl").write_text("\n".join(lines) + "\n")
    return logs


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def finished() -> list[str]:
    return list(sections()[0])


def test_a_file_of_logs_put_together(tmp_path: Path) -> None:
    found = read(GOLDEN)
    assert found.format == "trainer"
    assert [r.status.value for r in runs(found)] == ["finished", "diverged", "finished"]
    (rejection,) = found.rejections
    start = json.loads(sections()[2][0])
    assert "the run has not ended: its log stops at step" in rejection.reason
    assert f"of {start['steps']}" in rejection.reason
    assert found.rows == len(runs(found)) + len(found.rejections) == 4


def test_a_folder_is_one_table(folder: Path) -> None:
    found = read(folder)
    assert found.sweeps[0].recipe.name == "runs"
    assert {r.run_key for r in runs(found)} == {json.loads(s[0])["run_id"] for s in (sections()[i] for i in (0, 1, 3))}
    assert all(r.source == f"{r.run_key}.jsonl:1" for r in runs(found))
    assert [(r.file, r.line) for r in found.rejections] == [(f"{json.loads(sections()[2][0])['run_id']}.jsonl", 5)]


def test_the_same_runs_as_from_the_run_table(store: Store, folder: Path, tmp_path: Path) -> None:
    rows = [run_row([json.loads(line) for line in lines]) for lines in sections()]
    rows = [row for row in rows if row is not None]
    table = tmp_path / "sweep.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    by_key = {r.run_key: dataclasses.replace(r, source="") for r in runs(read(table))}
    assert {r.run_key: dataclasses.replace(r, source="") for r in runs(read(folder))} == by_key
    assert read(folder).sweeps[0].recipe == dataclasses.replace(read(table).sweeps[0].recipe, name="runs")
    first = pipeline.ingest(store, table)
    again = pipeline.ingest(store, folder)
    assert (first.inserted, again.inserted, again.updated, again.unchanged) == (3, 0, 0, 3)
    assert again.recipes == ("sweep",)


def test_new_logs_join_the_sweep_with_their_recipe(store: Store, folder: Path) -> None:
    first, second = (write(folder / f"{n}.log.jsonl", sections()[n]) for n in (0, 3))
    assert pipeline.ingest(store, first).recipes == pipeline.ingest(store, second).recipes


def test_curves_are_whole_and_stored_once(store: Store, folder: Path) -> None:
    report = pipeline.ingest(store, folder)
    events = [json.loads(line) for line in finished()]
    key, recipe = events[0]["run_id"], store.recipe().key
    lines = [event for event in events if event["event"] == "train"]
    steps, numbers = store.curve(recipe, key, "train_loss")
    assert steps.tolist() == [line["step"] for line in lines]
    assert numbers.tolist() == [line["loss"] for line in lines]
    assert store.curve(recipe, key, "lr")[1].tolist() == [line["lr"] for line in lines]
    steps, numbers = store.curve(recipe, key, "validation_loss")
    assert (steps.tolist(), numbers.tolist()) == ([events[-1]["step"]], [events[-1]["loss"]])
    assert report.curve_points > 0
    again = pipeline.ingest(store, folder)
    assert (again.curve_points, again.unchanged) == (0, 3)


def test_validation_on_the_way_and_averages(tmp_path: Path) -> None:
    lines = finished()
    end = json.loads(lines[-1]) | {"average_loss": 3.5}
    middle = {"event": "eval", "step": 10, "tokens": 320, "loss": 3.9, "average_loss": 3.8}
    found = read(write(tmp_path / "a.jsonl", [*lines[:-1], json.dumps(middle), json.dumps(end)]))
    curves = {curve.metric: (curve.steps, curve.numbers) for curve in found.curves}
    assert curves["validation_loss"] == ((10, end["step"]), (3.9, end["loss"]))
    assert curves["average_loss"] == ((10, end["step"]), (3.8, 3.5))
    assert "flops" not in curves


def test_only_diverged_runs(tmp_path: Path) -> None:
    (found,) = runs(read(write(tmp_path / "a.jsonl", sections()[1])))
    assert found.loss is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param(lambda s: s[:-1], "the run has not ended", id="no end"),
        pytest.param(lambda s: [*s[:-1], s[-1][:20]], "the run has not ended", id="end cut"),
        pytest.param(lambda s: [*s[:3], s[3][:20], *s[4:]], "line 4 is not JSON; the log is damaged", id="line cut"),
        pytest.param(lambda s: [*s[:3], '{"a": 1}', *s[3:]], "line 4 is none of the trainer's", id="other line"),
        pytest.param(lambda s: [*s, "nonsense"], "line 23 is not JSON, after the end", id="after the end"),
        pytest.param(lambda s: [*s[:4], "\x00", *s[4:]], "is a binary file", id="NUL"),
        pytest.param(lambda s: [*s[:4], "x" * 2**21, *s[4:]], "line 5: the line is longer", id="long line"),
        pytest.param(lambda s: [_without(s[0], "model"), *s[1:]], "it lacks 'model'", id="no model"),
        pytest.param(lambda s: [_with(s[0], params=3), *s[1:]], "cannot be understood", id="other params"),
        pytest.param(lambda s: [*s[:-1], _without(s[-1], "loss")], "it lacks 'loss'", id="no loss"),
        pytest.param(lambda s: [*s[:-1], _with(s[-1], status="stopped")], "the run has not ended", id="stopped"),
    ],
)
def test_a_damaged_log_costs_itself_only(tmp_path: Path, change: Any, sentence: str) -> None:
    write(tmp_path / "bad.jsonl", change(finished()))
    write(tmp_path / "good.jsonl", sections()[3])
    found = read(tmp_path)
    assert len(runs(found)) == 1
    (rejection,) = found.rejections
    assert (rejection.file, sentence in rejection.reason) == ("bad.jsonl", True), rejection


def _without(line: str, name: str) -> str:
    return json.dumps({key: value for key, value in json.loads(line).items() if key != name})


def _with(line: str, **changes: Any) -> str:
    return json.dumps(json.loads(line) | changes)


def test_cut_anywhere_it_is_a_sentence_or_whole_runs(tmp_path: Path) -> None:
    whole = GOLDEN.read_bytes()
    path = tmp_path / "log.jsonl"
    for length in range(0, len(whole), 131):
        path.write_bytes(whole[:length])
        try:
            found = read(path)
        except LogFormatError as error:
            assert str(error).startswith((str(path), path.name))  # noqa: PT017
        else:
            assert len(runs(found)) + len(found.rejections) == found.rows


def test_a_folder_with_other_files(tmp_path: Path) -> None:
    write(tmp_path / "other.jsonl", ['{"lr": 1}'])
    assert read_table(tmp_path).format == "jsonl"
    write(tmp_path / "good.jsonl", finished())
    found = read(tmp_path)
    assert [(r.file, r.reason) for r in found.rejections] == [
        ("other.jsonl", "it does not begin with a start line, so it is no log of the trainer")
    ]


def test_asked_for_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "log.txt", finished())
    assert read(path, format="trainer").format == read(path).format == "trainer"
    with pytest.raises(LogFormatError, match="is empty"):
        read(write(tmp_path / "no.jsonl", []), format="trainer")
    with pytest.raises(LogFormatError, match="does not begin with a start line"):
        read(write(tmp_path / "no.jsonl", ['{"lr": 1}']), format="trainer")


def test_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ingest", str(folder), "--database", str(tmp_path / "lawfit.db")]
    assert run(words) == 3  # one has not ended
    output = capsys.readouterr()
    assert "3 new, 0 updated, 0 unchanged, 1 rejected; 1 diverged" in output.out
    assert f"{json.loads(sections()[2][0])['run_id']}.jsonl" in output.out
    (folder / "only").mkdir()
    write(folder / "only" / "a.jsonl", finished()[:-1])
    words[1] = str(folder / "only")
    assert run(words) == 1
    assert "no run can be taken; a.jsonl, line 21: the run has not ended" in capsys.readouterr().err


@pytest.mark.parametrize("rate", [1e-9, 2e-6, 3e-3])
def test_the_trainer_says_what_rate_it_was_told(tmp_path: Path, rate: float) -> None:
    """Where every rate is as low as schedules end, a table is asked about it; a log of ours holds the peak."""
    lines = [
        json.dumps({**event, "lr": rate} if (event := json.loads(line))["event"] == "start" else event)
        for section in (sections()[0], sections()[3])
        for line in section
    ]
    assert {run.lr for run in runs(read(write(tmp_path / "log.jsonl", lines)))} == {rate}
