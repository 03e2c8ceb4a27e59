"""Sizes and scales of a fit: what is said of them, in the same words wherever an answer is shown."""

from __future__ import annotations

import copy
import json
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lawfit
from lawfit.advise.choices import choices_at
from lawfit.advise.prediction import recommend
from lawfit.advise.sizes import sizes_of
from lawfit.ask import Target
from lawfit.cli import output
from lawfit.cli.card import card
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.findings import Finding, code_of, finding
from lawfit.notebook import Answer
from lawfit.pipeline import answering
from lawfit.report.page import report_html
from lawfit.words import tell, told
from tests.estimate.simulated import NINE, RECIPE, fit_of, nine_fit, sweep
from tests.plots.samples import sample

FAR = (1e9, 3e10)  # beyond every size of the nine


def payload(**changes: Any) -> dict[str, Any]:
    """What a fit of four sizes keeps of them."""
    cells = [{"params": n, "optimum": {"status": "inside"}} for n in (1e7, 2e7, 4e7, 8e7) for _ in range(2)]
    return {
        "spread": {
            "sizes": 4,
            "scales": 8,
            "size_sd": {"lr": np.log(1.2), "batch_tokens": np.log(1.1)},
            "scale_sd": {"lr": np.log(1.05), "batch_tokens": np.log(1.04)},
        },
        "cells": cells,
        "certificate": {"influence": [influence()]},
        "backtest": {"promises": promises()},
        **changes,
    }


def influence(**changes: Any) -> dict[str, Any]:
    said = {"group": "20M at all horizons", "parameter": "exponent of parameters in the best lr"}
    return {**said, "value": -0.5, "value_without": -0.65, "shift": -1.4, **changes}


def promises(**changes: Any) -> dict[str, Any]:
    return {
        "scales": 8,
        "sizes": 4,
        "level": 0.9,
        "inside": {"lr": 7, "batch_tokens": 6},
        "miss_in_sd": {"lr": 0.8, "batch_tokens": 1.3},
        "stated_cost": 0.0006,
        "realised_cost": 0.0019,
        "factor": {"lr": 1.0, "batch_tokens": 1.0},
        **changes,
    }


def notes(**changes: Any) -> list[Finding]:
    found = sizes_of(payload(**changes))
    assert found is not None
    return list(found["words"])


def test_sizes_scales_and_how_far_they_lie_off_the_law_come_first() -> None:
    assert tell(notes()[0]) == (
        "4 sizes, 8 scales: a size lies off the law by a factor of 1.20 in learning rate and 1.10 in batch (one "
        "standard deviation), a scale off its size by 1.05 and 1.04"
    )


@pytest.mark.parametrize("shown", [0, 1, 2])
def test_what_too_few_sizes_show_is_said_to_be_taken_for_granted(shown: int) -> None:
    cells = [{"params": n, "optimum": {"status": "inside" if n <= shown else "too_few"}} for n in range(1, 5)]
    said = notes(cells=cells)[0]
    assert said.data["shown"] is False
    assert "too few show an optimum to tell how far sizes lie off the law; taken to be off" in tell(said)


@pytest.mark.parametrize(
    ("most", "code", "kind", "start"),
    [
        (
            {},
            "advice.nothing_bends",
            "size",
            "no size or scale bends the law; 20M at all horizons counts most: without it the exponent of parameters",
        ),
        ({"shift": 3.2}, "advice.bends", "size", "the size 20M at all horizons bends the law: without it the exponent"),
        (
            {"shift": -3.2, "group": "20M on 2B"},
            "advice.bends",
            "scale",
            "the scale 20M on 2B bends the law: without it the exponent",
        ),
        (
            {"shift": 3.2, "group": "20M on 2B", "parameter": "lr level"},
            "advice.level_rests",
            "scale",
            "the level rests on the scale 20M on 2B:",
        ),
    ],
    ids=["none", "a size", "a scale", "the only sweep"],
)
def test_which_size_bends_the_law(most: dict[str, Any], code: str, kind: str, start: str) -> None:
    said = notes(certificate={"influence": [influence(**most)]})[1]
    assert (said.code, said.data["kind"]) == (code, kind)
    assert (said.data["value"], said.data["value_without"]) == (-0.5, -0.65)
    assert tell(said).startswith(start)
    assert "moves from -0.5 to -0.65" in tell(said)


def test_of_sizes_that_move_nothing_nothing_is_said() -> None:
    said = notes(certificate={"influence": [influence(shift=0.04)]})
    assert len(said) == len(notes()) - 1
    assert not {each.code for each in said} & {"advice.nothing_bends", "advice.bends", "advice.level_rests"}


def test_stated_stands_against_realised() -> None:
    assert tell(notes()[-1]) == (
        "each size left out in turn: 90 % intervals held the optimum at 7 (learning rate) and 6 (batch) of 8 scales, "
        "off by 0.8 and 1.3 stated standard deviations; stated cost 0.06 %, found 0.19 %; intervals stay as they are"
    )
    wider = notes(backtest={"promises": promises(factor={"lr": 1.0, "batch_tokens": 1.14})})[-1]
    assert tell(wider).endswith("intervals are widened for it, by 1.00 and 1.14")
    assert "cost" not in tell(notes(backtest={"promises": promises(stated_cost=None, realised_cost=None)})[-1])
    assert notes(backtest={"promises": None})[-1] == finding("advice.not_checked")


def test_a_fit_of_another_law_says_nothing() -> None:
    assert sizes_of({"words": "a law of the loss"}) is None


