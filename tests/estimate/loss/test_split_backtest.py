"""Forms judged by the split: displaced valleys are measured, and a form with a wrong one loses its weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lawfit.estimate.loss import split_backtest
from lawfit.estimate.loss.backtest import Candidate, cuts
from lawfit.estimate.loss.fit import quick_fit
from lawfit.estimate.loss.isoflop import ISOFLOP, ProfileLaw, isoflop
from lawfit.estimate.loss.result import FormDraws
from lawfit.estimate.loss.split_backtest import SplitBacktest, among, displacement, form_law, judge_split
from lawfit.laws.loss import CHINCHILLA

Floats = NDArray[np.float64]
NOISE = 0.001


def profiles_of(rng: np.random.Generator, budgets: int = 6, noise: float = NOISE) -> list[Floats]:
    flops = np.repeat(np.geomspace(1e18, 3e20, budgets), 9)
    params = CHINCHILLA.optimum(flops)[0] * np.tile(np.geomspace(1 / 8, 8, 9), budgets)
    tokens = flops / 6 / params
    return [params, tokens, CHINCHILLA.loss(params, tokens) * np.exp(noise * rng.standard_normal(len(params)))]


def grid_of(rng: np.random.Generator) -> list[Floats]:
    """No two scales share a budget."""
    params, ratio = (x.ravel() for x in np.meshgrid(np.geomspace(2e7, 1e9, 6), np.geomspace(4, 200, 5)))
    tokens = params * ratio
    return [params, tokens, CHINCHILLA.loss(params, tokens) * np.exp(NOISE * rng.standard_normal(len(params)))]


def additive(columns: list[Floats]) -> FormDraws:
    return quick_fit(columns, clusters=np.arange(len(columns[0])), form="additive", asymptote=None)


@pytest.mark.parametrize("moved", [-0.8, 0.0, 0.5])
@pytest.mark.parametrize("design", [profiles_of, grid_of])
def test_a_valley_beside_the_runs_is_measured(design, moved: float, rng: np.random.Generator) -> None:  # type: ignore[no-untyped-def]
    columns = design(rng)
    n, d, y = (np.log(x) for x in columns)

    def elsewhere(log_params: Floats, log_tokens: Floats) -> Floats:
        """The truth, best sizes `moved` larger, another level and another trend along compute: none of them asked."""
        level = 0.1 + 0.02 * (log_params + log_tokens - 44)
        return np.log(CHINCHILLA.loss(np.exp(log_params - moved), np.exp(log_tokens + moved))) + level

    found = displacement(elsewhere, n, d, y)
    assert found.shift == pytest.approx(-moved, abs=5 * NOISE * found.reach)
    assert found.reach * NOISE < 0.05
    assert found.rest / found.spare == pytest.approx(NOISE**2, rel=0.8)  # chi-squared of 27 to 51 degrees of freedom


def wrong(fit: FormDraws, by: float) -> FormDraws:
    """A fit of the additive form whose best sizes are `by` e-folds too large, its level about the same."""
    e, a, alpha, b, beta = fit.theta
    theta = np.array([e, a + by * alpha, alpha, b - by * beta, beta])
    return FormDraws(form=fit.form, centre=fit.centre, theta=theta, draws=fit.draws, delta=fit.delta, noise=fit.noise)


@pytest.mark.parametrize("design", [profiles_of, grid_of])
def test_a_form_with_a_wrong_split_loses_its_weight(design, rng: np.random.Generator) -> None:  # type: ignore[no-untyped-def]
    """Level and trend of both are alike, so the loss hardly tells them apart at the best split."""
    columns = design(rng)
    index = np.arange(len(columns[0]))
    parted = cuts(np.log(columns[0]) + np.log(columns[1]), index)
    right = [additive([x[cut.inner] for x in columns]) for cut in parted]
    trials = {
        Candidate("additive", 0.0): right,
        Candidate("coupled", 0.0): [wrong(fit, 0.3) for fit in right],  # the name only tells them apart
        Candidate("power", 0.0): [wrong(fit, 1.2) for fit in right],
        Candidate("compute_only", 0.0): right,
    }
    found = {each.form: each for each in judge_split(trials, right, columns, parted, index)}
    assert found["additive"].weight > 2 * found["coupled"].weight > 4 * found["power"].weight > 0
    assert found["power"].error == pytest.approx(1.2, abs=0.2)
    assert found["compute_only"].weight == 0  # knows of no split
    assert sum(each.weight for each in found.values()) == pytest.approx(1)
    if design is profiles_of:
        assert found[ISOFLOP].weight > 3 * found["coupled"].weight
        assert found[ISOFLOP].error < 0.1
    else:
        assert ISOFLOP not in found


def kaplan_loss(params: Floats, tokens: Floats) -> Floats:
    """Equation 1.5 of arXiv 2001.08361 with equal exponents, whose valleys are steep on both sides."""
    return np.asarray(3.2 * (5e8 / params + 1e10 / tokens) ** 0.1, dtype=float)


@pytest.mark.parametrize("seed", range(3))
def test_an_error_is_how_far_the_valley_was_foretold_off_whatever_its_shape(seed: int) -> None:
    """The valley of another form is not where that form, moved, meets the losses best."""
    rng = np.random.default_rng(seed)
    flops = np.repeat(np.geomspace(1e18, 3e20, 7), 11)

    def lowest(loss: Callable[[Floats, Floats], Floats], compute: Floats) -> Floats:
        x = np.linspace(np.log(1e5), np.log(1e13), 6001)
        return np.array([x[loss(np.exp(x), c / 6 / np.exp(x)).argmin()] for c in compute])

    params = np.exp(lowest(kaplan_loss, flops)) * np.tile(np.geomspace(1 / 10, 5, 11), 7)
    tokens = flops / 6 / params
    columns = [params, tokens, kaplan_loss(params, tokens) * np.exp(NOISE * rng.standard_normal(len(params)))]
    index = np.arange(len(params))
    parted = cuts(np.log(params) + np.log(tokens), index)
    below = [[x[cut.inner] for x in columns] for cut in parted]
    trials = {
        Candidate(form, 0.0): [quick_fit(x, clusters=np.arange(len(x[0])), form=form, asymptote=None) for x in below]
        for form in ("additive", "kaplan")
    }
    found = {
        each.form: each.error
        for each in judge_split(trials, trials[Candidate("additive", 0.0)], columns, parted, index)
    }
    misses: dict[str, list[float]] = {"additive": [], "kaplan": [], ISOFLOP: []}
    for k, cut in enumerate(parted):
        above = np.geomspace(flops[~cut.inner].min(), flops.max(), 3)
        true = lowest(kaplan_loss, above)
        for form in ("additive", "kaplan"):
            foretold = lowest(trials[Candidate(form, 0.0)][k].loss, above)
            misses[form].append(float(np.mean((foretold - true) ** 2)))
        profiles = isoflop(*below[k])
        foretold = np.log([profiles.at(c, 0.9)[0] for c in above])
        misses[ISOFLOP].append(float(np.mean((foretold - true) ** 2)))
    wanted = {form: np.sqrt(np.mean(squares)) for form, squares in misses.items()}
    assert wanted["additive"] > 0.3 > 0.15 > wanted[ISOFLOP]
    assert found == {form: pytest.approx(error, abs=0.05) for form, error in wanted.items()}


def test_a_law_without_a_valley_says_nothing_of_where_it_lies(rng: np.random.Generator) -> None:
    """Lowest at the end of the search, and by luck as near to the losses as the law with their valley."""
    columns = profiles_of(rng)
    index = np.arange(len(columns[0]))
    parted = cuts(np.log(columns[0]) + np.log(columns[1]), index)
    right = [additive([x[cut.inner] for x in columns]) for cut in parted]
    straight = [
        FormDraws(
            form=fit.form, centre=fit.centre, theta=fit.theta * [1, 1, 0, 1, 1], draws=fit.draws, delta=fit.delta,
            noise=fit.noise,
        )
        for fit in right
    ]  # fmt: skip
    valley = split_backtest._valley(form_law(straight[0]), [np.log(x[~parted[0].inner]) for x in columns])
    assert not valley.within
    known = split_backtest._valley(form_law(right[0]), [np.log(x[~parted[0].inner]) for x in columns])
    lucky = replace(valley, moved=replace(known.moved, rest=known.moved.rest / 2))
    told, apart = split_backtest._told([known, lucky], NOISE)
    assert told == pytest.approx(known.foretold + known.moved.shift)
    assert apart == pytest.approx(0, abs=1e-12)


def test_profiles_that_lead_astray_lose_their_weight(rng: np.random.Generator) -> None:
    """Best sizes of smaller budgets lie on another line than those of larger ones, as settings may make them."""
    params, tokens, loss = profiles_of(rng)
    flops = 6 * params * tokens
    moved = np.exp(0.5 * np.log(np.minimum(flops / 5e19, 1)))
    index = np.arange(len(params))
    parted = cuts(np.log(params) + np.log(tokens), index)
    right = [additive(profiles_of(rng)) for _ in parted]  # knows better
    astray, straight = (
        judge_split({Candidate("additive", 0.0): right}, right, columns, parted, index)[-1]
        for columns in ([params * moved, tokens / moved, loss], [params, tokens, loss])
    )
    assert (astray.form, straight.form) == (ISOFLOP, ISOFLOP)
    assert astray.error > 0.3 > 0.1 > straight.error
    assert astray.weight < 0.5 * straight.weight


def test_checkpoints_on_both_sides_of_a_cut_foretell_nothing(rng: np.random.Generator) -> None:
    columns = grid_of(rng)
    index = np.unique(columns[0], return_inverse=True)[1]  # a run of each size
    parted = cuts(np.log(columns[0]) + np.log(columns[1]), np.arange(len(index)))
    right = [additive([x[cut.inner] for x in columns]) for cut in parted]
    trials = {Candidate("additive", 0.0): right}
    assert judge_split(trials, right, columns, parted, np.arange(len(index)))
    assert judge_split(trials, right, columns, parted, index) == ()


def test_a_form_that_could_not_be_fitted_leaves_its_share_to_the_others() -> None:
    split = tuple(
        SplitBacktest(form=form, without=0.0, error=0.1, weight=weight)
        for form, weight in (("additive", 0.25), ("farseer", 0.25), (ISOFLOP, 0.5))
    )
    left = among([True, False], split)
    assert [(each.form, each.weight) for each in left] == [
        ("additive", pytest.approx(1 / 3)),
        (ISOFLOP, pytest.approx(2 / 3)),
    ]
    assert among([True, True], split[:2])[0].weight == pytest.approx(0.5)
    assert among([], ()) == ()


def test_the_law_of_profiles_is_a_loss_with_their_minima(rng: np.random.Generator) -> None:
    columns = profiles_of(rng)
    found = isoflop(*columns)
    law = ProfileLaw.of(found, wrong(additive(columns), 0.7), draws=500)  # whatever the form says of the split
    log_params = np.linspace(np.log(1e8), np.log(1e12), 4001)
    for flops in (1e19, 1e23):
        compute = np.log(flops / 6)
        losses = law.log_loss(law.draws, log_params, compute - log_params)
        size = found.at(flops, 0.9)[0]
        assert np.exp(log_params[law.central(log_params, compute - log_params).argmin()]) == pytest.approx(
            size, rel=0.005
        )
        low, high = np.quantile(log_params[losses.argmin(axis=1)], [0.05, 0.95])
        wanted = np.log(found.at(flops, 0.9)[1:])
        assert np.array([low, high]) == pytest.approx(wanted, abs=0.15 * (wanted[1] - wanted[0]))  # 500 draws
    base = form_law(law.base)(log_params, compute - log_params)
    assert law.central(log_params, compute - log_params).min() == pytest.approx(base.min(), abs=1e-6)
