from __future__ import annotations

import math

import pytest
import torch

from lawfit.train.model import decayed_columns, initial_rows, layout
from lawfit.train.pack import Model


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
