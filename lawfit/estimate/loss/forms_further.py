"""Forms of a loss law that need to know more of a run than params and tokens: one further input, as a third column.

Repeated tokens (Muennighoff et al., arXiv 2305.16264): the column is ``ln(tokens / unique tokens)``, 0 where none
repeats. Sparse experts (Abnar et al., arXiv 2501.12370): the log of the share of experts that are active, 0 where all
are. Number of experts: its log, 0 for a dense model; ``L = E + K params^-a experts^-b`` rests on memory (a power law
like the one of routed models, arXiv 2202.01169, which has no asymptote and was not read), and gets a term in tokens
where runs vary them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from lawfit.estimate.loss.forms import (
    EXPONENT_RANGE,
    FORMS,
    PARAMS_ALONE,
    TOKENS_ALONE,
    Formula,
    LossForm,
    Smooth,
    additive_minimum,
    additive_natural,
)
from lawfit.estimate.numerics.newton import Floats
from lawfit.estimate.numerics.varpro import PowerSum, Term

_STEP: Final = 1e-5  # of a central difference


def with_numeric_slopes(value: Callable[[Floats, Floats], Floats]) -> Formula:
    """A formula from its value alone, with central differences for derivatives: fitted once, not thousands of times.

    The value takes theta (r, k) and logs (n, 3) to log loss (r, n).
    """

    def formula(theta: Floats, logs: Floats) -> tuple[Floats, Floats]:
        slopes = []
        for k in range(theta.shape[1]):
            step = np.zeros(theta.shape[1])
            step[k] = _STEP
            slopes.append((value(theta + step, logs) - value(theta - step, logs)) / (2 * _STEP))
        return value(theta, logs), np.stack(slopes, axis=1)

    return formula


def _still_worth(repeats: Floats, scale: Floats) -> Floats:
    """ln of the share that counts of an amount ``1 + r`` times its base: ``(1 + R (1 - e^(-r / R))) / (1 + r)``."""
    return np.asarray(np.log1p(-scale * np.expm1(-repeats / scale)) - np.log1p(repeats), dtype=float)


def data_constrained(theta: Floats, logs: Floats) -> Floats:
    """Log loss; theta: those of the additive law, then ln R*_D and ln R*_N."""
    e, a, alpha, b, beta, log_data, log_params = theta.T[:, :, None]
    n, d, passes = logs.T
    unique = d - passes
    best = (
        np.log(alpha) + a - np.log(beta) - b + beta * unique
    ) / alpha  # size for which the unique tokens are optimal
    excess = np.expm1(np.clip(n - best, 0.0, 30.0))
    n_eff = n + _still_worth(excess, np.exp(log_params))
    d_eff = d + _still_worth(np.expm1(np.maximum(passes, 0.0)), np.exp(log_data))
    return np.asarray(np.logaddexp(e, np.logaddexp(a - alpha * n_eff, b - beta * d_eff)), dtype=float)


def data_constrained_tokens(theta: Floats, logs: Floats) -> Floats:
    """Log loss where all runs have one size; theta: ln E, ln B, beta, ln R*_D."""
    e, b, beta, log_data = theta.T[:, :, None]
    _, d, passes = logs.T
    d_eff = d + _still_worth(np.expm1(np.maximum(passes, 0.0)), np.exp(log_data))
    return np.asarray(np.logaddexp(e, b - beta * d_eff), dtype=float)


def sparse_experts(theta: Floats, logs: Floats) -> tuple[Floats, Floats]:
    """Log loss and derivatives; theta: those of the additive law, then ln C, lambda, ln F, delta, gamma."""
    e, a, alpha, b, beta, c, by_active, f, both, size = theta.T[:, :, None]
    n, d, active = logs.T
    terms = np.broadcast_arrays(
        e + 0 * n, a - alpha * n, b - beta * d, c - by_active * active, f - both * active - size * n
    )
    total = np.logaddexp.reduce(np.stack(terms), axis=0)
    first, params, tokens, sparse, mixed = (np.exp(term - total) for term in terms)
    slopes = [first, params, -params * n, tokens, -tokens * d, sparse, -sparse * active]
    return total, np.stack([*slopes, mixed, -mixed * active, -mixed * n], axis=1)


def _repetition_natural(theta: Floats, centre: Floats) -> Mapping[str, Floats]:
    scales = {"tokens_scale": np.exp(theta[:, 5]), "params_scale": np.exp(theta[:, 6])}
    return {**additive_natural(theta[:, :5], centre), **scales}


def _repetition_tokens_natural(theta: Floats, centre: Floats) -> Mapping[str, Floats]:
    e, b, beta, log_data = theta.T
    return {"E": np.exp(e), "B": np.exp(b + beta * centre[1]), "beta": beta, "tokens_scale": np.exp(log_data)}


def _sparse_natural(theta: Floats, centre: Floats) -> Mapping[str, Floats]:
    c, by_active, f, both, size = theta[:, 5:].T
    further = {"C": np.exp(c), "lambda_": by_active, "F": np.exp(f + size * centre[0]), "delta": both, "gamma": size}
    return {**additive_natural(theta[:, :5], centre), **further}


def _repetition_starts(problem: PowerSum | Smooth) -> Floats:
    simple = additive_minimum(problem)
    return np.array([[*simple, np.log(r), np.log(s)] for r, s in itertools.product((3.0, 10.0, 40.0), (2.0, 10.0))])


def _repetition_tokens_starts(problem: PowerSum | Smooth) -> Floats:
    e, a, _, b, beta = additive_minimum(problem)
    return np.array([[np.logaddexp(e, a), b, beta, np.log(r)] for r in (3.0, 10.0, 40.0)])


def _sparse_starts(problem: PowerSum | Smooth) -> Floats:
    e, *rest = additive_minimum(problem)
    exponents = itertools.product((-0.3, 0.3), (-0.3, 0.3), (0.1, 0.4))
    return np.array([[e - 0.2, *rest, e - 2.0, by, e - 2.0, both, size] for by, both, size in exponents])


def _problem(formula: Formula, low: tuple[float, ...], high: tuple[float, ...]) -> Callable[..., Smooth]:
    def problem(log_y: Floats, logs: Floats, delta: float) -> Smooth:
        return Smooth(log_y, logs, formula, np.array(low), np.array(high), delta)

    return problem


_ADDITIVE_LOW, _ADDITIVE_HIGH = (-9.0, -12.0, 0.02, -12.0, 0.02), (4.0, 6.0, 3.0, 6.0, 3.0)
DATA_CONSTRAINED: Final = LossForm(
    name="data_constrained",
    formula="E + A N^-alpha + B D^-beta, repeated tokens and the parameters beyond them worth less and less",
    cite="arXiv:2305.16264",
    names=("E", "A", "alpha", "B", "beta", "tokens_scale", "params_scale"),
    exponents=frozenset({"alpha", "beta"}),
    asymptote=True,
    problem=_problem(with_numeric_slopes(data_constrained), (*_ADDITIVE_LOW, -2.0, -2.0), (*_ADDITIVE_HIGH, 7.0, 7.0)),
    natural=_repetition_natural,
    starts=_repetition_starts,
    third="repeats",
)
# the same where all runs have one size. No value of A leaves it out of the whole form: the size that unique tokens are
# enough for goes with A, and beyond it tokens are worth less
DATA_CONSTRAINED_TOKENS: Final = LossForm(
    name="data_constrained_tokens",
    formula="E + B D^-beta, repeated tokens worth less and less",
    cite="arXiv:2305.16264",
    names=("E", "B", "beta", "tokens_scale"),
    exponents=frozenset({"beta"}),
    asymptote=True,
    problem=_problem(with_numeric_slopes(data_constrained_tokens), (-9.0, -12.0, 0.02, -2.0), (4.0, 6.0, 3.0, 7.0)),
    natural=_repetition_tokens_natural,
    starts=_repetition_tokens_starts,
    third="repeats",
)
SPARSE_EXPERTS: Final = LossForm(
    name="moe_sparsity",
    formula="E + A params^-alpha + B tokens^-beta + C active^-lambda + F active^-delta params^-gamma",
    cite="arXiv:2501.12370",
    names=("E", "A", "alpha", "B", "beta", "C", "lambda_", "F", "delta", "gamma"),
    exponents=frozenset({"alpha", "beta", "lambda_", "delta", "gamma"}),
    asymptote=True,
    problem=_problem(
        sparse_experts,
        (*_ADDITIVE_LOW, -12.0, -2.0, -12.0, -2.0, 0.0),
        (*_ADDITIVE_HIGH, 4.0, 2.0, 6.0, 2.0, 2.0),
    ),
    natural=_sparse_natural,
    starts=_sparse_starts,
    third="active",
    terms={"params": ("A", "alpha", "F", "delta", "gamma"), "tokens": ("B", "beta")},
)


def _experts_problem(columns: Mapping[str, tuple[int, ...]]) -> Callable[[Floats, Floats, float], PowerSum]:
    def problem(log_y: Floats, logs: Floats, delta: float) -> PowerSum:
        terms = [Term(logs=np.empty((len(log_y), 0)), low=(), high=())]
        for inputs in columns.values():
            low, high = ((bound,) * len(inputs) for bound in EXPONENT_RANGE)
            terms.append(Term(logs=logs[:, list(inputs)], low=low, high=high))
        return PowerSum(log_y, terms, delta)

    return problem


def _experts(name: str, formula: str, columns: Mapping[str, tuple[int, ...]]) -> LossForm:
    """A sum of powers; `columns` has the inputs of each coefficient: 0 params, 1 tokens, 2 experts."""
    exponents = {coefficient: tuple(_EXPERT_EXPONENTS[j] for j in inputs) for coefficient, inputs in columns.items()}
    names = ("E", *(each for coefficient in columns for each in (coefficient, *exponents[coefficient])))

    def natural(theta: Floats, centre: Floats) -> Mapping[str, Floats]:
        values = dict(zip(names, theta.T, strict=True))
        found = {"E": np.exp(values["E"])}
        for coefficient, inputs in columns.items():
            shift = sum((values[_EXPERT_EXPONENTS[j]] * centre[j] for j in inputs if j < 2), np.zeros(len(theta)))
            found[coefficient] = np.exp(values[coefficient] + shift)
            found |= {each: values[each] for each in exponents[coefficient]}
        return found

    return LossForm(
        name=name,
        formula=formula,
        cite="from memory, not read: after arXiv:2202.01169",
        names=names,
        exponents=frozenset(each for found in exponents.values() for each in found),
        asymptote=True,
        problem=_experts_problem(columns),
        natural=natural,
        third="experts",
    )


_EXPERT_EXPONENTS: Final = ("a", "beta", "b")
EXPERTS: Final = _experts("experts", "E + K params^-a experts^-b + B tokens^-beta", {"K": (0, 2), "B": (1,)})
# the same where all runs have one amount of tokens, or one size
EXPERTS_PARAMS: Final = _experts("experts_params", "E + K params^-a experts^-b", {"K": (0, 2)})
EXPERTS_TOKENS: Final = _experts("experts_tokens", "E + K experts^-b + B tokens^-beta", {"K": (2,), "B": (1,)})
EXPERTS_ALONE: Final = _experts("experts_alone", "E + K experts^-b", {"K": (2,)})
EXPERTS_VARYING: Final[Mapping[tuple[bool, bool], LossForm]] = {  # whether params, and tokens, vary
    (True, True): EXPERTS,
    (True, False): EXPERTS_PARAMS,
    (False, True): EXPERTS_TOKENS,
    (False, False): EXPERTS_ALONE,
}

DATA_CONSTRAINED_VARYING: Final[Mapping[bool, LossForm]] = {True: DATA_CONSTRAINED, False: DATA_CONSTRAINED_TOKENS}


def form_varying(name: str, params: bool, tokens: bool) -> tuple[LossForm, tuple[str, ...]]:
    """What is fitted of a form with a third input where runs vary params and tokens or not; inputs without a term."""
    same = tuple(key for key, varies in (("params", params), ("tokens", tokens)) if not varies)
    if name == "experts":
        return EXPERTS_VARYING[params, tokens], same
    if name == "data_constrained":  # tokens that count vary with the repeats
        return DATA_CONSTRAINED_VARYING[params], () if params else ("params",)
    return EVERY_FORM[name], same  # `terms` of the inputs that no run varies are held


EVERY_FORM: Final[Mapping[str, LossForm]] = {
    **FORMS,
    **{f.name: f for f in (PARAMS_ALONE, TOKENS_ALONE, *DATA_CONSTRAINED_VARYING.values())},
    **{f.name: f for f in (SPARSE_EXPERTS, *EXPERTS_VARYING.values())},
}
