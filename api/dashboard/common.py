"""What every page is made with: inputs, templates, and how a number that was typed can be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lawfit import __version__
from lawfit.factors import asked_levels, levels_typed
from lawfit.plots.html import dark_block
from lawfit.records import RecipeSummary
from lawfit.units import parse_quantity

from .assets import address_of

templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
)


@dataclass(frozen=True, kw_only=True)
class Field:
    """One input of the form as it is shown again."""

    name: str
    label: str
    value: str
    placeholder: str
    needed: bool
    problem: str


def rendered(name: str, *, status: int, failure: str, body: str, **more: Any) -> HTMLResponse:
    """A page from its template, with what every page has."""
    content = templates.get_template(name).render(
        failure=failure[:1].upper() + failure[1:],
        body=body,
        dark=dark_block(),
        css=[address_of("lawfit.css"), address_of("page.css")],
        scripts=[address_of("plotly.js"), address_of("charts.js")] if body else [],
        version=__version__,
        **more,
    )
    return HTMLResponse(content, status_code=status, headers={"Cache-Control": "no-store"})


def only_recipe(recipes: list[RecipeSummary]) -> str:
    """The recipe that needs no choosing."""
    return recipes[0].recipe.name if len(recipes) == 1 else ""


# further inputs of the loss, on every form
THIRD_LABELS: Final[Mapping[str, str]] = {
    "unique_tokens": "Unique tokens",
    "epochs": "or epochs",
    "active_share": "Active share",
    "experts": "Experts",
}
THIRD_EXAMPLES: Final[Mapping[str, str]] = {
    "unique_tokens": "all of them",
    "epochs": "1",
    "active_share": "as in the runs",
    "experts": "as in the runs",
}


def third_said(unique_tokens: str, epochs: str, active_share: str, experts: str) -> dict[str, str]:
    """What was typed for each of them."""
    return dict(zip(THIRD_LABELS, (unique_tokens, epochs, active_share, experts), strict=True))


AT_LABEL, AT_EXAMPLE = "Level of a setting", "beta2=0.95"


def level_problem(text: str) -> str:
    """What is wrong with the levels that were typed, as a sentence; empty when nothing is."""
    try:
        asked_levels(levels_typed(text))
    except ValueError as error:
        return f"{AT_LABEL}: {error}."
    return ""


def level_field(value: str, problem: str) -> Field:
    """The input for levels of settings that vary in the runs, on every form."""
    return Field(name="at", label=AT_LABEL, value=value, placeholder=AT_EXAMPLE, needed=False, problem=problem)


def field_problem(words: str, text: str, *, whole: bool) -> str:
    """What is wrong with a number that was typed, as a sentence; empty when nothing is."""
    try:
        value = parse_quantity(text)
    except ValueError as error:
        return f"{words}: {error}."
    if value <= 0:
        return f"{words}: {text} is not positive."
    return f"{words}: {text} is not a whole number." if whole and value != int(value) else ""
