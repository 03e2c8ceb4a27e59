"""A study as sections of HTML, the same in the report and on the page: what each round cost and taught."""

from __future__ import annotations

from typing import Final

from lawfit.documents import Study
from lawfit.plots.shown import Chart, Table
from lawfit.plots.study import (
    PARTS,
    history_figure,
    history_numbers,
    map_figure,
    map_numbers,
    spent_number,
    written,
)
from lawfit.report.html import chart_html, list_html, pairs_html, table_html, tag, text
from lawfit.units import format_duration, format_flops, format_lr, format_percent, format_quantity, format_scale
from lawfit.words import told
from lawfit.words.plan_next import scale_words
from lawfit.words.study import (
    KINDS,
    answer_words,
    factor_words,
    regret_words,
    round_words,
    runs_words,
    setting_words,
    spent_words,
)

_REGRET: Final = (
    "The share of the loss that the advised setting is expected to give up at the target, as the planner counts it. "
    "The answer counts a little more doubt, so what it says it gives up may be more."
)
GLOSSARY: Final = (
    ("Round", "Some runs that were planned together, made, and fitted with all runs before them."),
    ("Promised", "What the plan of a round expected its runs to bring, before they were made."),
    ("Got", "The same, by the fit of all runs after it."),
    ("Within x2", "The interval goes from half of the middle to twice it."),
    ("Expected regret", _REGRET),
)


def study_sections(document: Study) -> str:
    """The whole history, in the order in which one asks."""
    document = told(document)
    charts = "".join(chart_html(chart) for chart in study_charts(document))
    figures = tag("section", tag("div", charts, class_="pair"), aria_label="Figures") if charts else ""
    words = tag("summary", tag("h2", "What the words mean", id="study-words")) + pairs_html(GLOSSARY)
    glossary = tag("section", tag("details", words), aria_labelledby="study-words", class_="glossary")
    return "".join((_answer(document), figures, _rounds(document), _runs(document), glossary))


def study_charts(document: Study) -> list[Chart]:
    """What was known by what was spent, and where the runs lie; `document` is told."""
    history, places = history_numbers(document), map_numbers(document)
    found: list[Chart] = []
    if history.known:
        rows = [
            (
                str(step.round or "before"),
                spent_number(step.spent, history.unit),
                *(written(p, step.values) for p in PARTS),
            )
            for step in history.known
        ]
        columns = ("after round", "spent", "learning rate within", "batch within", "expected regret")
        found.append(
            Chart(
                id="study-history",
                title="What was known of the target",
                caption="Lines: by the fit after each round. Dotted, to a ring: what the plan of the round promised.",
                figure=history_figure(history),
                table=Table(columns=columns, rows=tuple(rows), numbers=columns[1:]),
            )
        )
    if places.rings:
        lines = [(str(number), scale_words(p, t), str(runs)) for number, p, t, runs in places.rings]
        found.append(
            Chart(
                id="study-map",
                title="Where the runs lie",
                caption="Rings: the scales of each round, wider for more runs. Diamond: the target.",
                figure=map_figure(places),
                table=Table(columns=("round", "size on tokens", "runs"), rows=tuple(lines), numbers=("runs",)),
            )
        )
    return found


def _answer(document: Study) -> str:
    target, budget, answer = document["target"], document["budget"], document["answer"]
    body = tag("h2", "What is known now", id="study-title")
    if answer is None:
        body += tag("p", "No setting can be advised yet.", class_="lead")
    else:
        body += tag("p", text(_sentence(answer_words(answer, target["level"]))), class_="lead")
    rows = [
        ("Target", format_scale(target["params"], target["tokens"])),
        ("Spent", f"{spent_words(budget)}, {format_duration(budget['seconds'])} of launches"),
    ]
    if answer is not None:
        rows.append(("It gives up", f"{format_percent(answer['expected_regret'])} of the loss (expected)"))
    if "until" in document["asked"]:
        rows.append(("Until", str(document["asked"]["until"])))
    if document["stopped"]:
        rows.append(("Ended" if document["state"] == "ended" else "Stopped", _sentence(document["stopped"])))
    rows.append(("Study", document["id"]))
    body += pairs_html(rows)
    failures = list(dict.fromkeys(why for each in document["rounds"] for why in each["made"]["failures"]))
    if failures:
        body += tag("div", tag("h3", "Runs that failed") + list_html(failures), class_="warnings")
    return tag("section", body, aria_labelledby="study-title", class_="answer")


def _rounds(document: Study) -> str:
    body = tag("h2", "What each round cost and taught", id="study-rounds")
    body += table_html(rounds_table(document), "Rounds", folds=True)
    body += list_html([_sentence(round_words(each)) for each in document["rounds"] if each["phase"] == "fitted"])
    return tag("section", body, aria_labelledby="study-rounds")


def rounds_table(document: Study) -> Table:
    """A row for each round; `document` is told."""
    rows = [
        (
            str(one["number"]),
            runs_words(one["made"], one["phase"]),
            format_flops(one["made"]["flops"]),
            format_duration(one["made"]["seconds"]),
            f"{one['made']['gpu_hours']:.3g}",
            KINDS[one["kind"]] or "what tells most",
            factor_words(one, "lr_factor"),
            factor_words(one, "batch_factor"),
            regret_words(one),
            setting_words(one["answer"]),
        )
        for one in document["rounds"]
    ]
    columns = (
        "round", "runs", "FLOPs", "time", "GPU-hours", "chosen as", "learning rate within: promised, got",
        "batch within: promised, got", "regret: promised, got", "learning rate, batch then advised",
    )  # fmt: skip
    return Table(columns=columns, rows=tuple(rows), numbers=("FLOPs", "GPU-hours"))


def _runs(document: Study) -> str:
    rows = [
        (
            str(one["number"]),
            scale_words(scale["params"], scale["tokens"]),
            ", ".join(format_lr(lr) for lr in scale["lr"]),
            ", ".join(format_quantity(batch) for batch in scale["batch_tokens"]),
            ", ".join(map(str, scale["seeds"])),
            str(scale["runs"]),
        )
        for one in document["rounds"]
        for scale in one["scales"]
    ]
    if not rows:
        return ""
    columns = ("round", "size on tokens", "learning rates", "batches (tokens)", "seeds", "runs")
    body = tag("h2", "The runs", id="study-runs")
    body += table_html(Table(columns=columns, rows=tuple(rows), numbers=("runs",)), "Grids", folds=True)
    return tag("section", body, aria_labelledby="study-runs")


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")
