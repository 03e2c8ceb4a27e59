"""On a GPU the compiled, graph-captured step gives what the plain one gives on a CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lawfit.train.corpus import Corpus
from lawfit.train.loop import train
from lawfit.train.pack import Model, Pack, RunSettings
from lawfit.train.trainer import Trainer

STEPS = 60
RUNS = tuple(RunSettings(lr=lr, steps=STEPS, warmup_steps=5, init_seed=i) for i, lr in enumerate((1e-3, 4e-3, 1e25)))

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def run_pack(corpus: Corpus, logs: Path, device: str, precision: str, **options: float) -> tuple[Trainer, list[str]]:
    model = Model(layers=2, width=64, heads=2, hidden=96, vocab=64, seq_len=64, qk_norm=True)
    pack = Pack(name="p", model=model, batch_sequences=8, runs=RUNS, precision=precision, eval_sequences=50)
    trainer = Trainer(pack, torch.device(device), compiled=device == "cuda")
    outcomes = train(pack, corpus, logs, trainer=trainer, **options)
    return trainer, [outcome.status for outcome in outcomes]


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("fp32", 1e-4), ("bf16", 5e-3)],  # rounding of 8 bits, averaged over 512 tokens, grown over 60 steps
)
def test_gpu_equals_cpu(corpus: Corpus, tmp_path: Path, precision: str, tolerance: float) -> None:
    there, statuses = run_pack(corpus, tmp_path / "gpu", "cuda", precision)
    here, _ = run_pack(corpus, tmp_path / "cpu", "cpu", "fp32")
    assert statuses == ["finished", "finished", "diverged"]
    np.testing.assert_allclose(there.loss_table[:2].cpu(), here.loss_table[:2], rtol=tolerance)


def test_resumed_on_a_gpu(corpus: Corpus, tmp_path: Path) -> None:
    whole, _ = run_pack(corpus, tmp_path / "whole", "cuda", "fp32")
    for _ in range(3):
        run_pack(corpus, tmp_path / "parts", "cuda", "fp32", deadline=0.0)
    parts, statuses = run_pack(corpus, tmp_path / "parts", "cuda", "fp32")
    assert statuses == ["finished", "finished", "diverged"]
    # the embedding's gradient is summed by atomics, in no fixed order
    np.testing.assert_allclose(parts.loss_table[:2].cpu(), whole.loss_table[:2].cpu(), rtol=1e-4)
