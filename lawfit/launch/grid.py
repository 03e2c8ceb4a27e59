"""A grid file (sizes, horizons, batches, learning rates, weight decays, seeds) -> packs, the most wanted first.

    {"base": {"seq_len": 256, "corpus": "corpus", ...},        fields of a pack, and of all models
     "shapes": {"0.8M": {"layers": 4, "width": 128, "heads": 4, "hidden": 352}},
     "run": {"beta2": 0.95, "schedule": "linear"},             fields of a run, for all of them
     "warmup_fraction": 0.05,                                  of each run's steps
     "blocks": [{"shape": "0.8M", "tokens": [8e6], "batch_tokens": [4096], "lr": [...], "weight_decay": [...],
                 "seeds": [0]}]}

Every block is the full product of its lists; a single value may stand for a list of one. Its other fields are those of
a pack ("optimizer", "decay", "noise_scale", "evals", ...), of a model ("mup_base_width", "qk_norm", ...) or of a run
("schedule", "unique_tokens", "beta2", ...), for all runs of the block; of a run they may be lists, too, and
multiply. A seed is that of the weights and of the order of the data, unless "data_seed" is given. A block may say
"tokens_per_param" instead of "tokens", and its own "warmup_fraction"; without "lr" or
"weight_decay", it has those of "run". Without "vocab", the corpus says it.

A pack takes the runs of one shape, batch and horizon of one block, so the order of the blocks is the order in which
evidence arrives. Horizons of a constant rate, or of one that is constant up to a cooldown (wsd), share a pack, which
trains what they share once; for that, their warmup is the same: that of the shortest.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lawfit.declared import is_finite
from lawfit.proxy.declared import QUOTED, build, shortened
from lawfit.proxy.pack import Model, Pack, PackError, RunSettings, parse_pack
from lawfit.proxy.trunks import SHARING
from lawfit.records import Json
from lawfit.units import format_quantity

_OWN: Final = ("shape", "tokens", "tokens_per_param", "batch_tokens", "lr", "weight_decay", "seeds", "warmup_fraction")
_TOP: Final = ("base", "shapes", "run", "warmup_fraction", "blocks")
_BY_GRID: Final = frozenset({"name", "model", "runs", "batch_sequences", "steps", "init_seed"})
_MODEL: Final = frozenset(field.name for field in dataclasses.fields(Model))
_RUN: Final = frozenset(field.name for field in dataclasses.fields(RunSettings)) - _BY_GRID
_PACK: Final = frozenset(field.name for field in dataclasses.fields(Pack)) - _BY_GRID
_BLOCK: Final = tuple(dict.fromkeys((*_OWN, *sorted(_PACK), *sorted(_MODEL), *sorted(_RUN))))

MOST_TOKENS: Final = 1e18  # beyond anybody's means: a slip of the pen
_DEEPEST: Final = 20  # levels: a grid has five
_SHAPES_SAID: Final = 20  # of those that there are

Block = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounds:
    """The most that somebody else's grid may ask for."""

    steps: int  # of a run
    tokens: float  # likewise
    params: float  # of a model, embeddings and head included


def require_json(grid: Json) -> None:
    """Refuse what Python reads as JSON and no database or file keeps.

    Raises
    ------
    PackError
        A number that is NaN or infinite, half a character (a lone surrogate) or NUL in a text or a name, too many
        levels: where.
    """
    left: list[tuple[str, Json, int]] = [("", grid, 0)]
    while left:
        where, value, depth = left.pop()
        said = f" in {shortened(where).lstrip('.')}" if where else ""
        if depth > _DEEPEST:
            raise PackError(f"more than {_DEEPEST} levels, one within the other{said}")
        if isinstance(value, Mapping):
            for name in value:
                _require_text(name, f" in a name{said}")
            left += [(f"{where}.{shortened(name)}"[: 2 * QUOTED], each, depth + 1) for name, each in value.items()]
        elif isinstance(value, list):
            left += [(f"{where}[{number}]"[: 2 * QUOTED], each, depth + 1) for number, each in enumerate(value)]
        elif isinstance(value, str):
            _require_text(value, said)
        elif isinstance(value, float) and not is_finite(value):
            raise PackError(f"{value}{said} is no number that JSON has")


def _require_text(text: str, said: str) -> None:
    if "\0" in text:
        raise PackError(f"a NUL character{said}: texts are of characters that print")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PackError(f"half a character (a lone surrogate){said}: texts are what UTF-8 holds") from None


def packs(grid: Json, *, vocab: int | None = None, bounds: Bounds | None = None) -> Iterator[Pack]:
    """The packs of a grid, in the order of its blocks; batches from large to small, since large ones end sooner.

    Parameters
    ----------
    vocab : int
        Of the corpus, for a grid that does not say it.
    bounds : Bounds
        More is refused before anything is worked out of so many.

    Raises
    ------
    PackError
        A block names an unknown shape or field, or a batch that is not a whole number of sequences.
    """
    _check_top(grid)
    for number, block in enumerate(grid["blocks"]):
        where = f"blocks[{number}]"
        _check_block(grid, block, where)
        yield from _block_packs(grid, block, number, where, vocab, bounds)


