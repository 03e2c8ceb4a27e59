"""Tables of curves: points for runs that the store has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lawfit import pipeline
from lawfit.errors import LogFormatError, NoRun
from lawfit.ingest import IngestOptions
from lawfit.storage import Store
from tests.ingest.tables import GOOD, rows, write_csv


def points(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"run_id": "r1", "step": n, "train_loss": 5 - n / 10, **change} for n, change in enumerate(changes, 1)]


@pytest.fixture
def sweep(store: Store, tmp_path: Path) -> str:
    """A stored sweep of r1, r2, r3 with batches of 524,288 tokens; its recipe's key."""
    pipeline.ingest(store, write_csv(tmp_path / "sweep.csv", rows({}, {}, {})))
    return store.recipe().key


def test_runs_under_one_name_are_no_curve(store: Store, tmp_path: Path) -> None:
    """Seeds stand at the same number of steps; a curve moves on."""
    header = "run_name,lr,batch_size,seq_len,steps,params,seed,val_loss"
    lines = [f"a,{rate},64,512,3000,1e7,{seed},{3 + seed / 100}" for rate in (0.001, 0.002) for seed in (0, 1)]
    (tmp_path / "s.csv").write_text("\n".join([header.replace("params", "model_params"), *lines]))
    assert pipeline.ingest(store, tmp_path / "s.csv").of == "runs"


def test_points_go_to_their_runs_once(store: Store, sweep: str, tmp_path: Path) -> None:
    table = points({}, {"step": 3, "grad_norm": 0.5}, {"run_id": "r2"}, {"step": 2, "val_loss": 4.5})
    full = [
        {name: row.get(name, "") for name in ("run_id", "step", "train_loss", "grad_norm", "val_loss")} for row in table
    ]
    path = write_csv(tmp_path / "sweep_curves.csv", full)
    report = pipeline.ingest(store, path)
    assert (report.of, report.inserted, report.unchanged, report.rejections) == ("curves", 4, 0, ())
    steps, numbers = store.curve(sweep, "r1", "train_loss")
    assert (steps.tolist(), numbers.tolist()) == ([1, 2, 3], [4.9, 4.6, 4.8])
    assert store.curve(sweep, "r1", "validation_loss")[1].tolist() == [4.5]
    assert store.curve(sweep, "r1", "grad_norm")[0].tolist() == [3]
    assert store.curve_metrics(sweep, "r3") == []
    again = pipeline.ingest(store, path)
    assert (again.inserted, again.unchanged, again.curve_points) == (0, 4, 0)


def test_tokens_stand_in_for_steps(store: Store, sweep: str, tmp_path: Path) -> None:
    table = [{"run_id": "r1", "tokens": 524288 * n, "loss": 5 - n} for n in (1, 2)]
    pipeline.ingest(store, write_csv(tmp_path / "c.csv", table))
    assert store.curve(sweep, "r1", "train_loss")[0].tolist() == [1, 2]


def test_later_points_are_added(store: Store, sweep: str, tmp_path: Path) -> None:
    pipeline.ingest(store, write_csv(tmp_path / "c.csv", points({}, {})))
    report = pipeline.ingest(store, write_csv(tmp_path / "c.csv", points({}, {}, {})))
    assert (report.inserted, report.unchanged) == (1, 2)
    assert store.curve(sweep, "r1", "train_loss")[0].tolist() == [1, 2, 3]


def test_rows_that_cannot_be_taken(store: Store, sweep: str, tmp_path: Path) -> None:
    table = points({}, {"run_id": "r9"}, {"step": 1}, {"train_loss": "low"}, {"step": 2.5}, {})
    report = pipeline.ingest(store, write_csv(tmp_path / "c.csv", table))
    assert [(r.line, r.reason) for r in report.rejections] == [
        (3, "no run 'r9' in the store"),
        (4, "step 1 of run 'r1' stands in line 2 already"),
        (5, "'low' is not a number"),
        (6, "'2.5' is not a whole number"),
    ]
    assert report.inserted + report.unchanged + len(report.rejections) == report.rows == 6


