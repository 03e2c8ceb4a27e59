"""Normal equations of a law through the optima of many scales, with deviations of scales and of sizes eliminated.

The optimum of scale c (in ln lr and ln batch) is ``z_c = x_c . law + s_size(c) + e_c``: the law, a deviation that all
scales of one model size share (sizes differ in width, depth and heads, which a law in their parameter count cannot
know), and one of its own. ``s ~ N(0, size_var)`` and ``e ~ N(0, scatter_var)``, for both axes apart.

What the runs say enters as one quadratic per scale in ``(z_c, q)``, q being coefficients that all scales share (the
valley, of which each scale may have a version of its own; none where each scale was measured by itself). Deviations are
eliminated scale by scale and then size by size (Schur complements), so the cost is linear in scales and sizes, and the
pieces give the estimate without any scales, the marginal likelihood of the variances, and what is known of each size's
and each scale's own optimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError
from lawfit.findings import finding

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class ScaleTerms:
    """What the runs of each scale say, to second order around the current point."""

    information: Floats  # (scales, 2 + k, 2 + k) about ln lr*, ln batch* and the k shared coefficients
    gradient: Floats  # (scales, 2 + k) of half the objective, downhill


class OwnValleys:
    """Each scale's own valley averaged over: deviations of its coefficients from those that all scales share.

    ``q_c = q + w_c``, ``w_c ~ N(0, var)``, for the first `j` of the shared coefficients. To second order the runs of a
    scale then say of its optimum and of q what `averaged` holds.
    """

    def __init__(self, terms: ScaleTerms, at: Floats, var: Floats) -> None:
        """`at` (scales, j) the point in the space of deviations; `var` (j,) their variances."""
        own = slice(2, 2 + at.shape[1])
        across = terms.information[:, own, :]
        precision = across[:, :, own] + np.diag(1 / var)
        down = terms.gradient[:, own] - at / var
        self.lean = np.linalg.solve(precision, np.concatenate([across, down[:, :, None]], axis=-1))
        taken = across.transpose(0, 2, 1) @ self.lean
        self.averaged = ScaleTerms(
            information=terms.information - taken[:, :, :-1], gradient=terms.gradient - taken[:, :, -1]
        )
        fit = (at**2 / var).sum() - (down * self.lean[:, :, -1]).sum()
        # minus twice the log density of the runs that averaging brings
        self.misfit = float(fit + np.linalg.slogdet(precision)[1].sum() + len(at) * np.log(var).sum())

    def step(self, moved: Floats) -> Floats:
        """(scales, j) how deviations follow (scales, 2 + k) steps of optimum and shared coefficients."""
        return np.asarray(self.lean[:, :, -1] - np.einsum("cij,cj->ci", self.lean[:, :, :-1], moved))


@dataclass(frozen=True, kw_only=True)
class Variances:
    """Of the deviations from the law, in ln lr and ln batch."""

    scatter: Floats  # (2,) a scale's own
    size: Floats  # (2,) shared by the scales of a size
    valley: float = 0.0  # of a scale's own valley, where valleys are fitted: in units of `Shape.apart_sd` squared


@dataclass(frozen=True, kw_only=True)
class Deviations:
    """A point in the space of deviations."""

    scatter: Floats  # (scales, 2)
    size: Floats  # (sizes, 2)


@dataclass(frozen=True, kw_only=True)
class LawPrior:
    """Gaussian prior on the coefficients of both laws: lr, then batch."""

    mean: Floats  # (2 terms,)
    precision: Floats  # (2 terms, 2 terms) that the estimate feels
    doubt: Floats  # the same that the covariance is computed with: a straight law may be estimated, a bend still feared
    centre: tuple[float, float]  # (ln params, ln tokens) at which the constants hold


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What stays the same while a law is searched: scales, sizes, prior."""

    design: Floats  # (scales, terms) row x_c of each scale
    size_of_scale: Ints  # (scales,) ascending
    mean: Floats  # (2 terms + k,) prior of the law, then of the shared coefficients
    precision: Floats  # (2 terms + k, 2 terms + k)
    doubt: Floats

    @cached_property
    def first(self) -> Ints:
        """First scale of each size."""
        return np.flatnonzero(np.diff(self.size_of_scale, prepend=-1))

    @property
    def terms(self) -> int:
        return int(self.design.shape[1])


