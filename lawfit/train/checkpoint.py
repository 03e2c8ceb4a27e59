"""Where a pack was interrupted, in one file beside its logs: exact, so that nothing tells a resumed run from another.

Its size is 12 bytes per parameter and run (weights and two moments in fp32), and 8 bytes per step and run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lawfit.records import content_hash


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What a checkpoint holds."""

    tensors: Mapping[str, Tensor]
    log_positions: Sequence[int]  # bytes of each run's log that belong to the steps done
    seconds: float  # of training so far


class Checkpoint:
    """The checkpoint of a pack. Its name comes from the ids of the runs, so that no other pack finds it."""

    def __init__(
        self, folder: Path, run_ids: Sequence[str], *, every_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = folder / f"{content_hash(list(run_ids))}.checkpoint"
        self.every_seconds, self.clock = every_seconds, clock
        self.last = clock()

    @property
    def due(self) -> bool:
        return self.clock() - self.last >= self.every_seconds

    def save(self, saved: Saved) -> None:
        """Replace the file in one piece: a process killed here leaves the one before."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        content = {
            "tensors": {name: tensor.detach().cpu() for name, tensor in saved.tensors.items()},
            "log_positions": list(saved.log_positions),
            "seconds": saved.seconds,
        }
        torch.save(content, part)
        part.replace(self.path)
        self.last = self.clock()

    def load(self) -> Saved | None:
        if not self.path.exists():
            return None
        return Saved(**torch.load(self.path, map_location="cpu", weights_only=True))

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
