"""What a setting costs, in words: the same on the card and in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from lawfit.documents import SettingCost
from lawfit.documents.cost import Share
from lawfit.units import format_lr, format_percent
from lawfit.words.answers import STATUS_WORDS
from lawfit.words.parts import format_decay

STATUS: Final[Mapping[str, str]] = {
    **STATUS_WORDS,
    "beyond_runs": "no run of yours lies so far from the best setting: only a lower bound rests on runs",
    "diverges": "half of your runs with so high a rate diverged, or more; the numbers are of a run that does not",
}
_PARTS: Final[Mapping[str, str]] = {
    "lr": "the learning rate",
    "batch_tokens": "the batch",
    "weight_decay": "the weight decay",
}


def setting_words(document: SettingCost) -> list[tuple[str, str]]:
    """The setting that is asked about, and the best one."""
    asked, advised = document["setting"], document["advised"]
    yours = [f"lr {format_lr(asked['lr'])}", f"batch {asked['batch_tokens']:,.0f} tokens"]
    if not asked["batch_given"]:
        yours[-1] += " (the one advised here, as none was given)"
    best = [f"lr {format_lr(advised['lr'])}", f"batch {advised['batch_tokens']:,.0f} tokens"]
    if asked["weight_decay"] is not None:
        yours.append(f"weight decay {format_decay(asked['weight_decay'])}")
        if advised["weight_decay"] is not None:
            best.append(f"weight decay {format_decay(advised['weight_decay'])}")
    rows = [("Setting", ", ".join(yours)), ("Best", ", ".join(best))]
    if asked["batch_given"]:
        rows.append(("", f"at this batch lr {format_lr(advised['lr_at_batch'])}"))
    return rows


def cost_rows(document: SettingCost) -> list[tuple[str, str]]:
    """What it costs, what that comes from, and the loss there."""
    regret, loss = document["regret"], document["expected_loss"]
    level = f"{100 * regret['level']:g} %"
    rows = [("Costs", f"{share_words(regret, level)} of the loss over the best setting")]
    if nats := regret["nats"]:
        rows.append(("", f"{_span(nats['value'], nats['low'], nats['high'], '{:.3g}'.format)} nats per token"))
    if compute := regret["extra_compute_fraction"]:
        rows.append(("", f"as if {format_percent(compute)} of the compute were lost"))
    for at, (name, words) in enumerate(_PARTS.items()):
        part: Share | None = regret["parts"][name]  # type: ignore[literal-required]
        if part is not None:
            rows.append(("" if at else "Of it", f"{share_words(part)} by {words}"))
        elif why := document["missing"].get(name):
            rows.append(("", f"{words} is not in it: {why}"))
    if loss is None:
        rows.append(("Loss there", f"not from these runs: {document['missing']['expected_loss']}"))
    else:
        rows.append(("Loss there", f"{loss_words(document)}; {loss['best']:.4g} at the best settings"))
    rows.append(("Trust", STATUS[regret["status"]]))
    return rows


def loss_words(document: SettingCost) -> str:
    """``3.02 (90 %: 2.95 to 3.1) nats per token, for one run``."""
    loss = document["expected_loss"]
    if loss is None:
        return "-"
    words = _span(loss["value"], loss["low"], loss["high"], "{:.4g}".format, f"{100 * loss['level']:g} %: ")
    return f"{words} nats per token, for one run"


def share_words(part: Share, level: str = "") -> str:
    """``0.31 % (90 %: 0.02 % to 1.10 %)``; ``3.42 % or more``."""
    return _span(part["loss_fraction"], part["low"], part["high"], format_percent, level and f"{level}: ")


def _span(
    value: float | None, low: float | None, high: float | None, write: Callable[[float], str], level: str = ""
) -> str:
    """A number with its interval; where it is not known, its lower bound."""
    if low is None:
        return "not known" if value is None else f"{write(value)} (no interval)"
    ends = f"{write(low)} or more" if high is None else f"{write(low)} to {write(high)}"
    return ends if value is None else f"{write(value)} ({level}{ends})"
