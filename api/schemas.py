"""Response models: what OpenAPI tells a client. Later versions add keys, so models allow more.

Those of answers, plans and transfer views are made from the types of the documents themselves (`lawfit.documents`):
what stands below a key there is its description.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from lawfit.documents import Answer, Config, Plan, SettingCost, Transfer

ANSWER, CONFIG, COST, PLAN, TRANSFER = (
    TypeAdapter(document) for document in (Answer, Config, SettingCost, Plan, Transfer)
)


class Document(BaseModel):
    """A JSON document whose named keys are promised."""

    model_config = ConfigDict(extra="allow")


class RecipeOut(Document):
    """Everything that was held fixed in a sweep; empty means unknown."""

    name: str
    key: str = Field(description="Hash of all that is held fixed; the name is not part of it")
    optimizer: str = ""
    schedule: str = ""
    data: str = ""
    tokenizer: str = ""
    seq_len: int | None = Field(default=None, description="Tokens per sequence")
    parametrization: str = ""
    params_convention: str = ""
    loss_kind: str = ""
    loss_column: str = ""


class RecipeListed(RecipeOut):
    """A recipe, and what the store holds for it."""

    runs: int
    diverged: int
    excluded: int
    fits: int


class RecipesOut(Document):
    """All recipes of the store."""

    recipes: list[RecipeListed]


class FitOut(Document):
    """A stored fit; it never changes."""

    id: str
    recipe_key: str
    recipe_name: str
    kind: str
    status: str
    data_hash: str
    code_version: str
    created_at: str
    options: dict[str, Any]
    exclusions: dict[str, str] = Field(description="run -> reason it was left out")
    payload: dict[str, Any] = Field(description="Parameters, cells, backtest, diagnostics")


class HealthOut(Document):
    """Whether the process, or the service, is well."""

    status: str
    version: str
