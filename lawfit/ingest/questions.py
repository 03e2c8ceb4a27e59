"""Questions that a file leaves open, as data: a code, columns, numbers, and choices that are options of an ingest.

A choice is what a person would type: ``("batch-unit", "sequences")`` is ``--batch-unit sequences``. So an answer given
on a terminal, by flags, in a mapping file or over HTTP is one thing, and `lawfit.words.ingest` has the sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from lawfit.errors import Doubted
from lawfit.findings import Finding, as_json, finding
from lawfit.ingest.options import IngestOptions

Answer = tuple[str, str]  # option without its dashes, and value
Choice = tuple[Answer, ...]  # all of them together are one choice

MOST_LEVELS: Final = 6  # of a column, that are offered one by one


@dataclass(frozen=True, kw_only=True)
class Question:
    """One thing that a file does not say, and what may be answered."""

    found: Finding  # code and numbers; the sentence
    columns: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    safe: int | None = None  # the choice that --yes takes; None: only a person knows
    assumed: bool = False  # the safe choice is taken, and said, unless something else has to be asked anyway

    def to_json(self) -> dict[str, Any]:
        return {
            "code": self.found.code,
            "columns": list(self.columns),
            "data": as_json(self.found.data),
            "choices": [[{"option": option, "value": value} for option, value in choice] for choice in self.choices],
            "safe": self.safe,
            "assumed": self.assumed,
        }

    @property
    def asked(self) -> Finding:
        """The sentence with the flags that answer it."""
        return self._told(taken=False)

    @property
    def taken(self) -> Finding:
        """The sentence where the safe choice is taken, with the flags of the others."""
        return self._told(taken=True)

    def _told(self, *, taken: bool) -> Finding:
        choices = self.to_json()["choices"]
        return finding("ingest.asked", why=self.found, choices=choices, safe=self.safe, taken=taken)


def doubted(file: str, questions: Sequence[Question]) -> Doubted:
    """All that is open about a file, as one failure."""
    found = finding("ingest.doubted", file=file, questions=[question.asked for question in questions])
    return Doubted(found, questions=tuple(question.to_json() for question in questions))


def with_safe_answers(options: IngestOptions, questions: Sequence[Question]) -> IngestOptions | None:
    """The options with the safe choice of each question; None where one has none."""
    for question in questions:
        if question.safe is None:
            return None
        for option, value in question.choices[question.safe]:
            options = options.answered(option, value)
    return options
