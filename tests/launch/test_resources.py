"""What a job may ask for, and of whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lawfit.cli.main import run
from lawfit.launch import LaunchError, LaunchOptions, LocalLauncher, Resources


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        pytest.param({"cpus_per_job": 0}, "--cpus-per-job must be 1 or more, got 0", id="no CPU"),
        pytest.param({"memory_gb": 0.0}, "--memory-gb must be above 0 and finite, got 0", id="no memory"),
        pytest.param({"walltime_minutes": float("inf")}, "--walltime-minutes must be above 0 and finite", id="no end"),
        pytest.param(
            {"walltime_minutes": float("nan")}, "--walltime-minutes must be above 0 and finite, got nan", id="no number"
        ),
        pytest.param({"hung_minutes": -1.0}, r"--hung-minutes must be 0 \(never\) or more, got -1", id="negative"),
        pytest.param({"partition": "a b"}, "--partition is empty or has spaces in it: 'a b'", id="two words"),
        pytest.param({"slurm": ("=x",)}, "KEY=VALUE", id="no key"),
        pytest.param({"slurm": ("array=1-9",)}, "--slurm array cannot be set", id="ours"),
    ],
)
def test_what_makes_no_sense_is_said(asked: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Resources(**asked)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(
            {"resources": Resources(memory_gb=4)},
            "backend local has no say in --memory-gb; it takes --gpus-per-job, --cpus-per-job",
            id="memory here",
        ),
        pytest.param(
            {"backend": "ray", "resources": Resources(partition="p")}, "backend ray has no say in --partition", id="ray"
        ),
        pytest.param(
            {"backend": "slurm", "resources": Resources(ray_address="h:1")}, "slurm has no say in --ray-add", id="slurm"
        ),
        pytest.param({"backend": "slurm", "workers": 2}, "leave --workers-per-gpu out", id="shares"),
        pytest.param({"backend": "ray", "gpus": ("0",)}, "say how many with --gpus-per-job, not which", id="which"),
        pytest.param(
            {"cpu": True, "resources": Resources(gpus_per_job=1)}, "either --gpus-per-job or --cpu", id="both"
        ),
        pytest.param({"resources": Resources(gpus_per_job=0)}, "--cpu instead of --gpus-per-job 0", id="neither"),
    ],
)
def test_what_a_backend_has_no_say_in_is_refused(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LaunchOptions(**options)


def test_the_command_line_says_so_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["launch", str(tmp_path / "g.json"), "--backend", "local", "--partition", "p"]) == 2
    assert "backend local has no say in --partition" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("minutes", "seconds"),
    [pytest.param(60, 3480, id="two minutes before"), pytest.param(2, 90, id="a quarter before")],
)
def test_a_checkpoint_is_left_before_the_walltime(minutes: float, seconds: float) -> None:
    assert Resources(walltime_minutes=minutes).stop_after_seconds == seconds


def test_here_a_job_may_have_several_gpus(tmp_path: Path) -> None:
    assert LocalLauncher(["0", "1", "2", "3", "4"], resources=Resources(gpus_per_job=2)).places == 2
    assert LocalLauncher(["0", "1"], workers=3, resources=Resources(jobs_at_a_time=4)).places == 4
    with pytest.raises(LaunchError, match="a job asks for 2 GPUs, and this machine has 1 for it"):
        LocalLauncher(["0"], resources=Resources(gpus_per_job=2))


@pytest.mark.parametrize(
    ("options", "gpus", "places"),
    [
        pytest.param({"workers": 2}, 3, 6, id="here"),
        pytest.param({"resources": Resources(gpus_per_job=2)}, 5, 2, id="two GPUs each"),
        pytest.param({"resources": Resources(jobs_at_a_time=1)}, 5, 1, id="bounded"),
        pytest.param({"backend": "slurm"}, 0, 1, id="a cluster of unknown size"),
        pytest.param({"backend": "ray", "resources": Resources(jobs_at_a_time=7)}, 0, 7, id="a bounded cluster"),
    ],
)
def test_how_many_pieces_a_launch_is_for(options: Any, gpus: int, places: int) -> None:
    assert LaunchOptions(**options).places(gpus) == places
