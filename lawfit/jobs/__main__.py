"""`python -m lawfit.jobs`: does one job, which stands in the first line of its input, and tells of it in lines of JSON.

The input stays open while whoever started it lives; when it closes, this process ends, whatever it is doing: at once,
or as a launch ends that is asked to stop.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from typing import Any, Final

from lawfit import pipeline
from lawfit.ask import NextQuestion
from lawfit.errors import LawfitError
from lawfit.storage.jobs import LAUNCH
from lawfit.words import over_http, told

LAUNCH_GRACE_SECONDS: Final = 75.0  # to end in: its trainers have 60 s for a checkpoint


def main() -> None:
    """Do the job; its result or problem is the last line."""
    said = json.loads(sys.stdin.readline())
    os.nice(5 if said["kind"] == LAUNCH else 10)  # answers come first; a GPU must not wait for long
    grace, stop = LAUNCH_GRACE_SECONDS if said["kind"] == LAUNCH else 0.0, threading.Event()
    threading.Thread(target=_end_with_the_service, args=[grace, stop], daemon=True).start()
    try:
        with over_http():
            if said["kind"] == LAUNCH:
                signal.signal(signal.SIGTERM, lambda *_: stop.set())
                found = _launch(said, stop)
            else:
                found = _KINDS[said["kind"]](said["database_url"], said["asked"])
        _tell(**({"stopped": True} if found is None else {"result": found}))
    except (LawfitError, ValueError) as error:
        with over_http():
            _tell(problem=str(error))
    except Exception:  # noqa: BLE001 - the edge of this process: whatever it was, the job ends with a sentence
        traceback.print_exc()
        _tell(problem="lawfit failed in a way it does not know; the server's log has the traceback")


def _fit(database_url: str, asked: dict[str, Any]) -> dict[str, Any]:
    """`lawfit fit` of one recipe; the ids of what was stored."""
    with pipeline.open_store(database_url) as store:
        fit = pipeline.refit(
            store,
            asked["recipe"],
            without_laws=asked["without_law"],
            at=asked["at"],
            critical_definition=asked["critical_definition"],
            on_request=("three_term",) if asked["three_term"] else (),
            progress=lambda doing, share: _tell(doing=doing, progress=share),
        )
    laws = [law["fit_id"] for law in (fit.payload.get("laws") or {}).values()]
    return {"fit": fit.id, "kind": fit.kind, "status": fit.status.value, "further_fits": laws}


def _plan_next(database_url: str, asked: dict[str, Any]) -> dict[str, Any]:
    """`lawfit plan next`, kept; its id."""
    _tell(doing="choosing the runs", progress=0.0)
    with pipeline.open_store(database_url) as store:
        question = NextQuestion(**asked["question"])
        return {"plan": pipeline.plan_next(store, asked["recipe"], question, fit_id=asked["fit"])["id"]}


def _rehearse(database_url: str, asked: dict[str, Any]) -> dict[str, Any]:
    """`lawfit plan next --rehearse` of a kept plan."""
    with pipeline.open_store(database_url) as store:
        found: dict[str, Any] = told(
            pipeline.rehearse(
                store,
                pipeline.kept_plan(store, asked["plan"]),
                worlds=asked["worlds"],
                refit=asked["refit"],
                progress=lambda doing, share: _tell(doing=doing, progress=share),
            )
        )
    return {"plan": asked["plan"], **found}


def _launch(said: dict[str, Any], stop: threading.Event) -> dict[str, Any] | None:
    """`lawfit launch` with a template of the service; None where it was stopped."""

    def tell(doing: str, share: float) -> None:
        _tell(doing=doing, progress=share)

    with pipeline.open_store(said["database_url"]) as store:
        return pipeline.launch_asked(store, said["templates"], said["asked"], tell=tell, stop=stop.is_set)


_KINDS: Final = {"fit": _fit, "plan_next": _plan_next, "rehearse": _rehearse}


def _tell(**said: Any) -> None:
    with suppress(OSError):  # nobody listens any more, and this process is about to end for it
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


def _end_with_the_service(grace_seconds: float, stop: threading.Event) -> None:
    while sys.stdin.read(1):
        pass
    stop.set()  # no signal: a second one, where a manager of services has sent one to all, would end it at once
    time.sleep(grace_seconds)
    os._exit(1)


if __name__ == "__main__":
    main()
