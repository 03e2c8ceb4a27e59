"""A plan as sections of HTML, the same in the report and on the page: what to train, how, what else the budget buys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from lawfit.documents import Plan
from lawfit.documents.plan import TimePart
from lawfit.plots.plan_routes import (
    members_table,
    profiles_table,
    routes_figure,
    routes_numbers,
    shares_words,
)
from lawfit.plots.planning import plane_figure, plane_numbers, time_figure, valley_figure, valley_numbers
from lawfit.plots.shown import Chart, Table
from lawfit.report.answer import simulated_banner
from lawfit.report.html import chart_html, list_html, pairs_html, table_html, tag, text
from lawfit.report.plan_tables import (
    alternatives_table,
    batches_table,
    budget_words,
    cost_words,
    fastest_words,
    frontier_table,
    scale_table,
    third_rows,
)
from lawfit.units import counted, format_lr, format_quantity
from lawfit.words import told
from lawfit.words.answers import batch_range, recipe_words
from lawfit.words.parts import part_labels, part_words

if TYPE_CHECKING:
    from lawfit.records import Fit

GLOSSARY: Final = (
    ("Compute-optimal", "The split of a training budget between parameters and tokens at which the loss is lowest."),
    ("Costs", "Share of the loss given up against the plan; below zero where some laws that fit prefer that size."),
    ("Same loss", "Tokens that another size needs for the plan's loss, and its compute relative to the plan's."),
    ("Critical batch", "The batch at which a run needs twice the tokens that a very small batch would need."),
    ("Serial time", "Time as if every step took time in proportion to the size, however large its batch."),
    ("Extrapolation", "The law of the loss is fitted to your runs; beyond them trust the interval, not the digits."),
)


def plan_sections(fit: Fit, document: Plan) -> str:
    """Everything about one plan, in the order in which one asks; `fit` is that of the loss."""
    document = told(document)
    return "".join(
        (
            simulated_banner(document["recipe"]),
            _answer(document),
            _choices(fit, document),
            _routes(fit, document),
            _time(document),
            _evidence(document),
            tag(
                "section",
                tag(
                    "details", tag("summary", tag("h2", "What the words mean", id="plan-words")) + pairs_html(GLOSSARY)
                ),
                aria_labelledby="plan-words",
                class_="glossary",
            ),
        )
    )


def _answer(document: Plan) -> str:
    plan, optimum, said = document["plan"], document["optimum"], document["settings"]
    values = _value("Parameters", format_quantity(plan["params"]), "", optimum and optimum["params"])
    values += _value("Training tokens", format_quantity(plan["tokens"]), "", optimum and optimum["tokens"])
    loss = said["expected_loss"]
    values += _value("Expected loss", f"{loss['value']:.4g}" if loss else "-", "nats per token", loss, digits=True)
    body = tag("h2", "Plan", id="plan-title")
    body += "".join(tag("p", text(_sentence(words)), class_="lead") for words in budget_words(document))
    body += tag("div", values, class_="values thirds")
    body += pairs_html(_settings(document))
    if document["warnings"]:
        doubts = tag("h3", "Before you rely on it") + list_html([_sentence(w) for w in document["warnings"]])
        body += tag("div", doubts, class_="warnings")
    return tag("section", body, class_="answer", aria_labelledby="plan-title")


def _value(name: str, value: str, unit: str, part: Mapping[str, Any] | None, *, digits: bool = False) -> str:
    head = tag("h3", text(name))
    head += tag("p", tag("strong", text(value)) + (f" <span>{text(unit)}</span>" if unit else ""), class_="value")
    rows = []
    if part and (part["low"] is not None or part["high"] is not None):
        low, high = (
            "open" if part[end] is None else f"{part[end]:.4g}" if digits else format_quantity(part[end])
            for end in ("low", "high")
        )
        rows.append((f"{100 * part['level']:g} % interval", "as you gave it" if low == high else f"{low} to {high}"))
    return tag("div", head + (pairs_html(rows) if rows else ""), class_="quantity")


def _settings(document: Plan) -> list[tuple[str, str]]:
    plan, optimum, said = document["plan"], document["optimum"], document["settings"]
    lr, batch = said["recommendation"]["lr"], said["recommendation"]["batch_tokens"]
    rows = [("Chosen", f"{plan['why']}: {format_quantity(plan['tokens_per_param'])} tokens per parameter")]
    if optimum is not None:
        for share, words in (("0.001", "Costs < 0.1 %"), ("0.01", "Costs < 1 %")):
            low, high = (format_quantity(end) for end in optimum["cheap_zone"][share])
            rows.append((words, f"{low} to {high} parameters at this budget, on average over the laws that fit"))
    rows.append(("Expected cost", cost_words(document)))
    rows += third_rows(document)
    if lr is not None:
        rows.append(
            ("Learning rate", f"{format_lr(lr['value'])} peak ({format_lr(lr['low'])} to {format_lr(lr['high'])})")
        )
    if batch is not None:
        ends = batch_range(batch, f"{format_quantity(batch['low'])} to {format_quantity(batch['high'])}")
        rows.append(("Batch size", f"{batch['value']:,.0f} tokens per step ({ends}), so {plan['steps']:,.0f} steps"))
    return rows + [(label, words) for name, label in part_labels().items() if (words := part_words(said, name))]


def plan_charts(fit: Fit, document: Plan) -> tuple[Chart, ...]:
    """Loss along the budget, the plan among the runs, and time against compute where a critical batch is known."""
    valley, plane = valley_numbers(fit, document), plane_numbers(fit, document)
    level = f"{100 * valley.level:g} %"
    known = document["optimum"] is not None
    shaded = (
        " Shaded: sizes that cost less than 0.1 % and 1 % against the best, on average over the laws that fit."
        if known
        else ""
    )
    path = f" Thick line and band: the best split of each compute, {level} interval." if known else ""
    charts = [
        Chart(
            id="plan-valley",
            title="The budget on other sizes",
            caption=f"Expected loss if the whole budget goes into one size, with its {level} interval.{shaded} "
            "Diamond: the plan, with the interval of the best size.",
            figure=valley_figure(valley),
            table=scale_table(document),
        ),
        Chart(
            id="plan-plane",
            title="The plan among your runs",
            caption=f"Thin lines: equal loss in nats per token, by the law.{path} Dashed: what the budget buys.",
            figure=plane_figure(plane),
            table=_runs_table(plane.runs.tolist(), document),
        ),
    ]
    if (time := document["time"]) is not None:
        charts.append(_time_chart(time))
    return tuple(charts)


def _time_chart(time: TimePart) -> Chart:
    return Chart(
        id="plan-time",
        title="Compute against time, at the plan's loss",
        caption="A larger batch takes fewer steps in a row and more tokens. Blue: no other pair of size and batch is "
        "better in both; smaller models, trained longer, bear larger batches.",
        figure=time_figure(time),
        table=frontier_table(time) if time["frontier"] else batches_table(time),
    )


def _choices(fit: Fit, document: Plan) -> str:
    charts = "".join(chart_html(chart) for chart in plan_charts(fit, document)[:2])
    body = tag("h2", "What else the budget buys", id="plan-choices")
    lead = "The same compute on other sizes; and what each size needs to reach the plan's loss."
    body += tag("p", text(lead), class_="lead")
    body += table_html(alternatives_table(document), "The same budget on other sizes")
    body += tag("div", charts, class_="pair")
    runs = document["runs_that_would_help"]
    if runs:
        body += tag("h3", "Runs that would say the best size better") + list_html([_run_words(run) for run in runs])
    return tag("section", body, aria_labelledby="plan-choices")


def _routes(fit: Fit, document: Plan) -> str:
    """The best size by each form of the law and by profiles, side by side; nothing where no optimum is known."""
    if document["optimum"] is None:
        return ""
    body = tag("h2", "The best size by other routes", id="plan-routes-title")
    lead = f"Every route alone, and its share in the plan: by {shares_words(document)}."
    body += tag("p", text(lead), class_="lead")
    body += table_html(members_table(document), "Routes to the best size")
    minima = " Blue: minima of the IsoFLOP profiles with their intervals, and the law through them."
    chart = Chart(
        id="plan-routes",
        title="The best size of each compute",
        caption=f"Grey: each form of the law, wider lines counting more.{minima if document['isoflop'] else ''} "
        "Diamond: the plan's best size with its interval.",
        figure=routes_figure(routes_numbers(fit, document)),
        table=profiles_table(document) if document["isoflop"] else members_table(document),
    )
    body += chart_html(chart)
    if document["isoflop"] and document["isoflop"]["wide"]:
        body += tag("p", text(_sentence(document["isoflop"]["wide"])))
    if not document["isoflop"]:
        body += tag("p", text(_sentence(f"no route by IsoFLOP profiles: {document['missing']['isoflop']}")))
    return tag("section", body, aria_labelledby="plan-routes-title")


def _run_words(run: Mapping[str, Any]) -> str:
    words = f"{format_quantity(run['params'])} parameters on {format_quantity(run['tokens'])} tokens"
    return words + (f": the best size then within a factor {run['known']:.2g} either way" if run["known"] else "")


def _time(document: Plan) -> str:
    body = tag("h2", "The same loss in less time", id="plan-time-title")
    time = document["time"]
    if time is None:
        body += tag("p", text(_sentence(document["missing"]["time"])), class_="lead")
        return tag("section", body, aria_labelledby="plan-time-title")
    lead = f"Relative to the plan at its recommended batch: {time['definition']['words']}."
    body += tag("p", text(_sentence(lead)), class_="lead")
    if words := fastest_words(document):
        body += tag("p", text(_sentence(words)))
    body += table_html(batches_table(time), "Batches for the plan's loss")
    body += chart_html(_time_chart(time))
    return tag("section", body, aria_labelledby="plan-time-title")


def _runs_table(points: list[list[float]], document: Plan) -> Table:
    plan = document["plan"]
    rows = [("plan", format_quantity(plan["params"]), format_quantity(plan["tokens"]))]
    rows += [("your runs", format_quantity(n), format_quantity(d)) for n, d in points]
    columns = ("what", "parameters", "tokens")
    return Table(columns=columns, rows=tuple(rows), numbers=columns[1:], strong=0)


def _evidence(document: Plan) -> str:
    evidence, recipe = document["evidence"], document["recipe"]
    pairs = [
        ("Recipe", f"{recipe['name']} ({recipe_words(recipe) or 'nothing known of what it holds fixed'})"),
        ("Loss law", f"{evidence['loss_fit_id']}, through the best run of {counted(evidence['scales'], 'scale')}"),
    ]
    pairs += [("Note", words) for words in evidence["notes"]]
    if document["optimum"] is not None:
        exponent = document["optimum"]["params_exponent"]
        ends = "" if exponent["low"] is None else f" ({exponent['low']:.2f} to {exponent['high']:.2f})"
        pairs.append(("Best parameters", f"grow here as compute^{exponent['value']:.2f}{ends}"))
    shown = document["settings"]["prediction_id"]
    pairs.append(("Settings", shown))
    body = tag("h2", "Evidence", id="plan-evidence") + pairs_html(pairs)
    return tag("section", body, aria_labelledby="plan-evidence", class_="evidence")


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")
