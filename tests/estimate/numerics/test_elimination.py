"""Deviations eliminated size by size and scale by scale, against the same normal equations written out and inverted."""

from __future__ import annotations

import numpy as np
import pytest

from lawfit.estimate.numerics.elimination import (
    Deviations,
    Eliminated,
    Frame,
    OwnValleys,
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


class TestOwnValleys:
    """Against one system in which every scale has shared coefficients of its own."""

    VAR = np.array([0.4, 0.9])

    @pytest.fixture
    def at(self, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(rng.normal(size=(SCALES, SHARED)))

    def whole(self, written: Written, at: np.ndarray, var: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(matrix, right-hand side) over (law and shared, sizes, scales, own valleys of each scale)."""
        without = P + 2 * SIZES + 2 * SCALES
        n = without + SHARED * SCALES
        matrix, side = np.zeros((n, n)), np.zeros(n)
        fixed, down = written.whole(scales=np.array([], dtype=int))
        matrix[:without, :without], side[:without] = fixed, down
        for c in range(SCALES):
            own = slice(without + SHARED * c, without + SHARED * (c + 1))
            rows = np.zeros((2 + SHARED, n))
            rows[:2, :without] = written.place(c)
            rows[2:, 2 * TERMS : P] = rows[2:, own] = np.eye(SHARED)
            matrix += rows.T @ written.terms.information[c] @ rows
            side += rows.T @ written.terms.gradient[c]
            matrix[own, own] += np.diag(1 / var)
            side[own] -= at[c] / var
        return matrix, side

    def test_a_step_moves_everything_as_the_whole_system_does(self, written: Written, at: np.ndarray) -> None:
        valleys = OwnValleys(written.terms, at, self.VAR)
        step, shifts = Eliminated(written.frame, valleys.averaged, written.theta, written.at, VARIANCES).step()
        x = written.frame.design
        place = np.column_stack([x @ step[:TERMS], x @ step[TERMS : 2 * TERMS]])
        place += shifts.scatter + shifts.size[SIZE_OF_SCALE]
        own = valleys.step(np.column_stack([place, np.tile(step[2 * TERMS :], (SCALES, 1))]))
        expected = np.linalg.solve(*self.whole(written, at, self.VAR))
        found = np.concatenate([step, shifts.size.ravel(), shifts.scatter.ravel(), own.ravel()])
        np.testing.assert_allclose(found, expected, atol=1e-12)

    def test_densities_compare_as_those_of_the_whole_system(self, written: Written, at: np.ndarray) -> None:
        found, expected = [], []
        for var in (self.VAR, self.VAR / 10):
            valleys = OwnValleys(written.terms, at, var)
            scatter, size = VARIANCES.scatter[None], VARIANCES.size[None]
            of_rest = log_marginals(written.frame, valleys.averaged, written.theta, written.at, scatter, size)[0, 0]
            found.append(of_rest - 0.5 * valleys.misfit)
            matrix, side = self.whole(written, at, var)
            value = (at**2 / var).sum() - side @ np.linalg.solve(matrix, side) + np.linalg.slogdet(matrix)[1]
            expected.append(-0.5 * (value + SCALES * np.log(var).sum()))
        assert found[1] - found[0] == pytest.approx(expected[1] - expected[0], abs=1e-10)

    def test_valleys_that_are_the_same_everywhere_change_nothing(self, written: Written) -> None:
        averaged = OwnValleys(written.terms, np.zeros((SCALES, SHARED)), np.full(SHARED, 1e-12)).averaged
        np.testing.assert_allclose(averaged.information, written.terms.information, atol=1e-9)
        np.testing.assert_allclose(averaged.gradient, written.terms.gradient, atol=1e-9)
