"""`pipeline.ingest` on both databases: what lands, what is said, and that the same again changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lawfit import pipeline
from lawfit.errors import LogFormatError, RecipeConflict, SchemaOutOfDate, StoreError
from lawfit.ingest import IngestOptions
from lawfit.records import IngestReport
from lawfit.storage import Store
from tests.ingest.tables import rows, write_csv


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_csv(
        tmp_path / "sweep.csv", rows({}, {"learning_rate": "0.004"}, {"final_loss": "nan"}, {"n_params": "x"})
    )


def adds_up(report: IngestReport) -> bool:
    return report.inserted + report.updated + report.unchanged + len(report.rejections) == report.rows


def test_a_report_says_what_happened(store: Store, path: Path) -> None:
    report = pipeline.ingest(store, path)
    assert (report.rows, report.inserted, report.updated, report.unchanged, report.diverged) == (4, 3, 0, 0, 1)
    assert [(r.line, r.column, r.reason) for r in report.rejections] == [(5, "n_params", "'x' is not a number")]
    assert report.recipes == ("sweep",)
    assert report.format == "csv"
    assert adds_up(report)
    assert json.loads(json.dumps(report.to_json()))["inserted"] == 3


def test_the_same_file_twice_changes_nothing(store: Store, path: Path) -> None:
    pipeline.ingest(store, path)
    before = store.runs(store.recipe().key)
    report = pipeline.ingest(store, path)
    assert (report.inserted, report.updated, report.unchanged) == (0, 0, 3)
    assert adds_up(report)
    assert store.runs(store.recipe().key) == before


def test_published_sweeps_twice(store: Store, shared_data: Path) -> None:
    for name in ("step_law_dense", "marin_optimizer_sweep", "xlstm_scaling_runs", "olmo_ladder_runs"):
        file = next(shared_data.rglob(f"{name}.csv"))
        first, second = pipeline.ingest(store, file), pipeline.ingest(store, file)
        assert adds_up(first)
        assert (second.inserted, second.updated, second.unchanged) == (0, 0, first.inserted)
    assert len(store.recipes()) == 1 + 12 + 5 + 1


def test_a_corrected_row_updates_and_says_so(store: Store, path: Path) -> None:
    pipeline.ingest(store, path)
    write_csv(path, rows({"final_loss": "3.2"}, {"learning_rate": "0.004"}, {"final_loss": "3.5"}))
    report = pipeline.ingest(store, path)
    assert (report.inserted, report.updated, report.unchanged) == (0, 2, 1)
    assert "  run 'r1' of 'sweep': loss 3.25 -> 3.2" in report.notes
    assert any("run 'r3' of 'sweep': status diverged -> finished, loss none -> 3.5" in note for note in report.notes)
    assert sorted(run.loss or 0 for run in store.runs(store.recipe().key)) == [3.2, 3.25, 3.5]


def test_a_row_that_is_gone_stays_and_an_exclusion_too(store: Store, path: Path) -> None:
    pipeline.ingest(store, path)
    key = store.recipe().key
    store.exclude(key, ["r1"], "node failure")
    write_csv(path, rows({}))
    assert pipeline.ingest(store, path).unchanged == 1
    assert {run.run_key: run.excluded for run in store.runs(key)} == {"r1": "node failure", "r2": None, "r3": None}


def test_recipes_of_one_file_are_kept_apart(store: Store, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "s.csv", rows({"optimizer": "adamw"}, {"optimizer": "muon"}))
    assert pipeline.ingest(store, path).recipes == ("s-adamw", "s-muon")
    assert pipeline.ingest(store, path, IngestOptions(recipe="mine")).recipes == ("mine-adamw", "mine-muon")


def test_a_chosen_name_that_is_taken(store: Store, tmp_path: Path, path: Path) -> None:
    pipeline.ingest(store, path, IngestOptions(recipe="mine"))
    other = write_csv(tmp_path / "other.csv", rows({"optimizer": "muon"}))
    with pytest.raises(RecipeConflict, match="recipe 'mine' in the store is another one"):
        pipeline.ingest(store, other, IngestOptions(recipe="mine"))
    assert store.recipe().name == "mine"


def test_a_dry_run_writes_nothing(store: Store, path: Path) -> None:
    report = pipeline.ingest(store, path, IngestOptions(dry_run=True))
    assert (report.dry_run, report.inserted, len(report.rejections)) == (True, 3, 1)
    assert store.recipes() == []


def test_a_dry_run_makes_no_database(tmp_path: Path, path: Path) -> None:
    with pipeline.open_store(tmp_path / "lawfit.db", dry_run=True) as store:
        assert pipeline.ingest(store, path, IngestOptions(dry_run=True)).inserted == 3
    assert not (tmp_path / "lawfit.db").exists()
    with pytest.raises(StoreError, match="does not exist"):
        pipeline.open_store(tmp_path / "nowhere" / "lawfit.db", dry_run=True)


def test_a_file_that_cannot_be_read_changes_nothing(store: Store, path: Path, tmp_path: Path) -> None:
    pipeline.ingest(store, path)
    (tmp_path / "bad.csv").write_text("lr,loss\n1,2\n")
    with pytest.raises(LogFormatError):
        pipeline.ingest(store, tmp_path / "bad.csv")
    assert [summary.runs for summary in store.recipes()] == [3]


def test_when_every_row_is_rejected_nothing_lands(store: Store, tmp_path: Path) -> None:
    report = pipeline.ingest(
        store, write_csv(tmp_path / "s.csv", rows({"learning_rate": "x"}, {"learning_rate": "-1"}))
    )
    assert (report.rows, report.inserted, len(report.rejections), report.recipes) == (2, 0, 2, ())
    assert store.recipes() == []


def test_a_newer_database(tmp_path: Path) -> None:
    import sqlalchemy as sa

    with Store.open(tmp_path / "lawfit.db") as store, store.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaOutOfDate):
        pipeline.open_store(tmp_path / "lawfit.db")


def test_runs_are_the_same_on_every_database(tmp_path: Path, postgres_url: str, shared_data: Path) -> None:
    file = next(shared_data.rglob("step_law_dense.csv"))
    stored = []
    for url in (str(tmp_path / "lawfit.db"), postgres_url):
        with pipeline.open_store(url) as store:
            pipeline.ingest(store, file)
            stored.append(store.runs(store.recipe().key))
    assert stored[0] == stored[1]


def test_a_cold_ingest_is_quick(tmp_path: Path, shared_data: Path) -> None:
    """A second is far above what an idle machine takes (0.5 s); it is processor time, so a busy one does not matter."""
    file = next(shared_data.rglob("step_law_dense.csv"))
    code = f"""
import sys, time
from lawfit import pipeline
with pipeline.open_store({str(tmp_path / "lawfit.db")!r}) as store:
    assert pipeline.ingest(store, {str(file)!r}).inserted == 1627
heavy = {{"pandas", "scipy", "statsmodels", "pyarrow"}} & set(sys.modules)
assert not heavy, heavy
print(time.process_time())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 2.0


@pytest.mark.slow
@pytest.mark.soak
def test_a_hundred_thousand_rows(tmp_path: Path) -> None:
    changes = (
        {"learning_rate": f"{n % 97 + 1}e-4", "beta2": str(n % 7 / 10), "note": f"run {n}"} for n in range(100_000)
    )
    path = write_csv(tmp_path / "big.csv", rows(*changes))
    with pipeline.open_store(tmp_path / "lawfit.db") as store:
        start = time.process_time()
        assert pipeline.ingest(store, path).inserted == 100_000
        assert time.process_time() - start < 15  # 5 s on an idle machine
        assert pipeline.ingest(store, path).unchanged == 100_000
        assert len(store.run_columns(store.recipe().key)["lr"]) == 100_000
