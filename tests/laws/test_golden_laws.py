"""Numbers of every formula at a few points, kept: none moves without being meant to.

That they are the published ones has tests of its own (`test_golden_table.py` lists them).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import pytest

from lawfit.laws import (
    changes,
    counting,
    critical_batch,
    last_iterate,
    lenders,
    lent,
    loss,
    lr_batch,
    named,
    parametrization,
    pareto,
    priors,
    refinement,
    schedules,
    timescale,
    transfer,
)
from lawfit.laws.annealing import AnnealingLaw, annealed_area
from lawfit.laws.multi_power import Course, MultiPowerLaw, annealed
from lawfit.laws.named_schedules import named_shape, of_run, unverified
from lawfit.laws.published import published_laws
from lawfit.laws.rate_falls import cooldown_share, falls, holds_the_rate
from lawfit.records import Recipe
from tests import steps
from tests.golden_numbers import check
from tests.watched import steps_of

N: Final = np.array([2e7, 3e9, 7e10])
D: Final = np.array([4e8, 6e10, 2e12])
B: Final = np.array([3e4, 5e5, 8e6])
GIVEN: Final = (None, 5e5)  # batch, tokens per step
FAR: Final = np.linspace(-9, 9, 7)
PROGRESS: Final = np.linspace(0, 1, 9)
NAMES: Final = (
    *("constant", "cosine:floor=0.1", "linear", "wsd:cooldown=0.2,fall=1-sqrt", "wsd:cooldown=0.3,floor=0.05"),
    *("rex:beta=0.9", "uba:phi=0.4", "power:capped=0.3,cooldown=0.1", "wsd_s:ends=0.5/1,cooldown=0.1,floor=0.1"),
)


def said(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except ValueError as error:
        return f"{type(error).__name__}: {error}"


def catalogue() -> Any:
    """All published laws: their words, what they say inside and outside their range, and which they lend."""
    found = {}
    for name, law in published_laws().items():
        found[name] = {
            "json": law.to_json(),
            "predict": [said(lambda law=law, b=b: law.predict(N, D, b)) for b in (None, B)],
            "outside": [
                law.outside_range(float(n), float(d), b) for n, d in zip(N, D, strict=True) for b in (None, 5e5)
            ],
            "lent": lenders.lent_by(law),
            "nothing given": [said(lambda law=law, target=target: law.evaluate(target)) for target in law.targets],
            "missing": [law.missing(target, has_batch=has) for target in law.targets for has in (True, False)],
        }
    return found


def lending() -> Any:
    recipes = {
        "plain": Recipe(name="r"),
        "mup": Recipe(name="r", parametrization="muP", optimizer="AdamW", schedule="cosine"),
        "muon": Recipe(name="r", optimizer="muon", schedule="wsd"),
        "sgd": Recipe(name="r", optimizer="sgd", schedule="constant", parametrization="standard"),
        "bits": Recipe(name="r", loss_kind="bits per byte", params_convention="total"),
    }
    named_laws = ("step_law", "deepseek")
    without = ("step_law",)
    return {
        "lending": {name: lenders.lending_to(recipe) for name, recipe in recipes.items()},
        "without": lenders.lending_to(recipes["plain"], named_laws),
        "numbers": [
            lent.timescale_exponent(),
            lent.timescale_exponent(without),
            lent.critical_exponents(("params", "tokens"), widening=2.0),
            lent.critical_exponents(("tokens",)),
            lent.least_tokens_exponent(),
            lent.log_asymptote(),
            lent.excess_params_scale(),
            lent.published_timescale(list(N), list(D)),
        ],
        "priors": {
            f"{of} {without}": [
                priors.exponent_prior(of, without=without),
                said(lambda of=of, w=without: priors.level_prior(of, 3e8, 6e9, without=w)),
            ]
            for of in ("lr_joint", "lr_given_batch", "batch")
            for without in ((), ("step_law",))
        },
        "named": {
            name: [
                form.words(dict(zip(form.coefficients, np.linspace(0.2, 0.9, len(form.coefficients)), strict=False)))
            ]
            for name, form in named.NAMED_FORMS.items()
        },
        "falls": {
            text: [falls(text), holds_the_rate(text), said(lambda text=text: cooldown_share(text))]
            for text in (
                "constant",
                "cosine",
                "wsd",
                "wsd 20%",
                "warmup-stable-decay (10 %)",
                "linear decay",
                "",
                "mine",
            )
        },
    }


def losses() -> Any:
    found = {}
    for name, law in (("chinchilla", loss.CHINCHILLA), ("epoch", loss.EPOCH)):
        best = law.optimum(np.array([1e18, 1e22]))
        low = law.loss(*best)
        found[name] = {
            "loss": law.loss(N, D),
            "optimum": best,
            "exponents": [law.params_exponent, law.tokens_exponent],
            "params for tokens": law.params_for_tokens(D),
            "tokens for": law.tokens_for([2.0, 2.5, 3.5], N),
            "params for": law.params_for([2.0, 2.5, 3.5], D),
            "flops for": law.flops_for(low),
        }
    again = loss.DATA_CONSTRAINED
    return {
        **found,
        "kaplan": loss.KAPLAN.loss(N, D),
        "repeated": [again.loss(N, D, D / 7), again.effective_tokens(D, D / 7), again.effective_params(N, D / 70)],
        "counting": [
            counting.flops_per_token(24, 2048, 4096),
            counting.deepseek_allocation(np.array([1e18, 1e22])),
            *(
                said(
                    lambda g=g, w=w, t=t: counting.convert_params(
                        2e8, g, w, counting.Tables(width=768, vocab=50304, tied=t)
                    )
                )
                for g in counting.CONVENTIONS
                for w in counting.CONVENTIONS
                for t in (True, False)
            ),
        ],
        "frontier": asdict(
            pareto.time_compute_frontier([1e9, 2e9, 4e9], [4e10, 2.2e10, 1.4e10], [1e6, 1.5e6, 2e6], batch_tokens=B)
        ),
    }


def batches() -> Any:
    curve = critical_batch.Hyperbola(steps_min=1500.0, tokens_min=9e8)
    three = critical_batch.ThreeTerm(
        floor=1.7,
        params_scale=406,
        params_exponent=0.34,
        batch_scale=90,
        batch_exponent=0.4,
        steps_scale=300,
        steps_exponent=0.6,
    )
    oracle = lr_batch.StochasticOracle(steps_min=900.0, batch_min=2e5)
    forms = [
        lr_batch.Power(const=1e-5, exponent=0.4),
        *(lr_batch.Saturating(lr_max=2e-3, noise_batch_tokens=4e5, sharpness=sharpness) for sharpness in (0.5, 1.0)),
        lr_batch.Surge(lr_max=2e-3, noise_batch_tokens=4e5),
    ]
    definitions = [critical_batch.Definition.parse(text) for text in ("zhang", "doubling", "0.2@256x512")]
    return {
        "hyperbola": [curve.steps(B), curve.tokens(B), curve.doubling_batch_tokens, curve.tokens_of_steps([2e3, 4e3])],
        "definitions": [
            [each.to_json(), each.words(), each.of_doubling(5e5), each.to_doubling(5e5), each.of_bend(2e5, 0.7)]
            for each in definitions
        ],
        "converted": [critical_batch.convert(5e5, one, other) for one in definitions for other in definitions],
        "through": critical_batch.Hyperbola.through(4e3, 1.2e9, 3e5),
        "tokens at a batch": critical_batch.tokens_at_batch(9e8, B, 6e5),
        "three-term": [three(N, B, D / B), three.base(N), three.optimal_batch_tokens(D), three.steps_to(5.0, N, B)],
        "forms": {
            "along the batch": [[form(B), form.slope(B)] for form in forms],
            "bends": {name: [bend.log(FAR), bend.slope(FAR)] for name, bend in lr_batch.BENDS.items()},
            "across": [
                lr_batch.AcrossScales(
                    form=form,
                    const=3.0,
                    params_exponent=-0.7,
                    tokens_exponent=0.3,
                    noise_const=6e-4,
                    noise_tokens_exponent=0.83,
                )(N, D, B)
                for form in lr_batch.BENDS
            ],
            "scheduler": lr_batch.PowerScheduler(factor=4.6, exponent=-0.51)(B, D),
            "oracle": [oracle.steps(B), oracle.cost(B), oracle.best_batch],
            "constants": lr_batch.StochasticOracle.of_constants(3.0, 7.0, 0.01),
            "largest": lr_batch.max_initial_lr([4, 24], [256, 2048], const=2.0, exponent=-0.6),
        },
    }


def grown(growth: parametrization.Growth) -> Any:
    each = [asdict(growth.of(kind)) for kind in parametrization.Kind]
    return [each, growth.output_multiplier, growth.residual_multiplier, growth.attention_scale(64)]


def carried() -> Any:
    tuned = changes.Tuned(lr=2e-3, beta1=0.9, beta2=0.95, eps=1e-8, ema=0.999, weight_decay=0.1)
    kinds = [timescale.DecayConvention.COUPLED, timescale.DecayConvention.INDEPENDENT]
    ratios = {"batch_ratio": 4, "tokens_ratio": 10, "lr_ratio": 0.5, "params_ratio": 3}
    law = timescale.TimescaleLaw(const=1.1, exponent=-0.5)
    growths = [
        parametrization.Growth(rules=rules, base_width=64, width=1024, base_depth=4, depth=depth, convention=kind)
        for rules in parametrization.Rules
        for depth in ((16, 4) if rules is parametrization.Rules.COMPLETEP else (4,))
        for kind in kinds
    ]
    return {
        "batch": [
            changes.change_batch(tuned, 2e5, new, lr_exponent=exponent, sde=sde)
            for new in (5e4, 8e5)
            for exponent, sde in ((transfer.SQRT, False), (transfer.LINEAR, False), (transfer.SQRT, True))
        ],
        "horizon": [changes.change_horizon(tuned, 1e9, new, params=n) for new in (5e8, 4e10) for n in (None, 5e7, 5e8)],
        "rules": [
            transfer.horizon_lr(2e-3, D, 3 * D),
            transfer.horizon_exponent(N),
            transfer.batch_lr(2e-3, B, 3 * B),
            transfer.beta2_for_batch(0.95, B, 3 * B),
            transfer.beta2_half_life_tokens(0.95, B),
            transfer.beta2_of_half_life(1e7, B),
            transfer.ema_for_batch(0.999, [2, 8]),
            transfer.ema_gap(0.999, [2, 8]),
            transfer.adam_sde(transfer.Adam(lr=2e-3, beta1=0.9, beta2=0.99, eps=1e-8), 2.0),
            [transfer.weight_decay_for(0.1, **ratios, timescale_exponent=-0.5, convention=kind) for kind in kinds],
        ],
        "timescale": [
            *(timescale.timescale(B, 2e-3, 0.1, D, kind) for kind in kinds),
            *(timescale.weight_decay_of(0.2, B, 2e-3, D, kind) for kind in kinds),
            *(timescale.convert_weight_decay(0.1, 2e-3, one, other) for one in kinds for other in kinds),
            law.tau(N, D),
            *(law.weight_decay(N, D, B, 2e-3, kind) for kind in kinds),
        ],
        "growth": [said(lambda growth=growth: grown(growth)) for growth in growths],
    }


def shapes() -> Any:
    steps = np.arange(100.0, 2001.0, 100.0)
    course = Course.of(steps, 1e-3 * np.linspace(1, 0.1, 20), warmup_steps=50)
    flat = Course.of(steps, np.full(20, 1e-3), warmup_steps=0)
    norms = np.exp(0.3 * np.sin(np.arange(60))) * np.linspace(2, 1, 60)
    rates = np.linspace(1, 0.05, 30)
    return {
        "named": {name: [named_shape(name)(PROGRESS), of_run(name, PROGRESS, warmup=0.2)] for name in NAMES},
        "unverified": [unverified(name) for name in NAMES],
        "means": [schedules.mean(each, warmup=w) for each in (schedules.linear, schedules.cosine) for w in (0.0, 0.1)],
        "warmed up": schedules.warmed_up(schedules.linear, PROGRESS, warmup=0.3),
        "falls": {fall.value: schedules.wsd(PROGRESS, cooldown=0.6, floor=0.1, fall=fall) for fall in schedules.Fall},
        "power": [
            schedules.power_lr([1e8, 1e10], [64, 512]),
            schedules.power(PROGRESS, cooldown=0.2, floor=0.1, sequences=256, tokens=1e10),
            schedules.power(PROGRESS, capped=0.3),
        ],
        "curves": [
            MultiPowerLaw(L0=2.0, A=0.4, alpha=0.5, B=300.0, C=1.5, beta=0.5, gamma=0.6).loss(course),
            annealed(course, 1.5, 0.5, 0.6),
            *(AnnealingLaw(L0=2.0, A=0.4, alpha=0.5, C=20.0, memory_steps=300.0).loss(c) for c in (course, flat)),
            annealed_area(course, np.array([10.0, 1000.0])),
            [course.sums, course.warmup_sum, flat.sums],
        ],
        "last iterate": [
            last_iterate.bound(rates),
            last_iterate.bound(rates, distance=2.0, gradient_bound=np.linspace(2, 1, 30)),
            last_iterate.best_scale(rates),
            last_iterate.best_scale(rates, distance=2.0, gradient_bound=3.0),
            last_iterate.peak_ratio(rates, np.ones(30)),
        ],
        "refined": [
            *(refinement.refined(norms, adaptive=adaptive) for adaptive in (True, False)),
            *(refinement.refined_run(np.arange(60) * 10.0 + 10, norms, adaptive=a) for a in (True, False)),
            refinement.median_filtered(norms, 5),
        ],
    }


PARTS: Final[Mapping[str, Callable[[], Any]]] = {
    part.__name__: part for part in (catalogue, lending, losses, batches, carried, shapes)
}


@pytest.mark.parametrize("name", PARTS)
def test_no_number_moves(name: str, update_golden: bool) -> None:
    check(f"laws_{name}", PARTS[name](), update=update_golden)


@steps.only_asked
@pytest.mark.parametrize("name", PARTS)
def test_no_step_on_the_way_moves(name: str, update_golden: bool) -> None:
    steps.check(f"laws_{name}", steps_of(f"laws_{name}"), update=update_golden)
