"""Which scale a plan is about: from a budget, a size, an amount of data or a loss, or two of them, to both numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.budget.belief import LossBelief
from lawfit.advise.budget.optimum import (
    FLOPS_PER_SERVED_TOKEN,
    Best,
    OptimalPath,
    best_split,
    optimal_path,
    params_for,
    tokens_for,
)
from lawfit.advise.budget.runs import WIDEST, Verdict, judge, run_at
from lawfit.ask import LARGEST_TARGET, PlanQuestion
from lawfit.errors import FitError, NotEnoughData
from lawfit.findings import Finding, finding
from lawfit.laws.loss import FLOPS_PER_PARAM_TOKEN
from lawfit.units import format_flops, format_quantity

Floats = NDArray[np.float64]

STATED: Final = 1e-5  # of ln loss by which a plan for a loss may state another
SECANT: Final = 0.2  # ln flops, either way, over which the first step takes its slope
FARTHEST_STEP: Final = 1.0
TRIES: Final = 8

_WORDS = {"params": "parameters", "tokens": "tokens"}


class Choice:
    """Which scale is planned, and how it compares with the best split of the same budget."""

    def __init__(self, belief: LossBelief, question: PlanQuestion) -> None:
        self.belief, self.question = belief, question
        self.served = question.inference_tokens or 0.0
        # of each world, where the budget is part of the answer: flops, params and tokens
        self.own_budget: tuple[Floats, Floats, Floats] | None = None
        params, tokens, loss, budget = question.params, question.tokens, question.loss, question.budget
        if params is not None and tokens is not None:
            self.why = finding("plan.as_given")
        elif budget is not None and params is not None:
            tokens, self.why = self.left(budget, params), finding("plan.all_tokens")
        elif budget is not None and tokens is not None:
            params = budget / (FLOPS_PER_PARAM_TOKEN * tokens + FLOPS_PER_SERVED_TOKEN * self.served)
            self.why = finding("plan.largest_model")
        elif loss is not None and params is not None:
            tokens = float(tokens_for(belief.log_loss, belief.scales, loss, params)[0])
            self.why = finding("plan.until_the_loss")
            self._reached(tokens, finding("plan.size_never_reaches", params=params, loss=loss))
        elif loss is not None and tokens is not None:
            params = params_for(belief.log_loss, belief.scales, loss, tokens)
            self.why = finding("plan.smallest_model")
            self._reached(params, finding("plan.tokens_never_reach", tokens=tokens, loss=loss))
        else:
            if budget is None:
                budget, params, tokens = self._budget_of(params, tokens, loss)
            self.why = finding("plan.optimal_served") if self.served else finding("plan.compute_optimal")
        self.total = budget or 6 * (params or 0) * (tokens or 0)
        if budget is None and self.served and params:  # a loss and a size: serving comes on top
            self.total += FLOPS_PER_SERVED_TOKEN * params * self.served
        self._check(params, tokens)
        self.best: Best = best_split(belief, self.total, served=self.served)
        self.verdict: Verdict = self._judged(judge(belief, self.best))
        if self.refused and (params is None or self.own_budget is not None):
            raise NotEnoughData(_refusal(self.verdict, question))
        if params is None or tokens is None:
            params = math.exp(self.best.chosen)
            tokens = self.left(self.total, params)
        self.params, self.tokens = float(params), float(tokens)
        self.flops = FLOPS_PER_PARAM_TOKEN * self.params * self.tokens
        self.log_loss = float(belief.centre([self.params], [self.tokens])[0])
        self.cost = None if self.refused else max(0.0, math.expm1(self.log_loss - self.best.log_loss))

    def _judged(self, verdict: Verdict) -> Verdict:
        """A best split may be known at one budget, and not which budget has the size or tokens that were asked for."""
        if verdict.refusal or self.own_budget is None or self.question.loss is not None:
            return verdict  # a loss that some laws never reach has an open end, which the answer shows
        _, params, tokens = self.own_budget
        asked, each = ("params", tokens) if self.question.params else ("tokens", params)
        bounds = self.belief.positive_bounds(each)
        if bounds is not None and bounds[1] <= WIDEST * bounds[0]:
            return verdict
        span = None if bounds is None else [bound if math.isfinite(bound) else None for bound in bounds]
        return replace(verdict, refusal=finding("plan.budget_open", asked=asked, span=span))

    @property
    def refused(self) -> bool:
        return self.verdict.refusal is not None

    def left(self, budget: float, params: float) -> float:
        """Tokens that a budget buys for a size, once serving is paid."""
        tokens = (budget / params - FLOPS_PER_SERVED_TOKEN * self.served) / FLOPS_PER_PARAM_TOKEN
        if tokens < 1:
            paid = " after serving" if self.served else ""
            raise ValueError(
                f"{format_flops(budget)} FLOPs leave no training tokens for {format_quantity(params)} parameters{paid}"
            )
        return tokens

    def _budget_of(self, params: float | None, tokens: float | None, loss: float | None) -> tuple[float, float, float]:
        """The budget whose best split has this size, these tokens or this loss, and that split."""
        name, value = ("params", params) if params else ("tokens", tokens) if tokens else ("loss", loss)
        assert value is not None
        path = optimal_path(self.belief, served=self.served)
        if name == "loss":
            path = path.drifted(self.belief)
        found = path.at(name, value)
        if not np.isfinite(found[0]):
            if name == "loss":
                low, high = (float(np.exp(path.log_loss[0, i])) for i in (-1, 0))
                if value > high:
                    raise ValueError(f"a loss of {value:g} is above everything these runs are about; below {high:.3g}")
                most = math.exp(path.log_flops[-1])
                raise FitError(finding("plan.loss_out_of_reach", loss=value, lowest=low, flops=most))
            raise ValueError(f"no budget near these runs has its optimum at {value:g} {_WORDS[name]}")
        if name == "loss":
            found = found + self._stated_at(found[0], path, value)
        flops = np.exp(found)
        sizes = np.full(len(flops), value) if name == "params" else np.exp(path.read("params", found))
        reached = np.isfinite(flops)
        served = FLOPS_PER_SERVED_TOKEN * self.served
        each = np.full(len(flops), np.inf)
        each[reached] = (flops[reached] / sizes[reached] - served) / FLOPS_PER_PARAM_TOKEN
        if name == "tokens":
            each[:] = value
            sizes[reached] = flops[reached] / (FLOPS_PER_PARAM_TOKEN * value + served)
        self.own_budget = flops[1:], sizes[1:], each[1:]
        if name == "loss":
            budget, params = (
                float(flops[0]),
                math.exp(best_split(self.belief, float(flops[0]), served=self.served).chosen),
            )
            return budget, params, self.left(budget, params)
        return float(flops[0]), float(sizes[0]), float(each[0])

    def _stated_at(self, log_flops: float, path: OptimalPath, loss: float) -> float:
        """How much more ln flops it takes until the plan of a budget states the loss, by secants.

        What a path has between its budgets is interpolated, and its splits are the best and not those of least regret.
        """

        def beside(at: float) -> float:
            budget = math.exp(at)
            params = math.exp(best_split(self.belief, budget, served=self.served).chosen)
            return float(self.belief.log_loss([params], [self.left(budget, params)])[0]) - math.log(loss)

        ends = np.array([log_flops - SECANT, log_flops + SECANT])
        slope = float(np.diff(np.interp(ends, path.log_flops, path.log_loss[0]))[0]) / (2 * SECANT)
        tried = [(log_flops, beside(log_flops))]
        while len(tried) < TRIES and abs(tried[-1][1]) > STATED and slope < 0:
            at, off = tried[-1]
            step = min(max(-off / slope, -FARTHEST_STEP), FARTHEST_STEP)
            tried.append((at + step, beside(at + step)))
            slope = (tried[-1][1] - off) / step
        return min(tried, key=lambda each: abs(each[1]))[0] - log_flops

    def _reached(self, value: float, never: Finding) -> None:
        if not np.isfinite(value):
            raise FitError(never)

    def _check(self, params: float | None, tokens: float | None) -> None:
        for name, value in (("parameters", params), ("tokens", tokens)):
            if value is not None and not 1 <= value <= LARGEST_TARGET:
                raise ValueError(f"this asks for {value:.3g} {name}; plans hold between 1 and {LARGEST_TARGET:g}")
        if not 6 <= self.total <= 6 * LARGEST_TARGET**2:
            raise ValueError(f"a budget of {format_flops(self.total)} FLOPs is none that a model is trained with")


def _refusal(verdict: Verdict, question: PlanQuestion) -> Finding:
    return finding(
        "plan.no_optimal_size",
        why=verdict.refusal,
        runs=[run_at(run) for run in verdict.runs],
        budget_alone=question.params is None and question.tokens is None,
    )
