"""What a client of the service hears names no command and no option: it has no terminal."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lawfit.errors import NoFit
from lawfit.findings import finding
from lawfit.words import over_http, tell

WORDS = Path(__file__).parent.parent / "lawfit" / "words"
TYPED = re.compile(r"\blawfit [a-z]+\b|(?<![\w-])--[a-z]")
# Said by commands alone: of files that are read, budgets and tables that no route has.
COMMANDS_ALONE = frozenset({"ingest.py", "schedules.py", "rules.py", "compare.py", "laws.py", "plan.py"})


def typed_to_clients(tree: ast.AST) -> Iterator[str]:
    """Sentences with something to type that do not stand under `terminal=`."""
    terminal = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "terminal"
        for inner in ast.walk(node.value)
    }
    names = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) in terminal
    }  # a function or a text that only a terminal's sentence uses
    kept = {
        id(inner)
        for node in ast.walk(tree)
        if (isinstance(node, ast.FunctionDef) and node.name in names)
        for inner in ast.walk(node)
    }
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if id(node) in terminal | kept | documented or not isinstance(node, ast.Constant):
            continue
        if isinstance(node.value, str) and TYPED.search(node.value):
            yield f"line {node.lineno}: {node.value[:80]}"


@pytest.mark.parametrize("name", sorted(path.name for path in WORDS.glob("*.py") if path.name not in COMMANDS_ALONE))
def test_no_commands(name: str) -> None:
    assert list(typed_to_clients(ast.parse((WORDS / name).read_text(encoding="utf-8")))) == []


def test_one_finding_is_told_in_two_ways() -> None:
    found = finding("store.no_runs", database="/srv/secret.db")
    assert tell(found) == "/srv/secret.db holds no runs yet; start with lawfit ingest FILE"
    with over_http():
        assert tell(found) == "there are no runs yet; log some, or upload a table of runs"
        assert "secret" not in str(NoFit(finding("store.no_fit", fit_id="f", database="/srv/secret.db")))
    assert "secret" in str(NoFit(finding("store.no_fit", fit_id="f", database="/srv/secret.db")))
