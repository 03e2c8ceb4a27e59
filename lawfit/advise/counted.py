"""Inputs of published laws at the scales of a recipe's runs, in each law's own convention of parameters.

A law that counts all parameters is not asked about a count of the layers alone. Where the runs tell the size of their
embedding and head tables the count is converted, exactly (`lawfit.laws.counting`); where not, that is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.numerics.snapping import PARAMS_TOLERANCE
from lawfit.findings import Finding, finding
from lawfit.laws.counting import CONVENTIONS, Tables
from lawfit.laws.published import PublishedLaw
from lawfit.records import Recipe, Run

Floats = NDArray[np.float64]

SAME: Final = "as yours"
CONVERTED: Final = "converted"
NOT_CONVERTED: Final = "not converted"
UNSAID: Final = "not said"  # by the law or by the recipe
NONE: Final = "no parameters"
_WIDTHS: Final = ("width", "hidden_size", "d_model", "n_embd")
_VOCABULARIES: Final = ("vocab", "vocab_size", "n_vocab", "vocabulary")


@dataclass(frozen=True, kw_only=True)
class Counted:
    """A count of parameters as a law takes it."""

    params: Floats
    how: str  # SAME, CONVERTED, NOT_CONVERTED, UNSAID or NONE
    words: Finding


class Counts:
    """What the runs of a recipe tell about their sizes besides one number."""

    def __init__(self, recipe: Recipe, runs: Sequence[Run]) -> None:
        self.convention = recipe.params_convention
        told: dict[float, set[tuple[float, float] | None]] = {}
        widths: dict[float, set[float | None]] = {}
        for run in runs:
            told.setdefault(run.params, set()).add(_tables(run))
            widths.setdefault(run.params, set()).add(_number(run, _WIDTHS))
        self._tables = {params: _only(found) for params, found in told.items()}
        self._widths = {params: _only(found) for params, found in widths.items()}

    def of(self, law: PublishedLaw, params: Floats) -> Counted:
        """The law's count of models that the recipe counts as `params` (cells,)."""
        wanted, given = law.params_convention, self.convention
        if not any("params" in f.inputs or "flops" in f.inputs for f in law.formulas.values()):
            return Counted(params=params, how=NONE, words=finding("compare.counts_none"))
        if wanted in ("", "unknown"):
            return Counted(params=params, how=UNSAID, words=finding("compare.counts_unsaid"))
        if not given:
            return Counted(params=params, how=UNSAID, words=finding("compare.yours_unsaid", law=wanted))
        if wanted == given:
            return Counted(params=params, how=SAME, words=finding("compare.counts_same", law=wanted))
        converted = self._converted(params, wanted)
        how = NOT_CONVERTED if converted is None else CONVERTED
        said = finding("compare.counts_differ", law=wanted, yours=given, how=how)
        return Counted(params=params if converted is None else converted, how=how, words=said)

    def widths(self, params: Floats) -> Floats | None:
        """(cells,) hidden widths, where every size has one."""
        found = [self._near(self._widths, float(n)) for n in params]
        return None if None in found else np.array(found, dtype=float)

    def _converted(self, params: Floats, wanted: str) -> Floats | None:
        if {wanted, self.convention} - set(CONVENTIONS):
            return None
        counts = []
        for n in params:
            tables = self._near(self._tables, float(n))
            if tables is None:
                return None
            embedding, head = tables
            beyond = {"non_embedding": 0.0, "body_plus_head": head, "total": embedding + head}
            body = float(n) - beyond[self.convention]
            if body <= 0:
                return None
            counts.append(body + beyond[wanted])
        return np.array(counts)

    @staticmethod
    def _near(told: Mapping[float, Any], params: float) -> Any:
        """What is told of the size nearest to a cell's, whose count is a median of sizes alike."""
        nearest = min(told, key=lambda n: abs(np.log(n / params)), default=None)
        if nearest is None or abs(np.log(nearest / params)) > 2 * PARAMS_TOLERANCE:
            return None
        return told[nearest]


def _tables(run: Run) -> tuple[float, float] | None:
    """(embedding, head): parameters of the two tables that some counts leave out."""
    embedding, head = (_number(run, (name,)) for name in ("embedding_params", "head_params"))
    if embedding and head:
        return embedding, head
    width, vocab = _number(run, _WIDTHS), _number(run, _VOCABULARIES)
    tied = str(run.extra.get("tied", run.extra.get("tie_embeddings", ""))).lower()
    if not width or not vocab or tied not in ("0", "1", "false", "true"):
        return None
    tables = Tables(width=int(width), vocab=int(vocab), tied=tied in ("1", "true"))
    head = float(tables.beyond_body("body_plus_head"))
    return tables.beyond_body("total") - head, head


def _number(run: Run, names: Sequence[str]) -> float | None:
    for name in names:
        try:
            value = float(run.extra[name])
        except (KeyError, TypeError, ValueError):
            continue
        if np.isfinite(value) and value > 0:
            return value
    return None


def _only(found: set[Any]) -> Any:
    """The one thing that all say; None where some say nothing, or another."""
    return next(iter(found)) if len(found) == 1 else None
