"""The stacked trainer against what JAX makes of the same: vmap over runs, scan over steps, cuDNN's attention.

    python -m tests.benchmarks.jax_stack [--case NAME...] [--out FILE]

The models, batches, text and first weights are those of `train_throughput`, and AdamW with clipping is included; both
sides start from the same weights, read the same sequences, and their losses of the first steps are shown beside each
other. A process each; JAX's speed is that of a program that scans over 20 steps, compiled, its state donated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.train_cases import CASES, has_gpu, make_pack, random_corpus

STEPS = 20  # in one call
STACKED = ("0.8M", "3M", "12M", "25M")
TOKENS = 4_000_000


def first_weights(name: str, runs: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    from lawfit.train.model import initial_rows

    pack = make_pack(CASES[name], runs, steps=1000)
    return initial_rows(pack.model, [run.init_seed for run in pack.runs]).numpy()


def ours(name: str, runs: int) -> dict[str, Any]:
    import torch

    from lawfit.train.trainer import Trainer
    from tests.benchmarks.train_throughput import seconds_per_call

    case = CASES[name]
    pack = make_pack(case, runs, steps=1000)
    began = time.perf_counter()
    trainer = Trainer(pack, torch.device("cuda"), compiled=True)
    trainer.load(random_corpus(case, tokens=TOKENS))
    steps = trainer.prepare()
    steps.train()
    torch.cuda.synchronize()
    ready = time.perf_counter() - began
    seconds = seconds_per_call(steps.train, STEPS)
    return result(name, runs, seconds, ready, trainer.loss_table[:, :STEPS].cpu().numpy())


def jaxs(name: str, runs: int) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    from lawfit.corpus import sequence_order
    from lawfit.train.model import layout

    case = CASES[name]
    pack = make_pack(case, runs, steps=1000)
    model = pack.model
    d, heads, length = model.width, model.heads, model.seq_len
    size = d // heads
    gpu = jax.default_backend() == "gpu"

    def norm(x: Any, gain: Any) -> Any:
        return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-6) * gain

    half = size // 2
    angle = np.arange(length)[:, None] * model.rope_base ** (-np.arange(half) / half)
    cos, sin = (jnp.asarray(z[:, None, :], jnp.float32) for z in (np.cos(angle), np.sin(angle)))

    def rotate(x: Any) -> Any:
        a, b = x[..., :half], x[..., half:]
        return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)

    def loss(weights: dict[str, Any], tokens: Any) -> Any:
        """Of one run: (b, T + 1) tokens."""
        low = {key: z.astype(jnp.bfloat16) if z.ndim == 2 and key != "embedding" else z for key, z in weights.items()}
        x = low["embedding"][tokens[:, :-1]]
        for layer in range(model.layers):
            w = {key.split(".")[1]: z for key, z in low.items() if key.startswith(f"{layer}.")}
            qkv = (norm(x, w["attention_norm"]).astype(jnp.bfloat16) @ w["qkv"]).reshape(*x.shape[:2], 3, heads, size)
            q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
            q, k = (
                rotate(norm(z.astype(jnp.float32), w[f"{which}_norm"])).astype(jnp.bfloat16)
                for z, which in ((q, "q"), (k, "k"))
            )
            mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation="cudnn" if gpu else "xla")
            x = x + (mixed.reshape(x.shape) @ w["attention_out"]).astype(jnp.float32)
            gate, up = jnp.split(norm(x, w["mlp_norm"]).astype(jnp.bfloat16) @ w["gate_up"], 2, axis=-1)
            x = x + ((jax.nn.silu(gate) * up) @ w["mlp_out"]).astype(jnp.float32)
        logits = (norm(x, low["final_norm"]).astype(jnp.bfloat16) @ low["head"]).astype(jnp.float32)
        at_targets = jnp.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0]
        return jnp.mean(jax.nn.logsumexp(logits, -1) - at_targets)

    def update(state: Any, gradient: Any, rate: Any, step: Any) -> Any:
        """AdamW of one run, clipped; decay on everything but gains."""
        run = pack.runs[0]
        total = jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in gradient.values()))
        factor = jnp.minimum(run.clip / (total + 1e-6), 1.0)
        beta1, beta2 = run.beta1, pack.beta2(0)
        new: tuple[dict[str, Any], ...] = ({}, {}, {})
        for key, g in gradient.items():
            w, m, v = (part[key] for part in state)
            m = beta1 * m + (1 - beta1) * g * factor
            v = beta2 * v + (1 - beta2) * jnp.square(g * factor)
            direction = (m / (1 - beta1**step)) / (jnp.sqrt(v / (1 - beta2**step)) + run.eps)
            shrink = rate * run.weight_decay if w.ndim == 2 else 0.0
            for part, value in zip(new, (w * (1 - shrink) - rate * direction, m, v), strict=True):
                part[key] = value
        return new

    def one(state: Any, tokens: Any, rate: Any, step: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(state[0], tokens)
        return update(state, gradient, rate, step), value

    def advance(text: Any, rates: Any, carry: Any, which: Any) -> Any:
        state, step = carry
        tokens = text[which[:, :, None] * length + jnp.arange(length + 1)].astype(jnp.int32)
        state, values = jax.vmap(one, in_axes=(0, 0, 0, None))(state, tokens, rates[:, step.astype(int)], step + 1.0)
        return (state, step + 1.0), values

    @partial(jax.jit, donate_argnums=0)
    def train(carry: Any, text: Any, rates: Any, which: Any) -> Any:
        return jax.lax.scan(partial(advance, text, rates), carry, which)

    rows = first_weights(name, runs)
    weights = {
        slot.name: jnp.asarray(rows[:, slot.start : slot.start + slot.size].reshape(runs, *slot.shape))
        for slot in layout(model)
    }
    corpus = random_corpus(case, tokens=TOKENS)
    sequences = (len(corpus.train) - 1) // length
    order = [sequence_order(sequences, 1000 * pack.batch_sequences, run.data_seed, sequences) for run in pack.runs]
    text = jnp.asarray(corpus.train.astype(np.int16))
    rates = jnp.asarray(np.stack([run.rates() for run in pack.runs]), jnp.float32)
    batches = np.stack(order).reshape(runs, 1000, pack.batch_sequences).transpose(1, 0, 2)
    which = [jnp.asarray(batches[i : i + STEPS]) for i in range(0, 6 * STEPS, STEPS)]
    zeros = {key: jnp.zeros_like(z) for key, z in weights.items()}
    carry = ((weights, zeros, {key: jnp.zeros_like(z) for key, z in weights.items()}), jnp.float32(0))
    began = time.perf_counter()
    carry, losses = train(carry, text, rates, which[0])
    first = np.asarray(losses).T
    ready = time.perf_counter() - began
    times = []
    for part in which[1:]:
        start = time.perf_counter()
        carry, losses = train(carry, text, rates, part)
        jax.block_until_ready((carry, losses))
        times.append((time.perf_counter() - start) / STEPS)
    return result(name, runs, float(np.median(times)), ready, first)


def result(name: str, runs: int, seconds: float, ready: float, losses: Any) -> dict[str, Any]:
    tokens_per_second = runs * CASES[name].batch_tokens / seconds
    shown = [float(losses[:, step].mean()) for step in (0, 9, STEPS - 1)]
    return {"case": name, "runs": runs, "tokens_per_second": tokens_per_second, "ready_seconds": ready, "losses": shown}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(STACKED))
    parser.add_argument("--one", nargs=2, metavar=("SIDE", "CASE"), help="measure this and print a line of JSON")
    parser.add_argument("--out", type=Path, help="file for the rows, one JSON object per line")
    options = parser.parse_args()
    if options.one:
        side, name = options.one
        print(json.dumps({"side": side, **(ours if side == "lawfit" else jaxs)(name, CASES[name].runs)}))
        return
    if not has_gpu():
        print("stacked JAX: not measured, this machine has no GPU that torch can use")
        return
    print(
        f"{'case':8} {'side':>7} {'runs':>4} {'Mtokens/s':>10} {'ready after s':>13}  mean loss of steps 1, 10, {STEPS}"
    )
    for name in options.case:
        for side in ("lawfit", "jax"):
            command = [sys.executable, "-m", "tests.benchmarks.jax_stack", "--one", side, name]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=dict(os.environ))
            row = json.loads(done.stdout.splitlines()[-1])
            if options.out:
                with options.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            losses = ", ".join(f"{loss:.4f}" for loss in row["losses"])
            print(
                f"{name:8} {side:>7} {row['runs']:4} {row['tokens_per_second'] / 1e6:10.2f} "
                f"{row['ready_seconds']:13.1f}  {losses}",
                flush=True,
            )


if __name__ == "__main__":
    main()
