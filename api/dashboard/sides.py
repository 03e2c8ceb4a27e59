"""Targets that are asked of the advisor, one or two, and what is shown of the answer to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.parse import urlencode

from lawfit import pipeline
from lawfit.ask import Target
from lawfit.documents import Answer, setting_of
from lawfit.factors import levels_typed
from lawfit.plots.shown import Table
from lawfit.plots.style import HEIGHT
from lawfit.records import Fit
from lawfit.report.answer import evidence_pairs, published_table
from lawfit.report.charts import VALLEY_CAPTION, VALLEY_TITLE
from lawfit.report.html import chart_place, table_html
from lawfit.storage.store import Store
from lawfit.units import counted, format_lr, format_percent, format_quantity, format_scale
from lawfit.words.answers import BACKTEST_METHODS, QUANTITY_WORDS

from .advice import Advice, advice_of
from .forms import asked

SECOND: Final = "_2"  # behind the names of inputs that are of the second target
_OF_SECOND: Final = ("params", "tokens", "recipe")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One target as it was typed."""

    said: Mapping[str, str]  # inputs of `Target`, and the levels of settings
    recipe: str
    fit: str
    suffix: str = ""  # SECOND for the second

    @property
    def query(self) -> str:
        """The same as a query of the REST API."""
        pairs = [(name, value) for name, value in self.said.items() if value and name != "at"]
        pairs += [(name, value) for name, value in (("recipe", self.recipe), ("fit", self.fit)) if value]
        return urlencode([*pairs, *(("at", level) for level in levels_typed(self.said.get("at", "")))])


def second_of(first: Asked, typed: Mapping[str, str]) -> Asked | None:
    """The second target: what is not typed for it is as for the first; None where nothing is typed for it."""
    own = {name: typed.get(name + SECOND, "").strip() for name in _OF_SECOND}
    if not any(own.values()):
        return None
    said = {**first.said, **{name: own[name] for name in ("params", "tokens") if own[name]}}
    recipe = own["recipe"] or first.recipe
    return Asked(said=said, recipe=recipe, fit=first.fit if recipe == first.recipe else "", suffix=SECOND)


