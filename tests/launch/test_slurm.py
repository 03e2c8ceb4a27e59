"""Slurm itself, on two virtual nodes: resources, refusals, restarts, launches that die, and what is asked of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lawfit.launch import Ending, Job, JobStatus, LaunchError, Resources
from lawfit.launch.backends import cluster
from lawfit.launch.backends import slurm as backend
from lawfit.launch.backends.slurm import SlurmLauncher
from lawfit.settings import Settings
from lawfit_api.app import create_app
from tests.client import TestClient
from tests.launch import slurm_cluster
from tests.launch.conftest import absent, wait_for
from tests.launch.own_trainer import OwnTrainer
from tests.launch.slurm_cluster import SlurmCluster

SLEEP = "import time; time.sleep(60)"
POLITE = (
    "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); "
    "print('up', file=sys.stderr, flush=True); time.sleep(60)"
)


def job(name: str, code: str, folder: Path, *claimed: str, watched: tuple[Path, ...] = ()) -> Job:
    command = (sys.executable, "-IS", "-c", code)
    return Job(name=name, command=command, folder=folder, claims=frozenset(claimed), watched=watched)


@pytest.fixture
def made(slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes launchers, which are closed in the end."""
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.1)
    launchers: list[SlurmLauncher] = []

    def make(**asked: Any) -> SlurmLauncher:
        own = {name: asked.pop(name) for name in ("grace_seconds", "query_seconds") if name in asked}
        launchers.append(SlurmLauncher(resources=Resources(**asked), **{"query_seconds": 0.5, **own}))
        return launchers[-1]

    yield make
    for launcher in launchers:
        launcher.close()


def reaches(launcher: SlurmLauncher, name: str, status: JobStatus, seconds: float = 30) -> None:
    wait_for(lambda: launcher.state(name).status is status, f"{name} to be {status}", seconds)


def ends(launcher: SlurmLauncher, name: str, seconds: float = 30) -> tuple[int | None, Ending | None]:
    reaches(launcher, name, JobStatus.ENDED, seconds)
    state = launcher.state(name)
    return state.exit_code, state.ending


