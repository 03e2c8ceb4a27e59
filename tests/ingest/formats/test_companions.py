"""Settings beside logs: read as plain values, and nothing in them is ever run or blown up."""

from __future__ import annotations

import pickle
import time
from pathlib import Path

import pytest

from lawfit.errors import LogFormatError
from lawfit.ingest.companions import beside, read_settings
from tests.ingest.formats.logs import copied, one_table


def settings(tmp_path: Path, text: str, name: str = "hparams.yaml") -> dict[str, object]:
    (tmp_path / name).write_text(text)
    return read_settings(tmp_path / name)


def test_plain_values(tmp_path: Path) -> None:
    assert settings(tmp_path, "lr: 0.001\nname: x\nn: 3\nnested:\n  a: [1, 2]\nnone:\n") == {
        "lr": 0.001, "name": "x", "n": 3, "nested": {"a": [1, 2]}, "none": None,
    }  # fmt: skip
    assert settings(tmp_path, "lr: 1e-3") == {"lr": "1e-3"}, "a word to YAML, and a number to whoever reads the cell"


def test_objects_of_python_are_their_plain_content(tmp_path: Path) -> None:
    mark = tmp_path / "made"
    evil = f"a: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{mark}']]\nlr: 1\n"
    assert settings(tmp_path, evil)["lr"] == 1
    assert settings(tmp_path, "betas: !!python/tuple [0.9, 0.95]\nkind: !custom cosine\n") == {
        "betas": [0.9, 0.95], "kind": "cosine",
    }  # fmt: skip
    assert not mark.exists()


def test_aliases_cannot_blow_up(tmp_path: Path) -> None:
    flat = "betas: &b [0.9, 0.95]\nother: *b\n"
    assert settings(tmp_path, flat)["other"] == [0.9, 0.95]
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    began = time.perf_counter()
    with pytest.raises(LogFormatError, match=r"an alias .* to nested settings"):
        settings(tmp_path, "\n".join(levels))
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "{" * 100_000),
        ("config.json", '{"a": ' * 5000),
        ("config.yaml", "[" * 50_000),
        ("config.yaml", "a: 'open"),
        ("config.json", '{"a": 1'),
        ("config.json", " " * (1 << 23)),
    ],
)
def test_what_cannot_be_read_is_a_sentence(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(LogFormatError) as error:
        settings(tmp_path, text, name)
    assert str(tmp_path / name) in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    found, said = beside(tmp_path)
    assert found == {}
    assert said[0].startswith(f"its settings are not read: {name}")


def test_anything_but_a_mapping_says_nothing(tmp_path: Path) -> None:
    assert settings(tmp_path, "[1, 2]", "config.json") == {}
    assert settings(tmp_path, "") == {}
    assert read_settings(tmp_path / "missing.json") == {}


def test_settings_without_end_do_not_become_columns_without_end(tmp_path: Path) -> None:
    log = copied("jsonl", tmp_path) / "low.jsonl"
    nested = '{"a": ' * 200 + "1" + "}" * 200
    log.with_name("low.json").write_text(f'{{"lr": 1, "deep": {nested}, "text": "{"x" * 5000}", "list": {[0] * 5000}}}')
    table = one_table(log)
    assert "config.lr" in table.columns
    assert max(map(len, table.columns)) < 100
    assert not any("text" in name or "list" in name for name in table.columns)


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


def test_a_pickle_is_never_loaded_and_it_is_said_what_to_do(tmp_path: Path) -> None:
    made = copied("huggingface", tmp_path)
    mark = tmp_path / "was loaded"
    for name in ("low", "middle", "killed"):
        for file in ("training_args.json", "hparams.json"):
            (made / name / file).unlink()
        (made / name / "training_args.bin").write_bytes(pickle.dumps(Trap(mark)))
    table = one_table(made)
    assert not mark.exists()
    assert any("training_args.bin only, a pickle, which is never loaded" in note for note in table.notes)
    assert any("training_args.json').write_text(args.to_json_string())" in note for note in table.notes)
