"""Options that several commands share, and how the database is found."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lawfit.ask import (
    Misasked,
    NextQuestion,
    PlanQuestion,
    Question,
    SettingQuestion,
    SetUp,
    StudyQuestion,
    Target,
    questions_fields,
    spread,
)
from lawfit.declared import Field
from lawfit.units import parse_quantity

if TYPE_CHECKING:
    from lawfit.settings import Settings
    from lawfit.storage.store import Store


@dataclass
class State:
    """What was said before the subcommand."""

    database: str | None = None


def quantity(text: str) -> float:
    """A positive number as people write it, or a usage error that says how."""
    try:
        value = parse_quantity(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if value <= 0:
        raise typer.BadParameter(f"'{text}' is not positive")
    return value


def amount(text: str) -> float:
    """The same, or nought."""
    return 0.0 if str(text).strip() in ("0", "0.0") else quantity(text)


def asks(
    kind: type[Question], narrower: type[Question] | None = None, beside: type[Question] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose parameter `asked` is a question: an option for each of its fields, what they say checked.

    Parameters
    ----------
    narrower : a question of the same fields and more, asked instead where one of those is given
    beside : a question of its own, for the command's parameter `beside`
    """

    def of(command: Callable[..., None]) -> Callable[..., None]:
        names = [field.name for field in questions_fields(kind)]
        more = [field for field in questions_fields(narrower or kind) if field.name not in names]
        optional = [replace(field, hint=field.hint | None, default=None) for field in more]
        own = questions_fields(beside) if beside else ()

        @wraps(command)
        def made(ctx: typer.Context, **said: Any) -> None:
            if ctx.invoked_subcommand is not None:
                return
            given = {name: said.pop(name) for name in names}
            further = {field.name: said.pop(field.name) for field in more}
            with as_usage():
                if beside is not None:
                    said["beside"] = beside(**{field.name: said.pop(field.name) for field in own})
                if set(further.values()) <= {None}:
                    asked = kind(**given)
                else:
                    for field in more:
                        if field.needed and further[field.name] is None:
                            raise Misasked(field.name, "is missing")
                    asked = (narrower or kind)(**given, **further)
            command(ctx, asked=asked, **said)

        shown: Any = made
        shown.__signature__ = spread(command, kind, _option, [*optional, *own])
        shown.__annotations__ = {each.name: each.annotation for each in shown.__signature__.parameters.values()}
        return made

    return of


def _option(field: Field) -> Any:
    real = amount if field.about.minimum == 0 else quantity
    parser = str if field.text else real if field.real else whole_quantity
    shown = field.default is not None and not field.needed
    name = f"--{field.about.option or option_name(field.name)}"
    words = _in_options(field.about.text, "--")
    return Annotated[
        field.hint, typer.Option(name, parser=parser, metavar=field.about.letter, help=words, show_default=shown)
    ]


@contextmanager
def as_usage() -> Iterator[None]:
    """A question that contradicts itself, or a field of it that cannot be, is a usage error in words of options."""
    try:
        yield
    except Misasked as error:
        name = _in_options(error.field, "--")
        raise typer.BadParameter(f"{name if name.startswith('--') else f'--{name}'} {error.problem}") from None
    except ValueError as error:
        raise typer.BadParameter(_in_options(str(error))) from None


def option_name(field: str) -> str:
    """``unique_tokens`` -> ``unique-tokens``."""
    return field.replace("_", "-")


def _in_options(message: str, dashes: str = "") -> str:
    """A message about fields of a question with their names as options have them: ``unique-tokens``."""
    about = {
        field.name: field.about
        for kind in (Target, SettingQuestion, SetUp, PlanQuestion, NextQuestion, StudyQuestion)
        for field in questions_fields(kind)
    }
    for name in sorted((name for name in about if "_" in name), key=len, reverse=True):
        message = re.sub(rf"\b{name}\b", dashes + (about[name].option or option_name(name)), message)
    return message


def whole_quantity(text: str) -> int:
    """A positive whole number as people write it: ``2048``, ``2k``."""
    value = quantity(text)
    if value != int(value):
        raise typer.BadParameter(f"'{text}' is not a whole number")
    return int(value)


DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="Database: a file (SQLite) or an SQLAlchemy URL such as postgresql+psycopg://host/name. "
        "Otherwise LAWFIT_DATABASE_URL, then lawfit.toml, then lawfit.db in this folder.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print exactly one JSON document on stdout, also when the command fails.")
]
VerboseOption = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Say all of it: numbers, reasons, doubts, and what the words mean."),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="NAME",
        help="Recipe (everything a sweep holds fixed) by name or key. Can be left out while the database has only one.",
        show_default=False,
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="FILE", help="Also write an HTML report with figures; it opens offline.", show_default=False
    ),
]
PlanFitOption = Annotated[
    str | None,
    typer.Option(
        "--fit", metavar="ID", help="Plan from this stored fit instead of the newest one.", show_default=False
    ),
]
AtOption = Annotated[
    list[str] | None,
    typer.Option(
        "--at",
        metavar="NAME=VALUE",
        help="Level of a setting that varies in the runs, such as weight_decay=0.1 or beta2=0.95; repeatable.",
        show_default=False,
    ),
]


def settings_for(ctx: typer.Context, database: str | None) -> Settings:
    """The settings of this run: the option after the subcommand, then the one before it, then the environment."""
    import dataclasses

    from lawfit.settings import Settings

    settings = Settings.load()
    state = ctx.find_object(State) or State()
    url = database or state.database
    return settings if url is None else dataclasses.replace(settings, database_url=url)


def open_store(ctx: typer.Context, database: str | None, *, create: bool = False, dry_run: bool = False) -> Store:
    """The store this command works on, closed at its end; see `open_at`."""
    return open_at(ctx, settings_for(ctx, database).database_url, create=create, dry_run=dry_run)


def open_at(ctx: typer.Context, url: str, *, create: bool = False, dry_run: bool = False) -> Store:
    """The store at a URL, migrated on first use, closed when the command ends.

    Commands that only read create no file, nor does a dry run: a name with a slip of the pen is an error.
    """
    from lawfit import pipeline

    store = pipeline.open_store(url, create=create, dry_run=dry_run)
    ctx.call_on_close(store.close)
    gc.freeze()  # what was imported stays: only what comes from here on is looked through for garbage
    gc.enable()
    return store
