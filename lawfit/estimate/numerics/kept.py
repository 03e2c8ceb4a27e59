"""What follows from stored numbers alone, made once: answers of one fit ask for the same again and again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import Final, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")

MOST: Final = 16


def once_for_each(make: Callable[[Given], Made]) -> Callable[[Given], Made]:
    """`make`, what it gave last kept by which very object it was given: stored JSON is read, never changed, and too
    large to compare."""
    kept: OrderedDict[int, tuple[Given, Made]] = OrderedDict()  # with what was given, so that no other has its id
    lock = Lock()

    @wraps(make)
    def found(given: Given) -> Made:
        with lock:
            if (before := kept.get(id(given))) is not None:
                kept.move_to_end(id(given))
                return before[1]
        made = make(given)
        with lock:
            kept[id(given)] = given, made
            while len(kept) > MOST:
                kept.popitem(last=False)
        return made

    return found
