"""Text -> corpus. The same documents and settings give the same corpus, whatever their order, names or folders.

Documents are de-duplicated and put in the order of their hashes, so that neither the file system nor the number of
processes matters.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from lawfit.corpus import bpe
from lawfit.corpus.documents import Documents, Reading, gather, left_out, python_sources
from lawfit.corpus.files import (
    MAX_VOCAB,
    PARTS,
    REJECTED,
    TOKENIZER,
    CorpusError,
    CorpusSettingError,
    Manifest,
    content_hash,
    file_hash,
    read_manifest,
    write_manifest,
)
from lawfit.corpus.making import Progress, no_progress, same_or_refused, scratch

TEXTS = "documents"  # all text, while the corpus is made
DEFAULT_READING = Reading()
VOCAB = 4096
MIN_BYTES = 100  # of the largest document
VALIDATION_SHARE = 0.02
TOKENIZER_SHARE = 0.1  # of the progress bar


def build(
    folder: Path,
    sources: Sequence[Path] = (),
    *,
    vocab: int = VOCAB,
    validation_share: float = VALIDATION_SHARE,
    tokenizer_file: Path | None = None,
    reading: Reading = DEFAULT_READING,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Manifest:
    """Make a corpus, with a tokenizer that exists or a new one; one that is there already is left as it is.

    Parameters
    ----------
    sources : paths
        A folder gives its files with one of the suffixes, a file of JSON lines one text each, another file itself;
        any may be packed by gzip. None: the Python sources of this interpreter.
    validation_share : float in (0, 1)
        Of the documents.
    tokenizer_file : path
        A tokenizer.json that lawfit made, or a corpus that holds one.
    workers : int
        Processes; by default one per processor.

    Raises
    ------
    CorpusError
        The folder holds something else, or the sources do not hold enough text for a split.
    """
    bpe.require_tokenizers()
    if tokenizer_file is None and not bpe.MIN_VOCAB <= vocab <= MAX_VOCAB:
        raise CorpusSettingError(
            f"a vocabulary of {vocab:,} cannot be made: bytes and separator are {bpe.MIN_VOCAB}, "
            f"{MAX_VOCAB:,} is the most"
        )
    if not 0 < validation_share < 1:
        raise CorpusSettingError(
            f"a validation share of {validation_share:g} leaves one part empty; it lies between 0 and 1"
        )
    if reading.max_bytes < MIN_BYTES:
        raise CorpusSettingError(f"documents of at most {reading.max_bytes} bytes are none; {MIN_BYTES} is the least")
    if tokenizer_file is not None and tokenizer_file.is_dir():
        tokenizer_file = tokenizer_file / TOKENIZER
    tokenizer = None if tokenizer_file is None else bpe.load_tokenizer(tokenizer_file)
    sources = sources or python_sources()
    with scratch(folder) as part:
        documents = gather(
            sources, reading, file=part / TEXTS, rejections=part / REJECTED, leave_out=folder.resolve(),
            progress=progress,
        )  # fmt: skip
        ordered = sorted(documents.places)
        made_by = vocab if tokenizer_file is None else file_hash(tokenizer_file)
        inputs_hash = _inputs_hash(ordered, made_by, validation_share)
        if (existing := read_manifest(folder)) is not None:
            return same_or_refused(folder, existing, inputs_hash)
        parts = _split(ordered, validation_share, documents)
        if tokenizer is None:
            progress("training the tokenizer", 0.0)
            tokenizer = bpe.train_tokenizer(documents.texts(parts["train"]), vocab)
        tokenizer.save(str(part / TOKENIZER))
        tokens = _write_tokens(part, documents, parts, workers or os.cpu_count() or 1, progress)
        (part / TEXTS).unlink()
        manifest = Manifest(
            hash=content_hash(part, tokenizer.get_vocab_size()),
            vocab=tokenizer.get_vocab_size(),
            documents=len(ordered),
            duplicates=documents.duplicates,
            skipped=sum(documents.rejected.values()),
            train_tokens=tokens["train"],
            validation_tokens=tokens["validation"],
            validation_bytes=documents.size(parts["validation"]),
            sources=_described(sources, reading),
            inputs_hash=inputs_hash,
            tokenizer_hash=file_hash(part / TOKENIZER),
            rejected=documents.rejected,
        )
        write_manifest(part, manifest)
    return manifest


def _split(ordered: Sequence[bytes], validation_share: float, documents: Documents) -> dict[str, list[bytes]]:
    """The hash is uniform, so its order is a shuffle and its leading digits are a fair draw."""
    validation = [digest for digest in ordered if int.from_bytes(digest[:4], "big") < validation_share * 2**32]
    train = ordered[len(validation) :]  # the small hashes come first
    if not train or not validation:
        count = "1 document cannot be split" if len(ordered) == 1 else f"{len(ordered)} documents are too few to split"
        raise CorpusError(
            f"{count}, with {validation_share:.3g} of them for validation; "
            "give more documents, a larger --validation-share, or --cut, which makes several of a long text"
            + ("" if documents.first is None else f". Left out: {left_out(documents.rejected, documents.first)}")
        )
    return {"train": list(train), "validation": validation}


def _write_tokens(
    part: Path, documents: Documents, parts: dict[str, list[bytes]], workers: int, progress: Progress
) -> dict[str, int]:
    """`train.bin` and `validation.bin`, and the number of tokens in each."""
    counts = dict.fromkeys(PARTS, 0)
    whole, done = sum(map(documents.size, parts.values())), 0
    for name in PARTS:
        with (part / f"{name}.bin").open("wb") as file:
            for size, tokens in bpe.encode(documents, parts[name], part / TOKENIZER, workers):
                counts[name] += file.write(tokens) // 2
                done += size
                progress("making tokens", TOKENIZER_SHARE + (1 - TOKENIZER_SHARE) * done / whole)
    return counts


def _inputs_hash(ordered: Sequence[bytes], made_by: int | str, validation_share: float) -> str:
    digest = hashlib.sha256(json.dumps([made_by, validation_share]).encode())
    for document in ordered:
        digest.update(document)
    return digest.hexdigest()[:16]


def _described(sources: Sequence[Path], reading: Reading) -> tuple[str, ...]:
    """Each source, without the folders that it lies in unless names alone do not tell sources apart."""
    names = [source.name or source.resolve().name for source in sources]
    places = [source.resolve().parts for source in sources]
    for i, parts in enumerate(places):
        length = 1
        while length < len(parts) and any(parts[-length:] == others[-length:] for others in places if others != parts):
            length += 1
        if length > 1:
            names[i] = str(Path(*parts[-length:]))
    found = " ".join("*" + suffix for suffix in reading.suffixes)
    return tuple(
        f"{found} below {name}" if source.is_dir() else name for source, name in zip(sources, names, strict=True)
    )
