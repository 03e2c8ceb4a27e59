"""Why attempts ended, from exit codes, launchers and last words."""

from __future__ import annotations

from typing import Any

import pytest

from lawfit.launch.endings import Reason, why
from lawfit.launch.energy import EnergyMeter
from lawfit.launch.launcher import Ending, JobState, JobStatus


@pytest.mark.parametrize(
    ("state", "tail", "reason", "said"),
    [
        ({"exit_code": 1}, "x\nerror: too little text", Reason.OWN, "too little text"),
        (
            {"exit_code": 1},
            "Traceback\ntorch.OutOfMemoryError: CUDA out of memory. Tried",
            Reason.MEMORY,
            "OutOfMemory",
        ),
        ({"exit_code": 1}, "Traceback\nRuntimeError: CUDA error: illegal", Reason.DIED, "RuntimeError: CUDA error"),
        ({"exit_code": 3}, "", Reason.DIED, "exit code 3"),
        ({"exit_code": -9}, "", Reason.KILLED, "signal 9; the system may have run out of memory"),
        ({"exit_code": -11}, "", Reason.KILLED, "signal 11"),
        ({"exit_code": -15}, "", Reason.PREEMPTED, "signal 15"),
        ({"exit_code": 143}, "", Reason.PREEMPTED, "signal 15"),
        ({"exit_code": 0}, "", Reason.PREEMPTED, "ended before its runs did"),
        ({"exit_code": -9, "ending": Ending.NODE}, "", Reason.NODE, "machine was lost"),
        ({"exit_code": -9, "ending": Ending.MEMORY}, "", Reason.MEMORY, "more memory than"),
        ({"exit_code": 0, "ending": Ending.WALLTIME}, "", Reason.WALLTIME, "walltime"),
        ({"exit_code": 1, "ending": Ending.PREEMPTED}, "error: x", Reason.PREEMPTED, "make room"),
        ({"exit_code": None, "ending": Ending.HUNG}, "", Reason.HUNG, "no log of it grew"),
    ],
)
def test_why_an_attempt_ended(state: dict[str, Any], tail: str, reason: Reason, said: str) -> None:
    found = why(JobState(status=JobStatus.ENDED, **state), tail)
    assert found.reason is reason
    assert said in found.said


def test_energy_is_not_made_up_where_nothing_tells_it() -> None:
    assert EnergyMeter("libnowhere.so").joules("gpu 0") is None
    assert EnergyMeter("libc.so.6").joules("gpu 0") is None
    assert EnergyMeter().joules("cpu") is None


@pytest.mark.gpu
def test_a_gpu_takes_energy() -> None:
    import time

    meter = EnergyMeter()
    first = meter.joules("gpu 0")
    time.sleep(0.5)
    second = meter.joules("gpu 0")
    assert first is not None
    assert second is not None
    assert 1 < second - first < 1000
