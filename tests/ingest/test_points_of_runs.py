"""Points on the way of runs, stored once as runs of their own: asked about under any name, and sweeps are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.ingest.tables import runs
from tests.ingest.test_misread import PLAIN, Sheet, Truth, order, truths

__all__ = ["order"]  # a fixture

EVEN: Final = (1, 2, 3, 4)
DOUBLED: Final = (1, 2, 4)


def on_the_way(seed: int, parts: tuple[int, ...]) -> list[Truth]:
    """Each run of a sweep at several token counts, the loss falling."""
    return [
        Truth(t.at, t.params, t.tokens // parts[-1] // t.batch * t.batch * part, t.lr, t.loss + 0.3 / part, t.train)
        for t in truths(seed)
        for part in parts
    ]


def name(t: Truth) -> str:
    return f"{t.params // 1_000_000}M-{t.lr:g}"


class TestUnderANameOfRuns:
    @pytest.mark.parametrize("column", ["exp", "exp_id", "Job", "experiment", "checkpoint_of"])
    @pytest.mark.parametrize("parts", [EVEN, DOUBLED, (1, 3)])
    @pytest.mark.parametrize("cell", [name, lambda t: "abcdefghijkl"[t.at]], ids=["settings", "letters"])
    def test_points_are_asked_about(
        self, tmp_path: Path, column: str, parts: tuple[int, ...], cell: Callable[[Truth], Any], order: int
    ) -> None:
        rows = on_the_way(order, parts)
        sheet = Sheet(tmp_path, {**PLAIN, column: cell}, order, rows)
        (asked,) = sheet.asked()
        assert (asked["code"], asked["columns"]) == ("ingest.points_or_runs", [column])
        last = {t.at: t.loss for t in rows}
        found = runs(sheet.read(column_map={column: "run_id"}))
        assert sorted(run.loss or 0 for run in found) == pytest.approx(sorted(last.values()))
        assert len(runs(sheet.read(column_map={column: "extra"}))) == len(rows)

    @pytest.mark.parametrize("column", ["arm", "setting", "model", "model_name"])
    def test_of_any_name_where_tokens_grow_evenly(self, tmp_path: Path, column: str, order: int) -> None:
        sheet = Sheet(tmp_path, {**PLAIN, column: name}, order, on_the_way(order, (1, 2, 3)))
        assert sheet.codes() == {"points_or_runs"}
        Sheet(tmp_path, {**PLAIN, column: name}, order, on_the_way(order, DOUBLED)).check()

    @pytest.mark.parametrize("column", ["exp", "setting"])
    def test_one_row_a_name_is_a_run(self, tmp_path: Path, column: str, order: int) -> None:
        Sheet(tmp_path, {**PLAIN, column: name}, order).check()

    @pytest.mark.parametrize("column", ["exp", "arm", "size"])
    @pytest.mark.parametrize("parts", [(1, 2, 3), DOUBLED])
    def test_a_name_for_each_size_is_no_run(
        self, tmp_path: Path, column: str, parts: tuple[int, ...], order: int
    ) -> None:
        rows = [t for t in on_the_way(order, parts) if t.lr == 0.002]
        cell = {column: lambda t: f"{t.params // 1_000_000}M"}
        Sheet(tmp_path, {**PLAIN, **cell}, order, rows).check()


class TestWithoutANameOfRuns:
    @pytest.mark.parametrize("parts", [EVEN, (1, 2, 3, 4, 5, 6)])
    def test_equal_steps_are_asked_about(self, tmp_path: Path, parts: tuple[int, ...], order: int) -> None:
        sheet = Sheet(tmp_path, PLAIN, order, on_the_way(order, parts))
        assert sheet.codes() == {"unnamed_points"}
        sheet.check(column_map={"tokens": "tokens"})

    @pytest.mark.parametrize("parts", [DOUBLED, (1, 2, 4, 8), (1, 3), (1, 2, 3), (2, 5, 10, 20)])
    def test_sweeps_over_horizons_are_not(self, tmp_path: Path, parts: tuple[int, ...], order: int) -> None:
        Sheet(tmp_path, PLAIN, order, on_the_way(order, parts)).check()

    @pytest.mark.parametrize(
        ("column", "cell"),
        [
            ("exp", lambda t: f"e{t.params}-{t.lr:g}-{t.tokens}"),
            ("tokens_per_param", lambda t: t.tokens / t.params),
        ],
    )
    def test_nor_are_sweeps_over_horizons_in_equal_steps_that_are_told(
        self, tmp_path: Path, column: str, cell: Callable[[Truth], Any], order: int
    ) -> None:
        Sheet(tmp_path, {**PLAIN, column: cell}, order, on_the_way(order, EVEN)).check()

    def test_nor_is_a_schedule_that_names_a_step(self, tmp_path: Path, order: int) -> None:
        columns = {**PLAIN, "remark": lambda t: "cosine, warmup step 2000"}
        Sheet(tmp_path, columns, order, on_the_way(order, DOUBLED)).check()

    @pytest.mark.parametrize("column", ["checkpoint", "revision", "branch"])
    @pytest.mark.parametrize("form", ["{name}/step{step}", "step-{step}", "{name}_ckpt{step}"])
    def test_checkpoints_that_say_their_step(self, tmp_path: Path, column: str, form: str, order: int) -> None:
        cell = {column: lambda t: form.format(name=name(t), step=t.steps)}
        assert Sheet(tmp_path, {**PLAIN, **cell}, order, on_the_way(order, DOUBLED)).codes() == {"unnamed_points"}
