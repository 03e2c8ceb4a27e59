"""A grid file (shapes, horizons, batches, learning rates, seeds) -> packs, the most wanted first.

    {"base": {pack fields shared by all}, "shapes": {"0.8M": {layers, width, heads, hidden}}, "run": {run fields},
     "warmup_fraction": 0.05,
     "blocks": [{"shape": "0.8M", "tokens": [8e6], "batch_tokens": [4096], "lr": [...], "weight_decay": [...],
                 "seeds": [0]}]}

Every block is a full product. A pack takes the runs of one shape, batch and horizon of one block, so the order of
the blocks is the order in which evidence arrives.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import json
import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

from lawfit.records import Json
from lawfit.train.pack import Pack, PackError, parse_pack

BLOCK_FIELDS = {"shape", "tokens", "batch_tokens", "lr", "weight_decay", "seeds"}


def packs(grid: Mapping[str, Json]) -> Iterator[Pack]:
    """The packs of a grid, in the order of its blocks; batches from large to small, since large ones end sooner.

    Raises
    ------
    PackError
        A block names an unknown shape or field, or a batch that is not a whole number of sequences.
    """
    for number, block in enumerate(grid["blocks"]):
        where = f"blocks[{number}]"
        if unknown := sorted(set(block) - BLOCK_FIELDS):
            raise PackError(f"{where}: unknown field {unknown[0]}; the fields are {', '.join(sorted(BLOCK_FIELDS))}")
        if block["shape"] not in grid["shapes"]:
            raise PackError(f"{where}: no shape {block['shape']!r}; the shapes are {', '.join(grid['shapes'])}")
        seq_len = grid["base"]["seq_len"]
        for tokens, batch_tokens in itertools.product(block["tokens"], sorted(block["batch_tokens"], reverse=True)):
            if batch_tokens % seq_len:
                raise PackError(f"{where}: batch_tokens {batch_tokens} is not a multiple of seq_len {seq_len}")
            steps = max(1, round(tokens / batch_tokens))
            run = {**grid["run"], "steps": steps, "warmup_steps": round(grid["warmup_fraction"] * steps)}
            decays = block.get("weight_decay", [run.get("weight_decay", 0.1)])
            runs = [
                {**run, "lr": lr, "weight_decay": decay, "init_seed": seed, "data_seed": seed}
                for seed, decay, lr in itertools.product(block.get("seeds", [0]), decays, block["lr"])
            ]
            base = dict(grid["base"])
            model = {**grid["shapes"][block["shape"]], "vocab": base.pop("vocab"), "seq_len": base.pop("seq_len")}
            name = f"{number:03d}-{block['shape']}-D{tokens:.3g}-B{batch_tokens}"
            yield parse_pack(
                {**base, "name": name, "model": model, "batch_sequences": batch_tokens // seq_len, "runs": runs}
            )


def without(pack: Pack, have: Container[str]) -> Pack | None:
    """The pack less the runs that are there already; None when nothing is left.

    Raises
    ------
    PackError
        The pack does not name its corpus, so that the ids of its runs are not known.
    """
    if pack.corpus_hash is None:
        raise PackError(f"pack {pack.name} has no corpus_hash, so it cannot be told which of its runs exist")
    left = tuple(run for i, run in enumerate(pack.runs) if pack.run_id(i, pack.corpus_hash) not in have)
    return dataclasses.replace(pack, runs=left) if left else None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m lawfit.train.grid", description="Write the packs of a grid file.")
    parser.add_argument("grid", type=Path)
    parser.add_argument("folder", type=Path, help="where <pack name>.json go")
    parser.add_argument("--have", type=Path, help="run table (CSV): leave out the runs whose run_id it has")
    options = parser.parse_args(arguments)
    have = set()
    if options.have:
        with options.have.open(newline="", encoding="utf-8") as file:
            have = {row["run_id"] for row in csv.DictReader(file)}
    options.folder.mkdir(parents=True, exist_ok=True)
    total = 0.0
    for whole in packs(json.loads(options.grid.read_text(encoding="utf-8"))):
        pack = without(whole, have) if have else whole
        if pack is None:
            continue
        (options.folder / f"{pack.name}.json").write_text(json.dumps(pack.to_json()), encoding="utf-8")
        tokens = sum(run.steps for run in pack.runs) * pack.batch_tokens
        total += tokens
        print(f"{pack.name}: {len(pack.runs)} runs of {pack.runs[0].steps} steps, {tokens / 1e6:.0f}M tokens")
    print(f"{total / 1e9:.2f}B tokens in all")


if __name__ == "__main__":
    try:
        main()
    except PackError as error:
        sys.exit(f"error: {error}")
