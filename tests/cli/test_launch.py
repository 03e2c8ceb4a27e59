"""`lawfit launch`: what it prints, its exit codes, and what it refuses. Training itself: tests/launch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lawfit import pipeline
from lawfit.cli import launch as command
from lawfit.cli.main import run
from lawfit.launch import Failure, LaunchOptions, LaunchReport, Progress, Result, Running, devices, make_plan
from lawfit.records import Rejection
from tests.launch.conftest import GRID, nothing_stored, write_corpus


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAWFIT_DATABASE_URL", str(tmp_path / "lawfit.db"))
    write_corpus(tmp_path / "corpus")
    path = tmp_path / "coarse.json"
    path.write_text(json.dumps(GRID))
    return path


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "visible_gpus", lambda: ())


def result(**own: Any) -> Result:
    ids = tuple("abcdefghijkl")
    whole = {"finished": ids[:8], "diverged": ids[8:], "unfinished": (), "failures": (), "stopped_by": ""}
    return Result(**{**whole, "tokens": 6000, "seconds": 75.0, **own})


@pytest.fixture
def launched(grid: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes `pipeline.launch` give a report with some things in it."""

    def set_report(**own: Any) -> None:
        plan = make_plan([grid], nothing_stored, LaunchOptions(cpu=True))
        report = {"result": result(), "recipes": ("coarse",), "new": 12, "rejections": (), "not_stored": "", **own}

        def fake(_store: Any, _files: Any, _options: Any, *, progress: Any) -> LaunchReport:
            if progress:
                progress(PROGRESS)
            return LaunchReport(plan=plan, **report)

        monkeypatch.setattr(pipeline, "launch", fake)

    return set_report


FAILURE = Failure(pack="000-tiny", runs=("a", "b"), reason="RuntimeError: CUDA error, 3 times", tail="Traceback\nlast")
PROGRESS = Progress(
    runs=12, finished=3, diverged=1, failed=2, tokens=1_500_000, tokens_total=3_000_000, packs_waiting=1,
    running=(Running(pack="000-tiny", place="gpu 0", tokens=5, tokens_total=10),) * 2,
    seconds=70.0, seconds_left=3700.0, news=("000-tiny begins on gpu 0 (6 runs)",),
)  # fmt: skip


def test_a_dry_run_lists_the_packs(grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["launch", str(grid), "--cpu", "--dry-run"]) == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert "Runs          12 asked for" in lines
    assert "Packs         2 to train, 7.68k tokens" in lines
    assert "000-tiny-D640-B32     6     20   3.84k" in lines
    assert "nothing was trained" in output.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coarse.json", "corpus"]


@pytest.mark.parametrize(
    ("tokens", "evaluated", "said"),
    [
        (6976, 124, []),
        (7040, 124, ["the longest run reads the 7k training tokens 1.01 times over"]),
        (640, 125, ["2 of 2 packs cannot be trained: 000-tiny-D640-B32 evaluates on 125 sequences of 8 tokens"]),
    ],
    ids=["enough", "training", "validation"],
)
def test_too_little_text(
    grid: Path, capsys: pytest.CaptureFixture[str], tokens: int, evaluated: int, said: list[str]
) -> None:
    block = {**GRID["blocks"][0], "tokens": tokens, "eval_sequences": evaluated}
    grid.write_text(json.dumps({**GRID, "blocks": [block]}))
    assert run(["launch", str(grid), "--cpu", "--dry-run"]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("!")]
    assert [found in line for found, line in zip(said, warnings, strict=True)] == [True] * len(said)


def test_a_dry_run_needs_no_gpu(grid: Path, capsys: pytest.CaptureFixture[str], no_gpu: None) -> None:
    for words, planned in (
        ([], "planned for GPU 0, but no GPU"),
        (["--gpus", "2,5"], "planned for GPUs 2, 5, but no GPU"),
    ):
        assert run(["launch", str(grid), "--dry-run", *words]) == 0
        assert planned in capsys.readouterr().err
        assert run(["launch", str(grid), "--dry-run", "--json", *words]) == 0
        assert planned in json.loads(capsys.readouterr().out)["caveats"][0]


def test_trap_a_refused_launch_leaves_nothing(grid: Path, capsys: pytest.CaptureFixture[str], no_gpu: None) -> None:
    before = sorted(grid.parent.iterdir())
    assert run(["launch", str(grid)]) == 1
    assert "no GPU found" in capsys.readouterr().err
    assert sorted(grid.parent.iterdir()) == before


