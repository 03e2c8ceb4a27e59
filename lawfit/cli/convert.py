"""`lawfit convert`: settings carried to another batch, horizon, width or convention by exact rules; no runs needed."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from lawfit.cli.options import JsonOption, quantity, whole_quantity
from lawfit.cli.output import heading, pairs, print_json, show, table, warning_list
from lawfit.units import format_lr, format_quantity, parse_quantity, sequences_to_tokens

if TYPE_CHECKING:
    from lawfit.laws.changes import Change, Changed, Tuned

app = typer.Typer(
    help="Carry tuned settings to another batch, horizon, width or convention: exact rules, no runs needed.",
    no_args_is_help=True,
)

CHECKED_NOTES = {"MEM": "formula from memory, unverified"}
KIND_WORDS = {
    "embedding": "embedding tables",
    "hidden": "matrices of the layers",
    "vector": "gains and biases",
    "output": "head",
}
DEFINITIONS = "doubling, zhang, or FRACTION@REFERENCE such as 0.2@256x512"

Answer = TypeVar("Answer")


@dataclasses.dataclass(frozen=True)
class Batch:
    """A batch as typed."""

    tokens: float
    seq_len: float | None  # None: typed as tokens


def batch(text: str) -> Batch:
    """``256x2048`` (sequences x tokens of each) or tokens: ``524288``, ``0.5M``."""
    sequences, cross, seq_len = str(text).partition("x")
    if not cross:
        return Batch(tokens=quantity(text), seq_len=None)
    return Batch(tokens=sequences_to_tokens(quantity(sequences), quantity(seq_len)), seq_len=quantity(seq_len))


def share(text: str) -> float:
    """A decay such as 0.95: between 0 and 1, both excluded."""
    try:
        value = parse_quantity(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not 0 < value < 1:
        raise typer.BadParameter(f"{text} does not lie between 0 and 1")
    return value


BATCH_HELP = "256x2048 (sequences x tokens of each) or tokens per step: 524288, 0.5M."
BatchFrom = Annotated[Batch, typer.Argument(parser=batch, metavar="FROM", help=BATCH_HELP)]
BatchTo = Annotated[Batch, typer.Argument(parser=batch, metavar="TO", help="The new batch, likewise.")]
LrOption = Annotated[
    float | None, typer.Option(parser=quantity, metavar="LR", help="Peak learning rate as tuned.", show_default=False)
]
DecayOption = Annotated[
    float | None, typer.Option(parser=quantity, metavar="WD", help="Weight decay as tuned.", show_default=False)
]
EpsOption = Annotated[
    float | None, typer.Option(parser=quantity, metavar="EPS", help="Adam's eps as tuned.", show_default=False)
]
IndependentOption = Annotated[
    bool,
    typer.Option(
        "--independent",
        help="A step shrinks weights by the weight decay alone, not by lr x weight decay (torch AdamW).",
    ),
]


@app.command("batch", short_help="To another batch size.")
def convert_batch(
    start: BatchFrom,
    to: BatchTo,
    lr: LrOption = None,
    beta1: Annotated[
        float | None, typer.Option(parser=share, metavar="B1", help="Adam's beta1 as tuned.", show_default=False)
    ] = None,
    beta2: Annotated[
        float | None, typer.Option(parser=share, metavar="B2", help="Adam's beta2 as tuned.", show_default=False)
    ] = None,
    eps: EpsOption = None,
    ema: Annotated[
        float | None,
        typer.Option(parser=share, metavar="RHO", help="Decay of the average of the weights.", show_default=False),
    ] = None,
    weight_decay: DecayOption = None,
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

    Example: lawfit convert batch 256x2048 1M --lr 3e-4 --beta2 0.95 --weight-decay 0.1
    """
    from lawfit.laws.changes import change_batch

    _same_unit(start, to)
    tuned = _tuned(independent, lr=lr, beta1=beta1, beta2=beta2, eps=eps, ema=ema, weight_decay=weight_decay)
    change = _answer(
        lambda: change_batch(tuned, start.tokens, to.tokens, lr_exponent=_exponent(rule), sde=sde),
    )
    title = f"Batch of {start.tokens:,.10g} to {to.tokens:,.10g} tokens per step: times {to.tokens / start.tokens:.4g}"
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
    change = _answer(lambda: change_horizon(tuned, start, to, exponent=exponent, params=params))
    title = f"Horizon of {format_quantity(start)} to {format_quantity(to)} tokens: times {to / start:.4g}"
    _print_change("tokens", title, {"tokens": start}, {"tokens": to}, change, as_json)


