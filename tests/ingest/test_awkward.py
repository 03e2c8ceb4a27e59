"""Spreadsheets as newcomers have them: read right and said, or asked about; the truth behind all is one sweep."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pytest

from lawfit import pipeline
from lawfit.errors import Doubted
from lawfit.ingest import IngestOptions, read_file
from lawfit.words import told

SCALES: Final = ((2e7, 4e8), (6e7, 1.2e9), (1.2e8, 2.4e9))
RATES: Final = (1e-3, 2e-3, 4e-3, 8e-3)
BATCH: Final = 131072


def loss_of(n: float, d: float, lr: float) -> float:
    return round(1.7 + 400 / n**0.34 + 400 / d**0.28 + 0.05 * math.log(lr / 0.003) ** 2, 4)


TRUTH: Final = [(n, d, lr, loss_of(n, d, lr)) for n, d in SCALES for lr in RATES]
Row = Mapping[str, Any]


def comma(value: float) -> str:
    return f"{value:g}".replace(".", ",")


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One way of writing the sweep down."""

    row: Callable[[float, float, float, float], Row]
    asked: str = ""  # the only code of question
    answers: Mapping[str, Any] | None = None  # with which it is read
    delimiter: str = ","
    above: str = ""
    exact: bool = True  # the losses come back to four digits


