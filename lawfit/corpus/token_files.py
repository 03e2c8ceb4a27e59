"""Tokens that others made -> corpus: files of uint16 tokens without a header, as nanoGPT's data scripts write them.

A `meta.pkl` beside them is not read: a pickle can run any program. Its `vocab_size` is given by hand.
"""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

import numpy as np

from lawfit.corpus.files import (
    BLOCK_BYTES,
    MAX_VOCAB,
    CorpusError,
    CorpusSettingError,
    Manifest,
    content_hash,
    read_manifest,
    write_manifest,
)
from lawfit.corpus.making import Progress, no_progress, same_or_refused, scratch


def import_tokens(
    folder: Path,
    train: Path,
    validation: Path,
    *,
    vocab: int,
    bytes_per_token: float | None = None,
    link: bool = False,
    progress: Progress = no_progress,
) -> Manifest:
    """Make a corpus of two token files; one that is there already with the same tokens is left as it is.

    Parameters
    ----------
    vocab : int
        Every token must be smaller.
    bytes_per_token : float, optional
        Of the text of the validation file; without it bits per byte cannot be told.
    link : bool
        Refer to the files instead of copying them; they must then stay as they are.

    Raises
    ------
    CorpusError
        A file that cannot be read or holds something else, or a folder that holds something else.
    """
    if not 2 <= vocab <= MAX_VOCAB:
        raise CorpusSettingError(
            f"a vocabulary of {vocab:,} does not fit: tokens are stored in two bytes, {MAX_VOCAB:,} of them"
        )
    counts = {}
    for i, path in enumerate((train, validation)):
        progress(f"checking {path.name}", i / 3)
        counts[path] = _checked_count(path, vocab)
    if filecmp.cmp(train, validation, shallow=False):
        raise CorpusError(
            f"{train} and {validation} hold the same tokens: a loss on text that was trained on tells nothing; "
            "hold some of it out"
        )
    with scratch(folder) as part:
        for path, name in ((train, "train.bin"), (validation, "validation.bin")):
            (part / name).symlink_to(path.resolve()) if link else shutil.copyfile(path, part / name)
        progress("hashing", 2 / 3)
        digest = content_hash(part, vocab)
        if (existing := read_manifest(folder)) is not None:
            return same_or_refused(folder, existing, digest)
        manifest = Manifest(
            hash=digest,
            vocab=vocab,
            documents=0,  # where one begins is not known
            duplicates=0,
            skipped=0,
            train_tokens=counts[train],
            validation_tokens=counts[validation],
            validation_bytes=None if bytes_per_token is None else round(bytes_per_token * counts[validation]),
            sources=(train.name, validation.name),
            inputs_hash=digest,
        )
        write_manifest(part, manifest)
    return manifest


def _checked_count(path: Path, vocab: int) -> int:
    """How many tokens a file holds, all of them seen to be in the vocabulary."""
    try:
        size = path.stat().st_size
        if size == 0 or size % 2:
            raise CorpusError(f"{path} is no file of uint16 tokens: {size:,} bytes")
        tokens = np.memmap(path, dtype=np.uint16, mode="r")
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from None
    for first in range(0, len(tokens), BLOCK_BYTES):
        block = tokens[first : first + BLOCK_BYTES]
        if block.max() >= vocab:
            place = first + int(np.argmax(block >= vocab))
            raise CorpusError(
                f"{path} has token {tokens[place]} at place {place:,}, outside a vocabulary of {vocab:,}; "
                "give the right --vocab, or the file is not one of plain uint16 tokens"
            )
    return len(tokens)
