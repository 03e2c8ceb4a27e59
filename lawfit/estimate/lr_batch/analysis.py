"""One analysis of a recipe: observations in, everything a stored fit holds out (plain JSON values).

This is the order in which a person would do it: look at the cells, fit the ensemble, fit the wide valley that prices a
mistake, backtest by scale, and say what is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.lr_batch.at_batch import LrAtBatch, choose_lr_at_batch, floor_of
from lawfit.estimate.lr_batch.backtest import (
    Row,
    Split,
    columns_of,
    observed_surfaces_of,
    published_predictions,
    run_backtest,
)
from lawfit.estimate.lr_batch.borrowed import BENT_SD, PRIOR_FORMS, beside_the_runs, borrowed, law_prior
from lawfit.estimate.lr_batch.cells import CellReport, locate_cells, next_grids
from lawfit.estimate.lr_batch.certificate import certificate_document, certify_surface
from lawfit.estimate.lr_batch.ensemble import INFLATION, MIN_CELLS_TO_CHOOSE, Ensemble, fit_ensemble, left_out_groups
from lawfit.estimate.lr_batch.misfit import valley_misfit
from lawfit.estimate.lr_batch.promises import Kept
from lawfit.estimate.lr_batch.surface import SurfaceFit, fit_surface, under_other_priors
from lawfit.estimate.lr_batch.tried import tried
from lawfit.estimate.lr_batch.undetermined import undetermined
from lawfit.estimate.numerics.law_terms import N_LAW, TERMS, law_design
from lawfit.estimate.numerics.optima import ESTIMATORS, CellOptimum, SweepOptima, locate_lr_per_batch
from lawfit.estimate.numerics.regression import fit_power_law, fit_power_law_clustered
from lawfit.estimate.numerics.resample import size_clusters
from lawfit.estimate.numerics.scoring import ObservedSurface
from lawfit.estimate.numerics.shapes import SHAPES
from lawfit.estimate.observe.observations import Observations, summarise_rejections
from lawfit.findings import Found, finding
from lawfit.records import MODEL_VERSION, FitStatus, Optimum, OptimumStatus

Floats = NDArray[np.float64]
Progress = Callable[[str, float], None]

SMALLEST_WEIGHT: Final = 2e-3  # members that count less do not move an answer and are not stored
VALLEY_WINDOW: Final = 0.05  # loss range over which the price of a mistake is wanted
LAW_LEVEL: Final = 0.9
LONELY_AMONG: Final = 8  # runs of a scale, for one far below the rest to be suspicious
CLEARLY_BETTER: Final = 0.9  # another method is worth a warning when it costs less than this share of ours
SMALLEST_SLOPE: Final = 0.002  # ten times the compute would lower the loss by half a percent: no exchange rate
DETECTED: Final = 2.5  # standard errors: two laws are tested, several times in the life of a recipe
PUT_THERE: Final = 2.0  # sd of the prior that a bend lies from nought: only the runs can have put it there
SMALLEST_SHARE: Final = 0.1  # of the prior variance that the runs took away, or they say nothing about curvature


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What a user may set about a fit; part of its identity."""

    without_laws: tuple[str, ...] = ()  # published laws that must lend nothing (they were fitted on these runs)
    backtest: bool = True
    at: tuple[str, ...] = ()  # levels of settings that vary, asked for as NAME=VALUE
    critical_definition: str = (
        "zhang"  # a critical batch is also stated by this: `laws.critical_batch.Definition.parse`
    )


@dataclass(frozen=True, kw_only=True)
class Analysis:
    status: FitStatus
    payload: Mapping[str, Any]
    optima: tuple[Optimum, ...] = field(default_factory=tuple)


