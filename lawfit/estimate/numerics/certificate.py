"""What a fit may be trusted with: numbers and findings that any family of laws can fill in.

A fit is certified when its search ended at a minimum (by its gradient, never because passes ran out), several starts
ended there, and the data determine every parameter. What remains doubtful without being wrong (curvature left in the
residuals, one scale that bends the law, few clusters) is a warning. Everything is computed from few arrays: the
derivative of the prediction by the parameters at each row, clipped residuals, and the estimates without each group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.findings import Found, finding, found_of

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

WEAK: Final = 0.5  # a standard error of half the value: the 90 % interval spans a factor of ten
VAGUE: Final = 3.0  # sd, in logs, of what is known about a parameter that no run speaks about
DOUBTFUL: Final = 0.01  # p-value of the test for curvature in the residuals
BENDS: Final = 3.0  # standard errors that one group may move a parameter
FEW_CLUSTERS: Final = 10
MOST_RUNS: Final = 3  # to ask for
SHAKY: Final = 0.9  # share of resamples whose two searches must agree


@dataclass(frozen=True, kw_only=True)
class Search:
    """How the minimum was found."""

    starts: int
    agreeing: int  # starts that ended at the lowest objective
    spread: float  # largest distance between the parameters of agreeing starts, in standard errors
    gradient_norm: float  # remaining Newton step, in standard errors
    converged: bool
    resamples: int = 0
    resamples_converged: int = 0
    resamples_agreeing: int = 0  # whose global and warm search ended at one minimum


@dataclass(frozen=True, kw_only=True)
class NeededRun:
    """A further run that would determine parameters best, and what it does for the least known of them."""

    inputs: Mapping[str, float]
    parameter: str
    sd: float  # relative, as it is
    sd_with_run: float  # and with the run


@dataclass(frozen=True, kw_only=True)
class Influence:
    """What the estimate would be without one group of rows."""

    group: str
    rows: int
    parameter: str  # the one that moves most
    value: float
    value_without: float
    shift: float  # in standard errors


@dataclass(frozen=True, kw_only=True)
class LackOfFit:
    """Structure left in the residuals along given columns, by a score test that allows for clusters."""

    p_value: float
    column: str  # the strongest
    size: float  # sd over the rows of what the columns would add to the prediction, in its unit (log loss)


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The whole examination; `reasons` is empty exactly when the fit is certified."""

    reasons: tuple[Found, ...]
    warnings: tuple[Found, ...]
    search: Search
    condition_number: float  # of the information, scaled to unit diagonal
    standard_errors: Mapping[str, float]  # relative: of logs, and of exponents over their value
    at_bound: tuple[str, ...]
    weak: tuple[str, ...]  # parameters that the data do not determine
    needed_runs: tuple[NeededRun, ...]  # the first is the one that helps most
    lack_of_fit: LackOfFit | None  # None: too few clusters to test, or nothing left over
    influence: tuple[Influence, ...]  # strongest first
    rows: int
    clusters: int

    @property
    def certified(self) -> bool:
        return not self.reasons

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "certified": self.certified}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Certificate:
        """The certificate that `to_json` wrote, also after a trip through JSON text."""
        fields = {name: value for name, value in content.items() if name != "certified"}
        structure = fields["lack_of_fit"]
        return cls(
            **{
                **fields,
                **{name: tuple(found_of(each) for each in fields[name]) for name in ("reasons", "warnings")},
                **{name: tuple(fields[name]) for name in ("at_bound", "weak")},
                "search": Search(**fields["search"]),
                "needed_runs": tuple(NeededRun(**run) for run in fields["needed_runs"]),
                "lack_of_fit": None if structure is None else LackOfFit(**structure),
                "influence": tuple(Influence(**row) for row in fields["influence"]),
            }
        )


def condition_number(information: Floats) -> float:
    """Ratio of the extreme eigenvalues, after scaling to unit diagonal: free of units; inf where it is singular."""
    diagonal = np.diag(information)
    if not np.all(diagonal > 0):
        return float("inf")
    scale = np.sqrt(diagonal)
    values = np.linalg.eigvalsh(information / scale / scale[:, None])
    return float(values[-1] / values[0]) if values[0] > np.finfo(float).eps * values[-1] else float("inf")


def vague_covariance(information: Floats) -> Floats:
    """Inverse of the information plus `VAGUE` prior knowledge: finite where the data say nothing."""
    values, vectors = np.linalg.eigh(information)  # not an inverse: runs without noise know some directions exactly
    return np.asarray((vectors / (np.maximum(values, 0.0) + 1 / VAGUE**2)) @ vectors.T, dtype=float)


def score_covariance(hessian: Floats, scores: Floats, index: Ints) -> Floats:
    """Sandwich of an M-estimate with scores (n, k) added up by cluster, and the few-clusters factor G / (G - 1)."""
    groups = int(index.max()) + 1
    summed = np.zeros((groups, scores.shape[1]))
    np.add.at(summed, index, scores)
    bread = np.linalg.pinv(hessian, hermitian=True)
    return np.asarray(bread @ (summed.T @ summed) @ bread * groups / max(groups - 1, 1), dtype=float)


