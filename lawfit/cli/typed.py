"""What people type in `lawfit convert`: batches in sequences or tokens, decays, and the options that commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import typer

from lawfit.cli.options import quantity
from lawfit.units import parse_quantity, sequences_to_tokens

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Batch:
    """A batch as typed."""

    tokens: float
    seq_len: float | None  # None: typed as tokens


def batch(text: str) -> Batch:
    """``256x2048`` (sequences x tokens of each) or tokens: ``524288``, ``0.5M``."""
    product = re.fullmatch(r"([^x*\u00d7]+)[*\u00d7]([^x*\u00d7]+)", str(text))
    if product is not None:
        raise typer.BadParameter(f"'{text}': write {'x'.join(product.groups())} for sequences x tokens of each")
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


def answer(rule: Callable[[], Answer]) -> Answer:
    """What a rule says, or its sentence as a usage error: what was typed cannot be."""
    try:
        return rule()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
