"""Which columns of the runs are settings that an answer must hold at one level.

A setting varies inside a scale, is no seed, result or bookkeeping, and follows neither from the size of a run nor from
its learning rate or batch. Runs that differ in one are no seeds of each other. What the names leave open, the runs say:
a design's levels come back from setting to setting, a result's do not.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.numerics.snapping import Places, distinct, indexed
from lawfit.factors import WEIGHT_DECAY, is_factor, is_record
from lawfit.findings import Finding, Found, finding
from lawfit.records import Run

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

UNKNOWN: Final = "unknown"  # the level of a run that does not state its own: never taken for another one

MOST_STRANGE_LEVELS: Final = 24  # of a column whose name says nothing; more are names or results
SWEEP: Final = 3  # distinct learning rates and batches that a level must have at some scale, to be one that was swept
EXACT: Final = 0.05  # of its range: a column that a product of powers of the axes tells so well is made from them
FEWEST_BLOCKS: Final = 6  # settings run at several levels: with fewer, no permutation of two is below 5 %
MOST_BLOCKS: Final = 200
PERMUTATIONS: Final = 999
TOLD: Final = 0.05  # p of the permutation test


@dataclass(frozen=True, kw_only=True)
class Column:
    """A setting of the runs, coded."""

    name: str
    levels: tuple[str, ...]  # as people read them, numbers ascending, `UNKNOWN` first
    codes: Ints  # (n,) index into levels
    also: tuple[str, ...] = ()  # columns that this one determines: a name of a design and its numbers

    @property
    def numbers(self) -> Floats | None:
        """(levels,) or None where a level is no number."""
        try:
            return np.array([float(level) for level in self.levels])
        except ValueError:
            return None

    def take(self, rows: Ints) -> Column:
        return replace(self, codes=self.codes[rows])


@dataclass(frozen=True, kw_only=True)
class SettingColumns:
    """The settings that need a level, and notes on columns that vary and need none."""

    columns: tuple[Column, ...]
    notes: tuple[Found, ...]


def decay_kind(run: Run) -> str:
    """Convention of a run's weight decay; what is not stated is taken as torch.optim.AdamW has it."""
    return str(run.extra.get("weight_decay_kind") or "coupled")


def column_of(runs: Sequence[Run], name: str) -> Column:
    """One setting of some runs."""
    values = [run.weight_decay if name == WEIGHT_DECAY else run.extra.get(name) for run in runs]
    known: dict[Any, str] = {}
    texts = [_text(value, known) for value in values]
    if name == WEIGHT_DECAY:
        # without a weight decay the convention says nothing
        kinds = [decay_kind(run) if run.weight_decay else "" for run in runs]
        if len(set(kinds) - {""}) > 1:
            texts = [f"{text} ({kind})" if kind else text for text, kind in zip(texts, kinds, strict=True)]
    levels = sorted(set(texts), key=_order)
    place = {level: at for at, level in enumerate(levels)}
    return Column(name=name, levels=tuple(levels), codes=np.array([place[text] for text in texts], dtype=np.intp))


def setting_columns(runs: Sequence[Run], free: Collection[str] = ()) -> SettingColumns:
    """The settings of which some scale has several levels; those named in `free` are axes like learning rate and batch.

    Weight decay comes first, then settings known by name, then other columns.
    """
    candidates = _candidates(runs, free)
    if not candidates:
        return SettingColumns(columns=(), notes=())
    places = Places.of(runs)
    axes = [column_of(runs, name).codes for name in free]
    grid = _Grid(places=places, setting=indexed(places.scale, places.log_lr, places.log_batch, *axes))
    log_loss = np.array([np.log(run.loss) if run.loss is not None and run.loss > 0 else np.nan for run in runs])
    found: list[Column] = []
    notes: list[Found] = []
    for column in candidates:
        needed, note = _needs_level(column, grid, log_loss)
        notes += [note] if note else []
        if not needed:
            continue
        owner = next((at for at, kept in enumerate(found) if _determines(kept, column)), None)
        if owner is None:
            found.append(column)
        else:
            found[owner] = replace(found[owner], also=(*found[owner].also, column.name))
    return SettingColumns(columns=tuple(found), notes=tuple(notes))


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """Where the runs stand, and which of them share one setting of all axes."""

    places: Places
    setting: Ints  # (n,)


def _candidates(runs: Sequence[Run], free: Collection[str]) -> list[Column]:
    """Columns of two or more levels whose names do not speak against them."""
    extra = {name for run in runs for name in run.extra} - {"weight_decay_kind", *free}
    names = sorted((not is_factor(name), name) for name in extra if not is_record(name))
    found = []
    for strange, name in [(False, WEIGHT_DECAY)] * (WEIGHT_DECAY not in free) + names:
        column = column_of(runs, name)
        if 1 < len(column.levels) <= (MOST_STRANGE_LEVELS if strange else len(runs)):
            found.append(column)
    return found


