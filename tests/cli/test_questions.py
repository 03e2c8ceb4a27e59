"""Questions of an ingest on a terminal."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from lawfit.cli.main import ExitCode, run
from lawfit.storage import Store

HEADER = "params,tokens,batch_tokens,learning_rate,mixer,loss\n"
ROWS = "".join(f"1e8,2e9,131072,{lr},{mixer},3.{k}\n" for k, lr in enumerate((0.001, 0.002)) for mixer in "ab")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "sweep.csv").write_text(HEADER + ROWS)
    return tmp_path / "sweep.csv"


@pytest.mark.parametrize(
    ("typed", "recipes"),
    [
        pytest.param("\n", ["sweep-a", "sweep-b"], id="safe"),
        pytest.param("2\n", ["sweep"], id="number"),
        pytest.param("--only mixer=a\n", ["sweep"], id="option"),
    ],
)
def test_answers(typed: str, recipes: list[str], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert run(["--database", str(path.with_name("x.db")), "ingest", str(path)]) == ExitCode.OK
    with Store.open(path.with_name("x.db")) as store:
        assert sorted(found.recipe.name for found in store.recipes()) == recipes


def test_what_is_no_answer_stores_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("perhaps\n"))
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert run(["--database", str(path.with_name("x.db")), "ingest", str(path)]) == ExitCode.REJECTED
    assert not path.with_name("x.db").exists()
