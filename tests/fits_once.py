"""The same fit is computed once in a run of the tests: of equal evidence, asked with equal options, by the same code.

Command line, notebook, REST and pages are tested on the same sweeps, and many tests only need a fit to be there. What
`pipeline.fitting` computes for one is kept for the others, of whichever worker. A test that replaces anything of the
rooms that estimate gets fits of its own, unless these are plain numbers, with which fits are kept apart; so do a test
that asks for `fits_anew`, and one that calls `analyse` or `fit_all_laws` itself.
"""

from __future__ import annotations

import hashlib
import pickle
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Final
from unittest import mock

import numpy as np

from tests.made_once import made_once
from tests.steps import ASKED

ROOMS: Final = ("lawfit.estimate", "lawfit.kinds", "lawfit.laws")  # whose code makes a fit
KEPT: Final = (("lawfit.kinds.fitting", "fit_all_laws"), ("lawfit.estimate.lr_batch.analysis", "analyse"))
KEEPS = True

Place = tuple[str, ...]  # module and name; of a class also the name in it


@contextmanager
def fits_once() -> Iterator[None]:
    """Keep what the functions of `KEPT` compute."""
    if ASKED:  # what is watched goes with the process
        yield
        return
    modules = [module for room in ROOMS for module in _modules_of(import_module(room))]
    plain = _contents(modules)
    with ExitStack() as stack:
        for module, name in KEPT:
            stack.enter_context(mock.patch(f"{module}.{name}", _kept(name, plain[module, name], modules, plain)))
        yield


def _kept(
    name: str, compute: Callable[..., Any], modules: list[ModuleType], plain: Mapping[Place, object]
) -> Callable[..., Any]:
    def kept(*given: Any, progress: Callable[[str, float], None] | None = None, **named: Any) -> Any:
        with_progress = {} if progress is None else {"progress": progress}
        replaced = _replaced(plain, _contents(modules)) if KEEPS else None
        if replaced is None:
            return compute(*given, **named, **with_progress)
        told: list[tuple[str, float]] = []

        def make(path: Any) -> None:
            note = {} if progress is None else {"progress": lambda *said: told.append(said)}
            found = compute(*given, **named, **note)
            path.write_bytes(pickle.dumps((found, told)))

        key = hashlib.sha256()
        _write([name, replaced, given, named, progress is None], key.update)
        found, said = pickle.loads(made_once(f"{name}-{key.hexdigest()}", make).read_bytes())
        for each in said:
            with_progress["progress"](*each)
        return found

    return kept


def _modules_of(room: ModuleType) -> Iterator[ModuleType]:
    yield room
    for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
        yield import_module(found.name)


def _contents(modules: list[ModuleType]) -> dict[Place, object]:
    """What stands in some modules, and in their classes."""
    found: dict[Place, object] = {}
    for module in modules:
        for name, value in vars(module).items():
            found[module.__name__, name] = value
            if isinstance(value, type) and value.__module__ == module.__name__:
                found |= {(module.__name__, name, part): each for part, each in vars(value).items()}
    return found


def _replaced(plain: Mapping[Place, object], now: Mapping[Place, object]) -> dict[Place, object] | None:
    """Numbers that stand elsewhere than they did; None where something else does."""
    found = {place: now.get(place) for place, value in plain.items() if now.get(place) is not value}
    for kept in KEPT:
        found.pop(kept, None)
    return found if all(isinstance(value, int | float) for value in found.values()) else None


def _write(value: Any, write: Callable[[bytes], None]) -> None:
    """A value in bytes that are the same for equal values, whatever they share."""
    if isinstance(value, np.ndarray):
        write(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    elif is_dataclass(value) and not isinstance(value, type):
        write(type(value).__name__.encode())
        # but not the file and line that a run came from, which no estimate looks at
        _write([getattr(value, field.name) for field in fields(value) if field.name != "source"], write)
    elif isinstance(value, Mapping):
        _write([*value.items()], write)
    elif isinstance(value, list | tuple):
        write(f"[{len(value)}".encode())
        for each in value:
            _write(each, write)
    else:
        assert value is None or isinstance(value, int | float | str), type(value)
        write(f"{type(value).__name__} {value!r};".encode())
