"""Exponent priors: the update is right, the width is honest, and a law can be left out."""

from __future__ import annotations

import numpy as np
import pytest

from lawfit.errors import UnknownLaw
from lawfit.findings import finding
from lawfit.laws import priors
from lawfit.laws.priors import LEVEL_SPREAD, PRIOR_INPUTS, exponent_prior, level_prior
from lawfit.laws.published import published_laws

NAMES = pytest.mark.parametrize("of", PRIOR_INPUTS)


@NAMES
def test_is_a_proper_gaussian_with_sources(of: str) -> None:
    prior = exponent_prior(of)
    k = len(PRIOR_INPUTS[of])
    assert prior.mean.shape == (k,)
    assert prior.cov.shape == (k, k)
    np.testing.assert_array_equal(prior.cov, prior.cov.T)
    assert np.linalg.eigvalsh(prior.cov).min() > 0
    assert len(prior.sources) == len(prior.laws) + 1  # a sentence per law, and one on the width
    assert all("MEM" not in e.checked for law in prior.laws for e in published_laws()[law].exponents)


@NAMES
def test_no_narrower_than_the_laws_disagree(of: str) -> None:
    """Nine in ten of the measured exponents lie within two prior standard deviations of the prior's centre."""
    prior = exponent_prior(of)
    z = []
    for law in published_laws().values():
        for e in law.exponents:
            if e.of == of:
                h = np.array([e.along.get(name, 0.0) for name in prior.inputs])
                z.append((h @ prior.mean - e.value) / np.sqrt(h @ prior.cov @ h))
    assert np.mean(np.abs(z) < 2) >= 0.9


@NAMES
def test_leaving_out_the_law_of_a_backtest(of: str) -> None:
    whole, without = exponent_prior(of), exponent_prior(of, without=("step_law",))
    assert "step_law" in whole.laws
    assert "step_law" not in without.laws
    assert not any("2503.04715" in sentence for sentence in without.sources)
    assert not np.allclose(whole.mean, without.mean)


def test_leaving_out_twice_or_in_another_order_is_the_same() -> None:
    one = exponent_prior("batch", without=("step_law", "scion_horizons"))
    other = exponent_prior("batch", without=("scion_horizons", "step_law", "step_law"))
    np.testing.assert_array_equal(one.mean, other.mean)


@NAMES
def test_no_law_left_is_vague_and_holds_every_published_exponent(of: str) -> None:
    prior = exponent_prior(of, without=tuple(published_laws()))
    assert prior.laws == ()
    np.testing.assert_array_equal(prior.mean, 0)
    np.testing.assert_array_equal(prior.cov, priors.VAGUE_SD**2 * np.eye(len(prior.inputs)))
    assert "vague" in prior.sources[0]
    rows = [e for law in published_laws().values() for e in law.exponents if e.of == of]
    assert all(abs(e.value) <= 2 * priors.VAGUE_SD * np.linalg.norm(list(e.along.values())) for e in rows)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownLaw) as caught:
        exponent_prior("batch", without=("steplaw",))
    assert caught.value.finding == finding("published.no_such_law", law="steplaw", laws=list(published_laws()))
    with pytest.raises(ValueError, match="lr_joint"):
        exponent_prior("weight_decay")


def test_no_evidence_leaves_the_vague_start() -> None:
    mean, between, mean_cov = priors._random_effects([], 2)
    np.testing.assert_allclose(mean, 0)
    np.testing.assert_allclose(mean_cov, priors.START_SD**2 * np.eye(2))
    np.testing.assert_allclose(between, priors.PSEUDO_SPREAD**2 * np.eye(2), rtol=1e-9)


def test_a_law_along_a_path_tells_only_about_that_combination() -> None:
    sum_only = (np.array([[1.0, 1.0]]), np.array([-0.4]), np.array([[1e-4]]))
    mean, between, mean_cov = priors._random_effects([sum_only], 2)
    cov = between + mean_cov
    np.testing.assert_allclose(mean[0], mean[1], atol=1e-12)  # split evenly: nothing tells them apart
    across, along = np.array([1.0, -1.0]), np.array([1.0, 1.0])
    assert across @ mean_cov @ across == pytest.approx(2 * priors.START_SD**2, rel=1e-9)  # nothing learnt
    assert along @ cov @ along < across @ cov @ across / 5


def test_laws_silent_on_an_exponent_do_not_widen_it() -> None:
    """One law measures both exponents, six only the second: the first keeps the assumed spread."""
    both = (np.eye(2), np.array([-0.2, -0.3]), 0.01**2 * np.eye(2))
    second = [(np.array([[0.0, 1.0]]), np.array([v]), np.array([[1e-4]])) for v in (-0.5, -0.4, -0.3, -0.2, -0.1, -0.3)]
    _, between, mean_cov = priors._random_effects([both, *second], 2)
    assert np.sqrt(between[0, 0]) == pytest.approx(priors.PSEUDO_SPREAD, rel=0.25)
    assert np.sqrt(mean_cov[0, 0]) < 0.3  # one law, seen through that spread


