"""What a launch says of what it would mix: sweeps of two commands, or on two corpora."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lawfit.units import counted
from lawfit.words import Sentence, Spoken

_ANEW_HTTP: Final = "begin a new one, with another recipe"


def _other_recipes(data: Mapping[str, Any]) -> str:
    names = " or ".join(f"'{name}'" for name in data["asked"])
    there = ", ".join(f"{counted(count, 'run')} under '{name}'" for name, count in data["recipes"].items())
    return (
        f"left out, as the database has them under another recipe than {names}: {there}; what is trained now with the "
        "same settings joins them there"
    )


WORDS: Final[Mapping[str, Sentence]] = {
    "other_command": Spoken(
        terminal="recipe '{recipe}' in the store was trained by another command, {command}; the losses of two trainers "
        "are not one sweep. Begin a new one with --recipe NAME",
        http="recipe '{recipe}' was trained by another command, and the losses of two trainers are not one sweep; "
        f"{_ANEW_HTTP}",
    ),
    "other_way": Spoken(
        terminal="recipe '{recipe}' in the store was trained in another way; the losses of two trainers are not one "
        "sweep. Begin a new one with --recipe NAME",
        http="recipe '{recipe}' was trained in another way, and the losses of two trainers are not one sweep; "
        f"{_ANEW_HTTP}",
    ),
    "other_data": Spoken(
        terminal="recipe '{recipe}' in the store was measured on '{data}', and these packs train on {corpus}; losses "
        "on different corpora cannot be compared. Begin a new sweep with --recipe NAME",
        http="recipe '{recipe}' was measured on '{data}', and these packs train on {corpus}; losses on different "
        f"corpora cannot be compared; {_ANEW_HTTP}",
    ),
    "unread_log": "{reason}; once it can be read, the same request stores it: to have it trained again, whoever runs "
    "the service has to delete the folder {run} of its logs",
    "other_recipes": _other_recipes,
    "no_template": "it waits: this service was started without its template '{template}'. It begins when a service is "
    "started with that template again; POST /v1/jobs/{job}/cancel ends it",
    "no_launch": "the template cannot be launched here at the moment; the server's log says why",
    "other_corpus": Spoken(
        terminal="{logs} holds runs on corpus {theirs} ({file}), and {folder} holds {ours}; losses on different "
        "corpora cannot be compared. Name another folder with --logs, or the right corpus with --corpus",
        http="the folder of logs holds runs on corpus {theirs}, and these would be on {ours}; whoever runs the service "
        "has to give the template another folder of logs",
    ),
}
