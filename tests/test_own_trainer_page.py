"""docs/own-trainer.md: its script, its grid and its commands, run as they stand."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from lawfit import pipeline
from lawfit.launch import LaunchOptions, Resources
from lawfit.launch.served import packs_of, served
from lawfit.launch.template import FIELDS, read_template
from lawfit.storage import Store
from tests.launch.conftest import write_corpus

pytest.importorskip("torch", reason="the page's script is one of torch")

PAGE = (Path(__file__).parent.parent / "docs" / "own-trainer.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.soak
def test_the_lines_of_the_page_run(tmp_path: Path) -> None:
    (script,), (grid,), (commands,) = blocks("python"), blocks("json"), blocks("sh")
    assert len(script.splitlines()) <= 40
    (tmp_path / "train.py").write_text(script)
    (tmp_path / "grid.json").write_text(grid)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    said = ""
    for line in commands.splitlines():
        program, *words = shlex.split(line)
        assert program == "lawfit"
        command = [sys.executable, "-m", "lawfit", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    assert "the trial, cut to 20 steps took " in said
    with Store.open(tmp_path / "lawfit.db") as store:
        runs = store.runs(store.recipe("mine").key)
    assert [(run.lr, run.steps, run.batch_tokens) for run in runs] == [(0.003, 200, 128), (0.01, 200, 128)]
    assert all(run.loss is not None and 1 < run.loss < 2.5 for run in runs)


def test_the_page_names_fields_that_there_are(tmp_path: Path) -> None:
    template, _ = blocks("toml")
    (tmp_path / "trainer.toml").write_text(template)
    found = read_template(str(tmp_path / "trainer.toml"))
    assert (found.format, found.facts["optimizer"]) == ("tensorboard", "lion")
    listed = re.search(r"can be named: (.*?), \.\.\.;", PAGE, re.DOTALL)
    assert listed is not None
    assert set(re.findall(r"`(\w+)`", listed[1])) <= set(FIELDS)


def test_the_templates_of_the_page_can_be_served(tmp_path: Path) -> None:
    (script,), (_, file) = blocks("python"), blocks("toml")
    (tmp_path / "train.py").write_text(script)
    corpus = write_corpus(tmp_path / "corpus")
    path = tmp_path / "templates.toml"
    here = file.replace("/data/corpus", str(corpus)).replace('"python ', f'"{sys.executable} ')
    here = here.replace('gpus = "0,1"', "cpu = true").replace('backend = "slurm"', "cpu = true")  # they are to be there
    path.write_text(here.replace("/shared/runs", str(tmp_path / "runs")))
    found = {name: served(name, table) for name, table in pipeline.read_training_templates(path).items()}
    assert {name: (each.options.template is None, each.most_runs, each.at_a_time) for name, each in found.items()} == {
        "mine": (False, 1000, None), "proxy": (True, 200, None), "cluster": (False, 1000, 8),
    }  # fmt: skip
    (grid,) = blocks("json")
    packs = packs_of(found["mine"], json.loads(grid))
    assert [(run.lr, pack.corpus) for pack in packs for run in pack.runs] == [(0.003, "followers"), (0.01, "followers")]
    listed = re.search(r"what `lawfit launch` takes: (.*?), \.\.\. Paths", PAGE, re.DOTALL)
    assert listed is not None
    names = set(re.findall(r"`(\w+)`", listed[1]))
    assert names <= {field.name for kind in (LaunchOptions, Resources) for field in fields(kind)}
