"""`python -m lawfit.jobs`: does one job, which stands in the first line of its input, and tells of it in lines of JSON.

The input stays open while whoever started it lives; when it closes, this process ends, whatever it is doing.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from typing import Any

from lawfit import pipeline
from lawfit.errors import LawfitError
from lawfit.words import over_http


def main() -> None:
    """Do the job; its result or problem is the last line."""
    os.nice(5)  # answers come first
    said = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_service, daemon=True).start()
    try:
        with over_http():
            _tell(result=_fit(said["database_url"], said["asked"]))
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


def _tell(**said: Any) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def _end_with_the_service() -> None:
    while sys.stdin.read(1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
