"""What the training benchmarks train: shapes like those of the shipped sweep, on made-up text."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lawfit.corpus import Corpus, Manifest
from lawfit.proxy.pack import Model, Pack, RunSettings

VOCAB = 4096
EVAL_TOKENS = 2_097_152


@dataclass(frozen=True)
class Case:
    """A shape, and how it is trained."""

    layers: int
    width: int
    heads: int
    hidden: int
    runs: int  # at once, in throughput
    batch_tokens: int
    seq_len: int = 512

    @property
    def model(self) -> Model:
        return Model(
            layers=self.layers, width=self.width, heads=self.heads, hidden=self.hidden, vocab=VOCAB,
            seq_len=self.seq_len, qk_norm=True, embedding_std=1.0, init_std=self.width**-0.5,
        )  # fmt: skip


CASES = {
    "0.8M": Case(4, 128, 4, 352, runs=16, batch_tokens=8192),
    "0.8M-2k": Case(4, 128, 4, 352, runs=64, batch_tokens=2048),
    "3M": Case(4, 256, 8, 704, runs=8, batch_tokens=16384),
    "12M": Case(8, 352, 11, 960, runs=8, batch_tokens=32768),
    "25M": Case(12, 416, 13, 1120, runs=4, batch_tokens=32768),
    "85M": Case(12, 768, 12, 2048, runs=2, batch_tokens=32768),
}


def has_gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def make_pack(
    case: Case, runs: int, *, steps: int, log_points: int = 60, corpus: Path = Path("corpus"), seed: int = 0
) -> Pack:
    """Runs that differ in their learning rates, and are far from diverging."""
    rates = np.geomspace(5e-4, 4e-3, runs)
    return Pack(
        name=f"{runs}x", model=case.model, batch_sequences=case.batch_tokens // case.seq_len, corpus=str(corpus),
        runs=tuple(RunSettings(lr=float(lr), steps=steps, warmup_steps=steps // 10, init_seed=seed) for lr in rates),
        eval_sequences=EVAL_TOKENS // case.seq_len, log_points=log_points,
    )  # fmt: skip


def random_corpus(case: Case, *, tokens: int) -> Corpus:
    """Text whose next token is one of four, so that there is something to learn."""
    rng = np.random.default_rng(0)
    steps = np.array([1, 2, 5, 77], dtype=np.uint16)
    held_out = EVAL_TOKENS + case.seq_len
    text = np.cumsum(steps[rng.integers(0, 4, tokens + held_out, dtype=np.uint8)], dtype=np.uint16) % VOCAB
    train, validation = text[:tokens], text[tokens:]
    manifest = Manifest(
        hash="made-up", vocab=VOCAB, documents=1, duplicates=0, skipped=0, train_tokens=tokens,
        validation_tokens=held_out, validation_bytes=held_out, sources=("made up",),
    )  # fmt: skip
    return Corpus(manifest=manifest, train=train, validation=validation)


def write_corpus(corpus: Corpus, folder: Path) -> None:
    folder.mkdir(parents=True)
    corpus.train.tofile(folder / "train.bin")
    corpus.validation.tofile(folder / "validation.bin")
    (folder / "manifest.json").write_text(json.dumps(asdict(corpus.manifest)))
