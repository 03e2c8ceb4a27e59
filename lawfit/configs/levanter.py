"""A YAML file of levanter's `train_lm`; checked with `TrainerConfig` and `OptimizerConfig` of levanter 1.1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lawfit.configs.program import Program, not_here, pairs
from lawfit.documents import Training
from lawfit.units import counted


def _body(training: Training) -> Iterator[str]:
    schedule, shape = training["schedule"], training["schedule"]["shape"]
    falls = shape in ("constant", "linear", "cosine")
    yield f"# for {counted(training['world_size'], 'device')}, and a model with seq_len: {training['seq_len']}"
    yield "trainer:"
    for line in pairs(
        {
            "train_batch_size": training["sequences"],
            "per_device_parallelism": training["per_device_batch"],
            "num_train_steps": training["steps"],
        },
        ": ",
    ):
        yield f"  {line}"
    yield "optimizer:"
    for line in pairs(
        {
            "learning_rate": training["lr"]["value"],
            "weight_decay": training["weight_decay"],
            "beta1": training["beta1"],
            "beta2": training["beta2"],
            "epsilon": training["epsilon"],
            "max_grad_norm": training["max_grad_norm"],
            "warmup": training["warmup_steps"],
            "lr_schedule": shape if falls else None,
            "min_lr_ratio": schedule["end"] if falls else None,
        },
        ": ",
    ):
        yield f"  {line}"
    if shape == "wsd":
        yield f"  {not_here(training, 'how long it cools down, the runs do not say')}"


LEVANTER: Final = Program(name="levanter", title="levanter YAML", language="yaml", body=_body)
