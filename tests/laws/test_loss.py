"""Loss laws: golden numbers of published coefficients, and inversions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from lawfit.laws.loss import CHINCHILLA, DATA_CONSTRAINED, EPOCH, KAPLAN, AdditiveLaw

EXACT = 1e-6  # relative; the reference sheet prints ten digits
LAWS = [pytest.param(CHINCHILLA, id="chinchilla"), pytest.param(EPOCH, id="epoch")]


@pytest.mark.parametrize(
    ("law", "loss", "params", "tokens"),
    [
        pytest.param(EPOCH, 1.973881863, 9.586065405e10, 1.738634775e12, id="G21 epoch"),
        pytest.param(CHINCHILLA, 1.936645471, 4.129670242e10, 4.035834750e12, id="G22 chinchilla"),
    ],
)
def test_golden_optimum(law: AdditiveLaw, loss: float, params: float, tokens: float) -> None:
    assert float(law.loss(7e10, 1.4e12)) == pytest.approx(loss, rel=EXACT)
    best = law.optimum(1e24)
    assert float(best[0]) == pytest.approx(params, rel=EXACT)
    assert float(best[1]) == pytest.approx(tokens, rel=EXACT)


@pytest.mark.parametrize(
    ("params", "tokens", "loss"),
    [pytest.param(6.34e9, 242e9, 2.225644089, id="6.34B"), pytest.param(8.67e9, 178e9, 2.226963408, id="8.67B")],
)
def test_golden_data_constrained(params: float, tokens: float, loss: float) -> None:
    assert float(DATA_CONSTRAINED.loss(params, tokens, 25e9)) == pytest.approx(loss, rel=EXACT)


def test_golden_effective_tokens() -> None:
    assert float(DATA_CONSTRAINED.effective_tokens(4e11, 1e11)) == pytest.approx(3.725673123e11, rel=EXACT)


def test_golden_kaplan() -> None:
    assert float(KAPLAN.loss(1e9, 2e10)) == pytest.approx(2.373882448, rel=EXACT)


def test_fresh_tokens_are_worth_what_they_are() -> None:
    assert float(DATA_CONSTRAINED.effective_tokens(1e11, 1e11)) == pytest.approx(1e11, rel=1e-12)
    assert float(DATA_CONSTRAINED.effective_tokens(1e10, 1e11)) == pytest.approx(1e10, rel=1e-12)  # not all are used


@pytest.mark.parametrize("more", [1.0, 3.0, 100.0])
def test_unique_tokens_that_are_not_reached_change_nothing(more: float) -> None:
    """Parameters are weighed against the tokens that are seen, however many others there are."""
    found = DATA_CONSTRAINED.loss(7e9, 1e10, more * 1e10)
    assert float(found) == pytest.approx(float(DATA_CONSTRAINED.loss(7e9, 1e10, 1e10)), rel=1e-14)
    assert float(found) > float(DATA_CONSTRAINED.law.loss(7e9, 1e10))  # far more parameters than 1e10 tokens feed


def test_endless_repetition_ends() -> None:
    limit = 1e11 * (1 + DATA_CONSTRAINED.tokens_scale)
    assert float(DATA_CONSTRAINED.effective_tokens(1e15, 1e11)) == pytest.approx(limit, rel=1e-12)


@pytest.mark.parametrize("law", LAWS)
def test_optimum_is_the_numerical_minimum(law: AdditiveLaw) -> None:
    found = minimize_scalar(
        lambda n: float(law.loss(np.exp(n), 1e22 / 6 / np.exp(n))), bounds=(15, 30), options={"xatol": 1e-9}
    )
    assert float(np.log(law.optimum(1e22)[0])) == pytest.approx(found.x, abs=1e-4)  # a flat minimum: sqrt(1e-16) / curv


@pytest.mark.parametrize("law", LAWS)
def test_inversions_come_back(law: AdditiveLaw) -> None:
    params, tokens = np.array([1e8, 1e10]), np.array([3e9, 1e12])
    loss = law.loss(params, tokens)
    assert law.tokens_for(loss, params) == pytest.approx(tokens, rel=1e-9)
    assert law.params_for(loss, tokens) == pytest.approx(params, rel=1e-9)
    best = law.optimum(np.array([1e19, 1e23]))
    assert law.flops_for(law.loss(*best)) == pytest.approx([1e19, 1e23], rel=1e-9)
    assert law.params_for_tokens(best[1]) == pytest.approx(best[0], rel=1e-9)


def test_a_loss_out_of_reach_takes_infinite_tokens() -> None:
    assert np.isinf(CHINCHILLA.tokens_for(1.7, 1e8))
    assert np.isinf(CHINCHILLA.flops_for(1.69))


def test_many_laws_at_once_equal_one_at_a_time() -> None:
    both = AdditiveLaw(
        **{
            name: np.array([getattr(CHINCHILLA, name), getattr(EPOCH, name)])
            for name in ("E", "A", "alpha", "B", "beta")
        }
    )
    assert both.optimum(1e22)[0] == pytest.approx([float(law.optimum(1e22)[0]) for law in (CHINCHILLA, EPOCH)])
