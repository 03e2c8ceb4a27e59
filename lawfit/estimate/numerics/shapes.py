"""Shapes of a loss valley around its optimum, in (log lr, log batch).

A shape gives the excess of log loss at displacement (u, v) from the optimum, zero with zero gradient at the origin.
Polynomials are local and linear in their coefficients; sums of exponentials are convex everywhere and follow what
losses do far from the optimum: steep towards instability (large learning rate), nearly straight towards undertraining.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STRAIGHT_BEYOND: Final = 6.0  # of an exponent: the loss has long left every window there


class Shape(Protocol):
    """Excess log loss ``h(u, v; q)`` with its derivatives, and a weak prior on its coefficients q."""

    @property
    def name(self) -> str: ...
    @property
    def prior_mean(self) -> Floats: ...
    @property
    def prior_sd(self) -> Floats: ...
    @property
    def apart_sd(self) -> Floats:
        """By how much coefficients differ between two valleys of which one is about twice as steep."""
        ...

    def curves_up(self, q: Floats) -> bool:
        """Whether the origin is a minimum, not a saddle."""
        ...

    def __call__(self, u: Floats, v: Floats, q: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """(h, dh/du, dh/dv), each (n,), and dh/dq (len(q), n); q is one (len(q),), or one for each row (len(q), n)."""
        ...


@dataclass(frozen=True)
class Polynomial:
    """``sum q_ij u^i v^j`` over 2 <= i + j <= degree."""

    degree: int

    @property
    def name(self) -> str:
        return {2: "quadratic", 3: "cubic", 4: "quartic"}[self.degree]

    @cached_property
    def powers(self) -> tuple[tuple[int, int], ...]:
        return tuple((total - j, j) for total in range(2, self.degree + 1) for j in range(total + 1))

    @property
    def prior_mean(self) -> Floats:
        # A valley in which twice the best learning rate or batch costs about 0.3 % of loss, tilted so that the best
        # learning rate grows as the cube root of the batch; the width below makes all of this weak.
        mean = np.zeros(len(self.powers))
        mean[:3] = 0.006, -0.004, 0.005
        return mean

    @property
    def prior_sd(self) -> Floats:
        return np.array([{2: 0.01, 3: 0.006, 4: 0.003}[i + j] for i, j in self.powers])

    @property
    def apart_sd(self) -> Floats:
        return self.prior_sd / 2

    def curves_up(self, q: Floats) -> bool:
        return bool(q[0] > 0 and 4 * q[0] * q[2] > q[1] ** 2)

    @cached_property
    def _steps(self) -> tuple[tuple[int, bool], ...]:
        """How each monomial comes from an earlier one: (its place, times u rather than v); u and v are the first."""
        place = {power: at for at, power in enumerate(((1, 0), (0, 1), *self.powers))}
        return tuple((place[(i - 1, j) if i else (i, j - 1)], bool(i)) for i, j in self.powers)

    def _slopes(self, q: Floats) -> Floats:
        """(2, monomials, columns of q) coefficients of the derivatives by u and by v."""
        place = {power: at for at, power in enumerate(((1, 0), (0, 1), *self.powers))}
        slopes = np.zeros((2, len(place), *q.shape[1:]))
        for coefficient, (i, j) in zip(q, self.powers, strict=True):
            if i:
                slopes[0, place[i - 1, j]] += coefficient * i
            if j:
                slopes[1, place[i, j - 1]] += coefficient * j
        return slopes

    def _monomials(self, u: Floats, v: Floats) -> Floats:
        """(2 + len(q), n): u, v, and the terms."""
        found = np.empty((2 + len(self.powers), *np.shape(u)))
        found[0], found[1] = u, v
        for at, (before, by_u) in enumerate(self._steps, start=2):
            np.multiply(found[before], found[0 if by_u else 1], out=found[at])
        return found

    def __call__(self, u: Floats, v: Floats, q: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        monomials = self._monomials(u, v)
        by_q = monomials[2:]
        of_rows = q.reshape(len(q), -1)  # one column for all rows, or one each
        by_u, by_v = (self._slopes(of_rows) * monomials).sum(axis=1)
        return (of_rows * by_q).sum(axis=0), by_u, by_v, by_q


def bent_exponential(exponent: Floats) -> tuple[Floats, Floats]:
    """``exp(e) - 1 - e`` and its slope ``exp(e) - 1``; straight beyond `STRAIGHT_BEYOND`, so convex."""
    near = np.minimum(exponent, STRAIGHT_BEYOND)
    grown = np.expm1(near)
    return grown - near + grown * (exponent - near), grown


@dataclass(frozen=True)
class Exponentials:
    """``sum_k a_k (exp(e_k) - 1 - e_k)``, ``e_k = p_k u + r_k v``; q holds (log a_k, p_k, r_k) for each k.

    The three terms start as undertraining (too small a learning rate or too few steps), gradient noise (large learning
    rate at a small batch) and instability (large learning rate at any batch).
    """

    @property
    def name(self) -> str:
        return "exponentials"

    @property
    def prior_mean(self) -> Floats:
        return np.array([-5.5, -1.0, 0.6, -5.5, 1.3, -0.9, -6.2, 1.2, 0.8])

    @property
    def prior_sd(self) -> Floats:
        return np.tile([0.5, 0.3, 0.3], 3)

    @property
    def apart_sd(self) -> Floats:
        return self.prior_sd * 2

    def curves_up(self, q: Floats) -> bool:
        return bool(np.isfinite(q).all())  # convex whatever q is

    def _terms(self, u: Floats, v: Floats, q: Floats) -> Iterator[tuple[Floats, Floats]]:
        """For each k, the amplitude times: the term itself, and its derivative by the exponent."""
        for log_amplitude, p, r in q.reshape(3, 3, *q.shape[1:]):
            bent, grown = bent_exponential(p * u + r * v)
            amplitude = np.exp(log_amplitude)
            bent *= amplitude
            grown *= amplitude
            yield bent, grown

    def __call__(self, u: Floats, v: Floats, q: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        by_q = np.empty((9, *np.shape(u)))
        by_u = np.zeros_like(u)
        by_v = np.zeros_like(v)
        for k, (bent, grown) in enumerate(self._terms(u, v, q)):
            by_q[3 * k] = bent
            np.multiply(u, grown, out=by_q[3 * k + 1])
            np.multiply(v, grown, out=by_q[3 * k + 2])
            by_u += q[3 * k + 1] * grown
            by_v += q[3 * k + 2] * grown
        return by_q[0] + by_q[3] + by_q[6], by_u, by_v, by_q


SHAPES: dict[str, Shape] = {s.name: s for s in (Polynomial(2), Polynomial(3), Polynomial(4), Exponentials())}
