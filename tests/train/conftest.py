from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the trainer needs lawfit[train]")
pytest.importorskip("tokenizers", reason="the trainer needs lawfit[train]")

from lawfit.train.corpus import Corpus, Manifest
from lawfit.train.corpus.build import build
from lawfit.train.pack import Model
from tests.train.corpora import SMALL, write_sources


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """Tokens with structure to learn (each depends on the one before it), without files or a tokenizer."""
    rng = np.random.default_rng(5)
    step = rng.choice([1, 2, 5], size=40_000, p=[0.7, 0.2, 0.1])
    tokens = (np.cumsum(step) % 61).astype(np.uint16)
    manifest = Manifest(
        hash="made-up", vocab=61, documents=1, duplicates=0, skipped=0, train_tokens=36_000, validation_tokens=4_000,
        validation_bytes=8_000, sources=("made up",),
    )  # fmt: skip
    return Corpus(manifest=manifest, train=tokens[:36_000], validation=tokens[36_000:])


@pytest.fixture
def model() -> Model:
    return Model(layers=2, width=16, heads=2, hidden=24, vocab=61, seq_len=12)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A corpus of `write_sources`, and beside it the sources."""
    folder = tmp_path_factory.mktemp("corpus")
    write_sources(folder / "source")
    return folder / "out", build(folder / "out", [folder / "source"], **SMALL)
