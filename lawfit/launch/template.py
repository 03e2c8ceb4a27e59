"""The command line of a trainer of the user's own, with fields for what differs between runs: `--lr {lr}`.

It becomes words, never a line for a shell. What can be wrong with it is said before anything runs.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import json
import math
import os
import re
import shlex
import shutil
import string
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lawfit.launch.folder import task_of
from lawfit.launch.plan import LaunchError
from lawfit.proxy.pack import Model, Pack, RunSettings
from lawfit.records import content_hash

_OF_PACK: Final = (
    *("batch_sequences", "optimizer", "decay", "precision", "accumulation", "eval_sequences", "evals", "log_points"),
    "corpus",
)
_MADE: Final = ("run_id", "folder", "params", "params_total", "batch_tokens", "tokens", "seed", "warmup_fraction")
FIELDS: Final = tuple(
    dict.fromkeys(
        (
            *(each.name for each in dataclasses.fields(RunSettings)),
            *(each.name for each in dataclasses.fields(Model)),
            *_OF_PACK,
            *_MADE,
        )
    )
)
# What a recipe may be told that no log of a stranger's says.
FACTS: Final = ("optimizer", "schedule", "data", "tokenizer", "parametrization")
_PLACES: Final = frozenset({"run_id", "folder"})  # they differ between any two runs, and make no other run
_BARE: Final = re.compile(r"[\w{}:.,=/@%+-]+")  # needs no quotes
_KEYS: Final = ("command", "format", "recipe")


@dataclass(frozen=True, kw_only=True)
class Template:
    """A command for each run."""

    words: tuple[str, ...]
    format: str | None = None  # of the log that it writes; None: told from the log
    facts: Mapping[str, str] = field(default_factory=dict)  # of the recipe: see FACTS

    @property
    def text(self) -> str:
        """As one line, to be read."""
        return " ".join(word if _BARE.fullmatch(word) else shlex.quote(word) for word in self.words)

    @property
    def fields(self) -> frozenset[str]:
        """The fields that it names."""
        return frozenset(name for word in self.words for _, name, _ in _pieces(word) if name)

    def identity(self, corpus: str) -> str:
        """Tells runs of this command on this corpus from those of another: it is part of their ids."""
        return f"own-{content_hash([list(self.words), corpus, dict(self.facts)], length=12)}"

    def command(self, values: Mapping[str, Any]) -> list[str]:
        """Its words for one run."""
        return ["".join(_filled(word, values)) for word in self.words]


def read_template(text: str, format_name: str | None = None) -> Template:
    """A template from a command line, or from a file ``NAME.toml`` or ``NAME.json`` with `command`, `format`, `recipe`.

    Parameters
    ----------
    format_name : of the logs; overrules the file

    Raises
    ------
    LaunchError
        It cannot be read, its braces do not pair, or it names a field that there is not.
    """
    content: Mapping[str, Any] = {"command": text}
    if text.strip().lower().endswith((".toml", ".json")) and len(text.split()) == 1:
        content = _read_file(Path(text.strip()))
    return parse_template(content, text, format_name)


def parse_template(content: Mapping[str, Any], where: str, format_name: str | None = None) -> Template:
    """A template from its `command`, `format` and `recipe`.

    Parameters
    ----------
    where : they stand, for sentences

    Raises
    ------
    LaunchError
        As of `read_template`.
    """
    command, facts, own_format = content.get("command"), content.get("recipe", {}), content.get("format")
    words = _words(command)
    if not words:
        raise LaunchError("the template is empty; it is the command that trains one run, such as python train.py {lr}")
    if not isinstance(facts, Mapping) or not all(isinstance(value, str) for value in facts.values()):
        raise LaunchError(f"{where}: recipe holds texts: {', '.join(FACTS)}")
    if unknown := [name for name in facts if name not in FACTS]:
        raise LaunchError(f"{where}: recipe.{unknown[0]} is not known; it holds {', '.join(FACTS)}")
    if own_format is not None and not isinstance(own_format, str):
        raise LaunchError(f"{where}: format is the name of a log format, got {own_format!r}")
    chosen = format_name or own_format
    template = Template(words=tuple(words), format=None if chosen in (None, "auto") else chosen, facts=dict(facts))
    for name in sorted(template.fields):
        if name not in FIELDS:
            close = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"did you mean {{{close[0]}}}? " if close else ""
            raise LaunchError(f"the template names {{{name}}}, which is no field of a run; {hint}{_known()}")
    return template


def _known() -> str:
    return f"the fields are {', '.join(FIELDS)}; a brace that is none is written twice"


def _read_file(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except FileNotFoundError:
        raise LaunchError(f"there is no template file {path}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise LaunchError(f"{path} cannot be read as a template: {error}") from None
    if not isinstance(content, Mapping) or "command" not in content:
        raise LaunchError(f"{path} is no template: it has no command")
    if unknown := [name for name in content if name not in _KEYS]:
        raise LaunchError(f"{path}: {unknown[0]} is not known; a template has {', '.join(_KEYS)}")
    return content


def _words(command: Any) -> list[str]:
    if isinstance(command, list) and all(isinstance(word, str) for word in command):
        return command
    if not isinstance(command, str):
        raise LaunchError("the command of a template is a text, or a list of words")
    try:
        return shlex.split(command)
    except ValueError as error:
        raise LaunchError(f"the template cannot be cut into words ({error}): {command}") from None


def _pieces(word: str) -> Iterator[tuple[str, str, str]]:
    """Text, the field behind it ("" for none) and how its number is written (``.3e``)."""
    try:
        for text, name, spec, conversion in string.Formatter().parse(word):
            if conversion or (name is not None and not name.isidentifier()):
                raise ValueError(f"{{{name}}} is no field")
            yield text, name or "", spec or ""
    except ValueError as error:
        raise LaunchError(f"the braces of the template do not pair, or hold no field ({error}): {word}") from None


def _filled(word: str, values: Mapping[str, Any]) -> Iterator[str]:
    for text, name, spec in _pieces(word):
        yield text
        if not name:
            continue
        value = values[name]
        if value is None:
            raise LaunchError(f"the template names {{{name}}}, and the grid says no {name}; say it there")
        try:
            yield format(value, spec) if spec else _plain(value)
        except ValueError as error:
            raise LaunchError(f"the template writes {{{name}:{spec}}}, and {value!r} cannot be so: {error}") from None


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def values_of(pack: Pack, folder: Path) -> dict[str, Any]:
    """What each field is in the only run of a pack."""
    (run,), (run_id,) = pack.runs, task_of(pack).ids
    counts = pack.model.params
    values: dict[str, Any] = {
        **dataclasses.asdict(pack.model),
        **dataclasses.asdict(run),
        **{name: getattr(pack, name) for name in _OF_PACK},
        "run_id": run_id,
        "folder": str(folder),
        "params": pack.model.non_embedding_params,
        "params_total": sum(counts.values()),
        "batch_tokens": pack.batch_tokens,
        "tokens": run.steps * pack.batch_tokens,
        "seed": run.init_seed,
        "warmup_fraction": run.warmup_steps / run.steps,
        "beta2": pack.beta2(0),
    }
    if run.final_lr is None and math.isfinite(run.final_fraction):
        values["final_lr"] = run.final_fraction * run.lr
    return values


def check(template: Template, packs: Sequence[Pack], *, here: bool) -> None:
    """Refuse what would go wrong with every run.

    Parameters
    ----------
    packs : of one run each
    here : the command runs on this machine, where its program has to be

    Raises
    ------
    LaunchError
        Two runs would be the same command, a field that the grid does not say, a program that is not there.
    """
    program = template.words[0]
    if here and "{" not in program and shutil.which(program) is None:
        where = "is no program" if os.sep in program else "is not on the PATH"
        raise LaunchError(f"the template runs {program}, which {where}; write where it is")
    nowhere = Path("folder")
    seen: dict[tuple[str, ...], dict[str, Any]] = {}
    for pack in packs:
        values = values_of(pack, nowhere)
        own = tuple(template.command({**values, "run_id": "id"}))
        if own in seen and (differing := _differing(seen[own], values)):
            said = ", ".join(f"{name} ({seen[own][name]}, {values[name]})" for name in differing[:4])
            raise LaunchError(
                f"two runs of the grid would be the same command: they differ in {said}, which the template does not "
                f"name; add {{{differing[0]}}} to it, or take it out of the grid"
            )
        seen[own] = values


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Fields in which two runs differ, those that people think in first."""
    thought = ("lr", "weight_decay", "batch_sequences", "steps", "tokens", "width", "layers", "seed")
    ordered = itertools.chain(thought, (name for name in FIELDS if name not in thought))
    return [name for name in ordered if name not in _PLACES and first[name] != second[name]]
