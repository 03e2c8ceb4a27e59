"""How many runs fit into the memory of a device at once, before anything is compiled for them."""

from __future__ import annotations

import bisect

import torch

from lawfit.train.head_loss import SLICE_LOGITS
from lawfit.train.pack import Pack

RESERVE = 0.08  # of the device's memory: fragments, what the compiler's choices add, and the text
BASE_BYTES = 2**29  # of a process, whatever it trains: workspaces of the libraries


def memory_bytes(pack: Pack, runs: int) -> int:
    """Device memory that torch takes to train `runs` runs of a pack at once, without the text.

    Counted, not measured, for what the compiled step keeps: tests/benchmarks/train_throughput.py shows both.
    """
    model = pack.model
    params = sum(model.params.values())
    each = 2 if pack.precision == "bf16" else 4
    weights = 4 * params * (5 if any(run.average_half_life_tokens for run in pack.runs) else 4)  # and grads, 2 moments
    weights += 2 * each * params  # weights and gradients as matrix products see them
    if pack.optimizer == "muon":
        weights += 4 * 4 * params  # directions, put together from parts
    if pack.accumulation > 1:
        weights += 4 * params  # the gradients of a part
    tokens = pack.micro_sequences * model.seq_len
    # per layer: the residual stream twice in fp32; queries, keys, values, those turned, attention's output, the two
    # inputs of the matrix products; gate, up and their product
    layer = 2 * 4 * model.width + each * (8 * model.width + 3 * model.hidden)
    # backward: a few of the same at a time, and the head's input with its gradient
    activations = tokens * (model.layers * layer + 2 * layer + 4 * 4 * model.width)
    steps = max(run.steps for run in pack.runs)
    tables = 12 * steps + 4 * steps * pack.batch_sequences + 8 * tokens * 3
    logits = min(runs * tokens * model.vocab, SLICE_LOGITS) * each
    return BASE_BYTES + runs * (weights + activations + tables) + logits


def largest_pack(pack: Pack, device: torch.device) -> int:
    """How many runs of a pack fit into the memory of a device at once; at least one, and no limit on a CPU.

    The device counts as empty, so that a pack is cut alike, and finds its checkpoints, whatever else runs beside it.
    """
    rows = len(pack.runs)
    if device.type != "cuda":
        return rows
    room = (1 - RESERVE) * torch.cuda.get_device_properties(device).total_memory
    return max(1, bisect.bisect_right(range(1, rows + 1), room, key=lambda runs: memory_bytes(pack, runs)))
