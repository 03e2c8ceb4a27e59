"""Tables in Markdown: alone, among prose and other tables, in a tree beside a README."""

from __future__ import annotations

from pathlib import Path

import pytest

from lawfit.errors import LogFormatError
from lawfit.ingest import read_table
from lawfit.ingest.formats import find_sources
from tests.ingest.tables import read, rows, runs, write_csv, write_markdown

TABLE = rows({}, {"learning_rate": "0.004", "final_loss": "3.1"})
OTHER = "| laws | exponents |\n|:-:|--:|\n| a | 0.3 |\n"


@pytest.mark.parametrize("rule", ["---", ":--", "--:", ":-:", " - "])
@pytest.mark.parametrize("before", ["", "# Sweep\n\nProse | with a bar.\n\n", OTHER + "\n"])
@pytest.mark.parametrize("bars", [True, False], ids=["bars", "no outer bars"])
@pytest.mark.parametrize("mark", ["{}", "**{}**", "`{}`", "  {}  "])
def test_however_it_is_written(tmp_path: Path, rule: str, before: str, bars: bool, mark: str) -> None:
    marked = [{name: mark.format(cell) for name, cell in row.items()} for row in TABLE]
    text = write_markdown(tmp_path / "a.md", marked).read_text().replace("---", rule)
    if not bars:
        text = "".join(f"{line.strip('| ')}\n" for line in text.splitlines())
    (tmp_path / "a.md").write_text(f"{before}{text}\nThe end.\n")
    found = read(tmp_path / "a.md")
    assert [run.lr for run in runs(found)] == [0.002, 0.004]
    assert found.rejections == ()
    assert any("has others, in line 1" in note for note in found.notes) == (before == OTHER + "\n")


def test_a_bar_in_a_cell_and_a_ragged_row(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("| name | loss |\n|--|--|\n| a \\| b | 3 |\n| c | 2 | 1 |\n")
    table = read_table(tmp_path / "a.md")
    assert [cells for _, cells in table.rows] == [("a | b", "3")]
    assert [(each.line, each.reason[:20]) for each in table.rejections] == [(4, "the row has 3 cells,")]


def test_in_a_tree_prose_and_other_tables_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"# Title\n\n{OTHER}")
    (tmp_path / "CHANGES.md").write_text("Nothing.\n")
    write_csv(tmp_path / "sweep.csv", TABLE)
    (tmp_path / "notes").mkdir()
    write_markdown(tmp_path / "notes" / "sweep.md", TABLE)
    found = {(source.format, source.name) for source in find_sources(tmp_path)}
    assert found == {("csv", "sweep.csv"), ("markdown", "sweep.md")}


def test_a_file_without_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Title\n\nProse.\n")
    with pytest.raises(LogFormatError, match="no table with a rule of dashes"):
        read_table(tmp_path / "a.md", "markdown")
