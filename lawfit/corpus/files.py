"""What a corpus is on disk: a manifest, `train.bin`, `validation.bin` and, where it was made from text, a tokenizer."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lawfit.errors import LawfitError
from lawfit.records import Json

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
REJECTED = "rejected.jsonl"
PARTS = ("validation", "train")  # in the order in which they are hashed
CONTENT = ("train.bin", "validation.bin", TOKENIZER, REJECTED)  # beside the manifest; the last two of text only
MAX_VOCAB = 2**16  # a token is stored in two bytes
BLOCK_BYTES = 2**24  # read at a time

Tokens = npt.NDArray[np.uint16]


class CorpusError(LawfitError):
    """No corpus is there or can be made, it is damaged, or it is not the one a sweep was begun with."""


class CorpusSettingError(CorpusError, ValueError):
    """A corpus was asked for that there cannot be, whatever the files hold."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a corpus is. The hash covers the tokens and the tokenizer; it is part of the identity of every run."""

    hash: str
    vocab: int
    documents: int  # after de-duplication
    duplicates: int  # left out: their text had been seen
    skipped: int  # left out for one of the reasons in `rejected`
    train_tokens: int
    validation_tokens: int
    validation_bytes: int | None  # of text: bits per byte = loss / ln 2 * validation_tokens / validation_bytes
    sources: tuple[str, ...]  # what it was made from, for people
    # Manifests written before these fields existed lack them.
    inputs_hash: str | None = None  # of documents and settings: tells without tokenising whether a build gives the same
    tokenizer_hash: str | None = None  # of tokenizer.json
    rejected: Mapping[str, int] = field(default_factory=dict)  # documents skipped, by reason
    entropy: float | None = None  # of a synthetic source, nats per token given all tokens before
    validation_entropy: float | None = None  # mean -log probability of the validation part under that source

    @property
    def bytes_per_token(self) -> float | None:
        """Of the text of the validation part; None where only its tokens are known."""
        return None if self.validation_bytes is None else self.validation_bytes / self.validation_tokens


@dataclass(frozen=True, kw_only=True)
class Corpus:
    manifest: Manifest
    train: Tokens
    validation: Tokens


def open_corpus(folder: Path, *, expected_hash: str | None = None, wait_seconds: float = 0.0) -> Corpus:
    """Map a corpus; with `wait_seconds`, wait for one that another process is building.

    Raises
    ------
    CorpusError
        No whole corpus there, sizes that do not match its manifest, or another corpus than the expected one.
    """
    until = time.monotonic() + wait_seconds
    while not (folder / MANIFEST).exists() and time.monotonic() < until:
        time.sleep(0.2)
    manifest = read_manifest(folder)
    if manifest is None:
        raise CorpusError(f"no corpus in {folder}; make one with lawfit corpus build {folder}")
    if expected_hash is not None and manifest.hash != expected_hash:
        raise CorpusError(
            f"{folder} holds corpus {manifest.hash}, but the pack names {expected_hash}; "
            "losses on different corpora cannot be compared"
        )
    train = _map_tokens(folder / "train.bin", manifest.train_tokens)
    validation = _map_tokens(folder / "validation.bin", manifest.validation_tokens)
    return Corpus(manifest=manifest, train=train, validation=validation)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest in a folder; None where there is none.

    Raises
    ------
    CorpusError
        A file of that name is there, and it is no manifest.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path} is not the manifest of a corpus: {error}") from None
    try:
        return _manifest_from(content)
    except (TypeError, ValueError) as error:
        raise CorpusError(f"{path} is not the manifest of a corpus: {error}") from None


def _manifest_from(content: Json) -> Manifest:
    if not isinstance(content, dict):
        raise TypeError("it is no JSON object")
    if unknown := sorted(set(content) - {item.name for item in fields(Manifest)}):
        raise TypeError(f"unknown field {unknown[0]}; a newer lawfit may have written it")
    manifest = Manifest(**{**content, "sources": tuple(content.get("sources", ()))})
    if not isinstance(manifest.hash, str):
        raise TypeError("its hash is no text")
    for name in ("vocab", "train_tokens", "validation_tokens"):
        value = getattr(manifest, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}, not a positive whole number")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Last: a folder with a manifest is a whole corpus."""
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")


def content_hash(folder: Path, vocab: int) -> str:
    """The hash of a corpus, from its files: of tokenizer (or vocabulary), validation and training tokens."""
    tokenizer = folder / TOKENIZER
    digest = hashlib.sha256(tokenizer.read_bytes() if tokenizer.exists() else f"vocabulary {vocab}\n".encode())
    for name in PARTS:
        with (folder / f"{name}.bin").open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()[:16]


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def sequence_order(sequences: int, needed: int, data_seed: int, unique: int | None = None) -> npt.NDArray[np.int32]:
    """The first `needed` sequences that a run reads, by index; a fresh shuffle of all of them for each epoch.

    It depends on the seed alone: a run with twice the batch reads the same sequences in half the steps.

    Parameters
    ----------
    unique : read no others than the first so many of the first shuffle, so that of two runs with one seed the one with
        fewer reads a part of what the other reads, and both begin as a run without a limit does
    """
    unique = sequences if unique is None else unique
    chosen = np.zeros(sequences, dtype=bool)
    epochs = []
    for epoch in range(-(-needed // unique)):
        order = np.random.default_rng([data_seed, epoch]).permutation(sequences).astype(np.int32)
        if epoch == 0:
            chosen[order[:unique]] = True
        epochs.append(order[chosen[order]])
    return np.concatenate(epochs)[:needed]


def _map_tokens(path: Path, size: int) -> Tokens:
    try:
        found = path.stat().st_size
        if found != 2 * size:
            raise CorpusError(f"{path} has {found / 2:g} tokens, its manifest says {size}")
        return np.memmap(path, dtype=np.uint16, mode="r")
    except OSError as error:
        raise CorpusError(f"{path}, a part of the corpus, cannot be read: {error.strerror or error}") from None
