"""Rows in two units in one column are asked about, and sizes, batches, rates and losses that only lie apart are not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.ingest.tables import runs
from tests.ingest.test_misread import PLAIN, Sheet, Truth, order, truths, without

__all__ = ["order"]  # a fixture

SOME: Final[dict[str, Callable[[Truth], bool]]] = {
    "here and there": lambda t: t.at % 3 == 1,
    "the largest": lambda t: t.params > 1e8,
    "most": lambda t: t.at % 5 != 0,
}


def only_some(some: str, name: str, changed: Callable[[Truth], float]) -> dict[str, Callable[[Truth], float]]:
    return {name: lambda t: changed(t) if SOME[some](t) else PLAIN[name](t)}


def check_asked(tmp_path: Path, columns: dict[str, Callable[[Truth], float]], order: int) -> None:
    """As it is asked about, or each row that is odd is left out and the others are read."""
    sheet = Sheet(tmp_path, {**PLAIN, **columns}, order)
    assert {tuple(question["columns"]) for question in sheet.asked()} == {(name,) for name in columns}
    assert sheet.codes() == {"mixed_units"}
    sheet.read(units=dict.fromkeys(columns, "1"))


class TestAsked:
    @pytest.mark.parametrize("some", ["here and there", "the largest"])
    @pytest.mark.parametrize("name", ["params", "tokens"])
    @pytest.mark.parametrize("digits", [2, 6])
    def test_sizes_in_thousands(self, tmp_path: Path, name: str, some: str, digits: int, order: int) -> None:
        changed = only_some(some, name, lambda t: round(PLAIN[name](t) / 1e3, digits))
        check_asked(tmp_path, changed, order)

    def test_the_answer_keeps_the_unit_of_the_header(self, tmp_path: Path, order: int) -> None:
        columns = {"params (M)": lambda t: t.params / (1e9 if t.at % 3 == 1 else 1e6)}
        sheet = Sheet(tmp_path, {**without("params"), **columns}, order)
        (asked,) = sheet.asked()
        ((answer,),) = asked["choices"]
        assert (answer["option"], answer["value"]) == ("unit", "params (M)=M")
        found = sheet.read(units={"params (M)": "M"})
        assert max(run.params for run in runs(found)) == pytest.approx(max(t.params for t in sheet.rows), rel=1e-6)

    @pytest.mark.parametrize("name", ["params", "tokens"])
    @pytest.mark.parametrize("unit", [1e6, 1e9])
    def test_sizes_in_millions_and_billions_are_asked_about_or_left_out(
        self, tmp_path: Path, name: str, unit: float, order: int
    ) -> None:
        sheet = Sheet(tmp_path, {**PLAIN, **only_some("here and there", name, lambda t: PLAIN[name](t) / unit)}, order)
        assert {each.line for each in sheet.read().rejections} == {
            line for line, t in enumerate(sheet.rows, start=2) if t.at % 3 == 1
        }
        sheet = Sheet(tmp_path, {**PLAIN, **only_some("most", name, lambda t: PLAIN[name](t) / unit)}, order)
        assert sheet.codes() <= {"odd_sizes", "odd_batch", "mixed_units"}

    @pytest.mark.parametrize("unit", [1e3, 1e6])
    def test_both_sizes_and_the_batch(self, tmp_path: Path, unit: float, order: int) -> None:
        columns: dict[str, Callable[[Truth], float]] = {}
        for name in ("params", "tokens", "batch_tokens"):
            columns |= only_some("here and there", name, lambda t, of=name: PLAIN[of](t) / unit)  # type: ignore[misc]
        sheet = Sheet(tmp_path, {**PLAIN, **columns}, order)
        assert {name for question in sheet.asked() for name in question["columns"]} >= {"params", "tokens"}

    @pytest.mark.parametrize("some", SOME)
    @pytest.mark.parametrize("factor", [1e3, 1e4])
    @pytest.mark.parametrize("rate", [1.0, 0.1])
    def test_rates(self, tmp_path: Path, some: str, factor: float, rate: float, order: int) -> None:
        check_asked(tmp_path, {"lr": lambda t: t.lr * rate * (factor if SOME[some](t) else 1)}, order)

    @pytest.mark.parametrize("some", ["here and there", "the largest"])
    @pytest.mark.parametrize("unit", [1000, 1024, 2048, 512])
    def test_batches(self, tmp_path: Path, some: str, unit: float, order: int) -> None:
        check_asked(tmp_path, only_some(some, "batch_tokens", lambda t: t.batch * (1 + t.at % 2) / unit), order)

    @pytest.mark.parametrize("some", ["here and there", "the largest"])
    def test_perplexities(self, tmp_path: Path, some: str, order: int) -> None:
        check_asked(tmp_path, only_some(some, "val_loss", lambda t: math.exp(t.loss)), order)


class TestNotAsked:
    @pytest.mark.parametrize("tokens_each", [2, 20, 100])
    def test_sizes_far_apart(self, tmp_path: Path, tokens_each: int, order: int) -> None:
        def times(t: Truth) -> int:
            return int(40 ** (t.at // 4))

        rows = [
            dataclasses.replace(
                t, params=t.params * 40 ** (t.at // 4), tokens=t.params * 40 ** (t.at // 4) * tokens_each
            )
            for t in truths(order)
        ]
        Sheet(tmp_path, PLAIN, order, rows).check()

    def test_one_horizon_for_all_sizes(self, tmp_path: Path, order: int) -> None:
        rows = [
            dataclasses.replace(t, params=1_200_000 * 10 ** (t.at // 4), tokens=20_000_000_000) for t in truths(order)
        ]
        Sheet(tmp_path, PLAIN, order, rows).check()

    def test_horizons_of_one_size(self, tmp_path: Path, order: int) -> None:
        rows = [dataclasses.replace(t, tokens=t.params * 2 * 12 ** (t.at // 4)) for t in truths(order)]
        Sheet(tmp_path, PLAIN, order, rows).check()

    @pytest.mark.parametrize("step", [2, 4, 16])
    def test_batches(self, tmp_path: Path, step: int, order: int) -> None:
        rows = [dataclasses.replace(t, batch=8_192 * step ** (t.at % 3)) for t in truths(order)]
        Sheet(tmp_path, PLAIN, order, rows).check()

    @pytest.mark.parametrize("step", [2, 10, 30])
    def test_rates(self, tmp_path: Path, step: int, order: int) -> None:
        rows = [dataclasses.replace(t, lr=3e-5 * step ** (t.at % 3)) for t in truths(order)]
        Sheet(tmp_path, PLAIN, order, rows).check()

    @pytest.mark.parametrize("lowest", [1e-6, 1e-5])
    def test_a_coarse_grid_of_rates(self, tmp_path: Path, lowest: float, order: int) -> None:
        rows = [dataclasses.replace(t, lr=lowest * 100 ** (t.at % 3)) for t in truths(order)]
        Sheet(tmp_path, PLAIN, order, rows).check()

    @pytest.mark.parametrize("name", ["optimizer", "parametrization"])
    def test_rates_of_two_kinds(self, tmp_path: Path, name: str, order: int) -> None:
        rows = [dataclasses.replace(t, lr=t.lr * (100 if t.at % 2 else 0.1)) for t in truths(order)]
        kinds = {"optimizer": ("adamw", "sgd"), "parametrization": ("standard", "mup")}[name]
        Sheet(tmp_path, {**PLAIN, name: lambda t: kinds[t.at % 2]}, order, rows).check()

    @pytest.mark.parametrize("loss", [7.5, 9.2, 11.0])
    def test_losses_of_runs_that_blew_up(self, tmp_path: Path, loss: float, order: int) -> None:
        """At the largest rate that is the highest two of the largest size."""
        rows = [
            dataclasses.replace(t, loss=loss + t.lr if t.lr >= (0.004 if t.params > 1e8 else 0.008) else t.loss)
            for t in truths(order)
        ]
        Sheet(tmp_path, PLAIN, order, rows).check()
