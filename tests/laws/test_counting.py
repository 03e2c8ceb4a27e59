"""Counts of parameters and FLOPs: against real and computed models, and DeepSeek's own units."""

from __future__ import annotations

import numpy as np
import pytest

from lawfit.laws.counting import CONVENTIONS, Tables, convert_params, deepseek_allocation, flops_per_token
from lawfit.laws.published import published_law
from lawfit.proxy.pack import Model
from lawfit.units import training_flops

LLAMA_7B = Tables(width=4096, vocab=32000)


def test_trap_8_embeddings_counted_in_one_file_and_not_in_the_other() -> None:
    """Llama 2 7B: 6,738,415,616 stored, of which two tables of 131,072,000 (its published shapes)."""
    found = {to: float(convert_params(6_738_415_616, "total", to, LLAMA_7B)) for to in CONVENTIONS}
    body = 32 * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096) + 4096
    assert found == {"non_embedding": body, "body_plus_head": body + 4096 * 32000, "total": 6_738_415_616}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("given", CONVENTIONS)
@pytest.mark.parametrize("wanted", CONVENTIONS)
def test_there_and_back(given: str, wanted: str, tied: bool) -> None:
    tables = Tables(width=768, vocab=50257, tied=tied)
    there = convert_params([1e8, 1e9], given, wanted, tables)
    np.testing.assert_allclose(convert_params(there, wanted, given, tables), [1e8, 1e9], rtol=1e-12)


def test_agrees_with_the_counts_of_the_trainer() -> None:
    model = Model(vocab=4096, seq_len=256, width=64, heads=2, layers=4, hidden=176)
    counts = model.params
    total = convert_params(model.non_embedding_params, "non_embedding", "total", Tables(width=64, vocab=4096))
    assert float(total) == sum(counts.values())


def test_trap_8_a_law_of_non_embedding_parameters_given_the_total() -> None:
    """GPT-2 small without tying, 162M of which 77M are tables: the wrong count moves the Step Law's rate by 59 %."""
    law, tables = published_law("step_law"), Tables(width=768, vocab=50257)
    body = float(convert_params(162e6, "total", "non_embedding", tables))
    assert law.predict(body, 2e9).lr / law.predict(162e6, 2e9).lr == pytest.approx(1.59, abs=0.005)


def test_deepseek_flops_are_matrix_products() -> None:
    """Twice the multiplications of each product, times 3 for the two passes backwards."""
    layers, width, seq_len = 30, 4096, 4096
    in_a_layer = 2 * 12 * width**2 + 2 * 2 * seq_len * width  # projections and MLP; q . k and weights . v
    assert flops_per_token(layers, width, seq_len) == 3 * layers * in_a_layer


def test_deepseek_compute_is_more_than_six_params_tokens() -> None:
    """DeepSeek 7B (30 layers, width 4096, context 4096): attention adds a sixth to 6 N."""
    params = 30 * 12 * 4096**2
    ratio = flops_per_token(30, 4096, 4096) * 2e12 / training_flops(params, 2e12)
    assert ratio == pytest.approx(1 + 4096 / (6 * 4096), rel=1e-12)


def test_g5_deepseek_allocation() -> None:
    per_token, tokens = deepseek_allocation(1e20)
    assert float(tokens) == pytest.approx(1.904529602e10, rel=1e-6)
    assert float(per_token) == pytest.approx(5.251267289e9, rel=1e-6)
    assert float(per_token * tokens) == pytest.approx(1e20, rel=2e-4)  # rounded coefficients


def test_params_times_tokens_overflows_integers_but_not_us() -> None:
    """Section 2 of the yardsticks: N * D does not fit into 64 bits."""
    assert training_flops(np.int64(7_000_000_000), np.int64(1_400_000_000_000)) == 6 * 7e9 * 1.4e12


BAD = {
    "too few": (lambda: convert_params(1e8, "total", "non_embedding", LLAMA_7B), "have 262,144,000 already"),
    "nothing else": (lambda: convert_params(2 * 4096 * 32000, "total", "total", LLAMA_7B), "have 262,144,000 already"),
    "one of several": (
        lambda: convert_params([7e9, 1e8], "total", "non_embedding", LLAMA_7B),
        "^100,000,000 parameters cannot be counted as total",
    ),
    "active": (lambda: convert_params(1e10, "total", "active", LLAMA_7B), "'active' is no count that a formula"),
    "width": (lambda: Tables(width=0, vocab=10), "width must be 1 or more"),
    "layers": (lambda: flops_per_token(0, 10, 10), "layers must be 1 or more"),
    "compute": (lambda: deepseek_allocation(0), "flops must be positive"),
}


@pytest.mark.parametrize(("call", "match"), BAD.values(), ids=BAD)
def test_refuses(call: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()  # type: ignore[operator]
