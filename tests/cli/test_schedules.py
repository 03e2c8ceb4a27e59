"""`lawfit schedules` on files: an answer, what was rejected, and mistakes in a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lawfit.cli.main import ExitCode, run
from tests.estimate.schedules.test_multi_power import CONSTANT, COSINE, LAW, WSD
from tests.estimate.schedules.test_study import study_fits_once
from tests.laws.test_refinement import algorithm_1

GOLDEN = Path(__file__).parent.parent / "golden"

COURSES = {"cosine": COSINE, "constant": CONSTANT, "wsd": WSD}


@pytest.fixture(scope="module", autouse=True)
def fitted_once() -> Iterator[None]:
    with study_fits_once():
        yield


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = ["run_id,step,learning_rate,loss"]
    for size in ("small", "large"):
        for name, course in COURSES.items():
            losses = LAW.loss(course) - 0.3 * (size == "large")
            rows += [
                f"{size}/{name},{step:.0f},{lr:.8g},{loss:.6f}"
                for step, lr, loss in zip(course.steps[::8], course.lr[::8], losses[::8], strict=True)
            ]
    path = tmp_path / "curves.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_an_answer_and_what_was_rejected(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["schedules", str(file), "--runs", "small/*", "--warmup-steps", "2160", "--schedule", "linear"]
    assert run(words) == ExitCode.OK
    said = capsys.readouterr().out
    assert "small/cosine" in said
    assert "large" not in said
    with file.open("a") as lines:
        lines.write("small/cosine,99999,0.0001,oops\nsmall/cosine,99999,-1,3\n")
    assert run([*words, "--json"]) == ExitCode.REJECTED
    document = json.loads(capsys.readouterr().out)
    assert [row["schedule"] for row in document["schedules"]] == ["linear"]
    assert len(document["curves"]) == 3
    assert np.isfinite(document["schedules"][0]["loss"])
    assert [row["column"] for row in document["rejected"]] == ["loss", "learning_rate"]


def test_mistakes(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schedules", str(file), "--runs", "huge/*"]) == ExitCode.FAILED
    assert "is called 'huge/*'; it has small/cosine" in capsys.readouterr().err
    assert run(["schedules", str(file), "--runs", "small/cosine"]) == ExitCode.NOT_ENOUGH
    assert "it takes two curves or more, and 1 of 1 can be used" in capsys.readouterr().err
    assert run(["schedules", str(file), "--runs", "small/*", "--schedule", "saw"]) == ExitCode.USAGE
    assert "no schedule 'saw'" in capsys.readouterr().err
    other = tmp_path / "other.csv"
    other.write_text("run_id,step,loss\na,1,3.0\n")
    assert run(["schedules", str(other)]) == ExitCode.FAILED
    assert "has no column learning_rate" in capsys.readouterr().err
    assert run(["schedules", str(tmp_path / "none.csv")]) in (ExitCode.FAILED, ExitCode.USAGE)


def test_the_rate_of_the_step_is_read_not_the_peak_of_the_run(tmp_path: Path) -> None:
    from lawfit.ingest import read_table
    from lawfit.ingest.curves import read_rated_curves

    path = tmp_path / "curves.csv"
    path.write_text(
        "run_id,step,max_lr,lr,loss,eval\na,0,1e-3,0,9.0,\na,1,1e-3,5e-4,3.0,\na,1,1e-3,5e-4,,3.1\na,2,1e-3,4e-4,2.9,\n"
        ",3,1e-3,3e-4,2.8,\n"
    )
    read = read_rated_curves(read_table(path))
    assert read.runs == {"a": ((1.0, 2.0), (5e-4, 4e-4), (3.0, 2.9))}  # step 0 and rows of another metric passed over
    assert [(r.line, r.reason) for r in read.rejections] == [(6, "no run is named")]


class TestRefine:
    """`lawfit schedules refine` on a table and on a log of the trainer."""

    NORMS = 0.5 + 2 * np.exp(-np.arange(1, 1001) / 50)

    @pytest.fixture
    def norms(self, tmp_path: Path) -> Path:
        rows = [f"a,{step},{norm:.9g},3.0" for step, norm in enumerate(self.NORMS, start=1)]
        path = tmp_path / "norms.csv"
        path.write_text("\n".join(["run_id,step,grad_norm,loss", *rows]) + "\n")
        return path

    def test_the_numbers_of_the_published_algorithm(self, norms: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for words, power in ((["--norm", "2"], 2), (["--norm", "1"], 1)):
            assert run(["schedules", "refine", str(norms), "--smooth", "0", "--json", *words]) == ExitCode.OK
            document = json.loads(capsys.readouterr().out)
            expected = np.array(algorithm_1(self.NORMS.tolist(), power))
            assert [row["step"] for row in document["schedule"]] == list(range(1, 1001))
            np.testing.assert_allclose([row["multiplier"] for row in document["schedule"]], expected, atol=1e-7)
            assert document["warmup"] == pytest.approx(np.argmax(expected) / 1000)
            assert document["mean_multiplier"] == pytest.approx(expected.mean(), rel=1e-6)
            assert document["bound_over_linear"] < 1

    def test_what_is_written_is_read_as_a_schedule(
        self, norms: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "refined.csv"
        assert run(["schedules", "refine", str(norms), "--out", str(out)]) == ExitCode.OK
        said = capsys.readouterr()
        assert "Warmup" in said.out
        assert str(out) in said.err
        assert run(["convert", "schedule", "linear", f"table:file={out}", "--lr", "1e-3", "--json"]) == ExitCode.OK
        read = json.loads(capsys.readouterr().out)["to"]["mean_multiplier"]
        assert run(["schedules", "refine", str(norms), "--json"]) == ExitCode.OK
        assert read == pytest.approx(json.loads(capsys.readouterr().out)["mean_multiplier"], abs=2e-3)
        words = ["schedules", str(file), "--runs", "small/*", "--warmup-steps", "2160", "--json"]
        assert run([*words, "--schedule", f"table:file={out}"]) == ExitCode.OK
        document = json.loads(capsys.readouterr().out)
        assert document["schedules"][0]["low"] is None  # it rises at its start, which no curve does
        assert any("its rate rises again" in note for note in document["notes"])
        assert run(["schedules", "refine", str(norms), "--out", str(out)]) == ExitCode.USAGE  # never over a file
        capsys.readouterr()
        assert run(["schedules", "refine", str(norms), "--out", str(tmp_path / "no" / "x.csv")]) == ExitCode.FAILED
        assert "x.csv cannot be written: No such file or directory" in capsys.readouterr().err

    def test_a_log_of_the_trainer(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        log = tmp_path / "log.jsonl"
        lines = (GOLDEN / "log_trainer.jsonl").read_text().splitlines()
        log.write_text("\n".join(lines) + "\n")
        start = json.loads(lines[0])
        assert run(["schedules", "refine", str(log)]) == ExitCode.FAILED  # several runs in one file
        assert start["run_id"] in capsys.readouterr().err
        assert run(["schedules", "refine", str(log), "--run", start["run_id"]]) == ExitCode.OK
        assert "20 norms are few" in capsys.readouterr().out
        norms = {10 * i: float(self.NORMS[10 * i - 1]) for i in range(1, 101)}
        events = [
            {"event": "train", "step": step, "tokens": 1, "loss": 3.0, "lr": 1e-3, "grad_norm": norm}
            for step, norm in norms.items()
        ]
        end = next(event for event in map(json.loads, lines) if event["event"] == "end")
        log.write_text("\n".join(json.dumps(event) for event in (start, *events, end)) + "\n")
        assert run(["schedules", "refine", str(log), "--smooth", "0", "--json"]) == ExitCode.OK
        document = json.loads(capsys.readouterr().out)
        assert (document["run"], document["norms"], document["logged_steps"]) == (start["run_id"], 100, 1000)
        whole = np.array(algorithm_1(self.NORMS.tolist(), 2))
        at = np.array([row["step"] for row in document["schedule"]])
        np.testing.assert_allclose([row["multiplier"] for row in document["schedule"]], whole[at - 1], atol=0.02)

    def test_another_length_is_the_same_shape(self, norms: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["schedules", "refine", str(norms), "--steps", "50000", "--json"]) == ExitCode.OK
        document = json.loads(capsys.readouterr().out)
        steps = [row["step"] for row in document["schedule"]]
        assert (steps[0], steps[-1], len(steps)) == (1, 50000, 1001)
        assert max(row["multiplier"] for row in document["schedule"]) == 1
        assert any("stretched to 50 times" in note for note in document["notes"])

    def test_mistakes(self, norms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with norms.open("a") as lines:
            lines.write("b,1,2.0,3\nb,2,fast,3\na,5,1.0,3\n,7,1,3\na,1001,0,3\n")
        assert run(["schedules", "refine", str(norms)]) == ExitCode.FAILED
        assert "name it" in capsys.readouterr().err
        assert run(["schedules", "refine", str(norms), "--run", "z"]) == ExitCode.FAILED
        assert "no run of" in capsys.readouterr().err
        assert run(["schedules", "refine", str(norms), "--run", "b"]) == ExitCode.NOT_ENOUGH
        capsys.readouterr()
        assert run(["schedules", "refine", str(norms), "--run", "a", "--json"]) == ExitCode.REJECTED
        reasons = [row["reason"] for row in json.loads(capsys.readouterr().out)["rejected"]]
        assert reasons == [
            "'fast' is not a number",
            "step 5 of run 'a' is there already",
            "'0' is zero; it must be above zero",
        ]
        other = tmp_path / "other.csv"
        other.write_text("step,norm\n1,2\n")
        assert run(["schedules", "refine", str(other)]) == ExitCode.FAILED
        assert "no column of a gradient norm" in capsys.readouterr().err
        assert run(["schedules", "refine", str(other), "--column", "norm"]) == ExitCode.NOT_ENOUGH


@pytest.mark.soak
def test_a_file_is_told_with_and_without_the_word(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(file), "--runs", "small/*", "--warmup-steps", "2160", "--schedule", "linear", "--json"]
    documents = []
    for command in (["schedules"], ["schedules", "tell"]):
        assert run([*command, *words]) == ExitCode.OK
        documents.append(json.loads(capsys.readouterr().out))
    assert documents[0] == documents[1]
    assert run(["schedules", *words[1:], words[0]]) == ExitCode.OK  # options before the file
    assert json.loads(capsys.readouterr().out) == documents[0]
    assert run(["schedules", "--help"]) == ExitCode.OK
    assert "refine" in capsys.readouterr().out
