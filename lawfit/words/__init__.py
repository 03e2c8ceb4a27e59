"""From findings to sentences: the one place where what was found becomes words.

Each module has ``WORDS``: what -> a sentence, or a function of the data where one sentence is not enough. Sentences are
format strings with a few words more than Python's own::

    {params:q}            1.2B        a count of parameters or tokens
    {lr:lr}               6.12e-4     a learning rate
    {level:share}         90 %        a share as it was stated; "percent": as a whole number
    {cost:pct}            0.06 %      a share of the loss
    {scales:count scale}  3 scales    a number of things; a plural that is not an "s" follows as a third word
    {name:input}          parameters  an input of a law by its field; also "quantity" (that a fit says), and "setting"
    {names:join , }       a, b        a list with what stands between; "and" or "or" alone gives "a, b and c"
    {rates:lr and}        1e-3 and 2e-3  the same, each written in one of the ways above
    rate{rates:plural}    rates       an "s" where the list has several
    {names:few or}        a to z      the same, the ends alone where there are many

A finding among the data is told where it stands. Sentences begin in lower case and end without a full stop.
"""

from __future__ import annotations

import shlex
import string
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Final

from lawfit.findings import Finding, is_finding
from lawfit.units import counted, format_duration, format_flops, format_lr, format_percent, format_quantity


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """A sentence that says what to type, and the one for whoever has no terminal: a client of the service, a page."""

    terminal: str | Callable[[Mapping[str, Any]], str]
    http: str | Callable[[Mapping[str, Any]], str]
    page: str | Callable[[Mapping[str, Any]], str] | None = None  # where a person reads it, to whom a route says little


Sentence = str | Callable[[Mapping[str, Any]], str] | Spoken
_OVER_HTTP: Final = ContextVar("over_http", default=False)
_ON_PAGE: Final = ContextVar("on_page", default=False)

PLACEHOLDERS: Final = ("COLUMN", "FIELD", "VALUE", "RATE", "FACTOR", "T")  # in the value of an option
MOST_NAMED: Final = 6  # levels of a setting, of which all are named
INPUTS: Final[Mapping[str, str]] = {"params": "parameters", "lr": "learning rate", "batch_tokens": "batch"}
QUANTITIES: Final[Mapping[str, str]] = {"lr": "learning rate", "batch_tokens": "batch size"}


def setting_name(column: str) -> str:
    """As people say it."""
    return "weight decay" if column == "weight_decay" else column


_WRITTEN: Final[Mapping[str, Callable[[Any], str]]] = {
    "q": format_quantity,
    "lr": format_lr,
    "share": lambda share: f"{100 * share:g} %",
    "percent": lambda share: f"{100 * share:.0f} %",
    "pct": format_percent,
    "flops": format_flops,
    "time": format_duration,
    "input": lambda name: INPUTS.get(name, name),
    "quantity": QUANTITIES.__getitem__,
    "setting": setting_name,
}


def tell(found: Finding | Mapping[str, Any] | str) -> str:
    """The sentence of a finding, or of its JSON; a sentence stays what it is."""
    if isinstance(found, str):
        return found
    if isinstance(found, Finding):
        found = found.to_json()
    code, data = str(found["code"]), found["data"]
    sentence = sentence_of(code)
    if sentence is None:  # of a later version of lawfit
        return f"{code} ({', '.join(f'{name} {value}' for name, value in data.items())})"
    if isinstance(sentence, Spoken):
        sentence = _spoken(sentence)
    return sentence(data) if callable(sentence) else say(sentence, data)


def _spoken(sentence: Spoken) -> str | Callable[[Mapping[str, Any]], str]:
    if not _OVER_HTTP.get():
        return sentence.terminal
    return sentence.page if _ON_PAGE.get() and sentence.page is not None else sentence.http


@contextmanager
def over_http(*, on_page: bool = False) -> Iterator[None]:
    """Sentences are told to a client of the service: no commands, no options, no places on this machine.

    Parameters
    ----------
    on_page : they are read on a page of it: no routes either
    """
    tokens = _OVER_HTTP.set(True), _ON_PAGE.set(on_page)
    try:
        yield
    finally:
        _OVER_HTTP.reset(tokens[0])
        _ON_PAGE.reset(tokens[1])


def option(name: str, value: str) -> str:
    """An option with its value, as whoever reads the sentence gives it: ``--size-from gpt``, or ``size_from=gpt``."""
    return f"{name.replace('-', '_')}={value}" if _OVER_HTTP.get() else f"--{name} {typed(value)}"


def typed(value: str) -> str:
    """As a shell takes it; ``lr (e-4)=RATE`` too, of which a person fills in the second half."""
    column, equals, rest = value.rpartition("=")
    return shlex.quote(column) + equals + rest if rest in PLACEHOLDERS and equals else shlex.quote(value)


def told(value: Any) -> Any:
    """A JSON value with a sentence in place of each finding in it."""
    if isinstance(value, Finding) or is_finding(value):
        return tell(value)
    if isinstance(value, Mapping):
        return {key: told(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [told(inner) for inner in value]
    return value


def say(sentence: str, data: Mapping[str, Any]) -> str:
    """A sentence with its numbers put in."""
    return _WRITER.vformat(sentence, (), data)


def named(sentence: str, **parts: Mapping[Any, str] | Callable[[Mapping[str, Any]], str]) -> Sentence:
    """A sentence with what the data name by a code put in as people call it, or with parts that come and go."""

    def put(name: str, part: Mapping[Any, str] | Callable[[Mapping[str, Any]], str], data: Mapping[str, Any]) -> Any:
        return say(part(data), data) if callable(part) else part.get(data[name], data[name])

    return lambda data: say(sentence, {**data, **{name: put(name, part, data) for name, part in parts.items()}})


def sentence_of(code: str) -> Sentence | None:
    """What stands for a code; None where no module knows it."""
    room, _, what = code.partition(".")
    return _words_of(room).get(what)


@cache
def _words_of(room: str) -> Mapping[str, Sentence]:
    try:
        words: Mapping[str, Sentence] = import_module(f"lawfit.words.{room}").WORDS
    except ModuleNotFoundError:
        return {}
    return words


class _Writer(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        if value is None:  # JSON has no number that is not finite
            return "-"
        if is_finding(value):
            return tell(value)
        kind, _, rest = format_spec.partition(" ")
        if isinstance(value, list | tuple):
            each = [self.format_field(one, "" if kind in ("join", "few", "plural") else kind) for one in value]
            if kind == "plural":
                return "s"[: len(each) > 1]
            return (
                f"{each[0]} to {each[-1]}" if kind == "few" and len(each) > MOST_NAMED else listed(each, rest or ", ")
            )
        if kind in _WRITTEN:
            return _WRITTEN[kind](value)
        if kind == "count":
            noun, _, plural = rest.partition(" ")
            return counted(value, noun, plural)
        return str(format(value, format_spec))


_WRITER: Final = _Writer()


def listed(words: list[str], between: str = "and") -> str:
    """``a, b and c``, or with something else between."""
    if between not in ("and", "or"):
        return between.join(words)
    return f" {between} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
