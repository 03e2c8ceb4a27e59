"""A config file of nanoGPT, `python train.py FILE`: names of its `train.py`, whose rates are cosine or constant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lawfit.configs.program import Program, floor, not_here, pairs
from lawfit.documents import Training
from lawfit.units import counted


def _body(training: Training) -> Iterator[str]:
    shape = training["schedule"]["shape"]
    yield from pairs(
        {
            "batch_size": training["per_device_batch"],
            "block_size": training["seq_len"],
            "gradient_accumulation_steps": training["accumulation"] * training["world_size"],
            "max_iters": training["steps"],
            "learning_rate": training["lr"]["value"],
            "weight_decay": training["weight_decay"],
            "beta1": training["beta1"],
            "beta2": training["beta2"],
            "grad_clip": training["max_grad_norm"],
            "warmup_iters": training["warmup_steps"],
        },
        " = ",
    )
    if shape == "constant":
        yield "decay_lr = False"
    elif shape == "cosine":
        yield "decay_lr = True"
        yield from pairs({"lr_decay_iters": training["steps"], "min_lr": floor(training)}, " = ")
    elif shape is not None:
        yield not_here(training, "train.py has cosine and constant rates")
    yield f"# gradient_accumulation_steps is of {counted(training['world_size'], 'process', 'processes')} together"


NANOGPT: Final = Program(name="nanogpt", title="nanoGPT config", language="python", body=_body)
