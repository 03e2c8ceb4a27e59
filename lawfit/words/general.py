"""Sentences that every room may need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lawfit.words import Sentence

WORDS: Final[Mapping[str, Sentence]] = {
    "several": "{findings:join ; }",
}
