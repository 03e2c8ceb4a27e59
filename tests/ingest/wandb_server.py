"""A local stand-in of W&B's server: it answers over HTTP the GraphQL queries that wandb 0.31's client makes.

The queries and the shape of the answers were taken from what the client sent and understood; no real server was asked.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

USER: Final = {"id": "u", "entity": "team", "username": "me", "name": "me", "email": "e", "flags": "{}"}


@dataclass
class ServedRun:
    """One run as the server has it."""

    run_id: str
    name: str
    state: str
    config: dict[str, Any]
    history: list[dict[str, Any]]

    def node(self) -> dict[str, Any]:
        summary = self.history[-1] if self.history else {}
        return {
            **dict.fromkeys(("sweepName", "group", "jobType", "commit", "description", "notes")),
            "id": f"id-{self.run_id}", "projectId": "1", "tags": [], "name": self.run_id, "displayName": self.name,
            "state": self.state, "config": json.dumps({key: {"value": value} for key, value in self.config.items()}),
            "readOnly": False, "createdAt": "2026-01-01T00:00:00", "heartbeatAt": "2026-01-01T00:00:00",
            "systemMetrics": "{}", "summaryMetrics": json.dumps(summary), "historyLineCount": len(self.history),
            "historyKeys": {"lastStep": self.last_step, "sets": [], "keys": {}},
            "user": {"name": "me", "username": "me"},
        }  # fmt: skip

    @property
    def last_step(self) -> int:
        return max((row["_step"] for row in self.history), default=-1)


@dataclass
class Server:
    """Runs, what was asked, and how many answers are to fail first."""

    runs: list[ServedRun] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)  # "Runs", "HistoryPage abc", ...
    failures: int = 0
    status: int = 429
    url: str = ""

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "viewer" in query:
            return {"viewer": {**USER, "teams": {"edges": []}, "apiKeys": {"edges": []}, "admin": False}}
        if variables.get("project") != "proj":
            return {"project": None}
        if "query Runs" in query:
            self.asked.append("Runs")
            first = int(variables.get("cursor") or 0)
            page = self.runs[first : first + variables["perPage"]]
            edges = [{"node": run.node(), "cursor": str(first + at)} for at, run in enumerate(page, start=1)]
            more = {"endCursor": str(first + len(page)), "hasNextPage": first + len(page) < len(self.runs)}
            there = {"edges": edges, "pageInfo": more}
            return {"project": {"internalId": "1", "runCount": len(self.runs), "readOnly": False, "runs": there}}
        run = next(run for run in self.runs if run.run_id in (variables.get("run"), *variables.values()))
        if "RunHistoryKeys" in query:
            return {"project": {"run": {"historyKeys": {"lastStep": run.last_step}}}}
        if "RunParquetHistory" in query:
            live = [{"_step": row["_step"]} for row in run.history]
            return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": live}}}}
        assert "HistoryPage" in query, query
        self.asked.append(f"HistoryPage {run.run_id}")
        asked = range(variables["minStep"], variables["maxStep"])
        return {"project": {"run": {"history": [json.dumps(row) for row in run.history if row["_step"] in asked]}}}


@contextmanager
def serving() -> Iterator[Server]:
    """A server on this machine, for as long as the block lasts."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            query, variables = asked.get("query", ""), asked.get("variables") or {}
            status, answer = 200, b""
            if server.failures and "viewer" not in query:
                server.failures -= 1
                status = server.status
            else:
                answer = json.dumps({"data": server.answer(query, variables)}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
