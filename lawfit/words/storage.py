"""What is said of a server that cannot be reached, and of files that it therefore did not get."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lawfit.words import Sentence, say


def _of_loss(sentence: str) -> Sentence:
    """With what the finding of the lost connection says."""
    return lambda data: say(sentence, {**data, **data["why"]["data"]})


WORDS: Final[Mapping[str, Sentence]] = {
    "no_connection": "no connection to {database}: {reason}. Is the server running, and is the URL right?",
    "cut": "the connection to {database} was lost: {reason}. What was being written is stored whole or not at all; run "
    "it again when the server answers",
    "again": _of_loss("the connection to {database} was lost ({reason}); trying again in {seconds:g} s"),
    "given_up": _of_loss(
        "the connection to {database} was lost, and {tries} tries to go on failed: {reason}. A file is stored whole or "
        "not at all: run the same again when the server answers, nothing is stored twice"
    ),
    "not_tried": "not tried, as nothing can be stored now",
}
