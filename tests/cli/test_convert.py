"""`lawfit convert`: what people type, what comes back in words and as JSON, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from lawfit.cli.main import ExitCode
from tests.cli.conftest import Call


def settings(document: dict[str, Any]) -> dict[str, float]:
    """What was given, after the change; of the rest only factors are known."""
    return {row["setting"]: row["to"] for row in document["settings"] if row["from"] is not None}


def test_batch(call: Call, away: Path) -> None:
    document = call("convert", "batch", "256x2048", "2M", "--lr", "3e-4", "--beta2", "0.95", "--weight-decay", "0.1")
    assert (document["schema"], document["change"]) == ("lawfit.conversion/1", "batch")
    assert (document["from"], document["to"]) == ({"batch_tokens": 524288}, {"batch_tokens": 2e6})
    ratio = 2e6 / 524288
    expected = {"lr": 3e-4 * ratio**0.5, "beta2": 0.95**ratio, "weight_decay": 0.1 * ratio**0.5}
    assert settings(document) == pytest.approx(expected, rel=1e-12)
    assert all(row["source"].startswith("arXiv:") for row in document["settings"])
    assert list(away.iterdir()) == []  # no database is made


def test_g24_half_life_is_said_in_tokens(text: Call) -> None:
    out, _ = text("convert", "batch", "524288", "4M", "--beta2", "0.95")
    words = " ".join(out.split())  # the reason is wrapped
    assert "the half-life stays at 7,084,917 tokens (arXiv:2507.07101)" in words
    assert max(map(len, out.splitlines()[:-1])) <= 80  # but for the notes, which a pipe gets unbroken


def test_batch_in_words(text: Call) -> None:
    out, _ = text("convert", "batch", "512x2048", "1x2048", "--lr", "1e-3", "--beta2", "0.95")
    for words in ("Batch of 1,048,576 to 2,048 tokens per step", "1.00e-3", "4.42e-5", "0.9998998", "gradient noise"):
        assert words in out


def test_trap_8_sequences_are_not_taken_for_tokens(call: Call) -> None:
    document = call("convert", "batch", "256x2048", "1024", "--lr", "1e-3", code=ExitCode.USAGE)
    assert "less than one sequence of 2048; write 1024x2048 for 1024 sequences" in document["error"]["message"]
    same = [
        settings(call("convert", "batch", a, b, "--lr", "1e-3")) for a, b in (("256x2048", "1024x2048"), (256, 1024))
    ]
    assert same[0] == pytest.approx(same[1], rel=1e-12)  # a ratio knows no unit


@pytest.mark.parametrize("typed", ["256*2048", "256\u00d72048"], ids=["star", "cross"])
def test_a_product_written_otherwise_is_told_how(typed: str, call: Call) -> None:
    document = call("convert", "batch", typed, "1M", code=ExitCode.USAGE)
    assert "write 256x2048 for sequences x tokens of each" in document["error"]["message"]


def test_a_negative_number_is_no_option(call: Call) -> None:
    document = call("convert", "weight-decay", "-0.1", "--lr", "3e-4", code=ExitCode.USAGE)
    assert "a number that begins with -" in document["error"]["message"]


def test_critical_batches_are_whole_tokens(text: Call) -> None:
    out, _ = text("convert", "critical-batch", "745.3x512", "--from", "zhang", "--to", "0.3@100x512")
    counts = re.findall(r"[\d,.]+ (?:tokens|sequences)", out)
    assert len(counts) == 5
    assert not any("." in count for count in counts)
    assert "131,072 tokens" in out


def test_sde_moves_all_four(call: Call) -> None:
    words = ("--lr", "3e-4", "--beta1", "0.9", "--beta2", "0.95", "--eps", "1e-8", "--sde")
    found = settings(call("convert", "batch", "1M", "4M", *words))
    expected = {"lr": 6e-4, "beta1": 0.6, "beta2": 0.8, "eps": 5e-9}
    assert found == pytest.approx(expected, rel=1e-9)


RULES = {"sqrt": 2.0, "linear": 4.0, "0.25": 4**0.25}


@pytest.mark.parametrize(("rule", "factor"), RULES.items(), ids=RULES)
def test_rules_of_the_learning_rate(rule: str, factor: float, call: Call) -> None:
    rows = call("convert", "batch", "1M", "4M", "--rule", rule)["settings"]
    assert next(row for row in rows if row["setting"] == "lr")["factor"] == pytest.approx(factor, rel=1e-12)


def test_tokens(call: Call, text: Call) -> None:
    document = call("convert", "tokens", "5e10", "1T", "--lr", "1e-3", "--weight-decay", "0.1")
    assert settings(document)["lr"] == pytest.approx(3.834161495e-4, rel=1e-9)  # G12
    small = call("convert", "tokens", "5e10", "1T", "--lr", "1e-3", "--params", "125M")
    assert settings(small)["lr"] == pytest.approx(1e-3 * 20**-0.6531, rel=1e-9)
    out, _ = text("convert", "tokens", "50B", "1T", "--lr", "1e-3")
    assert "Horizon of 50B to 1T tokens: times 20" in out
    assert "0.32 was measured at 760M parameters and more" in " ".join(out.split())


def test_width_by_mup(call: Call, text: Call) -> None:
    words = ("convert", "width", "256", "4096", "--lr", "0.01", "--init-std", "0.02", "--weight-decay", "0.1")
    document = call(*words)
    assert (document["rules"], document["checked"]) == ("mup", "V1")
    hidden = document["values"]["hidden"]
    assert hidden == pytest.approx({"lr": 0.01 / 16, "init_std": 0.005, "weight_decay": 1.6}, rel=1e-12)
    assert document["values"]["embedding"]["lr"] == 0.01
    assert "init_std" not in document["values"]["vector"]  # gains start at 1
    assert document["model"]["output_multiplier"] == 1 / 16
    assert call(*words, "--independent")["values"]["hidden"]["weight_decay"] == 0.1
    out, _ = text(*words)
    for part in (
        "muP (arXiv:2203.03466): width times 16",
        "0.000625",
        "matrices of the layers",
        "Logits        x 0.0625",
    ):
        assert part in out


def test_width_and_depth_by_completep(call: Call, text: Call) -> None:
    words = ("convert", "width", "256", "1024", "--depth", "4", "--to-depth", "32", "--eps", "1e-8")
    document = call(*words)
    assert (document["rules"], document["checked"]) == ("completep", "MEM")
    assert document["model"]["residual_multiplier"] == 1 / 8
    assert document["values"]["hidden"]["eps"] == pytest.approx(1e-8 / 32, rel=1e-12)
    out, _ = text(*words)
    assert "from memory" in out
    assert "each block's output x 0.125" in out


def test_weight_decay_in_the_other_convention(call: Call, text: Call) -> None:
    document = call("convert", "weight-decay", "0.1", "--lr", "3e-4", "--batch", "256x2048", "--tokens", "20B")
    assert document["to"]["weight_decay"] == pytest.approx(3e-5, rel=1e-12)
    assert document["timescale"] == pytest.approx(524288 / (3e-4 * 0.1 * 2e10), rel=1e-12)
    back = call("convert", "weight-decay", "3e-5", "--lr", "3e-4", "--independent")
    assert back["to"] == {"weight_decay": pytest.approx(0.1, rel=1e-12), "convention": "coupled", "lr": 3e-4}
    out, _ = text("convert", "weight-decay", "0.1", "--lr", "3e-4")
    assert "0.1 coupled = 3e-05 independent" in out
    assert "33,333 steps" in out


def test_critical_batch_by_another_definition(call: Call, text: Call) -> None:
    """Section 0.3 of the sheet: Zhang's 745.32 sequences at 85M are a doubling batch of 2191."""
    document = call("convert", "critical-batch", "745.32x512", "--from", "zhang")
    assert document["to"]["batch_tokens"] / 512 == pytest.approx(2191, abs=1)
    again = call(
        "convert", "critical-batch", document["to"]["batch_tokens"], "--from", "doubling", "--to", "0.2@256x512"
    )
    assert again["to"]["batch_tokens"] == pytest.approx(745.32 * 512, rel=1e-9)
    assert call("convert", "critical-batch", "1M", "--from", "doubling", "--to", "0.2")["to"]["batch_tokens"] == 2e5
    out, _ = text("convert", "critical-batch", "745x512", "--from", "zhang")
    assert "2,189 sequences of 512" in out


