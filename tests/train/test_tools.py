"""The run table, which goes through `lawfit ingest` untouched."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from lawfit import pipeline
from lawfit.corpus import Corpus, Manifest
from lawfit.ingest import IngestOptions
from lawfit.launch import grid
from lawfit.proxy import table
from lawfit.proxy.log import start_line
from lawfit.proxy.pack import Model, Pack, RunSettings
from lawfit.records import RunStatus
from lawfit.train.__main__ import main as train_main
from tests.train.test_resume import write_corpus

GRID: dict[str, Any] = {
    "base": {"vocab": 61, "seq_len": 8, "precision": "fp32", "eval_sequences": 10, "corpus_hash": "made-up"},
    "shapes": {"tiny": {"layers": 1, "width": 8, "heads": 1, "hidden": 8}},
    "run": {"lr": 0.1, "beta2": 0.99},
    "warmup_fraction": 0.25,
    "blocks": [
        {"shape": "tiny", "tokens": [640], "batch_tokens": [16, 32], "lr": [0.001, 0.01, 1e30], "seeds": [0, 1]},
        {"shape": "tiny", "tokens": [640], "batch_tokens": [32], "lr": [0.01], "weight_decay": [0.5]},
    ],
}


@pytest.fixture
def packs(corpus: Corpus, tmp_path: Path) -> list[Path]:
    write_corpus(corpus, tmp_path / "corpus")
    content = copy.deepcopy(GRID)
    content["base"]["corpus"] = str(tmp_path / "corpus")
    paths = []
    for pack in grid.packs(content):
        paths.append(tmp_path / f"{pack.name}.json")
        paths[-1].write_text(json.dumps(pack.to_json()))
    return paths


def test_from_packs_through_tables_to_the_store(
    packs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs, csv, curves = tmp_path / "runs", tmp_path / "sweep.csv", tmp_path / "curves.csv"
    assert train_main([str(packs[0]), "--cpu", "--logs", str(logs)]) == 0
    assert table.main([str(logs), "--runs", str(csv), "--curves", str(curves)]) == 0
    assert train_main([*map(str, packs[1:]), "--cpu", "--logs", str(tmp_path / "more")]) == 0
    capsys.readouterr()
    assert table.main([str(tmp_path / "more"), "--runs", str(csv), "--curves", str(curves), "--append"]) == 0
    assert "13 runs, 4 of them diverged; 7 from these logs, 0 stopped runs left out" in capsys.readouterr().out
    assert table.main([str(logs), str(tmp_path / "more"), "--runs", str(tmp_path / "at_once.csv")]) == 0
    assert csv.read_text() == (tmp_path / "at_once.csv").read_text()
    assert len({row["run_id"] for row in table.read_csv(curves)}) == 13
    with pipeline.open_store(str(tmp_path / "lawfit.db")) as store:
        report = pipeline.ingest(store, csv, IngestOptions())
        runs = store.runs(store.recipe(report.recipes[0]).key)
    assert (report.inserted, report.diverged, report.rejections) == (13, 4, ())
    by_key = {run.run_key: run for run in runs}
    for pack in grid.packs(GRID):
        for i, settings in enumerate(pack.runs):
            run = by_key[pack.run_id(i, "made-up")]
            assert (run.lr, run.weight_decay, run.steps, run.seed) == (
                settings.lr, settings.weight_decay, settings.steps, settings.init_seed,
            )  # fmt: skip
            assert (run.params, run.tokens, run.batch_tokens) == (
                pack.model.non_embedding_params, settings.steps * pack.batch_tokens, pack.batch_tokens,
            )  # fmt: skip
            assert (run.status is RunStatus.DIVERGED) == (settings.lr == 1e30)


def test_table_of_nothing_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table.main([str(tmp_path), "--runs", str(tmp_path / "t.csv")]) == 1
    assert "no finished run below" in capsys.readouterr().err


def test_a_damaged_log_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text('{"event": "start"\n{"event": "end"}\n')
    assert table.main([str(tmp_path), "--runs", str(tmp_path / "t.csv")]) == 1
    assert "a.jsonl, line 1 is not JSON" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", '{"event": "end"}\n', '{"event": "train", "step": 1}\n{"event": "end"}\n'])
def test_a_log_without_its_beginning_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    assert table.main([str(tmp_path), "--runs", str(tmp_path / "t.csv")]) == 1
    assert "a.jsonl does not begin with a start line" in capsys.readouterr().err


def test_curves_are_thinned_and_keep_the_end() -> None:
    events = [{"event": "start", "run_id": "r"}]
    events += [{"event": "train", "step": i, "tokens": i, "loss": 1.0, "grad_norm": 1.0} for i in range(1, 61)]
    steps = [row["step"] for row in table.curve_rows(events, points=20)]
    assert steps == list(range(3, 61, 3))


def finished(**changes: Any) -> list[dict[str, Any]]:
    """The events of a run as the trainer writes them, some fields of start and end changed."""
    model = Model(layers=1, width=8, heads=1, hidden=8, vocab=61, seq_len=8)
    pack = Pack(name="p", model=model, batch_sequences=2, runs=(RunSettings(lr=0.1, steps=4),))
    manifest = Manifest(
        hash="feed", vocab=61, documents=1, duplicates=0, skipped=0, train_tokens=900, validation_tokens=90,
        validation_bytes=180, sources=("*.py below lib", "*.py below site-packages"),
    )  # fmt: skip
    end = {"event": "end", "status": "finished", "step": 4, "loss": 3.0, "bits_per_byte": 2.0, "flops": 1e6}
    lines = [{"event": "train", "step": i, "loss": 3.0, "update_ratio": i / 100} for i in (1, 2, 4)]
    start = start_line(pack, 0, manifest, 100)
    return [start | {k: v for k, v in changes.items() if k in start}, *lines, end | changes]


def test_a_row_names_corpus_and_tokenizer() -> None:
    row = table.run_row(finished())
    assert row is not None
    assert (row["dataset"], row["tokenizer"]) == ("python-sources-feed", "bpe-61")
    corpus = finished()[0]["corpus"]
    synthetic = {**corpus, "sources": ["synthetic, vocabulary 61, seed 0"], "validation_bytes": None}
    row = table.run_row(finished(corpus=synthetic))
    assert row is not None
    assert (row["dataset"], row["tokenizer"]) == ("synthetic-vocabulary-61-seed-0-feed", "vocabulary-61")


def test_a_row_has_what_was_measured_and_no_other_columns() -> None:
    plain = table.run_row(finished())
    assert plain is not None
    assert (plain["weight_decay_kind"], plain["seed"], plain["data_seed"]) == ("coupled", 0, 0)
    assert plain["update_ratio"] == 0.02
    rare = {"average_loss": 2.9, "noise_scale_tokens": 512.0, "trunk": "cafe", "trunk_steps": 3}
    start, *lines, end = finished()
    row = table.run_row([start | rare, *lines, end | rare])
    assert row is not None
    assert {name: row[name] for name in row.keys() - plain.keys()} == {
        "average_loss": 2.9, "noise_scale_tokens": 512.0, "trunk_run_id": "cafe", "trunk_steps": 3,
    }  # fmt: skip


def test_a_row_names_unusual_settings_and_the_cooldown() -> None:
    start, *lines = finished()
    plain = table.run_row([start, *lines])
    changed = {"clip": 0.5, "model": {**start["model"], "rope_base": 5e5}, "schedule": "wsd", "cooldown_fraction": 0.2}
    row = table.run_row([start | changed, *lines])
    assert plain is not None
    assert row is not None
    assert {name: row[name] for name in row.keys() - plain.keys()} == {
        "clip": 0.5, "rope_base": 5e5, "cooldown_fraction": 0.2,
    }  # fmt: skip
