"""The page at `/plan`: a budget goes in as a query, the plan with its figures comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Final

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from lawfit import pipeline
from lawfit.errors import LawfitError
from lawfit.factors import levels_typed
from lawfit.plots.plan_sections import plan_sections
from lawfit.plots.words import scale_words
from lawfit.records import PlanQuestion
from lawfit.storage.store import Store
from lawfit.units import parse_quantity
from lawfit.words import told

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

# field -> what people call it, and an example; also the order of the form
NUMBERS: Final[Mapping[str, tuple[str, str]]] = {
    "flops": ("Compute (FLOPs)", "1e21"),
    "gpus": ("or GPUs", "64"),
    "days": ("for days", "2"),
    "flops_per_second": ("FLOP/s of one GPU", "4e14"),
    "params": ("Size, if given", "advise me"),
    "tokens": ("Tokens, if given", "advise me"),
    "loss": ("Loss to reach", "as low as can be"),
    "step_seconds": ("Quickest step (s)", "unknown"),
    **{name: (label, THIRD_EXAMPLES[name]) for name, label in THIRD_LABELS.items()},
}
WHOLE: Final = ("gpus",)
Text = Annotated[str, Query(max_length=60)]


def plan_fields(said: Mapping[str, str], problems: Mapping[str, str]) -> list[Field]:
    """The inputs of the form as they are shown again."""
    numbers = [
        Field(
            name=name,
            label=label,
            value=said.get(name, ""),
            placeholder=example,
            needed=False,
            problem=problems.get(name, ""),
        )
        for name, (label, example) in NUMBERS.items()
    ]
    return [*numbers, level_field(said.get("at", ""), problems.get("at", ""))]


def plan_page(status_of: Callable[[Exception], int]) -> APIRouter:
    """The route of the page; `status_of` is the application's one table from failures to HTTP codes."""
    router = APIRouter(include_in_schema=False)

    @router.get("/plan", response_class=HTMLResponse)
    def plan(
        store: StoreDep,
        flops: Text = "",
        gpus: Text = "",
        days: Text = "",
        flops_per_second: Text = "",
        params: Text = "",
        tokens: Text = "",
        loss: Text = "",
        step_seconds: Text = "",
        unique_tokens: Text = "",
        epochs: Text = "",
        active_share: Text = "",
        experts: Text = "",
        at: Annotated[str, Query(max_length=200)] = "",
        recipe: Annotated[str, Query(max_length=200)] = "",
    ) -> HTMLResponse:
        """Enter a budget, see the plan."""
        said = {
            "flops": flops,
            "gpus": gpus,
            "days": days,
            "flops_per_second": flops_per_second,
            "params": params,
            "tokens": tokens,
            "loss": loss,
            "step_seconds": step_seconds,
            "at": at,
            **third_said(unique_tokens, epochs, active_share, experts),
        }
        return _page(store, {name: value.strip() for name, value in said.items()}, recipe, status_of)

    return router


def _page(store: Store, said: Mapping[str, str], recipe: str, status_of: Callable[[Exception], int]) -> HTMLResponse:
    problems = {
        name: words
        for name, (label, _) in NUMBERS.items()
        if said[name] and (words := field_problem(label, said[name], whole=name in WHOLE))
    }
    if problem := level_problem(said["at"]):
        problems["at"] = problem
    status, failure, body, title = 200, "", "", "lawfit: plan a budget"
    if problems:
        status = 422
    elif any(said.values()):
        try:
            document = pipeline.plan(store, recipe or None, _question(said), at=levels_typed(said["at"]))
            body = plan_sections(store.fit(document["evidence"]["loss_fit_id"]), told(document))
            title = f"lawfit: plan of {scale_words(document['plan']['params'], document['plan']['tokens'])}"
        except LawfitError as error:
            status, failure = status_of(error), str(error)
        except ValueError as error:  # a question that contradicts itself
            status, failure = 422, str(error)
    recipes = store.recipes()
    return rendered(
        "plan.html",
        status=status,
        failure=failure,
        body=body,
        title=title,
        fields=plan_fields(said, problems),
        recipes=recipes,
        chosen=recipe or only_recipe(recipes),
    )


def _question(said: Mapping[str, str]) -> PlanQuestion:
    number = {name: parse_quantity(said[name]) if said[name] else None for name in NUMBERS}
    gpus = number["gpus"]
    return PlanQuestion(
        flops=number["flops"],
        gpus=None if gpus is None else int(gpus),
        days=number["days"],
        flops_per_second=number["flops_per_second"],
        params=number["params"],
        tokens=number["tokens"],
        loss=number["loss"],
        step_seconds=number["step_seconds"],
        unique_tokens=number["unique_tokens"],
        epochs=number["epochs"],
        active_share=number["active_share"],
        experts=number["experts"],
    )
