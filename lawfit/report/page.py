"""One recommendation as one HTML file that opens from disk, offline: style, script and plotly.js are inside it.

plotly.js and the data of figures lie in it compressed, which makes it half as large; a browser unpacks them itself.
"""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lawfit import __version__
from lawfit.documents import Answer, NextRuns, Plan, Study, Transfer
from lawfit.errors import LawfitError
from lawfit.report.answer import laws_alone_sections, recommendation_sections
from lawfit.report.html import asset, dark_block, plotly_js, text
from lawfit.units import format_scale
from lawfit.words import told

if TYPE_CHECKING:
    from lawfit.records import Fit, Run

# Nothing may be fetched, whatever a label in somebody's data holds.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "base-uri 'none'; form-action 'none'"
)


def report_html(
    fit: Fit, document: Answer, runs: Sequence[Run], laws: Mapping[str, Fit] | None = None, project: str = ""
) -> str:
    """The whole page.

    Parameters
    ----------
    fit : the stored fit that the document was made from
    document : the recommendation (`pipeline.recommend`)
    runs : of the recipe; the figures of the cells show them
    laws : kind -> further fit that the document was made from (`pipeline.laws_of`)
    project : what the reader knows the runs by; in the head beside recipe, date and question
    """
    sections = recommendation_body(fit, document, runs, laws)
    target = document["target"]
    question = f"Settings for a run of {format_scale(target['params'], target['tokens'])}"
    return _page(question, _facts(document["recipe"]["name"], project), sections)


def plan_html(fit: Fit, document: Plan, project: str = "") -> str:
    """The whole page of a plan (`pipeline.plan`); `fit` is the loss fit that it was made from."""
    from lawfit.report.plan import plan_sections

    plan = document["plan"]
    question = f"How to spend a training budget: {format_scale(plan['params'], plan['tokens'])}"
    return _page(question, _facts(document["recipe"]["name"], project), plan_sections(fit, document))


def _facts(recipe: str, project: str) -> list[str]:
    """What a report is about, for its head: where the numbers come from, and when."""
    made = datetime.now(UTC).date().isoformat()
    return [
        *([f"project {project}"] if project else []),
        f"recipe {recipe}" if recipe else "",
        made,
        f"lawfit {__version__}",
    ]


def _page(question: str, facts: Sequence[str], sections: str) -> str:
    """The file: its figures and plotly.js lie in it compressed, and `charts.js` unpacks them."""
    facts = [fact for fact in facts if fact]
    sections, figures = _without_figures(sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(' · '.join([question, *facts]))}</title>\n"
        f"<style>\n{asset('lawfit.css')}</style>\n</head>\n<body>\n"
        '<header class="top"><p class="brand">lawfit</p>'
        f'<h1>{text(question)}</h1><p class="facts">{text(" · ".join(facts))}</p></header>\n'
        f"<main>{sections}</main>\n{dark_block()}\n"
        f"{_packed('packed-figures', figures)}\n{_packed('packed-plotly', plotly_js())}\n"
        f'<script type="module">\n{asset("charts.js")}</script>\n</body>\n</html>\n'
    )


_FIGURE: Final = re.compile(r'<script type="application/json" id="([^"]+-data)">(.*?)</script>', re.DOTALL)


def _without_figures(sections: str) -> tuple[str, str]:
    """The sections with the data of their figures taken out, and those as one JSON object by id."""
    found = _FIGURE.findall(sections)
    return _FIGURE.sub("", sections), "{" + ",".join(f'"{name}":{data}' for name, data in found) + "}"


def _packed(name: str, content: str) -> str:
    """A block of text that only `charts.js` reads."""
    data = base64.b64encode(gzip.compress(content.encode(), 9, mtime=0)).decode()
    return f'<script type="text/plain" id="{name}">{data}</script>'


def recommendation_body(fit: Fit, document: Answer, runs: Sequence[Run], laws: Mapping[str, Fit] | None = None) -> str:
    """The sections that report and page share, from the runs as the store gives them."""
    from lawfit.estimate.observe.observations import data_hash, observe

    document = told(document)
    if document["recommendation"]["lr"] is None:
        return laws_alone_sections(document, laws or {})
    seen = [run for run in runs if run.run_key not in fit.exclusions]  # at the levels that the fit holds at
    return recommendation_sections(fit, document, observe(seen), data_hash(runs), laws)


def write_report(
    path: Path,
    fit: Fit,
    document: Answer,
    runs: Sequence[Run],
    laws: Mapping[str, Fit] | None = None,
    project: str = "",
) -> Path:
    """Write the report whole or not at all; returns its absolute path.

    Raises
    ------
    LawfitError
        The file cannot be written.
    """
    return _write(path, report_html(fit, document, runs, laws, project))


def write_plan_report(path: Path, fit: Fit, document: Plan, project: str = "") -> Path:
    """Write the report of a plan, likewise."""
    return _write(path, plan_html(fit, document, project))


def write_next_report(path: Path, document: NextRuns) -> Path:
    """Write the report of a plan of further runs (`pipeline.plan_next`), likewise."""
    from lawfit.report.next_runs import next_sections

    target = document["target"]
    question = f"What to run next for {format_scale(target['params'], target['tokens'])}"
    return _write(path, _page(question, _facts(document["recipe"] or "", ""), next_sections(document)))


def write_study_report(path: Path, document: Study) -> Path:
    """Write the history of a study (`pipeline.show_study`), likewise."""
    from lawfit.report.study import study_sections

    target = document["target"]
    question = f"A study for {format_scale(target['params'], target['tokens'])}"
    return _write(path, _page(question, _facts(document["recipe"], ""), study_sections(document)))


def write_transfer_report(path: Path, document: Transfer) -> Path:
    """Write the report of a transfer view (`pipeline.transfer`), likewise."""
    from lawfit.report.transfer import transfer_sections

    sections = transfer_sections(told(document))
    return _write(path, _page("Transfer of the learning rate", _facts("", ""), sections))


def _write(path: Path, content: str) -> Path:
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(content, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise LawfitError(f"the report cannot be written to {path}: {error.strerror or error}") from None
    return path.resolve()
