"""Averaged weights, evaluations on the way, the gradient noise scale, and what else the logs tell."""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lawfit
from lawfit.corpus import Corpus, sequence_order
from lawfit.proxy.noise_scale import noise_scale
from lawfit.proxy.pack import Model, Pack, RunSettings
from lawfit.train import machine
from lawfit.train.loop import train
from lawfit.train.model import initial_rows, layout
from lawfit.train.trainer import Trainer
from tests.train import reference

CPU = torch.device("cpu")
STEPS = 24
RUN = RunSettings(lr=1e-2, steps=STEPS, schedule="constant")


def make(model: Model, *runs: RunSettings, **changes: Any) -> Pack:
    settings = {"name": "p", "batch_sequences": 4, "precision": "fp32", "eval_sequences": 30, "log_points": 6}
    return Pack(model=model, runs=runs, **{**settings, **changes})


def run_pack(pack: Pack, corpus: Corpus, logs: Path) -> list[list[dict[str, Any]]]:
    """The lines of each run's log."""
    outcomes = train(pack, corpus, logs, trainer=Trainer(pack, CPU, compiled=False))
    return [[json.loads(x) for x in (logs / f"{o.run_id}.jsonl").read_text().splitlines()] for o in outcomes]


def test_evaluations_are_no_more_than_the_steps(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    (log,) = run_pack(make(model, replace(RUN, steps=3), evals=10**12), corpus, tmp_path)
    assert [line["step"] for line in log if line["event"] == "eval"] == [1, 2]


def test_average_is_an_exponential_one(model: Model, corpus: Corpus) -> None:
    half_life = 5 * 4 * model.seq_len  # five steps
    pack = make(model, replace(RUN, average_half_life_tokens=half_life), replace(RUN, init_seed=1))
    trainer = Trainer(pack, CPU, compiled=False)
    trainer.load(corpus)
    seen = []
    for _ in range(STEPS):
        trainer.train_step()
        seen.append(trainer.rows[0].detach().clone())
    weights = 0.5 ** (torch.arange(STEPS - 1, -1, -1) / 5)
    expected = (weights[:, None] * torch.stack(seen)).sum(0) / weights.sum()
    torch.testing.assert_close(trainer.average[0].detach(), expected, rtol=1e-4, atol=1e-6)
    assert (trainer.average[1] == 0).all()  # asks for none
    steps = trainer.prepare()
    evaluation = trainer.evaluate(steps)
    module = reference.module_of(model, expected)
    length = model.seq_len
    windows = torch.stack(
        [torch.from_numpy(corpus.validation[j * length : (j + 1) * length + 1].astype(int)) for j in range(30)]
    )
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(module(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
    assert evaluation.of(0)["average_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert "average_loss" not in evaluation.of(1)


def test_a_constant_rate_shows_every_horizon_on_the_way(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    averaging = replace(RUN, average_half_life_tokens=200.0)
    (log,) = run_pack(make(model, averaging, evals=3), corpus, tmp_path / "long")
    evals = [line for line in log if line["event"] == "eval"]
    assert [line["step"] for line in evals] == [8, 16]
    for line in evals:
        (short,) = run_pack(make(model, replace(averaging, steps=line["step"])), corpus, tmp_path / "short")
        assert short[-1]["loss"] == pytest.approx(line["loss"], rel=1e-6)
        assert short[-1]["average_loss"] == pytest.approx(line["average_loss"], rel=1e-6)
    assert log[-1]["average_loss"] != log[-1]["loss"]


def test_measuring_does_not_change_the_run(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    (plain,) = run_pack(make(model, RUN), corpus, tmp_path / "plain")
    (measured,) = run_pack(make(model, RUN, evals=5, noise_scale=True), corpus, tmp_path / "measured")
    assert measured[-1]["loss"] == plain[-1]["loss"]
    assert measured[0]["run_id"] == plain[0]["run_id"]


def test_squared_gradients_are_those_of_plain_torch(model: Model, corpus: Corpus) -> None:
    pack = make(model, RUN, replace(RUN, init_seed=2, data_seed=3), noise_scale=True)
    trainer = Trainer(pack, CPU, compiled=False)
    trainer.load(corpus)
    squares = trainer.gradient_squares(trainer.prepare())
    for i, run in enumerate(pack.runs):
        order = sequence_order((len(corpus.train) - 1) // model.seq_len, 8, run.data_seed)
        grads = []
        for batch in (order[:4], order[4:]):
            module = reference.module_of(model, initial_rows(model, [run.init_seed])[0])
            length = model.seq_len
            tokens = torch.stack(
                [torch.from_numpy(corpus.train[j * length : (j + 1) * length + 1].astype(int)) for j in batch]
            )
            logits = module(tokens[:, :-1]).flatten(0, 1)
            torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten()).backward()
            grads.append(torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]))
        single = (grads[0].square().sum() + grads[1].square().sum()) / 2
        double = ((grads[0] + grads[1]) / 2).square().sum()
        np.testing.assert_allclose(squares[:, i], [single.item(), double.item()], rtol=1e-4)


def test_squared_gradients_are_logged(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    wild = replace(RUN, lr=1e30)
    log, diverged = run_pack(make(model, RUN, wild, noise_scale=True), corpus, tmp_path)
    lines = [line for line in log if line["event"] == "train"]
    assert len(lines) == 6
    assert all(0 < line["grad_sq_double"] < line["grad_sq"] for line in lines)
    assert [line["event"] for line in diverged] == ["start", "diverged", "end"]


def test_what_is_not_finite_is_not_logged(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    """After a step of a rate beyond fp32 nothing can be measured; that it was one shows at the next."""
    (log,) = run_pack(
        make(model, replace(RUN, lr=1e39), evals=STEPS, log_points=STEPS, noise_scale=True), corpus, tmp_path
    )
    assert [(line["event"], line.get("step")) for line in log[1:]] == [("train", 1), ("diverged", 2), ("end", 2)]
    assert log[1].keys() == {"event", "step", "tokens", "loss", "grad_norm"}


# five standard errors: 0.3 % and 4 % for 1,000 steps, over 25 seeds
@pytest.mark.parametrize(("true_scale", "tolerance"), [(50.0, 0.015), (5000.0, 0.2)])
def test_noise_scale_of_known_gradients(true_scale: float, tolerance: float) -> None:
    rng = np.random.default_rng(1)
    dimension, steps, small = 400, 1000, 256.0
    gradient = rng.normal(size=dimension)
    gradient /= np.linalg.norm(gradient)
    per_token = np.sqrt(true_scale / dimension)  # tr(S) = true_scale, |G| = 1
    halves = gradient + per_token / np.sqrt(small) * rng.normal(size=(steps, 2, dimension))
    singles = (halves**2).sum(2).mean(1)
    doubles = (halves.mean(1) ** 2).sum(1)
    estimate = noise_scale(singles, doubles, small, 2 * small)
    assert estimate == pytest.approx(true_scale, rel=tolerance)


def test_noise_scale_that_cannot_be_told() -> None:
    assert noise_scale(np.array([1.0]), np.array([1.1]), 1, 2) is None  # no noise seen
    assert noise_scale(np.array([1.0]), np.array([0.4]), 1, 2) is None  # no gradient left
    with pytest.raises(ValueError, match="must be positive and rise"):
        noise_scale(np.array([1.0]), np.array([0.9]), 2, 2)


def test_update_ratio_is_the_change_of_the_matrices_over_their_size(model: Model, corpus: Corpus) -> None:
    trainer = Trainer(make(model, RUN, replace(RUN, lr=1e-4)), CPU, compiled=False)
    trainer.load(corpus)
    slots = [slot for slot in layout(model) if slot.kind == "matrices"]

    def matrices() -> list[torch.Tensor]:
        parts = (trainer.rows[:, slot.start : slot.start + slot.size] for slot in slots)
        return list(torch.cat(list(parts), dim=1).detach().double())

    weights, before = matrices(), trainer.sample()
    trainer.train_step()
    ratio = trainer.update_ratio(before)
    assert before.shape[1] == model.params["matrices"]  # a small model is measured whole
    for i, (old, new) in enumerate(zip(weights, matrices(), strict=True)):
        assert ratio[i] == pytest.approx(((new - old).norm() / old.norm()).item(), rel=1e-5)
    assert ratio[0] > 50 * ratio[1]


def test_a_large_model_is_sampled_evenly() -> None:
    large = Model(layers=2, width=128, heads=2, hidden=256, vocab=61, seq_len=12)
    trainer = Trainer(make(large, RUN), CPU, compiled=False)
    sample = trainer.sample()
    assert 40_000 < sample.shape[1] <= 65_536 < large.params["matrices"]
    columns = torch.arange(trainer.rows.shape[1])[trainer.sampled]
    for slot in (slot for slot in layout(large) if slot.kind == "matrices"):
        inside = columns[(columns >= slot.start) & (columns < slot.start + slot.size)] - slot.start
        assert len(inside) == pytest.approx(slot.size / trainer.sampled.step, abs=1)
        # every output of the matrix has its share, up to the few that a stride leaves uneven
        counts = torch.bincount(inside % slot.shape[1], minlength=slot.shape[1])
        assert counts.max() <= 2 * len(inside) / slot.shape[1] + 1


def test_log_lines_of_what_is_measured(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    pack = make(model, RUN, replace(RUN, data_seed=1), evals=2, noise_scale=True)
    for log in run_pack(pack, corpus, tmp_path):
        start, end = log[0], log[-1]
        lines = [line for line in log if line["event"] == "train"]
        (on_the_way,) = [line for line in log if line["event"] == "eval"]
        assert on_the_way["bits_per_byte"] == pytest.approx(on_the_way["loss"] / np.log(2) / 2)  # two bytes a token
        assert all(0 < line["update_ratio"] < 1 for line in lines)
        late = np.array([(line["grad_sq"], line["grad_sq_double"]) for line in lines if line["step"] > STEPS / 2])
        tokens = 4 * model.seq_len
        assert len(late) == 3
        assert start["measured_tokens"] == tokens
        assert end["noise_scale_tokens"] == noise_scale(late[:, 0], late[:, 1], tokens, 2 * tokens)
        assert (start["shared_init_seed"], start["shared_data_seed"]) == (True, False)
        assert (start["python"], start["torch"]) == (platform.python_version(), torch.__version__)
        assert (start["device"], start["cuda"], start["peak_flops"]) == ("cpu", torch.version.cuda, None)
        assert start["lawfit"] == lawfit.__version__
        assert start["corpus"]["hash"] == "made-up"
        assert start["update_ratio_weights"] == model.params["matrices"]
        assert start["epochs"] == end["epochs"] == STEPS * 4 / (35_999 // model.seq_len)
        assert end["flops"] == STEPS * tokens * model.flops_per_token
        assert end["mfu"] is None  # of a CPU: nobody knows its peak
        assert end["peak_memory_bytes"] > 50_000_000  # torch alone is more
        speed = 2 * STEPS * tokens / end["train_seconds"]
        assert end["pack_tokens_per_second"] == pytest.approx(speed)


def test_utilisation_is_relative_to_a_peak_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    assert machine.peak_flops(gpu, "bf16") == 989e12
    assert machine.peak_flops(gpu, "fp32") is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200 NVL")
    assert machine.peak_flops(gpu, "bf16") is None


def test_utilisation_counts_the_flops_of_the_model(
    model: Model, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "peak_flops", lambda *_: 1e9)
    (log,) = run_pack(make(model, RUN), corpus, tmp_path)
    end = log[-1]
    assert end["mfu"] == pytest.approx(end["flops"] / end["train_seconds"] / 1e9)


def test_commit_of_the_code(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def commit() -> str | None:
        machine.commit_of.cache_clear()
        return machine.commit_of(tmp_path)

    assert commit() is None  # a copy
    git("init", "-q")
    assert commit() is None  # nothing committed
    (tmp_path / "lawfit").mkdir()
    for name in ("lawfit/a.py", "notes.txt"):
        (tmp_path / name).write_text("1")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    head = git("rev-parse", "HEAD")[:12]
    (tmp_path / "notes.txt").write_text("2")
    assert commit() == head  # the code is as it was
    (tmp_path / "lawfit/a.py").write_text("2")
    assert commit() == f"{head}-dirty"