SHEETS: Final[Mapping[str, Sheet]] = {
    "German, millions and billions": Sheet(
        row=lambda n, d, lr, y: {
            "N [M]": comma(n / 1e6),
            "D [B]": comma(d / 1e9),
            "lr x1000": comma(lr * 1e3),
            "Batch (tokens)": BATCH,
            "val loss": f"{y:.3f}".replace(".", ","),
        },
        delimiter=";",
        exact=False,
    ),
    "titles, units in cells": Sheet(
        row=lambda n, d, lr, y: {
            "Params": f"{n / 1e6:g}M",
            "Tokens": f"{d / 1e9:g}B",
            "Batch tokens": "131,072",
            "Learning rate": lr,
            "Final loss": y,
        },
        above="Sweeps of the spring,,,,\n\n",
    ),
    "thousands": Sheet(
        row=lambda n, d, lr, y: {
            "params": f"{n:,.0f}",
            "tokens": f"{d:,.0f}",
            "batch_tokens": f"{BATCH:,}",
            "lr": lr,
            "loss": y,
        }
    ),
    "powers of ten": Sheet(
        row=lambda n, d, lr, y: {
            "params": n,
            "tokens": d,
            "batch_tokens": BATCH,
            "log10(lr)": round(math.log10(lr), 9),
            "loss": y,
        }
    ),
    "logarithms of some base": Sheet(
        row=lambda n, d, lr, y: {
            "params": n,
            "tokens": d,
            "batch_tokens": BATCH,
            "log_lr": round(math.log10(lr), 9),
            "loss": y,
        },
        asked="unit_hinted",
        answers={"units": {"log_lr": "log10"}},
    ),
    "multiples": Sheet(
        row=lambda n, d, lr, y: {"params": n, "tokens": d, "batch_tokens": BATCH, "lr": f"{lr / 2e-3:g}x", "loss": y},
        asked="rate_multiples",
        answers={"units": {"lr": "0.002"}},
    ),
    "muP, base rate and rate": Sheet(
        row=lambda n, d, lr, y: {
            "params": n,
            "tokens": d,
            "batch_tokens": BATCH,
            "use_mup": True,
            "base_lr": lr,
            "lr": lr * 1e3 / n**0.5,
            "loss": y,
        },
        asked="which_lr",
        answers={"column_map": {"base_lr": "lr"}},
    ),
    "perplexity": Sheet(
        row=lambda n, d, lr, y: {
            "params": n,
            "tokens": d,
            "batch_tokens": BATCH,
            "lr": lr,
            "val_ppl": math.exp(y),
        }
    ),
    "perplexity called loss": Sheet(
        row=lambda n, d, lr, y: {"params": n, "tokens": d, "batch_tokens": BATCH, "lr": lr, "loss": math.exp(y)},
        asked="high_loss",
        answers={"metric": "perplexity"},
    ),
    "an accuracy first": Sheet(
        row=lambda n, d, lr, y: {
            "accuracy": 1 / y,
            "train/loss": y - 0.1,
            "params": n,
            "tokens": d,
            "batch_tokens": BATCH,
            "lr": lr,
            "eval/loss": y,
        }
    ),
    "a tracker's table": Sheet(
        row=lambda n, d, lr, y: {
            "State": "finished",
            "summary.lr": 1e-5,
            "summary.train_loss": y - 0.2,
            "summary.val_loss": y,
            "config.optimizer.lr": lr,
            "config.model.n_params": n,
            "config/data/tokens": d,
            "config.batch_tokens": BATCH,
        }
    ),
    "hparams": Sheet(
        row=lambda n, d, lr, y: {
            "hparams/lr": lr,
            "hparams/num_params": n,
            "hparams/tokens": d,
            "hparams/batch_tokens": BATCH,
            "metrics/eval_loss": y,
        }
    ),
    "parts of a batch": Sheet(
        row=lambda n, d, lr, y: {
            "params": n,
            "tokens": d,
            "micro_batch_size": 8,
            "gradient_accumulation_steps": 2,
            "world_size": 4,
            "seq_len": 2048,
            "lr": lr,
            "loss": y,
        }
    ),
    "accumulated": Sheet(
        row=lambda n, d, lr, y: {
            "params": n,
            "tokens": d,
            "batch_size": 16,
            "gradient_accumulation_steps": 4,
            "seq_len": 2048,
            "lr": lr,
            "loss": y,
        },
        asked="accumulated",
        answers={"column_map": {"batch_size": "micro_batch"}, "constants": {"devices": "1"}},
    ),
    "thousands parted by dots": Sheet(
        row=lambda n, d, lr, y: {
            "Parameter": f"{n:,.0f}".replace(",", "."),
            "tokens": f"{d:,.0f}".replace(",", "."),
            "batch_tokens": f"{BATCH:,}".replace(",", "."),
            "lr": comma(lr),
            "val_loss": comma(y),
        },
        answers={"column_map": {"Parameter": "params"}},
        delimiter=";",
    ),
    "thousands parted by dots in some columns": Sheet(
        row=lambda n, d, lr, y: {
            "params": f"{n:,.0f}".replace(",", "."),
            "tokens": f"{d:,.0f}".replace(",", "."),
            "batch_tokens": f"{BATCH:,}".replace(",", "."),
            "lr": lr,
            "val_loss": y,
        },
        asked="odd_batch",
        answers={"units": {"batch_tokens": "K"}},
    ),
    "a batch in thousands that does not say so": Sheet(
        row=lambda n, d, lr, y: {
            "params": n,
            "tokens": d,
            "batch_tokens": BATCH / 1e3,
            "lr": lr,
            "val_loss": y,
        },
        asked="odd_batch",
        answers={"units": {"batch_tokens": "1e3"}},
    ),
    "units glued to their nouns": Sheet(
        row=lambda n, d, lr, y: {
            "params (M)": n / 1e6,
            "budget (Mtok)": d / 1e6,
            "batch (ktok)": BATCH / 1e3,
            "lr": lr,
            "loss": y,
        },
        answers={"column_map": {"budget (Mtok)": "tokens"}},
    ),
    "what was seen beside what was planned, the whole batch beside its part": Sheet(
        row=lambda n, d, lr, y: {
            "params": 3 * n,
            "activated": n,
            "max_tokens": 3e11,
            "tokens_seen": d,
            "batch_size": 16,
            "effective_batch_size": BATCH // 2048,
            "seq_len": 2048,
            "lr": lr,
            "loss": y,
        },
    ),
    "a loss on training data beside one that is called otherwise": Sheet(
        row=lambda n, d, lr, y: {
            "params": n,
            "tokens": d,
            "batch_tokens": BATCH,
            "lr": lr,
            "train/loss": y - 0.1,
            "final/val": y,
        },
        asked="two_columns",
        answers={"column_map": {"final/val": "loss"}},
    ),
    "a rate and multiples beside it": Sheet(
        row=lambda n, d, lr, y: {
            "params": n,
            "tokens": d,
            "batch_tokens": BATCH,
            "lr": lr,
            "lr_mult": 512 / n**0.5,
            "loss": y,
        },
        asked="multiplied_rate",
        answers={"column_map": {"lr": "lr"}},
    ),
    "a base rate, its multiples written beside the product": Sheet(
        row=lambda n, d, lr, y: {
            "params": n,
            "tokens": d,
            "batch_tokens": BATCH,
            "lr": lr,
            "lr_mult": lr / 0.002,
            "loss": y,
        },
    ),
    "a batch that is one device's share": Sheet(
        row=lambda n, d, lr, y: {
            "num_params": n,
            "per_device_train_batch_size": 2,
            "train_batch_size": 2,
            "seq_length": 2048,
            "learning_rate": lr,
            "eval_loss": y,
            "total_tokens": d,
        },
        answers={"column_map": {"train_batch_size": "extra"}, "constants": {"devices": "8", "accumulation": "4"}},
        asked="batch_of_one_device",
    ),
    "the whole batch beside its parts": Sheet(
        row=lambda n, d, lr, y: {
            "params": n,
            "tokens": d,
            "micro_batch_size": 2,
            "gradient_accumulation_steps": 4,
            "num_gpus": 4,
            "global_batch_size": 64,
            "seq_len": 2048,
            "lr": lr,
            "loss": y,
        },
    ),
    "passes over a dataset": Sheet(
        row=lambda n, d, lr, y: {
            "params": n,
            "Epochs": d / 1e8,
            "config.dataset_tokens": 1e8,
            "batch_tokens": BATCH,
            "lr": lr,
            "loss": y,
        },
    ),
    "passes over a dataset in billions": Sheet(
        row=lambda n, d, lr, y: {
            "dataset_tokens (B)": 0.2,
            "params": n,
            "num_train_epochs": d / 2e8,
            "batch_tokens": BATCH,
            "lr": lr,
            "loss": y,
        },
    ),
    "passes beside what was seen": Sheet(
        row=lambda n, d, lr, y: {
            "dataset_tokens": 1e8,
            "params": n,
            "tokens_seen": d,
            "epochs": 7,
            "batch_tokens": BATCH,
            "lr": lr,
            "loss": y,
        },
    ),
    "numbers in millions and billions": Sheet(
        row=lambda n, d, lr, y: {"params": n / 1e6, "tokens": d / 1e9, "batch_tokens": BATCH, "lr": lr, "loss": y},
        asked="odd_sizes",
        answers={"units": {"params": "M", "tokens": "B"}},
    ),
    "model sizes as names": Sheet(
        row=lambda n, d, lr, y: {
            "model": f"{n / 1e6:g}M",
            "# tokens": d,
            "Global batch size (tokens)": BATCH,
            "Peak LR": f"{lr:.0e}",
            "Val. loss (nats)": y,
        },
        asked="missing_columns",
        answers={"column_map": {"model": "params"}},
    ),
    "no batch": Sheet(
        row=lambda n, d, lr, y: {"N": n, "D": d, "lr": lr, "loss": y},
        asked="missing_columns",
        answers={"constants": {"batch_tokens": "131072"}},
    ),
    "rates under a name of their own": Sheet(
        row=lambda n, d, lr, y: {"params": n, "tokens": d, "batch_tokens": BATCH, "lr-AdamW/pg1": lr, "val_loss": y},
        asked="lr_by_its_words",
        answers={"column_map": {"lr-AdamW/pg1": "lr"}},
    ),
}  # fmt: skip