def weak_parameters(names: Sequence[str], relative_sd: Floats, at_bound: Bools) -> tuple[str, ...]:
    """Parameters with a relative standard error beyond `WEAK`, or stuck on their bound."""
    weak = (relative_sd > WEAK) | ~np.isfinite(relative_sd) | at_bound
    return tuple(name for name, flag in zip(names, weak, strict=True) if flag)


def wandering(theta: Floats, doubt: Floats, best: int, scale: Floats) -> Bools:
    """Parameters that starts disagree on although the data do not tell their ends apart.

    `theta` (s, k) are where the starts ended, `doubt` (s,) how far their objective lies above the best, in squared
    standard errors. Along a valley without a floor every start stops elsewhere.
    """
    as_good = doubt < 1.0
    return np.asarray((np.abs(theta[as_good] - theta[best]) / scale).max(axis=0) > WEAK, dtype=bool)


def needed_runs(
    names: Sequence[str],
    weak: Sequence[str],
    information: Floats,
    scale: Floats,
    candidates: Sequence[Mapping[str, float]],
    candidate_jacobian: Floats,
    *,
    enough: float = WEAK,
) -> tuple[NeededRun, ...]:
    """The candidates that determine the `weak` parameters best: the one best run, then further ones if it takes more.

    Parameters
    ----------
    information : (k, k)
        Of the runs there are.
    scale : (k,)
        What a standard error of each parameter is relative to: 1 for logs, the value for exponents.
    candidates : m mappings of input to value
    candidate_jacobian : (m, k)
        Derivative of the prediction at each candidate, over the noise of one run.
    enough : relative standard error at which a parameter counts as determined
    """
    found: list[NeededRun] = []
    rows = [names.index(name) for name in weak]
    covariance = vague_covariance(information)
    while rows and len(candidates) and len(found) < MOST_RUNS:
        effect = candidate_jacobian @ covariance  # (m, k)
        noise = 1 + np.einsum("mk,mk->m", effect, candidate_jacobian)
        after = np.maximum(np.diag(covariance) - effect**2 / noise[:, None], 0.0)[:, rows] / scale[rows] ** 2
        best = int(after.max(axis=1).argmin()) if len(rows) == 1 else int(np.log(after + 1e-12).sum(axis=1).argmin())
        before = np.sqrt(np.maximum(np.diag(covariance), 0.0)) / scale
        worst = rows[int(before[rows].argmax())]
        covariance = covariance - np.outer(effect[best], effect[best]) / noise[best]
        left = np.sqrt(np.maximum(np.diag(covariance), 0.0)) / scale
        found.append(
            NeededRun(
                inputs=dict(candidates[best]),
                parameter=names[worst],
                sd=float(before[worst]),
                sd_with_run=float(left[worst]),
            )
        )
        if np.all(left[rows] <= enough):
            break
    return tuple(found)


def lack_of_fit(
    clipped: Floats, share_inside: float, jacobian: Floats, columns: Mapping[str, Floats], index: Ints
) -> LackOfFit | None:
    """Score test: would `columns` (n,) each, added to the prediction, explain residuals?

    Parameters
    ----------
    clipped : (n,)
        Residuals clipped at Huber's threshold: what the estimate made orthogonal to the Jacobian.
    share_inside : float
        Share of residuals that are not clipped: the curvature of the loss, for the size of what is left.
    """
    from scipy.special import fdtrc  # here: answers from a stored fit do without scipy

    extra = np.column_stack(list(columns.values()))
    extra = extra - jacobian @ np.linalg.lstsq(jacobian, extra, rcond=None)[0]
    groups, q = int(index.max()) + 1, extra.shape[1]
    if groups <= jacobian.shape[1] + 2 * q:
        return None
    scale = np.sqrt((extra**2).mean(axis=0))
    usable = scale > 1e-9 * max(float(np.abs(np.column_stack(list(columns.values()))).max()), 1e-300)
    if not usable.any():
        return None
    extra, names = extra[:, usable] / scale[usable], [n for n, u in zip(columns, usable, strict=True) if u]
    q = extra.shape[1]
    summed = np.zeros((groups, q))
    np.add.at(summed, index, clipped[:, None] * extra)
    total, spread = summed.sum(axis=0), summed.T @ summed
    if not np.all(np.diag(spread) > 0):  # no residual at all
        return None
    wald = float(total @ np.linalg.pinv(spread, hermitian=True) @ total)
    # the scores' own sum is in their spread: F exactly when they are normal (Hotelling)
    statistic = wald / max(1 - wald / groups, 1e-12) * (groups - q) / (q * groups)
    coefficients = np.linalg.pinv(extra.T @ extra, hermitian=True) @ total / max(share_inside, 1e-12)
    strongest = int(np.abs(total / np.sqrt(np.diag(spread))).argmax())
    return LackOfFit(
        p_value=float(fdtrc(q, groups - q, statistic)),
        column=names[strongest],
        size=float((extra @ coefficients).std()),
    )


