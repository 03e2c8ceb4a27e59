"""Optimizer steps of K models at once: every setting is a column of K values. Equal, run for run, to torch.optim."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from lawfit.proxy.pack import Model, Pack
from lawfit.train.model import layout

Debias = tuple[Tensor, Tensor]  # what the first and the second moment are divided by, (K, 1) fp32; see `debias`
Moments = tuple[Tensor, Tensor, Tensor]  # direction to walk against, new first, new second moments; each (K, P)


@dataclass(frozen=True)
class Columns:
    """Settings of the K runs as (K, 1) fp32 tensors."""

    peak_lr: Tensor
    weight_decay: Tensor
    beta1: Tensor
    beta2: Tensor
    eps: Tensor
    momentum: Tensor
    clip: Tensor  # infinite where a run does not clip

    @classmethod
    def of(cls, pack: Pack, device: torch.device) -> Columns:
        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)[:, None]

        runs = pack.runs
        return cls(
            peak_lr=column([run.lr for run in runs]),
            weight_decay=column([run.weight_decay for run in runs]),
            beta1=column([run.beta1 for run in runs]),
            beta2=column([pack.beta2(i) for i in range(len(runs))]),
            eps=column([run.eps for run in runs]),
            momentum=column([run.momentum for run in runs]),
            clip=column([run.clip or float("inf") for run in runs]),
        )


def gradient_norm(grads: Tensor) -> Tensor:
    """(K, P) -> (K, 1) Euclidean norms."""
    norms: Tensor = torch.linalg.vector_norm(grads, dim=1, keepdim=True)
    return norms


def debias(step: Tensor, c: Columns) -> Debias:
    """Adam's corrections for moments that began at 0, after `step` steps.

    Apart from `advance`: a compiler would put these powers into its loop over all parameters, where they took more
    than half of its time. In float64, since 1 - 0.999 loses four digits in float32.
    """
    return (1 - c.beta1.double() ** step).float(), (1 - c.beta2.double() ** step).float()


def adamw(grads: Tensor, first: Tensor, second: Tensor, corrections: Debias, c: Columns, _: Model) -> Moments:
    """Adam's direction; weight decay is added by `advance`."""
    new_first = torch.lerp(grads, first, c.beta1)
    new_second = torch.lerp(grads.square(), second, c.beta2)
    correction1, correction2 = corrections
    return (new_first / correction1) / (new_second.sqrt() / correction2.sqrt() + c.eps), new_first, new_second


def sgd(grads: Tensor, first: Tensor, second: Tensor, _corrections: Debias, c: Columns, _: Model) -> Moments:
    """SGD with momentum (not Nesterov's), as torch.optim.SGD."""
    new_first = c.momentum * first + grads
    return new_first, new_first, second