def test_metrics_at_different_steps_are_counted_by_row(store: Store, sweep: str, tmp_path: Path) -> None:
    table = points({}, {"train_loss": None, "val_loss": 4.5}, {})
    for row in table:
        row.setdefault("val_loss", None)
    report = pipeline.ingest(store, write_csv(tmp_path / "c.csv", table))
    assert (report.inserted, report.unchanged, report.curve_points) == (3, 0, 3)


def test_a_dry_run_writes_nothing(store: Store, sweep: str, tmp_path: Path) -> None:
    report = pipeline.ingest(store, write_csv(tmp_path / "c.csv", points({}, {})), IngestOptions(dry_run=True))
    assert (report.inserted, report.curve_points) == (2, 0)
    assert store.curve_metrics(sweep, "r1") == []


def test_runs_that_are_nowhere_or_in_two_recipes(store: Store, sweep: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "c.csv", points({"run_id": "x"}, {"run_id": "x"}))
    with pytest.raises(NoRun, match="none of its runs is in the store"):
        pipeline.ingest(store, path)
    pipeline.ingest(store, write_csv(tmp_path / "other.csv", rows({"optimizer": "muon"})))
    path = write_csv(tmp_path / "c.csv", points({}, {}))
    with pytest.raises(LogFormatError, match="run 'r1' is in the recipes other, sweep; say which with --recipe"):
        pipeline.ingest(store, path)
    assert pipeline.ingest(store, path, IngestOptions(recipe="other")).recipes == ("other",)


def test_a_table_of_runs_with_a_step_column_stays_one(store: Store, tmp_path: Path) -> None:
    steps = round(float(GOOD["n_tokens"]) / float(GOOD["batch_size_tokens"]))
    report = pipeline.ingest(store, write_csv(tmp_path / "sweep.csv", rows({"step": steps}, {"step": steps + 1})))
    assert (report.of, report.inserted) == ("runs", 2)


class TestFullerLogs:
    """Trap: what was stored thinned stayed thinned, whatever came later."""

    def thin(self, store: Store, tmp_path: Path) -> list[dict[str, Any]]:
        full = points(*({} for _ in range(9)))
        pipeline.ingest(store, write_csv(tmp_path / "thin.csv", [full[k] for k in (1, 4, 7)]))
        return full

    def test_they_replace_the_thinned_curve_and_it_is_said(self, store: Store, sweep: str, tmp_path: Path) -> None:
        full = self.thin(store, tmp_path)
        path = write_csv(tmp_path / "full.csv", full)
        trial = pipeline.ingest(store, path, IngestOptions(dry_run=True))
        assert store.curve(sweep, "r1", "train_loss")[0].tolist() == [2, 5, 8]
        report = pipeline.ingest(store, path)
        assert (report.inserted, report.unchanged) == (trial.inserted, trial.unchanged) == (6, 3)
        assert "thinned curves of 1 run (3 points) were replaced by the fuller ones of this file" in report.notes[-1]
        assert store.curve(sweep, "r1", "train_loss")[0].tolist() == list(range(1, 10))
        again = pipeline.ingest(store, path)
        assert (again.inserted, again.unchanged) == (0, 9)
        assert not any("replaced" in note for note in again.notes)

    def test_rounding_is_the_same_number(self, store: Store, sweep: str, tmp_path: Path) -> None:
        full = self.thin(store, tmp_path)
        for row in full:
            row["train_loss"] *= 1.0001
        assert pipeline.ingest(store, write_csv(tmp_path / "full.csv", full)).inserted == 6

    def test_other_numbers_at_the_same_steps_are_another_measurement(
        self, store: Store, sweep: str, tmp_path: Path
    ) -> None:
        full = self.thin(store, tmp_path)
        full[4]["train_loss"] = 1.0
        report = pipeline.ingest(store, write_csv(tmp_path / "full.csv", full))
        assert "other numbers than those stored at the same steps ('train_loss' of run 'r1')" in report.notes[-1]
        assert store.curve(sweep, "r1", "train_loss")[0].tolist() == [2, 5, 8, 9]  # what lies behind is added as ever

    def test_a_curve_that_lacks_stored_steps_is_not_fuller(self, store: Store, sweep: str, tmp_path: Path) -> None:
        full = self.thin(store, tmp_path)
        del full[4]
        pipeline.ingest(store, write_csv(tmp_path / "other.csv", full))
        assert store.curve(sweep, "r1", "train_loss")[0].tolist() == [2, 5, 8, 9]