def test_a_job_gets_what_it_asks_for(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import os, subprocess, sys
job = subprocess.run(["scontrol", "show", "job", os.environ["SLURM_JOB_ID"]], capture_output=True, text=True).stdout
say = [os.environ["CUDA_VISIBLE_DEVICES"], os.environ["OMP_NUM_THREADS"]]
say += [word for word in job.split() if word.startswith(("TimeLimit=", "CPUs/Task=", "MinMemory", "Nice="))]
sys.stderr.write(" ".join(say))
"""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    launcher = made(gpus_per_job=1, cpus_per_job=2, memory_gb=0.5, walltime_minutes=90, slurm=("nice=3",))
    launcher.submit(job("a", code, tmp_path))
    assert ends(launcher, "a") == (0, None)
    got = ["0", "2", "CPUs/Task=2", "MinMemoryNode=512M", "Nice=3", "TimeLimit=01:30:00"]
    assert sorted(launcher.logs("a").split()) == sorted(got)
    assert launcher.state("a").place.startswith(f"{launcher.state('a').host} gpu 0 (Slurm ")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        pytest.param({"gpus_per_job": 5}, "configuration is not available", id="GPUs"),
        pytest.param({"partition": "nowhere"}, "invalid partition specified: nowhere", id="partition"),
        pytest.param({"memory_gb": 1e4}, "Memory specification can not be satisfied", id="memory"),
        pytest.param({"slurm": ("no-such-option=1",)}, "no-such-option", id="option"),
    ],
)
def test_what_slurm_does_not_take_is_said_at_once(made: Any, tmp_path: Path, asked: Any, words: str) -> None:
    launcher = made(**asked)
    launcher.submit(job("a", "", tmp_path, "run"))
    with pytest.raises(LaunchError, match=f"Slurm does not take the jobs: .*{words}.*sinfo shows"):
        launcher.state("a")
    assert list(tmp_path.rglob("*.batch")) == []


def test_without_its_commands_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaunchError, match="sbatch, squeue, scancel not found on PATH"):
        SlurmLauncher()


@pytest.mark.soak
def test_a_controller_that_is_away_is_said(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = Path(os.environ["SLURM_CONF"])
    elsewhere = tmp_path / "slurm.conf"
    lines = conf.read_text().splitlines()
    elsewhere.write_text("\n".join("SlurmctldPort=1" if line.startswith("SlurmctldPort") else line for line in lines))
    shutil.copy(conf.with_name("gres.conf"), tmp_path)
    monkeypatch.setenv("SLURM_CONF", str(elsewhere))
    monkeypatch.setattr(backend, "COMMAND_SECONDS", 3.0)
    launcher = made()
    launcher.submit(job("a", "", tmp_path))
    with pytest.raises(LaunchError, match=r"Slurm does not take the jobs: .*(timed out|Unable to contact)"):
        launcher.state("a")


@pytest.mark.soak
def test_no_more_tasks_of_an_array_at_a_time_than_asked(made: Any, tmp_path: Path) -> None:
    launcher = made(jobs_at_a_time=2)
    names = [f"job {n}" for n in range(6)]
    for name in names:
        launcher.submit(job(name, "import time; time.sleep(0.7)", tmp_path))
    together = []

    def over() -> bool:
        states = [launcher.state(name) for name in names]
        together.append(sum(state.status is JobStatus.RUNNING for state in states))
        return all(state.status is JobStatus.ENDED for state in states)

    wait_for(over, "the end of all", 40)
    assert max(together) <= 2
    assert len({launcher.state(name).place.partition("(Slurm ")[2].partition("_")[0] for name in names}) == 1


@pytest.mark.soak
def test_one_that_is_put_back_into_the_queue_begins_again(made: Any, slurm: SlurmCluster, tmp_path: Path) -> None:
    """As after preemption: Slurm tells it to end, and starts it again under its old number."""
    launcher = made()
    launcher.submit(job("a", f"open({str(tmp_path / 'starts')!r}, 'a').write('x'); {POLITE}", tmp_path, "run"))
    wait_for(lambda: launcher.state("a").status is JobStatus.RUNNING and launcher.logs("a"), "its start", 90)
    number = launcher.state("a").place.partition("(Slurm ")[2].strip(")")
    subprocess.run(["scontrol", "requeue", number], check=True)
    reaches(launcher, "a", JobStatus.QUEUED)

    def started_again() -> bool:
        launcher.state("a")
        if (tmp_path / "starts").read_text() == "xx":
            return True
        time.sleep(0.5)  # else it starts after two minutes; an update while it still ends is forgotten
        subprocess.run(["scontrol", "update", f"jobid={number}", "StartTime=now"], check=False, capture_output=True)
        return False

    wait_for(started_again, "its second start", 240)
    reaches(launcher, "a", JobStatus.RUNNING)
    launcher.cancel("a")
    assert ends(launcher, "a") == (7, None)


@pytest.mark.soak
def test_one_that_somebody_cancels_is_not_tried_again(made: Any, tmp_path: Path) -> None:
    launcher = made()
    launcher.submit(job("a", POLITE, tmp_path))
    wait_for(lambda: launcher.state("a").status is JobStatus.RUNNING and launcher.logs("a"), "its start", 90)
    subprocess.run(["scancel", launcher.state("a").place.partition("(Slurm ")[2].strip(")")], check=True)
    reaches(launcher, "a", JobStatus.ENDED)
    assert launcher.state("a").cancelled


@pytest.mark.soak
def test_shortly_before_its_walltime_a_job_is_told_to_stop(made: Any, tmp_path: Path) -> None:
    launcher = made(walltime_minutes=0.05)
    launcher.submit(job("a", POLITE, tmp_path))
    assert ends(launcher, "a") == (7, Ending.WALLTIME)


@pytest.mark.soak
def test_one_that_hangs_is_ended(made: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    deaf = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(log)!r}, 'w').write('x'); time.sleep(60)"
    launcher = made(hung_minutes=0.02, grace_seconds=0.5)
    launcher.submit(job("a", deaf, tmp_path, watched=(log,)))
    assert ends(launcher, "a") == (-9, Ending.HUNG)


def test_of_two_launches_that_want_the_same_one_waits(made: Any, tmp_path: Path) -> None:
    first, second = made(), made()
    first.submit(job("a", POLITE, tmp_path, "x", "y"))
    first.state("a")
    second.submit(job("a", SLEEP, tmp_path, "x", "y"))
    second.submit(job("b", SLEEP, tmp_path, "y", "z"))
    for name in "ab":
        wait_for(lambda name=name: second.state(name).waits_for, "what it says", 10)
        assert second.state(name).waits_for == f"job a of process {os.getpid()}"
    wait_for(lambda: first.state("a").status is JobStatus.RUNNING and first.logs("a"), "its start", 90)
    first.close()
    reaches(second, "a", JobStatus.RUNNING)
    time.sleep(1)
    assert second.state("b").waits_for.startswith("job a ")


LAUNCH = """
import sys, time
from pathlib import Path
from lawfit.launch.backends.slurm import SlurmLauncher
from tests.launch.test_slurm import job
launcher = SlurmLauncher(query_seconds=0.5)
folder = Path(sys.argv[1])
for name, claimed in (("a", "x"), ("b", "y"), ("c", "z")):
    code = f"open({str(folder / 'starts')!r}, 'a').write({name!r}); import time; time.sleep({sys.argv[2]})"
    launcher.submit(job(name, code, folder, claimed))
launcher.state("a")
print("submitted", flush=True)
time.sleep(60)
"""


def launch_and_die(folder: Path, seconds: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "submitted\n"
    process.kill()
    process.wait()
    process.stdout.close()


def test_jobs_of_a_launch_that_was_killed_are_followed_not_run_again(made: Any, tmp_path: Path) -> None:
    launch_and_die(tmp_path, 2)
    launcher = made()
    for name, claimed in (("a", "x"), ("b", "y"), ("other", "z")):
        launcher.submit(job(name, f"open({str(tmp_path / 'starts')!r}, 'a').write({name!r})", tmp_path, claimed))
    wait_for(lambda: launcher.state("other").waits_for, "what the other says", 10)
    assert launcher.state("other").waits_for.startswith("job c (Slurm ")
    assert (ends(launcher, "a"), ends(launcher, "b"), ends(launcher, "other")) == ((0, None),) * 3
    starts = (tmp_path / "starts").read_text()
    assert sorted(starts.replace("other", "o")) == ["a", "b", "c", "o"]


@pytest.mark.soak
def test_what_ended_while_nobody_followed_is_not_waited_for(made: Any, tmp_path: Path) -> None:
    launch_and_die(tmp_path, 0)
    wait_for(lambda: len(list(tmp_path.rglob("*.end.json"))) == 3, "the end of all", 90)
    launcher = made()
    launcher.submit(job("a", "", tmp_path, "x"))
    assert ends(launcher, "a") == (0, None)
    launcher.close()
    assert [path.suffix for path in (tmp_path / ".launch" / "slurm").iterdir()] == [".alive"]  # of the one that died


@pytest.mark.soak
def test_where_only_so_many_jobs_may_be_submitted_the_rest_waits(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of accounts, which this Slurm does not have: its words, in front of the real command."""
    script = tmp_path / "bin" / "sbatch"
    script.parent.mkdir()
    limit = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, ...)"
    script.write_text(f"""#!/bin/sh
there=$(squeue --noheader --array --states=PD,R | wc -l)
for word in "$@"; do case $word in --array=0-*) new=${{word#--array=0-}};; esac; done
if [ $((there + new + 1)) -gt 2 ]; then echo "{limit}" >&2; exit 1; fi
exec {shutil.which("sbatch")} "$@"
""")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    launcher = made()
    names = [f"job {n}" for n in range(5)]
    for name in names:
        launcher.submit(job(name, f"open({str(tmp_path / 'ran')!r}, 'a').write({name[-1]!r})", tmp_path, name))
    assert {ends(launcher, name, 60) for name in names} == {(0, None)}
    assert sorted((tmp_path / "ran").read_text()) == ["0", "1", "2", "3", "4"]


