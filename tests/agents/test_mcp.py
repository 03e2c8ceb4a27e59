"""`lawfit mcp` in a process of its own, asked by the SDK's own client: as REST answers, and nothing is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import jsonschema
import pytest

from lawfit import pipeline
from lawfit.agents.tools import TOOLS
from lawfit.ask import PlanQuestion, SettingQuestion, SetUp, Target, questions_fields
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.settings import Settings
from lawfit.simulate import write_csv
from lawfit_api.app import create_app
from tests.client import TestClient
from tests.estimate.simulated import sweep

mcp = pytest.importorskip("mcp", reason="NOT TESTED: the extra mcp is not installed", exc_type=ImportError)
from mcp.client import Client  # noqa: E402
from mcp.client.stdio import StdioServerParameters, stdio_client  # noqa: E402

SCALE: Final = {"params": "400M", "tokens": 1.2e10}
# tool, its arguments, and what REST is asked for the same
ASKED: Final[Mapping[str, tuple[str, dict[str, Any], str, dict[str, Any]]]] = {
    "predict": ("predict", {**SCALE, "seq_len": 1024}, "/v1/predictions", {**SCALE, "seq_len": 1024}),
    "cost": (
        "cost_of_setting",
        {**SCALE, "lr": 1e-3, "batch_tokens": "500k"},
        "/v1/settings/cost",
        {**SCALE, "lr": 1e-3, "batch_tokens": "500k"},
    ),
    "plan": ("plan", {"flops": "1e19"}, "/v1/plans", {"flops": "1e19"}),
    "config": (
        "config",
        {**SCALE, "seq_len": 1024, "program": "megatron", "world_size": 8},
        "/v1/configs/megatron",
        {**SCALE, "seq_len": 1024, "world_size": 8},
    ),
    "recipes": ("recipes", {}, "/v1/recipes", {}),
    "no recipe": ("predict", {**SCALE, "recipe": "nope"}, "/v1/predictions", {**SCALE, "recipe": "nope"}),
    "no number": ("predict", {"params": "seven", "tokens": 1}, "/v1/predictions", {"params": "seven", "tokens": 1}),
    "no fit": ("plan", {"flops": 1e19, "fit": "nope"}, "/v1/plans", {"flops": 1e19, "fit": "nope"}),
    "no batch": (
        "cost_of_setting",
        {**SCALE, "lr": 1e-3, "batch_tokens": 0.5},
        "/v1/settings/cost",
        {**SCALE, "lr": 1e-3, "batch_tokens": 0.5},
    ),
}
FURTHER: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "runs": ("runs", {"limit": 2}),
    "too many runs": ("runs", {"limit": 1000}),
    "a law": ("laws", {"law": "step_law"}),
    "no such law": ("laws", {"law": "nope"}),
    "laws": ("laws", {}),
    "no tool": ("launch", {}),
    "needed": ("config", dict(SCALE)),
    "unknown": ("predict", {**SCALE, "lr": 1e-3}),
}


@dataclass(frozen=True, kw_only=True)
class Session:
    """What one client heard."""

    url: str
    tools: Mapping[str, Any]
    answers: Mapping[str, Any]
    server: Any


def parameters(url: str) -> StdioServerParameters:
    # threads as here: sums are added up in another order else, and a last digit differs
    kept = ("PATH", "PYTHONPATH", "HOME", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name in kept}
    return StdioServerParameters(
        command=sys.executable, args=["-m", "lawfit", "--database", url, "mcp"], env=environment
    )


async def talk(url: str, questions: Mapping[str, tuple[str, dict[str, Any]]]) -> Session:
    async with Client(stdio_client(parameters(url))) as client:
        listed = await client.list_tools()
        answers = {case: await client.call_tool(tool, said) for case, (tool, said) in questions.items()}
        return Session(
            url=url, tools={tool.name: tool for tool in listed.tools}, answers=answers, server=client.server_info
        )


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Every question asked of one server, over one simulated sweep."""
    path = tmp_path_factory.mktemp("agents")
    write_csv(sweep().runs, path / "sweep.csv")
    url = str(path / "one.db")
    with pipeline.open_store(url, create=True) as store:
        pipeline.ingest(store, path / "sweep.csv")
        pipeline.refit(store, options=FitOptions(backtest=False))
        before = store.recipes(), [fit.id for fit in store.fits()]
    questions = {case: (tool, said) for case, (tool, said, _, _) in ASKED.items()} | dict(FURTHER)
    found = anyio.run(talk, url, questions)
    with pipeline.open_store(url) as store:
        assert (store.recipes(), [fit.id for fit in store.fits()]) == before
        answer = found.answers["predict"].structured_content
        with pytest.raises(Exception, match="no prediction"):
            store.prediction(answer["id"])  # nothing was kept
    return found


