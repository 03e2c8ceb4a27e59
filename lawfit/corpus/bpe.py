"""Text -> tokens: byte-level BPE by the `tokenizers` package."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from lawfit.corpus.documents import Documents, read_text
from lawfit.corpus.files import MAX_VOCAB, CorpusError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SEPARATOR = "<|document|>"  # token 0, in front of every document (and wherever a text itself says so)
MIN_VOCAB = 257  # every byte, and the separator
SAMPLE_CHARACTERS = 60_000_000  # that a tokenizer is trained on
CHUNK_BYTES = 4_000_000  # of text, for one process at a time

Places = list[tuple[int, int]]


def require_tokenizers() -> None:
    """Say what to install, before anything is read."""
    try:
        import tokenizers  # noqa: F401
    except ImportError:
        raise CorpusError(
            "text becomes tokens by the package tokenizers, which is not installed: pip install 'lawfit[train]'"
        ) from None


def train_tokenizer(texts: Iterator[str], vocab: int) -> Tokenizer:
    """Byte-level BPE on the leading documents."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[SEPARATOR],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sample(texts), trainer)
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer that lawfit made before.

    Raises
    ------
    CorpusError
        The file is no tokenizer, or not one of lawfit's.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001 - the package raises nothing narrower
        raise CorpusError(f"{path} is not a file of the tokenizers package: {error}") from None
    if tokenizer.token_to_id(SEPARATOR) != 0:
        raise CorpusError(
            f"{path} does not have {SEPARATOR} as token 0; it was not made by lawfit "
            "(tokens of another tokenizer come in with lawfit corpus import)"
        )
    if tokenizer.get_vocab_size() > MAX_VOCAB:
        raise CorpusError(f"{path} has {tokenizer.get_vocab_size():,} tokens; {MAX_VOCAB:,} is the most")
    return tokenizer


def encode(
    documents: Documents, digests: Sequence[bytes], tokenizer_file: Path, workers: int
) -> Iterator[tuple[int, bytes]]:
    """uint16 tokens of the documents in order, chunk by chunk, each with the bytes of text it took.

    Chunks are encoded by several processes, which read the text themselves; few are under way at any time.
    """
    chunks = list(_chunks([documents.places[digest] for digest in digests]))
    if workers == 1 or len(chunks) == 1:
        tokenizer = load_tokenizer(tokenizer_file)
        with documents.file.open("rb") as file:
            for places in chunks:
                yield _size(places), _encode_places(tokenizer, file, places)
        return
    others = set(multiprocessing.active_children())
    # Not forked: the threads of the tokenizers package do not survive that.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, spawn, initializer=_start_worker, initargs=(tokenizer_file, documents.file)
    ) as pool:
        try:
            yield from _in_order(pool, chunks, ahead=2 * workers)
        except BrokenProcessPool:
            raise CorpusError(
                "a process that made tokens was ended from outside, perhaps for want of memory; "
                "try again with fewer --workers"
            ) from None
        except BaseException:  # Ctrl-C, or nobody wants the rest: chunks under way would take seconds
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


def _in_order(pool: ProcessPoolExecutor, chunks: Sequence[Places], ahead: int) -> Iterator[tuple[int, bytes]]:
    waiting: deque[tuple[int, Future[bytes]]] = deque()
    for places in chunks:
        with _without_interrupts():
            waiting.append((_size(places), pool.submit(_encode_chunk, places)))
        if len(waiting) > ahead:
            size, future = waiting.popleft()
            yield size, future.result()
    for size, future in waiting:
        yield size, future.result()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started here are deaf to Ctrl-C, which reaches the whole group: this one ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _sample(texts: Iterator[str]) -> Iterator[str]:
    size = 0
    for text in texts:
        yield text
        size += len(text)
        if size > SAMPLE_CHARACTERS:
            return


def _chunks(places: Places) -> Iterator[Places]:
    chunk: Places = []
    size = 0
    for place in places:
        if size > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(place)
        size += place[1]
    yield chunk


def _size(places: Places) -> int:
    return sum(length for _, length in places)


def _encode_places(tokenizer: Tokenizer, file: BinaryIO, places: Places) -> bytes:
    pieces = []
    for place in places:
        pieces.append([0])
        # "fast": without places in the text. One text at a time: a batch would keep the text of each token, too.
        pieces.append(tokenizer.encode_batch_fast([read_text(file, place)], add_special_tokens=False)[0].ids)
    return np.concatenate([np.asarray(piece, dtype=np.uint16) for piece in pieces]).tobytes()


_worker: tuple[Tokenizer, BinaryIO]


def _start_worker(tokenizer_file: Path, texts: Path) -> None:
    global _worker  # one per process: sending it with every chunk would cost more than the encoding
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker = (load_tokenizer(tokenizer_file), texts.open("rb"))


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode_chunk(places: Places) -> bytes:
    return _encode_places(*_worker, places)