class _Scales:
    """Deviations of scales averaged over, for variances of shape (..., 2)."""

    def __init__(self, frame: Frame, terms: ScaleTerms, at: Deviations, scatter_var: Floats) -> None:
        information, gradient, x = terms.information, terms.gradient, frame.design
        weight = 1 / scatter_var[..., None, :]  # (..., 1, 2)
        self.local = information[:, :2, :2] + weight[..., None] * np.eye(2)
        self.local_gradient = gradient[:, :2] - at.scatter * weight
        self.local_inverse = _inverses(self.local)
        self.gain = self.local_inverse @ information[:, :2, :]  # (..., scales, 2, 2 + k)
        self.local_step = (self.local_inverse @ self.local_gradient[..., None])[..., 0]
        across = information[:, :, :2]
        r = information - across @ self.gain  # (..., scales, 2 + k, 2 + k)
        self.gradient = gradient - (across @ self.local_step[..., None])[..., 0]
        # by the law and the shared coefficients: the law moves a scale's place in proportion to x_c
        self.row = np.concatenate([r[..., 0:1] * x[:, None, :], r[..., 1:2] * x[:, None, :], r[..., 2:]], axis=-1)
        self.place = r[..., :2, :2]
        self.of_size = np.add.reduceat(self.place, frame.first, axis=-3)
        self.down_of_size = np.add.reduceat(self.gradient[..., :2], frame.first, axis=-2)
        self.size_row = np.add.reduceat(self.row[..., :2, :], frame.first, axis=-3)

    def totals(self, x: Floats, row: Floats, down: Floats) -> tuple[Floats, Floats]:
        """(information, gradient) about law and shared coefficients of some scales, sizes not averaged over."""
        lr, batch = x.T @ row[..., 0, :], x.T @ row[..., 1, :]
        whole = np.concatenate([lr, batch, row[..., 2:, :].sum(axis=-3)], axis=-2)
        return whole, np.concatenate([down[..., 0] @ x, down[..., 1] @ x, down[..., 2:].sum(axis=-2)], axis=-1)


