"""The same transformer, one at a time, in plain torch.nn and torch.optim: what the stack must equal."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lawfit.proxy.pack import Model, Pack, RunSettings
from lawfit.proxy.schedules import multipliers
from lawfit.train.model import layout


class RMSNorm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return x / torch.sqrt(torch.mean(x * x, dim=-1, keepdim=True) + 1e-6) * self.gain


def rope(x: Tensor, base: float) -> Tensor:
    """Rotary embedding by complex numbers; x is (b, h, T, size)."""
    size, length = x.shape[-1], x.shape[-2]
    rate = 1.0 / base ** (torch.arange(size // 2, dtype=torch.float64) * 2 / size)
    turn = torch.exp(1j * torch.arange(length)[:, None] * rate).to(torch.complex64)
    z = torch.complex(x[..., : size // 2], x[..., size // 2 :]) * turn
    return torch.cat([z.real, z.imag], dim=-1)


class Layer(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        d, f = model.width, model.hidden
        self.model = model
        self.attention_norm, self.mlp_norm = RMSNorm(d), RMSNorm(d)
        if model.qk_norm:
            self.q_norm, self.k_norm = RMSNorm(d // model.heads), RMSNorm(d // model.heads)
        self.qkv, self.attention_out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.gate_up, self.mlp_out = nn.Linear(d, 2 * f, bias=False), nn.Linear(f, d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        heads = [
            z.reshape(b, t, self.model.heads, -1).transpose(1, 2)
            for z in self.qkv(self.attention_norm(x)).chunk(3, dim=-1)
        ]
        q, k, v = heads
        if self.model.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rope(q, self.model.rope_base), rope(k, self.model.rope_base)
        scores = q @ k.transpose(-1, -2) / (d // self.model.heads) ** 0.5
        future = torch.triu(torch.ones(t, t, dtype=torch.bool), diagonal=1)
        weights = torch.softmax(scores.masked_fill(future, -torch.inf), dim=-1)
        x = x + self.attention_out((weights @ v).transpose(1, 2).reshape(b, t, d))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.mlp_out(gate * torch.sigmoid(gate) * up)


class Transformer(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.embedding = nn.Embedding(model.vocab, model.width)
        self.layers = nn.ModuleList(Layer(model) for _ in range(model.layers))
        self.final_norm = RMSNorm(model.width)
        self.head = nn.Linear(model.width, model.vocab, bias=False)
        self.ratio = model.width / (model.mup_base_width or model.width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.final_norm(x)) / self.ratio


def module_of(model: Model, row: Tensor) -> Transformer:
    """An unstacked model with the parameters of one row."""
    module = Transformer(model)
    named = dict(module.named_parameters())
    for slot in layout(model):
        value = row[slot.start : slot.start + slot.size].view(slot.shape)
        part = slot.name if slot.name[0].isalpha() else "layers." + slot.name
        name = part + (".gain" if slot.kind == "norms" else ".weight")
        # nn.Linear keeps (out, in)
        linear = slot.kind in ("matrices", "head")
        named.pop(name).data.copy_(value.T if linear else value)
    assert not named, f"no slot for {sorted(named)}"
    return module


def train(module: Transformer, run: RunSettings, batches: list[Tensor]) -> list[float]:
    """Losses of a run trained by torch.optim.AdamW and torch.nn.utils.clip_grad_norm_."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        decay = 0.0 if name.endswith("gain") else run.weight_decay
        in_layer = name.startswith("layers.") and not name.endswith("gain")
        groups.setdefault((decay, 1 / module.ratio if in_layer else 1.0), []).append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": ps, "weight_decay": decay, "rate": rate} for (decay, rate), ps in groups.items()],
        lr=run.lr,
        betas=(run.beta1, run.beta2),
        eps=run.eps,
    )
    factors = multipliers(run.schedule, run.steps, warmup_steps=run.warmup_steps, floor=run.final_fraction)
    losses = []
    for tokens, factor in zip(batches, factors, strict=True):
        loss = functional.cross_entropy(module(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        if run.clip:
            nn.utils.clip_grad_norm_(module.parameters(), run.clip)
        for group in optimizer.param_groups:
            group["lr"] = run.lr * float(factor) * group["rate"]
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_with(pack: Pack, run: RunSettings, module: Transformer, batches: list[Tensor]) -> list[float]:
    """Losses of a run trained by any optimizer of torch; queries, keys, values, gate, up are matrices of their own."""
    pieces = [Piece(name, whole) for name, whole in module.named_parameters()]
    gains, matrices = (
        [part for piece in pieces if piece.kind == kind for part in piece.parts] for kind in ("gain", "matrix")
    )
    rest = [part for piece in pieces if piece.kind == "rest" for part in piece.parts]
    # torch shrinks by lr x decay, lr being that of the step; lr / peak x decay is wanted when it is independent
    decay = run.weight_decay / (run.lr if pack.decay == "independent" else 1.0)
    adam = {"betas": (run.beta1, run.beta2), "eps": run.eps, "weight_decay": 0.0}
    match pack.optimizer:
        case "sgd":
            optimizers = [torch.optim.SGD([*gains, *rest, *matrices], momentum=run.momentum)]
        case "muon":
            muon = torch.optim.Muon(matrices, momentum=run.momentum, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
            optimizers = [muon, torch.optim.AdamW([*gains, *rest], **adam)]
        case _:
            optimizers = [torch.optim.AdamW([*gains, *rest, *matrices], **adam)]
    losses = []
    for tokens, rate in zip(batches, run.rates(), strict=True):
        loss = functional.cross_entropy(module(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        module.zero_grad()
        loss.backward()
        if run.clip:
            nn.utils.clip_grad_norm_(module.parameters(), run.clip)
        for piece in pieces:
            piece.take_gradients()
        with torch.no_grad():
            for part in (*rest, *matrices):
                part.mul_(1 - rate * decay)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = float(rate)
            optimizer.step()
        for piece in pieces:
            piece.give_back()
        losses.append(loss.item())
    return losses


class Piece:
    """A parameter of the module, cut into what an optimizer takes for one matrix."""

    def __init__(self, name: str, whole: nn.Parameter) -> None:
        self.whole, cuts = whole, 3 if ".qkv." in name else 2 if ".gate_up." in name else 1
        in_layer = name.startswith("layers.")
        self.kind = "gain" if name.endswith("gain") else "matrix" if in_layer else "rest"
        self.parts = [nn.Parameter(part.detach().clone()) for part in whole.chunk(cuts)]

    def take_gradients(self) -> None:
        assert self.whole.grad is not None
        for part, grad in zip(self.parts, self.whole.grad.chunk(len(self.parts)), strict=True):
            part.grad = grad.clone()

    def give_back(self) -> None:
        with torch.no_grad():
            self.whole.copy_(torch.cat([part.detach() for part in self.parts]))
