"""`lawfit corpus`: what it prints, its exit codes, and that it needs no torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tokenizers", reason="making a corpus of text needs lawfit[train]")

from tests.cli.conftest import Call


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A folder with 40 short texts, and one file of another kind."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for i in range(40):
        (folder / f"n{i}.md").write_text(f"# note {i}\n\nIt says {i * i}, in [bold]words[/bold].\n")
    (folder / "copy.md").write_text((folder / "n0.md").read_text())
    (folder / "picture.md").write_bytes(b"\x89PNG\xff")
    (folder / "table.csv").write_text("a,b\n")
    return folder


SMALL = ("--suffix", ".md", "--vocab", 300, "--validation-share", 0.2, "--workers", 1)


def test_build_tells_what_it_made(text: Call, notes: Path, tmp_path: Path) -> None:
    out, err = text("corpus", "build", tmp_path / "out", notes, *SMALL)
    assert "*.md below notes" in out
    assert "1 copies, 1 not UTF-8" in out
    assert "from 40 documents" in out
    assert re.search(r"! validation holds \d sequences of 256 tokens, and runs are evaluated on 4,096 unless", err)
    assert "next: lawfit corpus show" in err
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["hash"] in out


def test_build_again_says_that_it_is_there(call: Call, text: Call, notes: Path, tmp_path: Path) -> None:
    first = call("corpus", "build", tmp_path / "out", notes, *SMALL)
    again = call("corpus", "build", tmp_path / "out", notes, "--suffix", "md", *SMALL[2:])
    assert (first["unchanged"], again["unchanged"]) == (False, True)
    assert first["schema"] == "lawfit.corpus/1"
    assert {**first, "unchanged": True} == again
    _, err = text("corpus", "build", tmp_path / "out", notes, *SMALL)
    assert "nothing to do: the folder holds this very corpus" in err
    (notes / "more.md").write_text("more")
    _, err = text("corpus", "build", tmp_path / "out", notes, *SMALL, code=1)
    assert f"holds another corpus already (hash {first['hash']})" in err


def test_broken_lines_are_told_by_the_exit_code(call: Call, text: Call, tmp_path: Path) -> None:
    lines = [json.dumps({"body": f"text number {i}"}) for i in range(40)]
    (tmp_path / "web.jsonl").write_text("\n".join([*lines, "{", '{"text": "another field"}']))
    words = ("corpus", "build", tmp_path / "out", tmp_path / "web.jsonl", *SMALL, "--text-field", "body")
    assert call(*words, code=3)["rejected"] == {"no text": 1, "not JSON": 1}
    out, _ = text("corpus", "show", tmp_path / "out")
    assert "web.jsonl, line 41: " in out
    assert 'not an object with a text "body", but text' in out


def test_too_little_text_for_the_vocabulary(text: Call, notes: Path, tmp_path: Path) -> None:
    _, err = text("corpus", "build", tmp_path / "out", notes, *SMALL[:2], "--vocab", "5k", *SMALL[4:])
    assert "there is too little text for a vocabulary of 5,000; it has" in err


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        pytest.param(("build", "out", "gone"), 1, "gone cannot be read: No such file", id="no source"),
        pytest.param(("build", "out", "notes"), 1, "ends in .py; there are 42 in .md", id="suffix"),
        pytest.param(("build", "out", "notes", "--vocab", "0.5"), 2, "'0.5' is not a whole number", id="vocabulary"),
        pytest.param(
            ("build", "out", "--vocab", "300", "--tokenizer", "t"), 2, "not both", id="vocabulary and tokenizer"
        ),
        pytest.param(
            ("build", "notes", "notes"), 1, "holds other files (copy.md, n0.md, n1.md, ...)", id="other files"
        ),
        pytest.param(
            ("show", "notes"), 1, "no corpus in notes; make one with lawfit corpus build notes", id="no corpus"
        ),
        pytest.param(("synthetic", "out", "--vocab", "5"), 2, "is not on offer: 8 to 4,096", id="synthetic vocabulary"),
        pytest.param(("build", "out", "notes", "--vocab", "10"), 2, "bytes and separator are 257", id="tiny"),
        pytest.param(("build", "out", "notes", "--validation-share", "2"), 2, "between 0 and 1", id="share"),
        pytest.param(("import", "out", "--train", "a", "--validation", "b"), 2, "--vocab", id="import without"),
        pytest.param(
            ("import", "out", "--train", "a", "--validation", "b", "--vocab", "70k"), 2, "70,000", id="import"
        ),
    ],
)
def test_refusals(text: Call, notes: Path, tmp_path: Path, words: tuple[str, ...], code: int, complaint: str) -> None:
    _, err = text("corpus", *words, code=code)
    assert complaint in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes"]


def test_show_reads_the_beginning(call: Call, text: Call, notes: Path, tmp_path: Path) -> None:
    made = call("corpus", "build", tmp_path / "out", notes, *SMALL)
    shown = call("corpus", "show", tmp_path / "out", "--check")
    assert shown["checked"] is True
    assert shown["sample"] in {path.read_text() for path in notes.glob("n*.md")}
    assert shown["bytes_per_token"] == made["validation_bytes"] / made["validation_tokens"]
    out, _ = text("corpus", "show", tmp_path / "out")
    assert "in [bold]words[/bold]." in out
    assert "picture.md: byte 0 is not UTF-8" in out


def test_damage_is_found(text: Call, notes: Path, tmp_path: Path) -> None:
    text("corpus", "build", tmp_path / "out", notes, *SMALL)
    with (tmp_path / "out" / "train.bin").open("r+b") as file:
        file.write(b"\7\0")
    text("corpus", "show", tmp_path / "out")
    _, err = text("corpus", "show", tmp_path / "out", "--check", code=1)
    assert "is damaged: its tokens have the hash" in err


def test_import_of_token_files(call: Call, text: Call, tmp_path: Path) -> None:
    for name, step in (("train", -1), ("val", 1)):
        np.arange(1000, dtype=np.uint16)[::step].tofile(tmp_path / f"{name}.bin")
    words = ("--train", "train.bin", "--validation", "val.bin", "--vocab", "1k")
    made = call("corpus", "import", "out", *words)
    assert (made["train_tokens"], made["bytes_per_token"], made["vocab"]) == (1000, None, 1000)
    assert call("corpus", "import", "known", *words, "--bytes-per-token", "4.2")["bytes_per_token"] == 4.2
    out, _ = text("corpus", "show", "out")
    assert "no bits per byte" in out
    assert "tokens 0 1 2 3" in out


def test_synthetic_tells_the_floor(call: Call, text: Call) -> None:
    large = ("--tokens", "20k", "--validation-tokens", 4096 * 256 + 1, "--vocab", 16)
    assert "runs are evaluated on" not in text("corpus", "synthetic", "large", *large)[1]
    made = call("corpus", "synthetic", "out", "--tokens", "20k", "--validation-tokens", "5k", "--vocab", 16)
    assert 1 < made["entropy"] < np.log(16)
    out, _ = text("corpus", "show", "out")
    assert f"{made['entropy']:.4f} nats per token: the floor of the loss" in out


def test_neither_torch_nor_the_analysis_is_imported(notes: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from lawfit.cli.main import run;"
        f"assert run(['corpus', 'build', 'out', 'notes', {', '.join(repr(str(word)) for word in SMALL)}]) == 0;"
        "assert run(['corpus', 'show', 'out']) == 0;"
        "print(sorted({'torch', 'pandas', 'scipy', 'sqlalchemy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_show_without_the_tokenizers_package(
    call: Call, text: Call, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("corpus", "build", tmp_path / "out", notes, *SMALL)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    out, _ = text("corpus", "show", tmp_path / "out")
    assert "tokens 0 " in out
    _, err = text("corpus", "build", tmp_path / "other", notes, *SMALL, code=1)
    assert "pip install 'lawfit[train]'" in err