@dataclass(frozen=True, kw_only=True)
class Side:
    """The answer to one target, as it is shown."""

    asked: Asked
    target: Target
    fit: Fit
    advice: Advice
    root: str  # below which the service is shown

    @classmethod
    def of(cls, store: Store, question: Asked, root: str) -> Side:
        """Answer a target.

        Raises
        ------
        LawfitError, ValueError
            As `pipeline.recommend`.
        """
        target = asked(Target, question.said)
        document = pipeline.recommend(
            store, question.recipe or None, target, fit_id=question.fit or None,
            at=levels_typed(question.said.get("at", "")), keep=False,
        )  # fmt: skip
        fit = store.fit(document["evidence"]["fit_id"])
        return cls(
            asked=question,
            target=target,
            fit=fit,
            advice=advice_of(document, fit.payload.get("cells") or []),
            root=root,
        )

    @property
    def document(self) -> Answer:
        return self.advice.document

    @property
    def suffix(self) -> str:
        return self.asked.suffix.replace("_", "-")

    @property
    def recipe(self) -> str:
        return self.document["recipe"]["name"]

    @property
    def query(self) -> str:
        return self.asked.query

    @property
    def file_name(self) -> str:
        """Of the report."""
        return f"lawfit {format_quantity(self.target.params)} {format_quantity(self.target.tokens)}.html".replace(
            " ", "-"
        )

    @property
    def has_setting(self) -> bool:
        """Whether a learning rate and batch are recommended."""
        return self.document["recommendation"]["lr"] is not None

    @property
    def counts_sequences(self) -> bool:
        """Whether a training program, which counts batches in sequences, can be told the batch."""
        return self.has_setting and self.document["target"].get("seq_len") is not None

    @property
    def valley_id(self) -> str:
        return f"valley{self.suffix}"

    @property
    def valley(self) -> str:
        """The place of the figure; empty where no setting is recommended."""
        if not self.has_setting:
            return ""
        title = f"{VALLEY_TITLE}: {format_scale(self.target.params, self.target.tokens)}"
        source = f"{self.root}/advisor/valley?{self.query}"
        return chart_place(self.valley_id, title, VALLEY_CAPTION, source, HEIGHT + 40)

    @property
    def yours_lr(self) -> str:
        """Where the setting that can be dragged lies at first: towards the end of the interval."""
        part = setting_of(self.document["recommendation"], "lr")
        return format_lr((part["value"] * part["high"]) ** 0.5)

    @property
    def yours_batch(self) -> str:
        """The advised one, so that a learning rate that is typed alone is all that differs."""
        part = setting_of(self.document["recommendation"], "batch_tokens")
        return format_quantity(part["value"])

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """What the answer comes from, and what checked it."""
        document, rows = self.document, []
        scored = {row["method"]: row for row in document["backtest"] if row["mean_regret"] is not None}
        ours, plain = (scored.get(name) for name in BACKTEST_METHODS)
        if ours:
            words = f"at {counted(ours['cells'], 'scale')} left out of the fit it cost "
            words += f"{format_percent(ours['mean_regret'])} of the loss"
            if plain:
                words += f"; the usual way, a line through the best runs, {format_percent(plain['mean_regret'])}"
            rows.append(("Checked", words))
        rows += [("Moves it most", words) for words in (document.get("choices") or {}).get("words", [])]
        return [("" if at and rows[at - 1][0] == term else term, words) for at, (term, words) in enumerate(rows)]

    @property
    def about_sizes(self) -> list[str]:
        """How far sizes and scales lie off the law, and how well that was foretold."""
        sizes = self.document.get("sizes")
        return [] if sizes is None else sizes["words"]

    @property
    def helpful(self) -> str:
        """A table of runs to add, those that help this answer most first."""
        rows = tuple(
            (
                format_quantity(run["params"]), format_quantity(run["tokens"]), ", ".join(map(format_lr, run["lr"])),
                ", ".join(map(format_quantity, run["batch_tokens"])), run["why"],
            )
            for run in self.document.get("runs_that_would_help") or []
        )  # fmt: skip
        if not rows:
            return ""
        columns = ("parameters", "tokens", "learning rates", "batches (tokens)", "why")
        return table_html(
            Table(columns=columns, rows=rows, numbers=columns[:2]), "Runs that would help most", folds=True
        )

    @cached_property
    def published_rows(self) -> Table | None:
        return published_table(self.document)

    @property
    def published(self) -> str:
        table = self.published_rows
        return "" if table is None else table_html(table, "Published laws at your target", folds=True)

    @property
    def published_words(self) -> str:
        count = 0 if self.published_rows is None else len(self.published_rows.rows)
        return f"{counted(count, 'law')}, with what each would have cost on your runs"

    @property
    def evidence(self) -> list[tuple[str, str]]:
        return evidence_pairs(self.document)


def contrast(sides: Sequence[Side]) -> str:
    """Two answers in one table; empty for one."""
    if len(sides) < 2:
        return ""
    first, second = sides
    rows = []
    for one in first.advice.rows:
        other = next((row for row in second.advice.rows if row.name == one.name), None)
        if other is None or not (one.value and other.value):
            continue
        values = [_number(side, one.name) for side in sides]
        rows.append((one.label, one.value, one.interval, other.value, other.interval, f"{values[1] / values[0]:.3g}x"))
    names = [f"{each.recipe}, {format_scale(each.target.params, each.target.tokens)}" for each in sides]
    columns = ("quantity", names[0], "interval", names[1] + " ", "interval ", "second over first")
    return table_html(
        Table(columns=columns, rows=tuple(rows), numbers=columns[1:]), "Two answers side by side", folds=True
    )


def _number(side: Side, name: str) -> float:
    if name in QUANTITY_WORDS:
        return float(setting_of(side.document["recommendation"], name)["value"])
    return float(side.document[name]["value"])  # type: ignore[literal-required]
