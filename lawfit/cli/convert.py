"""`lawfit convert`: settings carried to another batch, horizon, width, schedule or convention; no runs needed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lawfit.cli import conventions
from lawfit.cli.gathered import Options, gathers
from lawfit.cli.options import JsonOption, quantity, whole_quantity
from lawfit.cli.output import heading, pairs, print_json, show, table, warning_list
from lawfit.cli.typed import (
    Batch,
    BatchFrom,
    BatchTo,
    DecayOption,
    EpsOption,
    IndependentOption,
    LrOption,
    answer,
    share,
)
from lawfit.units import format_lr, format_quantity
from lawfit.words import tell, told

if TYPE_CHECKING:
    from lawfit.findings import Found
    from lawfit.laws.changes import Change, Changed, Tuned
    from lawfit.laws.parametrization import Growth
    from lawfit.laws.timescale import DecayConvention

app = typer.Typer(
    help="Carry tuned settings to another batch, horizon, width, schedule or convention: exact rules, no runs needed.",
    no_args_is_help=True,
)

CHECKED_NOTES = {"MEM": "formula from memory, unverified"}
KIND_WORDS = {
    "embedding": "embedding tables",
    "hidden": "matrices of the layers",
    "vector": "gains and biases",
    "output": "head",
}
SCHEDULE_STEPS = 4000  # of the schedule as tuned; where both end at 0 the ratio of their peaks does not depend on it
MAX_HORIZON_RATIO = 100.0
WHY_WIDTH = 38  # with the numbers before it, a table of 80 columns


@dataclass(frozen=True, kw_only=True)
class AdamSettings(Options):
    """Settings of a run that go with its batch."""

    lr: LrOption = None
    beta1: Annotated[
        float | None, typer.Option(parser=share, metavar="B1", help="Adam's beta1 as tuned.", show_default=False)
    ] = None
    beta2: Annotated[
        float | None, typer.Option(parser=share, metavar="B2", help="Adam's beta2 as tuned.", show_default=False)
    ] = None
    eps: EpsOption = None
    ema: Annotated[
        float | None,
        typer.Option(parser=share, metavar="RHO", help="Decay of the average of the weights.", show_default=False),
    ] = None
    weight_decay: DecayOption = None


@dataclass(frozen=True, kw_only=True)
class BaseValues(Options):
    """Settings of a model whose own multipliers are 1."""

    lr: LrOption = None
    init_std: Annotated[
        float | None,
        typer.Option(parser=quantity, metavar="STD", help="Spread of initial values as tuned.", show_default=False),
    ] = None
    weight_decay: DecayOption = None
    eps: EpsOption = None


@app.command("batch", short_help="To another batch size.")
@gathers
def convert_batch(
    start: BatchFrom,
    to: BatchTo,
    settings: AdamSettings,
    rule: Annotated[
        str, typer.Option(metavar="RULE", help="How lr goes with the batch: sqrt, linear, or an exponent.")
    ] = "sqrt",
    sde: Annotated[
        bool, typer.Option("--sde", help="Move lr, both betas and eps of Adam together, as its SDE asks.")
    ] = False,
    independent: IndependentOption = False,
    as_json: JsonOption = False,
) -> None:
    """Carry settings from one batch size to another; model, data and horizon stay.

    The learning rate goes with the square root of the batch, beta2 keeps its half-life in tokens, weight decay keeps
    the AdamW timescale.

    Example: lawfit convert batch 256x2048 512x2048 --lr 3e-4 --beta2 0.95 --weight-decay 0.1
    """
    from lawfit.laws.changes import change_batch

    _same_unit(start, to)
    tuned = _tuned(independent, **dataclasses.asdict(settings))
    change = answer(
        lambda: change_batch(tuned, start.tokens, to.tokens, lr_exponent=_exponent(rule), sde=sde),
    )
    title = f"Batch of {start.tokens:,.0f} to {to.tokens:,.0f} tokens per step: times {to.tokens / start.tokens:.4g}"
    _print_change("batch", title, {"batch_tokens": start.tokens}, {"batch_tokens": to.tokens}, change, as_json)


@app.command("tokens", short_help="To another number of training tokens.")
def convert_tokens(
    start: Annotated[float, typer.Argument(parser=quantity, metavar="FROM", help="Training tokens: 20e9, 20B.")],
    to: Annotated[float, typer.Argument(parser=quantity, metavar="TO", help="The new horizon, likewise.")],
    lr: LrOption = None,
    weight_decay: DecayOption = None,
    params: Annotated[
        float | None,
        typer.Option(
            parser=quantity, metavar="N", help="Size of the model: below 760M the rule is steeper.", show_default=False
        ),
    ] = None,
    exponent: Annotated[
        float | None,
        typer.Option(metavar="P", help="Your own: lr goes as tokens^-P at equal batch.", show_default=False),
    ] = None,
    independent: IndependentOption = False,
    as_json: JsonOption = False,
) -> None:
    """Carry settings from one horizon to another; model and batch stay (lawfit convert batch carries them on).

    Example: lawfit convert tokens 20B 1T --lr 1e-3 --weight-decay 0.1 --params 1.3B
    """
    from lawfit.laws.changes import change_horizon

    if params is not None and exponent is not None:
        raise typer.BadParameter("--params chooses the exponent, --exponent states it: give one of the two")
    tuned = _tuned(independent, lr=lr, weight_decay=weight_decay)
    change = answer(lambda: change_horizon(tuned, start, to, exponent=exponent, params=params))
    title = f"Horizon of {format_quantity(start)} to {format_quantity(to)} tokens: times {to / start:.4g}"
    _print_change("tokens", title, {"tokens": start}, {"tokens": to}, change, as_json)


@app.command("width", short_help="To another width (muP) and depth (CompleteP).")
@gathers
def convert_width(
    start: Annotated[int, typer.Argument(parser=whole_quantity, metavar="FROM", help="Width of the tuned model.")],
    to: Annotated[int, typer.Argument(parser=whole_quantity, metavar="TO", help="Width of the new model.")],
    depth: Annotated[
        int | None,
        typer.Option(parser=whole_quantity, metavar="L", help="Layers of the tuned model.", show_default=False),
    ] = None,
    to_depth: Annotated[
        int | None,
        typer.Option(
            parser=whole_quantity, metavar="L", help="Layers of the new model: CompleteP, not muP.", show_default=False
        ),
    ] = None,
    *,
    values: BaseValues,
    independent: IndependentOption = False,
    as_json: JsonOption = False,
) -> None:
    """Carry settings from one width (and depth) to another by muP (CompleteP), for Adam and AdamW.

    Each value given is the base value, of a model whose own multipliers are 1; the answer has one line for each kind
    of parameter.

    Example: lawfit convert width 256 4096 --lr 0.01 --init-std 0.02 --weight-decay 0.1
    """
    from lawfit.laws.parametrization import Kind, Rules

    growth = _growth((start, to), (depth, to_depth), independent=independent)
    given = dataclasses.asdict(values)
    kinds = {kind.value: dataclasses.asdict(growth.of(kind)) for kind in Kind}
    source = (
        ("muP", "arXiv:2203.03466", "V1") if growth.rules is Rules.MUP else ("CompleteP", "arXiv:2505.01618", "MEM")
    )
    document = {
        "schema": "lawfit.conversion/1",
        "change": "width",
        "from": {"width": start, "depth": depth},
        "to": {"width": to, "depth": to_depth},
        "rules": growth.rules.value,
        "source": source[1],
        "checked": source[2],
        "factors": kinds,
        "values": {kind: _values(kind, given, factors) for kind, factors in kinds.items()},
        "model": {
            "output_multiplier": growth.output_multiplier,
            "residual_multiplier": growth.residual_multiplier,
            "attention_logits": "query . key / head size",
        },
        "notes": _width_notes(growth.rules is Rules.MUP, values.eps),
    }
    if as_json:
        print_json(document)
    else:
        _show_width(document, given, source[0], growth.width_ratio, growth.depth_ratio)


@app.command("schedule", short_help="To another schedule of the learning rate.")
def convert_schedule(
    start: Annotated[str, typer.Argument(metavar="FROM", help="As tuned: cosine:floor=0.1, linear, rex, uba:phi=1.")],
    to: Annotated[
        str,
        typer.Argument(
            metavar="TO",
            help="The new one: wsd:cooldown=0.2,fall=1-sqrt, wsd_s:ends=0.5/1,cooldown=0.1,floor=0.1, "
            "power:sequences=1024,tokens=1e12,cooldown=0.1 (of 4,096 tokens; or capped=0.1), table:file=refined.csv.",
        ),
    ],
    lr: LrOption = None,
    tokens: Annotated[
        float | None, typer.Option(parser=quantity, metavar="D", help="Training tokens as tuned.", show_default=False)
    ] = None,
    to_tokens: Annotated[
        float | None, typer.Option(parser=quantity, metavar="D", help="The new horizon.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Carry a peak learning rate to another schedule, and horizon, by the bound on the last step of descent.

    The bound is of convex theory, and resembles language models closely; take the answer as the middle of a sweep.

    Example: lawfit convert schedule cosine:floor=0.1 wsd:cooldown=0.2 --lr 1e-3
    """
    import numpy as np

    from lawfit.laws.last_iterate import peak_ratio
    from lawfit.laws.named_schedules import CHECKED, named_shape, unverified
    from lawfit.laws.schedules import mean

    longer = _longer(tokens, to_tokens)
    old, new = answer(lambda: named_shape(start)), answer(lambda: named_shape(to))
    steps = SCHEDULE_STEPS, round(SCHEDULE_STEPS * longer)
    rates = [shape(np.arange(count) / count) for shape, count in zip((old, new), steps, strict=True)]
    ratio = peak_ratio(*(rate[rate > 0] for rate in rates))  # a step at rate 0, of a table, is none
    new_lr = None if lr is None else lr * ratio
    notes: list[Found] = ["formula of the bound from memory, tested against descents; warmup is left out of it"]
    notes += unverified(start, to)
    if max(float(old(1.0)), float(new(1.0))) > 1e-9:  # rounding
        notes.append(
            f"a schedule does not end at 0: counted for {SCHEDULE_STEPS:,} steps, some percent else per tenfold"
        )
    sides = [
        {
            "schedule": name,
            "lr": peak,
            "tokens": horizon,
            "mean_multiplier": mean(shape),
            "checked": CHECKED[name.partition(":")[0]],
        }
        for name, peak, horizon, shape in ((start, lr, tokens, old), (to, new_lr, to_tokens, new))
    ]
    if as_json:
        document = {"schema": "lawfit.conversion/1", "change": "schedule", "from": sides[0], "to": sides[1]}
        print_json({**document, "factor": ratio, "source": "arXiv:2501.18965", "checked": "MEM", "notes": notes})
    else:
        _show_schedules(sides, ratio, notes)


