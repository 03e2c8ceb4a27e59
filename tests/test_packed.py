"""Columns give back what was put into them, whether cells repeat or not, and tell which rows are equal."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from lawfit.packed import ROWS_AT_ONCE, Column, Texts, groups, members, repeated

MANY = 9 * ROWS_AT_ONCE + 5  # more different cells than a column is kept by
KINDS = {
    "few levels": [f"level {row % 7}" for row in range(MANY)],
    "ids": [f"run-{row}" for row in range(MANY)],
    "ids, one with the sign between them": [*(f"run-{row}" for row in range(MANY)), "a\x1fb"],
    "ids, then nothing": [*(f"run-{row}" for row in range(MANY)), *[None] * ROWS_AT_ONCE],
    "numbers": [row / 7 for row in range(MANY)],
    "equal cells of different types": [1, True, 1.0, "1", 0.0, -0.0, None, ""],
}


@pytest.mark.parametrize("kind", KINDS)
def test_cells_come_back(kind: str) -> None:
    cells, column = KINDS[kind], Column.of(KINDS[kind])
    assert list(map(repr, column)) == list(map(repr, cells))
    assert [repr(column[at]) for at in (0, 3, -1)] == [repr(cells[at]) for at in (0, 3, -1)]
    assert column[2:6] == cells[2:6]
    assert column[-3:] == cells[-3:]
    assert [cell for some in column.pieces(repr) for cell in some] == list(map(repr, cells))


def test_ids_are_kept_in_a_fraction_of_the_memory_of_texts() -> None:
    column = Column.of(KINDS["ids"])
    assert isinstance(column.levels, Texts)
    as_texts = sum(map(sys.getsizeof, KINDS["ids"]))
    assert sum(map(sys.getsizeof, column.levels._blocks)) < as_texts / 4  # 10 signs of an id; an object has 49 more


def test_rows_are_equal_as_their_cells_are() -> None:
    columns = [Column.of(["a", "b", "a", "a"]), Column.of([1, 1, 1.0, 2])]
    assert repeated(columns, 4) == {2: 0}
    numbers, count = groups(columns, 4)
    assert count == 3
    assert [rows.tolist() for rows in members(numbers)] == [[0, 2], [1], [3]]
    assert [rows.tolist() for rows in members(numbers, 2)] == [[0, 2]]


def test_hashes_that_are_equal_by_chance_make_no_rows_equal() -> None:
    assert hash(-1) == hash(-2)
    assert repeated([Column.of([-1, -2, -1])], 3) == {2: 0}


def test_numbers_ascend_without_rows_that_hold_none() -> None:
    assert list(Column.of([3.0, None, 1.0]).ascending()) == [1.0, 3.0]
    assert np.isnan(Column.of([3.0, None]).floats()[1])


def test_texts_are_found_by_numbers_of_numpy() -> None:
    cells = [f"{number:.6f}" for number in range(70_000)]
    column = Column.of(cells)
    assert column.codes is None
    assert [column[at] for at in np.array([0, 69_999, 8_192])] == [cells[0], cells[-1], cells[8_192]]
