"""The parts of an answer beside learning rate and batch in words: on cards, pages and reports, a part for each kind of
law that answers (`kinds`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from lawfit.documents import Answer, PlanSettings, part_of
from lawfit.units import format_lr, format_quantity
from lawfit.words import tell
from lawfit.words.advice import THIRDS, third_words

SMALL_DECAY: Final = 1e-3
CRITICAL_INPUTS: Final[Mapping[str, str]] = {"tokens": "tokens", "params": "parameters", "params and tokens": "both"}


def part_labels() -> dict[str, str]:
    """Part of an answer -> as it is called, in the order in which they are shown."""
    from lawfit import kinds  # with all that it fits: not before something is shown

    return kinds.part_labels()


def law_labels() -> dict[str, str]:
    """Kind of law -> as cards of a fit call it, in the same order."""
    from lawfit import kinds

    return kinds.labels()


class PartWords:
    """How one part is said; a kind of law without words of its own is said by these."""

    def __init__(self, unit: str = "") -> None:
        self.unit = unit

    def write(self, value: float) -> str:
        """Its number as people write it."""
        return f"{value:.4g}"

    def span(self, part: Mapping[str, Any], nothing: str = "no interval") -> str:
        """Its interval."""
        if part.get("low") is None or part.get("high") is None:
            return nothing
        return f"{self.write(part['low'])} to {self.write(part['high'])}"

    def number(self, part: Mapping[str, Any]) -> str:
        """Number, unit and interval."""
        return f"{self.write(part['value'])}{self.unit and ' ' + self.unit} ({self.span(part)})"

    def brief(self, part: Mapping[str, Any]) -> str:
        """A line for a first look."""
        return self.number(part)

    def line(self, document: Answer | PlanSettings, part: Mapping[str, Any]) -> str:
        """A line that says all."""
        del document
        return self.number(part)

    def rows(self, document: Answer, part: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What stands below the number on a page."""
        del document
        span = self.span(part, "")
        return [(f"{100 * part['level']:g} % interval", span)] if span else []


class _WeightDecay(PartWords):
    def write(self, value: float) -> str:
        return format_decay(value)

    def brief(self, part: Mapping[str, Any]) -> str:
        return f"{self.write(part['value'])} ({self.span(part)}), as torch.optim.AdamW counts it"

    def line(self, document: Answer | PlanSettings, part: Mapping[str, Any]) -> str:
        del document
        return (
            f"{self.write(part['value'])} ({self.span(part)}), coupled to the learning rate as in "
            f"torch.optim.AdamW; {self.write(part['independent'])} where independent of it"
        )

    def rows(self, document: Answer, part: Mapping[str, Any]) -> list[tuple[str, str]]:
        tau = part["timescale"]
        return [
            *super().rows(document, part),
            ("Independent", f"{self.write(part['independent'])}, where it is not multiplied by the learning rate"),
            ("Goes with", "the learning rate and batch recommended here"),
            ("Memory", f"updates are averaged over {tau['value']:.2g} of the run (timescale)"),
        ]


class _CriticalBatch(PartWords):
    def write(self, value: float) -> str:
        return format_quantity(value)

    def number(self, part: Mapping[str, Any]) -> str:
        return f"{self.write(part['value'])} tokens ({self.span(part)})"

    def brief(self, part: Mapping[str, Any]) -> str:
        definition = part["definition"]
        if definition["fraction"] == 1 and not definition["reference_batch_tokens"]:
            return f"{self.number(part)}: a run there needs twice the tokens of a very small batch"
        return f"{self.number(part)}: {tell(definition['words'])}"

    def line(self, document: Answer | PlanSettings, part: Mapping[str, Any]) -> str:
        del document
        source = f"; measured in recipe {part['from_recipe']}" if part.get("from_recipe") else ""
        noise = part.get("noise_scale")
        factor = f"; {noise['factor']['value']:.2g} times the gradient noise scale" if noise and noise["steady"] else ""
        also = f"; {restated_words(part['restated'])}" if part.get("restated") else ""
        return f"{self.number(part)}: there {definition_words(part['definition'])}{factor}{also}{source}"

    def rows(self, document: Answer, part: Mapping[str, Any]) -> list[tuple[str, str]]:
        batch = document["recommendation"]["batch_tokens"]
        rows = [
            *super().rows(document, part),
            ("Means", f"at this batch {definition_words(part['definition'])}"),
            ("So what", "below it larger batches save time at little cost; above it they mostly waste tokens"),
            ("Also", restated_words(part["restated"]) if part.get("restated") else ""),
            ("Your batch", "" if batch is None else f"{batch['value'] / part['value']:.2g} times it"),
            ("Follows", _followed(part.get("shares") or {})),
            ("Largest size", _left_out(part.get("left_out"))),
            ("Noise scale", tell(part["noise_scale"]["words"]) if part.get("noise_scale") else ""),
            ("Measured in", f"recipe {part['from_recipe']}" if part.get("from_recipe") else ""),
        ]
        return [row for row in rows if row[1]]


