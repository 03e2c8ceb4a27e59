"""Cells with several losses: of one run, or of several seeds; and tokens that are counted once beside passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.ingest.tables import runs
from tests.ingest.test_misread import PLAIN, Sheet, Truth, order, without

__all__ = ["order"]  # a fixture

STEPS: Final = (0.0, 0.012, -0.007)  # of the losses of three seeds
FORMS: Final[dict[str, Callable[[list[float]], str]]] = {
    "json": str,
    "tuple": lambda each: f"({','.join(map(str, each))})",
    "numpy": lambda each: f"[{' '.join(map(str, each))}]",
    **{
        repr(mark): lambda each, mark=mark: mark.join(map(str, each))  # type: ignore[misc]
        for mark in (";", "; ", " / ", " | ", "|", ", ", " ")
    },
}


def seeds(t: Truth) -> list[float]:
    return [round(t.loss + step * (1 + t.at % 2), 5) for step in STEPS]


class TestLosses:
    @pytest.mark.parametrize("name", ["val_loss", "Final Loss", "eval/loss"])
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("some", [False, True])
    def test_of_seeds_are_asked_about(self, tmp_path: Path, name: str, form: str, some: bool, order: int) -> None:
        def cell(t: Truth) -> Any:
            return t.loss if some and t.at % 3 else FORMS[form](seeds(t))

        sheet = Sheet(tmp_path, {**without("val_loss"), name: cell}, order)
        (asked,) = sheet.asked()
        assert (asked["code"], asked["columns"]) == ("ingest.several_in_cell", [name])
        found = sheet.read(pool=(name,))
        wanted = [loss for t in sheet.rows for loss in ([t.loss] if some and t.at % 3 else seeds(t))]
        assert sorted(run.loss or 0 for run in runs(found)) == pytest.approx(sorted(wanted))
        assert len(found.sweeps) == 1
        assert not any("'seed in" in note or ": seed in" in note for note in found.notes)  # no column of the file
        sheet.check(lambda t: t.loss if some and t.at % 3 else seeds(t)[-1], column_map={name: "loss"})

    @pytest.mark.parametrize("name", ["run_id", "run_name"])
    def test_of_seeds_of_runs_with_names(self, tmp_path: Path, name: str, order: int) -> None:
        columns = {**PLAIN, name: lambda t: f"r{t.at}", "val_loss": lambda t: str(seeds(t))}
        found = Sheet(tmp_path, columns, order).read(pool=("val_loss",))
        assert len(runs(found)) == 36

    @pytest.mark.parametrize("form", FORMS)
    def test_along_a_run_the_last_counts(self, tmp_path: Path, form: str, order: int) -> None:
        for steps in ((3, 1.2, 0.3, 0), (0.03, 0.01, 0)):
            cell = {"val_loss": lambda t, steps=steps: FORMS[form]([round(t.loss + step, 5) for step in steps])}
            found = Sheet(tmp_path, {**PLAIN, **cell}, order).check()
            assert any("last number" in note for note in found.notes)

    @pytest.mark.parametrize("name", ["train_loss", "val_acc", "downstream_error"])
    def test_of_another_column_ask_nothing(self, tmp_path: Path, name: str, order: int) -> None:
        Sheet(tmp_path, {**PLAIN, name: lambda t: str(seeds(t))}, order).check()

    @pytest.mark.parametrize(
        "cell",
        ["3 000", "3 / 5", "3.1 (0.2)", "n/a", "3.1 ± 0.2", "[" * 9000 + "]" * 9000, "9" * 400, "9" * 19_000 + "x"],
    )
    def test_what_is_no_list_stays(self, tmp_path: Path, cell: str, order: int) -> None:
        sheet = Sheet(tmp_path, {**PLAIN, "val_loss": lambda t: cell if t.at == 3 else t.loss}, order)
        assert len(runs(sheet.read())) >= 11


class TestTokensThatAreCountedOnce:
    NAMES: Final = ("unique_tokens", "n_unique_tokens", "tokens (unique)", "Unique tokens", "distinct_tokens")

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("more", [(), ("steps",), ("tokens",)])
    @pytest.mark.parametrize("passes", ["epochs", "num_train_epochs"])
    def test_are_multiplied(self, tmp_path: Path, name: str, more: tuple[str, ...], passes: str, order: int) -> None:
        own = {"steps": lambda t: t.steps, "tokens": lambda t: t.tokens}
        columns = {name: lambda t: t.tokens / 4, passes: lambda t: 4, **{each: own[each] for each in more}}
        Sheet(tmp_path, {**without("tokens"), **columns}, order).check()

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("of", ["steps", "tokens"])
    def test_beside_those_of_one_pass_are_asked_about(self, tmp_path: Path, name: str, of: str, order: int) -> None:
        columns = {name: lambda t: t.tokens, "epochs": lambda t: 4, of: lambda t: getattr(t, of)}
        assert Sheet(tmp_path, {**without("tokens"), **columns}, order).codes() <= {"steps_disagree", "tokens_of_pass"}
