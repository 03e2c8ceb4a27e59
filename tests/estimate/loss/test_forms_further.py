"""Forms that know more of a run than params and tokens: golden numbers, derivatives, recovered truths."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import approx_fprime

from lawfit.estimate.loss.fit import fit_loss
from lawfit.estimate.loss.forms_further import EVERY_FORM
from lawfit.estimate.loss.result import FormDraws
from lawfit.laws.loss import DATA_CONSTRAINED
from lawfit.laws.published import published_law

Floats = NDArray[np.float64]
THIRD = [pytest.param(name, id=name) for name, form in EVERY_FORM.items() if form.third]

SOMEWHERE = np.array([0.5, -0.7, 0.3, -0.9, 0.35, 0.12, 0.2])  # for forms that nobody published numbers of


def published(form: str) -> FormDraws:
    """The form with the published coefficients, centred somewhere."""
    c = published_law(form.removesuffix("_tokens")).formulas["loss"].coefficients
    centre = np.log(1e9), np.log(3e10)
    theta = [np.log(c["E"]), np.log(c["A"]) - c["alpha"] * centre[0], c["alpha"]]
    theta += [np.log(c["B"]) - c["beta"] * centre[1], c["beta"]]
    if form == "data_constrained":
        theta += [np.log(c["tokens_scale"]), np.log(c["params_scale"])]
    elif form == "data_constrained_tokens":
        theta = [theta[0], *theta[3:], np.log(c["tokens_scale"])]
    else:
        theta += [np.log(c["C"]), c["lambda_"], np.log(c["F"]) - c["gamma"] * centre[0], c["delta"], c["gamma"]]
    return FormDraws(
        form=form, centre=centre, theta=np.array(theta), draws=np.empty((0, len(theta))), delta=1e-3, noise=0.0
    )


@pytest.mark.parametrize(
    ("params", "tokens", "loss"),
    [pytest.param(6.34e9, 242e9, 2.225644089, id="6.34B"), pytest.param(8.67e9, 178e9, 2.226963408, id="8.67B")],
)
def test_golden_repeated_tokens(params: float, tokens: float, loss: float) -> None:
    """G23: what is fitted is what was published."""
    said = published("data_constrained").loss(params, tokens, tokens / 25e9)
    assert float(said) == pytest.approx(loss, rel=1e-6)  # the reference sheet prints ten digits


def test_golden_sparse_experts() -> None:
    law = published_law("moe_sparsity")
    said = published("moe_sparsity").loss(3e9, 1e11, [1.0, 0.25, 0.05])
    wanted = law.evaluate("loss", params=3e9, tokens=1e11, active_fraction=np.array([1.0, 0.25, 0.05]))
    assert said == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("form", THIRD)
def test_derivatives(form: str, rng: np.random.Generator) -> None:
    logs = rng.uniform(-1, 1, (12, 3))
    logs[:, 2] = np.abs(logs[:, 2]) if form.startswith("data_constrained") else -np.abs(logs[:, 2])
    problem = EVERY_FORM[form].problem(np.zeros(12), logs, 1e-3)
    theta = SOMEWHERE[: len(EVERY_FORM[form].names)] if form.startswith("experts") else published(form).theta + 0.01
    numeric = approx_fprime(theta, lambda t: problem.log_model(t[None])[0])
    assert problem.jacobian(theta) == pytest.approx(numeric, rel=1e-4, abs=1e-5)


def test_an_ordinary_run_is_one_of_the_additive_law() -> None:
    law = DATA_CONSTRAINED.law
    tokens = np.array([2e10, 1e12])
    assert published("data_constrained").loss(1e9, tokens) == pytest.approx(law.loss(1e9, tokens), rel=1e-9)


def test_recovers_what_repeated_tokens_are_worth(rng: np.random.Generator) -> None:
    params = np.exp(rng.uniform(np.log(3e7), np.log(3e9), 120))
    tokens = params * np.exp(rng.uniform(np.log(5), np.log(100), 120))
    passes = np.exp(rng.uniform(0, np.log(60), 120)) ** (rng.random(120) < 0.7)
    loss = DATA_CONSTRAINED.loss(params, tokens, tokens / passes) * np.exp(0.002 * rng.standard_normal(120))
    fit = fit_loss(params, tokens, loss, form="data_constrained", third=passes, rng=rng, resamples=60)
    scale = fit.parameters["tokens_scale"]
    assert scale.low is not None
    assert scale.high is not None
    assert scale.low < DATA_CONSTRAINED.tokens_scale < scale.high
    assert scale.high / scale.low < 2.5
    again = fit.loss(1e10, 2e11, 4.0)
    assert float(again) == pytest.approx(float(DATA_CONSTRAINED.loss(1e10, 2e11, 5e10)), rel=0.01)
    assert type(fit).from_json(fit.to_json()).loss(1e10, 2e11, 4.0) == pytest.approx(again, rel=1e-6)


def test_recovers_what_active_experts_are_worth(rng: np.random.Generator) -> None:
    law = published("moe_sparsity")
    params = np.exp(rng.uniform(np.log(1e8), np.log(1e10), 200))
    tokens = params * np.exp(rng.uniform(np.log(5), np.log(200), 200))
    active = np.exp(rng.uniform(np.log(0.02), 0, 200))
    loss = law.loss(params, tokens, active) * np.exp(0.001 * rng.standard_normal(200))
    fit = fit_loss(params, tokens, loss, form="moe_sparsity", third=active, rng=rng, resamples=0)
    for share in (1.0, 0.1):  # inside the runs; ten parameters are not told apart one by one
        assert float(fit.loss(3e9, 1e11, share)) == pytest.approx(float(law.loss(3e9, 1e11, share)), rel=0.005)


def test_one_size_publishes_no_number_of_terms_in_size(rng: np.random.Generator) -> None:
    tokens, active = np.tile(np.geomspace(1e9, 1e12, 8), 3), np.repeat([1.0, 0.4, 0.1], 8)
    loss = published("moe_sparsity").loss(1e9, tokens, active)
    fit = fit_loss(np.full(24, 1e9), tokens, loss, form="moe_sparsity", third=active, rng=rng, resamples=0)
    assert set(fit.parameters) == {"E", "B", "beta", "C", "lambda_"}


def test_a_third_input_goes_with_forms_that_have_one(rng: np.random.Generator) -> None:
    runs = np.geomspace(1e8, 1e9, 12), np.geomspace(1e9, 1e11, 12), np.linspace(3, 2.5, 12)
    with pytest.raises(ValueError, match="also needs repeats"):
        fit_loss(*runs, form="data_constrained", rng=rng)
    with pytest.raises(ValueError, match="no third input"):
        fit_loss(*runs, form="additive", third=np.ones(12), rng=rng)