def analyse(
    observed: Observations,
    options: FitOptions | None = None,
    *,
    seq_len: int | None = None,
    progress: Progress | None = None,
) -> Analysis:
    """Fit the optimal learning rate and batch size of one recipe.

    `seq_len` is the recipe's, so that the runs to add have batches of whole sequences.

    Raises
    ------
    FitError
        No joint surface converges: with a clear reason, nothing is returned half-done.
    """
    options = options or FitOptions()
    report = progress or (lambda _stage, _share: None)
    report("looking at the cells", 0.0)
    surfaces = observed_surfaces_of(observed)
    report("fitting the joint surface", 0.05)
    ensemble = fit_ensemble(observed, surfaces, without_laws=options.without_laws)
    valley = fit_valley(observed, ensemble, options.without_laws)
    cells = locate_cells(observed, ensemble)
    sweeps = locate_lr_per_batch(columns_of(observed))
    at_batch = choose_lr_at_batch(observed, ensemble, valley, sweeps, level=LAW_LEVEL)
    others = {name: locate(columns_of(observed)) for name, locate in ESTIMATORS.items()}
    certificate = certify_surface(observed, ensemble, valley, without_laws=options.without_laws)
    report("leaving scales out", 0.3)
    backtest, promises = _left_out(observed, surfaces, ensemble, valley, options, report)
    sparse = _is_sparse(observed, ensemble, cells)
    payload: dict[str, Any] = {
        "model": {
            **_model(observed, ensemble, valley, options, at_batch),
            "calibration": list(promises.factors) if promises is not None else [1.0, 1.0],
        },
        "law": _law_table(ensemble) | _lr_given_batch(sweeps),
        "lr_at_batch": at_batch.to_json(),
        "spread": _spreads(observed, ensemble),
        "curvature": _curvature(ensemble),
        "certificate": certificate_document(certificate, observed.n_cells),
        "choices": _choices(ensemble),
        "estimators": {name: _estimator_laws(found) for name, found in others.items()},
        "cells": [cell.to_json() for cell in cells],
        "backtest": _backtest(backtest, promises),
        "published": _published_regrets(observed, surfaces),
        "borrowed": borrowed(options.without_laws),
        "next_grid": next_grids(observed, cells, seq_len),
        **_runs(observed),
    }
    payload["warnings"] = _warnings(observed, ensemble, cells, payload, options.without_laws, sparse=sparse)
    report("done", 1.0)
    status = FitStatus.SPARSE if sparse else FitStatus.OK
    return Analysis(
        status=status if certificate.certified else FitStatus.UNCERTIFIED,
        payload=payload,
        optima=(*(cell.to_optimum() for cell in cells), *_other_optima(others)),
    )


def _choices(ensemble: Ensemble) -> list[dict[str, Any]]:
    """Every member of the average, the weightiest first."""
    return [
        {**asdict(m.choice), "weight": m.weight, "score": m.score}
        for m in sorted(ensemble.members, key=lambda m: -m.weight)
    ]


def _left_out(
    observed: Observations,
    surfaces: Mapping[int, ObservedSurface],
    ensemble: Ensemble,
    valley: SurfaceFit,
    options: FitOptions,
    report: Progress,
) -> tuple[Sequence[tuple[Split, Sequence[Row]]], Kept | None]:
    """Every split with its scores and what was promised of each size, where there are scales to leave out."""
    if not options.backtest or observed.n_cells < 3:
        return [], None
    return run_backtest(
        observed,
        surfaces,
        ensemble,
        valley,
        without_laws=options.without_laws,
        progress=lambda share: report("leaving scales out", 0.3 + 0.65 * share),
    )


def _backtest(splits: Sequence[tuple[Split, Sequence[Row]]], promises: Kept | None) -> dict[str, Any]:
    return {
        "splits": [{"name": split.name, "rows": [asdict(row) for row in rows]} for split, rows in splits],
        "promises": None if promises is None else promises.to_json(),
    }


def _runs(observed: Observations) -> dict[str, Any]:
    """What was looked at, and what was left out."""
    return {
        "runs_used": observed.runs_used,
        "runs_rejected": len(observed.rejected),
        "rejected": summarise_rejections(observed.rejected),
        "diverged": observed.runs_diverged,
        "seed_sd": observed.seed_sd,
        "settings": [setting.to_json() for setting in observed.settings],
        "undetermined": undetermined(observed),
    }


