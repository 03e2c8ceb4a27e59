"""Settings that only the names of runs state, as numbers: asked about, while what counts repeats stays seeds."""

from __future__ import annotations

import dataclasses
import random
import time
from pathlib import Path
from typing import Final

import pytest

from lawfit.ingest.names_with_values import _values
from tests.ingest.test_misread import PLAIN, Sheet, Truth, order, truths

__all__ = ["order"]  # a fixture

MILLION: Final = 1_000_000


def twice(seed: int) -> list[Truth]:
    """Each run of a sweep, and the same again with a loss that is now above and now below."""
    rng = random.Random(seed)
    again = [dataclasses.replace(t, at=t.at + 12, loss=round(t.loss + rng.gauss(0, 0.004), 5)) for t in truths(seed)]
    return truths(seed) + again


class TestNumbers:
    """`{}` is where the number stands that was varied."""

    STATED: Final = [
        ("run_name", "{size}M_lr{lr:g}_wd{}", "wd", ("0.1", "0.0")),
        ("Name", "wd={},lr={lr:g},{size}M", "wd", ("0.1", "0.01")),
        ("run", "{size}m-b2-{}-{lr:g}-s1", "b2", ("0.95", "0.99")),
        ("experiment", "{size}M/wu{}/lr{lr:g}", "wu", ("100", "2000")),
        ("run_id", "{size}M-clip{}-{lr:g}", "clip", ("1", "0")),
        ("exp_name", "{size}M-lr{lr:g}_dropout{}", "dropout", ("0.1", "0p2")),
        ("name", "h{} {size}M lr {lr:g}", "h", ("8", "16")),
        ("command", "python train.py --lr {lr:g} --beta2 {} --size {size} --seed 3", "beta2", ("0.95", "0.99")),
        ("cmdline", "train.py --warmup-steps={} --lr={lr:g} --size {size}", "warmup_steps", ("100", "2k")),
        ("config", "configs/{size}m_b2_{}_lr{lr:g}.yaml", "b2", ("95", "99")),
        ("output_dir", "/out/{size}m-wu{}-{lr:g}", "wu", ("100", "2000")),
    ]

    @pytest.mark.parametrize(("column", "form", "word", "levels"), STATED, ids=[each[1] for each in STATED])
    def test_are_asked_about_once_and_answered(
        self, tmp_path: Path, column: str, form: str, word: str, levels: tuple[str, str], order: int
    ) -> None:
        def name(t: Truth) -> str:
            return form.format(levels[t.at >= 12], size=t.params // MILLION, lr=t.lr)

        sheet = Sheet(tmp_path, {**PLAIN, column: name}, order, twice(order))
        (asked,) = sheet.asked()
        made = f"value of {word} in {column}"
        assert asked["columns"] == [made]
        assert [choice[0]["option"] for choice in asked["choices"]] == ["split", "pool", "only", "only"]
        parts = sheet.check(split=(made,)).sweeps
        assert sorted(part.recipe.extra[made] for part in parts) == sorted(levels)
        assert {len(part.runs) for part in parts} == {12}
        assert len(sheet.check(pool=(made,)).sweeps) == 1

    @pytest.mark.parametrize(("column", "form", "word", "levels"), STATED, ids=[each[1] for each in STATED])
    def test_of_one_level_ask_nothing(
        self, tmp_path: Path, column: str, form: str, word: str, levels: tuple[str, str], order: int
    ) -> None:
        def name(t: Truth) -> str:
            return form.format(levels[0], size=t.params // MILLION, lr=t.lr) + f"-{t.at // 12}"

        assert len(Sheet(tmp_path, {**PLAIN, column: name}, order, twice(order)).check().sweeps) == 1

    def test_in_a_few_rows(self, tmp_path: Path, order: int) -> None:
        """Only the best rate was run again without decay."""
        rows = [t for t in twice(order) if t.at < 12 or t.lr == 0.002]
        columns = {**PLAIN, "run_name": lambda t: f"lr{t.lr:g}_wd{0 if t.at >= 12 else 0.1}_{t.params}"}
        assert Sheet(tmp_path, columns, order, rows).codes() == {"settings_or_seeds"}


@pytest.mark.parametrize("column", ["run_name", "output_dir", "command"])
@pytest.mark.parametrize(
    "form",
    [
        *("s{}", "seed{}", "seed={}", "--seed {}", "run{}", "r{}", "rep-{}", "trial_{}", "{}", "({})", "adamw_{}"),
        *("x{}", "2026-11-{:02d}_12-30", "nov{}", "202611{:02d}", "job482{}", "gpu{}", "node-{}", "a3f{}c2e"),
        *("wandb-{}f9a2c1e", "shuffle{}", "--data_seed {}", "--master_port 2950{}"),
    ],
)
def test_repeats_are_seeds(tmp_path: Path, column: str, form: str, order: int) -> None:
    def name(t: Truth) -> str:
        return f"{t.params // MILLION}M_lr{t.lr:g}_wd0.1_" + form.format(3 + t.at // 12)

    assert len(Sheet(tmp_path, {**PLAIN, column: name}, order, twice(order)).check().sweeps) == 1


def test_a_number_that_counts_as_the_seed_does_is_none(tmp_path: Path, order: int) -> None:
    columns = {
        **PLAIN,
        "run_name": lambda t: f"{t.params}-lr{t.lr:g}-wave{t.at // 12}",
        "seed": lambda t: 100 + t.at // 12,
    }
    assert len(Sheet(tmp_path, columns, order, twice(order)).check().sweeps) == 1


@pytest.mark.parametrize("text", ["a_", "a.", "-a.", "_a", "a-1", "a=", "1e"])
def test_long_texts_take_no_longer_than_their_length(text: str) -> None:
    def seconds(times: int) -> float:
        begun = time.process_time()
        _values(text * times)
        return time.process_time() - begun

    seconds(1000)
    assert seconds(40_000) < 40 * max(seconds(2_000), 1e-3)


@pytest.mark.parametrize("form", ["sweep_{size}_lr{lr:g}", "{size}-lr={lr:g}", "{size}_learning_rate={lr:g}"])
def test_a_name_without_what_has_a_column_is_of_a_repeat(tmp_path: Path, form: str, order: int) -> None:
    """A sweep at each size, and the run of the smallest one that was there before."""
    rows = [t for t in twice(order) if t.at < 12 or (t.lr == 0.002 and t.params < 50 * MILLION)]

    def name(t: Truth) -> str:
        return form.format(size=t.params // MILLION, lr=t.lr) if t.at < 12 else f"{t.params // MILLION}"

    assert len(Sheet(tmp_path, {**PLAIN, "run_name": name}, order, rows).check().sweeps) == 1


@pytest.mark.parametrize("word", ["lr", "learning_rate"])
def test_names_that_contradict_a_column_are_asked_about(tmp_path: Path, word: str, order: int) -> None:
    columns = {**PLAIN, "run_name": lambda t: f"{t.params}-{word}={t.lr * (1 + t.at // 12):g}"}
    assert Sheet(tmp_path, columns, order, twice(order)).codes() == {"settings_or_seeds"}