class Eliminated:
    """The normal equations at one point and for given variances."""

    def __init__(self, frame: Frame, terms: ScaleTerms, theta: Floats, at: Deviations, var: Variances) -> None:
        self.frame, self.theta, self.at, self.var = frame, theta, at, var
        self.scales = _Scales(frame, terms, at, var.scatter)
        self.size_gradient = self.scales.down_of_size - at.size / var.size
        self.whole, self.down = self._totals(slice(None))
        f = self.scales.of_size + np.diag(1 / var.size)
        block, self.size_inverse, self.size_step, down = _without_size(f, self.size_gradient, self.scales.size_row)
        self.runs_information = self.whole - block  # of the runs alone, deviations averaged over
        self.information = self.runs_information + frame.precision
        self.gradient = self.down - down - frame.precision @ (theta - frame.mean)

    def _totals(self, some: slice | Ints) -> tuple[Floats, Floats]:
        return self.scales.totals(self.frame.design[some], self.scales.row[some], self.scales.gradient[some])

    @cached_property
    def covariance(self) -> Floats:
        try:
            return np.asarray(np.linalg.inv(self.information))
        except np.linalg.LinAlgError:
            raise FitError(finding("numerics.no_width")) from None

    @cached_property
    def doubtful_covariance(self) -> Floats:
        """Inverse information with the precision of doubt in place of the one that the estimate felt."""
        return np.asarray(np.linalg.inv(self.runs_information + self.frame.doubt))

    def step(self, damping: float = 0.0) -> tuple[Floats, Deviations]:
        """A (damped) Newton step of the law with the shared coefficients, and of the deviations."""
        damped = self.information + damping * np.diag(np.diag(self.information))
        step = np.asarray(np.linalg.solve(damped, self.gradient))
        size = self.size_step - np.einsum("kij,kj->ki", self.size_inverse, self.scales.size_row @ step)
        moved = self._place_moved(step) + size[self.frame.size_of_scale]
        k = step[2 * self.frame.terms :]
        scatter = (
            self.scales.local_step
            - np.einsum("cij,cj->ci", self.scales.gain[:, :, :2], moved)
            - self.scales.gain[:, :, 2:] @ k
        )
        return step, Deviations(scatter=scatter, size=size)

    def _place_moved(self, step: Floats) -> Floats:
        half = self.frame.terms
        return np.column_stack([self.frame.design @ step[:half], self.frame.design @ step[half : 2 * half]])

    def gradient_norm(self) -> float:
        """Length of the Newton step in standard errors: 0 at the mode."""
        squared = float(self.gradient @ self.covariance @ self.gradient)
        return float(np.sqrt(max(squared, 0.0)))

    def without(self, group: Ints) -> tuple[Floats, Floats]:
        """(coefficients, shifts of sizes) after one Newton step from the mode without some scales.

        Exact where the objective is quadratic. A size that loses all its scales has shift 0.
        """
        frame = self.frame
        sizes = np.unique(frame.size_of_scale[group])
        place = np.searchsorted(sizes, frame.size_of_scale[group])

        def lost(values: Floats) -> Floats:
            total = np.zeros((len(sizes), *values.shape[1:]))
            np.add.at(total, place, values[group])
            return total

        of_size = self.scales.of_size[sizes] - lost(self.scales.place)
        gradient = self.size_gradient[sizes] - lost(self.scales.gradient[:, :2])
        row = self.scales.size_row[sizes] - lost(self.scales.row[:, :2])
        new, inverse, step, down = _without_size(of_size + np.diag(1 / self.var.size), gradient, row)
        old, _, _, old_down = _without_size(
            self.scales.of_size[sizes] + np.diag(1 / self.var.size),
            self.size_gradient[sizes],
            self.scales.size_row[sizes],
        )
        whole, gone = self._totals(group)
        information = self.information - whole + old - new
        left = self.gradient - gone + old_down - down
        moved = np.linalg.solve(information, left)
        shift = self.at.size + self.size_step - np.einsum("kij,kj->ki", self.size_inverse, self.scales.size_row @ moved)
        shift[sizes] = self.at.size[sizes] + step - np.einsum("kij,kj->ki", inverse, row @ moved)
        return self.theta + moved, shift

    def without_one(self, cells: Ints) -> tuple[Floats, Floats]:
        """`without` each of some scales, all at once: coefficients (len, P), and the shift (len, 2) of its size."""
        frame, scales = self.frame, self.scales
        size = frame.size_of_scale[cells]
        row, x = scales.row[cells], frame.design[cells]
        gradient, old_row = self.size_gradient[size], scales.size_row[size]
        of_size = scales.of_size[size] + np.diag(1 / self.var.size)
        new_row, new_gradient = old_row - row[:, :2], gradient - scales.gradient[cells][:, :2]
        inverse, old_inverse = _inverses(of_size - scales.place[cells]), _inverses(of_size)
        lean, old_lean = inverse @ new_row, old_inverse @ old_row  # (len, 2, P)
        step = (inverse @ new_gradient[..., None])[..., 0]
        whole = np.concatenate(
            [x[:, :, None] * row[:, 0:1], x[:, :, None] * row[:, 1:2], row[:, 2:]], axis=1
        )  # what the scale brought
        gone = scales.gradient[cells]
        down = np.concatenate([x * gone[:, 0:1], x * gone[:, 1:2], gone[:, 2:]], axis=1)
        information = self.information - whole
        information = information + old_row.transpose(0, 2, 1) @ old_lean - new_row.transpose(0, 2, 1) @ lean
        left = self.gradient - down
        left = left + np.einsum("cij,ci->cj", old_lean, gradient) - np.einsum("cij,ci->cj", lean, new_gradient)
        moved = np.linalg.solve(information, left[..., None])[..., 0]
        return self.theta + moved, self.at.size[size] + step - np.einsum("cij,cj->ci", lean, moved)

    def of_sizes(self, covariance: Floats) -> tuple[Floats, Floats]:
        """((sizes, 2 terms, 2), (sizes, 2, 2)) covariance of the law with each size's deviation, and its own."""
        lean = self.size_inverse @ self.scales.size_row  # (sizes, 2, P)
        cross = -covariance @ lean.transpose(0, 2, 1)
        own = self.size_inverse - lean @ cross
        return cross[:, : 2 * self.frame.terms], own

    def of_scales(self, covariance: Floats) -> Floats:
        """(scales, 2, 2) covariance of each scale's own optimum."""
        frame, half = self.frame, self.frame.terms
        lean = (self.size_inverse @ self.scales.size_row)[frame.size_of_scale]
        # z = A theta + (I - gain) s + noise; as a function of theta after the elimination of s and e
        keep = np.eye(2) - self.scales.gain[:, :, :2]
        by_law = np.zeros((len(frame.design), 2, len(self.theta)))
        by_law[:, 0, :half] = by_law[:, 1, half : 2 * half] = frame.design
        by_theta = keep @ (by_law - lean)
        by_theta[:, :, 2 * half :] -= self.scales.gain[:, :, 2:]
        of_size = keep @ self.size_inverse[frame.size_of_scale] @ keep.transpose(0, 2, 1)
        return np.asarray(by_theta @ covariance @ by_theta.transpose(0, 2, 1) + of_size + self.scales.local_inverse)


