"""The page at `/laws`: the laws of a fit with what they rest on, how they did on scales left out, and earlier fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from lawfit import pipeline
from lawfit.ask import Target
from lawfit.documents import Answer
from lawfit.errors import LawfitError
from lawfit.pipeline.answering import size_words
from lawfit.plots.residuals import influence_table, residual_numbers
from lawfit.records import Fit
from lawfit.report.answer import glossary_section
from lawfit.report.fit_charts import FitCharts, Named
from lawfit.report.html import chart_json, chart_place, table_html, text
from lawfit.report.law_tables import changed_numbers, coefficients_table, covariance_table, formula, published_table
from lawfit.storage.listing import page_of_fits
from lawfit.storage.store import Store
from lawfit.words import told

from ..deps import Quantity, StoreDep
from .common import MOST_OF_A_NAME, page
from .looked_at import fit_of, looked_at, with_query

STEP: Final = 5.0  # the laws are drawn up to this many times the parameters and tokens of the largest runs
FITS_LISTED: Final = 20
SECTIONS: Final = (
    ("formula", "Formula"),
    ("optima", "Learning rate and batch"),
    ("further", "Further laws"),
    ("residuals", "Residuals"),
    ("backtest", "Backtest"),
    ("certificate", "Certificate"),
    ("history", "Earlier fits"),
)

router = APIRouter(include_in_schema=False)

FitAsked = Annotated[str, Query(max_length=64)]
Size = Annotated[Quantity | None, Query()]


@router.get("/laws")
def laws(
    store: StoreDep,
    request: Request,
    recipe: Annotated[str, Query(max_length=MOST_OF_A_NAME)] = "",
    fit: FitAsked = "",
    params: Size = None,
    tokens: Size = None,
    a: FitAsked = "",
    b: FitAsked = "",
) -> Response:
    """The newest fit of a recipe, or the one that is named."""
    named = store.fit(fit) if fit else None
    found = looked_at(store, recipe or (named.recipe_key if named else ""))
    shown = named or fit_of(store, found)
    if shown is not None and shown.kind != "lr_batch":
        raise HTTPException(
            404, f"fit {shown.id} is of another law than learning rate and batch, which this page shows"
        )
    more: dict[str, Any] = {"compared": _compared(store, a, b) if a and b else None, "a": a, "b": b}
    if shown is not None:
        more |= _law(store, request, shown, params, tokens)
        more["history"] = page_of_fits(store, found.recipe.key, "lr_batch", before=None, limit=FITS_LISTED)
    return page(
        request, "laws.html", title="Laws", recipe=found.name, found=found, fit=shown, sections=SECTIONS, **more
    )


def _target(fit: Fit, params: float | None, tokens: float | None) -> Target:
    """What is asked for, or a step beyond the largest runs."""
    ranges = fit.payload["model"]["ranges"]
    return Target(
        params=params or float(f"{STEP * ranges['params'][1]:.3g}"),
        tokens=tokens or float(f"{STEP * ranges['tokens'][1]:.3g}"),
    )


def _charts(store: Store, fit: Fit, target: Target) -> FitCharts:
    """With a recommendation at the target, from this very fit; without one where it cannot be made."""
    document: Answer | None
    try:
        document = told(pipeline.recommend(store, fit.recipe_key, target, fit_id=fit.id, keep=False))
    except LawfitError:
        document = None
    return FitCharts(fit=fit, document=document, laws=pipeline.laws_of(store, fit))


def _law(store: Store, request: Request, fit: Fit, params: float | None, tokens: float | None) -> dict[str, Any]:
    """Everything about one fit: words now, figures when they are seen."""
    target = _target(fit, params, tokens)
    charts = _charts(store, fit, target)
    payload = told(fit.payload)
    asked = {"fit": fit.id, "params": f"{target.params:.12g}", "tokens": f"{target.tokens:.12g}"}

    def places(named: Sequence[Named]) -> str:
        return _places(request, asked, named)

    influence = [
        table
        for quantity in ("lr", "batch_tokens")
        for table in influence_table(residual_numbers(payload, quantity)).rows
    ]
    return {
        "payload": payload,
        "target": target,
        "exponents": {name: payload["law"][name] for name in ("lr", "batch_tokens")},
        "formulas": [formula(payload["law"], name) for name in ("lr", "batch_tokens")],
        "coefficients": table_html(coefficients_table(payload["model"]), "Coefficients"),
        "covariance": table_html(covariance_table(payload["model"]), "Correlations, and variances on the diagonal"),
        "optima": [places(charts.scaling(quantity)) for quantity in ("lr", "batch_tokens")] if charts.document else [],
        "further": [places([each]) for each in charts.further()] if charts.document else [],
        "missing": payload.get("missing") or {},
        "left_out": [(item["count"], item["reason"]) for item in payload.get("rejected") or []],
        "glossary": glossary_section(),
        "residuals": [places(charts.residuals(quantity)) for quantity in ("lr", "batch_tokens")],
        "influence": sorted(influence, key=lambda row: -float(row[4]))[:6],
        "sizes": told(size_words(fit)),
        "backtests": places(charts.backtests()),
        "promises": places(charts.promises()),
        "published": table_html(published_table(payload["published"]), "Published laws on these runs"),
        "certificate": payload.get("certificate"),
    }


def _places(request: Request, asked: dict[str, str], named: Sequence[Named]) -> str:
    """The places of one figure, or of several behind a select; each is fetched when it is looked at."""
    root = request.scope.get("root_path", "").rstrip("/")
    places = [
        chart_place(
            each.name.replace(".", "-").strip("-"),
            each.title,
            "",
            root + with_query("/laws/figure.json", {"name": each.name}, asked),
        )
        for each in named
    ]
    if len(places) < 2:
        return "".join(places)
    ids = [each.name.replace(".", "-").strip("-") for each in named]
    options = "".join(
        f'<option value="{name}">{text(each.option)}</option>' for name, each in zip(ids, named, strict=True)
    )
    label = "Leaving out" if ids[0].startswith("backtest") else "Along"
    chooser = f'<label for="{ids[0]}-select">{label}</label> <select id="{ids[0]}-select">{options}</select>'
    return f'<div class="choice" data-choice="{ids[0]}"><p class="chooser" hidden>{chooser}</p>{"".join(places)}</div>'


def _compared(store: Store, one: str, other: str) -> dict[str, Any]:
    """What changed from the earlier of two fits to the later."""
    earlier, later = sorted((store.fit(one), store.fit(other)), key=lambda fit: str(fit.created_at))
    try:
        document = told(pipeline.compare_fits(store, earlier.id, later.id))
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    return {**document, "table": table_html(changed_numbers(document["numbers"]), "Numbers of both fits")}


@router.get("/laws/figure.json")
def figure(
    store: StoreDep,
    fit: FitAsked,
    name: Annotated[str, Query(max_length=100)],
    params: Size = None,
    tokens: Size = None,
) -> Response:
    """One figure of a fit."""
    stored = store.fit(fit)
    chart = None
    if stored.kind == "lr_batch":
        upto = _target(stored, params, tokens)
        drawn = name.startswith(("scaling.", "law."))  # up to a target
        charts = _charts(store, stored, upto) if drawn else FitCharts(fit=stored, document=None, laws={})
        chart = charts.chart(name)
    if chart is None:
        raise HTTPException(404, f"fit {fit} has no figure '{name}'")
    return Response(chart_json(chart), media_type="application/json")
