"""Launches that are refused over HTTP: what is wrong with a grid is one sentence, said at once and short."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lawfit.launch.served import packs_of, served
from lawfit.proxy.pack import PackError
from lawfit.settings import Settings
from lawfit_api.app import create_app
from tests.api.test_app import problem_of
from tests.api.test_launches import GRID, PATH, block, templates
from tests.client import TestClient
from tests.launch.own_trainer import OwnTrainer

MANY = [0.001 + number / 1e6 for number in range(200)]


def unused(layers: Any) -> dict[str, Any]:
    """The grid with a shape that no block names."""
    return {**GRID, "shapes": {**GRID["shapes"], "x": {"layers": layers}}}


def tokens_per_param(ratio: float, **own: Any) -> dict[str, Any]:
    """The grid with a horizon that its model says."""
    asked = {name: value for name, value in block(**own)["blocks"][0].items() if name != "tokens"}
    return {**GRID, "blocks": [{**asked, "tokens_per_param": ratio, "batch_tokens": [8e14]}]}


def of_shape(name: str) -> dict[str, Any]:
    """The grid with another name of its shape."""
    return {**block(shape=name), "shapes": {name: GRID["shapes"]["tiny"]}}


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service of which nothing is asked that it could do."""
    folder = tmp_path_factory.mktemp("refusing")
    settings = Settings(database_url=str(folder / "lawfit.db"), training_templates=str(templates(folder)))
    with TestClient(create_app(settings), raise_server_exceptions=False) as served:
        yield served


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({"template": "../../etc/passwd"}, "template", "there is no template '../../etc/passwd' here; there are tiny"),
        ({"template": "tiny.command"}, "template", "there is no template"),
        ({"command": "rm -rf /"}, "command", "Extra inputs are not permitted"),
        ({"template": ["tiny"]}, "template", "a valid string"),
        ({"template": "tiny\n"}, "template", "takes characters that print"),
        ({"recipe": "a\x00"}, "recipe", "takes characters that print"),
        ({"recipe": ""}, "recipe", "at least 1 character"),
        ({"grid": None}, "grid", "takes a grid, or plan the id of one that was kept: one of them"),
        ({"plan": "p"}, "grid", "one of them"),
        ({"grid": {}}, "grid", "a grid is an object"),
        ({"grid": {"model": {}, "runs": [{"lr": 1}]}}, "grid", "a grid is an object"),
        ({"grid": block(lr=MANY, weight_decay=MANY, beta2=MANY)}, "grid", "asks for 16,000,000 runs; template 'tiny' "),
        ({"grid": {**GRID, "blocks": [block(lr=MANY)["blocks"][0]] * 9}}, "grid", "3,600 runs"),
        ({"grid": {**GRID, "pad": "x" * (1 << 18)}}, "grid", "characters of JSON, and 262,144 is the most"),
        ({"grid": block(tokens=[1e17], schedule="rex")}, "grid", "1e+17 tokens in batches of 32 are "),
        ({"grid": block(shape="none")}, "grid", "no shape 'none'; the shapes are tiny"),
        ({"grid": block(command="x")}, "grid", "unknown field blocks[0].command"),
        ({"grid": block(corpus="--load=/etc/passwd")}, "grid", "the corpus is template 'tiny''s own"),
        ({"grid": block(schedule="linear; rm -rf /")}, "grid", "schedule"),
        ({"grid": block(schedule="rex:beta=0.9 --load {folder}")}, "grid", "schedule"),
        ({"grid": block(lr=["{folder}"])}, "grid", "lr must be a number"),
        ({"grid": block(lr=[10**400])}, "grid", "lr"),
        ({"grid": block(beta2="{0.__class__}")}, "grid", "beta2"),
        ({"grid": block(seeds=[0, 1])}, "grid", "two runs of the grid would be the same command: they differ in"),
        ({"grid": of_shape("../x")}, "grid", "shape '../x': a name has letters"),
        ({"grid": of_shape("\x00")}, "grid", "a NUL character in blocks[0].shape: "),
        ({"grid": unused(float("nan"))}, "grid", "nan in shapes.x.layers is no number that JSON has"),
        ({"grid": unused(float("-inf"))}, "grid", "-inf in shapes.x.layers is no number"),
        ({"grid": unused(["\ud800"])}, "grid", "half a character (a lone surrogate) in shapes.x.layers[0]"),
        ({"grid": unused({"\ud800": 1})}, "grid", "half a character (a lone surrogate) in a name in shapes.x.layers"),
        ({"grid": unused("a\x00")}, "grid", "a NUL character in shapes.x.layers: "),
        ({"grid": unused(json.loads("[" * 300 + "]" * 300))}, "grid", "more than 20 levels, one within the other in"),
        ({"grid": block(schedule="rex:beta= 0.9 ")}, "grid", "'rex:beta= 0.9 ' is not how a schedule is said"),
        ({"grid": block(schedule="rex:beta=0.9\n")}, "grid", "schedule rex:beta=0.9\\n: 'rex:beta=0.9\\n' is not how"),
        ({"grid": block(schedule="rex:beta=\u0660.9")}, "grid", "is not how a schedule is said"),
        ({"grid": block(layers=2**61)}, "grid", "a model of shape 'tiny' has 1.0"),
        ({"grid": block(layers=10**300, hidden=10**300)}, "grid", "has more than 1e308 parameters"),
        ({"grid": tokens_per_param(1e17, layers=10**9)}, "grid", "4.64e+28 tokens in batches of 8e+14 are"),
        ({"grid": block(tokens=[1], batch_tokens=[8e15])}, "grid", "are a run of 8e+15 tokens; 1e+15 is the most here"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_a_sentence(refusing: TestClient, body: dict[str, Any], field: str, said: str) -> None:
    headers = {"Content-Type": "application/json"}
    began = time.monotonic()
    answer = refusing.post(PATH, content=json.dumps({"template": "tiny", "grid": GRID, **body}), headers=headers)
    problem = problem_of(answer, 422)
    assert problem["errors"][0]["field"] == field
    assert said in problem["errors"][0]["message"], problem["errors"]
    assert time.monotonic() - began < 5
    assert refusing.get("/v1/jobs").json()["jobs"] == []


def test_numbers_that_are_none_are_refused(refusing: TestClient) -> None:
    for number in ("NaN", "Infinity", "1e999", "-1"):
        text = json.dumps({"template": "tiny", "grid": block(lr=["here"])}).replace('"here"', number)
        answer = refusing.post(PATH, content=text, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422), number


def test_what_is_wrong_is_not_said_again_whole(refusing: TestClient) -> None:
    long = "n" * 200_000
    wrong = (
        {**GRID, long: 1},
        {**GRID, "base": {long: 1}},
        {**GRID, "shapes": {long: {long: 1}}},
        {**GRID, "warmup_fraction": long},
        {**GRID, "shapes": {**GRID["shapes"], long: {}}, "blocks": block(shape="none")["blocks"]},
        of_shape(long),
        block(**{long: 1}),
        block(shape=long),
        block(lr=long),
        block(tokens=[0] * 50_000),
        block(corpus=long),
        block(schedule=long),
        block(schedule=f"rex:{long}"),
        block(optimizer=long),
        block(width=long),
    )
    for grid in wrong:
        answer = refusing.post(PATH, json={"template": "tiny", "grid": grid})
        assert problem_of(answer, 422)["errors"][0]["field"] == "grid"
        assert len(answer.content) < 4000, answer.text[:1000]


def test_schedules_of_many_long_runs_are_checked_at_once(refusing: TestClient) -> None:
    names = [f"rex:beta=0.{number:03d}" for number in range(1000)]
    began = time.process_time()
    grid = block(tokens=[2_000_000 * 16], batch_tokens=16, lr=[0.001], schedule=names)
    answer = refusing.post(PATH, json={"template": "tiny", "grid": grid})
    problem = problem_of(answer, 422)  # the template does not name {schedule}
    assert "two runs of the grid would be the same command: they differ in schedule" in problem["detail"]
    assert time.process_time() - began < 5


def test_a_template_says_the_most_of_a_run(tmp_path: Path) -> None:
    command = OwnTrainer.written(tmp_path).template()
    table = {"command": command, "cpu": True, "most_params": 1000, "most_tokens": 640}
    small = served("tiny", table)
    assert len(packs_of(small, GRID)) == 2
    for grid, said in (
        (block(tokens=[1280]), "40 steps of 32 tokens are a run of 1280 tokens; 640 is the most here"),
        (block(layers=3), "parameters, embeddings and head included; 1000 is the most here"),
    ):
        with pytest.raises(PackError, match=said):
            packs_of(small, grid)
