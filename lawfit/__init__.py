"""lawfit: from run logs to the learning rate and batch size of the next run.

In a notebook: `observe` a DataFrame, `fit`, `predict`, `cost`, `plot`. With a database: `lawfit.pipeline`. Names load
lazily.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lawfit.notebook import (
        Answer,
        Cost,
        FittedSweep,
        ObservedSweep,
        Plan,
        TransferAnswer,
        cost,
        fit,
        observe,
        plan,
        plot,
        predict,
        transfer,
    )

__version__ = "0.2.0"
__all__ = [
    "Answer",
    "Cost",
    "FittedSweep",
    "ObservedSweep",
    "Plan",
    "TransferAnswer",
    "__version__",
    "cost",
    "fit",
    "observe",
    "plan",
    "plot",
    "predict",
    "transfer",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("lawfit.notebook"), name)
    raise AttributeError(f"module 'lawfit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
