"""The README names every command and every published law."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lawfit.cli.app import ORDER
from lawfit.pipeline import list_laws

README = Path(__file__).resolve().parent.parent / "README.md"


@pytest.mark.parametrize("command", ORDER)
def test_readme_names_the_command(command: str) -> None:
    assert re.search(rf"\blawfit (--\S+ \S+ )?{command}\b", README.read_text(encoding="utf-8"))


@pytest.mark.parametrize("law", [law["id"] for law in list_laws()])
def test_readme_names_the_law(law: str) -> None:
    assert re.search(rf"`{law}`", README.read_text(encoding="utf-8"))
