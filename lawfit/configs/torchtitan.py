"""A TOML file of torchtitan; checked with `JobConfig` of torchtitan 0.2.2, the last with files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from lawfit.configs.program import Program, Value, not_here, pairs
from lawfit.documents import Training


def _body(training: Training) -> Iterator[str]:
    schedule, shape = training["schedule"], training["schedule"]["shape"]
    yield "# for torchtitan up to 0.2, which reads such files; from 0.3 on its settings are Python and options"
    yield from _section(
        "optimizer",
        {
            "name": '"AdamW"',
            "lr": training["lr"]["value"],
            "beta1": training["beta1"],
            "beta2": training["beta2"],
            "eps": training["epsilon"],
            "weight_decay": training["weight_decay"],
        },
    )
    yield ""
    falls = shape in ("linear", "cosine")
    yield from _section(
        "lr_scheduler",
        {
            "warmup_steps": training["warmup_steps"],
            "decay_ratio": 0.0 if shape == "constant" else None,
            "decay_type": f'"{shape}"' if falls else None,
            "min_lr_factor": schedule["end"] if falls else None,
        },
    )
    if shape == "wsd":
        yield not_here(training, "decay_ratio is the share of the steps that it cools down, which the runs do not say")
    yield ""
    yield from _section(
        "training",
        {
            "local_batch_size": training["per_device_batch"],
            "global_batch_size": training["sequences"],
            "seq_len": training["seq_len"],
            "steps": training["steps"],
            "max_norm": training["max_grad_norm"],
        },
    )


def _section(name: str, values: Mapping[str, Value]) -> Iterator[str]:
    yield f"[{name}]"
    yield from pairs(values, " = ")


TORCHTITAN: Final = Program(name="torchtitan", title="torchtitan TOML", language="toml", body=_body)
