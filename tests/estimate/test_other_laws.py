"""Forms of the field on one's own runs: known laws are recovered, and what is missing is said."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lawfit.cli.fit import summary
from lawfit.errors import NotEnoughData
from lawfit.estimate.evidence import Evidence
from lawfit.estimate.lr_batch.along_batch import FORMS
from lawfit.estimate.numerics.optima import Columns, SweepOptima
from lawfit.estimate.numerics.sweeps import SweepOptimum
from lawfit.estimate.observe.observations import observe
from lawfit.estimate.other_laws import compute_laws, fit_other_laws, lr_batch_forms, max_lr, power_scheduler
from lawfit.findings import as_json, code_of, finding
from lawfit.laws.lr_batch import Power, PowerScheduler, Saturating, Surge, max_initial_lr
from lawfit.pipeline.fitting import fit_evidence
from lawfit.records import OptimumStatus, Run
from lawfit.units import format_quantity
from lawfit.words import tell
from lawfit.words.answers import OTHER_LAWS, other_law_rows
from tests.estimate.simulated import RECIPE, run, sweep

BATCHES = np.geomspace(2**14, 2**21, 8)


def optima(rows: list[tuple[float, float, float, float, float]]) -> SweepOptima:
    """Of (params, tokens, batch, lr, loss) of sweeps that show their optimum."""
    params, tokens, batch, lr, loss = (np.array(column) for column in zip(*rows, strict=True))
    return SweepOptima(
        params=params,
        tokens=tokens,
        batch_tokens=batch,
        optima=tuple(
            SweepOptimum(value=float(x), loss=float(y), status=OptimumStatus.INSIDE)
            for x, y in zip(lr, loss, strict=True)
        ),
    )


TRUE_FORMS: dict[str, tuple[str, Any]] = {
    f"{name}, {words}": (name, form)
    for words, noise in (("2e5", 2e5), ("8e5", 8e5), ("3.2e6", 3.2e6))
    for name, form in (
        ("saturating_sgd", Saturating(lr_max=0.01, noise_batch_tokens=noise)),
        ("saturating", Saturating(lr_max=0.02, noise_batch_tokens=noise, sharpness=0.7)),
        ("surge", Surge(lr_max=0.01, noise_batch_tokens=noise)),
    )
} | {f"power, {e:g}": ("power", Power(const=3e-5, exponent=e)) for e in (0.3, 0.5, 1.2)}


class TestFormsAlongTheBatch:
    def test_every_form_has_a_truth_here(self) -> None:
        assert {name for name, _ in TRUE_FORMS.values()} == set(FORMS)

    @pytest.mark.parametrize("case", TRUE_FORMS)
    def test_the_true_one_is_named_and_stored_with_its_own_numbers(self, case: str) -> None:
        """A surge with noise batches of 2e5, 8e5 and 3.2e6 was stored with 33, 35,042 and 148,774, another form's."""
        name, form = TRUE_FORMS[case]
        found = lr_batch_forms(optima([(1e8, 2e9, float(b), float(form(b)), 3.0) for b in BATCHES]))
        (cell,) = found["cells"]
        assert found["best"] == cell["best"] == name
        assert found["error"][name] < 1e-5
        assert found["stands"][name] == 1
        for number, value in vars(form).items():
            assert cell["forms"][name][number] == pytest.approx(value, rel=1e-4)
        assert set(cell["forms"]) == set(FORMS)
        if name != "power":
            assert (cell["forms"][name]["noise_batch_low"] or 0.0) <= form.noise_batch_tokens * 1.0001
            assert f"noise batch {format_quantity(form.noise_batch_tokens)} tokens" in tell(found["words"])
        else:
            assert f"exponent {form.exponent:+.2f}" in tell(found["words"])

    def test_words_tell_one_number_or_its_range(self) -> None:
        one, other = Power(const=3e-5, exponent=0.5), Power(const=3e-5, exponent=0.62)
        rows = [(1e8, 2e9, float(b), float(one(b)), 3.0) for b in BATCHES]
        assert tell(lr_batch_forms(optima(rows))["words"]).endswith("exponent +0.50")
        rows += [(2e8, 4e9, float(b), float(other(b)), 3.0) for b in BATCHES]
        assert tell(lr_batch_forms(optima(rows))["words"]).endswith("exponent +0.50 to +0.62")

    @pytest.mark.parametrize("case", TRUE_FORMS)
    def test_numbers_of_noisy_optima_are_those_of_the_form_that_wins(self, case: str) -> None:
        """Whichever wins: its stored numbers draw the curve that was fitted, and no other."""
        form = TRUE_FORMS[case][1]
        noise = 0.05 * np.random.default_rng(len(case)).standard_normal(len(BATCHES))
        lr = np.array([float(form(b)) for b in BATCHES]) * np.exp(noise)
        found = lr_batch_forms(optima([(1e8, 2e9, float(b), float(x), 3.0) for b, x in zip(BATCHES, lr, strict=True)]))
        kinds = {"power": Power, "surge": Surge}
        for each, numbers in found["cells"][0]["forms"].items():
            kind = kinds.get(each, Saturating)
            own = {field.name: numbers[field.name] for field in fields(kind)}
            residual = np.log(lr) - np.log([float(kind(**own)(b)) for b in BATCHES])
            freedom = len(BATCHES) - FORMS[each][1]
            assert np.sqrt((residual**2).sum() / freedom) == pytest.approx(numbers["residual_sd"], rel=1e-6)

    def test_four_batches_are_too_few_and_that_is_said(self) -> None:
        form = Saturating(lr_max=0.01, noise_batch_tokens=2e5)
        with pytest.raises(NotEnoughData) as caught:
            lr_batch_forms(optima([(1e8, 2e9, float(b), float(form(b)), 3.0) for b in BATCHES[:4]]))
        assert caught.value.finding == finding("laws.few_batches_inside", needed=5, most=4)

    def test_real_runs_saturate(self, shared_data: Path) -> None:
        """Twelve of fourteen scales of the Step Law grid; a power of the batch misses one left out by a third."""
        from tests.benchmarks.shared import step_law_runs

        runs = step_law_runs()
        found = fit_other_laws(observe(runs), runs)["lr_batch_forms"]
        assert found["best"] == "saturating_sgd"
        assert found["stands"]["saturating_sgd"] >= 12
        assert found["error"]["saturating_sgd"] < 0.7 * found["error"]["power"]


