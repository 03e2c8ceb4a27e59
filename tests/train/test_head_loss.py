"""The sliced cross-entropy against torch's on the whole logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lawfit.train import head_loss as module
from lawfit.train.head_loss import head_loss

K, TOKENS, WIDTH, VOCAB = 3, 10, 8, 50


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(K, TOKENS, WIDTH, generator=generator).requires_grad_()
    heads = torch.randn(K, WIDTH, VOCAB, generator=generator).requires_grad_()
    return x, heads, torch.randint(VOCAB, (K, TOKENS), generator=generator)


@pytest.mark.parametrize("tokens_at_a_time", [TOKENS, 4, 1])
def test_losses_and_gradients_are_torchs(tokens_at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE_LOGITS", K * VOCAB * tokens_at_a_time)
    x, heads, targets = inputs()
    expected = functional.cross_entropy(torch.bmm(x, heads).flatten(0, 1), targets.flatten(), reduction="none")
    mean, losses = head_loss(x, heads, targets)
    torch.testing.assert_close(losses, expected.view(K, TOKENS))
    torch.testing.assert_close(mean, expected.view(K, TOKENS).mean(1))
    weights = torch.tensor([1.0, 0.0, -2.5])  # runs weigh in the sum as the caller wants
    wanted = torch.autograd.grad((expected.view(K, TOKENS).mean(1) * weights).sum(), (x, heads))
    found = torch.autograd.grad((mean * weights).sum(), (x, heads))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_without_gradients_the_losses_are_the_same() -> None:
    x, heads, targets = inputs()
    with_them = head_loss(x, heads, targets)
    with torch.no_grad():
        without = head_loss(x.detach(), heads, targets)
    for one, other in zip(without, with_them, strict=True):
        assert torch.equal(one, other)


def test_torch_accepts_the_operator() -> None:
    """Schema, shapes without data, autograd registration, and tracing by torch.compile."""
    x, heads, targets = inputs()
    torch.library.opcheck(torch.ops.lawfit.head_loss.default, (x, heads, targets, True))


def test_a_run_that_overflows_does_not_touch_the_others() -> None:
    x, heads, targets = inputs()
    clean, _ = head_loss(x, heads, targets)
    with torch.no_grad():
        heads[1] = torch.inf
    mean, _ = head_loss(x, heads, targets)
    gradient, _ = torch.autograd.grad(mean.sum(), (x, heads))
    assert torch.isnan(mean[1])
    assert torch.equal(mean[[0, 2]], clean[[0, 2]])
    assert torch.isfinite(gradient[[0, 2]]).all()
