"""Between the socket and the routes: tokens, hosts, bodies, repeated questions and changes, who waits."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lawfit import pipeline
from lawfit.settings import Settings, is_loopback
from lawfit.storage import Store, tokens
from lawfit.storage.tokens import (
    SCOPES,
    AuditRow,
    audit_rows,
    create_token,
    list_tokens,
    revoke_token,
    write_audit,
)
from lawfit_api.app import create_app
from lawfit_api.deps import StoreHolder
from lawfit_api.edge import access, answers, bodies
from lawfit_api.edge.admission import Admission
from lawfit_api.edge.again import Again
from lawfit_api.edge.bodies import Bodies
from lawfit_api.edge.requests import Counts
from tests.api.test_app import ASKED, FIT, problem_of
from tests.api.test_app import database as database
from tests.cli.samples import PREDICTION
from tests.client import TestClient

AWAY = {"host": "0.0.0.0"}  # beyond this machine, tokens are needed


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Answers are made up; which fit each was asked of."""
    made: list[str | None] = []

    def recommend(store: Store, recipe: str | None, _target: object, **asked: Any) -> dict[str, Any]:
        made.append(recipe)
        return {**PREDICTION, "fits": [fit.id for fit in store.fits()], "id": f"p{len(made)}"}

    monkeypatch.setattr(pipeline, "recommend", recommend)
    return made


