"""What can be asked, each field declared once: from here come the options of the command line, the queries of the API,
the inputs of forms, the arguments in a notebook, and the checks.

To ask for something more, add a field with its `About`; the surfaces have it then.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from lawfit.declared import About, Field, fields_of, is_finite
from lawfit.units import parse_quantity

LARGEST_TARGET: Final = 1e18  # parameters, or tokens; beyond it products of powers leave the range of floats

# further inputs of a loss law; one of them is asked for
THIRD_INPUTS: Final = ("unique_tokens", "epochs", "active_share", "experts")


class Misasked(ValueError):
    """A field holds what it may not: which, what, and what it may hold."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}" if problem[:1].isalpha() else f"{field}: {problem}")
        self.field, self.problem = field, problem


@dataclass(frozen=True, kw_only=True)
class Question:
    """Fields that say what they may hold."""

    def __post_init__(self) -> None:
        for asked in fields_of(type(self)):
            value = getattr(self, asked.name)
            if not asked.about.allows(value):
                number = f"{value:g}" if isinstance(value, float) else value
                allowed = asked.about.allowed if is_finite(value) else "a finite number"
                raise Misasked(asked.name, f"must be {allowed}, got {number}")


@dataclass(frozen=True, kw_only=True)
class ThirdInputs(Question):
    """What a loss law may know of a run beside its scale; None: as in ordinary runs (fresh tokens, usual experts)."""

    unique_tokens: Annotated[
        float | None,
        About(
            "Different tokens there are: what the loss is where the run repeats them.",
            letter="U", minimum=1, maximum=LARGEST_TARGET, label="Unique tokens", example="all of them",
        ),
    ] = None  # fmt: skip
    epochs: Annotated[
        float | None,
        About(
            "Times that each token is seen, instead of unique tokens.",
            letter="E", minimum=1, maximum=LARGEST_TARGET, label="or epochs", example="1",
        ),
    ] = None  # fmt: skip
    active_share: Annotated[
        float | None,
        About(
            "Share of the experts that work on a token, 1 for a dense model.",
            letter="A", above=0, maximum=1, label="Active share", example="as in the runs",
        ),
    ] = None  # fmt: skip
    experts: Annotated[
        float | None,
        About(
            "Number of experts, 1 for a dense model.",
            letter="X", minimum=1, maximum=LARGEST_TARGET, label="Experts", example="as in the runs",
        ),
    ] = None  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.given()) > 1:
            raise ValueError(f"{' and '.join(self.given())}: a law of the loss takes one of them; give one")

    def given(self) -> dict[str, float]:
        """Those that are asked for."""
        return {name: value for name in THIRD_INPUTS if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, kw_only=True)
class _Settings(ThirdInputs):
    """What every recommendation may respect."""

    seq_len: Annotated[
        int | None,
        About(
            "Tokens per sequence, to count the batch in sequences.",
            letter="T", above=0, maximum=10**12, label="Sequence length", example="as in the recipe",
        ),
    ] = None  # fmt: skip
    batch_multiple: Annotated[
        int | None,
        About(
            "The batch must be a multiple of M sequences (of M tokens without a sequence length).",
            letter="M", above=0, maximum=10**12, label="Batch a multiple of (sequences)", example="any",
        ),
    ] = None  # fmt: skip
    max_batch_tokens: Annotated[
        float | None,
        About(
            "Largest batch that can be run, in tokens per step; the learning rate is then the best one at that batch.",
            letter="B", option="max-batch", above=0, label="Largest batch (tokens)", example="no limit",
        ),
    ] = None  # fmt: skip
    level: Annotated[
        float,
        About(
            "Probability that an interval holds the optimum.",
            letter="P", minimum=0.5, below=1, label="Probability of intervals", example="0.9",
        ),
    ] = 0.9  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Target(_Settings):
    """What a recommendation is asked for: a scale, and what the batch must respect."""

    params: Annotated[
        float,
        About(
            "Parameters of the target, counted as in the recipe; 7e9 or 7B.",
            letter="N", minimum=1, maximum=LARGEST_TARGET, label="Parameters", example="7B",
        ),
    ]  # fmt: skip
    tokens: Annotated[
        float,
        About(
            "Training tokens of the target; 1.4e12 or 1.4T.",
            letter="D", minimum=1, maximum=LARGEST_TARGET, label="Training tokens", example="1.4T",
        ),
    ]  # fmt: skip
    batch_tokens: Annotated[
        float | None,
        About(
            "Batch in tokens per step, where it is given: only the learning rate is asked.",
            letter="B", above=0, label="Batch (tokens)", example="advise me",
        ),
    ] = None  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SettingQuestion(Target):
    """What the cost of a setting is asked for: a scale, and the setting that somebody means to train with there."""

    lr: Annotated[
        float,
        About(
            "Peak learning rate of a setting of yours: what it costs is told in place of a recommendation.",
            letter="X", above=0, maximum=1e6,
        ),
    ]  # fmt: skip
    batch_tokens: Annotated[
        float | None,
        About("Batch of the setting, in tokens per step; left out: the one that is advised.", letter="B", above=0),
    ] = None
    weight_decay: Annotated[
        float | None,
        About("Weight decay of the setting, as torch.optim.AdamW takes it.", letter="W", above=0, maximum=1e6),
    ] = None


