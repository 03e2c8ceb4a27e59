"""Branches of a trunk: what is shared, and that a branch is the run that stands alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lawfit.corpus import Corpus
from lawfit.proxy.pack import Model, Pack, RunSettings
from lawfit.proxy.trunks import Branch, halves, plan, trained_tokens
from lawfit.train.loop import Outcome, ended, train
from lawfit.train.trainer import Trainer
from tests.train.test_resume import TIMINGS, write_corpus

CPU = torch.device("cpu")
WSD = RunSettings(lr=1e-2, steps=40, schedule="wsd", warmup_steps=4, cooldown_fraction=0.25)
HORIZONS = (40, 20, 10)
OTHER = replace(WSD, lr=3e-3, init_seed=2, data_seed=1)
RUNS = tuple(replace(run, steps=steps) for run in (WSD, OTHER) for steps in HORIZONS)
OF_THE_PACK = {"pack", "neighbours", "shared_init_seed", "shared_data_seed", "trunk", "trunk_steps", "checkpoint_bytes"}


def make(model: Model, runs: tuple[RunSettings, ...], **changes: Any) -> Pack:
    settings = {
        "name": "p", "batch_sequences": 4, "precision": "fp32", "eval_sequences": 30, "log_points": 10, "evals": 3,
    }  # fmt: skip
    return Pack(model=model, runs=runs, **{**settings, **changes})


def run_pack(pack: Pack, corpus: Corpus, logs: Path, **options: Any) -> list[Outcome]:
    return train(pack, corpus, logs, trainer=Trainer(pack, CPU, compiled=False), **options)


def logs_of(folder: Path, leave_out: set[str] = TIMINGS) -> dict[str, list[dict[str, Any]]]:
    return {
        path.stem: [
            {key: value for key, value in json.loads(line).items() if key not in leave_out}
            for line in path.read_text().splitlines()
        ]
        for path in sorted(folder.glob("*.jsonl"))
    }


def test_shared_steps_are_counted_once(model: Model) -> None:
    pack = make(model, RUNS)
    assert trained_tokens(pack) == 2 * (40 + 4 + 2) * pack.batch_tokens
    apart = make(model, tuple(replace(run, schedule="linear") for run in RUNS))
    assert trained_tokens(apart) == 2 * sum(HORIZONS) * pack.batch_tokens


def test_horizons_share_a_trunk(model: Model) -> None:
    shared = plan(make(model, RUNS))
    assert shared.rows == (0, 3)
    # where the last quarter begins at a whole step, that step is still at the peak
    assert [(d.at, d.until, d.branches) for d in shared.detours] == [
        (8, 10, (Branch(run=2, trunk=0, at=8), Branch(run=5, trunk=3, at=8))),
        (16, 20, (Branch(run=1, trunk=0, at=16), Branch(run=4, trunk=3, at=16))),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 2e-2}, {"data_seed": 5}, {"weight_decay": 0.0}, {"warmup_steps": 3}, {"schedule": "linear"},
        {"average_half_life_tokens": 100.0},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_other_runs_share_nothing(model: Model, change: dict[str, Any]) -> None:
    assert plan(make(model, (WSD, replace(WSD, steps=20, **change)))).rows == (0, 1)


def test_cooldowns_of_different_shape_leave_one_after_the_other(model: Model) -> None:
    floors = tuple(replace(WSD, steps=20, final_fraction=fraction) for fraction in (0.0, 0.1, 0.3))
    shared = plan(make(model, (replace(WSD, schedule="constant"), *floors, replace(floors[0], schedule="constant"))))
    assert shared.rows == (0,)
    assert [[branch.run for branch in detour.branches] for detour in shared.detours] == [[1], [2], [3], [4]]
    assert [detour.at for detour in shared.detours] == [16, 16, 16, 20]
    assert shared.detours[-1].until == 20  # a shorter run at constant rate is an evaluation on the way


def test_a_lone_branch_beside_many_rows_is_a_row(model: Model) -> None:
    rows = tuple(replace(WSD, init_seed=seed) for seed in range(20))
    assert len(plan(make(model, (*rows, replace(WSD, steps=10)))).rows) == 21
    assert len(plan(make(model, (*rows, *(replace(run, steps=10) for run in rows)))).rows) == 20


def test_halves_keep_families_together(model: Model) -> None:
    parts = halves(make(model, RUNS))
    assert parts is not None
    assert [part.runs for part in parts] == [RUNS[:3], RUNS[3:]]
    assert halves(parts[0]) is None  # one row


def test_a_branch_is_the_run_that_stands_alone(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    runs = tuple(replace(run, average_half_life_tokens=300.0) for run in RUNS)
    pack = make(model, runs, noise_scale=True)
    outcomes = run_pack(pack, corpus, tmp_path / "together")
    for i, run in enumerate(runs):
        (alone,) = run_pack(make(model, (run,), noise_scale=True), corpus, tmp_path / "alone")
        assert alone.run_id == outcomes[i].run_id == pack.run_id(i, "made-up")
        assert (alone.status, alone.steps) == (outcomes[i].status, outcomes[i].steps) == ("finished", run.steps)
    together, alone_logs = (logs_of(tmp_path / name, TIMINGS | OF_THE_PACK) for name in ("together", "alone"))
    assert together.keys() == alone_logs.keys()
    for name, lines in together.items():
        assert lines[0] == alone_logs[name][0]
        assert len(lines) == len(alone_logs[name])
        for line, other in zip(lines[1:], alone_logs[name][1:], strict=True):
            assert line.keys() == other.keys()
            assert (line["event"], line["step"], line["tokens"]) == (other["event"], other["step"], other["tokens"])
            for key in line.keys() - {"event", "status"}:
                # matrix products of two stacked models round otherwise than those of one
                assert line[key] == pytest.approx(other[key], rel=1e-4), key
    start = {name: json.loads((tmp_path / f"together/{name}.jsonl").read_text().split("\n")[0]) for name in together}
    assert [start[o.run_id]["trunk_steps"] for o in outcomes] == [0, 16, 8] * 2
    first, second = outcomes[0].run_id, outcomes[3].run_id
    assert [start[o.run_id]["trunk"] for o in outcomes] == [None, first, first, None, second, second]


def test_one_trunk_is_bit_for_bit_the_run_that_stands_alone(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    outcomes = run_pack(make(model, RUNS[:3]), corpus, tmp_path / "together")
    alone = [run_pack(make(model, (run,)), corpus, tmp_path / "alone")[0] for run in RUNS[:3]]
    assert outcomes == alone
    assert logs_of(tmp_path / "together", TIMINGS | OF_THE_PACK) == logs_of(tmp_path / "alone", TIMINGS | OF_THE_PACK)


def test_stopped_at_every_line_and_resumed(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    runs = tuple(replace(run, average_half_life_tokens=300.0) for run in RUNS)
    pack = make(model, (*runs, *(replace(run, lr=1e30) for run in runs[3:])), noise_scale=True)
    run_pack(pack, corpus, tmp_path / "whole")
    parts, on_detours = 0, 0
    while not ended(pack, "made-up", tmp_path / "parts"):
        run_pack(pack, corpus, tmp_path / "parts", deadline=0.0)
        parts += 1
        for path in (tmp_path / "parts").glob("*.checkpoint"):
            on_detours += torch.load(path, weights_only=True)["trunk"] is not None
        assert parts < 100
    assert parts > 20
    assert on_detours >= 3  # some of the pieces ended on a detour
    assert logs_of(tmp_path / "parts") == logs_of(tmp_path / "whole")
    assert not list((tmp_path / "parts").glob("*.checkpoint"))


def test_a_cooldown_that_diverges_leaves_its_trunk_alone(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    """The branch is made to fail by its own learning rates, on the detour only."""
    pack = make(model, RUNS[:2])
    clean = run_pack(pack, corpus, tmp_path / "clean")
    trainer = Trainer(pack, CPU, compiled=False)
    follow = trainer.follow

    def wild(courses: dict[int, RunSettings]) -> None:
        follow(courses)
        if courses[0].steps == 20:
            trainer.lr_table.fill_(1e30)

    trainer.follow = wild  # type: ignore[assignment,method-assign]
    torn = train(pack, corpus, tmp_path / "torn", trainer=trainer)
    assert [(o.status, o.steps) for o in torn] == [("finished", 40), ("diverged", 18)]
    assert torn[0] == clean[0]


def test_what_a_shared_trunk_saves(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    class Counting(Trainer):
        steps_done = 0

        def train_step(self) -> None:
            self.steps_done += 1
            super().train_step()

    pack = make(model, RUNS)
    trainer = Counting(pack, CPU, compiled=False)
    train(pack, corpus, tmp_path, trainer=trainer)
    assert (trainer.k, trainer.steps_done) == (2, 40 + 4 + 2)  # instead of six rows of 40 steps
    assert np.isfinite(trainer.loss_table.numpy()).all()


@pytest.mark.soak
def test_kill_9_on_a_detour(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    write_corpus(corpus, tmp_path / "corpus")
    runs = tuple(replace(WSD, steps=steps, average_half_life_tokens=500.0) for steps in (400, 300))
    pack = make(model, runs, corpus=str(tmp_path / "corpus"), log_points=100)
    (tmp_path / "p.json").write_text(json.dumps(pack.to_json()))
    run_pack(pack, corpus, tmp_path / "whole")
    command = [sys.executable, "-m", "lawfit.train", str(tmp_path / "p.json"), "--cpu", "--checkpoint-seconds", "0"]
    command += ["--logs", str(tmp_path / "killed")]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    while not (found := list((tmp_path / "killed").glob("*.checkpoint"))) or torch.load(found[0])["trunk"] is None:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    saved = torch.load(found[0])
    assert saved["trunk"] is not None
    assert int(saved["trunk"]["step"]) < int(saved["tensors"]["step"]) < 300  # in the cooldown
    run_pack(pack, corpus, tmp_path / "killed")
    names = TIMINGS | {"corpus"}  # the folder of the corpus is not its content
    assert logs_of(tmp_path / "killed", names) == logs_of(tmp_path / "whole", names)