@pytest.fixture
def client(database: str, counted: list[str | None]) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(database_url=database))) as served:
        yield served


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class TestTokens:
    def test_each_scope_opens_what_it_names(self, database: str, counted: list[str | None]) -> None:
        with Store.open(database) as store:
            tokens = {scope: create_token(store, scope, [scope]) for scope in SCOPES}
        asked = (
            ("GET", "/v1/recipes", "read"), ("GET", "/", "read"), ("GET", "/metrics", "read"), ("POST", ASKED, "read"),
            ("POST", "/v1/plans/next", "read"), ("POST", "/v1/plans/next/x/rehearsals", "fit"),
            ("POST", "/v1/plans/next/jobs", "fit"),
            ("POST", "/v1/fits", "fit"), ("POST", "/v1/uploads", "ingest"), ("POST", "/v1/live/runs", "ingest"),
            ("DELETE", "/v1/recipes", "admin"), ("PUT", "/v1/anything", "admin"),
        )  # fmt: skip
        with TestClient(create_app(Settings(database_url=database, **AWAY))) as client:
            for method, path, wanted in asked:
                for scope, token in tokens.items():
                    answer = client.request(method, path, headers=bearer(token))
                    opens = scope in (wanted, "admin") or wanted == "read"
                    assert (answer.status_code == 403) != opens, (method, path, scope)
                    assert answer.status_code != 401
                assert problem_of(client.request(method, path), 401)["type"] == "NoToken"
                assert problem_of(client.request(method, path, headers=bearer("lawfit_guess")), 401)
            assert client.get("/healthz").status_code == 200
            assert client.get("/readyz").status_code == 200
            as_browser = client.get("/v1/recipes", auth=("anybody", tokens["read"]))
            assert as_browser.status_code == 200
            assert "Basic" in client.get("/").headers["www-authenticate"]

    def test_a_browser_is_told_on_a_page(self, database: str) -> None:
        """That asks for nothing further, which would be refused as well; programs get a problem as ever."""
        looks = {"Accept": "text/html,application/xhtml+xml"}
        with TestClient(create_app(Settings(database_url=database, **AWAY))) as client:
            answer = client.get("/runs", headers=looks)
            assert (answer.status_code, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
            assert "No token was given; send Authorization: Bearer TOKEN" in answer.text
            assert "Basic" in answer.headers["www-authenticate"]
            assert not re.findall(r"(?:src|href)=", answer.text)
            problem_of(client.get("/v1/runs", headers=looks), 401)
            problem_of(client.get("/runs"), 401)
        with TestClient(create_app(Settings(database_url=database))) as client:
            answer = client.get("/", headers={**looks, "Host": "evil.example"})
            assert (answer.status_code, answer.headers["content-type"]) == (421, "text/html; charset=utf-8")

    def test_expired_and_revoked_ones_open_nothing(self, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(access, "KNOWN_SECONDS", 0.0)
        with Store.open(database) as store:
            short, taken = create_token(store, "short", ["read"], days=1e-9), create_token(store, "taken", ["read"])
            with TestClient(create_app(Settings(database_url=database, **AWAY))) as client:
                assert client.get("/v1/recipes", headers=bearer(taken)).status_code == 200
                revoke_token(store, "taken")
                for token in (short, taken):
                    assert client.get("/v1/recipes", headers=bearer(token)).status_code == 401
            assert {token.name: token.state for token in list_tokens(store)} == {"short": "expired", "taken": "revoked"}
            assert next(token for token in list_tokens(store) if token.name == "taken").last_used_at is not None

    def test_the_database_does_not_hold_them(self, database: str) -> None:
        with Store.open(database) as store:
            token = create_token(store, "a", ["read"])
        assert token.encode() not in b"".join(path.read_bytes() for path in Path(database).parent.iterdir())

    def test_on_this_machine_none_is_needed_and_a_wrong_one_is_refused(self, client: TestClient) -> None:
        assert client.get("/v1/recipes").status_code == 200
        assert client.get("/v1/recipes", headers=bearer("lawfit_guess")).status_code == 401

    @pytest.mark.parametrize(
        ("host", "loopback"),
        [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("localhost", True),
         ("0.0.0.0", False), ("::", False), ("10.0.0.2", False), ("lawfit.example", False)],
    )  # fmt: skip
    def test_which_hosts_are_this_machine(self, host: str, loopback: bool) -> None:
        assert is_loopback(host) is loopback
        assert Settings(host=host).tokens_needed is not loopback
        assert Settings(host=host, require_tokens="always").tokens_needed
        assert not Settings(host=host, require_tokens="never").tokens_needed

    def test_changes_are_written_down(self, database: str, counted: list[str | None]) -> None:
        with Store.open(database) as store, TestClient(create_app(Settings(database_url=database, **AWAY))) as client:
            token = create_token(store, "trainer", ["read"])
            client.get(ASKED, headers=bearer(token))
            client.post(ASKED, headers={**bearer(token), "X-Request-Id": "mine"})
            client.post("/v1/fits", headers=bearer(token))  # refused: no change
            (row,) = audit_rows(store)
        assert (row.who, row.request_id, row.action, row.status) == ("trainer", "mine", "POST /v1/predictions", 201)

    def test_of_very_many_changes_the_oldest_go(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tokens, "_KEPT_AUDIT_ROWS", 10)
        monkeypatch.setattr(tokens, "_TRIMMED_EVERY", 20)
        for number in range(1, 41):
            row = AuditRow(at="", who="", address="", request_id="", action=f"{number}", status=200)
            write_audit(store, row)
        assert [row.action for row in audit_rows(store, limit=20)] == [f"{number}" for number in range(40, 30, -1)]


class TestHosts:
    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[", "lawfit.example:80"])
    def test_foreign_names_are_refused(self, client: TestClient, host: str) -> None:
        assert problem_of(client.get("/v1/recipes", headers={"Host": host}), 421)

    @pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8765", "team.example"])
    def test_own_names_are_not(self, database: str, host: str) -> None:
        settings = Settings(database_url=database, allowed_hosts=("team.example",))
        with TestClient(create_app(settings)) as client:
            assert client.get("/v1/recipes", headers={"Host": host}).status_code == 200

    def test_other_sites_change_nothing(self, client: TestClient) -> None:
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
            assert problem_of(client.post(ASKED, headers=headers), 403)["type"] == "ForeignSite"
        assert client.post(ASKED, headers={"Origin": "http://127.0.0.1:8765"}).status_code == 201

    def test_pages_elsewhere_may_ask_where_that_is_said(self, database: str) -> None:
        origin = {"Origin": "https://team.example"}
        with TestClient(create_app(Settings(database_url=database))) as client:
            assert "access-control-allow-origin" not in client.get("/v1/recipes", headers=origin).headers
        settings = Settings(database_url=database, cors_origins=("https://team.example",))
        with TestClient(create_app(settings)) as client:
            assert client.get("/v1/recipes", headers=origin).headers["access-control-allow-origin"] == origin["Origin"]
            others = client.get("/v1/recipes", headers={"Origin": "https://evil.example"}).headers
            assert "access-control-allow-origin" not in others


class TestAnswers:
    def test_the_same_question_is_worked_out_once(self, client: TestClient, counted: list[str | None]) -> None:
        first, second = client.get(ASKED), client.get(ASKED)
        assert (first.json(), first.headers["etag"]) == (second.json(), second.headers["etag"])
        assert len(counted) == 1
        assert client.get(ASKED.replace("7e9", "8e9")).json() != first.json()
        assert len(counted) == 2

    def test_a_new_fit_shows_at_once_from_here_and_soon_from_elsewhere(
        self, client: TestClient, counted: list[str | None], database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert client.get(ASKED).json()["fits"] == ["f1"]
        monkeypatch.setattr("lawfit_api.edge.watch.LOOK_SECONDS", 0.0)
        with Store.open(database) as elsewhere:
            elsewhere.put_fit(replace(FIT, id="f2"))
        assert sorted(client.get(ASKED).json()["fits"]) == ["f1", "f2"]

    def test_what_was_not_changed_is_not_sent_again(self, client: TestClient) -> None:
        for path in (ASKED, "/v1/recipes", "/v1/fits/f1"):
            tag = client.get(path).headers["etag"]
            again = client.get(path, headers={"If-None-Match": f'"x", W/{tag}'})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
            assert client.get(path, headers={"If-None-Match": '"x"'}).status_code == 200

    def test_failures_are_worked_out_again(self, client: TestClient) -> None:
        assert "etag" not in problem_of_response(client.get("/v1/fits/none"), 404)

    def test_what_is_kept_is_bounded(
        self, client: TestClient, counted: list[str | None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        size = len(client.get(ASKED).content)
        monkeypatch.setattr(answers, "MOST_BYTES", int(2.5 * size))
        for params in ("1e9", "2e9", "3e9"):
            client.get(f"/v1/predictions?params={params}&tokens=1e12")
        before = len(counted)
        client.get("/v1/predictions?params=3e9&tokens=1e12")
        assert len(counted) == before
        client.get("/v1/predictions?params=1e9&tokens=1e12")
        assert len(counted) == before + 1

    def test_short_answers_are_bounded_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(answers, "MOST_BYTES", 25_000)
        app, _ = self.make()
        for number in range(50):
            call(app, empty, path=f"/v1/{number}", method="GET")
        assert len(app._kept) == 12

    def test_answers_that_cannot_be_given_again_are_not_kept(self) -> None:
        app, watch = self.make()
        call(app, empty, path="/v1/a", method="GET")
        watch.now = (2,)
        call(app, empty, path="/v1/b", method="GET")
        assert [path for path, _ in app._kept] == ["/v1/b"]

    def make(self) -> tuple[answers.Answers, Any]:
        class Watched:
            now = (1,)

            async def version(self) -> tuple[int, ...]:
                return self.now

        watch: Any = Watched()
        return answers.Answers(reads_all, watch, lambda *_: True, Counts()), watch

    def test_many_that_ask_the_same_wait_for_one_answer(
        self, client: TestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made, may_go = [], threading.Event()

        def slow(*_args: object, **_named: object) -> dict[str, Any]:
            made.append(1)
            may_go.wait(10)
            return dict(PREDICTION)

        monkeypatch.setattr(pipeline, "recommend", slow)
        with ThreadPoolExecutor(8) as threads:
            asked = [threads.submit(client.get, ASKED) for _ in range(8)]
            threading.Timer(0.3, may_go.set).start()
            assert {each.result().status_code for each in asked} == {200}
        assert len(made) == 1


def problem_of_response(response: Any, status: int) -> Any:
    problem_of(response, status)
    return response.headers


class TestAgain:
    def test_the_same_change_is_done_once(self, client: TestClient, counted: list[str | None]) -> None:
        key = {"Idempotency-Key": "k-1"}
        first, second = client.post(ASKED, headers=key), client.post(ASKED, headers=key)
        assert (first.status_code, first.json()) == (second.status_code, second.json()) == (201, first.json())
        assert second.headers["idempotent-replayed"] == "true"
        assert len(counted) == 1
        other = client.post(ASKED.replace("7e9", "8e9"), headers=key)
        assert problem_of(other, 422)["type"] == "KeyReused"
        assert client.post(ASKED, headers={"Idempotency-Key": "k-2"}).json() != first.json()

    def test_two_at_once_do_it_once(self, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        made, may_go = [], threading.Event()

        def slow(*_args: object, **_named: object) -> dict[str, Any]:
            made.append(1)
            may_go.wait(10)
            return dict(PREDICTION)

        monkeypatch.setattr(pipeline, "recommend", slow)
        with ThreadPoolExecutor(6) as threads:
            asked = [threads.submit(client.post, ASKED, headers={"Idempotency-Key": "k"}) for _ in range(6)]
            threading.Timer(0.5, may_go.set).start()
            statuses = sorted(each.result().status_code for each in asked)
        assert statuses == [201, 409, 409, 409, 409, 409]
        assert len(made) == 1
        assert client.post(ASKED, headers={"Idempotency-Key": "k"}).status_code == 201
        assert len(made) == 1

    def test_what_failed_may_be_tried_again(self, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        from lawfit.errors import StoreError

        def away(*_args: object, **_named: object) -> dict[str, Any]:
            raise StoreError("away")

        key = {"Idempotency-Key": "k"}
        with monkeypatch.context() as patched:
            patched.setattr(pipeline, "recommend", away)
            assert client.post(ASKED, headers=key).status_code == 503
        assert client.post(ASKED, headers=key).status_code == 201

    def test_a_client_that_went_away_may_try_again(self, database: str) -> None:
        async def says_nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
            """As where nobody waits any more."""

        app = Again(says_nothing, StoreHolder(database))
        scope = scope_of("/slow", "POST", idempotency_key="k") | {"state": {"who": ""}}
        for _ in range(2):
            sent: Answered = []

            async def send(message: Message, to: Answered = sent) -> None:
                to.append(message)

            asyncio.run(app(scope, pieces(), send))
            assert sent == []  # not 409: nothing is being worked on

    def test_a_key_is_one_of_characters_that_print(self, client: TestClient) -> None:
        problem_of(client.post(ASKED, headers={"Idempotency-Key": "x" * 201}), 422)


class TestRequests:
    def test_a_head_is_a_get_without_its_body(self, client: TestClient) -> None:
        whole, head = client.get("/v1/recipes"), client.head("/v1/recipes")
        assert (head.status_code, head.content) == (200, b"")
        assert (head.headers["etag"], head.headers["content-length"]) == (
            whole.headers["etag"], str(len(whole.content)),
        )  # fmt: skip

    def test_each_has_an_id_and_a_line(self, client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, logger="lawfit.access"):
            assert client.get("/v1/recipes", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
            made = client.get("/v1/fits/no", headers={"X-Request-Id": "a b\t"}).headers["x-request-id"]
        lines = [json.loads(record.message) for record in caplog.records if record.name == "lawfit.access"]
        assert [(line["id"], line["path"], line["status"]) for line in lines] == [
            ("abc-1", "/v1/recipes", 200), (made, "/v1/fits/no", 404),
        ]  # fmt: skip
        assert len(made) == 16

    def test_counts(self, client: TestClient) -> None:
        client.get(ASKED)
        client.get(ASKED)
        client.get("/v1/fits/f1")
        client.get("/v1/fits/f1")  # kept, and counted under its route, of which there is no end of addresses
        said = client.get("/metrics").text
        assert 'lawfit_http_requests_total{method="GET",route="/v1/predictions",status="200"} 2.0' in said
        assert 'route="/v1/fits/{fit_id}",status="200"} 2.0' in said
        assert "lawfit_http_kept_answers_total 2.0" in said
        assert "/v1/fits/f1" not in said

    def test_parameters_that_are_not_there_or_twice(self, client: TestClient) -> None:
        told = problem_of(client.get(f"{ASKED}&parms=3&recipe=a&recipe=b"), 422)
        assert {item["field"]: item["message"] for item in told["errors"]} == {
            "parms": "there is no such parameter; did you mean 'params'?",
            "recipe": "is given more than once, and takes one value",
        }
        assert client.get(f"{ASKED}&at=beta2=0.9&at=clip=1").status_code == 200

    def test_first_requests_may_come_all_at_once(self, database: str) -> None:
        """The description of the parameters is made once, whoever asks for it first."""
        client = TestClient(create_app(Settings(database_url=database)))  # not started: nothing is prepared
        with ThreadPoolExecutor(8) as threads:
            paths = ["/v1/recipes", "/v1/runs", "/v1/fits", "/v1/jobs"] * 4
            assert {each.status_code for each in threads.map(client.get, paths)} == {200}

    def test_long_documents_are_packed(self, client: TestClient) -> None:
        packed = client.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.json()["info"]["title"] == "lawfit"

    def test_below_a_path_of_a_proxy(self, database: str) -> None:
        with TestClient(create_app(Settings(database_url=database, root_path="/lawfit"))) as client:
            assert client.get("/v1/recipes").status_code == 200
            assert client.get("/openapi.json").json()["servers"] == [{"url": "/lawfit"}]


Answered = list[Message]


def call(app: ASGIApp, receive: Receive, *, path: str = "/slow", method: str = "POST", **headers: str) -> Answered:
    """What an application sends, its request coming from `receive`."""
    sent: Answered = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope_of(path, method, **headers), receive, send))  # type: ignore[arg-type]
    return sent


def scope_of(path: str, method: str = "GET", **headers: str) -> Scope:
    found = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "path": path, "method": method, "headers": found, "query_string": b"", "state": {}}


async def empty() -> Message:
    return {"type": "http.request"}


async def reads_all(_scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"read"})


def pieces(*bodies: bytes, then: Callable[[], Any] | None = None) -> Receive:
    left = [{"type": "http.request", "body": body, "more_body": True} for body in bodies]

    async def receive() -> Message:
        if left:
            return left.pop(0)
        if then is not None:
            await then()
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive


class TestBodies:
    def test_too_long_is_told_at_once_or_when_it_is(self) -> None:
        app = Bodies(reads_all, 100, lambda _path: True)
        assert call(app, pieces(b"x" * 100))[0]["status"] == 200
        assert call(app, pieces(b"x" * 60, b"x" * 60))[0]["status"] == 413
        never = pieces(then=lambda: pytest.fail("read all the same"))
        assert call(app, never, content_length="101")[0]["status"] == 413

    @pytest.mark.parametrize(("piece", "status"), [(b"x" * 60, 413), (b"x", 408)])
    def test_an_application_that_makes_something_else_of_it_is_not_heard(self, piece: bytes, status: int) -> None:
        """FastAPI answers 400 to whatever fails while it reads."""

        async def bad_request(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await reads_all(scope, receive, send)
            except Exception:
                await send({"type": "http.response.start", "status": 400, "headers": []})
                await send({"type": "http.response.body", "body": b""})

        app = Bodies(bad_request, 100, lambda _path: True, piece_seconds=0.05)
        sent = call(app, pieces(piece, piece, then=lambda: asyncio.sleep(5)), transfer_encoding="chunked")
        assert sent[0]["status"] == status
        assert (b"connection", b"close") in sent[0]["headers"]

    def test_an_answer_before_the_end_of_the_body_ends_the_connection(self) -> None:
        async def no(_scope: Scope, _receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        for headers, closes in (
            ({"content_length": "50"}, True),
            ({"transfer_encoding": "chunked"}, True),
            ({}, False),
        ):
            sent = call(Bodies(no, 100, lambda _path: True), pieces(b"x"), **headers)
            assert ((b"connection", b"close") in sent[0]["headers"]) is closes

    def test_what_is_held_in_memory_is_shorter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bodies, "MOST_HELD", 50)
        app = Bodies(reads_all, 100, lambda path: path == "/uploads")
        for path, status in (("/uploads", 200), ("/points", 413)):
            assert call(app, pieces(b"x" * 60), path=path)[0]["status"] == status
            assert call(app, pieces(b"x" * 60), path=path, content_length="60")[0]["status"] == status

    def test_too_slow(self) -> None:
        app = Bodies(reads_all, 100, lambda _path: True, piece_seconds=0.05)
        assert call(app, pieces(b"x", then=lambda: asyncio.sleep(5)))[0]["status"] == 408


class TestAdmission:
    def make(self, gate: asyncio.Event, **limits: Any) -> tuple[Admission, list[str]]:
        worked: list[str] = []

        async def app(scope: Scope, _receive: Receive, send: Send) -> None:
            worked.append(scope["path"])
            await gate.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        return Admission(app, lambda _method, path: path != "/quick", Counts(), **{"at_once": 1, **limits}), worked

    def ask(self, app: ASGIApp, path: str, gone: asyncio.Event) -> asyncio.Task[list[int]]:
        async def receive() -> Message:
            if not given:
                given.append(1)
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def run() -> list[int]:
            sent: list[int] = []

            async def send(message: Message) -> None:
                sent.extend([message["status"]] if "status" in message else [])

            await app(scope_of(path), receive, send)
            return sent

        given: list[int] = []
        return asyncio.ensure_future(run())

    def test_takes_turns_drops_the_gone_and_refuses_the_many(self) -> None:
        async def scene() -> None:
            gate, gone, here = asyncio.Event(), asyncio.Event(), asyncio.Event()
            app, worked = self.make(gate, most_waiting=2, wait_seconds=30)
            first = self.ask(app, "/a", here)
            await asyncio.sleep(0.01)
            left, waits = self.ask(app, "/left", gone), self.ask(app, "/b", here)
            await asyncio.sleep(0.01)
            many = self.ask(app, "/many", here)
            assert await many == [503]
            quick = self.ask(app, "/quick", here)  # what costs little never waits
            await asyncio.sleep(0.01)
            assert worked == ["/a", "/quick"]
            gone.set()
            assert await left == []
            gate.set()
            assert [await first, await waits, await quick] == [[200], [200], [200]]
            assert worked == ["/a", "/quick", "/b"]
            assert await self.ask(app, "/again", here) == [200]  # no turn was lost

        asyncio.run(scene())

    def test_who_waits_too_long_is_told(self) -> None:
        async def scene() -> None:
            gate, here = asyncio.Event(), asyncio.Event()
            app, _ = self.make(gate, wait_seconds=0.05)
            first, second = self.ask(app, "/a", here), self.ask(app, "/b", here)
            assert await second == [503]
            gate.set()
            assert await first == [200]

        asyncio.run(scene())
