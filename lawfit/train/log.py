"""`<run id>.jsonl`: one JSON object per line, each flushed as it is written; events start, train, diverged, end."""

from __future__ import annotations

import dataclasses
import json
import math
import platform
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lawfit.records import Json
from lawfit.train.corpus import Manifest
from lawfit.train.pack import Pack


class RunLog:
    """The log of one run, written from its first line: a run trained again replaces its log."""

    def __init__(
        self, folder: Path, run_id: str, pack: Pack, index: int, manifest: Manifest, device: torch.device, epochs: float
    ) -> None:
        run = pack.runs[index]
        self.pack, self.steps = pack, run.steps
        self.bytes_per_token = manifest.validation_bytes / manifest.validation_tokens
        self.diverged_at = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{run_id}.jsonl"
        self.file = self.path.open("w", encoding="utf-8")
        self._write(
            event="start",
            run_id=run_id,
            pack=pack.name,
            neighbours=len(pack.runs) - 1,
            model=dataclasses.asdict(pack.model),
            params=pack.model.params,
            non_embedding_params=pack.model.non_embedding_params,
            parametrization="standard",
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
            **dataclasses.asdict(run),
        )

    def train(
        self, past: int, done: int, losses: npt.NDArray[np.float32], norm: float, lr: float, diverged_at: int
    ) -> None:
        """Mean training loss over the steps (past, done]; the gradient norm (before clipping) and lr at the last."""
        if self.over(past):
            return
        if diverged_at:
            self.diverged_at = diverged_at
            self._write(event="diverged", step=diverged_at, tokens=diverged_at * self.pack.batch_tokens)
            return
        done = min(done, self.steps)
        loss = float(np.mean(losses[: done - past], dtype=np.float64))
        tokens = done * self.pack.batch_tokens
        self._write(event="train", step=done, tokens=tokens, loss=loss, grad_norm=norm, lr=lr)

    def over(self, done: int) -> bool:
        """Nothing is left to do for this run after `done` steps of the pack."""
        return bool(self.diverged_at) or done >= self.steps

    def end(self, status: str, steps: int, loss: float | None, **timings: float) -> None:
        self._write(
            event="end",
            status=status,
            step=steps,
            tokens=steps * self.pack.batch_tokens,
            loss=loss,
            bits_per_byte=None if loss is None else loss / math.log(2) / self.bytes_per_token,
            flops=steps * self.pack.batch_tokens * self.pack.model.flops_per_token,
            **timings,
        )
        self.file.close()

    def _write(self, **line: Json) -> None:
        self.file.write(json.dumps(line, allow_nan=False) + "\n")
        self.file.flush()
