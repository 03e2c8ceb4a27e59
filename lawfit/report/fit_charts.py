"""Charts of a fit by name, so that a page asks for one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lawfit import kinds
from lawfit.documents import Answer
from lawfit.plots.backtest import backtest_numbers
from lawfit.plots.promises import promise_figure, promise_numbers, promise_table
from lawfit.plots.residuals import residual_figure, residual_numbers, residual_table
from lawfit.plots.shown import Chart
from lawfit.report.charts import backtest_choice, law_charts, scaling_chart
from lawfit.words.answers import INPUT_WORDS, QUANTITY_WORDS

if TYPE_CHECKING:
    from lawfit.records import Fit


@dataclass(frozen=True, kw_only=True)
class Named:
    """A chart that a fit has, before it is drawn."""

    name: str
    title: str
    option: str = ""  # its name among others of its kind


@dataclass(frozen=True, kw_only=True)
class FitCharts:
    """The charts of a fit of learning rate and batch.

    `document` is a recommendation made from it, up to whose target laws are drawn; `laws` the further fits that it was
    made from, by kind.
    """

    fit: Fit
    document: Answer | None = None
    laws: Mapping[str, Fit]

    def scaling(self, quantity: str) -> list[Named]:
        """Along tokens and along parameters."""
        return [
            Named(
                name=f"scaling.{quantity}.{along}",
                title=f"Best {QUANTITY_WORDS[quantity].lower()} against {INPUT_WORDS[along]}",
                option=INPUT_WORDS[along],
            )
            for along in ("tokens", "params")
        ]

    def residuals(self, quantity: str) -> list[Named]:
        """Along parameters, where a size that bends the law is seen, and along tokens."""
        return [
            Named(
                name=f"residuals.{quantity}.{along}",
                title=f"{QUANTITY_WORDS[quantity]} over the law's, by {INPUT_WORDS[along]}",
                option=INPUT_WORDS[along],
            )
            for along in ("params", "tokens")
        ]

    def further(self) -> list[Named]:
        """Of each further law that answers."""
        return [
            Named(name=f"law.{kind.part}.", title=kind.part_label or kind.label)
            for kind in kinds.answering()
            if kind.id in self.laws
        ]

    def backtests(self) -> list[Named]:
        """A chart for each way in which scales were left out."""
        splits = [split for split in backtest_numbers(self.fit.payload) if split.scores]
        return [
            Named(name=f"backtest.{index}.", title=f"Backtest: {split.name}", option=split.name)
            for index, split in enumerate(splits)
        ]

    def promises(self) -> list[Named]:
        """Stated against realised costs; none where the fit has too few sizes or is of before they were kept."""
        found = promise_numbers(self.fit.payload)
        return [] if found is None else [Named(name="promises..", title="Stated against realised cost")]

    def chart(self, name: str) -> Chart | None:
        """The chart of that name; None where there is none."""
        what, first, second = (*name.split("."), "", "")[:3]
        if what == "scaling" and self.document is not None and first in QUANTITY_WORDS and second in INPUT_WORDS:
            return scaling_chart(self.fit, self.document, first, second)
        if what == "law" and self.document is not None:
            wanted = f"law-{first.replace('_', '-')}"
            return next((chart for chart in law_charts(self.laws, self.document) if chart.id == wanted), None)
        if what == "residuals" and first in QUANTITY_WORDS and second in ("params", "tokens"):
            return self._residuals(first, second)
        if what == "backtest" and first.isdecimal():
            choice = backtest_choice(self.fit)
            charts = () if choice is None else choice.charts
            return charts[int(first)] if int(first) < len(charts) else None
        return self._promises() if what == "promises" else None

    def _residuals(self, quantity: str, along: str) -> Chart:
        found = residual_numbers(self.fit.payload, quantity)
        bars = (
            " Bars: what the fit takes for the deviation that all scales of a size share." if along == "params" else ""
        )
        return Chart(
            id=f"residuals-{quantity.replace('_', '-')}-{along}",
            title=f"{QUANTITY_WORDS[quantity]} over the law's, by {INPUT_WORDS[along]}",
            caption="A dot for each scale with what its own runs leave open (90 %); on the line, law and runs agree."
            f"{bars} A size that bends the law has all its dots on one side.",
            figure=residual_figure(found, along),
            table=residual_table(found),
        )

    def _promises(self) -> Chart | None:
        found = promise_numbers(self.fit.payload)
        if found is None:
            return None
        return Chart(
            id="promises",
            title="Stated against realised cost",
            caption="Each size left out in turn: what the fit without it expected its advice to cost at each scale, "
            "and what it cost on the runs there. Above the line it was dearer than stated; open diamonds: an interval "
            "missed the scale's own optimum. Costs below 0.01 % are drawn there.",
            figure=promise_figure(found),
            table=promise_table(found),
        )