@pytest.fixture
def counted(slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A line for each question about states."""
    calls = tmp_path / "calls"
    calls.touch()
    for name in ("squeue", "sacct"):
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\necho {name} >>{calls}\nexec {shutil.which(name) or "false"} "$@"\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return calls


@pytest.mark.soak
@pytest.mark.parametrize("tasks", [40, 2000])
def test_states_are_asked_for_once_in_a_while_whatever_the_number_of_jobs(
    made: Any, counted: Path, tmp_path: Path, tasks: int
) -> None:
    every = 3.0 if tasks == 40 else backend.QUERY_SECONDS
    launcher = made(query_seconds=every)
    names = [f"job {n}" for n in range(tasks)]
    began = time.monotonic()
    for name in names:
        launcher.submit(job(name, "", tmp_path, name))
    slowest = 0.0
    while time.monotonic() - began < 2.5 * every:
        at = time.monotonic()
        states = [launcher.state(name) for name in names]
        slowest = max(slowest, time.monotonic() - at)
        time.sleep(0.2)
    asked, seconds = counted.read_text().split(), time.monotonic() - began
    assert set(asked) == {"squeue"}
    assert 1 <= len(asked) <= 1 + seconds / every
    assert seconds < 4 * every
    assert sum(state.status is JobStatus.ENDED for state in states) > tasks / 100
    for name in names:
        launcher.cancel(name)
    wait_for(lambda: all(launcher.state(name).status is JobStatus.ENDED for name in names), "the end of all", 60)
    assert {launcher.state(name).exit_code for name in names} <= {0, None, -15, 75}
    assert slowest < 5, f"one look at all took {slowest:.1f} s"


@pytest.mark.soak
@pytest.mark.parametrize(
    ("accounts", "ended"),
    [pytest.param(False, (None, Ending.NODE), id="no accounts"), pytest.param(True, (1, None), id="accounts")],
)
def test_a_job_that_slurm_has_forgotten_is_looked_up_or_taken_for_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accounts: bool, ended: Any
) -> None:
    """It could not write down its end, and squeue knows it no more."""
    if reason := slurm_cluster.missing(accounts=accounts):
        absent(reason)
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.1)
    with slurm_cluster.cluster(tmp_path / "slurm", "MinJobAge=2\n", accounts=accounts) as made:
        for name in ("SLURM_CONF", "PATH"):
            monkeypatch.setenv(name, made.environment[name])
        launcher = SlurmLauncher(query_seconds=1)
        launcher.submit(job("a", "import os, signal; os.kill(os.getppid(), signal.SIGKILL)", tmp_path))
        wait_for(lambda: launcher.state("a").status is JobStatus.RUNNING, "its start", 90)
        launcher._asked_at = time.monotonic() + 90  # nobody asks until it is forgotten
        every = ["squeue", "--noheader", "--states=all"]
        wait_for(lambda: not subprocess.run(every, capture_output=True, check=True).stdout, "squeue to forget", 90)
        launcher._asked_at = None
        assert ends(launcher, "a", 60) == ended
        launcher.close()


@pytest.mark.soak
def test_launches_of_a_service_go_on_beside_each_other(slurm: SlurmCluster, tmp_path: Path) -> None:
    """The cluster is where they wait: two launches of one template train at once, into one folder of logs."""
    trainer = OwnTrainer.written(tmp_path)
    path = tmp_path / "templates.toml"
    said = {"command": trainer.template(sleep=8.0), "logs": str(tmp_path / "runs"), "backend": "slurm"}
    path.write_text("[tiny]\ncpu = true\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in said.items()))
    settings = Settings(database_url=str(tmp_path / "lawfit.db"), training_templates=str(path))
    with TestClient(create_app(settings)) as served:

        def begin(lr: float) -> str:
            grid = json.loads(trainer.grid(lr=[lr]).read_text())
            answer = served.post("/v1/training-jobs", json={"template": "tiny", "grid": grid, "recipe": "mine"})
            return str(answer.json()["job"]["id"])

        def jobs() -> list[dict[str, Any]]:
            return [served.get(f"/v1/jobs/{job_id}").json() for job_id in ids]

        ids = [begin(lr) for lr in (0.001, 0.002)]
        wait_for(lambda: len(trainer.counts("start")) == 4, "two runs of each launch to train", 90)
        assert len(trainer.running()) >= 3  # the first may end while the last begins
        assert [job["state"] for job in jobs()] == ["running", "running"]
        wait_for(lambda: all(job["state"] == "done" for job in jobs()), "both to end", 120)
        assert [job["result"]["new"] for job in jobs()] == [2, 2]
    assert trainer.counts("end") == trainer.counts("start")
    assert set(trainer.counts("end").values()) == {1}
