"""The page at `/advisor`: a target goes in as a query, the recommendation with its valley and its reasons comes out.

`/advisor/answer` and `/advisor/more` are its two parts, which `advisor.js` exchanges when a slider moves: the numbers
at once, what takes longer when it rests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from lawfit import configs, pipeline
from lawfit.ask import SettingQuestion, Target, read
from lawfit.errors import LawfitError, NoRecipe
from lawfit.factors import levels_typed
from lawfit.records import RecipeSummary
from lawfit.report.charts import valley_chart
from lawfit.report.html import chart_json
from lawfit.report.page import report_html
from lawfit.storage.listing import values_among_runs
from lawfit.storage.store import Store
from lawfit.units import format_quantity, format_scale, parse_quantity
from lawfit.words import told
from lawfit.words.costs import cost_rows

from ..deps import StoreDep
from .common import MOST_OF_A_NAME, fragment, only_recipe, page, root_of
from .forms import LONGEST, Field, inputs, problems_of, typed
from .sides import SECOND, Asked, Side, contrast, second_of

STEP: Final = 5.0  # the target to begin with: so many times the parameters and tokens of the largest run
ENDS: Final[Mapping[str, tuple[float, float]]] = {"params": (4.0, 13.0), "tokens": (5.0, 15.0)}  # powers of ten


@dataclass(frozen=True, kw_only=True)
class Slider:
    """A number with a slider over its powers of ten, and where runs lie along it."""

    field: Field
    low: float
    high: float
    at: float
    runs: tuple[float, float] | None  # start and width, in percent
    runs_words: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Answers to what was asked, or why there are none."""

    status: int
    sides: tuple[Side, ...] = ()
    failure: str = ""

    @property
    def shown(self) -> dict[str, Any]:
        """What the templates of both parts show."""
        return {
            "sides": self.sides,
            "failure": self.failure,
            "contrast": contrast(self.sides),
            "programs": configs.PROGRAMS,
        }


async def _asked(
    request: Request,
    recipe: Annotated[str, Query(max_length=MOST_OF_A_NAME)] = "",
    fit: Annotated[str, Query(max_length=MOST_OF_A_NAME)] = "",
) -> Asked:
    return Asked(said=typed(Target, request.query_params), recipe=recipe, fit=fit.strip())


AskedDep = Annotated[Asked, Depends(_asked)]


def advisor_page(status_of: Callable[[Exception], int]) -> APIRouter:
    """The routes of the page; `status_of` is the application's one table from failures to HTTP codes."""
    router = APIRouter(include_in_schema=False)

    @router.get("/advisor", response_class=HTMLResponse)
    def advisor(store: StoreDep, request: Request, first: AskedDep) -> HTMLResponse:
        """Enter a target, see the recommendation; without one, for a run a few times as large as the largest."""
        recipes = store.recipes()
        first = _to_begin_with(store, recipes, first)
        problems = problems_of(Target, first.said) if any(first.said.values()) else {}
        outcome = Outcome(status=422 if problems else 200)
        if recipes and not problems and first.said["params"]:
            outcome = _outcome(store, request, first, status_of)
        title = "Advisor"
        if outcome.sides:
            title = format_scale(outcome.sides[0].target.params, outcome.sides[0].target.tokens)
        return page(
            request, "advisor.html", title=title, heading="Settings for your next run", status=outcome.status,
            scripts=("advisor.js",), recipe=first.recipe, recipes=recipes, chosen=first.recipe,
            unfitted=_unfitted(recipes, first) if not problems else "",
            **_form(store, request, first, problems), **outcome.shown,
        )  # fmt: skip

    @router.get("/advisor/answer", response_class=HTMLResponse)
    def answer(store: StoreDep, request: Request, first: AskedDep) -> HTMLResponse:
        """The numbers."""
        outcome = _outcome(store, request, first, status_of)
        return fragment(request, "answer.html", status=outcome.status, **outcome.shown)

    @router.get("/advisor/more", response_class=HTMLResponse)
    def more(store: StoreDep, request: Request, first: AskedDep) -> HTMLResponse:
        """What stands below them."""
        outcome = _outcome(store, request, first, status_of)
        return fragment(request, "more.html", status=outcome.status, **outcome.shown)

    @router.get("/advisor/valley")
    def valley(store: StoreDep, request: Request, first: AskedDep) -> Response:
        """The figure of what any setting costs."""
        side = _side(store, request, first)
        return Response(chart_json(valley_chart(side.fit, side.document)), media_type="application/json")

    @router.get("/advisor/setting", response_class=HTMLResponse)
    def setting(store: StoreDep, request: Request, first: AskedDep) -> HTMLResponse:
        """What a setting of somebody's costs, in words: GET /v1/settings/cost has its numbers."""
        own = {name: request.query_params.get(name, "")[:LONGEST] for name in ("lr", "batch_tokens", "weight_decay")}
        said = {name: text for name, text in first.said.items() if name != "at"}
        try:
            question = read(SettingQuestion, {**said, **own})
            document = pipeline.cost_of_setting(
                store, first.recipe or None, question, fit_id=first.fit or None, at=levels_typed(first.said["at"])
            )
        except ValueError as error:  # no number, or a batch that contradicts the run
            raise HTTPException(422, str(error)) from None
        return fragment(request, "setting.html", rows=cost_rows(told(document)))

    @router.get("/advisor/report", response_class=HTMLResponse)
    def report(store: StoreDep, request: Request, first: AskedDep) -> HTMLResponse:
        """The answer with all its evidence in one file."""
        side = _side(store, request, first)
        runs = store.runs(side.fit.recipe_key)
        return HTMLResponse(report_html(side.fit, side.document, runs, pipeline.laws_of(store, side.fit)))

    return router


