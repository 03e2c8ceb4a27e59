"""Tokens per second of one stacked training step, on the GPU of this machine.

    python -m tests.benchmarks.train_throughput [--profile]

For each shape: K runs at once against one run, both compiled and captured in a CUDA graph; seconds to the first step in
a fresh process (cold or warm compile cache: as TORCHINDUCTOR_CACHE_DIR is), and memory. `--profile` adds the kernels
that take longest.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import numpy as np

# name: width, heads, hidden, runs at once, tokens per step of each run, tokens per sequence; 4 layers, vocabulary 4096
CASES = {
    "0.8M, 16 runs": (128, 4, 352, 16, 8192, 512),
    "0.8M, one run": (128, 4, 352, 1, 8192, 512),
    "0.8M, 24 runs at 2k": (128, 4, 352, 24, 2048, 256),
    "3.2M, 8 runs": (256, 8, 704, 8, 16384, 512),
    "3.2M, one run": (256, 8, 704, 1, 16384, 512),
    "0.2M, 16 runs at 4k": (64, 2, 176, 16, 4096, 256),
}


def measure(name: str, *, profile: bool) -> dict[str, float | str]:
    began = time.perf_counter()
    import torch

    from lawfit.train.corpus import Corpus, Manifest
    from lawfit.train.pack import Model, Pack, RunSettings
    from lawfit.train.trainer import Trainer

    width, heads, hidden, k, batch_tokens, seq_len = CASES[name]
    size = 4_000_000
    tokens = np.random.default_rng(0).integers(0, 4096, size).astype(np.uint16)
    manifest = Manifest(
        hash="random", vocab=4096, documents=1, duplicates=0, skipped=0, train_tokens=size, validation_tokens=size,
        validation_bytes=size, sources=("random",),
    )  # fmt: skip
    model = Model(
        layers=4, width=width, heads=heads, hidden=hidden, vocab=4096, seq_len=seq_len, qk_norm=True,
        embedding_std=1.0, init_std=width**-0.5,
    )  # fmt: skip
    runs = tuple(RunSettings(lr=1e-3, steps=400, init_seed=i) for i in range(k))
    pack = Pack(name=name, model=model, batch_sequences=batch_tokens // seq_len, runs=runs, eval_sequences=1024)
    trainer = Trainer(pack, torch.device("cuda"), compiled=True)
    trainer.warm_up()
    trainer.load(Corpus(manifest=manifest, train=tokens, validation=tokens))
    steps = trainer.prepare()
    steps.train()
    torch.cuda.synchronize()
    first = time.perf_counter() - began
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(50):
            steps.train()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / 50)
    step = float(np.median(times))
    if profile:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as recorded:
            for _ in range(20):
                steps.train()
            torch.cuda.synchronize()
        kernels = sorted(recorded.key_averages(), key=lambda event: -event.device_time_total)
        for event in kernels[:15]:
            print(
                f"  {event.device_time_total / 20e3:7.3f} ms  {event.count / 20:4.0f} x  {event.key[:90]}",
                file=sys.stderr,
            )
    return {
        "case": name,
        "tokens_per_second": k * batch_tokens / step,
        "step_ms": step * 1e3,
        "seconds_to_first_step": first,
        "memory_gib": torch.cuda.max_memory_reserved() / 2**30,
    }


def _has_gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    if not _has_gpu():
        print("training throughput: not measured, this machine has no GPU that torch can use")
        return
    if options.case:
        print(json.dumps(measure(options.case, profile=options.profile)))
        return
    print(f"{'case':22} {'Mtokens/s':>10} {'ms/step':>9} {'first step s':>13} {'GiB':>6}")
    for name in CASES:  # a process each: compile times of a shape must not profit from the one before
        command = [sys.executable, "-m", "tests.benchmarks.train_throughput", "--case", name]
        output = subprocess.run(
            [*command, *["--profile"] * options.profile], stdout=subprocess.PIPE, check=True, text=True
        )
        row = json.loads(output.stdout)
        print(
            f"{name:22} {row['tokens_per_second'] / 1e6:10.2f} {row['step_ms']:9.3f} "
            f"{row['seconds_to_first_step']:13.1f} {row['memory_gib']:6.2f}"
        )


if __name__ == "__main__":
    main()
