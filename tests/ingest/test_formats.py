"""Every log format: the same runs from each, and bad files in a sentence."""

from __future__ import annotations

import dataclasses
import gzip
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lawfit.errors import LogFormatError
from lawfit.ingest import FORMATS, LogFormat, Table, read_table
from lawfit.ingest.formats.wandb_chart import WANDB_CHART  # which has curves alone
from lawfit.ingest.run_log import RunLogs
from lawfit.ingest.source import MAX_LINE_BYTES
from tests.ingest.tables import csv_text, read, rows, runs, write_csv, write_excel, write_jsonl, write_markdown

TABLE = rows({"learning_rate": "0.001"}, {"optimizer": "adamw", "n_tokens": "2000000000"}, {"final_loss": "nan"})
SUFFIX = {"csv": ".csv", "tsv": ".tsv", "jsonl": ".jsonl", "parquet": ".parquet", "excel": ".xlsx", "markdown": ".md"}


def write(name: str, path: Path, table: list[dict[str, Any]]) -> Path:
    match name:
        case "csv":
            return write_csv(path, table)
        case "tsv":
            path.write_text(csv_text(table, delimiter="\t"), encoding="utf-8")
        case "jsonl":
            write_jsonl(path, table)
        case "parquet":
            pyarrow = pytest.importorskip("pyarrow")
            parquet = pytest.importorskip("pyarrow.parquet")
            parquet.write_table(pyarrow.Table.from_pylist(table), path)
        case "excel":
            write_excel(path, table)
        case "markdown":
            write_markdown(path, table)
        case _:
            pytest.fail(f"write a table of format {name} here, so that the contract is tested")
    return path


# Logs hold more than any table of runs: test_trainer_log.py and formats/ ask the same of them.
TABLE_FORMATS = [
    found
    for found in FORMATS
    if found.name != "trainer" and not isinstance(found, RunLogs) and found is not WANDB_CHART
]


@pytest.mark.parametrize("log_format", TABLE_FORMATS, ids=lambda f: f.name)
class TestContract:
    @pytest.fixture
    def path(self, log_format: LogFormat, tmp_path: Path) -> Path:
        columns = list(dict.fromkeys(name for row in TABLE for name in row))
        full = [{name: row.get(name) for name in columns} for row in TABLE]
        return write(log_format.name, tmp_path / f"sweep{SUFFIX[log_format.name]}", full)

    def test_recognises_its_own_and_only_it_does(self, log_format: LogFormat, path: Path) -> None:
        head = path.read_bytes()[:1000]
        assert next(f for f in FORMATS if f.sniff(path, head)) is log_format

    def test_recognises_its_content_without_a_suffix(self, log_format: LogFormat, path: Path) -> None:
        bare = path.rename(path.with_suffix(""))
        assert read_table(bare).format == log_format.name

    def test_reads_the_same_runs(self, log_format: LogFormat, path: Path, tmp_path: Path) -> None:
        reference = runs(read(write_csv(tmp_path / "reference.csv", TABLE)))
        strip = [dataclasses.replace(run, source="") for run in reference]
        assert [dataclasses.replace(run, source="") for run in runs(read(path))] == strip
        assert len(strip) == 3

    def test_can_be_asked_for_by_name(self, log_format: LogFormat, path: Path) -> None:
        odd = path.rename(path.with_name("sweep.log"))
        assert len(read(odd, format=log_format.name).sweeps) == len(read(odd).sweeps) == 2

    def test_refuses_an_empty_file(self, log_format: LogFormat, path: Path) -> None:
        path.write_bytes(b"")
        with pytest.raises(LogFormatError, match="is empty"):
            read(path, format=log_format.name)

    def test_refuses_noise(self, log_format: LogFormat, path: Path) -> None:
        path.write_bytes(bytes(range(256)) * 64)
        with pytest.raises(LogFormatError, match=r"binary|UTF-16|not a (Parquet|spreadsheet)|cannot be read"):
            read(path, format=log_format.name)
        with pytest.raises(LogFormatError):
            read(path)

    def test_a_cut_file_is_an_error_or_keeps_the_whole_rows(self, log_format: LogFormat, path: Path) -> None:
        whole = path.read_bytes()
        for length in range(0, len(whole), 7):
            path.write_bytes(whole[:length])
            try:
                found = read(path)
            except LogFormatError as error:
                assert str(error).startswith((str(path), path.name))  # noqa: PT017
            else:
                assert len(runs(found)) + len(found.rejections) == found.rows

    def test_lines_are_those_of_the_file(self, log_format: LogFormat, path: Path) -> None:
        first = {"csv": 2, "tsv": 2, "jsonl": 1, "parquet": 1, "excel": 2, "markdown": 3}[log_format.name]
        assert [line for line, _ in read_table(path).rows] == [first, first + 1, first + 2]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("missing.csv", "there is no such file"), ("folder", "is a folder without logs that lawfit reads")],
)
def test_paths_that_are_no_files(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(LogFormatError, match=sentence):
        read(tmp_path / name)


def test_a_device_is_no_file() -> None:
    with pytest.raises(LogFormatError, match="not a regular file"):
        read(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf\r\n \r\n", "is empty"),
        (b"lr,loss\n", "has a header and no rows"),
        (b"lr,loss\r\n\r\n\r\n", "has a header and no rows"),
        (b"a,b\nx,y\n", "no column holds numbers"),
        (b"0.001,524288,3.2\n0.002,524288,3.1\n", "a header with the column names must come first"),
        (b"lr,loss,lr\n1,2,3\n", r"two columns called 'lr' \(columns 1 and 3\)"),
        ("lr,loss\n1,2\n".encode("utf-16"), "UTF-16"),
        (b"lr,loss\r1,2\r", "CR alone"),
        (b"PK\x03\x04\x00\x00\x08\x00", "binary"),
        (b'"lr,loss\n1,2\n', "the header cannot be read"),
        (b"\x1f\x8b\x08\x00garbage", "cannot be read"),
    ],
    ids=["empty", "blank", "header", "header-crlf", "words", "no-header", "twice", "utf16", "cr", "zip", "quote", "gz"],
)
def test_files_that_are_no_tables(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "sweep.csv").write_bytes(content)
    with pytest.raises(LogFormatError, match=sentence):
        read(tmp_path / "sweep.csv")


