"""Every law of the literature sheet, by section, and where it is in lawfit; or why it is not.

A place is the id of a published law (``catalogue:``), something that fits the form (``fit:``), a formula or exact rule
(``rule:``, or ``convert:`` for the subcommand that gives it to people), or a reason (``none:``). Each place is looked
up, so a law that is taken out is seen here; and each entry of the catalogue has its line.
"""

from __future__ import annotations

import importlib

import pytest

from lawfit.cli.convert import app as convert
from lawfit.laws.published import published_laws

SECTIONS = range(24)

AUDIT: dict[str, tuple[str, ...]] = {
    "0.2 E1 near-optimal set": ("fit:lawfit.estimate.regression.fit_e1",),
    "0.2 E2 nested interpolation": ("fit:lawfit.estimate.optima.locate_akima",),
    "0.2 E3 parabola": ("fit:lawfit.estimate.optima.locate_parabola",),
    "0.2 E4 steps to a target": (
        "fit:lawfit.estimate.steps_to_target.fit_steps_table",
        "fit:lawfit.estimate.steps_to_target.steps_table_from_curves",
    ),
    "0.2 E5 data law per batch": ("fit:lawfit.estimate.data_laws.fit_data_laws",),
    "0.2 E6 noise scale": ("fit:lawfit.estimate.noise_scale.fit_noise_scale",),
    "0.2 E7 branched training": (
        "none: takes short continuations of one checkpoint at several batches, which no table of runs holds",
    ),
    "0.2 E8 joint surface": ("fit:lawfit.estimate.three_term.fit_three_term",),
    "0.3 definitions of the critical batch": (
        "rule:lawfit.laws.critical_batch.convert",
        "convert:critical-batch",
    ),
    "1 timescale": ("rule:lawfit.laws.timescale.timescale", "convert:weight-decay"),
    "1 best timescale in tokens per parameter": (
        "catalogue:power_lines_timescale",
        "fit:lawfit.estimate.timescale.fit_timescale",
    ),
    "1 best weight decay": ("rule:lawfit.laws.timescale.TimescaleLaw",),
    "1 best batch": ("catalogue:power_lines",),
    "1 critical batch": ("catalogue:power_lines_critical", "fit:lawfit.estimate.optimum_law.fit_optimum_law"),
    "1 tokens at a batch": ("rule:lawfit.laws.critical_batch.tokens_at_batch",),
    "1 time against compute": ("rule:lawfit.laws.pareto.time_compute_frontier",),
    "2 Step Law": ("catalogue:step_law", "catalogue:step_law_bootstrap"),
    "2 recomputed from the released cells": (
        "none: a regression test of E1 rather than a better law; on the cells that are shared it is G30",
    ),
    "2 learning rate given the batch": (
        "catalogue:step_law_given_batch",
        "fit:lawfit.estimate.lr_across_scales.fit_power_across_scales",
    ),
    "2 recalibrated below 59M": ("catalogue:step_law_small",),
    "3 steps = a + b / B": ("fit:lawfit.estimate.hyperbola.fit_hyperbola",),
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
    "6 Su, loss along a run": ("fit:lawfit.estimate.loss_forms.POWER",),
    "6 Su, critical batch of a loss": ("fit:lawfit.estimate.optimum_law.fit_optimum_law",),
    "6 Su, steps and tokens at a batch": ("rule:lawfit.laws.critical_batch.Hyperbola",),
    "6 Su, coefficients": (
        "none: from memory, the sheet says not to ship them, and the authors that they change with every recipe",
    ),
    "7 noise scale": ("fit:lawfit.estimate.noise_scale.fit_noise_scale",),
    "7 saturating learning rate": (
        "rule:lawfit.laws.lr_batch.Saturating",
        "fit:lawfit.estimate.lr_batch.fit_lr_batch",
    ),
    "7 hyperbola": ("rule:lawfit.laws.critical_batch.Hyperbola", "fit:lawfit.estimate.hyperbola.fit_hyperbola"),
    "7 gain of a step": (
        "none: loss per step at a batch is the derivative of the hyperbola, and no log has it without its noise",
    ),
    "8 Kaplan, joint loss": ("catalogue:kaplan_loss", "fit:lawfit.estimate.loss_forms.KAPLAN"),
    "8 Kaplan, loss of one variable": ("catalogue:kaplan_loss_params", "catalogue:kaplan_loss_tokens"),
    "8 Kaplan, loss along a run": ("catalogue:kaplan_loss_steps", "fit:lawfit.estimate.loss_forms.POWER"),
    "8 Kaplan, critical batch": ("catalogue:kaplan_critical",),
    "8 Kaplan, learning rate": ("catalogue:kaplan",),
    "8 Kaplan, loss of compute": ("catalogue:kaplan_loss_compute", "catalogue:kaplan_loss_least_compute"),
    "8 Kaplan, overfitting": ("catalogue:kaplan_overfitting",),
    "8 Kaplan, allocation": ("catalogue:kaplan_allocation",),
    "8 least steps and compute": ("rule:lawfit.laws.critical_batch.Hyperbola",),
    "9 Shuai": ("catalogue:shuai",),
    "9 Shuai, learning rate": ("rule:lawfit.laws.transfer.batch_lr", "convert:batch"),
    "10 Time Transfer": (
        "rule:lawfit.laws.lr_batch.SaturatingAcrossScales",
        "fit:lawfit.estimate.lr_across_scales.fit_saturating_across_scales",
    ),
    "10 Scion": ("catalogue:scion_horizons",),
    "10 Scion, norm of the output layer": (
        "none: an invariant of the trained weights (2^7), not of anything that a table of runs holds",
    ),
    "11.1 power scheduler": ("catalogue:power_scheduler", "fit:lawfit.estimate.lr_batch.fit_power_scheduler"),
    "11.1 power schedule": ("rule:lawfit.laws.schedules.power_lr", "convert:schedule"),
    "11.2 surge": ("rule:lawfit.laws.lr_batch.Surge", "fit:lawfit.estimate.lr_batch.fit_lr_batch"),
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
    "12 learning rate with the batch growing": ("rule:lawfit.laws.lr_batch.SaturatingAcrossScales",),
    "13 MiniCPM, batch": ("catalogue:minicpm",),
    "13 MiniCPM, learning rate": ("catalogue:minicpm_lr",),
    "13 MiniCPM, loss": ("catalogue:minicpm_loss", "fit:lawfit.estimate.loss_forms.ADDITIVE"),
    "13 WSD": ("rule:lawfit.laws.schedules.wsd", "convert:schedule"),
    "14 video": ("catalogue:video_dit",),
    "15 GANs": ("rule:lawfit.laws.lr_batch.StochasticOracle", "fit:lawfit.estimate.lr_batch.fit_stochastic_oracle"),
    "16 largest initial rate": (
        "rule:lawfit.laws.lr_batch.max_initial_lr",
        "fit:lawfit.estimate.lr_batch.fit_max_initial_lr",
    ),
    "17.1 token ratio of two optimizers": (
        "rule:lawfit.laws.lr_batch.token_ratio",
        "fit:lawfit.estimate.token_ratio.token_ratios",
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
    "18 WSD-S": ("rule:lawfit.laws.schedules.wsd_s",),
    "18 refined linear decay": ("rule:lawfit.laws.refinement.refined",),
    "18 last-iterate bound": ("rule:lawfit.laws.last_iterate.bound", "convert:schedule"),
    "18 Multi-Power Law": ("catalogue:multi_power_400m", "fit:lawfit.estimate.multi_power.fit_multi_power"),
    "18 annealing law": ("fit:lawfit.estimate.annealing.fit_annealing",),
    "18 river valley": ("none: a picture of the loss, without a number to fit",),
    "18 AdamC": ("none: a change of the optimizer, not a law of a setting; the trainer decays with the rate as AdamW",),
    "19.1 Chinchilla": (
        "catalogue:chinchilla",
        "catalogue:chinchilla_unrounded",
        "catalogue:epoch",
        "fit:lawfit.estimate.loss_forms.ADDITIVE",
    ),
    "19.2 DeepSeek, allocation": ("catalogue:deepseek_allocation",),
    "19.3 repeated tokens": ("catalogue:data_constrained", "rule:lawfit.laws.loss.Repetition"),
    "19.4 sparsity": ("catalogue:moe_sparsity",),
    "19.5 compute alone": ("fit:lawfit.estimate.loss_forms.COMPUTE_ONLY",),
    "19.6 three terms": (
        "catalogue:schaipp",
        "rule:lawfit.laws.critical_batch.ThreeTerm",
        "fit:lawfit.estimate.three_term.fit_three_term",
    ),
    "19.7 Skaling": ("fit:lawfit.estimate.loss_forms.COUPLED",),
    "19.7 Farseer": ("fit:lawfit.estimate.loss_forms.FARSEER",),
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


@pytest.mark.parametrize("places", AUDIT.values(), ids=AUDIT)
def test_it_is_where_it_is_said_to_be(places: tuple[str, ...]) -> None:
    commands = {command.name for command in convert.registered_commands}
    for place in places:
        kind, _, at = place.partition(":")
        if kind == "catalogue":
            assert at in published_laws()
        elif kind == "convert":
            assert at in commands
        elif kind == "none":
            assert len(at) > 40, "a reason"
            assert len(places) == 1
        else:
            assert kind in ("fit", "rule"), place
            module, _, name = at.rpartition(".")
            assert hasattr(importlib.import_module(module), name)


def test_every_section_of_laws_is_there() -> None:
    assert {int(name.split(" ")[0].split(".")[0]) for name in AUDIT} == set(SECTIONS)


def test_every_entry_of_the_catalogue_is_there() -> None:
    named = [place.removeprefix("catalogue:") for places in AUDIT.values() for place in places if "catalogue:" in place]
    assert sorted(named) == sorted(published_laws())
