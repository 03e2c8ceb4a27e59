"""A tokenised corpus: memory-mapped uint16 tokens, train and validation split by document, and a manifest with a hash.

`python -m lawfit.train.corpus FOLDER` makes one from the Python sources of the interpreter that runs it, so that a
machine without a network has text. The same files give the same corpus: documents are de-duplicated and put in the
order of their hashes, whatever the file system's order, the number of processes or the paths.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lawfit.errors import LawfitError

MANIFEST = "manifest.json"
SEPARATOR = "<|document|>"  # token 0, in front of every document
MAX_DOCUMENT_BYTES = 1_000_000  # larger sources are generated tables
TOKENIZER_SAMPLE_BYTES = 60_000_000
CHUNK_BYTES = 4_000_000

Tokens = npt.NDArray[np.uint16]


class CorpusError(LawfitError):
    """There is no corpus in that folder, it is damaged, or it is not the one a sweep was begun with."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a corpus is. The hash covers the tokens and the tokenizer; it is part of the identity of every run."""

    hash: str
    vocab: int
    documents: int  # after de-duplication
    duplicates: int  # left out: their text had been seen
    skipped: int  # left out: empty, not UTF-8, or larger than MAX_DOCUMENT_BYTES
    train_tokens: int
    validation_tokens: int
    validation_bytes: int  # of text: bits per byte = loss / ln 2 * validation_tokens / validation_bytes
    sources: tuple[str, ...]  # what it was made from, for people


@dataclass(frozen=True, kw_only=True)
class Corpus:
    manifest: Manifest
    train: Tokens
    validation: Tokens


def python_sources() -> list[Path]:
    """Folders with the Python sources of this interpreter: standard library and installed packages."""
    paths = sysconfig.get_paths()
    folders = {Path(paths[name]).resolve() for name in ("stdlib", "purelib", "platlib")}
    return sorted(folder for folder in folders if folders.isdisjoint(folder.parents))


def build(
    folder: Path,
    sources: Sequence[Path],
    *,
    vocab: int = 4096,
    validation_share: float = 0.02,
    workers: int | None = None,
    tokenizer_file: Path | None = None,
    suffixes: Sequence[str] = (".py",),
) -> Manifest:
    """Make a corpus, with a tokenizer that exists or a new one.

    Parameters
    ----------
    sources : paths
        A folder gives its files with one of the suffixes, a `.jsonl` file the "text" of each line, another file itself.
    validation_share : float in (0, 1)
        Of the documents.

    Raises
    ------
    CorpusError
        The folder holds a corpus already, or the sources do not hold enough text for a split.
    """
    if (folder / MANIFEST).exists():
        raise CorpusError(f"{folder} holds a corpus already; remove it or choose another folder")
    documents, duplicates, skipped = _documents(_raw_documents(sources, suffixes))
    if not documents:
        raise CorpusError(f"no document found in {', '.join(map(str, sources))} ({skipped} skipped)")
    # The hash is uniform, so its order is a shuffle and its leading digits are a fair draw.
    held_out = {digest for digest in documents if int(digest[:8], 16) < validation_share * 2**32}
    ordered = sorted(documents)
    train = [documents[digest] for digest in ordered if digest not in held_out]
    validation = [documents[digest] for digest in ordered if digest in held_out]
    if not train or not validation:
        raise CorpusError(f"{len(documents)} documents are too few to hold {validation_share:.0%} of them out")
    if tokenizer_file is None:
        tokenizer = _train_tokenizer(train, vocab)
    else:
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
        if tokenizer.token_to_id(SEPARATOR) != 0:
            raise CorpusError(f"{tokenizer_file} does not have {SEPARATOR} as token 0; it was not made by lawfit")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    digest = hashlib.sha256((folder / "tokenizer.json").read_bytes())
    counts = {}
    for name, texts in (("validation", validation), ("train", train)):
        counts[name] = 0
        with (folder / f"{name}.bin").open("wb") as file:
            for part in _encode(texts, folder / "tokenizer.json", workers or os.cpu_count() or 1):
                file.write(part)
                digest.update(part)
                counts[name] += len(part) // 2
    manifest = Manifest(
        hash=digest.hexdigest()[:16],
        vocab=tokenizer.get_vocab_size(),
        documents=len(documents),
        duplicates=duplicates,
        skipped=skipped,
        train_tokens=counts["train"],
        validation_tokens=counts["validation"],
        validation_bytes=sum(len(text.encode()) for text in validation),
        sources=tuple(
            f"{' '.join('*' + suffix for suffix in suffixes)} below {source.name}" if source.is_dir() else source.name
            for source in sources
        ),
    )
    # Last, and in one piece: a folder with a manifest is a whole corpus.
    part_file = folder / (MANIFEST + ".part")
    part_file.write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")
    part_file.replace(folder / MANIFEST)
    return manifest


