"""Golden numbers of the literature sheet: every published law must give the digits that its source gives."""

from __future__ import annotations

import numpy as np
import pytest

from lawfit.laws import transfer
from lawfit.laws.critical_batch import DOUBLING, ZHANG, Definition, tokens_at_batch
from lawfit.laws.loss import CHINCHILLA, DATA_CONSTRAINED, EPOCH, KAPLAN, AdditiveLaw, KaplanLaw
from lawfit.laws.multi_power import Course, MultiPowerLaw
from lawfit.laws.named import additive_law
from lawfit.laws.published import published_law

EXACT = 1e-6  # the printed digits

LR_AND_BATCH = {
    "G1 step law rounded": ("step_law", 1e9, 1e11, 1.632499402e-3, 1107714.890),
    "G2 step law rounded": ("step_law", 7e9, 1.4e12, 9.165569089e-4, 4998815.433),
    "G4 step law below 59M": ("step_law_small", 3e7, 6e8, 1.924237308e-3, 53550.22684),
    "G13 porian rounded": ("porian_rounded", 1e9, 2e10, 2.238235483e-3, 705.5115787 * 2048),
    "G13 porian": ("porian", 1e9, 2e10, 2.129127768e-3, 1608570.004),
    "G31 video dit": ("video_dit", 1.07e9, 1e10, 1.782266984e-4, 141904.8609),
}


@pytest.mark.parametrize(("law", "params", "tokens", "lr", "batch"), LR_AND_BATCH.values(), ids=LR_AND_BATCH)
def test_lr_and_batch_at_a_scale(law: str, params: float, tokens: float, lr: float, batch: float) -> None:
    said = published_law(law).predict(params, tokens)
    assert said.lr == pytest.approx(lr, rel=EXACT)
    assert said.batch_tokens == pytest.approx(batch, rel=EXACT)


def test_g3_step_law_bootstrap_mean() -> None:
    """The coefficients are known to 5 decimals: half a digit of each, times ln params and ln tokens, is 2.6e-4."""
    said = published_law("step_law_bootstrap").predict(7e9, 1.4e12)
    assert said.lr == pytest.approx(9.346840681e-4, rel=2.6e-4)
    assert said.batch_tokens == pytest.approx(4996961.324, rel=1.5e-4)


def test_g1_in_sequences() -> None:
    assert float(published_law("step_law").predict(1e9, 1e11).batch_tokens) / 2048 == pytest.approx(540.8764, rel=EXACT)


def test_g4_original_law_below_its_range() -> None:
    law = published_law("step_law")
    assert law.predict(3e7, 6e8).lr == pytest.approx(4.135785538e-3, rel=EXACT)
    assert not law.in_range(3e7, 6e8)


FROM_COMPUTE = {
    "G5 deepseek": ("deepseek", 1e20, 9.859981744e-4, 1017144.960),
    "G31 moonlight": ("moonlight", 1e22, 7.076259011e-4, 8251128.613),
}


@pytest.mark.parametrize(("law", "flops", "lr", "batch"), FROM_COMPUTE.values(), ids=FROM_COMPUTE)
def test_laws_of_compute(law: str, flops: float, lr: float, batch: float) -> None:
    published = published_law(law)
    assert published.evaluate("lr", flops=flops) == pytest.approx(lr, rel=EXACT)
    assert published.evaluate("batch_tokens", flops=flops) == pytest.approx(batch, rel=EXACT)
    # the stated convention: flops = 6 * params * tokens
    assert published.predict(1e9, flops / 6e9).lr == pytest.approx(lr, rel=EXACT)


G8 = {"1e10": (1e10, 423693.0877, 206.8813905), "1e11": (1e11, 1023414.059, 499.7138961)}


@pytest.mark.parametrize(("tokens", "batch", "sequences"), G8.values(), ids=G8)
def test_g8_power_lines_batch(tokens: float, batch: float, sequences: float) -> None:
    """Arithmetic only: its multiplier is from memory, and the record says so."""
    law = published_law("power_lines")
    assert law.predict(1e9, tokens).batch_tokens == pytest.approx(batch, rel=EXACT)
    assert law.predict(1e9, tokens).batch_tokens == pytest.approx(2048 * sequences, rel=EXACT)
    assert not law.verified


