"""Tables of a fit of learning rate and batch: coefficients with their covariance, published laws, what changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lawfit.advise.coefficients import coefficients
from lawfit.estimate.numerics.quantiles import normal_quantile
from lawfit.plots.shown import Table
from lawfit.units import format_lr, format_percent, format_quantity

LEVEL: Final = 0.9
_OF: Final[Mapping[str, str]] = {"lr": "learning rate", "batch_tokens": "batch"}
_TERMS: Final[Mapping[str, str]] = {
    "const": "level (ln)",
    "params": "exponent of parameters",
    "tokens": "exponent of tokens",
    "curvature": "bend (of ln compute, squared)",
    "few_tokens": "below 10 tokens per parameter",
}
_SHORT: Final[Mapping[str, str]] = {
    "const": "level", "params": "params", "tokens": "tokens", "curvature": "bend", "few_tokens": "few tokens",
}  # fmt: skip


def formula(law: Mapping[str, Any], quantity: str) -> str:
    """The law around the middle of the runs: ``best lr = 2.16e-2 x (N / 1.1M)^-0.282 x (D / 38.5M)^-0.327``."""
    row = law[quantity]
    centre = {"params": law["params_at_centre"], "tokens": law["tokens_at_centre"]}
    level = format_lr(row["const"]) if quantity == "lr" else f"{format_quantity(row['const'])} tokens"
    factors = [
        f"({letter} / {format_quantity(centre[name])})^{row[name]:+.3f}"
        for letter, name in (("N", "params"), ("D", "tokens"))
    ]
    return f"best {_OF[quantity]} = {' x '.join((level, *factors))}"


def coefficients_table(model: Mapping[str, Any]) -> Table:
    """Each coefficient with its standard error and interval, averaged over the choices of analysis."""
    found, half = coefficients(model), normal_quantile(0.5 + LEVEL / 2)
    rows = [
        (
            _OF[quantity],
            _TERMS[term],
            f"{value:+.4f}",
            f"{sd:.4f}",
            f"{value - half * sd:+.3f} to {value + half * sd:+.3f}",
        )
        for (quantity, term), value, sd in zip(found.names, found.values, found.sd, strict=True)
    ]
    columns = ("of the best", "coefficient", "value", "standard error", "90 % interval")
    return Table(columns=columns, rows=tuple(rows), numbers=columns[2:])


def covariance_table(model: Mapping[str, Any]) -> Table:
    """Correlations below the diagonal, variances on it: the covariance, as it can be read."""
    found = coefficients(model)
    names = [f"{'lr' if quantity == 'lr' else 'batch'} {_SHORT[term]}" for quantity, term in found.names]
    rows = []
    for i, name in enumerate(names):
        cells = [f"{found.correlation[i, j]:+.2f}" for j in range(i)]
        rows.append((name, *cells, f"{found.cov[i, i]:.2g}", *([""] * (len(names) - i - 1))))
    return Table(columns=("", *names), rows=tuple(rows), numbers=tuple(names))


def published_table(published: Mapping[str, Mapping[str, Any]]) -> Table:
    """What following each published law would have cost on the runs, cheapest first."""
    known = {name: row for name, row in published.items() if row["mean_regret"] is not None}
    rows = [
        (
            name,
            format_percent(row["mean_regret"]),
            format_percent(row["worst_regret"]),
            f"{row['cells_scored']}",
            f"{row['cells_outside']}",
        )
        for name, row in sorted(known.items(), key=lambda item: float(item[1]["mean_regret"]))
    ]
    columns = ("law", "mean cost", "worst scale", "scales", "of them beyond its range")
    return Table(columns=columns, rows=tuple(rows), numbers=columns[1:])


def changed_numbers(numbers: Sequence[Mapping[str, Any]]) -> Table:
    """Numbers of two fits side by side, each with its interval; what is the same in both is said to be."""
    of = {row["name"]: row for row in numbers}
    rows = []
    for name, row in of.items():
        if name.endswith(("_low", "_high")):
            continue
        one, other = (_with_ends(of, name, side) for side in ("a", "b"))
        rows.append((_called(name), one, other, "same" if one == other else _moved(row)))
    columns = ("number", "earlier", "later", "change")
    return Table(columns=columns, rows=tuple(rows), numbers=columns[1:])


def _called(name: str) -> str:
    part, _, term = name.rpartition(".")
    words = {"const": "level", "params": "exponent of parameters", "tokens": "exponent of tokens",
             "batch_tokens": "exponent of the batch"}.get(term, term.replace("_", " "))  # fmt: skip
    of = {"lr": "best learning rate", "batch_tokens": "best batch", "lr_given_batch": "learning rate at a batch"}
    return f"{of.get(part, part.replace('_', ' ').replace('.', ', '))}: {words}" if part else words


def _with_ends(of: Mapping[str, Mapping[str, Any]], name: str, side: str) -> str:
    value = of[name][side]
    if value is None:
        return "-"
    ends = [of[f"{name}_{end}"][side] for end in ("low", "high") if f"{name}_{end}" in of]
    span = f" ({ends[0]:.3g} to {ends[1]:.3g})" if len(ends) == 2 and None not in ends else ""
    return f"{value:.4g}{span}"


def _moved(row: Mapping[str, Any]) -> str:
    if row["a"] is None or row["b"] is None:
        return "only in one"
    return f"{row['b'] - row['a']:+.3g}"
