"""Backtest by scale: leave scales out, repeat the whole analysis on the rest, score on the observed runs left out.

Everything that chooses (windows, shapes, how much is borrowed) happens again inside the smaller scales, so the score
never chose itself. Published laws and argmin + OLS are scored on the same cells, in the same table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import LawfitError
from lawfit.estimate.lr_batch.ensemble import MIN_CELLS_TO_CHOOSE, Choice, Ensemble, fit_ensemble
from lawfit.estimate.lr_batch.promises import Kept, check_promises
from lawfit.estimate.lr_batch.surface import SurfaceFit
from lawfit.estimate.numerics.optima import CellOptimum, Columns, locate_argmin
from lawfit.estimate.numerics.regression import Line, LrBatchLaws, PowerLaw, fit_argmin_ols, fit_e1, fit_power_law
from lawfit.estimate.numerics.scoring import ObservedSurface
from lawfit.estimate.observe.observations import Observations
from lawfit.laws.published import published_laws
from lawfit.records import OptimumStatus

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Predict = Callable[[Floats, Floats], tuple[Floats, Floats]]  # (params, tokens) -> (lr, batch_tokens)

OURS = "lawfit"
EACH_SIZE = "each model size left out"
MIN_SCORED = 4  # settings
ARGMIN = "argmin + OLS"
E1 = "near-optimal set + OLS"
ROBUST = "argmin + robust line"
MEDIAN = "argmin + median line"
COMPUTE = "compute alone + OLS"  # as DeepSeek states its laws, arXiv 2401.02954


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which cells each round of a backtest learns from; the others are scored."""

    name: str
    rounds: tuple[Ints, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method in one split: regret as a fraction of loss, over the scored cells."""

    method: str
    mean_regret: float
    worst_regret: float
    cells: int
    outside: int  # recommendations beyond the runs of the cell, scored at their nearest edge


def observed_surfaces_of(observed: Observations) -> dict[int, ObservedSurface]:
    """The observed losses of every cell that can price a mistake, interpolated without dependence on the order of runs.

    A cell with fewer than `MIN_SCORED` settings is left out: whatever is recommended there would look free.
    """
    found = {}
    for cell in range(observed.n_cells):
        rows = observed.rows_of(cell)
        if rows.stop - rows.start < MIN_SCORED:
            continue
        found[cell] = ObservedSurface(
            np.exp(observed.log_lr[rows]),
            np.exp(observed.log_batch[rows]),
            np.exp(observed.log_loss[rows]),
            rule="bilinear",
        )
    return found


def scale_splits(observed: Observations) -> list[Split]:
    """Leave each size out; learn from the smaller 65 % and from the smaller half of the scales (by params x tokens)."""
    splits = []
    sizes = np.unique(observed.params)
    everything = np.arange(observed.n_cells)
    if len(sizes) >= 3:
        rounds = tuple(np.flatnonzero(observed.params != size) for size in sizes)
        splits.append(Split(name=EACH_SIZE, rounds=rounds))
    order = np.argsort(observed.params * observed.tokens, kind="stable")
    for share, name in ((0.65, "largest third of the scales left out"), (0.5, "larger half of the scales left out")):
        count = round(share * observed.n_cells)
        if MIN_CELLS_TO_CHOOSE <= count < observed.n_cells:
            splits.append(Split(name=name, rounds=(np.sort(order[:count]),)))
    if not splits and len(everything) >= 3:
        rounds = tuple(np.delete(everything, cell) for cell in everything)
        splits.append(Split(name="each scale left out", rounds=rounds))
    return splits


def run_backtest(
    observed: Observations,
    surfaces: Mapping[int, ObservedSurface],
    full: Ensemble,
    valley: SurfaceFit,
    *,
    without_laws: Sequence[str] = (),
    progress: Callable[[float], None] | None = None,
) -> tuple[list[tuple[Split, list[Row]]], Kept | None]:
    """Score every method on every split, and what ours promised of each size left out.

    A method that cannot be fitted in some round is left out of that split. `valley` prices what was stated.
    """
    starts = {member.choice: member.fit for member in full.members}
    splits = scale_splits(observed)
    sizes: list[tuple[Ints, Ensemble]] = []
    total = sum(len(split.rounds) for split in splits)
    done = 0
    results = []
    best = best_runs(observed)
    for split in splits:
        regrets: dict[str, list[Floats]] = {}
        outside: dict[str, int] = {}
        scored = 0
        for kept in split.rounds:
            left = np.array(
                [c for c in np.setdiff1d(np.arange(observed.n_cells), kept) if int(c) in surfaces], dtype=int
            )
            if not len(left):
                continue
            scored += len(left)
            ours, methods = _methods(observed, surfaces, kept, starts, best, without_laws)
            if ours is not None and split.name == EACH_SIZE:
                sizes.append((np.setdiff1d(np.arange(observed.n_cells), kept), ours))
            for method, predict in methods.items():
                lr, batch = predict(observed.params[left], observed.tokens[left])
                score = [
                    surfaces[int(c)].regret(lr[i], batch[i])
                    for i, c in enumerate(left)
                    if lr[i] > 0 and batch[i] > 0  # a law may say nothing of some scales, and is not ranked then
                ]
                regrets.setdefault(method, []).append(np.array([float(s.regret) for s in score]))
                outside[method] = outside.get(method, 0) + sum(bool(s.outside) for s in score)
            done += 1
            if progress is not None:
                progress(done / total)
        if rows := _rows(regrets, outside, scored):
            results.append((split, rows))
    kept_promises = check_promises(observed, full, valley, surfaces, sizes) if len(sizes) > 1 else None
    return results, kept_promises


def _rows(regrets: Mapping[str, Sequence[Floats]], outside: Mapping[str, int], scored: int) -> list[Row]:
    """Of the methods that answered at every scale: ours first, then the cheapest."""
    whole = {method: values for method, parts in regrets.items() if len(values := np.concatenate(parts)) == scored}
    rows = [
        Row(
            method=method,
            mean_regret=float(values.mean()),
            worst_regret=float(values.max()),
            cells=len(values),
            outside=outside[method],
        )
        for method, values in whole.items()
    ]
    return sorted(rows, key=lambda row: (row.method != OURS, row.mean_regret))


def published_predictions() -> dict[str, Predict]:
    """Every published law that gives both a learning rate and a batch from a scale alone, by its label."""
    found: dict[str, Predict] = {}
    for law in published_laws().values():
        probe = law.predict(1e9, 2e10)
        if probe.lr is None or probe.batch_tokens is None:
            continue

        def predict(params: Floats, tokens: Floats, law_id: str = law.id) -> tuple[Floats, Floats]:
            said = published_laws()[law_id].predict(params, tokens)
            nothing = np.full(np.shape(params), np.nan)
            return nothing if said.lr is None else said.lr, nothing if said.batch_tokens is None else said.batch_tokens

        found[law.label] = predict
    return found


def columns_of(observed: Observations) -> Columns:
    """The observations as plain columns; diverged settings have a NaN loss."""
    cell = np.concatenate([observed.cell, observed.diverged_cell])
    return Columns.of(
        observed.params[cell],
        observed.tokens[cell],
        np.exp(np.concatenate([observed.log_batch, observed.diverged_log_batch])),
        np.exp(np.concatenate([observed.log_lr, observed.diverged_log_lr])),
        np.concatenate([np.exp(observed.log_loss), np.full(len(observed.diverged_cell), np.nan)]),
    )


def best_runs(observed: Observations) -> dict[tuple[float, float], CellOptimum]:
    """The run with the lowest loss of each (params, tokens), which no other cell has a say in."""
    return {(cell.params, cell.tokens): cell for cell in locate_argmin(columns_of(observed))}


def _methods(
    observed: Observations,
    surfaces: Mapping[int, ObservedSurface],
    kept: Ints,
    starts: Mapping[Choice, SurfaceFit],
    best: Mapping[tuple[float, float], CellOptimum],
    without_laws: Sequence[str],
) -> tuple[Ensemble | None, dict[str, Predict]]:
    part = observed.subset(kept)
    methods: dict[str, Predict] = {}
    ensemble = None
    try:
        ensemble = fit_ensemble(
            part,
            {i: surfaces[int(c)] for i, c in enumerate(kept) if int(c) in surfaces},
            without_laws=without_laws,
            starts=starts,
        )
        methods[OURS] = partial(_by_ensemble, ensemble)
    except LawfitError:
        pass  # the split then has no row of ours, which the table shows
    columns = columns_of(part)
    known = [best[scale] for scale in zip(part.params.tolist(), part.tokens.tolist(), strict=True)]
    for name, fit in _BASELINES.items():
        try:
            laws = fit(columns, best=known)
        except LawfitError:
            continue
        methods[name] = _by_laws(laws)
    return ensemble, methods | published_predictions()


def _fit_compute(_: Columns, *, best: Sequence[CellOptimum]) -> LrBatchLaws:
    """The best run of each cell, and laws in 6 params tokens alone: both exponents are one."""
    cells = [cell for cell in best if np.isfinite(cell.lr)]
    inputs = {"compute": [6 * cell.params * cell.tokens for cell in cells]}

    def law(values: Sequence[float]) -> PowerLaw:
        found = fit_power_law(values, inputs)
        exponent = found.exponents["compute"]
        return PowerLaw(
            log_const=found.log_const + exponent * float(np.log(6.0)),
            exponents={"params": exponent, "tokens": exponent},
        )

    return LrBatchLaws(
        lr=law([cell.lr for cell in cells]),
        batch_tokens=law([cell.batch_tokens for cell in cells]),
        rows=len(cells),
        at_edge=sum(cell.status is OptimumStatus.AT_EDGE for cell in cells),
    )


_BASELINES: Final[Mapping[str, Callable[..., LrBatchLaws]]] = {
    ARGMIN: fit_argmin_ols,
    ROBUST: partial(fit_argmin_ols, line=Line.ROBUST),
    MEDIAN: partial(fit_argmin_ols, line=Line.MEDIAN),
    E1: fit_e1,
    COMPUTE: _fit_compute,
}


def _by_ensemble(ensemble: Ensemble, params: Floats, tokens: Floats) -> tuple[Floats, Floats]:
    return _exp(ensemble.optimum(params, tokens))


def _by_laws(laws: LrBatchLaws) -> Predict:
    return lambda params, tokens: (
        laws.lr.predict(params=params, tokens=tokens),
        laws.batch_tokens.predict(params=params, tokens=tokens),
    )


def _exp(logs: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    return np.exp(np.clip(logs[0], -40, 40)), np.exp(np.clip(logs[1], -40, 60))
