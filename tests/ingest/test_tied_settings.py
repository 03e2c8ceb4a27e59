"""Columns of words that go with batch, tokens or size: two designs in one sweep, or the number in other words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.ingest.test_misread import PLAIN, Sheet, Truth, order, truths

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