def test_schedule(call: Call, text: Call) -> None:
    """Twice a root: a run four times as long takes half the peak at one shape; WSD wants half of a cosine's."""
    words = ("schedule", "wsd:cooldown=0.2", "wsd:cooldown=0.2", "--lr", "1e-3", "--tokens", "1B", "--to-tokens", "4B")
    longer = call("convert", *words)
    assert longer["to"]["lr"] == pytest.approx(5e-4, rel=5e-3)  # ln(steps) / steps
    assert longer["to"]["mean_multiplier"] == pytest.approx(0.9, rel=1e-6)
    assert call("convert", "schedule", "cosine", "wsd:cooldown=0.2")["factor"] == pytest.approx(0.53, abs=0.01)
    out, _ = text("convert", "schedule", "cosine:floor=0.1", "linear", "--lr", "1e-3")
    assert "from memory" in out
    assert "a schedule does not end at 0" in out


def test_trap_8_counts_of_parameters(call: Call, text: Call) -> None:
    words = ("convert", "params", "6738415616", "--from", "total", "--width", "4096", "--vocab", "32000")
    document = call(*words, "--to", "non_embedding")
    assert document["to"] == {"params": 6_476_271_616, "convention": "non_embedding"}
    out, _ = text(*words, "--to", "body_plus_head", "--tied")
    assert "6,738,415,616 counted as body_plus_head" in out
    assert "one is stored" in out