@pytest.mark.parametrize(("tokens", "said"), [(640, False), (660, True)])
def test_horizons_that_whole_steps_cut_in_two(
    grid: Path, capsys: pytest.CaptureFixture[str], tokens: int, said: bool
) -> None:
    grid.write_text(json.dumps({**GRID, "blocks": [{**GRID["blocks"][0], "tokens": tokens}]}))
    assert run(["launch", str(grid), "--cpu", "--dry-run"]) == 0
    assert ("runs of 656 and of 672 tokens count as different horizons" in capsys.readouterr().err) == said


@pytest.mark.parametrize(
    ("own", "code", "out", "err"),
    [
        pytest.param({}, 0, "8 finished, 4 diverged; 6k tokens in 1:15", "next: lawfit fit\n", id="all done"),
        pytest.param(
            {"result": result(finished=("a",), diverged=(), failures=(FAILURE,))}, 3,
            "000-tiny (2 runs): RuntimeError: CUDA error, 3 times\n  Traceback\n  last", "see what failed",
            id="some failed",
        ),
        pytest.param(
            {"result": result(finished=(), diverged=(), failures=(FAILURE,)), "new": 0}, 1,
            "2 failed", "see what failed", id="all failed",
        ),
        pytest.param(
            {"result": result(unfinished=("a", "b"), stopped_by="deadline")}, 5,
            "2 not done", "the same command again", id="deadline",
        ),
        pytest.param(
            {"result": result(unfinished=("a", "b"), stopped_by="signal")}, 130,
            "2 not done", "the same command again", id="signal",
        ),
        pytest.param({"not_stored": "the disk is full"}, 1, "the disk is full", "lawfit ingest runs", id="not stored"),
        pytest.param(
            {"rejections": (Rejection(file="a.jsonl", line=1, column=None, reason="it is odd"),)}, 3,
            "12 new in coarse", "a.jsonl: it is odd", id="log rejected",
        ),
        pytest.param({"notes": ("they are unlike",)}, 0, "12 new in coarse", "they are unlike\n", id="notes"),
        pytest.param(
            {"result": result(finished=("a",), diverged=(), failures=(FAILURE,) * 3)}, 3,
            "000-tiny and 2 more like it (6 runs): RuntimeError: CUDA error, 3 times\n  Traceback\n  last\n",
            "see what failed", id="failed alike",
        ),
        pytest.param(
            {"recipes": ("a", "b")}, 0, "12 new in a, b", "next: lawfit fit --recipe a (or b)", id="two recipes"
        ),
    ],
)  # fmt: skip
def test_exit_code_and_next_command(
    launched: Callable[..., None], grid: Path, capsys: pytest.CaptureFixture[str],
    own: dict[str, Any], code: int, out: str, err: str,
) -> None:  # fmt: skip
    launched(**own)
    assert run(["launch", str(grid), "--cpu"]) == code
    output = capsys.readouterr()
    assert out in output.out
    assert err in output.err
    assert "000-tiny begins on gpu 0 (6 runs)" in output.err
    assert run(["launch", str(grid), "--cpu", "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["asked"]) == ("lawfit.launch/1", 12)
    assert ("error" in document) == (code == 1)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["nowhere.json"], 1, "nowhere.json: there is no such file"),
        (["coarse.json", "--cpu", "--gpus", "0"], 2, "either GPUs or the CPU"),
        (["coarse.json", "--gpus", ","], 2, "name the GPUs as in 0,1"),
        (["coarse.json", "--deadline", "0"], 2, "Invalid value for '--deadline': '0' is not positive"),
        (["coarse.json", "--deadline", "-5"], 2, "'--deadline'"),
        (["coarse.json", "--cpu", "--corpus", "elsewhere"], 1, "there is no corpus in elsewhere"),
    ],
)
def test_what_is_refused(
    grid: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, sentence: str
) -> None:
    assert run(["launch", *words, "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert (document["error"]["exit_code"], sentence in document["error"]["message"]) == (code, True)


def test_how_far_it_is_in_words() -> None:
    assert command._line(PROGRESS) == "1:10: 4/12 runs, 1 diverged, 2 failed, 1.5M/3M tokens, 1:01:40 left"


def test_the_bars_build_and_follow(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("FORCE_COLOR", "1"), ("COLUMNS", "140"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    with command._bars() as draw:
        draw(PROGRESS)
    output = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert "000-tiny begins on gpu 0 (6 runs)" in output
    assert len(set(re.findall("gpu 0  000-tiny +", output))) == 2
    assert "50%" in output
    assert "4/12 runs" in output