class TestThePriorOfTheSpread:
    """Of a whole fit: nine scales of three sizes."""

    def test_half_as_usual_and_twice_stand_in_the_answer(self) -> None:
        found = recommend(nine_fit(), RECIPE, Target(params=FAR[0], tokens=FAR[1]))["sizes"]
        for quantity in ("lr", "batch_tokens"):
            each = found["prior"][quantity]
            assert [answer["choice"] for answer in each] == ["0.5", "1", "2"]
            narrow, usual, wide = (answer["relative_width"] for answer in each)
            assert narrow < usual == 1 < wide
        (said,) = [line for line in found["words"] if code_of(line) == "advice.spread_priors"]
        assert said["data"] == found["prior"]
        start = "were sizes expected half as far, as far or twice as far off the law as usual: learning"
        assert tell(said).startswith(start)

    def test_at_a_given_batch_it_is_the_rate_there(self) -> None:
        model = nine_fit().payload["model"]
        free = choices_at(model, *FAR)
        assert free is not None
        spread = {name: next(row for row in free[name] if row["name"] == "spread") for name in ("lr", "batch_tokens")}
        best = spread["batch_tokens"]["answers"][1]["value"]
        there = choices_at(model, *FAR, imposed_log_batch=float(np.log(best)))
        assert there is not None
        row = next(row for row in there["lr"] if row["name"] == "spread")
        assert row["answers"][1]["value"] == pytest.approx(spread["lr"]["answers"][1]["value"], rel=1e-5)
        larger = choices_at(model, *FAR, imposed_log_batch=float(np.log(3 * best)))
        assert larger is not None
        moved = next(row for row in larger["lr"] if row["name"] == "spread")["answers"][1]["value"]
        assert moved > 1.1 * row["answers"][1]["value"]  # a larger batch takes a larger rate
        found = sizes_of(nine_fit().payload, larger)
        assert found is not None
        assert list(found["prior"]) == ["lr"]

    @pytest.mark.parametrize(("place", "known"), [((NINE[0][0], 9e9), "size"), (NINE[0], "scale")])
    def test_where_the_size_has_runs_they_show_its_own(self, place: tuple[float, float], known: str) -> None:
        found = recommend(nine_fit(), RECIPE, Target(params=place[0], tokens=place[1]))["sizes"]
        assert found["prior"] is None
        assert finding("advice.has_runs", known=known).to_json() in found["words"]


class TestTheSameWordsEverywhere:
    def test_on_card_report_and_in_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        document = sample().document
        assert json.loads(json.dumps(document))["sizes"] == document["sizes"]
        page = unescape(report_html(sample().fit, document, sample().runs))
        output.show(*card(document))
        out = capsys.readouterr().out
        said = told(document["sizes"]["words"])
        assert len(said) == 4
        for line in said:
            assert out.count(line) == 1
            assert page.count(line[1:]) == 1  # as a sentence of its own

    def test_in_a_notebook_and_of_the_fit(self) -> None:
        document = told(sample().document)
        line = document["sizes"]["words"][0]
        assert f"sizes: {line}" in str(Answer(document=document))
        assert line in told(answering.size_words(sample().fit))
        assert "advice.spread_priors" not in map(code_of, answering.size_words(sample().fit))

    def test_an_answer_of_before_is_shown_without(self, capsys: pytest.CaptureFixture[str]) -> None:
        old = copy.deepcopy(sample().document)
        del old["sizes"]
        output.show(*card(old))
        assert "Sizes" not in capsys.readouterr().out
        assert "Sizes and scales" not in report_html(sample().fit, old, sample().runs)


class TestTheShareOfTheRuns:
    """Each scale swept at one batch, that grows with its size: its rates are told, its best batch is not."""

    def test_is_that_of_what_was_asked(self) -> None:
        fit = fit_of(sweep(NINE, batch_steps=1, lr_steps=8).runs, FitOptions(backtest=False))
        model = fit.payload["model"]
        (params, tokens), batch = NINE[4], float(np.exp(np.mean(np.log(model["ranges"]["batch_tokens"]))))
        free = recommend(fit, RECIPE, Target(params=params, tokens=2 * tokens))
        given = recommend(fit, RECIPE, Target(params=params, tokens=2 * tokens, batch_tokens=batch))
        assert free["recommendation"]["batch_tokens"]["yours"] < 0.1
        left = [1 - document["recommendation"]["lr"]["yours"] for document in (given, free)]
        assert left[0] < 0.5 * left[1]
        assert not {"advice.nothing_of_yours", "advice.rests_on_others"} & {*map(code_of, given["warnings"])}
        shares = [each for each in given["evidence"]["borrowed"] if code_of(each) == "advice.share_of_runs"]
        assert not any(each["data"]["quantity"] == "batch_tokens" for each in shares)

    def test_real_sweeps_at_one_batch_per_size_answer_for_their_own_batch(self, shared_data: Path) -> None:
        """c17: ten scales of three sizes, the batch one-to-one with the size."""
        frame = pd.read_csv(shared_data / "cases" / "c17_lr_falls_with_tokens.csv")
        fit = lawfit.fit(lawfit.observe(frame), backtest=False)
        given = lawfit.predict(fit, params=142e6, tokens=34e9, batch_tokens=524288)
        free = lawfit.predict(fit, params=142e6, tokens=34e9)
        assert given.lr == pytest.approx(5.1e-3, rel=0.1)
        assert given.document["recommendation"]["lr"]["yours"] > 0.8
        assert free.document["recommendation"]["lr"]["yours"] < 0.6
        assert not any("next to nothing" in warning or "rests mostly" in warning for warning in given.warnings)
        assert any("the batch size rests mostly on published laws" in warning for warning in free.warnings)
