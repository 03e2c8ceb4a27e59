"""Jobs of launches as rows: who trains which run, on both databases, also where launches die or ask at once."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from lawfit.errors import NoJob
from lawfit.records import Attempt, Launch, TrainingJob
from lawfit.storage import Store, tables
from lawfit.storage.processes import is_gone, this_process
from lawfit.storage.training_jobs import (
    LOST_SECONDS,
    beat,
    cancel_training_job,
    claim_runs,
    end_launch,
    list_training_jobs,
    take_up,
    training_job,
    training_jobs_of,
)
from tests.storage.builders import recipe, run

BEGAN = "2026-11-21T10:00:00+00:00"


def a_launch(name: str = "l1", **own: Any) -> Launch:
    said = {"backend": "local", "host": "node7", "process": this_process(), "logs": "/runs", "command": ""}
    return Launch(**{"id": name, "began_at": BEGAN, **said, **own})


def a_job(job_id: str = "j1", launch: Launch | None = None, **own: Any) -> TrainingJob:
    said: dict[str, Any] = {"name": "pack", "runs": ("a", "b"), "state": "running", "created_at": BEGAN}
    return TrainingJob(**{"id": job_id, "launch": launch or a_launch(), **said, **own})


def test_a_job_comes_back_as_it_was(store: Store) -> None:
    attempt = Attempt(
        launch_id="l1", host="node7", place="gpu 1", began_at=BEGAN, ended_at=BEGAN, reason="out_of_memory",
        said="CUDA out of memory", seconds=1800.0, gpus=0.5, kwh=0.2,
    )  # fmt: skip
    job = a_job(attempts=(attempt, dataclasses.replace(attempt, kwh=None)), dollars_per_gpu_hour=2.0, tail="… é")
    beat(store, a_launch(), [job])
    assert training_job(store, "j1") == job
    assert (job.gpu_hours, job.dollars, job.kwh) == (0.5, 1.0, 0.2)
    document = job.to_json()
    assert (document["launch_id"], document["host"], document["gpu_hours"]) == ("l1", "node7", 0.5)
    assert a_job().kwh is None
    assert a_job().dollars is None


def test_ids_may_be_shortened_but_not_guessed(store: Store) -> None:
    beat(store, a_launch(), [a_job("ab1"), a_job("ab2")])
    assert training_job(store, "ab1").id == "ab1"
    assert set(training_jobs_of(store, ["ab1", "ab3"])) == {"ab1"}
    for wrong in ("ab", "c", "%", "", "a\x00", "ab_"):
        with pytest.raises(NoJob):
            training_job(store, wrong)


def test_of_one_job_all_runs_are_claimed_or_none(store: Store) -> None:
    first, second = a_launch("l1"), a_launch("l2", host="node8")
    assert claim_runs(store, first, [["a", "b"]])[0].holder is None
    shared, own = claim_runs(store, second, [["b", "c"], ["d"]])
    assert (shared.holder, own.holder) == (first, None)
    assert beat(store, second).claims == {"d"}
    assert claim_runs(store, first, [["a", "b"]])[0].holder is None  # its own
    assert beat(store, first, released=["b"]).claims == {"a"}
    assert claim_runs(store, second, [["b", "c"]])[0].holder is None


def test_a_run_that_was_stored_meanwhile_is_said(store: Store) -> None:
    store.put_runs(recipe(), [run("a")])
    (claimed,) = claim_runs(store, a_launch(), [["a", "b"]])
    assert (claimed.stored, claimed.holder) == ({"a"}, None)


def ages(store: Store, launch_id: str) -> None:
    """Nobody has heard of a launch for long."""
    with store.writing() as connection:
        old = time.time() - LOST_SECONDS - 1
        connection.execute(sa.update(tables.launches).where(tables.launches.c.id == launch_id).values(beat_at=old))


def dead_process() -> str:
    code = "from lawfit.storage.processes import this_process; print(this_process())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("death", ["unheard of", "its process is gone", "ended"])
def test_what_a_dead_launch_claims_goes_to_the_next(store: Store, death: str) -> None:
    first = a_launch("l1", process=dead_process() if death == "its process is gone" else "")
    second = a_launch("l2", began_at="2026-11-21T11:00:00+00:00")
    claim_runs(store, first, [["a", "b"]])
    beat(store, first, [a_job(launch=first)])
    if death == "unheard of":
        assert claim_runs(store, second, [["a", "b"]])[0].holder == first
        ages(store, "l1")
    elif death == "ended":
        end_launch(store, first)
    assert training_job(store, "j1").lost
    assert [job.id for job in list_training_jobs(store, "lost")] == ["j1"]
    assert list_training_jobs(store, "running") == []
    assert claim_runs(store, second, [["a", "b"]])[0].holder is None
    if death == "unheard of":
        assert beat(store, first).claims == set()  # it hears that another one has them
    beat(store, second, [a_job(launch=second)])
    beat(store, first, [a_job(launch=first, state="ended")])  # and writes nothing over
    assert training_job(store, "j1").launch.id == "l2"
    assert not training_job(store, "j1").lost
    assert len(list_training_jobs(store)) == 1


def test_what_a_launch_could_not_store_is_taken_with_its_name(store: Store) -> None:
    first, second = a_launch("l1"), a_launch("l2", host="node8")
    claim_runs(store, first, [["a"], ["b"]])
    end_launch(store, first, unstored=["b"])
    free, left = claim_runs(store, second, [["a"], ["b"]])
    assert (free.holder, left.holder) == (None, None)
    assert (dict(free.heirs_of), [launch.id for launch in left.heirs_of.values()]) == ({}, ["l1"])


def test_cancelling_is_heard_at_the_next_beat_and_is_not_written_over(store: Store) -> None:
    launch = a_launch()
    claim_runs(store, launch, [["a", "b"]])
    beat(store, launch, [a_job()])
    assert cancel_training_job(store, "j1").state == "cancelling"
    assert beat(store, launch, [a_job(tokens=5.0)]).cancel == {"j1"}
    assert (training_job(store, "j1").state, training_job(store, "j1").tokens) == ("cancelling", 5.0)
    beat(store, launch, [a_job(state="cancelled")], released=["a", "b"])
    assert cancel_training_job(store, "j1").state == "cancelled"
    claim_runs(store, a_launch("l2"), [["a", "b"]])  # the same command again
    beat(store, a_launch("l2"), [a_job(launch=a_launch("l2"), state="queued")])
    assert training_job(store, "j1").state == "queued"


def test_what_a_dead_launch_left_open_is_settled_by_the_next(store: Store) -> None:
    """Also where that cuts its packs in another way, or has nothing left to train."""
    first = a_launch("l1")
    jobs = {"j1": ("a", "b"), "j2": ("c", "d"), "j3": ("e",), "j4": ("f",)}
    claim_runs(store, first, list(jobs.values()))
    attempt = Attempt(launch_id="l1", host="node7", place="cpu", began_at=BEGAN)
    beat(store, first, [a_job(name, runs=runs, attempts=(attempt,)) for name, runs in jobs.items()])
    take_up(store, over=["a", "b"], going_on=["c", "d"], kept=[])
    assert {job.state for job in list_training_jobs(store)} == {"running"}  # it lives
    ages(store, "l1")
    take_up(store, over=["a", "b", "c"], going_on=["d", "e"], kept=["j3"])
    found = {job.id: job for job in list_training_jobs(store)}
    assert {name: job.state for name, job in found.items()} == {
        "j1": "ended", "j2": "split", "j3": "running", "j4": "running",
    }  # fmt: skip
    assert (found["j1"].attempts[0].reason, found["j4"].attempts[0].reason) == ("launcher_lost", "")
    assert beat(store, first).claims == {"e", "f"}


def test_a_job_of_a_dead_launch_is_cancelled_at_once(store: Store) -> None:
    claim_runs(store, a_launch(), [["a", "b"]])
    beat(store, a_launch(), [a_job()])
    ages(store, "l1")
    assert cancel_training_job(store, "j1").state == "cancelled"
    assert beat(store, a_launch()).claims == set()
    with pytest.raises(NoJob):
        cancel_training_job(store, "nothing")


def test_of_many_that_ask_at_once_one_gets_a_run(store: Store) -> None:
    names = [f"l{number}" for number in range(8)]
    with ThreadPoolExecutor(len(names)) as pool:
        runs = [f"r{number}" for number in range(120)]
        found = list(pool.map(lambda name: claim_runs(store, a_launch(name), [[each] for each in runs]), names))
    for number in range(len(runs)):
        assert sum(claims[number].holder is None for claims in found) == 1


def test_processes_are_told_apart() -> None:
    assert not is_gone(this_process())
    assert is_gone(dead_process())
    assert not is_gone("")
    assert not is_gone("another-boot pid:[1] 1 1")
