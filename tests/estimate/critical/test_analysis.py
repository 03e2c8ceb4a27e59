"""All that measured critical batches say together."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from lawfit.errors import NotEnoughData
from lawfit.estimate.critical.analysis import analyse_critical
from lawfit.estimate.critical.batch import CriticalBatch
from lawfit.estimate.critical.laws import AveragedLaw
from lawfit.estimate.critical.steps_to_target import fit_steps_table
from lawfit.estimate.numerics import optimum_certificate
from lawfit.estimate.numerics.optimum_law import MeasuredOptima
from lawfit.findings import as_json, code_of, finding
from lawfit.laws.critical_batch import DOUBLING, ZHANG
from lawfit.laws.published import published_laws
from lawfit.records import FitStatus
from tests.estimate.critical.simulated_batches import measured
from tests.estimate.critical.test_steps_to_target import zhang_table

SIZES = ((5e7, 4e9), (1e8, 1e9), (2e8, 2e10), (4e8, 6e9), (8e8, 5e10))


def test_zhang_end_to_end() -> None:
    """604M left out and predicted; tokens answer, and it is said that params could as well."""
    found = analyse_critical([f.critical(ZHANG) for f in fit_steps_table(zhang_table()).fits])
    assert found.status is FitStatus.OK
    assert found.answering == "tokens"
    assert found.separation is not None
    assert found.separation.verdict == "not_separable"
    (which,) = (each for each in found.sentences if code_of(each) == "critical.by_left_out")
    assert code_of(which.data["separation"]) == "numerics.grew_together"
    out = found.left_out["answer"]
    assert out.params == pytest.approx(604e6)
    assert abs(out.error) < 0.15
    assert out.inside
    assert set(found.laws) == {"tokens", "params", "loss", "params and tokens"}
    assert found.certificates["tokens"].certified
    assert found.reasons == ()
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert set(found.shares) == {"tokens", "params", "params and tokens"}  # not told apart, so all of them answer


def test_the_law_that_the_data_demand_answers(rng: np.random.Generator) -> None:
    by_tokens = analyse_critical([measured(1e6 * (d / 1e9) ** 0.46, n, d) for n, d in SIZES])
    by_params = analyse_critical([measured(1e6 * (n / 1e8) ** 0.46, n, d) for n, d in SIZES])
    assert (by_tokens.answering, by_params.answering) == ("tokens", "params")
    said = by_params.predict(1e12, 1.6e9)
    assert said.value_tokens == pytest.approx(1e6 * 16**0.46, rel=0.05)
    assert said.definition == DOUBLING
    with pytest.raises(ValueError, match="needs params"):
        by_params.predict(1e12)


@pytest.mark.parametrize(("exponent", "without", "said"), [(1.2, (), True), (0.46, (), False), (1.2, None, False)])
def test_an_exponent_unlike_what_is_lent_is_said(exponent: float, without: tuple[str, ...] | None, said: bool) -> None:
    """Where somebody lends: with all laws withheld there is nothing that it could be unlike."""
    rows = [measured(1e6 * (d / 1e9) ** exponent, n, d) for n, d in SIZES]
    found = analyse_critical(rows, (), tuple(published_laws()) if without is None else without)
    assert ("critical.unlike_published" in map(code_of, found.sentences)) == said


def test_two_sizes_borrow_the_exponent() -> None:
    found = analyse_critical([measured(1e6, 1e8, 2e9), measured(1.3e6, 2e8, 4e9)])
    assert found.status is FitStatus.SPARSE
    (said,) = (each for each in found.sentences if code_of(each) == "critical.lent_exponent")
    assert code_of(said.data["why"]) == "numerics.few_groups"
    assert found.lent_by
    near, far = found.predict(4e9), found.predict(4e12)
    assert far.high_tokens / far.low_tokens > 2 * near.high_tokens / near.low_tokens
    assert far.decades["tokens"] == pytest.approx(3.0)
    assert found.separation is None


def test_one_size_is_a_level(rng: np.random.Generator) -> None:
    found = analyse_critical([measured(1e6, 1e8, 2e9)])
    assert found.left_out == {}
    assert found.predict(2e9).value_tokens == pytest.approx(1e6)


def test_a_law_that_curves_is_named() -> None:
    """Trap 12."""
    sizes = [(5e7 * 2.0**k, 1e9 * 2.0**k) for k in range(8)]
    bent = analyse_critical([measured(1e6 * float(np.exp(0.1 * np.log(d / 1e10) ** 2)), n, d) for n, d in sizes])
    assert finding("critical.curved", input=next(iter(bent.shares))) in bent.sentences
    straight = analyse_critical([measured(1e6 * (d / 1e10) ** 0.4, n, d) for n, d in sizes])
    assert "critical.curved" not in map(code_of, straight.sentences)


def test_nothing_measured_says_what_it_takes() -> None:
    with pytest.raises(NotEnoughData) as caught:
        analyse_critical([])
    assert code_of(caught.value.finding) == "critical.none_measured"


def test_goes_into_json() -> None:
    found = analyse_critical([measured(1e6 * (d / 1e9) ** 0.46, n, d) for n, d in SIZES], notes=["one row was bad"])
    document = json.loads(json.dumps(as_json(found.to_json()), allow_nan=False))
    assert document["definition"]["kind"] == "extra_data"
    assert document["laws"]["tokens"]["exponents"]["tokens"] == pytest.approx(0.46, abs=0.02)
    assert document["sentences"][0] == "one row was bad"
    assert json.dumps(found.predict(1e10).to_json(), allow_nan=False)


def test_more_targets_of_a_size_are_no_more_sizes() -> None:
    """Trap 6."""
    once = [measured(1e6 * (d / 1e9) ** 0.46, n, d) for n, d in SIZES]
    thrice: list[CriticalBatch] = [c for c in once for _ in range(3)]
    first, second = analyse_critical(once), analyse_critical(thrice)
    assert second.laws["tokens"].groups == first.laws["tokens"].groups == 5
    widths = [a.predict(1e12) for a in (first, second)]
    assert widths[1].high_tokens / widths[1].low_tokens == pytest.approx(
        widths[0].high_tokens / widths[0].low_tokens, rel=1e-6
    )


def test_many_places_at_once_are_the_centres_of_one_at_a_time() -> None:
    """Where several laws answer: the geometric mean by their shares."""
    found = analyse_critical([f.critical(ZHANG) for f in fit_steps_table(zhang_table()).fits])
    average = AveragedLaw(shares=found.shares, laws=found.laws)
    tokens, params = np.array([2e9, 2e10, 3e11]), np.array([1e8, 6e8, 7e9])
    each = [average.predict(tokens=d, params=n).value for d, n in zip(tokens, params, strict=True)]
    np.testing.assert_allclose(average.value(tokens=tokens, params=params), each, rtol=0.02)


def test_scales_to_add_with_two_inputs_leave_their_line() -> None:
    at = {"params": np.array([1e8, 2e8, 4e8]), "tokens": np.array([2e9, 4e9, 8e9])}
    optima = MeasuredOptima(inputs=at, log_value=np.zeros(3), log_sd=np.full(3, 0.1), group=np.arange(3))
    along = optimum_certificate._further_scales(optima, ("tokens",))
    assert [set(scale) for scale in along] == [{"tokens"}] * len(along)
    both = optimum_certificate._further_scales(optima, ("params", "tokens"))
    ratios = {round(scale["tokens"] / scale["params"], 6) for scale in both}
    assert ratios == {20.0, 5.0, 80.0}  # on the line of the runs, and to both sides of it
    by_loss = replace(optima, inputs={"params": at["params"], "loss": np.array([3.0, 2.8, 2.6])})
    assert len(optimum_certificate._further_scales(by_loss, ("params", "loss"))) == len(along)  # nobody chooses a loss
