"""K decoder-only transformers of one shape, stacked: every parameter has a leading dimension K.

All parameters of a run are one row of a (K, P) matrix, so that an optimizer, an average or a checkpoint handles a
row and never looks at a layer. RMSNorm before each branch, RoPE, SwiGLU, untied head, no biases.

In maximal update parametrization (Yang et al., arXiv 2203.03466; the table of laws.md, section 21) a model of
`width_ratio` times the base width draws its layers' matrices with variance / ratio, trains them with Adam at rate /
ratio and divides its logits by the ratio; embedding, head and gains stay as they are. Keep the size of a head fixed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from lawfit.proxy.pack import Model
from lawfit.train.fused import add_norm, attends, attention, embed, swiglu
from lawfit.train.head_loss import head_loss


@dataclass(frozen=True)
class Slot:
    """Where one parameter lies in a row."""

    name: str
    shape: tuple[int, ...]  # without K; matrices are (in, out): y = x @ w
    start: int
    kind: str  # "embedding", "head", "matrices" or "norms"
    std: float  # of the initial values; 0 means ones (norm gains)
    side_by_side: int  # matrices that share the slot, cut along the last dimension

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def layout(model: Model) -> tuple[Slot, ...]:
    """Slots in row order: embedding and gains (always fp32), then the matrices layer by layer, then the head."""
    d, f = model.width, model.hidden
    std = model.init_std / math.sqrt(model.width_ratio)
    out_std = std / math.sqrt(2 * model.layers)
    wanted: list[tuple[str, tuple[int, ...], str, float]] = [
        ("embedding", (model.vocab, d), "embedding", model.embedding_std)
    ]
    for layer in range(model.layers):
        wanted += [(f"{layer}.attention_norm", (d,), "norms", 0.0), (f"{layer}.mlp_norm", (d,), "norms", 0.0)]
        if model.qk_norm:
            wanted += [(f"{layer}.{name}_norm", (d // model.heads,), "norms", 0.0) for name in ("q", "k")]
    wanted += [("final_norm", (d,), "norms", 0.0)]
    for layer in range(model.layers):
        wanted += [
            (f"{layer}.qkv", (d, 3 * d), "matrices", std),
            (f"{layer}.attention_out", (d, d), "matrices", out_std),
            (f"{layer}.gate_up", (d, 2 * f), "matrices", std),
            (f"{layer}.mlp_out", (f, d), "matrices", out_std),
        ]
    wanted += [("head", (d, model.vocab), "head", model.init_std)]
    slots, start = [], 0
    for name, shape, kind, spread in wanted:
        side_by_side = 3 if name.endswith(".qkv") else 2 if name.endswith(".gate_up") else 1
        slots.append(Slot(name, shape, start, kind, spread, side_by_side))
        start += slots[-1].size
    return tuple(slots)


def initial_rows(model: Model, seeds: Sequence[int]) -> Tensor:
    """(K, P) fp32 starting values on the CPU; a row depends on its own seed only."""
    slots = layout(model)
    rows = torch.empty(len(seeds), slots[-1].start + slots[-1].size)

    def draw(row: Tensor, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for slot in slots:
            part = row[slot.start : slot.start + slot.size]
            part.fill_(1.0) if slot.std == 0 else part.normal_(0.0, slot.std, generator=generator)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(draw, rows, seeds))
    return rows


def decayed_columns(model: Model) -> Tensor:
    """(P,) ones where weight decay applies: everything but the norm gains."""
    return torch.cat([torch.full((slot.size,), float(slot.kind != "norms")) for slot in layout(model)])


def rate_columns(model: Model) -> Tensor:
    """(P,) multipliers of the learning rate: 1, but 1 / (width / base width) for the matrices of the layers in muP."""
    matrices = 1.0 / model.width_ratio
    return torch.cat([torch.full((slot.size,), matrices if slot.kind == "matrices" else 1.0) for slot in layout(model)])


def rope_table(model: Model) -> Tensor:
    """(2, T, head size / 2) cosines and sines, fp32."""
    half = model.width // model.heads // 2
    rate = model.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(model.seq_len, dtype=torch.float64)[:, None] * rate
    return torch.stack([angle.cos(), angle.sin()]).float()


def block(
    x: Tensor,
    y: Tensor,
    matrices: Sequence[Tensor],
    mlp_gain: Tensor,
    qk_gains: Tensor,
    next_gain: Tensor,
    rope: Tensor,
    m: Model,
) -> tuple[Tensor, Tensor]:
    """One layer of all K models, and the norm before the next one.

    Parameters
    ----------
    x : (K, b T, d) fp32, the residual streams
    y : (K, b T, d) their norms, in the precision of matrix products
    matrices : (K, in, out) each, in that precision: qkv, attention_out, gate_up, mlp_out
    mlp_gain, next_gain : (K, d) fp32
    qk_gains : (K, 2 size) fp32, q_norm and k_norm; (K, 0) where the model has none

    Returns
    -------
    x and y for the next layer
    """
    qkv, attention_out, gate_up, mlp_out = matrices
    mixed = attention(torch.bmm(y, qkv), qk_gains, rope, m.heads)
    x, y = add_norm(x, torch.bmm(mixed, attention_out), mlp_gain)
    hidden = swiglu(torch.bmm(y, gate_up))
    return add_norm(x, torch.bmm(hidden, mlp_out), next_gain)


class Stack:
    """The forward pass of K models."""

    def __init__(self, model: Model, *, dtype: torch.dtype, device: torch.device) -> None:
        self.model, self.dtype = model, dtype
        self.rope = rope_table(model).to(device)
        # all of a pass is kernels of our own and matrix products: there is nothing left for a compiler to fuse
        self.has_kernels = attends(device, dtype, model.width // model.heads, model.seq_len)
        # pieces of a row that a pass reads as one: slots, but the norms of queries and keys together
        self.pieces = [
            (slot.start, (2 * slot.size,) if slot.name.endswith(".q_norm") else slot.shape)
            for slot in layout(model)
            if not slot.name.endswith(".k_norm")
        ]

    def weights(self, rows: Tensor) -> list[Tensor]:
        """Pieces of (K, P) fp32 rows, (K, ...) each: leaves whose gradients `gather` puts together.

        Embedding and gains are the rows' own memory; matrices and head a copy in the precision of matrix products.
        """
        rows, matrices = rows.detach(), next(slot.start for slot in layout(self.model) if slot.kind == "matrices")
        leaves = []
        for start, shape in self.pieces:
            leaf = rows[:, start : start + math.prod(shape)].view(-1, *shape)
            # a copy of each, not of all: products with matrices that lie far apart took up to a quarter longer
            leaf = leaf if start < matrices else leaf.to(self.dtype)
            leaves.append(leaf.requires_grad_(torch.is_grad_enabled()))
        return leaves

    def gather(self, gradients: Sequence[Tensor], rows: Tensor, *, add: bool) -> None:
        """Write the gradients by all `weights` into (K, P) fp32 `rows`, or add them."""
        for (start, shape), gradient in zip(self.pieces, gradients, strict=True):
            target = rows[:, start : start + math.prod(shape)].view(-1, *shape)
            target.add_(gradient) if add else target.copy_(gradient)

    def compile_kernels(self, rows: Tensor) -> None:
        """Have Triton compile what a pass and a step of AdamW take, all at once rather than one after the other.

        Made-up tokens through each kernel; rows : (1, P), so that addresses are as well aligned as in a pass.
        """
        from lawfit.train import kernels

        kernels.get_ready()
        m, n, device, op = self.model, self.model.seq_len, rows.device, torch.ops.lawfit
        with torch.no_grad():
            table, gain, _, qk_gains, *_, head = self.weights(rows)
        if not m.qk_norm:
            qk_gains = gain[:, :0]
        stream = torch.zeros(1, n, m.width, device=device)
        tokens = torch.zeros(1, n, dtype=torch.int64, device=device)
        y, hidden = stream.to(self.dtype), stream.new_zeros(1, n, m.hidden, dtype=self.dtype)
        qkv, gate_up, turned = torch.cat([y] * 3, 2), torch.cat([hidden] * 2, 2), torch.cat([y] * 2, 2)
        sums, settings, row = stream.new_zeros(n * m.heads), rows.new_ones(1, 10), torch.zeros_like(rows)
        calls = [
            lambda: op.attention(qkv, qk_gains, self.rope, m.heads),
            lambda: op.attention_gradient(y, qkv, qk_gains, self.rope, y, turned, sums, m.heads),
            lambda: op.swiglu(gate_up),
            lambda: op.swiglu_gradient(hidden, gate_up),
            lambda: op.add_norm(stream, y, gain),
            lambda: op.add_norm_gradient(None, y, stream, gain),
            lambda: op.embed(table, gain, tokens),
            lambda: op.embed_gradient(stream, y, stream, gain, tokens, m.vocab),
            lambda: op.head_loss(y, head, tokens, True),
            lambda: kernels.adamw_(row, row, row, row, settings, row[0], row[0]),
        ]
        with ThreadPoolExecutor(len(calls), initializer=torch.cuda.synchronize) as threads:
            for done in [threads.submit(call) for call in calls]:
                done.result()
        torch.cuda.synchronize()

    def losses(self, weights: Sequence[Tensor], tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each run, in fp32.

        Parameters
        ----------
        weights : see the method of this name
        tokens : (K, b, T + 1) int64

        Returns
        -------
        (K,) fp32, nats per token
            Mean over all tokens.
        (K, b) fp32, nats per token
            Mean of each sequence, without a gradient: see `head_loss`.
        """
        m, k = self.model, tokens.shape[0]
        of_a_layer = 2 + m.qk_norm
        table, *gains = weights[: 1 + of_a_layer * m.layers]
        final_gain, *matrices, head = weights[1 + of_a_layer * m.layers :]
        attention_gains, mlp_gains = gains[::of_a_layer], gains[1::of_a_layer]
        qk_gains = gains[2::of_a_layer] if m.qk_norm else [final_gain.new_empty(k, 0)] * m.layers
        # muP divides the logits, which is the same
        next_gains = [*attention_gains[1:], final_gain / m.width_ratio]
        x, y = embed(table, attention_gains[0], tokens[:, :, :-1].reshape(k, -1), self.dtype)
        layers = [matrices[i : i + 4] for i in range(0, len(matrices), 4)]
        for layer in zip(layers, mlp_gains, qk_gains, next_gains, strict=True):
            x, y = block(x, y, *layer, self.rope, m)
        mean, losses = head_loss(y, head, tokens[:, :, 1:].reshape(k, -1))
        return mean, losses.view(k, -1, m.seq_len).mean(2)
