"""Words of the craft, each with what it means: shown where a text uses one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

GLOSSARY: Final[Mapping[str, str]] = {
    "scale": "one size of training run: a number of parameters and a number of training tokens (a cell of the sweep)",
    "optimum": "the learning rate and batch size at which the final loss of a scale is lowest",
    "cost": "share of the loss given up by a setting: its loss over the best possible one, minus one; also regret",
    "backtest": "scales are left out of the fit, predicted, and scored on the runs that were made there",
    "lent": "from published laws of like recipes whose numbers were checked, where the runs cannot tell; also borrowed",
    "certificate": "whether the search for a law ended where it should, and whether the runs determine its numbers",
    "starts": "places from which the search began; where few of them end alike, the lowest may not have been found",
    "standard error": "how far a number would move if the runs were made again",
    "condition number": "how much an error in the runs is magnified in the law: 1 is best, 1,000 bad",
    "counts most": "the size or scale without which the law would change most",
    "joint surface": "one law of the loss around its optimum through all runs of all scales at once",
    "asymptote": "the loss that is left with endless parameters and tokens",
    "resamples": "fits to runs drawn anew from those there are: their spread says how well a number is known",
}


def terms_in(text: str) -> list[tuple[str, str]]:
    """Those of the glossary that a text uses, with their meaning."""
    lower = text.lower()
    return [(term, meaning) for term, meaning in GLOSSARY.items() if term in lower]