def most_runs(grid: Json) -> int:
    """How many runs a grid can name, told from the lengths of its lists alone: before any of them is made.

    Raises
    ------
    PackError
        It is no grid.
    """
    _check_top(grid)
    total = 0
    for number, block in enumerate(grid["blocks"]):
        _check_block(grid, block, f"blocks[{number}]")
        silent = {name: value for name, value in grid.get("run", {}).items() if name not in block}
        total += math.prod(len(value) for value in {**silent, **block}.values() if isinstance(value, list))
    return total


def _check_top(grid: Json) -> None:
    if isinstance(grid, Mapping):
        _require_known(grid, _TOP, "")
    if not isinstance(grid, Mapping) or not isinstance(grid.get("blocks"), list):
        raise PackError('a grid is a JSON object with "base", "shapes" and a list of "blocks"')
    _require_fraction(grid, "")
    for name, known in (("base", sorted(_PACK | _MODEL)), ("run", sorted(_RUN))):
        if not isinstance(grid.get(name, {}), Mapping):
            raise PackError(f"{name} must be an object")
        if name == "run":
            _require_single(grid.get(name, {}))
        _require_known(grid.get(name, {}), known, f"{name}.")
    shapes = grid.get("shapes")
    if not isinstance(shapes, Mapping) or not all(isinstance(shape, Mapping) for shape in shapes.values()):
        raise PackError('shapes must be an object such as {"0.8M": {"layers": 4, "width": 128, ...}}')
    for name, shape in shapes.items():
        _require_known(shape, sorted(_MODEL), f"shapes[{shortened(repr(name))}].")


def _require_single(run: Block) -> None:
    """`run` holds what all runs have; what differs between them stands in blocks."""
    if "warmup_fraction" in run:
        raise PackError("run.warmup_fraction: it belongs beside run, at the top of the grid, or in a block")
    for name, value in run.items():
        if isinstance(value, list) and name not in ("lr", "weight_decay"):  # these are for blocks that are silent
            raise PackError(f"run.{name} is a list: run holds what all runs have, lists belong in blocks")


def _require_known(given: Iterable[str], known: Sequence[str], where: str) -> None:
    for name in given:
        if name not in known:
            if name in _RUN and where == "base.":
                raise PackError(f"{where}{name}: it is a field of runs, and belongs in run or in a block")
            name = shortened(name)
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}? The" if close else "the"
            raise PackError(f"unknown field {where}{name}; {hint} fields are {', '.join(known)}")


def _require_fraction(given: Block, where: str) -> None:
    fraction = given.get("warmup_fraction", 0)
    if not _is_number(fraction) or not 0 <= fraction < 1:
        raise PackError(f"{where}warmup_fraction must be a number in [0, 1), got {shortened(repr(fraction))}")


