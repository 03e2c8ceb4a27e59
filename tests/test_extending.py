"""Adding a kind of law, a log format or a way to run jobs takes one module and one line: each is added here, in under
forty lines."""

from __future__ import annotations

import inspect
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from lawfit import kinds, pipeline
from lawfit.ask import Target
from lawfit.cli import main
from lawfit.errors import FitError
from lawfit.estimate.evidence import Evidence, Prepared
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.estimate.numerics.optimum_law import MeasuredOptima
from lawfit.estimate.numerics.sweeps import sweep_parabola
from lawfit.ingest import formats
from lawfit.ingest.run_log import LoggedRun, RunLogs, place
from lawfit.ingest.table import Table, table_of_objects
from lawfit.kinds.fitting import fit_all_laws
from lawfit.kinds.measured import MeasuredLaw
from lawfit.launch import Job, JobState, JobStatus, LaunchOptions, Resources, backends, options
from lawfit.notebook import Answer
from lawfit.records import Fit, FitStatus, OptimumStatus, Sweep
from lawfit.report.page import report_html
from lawfit.settings import Settings
from lawfit.simulate import Design, Truth, simulate_sweep
from lawfit.storage import Store
from lawfit.words import told
from lawfit_api.app import create_app
from tests.client import TestClient

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


class Prints(RunLogs):
    """A log of a trainer: settings and losses as it prints them, a run for each file, wherever it lies."""

    name = "prints"

    def sniff(self, path: Path, head: bytes) -> bool:
        return head.startswith(b"my trainer")

    def runs(self, path: Path, root: Path) -> Iterator[LoggedRun]:
        run = LoggedRun(file=place(path, root), name=path.stem)
        for line in path.read_text().splitlines()[1:]:
            key, value = line.split()
            if key.isdigit():
                run.log("val_loss", int(key), float(value))
            else:
                run.config[key] = value
        yield run


class AtOnce:
    """A backend: each job runs to its end when it is submitted."""

    name, honours, elsewhere, places = "at-once", frozenset[str](), False, 1

    def __init__(self, gpus: Sequence[str] = (), *, workers: int = 1, resources: Resources | None = None) -> None:
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


def adams_memory(prepared: Prepared) -> MeasuredOptima:
    """Where the loss is lowest along 1 - beta2, at each scale whose runs show it."""
    sweeps: dict[tuple[float, ...], list[tuple[float, float]]] = {}
    for run in prepared.runs:
        if run.loss is not None and "beta2" in run.extra:
            at = (run.params, run.tokens, run.batch_tokens)
            sweeps.setdefault(at, []).append((1 - float(run.extra["beta2"]), run.loss))
    best = {at: sweep_parabola(*zip(*rows, strict=True)) for at, rows in sweeps.items() if len(rows) > 2}
    inside = {at: found.value for at, found in best.items() if found.status is OptimumStatus.INSIDE}
    if not inside:
        raise FitError("three values of beta2 at one scale")
    params, tokens, batch_tokens = zip(*inside, strict=True)
    columns = {"params": params, "tokens": tokens, "batch_tokens": batch_tokens}
    return MeasuredOptima.of(list(inside.values()), [0.1] * len(inside), columns)


MEMORY: Final = MeasuredLaw(
    id="adam_memory",
    label="1 - beta2",
    part="one_minus_beta2",
    inputs=("batch_tokens",),
    needs_setting=True,
    measure=adams_memory,
)


def lines_of(made: Any) -> int:
    """Those of a class, or of a law of this module and what it measures."""
    if made is not MEMORY:
        return len(inspect.getsource(made).splitlines())
    source = inspect.getsource(sys.modules[__name__])
    declared = source[source.index("MEMORY: Final = ") :].partition("\n)\n")[0]
    return len([*inspect.getsource(adams_memory).splitlines(), *declared.splitlines()])


@pytest.mark.parametrize("made", [Studies, AtOnce, MEMORY], ids=["format", "backend", "law"])
def test_each_takes_few_lines(made: Any) -> None:
    assert 0 < lines_of(made) < MOST_LINES


@pytest.fixture(scope="module")
def with_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Fit, dict[str, Any]]]:
    """A database with runs at several beta2, whose best goes as the batch, fitted and asked."""
    rng = np.random.default_rng(3)
    scales = [(size, size * ratio) for size in (2e7, 6e7, 1.8e8) for ratio in (10, 90)]
    sweep = simulate_sweep(Truth(noise=5e-4), Design(scales=scales, lr_steps=5, batch_steps=5), rng=rng)
    usual = min((run for run in sweep.runs if run.loss), key=lambda run: run.loss or 0)
    beside = [
        replace(usual, run_key=f"{batch}-{beta2}", batch_tokens=batch, loss=usual.loss * (1 + cost), extra=extra)
        for batch in 2.0 ** np.arange(14, 20)
        for beta2 in 1 - 0.01 * 2.0 ** np.arange(-4, 5)
        for cost in [0.01 * np.log((1 - beta2) / (0.01 * batch / 2**17)) ** 2]
        for extra in [{"beta2": f"{beta2:.6g}"}]
    ]
    runs = [*(replace(run, extra={"beta2": "0.99"}) for run in sweep.runs), *beside]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kinds, "KINDS", (*kinds.KINDS, MEMORY))  # the one line
        path = tmp_path_factory.mktemp("kinds") / "lawfit.db"
        with Store.open(path) as store:
            store.put_sweeps([Sweep(recipe=sweep.recipe, runs=runs)])
            fit = pipeline.refit(store, options=FitOptions(backtest=False))
            answer = pipeline.recommend(store, None, Target(params=4e8, tokens=2e10, seq_len=2048))
        yield str(path), fit, answer


