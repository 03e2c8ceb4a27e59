"""The main path through the command line: simulate, ingest, fit, predict; and the same document over HTTP."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from lawfit.cli.main import ExitCode, run
from lawfit.settings import Settings
from lawfit.words.glossary import GLOSSARY, terms_in
from lawfit_api.app import create_app
from lawfit_api.schemas import ANSWER
from tests.cli.conftest import Call
from tests.client import TestClient

TARGET = ("--params", "1B", "--tokens", "50B")
MOST_WORDS = 220  # of a first look; `--verbose` says all, and what the words of the craft mean
CRAFT = ("certificate", "condition number", "influence", "starts agree", "standard error")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a simulated sweep and a fit of it, made by commands; copied by each test that writes."""
    folder = tmp_path_factory.mktemp("fitted")
    commands = (
        ["simulate", "sweep.csv"],
        ["ingest", "sweep.csv"],
        ["fit", "--json"],
    )
    with chdir(folder):
        for words in commands:
            printed = io.StringIO()
            with redirect_stdout(printed):
                assert run(words) == ExitCode.OK
    (folder / "fit.json").write_text(printed.getvalue())
    return folder


@pytest.fixture
def database(fitted: Path, away: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its own copy of the fitted database, named in the environment."""
    (away / "lawfit.db").write_bytes((fitted / "lawfit.db").read_bytes())
    monkeypatch.setenv("LAWFIT_DATABASE_URL", str(away / "lawfit.db"))
    return str(away / "lawfit.db")


def test_without_runs_or_without_a_fit(away: Path, call: Call) -> None:
    assert "lawfit ingest" in call("predict", *TARGET, code=ExitCode.FAILED)["error"]["message"]
    call("simulate", away / "s.csv", "--lr-steps", "3", "--batch-steps", "2")
    call("ingest", away / "s.csv")
    document = call("predict", *TARGET, code=ExitCode.NOT_ENOUGH)
    assert document["error"]["type"] == "NoFit"
    assert "lawfit fit" in document["error"]["message"]


def test_fit_prints_one_document_and_can_be_read_again(fitted: Path, database: str, text: Call, call: Call) -> None:
    document = json.loads((fitted / "fit.json").read_text())
    assert document["payload"]["runs_used"] == 567
    with TestClient(create_app(Settings(database_url=database))) as client:
        stored = client.get(f"/v1/fits/{document['id']}").json()
    assert {**stored, "schema": "lawfit.fit/1"} == document
    out, err = text("fit", "--verbose")
    for words in ("Recipe", "567 used", "Scales", "180M", "Backtest"):
        assert words in out
    assert document["id"] in err  # the same data and options: the same fit


def test_predict_prints_what_is_promised(database: str, call: Call) -> None:
    document = call("predict", *TARGET)
    ANSWER.validate_python(document)
    assert (document["target"]["params"], document["target"]["tokens"]) == (1e9, 5e10)
    for part in document["recommendation"].values():
        assert part["low"] <= part["value"] <= part["high"]
        assert set(part["cheap_zone"]) == {"0.001", "0.0025"}
        assert part["extrapolation_decades"]["params"] == pytest.approx(0.745, abs=0.01)  # log10(1e9 / 1.8e8)
    assert {"step_law", "deepseek"} <= {law["law"] for law in document["published"]}
    assert document["evidence"]["runs_used"] == 567


@pytest.mark.parametrize(
    ("words", "query"),
    [
        pytest.param((), "", id="plain"),
        pytest.param(("--recipe", "sweep", "--level", "0.8"), "&recipe=sweep&level=0.8", id="recipe and level"),
        pytest.param(("--batch-tokens", "500k"), "&batch_tokens=5e5", id="batch given"),
        pytest.param(
            ("--seq-len", "1024", "--batch-multiple", "8", "--max-batch", "262144"),
            "&seq_len=1024&batch_multiple=8&max_batch_tokens=262144",
            id="what can be run",
        ),
    ],
)
def test_http_answers_what_the_command_prints(words: tuple[str, ...], query: str, database: str, call: Call) -> None:
    printed: Any = call("predict", *TARGET, *words)
    with TestClient(create_app(Settings(database_url=database))) as client:
        response = client.get(f"/v1/predictions?params=1e9&tokens=5e10{query}")
    assert response.status_code == 200, response.text
    assert json.dumps(response.json()) == json.dumps(printed)  # the order of keys and the kind of numbers too


def test_the_batch_that_can_be_run(database: str, call: Call, text: Call) -> None:
    words = ("--seq-len", "1024", "--batch-multiple", "8", "--max-batch", "262144")
    batch = call("predict", *TARGET, *words)["recommendation"]["batch_tokens"]
    assert batch["value"] <= 262144
    assert batch["value"] == batch["sequences"] * 1024
    assert batch["sequences"] % 8 == 0
    assert f"{batch['sequences']:,.0f} sequences of 1,024" in text("predict", *TARGET, *words)[0]


@pytest.mark.parametrize(
    ("words", "query", "said"),
    [
        pytest.param(("--batch-tokens", "0.5"), "&batch_tokens=0.5", "less than one token", id="no token"),
        pytest.param(("--batch-tokens", "1T"), "&batch_tokens=1T", "larger than the whole run", id="beyond the run"),
        pytest.param(
            ("--max-batch", "1000", "--seq-len", "1024"),
            "&max_batch_tokens=1000&seq_len=1024",
            "1024",
            id="below a unit",
        ),
    ],
)
def test_a_batch_that_cannot_be_run_is_the_callers_mistake(
    words: tuple[str, ...], query: str, said: str, database: str, call: Call
) -> None:
    assert said in call("predict", *TARGET, *words, code=ExitCode.USAGE)["error"]["message"]
    with TestClient(create_app(Settings(database_url=database))) as client:
        response = client.get(f"/v1/predictions?params=1e9&tokens=5e10{query}")
    assert response.status_code == 422
    assert said in response.json()["detail"]


def test_a_batch_too_large_for_any_machine_is_said(database: str, call: Call) -> None:
    words = ("--seq-len", "1e12", "--batch-multiple", "1e12")
    assert "larger than the whole run" in call("predict", *TARGET, *words, code=ExitCode.USAGE)["error"]["message"]


def test_a_report_beside_the_answer(database: str, away: Path, text: Call) -> None:
    out, err = text("predict", *TARGET, "--report", away / "new" / "report.html")
    assert err == f"report: {away / 'new' / 'report.html'}\n"
    page = (away / "new" / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert out.splitlines()[-1].split()[-1] in text("predict", *TARGET)[0]  # the same prediction


def test_a_prediction_comes_back_from_its_id(database: str, call: Call, text: Call) -> None:
    document = call("predict", *TARGET)
    assert call("predictions", "show", document["id"]) == document
    assert call("predictions", "show", document["id"], "--again") == document
    narrower = call("predict", *TARGET, "--level", "0.5")
    assert narrower["id"] != document["id"]
    assert call("predictions", "show", narrower["id"], "--again") == narrower
    out, err = text("predict", *TARGET)
    assert text("predictions", "show", document["id"], "--again") == (
        out,
        err + "computed again from its fit: the same\n",
    )
    assert call("predictions", "show", "nope", code=ExitCode.NOT_ENOUGH)["error"]["type"] == "NoFit"


def test_excluded_runs_are_left_out_of_the_next_fit(database: str, call: Call) -> None:
    before = call("predict", *TARGET)
    call("runs", "exclude", "sim-0000?", "--reason", "bad node")
    fit = call("fit")
    assert len(fit["exclusions"]) == 10
    assert all("bad node" in reason for reason in fit["exclusions"].values())
    after = call("predict", *TARGET)
    assert after["evidence"]["fit_id"] == fit["id"] != before["evidence"]["fit_id"]
    then = call("predict", *TARGET, "--fit", before["evidence"]["fit_id"])
    assert (then["evidence"].pop("runs_changed"), before["evidence"].pop("runs_changed")) == (10, 0)
    assert "10 runs changed since this fit" in then["warnings"].pop(0)
    assert then == before


def test_laws_are_compared_on_these_runs(database: str, call: Call, text: Call) -> None:
    document = call("laws", "compare")
    scored = {law["law"]: law for law in document["laws"]}
    assert scored["step_law"]["worst_regret"] >= scored["step_law"]["mean_regret"] >= 0
    assert "step_law" in text("laws", "compare")[0]


def test_predict_loads_nothing_slow(database: str) -> None:
    slow = {"pandas", "scipy", "statsmodels", "alembic", "plotly", "fastapi", "torch", "matplotlib"}
    code = (
        "import sys; from lawfit.cli.main import run\n"
        f"assert run(['predict', *{TARGET!r}]) == 0\n"
        f"print(sorted({slow!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.soak
def test_demo_ends_with_a_recommendation(away: Path, text: Call, call: Call) -> None:
    out, err = text("demo")
    assert "Peak learning rate" in out
    assert "next: lawfit --database" in err
    assert (away / "demo" / "lawfit.db").is_file()
    report = away / "demo" / "report.html"
    assert out.splitlines()[-1] == f"Report: {report}"
    assert ("SIMULATED" in report.read_text(encoding="utf-8")) == out.startswith("SIMULATED")
    document = call("demo")
    assert document["report"] == str(report)
    ANSWER.validate_python(document["prediction"])
    assert document["simulated"] == out.startswith("SIMULATED")


def _lawfit(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "lawfit", *words], capture_output=True, text=True, check=False)


def test_a_fit_older_than_its_runs_says_so(database: str) -> None:
    """An answer from before an exclusion must not pass for one that heeds it."""
    assert "since this fit" not in _lawfit("predict", *TARGET).stdout
    assert _lawfit("runs", "exclude", "sim-00003", "--reason", "wrong data").returncode == 0
    assert "at least 1 run changed since this fit" in " ".join(_lawfit("predict", *TARGET).stdout.split())
    assert json.loads(_lawfit("predict", *TARGET, "--json").stdout)["evidence"]["runs_changed"] == 1


def test_a_law_fitted_on_these_runs_lends_nothing(away: Path, call: Call, text: Call) -> None:
    call("simulate", away / "s.csv", "--lr-steps", "4", "--batch-steps", "3")
    call("ingest", away / "s.csv")
    assert call("fit", "--without-law", "step_law")["options"]["without_laws"] == ["step_law"]
    _, err = text("fit", "--without-law", "my_law", code=ExitCode.FAILED)
    assert "no published law 'my_law'" in err


@pytest.mark.parametrize("command", [("fit",), ("predict", *TARGET)], ids=["fit", "predict"])
class TestAFirstLook:
    def test_is_short_and_in_plain_words(self, command: tuple[str, ...], database: str, text: Call) -> None:
        out, _ = text(*command)
        assert 40 < len(out.split()) <= MOST_WORDS
        assert [word for word in CRAFT if word in out.lower()] == []
        assert "Trust" in out
        assert "Checked" in out

    def test_says_all_of_it_when_asked_and_what_its_words_mean(
        self, command: tuple[str, ...], database: str, text: Call
    ) -> None:
        brief, whole = text(*command)[0], text(*command, "--verbose")[0]
        assert len(whole.split()) > 1.5 * len(brief.split())
        said, _, meanings = whole.partition("What the words mean")
        for word in ("certificate", "condition number"):
            assert word in said.lower()
            assert GLOSSARY[word] in meanings
        assert [term for term, _ in terms_in(said)] == [line.split("  ")[0] for line in meanings.split("\n") if line]


def test_an_answer_names_the_runs_that_would_help(database: str, text: Call, call: Call) -> None:
    """The target is five times the largest size: a size between, around the optimum that is foretold there."""
    (run,) = call("predict", *TARGET)["runs_that_would_help"]
    assert 1.8e8 < run["params"] <= 3.6e8
    assert run["tokens"] <= 1.6e10
    assert len(run["lr"]) == len(run["batch_tokens"]) == 3
    assert run["lr"][0] < run["lr"][1] < run["lr"][2] == pytest.approx(4 * run["lr"][0], rel=0.05)
    assert "size nearer to the target" in run["why"]
    line = next(line for line in text("predict", *TARGET)[0].splitlines() if line.startswith("Runs to add"))
    assert re.search(r"360M parameters on .* tokens, lr .* to .*, batch .* to .*: a size nearer", line)


def test_inside_the_runs_nothing_is_asked_for(database: str, call: Call) -> None:
    assert call("predict", "--params", "6e7", "--tokens", "1.8e9")["runs_that_would_help"] == []


def test_a_horizon_beyond_the_runs(database: str, call: Call) -> None:
    (run,) = call("predict", "--params", "1e8", "--tokens", "1e12")["runs_that_would_help"]
    assert "horizon nearer" in run["why"]


def test_each_term_is_told_in_a_line() -> None:
    assert all(len(f"{term} {meaning}") < 125 and meaning[0].islower() for term, meaning in GLOSSARY.items())
    assert terms_in("a Certificate at its Scale") == [(t, GLOSSARY[t]) for t in ("scale", "certificate")]


def test_a_get_writes_nothing_and_a_post_keeps_its_answer(database: str, call: Call) -> None:
    """Whatever is asked by GET, on a page too, leaves no row behind; the command line keeps its answers."""
    asked = {"params": "1.1B", "tokens": "50B"}
    with TestClient(create_app(Settings(database_url=database))) as client:
        answer = client.get("/v1/predictions", params=asked).json()
        assert client.get("/", params=asked).status_code == 200
        assert client.get("/plan", params={"flops": "1e20"}).status_code == 200
        assert client.get(f"/v1/predictions/{answer['id']}").status_code == 404
        kept = client.post("/v1/predictions", params=asked)
        assert (kept.status_code, kept.json()) == (201, answer)
        assert client.get(f"/v1/predictions/{answer['id']}").json() == answer
    assert call("predictions", "show", answer["id"]) == answer
    by_command = call("predict", "--params", "1.2B", "--tokens", "50B")
    assert call("predictions", "show", by_command["id"]) == by_command
