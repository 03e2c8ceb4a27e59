"""What a look at how far a run is costs, where its log has 50 MB and grows.

    python -m tests.benchmarks.last_steps [--megabytes 50]

For each kind of log: its steps, processor time of the first look, of later ones after it was written to, of one where
nothing has changed, and of reading the whole log.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lawfit.ingest.crc32c import masked_crcs
from lawfit.ingest.last_step import LastSteps
from lawfit.ingest.one_run import logged_step
from tests.ingest.formats.logs import GOLDEN
from tests.ingest.formats.wires import event, framed, history, run_record, simple

LOOKS = 6


def event_file(path: Path, size: int) -> None:
    """As TensorBoard's writer: a record for each number."""
    step = 0
    with path.open("wb") as file:
        while file.tell() < size:
            made = [event(at, simple("train/loss", 2 + 3 / at)) for at in range(step + 1, step + 20_001)]
            step += len(made)
            for length in sorted({len(each) for each in made}):
                rows = np.frombuffer(b"".join(each for each in made if len(each) == length), np.uint8)
                rows = rows.reshape(-1, length)
                stated = np.tile(np.frombuffer(length.to_bytes(8, "little"), np.uint8), (len(rows), 1))
                sums = [masked_crcs(part).astype("<u4").view(np.uint8).reshape(-1, 4) for part in (stated, rows)]
                file.write(np.hstack([stated, sums[0], rows, sums[1]]).tobytes())


def wandb_file(path: Path, size: int) -> None:
    """A row of seven numbers for each step."""
    row = {"train__loss": 2.5, "lr": 1e-3, "grad_norm": 1.5, "_timestamp": 1.7e9, "_runtime": 0.1}
    count = size // (len(history(**row, train__global_step=100_000, _step=100_000)) + 7)
    rows = (history(**row, train__global_step=step, _step=step - 1) for step in range(1, count + 1))
    path.write_bytes(framed(run_record("a", {"lr": 1e-3}), *rows))


def trainer_state(path: Path, size: int) -> None:
    """The state of the Trainer of Hugging Face, with more rows."""
    state = json.loads((GOLDEN / "huggingface/low/trainer_state.json").read_text())
    count = size // 127
    row = {"epoch": 1.5, "grad_norm": 1.5, "learning_rate": 1e-3, "loss": 2.5}
    state |= {"global_step": count, "log_history": [{**row, "step": step} for step in range(1, count + 1)]}
    path.write_text(json.dumps(state, indent=2, sort_keys=True))


def took(work: Callable[[Path], int | None], folder: Path) -> tuple[int | None, float]:
    """Its answer, and seconds of the processor."""
    begun = time.process_time()
    return work(folder), time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=50)
    size = parser.parse_args().megabytes << 20
    for name, written in (
        ("events.out.tfevents.1.host.1.0", event_file),
        ("run-a.wandb", wandb_file),
        ("trainer_state.json", trainer_state),
    ):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run" / name
            path.parent.mkdir()
            written(path, size)
            looks = LastSteps()
            seconds = []
            for number in range(LOOKS):
                os.utime(path, ns=(number, number))  # as if somebody had written to it
                seconds.append(took(looks.of, path.parent)[1])
            found, same = took(looks.of, path.parent)
            right, whole = took(logged_step, path.parent)
            assert found == right
            print(
                f"{name}: {path.stat().st_size / (1 << 20):.0f} MB, {found:,} steps: first look {1e3 * seconds[0]:.1f} "
                f"ms, later {1e3 * np.median(seconds[1:]):.1f} ms, nothing new {1e3 * same:.2f} ms, whole {whole:.2f} s"
            )


if __name__ == "__main__":
    main()
