"""Which columns are choices and which are results, told by their names."""

from __future__ import annotations

import pytest

from lawfit.factors import is_factor, is_record


@pytest.mark.parametrize("name", ["init_loss", "initial_loss", "val_init_ppl", "init_val_bpb", "Initial Accuracy"])
def test_what_was_measured_before_the_first_step_is_a_result(name: str) -> None:
    assert not is_factor(name)
    assert is_record(name)


@pytest.mark.parametrize("name", ["init_std", "initializer_range", "init", "z_loss_weight", "init_scale"])
def test_how_a_model_was_initialised_is_a_choice(name: str) -> None:
    assert is_factor(name)