def test_tools_are_those_of_the_table(session: Session) -> None:
    assert list(session.tools) == [tool.name for tool in TOOLS]
    assert session.server.name == "lawfit"
    for tool in session.tools.values():
        assert tool.annotations.read_only_hint
        assert tool.description
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        jsonschema.Draft202012Validator.check_schema(tool.output_schema)


@pytest.mark.parametrize(
    ("name", "questions"),
    [
        ("predict", [Target]),
        ("cost_of_setting", [SettingQuestion]),
        ("plan", [PlanQuestion]),
        ("config", [Target, SetUp]),
    ],
)
def test_a_field_of_a_question_is_an_argument(name: str, questions: list[Any], session: Session) -> None:
    schema = session.tools[name].input_schema
    for field in (field for question in questions for field in questions_fields(question)):
        found = schema["properties"][field.name]
        assert found["description"] == field.about.text
        assert field.about.bounds.items() <= found.items()
        assert (field.name in schema["required"]) == field.needed


@pytest.mark.parametrize("case", ASKED)
def test_it_answers_and_refuses_as_rest_does(case: str, session: Session) -> None:
    _, _, path, query = ASKED[case]
    answer = session.answers[case]
    with TestClient(create_app(Settings(database_url=session.url))) as client:
        said = client.get(path, params=query)
    if said.status_code == 200:
        assert not answer.is_error
        assert list(apart(answer.structured_content, said.json())) == []
        assert answer.structured_content == said.json() == json.loads(answer.content[0].text)
        jsonschema.validate(answer.structured_content, session.tools[ASKED[case][0]].output_schema)
        return
    problem = said.json()
    assert answer.is_error
    assert answer.content[0].text == answer.structured_content["detail"]
    assert answer.structured_content["type"] == problem["type"]
    words = answer.structured_content["detail"]
    assert words in problem["detail"] or problem["errors"][0]["message"] in words


def apart(one: Any, other: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Leaves that differ, which two whole documents printed beside each other do not show."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in one.keys() | other.keys():
            yield from apart(one.get(name), other.get(name), f"{place}/{name}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for at, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            yield from apart(mine, theirs, f"{place}/{at}")
    elif one != other:
        yield place, one, other


def test_runs_are_counted_and_the_first_given(session: Session) -> None:
    found = session.answers["runs"].structured_content
    assert (found["total"], len(found["runs"])) == (len(sweep().runs), 2)
    assert found["runs"][0]["loss"] > 0
    refused = session.answers["too many runs"]
    assert refused.is_error
    assert "limit must be between 1 and 200" in refused.content[0].text


def test_laws_of_the_catalogue(session: Session) -> None:
    (law,) = session.answers["a law"].structured_content["laws"]
    assert law["id"] == "step_law"
    assert len(session.answers["laws"].structured_content["laws"]) == len(pipeline.list_laws())
    assert session.answers["no such law"].structured_content["type"] == "UnknownLaw"


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no tool", "there is no tool 'launch'; there are predict, cost_of_setting"),
        ("needed", "program is missing"),
        ("unknown", "predict takes no lr; it takes params"),
    ],
)
def test_what_cannot_be_asked_is_said(case: str, words: str, session: Session) -> None:
    assert session.answers[case].is_error
    assert words in session.answers[case].content[0].text


def test_a_database_that_is_not_there_is_an_answer_and_found_later(tmp_path: Path) -> None:
    async def before_and_after() -> tuple[Any, Any]:
        async with Client(stdio_client(parameters(str(tmp_path / "none.db")))) as client:
            first = await client.call_tool("recipes", {})
            with pipeline.open_store(str(tmp_path / "none.db"), create=True):
                pass
            return first, await client.call_tool("recipes", {})

    first, second = anyio.run(before_and_after)
    assert first.is_error
    assert "none.db" in first.content[0].text
    assert second.structured_content == {"recipes": []}


def test_without_the_extra_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['mcp'] = None; from lawfit.cli.main import run; sys.exit(run(['mcp']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "lawfit: the server for agents needs the package mcp: pip install 'lawfit[mcp]'\n"
    assert done.stdout == ""
