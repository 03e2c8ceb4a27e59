"""The house as it is drawn and counted: no circle of rooms, and a picture that shows today's imports."""

from __future__ import annotations

import ast

import pytest

from tests.house.count import Source, arrows, code_lines, parameters, sources
from tests.house.picture import PICTURE, draw, implied, layers, rooms


def test_no_rooms_import_each_other_in_a_circle() -> None:
    between = rooms(sources())
    level = layers(between)
    assert all(level[one] > level[other] for one, others in between.items() for other in others)
    with pytest.raises(ValueError, match="a circle of imports: one -> other -> one"):
        layers({"one": {"other": 1}, "other": {"one": 1}})


def test_the_picture_shows_todays_imports() -> None:
    """Where it does not: python -m tests.house.picture."""
    assert PICTURE.read_text(encoding="utf-8") == draw(sources())


def test_an_arrow_that_others_imply_is_not_drawn() -> None:
    between = {"top": {"middle": 1, "bottom": 3}, "middle": {"bottom": 1}, "bottom": {}}
    assert implied(between, "top", "bottom")
    assert not implied(between, "top", "middle")


def test_lines_of_code_are_those_that_do_something() -> None:
    text = (
        '"""Doc\nstring."""\n\n# comment\nx = (  # one\n    1\n)\n\n\ndef f(a, *, b=2):\n    """Doc."""\n    return a\n'
    )
    tree = ast.parse(text)
    assert code_lines(text, tree) == 5
    (function,) = Source(path="lawfit/x.py", text=text, tree=tree).functions()
    assert parameters(function) == 2


def test_imports_count_between_rooms_wherever_they_stand() -> None:
    def made(path: str, text: str) -> Source:
        return Source(path=path, text=text, tree=ast.parse(text))

    found = [
        made(
            "lawfit/advise/a.py", "from lawfit.laws import power\ndef f():\n    from lawfit.laws.power import INPUTS\n"
        ),
        made("lawfit/laws/power.py", "import numpy\n"),
        made("lawfit/laws/__init__.py", ""),
    ]
    assert dict(arrows(found)) == {("lawfit/advise", "lawfit/laws"): 2}