def test_g12_bjorck_horizon_ratio() -> None:
    assert transfer.horizon_lr(1.0, 1.0, 4.0) == pytest.approx(0.6417129488, rel=EXACT)
    assert transfer.horizon_lr(1e-3, 5e10, 1e12) == pytest.approx(3.834161495e-4, rel=EXACT)


def test_g14_kaplan_lr() -> None:
    assert published_law("kaplan").predict(1e8, 1e10).lr == pytest.approx(6.693150362e-4, rel=EXACT)


G18 = {
    "128 at 2e9": (128, 2e9, 0.01062777872),
    "128": (128, 2.56e11, 8.948812714e-4),
    "1024": (1024, 1e13, 1.104225541e-3),
}


@pytest.mark.parametrize(("sequences", "tokens", "lr"), G18.values(), ids=G18)
def test_g18_power_scheduler(sequences: int, tokens: float, lr: float) -> None:
    law = published_law("power_scheduler")
    assert law.predict(1e9, tokens, batch_tokens=sequences * 4096).lr == pytest.approx(lr, rel=EXACT)


def test_g18_as_the_paper_prints_it() -> None:
    lr = published_law("power_scheduler").predict(1e9, 1e13, batch_tokens=1024 * 4096).lr
    assert lr == pytest.approx(0.0011, abs=5e-5)  # two digits


def test_g5_deepseek_allocation() -> None:
    law = published_law("deepseek_allocation")
    assert law.evaluate("optimal_tokens", flops=1e20) == pytest.approx(1.904529602e10, rel=EXACT)
    assert law.evaluate("optimal_flops_per_token", flops=1e20) == pytest.approx(5.251267289e9, rel=EXACT)


def test_g20_minicpm_batch_from_loss() -> None:
    law = published_law("minicpm")
    assert law.evaluate("batch_tokens", loss=3.0) == pytest.approx(1275113.198, rel=EXACT)
    assert law.evaluate("batch_tokens", loss=2.5) == pytest.approx(3977770.441, rel=EXACT)


def test_g24_beta2_and_ema() -> None:
    assert transfer.beta2_for_batch(0.95, 512, 1) == pytest.approx(0.9998998228, rel=1e-9)
    assert transfer.beta2_for_batch(0.95, 512, 64) == pytest.approx(0.9936088490, rel=1e-9)
    assert transfer.ema_for_batch(0.999, 4) == pytest.approx(0.996005996, rel=1e-9)
    assert transfer.beta2_half_life_tokens(0.95, 524288) == pytest.approx(7084917.304, rel=EXACT)


G25 = {"muonh": ("marin_muonh", 3.731739e-3), "adam": ("marin_muonh_adam", 8.611705e-4)}


@pytest.mark.parametrize(("law", "lr"), G25.values(), ids=G25)
def test_g25_marin(law: str, lr: float) -> None:
    said = published_law(law).evaluate("lr", tokens=1.007e13, width=2560, batch_tokens=33.55e6)
    assert said == pytest.approx(lr, rel=1e-3)  # the source prints .003733 and .000861


def test_g25_cap() -> None:
    assert published_law("marin_muonh").evaluate("lr", tokens=1e8, width=512, batch_tokens=1e8) == 0.05


def test_g26_nanochat() -> None:
    law = published_law("nanochat")
    tokens = 12 * 918e6
    assert law.inputs["tokens"].unit == 12 * 135267456
    assert law.predict(9.18e8, tokens).batch_tokens == 1048576
    unrounded = 524288 * (tokens / law.inputs["tokens"].unit) ** law.formulas["batch_tokens"].exponents["tokens"]
    assert unrounded == pytest.approx(1091670.619, rel=EXACT)
    assert transfer.batch_lr(1.0, 524288, 1048576) == pytest.approx(1.414213562, rel=EXACT)
    decay = published_law("nanochat_weight_decay")
    grown = {"batch_tokens": 1048576 / 524288, "tokens": tokens / 1623209472}
    assert decay.factor("weight_decay", **grown) == pytest.approx(0.2083846087, rel=EXACT)


