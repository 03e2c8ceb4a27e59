"""Tokens per second and memory of one stacked training step, on the GPU of this machine.

    python -m tests.benchmarks.train_throughput [--case NAME...] [--profile] [--out FILE]

For each shape: K runs at once, and one run alone, both captured in CUDA graphs; seconds from the start of
a process to its first step (cold or warm compile cache: as TORCHINDUCTOR_CACHE_DIR is); the memory that torch took from
the device; and the share of the matrix-product speed that this device reaches (a product of 8192 x 8192 bf16 matrices
of random numbers, measured in the same process), counting FLOPs as the log does. `--profile` adds the kernels that take
longest, `--out` keeps every row as a line of JSON as soon as it is there.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.train_cases import CASES, has_gpu, make_pack, random_corpus

TARGETS = {"0.8M": 14e6, "3M": 8e6}  # tokens per second; at 85M: 45 % of the measured peak
PEAK_SIZE = 8192
SLOW_SECONDS = 90  # a process that takes longer says on stderr where it stands, again and again


def seconds_per_call(call: Callable[[], object], calls: int, repeats: int = 5) -> float:
    """Median over repeats."""
    import torch

    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / calls)
    return float(np.median(times))


def peak_flops() -> float:
    """What a large bf16 matrix product reaches here, in FLOP/s."""
    import torch

    a, b = (torch.randn(PEAK_SIZE, PEAK_SIZE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    torch.matmul(a, b)
    return 2 * PEAK_SIZE**3 / seconds_per_call(lambda: torch.matmul(a, b), 10)


def measure(name: str, runs: int, *, profile: bool) -> dict[str, Any]:
    began = time.perf_counter()
    import torch

    from lawfit.train.capacity import memory_bytes
    from lawfit.train.trainer import Trainer

    case = CASES[name]
    pack = make_pack(case, runs, steps=1000)
    trainer = Trainer(pack, torch.device("cuda"), compiled=True)
    trainer.load(random_corpus(case, tokens=4_000_000))
    steps = trainer.prepare()
    steps.train()
    torch.cuda.synchronize()
    first = time.perf_counter() - began
    memory = torch.cuda.max_memory_reserved()
    step = seconds_per_call(steps.train, max(3, min(50, int(0.5 / seconds_per_call(steps.train, 3, 1)))))
    tokens_per_second = runs * case.batch_tokens / step
    row: dict[str, Any] = {
        "case": name,
        "runs": runs,
        "batch_tokens": case.batch_tokens,
        "seq_len": case.seq_len,
        "params": pack.model.non_embedding_params,
        "tokens_per_second": tokens_per_second,
        "step_seconds": step,
        "seconds_to_first_step": first,
        "memory_bytes": memory,
        "expected_memory_bytes": memory_bytes(pack, runs),
    }
    if profile:
        row["kernels"] = kernels(steps.train)
    del steps, trainer
    torch.cuda.empty_cache()
    row["peak_flops"] = peak_flops()
    row["share_of_peak"] = tokens_per_second * pack.model.flops_per_token / row["peak_flops"]
    row |= {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    return row


def kernels(step: Callable[[], None]) -> list[tuple[float, float, str]]:
    """Milliseconds and launches per step of the kernels that take longest."""
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as recorded:
        for _ in range(10):
            step()
        torch.cuda.synchronize()
    events = sorted(recorded.key_averages(), key=lambda event: -event.device_time_total)
    return [(event.device_time_total / 1e4, event.count / 10, event.key) for event in events[:25]]


def show(rows: list[Mapping[str, Any]]) -> None:
    print(
        f"{'case':8} {'runs':>4} {'tokens a step':>13} {'Mtokens/s':>10} {'ms/step':>8} {'of peak':>8} "
        f"{'first step s':>12} {'GiB':>6} {'GiB/run':>8} {'expected':>8}"
    )
    for row in rows:
        gib = row["memory_bytes"] / 2**30
        print(
            f"{row['case']:8} {row['runs']:4} {row['batch_tokens']:13} {row['tokens_per_second'] / 1e6:10.2f} "
            f"{row['step_seconds'] * 1e3:8.2f} {row['share_of_peak']:8.1%} {row['seconds_to_first_step']:12.1f} "
            f"{gib:6.2f} {gib / row['runs']:8.3f} {row['expected_memory_bytes'] / 2**30:8.2f}"
        )
    for row in rows:
        for milliseconds, launches, name in row.get("kernels", ()):
            print(f"  {row['case']} x {row['runs']}: {milliseconds:7.3f} ms {launches:5.0f} x  {name[:90]}")
    stacked = {row["case"]: row for row in rows if row["runs"] == CASES[row["case"]].runs}
    alone = {row["case"]: row for row in rows if row["runs"] == 1}
    for name, row in stacked.items():
        figure = f"{name}: {row['tokens_per_second'] / 1e6:.2f}M tokens/s stacked"
        if name in TARGETS:
            figure += f" (wanted {TARGETS[name] / 1e6:.0f}M)"
        if name == "85M":
            figure += (
                f", {row['share_of_peak']:.1%} of the measured {row['peak_flops'] / 1e12:.0f} TFLOP/s (wanted 45 %)"
            )
        if name in alone:
            one = alone[name]
            figure += f"; {row['tokens_per_second'] / one['tokens_per_second']:.2f} times one run alone"
            figure += f"; memory of a run {row['memory_bytes'] / row['runs'] / one['memory_bytes']:.2f} of one alone"
        print(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--one", nargs=2, metavar=("CASE", "RUNS"), help="measure this and print a line of JSON")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--out", type=Path, help="file for the rows, one JSON object per line")
    options = parser.parse_args()
    if not has_gpu():
        print("training throughput: not measured, this machine has no GPU that torch can use")
        return
    if options.one:
        faulthandler.dump_traceback_later(SLOW_SECONDS, repeat=True)
        print(json.dumps(measure(options.one[0], int(options.one[1]), profile=options.profile)))
        return
    rows = []
    for name in options.case:  # a process each: compile times of a shape must not profit from the one before
        for runs in (CASES[name].runs, 1):
            command = [sys.executable, "-m", "tests.benchmarks.train_throughput", "--one", name, str(runs)]
            output = subprocess.run(
                [*command, *["--profile"] * options.profile], stdout=subprocess.PIPE, check=True, text=True
            )
            rows.append(json.loads(output.stdout))
            if options.out:
                with options.out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    show(rows)


if __name__ == "__main__":
    main()
