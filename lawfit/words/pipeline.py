"""What the main path says of stored fits and of files that it cannot answer from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, Final

from lawfit.words import Sentence, Spoken, say


def _at(levels: Mapping[str, str]) -> str:
    return " and ".join(f"{name} {level}" for name, level in levels.items())


def _no_fit_at(data: Mapping[str, Any]) -> str:
    options = " ".join(f"--at {shlex.quote(f'{name}={level}')}" for name, level in data["levels"].items())
    words = "no fit of recipe '{recipe}' holds at {at}; run lawfit fit --recipe {recipe} {options}"
    return say(words, {**data, "at": _at(data["levels"]), "options": options})


def _naming(sentence: str) -> Sentence:
    """With the first names, and dots where there are more."""
    return lambda data: say(sentence, {**data, "names": [*data["names"], *["..."] * bool(data["more"])]})


WORDS: Final[Mapping[str, Sentence]] = {
    "other_recipe": "fit {fit_id} belongs to recipe '{recipe}', not to '{asked}'",
    "one_law": "fit {fit_id} is one of the {kind} law alone; name the fit of learning rate and batch",
    "no_losses": "it takes finished runs with a loss, and this recipe has none",
    "no_rates": "it takes runs that say their learning rate and batch, and this recipe has none",
    "no_fit_at": Spoken(
        terminal=_no_fit_at,
        http=lambda data: (
            f"no fit of recipe '{data['recipe']}' holds at {_at(data['levels'])}; POST /v1/fits makes one"
        ),
    ),
    "not_at": Spoken(
        terminal=lambda data: f"fit {data['fit_id']} does not hold at {_at(data['levels'])}; leave --fit or --at out",
        http=lambda data: f"fit {data['fit_id']} does not hold at {_at(data['levels'])}; leave one of the two out",
    ),
    "older_fit": "this answer is of an older fit: the newest, {newest}, is not certified ({why}) and is not used",
    "runs_changed": Spoken(
        terminal="at least {runs:count run} changed since this fit was made; lawfit fit takes them in",
        http="at least {runs:count run} changed since this fit was made; POST /v1/fits takes them in",
        page="at least {runs:count run} changed since this fit was made; 'Fit again' on the first page takes that in",
    ),
    "only_targets": "steps to a target are all that this recipe has, and {why}",
    "recipes_differ": "the recipes differ in {fields} too, so their losses may not be comparable",
    "no_usable_row": "no row of {path} can be used, of {rows:,} with a loss",
    "at_line": "line {line}: {reason}",
    "no_such_curve": lambda data: say(
        "no curve of {path} is called '{asked}'; it has {names}" + (" and {more:,} others" if data["more"] else ""),
        data,
    ),
    "few_curves": "it takes two curves or more, and {usable} of {curves:,} can be used",
    "more_alike": "and {more:,} more like these",
    "no_gradient_norm": "{path} holds no gradient norm that can be used",
    "no_such_run": _naming("no run of {path} is called '{asked}'; it has {names}"),
    "several_runs": _naming("{path} has {runs} runs ({names}); a schedule is refined by one: name it"),
}
