"""K decoder-only transformers of one shape, stacked: every parameter has a leading dimension K.

All parameters of a run are one row of a (K, P) matrix, so that an optimizer, an average or a checkpoint handles a
row and never looks at a layer. RMSNorm before each branch, RoPE, SwiGLU, untied head, no biases.

In maximal update parametrization (Yang et al., arXiv 2203.03466; the table of laws.md, section 21) a model of
`width_ratio` times the base width draws its layers' matrices with variance / ratio, trains them with Adam at rate /
ratio and divides its logits by the ratio; embedding, head and gains stay as they are. Keep the size of a head fixed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lawfit.proxy.pack import Model
from lawfit.train.fused import add_norm, attention, rms_norm, swiglu
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
    for row, seed in zip(rows, seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        for slot in slots:
            part = row[slot.start : slot.start + slot.size]
            part.fill_(1.0) if slot.std == 0 else part.normal_(0.0, slot.std, generator=generator)
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
    matrices: Tensor,
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
    matrices : (K, n) in that precision: qkv, attention_out, gate_up, mlp_out
    mlp_gain, next_gain : (K, d) fp32
    qk_gains : (K, 2 size) fp32, q_norm and k_norm; (K, 0) where the model has none

    Returns
    -------
    x and y for the next layer
    """
    k, d, f = len(x), m.width, m.hidden
    qkv_w, out_w, gate_up_w, down_w = torch.split(matrices, [3 * d * d, d * d, 2 * d * f, f * d], dim=1)
    mixed = attention(torch.bmm(y, qkv_w.view(k, d, 3 * d)), qk_gains, rope, m.heads)
    x, y = add_norm(x, torch.bmm(mixed, out_w.view(k, d, d)), mlp_gain)
    hidden = swiglu(torch.bmm(y, gate_up_w.view(k, d, 2 * f)))
    return add_norm(x, torch.bmm(hidden, down_w.view(k, f, d)), next_gain)


def embed(embedding: Tensor, inputs: Tensor) -> Tensor:
    """(K, V, d) tables and (K, b, T) tokens -> (K, b T, d)."""
    k = inputs.shape[0]
    which = torch.arange(k, device=inputs.device)[:, None]
    return embedding[which, inputs.reshape(k, -1)]


class Stack:
    """The forward pass of K models."""

    def __init__(self, model: Model, *, dtype: torch.dtype, device: torch.device) -> None:
        self.model, self.dtype = model, dtype
        self.rope = rope_table(model).to(device)

    def losses(self, rows: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each run, in fp32.

        Parameters
        ----------
        rows : (K, P) fp32
        tokens : (K, b, T + 1) int64

        Returns
        -------
        (K,) fp32, nats per token
            Mean over all tokens.
        (K, b) fp32, nats per token
            Mean of each sequence, without a gradient: see `head_loss`.
        """
        m, k = self.model, rows.shape[0]
        # split, not slicing: its backward is one concatenation instead of one padded copy of the row per slot
        of_a_layer = [m.width, m.width, 2 * (m.width // m.heads) * m.qk_norm]
        matrices_size = 4 * m.width**2 + 3 * m.width * m.hidden
        head_size = m.width * m.vocab
        sizes = [m.vocab * m.width, *of_a_layer * m.layers, m.width, matrices_size * m.layers + head_size]
        table, *gains, final_gain, rest = torch.split(rows, sizes, dim=1)
        *matrices, head = torch.split(rest.to(self.dtype), [*[matrices_size] * m.layers, head_size], dim=1)
        attention_gains, mlp_gains, qk_gains = gains[::3], gains[1::3], gains[2::3]
        # muP divides the logits, which is the same
        next_gains = [*attention_gains[1:], final_gain / m.width_ratio]
        x = embed(table.view(k, m.vocab, m.width), tokens[:, :, :-1])
        y = rms_norm(x, attention_gains[0][:, None]).to(self.dtype)
        for layer in zip(matrices, mlp_gains, qk_gains, next_gains, strict=True):
            x, y = block(x, y, *layer, self.rope, m)
        mean, losses = head_loss(y, head.view(k, m.width, m.vocab), tokens[:, :, 1:].reshape(k, -1))
        return mean, losses.view(k, -1, m.seq_len).mean(2)