def log_marginals(
    frame: Frame, terms: ScaleTerms, theta: Floats, at: Deviations, scatter_vars: Floats, size_vars: Floats
) -> Floats:
    """(s, m) log density of the runs for variances of scales (s, 2) and sizes (m, 2), by Laplace, up to a constant."""
    scales = _Scales(frame, terms, at, scatter_vars)
    off = theta - frame.mean
    fixed = (at.scatter**2 / scatter_vars[:, None, :]).sum(axis=(1, 2)) + off @ frame.precision @ off
    fixed -= (scales.local_gradient * scales.local_step).sum(axis=(1, 2))
    fixed += np.log(_determinants(scales.local)).sum(axis=1) + len(at.scatter) * np.log(scatter_vars).sum(axis=1)
    each = size_vars[:, None, :]  # (m, 1, 2)
    f = scales.of_size[:, None] + (1 / each)[..., None] * np.eye(2)  # (s, m, sizes, 2, 2)
    gradient = scales.down_of_size[:, None] - at.size / each
    block, _, step, moved = _without_size(f, gradient, scales.size_row[:, None])
    whole, down = scales.totals(frame.design, scales.row, scales.gradient)
    information = whole[:, None] + frame.precision - block
    left = down[:, None] - frame.precision @ off - moved
    value = fixed[:, None] + (at.size**2 / each).sum(axis=(1, 2)) - (gradient * step).sum(axis=(2, 3))
    value -= (left * np.linalg.solve(information, left[..., None])[..., 0]).sum(axis=-1)
    value += np.log(_determinants(f)).sum(axis=-1) + len(at.size) * np.log(size_vars).sum(axis=1)
    return np.asarray(-0.5 * (value + np.linalg.slogdet(information)[1]))


def _without_size(f: Floats, gradient: Floats, row: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Elimination of sizes from (..., sizes, 2, 2) blocks: (to take off, inverses, steps, gradient to take off)."""
    inverse = _inverses(f)
    step = (inverse @ gradient[..., None])[..., 0]
    flat = row.reshape(*row.shape[:-3], -1, row.shape[-1])  # (..., 2 sizes, P)
    half = (inverse @ row).reshape(*f.shape[:-3], *flat.shape[-2:])
    return np.swapaxes(flat, -1, -2) @ half, inverse, step, (step.reshape(*f.shape[:-3], 1, -1) @ flat)[..., 0, :]


def _determinants(blocks: Floats) -> Floats:
    """Of (..., 2, 2)."""
    return np.asarray(blocks[..., 0, 0] * blocks[..., 1, 1] - blocks[..., 0, 1] * blocks[..., 1, 0])


def _inverses(blocks: Floats) -> Floats:
    """Of (..., 2, 2)."""
    inverse = np.empty_like(blocks)
    inverse[..., 0, 0], inverse[..., 1, 1] = blocks[..., 1, 1], blocks[..., 0, 0]
    inverse[..., 0, 1], inverse[..., 1, 0] = -blocks[..., 0, 1], -blocks[..., 1, 0]
    inverse /= _determinants(blocks)[..., None, None]
    return inverse


def left_out(eliminated: Eliminated, groups: Sequence[Ints]) -> tuple[Floats, tuple[Floats, ...]]:
    """For each group of scales: (coefficients without it), and ((len, 2) optima that are then foretold at its scales).

    A scale whose size has other scales is foretold with that size's deviation.
    """
    frame, half = eliminated.frame, eliminated.frame.terms
    thetas, places = np.empty((len(groups), len(eliminated.theta))), []
    alone = [at for at, group in enumerate(groups) if len(group) == 1]
    shifts: dict[int, Floats] = {}
    if alone:
        cells = np.array([groups[at][0] for at in alone])
        thetas[alone], found = eliminated.without_one(cells)
        shifts = dict(zip(alone, found, strict=True))
    for at, group in enumerate(groups):
        if at in shifts:
            shift = shifts[at][None]
        else:
            thetas[at], of_sizes = eliminated.without(group)
            shift = of_sizes[frame.size_of_scale[group]]
        x = frame.design[group]
        law = np.column_stack([x @ thetas[at, :half], x @ thetas[at, half : 2 * half]])
        places.append(law + shift)
    return thetas, tuple(places)
