"""Damaged logs: a sentence or a stated part of the log, never a crash, a hang, or a number that a checksum denies."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from lawfit.errors import LogFormatError
from lawfit.ingest import interpret
from lawfit.ingest.formats import find_sources, read_source_tables
from lawfit.ingest.table import Table
from lawfit.records import Curve
from tests.ingest.formats.logs import GOLDEN

# A file of each format, and what lies beside it.
FILES: Final = {
    "wandb": "wandb-0.31.0/wandb/*low/*.wandb",
    "wandb-old": "wandb-0.19.11/wandb/*low/*.wandb",
    "mlflow": "mlflow/mlflow.db",
    "mlflow-meta": "mlflow_files/mlruns/*/*/meta.yaml",
    "mlflow-metric": "mlflow_files/mlruns/*/*/metrics/eval.loss",
    "trackio": "trackio/tiny-lm.db",
    "optuna": "optuna/study.db",
    "optuna-journal": "optuna/journal.log",
    "tensorboard": "tensorboard/low/events*",
    "tensorboard-tensors": "tensorboard_tensors/low/events*",
    "tensorboard-hparams": "tensorboard_hparams/low/events*",
    "trainer-state": "huggingface/low/trainer_state.json",
    "trainer-args": "huggingface/low/training_args.json",
    "lightning": "lightning/tiny-lm/low/metrics.csv",
    "lightning-settings": "lightning/tiny-lm/low/hparams.yaml",
    "step-lines": "jsonl/low.jsonl",
    "neptune": "neptune/tiny-lm.parquet",
    **{trainer: f"text/{trainer}/low.log" for trainer in ("nanogpt", "megatron", "torchtitan", "litgpt")},
}
CHECKED: Final = ("wandb", "wandb-old", "tensorboard", "tensorboard-tensors")  # every byte is under a checksum
TEXT: Final = ("nanogpt", "megatron", "torchtitan", "litgpt", "lightning", "mlflow-metric")
QUICK: Final = 40
_LONGEST_S: Final = 10.0  # a reading takes milliseconds; this is for a machine that is busy


def flip(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    data[at : at + rng.randrange(1, 20)] = rng.randbytes(rng.randrange(1, 20))


def remove(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.randrange(1, 300)]


def repeat(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    data[at:at] = data[at : at + rng.randrange(1, 300)]


def blank(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    size = min(rng.randrange(1, 600), len(data) - at)
    data[at : at + size] = bytes(size)


def cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def digits(data: bytearray, rng: random.Random) -> None:
    """A long number where another stood."""
    at = rng.randrange(len(data))
    data[at : at + 1] = rng.choice((b"9" * 400, b"1e999", b"-1", b"NaN", b"{" * 2000, b"[" * 2000, b"\xff\xfe"))


WAYS: Final[tuple[Callable[[bytearray, random.Random], None], ...]] = (
    flip, flip, overwrite, remove, repeat, blank, cut, digits,
)  # fmt: skip


def original(name: str) -> Path:
    return sorted(GOLDEN.glob(FILES[name]))[0]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the file of a format with all that lies beside it."""
    import shutil

    if request.param == "neptune":
        pytest.importorskip("pyarrow")
    source = original(request.param)
    folder = source.parent.parent if request.param == "mlflow-metric" else source.parent
    copy = Path(shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("checkpoint-*", "runs")))
    return copy / source.relative_to(folder)


def read(path: Path) -> list[Table]:
    """All that is found around a file, as far as a person gets to see it."""
    folder = path.parent.parent if path.name == "eval.loss" else path.parent
    tables = [table for source in find_sources(folder) for table in read_source_tables(source)]
    for table in tables:
        try:
            interpret(table)
        except LogFormatError as error:
            assert str(error)  # noqa: PT017
    return tables


def survives(path: Path, whole: bytes, rng: random.Random) -> list[Table]:
    """Read the file damaged in one to three ways: tables, or none where a sentence says why."""
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if data:
            rng.choice(WAYS)(data, rng)
    path.write_bytes(data)
    began = time.perf_counter()
    try:
        return read(path)
    except LogFormatError as error:
        assert len(str(error).splitlines()) == 1, error  # noqa: PT017
        return []
    finally:
        assert time.perf_counter() - began < _LONGEST_S


def is_part(curve: Curve, whole: Curve) -> bool:
    known = dict(zip(whole.steps, whole.numbers, strict=True))
    return all(known.get(step) == number for step, number in zip(curve.steps, curve.numbers, strict=True))


def numbers_of(tables: list[Table]) -> dict[tuple[str, str], Curve]:
    return {(curve.run_key, curve.metric): curve for table in tables for curve in table.curves}


def tries(place: Path, name: str, count: int) -> None:
    whole = place.read_bytes()
    curves = numbers_of(read(place))
    rng = random.Random(f"{name} {count}")
    for _ in range(count):
        for key, curve in numbers_of(survives(place, whole, rng)).items():
            if name in CHECKED:
                assert is_part(curve, curves[key]), key
            assert all(map(math.isfinite, curve.numbers))


@pytest.mark.parametrize(("place", "name"), [(name, name) for name in FILES], indirect=["place"], ids=list(FILES))
def test_damage_is_survived(place: Path, name: str) -> None:
    tries(place, name, QUICK)


@pytest.mark.soak
@pytest.mark.parametrize(("place", "name"), [(name, name) for name in FILES], indirect=["place"], ids=list(FILES))
def test_damage_is_survived_thousands_of_times(place: Path, name: str, request: pytest.FixtureRequest) -> None:
    tries(place, name, request.config.getoption("--damages"))


@pytest.mark.soak
@pytest.mark.parametrize(("place", "name"), [(name, name) for name in FILES], indirect=["place"], ids=list(FILES))
def test_cut_anywhere_it_never_says_finished_with_fewer_numbers(place: Path, name: str) -> None:
    """A log that is cut is one of a run that goes on, or is refused; but for text, whose last digits may be missing."""
    whole = place.read_bytes()
    full = numbers_of(read(place))
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        place.write_bytes(whole[:length])
        try:
            tables = read(place)
        except LogFormatError:
            continue
        for key, curve in numbers_of(tables).items():
            if key in full and name not in (
                "nanogpt",
                "megatron",
                "torchtitan",
                "litgpt",
                "lightning",
                "mlflow-metric",
            ):
                assert is_part(curve, full[key]), (length, key)


@pytest.mark.parametrize(("place", "name"), [(name, name) for name in CHECKED], indirect=["place"], ids=list(CHECKED))
def test_every_flipped_byte_is_noticed(place: Path, name: str) -> None:
    """Of a flipped byte under a checksum nothing remains but a refusal, or a tail that is said to be missing."""
    whole = place.read_bytes()
    (before,) = read(place)
    status = before.columns.index("status")
    for at in range(0, len(whole), 37):
        data = bytearray(whole)
        data[at] ^= 0x10
        place.write_bytes(data)
        try:
            tables = read(place)
        except LogFormatError as error:
            words = ("damaged", "no run", "without logs")
            assert any(word in str(error) for word in words), at  # noqa: PT017
            continue
        (table,) = tables
        if table.rows:
            said = table.rows[0][1][table.columns.index("status")] if "status" in table.columns else ""
            assert said != before.rows[0][1][status] or any("cut off" in note for note in table.notes), at
