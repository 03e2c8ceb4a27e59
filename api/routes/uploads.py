"""POST /v1/uploads: a table of runs, a log of a tracker or an export, asked about and read as by `lawfit ingest`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from lawfit import pipeline

from ..bodies import sent_file
from ..deps import StoreDep, contradiction
from ..problems import documented
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
_Texts = list[str] | None


def _several(alias: str, description: str) -> Any:
    return Query(alias=alias, description=description, max_length=1000)


def _answers(
    columns: Annotated[_Texts, _several("map", "COLUMN=FIELD: read params, lr, loss, ... from a column")] = None,
    units: Annotated[_Texts, _several("unit", "COLUMN=UNIT: K, M, B, T, 1e-3, log10, ln, 1")] = None,
    constants: Annotated[_Texts, _several("set", "FIELD=VALUE: a constant that no column says")] = None,
    split: Annotated[_Texts, _several("split", "COLUMN: a setting, whose levels are recipes of their own")] = None,
    pool: Annotated[_Texts, _several("pool", "COLUMN: runs that differ in it are seeds of each other")] = None,
    only: Annotated[_Texts, _several("only", "COLUMN=VALUE: read these rows alone")] = None,
    metric: Annotated[str | None, Query(description="What the loss measures: nats, bits_per_byte, ...")] = None,
    kind: Annotated[str | None, Query(description="What a row is: runs, curves, targets or losses")] = None,
    size_from: Annotated[str | None, Query(description="Count parameters from the shape: gpt, llama, mixtral")] = None,
    batch_unit: Annotated[str | None, Query(description="What the batch counts: tokens or sequences")] = None,
    seq_len: Annotated[str | None, Query(description="Tokens per sequence")] = None,
) -> list[tuple[str, str]]:
    several = {"map": columns, "unit": units, "set": constants, "split": split, "pool": pool, "only": only}
    single = {"metric": metric, "kind": kind, "size-from": size_from, "batch-unit": batch_unit, "seq-len": seq_len}
    return [
        *((option, value) for option, values in several.items() for value in values or ()),
        *((option, value) for option, value in single.items() if value is not None),
    ]


def _held(
    optimizer: Annotated[str | None, Query(description="Recipe: adamw, muon, ...")] = None,
    schedule: Annotated[str | None, Query(description="Recipe: learning-rate schedule")] = None,
    data: Annotated[str | None, Query(description="Recipe: training corpus")] = None,
    tokenizer: Annotated[str | None, Query(description="Recipe: tokenizer")] = None,
    parametrization: Annotated[str | None, Query(description="Recipe: standard, mup, ...")] = None,
    params_convention: Annotated[str | None, Query(description="Recipe: what the parameter count counts")] = None,
    held: Annotated[_Texts, _several("held", "NAME=VALUE: anything else held fixed")] = None,
) -> dict[str, str]:
    named = {
        "optimizer": optimizer, "schedule": schedule, "data": data, "tokenizer": tokenizer,
        "parametrization": parametrization, "params_convention": params_convention,
    }  # fmt: skip
    found = {name: value for name, value in named.items() if value is not None}
    for pair in held or ():
        name, sign, value = (part.strip() for part in pair.rpartition("="))
        if not (name and sign and value):
            raise contradiction(ValueError(f"held takes NAME=VALUE, got '{pair}'"))
        found[name] = value
    return found


@router.post(
    "/uploads",
    status_code=201,
    response_model=UploadedOut,
    responses={200: {"model": UploadedOut, "description": "Nothing was new"}, **documented(404, 409, 413, 422, 503)},
    openapi_extra={"requestBody": _BODY},
)
async def upload(
    store: StoreDep,
    request: Request,
    response: Response,
    answers: Annotated[list[tuple[str, str]], Depends(_answers)],
    held: Annotated[dict[str, str], Depends(_held)],
    name: Annotated[str | None, Query(description="What the file is called; a form says it itself")] = None,
    recipe: Annotated[str | None, Query(description="What to call the recipe; left out: the file's name")] = None,
    format_name: Annotated[str | None, Query(alias="format", description="Where neither name nor content tell")] = None,
    yes: Annotated[bool, Query(description="Take the safe answer to each question that has one")] = False,
    dry_run: Annotated[bool, Query(description="Say what would happen, and store nothing")] = False,
) -> dict[str, Any]:
    """Store runs from a file: CSV, TSV, JSON lines, Parquet, a workbook, a tracker's log (.wandb, ...), an export.

    What it leaves open is a 422 of type `Doubted` with `questions`; nothing is stored then, and the file is sent again
    with the parameters that a choice names. The same file twice changes nothing.
    """
    stated = {"recipe": recipe, "format": format_name, "yes": yes, "dry_run": dry_run, "recipe_fields": held}
    try:
        options = pipeline.answered(answers, **stated)
    except ValueError as error:
        raise contradiction(error) from None
    async with sent_file(request, name) as (path, called), request.app.state.uploads:
        files = await run_in_threadpool(pipeline.ingest_upload, store, path, called, options)
    if dry_run or not any(file["inserted"] or file["updated"] or file["curve_points"] for file in files):
        response.status_code = 200
    return {"files": files}
