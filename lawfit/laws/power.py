"""Laws that are products of powers, the logarithmic line of Kaplan, a half-life: formulas, no data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Every quantity that a law may take as an input, and what one unit of it is.
INPUTS: Final[Mapping[str, str]] = {
    "params": "parameters, counted by the law's convention",
    "tokens": "training tokens of the run",
    "batch_tokens": "tokens per optimizer step",
    "flops": "training FLOPs, 6 * params * tokens unless the law says otherwise",
    "width": "hidden width of the model",
    "loss": "nats per token",
    "steps": "optimizer steps",
    "unique_tokens": "different tokens among those of the run",
    "active_fraction": "share of a mixture's experts that a token meets: 1 - sparsity",
}


@dataclass(frozen=True, kw_only=True)
class Law:
    """A formula: from a constant, one exponent (or slope) per input, and the inputs, to one quantity."""

    name: str
    formula: str  # for people; c is the constant, e_i the exponent or slope of input x_i
    evaluate: Callable[[float, Mapping[str, float], Mapping[str, Floats]], Floats]

    def __call__(self, const: float, exponents: Mapping[str, float], inputs: Mapping[str, ArrayLike]) -> Floats:
        """Evaluate on arrays that broadcast.

        Parameters
        ----------
        const : float
        exponents : mapping of input name to float
        inputs : mapping of input name to positive floats
            Holds at least the inputs that `exponents` names; a law with no exponent takes its shape from the inputs.

        Raises
        ------
        ValueError
            An input is missing, unknown to lawfit, or not positive.
        """
        if unknown := exponents.keys() - INPUTS.keys():
            raise ValueError(f"a law cannot depend on {', '.join(sorted(unknown))}; inputs are {', '.join(INPUTS)}")
        if missing := exponents.keys() - inputs.keys():
            raise ValueError(f"this law also needs {', '.join(sorted(missing))}")
        arrays = {name: np.asarray(value, dtype=float) for name, value in inputs.items() if name in exponents}
        for name, value in arrays.items():
            if not ((value > 0) & (value < np.inf)).all():
                raise ValueError(f"{name} must be positive and finite")
        return self.evaluate(const, exponents, arrays)


def _power_product(const: float, exponents: Mapping[str, float], inputs: Mapping[str, Floats]) -> Floats:
    log_y: Floats = np.zeros(())
    for name, exponent in exponents.items():  # in logs: params * tokens overflows integers, and powers overflow floats
        log_y = log_y + exponent * np.log(inputs[name])
    return np.asarray(const * np.exp(log_y), dtype=float)


def _affine_log(const: float, exponents: Mapping[str, float], inputs: Mapping[str, Floats]) -> Floats:
    y: Floats = np.full((), const)
    for name, slope in exponents.items():
        y = y + slope * np.log(inputs[name])
    return np.asarray(y, dtype=float)


def _exponential(const: float, exponents: Mapping[str, float], inputs: Mapping[str, Floats]) -> Floats:
    return np.asarray(const ** _power_product(1.0, exponents, inputs), dtype=float)


POWER_PRODUCT: Final = Law(name="power_product", formula="y = c * prod x_i^e_i", evaluate=_power_product)
AFFINE_LOG: Final = Law(name="affine_log", formula="y = c + sum e_i ln x_i", evaluate=_affine_log)
EXPONENTIAL: Final = Law(name="exponential", formula="y = c^(prod x_i^e_i)", evaluate=_exponential)

LAWS: Final[Mapping[str, Law]] = {law.name: law for law in (POWER_PRODUCT, AFFINE_LOG, EXPONENTIAL)}
