"""Real tables and their right outcomes, also after columns are renamed, moved, dropped and added, and values change.

Each case names what is right of the file as it stands; a variation changes what must not matter and keeps that.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from lawfit.errors import Doubted, LogFormatError
from lawfit.ingest import Ingested, IngestOptions, read_file
from lawfit.records import Run

SEEDS: Final = range(3)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file, what is right of it, and other names that people give to its columns."""

    file: str
    options: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)  # field -> column that it is read from
    asked: Sequence[str] = ()  # codes of questions; then nothing else matters
    refused: str = ""  # words of a refusal
    runs: int | None = None
    losses: int | None = None
    rejected: int | None = None
    said: Sequence[str] = ()  # words among the notes
    loss_kind: str = ""
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)  # column -> other names for it
    idle: Sequence[str] = ()  # columns that may go without changing the outcome
    changed: Sequence[str] = ()  # columns of results whose values may change by a common factor
    best_lr: float | None = None  # of the runs with the lowest loss
    renamed: bool = False  # it is about the other names

    @property
    def columns_named(self) -> set[str]:
        """Columns that `said` names."""
        return {column for column in self.names for words in self.said if f"'{column}'" in words or column == words}


CASES: Final = (
    Case(
        file="c01_teacher_student_sweep.csv",
        columns={"params": "N", "tokens": "D", "loss": "val_loss", "batch_tokens": "batch_size"},
        runs=373,
        said=("count the samples of a batch",),
        names={"N": ("n_params", "params"), "D": ("data_tokens",), "val_loss": ("validation_loss", "eval/loss")},
        idle=("width", "n_hidden", "C", "init_loss", "iso_C"),
        changed=("val_loss",),
    ),
    Case(
        file="c02_lr_ablation.csv",
        asked=("ingest.missing_columns",),
        said=("parameter count", "batch size", "no parameter count"),
        names={"width": ("d_model", "hidden_size"), "lr": ("learning_rate",), "panel": ("figure", "experiment_part")},
        idle=("x",),
    ),
    Case(
        file="c03_no_lr_column.csv",
        columns={"params": "n_params", "tokens": "n_tokens", "loss": "val_loss"},
        losses=9,
        said=("no learning rate was logged",),
        names={"n_params": ("N", "param_count"), "n_tokens": ("D", "train_tokens"), "val_loss": ("eval_loss",)},
        idle=("flops", "device", "seed", "context_length", "batch_size", "max_steps", "run_name"),
        changed=("val_loss",),
    ),
    Case(
        file="c04c_runs_joined.jsonl",
        columns={"lr": "lr", "params": "n_params", "parametrization": "parameterization"},
        runs=25,
        names={"lr": ("learning_rate",), "n_params": ("num_params",), "parameterization": ("parametrization",)},
        idle=("approx_params", "wall_time_epoch_s", "val_tokens", "min_lr", "epochs"),
    ),
    Case(
        file="c06b_lr_absolute.csv",
        columns={"loss": "eval/paloma/macro_loss", "batch_sequences": "batch_size"},
        runs=14,
        said=("these settings vary too: ",),
        names={"attention": ("attn_kind", "attention_impl"), "lr": ("learning_rate", "config.lr")},
        idle=("hidden_dim",),
        changed=("eval/paloma/macro_loss",),
    ),
    Case(
        file="c06b_lr_absolute.csv",
        renamed=True,
        asked=("ingest.settings_or_seeds",),
        names={"attention": ("mixer", "variant", "kind_of_block", "model_name")},
        idle=("hidden_dim",),
    ),
    Case(
        file="c07_ladder_partial_runs.csv",
        columns={"lr": "lr", "loss": "eval/paloma/macro_loss", "steps": "target_steps"},
        runs=8,
        rejected=7,
        names={"target_steps": ("max_steps", "num_train_steps"), "lr": ("optimizer.lr",), "run": ("Name", "run_name")},
        idle=("hidden_dim",),
        best_lr=0.01245,
    ),
    Case(
        file="c09_sparse_designs_share_total_params.csv",
        columns={"params": "Na", "lr": "lr", "batch_sequences": "bs"},
        runs=240,
        names={"Na": ("active_params", "n_active", "activated_params"), "N": ("total_params",), "bs": ("batch_size",)},
        idle=("moe_name", "topk", "num_experts"),
        changed=("loss",),
    ),
    Case(
        file="c12_accuracy_fraction.csv",
        columns={"loss": "test_accuracy", "tokens": "samples_seen"},
        runs=7,
        said=("a score of which higher is better",),
        loss_kind="1 - score",
        names={"test_accuracy": ("val_acc", "eval/accuracy", "top1"), "samples_seen": ("examples_seen",)},
        best_lr=0.2,
    ),
    Case(
        file="c12_accuracy_percent.csv",
        columns={"loss": "test_accuracy"},
        runs=7,
        said=("/ 100, a score of which higher is better",),
        loss_kind="1 - score",
        names={"test_accuracy": ("val_acc", "accuracy"), "lr": ("learning_rate",)},
        best_lr=0.2,
    ),
    Case(
        file="c12_error_fraction.csv",
        columns={"loss": "error"},
        runs=7,
        loss_kind="error rate",
        names={"error": ("test_error", "val_err"), "lr": ("learning_rate",)},
        changed=("error",),
        best_lr=0.2,
    ),
    Case(
        file="c13_protein_isoflop.csv",
        asked=("ingest.batch_unit", "ingest.loss_by_its_words"),
        said=("--batch-unit", "cd_val_loss"),
        idle=("budget", "budget_label", "total_gflops", "achieved_flops", "params_label"),
        names={"batch": ("batch_size", "bs")},
    ),
    Case(
        file="c13_protein_isoflop.csv",
        options={"batch_unit": "sequences", "seq_len": 8192},
        columns={"params": "parameter_count", "tokens": "total_tokens", "loss": "cd_val_loss"},
        names={"batch": ("batch_size", "bs"), "params_planned": ("planned_params",)},
        idle=("budget", "budget_label", "total_gflops", "achieved_flops", "params_label"),
    ),
    Case(
        file="c14b_optuna_lm.csv",
        columns={"lr": "params_lr", "loss": "value", "weight_decay": "params_weight_decay"},
        runs=4,
        rejected=2,
        names={"params_lr": ("params_learning_rate",), "user_attrs_n_params": ("user_attrs_params",)},
        idle=("number",),
        best_lr=0.002,
    ),
    Case(
        file="c15_hpo_mae.csv",
        refused="nothing to fit",
        names={"lrate": ("lr", "learning_rate"), "loss": ("mae", "error")},
        idle=("clip", "optimizer"),
        changed=("loss",),
    ),
    Case(
        file="c17_lr_falls_with_tokens.csv",
        columns={"lr": "lr", "params": "params", "tokens": "tokens", "batch_tokens": "batch_tokens", "loss": "loss"},
        runs=50,
        names={"lr": ("peak_lr", "learning_rate"), "params": ("N",), "tokens": ("D",)},
        idle=("hidden_dim",),
        changed=("loss",),
    ),
    Case(
        file="c20_loss_and_bpb.csv",
        asked=("ingest.high_loss",),
        said=("'val_bpb' would fit", "--map val_bpb=loss"),
        names={"val_loss": ("eval_loss", "validation/loss"), "lr": ("learning_rate",)},
        idle=("train_min", "head_dim", "train_loss"),
    ),
    Case(
        file="c22_runs_called_curves.csv",
        asked=("ingest.missing_columns", "ingest.batch_below_sequence"),
        said=("parameter count", "--batch-unit"),
        names={"run_name": ("run", "name", "id"), "batch_size": ("bs", "global_batch_size")},
        idle=("n_layers",),
        changed=("val_loss",),
    ),
    Case(
        file="c24_batch_by_beta2_bpb.csv",
        columns={"loss": "eval/paloma/c4_en/bpb", "batch_sequences": "batch_size", "params": "active_params"},
        runs=35,
        said=("these settings vary too: ",),
        loss_kind="bits per byte",
        names={"beta2": ("adam_beta2", "optimizer.beta2", "b2"), "lr": ("learning_rate",)},
        idle=("hidden_dim",),
        changed=("eval/paloma/c4_en/bpb",),
    ),
    Case(
        file="c26_mlflow_runs.csv",
        columns={"lr": "params.lr", "loss": "metrics.val_loss", "batch_sequences": "params.batch_size"},
        runs=3,
        rejected=2,
        names={"params.lr": ("params.learning_rate",), "metrics.lr": ("metrics.learning_rate",)},
        idle=("experiment_id", "artifact_uri", "metrics.train_loss", "tags.mlflow.runName"),
        best_lr=0.01,
    ),
    Case(
        file="c27_millions_and_billions.csv",
        asked=("ingest.unit_hinted",),
        said=("model_mparams",),
        names={"tokens_B": ("tokens [B]", "tokens (billions)"), "lr": ("learning_rate",)},
        changed=("loss",),
    ),
    Case(
        file="c27_millions_and_billions.csv",
        renamed=True,
        asked=("ingest.odd_sizes",),
        names={"model_mparams": ("model_params", "params", "N"), "tokens_B": ("tokens [B]",)},
    ),
    Case(
        file="c27b_params_in_millions.csv",
        asked=("ingest.unit_hinted",),
        said=("model_mparams",),
        names={"tokens": ("n_tokens", "D"), "lr": ("learning_rate",)},
    ),
    Case(
        file="c28_levanter_wandb_runs.csv",
        columns={"lr": "optimizer.learning_rate", "loss": "eval/tokenized/contacts-v1-val/loss"},
        runs=4,
        names={"train/loss": ("train_loss", "training/loss"), "optim/learning_rate": ("optim/lr",)},
        idle=("Runtime", "model.hidden_dim"),
    ),
    Case(
        file="c31_config_lr_and_logged_lr.csv",
        columns={"lr": "optimizer.lr", "loss": "validation_metrics/loss"},
        runs=4,
        names={"lr": ("learning_rate", "metrics.lr"), "loss_metrics/global_avg_loss": ("train/global_avg_loss",)},
        best_lr=0.01,
    ),
)  # fmt: skip


