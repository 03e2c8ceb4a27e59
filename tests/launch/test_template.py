"""Commands of a user's own, checked before anything runs."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from lawfit.launch import LaunchError, LaunchOptions, make_plan
from lawfit.launch.own import read_own_packs
from lawfit.launch.template import FIELDS, Template, check, read_template, values_of
from tests.launch.conftest import nothing_stored

PYTHON = shlex.quote(sys.executable)
ALL = "--lr {lr} --batch {batch_sequences} --steps {steps} --seed {seed} --width {width} --out {folder}"


def grid(path: Path, **block: Any) -> Path:
    content = {
        "base": {"seq_len": 8, "corpus": "my-text"},
        "shapes": {"tiny": {"layers": 1, "width": 8, "heads": 1, "hidden": 8}},
        "warmup_fraction": 0.25,
        "blocks": [{"shape": "tiny", "tokens": [640], "batch_tokens": [16, 32], "lr": [0.001, 1e-5], **block}],
    }
    path.write_text(json.dumps(content))
    return path


def test_every_field_of_a_run_can_be_named(tmp_path: Path) -> None:
    template = read_template("train " + " ".join(f"{{{name}}}" for name in FIELDS))
    packs, corpus = read_own_packs([grid(tmp_path / "g.json")], template)
    values = values_of(packs[0][1], tmp_path / "out")
    assert set(values) == set(FIELDS)
    assert (values["tokens"], values["steps"], values["batch_tokens"], values["batch_sequences"]) == (640, 20, 32, 4)
    assert (values["warmup_steps"], values["warmup_fraction"], values["seed"]) == (5, 0.25, 0)
    assert (values["params"], values["params_total"]) == (472, 472 + 2 * 8)
    assert (values["folder"], values["corpus"], corpus.folder) == (str(tmp_path / "out"), "my-text", "my-text")


def test_a_command_is_words_and_never_a_shell_line(tmp_path: Path) -> None:
    template = read_template("train --lr={lr:.2e} '{run_id} $(x)' --json '{{\"a\": {steps}}}' ; rm -rf {folder}")
    packs, _ = read_own_packs([grid(tmp_path / "g.json", seeds=[1])], template)
    values = values_of(packs[0][1], Path("/a b"))
    assert template.command(values) == [
        "train", "--lr=1.00e-03", f"{values['run_id']} $(x)", "--json", '{"a": 20}', ";", "rm", "-rf", "/a b",
    ]  # fmt: skip
    assert read_template("t {lr} {qk_norm}").command(values)[1:] == ["0.001", "false"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the template is empty"),
        ("train 'x", r"cannot be cut into words \(No closing quotation\)"),
        ("train {lrr}", r"names \{lrr\}, which is no field of a run; did you mean \{lr\}\? the fields are lr, steps"),
        ("train {lr", "the braces of the template do not pair"),
        ("train lr}", "the braces of the template do not pair"),
        ("train {}", "hold no field"),
        ("train {lr!r}", "hold no field"),
        ("train {lr.real}", "hold no field"),
        ("train {0}", "hold no field"),
        ("nowhere.toml", "there is no template file nowhere.toml"),
    ],
)
def test_what_is_wrong_with_a_template_is_a_sentence(text: str, said: str) -> None:
    with pytest.raises(LaunchError, match=said):
        read_template(text)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("command = [", "cannot be read as a template"),
        ("format = 'csv'", "it has no command"),
        ("command = 'x'\nfolder = 'y'", "folder is not known; a template has command, format, recipe"),
        ("command = 3", "the command of a template is a text, or a list of words"),
        ("command = 'x'\nformat = 3", "format is the name of a log format"),
        ("command = 'x'\n[recipe]\nbeta = '1'", r"recipe.beta is not known; it holds optimizer"),
    ],
)
def test_what_is_wrong_with_a_template_file_is_a_sentence(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "t.toml").write_text(content)
    with pytest.raises(LaunchError, match=said):
        read_template(str(tmp_path / "t.toml"))


def test_a_file_holds_a_template(tmp_path: Path) -> None:
    words = ["train", "a b", "{lr}"]
    (tmp_path / "t.json").write_text(json.dumps({"command": words, "format": "csv", "recipe": {"optimizer": "lion"}}))
    found = read_template(str(tmp_path / "t.json"))
    assert (found.words, found.format, found.facts) == (tuple(words), "csv", {"optimizer": "lion"})
    assert read_template(str(tmp_path / "t.json"), "auto").format is None
    (tmp_path / "t.toml").write_text("command = 'train \"a b\" {lr}'\nformat = 'csv'\n[recipe]\noptimizer = 'lion'")
    assert read_template(str(tmp_path / "t.toml")) == found
    assert found.text == "train 'a b' {lr}"


def refused(tmp_path: Path, command: str, **block: Any) -> str:
    options = LaunchOptions(cpu=True, logs=tmp_path / "runs", template=read_template(command))
    path = grid(tmp_path / "g.json", **block)
    with pytest.raises(LaunchError) as refusal:
        make_plan([path], nothing_stored, options)
    assert not (tmp_path / "runs").exists()
    return str(refusal.value)


def test_runs_that_would_be_the_same_command_are_refused(tmp_path: Path) -> None:
    said = refused(tmp_path, f"{PYTHON} t.py --lr {{lr}} --steps {{steps}} --out {{folder}}", seeds=[0, 1])
    assert "they differ in seed (0, 1)" in said
    assert "add {seed} to it" in said
    assert "differ in lr (0.001, 1e-05)" in refused(tmp_path, f"{PYTHON} t.py {{batch_tokens}} {{folder}} {{run_id}}")
    assert "differ in lr" in refused(tmp_path, f"{PYTHON} t.py {{batch_tokens}} {{lr:.0f}}")  # named, and rounded away


def test_what_the_grid_does_not_say_is_refused(tmp_path: Path) -> None:
    command = f"{PYTHON} t.py {{lr}} {{batch_tokens}} {{average_half_life_tokens}}"
    assert "names {average_half_life_tokens}, and the grid says no" in refused(tmp_path, command)
    assert "writes {steps:x.y}" in refused(tmp_path, f"{PYTHON} t.py {{lr}} {{batch_tokens}} {{steps:x.y}}")


def test_a_program_that_is_not_there_is_refused_where_it_would_run_here(tmp_path: Path) -> None:
    assert "runs nowhere-to-be-found, which is not on the PATH" in refused(tmp_path, f"nowhere-to-be-found {ALL}")
    assert "which is no program" in refused(tmp_path, f"./nowhere {ALL}")
    template = read_template(f"nowhere-to-be-found {ALL}")
    packs = [pack for _, pack in read_own_packs([grid(tmp_path / "g.json")], template)[0]]
    check(template, packs, here=False)


def test_another_command_or_corpus_makes_other_runs(tmp_path: Path) -> None:
    def ids(template: Template, **block: Any) -> set[str]:
        options = LaunchOptions(cpu=True, logs=tmp_path / "runs", template=template)
        return set(make_plan([grid(tmp_path / "g.json", **block)], nothing_stored, options).asked)

    first = read_template(f"{PYTHON} t.py {ALL}")
    assert len(ids(first)) == 4
    assert ids(first) == ids(read_template(f"  {PYTHON}   t.py {ALL}"))
    assert ids(first).isdisjoint(ids(read_template(f"{PYTHON} t.py {ALL} --dropout 0.1")))
    assert ids(first).isdisjoint(ids(dataclasses.replace(first, facts={"data": "x"})))


def test_options_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="a trial is of a template"):
        LaunchOptions(trial=True)
    with pytest.raises(ValueError, match="not in --corpus"):
        LaunchOptions(template=read_template("x"), corpus="y")
