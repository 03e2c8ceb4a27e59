"""Does the best learning rate transfer? Its power of width and of horizon, recipe by recipe, with an honest interval.

Maximal update parametrization (arXiv 2203.03466) promises a best learning rate that stays where it is as width grows;
in the standard one it falls, towards 1 / width. Neither promises anything about horizon or batch. So for each recipe
``ln lr* = c + s ln width + t ln tokens + g ln batch`` goes through the optima of its sweeps (`lr_slices`), each with
its own uncertainty, scales with a scatter of their own around the law. Widths come from the runs' own columns; runs
without one are compared by parameter count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError
from lawfit.estimate.lr_slices import LrSlices, cost_of_shift, fit_lr_slices
from lawfit.estimate.observations import PARAMS_TOLERANCE, observe
from lawfit.estimate.optimum_law import MeasuredOptima, OptimumLaw, fit_optimum_law
from lawfit.estimate.quantiles import normal_quantile
from lawfit.estimate.recipe_laws import one_factor_at_its_base
from lawfit.records import OptimumStatus, Recipe, Run
from lawfit.units import format_percent, format_quantity

Floats = NDArray[np.float64]

SCHEMA: Final = "lawfit.transfer/1"
WIDTH, PARAMS, TOKENS, BATCH = "width", "params", "tokens", "batch_tokens"
WIDTH_COLUMNS: Final = ("width", "hidden_size", "d_model", "n_embd", "model_dim", "embed_dim", "dim")
DEPTH_COLUMNS: Final = ("layers", "n_layers", "depth", "n_layer", "num_layers")
# An interval that holds both 0 and half a power settles nothing: in standard parametrization the best learning rate
# falls as width to a power between one half and one.
SETTLES: Final = 0.5
LINE_POINTS: Final = 9
FLAT, MOVES, OPEN = "flat", "moves", "open"
_NOT_USED: Final = {
    OptimumStatus.AT_EDGE: "best at the edge of the learning rates tried, which is a bound and no optimum",
    OptimumStatus.FLAT: "whose learning rates differ by no more than noise",
}
WORDS: Final = {WIDTH: "width", PARAMS: "parameters", TOKENS: "tokens", BATCH: "batch"}


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
    at: Mapping[str, float]  # the setting of everything else at which most of this axis was swept
    line: tuple[Mapping[str, float], ...]  # the law there: x, lr, and an interval for the optimum of a new scale

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "at": dict(self.at), "line": [dict(point) for point in self.line], "words": self.words}

    @property
    def words(self) -> str:
        power = f"{WORDS[self.name]}^{self.exponent:+.2f} ({self.low:+.2f} to {self.high:+.2f})"
        ends = f"{_size(self.name, self.first)} to {_size(self.name, self.last)}"
        cost = (
            f"keeping one learning rate from {ends} costs {format_percent(self.cost_of_keeping)} of the loss "
            f"(up to {format_percent(self.worst_cost)} within the interval)"
        )
        if self.verdict == FLAT:
            return f"flat within noise: {power}; {cost}"
        if self.verdict == MOVES:
            return f"moves as {power}; {cost}"
        return f"not settled: {power} holds flat as well as steep; more sizes or seeds would tell; {cost}"


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One recipe's answer."""

    recipe: Recipe
    slices: LrSlices
    size_name: str  # WIDTH, or PARAMS where the runs state no width
    size: Floats  # (slices,)
    axes: Mapping[str, Axis]  # "size", "tokens": those that these runs determine
    missing: Mapping[str, str]  # axis -> why there is no answer
    level: float
    notes: tuple[str, ...]

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
    runs, others = one_factor_at_its_base([run for run in runs if run.excluded is None])
    observed = observe(runs)
    slices = fit_lr_slices(observed)
    size_name, size, notes = _sizes(slices, runs)
    inside = slices.inside
    for status, words in _NOT_USED.items():
        if count := sum(found is status for found in slices.status):
            notes.append(f"not used: {count} of {len(slices)} sweeps, {words}")
    notes += [*others, *(note for note in observed.notes if "weight decay" in note)]
    if not slices.converged:
        notes.append("the fit of the valley did not converge for every window: read the intervals with care")
    columns = {size_name: size, TOKENS: slices.tokens, BATCH: slices.batch_tokens}
    axes: dict[str, Axis] = {}
    missing: dict[str, str] = {}
    for axis, name in (("size", size_name), ("tokens", TOKENS)):
        try:
            law, together = _law(slices, columns, name, inside)
        except FitError as error:
            missing[axis] = str(error)
            continue
        axes[axis] = _axis(law, name, slices.valley, columns, inside, together, level)
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
            tells = abs(gap) > half
            rows.append(
                {
                    "recipe": ordered[0].recipe.name,
                    "other": other.recipe.name,
                    "parametrizations": [ordered[0].recipe.parametrization, other.recipe.parametrization],
                    "difference": gap,
                    "low": gap - half,
                    "high": gap + half,
                    "level": ordered[0].level,
                    "told_apart": tells,
                    "words": (
                        f"{ordered[0].recipe.parametrization or ordered[0].recipe.name} against "
                        f"{other.recipe.parametrization or other.recipe.name}: exponents differ by {gap:+.2f} "
                        f"({gap - half:+.2f} to {gap + half:+.2f})"
                        + ("" if tells else ", which these runs do not tell from no difference")
                    ),
                }
            )
    return rows


