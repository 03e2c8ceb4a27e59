"""What every launch engine does, asked of each; and claims."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lawfit.launch import BACKENDS, Ending, Job, JobStatus, Launcher, LaunchOptions, LocalLauncher, Resources, claims
from lawfit.launch.backends import cluster
from lawfit.launch.backends.slurm import SlurmLauncher
from tests.launch.conftest import needs_proc, wait_for

PATIENCE = 90.0  # seconds: Ray takes ten to start its first worker on an idle machine
SLEEP = "import time; time.sleep(60)"
SAY = "import os, signal, sys, time; sys.stderr.write(os.environ['CUDA_VISIBLE_DEVICES'] + ';'); sys.stderr.flush();"
POLITE = f"import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); {SAY} time.sleep(60)"
DEAF = f"import signal; signal.signal(15, signal.SIG_IGN); {SAY} time.sleep(60)"


def job(name: str, code: str, folder: Path, *claimed: str) -> Job:
    return Job(name=name, command=(sys.executable, "-IS", "-c", code), folder=folder, claims=frozenset(claimed))


def ended(launcher: Launcher, *names: str) -> None:
    wait_for(
        lambda: all(launcher.state(name).status is JobStatus.ENDED for name in names), f"the end of {names}", PATIENCE
    )


@pytest.mark.parametrize(
    "backend", [pytest.param(name, marks=pytest.mark.soak) if name == "ray" else name for name in BACKENDS]
)
class TestContract:
    @pytest.fixture
    def launcher(
        self, backend: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Launcher]:
        monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.1)
        one = Resources(jobs_at_a_time=1)
        if backend == "slurm":
            request.getfixturevalue("slurm")
            made: Launcher = SlurmLauncher(resources=one, query_seconds=0.5)
        else:
            if backend == "ray":
                request.getfixturevalue("ray_running")
            made = BACKENDS[backend](resources=one)
        yield made
        made.close()

    def test_runs_what_is_submitted_and_says_how_it_ended(self, launcher: Launcher, tmp_path: Path) -> None:
        launcher.submit(job("good", f"open({str(tmp_path / 'mark')!r}, 'w').close()", tmp_path))
        launcher.submit(job("bad", "import sys; sys.stderr.write('because'); sys.exit(3)", tmp_path))
        ended(launcher, "good", "bad")
        assert (tmp_path / "mark").exists()
        assert (launcher.state("good").exit_code, launcher.state("bad").exit_code) == (0, 3)
        assert (launcher.logs("good"), launcher.logs("bad")) == ("", "because")

    def test_no_more_at_a_time_than_there_is_room(self, launcher: Launcher, tmp_path: Path) -> None:
        names = [f"job {n}" for n in range(launcher.places + 1)]
        for name in names:
            launcher.submit(job(name, SLEEP, tmp_path))
        wait_for(lambda: launcher.state(names[0]).status is JobStatus.RUNNING, "the first job's start", PATIENCE)
        states = [launcher.state(name) for name in names]
        assert [s.status for s in states] == [JobStatus.RUNNING, JobStatus.QUEUED]
        assert states[0].place
        assert states[0].host
        launcher.cancel(names[0])
        wait_for(lambda: launcher.state(names[-1]).status is JobStatus.RUNNING, "the last job's start", PATIENCE)

    def test_cancelled_jobs_end(self, launcher: Launcher, tmp_path: Path) -> None:
        launcher.submit(job("running", POLITE, tmp_path))
        wait_for(lambda: launcher.state("running").status and launcher.logs("running"), "its first word", PATIENCE)
        launcher.submit(job("waiting", SLEEP, tmp_path))
        for name in ("waiting", "running"):
            launcher.cancel(name)
        ended(launcher, "running", "waiting")
        assert launcher.state("running").exit_code == 7  # it was asked, not killed
        assert launcher.state("running").cancelled
        assert launcher.state("waiting").exit_code is None

    def test_cancelling_what_is_over_changes_nothing(self, launcher: Launcher, tmp_path: Path) -> None:
        launcher.submit(job("silent", "", tmp_path))
        ended(launcher, "silent")
        before = launcher.state("silent")
        launcher.cancel("silent")  # it ended while somebody made up his mind
        assert launcher.state("silent") == before

    def test_of_two_jobs_that_claim_the_same_one_waits(self, launcher: Launcher, tmp_path: Path) -> None:
        others = BACKENDS["local"]()
        others.submit(job("first", SLEEP, tmp_path, "a", "b"))
        launcher.submit(job("second", "", tmp_path, "b", "c"))
        wait_for(lambda: launcher.state("second").waits_for, "what it says", PATIENCE)
        assert launcher.state("second").status is JobStatus.QUEUED
        assert "first" in launcher.state("second").waits_for
        others.close()
        ended(launcher, "second")

    def test_a_name_is_taken_until_its_job_is_over(self, launcher: Launcher, tmp_path: Path) -> None:
        launcher.submit(job("x", SLEEP, tmp_path))
        with pytest.raises(ValueError, match="not over yet"):
            launcher.submit(job("x", "", tmp_path))
        launcher.cancel("x")
        ended(launcher, "x")
        launcher.submit(job("x", "", tmp_path))
        ended(launcher, "x")
        assert launcher.state("x").exit_code == 0

    def test_close_ends_everything(self, launcher: Launcher, tmp_path: Path) -> None:
        launcher.submit(job("deaf", DEAF, tmp_path))
        wait_for(lambda: launcher.state("deaf").status and launcher.logs("deaf"), "its first word", PATIENCE)
        launcher.close()
        assert launcher.state("deaf").status is JobStatus.ENDED


class TestLocal:
    def test_each_gpu_is_given_out_once_before_any_is_shared(self, tmp_path: Path) -> None:
        launcher = LocalLauncher(["0", "3"], workers=2)
        for name in "abcd":
            launcher.submit(job(name, f"{SAY} time.sleep(60)", tmp_path))
        assert [launcher.state(name).place for name in "abcd"] == ["gpu 0", "gpu 3", "gpu 0", "gpu 3"]
        wait_for(
            lambda: [launcher.logs(name) for name in "abcd"] == ["0;", "3;", "0;", "3;"], "what the jobs see", PATIENCE
        )
        launcher.close()

    def test_the_cpu_hides_all_gpus(self, tmp_path: Path) -> None:
        launcher = LocalLauncher()
        launcher.submit(
            job("a", "import os, sys; sys.stderr.write(repr(os.environ['CUDA_VISIBLE_DEVICES']))", tmp_path)
        )
        ended(launcher, "a")
        assert launcher.logs("a") == "''"
        assert launcher.state("a").place.startswith("cpu")

    def test_a_job_that_does_not_listen_is_killed_in_time(self, tmp_path: Path) -> None:
        now = 0.0
        launcher = LocalLauncher(grace_seconds=30, clock=lambda: now)
        launcher.submit(job("deaf", DEAF, tmp_path))
        wait_for(lambda: launcher.logs("deaf"), "its first word", PATIENCE)
        launcher.cancel("deaf")
        time.sleep(0.2)
        assert launcher.state("deaf").status is JobStatus.RUNNING
        now = 31
        launcher.state("deaf")
        ended(launcher, "deaf")
        assert launcher.state("deaf").exit_code == -9

    def test_shortly_before_its_walltime_a_job_is_told_to_stop(self, tmp_path: Path) -> None:
        now = 0.0
        launcher = LocalLauncher(resources=Resources(walltime_minutes=10), clock=lambda: now)
        launcher.submit(job("polite", POLITE, tmp_path))
        wait_for(lambda: launcher.logs("polite"), "its first word", PATIENCE)
        now = 479
        assert launcher.state("polite").ending is None
        now = 481
        ended(launcher, "polite")
        assert (launcher.state("polite").exit_code, launcher.state("polite").ending) == (7, Ending.WALLTIME)

    def test_one_that_hangs_is_ended(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        launcher = LocalLauncher(resources=Resources(hung_minutes=1 / 60))
        writes = f"import time\nfor n in range(40): open({str(log)!r}, 'a').write('x'); time.sleep(0.05)\n{SLEEP}"
        launcher.submit(Job(name="a", command=(sys.executable, "-IS", "-c", writes), folder=tmp_path, watched=(log,)))
        launcher.submit(job("unwatched", "", tmp_path))
        ended(launcher, "a")
        assert launcher.state("a").ending is Ending.HUNG
        assert log.read_text() == "x" * 40  # while it wrote, it was left alone
        launcher.close()

    @needs_proc
    def test_jobs_end_with_a_launcher_that_is_killed(self, tmp_path: Path) -> None:
        code = f"""
