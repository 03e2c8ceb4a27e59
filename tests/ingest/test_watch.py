"""`ingest --watch`: logs that grow while they are looked at come to what an ingest of the whole logs gives."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from lawfit import pipeline
from lawfit.findings import Finding
from lawfit.ingest import IngestOptions
from lawfit.ingest.run_log import RunLogs
from lawfit.pipeline.watching import Watch
from lawfit.storage import Store
from tests.ingest.formats.logs import ALL, GOLDEN
from tests.ingest.tables import GOOD, csv_text, rows, write_csv

QUIET: Final = 60.0  # seconds: no file of a test is so old


@dataclass
class Watching:
    """A watch of a folder, and what it said at its last look."""

    watch: Watch

    def look(self) -> list[Finding]:
        return list(self.watch.look())

    def codes(self) -> list[str]:
        """Of what was said, less how a table was read."""
        return [code for found in self.look() if (code := found.code.removeprefix("ingest.watched")) != "_note"]


@pytest.fixture
def watching(store: Store, tmp_path: Path) -> Callable[..., Watching]:
    def start(folder: Path = tmp_path / "runs", quiet: float = QUIET, **options: Any) -> Watching:
        folder.mkdir(exist_ok=True)
        return Watching(Watch(store, [str(folder)], IngestOptions(**options), quiet))

    return start


def content(store: Store) -> dict[str, Any]:
    """Runs and curves, less where they were read from."""
    found = {}
    for summary in store.recipes():
        key = summary.recipe.key
        for run in store.runs(key):
            curves = {}
            for metric in store.curve_metrics(key, run.run_key):
                steps, numbers = store.curve(key, run.run_key, metric)
                curves[metric] = steps.tolist(), numbers.tolist()
            found[run.run_key] = {**dataclasses.asdict(run), "source": "", "curves": curves}
    return found


def ingested(path: Path, where: Path, **options: Any) -> dict[str, Any]:
    """What an ingest of the whole logs stores."""
    with Store.open(where) as store:
        for source in pipeline.ingesting.sources_at(path, IngestOptions()):
            for table in pipeline.ingesting.tables_of(source, store):
                read = pipeline.ingesting.read_source(str(path), IngestOptions(**options), table)
                pipeline.ingesting.store_source(store, read)
        return content(store)


def pieces(target: Path, source: Path, shares: tuple[float, ...]) -> Iterator[None]:
    """Write all files of a folder, a piece of each further one at a time."""
    files = [path for path in source.rglob("*") if path.is_file()]
    done = dict.fromkeys(files, 0)
    for share in shares:
        for path in files:
            whole = path.read_bytes()
            at = target / path.relative_to(source)
            at.parent.mkdir(parents=True, exist_ok=True)
            settings = path.suffix in (".yaml", ".yml") or path.stem in ("hparams", "training_args")
            end = len(whole) if settings else round(share * len(whole))
            with at.open("ab") as file:
                file.write(whole[done[path] : end])
            done[path] = end
        yield


GROWING: Final = ("jsonl", "lightning", "tensorboard", "wandb-0.19.11", "wandb-0.31.0", "text/megatron", "text/nanogpt")


@pytest.mark.one_database
@pytest.mark.parametrize("name", GROWING)
def test_logs_that_grow_come_to_what_the_whole_logs_say(
    name: str, watching: Callable[..., Watching], store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    watched = watching(yes=True)
    for _ in pieces(folder, GOLDEN / name, (0.0, 0.1, 0.45, 0.46, 0.8, 0.99, 1.0)):
        watched.look()
    assert content(store) == ingested(folder, tmp_path / "whole.db", yes=True) != {}


@pytest.mark.one_database
@pytest.mark.parametrize("name", ALL)
def test_every_format_is_read_once_and_stored_as_by_an_ingest(
    name: str, watching: Callable[..., Watching], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, folder = GOLDEN / name, tmp_path / "runs"
    if name == "neptune":
        pytest.importorskip("pyarrow")
    shutil.copytree(source, folder) if source.is_dir() else (folder.mkdir(), shutil.copy(source, folder))
    watched = watching(quiet=0.0, yes=True)
    watched.look()
    waits = bool(watched.watch.so_far.waiting)  # what a study or an event file without settings leaves open
    assert waits or content(store) == ingested(folder, tmp_path / "whole.db", yes=True)
    read: list[Path] = []
    monkeypatch.setattr(RunLogs, "_understood", lambda self, path, root: read.append(path) or [])
    assert watched.codes() == []
    assert read == []


@pytest.mark.one_database
def test_only_what_changed_is_read(watching: Callable[..., Watching], monkeypatch: pytest.MonkeyPatch) -> None:
    watched = watching()
    folder = Path(watched.watch._places[0])
    shutil.copytree(GOLDEN / "wandb-0.31.0", folder, dirs_exist_ok=True)
    watched.look()
    read: list[str] = []
    understood = RunLogs._understood

    def noting(self: RunLogs, path: Path, root: Path) -> Any:
        read.append(path.name)
        return understood(self, path, root)

    monkeypatch.setattr(RunLogs, "_understood", noting)
    low = next(folder.rglob("run-idlow.wandb"))
    os.utime(low, ns=(1, 1))
    assert watched.codes() == []  # nothing new in it
    assert read == ["run-idlow.wandb"]


class TestTables:
    def test_rows_that_are_added_and_corrected(self, watching: Callable[..., Watching], store: Store) -> None:
        watched = watching()
        path = Path(watched.watch._places[0]) / "sweep.csv"
        said = []
        for losses in (["3.25"], ["3.25", "3.2"], ["3.25", "3.1"], ["3.25", "3.1"]):
            write_csv(path, rows(*({"final_loss": loss} for loss in losses)))
            said.append([found.data for found in watched.look() if found.code == "ingest.watched"])
        counts = [[(each["inserted"], each["updated"]) for each in one] for one in said]
        assert counts in ([[(1, 0)], [(1, 0)], [(0, 1)], []], [[(1, 0)], [(1, 0)], [(0, 1)], [(0, 0)]])
        assert {run["loss"] for run in content(store).values()} == {3.25, 3.1}

    @pytest.mark.parametrize("cut", [1, 2, 5, 30])
    def test_a_row_that_is_being_written_is_left_until_it_has_ended(
        self, watching: Callable[..., Watching], store: Store, cut: int
    ) -> None:
        """The last column is the learning rate: cut, it would be another run."""
        watched = watching()
        path = Path(watched.watch._places[0]) / "sweep.csv"
        good = {name: cell for name, cell in GOOD.items() if name not in ("run_id", "learning_rate")}
        whole = csv_text([{**good, "learning_rate": rate} for rate in ("0.00125", "0.0025")])
        path.write_text(whole[:-cut])
        watched.look()
        assert content(store) == {}
        path.write_text(whole)
        watched.look()
        assert sorted(run["lr"] for run in content(store).values()) == [0.00125, 0.0025]

    def test_a_file_without_a_last_line_end_is_read_when_it_is_quiet(
        self, watching: Callable[..., Watching], store: Store
    ) -> None:
        watched = watching()
        path = Path(watched.watch._places[0]) / "sweep.csv"
        path.write_text(csv_text(rows({}, {"learning_rate": "0.004"})).rstrip("\n"))
        watched.look()
        assert content(store) == {}
        os.utime(path, (time.time() - 2 * QUIET,) * 2)
        watched.look()
        assert len(content(store)) == 2

    def test_curves_wait_for_their_runs(self, watching: Callable[..., Watching], store: Store) -> None:
        watched = watching()
        folder = Path(watched.watch._places[0])
        (folder / "curves.csv").write_text("run_id,step,train_loss\nr1,10,4.0\nr1,20,3.5\n")
        assert watched.codes() == ["_waits"]
        assert watched.codes() == []
        write_csv(folder / "runs.csv", rows({}))
        watched.look()
        watched.look()
        with (folder / "curves.csv").open("a") as file:
            file.write("r1,30,3.3\n")
        assert [found.data["inserted"] for found in watched.look()] == [1]
        (run,) = content(store).values()
        assert run["curves"] == {"train_loss": ([10, 20, 30], [4.0, 3.5, 3.3])}


class TestWhatWaits:
    def test_a_question_is_asked_once_and_answered_later(self, watching: Callable[..., Watching], store: Store) -> None:
        watched = watching()
        folder = Path(watched.watch._places[0])
        asked = [{"batch_size_tokens": ..., "batch_size": 256, "seq_len": ...}] * 2
        table = rows(*asked)
        write_csv(folder / "a.csv", table)
        write_csv(folder / "b.csv", rows({"run_id": "other"}))
        assert sorted(watched.codes()) == ["", "_waits"]
        write_csv(folder / "a.csv", [*table, {**table[0], "run_id": "r9", "final_loss": "3.1"}])
        assert watched.codes() == []
        assert [*content(store)] == ["other"]
        (questions,) = watched.watch.so_far.waiting.values()
        assert [question["code"] for question in questions] == ["ingest.batch_unit"]
        watched.watch.answer(IngestOptions(batch_unit="sequences", seq_len=1024))
        watched.look()
        assert len(content(store)) == 4
        assert not watched.watch.so_far.waiting

    def test_files_that_vanish_or_are_no_logs(self, watching: Callable[..., Watching], store: Store) -> None:
        watched = watching()
        folder = Path(watched.watch._places[0])
        assert watched.codes() == ["_waits"]  # nothing there yet
        assert watched.codes() == []
        write_csv(folder / "a.csv", rows({}))
        (folder / "b.csv").write_bytes(b"a,b\x00\n" * 9)
        assert sorted(watched.codes()) == ["", "_waits"]
        (folder / "b.csv").unlink()
        (folder / "a.csv").unlink()
        assert watched.codes() == ["_waits"]
        folder.rmdir()
        assert watched.codes() == ["_waits"]
        assert len(content(store)) == 1

    def test_a_reader_that_breaks_ends_nothing(
        self, watching: Callable[..., Watching], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watched = watching()
        folder = Path(watched.watch._places[0])
        write_csv(folder / "a.csv", rows({}))
        shutil.copytree(GOLDEN / "jsonl", folder / "logs")
        broken = pytest.MonkeyPatch()
        broken.setattr(RunLogs, "read_files", lambda *_: 1 / 0)
        codes = watched.codes()
        broken.undo()
        assert codes.count("_waits") == 1
        assert "" in codes


@pytest.mark.one_database
def test_a_run_that_is_under_way_alone_is_no_question(watching: Callable[..., Watching]) -> None:
    watched = watching()
    folder = Path(watched.watch._places[0])
    source = next((GOLDEN / "wandb-0.31.0").rglob("run-idkilled.wandb"))
    shutil.copy(source, folder)
    said = watched.look()
    assert [found.data["reason"] for found in said if found.code == "ingest.watched_rejection"] == [
        "the status is 'running', not finished (or diverged)"
    ]
    assert not watched.watch.so_far.waiting


# As a process


@dataclass
class Process:
    """`lawfit ingest --watch` as it runs."""

    running: subprocess.Popen[str]
    output: Path

    def until(self, said: Callable[[str], bool], seconds: float = 60.0) -> str:
        end = time.monotonic() + seconds
        while not said(text := self.output.read_text()):
            assert self.running.poll() is None, text
            assert time.monotonic() < end, text
            time.sleep(0.05)
        return text


@contextmanager
def watch_process(folder: Path, database: Path, *options: str) -> Iterator[Process]:
    output = database.with_suffix(".out")
    command = [sys.executable, "-m", "lawfit", "--database", str(database), "ingest", "--watch", str(folder)]
    with output.open("w") as file:
        running = subprocess.Popen(
            [*command, "--interval", "0.1", *options], stdout=file, stderr=subprocess.STDOUT, text=True
        )
        try:
            yield Process(running, output)
        finally:
            running.kill()
            running.wait()


@pytest.mark.slow
@pytest.mark.one_database
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_process_follows_a_sweep_and_ends_with_a_summary(tmp_path: Path, how: signal.Signals) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    table = csv_text(rows({}, {"learning_rate": "0.004"}))
    with watch_process(folder, tmp_path / "a.db", "--yes") as process:
        process.until(lambda text: "without logs" in text)
        (folder / "sweep.csv").write_text(table[: len(table) // 2])
        for _ in pieces(folder / "wb", GOLDEN / "wandb-0.31.0", (0.3, 0.7, 1.0)):
            time.sleep(0.3)
        for _ in pieces(folder / "js", GOLDEN / "jsonl", (0.5, 1.0)):
            time.sleep(0.3)
        (folder / "sweep.csv").write_text(table)
        process.until(lambda text: text.count("'low' ") >= 2 and "sweep.csv: 2 runs new" in text)
        time.sleep(0.5)
        process.running.send_signal(how)
        assert process.running.wait(30) == 0
        text = process.output.read_text()
    assert "of watching: " in text.splitlines()[-1]
    with Store.open(tmp_path / "a.db") as store:
        found = content(store)
    expected = {
        **ingested(folder / "wb", tmp_path / "wb.db", yes=True),
        **ingested(folder / "js", tmp_path / "js.db", yes=True),
        **ingested(folder / "sweep.csv", tmp_path / "sweep.db"),
    }
    assert found == expected


@pytest.mark.slow
@pytest.mark.one_database
def test_a_question_is_answered_in_the_mapping_file_while_it_watches(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "sweep.csv", rows({"batch_size_tokens": ..., "batch": 512}))
    answers = tmp_path / "answers.json"
    with watch_process(path, tmp_path / "a.db", "--mapping", str(answers)) as process:
        text = process.until(lambda _: answers.exists())
        assert text.count("does not say whether it counts tokens") == 1
        document = json.loads(answers.read_text())
        (question,) = document["questions"]
        question["answer"] = [{"option": "batch-unit", "value": "sequences"}, {"option": "seq-len", "value": "1024"}]
        time.sleep(0.05)
        answers.write_text(json.dumps(document))
        process.until(lambda text: "1 run new" in text)
        process.running.send_signal(signal.SIGINT)
        assert process.running.wait(30) == 0


@pytest.mark.one_database
def test_a_place_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lawfit.cli.main import run

    assert run(["--database", str(tmp_path / "a.db"), "ingest", "--watch", str(tmp_path / "nowhere")]) == 1
    assert "no such file or folder to watch" in capsys.readouterr().err
