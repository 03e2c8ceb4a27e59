"""The critical batch from a store to an answer: who answers, its certificate, the noise scale, and when it is stale."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lawfit import pipeline
from lawfit.ask import Target
from lawfit.cli import output
from lawfit.cli.fit import summary
from lawfit.errors import NoFit, NotEnoughData
from lawfit.estimate.critical import analysis as critical_analysis
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.findings import code_of
from lawfit.laws.critical_batch import DOUBLING, ZHANG, Definition, convert
from lawfit.pipeline.fitting import LR_BATCH
from lawfit.records import Curve, FitStatus, Recipe, Run, RunStatus, Sweep, TargetSweep
from lawfit.report.page import report_html
from lawfit.simulate import FurtherTruth, Truth, simulate_targets
from lawfit.storage import Store
from lawfit.words.parts import part_words

TARGET = Target(params=4e8, tokens=2e10, seq_len=2048)
QUICK = FitOptions(backtest=False)
STEPS = Recipe(name="steps", optimizer="adamw", data="c4", schedule="constant")


def with_targets(store: Store, sizes: tuple[float, ...] = (2e7, 5e7, 1e8, 2e8)) -> None:
    rows = simulate_targets(Truth(), FurtherTruth(), [(n, 20 * n) for n in sizes], rng=np.random.default_rng(3))
    store.put_targets([TargetSweep(recipe=STEPS, rows=rows)], named=True)


@pytest.mark.one_database
def test_certificates_and_shares_are_stored_and_shown(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with_targets(store)
    fit = pipeline.refit(store)
    route = fit.payload["routes"][fit.payload["route"]]
    assert fit.status is FitStatus.OK
    assert all(curve["certificate"]["certified"] for curve in route["measured"])
    report = route["certificates"]["tokens"]
    assert (report["certified"], report["clusters"]) == (True, 4)
    assert report["influence"][0]["group"].endswith("params")
    assert report["condition_number"] < 10
    assert sum(route["shares"].values()) == pytest.approx(1.0)
    assert {"answer", "tokens", "params"} <= set(route["left_out"])
    output.show(*summary(fit))
    shown = " ".join(capsys.readouterr().out.split())
    assert "the two grew together" in shown
    assert "the largest size, 200M parameters" in shown
    assert "certified; 4 of 4 curves certified, 100% of starts agree" in shown
    answer = pipeline.recommend(store, None, TARGET)
    assert answer["critical_batch"]["shares"] == pytest.approx(route["shares"], abs=1e-4)
    page = report_html(fit, answer, store.runs(fit.recipe_key), pipeline.laws_of(store, fit))
    assert "Largest size" in page


@pytest.mark.one_database
def test_it_is_stated_by_zhangs_definition_too(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Law and exponent, in fit, answer and page: a third to a quarter of the doubling batch (arXiv 2410.21676)."""
    with_targets(store)
    fit = pipeline.refit(store)
    answer = pipeline.recommend(store, None, TARGET)
    own, also = answer["critical_batch"], answer["critical_batch"]["restated"]
    assert also["definition"] == ZHANG.to_json()
    assert also["low"] < float(convert(own["value"], DOUBLING, ZHANG)) < also["high"]
    assert also["law"]["exponent_low"] < also["law"]["exponent"] < also["law"]["exponent_high"]
    assert also["law"]["exponent"] < own["law"]["exponent"]
    output.show(*summary(fit))
    shown = " ".join(capsys.readouterr().out.split())
    assert "by Zhang's definition: " in shown
    assert f"moving as tokens^{also['law']['exponent']:+.2f} (" in shown
    words = part_words(answer, "critical_batch")
    assert "by the definition of 20 % more steps than linear scaling from a batch of 131,072 tokens" in words
    page = report_html(fit, answer, store.runs(fit.recipe_key), pipeline.laws_of(store, fit))
    assert "by the definition of 20 % more steps" in page


