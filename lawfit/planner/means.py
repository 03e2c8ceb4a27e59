"""What is there to spend: a budget as people write it, and what packs of runs cost of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from lawfit.planner.pace import Pace, Packs
from lawfit.units import parse_quantity

LONGEST: Final = 60  # characters
_WRITTEN: Final = re.compile(
    r"(?P<dollars>\$)?\s*(?P<amount>[\d.,_]+(?:e[+-]?\d+)?\s*[kKMBT]?)\s*(?P<unit>flops?|gpu-?\s?hours?|gpu-?h|runs?)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Means:
    """A budget in one unit, and what turns runs into it."""

    amount: float
    unit: str  # flops, gpu-hours, runs or $
    pace: Pace | None = None  # of one GPU
    dollars_per_gpu_hour: float | None = None

    def cost(self, packs: Packs) -> float:
        """Of the budget, in its unit."""
        if self.unit == "runs":
            return float(packs.all_runs)
        if self.unit == "flops":
            return packs.flops
        hours = self.gpu_hours(packs)
        assert hours is not None
        return hours if self.unit == "gpu-hours" else hours * (self.dollars_per_gpu_hour or 0.0)

    def gpu_hours(self, packs: Packs) -> float | None:
        """None where no pace is known."""
        return None if self.pace is None else self.pace.seconds(packs) / 3600


def read_means(
    budget: str,
    flops_per_second: float | None = None,
    dollars_per_gpu_hour: float | None = None,
    pace: Pace | None = None,
) -> Means:
    """``20gpu-hours``, ``1e19flops``, ``64runs`` or ``$200``.

    Parameters
    ----------
    flops_per_second : that one GPU sustains, where somebody says it
    pace : as it was measured, where nobody does

    Raises
    ------
    ValueError
        It is none of these, or lacks what turns runs into it: what to say.
    """
    found = None if len(budget) > LONGEST else _WRITTEN.fullmatch(budget.strip())
    if found is None or bool(found["dollars"]) == bool(found["unit"]):
        raise ValueError(
            f"the budget '{budget[:LONGEST]}' has no unit or is no amount: write 1e19flops, 20gpu-hours, 64runs or $200"
        )
    word = (found["unit"] or "$").lower()
    unit = next(
        name for name, start in (("$", "$"), ("flops", "f"), ("gpu-hours", "g"), ("runs", "r")) if word[0] == start
    )
    amount = parse_quantity(found["amount"].replace(",", "").replace("_", ""))
    if not amount > 0:
        raise ValueError(f"the budget '{budget}' buys nothing")
    if flops_per_second is not None:
        pace = Pace(flops_per_second=flops_per_second)
    if unit in ("gpu-hours", "$") and pace is None:
        raise ValueError(
            f"a budget in {'dollars' if unit == '$' else unit} needs flops_per_second (what one GPU sustains), or six "
            "packs of the recipe's runs that were trained on GPUs from this database, each at one go"
        )
    if unit == "$" and dollars_per_gpu_hour is None:
        raise ValueError("a budget in dollars needs dollars_per_gpu_hour: the price of a GPU-hour")
    if unit != "$" and dollars_per_gpu_hour is not None and pace is None:
        raise ValueError("a price for each GPU-hour needs flops_per_second: what one GPU sustains (or measured packs)")
    return Means(amount=amount, unit=unit, pace=pace, dollars_per_gpu_hour=dollars_per_gpu_hour)
