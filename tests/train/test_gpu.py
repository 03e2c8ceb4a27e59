"""On a GPU graph-captured steps, of own kernels or compiled, give what plain ones give on a CPU, and pass its tests."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional

from lawfit.corpus import Corpus
from lawfit.proxy.pack import Model, Pack, RunSettings
from lawfit.train.fused import add_norm, attention, embed, swiglu
from lawfit.train.head_loss import head_loss
from lawfit.train.loop import Outcome, train
from lawfit.train.model import rope_table
from lawfit.train.optimizers import Columns, advance, debias, gradient_norm
from lawfit.train.trainer import Trainer

MODEL = Model(layers=2, width=64, heads=2, hidden=96, vocab=64, seq_len=64, qk_norm=True)
SMALL = dataclasses.replace(MODEL, layers=1)
STEPS = 60
RUNS = (
    RunSettings(lr=1e-3, steps=STEPS, warmup_steps=5, average_half_life_tokens=4000.0),
    RunSettings(lr=4e-3, steps=STEPS, weight_decay=1.0, init_seed=1, data_seed=2, schedule="cosine"),
    RunSettings(lr=1e25, steps=STEPS),  # diverges at once
)
DEVICES = {"gpu": torch.device("cuda"), "cpu": torch.device("cpu")}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # the compiler advises TF32, which fp32 packs must not use
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def make(model: Model, *runs: RunSettings, **changes: Any) -> Pack:
    settings = {"name": "p", "batch_sequences": 8, "precision": "fp32", "eval_sequences": 50}
    return Pack(model=model, runs=runs, **{**settings, **changes})


def run_pack(
    pack: Pack, corpus: Corpus, logs: Path, device: str = "gpu", **options: float
) -> tuple[Trainer, list[Outcome]]:
    trainer = Trainer(pack, DEVICES[device], compiled=device == "gpu")
    return trainer, train(pack, corpus, logs, trainer=trainer, **options)


def losses(trainer: Trainer) -> npt.NDArray[np.float32]:
    return np.asarray(trainer.loss_table.cpu().numpy())


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("fp32", 1e-4), ("bf16", 5e-3)],  # rounding of 8 bits, averaged over 512 tokens, grown over 60 steps
)
def test_gpu_equals_cpu(corpus: Corpus, tmp_path: Path, precision: str, tolerance: float) -> None:
    """Losses, divergence, averaged weights, evaluations and squared gradients."""
    pack = make(MODEL, *RUNS, precision=precision, evals=2, noise_scale=True)
    there, outcomes = run_pack(pack, corpus, tmp_path / "gpu")
    here, expected = run_pack(dataclasses.replace(pack, precision="fp32"), corpus, tmp_path / "cpu", "cpu")
    assert [o.status for o in outcomes] == ["finished", "finished", "diverged"]
    assert [o.steps for o in outcomes] == [o.steps for o in expected]
    np.testing.assert_allclose(losses(there)[:2], losses(here)[:2], rtol=tolerance)
    assert there.averages
    evaluations = [trainer.evaluate(trainer.prepare()) for trainer in (there, here)]
    np.testing.assert_allclose(evaluations[0].loss[:2], evaluations[1].loss[:2], rtol=tolerance)
    average = [evaluation.average_loss for evaluation in evaluations]
    assert average[0] is not None
    assert average[1] is not None
    np.testing.assert_allclose(average[0][0], average[1][0], rtol=tolerance)
    # a square has twice the relative error; a gradient is a small difference of much larger terms
    squares = [trainer.gradient_squares(trainer.prepare())[:, :2] for trainer in (there, here)]
    np.testing.assert_allclose(squares[0], squares[1], rtol=20 * tolerance)


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        pytest.param({"optimizer": "sgd"}, 1e-4, id="sgd"),
        pytest.param({"optimizer": "muon"}, 5e-3, id="muon"),  # its Newton-Schulz steps are bf16 on both devices
        pytest.param({"decay": "independent"}, 1e-4, id="independent"),
        pytest.param({"accumulation": 4}, 1e-4, id="accumulation"),
        pytest.param({"model": dataclasses.replace(SMALL, mup_base_width=16)}, 1e-4, id="mup"),
    ],
)
def test_every_recipe_equals_the_cpus(
    corpus: Corpus, tmp_path: Path, changes: dict[str, Any], tolerance: float
) -> None:
    runs = [dataclasses.replace(run, steps=30, average_half_life_tokens=None) for run in RUNS[:2]]
    pack = dataclasses.replace(make(SMALL, *runs), **changes)
    there, _ = run_pack(pack, corpus, tmp_path / "gpu")
    here, _ = run_pack(pack, corpus, tmp_path / "cpu", "cpu")
    np.testing.assert_allclose(losses(there), losses(here), rtol=tolerance)
    assert (losses(there)[:, -1] < losses(there)[:, 0]).all()


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("bf16", 5e-3), ("fp32", 1e-4)], ids=["own kernels", "torch's compiler"]
)
def test_twelve_layers_are_ready_soon_and_equal_the_cpus(
    corpus: Corpus, tmp_path: Path, precision: str, tolerance: float
) -> None:
    """What a compiler does once per layer for all layers before it takes for ever here, and seconds in two layers."""
    deep = dataclasses.replace(MODEL, layers=12, width=32, hidden=48)
    pack = make(deep, *(dataclasses.replace(run, steps=20, average_half_life_tokens=None) for run in RUNS[:2]))
    there, _ = run_pack(dataclasses.replace(pack, precision=precision), corpus, tmp_path / "gpu")
    here, _ = run_pack(pack, corpus, tmp_path / "cpu", "cpu")
    np.testing.assert_allclose(losses(there), losses(here), rtol=tolerance)  # as above
    (log, *_) = (tmp_path / "gpu").glob("*.jsonl")
    prepared = json.loads(log.read_text().splitlines()[-1])["prepare_seconds"]
    assert prepared < 200  # 30 to 40 s by itself, several times that beside other tests; 9 minutes were not enough once


def test_stacked_equals_unstacked_after_200_steps_in_bf16(corpus: Corpus, tmp_path: Path) -> None:
    """No run is further from itself alone than bf16 is from fp32, and those are near."""
    runs = [RunSettings(lr=lr, steps=200, warmup_steps=20, init_seed=i) for i, lr in enumerate((1e-3, 2e-3, 4e-3))]
    stacked, _ = run_pack(make(SMALL, *runs, precision="bf16"), corpus, tmp_path / "stacked")
    exact, _ = run_pack(make(SMALL, *runs), corpus, tmp_path / "exact")
    alone = [
        losses(run_pack(make(SMALL, run, precision="bf16"), corpus, tmp_path / "alone")[0])[0, -20:].mean()
        for run in runs
    ]
    together = losses(stacked)[:, -20:].mean(1)
    noise = np.abs(together / losses(exact)[:, -20:].mean(1) - 1).max()
    difference = np.abs(together / alone - 1).max()
    print(f"stacked and alone differ by {difference:.1e}, bf16 and fp32 by {noise:.1e}")
    assert noise < 5e-3
    assert difference < 5e-3


def test_divergence_leaves_the_neighbours_alone(corpus: Corpus, tmp_path: Path) -> None:
    calm = dataclasses.replace(RUNS[2], lr=2e-3)
    first, _ = run_pack(make(SMALL, RUNS[1], calm), corpus, tmp_path / "calm")
    second, outcomes = run_pack(make(SMALL, RUNS[1], RUNS[2]), corpus, tmp_path / "wild")
    assert [o.status for o in outcomes] == ["finished", "diverged"]
    assert torch.isfinite(second.rows).all()
    # the embedding's gradient is summed by atomics, in no fixed order
    np.testing.assert_allclose(losses(second)[0], losses(first)[0], rtol=1e-4)


def test_resumed(corpus: Corpus, tmp_path: Path) -> None:
    pack = make(SMALL, *RUNS)
    whole, _ = run_pack(pack, corpus, tmp_path / "whole")
    for _ in range(3):
        run_pack(pack, corpus, tmp_path / "parts", deadline=0.0)
    parts, outcomes = run_pack(pack, corpus, tmp_path / "parts")
    assert [o.status for o in outcomes] == ["finished", "finished", "diverged"]
    # as above: sums in no fixed order
    np.testing.assert_allclose(losses(parts)[:2], losses(whole)[:2], rtol=1e-4)


@pytest.mark.parametrize("vocab", [61, 4096, 20_001], ids=["small", "usual", "read in blocks"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_head_loss_is_torchs(vocab: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lawfit.train.head_loss.SLICE_LOGITS", 2 * 100 * vocab)  # two slices of each run
    torch.manual_seed(0)
    x = torch.randn(2, 256, 64, device="cuda", dtype=dtype).requires_grad_()
    heads = (0.3 * torch.randn(2, 64, vocab, device="cuda")).to(dtype).requires_grad_()
    targets = torch.randint(vocab, (2, 256), device="cuda")
    exact_x, exact_heads = (z.detach().double().requires_grad_() for z in (x, heads))
    exact = functional.cross_entropy(
        torch.bmm(exact_x, exact_heads).flatten(0, 1), targets.flatten(), reduction="none"
    ).view(2, 256)
    mean, token_losses = head_loss(x, heads, targets)
    wanted = torch.autograd.grad(exact.mean(1).sum(), (exact_x, exact_heads))
    found = torch.autograd.grad(mean.sum(), (x, heads))
    # bf16 logits have 8 bits, about 2e-3 of values up to 10
    torch.testing.assert_close(token_losses.double(), exact, rtol=0, atol=1e-4 if dtype == torch.float32 else 0.1)
    torch.testing.assert_close(mean.double(), exact.mean(1), rtol=1e-5 if dtype == torch.float32 else 1e-3, atol=0)
    for one, other in zip(found, wanted, strict=True):
        error = torch.linalg.vector_norm(one.double() - other) / torch.linalg.vector_norm(other)
        assert error < (1e-5 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("qk_norm", [True, False], ids=["norms", "no norms"])
@pytest.mark.parametrize("size", [16, 32, 64])
def test_attention_kernels_are_plain_torch(size: int, qk_norm: bool) -> None:
    """Fused in bf16 against the same in fp32, which takes the other path: four sequences in each of two runs."""
    heads, length = 3, 192
    torch.manual_seed(0)
    rope = rope_table(Model(layers=1, width=heads * size, heads=heads, hidden=1, vocab=1, seq_len=length)).cuda()
    qkv = torch.randn(2, 4 * length, 3 * heads * size, device="cuda", dtype=torch.bfloat16).requires_grad_()
    gains = torch.rand(2, 2 * size * qk_norm, device="cuda").add(0.5).requires_grad_()
    by = torch.randn(2, 4 * length, heads * size, device="cuda", dtype=torch.bfloat16)
    exact = qkv.detach().float().requires_grad_()
    found, wanted = attention(qkv, gains, rope, heads), attention(exact, gains, rope, heads)
    assert relative_error(found, wanted) < 1e-2  # bf16 has 8 bits: 4e-3 at most for each rounding
    into = (gains,) if qk_norm else ()
    found_by = torch.autograd.grad(found, (qkv, *into), by)
    wanted_by = torch.autograd.grad(wanted, (exact, *into), by.float())
    for one, other in zip(found_by, wanted_by, strict=True):
        assert relative_error(one, other) < 1e-2


def test_attention_kernels_of_more_heads_than_a_grid_has_rows() -> None:
    """65,535 is the limit of all axes of a grid but the first."""
    heads, length, sequences = 4, 64, 20_000
    rope = rope_table(Model(layers=1, width=64, heads=heads, hidden=1, vocab=1, seq_len=length)).cuda()
    gains = torch.ones(2, 32, device="cuda")
    qkv = torch.randn(2, sequences // 2 * length, 3 * 64, device="cuda", dtype=torch.bfloat16)
    found = attention(qkv, gains, rope, heads)
    for part in (slice(0, length), slice(-length, None)):
        assert torch.equal(found[:, part], attention(qkv[:, part].contiguous(), gains, rope, heads))


@pytest.mark.parametrize("width", [48, 128, 768])
@pytest.mark.parametrize("last", [False, True], ids=["on the way", "last layer"])
@pytest.mark.parametrize("programs", [1, 1024], ids=["many lines a program", "few"])
def test_add_norm_kernels_are_plain_torch(
    width: int, last: bool, programs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lawfit.train.kernels.GRADIENT_PROGRAMS", programs)
    torch.manual_seed(0)
    x = torch.randn(3, 150, width, device="cuda").requires_grad_()
    branch = torch.randn(3, 150, width, device="cuda").bfloat16().requires_grad_()
    gain = torch.rand(3, width, device="cuda").add(0.5).requires_grad_()
    by = [torch.randn(3, 150, width, device="cuda"), torch.randn(3, 150, width, device="cuda").bfloat16()]
    exact = branch.detach().float().requires_grad_()
    found, wanted = add_norm(x, branch, gain), add_norm(x, exact, gain)
    assert relative_error(found[0], wanted[0]) < 1e-6
    assert relative_error(found[1], wanted[1]) < 5e-3  # rounded once
    used = slice(1, 2) if last else slice(0, 2)
    found_by = torch.autograd.grad(found[used], (x, branch, gain), by[used])
    wanted_by = torch.autograd.grad(wanted[used], (x, exact, gain), [by[0], by[1].float()][used])
    for one, other, bound in zip(found_by, wanted_by, (1e-5, 5e-3, 1e-5), strict=True):
        assert relative_error(one, other) < bound


@pytest.mark.parametrize("width", [48, 256])
def test_embed_kernels_are_plain_torch(width: int) -> None:
    torch.manual_seed(0)
    table = torch.randn(3, 61 * width + 16, device="cuda")[:, 16:].view(3, 61, width).requires_grad_()
    gain = torch.rand(3, width, device="cuda").add(0.5).requires_grad_()
    tokens = torch.randint(61, (3, 150), device="cuda")
    by = [torch.randn(3, 150, width, device="cuda"), torch.randn(3, 150, width, device="cuda").bfloat16()]
    found, wanted = (embed(table, gain, tokens, dtype) for dtype in (torch.bfloat16, torch.float32))
    assert torch.equal(found[0], wanted[0])
    assert relative_error(found[1], wanted[1]) < 5e-3  # rounded once
    found_by = torch.autograd.grad(found, (table, gain), by)
    wanted_by = torch.autograd.grad(wanted, (table, gain), [by[0], by[1].float()])
    for one, other in zip(found_by, wanted_by, strict=True):
        assert relative_error(one, other) < 1e-5


@pytest.mark.parametrize("decay", ["coupled", "independent"])
def test_the_adamw_kernel_is_plain_torch(decay: str) -> None:
    """Three runs of which the second is not alive, with settings of their own."""
    torch.manual_seed(0)
    rows, grads, first = torch.randn(3, 3, 5000)
    second = torch.rand(3, 5000)
    settings = {
        "peak_lr": [1e-2, 1e-3, 1e-1], "weight_decay": [0.1, 0.0, 1.0], "beta1": [0.9, 0.8, 0.95],
        "beta2": [0.95, 0.999, 0.9], "eps": [1e-8, 1e-6, 1e-8], "momentum": [0.0] * 3, "clip": [1.0, math.inf, 50.0],
    }  # fmt: skip
    columns = {name: torch.tensor(values)[:, None] for name, values in settings.items()}
    lr, alive = torch.tensor([[5e-3], [1e-3], [2e-2]]), torch.tensor([[True], [False], [True]])
    decayed, rates = (torch.rand(5000) > 0.3).float(), torch.rand(5000)
    states = []
    for device in ("cpu", "cuda"):
        state = [z.to(device, copy=True) for z in (rows, first, second)]
        on_device = {name: column.to(device) for name, column in columns.items()}
        gradient, of_runs = grads.to(device), Columns(**on_device)
        advance(
            state[0], gradient, *state[1:],
            optimizer="adamw", lr=lr.to(device), corrections=debias(torch.tensor(7, device=device), of_runs),
            norm=gradient_norm(gradient), alive=alive.to(device), columns=of_runs,
            decayed=decayed.to(device), rates=rates.to(device), independent=decay == "independent", model=MODEL,
        )  # fmt: skip
        states.append(state)
    for before, wanted, found in zip((rows, first, second), *states, strict=True):
        assert torch.equal(found[1].cpu(), before[1])
        assert relative_error(found.cpu(), wanted) < 1e-6


@pytest.mark.parametrize("hidden", [96, 352, 45])
def test_swiglu_kernels_are_plain_torch(hidden: int) -> None:
    torch.manual_seed(0)
    gate_up = (3 * torch.randn(2, 70, 2 * hidden, device="cuda")).bfloat16().requires_grad_()
    by = torch.randn(2, 70, hidden, device="cuda").bfloat16()
    exact = gate_up.detach().float().requires_grad_()
    found, wanted = swiglu(gate_up), swiglu(exact)
    assert relative_error(found, wanted) < 5e-3  # rounded once
    (one,), (other,) = torch.autograd.grad(found, gate_up, by), torch.autograd.grad(wanted, exact, by.float())
    assert relative_error(one, other) < 5e-3


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert torch.isfinite(found).all()
    return float(torch.linalg.vector_norm(found.double() - wanted) / torch.linalg.vector_norm(wanted.double()))