def influences(
    names: Sequence[str],
    estimate: Floats,
    sd: Floats,
    without: Mapping[str, tuple[int, Floats]],
    logs: Bools,
) -> tuple[Influence, ...]:
    """Groups by how far the estimate moves without them; `without` has their rows and the estimate (k,) left.

    Parameters flagged in `logs` are shown as what they are the log of.
    """
    found = []
    for group, (rows, left) in without.items():
        shift = (left - estimate) / np.where(sd > 0, sd, np.inf)
        k = int(np.nan_to_num(np.abs(shift), nan=np.inf).argmax())
        found.append(
            Influence(
                group=group,
                rows=rows,
                parameter=names[k],
                value=float(np.exp(estimate[k]) if logs[k] else estimate[k]),
                value_without=float(np.exp(left[k]) if logs[k] else left[k]),
                shift=float(shift[k]),
            )
        )
    return tuple(sorted(found, key=lambda i: -abs(i.shift)))


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How well each parameter of a fit is known."""

    names: Sequence[str]
    information: Floats
    relative_sd: Floats
    at_bound: Bools
    weak: Sequence[str]  # names of those that are left open
    runs: Sequence[NeededRun]  # that would close them


def certificate(
    *,
    search: Search,
    precision: Precision,
    structure: LackOfFit | None,
    influence: Sequence[Influence],
    rows: int,
    clusters: int,
    of: str = "loss",
    single: Sequence[str] = (),
) -> Certificate:
    """Put everything together, and say what speaks against the fit, whose predictions are logs `of`.

    `single` are groups of one run that the others do not determine the law without.
    """
    names, weak, runs = precision.names, precision.weak, precision.runs
    stuck = tuple(name for name, flag in zip(names, precision.at_bound, strict=True) if flag)
    return Certificate(
        reasons=tuple(_reasons(search, weak, stuck, runs, clusters, len(names))),
        warnings=(
            *_warnings(search, structure, influence, clusters, of),
            *(finding("numerics.one_run", group=group) for group in single),
        ),
        search=search,
        condition_number=condition_number(precision.information),
        standard_errors={name: float(value) for name, value in zip(names, precision.relative_sd, strict=True)},
        at_bound=stuck,
        weak=tuple(weak),
        needed_runs=tuple(runs),
        lack_of_fit=structure,
        influence=tuple(influence),
        rows=rows,
        clusters=clusters,
    )


def _reasons(
    search: Search, weak: Sequence[str], stuck: Sequence[str], runs: Sequence[NeededRun], clusters: int, parameters: int
) -> list[Found]:
    """What forbids using the fit."""
    found: list[Found] = []
    if not search.converged:
        found.append(finding("numerics.not_converged", gradient_norm=search.gradient_norm))
    if search.agreeing < min(2, search.starts):
        found.append(finding("numerics.few_starts", agreeing=search.agreeing, starts=search.starts))
    if weak:
        found.append(finding("numerics.open", parameters=weak, at_bound=stuck, runs=[asdict(run) for run in runs]))
    if clusters <= parameters:
        found.append(finding("numerics.no_intervals", clusters=clusters, parameters=parameters))
    if search.resamples and search.resamples_converged < search.resamples:
        missing = search.resamples - search.resamples_converged
        if missing > (1 - SHAKY) * search.resamples:
            found.append(finding("numerics.resamples_not_converged", missing=missing, resamples=search.resamples))
    if search.resamples_agreeing < SHAKY * search.resamples:
        apart = search.resamples - search.resamples_agreeing
        found.append(finding("numerics.searches_apart", apart=apart, resamples=search.resamples))
    return found


def _warnings(
    search: Search, structure: LackOfFit | None, influence: Sequence[Influence], clusters: int, of: str
) -> list[Found]:
    """What a reader should know."""
    found: list[Found] = []
    if search.agreeing < search.starts:
        apart = search.starts - search.agreeing
        found.append(finding("numerics.starts_apart", apart=apart, starts=search.starts))
    if structure is not None and structure.p_value < DOUBTFUL:
        found.append(finding("numerics.structure", of=of, **asdict(structure)))
    if influence and abs(influence[0].shift) > BENDS:
        top = influence[0]
        found.append(finding("numerics.bends", standard_errors=abs(top.shift), **asdict(top)))
    if clusters < FEW_CLUSTERS:
        found.append(finding("numerics.rough_intervals", clusters=clusters))
    return found


def search_is_sound(search: Search) -> bool:
    """Whether what follows from all parameters together can be relied on, though one of them may be open."""
    return (
        search.converged
        and search.agreeing >= min(2, search.starts)
        and search.resamples_converged >= SHAKY * search.resamples
        and search.resamples_agreeing >= SHAKY * search.resamples
    )