import time
from pathlib import Path
from lawfit.launch import Job, LocalLauncher
launcher = LocalLauncher()
command = ({sys.executable!r}, "-IS", "-c", {SLEEP + "  # mine"!r})
launcher.submit(Job(name="a", command=command, folder=Path({str(tmp_path)!r})))
print(launcher._running["a"][1].pid, flush=True)
time.sleep(60)
"""
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        command = Path(f"/proc/{process.stdout.readline().strip()}/cmdline")
        wait_for(lambda: b"# mine" in command.read_bytes(), "the job's start", PATIENCE)
        process.kill()
        process.wait()
        process.stdout.close()
        wait_for(lambda: not command.exists() or not command.read_bytes(), "the job's end", PATIENCE)


class TestClaims:
    def test_held_while_any_process_has_it_open(self, tmp_path: Path) -> None:
        mine = claims.take(tmp_path, "one", frozenset("ab"))
        assert isinstance(mine, int)
        process = subprocess.Popen([sys.executable, "-IS", "-c", SLEEP], pass_fds=(mine,))
        os.close(mine)
        assert claims.take(tmp_path, "two", frozenset("bc")) == claims.Holder(
            job="one", launcher=os.getpid(), host=socket.gethostname()
        )
        free = claims.take(tmp_path, "three", frozenset("cd"))
        assert isinstance(free, int)
        process.kill()
        process.wait()
        again = claims.take(tmp_path, "two", frozenset("ab"))
        assert isinstance(again, int)
        os.close(again)
        os.close(free)

    def test_what_nobody_holds_is_removed(self, tmp_path: Path) -> None:
        held, left = claims.take(tmp_path, "held", frozenset("a")), claims.take(tmp_path, "left", frozenset("b"))
        assert isinstance(held, int)
        assert isinstance(left, int)
        os.close(left)
        claims.clean(tmp_path)
        assert [path.name for path in tmp_path.glob("*.claim")] == ["held.claim"]
        os.close(held)


def test_debug_shows_the_command_and_all_that_was_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launcher = BACKENDS["debug"](["0", "3"], workers=4)
    assert launcher.places == 1
    one = job("bad", "import sys; sys.stderr.write('because\\n'); sys.exit(3)", tmp_path)
    launcher.submit(one)
    ended(launcher, "bad")
    launcher.state("bad")  # asked again, told once
    said = capsys.readouterr().err.splitlines()
    assert said == [f"+ {shlex.join(one.command)}", "because", "- bad: exit code 3"]
    launcher.close()


def test_a_backend_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(ValueError, match="there is no backend 'slum'; there are local, debug, slurm, ray"):
        LaunchOptions(backend="slum")
