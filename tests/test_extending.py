"""Adding a log format or a way to run jobs takes one module and one line: each is added here, in under forty lines."""

from __future__ import annotations

import inspect
import json
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from lawfit import pipeline
from lawfit.ingest import formats
from lawfit.ingest.table import Table, table_of_objects
from lawfit.launch import Job, JobState, JobStatus, LaunchOptions, backends, options
from lawfit.storage import Store

MOST_LINES: Final = 40
ROWS: Final = [
    {"params": 1e7, "tokens": 2e8, "batch_tokens": 8192, "lr": lr, "loss": 3 + abs(lr - 2e-3)} for lr in (1e-3, 2e-3)
]


class Studies:
    """A log format: a study in an SQLite file, or a folder with a JSON file for each run."""

    name = "study"

    def sniff(self, path: Path, head: bytes) -> bool:
        return head.startswith(b"SQLite format 3") and path.suffix == ".study"

    def sniff_folder(self, folder: Path) -> bool:
        return any(folder.glob("*.run"))

    def read(self, path: Path) -> Table:
        if path.is_dir():
            found = [json.loads(each.read_text()) for each in sorted(path.glob("*.run"))]
        else:
            with sqlite3.connect(path) as database:
                found = [json.loads(row) for (row,) in database.execute("select run from runs order by rowid")]
            database.close()
        return table_of_objects(path.name, self.name, enumerate(found, start=1), [])


class AtOnce:
    """A backend: each job runs to its end when it is submitted."""

    name, places = "at-once", 1

    def __init__(self, gpus: Sequence[str] = (), *, workers: int = 1) -> None:
        self.ended: dict[str, subprocess.CompletedProcess[str]] = {}

    def submit(self, job: Job) -> None:
        self.ended[job.name] = subprocess.run(job.command, cwd=job.folder, capture_output=True, text=True, check=False)

    def state(self, name: str) -> JobState:
        return JobState(status=JobStatus.ENDED, place="here", exit_code=self.ended[name].returncode)

    def cancel(self, name: str) -> None:
        """It is over."""

    def logs(self, name: str) -> str:
        return self.ended[name].stderr

    def close(self) -> None:
        """Nothing runs."""


@pytest.mark.parametrize("made", [Studies, AtOnce])
def test_each_takes_few_lines(made: type) -> None:
    assert len(inspect.getsource(made).splitlines()) < MOST_LINES


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_log_format_is_recognised_read_and_stored(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "FORMATS", (Studies(), *formats.FORMATS))  # the one line
    path = tmp_path / ("sweep.study" if kind == "file" else "sweep")
    if kind == "file":
        with sqlite3.connect(path) as database:
            database.execute("create table runs (run text)")
            database.executemany("insert into runs values (?)", [(json.dumps(row),) for row in ROWS])
        database.close()
    else:
        path.mkdir()
        for k, row in enumerate(ROWS):
            (path / f"{k}.run").write_text(json.dumps(row))
    with Store.open(tmp_path / "lawfit.db") as store:
        report = pipeline.ingest(store, path)
        assert (report.format, report.inserted, report.rejections) == ("study", 2, ())
        assert sorted(run.lr for run in store.runs(store.recipes()[0].recipe.key)) == [1e-3, 2e-3]


def test_a_folder_that_no_format_knows_is_refused_as_before(tmp_path: Path) -> None:
    from lawfit.errors import LogFormatError

    with pytest.raises(LogFormatError, match="a folder without logs of the trainer"):
        formats.read_table(tmp_path)


def test_a_backend_is_chosen_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {**backends.BACKENDS, AtOnce.name: AtOnce}  # the one line
    monkeypatch.setattr(options, "BACKENDS", known)
    assert LaunchOptions(backend="at-once").backend == "at-once"
    with pytest.raises(ValueError, match="there are local, debug, at-once"):
        LaunchOptions(backend="elsewhere")
    launcher = known["at-once"]()
    code = "import sys; sys.stderr.write('said'); sys.exit(3)"
    launcher.submit(Job(name="a", command=(sys.executable, "-IS", "-c", code), folder=tmp_path))
    assert launcher.state("a") == JobState(status=JobStatus.ENDED, place="here", exit_code=3)
    assert launcher.logs("a") == "said"
    launcher.close()
