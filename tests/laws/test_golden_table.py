"""Every golden number of the literature sheet has a test: a number that no test holds is seen here.

Each id has the tests that hold it, and its numbers as they are written there. Numbers of two digits or fewer (a rate of
.02, a half) stand in the tests too, but would be found anywhere.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
COUNT = 31

GOLDEN: dict[str, tuple[str, tuple[str, ...]]] = {
    "G1 Step Law": (
        "laws/test_golden.py: test_lr_and_batch_at_a_scale, test_g1_in_sequences",
        ("1.632499402e-3", "1107714.890", "540.8764"),
    ),
    "G2 Step Law": ("laws/test_golden.py: test_lr_and_batch_at_a_scale", ("9.165569089e-4", "4998815.433")),
    "G3 Step Law, bootstrap": (
        "laws/test_golden.py: test_g3_step_law_bootstrap_mean",
        ("9.346840681e-4", "4996961.324"),
    ),
    "G4 Step Law, small": (
        "laws/test_golden.py: test_lr_and_batch_at_a_scale, test_g4_original_law_below_its_range",
        ("1.924237308e-3", "53550.22684", "4.135785538e-3"),
    ),
    "G5 DeepSeek": (
        "laws/test_golden.py: test_laws_of_compute, test_g5_deepseek_allocation",
        ("9.859981744e-4", "1017144.960", "1.904529602e10", "5.251267289e9"),
    ),
    "G6 Power Lines timescale": (
        "laws/test_golden.py: test_g6_power_lines_timescale",
        ("0.2235560742", "0.1076715237", "0.05185793794"),
    ),
    "G7 Power Lines weight decay": (
        "laws/test_timescale.py: test_g7_weight_decay_of_power_lines",
        ("0.2931524014", "0.2235560742"),
    ),
    "G8 Power Lines batch": (
        "laws/test_golden.py: test_g8_power_lines_batch",
        ("206.8813905", "423693.0877", "499.7138961", "1023414.059"),
    ),
    "G9 Power Lines critical batch": (
        "laws/test_golden.py: test_g9_power_lines_critical_batch",
        ("1963.454796", "4021155.423", "1.5e10"),
    ),
    "G10 Zhang from the raw steps": (
        "estimate/critical/test_steps_to_target.py: test_g10_zhang_from_the_raw_steps, test_g10_from_the_published",
        ("745.3200", "955.1581", "1393.7269", "1888.5222", "0.481999", "86.9287"),
    ),
    "G11 Zhang presets": (
        "laws/test_golden.py: test_g11_zhang_presets",
        ("2609.943453", "2578.188213", "2.4576e10", "2651.950127"),
    ),
    "G12 Bjorck": ("laws/test_golden.py: test_g12_bjorck_horizon_ratio", ("0.6417129488", "3.834161495e-4")),
    "G13 Porian": (
        "laws/test_golden.py: test_lr_and_batch_at_a_scale",
        ("2.238235483e-3", "705.5115787", "2.129127768e-3", "1608570.004"),
    ),
    "G14 Kaplan": (
        "laws/test_golden.py: test_loss_at_a_scale, test_g14_kaplan_critical_batch, test_g14_kaplan_lr",
        ("2.373882448", "1069114.010", "7371465.306", "2.400513661", "6.693150362e-4"),
    ),
    "G15 hyperbola": ("laws/test_critical_batch.py: test_g15_hyperbola", ("1666666.667", "666.6666667")),
    "G16 learning rate at a batch": ("laws/test_lr_batch.py: test_g16_saturating, test_g16_surge", ("0.002", "0.008")),
    "G17 noise scale": (
        "estimate/critical/test_batch_routes.py: test_g17_and_agreement_with_the_trainer",
        ("1.077419355", "125.5225806", "116.502994"),
    ),
    "G18 power scheduler law": (
        "laws/test_golden.py: test_g18_power_scheduler, test_g18_as_the_paper_prints_it",
        ("0.01062777872", "8.948812714e-4", "1.104225541e-3", "0.0011"),
    ),
    "G19 power schedule": ("laws/test_schedules.py: test_g19_power_schedule", ("0.01005448772", "3.107133747e-3")),
    "G20 MiniCPM": ("laws/test_golden.py: test_g20_minicpm_batch_from_loss", ("1275113.198", "3977770.441")),
    "G21 Epoch": (
        "laws/test_golden.py: test_loss_at_a_scale, test_best_size_and_tokens_at_1e24_flops",
        ("1.973881863", "9.586065405e10", "1.738634775e12", "18.137105"),
    ),
    "G22 Chinchilla": (
        "laws/test_golden.py: test_loss_at_a_scale, test_best_size_and_tokens_at_1e24_flops",
        ("1.936645471", "4.129670242e10", "4.035834750e12"),
    ),
    "G23 data-constrained": (
        "laws/test_loss.py: test_golden_data_constrained, test_golden_effective_tokens",
        ("2.225644089", "2.226963408", "3.725673123e11"),
    ),
    "G24 beta2 and averages": (
        "laws/test_golden.py: test_g24_beta2_and_ema",
        ("0.9998998228", "0.9936088490", "0.996005996", "7084917.304"),
    ),
    "G25 Marin": ("laws/test_golden.py: test_g25_marin", ("3.731739e-3", "8.611705e-4")),
    "G26 nanochat": (
        "laws/test_golden.py: test_g26_nanochat",
        ("1623209472", "1091670.619", "1048576", "1.414213562", "0.2083846087"),
    ),
    "G27 three-term optimum": ("laws/test_golden.py: test_g27_three_term_optimum", ("1122343.599",)),
    "G28 schedules": ("laws/test_schedules.py: test_g28", ("0.6666666667", "0.2857142857", "0.2928932188")),
    "G29 stochastic oracle": ("laws/test_lr_batch.py: test_g29_stochastic_oracle", ("4000", "64000")),
    "G30 near-optimal set on the Step Law grid": (
        "estimate/numerics/test_regression.py: test_g30_e1",
        ("101", "-0.76998", "0.19857", "0.12179", "0.63694"),
    ),
    "G31 Moonlight; video": (
        "laws/test_golden.py: test_laws_of_compute, test_lr_and_batch_at_a_scale",
        ("7.076259011e-4", "8251128.613", "141904.8609", "1.782266984e-4"),
    ),
}


@cache
def module(name: str) -> tuple[str, frozenset[str]]:
    """Its text, and the names of its tests."""
    text = (TESTS / name).read_text(encoding="utf-8")
    return text, frozenset(node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef))


def test_none_is_missing() -> None:
    assert [name.split(" ")[0] for name in GOLDEN] == [f"G{k}" for k in range(1, COUNT + 1)]


@pytest.mark.parametrize(("where", "numbers"), GOLDEN.values(), ids=GOLDEN)
def test_its_tests_hold_its_numbers(where: str, numbers: tuple[str, ...]) -> None:
    file, tests = where.split(": ")
    text, names = module(file)
    assert set(tests.split(", ")) <= names
    assert [number for number in numbers if number not in text] == []
