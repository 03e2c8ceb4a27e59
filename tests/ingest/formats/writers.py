"""Writes the logs in tests/golden/trackers with the real writers: `python writers.py TRACKER FOLDER`.

Every tracker is given the same four runs of a made-up sweep (`RUNS`), so that each format must mean the same. This file
imports nothing of lawfit, as the writers live in environments of their own: copy it out of the repository to run it,
so that no path of yours gets into the logs. `text` writes what trainers print, by the format strings of their sources.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

STEPS: Final = 40
EVERY: Final = 10  # steps between evaluations
WARMUP: Final = 4
PROJECT: Final = "tiny-lm"
SETTINGS: Final = {
    "optimizer": "adamw", "weight_decay": 0.1, "batch_size_tokens": 8192, "n_params": 1_200_000, "seq_len": 128,
    "max_steps": STEPS, "model": {"width": 64, "depth": 2}, "schedule": "cosine",
}  # fmt: skip
# name, peak learning rate, seed, how it ends
RUNS: Final = (
    ("low", 1e-3, 1, "finished"),
    ("middle", 3e-3, 1, "finished"),
    ("too-high", 1e-1, 1, "diverged"),
    ("killed", 1e-2, 2, "killed"),
)


def rate(step: int, peak: float) -> float:
    """Linear warmup, then a cosine to a tenth."""
    if step <= WARMUP:
        return peak * step / WARMUP
    share = (step - WARMUP) / (STEPS - WARMUP)
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))


def points(peak: float, end: str) -> Iterator[tuple[int, dict[str, float]]]:
    """Step and what is logged there; evaluations stand in rows of their own, as trainers write them."""
    for step in range(1, STEPS + 1):
        loss = 3 + 2 / step + 0.2 * math.log10(peak / 3e-3) ** 2 + 0.01 * math.sin(7 * step)
        if end == "diverged" and step > 25:
            loss = math.nan
        yield step, {"train/loss": loss, "train/grad_norm": 1 + 1 / step, "lr": rate(step, peak)}
        if step % EVERY == 0:
            yield step, {"eval/loss": loss + 0.05}
        if end == "killed" and step == 23:
            return


def config(peak: float, seed: int) -> dict[str, Any]:
    return {**SETTINGS, "learning_rate": peak, "seed": seed}


def wandb(folder: Path) -> None:
    """A process per run, as `wandb` keeps its own alive."""
    import subprocess

    for name, *_ in RUNS:
        code = f"import writers; writers._wandb_run({str(folder)!r}, {name!r})"
        subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)
    live = next(folder.rglob("*killed.wandb"))  # what a live run has on its disk ends before its last records
    live.write_bytes(live.read_bytes()[: live.stat().st_size * 4 // 5])
    for link in folder.rglob("latest-run"):
        link.unlink()
    for path in list(folder.rglob("*")):
        if path.is_file() and path.suffix != ".wandb":
            path.unlink()


def _wandb_run(folder: str, name: str) -> None:
    import wandb as w

    _, peak, seed, end = next(run for run in RUNS if run[0] == name)
    settings = w.Settings(
        x_disable_stats=True, x_disable_meta=True, save_code=False, disable_git=True, console="off", silent=True
    )
    run = w.init(
        dir=folder, project=PROJECT, name=name, id=f"id{name}", mode="offline", config=config(peak, seed),
        settings=settings,
    )  # fmt: skip
    for step, row in points(peak, end):
        run.log({**row, "train/global_step": step})
    run.config.update({"late": True})
    run.finish(exit_code=0 if end == "finished" else 1)


def tensorboard(folder: Path) -> None:
    """As torch writes them (`simple_value`), with the configuration beside, or as the HParams plugin has it."""
    import json

    from torch.utils.tensorboard import SummaryWriter

    for name, peak, seed, end in RUNS:
        with SummaryWriter(str(folder / name)) as writer:
            for step, row in points(peak, end):
                for tag, value in row.items():
                    writer.add_scalar(tag, value, step)
        (folder / name / "hparams.json").write_text(json.dumps(config(peak, seed)))


def tensorboard_tensors(folder: Path) -> None:
    """As TF2 and JAX write them: each scalar a tensor."""
    import json

    from tensorboard.summary import Writer

    for name, peak, seed, end in RUNS:
        writer = Writer(str(folder / name))
        for step, row in points(peak, end):
            for tag, value in row.items():
                writer.add_scalar(tag, value, step)
        writer.close()
        (folder / name / "hparams.json").write_text(json.dumps(config(peak, seed)))


def tensorboard_hparams(folder: Path) -> None:
    """The HParams plugin, which makes a folder of its own below the run."""
    from torch.utils.tensorboard import SummaryWriter

    for name, peak, seed, end in RUNS[:2]:
        with SummaryWriter(str(folder / name)) as writer:
            for step, row in points(peak, end):
                for tag, value in row.items():
                    writer.add_scalar(tag, value, step)
            flat = {key: value for key, value in config(peak, seed).items() if not isinstance(value, dict)}
            writer.add_hparams(flat, {"hparam/loss": 3.0}, run_name=".")


def mlflow(folder: Path, uri: str = "") -> None:
    """The SQLite store, or any other by its URI."""
    import mlflow as m

    m.set_tracking_uri(uri or f"sqlite:///{folder / 'mlflow.db'}")
    m.set_experiment(PROJECT)
    for name, peak, seed, end in RUNS:
        m.start_run(run_name=name)
        flat = {key: value for key, value in config(peak, seed).items() if not isinstance(value, dict)}
        m.log_params({**flat, "model.width": 64, "model.depth": 2})
        for step, row in points(peak, end):
            m.log_metrics({key.replace("/", "."): value for key, value in row.items()}, step=step)
        if end == "killed":
            m.tracking.fluent._active_run_stack.set([])
        else:
            m.end_run("FINISHED" if end == "finished" else "FAILED")
    if (folder / "mlflow.db").is_file():
        _smaller(folder / "mlflow.db")


def _smaller(path: Path) -> None:
    """The same database in small pages."""
    import sqlite3

    with sqlite3.connect(path) as database:
        database.execute("pragma journal_mode = delete")
        database.execute("pragma page_size = 512")
        database.commit()
        database.execute("vacuum")
    database.close()


def mlflow_files(folder: Path) -> None:
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    mlflow(folder, f"file://{folder / 'mlruns'}")


def lightning(folder: Path) -> None:
    from lightning.pytorch.loggers import CSVLogger

    for name, peak, seed, end in RUNS:
        logger = CSVLogger(str(folder), name=PROJECT, version=name)
        logger.log_hyperparams(config(peak, seed))
        for step, row in points(peak, end):
            logger.log_metrics({key.replace("/", "_").replace("eval", "val"): v for key, v in row.items()}, step=step)
        logger.save()


def huggingface(folder: Path) -> None:
    """A real Trainer with a model of two numbers, whose states and logs are what any Trainer leaves."""
    import json

    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))

        def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
            out = (self.weight * x).sum(-1)
            return {"loss": ((out - (0 if labels is None else labels)) ** 2).mean() + 1, "logits": out}

    class Kill(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            control.should_training_stop = state.global_step >= 23
            return control

    data = [{"x": torch.tensor([0.1 * i, 1.0]), "labels": torch.tensor(0.5 * i)} for i in range(32)]
    for name, peak, seed, end in (RUNS[0], RUNS[1], RUNS[3]):
        arguments = TrainingArguments(
            str(folder / name), learning_rate=peak, seed=seed, max_steps=STEPS, logging_steps=1, eval_steps=EVERY,
            eval_strategy="steps", save_steps=20, per_device_train_batch_size=4, warmup_steps=WARMUP, use_cpu=True,
            lr_scheduler_type="cosine", weight_decay=0.1, report_to=["tensorboard"], disable_tqdm=True,
            include_num_input_tokens_seen="no",
        )  # fmt: skip
        trainer = Trainer(Tiny(), arguments, train_dataset=data, eval_dataset=data[:8],
                          callbacks=[Kill()] if end == "killed" else [])  # fmt: skip
        trainer.train()
        trainer.save_state()
        (folder / name / "training_args.json").write_text(arguments.to_json_string())
        sizes = {key: SETTINGS[key] for key in ("n_params", "batch_size_tokens")}
        (folder / name / "hparams.json").write_text(json.dumps(sizes))
        for kind in ("*.pt", "*.bin", "*.pth", "*.safetensors"):
            for path in folder.rglob(kind):
                path.unlink()


def trackio(folder: Path) -> None:
    os.environ["TRACKIO_DIR"] = str(folder)
    os.environ["HF_HUB_OFFLINE"] = "1"
    import trackio as t

    for name, peak, seed, end in RUNS:
        t.init(project=PROJECT, name=name, config=config(peak, seed), embed=False, auto_log_gpu=False)
        for step, row in points(peak, end):
            t.log(row, step=step)
        t.finish()
    _smaller(folder / f"{PROJECT}.db")
    (folder / f"{PROJECT}.lock").unlink(missing_ok=True)


def optuna(folder: Path) -> None:
    """One study in SQLite and in a journal, with pruned and failed trials."""
    import optuna as o
    from optuna.storages.journal import JournalFileBackend

    for storage in (
        f"sqlite:///{folder / 'study.db'}",
        o.storages.JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
    ):
        study = o.create_study(study_name=PROJECT, storage=storage, direction="minimize")
        for name, peak, seed, end in RUNS:
            trial = study.ask({"lr": o.distributions.FloatDistribution(1e-5, 1, log=True),
                               "optimizer": o.distributions.CategoricalDistribution(["adamw", "sgd"])})  # fmt: skip
            trial = _told(study, trial, peak)
            for key, value in {**config(peak, seed), "name": name}.items():
                if key not in ("learning_rate", "optimizer", "model"):
                    trial.set_user_attr(key, value)
            last = math.nan
            for step, row in points(peak, end):
                if "eval/loss" in row:
                    last = row["eval/loss"]
                    trial.report(last, step)
            if end == "finished":
                study.tell(trial, last)
            elif end == "diverged":
                study.tell(trial, state=o.trial.TrialState.FAIL)
    _smaller(folder / "study.db")


def _told(study: Any, trial: Any, peak: float) -> Any:
    """The trial again, at a peak that is ours and not the sampler's."""
    import optuna as o

    study.tell(trial, state=o.trial.TrialState.PRUNED)
    study.enqueue_trial({"lr": peak, "optimizer": "adamw"})
    return study.ask({"lr": o.distributions.FloatDistribution(1e-5, 1, log=True),
                      "optimizer": o.distributions.CategoricalDistribution(["adamw", "sgd"])})  # fmt: skip


