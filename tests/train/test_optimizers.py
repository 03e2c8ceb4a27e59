"""Each optimizer against torch.optim, run for run."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lawfit.proxy.pack import Model, Pack, RunSettings
from lawfit.train.model import Slot, layout
from lawfit.train.optimizers import Columns, advance, debias, gradient_norm, orthogonalised

RUNS = (
    RunSettings(lr=1e-2, steps=10, weight_decay=0.0, clip=0.0, momentum=0.9),
    RunSettings(lr=3e-3, steps=10, weight_decay=2.0, beta1=0.5, beta2=0.999, eps=1e-3, clip=0.7),
    RunSettings(lr=0.5, steps=10, weight_decay=0.3, beta1=0.0, clip=5.0, momentum=0.0),
)
MODEL = Model(layers=2, width=8, heads=2, hidden=12, vocab=11, seq_len=4)
SIZE = sum(MODEL.params.values())
PACK = Pack(name="p", model=MODEL, batch_sequences=4, runs=RUNS)
CPU = torch.device("cpu")
FACTOR = 0.5  # of the peak rate, in every step


def walk(optimizer: str, *, independent: bool = False, decayed: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Rows before and after ten steps, and the gradients of the steps."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, SIZE, generator=generator)
    grads = torch.randn(10, 3, SIZE, generator=generator) / math.sqrt(SIZE)
    rows, first, second = start.clone(), torch.zeros(3, SIZE), torch.zeros(3, SIZE)
    columns = Columns.of(PACK, CPU)
    for i, grad in enumerate(grads):
        advance(
            rows, grad, first, second, optimizer=optimizer, lr=columns.peak_lr * FACTOR,
            corrections=debias(torch.tensor(i + 1), columns),
            norm=gradient_norm(grad), alive=torch.ones(3, 1, dtype=torch.bool), columns=columns,
            decayed=torch.ones(SIZE) if decayed is None else decayed, rates=torch.ones(SIZE), independent=independent,
            model=MODEL,
        )  # fmt: skip
    return start, rows, grads


def clipped(run: RunSettings, grads: Tensor) -> Tensor:
    """(10, P) gradients after torch's own clipping."""
    out = []
    for grad in grads:
        parameter = torch.nn.Parameter(torch.zeros_like(grad))
        parameter.grad = grad.clone()
        if run.clip:
            torch.nn.utils.clip_grad_norm_([parameter], run.clip)
        out.append(parameter.grad)
    return torch.stack(out)


def follow(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, grads: Tensor) -> Tensor:
    for grad in grads:
        parameter.grad = grad.clone()
        optimizer.step()
    return parameter.detach()


def torch_adamw(run: RunSettings, start: Tensor, grads: Tensor, decay: float) -> Tensor:
    parameter = torch.nn.Parameter(start.clone())
    settings = {"lr": run.lr * FACTOR, "betas": (run.beta1, run.beta2), "eps": run.eps, "weight_decay": decay}
    return follow(torch.optim.AdamW([parameter], **settings), parameter, clipped(run, grads))


@pytest.mark.parametrize("i", range(3))
def test_adamw_is_torchs(i: int) -> None:
    start, rows, grads = walk("adamw")
    expected = torch_adamw(RUNS[i], start[i], grads[:, i], RUNS[i].weight_decay)
    torch.testing.assert_close(rows[i], expected, rtol=1e-5, atol=1e-6)  # ten steps of fp32 rounding


