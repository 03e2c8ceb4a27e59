"""What every page is made with: the template around it, a part of it, and the recipe that is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lawfit import __version__
from lawfit.records import RecipeSummary
from lawfit.report.html import dark_block
from lawfit.units import counted, format_lr, format_percent, format_quantity, format_scale

from .assets import address_of

MENU: Final = (
    ("/", "Home"),
    ("/advisor", "Advisor"),
    ("/scales", "Scales"),
    ("/laws", "Laws"),
    ("/runs", "Runs"),
    ("/next", "Next"),
    ("/plan", "Plan"),
)
_HEADINGS: Final = {
    401: "A token is needed",
    404: "Not found",
    421: "Another machine was asked for",
    503: "Not available at the moment",
}
MOST_OF_A_NAME: Final = 200  # characters of a recipe's name in a query

templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
)


def sentence(words: str) -> str:
    """Words of a finding as a sentence of their own."""
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")


templates.filters.update(
    quantity=format_quantity, lr=format_lr, percent=format_percent, counted=counted, sentence=sentence
)
templates.globals.update(scale=format_scale)


def page(
    request: Request,
    template: str,
    *,
    title: str,
    heading: str = "",
    status: int = 200,
    scripts: Sequence[str] = (),
    recipe: str = "",
    **more: Any,
) -> HTMLResponse:
    """A whole page.

    Parameters
    ----------
    template : extends `base.html`
    title : of the window, behind which "lawfit" is put
    heading : its h1; left out: the title
    scripts : further modules of `static`; `page.js`, which draws figures too, is there already
    recipe : the one that is looked at, which links of the menu keep
    more : what the template shows
    """
    current = next((path for path, _ in MENU[1:] if _below(request, path)), "/" if _path(request) == "/" else "")
    content = templates.get_template(template).render(
        title=f"{title} · lawfit",
        heading=heading or title,
        root=root_of(request),
        menu=MENU,
        current=current,
        recipe=recipe,
        dark=dark_block(),
        css=[address_of(name) for name in ("lawfit.css", "page.css", "tables.css")],
        scripts=[address_of("page.js"), *map(address_of, scripts)],
        plotly=address_of("plotly.js"),
        version=__version__,
        **more,
    )
    return HTMLResponse(content, status_code=status, headers={"Cache-Control": "no-store"})


def fragment(request: Request, template: str, *, status: int = 200, **more: Any) -> HTMLResponse:
    """A part of a page, which `swap` of `page.js` puts into its place."""
    content = templates.get_template(template).render(root=root_of(request), **more)
    return HTMLResponse(content, status_code=status, headers={"Cache-Control": "no-store"})


def is_page(request: Request) -> bool:
    """Whether a person looks at what is asked for, so that a failure is a page with a sentence."""
    path = _path(request)
    return not path.startswith(("/v1/", "/assets/")) and "text/html" in request.headers.get("accept", "")


def failure(request: Request, status: int, words: str) -> HTMLResponse:
    """A failure as a page, or as a part of one where a part was asked for."""
    if "x-fragment" in request.headers:
        return fragment(request, "refusal.html", status=status, failure=words)
    heading = _HEADINGS.get(status, "This could not be shown")
    return page(request, "failure.html", title=heading, status=status, failure=sentence(words))


def bare_failure(status: int, words: str) -> HTMLResponse:
    """A failure as a page that asks for nothing further: of whom nothing is served, scripts and styles neither."""
    heading = _HEADINGS.get(status, "This could not be shown")
    content = templates.get_template("bare.html").render(heading=heading, failure=sentence(words))
    return HTMLResponse(content, status_code=status, headers={"Cache-Control": "no-store"})


def only_recipe(recipes: Sequence[RecipeSummary]) -> str:
    """The recipe that needs no choosing: the only one, or the only one with a fit."""
    fitted = [each for each in recipes if each.fits] if len(recipes) > 1 else recipes
    return fitted[0].recipe.name if len(fitted) == 1 else ""


def root_of(request: Request) -> str:
    """Path below which a proxy shows the service."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def _path(request: Request) -> str:
    return request.url.path.removeprefix(root_of(request)) or "/"


def _below(request: Request, path: str) -> bool:
    return _path(request) == path or _path(request).startswith(f"{path}/")
