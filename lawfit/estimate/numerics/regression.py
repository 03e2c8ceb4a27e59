"""Power laws by least squares in logs, with cluster-robust uncertainty, and the two baselines that the field uses.

Optima of one size share how far it lies off the law, so the size is the cluster. With few clusters (four sizes are few)
a sandwich covariance is too small: that of the estimates without each cluster is taken instead, with Student's t of G-1
degrees of freedom. Everything but robust lines, which are statsmodels', is plain numpy and takes microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.numerics.optima import NEAR_OPTIMAL, CellOptimum, Columns, locate_argmin, near_optimal_rows
from lawfit.estimate.numerics.resample import jackknife_covariance
from lawfit.estimate.numerics.sweeps import Floats
from lawfit.findings import finding
from lawfit.laws.power import POWER_PRODUCT
from lawfit.records import OptimumStatus

_EXACT: Final = 1e-9  # residual of ln y, below which every kind of line is the same
_RANK_TOLERANCE: Final = 1e-6  # singular values of standardised log inputs below this share say "not identified"


class Line(StrEnum):
    """How a line is laid through logs; the latter two leave odd points aside, by statsmodels' RLM and QuantReg."""

    OLS = "ols"
    ROBUST = "robust"  # Huber's M-estimate with a scale from the median absolute residual
    MEDIAN = "median"  # least absolute residuals


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """``y = const * prod inputs^exponent``."""

    log_const: float  # natural log
    exponents: Mapping[str, float]

    @property
    def const(self) -> float:
        return float(np.exp(self.log_const))

    def predict(self, **inputs: ArrayLike) -> NDArray[np.float64]:
        """Vectorised; inputs that the law does not use are ignored."""
        return POWER_PRODUCT(self.const, self.exponents, inputs)


@dataclass(frozen=True, kw_only=True)
class PowerLawFit:
    """A power law with its uncertainty."""

    law: PowerLaw
    names: tuple[str, ...]  # "const" and the inputs: order of `coefficients` and `cov`
    coefficients: Floats  # log const, then exponents
    cov: Floats  # of a jackknife over clusters
    low: Floats  # bounds of a `level` interval, coefficient by coefficient
    high: Floats
    level: float
    clusters: int
    rows: int
    residual_sd: float  # of ln y


@dataclass(frozen=True, kw_only=True)
class LrBatchLaws:
    """A law for the learning rate and one for the batch size, as both baselines give them."""

    lr: PowerLaw
    batch_tokens: PowerLaw
    rows: int  # runs (E1) or cells (argmin) that entered
    at_edge: int  # cells whose best run lies on the border of what was tried

    def predict(self, params: float, tokens: float) -> tuple[float, float]:
        """(lr, batch_tokens) at a scale."""
        return (
            float(self.lr.predict(params=params, tokens=tokens)),
            float(self.batch_tokens.predict(params=params, tokens=tokens)),
        )


def fit_power_law(y: ArrayLike, inputs: Mapping[str, ArrayLike], *, line: Line = Line.OLS) -> PowerLaw:
    """A line of ln y on the logs of the inputs: by default ordinary least squares.

    Parameters
    ----------
    y : (n,) positive floats
    inputs : mapping of name to (n,) positive floats
    line : how odd points count

    Raises
    ------
    FitError
        The inputs do not vary enough to tell their exponents apart; the message names the combination that is open.
    """
    log_y, design = _logs(y, inputs)
    coefficients = np.asarray(np.linalg.lstsq(design, log_y, rcond=None)[0], dtype=float)
    if line is not Line.OLS and np.abs(log_y - design @ coefficients).max() > _EXACT:
        coefficients = _robust(log_y, design, line)
    return _as_law(coefficients, tuple(inputs))


def _robust(log_y: Floats, design: Floats, line: Line) -> Floats:
    """Coefficients by statsmodels, which needs residuals to scale by, and warns where several lines are as good."""
    import warnings

    from statsmodels.regression.quantile_regression import QuantReg
    from statsmodels.robust.robust_linear_model import RLM

    centre = design[:, 1:].mean(axis=0)  # logs of tokens lie near 24: QuantReg's iterations want them near 0
    moved = np.column_stack([design[:, 0], design[:, 1:] - centre])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = RLM(log_y, moved).fit() if line is Line.ROBUST else QuantReg(log_y, moved).fit(q=0.5, max_iter=2000)
    found = np.array(fit.params, dtype=float)
    if not np.isfinite(found).all():
        raise FitError(finding("numerics.no_line", line=line, points=len(log_y)))
    found[0] -= float(centre @ found[1:])
    return found


