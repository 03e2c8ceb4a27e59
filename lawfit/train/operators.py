"""How operators of our own become known to torch, and to its compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import torch

Function = TypeVar("Function", bound=Callable[..., Any])
LIBRARY: Final = torch.library.Library("lawfit", "DEF")  # type: ignore[no-untyped-call]


def operator(schema: str) -> Callable[[Function], Function]:
    """Make the function torch.ops.lawfit.<name>, with the name that the schema begins with.

    As torch.library.custom_op does, whose operators load torch's compiler at their first call, wanted or not: 6 s.
    """
    LIBRARY.define(schema, tags=torch.Tag.pt2_compliant_tag)  # type: ignore[no-untyped-call]

    def register(function: Function) -> Function:
        name = schema.split("(")[0]
        LIBRARY.impl(name, function, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
        return function

    return register


def shapes_of(name: str) -> Callable[[Function], Function]:
    """Make the function tell the compiler what the operator's results look like."""

    def register(function: Function) -> Function:
        torch.library.register_fake(f"lawfit::{name}", function)
        return function

    return register
