"""The server of the Model Context Protocol, on standard input and output. Refusals are answers that say why."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
from mcp import types
from mcp.server import Server
from mcp.server.stdio import stdio_server

from lawfit import __version__, pipeline
from lawfit.agents.tools import TOOLS, Tool
from lawfit.errors import LawfitError, Unanswerable
from lawfit.words import over_http

if TYPE_CHECKING:
    from lawfit.storage import Store

INSTRUCTIONS: Final = (
    "lawfit answers from the user's own training runs, stored and fitted before. Numbers have intervals: tell them, "
    "and the warnings. Where it refuses it says what the runs lack; make up no numbers instead. Counts may be written "
    "7B, 1.4T. Nothing here changes the store."
)


def serve(url: str) -> None:
    """Answer until standard input ends; the database is opened with the first question."""
    anyio.run(_serve, url)


async def _serve(url: str) -> None:
    stores = _Stores(url)
    server = _server(stores)
    try:
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
    finally:
        stores.close()


class _Stores:
    """The store, opened once: a database that is not there is said in the answer, and looked for again."""

    def __init__(self, url: str) -> None:
        self._url, self._lock = url, threading.Lock()
        self._store: Store | None = None

    def get(self) -> Store:
        with self._lock:
            if self._store is None:
                self._store = pipeline.open_store(self._url, create=False)
            return self._store

    def close(self) -> None:
        if self._store is not None:
            self._store.close()


def _server(stores: _Stores) -> Server[Any]:
    async def list_tools(_context: Any, _asked: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_described(tool) for tool in TOOLS])

    async def call_tool(_context: Any, asked: types.CallToolRequestParams) -> types.CallToolResult:
        return await anyio.to_thread.run_sync(_answer, stores, asked.name, asked.arguments or {})

    return Server(
        "lawfit", version=__version__, instructions=INSTRUCTIONS, on_list_tools=list_tools, on_call_tool=call_tool
    )


def _described(tool: Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.text,
        input_schema=tool.takes,
        output_schema=tool.gives,
        annotations=types.ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False),
    )


def _answer(stores: _Stores, name: str, said: Mapping[str, Any]) -> types.CallToolResult:
    with over_http():  # an agent has no terminal either
        return _told(stores, name, said)


def _told(stores: _Stores, name: str, said: Mapping[str, Any]) -> types.CallToolResult:
    tool = next((each for each in TOOLS if each.name == name), None)
    if tool is None:
        return _refused("ValueError", f"there is no tool '{name}'; there are {', '.join(each.name for each in TOOLS)}")
    try:
        document = tool.ask(stores.get(), said)
    except LawfitError as error:
        lacking = list(error.lacking) if isinstance(error, Unanswerable) else []
        return _refused(type(error).__name__, str(error), lacking)
    except ValueError as error:
        return _refused("InvalidRequest", str(error))
    return types.CallToolResult(content=[_text(json.dumps(document))], structured_content=document)


def _refused(kind: str, sentence: str, lacking: list[Any] | None = None) -> types.CallToolResult:
    """In the words of REST's problems: the kind, the sentence, and what the runs lack."""
    problem = {"type": kind, "detail": sentence, **({"lacking": lacking} if lacking else {})}
    return types.CallToolResult(content=[_text(sentence)], structured_content=problem, is_error=True)


def _text(text: str) -> types.TextContent:
    return types.TextContent(type="text", text=text)
