"""Columns whose meaning hangs on one that stands beside them: a real rate, a perplexity, passes, blocks."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from lawfit.ingest import Ingested, IngestOptions, read_file
from tests.ingest.tables import runs
from tests.ingest.test_misread import PLAIN, RATES, Columns, Sheet, Truth, order, truths, without

__all__ = ["order"]  # the fixture


class TestBlocksOfSettings:
    """Merged cells: what stands in the first of each four rows is that of the others, or is asked about."""

    @staticmethod
    def write(folder: Path, blocks: Mapping[str, tuple[Any, ...]], last: bool, *, below: bool = True) -> Path:
        """A sweep of three sizes; of the settings the first row of each size alone has one, unless `below` is false."""
        rows = truths(len(blocks))
        path = folder / "sheet.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*PLAIN, *blocks] if last else [*blocks, *PLAIN])
            for at, truth in enumerate(rows):
                first = at % len(RATES) == 0 or not below
                own = [levels[at // len(RATES)] if first else "" for levels in blocks.values()]
                plain = [cell(truth) for cell in PLAIN.values()]
                writer.writerow([*plain, *own] if last else [*own, *plain])
        return path

    @pytest.mark.parametrize("last", [False, True])
    @pytest.mark.parametrize(
        ("name", "levels", "field"),
        [
            ("optimizer", ("adamw", "muon", "lion"), "optimizer"),
            ("Optim", ("sgd", "adam", "soap"), "optimizer"),
            ("dataset", ("c4", "pile", "fineweb"), "data"),
            ("tokenizer", ("bpe", "gpt2", "llama"), "tokenizer"),
            ("seq_len", (512, 1024, 2048), "seq_len"),
            ("ctx_len", (4096, 1024, 2048), "seq_len"),
        ],
    )
    def test_what_every_run_has_is_filled_down(
        self, tmp_path: Path, name: str, levels: tuple[Any, ...], field: str, last: bool
    ) -> None:
        found = read_file(self.write(tmp_path, {name: levels}, last))
        assert sorted(str(getattr(sweep.recipe, field)) for sweep in found.sweeps) == sorted(map(str, levels))
        assert all(len(sweep.runs) == len(RATES) for sweep in found.sweeps)
        assert any("first row of each of 3 blocks" in note for note in found.notes)

    @pytest.mark.parametrize("last", [False, True])
    @pytest.mark.parametrize(("name", "levels"), [("wd", (0.1, 0.1, 0.1)), ("weight decay", (0.1, 0.01, 0.1))])
    def test_others_of_the_same_blocks_too(
        self, tmp_path: Path, name: str, levels: tuple[float, ...], last: bool
    ) -> None:
        found = read_file(self.write(tmp_path, {name: levels, "optimizer": ("adamw", "muon", "lion")}, last))
        assert sorted(run.weight_decay or 0.0 for run in runs(found)) == sorted(levels * len(RATES))

    @pytest.mark.parametrize("last", [False, True])
    @pytest.mark.parametrize(
        ("name", "levels"),
        [
            ("wd", (0.1, 0.05, 0.01)),
            ("weight_decay", (0.1, 0.1, 0.1)),
            ("lr_schedule", ("cosine", "linear", "wsd")),
            ("optimizer", ("adamw", "muon", "adamw")),
        ],
    )
    def test_what_may_be_none_is_asked_about(
        self, tmp_path: Path, name: str, levels: tuple[Any, ...], last: bool
    ) -> None:
        path = self.write(tmp_path, {name: levels}, last)
        with pytest.raises(Exception, match="is it as in the row above, or not known") as asked:
            read_file(path)
        assert [question["code"] for question in asked.value.questions] == ["ingest.empty_below"]  # type: ignore[attr-defined]
        down = read_file(path, IngestOptions(fill={name: "down"}))
        as_is = read_file(path, IngestOptions(fill={name: "no"}))
        assert len(runs(down)) == len(runs(as_is)) == 3 * len(RATES)
        whole = read_file(self.write(tmp_path, {name: levels}, last, below=False))
        assert self.settings(down) == self.settings(whole) != self.settings(as_is)

    @staticmethod
    def settings(found: Ingested) -> list[tuple[Any, ...]]:
        of = [(sweep.recipe, run) for sweep in found.sweeps for run in sweep.runs]
        return sorted((r.optimizer, r.schedule, str(run.weight_decay), run.lr, run.loss) for r, run in of)


class TestRatesInForce:
    NAMES: Final = (
        *("scaled_lr", "effective_lr", "actual_lr", "lr_scaled", "lr_eff", "used_lr", "true_lr", "lr_applied"),
        *("lr_adj", "lr_after_scaling", "hidden_lr", "Effective Learning Rate", "train/lr_real"),
    )
    PLAINLY: Final = ("lr", "learning_rate", "config.lr")

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("plain", PLAINLY)
    @pytest.mark.parametrize("factor", [lambda t: 0.5, lambda t: 1 if t.at % 3 else 1.5])
    def test_one_that_differs_is_asked_about(
        self, tmp_path: Path, name: str, plain: str, factor: Callable[[Truth], float], order: int
    ) -> None:
        columns = {plain: lambda t: t.lr * factor(t), name: lambda t: t.lr}
        sheet = Sheet(tmp_path, {**without("lr"), **columns}, order)
        assert sheet.codes() == {"two_columns"}
        sheet.check(column_map={name: "lr"})

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("plain", PLAINLY)
    def test_one_that_is_the_same_is_not(self, tmp_path: Path, name: str, plain: str, order: int) -> None:
        Sheet(tmp_path, {**without("lr"), plain: lambda t: t.lr, name: lambda t: t.lr}, order).check()

    @pytest.mark.parametrize("name", ["lr_scaled", "embed_lr_scaled", "lr_scale"])
    def test_a_flag_or_a_rate_of_a_part_is_none(self, tmp_path: Path, name: str, order: int) -> None:
        cell = (lambda t: 10 * t.lr) if name.startswith("embed") else (lambda t: 1)
        Sheet(tmp_path, {**PLAIN, name: cell}, order).check()


class TestBits:
    PER_BYTE: Final = (
        *("val loss (bits/byte)", "Bits/Byte", "bits/char", "bits/B", "bit/byte", "loss_bits_byte"),
        *("bits_per_byte", "loss (bits p. byte)", "eval/bits per UTF-8 byte", "Val bits/character"),
    )

    @pytest.mark.parametrize("name", PER_BYTE)
    def test_per_byte_stay_as_they_are(self, tmp_path: Path, name: str, order: int) -> None:
        found = Sheet(tmp_path, {**without("val_loss"), name: lambda t: t.loss / 3}, order).check(lambda t: t.loss / 3)
        assert {sweep.recipe.loss_kind for sweep in found.sweeps} == {"bits per byte"}

    @pytest.mark.parametrize("name", ["val loss (bits)", "bits/token", "eval bits per token"])
    def test_per_token_are_turned_into_nats(self, tmp_path: Path, name: str, order: int) -> None:
        columns = {**without("val_loss"), name: lambda t: t.loss / math.log(2)}
        Sheet(tmp_path, columns, order).check()

    @pytest.mark.parametrize("name", ["bits per word", "bits/word", "CE/byte", "loss per UTF-8 byte", "byte CE"])
    def test_of_other_units_of_text_are_no_loss(self, tmp_path: Path, name: str, order: int) -> None:
        (question,) = Sheet(tmp_path, {**without("val_loss"), name: lambda t: t.loss}, order).asked()
        assert question["data"]["missing"] == ["loss"]
        Sheet(tmp_path, {**PLAIN, name: lambda t: t.loss * 1.3}, order).check()

    @pytest.mark.parametrize(
        ("name", "other"),
        [
            *(("valid_nll_loss", "valid_ppl"), ("val_loss", "perplexity"), ("val/loss", "val/PPL")),
            *(("loss", "ppl"), ("eval_loss", "train_ppl")),
        ],
    )
    def test_a_loss_in_bits_beside_its_perplexity(self, tmp_path: Path, name: str, other: str, order: int) -> None:
        columns = {name: lambda t: round(t.loss / math.log(2), 3), other: lambda t: round(math.exp(t.loss), 2)}
        sheet = Sheet(tmp_path, {**without("val_loss"), **columns}, order)
        (question,) = sheet.asked()
        assert question["code"] == "ingest.bits_or_nats"
        found = sheet.read(yes=True)
        assert sorted(run.loss or 0 for run in runs(found)) == pytest.approx(
            sorted(t.loss for t in sheet.rows), rel=1e-3
        )

    @pytest.mark.parametrize("name", ["val_loss", "final_loss"])
    @pytest.mark.parametrize("off", [0.0, 0.02, -0.15])
    def test_one_in_nats_is_clear(self, tmp_path: Path, name: str, off: float, order: int) -> None:
        """Also where the perplexity is of other data."""
        columns = {name: lambda t: t.loss, "val_ppl": lambda t: round(math.exp(t.loss + off), 2)}
        Sheet(tmp_path, {**without("val_loss"), **columns}, order).check()


class TestPasses:
    @pytest.mark.parametrize("name", ["steps", "n_steps", "Iterations"])
    @pytest.mark.parametrize("passes", ["epochs", "num_epochs", "passes"])
    @pytest.mark.parametrize("count", [2, 4])
    def test_steps_that_may_be_of_one(self, tmp_path: Path, name: str, passes: str, count: int, order: int) -> None:
        rows = [t for t in truths(order) if t.steps % count == 0]
        columns = {name: lambda t: t.steps // count, passes: lambda t: count}
        sheet = Sheet(tmp_path, {**without("tokens"), **columns}, order, rows)
        assert sheet.codes() == {"tokens_of_pass"}
        sheet.check(units={name: str(count)})
        whole = {name: lambda t: t.steps, passes: lambda t: count}
        Sheet(tmp_path, {**without("tokens"), **whole}, order).check(column_map={name: "steps"})

    @pytest.mark.parametrize("name", ["passes", "repetitions", "data.passes"])
    @pytest.mark.parametrize("count", [2, 4])
    def test_tokens_that_may_be_of_one(self, tmp_path: Path, name: str, count: int, order: int) -> None:
        columns = {"tokens": lambda t: t.tokens // count, name: lambda t: count}
        sheet = Sheet(tmp_path, {**PLAIN, **columns}, order)
        assert sheet.codes() == {"tokens_of_pass"}
        sheet.check(units={"tokens": str(count)})

    @pytest.mark.parametrize(
        "columns",
        [
            {"steps": lambda t: t.steps, "epochs": lambda t: 1},
            {"max_steps": lambda t: t.steps, "epochs": lambda t: 4},
            {"global_step": lambda t: t.steps, "num_epochs": lambda t: 3},
            {"steps": lambda t: t.steps, "tokens": lambda t: t.tokens, "epochs": lambda t: 4},
            {"total_tokens": lambda t: t.tokens, "passes": lambda t: 4},
        ],
    )
    def test_lengths_that_are_clear(self, tmp_path: Path, columns: Columns, order: int) -> None:
        Sheet(tmp_path, {**without("tokens"), **columns}, order).check()

    @pytest.mark.parametrize("field", ["tokens", "steps"])
    @pytest.mark.parametrize("passes", ["epochs", "passes"])
    def test_runs_that_are_longer_by_their_passes_are_clear(
        self, tmp_path: Path, field: str, passes: str, order: int
    ) -> None:
        rows = [
            Truth(at, 58_423_296, 262_144 * 1000 * count, lr, round(3.9 - 0.1 * count + 0.01 * at, 3), 3.8)
            for at, (count, lr) in enumerate((count, lr) for count in (1, 2, 4) for lr in RATES)
        ]
        columns = {field: lambda t: getattr(t, field), passes: lambda t: t.steps // 1000}
        sheet = Sheet(tmp_path, {**without("tokens"), **columns}, order, rows)
        assert len(runs(sheet.read())) == len(rows)
        sheet.check()

    @pytest.mark.parametrize("name", ["steps_per_epoch", "Steps per epoch"])
    def test_steps_of_one_leave_the_tokens_open_alone(self, tmp_path: Path, name: str, order: int) -> None:
        columns = {name: lambda t: t.steps // 4, "epochs": lambda t: 4}
        (question,) = Sheet(tmp_path, {**without("tokens"), **columns}, order).asked()
        assert question["data"]["missing"] == ["tokens"]


@pytest.mark.parametrize("name", ["consumed_train_samples", "train_samples"])
@pytest.mark.parametrize("batch", ["args.global_batch_size", "global_batch_size"])
@pytest.mark.parametrize("length", ["args.max_position_embeddings", "n_positions"])
def test_samples_beside_the_positions_of_a_model(
    tmp_path: Path, name: str, batch: str, length: str, order: int
) -> None:
    columns = {
        name: lambda t: t.tokens // t.seq_len,
        batch: lambda t: t.batch // t.seq_len,
        length: lambda t: t.seq_len,
    }
    sheet = Sheet(tmp_path, {**without("tokens", "batch_tokens"), **columns}, order)
    assert sheet.codes() == {"samples_and_tokens"}
    sheet.check(column_map={length: "seq_len"})
    longer = {**columns, length: lambda t: 2 * t.seq_len, "seq_length": lambda t: t.seq_len}
    Sheet(tmp_path, {**without("tokens", "batch_tokens"), **longer}, order).check()


class TestMeansOfLosses:
    @pytest.mark.parametrize("raw", ["loss", "train_loss", "final_train_loss"])
    @pytest.mark.parametrize("name", ["running_loss", "avg_loss", "loss_avg", "train/loss_ema"])
    @pytest.mark.parametrize("off", [0.2, 0.9])
    def test_one_well_above_the_last_is_asked_about(
        self, tmp_path: Path, raw: str, name: str, off: float, order: int
    ) -> None:
        columns = {raw: lambda t: t.loss, name: lambda t: t.loss + off}
        sheet = Sheet(tmp_path, {**without("val_loss"), **columns}, order)
        if raw == "loss" and name.startswith("train"):
            sheet.check()  # of training data; the other one does not say
            return
        assert sheet.codes() == {"two_columns"}
        sheet.check(column_map={raw: "loss"})

    @pytest.mark.parametrize("name", ["running_loss", "avg_loss", "loss_ema"])
    @pytest.mark.parametrize("off", [0.0, 0.2])
    def test_one_near_or_below_it_is_less_noisy(self, tmp_path: Path, name: str, off: float, order: int) -> None:
        columns = {"loss": lambda t: t.train + off, name: lambda t: t.loss}
        Sheet(tmp_path, {**without("val_loss"), **columns}, order).check()

    @pytest.mark.parametrize("name", ["running_loss", "avg_loss", "loss_ema"])
    @pytest.mark.parametrize("off", [0.02, 0.9])
    def test_none_of_unsaid_data_goes_before_validation_data(
        self, tmp_path: Path, name: str, off: float, order: int
    ) -> None:
        Sheet(tmp_path, {**PLAIN, name: lambda t: t.loss + off}, order).check()


@pytest.mark.parametrize(("params", "million"), [("M params", 1e6), ("MParams", 1e6), ("B params", 1e9)])
@pytest.mark.parametrize(("tokens", "billion"), [("B tokens", 1e9), ("BTokens", 1e9), ("Mtokens", 1e6)])
def test_a_capital_before_a_count_is_its_unit(
    tmp_path: Path, params: str, million: float, tokens: str, billion: float, order: int
) -> None:
    columns = {params: lambda t: t.params / million, tokens: lambda t: t.tokens / billion}
    found = Sheet(tmp_path, {**without("params", "tokens"), **columns}, order).check()
    assert sum("in units of" in note for note in found.notes) >= 2


@pytest.mark.parametrize("name", ["B_tokens", "b_tokens"])
def test_one_that_may_be_the_letter_of_a_batch_is_asked_about(tmp_path: Path, name: str, order: int) -> None:
    sheet = Sheet(tmp_path, {**without("tokens"), name: lambda t: t.tokens / 1e9}, order)
    assert sheet.codes() == {"unit_hinted"}
    sheet.check(units={name: "B"})
