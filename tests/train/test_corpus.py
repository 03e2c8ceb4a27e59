from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from lawfit.train.corpus import CorpusError, Manifest, build, main, open_corpus, python_sources


def write_sources(folder: Path, order: int = 0) -> None:
    """Forty small modules and one copy, written in a chosen order."""
    texts = {
        f"m{i}.py": f'"""Module {i}."""\n\n\ndef f{i}(x: int) -> int:\n    return x + {i * 7}\n' * 5 for i in range(40)
    }
    texts |= {"copy.py": texts["m3.py"], "empty.py": "\n", "notes.txt": "no Python"}
    names = sorted(texts)
    random.Random(order).shuffle(names)
    (folder / "inner").mkdir(parents=True)
    for i, name in enumerate(names):
        (folder / ("inner" if i % 2 else ".") / name).write_text(texts[name])


def write_pinned_sources(folder: Path) -> None:
    """150 files of made-up code with Zipfian words, ten copies, and what is to be left out."""
    chance = random.Random(4)
    syllables = [consonant + vowel for consonant in "bdfglmnprst" for vowel in "aeiou"]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(3000)]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    for i in range(150):
        lines = []
        for _ in range(chance.randint(20, 60)):
            name, *arguments = chance.choices(words, weights, k=chance.randint(2, 6))
            lines.append(f"def {name}({', '.join(arguments)}):\n    return {' + '.join(arguments)}  # {i}\n")
        text = "\n".join(lines) + ("naïve Größe, 数据, 🙂\n" if i % 10 == 0 else "")
        path = folder / f"p{i % 7}" / f"m{i}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if i % 15 == 0:
            (path.parent / f"copy_of_m{i}.py").write_text(text, encoding="utf-8")
    (folder / "empty.py").write_text("\n")
    (folder / "latin.py").write_bytes("# Größe\n".encode("latin-1"))
    (folder / "large.py").write_text("x = 1\n" * 200_000)
    (folder / "notes.txt").write_text("no Python")


def test_the_default_build_gives_the_tokens_it_always_gave(tmp_path: Path) -> None:
    """The corpus of the shipped sweep can only be made again if nothing of this ever changes."""
    write_pinned_sources(tmp_path / "source")
    manifest = build(tmp_path / "out", [tmp_path / "source"])
    tokens = b"".join((tmp_path / "out" / f"{name}.bin").read_bytes() for name in ("validation", "train"))
    assert hashlib.sha256(tokens).hexdigest()[:16] == "797a70b325517c28"
    assert manifest.hash == "2a9f2a6e9912e8e2"  # also covers how tokenizer.json is written: tokenizers 0.23
    assert (manifest.documents, manifest.duplicates, manifest.skipped) == (150, 10, 3)
    assert (manifest.train_tokens, manifest.validation_tokens, manifest.validation_bytes) == (119_716, 3_695, 11_698)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("corpus")
    write_sources(folder / "source")
    return folder / "out", build(folder / "out", [folder / "source"], vocab=300, validation_share=0.2, workers=1)


def test_tokens_are_the_texts(made: tuple[Path, Manifest]) -> None:
    folder, manifest = made
    corpus = open_corpus(folder, expected_hash=manifest.hash)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert (manifest.documents, manifest.duplicates, manifest.skipped) == (40, 1, 1)
    documents = []
    for tokens in (corpus.train, corpus.validation):
        starts = np.flatnonzero(tokens == 0)
        documents += [tokenizer.decode(part[1:].tolist()) for part in np.split(tokens, starts[1:])]
    assert sorted(documents) == sorted({path.read_text() for path in folder.parent.glob("source/**/m*.py")})
    assert corpus.train.max() < manifest.vocab <= 300
    text = documents[-int((corpus.validation == 0).sum()) :]
    assert manifest.validation_bytes == sum(len(t.encode()) for t in text)


