"""Templates of a service: what its clients may have trained, by name. They give settings, never a command line.

A TOML file with a table for each::

    [nano]
    command = "torchrun train.py --lr {lr} --batch-size {batch_sequences} --steps {steps} --out {folder}"
    logs = "runs/nano"
    recipe = {optimizer = "lion"}

    [proxy]
    trainer = "lawfit"
    corpus = "/data/corpus"

Beside these each may hold options of a launch, named as on the command line: `cpu`, `gpus`, `backend`, ...; and
`at_a_time`, how many launches of it go on beside each other.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lawfit.declared import is_finite
from lawfit.launch import grid
from lawfit.launch.backends import BACKENDS
from lawfit.launch.backends.cluster import ClusterLauncher
from lawfit.launch.backends.ray import RayLauncher
from lawfit.launch.backends.slurm import SlurmLauncher
from lawfit.launch.devices import choose_gpus
from lawfit.launch.options import LaunchOptions
from lawfit.launch.plan import LaunchError, read_corpus
from lawfit.launch.resources import Resources
from lawfit.launch.run import require_trainer
from lawfit.launch.template import check, parse_template
from lawfit.proxy.declared import shortened
from lawfit.proxy.pack import Pack, PackError
from lawfit.records import Json

MOST_RUNS: Final = 1000  # of one request, where the template says nothing
MOST_STEPS: Final = 2_000_000  # of a run
MOST_TOKENS: Final = 1e15  # of a run, where the template says nothing: beyond anybody's means
MOST_PARAMS: Final = 1e13  # of a model, likewise
MOST_AT_A_TIME: Final = 32  # launches of a template: each is a process of the service's machine
ON_A_CLUSTER: Final = 4  # at a time, where the template says nothing
_CORPUS: Final = "corpus"  # what a grid that names none is read as
_OURS: Final = "lawfit"  # the trainer that comes with it
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SHAPE: Final = re.compile(r"[\w.+=-][\w.+= -]{0,99}")  # they become names of jobs
_OF_TEMPLATE: Final = (
    *("command", "format", "recipe", "trainer", "corpus", "most_runs", "most_params", "most_tokens", "at_a_time"),
)
_OF_A_CALL: Final = frozenset({"resources", "recipe", "template", "trial", "dry_run", "corpus"})
_OPTIONS: Final = {
    each.name: str(each.type)
    for kind in (LaunchOptions, Resources)
    for each in dataclasses.fields(kind)
    if each.name not in _OF_A_CALL
}
_KINDS: Final = (("bool", bool, "true or false"), ("int", int, "a whole number"), ("float", float, "a number"))


@dataclass(frozen=True, kw_only=True)
class Served:
    """One template."""

    name: str
    options: LaunchOptions
    corpus: str  # which a grid cannot choose: a name, or of lawfit's own trainer a folder
    most_runs: int
    bounds: grid.Bounds  # of each run
    at_a_time: int | None  # see `at_a_time`


def read_served(path: Path) -> dict[str, Json]:
    """The tables of a file, each of which was looked at as `served` does.

    Raises
    ------
    LaunchError
        It is not there, no TOML, holds no template, or one that could not be launched: which, and why.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LaunchError(f"there is no file of training templates {path}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise LaunchError(f"{path} cannot be read as training templates: {error}") from None
    if not content:
        raise LaunchError(f"{path} holds no template; each is a table, such as [nano], with a command")
    for name, table in content.items():
        try:
            _require_here(served(name, table).options)
        except LaunchError as error:
            raise LaunchError(f"{path}: template '{name}': {error}") from None
    return content


def served(name: str, table: Json) -> Served:
    """A template of its table.

    Raises
    ------
    LaunchError
        What is wrong with it, or with this machine.
    """
    if not _NAME.fullmatch(name):
        raise LaunchError("a name has letters, digits, _, - and . and begins with a letter or digit, at most 64")
    if not isinstance(table, Mapping):
        raise LaunchError(f"it is a table, [{name}], with a command")
    for key in table:
        if key not in _OF_TEMPLATE and key not in _OPTIONS:
            close = difflib.get_close_matches(key, [*_OF_TEMPLATE, *_OPTIONS], n=1)
            hint = f"did you mean {close[0]}? It" if close else "it"
            raise LaunchError(f"{key} is not known; {hint} takes {', '.join([*_OF_TEMPLATE, *sorted(_OPTIONS)])}")
    if ("command" in table) == ("trainer" in table):
        raise LaunchError(f'it takes a command, or trainer = "{_OURS}", one of them')
    said = {key: _typed(key, table[key]) for key in table if key in _OPTIONS}
    corpus, most_runs = table.get("corpus", _CORPUS), table.get("most_runs", MOST_RUNS)
    if not isinstance(corpus, str) or not corpus.strip():
        raise LaunchError("corpus is a text")
    if not isinstance(most_runs, int) or isinstance(most_runs, bool) or not 1 <= most_runs <= 10_000:
        raise LaunchError("most_runs is a whole number from 1 to 10000")
    more: dict[str, Any] = {} if "logs" in said else {"logs": Path("runs") / name}
    try:
        if "trainer" in table:
            more |= {"corpus": _ours(table, corpus)}
        else:
            more |= {"template": parse_template(table, "it")}
        options = LaunchOptions.of(said, **more)
    except ValueError as error:
        raise LaunchError(str(error)) from None
    if options.template is not None:
        check(options.template, [], here=not options.elsewhere)
    beside = at_a_time(table)
    bounds = grid.Bounds(
        steps=MOST_STEPS,
        tokens=_most(table, "most_tokens", MOST_TOKENS),
        params=_most(table, "most_params", MOST_PARAMS),
    )
    return Served(name=name, options=options, corpus=corpus, most_runs=most_runs, bounds=bounds, at_a_time=beside)


def at_a_time(table: Mapping[str, Json]) -> int | None:
    """How many launches of a template go on at a time on a machine; None: one, of all templates that say nothing.

    A cluster has a queue of its own. A Ray that no address names may be one on this machine, which trains itself.

    Raises
    ------
    LaunchError
        The table says no such number.
    """
    said = table.get("at_a_time")
    if said is None:
        backend = table.get("backend")
        named = bool(table.get("ray_address") or os.environ.get("RAY_ADDRESS"))
        return ON_A_CLUSTER if backend == SlurmLauncher.name or (backend == RayLauncher.name and named) else None
    if not isinstance(said, int) or isinstance(said, bool) or not 1 <= said <= MOST_AT_A_TIME:
        raise LaunchError(f"at_a_time is a whole number from 1 to {MOST_AT_A_TIME}, got {said!r}")
    return said


def _most(table: Mapping[str, Any], key: str, most: float) -> float:
    """A bound that a template may set below the one that all have."""
    said = table.get(key, most)
    if not isinstance(said, (int, float)) or isinstance(said, bool) or not 1 <= said <= most:
        raise LaunchError(f"{key} is a number from 1 to {most:g}, got {said!r}")
    return said


def _require_here(options: LaunchOptions) -> None:
    """What a launch would find missing on this machine is found when the service starts.

    Raises
    ------
    LaunchError
    """
    backend = BACKENDS[options.backend]
    if issubclass(backend, ClusterLauncher):
        backend.require_here()
    elif not options.cpu:
        choose_gpus(options.gpus)
    try:
        there = next(folder for folder in (options.logs, *options.logs.absolute().parents) if folder.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise LaunchError(f"logs: {str(options.logs)!r} cannot be written ({error})") from None


def _ours(table: Mapping[str, Any], corpus: str) -> str:
    """The corpus of a template of lawfit's own trainer, which is to be there, as it is."""
    if table["trainer"] != _OURS:
        raise LaunchError(f'trainer is "{_OURS}", the one that comes with it; another one is a command')
    if beside := [key for key in ("format", "recipe") if key in table]:
        raise LaunchError(f"{beside[0]} is of a command: what lawfit's own trainer logs says all of it")
    require_trainer()
    return read_corpus(corpus).folder


def _typed(key: str, value: Any) -> Any:
    """An option, of the type that it has."""
    kind = _OPTIONS[key]
    for name, wanted, words in _KINDS:
        if kind.split(" ")[0] == name:
            right = isinstance(value, wanted) or (wanted is float and isinstance(value, int))
            if not right or (isinstance(value, bool) and wanted is not bool):
                raise LaunchError(f"{key} is {words}, got {value!r}")
            if not is_finite(value):
                raise LaunchError(f"{key} is {words}, a finite one, got {value!r}")
            return value
    texts = isinstance(value, list) and all(isinstance(each, str) for each in value)
    if kind.startswith("tuple"):
        if not texts and not (key == "gpus" and isinstance(value, str)):
            raise LaunchError(f"{key} is a list of texts, got {value!r}")
    elif not isinstance(value, str) or not value.strip() or "\0" in value:
        raise LaunchError(f"{key} is a text, got {value!r}")
    return value


def packs_of(template: Served, content: Json) -> list[Pack]:
    """The packs of a grid that a client sent, on the corpus of the template.

    Raises
    ------
    PackError
        It is no grid, too large, or names a corpus.
    LaunchError
        The corpus of the template is gone.
    """
    if not grid.is_grid(content):
        raise PackError('a grid is an object with "shapes" and a list of "blocks", as plan next gives it')
    count = grid.most_runs(content)
    if count > template.most_runs:
        raise PackError(
            f"it asks for {count:,} runs; template '{template.name}' takes {template.most_runs:,} at a time"
        )
    if wrong := [name for name in content["shapes"] if not _SHAPE.fullmatch(name)]:
        raise PackError(
            f"shape {shortened(repr(wrong[0]))}: a name has letters, digits, spaces and . + = _ -, at most 100"
        )
    vocab = 1  # a trainer that is told no vocabulary has its own
    if template.options.template is None:
        vocab = read_corpus(template.corpus).vocab
    made = list(grid.packs(content, vocab=vocab, bounds=template.bounds))
    for pack in made:
        if pack.corpus not in (_CORPUS, template.corpus):
            raise PackError(
                f"the corpus is template '{template.name}''s own; leave {shortened(repr(pack.corpus))} out of the grid"
            )
    return [dataclasses.replace(pack, corpus=template.corpus) for pack in made]
