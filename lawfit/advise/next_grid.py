"""The grid file of the runs that a fit asks for next, as `lawfit launch` takes it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from lawfit.records import Json, Recipe, Run
from lawfit.units import format_quantity

# Names that trainers give a shape in their logs -> the launcher's own.
_SHAPE: Final[Mapping[str, tuple[str, ...]]] = {
    "layers": ("layers", "n_layers", "num_layers"),
    "width": ("width", "hidden_size", "d_model", "n_embd"),
    "heads": ("heads", "n_heads", "num_heads"),
    "hidden": ("hidden", "ffn_size", "d_ff", "intermediate_size"),
}
_FURTHER: Final = ("embedding_std", "init_std")  # of a shape, where the log has them
_OF_RUNS: Final = ("beta1", "beta2", "clip", "eps", "momentum", "cooldown_fraction")
_SCHEDULES: Final = ("linear", "cosine", "wsd", "constant")  # that the launcher takes, before "to" a floor
_HASH: Final = re.compile(r"-([0-9a-f]{16})$")  # of a corpus, in what our logs say of their data
_FLOOR: Final = re.compile(r"to (0?\.\d+|0|1)")
_MUP: Final = re.compile(r"mup from width (\d+)")
SAME_SIZE: Final = 0.02  # of ln params


def next_grid(recipe: Recipe, runs: Sequence[Run], wanted: Sequence[Mapping[str, Any]]) -> dict[str, Json]:
    """A grid of the scales of `wanted` whose size states its shape in the runs; without a block where none does.

    Parameters
    ----------
    wanted : scales with ``lr`` and ``batch_tokens`` to cross, as a fit's ``next_grid`` and `runs_that_would_help` have
    """
    with_shape = []
    for scale in wanted:
        like = _like(runs, scale["params"])
        if like is not None and (shape := stated_shape(like)) is not None:
            with_shape.append({**scale, "params": like.params, "shape": shape})
    return grid_file(recipe, runs, with_shape)


def grid_file(recipe: Recipe, runs: Sequence[Run], wanted: Sequence[Mapping[str, Any]]) -> dict[str, Json]:
    """A grid as `lawfit launch` takes it, with the settings that most of the runs have.

    Parameters
    ----------
    wanted : ``params``, ``tokens``, ``lr``, ``batch_tokens`` and ``shape`` of each block; ``seeds``, where not the one;
        ``weight_decay``, where not what most runs of the size have
    """
    shapes: dict[str, Json] = {}
    blocks: list[Json] = []
    for scale in wanted:
        name = _name(scale, shapes)
        shapes[name] = dict(scale["shape"])
        unit = recipe.seq_len or 1
        batches = sorted({max(1, round(batch / unit)) * unit for batch in scale["batch_tokens"]})
        block: dict[str, Json] = {"shape": name, "tokens": scale["tokens"], "batch_tokens": batches, "lr": scale["lr"]}
        near = [run for run in runs if run.weight_decay is not None]
        if near:
            nearest = min(abs(math.log(run.params / scale["params"])) for run in near)
            at_it = [run for run in near if abs(math.log(run.params / scale["params"])) < nearest + SAME_SIZE]
            block["weight_decay"] = _most(run.weight_decay for run in at_it)
        if "weight_decay" in scale:
            block["weight_decay"] = list(scale["weight_decay"])
        blocks.append({**block, "seeds": scale.get("seeds", [0])})
    grid: dict[str, Json] = {"base": _base(recipe, runs), "shapes": shapes, "run": _run(recipe, runs), "blocks": blocks}
    warmup = _usual(runs, "warmup_fraction")
    return grid if warmup is None else {**grid, "warmup_fraction": warmup}


def _name(scale: Mapping[str, Any], shapes: Mapping[str, Json]) -> str:
    """Of a shape, after its size; two that round alike are told apart."""
    for digits in range(3, 9):
        name = format_quantity(float(f"{scale['params']:.{digits}g}"), digits)
        if shapes.get(name, scale["shape"]) == scale["shape"]:
            return name
    return f"{scale['params']:.0f}"


def _base(recipe: Recipe, runs: Sequence[Run]) -> dict[str, Json]:
    base: dict[str, Json] = {"corpus": "corpus"}
    if found := _HASH.search(recipe.data):
        base["corpus_hash"] = found[1]
    if recipe.seq_len is not None:
        base["seq_len"] = recipe.seq_len
    if recipe.optimizer not in ("", "adamw"):
        base["optimizer"] = recipe.optimizer
    if found := _MUP.fullmatch(recipe.parametrization):
        base["mup_base_width"] = int(found[1])
    for name, column, usual in (("precision", "precision", "bf16"), ("decay", "weight_decay_kind", "coupled")):
        value = _usual(runs, column) or recipe.extra.get(column)
        if value not in (None, usual):
            base[name] = value
    if (sequences := _usual(runs, "eval_sequences")) is not None:
        base["eval_sequences"] = int(sequences)
    return base


def _run(recipe: Recipe, runs: Sequence[Run]) -> dict[str, Json]:
    words = recipe.schedule.split()
    run: dict[str, Json] = {"schedule": words[0]} if words and words[0] in _SCHEDULES else {}
    if run and (floor := _FLOOR.fullmatch(" ".join(words[1:]))) and float(floor[1]) > 0:
        run["final_fraction"] = float(floor[1])
    return run | {name: value for name in _OF_RUNS if isinstance(value := _usual(runs, name), int | float)}


def _usual(runs: Sequence[Run], column: str) -> Json:
    """What most runs have in a column; None where none has it."""
    return _most(run.extra[column] for run in runs if run.extra.get(column) is not None)


def _most(values: Iterable[Json]) -> Json:
    return next((value for value, _ in Counter(values).most_common(1)), None)


def _like(runs: Sequence[Run], params: float) -> Run | None:
    """A run of that size that states its shape, the one of the usual weight decay first."""
    near = [run for run in runs if abs(math.log(run.params / params)) < SAME_SIZE and stated_shape(run) is not None]
    decays = [run.weight_decay for run in near]
    return max(near, key=lambda run: decays.count(run.weight_decay), default=None)


def stated_shape(run: Run) -> dict[str, Json] | None:
    """The fields of a model that a run states; None where one of layers, width, heads and inner width is missing."""
    found: dict[str, Json] = {}
    for name, columns in _SHAPE.items():
        value = next((run.extra[column] for column in columns if column in run.extra), None)
        if not isinstance(value, int | float) or value != int(value):
            return None
        found[name] = int(value)
    if "qk_norm" in run.extra:
        found["qk_norm"] = bool(run.extra["qk_norm"])
    return found | {name: run.extra[name] for name in _FURTHER if isinstance(run.extra.get(name), int | float)}
