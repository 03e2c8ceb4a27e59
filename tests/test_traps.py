"""The twelve traps that fitting tools fall into: each has tests that hold the right answer or the right refusal.

A test that is renamed or taken out is seen here.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

TRAPS: dict[str, tuple[str, ...]] = {
    "1 reweighting that stops early and says converged": (
        "estimate/loss/test_traps.py: test_trap_1_outliers_are_fitted_to_convergence",
    ),
    "2 all runs on one line of tokens and parameters": (
        "estimate/loss/test_traps.py: TestTrap2",
        "estimate/lr_batch/test_certificate.py: TestScalesOnOneLine",
    ),
    "3 exponents on a grid": ("estimate/loss/test_traps.py: test_trap_3_resampled_exponents_are_not_on_a_grid",),
    "4 tolerances that depend on the scale of the objective": (
        "estimate/loss/test_traps.py: test_trap_4_the_scale_of_the_objective_does_not_matter",
    ),
    "5 a vertex outside the sweep": (),
    "6 rows that are not independent": (
        "estimate/loss/test_traps.py: test_trap_6_checkpoints_of_one_run_are_one_piece_of_evidence",
        "estimate/loss/test_traps.py: test_trap_6_fewer_clusters_than_parameters_give_no_interval",
    ),
    "7 recipes pooled": ("advise/test_every_law.py: TestConventions",),
    "8 sequences taken for tokens": (),
    "9 diverged runs dropped": ("estimate/loss/test_traps.py: test_trap_9_a_diverged_run_is_refused_and_not_dropped",),
    "10 an asymptote left free on a narrow range": ("estimate/loss/test_traps.py: TestTrap10",),
    "11 evaluation losses on another metric's steps": (),
    "12 a law extrapolated where residuals curve": (
        "estimate/loss/test_traps.py: test_trap_12_a_law_that_curves_says_so",
    ),
}


@cache
def names_of(file: str) -> dict[str, str]:
    """Name -> docstring of every test function and class of a module."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    found = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef))
    return {node.name: ast.get_docstring(node) or "" for node in found}


def saying(number: str) -> list[str]:
    """Tests whose docstring begins with the trap's number."""
    files = [path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py")]
    return [
        f"{file}: {name}"
        for file in files
        for name, words in names_of(file).items()
        if words.startswith((f"Trap {number}:", f"Trap {number}."))
    ]


@pytest.mark.parametrize("trap", TRAPS)
def test_each_trap_has_its_tests(trap: str) -> None:
    for place in TRAPS[trap]:
        file, name = place.split(": ")
        assert name in names_of(file), place
    assert [*TRAPS[trap], *saying(trap.split(" ")[0])], "no test at all"


def test_there_are_twelve() -> None:
    assert [int(name.split(" ")[0]) for name in TRAPS] == list(range(1, 13))
