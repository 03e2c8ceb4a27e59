"""`<run id>.jsonl`: one JSON object per line, each flushed as it is written; events start, train, eval, diverged, end.

A log without an end line is that of a run which was interrupted; its pack goes on from its checkpoint.
"""

from __future__ import annotations

import bisect
import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lawfit.corpus import Manifest
from lawfit.errors import LawfitError
from lawfit.proxy.noise_scale import noise_scale
from lawfit.proxy.pack import Pack
from lawfit.proxy.schedules import ends_on_the_way
from lawfit.records import Json


def log_path(folder: Path, run_id: str) -> Path:
    return folder / f"{run_id}.jsonl"


def whole_lines(text: str) -> list[Json]:
    """The lines of a log that are whole; the last one may have been cut off in writing."""
    events = []
    for line in text.splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return events


def last_event(path: Path) -> Json | None:
    """The last whole line of a log; None when there is none."""
    try:
        events = whole_lines(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return events[-1] if events else None


def on_another_corpus(folder: Path, corpus_hash: str) -> tuple[Path, str] | None:
    """A log in the folder of a run that read another corpus, and the hash of that one; None where there is none."""
    for path in sorted(folder.glob("*.jsonl")):
        try:
            with path.open("rb") as file:
                found = str(json.loads(file.readline())["corpus"]["hash"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # no log of the trainer
        if found != corpus_hash:
            return path, found
    return None


def start_line(pack: Pack, index: int, manifest: Manifest, sequences: int) -> dict[str, Json]:
    """What decides the losses of one run, and what its pack says about it.

    Parameters
    ----------
    sequences : int
        Training sequences that the corpus holds.
    """
    run = pack.runs[index]
    return {
        "event": "start",
        "run_id": pack.run_id(index, manifest.hash),
        "pack": pack.name,
        "neighbours": len(pack.runs) - 1,
        "shared_init_seed": len({other.init_seed for other in pack.runs}) == 1,
        "shared_data_seed": len({other.data_seed for other in pack.runs}) == 1,
        "model": dataclasses.asdict(pack.model),
        "params": pack.model.params,
        "non_embedding_params": pack.model.non_embedding_params,
        "parametrization": pack.model.parametrization,
        "optimizer": pack.optimizer,
        "decay": pack.decay,
        "precision": pack.precision,
        "batch_sequences": pack.batch_sequences,
        "batch_tokens": pack.batch_tokens,
        "tokens": run.steps * pack.batch_tokens,
        "epochs": run.steps * pack.batch_sequences / pack.unique_sequences(index, sequences),
        "eval_tokens": pack.eval_sequences * pack.model.seq_len,
        "loss_kind": "validation_cross_entropy_nats_per_token",
        "corpus": dataclasses.asdict(manifest),
        "measured_tokens": pack.micro_sequences * pack.model.seq_len,  # of grad_sq; twice as many of grad_sq_double
        **(dataclasses.asdict(run) | {"beta2": pack.beta2(index)}),  # beta2 as it is used
    }


class RunLog:
    """The log of one run: from its first line, or from where a checkpoint was taken."""

    def __init__(
        self, folder: Path, pack: Pack, index: int, start: Mapping[str, Json], *, resume_at: int | None = None
    ) -> None:
        run = pack.runs[index]
        self.pack, self.steps = pack, run.steps
        text_bytes, tokens = start["corpus"]["validation_bytes"], start["corpus"]["validation_tokens"]
        self.bytes_per_token: float | None = None if text_bytes is None else text_bytes / tokens
        self.epochs_per_step = start["epochs"] / run.steps
        self.measured_tokens: int = start["measured_tokens"]
        interval = max(1, run.steps // pack.log_points)
        self.lines: list[int] = sorted({*range(interval, run.steps, interval), run.steps})
        evals = min(pack.evals, run.steps)
        self.evals = {round(run.steps * (i + 1) / evals) for i in range(evals - 1)}  # the last is in the end line
        self.evals |= set(ends_on_the_way(run.schedule, run.steps))
        self.stops: list[int] = sorted({*self.lines, *self.evals})
        self.logged = 0  # the step of the last line of training loss
        self.squares: list[tuple[int, float, float]] = []  # step, and the squared gradient norms of its line
        self.ending: Mapping[str, Json] | None = None  # the end line
        folder.mkdir(parents=True, exist_ok=True)
        path = log_path(folder, start["run_id"])
        if resume_at is None:
            path.write_bytes(b"")
        else:
            self._take_up(path, resume_at)
        self.file = path.open("ab")
        if resume_at is None:
            self._write(**start)

    def _take_up(self, path: Path, resume_at: int) -> None:
        """Cut off what came after the checkpoint, which will be written again, and read the rest."""
        if not path.exists() or path.stat().st_size < resume_at:
            raise LawfitError(
                f"{path} holds less than its checkpoint says; remove {path.parent}/*.checkpoint to begin its pack again"
            )
        os.truncate(path, resume_at)
        for line in whole_lines(path.read_text(encoding="utf-8")):
            if line["event"] == "train":
                self.logged = line["step"]
                self._remember(line["step"], line)
            elif line["event"] == "end":
                self.ending = line

    def next_line(self, done: int) -> int:
        """The step of the first line of any kind after `done` steps."""
        return self.stops[bisect.bisect_right(self.stops, done)]

    @property
    def over(self) -> bool:
        return self.ending is not None

    def wants_line(self, done: int) -> bool:
        return not self.over and done in self.lines

    def wants_eval(self, done: int) -> bool:
        """Validation losses, on the way or for the end line."""
        return not self.over and (done in self.evals or done == self.steps)

    def train(self, done: int, losses: npt.NDArray[np.float32], measured: Mapping[str, float]) -> None:
        """Write the line of step `done`, if there is one: the same lines whatever the neighbours need.

        Parameters
        ----------
        losses : (n,) training losses of the steps since the last line, whose mean this line has
        measured : finite floats by name
            At step `done`: `grad_norm` before clipping, `lr`, `update_ratio`, and `grad_sq`, `grad_sq_double`.
        """
        if not self.wants_line(done):
            return
        loss = float(np.mean(losses, dtype=np.float64))
        tokens = done * self.pack.batch_tokens
        self._write(event="train", step=done, tokens=tokens, loss=loss, **measured)
        self.logged = done
        self._remember(done, measured)

    def eval(self, done: int, losses: Mapping[str, float]) -> None:
        """Validation losses on the way, where they are finite: `loss`, and `average_loss` of averaged weights."""
        if not self.wants_eval(done) or done == self.steps or "loss" not in losses:
            return
        bits = self._bits_per_byte(losses["loss"])
        self._write(event="eval", step=done, tokens=done * self.pack.batch_tokens, **losses, bits_per_byte=bits)

    def diverged(self, step: int, timings: Mapping[str, Json]) -> None:
        """The last lines of a run that diverged at `step`: it has no final loss."""
        self._write(event="diverged", step=step, tokens=step * self.pack.batch_tokens)
        self._end("diverged", step, {"loss": None, "bits_per_byte": None}, timings)

    def finished(self, losses: Mapping[str, float], timings: Mapping[str, Json]) -> None:
        """The last line of a run that did all of its steps."""
        if "loss" not in losses:  # its weights took no harm that a training step would have shown
            self.diverged(self.steps, timings)
            return
        final: dict[str, Json] = {**losses, "bits_per_byte": self._bits_per_byte(losses["loss"])}
        self._end("finished", self.steps, final, timings)

    @property
    def position(self) -> int:
        """Bytes written."""
        return self.file.tell()

    def close(self) -> None:
        self.file.close()

    def _remember(self, step: int, measured: Mapping[str, Json]) -> None:
        if "grad_sq" in measured and "grad_sq_double" in measured:
            self.squares.append((step, measured["grad_sq"], measured["grad_sq_double"]))

    def _end(self, status: str, step: int, final: Mapping[str, Json], timings: Mapping[str, Json]) -> None:
        tokens = step * self.pack.batch_tokens
        measured = {"noise_scale_tokens": self._noise_scale()} if self.squares else {}
        self.ending = {
            "event": "end", "status": status, "step": step, "tokens": tokens, **final,
            "epochs": step * self.epochs_per_step, "flops": tokens * self.pack.model.flops_per_token,
            **measured, **timings,
        }  # fmt: skip
        self._write(**self.ending)

    def _noise_scale(self) -> float | None:
        """Over the lines of the second half of the run: it grows while the loss falls, and most in the beginning."""
        late = np.array([squares for step, *squares in self.squares if 2 * step > self.steps])
        if not len(late):  # it diverged before
            return None
        return noise_scale(late[:, 0], late[:, 1], self.measured_tokens, 2 * self.measured_tokens)

    def _bits_per_byte(self, loss: float) -> float | None:
        """None on a corpus whose text is not known."""
        return None if self.bytes_per_token is None else loss / math.log(2) / self.bytes_per_token

    def _write(self, **line: Json) -> None:
        self.file.write((json.dumps(line, allow_nan=False) + "\n").encode())
        self.file.flush()
