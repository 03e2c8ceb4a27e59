"""What to run next as sections of HTML, the same in the report and on the page."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, Final

from lawfit.documents import NextRuns
from lawfit.plots.next_runs import Narrowing, ScaleMap, map_figure, map_numbers, narrowing_figure, narrowing_numbers
from lawfit.plots.shown import Chart, Table
from lawfit.report.html import chart_html, list_html, pairs_html, table_html, tag, text
from lawfit.units import format_flops, format_lr, format_percent, format_quantity, format_scale, parse_quantity
from lawfit.words import told
from lawfit.words.plan_next import budget_words, expected_words, promise_words, scale_words, spent_words

_REGRET: Final = (
    "The share of the loss that the advised setting is expected to give up at the target, on average over all that is "
    "not known. No run at other scales brings it below the target's own deviation. A plan takes all that is known as "
    "one Gaussian, so that what it says of now differs a little from the advisor's answer."
)
GLOSSARY: Final = (
    ("Grid", "Some learning rates crossed with some batches, all at one size and one number of tokens."),
    ("Horizon", "The training tokens of a run."),
    ("Expected regret", _REGRET),
    ("Interval", "Holds the best value with the stated probability. x2 means: from half of the middle to twice it."),
    ("A new size", "Sizes lie off the law by more than chance, each by its own amount; a new size tells how far."),
    ("Bend", "A law that is straight among small runs may turn on the way to the target; far horizons tell."),
    ("Seeds", "The same settings again from other first weights and another order of the data."),
)


_LEVEL: Final = 0.9  # of intervals, where nobody says another


def next_sections(document: NextRuns) -> str:
    """The whole plan, in the order in which one asks."""
    document = told(document)
    charts = "".join(chart_html(chart) for chart in next_charts(document))
    words = tag("summary", tag("h2", "What the words mean", id="next-words")) + pairs_html(GLOSSARY)
    return "".join(
        (
            _answer(document),
            tag("section", tag("div", charts, class_="pair"), aria_label="Figures"),
            _rehearsed(document),
            _runs(document),
            _weight_decay(document),
            tag("section", tag("details", words), aria_labelledby="next-words", class_="glossary"),
        )
    )


def _answer(document: NextRuns) -> str:
    target, budget = document["target"], document["budget"]
    body = tag("h2", "What these runs are expected to bring", id="next-title")
    body += tag("p", text(_sentence(promise_words(document))), class_="lead")
    body += pairs_html(
        [
            ("Target", format_scale(target["params"], target["tokens"])),
            ("Budget", f"{budget_words(budget['amount'], budget['unit'])}; spent: {spent_words(document)}"),
            ("Now", expected_words(document["now"])),
            ("With these", f"{expected_words(document['after'])} (expected)"),
            *([("Kept as", document["id"])] if document["kept"] else []),
        ]
    )
    if document["warnings"]:
        doubts = tag("h3", "Before you rely on it") + list_html([_sentence(each) for each in document["warnings"]])
        body += tag("div", doubts, class_="warnings")
    return tag("section", body, aria_labelledby="next-title", class_="answer")


def next_charts(document: NextRuns) -> tuple[Chart, Chart]:
    """What is known now and what would be, and where the runs lie; `document` is told."""
    return _narrowing_chart(narrowing_numbers(document)), _map_chart(map_numbers(document))


def _narrowing_chart(chart: Narrowing) -> Chart:
    written: dict[str, tuple[str, Callable[[float], str]]] = {
        "lr": ("learning rate", format_lr),
        "batch_tokens": ("batch (tokens)", format_quantity),
    }
    rows = []
    for interval in chart.intervals:
        label, write = written[interval.name]
        rows.append((label, *(f"{write(low)} to {write(high)}" for low, high in (interval.now, interval.after))))
    rows.append(("expected regret", format_percent(chart.regret_now), format_percent(chart.regret_after)))
    columns = ("at the target", "now", "with these runs")
    return Chart(
        id="next-narrowing",
        title="What is known now, and what would be",
        caption=f"{100 * chart.level:g} % intervals at the target, grey now, coloured with these runs; the notch is "
        "the best value as far as is known. Below: the share of the loss that the advised setting is expected to give "
        "up; the dotted line is what no run at other scales takes away.",
        figure=narrowing_figure(chart),
        table=Table(columns=columns, rows=tuple(rows), numbers=columns[1:]),
    )


def _map_chart(chart: ScaleMap) -> Chart:
    known = [("has runs", scale_words(params, tokens), str(runs)) for params, tokens, runs in chart.known]
    planned = [
        (f"grid {', '.join(map(str, ring.places))}", scale_words(ring.params, ring.tokens), str(ring.runs))
        for ring in chart.rings
    ]
    return Chart(
        id="next-map",
        title="Where the runs lie",
        caption="Dots: scales that have runs. Rings: scales to be run, numbered in the order of the plan, wider for "
        "more runs. Diamond: the target.",
        figure=map_figure(chart),
        table=Table(columns=("what", "size on tokens", "runs"), rows=(*planned, *known), numbers=("runs",)),
    )


def _rehearsed(document: NextRuns) -> str:
    """What became of the plan in drawn worlds, where it was played."""
    rehearsal = document.get("rehearsal")
    if rehearsal is None:
        return ""
    body = tag("h2", "Rehearsed", id="next-rehearsed") + tag("p", text(_sentence(rehearsal["words"])), class_="lead")
    return tag("section", body, aria_labelledby="next-rehearsed")


def _weight_decay(document: NextRuns) -> str:
    """Whether weight decay is swept, where all runs have one value, and by what numbers."""
    if (decay := document.get("weight_decay")) is None:
        return ""
    body = tag("h2", "Weight decay", id="next-decay") + tag("p", text(_sentence(decay["words"])), class_="lead")
    return tag("section", body, aria_labelledby="next-decay")


def _runs(document: NextRuns) -> str:
    body = tag("h2", "The runs, in the order in which to make them", id="next-runs")
    lead = "Each row is a grid: every learning rate with every batch. What is expected after a row counts all above it."
    body += tag("p", text(lead), class_="lead")
    body += table_html(grids_table(document), "Grids to run", folds=True)
    return tag("section", body, aria_labelledby="next-runs")


def grids_table(document: NextRuns) -> Table:
    """A row for each grid with its reason; `document` is told."""
    rows = [
        (
            str(place),
            scale_words(grid["params"], grid["tokens"]),
            ", ".join(format_lr(lr) for lr in grid["lr"]),
            ", ".join(format_quantity(batch) for batch in grid["batch_tokens"]),
            str(grid["runs"]) + (f" ({len(grid['seeds'])} seeds)" if len(grid["seeds"]) > 1 else ""),
            format_flops(grid["flops"]),
            _sentence(grid["why"]),
            f"x{grid['after']['lr_factor']:.2f}, x{grid['after']['batch_factor']:.2f}",
            format_percent(grid["after"]["expected_regret"]),
        )
        for place, grid in enumerate(document["grids"], 1)
    ]
    columns = (
        "grid", "size on tokens", "learning rates", "batches (tokens)", "runs", "FLOPs", "why",
        "then known: learning rate, batch", "regret after",
    )  # fmt: skip
    return Table(columns=columns, rows=tuple(rows), numbers=("runs", "FLOPs", "regret after"))


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")


def commands(document: NextRuns) -> str:
    """What to type for the same plan, and for what comes after it."""
    asked = document["asked"]
    names = {name: f"--{name.replace('_', '-')}" for name in asked if name != "level" or asked[name] != _LEVEL}
    words = [f"{option} {shlex.quote(_typed(asked[name]))}" for name, option in names.items()]
    if document["recipe"] is not None:
        words.append(f"--recipe {shlex.quote(document['recipe'])}")
    file = "next.json" if document["grid_file"] is not None else "next.csv"
    lines = [f"lawfit plan next {' '.join(words)} {'--grid' if document['grid_file'] else '--runs'} {file}"]
    if document["grid_file"] is not None:
        recipe = "" if document["recipe"] is None else f" --recipe {shlex.quote(document['recipe'])}"
        lines += [f"lawfit launch {file}", f"lawfit fit{recipe}"]
    return "\n".join(lines)


def _typed(value: Any) -> str:
    """A number as people write it where that is exact."""
    if isinstance(value, str):
        return value
    short = format_quantity(value, 6)
    return short if parse_quantity(short) == value else f"{value:.12g}"
