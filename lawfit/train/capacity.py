"""How many runs fit into the memory of a device at once, before anything is compiled for them."""

from __future__ import annotations

import bisect

import torch

from lawfit.proxy.pack import Pack
from lawfit.train.head_loss import SLICE_LOGITS

RESERVE = 0.08  # of the device's memory: the driver, the text, and what the allocator cannot use
BASE_BYTES = 2**28  # of a process, whatever it trains: workspaces of the libraries


def memory_bytes(pack: Pack, runs: int) -> int:
    """Device memory that torch reserves to train `runs` runs of a pack at once, without the text.

    Counted from what a step keeps; twelve packs on an H200 took 0.81 to 0.97 of it (test_capacity.py).
    """
    model = pack.model
    params = sum(model.params.values())
    each = 2 if pack.precision == "bf16" else 4
    copies = 5 if any(run.average_half_life_tokens for run in pack.runs) else 4  # with gradients and two moments
    if pack.optimizer == "muon":
        copies += 4  # directions, put together from parts
    if pack.accumulation > 1:
        copies += 1  # the gradients of a part
    # and as matrix products see weights and gradients; with room that the allocator does not find again: measured where
    # kernels of our own do all, and twice elsewhere (a compiled pack of 64 runs at 2k tokens a step took 1.5 times)
    spare = 1.25 if pack.precision == "bf16" and pack.optimizer == "adamw" else 2.0
    weights = round(spare * params * (4 * copies + 2 * each))
    tokens = pack.micro_sequences * model.seq_len
    # per layer: the residual stream twice in fp32; queries, keys, values, the first two once more as turned,
    # attention's output, the inputs of two matrix products; gate, up and their product
    layer = 2 * 4 * model.width + each * (8 * model.width + 3 * model.hidden)
    kept = tokens * (model.layers * layer + (4 + 2 * each) * model.width)
    backward = tokens * (2 * 4 * model.width + each * (2 * model.width + 3 * model.hidden))  # while a layer is undone
    logits = 2 * min(runs * tokens * model.vocab, SLICE_LOGITS) * each  # gone by then, and not all of it found again
    steps = max(run.steps for run in pack.runs)
    tables = 12 * steps + 4 * steps * pack.batch_sequences
    return BASE_BYTES + runs * (weights + kept + tables) + runs * backward + logits


def largest_pack(pack: Pack, device: torch.device) -> int:
    """How many runs of a pack fit into the memory of a device at once; at least one, and no limit on a CPU.

    The device counts as empty, so that a pack is cut alike, and finds its checkpoints, whatever else runs beside it.
    """
    rows = len(pack.runs)
    if device.type != "cuda":
        return rows
    room = (1 - RESERVE) * torch.cuda.get_device_properties(device).total_memory
    return max(1, bisect.bisect_right(range(1, rows + 1), room, key=lambda runs: memory_bytes(pack, runs)))
