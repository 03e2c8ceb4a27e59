"""`python -m lawfit.train pack.json...`: train packs one after the other on one device."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from lawfit.errors import LawfitError
from lawfit.train.corpus import open_corpus
from lawfit.train.loop import Trainer, train
from lawfit.train.pack import load_pack


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lawfit.train", description="Train packs, one after the other.")
    parser.add_argument("packs", nargs="+", type=Path, metavar="pack.json")
    parser.add_argument("--logs", type=Path, default=Path("runs"), help="folder for <run id>.jsonl (default: runs)")
    parser.add_argument("--cpu", action="store_true", help="use the CPU although a GPU is there")
    parser.add_argument("--deadline", type=float, default=math.inf, help="stop and log at this Unix time")
    parser.add_argument("--wait", type=float, default=0, help="seconds to wait for a corpus that is being built")
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() and not options.cpu else "cpu")
    try:
        packs = [load_pack(path) for path in options.packs]  # all of them checked before the first one trains
        for pack in packs:
            if time.time() > options.deadline:
                break
            trainer = Trainer(pack, device, compiled=device.type == "cuda")
            if device.type == "cuda":
                trainer.warm_up()
            corpus = open_corpus(Path(pack.corpus), expected_hash=pack.corpus_hash, wait_seconds=options.wait)
            began = time.time()
            outcomes = train(pack, corpus, options.logs, trainer=trainer, deadline=options.deadline)
            counts = {
                status: sum(o.status == status for o in outcomes) for status in ("finished", "diverged", "stopped")
            }
            tokens = sum(outcome.steps for outcome in outcomes) * pack.batch_tokens
            print(
                json.dumps({"pack": pack.name, **counts, "tokens": tokens, "seconds": time.time() - began}), flush=True
            )
            del trainer
    except LawfitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
