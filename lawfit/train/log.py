"""`<run id>.jsonl`: one JSON object per line, each flushed as it is written; events start, train, eval, diverged, end.

A log without an end line is that of a run which was interrupted; its pack goes on from its checkpoint.
"""

from __future__ import annotations

import bisect
import dataclasses
import json
import math
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lawfit.errors import LawfitError
from lawfit.records import Json
from lawfit.train.corpus import Manifest
from lawfit.train.pack import Pack


def log_path(folder: Path, run_id: str) -> Path:
    return folder / f"{run_id}.jsonl"


def last_event(path: Path) -> Json | None:
    """The last whole line of a log; None when there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        try:
            return json.loads(line)
        except json.JSONDecodeError:  # cut off in writing
            continue
    return None


class RunLog:
    """The log of one run: from its first line, or from where a checkpoint was taken."""

    def __init__(
        self,
        folder: Path,
        run_id: str,
        pack: Pack,
        index: int,
        manifest: Manifest,
        device: torch.device,
        epochs: float,
        *,
        resume_at: int | None = None,
    ) -> None:
        run = pack.runs[index]
        self.pack, self.steps = pack, run.steps
        self.bytes_per_token = manifest.validation_bytes / manifest.validation_tokens
        interval = max(1, run.steps // pack.log_points)
        self.lines: list[int] = sorted({*range(interval, run.steps, interval), run.steps})
        self.evals = {
            round(run.steps * (i + 1) / pack.evals) for i in range(pack.evals - 1)
        }  # the last is in the end line
        self.stops: list[int] = sorted({*self.lines, *self.evals})
        self.go_on(0, 0)
        folder.mkdir(parents=True, exist_ok=True)
        path = log_path(folder, run_id)
        if resume_at is None:
            path.write_bytes(b"")
        elif not path.exists() or path.stat().st_size < resume_at:
            raise LawfitError(
                f"{path} holds less than its checkpoint says; remove {folder}/*.checkpoint to begin its pack again"
            )
        else:
            os.truncate(path, resume_at)  # what came after the checkpoint will be written again
        self.file = path.open("ab")
        if resume_at is not None:
            return
        self._write(
            event="start",
            run_id=run_id,
            pack=pack.name,
            neighbours=len(pack.runs) - 1,
            model=dataclasses.asdict(pack.model),
            params=pack.model.params,
            non_embedding_params=pack.model.non_embedding_params,
            parametrization=pack.model.parametrization,
            optimizer=pack.optimizer,
            decay=pack.decay,
            precision=pack.precision,
            batch_sequences=pack.batch_sequences,
            batch_tokens=pack.batch_tokens,
            tokens=run.steps * pack.batch_tokens,
            epochs=epochs * run.steps / max(other.steps for other in pack.runs),
            eval_tokens=pack.eval_sequences * pack.model.seq_len,
            loss_kind="validation_cross_entropy_nats_per_token",
            corpus=dataclasses.asdict(manifest),
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            torch=torch.__version__,
            python=platform.python_version(),
            measured_tokens=pack.micro_sequences * pack.model.seq_len,  # of grad_sq; twice as many of grad_sq_double
            **{**dataclasses.asdict(run), "beta2": pack.beta2(index)},
        )

    def go_on(self, done: int, diverged_at: int) -> None:
        """Take up the log after `done` steps of the pack."""
        self.diverged_at = diverged_at
        self.logged = max((line for line in self.lines if line <= done), default=0)  # the step of the last line

    def next_line(self, done: int) -> int:
        """The step of the first line of any kind after `done` steps."""
        return self.stops[bisect.bisect_right(self.stops, done)]

    def wants_line(self, done: int) -> bool:
        return not self.over(self.logged) and done in self.lines

    def wants_eval(self, done: int) -> bool:
        return not self.diverged_at and done in self.evals

    def train(
        self,
        done: int,
        losses: npt.NDArray[np.float32],
        diverged_at: int,
        *,
        grad_norm: float,
        lr: float,
        **more: float,
    ) -> None:
        """Write the line of step `done`, if there is one: the same lines whatever the neighbours need.

        Parameters
        ----------
        losses : (steps of the pack,) training loss of every step up to `done`; the line has the mean since the last
        diverged_at : int
            Step at which the run diverged, 0 if it has not.
        grad_norm, lr : float
            Gradient norm before clipping, and learning rate, of step `done`.
        more : float
            Further measurements at step `done`.
        """
        if self.over(self.logged):
            return
        if diverged_at:
            self.diverged_at = diverged_at
            self._write(event="diverged", step=diverged_at, tokens=diverged_at * self.pack.batch_tokens)
        elif self.wants_line(done):
            loss = float(np.mean(losses[self.logged : done], dtype=np.float64))
            tokens = done * self.pack.batch_tokens
            self._write(event="train", step=done, tokens=tokens, loss=loss, grad_norm=grad_norm, lr=lr, **more)
            self.logged = done

    def eval(self, done: int, losses: Mapping[str, float]) -> None:
        """Validation losses on the way: `loss`, and `average_loss` of averaged weights."""
        self._write(event="eval", step=done, tokens=done * self.pack.batch_tokens, **losses)

    @property
    def position(self) -> int:
        """Bytes written."""
        return self.file.tell()

    def over(self, done: int) -> bool:
        """Nothing is left to do for this run after `done` steps of the pack."""
        return bool(self.diverged_at) or done >= self.steps

    def end(self, status: str, losses: Mapping[str, float], **timings: float) -> None:
        """The last line: how it ended, and the validation losses unless it diverged."""
        steps = self.diverged_at or self.steps
        final: dict[str, float | None] = {"loss": None, "bits_per_byte": None}
        if not self.diverged_at:
            final = {**losses, "bits_per_byte": losses["loss"] / math.log(2) / self.bytes_per_token}
        tokens = steps * self.pack.batch_tokens
        flops = tokens * self.pack.model.flops_per_token
        self._write(event="end", status=status, step=steps, tokens=tokens, **final, flops=flops, **timings)
        self.close()

    def close(self) -> None:
        self.file.close()

    def _write(self, **line: Json) -> None:
        self.file.write((json.dumps(line, allow_nan=False) + "\n").encode())
        self.file.flush()
