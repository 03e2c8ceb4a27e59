"""Campaigns with processes that stand in for the trainer: failures, retries, deadlines."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from lawfit.launch import (
    Ending,
    Job,
    JobState,
    JobStatus,
    LaunchError,
    LaunchOptions,
    LocalLauncher,
    Progress,
    Result,
    execute,
    make_plan,
)
from lawfit.launch.campaign import DEADLINE, Campaign
from lawfit.launch.folder import Task, checkpoint_of, log_of, task_of
from tests.launch.conftest import calls, fake_trainer, make_pack, nothing_stored


def task(*, lrs: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4), **own: Any) -> Task:
    return task_of(dataclasses.replace(make_pack(lrs=lrs, **own), corpus_hash="made-up"))


def run_campaign(folder: Path, made: Task, command: Any, **own: Any) -> tuple[Result, list[str], list[Path]]:
    """The result, what was said, and the logs that were handed on."""
    (folder / "runs").mkdir(exist_ok=True)
    news: list[str] = []
    ended: list[Path] = []
    campaign = Campaign(
        [made], LocalLauncher(), folder / "runs", command=command, ended=ended.extend,
        report=lambda progress: news.extend(progress.news), **own,
    )  # fmt: skip
    return campaign.run(), news, ended


def test_all_goes_well(tmp_path: Path) -> None:
    made = task()
    result, news, ended = run_campaign(tmp_path, made, fake_trainer(tmp_path, made.pack, made.ids))
    assert (set(result.finished), result.failures, result.unfinished) == (set(made.ids), (), ())
    assert sorted(path.stem for path in ended) == sorted(made.ids)
    assert news == ["pack begins on cpu (4 runs)", "pack is done: 4 runs, 0 diverged"]
    assert [path.name for path in (tmp_path / "runs" / ".launch").glob("*.json")] == []


def test_what_is_known_before_is_said_before(tmp_path: Path) -> None:
    made = task()
    command = fake_trainer(tmp_path, made.pack, made.ids)
    _, news, _ = run_campaign(tmp_path, made, command, news=["! there is little text"])
    assert news[:2] == ["! there is little text", "pack begins on cpu (4 runs)"]


@pytest.mark.parametrize(
    "death",
    [
        pytest.param({"signal": signal.SIGKILL, "say": "x"}, id="killed"),
        pytest.param({"say": "Traceback ...\nRuntimeError: CUDA error: an illegal memory access"}, id="CUDA"),
    ],
)
def test_a_pack_that_dies_is_tried_again_in_halves(tmp_path: Path, death: dict[str, Any]) -> None:
    made = task()
    command = fake_trainer(tmp_path, made.pack, made.ids, survives=1, **death)
    result, news, _ = run_campaign(tmp_path, made, command)
    assert set(result.finished) == set(made.ids)
    assert sorted(map(len, calls(tmp_path))) == [1, 1, 1, 1, 2, 2, 4]
    assert any("it is tried again in two halves" in sentence for sentence in news)


def test_one_that_keeps_dying_is_reported_with_what_it_said(tmp_path: Path) -> None:
    made = task(lrs=(0.1,))
    said = "Traceback ...\nRuntimeError: CUDA error: device-side assert triggered"
    result, news, ended = run_campaign(tmp_path, made, fake_trainer(tmp_path, made.pack, made.ids, say=said))
    (failure,) = result.failures
    assert (failure.pack, failure.runs, failure.tail) == ("pack", made.ids, said)
    assert failure.reason == "RuntimeError: CUDA error: device-side assert triggered, 3 times"
    assert (calls(tmp_path), ended, result.unfinished) == ([[0.1]] * 3, [], ())
    assert news[-1] == f"pack failed: {failure.reason}"


def test_what_the_trainer_explains_is_not_tried_again(tmp_path: Path) -> None:
    made = task()
    command = fake_trainer(tmp_path, made.pack, made.ids, say="warning: x\nerror: the corpus is too small\n")
    result, _, _ = run_campaign(tmp_path, made, command)
    assert [failure.reason for failure in result.failures] == ["the corpus is too small"]
    assert len(calls(tmp_path)) == 1


def test_a_pack_that_left_a_checkpoint_goes_on_whole(tmp_path: Path) -> None:
    made = task()
    left = str(checkpoint_of(made, tmp_path / "runs"))
    command = fake_trainer(tmp_path, made.pack, made.ids, survives=2, say="killed", signal=9, leaves=left)
    result, news, _ = run_campaign(tmp_path, made, command)
    assert set(result.finished) == set(made.ids)
    assert list(map(len, calls(tmp_path))) == [4, 4, 2, 2]
    assert any("it goes on from its checkpoint" in sentence for sentence in news)


def test_a_pack_that_comes_further_each_time_is_not_given_up(tmp_path: Path) -> None:
    made = task()
    left = str(checkpoint_of(made, tmp_path / "runs"))
    command = fake_trainer(tmp_path, made.pack, made.ids, dies=5, leaves=left)
    result, news, _ = run_campaign(tmp_path, made, command)
    assert (set(result.finished), result.failures) == (set(made.ids), ())
    assert list(map(len, calls(tmp_path))) == [4] * 6
    assert sum("it goes on from its checkpoint" in sentence for sentence in news) == 5


def test_a_pack_that_dies_at_the_same_token_is_given_up(tmp_path: Path) -> None:
    made = task(lrs=(0.1,))
    left = str(checkpoint_of(made, tmp_path / "runs"))
    command = fake_trainer(tmp_path, made.pack, made.ids, dies=20, at=10, leaves=left)
    result, _, _ = run_campaign(tmp_path, made, command)
    assert [failure.runs for failure in result.failures] == [made.ids]
    assert len(calls(tmp_path)) == 3


class Moody(LocalLauncher):
    """Says of the first job that ends that it was ended in a certain way."""

    ending: Ending | None = None

    def state(self, name: str) -> JobState:
        found = super().state(name)
        if found.status is JobStatus.ENDED and self.ending is not None:
            found, self.ending = dataclasses.replace(found, ending=self.ending), None
        return found


@pytest.mark.parametrize(
    ("ending", "said", "sizes"),
    [
        pytest.param(Ending.WALLTIME, "its walltime was over); it is tried again", [4, 4], id="walltime"),
        pytest.param(
            Ending.PREEMPTED, "it had to make room for another job); it is tried again", [4, 4], id="preempted"
        ),
        pytest.param(Ending.NODE, "its machine was lost); it is tried again", [4, 4], id="node"),
        pytest.param(Ending.MEMORY, "more memory than it was given); it is tried again in two", [4, 2, 2], id="memory"),
        pytest.param(Ending.HUNG, "no log of it grew for too long); it is tried again in two", [4, 2, 2], id="hung"),
    ],
)
def test_only_what_may_be_the_packs_fault_makes_it_smaller(
    tmp_path: Path, ending: Ending, said: str, sizes: list[int]
) -> None:
    made = task()
    (tmp_path / "runs").mkdir()
    launcher = Moody()
    launcher.ending = ending
    news: list[str] = []
    trains = fake_trainer(tmp_path, made.pack, made.ids)
    first = [["sh", "-c", f"echo '[1, 2, 3, 4]' >> {tmp_path / 'behaviour.json.calls'}"]]
    result = Campaign(
        [made], launcher, tmp_path / "runs", command=lambda path: first.pop() if first else trains(path),
        ended=lambda _: None, report=lambda progress: news.extend(progress.news),
    ).run()  # fmt: skip
    assert set(result.finished) == set(made.ids)
    assert list(map(len, calls(tmp_path))) == sizes
    assert sum(said in sentence for sentence in news) == 1, news


def test_the_deadline_stops_what_waits_and_then_what_runs(tmp_path: Path) -> None:
    first, second = task(lrs=(0.1,)), task(lrs=(0.2,))
    (tmp_path / "runs").mkdir()
    now = 0.0
    seen: list[Progress] = []

    def sleep(_: float) -> None:
        nonlocal now
        now += 5

    sleeper = ["sleep", "60"]
    campaign = Campaign(
        [first, second], LocalLauncher(), tmp_path / "runs", command=lambda _: sleeper, ended=lambda _: None,
        report=seen.append, stop=lambda: DEADLINE if now > 10 else "", clock=lambda: now, sleep=sleep,
    )  # fmt: skip
    result = campaign.run()
    assert (result.stopped_by, set(result.unfinished)) == (DEADLINE, {*first.ids, *second.ids})
    assert result.failures == ()
    waiting = [(progress.packs_waiting, len(progress.running)) for progress in seen]
    assert waiting[0] == (1, 1)
    assert (0, 1) in waiting  # the second was not begun, the first has time for its checkpoint


def test_an_interrupt_ends_every_process(tmp_path: Path) -> None:
    made = task(lrs=(0.1,))
    (tmp_path / "runs").mkdir()
    launcher = LocalLauncher()

    def interrupted(progress: Progress) -> None:
        if progress.running:
            raise KeyboardInterrupt

    campaign = Campaign(
        [made], launcher, tmp_path / "runs", command=lambda _: ["sleep", "60"], ended=lambda _: None, report=interrupted
    )
    with pytest.raises(KeyboardInterrupt):
        campaign.run()
    assert launcher.state(made.name).exit_code == -9


def test_of_two_launchers_each_trains_what_the_other_does_not(tmp_path: Path) -> None:
    """Their packs overlap, cut in different ways: a run that both want is trained once."""
    ours, theirs = task(lrs=(0.1, 0.2, 0.3)), task(lrs=(0.2, 0.4), name="theirs")
    logs = tmp_path / "runs"
    logs.mkdir()
    other = LocalLauncher()
    other.submit(Job(name=theirs.name, command=("sleep", "60"), folder=logs, claims=frozenset(theirs.ids)))
    news: list[str] = []

    def report(progress: Progress) -> None:
        news.extend(progress.news)
        if news and not log_of(theirs.ids[0], logs).exists():
            events: tuple[dict[str, Any], ...] = (
                {"event": "start", "pack": "theirs", "neighbours": 1},
                {"event": "end", "status": "finished", "tokens": 10},
            )
            log_of(theirs.ids[0], logs).write_text("".join(json.dumps(event) + "\n" for event in events))
        elif log_of(theirs.ids[0], logs).exists():
            other.close()

    command = fake_trainer(tmp_path, ours.pack, ours.ids)
    result = Campaign([ours], LocalLauncher(), logs, command=command, ended=lambda _: None, report=report).run()
    assert set(result.finished) == set(ours.ids)
    assert calls(tmp_path) == [[0.1, 0.3]]
    assert news[0].startswith("pack waits: its runs are being trained by job theirs-")


def test_a_folder_that_cannot_be_written_is_a_sentence(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the trainer needs lawfit[train]")
    (tmp_path / "runs").write_text("a file")
    plan = make_plan([make_pack(corpus)], nothing_stored, LaunchOptions(cpu=True, logs=tmp_path / "runs"))
    with pytest.raises(LaunchError, match="runs cannot be written"):
        execute(plan, ended=lambda _: None, report=lambda _: None)


@pytest.mark.parametrize("before", [0, 256])
def test_the_time_left_goes_by_the_pace_since_the_first_tokens(tmp_path: Path, before: int) -> None:
    """Tokens that a launch before this one trained are no pace of this one."""
    made = task(lrs=(0.1,))
    logs = tmp_path / "runs"
    logs.mkdir()
    start = [{"event": "train", "tokens": before}] if before else []
    log_of(made.ids[0], logs).write_text("".join(json.dumps(event) + "\n" for event in start))
    now, left = 0.0, []

    def sleep(_: float) -> None:
        nonlocal now
        now += 10
        if now > 50:  # 50 s of compilation, then a tenth of the run every 10 s
            steps = range(1, int((now - 50) / 10) + 1)
            events = start + [{"event": "train", "tokens": before + int(64 * n)} for n in steps]
            log_of(made.ids[0], logs).write_text("".join(json.dumps(event) + "\n" for event in events))

    campaign = Campaign(
        [made], LocalLauncher(), logs, command=lambda _: ["sleep", "60"], ended=lambda _: None,
        report=lambda progress: left.append(progress.seconds_left), stop=lambda: DEADLINE if now > 100 else "",
        clock=lambda: now, sleep=sleep,
    )  # fmt: skip
    campaign.run()
    assert left[:7] == [None] * 7
    assert left[7] == pytest.approx(10 * (512 - before) / 128)
    assert left[9] == pytest.approx(30 * (384 - before) / 256)
