"""The critical batch of one recipe by every route that its data support, and for each other one what is missing.

Routes are kept apart: they measure under different schedules, so their numbers stand beside each other and are never
pooled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

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
from lawfit.estimate.critical.three_term import BatchRuns
from lawfit.estimate.numerics.certificate import Certificate
from lawfit.estimate.numerics.optima import Floats
from lawfit.estimate.observe.steady_rate import Curves, SteadyParts, falls_throughout, steady_parts
from lawfit.findings import Found, finding, joined
from lawfit.laws.critical_batch import DOUBLING, ZHANG, Definition
from lawfit.laws.rate_falls import Falls, falls
from lawfit.records import FitStatus, Run, StepsToTarget

STEPS_TABLE: Final = "steps_to_target"
CURVES: Final = "loss_curves"
DATA_LAWS: Final = "data_laws"
TARGETS_PER_SIZE: Final = 4  # losses at which curves are read off


@dataclass(frozen=True, kw_only=True)
class CriticalData:
    """What the routes to a critical batch read: of one recipe, its weight decay coupled to the learning rate."""

    runs: Sequence[Run]  # all of them
    at_any_decay: Sequence[Run]  # those whose curves are read: at one level of all settings but weight decay
    level: Sequence[Run]  # at one level of all settings
    targets: Sequence[StepsToTarget] = ()  # steps to a loss, where a table gave them
    curves: Curves = field(default_factory=dict)  # run_key -> (steps, losses) of one metric
    squares: Mapping[str, tuple[Floats, Floats, Floats]] = field(default_factory=dict)  # for the noise scale:
    # run_key -> (steps, squared gradient norms at one batch, at two)
    rates: Curves = field(default_factory=dict)  # run_key -> (steps, learning rates), where the log has them
    # Of the recipe. Curves are read as far as the learning rate is known to hold (constant, WSD up to its cooldown):
    # where it falls, the loss half-way is not what a run of half the length would have.
    schedule: str = ""
    stated: Mapping[str, str] = field(default_factory=dict)  # further columns that the recipe holds fixed
    notes: Sequence[Found] = ()  # on the runs at any weight decay

    @cached_property
    def steady(self) -> SteadyParts:
        return steady_parts(self.runs, self.schedule, self.rates, self.stated)


@dataclass(frozen=True, kw_only=True)
class CriticalLaws:
    """What one recipe says about the critical batch, route by route."""

    routes: Mapping[str, CriticalAnalysis]  # STEPS_TABLE, CURVES, DATA_LAWS
    least_tokens: LeastTokensFit | None  # of the table or curves that steps to a loss are read from
    noise: tuple[NoiseOfSize, ...]  # gradient noise scale by size, of the runs that logged it
    missing: Mapping[str, Found]  # route -> what it would take
    restated: Mapping[str, CriticalAnalysis]  # by route, in a further definition
    unstated: Mapping[str, Found]  # route -> why it is not stated in that definition
    also: Definition  # that definition
    unread: tuple[Found, ...]  # loss curves that are stored and not read, and what would have them read
    without_laws: tuple[str, ...]  # published laws that lent nothing

    @property
    def answering(self) -> str | None:
        """The route whose critical batch answers: one that is certified, with most model sizes, direct ones first."""

        def rank(route: str) -> tuple[bool, int]:
            found = self.routes[route]
            return found.status is not FitStatus.UNCERTIFIED, found.laws["tokens"].groups

        return max(filter(self.routes.__contains__, ROUTES), key=rank, default=None)

    @property
    def noise_factor(self) -> NoiseFactor | None:
        """The answering critical batch over the gradient noise scale."""
        if self.answering is None or self.routes[self.answering].definition != DOUBLING:
            return None
        return noise_factor(self.noise, self.routes[self.answering].measured, self.without_laws)


def fit_critical(
    data: CriticalData, *, definition: Definition = DOUBLING, also: Definition = ZHANG, without_laws: Sequence[str] = ()
) -> CriticalLaws:
    """The critical batch by each route that the data support, fitted by `definition` and stated by `also` beside it.

    `without_laws` are published laws that must lend nothing (`laws.lenders`).
    """
    beside = [*data.notes, *unsteady_noise(data.level, data.steady.until, data.squares)]
    missing: dict[str, Found] = {}
    found: dict[str, CriticalAnalysis] = {}
    restated: dict[str, CriticalAnalysis] = {}
    unstated: dict[str, Found] = {}
    least: LeastTokensFit | None = None
    for route, measure in ROUTES.items():
        try:
            fits, notes, table = measure(data)
            least = fit_least_tokens(table, without_laws) if least is None and table is not None else least
            estimator = "E5" if route == DATA_LAWS else "E4"
            certificates = [certify_hyperbola(fit) for fit in fits]
            found[route] = analyse_critical(
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
    return CriticalLaws(
        routes=found,
        least_tokens=least,
        noise=noise_by_size(data.level, data.squares, data.steady.until),
        missing=missing,
        restated=restated,
        unstated=unstated,
        also=also,
        unread=tuple(data.steady.refusals(data.curves)),
        without_laws=tuple(without_laws),
    )


def _critical(
    fits: Sequence[HyperbolaFit], certificates: Sequence[Certificate], definition: Definition, estimator: str
) -> list[CriticalBatch]:
    return [
        replace(fit.critical(definition, estimator=estimator), certificate=report)
        for fit, report in zip(fits, certificates, strict=True)
    ]


def _from_table(data: CriticalData) -> tuple[Sequence[HyperbolaFit], Sequence[Found], StepsTable]:
    targets, schedule = data.targets, data.schedule
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


def _from_curves(data: CriticalData) -> tuple[Sequence[HyperbolaFit], Sequence[Found], StepsTable]:
    runs, curves, steady, schedule = data.at_any_decay, data.curves, data.steady, data.schedule
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


def _from_runs(data: CriticalData) -> tuple[Sequence[HyperbolaFit], Sequence[Found], None]:
    best = BatchRuns.of_runs(data.level)
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


# By rank: direct ones first.
ROUTES: Final[
    Mapping[str, Callable[[CriticalData], tuple[Sequence[HyperbolaFit], Sequence[Found], StepsTable | None]]]
] = {STEPS_TABLE: _from_table, CURVES: _from_curves, DATA_LAWS: _from_runs}
