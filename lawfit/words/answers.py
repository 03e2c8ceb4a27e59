"""Plain words for an answer's parts, its scale and its recipe, the same on every card, figure, report and page."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from lawfit.units import format_lr, format_quantity
from lawfit.words import tell, told
from lawfit.words.advice import THIRDS, third_words
from lawfit.words.lr_batch import BENDS

STATUS_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ok": "inside the range of your runs",
        "extrapolated": "beyond your runs: trust the interval, not the digits",
        "at_edge": "your best runs lie at the edge of what was tried",
        "borrowed": "mostly from published laws, or a vague prior where none lends: few runs of yours bear on it",
        "undetermined": "not determined by your runs, which tie it to the batch",
    }
)
LAW_STATUS_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **STATUS_WORDS,
        "borrowed": "in part from published laws, or a vague prior where none lends; your runs set the level",
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
QUANTITY_WORDS: Final[Mapping[str, str]] = MappingProxyType({"lr": "Peak learning rate", "batch_tokens": "Batch size"})
INPUT_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {"params": "parameters", "tokens": "tokens", "batch_tokens": "batch"}
)

FURTHER_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {"weight_decay": "Weight decay", "critical_batch": "Critical batch", "expected_loss": "Expected loss"}
)

CRITICAL_INPUTS: Final[Mapping[str, str]] = MappingProxyType(
    {"tokens": "tokens", "params": "parameters", "params and tokens": "both"}
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


SMALL_DECAY: Final = 1e-3


def further_words(document: Mapping[str, Any], name: str) -> str:
    """One of `FURTHER_NAMES` of a recommendation in one line: the number with its interval, or what is missing for it.

    Empty for a recommendation of before there were any.
    """
    part = document.get(name)
    if part is None:
        missing = (document.get("missing") or {}).get(name)
        return f"not from these runs: {tell(missing)}" if missing else ""
    if name == "weight_decay":
        return (
            f"{format_decay(part['value'])} ({_span(part, format_decay)}), coupled to the learning rate as in "
            f"torch.optim.AdamW; {format_decay(part['independent'])} where independent of it"
        )
    if name == "critical_batch":
        tokens = f"{format_quantity(part['value'])} tokens ({_span(part, format_quantity)})"
        source = f"; measured in recipe {part['from_recipe']}" if part.get("from_recipe") else ""
        noise = part.get("noise_scale")
        factor = f"; {noise['factor']['value']:.2g} times the gradient noise scale" if noise and noise["steady"] else ""
        also = f"; {restated_words(part['restated'])}" if part.get("restated") else ""
        return f"{tokens}: there {definition_words(part['definition'])}{factor}{also}{source}"
    run = "" if part["run_low"] is None else f"; a single run {part['run_low']:.4g} to {part['run_high']:.4g}"
    asked = f", with {' and '.join(said)}" if (said := third_asked(document.get("target") or {})) else ""
    return f"{part['value']:.4g} nats per token ({_span(part, _four)}) at the best settings{asked}{run}"


def third_asked(target: Mapping[str, Any]) -> list[str]:
    """Further inputs of the loss that a target has, in words: ``40B unique tokens``."""
    return [third_words(name, target[name]) for name in THIRDS if target.get(name) is not None]


def settings_words(document: Mapping[str, Any]) -> list[str]:
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


def format_decay(value: float) -> str:
    """A weight decay as people write it: ``0.0453``, and ``2.81e-4`` where it is small."""
    return f"{value:.3g}" if value >= SMALL_DECAY else format_lr(value)


def restated_words(part: Mapping[str, Any]) -> str:
    """A critical batch by a further definition, with its law."""
    law = part["law"]
    return (
        f"{format_quantity(part['value'])} tokens ({_span(part, format_quantity)}), moving as "
        f"{CRITICAL_INPUTS[law['input']]}^{law['exponent']:+.2f} ({law['exponent_low']:+.2f} to "
        f"{law['exponent_high']:+.2f}), by the definition of {tell(part['definition']['words'])}"
    )


def definition_words(definition: Mapping[str, Any]) -> str:
    """What is critical about a critical batch: ``a run needs twice the tokens that a very small batch would need``."""
    fraction, reference = definition["fraction"], definition["reference_batch_tokens"]
    more = "twice the tokens" if fraction == 1 else f"{100 * fraction:.4g} % more tokens"
    base = f"a batch of {format_quantity(reference)} tokens" if reference else "a very small batch"
    return f"a run needs {more} {'that' if fraction == 1 else 'than'} {base} would need for the same loss"


def _span(part: Mapping[str, Any], write: Any) -> str:
    if part.get("low") is None or part.get("high") is None:
        return "no interval"
    return f"{write(part['low'])} to {write(part['high'])}"


def _four(value: float) -> str:
    return f"{value:.4g}"


def scale_words(params: float, tokens: float) -> str:
    """``429M parameters, 40B tokens``."""
    return f"{format_quantity(params)} parameters, {format_quantity(tokens)} tokens"


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
