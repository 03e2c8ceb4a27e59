"""Does the best learning rate transfer? Its power of width and of horizon, recipe by recipe, with an honest interval.

Maximal update parametrization (arXiv 2203.03466) promises a best learning rate that stays where it is as width grows;
in the standard one it falls, towards 1 / width. Neither promises anything about horizon or batch. So for each recipe
``ln lr* = c + s ln width + t ln tokens + g ln batch`` goes through the optima of its sweeps (`lr_batch.slices`), each
with its own uncertainty, scales with a scatter of their own around the law. Where the runs show that a power differs
from batch to batch (on the Step Law grid the best learning rate falls with the horizon at small batches and rises at
large ones), it is given at one batch, and its ends beside it. Widths come from the runs' own columns; runs without one
are compared by parameter count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError
from lawfit.estimate.lr_batch.slices import LrSlices, cost_of_shift, fit_lr_slices
from lawfit.estimate.numerics.optimum_law import MeasuredOptima, OptimumLaw, fit_optimum_law
from lawfit.estimate.numerics.quantiles import normal_quantile
from lawfit.estimate.numerics.snapping import PARAMS_TOLERANCE
from lawfit.estimate.observe.observations import observe
from lawfit.findings import Finding, Found, finding
from lawfit.records import OptimumStatus, Recipe, Run

Floats = NDArray[np.float64]

SCHEMA: Final = "lawfit.transfer/1"
WIDTH, PARAMS, TOKENS, BATCH = "width", "params", "tokens", "batch_tokens"
WIDTH_COLUMNS: Final = ("width", "hidden_size", "d_model", "n_embd", "model_dim", "embed_dim", "dim")
DEPTH_COLUMNS: Final = ("layers", "n_layers", "depth", "n_layer", "num_layers")
# An interval that holds both 0 and half a power settles nothing: in standard parametrization the best learning rate
# falls as width to a power between one half and one.
SETTLES: Final = 0.5
LINE_POINTS: Final = 9
BY_BATCH: Final = "axis x batch"  # how the power of an axis changes with the batch
FLAT, MOVES, OPEN = "flat", "moves", "open"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """How the best learning rate moves along one axis, all else held."""

    name: str  # "width" or "params"; "tokens"
    exponent: float
    low: float  # of a `level` interval
    high: float
    verdict: str  # FLAT, MOVES, OPEN
    first: float  # the ends of what was swept
    last: float
    cost_of_keeping: float  # share of loss at `last` of the learning rate that is best at `first`
    worst_cost: float  # the same at the worse end of the interval
    by_batch: Mapping[float, tuple[float, float, float]]  # batch -> exponent, low, high; empty where one holds for all
    at: Mapping[str, float]  # the setting of everything else at which most of this axis was swept
    line: tuple[Mapping[str, float], ...]  # the law there: x, lr, and an interval for the optimum of a new scale

    def to_json(self) -> dict[str, Any]:
        lines = {"at": dict(self.at), "line": [dict(point) for point in self.line]}
        by_batch = [
            {"batch_tokens": batch, "exponent": exponent, "low": low, "high": high}
            for batch, (exponent, low, high) in self.by_batch.items()
        ]
        words = {"words": self.words, "cost_words": self.cost_words}
        return {**vars(self), **lines, "by_batch": by_batch, **words}

    @property
    def words(self) -> Finding:
        """The verdict with the power that it rests on."""
        power = {"axis": self.name, "exponent": self.exponent, "low": self.low, "high": self.high}
        by_batch = [{"batch_tokens": batch, "exponent": found[0]} for batch, found in self.by_batch.items()]
        at = self.at.get(BATCH)
        return finding("transfer.moves", verdict=self.verdict, batch_tokens=at, by_batch=by_batch, **power)

    @property
    def cost_words(self) -> Finding:
        """What it costs to act as if it were flat."""
        cost = {"cost": self.cost_of_keeping, "worst_cost": self.worst_cost}
        return finding("transfer.cost", axis=self.name, first=self.first, last=self.last, **cost)


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One recipe's answer."""

    recipe: Recipe
    slices: LrSlices
    size_name: str  # WIDTH, or PARAMS where the runs state no width
    size: Floats  # (slices,)
    axes: Mapping[str, Axis]  # "size", "tokens": those that these runs determine
    missing: Mapping[str, Found]  # axis -> why there is no answer
    level: float
    notes: tuple[Found, ...]

    def to_json(self) -> dict[str, Any]:
        z = normal_quantile(0.5 + self.level / 2)
        s = self.slices
        sd = np.sqrt(s.log_sd**2 + s.shared_log_sd**2)
        return {
            "recipe": self.recipe.name,
            "recipe_key": self.recipe.key,
            "parametrization": self.recipe.parametrization,
            "size": self.size_name,
            "level": self.level,
            "axes": {name: axis.to_json() for name, axis in self.axes.items()},
            "missing": dict(self.missing),
            "sweeps": [
                {
                    self.size_name: float(self.size[i]),
                    "params": float(s.params[i]),
                    "tokens": float(s.tokens[i]),
                    "batch_tokens": float(s.batch_tokens[i]),
                    "runs": int(s.runs[i]),
                    "lr": float(np.exp(s.log_lr[i])),
                    "low": float(np.exp(s.log_lr[i] - z * sd[i])),
                    "high": float(np.exp(s.log_lr[i] + z * sd[i])),
                    "best_tried_lr": float(s.best_tried[i]),
                    "lowest_loss": float(s.lowest[i]),
                    "noise": float(s.noise[i]),
                    "status": s.status[i].value,
                    "edge": s.edge[i] or None,
                }
                for i in np.lexsort((s.batch_tokens, s.tokens, self.size))
            ],
            "notes": list(self.notes),
        }


