"""A transfer view as sections of HTML, the same in the report and on the page."""

from __future__ import annotations

from typing import Final

from lawfit.documents import Transfer
from lawfit.plots.shown import Table
from lawfit.plots.transfer import answers_of, transfer_charts
from lawfit.report.html import chart_html, list_html, pairs_html, table_html, tag, text

GLOSSARY: Final = (
    (
        "Exponent",
        "The best learning rate is proportional to width (or tokens) to this power, all else held; 0 is flat.",
    ),
    ("Flat within noise", "The interval of the exponent holds 0, and nothing steeper than half a power either way."),
    ("Interval", "Range that holds the best learning rate (or the exponent) with the stated probability."),
    ("muP", "Initial weights and learning rates scaled with width so that one base rate fits all (arXiv 2203.03466)."),
)


def transfer_sections(document: Transfer) -> str:
    """The view as HTML, the same in the report and on the page."""
    blocks = ""
    for one in document["recipes"]:
        name = one["recipe"] + (f" ({one['parametrization']})" if one["parametrization"] else "")
        rows = [
            (label, words + (f". Kept all along, {cost}." if cost else ".")) for label, words, cost in answers_of(one)
        ]
        notes = list_html([note[:1].upper() + note[1:] + "." for note in one["notes"]])
        blocks += tag("h3", text(name)) + pairs_html(rows)
        blocks += tag("details", tag("summary", "What to know") + notes, class_="notes") if one["notes"] else ""
    compared = [row["words"][:1].upper() + row["words"][1:] + "." for row in document["comparisons"]]
    lead = (
        "How the best peak learning rate moves with width and with horizon, from your sweeps alone: nothing is "
        "borrowed from published laws."
    )
    answer = tag("h2", "Does the learning rate transfer?", id="transfer-title") + tag("p", text(lead), class_="lead")
    answer += "".join(tag("p", text(words), class_="cost") for words in compared) + blocks
    charts = tag("div", "".join(chart_html(chart) for chart in transfer_charts(document)), class_="pair")
    body = tag("section", answer, aria_labelledby="transfer-title")
    body += tag("section", charts, aria_label="Figures")
    if document["without"]:
        table = Table(columns=("recipe", "what it would take"), rows=tuple(document["without"].items()))
        head = tag("h2", "Recipes without an answer", id="without-title")
        body += tag("section", head + table_html(table, "Recipes without an answer"), aria_labelledby="without-title")
    words = tag("details", tag("summary", "Words used here") + pairs_html(GLOSSARY))
    return body + tag("section", words, aria_label="Words used here")