def jsonl(folder: Path) -> None:
    """A log of steps as people write them themselves, its settings in the first line."""
    import json

    for name, peak, seed, end in RUNS:
        rows = [{"config": config(peak, seed)}, *({"step": step, **row} for step, row in points(peak, end))]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def neptune(folder: Path) -> None:
    """As Neptune's exporter laid Parquet out: a row for each attribute and step."""
    import pyarrow
    from pyarrow.parquet import write_table

    rows = []
    for number, (name, peak, seed, end) in enumerate(RUNS, start=1):
        run = {"project_id": PROJECT, "run_id": f"TIN-{number}"}
        for key, value in {**config(peak, seed), "sys/name": name}.items():
            kind = {str: "string", int: "int", float: "float"}.get(type(value))
            if kind is not None:
                rows.append({**run, "attribute_path": key, "attribute_type": kind, f"{kind}_value": value})
        for step, row in points(peak, end):
            for key, value in row.items():
                series = {"attribute_path": key, "attribute_type": "float_series", "step": float(step)}
                rows.append({**run, **series, "float_value": value})
    names = (
        "project_id",
        "run_id",
        "attribute_path",
        "attribute_type",
        "step",
        "float_value",
        "int_value",
        "string_value",
    )
    table = pyarrow.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
    write_table(table, folder / "tiny-lm.parquet")