def fit_valley(observed: Observations, ensemble: Ensemble, without_laws: Sequence[str]) -> SurfaceFit:
    """The convex shape over the range of loss in which mistakes are priced; it converges where the members did."""
    groups = left_out_groups(observed)
    exponentials = [m for m in ensemble.members if m.choice.shape == "exponentials"]
    start = max(exponentials, key=lambda m: m.choice.window).fit if exponentials else None
    # narrow evidence: the window widens until a typical cell has runs enough to show both sides
    window = max(VALLEY_WINDOW, *(m.choice.window for m in ensemble.members))
    form = PRIOR_FORMS[1] if observed.n_cells >= MIN_CELLS_TO_CHOOSE else PRIOR_FORMS[0]
    prior = law_prior(form, ensemble.centre, without_laws, ensemble.conflict)
    fit = fit_surface(observed, SHAPES["exponentials"], window, prior, start, groups)
    if not np.isfinite(fit.shape).all():
        raise FitError(finding("lr_batch.no_price"))
    return fit


def _is_sparse(observed: Observations, ensemble: Ensemble, cells: Sequence[CellReport]) -> bool:
    """Whether exponents are in part borrowed: few scales, one batch size per scale, or most scales show no valley."""
    batches = [len(np.unique(observed.log_batch[observed.rows_of(c)])) for c in range(observed.n_cells)]
    scored = any(m.score is not None for m in ensemble.members)
    silent = sum(c.status in (OptimumStatus.FLAT, OptimumStatus.TOO_FEW) for c in cells)
    return not scored or float(np.median(batches)) < 3 or 2 * silent > len(cells)


def _model(
    observed: Observations, ensemble: Ensemble, valley: SurfaceFit, options: FitOptions, at_batch: LrAtBatch
) -> dict[str, Any]:
    members = [m for m in ensemble.members if m.weight >= SMALLEST_WEIGHT]
    total = sum(m.weight for m in members)
    prior = law_prior("published", ensemble.centre, options.without_laws)
    batch = observed.log_batch
    log_tokens = np.log(observed.tokens)
    return {
        "version": MODEL_VERSION,
        "centre": list(ensemble.centre),
        "inflation": INFLATION,
        "sizes": np.unique(observed.params).tolist(),
        "scales": np.column_stack([observed.params, observed.tokens]).tolist(),
        "members": [
            {
                "weight": m.weight / total,
                "choice": asdict(m.choice),
                "law": m.fit.law.tolist(),
                "cov": m.fit.cov[:N_LAW, :N_LAW].tolist(),
                "scatter_var": m.fit.scatter_var.tolist(),
                "size_var": m.fit.size_var.tolist(),
                "freedom": m.fit.freedom,
                "sizes": {
                    "shift": m.fit.size_shift.tolist(),
                    "cross": m.fit.size_cross.tolist(),
                    "cov": m.fit.size_cov.tolist(),
                },
                "scales": {"at": m.fit.optima(observed).tolist(), "cov": m.fit.cell_cov.tolist()},
                "floor": floor_of(m, valley).tolist(),
            }
            for m in members
        ],
        "valley": {
            "q": valley.shape.tolist(),
            "cov": valley_cov(valley).tolist(),
            "noise": valley.noise,
            "steepness": valley.steepness,
            "steepness_sd": float(np.sqrt(valley.cov[-1, -1])),
            "log_tokens": [float(log_tokens.min()), float(log_tokens.max())],
            "centre_log_tokens": ensemble.centre[1],
            "misfit": valley_misfit(observed, valley),
            "tried": tried(observed, valley),
        },
        "spread_priors": _under_other_priors(observed, ensemble, options.without_laws),
        "lr_at_batch": at_batch.model(),
        "published_prior": {"mean": prior.mean.tolist(), "cov": np.linalg.inv(prior.doubt).tolist()},
        "ranges": {
            "params": [float(observed.params.min()), float(observed.params.max())],
            "tokens": [float(observed.tokens.min()), float(observed.tokens.max())],
            "batch_tokens": [float(np.exp(batch.min())), float(np.exp(batch.max()))],
            "lr": [float(np.exp(observed.log_lr.min())), float(np.exp(observed.log_lr.max()))],
        },
        "loss_slope_per_log_compute": _loss_slope(observed, valley),
    }