@app.command("width", short_help="To another width (muP) and depth (CompleteP).")
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
    lr: LrOption = None,
    init_std: Annotated[
        float | None,
        typer.Option(parser=quantity, metavar="STD", help="Spread of initial values as tuned.", show_default=False),
    ] = None,
    weight_decay: DecayOption = None,
    eps: EpsOption = None,
    independent: IndependentOption = False,
    as_json: JsonOption = False,
) -> None:
    """Carry settings from one width (and depth) to another by muP (CompleteP), for Adam and AdamW.

    Each value given is the base value, of a model whose own multipliers are 1; the answer has one line for each kind
    of parameter.

    Example: lawfit convert width 256 4096 --lr 0.01 --init-std 0.02 --weight-decay 0.1
    """
    from lawfit.laws.parametrization import Growth, Kind, Rules
    from lawfit.laws.timescale import DecayConvention

    if (depth is None) != (to_depth is None):
        raise typer.BadParameter("--depth and --to-depth go together")
    growth = _answer(
        lambda: Growth(
            rules=Rules.MUP if depth is None else Rules.COMPLETEP,
            base_width=start,
            width=to,
            base_depth=depth or 1,
            depth=to_depth or 1,
            convention=DecayConvention.INDEPENDENT if independent else DecayConvention.COUPLED,
        )
    )
    given = {"lr": lr, "init_std": init_std, "weight_decay": weight_decay, "eps": eps}
    kinds = {kind.value: dataclasses.asdict(growth.of(kind)) for kind in Kind}
    model = {
        "output_multiplier": growth.output_multiplier,
        "residual_multiplier": growth.residual_multiplier,
        "attention_logits": "query . key / head size",
    }
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
        "model": model,
        "notes": _width_notes(growth.rules is Rules.MUP, eps),
    }
    if as_json:
        print_json(document)
    else:
        _show_width(document, given, source[0], growth.width_ratio, growth.depth_ratio)