def fit_transfer(recipe: Recipe, runs: Sequence[Run], *, level: float = 0.9) -> Transfer:
    """How the best learning rate of one recipe moves with width and with horizon.

    Raises
    ------
    NotEnoughData
        No size, horizon and batch has learning rates enough to show a best one.
    """
    observed = observe(runs)
    slices = fit_lr_slices(observed)
    left_out = dict(observed.rejected)
    size_name, size, notes = _sizes(slices, [run for run in runs if run.run_key not in left_out])
    inside = slices.inside
    for status in (OptimumStatus.AT_EDGE, OptimumStatus.FLAT):
        if count := sum(found is status for found in slices.status):
            notes.append(finding("transfer.not_used", sweeps=count, of=len(slices), status=status))
    notes += observed.notes
    if not slices.converged:
        notes.append(finding("transfer.not_converged"))
    columns = {size_name: size, TOKENS: slices.tokens, BATCH: slices.batch_tokens}
    axes: dict[str, Axis] = {}
    missing: dict[str, Found] = {}
    for axis, name in (("size", size_name), ("tokens", TOKENS)):
        try:
            laws = _Laws.of(slices, columns, name, inside, level)
        except FitError as error:
            missing[axis] = error.finding
            continue
        axes[axis] = _axis(laws, name, slices.valley, columns, inside, level)
    return Transfer(
        recipe=recipe,
        slices=slices,
        size_name=size_name,
        size=size,
        axes=axes,
        missing=missing,
        level=level,
        notes=tuple(dict.fromkeys(notes)),
    )


def compare_parametrizations(found: Sequence[Transfer]) -> list[dict[str, Any]]:
    """Differences of the size exponents between recipes that differ in their parametrization alone, flattest first."""
    rows = []
    families: dict[str, list[Transfer]] = {}
    for one in found:
        if "size" in one.axes:
            families.setdefault(replace(one.recipe, parametrization="").key + one.size_name, []).append(one)
    for family in families.values():
        ordered = sorted(family, key=lambda one: abs(one.axes["size"].exponent))
        for other in ordered[1:]:
            flat, steep = ordered[0].axes["size"], other.axes["size"]
            gap = flat.exponent - steep.exponent
            # independent runs: the halves of the intervals add up as standard errors do
            half = float(np.hypot((flat.high - flat.low) / 2, (steep.high - steep.low) / 2))
            first, second = ordered[0].recipe, other.recipe
            apart = {"difference": gap, "low": gap - half, "high": gap + half, "told_apart": abs(gap) > half}
            names = {"flat": first.parametrization or first.name, "steep": second.parametrization or second.name}
            rows.append(
                {
                    "recipe": first.name,
                    "other": second.name,
                    "parametrizations": [first.parametrization, second.parametrization],
                    "level": ordered[0].level,
                    **apart,
                    "words": finding("transfer.compared", **names, **apart),
                }
            )
    return rows


@dataclass(frozen=True, kw_only=True)
class _Laws:
    """A law through the optima, and where its power differs from batch to batch, the law at other batches."""

    law: OptimumLaw
    together: NDArray[np.bool_]  # the sweeps with most values of the axis at one setting of the rest
    by_batch: Mapping[float, tuple[float, float, float]]

    @classmethod
    def of(
        cls, slices: LrSlices, columns: Mapping[str, Floats], name: str, inside: NDArray[np.bool_], level: float
    ) -> _Laws:
        """The law in all that varies; where its inputs cannot be told apart, in `name` alone on what was swept with it.

        Raises
        ------
        FitError
            `name` does not vary, or too few scales remain.
        """
        if not _varies(columns[name][inside]):
            raise FitError(finding("transfer.same", axis=name) if inside.any() else finding("transfer.none_inside"))
        together = _swept_together(columns, name, inside)
        names = tuple(n for n in columns if n == name or _varies(columns[n][inside]))
        try:
            law = _fit(slices, columns, names, inside)
        except FitError:
            if len(np.unique(columns[name][together])) < 3:
                raise
            return cls(law=_fit(slices, columns, (name,), together), together=together, by_batch={})
        if BATCH in names:
            batches = columns[BATCH]
            ends = (float(batches[inside].min()), float(batches[inside].max()))
            try:
                laws = [
                    _at_batch(slices, columns, names, name, inside, b) for b in (*ends, np.median(batches[together]))
                ]
            except FitError:
                laws = []
            if laws and _excludes_zero(laws[-1].exponent_interval(BY_BATCH, level)):
                by_batch = {
                    b: (one.exponents[name], *one.exponent_interval(name, level))
                    for b, one in zip(ends, laws, strict=False)
                }
                return cls(law=laws[-1], together=together, by_batch=by_batch)
        return cls(law=law, together=together, by_batch={})


