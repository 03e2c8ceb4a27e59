"""What the curves of runs say about them: final losses, peak and shape of the learning rate, how the run ended.

The metrics are chosen once for all runs of a table, so that a column never mixes two measurements.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lawfit.factors import normal, spellings
from lawfit.findings import finding
from lawfit.ingest.names import NAMES
from lawfit.units import counted

Steps = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]
Curves = Mapping[str, tuple[Steps, Numbers]]

_HELD_OUT: Final = frozenset({"val", "valid", "validation", "eval", "test", "dev", "heldout"})
_LOSS: Final = frozenset({"loss", "nll", "xent"})
# Words of what is no final loss of the model: parts of it, extremes, and other units.
_OTHER: Final = frozenset(
    {
        *("aux", "auxiliary", "z", "zloss", "balance", "balancing", "router", "kl", "mtp", "scale", "scaler", "best"),
        *("min", "max", "ppl", "perplexity", "std", "runtime", "ema", "smooth", "smoothed", "time", "norm", "delta"),
    }
)
_NOT_A_RATE: Final = frozenset({"mult", "multiplier", "scale", "factor", "ratio", "decay", "wd", "momentum", "ref"})
_LAST_SHARE: Final = 0.05  # of the steps: over so many the last training losses are averaged
_SAME: Final = 0.01  # relative: a logged rate is rounded, and seldom logged exactly at its peak
_FEWEST_RATES: Final = 8  # points of a schedule whose shape is told
_AHEAD: Final = 1.1  # an evaluation so far behind the last step of training is on other steps than it
_WHOLE: Final = 0.98  # share of the planned steps that counts as all: the last may not have been logged


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which metrics are what; None where no metric is."""

    validation: str | None
    training: str | None
    rate: str | None
    norm: str | None
    others: tuple[str, ...] = ()  # further validation losses
    _words: dict[str, str] = field(default_factory=dict)

    def word(self, metric: str) -> str:
        """The store's word for a metric."""
        if not self._words:
            names = {self.validation: "validation_loss", self.training: "train_loss", self.rate: "lr"}
            names |= {self.norm: "grad_norm"}
            self._words.update({metric: word for metric, word in names.items() if metric is not None})
        taken = self._words.get(metric)
        if taken is None and metric in self._words.values():  # another metric under a word that is taken
            return f"logged.{metric}"
        return taken or metric


def is_validation_loss(metric: str) -> bool:
    words = set(normal(metric).split("_"))
    return _is_loss(words, metric) and not words.isdisjoint(_HELD_OUT)


def is_training_loss(metric: str) -> bool:
    words = set(normal(metric).split("_"))
    return _is_loss(words, metric) and words.isdisjoint(_HELD_OUT)


def _is_loss(words: set[str], metric: str) -> bool:
    return (not words.isdisjoint(_LOSS) or "cross_entropy" in normal(metric)) and words.isdisjoint(_OTHER)


def is_rate(metric: str) -> bool:
    """Whether a metric is the learning rate: lr, train/learning_rate, lr-AdamW/pg1."""
    name = normal(metric)
    words = name.split("_")
    named = "lr" in (words[0], words[-1]) or "learning_rate" in name or words[0] == "lrs"
    return named and _NOT_A_RATE.isdisjoint(words)


def is_norm(metric: str) -> bool:
    name = normal(metric)
    return name.endswith(("grad_norm", "gradient_norm", "gradnorm", "total_grad_norm"))


def choose(runs: Sequence[Curves]) -> Chosen:
    """The metrics that most runs have; of those the ones with most points, then the shortest name."""
    count: dict[str, list[int]] = {}
    for curves in runs:
        for metric, (steps, _) in curves.items():
            seen = count.setdefault(metric, [0, 0])
            seen[0] += 1
            seen[1] += len(steps)

    def best(metrics: list[str]) -> list[str]:
        # A test set is looked at last.
        return sorted(metrics, key=lambda m: (-count[m][0], "test" in normal(m), *_size(m, count[m][1])))

    validation = best([metric for metric in count if is_validation_loss(metric)])
    training = sorted(filter(is_training_loss, count), key=lambda m: (-count[m][1], len(normal(m)), m))
    rates = best([metric for metric in count if is_rate(metric)])
    norms = best([metric for metric in count if is_norm(metric)])
    return Chosen(
        validation=validation[0] if validation else None,
        training=training[0] if training else None,
        rate=rates[0] if rates else None,
        norm=norms[0] if norms else None,
        others=tuple(validation[1:]),
    )


