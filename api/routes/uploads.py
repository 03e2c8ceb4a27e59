"""POST /v1/uploads: a table of runs, a log of a tracker or an export, asked about and read as by `lawfit ingest`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from lawfit import pipeline
from lawfit.settings import SHIPPED_SWEEP, data_folder

from ..bodies import sent_file
from ..deps import StoreDep, contradiction
from ..problems import documented
from ..queries import UploadQuery
from ..schemas import UploadedOut

router = APIRouter(tags=["uploads"])

_BINARY = {"type": "string", "format": "binary"}
_BODY = {
    "required": True,
    "content": {
        "application/octet-stream": {"schema": _BINARY},
        "multipart/form-data": {"schema": {"type": "object", "properties": {"file": _BINARY}}},
    },
}


@router.post(
    "/uploads",
    status_code=201,
    response_model=UploadedOut,
    responses={200: {"model": UploadedOut, "description": "Nothing was new"}, **documented(404, 409, 413, 422, 503)},
    openapi_extra={"requestBody": _BODY},
)
async def upload(
    store: StoreDep, request: Request, response: Response, asked: Annotated[UploadQuery, Query()]
) -> dict[str, Any]:
    """Store runs from a file: CSV, TSV, JSON lines, Parquet, a workbook, a tracker's log (.wandb, ...), an export.

    What it leaves open is a 422 of type `Doubted` with `questions`; nothing is stored then, and the file is sent again
    with the parameters that a choice names. The same file twice changes nothing.
    """
    try:
        options = pipeline.answered(asked.answers, **asked.stated)
    except ValueError as error:
        raise contradiction(error) from None
    async with sent_file(request, asked.name) as (path, called), request.app.state.uploads:
        files = await run_in_threadpool(pipeline.ingest_upload, store, path, called, options)
    if asked.dry_run or not any(file["inserted"] or file["updated"] or file["curve_points"] for file in files):
        response.status_code = 200
    return {"files": files}


@router.post(
    "/uploads/shipped",
    status_code=201,
    response_model=UploadedOut,
    responses={200: {"model": UploadedOut, "description": "Nothing was new"}, **documented(404, 409, 422, 503)},
)
def store_shipped(store: StoreDep, response: Response) -> dict[str, Any]:
    """Store the sweep that lawfit ships, 709 runs of its own, to see what it makes of one."""
    report = pipeline.ingest(store, data_folder() / SHIPPED_SWEEP)
    if not report.inserted:
        response.status_code = 200
    return {"files": [{**report.to_json(), "file": SHIPPED_SWEEP}]}
