"""The documents that commands, REST and notebook give: one type each, from where it is made to where it is shown.

They are JSON: dicts whose named keys are promised. Later versions add keys, and each kind of law that answers has a
part under its own name (`kinds`). What stands under a key is said below it, and in the schema of the REST API, which is
made from these types. Sentences are findings (`findings`) until they are told at the edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar, cast

from typing_extensions import is_typeddict

from lawfit.documents import answer, cost, next_runs, plan, study, training, transfer
from lawfit.documents.answer import Answer, Recommendation, ValuePart
from lawfit.documents.cost import SettingCost
from lawfit.documents.described import described
from lawfit.documents.next_runs import NextRuns
from lawfit.documents.plan import Plan, PlanSettings
from lawfit.documents.study import Studies, Study
from lawfit.documents.training import Config, Training, TrainingSchedule
from lawfit.documents.transfer import Transfer

__all__ = [
    "Answer",
    "Config",
    "NextRuns",
    "Plan",
    "PlanSettings",
    "SettingCost",
    "Studies",
    "Study",
    "Training",
    "TrainingSchedule",
    "Transfer",
    "given",
    "part_of",
    "setting_of",
]

Part = TypeVar("Part")

# What pydantic makes of them: later versions add keys, and the words below a key are its description. pydantic's own
# `use_attribute_docstrings` reads the whole module again for each type, which took half of the service's start.
for _room in (answer, cost, next_runs, plan, study, training, transfer):
    for _each in vars(_room).values():
        if is_typeddict(_each):
            _each.__pydantic_config__ = {"extra": "allow"}
            _each.__get_pydantic_json_schema__ = partial(described, _each)


def given(part: Part | None) -> Part:
    """A part of a document that is there wherever it is shown."""
    if part is None:
        raise ValueError("this document does not have the part that is to be shown")
    return part


def setting_of(recommendation: Recommendation, quantity: str) -> ValuePart:
    """Learning rate (``lr``) or batch (``batch_tokens``) of a recommendation that has them."""
    return given(recommendation["lr"] if quantity == "lr" else recommendation["batch_tokens"])


def part_of(document: Answer | PlanSettings, name: str) -> Mapping[str, Any] | None:
    """What one kind of law answers (`LawKind.part`); None where it does not, and in answers of before."""
    return cast("Mapping[str, Any] | None", document.get(name))
