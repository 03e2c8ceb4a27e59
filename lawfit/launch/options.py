"""What a person may say about a launch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lawfit.launch.backends import BACKENDS
from lawfit.launch.plan import MAX_RUNS

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
    max_runs: int = MAX_RUNS  # of a pack; longer ones are cut
    deadline_seconds: float | None = None  # from now: then everything stops with a checkpoint
    checkpoint_seconds: float = CHECKPOINT_SECONDS  # how much a sudden death may cost
    recipe: str | None = None  # name for the sweep in the store; default: that of the first file
    dry_run: bool = False

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
        for name in ("deadline_seconds", "checkpoint_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value:g}")
        if self.recipe is not None and not self.recipe.strip():
            raise ValueError("the recipe name is empty")

    def command(self, deadline: float | None) -> Callable[[Path], list[str]]:
        """The command line that trains a pack with the Python that runs this.

        Parameters
        ----------
        deadline : Unix time
        """

        def made(pack: Path) -> list[str]:
            words = [sys.executable, "-m", "lawfit.train", str(pack), "--logs", str(self.logs)]
            words += ["--checkpoint-seconds", repr(self.checkpoint_seconds)]
            words += ["--cpu"] if self.cpu else []
            return words + ([] if deadline is None else ["--deadline", repr(deadline)])

        return made
