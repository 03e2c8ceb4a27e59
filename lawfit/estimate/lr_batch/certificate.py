"""What the fit of learning rate and batch may be trusted with: `numerics.certificate` for the surface.

Starts: the minimum of the member that counts most is searched for again from places apart; no start may find a better
one, and one other at least must end there. Every member must lie at its mode by its gradient. Identification is asked
of the runs alone, with what published laws lend taken off again: an exponent that the runs leave open is named, with
the scale whose sweep would determine it best. Influence: each scale is left out. Lack of fit: whether the valley's
steepness changes with scale, which one shape for all scales denies (bending laws have a test of their own in the fit).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.lr_batch.borrowed import CURVATURE_SD, FEW_SD, beside_the_runs, law_prior
from lawfit.estimate.lr_batch.ensemble import Ensemble, Member
from lawfit.estimate.lr_batch.surface import STARTS, SurfaceFit, inside_window, search_again, starts_apart
from lawfit.estimate.numerics.certificate import (
    DOUBTFUL,
    VAGUE,
    Certificate,
    LackOfFit,
    NeededRun,
    Search,
    condition_number,
    influences,
    needed_runs,
)
from lawfit.estimate.numerics.law_terms import N_LAW, TERMS, law_design
from lawfit.estimate.numerics.shapes import SHAPES
from lawfit.estimate.numerics.sweeps import FLAT_BAND
from lawfit.estimate.observe.observations import Observations
from lawfit.findings import Finding, Found, finding
from lawfit.units import format_quantity

Floats = NDArray[np.float64]

SAME: Final = 0.1  # squared standard errors between objectives that belong to one minimum
BETTER: Final = 2.0  # squared standard errors by which another minimum is better beyond a doubt (odds of e)
NEAR: Final = 0.05  # standard errors from the mode: far below what an interval could show
LOOSE: Final = 0.25  # standard error of an exponent by the runs alone: published exponents differ by no more
NAMES: Final = (
    "lr level",
    "exponent of parameters in the best lr",
    "exponent of tokens in the best lr",
    "batch level",
    "exponent of parameters in the best batch",
    "exponent of tokens in the best batch",
)
_PLACES: Final = (
    0,
    1,
    2,
    TERMS,
    TERMS + 1,
    TERMS + 2,
)  # of these among the law coefficients; the others are bends
_AFFORDABLE: Final = 2.0  # a scale to ask for takes at most so many times the compute of the largest one
FEW_SIZES: Final = 4  # fewer tell how the optimum moves with parameters by next to nothing but what is lent
_SMALLEST_TEST: Final = 6  # scales
_FEWEST_SCALES: Final = 3
_OPEN: Final = 1e6  # stands for an infinite standard error


def certify_surface(
    observed: Observations, ensemble: Ensemble, valley: SurfaceFit, *, without_laws: Sequence[str] = ()
) -> Certificate:
    """Examine a fitted ensemble.

    Parameters
    ----------
    valley : what mistakes are priced by
    without_laws : published laws that lent nothing to it
    """
    top = max(ensemble.members, key=lambda m: m.weight)
    search, above = _search(observed, ensemble, top, without_laws)
    information = _of_the_runs(top, ensemble, without_laws)
    sd = _standard_errors(information)
    weak = tuple(NAMES[k] for k in (1, 2, 4, 5) if not sd[k] <= LOOSE)
    runs = _needed(observed, top, information, weak)
    influence = _influence(observed, ensemble)
    structure = _steepness(observed, top)
    return Certificate(
        reasons=tuple(_reasons(search, above, valley)),
        warnings=tuple(
            _warnings(
                search,
                weak,
                sd,
                runs,
                structure,
                int(observed.size_of_cell()[-1]) + 1,
                observed.n_cells,
                beside=beside_the_runs(without_laws),
            )
        ),
        search=search,
        condition_number=condition_number(information),
        standard_errors=dict(zip(NAMES, (float(min(s, _OPEN)) for s in sd), strict=True)),
        at_bound=(),
        weak=weak,
        needed_runs=runs,
        lack_of_fit=structure,
        influence=influence,
        rows=len(observed.log_loss),
        clusters=int(observed.size_of_cell()[-1]) + 1,
    )


def certificate_document(found: Certificate, scales: int) -> dict[str, Any]:
    """The certificate as a stored fit keeps it: what is infinite is null, since JSON has no infinity."""
    document = found.to_json()
    number = document["condition_number"]
    errors = {name: sd if sd < _OPEN else None for name, sd in document["standard_errors"].items()}
    document |= {
        "scales": scales,
        "condition_number": number if np.isfinite(number) else None,
        "standard_errors": errors,
    }
    return {**document, "words": _line(document)}


def _line(document: Mapping[str, Any]) -> Finding:
    """All of it in one line."""
    search = {name: document["search"][name] for name in ("agreeing", "starts", "gradient_norm")}
    number, sizes, scales = (document[name] for name in ("condition_number", "clusters", "scales"))
    return finding("lr_batch.certificate", **search, condition_number=number, sizes=sizes, scales=scales)


def _search(
    observed: Observations, ensemble: Ensemble, top: Member, without_laws: Sequence[str]
) -> tuple[Search, float]:
    """Search again from elsewhere for the leading member, and by how much its objective lies above the lowest found."""
    shape, prior = (
        SHAPES[top.choice.shape],
        law_prior(top.choice.prior, ensemble.centre, without_laws, ensemble.conflict),
    )
    ends = search_again(observed, shape, top.choice.window, prior, top.fit, starts_apart(top.fit, shape))
    own = ends[0]
    # a cubic may fall off its saddle: that is no minimum, and no evidence of another one
    ends = [end for end in ends if end.converged and np.isfinite(end.law).all() and shape.curves_up(end.shape)]
    stands = any(end is own for end in ends)
    lowest = min((end.objective for end in ends), default=np.inf)
    sd = np.sqrt(np.diag(top.fit.cov))[:N_LAW]
    same = [end for end in ends if end.objective <= lowest + SAME]
    gradient = max(m.fit.gradient_norm for m in ensemble.members if m.weight > 1e-3)
    search = Search(
        starts=1 + len(STARTS),
        agreeing=len(same),
        spread=max((float(np.max(np.abs(end.law - same[0].law) / sd)) for end in same), default=0.0),
        gradient_norm=gradient,
        converged=stands and gradient <= NEAR and all(m.fit.converged for m in ensemble.members),
    )
    return search, float(own.objective - lowest) if stands else 0.0


def _of_the_runs(top: Member, ensemble: Ensemble, without_laws: Sequence[str]) -> Floats:
    """(6, 6) information of the runs on levels and exponents, the rest of the coefficients averaged over."""
    whole = np.linalg.inv(top.fit.cov)
    lent = law_prior(top.choice.prior, ensemble.centre, without_laws, ensemble.conflict).doubt
    data = whole.copy()
    keep = list(_PLACES)
    data[np.ix_(keep, keep)] -= lent[np.ix_(keep, keep)]  # curvature and shape keep what is lent to them
    rest = [k for k in range(len(whole)) if k not in _PLACES]
    left = data[np.ix_(keep, keep)] - data[np.ix_(keep, rest)] @ np.linalg.solve(
        data[np.ix_(rest, rest)], data[np.ix_(rest, keep)]
    )
    values, vectors = np.linalg.eigh((left + left.T) / 2)
    floor = 1e-9 * max(float(values[-1]), 0.0)  # what rounding leaves of a direction that nobody measured
    return np.asarray((vectors * np.where(values > floor, values, 0.0)) @ vectors.T, dtype=float)


def _standard_errors(information: Floats) -> Floats:
    """By the runs alone; infinite along directions without information."""
    values, vectors = np.linalg.eigh(information)
    known = values > 1e-9 * max(float(values[-1]), 1e-300)
    variance = (vectors[:, known] ** 2) @ (1 / values[known])
    open_ = (vectors[:, ~known] ** 2).sum(axis=1) > 1e-6
    return np.where(open_, np.inf, np.sqrt(variance))


def _needed(observed: Observations, top: Member, information: Floats, weak: Sequence[str]) -> tuple[NeededRun, ...]:
    """The scale whose sweep determines the open exponents best; a second and third where one is not enough."""
    if not weak:
        return ()
    of_lr = any("lr" in name for name in weak)
    mine = [name for name in weak if ("lr" in name) == of_lr]
    sizes = np.unique([*observed.params, observed.params.max() * 2])
    ends = float(observed.tokens.min()), float(observed.tokens.max())
    horizons = np.unique([*observed.tokens, ends[0] / 4, ends[0] / 2, ends[1] * 2, ends[1] * 4])
    most = _AFFORDABLE * float((observed.params * observed.tokens).max())
    scales = [(n, d) for n in sizes for d in horizons if n * d <= most]
    x = law_design(np.array([n for n, _ in scales]), np.array([d for _, d in scales]), top.fit.centre)
    axis = 0 if of_lr else 1
    # what a scale says of a straight law: its own deviation is in the way, and bends that nobody has measured
    own = float((top.fit.scatter_var + top.fit.size_var)[axis])
    bends = (CURVATURE_SD * x[:, 3]) ** 2 + (FEW_SD[axis] * x[:, 4]) ** 2
    jacobian = np.zeros((len(scales), len(NAMES)))
    jacobian[:, slice(0, 3) if of_lr else slice(3, 6)] = x[:, :3] / np.sqrt(np.maximum(own, 0.02**2) + bends)[:, None]
    candidates = [{"params": float(n), "tokens": float(d)} for n, d in scales]
    return needed_runs(NAMES, mine, information, np.ones(len(NAMES)), candidates, jacobian, enough=LOOSE)


def _influence(observed: Observations, ensemble: Ensemble) -> tuple[Any, ...]:
    """Each size, and each scale, left out of the whole ensemble, the weights kept.

    Of two scales the rest would say nothing.
    """
    if observed.n_cells < _FEWEST_SCALES:
        return ()
    keep = list(_PLACES)
    weights = ensemble.weights
    mean = weights @ np.array([m.fit.law[keep] for m in ensemble.members])
    sd = np.sqrt(weights @ np.array([np.diag(m.fit.cov)[keep] for m in ensemble.members]))
    left = np.tensordot(weights, np.array([m.fit.without_group[:, keep] for m in ensemble.members]), axes=1)
    names = _told_apart(observed.params, observed.tokens)
    without = {name: (int(observed.runs_of_cell[c]), left[c]) for c, name in enumerate(names) if c < len(left)}
    size = observed.size_of_cell()
    for k, params in enumerate(_told_apart(np.unique(observed.params))):
        at = observed.n_cells + k  # of `left_out_groups`
        if at < len(left) and (size == k).sum() > 1:
            name = f"{params} at all horizons"
            without[name] = (int(observed.runs_of_cell[size == k].sum()), left[at])
    return influences(NAMES, mean, sd, without, np.array([True, False, False, True, False, False]))


def _told_apart(*columns: Floats) -> list[str]:
    """``10M on 200M``; with all digits where two would read alike, as two shapes of one count do."""
    short = [" on ".join(map(format_quantity, row)) for row in zip(*columns, strict=True)]
    exact = [" on ".join(f"{value:.12g}" for value in row) for row in zip(*columns, strict=True)]
    return [name if short.count(name) == 1 else precise for name, precise in zip(short, exact, strict=True)]


def _steepness(observed: Observations, top: Member) -> LackOfFit | None:
    """F test over scales: does the valley get steeper or flatter along parameters or tokens?"""
    if observed.n_cells < _SMALLEST_TEST:
        return None
    from scipy.special import fdtrc

    factor, weight, size = _factors(observed, top.fit, top.choice.shape, top.choice.window)
    known = weight > 0
    if int(known.sum()) < _SMALLEST_TEST:
        return None
    x = law_design(observed.params, observed.tokens, top.fit.centre)[known, :3]
    used = [k for k in (1, 2) if np.ptp(x[:, k]) > 0.1]
    if not used:
        return None
    root = np.sqrt(weight[known])
    y = factor[known] * root
    flat, sloped = root[:, None], np.column_stack([root, *(x[:, k] * root for k in used)])
    if np.linalg.matrix_rank(sloped) < sloped.shape[1]:
        sloped, used = sloped[:, :2], used[:1]
    errors = [float(((y - m @ np.linalg.lstsq(m, y, rcond=None)[0]) ** 2).sum()) for m in (flat, sloped)]
    dof = len(y) - sloped.shape[1]
    if dof < 2 or errors[1] <= 0:
        return None
    statistic = (errors[0] - errors[1]) / len(used) / (errors[1] / dof)
    slopes = np.linalg.lstsq(sloped, y, rcond=None)[0][1:]
    strongest = int(np.argmax(np.abs(slopes * [float(np.std(x[:, k])) for k in used])))
    trend = sum(s * x[:, k] for s, k in zip(slopes, used, strict=True))
    return LackOfFit(
        p_value=float(fdtrc(len(used), dof, statistic)),
        column=f"steepness of the valley along {('parameters', 'tokens')[used[strongest] - 1]}",
        size=float(np.std(trend) * size),
    )


def _factors(observed: Observations, fit: SurfaceFit, shape: str, window: float) -> tuple[Floats, Floats, float]:
    """Per scale, by how much of itself the valley is too flat, its weight; and the sd of the valley over the runs."""
    a, b = fit.optima(observed).T
    u, v = observed.log_lr - a[observed.cell], observed.log_batch - b[observed.cell]
    h = fit.steep(observed)[observed.cell] * SHAPES[shape](u, v, fit.shape)[0]
    inside = inside_window(observed, window)
    cell, h = observed.cell[inside], h[inside]
    e = observed.log_loss[inside] - h - fit.floor[cell]
    weight = observed.seeds[inside] / fit.noise_of_cells[cell] ** 2 / np.sqrt(1 + (e / fit.noise_of_cells[cell]) ** 2)

    def total(values: Floats) -> Floats:
        return np.bincount(cell, weights=values, minlength=observed.n_cells).astype(float)

    mean = total(weight * h) / np.maximum(total(weight), 1e-300)
    centred = h - mean[cell]
    squares = total(weight * centred**2)
    counts = np.bincount(cell, minlength=observed.n_cells)
    usable = (counts >= 4) & (squares > 0)
    factor = np.where(usable, total(weight * centred * e) / np.where(squares > 0, squares, 1.0), 0.0)
    return factor, np.where(usable, squares, 0.0), float(np.std(centred))


def _reasons(search: Search, above: float, valley: SurfaceFit) -> list[Found]:
    """What forbids using the fit."""
    found: list[Found] = []
    if not search.converged:
        found.append(finding("numerics.not_converged", gradient_norm=search.gradient_norm))
    elif not valley.converged:
        found.append(finding("numerics.not_converged", gradient_norm=valley.gradient_norm))
    if search.agreeing < 2:
        found.append(finding("lr_batch.few_starts_agree", agreeing=search.agreeing, starts=search.starts))
    if above > BETTER:
        found.append(finding("lr_batch.better_minimum", above=above))
    return found


def _warnings(
    search: Search,
    weak: Sequence[str],
    sd: Floats,
    runs: Sequence[NeededRun],
    structure: LackOfFit | None,
    sizes: int,
    scales: int,
    *,
    beside: Finding,
) -> list[Found]:
    """What a reader should know."""
    found: list[Found] = []
    if search.agreeing < search.starts:
        others = search.starts - search.agreeing
        found.append(finding("lr_batch.worse_minima", others=others, starts=search.starts))
    if weak:
        helped: dict[str, Any] = {}
        if runs:
            last, now = runs[-1], float(sd[NAMES.index(runs[-1].parameter)])
            helped = {"parameter": last.parameter, "sd_now": now if now < VAGUE else None}
            helped["sd_with_runs"] = last.sd_with_run
        at = [finding("lr_batch.scale", **run.inputs) for run in runs]
        found.append(finding("lr_batch.open_exponents", parameters=weak, beside=beside, runs=at, **helped))
    if structure is not None and structure.p_value < DOUBTFUL and structure.size > FLAT_BAND:
        named = {"column": structure.column, "loss_fraction": structure.size, "p_value": structure.p_value}
        found.append(finding("lr_batch.steepness_changes", **named))
    if sizes < FEW_SIZES:
        found.append(finding("lr_batch.few_sizes", sizes=sizes, scales=scales))
    return found
