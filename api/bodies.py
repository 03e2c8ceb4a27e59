"""The file in the body of a request, raw or as a part of a form: streamed to disk, never held in memory."""

from __future__ import annotations

import mmap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import Message
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from lawfit.ingest.uploaded import FILE, suffix_of

_MOST_HEADERS: Final = 16_384  # bytes before the content of a part
_NO_FILE: Final = "has no part with a file; send the file itself, or multipart/form-data with one"


@asynccontextmanager
async def sent_file(request: Request, name: str | None) -> AsyncIterator[tuple[Path, str]]:
    """Where the file lies for the moment, and what its sender calls it; afterwards it is gone.

    Raises
    ------
    RequestValidationError
        There is no file in the body, or it has no name.
    HTTPException
        The client went away before its end.
    """
    folder = await run_in_threadpool(TemporaryDirectory, prefix="lawfit-", ignore_cleanup_errors=True)
    try:
        raw = Path(folder.name) / "body"
        await _save(request, raw)
        kind = request.headers.get("content-type", "")
        content, called = await run_in_threadpool(_part_of, raw, kind) if _is_form(kind) else (raw, "")
        name = name or called
        if not name:
            raise _invalid("name", "is needed: what the file is called, such as sweep.csv")
        # Runs without an id are named after the folders they lie in: the same file is the same runs, wherever it is.
        home = Path(folder.name) / "uploads" / "uploads" / sha256(name.encode("utf-8", "replace")).hexdigest()[:16]
        home.mkdir(parents=True)
        yield content.rename(home / f"{FILE}{suffix_of(name)}"), name
    finally:
        await run_in_threadpool(folder.cleanup)


async def _save(request: Request, path: Path) -> None:
    with path.open("wb") as file:
        try:
            async for piece in request.stream():
                await run_in_threadpool(file.write, piece)
        except ClientDisconnect:
            raise HTTPException(400, "the request ended before its body did") from None


def _is_form(kind: str) -> bool:
    return kind.lower().startswith("multipart/form-data")


def _part_of(raw: Path, kind: str) -> tuple[Path, str]:
    """The first part with a file name, as a file of its own, and that name."""
    header = Message()
    header["Content-Type"] = kind
    boundary = header.get_param("boundary")
    if not isinstance(boundary, str) or not 0 < len(boundary) <= 200 or not raw.stat().st_size:
        raise _invalid("body", _NO_FILE)
    mark = b"--" + boundary.encode("utf-8", "replace")
    with raw.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as body:
        at = body.find(mark)
        while at >= 0:
            begin = body.find(b"\r\n\r\n", at, at + len(mark) + _MOST_HEADERS)
            end = body.find(b"\r\n" + mark, begin) if begin >= 0 else -1
            if end < 0:
                break
            name = _name_of(body[at + len(mark) : begin])
            if name is not None:
                path = raw.with_name("part")
                with path.open("wb") as part:
                    for place in range(begin + 4, end, 1 << 20):
                        part.write(body[place : min(place + (1 << 20), end)])
                return path, name
            at = end + 2
    raise _invalid("body", _NO_FILE)


def _name_of(headers: bytes) -> str | None:
    for line in headers.decode("utf-8", "replace").split("\r\n"):
        key, _, value = line.partition(":")
        if key.strip().lower() == "content-disposition":
            message = Message()
            message["Content-Disposition"] = value.strip().replace("\n", " ").replace("\r", " ")
            return message.get_filename()
    return None


def _invalid(field: str, problem: str) -> RequestValidationError:
    return RequestValidationError([{"loc": (field,), "msg": problem}])