class TestText:
    def test_bom_and_crlf(self, tmp_path: Path) -> None:
        path = tmp_path / "sweep.csv"
        path.write_bytes(b"\xef\xbb\xbf" + csv_text(TABLE, line_end="\r\n").encode())
        found = read(path)
        assert len(runs(found)) == 3
        assert found.columns["run_id"] == "run_id"

    def test_latin_1_is_read_and_said(self, tmp_path: Path) -> None:
        path = tmp_path / "sweep.csv"
        path.write_bytes(csv_text(rows({"dataset": "Bücher"}, {"dataset": "Bücher"})).encode("latin-1"))
        found = read(path)
        assert found.sweeps[0].recipe.data == "Bücher"
        assert "not UTF-8, so read as latin-1: line 2, 3 (2 in all)" in found.notes[0]

    def test_gzip(self, tmp_path: Path) -> None:
        path = tmp_path / "sweep.csv.gz"
        path.write_bytes(gzip.compress(csv_text(TABLE).encode()))
        found = read(path)
        assert len(runs(found)) == 3
        assert found.sweeps[0].recipe.name.startswith("sweep-")

    def test_cut_gzip(self, tmp_path: Path) -> None:
        path = tmp_path / "sweep.csv.gz"
        path.write_bytes(gzip.compress(csv_text(TABLE * 200).encode())[:-20])
        with pytest.raises(LogFormatError, match="cannot be read"):
            read(path)

    def test_semicolons(self, tmp_path: Path) -> None:
        path = tmp_path / "sweep.csv"
        path.write_text(csv_text(TABLE, delimiter=";"))
        assert len(runs(read(path))) == 3
        assert "cells are separated by ';'" in read(path).notes

    def test_tabs_without_the_name(self, tmp_path: Path) -> None:
        path = tmp_path / "sweep.txt"
        path.write_text(csv_text(TABLE, delimiter="\t"))
        assert read(path).format == "tsv"

    def test_ragged_rows_are_rejected_by_line(self, tmp_path: Path) -> None:
        lines = csv_text(rows({}, {}, {}, {})).splitlines()
        lines[2] += ",surplus"
        lines[3] = lines[3].rpartition(",")[0]
        lines[4] += ",,"
        path = tmp_path / "sweep.csv"
        path.write_text("\n".join(lines))
        found = read(path)
        assert [(r.line, r.reason) for r in found.rejections] == [
            (3, "the row has 7 cells, the header has 6 columns"),
            (4, "the row has 5 cells, the header has 6 columns"),
        ]
        assert [run.run_key for run in runs(found)] == ["r1", "r4"]

    def test_a_cell_with_line_ends(self, tmp_path: Path) -> None:
        path = write_csv(tmp_path / "sweep.csv", rows({"note": 'two\n"lines"'}, {"note": "one"}))
        found = read(path)
        assert [run.extra["note"] for run in runs(found)] == ['two\n"lines"', "one"]
        assert [run.source for run in runs(found)] == ["sweep.csv:2", "sweep.csv:4"]

    def test_a_forgotten_quote_costs_one_row(self, tmp_path: Path) -> None:
        lines = csv_text(rows({}, {}, {}, {})).splitlines()
        lines[2] = '"' + lines[2]
        path = tmp_path / "sweep.csv"
        path.write_text("\n".join(lines))
        found = read(path)
        assert [(r.line, r.reason) for r in found.rejections] == [(3, "a quote is opened and not closed")]
        assert [run.run_key for run in runs(found)] == ["r1", "r3", "r4"]

    def test_nul_bytes_far_down(self, tmp_path: Path) -> None:
        path = tmp_path / "sweep.csv"
        good = csv_text(rows(*[{} for _ in range(3000)])).encode()
        path.write_bytes(good + b"\x00\x00\n")
        found = read(path)
        assert len(runs(found)) == 3000
        assert found.rejections[0].reason == "the line holds NUL bytes"

    def test_empty_rows_are_counted_and_no_rows(self, tmp_path: Path) -> None:
        path = tmp_path / "sweep.csv"
        path.write_text(csv_text(rows({})) + "\n,,,,,\n")
        found = read(path)
        assert (found.rows, found.rejections) == (1, ())
        assert "1 blank row passed over" in found.notes

    def test_titles_above_the_header_are_said(self, tmp_path: Path) -> None:
        path = tmp_path / "sweep.csv"
        path.write_text("Our sweeps,,,,,\n,,,,,\nas of May,,,,,\n" + csv_text(rows({}, {})))
        found = read(path)
        assert len(runs(found)) == 2
        assert "above the header stands: Our sweeps; as of May" in found.notes


