"""What every function gave on the way: a net under the golden net, so that no step of an estimate moves unnoticed.

A document holds what is stored; much is computed on the way there that shows in it too little to be noticed. While a
recipe is fitted, the first calls of each function of `ROOMS` are summed up, each in one number of all that it
returned; tests/golden/steps keeps them. What differs between processors (tried by their kernels, `KERNELS`)
is left out when they are kept: ``pytest --update-golden``. A function that has gone, or is new, is no difference.
"""

from __future__ import annotations

import dataclasses
import gc
import inspect
import json
import math
import os
import platform
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import numpy as np
import pytest

from tests.golden_numbers import ID

ROOT: Final = Path(__file__).parents[1]
KEPT: Final = Path(__file__).parent / "golden" / "steps"
PROCESSOR: Final = KEPT / "processor.txt"
ROOMS: Final = ("estimate", "advise", "laws")
CALLS: Final = 3  # of each function, the first ones: how often an optimizer asks depends on the processor
LEAVES: Final = 300  # numbers of what is returned
NEAR: Final = 3e-5  # of all that is summed up: one of thirty numbers may move by 1 %
SHAKEN: Final = "LAWFIT_TEST_SHAKEN"  # seed of a memory where arrays lie elsewhere: their sums are rounded by that
KERNELS: Final[tuple[Mapping[str, str], ...]] = (
    {},
    {SHAKEN: "1"},
    {SHAKEN: "2", "OPENBLAS_CORETYPE": "Haswell"},
    {SHAKEN: "3", "OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"},
)
# How a search went, which of equal starts agreed, how a law came out without a scale where that leaves it open: what
# `golden_numbers.UNSTEADY` leaves out of documents.
UNSTEADY: Final = frozenset(
    {"search", "agreeing", "spread", "gradient_norm", "converged", "resamples_agreeing", "resamples_converged"}
    | {"influence", "reasons", "warnings", "certificate", "sensitivity", "standing", "stands"}
)
UNSTEADY_FUNCTIONS: Final = re.compile(r"search_report|_reasons|_warnings|same_minim|certif|_influence|agree")
ASKED: Final = bool(os.environ.get("LAWFIT_TEST_STEPS"))
only_asked = pytest.mark.skipif(
    not ASKED, reason="LAWFIT_TEST_STEPS=1 looks at every step on the way (two minutes more)"
)
_WEIGHTS: Final = np.random.default_rng(0).uniform(0.5, 1.5, 2 * LEAVES)
_SPREAD: Final = np.random.default_rng(1).uniform(-1, 1, 4096)

Step = tuple[float, float]  # the sum over what a call returned, and that of absolute values


