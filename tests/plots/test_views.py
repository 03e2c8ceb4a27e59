"""Figures of the pages of runs, scales and laws: their numbers, and that the figures hold them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lawfit.advise.coefficients import coefficients
from lawfit.advise.draws import centres, draw_worlds
from lawfit.plots import notebook
from lawfit.plots.curves import curve_numbers, curves_figure, thinned
from lawfit.plots.decay_valley import decay_numbers
from lawfit.plots.lr_curves import lr_curves_figure, lr_curves_numbers, lr_curves_table
from lawfit.plots.parallel import BANDS, parallel_figure, parallel_numbers
from lawfit.plots.promises import promise_figure, promise_numbers, promise_table
from lawfit.plots.residuals import influence_table, residual_figure, residual_numbers
from lawfit.plots.run_keys import run_keys
from lawfit.plots.scales import scales_figure, scales_numbers
from lawfit.plots.surface import surface_figure, surface_numbers
from lawfit.records import Run, RunStatus
from lawfit.report.law_tables import changed_numbers, coefficients_table, covariance_table, formula
from tests.plots.samples import sample


def payload() -> dict[str, Any]:
    return dict(sample().fit.payload)


def run(**more: Any) -> Run:
    """A finished run; what is said replaces what it has."""
    settings = {"run_key": "r", "params": 1e6, "tokens": 1e8, "batch_tokens": 1e4, "lr": 1e-3, "loss": 3.0} | more
    return Run(status=RunStatus.FINISHED, **settings)


class TestRunKeys:
    def test_every_run_stands_behind_its_own_setting(self) -> None:
        found = run_keys(sample().observed, sample().runs)
        of = {each.run_key: each for each in sample().runs}
        for keys, lr, batch in zip(found.settings, sample().observed.log_lr, sample().observed.log_batch, strict=True):
            for key in keys:
                assert np.log([of[key].lr, of[key].batch_tokens]) == pytest.approx([lr, batch], abs=1e-6)
        named = [key for keys in (*found.settings, *found.diverged) for key in keys]
        assert sorted(named) == sorted(of)

    def test_figures_name_them(self) -> None:
        keys = run_keys(sample().observed, sample().runs)
        figure = surface_figure(surface_numbers(payload(), sample().observed, 0, keys))
        trace = next(each for each in figure.data if each.name == "run")
        assert all(key in text for key, text in zip(trace.customdata, trace.text, strict=True))


class TestScales:
    def test_sizes_are_rows_and_panels_share_their_axes(self) -> None:
        found = scales_numbers(payload(), sample().observed)
        assert (len(found.panels), found.left_out) == (6, 0)
        rows = {panel.row: panel.surface.params for panel in found.panels}
        assert list(rows.values()) == sorted({cell["params"] for cell in payload()["cells"]})
        figure = scales_figure(found)
        axes = [figure.layout[f"xaxis{n or ''}"].range for n in ("", *range(2, 7))]
        assert len(set(axes)) == 1

    def test_an_interval_holds_its_optimum(self) -> None:
        for panel in scales_numbers(payload(), sample().observed).panels:
            optimum = panel.optimum
            assert optimum.lr_low <= optimum.lr <= optimum.lr_high
            assert optimum.batch_low < optimum.batch_high

    @pytest.mark.parametrize(
        ("status", "near", "shown"),
        [("inside", 5, True), ("inside", 0, False), ("at_edge", 5, False), ("inside", None, True)],
    )
    def test_an_optimum_is_shown_where_runs_lie_near(self, status: str, near: int | None, shown: bool) -> None:
        changed = copy.deepcopy(payload())
        changed["cells"][0]["optimum"] |= {"status": status, "near": near, "edges": []}
        panel = scales_numbers(changed, sample().observed).panels[0]
        assert panel.optimum.shown is shown
        title = scales_figure(scales_numbers(changed, sample().observed)).layout.annotations[0]
        assert ("⚠" in title.text) is not shown
        assert ("none of which lies near" in title.hovertext) is (near == 0)

    def test_few_columns_wrap(self) -> None:
        assert scales_numbers(payload(), sample().observed, columns=1).columns == 1


class TestLrCurves:
    def test_a_line_for_each_batch_through_its_runs(self) -> None:
        surface = surface_numbers(payload(), sample().observed, 2)
        found = lr_curves_numbers(payload(), surface)
        assert sum(len(curve.lr) for curve in found.curves) == len(surface.lr)
        assert all(np.all(np.diff(curve.lr) > 0) for curve in found.curves)
        best = min(float(curve.loss.min()) for curve in found.curves)
        assert best == pytest.approx(surface.loss.min())
        assert len(lr_curves_table(found).rows) == len(found.curves)
        assert len(lr_curves_figure(found).data) == 2 * len(found.curves)

    def test_the_surface_is_lowest_at_the_fitted_optimum_and_passes_the_runs(self) -> None:
        surface = surface_numbers(payload(), sample().observed, 2)
        nearest = min(
            lr_curves_numbers(payload(), surface).curves,
            key=lambda curve: abs(np.log(curve.batch_tokens / surface.optimum_batch_tokens)),
        )
        line = np.interp(np.log(nearest.lr), np.log(nearest.line_lr), nearest.line_loss)
        near = nearest.loss < nearest.loss.min() * 1.01
        assert line[near] == pytest.approx(nearest.loss[near], rel=0.01)  # a share of the loss, as the window is


class TestDecay:
    def test_sweeps_that_differ_in_nothing_else(self) -> None:
        runs = [
            run(run_key=f"{k}", weight_decay=level, loss=3 + abs(k - 2) / 10) for k, level in enumerate((0, 0.1, 1))
        ]
        runs += [run(run_key="other", lr=2e-3, weight_decay=0.1), run(run_key="unsaid")]
        found = decay_numbers(runs, 1e6, 1e8)
        assert found is not None
        (curve,) = found.curves
        assert list(curve.weight_decay) == [0, 0.1, 1]
        assert list(curve.loss) == pytest.approx([3.2, 3.1, 3.0])
        figure = notebook.plot_weight_decay(runs, 1e6, 1e8)
        assert figure.layout.xaxis.ticktext[0] == "0"  # none stands beside the least one, and is called so
        assert decay_numbers(runs[:2], 1e6, 1e8) is None
        with pytest.raises(ValueError, match="no sweep of weight decay"):
            notebook.plot_weight_decay(runs[:2], 1e6, 1e8)


@pytest.mark.parametrize("quantity", ["lr", "batch_tokens"])
class TestResiduals:
    def test_a_factor_is_own_over_law(self, quantity: str) -> None:
        axis = ("lr", "batch_tokens").index(quantity)
        model = payload()["model"]
        weights = np.array([member["weight"] for member in model["members"]])
        for scale in residual_numbers(payload(), quantity).scales:
            own = np.exp(weights @ centres(model, scale.params, scale.tokens)[:, axis] / weights.sum())
            worlds = draw_worlds(model, scale.params, scale.tokens)
            assert own == pytest.approx(np.exp((worlds.centre_log_lr, worlds.centre_log_batch)[axis]))
            assert scale.own == pytest.approx(own)
            assert scale.factor == pytest.approx(scale.own / scale.law)
            assert scale.low < scale.factor < scale.high

    def test_a_size_that_was_moved_stands_out(self, quantity: str) -> None:
        moved, axis = copy.deepcopy(payload()), ("lr", "batch_tokens").index(quantity)
        size = moved["cells"][0]["params"]
        for member in moved["model"]["members"]:
            for at, (params, _) in zip(member["scales"]["at"], moved["model"]["scales"], strict=True):
                at[axis] += 1.0 * (params == size)
        before = {s.tokens: s.factor for s in residual_numbers(payload(), quantity).scales if s.params == size}
        for scale in residual_numbers(moved, quantity).scales:
            if scale.params == size:
                assert scale.factor == pytest.approx(np.e * before[scale.tokens])

    @pytest.mark.parametrize("along", ["params", "tokens"])
    def test_the_figure_has_every_scale(self, quantity: str, along: str) -> None:
        figure = residual_figure(residual_numbers(payload(), quantity), along)
        dots = [y for trace in figure.data if not trace.name.startswith("all of") for y in trace.y]
        assert sorted(dots) == pytest.approx(sorted(s.factor for s in residual_numbers(payload(), quantity).scales))

    def test_influence_is_that_of_the_certificate(self, quantity: str) -> None:
        rows = influence_table(residual_numbers(payload(), quantity)).rows
        of = "best lr" if quantity == "lr" else "best batch"
        known = [row for row in payload()["certificate"]["influence"] if row["parameter"].endswith(of)]
        assert {row[0] for row in rows} == {row["group"] for row in known}


class TestPromises:
    def test_means_are_those_of_the_scales(self) -> None:
        found = promise_numbers(payload())
        assert found is not None
        assert np.mean([scale.stated for scale in found.scales]) == pytest.approx(found.stated)
        assert np.mean([scale.realised for scale in found.scales]) == pytest.approx(found.realised)
        held = {name: sum(scale.inside[name] for scale in found.scales) for name in ("lr", "batch_tokens")}
        assert held == found.held
        assert len(promise_table(found).rows) == len(found.scales)
        assert sum(len(trace.x) for trace in promise_figure(found).data[1:-1]) == len(found.scales)

    def test_a_fit_without_them_has_no_figure(self) -> None:
        old = copy.deepcopy(payload())
        del old["backtest"]["promises"]["each"]
        assert promise_numbers(old) is None
        with pytest.raises(ValueError, match="left no size out"):
            notebook.plot_promises(replace(sample().fit, payload=old))


class TestCurves:
    @pytest.mark.parametrize("count", [1, 2, 5, 199, 200, 201, 10_000])
    def test_thinned_keeps_ends_and_spikes(self, count: int, rng: np.random.Generator) -> None:
        values = rng.normal(size=count)
        values[count // 3] = 50.0
        values[count // 2] = -50.0
        kept = thinned(values, 200)
        assert len(kept) <= 200
        assert np.all(np.diff(kept) > 0)
        assert {0, count - 1, int(values.argmax()), int(values.argmin())} <= set(kept.tolist())
        assert len(kept) == count or count > 200

    def test_says_whether_all_points_are_shown(self) -> None:
        steps = np.arange(100_000)
        logged = [
            (run(run_key="a", steps=100_000), steps, np.exp(-steps / 1e4)),
            (run(run_key="b"), steps[:5], np.ones(5)),
        ]
        found = curve_numbers(logged, "train_loss")
        assert found.logged == 100_005
        assert f"{found.shown:,} of 100,005 points" in found.words
        assert "All 5 points" in curve_numbers(logged[1:], "train_loss").words
        assert [trace.customdata[0] for trace in curves_figure(found).data] == ["a", "b"]
        with pytest.raises(ValueError, match="along 'time'"):
            curve_numbers(logged, "train_loss", "time")

    def test_tokens_count_the_batch_and_no_number_is_a_gap(self) -> None:
        logged = [(run(batch_tokens=100.0), np.array([1, 2, 3]), np.array([3.0, np.nan, 2.0]))]
        (trace,) = curves_figure(curve_numbers(logged, "loss", "tokens")).data
        assert list(trace.x) == [100, 200, 300]
        assert trace.y[1] is None


class TestParallel:
    def test_every_run_is_a_line_ranked_in_its_scale(self) -> None:
        found = parallel_numbers(sample().runs)
        assert found is not None
        assert len(found.lines) == len(sample().runs)
        assert all(
            (line.band is None) == (of.loss is None) for line, of in zip(found.lines, sample().runs, strict=True)
        )
        best: dict[tuple[float, float], float] = {}
        for of in sample().runs:
            if of.loss is not None:
                best[of.params, of.tokens] = min(of.loss, best.get((of.params, of.tokens), np.inf))
        for line, of in zip(found.lines, sample().runs, strict=True):
            assert of.loss != best[of.params, of.tokens] or line.band == 0
        counts = np.bincount([line.band for line in found.lines if line.band is not None])
        assert len(counts) == BANDS
        assert counts.max() - counts.min() <= 2 * len(best)
        inside = [height for line in found.lines for height in line.heights if height >= 0]
        assert 0 <= min(inside) <= max(inside) <= 1
        keys = {key for trace in parallel_figure(found).data for key in trace.customdata if key}
        assert keys == {each.run_key for each in sample().runs}

    def test_more_runs_than_lines_are_said(self) -> None:
        found = parallel_numbers([run(run_key=f"{k}", lr=1e-3 + k) for k in range(50)], total=80, most=10)
        assert found is not None
        assert [line.key for line in found.lines][::9] == ["0", "49"]
        assert found.words.startswith("10 of 80 runs")
        assert parallel_numbers([]) is None


class TestTables:
    def test_coefficients_are_the_mixture_of_the_choices(self) -> None:
        model = payload()["model"]
        found = coefficients(model)
        weights = np.array([member["weight"] for member in model["members"]]) / sum(
            m["weight"] for m in model["members"]
        )
        laws = np.array([member["law"] for member in model["members"]])
        draws = np.random.default_rng(0).choice(len(laws), size=200_000, p=weights)
        root = [np.linalg.cholesky(np.array(m["cov"]) + 1e-12 * np.eye(len(laws[0]))) for m in model["members"]]
        noise = np.random.default_rng(1).standard_normal((len(draws), len(laws[0])))
        worlds = np.stack([laws[k] + root[k] @ z for k, z in zip(draws[:20_000], noise, strict=False)])
        assert worlds.mean(axis=0) == pytest.approx(found.values, abs=4 * found.sd.max() / np.sqrt(20_000))
        assert worlds.std(axis=0) == pytest.approx(found.sd, rel=0.05)  # 20,000 draws tell a spread to half a percent
        assert np.diag(found.correlation) == pytest.approx(np.ones(10))
        assert len(coefficients_table(model).rows) == len(covariance_table(model).rows) == 10

    def test_the_formula_is_the_law_at_the_middle_of_the_runs(self) -> None:
        law = payload()["law"]
        assert formula(law, "lr").startswith("best learning rate = ")
        assert f"^{law['lr']['params']:+.3f}" in formula(law, "lr")
        assert "tokens x" in formula(law, "batch_tokens")

    def test_what_changed_between_fits(self) -> None:
        rows = [{"name": "lr.params", "a": -0.5, "b": -0.4}, {"name": "lr.params_low", "a": -0.6, "b": -0.5},
                {"name": "lr.params_high", "a": -0.4, "b": -0.3}, {"name": "E", "a": 1.0, "b": 1.0},
                {"name": "new", "a": None, "b": 2.0}]  # fmt: skip
        assert changed_numbers(rows).rows == (
            ("best learning rate: exponent of parameters", "-0.5 (-0.6 to -0.4)", "-0.4 (-0.5 to -0.3)", "+0.1"),
            ("E", "1", "1", "same"),
            ("new", "-", "2", "only in one"),
        )


def test_each_figure_is_one_line_in_a_notebook() -> None:
    fit, runs = sample().fit, sample().runs
    made = [
        notebook.plot_scales(fit, runs),
        notebook.plot_surface(fit, runs),
        notebook.plot_lr_curves(fit, runs, 0),
        notebook.plot_residuals(fit, "batch_tokens", "tokens"),
        notebook.plot_promises(fit),
        notebook.plot_settings(runs),
        notebook.plot_curves([(runs[0], np.arange(3), np.ones(3))]),
    ]
    assert all(len(figure.data) > 0 for figure in made)
    with pytest.raises(ValueError, match="no scale 99"):
        notebook.plot_lr_curves(fit, runs, 99)
    with pytest.raises(ValueError, match="no runs to draw"):
        notebook.plot_settings([])