def test_g27_three_term_optimum() -> None:
    assert published_law("schaipp").predict(1e9, 1e11).batch_tokens == pytest.approx(1122343.599, rel=EXACT)


G6 = {"20": (20, 0.2235560742), "80": (80, 0.1076715237), "320": (320, 0.05185793794)}


@pytest.mark.parametrize(("ratio", "tau"), G6.values(), ids=G6)
def test_g6_power_lines_timescale(ratio: float, tau: float) -> None:
    """Arithmetic only: the multiplier is from memory, and the record says so."""
    law = published_law("power_lines_timescale")
    assert law.evaluate("timescale", params=1e9, tokens=ratio * 1e9) == pytest.approx(tau, rel=EXACT)
    assert not law.verified


G9 = {"at the doubling batch": (1.0, 2e10), "at half of it": (0.5, 1.5e10)}


@pytest.mark.parametrize(("share", "tokens"), G9.values(), ids=G9)
def test_g9_power_lines_critical_batch(share: float, tokens: float) -> None:
    critical = float(published_law("power_lines_critical").evaluate("critical_batch_tokens", tokens=1e10))
    assert critical == pytest.approx(4021155.423, rel=EXACT)
    assert critical / 2048 == pytest.approx(1963.454796, rel=EXACT)
    assert tokens_at_batch(1e10, share * critical, critical) == pytest.approx(tokens, rel=1e-12)


G11 = {
    "rounded": ("zhang_params", "params", 1.2e9, 2609.943453, EXACT),
    # the exponent is printed with 6 decimals: half a digit times ln 1200 is 3.5e-6
    "unrounded": ("zhang_params_unrounded", "params", 1.2e9, 2578.188213, 4e-6),
    "tokens": ("zhang_tokens", "tokens", 2.4576e10, 2651.950127, EXACT),
}


@pytest.mark.parametrize(("law", "name", "value", "sequences", "rel"), G11.values(), ids=G11)
def test_g11_zhang_presets(law: str, name: str, value: float, sequences: float, rel: float) -> None:
    found = published_law(law)
    assert found.evaluate("critical_batch_tokens", **{name: value}) / 512 == pytest.approx(sequences, rel=rel)
    assert Definition.from_json(found.formulas["critical_batch_tokens"].definition) == ZHANG


G14 = {"L=3": (3.0, 1069114.010), "L=2": (2.0, 7371465.306)}


@pytest.mark.parametrize(("loss", "batch"), G14.values(), ids=G14)
def test_g14_kaplan_critical_batch(loss: float, batch: float) -> None:
    law = published_law("kaplan_critical")
    assert law.evaluate("critical_batch_tokens", loss=loss) == pytest.approx(batch, rel=EXACT)
    assert Definition.from_json(law.formulas["critical_batch_tokens"].definition) == DOUBLING


LOSS = {
    "G14 kaplan": ("kaplan_loss", {"params": 1e9, "tokens": 2e10}, 2.373882448),
    "G14 kaplan along a run": ("kaplan_loss_steps", {"params": 1e9, "steps": 1e5}, 2.400513661),
    "G21 epoch": ("epoch", {"params": 7e10, "tokens": 1.4e12}, 1.973881863),
    "G22 chinchilla": ("chinchilla", {"params": 7e10, "tokens": 1.4e12}, 1.936645471),
    "G23 6.34B": ("data_constrained", {"params": 6.34e9, "tokens": 2.42e11, "unique_tokens": 2.5e10}, 2.225644089),
    "G23 8.67B": ("data_constrained", {"params": 8.67e9, "tokens": 1.78e11, "unique_tokens": 2.5e10}, 2.226963408),
}


@pytest.mark.parametrize(("law", "inputs", "loss"), LOSS.values(), ids=LOSS)
def test_loss_at_a_scale(law: str, inputs: dict[str, float], loss: float) -> None:
    rel = 1e-7 if law == "data_constrained" else 1e-9  # its logs are printed with 7 decimals; else the printed digits
    assert published_law(law).evaluate("loss", **inputs) == pytest.approx(loss, rel=rel)


