"""`lawfit plan next` as a command; its numbers are tested in tests/plan."""

from __future__ import annotations

import csv
from pathlib import Path

from lawfit.cli.main import ExitCode
from tests.cli.conftest import Call


def test_an_empty_store_gets_its_first_sweep(tmp_path: Path, call: Call, text: Call) -> None:
    words = ("plan", "next", "--params", "1B", "--tokens", "20B", "--database", tmp_path / "none.db")
    document = call(*words, "--budget", "1e18flops", "--runs", tmp_path / "runs.csv")
    assert document["fit_id"] is None
    assert "first sweep" in document["warnings"][0]
    assert len({grid["params"] for grid in document["grids"]}) >= 3
    with (tmp_path / "runs.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == document["budget"]["runs"]
    shown, _ = text(*words, "--budget", "1e18flops")
    assert "first sweep" in shown
    assert "a new size" in shown
    document = call(*words, "--budget", "2runs", code=ExitCode.NOT_ENOUGH)
    assert "2 runs buys no grid" in document["error"]["message"]
    document = call(*words, "--budget", "much", code=ExitCode.USAGE)
    assert "write 1e19flops" in document["error"]["message"]
    document = call(*words, "--budget", "64runs", "--max-params", "10", code=ExitCode.NOT_ENOUGH)
    assert "within this budget and these sizes" in document["error"]["message"]
    there = tmp_path / "no folder" / "runs.csv"
    document = call(*words, "--budget", "64runs", "--runs", there, code=ExitCode.FAILED)
    assert f"the runs cannot be written to {there}: No such file" in document["error"]["message"]
