"""Plain words for an answer's parts, its scale and its recipe, the same on every card, figure, report and page."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from lawfit.documents import Answer, SettingCost
from lawfit.units import format_lr
from lawfit.words import tell, told
from lawfit.words.lr_batch import BENDS

STATUS_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ok": "your runs lie near",
        "between": "between your runs, none of which lies near: trust the interval, not the digits",
        "extrapolated": "beyond your runs: trust the interval, not the digits",
        "at_edge": "your best runs lie at the edge of what was tried",
        "borrowed": "mostly from published laws, or a vague prior where none lends: few runs of yours bear on it",
        "undetermined": "not determined by your runs, which tie it to the batch",
    }
)
LAW_STATUS_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **STATUS_WORDS,
        "ok": "inside the range that your runs measured",
        "borrowed": "in part from published laws, or a vague prior where none lends; your runs set the level",
    }
)
FIT_STATUS_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ok": "rests on these runs",
        "sparse": "exponents come (in part) from published laws or a vague prior; these runs set the level",
        "uncertified": "kept for inspection, not used for predictions",
    }
)
OPTIMUM_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "inside": "inside the sweep",
        "at_edge": "at the edge of the sweep, so a bound",
        "flat": "the runs do not tell settings apart",
        "too_few": "too few runs to say",
    }
)
NONE_NEAR: Final = "between the settings tried, none of which lies near"


def optimum_words(status: str, near: int | None = None) -> str:
    """Whether the runs of a scale show its optimum.

    Parameters
    ----------
    status : records.OptimumStatus
    near : settings that were tried near it; None in fits of before they were counted
    """
    return NONE_NEAR if status == "inside" and near == 0 else OPTIMUM_WORDS.get(status, status)


QUANTITY_WORDS: Final[Mapping[str, str]] = MappingProxyType({"lr": "Peak learning rate", "batch_tokens": "Batch size"})
BACKTEST_METHODS: Final = ("lawfit", "argmin + OLS")  # ours, and the usual way beside it
INPUT_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {"params": "parameters", "tokens": "tokens", "batch_tokens": "batch"}
)

OTHER_LAWS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "lr_batch_forms": "lr along batch",
        "power_scheduler": "lr over batch",
        "compute_laws": "By compute",
        "max_lr": "Largest lr",
    }
)


def other_law_rows(payload: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Forms of the field that answer nothing here: what the runs say of each, or what is missing for it."""
    found = told(payload.get("other_laws") or {})
    return [
        (label, found[name].get("words") or f"not from these runs: {found[name]['missing']}")
        for name, label in OTHER_LAWS.items()
        if name in found
    ]


def settings_words(document: Answer | SettingCost) -> list[str]:
    """A line for each setting that varies in the runs: the level that the answer holds at. Why, its warnings say."""
    lines = []
    for setting in document.get("settings") or []:
        name = setting["name"].replace("_", " ") if setting["name"] == "weight_decay" else setting["name"]
        also = f", with its {', '.join(setting['also'])}" if setting["also"] else ""
        lines.append(f"{name} {setting['level'] or 'of the sweep at each scale'}{also}")
    return lines


def batch_range(part: Mapping[str, Any], words: str) -> str:
    """Words of an interval or a cheap zone of the batch, which are those of the best one also where another is imposed.

    Imposed: given, or the largest that is allowed.
    """
    return f"best batch: {words}" if part.get("imposed") and words != "-" else words


def at_batch_words(part: Mapping[str, Any] | None) -> str:
    """Which form the learning rate at an imposed batch comes from, and why; empty where the batch was free."""
    if not part:
        return ""
    if part["form"] == "surface":
        return f"by the joint surface of all runs alone; {tell(part['why'])}"
    if "law_share" not in part:  # an answer of before there were two such laws
        part = {**part, "law": "saturating", "law_share": part["saturating_share"], "by_law": part["saturating"]}
    return (
        f"{1 - part['law_share']:.0%} by the joint surface of all runs ({format_lr(part['surface'])}), "
        f"{part['law_share']:.0%} by {BENDS[part['law']]} ({format_lr(part['by_law'])}): the "
        f"further from the best batch, the more; less a shading for risk; {tell(part['why'])}"
    )


def is_simulated(recipe: Mapping[str, Any]) -> bool:
    """Whether the runs of a recipe come from `lawfit simulate` or the demo, and not from training."""
    return "simulated" in (recipe.get("optimizer"), recipe.get("data"))


def recipe_words(recipe: Mapping[str, Any]) -> str:
    """What the recipe holds fixed, as far as it is known."""
    known = [str(recipe[field]) for field in ("optimizer", "schedule", "data", "parametrization") if recipe.get(field)]
    if recipe.get("seq_len"):
        known.append(f"{recipe['seq_len']:,} tokens per sequence")
    if recipe.get("params_convention"):
        known.append(f"parameters counted as {recipe['params_convention'].replace('_', '-')}")
    return "; ".join(known)
