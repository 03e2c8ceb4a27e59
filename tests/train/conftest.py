from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from lawfit.corpus import Corpus, Manifest
from lawfit.corpus.build import build
from lawfit.proxy.pack import Model
from tests.train.corpora import SMALL, write_sources

# What is asked before anything is trained: grids and packs, schedules, corpora. Everything else computes with torch.
WITHOUT_TORCH = ("test_pack.py", "test_schedules.py", "test_synthetic.py", "test_corpus.py", "test_corpus_whole.py")
BUILDING = ("test_corpus.py", "test_corpus_whole.py")  # of text, which takes a tokenizer
MISSING = "the trainer needs lawfit[train]"


class _Skipped(pytest.Module):
    def collect(self) -> list[pytest.Item | pytest.Collector]:
        if os.environ.get("CI"):
            pytest.fail(MISSING, pytrace=False)
        raise pytest.skip.Exception(MISSING, allow_module_level=True)


def _there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # as a finder says that stands in for a machine without
        return False


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """A module whose packages are missing is skipped, and no other."""
    missing = {name for name in ("torch", "tokenizers") if not _there(name)}
    computes = "torch" in missing and module_path.name not in WITHOUT_TORCH
    builds = "tokenizers" in missing and module_path.name in BUILDING
    return _Skipped.from_parent(parent, path=module_path) if computes or builds else None


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
