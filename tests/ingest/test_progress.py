"""Runs that stopped on their way, told by steps, passes, shares or tokens beside what was planned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from lawfit.ingest import read_file
from tests.ingest.tables import runs
from tests.ingest.test_endings import check_left_out, stopped
from tests.ingest.test_misread import PLAIN, Sheet, Truth, order, truths, without

__all__ = ["order"]  # a fixture


def done(all_of: Callable[[Truth], float], share: float = 0.4) -> Callable[[Truth], float]:
    return lambda t: int(all_of(t) * share) if stopped(t) else all_of(t)


class TestSteps:
    NAMES: Final = (
        *("last_step", "step", "global_step", "trainer/global_step", "final step", "steps_completed", "iter"),
        *("current_iter", "checkpoint_step", "summary.last_step", "Steps done", "iterations_run"),
    )

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("share", [0.1, 0.9])
    def test_fewer_than_tokens_and_batch_make(self, tmp_path: Path, name: str, share: float, order: int) -> None:
        check_left_out(tmp_path, {**PLAIN, name: done(lambda t: t.steps, share)}, order)

    @pytest.mark.parametrize("name", [*NAMES, "_step"])
    @pytest.mark.parametrize("plan", ["max_steps", "steps", "config.train_iters", "planned_steps"])
    def test_fewer_than_planned(self, tmp_path: Path, name: str, plan: str, order: int) -> None:
        columns = {**without("tokens"), plan: lambda t: t.steps, name: done(lambda t: t.steps)}
        check_left_out(tmp_path, columns, order)

    @pytest.mark.parametrize("name", ["last_step", "global_step", "iter"])
    @pytest.mark.parametrize("seq_len", ["seq_len", "context_length"])
    def test_fewer_than_sequences_make(self, tmp_path: Path, name: str, seq_len: str, order: int) -> None:
        columns = {
            "batch_sequences": lambda t: t.batch // t.seq_len,
            seq_len: lambda t: t.seq_len,
            name: done(lambda t: t.steps),
        }
        check_left_out(tmp_path, {**without("batch_tokens"), **columns}, order)

    @pytest.mark.parametrize("every", [1, 10, 100, 250])
    @pytest.mark.parametrize("first", [0, 1])
    def test_last_ones_that_were_logged_are_of_runs_that_ended(
        self, tmp_path: Path, every: int, first: int, order: int
    ) -> None:
        columns = {"last_step": lambda t: (t.steps - first) // every * every, "steps": lambda t: t.steps}
        Sheet(tmp_path, {**without("tokens"), **columns}, order).check()

    @pytest.mark.parametrize("name", ["warmup_steps", "save_steps", "eval_steps", "logging_steps", "best_step"])
    def test_other_steps_say_nothing(self, tmp_path: Path, name: str, order: int) -> None:
        Sheet(tmp_path, {**PLAIN, "steps": lambda t: t.steps, name: lambda t: 500}, order).check()

    def test_that_a_person_says_mean_nothing(self, tmp_path: Path, order: int) -> None:
        columns = {**PLAIN, "last_step": done(lambda t: t.steps)}
        Sheet(tmp_path, columns, order).check(column_map={"last_step": "extra"})


@pytest.mark.parametrize("name", ["steps_remaining", "tokens left", "remaining_steps", "epochs left"])
def test_with_a_rest_to_do(tmp_path: Path, name: str, order: int) -> None:
    check_left_out(tmp_path, {**PLAIN, name: lambda t: 300 if stopped(t) else 0}, order)
    Sheet(tmp_path, {**PLAIN, name: lambda t: 0}, order).check()


@pytest.mark.parametrize("name", ["stopped at step", "crashed_at_iter", "failed at step"])
def test_where_some_stopped(tmp_path: Path, name: str, order: int) -> None:
    check_left_out(tmp_path, {**PLAIN, name: lambda t: t.steps // 2 if stopped(t) else ""}, order)
    Sheet(tmp_path, {**PLAIN, name: lambda t: t.steps}, order).check()


@pytest.mark.parametrize("name", ["end_time", "Finished at", "datetime_complete", "ended"])
def test_without_an_end(tmp_path: Path, name: str, order: int) -> None:
    check_left_out(tmp_path, {**PLAIN, name: lambda t: "" if stopped(t) else f"2026-01-02 10:{t.at:02d}"}, order)
    Sheet(tmp_path, {**PLAIN, name: lambda t: ""}, order).check()


class TestPasses:
    @pytest.mark.parametrize("name", ["epoch", "last_epoch", "epochs_done", "train/epoch", "current_epoch"])
    @pytest.mark.parametrize("plan", ["epochs", "num_train_epochs", "max_epochs", "config.epochs"])
    @pytest.mark.parametrize("planned", [1, 3])
    def test_fewer_than_planned(self, tmp_path: Path, name: str, plan: str, planned: int, order: int) -> None:
        columns = {"total_tokens": PLAIN["tokens"], plan: lambda t: planned}
        columns[name] = lambda t: 0.4 * planned if stopped(t) else planned - 2e-4 * (t.at % 2)
        check_left_out(tmp_path, {**without("tokens"), **columns}, order)

    @pytest.mark.parametrize("first", [0, 1])
    def test_counted_from_zero_or_one(self, tmp_path: Path, first: int, order: int) -> None:
        columns = {"total_tokens": PLAIN["tokens"], "max_epochs": lambda t: 4}
        columns["epoch"] = lambda t: (1 if stopped(t) else 3) + first
        check_left_out(tmp_path, {**without("tokens"), **columns}, order)

    @pytest.mark.parametrize("name", ["epoch", "final_epoch", "epochs_completed"])
    @pytest.mark.parametrize("whole", [1, 0.9998, 2])
    def test_a_part_of_one_without_a_plan(self, tmp_path: Path, name: str, whole: float, order: int) -> None:
        columns = {"total_tokens": PLAIN["tokens"], name: lambda t: 0.37 if stopped(t) else whole}
        check_left_out(tmp_path, {**without("tokens"), **columns}, order)

    def test_that_go_with_the_tokens_say_nothing(self, tmp_path: Path, order: int) -> None:
        Sheet(tmp_path, {**PLAIN, "epoch": lambda t: round(t.tokens / 3_000_000_000, 4)}, order).check()

    def test_counted_from_zero_none_is_a_part(self, tmp_path: Path, order: int) -> None:
        columns = {"total_tokens": PLAIN["tokens"], "epoch": lambda t: (0, 1, 1, 2)[t.at % 4]}
        sheet = Sheet(tmp_path, {**without("tokens"), **columns}, order)
        sheet.check(column_map={"total_tokens": "tokens"})

    def test_whole_ones_are_asked_about(self, tmp_path: Path, order: int) -> None:
        columns = {"total_tokens": PLAIN["tokens"], "epoch": lambda t: 1 if stopped(t) else 3}
        sheet = Sheet(tmp_path, {**without("tokens"), **columns}, order)
        assert sheet.codes() == {"unfinished_or_setting"}
        (sweep,) = sheet.read(only={"epoch": "3"}).sweeps
        assert len(sweep.runs) == sum(not stopped(t) for t in sheet.rows)
        sheet.check(column_map={"epoch": "extra"})

    @pytest.mark.parametrize("name", ["epoch", "epochs"])
    def test_of_more_than_one_pass_the_tokens_are_asked_about(self, tmp_path: Path, name: str, order: int) -> None:
        assert Sheet(tmp_path, {**PLAIN, name: lambda t: 3}, order).codes() == {"tokens_of_pass"}
        Sheet(tmp_path, {**PLAIN, name: lambda t: 1}, order).check()


class TestBesideSeeds:
    """Runs of equal settings differ in what says that some of them stopped: that is asked about as no setting."""

    @staticmethod
    def rows(seed: int) -> list[Truth]:
        return truths(seed) + [dataclasses.replace(t, at=t.at + 12, loss=t.loss + 0.001) for t in truths(seed)]

    @pytest.mark.parametrize(
        ("name", "ill", "well"),
        [
            *(("progress", 0.37, 1), ("pct_done", "37%", "100%"), ("steps_left", 300, 0), ("last_epoch", 0.4, 1)),
            *(("exit_code", 137, 0), ("crashed", "yes", "no"), ("was_cut_short", True, False), ("converged", 0, 1)),
            *(("valid_run", "n", "y"), ("walltime_limit_hit", 1, 0), ("last_step", 20, "")),
        ],
    )
    @pytest.mark.parametrize("yes", [False, True])
    def test_what_stopped_is_left_out(
        self, tmp_path: Path, name: str, ill: object, well: object, yes: bool, order: int
    ) -> None:
        columns = {**PLAIN, "steps": lambda t: t.steps, "seed": lambda t: t.at // 12}
        columns[name] = lambda t: ill if stopped(t) else well
        if name == "last_step":
            columns[name] = lambda t: ill if stopped(t) else t.steps
        sheet = Sheet(tmp_path, columns, order, self.rows(order))
        found = sheet.read(yes=yes)
        assert {each.line for each in found.rejections} == {
            line for line, truth in enumerate(sheet.rows, start=2) if stopped(truth)
        }
        assert len(found.sweeps) == 1
        for option in ({"split": (name,)}, {"pool": (name,)}, {"column_map": {name: "extra"}}):
            sheet.check(**option)

    def test_another_column_is_still_asked_about(self, tmp_path: Path, order: int) -> None:
        columns = {**PLAIN, "progress": lambda t: 0.3 if stopped(t) else 1, "gate": lambda t: "ab"[t.at >= 12]}
        (asked,) = Sheet(tmp_path, columns, order, self.rows(order)).asked()
        assert asked["columns"] == ["gate"]

    @pytest.mark.parametrize("name", ["fraction", "config.frac"])
    def test_what_may_be_either_is_asked_about_once(self, tmp_path: Path, name: str, order: int) -> None:
        columns = {**PLAIN, "seed": lambda t: t.at // 12, name: lambda t: 0.37 if stopped(t) else 1}
        sheet = Sheet(tmp_path, columns, order, self.rows(order))
        assert [each["code"] for each in sheet.asked()] == ["ingest.unfinished_or_setting"]
        assert len(sheet.check(split=(name,)).sweeps) == 2

    @pytest.mark.parametrize("name", ["training_fraction", "schedule_share", "converged", "progress"])
    def test_levels_that_go_across_all_settings_are_a_setting(self, tmp_path: Path, name: str, order: int) -> None:
        columns = {**PLAIN, name: lambda t: t.at // 12}
        sheet = Sheet(tmp_path, columns, order, self.rows(order))
        assert sheet.codes() == {"settings_or_seeds"}
        assert len(sheet.check(split=(name,)).sweeps) == 2
        assert len(sheet.check(pool=(name,)).sweeps) == 1
        assert len(sheet.read(only={name: "0"}).rejections) == 0


@pytest.mark.parametrize("name", ["left_context_tokens", "tokens_left_of_mask"])
def test_tokens_on_the_left_are_none_to_do(tmp_path: Path, name: str, order: int) -> None:
    Sheet(tmp_path, {**PLAIN, name: lambda t: 64 if stopped(t) else 0}, order).check()


class TestShares:
    NAMES: Final = (
        *("progress", "pct_done", "frac_done", "done_fraction", "train/progress", "% of schedule", "percent complete"),
        *("Completion", "completed (%)", "fraction_of_run_completed"),
    )

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize(
        ("whole", "part"),
        [(1, 0.37), (0.9997, 0.37), (100, 37), ("99.9%", "37%"), ("5000/5000", "2000/5000"), ("5 of 5", "1 of 5")],
    )
    def test_of_what_was_planned(self, tmp_path: Path, name: str, whole: Any, part: Any, order: int) -> None:
        check_left_out(tmp_path, {**PLAIN, name: lambda t: part if stopped(t) else whole}, order)
        Sheet(tmp_path, {**PLAIN, name: lambda t: whole}, order).check()

    @pytest.mark.parametrize("name", ["progress", "frac_done", "pct_complete"])
    def test_of_which_none_is_whole(self, tmp_path: Path, name: str, order: int) -> None:
        found = Sheet(tmp_path, {**PLAIN, name: lambda t: 0.2 + 0.05 * t.at}, order).read()
        assert len(found.rejections) == 12

    @pytest.mark.parametrize("name", ["frac", "fraction", "share", "config.frac"])
    @pytest.mark.parametrize(("whole", "part"), [(1.0, 0.37), (100, 37), ("100%", "37%")])
    def test_of_nobody_knows_what_are_asked_about(
        self, tmp_path: Path, name: str, whole: Any, part: Any, order: int
    ) -> None:
        sheet = Sheet(tmp_path, {**PLAIN, name: lambda t: part if stopped(t) else whole}, order)
        (asked,) = sheet.asked()
        assert (asked["code"], asked["columns"]) == ("ingest.unfinished_or_setting", [name])
        assert len(sheet.read(only={name: str(whole)}).sweeps) == 1
        assert len(sheet.check(split=(name,)).sweeps) == 2
        sheet.check(column_map={name: "extra"})
        assert runs(sheet.read(yes=True)) == runs(sheet.read(only={name: str(whole)}))

    @pytest.mark.parametrize("name", ["training_fraction", "budget_share", "schedule_frac", "plan_ratio"])
    def test_of_plans_that_few_have_all_of_say_nothing(self, tmp_path: Path, name: str, order: int) -> None:
        Sheet(tmp_path, {**PLAIN, name: lambda t: (0.25, 0.5, 0.75, 1)[t.at % 4]}, order).check()

    @pytest.mark.parametrize("name", ["warmup_frac", "decay_fraction", "active_fraction", "train_frac", "mlp_ratio"])
    @pytest.mark.parametrize("share", [1, 0.1])
    def test_of_other_things_say_nothing(self, tmp_path: Path, name: str, share: float, order: int) -> None:
        Sheet(tmp_path, {**PLAIN, name: lambda t: share}, order).check()


@pytest.mark.parametrize(("plan", "in_plan"), [("tokens (B)", 1e9), ("tokens [M]", 1e6), ("D (B)", 1e9)])
@pytest.mark.parametrize(
    ("seen", "in_seen"),
    [("tokens_seen", 1), ("tokens seen (B)", 1e9), ("consumed_tokens [M]", 1e6), ("trained tokens (B)", 1e9)],
)
def test_tokens_in_units(tmp_path: Path, plan: str, in_plan: float, seen: str, in_seen: float, order: int) -> None:
    columns = {plan: lambda t: t.tokens / in_plan, seen: lambda t: t.tokens * (0.4 if stopped(t) else 1) / in_seen}
    check_left_out(tmp_path, {**without("tokens"), **columns}, order)


@pytest.mark.parametrize("name", ["tokens_seen", "consumed tokens"])
def test_tokens_that_are_texts(tmp_path: Path, name: str, order: int) -> None:
    columns = {name: lambda t: f"{t.tokens * (0.4 if stopped(t) else 1) / 1e6:.1f}M"}
    check_left_out(tmp_path, {**PLAIN, **columns}, order)


class TestMultiplesOfTheSize:
    @pytest.mark.parametrize("name", ["tokens (×20N)", "tokens [x20 N]", "D (20×N)", "train tokens (x 20 params)"])
    @pytest.mark.parametrize("yes", [False, True])
    def test_are_multiplied(self, tmp_path: Path, name: str, yes: bool, order: int) -> None:
        rows = [dataclasses.replace(t, tokens=20 * t.params * (1 + t.at % 4)) for t in truths(order)]
        columns = {**without("tokens"), name: lambda t: t.tokens / t.params / 20}
        Sheet(tmp_path, columns, order, rows).check(yes=yes)

    @pytest.mark.parametrize("name", ["tokens (x Chinchilla)", "tokens (Chinchilla)", "tokens (20N)", "D (×optimal)"])
    @pytest.mark.parametrize("yes", [False, True])
    def test_of_what_they_do_not_say_are_asked_about(self, tmp_path: Path, name: str, yes: bool, order: int) -> None:
        columns = {**without("tokens"), name: lambda t: 1 + t.at % 4}
        assert Sheet(tmp_path, columns, order).codes(yes=yes) <= {"odd_sizes", "missing_columns"}

    @pytest.mark.parametrize("name", ["tokens (20N)", "tokens (Chinchilla)", "D (=20N)"])
    def test_counts_are_read_as_they_are(self, tmp_path: Path, name: str, order: int) -> None:
        Sheet(tmp_path, {**without("tokens"), name: lambda t: t.tokens}, order).check()


@pytest.mark.parametrize("column", ["last_step", "reached_step"])
def test_a_column_that_rows_were_left_out_for_was_read(tmp_path: Path, column: str) -> None:
    rows = [
        f"{n},131072000,{lr},65536,{3.5 - n / 1e9 + lr},{2000 if lr < 3e-3 else 900},2000,x"
        for n in (10**7, 3 * 10**7, 10**8)
        for lr in (3e-4, 1e-3, 2e-3, 4e-3)
    ]
    path = tmp_path / "t.csv"
    path.write_text("\n".join([f"params,tokens,lr,batch_tokens,loss,{column},steps,remark", *rows]), encoding="utf-8")
    found = read_file(path)
    assert {rejection.column for rejection in found.rejections} == {column}
    unread = [note for note in found.notes if note.startswith("columns that nothing was read from")]
    assert unread == ["columns that nothing was read from: remark"]
