"""The printed cost of a setting: from its JSON document (`pipeline.cost_of_setting`) to something one can act on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lawfit.cli.brief import cut_warnings
from lawfit.cli.card import evidence_lines, target_lines
from lawfit.cli.output import explained, heading, pairs, plain, warning_list
from lawfit.documents import SettingCost
from lawfit.words import told
from lawfit.words.answers import is_simulated
from lawfit.words.costs import cost_rows, setting_words

if TYPE_CHECKING:
    from rich.console import RenderableType


def cost_card(document: SettingCost, *, verbose: bool) -> list[RenderableType]:
    """A first look, or all of it with what its words mean."""
    parts = list(_parts(told(document), verbose=verbose))
    return explained(parts) if verbose else parts


def _parts(document: SettingCost, *, verbose: bool) -> Iterator[RenderableType]:
    if is_simulated(document["recipe"]):
        yield heading("SIMULATED runs, not a measurement")
        yield plain("")
    yield target_lines(document)
    yield plain("")
    yield pairs([*setting_words(document), ("", ""), *cost_rows(document)])
    if verbose:
        if document["warnings"]:
            yield plain("")
            yield warning_list(document["warnings"])
        yield plain("")
        yield pairs(evidence_lines(document["evidence"]))
        return
    yield from cut_warnings(document["warnings"])
    yield plain("")
    yield plain(f"Fit {document['evidence']['fit_id']}; --verbose says all")
