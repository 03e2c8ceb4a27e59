"""The level of each varying setting that an answer holds at: asked for, advised, or the one with the lowest losses.

The best learning rate and batch depend on weight decay, beta2, the design of a model. An average over levels answers
for none of them, so one level is kept, and the runs at others are listed with the reason. Levels are compared where all
were run: each level's best loss over the settings that they share, scale by scale.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError, UnknownLevel
from lawfit.estimate.numerics.snapping import Places, distinct, indexed
from lawfit.estimate.numerics.sweeps import FLAT_BAND, MIN_SWEEP
from lawfit.estimate.observe.level_comparison import count_tried, effects_on_loss, run_widely, with_runs_enough
from lawfit.estimate.observe.repeated import is_repeated, is_repetition, says_no_number
from lawfit.estimate.observe.setting_columns import (
    SWEEP,
    UNKNOWN,
    Column,
    column_of,
    scales_at,
    setting_columns,
)
from lawfit.factors import DECAY_NAMES, UNIQUE, WEIGHT_DECAY, asked_levels, normal, same_level, spellings
from lawfit.findings import Finding, Found, finding, joined
from lawfit.laws.timescale import DecayConvention
from lawfit.records import FitStatus, Run

if TYPE_CHECKING:
    from lawfit.estimate.weight_decay.timescale import TimescaleFit

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

ALIKE: Final = 2 / 3  # of the settings of the level that a scale's sweep was run at: another one was swept there too
ADVICE_REACH: Final = np.log(3.0)  # a level farther than a factor 3 from the advised weight decay is not what it says

ONCE: Final = "as many as tokens"  # unique tokens
AGAIN: Final = "fewer"
MATCHED: Final = 3  # settings at which two levels must both have been run, to say that one is better

_AXES: Final = {name: name for name in ("lr", "batch_tokens", "params", "tokens", "loss", "steps", "seed")} | {
    "learning_rate": "lr",
    "batch": "batch_tokens",
    "batch_size": "batch_tokens",
}


@dataclass(frozen=True, kw_only=True)
class HeldSetting:
    """A setting that varies in a recipe, and the level that its fit holds at."""

    name: str  # of the column
    level: str  # "" where each scale is taken at its own
    levels: tuple[str, ...]  # that the recipe's runs have; `UNKNOWN` for runs that do not say
    why: Found
    also: tuple[str, ...] = ()  # columns that go with it

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "levels": list(self.levels), "also": list(self.also)}


@dataclass(frozen=True, kw_only=True)
class Held:
    """The runs at the level that is held, and the others with the reason."""

    runs: tuple[Run, ...]
    settings: tuple[HeldSetting, ...]
    rejected: tuple[tuple[str, Found], ...]  # run_key, reason
    notes: tuple[Found, ...]  # for whoever reads the answer


def hold_settings(
    runs: Sequence[Run],
    at: Sequence[str] = (),
    *,
    free: Collection[str] = (),
    decay_kind: str = "",
    decay_law: TimescaleFit | None = None,
) -> Held:
    """The runs at one level of every setting that varies.

    A level is asked for (`at`), or else chosen among those with runs enough for a fit (`ENOUGH`): for weight decay the
    one nearest to what its own law advises at the largest scale, otherwise the one with the lowest losses. A setting of
    which scales were swept at different levels (one factor at a time, around another base at each scale) is held scale
    by scale.

    Parameters
    ----------
    runs : of one recipe, finished with a positive loss or diverged, none excluded
    at : levels asked for, ``NAME=VALUE``
    free : settings that may vary: axes like learning rate and batch
    decay_kind : convention of the weight decay of runs that do not state theirs; empty is coupled
    decay_law : the law of weight decay of these runs, where it was fitted already

    Raises
    ------
    UnknownLevel
        No run has a level that was asked for; with the levels there are.
    ValueError
        `at` contradicts itself.
    """
    rejected: list[tuple[str, Found]] = []
    settings: list[HeldSetting] = []
    notes: list[Found] = []
    left = list(runs)
    for name, value in asked_levels(at) if left else ():
        left, setting = _at_asked(left, name, value, settings, rejected)
        if len(setting.levels) > 1:
            settings.append(setting)
            notes.append(finding("observe.held_as_asked", level=_as_asked(setting)))
    if not any(map(is_repetition, (*free, *(name for name, _ in asked_levels(at))))):
        left = _fresh(left, settings, rejected, notes)
    found = setting_columns(left, free)
    notes += found.notes
    if found.columns:
        places = Places.of(left)
        widely = [c for c in found.columns if _is_of_the_sweep(c, places)]
        by_scale = [c for c in found.columns if c not in widely]
        if by_scale:  # first: what was changed around the base of a scale must not speak for other settings
            kept = _hold_by_scale(left, by_scale, places, settings, rejected, notes)
            left, widely = [left[row] for row in kept], [c.take(kept) for c in widely]
        if widely:
            advice = _Advice(kind=decay_kind, law=decay_law)
            left = _hold_everywhere(left, widely, advice, settings, rejected, notes)
    if settings:
        notes.append(finding("observe.at_these_levels", kept=len(left), runs=len(runs)))
    return Held(runs=tuple(left), settings=tuple(settings), rejected=tuple(rejected), notes=tuple(notes))


def levels_of(runs: Sequence[Run], name: str) -> Column | None:
    """The levels of a setting by the name that a person gives it; None where no run has such a column."""
    if normal(name) in DECAY_NAMES:
        return column_of(runs, WEIGHT_DECAY)
    columns = dict.fromkeys(column for run in runs for column in run.extra)
    match = name if name in columns else next((c for c in sorted(columns) if normal(name) in spellings(c)), None)
    return None if match is None else column_of(runs, match)


def level_asked(runs: Sequence[Run], name: str, value: str) -> tuple[Column, str]:
    """The column and the level of it that is meant.

    Raises
    ------
    UnknownLevel
        There is none.
    """
    column = levels_of(runs, name)
    if column is None:
        varying = [c.name for c in setting_columns(runs).columns]
        raise UnknownLevel(finding("observe.no_setting", name=name, axis=_AXES.get(normal(name)), varying=varying))
    level = next((known for known in column.levels if same_level(known, value)), None)
    if level is None:
        raise UnknownLevel(finding("observe.no_level", setting=column.name, level=value, levels=column.levels))
    return column, level


def _at_asked(
    runs: list[Run], name: str, value: str, before: Sequence[HeldSetting], rejected: list[tuple[str, Found]]
) -> tuple[list[Run], HeldSetting]:
    try:
        column, level = level_asked(runs, name, value)
    except UnknownLevel as error:
        beside = [_as_asked(setting) for setting in before]
        why = finding("observe.no_level_beside", why=error, levels=beside) if beside else error.finding
        raise UnknownLevel(why) from None
    setting = HeldSetting(name=column.name, level=level, levels=column.levels, why=finding("observe.asked_for"))
    wanted = column.codes == column.levels.index(level)
    reason = finding("observe.not_as_asked", setting=column.name, others=_others(column, level), level=level)
    rejected += [(run.run_key, reason) for run, keep in zip(runs, wanted, strict=True) if not keep]
    return [run for run, keep in zip(runs, wanted, strict=True) if keep], setting


def _fresh(
    runs: list[Run], settings: list[HeldSetting], rejected: list[tuple[str, Found]], notes: list[Found]
) -> list[Run]:
    """The runs that read their text once, where they reach as many scales as others do.

    Repeated text moves the best learning rate (by 1.7 and more at 8 passes, `data/README.md`), and its runs stand at
    the same parameters and tokens as fresh ones.
    """
    if unread := [run for run in runs if says_no_number(run)]:
        notes.append(finding("observe.repeats_no_number", runs=len(unread)))
    fresh = [run for run in runs if not is_repeated(run)]
    if len(fresh) == len(runs):
        return runs
    again = [run for run in runs if is_repeated(run)]
    scales = [len({(round(np.log(r.params), 2), round(np.log(r.tokens), 2)) for r in some}) for some in (fresh, again)]
    if scales[0] < scales[1]:
        notes.append(finding("observe.fresh_are_few", again=len(again), runs=len(runs)))
        return runs
    why = finding("observe.others_repeat")
    settings.append(HeldSetting(name=UNIQUE[0], level=ONCE, levels=(ONCE, AGAIN), why=why))
    notes.append(finding("observe.read_once", again=len(again)))
    reason = finding("observe.repeats")
    rejected += [(run.run_key, reason) for run in again]
    return fresh


def _is_of_the_sweep(column: Column, places: Places) -> bool:
    """Whether a setting can be held at one level at all scales.

    It can where one level was swept at every scale, or where most scales have sweeps at several of its levels. Where a
    sweep changes one factor at a time around another base at each scale, one level for all would throw scales away.
    """
    if column.name == WEIGHT_DECAY and UNKNOWN in column.levels:
        return True  # what is not stated must not stand for a value that other scales state
    tried = count_tried(column.codes, places, places.log_lr, places.log_batch)
    swept = tried >= np.maximum(ALIKE * tried.max(axis=1, keepdims=True), 1)
    return bool(swept.all(axis=0).any() or np.median(swept.sum(axis=1)) > 1)


def _hold_everywhere(
    runs: list[Run],
    columns: Sequence[Column],
    advice: _Advice,
    settings: list[HeldSetting],
    rejected: list[tuple[str, Found]],
    notes: list[Found],
) -> list[Run]:
    """One combination of levels for all scales."""
    combined, level = distinct(*(c.codes for c in columns)), indexed(*(c.codes for c in columns))
    places = Places.of(runs)
    able = with_runs_enough(level, places)
    names = [_named(columns, codes) for codes in combined]
    differing = [k for k in range(len(columns)) if len(np.unique(combined[able, k])) > 1] or [0]
    told = [columns[k] for k in differing]
    short = [
        finding("observe.bare_level", level=told[0].levels[codes[differing[0]]])
        if len(told) == 1
        else _named(told, codes[differing])
        for codes in combined
    ]
    tried = _Tried(runs=runs, level=level, places=places, log_loss=_log_loss(runs), able=able)
    chosen, why = _choose(tried, columns, combined, advice, short)
    kept = level == chosen
    by_level = [c.levels[code] for c, code in zip(columns, combined[chosen], strict=True)]
    for c, name in zip(columns, by_level, strict=True):
        settings.append(HeldSetting(name=c.name, level=name, levels=c.levels, why=why, also=c.also))
    notes.append(finding("observe.held", levels=names[chosen], why=why))
    lost = int(places.scale.max()) + 1 - len(np.unique(places.scale[kept]))
    if lost:
        notes.append(finding("observe.scales_lost", levels=names[chosen], scales=lost))
    notes += _better_elsewhere(tried, chosen, names)
    rejected += _reasons(runs, columns, by_level, why)
    return [run for run, keep in zip(runs, kept, strict=True) if keep]


@dataclass(frozen=True, kw_only=True)
class _Tried:
    """Runs at several combinations of levels."""

    runs: Sequence[Run]
    level: Ints  # which combination each run has
    places: Places
    log_loss: Floats
    able: Ints  # combinations with runs enough

    def effects(self, levels: Ints) -> tuple[Floats, Ints, int]:
        """On the loss, of these combinations, where all of them were run."""
        return effects_on_loss(self.level, self.places, self.log_loss, levels)


@dataclass(frozen=True, kw_only=True)
class _Advice:
    """Where advice on weight decay comes from."""

    kind: str  # convention of runs that do not state theirs
    law: TimescaleFit | None

    def fitted(self, runs: Sequence[Run]) -> TimescaleFit | None:
        if self.law is not None:
            return self.law
        from lawfit.estimate.weight_decay.sweep import COUPLED, DecayRuns, in_one_convention
        from lawfit.estimate.weight_decay.timescale import (
            fit_timescale,  # its solvers are not for every table that is read
        )

        others = hold_settings(runs, free=(WEIGHT_DECAY,)).runs
        try:
            return fit_timescale(DecayRuns.of_runs(in_one_convention(others, self.kind or COUPLED)[0]))
        except FitError:
            return None


def _named(columns: Sequence[Column], codes: Ints) -> Finding:
    """``weight decay 0.1 and beta2 0.95``."""
    levels = [finding("observe.level", setting=c.name, level=c.levels[k]) for c, k in zip(columns, codes, strict=True)]
    return finding("observe.levels", levels=levels)


def _choose(
    tried: _Tried, columns: Sequence[Column], combined: Ints, advice: _Advice, names: Sequence[Finding]
) -> tuple[int, Found]:
    """Which combination of levels, of those with runs enough; and why."""
    able, places = tried.able, tried.places
    if len(able) == 1:
        return int(able[0]), finding("observe.only_level")
    advised: list[Found] = []
    if columns[0].name == WEIGHT_DECAY and len(np.unique(combined[able, 0])) > 1:
        nearest, advised = _nearest_to_advice(tried, columns[0], combined[:, 0], advice)
        able = able if nearest is None else able[combined[able, 0] == nearest]
        if len(able) == 1:
            return int(able[0]), joined(advised)
    effect, lowest, compared = tried.effects(able)
    if not compared:
        widest = int(np.argmax(count_tried(tried.level, places, places.log_lr, places.log_batch).sum(axis=0)[able]))
        return int(able[widest]), finding("observe.most_tried")
    best = int(np.argmin(effect))
    losses = finding("observe.lowest_losses", levels=[names[k] for k in able], lowest=lowest[best], compared=compared)
    return int(able[best]), joined([*advised, losses])


def _nearest_to_advice(
    tried: _Tried, column: Column, decay_of_level: Ints, advice: _Advice
) -> tuple[int | None, list[Found]]:
    """The weight decay nearest to what its own law advises at the largest scale, and that it is; or None.

    The advice goes with a learning rate and a batch, and the best ones with the weight decay: each level is held
    against the advice at its own best run. Advice at the largest scale, since what is asked for is mostly larger.
    """
    if column.numbers is None or (column.numbers > 0).sum() < MIN_SWEEP:
        return None, []  # levels in several conventions, or not stated; or too few for any law
    runs, level, places, log_loss, able = tried.runs, tried.level, tried.places, tried.log_loss, tried.able
    fit = advice.fitted(runs)
    if fit is None or fit.law is None or fit.status is FitStatus.UNCERTIFIED:
        return None, []
    levels = [k for k in able if column.numbers[decay_of_level[k]] > 0]
    size = places.log_params + places.log_tokens
    ready = np.isfinite(log_loss) & np.isin(level, levels)
    largest = ready & (size >= size[ready].max(initial=-np.inf) - 1e-9)
    found: list[tuple[float, int, float, Run]] = []
    for k in levels:
        rows = np.flatnonzero(largest & (level == k))
        if len(rows):
            run = runs[rows[np.argmin(log_loss[rows])]]
            said = fit.predict(run.params, run.tokens, run.batch_tokens, run.lr)
            independent = (run.extra.get("weight_decay_kind") or advice.kind) == DecayConvention.INDEPENDENT.value
            advised = said.independent if independent else said.weight_decay
            found.append((abs(np.log(column.numbers[decay_of_level[k]] / advised)), int(k), advised, run))
    if not found or min(found)[0] > ADVICE_REACH:
        return None, []
    _, nearest, advised, run = min(found, key=lambda each: each[:2])
    effect, _, compared = tried.effects(able)
    if compared and effect[list(able).index(nearest)] >= effect[np.isfinite(effect)].max():
        return None, []  # the level with the highest losses is never the advice
    where = {"params": run.params, "tokens": run.tokens}
    return int(decay_of_level[nearest]), [finding("observe.nearest_to_advice", weight_decay=advised, **where)]


def _better_elsewhere(tried: _Tried, chosen: int, names: Sequence[Finding]) -> list[Found]:
    """Where a level with too few runs for a fit has lower losses than the one that is held: that it has."""
    said: list[tuple[float, int, int, int]] = []
    level, places, log_loss, able = tried.level, tried.places, tried.log_loss, tried.able
    ran = np.flatnonzero(np.isfinite(log_loss))
    cell = indexed(places.scale, places.log_lr, places.log_batch)[ran]
    pairs = distinct(level[ran], cell)
    shared = pairs[np.isin(pairs[:, 1], cell[level[ran] == chosen]), 0]
    matched = np.flatnonzero(np.bincount(shared, minlength=len(names)) >= MATCHED)
    for other in np.setdiff1d(matched, [*able, chosen]):
        effect, lowest, compared = tried.effects(np.array([chosen, other]))
        gain = effect[0] - effect[1]
        if compared and np.isfinite(gain) and gain > FLAT_BAND and 2 * lowest[1] > compared:
            said.append((float(gain), int(other), int(lowest[1]), compared))
    if not said:
        return []
    gain, best, count, compared = max(said)
    lower = np.expm1(gain)
    return [
        finding("observe.better_elsewhere", levels=names[best], loss_fraction=lower, lowest=count, compared=compared)
    ]


def _hold_by_scale(
    runs: Sequence[Run],
    columns: Sequence[Column],
    places: Places,
    settings: list[HeldSetting],
    rejected: list[tuple[str, Found]],
    notes: list[Found],
) -> Ints:
    """At each scale the combination of levels that its sweep was run at; of several the one with the lowest losses.

    Returns
    -------
    (m,) rows that are kept
    """
    log_loss = _log_loss(runs)
    setting = indexed(places.log_lr, places.log_batch)
    kept = np.ones(len(runs), dtype=bool)
    for scale in range(int(places.scale.max()) + 1):
        rows = np.flatnonzero(places.scale == scale)
        here = Places(
            log_params=places.log_params[rows],
            log_tokens=places.log_tokens[rows],
            log_lr=places.log_lr[rows],
            log_batch=places.log_batch[rows],
        )
        level = indexed(*(c.codes[rows] for c in columns))
        pairs = distinct(level, setting[rows])
        tried = np.bincount(pairs[:, 0])
        if len(tried) == 1 or (tried.max() < SWEEP and len(np.unique(pairs[:, 1])) == len(pairs)):
            continue  # nothing coincides and nothing was swept: these runs cannot tell their levels apart
        able = np.flatnonzero(run_widely(level, here)[0] & (tried >= ALIKE * tried.max()))
        effect = effects_on_loss(level, here, log_loss[rows], able)[0]
        kept[rows[level != able[int(np.argmin(effect))]]] = False
    why = finding("observe.level_of_sweep")
    taken = []
    for c in columns:
        settings.append(HeldSetting(name=c.name, level="", levels=c.levels, why=why, also=c.also))
        at = distinct(places.scale[kept], c.codes[kept])[:, 1]
        counts = np.bincount(at, minlength=len(c.levels))
        taken.append(finding("observe.taken_at", setting=c.name, levels=scales_at(c, counts)))
    names = [c.name for c in columns]
    notes.append(finding("observe.by_scale", settings=names, why=why, taken=taken))
    reason = finding("observe.not_of_scale", settings=names)
    rejected += [(run.run_key, reason) for run, keep in zip(runs, kept, strict=True) if not keep]
    return np.flatnonzero(kept)


def _reasons(
    runs: Sequence[Run], columns: Sequence[Column], levels: Sequence[str], why: Found
) -> list[tuple[str, Found]]:
    """Of each run at other levels why it is not used: one reason for all that differ in the same setting first."""
    found: dict[int, Found] = {}
    for column, level in zip(columns, levels, strict=True):
        others = _others(column, level)
        reason = finding("observe.another_level", setting=column.name, others=others, level=level, why=why)
        wrong = np.flatnonzero(column.codes != column.levels.index(level))
        found |= {int(row): reason for row in wrong if int(row) not in found}
    return [(runs[row].run_key, found[row]) for row in sorted(found)]


def _as_asked(setting: HeldSetting) -> Finding:
    return finding("observe.level_as_asked", setting=setting.name, level=setting.level)


def _others(column: Column, level: str) -> list[str]:
    return [name for name in column.levels if name != level]


def _log_loss(runs: Sequence[Run]) -> Floats:
    return np.array([np.log(run.loss) if run.loss is not None and run.loss > 0 else np.nan for run in runs])
