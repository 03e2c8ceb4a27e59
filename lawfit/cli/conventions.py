"""`lawfit convert weight-decay`, `critical-batch` and `params`: one number by another convention, exactly."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from lawfit.cli.options import JsonOption, quantity, whole_quantity
from lawfit.cli.output import pairs, print_json, show, warning_list
from lawfit.cli.typed import BATCH_HELP, Batch, answer, batch
from lawfit.laws.critical_batch import DEFINITIONS as DEFINITIONS  # `lawfit fit` takes them from here
from lawfit.units import format_lr
from lawfit.words import tell

COUNTS = "non_embedding, body_plus_head or total"


def weight_decay(
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
    if not 0 < after < math.inf:
        raise typer.BadParameter(f"a weight decay of {weight_decay:g} at a learning rate of {lr:g} is none")
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


def critical_batch(
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

    given, wanted = definition(start), definition(to)
    after = float(answer(lambda: convert(value.tokens, given, wanted)))
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
    in_sequences = "" if value.seq_len is None else f" ({after / value.seq_len:,.0f} sequences of {value.seq_len:,.0f})"
    rows = [
        ("Given", f"{value.tokens:,.0f} tokens per step: {tell(given.words())}"),
        ("Is", f"{after:,.0f} tokens per step{in_sequences}: {tell(wanted.words())}"),
        ("Why", "on the hyperbola of steps and tokens every definition is an affine function of the doubling batch"),
        ("Source", "arXiv:1812.06162"),
    ]
    show(pairs(rows))


def params(
    count: Annotated[float, typer.Argument(parser=quantity, metavar="N", help="Parameters as counted: 6.74B.")],
    start: Annotated[str, typer.Option("--from", metavar="COUNT", help=f"What N counts: {COUNTS}.")],
    to: Annotated[str, typer.Option("--to", metavar="COUNT", help="What is asked.")],
    width: Annotated[int, typer.Option(parser=whole_quantity, metavar="D", help="Width of the model.")],
    vocab: Annotated[int, typer.Option(parser=whole_quantity, metavar="V", help="Entries of the vocabulary.")],
    tied: Annotated[bool, typer.Option("--tied", help="The head is the embedding table, stored once.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say how many parameters a model has by another convention: laws and recipes count differently.

    Example: lawfit convert params 6.74B --from total --to non_embedding --width 4096 --vocab 32000
    """
    from lawfit.laws.counting import Tables, convert_params

    found = answer(lambda: float(convert_params(count, start, to, Tables(width=width, vocab=vocab, tied=tied))))
    if as_json:
        print_json(
            {
                "schema": "lawfit.conversion/1",
                "change": "params",
                "from": {"params": count, "convention": start},
                "to": {"params": found, "convention": to},
                "tables": {"width": width, "vocab": vocab, "tied": tied},
                "notes": [],
            }
        )
        return
    rows = [
        ("Given", f"{count:,.0f} parameters counted as {start}"),
        ("Is", f"{found:,.0f} counted as {to}"),
        ("Why", f"a table has {width:,} x {vocab:,} = {width * vocab:,}; {'one is' if tied else 'two are'} stored"),
    ]
    show(pairs(rows))


def definition(text: str) -> Any:
    from lawfit.laws.critical_batch import Definition

    return answer(lambda: Definition.parse(text))
