"""How many runs fit: counted before anything is compiled, checked against the device by a benchmark."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from lawfit.proxy.pack import Model, Pack, RunSettings
from lawfit.proxy.trunks import cut
from lawfit.train import __main__ as command
from lawfit.train.capacity import RESERVE, largest_pack, memory_bytes

MODEL = Model(layers=4, width=128, heads=4, hidden=352, vocab=4096, seq_len=512)
RUNS = tuple(RunSettings(lr=1e-3, steps=100, init_seed=seed) for seed in range(50))
PACK = Pack(name="p", model=MODEL, batch_sequences=16, runs=RUNS)
GPU = torch.device("cuda")


def has_memory(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=size))


@pytest.mark.parametrize("runs", [1, 7, 49])
def test_as_many_as_fit(runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    has_memory(monkeypatch, (memory_bytes(PACK, runs) + 1) / (1 - RESERVE))
    assert largest_pack(PACK, GPU) == runs


def test_no_limit_beyond_the_pack_or_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    has_memory(monkeypatch, 1e15)
    assert largest_pack(PACK, GPU) == 50
    has_memory(monkeypatch, 0.0)
    assert largest_pack(PACK, GPU) == 1  # it is tried, and its batch cut if it does not fit
    assert largest_pack(PACK, torch.device("cpu")) == 50


# bytes that torch reserved on an NVIDIA H200 (2026-11-29, torch 2.11): layers, width, hidden, sequences a step, runs
MEASURED = {
    (4, 128, 352, 16, 16): 4_601_151_488,
    (4, 128, 352, 16, 1): 589_299_712,
    (4, 128, 352, 4, 64): 6_211_764_224,
    (4, 128, 352, 4, 1): 325_058_560,
    (4, 256, 704, 32, 8): 7_916_748_800,
    (4, 256, 704, 32, 1): 1_430_257_664,
    (8, 352, 960, 64, 8): 35_653_681_152,
    (8, 352, 960, 64, 1): 4_880_072_704,
    (12, 416, 1120, 64, 4): 30_897_340_416,
    (12, 416, 1120, 64, 1): 8_088_715_264,
    (12, 768, 2048, 64, 2): 30_345_789_440,
    (12, 768, 2048, 64, 1): 15_590_227_968,
}


@pytest.mark.parametrize("shape", MEASURED, ids=str)
def test_what_is_counted_covers_what_was_measured(shape: tuple[int, int, int, int, int]) -> None:
    """Too little would be found out after compilation; a quarter too much costs a quarter of the pack at most."""
    layers, width, hidden, sequences, runs = shape
    model = replace(MODEL, layers=layers, width=width, heads=width // 32, hidden=hidden, qk_norm=True)
    settings = tuple(RunSettings(lr=1e-3, steps=1000, init_seed=seed) for seed in range(runs))
    counted = memory_bytes(Pack(name="p", model=model, batch_sequences=sequences, runs=settings), runs)
    assert MEASURED[shape] <= counted <= 1.25 * MEASURED[shape]


def test_a_run_takes_no_more_in_a_pack_than_alone() -> None:
    alone = memory_bytes(PACK, 1)
    assert all(memory_bytes(PACK, runs) / runs <= alone for runs in range(2, 51))


@pytest.mark.parametrize(
    "change", [{"accumulation": 4}, {"batch_sequences": 8}, {"precision": "fp32"}, {"optimizer": "muon"}], ids=str
)
def test_what_takes_more_counts_more(change: dict[str, object]) -> None:
    less = "batch_sequences" in change or "accumulation" in change
    assert (memory_bytes(replace(PACK, **change), 8) < memory_bytes(PACK, 8)) == less  # type: ignore[arg-type]


def test_a_pack_is_cut_into_equal_parts() -> None:
    parts = cut(PACK, 3)
    assert [len(part.runs) for part in parts] == [16, 17, 17]
    assert tuple(run for part in parts for run in part.runs) == RUNS
    assert len(cut(replace(PACK, runs=RUNS[:2]), 3)) == 2


def test_a_pack_that_is_too_large_is_cut_before_it_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    monkeypatch.setattr(command, "largest_pack", lambda pack, _: min(20, len(pack.runs)))
    monkeypatch.setattr(command, "has_ended", lambda *_: False)
    monkeypatch.setattr(command, "_train_whole", lambda pack, *_: tried.append(len(pack.runs)) or [])
    options = SimpleNamespace(logs=None, deadline=float("inf"))
    assert command.train_pack(PACK, GPU, options) == []  # type: ignore[arg-type]
    assert tried == [16, 17, 17]
