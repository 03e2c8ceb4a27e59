"""The grid file of the runs that a fit asks for next, as `lawfit launch` takes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
_OF_RUNS: Final = ("beta1", "beta2")
_SCHEDULES: Final = ("linear", "cosine", "wsd", "constant")  # that the launcher takes by their first word
SAME_SIZE: Final = 0.02  # of ln params


def next_grid(recipe: Recipe, runs: Sequence[Run], wanted: Sequence[Mapping[str, Any]]) -> dict[str, Json]:
    """A grid of the scales of `wanted` whose size states its shape in the runs; without a block where none does.

    Parameters
    ----------
    wanted : scales with ``lr`` and ``batch_tokens`` to cross, as a fit's ``next_grid`` and `runs_that_would_help` have
    """
    shapes: dict[str, Json] = {}
    blocks: list[Json] = []
    for scale in wanted:
        like = _like(runs, scale["params"])
        shape = None if like is None else _shape(like)
        if like is None or shape is None:
            continue
        name = format_quantity(like.params)
        shapes[name] = shape
        unit = recipe.seq_len or 1
        batches = sorted({max(1, round(batch / unit)) * unit for batch in scale["batch_tokens"]})
        block: dict[str, Json] = {"shape": name, "tokens": scale["tokens"], "batch_tokens": batches, "lr": scale["lr"]}
        if like.weight_decay is not None:
            block["weight_decay"] = like.weight_decay
        blocks.append({**block, "seeds": [0]})
    base: dict[str, Json] = {"corpus": "corpus"}
    if recipe.seq_len is not None:
        base["seq_len"] = recipe.seq_len
    words = recipe.schedule.split()
    run: dict[str, Json] = {"schedule": words[0]} if words and words[0] in _SCHEDULES else {}
    first = next(iter(runs), None)
    for name in _OF_RUNS:
        if first is not None and isinstance(first.extra.get(name), int | float):
            run[name] = first.extra[name]
    grid: dict[str, Json] = {"base": base, "shapes": shapes, "run": run, "blocks": blocks}
    warmup = None if first is None else first.extra.get("warmup_fraction")
    return {**grid, "warmup_fraction": warmup} if isinstance(warmup, int | float) else grid


def _like(runs: Sequence[Run], params: float) -> Run | None:
    """A run of that size that states its shape, the one of the usual weight decay first."""
    near = [run for run in runs if abs(math.log(run.params / params)) < SAME_SIZE and _shape(run) is not None]
    decays = [run.weight_decay for run in near]
    return max(near, key=lambda run: decays.count(run.weight_decay), default=None)


def _shape(run: Run) -> dict[str, Json] | None:
    found: dict[str, Json] = {}
    for name, columns in _SHAPE.items():
        value = next((run.extra[column] for column in columns if column in run.extra), None)
        if not isinstance(value, int | float) or value != int(value):
            return None
        found[name] = int(value)
    if "qk_norm" in run.extra:
        found["qk_norm"] = bool(run.extra["qk_norm"])
    return found | {name: run.extra[name] for name in _FURTHER if isinstance(run.extra.get(name), int | float)}
