"""Deviations eliminated size by size and scale by scale, against the same normal equations written out and inverted."""

from __future__ import annotations

import numpy as np
import pytest

from lawfit.estimate.elimination import (
    Deviations,
    Eliminated,
    Frame,
    ScaleTerms,
    Variances,
    left_out,
    log_marginals,
)

SIZE_OF_SCALE = np.array([0, 0, 1, 1, 1, 2, 3])
SCALES, SIZES, TERMS, SHARED = 7, 4, 3, 2
P = 2 * TERMS + SHARED
VARIANCES = Variances(scatter=np.array([0.3, 0.2]), size=np.array([0.5, 0.7]))


class Written:
    """The whole system of law, shared coefficients, sizes and scales, nothing eliminated."""

    def __init__(self, rng: np.random.Generator) -> None:
        roots = rng.normal(size=(SCALES, 2 + SHARED, 3))  # of rank 3 out of 4: a scale that leaves a direction open
        self.terms = ScaleTerms(
            information=roots @ roots.transpose(0, 2, 1), gradient=rng.normal(size=(SCALES, 2 + SHARED))
        )
        precision = np.diag(rng.uniform(0.5, 2, P))
        self.frame = Frame(
            design=rng.normal(size=(SCALES, TERMS)),
            size_of_scale=SIZE_OF_SCALE,
            mean=rng.normal(size=P),
            precision=precision,
            doubt=precision / 2,
        )
        self.theta = rng.normal(size=P)
        self.at = Deviations(scatter=rng.normal(size=(SCALES, 2)), size=rng.normal(size=(SIZES, 2)))

    def eliminated(self, var: Variances = VARIANCES) -> Eliminated:
        return Eliminated(self.frame, self.terms, self.theta, self.at, var)

    def whole(self, var: Variances = VARIANCES, scales: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(matrix, right-hand side) over (law and shared, sizes, scales)."""
        n = P + 2 * SIZES + 2 * SCALES
        matrix, side = np.zeros((n, n)), np.zeros(n)
        for c in range(SCALES) if scales is None else scales:
            rows = self.place(c)
            shared = np.zeros((SHARED, n))
            shared[:, 2 * TERMS : P] = np.eye(SHARED)
            rows = np.concatenate([rows, shared])
            matrix += rows.T @ self.terms.information[c] @ rows
            side += rows.T @ self.terms.gradient[c]
        matrix[:P, :P] += self.frame.precision
        side[:P] -= self.frame.precision @ (self.theta - self.frame.mean)
        weight = np.concatenate([np.tile(1 / var.size, SIZES), np.tile(1 / var.scatter, SCALES)])
        matrix[range(P, n), range(P, n)] += weight
        side[P:] -= weight * np.concatenate([self.at.size.ravel(), self.at.scatter.ravel()])
        return matrix, side

    def place(self, scale: int) -> np.ndarray:
        """(2, n) how a scale's optimum moves with every unknown."""
        rows = np.zeros((2, P + 2 * SIZES + 2 * SCALES))
        rows[0, :TERMS] = rows[1, TERMS : 2 * TERMS] = self.frame.design[scale]
        for axis in (0, 1):
            rows[axis, P + 2 * SIZE_OF_SCALE[scale] + axis] = 1
            rows[axis, P + 2 * SIZES + 2 * scale + axis] = 1
        return rows

    def log_density(self, var: Variances) -> float:
        matrix, side = self.whole(var)
        off = self.theta - self.frame.mean
        value = off @ self.frame.precision @ off - side @ np.linalg.solve(matrix, side)
        value += (self.at.size**2 / var.size).sum() + (self.at.scatter**2 / var.scatter).sum()
        value += SIZES * np.log(var.size).sum() + SCALES * np.log(var.scatter).sum()
        return float(-0.5 * (value + np.linalg.slogdet(matrix)[1]))


@pytest.fixture
def written(rng: np.random.Generator) -> Written:
    return Written(rng)


def test_a_step_moves_law_sizes_and_scales_as_the_whole_system_does(written: Written) -> None:
    step, shifts = written.eliminated().step()
    expected = np.linalg.solve(*written.whole())
    np.testing.assert_allclose(
        np.concatenate([step, shifts.size.ravel(), shifts.scatter.ravel()]), expected, atol=1e-12
    )


def test_covariances_are_blocks_of_the_inverse(written: Written) -> None:
    given, cov = written.eliminated(), np.linalg.inv(written.whole()[0])
    np.testing.assert_allclose(given.covariance, cov[:P, :P], atol=1e-12)
    cross, own = given.of_sizes(given.covariance)
    of_scales = given.of_scales(given.covariance)
    for k in range(SIZES):
        at = slice(P + 2 * k, P + 2 * k + 2)
        np.testing.assert_allclose(own[k], cov[at, at], atol=1e-12)
        np.testing.assert_allclose(cross[k], cov[: 2 * TERMS, at], atol=1e-12)
    for c in range(SCALES):
        np.testing.assert_allclose(of_scales[c], written.place(c) @ cov @ written.place(c).T, atol=1e-12)


def test_marginal_densities_compare_as_those_of_the_whole_system(written: Written) -> None:
    other = Variances(scatter=np.array([1.0, 0.5]), size=np.array([0.1, 0.2]))
    found = log_marginals(
        written.frame,
        written.terms,
        written.theta,
        written.at,
        np.array([VARIANCES.scatter, other.scatter]),
        np.array([VARIANCES.size, other.size]),
    )
    for i, scatter in enumerate((VARIANCES.scatter, other.scatter)):
        for j, size in enumerate((VARIANCES.size, other.size)):
            expected = written.log_density(Variances(scatter=scatter, size=size)) - written.log_density(VARIANCES)
            assert found[i, j] - found[0, 0] == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("group", [[1], [2, 3, 4], [0, 5], [5]], ids=["scale", "size", "of two", "size of one"])
def test_without_some_scales(written: Written, group: list[int]) -> None:
    kept = np.setdiff1d(np.arange(SCALES), group)
    expected = np.linalg.solve(*written.whole(scales=kept))
    theta, shift = written.eliminated().without(np.array(group))
    np.testing.assert_allclose(theta - written.theta, expected[:P], atol=1e-12)
    np.testing.assert_allclose((shift - written.at.size).ravel(), expected[P : P + 2 * SIZES], atol=1e-12)
    _, (places,) = left_out(written.eliminated(), [np.array(group)])
    for c, place in zip(group, places, strict=True):
        by_law = [written.frame.design[c] @ theta[:TERMS], written.frame.design[c] @ theta[TERMS : 2 * TERMS]]
        np.testing.assert_allclose(place, by_law + shift[SIZE_OF_SCALE[c]], atol=1e-12)