class TestJson:
    def test_nested_objects(self, tmp_path: Path) -> None:
        row = {
            "id": "x1",
            "model": {"n_params": 6e7, "seq_len": 1024},
            "optimizer": {"name": "AdamW", "lr": 0.002, "weight_decay": 0.1, "betas": [0.9, 0.95]},
            "batch_size_sequences": 512,
            "n_tokens": 1_200_000_000,
            "eval": {"loss": 3.25},
            "done": True,
        }
        found = read(write_jsonl(tmp_path / "sweep.jsonl", [row]))
        (run,) = runs(found)
        assert (run.params, run.lr, run.weight_decay, run.batch_tokens) == (6e7, 0.002, 0.1, 512 * 1024)
        assert (run.loss, run.run_key) == (3.25, "x1")
        assert run.extra == {"optimizer.betas": "[0.9, 0.95]"}  # it is done, so it is a run
        assert found.sweeps[0].recipe.optimizer == "adamw"
        assert found.columns["loss"] == "eval.loss"

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("[1, 2]", "a JSON object is wanted, this is a list"),
            ("{'lr': 1}", "not JSON"),
            ('{"lr": 1', "not JSON"),
            ('{"lr": 1, "lr": 2}', "'lr' is given twice"),
            ('{"a.b": 1, "a": {"b": 2}}', "'a.b' is given twice"),
            ("[" * 100_000, "nested too deeply"),
            ('{"lr": ' + "9" * 5000 + "}", "not JSON"),
        ],
        ids=["list", "quotes", "cut", "twice", "twice-nested", "deep", "huge"],
    )
    def test_bad_lines_cost_themselves_only(self, tmp_path: Path, line: str, reason: str) -> None:
        path = write_jsonl(tmp_path / "sweep.jsonl", rows({}, {}))
        first, second = path.read_text().splitlines()
        path.write_text(f"{first}\n{line}\n\n{second}\n")
        found = read(path)
        assert [r.line for r in found.rejections] == [2]
        assert reason in found.rejections[0].reason
        assert [run.source for run in runs(found)] == ["sweep.jsonl:1", "sweep.jsonl:4"]

    def test_an_array_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "sweep.json"
        path.write_text(json.dumps(rows({}, {}), indent=1))
        assert [run.run_key for run in runs(read(path))] == ["r1", "r2"]

    @pytest.mark.parametrize(
        "document",
        [
            {"runs": rows({}, {}), "project": "p"},
            {f"r{k}": rows({"run_id": ..., "n_tokens": k * 1e9})[0] for k in (2, 3)},
        ],
        ids=["an array in an object", "objects by name"],
    )
    def test_a_document_that_holds_runs(self, document: dict[str, Any], tmp_path: Path) -> None:
        (tmp_path / "sweep.json").write_text(json.dumps(document, indent=1))
        assert len(runs(read(tmp_path / "sweep.json"))) == 2

    def test_a_document_without_runs(self, tmp_path: Path) -> None:
        (tmp_path / "sweep.json").write_text("[1, 2]")
        with pytest.raises(LogFormatError, match="holds no array of JSON objects; write one object per run"):
            read(tmp_path / "sweep.json")

    def test_nan_and_infinity_as_python_writes_them(self, tmp_path: Path) -> None:
        table = rows({"final_loss": float("nan")}, {"final_loss": float("inf"), "other": float("-inf")}, {})
        found = read(write_jsonl(tmp_path / "sweep.jsonl", table))
        assert [run.status.value for run in runs(found)] == ["diverged", "diverged", "finished"]
        assert runs(found)[1].extra == {"final_loss": "inf", "other": "-inf"}

    def test_text_that_no_database_takes(self, tmp_path: Path) -> None:
        table = rows(
            {"run_id": "\ud800"}, {"run_id": "a\x00b"}, {"note": "\ud800\x00", "\ud800\x00name": 1, "n_tokens": 6e8}
        )
        found = read(write_jsonl(tmp_path / "sweep.jsonl", table))
        assert [r.column for r in found.rejections] == ["run_id"]
        assert runs(found)[0].run_key == "\\ud800"  # half a character, as it is written
        assert runs(found)[1].extra == {"note": "\\ud800", "\\ud800name": 1}