def _check_block(grid: Block, block: Json, where: str) -> None:
    if not isinstance(block, Mapping):
        raise PackError(f"{where} must be an object")
    _require_known(block, _BLOCK, f"{where}.")
    _require_fraction(block, f"{where}.")
    if ("tokens" in block) == ("tokens_per_param" in block):
        raise PackError(f"{where} needs tokens or tokens_per_param, one of them")
    stated = {*block, *({"lr"} & set(grid.get("run", {})))}
    if missing := [name for name in ("shape", "batch_tokens", "lr") if name not in stated]:
        raise PackError(f"{where}: {missing[0]} is missing")
    for name in _list(block["shape"]) or [""]:
        if not isinstance(name, str) or name not in grid["shapes"]:
            there = [shortened(shape) for shape in itertools.islice(grid["shapes"], _SHAPES_SAID)]
            more = ", ..." if len(grid["shapes"]) > _SHAPES_SAID else ""
            raise PackError(f"{where}: no shape {shortened(repr(name))}; the shapes are {', '.join(there)}{more}")
    for name in ("tokens", "tokens_per_param", "batch_tokens", "lr", "weight_decay", "seeds"):
        values = _list(block.get(name, [1]))
        if not values:
            raise PackError(f"{where}: {name} is an empty list")
        if not all(_is_number(value) for value in values):
            raise PackError(
                f"{where}: {name} must be a number, or a list of numbers, got {shortened(repr(block[name]))}"
            )
        if name in ("tokens", "tokens_per_param", "batch_tokens") and not all(
            0 < value < MOST_TOKENS for value in values
        ):
            got = shortened(repr(block[name]))
            raise PackError(f"{where}: {name} must be a number above 0 and below {MOST_TOKENS:g}, got {got}")


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _block_packs(
    grid: Block, block: Block, number: int, where: str, vocab: int | None, bounds: Bounds | None
) -> Iterator[Pack]:
    for shape in _list(block["shape"]):
        model = _model(grid, block, shape, where, vocab)
        params = sum(model.params.values())
        if bounds is not None and params > bounds.params:
            raise PackError(
                f"{where}: a model of shape {shortened(repr(shape))} has {_counted(params)} parameters, embeddings and "
                f"head included; {_counted(bounds.params)} is the most here"
            )
        horizons = _horizons(block, model)
        run, lists = _run_fields(grid, block)
        shares = {str(schedule) for schedule in _list(block.get("schedule", run.get("schedule", "linear")))} <= {
            *SHARING
        }
        together = [horizons] if shares else [[tokens] for tokens in horizons]
        batches = sorted(_list(block["batch_tokens"]), reverse=True)
        for group, batch_tokens in itertools.product(together, batches):
            if batch_tokens % model.seq_len:
                above = int(-(-batch_tokens // model.seq_len)) * model.seq_len
                raise PackError(
                    f"{where}: batch_tokens {batch_tokens} is not a multiple of seq_len {model.seq_len}; {above} is"
                )
            steps = [max(1, round(tokens / batch_tokens)) for tokens in group]
            if bounds is not None:
                _require_within(bounds, max(group), batch_tokens, max(steps), where)
            fraction = block.get("warmup_fraction", grid.get("warmup_fraction", 0.0))
            warmup = (
                {}
                if "warmup_steps" in run or "warmup_steps" in lists
                else {"warmup_steps": round(fraction * min(steps))}
            )
            runs = [
                {
                    "init_seed": seed,
                    "data_seed": seed,
                    **run,
                    **warmup,
                    **dict(zip(lists, values, strict=True)),
                    "steps": count,
                }
                for seed, *values, count in itertools.product(_list(block.get("seeds", 0)), *lists.values(), steps)
            ]
            shown = "+".join(format_quantity(tokens) for tokens in group)
            made = {name: block[name] for name in block if name in _PACK}
            base = {name: value for name, value in grid.get("base", {}).items() if name in _PACK}
            content = {
                **base, **made, "name": f"{number:03d}-{shape}-D{shown}-B{batch_tokens}",
                "model": dataclasses.asdict(model), "batch_sequences": int(batch_tokens // model.seq_len), "runs": runs,
            }  # fmt: skip
            try:
                yield parse_pack(content)
            except PackError as error:
                raise PackError(f"{where}: {error}") from None


def _require_within(bounds: Bounds, tokens: float, batch_tokens: float, steps: int, where: str) -> None:
    """The longest run of a block."""
    if steps > bounds.steps:
        raise PackError(
            f"{where}: {tokens:g} tokens in batches of {batch_tokens:g} are {steps:,} steps; "
            f"{bounds.steps:,} is the most here"
        )
    if steps * batch_tokens > bounds.tokens:
        raise PackError(
            f"{where}: {steps:,} steps of {batch_tokens:g} tokens are a run of "
            f"{steps * batch_tokens:g} tokens; {bounds.tokens:g} is the most here"
        )


def _counted(params: float) -> str:
    """A count that no float need hold."""
    return f"{params:g}" if is_finite(params) else "more than 1e308"


def _model(grid: Block, block: Block, shape: str, where: str, vocab: int | None) -> Model:
    base = {name: value for name, value in grid.get("base", {}).items() if name in _MODEL}
    own = {name: value for name, value in block.items() if name in _MODEL}
    model = {**base, **grid["shapes"][shape], **own}
    if "vocab" not in model and vocab is not None:
        model["vocab"] = vocab
    for name in ("vocab", "seq_len"):
        if name not in model:
            raise PackError(f"{where}: {name} of the models is missing; say it in base")
    try:
        return build(Model, model, "model")
    except PackError as error:
        raise PackError(f"{where}: {error}") from None


def _horizons(block: Block, model: Model) -> list[float]:
    if "tokens" in block:
        return [float(tokens) for tokens in _list(block["tokens"])]
    return [float(ratio) * model.non_embedding_params for ratio in _list(block["tokens_per_param"])]


def _run_fields(grid: Block, block: Block) -> tuple[dict[str, Json], dict[str, list[Json]]]:
    """What all runs of a block have, and what is listed, the learning rate varying fastest."""
    run: dict[str, Json] = {k: v for k, v in grid.get("run", {}).items() if k not in ("lr", "weight_decay")}
    for_all = {"weight_decay": 0.1, **grid.get("run", {})}
    lists = {"weight_decay": _list(block.get("weight_decay", for_all["weight_decay"]))}
    for name, value in block.items():
        if name in _RUN and name not in ("lr", "weight_decay"):
            if isinstance(value, list):
                lists[name] = value
                run.pop(name, None)
            else:
                run[name] = value
    return run, {**lists, "lr": _list(block.get("lr", for_all.get("lr")))}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def is_grid(content: Json) -> bool:
    """Whether a JSON value wants to be a grid and not a pack."""
    return isinstance(content, Mapping) and not {"blocks", "shapes"}.isdisjoint(content)


def read_json(path: Path) -> Json:
    """A JSON file.

    Raises
    ------
    PackError
        Not there, not readable, not JSON.
    """
    if path.is_dir():
        raise PackError(f"{path} is a folder; name the grid or pack files in it, e.g. {path / '*.json'}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PackError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise PackError(f"{path} cannot be read as a grid or a pack: {error}") from None
