"""Ray itself, on this machine: resources, what it cannot give, workers that die, drivers that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lawfit.launch import Ending, Job, JobStatus, LaunchError, Resources
from lawfit.launch.backends import cluster
from lawfit.launch.backends import ray as backend
from lawfit.launch.backends.ray import RayLauncher
from tests.launch.conftest import needs_proc, wait_for

SAY = "import os, sys; sys.stderr.write(os.environ['CUDA_VISIBLE_DEVICES'] + ';' + os.environ['OMP_NUM_THREADS'])"
WAIT = f"{SAY}; sys.stderr.flush(); import time; time.sleep(60)"


def job(name: str, code: str, folder: Path) -> Job:
    return Job(name=name, command=(sys.executable, "-IS", "-c", code), folder=folder)


@pytest.fixture
def made(ray_running: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes launchers, which are closed in the end."""
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.1)
    launchers: list[RayLauncher] = []

    def make(*, workers: int = 1, **asked: Any) -> RayLauncher:
        launchers.append(RayLauncher(workers=workers, resources=Resources(**asked)))
        return launchers[-1]

    yield make
    for launcher in launchers:
        launcher.close()


def all_said(launcher: RayLauncher, names: str) -> list[str]:
    wait_for(lambda: all(launcher.state(n).status is JobStatus.RUNNING and launcher.logs(n) for n in names), names, 60)
    return sorted(launcher.logs(name) for name in names)


@pytest.mark.soak
def test_each_job_gets_gpus_of_its_own(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    launcher = made(gpus_per_job=1)
    for name in "ab":
        launcher.submit(job(name, WAIT, tmp_path))
    assert all_said(launcher, "ab") == ["0;1", "1;1"]
    assert "gpu" in launcher.state("a").place


@pytest.mark.soak
def test_several_share_one_where_they_are_to(made: Any, tmp_path: Path) -> None:
    launcher = made(gpus_per_job=1, workers=2, cpus_per_job=1)
    for name in "ab":
        launcher.submit(job(name, WAIT, tmp_path))
    assert len(all_said(launcher, "ab")) == 2
    assert launcher._needs()["num_gpus"] == 0.5


@pytest.mark.soak
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        pytest.param({"gpus_per_job": 3}, r"1 CPUs, 3 GPUs\); they have: 2 CPUs, 2 GPUs", id="GPUs"),
        pytest.param({"memory_gb": 1e5}, r"100000 GiB\); they have", id="memory"),
    ],
)
def test_what_no_machine_has_is_said(made: Any, asked: Any, words: str) -> None:
    with pytest.raises(LaunchError, match=f"no machine of the Ray cluster has what a job asks for .*{words}"):
        made(**asked)


def test_without_the_package_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    with pytest.raises(LaunchError, match=r"pip install 'lawfit\[ray\]'"):
        RayLauncher()


def test_a_head_that_does_not_answer_is_named() -> None:
    pytest.importorskip("ray")
    with pytest.raises(LaunchError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 .*--ray-address"):
        backend._require_answer("127.0.0.1", 1)


@pytest.mark.soak
@needs_proc
def test_a_worker_of_rays_that_is_killed_takes_its_job_along(made: Any, tmp_path: Path) -> None:
    launcher = made()
    code = "import os, sys, time; sys.stderr.write(str(os.getpid())); sys.stderr.flush(); time.sleep(60)"
    launcher.submit(job("a", code, tmp_path))
    (pid,) = map(int, all_said(launcher, "a"))
    node = int(Path(f"/proc/{pid}/stat").read_text().split()[3])
    worker = int(Path(f"/proc/{node}/stat").read_text().split()[3])
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: launcher.state("a").status is JobStatus.ENDED, "its end", 90)
    assert launcher.state("a").ending is Ending.NODE
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the end of its process", 90)


DRIVER = """
import sys, time
from pathlib import Path
from lawfit.launch import Resources
from lawfit.launch.backends.ray import RayLauncher
from tests.launch.test_ray import job
launcher = RayLauncher(resources=Resources(ray_address=sys.argv[2]))
folder = Path(sys.argv[1])
code = "import os, sys, time; sys.stderr.write(str(os.getpid())); sys.stderr.flush(); time.sleep(60)"
launcher.submit(job("a", code, folder))
while not launcher.logs("a"):
    launcher.state("a")
    time.sleep(0.1)
print(launcher.logs("a"), flush=True)
time.sleep(60)
"""


@pytest.mark.soak
@needs_proc
def test_a_launch_that_is_killed_leaves_nothing(ray_running: None, tmp_path: Path) -> None:
    import ray

    words = [sys.executable, "-c", DRIVER, str(tmp_path), ray.get_runtime_context().gcs_address]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the end of its job", 60)


@pytest.mark.soak
def test_of_two_launches_that_want_the_same_one_waits(made: Any, tmp_path: Path) -> None:
    first, second = made(), made()
    for launcher, code in ((first, WAIT), (second, "")):
        one = job("a", code, tmp_path)
        launcher.submit(Job(name="a", command=one.command, folder=tmp_path, claims=frozenset("xy")))
        launcher.state("a")
    assert second.state("a").waits_for.startswith("job a of process")
    all_said(first, "a")
    first.close()
    wait_for(lambda: second.state("a").status is JobStatus.ENDED, "its turn and its end", 60)
    assert second.state("a").exit_code == 0
