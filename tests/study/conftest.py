"""Studies of very small models: their shapes, a corpus, and what stands in for the trainer."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lawfit.launch import Job, JobState, JobStatus, LocalLauncher
from lawfit.planner import next_runs
from lawfit.proxy import shapes
from tests.study.made_trainer import main

TINY = shapes.Family(depth=(0.0, 0.0), head=8, hidden=2.0, least_layers=1, same={"qk_norm": True, "embedding_std": 1.0})
PACK = 3  # place of the pack's file in the command of a job: python -m lawfit.train PACK
VOCAB, SEQ_LEN = 61, 8
TARGET = ("--params", "30k", "--tokens", "300k")
LIMITS = ("--max-params", "5k", "--max-tokens", "40k", "--seq-len", str(SEQ_LEN))
HOW = ("--corpus", "corpus", "--logs", "logs", "--cpu", "--workers-per-gpu", "2")


def write_corpus(folder: Path, train: int = 60_000, validation: int = 2_000) -> Path:
    """Tokens with structure to learn: each is a small step from the one before."""
    steps = np.random.default_rng(5).choice([1, 2, 5], size=train + validation, p=[0.7, 0.2, 0.1])
    tokens = (np.cumsum(steps) % VOCAB).astype(np.uint16)
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in {"train": tokens[:train], "validation": tokens[train:]}.items():
        part.tofile(folder / f"{name}.bin")
    manifest = {
        "hash": "0123456789abcdef", "vocab": VOCAB, "documents": 1, "duplicates": 0, "skipped": 0,
        "train_tokens": train, "validation_tokens": validation, "validation_bytes": 2 * validation,
        "sources": ["made up"],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def plan_tiny_models(patch: pytest.MonkeyPatch) -> None:
    """First sweeps of models that train in a moment."""
    patch.setattr(shapes, "USUAL", TINY)
    patch.setattr(next_runs, "SMALLEST", 300.0)


class Made:
    """The stand-in for the trainer, called instead of started: how it behaves, and what it has trained."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._how, self._calls = folder / "behaviour.json", folder / "calls"
        self.behave()
        ended: dict[str, JobState] = {}

        def submit(launcher: LocalLauncher, job: Job) -> None:
            errors = job.folder / ".launch" / f"{job.name}.err"
            errors.parent.mkdir(parents=True, exist_ok=True)
            with errors.open("w") as said:
                code = main(Path(job.command[PACK]), job.folder, self._how, said)
            ended[job.name] = JobState(status=JobStatus.ENDED, place="cpu", exit_code=code)

        patch.setattr(LocalLauncher, "submit", submit)
        patch.setattr(LocalLauncher, "state", lambda _, name: ended[name])
        patch.setattr(LocalLauncher, "logs", lambda _, name: next(folder.rglob(f"{name}.err")).read_text())
        patch.setattr(LocalLauncher, "cancel", lambda _, name: None)
        patch.setattr(LocalLauncher, "close", lambda _: None)

    def behave(self, **behaviour: Any) -> None:
        self._how.write_text(json.dumps({"calls": str(self._calls), **behaviour}))

    @property
    def trained(self) -> Counter[str]:
        """Run id -> how often it was trained."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        return Counter(line.split()[0] for line in lines)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A folder with a corpus and a database to be, and the stand-in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAWFIT_DATABASE_URL", str(tmp_path / "lawfit.db"))
    plan_tiny_models(monkeypatch)
    write_corpus(tmp_path / "corpus")
    return Made(tmp_path, monkeypatch)