def muon(grads: Tensor, first: Tensor, second: Tensor, corrections: Debias, c: Columns, model: Model) -> Moments:
    """Muon for the matrices of the layers, AdamW for embedding, head and gains.

    Nesterov momentum, five Newton-Schulz steps, and Moonlight's scale 0.2 sqrt(max(rows, columns)) (arXiv 2502.16982),
    which gives Muon's updates the size of AdamW's: both parts share one learning rate. As torch.optim.Muon with
    adjust_lr_fn="match_rms_adamw". Queries, keys, values, gate and up are matrices of their own.
    """
    direction, new_first, new_second = adamw(grads, first, second, corrections, c, model)
    matrices = [slot for slot in layout(model) if slot.kind == "matrices"]
    start, stop = matrices[0].start, matrices[-1].start + matrices[-1].size
    inside = grads[:, start:stop]
    momentum = torch.lerp(inside, first[:, start:stop], c.momentum)
    look_ahead = torch.lerp(inside, momentum, c.momentum)
    # one batch of matrices per kind, over all runs and layers
    kinds = matrices[: len(matrices) // model.layers]
    layers = look_ahead.view(len(grads), model.layers, -1)
    pieces = []
    for slot, piece in zip(kinds, torch.split(layers, [slot.size for slot in kinds], dim=2), strict=True):
        rows, columns = slot.shape[0], slot.shape[1] // slot.side_by_side
        stack = piece.reshape(-1, rows, slot.side_by_side, columns).transpose(1, 2)
        turned = orthogonalised(stack) * (0.2 * math.sqrt(max(rows, columns)))
        pieces.append(turned.transpose(1, 2).reshape(piece.shape))
    turned_rows = torch.cat(pieces, dim=2).view(inside.shape)

    def with_matrices(whole: Tensor, part: Tensor) -> Tensor:
        return torch.cat([whole[:, :start], part, whole[:, stop:]], dim=1)

    return with_matrices(direction, turned_rows), with_matrices(new_first, momentum), new_second


def orthogonalised(matrices: Tensor) -> Tensor:
    """(..., m, n) -> nearly the closest (semi-)orthogonal matrices: singular values between about 0.7 and 1.2.

    Newton-Schulz in bf16 with the coefficients of Keller Jordan's Muon.
    """
    x = matrices.bfloat16().flatten(0, -3)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / x.square().sum((-2, -1), keepdim=True).sqrt().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return (x.mT if tall else x).reshape(matrices.shape).to(matrices.dtype)


RULES: Mapping[str, Callable[[Tensor, Tensor, Tensor, Debias, Columns, Model], Moments]] = MappingProxyType(
    {"adamw": adamw, "muon": muon, "sgd": sgd}
)


def has_kernel(optimizer: str, device: torch.device) -> bool:
    """Whether a step is one kernel of our own, with nothing left for a compiler."""
    return optimizer == "adamw" and device.type == "cuda"


def advance(
    rows: Tensor,
    grads: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    optimizer: str,
    lr: Tensor,
    corrections: Debias,
    norm: Tensor,
    alive: Tensor,
    columns: Columns,
    decayed: Tensor,
    rates: Tensor,
    independent: bool,
    model: Model,
) -> None:
    """One clipped step of an optimizer, in place, for the runs that are alive.

    Parameters
    ----------
    rows, grads, first, second : (K, P) fp32
        Parameters, gradients, first moments (or momentum) and second moments.
    lr : (K, 1)
        Learning rate of this step, the schedule included.
    corrections : two (K, 1)
        Of Adam's moments at this step, see `debias`.
    norm : (K, 1)
        Gradient norm of each run, see `gradient_norm`.
    alive : (K, 1) bool
        A run that is not alive keeps its row and moments bit for bit, whatever its gradients hold.
    decayed : (P,) 1 where weight decay applies
    rates : (P,) multipliers of the learning rate, and of coupled weight decay with it
    independent : bool
        Weight decay by (lr / peak lr) wd, independent of the peak (Loshchilov and Hutter 2019, arXiv 1711.05101,
        algorithm 2), rather than by lr wd as torch's AdamW does. In both cases it shrinks the weights directly and
        never enters the gradient, for SGD too (their SGDW).
    """
    factor = torch.clamp(columns.clip / (norm + 1e-6), max=1.0)  # as torch.nn.utils.clip_grad_norm_
    if has_kernel(optimizer, rows.device):
        from lawfit.train import kernels  # Triton, which comes with torch's builds for a GPU

        none, coupled = torch.zeros_like(lr), lr * columns.weight_decay
        of_peak = coupled / columns.peak_lr
        decays = (none, of_peak) if independent else (coupled, none)
        of_adam = (columns.beta1, columns.beta2, columns.eps, factor, *corrections, alive.float())
        kernels.adamw_(rows, grads, first, second, torch.cat([lr, *decays, *of_adam], dim=1), decayed, rates)
        return
    grads = grads * factor
    direction, new_first, new_second = RULES[optimizer](grads, first, second, corrections, columns, model)
    shrink = (lr / columns.peak_lr if independent else lr * rates) * columns.weight_decay
    new_rows = rows * (1 - shrink * decayed) - lr * rates * direction
    rows.copy_(torch.where(alive, new_rows, rows))
    first.copy_(torch.where(alive, new_first, first))
    second.copy_(torch.where(alive, new_second, second))
