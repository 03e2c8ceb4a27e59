"""The examination of a fit: each finding on data where the right answer is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import statsmodels.api as sm

from lawfit.estimate.numerics.certificate import (
    Certificate,
    LackOfFit,
    NeededRun,
    Precision,
    Search,
    certificate,
    condition_number,
    influences,
    lack_of_fit,
    needed_runs,
    score_covariance,
    wandering,
    weak_parameters,
)
from lawfit.findings import Finding, code_of, finding
from lawfit.words import tell

GOOD = Search(starts=8, agreeing=8, spread=1e-6, gradient_norm=1e-7, converged=True, resamples=100,
              resamples_converged=100, resamples_agreeing=100)  # fmt: skip


def examine(search: Search = GOOD, **changes: object) -> Certificate:
    given: dict[str, object] = {
        "search": search,
        "structure": LackOfFit(p_value=0.5, column="x^2", size=1e-4),
        "influence": (),
        "rows": 50,
        "clusters": 50,
    }
    known: dict[str, object] = {
        "names": ("a", "b"),
        "information": np.eye(2),
        "relative_sd": np.array([0.1, 0.1]),
        "at_bound": np.array([False, False]),
        "weak": (),
        "runs": (),
    }
    known |= {name: changes.pop(name) for name in known.keys() & changes.keys()}
    precision = Precision(**known)  # type: ignore[arg-type]
    return certificate(precision=precision, **{**given, **changes})  # type: ignore[arg-type]


class TestCondition:
    def test_does_not_depend_on_units(self, rng: np.random.Generator) -> None:
        x = rng.standard_normal((50, 3))
        scaled = x * [1.0, 1e6, 1e-9]
        assert condition_number(scaled.T @ scaled) == pytest.approx(condition_number(x.T @ x), rel=1e-6)

    def test_is_infinite_for_columns_that_repeat(self, rng: np.random.Generator) -> None:
        x = rng.standard_normal((50, 2))
        x = np.column_stack([x, x[:, 0]])
        assert condition_number(x.T @ x) > 1e15
        assert condition_number(np.zeros((2, 2))) == np.inf


def test_score_covariance_is_that_of_statsmodels(rng: np.random.Generator) -> None:
    x = np.column_stack([np.ones(80), rng.standard_normal(80)])
    groups = np.repeat(np.arange(16), 5)
    y = x @ [1, 2] + rng.standard_normal(16)[groups] + rng.standard_normal(80)
    fit = sm.OLS(y, x).fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False})
    ours = score_covariance(x.T @ x, x * fit.resid[:, None], groups)
    assert ours == pytest.approx(np.asarray(fit.cov_params()) * 16 / 15, rel=1e-9)


class TestWeakness:
    def test_by_standard_error_or_bound(self) -> None:
        weak = weak_parameters(("a", "b", "c"), np.array([0.1, 0.6, 0.1]), np.array([False, False, True]))
        assert weak == ("b", "c")

    def test_starts_that_stop_elsewhere_in_a_valley(self) -> None:
        theta = np.array([[1.0, 0.3], [1.01, 0.9], [5.0, 0.3]])
        loose = wandering(theta, np.array([0.0, 0.1, 50.0]), 0, np.array([1.0, 0.3]))
        assert loose.tolist() == [False, True]  # the third start is simply worse

    def test_the_run_off_the_line_is_asked_for(self) -> None:
        x = np.linspace(-2, 2, 30)
        jacobian = np.column_stack([np.ones(30), x, x])  # slopes of two inputs that always move together
        candidates = [{"x": a, "z": b} for a in (-2.0, 0.0, 2.0) for b in (-2.0, 0.0, 2.0)]
        effect = np.array([[1, c["x"], c["z"]] for c in candidates]) / 0.01
        runs = needed_runs(
            ("level", "x", "z"), ("x", "z"), jacobian.T @ jacobian / 0.01**2, np.ones(3), candidates, effect
        )
        assert len(runs) == 1
        assert runs[0].inputs in ({"x": 2.0, "z": -2.0}, {"x": -2.0, "z": 2.0})
        assert runs[0].sd > 1 > 0.01 > runs[0].sd_with_run

    def test_nothing_is_asked_for_when_all_is_known(self) -> None:
        assert needed_runs(("a",), (), np.eye(1), np.ones(1), [{"x": 1.0}], np.ones((1, 1))) == ()


class TestLackOfFit:
    def columns(self, x: np.ndarray) -> dict[str, np.ndarray]:
        return {"x^2": x**2, "x^3": x**3}

    def test_p_values_are_uniform_without_structure(self, rng: np.random.Generator) -> None:
        x = rng.uniform(-1, 1, 100)
        design = np.column_stack([np.ones(100), x])
        basis = design @ np.linalg.pinv(design)
        found = []
        for _ in range(400):
            noise = rng.standard_normal(100)
            tested = lack_of_fit(noise - basis @ noise, 1.0, design, self.columns(x), np.arange(100))
            assert tested is not None
            found.append(tested.p_value < 0.1)
        assert np.mean(found) == pytest.approx(0.1, abs=3.5 * np.sqrt(0.09 / 400))

    def test_clusters_are_allowed_for(self, rng: np.random.Generator) -> None:
        groups = np.repeat(np.arange(25), 10)
        x = np.linspace(-1, 1, 25)[groups]
        design = np.column_stack([np.ones(250), x])
        basis = design @ np.linalg.pinv(design)
        by_row, by_cluster = [], []
        for _ in range(200):
            noise = rng.standard_normal(25)[groups] + 0.1 * rng.standard_normal(250)
            residual = noise - basis @ noise
            for index, found in ((np.arange(250), by_row), (groups, by_cluster)):
                tested = lack_of_fit(residual, 1.0, design, self.columns(x), index)
                assert tested is not None
                found.append(tested.p_value < 0.05)
        assert np.mean(by_row) > 0.4  # rows as if independent: structure everywhere
        assert np.mean(by_cluster) < 0.12

    def test_curvature_is_found_with_its_size(self, rng: np.random.Generator) -> None:
        x = rng.uniform(-1, 1, 300)
        design = np.column_stack([np.ones(300), x])
        y = 0.02 * (x**2) + 0.005 * rng.standard_normal(300)
        residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
        tested = lack_of_fit(residual, 1.0, design, self.columns(x), np.arange(300))
        assert tested is not None
        assert tested.p_value < 1e-6
        assert tested.column == "x^2"
        assert tested.size == pytest.approx(0.02 * np.std(x**2), rel=0.15)  # three standard errors

    def test_too_few_clusters_are_no_test(self) -> None:
        x = np.linspace(-1, 1, 40)
        design = np.column_stack([np.ones(40), x])
        assert lack_of_fit(x * 0, 1.0, design, self.columns(x), np.repeat(np.arange(4), 10)) is None


def test_influence_orders_groups_and_shows_logs_as_values() -> None:
    found = influences(
        ("A", "alpha"),
        np.array([0.0, 0.3]),
        np.array([0.1, 0.01]),
        {"small": (3, np.array([0.0, 0.31])), "large": (4, np.array([0.5, 0.3]))},
        np.array([True, False]),
    )
    assert [i.group for i in found] == ["large", "small"]
    assert (found[0].parameter, found[0].value) == ("A", 1.0)
    assert found[0].value_without == pytest.approx(np.exp(0.5))
    assert found[1].shift == pytest.approx(1.0)


class TestVerdict:
    def test_nothing_against_it(self) -> None:
        assert examine().certified
        assert examine().warnings == ()

    @pytest.mark.parametrize(
        ("search", "changes", "reason"),
        [
            ({"converged": False, "gradient_norm": 0.4}, {}, finding("numerics.not_converged", gradient_norm=0.4)),
            ({"agreeing": 1}, {}, finding("numerics.few_starts", agreeing=1, starts=8)),
            ({"resamples_agreeing": 50}, {}, finding("numerics.searches_apart", apart=50, resamples=100)),
            (
                {"resamples_converged": 50},
                {},
                finding("numerics.resamples_not_converged", missing=50, resamples=100),
            ),
            ({}, {"weak": ("b",)}, finding("numerics.open", parameters=["b"], at_bound=[], runs=[])),
            ({}, {"clusters": 2}, finding("numerics.no_intervals", clusters=2, parameters=2)),
        ],
        ids=["not converged", "one start", "resamples disagree", "resamples run on", "weak", "clusters"],
    )
    def test_reasons(self, search: dict[str, object], changes: dict[str, object], reason: Finding) -> None:
        found = examine(Search(**{**GOOD.__dict__, **search}), **changes)  # type: ignore[arg-type]
        assert not found.certified
        assert found.reasons[0] == reason

    def test_the_needed_run_is_in_the_reason(self) -> None:
        runs = [
            NeededRun(inputs={"params": 1e9, "tokens": at}, parameter="b", sd=4.0, sd_with_run=0.1)
            for at in (5e9, 6e9, 7e9)
        ]
        (reason,) = examine(weak=("b",), at_bound=np.array([False, True]), runs=runs).reasons
        assert reason.data["runs"][0]["inputs"] == {"params": 1e9, "tokens": 5e9}
        assert tell(reason) == (
            "the runs do not determine b (b ended on the bound); one run at params 1e+09, tokens 5e+09 would help "
            "most, then params 1e+09, tokens 6e+09 and params 1e+09, tokens 7e+09: relative standard "
            "error of b 0.1 with them"
        )

    def test_structure_and_bending_scales_are_warnings(self) -> None:
        bends = influences(
            ("a", "b"), np.zeros(2), np.ones(2), {"params 1e9": (5, np.array([0, 4.0]))}, np.zeros(2, bool)
        )
        found = examine(structure=LackOfFit(p_value=1e-5, column="x^2", size=3e-3), influence=bends, clusters=8)
        assert found.certified
        assert [code_of(each) for each in found.warnings[:2]] == ["numerics.structure", "numerics.bends"]
        assert [found.warnings[0].data["column"], found.warnings[1].data["group"]] == ["x^2", "params 1e9"]
        assert found.warnings[2] == finding("numerics.rough_intervals", clusters=8)

    def test_json_round_trip(self) -> None:
        run = NeededRun(inputs={"params": 1e9}, parameter="b", sd=4.0, sd_with_run=0.1)
        found = examine(weak=("b",), runs=(run,))
        assert Certificate.from_json(json.loads(json.dumps(found.to_json()))) == found