def written(sheet: Sheet, path: Path) -> Path:
    rows = [sheet.row(*run) for run in TRUTH]
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(sheet.above)
        writer = csv.DictWriter(file, list(rows[0]), delimiter=sheet.delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("name", SHEETS)
def test_is_asked_or_read_right(name: str, tmp_path: Path) -> None:
    sheet = SHEETS[name]
    path = written(sheet, tmp_path / "sheet.csv")
    if sheet.asked:
        with pytest.raises(Doubted) as doubted:
            read_file(path)
        assert {question["code"] for question in doubted.value.questions} == {f"ingest.{sheet.asked}"}
    found = read_file(path, IngestOptions(**(sheet.answers or {})))
    runs = [run for sweep in found.sweeps for run in sweep.runs]
    assert len(found.sweeps) == 1
    assert [(run.params, run.tokens, run.batch_tokens) for run in runs] == [(n, d, BATCH) for n, d, *_ in TRUTH]
    assert [run.lr for run in runs] == pytest.approx([lr for *_, lr, _ in TRUTH], rel=1e-6)
    digits = 5e-4 if not sheet.exact else 1e-9
    assert [run.loss for run in runs] == pytest.approx([y for *_, y in TRUTH], abs=digits)


def test_nested_objects(tmp_path: Path) -> None:
    lines = [
        {"model": {"width": 256, "n_params": n}, "optimizer": {"lr": lr}, "results": {"val": {"loss": y}},
         "training": {"tokens": d, "batch": {"tokens": BATCH}}}
        for n, d, lr, y in TRUTH
    ]  # fmt: skip
    (tmp_path / "s.json").write_text(json.dumps(lines, indent=1))
    (sweep,) = read_file(tmp_path / "s.json").sweeps
    assert [(run.params, run.tokens, run.lr, run.loss) for run in sweep.runs] == TRUTH


def test_parameters_tokens_and_loss_alone(tmp_path: Path) -> None:
    path = tmp_path / "sizes.csv"
    path.write_text("N,D,L\n" + "".join(f"{n},{d},{loss_of(n, d, 0.003)}\n" for n, d in SCALES))
    (sweep,) = read_file(path).losses
    assert [(row.params, row.tokens) for row in sweep.rows] == list(SCALES)


def plain(n: float, d: float, lr: float, y: float) -> dict[str, Any]:
    return {"params": n, "tokens": d, "batch_tokens": BATCH, "lr": lr, "val_loss": y}


def as_pandas(orient: Any) -> Callable[[list[dict[str, Any]]], str]:
    return lambda rows: str(pd.DataFrame(rows).to_json(orient=orient))


def as_objects(show: Callable[[Any], str]) -> Callable[[list[dict[str, Any]]], str]:
    """As a loop over a tracker's runs writes them: a column of settings and one of results."""

    def text(rows: list[dict[str, Any]]) -> str:
        frame = pd.DataFrame(
            {
                "summary": [show({"val_loss": row["val_loss"], "_step": 7, "lr": 1e-9}) for row in rows],
                "config": [show({k: v for k, v in row.items() if k != "val_loss"} | {"x": None}) for row in rows],
                "name": [f"run-{number}" for number in range(len(rows))],
            }
        )
        return str(frame.to_csv(index=False))

    return text


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        *((".json", as_pandas(orient)) for orient in ("columns", "index", "split", "records", "table")),
        (".json", lambda rows: json.dumps({f"run-{k}": row for k, row in enumerate(rows)})),
        (".json", lambda rows: json.dumps({"made": "in spring", "runs": {f"r{k}": r for k, r in enumerate(rows)}})),
        (".json", lambda rows: json.dumps({f"run-{k}": row for k, row in enumerate(rows)}, indent=2)),
        (".csv", as_objects(json.dumps)),
        (".csv", as_objects(repr)),
    ],
)
def test_frames_and_objects_however_written(
    suffix: str, text: Callable[[list[dict[str, Any]]], str], tmp_path: Path
) -> None:
    path = tmp_path / f"sheet{suffix}"
    path.write_text(text([plain(*row) for row in TRUTH]))
    (sweep,) = read_file(path).sweeps
    found = [(run.params, run.tokens, run.lr, run.loss, run.batch_tokens) for run in sweep.runs]
    assert found == [(*row, BATCH) for row in TRUTH]


