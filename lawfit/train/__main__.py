"""`python -m lawfit.train pack.json...`: train packs one after the other on one device.

Start it again after an interruption and it goes on: packs that have ended are skipped, others resume. SIGTERM is a
deadline that is now: the pack in training leaves a checkpoint, and no other is begun.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from lawfit.corpus import MANIFEST, open_corpus
from lawfit.errors import LawfitError
from lawfit.proxy.log import on_another_corpus
from lawfit.proxy.pack import Pack, load_pack, pack_schema
from lawfit.proxy.trunks import cut, halves, plan
from lawfit.train.capacity import largest_pack
from lawfit.train.loop import Outcome, ended, train
from lawfit.train.trainer import Trainer

stopping = threading.Event()  # set by SIGTERM


def train_pack(pack: Pack, device: torch.device, options: argparse.Namespace) -> list[Outcome]:
    """Train one pack; where memory is short, parts of it one after the other, and a single run in micro-batches.

    A run has the same id in any of them, and the same losses up to rounding.
    """
    rows, fits = len(plan(pack).rows), largest_pack(pack, device)
    parts: tuple[Pack, ...] | None = cut(pack, -(-rows // fits)) if fits < rows else None
    if parts is None:
        try:
            return _train_whole(pack, device, options)
        except torch.OutOfMemoryError:  # other programs use the device, or it took more than was counted
            parts = smaller(pack)
        if parts is None:
            raise LawfitError(
                f"a single run of pack {pack.name} does not fit into the memory of {device}, "
                f"not even in micro-batches of {pack.micro_sequences} sequences; train a smaller model"
            )
        gc.collect()  # its memory is what the parts need
        if device.type == "cuda":
            torch.cuda.empty_cache()
    what = f"split in {len(parts)}" if len(parts) > 1 else f"its batch is cut into {parts[0].accumulation}"
    print(f"pack {pack.name} of {len(pack.runs)} runs does not fit into memory; {what}", file=sys.stderr)
    outcomes = []
    for part in parts:
        if has_ended(part, options.logs):  # before an interruption
            continue
        if stopping.is_set() or time.time() > options.deadline:
            break
        outcomes += train_pack(part, device, options)
    return outcomes


def _train_whole(pack: Pack, device: torch.device, options: argparse.Namespace) -> list[Outcome]:
    trainer = Trainer(pack, device, compiled=device.type == "cuda")
    if device.type == "cuda" and not (Path(pack.corpus) / MANIFEST).exists():
        trainer.warm_up()  # while the corpus is being built
    corpus = open_corpus(Path(pack.corpus), expected_hash=pack.corpus_hash, wait_seconds=options.wait)
    if (other := on_another_corpus(options.logs, corpus.manifest.hash)) is not None:
        path, its_hash = other
        raise LawfitError(
            f"{options.logs} holds runs on corpus {its_hash} ({path.name}), and {pack.corpus} holds "
            f"{corpus.manifest.hash}; losses on different corpora cannot be compared. Name another folder with --logs"
        )
    return train(
        pack, corpus, options.logs,
        trainer=trainer, deadline=options.deadline, stop=stopping.is_set,
        checkpoint_seconds=options.checkpoint_seconds,
    )  # fmt: skip


def smaller(pack: Pack) -> tuple[Pack, ...] | None:
    """The pack in parts that take about half the memory each; None where it cannot be cut any more."""
    if parts := halves(pack):
        return parts
    return None if pack.micro_sequences % 2 else (replace(pack, accumulation=2 * pack.accumulation),)


def has_ended(pack: Pack, logs: Path) -> bool:
    """Whether there is nothing left to train; unknown, hence no, while neither pack nor folder tells the corpus."""
    try:
        corpus_hash = pack.corpus_hash or open_corpus(Path(pack.corpus)).manifest.hash
    except LawfitError:
        return False
    return ended(pack, corpus_hash, logs)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lawfit.train", description="Train packs, one after the other.")
    parser.add_argument("packs", nargs="*", type=Path, metavar="pack.json")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of pack.json, and do nothing else")
    parser.add_argument("--logs", type=Path, default=Path("runs"), help="folder for <run id>.jsonl (default: runs)")
    parser.add_argument("--cpu", action="store_true", help="use the CPU although a GPU is there")
    parser.add_argument(
        "--deadline", type=float, default=math.inf, help="leave a checkpoint and stop at this Unix time"
    )
    parser.add_argument("--checkpoint-seconds", type=float, default=120, help="leave one this often (default: 120)")
    parser.add_argument("--wait", type=float, default=0, help="seconds to wait for a corpus that is being built")
    options = parser.parse_args(arguments)
    if options.schema:
        print(json.dumps(pack_schema(), indent=2))
        return 0
    if not options.packs:
        parser.error("no pack.json is named")
    device = torch.device("cuda" if torch.cuda.is_available() and not options.cpu else "cpu")
    try:
        if device.type == "cpu" and not options.cpu and (named := os.environ.get("CUDA_VISIBLE_DEVICES")):
            raise LawfitError(f"torch finds no GPU, and CUDA_VISIBLE_DEVICES names {named}; --cpu trains on the CPU")
        packs = [load_pack(path) for path in options.packs]  # all of them checked before the first one trains
        for pack in packs:
            if stopping.is_set() or time.time() > options.deadline:
                break
            if has_ended(pack, options.logs):
                print(json.dumps({"pack": pack.name, "skipped": len(pack.runs)}), flush=True)
                continue
            began = time.time()
            outcomes = train_pack(pack, device, options)
            counts = {s: sum(o.status == s for o in outcomes) for s in ("finished", "diverged", "stopped")}
            tokens = sum(outcome.steps for outcome in outcomes) * pack.batch_tokens
            seconds = round(time.time() - began, 2)
            print(json.dumps({"pack": pack.name, **counts, "tokens": tokens, "seconds": seconds}), flush=True)
    except LawfitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    sys.exit(main())