ALLOCATIONS = {
    "G21 epoch": ("epoch", 9.586065405e10, 1.738634775e12, 18.137105),
    "G22 chinchilla": ("chinchilla", 4.129670242e10, 4.035834750e12, None),
}


@pytest.mark.parametrize(("law", "params", "tokens", "ratio"), ALLOCATIONS.values(), ids=ALLOCATIONS)
def test_best_size_and_tokens_at_1e24_flops(law: str, params: float, tokens: float, ratio: float | None) -> None:
    best = additive_law(published_law(law).formulas["loss"].coefficients).optimum(1e24)
    assert best == pytest.approx((params, tokens), rel=EXACT)
    if ratio is not None:
        assert best[1] / best[0] == pytest.approx(ratio, rel=EXACT)


CONSTANTS = {
    "chinchilla": CHINCHILLA,
    "epoch": EPOCH,
    "kaplan_loss": KAPLAN,
    "data_constrained": DATA_CONSTRAINED.law,
}


@pytest.mark.parametrize(("law", "constants"), CONSTANTS.items(), ids=CONSTANTS)
def test_the_catalogue_has_the_numbers_of_the_code(law: str, constants: AdditiveLaw | KaplanLaw) -> None:
    found = published_law(law).formulas["loss"].coefficients
    for name, value in vars(constants).items():
        assert found[name] == pytest.approx(value, rel=1e-10)


def test_the_multi_power_law_of_400m_falls_with_its_rate() -> None:
    """Its seven numbers, as the source prints them, in the formula: a decay to a tenth gains what it should."""
    law = MultiPowerLaw(**published_law("multi_power_400m").formulas["loss"].coefficients)
    steps = np.arange(2000.0, 24001.0, 200.0)
    held = Course.of(steps, np.full(steps.size, 3e-4), warmup_steps=2000)
    fell = Course.of(steps, 3e-5 + 2.7e-4 * 0.5 * (1 + np.cos(np.pi * (steps - 2000) / 22000)), warmup_steps=2000)
    assert law.L0 < law.loss(fell)[-1] < law.loss(held)[-1] < 4  # 2.9 nats or so: the source's curves end there
    assert law.loss(fell)[0] == pytest.approx(law.loss(held)[0], rel=1e-14)


BETA2 = {
    "marin": ("marin_beta2", 131072, 0.999),
    "marin, small batch": ("marin_beta2", 4096, 0.9999),
    "marin, large batch": ("marin_beta2", 33.55e6, 0.95),
    "marek": ("marek_beta2", 1e7, 0.5),
    "marek, one sequence of 512": ("marek_beta2", 512, 0.5 ** (512 / 1e7)),
}


@pytest.mark.parametrize(("law", "batch_tokens", "beta2"), BETA2.values(), ids=BETA2)
def test_beta2_of_a_batch(law: str, batch_tokens: float, beta2: float) -> None:
    assert published_law(law).evaluate("beta2", batch_tokens=batch_tokens) == pytest.approx(beta2, rel=1e-12)


def test_kaplan_fewest_tokens() -> None:
    """The source's own words: 22B tokens are enough for models below a billion parameters."""
    assert published_law("kaplan_overfitting").evaluate("least_tokens", params=1e9) == pytest.approx(2.29e10, rel=5e-3)


def test_kaplan_single_variable_laws_meet_the_joint_one_roughly() -> None:
    """Each is another fit of the same runs, so they agree to a few percent where one variable rules."""
    joint = published_law("kaplan_loss")
    by_params = published_law("kaplan_loss_params").evaluate("loss", params=1e8)
    by_tokens = published_law("kaplan_loss_tokens").evaluate("loss", tokens=1e9)
    assert by_params == pytest.approx(joint.evaluate("loss", params=1e8, tokens=1e14), rel=0.05)
    assert by_tokens == pytest.approx(joint.evaluate("loss", params=1e13, tokens=1e9), rel=0.05)
    compute = published_law("kaplan_loss_least_compute").evaluate("loss", flops=8.64e19 * 3.1e8)
    assert compute == pytest.approx(1.0, rel=1e-12)  # at C_c, in PF-days of 8.64e19 FLOPs