def _at_batch(
    slices: LrSlices,
    columns: Mapping[str, Floats],
    names: tuple[str, ...],
    name: str,
    rows: NDArray[np.bool_],
    batch: float,
) -> OptimumLaw:
    """The law with a power of `name` that changes with the batch; the exponents that it states hold at `batch`."""
    centre = float(np.log(columns[name][rows]).mean())
    both = np.exp((np.log(columns[name]) - centre) * np.log(columns[BATCH] / batch))
    return _fit(slices, {**columns, BY_BATCH: both}, (*names, BY_BATCH), rows)


def _swept_together(columns: Mapping[str, Floats], name: str, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The sweeps of one setting of everything but `name`: the setting with most values of it."""
    rows = np.zeros(len(inside), dtype=bool)
    if not inside.any():
        return rows
    held = np.column_stack([np.round(np.log(column), 1) for other, column in columns.items() if other != name])
    _, index = np.unique(held[inside], axis=0, return_inverse=True)
    index = index.ravel()
    values = [len(np.unique(columns[name][inside][index == at])) for at in range(int(index.max()) + 1)]
    rows[np.flatnonzero(inside)[index == int(np.argmax(values))]] = True
    return rows


def _fit(
    slices: LrSlices, columns: Mapping[str, Floats], names: tuple[str, ...], rows: NDArray[np.bool_]
) -> OptimumLaw:
    scale = np.unique(np.column_stack([slices.params, slices.tokens])[rows], axis=0, return_inverse=True)[1]
    optima = MeasuredOptima.of(
        np.exp(slices.log_lr[rows]),
        slices.log_sd[rows],
        {name: columns[name][rows] for name in names},
        scale.ravel(),
        shared_log_sd=slices.shared_log_sd,
    )
    return fit_optimum_law(optima, names)


def _excludes_zero(interval: tuple[float, float]) -> bool:
    return interval[0] > 0 or interval[1] < 0


def _varies(column: Floats) -> bool:
    return bool(len(column)) and float(np.ptp(np.log(column))) > 0.05


def _axis(
    laws: _Laws, name: str, valley: Floats, columns: Mapping[str, Floats], inside: NDArray[np.bool_], level: float
) -> Axis:
    law, together = laws.law, laws.together
    exponent = law.exponents[name]
    low, high = law.exponent_interval(name, level)
    rows = inside if len(law.inputs) > 1 else together
    first, last = float(columns[name][rows].min()), float(columns[name][rows].max())
    reach = float(np.log(last / first))
    if _excludes_zero((low, high)):
        verdict = MOVES
    else:
        verdict = FLAT if max(-low, high) <= SETTLES else OPEN
    at = {other: float(np.median(column[together])) for other, column in columns.items() if other != name}
    line = []
    for x in np.geomspace(first, last, LINE_POINTS):
        said = law.predict(level, **{n: {**at, name: float(x), BY_BATCH: 1.0}[n] for n in law.inputs})
        line.append({"x": float(x), "lr": said.value, "low": said.low, "high": said.high})
    return Axis(
        name=name,
        exponent=exponent,
        low=low,
        high=high,
        verdict=verdict,
        first=first,
        last=last,
        cost_of_keeping=cost_of_shift(valley, -exponent * reach),
        worst_cost=max(cost_of_shift(valley, -end * reach) for end in (low, high)),
        by_batch=laws.by_batch,
        at=at,
        line=tuple(line),
    )


def _sizes(slices: LrSlices, runs: Sequence[Run]) -> tuple[str, Floats, list[Found]]:
    """Width of each slice where every one has a single one, else its parameters; and what to know about it."""
    widths, depths = (_column(slices.params, runs, names) for names in (WIDTH_COLUMNS, DEPTH_COLUMNS))
    if widths is None:
        return PARAMS, slices.params, [finding("transfer.no_width")]
    if depths is not None and _varies(depths):
        return PARAMS, slices.params, [finding("transfer.depth_varies", low=depths.min(), high=depths.max())]
    return WIDTH, widths, []


def _column(params: Floats, runs: Sequence[Run], names: Sequence[str]) -> Floats | None:
    name = next((name for name in names if all(_number(run.extra.get(name)) for run in runs)), None)
    if name is None or not runs:
        return None
    sizes = np.array([run.params for run in runs])
    values = np.array([float(run.extra[name]) for run in runs])
    found = []
    for size in params:
        mine = np.unique(values[np.abs(np.log(sizes / size)) < 2 * PARAMS_TOLERANCE])
        if len(mine) != 1:
            return None
        found.append(float(mine[0]))
    return np.array(found)


def _number(value: object) -> bool:
    try:
        return float(str(value)) > 0
    except ValueError:
        return False
