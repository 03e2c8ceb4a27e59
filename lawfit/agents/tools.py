"""What can be asked, tool by tool: its question, its answer, and who answers.

Arguments are the fields of the questions (`lawfit.ask`), answers the documents of REST (`lawfit.documents`): their
schemas are made from these. To offer something more, add a `Tool` to `TOOLS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lawfit import configs, pipeline
from lawfit.ask import (
    Misasked,
    PlanQuestion,
    Question,
    SettingQuestion,
    SetUp,
    Target,
    questions_fields,
    read,
)
from lawfit.documents import Answer, Config, Plan, SettingCost
from lawfit.words import told

if TYPE_CHECKING:
    from lawfit.storage import Store

Json = Any
Said = Mapping[str, Json]

MOST_RUNS: Final = 200  # given at once: more would fill what a model can hold in mind
_RECIPE: Final = {"type": "string", "description": "Name or key; needed when the store has several."}
OF_A_RECIPE: Final[Mapping[str, Json]] = {
    "recipe": _RECIPE,
    "fit": {"type": "string", "description": "Answer from this stored fit instead of the newest."},
    "at": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Levels of settings that vary in the runs, each NAME=VALUE.",
    },
}


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One thing that can be asked."""

    name: str
    text: str  # what it does, and when to ask it
    answer: Callable[[Store, Said], Json]
    questions: tuple[type[Question], ...] = ()  # their fields are arguments
    others: Mapping[str, Json] = field(default_factory=lambda: OF_A_RECIPE)  # further arguments: name -> JSON schema
    needed: tuple[str, ...] = ()  # of these
    document: Any = None  # type of what it answers; None: an object that says itself

    @property
    def takes(self) -> dict[str, Json]:
        """JSON schema of its arguments."""
        fields = [each for question in self.questions for each in questions_fields(question)]
        return {
            "type": "object",
            "properties": {
                # as people write them, too: 7B, 1.4T; bounds are of numbers
                **{each.name: {"type": ["number", "string"], **each.about.schema} for each in fields},
                **self.others,
            },
            "required": [*(each.name for each in fields if each.needed), *self.needed],
            "additionalProperties": False,
        }

    @property
    def gives(self) -> dict[str, Json]:
        """JSON schema of its answer."""
        if self.document is None:
            return {"type": "object"}
        from pydantic import TypeAdapter

        return TypeAdapter(self.document).json_schema()

    def ask(self, store: Store, said: Said) -> Json:
        """Its answer as JSON has it, findings in words.

        Raises
        ------
        LawfitError
            A refusal: why, and what to do.
        ValueError
            Arguments that cannot be.
        """
        unknown = sorted(said.keys() - self.takes["properties"].keys())
        if unknown:
            raise ValueError(
                f"{self.name} takes no {', '.join(unknown)}; it takes {', '.join(self.takes['properties'])}"
            )
        for name in self.needed:
            if said.get(name) in (None, ""):
                raise Misasked(name, "is missing")
        return told(self.answer(store, said))


def _asked(kind: type[Question], said: Said) -> Any:
    names = {each.name for each in questions_fields(kind)}
    return read(kind, {name: value for name, value in said.items() if name in names})


def _of_recipe(said: Said) -> dict[str, Any]:
    return {"fit_id": said.get("fit"), "at": said.get("at") or ()}


def _predict(store: Store, said: Said) -> Answer:
    return pipeline.recommend(store, said.get("recipe"), _asked(Target, said), **_of_recipe(said), keep=False)


def _cost(store: Store, said: Said) -> SettingCost:
    return pipeline.cost_of_setting(store, said.get("recipe"), _asked(SettingQuestion, said), **_of_recipe(said))


def _plan(store: Store, said: Said) -> Plan:
    return pipeline.plan(store, said.get("recipe"), _asked(PlanQuestion, said), **_of_recipe(said), keep=False)


def _config(store: Store, said: Said) -> Config:
    writer = configs.named(str(said["program"]))
    target, devices = _asked(Target, said), _asked(SetUp, said)
    training = pipeline.set_up(store, said.get("recipe"), target, devices, **_of_recipe(said), keep=False)
    return configs.config_of(writer, training)


def _runs(store: Store, said: Said) -> Json:
    most = int(said.get("limit") or MOST_RUNS)
    if not 1 <= most <= MOST_RUNS:
        raise Misasked("limit", f"must be between 1 and {MOST_RUNS}, got {most}")
    return pipeline.list_runs(store, said.get("recipe"), most=most).to_json()


def _laws(_store: Store, said: Said) -> Json:
    return {"laws": [pipeline.show_law(str(said["law"]))] if said.get("law") else pipeline.list_laws()}


TOOLS: Final[Sequence[Tool]] = (
    Tool(
        name="predict",
        text="Recommended peak learning rate and batch size for a training run of so many parameters and tokens, with "
        "intervals, weight decay, critical batch and expected loss where the runs carry them, and what being wrong "
        "costs.",
        questions=(Target,),
        answer=_predict,
        document=Answer,
    ),
    Tool(
        name="cost_of_setting",
        text="What a learning rate, batch and weight decay of somebody's own cost at a target: loss given up over the "
        "best setting, with an interval and by part, and the loss of a run there.",
        questions=(SettingQuestion,),
        answer=_cost,
        document=SettingCost,
    ),
    Tool(
        name="plan",
        text="How to spend a training budget, or reach a loss: model size, tokens, settings, other sizes, time.",
        questions=(PlanQuestion,),
        answer=_plan,
        document=Plan,
    ),
    Tool(
        name="config",
        text="The recommendation as settings of a training program, as text to be pasted.",
        questions=(Target, SetUp),
        others={
            "program": {"type": "string", "enum": [program.name for program in configs.PROGRAMS]},
            **OF_A_RECIPE,
        },
        needed=("program",),
        answer=_config,
        document=Config,
    ),
    Tool(
        name="recipes",
        text="Recipes of the store: what each sweep of runs held fixed, and how many runs and fits it has.",
        others={},
        answer=lambda store, _said: pipeline.list_recipes(store),
    ),
    Tool(
        name="runs",
        text="Runs of the store, the first of them, with their settings and losses, and how many there are.",
        others={
            "recipe": _RECIPE,
            "limit": {"type": "integer", "minimum": 1, "maximum": MOST_RUNS, "description": "How many at most."},
        },
        answer=_runs,
    ),
    Tool(
        name="laws",
        text="Published scaling laws of learning rate, batch, weight decay and loss: formulas, what they count, "
        "sources.",
        others={"law": {"type": "string", "description": "Id of one law; left out: all."}},
        answer=_laws,
    ),
)
