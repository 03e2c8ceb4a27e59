"""What is watched for `steps`, by name: ``fits_RECIPE``, ``answers_RECIPE``, ``part_NAME``, ``laws_NAME``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from tests.golden_stores import fitted, watched_fit
from tests.steps import Steps, as_json, shaken, watched


def steps_of(name: str) -> Steps:
    """What every function gave."""
    kind, _, rest = name.partition("_")
    if kind == "fits":
        return watched_fit(rest)[1]
    if kind == "answers":
        return watched_answers(rest)[1]
    made: Callable[[], Any]
    if kind == "laws":
        from tests.laws.test_golden_laws import PARTS

        made = PARTS[rest]
    else:
        from tests.estimate import test_golden_fits

        made = getattr(test_golden_fits, f"_{rest}")
    with watched() as steps:
        made()
    return steps


@cache
def watched_answers(name: str) -> tuple[dict[str, Any], Steps]:
    """Answers from the fits of a recipe."""
    from tests.advise.test_golden_answers import answers

    with fitted(name) as store, watched() as steps:
        return answers(store, name), steps


if __name__ == "__main__":
    held = shaken()
    sys.stdout.write(json.dumps(as_json(steps_of(sys.argv[1]))))
