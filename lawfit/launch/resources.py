"""What a job asks of the machine that runs it, named alike for every backend."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Final

from lawfit.declared import is_finite

HUNG_MINUTES: Final = 30.0  # compilation of a large stack takes minutes without a line in any log
LONGEST_MARGIN_SECONDS: Final = 120.0  # for a checkpoint before the walltime
_OWN_SLURM: Final = {  # what is set by an option of its own, or is the launcher's
    "array", "chdir", "comment", "error", "job-name", "mem", "open-mode", "output", "parsable", "signal", "wrap",
    "time", "partition", "account", "qos", "cpus-per-task", "export", "no-requeue", "requeue", "test-only", "wait",
}  # fmt: skip
_WORDS: Final = {
    "gpus_per_job": "--gpus-per-job",
    "cpus_per_job": "--cpus-per-job",
    "memory_gb": "--memory-gb",
    "walltime_minutes": "--walltime-minutes",
    "jobs_at_a_time": "--jobs-at-a-time",
    "partition": "--partition",
    "account": "--account",
    "qos": "--qos",
    "slurm": "--slurm",
    "ray_address": "--ray-address",
}


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What is left out is for the backend to choose; `require_honoured` refuses what it has no say in."""

    gpus_per_job: int | None = None
    cpus_per_job: int | None = None
    memory_gb: float | None = None  # of main memory, in units of 2**30 bytes
    walltime_minutes: float | None = None  # of one attempt; a checkpoint is left before, and the next attempt goes on
    jobs_at_a_time: int | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    slurm: tuple[str, ...] = ()  # more options of sbatch, as KEY=VALUE or KEY
    ray_address: str | None = None  # "auto", HOST:PORT; one on this machine is found or started when None
    hung_minutes: float = HUNG_MINUTES  # without a line in any log a job is taken for hung; 0: never

    def __post_init__(self) -> None:
        for name, least in (("gpus_per_job", 0), ("cpus_per_job", 1), ("jobs_at_a_time", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{_WORDS[name]} must be {least} or more, got {value}")
        for name in ("memory_gb", "walltime_minutes"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and is_finite(value)):
                raise ValueError(f"{_WORDS[name]} must be above 0 and finite, got {value:g}")
        if not (self.hung_minutes >= 0 and is_finite(self.hung_minutes)):
            raise ValueError(f"--hung-minutes must be 0 (never) or more, got {self.hung_minutes:g}")
        for name in ("partition", "account", "qos", "ray_address"):
            value = getattr(self, name)
            if value is not None and (not value.strip() or re.search(r"\s", value)):
                raise ValueError(f"{_WORDS[name]} is empty or has spaces in it: {value!r}")
        for option in self.slurm:
            _require_slurm_option(option)

    @property
    def stop_after_seconds(self) -> float | None:
        """Of running: then a checkpoint has to be left."""
        if self.walltime_minutes is None:
            return None
        seconds = 60 * self.walltime_minutes
        return seconds - min(LONGEST_MARGIN_SECONDS, seconds / 4)

    @property
    def hung_after_seconds(self) -> float | None:
        return 60 * self.hung_minutes or None

    def require_honoured(self, backend: str, honoured: Collection[str]) -> None:
        """Refuse what was asked for and what the backend has no say in.

        Raises
        ------
        ValueError
        """
        for field in fields(self):
            asked = getattr(self, field.name) not in (field.default, ())
            if asked and field.name in _WORDS and field.name not in honoured:
                can = ", ".join(_WORDS[name] for name in _WORDS if name in honoured)
                raise ValueError(
                    f"backend {backend} has no say in {_WORDS[field.name]}"
                    + (f"; it takes {can}" if can else "; it takes no option of this kind")
                )


def _require_slurm_option(option: str) -> None:
    key, _, value = option.partition("=")
    if not re.fullmatch(r"[a-z][a-z0-9-]*", key) or "\n" in value:
        raise ValueError(f"--slurm takes a long option of sbatch as KEY=VALUE (or KEY alone), got {option!r}")
    if key in _OWN_SLURM:
        raise ValueError(f"--slurm {key} cannot be set: lawfit sets it itself, or has an option for it")
