"""A YAML file of `litgpt pretrain --config`; checked with `TrainArgs` of litgpt 0.5.13, whose rates are cosine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lawfit.configs.program import Program, floor, not_here, number, pairs
from lawfit.documents import Training


def _body(training: Training) -> Iterator[str]:
    shape = training["schedule"]["shape"]
    yield f"# devices x num_nodes is {training['world_size']}"
    yield "train:"
    for line in pairs(
        {
            "global_batch_size": training["sequences"],
            "micro_batch_size": training["per_device_batch"],
            "max_tokens": round(training["steps"] * training["batch_tokens"]),
            "max_seq_length": training["seq_len"],
            "lr_warmup_steps": training["warmup_steps"],
            "max_norm": training["max_grad_norm"],
            "min_lr": floor(training) if shape == "cosine" else None,
        },
        ": ",
    ):
        yield f"  {line}"
    if shape not in (None, "cosine"):
        yield f"  {not_here(training, 'litgpt pretrain has cosine rates alone, to min_lr')}"
    yield "optimizer:"
    yield "  class_path: torch.optim.AdamW"
    yield "  init_args:"
    for line in pairs(
        {
            "lr": training["lr"]["value"],
            "weight_decay": training["weight_decay"],
            "betas": _betas(training),
            "eps": training["epsilon"],
        },
        ": ",
    ):
        yield f"    {line}"


def _betas(training: Training) -> str | None:
    """Both, as they stand in one setting."""
    betas = training["beta1"], training["beta2"]
    return None if None in betas else f"[{', '.join(number(beta) for beta in betas if beta is not None)}]"


LITGPT: Final = Program(name="litgpt", title="litgpt YAML", language="yaml", body=_body)
