"""Columns of words that go with batch, tokens or size: two designs in one sweep, or the number in other words."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.ingest.test_misread import PLAIN, Sheet, Truth, order, truths, without

__all__ = ["order"]  # a fixture

LARGEST: Final = 151_283_712


def second(t: Truth) -> bool:
    """Whether a run is one of those that were made otherwise."""
    return t.at >= 12


def beside(seed: int, **factors: int) -> list[Truth]:
    """A sweep, and once more with other batches or tokens."""
    return truths(seed) + [
        dataclasses.replace(
            t,
            at=t.at + 12,
            loss=t.loss - 0.03,
            batch=t.batch * factors.get("batch", 1),
            tokens=t.tokens * factors.get("tokens", 1),
        )
        for t in truths(seed)
    ]


def of_size(t: Truth) -> bool:
    return t.params == LARGEST


class TestDesigns:
    NAMES: Final = ("mixer", "alg", "arm")
    LEVELS: Final = (("attn", "ssm"), ("A", "B"), ("gpt", "mamba2"))

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("levels", LEVELS)
    @pytest.mark.parametrize(("what", "factor"), [("batch", 2), ("tokens", 2), ("tokens", 3)])
    def test_with_batches_or_tokens_of_their_own(
        self, tmp_path: Path, name: str, levels: tuple[str, str], what: str, factor: int, order: int
    ) -> None:
        sheet = Sheet(tmp_path, {**PLAIN, name: lambda t: levels[second(t)]}, order, beside(order, **{what: factor}))
        (asked,) = sheet.asked()
        assert (asked["code"], asked["columns"]) == ("ingest.setting_tied", [name])
        assert asked["data"]["to"] == {"batch": "batch_tokens", "tokens": "tokens"}[what]
        assert len(sheet.check(split=(name,)).sweeps) == 2
        assert len(sheet.check(pool=(name,)).sweeps) == 1

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("levels", LEVELS)
    def test_at_sizes_of_their_own(self, tmp_path: Path, name: str, levels: tuple[str, str], order: int) -> None:
        rows = [t for t in truths(order) if t.params > 2e7]
        sheet = Sheet(tmp_path, {**PLAIN, name: lambda t: levels[of_size(t)]}, order, rows)
        assert sheet.codes() == {"setting_tied"}
        assert len(sheet.check(split=(name,)).sweeps) == 2


def horizons(seed: int) -> list[Truth]:
    """Three horizons at each size."""
    return [
        dataclasses.replace(t, at=t.at + 12 * k, tokens=t.tokens * 2**k, loss=t.loss - 0.1 * k)
        for t in truths(seed)
        for k in range(3)
    ]


class TestKindsAlongHorizons:
    @pytest.mark.parametrize("name", ["source", "tag", "label", "version", "mix", "data_source", "tok"])
    @pytest.mark.parametrize("levels", [("c4", "pile"), ("old", "new"), ("web", "books")])
    @pytest.mark.parametrize("at_all", [True, False])
    def test_are_asked_about(
        self, tmp_path: Path, name: str, levels: tuple[str, str], at_all: bool, order: int
    ) -> None:
        def level(t: Truth) -> str:
            return levels[t.at >= 12 and (at_all or t.params == LARGEST)]

        sheet = Sheet(tmp_path, {**PLAIN, name: level}, order, horizons(order))
        (asked,) = sheet.asked()
        assert (asked["code"], asked["columns"], asked["data"]["to"]) == ("ingest.setting_tied", [name], "tokens")
        assert len(sheet.check(split=(name,)).sweeps) == 2
        sheet.check(pool=(name,))

    @pytest.mark.parametrize("name", ["group", "project", "sweep", "campaign", "host", "notes"])
    def test_bookkeeping_is_asked_about_where_it_names_data_or_designs(
        self, tmp_path: Path, name: str, order: int
    ) -> None:
        for levels in (("c4", "pile"), ("adamw", "muon"), ("mamba", "transformer")):
            columns = {**PLAIN, name: lambda t, levels=levels: levels[t.at >= 12]}
            assert Sheet(tmp_path, columns, order, horizons(order)).codes() == {"setting_tied"}
        Sheet(tmp_path, {**PLAIN, name: lambda t: ("first", "again")[t.at >= 12]}, order, horizons(order)).check()

    @pytest.mark.parametrize(
        ("name", "levels"),
        [("horizon", ("a", "b")), ("tag", ("short", "long")), ("label", ("1x", "4x")), ("host", ("n1", "owl"))],
    )
    def test_other_words_for_the_horizon_ask_nothing(
        self, tmp_path: Path, name: str, levels: tuple[str, str], order: int
    ) -> None:
        Sheet(tmp_path, {**PLAIN, name: lambda t: levels[t.at >= 12]}, order, horizons(order)).check()

    @pytest.mark.parametrize("name", ["source", "tag"])
    def test_that_go_across_horizons_are_seeds_or_settings_of_their_own(
        self, tmp_path: Path, name: str, order: int
    ) -> None:
        Sheet(tmp_path, {**PLAIN, name: lambda t: "ab"[t.lr > 0.002]}, order, horizons(order)).check()


class TestTwoRatesEach:
    LEVELS: Final = (("attn", "ssm"), (8, 16), (0, 1), ("A", "B"))

    @staticmethod
    def rows(seed: int, factor: float) -> list[Truth]:
        few = [t for t in truths(seed) if t.at % 4 < 2]
        return few + [dataclasses.replace(t, at=t.at + 12, lr=t.lr * factor) for t in few]

    @pytest.mark.parametrize("name", ["mixer", "h", "alg", "gate", "kernel"])
    @pytest.mark.parametrize("levels", LEVELS)
    @pytest.mark.parametrize("factor", [3, 0.7, 1.5, 10])
    def test_are_asked_about(
        self, tmp_path: Path, name: str, levels: tuple[object, object], factor: float, order: int
    ) -> None:
        sheet = Sheet(tmp_path, {**PLAIN, name: lambda t: levels[second(t)]}, order, self.rows(order, factor))
        assert sheet.codes() == {"settings_or_seeds"}
        assert len(sheet.check(split=(name,)).sweeps) == 2
        sheet.check(pool=(name,))

    @pytest.mark.parametrize("name", ["mixer", "kernel"])
    def test_halves_of_one_grid_and_chance_ask_nothing(self, tmp_path: Path, name: str, order: int) -> None:
        Sheet(tmp_path, {**PLAIN, name: lambda t: "ab"[second(t)]}, order, self.rows(order, 4)).check()
        Sheet(tmp_path, {**PLAIN, name: lambda t: "ab"[t.at in (0, 1, 4, 6, 8, 11)]}, order).check()

    @pytest.mark.parametrize(
        "written",
        [
            lambda lr: f"1/{round(1 / lr)}",
            lambda lr: f"{lr:.4f}".replace(".", ","),
            lambda lr: f"{lr * 1e4:g}×10^-4",
        ],
        ids=["one over", "decimal comma", "times ten"],
    )
    def test_however_the_rates_are_written(self, tmp_path: Path, written: Callable[[float], str], order: int) -> None:
        columns = {**PLAIN, "lr": lambda t: written(t.lr), "mixer": lambda t: "ab"[second(t)]}
        assert Sheet(tmp_path, columns, order, self.rows(order, 10)).codes() == {"settings_or_seeds"}
        assert len(Sheet(tmp_path, columns, order, self.rows(order, 4)).read().sweeps) == 1


class TestGridsUnderWordsOfResults:
    @staticmethod
    def rows(seed: int) -> list[Truth]:
        return truths(seed) + [dataclasses.replace(t, at=t.at + 12, loss=t.loss + 0.01) for t in truths(seed)]

    @pytest.mark.parametrize(
        ("name", "levels"),
        [
            *(("bits", (4, 16)), ("quant_bits", (8, 16)), ("loss_mask", ("prompt", "all")), ("acc_dtype", ("a", "b"))),
            *(
                ("aux_loss_coef", (0, 0.01)),
                ("mae_ratio", (0.5, 0.75)),
                ("precision_mode", ("x", "y")),
                ("rank", (8, 64)),
            ),
            *(("perplexity_filter", ("on", "off")), ("samples_per_doc", (1, 4)), ("state_dim", (16, 64))),
            *(("step_decay", ("cosine", "none")), ("recall_tokens", (0, 128)), ("error_feedback", (0, 1))),
            *(("weights", ("ema", "raw")), ("eval_ckpt", ("best", "last"))),
        ],
    )
    def test_are_asked_about(self, tmp_path: Path, name: str, levels: tuple[object, object], order: int) -> None:
        sheet = Sheet(tmp_path, {**PLAIN, name: lambda t: levels[second(t)]}, order, self.rows(order))
        assert sheet.codes() == {"settings_or_seeds"}
        assert len(sheet.check(split=(name,)).sweeps) == 2
        sheet.check(pool=(name,))

    @pytest.mark.parametrize("name", ["error_message", "checkpoint", "error", "_step", "bits", "best_step"])
    @pytest.mark.parametrize("level", ["x", 1])
    def test_what_happened_to_some_of_two_seeds_each_asks_nothing(
        self, tmp_path: Path, name: str, level: object, order: int
    ) -> None:
        columns = {**PLAIN, "seed": lambda t: t.at // 12, name: lambda t: level if t.at % 5 == 1 else ""}
        Sheet(tmp_path, columns, order, self.rows(order)).check()

    @pytest.mark.parametrize("name", ["acc", "train_loss", "bits_per_byte", "top1", "final_ppl", "mae", "grad_norm"])
    @pytest.mark.parametrize("digits", [1, 4])
    def test_what_was_measured_asks_nothing(self, tmp_path: Path, name: str, digits: int, order: int) -> None:
        columns = {**PLAIN, name: lambda t: round(t.train * 0.2 + 0.1 * second(t) * (t.at % 3), digits)}
        Sheet(tmp_path, columns, order, self.rows(order)).check()

    @pytest.mark.parametrize(
        ("name", "levels"),
        [
            *(
                ("seed", (1, 2)),
                ("data_seed", (17, 42)),
                ("gpu_hours", (1.2, 1.3)),
                ("attempt", (1, 2)),
                ("rank", (0, 1)),
            ),
            *(("host", ("n1", "n2")), ("replica", ("a", "b")), ("slurm_partition", ("a100", "h100"))),
            *(("user", ("ann", "bob")), ("date", ("2026-01-02", "2026-01-03"))),
        ],
    )
    def test_what_all_seeds_may_share_asks_nothing(
        self, tmp_path: Path, name: str, levels: tuple[object, object], order: int
    ) -> None:
        rng = random.Random(order)
        rows = [
            dataclasses.replace(t, loss=round(t.loss - 0.01 * second(t) + rng.gauss(0, 0.004), 5))
            for t in self.rows(order)
        ]
        Sheet(tmp_path, {**PLAIN, name: lambda t: levels[second(t)]}, order, rows).check()

    @pytest.mark.parametrize("name", ["eval_ckpt", "which", "checkpoint"])
    def test_losses_of_other_weights_in_some_rows(self, tmp_path: Path, name: str, order: int) -> None:
        sheet = Sheet(tmp_path, {**PLAIN, name: lambda t: "last" if t.at % 3 else "best"}, order)
        assert sheet.codes() == {"settings_or_seeds"}
        assert len(sheet.read(only={name: "last"}).sweeps) == 1


class TestRateAndDecay:
    RATES: Final = ("lr", "learning_rate", "config.lr", "peak_lr")
    DECAYS: Final = ("weight_decay", "wd", "optimizer.weight_decay")

    @pytest.mark.parametrize("rate", RATES)
    @pytest.mark.parametrize("decay", DECAYS)
    @pytest.mark.parametrize("levels", [(0.1,), (0.1, 0.01), (0.05,), (0.1, 0.3)])
    def test_that_look_like_each_other_are_asked_about(
        self, tmp_path: Path, rate: str, decay: str, levels: tuple[float, ...], order: int
    ) -> None:
        columns = {**without("lr"), rate: lambda t: levels[t.at // 4 % len(levels)], decay: lambda t: t.lr}
        sheet = Sheet(tmp_path, columns, order)
        assert sheet.codes() == {"lr_and_decay"}
        sheet.check(column_map={decay: "lr", rate: "weight_decay"})
        sheet.read(column_map={rate: "lr"})

    @pytest.mark.parametrize(
        "columns",
        [
            {"lr": lambda t: t.lr, "wd": lambda t: 0.1},
            {"lr": lambda t: t.lr, "wd": lambda t: 0.1 * (1 + t.at // 4)},
            {"lr": lambda t: 0.0003, "wd": lambda t: (0.0001, 0.001, 0.01, 0.1)[t.at % 4]},
            {"lr": lambda t: 0.02, "wd": lambda t: (0.01, 0.03, 0.1, 0.3)[t.at % 4]},
            {"lr": lambda t: 0.1, "wd": lambda t: t.lr, "optimizer": lambda t: "sgd_momentum"},
            {"lr": lambda t: 0.0125 * 2 ** (t.at % 4), "wd": lambda t: 0.0005},
        ],
    )
    def test_ordinary_ones_ask_nothing(
        self, tmp_path: Path, columns: dict[str, Callable[[Truth], object]], order: int
    ) -> None:
        found = Sheet(tmp_path, {**without("lr"), **columns}, order).read()
        assert sum(len(sweep.runs) for sweep in found.sweeps) == 12


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("model_size", lambda t: "small" if t.params < LARGEST else "medium"),
        ("scale", lambda t: "S" if t.params < LARGEST else "L"),
        ("variant", lambda t: f"{t.params // 1_000_000}M"),
        ("net", lambda t: "pythia-tiny" if t.params < LARGEST else "pythia-large"),
        ("model", lambda t: "alpha" if t.params < LARGEST else "beta"),
        ("horizon", lambda t: "short" if t.params < LARGEST else "long"),
        ("duration", lambda t: "x" if t.params < LARGEST else "y"),
        ("name", lambda t: "owl" if t.params < LARGEST else "lark"),
        ("operator", lambda t: "owl" if t.params < LARGEST else "lark"),
        ("host", lambda t: "owl" if t.params < LARGEST else "lark"),
        ("gpu", lambda t: "A" if t.params < LARGEST else "B"),
        ("day", lambda t: "Monday" if t.params < LARGEST else "Tuesday"),
        ("when", lambda t: "2026-11-01" if t.params < LARGEST else "2026-11-03"),
        ("where", lambda t: "/data/a/runs" if t.params < LARGEST else "/data/b/runs"),
        ("job_id", lambda t: "a" if t.params < LARGEST else "b"),
        ("mixer", lambda t: "attn"),
        ("mixer", lambda t: "attn" if t.params == LARGEST or t.lr > 0.001 else "hybrid"),
    ],
)
def test_other_words_for_the_size_and_records_ask_nothing(
    tmp_path: Path, name: str, cell: Callable[[Truth], str], order: int
) -> None:
    rows = [t for t in truths(order) if t.params > 2e7]
    assert len(Sheet(tmp_path, {**PLAIN, name: cell}, order, rows).check().sweeps) == 1
