"""One made-up sweep, logged by every tracker and trainer, means the same from each."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lawfit.ingest import interpret
from lawfit.ingest.formats import FORMATS
from lawfit.ingest.run_log import RunLogs
from tests.ingest.formats import writers
from tests.ingest.formats.logs import ALL, GOLDEN, WHOLE, column, curves, one_table, rows, tables

LOSS = {name: list(writers.points(peak, end)) for name, peak, _, end in writers.RUNS}
# Printed with three or four digits, or stored as float32.
PRECISION = {"text-log": 6e-4, "tensorboard": 1e-6}
RATE = ("config.learning_rate", "config.lr", "config.optimizer.lr", "config.optimizer.init_args.lr")


@pytest.fixture(autouse=True)
def _pyarrow(request: pytest.FixtureRequest) -> None:
    if "neptune" in str(request.node.callspec.params.values() if hasattr(request.node, "callspec") else ""):
        pytest.importorskip("pyarrow")


def test_every_format_of_runs_has_a_golden_log() -> None:
    formats = {found.name for found in FORMATS if isinstance(found, RunLogs)} - {"tensorboard-unverified"}
    assert formats == set(ALL.values())


@pytest.mark.parametrize("name", ALL)
def test_is_found_in_its_folder(name: str) -> None:
    assert one_table(GOLDEN / name).format == ALL[name]


@pytest.mark.parametrize("name", WHOLE)
class TestTheSweep:
    def test_how_each_run_ended(self, name: str) -> None:
        found = {run: row["status"] for run, row in rows(one_table(GOLDEN / name)).items()}
        assert found == {"low": "finished", "middle": "finished", "too-high": "diverged", "killed": "running"}

    def test_the_final_loss_is_the_last_validation_loss(self, name: str) -> None:
        found = rows(one_table(GOLDEN / name))
        near = PRECISION.get(WHOLE[name], 1e-12)
        for run in ("low", "middle"):
            assert found[run]["final_val_loss"] == pytest.approx(LOSS[run][-1][1]["eval/loss"], abs=near)
            assert found[run]["final_val_step"] == writers.STEPS
        assert not {"final_val_loss", "final_train_loss"} & {*found["too-high"], *found["killed"]}

    def test_the_configured_rate(self, name: str) -> None:
        found = rows(one_table(GOLDEN / name))
        assert {run: column(row, *RATE) for run, row in found.items()} == {run[0]: run[1] for run in writers.RUNS}
        assert not any("peak_lr" in row for row in found.values())

    def test_curves_are_whole_and_on_their_own_steps(self, name: str) -> None:
        table = one_table(GOLDEN / name)
        near = PRECISION.get(WHOLE[name], 1e-12)
        for run, logged in LOSS.items():
            mine = curves(table, run)
            for metric, word in (("train/loss", "train_loss"), ("eval/loss", "validation_loss")):
                wanted = {step: row[metric] for step, row in logged if math.isfinite(row.get(metric, math.nan))}
                steps, numbers = mine[word]
                if run == "killed":  # its log ends where it was killed, and may end before
                    wanted = {step: number for step, number in wanted.items() if step <= steps[-1]}
                    assert steps[-1] > 0.4 * writers.STEPS
                assert list(steps) == list(wanted), (run, metric)
                assert list(numbers) == pytest.approx(list(wanted.values()), abs=near)

    def test_the_logged_schedule_has_the_peak_and_the_warmup(self, name: str) -> None:
        table = one_table(GOLDEN / name)
        if "lr" not in curves(table, "low"):
            assert WHOLE[name] == "text-log", "only some trainers do not print it"
            return
        row = rows(table)["low"]
        assert row["logged_peak_lr"] == pytest.approx(1e-3, rel=1e-6)
        assert row["warmup_steps"] == writers.WARMUP

    def test_what_was_taken_is_said(self, name: str) -> None:
        said = " ".join(one_table(GOLDEN / name).notes)
        assert "final_val_loss is the last number of" in said
        assert "final_train_loss is the mean of" in said


@pytest.mark.parametrize("name", [name for name in WHOLE if not name.startswith("text/")])
def test_is_taken_without_a_word_of_help(name: str) -> None:
    """Settings, units and losses are recognised: the runs that ended are runs, the others are told."""
    found = interpret(one_table(GOLDEN / name))
    (sweep,) = found.sweeps
    assert sorted((run.lr, run.status.value) for run in sweep.runs) == [
        (1e-3, "finished"), (3e-3, "finished"), (1e-1, "diverged"),
    ]  # fmt: skip
    assert {(run.params, run.batch_tokens, run.steps) for run in sweep.runs} == {(1.2e6, 8192, 40)}
    (rejection,) = found.rejections
    assert "running" in rejection.reason
    assert sweep.recipe.seq_len == 128


def test_all_of_them_in_one_tree() -> None:
    found = [(table.format, len(table.rows)) for table in tables(GOLDEN)]
    assert {name for name, _ in found} == set(ALL.values())
    assert sum(count for _, count in found) == 4 + 3 + 4 + 4 + 8 + 4 + 4 + 10 + 4 + 8 + 4 + 16


def test_the_trainer_of_hugging_face() -> None:
    found = rows(one_table(GOLDEN / "huggingface"))
    assert {run: row["status"] for run, row in found.items()} == {
        "low": "finished", "middle": "finished", "killed": "stopped",
    }  # fmt: skip
    low = found["low"]
    assert (low["config.learning_rate"], low["config.weight_decay"], low["config.max_steps"]) == (1e-3, 0.1, 40)
    assert low["config.per_device_train_batch_size"] == 4
    assert low["config.n_params"] == 1_200_000
    steps, numbers = curves(one_table(GOLDEN / "huggingface"), "low")["validation_loss"]
    assert list(steps) == [10, 20, 30, 40]
    assert low["final_val_loss"] == numbers[-1]
    losses = curves(one_table(GOLDEN / "huggingface"), "low")["train_loss"]
    assert len(losses[0]) == 40, "the Trainer's 'train_loss' of the whole run is another number"


def test_settings_of_the_hparams_plugin() -> None:
    found = rows(one_table(GOLDEN / "tensorboard_hparams"))
    assert {run: row["config.learning_rate"] for run, row in found.items()} == {"low": 1e-3, "middle": 3e-3}
    assert found["low"]["config.n_params"] == 1_200_000
    assert found["low"]["config.optimizer"] == "adamw"


@pytest.mark.parametrize("name", ["optuna/study.db", "optuna/journal.log"])
def test_a_study(name: str) -> None:
    table = one_table(GOLDEN / name)
    found = {row["user_attrs.name"]: row for row in rows(table).values() if "user_attrs.name" in row}
    assert {run: (row["config.lr"], row["config.optimizer"], row["status"]) for run, row in found.items()} == {
        "low": (1e-3, "adamw", "finished"), "middle": (3e-3, "adamw", "finished"),
        "too-high": (1e-1, "adamw", "crashed"), "killed": (1e-2, "adamw", "running"),
    }  # fmt: skip
    assert found["low"]["value"] == LOSS["low"][-1][1]["eval/loss"]
    pruned = [row for row in rows(table).values() if row["status"] == "pruned"]
    assert len(pruned) == 4
    assert not any("value" in row for row in pruned)
    (steps,) = [c.steps for c in table.curves if c.run_key == found["low"]["run_id"]]
    assert list(steps) == [10, 20, 30, 40]


@pytest.mark.parametrize("name", ["lightning", "jsonl", "text/nanogpt", "tensorboard", "huggingface"])
def test_ids_do_not_depend_on_where_reading_begins(name: str) -> None:
    def ids(path: Path) -> set[object]:
        return {cells[table.columns.index("run_id")] for table in tables(path) for _, cells in table.rows}

    mine = ids(GOLDEN / name)
    assert len(mine) >= 3
    assert mine <= ids(GOLDEN)
