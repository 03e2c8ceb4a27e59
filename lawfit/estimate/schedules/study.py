"""What other schedules would reach, from loss curves of a few: laws along a run, judged by curves left out.

Two laws are fitted, the Multi-Power Law (arXiv 2503.12811) and the annealing law (arXiv 2408.11029); the one that tells
curves left out better answers. Its misses at the ends of those curves give the interval. All of it holds for one model,
batch and data, and for peaks near those that were run: neither law knows when training gets unstable.

A number of a schedule may be left to the curves (``uba:phi=best``, ``rex:beta=best``): it is the one whose loss the law
calls lowest, where that lies inside what was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.schedules.annealing import fit_annealing
from lawfit.estimate.schedules.multi_power import CurveFit, fit_multi_power
from lawfit.findings import Found, as_json, finding, joined
from lawfit.laws.annealing import AnnealingLaw
from lawfit.laws.multi_power import Course, MultiPowerLaw
from lawfit.laws.named_schedules import named_shape, of_run, split, unverified

Floats = NDArray[np.float64]
CurveLaw = MultiPowerLaw | AnnealingLaw
AnyFit = CurveFit[MultiPowerLaw] | CurveFit[AnnealingLaw]
Missed = tuple[float, float]  # on a curve: mean absolute relative error, relative error at the end

LEVEL: Final = 0.9
USUAL: Final = (
    *("constant", "cosine:floor=0.1", "cosine", "linear", "wsd:cooldown=0.1", "wsd:cooldown=0.2"),
    *("wsd:cooldown=0.2,fall=1-sqrt", "rex:beta=best", "uba:phi=best"),
)
BEST: Final = "best"
# Where the best number of a schedule is looked for; phi in equal ratios.
RANGES: Final[Mapping[str, Floats]] = {
    "phi": np.geomspace(0.002, 20, 41),
    "beta": np.linspace(0, 0.975, 40),
    "cooldown": np.linspace(0.02, 1, 50),
    "floor": np.linspace(0, 0.5, 51),
}
_NATURAL: Final = {"beta": 0, "floor": 0, "cooldown": len(RANGES["cooldown"]) - 1}  # ends beyond which there is nothing
AS_GOOD: Final = 1e-3  # of the loss: numbers that cost less are named beside the best one
_FITS: Final[Mapping[str, Callable[[Sequence[Course], Sequence[Floats]], AnyFit]]] = {
    "multi_power": fit_multi_power,
    "annealing": fit_annealing,
}
_POINTS: Final = 800  # of a course that is told
_LEARNED: Final = 120  # of a curve that is learned from: losses of neighbouring steps say the same
_UNLIKE: Final = 0.02  # mean error of the better law; curves of one model lie within 0.2 %
_STEP: Final = 0.05  # of the peak, between two logged steps: a stage of the schedule ends there
_ZERO: Final = 1e-6  # of the peak: stands for a rate of zero, whose powers have no value
_FEWEST_ERRORS: Final = 3
_FAR: Final = 1.5  # times a peak that was run
_LONGER: Final = 1.05  # times a length that was run
_FALLS: Final = 0.9  # of the peak: a rate that ends below it has fallen


@dataclass(frozen=True, kw_only=True)
class LossCurve:
    """One run: its learning rate after the warmup, and its loss."""

    name: str
    course: Course
    loss: Floats  # (n,) at the steps of the course, nats per token

    @property
    def peak_lr(self) -> float:
        return float(self.course.lr.max())

    @property
    def falls(self) -> bool:
        return bool(self.course.lr[-1] < _FALLS * self.peak_lr)


def loss_curve(
    name: str,
    steps: Sequence[float] | Floats,
    lr: Sequence[float] | Floats,
    loss: Sequence[float] | Floats,
    *,
    warmup_steps: int | None = None,
) -> LossCurve:
    """From logged columns; what was logged before the learning rate reached its peak belongs to the warmup.

    Parameters
    ----------
    warmup_steps : where the log begins after the warmup, how long that took (else: no warmup, a small difference)

    Raises
    ------
    ValueError
        Fewer than ten points after the warmup, or a warmup that is not over by then.
    """
    order = np.argsort(np.asarray(steps), kind="stable")
    steps, lr, loss = (np.asarray(column, dtype=float)[order] for column in (steps, lr, loss))
    start = int(np.argmax(lr >= lr.max() * (1 - 1e-3)))
    if len(steps) - start < 10:
        raise ValueError(
            f"curve '{name}' has {len(steps) - start} points from its highest learning rate on; it takes 10"
        )
    rates = np.maximum(lr[start:], lr.max() * _ZERO)
    before = warmup_steps if warmup_steps is not None else float(steps[start]) if start else 0.0
    try:
        course = Course.of(steps[start:], rates, warmup_steps=before)
    except ValueError as error:
        raise ValueError(f"curve '{name}': {error}") from None
    return LossCurve(name=name, course=course, loss=loss[start:])


def study_schedules(
    curves: Sequence[LossCurve],
    *,
    schedules: Sequence[str] = USUAL,
    lr: float | None = None,
    steps: int | None = None,
    progress: Callable[[str, float], None] = lambda _step, _share: None,
) -> dict[str, Any]:
    """Fit the laws, leave each curve out once, and tell the loss that each schedule would end at.

    Parameters
    ----------
    schedules : as `named_shape` reads them; one number of each may be ``best`` (`RANGES`)
    lr : peak; the median of the curves' if None
    steps : length of the run, warmup included; the longest curve's if None
    progress : called with a step and its share of the work

    Raises
    ------
    NotEnoughData
        Fewer than two curves, or none whose learning rate falls.
    FitError
        Neither law can be fitted, or the better one misses the curves so far that they cannot be of one model.
    ValueError
        A schedule that does not exist, or a run shorter than its warmup.
    """
    for name in schedules:
        candidates(name)  # one that cannot be speaks up before the work
    progress("fitting all curves", 0.0)
    thin = [_thinned(curve) for curve in curves]
    fits, refused = _fit_each(thin)
    left_out = _leave_each_out(curves, thin, list(fits), progress)
    score = _scores(left_out)
    law = min(fits, key=lambda name: (score[name], name != "multi_power"))
    found, rows = fits[law], left_out[law]
    ends = np.array([row[1] for row, curve in zip(rows, curves, strict=True) if row is not None and curve.falls])
    lengths = [float(c.course.steps[-1]) for c in curves]
    peak = float(np.median([c.peak_lr for c in curves])) if lr is None else lr
    length = round(max(lengths)) if steps is None else steps
    doubts = _beyond(curves, peak, length / max(lengths), length / min(lengths))
    half = _half_width(ends) if not doubts else None
    laws = {each: fit.law for each, fit in fits.items()}
    run = _Asked(peak=peak, steps=length, warmup=_warmup(curves), rises=any(_rises(c.course) for c in curves))
    answers = [_told(name, run, laws, law, half) for name in schedules]
    doubts += [doubt for _, doubt in answers if doubt]
    told = sorted((row for row, _ in answers if row), key=lambda row: row["loss"])
    document = {
        "law": law,
        "numbers": {name: float(value) for name, value in vars(found.law).items()},
        "mean_error": found.mean_error,
        "left_out": {name: None if not np.isfinite(value) else value for name, value in score.items()},
        "curves": [_curve_row(curve, row) for curve, row in zip(curves, rows, strict=True)],
        "lr": peak,
        "steps": length,
        "level": LEVEL,
        "schedules": told,
        "notes": [*refused, *_notes(found, ends, half), *doubts, *unverified(*schedules)],
    }
    return dict(as_json(document))


def _fit_each(thin: Sequence[LossCurve]) -> tuple[dict[str, AnyFit], list[Found]]:
    """The laws fitted to all curves, and why not of those that cannot be; no law fits curves of several models."""
    courses, losses = [c.course for c in thin], [c.loss for c in thin]
    fits: dict[str, AnyFit] = {}
    refused: list[Found] = []
    for law, fit in _FITS.items():
        try:
            fits[law] = fit(courses, losses)
        except NotEnoughData:
            raise
        except FitError as error:
            refused.append(error.finding)
    if not fits:
        raise FitError(joined(refused))
    off = min(fit.mean_error for fit in fits.values())
    if off > _UNLIKE:
        some = [curve.name for curve in thin[:3]]
        raise FitError(finding("schedules.unlike_curves", curves=len(thin), names=some, error=off))
    return fits, refused


def _leave_each_out(
    curves: Sequence[LossCurve], thin: Sequence[LossCurve], laws: Sequence[str], progress: Callable[[str, float], None]
) -> dict[str, list[Missed | None]]:
    """Law -> how it misses each curve; None where it cannot be fitted without it."""
    left_out: dict[str, list[Missed | None]] = {law: [] for law in laws}
    for k in range(len(curves)):
        progress(f"leaving out {curves[k].name}", (k + 1) / (len(curves) + 1))
        for law, rows_of in left_out.items():
            rows_of.append(_without(curves, thin, k, _FITS[law]))
    return left_out


def _scores(left_out: Mapping[str, Sequence[Missed | None]]) -> dict[str, float]:
    """Law -> its mean error on the curves that every law could be fitted without."""
    by_all = [all(row is not None for row in rows) for rows in zip(*left_out.values(), strict=True)]
    return {
        law: _mean([row[0] for row, each in zip(rows, by_all, strict=True) if each and row is not None])
        for law, rows in left_out.items()
    }


def _warmup(curves: Sequence[LossCurve]) -> float:
    """Steps of it, by the curve that begins first."""
    first = min(curves, key=lambda c: float(c.course.steps[0])).course
    return float(2 * (first.steps[0] - first.warmup_sum / first.lr[0]))  # of `Course.of`


def _curve_row(curve: LossCurve, missed: Missed | None) -> dict[str, Any]:
    return {
        "run": curve.name,
        "steps": int(curve.course.steps[-1]),
        "peak_lr": curve.peak_lr,
        "final_lr": float(curve.course.lr[-1]),
        "points": len(curve.loss),
        "final_loss": float(curve.loss[-1]),
        "left_out_error": None if missed is None else missed[0],
        "left_out_at_the_end": None if missed is None else missed[1],
    }


def _without(
    curves: Sequence[LossCurve],
    thin: Sequence[LossCurve],
    k: int,
    fit: Callable[[Sequence[Course], Sequence[Floats]], AnyFit],
) -> Missed | None:
    """By a fit that did not see the curve."""
    rest = [c for i, c in enumerate(thin) if i != k]
    try:
        found = fit([c.course for c in rest], [c.loss for c in rest])
    except FitError:  # too few are left, or none of them falls
        return None
    miss = np.log(found.law.loss(curves[k].course) / curves[k].loss)
    last = max(1, len(miss) // 50)  # a single logged loss is noisy
    return float(np.abs(miss).mean()), float(miss[-last:].mean())


def _thinned(curve: LossCurve) -> LossCurve:
    """At most `_LEARNED` points, with both sides of each step of the learning rate among them."""
    course = curve.course
    evenly = np.linspace(0, len(curve.loss) - 1, _LEARNED).round().astype(np.intp)
    falls = np.flatnonzero(np.abs(np.diff(course.lr)) > _STEP * curve.peak_lr)
    rows = np.unique(np.concatenate([evenly, falls, falls + 1]))
    return LossCurve(
        name=curve.name,
        course=Course(steps=course.steps[rows], lr=course.lr[rows], warmup_sum=course.warmup_sum),
        loss=curve.loss[rows],
    )


def _mean(errors: Sequence[float]) -> float:
    return float(np.mean(errors)) if errors else float("inf")


def _half_width(errors: Floats) -> float | None:
    """Half of the interval of ln loss, from misses at the ends of curves left out; None with too few of them."""
    from scipy.special import stdtrit

    if len(errors) < _FEWEST_ERRORS:
        return None
    return float(stdtrit(len(errors) - 1, 0.5 + LEVEL / 2)) * float(np.sqrt((errors**2).mean()))


def candidates(text: str) -> tuple[str, tuple[str, ...]]:
    """The number of a schedule that is left to the curves, and the schedule with each value that is tried for it.

    Raises
    ------
    ValueError
        It does not exist, or more is left open than one number that can be looked for.
    """
    name, words = split(text)
    opened = [key for key, value in words.items() if value == BEST]
    if not opened:
        named_shape(text)
        return "", (text,)
    if len(opened) > 1 or opened[0] not in RANGES:
        raise ValueError(f"'{text}': one number may be {BEST}, of {', '.join(RANGES)}")
    found = tuple(
        f"{name}:" + ",".join(f"{key}={f'{x:.4g}' if key == opened[0] else value}" for key, value in words.items())
        for x in RANGES[opened[0]]
    )
    for each in (found[1], found[-2]):  # the very ends may be out of a number's own bounds
        named_shape(each)
    return opened[0], found


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The run whose end is told."""

    peak: float
    steps: int
    warmup: float  # steps
    rises: bool  # some curve's rate rises again after it had fallen

    def course(self, schedule: str) -> Course:
        if self.steps <= self.warmup + 1:
            raise ValueError(f"a run of {self.steps:,} steps ends before the warmup of {self.warmup:,.0f} steps")
        at = np.linspace(max(self.warmup, 1.0), self.steps, _POINTS)
        rates = self.peak * np.maximum(of_run(schedule, at / self.steps, warmup=at[0] / self.steps), _ZERO)
        return Course(steps=at, lr=rates, warmup_sum=float(rates[0] * (at[0] - self.warmup / 2)))


