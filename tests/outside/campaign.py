"""Requests made up from the OpenAPI document, as a client would write them and as none should.

``python -m tests.outside.campaign --examples 500`` runs the whole of it and counts; ``--database`` names a PostgreSQL.
What an answer must be: no failure of the service, and as its description says, in status, type, headers and body.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyStrategyDefinition, Unsatisfiable
from schemathesis import APIOperation, BaseSchema, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi import checks

from lawfit import pipeline
from lawfit.settings import data_folder
from tests.api.serving import serving

# Those that hold whatever is asked. Others guess: that a text of a description's type is a good one, for instance.
CHECKS: Final = [
    not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
    checks.response_headers_conformance, checks.response_schema_conformance, checks.negative_data_rejection,
    checks.allow_header_conformance,
]  # fmt: skip
SEED: Final = 20261130
PART: Final = 10  # walks along links


@dataclass
class Found:
    """What a campaign met."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)  # operation and status
    failures: dict[tuple[str, str], str] = field(
        default_factory=dict
    )  # operation and kind -> the first, to be repeated

    @property
    def requests(self) -> int:
        return sum(self.answers.values())

    def told(self) -> str:
        """A line for each operation, and each kind of failure with what repeats it."""
        lines = []
        for operation in sorted({name for name, _ in self.answers}):
            said = {status: count for (name, status), count in sorted(self.answers.items()) if name == operation}
            lines.append(f"{operation:42} {', '.join(f'{count} x {status}' for status, count in said.items())}")
        lines += [f"FAILED {operation}: {kind}\n{words}" for (operation, kind), words in self.failures.items()]
        return "\n".join([*lines, f"{self.requests} requests, {len(self.failures)} kinds of failure"])


@dataclass(frozen=True)
class Known:
    """What is in the store, so that some of the requests are about it."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    bodies: Mapping[str, Any]  # path of the operation -> what it is sent


@contextmanager
def swept_service(
    folder: Path, database: str = "lawfit.db", sweep: str = "proxy_held_back.csv"
) -> Iterator[tuple[str, Known]]:
    """A service over a swept, fitted store, with a job, an answer and a live run: where it is, and their ids."""
    with pipeline.open_store(database if "://" in database else folder / database) as store:
        pipeline.ingest(store, data_folder() / sweep)
        fit = pipeline.refit(store).id
        recipe = store.recipes()[0].recipe
        run = store.runs(recipe.key)[0].run_key
    with serving(folder, database=database) as served:
        answer = served.http.post("/v1/predictions?params=50M&tokens=500M").json()["id"]
        job = served.http.post("/v1/fits", json={"without_law": ["step_law"]}).json()["id"]
        served.http.post("/v1/live/runs", json={"project": "p", "run_key": "a", "config": {"lr": 1e-3}})
        ids = {"fit_id": fit, "job_id": job, "prediction_id": answer, "recipe": recipe.name, "run_key": run}
        query = {"recipe": recipe.name, "fit": fit, "a": fit, "b": fit, "name": "x.csv", "flops": "1e17"}
        bodies = {
            "/v1/uploads": (data_folder() / sweep).read_bytes(),
            "/v1/live/points": {"runs": [{"project": "p", "run_key": "a", "points": [["loss", 1, 3.5]]}]},
            "/v1/live/runs/finish": {"project": "p", "run_key": "a", "state": "crashed"},
            "/v1/runs/exclude": {"run_keys": [run], "reason": "spike"},
        }
        bodies["/v1/predictions/bulk"] = {"targets": [{"params": "50M", "tokens": 5e8}, {"params": 1, "tokens": 1}]}
        yield served.address, Known(path={**ids, "law": "step_law", "program": "hf"}, query=query, bodies=bodies)


def each_operation(address: str, known: Known, found: Found, examples: int) -> None:
    """So many requests of each operation, of three sorts: as described, about what is there, and not as described."""
    schema = _schema(address)
    with requests.Session() as session:
        for result in schema.get_all_operations():
            operation = result.ok()
            for strategy in _strategies(operation, known):
                _run(operation, strategy, _asked(operation, session, found), -(-examples // 3))


def linked(address: str, found: Found, walks: int) -> None:
    """Requests that go on from the answers to others, along the links of the description."""
    schema = _schema(address)
    with requests.Session() as session:

        class Machine(schema.as_state_machine()):  # type: ignore[misc]
            def get_call_kwargs(self, case: Case) -> dict[str, Any]:
                return {"session": session}

            def validate_response(self, response: Any, case: Case, **_: Any) -> None:
                _judge(case, response, found)

        # In small parts, each from its own seed: what is listed grows meanwhile, which Hypothesis takes for a fault.
        for part in range(-(-walks // PART)):
            with suppress(FlakyStrategyDefinition):
                seed(SEED + part)(Machine).run(settings=_settings(PART))


def _schema(address: str) -> BaseSchema:
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    schema.config.output.sanitization.enabled = False  # batch_tokens is no secret, and what failed is to be repeated
    return schema


def _strategies(operation: APIOperation, known: Known) -> Iterator[st.SearchStrategy[Case]]:
    yield operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    names = {parameter.name for parameter in operation.iter_parameters()}
    path = {name: value for name, value in known.path.items() if f"{{{name}}}" in operation.path}
    query = {name: value for name, value in known.query.items() if name in names and name not in path}
    sent = known.bodies.get(operation.path)
    body = (
        {} if sent is None else {"body": sent, "media_type": next(iter(operation.get_request_payload_content_types()))}
    )
    yield operation.as_strategy(path_parameters=path or None, query=query or None, **body)
    yield operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)


def _run(operation: APIOperation, strategy: st.SearchStrategy[Case], ask: Callable[[Case], None], count: int) -> None:
    @seed(SEED)
    @_settings(count)
    @given(strategy)
    def go(case: Case) -> None:
        ask(case)

    with suppress(Unsatisfiable):  # an operation without inputs has none that are wrong
        go()


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def _asked(operation: APIOperation, session: requests.Session, found: Found) -> Callable[[Case], None]:
    def ask(case: Case) -> None:
        _judge(case, case.call(session=session, timeout=60), found)

    return ask


def _judge(case: Case, response: Any, found: Found) -> None:
    label = case.operation.label
    found.answers[label, response.status_code] += 1
    try:
        case.validate_response(response, checks=CHECKS)
    except FailureGroup as group:
        for failure in group.exceptions:
            words = str(failure)
            if isinstance(failure, Failure):
                words = f"{failure.title}: {failure.message}"
            found.failures.setdefault(
                (label, type(failure).__name__), f"{words[:1500]}\n{case.as_curl_command()[:1500]}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--walks", type=int, default=100, help="along links, each of some requests")
    parser.add_argument("--database", default="lawfit.db")
    asked = parser.parse_args()
    found = Found()
    with (
        tempfile.TemporaryDirectory() as folder,
        swept_service(Path(folder), asked.database, "proxy_sweep.csv") as (address, known),
    ):
        each_operation(address, known, found, asked.examples)
        linked(address, found, asked.walks)
    print(found.told())
    raise SystemExit(bool(found.failures))


if __name__ == "__main__":
    main()