def valley_cov(valley: SurfaceFit) -> Floats:
    """(10, 10) of shape and steepness of the valley at a scale without runs, its own part of the shape included."""
    cov = valley.cov[N_LAW:, N_LAW:].copy()
    shape = np.arange(len(valley.shape))
    cov[shape, shape] += valley.valley_var * SHAPES["exponentials"].apart_sd ** 2
    return cov


def _under_other_priors(
    observed: Observations, ensemble: Ensemble, without_laws: Sequence[str]
) -> list[dict[str, Any]]:
    """What the leading choice would say under other priors on the spread of sizes."""
    top = max(ensemble.members, key=lambda m: m.weight)
    prior = law_prior(top.choice.prior, ensemble.centre, without_laws, ensemble.conflict)
    found = under_other_priors(observed, SHAPES[top.choice.shape], top.choice.window, prior, top.fit)
    return [
        {
            "prior_scale": each.prior_scale,
            "law": each.law.tolist(),
            "cov": each.cov.tolist(),
            "size_var": each.size_var.tolist(),
            "scatter_var": each.scatter_var.tolist(),
        }
        for each in found
    ]


def _spreads(observed: Observations, ensemble: Ensemble) -> dict[str, Any]:
    """How far sizes and scales lie from the law (sd of ln), averaged over the choices."""

    def sd(variances: Sequence[Floats]) -> dict[str, float]:
        mean = np.sqrt(ensemble.weights @ np.array(variances))
        return {"lr": float(mean[0]), "batch_tokens": float(mean[1])}

    return {
        "sizes": len(np.unique(observed.params)),
        "scales": observed.n_cells,
        "size_sd": sd([m.fit.size_var for m in ensemble.members]),
        "scale_sd": sd([m.fit.scatter_var for m in ensemble.members]),
    }


def _loss_slope(observed: Observations, valley: SurfaceFit) -> float | None:
    """d ln loss / d ln compute at fixed tokens per parameter; None where the scales are too few or show no fall."""
    x = law_design(observed.params, observed.tokens, valley.centre)[:, :3]
    if observed.n_cells < 3:
        return None
    spread = np.ptp(x[:, 1:].sum(axis=1))
    if spread < 0.7:
        return None
    if np.linalg.svd(x[:, 1:] - x[:, 1:].mean(axis=0), compute_uv=False)[-1] < 0.3:
        total = x[:, 1:].sum(axis=1)  # along one path (say 20 tokens per parameter) compute is all there is
        slope = float(np.polyfit(total, valley.floor, 1)[0])
    else:
        coefficients = np.linalg.lstsq(x, valley.floor, rcond=None)[0]
        slope = float(coefficients[1] + coefficients[2]) / 2
    return slope if slope < -SMALLEST_SLOPE else None


def _law_table(ensemble: Ensemble) -> dict[str, Any]:
    """Exponents averaged over the ensemble, with intervals that include the spread between choices.

    ``const`` is what the law says at the centre, where a bend at few tokens per parameter may have begun.
    """
    from scipy.special import stdtrit

    weights = ensemble.weights
    laws = np.array([m.fit.law for m in ensemble.members])
    variances = np.array([np.diag(m.fit.cov)[:N_LAW] for m in ensemble.members])
    mean = weights @ laws
    sd = INFLATION * np.sqrt(weights @ (variances + (laws - mean) ** 2))
    freedom = float(weights @ np.array([m.fit.freedom for m in ensemble.members]))
    reach = float(stdtrit(freedom, 0.5 + LAW_LEVEL / 2) * np.sqrt((freedom - 2) / freedom))
    table: dict[str, Any] = {"level": LAW_LEVEL, "params_at_centre": float(np.exp(ensemble.centre[0]))}
    table["tokens_at_centre"] = float(np.exp(ensemble.centre[1]))
    at_centre = ensemble.optimum(np.exp(ensemble.centre[:1]), np.exp(ensemble.centre[1:]))
    for at, name, log_const in ((0, "lr", at_centre[0]), (TERMS, "batch_tokens", at_centre[1])):
        row: dict[str, float] = {"const": float(np.exp(log_const[0]))}
        for offset, term in ((1, "params"), (2, "tokens")):
            row[term] = float(mean[at + offset])
            row[f"{term}_low"] = float(mean[at + offset] - reach * sd[at + offset])
            row[f"{term}_high"] = float(mean[at + offset] + reach * sd[at + offset])
        table[name] = row
    return table