def _told(
    text: str, run: _Asked, laws: Mapping[str, CurveLaw], answering: str, half: float | None
) -> tuple[dict[str, Any] | None, Found | None]:
    """A row of the answer, and what is to be doubted about it."""
    key, tried = candidates(text)
    ends = {law: np.array([_end(laws[law], run, schedule) for schedule in tried]) for law in laws}
    if not np.any(np.isfinite(ends[answering])):
        return None, finding("schedules.no_loss", schedule=text)
    best = {law: int(np.nanargmin(losses)) for law, losses in ends.items() if np.any(np.isfinite(losses))}
    at = best[answering]
    loss = float(ends[answering][at])
    doubt = None
    if _rises(run.course(tried[at])) and not run.rises:
        half, doubt = None, finding("schedules.rises_again", schedule=text)
    elif key and at in {0, len(tried) - 1} - {_NATURAL.get(key)}:
        doubt = finding("schedules.still_falls", schedule=text, number=key, value=RANGES[key][at])
    row = {
        "schedule": tried[at],
        "loss": loss,
        "low": None if half is None else loss * float(np.exp(-half)),
        "high": None if half is None else loss * float(np.exp(half)),
        "by_law": {law: float(losses[at]) for law, losses in ends.items() if np.isfinite(losses[at])},
    }
    if key:
        as_good = RANGES[key][ends[answering] < loss * (1 + AS_GOOD)]
        row["fitted"] = {
            "number": key,
            "value": float(RANGES[key][at]),
            "low": float(as_good.min()),  # cost less than a share of `as_good` of the loss
            "high": float(as_good.max()),
            "as_good": AS_GOOD,
            "by_law": {law: float(RANGES[key][place]) for law, place in best.items()},
        }
    return row, doubt