class Steps:
    """Calls of functions as they return: name -> how many, and the sums of the first ones."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[int, list[Step]]] = {}
        self._names: dict[CodeType, str] = {}

    def __call__(self, frame: FrameType, event: str, given: object) -> None:
        if event != "return":
            return
        code = frame.f_code
        name = self._names.get(code)
        if name is None:
            name = self._names[code] = name_of(code)
        if not name:
            return
        count, steps = self.found.get(name, (0, []))
        if count < CALLS:
            steps.append(summed(given))
        self.found[name] = (count + 1, steps)


def name_of(code: CodeType) -> str:
    """``lawfit.estimate.loss.fit:LossFit.predict``; empty for what lies elsewhere."""
    path = Path(code.co_filename)
    parts = path.parts
    if not code.co_flags & inspect.CO_OPTIMIZED or UNSTEADY_FUNCTIONS.search(code.co_qualname):  # the body of a class
        return ""
    if "lawfit" not in parts or "<" in code.co_qualname.replace("<locals>", ""):
        return ""
    at = len(parts) - 1 - parts[::-1].index("lawfit")
    if len(parts) <= at + 1 or parts[at + 1] not in ROOMS:
        return ""
    return f"{'.'.join((*parts[at:-1], path.stem))}:{code.co_qualname}"


def summed(given: object) -> Step:
    """One number of all the numbers in a value, by their logarithms, and how large it could be."""
    numbers = np.fromiter(_first(given), dtype=float, count=-1)
    sized = np.sign(numbers) * np.log1p(np.abs(numbers) * 1e6)
    weights = _WEIGHTS[: len(sized)]
    return float(weights @ sized), float(weights @ np.abs(sized))


def _first(given: object) -> Iterator[float]:
    for count, number in enumerate(_leaves(given, 0)):
        if count == LEAVES:
            return
        yield number if math.isfinite(number) else 1e9


def _leaves(value: object, depth: int) -> Iterator[float]:
    if depth > 5:
        return
    if value is None:
        yield 0.3
    elif isinstance(value, bool | np.bool_):
        yield 2.0 + bool(value)
    elif isinstance(value, int | float | np.number):
        yield float(value) if abs(value) < 1e300 else 1e9
    elif isinstance(value, str):
        told = (
            " " in value or len(value) > 40 or ID.fullmatch(value)
        )  # a sentence, or names a fit: of a hash of the code
        yield 0.7 if told else 1.0 + zlib.crc32(value.encode()) % 1000
    elif isinstance(value, np.ndarray):
        yield from _of_array(value)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            if key not in UNSTEADY:
                yield from _leaves(value[key], depth + 1)
    elif isinstance(value, list | tuple):
        for each in value[:40]:
            yield from _leaves(each, depth + 1)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if field.name not in UNSTEADY and type(value).__name__ not in ("Search", "Certificate"):
                yield from _leaves(getattr(value, field.name), depth + 1)


def _of_array(value: np.ndarray) -> Iterator[float]:
    yield float(value.size)
    if value.dtype.kind not in "biuf" or not value.size:
        return
    flat = np.nan_to_num(value.ravel().astype(float), nan=1e9, posinf=1e9, neginf=-1e9)
    if flat.size <= 16:
        yield from flat.tolist()
        return
    yield from (float(flat.mean()), float(flat.std()), float(flat[0]), float(flat[-1]))
    some = flat[:4096]
    yield float(_SPREAD[: some.size] @ some)


@contextmanager
def watched() -> Iterator[Steps]:
    """Everything that returns while this lasts; what was remembered before is forgotten, so that it is made again."""
    if not ASKED:
        yield Steps()
        return
    remembering: dict[type, list[str]] = {}
    for name, module in list(sys.modules.items()):
        for each in list(vars(module).values()) if name.startswith("lawfit.") else ():
            if hasattr(each, "cache_clear"):
                each.cache_clear()
            if isinstance(each, type) and (
                kept := [k for k, v in vars(each).items() if isinstance(v, cached_property)]
            ):
                remembering[each] = kept
    gc.unfreeze()  # a command that ran before keeps what was there from being looked at
    for each in [each for each in gc.get_objects() if type(each) in remembering]:
        for name in remembering[type(each)]:
            vars(each).pop(name, None)
    gc.freeze()
    steps, before = Steps(), sys.getprofile()
    sys.setprofile(steps)
    try:
        yield steps
    finally:
        sys.setprofile(before)


def check(name: str, steps: Steps, *, update: bool) -> None:
    """Compare with what was kept, or keep what is alike by all kernels: `tests.watched` makes the same by this name.

    Raises
    ------
    AssertionError
        Functions gave something else: which.
    """
    path = KEPT / f"{name}.json"
    if update:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = [_elsewhere(name, kernel) for kernel in KERNELS]
        kept = {function: steady([each.get(function) for each in found]) for function in sorted(found[0])}
        lines = [f"{json.dumps(function)}: {json.dumps(row)}" for function, row in kept.items() if any(row)]
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        PROCESSOR.write_text(f"{processor()}\n", encoding="utf-8")
        return
    kept_on = PROCESSOR.read_text(encoding="utf-8").strip()
    if kept_on != processor():
        pytest.skip(f"kept on {kept_on}, this is {processor()}: pytest --update-golden -k step keeps them here")
    now = as_json(steps)
    apart = []
    for function, row in json.loads(path.read_text(encoding="utf-8")).items():
        if function not in now:
            apart += [f"{function} is not called any more"] if exists(function) else []
        elif (k := differs(row, now[function])) is not None:
            apart.append(
                f"{function}: call {k + 1}" if k >= 0 else f"{function}: {now[function][0]} calls, not {row[0]}"
            )
    assert not apart, f"{len(apart)} functions gave something else (--update-golden keeps it): " + "; ".join(apart[:12])


def processor() -> str:
    """Make and abilities of this one: on another, a tie among 25,000 numbers may fall elsewhere."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    lines = dict(map(str.strip, line.split(":", 1)) for line in told.splitlines() if ":" in line)
    flags = " ".join(sorted(lines.get("flags", lines.get("Features", "")).split()))
    return f"{lines.get('model name', platform.machine())} ({zlib.crc32(flags.encode()):08x})"


def as_json(steps: Steps) -> dict[str, list[Any]]:
    """name -> [calls, sum of the first, its size, sum of the second, ...]."""
    return {name: [count, *(x for step in found for x in step)] for name, (count, found) in steps.found.items()}


def steady(rows: list[list[Any] | None]) -> list[Any]:
    """[calls, sums...]; None for what kernels do not agree on."""
    first = rows[0]
    assert first is not None
    if any(row is None for row in rows):
        return [None]
    calls = first[0] if all(row is not None and row[0] == first[0] for row in rows) else None
    sums = [
        round(first[k], 6) if all(row is not None and len(row) > k + 1 and _near(first[k], row[k], first[k + 1] / 10)
                                  for row in rows) else None
        for k in range(1, len(first), 2)
    ]  # fmt: skip
    return [calls, *sums]


def differs(kept: list[Any], now: list[Any]) -> int | None:
    """The first call that gave something else; -1: their number; None: nothing."""
    for k, total in enumerate(kept[1:]):
        at = 1 + 2 * k
        if total is not None and (at >= len(now) or not _near(total, now[at], now[at + 1])):
            return k
    return -1 if kept[0] is not None and kept[0] != now[0] else None


def _near(one: float, other: float, size: float) -> bool:
    return abs(one - other) <= NEAR * size + 1e-5


def exists(function: str) -> bool:
    """Whether the code still has it. What is made inside of another function counts as gone."""
    module, _, name = function.partition(":")
    try:
        at: Any = import_module(module)
    except ImportError:
        return False
    for part in name.split("."):
        at = at.__dict__.get(part) if isinstance(at, type) else getattr(at, part, None)
        if at is None:
            return False
    return True


def shaken() -> list[np.ndarray]:
    """What to keep while the steps are made, so that arrays lie elsewhere in memory; nothing where nobody asks."""
    rng = np.random.default_rng(int(os.environ.get(SHAKEN, "0")))
    made = [np.zeros(int(size)) for size in rng.integers(1, 400, 20_000 if os.environ.get(SHAKEN) else 0)]
    return made[:: int(rng.integers(2, 5))]


def _elsewhere(name: str, kernel: Mapping[str, str]) -> dict[str, Any]:
    """The same in a process of its own, with other kernels."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.watched", name],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **kernel},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
