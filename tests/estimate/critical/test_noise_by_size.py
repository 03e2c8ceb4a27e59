"""The noise scale of each size, and its factor to the critical batch."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from lawfit.estimate.critical.noise_by_size import NoiseOfSize, _at_most_tokens, noise_by_size, noise_factor
from lawfit.findings import as_json
from lawfit.laws.lent import critical_exponents
from lawfit.records import Run, RunStatus
from lawfit.words import tell
from tests.estimate.critical.simulated_batches import measured


def a_run(params: float, batch: float, lr: float, loss: float, noise: float | None) -> Run:
    return Run(
        run_key=f"{params}-{batch}-{lr}",
        params=params,
        tokens=1e8,
        batch_tokens=batch,
        lr=lr,
        loss=loss,
        status=RunStatus.FINISHED,
        extra={} if noise is None else {"noise_scale_tokens": noise},
    )


def test_the_best_rate_of_each_batch_counts() -> None:
    """The noise scale falls with the learning rate, so runs at bad rates must not speak."""
    runs = [a_run(1e6, b, lr, 3.0 + abs(np.log2(lr)), 2e4 / lr) for b in (1e4, 2e4, 4e4) for lr in (0.5, 1.0, 2.0)]
    (found,) = noise_by_size(runs)
    assert found.value_tokens == pytest.approx(2e4)
    assert (found.batches, found.log_sd) == (3, pytest.approx(0.0, abs=1e-12))


def test_runs_without_one_are_left_out() -> None:
    assert noise_by_size([a_run(1e6, 1e4, 1.0, 3.0, None)]) == ()


@pytest.mark.parametrize("stated", [0.0, -1.0, float("inf"), float("nan"), "none"])
def test_a_noise_scale_that_cannot_be_says_nothing(stated: object) -> None:
    run = a_run(1e6, 1e4, 1.0, 3.0, None)
    assert noise_by_size([replace(run, extra={"noise_scale_tokens": stated})]) == ()


def sizes(exponent: float) -> list[NoiseOfSize]:
    return [
        NoiseOfSize(params=n, tokens=1e9, value_tokens=1e4 * (n / 1e6) ** exponent, log_sd=0.05, batches=5)
        for n in (1e6, 4e6, 1.6e7)
    ]


def test_one_factor_at_all_sizes(rng: np.random.Generator) -> None:
    """Critical batches of a size are carried to one horizon first: several targets are one measurement."""
    exponent = critical_exponents(("tokens",))["tokens"].gaussian[0]  # that published laws lend
    found = noise_factor(
        sizes(0.2),
        [
            measured(5e4 * (n / 1e6) ** 0.2 * (d / 1e9) ** exponent, n, d, log_sd=0.1)
            for n in (1e6, 4e6, 1.6e7)
            for d in (1e9, 2.5e8)
        ],
    )
    assert found is not None
    assert found.factors == pytest.approx((5.0, 5.0, 5.0))
    assert found.steady
    assert found.low < 5.0 < found.high
    assert "the critical batch is 5 times it" in tell(found.words())
    assert json.dumps(as_json(found.to_json()), allow_nan=False)


def test_a_factor_that_moves_is_said() -> None:
    """As under AdamW on our own runs: the noise scale grows with the model, the critical batch does not."""
    found = noise_factor(sizes(0.4), [measured(5e4, n, 1e9, log_sd=0.1) for n in (1e6, 4e6, 1.6e7)])
    assert found is not None
    assert not found.steady
    assert found.growth is not None
    assert found.growth[0] == pytest.approx(-0.4)
    assert "no stand-in" in tell(found.words())


def test_no_size_has_both() -> None:
    assert noise_factor(sizes(0.4), [measured(5e4, 3e6, 1e9)]) is None
    open_above = replace(measured(5e4, 1e6, 1e9), log_sd=np.inf)
    assert noise_factor(sizes(0.4), [open_above]) is None


def test_words_and_factors_are_of_sizes_that_have_both() -> None:
    found = noise_factor(sizes(0.4), [measured(5e4, n, 1e9, log_sd=0.1) for n in (4e6, 1.6e7)])
    assert found is not None
    assert [size.params for size in found.sizes] == [4e6, 1.6e7]
    assert len(found.factors) == 2
    assert [size["params"] for size in found.words().data["sizes"]] == [4e6, 1.6e7]


def test_scatter_between_sizes_is_no_trend(rng: np.random.Generator) -> None:
    """Factors that scatter by 12 %, as optima do around their laws: a trend is seen in one of ten worlds, not more."""
    claims = 0
    for _ in range(400):
        noise = [
            NoiseOfSize(
                params=n, tokens=1e9, value_tokens=float(1e4 * np.exp(0.12 * rng.normal())), log_sd=0.02, batches=5
            )
            for n in (1e6, 4e6, 1.6e7, 6.4e7, 2.6e8)
        ]
        found = noise_factor(noise, [measured(5e4, size.params, 1e9, log_sd=0.02) for size in noise])
        assert found is not None
        claims += not found.steady
    assert claims <= 58  # 0.1 of 400, and three standard deviations


def test_a_sizes_critical_batch_at_its_most_tokens_is_read_off_a_line_with_a_lent_exponent() -> None:
    """By least squares with one row more for what is lent; measurements off the same runs count as one together."""
    tokens, values, sd = np.array([1e9, 4e9, 2e9]), np.array([4e4, 1.1e5, 6e4]), np.array([0.1, 0.2, 0.15])
    rows = [measured(v, 1e6, d, log_sd=s) for v, d, s in zip(values, tokens, sd, strict=True)]
    value, log_sd = _at_most_tokens(rows, ())
    mean, doubt = critical_exponents(("tokens",), widening=2.0)["tokens"].gaussian
    weight = 1 / (np.sqrt(3) * sd)
    design = np.vstack([np.column_stack([weight, weight * np.log(tokens / 4e9)]), [0.0, 1 / doubt]])
    line = np.linalg.lstsq(design, np.append(weight * np.log(values), mean / doubt), rcond=None)[0]
    assert value == pytest.approx(line[0], rel=1e-9)
    assert log_sd == pytest.approx(np.sqrt(np.linalg.inv(design.T @ design)[0, 0]), rel=1e-9)
    assert log_sd > 0.15  # three looks at the same runs are no three measurements
