"""A folder holds a whole corpus or none, whatever ends a build."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lawfit.corpus import CorpusError, Manifest, open_corpus
from lawfit.corpus.build import build
from lawfit.corpus.files import content_hash
from tests.train.corpora import SMALL, WHOLE, left_beside, left_by_a_killed_build


def test_the_same_corpus_is_left_as_it_is(made: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in made[0].iterdir()}
    monkeypatch.setattr("lawfit.corpus.bpe.train_tokenizer", None)  # nothing is made again to see that
    assert build(made[0], [made[0].parent / "source"], **SMALL) == made[1]
    assert {path.name: path.stat().st_mtime_ns for path in made[0].iterdir()} == before


@pytest.mark.parametrize("change", [{"vocab": 290}, {"validation_share": 0.3}])
def test_a_corpus_is_not_overwritten(made: tuple[Path, Manifest], change: dict[str, Any]) -> None:
    with pytest.raises(CorpusError, match=f"holds another corpus already \\(hash {made[1].hash}\\)"):
        build(made[0], [made[0].parent / "source"], **{**SMALL, **change})
    assert open_corpus(made[0]).manifest == made[1]
    assert sorted(path.name for path in made[0].iterdir()) == WHOLE


def test_other_files_are_left_alone(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    (tmp_path / "train.bin").write_bytes(b"of somebody else")
    with pytest.raises(CorpusError, match=r"holds other files \(train.bin\); a corpus needs a folder of its own"):
        build(tmp_path, [made[0].parent / "source"], **SMALL)
    with pytest.raises(CorpusError, match="is a file; a corpus is a folder"):
        build(tmp_path / "train.bin", [made[0].parent / "source"], **SMALL)
    assert (tmp_path / "train.bin").read_bytes() == b"of somebody else"
    assert left_beside(tmp_path / "train.bin") == ["train.bin"]


def test_only_one_process_makes_it(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    left_by_a_killed_build(tmp_path / "out")
    with (tmp_path / "out" / "making" / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CorpusError, match=r"another process is making .*out now"):
            build(tmp_path / "out", [made[0].parent / "source"], **SMALL)
    assert build(tmp_path / "out", [made[0].parent / "source"], **SMALL).hash == made[1].hash


BUILD = """
import resource, sys
from pathlib import Path
from lawfit.corpus import CorpusError
from lawfit.corpus.build import build
largest, step = int(sys.argv[3]), sys.argv[4]
if largest:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
def watch(what, share):
    if what.startswith(step):
        print("there", flush=True)
        input()
try:
    build(Path(sys.argv[1]), [Path(sys.argv[2])], vocab=300, validation_share=0.2, workers=1, progress=watch)
except CorpusError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("step", ["training", "making"])
def test_a_killed_build_is_run_again(made: tuple[Path, Manifest], tmp_path: Path, step: str) -> None:
    arguments = [str(tmp_path / "out"), str(made[0].parent / "source"), "0", step]
    with subprocess.Popen(
        [sys.executable, "-c", BUILD, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["making"]
    with pytest.raises(CorpusError, match="no corpus in"):
        open_corpus(tmp_path / "out")
    assert build(tmp_path / "out", [made[0].parent / "source"], **SMALL).hash == made[1].hash
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == WHOLE


def test_progress_rises_to_the_end(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    build(tmp_path / "out", [made[0].parent / "source"], **SMALL, progress=lambda *now: told.append(now))
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert shares[0] >= 0
    assert shares[-1] == pytest.approx(1.0)


def test_a_build_that_is_told_to_end_tidies_up(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    """SIGTERM while two processes make tokens."""
    done = build_spread(made[0].parent / "source", tmp_path, "told")
    assert done.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in done.stderr
    assert "resource_tracker" not in done.stderr
    assert left_beside(tmp_path / "out") == []


@pytest.mark.parametrize("moved", [0, 1, 3])
def test_a_build_killed_while_files_are_moved_is_run_again(
    made: tuple[Path, Manifest], tmp_path: Path, moved: int
) -> None:
    left_by_a_killed_build(tmp_path / "out")
    for name in ("train.bin", "validation.bin", "tokenizer.json")[:moved]:
        (tmp_path / "out" / name).write_bytes(b"moved out")
    assert build(tmp_path / "out", [made[0].parent / "source"], **SMALL).hash == made[1].hash
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == WHOLE
    assert content_hash(tmp_path / "out", made[1].vocab) == made[1].hash


def test_an_empty_folder_is_filled(
    made: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a volume that is mounted there, or the one we are in."""
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    assert build(Path(), [made[0].parent / "source"], **SMALL).hash == made[1].hash
    assert sorted(path.name for path in tmp_path.iterdir()) == WHOLE
    assert tmp_path.stat().st_ino == before


SPREAD = """
import multiprocessing, os, sys, time
from pathlib import Path
from lawfit.corpus import CorpusError, bpe
from lawfit.corpus.build import build
bpe.CHUNK_BYTES = 100  # many more chunks than are under way at a time
def watch(what, share):
    if what.startswith("making") and sys.argv[3] == "worker":
        for child in multiprocessing.active_children()[:1]:
            child.kill()
            child.join()
            time.sleep(1)  # the pool must hear of it before the other worker has done all the rest
    elif what.startswith("making") and sys.argv[3] == "told":
        os.kill(os.getpid(), 15)
    elif what.startswith("making"):
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        os.kill(os.getpid(), 9)
if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]), [Path(sys.argv[2])], vocab=300, validation_share=0.2, workers=2, progress=watch)
    except CorpusError as error:
        sys.exit(str(error))
"""


def build_spread(source: Path, folder: Path, victim: str) -> subprocess.CompletedProcess[str]:
    """A build by two processes, one of which or whose parent is killed."""
    script = folder / "script.py"
    script.write_text(SPREAD)
    words = [sys.executable, str(script), str(folder / "out"), str(source), victim]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)  # else it hangs


def test_a_killed_worker_ends_the_build(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    done = build_spread(made[0].parent / "source", tmp_path, "worker")
    assert done.returncode == 1
    assert "a process that made tokens was ended from outside" in done.stderr
    assert left_beside(tmp_path / "out") == []


def test_workers_end_with_a_killed_parent(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    done = build_spread(
        made[0].parent / "source", tmp_path, "parent"
    )  # returns when they, too, have closed their output
    assert done.returncode == -signal.SIGKILL
    assert len(done.stdout.split()) == 2


@pytest.mark.parametrize("largest", [2_000, 8_000])  # bytes a file may have: texts are larger, then tokens
def test_no_room_to_write(made: tuple[Path, Manifest], tmp_path: Path, largest: int) -> None:
    arguments = [str(tmp_path / "out"), str(made[0].parent / "source"), str(largest), "never"]
    done = subprocess.run([sys.executable, "-c", BUILD, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"the corpus {tmp_path / 'out'} cannot be written: File too large\n"
    assert left_beside(tmp_path / "out") == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CorpusError, match="cannot be written: Permission denied"):
        build(tmp_path / "out", [made[0].parent / "source"], **SMALL)


def test_a_folder_that_cannot_be_made(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match=r"the corpus .* cannot be written: Not a directory"):
        build(tmp_path / "file" / "out", [made[0].parent / "source"], **SMALL)