@pytest.mark.one_database
def test_it_is_stated_by_the_definition_that_was_asked_for(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Another reference batch, for batches that never reach Zhang's; and it is part of the fit's identity."""
    with_targets(store)
    usual = pipeline.refit(store)
    fit = pipeline.refit(store, critical_definition="0.5@16x1024")
    own = Definition(fraction=0.5, reference_batch_tokens=16384.0)
    assert fit.payload["restated"]["definition"] == own.to_json()
    assert fit.id != usual.id
    assert pipeline.refit(store, critical_definition="zhang").id == usual.id
    for one, other in zip(
        fit.payload["routes"][fit.payload["route"]]["measured"], fit.payload["restated"]["measured"], strict=True
    ):
        assert other["value_tokens"] == pytest.approx(float(convert(one["value_tokens"], DOUBLING, own)), rel=1e-6)
    output.show(*summary(fit))
    assert "by the definition that was asked for: " in " ".join(capsys.readouterr().out.split())
    answer = pipeline.recommend(store, None, TARGET)["critical_batch"]["restated"]  # the newest answers
    assert answer["definition"] == usual.payload["restated"]["definition"]
    with pytest.raises(ValueError, match="'mine' is no definition of a critical batch: doubling, zhang, or"):
        pipeline.refit(store, critical_definition="mine")


@pytest.mark.one_database
def test_an_uncertified_one_is_stored_and_does_not_answer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(critical_analysis, "_level_reasons", lambda _report: ("its level is open",))
    with_targets(store, sizes=(2e7, 5e7))  # two sizes: the exponent is lent
    fit = pipeline.refit(store)
    assert (fit.status, fit.payload["reasons"]) == (FitStatus.UNCERTIFIED, ["its level is open"])
    with pytest.raises(NoFit, match="no stored usable fit"):
        pipeline.recommend(store, None, TARGET)


@pytest.mark.one_database
def test_batches_that_bend_nothing_say_so(store: Store) -> None:
    """Batches far below the critical one, noisy: the curve hardly bends."""
    rng = np.random.default_rng(1)
    batches = 1e3 * 2.0 ** np.arange(6)
    sizes = {5e7: 1e9, 1e8: 2e9}
    truth = [(n, d, b, d / 3e7 * (1 + 3e7 / b)) for n, d in sizes.items() for b in batches]
    rows = simulate_targets(Truth(), FurtherTruth(), [(n, sizes[n]) for n in sizes], rng=rng)[: len(truth)]
    noisy = [
        replace(row, params=n, batch_tokens=b, steps=round(s * float(np.exp(0.05 * rng.standard_normal()))))
        for row, (n, _, b, s) in zip(rows, truth, strict=True)
    ]
    store.put_targets([TargetSweep(recipe=STEPS, rows=tuple(noisy))], named=True)
    with pytest.raises(NotEnoughData, match="no critical batch is closed on both sides") as caught:
        pipeline.refit(store)
    assert code_of(caught.value.finding) == "pipeline.only_targets"


def constant_runs(store: Store, *, table: bool) -> dict[str, Any]:
    """Curves at constant rates of two sizes whose gradient noise scale is a quarter of the critical batch."""
    recipe = replace(STEPS, name="curves")
    runs, curves = [], []
    rng = np.random.default_rng(0)
    for params, critical in ((1e6, 8e4), (4e6, 1.6e5)):
        noise = critical / 4
        for batch in 5e3 * 2.0 ** np.arange(8):
            for lr in (0.5, 1.0, 2.0):
                key = f"{params:g}-{batch:g}-{lr:g}"
                steps = np.unique(np.geomspace(10, 1e8 / batch, 40).round())
                waste = 1.0 + 0.1 * abs(np.log2(lr))
                loss = 1.5 + 20.0 * (steps * batch / (1 + batch / critical) / waste) ** -0.15
                extra = {"noise_scale_tokens": noise * float(np.exp(0.05 * rng.standard_normal()))} if table else {}
                runs.append(
                    Run(
                        run_key=key,
                        params=params,
                        tokens=1e8,
                        batch_tokens=float(batch),
                        lr=0.01 * lr,
                        loss=float(loss[-1]),
                        status=RunStatus.FINISHED,
                        extra=extra,
                    )
                )
                at = tuple(int(s) for s in steps)
                curves.append(Curve(run_key=key, metric="validation_loss", steps=at, numbers=tuple(loss.tolist())))
                for metric, times in (("grad_sq", 1), ("grad_sq_double", 2)):
                    squares = 1e-3 * (1 + noise / (times * batch)) * np.exp(0.002 * rng.standard_normal(len(at)))
                    curves.append(Curve(run_key=key, metric=metric, steps=at, numbers=tuple(squares.tolist())))
    store.put_sweeps([Sweep(recipe=recipe, runs=tuple(runs))])
    store.put_curves(recipe.key, curves)
    found = pipeline.refit(store, recipe.name, options=QUICK)
    return pipeline.recommend(store, recipe.name, Target(params=4e6, tokens=5e7), fit_id=found.id)


@pytest.mark.parametrize("table", [True, False], ids=["from the table", "from the curves"])
@pytest.mark.one_database
def test_the_noise_scale_stands_beside_it(store: Store, table: bool) -> None:
    answer = constant_runs(store, table=table)
    said = answer["critical_batch"]
    assert said["value"] == pytest.approx(1.6e5, rel=0.3)
    factor = said["noise_scale"]["factor"]
    assert factor["low"] < 4.0 < factor["high"]
    assert factor["value"] == pytest.approx(4.0, rel=0.3)
    assert "times the gradient noise scale" in part_words(answer, "critical_batch")


def test_new_curves_and_targets_make_a_fit_stale(store: Store) -> None:
    """The notice looked at runs only."""
    constant_runs(store, table=True)
    fit = store.latest_fit(store.recipe("curves").key, LR_BATCH)
    assert not pipeline.runs_changed_since(store, fit.id)
    run = store.runs(fit.recipe_key)[0]
    store.append_curve(fit.recipe_key, run.run_key, "validation_loss", [10**9], [1.6])
    assert pipeline.runs_changed_since(store, fit.id)
    again = pipeline.refit(store, "curves", options=QUICK)
    assert not pipeline.runs_changed_since(store, again.id)
    rows = simulate_targets(Truth(), FurtherTruth(), [(1e6, 2e7)], rng=np.random.default_rng(0))
    store.put_targets([TargetSweep(recipe=store.recipe("curves"), rows=rows)], named=True)
    assert pipeline.runs_changed_since(store, again.id)
