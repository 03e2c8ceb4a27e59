"""What the tests of commands share: a folder of their own, and a caller that parses the one JSON document."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lawfit.cli.main import run

Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands find no database, no lawfit.toml and no environment but their own."""
    monkeypatch.chdir(tmp_path)
    for name in ("LAWFIT_DATABASE_URL", "LAWFIT_HOST", "LAWFIT_PORT", "LAWFIT_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command with --json, check its exit code, and give back its document."""

    def call_json(*words: object, code: int = 0) -> Any:
        capsys.readouterr()
        assert run([*map(str, words), "--json"]) == code, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return call_json


@pytest.fixture
def text(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command as in a pipe, check its exit code, and give back what it printed on stdout and stderr."""

    def call_text(*words: object, code: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        assert run([*map(str, words)]) == code
        out, err = capsys.readouterr()
        return out, err

    return call_text
