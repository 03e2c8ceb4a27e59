"""Small faults that one could make in a source file: a sign, a factor, a dropped term, an edge, a missing guard."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

OPERATORS: Final[dict[type[ast.operator], tuple[str, str]]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.Pow: ("**", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
}
COMPARISONS: Final[dict[type[ast.cmpop], tuple[str, str]]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
}
CALLS: Final = {
    "max": "min",
    "min": "max",
    "np.maximum": "np.minimum",
    "np.minimum": "np.maximum",
    "np.fmax": "np.fmin",
    "np.sqrt": "",  # the root forgotten: a variance in place of a standard deviation
}


@dataclass(frozen=True, kw_only=True, order=True)
class Fault:
    """Bytes of a file to be replaced."""

    path: str
    start: int
    end: int
    after: str
    kind: str
    line: int
    before: str

    def put_into(self, source: bytes) -> bytes:
        return source[: self.start] + self.after.encode() + source[self.end :]

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind}: {' '.join(self.before.split())} -> {self.after or '(nothing)'}"


def faults_of(path: str, source: bytes) -> list[Fault]:
    """All faults that can be put into a file, in the order of its text."""
    return sorted(_Finder(path, source).found())


class _Finder:
    def __init__(self, path: str, source: bytes) -> None:
        self.path, self.source = path, source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def found(self) -> Iterator[Fault]:
        pending: list[ast.AST] = [ast.parse(self.source)]
        while pending:
            node = pending.pop()
            if isinstance(node, ast.JoinedStr | ast.Assert):  # places inside f-strings are not told exactly
                continue
            yield from self._at(node)
            pending += [child for child in ast.iter_child_nodes(node) if child not in _annotations(node)]

    def _at(self, node: ast.AST) -> Iterator[Fault]:
        match node:
            case ast.BinOp() if type(node.op) in OPERATORS:
                yield from self._swap(node.left, node.right, *OPERATORS[type(node.op)], "operator")
                if isinstance(node.op, ast.Add | ast.Sub) and not _is_text(node):
                    yield self._fault(node, self._text(node.left), "dropped term")
            case ast.AugAssign() if isinstance(node.op, ast.Add) and not _is_text(node.value):
                yield from self._swap(node.target, node.value, "+=", "-=", "operator")
            case ast.Compare() if len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
                yield from self._swap(node.left, node.comparators[0], *COMPARISONS[type(node.ops[0])], "edge")
            case ast.BoolOp():
                words = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
                yield from self._swap(node.values[0], node.values[1], *words, "logic")
            case ast.UnaryOp() if isinstance(node.op, ast.USub | ast.Not):
                yield self._fault(node, self._text(node.operand), "sign" if isinstance(node.op, ast.USub) else "logic")
            case ast.Constant(value=bool() | None):
                return
            case ast.Constant(value=int() as number):
                yield self._fault(node, str(number + 1), "number")
            case ast.Constant(value=float() as number):
                yield self._fault(node, repr(1.5 * number or 1.0), "number")
            case ast.If(body=[ast.Raise() | ast.Return() | ast.Continue()], orelse=[]):
                yield self._fault(node.test, "False", "removed guard")
            case ast.Call() if (name := self._text(node.func)) in CALLS:
                yield self._fault(node.func, CALLS[name], "another function")

    def _swap(self, left: ast.AST, right: ast.AST, before: str, after: str, kind: str) -> Iterator[Fault]:
        start, end = self._span(left)[1], self._span(right)[0]
        at = self.source.find(before.encode(), start, end)
        if at >= 0:
            whole = self._text(left, right)
            yield self._of(at, at + len(before), after, kind, f"{before} in {whole}")

    def _fault(self, node: ast.AST, after: str, kind: str) -> Fault:
        return self._of(*self._span(node), after, kind, self._text(node))

    def _of(self, start: int, end: int, after: str, kind: str, before: str) -> Fault:
        line = self.source.count(b"\n", 0, start) + 1
        return Fault(path=self.path, start=start, end=end, after=after, kind=kind, line=line, before=before)

    def _span(self, node: ast.AST) -> tuple[int, int]:
        """Byte offsets."""
        at = vars(node)
        return self.starts[at["lineno"] - 1] + at["col_offset"], self.starts[at["end_lineno"] - 1] + at[
            "end_col_offset"
        ]

    def _text(self, node: ast.AST, until: ast.AST | None = None) -> str:
        return self.source[self._span(node)[0] : self._span(until or node)[1]].decode()


def _is_text(node: ast.AST) -> bool:
    return any(isinstance(x, ast.JoinedStr) or isinstance(getattr(x, "value", None), str) for x in ast.walk(node))


def _annotations(node: ast.AST) -> list[ast.AST]:
    return [x for name in ("annotation", "returns", "decorator_list") if (x := getattr(node, name, None)) is not None]