class TestParquet:
    def test_without_pyarrow(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "sweep.parquet").write_bytes(b"PAR1....PAR1")
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        with pytest.raises(LogFormatError, match=r"pip install 'lawfit\[parquet\]'"):
            read(tmp_path / "sweep.parquet")

    def test_a_damaged_file(self, tmp_path: Path) -> None:
        pytest.importorskip("pyarrow")
        (tmp_path / "sweep.parquet").write_bytes(b"PAR1" + b"\x01" * 200 + b"PAR1")
        with pytest.raises(LogFormatError, match="cannot be read as Parquet"):
            read(tmp_path / "sweep.parquet")

    def test_columns_without_rows(self, tmp_path: Path) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({"lr": pyarrow.array([], pyarrow.float64())}), tmp_path / "sweep.parquet")
        with pytest.raises(LogFormatError, match="has columns and no rows"):
            read(tmp_path / "sweep.parquet")


class TestLongLines:
    def test_a_long_row_is_skipped(self, tmp_path: Path) -> None:
        path = tmp_path / "sweep.csv"
        header, one, two = csv_text(rows({}, {})).splitlines()
        path.write_text(f"{header}\n{one}\n{'x' * (3 * MAX_LINE_BYTES)}\n{two}\n")
        found = read(path)
        assert [(r.line, r.reason) for r in found.rejections] == [(3, "the line is longer than 1 MiB")]
        assert [run.source for run in runs(found)] == ["sweep.csv:2", "sweep.csv:4"]

    @pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is measured through /proc")
    @pytest.mark.parametrize("place", ["first", "second"])
    @pytest.mark.parametrize("suffix", [".csv", ".jsonl", ""])
    def test_200_megabytes_in_one_line(self, tmp_path: Path, place: str, suffix: str) -> None:
        """Read in a process of its own, whose memory may not even hold the line."""
        path = tmp_path / f"sweep{suffix}"
        with path.open("wb") as file:
            if place == "second":
                file.write(b"lr,loss\n" if suffix != ".jsonl" else b"nothing\n")
            for _ in range(200):
                file.write(b"a" * (1 << 20))
        code = f"""
import re
from pathlib import Path
from lawfit.errors import LogFormatError
from lawfit.ingest import read_file
try:
    read_file({str(path)!r})
except LogFormatError as error:
    print(error)
# Not getrusage: its peak is inherited from the process that forked.
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
        path.unlink()  # pytest keeps the folders of the last runs
        sentence, peak = done.stdout.splitlines()
        assert "line" in sentence
        assert "longer than 1 MiB" in sentence or "not JSON" in sentence
        assert int(peak) * 1024 < 150 * (1 << 20)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    content=st.binary(max_size=300)
    | st.text(alphabet='lr,loss"\n\r;\t 0123456789.e-{}[]:', max_size=200).map(str.encode)
)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ""])
def test_no_file_gets_anything_but_a_table_or_a_sentence(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content)
    try:
        table = read_table(path)
    except LogFormatError:
        return
    assert all(len(cells) == len(table.columns) for _, cells in table.rows)


def test_a_frame() -> None:
    pandas = pytest.importorskip("pandas")
    from lawfit.ingest import interpret

    frame = pandas.DataFrame(
        {
            "lr": [0.001, 0.002, 0.004],
            "params": [10**8] * 3,
            "tokens": [2e9] * 3,
            "batch_tokens": [2**19] * 3,
            "loss": [3.1, float("inf"), float("nan")],
            "seed": pandas.array([1, None, 3], dtype="Int64"),
        }
    )
    found = interpret(Table.from_frame(frame))
    assert [(run.lr, run.status.value, run.seed) for run in runs(found)] == [
        (0.001, "finished", 1),
        (0.002, "diverged", None),
    ]
    assert [(r.line, r.column) for r in found.rejections] == [(3, "loss")]


class TestExcel:
    def test_titles_blank_rows_and_errors_of_formulas(self, tmp_path: Path) -> None:
        openpyxl = pytest.importorskip("openpyxl")
        book = openpyxl.Workbook()
        columns = ["run_id", "n_params", "n_tokens", "batch_size_tokens", "learning_rate", "final_loss"]
        for cells in (
            ["Sweep of the spring"],
            [],
            columns,
            ["a", 6e7, 1.2e9, 524288, 0.001, 3.2],
            [],
            ["b", 6e7, 1.2e9, 524288, 0.002, "#DIV/0!"],
        ):
            book.active.append(cells)
        book.create_sheet("notes").append(["nothing here"])
        book.save(tmp_path / "sweep.xlsx")
        found = read(tmp_path / "sweep.xlsx")
        assert [run.run_key for run in runs(found)] == ["a"]
        assert found.rejections[0].line == 6
        assert "no loss" in found.rejections[0].reason
        said = " ".join(found.notes)
        assert all(words in said for words in ("Sweep of the spring", "1 blank row", "the file also has notes"))

    def test_without_openpyxl(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "sweep.xlsx").write_bytes(b"PK\x03\x04....")
        monkeypatch.setitem(sys.modules, "openpyxl", None)
        with pytest.raises(LogFormatError, match=r"pip install 'lawfit\[excel\]'"):
            read(tmp_path / "sweep.xlsx")


@pytest.mark.parametrize("text", ["[" * 8000, "a" * 8000 + " (", "x " * 4000, "by " * 3000, "(k" * 4000])
def test_a_name_of_thousands_of_characters_takes_no_time(text: str, tmp_path: Path) -> None:
    """Patterns that look for a unit in a name try each of its brackets with each other."""
    table = rows(*({"learning_rate": f"{n}e-3", text: n} for n in (1, 2, 3)))
    began = time.perf_counter()
    read(write_csv(tmp_path / "long.csv", table))
    assert time.perf_counter() - began < 2
