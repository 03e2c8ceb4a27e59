"""Every law of the literature sheet, by section, and where it is in lawfit; or why it is not.

A place is the id of a published law (``catalogue:``), something that fits the form (``fit:``), a formula or exact rule
(``rule:``), the subcommand that gives it to people (``convert:``, ``schedules:``), or a reason (``none:``). That a
place exists says little: each rule gives a number of the sheet here (`NUMBERS`), and each command is run as a person
would, its answer set against the published formula written out (`COMMANDS`). Laws of the catalogue have theirs in
`test_golden` and `test_published`, fits recover known truths in tests of their own.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lawfit.cli.main import ExitCode, run
from lawfit.laws import counting, critical_batch, last_iterate, lr_batch, refinement, schedules, timescale, transfer
from lawfit.laws.loss import AdditiveLaw, Repetition
from lawfit.laws.parametrization import Growth, Kind, Rules
from lawfit.laws.pareto import time_compute_frontier
from lawfit.laws.published import published_laws

SECTIONS = range(24)

AUDIT: dict[str, tuple[str, ...]] = {
    "0.2 E1 near-optimal set": ("fit:lawfit.estimate.numerics.regression.fit_e1",),
    "0.2 E2 nested interpolation": ("fit:lawfit.estimate.numerics.optima.locate_akima",),
    "0.2 E3 parabola": ("fit:lawfit.estimate.numerics.optima.locate_parabola",),
    "0.2 E4 steps to a target": (
        "fit:lawfit.estimate.critical.steps_to_target.fit_steps_table",
        "fit:lawfit.estimate.critical.steps_to_target.steps_table_from_curves",
    ),
    "0.2 E5 data law per batch": ("fit:lawfit.estimate.critical.data_laws.fit_data_laws",),
    "0.2 E6 noise scale": ("fit:lawfit.estimate.critical.noise_scale.fit_noise_scale",),
    "0.2 E7 branched training": (
        "none: takes short continuations of one checkpoint at several batches, which no table of runs holds",
    ),
    "0.2 E8 joint surface": ("fit:lawfit.estimate.critical.three_term.fit_three_term",),
    "0.3 definitions of the critical batch": (
        "rule:lawfit.laws.critical_batch.convert",
        "convert:critical-batch",
    ),
    "1 timescale": ("rule:lawfit.laws.timescale.timescale", "convert:weight-decay"),
    "1 best timescale in tokens per parameter": (
        "catalogue:power_lines_timescale",
        "fit:lawfit.estimate.weight_decay.timescale.fit_timescale",
    ),
    "1 best weight decay": ("rule:lawfit.laws.timescale.TimescaleLaw",),
    "1 best batch": ("catalogue:power_lines",),
    "1 critical batch": ("catalogue:power_lines_critical", "fit:lawfit.estimate.numerics.optimum_law.fit_optimum_law"),
    "1 tokens at a batch": ("rule:lawfit.laws.critical_batch.tokens_at_batch",),
    "1 time against compute": ("rule:lawfit.laws.pareto.time_compute_frontier",),
    "2 Step Law": ("catalogue:step_law", "catalogue:step_law_bootstrap"),
    "2 recomputed from the released cells": (
        "none: a regression test of E1 rather than a better law; on the cells that are shared it is G30",
    ),
    "2 learning rate given the batch": (
        "catalogue:step_law_given_batch",
        "fit:lawfit.estimate.lr_batch.across_scales.fit_power_across_scales",
    ),
    "2 recalibrated below 59M": ("catalogue:step_law_small",),
    "3 steps = a + b / B": ("fit:lawfit.estimate.critical.hyperbola.fit_hyperbola",),
    "3 Zhang in params": ("catalogue:zhang_params", "catalogue:zhang_params_unrounded"),
    "3 Zhang in tokens": ("catalogue:zhang_tokens",),
    "3 Zhang in params at fixed tokens": ("catalogue:zhang_fixed_tokens",),
    "4 Bjorck": ("catalogue:bjorck", "rule:lawfit.laws.transfer.horizon_lr", "convert:tokens"),
    "4 Bjorck by size": ("rule:lawfit.laws.transfer.horizon_exponent",),
    "5 Porian": ("catalogue:porian", "catalogue:porian_rounded"),
    "5 DeepSeek in params": ("catalogue:deepseek_porian",),
    "5 beta2 by batch": (
        "none: a step at 256 sequences from memory; at constant half-life (section 11.4) it is a rule",
    ),
    "5 allocation": ("catalogue:porian_allocation",),
    "6 Su, loss along a run": ("fit:lawfit.estimate.loss.forms.POWER",),
    "6 Su, critical batch of a loss": ("fit:lawfit.estimate.numerics.optimum_law.fit_optimum_law",),
    "6 Su, steps and tokens at a batch": ("rule:lawfit.laws.critical_batch.Hyperbola",),
    "6 Su, coefficients": (
        "none: from memory, the sheet says not to ship them, and the authors that they change with every recipe",
    ),
    "7 noise scale": ("fit:lawfit.estimate.critical.noise_scale.fit_noise_scale",),
    "7 saturating learning rate": (
        "rule:lawfit.laws.lr_batch.Saturating",
        "fit:lawfit.estimate.lr_batch.along_batch.fit_lr_batch",
    ),
    "7 hyperbola": (
        "rule:lawfit.laws.critical_batch.Hyperbola",
        "fit:lawfit.estimate.critical.hyperbola.fit_hyperbola",
    ),
    "7 gain of a step": (
        "none: loss per step at a batch is the derivative of the hyperbola, and no log has it without its noise",
    ),
    "8 Kaplan, joint loss": ("catalogue:kaplan_loss", "fit:lawfit.estimate.loss.forms.KAPLAN"),
    "8 Kaplan, loss of one variable": ("catalogue:kaplan_loss_params", "catalogue:kaplan_loss_tokens"),
    "8 Kaplan, loss along a run": ("catalogue:kaplan_loss_steps", "fit:lawfit.estimate.loss.forms.POWER"),
    "8 Kaplan, critical batch": ("catalogue:kaplan_critical",),
    "8 Kaplan, learning rate": ("catalogue:kaplan",),
    "8 Kaplan, loss of compute": ("catalogue:kaplan_loss_compute", "catalogue:kaplan_loss_least_compute"),
    "8 Kaplan, overfitting": ("catalogue:kaplan_overfitting",),
    "8 Kaplan, allocation": ("catalogue:kaplan_allocation",),
    "8 least steps and compute": ("rule:lawfit.laws.critical_batch.Hyperbola",),
    "9 Shuai": ("catalogue:shuai",),
    "9 Shuai, learning rate": ("rule:lawfit.laws.transfer.batch_lr", "convert:batch"),
    "10 Time Transfer": (
        "rule:lawfit.laws.lr_batch.AcrossScales",
        "fit:lawfit.estimate.lr_batch.across_scales.fit_across_scales",
    ),
    "10 Scion": ("catalogue:scion_horizons",),
    "10 Scion, norm of the output layer": (
        "none: an invariant of the trained weights (2^7), not of anything that a table of runs holds",
    ),
    "11.1 power scheduler": (
        "catalogue:power_scheduler",
        "fit:lawfit.estimate.lr_batch.along_batch.fit_power_scheduler",
    ),
    "11.1 power schedule": ("rule:lawfit.laws.schedules.power_lr", "convert:schedule"),
    "11.2 surge": (
        "rule:lawfit.laws.lr_batch.Surge",
        "fit:lawfit.estimate.lr_batch.along_batch.fit_lr_batch",
        "fit:lawfit.estimate.lr_batch.across_scales.fit_across_scales",
    ),
    "11.3 random matrices": ("rule:lawfit.laws.transfer.batch_lr", "convert:batch"),
    "11.4 beta2 at a half-life": (
        "catalogue:marek_beta2",
        "rule:lawfit.laws.transfer.beta2_for_batch",
        "convert:batch",
    ),
    "11.4 learning rate": ("catalogue:marek",),
    "11.5 Adam's SDE": ("rule:lawfit.laws.transfer.adam_sde", "convert:batch"),
    "11.6 averages": ("rule:lawfit.laws.transfer.ema_for_batch", "convert:batch"),
    "11.7 steps to a result": (
        "none: a protocol without a formula; what it measures is fitted as E4, with the rates tried at each batch",
    ),
    "12 learning rate with the batch growing": ("rule:lawfit.laws.lr_batch.AcrossScales",),
    "13 MiniCPM, batch": ("catalogue:minicpm",),
    "13 MiniCPM, learning rate": ("catalogue:minicpm_lr",),
    "13 MiniCPM, loss": ("catalogue:minicpm_loss", "fit:lawfit.estimate.loss.forms.ADDITIVE"),
    "13 WSD": ("rule:lawfit.laws.schedules.wsd", "convert:schedule"),
    "14 video": ("catalogue:video_dit",),
    "15 GANs": (
        "rule:lawfit.laws.lr_batch.StochasticOracle",
        "fit:lawfit.estimate.lr_batch.along_batch.fit_stochastic_oracle",
    ),
    "16 largest initial rate": (
        "rule:lawfit.laws.lr_batch.max_initial_lr",
        "fit:lawfit.estimate.lr_batch.along_batch.fit_max_initial_lr",
    ),
    "17.1 token ratio of two optimizers": (
        "rule:lawfit.laws.lr_batch.token_ratio",
        "fit:lawfit.estimate.transfer.token_ratio.token_ratios",
    ),
    "17.1 telescoping sweep": ("none: a way to order a sweep over widths under muP, from memory; no law comes of it",),
    "17.2 Moonlight": ("catalogue:moonlight",),
    "17.3 Marin": ("catalogue:marin_muonh", "catalogue:marin_muonh_adam", "catalogue:marin_beta2"),
    "17.4 HyperP": ("catalogue:hyperp",),
    "17.5 nanochat": ("catalogue:nanochat", "catalogue:nanochat_weight_decay", "catalogue:nanochat_width_weight_decay"),
    "17.6 theory": ("none: power laws without published numbers; which exponents follow was read in no source",),
    "18 cosine, linear, REX, UBA": (
        "rule:lawfit.laws.schedules.cosine",
        "rule:lawfit.laws.schedules.linear",
        "rule:lawfit.laws.schedules.rex",
        "rule:lawfit.laws.schedules.uba",
        "convert:schedule",
    ),
    "18 WSD-S": ("rule:lawfit.laws.schedules.wsd_s", "convert:schedule"),
    "18 refined linear decay": ("rule:lawfit.laws.refinement.refined", "schedules:refine"),
    "18 last-iterate bound": ("rule:lawfit.laws.last_iterate.bound", "convert:schedule"),
    "18 Multi-Power Law": ("catalogue:multi_power_400m", "fit:lawfit.estimate.schedules.multi_power.fit_multi_power"),
    "18 annealing law": ("fit:lawfit.estimate.schedules.annealing.fit_annealing",),
    "18 river valley": ("none: a picture of the loss, without a number to fit",),
    "18 AdamC": ("none: a change of the optimizer, not a law of a setting; the trainer decays with the rate as AdamW",),
    "19.1 Chinchilla": (
        "catalogue:chinchilla",
        "catalogue:chinchilla_unrounded",
        "catalogue:epoch",
        "fit:lawfit.estimate.loss.forms.ADDITIVE",
    ),
    "19.2 DeepSeek, allocation": ("catalogue:deepseek_allocation",),
    "19.3 repeated tokens": ("catalogue:data_constrained", "rule:lawfit.laws.loss.Repetition"),
    "19.4 sparsity": ("catalogue:moe_sparsity",),
    "19.5 compute alone": ("fit:lawfit.estimate.loss.forms.COMPUTE_ONLY",),
    "19.6 three terms": (
        "catalogue:schaipp",
        "rule:lawfit.laws.critical_batch.ThreeTerm",
        "fit:lawfit.estimate.critical.three_term.fit_three_term",
    ),
    "19.7 Skaling": ("fit:lawfit.estimate.loss.forms.COUPLED",),
    "19.7 Farseer": ("fit:lawfit.estimate.loss.forms.FARSEER",),
    "20 Wang and Aitchison": (
        "catalogue:wang_aitchison",
        "rule:lawfit.laws.transfer.weight_decay_for",
        "convert:weight-decay",
    ),
    "21 muP and CompleteP": ("rule:lawfit.laws.parametrization.Growth", "convert:width"),
    "22 DeepSeek": ("catalogue:deepseek", "rule:lawfit.laws.counting.flops_per_token"),
    "23 Merrill, local critical batch": (
        "none: the largest batch without 0.01 of loss lost, which no hyperbola converts; no power is published",
    ),
    "23 Merrill, when to double the batch": ("rule:lawfit.laws.transfer.batch_lr", "convert:batch"),
}


CHINCHILLA_OF_MUENNIGHOFF = AdditiveLaw(
    E=np.exp(0.6254804), A=np.exp(6.255414), alpha=0.3526596, B=np.exp(7.3049974), beta=0.3526596
)
REPEATED = Repetition(law=CHINCHILLA_OF_MUENNIGHOFF, tokens_scale=15.387756, params_scale=5.309743)
ZHANG_BATCH, ZHANG_STEPS = 745.32 * 512, critical_batch.Definition(fraction=0.2, reference_batch_tokens=256 * 512)
POWER_LINES = timescale.TimescaleLaw(const=1.084, exponent=-0.527)

# A number of the sheet for each rule: the golden ones by their names, else its formula at plain inputs.
NUMBERS: dict[str, tuple[Callable[[], Any], float]] = {
    "counting.flops_per_token": (lambda: counting.flops_per_token(30, 4096, 4096), 4096**2 * (72 * 30 + 12 * 30)),
    "critical_batch.Hyperbola": (  # G15
        lambda: critical_batch.Hyperbola(steps_min=1000, tokens_min=1e6).tokens_of_steps(2500), 1666666.667,
    ),
    "critical_batch.ThreeTerm": (  # G27: exponents that add up to 1, and the source's 0.667 D^0.566
        lambda: critical_batch.ThreeTerm(
            floor=1, params_scale=1, params_exponent=0.3, batch_scale=0.667 * 0.566 / 0.434, batch_exponent=0.434,
            steps_scale=1, steps_exponent=0.566,
        ).optimal_batch_tokens(1e11), 1122343.599,
    ),
    "critical_batch.convert": (  # G10 to the doubling batch of section 0.3
        lambda: critical_batch.convert(ZHANG_BATCH, ZHANG_STEPS, critical_batch.DOUBLING) / 512,
        (745.32 - 1.2 * 256) / 0.2,
    ),
    "critical_batch.tokens_at_batch": (lambda: critical_batch.tokens_at_batch(1e10, 2e6, 4e6), 1.5e10),  # G9
    "last_iterate.bound": (  # two steps at rate 1: (1 + 2) / 4 + (1 / 1) (1 / 2) 2 / 2
        lambda: last_iterate.bound([1.0, 1.0]), 1.25,
    ),
    "loss.Repetition": (lambda: REPEATED.loss(6.34e9, 242e9, 25e9), 2.225644089),  # G23
    "lr_batch.Saturating": (lambda: lr_batch.Saturating(lr_max=0.01, noise_batch_tokens=1000)(250), 0.002),  # G16
    "lr_batch.Surge": (lambda: lr_batch.Surge(lr_max=0.01, noise_batch_tokens=1000)(4000), 0.008),  # G16
    "lr_batch.AcrossScales": (  # the same, where the noise batch is as large as the horizon
        lambda: lr_batch.AcrossScales(
            const=0.01, params_exponent=0, tokens_exponent=0, noise_const=1, noise_tokens_exponent=1
        )(1, 1000, 250), 0.002,
    ),
    "lr_batch.StochasticOracle": (lambda: lr_batch.StochasticOracle.of_constants(1000, 4, 0.5).best_batch, 16),  # G29
    "lr_batch.max_initial_lr": (lambda: lr_batch.max_initial_lr(10, 100, const=2, exponent=0.5), 2 / sqrt(1000)),
    "lr_batch.token_ratio": (
        lambda: lr_batch.token_ratio(lambda b: 1 + b / 1e6, lambda b: 1 + b / 2e6, np.array([1e6]))[0], 2 / 1.5,
    ),
    "parametrization.Growth": (lambda: Growth(rules=Rules.MUP, base_width=256, width=4096).of(Kind.HIDDEN).lr, 1 / 16),
    "pareto.time_compute_frontier": (  # twice the tokens at the critical batch
        lambda: time_compute_frontier([1e9], [2e10], [1e6], batch_tokens=[1e6]).flops[0], 6 * 1e9 * 4e10,
    ),
    "refinement.refined": (lambda: refinement.refined([4, 2, 1, 2], adaptive=False)[0], (1.5 / 16) / (1.25 / 4)),
    "schedules.cosine": (lambda: schedules.cosine(1 / 3, floor=0.1), 0.1 + 0.9 * 0.75),
    "schedules.linear": (lambda: schedules.linear(0.25), 0.75),
    "schedules.rex": (lambda: schedules.rex(0.5), 0.6666666667),  # G28
    "schedules.uba": (lambda: schedules.uba(0.5, phi=0.5), 0.8),  # G28
    "schedules.wsd": (lambda: schedules.wsd(0.9, cooldown=0.2, fall=schedules.Fall.ROOT), 0.2928932188),  # G28
    "schedules.wsd_s": (  # half-way through the first decay 1 / f is half-way between 1 and 1 / floor
        lambda: schedules.wsd_s(0.45, ends=(0.5, 1), cooldown=0.2, floor=0.1), 1 / (0.5 / 0.1 + 0.5),
    ),
    "schedules.power_lr": (lambda: schedules.power_lr(1e11, 1024), 0.01005448772),  # G19
    "timescale.TimescaleLaw": (lambda: POWER_LINES.weight_decay(5e8, 1e10, 983040, 1.5e-3), 0.2931524014),  # G7
    "timescale.timescale": (lambda: timescale.timescale(983040, 1.5e-3, 0.2931524014, 1e10), 0.2235560742),  # G6
    "transfer.adam_sde": (
        lambda: transfer.adam_sde(transfer.Adam(lr=1e-3, beta1=0.9, beta2=0.99, eps=1e-8), 4).beta2, 1 - 4 * 0.01,
    ),
    "transfer.batch_lr": (lambda: transfer.batch_lr(1e-3, 1, 4), 2e-3),
    "transfer.beta2_for_batch": (lambda: transfer.beta2_for_batch(0.95, 512, 64), 0.9936088490),  # G24
    "transfer.ema_for_batch": (lambda: transfer.ema_for_batch(0.999, 4), 0.996005996),  # G24
    "transfer.horizon_exponent": (lambda: transfer.horizon_exponent(1.25e8), 0.6531),
    "transfer.horizon_lr": (lambda: transfer.horizon_lr(1e-3, 5e10, 1e12), 3.834161495e-4),  # G12
    "transfer.weight_decay_for": (lambda: transfer.weight_decay_for(0.1, batch_ratio=2), 0.2),
}  # fmt: skip

CAPPED = (1024 * 4 / 0.02) ** (1 / 0.51) / 1e12  # share of 1e12 tokens before the power law meets its cap
# A number for each law of the catalogue that the golden ones leave out: at plain inputs, or by what twice one of them
# multiplies it, where exponents alone are published.
PUBLISHED: dict[str, tuple[tuple[str, dict[str, float], float], ...]] = {
    "deepseek_porian": (
        ("lr", {"params": 1e8}, 0.171 * 1e8**-0.25), ("batch_tokens", {"params": 1e8}, 2048 * 6.83e-4 * 1e8**0.654),
    ),
    "scion_horizons": (
        ("batch_tokens", {"tokens": 2}, 2**0.45), ("lr", {"batch_tokens": 2}, 2**0.62), ("lr", {"tokens": 2}, 2**-0.56),
    ),
    "shuai": (
        ("batch_tokens", {"flops": 2}, 2**0.102), ("optimal_steps", {"flops": 2}, 2**0.434),
        ("optimal_params", {"flops": 2}, 2**0.464), ("optimal_tokens", {"flops": 2}, 2**0.536),
    ),
    "zhang_fixed_tokens": (("critical_batch_tokens", {"params": 2}, 2**0.087),),
    "step_law_given_batch": (
        ("lr", {"params": 2}, 2**-0.60), ("lr", {"tokens": 2}, 2**0.01), ("lr", {"batch_tokens": 2}, 2**0.30),
    ),
    "nanochat_width_weight_decay": (("weight_decay", {"width": 2}, 2**-1.97),),
    "chinchilla_unrounded": (
        (
            "loss", {"params": 7e10, "tokens": 1.4e12}, 1.6934 + 406.4 / 7e10**0.3392 + 410.7 / 1.4e12**0.2849,
        ),
    ),
    "kaplan_loss_compute": (  # its unit is 1.6e7 PF-days
        ("loss", {"flops": 1.6e7 * 8.64e19}, 1.0), ("loss", {"flops": 1.6e8 * 8.64e19}, 10**-0.057),
    ),
    "kaplan_allocation": (
        ("optimal_params", {"flops": 2}, 2**0.73), ("optimal_batch_tokens", {"flops": 2}, 2**0.24),
        ("optimal_steps", {"flops": 2}, 2**0.03), ("optimal_tokens", {"flops": 2}, 2**0.27),
    ),
    "porian_allocation": (("optimal_params", {"flops": 2}, 2**0.50),),
}  # fmt: skip
ELSEWHERE = ("test_golden.py", "test_published.py", "test_loss.py", "test_timescale.py")

Reader = Callable[[Any], float]


def setting(name: str) -> Reader:
    """What a change makes of a setting."""
    return lambda document: next(row["to"] for row in document["settings"] if row["setting"] == name)


def mean(document: Any) -> float:
    """Of the schedule that a rate is carried to."""
    return float(document["to"]["mean_multiplier"])


# Command line, where its number stands, and what the published formula gives; schedules by their means in closed form.
COMMANDS: dict[str, tuple[tuple[str, Reader, float], ...]] = {
    "0.3 definitions of the critical batch": (
        ("convert critical-batch 745.32x512 --from zhang", lambda d: d["to"]["batch_tokens"], 512 * 438.12 / 0.2),
    ),
    "1 timescale": (
        (
            "convert weight-decay 0.2931524014 --lr 1.5e-3 --batch 983040 --tokens 1e10",
            lambda d: d["timescale"], 0.2235560742,
        ),
    ),
    "4 Bjorck": (("convert tokens 5e10 1e12 --lr 1e-3", setting("lr"), 3.834161495e-4),),
    "9 Shuai, learning rate": (("convert batch 1M 4M --lr 1e-3 --rule 0.75", setting("lr"), 1e-3 * 4**0.75),),
    "11.1 power schedule": (
        (
            "convert schedule linear power:sequences=1024,tokens=1e12", mean,
            CAPPED + CAPPED**0.51 * (1 - CAPPED**0.49) / 0.49,
        ),
    ),
    "11.3 random matrices": (("convert batch 1M 4M --lr 1e-3 --rule linear", setting("lr"), 4e-3),),
    "11.4 beta2 at a half-life": (("convert batch 512 64 --beta2 0.95", setting("beta2"), 0.9936088490),),
    "11.5 Adam's SDE": (
        ("convert batch 1M 4M --lr 1e-3 --beta1 0.9 --beta2 0.99 --eps 1e-8 --sde", setting("eps"), 5e-9),
        ("convert batch 1M 4M --lr 1e-3 --beta1 0.9 --beta2 0.99 --eps 1e-8 --sde", setting("beta1"), 0.6),
    ),
    "11.6 averages": (("convert batch 1M 4M --ema 0.999", setting("ema"), 0.996005996),),
    "13 WSD": (("convert schedule linear wsd:cooldown=0.1", mean, 0.95),),
    "18 cosine, linear, REX, UBA": (
        ("convert schedule linear cosine:floor=0.1", mean, 0.55),
        ("convert schedule cosine linear", mean, 0.5),
        ("convert schedule linear rex", mean, 2 * (1 - log(2))),
        ("convert schedule linear uba:phi=1", mean, 2 - sqrt(2)),
    ),
    "18 WSD-S": (
        ("convert schedule linear wsd_s:ends=0.5/1,cooldown=0.2,floor=0.1", mean, 0.7 + 0.3 * log(10) / 9),
    ),
    "18 refined linear decay": (
        (
            "schedules refine norms.csv --smooth 0", lambda d: d["schedule"][0]["multiplier"],
            (19 / 4) / 18,  # weights 1/4, 1, 1, ...; after the first step 19 of them, after the second 18
        ),
    ),
    "18 last-iterate bound": (  # at one shape the best peak goes as 1 / sqrt(steps)
        ("convert schedule linear linear --tokens 1e9 --to-tokens 4e9", lambda d: d["factor"], 0.5),
    ),
    "20 Wang and Aitchison": (
        ("convert weight-decay 0.1 --lr 3e-4", lambda d: d["to"]["weight_decay"], 3e-5),
        ("convert batch 1M 2M --weight-decay 0.1 --lr 1e-3 --rule 0", setting("weight_decay"), 0.2),
    ),
    "21 muP and CompleteP": (
        ("convert width 256 4096 --lr 0.01", lambda d: d["values"]["hidden"]["lr"], 0.01 / 16),
    ),
    "23 Merrill, when to double the batch": (("convert batch 1M 2M --lr 1e-3", setting("lr"), 1e-3 * sqrt(2)),),
}  # fmt: skip


@pytest.mark.parametrize("section", AUDIT)
def test_it_is_where_it_is_said_to_be(section: str) -> None:
    places = AUDIT[section]
    for place in places:
        kind, _, at = place.partition(":")
        if kind == "catalogue":
            assert at in published_laws()
            texts = [(Path(__file__).parent / name).read_text(encoding="utf-8") for name in ELSEWHERE]
            assert at in PUBLISHED or any(f'"{at}"' in text for text in texts), "a number, not a name"
        elif kind in ("convert", "schedules"):
            assert any(words.startswith(f"{kind} {at} ") for words, _, _ in COMMANDS[section]), "a number, not a name"
        elif kind == "rule":
            assert at.removeprefix("lawfit.laws.") in NUMBERS
        elif kind == "none":
            assert len(at) > 40, "a reason"
            assert len(places) == 1
        else:
            assert kind == "fit", place
            module, _, name = at.rpartition(".")
            assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("rule", NUMBERS)
def test_a_rule_gives_the_number_of_the_sheet(rule: str) -> None:
    found, expected = NUMBERS[rule]
    assert float(found()) == pytest.approx(expected, rel=1e-8)  # the digits that the sheet prints
    assert any(f"rule:lawfit.laws.{rule}" in places for places in AUDIT.values())


@pytest.mark.parametrize("law_id", PUBLISHED)
def test_a_published_law_gives_the_number_of_the_sheet(law_id: str) -> None:
    law = published_laws()[law_id]
    for target, inputs, expected in PUBLISHED[law_id]:
        by_exponents = law.formulas[target].needs_anchor or max(inputs.values()) == 2
        found = law.factor(target, **inputs) if by_exponents else law.evaluate(target, **inputs)
        assert float(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("section", COMMANDS)
def test_a_command_gives_the_number_of_the_sheet(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{step},{2.0 if step == 1 else 1.0}" for step in range(1, 21)]
    (tmp_path / "norms.csv").write_text("\n".join(["step,grad_norm", *rows]) + "\n")
    for words, read, expected in COMMANDS[section]:
        assert run([*words.split(), "--json"]) == ExitCode.OK
        # means are midpoint sums; the bound's ratio has a term that fades with the steps
        near = 2e-3 if "last-iterate" in section else 1e-6
        assert read(json.loads(capsys.readouterr().out)) == pytest.approx(expected, rel=near), words


def test_every_section_of_laws_is_there() -> None:
    assert {int(name.split(" ")[0].split(".")[0]) for name in AUDIT} == set(SECTIONS)


def test_every_entry_of_the_catalogue_is_there() -> None:
    named = [place.removeprefix("catalogue:") for places in AUDIT.values() for place in places if "catalogue:" in place]
    assert sorted(named) == sorted(published_laws())
