"""Headers that say what was done to a rate or a loss, and in which unit a loss is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import pytest

from tests.ingest.test_misread import PLAIN, Sheet, order, without

__all__ = ["order"]  # a fixture


class TestRates:
    WORKED_OUT: Final = (
        *("lr × sqrt(bs/256)", "lr*sqrt(bs/256)", "lr/√bs", "lr·√B", "lr * batch", "peak_lr / sqrt(d_model)", "1/lr"),
        *("eta*sqrt(B)", "lr^2", "lr (× sqrt(bs/256))", "learning rate [/√B]", "lr (bs=256)", "LR (scaled by batch)"),
        *("sqrt(lr)", "lr per sample", "2*lr", "lr/lambda_max × N"),
    )

    @pytest.mark.parametrize("name", WORKED_OUT)
    @pytest.mark.parametrize("factor", [0.5, 32])
    def test_that_were_worked_out_are_asked_about(self, tmp_path: Path, name: str, factor: float, order: int) -> None:
        sheet = Sheet(tmp_path, {**without("lr"), name: lambda t: t.lr * factor}, order)
        (asked,) = sheet.asked()
        assert (asked["code"], asked["columns"]) == ("ingest.lr_by_its_words", [name])
        if factor < 1:
            sheet.read(column_map={name: "lr"})

    @pytest.mark.parametrize("name", WORKED_OUT)
    def test_do_not_go_before_the_rate_itself(self, tmp_path: Path, name: str, order: int) -> None:
        if "scaled" not in name:  # which is said of the rate in force
            Sheet(tmp_path, {**PLAIN, name: lambda t: t.lr * 0.5}, order).check()

    @pytest.mark.parametrize(
        "name", ["lr*", "**lr**", "lr (Adam)", "LR (peak)", "train/lr", "optimizer/lr", "lr [peak]", "learning rate†"]
    )
    def test_plain_ones_are_read(self, tmp_path: Path, name: str, order: int) -> None:
        Sheet(tmp_path, {**without("lr"), name: lambda t: t.lr}, order).check()


class TestLosses:
    BITS: Final = (
        *("loss (base 2)", "loss [bits]", "val loss (bits per token)", "loss [b/tok]", "val_loss_base2", "loss, bits"),
        *("CE in bits", "loss [Sh]", "val_loss/ln2", "val_loss / log(2)", "nll [b/T]", "loss (2-log)", "log_2_ppl"),
        *("cross-entropy (log base 2)", "val loss (bit)"),
    )
    PER_BYTE: Final = ("loss [b/B]", "val_loss (bits/byte)", "loss (bpb)", "CE [bit/byte]", "val loss, bits per byte")
    CHANGED: Final = (
        *("val_loss × 1.44", "val_loss*100", "100*val_loss", "val_loss - E", "exp(loss)", "e^loss", "loss^2"),
        *("loss (%)", "loss (x100)", "loss [dB]", "loss (1e-3)", "loss (exp)", "loss / 2", "loss (base 10)"),
        *("loss [hartley]", "loss/E", "1 - val_loss", "loss (log_10)", "√loss"),
    )
    PLAINLY: Final = (
        *(
            "loss*",
            "val loss* (nats)",
            "**val_loss**",
            "loss (nats)",
            "loss [nats/token]",
            "val loss, C4",
            "val_loss (3 seeds)",
            "loss↓",
        ),
        *("loss in nats", "exp/loss", "exp_1/val_loss", "eval/loss", "0/loss", "cross-entropy", "loss (test set)"),
    )

    @pytest.mark.parametrize("name", BITS)
    def test_in_bits(self, tmp_path: Path, name: str, order: int) -> None:
        Sheet(tmp_path, {**without("val_loss"), name: lambda t: t.loss / math.log(2)}, order).check()

    @pytest.mark.parametrize("name", PER_BYTE)
    def test_in_bits_per_byte(self, tmp_path: Path, name: str, order: int) -> None:
        sheet = Sheet(tmp_path, {**without("val_loss"), name: lambda t: t.loss / 3}, order)
        (sweep,) = sheet.check(lambda t: t.loss / 3).sweeps
        assert sweep.recipe.loss_kind == "bits per byte"

    @pytest.mark.parametrize("name", CHANGED)
    def test_that_were_changed_are_asked_for_themselves(self, tmp_path: Path, name: str, order: int) -> None:
        sheet = Sheet(tmp_path, {**without("val_loss"), name: lambda t: t.loss}, order)
        (asked,) = sheet.asked()
        assert asked["data"]["missing"] == ["loss"]
        assert "ingest.altered_loss" in [hint["code"] for hint in asked["data"]["hints"]]
        sheet.check(column_map={name: "loss"}, metric="nats")

    @pytest.mark.parametrize("name", PLAINLY)
    def test_as_they_are(self, tmp_path: Path, name: str, order: int) -> None:
        Sheet(tmp_path, {**without("val_loss"), name: lambda t: t.loss}, order).check()