def _longer(tokens: float | None, to_tokens: float | None) -> float:
    """How many times as long the new horizon is."""
    if (tokens is None) != (to_tokens is None):
        raise typer.BadParameter("--tokens and --to-tokens go together")
    longer = (to_tokens or 1.0) / (tokens or 1.0)
    if not 1 / MAX_HORIZON_RATIO <= longer <= MAX_HORIZON_RATIO:
        raise typer.BadParameter(f"a horizon {longer:g} times as long is out of reach: at most {MAX_HORIZON_RATIO:g}")
    return longer


def _show_schedules(sides: Sequence[Mapping[str, Any]], ratio: float, notes: Sequence[Found]) -> None:
    rows = [
        (side["schedule"], "-" if side["lr"] is None else format_lr(side["lr"]), f"{side['mean_multiplier']:.4g}")
        for side in sides
    ]
    show(
        heading(f"Peak learning rate times {ratio:.4g}"),
        table(("schedule", "peak lr", "mean of the schedule"), rows, right=("peak lr", "mean of the schedule")),
        pairs([("Why", "the peak at which the bound on the last step is least"), ("Source", "arXiv:2501.18965")]),
        warning_list(told(notes)),
    )


app.command("weight-decay", short_help="Coupled and independent weight decay.")(conventions.weight_decay)
app.command("critical-batch", short_help="Definitions of a critical batch size.")(conventions.critical_batch)
app.command("params", short_help="Counts of parameters with and without tables.")(conventions.params)