def open_corpus(folder: Path, *, expected_hash: str | None = None, wait_seconds: float = 0.0) -> Corpus:
    """Map a corpus; with `wait_seconds`, wait for one that another process is building.

    Raises
    ------
    CorpusError
        No whole corpus there, sizes that do not match its manifest, or another corpus than the expected one.
    """
    path = folder / MANIFEST
    until = time.monotonic() + wait_seconds
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.2)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest(**{**content, "sources": tuple(content["sources"])})
    except FileNotFoundError:
        raise CorpusError(f"no corpus in {folder}; make one with python -m lawfit.train.corpus {folder}") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CorpusError(f"{path} is not the manifest of a corpus: {error}") from None
    if expected_hash is not None and manifest.hash != expected_hash:
        raise CorpusError(
            f"{folder} holds corpus {manifest.hash}, but the pack names {expected_hash}; "
            "losses on different corpora cannot be compared"
        )
    parts = {}
    for name, size in (("train", manifest.train_tokens), ("validation", manifest.validation_tokens)):
        parts[name] = np.memmap(folder / f"{name}.bin", dtype=np.uint16, mode="r")
        if len(parts[name]) != size:
            raise CorpusError(f"{folder}/{name}.bin has {len(parts[name])} tokens, its manifest says {size}")
    return Corpus(manifest=manifest, train=parts["train"], validation=parts["validation"])


def sequence_order(sequences: int, needed: int, data_seed: int) -> npt.NDArray[np.int32]:
    """The first `needed` sequences that a run reads, by index; a fresh shuffle of all of them for each epoch.

    It depends on the seed alone: a run with twice the batch reads the same sequences in half the steps.
    """
    epochs = [
        np.random.default_rng([data_seed, epoch]).permutation(sequences).astype(np.int32)
        for epoch in range(-(-needed // sequences))
    ]
    return np.concatenate(epochs)[:needed]


def _raw_documents(sources: Sequence[Path], suffixes: Sequence[str]) -> Iterator[bytes]:
    """The bytes of every document; unreadable files count as empty ones."""
    for source in sources:
        if source.is_dir():
            for root, _, names in os.walk(source):
                for name in names:
                    if name.endswith(tuple(suffixes)):
                        try:
                            yield Path(root, name).read_bytes()
                        except OSError:
                            yield b""
        elif source.suffix == ".jsonl":
            yield from _json_lines(source)
        else:
            try:
                yield source.read_bytes()
            except OSError as error:
                raise CorpusError(f"{source} cannot be read: {error}") from None


def _json_lines(path: Path) -> Iterator[bytes]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield json.loads(line)["text"].encode()
            except (ValueError, KeyError, TypeError, AttributeError):
                raise CorpusError(f'{path}, line {number} is not an object with a "text"') from None


def _documents(raw_documents: Iterable[bytes]) -> tuple[dict[str, str], int, int]:
    """Text by hash; how many were copies; how many were no documents (empty, too large, not UTF-8)."""
    documents: dict[str, str] = {}
    duplicates = skipped = 0
    for raw in raw_documents:
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            skipped += 1
            continue
        if not text.strip() or len(raw) > MAX_DOCUMENT_BYTES:
            skipped += 1
            continue
        digest = hashlib.sha256(raw).hexdigest()
        duplicates += digest in documents
        documents[digest] = text
    return documents, duplicates, skipped


def _train_tokenizer(texts: Sequence[str], vocab: int) -> Tokenizer:
    """Byte-level BPE on the leading documents."""
    sample, size = [], 0
    for text in texts:
        sample.append(text)
        size += len(text)
        if size > TOKENIZER_SAMPLE_BYTES:
            break
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[SEPARATOR],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample, trainer)
    return tokenizer


def _encode(texts: Sequence[str], tokenizer: Path, workers: int) -> Iterator[bytes]:
    """uint16 tokens of all texts in order, chunk by chunk."""
    chunks: list[list[str]] = [[]]
    size = 0
    for text in texts:
        if size > CHUNK_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(text)
        size += len(text)
    if workers == 1 or len(chunks) == 1:
        _start_worker(tokenizer)
        yield from map(_encode_chunk, chunks)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=_start_worker, initargs=(tokenizer,)) as pool:
        yield from pool.map(_encode_chunk, chunks)


_tokenizer: Tokenizer


def _start_worker(path: Path) -> None:
    global _tokenizer  # one per process: sending it with every chunk would cost more than the encoding
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _tokenizer = Tokenizer.from_file(str(path))


def _encode_chunk(texts: list[str]) -> bytes:
    pieces = []
    for text in texts:
        pieces.append([0])
        pieces.append(_tokenizer.encode(text, add_special_tokens=False).ids)
    return np.concatenate([np.asarray(piece, dtype=np.uint16) for piece in pieces]).tobytes()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m lawfit.train.corpus", description="Make a tokenised corpus.")
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--source", type=Path, action="append", help="folder, .jsonl or text file; repeatable (default: this Python's)"
    )
    parser.add_argument("--suffix", action="append", help="of the files taken from folders; repeatable (default: .py)")
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json to use (default: train one)")
    parser.add_argument("--validation-share", type=float, default=0.02, help="of the documents (default: 0.02)")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    manifest = build(
        options.folder,
        options.source or python_sources(),
        vocab=options.vocab,
        validation_share=options.validation_share,
        tokenizer_file=options.tokenizer,
        suffixes=options.suffix or (".py",),
    )
    print(json.dumps({**asdict(manifest), "seconds": round(time.monotonic() - start, 1)}))


if __name__ == "__main__":
    try:
        main()
    except CorpusError as error:
        sys.exit(f"error: {error}")
