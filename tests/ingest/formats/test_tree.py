"""Folder trees as they are: logs of several trackers, links, odd names, what cannot be read, very many files."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from lawfit.cli.main import run
from lawfit.errors import LogFormatError
from lawfit.ingest import read_table
from lawfit.ingest.formats import find_sources
from lawfit.storage import Store
from tests.ingest.formats.logs import GOLDEN, copied, one_table, rows, tables

LINES = [{"step": step, "loss": 3 + 1 / step} for step in (1, 2, 3)]


def write_log(path: Path, extra: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{**line, "loss": line["loss"] + extra} for line in LINES]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_one_command_takes_a_tree_with_a_project_of_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    tree = tmp_path / "everything"
    for name in ("wandb-0.31.0", "mlflow", "mlflow_files", "tensorboard", "lightning", "trackio", "neptune", "jsonl"):
        copied(name, tree / name) if (GOLDEN / name).is_file() else shutil.copytree(GOLDEN / name, tree / name)
    database = tmp_path / "lawfit.db"
    assert run(["ingest", str(tree), "--json", "--database", str(database)]) == 3  # runs that have not ended
    document = json.loads(capsys.readouterr().out)
    assert document["failed"] == []
    counts = {report["format"]: (report["inserted"], len(report["rejections"])) for report in document["files"]}
    assert counts == dict.fromkeys(
        ("wandb", "mlflow", "mlflow-files", "neptune", "tensorboard", "step-table", "trackio", "step-lines"), (3, 1)
    )
    with Store.open(database) as store:
        before = sum(summary.runs for summary in store.recipes())
        assert before == 8 * 3
    assert run(["ingest", str(tree), "--json", "--database", str(database)]) == 3
    again = json.loads(capsys.readouterr().out)
    assert [(report["inserted"], report["updated"], report["unchanged"]) for report in again["files"]] == 8 * [
        (0, 0, 3)
    ]


def test_parts_of_a_tree_are_the_same_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = tmp_path / "logs"
    shutil.copytree(GOLDEN / "tensorboard", tree / "tensorboard")
    database = tmp_path / "lawfit.db"
    for place in (tree, tree / "tensorboard", tree / "tensorboard" / "low"):
        run(["ingest", str(place), "--database", str(database)])
    capsys.readouterr()
    with Store.open(database) as store:
        assert [summary.runs for summary in store.recipes()] == [3]


def test_links_are_followed_once(tmp_path: Path) -> None:
    write_log(tmp_path / "runs" / "a.jsonl")
    write_log(tmp_path / "elsewhere" / "b.jsonl", extra=0.5)
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    (tmp_path / "runs" / "other").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs" / "again.jsonl").symlink_to(tmp_path / "runs" / "a.jsonl")
    (tmp_path / "runs" / "nowhere.jsonl").symlink_to(tmp_path / "gone")
    (tmp_path / "runs" / "self.jsonl").symlink_to(tmp_path / "runs" / "self.jsonl")
    table = one_table(tmp_path / "runs")
    assert sorted(rows(table)) == ["a", "b"]
    assert "2 links passed over, with nothing at the other end: nowhere.jsonl, self.jsonl" in table.notes


def test_names_of_any_kind(tmp_path: Path) -> None:
    names = ["with space", "Bücher", "a'b\"c", "new\nline", "-dash", "%2e", "$HOME", "🦊", os.fsdecode(b"\xff\xfe")]
    for number, name in enumerate(names):
        write_log(tmp_path / "runs" / name / "log.jsonl", extra=number / 100)
        shutil.copytree(GOLDEN / "tensorboard" / "low", tmp_path / "runs" / name / "events")
    found = {table.format: table for table in tables(tmp_path)}
    assert len(found["step-lines"].rows) == len(names)
    assert len(found["tensorboard"].rows) == 1, "copies of one event file are one run"
    for table in found.values():
        json.dumps(
            [table.name, table.columns, list(table.rows), dict(table.places)]
        ).encode()  # as it can be stored and shown


def test_a_folder_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_log(tmp_path / "a" / "a.jsonl")
    write_log(tmp_path / "secret" / "b.jsonl")
    really = os.scandir

    def scandir(path: Path) -> object:  # a mode would not stop root, who runs these tests in places
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied")
        return really(path)

    monkeypatch.setattr(os, "scandir", scandir)
    (table,) = tables(tmp_path)
    assert len(table.rows) == 1
    assert [(item.file, item.reason) for item in table.rejections] == [
        ("secret", "this folder cannot be read, and what is in it is missing: Permission denied")
    ]
    with pytest.raises(LogFormatError, match="this folder cannot be read"):
        tables(tmp_path / "secret")


def test_what_waits_for_ever_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    os.mkfifo(tmp_path / "events.out.tfevents.1.host")
    write_log(tmp_path / "a.jsonl")
    assert len(one_table(tmp_path).rows) == 1


def test_one_bad_log_costs_itself_only(tmp_path: Path) -> None:
    made = copied("tensorboard", tmp_path)
    bad = next((made / "low").glob("events*"))
    data = bytearray(bad.read_bytes())
    data[500] ^= 1
    bad.write_bytes(data)
    table = one_table(tmp_path)
    assert sorted(rows(table)) == ["killed", "middle", "too-high"]
    (rejection,) = table.rejections
    assert rejection.file.startswith("low/")
    assert "checksum" in rejection.reason
    assert "damaged" in rejection.reason


def test_what_is_no_log_is_left_alone(tmp_path: Path) -> None:
    write_log(tmp_path / "a.jsonl")
    for name, content in {
        "README.md": "step, loss", "requirements.txt": "torch\n", "train.py": "import pickle", "config.json": "{}",
        "training_args.bin": "\x80\x04cos\nsystem\n", "weights.pt": "PK", "empty.csv": "", ".hidden/x.jsonl": "",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    write_log(tmp_path / ".git" / "b.jsonl")
    (source,) = find_sources(tmp_path)
    assert [path.name for path in source.paths] == ["a.jsonl"]


def test_a_run_logged_twice_into_one_folder_is_one(tmp_path: Path) -> None:
    """The Trainer writes event files below its folder, Lightning beside its table."""
    copied("huggingface", tmp_path)
    assert [source.format for source in find_sources(tmp_path)] == ["trainer-state"]
    version = tmp_path / "lightning" / "version_0"
    shutil.copytree(GOLDEN / "lightning" / "tiny-lm" / "low", version)
    shutil.copy(next((GOLDEN / "tensorboard" / "low").glob("events*")), version)
    assert [source.format for source in find_sources(tmp_path / "lightning")] == ["step-table"]


def test_several_sources_are_named_where_one_table_is_wanted(tmp_path: Path) -> None:
    copied("tensorboard", tmp_path)
    copied("jsonl", tmp_path)
    with pytest.raises(LogFormatError, match=r"holds 2 sources: 4 logs in .*tensorboard.*step-lines"):
        read_table(tmp_path)
    assert len(read_table(tmp_path, "tensorboard").rows) == 4


@pytest.mark.slow
@pytest.mark.soak
def test_ten_thousand_tiny_logs(tmp_path: Path) -> None:
    for number in range(10_000):
        folder = tmp_path / f"{number // 100}"
        if number % 100 == 0:
            folder.mkdir()
        (folder / f"r{number}.jsonl").write_text(f'{{"step": 1, "loss": {number}}}\n{{"step": 2, "loss": 1}}\n')
    began = time.perf_counter()
    assert len(one_table(tmp_path).rows) == 10_000
    assert time.perf_counter() - began < 60


def test_a_tree_deeper_than_a_stack(tmp_path: Path) -> None:
    folder = tmp_path
    try:
        for _ in range(300):
            folder = folder / "deep"
            folder.mkdir()
        write_log(folder / "a.jsonl")
    except OSError:
        pytest.skip("the file system has no paths as long as this")
    assert len(one_table(tmp_path).rows) == 1
