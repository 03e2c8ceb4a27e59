"""Small pieces of HTML: escaped text, tables, and charts with their data table under them.

A chart is a `<figure>` whose data lies in a JSON block of the page, or behind an address of the dashboard;
`assets/charts.js` draws it when it comes into view. No inline script and no inline handler, so a strict
Content-Security-Policy holds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib import resources
from typing import TYPE_CHECKING

from lawfit.plots.shown import Chart, Choice, Table
from lawfit.plots.style import HEIGHT, dark_partners
from lawfit.units import six_digits

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def tag(name: str, content: str, **attributes: str | None) -> str:
    """An element; `content` is HTML already. ``class_`` stands for class, ``aria_label`` for aria-label."""
    parts = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(value, quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    ]
    return f"<{name}{''.join(parts)}>{content}</{name}>"


def text(words: object) -> str:
    """Text that a browser shows as it is."""
    return escape(str(words), quote=True)


def table_html(table: Table, caption: str, *, folds: bool = False) -> str:
    """A table that scrolls inside its own box on a narrow screen, or (`folds`) shows a row below the other there."""
    right = [column in table.numbers for column in table.columns]
    head = "".join(
        tag("th", text(column), scope="col", class_="number" if number else None)
        for column, number in zip(table.columns, right, strict=True)
    )
    rows = []
    for index, row in enumerate(table.rows):
        cells = "".join(
            tag("td", text(cell), class_="number" if number else None, data_label=column if folds else None)
            for column, cell, number in zip(table.columns, row, right, strict=True)
        )
        rows.append(tag("tr", cells, class_="strong" if index == table.strong else None))
    body = tag("caption", text(caption)) + tag("thead", tag("tr", head)) + tag("tbody", "".join(rows))
    inside = tag("table", body, class_="folds" if folds else None)
    return tag("div", inside, class_="scroll", tabindex="0", role="region", aria_label=f"{caption}, as a table")


def chart_html(chart: Chart) -> str:
    """A figure: title, caption, the place where it is drawn, its data, and the numbers to read."""
    name = text(chart.id)
    inside = (
        f'<div class="plot" data-figure="{name}-data" style="min-height:{chart.figure.layout.height}px">'
        '<p class="needs-script">The drawing needs JavaScript; its numbers are below.</p></div>'
        f'<script type="application/json" id="{name}-data">{json_block(figure_json(chart.figure))}</script>'
        f'<details class="numbers"><summary>The numbers</summary>{table_html(chart.table, chart.title)}</details>'
    )
    return _figure_html(chart.id, chart.title, chart.caption, inside)


def chart_place(id_: str, title: str, caption: str, source: str, height: int = HEIGHT) -> str:
    """A figure that is fetched when it comes into view; nothing is worked out before.

    Parameters
    ----------
    source : address that answers `chart_json`
    height : px that it takes, so that nothing jumps when it is there
    """
    inside = (
        f'<div class="plot" data-source="{text(source)}" style="min-height:{height}px">'
        f'<noscript><a href="{text(source)}">The numbers, as JSON</a></noscript></div>'
        '<details class="numbers" hidden><summary>The numbers</summary></details>'
    )
    return _figure_html(id_, title, caption, inside)


def chart_json(chart: Chart) -> str:
    """What the address of a figure answers: the figure, and the table of its numbers, as `charts.js` reads them."""
    table = {
        "caption": chart.title,
        "columns": chart.table.columns,
        "rows": chart.table.rows,
        "numbers": chart.table.numbers,
    }
    caption = json.dumps(chart.caption)
    return f'{{"figure": {figure_json(chart.figure)}, "caption": {caption}, "table": {json.dumps(table)}}}'


def figure_json(figure: Figure) -> str:
    """A figure as `charts.js` reads it, its numbers to six digits: nobody sees more, and they are half of its size."""
    given = json.loads(figure.to_json(), parse_float=lambda digits: six_digits(float(digits)))
    return json.dumps(given, separators=(",", ":"), ensure_ascii=False)


def _figure_html(id_: str, title: str, caption: str, inside: str) -> str:
    name = text(id_)
    return (
        f'<figure class="chart" id="{name}" aria-labelledby="{name}-title">'
        f'<figcaption><h3 id="{name}-title">{text(title)}</h3><p>{text(caption)}</p></figcaption>{inside}</figure>'
    )


def choice_html(choice: Choice) -> str:
    """Charts behind a select; without JavaScript all of them are there, one below the other."""
    if len(choice.charts) == 1:
        return chart_html(choice.charts[0])
    options = "".join(tag("option", text(chart.option), value=chart.id) for chart in choice.charts)
    label = tag("label", text(choice.label), for_=f"{choice.id}-select") + tag(
        "select", options, id=f"{choice.id}-select"
    )
    charts = "".join(chart_html(chart) for chart in choice.charts)
    return f'<div class="choice" data-choice="{text(choice.id)}"><p class="chooser" hidden>{label}</p>{charts}</div>'


def json_block(document: str) -> str:
    """JSON that may stand inside a script element."""
    return document.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def dark_block() -> str:
    """The partner on dark paper of every colour, for `charts.js`."""
    return f'<script type="application/json" id="dark-colours">{json_block(json.dumps(dark_partners()))}</script>'


def list_html(items: Sequence[str], class_: str | None = None) -> str:
    return tag("ul", "".join(tag("li", text(item)) for item in items), class_=class_)


def pairs_html(pairs: Sequence[tuple[str, str]]) -> str:
    """Terms and what belongs to them."""
    return tag("dl", "".join(f"<div>{tag('dt', text(term))}{tag('dd', text(words))}</div>" for term, words in pairs))


@cache
def asset(name: str) -> str:
    """A file of `lawfit/report/assets`: the style sheet and the script that report and page share."""
    return (resources.files("lawfit.report") / "assets" / name).read_text(encoding="utf-8")


@cache
def plotly_js() -> str:
    """plotly.js of the installed package: the version that the figures were made for."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())
