"""W&B's files beyond the golden ones: records over blocks, values of newer writers, axes, states, older folders."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from lawfit import pipeline
from lawfit.errors import LogFormatError
from lawfit.ingest.formats.wandb import Damaged, items, records
from lawfit.storage import Store
from tests.ingest.formats.logs import GOLDEN, curves, one_table, rows
from tests.ingest.formats.wires import BLOCK, EXIT, framed, history, item, message, run_record, varint


def write(folder: Path, *written: bytes, run_id: str = "a") -> Path:
    path = folder / f"offline-run-20260101_000000-{run_id}" / f"run-{run_id}.wandb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(framed(*written))
    return path


def steps_of(folder: Path, metric: str = "train_loss", name: str = "a") -> list[int]:
    table = one_table(folder)
    (found,) = [c for c in table.curves if c.metric == metric]
    return list(found.steps)


@pytest.mark.parametrize("size", [0, 1, BLOCK - 20, BLOCK - 14, BLOCK - 7, BLOCK, 3 * BLOCK + 5, 200_000])
def test_a_record_of_any_length(size: int) -> None:
    written = [b"x" * size, b"y" * 10, b"z" * size]
    assert list(records(io.BytesIO(framed(*written)))) == written


def test_cut_anywhere_the_whole_records_remain() -> None:
    written = [b"a" * 50, b"b" * 40_000, b"c" * 50]
    whole = framed(*written)
    for length in range(0, len(whole), 97):
        found = list(records(io.BytesIO(whole[:length])) if length >= 4 else [])
        assert found == written[: len(found)]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        pytest.param(lambda d: d[:30] + b"\xff" + d[31:], "checksum of the record at byte 7 is wrong", id="payload"),
        pytest.param(lambda d: d[:13] + b"\x09" + d[14:], "no record begins at byte 7", id="kind"),
        pytest.param(lambda d: d[:11] + b"\xff\xff" + d[13:], "no record begins at byte 7", id="length"),
        pytest.param(lambda d: b"nothing" + d[7:], "does not begin with ':W&B'", id="header"),
        pytest.param(lambda d: d[:7] + d[7 + 107 :], "", id="a whole record is gone"),
    ],
)
def test_damage_is_told_with_its_place(damage: Any, sentence: str) -> None:
    data = damage(framed(b"a" * 100, b"b" * 100))
    if not sentence:
        assert list(records(io.BytesIO(data))) == [b"b" * 100]
        return
    with pytest.raises(Damaged, match=sentence):
        list(records(io.BytesIO(data)))


def test_zeros_at_the_end_are_a_lost_tail_and_before_records_damage() -> None:
    whole = framed(b"a" * 100)
    assert list(records(io.BytesIO(whole + bytes(3 * BLOCK)))) == [b"a" * 100]
    for zeros in (100, BLOCK - len(whole) % BLOCK, 2 * BLOCK):
        with pytest.raises(Damaged, match="no record begins at byte 114"):
            list(records(io.BytesIO(whole + bytes(zeros) + whole[7:])))


def test_a_middle_without_its_first_is_out_of_place() -> None:
    data = bytearray(framed(b"a" * 100))
    data[13] = 3
    data[7:11] = struct.pack("<I", zlib.crc32(b"a" * 100, zlib.crc32(b"\x03")))
    with pytest.raises(Damaged, match="out of place"):
        list(records(io.BytesIO(bytes(data))))


class TestValues:
    def test_json_and_words_that_are_numbers(self) -> None:
        row = items(item(["a"], 1.5) + item(["b"], "NaN") + item(["c"], float("inf")) + item(["d"], {"e": 1}))
        assert (row["a"], str(row["b"]), row["c"], row["d"]) == (1.5, "nan", float("inf"), {"e": 1})

    def test_a_nested_key_is_a_list_and_a_slash_is_a_name(self) -> None:
        assert items(item(["a", "b"], 1) + item(["a/b"], 2)) == {"a.b": 1, "a/b": 2}

    def test_typed_values_of_newer_writers(self) -> None:
        def typed(key: str, value: bytes) -> bytes:
            return message(1, message(2, key.encode()) + value)

        row = items(
            typed("boolean", varint(4 << 3) + b"\x01") + typed("integer", varint(5 << 3) + varint(5))
            + typed("number", varint(6 << 3 | 1) + struct.pack("<d", 2.5)) + typed("text", message(7, b"hello"))
            + typed("json", message(8, b"[1]"))
        )  # fmt: skip
        assert row == {"boolean": True, "integer": -3, "number": 2.5, "text": "hello", "json": [1]}

    def test_the_step_of_the_record(self) -> None:
        assert items(item(["loss"], 3.0) + message(2, b"\x08\x07")) == {"loss": 3.0, "_step": 7}

    def test_long_names_and_values(self) -> None:
        assert items(item(["k" * 300], "v" * 300) + item(["a"], 1)) == {"k" * 300: "v" * 300, "a": 1}


class TestSteps:
    def test_the_trainers_steps_before_wandbs_count(self, tmp_path: Path) -> None:
        logged = [history(_step=n, train__global_step=10 * n, loss=3.0) for n in range(1, 5)]
        write(tmp_path, run_record("a", {"lr": 1e-3}), *logged, EXIT)
        assert steps_of(tmp_path) == [10, 20, 30, 40]
        assert any("steps are those of 'train/global_step'" in note for note in one_table(tmp_path).notes)

    def test_wandbs_count_where_there_is_no_other(self, tmp_path: Path) -> None:
        write(tmp_path, run_record("a", {"lr": 1e-3}), *(history(_step=n, loss=3.0) for n in range(5)), EXIT)
        assert steps_of(tmp_path) == [1, 2, 3, 4]

    def test_an_evaluation_without_the_axis_belongs_to_the_step_before(self, tmp_path: Path) -> None:
        logged = [history(_step=1, global_step=100, loss=3.0), history(_step=2, eval__loss=3.1),
                  history(_step=3, global_step=200, loss=2.9), history(_step=4, eval__loss=3.0)]  # fmt: skip
        write(tmp_path, run_record("a", {"lr": 1e-3}), *logged, EXIT)
        assert steps_of(tmp_path, "validation_loss") == [100, 200]

    def test_steps_that_go_back_are_said(self, tmp_path: Path) -> None:
        logged = [history(_step=n, iter=n % 3 + 1, loss=3.0) for n in range(6)]
        write(tmp_path, run_record("a", {"lr": 1e-3}), *logged, EXIT)
        assert any("its steps go back" in note for note in one_table(tmp_path).notes)

    @pytest.mark.parametrize("name", [message(1, b"eval/loss"), message(2, b"eval/*")], ids=["name", "glob"])
    def test_an_axis_that_the_run_defined(self, tmp_path: Path, name: bytes) -> None:
        defined = message(12, name + message(4, b"eval/step"))
        logged = [history(_step=n, loss=3.0) for n in range(1, 5)]
        evaluated = [history(_step=4 + n, eval__step=500 * n, eval__loss=3.0) for n in (1, 2)]
        write(tmp_path, run_record("a", {"lr": 1e-3}), defined, *logged, *evaluated, EXIT)
        assert steps_of(tmp_path, "validation_loss") == [500, 1000]
        assert steps_of(tmp_path) == [1, 2, 3, 4]
        assert rows(one_table(tmp_path))["run-a.wandb"]["steps"] == 4


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        pytest.param([EXIT], "finished", id="0"),
        pytest.param([message(18, b"\x08\x01")], "crashed", id="1"),
        pytest.param([message(18, b"\x08" + varint(2**64 - 1))], "crashed", id="-1"),
        pytest.param([], "running", id="none"),
    ],
)
def test_states(tmp_path: Path, ending: list[bytes], status: str) -> None:
    write(tmp_path, run_record("a", {"lr": 1e-3}), history(_step=1, loss=3.0), *ending)
    assert rows(one_table(tmp_path))["run-a.wandb"]["status"] == status


def test_a_run_that_diverged_before_it_crashed(tmp_path: Path) -> None:
    logged = [history(_step=1, loss=3.0), history(_step=2, loss=float("nan"))]
    write(tmp_path, run_record("a", {"lr": 1e-3}), *logged, message(18, b"\x08\x01"))
    (row,) = rows(one_table(tmp_path)).values()
    assert row["status"] == "diverged"


def test_settings_change_and_go(tmp_path: Path) -> None:
    change = message(5, item(["lr"], 2e-3) + message(2, message(2, b"old") + message(16, b"1")))
    nested = message(5, item(["model", "width"], 64))
    write(
        tmp_path,
        run_record("a", {"lr": 1e-3, "old": 1, "_wandb": {"x": 1}}),
        change,
        nested,
        history(_step=1, loss=3.0),
        EXIT,
    )
    (row,) = rows(one_table(tmp_path)).values()
    assert {key: value for key, value in row.items() if key.startswith("config.")} == {
        "config.lr": 2e-3, "config.model.width": 64,
    }  # fmt: skip


def test_a_resumed_run_is_one(tmp_path: Path) -> None:
    write(tmp_path / "1", run_record("a", {"lr": 1e-3}), history(_step=1, loss=3.0), history(_step=2, loss=2.9))
    write(tmp_path / "2", run_record("a", {"lr": 1e-3}), history(_step=2, loss=2.8), history(_step=3, loss=2.7), EXIT)
    table = one_table(tmp_path)
    (row,) = rows(table).values()
    assert row["status"] == "finished"
    (curve,) = table.curves
    assert (list(curve.steps), list(curve.numbers)) == ([1, 2, 3], [3.0, 2.8, 2.7])


def test_a_live_run_grows(tmp_path: Path, store: Store) -> None:
    """Ingested while it runs and when it has ended: one run, with the whole of its curves."""
    config = {"lr": 1e-3, "n_params": 10**6, "batch_size_tokens": 8192, "max_steps": 6}
    logged = [history(_step=n, global_step=n, loss=3.0 + 1 / n) for n in range(1, 7)]
    other = run_record("b", config | {"lr": 2e-3})
    write(tmp_path, other, *logged, EXIT, run_id="b")
    for count in range(7):
        path = write(tmp_path, run_record("a", config), *logged[:count])
        path.write_bytes(path.read_bytes()[: -5 if count else None])
        pipeline.ingest(store, tmp_path)
        assert store.recipes()[0].runs == 1
    write(tmp_path, run_record("a", config), *logged, EXIT)
    report = pipeline.ingest(store, tmp_path)
    assert (report.inserted, report.unchanged, report.rejections) == (1, 1, ())
    steps, _ = store.curve(store.recipes()[0].recipe.key, "a", "train_loss")
    assert steps.tolist() == [1, 2, 3, 4, 5, 6]


def test_projects_are_tables_of_their_own(tmp_path: Path) -> None:
    from lawfit.ingest.formats import find_sources, read_source_tables

    for project in ("small", "large"):
        loss = history(_step=1, loss=3.0)
        write(tmp_path / project, run_record("a", {"lr": 1e-3}, project), loss, EXIT)
    (source,) = find_sources(tmp_path)
    assert {table.name: len(table.rows) for table in read_source_tables(source)} == {"small": 1, "large": 1}


def test_an_older_folder_with_its_summary_only(tmp_path: Path) -> None:
    files = tmp_path / "run-20240101_000000-abc" / "files"
    files.mkdir(parents=True)
    (files / "config.yaml").write_text(
        "wandb_version: 1\n_wandb:\n  value: {cli_version: 0.16.0}\nlr:\n  desc: null\n  value: 0.003\n"
        "model:\n  value:\n    width: 64\n"
    )
    (files / "wandb-summary.json").write_text('{"eval/loss": 3.1, "_step": 40, "_wandb": {"runtime": 3}}')
    (row,) = rows(one_table(tmp_path)).values()
    assert (row["run_id"], row["config.lr"], row["config.model.width"], row["summary.eval/loss"]) == (
        "abc",
        0.003,
        64,
        3.1,
    )
    assert "_step" not in " ".join(row)
    assert any("only its summary is on this disk" in note for note in one_table(tmp_path).notes)


def test_a_file_that_was_just_begun(tmp_path: Path) -> None:
    write(tmp_path, run_record("a", {"lr": 1e-3}), history(_step=1, loss=3.0), EXIT, run_id="a")
    begun = write(tmp_path, run_id="b")
    assert begun.stat().st_size == 7
    table = one_table(tmp_path)
    assert len(table.rows) == 1
    assert "neither settings nor numbers" in table.rejections[0].reason


def test_a_damaged_file_alone_is_a_sentence() -> None:
    path = next(GOLDEN.glob("wandb-0.31.0/wandb/*low/*.wandb"))
    assert curves(one_table(path), "low")["train_loss"][0][-1] == 40


def test_memory_does_not_grow_with_a_claim(tmp_path: Path) -> None:
    """A record that says it goes on for ever ends with the file."""
    data = framed(run_record("a", {}))
    path = tmp_path / "run-a.wandb"
    piece = b"m" * (BLOCK - 7)
    middle = struct.pack("<IHB", zlib.crc32(piece, zlib.crc32(b"\x03")), len(piece), 3) + piece
    first = b"f" * (BLOCK - 7 - len(data))
    begin = struct.pack("<IHB", zlib.crc32(first, zlib.crc32(b"\x02")), len(first), 2) + first
    path.write_bytes(data + begin + 20 * middle)
    with pytest.raises(LogFormatError, match=r"no run|neither settings"):
        one_table(path)
