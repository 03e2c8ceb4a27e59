"""Questions that a table or a run leaves open, as a client answers them: options have the names of parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lawfit.errors import Doubted
from lawfit.findings import Finding
from lawfit.words import tell
from lawfit.words.choices import choice_words

from .deps import contradiction
from .schemas import AnswerGiven


def questions_of(doubted: Doubted) -> list[dict[str, Any]]:
    """Each with its columns, the sentence, and choices with their words; all answers of one choice go together."""
    return [
        {
            "code": question["code"],
            "columns": question["columns"],
            "question": tell(Finding(question["code"], question["data"])),
            "choices": [
                [{"option": each["option"].replace("-", "_"), "value": each["value"]} for each in choice]
                for choice in question["choices"]
            ],
            "words": [choice_words(choice) for choice in question["choices"]],
            "safe": question["safe"],
        }
        for question in doubted.questions
    ]


def answers_of(given: Iterable[AnswerGiven]) -> list[tuple[str, str]]:
    """Answers as an ingest takes them.

    Raises
    ------
    RequestValidationError
        No such option, or a value that it does not take.
    """
    from lawfit import pipeline

    answers = [(each.option.replace("_", "-"), each.value) for each in given]
    try:
        pipeline.answered(answers)
    except ValueError as error:
        raise contradiction(error) from None
    return answers
