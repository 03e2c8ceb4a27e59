"""The loss law of a recipe: which forms answer, what the asymptote does to it, and runs that say more than N and D."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lawfit.ask import Target
from lawfit.errors import NotEnoughData
from lawfit.estimate.loss import law as module
from lawfit.estimate.loss.ensemble import LossEnsemble
from lawfit.estimate.loss.law import loss_law
from lawfit.estimate.loss.third import fit_further_forms, ordinary_runs
from lawfit.estimate.numerics.certificate import Certificate
from lawfit.findings import code_of, finding
from lawfit.kinds.expected_loss import choice_lines, expected_loss
from lawfit.laws.loss import CHINCHILLA, DATA_CONSTRAINED
from lawfit.laws.published import published_law
from lawfit.records import Fit, FitStatus, Run, RunStatus
from lawfit.words import tell

TARGET = Target(params=2e10, tokens=4e11)


def run(params: float, tokens: float, loss: float, **extra: Any) -> Run:
    return Run(
        run_key=f"{params:.4g}-{tokens:.4g}-{extra}",
        params=params,
        tokens=tokens,
        batch_tokens=65536.0,
        lr=1e-3,
        status=RunStatus.FINISHED,
        loss=loss,
        extra=extra,
    )


def grid(rng: np.random.Generator) -> list[Run]:
    """Six sizes by four horizons of the Chinchilla law."""
    return [
        run(n, n * ratio, float(CHINCHILLA.loss(n, n * ratio) * np.exp(0.001 * rng.standard_normal())))
        for n in np.geomspace(1e8, 4e9, 6)
        for ratio in (5.0, 15.0, 50.0, 150.0)
    ]


def stored(payload: Mapping[str, Any]) -> Fit:
    return Fit(
        id="f1",
        recipe_key="r",
        recipe_name="r",
        kind="loss",
        status=FitStatus.OK,
        data_hash="",
        code_version="",
        created_at="",
        options={},
        exclusions={},
        payload=payload,
    )


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LOSS_RESAMPLES", 100)
        yield


@pytest.fixture(scope="module")
def payload(few_resamples: None) -> Mapping[str, Any]:
    rng = np.random.default_rng(3)
    return loss_law(grid(rng), rng).payload


def test_says_which_forms_were_kept_and_which_not_and_why(payload: Mapping[str, Any]) -> None:
    ensemble = LossEnsemble.from_json(payload["forms"])
    kept = {fit.form for fit in ensemble.fits}
    assert "additive" in kept
    null = next(b for b in ensemble.backtests if b.form == "compute_only")
    assert null.rejected
    assert code_of(null.reason) == "loss.worse_form"
    (forms, lacking) = payload["lines"]
    assert code_of(forms) == "loss.forms"
    assert "compute_only" in {row["form"] for row in forms.data["rejected"]}
    assert "compute alone" in tell(forms).split("rejected: ")[1]
    unsaid = {row["data"]["form"]: row["data"]["why"]["data"]["columns"] for row in lacking.data["forms"]}
    assert unsaid["data_constrained"] == ["unique_tokens", "epochs"]
    assert unsaid["moe_sparsity"] == ["active_fraction", "sparsity"]


def test_the_answer_holds_the_truth_and_says_what_moves_it(payload: Mapping[str, Any]) -> None:
    answer, decades = expected_loss(stored(payload), TARGET)
    assert answer["low"] < float(CHINCHILLA.loss(TARGET.params, TARGET.tokens)) < answer["high"]
    assert answer["run_low"] < answer["low"]
    assert decades["flops"] == pytest.approx(np.log10(8e21 / (4e9 * 6e11)), rel=1e-3)
    assert {case["case"] for case in answer["asymptote"]} == {"free", "lent", "lower", "higher"}
    assert [case["case"] for case in answer["asymptote"] if case["used"]] == ["free"]
    lower, higher = (next(c for c in answer["asymptote"] if c["case"] == name) for name in ("lower", "higher"))
    assert lower["asymptote"] == pytest.approx(0.9 / 1.1 * higher["asymptote"], rel=1e-3)
    assert lower["value"] < higher["value"]
    moved = answer["choice"]["moves"]
    assert moved["asymptote"] == pytest.approx((higher["value"] - lower["value"]) / answer["value"], rel=0.5)
    _, asymptotes, moves = choice_lines(answer)
    assert (asymptotes.code, asymptotes.data["left_out"]) == ("advice.asymptotes", False)
    assert asymptotes.data["cases"][0]["case"] == "free"
    assert (moves.code, moves.data["choice"]) == ("advice.moves_loss", max(moved, key=moved.__getitem__))


def test_too_few_scales_are_one_form_and_say_so(rng: np.random.Generator) -> None:
    payload = loss_law(grid(rng)[::3], rng).payload
    assert payload["forms"] is None
    assert code_of(payload["forms_missing"]) == "loss.few_budgets"
    assert payload["forms_missing"].data["scales"] == 8
    answer, _ = expected_loss(stored(payload), TARGET)
    assert answer["forms"] == []
    assert answer["law"]["form"] == "additive"
    assert answer["low"] < answer["value"] < answer["high"]


def test_repeated_tokens_have_a_form_of_their_own(rng: np.random.Generator) -> None:
    def loss(n: float, d: float, passes: float) -> float:
        return float(DATA_CONSTRAINED.loss(n, d, d / passes) * np.exp(0.001 * rng.standard_normal()))

    fresh = [
        run(n, n * ratio, loss(n, n * ratio, 1.0), unique_tokens=n * ratio)
        for n in np.geomspace(1e8, 2e9, 5)
        for ratio in (10.0, 30.0, 90.0)
    ]
    again = [
        run(n, 40 * n, loss(n, 40 * n, passes), epochs=passes)
        for n in np.geomspace(1e8, 2e9, 5)
        for passes in (3.0, 10.0, 30.0, 60.0)
    ]
    payload = loss_law([*fresh, *again], rng).payload
    assert len(payload["points"]) == len(fresh)
    assert finding("loss.repeats_left_out", runs=20) in payload["sentences"]
    assert "data_constrained" not in payload["not_fitted"]
    assert "moe_sparsity" in payload["not_fitted"]
    worth = payload["further_forms"]["data_constrained"]["fit"]["parameters"]["tokens_scale"]
    assert worth["low"] < DATA_CONSTRAINED.tokens_scale < worth["high"]
    (said,) = expected_loss(stored(payload), TARGET)[0]["further_forms"]
    fresh_loss, repeated = said["value"]
    assert fresh_loss < repeated < 1.05 * fresh_loss
    # extrapolated hundredfold in compute
    wanted = np.log(DATA_CONSTRAINED.loss(TARGET.params, TARGET.tokens, TARGET.tokens / 4))
    assert np.log(repeated) == pytest.approx(float(wanted), abs=0.02)


def test_runs_with_fewer_active_experts_do_not_enter_the_additive_law(rng: np.random.Generator) -> None:
    dense = [run(r.params, r.tokens, r.loss or 0.0, sparsity=0.0) for r in grid(rng)]
    few = [run(r.params, r.tokens, 0.97 * (r.loss or 0.0), sparsity=0.75) for r in dense[::12]]
    kept, (note,) = ordinary_runs([*dense, *few])
    assert kept == dense
    assert note == finding("loss.others_left_out", runs=2, form="moe_sparsity", usual=1.0)
    alike = finding(
        "loss.no_third", form="moe_sparsity", why=finding("loss.third_alike", form="moe_sparsity", needed=3)
    )
    assert fit_further_forms([*dense, *few], rng)[1]["moe_sparsity"] == alike
    assert tell(alike) == "sparsity of experts: fewer than 3 scales have another share of active experts than most runs"


@pytest.mark.soak
def test_what_active_experts_are_worth_is_printed_with_numbers_and_intervals(rng: np.random.Generator) -> None:
    law = published_law("moe_sparsity")
    runs = []
    for n, ratio, share in itertools.product(np.geomspace(1e8, 1e10, 6), (10.0, 40.0, 160.0), (1.0, 0.5, 0.25, 0.1)):
        loss = float(law.evaluate("loss", params=n, tokens=n * ratio, active_fraction=share))
        noisy = loss * float(np.exp(0.001 * rng.standard_normal()))
        runs.append(run(n, n * ratio, noisy, sparsity=1 - share))
    found = fit_further_forms(runs, rng)[0]["moe_sparsity"]
    assert code_of(found["words"]) == "loss.further_form"
    assert found["words"].data["scales"] == 72
    for name, number in found["fit"]["parameters"].items():
        said = f"{name.rstrip('_')} {number['value']:.3g} ({number['low']:.3g} to {number['high']:.3g}"
        assert said in tell(found["words"])
    (line,) = (each for each in loss_law(runs, rng).payload["lines"] if code_of(each) == "loss.further_form")
    by_name = {row["name"]: row["value"] for row in line.data["parameters"]}  # a fit with resamples of its own
    assert by_name["lambda_"] < 0
    assert ", lambda -" in tell(line)


@pytest.mark.parametrize("count", [1, 12])
def test_runs_that_all_repeat_their_tokens_are_said_to_do_so(count: int) -> None:
    """Not that there is no usable run: they were used for the learning rate."""
    runs = [run(1e7, 1e9 * (k + 1), 3.0 - 0.01 * k, epochs=7) for k in range(count)]
    with pytest.raises(NotEnoughData) as caught:
        loss_law(runs, np.random.default_rng(0))
    repeats = finding("loss.repeats_left_out", runs=count)
    assert caught.value.finding == finding("loss.none_ordinary", left_out=[repeats])


def test_an_asymptote_is_not_lent_to_losses_that_are_all_below_it(rng: np.random.Generator) -> None:
    """Bits per byte, or the squared error of another task: a law that the runs do not carry is missing, with why."""
    few = [replace(one, loss=0.3 * (one.loss or 0.0)) for one in grid(rng)[:6]]
    with pytest.raises(NotEnoughData) as caught:
        loss_law(few, rng)
    assert code_of(caught.value.finding) == "loss.below_asymptote"
    assert caught.value.finding.data["asymptote"] == pytest.approx(1.8, abs=0.05)


@pytest.mark.parametrize(
    ("without", "status"),
    [
        pytest.param((), FitStatus.SPARSE, id="its asymptote is lent then"),
        pytest.param(("chinchilla", "epoch", "data_constrained"), FitStatus.UNCERTIFIED, id="nobody lends one"),
    ],
)
@pytest.mark.soak
def test_the_status_hears_what_resamples_say(
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    without: tuple[str, ...],
    status: FitStatus,
) -> None:
    """Without resamples the runs carry the law; half the resamples of the free law then end at another minimum."""

    def shaken(*points: Any, resamples: int, **given: Any) -> Any:
        fit = module_fit(*points, resamples=min(resamples, 20), **given)
        if not resamples or given.get("asymptote") is not None or not fit.certificate.certified:
            return fit
        shaky = ("the global and the warm search disagree in 150 of 300 resamples",)
        return replace(fit, certificate=Certificate(**{**vars(fit.certificate), "reasons": shaky}))

    module_fit = module.fit_loss
    monkeypatch.setattr(module, "fit_loss", shaken)
    found = loss_law(grid(rng), rng, without)
    assert found.status is status
    assert (code_of(found.missing) == "loss.not_lent_to") == (status is FitStatus.UNCERTIFIED)
    assert ("disagree in 150 of 300" in tell(found.missing)) == (status is FitStatus.UNCERTIFIED)
