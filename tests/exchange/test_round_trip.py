"""What `export` writes, `ingest` takes back: an empty store that takes the file is equal to the one it came from."""

from __future__ import annotations

import dataclasses
import gc
import math
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lawfit import pipeline
from lawfit.errors import LogFormatError, NoRun
from lawfit.exchange import writing
from lawfit.exchange.layout import extra_of_text, text_of_extra
from lawfit.exchange.writing import SUFFIXES, ExportError
from lawfit.ingest.options import IngestOptions
from lawfit.records import Curve, LossSweep, Recipe, SizedLoss, StepsToTarget, Sweep, TargetSweep
from lawfit.storage import Store, put_back, streams
from tests.storage.builders import diverged, recipe, run

ODD = 'a, "quoted"\r\nname\twith = ; | ümlaut 数 🦊 \u2028 and \'  spaces '
EXTRAS: dict[str, Any] = {
    "text that is a number": "0.95",
    "number": 0.95,
    "whole": 2**60 + 1,
    "true": True,
    "text that is true": "true",
    "null": None,
    "text that is null": "null",
    "empty text": "",
    "blank": "  ",
    "list": [1, None, "x", {"deep": [0.1]}],
    "object": {"b": 1, "a": 2},
    "quoted": '"already"',
    "nan": "NaN",
    "negative zero": -0.0,
    "tiny": 5e-324,
    "formula": "=1+1",
    ODD: ODD,
    "run_key": "a name of our own columns",
    "extra.x": "a prefix of ours",
    "lawfit": "our mark",
}
NUMBERS = [
    0.1,
    1 / 3,
    math.nextafter(2.75, 3),
    5e-324,
    1e-310,
    1.7976931348623157e308,
    -0.0,
    math.nan,
    math.inf,
    -math.inf,
]
TARGET = StepsToTarget(run_key="t", params=1e8, batch_tokens=5e5, steps=4000.5, target_loss=3.2, extra=EXTRAS)
LOSS = SizedLoss(run_key="n", params=1e8, tokens=3e9, loss=math.nextafter(3.1, 4), extra={"width": 512}, source="x:3")


def fill(store: Store) -> None:
    """Every field at its edges, under recipes of odd names, one of them with nothing in it."""
    full = recipe(
        ODD, optimizer="muon", schedule="wsd, 20 %", data="c4", tokenizer="bpe", seq_len=2**40, parametrization="mup",
        params_convention="active", loss_kind="nats", extra={"weight_decay_kind": "independent"},
    )  # fmt: skip
    runs = [
        run("plain"),
        run("excluded", excluded="node failure,\nsecond line"),
        diverged("out", excluded="also out"),
        diverged("gone", extra={"loss": "nan"}),
        run("007", lr=math.nextafter(0.003, 1), loss=1 / 3, params=1e299, weight_decay=0.0, seed=-(2**63)),
        run("bare", weight_decay=None, steps=None, seed=None, extra={}, source=""),
        run(ODD, extra=EXTRAS, source=ODD, steps=2**62, seed=2**63 - 1),
    ]
    coupled = replace(full, name="second", extra={})
    apart = replace(full, name="third", extra={"sweep": "third"})  # same settings as the second, kept apart
    for each in (full, coupled, apart):
        store.put_sweeps([Sweep(recipe=each, runs=tuple(runs))], named=True)
    store.put_sweeps([Sweep(recipe=Recipe(name="empty"), runs=())], named=True)
    store.put_targets([TargetSweep(recipe=full, rows=(TARGET,))], named=True)
    store.put_losses([LossSweep(recipe=Recipe(name="sizes"), rows=(LOSS,))], named=True)
    steps = tuple(range(1, 1 + len(NUMBERS)))
    curves = [Curve(run_key=key, metric="loss", steps=steps, numbers=tuple(NUMBERS)) for key in ("plain", "out", ODD)]
    long = Curve(
        run_key="plain", metric=ODD, steps=tuple(range(0, 90_000, 10)), numbers=tuple(i / 7 for i in range(9000))
    )
    store.put_curves(full.key, [*curves, long])
    store.put_curves(coupled.key, curves)


def content(store: Store) -> dict[str, Any]:
    """All that an export holds, with floats as their bits."""
    found: dict[str, Any] = {}
    for summary in store.recipes():
        key = summary.recipe.key
        found[key] = {
            "recipe": summary.recipe,
            "runs": [bits(dataclasses.asdict(run)) for run in store.runs(key)],
            "targets": [bits(vars(target)) for target in store.targets(key)],
            "losses": [bits(vars(loss)) for loss in store.losses(key)],
            "curves": {
                (run.run_key, metric): [column.tobytes() for column in store.curve(key, run.run_key, metric)]
                for run in store.runs(key)
                for metric in store.curve_metrics(key, run.run_key)
            },
        }
    return found


