"""Published forms whose coefficients have names of their own: those of the loss. Formulas, no data.

What `lawfit.estimate.loss.forms` fits has the same names where the forms are the same. Everything is in plain units:
loss in nats per token, tokens, steps; what `params` counts is for each law to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.laws.loss import AdditiveLaw, KaplanLaw, Repetition

Floats = NDArray[np.float64]
Numbers = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class NamedForm:
    """A formula of a fixed set of coefficients and inputs."""

    name: str
    formula: str  # for people; {name} stands for a coefficient
    coefficients: tuple[str, ...]
    inputs: tuple[str, ...]
    evaluate: Callable[[Numbers, Mapping[str, Floats]], Floats] | None  # None: takes more than numbers, see `needs`
    needs: tuple[str, ...] = ()

    def __call__(self, coefficients: Numbers, inputs: Mapping[str, ArrayLike]) -> Floats:
        """Evaluate on arrays that broadcast.

        Raises
        ------
        ValueError
            An input is missing or not positive, a coefficient was never published, or the form takes more than numbers.
        """
        if self.evaluate is None:
            raise ValueError(f"this law also needs {', '.join(self.needs)}")
        if unknown := [name for name in self.coefficients if name not in coefficients]:
            raise ValueError(f"this law cannot be evaluated: {', '.join(unknown)} never published")
        if missing := [name for name in self.inputs if name not in inputs]:
            raise ValueError(f"this law also needs {', '.join(missing)}")
        arrays = {name: np.asarray(inputs[name], dtype=float) for name in self.inputs}
        for name, value in arrays.items():
            if not np.all((value > 0) & np.isfinite(value)):
                raise ValueError(f"{name} must be positive and finite")
        return self.evaluate(coefficients, arrays)

    def words(self, coefficients: Numbers) -> str:
        """The formula with its numbers; a coefficient that was never published stays a letter."""
        return self.formula.format(
            **{name: f"{coefficients[name]:.7g}" if name in coefficients else name for name in self.coefficients}
        )


def additive_law(c: Numbers) -> AdditiveLaw:
    """The law of an entry of form ``additive``."""
    return AdditiveLaw(**{name: c[name] for name in ADDITIVE.coefficients})


def _repetition(c: Numbers, x: Mapping[str, Floats]) -> Floats:
    law = Repetition(law=additive_law(c), tokens_scale=c["tokens_scale"], params_scale=c["params_scale"])
    return law.loss(x["params"], x["tokens"], x["unique_tokens"])


def _kaplan_steps(c: Numbers, x: Mapping[str, Floats]) -> Floats:
    by_params = np.exp(c["alpha"] * (np.log(c["params_scale"]) - np.log(x["params"])))
    by_steps = np.exp(c["beta"] * (np.log(c["steps_scale"]) - np.log(x["steps"])))
    return np.asarray(by_params + by_steps)


def _moe_sparsity(c: Numbers, x: Mapping[str, Floats]) -> Floats:
    params, tokens, active = (np.log(x[name]) for name in ("params", "tokens", "active_fraction"))
    return np.asarray(
        c["E"]
        + c["A"] * np.exp(-c["alpha"] * params)
        + c["B"] * np.exp(-c["beta"] * tokens)
        + c["C"] * np.exp(-c["lambda_"] * active)
        + c["F"] * np.exp(-c["delta"] * active - c["gamma"] * params)
    )


ADDITIVE: Final = NamedForm(
    name="additive",
    formula="{E} + {A} / params^{alpha} + {B} / tokens^{beta}",
    coefficients=("E", "A", "alpha", "B", "beta"),
    inputs=("params", "tokens"),
    evaluate=lambda c, x: additive_law(c).loss(x["params"], x["tokens"]),
)
KAPLAN: Final = NamedForm(
    name="kaplan",
    formula="[({params_scale} / params)^({alpha} / {beta}) + {tokens_scale} / tokens]^{beta}",
    coefficients=("params_scale", "alpha", "tokens_scale", "beta"),
    inputs=("params", "tokens"),
    evaluate=lambda c, x: KaplanLaw(**c).loss(x["params"], x["tokens"]),
)
KAPLAN_STEPS: Final = NamedForm(
    name="kaplan_steps",
    formula="({params_scale} / params)^{alpha} + ({steps_scale} / steps)^{beta}",
    coefficients=("params_scale", "alpha", "steps_scale", "beta"),
    inputs=("params", "steps"),
    evaluate=_kaplan_steps,
)
REPETITION: Final = NamedForm(
    name="data_constrained",
    formula="{E} + {A} / N^{alpha} + {B} / D^{beta}; D = unique (1 + R (1 - exp(-(tokens / unique - 1) / R))), "
    "R = {tokens_scale}; N likewise around the params that are best for the unique tokens, with {params_scale}",
    coefficients=("E", "A", "alpha", "B", "beta", "tokens_scale", "params_scale"),
    inputs=("params", "tokens", "unique_tokens"),
    evaluate=_repetition,
)
MOE_SPARSITY: Final = NamedForm(
    name="moe_sparsity",
    formula="{E} + {A} / params^{alpha} + {B} / tokens^{beta} + {C} / active^{lambda_} "
    "+ {F} / (active^{delta} params^{gamma})",
    coefficients=("E", "A", "alpha", "B", "beta", "C", "lambda_", "F", "delta", "gamma"),
    inputs=("params", "tokens", "active_fraction"),
    evaluate=_moe_sparsity,
)
MULTI_POWER: Final = NamedForm(
    name="multi_power",
    formula="{L0} + {A} S^-{alpha} - {B} sum_k (lr_k-1 - lr_k) (1 - ({C} lr_k^-{gamma} S_k + 1)^-{beta}), "
    "S: summed learning rate, S_k: summed since step k",
    coefficients=("L0", "A", "alpha", "B", "C", "beta", "gamma"),
    inputs=(),
    evaluate=None,
    needs=("the learning rate of every step (lawfit.laws.multi_power)",),
)

NAMED_FORMS: Final[Mapping[str, NamedForm]] = {
    form.name: form for form in (ADDITIVE, KAPLAN, KAPLAN_STEPS, REPETITION, MOE_SPARSITY, MULTI_POWER)
}
