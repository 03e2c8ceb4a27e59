"""How far a run is, from logs that grow: as the whole log would say it, from its ends alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lawfit.ingest import last_step
from lawfit.ingest.last_step import LastSteps
from lawfit.ingest.one_run import read_one_run

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

    def counted(folder: Path, *args: Any, **said: Any) -> Any:
        reads.append(folder)
        assert sum(each.stat().st_size for each in folder.rglob("*") if each.is_file()) < 50_000
        return read_one_run(folder, *args, **said)

    monkeypatch.setattr(last_step, "read_one_run", counted)
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