def _side(store: Store, request: Request, question: Asked) -> Side:
    """The answer to one target, for what is fetched by itself."""
    if problems := problems_of(Target, question.said):
        raise HTTPException(422, " ".join(problems.values()))
    try:
        return Side.of(store, question, root_of(request))
    except ValueError as error:  # a target that cannot be, or a batch that contradicts it
        raise HTTPException(422, str(error)) from None


def _outcome(store: Store, request: Request, first: Asked, status_of: Callable[[Exception], int]) -> Outcome:
    """The answers to the target, and to the second one where there is one; what fails is a sentence in their place."""
    second = second_of(first, request.query_params)
    sides: list[Side] = []
    try:
        sides.extend(_side(store, request, question) for question in (first, second) if question is not None)
    except LawfitError as error:
        return Outcome(status=status_of(error), sides=tuple(sides), failure=str(error))
    except HTTPException as error:
        return Outcome(status=error.status_code, sides=tuple(sides), failure=error.detail)
    return Outcome(status=200, sides=tuple(sides))


def _to_begin_with(store: Store, recipes: Sequence[RecipeSummary], first: Asked) -> Asked:
    """Where nothing was typed: the recipe that there is, and a run a few times as large as its largest."""
    fitted = [each.recipe.name for each in recipes if each.fits]
    recipe = first.recipe or only_recipe(recipes)
    if recipe not in fitted or any(first.said.values()):
        return replace(first, recipe=recipe)
    ranges = _ranges(store, recipe)
    target = {name: format_quantity(STEP * high) for name, (_, high) in ranges.items()}
    return replace(first, recipe=recipe, said={**first.said, **target})


def _unfitted(recipes: Sequence[RecipeSummary], first: Asked) -> str:
    """The recipe that is looked at, where nothing was asked yet and it has no fit to answer from."""
    waiting = [each.recipe.name for each in recipes if not each.fits]
    return first.recipe if first.recipe in waiting and not any(first.said.values()) else ""


def _ranges(store: Store, recipe: str) -> dict[str, tuple[float, float]]:
    """Smallest and largest parameters and tokens of a recipe's runs; empty where there are none."""
    with suppress(NoRecipe):
        key = store.recipe(recipe).key
        found = {name: values_among_runs(store, key, name) for name in ENDS}
        return {name: (values[0], values[-1]) for name, values in found.items() if values}
    return {}


def _form(store: Store, request: Request, first: Asked, problems: Mapping[str, str]) -> dict[str, Any]:
    """The inputs as they are shown again: two sliders, the options, and the second target."""
    fields = {field.name: field for field in inputs(Target, first.said, problems)}
    ranges = _ranges(store, first.recipe) if first.recipe else {}
    named = replace(
        fields["at"], name="fit", label="Answer from fit", value=first.fit, placeholder="the newest", problem=""
    )
    options = [*(field for name, field in fields.items() if name not in ENDS), named]
    typed_2 = {name: request.query_params.get(f"{name}{SECOND}", "")[:LONGEST] for name in (*ENDS, "recipe")}
    second = [
        replace(
            fields[name], name=f"{name}{SECOND}", value=typed_2[name], placeholder="as above", needed=False, problem=""
        )
        for name in ENDS
    ]
    return {
        "sliders": [_slider(fields[name], ranges.get(name)) for name in ENDS],
        "options": options,
        "options_open": any(field.value or field.problem for field in options),
        "second": second,
        "second_open": any(typed_2.values()),
        "chosen_2": typed_2["recipe"],
    }


def _slider(field: Field, runs: tuple[float, float] | None) -> Slider:
    low, high = ENDS[field.name]
    try:
        at = math.log10(parse_quantity(field.value))
    except ValueError:  # nothing was typed, or no number
        at = (low + high) / 2
    covered = None
    if runs is not None:
        ends = [100 * (math.log10(end) - low) / (high - low) for end in runs]
        covered = (round(ends[0], 1), round(max(ends[1] - ends[0], 0.5), 1))
    return Slider(
        field=field,
        low=low,
        high=high,
        at=round(min(max(at, low), high), 2),
        runs=covered,
        runs_words="" if runs is None else " to ".join(dict.fromkeys(format_quantity(end) for end in runs)),
    )
