"""Faults that `make mutants` puts into the code: each is one, and nothing but that place changes."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.mutants import __main__ as campaign
from tests.mutants.__main__ import ROOT, draw, stages
from tests.mutants.faults import faults_of
from tests.mutants.touched import Touched

SOURCE = b"""
def spread(x: int, weights=(0.5, 0.5), *, floor: float = -1e-3) -> float:
    'A docstring, 1 + 1.'
    if not len(x) > 2 and floor < 0:
        raise ValueError(f"{x + 1} of them")
    total = np.sqrt(sum(w * v**2 for w, v in zip(weights, x)) + floor)
    total += 1
    return max(total, floor)
"""


def test_every_kind_of_fault_is_found() -> None:
    said = [str(fault) for fault in faults_of("x.py", SOURCE)]
    for words in (
        "x.py:4: edge: > in len(x) > 2 -> >=",
        "x.py:4: logic: and in not len(x) > 2 and floor < 0 -> or",
        "x.py:4: logic: not len(x) > 2 -> len(x) > 2",
        "x.py:4: removed guard: not len(x) > 2 and floor < 0 -> False",
        "x.py:4: number: 2 -> 3",
        "x.py:2: number: 0.5 -> 0.75",
        "x.py:2: sign: -1e-3 -> 1e-3",
        "x.py:6: another function: np.sqrt -> (nothing)",
        "x.py:6: operator: * in w * v**2 -> /",
        "x.py:6: operator: ** in v**2 -> *",
        "x.py:7: operator: += in total += 1 -> -=",
        "x.py:8: another function: max -> min",
    ):
        assert words in said
    assert any(words.startswith("x.py:6: dropped term") and words.endswith("zip(weights, x))") for words in said)
    assert not any(words.startswith(("x.py:3", "x.py:5")) for words in said)  # words that are shown


@pytest.mark.parametrize("path", ["lawfit/estimate/numerics/elimination.py", "lawfit/units.py", "api/app.py"])
def test_a_faulty_file_is_another_program_that_can_be_read(path: str) -> None:
    source = (ROOT / path).read_bytes()
    whole = ast.dump(ast.parse(source))
    found = faults_of(path, source)
    assert found
    for fault in found:
        assert ast.dump(ast.parse(fault.put_into(source))) != whole, fault


def test_a_seed_draws_the_same_faults() -> None:
    one, other, another = (draw(["lawfit/advise"], 10, seed) for seed in (1, 1, 2))
    assert one == other != another
    assert {Path(fault.path).parts[:2] for fault in one} == {("lawfit", "advise")}


def test_what_survived_can_be_shown_again() -> None:
    one, other = draw(["lawfit/advise"], 2, 7)
    printed = f"SURVIVED: {one}\nnoticed by x: {other}\nSURVIVED: lawfit/gone.py:1: sign: -a -> a\n"
    assert campaign.survived(printed) == [one]


def test_what_no_test_of_this_machine_reaches_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    every = draw(["lawfit/train"], 10**6, 1)
    kept = draw(["lawfit/train"], 10**6, 1, campaign.KERNELS)
    assert {fault.path for fault in every} - {fault.path for fault in kept} == set(campaign.KERNELS)
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    assert list(campaign.out_of_reach()) == ["lawfit/train/"]
    assert draw(["lawfit/train"], 5, 1, ("lawfit/train/",)) == []


def test_a_fault_is_shown_to_its_modules_tests_then_the_net_then_the_quickest_as_long_as_patience_lasts() -> None:
    names = ("lr_batch/test_surface", "lr_batch/test_ensemble", "test_golden_fits", "lr_batch/test_windows")
    own, slow, net, quick, elsewhere = (f"tests/estimate/{name}.py" for name in (*names, "lr_batch/test_lacking"))
    path = "lawfit/estimate/lr_batch/surface.py"
    touched = Touched(
        seconds={own: 30.0, slow: 50.0, net: 20.0, quick: 4.0, elsewhere: 1.0},
        lines={name: {path: [7]} for name in (own, slow, net, quick)} | {elsewhere: {path: [8]}},
    )
    (fault,) = (f for f in faults_of(path, b"\n" * 6 + b"x = 1 + y\n") if f.kind == "operator")
    shown = [tests for (tests,) in campaign.reached(fault, ROOT, touched, float("inf"))]
    assert shown[:4] == [own, net, quick, slow]  # then those that name the module
    assert elsewhere not in shown[:4]
    assert [tests for (tests,) in campaign.reached(fault, ROOT, touched, 5.0)] == [own, net, quick]
    assert campaign.reached(fault, ROOT, touched, 1.0) == [[own], [net]]


def test_tests_of_the_module_run_first() -> None:
    own, net, near, rest = stages("lawfit/estimate/lr_batch/surface.py", ROOT)
    assert own == ["tests/estimate/lr_batch/test_surface.py"]
    assert net == ["tests/estimate/test_golden_fits.py"]
    assert "tests/estimate/lr_batch/test_ensemble.py" in near
    assert not {*own, *near} & set(rest)
    of_api = [test for stage in stages("api/app.py", ROOT) for test in stage]
    assert all(test.startswith(("tests/api/", "tests/dashboard/")) for test in of_api)
