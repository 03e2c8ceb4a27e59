"""torch.compile as packs need it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., Any])
MENDED: Final = (2, 13)  # version of torch that compiles deep models without our help; 2.12 was not looked at


def compiled(function: Function) -> Function:
    """The function as one compiled graph, made anew for each shape."""
    # a process may train packs of any number of shapes; torch gives up at the ninth by default
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 2**20
    if tuple(int(number) for number in torch.__version__.split(".")[:2]) < MENDED:
        spare_messages()
    return cast(Function, torch.compile(function, dynamic=False, fullgraph=True))


def spare_messages() -> None:
    """Name an operation's arguments in the compiler's messages instead of writing them out.

    For each operation of our own, torch 2.11 (2.13 no longer does) writes out all that its arguments were
    computed from, for a log line that nobody asked for. Each layer multiplies that text: forward through 4 layers of
    width 64 it took 2 s, through 6 already 69 s, and 12 layers did not compile in 9 minutes.
    """
    from torch._inductor import exc

    if hasattr(exc, "OperatorIssue"):
        setattr(exc.OperatorIssue, "operator_str", staticmethod(_described))  # noqa: B010 (mypy: a method)


def _described(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    kinds = [type(arg).__name__ for arg in args] + [f"{name}={type(arg).__name__}" for name, arg in kwargs.items()]
    return f"  target: {target}\n  arguments: {', '.join(kinds)}"