def test_recovers_centre_and_spread_of_many_simulated_laws(rng: np.random.Generator) -> None:
    """With 400 laws, a third of them along a path only, the centre and the spread come back."""
    centre, spread = np.array([-0.5, 0.3]), np.array([[0.04, -0.02], [-0.02, 0.03]])
    observations = []
    for i in range(400):
        design = np.array([[0.5, 0.5]]) if i % 3 == 0 else np.eye(2)
        error = 0.03**2 * np.eye(len(design))
        y = design @ rng.multivariate_normal(centre, spread) + rng.normal(0, 0.03, size=len(design))
        observations.append((design, y, error))
    mean, between, mean_cov = priors._random_effects(observations, 2)
    assert np.all(np.abs(mean - centre) < 5 * np.sqrt(np.diag(mean_cov)))
    np.testing.assert_allclose(between, spread, atol=5 * 0.04 * np.sqrt(2 / 270))  # 5 sd of a sample variance


def test_one_observation_agrees_with_the_scalar_formula() -> None:
    """One exponent, one law: mu is the precision-weighted mean of start and observation at the final spread."""
    observation = (np.array([[1.0]]), np.array([0.6]), np.array([[0.05**2]]))
    mean, between, mean_cov = priors._random_effects([observation], 1)
    noise = between[0, 0] + 0.05**2
    expected = (0.6 / noise) / (1 / noise + 1 / priors.START_SD**2)
    assert mean[0] == pytest.approx(expected, rel=1e-9)
    assert mean_cov[0, 0] == pytest.approx(1 / (1 / noise + 1 / priors.START_SD**2), rel=1e-9)


TARGETS = pytest.mark.parametrize("target", ["lr", "batch_tokens"])


@TARGETS
class TestLevelPrior:
    def test_lies_among_the_laws_and_is_no_narrower_than_the_floor(self, target: str) -> None:
        prior = level_prior(target, 5e8, 3e10)
        said = [float(published_laws()[i].evaluate(target, params=5e8, tokens=3e10)) for i in prior.laws]
        assert min(said) < np.exp(prior.log_mean) < max(said)
        assert prior.log_sd > LEVEL_SPREAD
        assert len(prior.sources) == len(prior.laws)

    def test_one_vote_per_body_of_evidence_and_none_from_memory(self, target: str) -> None:
        laws = level_prior(target, 5e8, 3e10).laws
        assert not {"step_law_bootstrap", "porian_rounded", "deepseek_porian", "power_lines", "video_dit"} & set(laws)
        assert all(published_laws()[i].verified for i in laws)

    def test_wider_far_from_where_laws_were_measured(self, target: str) -> None:
        assert level_prior(target, 1e12, 2e13).log_sd > level_prior(target, 5e8, 1e10).log_sd

    def test_a_law_counts_less_by_decades_beyond_its_range(self, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two laws of one level: variance is the spread plus that of the centre, drift counted in nats."""
        one, other = (published_laws()[i] for i in level_prior(target, 5e8, 3e10).laws[:2])
        monkeypatch.setattr(priors, "lenders", lambda *_: [one, other])
        monkeypatch.setattr(type(one), "evaluate", lambda *_, **__: 2.0)
        beyond = {one.id: 0.0, other.id: 3.0}
        monkeypatch.setattr(type(one), "outside_range", lambda law, *_: {"params": beyond[law.id]})
        found = level_prior(target, 1e12, 2e13)
        drift = (priors.EXPONENT_DRIFT * 3.0 * np.log(10)) ** 2
        of_centre = 1 / (1 / LEVEL_SPREAD**2 + 1 / (LEVEL_SPREAD**2 + drift))
        assert found.log_sd == pytest.approx(np.sqrt(LEVEL_SPREAD**2 + of_centre), rel=1e-9)
        assert found.log_mean == pytest.approx(np.log(2.0))

    def test_leaving_one_out(self, target: str) -> None:
        assert "step_law" not in level_prior(target, 5e8, 3e10, without=("step_law",)).laws
        with pytest.raises(UnknownLaw):
            level_prior(target, 5e8, 3e10, without=("steplaw",))

    def test_no_law_left_is_vague_wherever_one_asks(self, target: str) -> None:
        everyone = tuple(published_laws())
        here, there = (level_prior(target, n, d, without=everyone) for n, d in ((5e8, 3e10), (1e5, 1e7)))
        assert here.laws == ()
        assert (here.log_mean, here.log_sd) == (there.log_mean, there.log_sd)
        assert here.log_sd == priors.VAGUE_LOG_SD > 3 * level_prior(target, 5e8, 3e10).log_sd
        for law in published_laws().values():  # every published level lies within two standard deviations
            if target in law.votes:
                said = float(np.log(law.evaluate(target, params=5e8, tokens=3e10)))
                assert abs(said - here.log_mean) < 2 * here.log_sd

    def test_a_level_may_be_withheld_alone(self, target: str) -> None:
        assert "step_law" not in level_prior(target, 5e8, 3e10, without=(f"step_law.{target}",)).laws
        assert "step_law" in level_prior(target, 5e8, 3e10, without=("step_law.batch",)).laws

    def test_an_unknown_target_is_refused(self, target: str) -> None:
        with pytest.raises(ValueError, match=f"no level of '{target}s' is lent"):
            level_prior(f"{target}s", 5e8, 3e10)

    def test_a_single_law_has_the_assumed_spread(self, target: str) -> None:
        alone = level_prior(target, 5e8, 3e10, without=tuple(i for i in published_laws() if i != "step_law"))
        said = float(published_laws()["step_law"].evaluate(target, params=5e8, tokens=3e10))
        assert np.exp(alone.log_mean) == pytest.approx(said)
        assert alone.log_sd == pytest.approx(np.sqrt(2) * LEVEL_SPREAD)  # spread, and a centre known through it
