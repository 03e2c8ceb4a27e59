"""Exit codes, error sentences and the one JSON document, for whatever a command runs into."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lawfit import errors, pipeline
from lawfit.cli.app import ORDER
from lawfit.cli.main import ExitCode, exit_code_of, run
from lawfit.storage import Store

PREDICT = ("predict", "--params", "7B", "--tokens", "1.4T")


def shell(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A real process, as from a shell."""
    return subprocess.run(
        [sys.executable, "-m", "lawfit", *words], capture_output=True, text=True, timeout=60, **options
    )


READING = (
    PREDICT,
    ("fit",),
    ("laws", "compare"),
    ("plan", "--flops", "1e20"),
    ("predictions", "show", "x"),
    ("runs", "list"),
    ("runs", "exclude", "a", "--reason", "b"),
    ("runs", "restore", "a"),
    ("transfer",),
)


@pytest.fixture
def empty_store(away: Path) -> None:
    with Store.open(away / "lawfit.db"):
        pass


def raising(error: BaseException) -> Any:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("command", ORDER)
def test_help_fits_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([command, "--help"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: lawfit {command}")
    assert max(map(len, out.splitlines())) <= 80


def test_help_lists_every_command_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == ExitCode.OK
    listed = capsys.readouterr().out.split("Commands:")[1].splitlines()
    assert [line.split()[0] for line in listed if line.strip()] == list(ORDER)


@pytest.mark.parametrize("words", [[], ["laws"]], ids=["lawfit", "lawfit laws"])
def test_without_a_command_the_help_is_shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: lawfit")
    assert "Commands:" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.LawfitError("x"), 1),
        (errors.StoreError("x"), 1),
        (errors.LogFormatError("x"), 1),
        (errors.FitError("x"), 1),
        (errors.NotEnoughData("x"), 4),
        (errors.NoFit("x"), 4),
        (RuntimeError("x"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exit_code_of_each_failure(error: Exception, code: int) -> None:
    assert exit_code_of(error) == code


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        pytest.param(["predikt"], "No such command", id="unknown command"),
        pytest.param(["predict", "--params", "7B"], "--tokens", id="missing option"),
        pytest.param(
            ["predict", "--params", "seven", "--tokens", "1T"], "write it like 7e9, 7B or 1.4T", id="not a number"
        ),
        pytest.param(["predict", "--params", "-7B", "--tokens", "1T"], "not positive", id="negative"),
        pytest.param(["predict", "--params", "0", "--tokens", "1T"], "not positive", id="zero"),
        pytest.param(["predict", "--params", "nan", "--tokens", "1T"], "not a number", id="nan"),
        pytest.param(["predict", "--params", "inf", "--tokens", "1T"], "not a number", id="inf"),
        pytest.param(["predict", "--params", "1e999", "--tokens", "1T"], "too large", id="overflow"),
        pytest.param(["predict", "--params", "1e300", "--tokens", "1T"], "between 1 and 1e18", id="beyond all scales"),
        pytest.param([*PREDICT, "--level", "1.5"], "--level", id="level"),
        pytest.param([*PREDICT, "--seq-len", "2048.5"], "whole number", id="half a token"),
        pytest.param(["ingest"], "FILE", id="no file"),
        pytest.param(["ingest", "x.csv", "--map", "lr"], "--map learning_rate=lr", id="map"),
        pytest.param(["ingest", "x.csv", "--params-convention", "all"], "non_embedding", id="params convention"),
        pytest.param(["runs", "exclude", "a", "--reason", " "], "needs a reason", id="no reason"),
        pytest.param(["runs", "restore"], "--all", id="restore what"),
        pytest.param(["serve", "--port", "99999"], "--port", id="port"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_usage_errors(words: list[str], sentence: str, as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--json"] if as_json and words[0] != "serve" else words) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert sentence in err
    assert "Traceback" not in err
    if as_json and words[0] != "serve":
        assert json.loads(out)["error"]["exit_code"] == ExitCode.USAGE
    else:
        assert out == ""


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_a_slip_in_the_name_of_a_database_makes_none(
    words: tuple[str, ...], away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--database", "tpyo.db", *words]) == ExitCode.FAILED
    assert "there is no database tpyo.db; lawfit ingest creates it" in capsys.readouterr().err
    assert list(away.iterdir()) == []


@pytest.mark.usefixtures("empty_store")
@pytest.mark.parametrize("words", [PREDICT, ("fit",), ("plan", "--flops", "1e20"), ("transfer",)], ids=" ".join)
def test_no_runs_at_all_are_not_enough_data(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == ExitCode.NOT_ENOUGH
    assert "holds no runs yet; start with lawfit ingest FILE" in capsys.readouterr().err


@pytest.mark.usefixtures("empty_store")
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NoFit("no stored fit for recipe 'x'; run lawfit fit --recipe x"), 4),
        (errors.NotEnoughData("one run is not enough"), 4),
        (errors.StoreError("x.db is locked"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_failures_are_one_sentence_and_one_document(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pipeline, "recommend", raising(error), raising=False)
    assert run([*PREDICT, "--json"]) == code
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": {"type": type(error).__name__, "message": str(error), "exit_code": code}}
    assert err == f"lawfit: {error}\n"


@pytest.mark.usefixtures("empty_store")
def test_an_unexpected_error_says_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pipeline, "recommend", raising(ZeroDivisionError("division by zero")), raising=False)
    assert run(PREDICT) == ExitCode.FAILED
    out, err = capsys.readouterr()
    assert out == ""
    assert "ZeroDivisionError: division by zero" in err
    assert "LAWFIT_DEBUG=1" in err
    assert "Traceback" not in err
    monkeypatch.setenv("LAWFIT_DEBUG", "1")
    assert run(PREDICT) == ExitCode.FAILED
    assert "Traceback" in capsys.readouterr().err


def test_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    done = shell("--database", str(tmp_path / "no" / "such" / "folder.db"), *PREDICT, "--json")
    assert done.returncode == ExitCode.FAILED
    assert json.loads(done.stdout)["error"]["type"] == "StoreError"
    assert "does not exist" in done.stderr


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_database_may_stand_before_or_after_the_command(before: bool, tmp_path: Path) -> None:
    words = ["--database", str(tmp_path / "here.db")]
    done = shell(*words, "db", "upgrade") if before else shell("db", "upgrade", *words)
    assert done.returncode == ExitCode.OK, done.stderr
    assert [path.name for path in tmp_path.glob("*.db")] == ["here.db"]


@pytest.mark.parametrize("how", ["environment", "lawfit.toml", "default"])
def test_where_the_database_is(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "environment":
        monkeypatch.setenv("LAWFIT_DATABASE_URL", "there.db")
    if how != "default":
        (tmp_path / "lawfit.toml").write_text('database_url = "toml.db"\n')
    assert run(["db", "upgrade"]) == ExitCode.OK
    names = {"environment": "there.db", "lawfit.toml": "toml.db", "default": "lawfit.db"}
    assert [path.name for path in tmp_path.glob("*.db")] == [names[how]]


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_ctrl_c_ends_in_a_sentence(as_json: bool) -> None:
    code = (
        "import os, signal, sys, time\n"
        "from lawfit import pipeline\n"
        "def slow(*_, **__):\n    print('begun', file=sys.stderr, flush=True)\n    time.sleep(30)\n"
        "pipeline.open_store = slow\n"
        "from lawfit.cli.main import main\n"
        f"sys.argv = ['lawfit', 'fit'] + {['--json'] if as_json else []}\n"
        "main()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == ExitCode.INTERRUPTED
    assert err.startswith("lawfit: interrupted")
    assert "Traceback" not in err
    assert (json.loads(out)["error"]["exit_code"] == ExitCode.INTERRUPTED) if as_json else out == ""


def test_a_closed_pipe_is_quiet() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "lawfit", "laws", "list"], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == ExitCode.OK
