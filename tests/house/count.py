"""Lines, functions and imports of `lawfit` and `api`, read from the source.

A line of code is one that holds a token other than a comment or a docstring (of a field, too); blank lines hold none.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
LONG: Final = 60  # lines of a function, docstring included
MANY: Final = 8  # parameters
_NO_CODE: Final = frozenset(
    {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
)
_HAVE_DOCSTRINGS: Final = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(kw_only=True)
class Source:
    """One file."""

    path: str  # from the root, with slashes
    text: str
    tree: ast.Module

    @cached_property
    def code(self) -> int:
        """Lines."""
        return code_lines(self.text, self.tree)

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def room(self) -> str:
        """``lawfit/estimate/loss/law.py`` -> ``lawfit/estimate/loss``; ``lawfit/units.py`` -> ``lawfit``."""
        return self.path.rpartition("/")[0]

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def imports(self) -> Iterator[str]:
        """Absolute names of modules of ours, wherever the import stands."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name.startswith("lawfit"))
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("lawfit"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources(root: Path = ROOT) -> list[Source]:
    found = []
    for folder in ("lawfit", "api"):
        for path in sorted((root / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            found.append(Source(path=path.relative_to(root).as_posix(), text=text, tree=ast.parse(text)))
    return found


def code_lines(text: str, tree: ast.Module) -> int:
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            held.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        if isinstance(node, _HAVE_DOCSTRINGS) and ast.get_docstring(node, clean=False) is not None:
            said = node.body[0]
            held.difference_update(range(said.lineno, (said.end_lineno or said.lineno) + 1))
        if isinstance(node, ast.ClassDef):  # what stands below a field says what it is
            for field in node.body:
                if isinstance(field, ast.Expr) and isinstance(field.value, ast.Constant):
                    held.difference_update(range(field.lineno, (field.end_lineno or field.lineno) + 1))
    return len(held)


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """All that a caller may give; `self` and `cls` are no choice of a caller."""
    given = function.args
    names = [arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"])) + (given.vararg is not None) + (given.kwarg is not None)


def arrows(found: list[Source], room: Callable[[Source], str] = attrgetter("room")) -> Counter[tuple[str, str]]:
    """(room, room) -> imports from the one to the other."""
    rooms = {source.module: room(source) for source in found}
    count: Counter[tuple[str, str]] = Counter()
    for source in found:
        for name in source.imports():
            while name and name not in rooms:
                name = name.rpartition(".")[0]
            if name and rooms[name] != room(source) and name != "lawfit":
                count[room(source), rooms[name]] += 1
    return count