def _end(law: CurveLaw, run: _Asked, schedule: str) -> float:
    """Loss at the end; NaN where the law has none, or the schedule takes no such number."""
    try:
        loss = float(law.loss(run.course(schedule))[-1])
    except ValueError:
        if run.steps <= run.warmup + 1:
            raise
        return float("nan")
    return loss if np.isfinite(loss) and loss > 0 else float("nan")


def _rises(course: Course) -> bool:
    """Whether the rate rises, at its start or after a fall, by more than logs round."""
    return bool(np.any(course.lr - np.minimum.accumulate(course.lr) > _STEP * course.lr.max()))


def _notes(found: AnyFit, ends: Floats, half: float | None) -> list[Found]:
    said: list[Found] = []
    if not found.starts_agree:
        said.append(finding("schedules.starts_apart"))
    if found.at_bound:
        said.append(finding("schedules.at_bound", numbers=found.at_bound))
    if len(ends) < _FEWEST_ERRORS:
        said.append(finding("schedules.no_interval", needed=_FEWEST_ERRORS, curves=len(ends)))
    elif half is not None:
        said.append(finding("schedules.interval_of", miss=np.sqrt((ends**2).mean())))
    return said


def _beyond(curves: Sequence[LossCurve], peak: float, of_longest: float, of_shortest: float) -> list[Found]:
    """How the run lies where no curve left out shows how far the law is off: then it gets no interval."""
    said: list[Found] = []
    if of_longest > _LONGER:
        said.append(finding("schedules.longer", times=of_longest))
    if of_shortest < 1 / _LONGER:
        said.append(finding("schedules.shorter"))
    low, high = min(c.peak_lr for c in curves), max(c.peak_lr for c in curves)
    if not low / _FAR <= peak <= high * _FAR:
        said.append(finding("schedules.other_peak", lr=peak))
    return said