@pytest.mark.parametrize("i", range(3))
def test_independent_decay_does_not_know_the_peak(i: int) -> None:
    start, rows, grads = walk("adamw", independent=True)
    # torch shrinks by lr * wd; wanted is FACTOR * wd
    expected = torch_adamw(RUNS[i], start[i], grads[:, i], RUNS[i].weight_decay / RUNS[i].lr)
    torch.testing.assert_close(rows[i], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("i", range(3))
def test_sgd_is_torchs_with_decoupled_decay(i: int) -> None:
    run = RUNS[i]
    start, rows, grads = walk("sgd")
    parameter = torch.nn.Parameter(start[i].clone())
    optimizer = torch.optim.SGD([parameter], lr=run.lr * FACTOR, momentum=run.momentum)
    for grad in clipped(run, grads[:, i]):
        parameter.data.mul_(1 - run.lr * FACTOR * run.weight_decay)
        follow(optimizer, parameter, grad[None])
    torch.testing.assert_close(rows[i], parameter.detach(), rtol=1e-5, atol=1e-6)


def matrices(slot: Slot, row: Tensor) -> tuple[Tensor, ...]:
    """The matrices of one slot; `row` is (..., P)."""
    part = row[..., slot.start : slot.start + slot.size]
    return part.view(*part.shape[:-1], *slot.shape).chunk(slot.side_by_side, dim=-1)


@pytest.mark.parametrize("i", range(3))
def test_muon_is_torchs_on_matrices_and_adamw_elsewhere(i: int) -> None:
    run = RUNS[i]
    start, rows, grads = walk("muon")
    grads = clipped(run, grads[:, i])
    adamw = torch_adamw(run, start[i], grads, run.weight_decay)
    compared = 0
    for slot in layout(MODEL):
        here = slice(slot.start, slot.start + slot.size)
        if slot.kind != "matrices":
            torch.testing.assert_close(rows[i, here], adamw[here], rtol=1e-5, atol=1e-6)
            continue
        for before, after, grad in zip(*(matrices(slot, x) for x in (start[i], rows[i], grads)), strict=True):
            parameter = torch.nn.Parameter(before.T.clone())  # as nn.Linear keeps it
            settings = {"lr": run.lr * FACTOR, "momentum": run.momentum, "weight_decay": run.weight_decay}
            optimizer = torch.optim.Muon([parameter], adjust_lr_fn="match_rms_adamw", **settings)
            expected = follow(optimizer, parameter, grad.mT).T
            # bf16 (8 bits) through 5 steps that amplify small singular values
            assert torch.linalg.matrix_norm(after - expected) < 0.02 * torch.linalg.matrix_norm(after - before)
            compared += 1
    assert compared == 2 * 7


def test_orthogonalised() -> None:
    torch.manual_seed(1)
    for shape in ((3, 2, 8, 20), (5, 20, 8), (4, 16, 16)):
        matrix = torch.randn(shape)
        values = torch.linalg.svdvals(orthogonalised(matrix))
        assert values.max() < 1.3  # the quintic's fixed band is 0.7 to 1.2, bf16 adds a little
        assert values[..., :-1].min() > 0.5  # the smallest of a square matrix may not have arrived
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        alignment = (orthogonalised(matrix) * (left @ right)).sum((-1, -2)) / min(shape[-2:])
        assert alignment.min() > 0.7


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_gains_are_not_decayed(optimizer: str) -> None:
    decayed = torch.ones(SIZE)
    decayed[5] = 0.0
    _, plain, _ = walk(optimizer, decayed=torch.zeros(SIZE))
    _, rows, _ = walk(optimizer, decayed=decayed)
    assert torch.equal(rows[:, 5], plain[:, 5])
    assert (rows[1, :5] != plain[1, :5]).all()
    assert torch.equal(rows[0], plain[0])  # its weight decay is 0


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_a_dead_run_stays_as_it_is(optimizer: str) -> None:
    torch.manual_seed(2)
    rows, first, second = torch.randn(3, SIZE), torch.randn(3, SIZE), torch.rand(3, SIZE)
    before = [x.clone() for x in (rows, first, second)]
    grads = torch.randn(3, SIZE)
    grads[1] = torch.nan
    alive = torch.tensor([[True], [False], [True]])
    columns = Columns.of(PACK, CPU)
    advance(
        rows, grads, first, second, optimizer=optimizer, lr=columns.peak_lr,
        corrections=debias(torch.tensor(3), columns),
        norm=gradient_norm(grads), alive=alive, columns=columns, decayed=torch.ones(SIZE), rates=torch.ones(SIZE),
        independent=False, model=MODEL,
    )  # fmt: skip
    for old, new in zip(before, (rows, first, second), strict=True):
        assert torch.equal(old[1], new[1])
        assert torch.isfinite(new).all()
    assert not torch.equal(before[0][0], rows[0])


def test_half_life_of_the_second_moment() -> None:
    """Twice the batch squares beta2: the memory is as long in tokens."""
    run = RunSettings(lr=1.0, steps=1, beta2=0.5, beta2_half_life_tokens=64.0)
    for sequences, expected in ((4, 0.5**0.25), (8, 0.5**0.5), (16, 0.5)):
        pack = Pack(name="p", model=MODEL, batch_sequences=sequences, runs=(run, RunSettings(lr=1.0, steps=1)))
        torch.testing.assert_close(Columns.of(pack, CPU).beta2[:, 0], torch.tensor([expected, 0.95]))
