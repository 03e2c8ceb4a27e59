"""/v1/fits: stored fits, listed, whole, and two side by side; /v1/optima: what each scale's own runs say."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Query

from lawfit import pipeline
from lawfit.storage.listing import page_of_fits

from ..cursors import cursor_of, place_of
from ..deps import StoreDep, contradiction
from ..problems import documented
from ..schemas import FitOut, FitsComparedOut, FitsOut, OptimaOut
from ..told import Told

router = APIRouter(tags=["fits"])


@router.get("/fits", response_model=FitsOut, responses=documented(404, 422, 503))
def list_fits(
    store: StoreDep,
    recipe: Annotated[str | None, Query(description="Of this recipe, by name or key; left out: of all")] = None,
    kind: Annotated[str | None, Query(description="Kind of law: lr_batch, loss, critical_batch, ...")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Fits on a page")] = 100,
    cursor: Annotated[str | None, Query(description="`next` of the page before; all else as it was asked then")] = None,
) -> dict[str, Any]:
    """Stored fits without their numbers, the one made last first."""
    if "\x00" in (kind or ""):
        return {"fits": [], "next": None}
    question = [None if recipe is None else store.recipe(recipe).key, kind]
    before = None if cursor is None else place_of(question, cursor)[1]
    found = page_of_fits(store, *question, before=before, limit=limit + 1)
    shown = found[:limit]
    rows = [{name: value for name, value in vars(fit).items() if name != "number"} for fit in shown]
    return {"fits": rows, "next": cursor_of(question, (None, shown[-1].number)) if len(found) > limit else None}


@router.get("/fits/compare", response_model=FitsComparedOut, responses=documented(404, 422, 503))
def compare_fits(
    store: StoreDep,
    a: Annotated[str, Query(description="Id of a fit")],
    b: Annotated[str, Query(description="Id of another of the same kind")],
) -> Told:
    """Two fits of one kind: exponents and levels, certificates, further laws, and in what their data differ."""
    try:
        return Told(pipeline.compare_fits(store, a, b))
    except ValueError as error:
        raise contradiction(error) from None


@router.get("/fits/{fit_id}", response_model=FitOut, responses=documented(404, 503))
def read_fit(store: StoreDep, fit_id: str) -> Told:
    """A stored fit: options, exclusions, data hash, parameters and backtest."""
    return Told(store.fit(fit_id).to_json())


@router.get("/optima", response_model=OptimaOut, responses=documented(404, 422, 503))
def list_optima(store: StoreDep, fit: Annotated[str, Query(description="Id of the fit that used them")]) -> Told:
    """Where the loss of each scale is smallest, as each estimator sees it in that scale's runs alone."""
    stored = store.fit(fit)
    return Told({"fit": stored.id, "optima": [dataclasses.asdict(optimum) for optimum in store.optima(stored.id)]})