def text(folder: Path) -> None:
    """torchtitan 0.3.0 and litgpt 0.5.13 by their sources, nanoGPT and Megatron-LM by their known lines."""
    for trainer in (_nanogpt, _megatron, _torchtitan, _litgpt):
        (folder / trainer.__name__[1:]).mkdir(exist_ok=True)
        for name, peak, seed, end in RUNS:
            lines = list(trainer(peak, seed, list(points(peak, end)), end))
            (folder / trainer.__name__[1:] / f"{name}.log").write_text("\n".join(lines) + "\n")


def _nanogpt(peak: float, seed: int, logged: list[tuple[int, dict[str, float]]], end: str) -> Iterator[str]:
    yield from ("Overriding config with config/tiny.py:", "# a tiny model", "batch_size = 8", "block_size = 128")
    yield from ("gradient_accumulation_steps = 4 * 2", f"max_iters = {STEPS} # few", "weight_decay = 1e-1")
    yield from (
        f"Overriding: learning_rate = {peak}",
        f"Overriding: seed = {seed}",
        "tokens per iteration will be: 8,192",
    )
    yield from ("Initializing a new model from scratch", "number of parameters: 1.20M")
    for step, row in logged:
        if "eval/loss" in row:
            yield f"step {step}: train loss {row['eval/loss'] - 0.04:.4f}, val loss {row['eval/loss']:.4f}"
        else:
            yield f"iter {step}: loss {row['train/loss']:.4f}, time 100.00ms, mfu 1.00%"