def fit_power_law_clustered(
    y: ArrayLike, inputs: Mapping[str, ArrayLike], clusters: ArrayLike, *, level: float = 0.9
) -> PowerLawFit:
    """The same, with a jackknife covariance over clusters (CR3) and t quantiles with G-1 degrees of freedom.

    Parameters
    ----------
    y : (n,) positive floats
    inputs : mapping of name to (n,) positive floats
    clusters : (n,) labels
        Rows with one label are one observation of the law: the optima of one size, or of one scale.

    Raises
    ------
    FitError
        Exponents that the inputs cannot tell apart, also without some cluster.
    """
    from scipy.special import stdtrit

    log_y, design = _logs(y, inputs)
    _, group = np.unique(np.asarray(clusters), return_inverse=True)
    n_clusters = int(group.max()) + 1
    # about the means of the inputs, for the sake of rounding; the constant follows them
    centre = np.array([0.0, *design[:, 1:].mean(axis=0)])
    moved = design - centre
    coefficients = np.asarray(np.linalg.lstsq(moved, log_y, rcond=None)[0], dtype=float)
    residuals = log_y - moved @ coefficients
    back = np.eye(len(centre))
    back[0] -= centre
    cov = back @ jackknife_covariance(moved, residuals, group.ravel()) @ back.T
    coefficients = back @ coefficients
    half = float(stdtrit(n_clusters - 1, 0.5 + level / 2)) * np.sqrt(np.diag(cov))
    return PowerLawFit(
        law=_as_law(coefficients, tuple(inputs)),
        names=("const", *inputs),
        coefficients=coefficients,
        cov=cov,
        low=coefficients - half,
        high=coefficients + half,
        level=level,
        clusters=n_clusters,
        rows=len(log_y),
        residual_sd=float(np.sqrt(residuals @ residuals / max(len(log_y) - len(coefficients), 1))),
    )


def fit_argmin_ols(
    runs: Columns,
    *,
    lr_inputs: Sequence[str] = ("params", "tokens"),
    batch_inputs: Sequence[str] = ("params", "tokens"),
    line: Line = Line.OLS,
    best: Sequence[CellOptimum] | None = None,
) -> LrBatchLaws:
    """The plain baseline: the best run of each cell, then a line for each law; cells without a finished run left out.

    `best` is what `locate_argmin` says of these runs, where that is known already.

    Raises
    ------
    FitError
        No or too few scales for the exponents that were asked for.
    """
    cells = [c for c in (locate_argmin(runs) if best is None else best) if np.isfinite(c.lr)]
    if not cells:
        raise NotEnoughData(finding("numerics.no_finished_cell"))
    at = {name: np.array([getattr(c, name) for c in cells]) for name in ("params", "tokens", "lr", "batch_tokens")}
    return LrBatchLaws(
        lr=fit_power_law(at["lr"], {name: at[name] for name in lr_inputs}, line=line),
        batch_tokens=fit_power_law(at["batch_tokens"], {name: at[name] for name in batch_inputs}, line=line),
        rows=len(cells),
        at_edge=sum(c.status is OptimumStatus.AT_EDGE for c in cells),
    )


def fit_e1(
    runs: Columns,
    *,
    threshold: float = NEAR_OPTIMAL,
    lr_inputs: Sequence[str] = ("params", "tokens"),
    batch_inputs: Sequence[str] = ("tokens",),
    best: Sequence[CellOptimum] | None = None,
) -> LrBatchLaws:
    """E1 (Step Law): OLS over every run within `threshold` of its cell's lowest loss; `best` as in `fit_argmin_ols`.

    Raises
    ------
    FitError
        No or too few scales for the exponents that were asked for.
    """
    near = runs.take(near_optimal_rows(runs, threshold))
    if not len(near):
        raise NotEnoughData(finding("numerics.no_finished_run"))
    return LrBatchLaws(
        lr=fit_power_law(near.lr, {name: getattr(near, name) for name in lr_inputs}),
        batch_tokens=fit_power_law(near.batch_tokens, {name: getattr(near, name) for name in batch_inputs}),
        rows=len(near),
        at_edge=sum(c.status is OptimumStatus.AT_EDGE for c in (locate_argmin(runs) if best is None else best)),
    )


def _logs(y: ArrayLike, inputs: Mapping[str, ArrayLike]) -> tuple[Floats, Floats]:
    """(ln y, design matrix with a column of ones), checked for rank on standardised columns."""
    columns = [np.asarray(y, dtype=float), *(np.asarray(x, dtype=float) for x in inputs.values())]
    for name, column in zip(("y", *inputs), columns, strict=True):
        if not np.all((column > 0) & np.isfinite(column)):
            raise ValueError(f"{name} must be positive and finite in every row")
    logs = np.log(np.column_stack(columns))
    design = np.column_stack([np.ones(len(logs)), logs[:, 1:]])
    _check_identified(logs[:, 1:], tuple(inputs))
    return logs[:, 0], design


def _check_identified(log_inputs: Floats, names: tuple[str, ...]) -> None:
    if len(log_inputs) <= len(names):
        raise FitError(finding("numerics.few_scales", scales=len(log_inputs), exponents=len(names)))
    spread = log_inputs.std(axis=0)
    if fixed := [name for name, sd in zip(names, spread, strict=True) if sd < _RANK_TOLERANCE]:
        raise FitError(finding("numerics.fixed_input", inputs=fixed))
    standard = (log_inputs - log_inputs.mean(axis=0)) / spread
    _, singular, directions = np.linalg.svd(standard, full_matrices=False)
    if len(singular) and singular[-1] < _RANK_TOLERANCE * singular[0]:
        open_direction = directions[-1] / spread
        in_it = np.abs(open_direction) > 1e-3 * np.abs(open_direction).max()
        inputs = [name for name, flag in zip(names, in_it, strict=True) if flag]
        raise FitError(finding("numerics.runs_on_a_line", inputs=inputs))


def _as_law(coefficients: Floats, names: tuple[str, ...]) -> PowerLaw:
    return PowerLaw(
        log_const=float(coefficients[0]),
        exponents={name: float(value) for name, value in zip(names, coefficients[1:], strict=True)},
    )
