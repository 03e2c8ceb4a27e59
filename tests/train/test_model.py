from __future__ import annotations

import dataclasses
import functools
import math

import pytest
import torch

from lawfit.proxy.pack import Model, Pack, RunSettings
from lawfit.train.model import decayed_columns, initial_rows, layout, rate_columns
from lawfit.train.trainer import Trainer
from tests.train import reference


def test_counts_by_kind_are_those_of_the_rows(model: Model) -> None:
    for kind, count in model.params.items():
        assert sum(slot.size for slot in layout(model) if slot.kind == kind) == count
    assert initial_rows(model, [0]).shape[1] == sum(model.params.values())


def test_slots_leave_no_gap(model: Model) -> None:
    slots = layout(model)
    assert [slot.start for slot in slots[1:]] == [slot.start + slot.size for slot in slots[:-1]]


def test_initial_row_depends_on_its_seed_only(model: Model) -> None:
    rows = initial_rows(model, [4, 9, 4])
    assert torch.equal(rows[0], rows[2])
    assert torch.equal(rows[1], initial_rows(model, [9])[0])
    assert not torch.equal(rows[0], rows[1])


def test_initial_spread() -> None:
    model = Model(layers=8, width=64, heads=2, hidden=64, vocab=500, seq_len=8)
    row = initial_rows(model, [0])[0]
    for slot in layout(model):
        values = row[slot.start : slot.start + slot.size]
        if slot.kind == "norms":
            assert (values == 1).all()
        else:
            expected = 0.02 / 4 if slot.name.endswith("_out") else 0.02  # 1 / sqrt(2 * 8 layers)
            # standard error of a standard deviation from n values is 1 / sqrt(2 n)
            assert values.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * slot.size))


def test_only_gains_escape_weight_decay(model: Model) -> None:
    assert int((decayed_columns(model) == 0).sum()) == model.params["norms"]


def test_mup_of_the_base_width_is_standard(model: Model) -> None:
    mup = dataclasses.replace(model, mup_base_width=model.width)
    assert torch.equal(initial_rows(mup, [3]), initial_rows(model, [3]))
    assert (rate_columns(mup) == 1).all()


@pytest.mark.parametrize(("mup", "low", "high"), [(True, 0.5, 1.4), (False, 5.0, 12.0)], ids=["mup", "standard"])
def test_one_step_moves_the_output_as_far_at_any_width(mup: bool, low: float, high: float) -> None:
    """Coordinate check: 8 times the width moves the logits about 8 times as far in standard parametrization.

    In muP the part that adds up over the width stays; the part that averages out, 1 / sqrt(8), makes it a little less.
    """
    moved = []
    for width in (64, 512):
        model = Model(
            layers=2, width=width, heads=width // 32, hidden=2 * width, vocab=50, seq_len=16, embedding_std=1.0,
            init_std=0.125 if mup else width**-0.5, mup_base_width=64 if mup else None,
        )  # fmt: skip
        run = RunSettings(lr=1e-3, steps=3, weight_decay=0.0, clip=0.0, schedule="constant")
        module = reference.module_of(model, initial_rows(model, [1])[0])
        tokens = torch.randint(50, (4, 17), generator=torch.Generator().manual_seed(0))
        before = module(tokens[:, :-1]).detach()
        reference.train(module, run, [tokens] * 3)
        moved.append((module(tokens[:, :-1]).detach() - before).square().mean().sqrt().item())
    assert low < moved[1] / moved[0] < high


@pytest.mark.soak
def test_more_shapes_than_torch_compiles_by_default(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process trains packs of any number of shapes: here of nine, one more than torch's limit."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))  # traced, not compiled
    for k in range(1, 10):
        runs = tuple(RunSettings(lr=1e-3, steps=2, init_seed=seed) for seed in range(k))
        pack = Pack(name="p", model=model, batch_sequences=2, precision="fp32", runs=runs)
        Trainer(pack, torch.device("cpu"), compiled=True).warm_up()
