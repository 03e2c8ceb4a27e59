"""A corpus appears whole or not at all: it is made in a folder inside its own, and its manifest is moved out last."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from lawfit.corpus.files import CONTENT, MANIFEST, CorpusError, Manifest, read_manifest

SCRATCH = "making"
LOCK = "lock"
NAMES_SHOWN = 3

Progress = Callable[[str, float], None]  # (what is being done, share of the whole)


def no_progress(_step: str, _share: float) -> None:
    """For callers who watch nothing."""


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder to make a corpus in. If it holds a manifest in the end, all of it moves to `folder`, else nothing.

    What a build that was killed has left there is removed first. Errors in writing become sentences.

    Raises
    ------
    CorpusError
        The folder holds something other than a corpus, another process is making this one, or writing fails.
    """
    part, is_new = folder / SCRATCH, not folder.exists()
    try:
        _refuse_foreign_files(folder)
        part.mkdir(parents=True, exist_ok=True)
        with (part / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system frees it, however this process ends
            except BlockingIOError:
                raise CorpusError(f"another process is making {folder} now; wait for it or end it") from None
            try:
                _remove_what_was_left(folder)
                with _ended_as_by_ctrl_c():
                    yield part
                if (part / MANIFEST).exists():
                    for name in (*CONTENT, MANIFEST):
                        if (part / name).exists():
                            (part / name).replace(folder / name)
            finally:
                shutil.rmtree(part, ignore_errors=True)
                if is_new:
                    with contextlib.suppress(OSError):  # it is not empty, as it should be
                        folder.rmdir()
    except OSError as error:
        raise CorpusError(f"the corpus {folder} cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """SIGTERM, which `kill` sends, tidies up too; it is passed on as SIGINT, which is held back where it would harm."""

    def pass_on(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        signal.raise_signal(signal.SIGINT)

    if threading.current_thread() is not threading.main_thread():  # nobody else hears signals
        yield
        return
    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def same_or_refused(folder: Path, existing: Manifest, inputs_hash: str) -> Manifest:
    """The corpus that a folder holds, if making it again would give the same.

    Raises
    ------
    CorpusError
        Documents or settings are others, or the manifest is too old to tell.
    """
    if existing.inputs_hash == inputs_hash:
        return existing
    told = "another corpus" if existing.inputs_hash else "a corpus, perhaps another one,"
    raise CorpusError(f"{folder} holds {told} already (hash {existing.hash}); remove it or choose another folder")


def _refuse_foreign_files(folder: Path) -> None:
    if not folder.exists() or read_manifest(folder) is not None:
        return
    if not folder.is_dir():
        raise CorpusError(f"{folder} is a file; a corpus is a folder")
    names = {path.name for path in folder.iterdir()}
    if (folder / SCRATCH / LOCK).exists():  # a build was here, and perhaps killed while it moved its files out
        names -= {SCRATCH, *CONTENT}
    if names:
        shown = ", ".join(sorted(names)[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
        raise CorpusError(f"{folder} holds other files ({shown}); a corpus needs a folder of its own")


def _remove_what_was_left(folder: Path) -> None:
    for path in (folder / SCRATCH).iterdir():
        if path.name != LOCK:
            path.unlink()
    if not (folder / MANIFEST).exists():
        for name in CONTENT:
            (folder / name).unlink(missing_ok=True)