def _law(
    slices: LrSlices, columns: Mapping[str, Floats], name: str, inside: NDArray[np.bool_]
) -> tuple[OptimumLaw, NDArray[np.bool_]]:
    """The law in all that varies, and the sweeps with most of `name` at one setting of the rest.

    Where the inputs cannot be told apart, the law is one in `name` alone, on those sweeps.
    """
    together = _swept_together(columns, name, inside)
    if not _varies(columns[name][inside]):
        raise FitError(
            f"every sweep that shows its best learning rate has the same {WORDS[name]}: sweeps at two or more others "
            "would say how it moves"
            if inside.any()
            else "no sweep shows its best learning rate inside what was tried"
        )
    try:
        names = tuple(n for n in columns if n == name or _varies(columns[n][inside]))
        return _fit(slices, columns, names, inside), together
    except FitError:
        if len(np.unique(columns[name][together])) < 3:
            raise
        return _fit(slices, columns, (name,), together), together


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


def _varies(column: Floats) -> bool:
    return bool(len(column)) and float(np.ptp(np.log(column))) > 0.05


def _axis(
    law: OptimumLaw,
    name: str,
    valley: Floats,
    columns: Mapping[str, Floats],
    inside: NDArray[np.bool_],
    together: NDArray[np.bool_],
    level: float,
) -> Axis:
    exponent = law.exponents[name]
    low, high = law.exponent_interval(name, level)
    rows = inside if len(law.inputs) > 1 else together
    first, last = float(columns[name][rows].min()), float(columns[name][rows].max())
    reach = float(np.log(last / first))
    if low > 0 or high < 0:
        verdict = MOVES
    else:
        verdict = FLAT if max(-low, high) <= SETTLES else OPEN
    at = {other: float(np.median(column[together])) for other, column in columns.items() if other != name}
    line = []
    for x in np.geomspace(first, last, LINE_POINTS):
        said = law.predict(level, **{n: {**at, name: float(x)}[n] for n in law.inputs})
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
        at=at,
        line=tuple(line),
    )


def _sizes(slices: LrSlices, runs: Sequence[Run]) -> tuple[str, Floats, list[str]]:
    """Width of each slice where every one has a single one, else its parameters; and what to know about it."""
    widths, depths = (_column(slices.params, runs, names) for names in (WIDTH_COLUMNS, DEPTH_COLUMNS))
    if widths is None:
        return PARAMS, slices.params, ["the runs state no width (or several at one size): compared by parameter count"]
    notes = []
    if depths is not None and _varies(depths):
        notes.append(f"depth varies too, from {depths.min():g} to {depths.max():g} layers")
    return WIDTH, widths, notes


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


def _size(name: str, value: float) -> str:
    return f"{WORDS[name]} {value:g}" if name == WIDTH else f"{format_quantity(value)} {WORDS[name]}"