@dataclass(frozen=True, kw_only=True)
class SetUp(Question):
    """What is asked of a run's set-up in a training program: the devices, and what the answer does not say."""

    world_size: Annotated[
        int, About("Devices that share a batch (data parallel).", letter="W", minimum=1, maximum=10**9)
    ] = 1
    per_device_batch: Annotated[
        int | None,
        About(
            "Sequences that a device takes at once; left out: its whole share of the batch.",
            letter="B", minimum=1, maximum=10**12,
        ),
    ] = None  # fmt: skip
    warmup: Annotated[
        float | None,
        About(
            "Warmup in steps, or below 1 as a share of them; left out: that of the runs.",
            letter="S", minimum=0, maximum=LARGEST_TARGET,
        ),
    ] = None  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ScheduleQuestion:
    """What is asked of loss curves under a few schedules."""

    runs: str = "*"  # pattern of the curves' names that belong together: one model, batch and data
    schedules: tuple[str, ...] = ()  # to tell, as `laws.schedules.named_shape` reads them; empty: the usual ones
    lr: float | None = None  # peak; None: the curves'
    steps: int | None = None  # of the run, warmup included; None: the longest curve's
    warmup_steps: int | None = None  # where the warmup is not in the log


@dataclass(frozen=True, kw_only=True)
class RefineQuestion:
    """What is asked of the gradient norms along a run."""

    run: str | None = None  # pattern of its name, where the file has several
    column: str | None = None  # of the norms; None: found by its name
    adaptive: bool = False  # 1-norms, of a run by Adam or its family
    smoothing: float | None = None  # share of the run; None: the usual
    steps: int | None = None  # of the run to come; None: as long as the one that was logged