def _lr_given_batch(sweeps: SweepOptima) -> dict[str, Any]:
    """The learning rate with the batch as an input: log-log regression of every sweep's own optimum (parabola, E3).

    Cluster-robust by size. Empty where too few sweeps show their minimum or the inputs cannot be told apart.
    """
    inside = sweeps.inside
    inputs = {
        "params": sweeps.params[inside],
        "tokens": sweeps.tokens[inside],
        "batch_tokens": sweeps.batch_tokens[inside],
    }
    varying = {name: values for name, values in inputs.items() if len(np.unique(values)) > 1}
    cluster = size_clusters(inputs["params"], inputs["tokens"])
    try:
        fit = fit_power_law_clustered(sweeps.lr[inside], varying, cluster, level=LAW_LEVEL)
    except (FitError, ValueError):
        return {}
    row: dict[str, float] = {"const": float(np.exp(fit.law.log_const)), "sweeps": float(inside.sum())}
    for at, name in enumerate(fit.names):
        if name != "const":
            row[name] = float(fit.coefficients[at])
            row[f"{name}_low"], row[f"{name}_high"] = float(fit.low[at]), float(fit.high[at])
    return {"lr_given_batch": row}


def _estimator_laws(found: Sequence[CellOptimum]) -> dict[str, Any]:
    """What another estimator makes of the same runs: how many scales show their optimum, and straight laws on those."""
    inside = [optimum for optimum in found if optimum.status is OptimumStatus.INSIDE]
    laws: dict[str, Any] = {"cells_inside": len(inside), "cells": len(found)}
    inputs = {"params": [o.params for o in inside], "tokens": [o.tokens for o in inside]}
    for target, values in (("lr", [o.lr for o in inside]), ("batch_tokens", [o.batch_tokens for o in inside])):
        try:
            law = fit_power_law(values, inputs)
        except (FitError, NotEnoughData, ValueError):
            continue  # too few scales, or scales along one path: there is no law to tell
        laws[target] = {"const": law.const, **law.exponents}
    return laws


def _other_optima(others: Mapping[str, Sequence[CellOptimum]]) -> list[Optimum]:
    """The same optima as rows of the store."""
    return [
        Optimum(
            params=optimum.params,
            tokens=optimum.tokens,
            estimator=name,
            status=optimum.status,
            lr=optimum.lr if np.isfinite(optimum.lr) else None,
            batch_tokens=optimum.batch_tokens if np.isfinite(optimum.batch_tokens) else None,
            loss=optimum.loss if np.isfinite(optimum.loss) else None,
        )
        for name, found in others.items()
        for optimum in found
    ]


def _curvature(ensemble: Ensemble) -> dict[str, Any]:
    """Whether the laws bend in log-log, by the best-scored member that lets them.

    Its prior pulls a bend towards zero; the test asks what the runs alone say: with a share f of the prior's variance
    taken away by the runs, that is value / f with a standard error of sd / sqrt(f). With a small f they say nothing,
    and "not detected" does not mean straight (`told` is false).
    """
    bent = [m for m in ensemble.members if m.choice.prior == "bent"]
    if not bent:
        return {}
    fit = max(bent, key=lambda m: m.weight).fit
    found = {}
    for at, name in ((3, "lr"), (TERMS + 3, "batch_tokens")):
        value, sd = float(fit.law[at]), float(np.sqrt(fit.cov[at, at]))
        share = max(1 - (sd / BENT_SD) ** 2, 0.0)
        put_there = abs(value) > PUT_THERE * BENT_SD
        told = share >= SMALLEST_SHARE
        z = abs(value) / (sd * share**0.5) if told else 0.0
        detected = put_there or z > DETECTED * INFLATION
        found[name] = {"value": value, "sd": sd, "told": told or put_there, "detected": detected}
    return found


