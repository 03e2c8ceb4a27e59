"""POST /v1/predictions/bulk: recommendations at many scales, each with its own answer or problem."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictFloat, StrictStr, WithJsonSchema
from starlette.concurrency import run_in_threadpool

from lawfit import pipeline
from lawfit.ask import Misasked, Target, questions_fields, read
from lawfit.documents import Answer
from lawfit.errors import LawfitError, StoreError
from lawfit.storage.store import Store

from ..deps import StoreDep, contradiction, invalid
from ..failures import problem_of
from ..problems import Problem, documented
from ..schemas import Document, Text
from ..told import Told

router = APIRouter(tags=["predictions"])

MOST_TARGETS: Final = 300
_FIELDS: Final = {field.name: field for field in questions_fields(Target)}
_NEEDED: Final = [name for name, field in _FIELDS.items() if field.needed]


def _a_target(said: dict[str, float | str | None]) -> dict[str, float | str | None]:
    if unknown := sorted(said.keys() - _FIELDS.keys()):
        raise ValueError(f"nothing is known of {', '.join(unknown)}; there are {', '.join(sorted(_FIELDS))}")
    if lacking := [name for name in _NEEDED if said.get(name) is None]:
        raise ValueError(f"lacks {' and '.join(lacking)}")
    return said


# What can be read as a number is looked at with the target: what is wrong with it is the problem of that target alone.
TargetAsked = Annotated[
    dict[str, StrictFloat | StrictStr | None],
    AfterValidator(_a_target),
    WithJsonSchema(
        {
            "title": "TargetAsked",
            "type": "object",
            "description": "What is asked, as in the query of GET /v1/predictions: numbers, or texts such as 7B",
            "required": _NEEDED,
            "additionalProperties": False,
            "properties": {
                name: {
                    "description": f"{field.about.text} {field.about.allowed[:1].upper()}{field.about.allowed[1:]}",
                    "anyOf": [{"type": kind} for kind in ("number", "string", "null")[: 2 if field.needed else 3]],
                }
                for name, field in _FIELDS.items()
            },
        }
    ),
]


class BulkAsked(BaseModel):
    """Many targets of one recipe."""

    model_config = ConfigDict(extra="forbid")

    targets: list[TargetAsked] = Field(min_length=1, max_length=MOST_TARGETS)
    recipe: Text | None = Field(default=None, description="Name or key; needed when the store has several")
    fit: Text | None = Field(default=None, description="Answer from this stored fit instead of the newest")
    at: list[Text] = Field(default=[], max_length=100, description="Levels of settings that vary, each NAME=VALUE")
    keep: bool = Field(default=False, strict=True, description="Keep each answer under its id, as POST does")


class BulkAnswer(Document):
    """The answer to one target, or why there is none: one of the two."""

    answer: Answer | None
    problem: Problem | None


class BulkAnswers(Document):
    """In the order of the targets."""

    answers: list[BulkAnswer]


@router.post("/predictions/bulk", response_model=BulkAnswers, responses=documented(404, 422, 503))
async def predict_many(store: StoreDep, request: Request, asked: BulkAsked) -> Told:
    """Recommendations at up to 300 scales: what is wrong with one target is told in its place, the others answer."""
    await run_in_threadpool(store.recipe, asked.recipe)  # what all of them lack is told once
    answers = []
    for place, target in enumerate(asked.targets):
        if place:
            await request.state.give_way()  # others that wait are not kept waiting until the last
        answers.append(await run_in_threadpool(_one, store, asked, target))
    return Told({"answers": answers})


def _one(store: Store, asked: BulkAsked, said: dict[str, Any]) -> dict[str, Any]:
    """The answer to one target, or its problem."""
    try:
        target = read(Target, said)
        answer = pipeline.recommend(store, asked.recipe, target, fit_id=asked.fit, at=asked.at, keep=asked.keep)
    except StoreError:  # of all of them
        raise
    except Misasked as error:
        return _failed(invalid(error.field, error.problem))
    except LawfitError as error:
        return _failed(error)
    except ValueError as error:
        return _failed(contradiction(error))
    return {"answer": answer, "problem": None}


def _failed(error: Exception) -> dict[str, Any]:
    return {"answer": None, "problem": problem_of(error).plain()}