def bits(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: bits(part) for name, part in value.items()}
    if isinstance(value, list):
        return [bits(part) for part in value]
    return struct.pack("<d", value) if isinstance(value, float) else (type(value), value)


@pytest.fixture
def full(store: Store) -> Store:
    fill(store)
    return store


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_store_that_takes_an_export_is_equal(full: Store, suffix: str, tmp_path: Path) -> None:
    written = pipeline.export(full, tmp_path / f"all{suffix}")
    assert (written.runs, written.others, written.points) == (21, 2, 60 + 9000)
    with Store.open(tmp_path / "other.db") as other:
        rehearsal = pipeline.ingest(other, written.file, IngestOptions(dry_run=True))
        assert other.recipes() == []
        report = pipeline.ingest(other, written.file)
        assert (report.inserted, report.updated, report.diverged, report.curve_points) == (23, 0, 6, 9060)
        assert (rehearsal.inserted, rehearsal.diverged) == (23, 6)
        assert content(other) == content(full)
        again = pipeline.ingest(other, written.file)
        assert (again.inserted, again.updated, again.unchanged, again.curve_points) == (0, 0, 23, 0)
        assert content(other) == content(full)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_runs_and_curves_in_two_files_make_the_same(full: Store, suffix: str, tmp_path: Path) -> None:
    pipeline.export(full, tmp_path / f"runs{suffix}", curves=False)
    pipeline.export(full, tmp_path / f"curves{suffix}", runs=False)
    with Store.open(tmp_path / "other.db") as other:
        with pytest.raises(NoRun, match=r"(?s)line \d.*ingest the file of its runs first"):
            pipeline.ingest(other, tmp_path / f"curves{suffix}")
        pipeline.ingest(other, tmp_path / f"runs{suffix}")
        report = pipeline.ingest(other, tmp_path / f"curves{suffix}")
        assert (report.of, report.rows, report.inserted) == ("curves", 9060, 9060)
        assert content(other) == content(full)


def test_one_recipe_alone(full: Store, tmp_path: Path) -> None:
    assert pipeline.export(full, tmp_path / "one.csv", "second").recipes == ("second",)
    with Store.open(tmp_path / "other.db") as other:
        pipeline.ingest(other, tmp_path / "one.csv")
        assert [summary.recipe.name for summary in other.recipes()] == ["second"]


def test_an_export_joins_what_a_store_has(full: Store, tmp_path: Path) -> None:
    """Recipes are known by their settings: one under another name is found, and a name that is taken gives way."""
    pipeline.export(full, tmp_path / "all.csv")
    with Store.open(tmp_path / "other.db") as other:
        second = full.recipe("second")
        other.put_runs(replace(second, name="renamed"), [run("plain"), run("own")])
        other.exclude(second.key, ["plain"], "mine")
        other.put_runs(recipe("third", optimizer="sgd"), [run("x")])
        report = pipeline.ingest(other, tmp_path / "all.csv")
        assert "recipe 'second' of the file is 'renamed' in the store" in report.notes
        assert "recipe 'third' of the file is 'third-2' in the store" in report.notes
        assert {r.run_key for r in other.runs(second.key)} == {r.run_key for r in full.runs(second.key)} | {"own"}
        assert next(r for r in other.runs(second.key) if r.run_key == "plain").excluded == "mine"


@pytest.mark.parametrize("value", EXTRAS.values(), ids=repr)
def test_a_cell_gives_back_its_value(value: object) -> None:
    back = extra_of_text(text_of_extra(value))
    assert (bits(back), type(back)) == (bits(value), type(value))


