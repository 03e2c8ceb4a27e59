"""On a GPU: branches of a trunk, rows that are let go of, and what the log says of the device."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lawfit.corpus import Corpus
from lawfit.proxy.pack import Model, Pack, RunSettings
from lawfit.train import machine
from lawfit.train.loop import Outcome, train
from lawfit.train.trainer import Trainer

GPU = torch.device("cuda")
MODEL = Model(layers=1, width=64, heads=2, hidden=96, vocab=64, seq_len=64)
WSD = RunSettings(
    lr=3e-3, steps=60, schedule="wsd", warmup_steps=5, cooldown_fraction=0.25, average_half_life_tokens=4000.0
)
RUNS = tuple(replace(WSD, init_seed=seed, steps=steps) for seed in (0, 1) for steps in (60, 40))
# the embedding's gradient is summed by atomics, in no fixed order, and another number of rows rounds otherwise
TOLERANCE = 1e-3

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # the compiler advises TF32, which fp32 packs must not use
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def make(*runs: RunSettings, **changes: Any) -> Pack:
    settings = {
        "name": "p", "batch_sequences": 8, "precision": "fp32", "eval_sequences": 50, "log_points": 20, "evals": 3,
    }  # fmt: skip
    return Pack(model=MODEL, runs=runs, **{**settings, **changes})


def run_pack(pack: Pack, corpus: Corpus, logs: Path, **options: float) -> tuple[Trainer, list[Outcome]]:
    trainer = Trainer(pack, GPU, compiled=GPU.type == "cuda")
    return trainer, train(pack, corpus, logs, trainer=trainer, **options)


def lines(logs: Path, run_id: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (logs / f"{run_id}.jsonl").read_text().splitlines()]


def assert_same_losses(here: Path, there: Path, run_ids: list[str]) -> None:
    for run_id in run_ids:
        ours, others = (
            [line for line in lines(folder, run_id) if line["event"] != "start"] for folder in (here, there)
        )
        assert [(x["event"], x["step"]) for x in ours] == [(x["event"], x["step"]) for x in others]
        for name in ("loss", "average_loss"):
            values = [[x[name] for x in events if x.get(name) is not None] for events in (ours, others)]
            np.testing.assert_allclose(values[0], values[1], rtol=TOLERANCE)


def test_branches_are_runs_that_stand_alone(corpus: Corpus, tmp_path: Path) -> None:
    trainer, outcomes = run_pack(make(*RUNS), corpus, tmp_path / "together")
    assert trainer.k == 2
    assert [outcome.status for outcome in outcomes] == ["finished"] * 4
    for run in RUNS:
        run_pack(make(run), corpus, tmp_path / "alone")
    assert_same_losses(tmp_path / "together", tmp_path / "alone", [outcome.run_id for outcome in outcomes])


def test_resumed_in_trunk_and_branch(corpus: Corpus, tmp_path: Path) -> None:
    pack = make(*RUNS, noise_scale=True)
    _, outcomes = run_pack(pack, corpus, tmp_path / "whole")
    on_detours = 0
    for _ in range(40):
        _, statuses = run_pack(pack, corpus, tmp_path / "parts", deadline=0.0)
        on_detours += sum(
            torch.load(path, weights_only=True)["trunk"] is not None
            for path in (tmp_path / "parts").glob("*.checkpoint")
        )
        if all(outcome.status != "stopped" for outcome in statuses):
            break
    assert on_detours
    assert_same_losses(tmp_path / "parts", tmp_path / "whole", [outcome.run_id for outcome in outcomes])


def test_rows_are_let_go_of(corpus: Corpus, tmp_path: Path) -> None:
    wild = tuple(replace(WSD, lr=1e25, init_seed=seed) for seed in range(3))
    calm = make(RUNS[0])
    run_pack(calm, corpus, tmp_path / "alone")
    pack = make(wild[0], RUNS[0], *wild[1:])
    trainer = Trainer(pack, GPU, compiled=GPU.type == "cuda")
    ticks = itertools.count()  # by this clock a preparation takes as long as an interval: letting go pays
    outcomes = train(pack, corpus, tmp_path / "together", trainer=trainer, clock=lambda: float(next(ticks)))
    assert trainer.k == 1
    assert [outcome.status for outcome in outcomes] == ["diverged", "finished", "diverged", "diverged"]
    assert_same_losses(tmp_path / "together", tmp_path / "alone", [outcomes[1].run_id])


def test_log_of_a_gpu(corpus: Corpus, tmp_path: Path) -> None:
    _, outcomes = run_pack(make(RUNS[0], precision="bf16"), corpus, tmp_path)
    start, *_, end = lines(tmp_path, outcomes[0].run_id)
    assert start["device"] == machine.device_name(GPU) != "cpu"
    assert start["cuda"] == torch.version.cuda
    assert end["peak_memory_bytes"] <= torch.cuda.get_device_properties(GPU).total_memory
    assert end["peak_memory_bytes"] > 12 * sum(MODEL.params.values())
    if start["peak_flops"] is None:
        assert end["mfu"] is None
    else:
        assert 0 < end["mfu"] < 1
