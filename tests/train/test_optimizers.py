from __future__ import annotations

import pytest
import torch

from lawfit.train.optimizers import Columns, adamw, gradient_norm
from lawfit.train.pack import RunSettings

RUNS = (
    RunSettings(lr=1e-2, steps=10, weight_decay=0.0, clip=0.0),
    RunSettings(lr=3e-3, steps=10, weight_decay=2.0, beta1=0.5, beta2=0.999, eps=1e-3, clip=0.7),
    RunSettings(lr=0.5, steps=10, weight_decay=0.3, beta1=0.0, clip=5.0),
)
CPU = torch.device("cpu")


def steps(independent: bool = False, factor: float = 0.5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows before and after, and the gradients of ten steps at `factor` of the peak rates."""
    torch.manual_seed(0)
    start, grads = torch.randn(3, 40), torch.randn(10, 3, 40)
    rows, first, second = start.clone(), torch.zeros(3, 40), torch.zeros(3, 40)
    columns = Columns.of(RUNS, CPU)
    for i, grad in enumerate(grads):
        adamw(
            rows, grad, first, second, lr=columns.peak_lr * factor, step=torch.tensor(i + 1), norm=gradient_norm(grad),
            alive=torch.ones(3, 1, dtype=torch.bool), columns=columns, decayed=torch.ones(40), independent=independent,
        )  # fmt: skip
    return start, rows, grads


def torch_adamw(run: RunSettings, start: torch.Tensor, grads: torch.Tensor, lr: float, decay: float) -> torch.Tensor:
    parameter = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.AdamW([parameter], lr=lr, betas=(run.beta1, run.beta2), eps=run.eps, weight_decay=decay)
    for grad in grads:
        parameter.grad = grad.clone()
        if run.clip:
            torch.nn.utils.clip_grad_norm_([parameter], run.clip)
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("i", range(3))
def test_coupled_adamw_is_torchs(i: int) -> None:
    start, rows, grads = steps()
    expected = torch_adamw(RUNS[i], start[i], grads[:, i], RUNS[i].lr * 0.5, RUNS[i].weight_decay)
    torch.testing.assert_close(rows[i], expected, rtol=1e-5, atol=1e-6)  # ten steps of fp32 rounding


@pytest.mark.parametrize("i", range(3))
def test_independent_decay_does_not_know_the_peak(i: int) -> None:
    start, rows, grads = steps(independent=True)
    lr = RUNS[i].lr * 0.5
    # torch shrinks by lr * wd; wanted is 0.5 * wd
    expected = torch_adamw(RUNS[i], start[i], grads[:, i], lr, 0.5 * RUNS[i].weight_decay / lr)
    torch.testing.assert_close(rows[i], expected, rtol=1e-5, atol=1e-6)


def test_gains_are_not_decayed() -> None:
    columns = Columns.of(RUNS, CPU)
    rows, zeros = torch.ones(3, 2), torch.zeros(3, 2)
    adamw(
        rows, zeros, zeros.clone(), zeros.clone(), lr=columns.peak_lr, step=torch.tensor(1), norm=torch.zeros(3, 1),
        alive=torch.ones(3, 1, dtype=torch.bool), columns=columns, decayed=torch.tensor([1.0, 0.0]), independent=False,
    )  # fmt: skip
    assert (rows[:, 1] == 1).all()
    torch.testing.assert_close(rows[:, 0], torch.tensor([1 - run.lr * run.weight_decay for run in RUNS]))
