"""Interrupted packs: killed at any time and started again, the logs are those of an uninterrupted pack."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lawfit.corpus import Corpus
from lawfit.errors import LawfitError
from lawfit.proxy.pack import Model, Pack, RunSettings
from lawfit.train import __main__ as command
from lawfit.train.loop import ended, train
from lawfit.train.trainer import Trainer

STEPS = 40
RUNS = (
    RunSettings(lr=3e-3, steps=STEPS),
    RunSettings(lr=1e30, steps=STEPS),  # diverges at once
    RunSettings(lr=1e-2, steps=STEPS // 2, warmup_steps=3, data_seed=1),
)
TIMINGS = {
    "prepare_seconds", "train_seconds", "eval_seconds", "pack_tokens_per_second", "mfu", "peak_memory_bytes",
    "lawfit_commit",  # of a checkout that others may work in
}  # fmt: skip


def make(model: Model, **changes: Any) -> Pack:
    settings = {"name": "p", "batch_sequences": 4, "precision": "fp32", "eval_sequences": 20, "log_points": 20}
    return Pack(model=model, runs=RUNS, **{**settings, **changes})


def logs_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Lines by log, without what a clock measured."""
    return {
        path.name: [
            {key: value for key, value in json.loads(line).items() if key not in TIMINGS}
            for line in path.read_text().splitlines()
        ]
        for path in sorted(folder.glob("*.jsonl"))
    }


def run_pack(pack: Pack, corpus: Corpus, logs: Path, **options: Any) -> list[str]:
    trainer = Trainer(pack, torch.device("cpu"), compiled=False)
    return [outcome.status for outcome in train(pack, corpus, logs, trainer=trainer, **options)]