class _ExpectedLoss(PartWords):
    def line(self, document: Answer | PlanSettings, part: Mapping[str, Any]) -> str:
        run = "" if part["run_low"] is None else f"; a single run {part['run_low']:.4g} to {part['run_high']:.4g}"
        target = cast("Mapping[str, Any]", document.get("target") or {})
        asked = f", with {' and '.join(said)}" if (said := third_asked(target)) else ""
        return f"{self.number(part)} at the best settings{asked}{run}"

    def rows(self, document: Answer, part: Mapping[str, Any]) -> list[tuple[str, str]]:
        rows = super().rows(document, part)
        if part["run_low"] is not None:
            rows.append(("A single run", f"{part['run_low']:.4g} to {part['run_high']:.4g}, its own noise included"))
        return [*rows, ("Holds for", "the best settings at this scale")]


_WORDS: Final[Mapping[str, PartWords]] = {
    "weight_decay": _WeightDecay("as in torch.optim.AdamW"),
    "critical_batch": _CriticalBatch("tokens per step"),
    "expected_loss": _ExpectedLoss("nats per token"),
}


def words_of(name: str) -> PartWords:
    """The words of a part of an answer."""
    if name in _WORDS:
        return _WORDS[name]
    from lawfit import kinds

    return PartWords(next((kind.unit for kind in kinds.answering() if kind.part == name), ""))


def part_words(document: Answer | PlanSettings, name: str, *, brief: bool = False) -> str:
    """One part of a recommendation in a line: the number with its interval, or what is missing for it.

    Empty for a recommendation of before there was such a part.
    """
    part = part_of(document, name)
    if part is None:
        missing = (document.get("missing") or {}).get(name)
        return f"not from these runs: {tell(missing)}" if missing else ""
    return words_of(name).brief(part) if brief else words_of(name).line(document, part)


def third_asked(target: Mapping[str, Any]) -> list[str]:
    """Further inputs of the loss that a target has, in words: ``40B unique tokens``."""
    return [third_words(name, target[name]) for name in THIRDS if target.get(name) is not None]


def format_decay(value: float) -> str:
    """A weight decay as people write it: ``0.0453``, and ``2.81e-4`` where it is small."""
    return f"{value:.3g}" if value >= SMALL_DECAY else format_lr(value)


def restated_words(part: Mapping[str, Any]) -> str:
    """A critical batch by a further definition, with its law."""
    law = part["law"]
    return (
        f"{_WORDS['critical_batch'].number(part)}, moving as "
        f"{CRITICAL_INPUTS[law['input']]}^{law['exponent']:+.2f} ({law['exponent_low']:+.2f} to "
        f"{law['exponent_high']:+.2f}), by the definition of {tell(part['definition']['words'])}"
    )


def definition_words(definition: Mapping[str, Any]) -> str:
    """What is critical about a critical batch: ``a run needs twice the tokens that a very small batch would need``."""
    fraction, reference = definition["fraction"], definition["reference_batch_tokens"]
    more = "twice the tokens" if fraction == 1 else f"{100 * fraction:.4g} % more tokens"
    base = f"a batch of {format_quantity(reference)} tokens" if reference else "a very small batch"
    return f"a run needs {more} {'that' if fraction == 1 else 'than'} {base} would need for the same loss"


def _followed(shares: Mapping[str, float]) -> str:
    """What a critical batch follows."""
    shown = ", ".join(f"{CRITICAL_INPUTS.get(name, name)} {share:.0%}" for name, share in shares.items())
    return shown if len(shares) > 1 else shown.rpartition(" ")[0]


def _left_out(out: Mapping[str, Any] | None) -> str:
    """How it did at the largest size."""
    if not out:
        return ""
    inside = "inside" if out["inside"] else "outside"
    return f"left out, it was predicted {out['error']:+.0%} off, {inside} the interval"
