"""Runs -> observations: seeds merged, cells found, divergences marked, nothing dropped without a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import NotEnoughData
from lawfit.estimate.numerics.scoring import median
from lawfit.estimate.numerics.snapping import Places, one_family
from lawfit.estimate.observe.held import Held, HeldSetting, hold_settings
from lawfit.factors import is_record
from lawfit.findings import Found, finding
from lawfit.records import Run, RunStatus, content_hash

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

MIN_REPEATS = 3  # repeated seeds that can tell a spread


@dataclass(frozen=True, kw_only=True)
class Observations:
    """Distinct settings of a recipe, sorted by cell. A cell is one scale: one (params, tokens).

    Settings that diverged have no loss and stand apart: they bound the learning rate from above.
    """

    params: Floats  # (cells,)
    tokens: Floats  # (cells,)
    cell: Ints  # (n,) ascending index of the cell
    log_lr: Floats  # (n,)
    log_batch: Floats  # (n,) natural log of tokens per step
    log_loss: Floats  # (n,) mean over seeds
    seeds: Floats  # (n,) runs merged into this setting
    seed_squares: Floats  # (n,) summed squared deviations of log loss between the seeds of this setting
    diverged_cell: Ints  # (m,)
    diverged_log_lr: Floats  # (m,)
    diverged_log_batch: Floats  # (m,)
    runs_of_cell: Ints  # (cells,) every run, each seed and each diverged one
    diverged_of_cell: Ints  # (cells,) diverged runs among them
    rejected: tuple[tuple[str, Found], ...]  # run_key, reason
    notes: tuple[Found, ...] = ()
    settings: tuple[HeldSetting, ...] = ()  # that vary in the recipe, and the level that these runs are at
    one_family: bool = (
        False  # the runs state the shapes of their sizes, and one power of the count makes each dimension
    )

    @property
    def n_cells(self) -> int:
        return len(self.params)

    @property
    def runs_used(self) -> int:
        return int(self.runs_of_cell.sum())

    @property
    def runs_diverged(self) -> int:
        return int(self.diverged_of_cell.sum())

    @property
    def seed_sd(self) -> float | None:
        """sd of log loss between seeds of one setting; None with fewer than `MIN_REPEATS` repeats."""
        repeats = float((self.seeds - 1).sum())
        return float(np.sqrt(self.seed_squares.sum() / repeats)) if repeats >= MIN_REPEATS else None

    def seed_sd_of_cells(self) -> Floats:
        """(cells,) the same within the better half of each cell's settings; NaN with too few repeats there.

        Scales differ: one whose runs end in a steep stretch of their loss curve is many times as noisy as the next.
        """
        return self._seed_sd_of_cells

    @cached_property
    def _seed_sd_of_cells(self) -> Floats:
        if not (self.seeds > 1).any():
            return np.full(self.n_cells, np.nan)
        middle = np.array([median(self.log_loss[self.rows_of(c)]) for c in range(self.n_cells)])
        good = self.log_loss <= middle[self.cell]
        repeats = np.bincount(self.cell[good], weights=self.seeds[good] - 1, minlength=self.n_cells)
        squares = np.bincount(self.cell[good], weights=self.seed_squares[good], minlength=self.n_cells)
        return np.where(repeats >= MIN_REPEATS, np.sqrt(squares / np.maximum(repeats, 1)), np.nan)

    def rows_of(self, cell: int) -> slice:
        start, stop = np.searchsorted(self.cell, [cell, cell + 1])
        return slice(int(start), int(stop))

    def size_of_cell(self) -> Ints:
        """(cells,) ascending index of each cell's model size."""
        return np.cumsum(np.diff(self.params, prepend=self.params[0]) > 0)

    def lowest_log_loss(self) -> Floats:
        """(cells,) lowest observed log loss of each cell."""
        return self._lowest_log_loss

    @cached_property
    def _lowest_log_loss(self) -> Floats:
        lowest = np.full(self.n_cells, np.inf)
        if len(self.cell):
            first = np.flatnonzero(np.diff(self.cell, prepend=-1))
            lowest[self.cell[first]] = np.minimum.reduceat(self.log_loss, first)
        return lowest

    def subset(self, keep: Sequence[int] | Ints) -> Observations:
        """The observations of some cells (indices in any order, kept in ascending order of scale)."""
        chosen = np.unique(np.asarray(keep, dtype=np.intp))
        new_index = np.full(self.n_cells, -1, dtype=np.intp)
        new_index[chosen] = np.arange(len(chosen))
        rows = new_index[self.cell] >= 0
        gone = new_index[self.diverged_cell] >= 0
        return Observations(
            params=self.params[chosen],
            tokens=self.tokens[chosen],
            cell=new_index[self.cell[rows]],
            log_lr=self.log_lr[rows],
            log_batch=self.log_batch[rows],
            log_loss=self.log_loss[rows],
            seeds=self.seeds[rows],
            seed_squares=self.seed_squares[rows],
            diverged_cell=new_index[self.diverged_cell[gone]],
            diverged_log_lr=self.diverged_log_lr[gone],
            diverged_log_batch=self.diverged_log_batch[gone],
            runs_of_cell=self.runs_of_cell[chosen],
            diverged_of_cell=self.diverged_of_cell[chosen],
            rejected=self.rejected,
            notes=self.notes,
            settings=self.settings,
            one_family=self.one_family,
        )


