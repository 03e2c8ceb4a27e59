"""Tables of (parameters, tokens, loss): ingested, fitted, planned on, and no learning rate is made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from lawfit import pipeline
from lawfit.cli.main import ExitCode
from lawfit.cli.main import run as command
from lawfit.storage import Store
from tests.ingest.tables import read, write_csv

GRID = [
    {"run": f"r{n:g}-{d:g}", "N": n, "D": d, "val_loss": round(1.8 + 400 / n**0.34 + 900 / d**0.3, 4)}
    for n in (1e7, 3e7, 1e8, 3e8)
    for d in (3e8, 1e9, 3e9)
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "sizes.csv", GRID)


def test_rows_are_losses_of_sizes(path: Path) -> None:
    found = read(path)
    (sweep,) = found.losses
    assert found.sweeps == ()
    assert [(row.params, row.tokens, row.loss) for row in sweep.rows] == [(r["N"], r["D"], r["val_loss"]) for r in GRID]
    assert any("no learning rate was logged" in note for note in found.notes)


def test_the_same_file_twice_changes_nothing(store: Store, path: Path) -> None:
    first, second = (pipeline.ingest(store, path) for _ in range(2))
    assert (first.inserted, first.of, second.unchanged) == (12, "losses", 12)
    write_csv(path, [{**GRID[0], "val_loss": 3.0}, *GRID[1:]])
    assert pipeline.ingest(store, path).updated == 1


def test_from_the_file_to_a_plan(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = ["--database", str(tmp_path / "x.db")]
    assert command([*database, "ingest", str(path)]) == ExitCode.OK
    assert command([*database, "fit"]) == ExitCode.OK
    assert command([*database, "plan", "--flops", "1e19"]) == ExitCode.OK
    capsys.readouterr()
    assert command([*database, "predict", "--params", "1e8", "--tokens", "2e9"]) == ExitCode.OK
    said = capsys.readouterr()
    assert "learning rate" in " ".join((said.out + said.err).split())


def test_a_learning_rate_without_a_batch_is_asked_about(path: Path) -> None:
    write_csv(path, [{**row, "lr": 1e-3} for row in GRID])
    with pytest.raises(Exception, match=r"batch size .*--kind losses"):
        read(path)
    assert read(path, kind="losses").losses
