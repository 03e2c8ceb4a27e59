"""What a study says: why it ended, and its rounds in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from lawfit.units import counted, format_duration, format_flops, format_lr, format_percent, format_quantity
from lawfit.words import Sentence, Spoken
from lawfit.words.plan_next import budget_words

KINDS: Final[Mapping[str, str]] = {
    "planned": "",
    "asked": "what the fit lacked",
    "lowered": "lower learning rates, as every run had diverged",
}


def _budget(data: Mapping[str, Any]) -> str:
    return budget_words(data["amount"], data["unit"])


def _left(data: Mapping[str, Any]) -> str:
    return budget_words(data["left"], data["unit"])


def _reached(data: Mapping[str, Any]) -> str:
    return (
        f"known well enough ({data['until']}): the advised setting is expected to give up "
        f"{format_percent(data['regret'])} of the loss, and the learning rate is known within x{data['lr_factor']:.2f}"
    )


WORDS: Final[Mapping[str, Sentence]] = {
    "none": Spoken(
        terminal="no study '{study_id}' in {database}; lawfit study list has those that there are",
        http="there is no study '{study_id}'; GET /v1/studies lists those that there are",
    ),
    "reached": _reached,
    "known": lambda data: f"nothing to run: this is {_reached(data)}",
    "spent": lambda data: (
        f"the budget is spent: of {_budget(data)} there is {_left(data)} left, which buys no further grid"
        if data["left"] > 0
        else f"the budget of {_budget(data)} is spent"
    ),
    "rounds_over": lambda data: (
        f"{counted(data['rounds'], 'round')} were asked for, and are over; of {_budget(data)} there is "
        f"{_left(data)} left"
    ),
    "nothing_left": "{why}",
    "all_diverged": "every run diverged, down to a learning rate of {lr:lr}: something else is wrong than the learning "
    "rate; look at the curves of a run (and its text, precision and warmup) before more is spent",
    "all_failed": "not one run of round {round} could be made: {why}; when that is mended the same command goes on",
    "signal": "stopped by a signal, with checkpoints; the same command goes on",
    "deadline": "the time was up, with checkpoints; the same command goes on",
}


def spent_words(budget: Mapping[str, Any]) -> str:
    """``3.2e11 of 6e11 FLOPs``, and what else is known of what was spent: ``24 runs, 0.0707 GPU-hours``."""
    unit, further = budget["unit"], []
    if unit != "runs":
        further.append(counted(budget["runs"], "run"))
    if unit != "flops":
        further.append(f"{format_flops(budget['flops'])} FLOPs")
    if unit != "gpu-hours":
        further.append(f"{budget['gpu_hours']:.3g} GPU-hours")
    if unit != "$" and budget["dollars"] is not None:
        further.append(f"${budget['dollars']:,.2f}")
    spent = budget_words(float(f"{budget['spent']:.4g}"), unit)
    whole = budget_words(budget["amount"], unit)
    return f"{spent.split(' ')[0]} of {whole}: {', '.join(further)}"


def cost_words(made: Mapping[str, Any], unit: str) -> str:
    """``2.6e12 FLOPs, 41 s``; hours or dollars first, where those are the budget."""
    parts = [f"{format_flops(made['flops'])} FLOPs"]
    if unit in ("gpu-hours", "$"):
        parts.insert(0, budget_words(float(f"{made['cost']:.3g}"), unit))
    return ", ".join([*parts, format_duration(made["seconds"])])


def runs_words(made: Mapping[str, Any], phase: str) -> str:
    """``27``, or ``27 (2 diverged, 1 failed)``."""
    further = [f"{made['diverged']} diverged"] if made["diverged"] else []
    further += [f"{made['missing']} {'to come' if phase == 'planned' else 'failed'}"] if made["missing"] else []
    return str(made["runs"]) + (f" ({', '.join(further)})" if further else "")


def factor_words(one: Mapping[str, Any], name: str) -> str:
    """``x2.85, x3.10``: promised and got."""
    return _promised_and_got(one, lambda there: f"x{there[name]:.2f}")


def regret_words(one: Mapping[str, Any]) -> str:
    """``0.44 %, 0.51 %``: promised and got."""
    return _promised_and_got(one, lambda there: format_percent(there["expected_regret"]))


def _promised_and_got(one: Mapping[str, Any], write: Callable[[Mapping[str, Any]], str]) -> str:
    promised = "-" if one["promised"] is None else write(one["promised"])
    got = write(one["got"]) if one["got"] else "-" if one["phase"] == "fitted" else "..."
    return f"{promised}, {got}"


def setting_words(answer: Mapping[str, Any] | None) -> str:
    """``lr 3.1e-3, batch 2.05k``."""
    if answer is None:
        return "-"
    return f"{format_lr(answer['lr'])}, {format_quantity(answer['batch_tokens'])}"


def answer_words(answer: Mapping[str, Any], level: float) -> str:
    """The advised setting in one sentence."""
    return (
        f"learning rate {format_lr(answer['lr'])} ({format_lr(answer['lr_low'])} to {format_lr(answer['lr_high'])}), "
        f"batch {format_quantity(answer['batch_tokens'])} tokens ({format_quantity(answer['batch_low'])} to "
        f"{format_quantity(answer['batch_high'])}); intervals of {100 * level:g} %"
    )


def round_words(one: Mapping[str, Any]) -> str:
    """What one round taught, in a sentence."""
    if one["got"] is None:
        return f"round {one['number']} gave no answer yet: {one['refused']}"
    got = one["got"]
    words = (
        f"round {one['number']}: the learning rate is known within x{got['lr_factor']:.2f}, the batch within "
        f"x{got['batch_factor']:.2f}, and the expected regret is {format_percent(got['expected_regret'])}"
    )
    if (promised := one["promised"]) is not None:
        words += (
            f" (promised: x{promised['lr_factor']:.2f}, x{promised['batch_factor']:.2f}, "
            f"{format_percent(promised['expected_regret'])})"
        )
    return f"{words}; {one['refused']}" if one["refused"] else words
