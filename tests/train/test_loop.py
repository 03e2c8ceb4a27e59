"""A pack equals its runs trained one at a time in plain torch, and its runs do not touch each other."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lawfit.corpus import Corpus, CorpusError, sequence_order
from lawfit.proxy.log import RunLog, start_line
from lawfit.proxy.pack import Model, Pack, RunSettings
from lawfit.proxy.table import run_row
from lawfit.train.loop import Outcome, train
from lawfit.train.model import initial_rows
from lawfit.train.trainer import Steps, Trainer
from tests.train import reference

CPU = torch.device("cpu")
STEPS = 25
RUNS = (
    RunSettings(lr=3e-3, steps=STEPS),
    RunSettings(lr=1e-2, steps=STEPS, weight_decay=1.0, warmup_steps=5, init_seed=3, data_seed=7),
    RunSettings(lr=3e-3, steps=STEPS, beta1=0.8, beta2=0.999, clip=0.05, schedule="cosine", final_fraction=0.1),
    RunSettings(lr=1e-3, steps=STEPS, clip=0.0, schedule="wsd", init_seed=1),
)


def make(model: Model, runs: tuple[RunSettings, ...], **changes: object) -> Pack:
    settings = {"name": "test", "batch_sequences": 4, "precision": "fp32", "eval_sequences": 30, "log_points": 5}
    return Pack(model=model, runs=runs, **{**settings, **changes})  # type: ignore[arg-type]


def run_pack(pack: Pack, corpus: Corpus, logs: Path, **options: float) -> tuple[Trainer, list[Outcome]]:
    trainer = Trainer(pack, CPU, compiled=False)
    return trainer, train(pack, corpus, logs, trainer=trainer, **options)


def lines(logs: Path, run_id: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (logs / f"{run_id}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("change", [{}, {"qk_norm": True}, {"mup_base_width": 4}], ids=["plain", "qk_norm", "mup"])
def test_stack_equals_plain_torch(model: Model, corpus: Corpus, tmp_path: Path, change: dict[str, Any]) -> None:
    model = dataclasses.replace(model, **change)
    pack = make(model, RUNS)
    trainer, outcomes = run_pack(pack, corpus, tmp_path)
    length = model.seq_len
    for i, run in enumerate(RUNS):
        order = sequence_order((len(corpus.train) - 1) // length, STEPS * 4, run.data_seed).reshape(STEPS, 4)
        batches = [
            torch.stack([torch.from_numpy(corpus.train[j * length : (j + 1) * length + 1].astype(int)) for j in row])
            for row in order
        ]
        module = reference.module_of(model, initial_rows(model, [run.init_seed])[0])
        losses = reference.train(module, run, batches)
        # fp32 rounding, grown over 25 steps at a high learning rate
        np.testing.assert_allclose(trainer.loss_table[i].numpy(), losses, rtol=1e-5)
        windows = torch.stack(
            [torch.from_numpy(corpus.validation[j * length : (j + 1) * length + 1].astype(int)) for j in range(30)]
        )
        with torch.no_grad():
            logits = module(windows[:, :-1]).flatten(0, 1)
            final = torch.nn.functional.cross_entropy(logits, windows[:, 1:].flatten()).item()
        assert outcomes[i].loss == pytest.approx(final, rel=1e-5)
        assert losses[-1] < losses[0]  # it learns: the comparison is not one of standing still


@pytest.mark.parametrize(
    ("settings", "rate", "tolerance"),
    [
        ({"optimizer": "sgd"}, 20.0, 1e-5),
        ({"optimizer": "sgd", "decay": "independent"}, 20.0, 1e-5),
        ({"optimizer": "adamw", "decay": "independent"}, 1.0, 1e-5),
        # Newton-Schulz in bf16, of matrices that torch.nn keeps transposed; updates larger by a tenth show as 4e-3
        ({"optimizer": "muon"}, 3.0, 5e-4),
    ],
    ids=["sgd", "sgd-independent", "adamw-independent", "muon"],
)
def test_every_optimizer_trains_as_torchs(
    model: Model, corpus: Corpus, tmp_path: Path, settings: dict[str, Any], rate: float, tolerance: float
) -> None:
    common = {"steps": STEPS, "weight_decay": 0.02}
    runs = (
        RunSettings(lr=2e-3 * rate, warmup_steps=3, init_seed=4, **common),
        RunSettings(lr=1e-2 * rate, momentum=0.8, clip=0.1, data_seed=2, schedule="cosine", final_lr=1e-3, **common),
    )
    pack = make(model, runs, **settings)
    trainer, _ = run_pack(pack, corpus, tmp_path)
    for i, run in enumerate(runs):
        order = sequence_order((len(corpus.train) - 1) // model.seq_len, STEPS * 4, run.data_seed).reshape(STEPS, 4)
        module = reference.module_of(model, initial_rows(model, [run.init_seed])[0])
        losses = reference.train_with(pack, run, module, [windows_of(corpus, model, row) for row in order])
        np.testing.assert_allclose(trainer.loss_table[i].numpy(), losses, rtol=tolerance)
        assert losses[-1] < losses[0] - 0.02  # it learns


def windows_of(corpus: Corpus, model: Model, which: Iterable[int]) -> torch.Tensor:
    length = model.seq_len
    return torch.stack([torch.from_numpy(corpus.train[j * length : (j + 1) * length + 1].astype(int)) for j in which])


def test_a_run_does_not_depend_on_its_neighbours(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    together, outcomes = run_pack(make(model, RUNS), corpus, tmp_path / "a")
    alone, single = run_pack(make(model, RUNS[1:2]), corpus, tmp_path / "b")
    assert single[0].run_id == outcomes[1].run_id
    # matrix products over another number of runs may round differently
    np.testing.assert_allclose(alone.loss_table[0].numpy(), together.loss_table[1].numpy(), rtol=1e-5)


def test_divergence_leaves_the_neighbours_bit_identical(model: Model, corpus: Corpus) -> None:
    wild = dataclasses.replace(RUNS[0], lr=1e30)
    calm, torn = (Trainer(make(model, (RUNS[0], run, RUNS[1])), CPU, compiled=False) for run in (RUNS[2], wild))
    for trainer in (calm, torn):
        trainer.load(corpus)
        for _ in range(STEPS):
            trainer.train_step()
    assert torn.diverged_at[:, 0].tolist() == [0, 2, 0]  # the step after the wild update
    for i in (0, 2):
        assert torch.equal(calm.rows[i], torn.rows[i])
        assert torch.equal(calm.loss_table[i], torn.loss_table[i])
    assert torch.isfinite(torn.rows).all()


def test_large_first_weights_are_no_divergence(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    loud = dataclasses.replace(model, init_std=1.0)
    runs = (
        dataclasses.replace(RUNS[0], warmup_steps=20),
        dataclasses.replace(RUNS[0], lr=30.0, warmup_steps=0),  # finite, and far beyond hope
    )
    trainer, outcomes = run_pack(make(loud, runs), corpus, tmp_path)
    began = trainer.loss_table[0, :12].numpy()
    assert (began > math.log(model.vocab) + 1.1).all()  # not better than a guess for more steps than a spike may last
    assert [outcome.status for outcome in outcomes] == ["finished", "diverged"]
    assert outcomes[1].steps < STEPS


def test_divergence_is_logged_at_once_and_stops_costing(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    wild = dataclasses.replace(RUNS[0], lr=1e30)
    calm, alone = run_pack(make(model, (RUNS[0], RUNS[1])), corpus, tmp_path / "calm")
    torn, outcomes = run_pack(make(model, (RUNS[0], wild, RUNS[1])), corpus, tmp_path / "torn")
    assert [(o.status, o.steps) for o in outcomes] == [("finished", STEPS), ("diverged", 2), ("finished", STEPS)]
    assert outcomes[1].loss is None
    log = lines(tmp_path / "torn", outcomes[1].run_id)
    assert [(line["event"], line.get("step")) for line in log[1:]] == [("diverged", 2), ("end", 2)]
    assert torn.k == 2  # its row is gone
    np.testing.assert_allclose(torn.loss_table.numpy(), calm.loss_table.numpy(), rtol=1e-5)
    np.testing.assert_allclose(
        [outcomes[i].loss for i in (0, 2)],
        [outcome.loss for outcome in alone],
        rtol=1e-5,  # type: ignore[arg-type]
    )


class Timed(Trainer):
    """A device on which a step takes a second, and a preparation ten."""

    now = 0.0

    def prepare(self) -> Steps:
        self.now += 10.0
        return super().prepare()

    def train_step(self) -> None:
        self.now += 1.0
        super().train_step()

    def keep(self, rows: Sequence[int]) -> None:
        self.compiled = False  # it is no GPU after all
        super().keep(rows)
        self.compiled = True


@pytest.mark.parametrize(("diverging", "rows"), [(1, 4), (2, 2), (3, 1)])
def test_rows_are_let_go_of_where_that_saves_time(
    model: Model, corpus: Corpus, tmp_path: Path, diverging: int, rows: int
) -> None:
    """Found at step 5 of 25: 20 s x 1/4 are less than a preparation; 20 s x 2/4, and more, are not."""
    runs = [dataclasses.replace(RUNS[0], init_seed=i, lr=1e30 if i < diverging else 3e-3) for i in range(4)]
    pack = make(model, tuple(runs))
    trainer = Timed(pack, CPU, compiled=False)
    trainer.compiled = True
    outcomes = train(pack, corpus, tmp_path, trainer=trainer, clock=lambda: trainer.now)
    assert trainer.k == rows
    assert [outcome.status for outcome in outcomes] == ["diverged"] * diverging + ["finished"] * (4 - diverging)
    end = lines(tmp_path, outcomes[-1].run_id)[-1]
    assert end["prepare_seconds"] == (10 if rows == 4 else 20)
    assert end["train_seconds"] == STEPS
    done = 4 * 5 + (4 - diverging) * 20  # steps of runs that were not known to have diverged
    assert end["pack_tokens_per_second"] == pytest.approx(done * pack.batch_tokens / STEPS)


def test_a_run_worse_than_guessing_diverges_and_a_spike_does_not(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    steep = RunSettings(lr=4.0, steps=STEPS, schedule="constant", clip=0.0)
    trainer, (outcome,) = run_pack(make(model, (steep,)), corpus, tmp_path)
    losses = trainer.loss_table[0].numpy()
    over = losses > math.log(61) + 1
    assert outcome.status == "diverged"
    assert np.isfinite(losses).all()
    first = next(i for i in range(STEPS) if over[i : i + 10].sum() == 10)
    assert outcome.steps == first + 10


def test_a_deadline_is_kept_between_far_lines(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    """One line of log in 25 steps of a second each: the clock is looked at in between."""
    pack = make(model, RUNS[:1], log_points=1)
    whole = run_pack(pack, corpus, tmp_path / "whole")[1]

    def steps_until(deadline: float, logs: Path) -> int:
        trainer = Timed(pack, CPU, compiled=False)
        (outcome,) = train(pack, corpus, logs, trainer=trainer, clock=lambda: trainer.now, deadline=deadline)
        assert outcome.status == "stopped"
        return int(trainer.step)

    assert [steps_until(11.0, tmp_path / "parts") for _ in range(3)] == [8, 16, 24]
    assert run_pack(pack, corpus, tmp_path / "parts")[1] == whole
    # a preparation of ten seconds, 8 steps, and 5 more until it looks again
    assert steps_until(20.0, tmp_path / "once") == 13


def test_a_pack_of_diverged_runs_ends_early(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    wild = dataclasses.replace(RUNS[0], lr=1e30)
    trainer, _ = run_pack(make(model, (wild,)), corpus, tmp_path)
    assert int(trainer.step) < STEPS


def test_runs_of_different_length_share_a_pack(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    short = dataclasses.replace(RUNS[0], steps=10)
    pair, outcomes = run_pack(make(model, (short, RUNS[1])), corpus, tmp_path / "pair")
    alone, single = run_pack(make(model, (short,)), corpus, tmp_path / "alone")
    assert outcomes[0].steps == single[0].steps == 10
    assert outcomes[0].loss == pytest.approx(single[0].loss, rel=1e-5)
    assert int(pair.step) == STEPS
    assert int(alone.step) == 10
    log = lines(tmp_path / "pair", outcomes[0].run_id)
    assert [line["step"] for line in log if line["event"] == "train"] == [2, 4, 6, 8, 10]


def test_order_of_the_data_is_the_same_at_any_batch() -> None:
    assert np.array_equal(sequence_order(50, 120, 1), sequence_order(50, 400, 1)[:120])
    assert not np.array_equal(sequence_order(50, 50, 1), sequence_order(50, 50, 2))
    two_epochs = sequence_order(50, 100, 1)
    assert sorted(two_epochs[:50]) == sorted(two_epochs[50:]) == list(range(50))
    assert not np.array_equal(two_epochs[:50], two_epochs[50:])


def test_fewer_sequences_are_a_part_of_more_and_are_shuffled_anew_each_epoch() -> None:
    whole = sequence_order(50, 150, 1)
    for unique in (8, 20, 50):
        epochs = sequence_order(50, 3 * unique, 1, unique).reshape(3, unique)
        assert np.array_equal(epochs[0], whole[:unique])  # as a run without a limit begins
        assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
        assert not np.array_equal(epochs[0], epochs[1])
        assert not np.array_equal(epochs[1], epochs[2])
    assert np.array_equal(sequence_order(50, 150, 1, 50), whole)


def test_runs_of_a_pack_repeat_as_many_tokens_as_each_is_told(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    """25 steps of 4 sequences: 100 of them, or 40 or 10 different ones; each as if it stood alone, and stopped once."""
    limits = (None, 490.0, 120.0)  # of 12 tokens: 40 whole ones, 10
    runs = tuple(dataclasses.replace(RUNS[0], unique_tokens=limit) for limit in limits)
    pack = make(model, runs)
    trainer = Trainer(pack, CPU, compiled=False)
    trainer.load(corpus)
    read = trainer.order[:, : STEPS * 4]
    assert [len(set(order.tolist())) for order in read] == [STEPS * 4, 40, 10]
    assert torch.equal(read[0, :10], read[2, :10])
    run_pack(pack, corpus, tmp_path / "pack", deadline=0.0)
    together, outcomes = run_pack(pack, corpus, tmp_path / "pack")
    for i, run in enumerate(runs):
        alone, (outcome,) = run_pack(make(model, (run,)), corpus, tmp_path / "alone")
        assert outcome.run_id == outcomes[i].run_id
        np.testing.assert_allclose(together.loss_table[i], alone.loss_table[0], rtol=1e-4)
    assert len({outcome.run_id for outcome in outcomes}) == 3
    rows = [run_row(lines(tmp_path / "pack", outcome.run_id)) for outcome in outcomes]
    assert [row and row["unique_tokens"] for row in rows] == [1200, 480, 120]
    ends = [lines(tmp_path / "pack", outcome.run_id)[-1]["epochs"] for outcome in outcomes[1:]]
    assert ends == pytest.approx([2.5, 10])


def test_more_different_tokens_than_the_corpus_has_are_refused(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    run = RunSettings(lr=1e-3, steps=1000, unique_tokens=36_048)
    with pytest.raises(CorpusError, match=r"35988 training tokens in .* of 12; a run asks for 36048 different ones"):
        run_pack(make(model, (run,)), corpus, tmp_path)


def test_a_run_reads_the_same_sequences_at_any_batch(model: Model, corpus: Corpus) -> None:
    seeds = (7, 0, 7)
    read = {}
    for sequences, accumulation in ((4, 1), (8, 1), (8, 4)):
        runs = tuple(RunSettings(lr=1e-3 * (i + 1), steps=800 // sequences, data_seed=s) for i, s in enumerate(seeds))
        trainer = Trainer(make(model, runs, batch_sequences=sequences, accumulation=accumulation), CPU, compiled=False)
        trainer.load(corpus)
        read[sequences, accumulation] = trainer.order[:, :800]
    assert torch.equal(read[4, 1], read[8, 1])
    assert torch.equal(read[4, 1], read[8, 4])
    order = read[4, 1]
    assert torch.equal(order[0], order[2])  # runs with one seed read in step
    assert not torch.equal(order[0], order[1])


def test_deadline_stops_and_says_so(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    _, outcomes = run_pack(make(model, RUNS[:2]), corpus, tmp_path, deadline=0.0)
    assert [(o.status, o.loss, o.steps) for o in outcomes] == [("stopped", None, 5)] * 2


def test_log_tells_what_was_run(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    pack = make(model, RUNS[:1])
    _, (outcome,) = run_pack(pack, corpus, tmp_path)
    start, *middle, end = lines(tmp_path, outcome.run_id)
    assert start["run_id"] == outcome.run_id == pack.run_id(0, "made-up")
    assert start["tokens"] == end["tokens"] == STEPS * 4 * model.seq_len
    assert [line["step"] for line in middle] == [5, 10, 15, 20, 25]
    assert start["params"] == model.params
    assert start["non_embedding_params"] == model.params["matrices"] + model.params["norms"]
    assert end["loss"] == outcome.loss
    assert end["bits_per_byte"] == pytest.approx(outcome.loss / math.log(2) / 2)  # type: ignore[operator]


def test_every_line_is_flushed(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    pack = make(model, RUNS[:1])
    start = start_line(pack, 0, corpus.manifest, 3000)
    with closing(RunLog(tmp_path, pack, 0, start)) as log:
        assert [line["event"] for line in lines(tmp_path, start["run_id"])] == ["start"]
        log.train(5, np.ones(5, dtype=np.float32), {"lr": 0.1})
        assert lines(tmp_path, start["run_id"])[1:] == [
            {"event": "train", "step": 5, "tokens": 5 * pack.batch_tokens, "loss": 1.0, "lr": 0.1}
        ]


def test_too_small_a_corpus_is_refused(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="333 validation sequences of 12 tokens; the pack evaluates on 400"):
        run_pack(make(model, RUNS[:1], eval_sequences=400), corpus, tmp_path)


def test_too_large_a_vocabulary_is_refused(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"61 tokens, the model 60; raise model\.vocab"):
        run_pack(make(dataclasses.replace(model, vocab=60), RUNS[:1]), corpus, tmp_path)


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_a_step_is_one_graph_for_the_compiler(model: Model, optimizer: str) -> None:
    """What a GPU compiles can be traced whole; the backend that runs it needs no compiler here."""
    trainer = Trainer(make(model, RUNS[:2], optimizer=optimizer), CPU, compiled=False)
    before = trainer.rows.detach().clone()
    for name in ("losses", "update"):
        whole = torch.compile(getattr(trainer, name), backend="aot_eager", fullgraph=True, dynamic=False)
        setattr(trainer, name, whole)
    trainer.warm_up()
    assert torch.equal(trainer.rows, before)


def test_a_batch_in_parts_is_the_same_batch(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    whole, outcomes = run_pack(make(model, RUNS), corpus, tmp_path / "whole")
    parts, again = run_pack(make(model, RUNS, accumulation=4), corpus, tmp_path / "parts")
    assert [o.run_id for o in again] == [o.run_id for o in outcomes]
    np.testing.assert_allclose(parts.loss_table.numpy(), whole.loss_table.numpy(), rtol=1e-5)
    np.testing.assert_allclose([o.loss for o in again], [o.loss for o in outcomes], rtol=1e-5)  # type: ignore[arg-type]
