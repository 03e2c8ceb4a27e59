"""The page at `/`: a target goes in as a query, the recommendation with its figures comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from lawfit import pipeline
from lawfit.errors import LawfitError
from lawfit.factors import levels_typed
from lawfit.plots.report import recommendation_body
from lawfit.plots.words import scale_words
from lawfit.records import Target
from lawfit.storage.store import Store
from lawfit.units import parse_quantity

from ..deps import StoreDep
from .common import (
    THIRD_EXAMPLES,
    THIRD_LABELS,
    Field,
    field_problem,
    level_field,
    level_problem,
    only_recipe,
    rendered,
    third_said,
)
from .plan_page import plan_fields

# field -> what people call it; also the order of the form
NUMBERS: Mapping[str, str] = {
    "params": "Parameters",
    "tokens": "Training tokens",
    "batch_tokens": "Batch (tokens)",
    "seq_len": "Sequence length",
    **THIRD_LABELS,
}
WHOLE = ("seq_len",)
NEEDED = ("params", "tokens")
PLACEHOLDERS: Mapping[str, str] = {
    "params": "7B",
    "tokens": "1.4T",
    "batch_tokens": "advise me",
    "seq_len": "as in the recipe",
    **THIRD_EXAMPLES,
}


def pages(status_of: Callable[[Exception], int]) -> APIRouter:
    """The routes of the pages; `status_of` is the application's one table from failures to HTTP codes."""
    router = APIRouter(include_in_schema=False)

    @router.get("/", response_class=HTMLResponse)
    def home(
        store: StoreDep,
        params: Annotated[str, Query(max_length=60)] = "",
        tokens: Annotated[str, Query(max_length=60)] = "",
        batch_tokens: Annotated[str, Query(max_length=60)] = "",
        seq_len: Annotated[str, Query(max_length=60)] = "",
        unique_tokens: Annotated[str, Query(max_length=60)] = "",
        epochs: Annotated[str, Query(max_length=60)] = "",
        active_share: Annotated[str, Query(max_length=60)] = "",
        experts: Annotated[str, Query(max_length=60)] = "",
        at: Annotated[str, Query(max_length=200)] = "",
        recipe: Annotated[str, Query(max_length=200)] = "",
    ) -> HTMLResponse:
        """Enter a target, see the recommendation."""
        said = {"params": params, "tokens": tokens, "batch_tokens": batch_tokens, "seq_len": seq_len, "at": at}
        said |= third_said(unique_tokens, epochs, active_share, experts)
        return _home(store, {name: value.strip() for name, value in said.items()}, recipe, status_of)

    return router


def _home(store: Store, said: Mapping[str, str], recipe: str, status_of: Callable[[Exception], int]) -> HTMLResponse:
    recipes = store.recipes()
    asked = any(said.values())
    problems = _problems(said) if asked else {}
    status, failure, body, title = 200, "", "", "lawfit"
    if problems:
        status = 422
    elif asked:
        try:
            target = _target(said)
            document = pipeline.recommend(store, recipe or None, target, at=levels_typed(said["at"]))
            fit = store.fit(document["evidence"]["fit_id"])
            body = recommendation_body(fit, document, store.runs(fit.recipe_key), pipeline.laws_of(store, fit))
            title = f"lawfit: {scale_words(target.params, target.tokens)}"
        except LawfitError as error:
            status, failure = status_of(error), str(error)
        except ValueError as error:  # a target that cannot be, or a batch that contradicts it
            status, failure = 422, str(error)
    return rendered(
        "home.html",
        status=status,
        failure=failure,
        body=body,
        title=title,
        fields=_fields(said, problems),
        plan_fields=plan_fields({}, {}),
        recipes=recipes,
        chosen=recipe or only_recipe(recipes),
    )


def _problems(said: Mapping[str, str]) -> dict[str, str]:
    """field -> what is wrong with it, as a sentence; empty when all is well."""
    found = {}
    for name, words in NUMBERS.items():
        text = said[name]
        if not text:
            if name in NEEDED:
                found[name] = f"{words}: a number is needed, for instance {PLACEHOLDERS[name]}."
            continue
        if problem := field_problem(words, text, whole=name in WHOLE):
            found[name] = problem
    if problem := level_problem(said["at"]):
        found["at"] = problem
    return found


def _target(said: Mapping[str, str]) -> Target:
    number = {name: parse_quantity(said[name]) if said[name] else None for name in NUMBERS}
    params, tokens, seq_len = number["params"], number["tokens"], number["seq_len"]
    assert params is not None
    assert tokens is not None
    return Target(
        params=params,
        tokens=tokens,
        batch_tokens=number["batch_tokens"],
        seq_len=None if seq_len is None else int(seq_len),
        unique_tokens=number["unique_tokens"],
        epochs=number["epochs"],
        active_share=number["active_share"],
        experts=number["experts"],
    )


def _fields(said: Mapping[str, str], problems: Mapping[str, str]) -> list[Field]:
    numbers = [
        Field(
            name=name,
            label=label,
            value=said[name],
            placeholder=PLACEHOLDERS[name],
            needed=name in NEEDED,
            problem=problems.get(name, ""),
        )
        for name, label in NUMBERS.items()
    ]
    return [*numbers, level_field(said["at"], problems.get("at", ""))]
