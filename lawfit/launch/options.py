"""What a person may say about a launch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from lawfit.declared import is_finite
from lawfit.findings import as_json
from lawfit.launch.backends import BACKENDS
from lawfit.launch.own import own_command
from lawfit.launch.plan import MAX_RUNS
from lawfit.launch.resources import Resources
from lawfit.launch.template import Template
from lawfit.records import Json

CHECKPOINT_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """Everything has a default: all GPUs of this machine, one pack at a time on each."""

    backend: str = "local"  # how packs are run: a name in `backends.BACKENDS`
    logs: Path = Path("runs")  # folder for <run id>.jsonl
    corpus: str | None = None  # its folder, instead of the one that the packs name
    gpus: tuple[str, ...] | None = None  # as CUDA_VISIBLE_DEVICES names them; all when None
    cpu: bool = False
    workers: int = 1  # processes on each GPU, or on the CPU
    resources: Resources = field(default_factory=Resources)  # of each job
    max_runs: int = MAX_RUNS  # of a pack; longer ones are cut
    deadline_seconds: float | None = None  # from now: then everything stops with a checkpoint
    checkpoint_seconds: float = CHECKPOINT_SECONDS  # how much a sudden death may cost
    recipe: str | None = None  # name for the sweep in the store; default: that of the first file
    dollars_per_gpu_hour: float | None = None  # for what jobs cost, as they are listed
    template: Template | None = None  # of a trainer of the user's own, a job for each run; None: lawfit's
    trial: bool = False  # one short job of it first
    dry_run: bool = False

    @classmethod
    def of(cls, said: Mapping[str, Any], **more: Any) -> Self:
        """Options from what was said: fields of these and of `Resources`, as a command line or JSON has them.

        Names that this version does not know are left out.

        Raises
        ------
        ValueError
            They contradict each other.
        """
        found = {each.name: said[each.name] for each in fields(cls) if each.name in said}
        asked = {each.name: said[each.name] for each in fields(Resources) if each.name in said}
        if isinstance(gpus := found.get("gpus"), str):
            gpus = [word.strip() for word in gpus.split(",") if word.strip()]
        if gpus is not None:
            found["gpus"] = tuple(gpus)
        if "logs" in found:
            found["logs"] = Path(found["logs"])
        if "slurm" in asked:
            asked["slurm"] = tuple(asked["slurm"])
        return cls(**{**found, **more}, resources=Resources(**asked))

    def said(self) -> dict[str, Json]:
        """As JSON, for `of`: what differs from the defaults, but for a template, which is a program of its own."""
        mine = {
            each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("resources", "template")
        }
        plain = {**vars(type(self)()), **vars(Resources())}
        found = {name: value for name, value in {**mine, **vars(self.resources)}.items() if value != plain[name]}
        return {name: str(value) if isinstance(value, Path) else as_json(value) for name, value in found.items()}

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ValueError(f"there is no backend '{self.backend}'; there are {', '.join(BACKENDS)}")
        if self.cpu and self.gpus:
            raise ValueError("either GPUs or the CPU, not both")
        if self.gpus == ():
            raise ValueError("name the GPUs as in 0,1, or leave the option out for all of them")
        for name in ("workers", "max_runs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        for name in ("deadline_seconds", "checkpoint_seconds", "dollars_per_gpu_hour"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and is_finite(value)):
                raise ValueError(f"{name} must be above 0 and finite, got {value:g}")
        self._require_backend()
        if self.trial and self.template is None:
            raise ValueError("a trial is of a template: say --template, or leave --trial out")
        if self.corpus is not None and self.template is not None:
            raise ValueError(
                "the corpus of a trainer of your own stands in its template or in the grid, not in --corpus"
            )
        if self.recipe is not None and not self.recipe.strip():
            raise ValueError("the recipe name is empty")

    def _require_backend(self) -> None:
        """What is asked for is in the power of the backend."""
        backend, asked = BACKENDS[self.backend], self.resources
        asked.require_honoured(self.backend, backend.honours)
        if self.workers > 1 and backend.elsewhere and "workers" not in backend.honours:
            raise ValueError(f"backend {self.backend} gives each job GPUs of its own; leave --workers-per-gpu out")
        if self.gpus and backend.elsewhere:
            raise ValueError(f"backend {self.backend} chooses the GPUs; say how many with --gpus-per-job, not which")
        if self.cpu and asked.gpus_per_job:
            raise ValueError("either --gpus-per-job or --cpu, not both")
        if asked.gpus_per_job == 0 and not self.cpu:
            raise ValueError("without a GPU, training has to be told so: --cpu instead of --gpus-per-job 0")

    @property
    def elsewhere(self) -> bool:
        """Whether jobs run on machines that the backend chooses."""
        return BACKENDS[self.backend].elsewhere

    def places(self, gpus: int) -> int:
        """How many jobs can run at a time with so many GPUs of this machine, as far as is known here."""
        bound = self.resources.jobs_at_a_time
        if self.elsewhere:
            return bound or 1
        here = max(1, gpus // (self.resources.gpus_per_job or 1)) * self.workers
        return min(here, bound or here)

    @property
    def per_job(self) -> Resources:
        """What each job asks for, GPUs spelt out."""
        return replace(self.resources, gpus_per_job=0 if self.cpu else self.resources.gpus_per_job or 1)

    def command(self, deadline: float | None) -> Callable[[Path], list[str]]:
        """The command line that trains a pack with the Python that runs this.

        Parameters
        ----------
        deadline : Unix time
        """
        if self.template is not None:
            return own_command(self.template, self.logs)

        def made(pack: Path) -> list[str]:
            words = [sys.executable, "-m", "lawfit.train", str(pack), "--logs", str(self.logs)]
            words += ["--checkpoint-seconds", repr(self.checkpoint_seconds)]
            words += ["--cpu"] if self.cpu else []
            return words + ([] if deadline is None else ["--deadline", repr(deadline)])

        return made