def _published_regrets(observed: Observations, surfaces: Mapping[int, ObservedSurface]) -> dict[str, Any]:
    """What each published law would have cost on these runs, by label."""
    found = {}
    for label, predict in published_predictions().items():
        lr, batch = predict(observed.params, observed.tokens)
        scores = [surface.regret(lr[c], batch[c]) for c, surface in surfaces.items()]
        regret = np.array([float(s.regret) for s in scores])
        if len(regret) and np.isfinite(regret).all():
            found[label] = {
                "mean_regret": float(regret.mean()),
                "worst_regret": float(regret.max()),
                "cells_scored": len(regret),
                "cells_outside": sum(bool(s.outside) for s in scores),
            }
    return found


def _warnings(
    observed: Observations,
    ensemble: Ensemble,
    cells: Sequence[CellReport],
    payload: Mapping[str, Any],
    without_laws: Sequence[str],
    *,
    sparse: bool,
) -> list[Found]:
    said: list[Found] = [*observed.notes, *payload["undetermined"].values()]
    count = Counter(cell.status for cell in cells)
    if edge := count[OptimumStatus.AT_EDGE]:
        said.append(finding("lr_batch.scales_at_edge", count=edge, scales=len(cells)))
    if flat := count[OptimumStatus.FLAT]:
        said.append(finding("lr_batch.scales_flat", count=flat, scales=len(cells)))
    if few := count[OptimumStatus.TOO_FEW]:
        said.append(finding("lr_batch.scales_too_few", count=few, scales=len(cells)))
    if edge == len(cells) and cells:
        said.append(finding("lr_batch.none_inside"))
    beside = beside_the_runs(without_laws)
    log_ratio = np.log(observed.tokens / observed.params)
    if observed.n_cells >= 2 and np.ptp(log_ratio) < 0.2 and len(np.unique(observed.params)) > 1:
        sweep = {"params": observed.params[0], "tokens": 4 * observed.tokens[0]}
        said.append(finding("lr_batch.one_ratio", ratio=np.exp(log_ratio.mean()), beside=beside, **sweep))
    if sparse:
        said.append(finding("lr_batch.thin_evidence", scales=observed.n_cells, beside=beside))
    said += _lonely_runs(observed, max(m.choice.window for m in ensemble.members))
    bent = [name for name, found in payload["curvature"].items() if found["detected"]]
    said += [finding("lr_batch.bends", quantity=name) for name in bent]
    said += _beaten(payload["backtest"]["splits"])
    if all(m.score is None for m in ensemble.members) and not sparse:
        said.append(finding("lr_batch.choices_alike"))
    return said


def _beaten(splits: Sequence[Mapping[str, Any]]) -> list[Found]:
    """Each method that did clearly better than this fit on scales left out, with where."""
    where: dict[str, list[Found]] = {}
    for split in splits:
        rows = {row["method"]: row for row in split["rows"]}
        ours = rows.get("lawfit")
        better = [m for m, row in rows.items() if ours and row["mean_regret"] < CLEARLY_BETTER * ours["mean_regret"]]
        if ours and better:
            regrets = {"regret": rows[better[0]]["mean_regret"], "own_regret": ours["mean_regret"]}
            at = finding("lr_batch.beaten_at", split=split["name"], **regrets, scales=ours["cells"])
            where.setdefault(better[0], []).append(at)
    return [finding("lr_batch.beaten", method=method, at=at) for method, at in where.items()]


def _lonely_runs(observed: Observations, window: float) -> list[Found]:
    """Runs so far below all others of their scale that they look like mistakes: the windows hang on them."""
    said: list[Found] = []
    for cell in range(observed.n_cells):
        rows = observed.rows_of(cell)
        loss = np.sort(observed.log_loss[rows])
        if len(loss) >= LONELY_AMONG and loss[1] - loss[0] > window:
            at = rows.start + int(np.argmin(observed.log_loss[rows]))
            scale = {"params": observed.params[cell], "tokens": observed.tokens[cell]}
            setting = {"lr": np.exp(observed.log_lr[at]), "batch_tokens": np.exp(observed.log_batch[at])}
            below = np.expm1(loss[1] - loss[0])
            said.append(finding("lr_batch.run_far_below", **scale, **setting, below=below))
    return said
