"""`lawfit schedules` on files: an answer, what was rejected, and mistakes in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lawfit.cli.main import ExitCode, run
from tests.estimate.test_multi_power import CONSTANT, COSINE, LAW, WSD

COURSES = {"cosine": COSINE, "constant": CONSTANT, "wsd": WSD}


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
