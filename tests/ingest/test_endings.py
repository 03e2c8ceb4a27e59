"""Runs that did not come to their end, and rows that are no runs, in whatever words tables have for it."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from tests.ingest.tables import runs
from tests.ingest.test_misread import PLAIN, Columns, Sheet, Truth, order, truths, without

__all__ = ["order"]  # a fixture


def stopped(t: Truth) -> bool:
    return t.at % 5 == 1


def check_left_out(tmp_path: Path, columns: Columns, order: int) -> None:
    """Rows of runs that stopped are listed as not read, the others are read."""
    sheet = Sheet(tmp_path, columns, order)
    found = sheet.read()
    lines = {line for line, truth in enumerate(sheet.rows, start=2) if stopped(truth)}
    assert {each.line for each in found.rejections} == lines
    assert len(runs(found)) == len(sheet.rows) - len(lines)


class TestPlans:
    @pytest.mark.parametrize("done", ["tokens", "tokens_seen", "train_tokens"])
    @pytest.mark.parametrize("plan", ["token_budget", "target_tokens", "max_tokens", "config.planned_tokens"])
    @pytest.mark.parametrize("share", [0.1, 0.7])
    def test_fewer_tokens_than_planned(self, tmp_path: Path, done: str, plan: str, share: float, order: int) -> None:
        columns = {done: lambda t: int(t.tokens * share) if stopped(t) else t.tokens, plan: lambda t: t.tokens}
        check_left_out(tmp_path, {**without("tokens"), **columns}, order)

    @pytest.mark.parametrize("plan", ["token_budget", "max_tokens", "target_tokens"])
    def test_plans_that_were_kept_and_horizons_below_the_longest(self, tmp_path: Path, plan: str, order: int) -> None:
        Sheet(tmp_path, {**PLAIN, plan: lambda t: t.tokens}, order).check()
        longest = max(t.tokens for t in truths(order))
        rows = [t for t in truths(order) if t.params > 2e7]
        Sheet(tmp_path, {**PLAIN, plan: lambda t: longest}, order, rows).check()


@pytest.mark.parametrize("name", ["% done", "done (%)", "percent", "completed", "Trained [%]", "finished (pct)"])
@pytest.mark.parametrize(("whole", "part"), [(100, 10), (1.0, 0.1), ("100%", "47%")])
def test_shares_of_what_was_planned(tmp_path: Path, name: str, whole: Any, part: Any, order: int) -> None:
    check_left_out(tmp_path, {**PLAIN, name: lambda t: part if stopped(t) else whole}, order)
    Sheet(tmp_path, {**PLAIN, name: lambda t: whole}, order).check()


@pytest.mark.parametrize("name", ["done", "Complete", "finished", "stable?", "converged", "ok"])
@pytest.mark.parametrize(("well", "ill"), [("✓", "✗"), ("✓", ""), ("x", ""), ("", "✗"), ("✔", "x"), ("yes", "no")])
def test_marks(tmp_path: Path, name: str, well: str, ill: str, order: int) -> None:
    if (name, well, ill) == ("done", "", "✗"):
        well = "✓"
    check_left_out(tmp_path, {**PLAIN, name: lambda t: ill if stopped(t) else well}, order)


@pytest.mark.parametrize("name", ["crashed", "interrupted"])
@pytest.mark.parametrize("mark", ["✓", "x"])
def test_marks_of_what_went_wrong(tmp_path: Path, name: str, mark: str, order: int) -> None:
    check_left_out(tmp_path, {**PLAIN, name: lambda t: mark if stopped(t) else ""}, order)


@pytest.mark.parametrize(
    "name", ["walltime_limit_hit", "was_cut_short", "excluded?", "ignore run", "timed_out", "broken"]
)
@pytest.mark.parametrize(("ill", "well"), [("yes", "no"), ("x", ""), (1, 0), ("node lost", ""), ("True", "False")])
def test_what_went_wrong_in_longer_names(
    tmp_path: Path, name: str, ill: str | int, well: str | int, order: int
) -> None:
    check_left_out(tmp_path, {**PLAIN, name: lambda t: ill if stopped(t) else well}, order)
    Sheet(tmp_path, {**PLAIN, name: lambda t: well}, order).check()


@pytest.mark.parametrize("name", ["valid_run", "run ok?", "is_good", "Usable"])
@pytest.mark.parametrize(("well", "ill"), [("TRUE", "FALSE"), ("y", "n"), ("1", "0")])
def test_what_went_well_in_longer_names(tmp_path: Path, name: str, well: str, ill: str, order: int) -> None:
    check_left_out(tmp_path, {**PLAIN, name: lambda t: ill if stopped(t) else well}, order)


@pytest.mark.parametrize("name", ["status_code", "exit", "rc"])
def test_codes_of_processes(tmp_path: Path, name: str, order: int) -> None:
    check_left_out(tmp_path, {**PLAIN, name: lambda t: 137 if stopped(t) else 0}, order)


@pytest.mark.parametrize("name", ["predicted_loss", "pred_loss", "extrapolated_loss", "loss_rank", "cumulative_loss"])
def test_losses_that_no_run_ended_with(tmp_path: Path, name: str, order: int) -> None:
    Sheet(tmp_path, {**PLAIN, name: lambda t: t.loss - 0.1}, order).check()
    assert Sheet(tmp_path, {**without("val_loss"), name: lambda t: t.loss}, order).codes() == {"missing_columns"}


@pytest.mark.parametrize("name", ["note", "comment", "result", "outcome"])
@pytest.mark.parametrize("text", ["did not finish", "didn't complete", "never finished, node lost", "preempted at 60%"])
def test_notes_that_a_run_did_not_finish(tmp_path: Path, name: str, text: str, order: int) -> None:
    check_left_out(tmp_path, {**PLAIN, name: lambda t: text if stopped(t) else ""}, order)


@pytest.mark.parametrize("name", ["comment", "remarks", "result", "outcome"])
@pytest.mark.parametrize(
    ("text", "well", "diverged"),
    [
        *(("diverged", "ok", True), ("Diverged at step 400", "", True), ("loss blew up", "fine", True)),
        *(("nearly diverged, recovered", "", False), ("no divergence", "", False), ("not diverged", "ok", False)),
    ],
)
def test_notes_that_a_run_diverged(tmp_path: Path, name: str, text: str, well: str, diverged: bool, order: int) -> None:
    sheet = Sheet(tmp_path, {**PLAIN, name: lambda t: text if stopped(t) else well}, order)
    found = sheet.read()
    assert not found.rejections
    assert found.diverged == diverged * sum(map(stopped, sheet.rows))


@pytest.mark.parametrize("name", ["seed", "config.seed", "random_seed"])
@pytest.mark.parametrize("digits", [3, 5])
@pytest.mark.parametrize("seeds", [2, 3])
def test_means_of_seeds_in_rows_without_one(tmp_path: Path, name: str, digits: int, seeds: int, order: int) -> None:
    rng = random.Random(order)
    rows = [
        dataclasses.replace(t, at=seed, loss=round(t.loss + rng.gauss(0, 0.01), 5))
        for t in truths(order)
        for seed in range(seeds)
    ]
    means = [
        dataclasses.replace(
            t,
            at=-1,
            loss=round(fmean(each.loss for each in rows if each.params == t.params and each.lr == t.lr), digits),
        )
        for t in truths(order)
    ]
    columns = {**PLAIN, name: lambda t: "" if t.at < 0 else t.at}
    found = Sheet(tmp_path, columns, order, rows + means).read()
    assert sorted(run.loss or 0 for run in runs(found)) == sorted(t.loss for t in rows)
    assert {each.reason.split(":")[-1] for each in found.rejections} == {" it is no run"}
    other = [dataclasses.replace(t, loss=t.loss + 0.02) for t in means]
    assert len(Sheet(tmp_path, columns, order, rows + other).check().sweeps) == 1
