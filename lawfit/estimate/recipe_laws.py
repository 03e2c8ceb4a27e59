"""Critical batch and weight decay of one recipe, from whatever its store holds: each law that the data support, and for
each other one what is missing.

Routes to the critical batch are kept apart: they measure under different schedules, so their numbers stand beside each
other and are never pooled.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from lawfit.errors import FitError
from lawfit.estimate.critical.analysis import CriticalAnalysis, analyse_critical
from lawfit.estimate.critical.batch import CriticalBatch
from lawfit.estimate.critical.certificate import certify_hyperbola
from lawfit.estimate.critical.data_laws import fit_data_laws
from lawfit.estimate.critical.hyperbola import HyperbolaFit
from lawfit.estimate.critical.least_tokens import LeastTokensFit, fit_least_tokens
from lawfit.estimate.critical.noise_by_size import NoiseFactor, NoiseOfSize, noise_by_size, noise_factor, unsteady_noise
from lawfit.estimate.critical.steps_to_target import (
    LossCurve,
    StepsTable,
    common_targets,
    fit_steps_table,
    steps_table_from_curves,
)
from lawfit.estimate.critical.three_term import RESAMPLES, BatchRuns, best_over_lr, fit_three_term_or_lend
from lawfit.estimate.critical.three_term_result import ThreeTermFit
from lawfit.estimate.loss.law import lent_asymptote
from lawfit.estimate.numerics.certificate import Certificate
from lawfit.estimate.numerics.optima import Floats
from lawfit.estimate.observe.held import Held, hold_settings
from lawfit.estimate.observe.observations import usable
from lawfit.estimate.observe.steady_rate import Curves, SteadyParts, falls_throughout, steady_parts
from lawfit.estimate.weight_decay.sweep import DecayRuns
from lawfit.estimate.weight_decay.timescale import TimescaleFit, fit_timescale
from lawfit.factors import WEIGHT_DECAY, asked_levels
from lawfit.findings import Found, finding, joined
from lawfit.laws.critical_batch import DOUBLING, ZHANG, Definition
from lawfit.laws.rate_falls import Falls, falls
from lawfit.records import FitStatus, Run, StepsToTarget

STEPS_TABLE: Final = "steps_to_target"
CURVES: Final = "loss_curves"
DATA_LAWS: Final = "data_laws"
THREE_TERM: Final = "three_term"
TIMESCALE: Final = "timescale"
TARGETS_PER_SIZE: Final = 4  # losses at which curves are read off


@dataclass(frozen=True, kw_only=True)
class RecipeLaws:
    """What one recipe says about critical batch and weight decay."""

    critical: Mapping[str, CriticalAnalysis]  # by route: STEPS_TABLE, CURVES, DATA_LAWS
    three_term: ThreeTermFit | None
    timescale: TimescaleFit | None
    least_tokens: LeastTokensFit | None  # of the table or curves that steps to a loss are read from
    noise: tuple[NoiseOfSize, ...]  # gradient noise scale by size, of the runs that logged it
    missing: Mapping[str, Found]  # route -> what it would take
    restated: Mapping[str, CriticalAnalysis] = field(default_factory=dict)  # by route, in a further definition
    unstated: Mapping[str, Found] = field(default_factory=dict)  # route -> why it is not stated in that definition
    also: Definition = ZHANG  # that definition
    unread: tuple[Found, ...] = ()  # loss curves that are stored and not read, and what would have them read
    without_laws: tuple[str, ...] = ()  # published laws that lent nothing

    @property
    def answering(self) -> str | None:
        """The route whose critical batch answers: one that is certified, with most model sizes, direct ones first."""
        order = [route for route in (STEPS_TABLE, CURVES, DATA_LAWS) if route in self.critical]

        def rank(route: str) -> tuple[bool, int]:
            found = self.critical[route]
            return found.status is not FitStatus.UNCERTIFIED, found.laws["tokens"].groups

        return max(order, key=rank, default=None)

    @property
    def noise_factor(self) -> NoiseFactor | None:
        """The answering critical batch over the gradient noise scale."""
        if self.answering is None or self.critical[self.answering].definition != DOUBLING:
            return None
        return noise_factor(self.noise, self.critical[self.answering].measured, self.without_laws)

    def to_json(self) -> dict[str, Any]:
        return {
            "critical_batch": {route: found.to_json() for route, found in self.critical.items()},
            "answering": self.answering,
            "three_term": None if self.three_term is None else self.three_term.to_json(),
            "timescale": None if self.timescale is None else self.timescale.to_json(),
            "noise_scale": [vars(size).copy() for size in self.noise],
            "missing": dict(self.missing),
        }


def fit_recipe_laws(
    runs: Sequence[Run],
    targets: Sequence[StepsToTarget] = (),
    curves: Curves | None = None,
    squares: Mapping[str, tuple[Floats, Floats, Floats]] | None = None,
    *,
    rates: Curves | None = None,
    schedule: str = "",
    stated: Mapping[str, str] | None = None,
    decay: DecayFit | None = None,
    level: Collection[str] | None = None,
    definition: Definition = DOUBLING,
    also: Definition = ZHANG,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    surface: bool = True,
    without_laws: Sequence[str] = (),
) -> RecipeLaws:
    """Fit every law of critical batch and weight decay that the data of one recipe support.

    Parameters
    ----------
    runs : runs of one recipe, with their curves
    targets : its steps to a target, where a table gave them
    curves : run_key -> (steps, losses) of one metric
    squares : run_key -> (steps, squared gradient norms at one batch, at two), for the noise scale
    rates : run_key -> (steps, learning rates), where the log has them
    schedule : the recipe's. Curves are read as far as the learning rate is known to hold (constant, WSD up to its
        cooldown): where it falls, the loss half-way is not what a run of half the length would have.
    stated : further columns that the recipe holds fixed, such as ``cooldown_fraction``
    decay : the law of weight decay of the same runs, where it was fitted already
    level : keys of the runs at the level that all laws but that of weight decay hold at; None: chosen here
    definition, also : of the critical batch; the law is fitted by the first, and stated by the second beside it
    resamples : of the three-term surface; the other laws need none
    surface : False leaves the three-term surface out, which takes longer than all other laws together
    without_laws : published laws that must lend nothing (`laws.lenders`)
    """
    ready, _ = usable(runs)
    decay = decay or fit_decay(runs, (), without_laws)
    kept = decay.held.runs
    if level is None:
        level = {run.run_key for run in hold_settings(ready, decay_law=decay.fit).runs}
    usual = [run for run in ready if run.run_key in level]
    steady = steady_parts(runs, schedule, rates, stated)
    beside = [*decay.held.notes, *unsteady_noise(usual, steady.until, squares)]
    missing: dict[str, Found] = {}
    critical: dict[str, CriticalAnalysis] = {}
    restated: dict[str, CriticalAnalysis] = {}
    unstated: dict[str, Found] = {}
    least: LeastTokensFit | None = None
    routes: dict[str, Callable[[], tuple[Sequence[HyperbolaFit], Sequence[Found], StepsTable | None]]] = {
        STEPS_TABLE: lambda: _from_table(targets, schedule),
        CURVES: lambda: _from_curves(kept, curves or {}, steady, schedule),
        DATA_LAWS: lambda: _from_runs(usual),
    }
    for route, measure in routes.items():
        try:
            fits, notes, table = measure()
            least = fit_least_tokens(table, without_laws) if least is None and table is not None else least
            estimator = "E5" if route == DATA_LAWS else "E4"
            certificates = [certify_hyperbola(fit) for fit in fits]
            critical[route] = analyse_critical(
                _critical(fits, certificates, definition, estimator), [*notes, *beside], without_laws
            )
        except FitError as error:
            missing[route] = error.finding
            continue
        tried = max(float(fit.batches.max()) for fit in fits)
        if also.reference_batch_tokens > tried:
            far = {"reference_batch_tokens": also.reference_batch_tokens, "tried_batch_tokens": tried}
            unstated[route] = finding("laws.beyond_tried", **far)
        else:
            restated[route] = analyse_critical(_critical(fits, certificates, also, estimator), (), without_laws)
    three_term = None
    try:
        if surface:
            lent = lent_asymptote(without_laws)
            three_term = fit_three_term_or_lend(_batches(usual), lent, rng=rng, resamples=resamples)
    except FitError as error:
        missing[THREE_TERM] = error.finding
    missing |= {TIMESCALE: decay.missing} if decay.missing else {}
    return RecipeLaws(
        critical=critical,
        three_term=three_term,
        timescale=decay.fit,
        least_tokens=least,
        noise=noise_by_size(usual, squares, steady.until),
        missing=missing,
        restated=restated,
        unstated=unstated,
        also=also,
        unread=tuple(steady.refusals(curves or {})),
        without_laws=tuple(without_laws),
    )


def _critical(
    fits: Sequence[HyperbolaFit], certificates: Sequence[Certificate], definition: Definition, estimator: str
) -> list[CriticalBatch]:
    return [
        replace(fit.critical(definition, estimator=estimator), certificate=report)
        for fit, report in zip(fits, certificates, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class DecayFit:
    """The law of weight decay of one recipe, or what is missing for it."""

    held: Held  # at one level of all other settings
    fit: TimescaleFit | None
    missing: Found


def fit_decay(runs: Sequence[Run], at: Sequence[str] = (), without_laws: Sequence[str] = ()) -> DecayFit:
    """The law of weight decay, along which nothing else may vary but size, learning rate and batch.

    Parameters
    ----------
    runs : of one recipe, their weight decay coupled to the learning rate
    at : levels asked for of settings that vary, ``NAME=VALUE``
    """
    others = [f"{name}={level}" for name, level in asked_levels(at) if name != WEIGHT_DECAY]
    held = hold_settings(usable(runs)[0], others, free=(WEIGHT_DECAY,))
    try:
        fit = fit_timescale(DecayRuns.of_runs(held.runs, held.notes), without_laws)
    except FitError as error:
        return DecayFit(held=held, fit=None, missing=error.finding)
    return DecayFit(held=held, fit=fit, missing=joined(fit.sentences) if fit.law is None else "")


def _from_table(
    targets: Sequence[StepsToTarget], schedule: str
) -> tuple[Sequence[HyperbolaFit], Sequence[Found], StepsTable]:
    if not targets:
        raise FitError(finding("laws.no_table"))
    table = StepsTable.of(
        [row.params for row in targets],
        [row.batch_tokens for row in targets],
        [row.steps for row in targets],
        [row.target_loss for row in targets],
    )
    found = fit_steps_table(table)
    notes = list(found.refused)
    if falls(schedule) in (Falls.THROUGHOUT, Falls.AT_END):
        notes.insert(0, finding("laws.steps_while_falling", schedule=schedule))
    return found.fits, notes, table


def _from_curves(
    runs: Sequence[Run], curves: Curves, steady: SteadyParts, schedule: str
) -> tuple[Sequence[HyperbolaFit], Sequence[Found], StepsTable]:
    if falls(schedule) is Falls.THROUGHOUT:
        raise FitError(falls_throughout(schedule))
    mine = {run.run_key: curves[run.run_key] for run in runs if run.run_key in curves}
    if not mine:
        raise FitError(finding("laws.no_curves"))
    readable = {key: curve for key, curve in steady.cut(mine).items() if len(curve[0]) > 1}
    cut = steady.notes(mine)
    if not readable:
        raise FitError(joined(cut) if cut else finding("laws.no_steady_points"))
    shown = [
        LossCurve(params=run.params, batch_tokens=run.batch_tokens, lr=run.lr, steps=steps, loss=loss)
        for run in runs
        if run.run_key in readable
        for steps, loss in [readable[run.run_key]]
    ]
    fits: list[HyperbolaFit] = []
    notes: list[Found] = list(cut)
    tables: list[StepsTable] = []
    for params, goals in common_targets(shown, TARGETS_PER_SIZE).items():
        table = steps_table_from_curves([curve for curve in shown if curve.params == params], goals)
        found = fit_steps_table(table, from_best=True)
        fits += found.fits
        tables.append(table)
        notes += [*table.notes, *found.refused]
    if not fits:
        raise FitError(joined(notes) if notes else finding("laws.no_common_loss"))
    return fits, notes, StepsTable.joined(tables)


def _from_runs(runs: Sequence[Run]) -> tuple[Sequence[HyperbolaFit], Sequence[Found], None]:
    best = _batches(runs)
    fits: list[HyperbolaFit] = []
    notes: list[Found] = []
    for params in np.unique(best.params):
        mine = best.params == params
        try:
            fits += fit_data_laws(float(params), best.tokens[mine], best.batch_tokens[mine], best.loss[mine])
        except FitError as error:
            notes.append(finding("laws.size_refused", params=params, why=error))
    if not fits:
        raise FitError(joined(notes))
    edges = int(best.edge.sum())
    if edges:
        notes.append(finding("laws.lr_at_edge", edges=edges, batches=len(best)))
    return fits, notes, None


def _batches(runs: Sequence[Run]) -> BatchRuns:
    if not runs:
        raise FitError(finding("laws.no_run"))
    columns = np.array(
        [(r.params, r.tokens, r.batch_tokens, r.lr, np.nan if r.loss is None else r.loss) for r in runs], dtype=float
    )
    return best_over_lr(*columns.T)