class TestPowerScheduler:
    LAW = PowerScheduler(factor=4.6, exponent=-0.51)  # arXiv 2408.13359, all sizes

    def rows(self, noise: float = 0.0, rng: np.random.Generator | None = None) -> list[tuple[float, ...]]:
        rows = []
        for params in (1.2e7, 3.6e7, 1.21e8):
            for tokens in (2e9, 1.6e10, 1.28e11):
                for k, batch in enumerate((65536.0, 131072.0, 262144.0, 524288.0)):
                    off = 1.0 if k < 3 else 5.0  # the fourth best batch does not count
                    jitter = 1.0 if rng is None else float(np.exp(noise * rng.standard_normal()))
                    rows.append((params, tokens, batch, float(self.LAW(batch, tokens)) * off * jitter, 3.0 + 0.01 * k))
        return rows

    def test_recovers_the_published_law_from_the_three_best_batches(self) -> None:
        found = power_scheduler(optima(self.rows()))  # type: ignore[arg-type]
        assert found["exponent"] == pytest.approx(-0.51, abs=1e-9)
        assert {round(law["factor"], 6) for law in found["by_params"].values()} == {4.6}
        assert found["cells"] == 9

    def test_interval_holds_the_truth_and_is_by_scale(self, rng: np.random.Generator) -> None:
        found = power_scheduler(optima(self.rows(0.1, rng)))  # type: ignore[arg-type]
        assert found["low"] < -0.51 < found["high"]
        assert found["high"] - found["low"] < 0.2

    def test_one_horizon_is_refused(self) -> None:
        with pytest.raises(NotEnoughData) as caught:
            power_scheduler(optima([row for row in self.rows() if row[1] == 2e9]))  # type: ignore[arg-type]
        assert code_of(caught.value.finding) == "laws.one_horizon"