def _needs_level(column: Column, grid: _Grid, log_loss: Floats) -> tuple[bool, Found | None]:
    """Whether a column is a setting that varies inside scales; and what to say where it varies and needs no level."""
    scale, of_decay = grid.places.scale, column.name == WEIGHT_DECAY
    pairs = distinct(scale, column.codes)
    if len(pairs) == scale.max() + 1:  # one level at each scale
        if of_decay and UNKNOWN in column.levels:
            return True, None
        at = scales_at(column, np.bincount(pairs[:, 1], minlength=len(column.levels)))
        return False, finding("observe.between_scales", setting=column.name, levels=at) if of_decay else None
    combined = distinct(grid.setting, column.codes)
    per_setting = np.bincount(combined[:, 0])
    if _result_like(column, per_setting):
        return False, None
    if UNKNOWN not in column.levels and (axes := _follows(column, grid)):
        return False, finding("observe.decay_follows", axes=axes) if of_decay else None
    level_of, scale_of = combined[:, 1], scale[np.unique(grid.setting, return_index=True)[1]][combined[:, 0]]
    swept = bool(np.bincount(indexed(scale_of, level_of)).max() >= SWEEP)
    met = bool((per_setting > 1).any())
    if of_decay or is_factor(column.name):
        note = finding("observe.no_level_shared", setting=column.name, levels=len(column.levels))
        return swept or met, None if swept or met or not of_decay else note
    if not met:
        return False, None  # nothing tells a setting from a remark
    blocks = np.flatnonzero(per_setting > 1)
    if len(blocks) >= FEWEST_BLOCKS and not _moves_the_loss(column, grid.setting, blocks, log_loss):
        return False, finding("observe.counts_as_seeds", column=column.name, levels=column.levels)
    return True, None


def _result_like(column: Column, per_setting: Ints) -> bool:
    """Whether the levels of a column of unknown meaning do not come back from setting to setting, as results do not."""
    known = column.name == WEIGHT_DECAY or is_factor(column.name)
    return not known and len(column.levels) > 2 * int(per_setting.max())


def scales_at(column: Column, counts: Ints) -> list[Finding]:
    """At how many scales each level is, of those that are at some."""
    levels = zip(column.levels, counts, strict=True)
    return [finding("observe.level_at", level=level, scales=count) for level, count in levels if count]


def _follows(column: Column, grid: _Grid) -> tuple[str, ...]:
    """The axes that a column is made from: a warmup from the steps, an independent decay from the learning rate."""
    places = grid.places
    axes = {"batch_tokens": (places.log_batch, places.log_lr), "lr": (places.log_lr, places.log_batch)}
    for name, (axis, other) in axes.items():
        at = indexed(places.scale, axis)
        crossed = np.bincount(distinct(at, indexed(other))[:, 0]) > 1
        told = np.bincount(distinct(at, column.codes)[:, 0]) == 1
        if crossed.any():
            if told.all():
                return (name,)
        elif told.all() and _monotone(column, places.scale, axis):
            return (name,)
    numbers = column.numbers
    if numbers is None or (numbers <= 0).any() or len(np.unique(grid.setting)) <= 8:
        return ()
    log_value = np.log(numbers)[column.codes]
    design = [np.ones(len(log_value)), places.log_lr, places.log_batch, places.log_tokens, places.log_params]
    x = np.column_stack(design)
    residual = log_value - x @ np.linalg.lstsq(x, log_value, rcond=None)[0]
    return ("lr", "batch_tokens") if np.abs(residual).max() < EXACT * np.ptp(log_value) else ()


def _monotone(column: Column, scale: Ints, axis: Floats) -> bool:
    """Whether the numbers of a column rise (or fall) along an axis at every scale."""
    if column.numbers is None:
        return False
    steps: list[Floats] = []
    for index in range(int(scale.max()) + 1):
        rows = np.flatnonzero(scale == index)
        steps.append(np.diff(column.numbers[column.codes[rows[np.argsort(axis[rows], kind="stable")]]]))
    every = np.concatenate(steps)
    return len(every) >= SWEEP and bool((every >= 0).all() or (every <= 0).all())


def _determines(kept: Column, column: Column) -> bool:
    """Whether each level of one goes with one level of the other."""
    return len(distinct(kept.codes, column.codes)) == len(np.unique(kept.codes))


def _moves_the_loss(column: Column, setting: Ints, blocks: Ints, log_loss: Floats) -> bool:
    """Permutation test inside settings that were run at several levels: do levels rank alike from one to the next?

    Ranks, since losses far from the optimum scatter more. The statistic is Friedman's, sum of squared mean ranks.
    """
    rng = np.random.default_rng(0)  # the same runs give the same answer
    if len(blocks) > MOST_BLOCKS:
        blocks = rng.choice(blocks, MOST_BLOCKS, replace=False)
    finished = np.isfinite(log_loss)
    total = np.zeros((PERMUTATIONS + 1, len(column.levels)))
    count = np.zeros(len(column.levels))
    for block in blocks:
        rows = np.flatnonzero((setting == block) & finished)
        present = np.unique(column.codes[rows])
        if len(present) < 2:
            continue
        mean = np.array([log_loss[rows[column.codes[rows] == level]].mean() for level in present])
        ranks = mean.argsort().argsort() - (len(present) - 1) / 2
        shuffled = rng.permuted(np.tile(ranks, (PERMUTATIONS, 1)), axis=1)
        total[:, present] += np.vstack([ranks, shuffled])
        count[present] += 1
    statistic = (total**2 / np.maximum(count, 1)).sum(axis=1)
    return bool((statistic[1:] >= statistic[0] - 1e-9).sum() + 1 <= TOLD * (PERMUTATIONS + 1))


def _text(value: Any, known: dict[Any, str]) -> str:
    """A level as people read it: 1 and 1.0 are one."""
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return json.dumps(value, sort_keys=True, default=str)
    if (text := known.get(value)) is None:
        try:
            text = f"{float(value):.12g}"
        except ValueError:
            text = str(value).strip()
        known[value] = text
    return text


def _order(level: str) -> tuple[bool, float, str]:
    if level == UNKNOWN:
        return False, -np.inf, ""
    try:
        return False, float(level.split(" (")[0]), level
    except ValueError:
        return True, 0.0, level
