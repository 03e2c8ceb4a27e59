"""The documentation names every command and every published law, and what it points at is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lawfit.cli.app import ORDER
from lawfit.pipeline import list_laws

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ORDER)
def test_a_command_is_documented(command: str) -> None:
    assert re.search(rf"\blawfit (--\S+ \S+ )?{command}\b", text_of("docs/commands.md"))


@pytest.mark.parametrize("law", [law["id"] for law in list_laws()])
def test_a_law_is_listed(law: str) -> None:
    assert re.search(rf"`{law}`", text_of("docs/laws.md"))


def test_the_readme_is_read_in_minutes() -> None:
    assert len(text_of("README.md").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_points_at_is_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m (tests\.[a-z_.]+)", text_of("docs/figures.md")))))
def test_a_figure_has_its_command(module: str) -> None:
    path = ROOT / module.replace(".", "/")
    assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
