"""Arguments of Megatron-LM's `pretrain_gpt.py`, as an array of bash; names as in its `training/arguments.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lawfit.configs.program import Program, floor, not_here, pairs
from lawfit.documents import Training


def _body(training: Training) -> Iterator[str]:
    shape = training["schedule"]["shape"]
    falls = shape in ("constant", "linear", "cosine")
    yield f"# --micro-batch-size is of one data-parallel rank, of which there are {training['world_size']}"
    yield "TRAINING_ARGS=("
    for line in pairs(
        {
            "--micro-batch-size": training["per_device_batch"],
            "--global-batch-size": training["sequences"],
            "--seq-length": training["seq_len"],
            "--train-iters": training["steps"],
            "--lr": training["lr"]["value"],
            "--min-lr": floor(training) if falls and shape != "constant" else None,
            "--lr-decay-style": shape if falls else None,
            "--lr-decay-iters": training["steps"] if falls else None,
            "--lr-warmup-iters": training["warmup_steps"],
            "--weight-decay": training["weight_decay"],
            "--adam-beta1": training["beta1"],
            "--adam-beta2": training["beta2"],
            "--adam-eps": training["epsilon"],
            "--clip-grad": training["max_grad_norm"],
        },
        " ",
    ):
        yield f"    {line}"
    if shape == "wsd":
        yield f"    {not_here(training, '--lr-decay-style WSD needs --lr-wsd-decay-iters, which the runs do not say')}"
    yield ")"


MEGATRON: Final = Program(name="megatron", title="Megatron-LM arguments", language="bash", body=_body)