def observe(
    runs: Sequence[Run], *, at: Sequence[str] = (), decay_kind: str = "", held: Held | None = None
) -> Observations:
    """Merge the runs of one recipe into observations.

    Runs of one cell with the same learning rate and batch size are seeds of one setting: their log losses are
    averaged; a setting of which at least half the seeds diverged counts as diverged. Where weight decay, beta2 or
    another setting varies, runs at one level are used and the others are rejected with the reason (`held`).

    Parameters
    ----------
    at : levels asked for, ``NAME=VALUE``
    decay_kind : convention of the weight decay of runs that do not state theirs
    held : the level of the same runs, where it was chosen already

    Raises
    ------
    NotEnoughData
        No run is left that finished with a positive loss; `UnknownLevel` where none has a level that was asked for.
    """
    ready, rejected = usable(runs)
    held = held or hold_settings(ready, at, decay_kind=decay_kind)
    kept, notes = list(held.runs), list(held.notes)
    rejected += held.rejected
    finished = sum(run.status is RunStatus.FINISHED for run in kept)
    if finished == 0:
        none = finding("observe.all_diverged", diverged=len(kept)) if kept else finding("observe.no_usable_run")
        raise NotEnoughData(none)
    log_loss = np.array([np.nan if run.loss is None else np.log(run.loss) for run in kept])
    places = Places.of(kept)
    scales, cell = np.unique(np.column_stack([places.log_params, places.log_tokens]), axis=0, return_inverse=True)
    cell = np.asarray(cell).ravel()
    settings = np.column_stack([cell, places.log_lr, places.log_batch])
    unique, setting = np.unique(settings, axis=0, return_inverse=True)
    setting = np.asarray(setting).ravel()
    is_diverged = np.isnan(log_loss)
    total = np.bincount(setting)
    lost = np.bincount(setting, weights=is_diverged)
    mean = np.bincount(setting, weights=np.where(is_diverged, 0.0, log_loss)) / np.maximum(total - lost, 1)
    gone = lost * 2 >= total
    partly = int(((lost > 0) & ~gone).sum())
    if partly:
        notes.append(finding("observe.partly_diverged", settings=partly))
    live = np.flatnonzero(~gone)
    dead = np.flatnonzero(gone)
    deviation = np.where(is_diverged, 0.0, log_loss - mean[setting])
    found = Observations(
        params=_readable(np.exp(scales[:, 0])),
        tokens=_readable(np.exp(scales[:, 1])),
        cell=unique[live, 0].astype(np.intp),
        log_lr=unique[live, 1],
        log_batch=unique[live, 2],
        log_loss=mean[live],
        seeds=(total - lost)[live].astype(float),
        seed_squares=np.bincount(setting, weights=deviation**2)[live].astype(float),
        diverged_cell=unique[dead, 0].astype(np.intp),
        diverged_log_lr=unique[dead, 1],
        diverged_log_batch=unique[dead, 2],
        runs_of_cell=np.bincount(cell, minlength=len(scales)),
        diverged_of_cell=np.bincount(cell[is_diverged], minlength=len(scales)),
        rejected=tuple(rejected),
        notes=tuple(notes),
        settings=held.settings,
        one_family=one_family(kept),
    )
    return _without_lost_scales(found, kept, cell)


def usable(runs: Sequence[Run]) -> tuple[list[Run], list[tuple[str, Found]]]:
    """Runs that a fit may look at, and of the others why not."""
    rejected: list[tuple[str, Found]] = []
    kept: list[Run] = []
    for run in runs:
        if run.excluded is not None:
            rejected.append((run.run_key, finding("observe.excluded", why=run.excluded)))
        elif run.status is RunStatus.FINISHED and not (run.loss is not None and run.loss > 0):
            rejected.append((run.run_key, finding("observe.loss_not_positive")))
        else:
            kept.append(run)
    return kept, rejected


def data_hash(runs: Sequence[Run]) -> str:
    """Hash of everything a fit sees of its runs, settings that may vary among it; independent of their order."""
    names = [name for name in sorted({name for run in runs for name in run.extra}) if _may_matter(runs, name)]
    rows = sorted(
        (
            (
                *(
                    r.run_key,
                    r.params,
                    r.tokens,
                    r.batch_tokens,
                    r.lr,
                    r.loss,
                    r.status.value,
                    r.weight_decay,
                    r.excluded,
                ),
                *(r.extra.get(name) for name in names),
            )
            for r in runs
        ),
        key=repr,  # some of these are None, which has no order
    )
    return content_hash([names, rows] if names else rows)


def _may_matter(runs: Sequence[Run], name: str) -> bool:
    """Whether a column may be a setting that a fit holds at one level: it varies and records nothing of the outcome."""
    return not is_record(name) and any(run.extra.get(name) != runs[0].extra.get(name) for run in runs)


def summarise_rejections(rejected: Sequence[tuple[str, Found]]) -> list[dict[str, object]]:
    """Reasons with their counts, most frequent first."""
    return [{"reason": reason, "count": count} for reason, count in Counter(r for _, r in rejected).most_common()]


def _readable(values: Floats) -> Floats:
    """Twelve digits: exp(log(2e8)) is 200000000.00000024."""
    return np.array([float(f"{value:.12g}") for value in values])


def _without_lost_scales(found: Observations, runs: Sequence[Run], cell: Ints) -> Observations:
    """A scale at which every setting diverged has no valley to fit; its runs are listed as rejected."""
    alive = np.unique(found.cell)
    if len(alive) == found.n_cells:
        return found
    if not len(alive):
        raise NotEnoughData(finding("observe.most_diverged", diverged=found.runs_diverged, runs=len(runs)))
    lost = [(run, int(c)) for run, c in zip(runs, cell, strict=True) if c not in alive]
    scales = [
        finding("observe.scale", params=found.params[c], tokens=found.tokens[c]) for c in sorted({c for _, c in lost})
    ]
    why = finding("observe.scale_diverged")
    return replace(
        found.subset(alive),
        rejected=(*found.rejected, *((run.run_key, why) for run, _ in lost)),
        notes=(*found.notes, finding("observe.scales_diverged", scales=scales)),
    )
