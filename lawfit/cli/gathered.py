"""Options that belong together, declared as the fields of one class and handed to a command as one value."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from typing import Any, get_type_hints


class Options:
    """A frozen dataclass of this kind declares options: each field is one, with its `typer.Option` beside its type."""


def gathers(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options of each `Options` among its parameters in that parameter's place."""
    own = inspect.signature(command, eval_str=True).parameters
    kinds: dict[str, Any] = {
        name: each.annotation
        for name, each in own.items()
        if isinstance(each.annotation, type) and issubclass(each.annotation, Options)
    }
    names = {name: [field.name for field in fields(kind)] for name, kind in kinds.items()}

    @wraps(command)
    def made(*args: Any, **said: Any) -> None:
        values = {name: kind(**{field: said.pop(field) for field in names[name]}) for name, kind in kinds.items()}
        command(*args, **said, **values)

    shown: Any = made
    parameters = [
        option.replace(kind=option.KEYWORD_ONLY)
        for name, each in own.items()
        for option in (_options(kinds[name]) if name in kinds else [each])
    ]
    shown.__signature__ = inspect.Signature(parameters)
    shown.__annotations__ = {each.name: each.annotation for each in parameters}
    return made


def _options(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=hints[field.name],
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
        )
        for field in fields(kind)
    ]
