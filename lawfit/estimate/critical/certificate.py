"""The certificate of the curve through steps at several batches.

It has one free shape parameter, the doubling batch; starts along the whole scan tell whether the misfit has other
minima.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.critical.hyperbola import MIN_BATCHES, SCAN_REACH, HyperbolaFit, best_curve
from lawfit.estimate.numerics.certificate import (
    WEAK,
    Certificate,
    Precision,
    Search,
    certificate,
    influences,
    lack_of_fit,
    needed_runs,
)
from lawfit.units import format_quantity

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

STARTS: Final = 32
SAME: Final = 1e-3  # standard errors between starts that ended in one minimum
_CURVE: Final = ("steps_min", "doubling_batch")


def certify_hyperbola(fit: HyperbolaFit) -> Certificate:
    """Examine one curve; its rows are batches, each a cluster of its own (the best of a sweep over learning rates)."""
    batch, doubling = fit.batches, fit.curve.doubling_batch_tokens
    log_steps = fit.log_residuals + np.log(fit.curve.steps(batch))
    rows = len(batch)
    share = doubling / (batch + doubling)  # d ln steps / d ln doubling batch
    jacobian = np.column_stack([np.ones(rows), share])
    variance = fit.residual_sd**2
    information = jacobian.T @ jacobian / variance
    sd = np.sqrt(np.diag(np.linalg.pinv(information, hermitian=True)))
    closed = np.isfinite(fit.doubling_log_sd)
    relative = np.array([sd[0], fit.doubling_log_sd])  # the profile's, which allows for few batches
    ends = _descend(batch, log_steps)
    apart = np.abs(ends - np.log(doubling)) / max(sd[1], 1e-300)
    gradient, curvature = _slope(np.array([np.log(doubling)]), batch, log_steps)
    remaining = float(abs(gradient[0] / curvature[0]) / sd[1]) if curvature[0] > 0 else float("inf")
    agreeing = apart < SAME
    candidates = np.array([b * f for b, f in ((batch[0], 0.25), (batch[0], 0.5), (batch[-1], 2.0), (batch[-1], 4.0))])
    there = doubling / (candidates + doubling)
    weak = () if closed and fit.doubling_log_sd <= WEAK else (_CURVE[1],)
    left = {}
    for k in range(rows if rows > MIN_BATCHES else 0):
        log_doubling, log_steps_min = best_curve(np.delete(batch, k), np.delete(log_steps, k))
        left[f"batch {format_quantity(float(batch[k]))}"] = (1, np.array([log_steps_min, log_doubling]))
    # how sharply the curve turns: d ln steps / dp of (1 + (B_c / B)^p)^(1/p) at p = 1
    ratio = doubling / batch
    bend = ratio * np.log(ratio) / (1 + ratio) - np.log1p(ratio)
    return certificate(
        search=Search(
            starts=STARTS,
            agreeing=int(agreeing.sum()),
            spread=float(apart[agreeing].max(initial=0.0)),
            gradient_norm=remaining,
            converged=remaining < SAME,
        ),
        precision=Precision(
            names=_CURVE,
            information=information,
            relative_sd=relative,
            at_bound=np.array([False, not _inside_scan(doubling, batch)]),
            weak=weak,
            runs=needed_runs(
                _CURVE,
                weak,
                information,
                np.ones(2),
                [{"batch_tokens": float(b)} for b in candidates],
                np.column_stack([np.ones(len(candidates)), there]) / np.sqrt(variance),
            ),
        ),
        structure=lack_of_fit(fit.log_residuals, 1.0, jacobian, {"sharpness of the bend": bend}, np.arange(rows)),
        influence=influences(_CURVE, np.log([fit.curve.steps_min, doubling]), sd, left, np.array([True, True])),
        rows=rows,
        clusters=rows,
        of="steps",
    )


def _inside_scan(doubling: float, batch: Floats) -> bool:
    return bool(batch[0] / SCAN_REACH * 1.05 < doubling < batch[-1] * SCAN_REACH / 1.05)


def _slope(log_doubling: Floats, batch: Floats, log_steps: Floats) -> tuple[Floats, Floats]:
    """First and second derivative of half the misfit along ln doubling batch, the level being free."""
    ratio = np.exp(log_doubling)[:, None] / batch
    share = ratio / (1 + ratio)
    left = log_steps - np.log1p(ratio)
    left = left - left.mean(axis=1, keepdims=True)
    moved = share - share.mean(axis=1, keepdims=True)
    second = (moved**2).sum(axis=1) - (left * share * (1 - share)).sum(axis=1)
    return np.asarray(-(left * share).sum(axis=1)), np.asarray(second)


def _descend(batch: Floats, log_steps: Floats) -> Floats:
    """Where starts along the scan end: safeguarded Newton steps, each start for itself."""
    at = np.linspace(np.log(batch[0] / 30), np.log(batch[-1] * 30), STARTS)
    low, high = np.log(batch[0] / SCAN_REACH), np.log(batch[-1] * SCAN_REACH)
    for _ in range(200):
        slope, curvature = _slope(at, batch, log_steps)
        step = np.where(curvature > 0, -slope / np.where(curvature > 0, curvature, 1.0), -np.sign(slope))
        at = np.clip(at + np.clip(step, -0.5, 0.5), low, high)
    return at
