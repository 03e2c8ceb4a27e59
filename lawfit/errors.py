"""The tree of failures under `LawfitError`; exit codes and HTTP codes are assigned at the edges only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lawfit.findings import Found


class LawfitError(Exception):
    """Base of every failure that lawfit explains in a sentence: what was wrong, where, and what to do.

    Raised with a finding, which `str` tells (`words`), or with the sentence itself.
    """

    def __init__(self, found: Found = "") -> None:
        super().__init__(found)

    @property
    def finding(self) -> Found:
        """What it was raised with."""
        found: Found = self.args[0]
        return found

    def __str__(self) -> str:
        return str(self.finding)


class LogFormatError(LawfitError):
    """A file cannot be read as a table of runs: empty, no header, a required column that cannot be found."""


class Unreadable(LogFormatError):
    """The system does not give a file: no permission, a failing disk, an archive that is cut off."""


class Doubted(LogFormatError):
    """A file leaves something open that a guess could get wrong: nothing was stored, `questions` say what to answer."""

    def __init__(self, found: Found = "", *, questions: tuple[Mapping[str, Any], ...] = ()) -> None:
        super().__init__(found)
        self.questions = questions


class FitError(LawfitError):
    """The data cannot support the fit that was asked for."""


class NotEnoughData(FitError):
    """Too little evidence for any answer: no finished run, or every cell without a usable run."""


class UnknownLevel(NotEnoughData):
    """No run has the level of a setting that was asked for."""


class NoFit(LawfitError):
    """A prediction was asked for, and the store holds no fit for that recipe."""


class Unanswerable(NoFit):
    """There is a fit, and its runs do not carry an answer: `lacking` says as data what they lack, and runs to add."""

    def __init__(self, found: Found, *, lacking: tuple[Mapping[str, Any], ...] = ()) -> None:
        super().__init__(found)
        self.lacking = lacking


class NoRecipe(LawfitError):
    """The store has no such recipe, or several where one had to be named."""


class NoRuns(NoRecipe):
    """The store has no run of any recipe yet."""


class RecipeConflict(LawfitError):
    """Runs were to be added to a recipe that holds other settings fixed."""


class NoRun(LawfitError):
    """The store has no such run."""


class RunEnded(LawfitError):
    """A run that is being logged takes no more points: it is stored already, or too long."""


class StoreError(LawfitError):
    """The database cannot be opened, read or written (missing folder, read-only, disk full, locked)."""


class Unavailable(StoreError):
    """Nothing can be stored now, whatever it is: no connection, disk full, read-only, locked for too long."""


class Disconnected(Unavailable):
    """The server cannot be reached, or the connection to it was lost: what was being written may be tried again."""


class SchemaOutOfDate(StoreError):
    """The database was written by another version of lawfit than this one can use."""


class UnknownLaw(LawfitError):
    """No published law of that name in the catalogue."""


class NoToken(LawfitError):
    """The store has no such token."""


class WrongToken(LawfitError, ValueError):
    """A token that cannot be made: its name, its scopes or its end."""


class MissingScope(LawfitError):
    """Who asks may not do that."""


class NotEnabled(LawfitError):
    """A service was asked for what whoever started it did not allow it to do."""


class TooManyJobs(LawfitError):
    """So much waits already that nothing more is taken; later it may be."""


class NoJob(LawfitError):
    """The store has no such job."""
