"""The example notebook runs from its first cell to its last, and each figure of it is one."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from plotly.graph_objects import Figure

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"


def last_value(source: str, names: dict[str, Any]) -> Any:
    """What a cell shows: runs it, and gives the value of its last line."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK), "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)


@pytest.mark.slow
def test_every_cell_runs_and_shows_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    figures = 0
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        source = "".join(cell["source"])
        shown = last_value(source, names)
        if "plots.plot_" in source:
            assert isinstance(shown, Figure), source
            assert len(shown.data) > 0
            figures += 1
        else:
            assert shown is None or shown._repr_html_()
    assert figures == 7