@app.command("weight-decay", short_help="Coupled and independent weight decay.")
def convert_weight_decay(
    weight_decay: Annotated[float, typer.Argument(parser=quantity, metavar="WD", help="Weight decay as given.")],
    lr: Annotated[float, typer.Option(parser=quantity, metavar="LR", help="Peak learning rate.")],
    independent: Annotated[
        bool, typer.Option("--independent", help="WD is in the independent form; the coupled one is asked.")
    ] = False,
    batch_size: Annotated[
        Batch | None,
        typer.Option("--batch", parser=batch, metavar="B", help="To see the timescale: the batch.", show_default=False),
    ] = None,
    tokens: Annotated[
        float | None,
        typer.Option(parser=quantity, metavar="D", help="To see the timescale: training tokens.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what weight decay is in the other convention: the same shrinking per step.

    Coupled (torch.optim.AdamW): a step shrinks weights by lr x weight decay. Independent: by weight decay alone.

    Example: lawfit convert weight-decay 0.1 --lr 3e-4
    """
    from lawfit.laws import timescale
    from lawfit.laws.timescale import DecayConvention

    if (batch_size is None) != (tokens is None):
        raise typer.BadParameter("the timescale takes --batch and --tokens: give both or none")
    both = (DecayConvention.COUPLED, DecayConvention.INDEPENDENT)
    given, wanted = both[::-1] if independent else both
    after = float(timescale.convert_weight_decay(weight_decay, lr, given, wanted))
    per_step = after if wanted is DecayConvention.INDEPENDENT else weight_decay
    tau = (
        None
        if batch_size is None or tokens is None
        else float(timescale.timescale(batch_size.tokens, lr, weight_decay, tokens, given))
    )
    notes = [
        "both forms are times the schedule's multiplier; a decay that ignores the schedule has no exact counterpart",
        *([f"a step would shrink the weights by {per_step:.3g}: more than all"] if per_step >= 1 else []),
        *([] if tau is None or tau < 1 else ["the weights average over more than the whole run: hardly any decay"]),
    ]
    if as_json:
        print_json(
            {
                "schema": "lawfit.conversion/1",
                "change": "weight-decay",
                "from": {"weight_decay": weight_decay, "convention": given.value, "lr": lr},
                "to": {"weight_decay": after, "convention": wanted.value, "lr": lr},
                "steps_remembered": 1 / per_step,
                "timescale": tau,
                "source": "arXiv:2405.13698",
                "notes": notes,
            }
        )
        return
    rows = [
        (
            "Weight decay",
            f"{weight_decay:.6g} {given} = {after:.6g} {wanted}, at a peak learning rate of {format_lr(lr)}",
        ),
        ("Why", f"independent = lr x coupled: both shrink the weights by {per_step:.4g} a step"),
        ("Memory", f"{1 / per_step:,.0f} steps" + ("" if tau is None else f", {tau:.4g} of the run (the timescale)")),
        ("Source", "arXiv:2405.13698"),
    ]
    show(pairs(rows), warning_list(notes))


@app.command("critical-batch", short_help="Definitions of a critical batch size.")
def convert_critical_batch(
    value: Annotated[Batch, typer.Argument(parser=batch, metavar="BATCH", help=BATCH_HELP)],
    start: Annotated[str, typer.Option("--from", metavar="DEFINITION", help=f"What BATCH is: {DEFINITIONS}.")],
    to: Annotated[str, typer.Option("--to", metavar="DEFINITION", help="What is asked.")] = "doubling",
    as_json: JsonOption = False,
) -> None:
    """Say what a critical batch size is by another definition; published ones differ threefold on the same runs.

    doubling: twice the tokens of a very small batch. zhang: 20 % more steps than linear scaling from 256 sequences of
    512 tokens (arXiv:2410.21676). FRACTION@REFERENCE: that fraction more steps than linear scaling from that batch.

    Example: lawfit convert critical-batch 745x512 --from zhang
    """
    from lawfit.laws.critical_batch import convert

    given, wanted = _definition(start), _definition(to)
    after = float(_answer(lambda: convert(value.tokens, given, wanted)))
    if as_json:
        print_json(
            {
                "schema": "lawfit.conversion/1",
                "change": "critical-batch",
                "from": {"batch_tokens": value.tokens, "definition": given.to_json()},
                "to": {"batch_tokens": after, "definition": wanted.to_json()},
                "source": "arXiv:1812.06162",
                "notes": [],
            }
        )
        return
    in_sequences = (
        "" if value.seq_len is None else f" ({after / value.seq_len:,.5g} sequences of {value.seq_len:,.10g})"
    )
    rows = [
        ("Given", f"{value.tokens:,.10g} tokens per step: {given.words()}"),
        ("Is", f"{after:,.7g} tokens per step{in_sequences}: {wanted.words()}"),
        ("Why", "on the hyperbola of steps and tokens every definition is an affine function of the doubling batch"),
        ("Source", "arXiv:1812.06162"),
    ]
    show(pairs(rows))


def _definition(text: str) -> Any:
    from lawfit.laws.critical_batch import DOUBLING, ZHANG, Definition

    named = {"doubling": DOUBLING, "zhang": ZHANG}
    if text in named:
        return named[text]
    fraction, at, reference = text.partition("@")
    if re.fullmatch(r"[0-9.]+(?:e-?[0-9]+)?", fraction) is None:
        raise typer.BadParameter(f"'{text}' is no definition of a critical batch: {DEFINITIONS}")
    tokens = batch(reference).tokens if at else 0.0
    return _answer(lambda: Definition(fraction=quantity(fraction), reference_batch_tokens=tokens))


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
    from lawfit.laws.timescale import DecayConvention

    return Tuned(**settings, convention=DecayConvention.INDEPENDENT if independent else DecayConvention.COUPLED)


def _answer(rule: Callable[[], Answer]) -> Answer:
    """What a rule says, or its sentence as a usage error: what was typed cannot be."""
    try:
        return rule()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


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
            row.rule + (f" ({CHECKED_NOTES[row.checked]})" if row.checked in CHECKED_NOTES else ""),
            row.cite or "-",
        )
        for row in found.settings
    ]
    columns = ("setting", "from", "to", "factor", "why", "source")
    show(heading(title), table(columns, rows, right=columns[1:4]))
    if found.notes:
        show(warning_list(found.notes))


def _number(row: Changed, value: float | None) -> str:
    if value is None:
        return "-"
    if row.setting == "lr":
        return format_lr(value)
    if row.setting in ("beta1", "beta2", "ema") and 0 < value < 1:  # digits of 1 - value are what tells them apart
        return f"{value:.{3 - math.floor(math.log10(1 - value))}f}".rstrip("0")
    return f"{value:.4g}"


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
