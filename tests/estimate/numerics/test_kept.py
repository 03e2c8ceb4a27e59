"""What is made once for each object: by which it is, not by what it says, and only so many."""

from __future__ import annotations

from lawfit.estimate.numerics.kept import MOST, once_for_each


def test_the_same_object_is_asked_once_and_its_like_again() -> None:
    asked: list[list[int]] = []

    @once_for_each
    def total(numbers: list[int]) -> int:
        asked.append(numbers)
        return sum(numbers)

    one, like = [1, 2], [1, 2]
    assert [total(one), total(one), total(like), total(one)] == [3, 3, 3, 3]
    assert len(asked) == 2
    assert asked[0] is one
    assert asked[1] is like


def test_only_so_many_are_kept() -> None:
    asked: list[list[int]] = []
    many = [[number] for number in range(MOST + 1)]
    first = once_for_each(lambda numbers: (asked.append(numbers), numbers[0])[1])
    assert [first(numbers) for numbers in [*many, many[-1], many[0]]] == [*range(MOST + 1), MOST, 0]
    assert len(asked) == MOST + 2  # the first had been forgotten, the last not
