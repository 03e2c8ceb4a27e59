"""How long packs of runs take on a GPU: their start, steps, tokens and arithmetic, as those that were made measured it.

FLOPs alone foretell it badly where models are small: a pack of 150k parameters mostly starts, one of 800k mostly moves
tokens, and only from some 10M on arithmetic is what takes long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from lawfit.units import training_flops

START_SECONDS: Final = 10.0  # of a pack, where none was measured: a process, its imports, kernels, and the evaluation
LEAST_PACKS: Final = 6  # that tell more than one ratio
FASTEST: Final = 2e15  # FLOP/s: more no GPU sustains; small models alone do not tell what arithmetic takes
# What is believed before the packs speak, and how firmly, as so many packs: a start, a step of some hundred kernels.
_BEFORE: Final = ((START_SECONDS, 0.25), (2e-3, 0.05), (0.0, 0.05), (0.0, 0.0))
_TOKEN: Final = 5e-8  # seconds: what a token takes beside its arithmetic, to weigh that it may take nothing


@dataclass(frozen=True, kw_only=True)
class Packs:
    """Runs of one size and horizon: of each batch a pack, of so many runs."""

    params: float
    tokens: float  # of one run
    batches: tuple[float, ...]  # tokens per step
    runs: int  # in each pack

    @property
    def all_runs(self) -> int:
        return self.runs * len(self.batches)

    @property
    def flops(self) -> float:
        return self.all_runs * training_flops(self.params, self.tokens)


@dataclass(frozen=True, kw_only=True)
class MeasuredPack:
    """What one pack took."""

    params: float
    runs: int
    steps: float  # done, of its longest run
    tokens: float  # done, of all its runs together
    seconds: float  # wall time
    gpu_seconds: float  # on all its GPUs; its share of each moment where others trained there beside it


@dataclass(frozen=True, kw_only=True)
class Pace:
    """GPU-seconds of packs: those to start, for each step, for each token, and for its arithmetic."""

    flops_per_second: float
    start_seconds: float = START_SECONDS
    step_seconds: float = 0.0
    token_seconds: float = 0.0
    packs: int = 0  # that were measured; 0: FLOP/s alone are known
    at_a_time: float = 1.0  # packs that trained beside each other on one GPU, on average
    alone: bool = False  # each run is a pack of its own, as of other trainers

    def seconds(self, packs: Packs) -> float:
        """GPU-seconds that packs take."""
        steps = sum(packs.tokens / batch for batch in packs.batches) if self.step_seconds else 0.0
        cut = packs.runs if self.alone else 1
        return self._seconds(
            len(packs.batches) * cut, steps * cut, packs.all_runs * packs.tokens, packs.flops
        )  # fmt: skip

    def seconds_of(self, pack: MeasuredPack) -> float:
        """GPU-seconds that a pack would have taken by this."""
        return self._seconds(1, pack.steps, pack.tokens, training_flops(pack.params, pack.tokens))

    def _seconds(self, starts: float, steps: float, tokens: float, flops: float) -> float:
        return (
            starts * self.start_seconds
            + steps * self.step_seconds
            + tokens * self.token_seconds
            + flops / self.flops_per_second
        )

    def times(self, factor: float) -> Pace:
        """Everything takes so many times as long."""
        return replace(
            self,
            flops_per_second=self.flops_per_second / factor,
            start_seconds=self.start_seconds * factor,
            step_seconds=self.step_seconds * factor,
            token_seconds=self.token_seconds * factor,
        )


def measured_pace(packs: Sequence[MeasuredPack]) -> Pace | None:
    """By least squares of relative errors, nothing below zero; None where too few packs tell."""
    from scipy.optimize import lsq_linear

    told = [pack for pack in packs if pack.gpu_seconds > 0 and pack.tokens > 0]
    if len(told) < LEAST_PACKS:
        return None
    took = np.array([pack.gpu_seconds for pack in told])
    parts = np.array([[1.0, pack.steps, pack.tokens, training_flops(pack.params, pack.tokens)] for pack in told])
    scale = np.array([START_SECONDS, 2e-3, _TOKEN, took.sum() / parts[:, 3].sum()])
    believed = [(each / unit, firmly**0.5) for (each, firmly), unit in zip(_BEFORE, scale, strict=True)]
    rows = np.vstack([parts * scale / took[:, None], np.diag([firmly for _, firmly in believed])])
    right = np.concatenate([np.ones(len(told)), [each * firmly for each, firmly in believed]])
    least = np.array([0.0, 0.0, 0.0, 1 / FASTEST]) / scale
    start, step, token, flop = (lsq_linear(rows, right, bounds=(least, np.inf)).x * scale).tolist()
    return Pace(
        flops_per_second=1 / flop,
        start_seconds=start,
        step_seconds=step,
        token_seconds=token,
        packs=len(told),
        at_a_time=max(1.0, sum(pack.seconds for pack in told) / took.sum()),
        alone=all(pack.runs == 1 for pack in told),
    )
