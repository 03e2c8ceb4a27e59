"""All that a store holds of one recipe, and what every kind of law of it is fitted to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError
from lawfit.estimate.observe.held import Held, hold_settings
from lawfit.estimate.observe.observations import data_hash, usable
from lawfit.estimate.observe.steady_rate import Curves
from lawfit.estimate.weight_decay.sweep import COUPLED, DecayRuns, in_one_convention
from lawfit.estimate.weight_decay.timescale import TimescaleFit, fit_timescale
from lawfit.factors import WEIGHT_DECAY, asked_levels
from lawfit.findings import Found, joined
from lawfit.laws.critical_batch import ZHANG, Definition
from lawfit.records import Run, SizedLoss, StepsToTarget, content_hash

Floats = NDArray[np.float64]
Squares = Mapping[str, tuple[Floats, Floats, Floats]]  # run_key -> steps, squared gradient norms at one batch, at two

# Curves that steps to a loss are read from, best first: averaged weights stand for a finished decay (arXiv 2405.18392).
CURVE_METRICS: Final = ("average_loss", "validation_loss", "eval_loss", "loss", "train_loss")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that a store holds of one recipe."""

    runs: Sequence[Run]
    targets: Sequence[StepsToTarget] = ()
    losses: Sequence[SizedLoss] = ()  # of runs whose learning rate and batch nobody says
    curves: Curves = field(default_factory=dict)  # run_key -> (steps, losses)
    squares: Squares = field(default_factory=dict)
    rates: Curves = field(default_factory=dict)  # run_key -> (steps, learning rates)
    metric: str = ""  # which of `CURVE_METRICS` the curves are
    schedule: str = ""  # of the learning rate, as the recipe says it
    stated: Mapping[str, str] = field(default_factory=dict)  # further columns that the recipe holds fixed
    weight_decay_kind: str = ""  # of runs that do not say it themselves; empty is coupled


def evidence_hash(evidence: Evidence) -> str:
    """Hash of everything that the laws see, whatever the order of the rows."""
    curves = hashlib.sha256()
    for key in sorted(evidence.curves):
        steps, numbers = evidence.curves[key]
        curves.update(key.encode() + steps.tobytes() + numbers.tobytes())
    for key in sorted(evidence.squares):
        curves.update(key.encode() + b"".join(column.tobytes() for column in evidence.squares[key]))
    for key in sorted(evidence.rates):
        curves.update(key.encode() + b"".join(column.tobytes() for column in evidence.rates[key]))
    targets = sorted(
        (row.run_key, row.params, row.batch_tokens, row.steps, row.target_loss) for row in evidence.targets
    )
    losses = sorted(
        (row.run_key, row.params, row.tokens, row.loss, repr(sorted(row.extra.items()))) for row in evidence.losses
    )
    settings = sorted((run.run_key, repr(sorted(run.extra.items()))) for run in evidence.runs)  # one-factor sweeps
    held = [evidence.metric, evidence.schedule, evidence.weight_decay_kind, sorted(evidence.stated.items())]
    parts = [data_hash(evidence.runs), settings, targets, held, curves.hexdigest()]
    return content_hash([*parts, losses] if losses else parts)


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


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The evidence of one recipe as the laws take it: weight decay in one convention, other settings at one level.

    The law of weight decay comes first, as it advises the level that the others hold at.
    """

    evidence: Evidence
    runs: Sequence[Run]  # all of them, their weight decay coupled to the learning rate
    converted: tuple[Found, ...]  # what was done for that
    decay: DecayFit
    held: Held  # the runs that all laws but that of weight decay rest on, as they were logged
    at: tuple[str, ...]  # levels asked for, ``NAME=VALUE``
    also: Definition  # a critical batch is stated by this definition beside doubling
    without_laws: tuple[str, ...]  # published laws that must lend nothing (`laws.lenders`)
    rng: np.random.Generator

    @property
    def level(self) -> list[Run]:
        """The runs at the level that is held, their weight decay coupled."""
        keys = {run.run_key for run in self.held.runs}
        return [run for run in usable(self.runs)[0] if run.run_key in keys]


def prepare(
    evidence: Evidence, *, at: Sequence[str] = (), also: Definition = ZHANG, without_laws: Sequence[str] = ()
) -> Prepared:
    """Choose the level that the laws hold at: the one asked for, or what `held` chooses.

    Raises
    ------
    UnknownLevel
        No run has a level that was asked for.
    """
    kind = evidence.weight_decay_kind
    runs, converted = in_one_convention(evidence.runs, kind or COUPLED)
    decay = fit_decay(runs, at, without_laws)
    return Prepared(
        evidence=evidence,
        runs=runs,
        converted=tuple(converted),
        decay=decay,
        held=hold_settings(usable(evidence.runs)[0], at, decay_kind=kind, decay_law=decay.fit),
        at=tuple(at),
        also=also,
        without_laws=tuple(without_laws),
        rng=np.random.default_rng(0),  # the same evidence gives the same fits
    )