def test_stopped_at_every_line_and_resumed(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    pack = make(model)
    assert run_pack(pack, corpus, tmp_path / "whole") == ["finished", "diverged", "finished"]
    parts = 0
    while not ended(pack, "made-up", tmp_path / "parts"):
        statuses = run_pack(pack, corpus, tmp_path / "parts", deadline=0.0)  # one interval, then it is too late
        parts += 1
        assert parts <= 30
    assert statuses == ["finished", "diverged", "finished"]
    assert parts == 30  # lines at every step while the shorter run lasts, then at every other
    assert logs_of(tmp_path / "parts") == logs_of(tmp_path / "whole")  # bit for bit
    assert not list((tmp_path / "parts").glob("*.checkpoint"))


def test_as_many_threads_give_the_same_bits_and_others_the_same_up_to_rounding(corpus: Corpus, tmp_path: Path) -> None:
    model = Model(layers=1, width=64, heads=2, hidden=176, vocab=61, seq_len=16)  # matrices that threads share
    runs = (RunSettings(lr=3e-3, steps=6), RunSettings(lr=1e-2, steps=6))
    pack = dataclasses.replace(make(model, batch_sequences=32), runs=runs)
    before, losses = torch.get_num_threads(), {}
    try:
        for name, threads in (("one", 1), ("again", 1), ("two", 2)):
            torch.set_num_threads(threads)
            run_pack(pack, corpus, tmp_path / name)
            losses[name] = {
                (log, line["step"]): line["loss"]
                for log, lines in logs_of(tmp_path / name).items()
                for line in lines
                if line["event"] == "train"
            }
    finally:
        torch.set_num_threads(before)
    assert losses["one"] == losses["again"]
    assert losses["one"].keys() == losses["two"].keys()
    assert list(losses["two"].values()) == pytest.approx(list(losses["one"].values()), rel=1e-3)


def test_lines_after_the_checkpoint_are_not_doubled(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    pack = make(model)
    run_pack(pack, corpus, tmp_path / "whole")
    run_pack(pack, corpus, tmp_path / "torn", deadline=0.0)
    for path in (tmp_path / "torn").glob("*.jsonl"):  # as if it had gone on for a while before it was killed
        with path.open("a") as file:
            file.write('{"event": "train", "step": 4, "loss": 0.0}\n{"event": "tr')
    run_pack(pack, corpus, tmp_path / "torn")
    assert logs_of(tmp_path / "torn") == logs_of(tmp_path / "whole")


def test_pieces_on_machine_after_machine(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    """A piece is the folder of the logs: what it holds is enough to go on elsewhere."""
    runs = tuple(dataclasses.replace(run, average_half_life_tokens=200.0) for run in RUNS)
    pack = dataclasses.replace(make(model, noise_scale=True, evals=4), runs=runs)
    run_pack(pack, corpus, tmp_path / "whole")
    here = tmp_path / "0"
    for number in range(1, 100):
        if "stopped" not in run_pack(pack, corpus, here, deadline=0.0):
            break
        (checkpoint,) = here.glob("*.checkpoint")
        there = tmp_path / str(number)
        there.mkdir()
        for path in (checkpoint, *here.glob("*.jsonl")):
            shutil.copy(path, there)
        shutil.rmtree(here)
        here = there
    assert number > 20
    assert logs_of(here) == logs_of(tmp_path / "whole")


def test_a_checkpoint_is_as_large_as_the_log_says(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    pack = make(model, noise_scale=True)
    averaging = dataclasses.replace(
        pack, runs=tuple(dataclasses.replace(run, average_half_life_tokens=200.0) for run in RUNS)
    )
    params = sum(model.params.values())
    for folder, case, per_param in ((tmp_path / "plain", pack, 12), (tmp_path / "average", averaging, 16)):
        run_pack(case, corpus, folder, deadline=0.0)
        (checkpoint,) = folder.glob("*.checkpoint")
        said = {lines[0]["checkpoint_bytes"] for lines in logs_of(folder).values()}
        assert len(said) == 1
        size = said.pop()
        assert size == pytest.approx(3 * (per_param * params + 8 * STEPS), abs=100)  # and a few counters
        assert size < checkpoint.stat().st_size < size + 8000  # names and paddings of the file


@pytest.mark.parametrize("content", [b"", b"junk", "older", "plan"], ids=["empty", "damaged", "older", "plan"])
def test_a_checkpoint_that_cannot_be_read(model: Model, corpus: Corpus, tmp_path: Path, content: bytes | str) -> None:
    pack = make(model)
    run_pack(pack, corpus, tmp_path, deadline=0.0)
    (checkpoint,) = tmp_path.glob("*.checkpoint")
    before = logs_of(tmp_path)
    if isinstance(content, bytes):
        checkpoint.write_bytes(content)
    elif content == "older":
        torch.save({"tensors": {}, "log_positions": [], "seconds": 1.0}, checkpoint)
    else:  # by another version, that shares other steps between runs
        torch.save({**torch.load(checkpoint, weights_only=True), "plan": "feed"}, checkpoint)
    with pytest.raises(LawfitError, match=r"cannot be read as a checkpoint .*: remove it to begin its pack again"):
        run_pack(pack, corpus, tmp_path)
    assert logs_of(tmp_path) == before  # nothing was cut


def test_a_lost_log_is_not_papered_over(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    pack = make(model)
    run_pack(pack, corpus, tmp_path, deadline=0.0)
    next(tmp_path.glob("*.jsonl")).unlink()
    with pytest.raises(LawfitError, match="holds less than its checkpoint says"):
        run_pack(pack, corpus, tmp_path)


def write_corpus(corpus: Corpus, folder: Path) -> None:
    folder.mkdir()
    corpus.train.tofile(folder / "train.bin")
    corpus.validation.tofile(folder / "validation.bin")
    (folder / "manifest.json").write_text(json.dumps(corpus.manifest.__dict__))


@pytest.fixture
def pack_file(model: Model, corpus: Corpus, tmp_path: Path) -> Path:
    write_corpus(corpus, tmp_path / "corpus")
    path = tmp_path / "p.json"
    path.write_text(json.dumps(make(model, corpus=str(tmp_path / "corpus"), corpus_hash="made-up").to_json()))
    return path


def test_kill_9_and_again(pack_file: Path, tmp_path: Path) -> None:
    arguments = [str(pack_file), "--cpu", "--checkpoint-seconds", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = [sys.executable, "-m", "lawfit.train", *arguments, "--logs", str(tmp_path / "killed")]
    assert command.main([*arguments, "--logs", str(tmp_path / "whole")]) == 0
    kills = 0
    for patience in (0.0, 0.05):
        process = subprocess.Popen(start, env=environment, stdout=subprocess.DEVNULL)
        while process.poll() is None and not list((tmp_path / "killed").glob("*.checkpoint")):
            time.sleep(0.005)
        time.sleep(patience)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills
    assert command.main([*arguments, "--logs", str(tmp_path / "killed")]) == 0
    assert logs_of(tmp_path / "killed") == logs_of(tmp_path / "whole")


def test_what_has_ended_is_skipped(pack_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(pack_file), "--cpu", "--logs", str(tmp_path / "logs")]
    assert command.main(arguments) == 0
    first = logs_of(tmp_path / "logs")
    times = [path.stat().st_mtime_ns for path in (tmp_path / "logs").glob("*.jsonl")]
    capsys.readouterr()
    assert command.main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == {"pack": "p", "skipped": 3}
    assert [path.stat().st_mtime_ns for path in (tmp_path / "logs").glob("*.jsonl")] == times
    assert logs_of(tmp_path / "logs") == first


def test_another_corpus_in_the_same_folder_is_refused(
    pack_file: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(pack_file), "--cpu", "--logs", str(tmp_path / "logs")]) == 0
    before = logs_of(tmp_path / "logs")
    other = dataclasses.replace(corpus, manifest=dataclasses.replace(corpus.manifest, hash="another"))
    write_corpus(other, tmp_path / "other")
    content = {**json.loads(pack_file.read_text()), "corpus": str(tmp_path / "other"), "corpus_hash": None}
    pack_file.write_text(json.dumps(content))
    assert command.main([str(pack_file), "--cpu", "--logs", str(tmp_path / "logs")]) == 1
    assert "logs holds runs on corpus made-up" in capsys.readouterr().err
    assert logs_of(tmp_path / "logs") == before


def test_out_of_memory_splits_the_pack(
    pack_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(pack_file), "--cpu", "--logs", str(tmp_path / "whole")]) == 0

    class Small(Trainer):
        """A device with room for one run."""

        def __init__(self, pack: Pack, *arguments: Any, **options: Any) -> None:
            if len(pack.runs) > 1:
                raise torch.OutOfMemoryError("no room")
            super().__init__(pack, *arguments, **options)

    monkeypatch.setattr(command, "Trainer", Small)
    assert command.main([str(pack_file), "--cpu", "--logs", str(tmp_path / "split")]) == 0
    assert "pack p of 3 runs does not fit into memory; split in 2" in capsys.readouterr().err
    whole, split = logs_of(tmp_path / "whole"), logs_of(tmp_path / "split")
    assert whole.keys() == split.keys()  # the same ids
    for name, lines in whole.items():
        assert [(line["event"], line.get("step")) for line in lines] == [
            (line["event"], line.get("step")) for line in split[name]
        ]
        losses = [line["loss"] for line in lines if line.get("loss") is not None]
        again = [line["loss"] for line in split[name] if line.get("loss") is not None]
        np.testing.assert_allclose(again, losses, rtol=1e-5)  # matrix products of another size round differently


def test_a_run_that_never_fits_is_an_error(
    pack_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> Trainer:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(command, "Trainer", full)
    assert command.main([str(pack_file), "--cpu", "--logs", str(tmp_path)]) == 1
    errors = capsys.readouterr().err
    assert "pack p of 1 runs does not fit into memory; its batch is cut into 4" in errors
    assert "a single run of pack p does not fit into the memory of cpu, not even in micro-batches of 1 seq" in errors
