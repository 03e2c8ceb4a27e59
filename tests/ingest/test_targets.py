"""Tables of steps to a target loss: recognised, read with their units, bad rows listed, stored once."""

from __future__ import annotations

from pathlib import Path

import pytest

from lawfit import pipeline
from lawfit.errors import LogFormatError, RecipeConflict
from lawfit.estimate.critical.steps_to_target import StepsTable, fit_steps_table
from lawfit.ingest import IngestOptions, read_file, read_table
from lawfit.ingest.targets import is_target_table, read_targets
from lawfit.laws.critical_batch import ZHANG
from lawfit.storage import Store

HEADER = "run_id,n_params,n_params_kind,batch_size_sequences,seq_len,steps_to_target,target_loss,learning_rate"
ROWS = ("a,1e8,non_embedding,64,512,40000,3.2,0.003", "b,1e8,non_embedding,128,512,21000,3.2,0.003")


def table(tmp_path: Path, *rows: str, header: str = HEADER, name: str = "steps.csv") -> Path:
    path = tmp_path / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def read(path: Path, **options: object) -> tuple[list[object], list[str]]:
    found = read_targets(read_table(path), IngestOptions(**options))  # type: ignore[arg-type]
    return [row for sweep in found.sweeps for row in sweep.rows], [r.reason for r in found.found.rejections]


def test_a_row_is_read_with_its_units(tmp_path: Path) -> None:
    rows, rejections = read(table(tmp_path, *ROWS))
    assert rejections == []
    first = rows[0]
    assert (first.run_key, first.params, first.batch_tokens, first.steps, first.target_loss, first.lr) == (  # type: ignore[attr-defined]
        "a",
        1e8,
        64 * 512,
        40000,
        3.2,
        0.003,
    )
    assert first.source == "steps.csv:2"  # type: ignore[attr-defined]


RECOGNISED = {
    "steps to a target": (HEADER, True),
    "a goal": (HEADER.replace("steps_to_target", "Steps to goal").replace("target_loss", "goal loss"), True),
    "runs": ("run_id,n_params,n_tokens,batch_size_tokens,steps,final_loss,learning_rate", False),
    "runs with a target beside their loss": ("run_id,n_params,steps,target_loss,final_loss", False),
    "curves": ("run_id,step,tokens,loss", False),
}


@pytest.mark.parametrize(("header", "is_one"), RECOGNISED.values(), ids=RECOGNISED)
def test_recognised_by_its_columns(header: str, is_one: bool, tmp_path: Path) -> None:
    path = table(tmp_path, ",".join("1" for _ in header.split(",")), header=header)
    assert is_target_table(read_table(path)) == is_one


def test_a_column_of_tokens_is_not_taken_for_the_target(tmp_path: Path) -> None:
    """It may be the budget that the target stands for; rows whose steps x batch differ from it are not rejected."""
    path = table(tmp_path, *(f"{row},2e9,99" for row in ROWS), header=HEADER + ",n_tokens,steps")
    rows, rejections = read(path)
    assert rejections == []
    assert [row.steps for row in rows] == [40000, 21000]  # type: ignore[attr-defined]


def test_steps_read_between_two_evaluations_need_not_be_whole(store: Store, tmp_path: Path) -> None:
    half, none = ROWS[0].replace(",40000,", ",1234.5,"), ROWS[0].replace("a,1e8", "c,1e8").replace(",40000,", ",0.2,")
    path = table(tmp_path, half, none, ROWS[1])
    report = pipeline.ingest(store, path)
    assert ["less than one batch" in rejection.reason for rejection in report.rejections] == [True]
    assert pipeline.ingest(store, path).unchanged == 2
    rows = store.targets(store.recipe("steps").key)
    assert [row.steps for row in rows] == [1234.5, 21000]
    assert [type(row.steps) for row in rows] == [float, int]  # whole ones stay whole: hashes of stored data stay


def test_steps_of_a_run_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("params,steps,batch_tokens,lr,loss\n1e8,1000.5,65536,1e-3,3\n1e8,1000,65536,1e-3,3\n")
    found = read_file(path)
    assert [rejection.reason for rejection in found.rejections] == ["'1000.5' is not a whole number"]


def test_no_learning_rate_is_none(tmp_path: Path) -> None:
    rows, _ = read(table(tmp_path, *(row.rpartition(",")[0] for row in ROWS), header=HEADER.rpartition(",")[0]))
    assert [row.lr for row in rows] == [None, None]  # type: ignore[attr-defined]