@pytest.mark.soak
@pytest.mark.one_database
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_memory_does_not_grow_with_the_store(
    store: Store, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With four times the runs and curves an export and its way back have no more in memory at once."""
    monkeypatch.setattr(put_back, "_RECORDS_AT_ONCE", 300)
    monkeypatch.setattr(streams, "_ROWS_AT_ONCE", 300)
    monkeypatch.setattr(writing, "_ROWS_AT_ONCE", 300)
    monkeypatch.setattr(writing, "_POINTS_AT_ONCE", 3_000)
    peaks: list[tuple[int, int]] = []
    for size in (1, 4):
        made = recipe(f"of {size}", seq_len=size)
        store.put_runs(made, [run(f"r{n}") for n in range(600 * size)])
        curves = [Curve(run_key=f"r{n}", metric="x", steps=STEPS, numbers=STEPS) for n in range(20 * size)]
        store.put_curves(made.key, curves)
        file = tmp_path / f"{size}{suffix}"
        with Store.open(tmp_path / f"{size}.db") as other:
            out = peak_of(partial(pipeline.export, store, file, made.name))
            peaks.append((out, peak_of(partial(pipeline.ingest, other, file))))
    for small, large in zip(*peaks, strict=True):
        assert large < 1.25 * small + 4e5  # keys of runs, to see one that is given twice


STEPS = tuple(range(1, 501))


def peak_of(work: Callable[[], object]) -> int:
    """Most bytes that Python had at once beyond those before.

    What was there before is set aside: the more a process has, the longer it lets rubbish lie.
    """
    gc.collect()
    gc.freeze()
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    gc.unfreeze()
    return peak


class TestRefused:
    """A file that is not as it was written is taken as a whole or not at all, with line and reason."""

    @pytest.fixture
    def lines(self, full: Store, tmp_path: Path) -> list[str]:
        pipeline.export(full, tmp_path / "plain.jsonl", "second")
        return (tmp_path / "plain.jsonl").read_text(encoding="utf-8").removesuffix("\n").split("\n")

    @pytest.mark.parametrize(
        ("old", "new", "reason"),
        [
            pytest.param('"lr": 0.00276', '"lr": "fast"', "line 1: lr 'fast' is not a number", id="a word"),
            pytest.param('"lr": 0.00276', '"lr": -1', "line 1: lr '-1' is not above zero", id="negative"),
            pytest.param('"lr": 0.00276', '"lr": null', "line 1: lr is empty", id="empty"),
            pytest.param('"status": "finished"', '"status": "ran"', "status 'ran' is neither", id="status"),
            pytest.param('"loss": 2.75', '"loss": null', "a finished run has one", id="no loss"),
            pytest.param('"run/1"', '"run/9"', "upgrade lawfit", id="newer"),
            pytest.param(
                '"run_key": "plain"', '"run_key": "out"', "'out' of recipe 'second' stands there twice", id="twice"
            ),
            pytest.param(
                '"optimizer": "muon"', '"optimizer": "sgd"', "has other settings further up", id="two recipes"
            ),
            pytest.param('"value": 0.1}', '"value": 0.1', "cut off", id="cut"),
        ],
    )
    def test_changed(self, lines: list[str], old: str, new: str, reason: str, tmp_path: Path) -> None:
        place = next(i for i, line in enumerate(lines) if old in line)
        lines[place] = lines[place].replace(old, new)
        (tmp_path / "bad.jsonl").write_text("\n".join(lines), encoding="utf-8")
        with Store.open(tmp_path / "other.db") as other:
            with pytest.raises(LogFormatError, match=reason):
                pipeline.ingest(other, tmp_path / "bad.jsonl")
            assert other.recipes() == []

    def test_points_away_from_their_curve(self, lines: list[str], tmp_path: Path) -> None:
        (tmp_path / "bad.jsonl").write_text("\n".join([*lines[:9], *lines[10:], lines[9]]), encoding="utf-8")
        with Store.open(tmp_path / "other.db") as other, pytest.raises(LogFormatError, match="away from the others"):
            pipeline.ingest(other, tmp_path / "bad.jsonl")

    def test_options_that_contradict_it(self, lines: list[str], tmp_path: Path) -> None:
        with (
            Store.open(tmp_path / "other.db") as other,
            pytest.raises(LogFormatError, match="leave out all options but --dry-run"),
        ):
            pipeline.ingest(other, tmp_path / "plain.jsonl", IngestOptions(recipe="mine"))

    def test_a_file_that_is_there(self, full: Store, tmp_path: Path) -> None:
        (tmp_path / "all.csv").write_text("precious")
        with pytest.raises(ExportError, match="exists already"):
            pipeline.export(full, tmp_path / "all.csv")
        assert (tmp_path / "all.csv").read_text() == "precious"

    def test_an_unknown_kind(self, full: Store, tmp_path: Path) -> None:
        with pytest.raises(ExportError, match=r"\.csv, \.jsonl, \.parquet"):
            pipeline.export(full, tmp_path / "all.xml")

    def test_an_export_that_fails_leaves_nothing(
        self, full: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lawfit.exchange.writing._Csv.points", lambda *_: 1 / 0)
        before = sorted(tmp_path.iterdir())
        with pytest.raises(ZeroDivisionError):
            pipeline.export(full, tmp_path / "all.csv")
        assert sorted(tmp_path.iterdir()) == before
