"""muP and CompleteP: whether the rules do to a real model what they promise, and agree with the trainer's own."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch", reason="needs lawfit[train]")

import torch
from torch import Tensor

from lawfit.laws.parametrization import Growth, Kind, Rules
from lawfit.proxy.pack import Model
from lawfit.train.model import layout, rate_columns


def test_agrees_with_the_trainer() -> None:
    """Our trainer's muP, written on its own: learning rates and initial values, kind by kind."""
    kinds = {"embedding": Kind.EMBEDDING, "matrices": Kind.HIDDEN, "norms": Kind.VECTOR, "head": Kind.OUTPUT}
    base = Model(vocab=50, seq_len=8, width=64, heads=2, layers=2, hidden=128, mup_base_width=64)
    wide = Model(vocab=50, seq_len=8, width=256, heads=8, layers=2, hidden=512, mup_base_width=64)
    growth = Growth(rules=Rules.MUP, base_width=64, width=256)
    rates = rate_columns(wide)
    for narrow_slot, slot in zip(layout(base), layout(wide), strict=True):
        expected = growth.of(kinds[slot.kind])
        assert slot.std == pytest.approx(narrow_slot.std * expected.init_std, rel=1e-12)
        assert float(rates[slot.start]) == pytest.approx(expected.lr, rel=1e-6)  # float32


class Residual:
    """A residual network of blocks ``x + gelu(x V) W / m_L`` between a table and a head, grown from 32 wide, 2 deep."""

    def __init__(self, width: int, depth: int, rules: Rules | None) -> None:
        self.growth = Growth(rules=rules or Rules.COMPLETEP, base_width=32, width=width, base_depth=2, depth=depth)
        self.rules, self.width, self.depth = rules, width, depth
        draw = torch.Generator().manual_seed(width + depth)

        def made(kind: Kind, *shape: int) -> Tensor:
            base_std = 32**-0.5 if kind is Kind.HIDDEN else 1.0
            # the standard parametrization: 1 / sqrt(fan in) for everything but the table
            std = base_std * self.growth.of(kind).init_std if rules else (1.0 if shape[0] == 50 else shape[0] ** -0.5)
            return (std * torch.randn(*shape, generator=draw)).requires_grad_()

        self.table = made(Kind.EMBEDDING, 50, width)
        self.up = [made(Kind.HIDDEN, width, width) for _ in range(depth)]
        self.down = [made(Kind.HIDDEN, width, width) for _ in range(depth)]
        self.head = made(Kind.OUTPUT, width, 50)

    def stream(self, tokens: Tensor) -> Tensor:
        x = self.table[tokens]
        for up, down in zip(self.up, self.down, strict=True):
            update = torch.nn.functional.gelu(_normed(x) @ up) @ down
            x = x + update * (self.growth.residual_multiplier if self.rules else 1.0)
        return x

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        base = 32**-0.5  # the constant that was tuned at the base width
        scale = base * self.growth.output_multiplier if self.rules else 1.0
        return torch.nn.functional.cross_entropy(_normed(self.stream(tokens)) @ self.head * scale, targets)

    def kinds(self) -> list[tuple[Kind, Tensor]]:
        return [
            (Kind.EMBEDDING, self.table),
            *((Kind.HIDDEN, w) for w in (*self.up, *self.down)),
            (Kind.OUTPUT, self.head),
        ]


def _normed(x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-12).sqrt()


def _batch() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(50, (256,), generator=draw), torch.randint(50, (256,), generator=draw)


def _moved(width: int, depth: int, rules: Rules | None, steps: int = 4) -> float:
    """How far Adam has moved the stream after a few steps: root mean square per coordinate."""
    net = Residual(width, depth, rules)
    tokens, targets = _batch()
    groups = [
        {"params": [w], "lr": 0.01 * (net.growth.of(kind).lr if rules else 1.0), "eps": 1e-12}
        for kind, w in net.kinds()
    ]
    optimizer = torch.optim.Adam(groups)
    before = net.stream(tokens).detach()
    for _ in range(steps):
        optimizer.zero_grad()
        net.loss(tokens, targets).backward()
        optimizer.step()
    return float((net.stream(tokens).detach() - before).square().mean().sqrt())


def test_a_step_moves_wide_models_as_far_as_narrow_ones() -> None:
    """The coordinate check of muP: with the rules the movement settles, without them it grows with the width."""
    with_rules = [_moved(width, 2, Rules.MUP) for width in (64, 128, 512)]
    without = [_moved(width, 2, None) for width in (64, 128, 512)]
    assert max(with_rules) / min(with_rules) < 1.35, with_rules
    assert without[-1] / without[0] > 3, without


def test_a_step_moves_deep_models_as_far_as_shallow_ones() -> None:
    with_rules = [_moved(64, depth, Rules.COMPLETEP) for depth in (4, 16, 64)]
    without = [_moved(64, depth, None) for depth in (4, 16, 64)]
    assert max(with_rules) / min(with_rules) < 1.35, with_rules
    assert without[-1] / without[0] > 3, without


@pytest.mark.parametrize("kind", [Kind.EMBEDDING, Kind.HIDDEN, Kind.OUTPUT])
def test_eps_shrinks_as_the_gradients_do(kind: Kind) -> None:
    """CompleteP's eps: from memory, so held against gradients at the start of a narrow and of a wide, deep model."""

    def gradient(net: Residual) -> float:
        net.loss(*_batch()).backward()
        squares = [float(w.grad.square().mean()) for k, w in net.kinds() if k is kind and w.grad is not None]
        return math.sqrt(sum(squares) / len(squares))

    small, large = Residual(128, 4, Rules.COMPLETEP), Residual(1024, 16, Rules.COMPLETEP)
    expected = large.growth.of(kind).eps / small.growth.of(kind).eps
    assert gradient(large) / gradient(small) == pytest.approx(expected, rel=0.15)  # finite width