def test_same_files_give_the_same_corpus(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    write_sources(tmp_path / "elsewhere", order=1)
    again = build(tmp_path / "out", [tmp_path / "elsewhere"], vocab=300, validation_share=0.2, workers=1)
    assert again.hash == made[1].hash
    (tmp_path / "elsewhere" / "more.py").write_text("x = 1\n")
    other = build(tmp_path / "other", [tmp_path / "elsewhere"], vocab=300, validation_share=0.2, workers=1)
    assert other.hash != made[1].hash


def test_a_tokenizer_can_be_reused(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    source, tokenizer = made[0].parent / "source", made[0] / "tokenizer.json"
    again = build(tmp_path / "out", [source], validation_share=0.2, workers=1, tokenizer_file=tokenizer)
    assert again.hash == made[1].hash
    tokenizer = tmp_path / "foreign.json"
    Tokenizer(models.BPE()).save(str(tokenizer))
    with pytest.raises(CorpusError, match="it was not made by lawfit"):
        build(tmp_path / "other", [source], validation_share=0.2, workers=1, tokenizer_file=tokenizer)


def test_number_of_processes_does_not_matter(
    made: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lawfit.train.corpus.CHUNK_BYTES", 500)
    spread = build(tmp_path / "out", [made[0].parent / "source"], vocab=300, validation_share=0.2, workers=2)
    assert spread.hash == made[1].hash


def test_another_corpus_is_refused(made: tuple[Path, Manifest]) -> None:
    with pytest.raises(CorpusError, match=f"holds corpus {made[1].hash}, but the pack names feed"):
        open_corpus(made[0], expected_hash="feed")


def test_missing_and_damaged_corpora_are_refused(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no corpus in .*; make one with"):
        open_corpus(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"hash": "x", "sources": []}))
    with pytest.raises(CorpusError, match="is not the manifest of a corpus"):
        open_corpus(tmp_path)
    (tmp_path / "manifest.json").write_text((made[0] / "manifest.json").read_text())
    for name in ("train", "validation"):
        (tmp_path / f"{name}.bin").write_bytes((made[0] / f"{name}.bin").read_bytes()[:-2])
    with pytest.raises(CorpusError, match=r"its manifest says \d+"):
        open_corpus(tmp_path)


def test_a_corpus_is_not_overwritten(made: tuple[Path, Manifest]) -> None:
    with pytest.raises(CorpusError, match="holds a corpus already"):
        build(made[0], [made[0].parent / "source"])


def test_no_sources(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no document found in .* \(0 skipped\)"):
        build(tmp_path / "out", [tmp_path])


def test_text_of_any_origin(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.md").write_text("# a note")
    (folder / "b.rst").write_text("not asked for")
    (folder / "c.md").write_bytes(b"\xff\xfe not UTF-8")
    lines = [json.dumps({"text": f"line {i}", "id": i}) for i in range(30)]
    (tmp_path / "web.jsonl").write_text("\n".join(lines) + "\n\n")
    (tmp_path / "book.txt").write_text("a long story")
    sources = [folder, tmp_path / "web.jsonl", tmp_path / "book.txt"]
    manifest = build(tmp_path / "out", sources, vocab=300, validation_share=0.3, workers=1, suffixes=[".md"])
    assert (manifest.documents, manifest.skipped) == (32, 1)
    assert manifest.sources == ("*.md below notes", "web.jsonl", "book.txt")
    corpus = open_corpus(tmp_path / "out")
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    text = tokenizer.decode([*corpus.train.tolist(), *corpus.validation.tolist()])
    assert "# a note" in text
    assert "a long story" in text
    assert "line 29" in text
    assert "not asked for" not in text


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "web.jsonl").write_text('{"text": "good"}\n{"body": "bad"}\n')
    with pytest.raises(CorpusError, match=r'web\.jsonl, line 2 is not an object with a "text"'):
        build(tmp_path / "out", [tmp_path / "web.jsonl"])


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"gone\.txt cannot be read"):
        build(tmp_path / "out", [tmp_path / "gone.txt"])


def test_command(made: tuple[Path, Manifest], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(
        [
            str(tmp_path / "out"),
            "--source",
            str(made[0].parent / "source"),
            "--vocab",
            "280",
            "--validation-share",
            "0.2",
        ]
    )
    assert json.loads(capsys.readouterr().out)["vocab"] == 280


def test_default_sources_are_this_interpreters() -> None:
    folders = python_sources()
    assert any((folder / "json" / "__init__.py").exists() for folder in folders)
    for folder in folders:
        assert not folders_inside(folder, folders)


def folders_inside(folder: Path, folders: list[Path]) -> list[Path]:
    return [other for other in folders if folder in other.parents]
