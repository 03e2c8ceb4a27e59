"""Stands in for the trainer where studies are asked, not training: the logs that it would write, losses of a known law.

Its behaviour is a JSON file: "diverges" (every run above that learning rate), "fails" (each pack, with that sentence),
"seconds" (that a pack takes), "calls" (a file that gets a line for every run that is trained).
"""

from __future__ import annotations

import json
import math
import time
import zlib
from pathlib import Path
from typing import TextIO

from lawfit.corpus import Manifest
from lawfit.proxy.log import RunLog, start_line
from lawfit.proxy.pack import load_pack

TIMINGS = {"prepare_seconds": 0.0, "train_seconds": 1.0, "eval_seconds": 0.0, "pack_tokens_per_second": 1.0}
NOISE = 0.001  # of the loss


def best(params: float, tokens: float) -> tuple[float, float]:
    """Learning rate and batch that are best there."""
    return 0.05 * (params / 1000) ** -0.3 * (tokens / 10_000) ** 0.1, 64 * (tokens / 10_000) ** 0.5


def loss(params: float, tokens: float, lr: float, batch: float, noise: float) -> float:
    best_lr, best_batch = best(params, tokens)
    u, v = math.log(lr / best_lr), math.log(batch / best_batch)
    lowest: float = 1.5 + 20 * params**-0.4 + 30 * tokens**-0.35
    high = 0.02 * u * u + 0.01 * v * v - 0.01 * u * v
    return lowest * math.exp(high + NOISE * noise)


def main(pack_file: Path, logs: Path, behaviour_file: Path, errors: TextIO) -> int:
    pack, behaviour = load_pack(pack_file), json.loads(behaviour_file.read_text())
    if "fails" in behaviour:
        print(f"error: {behaviour['fails']}", file=errors)
        return 1
    manifest = Manifest(**json.loads((Path(pack.corpus) / "manifest.json").read_text()))
    time.sleep(behaviour.get("seconds", 0))
    for i, run in enumerate(pack.runs):
        start = start_line(pack, i, manifest, manifest.train_tokens // pack.model.seq_len)
        log = RunLog(logs, pack, i, start)
        if run.lr > behaviour.get("diverges", math.inf):
            log.diverged(run.steps // 2, TIMINGS)
        else:
            noise = zlib.crc32(start["run_id"].encode()) / 2**31 - 1
            scale = (pack.model.non_embedding_params, run.steps * pack.batch_tokens)
            log.finished({"loss": loss(*scale, run.lr, pack.batch_tokens, noise)}, TIMINGS)
        log.close()
        with Path(behaviour["calls"]).open("a") as calls:
            calls.write(f"{start['run_id']} {run.lr}\n")
    return 0