def _megatron(peak: float, seed: int, logged: list[tuple[int, dict[str, float]]], end: str) -> Iterator[str]:
    yield "------------------------ arguments ------------------------"
    shown = {"global_batch_size": 64, "lr": peak, "seed": seed, "seq_length": 128, "train_iters": STEPS,
             "weight_decay": 0.1, "lr_decay_style": "cosine", "optimizer": "adam"}  # fmt: skip
    yield from (f"  {key} {'.' * (47 - len(key))} {value}" for key, value in shown.items())
    yield "-------------------- end of arguments ---------------------"
    yield " > number of parameters on (tensor, pipeline) model parallel rank (0, 0): 1200000"
    for step, row in logged:
        if "eval/loss" in row:
            value = row["eval/loss"]
            shown_value = f"lm loss value: {value:.6E} | lm loss PPL: {math.exp(value):.6E} | "
            yield f" validation loss at iteration {step} | {shown_value}"
        else:
            yield (
                f" [2026-11-29 10:00:00] iteration {step:8d}/{STEPS:8d} | consumed samples: {step * 64:12d} | "
                f"elapsed time per iteration (ms): 100.0 | learning rate: {row['lr']:.6E} | "
                f"global batch size: {64:5d} | lm loss: {row['train/loss']:.6E} | loss scale: 1.0 | "
                f"grad norm: {row['train/grad_norm']:.3f} | "
                "number of skipped iterations:   0 | number of nan iterations:   0 |"
            )
    if end == "finished":
        yield "[after training is done] datetime: 2026-11-29 10:00:05 "


def _torchtitan(peak: float, seed: int, logged: list[tuple[int, dict[str, float]]], end: str) -> Iterator[str]:
    import json

    head = "[titan] 2026-11-29 10:00:00,000 - root - INFO - "
    settings = {"optimizer": {"name": "AdamW", "lr": peak, "weight_decay": 0.1},
                "debug": {"seed": seed},
                "training": {"steps": STEPS, "seq_len": 128, "global_batch_size": -1}}  # fmt: skip
    yield from f"{head}Running with configs: {json.dumps(settings, indent=2)}".splitlines()
    yield f"{head}\x1b[34mModel llama3 debugmodel \x1b[31msize: 1,200,000 total parameters\x1b[39m"
    yield (
        f"{head}Trainer is initialized with local batch size 8, global batch size 64, gradient accumulation steps 8, "
        f"sequence length 128, total steps {STEPS} (warmup {WARMUP})"
    )
    for step, row in logged:
        if "eval/loss" in row:
            yield (
                f"{head}\x1b[33mvalidate step: {step:2}  \x1b[32mloss: {row['eval/loss']:7.4f}  "
                "\x1b[36mmemory:  1.00GiB(1.00%)  \x1b[34mtps: 1,000\x1b[39m"
            )
        else:
            yield (
                f"{head}\x1b[31mstep: {step:2}  \x1b[32mloss: {row['train/loss']:8.5f}  \x1b[38;2;180;60;0mgrad_norm: "
                f"{row['train/grad_norm']:7.4f}  \x1b[36mmemory:  1.00GiB(1.00%)  \x1b[34mtps: 1,000  "
                "\x1b[36mtflops: 1.00  \x1b[35mmfu: N/A\x1b[39m"
            )
    if end == "finished":
        yield f"{head}Training completed"


def _litgpt(peak: float, seed: int, logged: list[tuple[int, dict[str, float]]], end: str) -> Iterator[str]:
    import pprint

    settings = {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": peak, "weight_decay": 0.1}},
                "seed": seed, "train": {"global_batch_size": 64, "max_seq_length": 128, "max_steps": STEPS},
                "resume": False, "model_name": "pythia-14m"}  # fmt: skip
    yield from pprint.pformat(settings).splitlines()
    yield "Total parameters: 1,200,000"
    last = math.nan
    for step, row in logged:
        if "eval/loss" in row:
            last = row["eval/loss"]
            yield f"iter {8 * step}: val loss {last:.4f}, val time: 12.00 ms"
        else:
            yield (
                f"Epoch 1 | iter {8 * step} step {step} | loss train: {row['train/loss']:.3f}, val: n/a | "
                "iter time: 10.00 ms (step) remaining time: 0:00:01"
            )
    if end == "finished":
        yield f"Final evaluation | val loss: {last:.3f} | val ppl: {math.exp(last):.3f}"


if __name__ == "__main__":
    made = Path(sys.argv[2]).resolve()
    made.mkdir(parents=True, exist_ok=True)
    globals()[sys.argv[1]](made)
