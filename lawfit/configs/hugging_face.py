"""`transformers.TrainingArguments`; checked with transformers 5.24."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lawfit.configs.program import Program, floor, not_here, number, pairs
from lawfit.documents import Training
from lawfit.units import counted


def _body(training: Training) -> Iterator[str]:
    yield "from transformers import TrainingArguments"
    yield ""
    processes = counted(training["world_size"], "process", "processes")
    yield f"# for {processes}, and data packed into sequences of {training['seq_len']:,} tokens"
    yield "training_args = TrainingArguments("
    for line in pairs(
        {
            "learning_rate": training["lr"]["value"],
            "per_device_train_batch_size": training["per_device_batch"],
            "gradient_accumulation_steps": training["accumulation"],
            "max_steps": training["steps"],
            "weight_decay": training["weight_decay"],
            "adam_beta1": training["beta1"],
            "adam_beta2": training["beta2"],
            "adam_epsilon": training["epsilon"],
            "max_grad_norm": training["max_grad_norm"],
            "warmup_steps": training["warmup_steps"],
        },
        "=",
    ):
        yield f"    {line},"
    yield from (f"    {line}" for line in _schedule(training))
    yield ")"


def _schedule(training: Training) -> Iterator[str]:
    shape, end, lowest = training["schedule"]["shape"], training["schedule"]["end"], floor(training)
    if shape == "constant":
        yield f'lr_scheduler_type="constant{"_with_warmup" if training["warmup_steps"] else ""}",'
    elif shape == "wsd":
        yield not_here(training, '"warmup_stable_decay" needs num_decay_steps, which the runs do not say')
    elif shape in ("linear", "cosine") and not end:
        yield f'lr_scheduler_type="{shape}",{"" if end == 0 else "  # to 0"}'
    elif shape == "cosine" and end:
        yield 'lr_scheduler_type="cosine_with_min_lr",'
        yield f'lr_scheduler_kwargs={{"min_lr_rate": {number(end)}}},'
    elif shape == "linear" and lowest:
        yield 'lr_scheduler_type="polynomial",'
        yield f'lr_scheduler_kwargs={{"lr_end": {number(lowest)}, "power": 1.0}},'


HUGGING_FACE: Final = Program(name="hf", title="Hugging Face TrainingArguments", language="python", body=_body)
