"""A corpus appears whole or not at all: it is made in a folder beside its own, which then takes its name."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from lawfit.train.corpus.files import MANIFEST, CorpusError, Manifest, read_manifest

LOCK = "lock"
NAMES_SHOWN = 3

Progress = Callable[[str, float], None]  # (what is being done, share of the whole)


def no_progress(_step: str, _share: float) -> None:
    """For callers who watch nothing."""


def scratch_of(folder: Path) -> Path:
    """Where the corpus of a folder is made."""
    folder = folder.resolve()
    return folder.with_name(folder.name + ".part")


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder to make a corpus in. If it holds a manifest in the end it becomes `folder`, else it is removed.

    What a build that was killed has left there is removed first. Errors in writing become sentences.

    Raises
    ------
    CorpusError
        The folder holds something other than a corpus, another process is making this one, or writing fails.
    """
    part = scratch_of(folder)
    try:
        if read_manifest(folder) is None:
            _refuse_foreign_files(folder)
        if not (part / LOCK).exists():
            _refuse_foreign_files(part)
        part.mkdir(parents=True, exist_ok=True)
        with (part / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system frees it, however this process ends
            except BlockingIOError:
                raise CorpusError(f"another process is making {folder} now; wait for it or end it") from None
            try:
                for left in part.iterdir():
                    if left.name != LOCK:
                        left.unlink()
                yield part
                if (part / MANIFEST).exists():
                    part.replace(folder.resolve())
                    (folder / LOCK).unlink()
                else:
                    shutil.rmtree(part)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
    except OSError as error:
        raise CorpusError(f"the corpus {folder} cannot be written: {error.strerror or error}") from None


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
    if not folder.exists():
        return
    if not folder.is_dir():
        raise CorpusError(f"{folder} is a file; a corpus is a folder")
    if names := sorted(path.name for path in folder.iterdir()):
        shown = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
        raise CorpusError(f"{folder} holds other files ({shown}); a corpus needs a folder of its own")