def _size(metric: str, points: int) -> tuple[int, int, str]:
    return len(normal(metric).split("_")), -points, metric


def derive(
    chosen: Chosen, runs: Sequence[Curves], configs: Sequence[Mapping[str, Any]], states: Sequence[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Columns for each run, and notes that state what was taken and how."""
    said: list[str] = []
    rows = []
    for curves, config, state in zip(runs, configs, states, strict=True):
        rows.append(_row(chosen, curves, config, state))
    if any("final_val_loss" in row for row in rows):
        said.append(f"final_val_loss is the last number of '{chosen.validation}', not smoothed")
        if chosen.others:
            quoted = [f"'{metric}'" for metric in chosen.others[:5]]
            said.append(str(finding("ingest.further_losses", columns=quoted, first=f"summary.{chosen.others[0]}")))
    early = [row for row in rows if row.pop("_early", False)]
    if early:
        first = early[0]
        said.append(
            f"in {counted(len(early), 'run')} the last validation was before the last {_LAST_SHARE:.0%} of the steps "
            f"(in the first at {first['final_val_step']:,} of {first['_steps']:,}): its loss is not the final one"
        )
    short = [row for row in rows if row.pop("_short", False)]
    if short:
        first = short[0]
        said.append(
            f"{counted(len(short), 'run')} finished before the planned steps (the first at {first['_steps']:,} of "
            f"{first['_planned']}), or logged other steps: is the loss that of all of them?"
        )
    if any("final_train_loss" in row for row in rows):
        said.append(f"final_train_loss is the mean of '{chosen.training}' over the last {_LAST_SHARE:.0%} of the steps")
    if derived := sum("peak_lr" in row for row in rows):
        said.append(
            f"peak_lr is the largest '{chosen.rate}' of {counted(derived, 'run')}: no learning rate is configured there"
        )
    differ = [row for row in rows if row.pop("_peak_differs", False)]
    if differ:
        said.append(
            f"in {counted(len(differ), 'run')} the largest logged rate is not the configured one, which is kept"
        )
    unsaid = sum(row.pop("_unsaid", False) for row in rows)
    if unsaid:
        said.append(f"nothing says how {counted(unsaid, 'run')} ended: taken as finished")
    _agree_on_schedules(rows)
    for row in rows:
        for name in ("_steps", "_planned"):
            row.pop(name, None)
    return rows, said


def _row(chosen: Chosen, curves: Curves, config: Mapping[str, Any], state: str) -> dict[str, Any]:
    told = _told(config)
    last_step = _last_step(chosen, curves)
    ended = _ended(chosen, curves, state, last_step, told.get("steps"))
    row: dict[str, Any] = {"status": ended or "finished"}
    if not ended:
        row["_unsaid"] = True
    if row["status"] == "finished":
        row.update(_losses(chosen, curves))
        if _ended(chosen, curves, "", last_step, told.get("steps")) == "running":
            row |= {"_short": True, "_steps": last_step, "_planned": told["steps"]}
        if row.get("final_val_step", last_step) < (1 - _LAST_SHARE) * last_step:
            row |= {"_early": True, "_steps": last_step}
    if "steps" not in told and last_step > 0:
        row["steps"] = last_step
    elif last_step > 0:
        row["last_logged_step"] = last_step
    if chosen.rate is not None and chosen.rate in curves:
        row.update(_schedule(*curves[chosen.rate], told))
    return row


def _last_step(chosen: Chosen, curves: Curves) -> int:
    """Of training, as far as it is logged; other metrics may count epochs, or reports, and so may evaluations."""
    trained = [int(curves[m][0][-1]) for m in (chosen.training, chosen.rate, chosen.norm) if m in curves and m]
    evaluated = int(curves[chosen.validation][0][-1]) if chosen.validation and chosen.validation in curves else 0
    last = max(trained, default=evaluated)
    return max(last, evaluated) if evaluated <= _AHEAD * last else last


def _told(config: Mapping[str, Any]) -> dict[str, Any]:
    """Which of learning rate, steps, schedule and warmup the settings say; by their whole names before the last part
    of them, as `save.steps` are other steps."""
    found: dict[str, tuple[int, Any]] = {}
    for name, value in _flat(config, ""):
        if value in (None, "", -1):
            continue
        for rank, form in enumerate(spellings(name)):
            kinds = [what for what in ("lr", "steps", "schedule") if form in NAMES[what]]
            for what in (*kinds, *(["warmup"] if form.startswith("warmup") else [])):
                if what not in found or rank < found[what][0]:
                    found[what] = rank, value
    return {what: value for what, (_, value) in found.items()}


def _flat(config: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _ended(chosen: Chosen, curves: Curves, state: str, last_step: int, planned: Any) -> str:
    """How the run ended: as the log says, or its curves; empty when neither does."""
    for metric in (chosen.training, chosen.validation):
        if metric is not None and metric in curves and not np.isfinite(curves[metric][1][-1]):
            return "diverged"
    if state:
        return state
    wanted = _number(planned)
    if not wanted > 0:
        return ""
    # A step of the log may be counted from 0, or the last interval may not be logged.
    return "running" if last_step + _interval(curves) < _WHOLE * wanted else "finished"


def _number(value: Any) -> float:
    """A setting as a number; nan for any other."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _interval(curves: Curves) -> int:
    return min((int(steps[-1] - steps[-2]) for steps, _ in curves.values() if len(steps) > 1), default=1)


def _losses(chosen: Chosen, curves: Curves) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if chosen.validation is not None and chosen.validation in curves:
        steps, numbers = curves[chosen.validation]
        row["final_val_loss"] = float(numbers[-1])
        row["final_val_step"] = int(steps[-1])
    if chosen.training is not None and chosen.training in curves:
        steps, numbers = curves[chosen.training]
        last = numbers[steps > steps[-1] * (1 - _LAST_SHARE)]
        row["final_train_loss"] = float(last.mean())
    last_others = {metric: float(curves[metric][1][-1]) for metric in chosen.others if metric in curves}
    return row | ({"summary": last_others} if last_others else {})


def _schedule(steps: Steps, rates: Numbers, told: Mapping[str, Any]) -> dict[str, Any]:
    fine = np.isfinite(rates) & (rates >= 0)
    steps, rates = steps[fine], rates[fine]
    if not len(rates) or rates.max() <= 0:
        return {}
    peak, row = float(rates.max()), dict[str, Any]()
    if "lr" not in told:
        row["peak_lr"] = peak
    else:
        row["logged_peak_lr"] = peak
        row["_peak_differs"] = not abs(peak - _number(told["lr"])) <= _SAME * peak
    if len(rates) >= _FEWEST_RATES:
        at = int(np.argmax(rates >= peak * (1 - 1e-6)))
        if "warmup" not in told and rates[0] < 0.9 * peak:
            row["warmup_steps"] = int(steps[at])
        if "schedule" not in told:
            row["schedule"] = shape(steps[at:], rates[at:])
    return row


def shape(steps: Steps, rates: Numbers) -> str:
    """The schedule behind its warmup in words: constant, linear to 0.1, cosine to 0, wsd to 0, inverse_sqrt, other."""
    peak, floor = float(rates[0]), float(rates[-1])
    if (np.abs(rates / peak - 1) < _SAME).all():
        return "constant"
    if floor >= peak:
        return "other"  # it rose again
    share = (steps - steps[0]) / max(int(steps[-1] - steps[0]), 1)
    fallen = (rates - floor) / (peak - floor)
    near = {
        "linear": 1 - share,
        "cosine": 0.5 * (1 + np.cos(np.pi * share)),
        "inverse_sqrt": (np.sqrt(max(int(steps[0]), 1) / np.maximum(steps, 1)) * peak - floor) / (peak - floor),
    }
    name, distance = min(((n, float(np.abs(fallen - c).max())) for n, c in near.items()), key=lambda pair: pair[1])
    flat = float(share[np.abs(rates / peak - 1) < _SAME].max())
    if distance > 0.03:
        name = "wsd" if flat > 0.3 and (np.diff(rates) <= 1e-9 * peak).all() else "other"
    ratio = round(floor / peak, 2)
    return name if name in ("inverse_sqrt", "other") else f"{name} to {ratio:g}"


def _agree_on_schedules(rows: Sequence[dict[str, Any]]) -> None:
    """A run that stopped early shows a part of its schedule only: it has the one that all finished runs share."""
    whole = {row["schedule"] for row in rows if row["status"] == "finished" and "schedule" in row}
    for row in rows:
        if "schedule" in row and row["status"] != "finished":
            if len(whole) == 1:
                row["schedule"] = next(iter(whole))
            else:
                del row["schedule"]