class TestALaw:
    def test_is_fitted_certified_and_left_out(self, with_memory: tuple[str, Fit, dict[str, Any]]) -> None:
        database, fit, _ = with_memory
        with Store.open(database) as store:
            law = pipeline.laws_of(store, fit)[MEMORY.id]
        assert law.status is FitStatus.OK
        low, high = law.payload["law"]["exponent_intervals"]["batch_tokens"]
        assert low < 1 < high  # the truth
        assert law.payload["certificate"]["certified"]
        assert law.payload["left_out"]["inside"]
        assert fit.payload["laws"][MEMORY.id]["fit_id"] == law.id

    def test_answers(self, with_memory: tuple[str, Fit, dict[str, Any]]) -> None:
        answer = with_memory[2]
        part, batch = answer[MEMORY.part], answer["recommendation"]["batch_tokens"]["value"]
        assert part["low"] < 0.01 * batch / 2**17 < part["high"]
        assert part["status"] in ("ok", "extrapolated")

    def test_stands_wherever_an_answer_is_shown(
        self, with_memory: tuple[str, Fit, dict[str, Any]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        database, fit, answer = with_memory
        asked = ["predict", "--params", "4e8", "--tokens", "2e10", "--seq-len", "2048"]
        shown = []
        for command in (asked, [*asked, "--verbose"], ["fit"]):
            assert main.run(["--database", database, *command]) == 0
            shown.append(capsys.readouterr().out)
        assert main.run(["--database", database, *asked, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[MEMORY.part] == told(answer[MEMORY.part])
        with TestClient(create_app(Settings(database_url=database))) as client:
            query = {"params": 4e8, "tokens": 2e10, "seq_len": 2048}
            assert client.get("/v1/predictions", params=query).json()[MEMORY.part] == told(answer[MEMORY.part])
            shown.append(client.get("/advisor", params=query).text)
            shown.append(client.get("/laws").text)
        with Store.open(database) as store:
            laws, runs = pipeline.laws_of(store, fit), store.runs(fit.recipe_key)
        shown += [report_html(fit, answer, runs, laws), str(Answer(document=told(answer)))]
        for text in shown:
            assert re.search(re.escape(MEMORY.label), text, re.IGNORECASE), text[:2000]
        assert 'id="law-one_minus_beta2"' in shown[4]  # with its figure
        assert "1 - beta2 against batch tokens" in shown[5]

    def test_says_what_it_lacks(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kinds, "KINDS", (MEMORY,))
            assert fit_all_laws(Evidence(runs=())).missing == {MEMORY.id: "three values of beta2 at one scale"}


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


def test_logs_of_a_trainer_are_found_in_a_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "FORMATS", (Prints(), *formats.FORMATS))  # the one line
    for lr in ("1e-3", "2e-3"):
        settings = f"params 1e7\nbatch_tokens 8192\nlr {lr}\nmax_steps 20\n"
        folder = tmp_path / "all" / f"lr-{lr}"
        folder.mkdir(parents=True)
        (folder / "out").write_text(f"my trainer\n{settings}10 3.5\n20 3.1\n")
    with Store.open(tmp_path / "lawfit.db") as store:
        report = pipeline.ingest(store, tmp_path / "all")
        assert (report.format, report.inserted, report.rejections) == ("prints", 2, ())
        key = store.recipes()[0].recipe.key
        assert sorted((run.lr, run.loss, run.steps) for run in store.runs(key)) == [(1e-3, 3.1, 20), (2e-3, 3.1, 20)]
        assert [steps.tolist() for steps, _ in store.curves(key, "validation_loss").values()] == [[10, 20], [10, 20]]


def test_a_folder_that_no_format_knows_is_refused_as_before(tmp_path: Path) -> None:
    from lawfit.errors import LogFormatError

    with pytest.raises(LogFormatError, match="a folder without logs that lawfit reads"):
        formats.read_table(tmp_path)


def test_a_backend_is_chosen_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {**backends.BACKENDS, AtOnce.name: AtOnce}  # the one line
    monkeypatch.setattr(options, "BACKENDS", known)
    assert LaunchOptions(backend="at-once").backend == "at-once"
    with pytest.raises(ValueError, match="there are local, debug, slurm, ray, at-once"):
        LaunchOptions(backend="elsewhere")
    launcher = known["at-once"]()
    code = "import sys; sys.stderr.write('said'); sys.exit(3)"
    launcher.submit(Job(name="a", command=(sys.executable, "-IS", "-c", code), folder=tmp_path))
    assert launcher.state("a") == JobState(status=JobStatus.ENDED, place="here", exit_code=3)
    assert launcher.logs("a") == "said"
    launcher.close()