@dataclass(frozen=True, kw_only=True)
class PlanQuestion(_Settings):
    """What a plan is asked for: a budget, or a size, an amount of data or a loss, one or two of them."""

    flops: Annotated[
        float | None,
        About(
            "Training compute, 6 x parameters x tokens; 1e21.",
            letter="C", above=0, label="Compute (FLOPs)", example="1e21",
        ),
    ] = None  # fmt: skip
    gpu_hours: Annotated[
        float | None, About("Budget in GPU-hours instead; with flops_per_second.", letter="H", above=0)
    ] = None
    gpus: Annotated[
        int | None,
        About(
            "How many GPUs train; with flops_per_second.",
            letter="G", above=0, maximum=10**12, label="or GPUs", example="64",
        ),
    ] = None  # fmt: skip
    days: Annotated[
        float | None,
        About("Budget as wall-clock time on these GPUs instead.", letter="T", above=0, label="for days", example="2"),
    ] = None
    flops_per_second: Annotated[
        float | None,
        About(
            "What one GPU sustains in training: its peak x its utilisation; 4e14.",
            letter="F", minimum=1, maximum=1e18, label="FLOP/s of one GPU", example="4e14",
        ),
    ] = None  # fmt: skip
    params: Annotated[
        float | None,
        About(
            "The size is given, counted as in the recipe.",
            letter="N", minimum=1, maximum=LARGEST_TARGET, label="Size, if given", example="advise me",
        ),
    ] = None  # fmt: skip
    tokens: Annotated[
        float | None,
        About(
            "The training tokens are given.",
            letter="D", minimum=1, maximum=LARGEST_TARGET, label="Tokens, if given", example="advise me",
        ),
    ] = None  # fmt: skip
    loss: Annotated[
        float | None,
        About(
            "Nats per token to reach, as cheaply as can be.",
            letter="L", above=0, label="Loss to reach", example="the lowest",
        ),
    ] = None  # fmt: skip
    inference_tokens: Annotated[
        float | None,
        About(
            "Tokens to serve later, at 2 FLOPs per parameter, paid from the same budget: a smaller model, longer.",
            letter="T", above=0,
        ),
    ] = None  # fmt: skip
    step_seconds: Annotated[
        float | None,
        About(
            "The quickest step, however small its batch.",
            letter="S", above=0, label="Quickest step (s)", example="unknown",
        ),
    ] = None  # fmt: skip
    tokens_per_second: Annotated[
        float | None, About("Speed of all GPUs together at the planned size.", letter="R", above=0)
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        budgets = [words for words, given in self._budgets().items() if given]
        if len(budgets) > 1:
            raise ValueError(f"the budget is given twice, as {' and as '.join(budgets)}; give one of them")
        if (self.gpu_hours or self.days) and self.flops_per_second is None:
            raise ValueError(
                "GPU time becomes compute with flops_per_second, what one GPU sustains in training (its peak times its "
                "utilisation, for instance 4e14)"
            )
        if self.days and not self.gpus:
            raise ValueError("days become compute with gpus, their number")
        if self.gpus and self.flops_per_second is None:
            raise ValueError("gpus need flops_per_second, what one of them sustains in training (for instance 4e14)")
        if self.gpus and self.tokens_per_second:
            raise ValueError(
                "tokens_per_second and gpus with flops_per_second both say how quick training is; give one"
            )
        if self.budget is not None and self.loss is not None:
            raise ValueError("a budget and a loss leave nothing to plan: give the one, and the other is the answer")
        named = [name for name in ("params", "tokens", "loss") if getattr(self, name) is not None]
        named = ["a budget"] * (self.budget is not None) + named
        if not named and self.gpus:
            raise ValueError(
                "gpus alone are no budget: give days as well, how long they train, or params, tokens or a loss"
            )
        if not named:
            raise ValueError("a plan needs a budget (flops, or GPU time), or params, tokens or a loss to start from")
        if len(named) > 2:
            raise ValueError(f"{', '.join(named)} together say more than a run can be; give one or two of them")
        if self.inference_tokens is not None and not (self.budget is not None or named == ["loss"]):
            raise ValueError("inference_tokens are paid from a budget, or weighed against one loss: give one of these")

    @property
    def budget(self) -> float | None:
        """Compute in FLOPs, from whichever way it was given."""
        if self.flops is not None or self.flops_per_second is None:
            return self.flops
        if self.gpu_hours is not None:
            return 3600.0 * self.gpu_hours * self.flops_per_second
        return (
            None if self.days is None or self.gpus is None else 86400.0 * self.days * self.gpus * self.flops_per_second
        )

    def _budgets(self) -> dict[str, bool]:
        return {
            "flops": self.flops is not None,
            "gpu_hours": self.gpu_hours is not None,
            "gpus and days": self.days is not None,
        }


# What is asked of a plan of further runs and of a study alike.
_TargetParams = Annotated[
    float,
    About(
        "Parameters of the target, counted as in the recipe; 7e9 or 7B.",
        letter="N", minimum=1, maximum=LARGEST_TARGET, label="Target parameters", example="1B",
    ),
]  # fmt: skip
_TargetTokens = Annotated[
    float,
    About(
        "Training tokens of the target; 1.4e12 or 1.4T.",
        letter="D", minimum=1, maximum=LARGEST_TARGET, label="Target tokens", example="20B",
    ),
]  # fmt: skip
_Budget = Annotated[
    str,
    About(
        "What the runs may cost together: 1e19flops, 20gpu-hours, 64runs or $200.",
        letter="AMOUNT", label="Budget", example="1e18flops or 64runs",
    ),
]  # fmt: skip
_GpuSpeed = Annotated[
    float | None,
    About(
        "What one GPU sustains in training, its peak x its utilisation: turns FLOPs into GPU-hours; 4e14. Left out: as "
        "the packs of the recipe measured it that were trained from this database.",
        letter="F", minimum=1, maximum=1e18, label="FLOP/s of one GPU", example="4e14",
    ),
]  # fmt: skip
_GpuPrice = Annotated[
    float | None,
    About(
        "Dollars for a GPU-hour; with flops_per_second, or where packs were measured.",
        letter="USD", above=0, label="Dollars a GPU-hour", example="2.50",
    ),
]  # fmt: skip
_LargestSize = Annotated[
    float | None,
    About(
        "The largest size that can be trained; left out: sixteen times the largest of the runs.",
        letter="N", minimum=1, maximum=LARGEST_TARGET, label="Largest size", example="16 times the runs'",
    ),
]  # fmt: skip
_LongestHorizon = Annotated[
    float | None,
    About(
        "The longest horizon that a run can have, as of the text at hand; otherwise the target's.",
        letter="D", minimum=1, maximum=LARGEST_TARGET, label="Longest horizon", example="120M",
    ),
]  # fmt: skip
_SeqLen = Annotated[
    int | None,
    About(
        "Tokens per sequence; left out: the recipe's, and 256 in a first sweep.",
        letter="T", above=0, maximum=10**12, label="Sequence length", example="as in the recipe",
    ),
]  # fmt: skip
_Level = Annotated[
    float,
    About(
        "Probability that an interval holds the optimum.",
        letter="P", minimum=0.5, below=1, label="Probability of intervals", example="0.9",
    ),
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class NextQuestion(Question):
    """What is asked of the runs to make next: a target, what they may cost, and what can be trained."""

    params: _TargetParams
    tokens: _TargetTokens
    budget: _Budget
    flops_per_second: _GpuSpeed = None
    price: _GpuPrice = None
    max_params: _LargestSize = None
    max_tokens: _LongestHorizon = None
    under_way: Annotated[
        str | None,
        About(
            "Ids of plans, with commas between, whose runs are under way: those that are not there yet count as made.",
            letter="ID", label="Plans under way", example="none",
        ),
    ] = None  # fmt: skip
    seq_len: _SeqLen = None
    level: _Level = 0.9

    @property
    def target(self) -> Target:
        """What the runs are for."""
        return Target(params=self.params, tokens=self.tokens, seq_len=self.seq_len, level=self.level)


@dataclass(frozen=True, kw_only=True)
class StudyQuestion(Question):
    """What is asked of a study: a target, what all its runs may cost together, and when it is known well enough."""

    params: _TargetParams
    tokens: _TargetTokens
    budget: _Budget
    until: Annotated[
        str | None,
        About(
            "When to stop before the budget is spent: regret=0.1% (the share of the loss that the advised setting is "
            "expected to give up) or lr=x1.3 (the interval of the learning rate).",
            letter="WHEN", label="Until", example="the budget is spent",
        ),
    ] = None  # fmt: skip
    rounds: Annotated[
        int | None,
        About(
            "Rounds at most; what is left of the budget is spread evenly over those that are left. Left out: 4.",
            letter="K", minimum=1, maximum=100, label="Rounds", example="4",
        ),
    ] = None  # fmt: skip
    flops_per_second: Annotated[
        float | None,
        About(
            "What one GPU sustains in training, its peak x its utilisation: turns FLOPs into GPU-hours in the first "
            "round; 4e14. Later ones have what the packs took.",
            letter="F", minimum=1, maximum=1e18, label="FLOP/s of one GPU", example="4e14",
        ),
    ] = None  # fmt: skip
    price: _GpuPrice = None
    max_params: _LargestSize = None
    max_tokens: _LongestHorizon = None
    seq_len: _SeqLen = None
    level: _Level = 0.9

    @property
    def target(self) -> Target:
        """What the runs are for."""
        return Target(params=self.params, tokens=self.tokens, seq_len=self.seq_len, level=self.level)

    def next_runs(self, budget: str, **limits: float | int | None) -> NextQuestion:
        """What is asked of one round: the same target for a part of the budget."""
        return NextQuestion(
            params=self.params, tokens=self.tokens, budget=budget, level=self.level, price=self.price,
            **{"seq_len": self.seq_len, "max_params": self.max_params, **limits},  # type: ignore[arg-type]
        )  # fmt: skip


T = TypeVar("T", bound=Question)
R = TypeVar("R")


def questions_fields(kind: type[Question]) -> tuple[Field, ...]:
    """Fields in the order in which people are asked: what is particular to the question, then what all share."""
    found = {field.name: field for field in fields_of(kind)}
    own = dict.fromkeys(name for base in kind.__mro__ for name in inspect.get_annotations(base))
    return tuple(found[name] for name in own)


def read(kind: type[T], values: Mapping[str, object]) -> T:
    """A question from what was typed: numbers, or texts such as "7B"; empty texts and None are not asked.

    Raises
    ------
    ValueError
        A field that there is not, a number that is none; `Misasked` names the field.
    """
    declared = {field.name: field for field in fields_of(kind)}
    if unknown := sorted(values.keys() - declared.keys()):
        raise ValueError(f"nothing is known of {', '.join(unknown)}; it can be {', '.join(sorted(declared))}")
    given = {name: value_of(declared[name], value) for name, value in values.items() if value not in (None, "")}
    for field in declared.values():
        if field.needed and field.name not in given:
            raise Misasked(field.name, "is missing")
    return kind(**given)


def value_of(field: Field, value: object) -> float | int | str:
    """One value of a field, as people write it: a number, or a text where it holds one."""
    return str(value) if field.text else number(field, value)


def number(field: Field, value: object) -> float | int:
    """One number of a field, as people write it.

    Raises
    ------
    Misasked
        It is no number, or has to be whole.
    """
    try:
        found = parse_quantity(value) if isinstance(value, str) else float(value)  # type: ignore[arg-type]
    except TypeError:
        raise Misasked(field.name, f"must be a number, got {value!r}") from None
    except ValueError as error:
        raise Misasked(field.name, str(error)) from None
    if not math.isfinite(found):
        raise Misasked(field.name, f"must be a finite number, got {value}")
    if field.real:
        return found
    if found != int(found):
        raise Misasked(field.name, f"must be a whole number, got {value}")
    return int(found)


def spread(
    command: Callable[..., Any],
    kind: type[Question],
    annotation: Callable[[Field], Any],
    more: Sequence[Field] = (),
) -> inspect.Signature:
    """The signature of a command with the fields of a question in place of its parameters `asked` and `beside`.

    Parameters
    ----------
    annotation : of one field, as the surface has it: an option, a query, a number in a notebook
    more : fields of other questions besides, which need not be given
    """
    own = inspect.signature(command, eval_str=True)
    fields = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=annotation(field),
            default=inspect.Parameter.empty if field.needed else field.default,
        )
        for field in (*questions_fields(kind), *more)
    ]
    others = [each for each in own.parameters.values() if each.name not in ("asked", "beside")]
    first = [each for each in others if each.default is each.empty and each.kind is not each.KEYWORD_ONLY]
    rest = [each.replace(kind=each.KEYWORD_ONLY) for each in others if each not in first]
    return own.replace(parameters=[*first, *fields, *rest])


def arguments(kind: type[Question], annotation: Any) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """A function that takes the fields of a question shows them where its signature is asked for, in a notebook."""

    def of(function: Callable[..., R]) -> Callable[..., R]:
        shown: Any = function
        shown.__signature__ = spread(function, kind, lambda field: annotation if field.needed else annotation | None)
        return function

    return of
