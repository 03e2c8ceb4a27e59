"""Runs finished per GPU-hour: a pack in one process against one process per run, with the same code.

    python -m tests.benchmarks.runs_per_gpu_hour [--case NAME...] [--share 0.1] [--caches cold] [--out FILE]

Both sides are `python -m lawfit.train pack.json` as a user starts it, with compilation and CUDA graphs: what is
counted runs from the start of the process to its end, with compilation, the text, 60 lines of log and the evaluation on
2M tokens. Single runs have the GPU to themselves, one after the other; `--together N` also starts N of them at a time.
Cold: the caches of compiled code are empty; warm: the process before left them. The horizon is 20 tokens per
(non-embedding) parameter. With `--share` below 1 a process trains that share of the steps (with that share of the log's
lines), and the rest is added at the speed of the steps that it did: a table says what was measured and what was added.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.train_cases import CASES, Case, has_gpu, make_pack, random_corpus, write_corpus

TOKENS_PER_PARAM = 20
LOG_POINTS = 60


@dataclass(frozen=True)
class Duel:
    """A case, how many runs its pack holds, and how many times as many runs an hour are wanted: cold, warm."""

    case: str
    runs: int
    wanted_cold: float
    wanted_warm: float | None


DUELS = {
    "0.8M": Duel("0.8M", 64, 10, 4),
    "0.8M-2k": Duel("0.8M-2k", 128, 20, None),
    "3M": Duel("3M", 32, 3, None),
    "85M": Duel("85M", 2, 0.97, None),
}


def start(pack_file: Path, folder: Path, caches: Path) -> subprocess.Popen[bytes]:
    """The trainer in a process of its own; a fresh folder of caches makes it a cold start."""
    environment = {
        **os.environ,
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
    }
    command = [sys.executable, "-m", "lawfit.train", str(pack_file), "--logs", str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def finish(process: subprocess.Popen[bytes], began: float, folder: Path, steps: int, full_steps: int) -> dict[str, Any]:
    """What the process took, and what it would take to the full horizon."""
    if process.wait():
        sys.exit(f"the trainer ended with code {process.returncode}")
    seconds = time.perf_counter() - began
    ends = [json.loads(path.read_text().splitlines()[-1]) for path in folder.glob("*.jsonl")]
    if any(end["event"] != "end" or end["status"] != "finished" for end in ends):
        sys.exit("a run of the benchmark did not finish")
    train = max(end["train_seconds"] for end in ends)
    evaluate = max(end["eval_seconds"] for end in ends)
    added = train * (full_steps / steps - 1)
    return {
        "runs": len(ends),
        "measured_seconds": seconds,
        "train_seconds": train,
        "eval_seconds": evaluate,
        "start_seconds": seconds - train - evaluate,
        "added_seconds": added,
        "seconds": seconds + added,
        "memory_bytes": max(end["peak_memory_bytes"] for end in ends),
    }


class Bench:
    """One case: its packs on disk, and the processes that train them."""

    def __init__(self, name: str, share: float, folder: Path) -> None:
        self.duel, self.folder = DUELS[name], folder
        self.case: Case = CASES[self.duel.case]
        params = self.case.model.non_embedding_params
        self.full_steps = round(TOKENS_PER_PARAM * params / self.case.batch_tokens)
        self.steps = max(20, round(self.full_steps * share))
        self.log_points = max(1, round(LOG_POINTS * self.steps / self.full_steps))
        self.corpus = folder / "corpus"
        if not self.corpus.exists():  # large enough for no text to be read twice, up to a reasonable size
            tokens = min(64_000_000, self.steps * self.case.batch_tokens + 2 * self.case.batch_tokens)
            write_corpus(random_corpus(self.case, tokens=tokens), self.corpus)

    def pack_file(self, runs: int, index: int = 0) -> Path:
        """A pack of its own; `index` tells single runs apart."""
        pack = make_pack(self.case, runs, steps=self.steps, log_points=self.log_points, corpus=self.corpus, seed=index)
        path = self.folder / f"{self.duel.case}-{runs}-{index}.json"
        path.write_text(json.dumps(pack.to_json()))
        return path

    def run(self, runs: int, caches: Path) -> dict[str, Any]:
        logs = Path(tempfile.mkdtemp(dir=self.folder))
        began = time.perf_counter()
        process = start(self.pack_file(runs), logs, caches)
        return finish(process, began, logs, self.steps, self.full_steps)

    def together(self, processes: int, caches: Path) -> dict[str, Any]:
        """Several single runs at a time."""
        folders = [Path(tempfile.mkdtemp(dir=self.folder)) for _ in range(processes)]
        files = [self.pack_file(1, i) for i in range(processes)]
        began = time.perf_counter()
        running = [start(file, logs, caches) for file, logs in zip(files, folders, strict=True)]
        rows = [finish(p, began, logs, self.steps, self.full_steps) for p, logs in zip(running, folders, strict=True)]
        return {
            **max(rows, key=lambda row: float(row["seconds"])),
            "runs": processes,
            "memory_bytes": sum(row["memory_bytes"] for row in rows),
        }


def compare(name: str, share: float, folder: Path, *, states: Sequence[str], together: int) -> Iterator[dict[str, Any]]:
    """A row for each process or handful of them, as soon as it ends."""
    bench = Bench(name, share, folder)

    def row(how: str, state: str, measured: dict[str, Any]) -> dict[str, Any]:
        per_hour = 3600 * measured["runs"] / measured["seconds"]
        case = {"case": name, "batch_tokens": bench.case.batch_tokens, "steps": bench.steps}
        return {
            "how": how,
            "caches": state,
            **measured,
            **case,
            "full_steps": bench.full_steps,
            "runs_per_hour": per_hour,
        }

    for how, runs in (("single", 1), ("pack", bench.duel.runs)):
        for state in states:
            yield row(how, state, bench.run(runs, folder / f"caches-{name}-{how}"))
    if together:
        yield row(f"{together} singles at a time", "warm", bench.together(together, folder / f"caches-{name}-single"))


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    print(
        f"{'case':8} {'how':>20} {'caches':>6} {'runs':>4} {'measured s':>10} {'of it start':>11} {'eval':>6} "
        f"{'added s':>8} {'s/run':>7} {'runs/hour':>9}"
    )
    for row in rows:
        print(
            f"{row['case']:8} {row['how']:>20} {row['caches']:>6} {row['runs']:4} {row['measured_seconds']:10.1f} "
            f"{row['start_seconds']:11.1f} {row['eval_seconds']:6.2f} {row['added_seconds']:8.1f} "
            f"{row['seconds'] / row['runs']:7.2f} {row['runs_per_hour']:9.0f}"
        )
    speed = {(row["case"], row["how"], row["caches"]): row["runs_per_hour"] for row in rows}
    for name, duel in DUELS.items():
        for caches, wanted in (("cold", duel.wanted_cold), ("warm", duel.wanted_warm)):
            pack, single = speed.get((name, "pack", caches)), speed.get((name, "single", caches))
            if pack and single:
                aim = f" (wanted {wanted:g})" if wanted else ""
                print(f"{name}, {caches} caches: {pack / single:.2f} times the runs per GPU-hour{aim}")
        for (case, how, _), value in speed.items():
            if case == name and "at a time" in how and (pack := speed.get((name, "pack", "warm"))):
                print(f"{name}, warm caches, against {how}: {pack / value:.2f} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", nargs="+", choices=DUELS, default=list(DUELS))
    parser.add_argument("--share", type=float, default=1.0, help="of the steps that are trained (default: 1)")
    parser.add_argument(
        "--caches", nargs="+", choices=("cold", "warm"), default=["cold", "warm"], help="warm ones need cold ones first"
    )
    parser.add_argument("--together", type=int, default=0, metavar="N", help="also N single runs at a time")
    parser.add_argument("--out", type=Path, help="file for the rows, one JSON object per line")
    options = parser.parse_args()
    if not has_gpu():
        print("runs per GPU-hour: not measured, this machine has no GPU that torch can use")
        return
    rows = []
    for name in options.case:
        folder = Path(tempfile.mkdtemp(prefix="lawfit-bench-"))
        try:
            for row in compare(name, options.share, folder, states=options.caches, together=options.together):
                rows.append(row)
                print(
                    f"{name} {row['how']} {row['caches']}: {row['measured_seconds']:.1f} s, "
                    f"{row['start_seconds']:.1f} s of it start",
                    file=sys.stderr,
                )
                if options.out:
                    with options.out.open("a") as file:
                        file.write(json.dumps(row) + "\n")
        finally:
            shutil.rmtree(folder)
    show(rows)


if __name__ == "__main__":
    main()
