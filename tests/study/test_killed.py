"""Studies as processes that are killed by signal 9 at moments that nobody chose, and the same command again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from lawfit import pipeline
from lawfit.errors import StoreError
from lawfit.storage import Store
from lawfit.storage.studies import list_studies
from tests.launch.conftest import needs_proc, trainers, wait_for
from tests.study.conftest import HOW, LIMITS, TARGET, write_corpus

pytestmark = [pytest.mark.soak, needs_proc]
# The command itself, whose first sweep has models that train in a moment.
TINY = """
import sys
import pytest
from lawfit.cli.main import run
from tests.study.conftest import plan_tiny_models
plan_tiny_models(pytest.MonkeyPatch())
sys.exit(run(sys.argv[1:]))
"""
WORDS = ("study", "run", *TARGET, *LIMITS, *HOW, "--budget", "36runs", "--rounds", "2", "--checkpoint-seconds", "0.3")
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "corpus")
    return tmp_path


def begun(folder: Path, *words: str) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "LAWFIT_DATABASE_URL": "lawfit.db", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TINY, *words, "--json"]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ends_of(folder: Path) -> Counter[str]:
    """Run id -> ends in its log: a run that is trained anew begins its log anew, and one trained twice has two."""
    return Counter(
        path.stem for path in folder.glob("logs/*.jsonl") for line in path.read_text().splitlines() if '"end"' in line
    )


def standing(folder: Path) -> object:
    """What has come of a study so far: runs that have ended, and the phases of its rounds."""
    if not (folder / "lawfit.db").exists():
        return None
    try:
        with Store.open(folder / "lawfit.db", create=False, migrate=False) as store:
            phases = [each.phase for study in list_studies(store) for each in study.rounds]
    except StoreError:  # just being made
        return None
    return len(ends_of(folder)), phases


def test_killed_at_any_moment_no_run_is_lost_or_made_twice(folder: Path) -> None:
    """Twelve lives, each killed soon after its start or after something came of it; then one that may live."""
    chance, ended, seen = random.Random(20261130), dict[str, int](), list[object]()
    for _ in range(12):
        before, process = standing(folder), begun(folder, *WORDS)
        if chance.random() < 0.3:
            time.sleep(chance.uniform(1, 6))
        else:
            wait_for(lambda: standing(folder) != before or process.poll() is not None, "some progress", 120)  # noqa: B023
            time.sleep(chance.uniform(0, 1))
        process.kill()
        process.communicate()
        wait_for(lambda: not trainers(Path("logs")), "the end of the trainers whose launcher was killed", 90)
        seen.append(standing(folder))
        for run_id in ends_of(folder):
            moment = (folder / "logs" / f"{run_id}.jsonl").stat().st_mtime_ns
            assert ended.setdefault(run_id, moment) == moment, f"{run_id} was trained again after its end"
    process = begun(folder, *WORDS)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    document = json.loads(out)
    ids = [run_id for one in document["rounds"] for run_id in one["run_ids"]]
    with Store.open(folder / "lawfit.db") as store:
        stored = [run.run_key for run in store.runs(store.recipe().key)]
    assert sorted(ids) == sorted(stored) == sorted(ends_of(folder))  # none lost, none twice
    assert set(ends_of(folder).values()) == {1}
    assert document["budget"]["spent"] == document["budget"]["runs"] == len(ids) <= 36
    assert [one["number"] for one in document["rounds"]] == [1, 2]
    print(f"killed at {seen}: {len(ids)} runs, none lost, none twice")


def test_ctrl_c_leaves_checkpoints_and_the_same_command_goes_on(folder: Path) -> None:
    process = begun(folder, *WORDS)
    wait_for(lambda: list(folder.glob("logs/*.jsonl")), "a run", 120)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    document = json.loads(out)
    assert (document["state"], document["rounds"][0]["phase"]) == ("open", "planned")
    assert "stopped by a signal" in document["stopped"]
    assert not trainers(Path("logs"))
    process = begun(folder, "study", "resume", document["id"])
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert set(ends_of(folder).values()) == {1}
    assert json.loads(out)["budget"]["spent"] <= 36


def test_two_at_once_share_a_study(folder: Path) -> None:
    both = [begun(folder, *WORDS) for _ in range(2)]
    ended = [each.communicate(timeout=900) for each in both]
    assert [each.returncode for each in both] == [0, 0], ended
    assert set(ends_of(folder).values()) == {1}
    with Store.open(folder / "lawfit.db") as store:
        (line,) = pipeline.all_studies(store)["studies"]
        document = pipeline.show_study(store, line["id"])
        stored = [run.run_key for run in store.runs(store.recipe().key)]
    assert sorted(stored) == sorted(run_id for one in document["rounds"] for run_id in one["run_ids"])


def test_from_nothing_to_an_answer_with_the_command_as_it_is(folder: Path) -> None:
    """Models of the usual shapes, on CPU slots, trained by the trainer itself: in under five minutes."""
    write_corpus(folder / "text", 400_000, 4_000)
    began = time.monotonic()
    command = [
        *(sys.executable, "-m", "lawfit", "study", "run", "--params", "400k", "--tokens", "2M", "--rounds", "2"),
        *("--budget", "6e11flops", "--max-params", "100k", "--max-tokens", "130k", "--seq-len", "16"),
        *("--corpus", "text", "--logs", "logs", "--cpu", "--workers-per-gpu", "2", "--report", "page.html", "--json"),
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["answer"] is not None
    assert (folder / "page.html").stat().st_size > 100_000
    print(f"{document['budget']['runs']} runs in {seconds:.0f} s")
    assert seconds < 300
