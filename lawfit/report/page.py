"""One recommendation as one HTML file that opens from disk, offline: style, script and plotly.js are inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lawfit.documents import Answer, Plan, Transfer
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


def report_html(fit: Fit, document: Answer, runs: Sequence[Run], laws: Mapping[str, Fit] | None = None) -> str:
    """The whole page.

    Parameters
    ----------
    fit : the stored fit that the document was made from
    document : the recommendation (`pipeline.recommend`)
    runs : of the recipe; the figures of the cells show them
    laws : kind -> further fit that the document was made from (`pipeline.laws_of`)
    """
    sections = recommendation_body(fit, document, runs, laws)
    target = document["target"]
    title = f"lawfit: {format_scale(target['params'], target['tokens'])}"
    return _page(title, "Learning rate and batch size for your next run", sections)


def plan_html(fit: Fit, document: Plan) -> str:
    """The whole page of a plan (`pipeline.plan`); `fit` is the loss fit that it was made from."""
    from lawfit.report.plan import plan_sections

    plan = document["plan"]
    title = f"lawfit: plan of {format_scale(plan['params'], plan['tokens'])}"
    return _page(title, "How to spend a training budget", plan_sections(fit, document))


def _page(title: str, heading: str, sections: str) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(title)}</title>\n<style>\n{asset('lawfit.css')}</style>\n</head>\n<body>\n"
        '<header class="top"><p class="brand">lawfit</p>'
        f"<h1>{text(heading)}</h1></header>\n"
        f"<main>{sections}</main>\n{dark_block()}\n"
        f'<script>{plotly_js()}</script>\n<script type="module">\n{asset("charts.js")}</script>\n</body>\n</html>\n'
    )


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
) -> Path:
    """Write the report whole or not at all; returns its absolute path.

    Raises
    ------
    LawfitError
        The file cannot be written.
    """
    return _write(path, report_html(fit, document, runs, laws))


def write_plan_report(path: Path, fit: Fit, document: Plan) -> Path:
    """Write the report of a plan, likewise."""
    return _write(path, plan_html(fit, document))


def write_transfer_report(path: Path, document: Transfer) -> Path:
    """Write the report of a transfer view (`pipeline.transfer`), likewise."""
    from lawfit.report.transfer import transfer_sections

    title = "lawfit: transfer of the learning rate"
    return _write(path, _page(title, "Transfer of the learning rate", transfer_sections(told(document))))


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
