"""How far a run is, from logs that grow: as the whole log would say it, from its ends alone."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lawfit.errors import LogFormatError
from lawfit.ingest import events, last_step
from lawfit.ingest.formats import wandb
from lawfit.ingest.last_step import LastSteps
from lawfit.ingest.one_run import logged_step, read_one_run
from tests.ingest.formats.logs import GOLDEN
from tests.ingest.formats.wires import BLOCK, event, framed, history, masked, record, run_record, simple

OUTPUT = "output.log"
LINES: dict[str, tuple[str, str, Callable[[int], str]]] = {
    "csv": ("log.csv", "step,loss\n", lambda step: f"{step},{2 + 3 / step:.5f}\n"),
    "csv below": ("logs/version_0/metrics.csv", "lr,step,train_loss\n", lambda step: f"1e-3,{step},{2 + 3 / step}\n"),
    "jsonl": ("log.jsonl", "", lambda step: json.dumps({"step": step, "loss": 2 + 3 / step}) + "\n"),
    "printed": (OUTPUT, "compiling the model\n", lambda step: f"iter {step}: loss {2 + 3 / step:.4f}, time 9.00ms\n"),
}


@pytest.mark.parametrize("kind", LINES)
def test_it_grows_with_the_log(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, header, line = LINES[kind]
    (tmp_path / OUTPUT).write_text("")
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    looks = LastSteps(output=OUTPUT)
    assert looks.of(tmp_path) is None
    path.write_text(header)
    assert looks.of(tmp_path) is None
    reads: list[Path] = []

    def counted(folder: Path, **said: Any) -> Any:
        reads.append(folder)
        assert sum(each.stat().st_size for each in folder.rglob("*") if each.is_file()) < 50_000
        return logged_step(folder, **said)

    monkeypatch.setattr(last_step, "logged_step", counted)
    written = 0
    for upto in (20, 60, 5000):
        with path.open("a") as log:
            log.writelines(line(step) for step in range(written + 1, upto + 1))
            written = upto
            log.write(line(upto + 1)[:-4])  # the next one is half there
            log.flush()
            assert looks.of(tmp_path) == upto
            log.truncate(log.tell() - len(line(upto + 1)) + 4)
        looks.of(tmp_path)
    before = len(reads)
    assert looks.of(tmp_path) == 5000
    assert len(reads) == before  # nothing has changed
    assert looks.of(tmp_path) == read_one_run(tmp_path, "run", output=OUTPUT).last_step
    path.write_text(header + "".join(line(step) for step in range(1, 8)))  # begun anew
    assert looks.of(tmp_path) == 7


@pytest.mark.parametrize("content", [b"\x00\x01\x02\n" * 99, b"no log\n" * 99, b"", b"step,speed\n1,2\n2,3\n"])
def test_what_tells_no_step_is_no_failure(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "events.csv").write_bytes(content)
    (tmp_path / "loop").symlink_to(tmp_path)
    assert LastSteps(output=OUTPUT).of(tmp_path) is None
    assert LastSteps(output=OUTPUT).of(tmp_path / "not there") is None


# A run of each kind as its real writer left it: its folder, and the file that grows.
GROWN = {
    "tensorboard": ("tensorboard/low", "events.out.tfevents.*"),
    "tensorboard killed": ("tensorboard/killed", "events.out.tfevents.*"),
    "tensorboard tensors": ("tensorboard_tensors/middle", "events.out.tfevents.*"),
    "tensorboard hparams": ("tensorboard_hparams/low", "events.out.tfevents.*.0"),
    **{
        f"wandb {version}": (f"wandb-{version}/wandb", "offline-run-*-idlow/run-idlow.wandb")
        for version in ("0.19.11", "0.23.1", "0.28.2", "0.31.0")
    },
    "trainer state": ("huggingface/low", "trainer_state.json"),
}


def begun(folder: Path, kind: str) -> tuple[Path, bytes]:
    """An empty log in a folder, and what its writer wrote."""
    name, pattern = GROWN[kind]
    (source,) = (GOLDEN / name).glob(pattern)
    path = folder / source.relative_to(GOLDEN / name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path, source.read_bytes()


def whole(folder: Path) -> int | None:
    """What the whole log says."""
    try:
        return logged_step(folder) or None
    except LogFormatError:
        return None


@pytest.mark.parametrize("kind", GROWN)
def test_logs_of_trackers_grow(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut anywhere, also in the middle of a record, as the whole log; short files are looked at by their ends, too."""
    monkeypatch.setattr(events, "HEAD_BYTES", 400)
    monkeypatch.setattr(events, "TAIL_BYTES", (300, 2000))
    path, written = begun(tmp_path, kind)
    looks, seen = LastSteps(output=OUTPUT), list[int]()
    assert looks.of(tmp_path) is None
    for length in [*range(1, len(written), len(written) // 60), len(written)]:
        path.write_bytes(written[:length])
        found, right = LastSteps().of(tmp_path), whole(tmp_path)
        assert found == right, length
        growing = looks.of(tmp_path)
        assert growing == (seen[-1] if right is None and seen else right)  # one that is being written anew
        seen += [growing] if growing else []
    assert seen == sorted(seen)
    assert seen[-1] == (23 if "killed" in kind else 40)
    assert len(set(seen)) == 1 if kind == "trainer state" else len(set(seen)) > 15


def long_log(kind: str, steps: int) -> tuple[str, bytes]:
    """A log of so many steps, and its name."""
    if kind == "tensorboard":
        rows = (event(step, simple("train/loss", 2 + 3 / step)) for step in range(1, steps + 1))
        return "events.out.tfevents.1.host.1.0", b"".join(map(record, [event(0), *rows]))
    if kind == "wandb":
        made = (
            history(train__loss=2 + 3 / step, train__global_step=step, _step=step - 1) for step in range(1, steps + 1)
        )
        return "wandb/run-a/run-a.wandb", framed(run_record("a", {"lr": 1e-3}), *made)
    state = json.loads((GOLDEN / "huggingface/low/trainer_state.json").read_text())
    state |= {"global_step": steps, "max_steps": 2 * steps}
    state["log_history"] = [{"epoch": 1.5, "loss": 2 + 3 / step, "step": step} for step in range(1, steps + 1)]
    return "checkpoint-9/trainer_state.json", json.dumps(state, indent=2, sort_keys=True).encode()


@pytest.mark.parametrize("kind", ["tensorboard", "wandb", "trainer state"])
def test_of_a_long_log_the_ends_are_read(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"tensorboard": 5_000, "wandb": 9_000, "trainer state": 20_000}[kind]
    name, content = long_log(kind, steps)
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    sizes: list[int] = []

    def counted(folder: Path, **said: Any) -> Any:
        sizes.append(sum(each.stat().st_size for each in folder.rglob("*") if each.is_file()))
        return logged_step(folder, **said)

    monkeypatch.setattr(last_step, "logged_step", counted)
    looks = LastSteps()
    assert looks.of(tmp_path) == whole(tmp_path) == steps
    assert sizes[0] < 0.8 * len(content)
    if kind != "trainer state":
        for cut in (1, 5, 20, 40):  # in the middle of its last records
            path.write_bytes(content[:-cut])
            assert looks.of(tmp_path) == whole(tmp_path)


def test_a_record_longer_than_the_end_that_is_read(tmp_path: Path) -> None:
    """The step before an image; a longer one at the very end tells nothing new."""
    name, content = long_log("tensorboard", 1_000)
    path = tmp_path / name
    looks = LastSteps()
    image = random.Random(0).randbytes(200_000)
    with_length = struct.pack("<Q", len(image))
    cut = with_length + struct.pack("<I", int(masked(with_length))) + image
    path.write_bytes(content + cut)  # it is being written
    assert looks.of(tmp_path) == 1_000
    path.write_bytes(content + cut + bytes(5_000_000))
    assert looks.of(tmp_path) == 1_000


def test_several_files_of_one_run(tmp_path: Path) -> None:
    """A restart has an event file of its own; Keras has one for training and one for validation; weights lie beside."""
    first, second = (b"".join(record(event(s, simple("loss", 2.0))) for s in some) for some in (range(9), range(5, 14)))
    (tmp_path / "events.out.tfevents.1.host.1.0").write_bytes(first)
    assert LastSteps().of(tmp_path) == 8
    (tmp_path / "events.out.tfevents.2.host.2.0").write_bytes(second)
    assert LastSteps().of(tmp_path) == 13
    for number in range(5):
        (tmp_path / f"model-{number}.safetensors").write_bytes(b"\x00" * 99)
    assert LastSteps().of(tmp_path) == 13
    keras = tmp_path / "keras"
    for part, tag in (("train", "epoch_loss"), ("validation", "epoch_loss")):
        (keras / part).mkdir(parents=True)
        rows = (record(event(s, simple(tag, 2.0))) for s in range(1, 7 if part == "train" else 5))
        (keras / part / "events.out.tfevents.1.host.1.0").write_bytes(b"".join(rows))
    assert LastSteps().of(keras) == 6


def test_checkpoints_of_the_trainer_of_hugging_face(tmp_path: Path) -> None:
    """While it trains there is a state in each checkpoint, beside an event file that is ahead of them."""
    shutil.copytree(GOLDEN / "huggingface" / "low", tmp_path / "low")
    (tmp_path / "low" / "trainer_state.json").unlink()
    shutil.rmtree(tmp_path / "low" / "checkpoint-40")
    looks = LastSteps(output=OUTPUT)
    assert looks.of(tmp_path / "low") == 40
    shutil.rmtree(tmp_path / "low" / "runs")
    assert looks.of(tmp_path / "low") == 20


def test_records_are_framed_as_their_writer_does() -> None:
    for path in GOLDEN.glob("wandb-*/wandb/*/*.wandb"):
        content = path.read_bytes()
        with path.open("rb") as file:
            made = wandb.framed(wandb.records(file))
        assert content.startswith(made), path
        assert len(content) - len(made) < (2_000 if "killed" in path.name else 1)
    for size in (0, 1, BLOCK - 20, BLOCK - 14, BLOCK - 7, BLOCK, 3 * BLOCK + 5):
        assert wandb.framed([b"x" * size, b"y"]) == framed(b"x" * size, b"y")