def rows_of(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    return list(csv.DictReader(io.StringIO(text)))


def write(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def varied(case: Case, rows: list[dict[str, Any]], rng: random.Random) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The same evidence in another dress: rows, and what each column is called now."""
    called = {
        column: rng.choice([*names] if case.renamed else [column, *names]) for column, names in case.names.items()
    }
    gone = {column for column in case.idle if rng.random() < 0.5}
    names = list(dict.fromkeys(name for row in rows for name in row))
    order = [name for name in names if name not in gone]
    rng.shuffle(order)
    factor = {column: rng.uniform(0.95, 1.05) for column in case.changed}
    made = []
    for number, row in enumerate(rows):
        new: dict[str, Any] = {"started_at": f"2026-03-{1 + number % 28:02d} 10:0{number % 10}:00"}
        for name in order:
            value = row.get(name, "")
            if name in factor and value not in ("", None):
                value = float(value) * factor[name]
            if name in row:
                new[called.get(name, name)] = value
        new |= {"hostname": f"node{rng.randrange(9)}", "_runtime": round(rng.uniform(1e3, 9e3), 5)}
        made.append(new)
    rng.shuffle(made)
    return made, called


@pytest.mark.parametrize("seed", [None, *SEEDS], ids=lambda seed: "as it is" if seed is None else f"variation {seed}")
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join([case.file.split("_")[0], *case.options]))
def test_outcome(case: Case, seed: int | None, shared_data: Path, tmp_path: Path) -> None:
    path, called = shared_data / "cases" / case.file, dict[str, str]()
    seed = 99 if seed is None and case.renamed else seed
    if seed is not None:
        rows, called = varied(case, rows_of(path), random.Random(f"{case.file}{seed}"))
        path = write(rows, tmp_path / case.file)
    check_outcome(case, path, called)


def check_outcome(case: Case, path: Path, called: Mapping[str, str]) -> None:
    def renamed(text: str) -> str:
        for column in case.columns_named:
            text = text.replace(column, called.get(column, column))
        return text

    found: Ingested | LogFormatError
    try:
        found = read_file(path, IngestOptions(**case.options))
    except LogFormatError as error:
        found = error
    if isinstance(found, Doubted):
        codes = {question["code"] for question in found.questions}
        assert case.asked, f"asked, and should not be: {found}"
        assert set(case.asked) <= codes, str(found)
        assert all(renamed(words) in str(found) for words in case.said), str(found)
        return
    if isinstance(found, LogFormatError):
        assert case.refused, f"refused, and should not be: {found}"
        assert case.refused in str(found)
        return
    assert not case.asked, f"nothing asked; read as {found.columns}"
    assert not case.refused, f"not refused; read as {found.columns}"
    check_reading(case, found, called)
    assert all(renamed(words) in " ".join(found.notes) for words in case.said), found.notes


def check_reading(case: Case, found: Ingested, called: Mapping[str, str]) -> None:
    for name, column in case.columns.items():
        assert found.columns[name].split(" (")[0] == called.get(column, column)
    runs = [run for sweep in found.sweeps for run in sweep.runs]
    if case.runs is not None:
        assert len(runs) == case.runs
    if case.losses is not None:
        assert sum(len(sweep.rows) for sweep in found.losses) == case.losses
    if case.rejected is not None:
        assert len(found.rejections) == case.rejected
    if case.loss_kind:
        assert {sweep.recipe.loss_kind for sweep in found.sweeps} == {case.loss_kind}
    if case.best_lr is not None:
        assert best(runs).lr == case.best_lr


def best(runs: Sequence[Run]) -> Run:
    return min((run for run in runs if run.loss is not None), key=lambda run: run.loss or 0.0)
