"""A field of a question is declared once, and every surface has it: options, queries, forms, the notebook."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from typer.main import get_command

import lawfit
from lawfit.ask import (
    LARGEST_TARGET,
    Misasked,
    PlanQuestion,
    SettingQuestion,
    Target,
    ThirdInputs,
    questions_fields,
    read,
)
from lawfit.cli.app import app
from lawfit.records import Recipe, Run, RunStatus, Sweep
from lawfit.settings import Settings
from lawfit.storage import Store
from lawfit_api.app import create_app
from lawfit_api.dashboard.forms import form_fields
from lawfit_api.deps import question
from tests.client import TestClient

QUESTIONS: Mapping[type[ThirdInputs], tuple[str, Any, str]] = {
    Target: ("predict", lawfit.predict, "/v1/predictions"),
    SettingQuestion: ("predict", lawfit.cost, "/v1/settings/cost"),
    PlanQuestion: ("plan", lawfit.plan, "/v1/plans"),
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    path = str(tmp_path_factory.mktemp("ask") / "one.db")
    run = Run(run_key="a", params=1e8, tokens=2e9, batch_tokens=1e5, lr=1e-3, status=RunStatus.FINISHED, loss=3.0)
    with Store.open(path) as store:
        store.put_sweeps([Sweep(recipe=Recipe(name="one"), runs=(run,))])
    return TestClient(create_app(Settings(database_url=path)))


@pytest.mark.parametrize("kind", QUESTIONS)
class TestEverySurfaceHasEveryField:
    def test_the_command_line(self, kind: type[ThirdInputs]) -> None:
        options = {each.name: each for each in get_command(app).commands[QUESTIONS[kind][0]].params}  # type: ignore[attr-defined]
        for field in questions_fields(kind):
            found = options[field.name]
            assert found.opts == [f"--{field.about.option or field.name.replace('_', '-')}"]
            # without --lr a recommendation is asked for
            needed = field.needed and (kind, field.name) != (SettingQuestion, "lr")
            assert (found.required, found.metavar) == (needed, field.about.letter)

    def test_the_notebook(self, kind: type[ThirdInputs]) -> None:
        shown = inspect.signature(QUESTIONS[kind][1]).parameters
        for field in questions_fields(kind):
            assert shown[field.name].kind is inspect.Parameter.KEYWORD_ONLY
            assert (shown[field.name].default is inspect.Parameter.empty) == field.needed

    def test_rest(self, kind: type[ThirdInputs], client: TestClient) -> None:
        path = client.get("/openapi.json").json()["paths"][QUESTIONS[kind][2]]["get"]
        said = {each["name"]: each for each in path["parameters"]}
        for field in questions_fields(kind):
            found = said[field.name]
            assert (found["description"], found["required"]) == (field.about.text, field.needed)
            bounds = found["schema"].get("anyOf", [found["schema"]])[0]
            assert field.about.bounds.items() <= bounds.items()

    def test_the_page(self, kind: type[ThirdInputs], client: TestClient) -> None:
        if kind is SettingQuestion:
            pytest.skip("no page asks for the cost of a setting")
        page = client.get("/advisor" if kind is Target else "/plan").text
        assert len(form_fields(kind)) >= 8
        for field in form_fields(kind):
            assert f'name="{field.name}"' in page
            assert f'placeholder="{field.about.example}"' in page


class TestRead:
    def test_numbers_as_people_write_them(self) -> None:
        found = read(Target, {"params": "7B", "tokens": 1.4e12, "seq_len": "2k", "batch_tokens": "", "epochs": None})
        assert found == Target(params=7e9, tokens=1.4e12, seq_len=2000)
        assert isinstance(found.seq_len, int)

    @pytest.mark.parametrize(
        ("said", "words"),
        [
            ({"params": "7B"}, "tokens is missing"),
            ({"params": "seven", "tokens": 1}, "params: 'seven' is not a number"),
            ({"params": 1, "tokens": 1, "seq_len": 2.5}, "seq_len must be a whole number, got 2.5"),
            ({"params": 1, "tokens": [1]}, r"tokens must be a number, got \[1\]"),
            ({"params": 0.5, "tokens": 1}, r"params must be between 1 and 1e18, got 0.5"),
            ({"params": math.inf, "tokens": 1}, "params must be a finite number, got inf"),
            ({"params": 1, "tokens": 1, "level": 1}, "level must be 0.5 or more and below 1, got 1"),
            ({"params": 1, "tokens": 1, "active_share": 0}, "active_share must be above 0 and at most 1, got 0"),
        ],
    )
    def test_a_field_that_cannot_be_is_named(self, said: dict[str, Any], words: str) -> None:
        with pytest.raises(Misasked, match=words):
            read(Target, said)

    def test_bounds_themselves(self) -> None:
        assert read(Target, {"params": 1, "tokens": LARGEST_TARGET, "level": 0.5, "active_share": 1}).params == 1
        with pytest.raises(Misasked):
            read(Target, {"params": 1, "tokens": math.nextafter(LARGEST_TARGET, math.inf)})
        with pytest.raises(Misasked):
            read(PlanQuestion, {"flops": 0})

    def test_what_nobody_knows_is_said_with_what_there_is(self) -> None:
        with pytest.raises(ValueError, match=r"nothing is known of flop; it can be .*flops"):
            read(PlanQuestion, {"flop": 1e21})

    def test_each_field_says_what_it_is(self) -> None:
        for kind in QUESTIONS:
            fields = questions_fields(kind)
            assert len(fields) == len({field.name for field in fields}) > 10
            assert all(field.about.text.endswith(".") and field.about.letter for field in fields)


def test_a_query_of_its_own_question(tmp_path: Path) -> None:
    """A route of a question that lawfit does not know takes one line."""
    served = FastAPI()

    @served.get("/")
    def ask(asked: Annotated[Target, Depends(question(Target))]) -> dict[str, float]:
        return {"params": asked.params, "tokens": asked.tokens}

    with TestClient(served) as client:
        assert client.get("/", params={"params": "7B", "tokens": "1.4T"}).json() == {"params": 7e9, "tokens": 1.4e12}
        assert client.get("/", params={"params": "7B"}).status_code == 422
