"""What training programs make of settings that were written for them: run by a Python that has the program.

    python programs.py PROGRAM FILE

Prints as JSON what the program understood. Of the standard library and that program alone: it is copied away and run.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock


def hf(file: Path) -> dict[str, Any]:
    """Through `TrainingArguments` itself, its checks and the schedule that it names included."""
    import torch
    from transformers import Trainer, TrainingArguments, get_scheduler

    made: dict[str, Any] = {}
    exec(file.read_text(), made)  # what a person who pastes it does
    args = made["training_args"]
    assert isinstance(args, TrainingArguments)
    assert Trainer is not None
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate)
    schedule = get_scheduler(
        args.lr_scheduler_type,
        optimizer,
        num_warmup_steps=args.get_warmup_steps(args.max_steps),
        num_training_steps=args.max_steps,
        scheduler_specific_kwargs=args.lr_scheduler_kwargs or {},
    )
    last = schedule.lr_lambdas[0](args.max_steps) if hasattr(schedule, "lr_lambdas") else None
    return {
        "lr": args.learning_rate,
        "per_device_batch": args.per_device_train_batch_size,
        "accumulation": args.gradient_accumulation_steps,
        "steps": args.max_steps,
        "weight_decay": args.weight_decay,
        "beta1": args.adam_beta1,
        "beta2": args.adam_beta2,
        "warmup_steps": args.get_warmup_steps(args.max_steps),
        "end": last,
    }


def torchtitan(file: Path) -> dict[str, Any]:
    """Through its own reader of files, which 0.3 no longer has."""
    sys.modules["torchtitan.components.quantization"] = mock.MagicMock()  # kernels, which need triton
    from torchtitan.config import ConfigManager

    config = ConfigManager().parse_args([f"--job.config_file={file}"])
    return {
        "lr": config.optimizer.lr,
        "per_device_batch": config.training.local_batch_size,
        "sequences": config.training.global_batch_size,
        "seq_len": config.training.seq_len,
        "steps": config.training.steps,
        "weight_decay": config.optimizer.weight_decay,
        "beta1": config.optimizer.beta1,
        "beta2": config.optimizer.beta2,
        "warmup_steps": config.lr_scheduler.warmup_steps,
        "end": config.lr_scheduler.min_lr_factor,
    }


def litgpt(file: Path) -> dict[str, Any]:
    """Through the parser that `litgpt pretrain` makes of its own function, and the optimizer that it builds."""
    import torch
    from jsonargparse import ArgumentParser
    from litgpt.pretrain import setup
    from litgpt.utils import instantiate_torch_optimizer

    parser = ArgumentParser()
    parser.add_function_arguments(setup)
    parser.add_argument("--config", action="config")
    found = parser.parse_args(["--config", str(file), "--model_name", "pythia-14m"])
    train = parser.instantiate_classes(found).train
    optimizer = instantiate_torch_optimizer(dict(found.optimizer), [torch.nn.Parameter(torch.zeros(1))])
    defaults = optimizer.defaults
    return {
        "lr": defaults["lr"],
        "per_device_batch": train.micro_batch_size,
        "sequences": train.global_batch_size,
        "seq_len": train.max_seq_length,
        "weight_decay": defaults["weight_decay"],
        "beta1": defaults["betas"][0],
        "beta2": defaults["betas"][1],
        "warmup_steps": train.lr_warmup_steps,
        "max_tokens": train.max_tokens,
    }


def levanter(file: Path) -> dict[str, Any]:
    """Names alone, from the source of its config classes: the package itself needs a whole stack of JAX."""
    import yaml

    spec = importlib.util.find_spec("levanter")
    assert spec is not None
    assert spec.submodule_search_locations
    tree = ast.parse((Path(spec.submodule_search_locations[0]) / "trainer.py").read_text())
    fields = {
        node.name: {each.target.id for each in node.body if isinstance(each, ast.AnnAssign)}  # type: ignore[union-attr]
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name in ("TrainerConfig", "OptimizerConfig")
    }
    found = yaml.safe_load(file.read_text())
    assert found.keys() == {"trainer", "optimizer"}
    assert set(found["trainer"]) <= fields["TrainerConfig"]
    assert set(found["optimizer"]) <= fields["OptimizerConfig"]
    return {"lr": found["optimizer"]["learning_rate"], "sequences": found["trainer"]["train_batch_size"]}


def megatron(file: Path) -> dict[str, Any]:
    """Its schedule from megatron-core; `training/arguments.py`, which reads the options, is in no package."""
    from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

    words = [line.split("#")[0].split() for line in file.read_text().splitlines() if line.strip().startswith("--")]
    given = dict(words)
    schedule = OptimizerParamScheduler(
        SimpleNamespace(param_groups=[{"lr": 0.0, "weight_decay": 0.0}]),
        init_lr=0.0,
        max_lr=float(given["--lr"]),
        min_lr=float(given.get("--min-lr", 0.0)),
        lr_warmup_steps=int(given.get("--lr-warmup-iters", 0)),
        lr_decay_steps=int(given["--lr-decay-iters"]),
        lr_decay_style=given["--lr-decay-style"],
        start_wd=float(given["--weight-decay"]),
        end_wd=float(given["--weight-decay"]),
        wd_incr_steps=0,
        wd_incr_style="constant",
    )
    schedule.num_steps = int(given["--train-iters"])
    group = {"max_lr": float(given["--lr"]), "min_lr": float(given.get("--min-lr", 0.0))}
    return {
        "lr": float(given["--lr"]),
        "steps": int(given["--train-iters"]),
        "end": schedule.get_lr(group) / float(given["--lr"]),
    }


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]))))
