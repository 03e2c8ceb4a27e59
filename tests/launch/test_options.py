"""What is said of a launch, on a command line or kept as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lawfit.launch import LaunchOptions, Resources


@pytest.mark.parametrize(
    "options",
    [
        LaunchOptions(),
        LaunchOptions(cpu=True, logs=Path("/x/logs"), workers=3, deadline_seconds=5.0, recipe="mine"),
        LaunchOptions(gpus=("0", "3"), max_runs=7, checkpoint_seconds=1.5),
        LaunchOptions(
            backend="slurm",
            resources=Resources(
                partition="a100", slurm=("constraint=x", "exclusive"), walltime_minutes=90, hung_minutes=0
            ),
        ),
    ],
)
def test_what_is_kept_is_what_was_said(options: LaunchOptions) -> None:
    assert LaunchOptions.of(json.loads(json.dumps(options.said()))) == options


def test_defaults_are_not_said_and_what_is_unknown_is_left_out() -> None:
    assert LaunchOptions().said() == {}
    assert LaunchOptions.of({"cpu": True, "of_a_later_version": 1}) == LaunchOptions(cpu=True)


def test_gpus_as_they_are_typed() -> None:
    assert LaunchOptions.of({"gpus": "0, 2"}).gpus == ("0", "2")
    with pytest.raises(ValueError, match="name the GPUs as in 0,1"):
        LaunchOptions.of({"gpus": ","})
