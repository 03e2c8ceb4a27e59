"""Numbers as people write them: units in cells and in names, separators, decimal commas; and sizes from shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lawfit.errors import LogFormatError
from lawfit.ingest import IngestOptions, read_file
from lawfit.ingest.headers import bare_names
from lawfit.ingest.sizes import model_size
from tests.ingest.tables import csv_text, read, rows, runs, write_csv


@pytest.mark.parametrize(
    ("column", "cell", "field", "value"),
    [
        ("n_params", "60M", "params", 6e7),
        ("n_params", "60 M", "params", 6e7),
        ("n_params", "60,000,000", "params", 6e7),
        ("n_params", "60 000 000", "params", 6e7),
        ("n_params", "60.000.000", "params", 6e7),
        ("n_tokens", "1.2B", "tokens", 1.2e9),
        ("batch_size_tokens", "131,072", "batch_tokens", 131072),
        ("learning_rate", "0,002", "lr", 0.002),
        ("learning_rate", "1,9e-3", "lr", 0.0019),
        ("final_loss", "3,25", "loss", 3.25),
    ],
)
def test_what_can_mean_one_thing_only_is_read_and_said(
    column: str, cell: str, field: str, value: float, tmp_path: Path
) -> None:
    found = read(write_csv(tmp_path / "s.csv", rows({column: cell})))
    assert getattr(runs(found)[0], field) == value
    assert any(f"1 cell of '{column}': '{cell}' is read as" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "cell", "field", "value"),
    [
        ("N [M]", "60", "params", 6e7),
        ("params (millions)", "60", "params", 6e7),
        ("params_M", "60", "params", 6e7),
        ("params in millions", "60", "params", 6e7),
        ("tokens_B", "1.2", "tokens", 1.2e9),
        ("D (B)", "1.2", "tokens", 1.2e9),
        ("tokens (1e9)", "1.2", "tokens", 1.2e9),
        ("batch (M tokens)", "0.524288", "batch_tokens", 524288),
        ("lr x1000", "2", "lr", 0.002),
        ("lr (1e-3)", "2", "lr", 0.002),
    ],
)
def test_units_in_names(name: str, cell: str, field: str, value: float, tmp_path: Path) -> None:
    old = {"params": "n_params", "tokens": "n_tokens", "batch_tokens": "batch_size_tokens", "lr": "learning_rate"}[
        field
    ]
    found = read(write_csv(tmp_path / "s.csv", rows({old: ..., name: cell})))
    assert getattr(runs(found)[0], field) == pytest.approx(value, rel=1e-12)
    assert any(f"'{name}' is read in units of" in note for note in found.notes)


@pytest.mark.parametrize("name", ["params (total)", "LR (peak)", "batch", "model_params", "loss_t"])
def test_names_without_a_unit(name: str) -> None:
    assert all(unit.plain for _, unit in bare_names(name))


def test_decimal_commas_between_semicolons(tmp_path: Path) -> None:
    """3,125 alone could be three thousand; beside semicolons it is three."""
    table: list[dict[str, Any]] = rows({"final_loss": "3,125", "learning_rate": "0,002"})
    (tmp_path / "s.csv").write_text(csv_text(table, delimiter=";"))
    (run,) = runs(read(tmp_path / "s.csv"))
    assert (run.loss, run.lr) == (3.125, 0.002)


def test_parts_of_a_batch_are_multiplied(tmp_path: Path) -> None:
    parts = {"micro_batch_size": 8, "gradient_accumulation_steps": 2, "world_size": 4, "seq_len": 2048}
    found = read(write_csv(tmp_path / "s.csv", rows({"batch_size_tokens": ..., **parts})))
    assert runs(found)[0].batch_tokens == 8 * 2 * 4 * 2048


def test_nested_keys(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text(
        '{"model": {"width": 256, "n_params": 6e7}, "optimizer": {"lr": 0.002, "name": "adamw"},'
        ' "training": {"tokens": 1.2e9, "batch": {"tokens": 524288}}, "results": {"val": {"loss": 3.2}}}\n'
    )
    found = read(tmp_path / "s.jsonl")
    (run,) = runs(found)
    assert (run.params, run.tokens, run.batch_tokens, run.lr, run.loss) == (6e7, 1.2e9, 524288, 0.002, 3.2)
    assert found.sweeps[0].recipe.optimizer == "adamw"


@pytest.mark.parametrize("prefix", ["params.", "config.", "config/", "user_attrs_", "params_", "hparams/"])
def test_prefixes_of_trackers(prefix: str, tmp_path: Path) -> None:
    settings = {
        "learning_rate": "lr",
        "n_params": "n_params",
        "n_tokens": "n_tokens",
        "batch_size_tokens": "batch_tokens",
    }
    table = [{prefix + settings[n] if n in settings else n: cell for n, cell in row.items()} for row in rows({})]
    (run,) = runs(read(write_csv(tmp_path / "s.csv", table)))
    assert (run.params, run.batch_tokens, run.lr) == (6e7, 524288, 0.002)


class TestModelSize:
    """Against counts that are published: GPT-2 small, Llama 2 7B, Mixtral 8x7B."""

    def test_gpt(self) -> None:
        size = model_size("gpt", {"width": 768, "layers": 12, "vocab": 50257, "length": 1024})
        assert (size.total, size.non_embedding) == (124_439_808, 85_056_000)

    def test_llama(self) -> None:
        size = model_size("llama", {"width": 4096, "layers": 32, "heads": 32, "inner": 11008, "vocab": 32000})
        assert (size.total, size.active) == (6_738_415_616, 6_738_415_616)

    def test_mixtral(self) -> None:
        shape = {"width": 4096, "layers": 32, "heads": 32, "kv_heads": 8, "inner": 14336, "vocab": 32000}
        size = model_size("mixtral", {**shape, "experts": 8, "chosen": 2})
        assert size.total == 46_702_792_704
        assert size.active == pytest.approx(12.88e9, rel=1e-3)

    def test_from_the_columns_of_a_table(self, tmp_path: Path) -> None:
        shape = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
        write_csv(tmp_path / "s.csv", rows({"n_params": ..., **shape, "vocab_size": 32000}))
        with pytest.raises(LogFormatError, match=r"no parameter count.*--size-from llama"):
            read(tmp_path / "s.csv")
        found = read(tmp_path / "s.csv", size_from="llama")
        assert (
            runs(found)[0].params
            == model_size("llama", {"width": 256, "layers": 4, "heads": 4, "inner": 1024, "vocab": 32000}).total
        )
        assert found.sweeps[0].recipe.params_convention == "total"


@pytest.mark.parametrize("rows", [1, 2, 12])
@pytest.mark.parametrize("titles", ["", "Sweep of spring\n\n"])
def test_decimal_commas_are_no_delimiters_however_many_there_are(tmp_path: Path, rows: int, titles: str) -> None:
    """A table as spreadsheets of half of Europe write it: every number has a comma, and more of them than cells."""
    lines = [f"20000000,0;200000000,0;0,00{k + 1};32768,5;3,{k}" for k in range(rows)]
    path = tmp_path / "sweep.csv"
    path.write_text(f"{titles}params;tokens;lr;batch_tokens;loss\n" + "\n".join(lines) + "\n")
    (found,) = read_file(path, IngestOptions()).sweeps
    assert [(run.params, run.tokens, run.batch_tokens) for run in found.runs] == [(2e7, 2e8, 32768.5)] * rows
    assert sorted(run.lr for run in found.runs) == sorted(float(f"0.00{k + 1}") for k in range(rows))