REFUSED = {
    "no number": (("batch", "many", "1M"), "'many' is not a number"),
    "zero": (("batch", "0x2048", "1M"), "'0' is not positive"),
    "beta2 of one": (("batch", "1M", "2M", "--beta2", "1"), "1 does not lie between 0 and 1"),
    "beta2 of words": (("batch", "1M", "2M", "--beta2", "high"), "'high' is not a number"),
    "rule": (("batch", "1M", "2M", "--rule", "cube"), "sqrt, linear, or an exponent such as 0.3"),
    "rule of nan": (("batch", "1M", "2M", "--rule", "nan"), "'nan' is no rule"),
    "sde with linear": (("batch", "1M", "2M", "--sde", "--rule", "linear"), "square root of the batch"),
    "sde too far": (("batch", "1M", "30M", "--sde", "--beta2", "0.95"), "the largest factor it allows is below 20"),
    "no such batch": (("batch", "1", "1e300"), "no rule carries a batch of 1 tokens to 1e+300"),
    "no such horizon": (("tokens", "1e-200", "1B"), "no rule carries a horizon of 1e-200 tokens to 1e+09"),
    "steep rule": (("batch", "1M", "2M", "--rule", "5"), "an exponent of 5 is out of reach"),
    "steep horizon": (("tokens", "1M", "2M", "--exponent", "nan"), "an exponent of nan is out of reach"),
    "no weight decay": (("weight-decay", "1e-300", "--lr", "1e-300"), "is none"),
    "two exponents": (("tokens", "1B", "2B", "--params", "1B", "--exponent", "0.3"), "give one of the two"),
    "half a depth": (("width", "256", "512", "--depth", "4"), "--depth and --to-depth go together"),
    "width and a half": (("width", "256.5", "512"), "'256.5' is not a whole number"),
    "half a timescale": (("weight-decay", "0.1", "--lr", "1e-3", "--tokens", "1B"), "give both or none"),
    "schedule": (("schedule", "cosine", "cosin"), "no schedule 'cosin'"),
    "half a horizon": (("schedule", "cosine", "linear", "--tokens", "1B"), "go together"),
    "horizon": (("schedule", "cosine", "linear", "--tokens", "1", "--to-tokens", "1B"), "is out of reach"),
    "count": (
        ("params", "1B", "--from", "total", "--to", "active", "--width", "64", "--vocab", "64"),
        "'active' is no count that a formula converts",
    ),
    "definition": (("critical-batch", "1M", "--from", "mine"), "'mine' is no definition of a critical batch"),
    "below the definition": (("critical-batch", "100", "--from", "zhang"), "is the number in sequences?"),
    "fraction of zero": (("critical-batch", "1M", "--from", "0"), "must be positive and finite, got 0"),
}


@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses_with_a_sentence(words: tuple[str, ...], message: str, call: Call) -> None:
    document = call("convert", *words, code=ExitCode.USAGE)
    assert message in document["error"]["message"]