class TestComputeLaws:
    def test_recovers_deepseek_from_optima_on_its_law(self) -> None:
        """0.3118 C^-0.125 and 0.292 C^0.3271 (arXiv 2401.02954), grids that hold the optimum of each scale."""
        rows = []
        for params, tokens in [(n, 20 * n * r) for n in (1e8, 3e8, 1e9) for r in (1.0, 4.0)]:
            compute = 6 * params * tokens
            lr, batch = 0.3118 * compute**-0.125, 0.2920 * compute**0.3271
            for i in range(-2, 3):
                for j in range(-2, 3):
                    rows.append((params, tokens, batch * 2.0**j, lr * 2.0**i, 3.0 + 0.01 * (i * i + j * j)))
        found = compute_laws(Columns.of(*np.array(rows).T))
        assert (found["lr"]["const"], found["lr"]["compute"]) == pytest.approx((0.3118, -0.125), rel=1e-6)
        assert (found["batch_tokens"]["const"], found["batch_tokens"]["compute"]) == pytest.approx(
            (0.2920, 0.3271), rel=1e-6
        )
        assert found["convention"].startswith("C = 6 x params x tokens")

    def test_three_scales_are_refused(self) -> None:
        steps = (-1, 0, 1)
        columns = np.array(
            [
                (n, 20 * n, 1e5 * 2.0**j, 1e-3 * 2.0**i, 3.0 + i * i + j * j)
                for n in (1e8, 3e8, 1e9)
                for i in steps
                for j in steps
            ]
        ).T
        with pytest.raises(NotEnoughData) as caught:
            compute_laws(Columns.of(*columns))
        assert caught.value.finding == finding("laws.few_compute_scales", needed=4, scales=3)


class TestLargestLearningRate:
    def runs(self, shapes: tuple[tuple[int, int], ...] = ((4, 64), (4, 128), (8, 128), (8, 256))) -> list[Run]:
        """Grids in steps of 1 %: the bracket is that narrow."""
        found = []
        for depth, width in shapes:
            limit = float(max_initial_lr(depth, width, const=0.7, exponent=0.45))
            for k in range(-5, 6):
                lr = limit * 1.01 ** (k + 0.5)
                extra: dict[str, Any] = {"n_layers": depth, "hidden_size": width}
                found.append(
                    run(
                        f"{depth} {width} {k}",
                        lr,
                        1e5,
                        3.0 if lr < limit else None,
                        extra=extra,
                        params=1e6 * depth * width,
                    )
                )
        return found

    def test_recovers_the_law(self) -> None:
        found = max_lr(self.runs())
        assert (found["const"], found["exponent"]) == pytest.approx((0.7, 0.45), rel=0.02)
        assert [shape["brackets"] for shape in found["shapes"]] == [1, 1, 1, 1]

    def test_what_is_missing_is_said(self) -> None:
        with pytest.raises(NotEnoughData) as caught:
            max_lr([run("a", 1e-3, 1e5, 3.0)])
        assert caught.value.finding == finding("laws.no_shape", depth="layers", width="width")
        with pytest.raises(NotEnoughData) as caught:
            max_lr(self.runs(((4, 64),)))
        assert caught.value.finding == finding("laws.few_diverged", diverged=6, shapes=1)


def test_what_is_missing_stands_in_fit_and_in_json() -> None:
    fit = fit_evidence(
        RECIPE, Evidence(runs=tuple(run(f"{i}", 1e-3 * 2**i, 1e5, 3.0 + 0.01 * i * i) for i in range(4)))
    ).fit
    assert fit is not None
    assert set(json.loads(json.dumps(fit.payload["other_laws"], allow_nan=False))) == set(OTHER_LAWS)
    rows = dict(other_law_rows(fit.payload))
    assert len(rows) == len(OTHER_LAWS)
    assert all(
        words.startswith(("not from these runs: it takes", "not from these runs: no run says"))
        for words in rows.values()
    )
    assert any("Other laws of the field" in str(getattr(part, "renderable", part)) for part in summary(fit))


def test_what_is_found_is_words_and_json() -> None:
    runs = sweep(lr_steps=9, batch_steps=6).runs
    found = fit_other_laws(observe(runs), runs)
    found = as_json(found)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    rows = dict(other_law_rows({"other_laws": found}))
    assert "% off at a batch left out" in rows["lr along batch"]
    assert rows["lr over batch"].startswith("lr / batch moves as tokens^")
    assert " x C^" in rows["By compute"]
    assert rows["Largest lr"].startswith("not from these runs: no run says its depth and width")
