"""Optimizer steps of K models at once: every setting is a column of K values. Equal, run for run, to torch.optim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lawfit.train.pack import RunSettings


@dataclass(frozen=True)
class Columns:
    """Settings of the K runs as (K, 1) fp32 tensors."""

    peak_lr: Tensor
    weight_decay: Tensor
    beta1: Tensor
    beta2: Tensor
    eps: Tensor
    clip: Tensor  # infinite where a run does not clip

    @classmethod
    def of(cls, runs: Sequence[RunSettings], device: torch.device) -> Columns:
        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)[:, None]

        return cls(
            peak_lr=column([run.lr for run in runs]),
            weight_decay=column([run.weight_decay for run in runs]),
            beta1=column([run.beta1 for run in runs]),
            beta2=column([run.beta2 for run in runs]),
            eps=column([run.eps for run in runs]),
            clip=column([run.clip or float("inf") for run in runs]),
        )


def gradient_norm(grads: Tensor) -> Tensor:
    """(K, P) -> (K, 1) Euclidean norms."""
    return grads.square().sum(dim=1, keepdim=True).sqrt()


def adamw(
    rows: Tensor,
    grads: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    lr: Tensor,
    step: Tensor,
    norm: Tensor,
    alive: Tensor,
    columns: Columns,
    decayed: Tensor,
    independent: bool,
) -> None:
    """One clipped AdamW step, in place, for the runs that are alive.

    Parameters
    ----------
    rows, grads, first, second : (K, P) fp32
        Parameters, gradients, first and second moments.
    lr : (K, 1)
        Learning rate of this step, the schedule included.
    step : () integer
        Number of this step, from 1.
    norm : (K, 1)
        Gradient norm of each run, see `gradient_norm`.
    alive : (K, 1) bool
        A run that is not alive keeps its row and moments bit for bit, whatever its gradients hold.
    decayed : (P,) 1 where weight decay applies
    independent : bool
        Weight decay by (lr / peak lr) wd, independent of the peak (Loshchilov and Hutter 2019, arXiv 1711.05101,
        algorithm 2), rather than by lr wd as torch does.
    """
    c = columns
    grads = grads * torch.clamp(c.clip / (norm + 1e-6), max=1.0)  # as torch.nn.utils.clip_grad_norm_
    new_first = torch.lerp(grads, first, c.beta1)
    new_second = torch.lerp(grads.square(), second, c.beta2)
    # in float64: 1 - 0.999 loses four digits in float32
    correction1 = (1 - c.beta1.double() ** step).float()
    correction2 = (1 - c.beta2.double() ** step).float()
    shrink = (lr / c.peak_lr if independent else lr) * c.weight_decay
    update = (new_first / correction1) / (new_second.sqrt() / correction2.sqrt() + c.eps)
    new_rows = rows * (1 - shrink * decayed) - lr * update
    rows.copy_(torch.where(alive, new_rows, rows))
    first.copy_(torch.where(alive, new_first, first))
    second.copy_(torch.where(alive, new_second, second))