def _exponent(rule: str) -> float:
    from lawfit.laws.transfer import LINEAR, SQRT

    if rule in ("sqrt", "linear"):
        return SQRT if rule == "sqrt" else LINEAR
    try:
        exponent = float(rule)
    except ValueError:
        exponent = math.nan
    if not math.isfinite(exponent):
        raise typer.BadParameter(f"'{rule}' is no rule for the learning rate: sqrt, linear, or an exponent such as 0.3")
    return exponent


def _same_unit(start: Batch, to: Batch) -> None:
    """One batch in sequences and the other a bare number below one sequence: the trap of taking one for the other."""
    for written, bare in ((start, to), (to, start)):
        if written.seq_len is not None and bare.seq_len is None and bare.tokens < written.seq_len:
            raise typer.BadParameter(
                f"a batch of {bare.tokens:g} tokens is less than one sequence of {written.seq_len:g}; "
                f"write {bare.tokens:g}x{written.seq_len:g} for {bare.tokens:g} sequences"
            )


def _tuned(independent: bool, **settings: float | None) -> Tuned:
    from lawfit.laws.changes import Tuned

    return Tuned(**settings, convention=_convention(independent))


def _convention(independent: bool) -> DecayConvention:
    from lawfit.laws.timescale import DecayConvention

    return DecayConvention.INDEPENDENT if independent else DecayConvention.COUPLED


