"""What a corpus is and what it is made of: tokens, hashes, sources, refusals, tokens that others made."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from lawfit.corpus import CorpusError, Manifest, open_corpus
from lawfit.corpus.build import build
from lawfit.corpus.documents import Reading, gather, python_sources
from lawfit.corpus.files import content_hash
from lawfit.corpus.making import no_progress
from lawfit.corpus.token_files import import_tokens
from tests.train.corpora import SMALL, left_beside, left_by_a_killed_build, write_sources


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
    assert manifest.bytes_per_token == pytest.approx(11_698 / 3_695)


def rejected(corpus: Path) -> list[tuple[str, int | None, str]]:
    """File, line and reason of everything that was left out."""
    lines = map(json.loads, (corpus / "rejected.jsonl").read_text(encoding="utf-8").splitlines())
    return [(Path(item["source"]).name, item["line"], item["reason"]) for item in lines]


def all_text(corpus: Path) -> str:
    opened = open_corpus(corpus)
    tokenizer = Tokenizer.from_file(str(corpus / "tokenizer.json"))
    return str(tokenizer.decode([*opened.train.tolist(), *opened.validation.tolist()]))


# What a corpus is


def test_tokens_are_the_texts(made: tuple[Path, Manifest]) -> None:
    folder, manifest = made
    corpus = open_corpus(folder, expected_hash=manifest.hash)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert (manifest.documents, manifest.duplicates, manifest.skipped) == (40, 1, 1)
    assert manifest.rejected == {"empty": 1}
    documents = []
    for tokens in (corpus.train, corpus.validation):
        starts = np.flatnonzero(tokens == 0)
        documents += [tokenizer.decode(part[1:].tolist()) for part in np.split(tokens, starts[1:])]
    assert sorted(documents) == sorted({path.read_text() for path in folder.parent.glob("source/**/m*.py")})
    assert corpus.train.max() < manifest.vocab <= 300
    text = documents[-int((corpus.validation == 0).sum()) :]
    assert manifest.validation_bytes == sum(len(t.encode()) for t in text)


def test_hashes_are_those_of_the_files(made: tuple[Path, Manifest]) -> None:
    folder, manifest = made
    assert content_hash(folder, manifest.vocab) == manifest.hash
    assert manifest.tokenizer_hash == hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()[:16]


def test_another_corpus_is_refused(made: tuple[Path, Manifest]) -> None:
    with pytest.raises(CorpusError, match=f"holds corpus {made[1].hash}, but the pack names feed"):
        open_corpus(made[0], expected_hash="feed")


def copy_of(corpus: Path, folder: Path, **changes: object) -> Path:
    """The files of a corpus, with changes to its manifest."""
    folder.mkdir()
    for name in ("train.bin", "validation.bin", "tokenizer.json"):
        (folder / name).write_bytes((corpus / name).read_bytes())
    content = json.loads((corpus / "manifest.json").read_text()) | changes
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


def test_a_manifest_of_before_still_opens(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    older = copy_of(made[0], tmp_path / "older")
    content = json.loads((older / "manifest.json").read_text())
    for name in ("inputs_hash", "tokenizer_hash", "rejected", "entropy", "validation_entropy"):
        del content[name]
    (older / "manifest.json").write_text(json.dumps(content))
    manifest = open_corpus(older, expected_hash=made[1].hash).manifest
    assert manifest == dataclasses.replace(made[1], inputs_hash=None, tokenizer_hash=None, rejected={})


def test_a_missing_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no corpus in .*; make one with lawfit corpus build"):
        open_corpus(tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param('{"hash": "x", "sources": []}', "missing 7 required", id="fields missing"),
        pytest.param("[]", "no JSON object", id="a list"),
        pytest.param("{", "Expecting property name", id="cut off"),
    ],
)
def test_another_manifest_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(CorpusError, match=f"is not the manifest of a corpus: .*{complaint}"):
        open_corpus(tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        pytest.param({"train_tokens": "many"}, "train_tokens is 'many', not a positive whole number", id="words"),
        pytest.param({"validation_tokens": 0}, "validation_tokens is 0", id="nothing"),
        pytest.param({"colour": "red"}, "unknown field colour", id="unknown field"),
        pytest.param({"hash": 7}, "its hash is no text", id="a number as hash"),
        pytest.param({"train_tokens": 7}, r"train.bin has \d+ tokens, its manifest says 7", id="another size"),
    ],
)
def test_a_changed_manifest_is_refused(
    made: tuple[Path, Manifest], tmp_path: Path, changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(CorpusError, match=complaint):
        open_corpus(copy_of(made[0], tmp_path / "copy", **changes))


def test_a_lost_part_is_named(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    copy = copy_of(made[0], tmp_path / "copy")
    (copy / "validation.bin").unlink()
    with pytest.raises(CorpusError, match=r"validation\.bin, a part of the corpus, cannot be read: No such file"):
        open_corpus(copy)


# The same documents give the same corpus


def test_same_files_give_the_same_corpus(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    write_sources(tmp_path / "elsewhere", order=1)
    again = build(tmp_path / "out", [tmp_path / "elsewhere"], **SMALL)
    assert (again.hash, again.inputs_hash) == (made[1].hash, made[1].inputs_hash)
    (tmp_path / "elsewhere" / "more.py").write_text("x = 1\n")
    other = build(tmp_path / "other", [tmp_path / "elsewhere"], **SMALL)
    assert other.hash != made[1].hash
    assert other.inputs_hash != made[1].inputs_hash


def test_number_of_processes_does_not_matter(
    made: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lawfit.corpus.bpe.CHUNK_BYTES", 500)
    spread = build(tmp_path / "out", [made[0].parent / "source"], **{**SMALL, "workers": 2})
    assert spread.hash == made[1].hash


def test_a_tokenizer_can_be_reused(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    source, tokenizer = made[0].parent / "source", made[0] / "tokenizer.json"
    for name, given in (("file", tokenizer), ("folder", made[0])):
        again = build(tmp_path / name, [source], validation_share=0.2, workers=1, tokenizer_file=given)
        assert again.hash == made[1].hash


def foreign_tokenizer(path: Path) -> None:
    Tokenizer(models.BPE()).save(str(path))


@pytest.mark.parametrize(
    ("write", "complaint"),
    [
        pytest.param(foreign_tokenizer, "it was not made by lawfit", id="another kind"),
        pytest.param(lambda path: path.write_text('{"a": 1}'), "not a file of the tokenizers package", id="other JSON"),
        pytest.param(lambda path: path.write_bytes(b"\xff\x00"), "not a file of the tokenizers package", id="binary"),
        pytest.param(lambda path: None, "cannot be read: No such file", id="missing"),
    ],
)
def test_another_tokenizer_is_refused(made: tuple[Path, Manifest], tmp_path: Path, write: Any, complaint: str) -> None:
    write(tmp_path / "foreign.json")
    with pytest.raises(CorpusError, match=rf"foreign\.json .*{complaint}"):
        build(tmp_path / "out", [made[0].parent / "source"], tokenizer_file=tmp_path / "foreign.json")
    assert left_beside(tmp_path / "out") == []


# Sources


def test_default_sources_are_this_interpreters() -> None:
    folders = python_sources()
    assert any((folder / "json" / "__init__.py").exists() for folder in folders)
    for folder in folders:
        assert not folders_inside(folder, folders)


def folders_inside(folder: Path, folders: list[Path]) -> list[Path]:
    return [other for other in folders if folder in other.parents]


def test_text_of_any_origin(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.md").write_text("# a note")
    (folder / "b.rst").write_text("also a note")
    (folder / "b.html").write_text("not asked for")
    (folder / "c.md").write_bytes(b"\xff\xfe not UTF-8")
    (folder / "d.md").symlink_to(folder / "nowhere.md")
    lines = [json.dumps({"text": f"line {i}", "id": i}) for i in range(30)]
    (tmp_path / "web.jsonl").write_text("\n".join(lines) + "\n\n")
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": "packed line"}).encode()))
    (tmp_path / "book.txt").write_text("a long story")
    (tmp_path / "poem.txt.gz").write_bytes(gzip.compress(b"a packed poem"))
    files = [tmp_path / name for name in ("web.jsonl", "packed.jsonl.gz", "book.txt", "poem.txt.gz")]
    manifest = build(
        tmp_path / "out", [folder, *files], vocab=300, validation_share=0.3, workers=1,
        reading=Reading(suffixes=(".md", ".rst")),
    )  # fmt: skip
    assert (manifest.documents, manifest.rejected) == (35, {"not UTF-8": 1, "not a file": 1})
    assert manifest.sources == (
        "*.md *.rst below notes", "web.jsonl", "packed.jsonl.gz", "book.txt", "poem.txt.gz"
    )  # fmt: skip
    assert sorted(rejected(tmp_path / "out")) == [("c.md", None, "not UTF-8"), ("d.md", None, "not a file")]
    text = all_text(tmp_path / "out")
    for words in ("# a note", "also a note", "a long story", "line 29", "packed line", "a packed poem"):
        assert words in text
    assert "not asked for" not in text


def test_lines_that_are_no_documents_are_listed(tmp_path: Path) -> None:
    good = [json.dumps({"body": f"text {i}"}) for i in range(30)]
    bad = [
        '{"text": "another field"}',
        '"only text"',
        '{"body": 3}',
        '{"body": "cut',
        '{"body": " "}',
        '{"body": "\\ud800"}',
    ]
    path = tmp_path / "web.jsonl"
    path.write_bytes("\n".join([*good, *bad]).encode() + b'\n{"body": "\xff"}\n{"body": "last"}\n')
    manifest = build(tmp_path / "out", [path], **SMALL, reading=Reading(text_field="body"))
    assert manifest.documents == 31
    reasons = ["no text", "no text", "no text", "not JSON", "empty", "not UTF-8", "not UTF-8"]
    assert rejected(tmp_path / "out") == [("web.jsonl", 31 + i, reason) for i, reason in enumerate(reasons)]
    assert manifest.skipped == sum(manifest.rejected.values()) == len(reasons)


def test_what_stands_for_a_text_is_named(tmp_path: Path) -> None:
    values = {"5": "a number", "null": "null", "true": "true or false", "[1]": "a list", '{"a": 1}': "an object"}
    path = tmp_path / "web.jsonl"
    path.write_text("\n".join([*(f'{{"text": {value}}}' for value in values), "{}", "7"]))
    rejections = tmp_path / "rejected.jsonl"
    with pytest.raises(CorpusError):
        gather([path], Reading(), file=tmp_path / "texts", rejections=rejections, leave_out=None, progress=no_progress)
    details = [json.loads(line)["detail"] for line in rejections.read_text().splitlines()]
    assert details[:-2] == [f'its "text" is {kind}, not a text' for kind in values.values()]
    assert details[-2:] == [f'not an object with a text "text", but {what}' for what in ("an empty one", "a number")]


def test_broken_lines_are_told_where_too_little_is_left(tmp_path: Path) -> None:
    (tmp_path / "web.jsonl").write_text('{"text": "the only one"}\n{"text": "cut\n{"text": 5}\n{\n')
    told = r"1 document cannot be split.* Left out: 1 no text, 2 not JSON \(.*web\.jsonl, line 2: "
    with pytest.raises(CorpusError, match=told):
        build(tmp_path / "out", [tmp_path / "web.jsonl"], **SMALL)


def test_sources_of_one_name_are_told_apart(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "src").mkdir(parents=True)
        for i in range(30):
            (tmp_path / folder / "src" / f"{i}.py").write_text(f"{folder} = {i}")
    sources = [tmp_path / folder / "src" for folder in ("one", "two")]
    manifest = build(tmp_path / "out", [*sources, made[0].parent / "source"], **SMALL)
    assert manifest.sources == ("*.py below one/src", "*.py below two/src", "*.py below source")


def test_a_packed_file_that_is_cut_off_gives_what_it_can(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"{i} {random.Random(i).random()}"}) for i in range(3000)]
    packed = gzip.compress("\n".join(lines).encode())
    (tmp_path / "web.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    manifest = build(tmp_path / "out", [tmp_path / "web.jsonl.gz"], **SMALL)
    assert 1000 < manifest.documents < 2000
    assert rejected(tmp_path / "out") == [("web.jsonl.gz", None, "unreadable")]


def test_a_folder_that_cannot_be_listed_is_told(
    made: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sources(tmp_path / "source")
    (tmp_path / "source" / "locked").mkdir()
    scandir = os.scandir

    def guarded(path: str) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    manifest = build(tmp_path / "out", [tmp_path / "source"], **SMALL)
    assert manifest.hash == made[1].hash
    assert ("locked", None, "unreadable") in rejected(tmp_path / "out")


def test_names_need_not_be_text(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    write_sources(tmp_path / "source")
    (tmp_path / "source" / os.fsdecode(b"\xff.py")).write_bytes(b"\xff")
    manifest = build(tmp_path / "out", [tmp_path / "source"], **SMALL)
    assert manifest.hash == made[1].hash
    assert ("\udcff.py", None, "not UTF-8") in rejected(tmp_path / "out")


def test_binary_files_are_no_documents(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    (tmp_path / "tar").write_bytes(b"name\0\0\0text")
    (tmp_path / "image").write_bytes(bytes(range(256)))
    sources = [made[0].parent / "source", tmp_path / "tar", tmp_path / "image"]
    manifest = build(tmp_path / "out", sources, **SMALL)
    assert manifest.hash == made[1].hash
    assert manifest.rejected == {"binary": 1, "empty": 1, "not UTF-8": 1}


def test_the_output_is_not_read(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    write_sources(tmp_path)
    left_by_a_killed_build(tmp_path / "out")
    manifest = build(tmp_path / "out", [tmp_path], **SMALL, reading=Reading(suffixes=(".py", ".jsonl", "documents")))
    assert manifest.hash == made[1].hash


@pytest.mark.parametrize("text", ["word " * 300, "a line\n" * 300, "a paragraph\n\n" * 99, "数据" * 700, "x" * 2000])
@pytest.mark.parametrize("size", [100, 101, 102, 103])
def test_long_texts_are_cut(tmp_path: Path, text: str, size: int) -> None:
    """Nothing is lost; pieces end at an empty line, at a line, or at least between characters."""
    # numbered, so that no two pieces are copies
    text = "".join(f"{word}{i}" if i % 9 == 0 else word for i, word in enumerate(text))
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    (tmp_path / "web.jsonl").write_text(json.dumps({"text": text[::-1]}))
    reading = Reading(max_bytes=size, cut=True)
    build(tmp_path / "out", [tmp_path / "book.txt", tmp_path / "web.jsonl"], **SMALL, reading=reading)
    opened = open_corpus(tmp_path / "out")
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    tokens = np.concatenate([opened.train, opened.validation])
    pieces = [tokenizer.decode(part[1:].tolist()) for part in np.split(tokens, np.flatnonzero(tokens == 0)[1:])]
    assert max(len(piece.encode()) for piece in pieces) <= size
    assert sorted("".join(pieces)) == sorted(text + text[::-1])
    for piece in pieces:
        assert piece in text or piece in text[::-1]
    if "\n" in text:
        whole = [piece for piece in pieces if piece in text and not text.endswith(piece)]
        assert all(piece.endswith("\n\n" if "\n\n" in text else "\n") for piece in whole)


def test_texts_that_differ_in_white_space_are_copies_if_asked(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_sources(source)
    for i in range(10):
        (source / f"spaced{i}.py").write_text((next(source.rglob(f"m{i}.py"))).read_text().replace("\n", " \n\n"))
    assert build(tmp_path / "plain", [source], **SMALL).documents == 50
    asked = build(tmp_path / "asked", [source], **SMALL, reading=Reading(ignore_space=True))
    assert (asked.documents, asked.duplicates) == (40, 11)
    again = source.rename(tmp_path / "again")
    for i in range(10):  # which of two is read first does not matter
        path = again / f"spaced{i}.py"
        path.rename(again / f"a{i}.py")
    assert build(tmp_path / "other", [again], **SMALL, reading=Reading(ignore_space=True)).hash == asked.hash


def test_the_module_says_what_is_wrong(made: tuple[Path, Manifest]) -> None:
    """`python -m lawfit.corpus FOLDER`, in a folder with other files."""
    words = [sys.executable, "-m", "lawfit.corpus", str(made[0].parent)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert "holds other files (out, source)" in done.stderr


# What cannot be built


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        pytest.param({}, r"no file in .* ends in \.py$", id="empty folder"),
        pytest.param(
            {"a.md": "x", "b.md": "x", "c.txt": "x"}, r"there are 2 in \.md, 1 in \.txt: .*--suffix", id="suffix"
        ),
        pytest.param({"a.py": "", "b.py": " \n"}, "no document found in .*: 2 empty", id="empty files"),
        pytest.param({"a.py": "x = 1"}, "1 document cannot be split, .* or --cut", id="one document"),
    ],
)
def test_too_little_text(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    (tmp_path / "source").mkdir()
    for name, text in files.items():
        (tmp_path / "source" / name).write_text(text)
    with pytest.raises(CorpusError, match=complaint):
        build(tmp_path / "out", [tmp_path / "source"])
    assert left_beside(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        pytest.param("gone.txt", r"gone\.txt cannot be read: No such file", id="missing"),
        pytest.param("web.jsonl.zst", r"web\.jsonl\.zst cannot be read; unpack it first", id="packed otherwise"),
        pytest.param("blank.jsonl", r"no document found in .*blank\.jsonl: nothing but empty lines", id="blank lines"),
    ],
)
def test_a_source_that_gives_nothing_is_named(tmp_path: Path, name: str, complaint: str) -> None:
    (tmp_path / "blank.jsonl").write_text("\n\n")
    with pytest.raises(CorpusError, match=complaint):
        build(tmp_path / "out", [tmp_path / name])
    assert left_beside(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        pytest.param({"vocab": 256}, "a vocabulary of 256 cannot be made: bytes and separator are 257", id="small"),
        pytest.param({"vocab": 65_537}, "65,536 is the most", id="large"),
        pytest.param({"validation_share": 1.0}, "a validation share of 1 leaves one part empty", id="share"),
        pytest.param({"validation_share": 2.0}, "it lies between 0 and 1", id="share of two"),
        pytest.param({"reading": Reading(max_bytes=10)}, "documents of at most 10 bytes", id="tiny documents"),
    ],
)
def test_settings_out_of_range(
    made: tuple[Path, Manifest], tmp_path: Path, settings: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(CorpusError, match=complaint):
        build(tmp_path / "out", [made[0].parent / "source"], **settings)


def test_without_the_tokenizers_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(CorpusError, match=r"not installed: pip install 'lawfit\[train\]'"):
        build(tmp_path / "out")


# Tokens that others made


def write_tokens(path: Path, tokens: list[int]) -> Path:
    np.array(tokens, dtype=np.uint16).tofile(path)
    return path


@pytest.mark.parametrize("link", [False, True])
def test_token_files(tmp_path: Path, link: bool) -> None:
    train, validation = write_tokens(tmp_path / "train.bin", [5, 9, 49_999]), write_tokens(tmp_path / "val.bin", [7, 1])
    manifest = import_tokens(tmp_path / "out", train, validation, vocab=50_000, link=link)
    corpus = open_corpus(tmp_path / "out", expected_hash=manifest.hash)
    assert (corpus.train.tolist(), corpus.validation.tolist()) == ([5, 9, 49_999], [7, 1])
    assert (manifest.validation_bytes, manifest.bytes_per_token, manifest.tokenizer_hash) == (None, None, None)
    assert (tmp_path / "out" / "train.bin").is_symlink() is link
    assert content_hash(tmp_path / "out", manifest.vocab) == manifest.hash
    again = import_tokens(tmp_path / "out", train, validation, vocab=50_000)
    assert again == manifest
    known = import_tokens(tmp_path / "known", train, validation, vocab=50_000, bytes_per_token=4.5)
    assert (known.hash, known.validation_bytes) == (manifest.hash, 9)
    with pytest.raises(CorpusError, match="holds another corpus already"):
        import_tokens(tmp_path / "out", validation, train, vocab=50_000)


def test_trap_validation_on_training_tokens_is_refused(tmp_path: Path) -> None:
    train, copy = write_tokens(tmp_path / "train.bin", [5, 9, 7]), write_tokens(tmp_path / "val.bin", [5, 9, 7])
    for validation in (train, copy):
        with pytest.raises(CorpusError, match=r"train\.bin and .* hold the same tokens"):
            import_tokens(tmp_path / "out", train, validation, vocab=10)
    assert left_beside(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("content", "vocab", "complaint"),
    [
        pytest.param(b"\1\0\2\0", 65_537, "65,537 does not fit: tokens are stored in two bytes", id="large vocabulary"),
        pytest.param(b"\1\0\2\0", 2, r"token 2 at place 1, outside a vocabulary of 2", id="token outside"),
        pytest.param(b"\1\0\2", 9, "is no file of uint16 tokens: 3 bytes", id="odd"),
        pytest.param(b"", 9, "is no file of uint16 tokens: 0 bytes", id="empty"),
        pytest.param(None, 9, "cannot be read: No such file", id="missing"),
    ],
)
def test_token_files_that_are_refused(tmp_path: Path, content: bytes | None, vocab: int, complaint: str) -> None:
    path = tmp_path / "train.bin"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CorpusError, match=complaint):
        import_tokens(tmp_path / "out", path, write_tokens(tmp_path / "val.bin", [1]), vocab=vocab)
    assert left_beside(tmp_path / "out") == []
