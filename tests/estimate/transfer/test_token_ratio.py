"""Tokens of one recipe over those of another to the same loss: the truth comes back, nothing is extrapolated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lawfit import pipeline
from lawfit.cli.main import ExitCode, run
from lawfit.errors import NotEnoughData
from lawfit.estimate.transfer.token_ratio import token_ratios
from lawfit.findings import finding
from lawfit.records import Recipe, Run, RunStatus, Sweep
from lawfit.storage import Store

SIZES = (1e7, 3e7, 9e7)
HORIZONS = (10, 20, 40, 80)  # tokens per parameter


def runs(
    speed: float, *, grows: float = 0.0, batches: tuple[float, ...] = (1e5,), horizons: tuple[int, ...] = HORIZONS
) -> list[Run]:
    """Runs whose tokens are worth `speed` times as much, more so at larger batches where it `grows`."""
    return [
        Run(
            run_key=f"{n}-{ratio}-{batch}-{lr}-{speed}",
            params=n,
            tokens=n * ratio,
            batch_tokens=batch,
            lr=lr,
            status=RunStatus.FINISHED,
            loss=float(
                30.0 * (n * ratio * speed * (batch / 1e5) ** grows) ** -0.12
                + 20 * n**-0.2
                + 0.05 * abs(np.log(lr / 1e-3))
            ),
        )
        for n in SIZES
        for ratio in horizons
        for batch in batches
        for lr in (5e-4, 1e-3)
    ]


def test_a_known_ratio_comes_back() -> None:
    """Log loss is nearly straight in log tokens over a doubling: the bend costs less than 2 %."""
    found = token_ratios(runs(1.0), runs(1.3))
    assert found["ratio"] == pytest.approx(1.3, rel=0.02)
    assert found["low"] <= found["ratio"] <= found["high"]
    assert found["low"] == pytest.approx(1.3, rel=0.03)
    assert {row["run_of"] for row in found["scales"]} == {"recipe", "other"}
    back = token_ratios(runs(1.3), runs(1.0))
    assert back["ratio"] == pytest.approx(1 / found["ratio"], rel=1e-9)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_nothing_is_extrapolated() -> None:
    """The other recipe's longest runs go lower than any of ours, and our shortest are worse than any of its."""
    found = token_ratios(runs(1.0), runs(1.3))
    assert found["beside"] == 2 * len(SIZES)
    assert found["losses"] == (2 * len(HORIZONS) - 2) * len(SIZES)
    with pytest.raises(NotEnoughData) as caught:
        token_ratios(runs(1.0, horizons=(10, 20)), runs(100.0, horizons=(10, 20)))
    assert caught.value.finding == finding("transfer.no_ratio", beside=12)
    with pytest.raises(NotEnoughData) as caught:
        token_ratios(runs(1.0, horizons=(10,)), runs(1.3, horizons=(10,)))
    assert caught.value.finding == finding("transfer.no_ratio", beside=0)


def test_a_ratio_that_grows_with_the_batch() -> None:
    batches = (1e5, 4e5)
    found = token_ratios(runs(1.0, batches=batches), runs(1.2, grows=0.1, batches=batches))
    assert [row["batch_tokens"] for row in found["by_batch"]] == [1e5, 4e5]
    assert [row["ratio"] for row in found["by_batch"]] == pytest.approx([1.2, 1.2 * 4**0.1], rel=0.02)


def test_a_longer_run_that_went_worse_does_not_count() -> None:
    mine = runs(1.0)
    spoiled = [r for r in mine if not (r.params == SIZES[0] and r.tokens == 20 * SIZES[0])] + [
        Run(
            run_key="bad",
            params=SIZES[0],
            tokens=20 * SIZES[0],
            batch_tokens=1e5,
            lr=1e-3,
            status=RunStatus.FINISHED,
            loss=9.0,
        )
    ]
    assert token_ratios(spoiled, runs(1.3))["ratio"] == pytest.approx(1.3, rel=0.25)


def test_two_sizes_give_no_interval() -> None:
    few = [r for r in runs(1.0) if r.params < 5e7]
    assert token_ratios(few, runs(1.3))["low"] is None


def test_muon_needs_fewer_tokens_than_adamw_on_public_runs(shared_data: Path, tmp_path: Path) -> None:
    """The Marin study's own claim for matrix optimizers below 1B parameters is 1.1 to 1.4."""
    with pipeline.open_store(tmp_path / "a.db") as store:
        pipeline.ingest(store, next(shared_data.rglob("marin_optimizer_sweep.csv")))
        found = pipeline.token_ratio(store, "marin_optimizer_sweep-adamw", "marin_optimizer_sweep-muon")
    assert 1.1 < found["low"] < found["ratio"] < found["high"] < 1.4
    assert found["notes"] == []


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "a.db")
    with Store.open(file) as store:
        store.put_sweeps([Sweep(recipe=Recipe(name="adamw", optimizer="adamw"), runs=tuple(runs(1.0)))])
        store.put_sweeps([Sweep(recipe=Recipe(name="muon", optimizer="muon", data="other"), runs=tuple(runs(1.3)))])
    words = ["--database", file, "laws", "ratio", "adamw", "muon"]
    assert run(words) == ExitCode.OK
    said = capsys.readouterr().out
    assert "adamw takes 1.3" in said
    assert "the recipes differ in data too" in said
    assert run([*words, "--json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["other"] == "muon"
    assert run([*words[:-1], "lion"]) != ExitCode.OK
    assert "lion" in capsys.readouterr().err