BAD = {
    "no steps": ("c,1e8,non_embedding,256,512,,3.2,0.003", "no number of training tokens"),
    "steps with a word": ("c,1e8,non_embedding,256,512,12k it,3.2,0.003", "is not a plain number"),
    "target below zero": ("c,1e8,non_embedding,256,512,12000,-3,0.003", "above zero"),
    "no target": ("c,1e8,non_embedding,256,512,12000,,0.003", "no loss"),
    "no batch": ("c,1e8,non_embedding,,512,12000,3.2,0.003", "no batch size"),
    "the same row": (ROWS[0], "the same row as line 2"),
    "an infinite target": ("c,1e8,non_embedding,256,512,12000,inf,0.003", "reached no target"),
}


@pytest.mark.parametrize(("row", "reason"), BAD.values(), ids=BAD)
def test_a_bad_row_is_listed_and_the_others_are_kept(row: str, reason: str, tmp_path: Path) -> None:
    rows, rejections = read(table(tmp_path, *ROWS, row))
    assert len(rows) == 2
    assert len(rejections) == 1
    assert reason in rejections[0]


def test_sequences_without_a_length_are_refused(tmp_path: Path) -> None:
    """Trap 8: a batch in sequences is never taken for tokens."""
    header = HEADER.replace(",seq_len", "")
    rows = [row.replace(",512,", ",") for row in ROWS]
    with pytest.raises(LogFormatError, match="seq"):
        read(table(tmp_path, *rows, header=header))
    assert read(table(tmp_path, *rows, header=header), seq_len=512)[0][0].batch_tokens == 64 * 512  # type: ignore[attr-defined]


def test_stored_once_and_corrected(store: Store, tmp_path: Path) -> None:
    path = table(tmp_path, *ROWS)
    first = pipeline.ingest(store, path)
    assert (first.of, first.inserted, first.rows, first.recipes) == ("targets", 2, 2, ("steps",))
    assert pipeline.ingest(store, path).unchanged == 2
    key = store.recipe("steps").key
    before = store.targets(key)
    assert [row.batch_tokens for row in before] == [64 * 512, 128 * 512]
    table(tmp_path, ROWS[0], ROWS[1].replace("21000", "20000"))
    corrected = pipeline.ingest(store, path)
    assert (corrected.inserted, corrected.updated, corrected.unchanged) == (0, 1, 1)
    assert [row.steps for row in store.targets(key)] == [40000, 20000]
    assert store.runs(key) == []


def test_a_dry_run_writes_nothing(store: Store, tmp_path: Path) -> None:
    report = pipeline.ingest(store, table(tmp_path, *ROWS), IngestOptions(dry_run=True))
    assert report.inserted == 2
    assert store.recipes() == []


def test_a_taken_name_is_a_conflict_and_nothing_is_written(store: Store, tmp_path: Path) -> None:
    pipeline.ingest(store, table(tmp_path, *ROWS), IngestOptions(recipe="mine"))
    other = table(tmp_path, *(row.replace("non_embedding", "total") for row in ROWS))
    with pytest.raises(RecipeConflict, match="is another one"):
        pipeline.ingest(store, other, IngestOptions(recipe="mine"))
    assert len(store.recipes()) == 1
    assert len(store.targets(store.recipe("mine").key)) == 2


def test_counts_add_up_with_rejections(store: Store, tmp_path: Path) -> None:
    report = pipeline.ingest(store, table(tmp_path, *ROWS, BAD["an infinite target"][0], BAD["no steps"][0]))
    assert report.inserted + report.updated + report.unchanged + len(report.rejections) == report.rows == 4


def test_zhang_from_the_file_to_the_number(shared_data: Path, store: Store) -> None:
    """The whole way: ingested, stored, fitted; G10's first number."""
    report = pipeline.ingest(store, shared_data / "public" / "critical_batch_size_steps_to_target.csv")
    assert (report.inserted, len(report.rejections)) == (36, 0)
    rows = store.targets(store.recipe().key)
    fits = fit_steps_table(
        StepsTable.of(
            [r.params for r in rows],
            [r.batch_tokens for r in rows],
            [r.steps for r in rows],
            [r.target_loss for r in rows],
        )
    ).fits
    assert fits[0].critical(ZHANG).value_tokens / 512 == pytest.approx(745.3200, rel=1e-4)