def test_python_prints_what_is_not_finite(tmp_path: Path) -> None:
    rows = [plain(*row) for row in TRUTH]
    rows[2]["val_loss"] = math.nan
    path = tmp_path / "sheet.csv"
    path.write_text(as_objects(repr)(rows))
    (sweep,) = read_file(path).sweeps
    assert [run.status.value for run in sweep.runs[1:4]] == ["finished", "diverged", "finished"]


@pytest.mark.parametrize("indent", [None, 1])
def test_the_parts_of_one_run_are_no_runs(tmp_path: Path, indent: int | None) -> None:
    run = {
        "model": {"name": "small", "n_params": 2e7, "layers": 4},
        "optimizer": {"name": "adamw", "lr": 0.002, "beta2": 0.95},
        "training": {"name": "first", "tokens": 4e8, "batch_tokens": BATCH},
        "results": {"val_loss": 3.5},
    }
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run, indent=indent))
    (sweep,) = read_file(path).sweeps
    assert [(run.params, run.lr, run.loss) for run in sweep.runs] == [(2e7, 0.002, 3.5)]


class TestPointsOfRuns:
    """Several rows a run: asked, whatever the names and the order; never runs of their own in silence."""

    @staticmethod
    def written(path: Path, name: str, progress: str, *, upwards: bool = True, way: str = "grad norm") -> Path:
        lines = [f"{name},params,{progress},batch_tokens,lr,val_loss,{way}"]
        for number, (n, d, lr, y) in enumerate(TRUTH):
            parts = (0.25, 0.5, 0.75, 1.0) if upwards else (1.0, 0.75, 0.5, 0.25)
            far = d if progress == "tokens" else d / BATCH
            lines += [
                f"run-{number},{n},{far * part:.0f},{BATCH},{lr},{y + (1 - part)},{part + number}" for part in parts
            ]
        path.write_text("\n".join(lines) + "\n")
        return path

    @pytest.mark.parametrize("upwards", [True, False])
    @pytest.mark.parametrize(("name", "progress"), [("run", "tokens"), ("run_name", "step"), ("name", "steps")])
    def test_are_asked_about(self, tmp_path: Path, name: str, progress: str, upwards: bool) -> None:
        path = self.written(tmp_path / "sheet.csv", name, progress, upwards=upwards)
        with pytest.raises(Doubted) as doubted:
            read_file(path)
        assert [question["code"] for question in doubted.value.questions] == ["ingest.points_or_runs"]
        (sweep,) = read_file(path, IngestOptions(column_map={name: "run_id"})).sweeps
        assert [(run.params, run.lr, run.loss) for run in sweep.runs] == [(n, lr, y) for n, _, lr, y in TRUTH]
        assert [run.tokens for run in sweep.runs] == pytest.approx([d for _, d, *_ in TRUTH], rel=1e-3)
        (every,) = read_file(path, IngestOptions(column_map={name: "extra"})).sweeps
        assert len(every.runs) == 4 * len(TRUTH)

    def test_an_id_that_repeats_with_another_setting_is_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / "sheet.csv"
        path.write_text(
            "run_id,params,tokens,batch_tokens,lr,loss\n"
            + "".join(f"a{n:g},{n},{d},{BATCH},{lr},{y}\n" for n, d, lr, y in TRUTH)
        )
        found = read_file(path)
        assert len(found.rejections) == len(TRUTH) - len(SCALES)
        assert all("ids must differ" in rejection.reason for rejection in found.rejections)

    def test_names_that_repeat_over_rates_are_no_runs(self, tmp_path: Path) -> None:
        path = tmp_path / "sheet.csv"
        path.write_text(
            "run,params,tokens,batch_tokens,lr,loss\n"
            + "".join(f"s{n:g},{n},{d},{BATCH},{lr},{y}\n" for n, d, lr, y in TRUTH)
        )
        (sweep,) = read_file(path).sweeps
        assert len(sweep.runs) == len(TRUTH)


@pytest.mark.parametrize("name", ["final_loss", "val_loss", "loss"])
def test_a_loss_that_is_empty_is_not_replaced_in_silence(name: str, tmp_path: Path) -> None:
    """What stands in for it is said."""
    settings = [(params, lr) for params in (1e8, 2e8) for lr in (1e-3, 2e-3)]
    rows = [f"{params},2e9,65536,{lr},,{1.2 + k / 100}" for k, (params, lr) in enumerate(settings)]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join([f"params,tokens,batch_tokens,lr,{name},bits_per_byte", *rows]) + "\n", encoding="utf-8")
    with pipeline.open_store("sqlite://") as store:
        report = pipeline.ingest(store, path)
    assert f"the loss is read from 'bits_per_byte', as {name} holds no number in any row" in str(told(report.notes))
