"""Weight decay, critical batch and expected loss: the numbers of their figures, and what report and card say."""

from __future__ import annotations

import copy
import math
import re
from typing import Any

import numpy as np
import pytest

from lawfit.cli import output
from lawfit.cli.card import card
from lawfit.plots.law import law_figure, law_numbers, law_rows
from lawfit.report.page import report_html
from lawfit.units import format_lr, format_quantity
from lawfit.words.parts import definition_words, part_labels, part_words
from tests.cli.samples import PREDICTION
from tests.plots.further_samples import whole
from tests.plots.samples import sample


def lacking(name: str, sentence: str) -> dict[str, Any]:
    document = copy.deepcopy(whole()[2])
    document[name], document["missing"] = None, {name: sentence}
    return document


class TestNumbers:
    def test_a_chart_for_each_answer(self) -> None:
        _, _, answer, laws = whole()
        charts = {chart.name: chart for chart in law_numbers(laws, answer)}
        assert set(charts) == set(part_labels())
        assert charts["expected_loss"].target.value == answer["expected_loss"]["value"]
        assert len(charts["expected_loss"].measured) == 6
        assert len(charts["critical_batch"].measured) == 5
        assert charts["weight_decay"].target.value == answer["weight_decay"]["timescale"]["value"]

    def test_the_line_meets_the_target_inside_its_band(self) -> None:
        _, _, answer, laws = whole()
        for chart in law_numbers(laws, answer):
            there = np.interp(math.log(chart.target.x), np.log(chart.x), np.log(chart.value))
            assert math.exp(there) == pytest.approx(chart.target.value, rel=0.01)  # between points of a curve
            assert (chart.low <= chart.value).all()
            assert (chart.value <= chart.high).all()

    def test_loss_dots_lie_near_the_line_of_their_size(self) -> None:
        _, _, answer, laws = whole()
        (chart,) = (chart for chart in law_numbers(laws, answer) if chart.name == "expected_loss")
        for size in chart.sizes:
            line = np.interp([math.log(dot.x) for dot in size.measured], np.log(size.x), size.value)
            assert line == pytest.approx([dot.value for dot in size.measured], rel=0.01)

    def test_figures_hold_dots_band_and_target(self) -> None:
        _, _, answer, laws = whole()
        for chart in law_numbers(laws, answer):
            figure = law_figure(chart)
            dots = [x for trace in figure.data if trace.mode == "markers" for x in trace.x]
            assert sorted(dots) == pytest.approx(sorted([chart.target.x, *(dot.x for dot in chart.measured)]))
            assert any(trace.fill == "tonexty" for trace in figure.data)
            assert len(law_rows(chart)) == 1 + len(chart.measured)

    def test_nothing_to_draw_without_an_answer(self) -> None:
        laws = whole()[3]
        assert "critical_batch" not in {c.name for c in law_numbers(laws, lacking("critical_batch", "more batches"))}
        assert law_numbers({}, whole()[2]) == ()


class TestReport:
    def test_says_every_number_with_its_interval_and_meaning(self) -> None:
        fit, runs, answer, laws = whole()
        page = report_html(fit, answer, runs, laws)
        decay, critical, loss = (answer[name] for name in part_labels())
        for words in (
            f"{decay['value']:.3g}",
            f"{decay['low']:.3g} to {decay['high']:.3g}",
            format_lr(decay["independent"]),
            format_quantity(critical["value"]),
            "at this batch a run needs twice the tokens that a very small batch would need for the same loss",
            f"{loss['value']:.4g}",
            f"{loss['run_low']:.4g} to {loss['run_high']:.4g}",
        ):
            assert words in page
        assert re.findall(r'<figure class="chart" id="(law-[a-z-]+)"', page) == [
            "law-weight-decay",
            "law-critical-batch",
            "law-expected-loss",
        ]

    def test_says_what_is_missing(self) -> None:
        fit, runs, _, laws = whole()
        page = report_html(fit, lacking("critical_batch", "it takes <three> batches"), runs, laws)
        assert "It takes &lt;three&gt; batches." in page
        assert "law-critical-batch" not in page

    def test_an_answer_of_before_has_no_such_section(self) -> None:
        old = {k: v for k, v in sample().document.items() if k not in ("missing", *part_labels())}
        assert "further-title" not in report_html(sample().fit, old, sample().runs)


class TestCard:
    def printed(self, document: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
        output.show(*card(document))
        return capsys.readouterr().out

    def test_a_line_for_each(self, capsys: pytest.CaptureFixture[str]) -> None:
        answer = whole()[2]
        text = self.printed(answer, capsys)
        for name, label in part_labels().items():
            assert re.search(rf"^{label} +{re.escape(part_words(answer, name))}$", text, re.MULTILINE)
        assert "coupled to the learning rate as in torch.optim.AdamW" in text

    def test_what_is_missing_is_said(self, capsys: pytest.CaptureFixture[str]) -> None:
        text = self.printed(lacking("expected_loss", "six scales or more"), capsys)
        assert "Expected loss    not from these runs: six scales or more" in text

    def test_an_answer_of_before_prints_as_it_did(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert not any(label in self.printed(PREDICTION, capsys) for label in part_labels().values())

    def test_a_law_of_a_sister_recipe_says_so(self) -> None:
        document = copy.deepcopy(whole()[2])
        document["critical_batch"]["from_recipe"] = "constant"
        assert part_words(document, "critical_batch").endswith("; measured in recipe constant")


@pytest.mark.parametrize(
    ("fraction", "reference", "words"),
    [
        (1.0, 0.0, "a run needs twice the tokens that a very small batch would need for the same loss"),
        (0.2, 131072.0, "a run needs 20 % more tokens than a batch of 131k tokens would need for the same loss"),
    ],
    ids=["doubling", "Zhang"],
)
def test_definitions_in_words(fraction: float, reference: float, words: str) -> None:
    assert definition_words({"fraction": fraction, "reference_batch_tokens": reference}) == words
