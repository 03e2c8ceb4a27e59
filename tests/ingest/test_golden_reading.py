"""All that is said of awkward tables: columns, notes, rows refused with their reasons, recipes. None of it moves.

Whether it is right has tests of its own; these notice what no such test looks at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from lawfit.errors import LogFormatError, NoRun
from lawfit.ingest import IngestOptions, read_file
from lawfit.ingest.curves import curve_columns, read_curves, read_rated_curves
from lawfit.ingest.formats import read_table
from lawfit.ingest.gradient_norms import read_gradient_norms
from lawfit.ingest.targets import is_target_table, read_targets
from tests.golden_numbers import check
from tests.ingest.tables import csv_text, rows

# Changes of one cell of a good row, each a row.
CELLS: Final[Mapping[str, Sequence[Any]]] = {
    "n_params": ["20M", "1,200,000", "0", "-5", "1e300", "9e299", "", "6e7 params", "0x1F"],
    "n_tokens": ["524287", "519000", "518000", "1.2B", "nan", "inf"],
    "learning_rate": ["0,002", "0.2%", "%", "1e-3.", "true", "2e-3x", "٣", "a" * 45, "0.0", "-0.1"],
    "final_loss": ["nan", "inf", "-1", "0", "1e300", "9e299", "", "n/a", "3.25 nats"],
    "steps": ["2289", "2400", "2404", "2403.5", "10000", "0"],
    "seed": ["1", "1.0", "1.5", "-3", "9223372036854775807", "9223372036854775808", "x"],
    "weight_decay": ["0", "-0.1", "0.1", "inf", "1e300"],
    "diverged": ["yes", "0", "T", "maybe", "2"],
    "status": ["Finished", "crashed", "running", "diverged", "nan", "completed"],
    "completed": ["true", "false", ""],
    "note": ["a b", "007", "1e3", "1000", "nan", "-"],
}
NEEDED: Final = ("n_params", "n_tokens", "batch_size_tokens", "learning_rate", "final_loss")
TABLES: Final[Mapping[str, tuple[list[dict[str, Any]], dict[str, Any]]]] = {
    "recipes": (
        rows(
            {"optimizer": "AdamW", "schedule": "cosine", "data": "c4", "use_mup": "yes", "seq_len": 1024},
            {"optimizer": "adamw", "schedule": "cosine", "data": "c4", "use_mup": "no", "seq_len": 1024},
            {"optimizer": "muon", "schedule": "", "data": "C4 (en)", "use_mup": "no", "seq_len": 2048},
            {"optimizer": "muon", "schedule": "", "data": "C4-en", "use_mup": "no", "seq_len": 2048},
            {"optimizer": "muon", "n_params_kind": "non embedding", "weight_decay_kind": "Independent"},
            {"optimizer": "muon", "n_params_kind": "blocks only", "weight_decay_kind": "coupled"},
        ),
        {},
    ),
    "sequences": (
        rows(
            {"batch_size_tokens": ..., "global_batch_size": "256"}, {"batch_size_tokens": ..., "global_batch_size": "0"}
        ),
        {"batch_unit": "sequences", "seq_len": 2048, "recipe": "  named  "},
    ),
    "both batches": (
        rows(
            {"batch_sequences": "256", "seq_len": "2048"},
            {"batch_sequences": "257", "seq_len": "2048"},
            {"batch_sequences": "255", "seq_len": ""},
            {"batch_sequences": "", "batch_size_tokens": "", "seq_len": "2048"},
        ),
        {},
    ),
    "losses": (
        rows(
            {"train_loss": "3.1", "val_loss": "3.3", "train_loss_ema": "3.2", "final_loss": ...},
            {"train_loss": "3.0", "val_loss": "3.2", "train_loss_ema": "3.1", "final_loss": ...},
        ),
        {},
    ),
    "smoothed in nine of ten": (
        rows(*({"val_loss": 3 + k / 10, "val_loss_smoothed": 3 if k else "", "final_loss": ...} for k in range(10))),
        {},
    ),
    "smoothed in few": (
        rows(
            *({"val_loss": 3 + k / 10, "val_loss_smoothed": 3 if k > 1 else "", "final_loss": ...} for k in range(10))
        ),
        {},
    ),
    "dotted names": (
        rows(
            {"optimizer.lr": "0.001", "config.learning_rate": "0.001"},
            {"optimizer.lr": "0.003", "config.learning_rate": "0.1"},
        ),
        {},
    ),
    "replicates": (
        rows(*({"run_id": "", "seed": seed, "beta2": beta} for seed in (1, 1, 2) for beta in (0.9, 0.95))),
        {},
    ),
    "repeated": (rows({}, {"run_id": "r1"}, {"run_id": "r1", "final_loss": "3.5"}), {}),
    "names as ids": (
        [{**row, "name": f"n{k % 2}"} for k, row in enumerate(rows({"run_id": ...}, {"run_id": ...}))],
        {},
    ),
    "perplexities": (rows(*({"final_loss": loss} for loss in (14.9, 15.0, 15.1, 30, 40))), {}),
    "thousands": (
        rows(*({"n_params": n, "learning_rate": lr} for n, lr in ((60, 0.5), (299, 1), (300, 2), (125, 1)))),
        {},
    ),
    "settings": (
        rows(
            {"beta2": 0.9, "weight_decay": 0.1, "d_model": 64, "my note": "x"},
            {"beta2": 0.95, "weight_decay": 0.1, "d_model": 128, "my note": "y"},
            {"beta2": 0.95, "weight_decay": 0.2, "d_model": 64, "my note": "z"},
        ),
        {"recipe_fields": {"optimizer": "adamw", "lab": " ours "}},
    ),
    "stated otherwise": (rows({"optimizer": "sgd"}, {"optimizer": "AdamW"}), {"recipe_fields": {"optimizer": "adamw"}}),
    "no tokens": (rows({"n_tokens": ..., "steps": "1000"}, {"n_tokens": ..., "steps": ""}), {}),
    "mapped": (rows({"kept": 1, "my_loss": 3.0}), {"column_map": {"my_loss": "loss", "kept": "extra"}}),
    # those that are refused as a whole
    "nothing": (rows(dict.fromkeys(NEEDED, ...)), {}),
    "one device": (rows({"batch_size_tokens": ..., "per_device_train_batch_size": 8}), {}),
    "unit of the batch": (rows({"batch_size_tokens": ..., "batch_size": 256}), {}),
    "length of a sequence": (rows({"batch_size_tokens": ..., "batch_size": 256}), {"batch_unit": "sequences"}),
    "empty column": (rows({"final_loss": ..., "val_loss": "", "lr_schedule": ""}), {}),
    "a score": (rows({"accuracy": 0.5}), {"column_map": {"accuracy": "loss"}}),
    "mapped twice": (rows({}), {"column_map": {"final_loss": "loss", "n_params": "loss"}}),
    "no such field": (rows({}), {"column_map": {"final_loss": "los"}}),
    "no such column": (rows({}), {"column_map": {"final_los": "loss"}}),
    "ambiguous": (rows({"final_loss": 3.0, "LR": 0.1, "lr": 0.2, "learning_rate": ...}), {}),
    "no numbers": (rows(dict.fromkeys(NEEDED, "x")), {}),
}
GOOD_CSV: Final = csv_text(rows({}, {"final_loss": "3.5"}))
NESTED: Final = (
    b'{"run": {"id": "a"}, "model": {"n": 6e7}, "tokens": 1e9, "batch_tokens": 1e5, "lr": 0.001, "loss": 3.1}\n'
    b'{"run": {"id": "b"}, "model": {"n": 60000}, "tokens": 1e9, "batch_tokens": 1e5, "lr": 0.2, "loss": NaN}\n'
    b'{"run": {"id": "c"}, "model": {"n": 12345678901234567890}, "tokens": 1e9, "batch_tokens": 1e5, "lr": 1e-3,'
    b' "loss": 3, "tags": ["x", 1]}\n{"lr": 1, "lr": 2}\n[1]\n{\n"text"\n' + b"[" * 5000
)
FILES: Final[Mapping[str, bytes]] = {
    "five latin lines.csv": GOOD_CSV.encode() + b"".join(b"r\xe9%d,6e7,1e9,1e5,1e-3,3.2\n" % k for k in range(5)),
    "six latin lines.csv": GOOD_CSV.encode() + b"".join(b"r\xe9%d,6e7,1e9,1e5,1e-3,3.2\n" % k for k in range(6)),
    "nul.csv": GOOD_CSV.encode() + b"r\x00,6e7,1e9,1e5,1e-3,3.2\n",
    "ragged.csv": GOOD_CSV.encode() + b"r3,6e7\nr4,6e7,1e9,1e5,1e-3,3.2,,\n,,,,,\n\nr5,6e7,1e9,1e5,1e-3,3.2,x\n",
    "quotes.csv": GOOD_CSV.encode() + b'"r3,6e7,1e9,1e5,1e-3,3.2\nr4,6e7,1e9,1e5,1e-3,3.2\n"r""5",6e7,1e9,1e5,1e-3,3\n',
    "semicolons.csv": GOOD_CSV.replace(",", ";").encode(),
    "bars.txt": GOOD_CSV.replace(",", "|").encode(),
    "tabs.tsv": b"\xef\xbb\xbf" + GOOD_CSV.replace(",", "\t").encode(),
    "header of numbers.csv": b"1,2,3,x\n1,2,3,4\n",
    "header alone.csv": b"lr,loss\n",
    "twice.csv": b"lr,lr,loss\n1,2,3\n",
    "utf16.csv": GOOD_CSV.encode("utf-16"),
    "old mac.csv": GOOD_CSV.replace("\n", "\r").encode(),
    "empty.csv": b"",
    "blank.csv": b"\n  \n",
    "array.json": b"[{}]",
    "nested.jsonl": NESTED,
}


def said(ask: Any) -> Any:
    try:
        return ask()
    except (LogFormatError, NoRun, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def of_file(path: Path, **options: Any) -> Any:
    found = said(lambda: read_file(path, IngestOptions(**options)))
    return str(found).replace(str(path.parent), "") if isinstance(found, str) else vars(found)


@pytest.mark.parametrize("column", CELLS)
def test_cells(column: str, update_golden: bool, tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    path.write_text(csv_text(rows({}, *({column: cell} for cell in CELLS[column]))), encoding="utf-8")
    check(f"cells_{column}", of_file(path), update=update_golden)


def test_tables(update_golden: bool, tmp_path: Path) -> None:
    found = {}
    for name, (table, options) in TABLES.items():
        path = tmp_path / f"{name}.csv"
        path.write_text(csv_text(table), encoding="utf-8")
        found[name] = of_file(path, **options)
    check("tables", found, update=update_golden)


def test_files(update_golden: bool, tmp_path: Path) -> None:
    found = {}
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
        found[name] = of_file(tmp_path / name)
    check("files", found, update=update_golden)


CURVES: Final = """run,step,lr,loss,val_loss,grad_norm,note
a,0,0,11,,9,x
a,10,0.001,4.5,4.6,1.5,x
a,20,0.002,4.0,,1.2,
a,20,0.002,4.0,,1.2,
a,30,-1,3.5,nan,0,
,40,0.001,3.4,,1,
b,x,0.001,3.3,,1,
b,10,,3.3,,inf,
b,20,0.001,-3,,-1,
b,30.5,0.001,3,,1,
"""
STEPS: Final = """params,batch_tokens,steps_to_target,target_loss,seq_len
1e8,1e5,1000,3.0,1024
1e8,2e5,600.5,3.0,1024
1e8,4e5,0,3.0,1024
1e8,8e5,300,,1024
2e8,1e5,1000,nan,1024
2e8,1e5,-3,2.9,1024
"""


def test_curves_and_steps(update_golden: bool, tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    (tmp_path / "curves.csv").write_text(CURVES, encoding="utf-8")
    table = read_table(tmp_path / "curves.csv")
    columns = curve_columns(table)
    assert columns is not None
    found["shown"] = columns.shown(table)
    found["of runs"] = read_curves(table, columns, {"a": 1e5})
    found["none known"] = said(lambda: read_curves(table, columns, {}))
    found["rated"] = read_rated_curves(table)
    found["norms"] = read_gradient_norms(table)
    found["no such norm"] = said(lambda: read_gradient_norms(table, "norm"))
    (tmp_path / "by tokens.csv").write_text(
        "run,tokens,loss\na,100000,4\na,149999,3.9\na,150001,3.8\n", encoding="utf-8"
    )
    table = read_table(tmp_path / "by tokens.csv")
    columns = curve_columns(table)
    assert columns is not None
    found["by tokens"] = [columns.shown(table), read_curves(table, columns, {"a": 1e5})]
    found["unrated"] = said(lambda: read_rated_curves(table))
    (tmp_path / "steps.csv").write_text(STEPS, encoding="utf-8")
    table = read_table(tmp_path / "steps.csv")
    assert is_target_table(table)
    found["targets"] = read_targets(table, IngestOptions())
    check("curves_and_steps", json.loads(json.dumps(found, default=plain)), update=update_golden)


def plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else vars(value)