def _print_change(
    change: str, title: str, start: dict[str, float], to: dict[str, float], found: Change, as_json: bool
) -> None:
    if as_json:
        settings = [
            {
                "setting": row.setting,
                "from": row.before,
                "to": row.after,
                "factor": row.factor,
                "rule": row.rule,
                "source": row.cite,
                "checked": row.checked,
            }
            for row in found.settings
        ]
        document = {"schema": "lawfit.conversion/1", "change": change, "from": start, "to": to}
        print_json({**document, "settings": settings, "notes": list(found.notes)})
        return
    rows = [
        (
            row.setting.replace("_", " "),
            _number(row, row.before),
            _number(row, row.after),
            "-" if row.factor is None else f"x {row.factor:.4g}",
            f"{tell(row.rule)} ({'; '.join(_sources(row))})" if _sources(row) else tell(row.rule),
        )
        for row in found.settings
    ]
    columns = ("setting", "from", "to", "factor", "why")
    show(heading(title), table(columns, rows, right=columns[1:4], wrap={"why": WHY_WIDTH}))
    if found.notes:
        show(warning_list(told(found.notes)))


def _sources(row: Changed) -> list[str]:
    """Where a rule comes from, and what is to be said of its formula."""
    return [text for text in (row.cite, CHECKED_NOTES.get(row.checked)) if text]


def _number(row: Changed, value: float | None) -> str:
    if value is None:
        return "-"
    if row.setting == "lr":
        return format_lr(value)
    if row.setting in ("beta1", "beta2", "ema") and 0 < value < 1:  # digits of 1 - value are what tells them apart
        return f"{value:.{3 - math.floor(math.log10(1 - value))}f}".rstrip("0")
    return f"{value:.4g}"


def _growth(widths: tuple[int, int], depths: tuple[int | None, int | None], *, independent: bool) -> Growth:
    """From the first of each to the second; by CompleteP where depths are given."""
    from lawfit.laws.parametrization import Growth, Rules

    base_depth, depth = depths
    if (base_depth is None) != (depth is None):
        raise typer.BadParameter("--depth and --to-depth go together")
    return answer(
        lambda: Growth(
            rules=Rules.MUP if depth is None else Rules.COMPLETEP,
            base_width=widths[0],
            width=widths[1],
            base_depth=base_depth or 1,
            depth=depth or 1,
            convention=_convention(independent),
        )
    )


def _values(kind: str, given: Mapping[str, float | None], factors: Mapping[str, float]) -> dict[str, float]:
    """What was given, for one kind of parameter; gains and biases start at 1 and 0, not from a spread."""
    return {
        name: value * factors[name]
        for name, value in given.items()
        if value is not None and (kind, name) != ("vector", "init_std")
    }


def _width_notes(mup: bool, eps: float | None) -> list[str]:
    notes = [
        "neither batch nor horizon is carried: lawfit convert batch, lawfit convert tokens",
        "attention logits are query . key / head size, and heads are added, not widened",
    ]
    if not mup:
        return [*notes, "CompleteP's table is from memory; its eps was checked against gradients"]
    if eps is not None:
        notes.append("muP's table leaves eps alone, but gradients shrink with the width: keep eps far below them")
    return notes


def _show_width(
    document: dict[str, Any], given: Mapping[str, float | None], name: str, width_ratio: float, depth_ratio: float
) -> None:
    depth = "" if document["from"]["depth"] is None else f", depth times {depth_ratio:.4g}"
    title = f"{name} ({document['source']}): width times {width_ratio:.4g}{depth}"

    def cell(kind: str, setting: str, factor: float) -> str:
        if given[setting] is None:
            return f"x {factor:.4g}"
        value = document["values"][kind].get(setting)
        return "-" if value is None else f"{value:.4g}"

    rows = [
        (KIND_WORDS[kind], *(cell(kind, setting, factor) for setting, factor in factors.items()))
        for kind, factors in document["factors"].items()
    ]
    columns = ("", "lr", "init std", "weight decay", "eps")
    model = document["model"]
    facts = [("Logits", f"x {model['output_multiplier']:.4g}")]
    if document["from"]["depth"] is not None:
        facts.append(("Residuals", f"each block's output x {model['residual_multiplier']:.4g}"))
    show(heading(title), table(columns, rows, right=columns[1:]), pairs(facts), warning_list(document["notes"]))
